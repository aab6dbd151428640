"""The main job, for real: processes on this machine start a node each and exchange what people exchange.

1. Two processes connect and send each other a text, a JSON object, a 64 MiB binary, a NumPy tensor, a PNG picture and a
   file as typed messages, in both directions.
2. One process broadcasts on a topic to three subscribers, each its own process.
3. It publishes a rendezvous list that the three read.

Every row of the table compares the checksum of what was sent with that of what arrived. The exit status is 0 only when
everything arrived.

Run it with ``make demo``. The roles below run in processes of their own: ``demo.py <role> ...``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from typing import Any, AsyncIterator, Callable, Dict, List, Tuple

import numpy
from PIL import Image

import peerbus
from peerbus.messages import DecodeLimits, Msg

MIB = 1024 * 1024
BINARY_BYTES = 64 * MIB
BROADCASTS = 100
SUBSCRIBERS = 3
DEADLINE_S = 60
CONFIG = {
    "listen_ips": ["127.0.0.1"],  # stay on this machine
    "limits": {"message_bytes": BINARY_BYTES + MIB},
}
LIMITS = DecodeLimits(decoded_bytes=BINARY_BYTES + MIB)


def contents() -> List[Tuple[str, str, Any]]:
    """What is exchanged: kind, content type and content."""
    noise = numpy.random.default_rng(7)
    picture = Image.fromarray(noise.integers(0, 255, (480, 640, 3), dtype="uint8"))
    report = {"filename": "report.csv", "mime_type": "text/csv", "content": b"round,loss\n1,0.5\n2,0.25\n" * 1000}
    tensor = noise.standard_normal((1024, 1024), dtype="float32")
    return [
        ("text", Msg.STREAM_SAMPLE, sample("Hello from another process. ¡Hola!")),
        ("JSON object", Msg.MISC, {"round": 3, "loss": [0.5, 0.25], "done": False, "name": "agent ☀"}),
        ("binary, 64 MiB", Msg.MISC, noise.bytes(BINARY_BYTES)),
        ("NumPy tensor", Msg.STREAM_SAMPLE, sample(tensor)),
        ("PNG picture", Msg.STREAM_SAMPLE, sample(picture)),
        ("file", Msg.STREAM_SAMPLE, sample(report)),
    ]


def sample(data: Any) -> Dict[str, Any]:
    return {"sample": {"data": data, "data_tag": 1}}


def checksum(content: Any) -> str:
    """SHA-256 of the values, whatever they travelled as."""
    if isinstance(content, dict) and "sample" in content:
        content = content["sample"]["data"]
    if isinstance(content, Image.Image):
        content = numpy.asarray(content.convert("RGB"))
    if isinstance(content, numpy.ndarray):
        raw = f"{content.dtype} {content.shape}".encode() + content.tobytes()
    elif isinstance(content, dict) and "filename" in content:
        raw = f"{content['filename']} {content['mime_type']} ".encode() + bytes(content["content"])
    elif isinstance(content, (bytes, memoryview)):
        raw = bytes(content)
    else:
        raw = json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(raw).hexdigest()[:16]


def say(**facts: Any) -> None:
    """A line for the process that watches."""
    print(json.dumps(facts), flush=True)


async def heard_stop() -> None:
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


# ---- The two that exchange


async def send_all(node: peerbus.Node, peer: str) -> None:
    for kind, content_type, content in contents():
        message = Msg(sender=node.peer_id, content=content, content_type=content_type, channel=node.direct_channel(peer))
        message.piggyback = json.dumps([kind, time.time()])
        payload = message.to_bytes()
        say(sent=kind, bytes=len(payload), sum=checksum(content))
        await node.send(peer, payload, timeout=DEADLINE_S)
    await node.flush(peer, timeout=DEADLINE_S)


async def receive_all(node: peerbus.Node) -> None:
    for _ in contents():
        received = await node.receive(timeout=DEADLINE_S)
        arrived = time.time()
        message = Msg.from_bytes(received.data, limits=LIMITS)
        kind, began = json.loads(message.piggyback)
        say(received=kind, bytes=len(received.data), ms=(arrived - began) * 1000, sum=checksum(message.content))


async def answerer() -> None:
    async with peerbus.Node(config=CONFIG) as node:
        say(addresses=node.addresses)
        connected = node.events("peer_connected")
        peer = (await asyncio.wait_for(connected.__anext__(), DEADLINE_S))["peer"]
        await receive_all(node)
        await send_all(node, peer)
        await heard_stop()


async def caller(addresses: str) -> None:
    async with peerbus.Node(config=CONFIG) as node:
        reached = await node.connect(json.loads(addresses))
        say(connected=reached["Addrs"][0])
        await send_all(node, reached["ID"])
        await receive_all(node)
        await heard_stop()


# ---- The broadcaster and its subscribers


def roster(node: peerbus.Node, peers: List[str]) -> bytes:
    entries = [
        {"id": peer, "addrs": [], "connected_at": None, "direction": "inbound", "misc": 1, "relayed": False} for peer in peers
    ]
    content = {"peers": entries, "update_count": 1}
    return Msg(sender=node.peer_id, content=content, content_type=Msg.WORLD_AGENTS_LIST, channel=node.topic("rv")).to_bytes()


def broadcast(number: int) -> bytes:
    return f"news number {number}".encode()


async def until(what: Callable[[], bool], events: AsyncIterator[Any]) -> None:
    """Waits for events until something holds."""

    async def watch() -> None:
        while not what():
            await events.__anext__()

    await asyncio.wait_for(watch(), DEADLINE_S)


async def broadcaster() -> None:
    async with peerbus.Node(config=CONFIG) as node:
        joined = node.events("topic_peer_joined")
        await node.subscribe(node.topic("news"))
        await node.subscribe(node.topic("rv"))
        say(addresses=node.addresses)
        seen: Dict[str, set] = {node.topic("news"): set(), node.topic("rv"): set()}
        while any(len(peers) < SUBSCRIBERS for peers in seen.values()):
            event = await asyncio.wait_for(joined.__anext__(), DEADLINE_S)
            seen[event["channel"]].add(event["peer"])
        digest = hashlib.sha256()
        for number in range(BROADCASTS):
            reached = await node.publish(node.topic("news"), broadcast(number))
            digest.update(broadcast(number))
        say(broadcast=BROADCASTS, reached=reached, sum=digest.hexdigest()[:16])
        listed = await node.publish(node.topic("rv"), roster(node, node.topic_peers()))
        say(rendezvous=len(node.topic_peers()), reached=listed)
        await heard_stop()


async def subscriber(addresses: str) -> None:
    async with peerbus.Node(config=CONFIG) as node:
        updates = node.events("rendezvous_updated")
        owner = (await node.connect(json.loads(addresses)))["ID"]
        news = node.topic("news", owner)
        await node.subscribe(news)
        await node.subscribe(node.topic("rv", owner))
        digest, began = hashlib.sha256(), 0.0
        for _ in range(BROADCASTS):
            message = await node.receive(news, timeout=DEADLINE_S)
            began = began or time.time()
            digest.update(message.data)
        say(heard=BROADCASTS, ms=(time.time() - began) * 1000, sum=digest.hexdigest()[:16])
        await until(lambda: node.rendezvous_peers() is not None, updates)
        say(listed=len(node.rendezvous_peers()["peers"]))
        await heard_stop()


# ---- The process that watches


class Child:
    """One role in its own process; what it says are JSON lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, role: str, *arguments: str) -> Child:
        process = await asyncio.create_subprocess_exec(
            sys.executable, os.path.abspath(__file__), role, *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        return cls(process)

    async def line(self) -> Dict[str, Any]:
        text = await asyncio.wait_for(self.process.stdout.readline(), 2 * DEADLINE_S)
        if not text:
            raise SystemExit(f"demo: a process ended early, with status {await self.process.wait()}")
        return dict(json.loads(text))

    async def lines(self, count: int) -> List[Dict[str, Any]]:
        return [await self.line() for _ in range(count)]

    async def stop(self) -> None:
        self.process.stdin.write(b"stop\n")
        if await asyncio.wait_for(self.process.wait(), DEADLINE_S) != 0:
            raise SystemExit(f"demo: a process ended with status {self.process.returncode}")


class Table:
    """The rows that are printed, and whether all are good."""

    def __init__(self) -> None:
        self.bad = 0
        print(f"{'what':<18} {'way':<22} {'bytes':>12} {'ms':>9}  {'checksum':<17} result")

    def row(self, what: str, way: str, size: Any, ms: Any, sent: Any, got: Any) -> None:
        good = sent == got
        self.bad += not good
        took = f"{ms:.1f}" if isinstance(ms, float) else ms
        print(f"{what:<18} {way:<22} {size:>12} {took:>9}  {sent!s:<17} {'ok' if good else f'WRONG: {got}'}", flush=True)


def compare(table: Table, way: str, sent: List[Dict[str, Any]], received: List[Dict[str, Any]]) -> None:
    arrived = {fact["received"]: fact for fact in received}
    for fact in sent:
        got = arrived.get(fact["sent"], {"ms": "-", "sum": "missing"})
        table.row(fact["sent"], way, fact["bytes"], got["ms"], fact["sum"], got["sum"])


async def show_exchange(table: Table) -> None:
    bob = await Child.start("answerer")
    alice = await Child.start("caller", json.dumps((await bob.line())["addresses"]))
    print(f"connected by {(await alice.line())['connected']}")
    kinds = len(contents())
    said_by_alice, said_by_bob = await asyncio.gather(alice.lines(2 * kinds), bob.lines(2 * kinds))
    compare(table, "alice -> bob", said_by_alice[:kinds], said_by_bob[:kinds])
    compare(table, "bob -> alice", said_by_bob[kinds:], said_by_alice[kinds:])
    await asyncio.gather(alice.stop(), bob.stop())


async def show_topics(table: Table) -> None:
    owner = await Child.start("broadcaster")
    addresses = json.dumps((await owner.line())["addresses"])
    subscribers = [await Child.start("subscriber", addresses) for _ in range(SUBSCRIBERS)]
    told = await owner.line()
    table.row("broadcast", "subscribers reached", told["broadcast"], "-", SUBSCRIBERS, told["reached"])
    for number, child in enumerate(subscribers, 1):
        heard = await child.line()
        table.row("broadcast", f"to subscriber {number}", heard["heard"], heard["ms"], told["sum"], heard["sum"])
    listed = await owner.line()
    for number, child in enumerate(subscribers, 1):
        table.row("rendezvous list", f"to subscriber {number}", "-", "-", listed["rendezvous"], (await child.line())["listed"])
    await asyncio.gather(owner.stop(), *(child.stop() for child in subscribers))


async def main() -> None:
    table = Table()
    await show_exchange(table)
    await show_topics(table)
    if table.bad:
        raise SystemExit(f"demo: {table.bad} rows are wrong")
    print("demo: everything arrived")


ROLES = {"answerer": answerer, "caller": caller, "broadcaster": broadcaster, "subscriber": subscriber}

if __name__ == "__main__":
    role = ROLES[sys.argv[1]](*sys.argv[2:]) if len(sys.argv) > 1 else main()
    asyncio.run(role)
