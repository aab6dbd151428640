"""What goes through the pools: sending, topics, and who is heard."""

import asyncio
import json
import threading
import time

import numpy
import pytest
from harness import made_up_peer_id
from pools_support import Root, join, lost, pools_of, reported, take, until
from support import DEADLINE_S, run

import peerbus
from peerbus import _pools_messages
from peerbus.messages import Msg
from peerbus.pools import ConnectionPools, PoolMsg

STRANGER = made_up_peer_id(9)


@pytest.fixture
def pair(networks, stack, root):
    """Two sets whose networks are connected, with valid tokens."""
    left, right = networks(), networks()
    made = [
        pools_of(stack, p2p, public_key=root.public_key, token=root.token(name, p2p, cv_hash=f"cv of {name}", code_hash=name))
        for name, p2p in (("left", left), ("right", right))
    ]
    run(join(*made))
    return made


def raw(p2p, peer_id, content, **fields):
    """Sends an envelope as a program does that has no pools, with a piggyback of its choice."""
    channel = fields.pop("channel", f"{p2p.peer_id}::dm:{peer_id}-misc")
    message = Msg(sender=fields.pop("sender", p2p.peer_id), content=content, channel=fields.pop("stated", channel), **fields)
    p2p.send_message_to_peer(channel, message.to_bytes())


# ---- Sending


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        (Msg.MISC, {"ping": "pong", "n": [1, None, "☀"]}),
        (Msg.MISC, b"\x00raw\xff"),
        (Msg.MISC, bytearray(b"more")),
        (Msg.MISC, None),
        (Msg.PROFILE, {"name": "left"}),
        (Msg.STATS_UPDATE, [{"group_key": "g", "stat_name": "s", "timestamp": 1, "value": 2.5}]),
        (Msg.STREAM_SAMPLE, {"x": {"data": numpy.arange(6, dtype="float32").reshape(2, 3), "data_tag": 4}}),
    ],
    ids=["json", "bytes", "bytearray", "nothing", "profile", "stats", "tensor"],
)
def test_every_kind_of_content_arrives(pair, content_type, content):
    left, right = pair

    async def play():
        assert await left.send(right["net"].peer_id, None, content_type, content) is True
        return (await take(right, "net", 1))[0]

    message = run(play())
    expected = Msg(sender="x", content=content, content_type=content_type).to_bytes()
    received, sent = message.content, Msg.from_bytes(expected).content
    assert repr(received) == repr(sent) and message.content_type == content_type
    assert message.channel == f"{left['net'].peer_id}::dm:{right['net'].peer_id}-{content_type}"
    assert isinstance(message, PoolMsg) and message.sender == left["net"].peer_id


def test_the_piggyback_names_the_verified_node(pair):
    left, right = pair

    async def play():
        await left.send(right["net"].peer_id, "room", Msg.MISC, 1)
        message = (await take(right, "net", 1))[0]
        own = left["net"].peer_id
        assert message.channel.endswith("-misc~room")
        assert (message.piggyback, message.node_id, message.verified, message.inspector) == ("left0", "left", True, False)
        token = right.get_last_token(own)
        assert await right.verify_token(token, own) == ("left", "cv of left")
        assert await right.verify_token(token, own, node_id="right") == (None, None)
        assert await right.verify_token(token, STRANGER) == (None, None)
        assert await right.verify_token(token, own, port=0, ip="") == ("left", "cv of left")
        assert await right.verify_token(token, own, node_id="") == (None, None)
        assert await right.verify_token("x" * (1 << 20), own) == (None, None)
        assert await right.get_cv_hash_from_last_token(own) == "cv of left"
        assert right.get_peer_code_hash(own) == "left"
        assert right.get_last_token(STRANGER) is right.get_peer_code_hash(STRANGER) is None
        assert await right.get_cv_hash_from_last_token(STRANGER) is None

    run(play())


def test_many_messages_keep_their_order_against_a_full_queue(networks, stack):
    limits = {"send_messages": 4, "send_bytes": 1 << 20, "message_bytes": 1 << 19, "channel_messages": 4}
    left, right = (pools_of(stack, networks(limits=limits), policy="none") for _ in range(2))
    payload = bytes(200_000)

    async def play():
        await join(left, right)
        peer = right["net"].peer_id
        sending = [asyncio.ensure_future(left.send(peer, "", Msg.MISC, payload + bytes([number]))) for number in range(64)]
        received = await take(right, "net", 64)
        assert all(await asyncio.gather(*sending))
        assert [message.content[-1] for message in received] == list(range(64))

    run(play())


