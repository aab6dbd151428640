"""peerbus.Node in asyncio: await send, await receive_batch or (--receive single) async for."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any, Dict, List

from async_endpoint import AsyncEndpoint, serve_in_loop
from endpoint import Lane, Meter

LANES = [
    Lane("peerbus asyncio", ["--receive", "batch"]),
    Lane("peerbus asyncio, async for", ["--receive", "single"], sizes=(100, 1024)),
]
_WAIT_S = 60.0


class AsyncioEndpoint(AsyncEndpoint):
    def __init__(self, transport: str, receive: str) -> None:
        import node

        self._make = node
        self._transport = transport
        self._node: Any = node.new_node()
        self._peer = ""
        if receive == "single":
            self.receive = self._receive_single  # type: ignore[method-assign]

    async def listen(self) -> List[str]:
        return self._make.addresses_of(self._node, self._transport)

    async def connect(self, address: List[str]) -> None:
        await self._node.connect(address)
        self._peer = self._make.peer_of(address[0])

    async def accept(self) -> None:
        self._peer = self._peer or self._node.peers()[0]["id"]

    async def send_one(self, message: bytes) -> None:
        await self._node.send(self._peer, message)

    async def take(self) -> List[Any]:
        return [message.data for message in await self._node.receive_batch(timeout=_WAIT_S)]

    async def take_reply(self) -> List[Any]:
        return [(await self._node.receive(timeout=_WAIT_S)).data]

    async def _receive_single(self, size: int) -> Dict[str, Any]:
        meter = Meter(size)
        async for message in self._node.messages():
            if meter.add([message.data]):
                break
        return meter.result()

    async def serve(self) -> None:
        async with self._node:
            await serve_in_loop(self, asyncio.to_thread)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--transport", default="tcp")
    parser.add_argument("--receive", default="batch")
    options = parser.parse_args()
    asyncio.run(AsyncioEndpoint(options.transport, options.receive).serve())
