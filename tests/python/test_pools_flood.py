"""Floods from other processes: a world node's memory stays bounded, and its members are heard all the while."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pools_support import Root
from support import PROGRAM_S

PROGRAM = Path(__file__).with_name("flood_program.py")
FLOODS = {"tokens": 4000, "rosters": 200, "connections": 60}
"""By kind: how often in a round. A round of tokens is 60 MB, which is above what may stay of three."""
ROUNDS = 3
TALKS = 200
GROWTH_BYTES = 48 << 20


class Program:
    """A process of flood_program.py."""

    def __init__(self, kind, directory, root):
        command = [sys.executable, "-W", "error", "-X", "faulthandler", PROGRAM, kind, directory]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ids = self.hear()
        token = root.issuer.issue(Path(directory).name, [self.ids["public"], self.ids["world"]])
        self.tell(key=root.public_key, token=token)

    def hear(self):
        line = self.process.stdout.readline()
        assert line, f"the program ended with status {self.process.wait(PROGRAM_S)}"
        return json.loads(line)

    def tell(self, **what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def ask(self, **what):
        self.tell(**what)
        return self.hear()

    def end(self):
        self.process.stdin.close()
        status = self.process.wait(PROGRAM_S)
        self.process.stdout.close()
        return status


@pytest.fixture
def world(environment, tmp_path):
    """A world node, an honest agent and two that flood, each a process."""
    root = Root()
    hub = Program("hub", tmp_path / "hub", root)
    agents = [Program("member", tmp_path / name, root) for name in ("honest", "first", "second")]
    hub.ask(agents={agent.ids["world"]: agent.ids["world_addresses"] for agent in agents})
    for agent in agents:
        assert agent.ask(world=hub.ids)["joined"]
    yield hub, agents[0], agents[1:]
    assert [program.end() for program in (hub, *agents)] == [0] * 4


def flood(kind, honest, flooders):
    """One round, while the honest agent talks."""
    for flooder in flooders:
        flooder.tell(do=kind, times=FLOODS[kind])
    assert honest.ask(do="talk", times=TALKS) == {"done": "talk"}
    for flooder in flooders:
        assert flooder.hear() == {"done": kind}


def settled(hub, condition):
    """Asks the world node until a condition holds; what it answered."""
    while not condition(state := hub.ask(look=True)):
        assert hub.process.poll() is None
    return state


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_costs_bounded_memory_and_members_are_heard(world, kind):
    hub, honest, flooders = world
    flood(kind, honest, flooders)  # the first one fills what is kept on purpose
    before = settled(hub, lambda state: state["heard"] == TALKS)
    for _ in range(ROUNDS):
        flood(kind, honest, flooders)
    state = settled(hub, lambda state: state["heard"] == (1 + ROUNDS) * TALKS)
    sent = (1 + ROUNDS) * len(flooders) * FLOODS[kind]
    if kind == "tokens":
        state = settled(hub, lambda state: refused(state) == sent)
        assert state["counts"]["rate_limited"] > sent / 2
    elif kind == "rosters":
        state = settled(hub, lambda state: "rendezvous_refused" in state["lost"])
    assert state["rss"] - before["rss"] < GROWTH_BYTES, (before, state)
    assert state["pooled"] <= 3 + len(flooders) and state["connected"][1] == 3


def refused(state):
    return state["counts"].get("bad_token", 0) + state["counts"].get("rate_limited", 0)
