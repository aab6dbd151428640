"""Small worlds through the C functions, each in a process of its own. Arguments: the library, a directory, the scenario."""

import contextlib
import itertools
import json
import sys

from pools_host import (
    INSPECTOR,
    JSON_CONTENT,
    KEYS,
    RAW_CONTENT,
    VERIFIED,
    WORLD,
    Failure,
    Member,
    a_world_of,
    check,
    code_of,
    control,
    library,
    start_node,
    token,
    until,
)

# ---- Scenarios ----


def messages_carry_the_verified_node_id():
    world, ann, bob = a_world_of("ann", "bob")
    assert world.ask("status")["in_world_agents_private"] == sorted([ann.id, bob.id])
    assert ann.ask("pool_of", peer=world.id) == {"pool": "out_world_node_private", "network": WORLD}
    ann.send(world.id)
    bob.send(world.id, b"\0raw", content=RAW_CONTENT)
    received = {sender: (node_id, flags) for sender, node_id, flags, _ in world.receive(2)}
    assert received == {ann.id: ("ann", VERIFIED), bob.id: ("bob", VERIFIED)}
    assert world.ask("last_claims", peer=ann.id)["node_id"] == "ann" and world.ask("last_token", peer=ann.id) == ann.token
    kinds = [event["type"] for event in world.events() if event.get("peer") == ann.id]
    assert kinds == ["pool_peer_added", "peer_connected"]


def a_stranger_never_takes_a_place():
    world, ann = a_world_of("ann")
    stranger = Member("stranger")
    with contextlib.suppress(Failure):  # the dialler may take the connection for established before it hears of the refusal
        control("PoolsConnect", stranger.pools, WORLD, world.addresses, 20000)
    refusal = {"network": WORLD, "peer": stranger.id, "reason": "stranger", "pool": ""}
    until("the stranger is refused", lambda: refusal in control("PoolsUpdate", world.pools)["refused"])
    assert world.ask("peer_ids") == [ann.id] and world.ask("counts")["stranger"] >= 1
    assert [e["reason"] for e in world.events() if e["type"] == "pool_peer_refused"] == ["stranger"]
    assert [p["id"] for p in control("GetConnectedPeers", world.world)] == [ann.id]


def a_stolen_an_expired_and_a_missing_token_are_refused():
    world, ann, bob = a_world_of("ann", "bob")
    bob.set("token", ann.token)
    bob.send(world.id)
    world.wait_for_loss("token_peer_mismatch")
    bob.set("token", token("bob", bob.id, lifetime_seconds=1))
    until(
        "the token has expired", lambda: control("VerifyToken", KEYS["public_key"], token_of(bob), bob.id, {})["valid"] is False
    )
    bob.send(world.id)
    world.wait_for_loss("expired_token")
    bob.set("token", "")
    bob.send(world.id)
    world.wait_for_loss("no_token")
    bob.set("token", "x.y.z")
    bob.send(world.id)
    world.wait_for_loss("bad_token")
    bob.set("token", bob.token)  # renewal
    bob.send(world.id, b'"back"')
    ann.send(world.id)
    assert {sender for sender, *_ in world.receive(2)} == {ann.id, bob.id}
    assert world.ask("counts") == {"token_peer_mismatch": 1, "expired_token": 1, "no_token": 1, "bad_token": 1}
    lost = [e for e in world.events() if e["type"] == "messages_lost"]
    assert {e["reason"] for e in lost} == set(world.ask("counts")) and {e["peer"] for e in lost} == {bob.id}


tokens_given = {}


def token_of(member):
    """A token that expires like the one that was just set."""
    return tokens_given.setdefault(member.name, token(member.name, member.id, lifetime_seconds=1))


