"""Nothing is lost uncounted: full queues, stalled peers, closing with messages on the way."""

import pytest
from hosts import BLOCK, DROP_NEWEST, DROP_OLDEST, LATEST, HostError, checksum

SENT, CHANNEL_MESSAGES, SIZE = 200, 50, 100
LOST = SENT - CHANNEL_MESSAGES
MEBIBYTE = 1 << 20
MORE_THAN_FITS = 4000
DISCONNECT_SECONDS, CLOSE_SECONDS = 10, 20  # the header promises about 1 s and 10 s


def overflow(pair, policy):
    """Sends SENT messages on a channel that takes fewer, and waits until the receiver has seen them all."""
    sender, receiver = pair
    channel, marker = sender.channel_to(receiver), sender.channel_to(receiver, "marker")
    receiver.call("policy", 0, channel, policy)
    assert sender.send(channel, count=SENT, size=SIZE) == (SENT, "OK")
    sender.call("flush", 0, channel, 20000)
    sender.send(marker)
    assert len(receiver.receive(marker)) == 1
    return channel


def losses_told(host, expected):
    """Sum of the counts of messages_lost events once they reach what is expected."""
    told = 0

    def enough(event):
        nonlocal told
        told += event["count"] if event["type"] == "messages_lost" else 0
        return told >= expected

    host.wait_for_event(enough)
    return told


def check_counts(receiver, channel, lost):
    statistics = receiver.statistics()
    assert statistics["lost"]["in"] == {"queue_full": lost}
    assert [c["lost"] for c in statistics["received"]["channels"] if c["channel"] == channel] == [lost]
    assert losses_told(receiver, lost) == lost


@pytest.mark.parametrize(
    "policy, kept, gap", [(DROP_OLDEST, range(LOST, SENT), LOST), (LATEST, [SENT - 1], SENT - 1)], ids=["drop_oldest", "latest"]
)
def test_a_policy_that_drops_old_messages_counts_them_before_the_next(pair, policy, kept, gap):
    channel = overflow(pair, policy)
    check_counts(pair[1], channel, SENT - len(kept))
    got = pair[1].receive(channel)
    assert [m.checksum for m in got] == [checksum(SIZE, seed) for seed in kept]
    assert [m.gap for m in got] == [gap] + [0] * (len(kept) - 1)


def test_drop_newest_counts_the_dropped_before_the_message_that_follows(pair):
    sender, receiver = pair
    channel = overflow(pair, DROP_NEWEST)
    check_counts(receiver, channel, LOST)
    got = receiver.receive(channel)
    assert [(m.checksum, m.gap) for m in got] == [(checksum(SIZE, seed), 0) for seed in range(CHANNEL_MESSAGES)]
    sender.send(channel, size=SIZE, seed=999)
    (after,) = receiver.receive(channel)
    assert (after.checksum, after.gap) == (checksum(SIZE, 999), LOST)


def test_block_holds_the_sender_and_loses_nothing(pair):
    sender, receiver = pair
    channel = sender.channel_to(receiver)
    receiver.call("policy", 0, channel, BLOCK)
    taken, code = sender.send(channel, count=MORE_THAN_FITS, size=MEBIBYTE, timeout=1000)
    assert code == "WOULD_BLOCK" and taken >= CHANNEL_MESSAGES
    got = receiver.receive_count(taken, channel, most=7)
    assert [m.checksum for m in got] == [checksum(MEBIBYTE, seed) for seed in range(taken)]
    assert all(m.gap == 0 for m in got)
    assert sender.wait_for_event(lambda event: event["type"] == "writable")["channel"] == channel
    assert receiver.receive(timeout=0) == []
    for host in pair:
        assert not any(host.statistics()["lost"].values())


def test_a_stopped_peer_holds_up_nobody_else(start):
    sender, stopped, other = start("c"), start("c"), start("python")
    sender.connect(stopped)
    sender.connect(other)
    to_stopped, to_other = sender.channel_to(stopped), sender.channel_to(other)
    stopped.stop()
    taken, code = sender.send(to_stopped, count=MORE_THAN_FITS, size=MEBIBYTE, timeout=0)
    assert code == "WOULD_BLOCK"
    for seed in range(20):
        assert sender.send(to_other, size=10_000, seed=seed, timeout=5000) == (1, "OK")
        assert other.receive(timeout=5000)[0].checksum == checksum(10_000, seed)
    assert sender.control("GetConnectedPeers")
    stopped.go_on()
    assert len(stopped.receive_count(taken, to_stopped, most=5)) == taken


def test_close_with_messages_waiting_on_both_sides(start):
    sender, receiver = start("c"), start("cpp")
    sender.connect(receiver)
    taken, code = sender.send(sender.channel_to(receiver), count=MORE_THAN_FITS, size=MEBIBYTE, timeout=0)
    assert code == "WOULD_BLOCK" and taken > 0
    sender.control("CloseNode")
    receiver.control("CloseNode")
    for host in (sender, receiver):
        with pytest.raises(HostError) as failed:
            host.receive(timeout=0)
        assert failed.value.code == "CLOSED"


@pytest.fixture
def stalled(start):
    """A sender whose peer stopped reading with as much on the way as fits; the number of messages that were taken."""
    sender, receiver = start("c"), start("python")
    sender.connect(receiver)
    receiver.stop()
    taken, code = sender.send(sender.channel_to(receiver), count=MORE_THAN_FITS, size=MEBIBYTE, timeout=0)
    assert code == "WOULD_BLOCK"
    return sender, receiver, taken


def test_disconnecting_from_a_stalled_peer_reports_every_message_that_did_not_leave(stalled):
    sender, receiver, taken = stalled
    sender.order("control", "DisconnectFrom", 0, receiver.id)
    sender.answer(seconds=DISCONNECT_SECONDS)
    unsent = taken - sender.statistics()["sent"]["messages"]
    assert losses_told(sender, unsent) == unsent > 0
    assert sender.statistics()["lost"]["out"] == {"peer_closed": unsent}


def test_a_node_with_a_stalled_peer_closes(stalled):
    sender, _, _ = stalled
    sender.order("control", "CloseNode", 0)
    sender.answer(seconds=CLOSE_SECONDS)


def test_what_is_published_to_nobody_is_counted(start):
    host = start("c")
    topic = f"{host.id}::ps:news"
    assert host.call("publish", 0, topic, 100, 0, 5000) == 0
    assert host.statistics()["lost"]["out"] == {"no_peers": 1}
    assert losses_told(host, 1) == 1
