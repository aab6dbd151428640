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
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_two_processes_exchange_through_cffi(library_path, tmp_path):
    listener = start(library_path, tmp_path / "listener")
    addresses = listener.stdout.readline()
    dialler = start(library_path, tmp_path / "dialler", addresses)
    for process in (dialler, listener):
        _, complaint = process.communicate(timeout=SECONDS)
        assert (process.returncode, complaint) == (0, "")
