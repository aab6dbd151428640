"""Program: a stock py-libp2p host, run with the Python of .venv/bench. It knows nothing of peerbus' protocols: it opens and
accepts streams, moves bytes and, with --topics, publishes as it is told. One order a line, one answer each; payloads are
base64."""

import base64
import contextlib
import json
import sys

import libp2p
import multiaddr
import trio
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service


class Peer:
    def __init__(self, host, pubsub):
        self.host, self.pubsub, self.streams, self.offered = host, pubsub, [], {}

    async def listen(self):
        return {"id": str(self.host.get_id()), "address": str(self.host.get_addrs()[0])}

    async def connect(self, address):
        await self.host.connect(info_from_p2p_addr(multiaddr.Multiaddr(address)))

    async def disconnect(self, peer):
        await self.host.disconnect(ID.from_string(peer))

    async def open(self, peer, protocols):
        stream = await self.host.new_stream(ID.from_string(peer), protocols)
        return {"stream": self._number(stream), "protocol": str(stream.get_protocol())}

    async def serve(self, protocol):
        send, self.offered[protocol] = trio.open_memory_channel(64)

        async def hold(stream):
            await send.send(stream)
            await trio.sleep_forever()

        self.host.set_stream_handler(protocol, hold)

    async def accept(self, protocol):
        return {"stream": self._number(await self.offered[protocol].receive())}

    async def write(self, stream, data):
        await self.streams[stream].write(base64.b64decode(data))

    async def read(self, stream, limit):
        try:
            data = await self.streams[stream].read(limit)
        except StreamError as problem:
            return {"end": type(problem).__name__}
        return {"data": base64.b64encode(data).decode()} if data else {"end": "StreamEOF"}

    async def close_write(self, stream):
        await self.streams[stream].close_write()

    async def reset(self, stream):
        await self.streams[stream].reset()

    async def wait_for_subscriber(self, topic, peer):
        while ID.from_string(peer) not in self.pubsub.peer_topics.get(topic, ()):
            await trio.sleep(0.01)

    async def publish(self, topic, payloads):
        for payload in payloads:
            await self.pubsub.publish(topic, base64.b64decode(payload))

    def _number(self, stream):
        self.streams.append(stream)
        return len(self.streams) - 1


async def obey(peer, order):
    """An order that is not done within its `within` seconds answers "late"."""
    name, within = order.pop("do"), order.pop("within", 20)
    with trio.move_on_after(within):
        try:
            return await getattr(peer, name)(**order) or {}
        except Exception as problem:
            return {"error": f"{name}: {type(problem).__name__}: {problem}"}
    return {"late": True}


@contextlib.asynccontextmanager
async def no_topics(host):
    yield None


@contextlib.asynccontextmanager
async def gossip(host):
    router = GossipSub(protocols=[PROTOCOL_ID_V11], degree=6, degree_low=5, degree_high=12, heartbeat_interval=1,
                       spam_protection_enabled=False)
    pubsub = Pubsub(host, router)
    async with background_trio_service(pubsub), background_trio_service(router):
        await pubsub.wait_until_ready()
        yield pubsub


async def main():
    host = libp2p.new_host()
    topics = gossip if "--topics" in sys.argv else no_topics
    async with host.run([multiaddr.Multiaddr("/ip4/127.0.0.1/tcp/0")]), topics(host) as pubsub:
        peer = Peer(host, pubsub)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            order = json.loads(line)
            if order["do"] == "quit":
                break
            print(json.dumps(await obey(peer, order)), flush=True)


if __name__ == "__main__":
    trio.run(main)
