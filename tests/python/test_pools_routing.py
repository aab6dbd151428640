"""A routing function of the program."""

import pytest
from harness import made_up_peer_id
from pools_support import join, pools_of
from support import run

from peerbus.pools import ConnectionPools

ALICE = made_up_peer_id(1)


class Alphabet(ConnectionPools):
    """Routes by a table."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.table, self.asked = {}, []

    async def conn_routing_fcn(self, connected_peer_infos, p2p):
        assert p2p is self["net"]
        self.asked += [peer["id"] for peer in connected_peer_infos]
        routes = {}
        for peer in connected_peer_infos:
            if peer["id"] in self.table:
                routes.setdefault(self.table[peer["id"]], {})[peer["id"]] = peer
        return routes


class Everybody(ConnectionPools):
    """Routes everybody to one pool, in a plain method."""

    def conn_routing_fcn(self, connected_peer_infos, p2p, membership=None):
        return {"in": {peer["id"]: peer for peer in connected_peer_infos}}


def test_the_base_class_cannot_route(networks, stack):
    pools = pools_of(stack, networks(), rules=None)
    with pytest.raises(NotImplementedError):
        run(pools.conn_routing_fcn([], pools["net"]))
    with pytest.raises(NotImplementedError):
        run(pools.update())
    assert pools.add({"id": ALICE}, "in")


def test_a_routing_function_is_asked_once_per_connection(networks, stack):
    hub = pools_of(stack, networks(), kind=Alphabet)
    welcome, unwelcome = pools_of(stack, networks()), pools_of(stack, networks())
    ids = [one["net"].peer_id for one in (welcome, unwelcome)]
    hub.table = {ids[0]: "out"}

    async def play():
        await join(welcome, hub)
        await join(unwelcome, hub)
        assert await hub.update() == ({"out": {ids[0]}}, {})
        assert hub.get_refused_after_updating() == [{"network": "net", "peer": ids[1], "reason": "unroutable", "pool": ""}]
        await hub.update()
        assert sorted(hub.asked) == sorted(ids)

    run(play())


def test_a_routing_function_can_change_its_mind(networks, stack):
    hub, guest = pools_of(stack, networks(), kind=Alphabet), pools_of(stack, networks())
    own = guest["net"].peer_id
    hub.table = {own: "out"}

    async def play():
        await join(guest, hub)
        await hub.update()
        hub.table = {own: "in"}
        await hub.route_again()
        assert await hub.update() == ({}, {"out": {own}})
        assert hub.move(own, "in") and await hub.update() == ({}, {})

    run(play())


@pytest.mark.parametrize(("table", "error"), [("nowhere", KeyError), (None, ValueError)])
def test_a_routing_function_that_answers_nonsense_fails_the_update(networks, stack, table, error):
    hub, guest = pools_of(stack, networks(), kind=Alphabet), pools_of(stack, networks())
    own = guest["net"].peer_id
    hub.table = {own: table or "in"}
    if table is None:
        hub.conn_routing_fcn = lambda peers, p2p: {"in": {own: {}}, "out": {own: {}}}

    async def play():
        await join(guest, hub)
        with pytest.raises(error):
            await hub.update()
        assert hub.size() == 0

    run(play())


def test_a_routing_function_may_take_a_membership(networks, stack):
    hub, guest = pools_of(stack, networks(), kind=Everybody), pools_of(stack, networks())
    told = []

    def route(peers, p2p, membership):
        told.append(membership)
        return {"out": {peer["id"]: peer for peer in peers}}

    hub.conn_routing_fcn = route

    async def play():
        await join(guest, hub)
        assert await hub.update() == ({"out": {guest["net"].peer_id}}, {}) and told == [None]

    run(play())


def test_a_routing_function_may_be_a_plain_method(networks, stack):
    hub, guest = pools_of(stack, networks(), kind=Everybody), pools_of(stack, networks())

    async def play():
        await join(guest, hub)
        assert await hub.update() == ({"in": {guest["net"].peer_id}}, {})

    run(play())
