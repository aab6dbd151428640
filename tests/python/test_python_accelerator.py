"""The accelerator does what the package does without it."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from fake_library import NOWHERE
from harness import missing

import peerbus
from peerbus import _calls, _compiled

HERE = Path(__file__).resolve().parent
LOCAL = {"listen_ips": ["127.0.0.1"], "nat": {"port_mapping": False}}
EITHER_WAY = ["channels", "buffers", "inbox", "asyncio", "topics"]


@pytest.fixture(autouse=True)
def accelerator():
    if _compiled.accelerator is None:
        missing("the accelerator of the Python package, which ./build.sh builds")
    return _compiled.accelerator


@pytest.fixture
def pair():
    with peerbus.Node(**LOCAL).sync as alice, peerbus.Node(**LOCAL).sync as bob:
        alice.connect(bob.addresses)
        yield alice, bob


def test_the_same_tests_pass_without_it():
    files = [str(HERE / f"test_python_{name}.py") for name in EITHER_WAY]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not compiled", *files],
        env={**os.environ, "PEERBUS_ACCELERATOR": "0"}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_payload_is_held_for_the_call_only(pair):
    alice, bob = pair
    data, text = bytearray(b"data"), bytes(1000)
    references = sys.getrefcount(text)
    channel = alice.channel(bob.peer_id)
    for _ in range(10):
        alice.send(bob.peer_id, data)
        channel.send(data)
        channel.send_many([data, text, memoryview(data)[::2]])
        alice.publish(alice.topic("t"), data)
        alice.publish_many(alice.topic("t"), [data, text, memoryview(data)[::2]])
    data.append(0)
    assert sys.getrefcount(text) == references
    received = [bytes(bob.receive(timeout=10)) for _ in range(50)]
    assert received == [b"data", b"data", b"data", text, b"dt"] * 10


def test_an_array_with_gaps_is_sent_in_c_order(pair):
    """NumPy calls it a ValueError that such an array has no plain buffer; memoryview calls it a BufferError."""
    alice, bob = pair
    channel = alice.channel(bob.peer_id)
    cube = numpy.arange(24, dtype=numpy.int32).reshape(2, 3, 4)
    arrays = [cube[:, ::2], cube.T, cube[::-1], numpy.asfortranarray(cube[0]), numpy.broadcast_to(cube[0, 0], (2, 4))]
    for array in arrays:
        alice.send(bob.peer_id, array)
        channel.send(array)
        channel.send_many([array, memoryview(array)])
    received = [bytes(bob.receive(timeout=10)) for _ in range(4 * len(arrays))]
    assert received == [array.tobytes() for array in arrays for _ in range(4)]


def test_large_bytes_are_lent_and_come_back_once_acknowledged(pair):
    one, other = pair
    channel = one.channel(other.peer_id, "large")
    payload = bytes(range(256)) * 4096
    before = sys.getrefcount(payload)
    channel.send(payload)
    one.send(other.peer_id, payload)
    for _ in range(2):
        assert bytes(other.receive(timeout=20).data) == payload
    channel.send(b"is written when the payload is no longer").accepted(20)
    one.send(other.peer_id, b"too")
    one.flush(other.peer_id, timeout=20)
    one.send(other.peer_id, b"takes back what was lent")
    assert sys.getrefcount(payload) == before


def test_large_memory_that_can_change_is_copied(pair):
    one, other = pair
    payload = bytearray(b"a" * (1 << 20))
    one.send(other.peer_id, payload)
    payload[:] = b"b" * len(payload)
    assert bytes(other.receive(timeout=20).data) == b"a" * len(payload)


@pytest.mark.parametrize("data", ["text", 3, None, [b"x"]], ids=lambda data: type(data).__name__)
def test_what_is_no_buffer_is_a_type_error_and_nothing_is_sent(pair, data):
    alice, bob = pair
    channel = alice.channel(bob.peer_id)
    for attempt in (
        lambda: alice.send(bob.peer_id, data),
        lambda: channel.send(data),
        lambda: channel.send_many([b"first", data]),
        lambda: alice.publish(alice.topic("t"), data),
        lambda: alice.publish_many(alice.topic("t"), [b"first", data]),
    ):
        with pytest.raises(TypeError):
            attempt()
    assert channel.send(b"next").id == 1
    assert bytes(bob.receive(timeout=10)) == b"next"


def test_views_outlive_the_messages_and_the_node(pair):
    alice, bob = pair
    for text in (b"small", bytes(range(256)) * 4096):
        alice.send(bob.peer_id, text)
    views = [bob.receive(timeout=10).data for _ in range(2)]
    alice.close()
    bob.close()
    assert views == [b"small", bytes(range(256)) * 4096]
    assert views[1].readonly and views[1][256:260].tobytes() == b"\0\1\2\3"


def test_a_view_leads_to_no_other_memory(pair):
    alice, bob = pair
    alice.channel(bob.peer_id).send_many([b"one", b"two", b"three"])
    received = []
    while len(received) < 3:
        received += bob.receive_batch(timeout=10)
    views = [message.data for message in received]
    assert [bytes(view) for view in views] == [b"one", b"two", b"three"]
    assert [len(memoryview(view.obj)) for view in views] == [0, 0, 0]


def test_the_garbage_collector_looks_at_no_message(pair):
    alice, bob = pair
    alice.send(bob.peer_id, b"text")
    message = bob.receive(timeout=10)
    assert not gc.is_tracked(message)


def test_a_message_may_be_made_by_hand_and_changed():
    message = peerbus.Message("from", "channel", memoryview(b"data"), "protocol", 2, id=7)
    assert (bytes(message), len(message), message.gap, message.id, message.node_id, message.inspector) == (
        b"data", 4, 2, 7, None, False
    )
    message.data = memoryview(b"other")
    assert bytes(message) == b"other" and len(message) == 5
    with pytest.raises(AttributeError):
        message.other = 1


def test_an_accelerator_of_another_library_is_refused(accelerator):
    with pytest.raises(peerbus.LibraryError, match="rebuild"):
        _calls.calls_of(None, accelerator.ABI + 1)


def test_calls_refuse_wrong_arguments(accelerator):
    with pytest.raises(TypeError):
        accelerator.Calls(str, **NOWHERE)
    calls = accelerator.Calls(peerbus.Message, **NOWHERE)
    for attempt in (lambda: calls.send(0, b"c"), lambda: calls.send("0", b"c", b""), lambda: calls.send(0, "c", b""),
                    lambda: calls.channel_send_many(0, 0, 3, 0, 1), lambda: calls.publish(0, b"c"),
                    lambda: calls.publish_many(0, "c", [b""], 0, 1, 0), lambda: calls.publish_many(0, b"c", 3, 0, 1, 0)):
        with pytest.raises(TypeError):
            attempt()
    with pytest.raises(IndexError):
        calls.channel_send_many(0, 0, [], 0, 1)
    with pytest.raises(IndexError):
        calls.publish_many(0, b"c", [], 0, 1, 0)