def test_sending_that_cannot_work_is_false(pair, networks):
    left, _ = pair
    foreign = networks()

    async def play():
        assert await left.send(STRANGER, None, Msg.MISC, 1) is False
        assert await left.send(STRANGER, None, Msg.MISC, 1, left["net"]) is False
        assert await left.send(STRANGER, None, Msg.MISC, 1, foreign) is False
        assert await left.send("", None, Msg.MISC, 1) is False
        assert await left.publish(STRANGER, f"{STRANGER}::ps:x", Msg.MISC, 1) is False
        assert await left.subscribe(STRANGER, f"{STRANGER}::ps:x") is False
        assert await left.subscribe(STRANGER, f"{STRANGER}::ps:x", "moon") is False
        assert await left.subscribe(left["net"].peer_id, "no channel") is False

    run(play())


def test_a_full_send_queue_is_false_at_the_timeout(networks, stack):
    limits = {"send_messages": 2, "send_bytes": 1 << 20, "message_bytes": 1 << 19, "channel_messages": 1}
    left, right = (pools_of(stack, networks(limits=limits), policy="none") for _ in range(2))

    async def play():
        await join(left, right)
        while await left.send(right["net"].peer_id, None, Msg.MISC, bytes(262_144), timeout=0.2):
            pass

    run(play())


@pytest.mark.parametrize(
    ("content_type", "content", "error"),
    [("unheard of", 1, AssertionError), (Msg.PROFILE, b"bytes", TypeError), (Msg.MISC, float("nan"), ValueError)],
)
def test_content_that_cannot_be_encoded_is_an_error_as_of_msg(pair, content_type, content, error):
    left, right = pair
    with pytest.raises(error):
        run(left.send(right["net"].peer_id, None, content_type, content))
    with pytest.raises(error):
        run(left.publish(left["net"].peer_id, f"{left['net'].peer_id}::ps:x", content_type, content))


def test_samples_are_compressed_beside_the_event_loop(pair, monkeypatch):
    left, right = pair
    threads = []
    encode = _pools_messages._encode

    def watched(*arguments):
        threads.append(threading.current_thread())
        return encode(*arguments)

    monkeypatch.setattr(_pools_messages, "_encode", watched)

    async def play():
        sample = {"text": {"data": "x" * 1000}}
        assert await left.send(right["net"].peer_id, "", Msg.STREAM_SAMPLE, sample)
        assert await left.send(right["net"].peer_id, "", "misc", {"small": 1})
        await take(right, "net", 2)
        assert [thread is threading.current_thread() for thread in threads] == [False, True]

    run(play())


def test_topics_reach_their_subscribers(pair):
    left, right = pair
    topic = f"{left['net'].peer_id}::ps:news"

    async def play():
        async with reported(left["net"], "topic_peer_joined", channel=topic):
            assert await left.subscribe(left["net"].peer_id, topic)
            assert await right.subscribe(left["net"].peer_id, topic)
        assert await left.publish(left["net"].peer_id, topic, Msg.MISC, {"n": 1})
        message = (await take(right, "net", 1))[0]
        assert (message.content, message.channel, message.node_id) == ({"n": 1}, topic, "left")
        async with reported(left["net"], "topic_peer_left", channel=topic):
            assert await right.unsubscribe(left["net"].peer_id, topic)

    run(play())


def test_idleness_counts_from_the_last_message(pair):
    left, right = pair

    async def play():
        assert left.passed_time_since_last_communication() > 1e9
        began = time.monotonic()
        await left.send(right["net"].peer_id, None, Msg.STATS_UPDATE, [])
        assert left.passed_time_since_last_communication() > 1e9
        await left.send(right["net"].peer_id, None, Msg.MISC, 1)
        await take(right, "net", 2)
        for pools in pair:
            assert 0 <= pools.passed_time_since_last_communication() <= time.monotonic() - began + 0.01

    run(play())


# ---- Receiving


def test_nothing_waits_is_an_empty_list_at_once(pair):
    assert run(pair[0].get_messages("net")) == []
    assert run(pair[0].get_messages("net", timeout=0.05)) == []


def test_waiting_for_messages_blocks_nobody_and_can_be_cancelled(pair):
    left, right = pair

    async def play():
        waiting = asyncio.ensure_future(right.get_messages("net", timeout=DEADLINE_S))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        waiting = asyncio.ensure_future(right.get_messages("net", timeout=DEADLINE_S))
        await left.send(right["net"].peer_id, None, Msg.MISC, "late")
        assert [message.content for message in await waiting] == ["late"]

    run(play())


def test_closing_ends_the_wait(pair):
    async def play():
        waiting = asyncio.ensure_future(pair[0].get_messages("net", timeout=DEADLINE_S))
        await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, pair[0]["net"].close)
        with pytest.raises(peerbus.ClosedError):
            await waiting

    run(play())


