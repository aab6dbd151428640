"""NodeConn: the world preset, its lists, roles and rendezvous."""

import asyncio

import pytest
from harness import made_up_peer_id
from pools_support import ADDRS, AGENT, MASTER, OTHER, WORLD, conn_of, enlist, entry, join, reported, take
from support import run

import peerbus
from peerbus.messages import Msg
from peerbus.pools import NodeConn

TABLE = {  # SPEC POOL-42, in the order of the pools
    (False, 100): [12, 12, 36, 36, 1, 1, 1, 1],
    (False, 1000): [124, 124, 373, 373, 1, 1, 1, 3],
    (False, 8): [1, 1, 1, 1, 1, 1, 1, 1],
    (True, 100): [12, 12, 25, 25, -1, -1, 12, 14],
}


@pytest.fixture
def conn(networks, stack):
    """A NodeConn without company."""
    return conn_of(stack, networks, policy="none")


@pytest.mark.parametrize(("world", "budget"), TABLE)
def test_the_shares_are_those_of_the_spec(networks, stack, world, budget):
    conn = conn_of(stack, networks, policy="none", world=world, budget=budget)
    names = ["PUBLIC", "WORLD_AGENTS", "WORLD_NODE", "WORLD_MASTERS"]
    order = [getattr(NodeConn, f"{way}_{name}") for name in names for way in ("IN", "OUT")]
    assert conn.pool_names == order
    assert [conn.capacities[name] for name in order] == TABLE[world, budget]


@pytest.mark.parametrize("budget", [7, 0, -3, 1 << 60])
def test_a_budget_that_is_too_small_or_absurd_is_a_value_error(networks, budget):
    public, private = networks(), networks()
    with pytest.raises(ValueError):
        NodeConn(budget, public, private, False, None, None)


def test_the_networks_are_found_by_their_names(conn):
    assert conn[NodeConn.P2P_PUBLIC] is conn.p2p_public and conn[NodeConn.P2P_WORLD] is conn.p2p_world


def test_a_routing_function_of_ones_own_is_refused_rather_than_ignored(networks):
    class Own(NodeConn):
        async def conn_routing_fcn(self, connected_peer_infos, p2p, membership=None):
            return {}

    with pytest.raises(TypeError, match="ConnectionPools"):
        Own(100, networks(), networks(), False, None, None)


# ---- World, inspector, lists


def test_the_world_is_named_and_left(conn):
    assert conn.get_world_peer_id() is conn.get_world_node_peer_id() is conn.world_node_peer_id is None
    conn.set_world(WORLD)
    assert conn.get_world_peer_id() == conn.get_world_node_peer_id() == conn.world_node_peer_id == WORLD
    conn.set_world(None)
    assert conn.get_world_peer_id() is None
    conn.set_inspector(OTHER)
    assert conn.inspector_peer_id == OTHER
    conn.set_inspector(None)
    assert conn.inspector_peer_id is None


def test_lists_replace_fully_and_forget_roles_and_addresses(conn):
    conn.set_world_agents_list([entry(AGENT, 1), entry(OTHER, 5)])
    conn.set_world_masters_list([entry(MASTER, 3)])
    assert conn.world_agents_set == {AGENT, OTHER} and conn.world_masters_set == {MASTER}
    assert conn.world_agents_and_world_masters_set == {AGENT, OTHER, MASTER}
    assert (conn.get_role(OTHER), conn.get_addrs(OTHER)) == (5, ADDRS)
    conn.set_world_agents_list([entry(AGENT, 9, None)])
    assert conn.world_agents_set == {AGENT} and conn.get_role(AGENT) == 9
    assert (conn.get_role(OTHER), conn.get_addrs(OTHER), conn.get_addrs(AGENT)) == (0, None, None)
    for nothing in (None, []):
        conn.set_world_agents_list([entry(AGENT, 1)])
        conn.set_world_agents_list(nothing)
        assert conn.world_agents_set == set() and conn.get_role(AGENT) == 0
    assert conn.world_masters_set == {MASTER}


