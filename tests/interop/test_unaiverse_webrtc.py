"""peerbus opens a WebRTC data channel with the existing network's own library, and messages travel on it (SPEC NEW-15)."""

import contextlib
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness import node_config
from unaiverse_pair import Peer, until
from unaiverse_peer import pattern

PROTOCOL_OF_OURS = "/webrtc/unaiverse-data"


def digest(size, seed):
    return {"length": size, "sha256": hashlib.sha256(pattern(size, seed)).hexdigest()}


@pytest.fixture
def stun_server(network):
    """Their library gathers no candidate on loopback, but takes one that a STUN server sees."""
    command = [sys.executable, str(Path(__file__).with_name("stun.py")), str(network)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield f"stun:127.0.0.1:{process.stdout.readline().strip()}"
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


@pytest.fixture
def open_pair(library_path, their_library, network, stun_server, tmp_path):
    webrtc = {"enabled": True, "ice_config": {"stun_servers": [stun_server], "turn_servers": []}}
    (tmp_path / "theirs").mkdir()
    off = {"enable_client": False, "enable_service": False, "with_broad_limits": False}
    theirs_config = {
        "identity_dir": str(tmp_path / "theirs"), "predefined_port": 0, "listen_ips": ["127.0.0.1"], "relay": off,
        "tls": {"auto_tls": False, "domain": "", "cert_path": "", "key_path": ""},
        "network": {"isolated": True, "force_public": True, "flood_sub": False},
        "dht": {"enabled": False, "keep": False}, "webrtc": webrtc,
    }
    ours_config = node_config(tmp_path / "ours", relay={"enable_client": False}, pop_messages="binary", webrtc=webrtc)
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(contextlib.closing(Peer(library_path, network, ours_config)))
        theirs = stack.enter_context(contextlib.closing(Peer(their_library, network, theirs_config)))
        ours.connect(theirs)
        ours.call("InitiateWebRTCConnection", theirs.id)
        for node in ours, theirs:
            until("the data channel is open", lambda node=node: states(node) == ["open"])
        yield ours, theirs


def states(node):
    return [connection["state"] for connection in node.call("GetWebRTCConnections")]


@pytest.mark.parametrize("size", [1, 61_000, 61_440, 1 << 20, 5 << 20])
def test_messages_of_any_size_travel_both_ways(open_pair, size):
    for sender, receiver in (open_pair, open_pair[::-1]):
        sender.call("pattern", sender.channel_to(receiver), size, sender.id)
        assert receiver.receive(1) == [{"from": sender.id, **digest(size, sender.id)}]
        assert states(sender) == ["open"]


def test_ours_receives_by_the_data_channel(open_pair):
    ours, theirs = open_pair
    theirs.call("pattern", theirs.channel_to(ours), 100, 1)
    protocols = []
    until("it arrives", lambda: protocols.extend(ours.call("pop_protocols")) or protocols)
    assert protocols == [PROTOCOL_OF_OURS]


def test_many_messages_keep_their_order(open_pair):
    count = 40
    for sender, receiver in (open_pair, open_pair[::-1]):
        for number in range(count):
            sender.call("pattern", sender.channel_to(receiver), 100 + number, number)
        assert [m["sha256"] for m in receiver.receive(count)] == [digest(100 + n, n)["sha256"] for n in range(count)]


def test_a_closed_channel_is_closed_on_both_sides_and_messages_go_on(open_pair):
    ours, theirs = open_pair
    ours.call("CloseWebRTCConnection", theirs.id)
    for node in open_pair:
        until("no data channel is left", lambda node=node: states(node) == [])
    for sender, receiver in (open_pair, open_pair[::-1]):
        sender.call("pattern", sender.channel_to(receiver), 10, 10)
        assert receiver.receive(1) == [{"from": sender.id, **digest(10, 10)}]


def test_the_ice_servers_can_be_changed(open_pair):
    update = json.dumps({"stun_servers": [], "turn_servers": None})
    for node in open_pair:
        assert node.call("UpdateICEConfig", update) == {"updated": True}
