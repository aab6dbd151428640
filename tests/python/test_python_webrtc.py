"""WebRTC data channels from Python: SPEC P2P-25 and NEW-15."""

import asyncio
import contextlib
import socket

import pytest
from support import DEADLINE_S, LOCAL, run, start_python

import peerbus

PROTOCOL = "/webrtc/unaiverse-data"
WEBRTC = {**LOCAL, "webrtc": {"enabled": True}, "channel": {"acknowledged": False}}  # what travels on it is chat


@pytest.fixture
def webrtc_pair(nodes):
    alice, bob = nodes(**WEBRTC), nodes(**WEBRTC)
    with bob.events("peer_connected") as events:
        alice.connect(bob.addresses, timeout=DEADLINE_S)
        events.wait_for_blocking("peer_connected", peer=alice.peer_id, timeout=DEADLINE_S)
    return alice, bob


def open_channel(alice, bob):
    with bob.events("webrtc_changed") as events:
        answer = alice.initiate_webrtc(bob.peer_id)
        events.wait_for_blocking("webrtc_changed", state="open", timeout=DEADLINE_S)
    return answer


def test_messages_travel_on_an_open_data_channel_and_on_the_connection_after_it(webrtc_pair):
    alice, bob = webrtc_pair
    answer = open_channel(alice, bob)
    assert answer["state"] == "open" and answer["path"]["local"]["type"] == "host"
    assert alice.webrtc_connections() == [{"peer_id": bob.peer_id, "state": "open"}]
    for sender, receiver in (alice, bob), (bob, alice):
        sender.send(receiver.peer_id, b"by webrtc")
        assert receiver.receive(timeout=DEADLINE_S).protocol == PROTOCOL
    with bob.events("webrtc_changed") as events:
        alice.close_webrtc(bob.peer_id)
        events.wait_for_blocking("webrtc_changed", state="closed", peer=alice.peer_id, timeout=DEADLINE_S)
    assert alice.webrtc_connections() == bob.webrtc_connections() == []
    alice.send(bob.peer_id, b"by the connection")
    assert bob.receive(timeout=DEADLINE_S).protocol != PROTOCOL


def test_a_second_data_channel_is_refused(webrtc_pair):
    alice, bob = webrtc_pair
    open_channel(alice, bob)
    with pytest.raises(peerbus.RefusedError):
        alice.initiate_webrtc(bob.peer_id)
    alice.close_webrtc(bob.peer_id)
    alice.close_webrtc(bob.peer_id)  # none is no error


def test_there_is_no_data_channel_without_a_connection(webrtc_pair, nodes):
    alice, _ = webrtc_pair
    with pytest.raises(peerbus.NotConnectedError):
        alice.initiate_webrtc(nodes(webrtc={"enabled": True}).peer_id)


def test_the_asynchronous_style(environment):
    async def talk():
        async with peerbus.Node(**WEBRTC) as alice, peerbus.Node(**WEBRTC) as bob:
            await alice.connect(bob.addresses)
            await alice.initiate_webrtc(bob.peer_id)
            await alice.send(bob.peer_id, b"hello")
            message = await bob.receive(timeout=DEADLINE_S)
            assert message.protocol == PROTOCOL
            await asyncio.gather(alice.close_webrtc(bob.peer_id), bob.close_webrtc(alice.peer_id))

    run(talk())


def test_ice_servers_are_replaced_and_bad_ones_refused(webrtc_pair):
    alice, _ = webrtc_pair
    alice.set_ice_config(["stun:127.0.0.1:3478"], [{"urls": "turn:127.0.0.1:3478", "username": "u", "credential": "c"}])
    alice.set_ice_config(turn_servers=[])
    alice.set_ice_config()
    for bad in (["127.0.0.1"], "stun:127.0.0.1"):
        with pytest.raises(peerbus.InvalidArgumentError):
            alice.set_ice_config(bad)


def test_the_documented_class(environment, tmp_path):
    peerbus.P2P.setup_library()
    keys = {"ips": ["127.0.0.1"], "dht_enabled": False, "nat": LOCAL["nat"]}
    with peerbus.P2P(str(tmp_path / "a"), **keys) as alice, peerbus.P2P(str(tmp_path / "b"), **keys) as bob:
        alice.connect_to(bob.addresses)
        assert alice.get_webrtc_connections() == []
        alice.initiate_webrtc_connection(bob.peer_id)
        assert alice.get_webrtc_connections() == [{"peer_id": bob.peer_id, "state": "open"}]
        alice.set_ice_config(ice_stun_servers=[], ice_turn_servers=None)
        alice.set_turn_credentials([])
        alice.close_webrtc_connection(bob.peer_id)
        assert alice.get_webrtc_connections() == []
        for method in alice.initiate_webrtc_connection, alice.close_webrtc_connection:
            with pytest.raises(ValueError):
                method("")


