"""Send classes between processes, progress events, and what a large message costs in memory."""

import contextlib
import json
import os
import signal
import sys
import time

import pytest
from support import DEADLINE_S, LOCAL, PROGRAM_S, finish, start_python

import peerbus

MIB = 1 << 20
TCP_ONLY = {**LOCAL, "listen_addrs": ["/ip4/127.0.0.1/tcp/0"]}

RECEIVER = """
import json
from support import LOCAL
import peerbus
config = {**LOCAL, "listen_addrs": ["/ip4/127.0.0.1/tcp/0"]}
with peerbus.Node(**config, channel={"progress": True}, limits={"message_bytes": 300 << 20}) as node:
    print(node.addresses[0], flush=True)
    events = node.events("progress")
    for message in node.messages():
        print(message.channel.rpartition("-")[2], message.id, len(message.data), flush=True)
        if message.data == b"stop":
            break
    events.close()
    print(json.dumps(list(events)), flush=True)
"""

pytestmark = pytest.mark.usefixtures("environment")


@pytest.fixture
def receiver():
    """Starts processes that print what they receive: receiver() gives the process and its address."""
    with contextlib.ExitStack() as stack:

        def start():
            process = start_python(RECEIVER)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process, process.stdout.readline().strip()

        yield start


def test_a_control_message_overtakes_a_slow_bulk_transfer(nodes, receiver, link):
    process, address = receiver()
    proxy, through = link(address)
    node = nodes(listen_addrs=TCP_ONLY["listen_addrs"], limits={"message_bytes": 300 * MIB})
    peer = node.connect(through)["ID"]
    bulk = node.channel(peer, "bulk", send_class="bulk")
    control = node.channel(peer, "control", send_class="control")
    assert bulk.send(b"first").id == 1 and process.stdout.readline() == "bulk 1 5\n"
    control.send(b"first")
    assert process.stdout.readline() == "control 1 5\n"
    proxy.pause_s = 0.002  # 8 MB/s
    for _ in range(12):
        bulk.send(bytes(2 * MIB))
    control.send(b"urgent").accepted(DEADLINE_S)
    proxy.pause_s = 0.0
    lines = [process.stdout.readline() for _ in range(13)]
    assert sorted(lines) == sorted(["control 2 6\n", *(f"bulk {2 + i} {2 * MIB}\n" for i in range(12))])
    assert lines.index("control 2 6\n") < lines.index(f"bulk 13 {2 * MIB}\n")
    assert bulk.info()["class"] == "bulk"


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs signals that stop a process")
def test_a_peer_that_stands_still_does_not_hold_up_bulk_messages_for_others(nodes, receiver):
    stopped, address = receiver()
    other, other_address = receiver()
    node = nodes(limits={"bulk_sends": 1, "message_bytes": 300 * MIB})
    channels = [node.channel(node.connect(to)["ID"], "bulk", send_class="bulk") for to in (address, other_address)]
    for channel, process in zip(channels, (stopped, other)):
        channel.send(b"first").accepted(DEADLINE_S)
        assert process.stdout.readline() == "bulk 1 5\n"
    os.kill(stopped.pid, signal.SIGSTOP)
    try:
        stalled = channels[0].send(bytes(64 * MIB))  # more than the buffers on its way take
        channels[1].send(bytes(MIB)).accepted(DEADLINE_S)
        assert other.stdout.readline() == f"bulk 2 {MIB}\n"
        with pytest.raises(peerbus.TimeoutError):
            stalled.accepted(0)
    finally:
        os.kill(stopped.pid, signal.SIGCONT)
    stalled.accepted(DEADLINE_S)
    assert stopped.stdout.readline() == f"bulk 2 {64 * MIB}\n"


def test_progress_of_a_large_message_is_told_on_both_sides(nodes, receiver, link):
    process, address = receiver()
    proxy, through = link(address)
    node = nodes(listen_addrs=TCP_ONLY["listen_addrs"], limits={"message_bytes": 300 * MIB})
    peer = node.connect(through)["ID"]
    channel = node.channel(peer, "large", progress=True)
    channel.send(b"first").accepted(DEADLINE_S)
    proxy.pause_s = 0.002  # 8 MB/s
    size = 24 * MIB
    events = node.events("progress")
    began = time.monotonic()
    message = channel.send(bytes(size))
    message.accepted(PROGRAM_S)
    took = time.monotonic() - began
    events.close()
    proxy.pause_s = 0.0
    channel.send(b"stop")
    *received, its_events = finish(process).splitlines()
    assert received == ["large 1 5", f"large 2 {size}", "large 3 4"]
    for direction, other, told in (("out", peer, list(events)), ("in", node.peer_id, json.loads(its_events))):
        assert 1 <= len(told) <= took / 0.1
        for event in told:
            assert (event["direction"], event["channel"], event["id"]) == (direction, channel.name, message.id)
            assert event["peer"] == other and 0 < event["bytes"] < event["total"] and size <= event["total"] < size + 32
        assert [event["bytes"] for event in told] == sorted({event["bytes"] for event in told})


def test_options_are_checked(nodes):
    alice, bob = nodes(), nodes()
    alice.connect(bob.addresses)
    with pytest.raises(peerbus.InvalidArgumentError, match="fast"):
        alice.channel(bob.peer_id, send_class="fast")
    channel = alice.channel(bob.peer_id, compression=("lz4",), compress_above=10)
    channel.send(b"a" * 5000).accepted(DEADLINE_S)
    assert channel.info()["compressed"]["messages"] == 1
    channel.configure(compression=[], send_class="control")
    channel.send(b"a" * 5000).accepted(DEADLINE_S)
    info = channel.info()
    assert info["compressed"]["messages"] == 1 and info["class"] == "control"
    with pytest.raises(TypeError):
        channel.configure(speed="high")


LARGE = 256 * MIB

MEMORY = """
import re, sys
from support import LOCAL
import peerbus

def peak():
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\\s+(\\d+)", status.read()).group(1)) << 10

size = 256 << 20
limits = {"message_bytes": size + (1 << 20), "queue_bytes": 2 * size}
with peerbus.Node(**LOCAL, limits=limits) as node:
"""

SENDS = MEMORY + """
    peer = node.connect(sys.argv[1])["ID"]
    channel = node.channel(peer, send_class=sys.argv[2])
    channel.send(b"first").accepted(60)
    payload = b"y" * size
    before = peak()
    channel.send(payload).accepted(60)
    print(peak() - before)
"""

RECEIVES = MEMORY + """
    print(node.addresses[0], flush=True)
    node.receive(timeout=60)
    before = peak()
    assert len(node.receive(timeout=60).data) == size
    print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("send_class", ["normal", "bulk"])
def test_a_large_message_lies_in_memory_once_on_each_side(send_class):
    taker = start_python(RECEIVES)
    sender = start_python(SENDS, taker.stdout.readline().strip(), send_class)
    try:
        sent, received = int(finish(sender)), int(finish(taker))
    finally:
        for process in (sender, taker):
            process.kill()
    # Beside the payload of the program: the copy that is kept until it is acknowledged; the one that is received.
    assert sent < LARGE + 32 * MIB and received < LARGE + 32 * MIB, f"{sent / MIB:.0f} and {received / MIB:.0f} MiB"