def leaving_the_world_ends_everything_about_it():
    world, ann = a_world_of("ann")
    ann.set_list("world_masters", [{"id": world.public_id, "addrs": world.addresses, "misc": 3}])
    assert control("PoolsLeaveWorld", ann.pools) == world.id
    assert ann.ask("world") == {"world": "", "inspector": "", "first_master": "", "rendezvous_tag": -1}
    assert ann.ask("peer_ids") == [] and ann.ask("world_masters") == [] and ann.ask("role", peer=world.public_id) == 0
    assert control("PoolsUpdate", ann.pools)["removed"] == {"out_world_node_private": [world.id]}
    until("the world node is disconnected", lambda: control("GetConnectedPeers", ann.world) == [])
    left = [event for event in ann.events() if event["type"] == "world_left"]
    assert [(one["peer"], one["reason"], one["peers"]) for one in left] == [(world.id, "asked", 1)]
    assert control("PoolsLeaveWorld", ann.pools) == ""
    until("ann comes back", lambda: code_or_none(ann.join, world) is None)
    assert ann.ask("peer_ids") == [world.id] and control("GetStatistics", ann.world)["lost"]["in"] == {}


def code_or_none(call, *arguments):
    try:
        call(*arguments)
    except Failure as failure:
        return failure.code
    return None


def what_is_no_envelope_or_lies_about_its_sender_is_refused():
    world, ann, bob = a_world_of("ann", "bob")
    channel = f"{ann.id}::dm:{world.id}-misc".encode()
    check(library.peerbus_send(ann.world, channel, b"\xff\xff", 2, 20000))
    world.wait_for_loss("decode_error")
    forged = b"\x0a" + bytes([len(bob.id)]) + bob.id.encode()  # field 1, the sender
    check(library.peerbus_send(ann.world, channel, forged, len(forged), 20000))
    world.wait_for_loss("sender_mismatch")
    elsewhere = b"\x0a" + bytes([len(ann.id)]) + ann.id.encode() + b"\x1a\x01x"  # field 3, the channel
    check(library.peerbus_send(ann.world, channel, elsewhere, len(elsewhere), 20000))
    world.wait_for_loss("channel_spoofed")
    huge = b"\x0a" + bytes([len(ann.id)]) + ann.id.encode() + b"\x22\x80\x80\x40" + b"A" * (1 << 20)  # field 4: 1 MiB of token
    check(library.peerbus_send(ann.world, channel, huge, len(huge), 20000))
    world.wait_for_loss("bad_token")
    ann.send(world.id)
    assert world.receive()[0][1] == "ann"


def the_inspector_bit_counts_only_for_the_inspector():
    world, ann, bob = a_world_of("ann", "bob", inspector_node_id="ann")
    for member in (ann, bob):
        channel = f"{member.id}::dm:{world.id}-misc"
        piggyback = (member.token + "1").encode()
        message = b"\x0a" + bytes([len(member.id)]) + member.id.encode()
        message += b"\x22" + bytes([len(piggyback) & 127 | 128, len(piggyback) >> 7]) + piggyback
        check(library.peerbus_send(member.world, channel.encode(), message, len(message), 20000))
    assert {(node_id, flags) for _, node_id, flags, _ in world.receive(2)} == {("ann", VERIFIED | INSPECTOR), ("bob", VERIFIED)}


def a_flood_of_bad_tokens_delays_nobody_else():
    world, ann, bob = a_world_of("ann", "bob")
    flood = 2000
    for number in range(flood):
        bob.set("token", f"x.y.{number}")
        bob.send(world.id)
    for number in range(50):
        ann.send(world.id, str(number).encode())
    contents = [payload for *_, payload in world.receive(50)]
    assert len(contents) == 50
    until("the flood is counted", lambda: sum(world.losses().values()) == flood)
    losses = world.losses()
    assert set(losses) == {"bad_token", "rate_limited"} and losses["rate_limited"] > flood / 2, losses
    bob.set("token", bob.token)


