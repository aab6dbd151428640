"""A stock py-libp2p host with an implementation of /peerbus/channel/1.0.0 that was written from docs/channel-protocol.md alone
(channel_peer.py) talks to a peerbus node: each test is a part of that document."""

import contextlib
import gzip
import itertools
import os
import random

import channel_peer
import pytest
from channel_peer import (
    ACCEPT,
    ACK,
    CLOSE,
    DATA,
    DROPPED,
    DURABLE,
    EARLY,
    EXTENDED,
    FENCED,
    FINISH,
    NOBODY,
    OPEN,
    PING,
    POSITION,
    PROTOCOL,
    REFUSED,
    REPORT_TAKEN,
    TOO_MANY,
    UNSUPPORTED,
    VIOLATION,
    accept_frame,
    extended,
    frame,
    open_frame,
    uvarint,
)
from harness import missing

import peerbus

DEADLINE_S = 20.0
LOCAL = {"listen_addrs": ["/ip4/127.0.0.1/tcp/0"], "webrtc": {"enabled": False}, "dht": {"enabled": False},
         "nat": {"port_mapping": False, "hole_punching": False, "autonat": False}}
ACKED = 1 << 20
CODECS = {"zstd": 1, "lz4": 2, "gzip": 3}


class Pair:
    """A peerbus node and a stock host that is connected to it."""

    def __init__(self, node, peer):
        self.node, self.peer, self._names = node, peer, itertools.count()
        self.ours, self.instance = random.randbytes(16), None

    def connect(self):
        self.peer.do("connect", address=self.node.addresses[0])

    def channel(self, name=None):
        return f"{self.peer.id}::dm:{self.node.peer_id}-{name or next(self._names)}"

    def open(self, channel=None, session=None, *early, **fields):
        """A stream to the node, with its OPEN written. It remembers what it was opened with."""
        stream = self.peer.open(self.node.peer_id)
        stream.channel, stream.session = channel or self.channel(), session or random.randbytes(16)
        stream.write(open_frame(stream.channel, stream.session, **fields), *early)
        return stream

    def patient_open(self, *args, **fields):
        """The node's answer once it has seen the end of another stream, which makes room."""
        while (answer := self.open(*args, **fields).next())[0] == CLOSE:
            assert answer[1]["code"] == TOO_MANY
        return answer

    def opened(self, *args, **fields):
        """The same, once the node has answered, and its ACCEPT."""
        stream = self.open(*args, **fields)
        stream.accepted = stream.until(ACCEPT)
        stream.first_ack = stream.until(ACK)
        self.instance = stream.accepted["instance"]
        return stream

    def again(self, stream, generation, oldest, **fields):
        return self.opened(stream.channel, stream.session, generation=generation, oldest=oldest, **fields)

    def received(self, count):
        got = [self.node.receive(timeout=DEADLINE_S) for _ in range(count)]
        return [(m.id, bytes(m.data)) for m in got], [m.gap for m in got]

    def accept(self, **fields):
        """The node's next stream to us, answered."""
        stream = self.peer.accept()
        stream.open = stream.until(OPEN)
        stream.write(self.answer(stream.open, **fields), frame(ACK, fields.get("next", stream.open["oldest"]), 0, ACKED))
        return stream

    def answer(self, opened, **fields):
        return accept_frame(**{"instance": self.ours, "born": opened["generation"], "next": opened["oldest"], **fields})


@pytest.fixture(scope="module", autouse=True)
def library(library_path):
    os.environ["PEERBUS_LIBRARY"] = str(library_path)
    if not channel_peer.PYTHON.exists():
        missing("py-libp2p is not installed; make test installs it in .venv/bench, with Python 3.11 or newer")


@pytest.fixture(scope="module")
def stock_peer():
    with channel_peer.Peer() as peer:
        yield peer


@pytest.fixture
def pair_of(stock_peer):
    """Starts a node that is connected to the stock host."""
    with contextlib.ExitStack() as stack:
        def start(serve=False, **keys):
            pair = Pair(stack.enter_context(peerbus.Node(**{**LOCAL, **keys})), stock_peer)
            if serve:
                pair.peer.do("serve", protocol=PROTOCOL)
            pair.connect()
            return pair
        yield start


