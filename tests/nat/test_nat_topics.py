"""Topics of two nodes behind NATs leave their relay for the punched connection, and go back to it when that one is cut."""

from __future__ import annotations

import contextlib

import pytest
from nodes import DEADLINE_S, Peer, Relay, config
from topology import PORT_RESTRICTED, run_in

_MANY, _SIZE, _PACE_S = 1000, 1024, 0.003
_LITTLE = _MANY * _SIZE // 4


@pytest.fixture
def pair(network, tmp_path):
    """Two nodes behind routers, the relay, and the routers."""
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(Relay(network.host("relay", network.internet), tmp_path, "--broad-limits"))
        routers = [network.router(f"{name}-router", network.internet, PORT_RESTRICTED) for name in ("left", "right")]
        hosts = [network.host(name, router.lan) for name, router in zip(("left", "right"), routers)]
        nodes = [stack.enter_context(Peer(host, config(tmp_path, host))) for host in hosts]
        for node in nodes:
            node.use_relay(relay)
        yield nodes, relay, routers


def exchange(left, right, topic, first):
    """Both publish at the same time; every message reaches the other, once and in order."""
    for node in (left, right):
        node.ask("begin_publish", topic=topic, first=first, count=_MANY, size=_SIZE, pace=_PACE_S)
    for node, other in ((left, right), (right, left)):
        assert node.ask("end_send")["reached"] == {"1": _MANY}
        assert node.received(other, first + _MANY) == list(range(first + _MANY))


def expect_no_losses(*nodes):
    for node in nodes:
        assert node.ask("statistics")["lost"] == {"in": {}, "out": {}}


def test_topics_move_to_the_punched_connection_without_loss_and_back_to_the_relay_when_it_is_cut(pair):
    (left, right), relay, routers = pair
    topic = f"{left.peer_id}::ps:news"
    for node in (left, right):
        node.ask("subscribe", topic=topic)
    left.connect(right)
    for node in (left, right):
        assert node.ask("await_subscriber", topic=topic, timeout=DEADLINE_S)["peers"] == 1
    exchange(left, right, topic, 0)
    expect_no_losses(left, right)
    for node, other in ((left, right), (right, left)):
        assert "/p2p-circuit" not in node.await_event("topics_moved", peer=other.peer_id)["address"]
        assert node.ask("await_no_lingering", timeout=DEADLINE_S)["lingering"] == []
    before = relay.host.received_bytes()
    exchange(left, right, topic, _MANY)
    assert relay.host.received_bytes() - before < _LITTLE
    assert not left.is_relayed(right)

    for node in (left, right):
        node.ask("forget")
    for router, other in zip(routers, reversed(routers)):
        run_in(router.namespace, ["nft", "-f", "-"], f"""
table inet cut {{
    chain forward {{
        type filter hook forward priority -10
        ip daddr {other.ipv4} drop
        ip saddr {other.ipv4} drop
    }}
}}
""")
    for node, other in ((left, right), (right, left)):
        node.ask("await_way", peer=other.peer_id, relayed=True, timeout=DEADLINE_S)
        node.await_event("topic_peer_joined", peer=other.peer_id)
    for node in (left, right):
        assert node.ask("await_subscriber", topic=topic, timeout=DEADLINE_S)["peers"] == 1
    exchange(left, right, topic, 2 * _MANY)
    assert left.is_relayed(right)