def bad_input_changes_nothing():
    world, ann = a_world_of("ann")
    before = {q: world.ask(q) for q in ("status", "pools", "world", "world_agents", "world_masters", "peers")}
    entry = ann.entry(1)
    for bad in (
        b"",
        b"[",
        b"{}",
        b"[7]",
        b'[{"id":"x","misc":1}]',
        json.dumps([entry, entry]).encode(),
        json.dumps([ann.entry(3)]).encode(),
        json.dumps([ann.entry(0)]).encode(),
        json.dumps([{**entry, "addrs": ["a"] * 65}]).encode(),
    ):
        assert code_of(world.set_list, "world_agents", bad) == "INVALID_ARGUMENT", bad
    assert code_of(world.set_list, "world_agents", b"[" + b"0," * (25 << 20) + b"0]") == "TOO_LARGE"
    assert code_of(world.set_list, "others", b"[]") == "INVALID_ARGUMENT"
    for setting, value in (
        ("role", {"peer": ann.id, "role": 2}),
        ("role", {"peer": ann.id, "role": -1}),
        ("role", {"peer": ann.id}),
        ("token", "x" * (16 * 1024 + 1)),
        ("token", "a b"),
        ("keep_refused", 1),
        ("token", None),
        ("rendezvous_tag", "x"),
        ("addresses", {"peer": ann.id, "addrs": ["a"] * 65}),
    ):
        assert code_of(world.set, setting, value) == "INVALID_ARGUMENT", setting
    assert code_of(control, "PoolsAddToWorldList", world.pools, "world_masters", entry) == "INVALID_ARGUMENT"
    assert code_of(control, "PoolsAdd", world.pools, "in_world_masters_private", {"id": ann.id}) == "REFUSED"
    assert code_of(control, "PoolsAdd", world.pools, "nowhere", {"id": ann.id}) == "NOT_FOUND"
    assert code_of(control, "PoolsAdd", world.pools, "in_all_universe_public", {}) == "NOT_FOUND"
    assert code_of(control, "PoolsMove", world.pools, "in_all_universe_public", "nobody") == "NOT_FOUND"
    assert code_of(control, "PoolsRoute", world.pools, WORLD, {}) == "INVALID_ARGUMENT"
    assert control("PoolsRemove", world.pools, "nobody", 1000) is False
    assert before == {query: world.ask(query) for query in before}


def capacities_that_do_not_add_up_are_refused():
    slot, *_ = start_node()

    def create(connections, *capacities, **more):
        pools = [{"name": str(n), "network": "n", "capacity": c} for n, c in enumerate(capacities)]
        return control(
            "CreatePools",
            {"max_connections": connections, "networks": [{"name": "n", "instance": slot}], "pools": pools, **more},
        )

    for connections, *capacities in (
        (1, 0.5, 0.5),
        (10, 0.5, 0.4),
        (10, {"slots": 11}),
        (10, {"slots": 0}),
        (10, {"ratio": 0}),
        (10, {"ratio": 1.5}),
        (10, "many"),
        (10, {"slots": 1, "ratio": 1}),
        (2, {"slots": 2}, 1),
    ):
        assert code_of(create, connections, *capacities) == "INVALID_ARGUMENT", capacities
    assert code_of(create, 10, 1, policy="token") == "INVALID_ARGUMENT"
    assert code_of(create, 10, 1, public_key="no key") == "INVALID_ARGUMENT"
    assert code_of(create, 10, 1, rules=[{"pool": "elsewhere"}]) == "INVALID_ARGUMENT"
    assert code_of(create, 10, 1, colour="blue") == "INVALID_CONFIG"
    assert code_of(create, 10, 1, world=slot) == "INVALID_CONFIG"
    assert (
        code_of(control, "CreatePools", {"preset": "node_conn", "max_connections": 100, "public": slot, "world": slot})
        == "IN_USE"
    )
    assert (
        code_of(control, "CreatePools", {"max_connections": 1, "networks": [{"name": "n", "instance": 29}], "pools": []})
        == "NO_NODE"
    )
    made = create(100, 0.5, {"slots": 3}, "unlimited", 0, 0.5, rules=[{"pool": "0"}])
    assert [c["capacity"] for c in made["capacities"]] == [48, 3, -1, 0, 49]
    assert code_of(create, 10, 1) == "IN_USE"
    control("ClosePools", made["pools"])
    create(10, 1, rules=[{"pool": "0"}])


