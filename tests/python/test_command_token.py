"""python -m peerbus token: keygen, issue, verify."""

import json
import os
import stat
import subprocess
import sys

import pytest
from harness import made_up_peer_id
from support import PROGRAM_S

from peerbus import _command_token, tokens

PEER, OTHER = made_up_peer_id(1), made_up_peer_id(2)


@pytest.fixture
def token(environment, tmp_path):
    """Runs python -m peerbus token in a directory of its own; returns status, stdout and stderr."""

    def run(*arguments, stdin=""):
        command = [sys.executable, "-W", "error", "-m", "peerbus", "token", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_S, cwd=tmp_path, input=stdin)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def key(token):
    assert token("keygen", "--out", "key")[0] == 0
    return "key"


def issue(token, key, *more):
    status, out, err = token("issue", "--key", key, "--node-id", "node-1", "--peer", PEER, *more)
    assert (status, err) == (0, "")
    return out.strip()


def test_a_token_goes_from_keygen_to_verify(token, key, tmp_path):
    assert stat.S_IMODE(os.stat(tmp_path / "key").st_mode) == 0o600
    signed = issue(token, key, "--expires-in", "30m", "--cv-hash", "cv", "--port", "4001")
    status, out, err = token("verify", "--key", "key.pub", "--peer", PEER, signed)
    assert (status, err) == (0, "")
    assert out.startswith("valid\n") and "node_id: node-1\n" in out and f"p2p_peers: {PEER}\n" in out and "port: 4001" in out


def test_a_token_that_does_not_hold_is_status_1_with_its_reason(token, key):
    signed = issue(token, key)
    status, out, err = token("verify", "--key", "key.pub", "--peer", OTHER, signed)
    assert status == 1 and out.startswith("invalid, token_peer_mismatch: ") and err == ""
    status, out, _ = token("verify", "--json", "--key", "key.pub", "--peer", PEER, "--node-id", "node-2", signed)
    assert status == 1 and json.loads(out)["valid"] is False and json.loads(out)["reason"] == "bad_token"


def test_json_answers_hold_the_same(token, key):
    status, out, _ = token("issue", "--json", "--key", key, "--node-id", "node-1", "--peer", PEER, "--peer", OTHER)
    signed = json.loads(out)["token"]
    status, out, _ = token("verify", "--json", "--key", "key.pub", "--peer", OTHER, signed)
    answer = json.loads(out)
    assert status == 0 and answer["valid"] is True
    assert answer["claims"]["node_id"] == "node-1" and answer["claims"]["p2p_peers"] == [PEER, OTHER]


@pytest.mark.parametrize("algorithm", tokens.ALGORITHMS)
def test_keys_and_tokens_pass_through_pipes(token, algorithm):
    status, out, _ = token("keygen", "--algorithm", algorithm, "--json")
    made = json.loads(out)
    assert status == 0 and made["algorithm"] == algorithm
    status, signed, _ = token("issue", "--key", "-", "--node-id", "node-1", "--peer", PEER, stdin=made["private_key"])
    assert status == 0
    assert tokens.verify(made["public_key"], signed.strip(), PEER).node_id == "node-1"


def test_a_token_is_read_from_stdin(token, key):
    assert token("verify", "--key", "key.pub", "--peer", PEER, "-", stdin=issue(token, key) + "\n")[0] == 0


def test_a_key_is_never_overwritten(token, key, tmp_path):
    before = (tmp_path / "key").read_text()
    status, out, err = token("keygen", "--out", "key")
    assert status == 3 and out == "" and "key.pub: File exists" in err
    os.unlink(tmp_path / "key.pub")
    status, _, err = token("keygen", "--out", "key")
    assert status == 3 and "key: File exists" in err and not (tmp_path / "key.pub").exists()
    assert (tmp_path / "key").read_text() == before


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sell"],
        ["keygen", "--algorithm", "HS256"],
        ["issue", "--key", "key"],
        ["issue", "--key", "key", "--node-id", "n", "--peer", PEER, "--expires-in", "0"],
        ["issue", "--key", "key", "--node-id", "n", "--peer", PEER, "--expires-in", "soon"],
        ["issue", "--key", "key", "--node-id", "n", "--peer", PEER, "--port", "99999"],
        ["issue", "--key", "key", "--node-id", "", "--peer", PEER],
        ["issue", "--key", "key.pub", "--node-id", "n", "--peer", PEER],
        ["verify", "--key", "key", "--peer", PEER, "x.y.z"],
        ["verify", "--key", "-", "--peer", PEER, "-"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2_and_says_why(token, key, arguments):
    status, out, err = token(*arguments)
    assert (status, out) == (2, "") and err and "Traceback" not in err


def test_a_file_that_is_missing_is_named(token):
    status, out, err = token("issue", "--key", "nowhere.pem", "--node-id", "n", "--peer", PEER)
    assert (status, out) == (3, "") and err == "peerbus: nowhere.pem: No such file or directory\n"


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("30m", 1800), ("24h", 86400), ("7d", 604800)])
def test_times_have_units(text, seconds):
    assert _command_token._seconds(text) == seconds
