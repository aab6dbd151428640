"""Pairs of nodes behind routers of every kind, and which way their messages take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

from nodes import DEADLINE_S, Peer, Relay, config
from topology import FIREWALL, FULL_CONE, NAT, PORT_RESTRICTED, SYMMETRIC, UDP_BLOCKED, Host, Network

DIRECT, PUNCHED, RELAYED = "direct", "punched", "relayed"
_MESSAGES = 256
_SIZE = 1024
_LITTLE = _MESSAGES * _SIZE // 2  # bytes through the relay beside messages that do not take it: keep-alive, identify


@dataclass(frozen=True)
class Place:
    """Where a node is: behind these routers, the outermost first; with none it is public."""

    routers: Tuple[NAT, ...] = ()
    ipv4: bool = True
    ipv6: bool = False

    @property
    def name(self) -> str:
        kinds = " behind ".join(nat.name for nat in reversed(self.routers)) or "public"
        return kinds if self.ipv4 else f"IPv6 only, {kinds}"

    def host(self, network: Network, name: str) -> Host:
        segment = network.internet
        for depth, nat in enumerate(self.routers):
            segment = network.router(f"{name}-router{depth}", segment, nat, ipv6=self.ipv6).lan
        return network.host(name, segment, ipv4=self.ipv4, ipv6=self.ipv6)


@dataclass(frozen=True)
class Case:
    left: Place
    right: Place
    way: str
    transport: str = ""  # what the address of the final connection contains

    @property
    def name(self) -> str:
        return f"{self.left.name} - {self.right.name}"


@dataclass(frozen=True)
class Outcome:
    """What became of a pair. ``carried`` is what the relay's cable says, not the library."""

    way: str
    address: str
    carried: str
    first_s: float
    final_s: Optional[float]


PUBLIC = Place()
CONE, FULL, SYMMETRICAL = Place((PORT_RESTRICTED,)), Place((FULL_CONE,)), Place((SYMMETRIC,))
NO_UDP = Place((UDP_BLOCKED,))
TO_RELAY_ONLY = Place((PORT_RESTRICTED.only("ip daddr 11.0.0.1 meta l4proto tcp"),))
DOUBLE = Place((PORT_RESTRICTED, PORT_RESTRICTED))
V6, V6_FIREWALL = Place(ipv4=False, ipv6=True), Place((FIREWALL,), ipv4=False, ipv6=True)

CASES = [
    Case(PUBLIC, PUBLIC, DIRECT),
    Case(CONE, PUBLIC, DIRECT),
    Case(SYMMETRICAL, PUBLIC, DIRECT),
    Case(NO_UDP, PUBLIC, DIRECT, "/tcp/"),
    Case(DOUBLE, PUBLIC, DIRECT),
    Case(V6, V6, DIRECT, "/ip6/"),
    Case(V6_FIREWALL, V6, DIRECT, "/ip6/"),
    Case(FULL, FULL, PUNCHED),
    Case(FULL, CONE, PUNCHED),
    Case(CONE, CONE, PUNCHED),
    Case(SYMMETRICAL, FULL, PUNCHED),
    Case(DOUBLE, CONE, PUNCHED),
    Case(NO_UDP, NO_UDP, PUNCHED, "/tcp/"),
    Case(V6_FIREWALL, V6_FIREWALL, PUNCHED, "/ip6/"),
    Case(NO_UDP, CONE, RELAYED),  # the cone knows only its UDP port outside: it reached the relay by QUIC
    Case(SYMMETRICAL, CONE, RELAYED),
    Case(SYMMETRICAL, SYMMETRICAL, RELAYED),
    Case(TO_RELAY_ONLY, CONE, RELAYED),
    Case(CONE, V6_FIREWALL, RELAYED),
]


def run(case: Case, directory: Path) -> Outcome:
    """The left node connects to the right one by all it knows of it, and messages flow both ways."""
    with Network("pair") as network:
        relay_host = network.host("relay", network.internet, ipv6=True)
        hosts = [place.host(network, name) for place, name in ((case.left, "left"), (case.right, "right"))]
        with (
            Relay(relay_host, directory, "--broad-limits") as relay,
            Peer(hosts[0], config(directory, hosts[0])) as left,
            Peer(hosts[1], config(directory, hosts[1])) as right,
        ):
            if case.right.routers:
                left.use_relay(relay)
                right.use_relay(relay)
            return _talk(case, relay, left, right)


def _talk(case: Case, relay: Relay, left: Peer, right: Peer) -> Outcome:
    started = time.monotonic()
    address = left.connect(right)["address"]
    left.send(right, 0, 1)
    right.received(left, 1)
    first = time.monotonic() - started
    final = None
    if case.way == PUNCHED:
        peers = left.ask("await_way", peer=right.peer_id, relayed=False, timeout=DEADLINE_S)["peers"]
        final = time.monotonic() - started
        address = next(peer["addrs"][0] for peer in peers if peer["id"] == right.peer_id)
    before = relay.host.received_bytes()
    for sender, receiver, start in ((left, right, 1), (right, left, 0)):
        sender.send(receiver, start, _MESSAGES, size=_SIZE)
        _check(receiver.received(sender, start + _MESSAGES), start + _MESSAGES)
    through_relay = relay.host.received_bytes() - before
    way = RELAYED if left.is_relayed(right) else PUNCHED if final is not None else DIRECT
    return Outcome(way, address, RELAYED if through_relay > _LITTLE else DIRECT, first, final)


def _check(numbers: List[int], count: int) -> None:
    assert numbers == list(range(count)), f"expected {count} messages in order, got {numbers}"
