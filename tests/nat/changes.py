"""What happens to relays and addresses while two nodes talk; each function brings one thing about, in its own internet."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple

from nodes import DEADLINE_S, Peer, Relay, config
from topology import PORT_RESTRICTED, SYMMETRIC, Network

_MANY = 200
_PACE_S = 0.02
_PATIENCE_S = 150.0  # more than messages wait for a peer to return
_SHORT_RESERVATION_S = 4


class Pair:
    """Two nodes that talk, left to right."""

    def __init__(self, network: Network, directory: Path, relays: List[Relay], left: Peer, right: Peer) -> None:
        self.network, self.directory, self.relays, self.left, self.right = network, directory, relays, left, right
        self._sent = 0

    def go_on(self, during: Callable[[], object] = lambda: None) -> None:
        """Sends while something happens. Every message arrives, once and in order."""
        self.left.begin_send(self.right, self._sent, _MANY, pace=_PACE_S, timeout=_PATIENCE_S)
        during()
        self.left.end_send()
        self._sent += _MANY
        numbers = self.right.received(self.left, self._sent, _PATIENCE_S)
        assert numbers == list(range(self._sent)), f"of {self._sent} messages {len(set(numbers))} came; losses: {self.losses()}"

    def losses(self) -> Dict[str, int]:
        return {f"{name} {way} {reason}": count for name, peer in (("left", self.left), ("right", self.right))
                for way, reasons in peer.ask("statistics")["lost"].items() for reason, count in reasons.items()}


@contextlib.contextmanager
def pair(directory: Path, relays: int = 1, *options: str) -> Iterator[Pair]:
    """Two nodes behind symmetric NATs, who only have relays; connected, and they have talked."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network("change"))
        relay_hosts = [network.host(f"relay{number}", network.internet) for number in range(relays)]
        running = [stack.enter_context(Relay(host, directory, "--broad-limits", *options)) for host in relay_hosts]
        routers = {name: network.router(f"{name}-router", network.internet, SYMMETRIC) for name in ("left", "right")}
        hosts = [network.host(name, router.lan) for name, router in routers.items()]
        left, right = (stack.enter_context(Peer(host, config(directory, host))) for host in hosts)
        right.ask("static_relay", addresses=running[0].addresses())
        left.connect(right)
        made = Pair(network, directory, running, left, right)
        made.go_on()
        yield made


def relay_killed_and_restarted(directory: Path) -> None:
    with pair(directory) as nodes:
        nodes.go_on(nodes.relays[0].restart)


def relay_changed(directory: Path) -> None:
    """The peer moves to another relay and tells; then the first one goes for good."""
    with pair(directory, 2) as nodes:
        first, second = nodes.relays

        def change() -> None:
            nodes.right.ask("static_relay", addresses=second.addresses())
            learned = nodes.left.ask("await_address_of", peer=nodes.right.peer_id, part=second.peer_id, timeout=DEADLINE_S)
            assert any(second.peer_id in address for address in learned["addresses"]), "nobody told the other side"
            first.kill()

        nodes.go_on(change)
        assert all(second.peer_id in address for address in nodes.right.circuits())


def link_down_and_up(directory: Path) -> None:
    with pair(directory) as nodes:
        def flap() -> None:
            nodes.left.host.link_down()
            nodes.left.host.link_up()

        nodes.go_on(flap)


def address_of_the_sender_changed(directory: Path) -> None:
    with pair(directory) as nodes:
        nodes.go_on(nodes.left.host.change_address)


def address_of_the_receiver_changed(directory: Path) -> None:
    with pair(directory) as nodes:
        nodes.go_on(nodes.right.host.change_address)


def address_of_a_direct_connection_changed(directory: Path) -> None:
    """No relay at all: the node behind the NAT dials again from its new address."""
    with Network("change") as network:
        host = network.host("left", network.router("router", network.internet, PORT_RESTRICTED).lan)
        public = network.host("right", network.internet)
        with Peer(host, config(directory, host)) as left, Peer(public, config(directory, public)) as right:
            left.connect(right)
            nodes = Pair(network, directory, [], left, right)
            nodes.go_on(host.change_address)


def reservation_expired(directory: Path) -> None:
    """The receiver is cut off until its reservation is over; back again, it reserves anew without being told to."""
    with pair(directory, 1, f"--reservation={_SHORT_RESERVATION_S}") as nodes:
        def outlast() -> None:
            nodes.right.ask("forget")
            nodes.right.host.link_down()
            nodes.right.await_event("relay_lost")
            nodes.right.host.link_up()
            nodes.right.await_event("relay_reserved")

        nodes.go_on(outlast)


ALL: List[Tuple[str, Callable[[Path], None]]] = [
    (function.__name__.replace("_", " "), function) for function in (
        relay_killed_and_restarted, relay_changed, link_down_and_up, address_of_the_sender_changed,
        address_of_the_receiver_changed, address_of_a_direct_connection_changed, reservation_expired,
    )
]
