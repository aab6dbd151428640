"""C99 programs, linked against the shared library and against the archive."""

import json
import subprocess

import pytest
from harness import ROOT, compile_program, made_up_peer_id

SOURCES = ROOT / "tests" / "c"
RUN_SECONDS = 60


@pytest.fixture(scope="session", params=["shared", "archive"])
def linked(request):
    return request.getfixturevalue("library_path" if request.param == "shared" else "archive_path")


@pytest.fixture(scope="session")
def program(linked, tmp_path_factory):
    directory = tmp_path_factory.mktemp(linked.suffix.strip("."))

    def build(name):
        output = directory / name
        return output if output.exists() else compile_program([SOURCES / f"{name}.c"], output, standard="c99", library=linked)

    return build


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=RUN_SECONDS)


def test_hello_receives_its_message(program, tmp_path):
    done = run(program("hello"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" says hello, bob\n") and done.stderr == ""


def test_demo_exchanges_all_texts_between_two_processes(program, tmp_path):
    done = run(program("demo_text"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["result"] + ["ok"] * 5


def test_demo_fails_when_nobody_listens(program, tmp_path):
    nobody = f'["/ip4/127.0.0.1/tcp/1/p2p/{made_up_peer_id(7)}"]'
    done = run(program("demo_text"), tmp_path, "dial", nobody)
    assert done.returncode == 1 and "ConnectTo" in done.stderr


def test_binary_pop_has_the_documented_layout(program, tmp_path):
    done = run(program("pop_binary"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_webrtc_data_channel_is_opened_listed_and_closed(program, tmp_path):
    done = run(program("webrtc"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    updated, opened, listed, closed, none = (json.loads(line) for line in done.stdout.splitlines())
    assert all(answer["state"] == "Success" for answer in (updated, opened, closed)), done.stdout
    session = opened["message"]
    assert (session["kind"], session["state"], session["offered"]) == ("session", "open", True)
    assert session["path"]["local"]["type"] == "host"
    assert listed["message"] == [{"peer_id": session["peer_id"], "state": "open"}]
    assert none["state"] in ("Success", "Empty") and not none["message"]
