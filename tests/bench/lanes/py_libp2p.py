"""py-libp2p: one yamux stream over TCP and Noise, which is its default and faster than its TLS."""

from __future__ import annotations

from typing import Any, List

from async_endpoint import AsyncEndpoint, Cutter, frame, serve_in_loop
from endpoint import Lane

LANES = [Lane("py-libp2p", optional=True, kind="peer")]
_PROTOCOL = "/bench/1.0.0"
_READ = 1 << 20
_LISTEN = "/ip4/127.0.0.1/tcp/0"


class PyLibp2pEndpoint(AsyncEndpoint):
    def __init__(self) -> None:
        self._stream: Any = None
        self._cutter = Cutter()

    async def serve(self) -> None:
        import libp2p
        import multiaddr
        import trio

        self._trio, self._multiaddr = trio, multiaddr.Multiaddr
        self._host: Any = libp2p.new_host()
        self._opened, self._ingoing = trio.open_memory_channel(1)
        self._host.set_stream_handler(_PROTOCOL, self._hold)
        async with self._host.run([self._multiaddr(_LISTEN)]):
            await serve_in_loop(self, trio.to_thread.run_sync)

    async def listen(self) -> Any:
        return str(self._host.get_addrs()[0])

    async def connect(self, address: Any) -> None:
        from libp2p.peer.peerinfo import info_from_p2p_addr

        peer = info_from_p2p_addr(self._multiaddr(address))
        await self._host.connect(peer)
        self._stream = await self._host.new_stream(peer.peer_id, [_PROTOCOL])

    async def accept(self) -> None:
        if self._stream is None:
            self._stream = await self._ingoing.receive()

    async def send_one(self, message: bytes) -> None:
        await self._stream.write(frame(message))

    async def take(self) -> List[Any]:
        while True:
            part = await self._stream.read(_READ)
            if not part:
                raise ConnectionError("the peer closed the stream")
            messages = self._cutter.add(part)
            if messages:
                return messages

    async def _hold(self, stream: Any) -> None:
        await self._opened.send(stream)
        await self._trio.sleep_forever()


if __name__ == "__main__":
    import trio

    trio.run(PyLibp2pEndpoint().serve)
