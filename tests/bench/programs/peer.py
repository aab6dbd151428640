"""A node on command, for the measurements with more than two processes: a stalled peer, topics, waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Dict, List

from endpoint import serve

import node as nodes
import peerbus

_STAMP_BYTES = 8
_FIRST_WAIT_S = 30.0
_FLOOD_WAIT_S = 0.5


class Peer:
    ORDERS = ("paced", "latencies", "fill", "subscribe", "publish_until_reached", "publish", "collect", "wait")

    def __init__(self) -> None:
        self._node = nodes.new_node().sync.start()
        self._flooding = threading.Event()
        self._flood: Any = None

    def listen(self) -> List[str]:
        return nodes.addresses_of(self._node, "tcp")

    def connect(self, address: List[str]) -> None:
        self._node.connect(address)

    def close(self) -> None:
        self._flooding.clear()
        if self._flood is not None:
            self._flood.join()
        self._node.close()

    # Stalled peer

    def paced(self, peer: str, count: int, size: int, interval: float) -> Dict[str, Any]:
        """Sends stamped messages at a steady pace; answers how long each send took."""
        send, clock, rest, taken = self._node.send, time.monotonic_ns, bytes(size - _STAMP_BYTES), []
        due = time.monotonic()
        for _ in range(count):
            due += interval
            time.sleep(max(0.0, due - time.monotonic()))
            start = clock()
            send(peer, start.to_bytes(_STAMP_BYTES, "big") + rest)
            taken.append(clock() - start)
        return {"nanoseconds": taken}

    def latencies(self, count: int) -> Dict[str, Any]:
        """From the stamp of each message to this process having it; the clock is one for the whole machine."""
        clock, taken = time.monotonic_ns, []
        while len(taken) < count:
            message = self._node.receive(timeout=_FIRST_WAIT_S)
            taken.append(clock() - int.from_bytes(message.data[:_STAMP_BYTES], "big"))
        return {"nanoseconds": taken}

    def fill(self, peer: str, size: int) -> Dict[str, Any]:
        """Sends to a peer until it has no room, and goes on trying in a thread."""
        payload, count = bytes(size), 0
        try:
            while True:
                self._node.send(peer, payload, timeout=0)
                count += 1
        except peerbus.WouldBlockError:
            pass
        self._flooding.set()
        self._flood = threading.Thread(target=self._go_on, args=(peer, payload))
        self._flood.start()
        return {"messages": count}

    def _go_on(self, peer: str, payload: bytes) -> None:
        while self._flooding.is_set():
            try:
                self._node.send(peer, payload, timeout=_FLOOD_WAIT_S)
            except peerbus.WouldBlockError:
                continue
            except peerbus.PeerbusError:
                return

    # Topics

    def subscribe(self, channel: str) -> Dict[str, Any]:
        self._node.subscribe(channel)
        return {}

    def publish_until_reached(self, channel: str, subscribers: int) -> Dict[str, Any]:
        deadline = time.monotonic() + _FIRST_WAIT_S
        while self._node.publish(channel, b"?") < subscribers:
            if time.monotonic() > deadline:
                raise TimeoutError(f"fewer than {subscribers} subscribers after {_FIRST_WAIT_S} s")
            time.sleep(0.05)
        return {}

    def publish(self, channel: str, size: int, seconds: float) -> Dict[str, Any]:
        payload, count, refused = bytes(size), 0, 0
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            try:
                self._node.publish(channel, payload)
                count += 1
            except peerbus.WouldBlockError:
                refused += 1
        return {"messages": count, "refused": refused, "seconds": time.perf_counter() - start}

    def collect(self, size: int, quiet: float) -> Dict[str, Any]:
        """Counts messages of the size until none comes for ``quiet`` seconds."""
        count, first, last, wait, gaps = 0, 0.0, 0.0, _FIRST_WAIT_S, 0
        while True:
            batch = [m for m in self._node.receive_batch(timeout=wait)]
            if not batch:
                break
            count += sum(len(m.data) == size for m in batch)
            gaps += sum(m.gap for m in batch)
            if count:
                last = time.perf_counter()
                first, wait = first or last, quiet
        lost = self._node.statistics().get("lost", {})
        return {"messages": count, "gaps": gaps, "seconds": last - first, "lost": lost}

    # Waiting

    def wait(self, style: str, seconds: float) -> Dict[str, Any]:
        """Waits for a message that does not come: in a blocking receive, in asyncio, or not at all."""
        if style == "none":
            time.sleep(seconds)
        elif style == "blocking":
            self._node.receive_batch(timeout=seconds)
        else:
            asyncio.run(self._node.asynchronous.receive_batch(timeout=seconds))
        return {}


if __name__ == "__main__":
    serve(Peer())