def test_the_first_master_is_that_of_the_last_list_else_the_first_one_added(conn):
    assert conn.get_first_world_master() is None
    conn.add_to_world_masters_list(OTHER, ADDRS, 3)
    conn.add_to_world_masters_list(MASTER, ADDRS, 3)
    assert conn.get_first_world_master() == OTHER
    conn.set_world_masters_list([entry(MASTER, 3), entry(OTHER, 3)])
    assert conn.get_first_world_master() == MASTER
    conn.set_world_masters_list([])
    assert conn.get_first_world_master() is None


BAD_LISTS = {
    "no list": 17,
    "a text": "nonsense",
    "no objects": ["nonsense"],
    "an entry of None": [None],
    "no id": [{"addrs": ADDRS, "misc": 1}],
    "an id that is none": [entry("nonsense", 1)],
    "an id of a number": [entry(7, 1)],
    "addresses that are no list": [entry(OTHER, 1, "nonsense")],
    "addresses of numbers": [entry(OTHER, 1, [1, 2])],
    "too many addresses": [entry(OTHER, 1, ADDRS * 65)],
    "an address of 2 KiB": [entry(OTHER, 1, ["/dns4/" + "x" * 2048])],
    "a role of text": [entry(OTHER, "master")],
    "the role of a master": [entry(OTHER, 3)],
    "no role": [entry(OTHER, 0)],
    "a negative role": [entry(OTHER, -1)],
    "a role of 2^70": [entry(OTHER, 1 + (1 << 70))],
    "not a number": [entry(OTHER, float("nan"))],
    "a repeated id": [entry(OTHER, 1), entry(OTHER, 1)],
    "too many": [entry(OTHER, 1)] * 70_000,
}


@pytest.mark.parametrize("bad", BAD_LISTS.values(), ids=BAD_LISTS)
def test_a_bad_list_is_refused_whole(conn, bad):
    conn.set_world_agents_list([entry(AGENT, 5)])
    with pytest.raises((ValueError, TypeError)):
        conn.set_world_agents_list(bad)
    with pytest.raises((ValueError, TypeError)):
        conn.set_world_agents_list([entry(WORLD, 1), *(bad if isinstance(bad, list) else [bad])])
    assert conn.world_agents_set == {AGENT} and conn.get_role(AGENT) == 5 and conn.get_addrs(AGENT) == ADDRS


@pytest.mark.parametrize(("kind", "good", "bad"), [("agents", 1, [0, 2, 3, -1]), ("masters", 3, [0, 1, 2, -3])])
def test_adding_checks_the_role_before_anything_changes(conn, kind, good, bad):
    add = getattr(conn, f"add_to_world_{kind}_list")
    for role in bad:
        with pytest.raises(ValueError):
            add(AGENT, ADDRS, role)
    assert conn.get_role(AGENT) == 0 and conn.get_addrs(AGENT) is None and not conn.world_agents_and_world_masters_set
    add(AGENT, ADDRS, good)
    assert getattr(conn, f"world_{kind}_set") == {AGENT} and conn.get_role(AGENT) == good
    with pytest.raises(TypeError):
        add(AGENT, ADDRS)
    with pytest.raises(ValueError):
        add("nonsense", ADDRS, good)


# ---- Roles and addresses