@pytest.fixture
def pair(pair_of):
    return pair_of()


@pytest.fixture
def sender(pair_of):
    """The node sends, we receive."""
    return pair_of(serve=True)


def fate(message, timeout=DEADLINE_S):
    """"accepted", or the reason of a loss and whether the message may have arrived."""
    try:
        message.accepted(timeout=timeout)
        return "accepted"
    except peerbus.LostError as loss:
        reason = str(loss).split("reason ")[1].split(";")[0]
        return reason, "may have arrived" in str(loss)


# The node receives.


def test_messages_arrive_and_are_acknowledged_and_reported_as_taken(pair):
    stream = pair.opened(flags=REPORT_TAKEN)
    assert (stream.accepted["born"], stream.accepted["next"], stream.accepted["codecs"] & 1) == (1, 1, 1)
    assert stream.accepted["largest"] >= 1 << 16 and stream.first_ack["accepted"] == 1
    stream.write(frame(POSITION, 1), frame(DATA, b"one"), frame(DATA, b""), extended(b"three", class_=9, hops=3))
    assert pair.received(3) == ([(1, b"one"), (2, b""), (3, b"three")], [0, 0, 0])
    assert stream.until(ACK, taken=4)["accepted"] == 4
    stream.write(frame(PING))
    assert stream.next()[0] == ACK
    stream.write(frame(FINISH))
    assert stream.rest() == [] and stream.ended


def test_a_peer_finds_the_protocol_among_those_that_the_node_does_not_know(pair):
    assert pair.peer.open(pair.node.peer_id, ["/peerbus/channel/9.0.0", PROTOCOL])
    assert "error" in pair.peer.program.ask("open", peer=pair.node.peer_id, protocols=["/peerbus/channel/9.0.0"])


def test_a_session_goes_on_when_its_stream_or_its_connection_is_cut(pair):
    stream = pair.opened()
    stream.write(frame(POSITION, 1), frame(DATA, b"one"), frame(DATA, b"two"), frame(DATA, b"half a message")[:5])
    stream.until(ACK, accepted=3)
    stream.reset()
    stream = pair.again(stream, 7, oldest=2, instance=pair.instance)
    assert (stream.accepted["born"], stream.accepted["next"]) == (1, 3)
    stream.write(frame(POSITION, 1), frame(DATA, b"one"), frame(DATA, b"two"), frame(DATA, b"three"))  # two of them again
    stream.until(ACK, accepted=4)
    pair.peer.do("disconnect", peer=pair.node.peer_id)
    pair.connect()
    stream = pair.again(stream, 8, oldest=4)
    assert stream.accepted["next"] == 4
    stream.write(frame(POSITION, 6), frame(DATA, b"six"))
    assert pair.received(4) == ([(1, b"one"), (2, b"two"), (3, b"three"), (6, b"six")], [0, 0, 0, 2])
    assert pair.node.statistics()["lost"]["in"] == {"skipped": 2}


def test_a_newer_stream_fences_the_older_one(pair):
    old = pair.opened(generation=4)
    for generation in 1, 4:
        late = pair.open(old.channel, old.session, generation=generation)
        assert [(kind, fields["code"]) for kind, fields in late.rest()] == [(CLOSE, FENCED)]
    old.write(frame(POSITION, 1), frame(DATA, b"one"), frame(DATA, b"never whole")[:4])
    old.until(ACK, accepted=2)
    new = pair.again(old, 5, oldest=2)
    assert old.until(CLOSE)["code"] == FENCED and not old.rest()
    new.write(frame(POSITION, 2), frame(DATA, b"two"))
    assert pair.received(2)[0] == [(1, b"one"), (2, b"two")]


