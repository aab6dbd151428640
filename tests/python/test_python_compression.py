"""Compression of direct messages between processes, and what a peer can do with it that means harm."""

import contextlib
import gzip
import json
import os

import pytest
import raw_channel
from raw_channel import CLOSE, DATA, GZIP, LZ4, ZSTD, RawPeer, frame, packed, zstd_of_one_byte
from support import DEADLINE_S, LOCAL, start_python

import peerbus

TEXT = b"the temperature is 21.5 degrees; " * 4000
CODECS = ["zstd", "lz4", "gzip"]
DECODE_ERROR, VIOLATION = 5, 4

ECHO = """
import json, sys
from support import LOCAL
import peerbus
with peerbus.Node(**LOCAL, channel=json.loads(sys.argv[1])) as node:
    print(node.addresses[0], flush=True)
    for message in node.messages():
        if message.data == b"stop":
            break
        node.send(message.sender, bytes(message))
        node.flush(message.sender)
        print(json.dumps(node.channel(message.sender).info()["compressed"]), flush=True)
"""

pytestmark = pytest.mark.usefixtures("environment")


@contextlib.contextmanager
def echo(**channel):
    """Another process that sends everything back. Gives its address, and what compressed the messages that it sent so far."""
    process = start_python(ECHO, json.dumps(channel))
    try:
        yield process.stdout.readline().strip(), lambda: json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("codec", CODECS)
def test_two_processes_exchange_compressed_messages(nodes, codec):
    with echo(compression=[codec]) as (address, its_messages):
        node = nodes(channel={"compression": [codec]})
        peer = node.connect(address)["ID"]
        channel = node.channel(peer)
        for payload in (TEXT, TEXT[:500], os.urandom(300_000), TEXT * 20):
            channel.send(payload).accepted(DEADLINE_S)
            assert bytes(node.receive(timeout=DEADLINE_S)) == payload
            theirs = its_messages()
        ours = channel.info()
        assert ours["peer_codecs"] == CODECS
        for compressed in (ours["compressed"], theirs):
            assert compressed["messages"] == 2 and compressed["bytes"] == 21 * len(TEXT)
            assert 10 * compressed["compressed_bytes"] < compressed["bytes"]


def test_a_peer_without_compression_gets_messages_as_they_are(nodes):
    with echo(accept_compressed=False) as (address, its_messages):
        node = nodes(channel={"compression": ["zstd"]})
        peer = node.connect(address)["ID"]
        channel = node.channel(peer)
        for size in (5_000, 50_000, len(TEXT)):  # the first ones perhaps before the peer said what it takes
            channel.send(TEXT[:size]).accepted(DEADLINE_S)
            assert bytes(node.receive(timeout=DEADLINE_S)) == TEXT[:size]
            assert its_messages()["messages"] == 0
        before = channel.info()["compressed"]["messages"]
        channel.send(TEXT).accepted(DEADLINE_S)
        info = channel.info()
        assert info["peer_codecs"] == [] and info["compressed"]["messages"] == before


def test_a_peer_on_chat_gets_messages_as_they_are(nodes):
    with echo(acknowledged=False) as (address, _):
        node = nodes(channel={"compression": ["gzip"]})
        node.send(node.connect(address)["ID"], TEXT)
        assert bytes(node.receive(timeout=DEADLINE_S)) == TEXT


def test_a_wrong_codec_is_an_error_of_the_configuration():
    with pytest.raises(peerbus.InvalidConfigError, match="brotli"):
        peerbus.Node(**LOCAL, channel={"compression": ["brotli"]}).sync.start()


@pytest.fixture(scope="session")
def raw_peer_program(tmp_path_factory):
    return raw_channel.build(tmp_path_factory.mktemp("rawpeer") / "rawpeer")


@pytest.fixture
def raw(raw_peer_program, tmp_path):
    """Makes a peer that writes the frames of the protocol itself: raw(node)."""
    with contextlib.ExitStack() as stack:

        def start(node):
            address = next(address for address in node.addresses if "/tcp/" in address and "/ws" not in address)
            return stack.enter_context(contextlib.closing(RawPeer(raw_peer_program, tmp_path, address)))

        yield start


BAD = {
    "a zstd bomb of 1 GiB": packed(ZSTD, zstd_of_one_byte(1 << 30)),
    "a gzip bomb": packed(GZIP, gzip.compress(bytes(64 << 20))),
    "a payload that is no frame": packed(LZ4, os.urandom(50_000)),
    "an empty payload": packed(GZIP, b""),
    "a frame that is cut": packed(GZIP, gzip.compress(TEXT)[:-9]),
    "bytes behind the frame": packed(GZIP, gzip.compress(b"abc") + b"more"),
    "zstd that claims 2^62 bytes": packed(ZSTD, bytes.fromhex("28b52ffde0") + (1 << 62).to_bytes(8, "little") + b"\1\0\0"),
}


def memory_peak():
    """The most memory that this process ever had, in bytes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))


def test_bad_payloads_are_refused_and_counted_and_the_channels_go_on(nodes, raw):
    node = nodes(limits={"message_bytes": 1 << 20})
    peer = raw(node)
    other, stream = peer.stream(node.peer_id, "other"), peer.stream(node.peer_id, "bad")
    assert stream.codecs() == 0b1111
    other.write(frame(DATA, b"before"))
    assert node.receive(timeout=DEADLINE_S).data == b"before"
    before = memory_peak()
    stream.write(packed(GZIP, gzip.compress(b"good")), *BAD.values(), packed(GZIP, gzip.compress(b"good again")))
    dropped = stream.settled(len(BAD) + 2)
    assert sum(count for _, count, _ in dropped) == len(BAD) and dropped[0][0] == 2
    assert {reason for _, _, reason in dropped} == {DECODE_ERROR}
    first, second = (node.receive(timeout=DEADLINE_S) for _ in range(2))
    assert (first.data, first.gap) == (b"good", 0)
    assert (second.data, second.gap) == (b"good again", len(BAD))
    assert node.statistics()["lost"]["in"]["decode_error"] == len(BAD)
    assert memory_peak() - before < 128 << 20  # the bombs are 1 GiB
    other.write(frame(DATA, b"after"))
    assert node.receive(timeout=DEADLINE_S).data == b"after"


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_each_bad_payload_is_dropped_alone(nodes, raw, bad):
    node = nodes(limits={"message_bytes": 1 << 20})
    stream = raw(node).stream(node.peer_id, "bad")
    stream.write(frame(DATA, b"before"), BAD[bad], frame(DATA, b"after"))
    assert stream.settled(3) == [[2, 1, DECODE_ERROR]]
    assert [node.receive(timeout=DEADLINE_S).data for _ in range(2)] == [b"before", b"after"]


@pytest.mark.parametrize("codec", [GZIP, 63, 200])
def test_a_codec_that_was_not_offered_ends_its_channel_only(nodes, raw, codec):
    node = nodes(channel={"accept_compressed": False})
    peer = raw(node)
    other, stream = peer.stream(node.peer_id, "other"), peer.stream(node.peer_id, "bad")
    assert stream.codecs() == 0b1
    stream.write(frame(DATA, b"before"), packed(codec, gzip.compress(b"abc")))
    answer = stream.read(CLOSE)  # None: the reset that follows was quicker
    assert answer is None or answer.body[0] == VIOLATION
    other.write(frame(DATA, b"after"))
    assert [node.receive(timeout=DEADLINE_S).data for _ in range(2)] == [b"before", b"after"]
    assert "decode_error" not in node.statistics()["lost"]["in"]

