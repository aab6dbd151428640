"""Pairs of nodes behind routers of every kind, and which way their messages take."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from nodes import DEADLINE_S, ICEServer, Peer, Relay, config
from topology import FIREWALL, FULL_CONE, NAT, PORT_RESTRICTED, SYMMETRIC, UDP_BLOCKED, Host, Network

DIRECT, PUNCHED, WEBRTC, TURN, RELAYED = "direct", "punched", "WebRTC", "TURN", "relayed"
_MESSAGES = 256
_SIZE = 1024
_LITTLE = _MESSAGES * _SIZE // 2  # bytes through a server beside messages that do not take it: keep-alive, identify


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
    ice: str = ""  # the ICE server that both nodes name: "stun", or TURN over "udp", "tcp" or "tls"
    punching: bool = True

    @property
    def name(self) -> str:
        ice = {"": "", "stun": ", STUN"}.get(self.ice, f", TURN over {self.ice.upper()}")
        return f"{self.left.name} - {self.right.name}{ice}{'' if self.punching else ', punching off'}"

    @property
    def third(self) -> str:
        """Whose cable the messages are to take: a relay's, a TURN server's, or nobody's."""
        return self.way if self.way in (RELAYED, TURN) else DIRECT


@dataclass(frozen=True)
class Outcome:
    """What became of a pair. ``carried`` is what the cables of the relay and the TURN server say, not the library."""

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
    Case(CONE, CONE, WEBRTC, "srflx", "stun", punching=False),
    Case(DOUBLE, FULL, WEBRTC, "srflx", "stun", punching=False),
    Case(V6_FIREWALL, V6_FIREWALL, WEBRTC, "host", punching=False),
    Case(SYMMETRICAL, SYMMETRICAL, TURN, "relay", "udp"),
    Case(SYMMETRICAL, CONE, TURN, "relay", "udp"),
    Case(NO_UDP, CONE, TURN, "relay", "tcp"),
    Case(NO_UDP, NO_UDP, TURN, "relay over tcp", "tcp", punching=False),
    Case(NO_UDP, SYMMETRICAL, TURN, "relay over tls", "tls"),
]


def run(case: Case, directory: Path) -> Outcome:
    """The left node connects to the right one by all it knows of it, and messages flow both ways."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network("pair"))
        relay_host = network.host("relay", network.internet, ipv6=True)
        ice_host = network.host("ice", network.internet)
        hosts = [place.host(network, name) for place, name in ((case.left, "left"), (case.right, "right"))]
        relay = stack.enter_context(Relay(relay_host, directory, "--broad-limits"))
        keys, trusted = {}, None
        if case.ice:
            server = stack.enter_context(ICEServer(ice_host, directory))
            keys["webrtc"], trusted = {"ice_config": server.ice_config(case.ice)}, server.certificate
        left, right = (
            stack.enter_context(Peer(host, config(directory, host, nat={"hole_punching": case.punching}, **keys), trusted))
            for host in hosts
        )
        if case.right.routers:
            left.use_relay(relay)
            right.use_relay(relay)
        return _talk(case, {RELAYED: relay_host, TURN: ice_host}, left, right)


def _talk(case: Case, thirds: Dict[str, Host], left: Peer, right: Peer) -> Outcome:
    started = time.monotonic()
    address = left.connect(right)["address"]
    left.send(right, 0, 1)
    right.received(left, 1)
    first = time.monotonic() - started
    final = None
    if case.way in (PUNCHED, WEBRTC, TURN):
        peers = left.ask("await_way", peer=right.peer_id, relayed=False, timeout=DEADLINE_S)["peers"]
        left.ask("await_channel", peer=right.peer_id, relayed=False, timeout=DEADLINE_S)
        final = time.monotonic() - started
        address = next(peer["addrs"][0] for peer in peers if peer["id"] == right.peer_id)
    before = {way: host.received_bytes() for way, host in thirds.items()}
    for sender, receiver, start in ((left, right, 1), (right, left, 0)):
        sender.send(receiver, start, _MESSAGES, size=_SIZE)
        _check(receiver.received(sender, start + _MESSAGES), start + _MESSAGES)
    carried = [way for way, host in thirds.items() if host.received_bytes() - before[way] > _LITTLE]
    way = RELAYED if left.is_relayed(right) else PUNCHED if final is not None else DIRECT
    if address == "/webrtc":
        way, address = _webrtc(left)
    return Outcome(way, address, " and ".join(carried) or DIRECT, first, final)


def _webrtc(peer: Peer) -> Tuple[str, str]:
    """Which way a WebRTC connection goes, and its candidates."""
    (connection,) = peer.ask("diagnose")["webrtc"]["connections"]
    local, remote = connection["path"]["local"], connection["path"]["remote"]
    protocol = f" over {local['relay_protocol']}" if "relay_protocol" in local else ""
    return TURN if connection["relayed"] else WEBRTC, f"{local['type']}{protocol} - {remote['type']} {remote['address']}"


def _check(numbers: List[int], count: int) -> None:
    assert numbers == list(range(count)), f"expected {count} messages in order, got {numbers}"
