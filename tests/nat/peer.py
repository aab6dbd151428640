"""A node on command, for the tests of NATs. Orders are JSON lines on stdin, see the methods of Peer for their fields.

An order that fails answers {"error": code, "message": text}. What arrives and what happens is kept from the start, so
that no order has to be waiting for it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List

import peerbus

_LOOK_S = 0.02
_TRY_S = 5.0
_NUMBER_BYTES = 8


class Peer:
    """The node, what it received, by sender, as numbers, and its events."""

    def __init__(self, config: Dict[str, Any]) -> None:
        self._changed = threading.Condition()
        self._received: Dict[str, List[int]] = defaultdict(list)
        self._events: List[Dict[str, Any]] = []
        self._threads = ThreadPoolExecutor(1)
        self._sending: Any = None
        self._node: Any = peerbus.Node(config=config).sync
        self._node.start()
        self._node.on_event(self._note)
        threading.Thread(target=self._receive, daemon=True).start()

    def about(self) -> Dict[str, Any]:
        return {"peer_id": self._node.peer_id, "addresses": self._node.addresses, "reachability": self._node.reachability}

    def connect(self, addresses: List[str], timeout: float) -> Dict[str, Any]:
        started = time.monotonic()
        answer = self._node.connect(addresses, timeout=timeout)
        return {"address": answer["Addrs"][0], "seconds": time.monotonic() - started}

    def disconnect(self, peer: str) -> None:
        self._node.disconnect(peer)

    def reserve(self, relay: str) -> Dict[str, Any]:
        return {"expires": self._node.reserve_on_relay(relay)}

    def static_relay(self, addresses: List[str]) -> Dict[str, Any]:
        return {"expires": self._node.start_static_relay(addresses)}

    def send(self, peer: str, first: int, count: int, size: int, pace: float, timeout: float) -> Dict[str, Any]:
        """Numbered messages, each tried until it is taken; how often that failed, by code."""
        failures: Dict[str, int] = defaultdict(int)
        deadline = time.monotonic() + timeout
        for number in range(first, first + count):
            message = number.to_bytes(_NUMBER_BYTES, "big") + bytes(max(0, size - _NUMBER_BYTES))
            while True:
                try:
                    self._node.send(peer, message, timeout=_TRY_S)
                    break
                except peerbus.PeerbusError as error:
                    failures[error.code] += 1
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(_LOOK_S)
            time.sleep(pace)
        return {"failures": failures}

    def begin_send(self, **order: Any) -> None:
        """send, in a thread; other orders are obeyed meanwhile."""
        self._sending = self._threads.submit(self.send, **order)

    def end_send(self) -> Dict[str, Any]:
        """The answer of the send that was begun."""
        return self._sending.result()

    def subscribe(self, topic: str) -> None:
        self._node.subscribe(topic)

    def begin_publish(self, topic: str, first: int, count: int, size: int, pace: float) -> None:
        """Numbered messages on a topic, in a thread."""
        self._sending = self._threads.submit(self._publish, topic, first, count, size, pace)

    def _publish(self, topic: str, first: int, count: int, size: int, pace: float) -> Dict[str, Any]:
        """How many messages reached how many subscribers."""
        reached: Dict[int, int] = defaultdict(int)
        for number in range(first, first + count):
            message = number.to_bytes(_NUMBER_BYTES, "big") + bytes(max(0, size - _NUMBER_BYTES))
            reached[int(self._node.publish(topic, message, timeout=_TRY_S))] += 1
            time.sleep(pace)
        return {"reached": reached}

    def received(self, peer: str, count: int, timeout: float) -> Dict[str, Any]:
        """The numbers that came from the peer, when they are count different ones or the time is over."""
        self._until(lambda: len(set(self._received[peer])) >= count, timeout)
        return {"numbers": self._received[peer]}

    def await_event(self, type: str, fields: Dict[str, Any], timeout: float) -> Dict[str, Any]:
        """The first event of that type with these fields, since the start or since "forget"."""
        def found() -> Any:
            return next((e for e in self._events if e["type"] == type and fields.items() <= e.items()), None)

        return {"event": self._until(found, timeout)}

    def await_way(self, peer: str, relayed: bool, timeout: float) -> Dict[str, Any]:
        """Until the peer is listed with or without a direct connection; how long that took."""
        started = time.monotonic()
        self._until(lambda: any(p["id"] == peer and p["relayed"] == relayed for p in self._node.peers()), timeout)
        return {"seconds": time.monotonic() - started, "peers": self._node.peers()}

    def await_channel(self, peer: str, relayed: bool, timeout: float) -> None:
        """Until the channel's stream to the peer is one through a relay, or is not."""
        channel = self._node.channel(peer)
        self._until(lambda: ("/p2p-circuit" in channel.info()["address"]) == relayed, timeout)
        channel.close()

    def await_address(self, part: str, present: bool, timeout: float) -> Dict[str, Any]:
        """Until one of the own addresses contains the part, or none does."""
        self._until(lambda: any(part in address for address in self._node.addresses) == present, timeout)
        return {"addresses": self._node.addresses}

    def await_address_of(self, peer: str, part: str, timeout: float) -> Dict[str, Any]:
        """Until one of the addresses that this node knows of the peer contains the part."""
        self._until(lambda: any(part in address for address in self._node.addresses_of(peer)), timeout)
        return {"addresses": self._node.addresses_of(peer)}

    def await_advice(self, code: str, present: bool, timeout: float) -> Dict[str, Any]:
        """Until the diagnosis advises that, or no longer does; all that it advises."""
        def codes() -> List[str]:
            return [advice["code"] for advice in self._node.diagnose()["advice"]]

        self._until(lambda: (code in codes()) == present, timeout)
        return {"codes": codes()}

    def await_no_lingering(self, timeout: float) -> Dict[str, Any]:
        """Until no relayed connection is left beside a direct one; those that are left."""
        def left() -> List[Any]:
            return list(self._node.diagnose()["connections"]["lingering"])

        self._until(lambda: not left(), timeout)
        return {"lingering": left()}

    def await_subscriber(self, topic: str, timeout: float) -> Dict[str, Any]:
        return {"peers": self._node.wait_for_topic_peers(topic, 1, timeout=timeout)}

    def forget(self) -> None:
        with self._changed:
            self._events.clear()

    def peers(self) -> Dict[str, Any]:
        return {"peers": self._node.peers()}

    def events(self) -> Dict[str, Any]:
        return {"events": self._events}

    def statistics(self) -> Dict[str, Any]:
        return dict(self._node.statistics())

    def diagnose(self) -> Dict[str, Any]:
        return dict(self._node.diagnose())

    def close(self) -> None:
        self._node.close()

    def _note(self, event: Any) -> None:
        with self._changed:
            self._events.append(dict(event))
            self._changed.notify_all()

    def _receive(self) -> None:
        while not self._node.closed:
            try:
                batch = self._node.receive_batch(timeout=_TRY_S)
            except peerbus.PeerbusError:
                return
            with self._changed:
                for message in batch:
                    self._received[message.sender].append(int.from_bytes(message.data[:_NUMBER_BYTES], "big"))
                self._changed.notify_all()

    def _until(self, found: Callable[[], Any], timeout: float) -> Any:
        """What found answers, once it is true: asked at every message and event, and now and then between."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                result = found()
                if result or time.monotonic() > deadline:
                    return result
                self._changed.wait(_LOOK_S)


def main() -> None:
    peer = Peer(json.loads(sys.argv[1]))
    for line in sys.stdin:
        order = json.loads(line)
        do = order.pop("do")
        if do == "quit":
            break
        try:
            answer = getattr(peer, do)(**order) or {}
        except peerbus.PeerbusError as error:
            answer = {"error": error.code, "message": str(error)}
        print(json.dumps(answer), flush=True)
    peer.close()


if __name__ == "__main__":
    main()
