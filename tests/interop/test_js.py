"""A js-libp2p peer, as a browser would be one, talks to peerbus by webrtc-direct and by WebRTC through a relay (NEW-15)."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from harness import missing
from unaiverse_pair import until

import peerbus

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "js"
EXAMPLE = ROOT / "bindings" / "python" / "examples" / "reach.py"
DEADLINE_S = 60.0
QUIET = {"nat": {"port_mapping": False, "hole_punching": False, "autonat": False}, "dht": {"enabled": False}}


class JavaScriptPeer:
    def __init__(self, *relays):
        command = ["node", str(FOLDER / "peer.mjs"), *relays]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.id = self.answer()["id"]

    def answer(self):
        line = self.process.stdout.readline()
        assert line, f"the JavaScript peer ended with {self.process.wait(DEADLINE_S)}"
        answer = json.loads(line)
        assert "ok" in answer, answer["error"]
        return answer["ok"]

    def call(self, *request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def is_direct_to(self, peer_id):
        return any(not connection["limited"] for connection in self.call("connections", peer_id))


@pytest.fixture(scope="module", autouse=True)
def library(library_path):
    os.environ["PEERBUS_LIBRARY"] = str(library_path)
    if not shutil.which("node") or not (FOLDER / "node_modules" / "ready").exists():
        missing("node or its packages are not installed; make test installs the packages")


@pytest.fixture
def start():
    """Starts a node, or with start.js(...) a JavaScript peer, for one test."""
    with contextlib.ExitStack() as stack:
        def node(**keys):
            return stack.enter_context(peerbus.Node(**{**QUIET, **keys}))

        node.js = lambda *relays: stack.enter_context(contextlib.closing(JavaScriptPeer(*relays)))
        yield node


@pytest.fixture
def relay(start):
    return start(listen_addrs=["/ip4/127.0.0.1/tcp/0"], network={"force_public": True}, relay={"enable_service": True})


def exchange(node, js, size):
    payload = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    by = js.call("send", node.peer_id, f"{js.id}::dm:{node.peer_id}-js", base64.b64encode(payload).decode())
    message = node.receive(timeout=DEADLINE_S)
    assert message.sender == js.id and message.data == payload
    node.send(js.id, payload)
    got = []
    until("it arrives", lambda: got.extend(js.call("received")) or got)
    assert [(m["from"], base64.b64decode(m["payload"])) for m in got] == [(node.peer_id, payload)]
    return by


def test_by_webrtc_direct(start):
    node, js = start(listen_addrs=["/ip4/127.0.0.1/udp/0/webrtc-direct"]), start.js()
    assert "/webrtc-direct/" in js.call("dial", node.addresses[0])
    assert js.call("ping", node.peer_id) >= 0
    for size in 1, 1000, 500_000:
        exchange(node, js, size)


def reachable_through(relay, node):
    node.connect(relay.addresses)
    node.reserve_on_relay(relay.peer_id)
    return f"{relay.addresses[0]}/p2p-circuit/webrtc/p2p/{node.peer_id}"


def test_the_browser_dials_by_webrtc_through_a_relay(start, relay):
    node, js = start(listen_addrs=["/ip4/127.0.0.1/tcp/0"]), start.js()
    address = reachable_through(relay, node)
    until("the node announces it", lambda: address in node.addresses)
    assert "/webrtc" in js.call("dial", address)
    assert js.is_direct_to(node.peer_id)
    assert js.call("ping", node.peer_id) >= 0
    for size in 1, 1000, 500_000:
        assert "/webrtc" in exchange(node, js, size)


def test_the_node_dials_a_browser_behind_a_relay_and_gets_a_direct_connection(start, relay):
    js, node = start.js(relay.addresses[0]), start(listen_addrs=["/ip4/127.0.0.1/tcp/0"])
    address = f"{relay.addresses[0]}/p2p-circuit/webrtc/p2p/{js.id}"
    until("the browser has its reservation", lambda: address in js.call("addresses"))
    node.connect(address, timeout=DEADLINE_S)
    until("the connection is a direct one", lambda: js.is_direct_to(node.peer_id))
    exchange(node, js, 100_000)


@contextlib.contextmanager
def listening(*command):
    """A program that prints addresses until it is ended; a function that answers the first one with a part."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "bindings" / "python")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as program:
        watchdog = threading.Timer(2 * DEADLINE_S, program.kill)
        watchdog.start()
        try:
            yield lambda part: next(line.strip() for line in program.stdout if part in line)
        finally:
            watchdog.cancel()
            program.kill()


def say(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)


def python(*arguments):
    return [sys.executable, "-u", str(EXAMPLE), "--ip", "127.0.0.1", *arguments]


def javascript(*arguments):
    return ["node", str(FOLDER / "reach.mjs"), *arguments]


@pytest.mark.parametrize("way", ["/webrtc-direct/", "/p2p-circuit/webrtc/"])
def test_the_commands_of_docs_reach_say_something_to_a_node(start, way):
    at = ["/ip4/127.0.0.1/udp/0/webrtc-direct"]  # a browser reaches no other kind of relay but one with secure WebSocket
    relay = start(listen_addrs=at, network={"force_public": True}, relay={"enable_service": True})
    options = ["--relay", relay.addresses[0]] if "circuit" in way else []
    with listening(*python("listen", *options)) as address_with:
        done = say(*javascript("say", address_with(way), "hello", "node"))
    assert done.stdout.startswith("hello node came back by ") and way in done.stdout, done.stderr


def test_the_commands_of_docs_reach_say_something_to_a_browser(start, relay):
    with listening(*javascript("listen", relay.addresses[0])) as address_with:
        done = say(*python("say", address_with("/p2p-circuit/webrtc/p2p/"), "hello", "browser"))
    assert done.stdout.startswith("hello browser came back by "), done.stderr
