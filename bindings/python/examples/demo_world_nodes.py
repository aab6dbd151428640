"""The nodes of demo_world.py, each a process: the world node, its members, a stranger and an impostor.

They read commands as JSON lines from stdin and say facts as JSON lines on stdout. What they do to join is SPEC POOL-56.
Run by demo_world.py: ``demo_world_nodes.py <kind> <name> <directory>``.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import logging
import sys
from typing import Any, Awaitable, Callable, Dict, List, Optional, Tuple

import peerbus
from peerbus.messages import Msg
from peerbus.pools import NodeConn, PoolMsg

PUBLIC, WORLD = NodeConn.P2P_PUBLIC, NodeConn.P2P_WORLD
AGENT_ROLE, PAINTER_ROLE, MASTER_ROLE = 1, 5, 3  # bit 0: in the world, bit 1: master, bit 2: what this world calls a painter
ANSWER_S = 20.0
PING_TRIES = 3
MAX_CONNECTIONS = 100
QUIET = {
    "ips": ["127.0.0.1"],  # stay on this machine
    "nat": {"port_mapping": False, "hole_punching": False, "autonat": False},
    "dht_enabled": False,
    "webrtc_enabled": False,
}
REPORTED = (
    "pool_peer_added", "pool_peer_lost", "pool_peer_returned", "pool_peer_removed", "pool_peer_refused",
    "rendezvous_updated", "messages_lost", "topic_peer_joined", "world_left",
)  # fmt: skip

Fact = Dict[str, Any]


def say(fact: str, **more: Any) -> None:
    """A line for the process that watches."""
    print(json.dumps({"fact": fact, **more}), flush=True)


class Program:
    """What every node does: run commands, receive messages, keep its pools tidy, and tell."""

    is_world = False

    def __init__(self, name: str, directory: str, **world_network: Any) -> None:
        self.name = name
        peerbus.P2P.setup_library()
        self.public = peerbus.P2P(f"{directory}/{name}-public", **QUIET)
        self.world = peerbus.P2P(f"{directory}/{name}-world", **{**QUIET, **world_network})
        self.conn: NodeConn
        self.sent = self.received = self.refused = 0
        self.arrived: Dict[str, asyncio.Queue[PoolMsg]] = {}
        self.ended = asyncio.Event()
        self.tasks: List[asyncio.Task[None]] = []

    async def run(self) -> None:
        say("ready", public=self.public.peer_id, world=self.world.peer_id, addresses=self.public.addresses,
            world_addresses=self.world.addresses)  # fmt: skip
        begin = await read_command()
        self.conn = NodeConn(MAX_CONNECTIONS, self.public, self.world, self.is_world, begin["key"], begin["token"])
        self.spawn(self.read_commands())
        for name, p2p in ((PUBLIC, self.public), (WORLD, self.world)):
            self.spawn(self.receive(name))
            self.spawn(self.follow(p2p.node.events(*REPORTED)))
        self.spawn(self.live(begin))
        await self.ended.wait()
        running = {task for task in self.tasks if not task.done()}
        while running:  # before Python 3.12 asyncio.wait_for may swallow a cancellation
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=1)
        self.conn.close_transports()

    def spawn(self, work: Awaitable[None]) -> None:
        """Runs beside the rest; a failure ends the process with its reason."""

        async def watched() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                logging.exception("%s", self.name)
                say("failed", error=repr(error))
                self.ended.set()

        self.tasks.append(asyncio.ensure_future(watched()))

    # To be filled in

    async def live(self, begin: Fact) -> None:
        """What the node does after its begin."""

    async def happened(self, event: Fact) -> None:
        """An event of one of its networks."""

    async def lost(self, peer: str) -> None:
        """A peer that left its pool."""

    # Commands

    async def read_commands(self) -> None:
        while True:
            command = await read_command()
            if command["do"] == "stop":  # and nothing reads any more, so that the process can end
                self.ended.set()
                return
            await getattr(self, f"do_{command.pop('do')}")(**command)

    async def do_token(self, token: str) -> None:
        self.conn.set_token(token)
        say("token")

    # Messages

    async def receive(self, network: str) -> None:
        while True:
            for message in await self.conn.get_messages(network, timeout=60):
                self.received += 1
                handler: Optional[Callable[[PoolMsg], Awaitable[None]]] = getattr(self, f"on_{message.content_type}", None)
                if handler is None:
                    self.queue(message.content_type).put_nowait(message)
                else:
                    await handler(message)
                self.tell()

    def queue(self, content_type: str) -> asyncio.Queue[PoolMsg]:
        return self.arrived.setdefault(content_type, asyncio.Queue())

    async def answer(self, content_type: str, timeout: float = ANSWER_S) -> PoolMsg:
        return await asyncio.wait_for(self.queue(content_type).get(), timeout)

    async def send(self, peer: str, content_type: str, content: Any) -> bool:
        done = await self.conn.send(peer, None, content_type, content)
        self.sent += done
        self.tell()
        return done

    # Pools

    async def follow(self, events: peerbus.EventStream) -> None:
        async for event in events:
            kind = event["type"]
            if kind == "messages_lost" and event["direction"] == "in":
                self.refused += event["count"]
            if kind.startswith("pool_peer_"):
                await self.tidy()
            if kind in ("pool_peer_refused", "messages_lost"):
                say("refused", peer=event.get("peer"), reason=event["reason"], count=event.get("count", 1))
            await self.happened(event)
            self.tell()

    async def tidy(self) -> None:
        _, removed = await self.conn.update()
        for peer in {peer for peers in removed.values() for peer in peers}:
            await self.conn.remove(peer)
            await self.lost(peer)

    def tell(self) -> None:
        sizes = {pool: len(peers) for pool, peers in self.conn.get_pool_status().items()}
        say("status", pools=sizes, sent=self.sent, received=self.received, refused=self.refused)

    async def until(self, condition: Callable[[], bool], network: peerbus.P2P) -> None:
        """Waits for events of a network until something holds."""
        with network.node.events() as events:

            async def watch() -> None:
                while not condition():
                    await events.__anext__()

            await asyncio.wait_for(watch(), ANSWER_S)


class WorldNode(Program):
    """Interviews who asks to join, keeps the list of the world, and publishes it."""

    is_world = True

    def __init__(self, name: str, directory: str) -> None:
        # It relays for members that cannot be dialled; a relay has to be public, and on loopback nobody finds that out.
        super().__init__(name, directory, enable_relay_service=True, knows_is_public=True)
        self.listed: Dict[str, Tuple[List[str], int]] = {}
        self.admitted: Dict[str, int] = {}  # node id: role
        self.update_count = 0
        self.topic = f"{self.world.peer_id}::ps:rv"
        self.news = f"{self.world.peer_id}::ps:news"

    async def live(self, begin: Fact) -> None:
        self.admitted = dict(begin["admitted"])
        for topic in (self.topic, self.news):
            await self.conn.subscribe(self.world.peer_id, topic)
        say("open")
        while True:
            await asyncio.sleep(NodeConn.RENDEZVOUS_INTERVAL_S)
            await self.publish_list()

    async def on_misc(self, message: PoolMsg) -> None:
        if message.content == {"ping": "pong"}:
            await self.send(message.sender, Msg.PROFILE, {"name": self.name, "node_id": "world"})

    async def on_profile(self, message: PoolMsg) -> None:
        """The interview: the token has proved the node id; the profile says the rest."""
        profile = message.content
        role = self.admitted.get(message.node_id)
        if role is None or profile["node_id"] != message.node_id:
            say("rejected", node_id=message.node_id)
            return
        self.enlist(profile["peer_id"], profile["addresses"], role)
        world = {"peer_id": self.world.peer_id, "addresses": self.world.addresses}
        approval = {"world_profile": world, "rendezvous_tag": self.update_count, "your_role": role, "agent_actions": []}
        await self.send(message.sender, Msg.WORLD_APPROVAL, approval)

    def enlist(self, peer: str, addresses: List[str], role: int) -> None:
        add = self.conn.add_to_world_masters_list if role & 2 else self.conn.add_to_world_agents_list
        add(peer, addresses, role)
        self.listed[peer] = addresses, role

    async def on_address_update(self, message: PoolMsg) -> None:
        if message.sender in self.listed:
            self.enlist(message.sender, message.content["addresses"], self.listed[message.sender][1])
            await self.publish_list()

    async def on_interaction(self, message: PoolMsg) -> None:
        say("heard", node_id=message.node_id, content=message.content)

    async def lost(self, peer: str) -> None:
        if self.listed.pop(peer, None):
            by_kind: Dict[int, List[Fact]] = {0: [], 2: []}
            for entry in self.entries():
                by_kind[entry["misc"] & 2].append(entry)
            self.conn.set_world_agents_list(by_kind[0])
            self.conn.set_world_masters_list(by_kind[2])
            say("left", peer=peer, listed=len(self.listed))
            await self.publish_list()

    async def happened(self, event: Fact) -> None:
        if event["type"] == "topic_peer_joined" and event["channel"] == self.topic:
            await self.publish_list()

    def entries(self) -> List[Fact]:
        rest = {"connected_at": None, "direction": "inbound", "relayed": False}
        return [{"id": peer, "addrs": addrs, "misc": role, **rest} for peer, (addrs, role) in self.listed.items()]

    async def publish_list(self) -> None:
        self.update_count += 1
        content = {"peers": self.entries(), "update_count": self.update_count}
        self.sent += await self.conn.publish(self.world.peer_id, self.topic, Msg.WORLD_AGENTS_LIST, content)

    async def do_old_list(self) -> None:
        """An empty list with a count that was there before, as a restored backup would send it."""
        content = {"peers": [], "update_count": self.update_count - 1}
        done = await self.conn.publish(self.world.peer_id, self.topic, Msg.WORLD_AGENTS_LIST, content)
        say("published", done=done, update_count=self.update_count)

    async def do_broadcast(self, text: str) -> None:
        await self.conn.publish(self.world.peer_id, self.news, Msg.MISC, {"news": text})
        self.sent += 1


class Member(Program):
    """Joins the world as an agent or a master, and follows its list."""

    async def live(self, begin: Fact) -> None:
        self.number = int(begin["number"])
        self.role = 0
        await self.join(begin["world"])

    async def join(self, addresses: List[str]) -> None:
        approval = await self.interview(addresses)
        world = approval["world_profile"]
        self.role, self.home = approval["your_role"], world["peer_id"]
        self.conn.set_world(self.home)
        await self.conn.connect(world["addresses"], WORLD)
        await self.until(lambda: self.conn.is_world_node(self.home), self.world)
        expires = None
        if not self.world.is_public:
            expires = await self.conn.reserve(self.home, WORLD)
        await self.send(self.home, Msg.ADDRESS_UPDATE, {"addresses": self.world.addresses})
        for topic in ("rv", "news"):
            await self.conn.subscribe(self.home, f"{self.home}::ps:{topic}")
        await self.conn.remove(self.door)
        say("joined", role=self.role, relay_until=expires)

    async def interview(self, addresses: List[str]) -> Fact:
        door, _ = await self.conn.connect(addresses, PUBLIC)
        assert door is not None, "the world node cannot be reached"
        self.door = door
        await self.until(lambda: self.conn.is_public(door), self.public)
        for attempt in range(PING_TRIES):
            await self.send(door, Msg.MISC, {"ping": "pong"})
            try:
                await self.answer(Msg.PROFILE, ANSWER_S / PING_TRIES)
                break
            except asyncio.TimeoutError:
                say("unanswered", attempt=attempt + 1)
        else:
            raise RuntimeError("the world node does not answer")
        profile = {"name": self.name, "node_id": self.name, "peer_id": self.world.peer_id, "addresses": self.world.addresses}
        await self.send(door, Msg.PROFILE, profile)
        return dict((await self.answer(Msg.WORLD_APPROVAL)).content)

    async def happened(self, event: Fact) -> None:
        if event["type"] == "world_left":  # the pools have forgotten the world already; its topic of news is ours to end
            await self.conn.unsubscribe(event["peer"], f"{event['peer']}::ps:news")
            say("out", reason=event["reason"], listed=len(self.conn.world_agents_and_world_masters_set))
        if event["type"] == "rendezvous_updated" and self.conn.get_world_peer_id():
            if await self.conn.set_world_agents_and_world_masters_lists_from_rendezvous():
                say("listed", agents=len(self.conn.world_agents_set), masters=len(self.conn.world_masters_set),
                    tag=self.conn.rendezvous_tag)  # fmt: skip
            if not self.role & 2:
                await self.find_master()

    async def find_master(self) -> None:
        """Connects to one of the masters, by role, when there is none yet; the agents spread over them."""
        addresses, ids = self.conn.find_addrs_by_role(MASTER_ROLE, True)
        if not ids or any(self.conn.is_world_master(peer) for peer in ids):
            return
        chosen = self.number % len(ids)
        peer, _ = await self.conn.connect(addresses[chosen], WORLD)
        if peer is not None:
            await self.until(lambda: self.conn.is_world_master(peer), self.world)
            say("mastered", master=peer)

    async def on_interaction(self, message: PoolMsg) -> None:
        say("heard", node_id=message.node_id, content=message.content)

    async def on_misc(self, message: PoolMsg) -> None:
        say("news", **message.content)

    async def do_to_master(self, count: int) -> None:
        master = next(peer["id"] for peer in self.conn.get_all_connected_peer_infos(NodeConn.WORLD_MASTERS))
        for number in range(count):
            await self.send(master, Msg.INTERACTION, {"from": self.name, "number": number})

    async def do_to_role(self, role: int) -> None:
        """To the connected peers of exactly that role."""
        _, ids = self.conn.find_addrs_by_role(role, True)
        reached = [peer for peer in ids if self.conn.is_in_world(peer)]
        for peer in reached:
            await self.send(peer, Msg.INTERACTION, {"from": self.name, "role": role})
        say("sent", count=len(reached))

    async def do_to_world(self, text: str) -> None:
        done = await self.send(self.home, Msg.INTERACTION, {"text": text})
        say("sent", done=done)


class Outsider(Program):
    """Knows the world node's addresses, and tries what it can."""

    async def do_break_in(self, world: str, addresses: List[str]) -> None:
        """The stranger: a valid token, but nobody invited it to the world network."""
        self.conn.set_world(world)
        await self.conn.connect(addresses, WORLD, timeout=ANSWER_S)
        say("tried")

    async def do_pose(self, addresses: List[str], token: str) -> None:
        """The impostor: asks to join with the token of somebody else."""
        self.conn.set_token(token)
        door, _ = await self.conn.connect(addresses, PUBLIC)
        assert door is not None
        await self.until(lambda: self.conn.is_public(door), self.public)
        await self.send(door, Msg.MISC, {"ping": "pong"})
        profile = {"name": self.name, "node_id": "agent-1", "peer_id": self.world.peer_id, "addresses": []}
        await self.send(door, Msg.PROFILE, profile)
        say("tried")


async def read_command() -> Fact:
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return dict(json.loads(line)) if line else {"do": "stop"}


KINDS = {"world": WorldNode, "member": Member, "outsider": Outsider}


async def main(kind: str, name: str, directory: str) -> None:
    # Made in here, because before Python 3.10 an asyncio.Event is bound to the loop of that time.
    await KINDS[kind](name, directory).run()


if __name__ == "__main__":
    faulthandler.enable()  # whoever hangs is ended by SIGABRT, and tells where it was
    logging.basicConfig(level=logging.ERROR, format=f"{sys.argv[2]}: %(message)s")
    asyncio.run(main(*sys.argv[1:]))
