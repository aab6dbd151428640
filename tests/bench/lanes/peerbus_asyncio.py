"""peerbus.Node in asyncio: await send, await receive_batch or (--receive single) async for."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any, Dict, List

from endpoint import END, Lane, Meter, burst_of, serve

LANES = [
    Lane("peerbus asyncio", ["--receive", "batch"]),
    Lane("peerbus asyncio, async for", ["--receive", "single"], sizes=(100, 1024)),
]
_WAIT_S = 60.0


class AsyncEndpoint:
    """One event loop for the whole life of the process, so that what it caches stays warm between orders."""

    def __init__(self, transport: str, receive: str) -> None:
        import node

        self._make = node
        self._transport = transport
        self._single = receive == "single"
        self._loop = asyncio.new_event_loop()
        self._node: Any = node.new_node()
        self._peer = ""
        self._loop.run_until_complete(self._node.start())

    def listen(self) -> List[str]:
        return self._make.addresses_of(self._node, self._transport)

    def connect(self, address: List[str]) -> None:
        self._loop.run_until_complete(self._node.connect(address))
        self._peer = self._make.peer_of(address[0])

    def send(self, **order: Any) -> Dict[str, Any]:
        return self._loop.run_until_complete(self._send(**order))

    def receive(self, size: int) -> Dict[str, Any]:
        measure = self._receive_single if self._single else self._receive_batch
        return self._loop.run_until_complete(measure(size))

    def echo(self, count: int) -> Dict[str, Any]:
        return self._loop.run_until_complete(self._echo(count))

    def round_trip(self, **order: Any) -> Dict[str, Any]:
        return self._loop.run_until_complete(self._round_trip(**order))

    def close(self) -> None:
        self._loop.run_until_complete(self._node.close())
        self._loop.close()

    async def _send(self, size: int, seconds: float) -> Dict[str, Any]:
        send, peer, message, count = self._node.send, self._peer, bytes(size), 0
        burst = burst_of(size)
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            for _ in range(burst):
                await send(peer, message)
            count += burst
        taken = time.perf_counter() - start
        await send(peer, END)
        return {"messages": count, "seconds": taken}

    async def _receive_batch(self, size: int) -> Dict[str, Any]:
        meter = Meter(size)
        while not meter.add([m.data for m in await self._node.receive_batch(timeout=_WAIT_S)]):
            pass
        return meter.result()

    async def _receive_single(self, size: int) -> Dict[str, Any]:
        meter = Meter(size)
        async for message in self._node.messages():
            if meter.add([message.data]):
                break
        return meter.result()

    async def _echo(self, count: int) -> Dict[str, Any]:
        peer = self._peer or self._node.peers()[0]["id"]
        for _ in range(count):
            message = await self._node.receive(timeout=_WAIT_S)
            await self._node.send(peer, message.data)
        return {}

    async def _round_trip(self, size: int, count: int) -> Dict[str, Any]:
        send, receive, message, clock, times = self._node.send, self._node.receive, bytes(size), time.perf_counter_ns, []
        for _ in range(count):
            start = clock()
            await send(self._peer, message)
            await receive(timeout=_WAIT_S)
            times.append(clock() - start)
        return {"nanoseconds": times}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--transport", default="tcp")
    parser.add_argument("--receive", default="batch")
    options = parser.parse_args()
    serve(AsyncEndpoint(options.transport, options.receive))
