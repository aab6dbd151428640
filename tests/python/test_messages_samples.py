"""Stream samples: tensors, pictures, texts and files, and what decoding them may cost."""

from __future__ import annotations

import array
import ctypes
import gzip
import io
import sys
import tracemalloc
import zlib

import numpy
import pytest
from PIL import Image

from peerbus import _messages_gzip, _messages_schema
from peerbus.messages import DecodeError, DecodeLimits, FilePayload, Msg

MIB = 1024 * 1024
NUMPY_TYPES = [
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
    "float16", "float32", "float64", "complex64", "complex128",
]  # fmt: skip


def new_message(**samples):
    content = {name: {"data": data} for name, data in samples.items()}
    return Msg("alice", content, content_type=Msg.STREAM_SAMPLE)


def arrived(data, **options):
    options.setdefault("tensors", "numpy")
    message = Msg.from_bytes(new_message(x=data).to_bytes(), **options)
    return message.content["x"]["data"]


def on_the_wire(data):
    """The SampleData that a peer receives, parsed with the whole schema."""
    message = _messages_schema.load().Message.FromString(new_message(x=data).to_bytes())
    return message.stream_sample.samples["x"].data


def from_peer(limits=None, **samples):
    """A message as a peer may write it; samples are a field of SampleData and its members."""
    message = _messages_schema.load().Message(sender="mallory", content_type="stream_sample")
    for name, (kind, members) in samples.items():
        payload = getattr(message.stream_sample.samples[name].data, kind)
        payload.MergeFrom(type(payload)(**members))
    return Msg.from_bytes(message.SerializeToString(), limits=limits, tensors="numpy")


def tensor(data, dtype, shape):
    return ("tensor_data", {"data": gzip.compress(data), "dtype": dtype, "shape": shape})


def same(left, right):
    assert isinstance(left, numpy.ndarray)
    assert left.dtype == right.dtype.newbyteorder("=")
    assert left.shape == right.shape
    numpy.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("dtype", NUMPY_TYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3), (2, 1, 3, 2)])
def test_array_of_each_type_and_shape_arrives(dtype, shape):
    original = numpy.arange(numpy.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    same(arrived(original), original)


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">u2", ">c16"])
def test_big_endian_array_arrives_with_the_same_values(dtype):
    original = numpy.array([1, 2, 515], dtype)
    same(arrived(original), original)


def test_array_that_is_not_contiguous_arrives_row_major():
    original = numpy.arange(24, dtype="float32").reshape(4, 6)
    for view in (original.T, original[::2, ::-1], numpy.asfortranarray(original)):
        same(arrived(view), view)


def test_numpy_scalar_arrives_as_array_without_dimensions():
    same(arrived(numpy.float32(1.5)), numpy.array(1.5, "float32"))


def test_array_that_arrived_is_writable():
    for dtype in NUMPY_TYPES:
        arrived(numpy.zeros(3, dtype))[0] = 1


@pytest.mark.parametrize(
    ("buffer", "dtype", "values"),
    [
        (array.array("f", [1, 2.5]), "float32", [1, 2.5]),
        (array.array("h", [-1, 300]), "int16", [-1, 300]),
        (array.array("Q", [2**63]), "uint64", [2**63]),
        ((ctypes.c_double * 2)(0.5, -1), "float64", [0.5, -1]),
        ((ctypes.c_int32 * 2 * 2)((1, 2), (3, 4)), "int32", [[1, 2], [3, 4]]),
        (memoryview(b"abcd"), "uint8", [97, 98, 99, 100]),
        (memoryview(b"abcd")[::2], "uint8", [97, 99]),
        (memoryview(b""), "uint8", []),
        (ctypes.c_int16(-5), "int16", -5),
    ],
)
def test_buffer_arrives_as_array(buffer, dtype, values):
    same(arrived(buffer), numpy.array(values, dtype))


