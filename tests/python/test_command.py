"""python -m peerbus: the frame that every command shares."""

import json
import os
import subprocess
import sys

import pytest
from support import PROGRAM_S

import peerbus
from peerbus import __main__, _command


@pytest.fixture
def shell(environment):
    """Runs a command as a shell does; returns status, stdout and stderr."""

    def run(*arguments, **variables):
        command = [sys.executable, "-W", "error", "-m", "peerbus", *map(str, arguments)]
        env = {**os.environ, **variables}
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_S, env=env)
        return done.returncode, done.stdout, done.stderr

    return run


def test_version_names_the_library(shell, library_path):
    status, out, err = shell("version")
    assert (status, err) == (0, "")
    assert out.startswith(f"peerbus {peerbus.version()},") and str(library_path) in out


def test_json_is_one_object(shell, library_path):
    status, out, _ = shell("version", "--json")
    assert status == 0
    assert json.loads(out) == {"version": peerbus.version(), "abi": 1, "library": str(library_path)}


@pytest.mark.parametrize("arguments", [[], ["fly"], ["version", "--wings"]])
def test_wrong_usage_is_status_2_and_says_how(shell, arguments):
    status, out, err = shell(*arguments)
    assert (status, out) == (2, "") and "usage: python -m peerbus" in err


def test_help_lists_every_command_and_the_statuses(shell):
    status, out, _ = shell("--help")
    assert status == 0 and all(name in out for name in __main__.COMMANDS)
    assert "Exit status" in out


def test_a_failure_is_status_3_and_a_line(shell):
    status, out, err = shell("version", PEERBUS_LIBRARY="/nowhere/libpeerbus.so")
    assert (status, out) == (3, "")
    assert err.startswith("peerbus: ") and "/nowhere/libpeerbus.so" in err and err.count("\n") == 1


def test_a_failure_with_json_carries_its_code(shell):
    status, out, err = shell("version", "--json", PEERBUS_LIBRARY="/nowhere/libpeerbus.so")
    assert status == 3 and json.loads(out)["error"]["code"] == "LIBRARY" and err


def test_wrong_values_count_as_usage(capsys):
    def refuse(_arguments):
        raise peerbus.InvalidConfigError("no such key")

    arguments = __main__.parser().parse_args(["version"])
    arguments.run = refuse
    assert _command.guard(arguments) == 2
    assert capsys.readouterr().err == "peerbus: no such key\n"


def test_a_reader_that_has_gone_is_no_traceback(environment):
    program = f"{sys.executable} -W error -m peerbus version | true; echo status ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=PROGRAM_S)
    assert "Traceback" not in done.stderr and done.stdout.startswith("status ")
