"""Properties of peerbus.messages over generated messages and over damaged bytes."""

from __future__ import annotations

import contextlib
import math
import random
import tracemalloc

import numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from peerbus.messages import DecodeError, DecodeLimits, Msg

MIB = 1024 * 1024
DAMAGED_MESSAGES = 4000

# A test does not judge time, and remembers nothing between runs.
steady = settings(deadline=None, database=None)

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers() | numbers | names


def nested(leaves):
    def branches(inner):
        return st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4)

    return st.recursive(leaves, branches)


heads = st.fixed_dictionaries(
    {"sender": names},
    optional={"channel": names, "piggyback": names, "timestamp_net": names},
)
arrays = st.builds(
    lambda shape, dtype, seed: numpy.random.default_rng(seed)
    .integers(0, 100, size=shape)
    .astype(dtype),
    st.lists(st.integers(0, 4), max_size=4).map(tuple),
    st.sampled_from(["bool", "uint8", "int32", ">i8", "float16", "float32", "complex64"]),
    st.integers(0, 10),
)
files = st.fixed_dictionaries(
    {"content": st.binary(max_size=50), "filename": names, "mime_type": names.filter(bool)}
)
samples = st.dictionaries(
    names,
    st.fixed_dictionaries(
        {
            "data": names | files | arrays,
            "data_tag": st.integers(-(2**31), 2**31 - 1),
            "data_uuid": st.none() | names,
        }
    ),
    max_size=4,
)
stats = st.lists(
    st.fixed_dictionaries(
        {
            "group_key": names,
            "stat_name": names,
            "timestamp": st.integers(-(2**63), 2**63 - 1),
            "value": nested(st.none() | st.booleans() | numbers | names),
        }
    ),
    max_size=4,
)


def plain(value):
    """Arrays as something that compares."""
    if isinstance(value, numpy.ndarray):
        return (value.dtype.name, value.shape, value.reshape(-1).tolist())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def check_inverse(head, content, content_type):
    message = Msg(content=content, content_type=content_type, **head)
    data = message.to_bytes()
    received = Msg.from_bytes(data, tensors="numpy")
    assert received.to_bytes() == data
    assert plain(received.content) == plain("<empty>" if content is None else content)
    assert received.to_bytes() == data
    for name in ("sender", "content_type", "channel", "piggyback", "timestamp_net"):
        assert getattr(received, name) == getattr(message, name)


@steady
@given(heads, nested(scalars), st.sampled_from([Msg.MISC, Msg.PROFILE, Msg.HSM]))
def test_json_message_survives_the_way(head, content, content_type):
    check_inverse(head, content, content_type)


@steady
@given(heads, st.binary())
def test_raw_message_survives_the_way(head, content):
    check_inverse(head, content, Msg.MISC)


@steady
@given(heads, samples)
def test_stream_sample_survives_the_way(head, content):
    check_inverse(head, content, Msg.STREAM_SAMPLE)


@steady
@given(heads, stats)
def test_stats_update_survives_the_way(head, content):
    check_inverse(head, content, Msg.STATS_UPDATE)


def read_all(data, limits):
    with contextlib.suppress(DecodeError):
        _ = Msg.from_bytes(data, limits=limits, tensors="numpy").content


@settings(steady, max_examples=500)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_decode_error(data):
    read_all(data, DecodeLimits())


def whole_messages():
    picture = Image.frombytes("RGB", (8, 8), bytes(range(192)))
    content = {
        "t": {"data": numpy.arange(100, dtype="float32").reshape(10, 10)},
        "p": {"data": picture, "data_uuid": "u"},
        "s": {"data": "text"},
        "f": {"data": {"content": b"abc", "filename": "f"}},
    }
    value = {"a": [1.0, None, "x", {"b": True}]}
    update = {"group_key": "g", "stat_name": "s", "timestamp": 1, "value": value}
    return [
        Msg("alice", content, content_type=Msg.STREAM_SAMPLE).to_bytes(),
        Msg("alice", [update] * 3, content_type=Msg.STATS_UPDATE).to_bytes(),
        Msg("alice", {"a": [1, {"b": "c"}]}).to_bytes(),
    ]


def damaged(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
        elif kind == 2:
            data[at:at] = data[: rng.randrange(64)]
        else:
            data[at:] = data[at : max(at + 1, math.ceil(len(data) * 0.9))]
    return bytes(data)


def test_damaged_messages_raise_decode_error_only_and_take_bounded_memory():
    rng = random.Random(20260131)
    messages = whole_messages()
    for data in messages:
        read_all(data, DecodeLimits())
    limits = DecodeLimits(decoded_bytes=4 * MIB)
    tracemalloc.start()
    try:
        for index in range(DAMAGED_MESSAGES):
            read_all(damaged(messages[index % len(messages)], rng), limits)
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()
