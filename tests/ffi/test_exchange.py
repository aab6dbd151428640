"""Programs in C, C++ and Python exchange messages, each in a process of its own."""

import base64

import pytest
from hosts import KINDS, HostError, checksum, payload

PAIRS = [(one, other) for one in KINDS for other in KINDS if one != other]
MEBIBYTE = 1 << 20
SIZES = [1, 100, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 65536, MEBIBYTE, 8 * MEBIBYTE]
ROOMY = {"message_bytes": 80 * MEBIBYTE, "channel_bytes": 100 * MEBIBYTE, "peer_queue_bytes": 200 * MEBIBYTE,
         "send_bytes": 200 * MEBIBYTE}

across = pytest.mark.parametrize("one, other", PAIRS, ids=["-to-".join(pair) for pair in PAIRS])


def exchange(sender, receiver, sizes):
    channel = sender.channel_to(receiver)
    for seed, size in enumerate(sizes):
        assert sender.send(channel, size=size, seed=seed) == (1, "OK")
    received = receiver.receive_count(len(sizes), channel)
    assert [(m.size, m.checksum) for m in received] == [(size, checksum(size, seed)) for seed, size in enumerate(sizes)]
    assert {(m.sender, m.channel, m.gap) for m in received} == {(sender.id, channel, 0)}


@across
def test_every_size_arrives_whole_and_in_order_both_ways(start, one, other):
    first, second = start(one), start(other)
    first.connect(second)
    exchange(first, second, SIZES)
    exchange(second, first, SIZES)


@pytest.mark.parametrize("one, other", [("c", "python"), ("python", "cpp"), ("cpp", "c")])
def test_64_mebibytes_arrive_when_the_limits_allow_them(start, one, other):
    first, second = start(one, limits=ROOMY), start(other, limits=ROOMY)
    first.connect(second)
    exchange(first, second, [64 * MEBIBYTE])


def test_a_message_above_the_limit_is_refused_at_the_sender(pair):
    first, second = pair
    channel = first.channel_to(second)
    assert first.send(channel, size=50 * MEBIBYTE) == (0, "TOO_LARGE")
    with pytest.raises(HostError, match="TOO_LARGE"):
        first.call("send_now", 0, channel, 50 * MEBIBYTE, 0)
    exchange(first, second, [100])


@across
def test_send_now_and_flush_hand_over_to_the_transport(start, one, other):
    first, second = start(one), start(other)
    first.connect(second)
    channel = first.channel_to(second)
    first.call("send_now", 0, channel, 1000, 7)
    assert second.receive()[0].checksum == checksum(1000, 7)
    first.send(channel, count=40, size=1000, seed=1)
    first.call("flush", 0, channel, 20000)
    assert first.statistics()["send_waiting"] == {"messages": 0, "bytes": 0}
    assert len(second.receive_count(40)) == 40


@across
def test_a_topic_reaches_its_subscriber(start, one, other):
    publisher, subscriber = start(one), start(other)
    topic = f"{publisher.id}::ps:news"
    publisher.control("SubscribeToTopic", topic)
    subscriber.control("SubscribeToTopic", topic)
    publisher.connect(subscriber)
    joined = ("topic_peer_joined", subscriber.id, topic)
    publisher.wait_for_event(lambda e: (e["type"], e.get("peer"), e.get("channel")) == joined)
    assert publisher.call("publish", 0, topic, 5000, 3, 5000) == 1
    message = subscriber.receive()[0]
    assert (message.sender, message.channel, message.checksum) == (publisher.id, topic, checksum(5000, 3))
    assert publisher.receive(timeout=0) == []
    assert publisher.control("GetTopicPeers") == [subscriber.id]


@across
def test_both_sides_report_the_connection_and_the_dialler_its_end(start, one, other):
    dialler, listener = start(one), start(other)
    dialler.connect(listener)
    for host, peer, direction in ((dialler, listener, "outbound"), (listener, dialler, "inbound")):
        event = host.wait_for_event(lambda e: e["type"] == "peer_connected")
        assert (event["peer"], event["direction"], event["relayed"]) == (peer.id, direction, False)
        assert [(p["id"], p["direction"]) for p in host.control("GetConnectedPeers")] == [(peer.id, direction)]
    dialler.control("DisconnectFrom", listener.id)
    assert dialler.wait_for_event(lambda e: e["type"] == "peer_disconnected")["peer"] == listener.id
    assert dialler.control("GetConnectedPeers") == []


def test_the_other_side_learns_of_a_disconnection(pair):
    dialler, listener = pair
    dialler.control("DisconnectFrom", listener.id)
    assert listener.wait_for_event(lambda e: e["type"] == "peer_disconnected")["peer"] == dialler.id
    assert listener.control("GetConnectedPeers") == []


def test_a_batch_is_bounded_by_bytes_and_by_messages(pair):
    sender, receiver = pair
    channel = sender.channel_to(receiver)
    sender.send(channel, count=10, size=1000)
    sender.send(sender.channel_to(receiver, "end"))
    assert len(receiver.receive(sender.channel_to(receiver, "end"))) == 1
    first = receiver.receive(channel, max_bytes=2500)
    assert 1 <= len(first) <= 3
    assert len(receiver.receive(channel, most=2)) == 2
    rest = receiver.receive_count(8 - len(first), channel)
    assert [m.checksum for m in first + rest][: len(first)] == [checksum(1000, seed) for seed in range(len(first))]
    assert rest[-1].checksum == checksum(1000, 9)


@pytest.mark.parametrize("size", [100_000, 8 * MEBIBYTE])
def test_a_message_larger_than_max_bytes_comes_alone(pair, size):
    sender, receiver = pair
    channel = sender.channel_to(receiver)
    sender.send(channel, count=3, size=size)
    for seed in range(3):
        assert [m.checksum for m in receiver.receive(channel, max_bytes=10)] == [checksum(size, seed)]


def test_messages_of_several_channels_come_in_turn(pair):
    sender, receiver = pair
    busy, quiet = sender.channel_to(receiver, "busy"), sender.channel_to(receiver, "quiet")
    sender.send(busy, count=30)
    sender.send(quiet)
    for channel in (busy, quiet):  # in the peer's queue from then on
        sender.call("flush", 0, channel, 20000)
    assert quiet in [m.channel for m in receiver.receive(most=4)]


@pytest.mark.parametrize("kind", ["c", "python"])
def test_pop_messages_takes_the_oldest_of_each_channel_as_json(start, kind):
    sender, receiver = start("cpp"), start(kind)
    sender.connect(receiver)
    sender.send(sender.channel_to(receiver), count=2, size=1000)
    sender.call("flush", 0, sender.channel_to(receiver), 20000)
    sender.send(sender.channel_to(receiver, "end"))
    receiver.receive_count(1, sender.channel_to(receiver, "end"))
    for seed in range(2):
        (message,) = receiver.control("PopMessages")
        assert message == {"from": sender.id, "data": base64.b64encode(payload(1000, seed)).decode()}
    assert receiver.control("PopMessages") is None
