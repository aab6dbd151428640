"""What nodes behind NATs know of themselves, why a hole cannot be punched, and in which order addresses are dialled."""

from __future__ import annotations

import contextlib

import pytest
from nodes import DEADLINE_S, Peer, Relay, config
from topology import PORT_RESTRICTED, SYMMETRIC

_MANY = 100_000


@pytest.fixture
def relay(network, tmp_path):
    with Relay(network.host("relay", network.internet), tmp_path, "--broad-limits") as running:
        yield running


@pytest.fixture
def behind(network, tmp_path):
    """Starts nodes, each behind a router of its own, or public."""
    with contextlib.ExitStack() as stack:
        def start(name, nat=None, **keys):
            segment = network.router(f"{name}-router", network.internet, nat).lan if nat else network.internet
            host = network.host(name, segment)
            return stack.enter_context(Peer(host, config(tmp_path, host, **keys)))

        yield start


def test_a_public_node_learns_that_it_is_reached_and_one_behind_a_router_only_what_peers_see(network, behind, tmp_path):
    with contextlib.ExitStack() as stack:
        # An address is judged when two of them say the same; each is asked once in two minutes.
        relays = [stack.enter_context(Relay(network.host(f"relay{number}", network.internet), tmp_path)) for number in range(3)]
        opened, shut = behind("open"), behind("shut", PORT_RESTRICTED)
        for node in (opened, shut):
            for relay in relays:
                node.connect(relay)
        opened.await_event("reachability", reachability="public")
        assert opened.about()["reachability"] == "public"
        (reachable, *_) = opened.ask("diagnose")["addresses"]["reachable"]
        assert opened.host.ipv4 in reachable
        found = shut.ask("diagnose")
        assert found["reachability"] != "public" and found["addresses"]["reachable"] == []
        outside = {one["address"].split("/")[2] for one in found["addresses"]["observed"]}
        assert outside and shut.host.ipv4 not in outside


def test_a_hole_that_cannot_be_punched_is_told_with_its_reason(relay, behind):
    left, right = behind("left", SYMMETRIC, webrtc={"enabled": False}), behind("right", SYMMETRIC, webrtc={"enabled": False})
    for node in (left, right):
        node.use_relay(relay)
    left.connect(right)
    assert right.await_event("hole_punch", peer=left.peer_id, direct=False)["reason"]
    (record, *_) = right.ask("diagnose")["hole_punches"]
    assert record["peer"] == left.peer_id and record["reason"] and not record["direct"]
    left.send(right, 0, 10)
    assert right.received(left, 10) == list(range(10))
    assert left.is_relayed(right)


def test_a_hundred_thousand_messages_move_to_the_punched_connection(relay, behind):
    left, right = behind("left", PORT_RESTRICTED), behind("right", PORT_RESTRICTED)
    for node in (left, right):
        node.use_relay(relay)
    for node, other in ((left, right), (right, left)):
        assert "/p2p-circuit" in left.connect(right)["address"] or other is left
        node.begin_send(other, 0, _MANY, timeout=3 * DEADLINE_S)
    for node, other in ((left, right), (right, left)):
        node.end_send()
        assert node.received(other, _MANY, 3 * DEADLINE_S) == list(range(_MANY))
        assert not node.is_relayed(other)
        assert node.ask("statistics")["lost"] == {"in": {}, "out": {}}


def test_on_one_lan_the_address_in_it_wins(network, tmp_path):
    lan = network.router("home", network.internet, PORT_RESTRICTED).lan
    hosts = [network.host(name, lan) for name in ("left", "right")]
    with contextlib.ExitStack() as stack:
        left, right = (stack.enter_context(Peer(host, config(tmp_path, host))) for host in hosts)
        assert left.connect(right)["address"].startswith(f"/ip4/{hosts[1].ipv4}/")


def test_dead_addresses_cost_no_more_than_their_stagger(network, behind):
    left, right = behind("left"), behind("right")
    dead = [f"/ip4/11.0.200.{number}/{kind}/p2p/{right.peer_id}" for number in range(1, 5)
            for kind in ("tcp/4001", "udp/4002/quic-v1", "tcp/4003/ws")]
    live = [address for address in right.addresses() if right.host.ipv4 in address and "/tcp/" in address]
    reached = left.ask("connect", addresses=dead + live, timeout=DEADLINE_S)
    assert any(reached["address"] in address for address in live)
    assert reached["seconds"] < DEADLINE_S / 10  # one dead dial takes 5 s and more