def test_two_that_open_one_at_once_get_the_same_data_channel(nodes, link):
    alice, bob = nodes(**WEBRTC), nodes(**WEBRTC, listen_addrs=["/ip4/127.0.0.1/tcp/0"])
    proxy, through = link(bob.addresses[0])
    both = (alice, bob), (bob, alice)
    with bob.events("peer_connected") as events:
        alice.connect(through, timeout=DEADLINE_S)
        events.wait_for_blocking("peer_connected", peer=alice.peer_id, timeout=DEADLINE_S)

    async def open_both():
        with proxy.stalled():  # neither offer arrives before the other has left
            attempts = []
            for one, other in both:
                with one.events("webrtc_changed") as events:
                    attempts.append(asyncio.create_task(one.asynchronous.initiate_webrtc(other.peer_id, DEADLINE_S)))
                    await events.wait_for("webrtc_changed", state="connecting", timeout=DEADLINE_S)
        return await asyncio.gather(*attempts)

    assert [attempt["state"] for attempt in run(open_both())] == ["open", "open"]
    assert len(alice.webrtc_connections()) == len(bob.webrtc_connections()) == 1
    for sender, receiver in both:
        sender.send(receiver.peer_id, b"after the glare")
        assert receiver.receive(timeout=DEADLINE_S).protocol == PROTOCOL


def test_a_receiver_that_takes_nothing_holds_the_sender_and_nothing_is_lost(nodes):
    narrow = {"channel_messages": 4, "send_messages": 8}
    alice, bob = nodes(**WEBRTC, limits=narrow), nodes(**WEBRTC, limits=narrow)
    alice.connect(bob.addresses, timeout=DEADLINE_S)
    open_channel(alice, bob)
    payload, sent = bytes(60_000), 0
    with pytest.raises(peerbus.WouldBlockError):
        while sent < 10_000:
            alice.send(bob.peer_id, b"%06d" % sent + payload, timeout=2)
            sent += 1
    for number in range(sent):
        message = bob.receive(timeout=DEADLINE_S)
        assert (bytes(message.data[:6]), len(message), message.protocol) == (b"%06d" % number, 60_006, PROTOCOL)
    assert not any(alice.statistics()["lost"].values()) and not any(bob.statistics()["lost"].values())


@contextlib.contextmanager
def asked_server():
    """A STUN server that never answers; yields its URI and whether something came to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)

        def asked():
            with contextlib.suppress(BlockingIOError):
                return len(server.recv(2048)) > 0
            return False

        yield f"stun:127.0.0.1:{server.getsockname()[1]}", asked


def test_replaced_ice_servers_are_those_of_the_next_data_channel(nodes):
    with asked_server() as (first, first_asked), asked_server() as (second, second_asked):
        alice = nodes(**{**WEBRTC, "webrtc": {"enabled": True, "ice_config": {"stun_servers": [first]}}})
        bob = nodes(**WEBRTC)
        alice.connect(bob.addresses, timeout=DEADLINE_S)
        alice.set_ice_config([second])
        assert alice.diagnose()["webrtc"]["stun_servers"] == [second]
        open_channel(alice, bob)
        assert second_asked() and not first_asked()


ANSWERER = """
import sys, peerbus
from test_python_webrtc import WEBRTC
with peerbus.Node(**WEBRTC) as node:
    print(" ".join(node.addresses), flush=True)
    while True:
        message = node.receive(timeout=60)
        node.send(message.sender, message.data)
"""


def test_a_peer_process_that_is_killed_ends_its_data_channel(nodes):
    """15 s of silence end it: a killed process says no goodbye."""
    alice = nodes(**WEBRTC)
    with start_python(ANSWERER) as process:
        try:
            addresses = process.stdout.readline().split()
            bob = alice.connect(addresses, timeout=DEADLINE_S)["ID"]
            with alice.events("webrtc_changed") as events:
                assert alice.initiate_webrtc(bob)["kind"] == "session"
                alice.send(bob, bytes(200_000))
                echo = alice.receive(timeout=DEADLINE_S)
                assert (len(echo), echo.protocol) == (200_000, PROTOCOL)
                process.kill()
                ended = events.wait_for_blocking("webrtc_changed", state="closed", timeout=DEADLINE_S)
        finally:
            process.kill()
    assert ended["peer"] == bob and ended["reason"]
    assert alice.webrtc_connections() == []