def test_a_finished_session_and_a_session_of_another_channel_are_refused(pair):
    stream = pair.opened()
    other = pair.open(pair.channel("other"), stream.session, generation=2)
    assert other.until(CLOSE)["code"] == VIOLATION
    stream.write(frame(FINISH))
    stream.rest()
    assert pair.open(stream.channel, stream.session, generation=3).until(CLOSE)["code"] == VIOLATION
    delayed = pair.open(stream.channel, stream.session, frame(DATA, b"delayed"), instance=pair.instance, flags=EARLY)
    assert delayed.until(CLOSE)["code"] == FENCED
    assert pair.node.waiting == 0


def test_early_messages_are_read_by_the_instance_that_they_are_for(pair):
    pair.opened()
    taken = pair.opened(None, None, frame(DATA, b"early"), frame(DATA, b"too"), instance=pair.instance, oldest=7, flags=EARLY)
    assert taken.until(ACK, accepted=9)
    passed = pair.opened(None, None, frame(DATA, b"for another"), instance=random.randbytes(16), oldest=7, flags=EARLY)
    passed.write(frame(PING))
    assert passed.until(ACK)["accepted"] == 7
    passed.write(frame(POSITION, 7), frame(DATA, b"again"))
    assert sorted(pair.received(3)[0]) == [(7, b"again"), (7, b"early"), (8, b"too")]


def test_another_peer_with_the_same_session_id_has_a_session_of_its_own(pair):
    stream = pair.opened()
    stream.write(frame(POSITION, 1), frame(DATA, b"mine"))
    with channel_peer.Peer() as peer:
        other = Pair(pair.node, peer)
        other.connect()
        assert other.open(stream.channel, stream.session, generation=9).until(CLOSE)["code"] == REFUSED
        other.opened(other.channel(), stream.session, generation=9).write(frame(POSITION, 1), frame(DATA, b"other's"))
        assert sorted(pair.received(2)[0]) == [(1, b"mine"), (1, b"other's")]
    stream.write(frame(DATA, b"more"))
    assert pair.received(1)[0] == [(2, b"more")]


def broken_opens(channel, node):
    session, other = random.randbytes(16), random.randbytes(16)
    return {
        "no OPEN": (frame(DATA, b"x"), VIOLATION),
        "a frame to ignore instead of OPEN": (frame(200, b"x"), VIOLATION),
        "a frame without a type": (b"\0\5", VIOLATION),
        "a length of six bytes": (b"\x80\x80\x80\x80\x80\x01\x01", VIOLATION),
        "a length in a longer form": (b"\x81\x00\x05", VIOLATION),
        "a control frame of 4097 bytes": (uvarint(4097) + bytes([OPEN]), VIOLATION),
        "generation 0": (open_frame(channel, session, generation=0), VIOLATION),
        "generation above 2^62": (open_frame(channel, session, generation=(1 << 62) + 1), VIOLATION),
        "oldest 0": (open_frame(channel, session, oldest=0), VIOLATION),
        "no session": (open_frame(channel, NOBODY), VIOLATION),
        "no channel": (open_frame("", session), VIOLATION),
        "a channel of 256 bytes": (open_frame("c" * 256, session), VIOLATION),
        "a channel that is not UTF-8": (open_frame(b"\xff" + channel.encode(), session), VIOLATION),
        "early on a later stream": (open_frame(channel, session, other, generation=2, flags=EARLY), VIOLATION),
        "early for nobody": (open_frame(channel, session, flags=EARLY), VIOLATION),
        "an extension that must be understood": (open_frame(channel, session, extensions=b"\5\0"), UNSUPPORTED),
        "a torn extension": (open_frame(channel, session, extensions=b"\4\3ab"), VIOLATION),
        "1025 bytes of extensions": (open_frame(channel, session, extensions=b"\4" + uvarint(1022) + bytes(1022)), VIOLATION),
        "a channel of the node": (open_frame(f"{node}::dm:{node}-x", session), REFUSED),
        "a topic that is not open": (open_frame(f"{node}::ps:x", session), REFUSED),
    }