def test_without_key_and_policy_nothing_can_be_judged(networks, stack):
    pools = pools_of(stack, networks())
    assert pools.policy is None
    with pytest.raises(ValueError, match="policy"):
        run(pools.get_messages("net"))
    assert run(pools.verify_token("any", STRANGER)) == (None, None)


def test_under_the_policy_none_the_piggyback_passes_unverified(networks, stack, root):
    left, right = pools_of(stack, networks(), policy="none"), pools_of(stack, networks(), policy="none")

    async def play():
        await join(left, right)
        left.set_token("anything")
        await left.send(right["net"].peer_id, None, Msg.MISC, 1)
        message = (await take(right, "net", 1))[0]
        assert (message.piggyback, message.verified, message.node_id) == ("anything0", False, None)

    run(play())


@pytest.mark.parametrize(
    ("reason", "piggyback"),
    [
        ("no_token", lambda root, own: ""),
        ("no_token", lambda root, own: "0"),
        ("bad_token", lambda root, own: "nonsense0"),
        ("bad_token", lambda root, own: "x" * (1 << 20)),
        ("bad_token", lambda root, own: Root().token("left", own) + "0"),
        ("token_peer_mismatch", lambda root, own: root.issuer.issue("left", [STRANGER]) + "0"),
    ],
    ids=["empty", "only a bit", "nonsense", "of a MiB", "of another issuer", "of another peer"],
)
def test_a_message_without_a_valid_token_is_lost_with_its_reason(pair, root, reason, piggyback):
    left, right = pair
    own = left["net"]

    async def play():
        async with reported(right["net"], "messages_lost", reason=reason, peer=own.peer_id):
            raw(own, right["net"].peer_id, "bad", piggyback=piggyback(root, own))
        await left.send(right["net"].peer_id, None, Msg.MISC, "good")
        assert [message.content for message in await take(right, "net", 1)] == ["good"]
        assert right.counts()[reason] == 1

    run(play())


def test_an_expired_token_is_refused_until_it_is_renewed(pair, root):
    left, right = pair
    own, peer = left["net"], right["net"].peer_id

    async def play():
        token = root.token("left", own, lifetime=1)
        left.set_token(token)
        while (await right.verify_token(token, own.peer_id))[0]:
            await asyncio.sleep(0.05)
        async with reported(right["net"], "messages_lost", reason="expired_token", peer=own.peer_id):
            assert await left.send(peer, None, Msg.MISC, "too late")
        left.set_token(root.token("left", own))
        await left.send(peer, None, Msg.MISC, "renewed")
        assert [message.content for message in await take(right, "net", 1)] == ["renewed"]

    run(play())


@pytest.mark.parametrize("token", ["x" * (1 << 20), "two words", "ünïcode", "line\n"])
def test_a_token_that_nobody_would_read_is_a_value_error(pair, token):
    left, right = pair
    with pytest.raises(ValueError):
        left.set_token(token)

    async def play():
        await left.send(right["net"].peer_id, None, Msg.MISC, 1)
        assert (await take(right, "net", 1))[0].node_id == "left"  # the old one stays

    run(play())


@pytest.mark.parametrize(
    ("reason", "fields"),
    [("sender_mismatch", {"sender": STRANGER}), ("channel_spoofed", {"stated": f"{STRANGER}::dm:{STRANGER}-misc"})],
)
def test_an_envelope_that_lies_is_lost(pair, root, reason, fields):
    left, right = pair
    own = left["net"]

    async def play():
        async with reported(right["net"], "messages_lost", reason=reason):
            raw(own, right["net"].peer_id, "bad", piggyback=root.token("left", own) + "0", **fields)
        assert await right.get_messages("net") == []

    run(play())


def test_what_is_no_envelope_is_lost(pair):
    left, right = pair

    async def play():
        async with reported(right["net"], "messages_lost", reason="decode_error"):
            left["net"].send_message_to_peer(f"{left['net'].peer_id}::dm:{right['net'].peer_id}-misc", b"\xff\xff\xff")

    run(play())


def test_an_envelope_that_cannot_be_read_to_its_end_is_lost_counted_and_stops_nothing(pair, root):
    left, right = pair
    own = left["net"]
    broken = Msg(sender=own.peer_id, channel=f"{own.peer_id}::dm:{right['net'].peer_id}-misc", content_type=Msg.PROFILE)
    broken.piggyback = root.token("left", own) + "0"

    async def play():
        async with reported(right["net"], "messages_lost", reason="decode_error", peer=own.peer_id):
            own.send_message_to_peer(broken.channel, broken.to_bytes() + b"\x3a\x01\xff")  # json_content is not UTF-8
            await left.send(right["net"].peer_id, None, Msg.MISC, "next")
            assert [message.content for message in await take(right, "net", 1)] == ["next"]
        assert right.counts() == {"decode_error": 1}

    run(play())


