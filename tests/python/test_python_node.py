"""Nodes talk: the blocking style."""

import array
import socket
import threading
from pathlib import Path

import pytest
from support import DEADLINE_S, LOCAL

import peerbus

pytestmark = pytest.mark.usefixtures("environment")


def silent_listener():
    """A TCP listener that accepts and says nothing, and the multiaddress of a peer that would live there."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(DEADLINE_S)
    return listener, f"/ip4/127.0.0.1/tcp/{listener.getsockname()[1]}"


def test_a_message_arrives_with_its_sender_channel_and_protocol(pair):
    alice, bob = pair
    alice.send(bob.peer_id, b"hello")
    message = bob.receive(timeout=DEADLINE_S)
    assert message.data == b"hello"
    assert message.sender == alice.peer_id
    assert message.channel == alice.direct_channel(bob.peer_id)
    assert message.protocol.startswith("/")
    assert message.gap == 0


def test_both_directions_work_on_one_connection(pair):
    alice, bob = pair
    alice.send(bob.peer_id, b"ping")
    assert bob.receive(timeout=DEADLINE_S).data == b"ping"
    bob.send(alice.peer_id, b"pong")
    assert alice.receive(timeout=DEADLINE_S).data == b"pong"


def test_messages_of_a_channel_arrive_complete_and_in_order(pair):
    alice, bob = pair
    count = 5000
    sender = threading.Thread(target=lambda: [alice.send(bob.peer_id, b"%d" % number) for number in range(count)])
    sender.start()
    received = [int(bytes(bob.receive(timeout=DEADLINE_S))) for _ in range(count)]
    sender.join(DEADLINE_S)
    assert received == list(range(count))


@pytest.mark.parametrize("size", [1, 1000, 16 * 1024, 1024 * 1024, 64 * 1024 * 1024])
def test_messages_of_every_size_arrive_unchanged(pair, size):
    alice, bob = pair
    data = bytes(range(256)) * (size // 256 + 1)
    alice.send(bob.peer_id, memoryview(data)[:size])
    assert bob.receive(timeout=DEADLINE_S).data == data[:size]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: array.array("b", data)])
def test_any_buffer_can_be_sent(pair, kind):
    alice, bob = pair
    alice.send(bob.peer_id, kind(b"abc"))
    assert bob.receive(timeout=DEADLINE_S).data == b"abc"


def test_a_buffer_may_be_reused_at_once(pair):
    alice, bob = pair
    buffer = bytearray(b"first")
    alice.send(bob.peer_id, buffer)
    buffer[:] = b"other"
    assert bob.receive(timeout=DEADLINE_S).data == b"first"


def test_a_received_payload_outlives_its_node(nodes, pair):
    alice, bob = pair
    alice.send(bob.peer_id, b"kept")
    message = bob.receive(timeout=DEADLINE_S)
    bob.close()
    assert message.data == b"kept"


def test_receiving_without_a_message_times_out(nodes):
    node = nodes()
    with pytest.raises(TimeoutError):
        node.receive(timeout=0.01)
    with pytest.raises(peerbus.TimeoutError):
        node.receive(timeout=0)
    assert node.receive_batch(timeout=0) == []


def test_a_batch_takes_what_waits(pair):
    alice, bob = pair
    for number in range(10):
        alice.send(bob.peer_id, b"%d" % number)
    taken = []
    while len(taken) < 10:
        batch = bob.receive_batch(timeout=DEADLINE_S, max_messages=4)
        assert 1 <= len(batch) <= 4
        taken += batch
    assert [bytes(message) for message in taken] == [b"%d" % number for number in range(10)]
    assert bob.waiting == 0


def test_one_channel_can_be_received_alone(pair):
    alice, bob = pair
    left, right = (alice.direct_channel(bob.peer_id, name) for name in ("left", "right"))
    alice.send(left, b"l1")
    alice.send(right, b"r1")
    alice.send(left, b"l2")
    assert bob.receive(right, timeout=DEADLINE_S).data == b"r1"
    assert [bob.receive(left, timeout=DEADLINE_S).data for _ in range(2)] == [b"l1", b"l2"]
    with pytest.raises(TimeoutError):
        bob.receive(right, timeout=0.05)


def test_waiting_for_one_channel_leaves_the_others_alone(pair):
    alice, bob = pair
    left, right = (alice.direct_channel(bob.peer_id, name) for name in ("left", "right"))
    got = []
    waiting = threading.Thread(target=lambda: got.append(bob.receive(left, timeout=DEADLINE_S)))
    waiting.start()
    alice.send(right, b"r1")
    assert bob.receive(timeout=DEADLINE_S).data == b"r1"
    alice.send(left, b"l1")
    waiting.join(DEADLINE_S)
    assert got[0].data == b"l1"


def test_every_waiting_thread_gets_one_message(pair):
    alice, bob = pair
    got = []
    threads = [threading.Thread(target=lambda: got.append(bytes(bob.receive(timeout=DEADLINE_S)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for number in range(8):
        alice.send(bob.peer_id, b"%d" % number)
    for thread in threads:
        thread.join(DEADLINE_S)
    assert sorted(got) == [b"%d" % number for number in range(8)]


def test_threads_that_send_to_a_fresh_peer_at_once_lose_nothing(nodes):
    alice, bob = nodes(), nodes()
    alice.connect(bob.addresses)
    start = threading.Barrier(8)

    def send(name):
        start.wait(DEADLINE_S)
        for number in range(50):
            alice.send(alice.direct_channel(bob.peer_id, name), b"%d" % number)

    threads = [threading.Thread(target=send, args=(f"c{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    by_channel = {}
    for _ in range(8 * 50):
        message = bob.receive(timeout=DEADLINE_S)
        by_channel.setdefault(message.channel, []).append(int(bytes(message)))
    for thread in threads:
        thread.join(DEADLINE_S)
    assert list(by_channel.values()) == [list(range(50))] * 8


def test_closing_ends_a_waiting_receive(nodes):
    node = nodes()
    errors = []

    def receive():
        try:
            node.receive()
        except peerbus.ClosedError as error:
            errors.append(error)

    threads = [threading.Thread(target=receive) for _ in range(3)]
    for thread in threads:
        thread.start()
    node.close()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert len(errors) == 3


def test_iterating_ends_when_the_node_closes(pair):
    alice, bob = pair
    alice.send(bob.peer_id, b"only")
    received = []
    for message in bob.messages():
        received.append(bytes(message))
        bob.close()
    assert received == [b"only"]


def test_a_closed_node_refuses_every_call(nodes):
    node = nodes()
    node.close()
    node.close()
    channel = "x::ps:y"
    for call in (
        lambda: node.send("x", b"y"),
        lambda: node.publish(channel, b"y"),
        lambda: node.connect("/ip4/127.0.0.1/tcp/1/p2p/x"),
        lambda: node.subscribe(channel),
        lambda: node.receive(timeout=0),
        lambda: node.receive_batch(timeout=0),
        node.peers,
        node.topic_peers,
        node.statistics,
        node.events,
        lambda: node.addresses,
    ):
        with pytest.raises(peerbus.ClosedError):
            call()


def test_a_node_cannot_be_started_twice(nodes):
    with pytest.raises(ValueError, match="once"):
        nodes().start()


def test_connecting_answers_the_peer_and_the_dialled_address(nodes):
    alice, bob = nodes(), nodes()
    answer = alice.connect(bob.addresses)
    assert answer["ID"] == bob.peer_id
    assert len(answer["Addrs"]) == 1 and answer["Addrs"][0].startswith("/ip4/127.0.0.1/")
    assert [peer["id"] for peer in alice.peers()] == [bob.peer_id]


@pytest.mark.parametrize("addresses", [[], ["nonsense"], ["/ip4/127.0.0.1/tcp/1"], ""])
def test_a_wrong_address_is_a_value_error(nodes, addresses):
    with pytest.raises(ValueError):
        nodes().connect(addresses)


def test_a_peer_that_is_not_there_is_unreachable(nodes):
    gone = nodes()
    addresses = [address for address in gone.addresses if "/tcp/" in address]  # a closed UDP port does not answer
    gone.close()
    with pytest.raises(peerbus.UnreachableError):
        nodes().connect(addresses)


def test_connecting_ends_at_its_timeout(nodes):
    listener, address = silent_listener()
    with listener, pytest.raises(TimeoutError):
        nodes().connect(f"{address}/p2p/{nodes().peer_id}", timeout=0.2)


def test_sending_to_a_stranger_is_an_error(nodes):
    alice, bob = nodes(), nodes()
    with pytest.raises(peerbus.NotConnectedError):
        alice.send(bob.peer_id, b"hello", timeout=1)


def test_sending_on_a_foreign_channel_is_a_value_error(pair):
    alice, bob = pair
    with pytest.raises(ValueError):
        alice.send(bob.direct_channel(alice.peer_id), b"hello")


def test_disconnecting_is_an_event_and_repeatable(pair):
    alice, bob = pair
    with alice.events("peer_disconnected") as events:
        alice.disconnect(bob.peer_id)
        assert alice.peers() == []
        events.wait_for_blocking("peer_disconnected", peer=bob.peer_id, timeout=DEADLINE_S)
    alice.disconnect(bob.peer_id)


def test_a_full_receiver_makes_the_sender_wait_and_loses_nothing(nodes):
    alice = nodes(limits={"send_messages": 4, "send_bytes": 1 << 20})
    bob = nodes(limits={"channel_messages": 4})
    alice.connect(bob.addresses)
    data = bytes(256 * 1024)
    sent = 0
    with pytest.raises(peerbus.WouldBlockError):
        while True:
            alice.send(bob.peer_id, data, timeout=0)
            sent += 1
    done = threading.Thread(target=alice.send, args=(bob.peer_id, b"last", DEADLINE_S))
    done.start()
    received = [bob.receive(timeout=DEADLINE_S) for _ in range(sent + 1)]
    done.join(DEADLINE_S)
    assert received[-1].data == b"last"
    assert [message.gap for message in received] == [0] * (sent + 1)


def test_a_topic_reaches_its_subscribers_and_not_the_publisher(pair):
    alice, bob = pair
    topic = alice.topic("news")
    with alice.events("topic_peer_joined") as events:
        alice.subscribe(topic)
        bob.subscribe(topic)
        events.wait_for_blocking("topic_peer_joined", peer=bob.peer_id, channel=topic, timeout=DEADLINE_S)
    assert alice.publish(topic, b"extra") == 1
    message = bob.receive(timeout=DEADLINE_S)
    assert (message.data, message.sender, message.channel) == (b"extra", alice.peer_id, topic)
    assert alice.topic_peers() == [bob.peer_id]
    assert alice.receive_batch(timeout=0) == []


def test_publishing_to_nobody_reaches_nobody(nodes):
    node = nodes()
    assert node.publish(node.topic("news"), b"extra") == 0


def subscribed(alice, bob, topic):
    bob.subscribe(topic)
    assert alice.wait_for_topic_peers(topic, 1, timeout=DEADLINE_S) == 1


def test_many_messages_are_published_in_order_with_their_numbers(pair):
    alice, bob = pair
    topic = alice.topic("news")
    subscribed(alice, bob, topic)
    first = alice.publish(topic, b"first")
    many = alice.publish_many(topic, [b"%d" % number for number in range(500)] + [bytearray(b"last"), memoryview(b"")])
    assert len(many) == 502 and all(publication == 1 for publication in many)
    assert sorted({first.id, *(publication.id for publication in many)}) == [first.id, *(p.id for p in many)]
    assert repr(first) == f"Publication(peers=1, id={first.id}, missed=0)"
    received = [bob.receive(timeout=DEADLINE_S) for _ in range(503)]
    assert [bytes(m) for m in received] == [b"first", *(b"%d" % number for number in range(500)), b"last", b""]
    assert [m.id for m in received] == [first.id, *(publication.id for publication in many)]
    assert alice.publish_many(topic, []) == []
    assert (many[-1].id, [p.id for p in many[1:4:2]]) == (many[501].id, [many[1].id, many[3].id])
    assert many == list(many) and many != many[:-1] and many != (1,) * 502
    assert repr(alice.publish_many(topic, [b"."])).startswith("Publications([Publication(peers=1, id=")
    with pytest.raises(IndexError):
        many[502]


def test_waiting_for_subscribers_says_how_many_there_are(nodes):
    node = nodes()
    with pytest.raises(peerbus.TimeoutError, match="0 are connected"):
        node.wait_for_topic_peers(node.topic("news"), 1, timeout=0)


def test_rules_of_a_topic_refuse_and_report(pair):
    alice, bob = pair
    topic = alice.topic("news")
    with bob.events("messages_lost") as events:
        bob.set_topic_rules(topic, {"schema": "json", "max_bytes": 100})
        subscribed(alice, bob, topic)
        alice.publish(topic, b"not json")
        assert events.wait_for_blocking("messages_lost", timeout=DEADLINE_S)["reason"] == "decode_error"
    alice.publish(topic, b"[1]")
    assert bob.receive(timeout=DEADLINE_S).data == b"[1]"
    with pytest.raises(peerbus.InvalidArgumentError, match="rules"):
        bob.publish(topic, b"not json")
    with pytest.raises(peerbus.InvalidArgumentError, match="alow"):
        bob.set_topic_rules(topic, {"alow": []})
    bob.set_topic_rules(topic, None)
    assert bob.publish(topic, b"not json") == 0


def test_a_batch_that_fails_says_how_much_went_out(pair):
    alice, bob = pair
    topic = alice.topic("news")
    alice.set_topic_rules(topic, {"max_bytes": 3})
    subscribed(alice, bob, topic)
    with pytest.raises(peerbus.InvalidArgumentError, match="2 of 4 messages were published"):
        alice.publish_many(topic, [b"one", b"two", b"three", b"x"])
    assert [bytes(bob.receive(timeout=DEADLINE_S)) for _ in range(2)] == [b"one", b"two"]


def test_unsubscribing_is_idempotent_and_publishing_goes_on(nodes):
    node = nodes()
    topic = node.topic("news")
    node.subscribe(topic)
    node.unsubscribe(topic)
    node.unsubscribe(topic)
    node.unsubscribe(node.topic("never heard of"))
    assert node.publish(topic, b"extra") == 0


def test_flushing_waits_until_the_transport_took_all(pair):
    alice, bob = pair
    for _ in range(100):
        alice.send(bob.peer_id, bytes(1000))
    alice.flush(bob.peer_id)
    assert len([bob.receive(timeout=DEADLINE_S) for _ in range(100)]) == 100


def test_a_failing_callback_disturbs_nobody(nodes, caplog):
    alice, bob = nodes(), nodes()
    seen, called = [], threading.Event()

    def fail(event):
        raise RuntimeError("the callback is broken")

    def note(event):
        seen.append(event["type"])
        if event["type"] == "peer_connected":
            called.set()

    bob.on_event(fail)
    remove = bob.on_event(note)
    alice.connect(bob.addresses)
    assert called.wait(DEADLINE_S)
    assert "the callback is broken" in caplog.text
    remove()


def test_callbacks_that_are_set_at_the_same_time_get_each_event_once(nodes, monkeypatch):
    alice, bob = nodes(), nodes()
    events, seen = bob._core.live.events, []
    both = [threading.Event(), threading.Event()]
    open_stream = events.open_stream

    def set_the_other_meanwhile():
        monkeypatch.undo()
        bob.on_event(lambda event: note(1, event))
        return open_stream()

    def note(who, event):
        if event["type"] == "peer_connected":
            seen.append(who)
        elif event["type"] == "peer_disconnected":
            both[who].set()

    monkeypatch.setattr(events, "open_stream", set_the_other_meanwhile)
    bob.on_event(lambda event: note(0, event))
    alice.connect(bob.addresses)
    alice.disconnect(bob.peer_id)
    assert all(one.wait(DEADLINE_S) for one in both)
    assert sorted(seen) == [0, 1]


def test_a_callback_may_use_the_node(nodes):
    alice, bob = nodes(), nodes()
    answered = threading.Event()

    def answer(event):
        if event["type"] == "peer_connected":
            bob.send(event["peer"], b"welcome")
            bob.flush(event["peer"])
            answered.set()

    bob.on_event(answer)
    alice.connect(bob.addresses)
    assert alice.receive(timeout=DEADLINE_S).data == b"welcome"
    assert answered.wait(DEADLINE_S)


def test_an_event_stream_ends_with_its_node(nodes):
    node = nodes()
    stream = node.events()
    node.close()
    assert [event["type"] for event in stream if event["type"] == "peer_connected"] == []


def test_statistics_count_what_was_received(pair):
    alice, bob = pair
    alice.send(bob.peer_id, b"hello")
    bob.receive(timeout=DEADLINE_S)
    assert isinstance(bob.statistics(), dict) and bob.statistics()


def test_policies_are_chosen_by_name(pair):
    alice, bob = pair
    channel = alice.direct_channel(bob.peer_id)
    bob.set_policy(channel, "latest")
    bob.set_policy(channel, peerbus.Policy.DROP_OLDEST)
    with pytest.raises(ValueError, match="drop_newest"):
        bob.set_policy(channel, "fastest")


def test_an_identity_directory_keeps_the_peer_id(tmp_path):
    ids = []
    for _ in range(2):
        with peerbus.Node(tmp_path / "id", **LOCAL) as node:
            ids.append(node.peer_id)
    assert ids[0] == ids[1]


def test_a_node_without_a_directory_leaves_none_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with peerbus.Node(**LOCAL):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_configuration_is_a_value_error_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(peerbus.InvalidConfigError, match="listen_ips"):
        peerbus.Node(listen_ipz=["127.0.0.1"]).sync.start()
    assert list(tmp_path.iterdir()) == []


def test_a_collected_node_warns_and_closes(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    node = peerbus.Node(**LOCAL).sync.start()
    live = node._core._live
    with pytest.warns(ResourceWarning, match="never closed"):
        del node
    for _ in live.events.open_stream():
        pass
    assert live.closed


def test_closed_nodes_leave_no_descriptor_behind():
    def open_and_close():
        with peerbus.Node(**LOCAL) as node, pytest.raises(TimeoutError):
            node.receive(timeout=0.001)
        return len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(20):  # more than the numbers that rest
        before = open_and_close()
    assert max(open_and_close() for _ in range(10)) <= before
