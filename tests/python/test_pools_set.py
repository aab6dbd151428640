"""ConnectionPools: construction, membership, routing and queries."""

import asyncio
import contextlib
import socket
from datetime import datetime, timezone

import pytest
from harness import made_up_peer_id
from pools_support import BY_DIRECTION, TWO_POOLS, join, pools_of, reported, until
from support import run

import peerbus
from peerbus.pools import DISABLED, UNLIMITED, ConnectionPools, Rule, ratio, slots

ALICE, BOB, CAROL = (made_up_peer_id(number) for number in (1, 2, 3))


def info(peer_id, **more):
    return {"id": peer_id, "addrs": [], "connected_at": "2026-01-31T00:00:00Z", "direction": "inbound", **more}


# ---- Construction


@pytest.mark.parametrize(
    ("budget", "declared", "places"),
    [
        (10, {"a": 0.5, "b": 0.5}, {"a": 5, "b": 5}),
        (11, {"a": 0.5, "b": 0.5}, {"a": 5, "b": 6}),
        (10, {"a": slots(4), "b": 1.0}, {"a": 4, "b": 6}),
        (10, {"a": 0.0, "b": 1.0}, {"a": 0, "b": 10}),
        (10, {"a": 1.0, "b": -1.0}, {"a": 10, "b": -1}),
        (10, {"a": DISABLED, "b": UNLIMITED, "c": ratio(1)}, {"a": 0, "b": -1, "c": 10}),
        (10, {"a": slots(2), "b": slots(3)}, {"a": 2, "b": 8}),
    ],
)
def test_capacities_follow_the_budget(networks, stack, budget, declared, places):
    given = {name: ["net", capacity] for name, capacity in declared.items()}
    pools = pools_of(stack, networks(), given, budget=budget, rules=[])
    assert pools.capacities == places and pools.pool_names == list(declared) and pools.max_con == budget


@pytest.mark.parametrize(
    ("budget", "declared"),
    [
        (1, {"a": ["net", 0.5], "b": ["net", 0.5]}),
        (10, {"a": ["net", 0.5], "b": ["net", 0.4]}),
        (10, {"a": ["net", 0.5], "b": ["net", 0.5 + 1e-8]}),
        (10, {"a": ["net", 1.5]}),
        (10, {"a": ["net", float("nan")]}),
        (10, {"a": ["net", slots(0)]}),
        (10, {"a": ["net", slots(11)]}),
        (10, {"a": ["net", ratio(0)]}),
        (10, {"a": ["net", "some"]}),
        (10, {"a": ["net", {"slots": 1, "ratio": 1}]}),
        (10, {"a": ["moon", 1.0]}),
        (10, {"a": ["net"]}),
        (10, {"a": "net"}),
        (10, {"": ["net", 1.0]}),
        (1 << 40, {"a": ["net", 1.0]}),
        (-1, {}),
    ],
)
def test_a_declaration_that_does_not_add_up_is_a_value_error(networks, stack, budget, declared):
    p2p = networks()
    with pytest.raises(ValueError):
        ConnectionPools(budget, declared, {"net": p2p}, rules=[])
    pools_of(stack, p2p)  # and the network is free as before


@pytest.mark.parametrize(
    "options",
    [
        {"rules": [Rule("nowhere")]},
        {"rules": [Rule("in", direction="sideways")]},
        {"rules": [Rule("in", role_mask=1, role_value=2)]},
        {"rules": BY_DIRECTION, "policy": "trust"},
        {"rules": BY_DIRECTION, "policy": "token"},
        {"rules": BY_DIRECTION, "public_key": "no key"},
        {"rules": BY_DIRECTION, "token": "x" * (1 << 20)},
        {"rules": BY_DIRECTION, "token": "two words"},
        {"rules": BY_DIRECTION, "members_only": ["moon"]},
        {"rules": BY_DIRECTION, "refuse_relayed": ["moon"]},
        {"members_only": ["net"]},
    ],
    ids=["unknown pool", "direction", "rule that never fits", "policy", "no key", "key", "token of a MiB", "token of two words",
         "members_only", "refuse_relayed", "members_only without rules"],
)
def test_options_that_do_not_fit_are_value_errors(networks, options):
    with pytest.raises(ValueError):
        ConnectionPools(10, TWO_POOLS, {"net": networks()}, **options)


