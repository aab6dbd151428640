"""A node on command, for the measurements that only peerbus has: a stalled peer, waiting."""

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
    ORDERS = ("paced", "latencies", "fill", "stop", "count", "wait")

    def __init__(self) -> None:
        self._node = nodes.new_node().sync.start()
        self._flooding = threading.Event()
        self._flood: Any = None
        self._accepted = 0

    def listen(self) -> List[str]:
        return nodes.addresses_of(self._node, "tcp")

    def connect(self, address: List[str]) -> None:
        self._node.connect(address)

    def close(self) -> None:
        self.stop()
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
        """Sends to a peer until it has no room, and goes on trying in a thread until "stop"."""
        payload = bytes(size)
        try:
            while True:
                self._node.send(peer, payload, timeout=0)
                self._accepted += 1
        except peerbus.WouldBlockError:
            pass
        self._flooding.set()
        self._flood = threading.Thread(target=self._go_on, args=(peer, payload))
        self._flood.start()
        return {"messages": self._accepted}

    def _go_on(self, peer: str, payload: bytes) -> None:
        while self._flooding.is_set():
            try:
                self._node.send(peer, payload, timeout=_FLOOD_WAIT_S)
                self._accepted += 1
            except peerbus.WouldBlockError:
                continue
            except peerbus.PeerbusError:
                return

    def stop(self) -> Dict[str, Any]:
        """Ends the flood; how many messages of it were accepted, and what this side counts as lost."""
        self._flooding.clear()
        if self._flood is not None:
            self._flood.join()
        return {"messages": self._accepted, "lost": nodes.losses_of(self._node)}

    def count(self, size: int, quiet: float) -> Dict[str, Any]:
        """Messages of the size until none comes for quiet seconds, and what this side counts as lost."""
        count = 0
        while True:
            batch = [message for message in self._node.receive_batch(timeout=quiet)]
            if not batch:
                return {"messages": count, "lost": nodes.losses_of(self._node)}
            count += sum(len(message.data) == size for message in batch)

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