def test_peers_are_found_by_their_exact_role(conn):
    own = conn.p2p_world.peer_id
    conn.set_world_agents_list([entry(AGENT, 1), entry(OTHER, 5), entry(own, 5), entry(WORLD, 5, None)])
    conn.set_world_masters_list([entry(MASTER, 7)])
    assert conn.find_addrs_by_role(1) == [ADDRS] and conn.find_addrs_by_role(3) == []
    addrs, ids = conn.find_addrs_by_role(5, return_peer_ids_too=True)
    assert addrs == [ADDRS, ADDRS] and set(ids) == {OTHER, own}
    assert conn.find_addrs_by_role(5, True, discard_yourself=True) == ([ADDRS], [OTHER])
    assert [conn.count_by_role(role) for role in (0, 1, 5, 7)] == [0, 1, 3, 1]
    assert set(conn.find_addrs_by_role_mask(4, 4, True)[1]) == {OTHER, own, MASTER}
    assert conn.find_addrs_by_role_mask(4, 4, True, True)[1] == sorted([OTHER, MASTER])
    assert conn.count_by_role_mask(2, 2) == 1 and conn.count_by_role_mask(1, 1) == 5
    conn.set_role(OTHER, 0)
    assert conn.count_by_role(5) == 2


def test_addresses_are_known_before_a_connection(conn):
    assert conn.get_addrs(OTHER) is None
    conn.set_addrs(OTHER, ADDRS)
    assert conn.get_addrs(OTHER) == ADDRS
    conn.set_addresses_in_peer_info(OTHER, ADDRS)  # in no pool: nothing
    conn.add({"id": OTHER}, NodeConn.IN_PUBLIC)
    conn.set_addresses_in_peer_info(OTHER, ["/ip4/192.0.2.2/tcp/1"])
    assert conn.get_all_connected_peer_infos(NodeConn.PUBLIC)[0]["addrs"] == ["/ip4/192.0.2.2/tcp/1"]
    with pytest.raises(ValueError):
        conn.set_addrs(OTHER, ADDRS * 65)
    assert run(conn.remove(OTHER)) and conn.get_addrs(OTHER) is None


# ---- Pools


def test_queries_take_several_pools(conn):
    conn.add({"id": AGENT}, NodeConn.IN_PUBLIC)
    conn.add({"id": MASTER}, NodeConn.OUT_WORLD_MASTERS)
    conn.add({"id": WORLD}, NodeConn.OUT_WORLD_NODE)
    assert conn.size() == 3 and conn.size(NodeConn.WORLD) == 2 and conn.size([NodeConn.IN_PUBLIC]) == 1
    assert conn.size(NodeConn.IN_PUBLIC) == 1 and conn.size([]) == 0
    assert {peer["id"] for peer in conn.get_all_connected_peer_infos(NodeConn.OUTGOING)} == {MASTER, WORLD}
    assert conn.is_connected(AGENT, NodeConn.PUBLIC) and not conn.is_connected(AGENT, NodeConn.WORLD)
    assert conn.is_connected(AGENT) and conn.in_connection_queues(AGENT) and not conn.in_connection_queues(OTHER)
    kinds = [conn.is_public, conn.is_world_master, conn.is_world_node, conn.is_in_world]
    assert [[kind(peer) for kind in kinds] for peer in (AGENT, MASTER, WORLD, OTHER)] == [
        [True, False, False, False], [False, True, False, True], [False, False, True, True], [False] * 4]  # fmt: skip
    assert run(conn.update()) == ({}, conn.get_removed_after_updating())
    assert conn.get_removed_after_updating([NodeConn.IN_PUBLIC, NodeConn.OUT_PUBLIC]) == {
        NodeConn.IN_PUBLIC: {AGENT}, NodeConn.OUT_PUBLIC: set()}  # fmt: skip
    for call in (conn.size, conn.get_all_connected_peer_infos, conn.get_added_after_updating):
        with pytest.raises(KeyError):
            call(["nowhere"])


def test_changes_are_asked_for_by_one_name_or_several(conn):
    conn.add({"id": AGENT}, NodeConn.IN_PUBLIC)
    run(conn.update())
    assert conn.get_removed_after_updating(NodeConn.IN_PUBLIC) == {AGENT}
    assert conn.get_added_after_updating(NodeConn.IN_PUBLIC) == set()
    both = [NodeConn.IN_PUBLIC, NodeConn.OUT_PUBLIC]
    assert conn.get_removed_after_updating(both) == {NodeConn.IN_PUBLIC: {AGENT}, NodeConn.OUT_PUBLIC: set()}
    assert conn.get_removed_after_updating() == {NodeConn.IN_PUBLIC: {AGENT}}


