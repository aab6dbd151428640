"""A world of agents, for real: eleven processes on this machine, pools with roles, tokens, and who is kept out.

One world node, two masters and six agents join by SPEC POOL-56, share the list of the world, talk by role and by topic.
A token expires and is renewed; a master leaves and its agents find the other; a stranger is refused, and so are an
impostor with a stolen token and an old list; the world node ends, and everybody leaves the world. This process issues the
tokens, through the library, watches, and checks each of these. The exit status is 0 only when everything that was expected
happened.

Run it with ``make demo-world``. The nodes are in demo_world_nodes.py, the table in demo_world_table.py.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from demo_world_nodes import AGENT_ROLE, MASTER_ROLE, PAINTER_ROLE
from demo_world_table import Table

from peerbus import tokens
from peerbus.pools import NodeConn

DEADLINE_S = 60.0  # for each thing that is expected
END_S = 30.0
SHORT_TOKEN_S = 6.0
TALKS = 5
MASTERS = ["master-1", "master-2"]
AGENTS = [f"agent-{number}" for number in range(1, 7)]
PAINTERS, OTHERS = AGENTS[3:], AGENTS[:3]
ROLES = {
    **dict.fromkeys(MASTERS, MASTER_ROLE),
    **dict.fromkeys(PAINTERS, PAINTER_ROLE),
    **dict.fromkeys(OTHERS, AGENT_ROLE),
}
MEMBERS = [*MASTERS, *AGENTS]

Fact = Dict[str, Any]


class Failed(Exception):
    """Something that the rest needs did not happen."""


class Node:
    """A node in its own process, as this one sees it: its ids, what it said, and its commands."""

    def __init__(self, name: str, kind: str, table: Table) -> None:
        self.name, self.kind, self.table = name, kind, table
        self.facts: List[Fact] = []
        self.news = asyncio.Condition()
        self.status: Fact = {}
        self.ids: Fact = {}
        self.process: asyncio.subprocess.Process
        self.reader: asyncio.Task[None]

    async def start(self, directory: str) -> None:
        program = Path(__file__).with_name("demo_world_nodes.py")
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(program), self.kind, self.name, directory,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
        )  # fmt: skip
        self.reader = asyncio.ensure_future(self.read())
        self.ids = await self.heard("ready")

    async def read(self) -> None:
        async for line in self.process.stdout:
            fact = json.loads(line)
            async with self.news:
                if fact["fact"] == "status":
                    self.status = fact
                    self.table.status(self.name, fact)
                else:
                    self.facts.append(fact)
                self.news.notify_all()
        async with self.news:
            self.facts.append({"fact": "ended", "status": await self.process.wait()})
            self.news.notify_all()

    async def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Waits until something holds for what the node said; a failure of the node ends the wait."""

        async def watch() -> Any:
            async with self.news:
                while not condition():
                    broken = [fact for fact in self.facts if fact["fact"] in ("failed", "ended")]
                    if broken and what != "ended":
                        raise Failed(f"{self.name}: {broken[0]} instead of {what}")
                    await self.news.wait()
                return condition()

        try:
            return await asyncio.wait_for(watch(), DEADLINE_S)
        except asyncio.TimeoutError:
            raise Failed(f"{self.name}: no {what} within {DEADLINE_S:.0f} s; it said {self.facts[-3:]}") from None

    async def heard(self, kind: str, after: int = 0, **fields: Any) -> Fact:
        """The first fact of that kind and those fields, behind the first ``after`` facts."""

        def found() -> Optional[Fact]:
            for fact in self.facts[after:]:
                if fact["fact"] == kind and all(fact.get(name) == value for name, value in fields.items()):
                    return fact
            return None

        fact: Fact = await self.wait(found, f"{kind} {fields or ''}".strip())
        return fact

    async def pooled(self, **sizes: int) -> None:
        """Waits until the pools hold that many peers: agents=6 counts those of both directions."""
        groups = {"public": NodeConn.PUBLIC, "agents": NodeConn.WORLD_AGENTS, "masters": NodeConn.WORLD_MASTERS}

        def fits() -> bool:
            pools = self.status.get("pools")
            return bool(pools) and all(sum(pools[pool] for pool in groups[group]) == size for group, size in sizes.items())

        await self.wait(fits, f"pools with {sizes}")

    async def do(self, command: str, **arguments: Any) -> None:
        self.process.stdin.write(json.dumps({"do": command, **arguments}).encode() + b"\n")
        await self.process.stdin.drain()

    async def stop(self) -> int:
        if self.process.returncode is None:
            await self.do("stop")
            self.process.stdin.close()
            try:
                await asyncio.wait_for(self.process.wait(), END_S)
            except asyncio.TimeoutError:
                self.process.send_signal(signal.SIGABRT)
        await self.reader
        return await self.process.wait()


