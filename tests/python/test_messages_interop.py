"""Other protobuf packages: the one of existing peers, and foreign ones with the same names."""

from __future__ import annotations

import gzip
import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy
import pytest
from harness import missing

from peerbus.messages import Msg

UNAIVERSE_VERSION = "0.1.31"


@pytest.fixture(scope="module")
def message_pb2():
    """The generated module of unaiverse, without the rest of that package."""
    package = importlib.util.find_spec("unaiverse")
    if package is None:
        missing(f"needs pip install --no-deps unaiverse=={UNAIVERSE_VERSION}")
    path = pathlib.Path(package.origin).parent / "networking" / "p2p" / "message_pb2.py"
    spec = importlib.util.spec_from_file_location("message_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONTENTS = [
    (Msg.MISC, None),
    (Msg.PROFILE, {"a": [1, None, "ü"]}),
    (Msg.STREAM_SAMPLE, {"t": {"data": "text", "data_tag": 2, "data_uuid": "u"}}),
    (
        Msg.STREAM_SAMPLE,
        {"f": {"data": {"content": b"\x00", "filename": "f", "mime_type": "m"}, "data_tag": 0,
               "data_uuid": None}},
    ),
    (
        Msg.STATS_UPDATE,
        [{"group_key": "g", "stat_name": "s", "timestamp": 5, "value": {"a": [1.5, None, True]}}],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("content_type", "content"), CONTENTS)
def test_existing_peer_parses_and_writes_the_same_bytes(message_pb2, content_type, content):
    message = Msg("alice", content, channel="a::dm:b-x", content_type=content_type, piggyback="p")
    theirs = message_pb2.Message.FromString(message.to_bytes())
    for name in ("sender", "content_type", "channel", "piggyback", "timestamp_net"):
        assert getattr(theirs, name) == getattr(message, name)
    assert theirs.SerializeToString(deterministic=True) == message.to_bytes()
    received = Msg.from_bytes(theirs.SerializeToString())
    assert received.content == ("<empty>" if content is None else content)


def test_existing_peer_reads_our_tensor(message_pb2):
    original = numpy.arange(6, dtype="float32").reshape(2, 3)
    message = Msg("alice", {"x": {"data": original}}, content_type=Msg.STREAM_SAMPLE)
    theirs = message_pb2.Message.FromString(message.to_bytes())
    tensor = theirs.stream_sample.samples["x"].data.tensor_data
    data = numpy.frombuffer(gzip.decompress(tensor.data), tensor.dtype).reshape(list(tensor.shape))
    numpy.testing.assert_array_equal(data, original)


def test_we_read_the_tensor_of_an_existing_peer(message_pb2):
    original = numpy.arange(6, dtype="int64").reshape(3, 2)
    theirs = message_pb2.Message(sender="bob", content_type="stream_sample")
    sample = theirs.stream_sample.samples["x"]
    sample.data_tag = -1
    sample.data.tensor_data.data = gzip.compress(original.tobytes(), 9)
    sample.data.tensor_data.dtype = "int64"
    sample.data.tensor_data.shape.extend([3, 2])
    received = Msg.from_bytes(theirs.SerializeToString(), tensors="numpy")
    numpy.testing.assert_array_equal(received.content["x"]["data"], original)


def test_parsed_message_of_an_existing_peer_is_wrapped(message_pb2):
    message = Msg(_proto_msg=message_pb2.Message(sender="bob", json_content="[1]"))
    assert (message.sender, message.content) == ("bob", [1])


def test_existing_peer_sees_raw_bytes_as_no_content(message_pb2):
    theirs = message_pb2.Message.FromString(Msg("alice", b"raw").to_bytes())
    assert theirs.WhichOneof("content") is None


SAME_NAMES = """
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
def occupy():
    file = descriptor_pb2.FileDescriptorProto(name={file!r}, package="p2p", syntax="proto3")
    file.message_type.add(name="Message").field.add(name="other", number=1, type=5, label=1)
    file.message_type.add(name="StatBatch")
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("p2p.Message"))
def use():
    from peerbus.messages import Msg
    content = [{{"group_key": "g", "stat_name": "s", "timestamp": 1, "value": [1.0]}}]
    data = Msg("alice", content, content_type="stats_update").to_bytes()
    assert Msg.from_bytes(data).content == content
"""


@pytest.mark.parametrize("file", ["message.proto", "node/envelope/message.proto"])
@pytest.mark.parametrize("order", ["occupy(); use()", "use(); occupy()"])
def test_foreign_package_with_the_same_names_lives_in_the_same_process(file, order):
    program = SAME_NAMES.format(file=file) + order + "; print('both')"
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("both", "")


def test_own_schema_leaves_the_default_pool_alone():
    program = (
        "from google.protobuf import descriptor_pool\n"
        "from peerbus.messages import Msg\n"
        "Msg('alice', [1]).to_bytes()\n"
        "try:\n    descriptor_pool.Default().FindMessageTypeByName('p2p.Message')\n"
        "except KeyError:\n    print('absent')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "absent"


def test_pure_python_protobuf_reads_and_writes_the_same():
    program = (
        "from peerbus.messages import Msg, DecodeError\n"
        "from google.protobuf.internal import api_implementation\n"
        "assert api_implementation.Type() == 'python'\n"
        "m = Msg('alice', {'x': {'data': 'text'}}, 'then', content_type='stream_sample')\n"
        "assert Msg.from_bytes(m.to_bytes()).content['x']['data'] == 'text'\n"
        "for bad in (b'\\x0a\\x05al', b'\\x0a\\x02\\xff\\xfe', b'\\x02\\x00'):\n"
        "    try:\n        Msg.from_bytes(bad)\n        print('accepted', bad)\n"
        "    except DecodeError:\n        pass\n"
        "print(m.to_bytes().hex())"
    )
    environment = dict(os.environ, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    message = Msg("alice", {"x": {"data": "text"}}, "then", content_type=Msg.STREAM_SAMPLE)
    assert done.stdout.strip() == message.to_bytes().hex(), done.stderr