def test_the_inspector_bit_counts_for_the_inspector_only(pair, root):
    left, right = pair
    own = left["net"]
    right.set_inspector_node_id("left")

    async def play():
        raw(own, right["net"].peer_id, 1, piggyback=root.token("left", own) + "1")
        raw(own, right["net"].peer_id, 2, piggyback=root.token("left", own) + "0")
        raw(own, right["net"].peer_id, 3, piggyback=root.token("other", own) + "1")
        messages = await take(right, "net", 3)
        assert [(one.piggyback, one.inspector) for one in messages] == [("left1", True), ("left0", False), ("other0", False)]

    run(play())


def test_who_is_in_no_pool_is_not_heard_unless_allowed(networks, stack, root):
    hub = pools_of(stack, networks(), rules=[], public_key=root.public_key, keep_refused=True)
    guest = pools_of(stack, networks(), token=root.token("guest", hub["net"]), public_key=root.public_key)
    own, peer = guest["net"].peer_id, hub["net"].peer_id
    guest.set_token(root.token("guest", guest["net"]))

    async def play():
        async with reported(hub["net"], "pool_peer_refused", peer=own, reason="unroutable"):
            await guest.connect(hub["net"].addresses, "net")
        await until(lambda: guest.is_connected(peer), guest["net"])
        await lost(hub["net"], "not_member", guest.send(peer, None, Msg.MISC, "unheard"))
        assert await hub.get_messages("net", {own}) == []
        await guest.send(peer, None, Msg.MISC, "heard")
        heard = await hub.get_messages("net", {own}, timeout=DEADLINE_S)
        assert [message.content for message in heard] == ["heard"] and heard[0].node_id == "guest"
        await hub.get_messages("net")
        await lost(hub["net"], "not_member", guest.send(peer, None, Msg.MISC, "unheard again"))
        with pytest.raises(ValueError):
            await hub.get_messages("net", {"x" * 1000})

    run(play())


class Hospitable(ConnectionPools):
    """Routes everybody to one pool."""

    async def conn_routing_fcn(self, connected_peer_infos, p2p):
        return {"in": {peer["id"]: peer for peer in connected_peer_infos}}


def test_the_first_message_of_a_peer_that_nobody_has_routed_yet_is_not_lost(networks, stack, root):
    hub = pools_of(stack, networks(), kind=Hospitable, public_key=root.public_key)
    guest = pools_of(stack, networks(), public_key=root.public_key)
    guest.set_token(root.token("guest", guest["net"]))

    async def play():
        await join(guest, hub)
        await guest.send(hub["net"].peer_id, None, Msg.MISC, "first")
        assert [message.content for message in await take(hub, "net", 1)] == ["first"]
        assert hub.get_pool_of(guest["net"].peer_id) == "in"

    run(play())


def test_a_flood_of_bad_tokens_holds_up_nobody_else(networks, stack, root):
    hub, honest, flooder = (pools_of(stack, networks(), public_key=root.public_key) for _ in range(3))
    honest.set_token(root.token("honest", honest["net"]))

    async def play():
        await join(honest, hub)
        await join(flooder, hub)
        flooding = flooder["net"].node
        channel = flooding.direct_channel(hub["net"].peer_id, "misc")
        for number in range(2000):
            forged = Msg(sender=flooding.peer_id, channel=channel, content=number, piggyback=f"bad.{number}.token0")
            await flooding.send(channel, forged.to_bytes())
        await honest.send(hub["net"].peer_id, None, Msg.MISC, "through")
        assert [message.content for message in await take(hub, "net", 1)] == ["through"]
        await flooding.flush(channel)
        await until(lambda: sum(refused_tokens(hub)) == 2000, hub["net"])
        assert refused_tokens(hub)[1] > 0

    run(play())


def refused_tokens(pools):
    counts = pools.counts()
    return counts.get("bad_token", 0), counts.get("rate_limited", 0)


def test_messages_can_be_pickled_without_what_the_pools_found(pair):
    import pickle

    left, right = pair

    async def play():
        await left.send(right["net"].peer_id, None, Msg.MISC, {"a": 1})
        return (await take(right, "net", 1))[0]

    copy = pickle.loads(pickle.dumps(run(play())))
    assert copy.content == {"a": 1} and copy.piggyback == "left0" and copy.verified is False
    assert json.dumps(copy.content)
