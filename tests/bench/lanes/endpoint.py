"""What every lane program is: one side of a pair of processes that takes orders as JSON lines on stdin.

    {"do": "listen"}                                  -> {"address": ...}     whatever connect of the same lane takes
    {"do": "connect", "address": ...}                 -> {}
    {"do": "send", "size": 100, "seconds": 1.0}       -> {"messages", "seconds"}; a message of one byte ends the series
    {"do": "receive", "size": 100}                    -> {"messages", "counted", "seconds"}: "counted" messages came
                                                         within "seconds", the clock starting at the first arrival
    {"do": "echo", "count": n}                        -> {}
    {"do": "round_trip", "size": 100, "count": n}     -> {"nanoseconds": [...]}; every reply is compared with what was sent
    {"do": "prove", "size": 100, "count": n}          -> {"digest"} of n random messages, which are sent
    {"do": "check", "size": 100, "count": n}          -> {"digest"} of the next n messages that arrive
    {"do": "quit"}                                    -> {}

Every answer also has "cpu_seconds", user and system, of the whole process. A new lane is one file here: a class with
the methods below (in asyncio or trio those of async_endpoint.py, for topics those of topic_endpoint.py), ``LANES``,
and ``serve`` at its end.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Callable, Dict, List, Optional

END = b"E"
MEASURES = ("send", "receive", "echo", "round_trip", "prove", "check")
_CLOCK_EVERY_MESSAGES = 256
_CLOCK_EVERY_BYTES = 1 << 20


@dataclass(frozen=True)
class Lane:
    """One row of the tables. ``arguments`` go to the program, which is the file that declares the lane.

    ``kind`` is "peerbus"; "peer", another library that encrypts; "unencrypted", a library that does not; or "limit".
    """

    name: str
    arguments: List[str] = field(default_factory=list)
    measures: tuple = ("one_way", "round_trip")
    sizes: Optional[tuple] = None  # None: all
    optional: bool = False  # needs the packages of requirements.txt
    kind: str = "peerbus"


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
        send, take, flush, message = self.sender(), self.take, self.flush, os.urandom(size)
        times, clock = [], time.perf_counter_ns
        for _ in range(count):
            start = clock()
            send(message)
            flush()
            replies = take()
            times.append(clock() - start)
            compare(replies, message)
        return {"nanoseconds": times}

    def prove(self, size: int, count: int) -> Dict[str, Any]:
        send, digest = self.sender(), Digest()
        for _ in range(count):
            message = os.urandom(size)
            send(message)
            digest.add([message])
        self.flush()
        return digest.result()

    def check(self, size: int, count: int) -> Dict[str, Any]:
        self.accept()
        digest = Digest()
        while digest.count < count:
            digest.add(self.take())
        return digest.result()


def compare(replies: List[Any], message: bytes) -> None:
    """That the echo is what was sent."""
    if len(replies) != 1 or bytes(replies[0]) != message:
        raise ValueError(f"{len(message)} bytes were sent; the echo is {len(replies)} messages of other content")


def receive_each(take_one: Callable[[], Any], size: int) -> Dict[str, Any]:
    """A series for libraries that hand over one message per call: the tightest loop that looks at every message."""
    last, clock = take_one(), time.perf_counter
    start, count = clock(), 0
    while len(last) == size:
        count += 1
        last = take_one()
    end = clock()
    if len(last) != len(END):
        raise ValueError(f"a message of {len(last)} bytes, not {size}")
    return {"messages": count, "counted": count - 1, "seconds": end - start}


class Digest:
    """What messages were, in their order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0

    def add(self, messages: List[Any]) -> None:
        for message in messages:
            self._hash.update(len(message).to_bytes(8, "big"))
            self._hash.update(message)
        self.count += len(messages)

    def result(self) -> Dict[str, Any]:
        return {"digest": self._hash.hexdigest()}


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

    def add_one(self, message: Any) -> bool:
        """add for callbacks that get one message at a time."""
        size = len(message)
        if size == self._size:
            self._count += 1
            if self._count == 1:
                self._first, self._start = 1, time.perf_counter()
            return False
        return self.add([message])

    def result(self) -> Dict[str, Any]:
        return {"messages": self._count, "counted": self._count - self._first, "seconds": self._end - self._start}


def serve(endpoint: Any) -> None:
    """Takes orders until "quit" or the end of stdin. ``ORDERS`` of the endpoint names those that are not the above."""
    try:
        for line in sys.stdin:
            call = order_of(endpoint, line)
            if call is None:
                break
            before = cpu_seconds()
            answer(call(), before)
    finally:
        endpoint.close()
    print("{}", flush=True)


def order_of(endpoint: Any, line: str) -> Optional[Callable[[], Any]]:
    """The call that a line orders; None for "quit"."""
    order = json.loads(line)
    do = order.pop("do")
    if do == "quit":
        return None
    if do not in ("listen", "connect", *getattr(endpoint, "ORDERS", MEASURES)):
        raise ValueError(f"unknown order {do!r}")
    return partial(getattr(endpoint, do), **order)


def answer(result: Any, cpu_before: float) -> None:
    if not isinstance(result, dict):
        result = {} if result is None else {"address": result}
    print(json.dumps({**result, "cpu_seconds": cpu_seconds() - cpu_before}), flush=True)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
