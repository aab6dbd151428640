"""The rendezvous of a world: snapshots of its lists, by owner and count."""

import asyncio
import contextlib

import pytest
from pools_support import ADDRS, AGENT, MASTER, OTHER, WORLD, conn_of, enlist, entry, join, reported, take
from support import run

from peerbus.messages import Msg
from peerbus.pools import NodeConn


def roster(count, *entries):
    return {"peers": [{"connected_at": None, "direction": "inbound", "relayed": False, **one} for one in entries],
            "update_count": count}  # fmt: skip


@pytest.fixture
def listening(world_pair):
    """The world_pair, with the agent listening to the world's rendezvous topic; and the topic."""
    agent, world = world_pair
    topic = f"{world.p2p_world.peer_id}::ps:rv"

    async def play():
        async with reported(world.p2p_world, "topic_peer_joined", channel=topic):
            assert await world.subscribe(world.p2p_world.peer_id, topic)
            assert await agent.subscribe(world.p2p_world.peer_id, topic)

    run(play())
    return agent, world, topic


async def publish(world, agent, topic, content):
    """Publishes a roster; returns when the agent's node has accepted it."""
    async with reported(agent.p2p_world, "rendezvous_updated", channel=topic):
        assert await world.publish(world.p2p_world.peer_id, topic, Msg.WORLD_AGENTS_LIST, content)


async def publish_until(author, agent, topic, content):
    """Publishes a roster of somebody else than the owner, again while the router has no stream to the agent yet."""
    with agent.p2p_world.node.events("rendezvous_updated") as events:
        while True:
            assert await author.publish(author.p2p_world.peer_id, topic, Msg.WORLD_AGENTS_LIST, content)
            with contextlib.suppress(asyncio.TimeoutError):
                return await asyncio.wait_for(events.__anext__(), 1)


def test_the_lists_follow_the_rendezvous(listening):
    agent, world, topic = listening
    own = agent.p2p_world.peer_id
    apply = agent.set_world_agents_and_world_masters_lists_from_rendezvous

    async def play():
        assert agent.rendezvous_tag == -1 and await apply() is False
        await publish(world, agent, topic, roster(3, entry(own, 1), entry(MASTER, 3), entry(OTHER, 5), entry(WORLD, 0)))
        async with reported(agent.p2p_world, "rendezvous_applied", update_count=3, peers=3, skipped=1):
            assert await apply() is True
        assert (agent.world_agents_set, agent.world_masters_set) == ({own, OTHER}, {MASTER})
        assert agent.rendezvous_tag == 3 and agent.get_addrs(MASTER) == ADDRS and agent.get_role(OTHER) == 5
        assert await apply() is False
        await publish(world, agent, topic, roster(9, entry(own, 1)))
        assert await apply() is True
        assert (agent.world_agents_set, agent.world_masters_set, agent.rendezvous_tag) == ({own}, set(), 9)

    run(play())


def test_an_old_snapshot_is_ignored_and_counted(listening):
    agent, world, topic = listening

    async def play():
        await publish(world, agent, topic, roster(5, entry(AGENT, 1)))
        await agent.set_world_agents_and_world_masters_lists_from_rendezvous()
        for count in (5, 4):
            async with reported(agent.p2p_world, "messages_lost", reason="rendezvous_stale"):
                await world.publish(world.p2p_world.peer_id, topic, Msg.WORLD_AGENTS_LIST, roster(count, entry(OTHER, 1)))
        assert await agent.set_world_agents_and_world_masters_lists_from_rendezvous() is False
        assert (agent.world_agents_set, agent.rendezvous_tag) == ({AGENT}, 5)

    run(play())


def test_after_a_reset_the_same_snapshot_counts_again(listening):
    agent, world, topic = listening

    async def play():
        await publish(world, agent, topic, roster(5, entry(AGENT, 1)))
        assert await agent.set_world_agents_and_world_masters_lists_from_rendezvous() is True
        agent.set_world_agents_list([])
        agent.reset_rendezvous_tag()
        assert agent.rendezvous_tag == -1
        assert await agent.set_world_agents_and_world_masters_lists_from_rendezvous() is True
        assert (agent.world_agents_set, agent.rendezvous_tag) == ({AGENT}, 5)

    run(play())


