"""Diagnosis: node.diagnose() and the command ``python -m peerbus doctor``."""

import json
import os
import subprocess
import sys

import pytest
from support import ENVIRONMENT, LOCAL, PROGRAM_S, run

import peerbus
from peerbus import _command_doctor

PUBLIC_RELAY = {**LOCAL, "relay": {"enable_service": True}, "network": {"force_public": True}}


@pytest.fixture
def doctor(tmp_path):
    """Runs the command with a configuration for loopback; returns status, stdout and stderr."""
    config = tmp_path / "node.json"
    keys = {key: value for key, value in LOCAL.items() if key != "ips"}
    config.write_text(json.dumps({**keys, "listen_ips": LOCAL["ips"]}), encoding="utf-8")

    def call(*options):
        command = [sys.executable, "-W", "error", "-m", "peerbus", "doctor", "--config", str(config), "--wait=0", *options]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}, timeout=PROGRAM_S)
        return done.returncode, done.stdout, done.stderr

    return call


def codes(diagnosis):
    return {advice["code"] for advice in diagnosis["advice"]}


def test_a_diagnosis_names_the_relay_and_what_is_in_the_way():
    async def main():
        async with peerbus.Node(**PUBLIC_RELAY) as relay, peerbus.Node(**LOCAL) as node:
            before = await node.diagnose()
            assert before["peer_id"] == node.peer_id and before["relays"] == []
            assert {"only_loopback", "no_connections"} <= codes(before)
            await node.connect(relay.addresses)
            await node.reserve_on_relay(relay.peer_id)
            after = await node.diagnose()
            assert "no_connections" not in codes(after)
            (used,) = after["relays"]
            assert used["relay"] == relay.peer_id and used["reserved"] and used["round_trip_ms"] >= 0
            assert (await relay.diagnose())["relay_service"]["reservations"] == 1

    run(main())


def test_a_diagnosis_of_a_closed_node_is_an_error():
    with peerbus.Node(**LOCAL) as node:
        pass
    with pytest.raises(peerbus.ClosedError):
        node.diagnose()


def test_the_doctor_reports_for_a_person(doctor):
    with peerbus.Node(**PUBLIC_RELAY) as relay:
        status, out, err = doctor("--relay", relay.addresses[0])
    assert err == ""
    assert status == 1  # a node on loopback has something in the way
    assert f"{relay.peer_id}: reserved until" in out and "only_loopback" in out and "change: " in out
    assert "WebRTC: off" in out
    assert "discovery: DHT off (0 peers), mDNS off; 0 peers found by 0 searches" in out


def test_the_doctor_answers_json_for_a_program(doctor):
    with peerbus.Node(**LOCAL) as peer:
        other = "/ip4/127.0.0.1/tcp/1/p2p/" + peer.peer_id[:-1]
        status, out, _ = doctor("--json", "--connect", peer.addresses[0], "--connect", other)
    found = json.loads(out)
    assert status == 1
    assert found["connections"]["direct"] == 1
    assert [attempt["error"] is None for attempt in found["attempts"]] == [True, False]


def test_a_dead_relay_is_told_with_its_reason(doctor):
    with peerbus.Node(**LOCAL) as plain:
        _, out, _ = doctor("--relay", plain.addresses[0])
    assert "relay_failed" in out and "is no relay" in out


def test_a_report_without_advice_says_so():
    found = {
        "peer_id": "12D3", "version": "1", "reachability": "public",
        "addresses": {"listen": [], "announced": [], "reachable": ["/ip4/11.0.0.1/tcp/1"], "unreachable": [],
                      "observed": [{"address": "/ip4/11.0.0.1/tcp/1", "observers": 2}]},
        "nat": {"tcp": "unknown", "udp": "unknown", "port_mapping": "on", "mappings": [{"listen": "a", "external": "b"}]},
        "connections": {"direct": 1, "relayed": 1, "limited": 0,
                        "lingering": [{"peer": "L", "address": "/p2p-circuit", "protocols": ["/a", "/b"]}]},
        "relays": [{"relay": "R", "reserved": False, "failure": "", "expires": ""}],
        "hole_punches": [{"peer": "P", "way": "near", "direct": False, "reason": "late", "took_ms": 5}],
        "webrtc": {"enabled": True, "stun_servers": ["stun:11.0.0.9"], "turn_servers": [],
                   "counts": {"open": 1, "opened": 2, "failed": 3, "refused": 0},
                   "connections": [{"peer_id": "Q", "kind": "connection", "state": "open",
                                    "path": {"local": {"type": "host", "address": "a:1"},
                                             "remote": {"type": "srflx", "address": "b:2"}}}],
                   "last_failure": {"peer": "Z", "time": "", "reason": "no path"}},
        "discovery": {"dht": {"state": "joined", "peers": 4}, "mdns": {"state": "off"}, "found": 5, "searches": 6},
        "advice": [],
    }  # fmt: skip
    text = _command_doctor.report(found, [])
    assert text.endswith("nothing is in the way")
    parts = (
        "(2 peers)", "a -> b", "R: no reservation; not asked yet", "P by near: late (5 ms)",
        "WebRTC: 1 open, 2 so far, 3 failed; ICE servers: stun:11.0.0.9", "Q: connection, open, host a:1 - srflx b:2",
        "L at /p2p-circuit: held open by /a, /b", "last WebRTC failure: Z: no path",
        "DHT joined (4 peers), mDNS off; 5 peers found by 6 searches",
    )  # fmt: skip
    for part in parts:
        assert part in text


def test_a_configuration_that_is_no_json_object_is_usage(tmp_path):
    for content in ("{", "[]"):
        (tmp_path / "bad.json").write_text(content, encoding="utf-8")
        command = [sys.executable, "-m", "peerbus", "doctor", "--config", str(tmp_path / "bad.json")]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}, timeout=PROGRAM_S)
        assert done.returncode == 2 and "bad.json" in done.stderr