def test_an_open_that_is_not_allowed_is_answered_with_close(pair):
    for name, (written, code) in broken_opens(pair.channel(), pair.node.peer_id).items():
        stream = pair.peer.open(pair.node.peer_id)
        stream.write(written)
        assert [(kind, fields["code"]) for kind, fields in stream.rest()] == [(CLOSE, code)], name


def broken_streams(channel):
    first = frame(POSITION, 1)
    return {
        "a message without a position": frame(DATA, b"x"),
        "position 0": frame(POSITION, 0),
        "a position above 2^62": frame(POSITION, (1 << 62) + 1),
        "message number 2^62": frame(POSITION, 1 << 62) + frame(DATA, b"x"),
        "a position that falls back": frame(POSITION, 5) + frame(DATA, b"x") + frame(POSITION, 5),
        "a second OPEN": open_frame(channel, random.randbytes(16)),
        "a frame of receivers": frame(ACK, 1, 0, 65536),
        "an unknown type": frame(127),
        "a frame to ignore that is too long": frame(128, bytes(4096)),
        "a codec that was not offered": first + extended(b"x", codec=9),
        "an extended message that ends early": first + frame(EXTENDED, b"\0\0"),
        "extensions beyond the message": first + frame(EXTENDED, b"\0\0\0", 200, b"x"),
        "a field in a longer form": frame(POSITION, b"\x81\x00"),
        "a text of 257 bytes": frame(CLOSE, b"\1", 257, bytes(257)),
        "an odd extension": frame(PING, b"\5\0"),
        "an odd extension of a message": first + extended(b"x", extensions=b"\5\0"),
    }


def test_a_violation_on_a_stream_is_answered_with_close_and_the_session_stays(pair):
    for name, written in broken_streams(pair.channel()).items():
        stream = pair.opened()
        stream.write(written)
        code = UNSUPPORTED if "odd extension" in name else VIOLATION
        assert stream.until(CLOSE)["code"] == code, name
        assert pair.again(stream, 2, oldest=1).accepted["born"] == 1, name


def test_a_message_that_is_too_long_is_refused_by_its_length(pair_of):
    pair = pair_of(limits={"message_bytes": 100_000})
    stream = pair.opened()
    largest = stream.accepted["largest"]
    stream.write(frame(POSITION, 1), frame(DATA, bytes(largest)), uvarint(largest + 2) + bytes([DATA]))
    assert stream.until(CLOSE)["code"] == VIOLATION
    assert len(pair.received(1)[0][0][1]) == largest == 100_000
    assert pair_of(limits={"message_bytes": 10}).opened().accepted["largest"] == 1 << 16


def test_a_large_message_comes_in_pieces_and_its_progress_is_told(pair_of):
    pair = pair_of(channel={"progress": True})
    payload = random.randbytes(8 << 20)
    message, piece = frame(DATA, payload), 64 << 10
    with pair.node.events("progress") as events:
        stream = pair.opened()
        stream.write(frame(POSITION, 1))
        event, written = None, 0
        while event is None:
            assert written < len(message), "all of it was sent without a word about its progress"
            stream.write(message[written:written + piece])
            written += piece
            with contextlib.suppress(peerbus.TimeoutError):
                event = events.wait_for_blocking("progress", direction="in", timeout=0.05)
    assert (event["id"], event["peer"], event["total"]) == (1, pair.peer.id, len(payload))
    assert 0 < event["bytes"] <= written
    stream.write(message[written:])
    assert pair.received(1)[0] == [(1, payload)]


def test_what_may_be_ignored_is_ignored(pair):
    stream = pair.opened(flags=1 << 40, extensions=b"\4\3abc")
    stream.write(frame(128, bytes(4095)), frame(255), frame(PING, b"\4\0"), frame(POSITION, 1, b"\6\1x"))
    stream.write(extended(b"one", extensions=b"\4\0"), frame(DATA, b"two"))
    assert pair.received(2)[0] == [(1, b"one"), (2, b"two")]


