"""Payloads cross the border without copies."""

import array
import ctypes
import gc

import numpy
import pytest
from fake_library import FakeLibrary
from harness import missing

from peerbus import _buffers, _compiled, _packing


@pytest.fixture(params=["compiled", "ctypes"])
def library(request):
    if request.param == "compiled" and _compiled.accelerator is None:
        missing("the accelerator of the Python package, which ./build.sh builds")
    library = FakeLibrary(request.param == "compiled")
    yield library
    library.close()


def test_a_batch_becomes_messages_with_all_their_fields(library):
    [message] = _buffers.messages(library, library.batch(b"hello", gap=7))
    assert (message.sender, message.channel, message.protocol, message.gap) == ("peer", "channel", "protocol", 7)
    assert message.data == b"hello" and bytes(message) == b"hello" and len(message) == 5


def test_received_payloads_are_read_only(library):
    [message] = _buffers.messages(library, library.batch(b"hello"))
    assert message.data.readonly
    with pytest.raises(TypeError):
        message.data[0] = 0


def test_an_empty_payload_is_an_empty_view(library):
    [message] = _buffers.messages(library, library.batch(b""))
    assert len(message.data) == 0 and bool(message)


def test_a_batch_is_freed_once_when_its_last_view_dies(library):
    batch = library.batch(b"first", b"second")
    messages = _buffers.messages(library, batch)
    view = messages[1].data[1:3]
    del messages
    gc.collect()
    assert library.freed == []
    assert bytes(view) == b"ec"
    del view
    gc.collect()
    assert library.freed == [batch]


def test_texts_that_are_not_utf_8_lose_no_message(library):
    [message] = _buffers.messages(library, library.batch(b"x", channels=[b"\xff"]))
    assert message.channel == "\ufffd"


@pytest.mark.parametrize(
    "data",
    [b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4], array.array("b", b"abc"), (ctypes.c_char * 3)(*b"abc")],
    ids=lambda data: type(data).__name__,
)
def test_any_buffer_is_a_payload(data):
    with _buffers.Pinned(data) as payload:
        assert payload.size == 3
        assert ctypes.string_at(payload.pointer, 3) == b"abc"


def test_a_payload_is_not_copied():
    data = bytearray(b"abc")
    with _buffers.Pinned(data) as payload:
        data[0] = ord("z")
        assert ctypes.string_at(payload.pointer, 3) == b"zbc"
        with pytest.raises(BufferError):
            data.extend(b"more")
    data.extend(b"more")


def test_an_array_with_gaps_is_sent_in_c_order():
    data = numpy.arange(16, dtype=numpy.uint8).reshape(4, 4)[:, ::2]
    with _buffers.Pinned(data) as payload:
        assert ctypes.string_at(payload.pointer, payload.size) == data.tobytes()


@pytest.mark.parametrize("data", [b"", bytearray(), memoryview(b"")], ids=lambda data: type(data).__name__)
def test_an_empty_payload_has_an_address(data):
    with _buffers.Pinned(data) as payload:
        assert payload.size == 0 and payload.pointer is not None and payload.pointer != 0


@pytest.mark.parametrize("data", ["text", 3, None, [1, 2]], ids=lambda data: type(data).__name__)
def test_what_is_no_buffer_is_a_type_error(data):
    with pytest.raises(TypeError):
        _buffers.Pinned(data)


def test_messages_of_one_channel_and_of_several_are_the_same(library):
    rows = [(b"a", b"first"), (b"a", b""), (b"b", b"third"), (b"a", bytes(5000))]
    together = _buffers.messages(library, library.batch(*[data for _, data in rows], channels=[name for name, _ in rows]))
    assert [(m.channel.encode(), bytes(m)) for m in together] == rows
    alone = _buffers.messages(library, library.batch(*[data for _, data in rows], channels=[b"a"] * 4, gap=3))
    assert [(m.channel, bytes(m), m.gap) for m in alone] == [("a", data, 3) for _, data in rows]
    for field in ("id", "inspector", "node_id", "protocol", "sender"):
        assert [getattr(m, field) for m in alone] == [getattr(m, field) for m in together], field


def slices(packed, begin=0):
    table = (_buffers.Slice * (packed.count - begin)).from_address(packed.slices_from(begin))
    return [ctypes.string_at(entry.data, entry.size) for entry in table]


@pytest.mark.parametrize(
    "payloads",
    [
        [b"one"],
        [b"", b"first", b"", bytes(range(256)), b""],
        [b"small", bytes(100_000), b"small"],
        [b"bytes", bytearray(b"array"), memoryview(b"xviewx")[1:5], array.array("b", b"items"), b""],
        [memoryview(b"a-b-c-")[::2], b"gaps"],
    ],
    ids=["one", "small", "large", "kinds", "gaps"],
)
def test_many_payloads_are_one_table(payloads):
    with _packing.Packed(payloads) as packed:
        expected = [bytes(payload) for payload in payloads]
        assert slices(packed) == expected
        assert slices(packed, len(payloads) - 1) == expected[-1:]


def test_a_table_lets_its_payloads_go():
    data = bytearray(b"data")
    with _packing.Packed([data, b"x"]), pytest.raises(BufferError):
        data.append(1)
    data.append(1)
    with pytest.raises(TypeError):
        _packing.Packed([data, "text"])
    data.append(1)
