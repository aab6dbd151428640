"""One side of the measurement of topics. Beside "listen" and "connect" of endpoint.py it takes these orders:

    {"do": "subscribe"}                                   -> {}
    {"do": "first"}                                       -> {} when a probe has arrived
    {"do": "probe"}                                       -> {}; publishes one byte
    {"do": "publish", "size": 1024, "seconds": 1.0}       -> {"messages", "refused", "seconds"}
    {"do": "collect", "size": 1024, "quiet": 1.5}         -> {"messages", "seconds", "lost"}: what came until nothing
                                                             came for "quiet" seconds
    {"do": "prove", "size": 1024, "count": n}             -> {"digest"} of n random messages, published at a slow pace
    {"do": "check", "size": 1024, "count": n}             -> {"digest"} of the next n messages of that size
"""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List

from endpoint import Digest

FIRST_WAIT_S = 30.0
PROBE = b"?"
_BURST = 16
_PACE_S = 0.002


class TopicEndpoint:
    ORDERS = ("subscribe", "first", "probe", "publish", "collect", "prove", "check")

    def subscribe(self) -> None:
        raise NotImplementedError

    def publish_one(self, message: bytes) -> bool:
        """Publishes; False when the library said that it had no room."""
        raise NotImplementedError

    def take(self, timeout: float) -> List[Any]:
        """What has arrived, as objects of the buffer protocol; waits for something up to timeout seconds."""
        raise NotImplementedError

    def lost(self) -> Dict[str, int]:
        """What this side counts as lost, by reason, where the library counts."""
        return {}

    def first(self) -> None:
        if not self.take(FIRST_WAIT_S):
            raise TimeoutError(f"no probe within {FIRST_WAIT_S} s")

    def probe(self) -> None:
        self.publish_one(PROBE)

    def publish(self, size: int, seconds: float) -> Dict[str, Any]:
        publish_one, message, count, refused, clock = self.publish_one, bytes(size), 0, 0, time.perf_counter
        start = clock()
        while clock() - start < seconds:
            for _ in range(_BURST):
                if publish_one(message):
                    count += 1
                else:
                    refused += 1
        return {"messages": count, "refused": refused, "seconds": clock() - start}

    def collect(self, size: int, quiet: float) -> Dict[str, Any]:
        count, first, last, wait, take = 0, 0.0, 0.0, FIRST_WAIT_S, self.take
        while True:
            batch = take(wait)
            if not batch:
                break
            count += sum(len(message) == size for message in batch)
            if count:
                last = time.perf_counter()
                first, wait = first or last, quiet
        return {"messages": count, "seconds": last - first, "lost": self.lost()}

    def prove(self, size: int, count: int) -> Dict[str, Any]:
        digest = Digest()
        for _ in range(count):
            message = os.urandom(size)
            if not self.publish_one(message):
                raise RuntimeError("a paced message was refused")
            digest.add([message])
            time.sleep(_PACE_S)  # the pace that every library carries without loss; nothing is measured here
        return digest.result()

    def check(self, size: int, count: int) -> Dict[str, Any]:
        digest = Digest()
        while digest.count < count:
            batch = self.take(FIRST_WAIT_S)
            if not batch:
                raise TimeoutError(f"{digest.count} of {count} messages arrived")
            digest.add([message for message in batch if len(message) == size])
        return digest.result()
