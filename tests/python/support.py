"""What tests of the Python package share with the programs they start."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "bindings" / "python"
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join([str(PACKAGE), str(Path(__file__).parent)])}

DEADLINE_S = 30.0
PROGRAM_S = 60.0

LOCAL = {
    "ips": ["127.0.0.1"],
    "nat": {"port_mapping": False, "hole_punching": False, "autonat": False},
    "dht": {"enabled": False},
    "webrtc": {"enabled": False},
}
"""Arguments of a node that listens on loopback only and reaches out to nobody."""

LOCAL_P2P = {"ips": ["127.0.0.1"], "nat": LOCAL["nat"], "dht_enabled": False, "webrtc_enabled": False}
"""The same for the class P2P."""


def run(coroutine):
    """Runs a test's coroutine, with a deadline."""

    async def bounded():
        return await asyncio.wait_for(coroutine, DEADLINE_S)

    return asyncio.run(bounded())


def start_python(program, *arguments, **options):
    """Starts a Python program, given as text, that can import peerbus and this module."""
    command = [sys.executable, "-W", "error", "-X", "faulthandler", "-c", program, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def finish(process):
    """Waits for the end of a program; returns its output. Fails the test when it failed."""
    try:
        out, err = process.communicate(timeout=PROGRAM_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # faulthandler prints where every thread is
        out, err = process.communicate()
        raise AssertionError(f"the program hangs\n{out}\n{err}") from None
    assert process.returncode == 0, f"exit status {process.returncode}\n{out}\n{err}"
    assert err == "", err
    return out


def run_python(program, *arguments, **options):
    """Runs a Python program to its end; returns what it printed."""
    return finish(start_python(program, *arguments, **options))