def test_the_routing_function_tells_what_the_preset_would_do(conn):
    conn.set_world(WORLD)
    conn.set_inspector(OTHER)
    conn.set_world_agents_list([entry(AGENT, 1)])
    conn.set_world_masters_list([entry(MASTER, 3)])
    infos = [{"id": peer, "direction": "incoming"} for peer in (AGENT, MASTER, OTHER, WORLD, made_up_peer_id(9))]
    world = run(conn.conn_routing_fcn(infos, conn.p2p_world, None))
    assert {pool: set(peers) for pool, peers in world.items()} == {
        NodeConn.IN_WORLD_AGENTS: {AGENT},
        NodeConn.IN_WORLD_MASTERS: {MASTER, OTHER},
        NodeConn.IN_WORLD_NODE: {WORLD},
    }
    assert set(run(conn.conn_routing_fcn(infos, conn.p2p_public))) == {NodeConn.IN_PUBLIC}
    outgoing = run(conn.conn_routing_fcn([{"id": AGENT, "direction": "outbound"}], conn.p2p_world))
    assert set(outgoing) == {NodeConn.OUT_WORLD_AGENTS}
    with pytest.raises(ValueError, match="direction"):
        run(conn.conn_routing_fcn([{"id": AGENT, "direction": "sideways"}], conn.p2p_public))
    with pytest.raises(ValueError, match="network"):
        run(conn.conn_routing_fcn([], None))
    assert conn.size() == 0


def test_the_public_network_routes_by_direction(networks, stack):
    left, right = (conn_of(stack, networks, policy="none") for _ in range(2))

    async def play():
        await join(left, right, NodeConn.P2P_PUBLIC)
        assert await left.update() == ({NodeConn.OUT_PUBLIC: {right.p2p_public.peer_id}}, {})
        assert await right.update() == ({NodeConn.IN_PUBLIC: {left.p2p_public.peer_id}}, {})
        assert left.is_public(right.p2p_public.peer_id)

    run(play())


def test_members_of_the_world_find_their_places(world_pair):
    agent, world = world_pair

    async def play():
        assert await agent.update() == ({NodeConn.OUT_WORLD_NODE: {world.p2p_world.peer_id}}, {})
        assert await world.update() == ({NodeConn.IN_WORLD_AGENTS: {agent.p2p_world.peer_id}}, {})
        assert agent.is_world_node(world.p2p_world.peer_id) and world.is_in_world(agent.p2p_world.peer_id)
        assert world.get_all_connected_peer_infos(NodeConn.WORLD)[0]["misc"] == 1

    run(play())


def test_a_stranger_is_refused_and_takes_no_place(networks, stack, root):
    world = conn_of(stack, networks, root, name="world", world=True)
    stranger = conn_of(stack, networks, root, name="stranger")
    stranger.set_world(world.p2p_world.peer_id)

    async def play():
        async with reported(world.p2p_world, "pool_peer_refused", peer=stranger.p2p_world.peer_id, reason="stranger"):
            await stranger.connect(world.p2p_world.addresses, NodeConn.P2P_WORLD, timeout=5)
        await world.update()
        assert world.size() == 0 and world.counts()["stranger"] >= 1
        assert world.get_refused_after_updating()[0]["reason"] == "stranger"

    run(play())


def test_who_leaves_the_lists_is_a_stranger_and_loses_the_connection(world_pair):
    agent, world = world_pair
    own = agent.p2p_world.peer_id

    async def play():
        async with reported(world.p2p_world, "pool_peer_lost", peer=own):
            world.set_world_agents_list(None)
        _, removed = await world.update()
        assert removed == {NodeConn.IN_WORLD_AGENTS: {own}}
        assert await world.remove(own) in (True, False) and world.size() == 0

    run(play())


