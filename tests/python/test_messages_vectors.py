"""The golden bytes of tests/vectors/messages, read and written by peerbus.messages."""

from __future__ import annotations

import json
import pathlib

import numpy
import pytest
from PIL import Image

from peerbus.messages import DecodeError, Msg

VECTORS = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "messages"
NAMES = sorted(path.stem for path in VECTORS.glob("*.json") if path.stem != "malformed")
MALFORMED = json.loads((VECTORS / "malformed.json").read_text(encoding="utf-8"))


def read(name):
    return json.loads((VECTORS / (name + ".json")).read_text(encoding="utf-8"))


def wire(vector):
    return bytes.fromhex("".join(part for part, _ in vector["bytes"]))


def describe(value):
    """Content in the notation of the vectors."""
    if isinstance(value, numpy.ndarray):
        return {
            "$tensor": value.dtype.name,
            "shape": list(value.shape),
            "values": value.reshape(-1).tolist(),
        }
    if isinstance(value, Image.Image):
        pixels = list(value.tobytes())
        return {"$image": value.mode, "size": list(value.size), "pixels": pixels}
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, dict):
        return {key: describe(item) for key, item in value.items()}
    return [describe(item) for item in value] if isinstance(value, list) else value


def build(value):
    """The reverse of describe."""
    if isinstance(value, list):
        return [build(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        return numpy.array(value["values"], value["$tensor"]).reshape(value["shape"])
    if "$image" in value:
        return Image.frombytes(value["$image"], tuple(value["size"]), bytes(value["pixels"]))
    if "$bytes" in value:
        return bytes.fromhex(value["$bytes"])
    return {key: build(item) for key, item in value.items()}


def open_message(data):
    return Msg.from_bytes(data, tensors="numpy")


def new_message(vector):
    head = vector["envelope"]
    return Msg(
        sender=head["sender"],
        content=build(vector["content"]),
        timestamp_net=head["timestampNet"],
        channel=head["channel"],
        content_type=head["contentType"],
        piggyback=head.get("piggyback"),
    )


@pytest.mark.parametrize("name", NAMES)
def test_golden_bytes_read_as_their_fields(name):
    vector = read(name)
    message = open_message(wire(vector))
    head = vector["envelope"]
    assert message.sender == head["sender"]
    assert message.content_type == head["contentType"]
    assert message.channel == head["channel"]
    assert message.piggyback == head.get("piggyback", "")
    assert message.timestamp_net == head["timestampNet"]
    assert describe(message.content) == vector["content"]


@pytest.mark.parametrize("name", NAMES)
def test_golden_bytes_are_passed_on_unchanged(name):
    data = wire(read(name))
    message = open_message(data)
    assert message.content is message.content
    assert message.to_bytes() == data


@pytest.mark.parametrize("name", [n for n in NAMES if read(n)["python_writes_same_bytes"]])
def test_golden_fields_write_as_their_bytes(name):
    vector = read(name)
    assert new_message(vector).to_bytes().hex() == wire(vector).hex()


@pytest.mark.parametrize("name", ["tensor", "tensor-scalar", "image"])
def test_golden_compressed_fields_write_bytes_that_read_the_same(name):
    vector = read(name)
    message = open_message(new_message(vector).to_bytes())
    assert describe(message.content) == vector["content"]


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case["name"])
def test_malformed_message_raises_decode_error(case):
    data = wire(case)
    if case["fails"] == "envelope":
        with pytest.raises(DecodeError):
            open_message(data)
        return
    message = open_message(data)
    for _ in range(2):
        with pytest.raises(DecodeError):
            _ = message.content
    assert message.to_bytes() == data
