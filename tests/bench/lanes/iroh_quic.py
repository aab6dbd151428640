"""iroh: one QUIC stream between two endpoints on loopback, no relay, nothing looked up."""

from __future__ import annotations

import asyncio
from typing import Any, List

from async_endpoint import AsyncEndpoint, Cutter, frame, serve_in_loop
from endpoint import Lane

LANES = [Lane("iroh", optional=True, kind="peer")]
_ALPN = b"bench/1"
_READ = 1 << 20


class IrohEndpoint(AsyncEndpoint):
    def __init__(self) -> None:
        self._stream: Any = None
        self._incoming: Any = None
        self._cutter = Cutter()

    async def serve(self) -> None:
        import iroh

        self._iroh = iroh
        iroh.iroh_ffi.uniffi_set_event_loop(asyncio.get_running_loop())
        self._endpoint = await iroh.Endpoint.bind(iroh.EndpointOptions(
            preset=iroh.preset_minimal(), relay_mode=iroh.RelayMode.disabled(), bind_addr="127.0.0.1:0", alpns=[_ALPN]
        ))
        await serve_in_loop(self, asyncio.to_thread)
        await self._endpoint.close()

    async def listen(self) -> Any:
        self._incoming = asyncio.ensure_future(self._accept_connection())
        ipv4 = [address for address in self._endpoint.bound_sockets() if address.startswith("127.")]
        return [self._endpoint.id().to_bytes().hex(), ipv4]

    async def connect(self, address: Any) -> None:
        peer = self._iroh.EndpointId.from_bytes(bytes.fromhex(address[0]))
        self._connection = await self._endpoint.connect(self._iroh.EndpointAddr(peer, None, address[1]), _ALPN)
        self._use(await self._connection.open_bi())

    async def accept(self) -> None:
        """The stream becomes known with the first bytes of the peer."""
        if self._stream is None:
            self._connection = await self._incoming
            self._use(await self._connection.accept_bi())

    async def send_one(self, message: bytes) -> None:
        await self._outgoing.write_all(frame(message))

    async def take(self) -> List[Any]:
        while True:
            messages = self._cutter.add(await self._ingoing.read(_READ))
            if messages:
                return messages

    async def _accept_connection(self) -> Any:
        accepting = await (await self._endpoint.accept_next()).accept()
        return await accepting.connect()

    def _use(self, stream: Any) -> None:
        self._stream, self._outgoing, self._ingoing = stream, stream.send(), stream.recv()


if __name__ == "__main__":
    asyncio.run(IrohEndpoint().serve())
