"""Reachability from Python: what peers say of the own addresses, on a network without public ones."""

import contextlib
import time

from support import DEADLINE_S, LOCAL

import peerbus

JUDGING = {**LOCAL, "nat": {"port_mapping": False, "hole_punching": False, "autonat": True, "autonat_private": True}}


def test_peers_tell_address_by_address_whether_a_node_is_reached():
    dead = "/ip4/127.0.0.1/tcp/1"
    with contextlib.ExitStack() as stack:
        judges = [stack.enter_context(peerbus.Node(**JUDGING)) for _ in range(2)]  # each tells of one address, every 2 minutes
        node = stack.enter_context(peerbus.Node(**JUDGING, announce_addrs=[dead]))
        events = stack.enter_context(node.events("reachability", "addresses_judged"))
        assert (node.reachability, node.is_public) == ("unknown", False)
        node.connect(judges[0].addresses)
        told = events.wait_for_blocking("addresses_judged", timeout=DEADLINE_S)
        assert (told["unreachable"], told["reachable"]) == ([dead], [])
        assert (node.reachability, node.is_public) == ("unknown", False)
        node.connect(judges[1].addresses)
        assert events.wait_for_blocking("reachability", timeout=DEADLINE_S)["reachability"] == "public"
        assert (node.reachability, node.is_public) == ("public", True)
        found = node.diagnose()["addresses"]
        assert found["unreachable"] == [dead] and len(found["reachable"]) == 1
        assert {one["observers"] for one in found["observed"]} <= {1, 2} and found["observed"]


def test_a_node_waits_for_the_verdict_only_when_told_to():
    started = time.monotonic()
    with peerbus.Node(**LOCAL) as node:
        at_once = time.monotonic() - started
        assert node.reachability == "unknown"
    started = time.monotonic()
    with peerbus.Node(**LOCAL, network={"reachability_timeout_ms": 3000}) as node:
        assert time.monotonic() - started >= 3 > at_once
        assert node.reachability == "unknown"
    with peerbus.Node(**LOCAL, network={"force_public": True, "reachability_timeout_ms": 600_000}) as node:
        assert (node.reachability, node.is_public) == ("public", True)


def test_on_one_machine_the_loopback_address_wins_when_it_is_known():
    anywhere = {**LOCAL, "ips": ["0.0.0.0"]}
    with peerbus.Node(**anywhere) as left, peerbus.Node(**anywhere) as right:
        told = right.addresses  # without loopback, unless there is no other
        loopback = ["/".join(["", "ip4", "127.0.0.1", *address.split("/")[3:]]) for address in told]
        assert left.connect([*told, *loopback])["Addrs"][0].startswith("/ip4/127.0.0.1/")
