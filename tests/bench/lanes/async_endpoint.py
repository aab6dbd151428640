"""The lanes of libraries that live in an event loop. The orders are those of endpoint.py."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Awaitable, Callable, Dict, List

from endpoint import END, Digest, Meter, answer, burst_of, compare, cpu_seconds, order_of


class AsyncEndpoint:
    """Override ``listen``, ``connect``, ``send_one`` and ``take``, and what else differs."""

    async def listen(self) -> Any:
        raise NotImplementedError

    async def connect(self, address: Any) -> None:
        raise NotImplementedError

    async def accept(self) -> None:
        """The side that listens calls this before it sends or receives; the peer has connected by then."""

    async def send_one(self, message: bytes) -> None:
        raise NotImplementedError

    async def take(self) -> List[Any]:
        """Waits for messages and answers those that came, as objects of the buffer protocol."""
        raise NotImplementedError

    async def take_reply(self) -> List[Any]:
        """take, where the library has a call for a single message."""
        return await self.take()

    async def send(self, size: int, seconds: float) -> Dict[str, Any]:
        send, message, count = self.send_one, bytes(size), 0
        burst = burst_of(size)
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            for _ in range(burst):
                await send(message)
            count += burst
        taken = time.perf_counter() - start
        await send(END)
        return {"messages": count, "seconds": taken}

    async def receive(self, size: int) -> Dict[str, Any]:
        await self.accept()
        meter = Meter(size)
        while not meter.add(await self.take()):
            pass
        return meter.result()

    async def echo(self, count: int) -> Dict[str, Any]:
        await self.accept()
        while count:
            for message in await self.take_reply():
                await self.send_one(message)
                count -= 1
        return {}

    async def round_trip(self, size: int, count: int) -> Dict[str, Any]:
        send, take, message = self.send_one, self.take_reply, os.urandom(size)
        times, clock = [], time.perf_counter_ns
        for _ in range(count):
            start = clock()
            await send(message)
            replies = await take()
            times.append(clock() - start)
            compare(replies, message)
        return {"nanoseconds": times}

    async def prove(self, size: int, count: int) -> Dict[str, Any]:
        digest = Digest()
        for _ in range(count):
            message = os.urandom(size)
            await self.send_one(message)
            digest.add([message])
        return digest.result()

    async def check(self, size: int, count: int) -> Dict[str, Any]:
        await self.accept()
        digest = Digest()
        while digest.count < count:
            digest.add(await self.take())
        return digest.result()


async def serve_in_loop(endpoint: Any, in_thread: Callable[[Callable[[], str]], Awaitable[str]]) -> None:
    """serve of endpoint.py for one event loop: asyncio.to_thread or trio.to_thread.run_sync waits for the next line."""
    while True:
        line = await in_thread(sys.stdin.readline)
        call = order_of(endpoint, line) if line else None
        if call is None:
            break
        before = cpu_seconds()
        answer(await call(), before)
    print("{}", flush=True)


class Cutter:
    """Cuts the bytes of a stream into messages, each behind its length in four bytes."""

    def __init__(self) -> None:
        self._parts: List[bytes] = []
        self._waiting = 0
        self._needed = 4

    def add(self, part: bytes) -> List[memoryview]:
        """The messages that are whole now. Parts of a large one are joined once, when the last came."""
        self._parts.append(part)
        self._waiting += len(part)
        if self._waiting < self._needed:
            return []
        whole = memoryview(b"".join(self._parts) if len(self._parts) > 1 else part)
        messages, start, self._needed = [], 0, 4
        while len(whole) - start >= 4:
            end = start + 4 + int.from_bytes(whole[start:start + 4], "big")
            if end > len(whole):
                self._needed = end - start
                break
            messages.append(whole[start + 4:end])
            start = end
        self._parts, self._waiting = [bytes(whole[start:])], len(whole) - start
        return messages


def frame(message: Any) -> bytes:
    return len(message).to_bytes(4, "big") + message
