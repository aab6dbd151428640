"""A router that maps ports makes a node behind it reachable by anybody, without a relay."""

from __future__ import annotations

import contextlib
import sys

import pytest
from nodes import DEADLINE_S, ENVIRONMENT, HERE, Peer, config
from program import Program
from topology import PORT_RESTRICTED


@contextlib.contextmanager
def port_mapper(router, protocol):
    """The router's service, by "nat-pmp" or "upnp"."""
    inside = router.lan_addresses[4].split("/")[0]
    service = [sys.executable, str(HERE / "portmapper.py"), protocol, inside, router.ipv4]
    program = Program(["ip", "netns", "exec", router.namespace, *service], ENVIRONMENT)
    try:
        program.answer(DEADLINE_S)
        yield
    finally:
        program.kill()
        program.__exit__(None, None, None)


@pytest.mark.parametrize("protocol", ["nat-pmp", "upnp"])
def test_a_node_behind_a_router_that_maps_ports_is_reached_from_outside(network, tmp_path, protocol):
    router = network.router("home", network.internet, PORT_RESTRICTED)
    behind, public = network.host("behind", router.lan), network.host("public", network.internet)
    keys = config(tmp_path, behind, nat={"port_mapping": True})
    with port_mapper(router, protocol), Peer(behind, keys) as node, Peer(public, config(tmp_path, public)) as other:
        node.await_event("port_mapping", port_mapping="on")
        node.ask("await_address", part=router.ipv4, present=True, timeout=DEADLINE_S)
        found = node.ask("diagnose")["nat"]
        assert found["port_mapping"] == "on"
        assert found["mappings"] and all(f"/ip4/{router.ipv4}/" in mapping["external"] for mapping in found["mappings"])
        assert f"/ip4/{router.ipv4}/" in other.connect(node)["address"]
        other.send(node, 0, 10)
        assert node.received(other, 10) == list(range(10))
        assert not other.is_relayed(node)


def test_a_nat_pmp_router_that_stops_is_noticed_and_maps_again_when_it_returns(network, tmp_path):
    router = network.router("home", network.internet, PORT_RESTRICTED)
    behind, public = network.host("behind", router.lan), network.host("public", network.internet)
    keys = config(tmp_path, behind, nat={"port_mapping": True})
    with Peer(behind, keys) as node, Peer(public, config(tmp_path, public)) as other:
        with port_mapper(router, "nat-pmp"):
            node.await_event("port_mapping", port_mapping="on")
            node.ask("await_address", part=router.ipv4, present=True, timeout=DEADLINE_S)
            node.ask("forget")
        node.await_event("port_mapping", port_mapping="no_router", mappings=[])
        gone = node.ask("await_address", part=router.ipv4, present=False, timeout=DEADLINE_S)["addresses"]
        assert not any(router.ipv4 in address for address in gone)
        assert node.ask("diagnose")["nat"]["port_mapping"] == "no_router"
        with port_mapper(router, "nat-pmp"):
            node.await_event("port_mapping", port_mapping="on")
            node.ask("await_address", part=router.ipv4, present=True, timeout=DEADLINE_S)
            assert f"/ip4/{router.ipv4}/" in other.connect(node)["address"]