def test_a_network_is_in_one_set_at_most(networks, stack):
    p2p = networks()
    first = pools_of(stack, p2p)
    with pytest.raises(peerbus.InUseError):
        pools_of(stack, p2p)
    first.close()
    first.close()
    pools_of(stack, p2p)


def test_a_closed_set_answers_closed(networks, stack):
    pools = pools_of(stack, networks())
    pools.close()
    for call in (pools.size, pools.get_pool_status, lambda: pools.add(info(ALICE), "in"), lambda: str(pools)):
        with pytest.raises(peerbus.ClosedError):
            call()
    with pytest.raises(peerbus.ClosedError):
        run(pools.update())


def test_a_forgotten_set_lets_its_network_go(networks, stack):
    p2p = networks()
    ConnectionPools(10, TWO_POOLS, {"net": p2p}, rules=[])

    async def again():
        while True:  # it is closed in the background
            with contextlib.suppress(peerbus.InUseError):
                return pools_of(stack, p2p)

    run(again())


def test_close_transports_closes_every_network(networks):
    first, second = networks(), networks()
    pools = ConnectionPools(10, {"a": ["x", 0.5], "b": ["y", 0.5]}, {"x": first, "y": second}, rules=[])
    pools.close_transports()
    assert first.peer_id is None and second.peer_id is None
    pools.close_transports()


def test_a_closed_network_cannot_be_pooled(networks):
    p2p = networks()
    p2p.close()
    with pytest.raises(peerbus.ClosedError):
        ConnectionPools(10, TWO_POOLS, {"net": p2p}, rules=[])


def test_networks_are_found_by_name(networks, stack):
    p2p = networks()
    pools = pools_of(stack, p2p)
    assert pools["net"] is p2p and pools.p2p_name_to_p2p == {"net": p2p}
    with pytest.raises(KeyError, match="there is no network 'moon'; there are net"):
        pools["moon"]


# ---- Membership by the caller's word


@pytest.fixture
def pools(networks, stack):
    return pools_of(stack, networks(), {"small": ["net", slots(1)], "large": ["net", slots(9)]}, rules=[])


def test_a_peer_is_added_without_a_connection(pools):
    one = info(ALICE, misc=7)
    assert pools.add(one, "large") is True
    assert one["misc"] == 0
    assert pools.get_pool_of(ALICE) == "large" and pools.is_connected(ALICE) and pools.is_connected(ALICE, "large")
    assert not pools.is_connected(ALICE, "small") and pools.size("large") == pools.size() == 1
    assert pools.get_all_connected_peer_infos("large")[0]["id"] == ALICE
    assert pools.get_pool_status() == {"small": set(), "large": {ALICE}}
    assert pools.get_all_connected_peer_ids() == [ALICE]


def test_misc_is_the_stored_role(pools):
    pools.set_role(ALICE, 5)
    one = info(ALICE)
    pools.add(one, "large")
    assert one["misc"] == 5 and pools.get_all_connected_peer_infos("large")[0]["misc"] == 5
    pools.set_role(ALICE, 3)
    assert pools.get_all_connected_peer_infos("large")[0]["misc"] == 3


def test_a_full_pool_refuses_new_peers_and_refreshes_old_ones(pools):
    assert pools.add(info(ALICE), "small")
    assert pools.add(info(BOB), "small") is False
    assert pools.get_pool_of(BOB) is None
    assert pools.add(info(ALICE, addrs=["/ip4/1.2.3.4/tcp/5"]), "small") is True
    assert pools.get_all_connected_peer_infos("small")[0]["addrs"] == ["/ip4/1.2.3.4/tcp/5"]


def test_a_peer_of_another_pool_is_refused_and_can_be_moved(pools):
    pools.add(info(ALICE), "small")
    assert pools.add(info(ALICE), "large") is False and pools.get_pool_of(ALICE) == "small"
    assert pools.move(ALICE, "large") is True and pools.get_pool_of(ALICE) == "large"
    pools.add(info(BOB), "small")
    assert pools.move(ALICE, "small") is False and pools.get_pool_of(ALICE) == "large"


