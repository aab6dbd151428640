"""peerbus and the existing network's own library (PyPI unaiverse) understand each other (SPEC P2P-13 to P2P-21)."""

import hashlib
import json

import pytest
from unaiverse_pair import until
from unaiverse_peer import pattern

SIZES = {"one byte": 1, "1 KiB": 1 << 10, "1 MiB": 1 << 20, "20 MiB": 20 << 20}


def digest(size, seed):
    return {"length": size, "sha256": hashlib.sha256(pattern(size, seed)).hexdigest()}


def directions(pair):
    ours, theirs = pair
    return (ours, theirs), (theirs, ours)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
def test_direct_messages_arrive_both_ways(pair, size):
    for sender, receiver in directions(pair):
        sender.call("pattern", sender.channel_to(receiver), size, sender.id)
        assert receiver.receive(1) == [{"from": sender.id, **digest(size, sender.id)}]


def test_many_messages_keep_their_order(pair):
    count = 40
    for sender, receiver in directions(pair):
        for number in range(count):
            sender.call("pattern", sender.channel_to(receiver), 100 + number, number)
        assert [m["sha256"] for m in receiver.receive(count)] == [digest(100 + n, n)["sha256"] for n in range(count)]


def test_channels_are_kept_apart(pair):
    for sender, receiver in directions(pair):
        for name in ("a", "b", "c"):
            sender.call("pattern", sender.channel_to(receiver, name), 10, name)
        assert sorted(m["sha256"] for m in receiver.receive(3)) == sorted(digest(10, n)["sha256"] for n in ("a", "b", "c"))


def test_both_list_each_other(pair):
    for sender, receiver in directions(pair):
        sender.call("pattern", sender.channel_to(receiver), 1, 0)
        receiver.receive(1)
    for node, other in directions(pair):
        until("both list each other", lambda node=node, other=other: node.knows(other))


PROBE = digest(3, "probe")


def subscribe(subscriber, publisher, topic):
    subscriber.call("SubscribeToTopic", topic)
    publisher.call("SubscribeToTopic", topic)
    for node, other in ((subscriber, publisher), (publisher, subscriber)):
        until("the subscription is known", lambda node=node, other=other: other.id in (node.call("GetTopicPeers") or []))


def probe(publisher, subscriber, topic):
    """Theirs publishes to its gossip mesh only, which forms a while after subscribing: what comes earlier is lost."""
    def arrived():
        publisher.call("pattern", topic, 3, "probe")
        return subscriber.call("pop")

    until("the topic's mesh has formed", arrived)


def receive_past_probes(subscriber, expected):
    got = []
    until("the message arrives", lambda: got.extend(subscriber.call("pop")) or expected in got)
    return [message for message in got if message != {"from": expected["from"], **PROBE}]


@pytest.mark.parametrize("size", [1, 1000, 300_000])
def test_topics_carry_messages_both_ways(pair, size):
    ours, _ = pair
    topic = f"{ours.id}::ps:news"
    subscribe(*pair, topic)
    for publisher, subscriber in directions(pair):
        probe(publisher, subscriber, topic)
        publisher.call("pattern", topic, size, publisher.id)
        expected = {"from": publisher.id, **digest(size, publisher.id)}
        assert receive_past_probes(subscriber, expected) == [expected]


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def envelope(sender, topic, roster):
    """The envelope of SPEC section 4 with a rendezvous list."""
    fields = {1: sender, 2: "world_agents_list", 3: topic, 5: "2026-01-31 23:59:59.000001", 7: json.dumps(roster)}
    return b"".join(bytes([n << 3 | 2]) + varint(len(text.encode())) + text.encode() for n, text in fields.items())


def member(peer):
    return {"id": peer.id, "addrs": [peer.addresses[0].rsplit("/p2p/", 1)[0]], "connected_at": "2026-01-31T23:59:59Z",
            "direction": "inbound", "misc": 1, "relayed": False}


def publish(owner, reader, topic, roster):
    """Again and again, as worlds do; a list that is known already is ignored."""
    def known():
        owner.call("hexadecimal", topic, envelope(owner.id, topic, roster).hex())
        return (reader.call("GetRendezvousPeers") or {}).get("update_count") == roster["update_count"]

    until("the list is there", known)


def test_rendezvous_lists_are_read_both_ways(pair):
    for owner, reader in directions(pair):
        topic = f"{owner.id}::ps:rv"
        subscribe(reader, owner, topic)
        for count in (0, 1, 7):
            roster = {"peers": [member(owner), member(reader)], "update_count": count}
            publish(owner, reader, topic, roster)
        known = {entry["id"]: entry for entry in reader.call("GetRendezvousPeers")["peers"]}
        assert set(known) == {owner.id, reader.id}
        assert known[owner.id]["misc"] == 1
        assert known[owner.id]["addrs"] == member(owner)["addrs"]
        for node in pair:
            node.call("UnsubscribeFromTopic", topic)


def test_a_disconnection_by_either_side_lasts(pair):
    for sender, receiver in directions(pair):
        sender.call("pattern", sender.channel_to(receiver), 1, 0)
        receiver.receive(1)
    ours, theirs = pair
    ours.call("DisconnectFrom", theirs.id)
    assert not ours.knows(theirs)
    ours.connect(theirs)
    until("they are connected again", lambda: ours.knows(theirs))
    theirs.call("pattern", theirs.channel_to(ours), 5, 5)
    assert ours.receive(1) == [{"from": theirs.id, **digest(5, 5)}]
    theirs.call("DisconnectFrom", ours.id)
    assert not theirs.knows(ours)