class Lender:
    """Lends an array by DLPack only."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, *arguments, **options):
        return self.values.__dlpack__(*arguments, **options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def test_object_with_dlpack_arrives_as_array():
    original = numpy.arange(6, dtype="int32").reshape(2, 3)
    same(arrived(Lender(original)), original)


def test_object_with_broken_dlpack_is_a_type_error():
    class Broken:
        def __dlpack__(self, **options):
            raise BufferError("not on this device")

        def __dlpack_device__(self):
            return (1, 0)

    with pytest.raises(TypeError, match="not on this device"):
        new_message(x=Broken())


@pytest.mark.parametrize(
    "data",
    [
        b"bytes", bytearray(b"bytes"), 5, 1.5, True, [1, 2], {"no": "file"}, object(), {1},
        numpy.array(["text"]), numpy.array([None]), numpy.array(["2026-01-31"], "M8[D]"),
        numpy.zeros(2, [("a", "f4")]), numpy.ma.masked_array([1, 2], [True, False]),
        array.array("u", "text") if sys.version_info < (3, 13) else array.array("w", "text"),
        (ctypes.c_char * 3)(), {"content": 5, "filename": "five"},
        {"content": b"", "filename": None},
    ],
)  # fmt: skip
def test_data_that_cannot_travel_is_a_type_error_that_names_the_sample(data):
    with pytest.raises(TypeError, match="sample 'x'"):
        new_message(x=data)


@pytest.mark.parametrize("content", ["text", [1], 5, {"x": 5}, {5: {"data": "x"}}])
def test_content_that_is_no_dict_of_samples_is_a_type_error(content):
    with pytest.raises(TypeError):
        Msg("alice", content, content_type=Msg.STREAM_SAMPLE)


def test_text_that_is_no_unicode_is_a_value_error():
    with pytest.raises(ValueError, match="sample 'x'"):
        new_message(x="\ud800")


def test_tag_and_uuid_arrive():
    content = {
        "a": {"data": "x"},
        "b": {"data": "x", "data_tag": 7, "data_uuid": "u"},
        "c": {"data": "x", "data_tag": None, "data_uuid": ""},
    }
    message = Msg("alice", content, content_type=Msg.STREAM_SAMPLE)
    assert Msg.from_bytes(message.to_bytes()).content == {
        "a": {"data": "x", "data_tag": -1, "data_uuid": None},
        "b": {"data": "x", "data_tag": 7, "data_uuid": "u"},
        "c": {"data": "x", "data_tag": -1, "data_uuid": ""},
    }


def test_tag_beyond_32_bits_is_a_value_error():
    content = {"x": {"data": "x", "data_tag": 2**31}}
    with pytest.raises(ValueError, match="sample 'x'"):
        Msg("alice", content, content_type=Msg.STREAM_SAMPLE)


def test_sample_without_data_is_left_out():
    message = new_message(a=None, b="x")
    assert set(Msg.from_bytes(message.to_bytes()).content) == {"b"}
    assert Msg.from_bytes(new_message(a=None).to_bytes()).content == {}


def test_sample_that_a_peer_sent_without_data_is_none():
    message = _messages_schema.load().Message()
    message.stream_sample.samples["x"].data_tag = 4
    content = Msg.from_bytes(message.SerializeToString()).content
    assert content == {"x": {"data": None, "data_tag": 4, "data_uuid": None}}


class File:
    content = "grün"
    filename = "a.txt"
    mime_type = "text/plain"


@pytest.mark.parametrize(
    "file",
    [
        File(),
        {"content": b"gr\xc3\xbcn", "filename": "a.txt", "mime_type": "text/plain"},
        {"content": memoryview(b"gr\xc3\xbcn"), "filename": "a.txt", "mime_type": "text/plain"},
    ],
)
def test_file_arrives_as_dict_with_attributes(file):
    data = arrived(file)
    assert data == {"content": b"gr\xc3\xbcn", "filename": "a.txt", "mime_type": "text/plain"}
    assert (data.content, data.filename, data.mime_type) == tuple(data.values())
    assert arrived(data) == data


def test_file_without_type_gets_the_general_one():
    file = arrived({"content": b"", "filename": "a"})
    assert file == FilePayload(content=b"", filename="a", mime_type="application/octet-stream")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_picture_of_each_png_mode_arrives(mode):
    picture = Image.frombytes("RGB", (3, 2), bytes(range(18)))
    picture = Image.new(mode, (3, 2), 700) if mode == "I;16" else picture.convert(mode)
    data = arrived(picture)
    assert (data.mode, data.size, data.tobytes()) == (mode, picture.size, picture.tobytes())


@pytest.mark.parametrize("picture", [Image.new("CMYK", (2, 2)), Image.new("F", (2, 2))])
def test_picture_that_png_does_not_have_is_a_value_error(picture):
    with pytest.raises(ValueError, match="convert it first"):
        new_message(x=picture)


def saved(picture, format):
    file = io.BytesIO()
    picture.save(file, format)
    return file.getvalue()


def test_other_picture_formats_are_decoded_only_where_they_are_allowed():
    data = saved(Image.new("L", (4, 4), 9), "BMP")
    with pytest.raises(DecodeError):
        _ = from_peer(x=("image_data", {"data": data})).content
    limits = DecodeLimits(image_formats=("PNG", "BMP"))
    picture = from_peer(limits, x=("image_data", {"data": data})).content["x"]["data"]
    assert picture.getpixel((3, 3)) == 9


def test_picture_that_decodes_to_more_than_the_limit_is_refused():
    data = saved(Image.new("RGB", (500, 500)), "PNG")
    assert len(data) < 10000
    exact = DecodeLimits(decoded_bytes=500 * 500 * 4)
    picture = from_peer(exact, x=("image_data", {"data": data})).content["x"]["data"]
    assert picture.size == (500, 500)
    limits = DecodeLimits(decoded_bytes=999999)
    with pytest.raises(DecodeError, match="picture needs 1000000 bytes"):
        _ = from_peer(limits, x=("image_data", {"data": data})).content


def test_tensor_data_is_gzip_of_row_major_little_endian_bytes():
    original = numpy.arange(6, dtype=">i2").reshape(2, 3).T
    data = on_the_wire(original).tensor_data
    assert gzip.decompress(data.data) == original.astype("<i2").tobytes(order="C")
    assert (data.dtype, list(data.shape)) == ("int16", [3, 2])


def test_large_data_that_does_not_shrink_is_stored():
    noise = numpy.random.default_rng(1).bytes(MIB)
    packed = _messages_gzip.compress(memoryview(noise))
    assert gzip.decompress(packed) == noise
    assert packed[10] & 0b110 == 0, "first deflate block is of type stored"
    assert len(packed) < MIB + 1000


def test_large_data_that_shrinks_is_compressed():
    packed = _messages_gzip.compress(memoryview(bytes(MIB)))
    assert gzip.decompress(packed) == bytes(MIB)
    assert len(packed) < MIB // 100


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, MIB - 1, MIB, MIB + 1, 3 * MIB])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_gzip_of_any_writer_is_read(size, level):
    for data in (bytes(size), numpy.random.default_rng(size).bytes(size)):
        assert _messages_gzip.decompress(gzip.compress(data, level), size) == data


def test_gzip_members_in_a_row_are_read_up_to_a_number():
    members = [gzip.compress(bytes([i])) for i in range(_messages_gzip.MAX_MEMBERS + 1)]
    assert _messages_gzip.decompress(b"".join(members[:-1]), 16) == bytes(range(16))
    with pytest.raises(DecodeError):
        _messages_gzip.decompress(b"".join(members), 17)


@pytest.fixture
def peak_memory():
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


def bomb(size):
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = bytes(MIB)
    return b"".join([stream.compress(piece) for _ in range(size // MIB)] + [stream.flush()])


def test_gzip_bomb_takes_no_more_than_its_shape_says(peak_memory):
    message = from_peer(
        x=("tensor_data", {"data": bomb(256 * MIB), "dtype": "uint8", "shape": [1024]})
    )
    with pytest.raises(DecodeError, match="more than the 1024 bytes"):
        _ = message.content
    assert peak_memory() < 8 * MIB


def test_claimed_shape_takes_no_memory_that_did_not_arrive(peak_memory):
    message = from_peer(x=tensor(bytes(100), "uint8", [50 * MIB]))
    with pytest.raises(DecodeError, match="holds 100 bytes"):
        _ = message.content
    assert peak_memory() < 8 * MIB


def test_limit_is_for_all_samples_together():
    samples = {str(i): tensor(bytes(400), "float32", [100]) for i in range(10)}
    assert len(from_peer(DecodeLimits(decoded_bytes=4000), **samples).content) == 10
    with pytest.raises(DecodeError, match=r"DecodeLimits\.decoded_bytes"):
        _ = from_peer(DecodeLimits(decoded_bytes=3999), **samples).content


def test_default_limit_is_fifty_mebibytes_and_can_be_raised():
    shape = [50 * MIB + 1]
    message = new_message(x=numpy.zeros(shape, "uint8")).to_bytes()
    with pytest.raises(DecodeError):
        _ = Msg.from_bytes(message, tensors="numpy").content
    limits = DecodeLimits(decoded_bytes=60 * MIB)
    content = Msg.from_bytes(message, tensors="numpy", limits=limits).content
    assert list(content["x"]["data"].shape) == shape


def length_delimited(key, body):
    size, number = b"", len(body)
    while number > 127:
        size, number = size + bytes([number & 127 | 128]), number >> 7
    return bytes([key]) + size + bytes([number]) + body


def sample_with_payload(payload):
    return length_delimited(0x0A, length_delimited(0x12, length_delimited(0x0A, payload)))


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x0a\x00" * 400000,
        b"\x08\x01" * 400000,
        sample_with_payload(b"\x0a\x00\x12\x00" * 200000),
    ],
    ids=["empty entries", "unknown numbers", "payloads that replace each other"],
)
def test_fields_without_number_are_refused_before_they_are_parsed(hostile, monkeypatch):
    message = Msg.from_bytes(length_delimited(0x32, hostile))
    monkeypatch.setattr(_messages_schema, "parse", lambda *_: pytest.fail("was parsed"))
    with pytest.raises(DecodeError, match=r"DecodeLimits\.samples"):
        _ = message.content


def test_more_samples_than_the_limit_are_refused():
    message = new_message(a="1", b="2", c="3").to_bytes()
    assert len(Msg.from_bytes(message, limits=DecodeLimits(samples=3)).content) == 3
    with pytest.raises(DecodeError, match="3 samples"):
        _ = Msg.from_bytes(message, limits=DecodeLimits(samples=2)).content


def test_bool_that_is_neither_0_nor_1_reads_as_true():
    content = from_peer(x=tensor(b"\x00\x01\x07", "bool", [3])).content
    assert content["x"]["data"].view("uint8").tolist() == [0, 1, 1]


def test_bfloat16_reads_as_float32_of_the_same_value():
    data = from_peer(x=tensor(b"\x80\x3f\x20\xc0", "bfloat16", [2])).content["x"]["data"]
    same(data, numpy.array([1.0, -2.5], "float32"))


def test_type_that_numpy_does_not_have_is_a_decode_error():
    with pytest.raises(DecodeError, match='tensors="torch"'):
        _ = from_peer(x=tensor(b"\x00", "float8_e5m2", [1])).content


@pytest.mark.parametrize(
    ("module", "package", "data"),
    [
        ("numpy", "numpy", tensor(b"\x00", "uint8", [1])),
        ("PIL", "pillow", ("image_data", {"data": saved(Image.new("L", (1, 1)), "PNG")})),
    ],
)
def test_missing_package_is_a_decode_error_that_names_it(module, package, data, monkeypatch):
    message = from_peer(x=data)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DecodeError, match="needs the package " + package):
        _ = message.content
