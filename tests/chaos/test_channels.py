"""Acknowledged channels between two processes with a proxy between them that does its worst: nothing is lost, doubled or out of
order, and memory stays inside its bounds. PEERBUS_CHAOS_MESSAGES sets the size of the run; `make chaos` is the long one."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from harness import free_ports
from proxies import TCPProxy, UDPProxy

import peerbus

MESSAGES = int(os.environ.get("PEERBUS_CHAOS_MESSAGES", "24000"))
CHANNELS = 16
PATIENCE_S = 120.0
HARM_EVERY_S = 0.25
PACE_S = 0.05 if MESSAGES < 100_000 else 0.0  # between the batches of a sender: else a short run ends before it is harmed
MIB = 1 << 20
LIMITS = {"channel_messages": 1000, "channel_bytes": 4 * MIB, "peer_queue_bytes": 16 * MIB, "queue_bytes": 32 * MIB,
          "message_bytes": MIB, "send_bytes": 8 * MIB, "channel_send_bytes": 2 * MIB}
COMMON = {"nat": {"port_mapping": False, "hole_punching": False, "autonat": False}, "dht": {"enabled": False},
          "webrtc": {"enabled": False}, "limits": LIMITS,
          "announce_addrs": ["/ip4/192.0.2.1/tcp/1"]}  # leads nowhere and hides those on loopback: dials must take the proxy
TCP = "/ip4/127.0.0.1/tcp/{}"
HERE = Path(__file__).resolve().parent


class Receiver:
    def __init__(self, listen, messages=MESSAGES):
        arguments = {"node": {**COMMON, "listen_addrs": [listen]}, "messages": messages, "patience": PATIENCE_S}
        package = HERE.parents[1] / "bindings" / "python"
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(HERE / "receiver.py"), json.dumps(arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(package)},
        )
        self.peer_id = self.read()["id"]

    def read(self):
        line = self.process.stdout.readline()
        assert line, f"the receiver ended with {self.process.wait(10)}"
        return json.loads(line)

    def end(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.communicate("\n", timeout=30)


def harm(proxy, receiver, stop, dealt):
    """One blow after the other until told to stop: each of them once, then each again in another order."""
    blows = [
        proxy.kill,
        proxy.kill,
        lambda: proxy.stall(0.3),
        lambda: proxy.slow(0.3),
        lambda: proxy.reorder("near", 0.2),
        lambda: proxy.reorder("far", 0.2),
        lambda: proxy.half_open("far"),  # the other end is below: it takes long to notice
        lambda: stop_process(receiver),
    ]
    left = []
    while not stop.wait(HARM_EVERY_S):
        left = left or random.sample(blows, len(blows))
        left.pop()()
        dealt.append(time.monotonic())


def stop_process(receiver):
    """The receiving process is stopped for a moment."""
    receiver.process.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    receiver.process.send_signal(signal.SIGCONT)


def send(channel, count, seed, failures):
    """Numbered messages, small ones and large ones, batches and single ones."""
    try:
        order = random.Random(seed)
        number = 0
        while number < count:
            batch = []
            for _ in range(min(order.choice([1, 1, 50]), count - number)):
                size = order.randrange(100_000) if order.random() < 0.02 else order.randrange(200)
                batch.append(number.to_bytes(8, "big") + bytes(size))
                number += 1
            time.sleep(PACE_S)
            sent = [channel.send(batch[0], PATIENCE_S)] if len(batch) == 1 else channel.send_many(batch, PATIENCE_S)
            assert sent[-1].id == number, (sent[-1].id, number)
        sent[-1].taken(PATIENCE_S)
    except Exception as error:
        failures.append(error)


@pytest.mark.parametrize(
    "listen, make",
    [(TCP, TCPProxy), ("/ip4/127.0.0.1/udp/{}/quic-v1", UDPProxy)],
    ids=["tcp", "quic"],
)
def test_channels_lose_nothing_whatever_happens_to_the_connection(listen, make):
    port = free_ports()
    receiver = Receiver(listen.format(port))
    proxy = make(port)
    stop, failures, blows = threading.Event(), [], []
    try:
        with peerbus.Node(**COMMON, listen_addrs=[listen.format(0)]) as node:
            node.connect(proxy.address(receiver.peer_id))
            senders = [
                threading.Thread(target=send, args=(node.channel(receiver.peer_id, str(i)), MESSAGES // CHANNELS, i, failures))
                for i in range(CHANNELS)
            ]
            worst = threading.Thread(target=harm, args=(proxy, receiver, stop, blows))
            for thread in [*senders, worst]:
                thread.start()
            held = 0
            while any(thread.is_alive() for thread in senders):
                held = max(held, node.statistics()["send_waiting"]["bytes"])
                time.sleep(0.05)
            stop.set()
            worst.join()
            assert not failures, failures
            report = receiver.read()
            lost = node.statistics()["lost"]
    finally:
        stop.set()
        receiver.end()
        proxy.close()
    assert report["wrong"] == [] and report["gaps"] == 0 and report["extra"] == 0 and report["channels"] == CHANNELS
    assert not any(lost.values()) and not any(report["lost"].values()), (lost, report["lost"])
    assert held <= LIMITS["send_bytes"] + CHANNELS * 128 * 1024, "the sender's buffers grew above their bound"
    assert report["waiting_bytes"] <= LIMITS["peer_queue_bytes"]
    before, most = report["memory"]
    assert most - before <= 3 * LIMITS["queue_bytes"], "the receiver's memory grew with what passed through"
    assert blows, "the run was over before anything happened"


@pytest.mark.parametrize("survivor", ["near", "far"], ids=["sender", "receiver"])
def test_a_half_open_connection_costs_no_message(survivor):
    """The survivor believes in the connection; as a sender until the muxer's ping remains without answer, which takes 40 s."""
    port = free_ports()
    receiver = Receiver(TCP.format(port), messages=2)
    proxy = TCPProxy(port)
    try:
        with peerbus.Node(**COMMON, listen_addrs=[TCP.format(0)]) as node:
            node.connect(proxy.address(receiver.peer_id))
            channel = node.channel(receiver.peer_id, "half")
            channel.send((0).to_bytes(8, "big")).taken(PATIENCE_S)
            proxy.half_open(survivor)
            channel.send((1).to_bytes(8, "big")).taken(PATIENCE_S)
            report = receiver.read()
            assert not any(node.statistics()["lost"].values())
    finally:
        receiver.end()
        proxy.close()
    assert report["wrong"] == [] and report["gaps"] == 0 and report["extra"] == 0 and not any(report["lost"].values())


@pytest.fixture
def proxied():
    """A server, and a proxy before it."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.closing(TCPProxy(server.getsockname()[1])) as proxy:
        server.settimeout(PATIENCE_S)
        yield server, proxy


def test_the_proxy_lets_what_is_on_its_way_arrive_after_what_came_later(proxied):
    """What the runs above rely on, seen from outside."""
    server, proxy = proxied
    with socket.create_connection(("127.0.0.1", proxy.port)) as old, server.accept()[0] as first:
        old.sendall(b"before")
        assert first.recv(10) == b"before"
        (connection,) = proxy.hold()
        old.sendall(b"late")
        end = time.monotonic() + PATIENCE_S
        while connection.late[connection.near] != [b"late"]:
            assert time.monotonic() < end
            time.sleep(0.01)
        connection.cut("far")
        with pytest.raises(ConnectionResetError):
            old.recv(1)
        with socket.create_connection(("127.0.0.1", proxy.port)) as new, server.accept()[0] as second:
            new.sendall(b"new")
            assert second.recv(10) == b"new"
            first.setblocking(False)
            with pytest.raises(BlockingIOError):
                first.recv(10)
            connection.due.set()
            first.settimeout(PATIENCE_S)
            assert first.recv(10) == b"late"
