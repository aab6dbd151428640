"""Direct topics between processes in C, C++ and Python: everything in order, who misses what, subscribers that stand still."""

import json

import pytest
from hosts import KINDS, Host, HostError, checksum, until

PAIRS = [(one, other) for one in KINDS for other in KINDS if one != other]
SIZE = 1000
DIRECT, DROP_NEWEST, DROP_OLDEST = '{"mode":"direct"}', '{"overflow":"drop_newest"}', '{"overflow":"drop_oldest"}'
NARROW = {"send_messages": 100, "channel_send_bytes": 1 << 18}

across = pytest.mark.parametrize("one, other", PAIRS, ids=["-to-".join(pair) for pair in PAIRS])


def opened(publisher, *subscribers):
    """A topic that is open as direct at all of them, when the publisher knows its subscribers."""
    topic = f"{publisher.id}::ps:news"
    for host in (publisher, *subscribers):
        host.call("open", 0, topic, DIRECT)
    for host in subscribers:
        host.control("SubscribeToTopic", topic)
        host.connect(publisher)
        joined = ("topic_peer_joined", host.id, topic)
        publisher.wait_for_event(lambda e, joined=joined: (e["type"], e.get("peer"), e.get("channel")) == joined)
    return topic


def publish(publisher, topic, count, seed=0, timeout=20000, size=SIZE):
    return publisher.call("publish_batch", 0, topic, count, size, seed, timeout)


def info(host, topic):
    return host.control("GetTopicInfo", topic)


def expect(messages, publisher, topic, seeds, size=SIZE):
    assert [m.checksum for m in messages] == [checksum(size, seed) for seed in seeds]
    assert {(m.sender, m.channel, m.protocol) for m in messages} == {(publisher.id, topic, "/peerbus/channel/1.0.0")}


@across
def test_a_direct_topic_delivers_everything_in_order(start, one, other):
    publisher, subscriber = start(one), start(other)
    topic = opened(publisher, subscriber)
    published = publish(publisher, topic, 200)
    assert (published.count, published.peers, published.missed) == (200, 1, 0)
    assert publisher.call("publish", 0, topic, 100_000, 7, 20000) == 1
    got = subscriber.receive_count(201, topic)
    expect(got[:200], publisher, topic, range(200))
    expect(got[200:], publisher, topic, [7], size=100_000)
    assert sum(m.gap for m in got) == 0
    publisher.call("flush", 0, topic, 20000)
    ours, theirs = info(publisher, topic), info(subscriber, topic)
    assert (ours["mode"], ours["overflow"], ours["published"], ours["last"]) == ("direct", "block", 201, published.id + 200)
    (known,) = ours["subscribers"]
    assert (known["peer"], known["state"], known["accepted"], known["dropped"]) == (subscriber.id, "connected", ours["last"], 0)
    (heard,) = theirs["publishers"]
    assert (heard["peer"], heard["received"], heard["missing"], heard["exact"]) == (publisher.id, 201, 0, True)


@across
def test_a_subscriber_by_gossip_is_missed_and_named(start, one, other):
    publisher, subscriber = start(one), start(other)
    topic = f"{publisher.id}::ps:news"
    publisher.call("open", 0, topic, DIRECT)
    subscriber.control("SubscribeToTopic", topic)
    subscriber.connect(publisher)

    def missing():
        published = publish(publisher, topic, 1)
        return published.missed and published

    published = until(missing)
    assert (published.count, published.peers, published.missed) == (1, 0, 1)
    lost = publisher.wait_for_event(lambda e: e["type"] == "messages_lost" and e["reason"] == "gossip_only")
    assert (lost["peer"], lost["channel"], lost["direction"]) == (subscriber.id, topic, "out")
    assert [(s["peer"], s["state"]) for s in info(publisher, topic)["subscribers"]] == [(subscriber.id, "gossip_only")]