def test_after_a_reset_the_next_snapshot_counts_whatever_its_count(listening):
    agent, world, topic = listening

    async def play():
        await publish(world, agent, topic, roster(5, entry(AGENT, 1)))
        assert await agent.set_world_agents_and_world_masters_lists_from_rendezvous() is True
        agent.reset_rendezvous_tag()
        await publish(world, agent, topic, roster(2, entry(OTHER, 1)))
        assert await agent.set_world_agents_and_world_masters_lists_from_rendezvous() is True
        assert (agent.world_agents_set, agent.rendezvous_tag) == ({OTHER}, 2)

    run(play())


def test_a_master_that_the_program_lists_may_publish(listening, networks, stack, root):
    agent, world, topic = listening
    master = conn_of(stack, networks, root, name="master")
    enlist(master, world, role=3)
    enlist(master, agent, role=3)
    master.set_world(world.p2p_world.peer_id)
    master.add_to_world_agents_list(agent.p2p_world.peer_id, agent.p2p_world.addresses, 1)

    async def play():
        async with reported(master.p2p_world, "topic_peer_joined", channel=topic, peer=agent.p2p_world.peer_id):
            await join(master, agent, NodeConn.P2P_WORLD)
            assert await master.subscribe(world.p2p_world.peer_id, topic)
        await publish_until(master, agent, topic, roster(7, entry(OTHER, 1)))
        assert await agent.set_world_agents_and_world_masters_lists_from_rendezvous() is True
        assert (agent.world_agents_set, agent.rendezvous_tag) == ({OTHER}, 7)

    run(play())


@pytest.mark.parametrize(
    "content",
    ["nonsense", 17, {"peers": []}, {"update_count": 1}, {"peers": "all", "update_count": 1}, roster(-1), roster(1 << 70)],
    ids=["text", "number", "no count", "no peers", "peers of text", "negative", "huge"],
)
def test_a_malformed_roster_is_not_published(listening, content):
    agent, world, topic = listening

    async def play():
        await publish(world, agent, topic, roster(5, entry(AGENT, 1)))
        await agent.set_world_agents_and_world_masters_lists_from_rendezvous()
        assert await world.publish(world.p2p_world.peer_id, topic, Msg.WORLD_AGENTS_LIST, content) is False
        assert await agent.set_world_agents_and_world_masters_lists_from_rendezvous() is False
        assert (agent.world_agents_set, agent.rendezvous_tag) == ({AGENT}, 5)

    run(play())


def test_a_flood_of_rosters_of_somebody_else_is_refused_and_delays_nobody(listening, networks, stack, root):
    agent, world, topic = listening
    forger = conn_of(stack, networks, root, name="forger")
    enlist(forger, world)
    agent.add_to_world_agents_list(forger.p2p_world.peer_id, forger.p2p_world.addresses, 1)
    forger.add_to_world_agents_list(agent.p2p_world.peer_id, agent.p2p_world.addresses, 1)

    async def play():
        async with reported(forger.p2p_world, "topic_peer_joined", channel=topic, peer=agent.p2p_world.peer_id):
            await forger.p2p_world.node.subscribe(topic)
            await join(forger, agent, NodeConn.P2P_WORLD)
        await publish(world, agent, topic, roster(5, entry(AGENT, 1)))
        async with reported(agent.p2p_world, "messages_lost", reason="rendezvous_refused"):
            for count in range(100, 400):
                await forger.publish(forger.p2p_world.peer_id, topic, Msg.WORLD_AGENTS_LIST, roster(count, entry(OTHER, 1)))
        await world.send(agent.p2p_world.peer_id, None, Msg.MISC, "through")
        assert [message.content for message in await take(agent, NodeConn.P2P_WORLD, 1)] == ["through"]
        assert await agent.set_world_agents_and_world_masters_lists_from_rendezvous() is True
        assert (agent.world_agents_set, agent.rendezvous_tag) == ({AGENT}, 5)

    run(play())