def test_payloads_that_cannot_be_unpacked_are_dropped_and_the_channel_goes_on(pair_of):
    pair = pair_of(limits={"message_bytes": 1 << 20})
    stream = pair.opened()
    stream.write(frame(POSITION, 1), extended(gzip.compress(b"good"), codec=CODECS["gzip"]))
    stream.until(ACK, accepted=2)
    bomb = gzip.compress(bytes(64 << 20))
    zstd = bytes.fromhex("28b52ffd")
    bad = [(bomb, "gzip"), (gzip.compress(b"torn")[:-3], "gzip"), (gzip.compress(b"a") + b"more", "gzip"),
           (b"", "zstd"), (b"", "lz4"),
           (zstd + bytes.fromhex("2004 190000 616263"), "zstd"),  # 4 bytes promised, 3 there
           (zstd + bytes.fromhex("0070 190000 616263"), "zstd")]  # a window of 16 MiB
    for number, (packed, codec) in enumerate(bad, 2):
        stream.write(extended(packed, codec=CODECS[codec]))
        assert stream.next() == (DROPPED, {"first": number, "count": 1, "reason": 5})
        stream.until(ACK, accepted=number + 1)
    stream.write(extended(zstd + bytes.fromhex("2003 190000 616263"), codec=CODECS["zstd"]))
    assert pair.received(2) == ([(1, b"good"), (2 + len(bad), b"abc")], [0, len(bad)])


def test_what_a_full_queue_drops_is_named_and_named_again_on_the_next_stream(pair_of):
    pair = pair_of(limits={"channel_messages": 2})
    channel = pair.channel()
    pair.node.set_policy(channel, "drop_newest")
    stream = pair.opened(channel)
    stream.write(frame(POSITION, 1), *[frame(DATA, b"%d" % i) for i in range(1, 6)])
    named = {"first": 3, "count": 3, "reason": 1}
    assert stream.until(DROPPED) == named and stream.next()[0] == ACK
    stream.reset()
    stream = pair.open(channel, stream.session, generation=2, oldest=1)
    assert [kind for kind, _ in (stream.next(), stream.next(), stream.next())] == [ACCEPT, DROPPED, ACK]
    stream.reset()
    stream = pair.opened(channel, stream.session, generation=3, oldest=6)  # now the node knows that we know
    assert stream.accepted["next"] == 6
    assert pair.node.statistics()["lost"]["in"] == {"queue_full": 3}


def test_a_queue_that_holds_its_sender_back_loses_nothing(pair_of):
    pair = pair_of(limits={"channel_messages": 4})
    stream = pair.opened(ack_messages=1000)
    stream.write(frame(POSITION, 1), *[frame(DATA, b"%d" % i) for i in range(1, 21)])
    stream.until(ACK, accepted=5)
    assert pair.received(20) == ([(i, b"%d" % i) for i in range(1, 21)], [0] * 20)
    stream.until(ACK, accepted=21)


def test_a_node_that_must_forget_sessions_says_so(pair_of):
    pair = pair_of(limits={"channel_sessions": 2})
    first, second = pair.opened(), pair.opened()
    assert pair.open().until(CLOSE)["code"] == TOO_MANY
    first.write(frame(POSITION, 1), frame(DATA, b"one"))
    first.until(ACK, accepted=2)
    first.reset()
    kind, forgetful = pair.patient_open()
    assert (kind, forgetful["flags"]) == (ACCEPT, 1)
    second.reset()
    kind, begun_anew = pair.patient_open(first.channel, first.session, generation=2, oldest=2)
    assert (kind, begun_anew["born"]) == (ACCEPT, 2)


def test_a_session_that_is_begun_anew_is_reported(pair):
    with pair.node.events("sender_restarted") as events:
        stream = pair.opened()
        pair.opened(stream.channel)
        event = events.wait_for_blocking("sender_restarted", timeout=DEADLINE_S)
    assert (event["peer"], event["channel"]) == (pair.peer.id, stream.channel)


# The node sends.


