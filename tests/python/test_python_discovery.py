"""Finding peers from Python: through the DHT and, on the loopback interface, by mDNS."""

import asyncio
import secrets
import threading

import pytest
from support import DEADLINE_S

import peerbus

LOOPBACK = {"ips": ["127.0.0.1"], "webrtc": {"enabled": False}, "nat": {"port_mapping": False, "autonat": False}}
PREFIX = "/peerbus-python-test"


@pytest.fixture
def server():
    with peerbus.Node(**LOOPBACK, dht={"server": True, "prefix": PREFIX}) as node:
        yield node


def client(server):
    return peerbus.Node(**LOOPBACK, dht={"keep": True, "prefix": PREFIX, "bootstrap_peers": server.addresses})


def test_a_peer_that_advertises_is_found_and_connected(server):
    with client(server) as alice, client(server) as bob:
        bob.advertise("weather", timeout=DEADLINE_S)
        found = list(alice.find_peers("weather", limit=1, timeout=DEADLINE_S))
        assert found == [peerbus.FoundPeer(bob.peer_id, bob.addresses, "dht")]
        assert alice.find_peer(bob.peer_id, timeout=DEADLINE_S) == bob.addresses
        assert alice.connect(f"/p2p/{bob.peer_id}", timeout=DEADLINE_S)["ID"] == bob.peer_id
        bob.stop_advertising("weather")


def test_a_search_reports_peers_as_they_come_and_ends_when_it_is_left(server):
    async def main():
        async with client(server) as alice, client(server) as bob, client(server) as carol:
            found = []
            await bob.advertise("weather", timeout=DEADLINE_S)
            async for peer in alice.find_peers("weather", timeout=DEADLINE_S):
                found.append(peer.peer_id)
                if len(found) == 1:
                    await carol.advertise("weather", timeout=DEADLINE_S)
                else:
                    break
            assert found == [bob.peer_id, carol.peer_id]
            assert await alice.find_peer(carol.peer_id, timeout=DEADLINE_S) == carol.addresses

    asyncio.run(main())


def test_a_search_without_a_result_ends_at_its_deadline(server):
    with client(server) as alice:
        alice.find_peer(server.peer_id, timeout=DEADLINE_S)  # joined
        assert list(alice.find_peers("nobody", timeout=0.2)) == []


def test_peers_whose_events_were_lost_are_found_all_the_same(server):
    with client(server) as bob, client(server) as carol:
        for node in (bob, carol):
            node.advertise("weather", timeout=DEADLINE_S)
        with peerbus.Node(
            **LOOPBACK, dht={"keep": True, "prefix": PREFIX, "bootstrap_peers": server.addresses}, limits={"events": 1}
        ) as alice:
            found = {peer.peer_id for peer in alice.find_peers("weather", limit=2, timeout=DEADLINE_S)}
            assert found == {bob.peer_id, carol.peer_id}


def test_the_subscribers_of_a_topic_meet_through_the_dht(server):
    dht = {"keep": True, "prefix": PREFIX, "bootstrap_peers": server.addresses, "topics": True}
    with peerbus.Node(**LOOPBACK, dht=dht) as alice, peerbus.Node(**LOOPBACK, dht=dht) as bob:
        topic = f"{alice.peer_id}::ps:news"
        for node in (alice, bob):
            node.subscribe(topic)
        assert alice.wait_for_topic_peers(topic, 1, timeout=DEADLINE_S) == 1
        assert alice.publish(topic, b"met") == 1
        assert bytes(bob.receive(timeout=DEADLINE_S)) == b"met"


def test_a_subscriber_that_takes_part_in_peer_exchange_meets_the_others():
    keys = {**LOOPBACK, "dht": {"enabled": False}}
    with peerbus.Node(**keys, network={"peer_exchange": True}) as hub, peerbus.Node(
        **keys, network={"peer_exchange": True}
    ) as alice, peerbus.Node(**keys) as bob:
        topic = f"{hub.peer_id}::ps:news"
        for node in (alice, bob):
            node.connect(hub.addresses, timeout=DEADLINE_S)
            node.subscribe(topic)
        hub.wait_for_topic_peers(topic, 2, timeout=DEADLINE_S)
        hub.subscribe(topic)  # takes them into the mesh
        hub.unsubscribe(topic)  # prunes them, and names the others to each
        assert alice.wait_for_topic_peers(topic, 1, timeout=DEADLINE_S) == 1


def test_without_discovery_every_call_says_what_to_set():
    with peerbus.Node(**LOOPBACK, dht={"enabled": False}) as node:
        for call in (
            lambda: list(node.find_peers("weather")),
            lambda: node.find_peer(node.peer_id[:-1] + "x"),
            lambda: node.advertise("weather"),
        ):
            with pytest.raises((peerbus.UnsupportedError, peerbus.InvalidArgumentError)):
                call()
        with pytest.raises(peerbus.UnsupportedError, match=r"dht\.bootstrap_peers"):
            node.advertise("weather")


def test_arguments_are_checked_before_the_search_starts(server):
    for arguments in ({"limit": 0}, {"limit": 1001}, {"timeout": -1}, {"name": "a\0b"}):
        with pytest.raises(ValueError):
            list(server.find_peers(**{"name": "weather", **arguments}))


def test_closing_the_node_ends_a_search(server):
    with client(server) as alice:
        search = alice.find_peers("nobody", timeout=DEADLINE_S)

        def closed_meanwhile():
            with alice.events() as events:
                alice.advertise("anything", timeout=DEADLINE_S)
                events.wait_for_blocking("advertised", timeout=DEADLINE_S)
            alice.close()

        closing = threading.Thread(target=closed_meanwhile)
        closing.start()
        with pytest.raises(peerbus.ClosedError):
            next(search)
        closing.join(DEADLINE_S)


def test_nodes_on_loopback_find_each_other_by_mdns_without_a_packet_to_the_network():
    mdns = {"enabled": True, "service": f"_t{secrets.token_hex(6)}._udp"}
    with peerbus.Node(**LOOPBACK, mdns=mdns) as alice, peerbus.Node(**LOOPBACK, mdns=mdns) as bob:
        found = next(alice.find_peers(timeout=DEADLINE_S))
        assert (found.peer_id, found.source) == (bob.peer_id, "mdns")
        alice.connect(found.addresses, timeout=DEADLINE_S)