def test_a_changed_role_moves_between_lists_and_is_reported(world_pair):
    agent, world = world_pair
    own = agent.p2p_world.peer_id

    async def play():
        async with reported(world.p2p_public, "role_changed", peer=own, role=5, previous_role=1):
            world.set_role(own, 5)
        assert world.get_all_connected_peer_infos(NodeConn.WORLD_AGENTS)[0]["misc"] == 5
        with pytest.raises(ValueError):
            world.set_role(own, 2)
        assert world.get_role(own) == 5

    run(play())


def test_all_world_agents_are_removed_with_their_roles(world_pair):
    agent, world = world_pair
    own = agent.p2p_world.peer_id

    async def play():
        assert await world.remove_all_world_agents() is None
        assert world.size(NodeConn.WORLD) == 0 and world.get_role(own) == 0

    run(play())


def test_leaving_the_world_forgets_it_and_disconnects_its_peers(world_pair):
    agent, world = world_pair
    home = world.p2p_world.peer_id
    agent.set_world_masters_list([entry(MASTER, 3)])

    async def play():
        own = agent.p2p_world.peer_id
        told = reported(agent.p2p_world, "world_left", peer=home, reason="asked", peers=1)
        async with told, reported(world.p2p_world, "pool_peer_lost", peer=own):
            assert await agent.leave_world() == home
        assert agent.get_world_peer_id() is None and agent.rendezvous_tag == -1 and agent.get_first_world_master() is None
        assert agent.size(NodeConn.WORLD) == 0 and agent.world_agents_and_world_masters_set == set()
        assert agent.get_role(MASTER) == 0 and agent.get_addrs(MASTER) is None
        assert await agent.update() == ({}, {NodeConn.OUT_WORLD_NODE: {home}})
        assert await agent.update() == ({}, {}) and await agent.leave_world() is None

    run(play())


def test_losing_the_world_node_leaves_the_world(world_pair):
    agent, world = world_pair
    home = world.p2p_world.peer_id

    async def play():
        async with reported(agent.p2p_world, "world_left", peer=home, reason="lost"):
            await asyncio.get_running_loop().run_in_executor(None, world.close_transports)
        assert agent.get_world_peer_id() is None and not agent.in_connection_queues(home)

    run(play())


def test_who_stays_in_a_lost_world_finds_its_node_flagged(networks, stack, root):
    world = conn_of(stack, networks, root, name="world", world=True)
    agent = conn_of(stack, networks, root, name="agent", stay_in_lost_world=True)
    enlist(agent, world)
    home = world.p2p_world.peer_id

    async def play():
        await join(agent, world, NodeConn.P2P_WORLD)
        async with reported(agent.p2p_world, "pool_peer_lost", peer=home):
            await agent.disconnect(agent.p2p_world, home)
        assert await agent.update() == ({NodeConn.OUT_WORLD_NODE: {home}}, {NodeConn.OUT_WORLD_NODE: {home}})
        assert agent.get_world_peer_id() == home and agent.is_world_node(home)

    run(play())


def test_members_are_heard_without_a_place_and_no_other_set_is_taken(world_pair):
    agent, world = world_pair

    async def play():
        await agent.send(world.p2p_world.peer_id, None, Msg.MISC, "hello")
        assert (await take(world, NodeConn.P2P_WORLD, 1))[0].node_id == "agent"
        with pytest.raises(ValueError):
            await world.get_messages(NodeConn.P2P_WORLD, {OTHER})

    run(play())


def test_closing_the_transports_ends_both_networks(networks):
    conn = NodeConn(100, networks(), networks(), False, None, None, policy="none")
    conn.close_transports()
    assert conn.p2p_public.peer_id is conn.p2p_world.peer_id is None
    with pytest.raises(peerbus.ClosedError):
        conn.size()