class Demo:
    """The acts, in order."""

    def __init__(self) -> None:
        kinds = {"world": "world", **dict.fromkeys(MEMBERS, "member"), "stranger": "outsider", "impostor": "outsider"}
        self.table = Table(list(kinds))
        self.nodes = {name: Node(name, kind, self.table) for name, kind in kinds.items()}
        self.world = self.nodes["world"]
        self.private_key, self.public_key = tokens.generate_key()
        self.issuer = tokens.Issuer(self.private_key)

    def token(self, name: str, lifetime: float = tokens.DEFAULT_LIFETIME_S) -> str:
        ids = self.nodes[name].ids
        return self.issuer.issue(name, [ids["public"], ids["world"]], lifetime=lifetime)

    def group(self, names: List[str]) -> List[Node]:
        return [self.nodes[name] for name in names]

    async def expect(self, what: str, *happenings: Any) -> List[Any]:
        """Checks that all of these happen."""
        try:
            seen = await asyncio.gather(*happenings)
        except Failed as failure:
            self.table.check(what, False, failure)
            raise
        self.table.check(what, True)
        return list(seen)

    async def play(self) -> None:
        with tempfile.TemporaryDirectory(prefix="peerbus-world-") as directory:
            try:
                await asyncio.gather(*(node.start(directory) for node in self.nodes.values()))
                for act in (self.join, self.keep_out, self.talk, self.replay, self.expire_and_leave, self.lose_world):
                    await act()
                    self.table.show()
            finally:
                statuses = await asyncio.gather(*(node.stop() for node in self.nodes.values()))
                self.table.check("every process ended well", not any(statuses), statuses)

    async def begin(self, node: Node, **more: Any) -> None:
        await node.do("begin", key=self.public_key, token=self.token(node.name), **more)
        self.table.state(node.name, "running")

    async def join(self) -> None:
        await self.begin(self.world, admitted=ROLES)
        await self.world.heard("open")
        for group in (MASTERS, AGENTS):  # masters first, so that the first list of each agent has both
            for number, node in enumerate(self.group(group)):
                await self.begin(node, world=self.world.ids["addresses"], number=number)
            await asyncio.gather(*(node.heard("joined") for node in self.group(group)))
        for name in ("stranger", "impostor"):
            await self.begin(self.nodes[name])
        joined = await self.expect(
            "2 masters and 6 agents join: ping, interview, approval, world network, relay, list",
            *(node.heard("joined") for node in self.group(MEMBERS)),
        )
        for name, fact in zip(MEMBERS, joined):
            self.table.state(name, f"joined with role {fact['role']}")
        roles = {name: fact["role"] for name, fact in zip(MEMBERS, joined)}
        self.table.check("each has the role that the world gave it", roles == ROLES, roles)
        reserved = [bool(fact["relay_until"]) for fact in joined]
        self.table.check("each has a reservation on the relay of the world node", all(reserved), reserved)
        await self.expect(
            "the list of the world reaches all 8",
            *(node.heard("listed", agents=6, masters=2) for node in self.group(MEMBERS)),
        )
        await self.expect(
            "the world node pools 6 agents and 2 masters, and the public pools are empty again",
            self.world.pooled(agents=6, masters=2, public=0),
        )
        await self.expect("each agent finds a master by role", *(node.pooled(masters=1) for node in self.group(AGENTS)))
        await self.expect("the agents spread over both masters", *(node.pooled(agents=3) for node in self.group(MASTERS)))

    async def keep_out(self) -> None:
        stranger, impostor = self.nodes["stranger"], self.nodes["impostor"]
        await stranger.do("break_in", world=self.world.ids["world"], addresses=self.world.ids["world_addresses"])
        await self.expect(
            "a stranger with a token of its own is refused on the world network, and the world node says why",
            stranger.heard("tried"), self.world.heard("refused", peer=stranger.ids["world"], reason="stranger"),
        )  # fmt: skip
        self.table.state("stranger", "refused")
        before = len(self.world.facts)
        await impostor.do("pose", addresses=self.world.ids["addresses"], token=self.token("agent-1"))
        await self.expect(
            "an impostor with the stolen token of agent-1 is not heard: token_peer_mismatch",
            impostor.heard("tried"),
            self.world.heard("refused", before, peer=impostor.ids["public"], reason="token_peer_mismatch"),
        )
        self.table.state("impostor", "refused")
        await self.expect("neither of them is in the world", self.world.pooled(agents=6, masters=2))

    async def talk(self) -> None:
        marks = {node: len(node.facts) for node in self.nodes.values()}
        for node in self.group(AGENTS):
            await node.do("to_master", count=TALKS)
        await self.expect(
            f"each agent sends its master {TALKS} messages; they arrive with the verified node id",
            *(self.total(self.group(MASTERS), marks, "heard", TALKS, node_id=name) for name in AGENTS),
        )
        for node in self.group(MASTERS):
            await node.do("to_role", role=PAINTER_ROLE)
        await self.expect(
            "the masters send to their painters",
            *(self.total([node], marks, "heard", 1) for node in self.group(PAINTERS)),
        )
        plain = [fact for node in self.group(OTHERS) for fact in node.facts[marks[node] :] if fact["fact"] == "heard"]
        self.table.check("and the agents that are no painters get nothing", not plain, plain)
        await self.world.do("broadcast", text="the sun is out")
        await self.expect(
            "a broadcast of the world node reaches all 8",
            *(node.heard("news", marks[node], news="the sun is out") for node in self.group(MEMBERS)),
        )

    async def total(self, nodes: List[Node], marks: Dict[Node, int], kind: str, count: int, **fields: Any) -> None:
        """Waits until these nodes together said that many such facts."""

        def counted() -> int:
            said = (fact for node in nodes for fact in node.facts[marks[node] :] if fact["fact"] == kind)
            return sum(all(fact.get(name) == value for name, value in fields.items()) for fact in said)

        what = f"{count} times {kind} {fields or ''}"
        waits = [asyncio.ensure_future(node.wait(lambda: counted() >= count, what)) for node in nodes]
        try:
            await next(iter(asyncio.as_completed(waits)))
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def expire_and_leave(self) -> None:
        """Both take their time, so they go on side by side."""
        await asyncio.gather(self.expire(), self.leave())

    async def expire(self) -> None:
        agent = self.nodes["agent-6"]
        before = len(self.world.facts)
        await agent.do("token", token=self.token("agent-6", SHORT_TOKEN_S))
        issued = time.time()
        self.table.state("agent-6", f"has a token for {SHORT_TOKEN_S:.0f} s")
        await agent.do("to_world", text="in time")
        in_time = self.world.heard("heard", before, content={"text": "in time"})
        await self.expect("a message with a short token arrives", in_time)
        await asyncio.sleep(max(0.0, issued + SHORT_TOKEN_S + 1 - time.time()))  # the time of the token itself
        self.table.state("agent-6", "its token has expired")
        await agent.do("to_world", text="too late")
        await self.expect(
            "after its end the next one is refused: expired_token",
            self.world.heard("refused", before, peer=agent.ids["world"], reason="expired_token"),
        )
        await agent.do("token", token=self.token("agent-6"))
        await agent.do("to_world", text="renewed")
        await self.expect("a renewed token is heard again", self.world.heard("heard", before, content={"text": "renewed"}))
        late = [fact for fact in self.world.facts if fact.get("content") == {"text": "too late"}]
        self.table.check("and the late message was never delivered", not late, late)
        self.table.state("agent-6", "renewed its token")

    async def replay(self) -> None:
        marks = {node: len(node.facts) for node in self.nodes.values()}
        await self.world.do("old_list")
        published = await self.world.heard("published")
        await self.expect(
            "an old list of the world is ignored by all 8: rendezvous_stale",
            *(node.heard("refused", marks[node], reason="rendezvous_stale") for node in self.group(MEMBERS)),
        )
        emptied = [fact for node in self.group(MEMBERS) for fact in node.facts[marks[node] :] if fact.get("agents") == 0]
        self.table.check("and changes no list", published["done"] and not emptied, (published, emptied))

    async def leave(self) -> None:
        gone, stays = self.nodes["master-2"], self.nodes["master-1"]
        marks = {node: len(node.facts) for node in self.nodes.values()}
        self.table.state("master-2", "leaves")
        await gone.do("stop")
        await self.expect("the world node misses a master that left", self.world.heard("left", listed=7))
        self.table.state("master-2", "left")
        rest = [node for node in self.group(MEMBERS) if node is not gone]
        await self.expect(
            "the other 7 get a list without it", *(node.heard("listed", marks[node], agents=6, masters=1) for node in rest)
        )
        await self.expect("its agents find the master that is left", stays.pooled(agents=6))
        await self.expect("the world node pools what is left", self.world.pooled(agents=6, masters=1))


    async def lose_world(self) -> None:
        rest = [node for node in self.group(MEMBERS) if node is not self.nodes["master-2"]]
        marks = {node: len(node.facts) for node in rest}
        await self.world.do("stop")
        self.table.state("world", "ended")
        await self.expect(
            "without its node the world is left: no lists, no places, no connections of it",
            *(node.heard("out", marks[node], reason="lost", listed=0) for node in rest),
            *(node.pooled(agents=0, masters=0, public=0) for node in rest),
        )
        for node in rest:
            self.table.state(node.name, "in no world")


async def main() -> int:
    demo = Demo()
    try:
        await demo.play()
    except Failed as failure:
        demo.table.check("the demo went on to its end", False, failure)
    if demo.table.failures:
        print(f"demo-world: {demo.table.failures} checks failed")
        return 1
    print("demo-world: everything that was expected happened")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