def test_the_node_waits_for_accept_and_says_the_position_first(sender):
    message = sender.node.channel(sender.peer.id, "x").send(b"hello")
    stream = sender.peer.accept()
    opened = stream.until(OPEN)
    assert opened["channel"] == f"{sender.node.peer_id}::dm:{sender.peer.id}-x"
    assert (opened["generation"], opened["oldest"], opened["instance"]) == (1, 1, NOBODY)
    assert stream.next(within=0.3) is None and not stream.ended
    stream.write(sender.answer(opened))
    assert [stream.next(), stream.next()] == [(POSITION, {"number": 1}), (DATA, {"payload": b"hello"})]
    stream.write(frame(ACK, 2, 0, ACKED))
    assert fate(message) == "accepted"
    stream.write(frame(ACK, 2, 2, ACKED))
    message.taken(timeout=DEADLINE_S)


def test_the_node_sends_again_what_was_not_acknowledged(sender):
    channel = sender.node.channel(sender.peer.id, "x")
    messages = [channel.send(b"%d" % i) for i in (1, 2, 3)]
    stream = sender.accept()
    stream.until(DATA, payload=b"3")
    stream.write(frame(ACK, 2, 0, ACKED), frame(DROPPED, 2, 1, b"\1"))  # without the ACK that makes it valid
    assert fate(messages[0]) == "accepted"
    stream.reset()
    again = sender.accept(born=1)
    assert again.open["session"] == stream.open["session"] and again.open["instance"] == sender.ours
    assert again.open["generation"] > 1 and again.open["oldest"] == 2
    assert [again.next() for _ in range(3)] == [(POSITION, {"number": 2}), (DATA, {"payload": b"2"}), (DATA, {"payload": b"3"})]
    again.write(frame(DROPPED, 3, 1, b"\6"), frame(ACK, 4, 0, ACKED))
    assert fate(messages[1]) == "accepted" and fate(messages[2])[1] is False


@pytest.mark.parametrize("answer, lost", [
    ({"instance": random.Random(1).randbytes(16)}, ("peer_restarted", True)),
    ({"born": 2}, ("session_forgotten", True)),
    ({"born": 1, "next": 3}, None),
], ids=["another instance", "another birth", "the session goes on"])
def test_accept_decides_how_a_session_goes_on(sender, answer, lost):
    channel = sender.node.channel(sender.peer.id, "x")
    messages = [channel.send(b"1"), channel.send(b"2")]
    stream = sender.accept()
    stream.until(DATA, payload=b"2")
    stream.reset()
    stream = sender.accept(**answer)
    messages.append(channel.send(b"3"))
    assert [stream.next(), stream.next()] == [(POSITION, {"number": 3}), (DATA, {"payload": b"3"})]
    stream.write(frame(ACK, 4, 0, ACKED))
    assert [fate(m) for m in messages] == [lost or "accepted", lost or "accepted", "accepted"]


LIES = {
    "ACK of what was not sent": frame(ACK, 5, 0, ACKED),
    "more taken than accepted": frame(ACK, 1, 2, ACKED),
    "DROPPED of what was not sent": frame(DROPPED, 1, 5, b"\1"),
    "DROPPED of nothing": frame(DROPPED, 1, 0, b"\1"),
    "DROPPED of 2^64 - 1": frame(DROPPED, 1, (1 << 64) - 1, b"\1"),
    "a second ACCEPT": accept_frame(bytes(16)) + accept_frame(bytes([1] * 16)),
    "a message": frame(DATA, b"x"),
    "a frame of senders": frame(FINISH),
    "an unknown type": frame(7),
    "a frame that is too long": frame(200, bytes(4096)),
    "a number in a longer form": b"\x84\x00\x11\x02\x00\x00",
    "an extension that must be understood": frame(ACK, 2, 0, ACKED, b"\5\0"),
}


def test_a_receiver_that_breaks_the_protocol_ends_the_session_and_the_message_is_reported(sender):
    for name, lie in LIES.items():
        message = sender.node.channel(sender.peer.id, name.replace(" ", "")).send(b"x")
        stream = sender.accept()
        stream.until(DATA)
        stream.write(lie)
        assert fate(message) == ("protocol_violation", True), name
        assert stream.rest() == [] and stream.ended, name


