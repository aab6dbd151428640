"""Two processes exchange a message through cffi in ABI mode, with no binding of ours."""

import os
import subprocess
import sys

from harness import ROOT

PEER = ROOT / "tests" / "ffi" / "programs" / "cffi_peer.py"
SECONDS = 60


def start(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    command = [sys.executable, "-W", "error", str(PEER), *map(str, arguments)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, text=True, env=environment, **pipes)


def test_two_processes_exchange_through_cffi(library_path, tmp_path):
    dialler = start(library_path, tmp_path / "dialler", "dial")
    assert dialler.stdout.readline(), dialler.communicate()
    listener = start(library_path, tmp_path / "listener", "listen")  # its wait does not include the dialler's start
    dialler.stdin.write(listener.stdout.readline())
    dialler.stdin.flush()
    for process in (dialler, listener):
        _, complaint = process.communicate(timeout=SECONDS)
        assert (process.returncode, complaint) == (0, "")