def test_unknown_names_are_key_errors(pools):
    for call in (
        lambda: pools.add(info(ALICE), "nowhere"),
        lambda: pools.add({}, "small"),
        lambda: pools.add(info(""), "small"),
        lambda: pools.move(ALICE, "small"),
        lambda: pools.size("nowhere"),
        lambda: pools.get_all_connected_peer_infos("nowhere"),
        lambda: pools.get_added_after_updating("nowhere"),
        lambda: pools.set_allowed("nobody", []),
        lambda: run(pools.connect(["/ip4/127.0.0.1/tcp/1"], "moon")),
        lambda: run(pools.get_messages("moon")),
        lambda: run(pools.reserve(ALICE, "moon")),
    ):
        with pytest.raises(KeyError) as caught:
            call()
        assert isinstance(caught.value, peerbus.NotFoundError) and str(caught.value)[0] not in "'\""
    assert pools.size() == 0


@pytest.mark.parametrize("role", [-1, 2, 4, -(1 << 70), 1 << 70])
def test_roles_that_do_not_fit_are_value_errors(pools, role):
    pools.set_role(ALICE, 1)
    with pytest.raises(ValueError):
        pools.set_role(ALICE, role)
    assert pools.get_role(ALICE) == 1


def test_removing_forgets_the_place_and_keeps_the_role(pools):
    pools.set_role(ALICE, 5)
    pools.add(info(ALICE), "small")
    assert run(pools.remove(ALICE)) is True
    assert pools.get_pool_of(ALICE) is None and pools.get_role(ALICE) == 5
    assert run(pools.remove(ALICE)) is False
    assert run(pools.remove(BOB)) is False


def test_answers_are_copies(pools):
    pools.add(info(ALICE), "small")
    pools.get_pool_status()["small"].clear()
    pools.get_all_connected_peer_infos("small")[0]["id"] = BOB
    pools.get_all_connected_peer_ids().clear()
    assert pools.get_pool_status()["small"] == {ALICE}
    assert list(pools.get_pool_status()) == pools.pool_names


def test_the_text_lists_pools_and_peers(pools):
    pools.add(info(ALICE), "small")
    assert "pool=small, max_con=1, current_con=1" in str(pools) and ALICE in str(pools)


def test_an_added_peer_that_is_not_connected_is_flagged_by_update(pools):
    pools.add(info(ALICE), "small")
    assert run(pools.update()) == ({}, {"small": {ALICE}})
    assert pools.get_removed_after_updating() == {"small": {ALICE}}
    assert pools.get_removed_after_updating("small") == {ALICE}
    assert pools.get_removed_after_updating("large") == set() == pools.get_added_after_updating("small")
    assert pools.is_connected(ALICE)


# ---- Connections


def test_rules_place_connections_by_direction(networks, stack):
    left, right = pools_of(stack, networks()), pools_of(stack, networks())

    async def play():
        await join(left, right)
        assert await left.update() == ({"out": {right["net"].peer_id}}, {})
        assert await right.update() == ({"in": {left["net"].peer_id}}, {})
        assert await right.update() == ({}, {})
        assert right.get_added_after_updating() == {} and right.get_added_after_updating("in") == set()
        peer = right.get_all_connected_peer_infos("in")[0]
        assert peer["direction"] == "inbound" and peer["misc"] == 0 and peer["relayed"] is False and peer["connected_at"]

    run(play())


def test_a_lost_peer_keeps_its_place_until_it_is_removed(networks, stack):
    left, right = pools_of(stack, networks()), pools_of(stack, networks())

    async def play():
        await join(left, right)
        own = left["net"].peer_id
        await right.update()
        async with reported(right["net"], "pool_peer_lost", peer=own):
            assert await ConnectionPools.disconnect(right["net"], own) is True
        assert right.is_connected(own)
        assert await right.update() == ({}, {"in": {own}})
        assert await right.update() == ({}, {"in": {own}})
        assert await right.remove(own) is True
        assert await right.update() == ({}, {}) and not right.is_connected(own)

    run(play())


def test_a_closed_network_is_reported_and_keeps_its_pools(networks, stack, caplog):
    left, right = pools_of(stack, networks()), pools_of(stack, networks())

    async def play():
        await join(left, right)
        await right.update()
        right["net"].close()
        assert await right.update() == ({}, {})
        assert right.is_connected(left["net"].peer_id) and "network net cannot be asked" in caplog.text

    run(play())


def test_removing_on_a_closed_network_forgets_the_place(networks, stack):
    left, right = pools_of(stack, networks()), pools_of(stack, networks())

    async def play():
        await join(left, right)
        own = left["net"].peer_id
        right["net"].close()
        assert right.is_connected(own)
        assert await right.remove(own) is False and not right.is_connected(own)

    run(play())


