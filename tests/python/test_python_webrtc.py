"""WebRTC data channels from Python: SPEC P2P-25 and NEW-15."""

import asyncio

import pytest
from support import DEADLINE_S, LOCAL, run

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