def rosters_of_the_world_are_applied_and_old_ones_ignored():
    world, ann, bob = a_world_of("ann", "bob")
    topic = f"{world.id}::ps:rv"
    counts = itertools.count(5)
    for member in (world, ann):
        control("PoolsSubscribe", member.pools, world.id, topic, "")

    def publish(count, *entries):
        content = json.dumps(
            {"peers": [{"direction": "", "connected_at": None, "relayed": False, **e} for e in entries], "update_count": count}
        ).encode()
        return check(
            library.peerbus_pools_publish(
                world.pools, world.id.encode(), topic.encode(), b"world_agents_list", JSON_CONTENT, content, len(content), 20000
            )
        )

    def applied():  # the first may come before the router has a stream to ann; it is counted as lost then
        publish(next(counts), ann.entry(1), bob.entry(3), {"id": world.id, "addrs": world.addresses, "misc": 4})
        return control("PoolsApplyRendezvous", ann.pools)["applied"]

    until("a roster is applied", applied)
    newest = next(counts) - 1
    until("the newest is", lambda: control("PoolsApplyRendezvous", ann.pools)["update_count"] == newest)
    assert ann.ask("world_masters") == [bob.id] and ann.ask("world")["first_master"] == bob.id
    event = [e for e in ann.events() if e["type"] == "rendezvous_applied"][-1]
    assert event["peers"] == 2 and event["skipped"] == 1 and event["peer"] == world.id
    assert ann.ask("find_by_role", role=3) == [{"id": bob.id, "addrs": bob.addresses}]
    publish(0, ann.entry(3))
    ann.wait_for_loss("rendezvous_stale")
    assert control("PoolsApplyRendezvous", ann.pools) == {"applied": False, "update_count": newest}
    assert ann.ask("world_masters") == [bob.id]
    ann.set("rendezvous_tag", None)
    assert control("PoolsApplyRendezvous", ann.pools)["applied"] is True


def the_host_routes_when_it_wants_to():
    slot, addresses, _ = start_node()
    pools = control(
        "CreatePools",
        {
            "max_connections": 10,
            "policy": "none",
            "custom_routing": True,
            "networks": [{"name": "n", "instance": slot}],
            "pools": [{"name": "left", "network": "n", "capacity": 0.5}, {"name": "right", "network": "n", "capacity": 0.5}],
        },
    )["pools"]
    others = [start_node() for _ in range(2)]
    for other, _, _ in others:
        control("ConnectTo", other, addresses)
    (_, _, left), (_, _, nowhere) = others
    asked = []
    until(
        "both are to be routed",
        lambda: asked.extend(e for e in control("PopEvents", slot, 100, 100) or [] if e["type"] == "pool_route_requested")
        or len(asked) == 2,
    )
    assert {e["peer"] for e in asked} == {left, nowhere} and {e["direction"] for e in asked} == {"inbound"}
    assert {p["id"] for p in control("PoolsQuery", pools, "unrouted", {"network": "n"})} == {left, nowhere}
    assert control("PoolsUpdate", pools)["added"] == {}
    assert code_of(control, "PoolsRoute", pools, "n", {left: "left", nowhere: "up"}) == "NOT_FOUND"
    control("PoolsRoute", pools, "n", {left: "left", nowhere: ""})
    changes = control("PoolsUpdate", pools)
    assert changes["added"] == {"left": [left]} and [r["reason"] for r in changes["refused"]] == ["unroutable"]
    until("nobody's peer is disconnected", lambda: [p["id"] for p in control("GetConnectedPeers", slot)] == [left])


