"""The processes of test_pools_flood.py: a world node, and who floods it. Arguments: kind, directory; JSON lines in and out."""

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness import made_up_peer_id
from support import LOCAL_P2P

import peerbus
from peerbus.messages import Msg
from peerbus.pools import NodeConn

PUBLIC, WORLD = NodeConn.P2P_PUBLIC, NodeConn.P2P_WORLD
TOKEN_BYTES = 15_000
MADE_UP = [made_up_peer_id(number) for number in range(200)]  # a roster of 40 KB


def say(**answer):
    print(json.dumps(answer), flush=True)


async def hear():
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return json.loads(line) if line else {}


def resident_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


async def hub(conn):
    """Answers, whenever it is asked, what it holds; counts the messages of its members."""
    heard = 0

    async def listen():
        nonlocal heard
        while True:
            heard += len(await conn.get_messages(WORLD, timeout=60))

    listening = asyncio.ensure_future(listen())
    topic = f"{conn.p2p_world.peer_id}::ps:rv"
    await conn.subscribe(conn.p2p_world.peer_id, topic)
    while asked := await hear():
        for peer, addresses in asked.get("agents", {}).items():
            conn.add_to_world_agents_list(peer, addresses, 1)
        await conn.update()
        lost = conn.p2p_world.node.statistics()["lost"]["in"]
        say(rss=resident_bytes(), heard=heard, counts=conn.counts(), lost=lost, pooled=conn.size(),
            connected=[len(network.get_connected_peers_info()) for network in (conn.p2p_public, conn.p2p_world)])  # fmt: skip
    listening.cancel()


async def member(conn):
    """Joins the world, and then does what it is told, as often as it is told."""
    world = (await hear())["world"]
    home, _ = await conn.connect(world["world_addresses"], WORLD)
    conn.set_world(home)
    while not conn.is_world_node(home):
        await asyncio.sleep(0.01)
    say(joined=True)
    while asked := await hear():
        for number in range(asked["times"]):
            await DEEDS[asked["do"]](conn, home, world, number)
        say(done=asked["do"])


async def talk(conn, home, world, number):
    assert await conn.send(home, None, Msg.MISC, {"number": number})


async def forge(conn, home, world, number):
    node = conn.p2p_world.node
    channel = node.direct_channel(home, "misc")
    forged = Msg(sender=node.peer_id, channel=channel, content=number, piggyback=f"{number}.".ljust(TOKEN_BYTES, "x"))
    await node.send(channel, forged.to_bytes())


async def lie(conn, home, world, number):
    rest = {"addrs": ["/ip4/192.0.2.1/tcp/4001"], "misc": 3, "connected_at": None, "direction": "inbound", "relayed": False}
    roster = {"peers": [{"id": peer, **rest} for peer in MADE_UP], "update_count": 1000 + number}
    assert await conn.publish(conn.p2p_world.peer_id, f"{home}::ps:rv", Msg.WORLD_AGENTS_LIST, roster)


async def come_and_go(conn, home, world, number):
    """On the public network, whose pool is small."""
    door, _ = await conn.connect(world["addresses"], PUBLIC)
    if door is not None:
        await conn.disconnect(conn.p2p_public, door)


DEEDS = {"talk": talk, "tokens": forge, "rosters": lie, "connections": come_and_go}


async def main():
    kind, directory = sys.argv[1:3]
    peerbus.P2P.setup_library()
    networks = [peerbus.P2P(f"{directory}/{name}", **LOCAL_P2P) for name in ("public", "world")]
    say(public=networks[0].peer_id, world=networks[1].peer_id,
        addresses=networks[0].addresses, world_addresses=networks[1].addresses)  # fmt: skip
    begin = await hear()
    with NodeConn(100, *networks, kind == "hub", begin["key"], begin["token"]) as conn:
        await (hub if kind == "hub" else member)(conn)
    for network in networks:
        network.close()


if __name__ == "__main__":
    asyncio.run(main())
