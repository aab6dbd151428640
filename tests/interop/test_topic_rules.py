"""Rules of a topic, seen from outside: a stock py-libp2p publisher, which knows nothing of them, and peerbus publishers."""

import base64
import os

import channel_peer
import pytest
from harness import missing
from unaiverse_pair import until

import peerbus
from peerbus.messages import Msg

DEADLINE_S = 20.0
LOCAL = {"listen_addrs": ["/ip4/127.0.0.1/tcp/0"], "webrtc": {"enabled": False}, "dht": {"enabled": False},
         "nat": {"port_mapping": False, "hole_punching": False, "autonat": False}}
MANY = 30  # of which any 8 that count against the author's score would shut it out


@pytest.fixture(scope="module", autouse=True)
def library(library_path):
    os.environ["PEERBUS_LIBRARY"] = str(library_path)


@pytest.fixture
def node():
    with peerbus.Node(**LOCAL) as node:
        yield node


@pytest.fixture
def other():
    with peerbus.Node(**LOCAL) as node:
        yield node


@pytest.fixture
def stock(node):
    if not channel_peer.PYTHON.exists():
        missing("py-libp2p is not installed; make test installs it in .venv/bench, with Python 3.11 or newer")
    with channel_peer.Peer("--topics") as peer:
        peer.do("connect", address=node.addresses[0])
        yield peer


def publish(peer, topic, *payloads):
    peer.do("publish", topic=topic, payloads=[base64.b64encode(p).decode() for p in payloads])


def lost_on(node, topic):
    return {(loss["direction"], loss["reason"], loss["peer"]): loss["count"] for loss in node.topic_info(topic)["losses"]}


def received(node, channel=None):
    return bytes(node.receive(channel, timeout=DEADLINE_S).data)


def wait_for_loss(node, topic, reason, publisher, count):
    until("all of them are refused", lambda: lost_on(node, topic) == {("in", reason, publisher.id): count})


RULES = {
    "oversize": ({"max_bytes": 3}, b"abc", b"abcd"),
    "decode_error": ({"schema": "json"}, b"{}", b"{"),
    "not_member": ({"allow": []}, None, b"anything"),
}


def test_what_a_stock_publisher_sends_against_the_rules_is_refused_counted_and_not_held_against_it(node, stock):
    for reason, (rules, good, bad) in RULES.items():
        topic = node.topic(reason)
        node.subscribe(topic)
        stock.do("wait_for_subscriber", topic=topic, peer=node.peer_id)
        publish(stock, topic, b"before there are rules")
        assert received(node) == b"before there are rules"
        node.set_topic_rules(topic, rules)
        with node.events("messages_lost") as events:
            publish(stock, topic, *[bad] * MANY, *([good] if good else []))
            event = events.wait_for_blocking("messages_lost", reason=reason, channel=topic, timeout=DEADLINE_S)
        assert (event["direction"], event["peer"]) == ("in", stock.id)
        if good:
            assert received(node) == good
        wait_for_loss(node, topic, reason, stock, MANY)
        node.set_topic_rules(topic, None)
        publish(stock, topic, bad)
        assert received(node) == bad
    assert min(node.statistics()["topic_scores"].values(), default=0) >= 0