def fill(publisher, topic):
    """Publishes until there is no room at once; answers how many were taken."""
    taken = 0
    with pytest.raises(HostError, match="WOULD_BLOCK"):
        while True:
            taken += publish(publisher, topic, 20, seed=taken, timeout=0).count
    return taken


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_subscriber_holds_its_publisher_back_and_loses_nothing(start, kind):
    publisher, running, stopped = start(kind, limits=NARROW), start("c"), start("python")
    topic = opened(publisher, running, stopped)
    stopped.stop()
    published = fill(publisher, topic)
    expect(running.receive_count(published, topic), publisher, topic, range(published))
    stopped.go_on()
    expect(stopped.receive_count(published, topic), publisher, topic, range(published))
    publisher.wait_for_event(lambda e: e["type"] == "writable" and e["channel"] == topic)
    assert publish(publisher, topic, 1, seed=published).peers == 2
    for host in (stopped, running):
        expect(host.receive_count(1, topic), publisher, topic, [published])
        assert info(host, topic)["publishers"][0]["missing"] == 0
    assert publisher.statistics()["lost"]["out"] == {}


def acknowledged(publisher, topic, subscriber):
    """Whether nothing waits for the subscriber any more."""
    (known,) = (s for s in info(publisher, topic)["subscribers"] if s["peer"] == subscriber.id)
    return known["waiting"] == 0


@pytest.mark.parametrize("overflow", [DROP_NEWEST, DROP_OLDEST], ids=["drop_newest", "drop_oldest"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_stopped_subscriber_misses_is_its_loss_alone_and_counted(start, kind, overflow):
    publisher, running, stopped = start(kind, limits=NARROW), start("c"), start("python", limits={"channel_messages": 10_000})
    topic = opened(publisher, running, stopped)
    stopped.stop()
    total = fill(publisher, topic)
    expect(running.receive_count(total, topic), publisher, topic, range(total))
    publisher.call("open", 0, topic, json.dumps({"mode": "direct", **json.loads(overflow)}))
    for _ in range(50):
        until(lambda: acknowledged(publisher, topic, running))
        assert publish(publisher, topic, 20, seed=total, timeout=0).peers >= 1
        expect(running.receive_count(20, topic), publisher, topic, range(total, total + 20))
        total += 20
    stopped.go_on()
    publisher.call("flush", 0, topic, 20000)  # from now on there is room
    assert publish(publisher, topic, 1, seed=total).peers == 2
    total += 1
    got = stopped.receive(topic)
    while got[-1].checksum != checksum(SIZE, total - 1):
        got += stopped.receive(topic)
    missed = total - len(got)
    assert missed > 0 and sum(m.gap for m in got) == missed
    assert publisher.statistics()["lost"]["out"] == {"send_queue_full": missed}
    dropped = {s["peer"]: s["dropped"] for s in info(publisher, topic)["subscribers"]}
    assert dropped == {running.id: 0, stopped.id: missed}
    assert info(stopped, topic)["publishers"][0]["missing"] == missed
    assert len(running.receive_count(1, topic)) == 1


def test_a_killed_subscriber_is_reported_when_its_resume_window_is_over(start, programs, tmp_path):
    publisher, stays = start("c", channel={"resume_ms": 300}), start("cpp")
    killed = Host(programs("python"), tmp_path / "killed")
    topic = opened(publisher, stays, killed)
    killed.kill()
    gone = publisher.wait_for_event(lambda e: e["type"] == "topic_peer_left")
    assert gone["peer"] == killed.id

    def missing():
        published = publish(publisher, topic, 1)
        assert published.missed or published.peers in (1, 2)
        return published.missed and published

    published = until(missing)
    assert (published.peers, published.missed) == (1, 1)
    lost = publisher.wait_for_event(lambda e: e["type"] == "messages_lost" and e["reason"] == "not_connected")
    assert lost["peer"] == killed.id
    states = {s["peer"]: s["state"] for s in info(publisher, topic)["subscribers"]}
    assert states == {stays.id: "connected", killed.id: "not_connected"}