def test_a_cancelled_connection_ends_and_the_next_one_works(networks, stack):
    left, right = pools_of(stack, networks()), pools_of(stack, networks())

    async def play():
        with socket.create_server(("127.0.0.1", 0)) as silent:  # who answers nothing
            address = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{made_up_peer_id(9)}"
            dialling = asyncio.ensure_future(left.connect([address], "net"))
            await asyncio.sleep(0)
            dialling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dialling
        await join(left, right)

    run(play())


def test_who_finds_no_place_is_refused_reported_and_disconnected(networks, stack):
    full = pools_of(stack, networks(), {"in": ["net", slots(1)], "out": ["net", slots(1)]}, budget=2)
    first, second = pools_of(stack, networks()), pools_of(stack, networks())

    async def play():
        await join(first, full)
        late = second["net"].peer_id
        async with reported(full["net"], "pool_peer_refused", peer=late, reason="pool_full", pool="in"):
            await second.connect(full["net"].addresses, "net")
        await full.update()
        assert full.get_refused_after_updating() == [{"network": "net", "peer": late, "reason": "pool_full", "pool": "in"}]
        assert full.counts()["pool_full"] >= 1 and full.size("in") == 1
        await until(lambda: late not in {peer["id"] for peer in full["net"].get_connected_peers_info()}, full["net"])

    run(play())


def test_allow_sets_and_roles_decide(networks, stack):
    declared = {"friends": ["net", slots(2)], "masters": ["net", slots(2)], "rest": ["net", slots(2)]}
    rules = [Rule("friends", allow=["friends"]), Rule("masters", role_mask=2, role_value=2), Rule("rest")]
    hub = pools_of(stack, networks(), declared, rules=rules)
    friend, master, other = (pools_of(stack, networks()) for _ in range(3))
    hub.set_allowed("friends", [friend["net"].peer_id])
    hub.set_role(master["net"].peer_id, 3)

    async def play():
        for one in (friend, master, other):
            await join(one, hub)
        added, _ = await hub.update()
        ids = {name: {one["net"].peer_id} for name, one in (("friends", friend), ("masters", master), ("rest", other))}
        assert added == ids
        hub.set_allowed("friends", [])
        _, removed = await hub.update()
        assert removed == {"friends": ids["friends"]} and hub.get_refused_after_updating()[0]["reason"] == "other_pool"
        assert hub.move(friend["net"].peer_id, "rest")
        assert await hub.update() == ({}, {})

    run(play())


def test_strangers_never_take_a_place(networks, stack):
    declared = {"members": ["net", slots(5)], "spare": ["net", slots(5)]}
    hub = pools_of(stack, networks(), declared, rules=[Rule("members", allow=["members"])], members_only=["net"])
    stranger, member = pools_of(stack, networks()), pools_of(stack, networks())
    hub.set_allowed("members", [member["net"].peer_id])

    async def play():
        async with reported(hub["net"], "pool_peer_refused", peer=stranger["net"].peer_id, reason="stranger"):
            await stranger.connect(hub["net"].addresses, "net", timeout=5)
        await join(member, hub)
        assert hub.get_all_connected_peer_ids() == [member["net"].peer_id]

    run(play())


def test_connecting_fails_with_none(networks, stack):
    pools, other = pools_of(stack, networks()), networks()
    gone = other.addresses
    other.close()

    async def play():
        assert await pools.connect([], "net") == (None, False)
        assert await pools.connect(["nonsense"], "net") == (None, False)
        assert await pools.connect(gone, "net", timeout=5) == (None, False)
        assert await pools.reserve(ALICE, "net") is None
        assert await ConnectionPools.disconnect(pools["net"], "nonsense") is False

    run(play())


def test_a_reservation_has_an_end_and_makes_a_peer_reachable_through_the_relay(networks, stack):
    relay = pools_of(stack, networks(enable_relay_service=True, knows_is_public=True))
    hidden, visitor = pools_of(stack, networks()), pools_of(stack, networks())

    async def play():
        assert await hidden.reserve(relay["net"].peer_id, "net") is None  # not connected
        await join(hidden, relay)
        expires = await hidden.reserve(relay["net"].peer_id, "net")
        assert datetime.strptime(expires, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc) > datetime.now(timezone.utc)
        circuits = [address for address in hidden["net"].addresses if "/p2p-circuit" in address]
        assert await visitor.connect(circuits, "net") == (hidden["net"].peer_id, True)

    run(play())
