"""What the tests of pools share: an issuer, pools over networks, and waiting for what pools report."""

import asyncio
import contextlib

from harness import made_up_peer_id
from support import DEADLINE_S

from peerbus import tokens
from peerbus.pools import ConnectionPools, NodeConn, Rule

BY_DIRECTION = [Rule("in", direction="inbound"), Rule("out", direction="outbound")]
AGENT, MASTER, OTHER, WORLD = (made_up_peer_id(number) for number in (1, 2, 3, 4))
ADDRS = ["/ip4/192.0.2.1/tcp/4001"]
TWO_POOLS = {"in": ["net", 0.5], "out": ["net", 0.5]}


class Root:
    """Issues the tokens of one test."""

    def __init__(self):
        self.private_key, self.public_key = tokens.generate_key()
        self.issuer = tokens.Issuer(self.private_key)

    def token(self, node_id, *networks, **claims):
        return self.issuer.issue(node_id, [p2p.peer_id for p2p in networks], **claims)


def pools_of(stack, p2p, declared=None, *, budget=10, kind=ConnectionPools, rules=BY_DIRECTION, **options):
    """A set over one network "net", closed with the stack."""
    if kind is not ConnectionPools:
        rules = None
    return stack.enter_context(kind(budget, declared or TWO_POOLS, {"net": p2p}, rules=rules, **options))


def conn_of(stack, networks, root=None, *, name="node", world=False, budget=100, **options):
    """A NodeConn over two networks of its own, with a token of the root."""
    public, private = networks(), networks()
    key, token = (root.public_key, root.token(name, public, private)) if root else (None, None)
    return stack.enter_context(NodeConn(budget, public, private, world, key, token, **options))


@contextlib.asynccontextmanager
async def reported(p2p, event_type, **fields):
    """Waits, at the end of the block, for an event of the network that comes in the block or after it."""
    with p2p.node.events(event_type) as events:
        yield
        await events.wait_for(event_type, timeout=DEADLINE_S, **fields)


async def until(condition, p2p):
    """Waits for events of the network until something holds."""
    with p2p.node.events() as events:
        while not condition():
            await asyncio.wait_for(events.__anext__(), DEADLINE_S)


async def join(connecting, accepting, p2p_name="net"):
    """Connects one set's network to another's; returns when both have decided about it."""
    own, other = connecting[p2p_name], accepting[p2p_name]
    with other.node.events() as events:
        reached = await connecting.connect(other.addresses, p2p_name)
        assert reached == (other.peer_id, False)
        while own.peer_id not in decided(accepting, other):
            await asyncio.wait_for(events.__anext__(), DEADLINE_S)


def decided(pools, p2p):
    """Ids of the peers that are pooled, or connected and listed."""
    return {*pools.get_all_connected_peer_ids(), *(info["id"] for info in p2p.get_connected_peers_info())}


async def take(pools, p2p_name, count):
    """That many messages."""
    messages = []
    while len(messages) < count:
        more = await pools.get_messages(p2p_name, timeout=DEADLINE_S)
        assert more, f"{len(messages)} of {count} messages came"
        messages += more
    return messages


async def lost(p2p, reason, call):
    """Runs the call, and waits until the network reports a message lost for that reason."""
    async with reported(p2p, "messages_lost", reason=reason):
        return await call


def enlist(agent, world, role=1):
    """Makes the two know each other: the world lists the agent, which names its world."""
    add = world.add_to_world_masters_list if role & 2 else world.add_to_world_agents_list
    add(agent.p2p_world.peer_id, agent.p2p_world.addresses, role)
    agent.set_world(world.p2p_world.peer_id)


def entry(peer_id, role, addrs=ADDRS):
    return {"id": peer_id, "addrs": addrs, "misc": role}