def closing_ends_calls_and_gives_the_nodes_free():
    world, ann = a_world_of("ann")
    control("ClosePools", world.pools)
    assert code_of(world.ask, "size") == "CLOSED" and code_of(world.send, ann.id) == "CLOSED"
    assert control("ClosePools", world.pools).endswith("before")
    ann.send(world.id)  # nobody judges it now
    channel = until("the message waits", lambda: control("GetStatistics", world.world)["received"]["channels"])
    assert channel and len(control("GetConnectedPeers", world.world)) == 1
    again = {
        "max_connections": 4,
        "policy": "none",
        "networks": [{"name": WORLD, "instance": world.world}],
        "pools": [{"name": "p", "network": WORLD, "capacity": 1}],
        "rules": [{"pool": "p"}],
    }
    world.pools = control("CreatePools", again)["pools"]
    assert world.ask("peer_ids") == [ann.id]  # the set takes the connections that there are
    sender, node_id, flags, _ = world.receive()[0]
    assert (sender, node_id, flags) == (ann.id, None, 0)
    control("CloseNode", world.world)
    assert code_of(world.send, ann.id) == "CLOSED" and world.ask("size") == 1
    assert control("ClosePools", -1) == "2 closed"


def a_failed_creation_leaves_the_other_set_on_guard():
    world, ann, bob = a_world_of("ann", "bob")
    config = {
        "max_connections": 1,
        "policy": "none",
        "networks": [{"name": WORLD, "instance": world.world}],
        "pools": [{"name": "p", "network": WORLD, "capacity": 1}],
    }
    assert code_of(control, "CreatePools", config) == "IN_USE"
    bob.set("token", ann.token)
    bob.send(world.id)
    world.wait_for_loss("token_peer_mismatch")
    assert control("PoolsRemove", world.pools, ann.id, 5000) is True and world.ask("peer_ids") == [bob.id]


def without_a_policy_nothing_is_taken():
    slot, *_ = start_node()
    config = {
        "max_connections": 1,
        "networks": [{"name": WORLD, "instance": slot}],
        "pools": [{"name": "p", "network": WORLD, "capacity": 1}],
    }
    member = Member.__new__(Member)
    member.pools = control("CreatePools", config)["pools"]
    assert code_of(member.receive) == "INVALID_CONFIG" and member.ask("policy") == ""
    assert member.ask("verify_token", token="x", peer="y")["reason"] == "no_key"
    assert code_of(member.ask, "world") == "UNSUPPORTED" and code_of(member.set, "world", None) == "UNSUPPORTED"


def tokens_are_issued_and_verified():
    for algorithm in ("RS256", "EdDSA", "ES256"):
        keys = control("GenerateTokenKey", algorithm)
        made = control(
            "IssueToken", keys["private_key"], {"node_id": "n", "p2p_peers": ["p"], "hostname": "h", "p2p_peers_as_text": True}
        )["token"]
        verdict = control("VerifyToken", keys["public_key"], made, "p", {"hostname": "h"})
        assert verdict["valid"] and verdict["claims"]["node_id"] == "n" and verdict["claims"]["p2p_peers"] == ["p"]
        for peer, match, reason in (("q", {}, "token_peer_mismatch"), ("p", {"port": 1}, "bad_token")):
            assert control("VerifyToken", keys["public_key"], made, peer, match)["reason"] == reason
        assert control("VerifyToken", KEYS["public_key"], made, "p", {})["reason"] == "bad_token"
    assert code_of(control, "IssueToken", keys["public_key"], {"node_id": "n", "p2p_peers": ["p"]}) == "INVALID_ARGUMENT"
    assert code_of(control, "IssueToken", keys["private_key"], {"node_id": "n", "p2p_peers": []}) == "INVALID_ARGUMENT"
    assert code_of(control, "GenerateTokenKey", "none") == "INVALID_ARGUMENT"


if __name__ == "__main__":
    library.InitializeLibrary(30, 0, 0, 0, None)
    KEYS.update(control("GenerateTokenKey", "EdDSA"))
    globals()[sys.argv[3]]()
    control("ClosePools", -1)
    control("CloseNode", -1)
