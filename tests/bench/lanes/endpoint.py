"""What every lane program is: one side of a pair of processes that takes orders as JSON lines on stdin.

    {"do": "listen"}                                  -> {"address": ...}     whatever connect of the same lane takes
    {"do": "connect", "address": ...}                 -> {}
    {"do": "send", "size": 100, "seconds": 1.0}       -> {"messages", "seconds"}; a message of one byte ends the series
    {"do": "receive", "size": 100}                    -> {"messages", "counted", "seconds"}: "counted" messages came
                                                         within "seconds", the clock starting at the first arrival
    {"do": "echo", "count": n}                        -> {}
    {"do": "round_trip", "size": 100, "count": n}     -> {"nanoseconds": [...]}
    {"do": "quit"}                                    -> {}

Every answer also has "cpu_seconds", user and system, of the whole process. A new lane is one file here: a class with
the methods below, ``LANES``, and ``serve`` at its end.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional

END = b"E"
MEASURES = ("send", "receive", "echo", "round_trip")
_CLOCK_EVERY_MESSAGES = 256
_CLOCK_EVERY_BYTES = 1 << 20


@dataclass(frozen=True)
class Lane:
    """One row of the tables. ``arguments`` go to the program, which is the file that declares the lane."""

    name: str
    arguments: List[str] = field(default_factory=list)
    measures: tuple = ("one_way", "round_trip")
    sizes: Optional[tuple] = None  # None: all
    optional: bool = False  # needs the packages of requirements.txt
    kind: str = "peerbus"  # "peerbus", "limit" or "peer"


class Endpoint:
    """The blocking style. Override what differs; hot loops bind ``sender()`` and ``take`` once."""

    def listen(self) -> Any:
        raise NotImplementedError

    def connect(self, address: Any) -> None:
        raise NotImplementedError

    def accept(self) -> None:
        """The side that listens calls this before it sends or receives; the peer has connected by then."""

    def sender(self) -> Callable[[bytes], object]:
        """Answers what sends one message to the peer."""
        raise NotImplementedError

    def take(self) -> List[Any]:
        """Waits for messages and answers those that came, as objects of the buffer protocol."""
        raise NotImplementedError

    def flush(self) -> None:
        """Returns when everything sent is on its way without further calls."""

    def close(self) -> None:
        """Ends this side."""

    def send(self, size: int, seconds: float) -> Dict[str, Any]:
        send, message, count = self.sender(), bytes(size), 0
        burst = burst_of(size)
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            for _ in range(burst):
                send(message)
            count += burst
        taken = time.perf_counter() - start
        send(END)
        self.flush()
        return {"messages": count, "seconds": taken}

    def receive(self, size: int) -> Dict[str, Any]:
        self.accept()
        meter = Meter(size)
        while not meter.add(self.take()):
            pass
        return meter.result()

    def echo(self, count: int) -> Dict[str, Any]:
        self.accept()
        send = self.sender()
        while count:
            for message in self.take():
                send(message)
                count -= 1
            self.flush()
        return {}

    def round_trip(self, size: int, count: int) -> Dict[str, Any]:
        send, take, flush, message, clock = self.sender(), self.take, self.flush, bytes(size), time.perf_counter_ns
        times = []
        for _ in range(count):
            start = clock()
            send(message)
            flush()
            take()
            times.append(clock() - start)
        return {"nanoseconds": times}


def burst_of(size: int) -> int:
    """Messages to send between two looks at the clock."""
    return max(1, min(_CLOCK_EVERY_MESSAGES, _CLOCK_EVERY_BYTES // size))


class Meter:
    """Counts a series at the receiver. What came in the first batch starts the clock and is not counted."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._first = 0
        self._count = 0
        self._start = 0.0
        self._end = 0.0

    def add(self, batch: List[Any]) -> bool:
        """Whether the mark of the end was in the batch. Looks at every message: all must have the size."""
        ended = bool(batch) and len(batch[-1]) == 1
        count = len(batch) - ended
        sizes = set(map(len, batch))
        if not sizes <= ({self._size, 1} if ended else {self._size}):
            raise ValueError(f"messages of {sorted(sizes)} bytes, not {self._size}")
        if not self._start and count:
            self._start = time.perf_counter()
            self._first = count
        self._count += count
        if ended:
            self._end = time.perf_counter()
        return ended

    def result(self) -> Dict[str, Any]:
        return {"messages": self._count, "counted": self._count - self._first, "seconds": self._end - self._start}


def serve(endpoint: Any) -> None:
    """Takes orders until "quit" or the end of stdin. ``ORDERS`` of the endpoint names those that are not the above."""
    try:
        for line in sys.stdin:
            order = json.loads(line)
            do = order.pop("do")
            if do == "quit":
                break
            before = _cpu_seconds()
            result = _obey(endpoint, do, order)
            result["cpu_seconds"] = _cpu_seconds() - before
            print(json.dumps(result), flush=True)
    finally:
        endpoint.close()
    print("{}", flush=True)


def _obey(endpoint: Any, do: str, order: Dict[str, Any]) -> Dict[str, Any]:
    if do == "listen":
        return {"address": endpoint.listen()}
    if do == "connect":
        endpoint.connect(order["address"])
        return {}
    if do not in getattr(endpoint, "ORDERS", MEASURES):
        raise ValueError(f"unknown order {do!r}")
    result: Dict[str, Any] = getattr(endpoint, do)(**order)
    return result


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