def test_a_burst_above_the_rate_loses_what_is_above_it_and_nothing_else(node, stock):
    topic, free = node.topic("limited"), node.topic("free")
    for name in topic, free:
        node.subscribe(name)
        stock.do("wait_for_subscriber", topic=name, peer=node.peer_id)
    node.set_topic_rules(topic, {"rate": {"per_second": 0.001, "burst": 5}})
    publish(stock, topic, *[b"%d" % i for i in range(MANY)])
    publish(stock, free, b"on another topic")
    assert received(node, free) == b"on another topic"
    assert [received(node, topic) for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    wait_for_loss(node, topic, "rate_limited", stock, MANY - 5)
    assert min(node.statistics()["topic_scores"].values(), default=0) >= 0


def subscribed(publisher, subscriber, mode):
    """A topic of that mode between the two."""
    topic = publisher.topic("x")
    subscriber.subscribe(topic, mode=mode)
    publisher.connect(subscriber.addresses)
    if mode == "direct":
        publisher.open_topic(topic)
    publisher.wait_for_topic_peers(topic, 1, timeout=DEADLINE_S)
    return topic


def test_a_direct_publisher_learns_of_each_message_that_the_rules_refuse(node, other):
    topic = subscribed(other, node, "direct")
    node.set_topic_rules(topic, {"max_bytes": 3})
    with other.events("delivery") as events:
        other.publish(topic, b"abc")
        refused = other.publish(topic, b"abcd").id
        event = events.wait_for_blocking("delivery", state="lost", channel=topic, timeout=DEADLINE_S)
    assert (event["first"], event["last"], event["peer"], event["in_doubt"]) == (refused, refused, node.peer_id, False)
    assert event["reason"] == "peer_refused_message"
    assert received(node) == b"abc"
    assert lost_on(node, topic) == {("in", "oversize", other.peer_id): 1}
    assert lost_on(other, topic) == {("out", "peer_refused_message", node.peer_id): 1}


def test_a_direct_publisher_that_is_not_allowed_is_refused_and_counted_on_the_topic(node, other):
    topic = node.topic("x")
    node.set_topic_rules(topic, {"allow": []})
    node.subscribe(topic, mode="direct")
    other.connect(node.addresses)
    other.open_topic(topic)
    other.wait_for_topic_peers(topic, 1, timeout=DEADLINE_S)
    with node.events("messages_lost") as events, other.events("messages_lost") as theirs:
        other.publish(topic, b"refused")
        event = events.wait_for_blocking("messages_lost", reason="not_member", timeout=DEADLINE_S)
        assert theirs.wait_for_blocking("messages_lost", reason="peer_refused", peer=node.peer_id, timeout=DEADLINE_S)
    assert (event["channel"], event["peer"]) == (topic, other.peer_id)
    assert ("in", "not_member", other.peer_id) in lost_on(node, topic)


@pytest.mark.parametrize("mode", ["gossip", "direct"])
def test_the_own_rules_hold_for_a_publisher_before_anything_is_sent(node, other, mode):
    topic = subscribed(other, node, mode)
    other.set_topic_rules(topic, {"schema": "envelope", "content_types": [Msg.MISC]})
    with pytest.raises(peerbus.InvalidArgumentError, match="decode_error"):
        other.publish(topic, b"no envelope")
    message = Msg(sender=other.peer_id, content="hello", content_type=Msg.MISC, channel=topic).to_bytes()
    assert int(other.publish(topic, message)) == 1
    assert received(node) == message


@pytest.mark.parametrize("rules, told", [
    ({"alow": []}, "alow"), ({"max_bytes": -1}, "max_bytes"), ({"max_bytes": "10"}, "max_bytes"),
    ({"allow": "somebody"}, "allow"), ({"allow": ["somebody"]}, "somebody"),
    ({"rate": {"per_second": 0, "burst": 1}}, "per_second"),
    ({"rate": {"per_second": 1}}, "burst"), ({"rate": {"every_second": 1}}, "every_second"), ({"schema": "xml"}, "xml"),
    ({"content_types": ["text"]}, "content_types"), ([], "expected"),
])
def test_a_wrong_declaration_says_what_is_wrong_and_leaves_the_rules_as_they_were(node, rules, told):
    topic = node.topic("x")
    node.set_topic_rules(topic, {"max_bytes": 3})
    with pytest.raises(peerbus.InvalidArgumentError, match=told):
        node.set_topic_rules(topic, rules)
    with pytest.raises(peerbus.InvalidArgumentError, match="oversize"):
        node.publish(topic, b"four")