def test_an_accept_against_the_rules_ends_the_session_before_anything_is_sent(sender):
    wrong = [{"largest": 65535}, {"codecs": 2}, {"born": 0}, {"born": 2}, {"next": 0}, {"next": 2}, {"instance": NOBODY},
             {"extensions": b"\5\0"}]
    for number, fields in enumerate(wrong):
        message = sender.node.channel(sender.peer.id, f"a{number}").send(b"x")
        sender.accept(**fields)
        assert fate(message) == ("protocol_violation", False), fields


@pytest.mark.parametrize("code", range(1, 8))
def test_close_says_whether_the_session_goes_on(sender, code):
    message = sender.node.channel(sender.peer.id, "x").send(b"x")
    stream = sender.accept()
    stream.until(DATA)
    stream.write(frame(CLOSE, bytes([code]), 3, b"why"))
    if code in (VIOLATION, REFUSED, UNSUPPORTED):
        assert fate(message) == ("peer_refused", True)
        return
    stream = sender.accept(born=1)
    stream.until(DATA)
    stream.write(frame(ACK, 2, 0, ACKED))
    assert fate(message) == "accepted"


def test_the_node_keeps_inside_the_window(sender):
    channel = sender.node.channel(sender.peer.id, "x")
    messages = channel.send_many([bytes(1000)] * 200)
    stream = sender.peer.accept()
    stream.write(sender.answer(stream.until(OPEN)))
    stream.until(POSITION)

    def sent(within=0.5):
        return sum(1 for _ in iter(lambda: stream.next(within), None))

    begun = sent()
    assert 64 <= begun <= 131  # 64 KiB, and at most 64 KiB more of small messages
    stream.write(frame(ACK, begun + 1, 0, 0))
    assert sent() == 0
    stream.write(frame(ACK, 0, 0, 1))  # says nothing of messages
    more = sent()
    assert 1 <= more <= 66
    stream.write(frame(ACK, begun + more + 1, 0, ACKED))
    assert sent() == 200 - begun - more
    stream.write(frame(ACK, 201, 0, ACKED))
    assert fate(messages[199]) == "accepted"


def test_the_node_packs_only_as_the_receiver_takes_it_and_sends_unpacked_to_one_that_takes_less(sender):
    channel = sender.node.channel(sender.peer.id, "x", compression=["gzip"], compress_above=100)
    message = channel.send(b"abc" * 1000)
    stream = sender.accept(codecs=1 | 1 << CODECS["gzip"])
    packed = stream.until(EXTENDED)
    assert packed["codec"] == CODECS["gzip"] and gzip.decompress(packed["payload"]) == b"abc" * 1000
    stream.reset()
    stream = sender.accept(born=1, codecs=1)
    assert stream.until(DATA)["payload"] == b"abc" * 1000
    stream.write(frame(ACK, 2, 0, ACKED))
    assert fate(message) == "accepted"


def test_the_node_does_not_send_what_is_too_large_for_the_receiver(sender):
    channel = sender.node.channel(sender.peer.id, "x")
    large, small = channel.send(bytes(65537)), channel.send(bytes(65536))
    stream = sender.accept(largest=65536)
    assert stream.until(POSITION)["number"] == 2 and len(stream.until(DATA)["payload"]) == 65536
    stream.write(frame(ACK, 3, 0, ACKED))
    assert fate(large) == ("oversize", False) and fate(small) == "accepted"
    with pytest.raises(peerbus.TooLargeError):
        channel.send(bytes(65537))


def test_a_receiver_without_a_disk_serves_a_durable_channel_as_any_other(pair_of, tmp_path):
    sender = pair_of(serve=True, identity_dir=str(tmp_path))
    message = sender.node.channel(sender.peer.id, "x", durable=True).send(b"kept")
    stream = sender.accept()
    assert stream.open["flags"] & DURABLE
    assert stream.until(DATA)["payload"] == b"kept"
    stream.write(frame(ACK, 2, 0, ACKED))
    assert fate(message) == "accepted"
