"""Relays: reservations from Python, and the command ``python -m peerbus relay`` in a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from harness import free_ports
from support import DEADLINE_S, ENVIRONMENT, LOCAL, PACKAGE, PROGRAM_S, run

import peerbus
from peerbus import _command_relay

PUBLIC_RELAY = {**LOCAL, "relay": {"enable_service": True}, "network": {"force_public": True}}


def circuits(node):
    return [address for address in node.addresses if "/p2p-circuit/" in address]


@contextlib.contextmanager
def relay_process(directory, *options, killed=False, **variables):
    """A relay command on loopback; yields what it said when it was ready. At the end it is stopped, or killed."""
    command = [sys.executable, "-W", "error", "-m", "peerbus", "relay", "--json", "--identity-dir", str(directory),
               "--ip", "127.0.0.1", *options]
    environment = {**os.environ, **ENVIRONMENT, **variables}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stdout.readline()
        assert line, process.communicate(timeout=PROGRAM_S)
        yield json.loads(line)
        if killed:
            return
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PROGRAM_S)
        assert (process.returncode, err) == (0, "")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def scrape(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def test_a_reservation_makes_a_node_reachable_through_the_relay():
    async def main():
        async with peerbus.Node(**PUBLIC_RELAY) as relay, peerbus.Node(**LOCAL) as hidden, peerbus.Node(**LOCAL) as other:
            with hidden.events("relay_reserved") as events:
                await hidden.connect(relay.addresses)
                expires = await hidden.reserve_on_relay(relay.peer_id)
                event = await events.wait_for("relay_reserved", timeout=10)
            assert event["relay"] == relay.peer_id and event["expires"] == expires and event["renewed"] is False
            (address,) = circuits(hidden)[:1]
            reached = await other.connect(address)
            assert reached["Addrs"][0].endswith("/p2p-circuit")
            await other.send(hidden.peer_id, b"through the relay")
            assert bytes(await hidden.receive(timeout=10)) == b"through the relay"
            assert relay.statistics()["relay"]["circuits_opened"] == 1

    run(main())


def test_blocking_faces_reserve_and_switch_relays(tmp_path):
    peerbus.P2P.setup_library()
    with peerbus.Node(**PUBLIC_RELAY) as first, peerbus.Node(**PUBLIC_RELAY) as second:
        keys = {"ips": ["127.0.0.1"], "dht_enabled": False, "webrtc_enabled": False, "nat": LOCAL["nat"]}
        with peerbus.P2P(tmp_path, static_relays=first.addresses[:1], **keys) as node:
            with node.node.events("addresses_changed") as events:
                while not circuits(node):
                    events.wait_for_blocking("addresses_changed", timeout=10)
            assert node.start_static_relay(second.addresses).endswith("Z")
            assert all(second.peer_id in address for address in circuits(node))
            node.connect_to(first.addresses)
            assert node.reserve_on_relay(first.peer_id).endswith("Z")
            assert any(first.peer_id in address for address in circuits(node))


def test_failures_of_a_reservation_are_told_apart():
    with peerbus.Node(**LOCAL) as node, peerbus.Node(**LOCAL) as plain:
        with pytest.raises(peerbus.NotConnectedError):
            node.reserve_on_relay(plain.peer_id)
        node.connect(plain.addresses)
        with pytest.raises(peerbus.RefusedError, match="is no relay"):
            node.reserve_on_relay(plain.peer_id)
        for wrong in ([], [1], {"ID": plain.peer_id}, "/ip4/127.0.0.1/tcp/1"):
            with pytest.raises(ValueError):
                node.start_static_relay(wrong)


def test_the_relay_command_serves_those_with_the_token_keeps_its_identity_and_counts(tmp_path):
    port = "--port=0"
    with relay_process(tmp_path, port, "--metrics", "127.0.0.1:0", PEERBUS_RELAY_TOKEN="secret") as relay:
        with peerbus.Node(**LOCAL, relay={"token": "secret"}) as friend, peerbus.Node(**LOCAL) as stranger:
            friend.connect(relay["addresses"])
            friend.reserve_on_relay(relay["peer_id"])
            stranger.connect(relay["addresses"])
            with pytest.raises(peerbus.RefusedError, match=r"relay\.token"):
                stranger.reserve_on_relay(relay["peer_id"])
        # The relay counts a refusal a moment after the peer has heard of it.
        deadline = time.monotonic() + 10
        refused = 'peerbus_relay_refused_total{request="reserve.PERMISSION_DENIED"} 1\n'
        while refused not in (metrics := scrape(relay["metrics"])):
            assert time.monotonic() < deadline, metrics
            time.sleep(0.02)
    assert "peerbus_relay_reservations_granted_total 1\n" in metrics
    with relay_process(tmp_path, port) as again:
        assert again["peer_id"] == relay["peer_id"]


def test_the_relay_command_serves_those_on_its_list(tmp_path):
    with contextlib.ExitStack() as stack:
        friend, stranger = (stack.enter_context(peerbus.Node(**LOCAL)) for _ in range(2))
        relay = stack.enter_context(relay_process(tmp_path, "--port=0", "--allow", friend.peer_id))
        for node in (friend, stranger):
            node.connect(relay["addresses"])
        assert friend.reserve_on_relay(relay["peer_id"]).endswith("Z")
        with pytest.raises(peerbus.RefusedError):
            stranger.reserve_on_relay(relay["peer_id"])


def test_another_of_the_configured_relays_stands_in_when_one_is_killed(tmp_path):
    with contextlib.ExitStack() as stack:
        survivor = stack.enter_context(relay_process(tmp_path / "survivor", "--port=0"))
        with relay_process(tmp_path / "killed", "--port=0", killed=True) as killed:
            # By TCP, whose end is noticed at once.
            relays = [next(address for address in relay["addresses"] if over_tcp(address)) for relay in (killed, survivor)]
            node = stack.enter_context(peerbus.Node(**LOCAL, relay={"static_relays": relays}))
            events = stack.enter_context(node.events("relay_reserved", "relay_lost"))
            while not any(relay["reserved"] for relay in node.diagnose()["relays"]):
                events.wait_for_blocking("relay_reserved", timeout=DEADLINE_S)
            assert [relay["relay"] for relay in node.diagnose()["relays"] if relay["reserved"]] == [killed["peer_id"]]
        events.wait_for_blocking("relay_lost", timeout=DEADLINE_S, relay=killed["peer_id"])
        events.wait_for_blocking("relay_reserved", timeout=DEADLINE_S, relay=survivor["peer_id"])
        assert all(survivor["peer_id"] in address for address in circuits(node)) and circuits(node)


@pytest.mark.parametrize("broad", [False, True])
def test_a_connection_through_a_relay_with_limits_carries_messages_and_refuses_topics(tmp_path, broad):
    options = ["--port=0", *(["--broad-limits"] if broad else [])]
    with relay_process(tmp_path, *options) as relay, peerbus.Node(**LOCAL) as hidden, peerbus.Node(**LOCAL) as other:
        hidden.connect(relay["addresses"])
        hidden.reserve_on_relay(relay["peer_id"])
        (told,) = hidden.diagnose()["relays"]
        assert (told["limit_bytes"], told["limit_ms"]) == ((0, 0) if broad else (128 << 10, 120_000))
        topic = f"{other.peer_id}::ps:news"
        hidden.subscribe(topic)
        other.connect(circuits(hidden)[0])
        other.send(hidden.peer_id, b"carried")
        assert bytes(hidden.receive(timeout=DEADLINE_S)) == b"carried"
        if broad:
            assert other.wait_for_topic_peers(topic, 1, timeout=DEADLINE_S) == 1
            assert other.publish(topic, b"news") == 1
            assert bytes(hidden.receive(timeout=DEADLINE_S)) == b"news"
        else:
            with pytest.raises(peerbus.RefusedError, match="carries no topics"):
                other.publish(topic, b"news")


def test_a_short_reservation_is_renewed(tmp_path):
    with relay_process(tmp_path, "--port=0", "--reservation=3") as relay, peerbus.Node(**LOCAL) as node:
        with node.events("relay_reserved") as events:
            node.connect(relay["addresses"])
            first = node.reserve_on_relay(relay["peer_id"])
            renewed = events.wait_for_blocking("relay_reserved", timeout=20, renewed=True)
        assert renewed["expires"] > first
        assert circuits(node)


def test_wrong_options_of_the_relay_command_are_usage_errors(tmp_path):
    for wrong in (["--metrics", "nowhere"], ["--allow", "nobody"], ["--announce", "here"]):
        options = ["--identity-dir", str(tmp_path), "--port=0", "--ip=127.0.0.1", *wrong]
        command = [sys.executable, "-m", "peerbus", "relay", *options]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}, timeout=PROGRAM_S)
        assert done.returncode == 2, done
        assert done.stderr.startswith("peerbus: "), done


def test_the_exposition_is_valid_for_a_relay_that_has_done_nothing():
    lines = _command_relay.exposition({}).splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert "peerbus_relay_active 0" in samples
    assert all(len(sample.rsplit(" ", 1)) == 2 and sample.rsplit(" ", 1)[1].isdigit() for sample in samples)


def over_tcp(address):
    return "/tcp/" in address and "/ws" not in address


def test_chat_goes_on_after_the_relay_was_killed_and_started_again(tmp_path):
    port = f"--port={free_ports(4)}"
    with contextlib.ExitStack() as stack:
        hidden, other = (stack.enter_context(peerbus.Node(**LOCAL)) for _ in range(2))
        events = stack.enter_context(hidden.events("relay_reserved", "relay_lost"))
        with relay_process(tmp_path, port, killed=True) as relay:
            # By TCP, whose end is noticed at once. QUIC takes 30 s to miss a relay that was killed.
            hidden.start_static_relay([address for address in relay["addresses"] if over_tcp(address)])
            way = next(address for address in circuits(hidden) if over_tcp(address))
            other.connect(way)
            other.send(hidden.peer_id, b"before")
            assert bytes(hidden.receive(timeout=20)) == b"before"
        events.wait_for_blocking("relay_lost", timeout=20)
        assert circuits(hidden) == []
        with relay_process(tmp_path, port):
            events.wait_for_blocking("relay_reserved", timeout=30)
            other.connect(way)
            other.send(hidden.peer_id, b"after")
            assert bytes(hidden.receive(timeout=20)) == b"after"


EXAMPLE = [sys.executable, "-W", "error", str(PACKAGE / "examples" / "reach.py"), "--ip", "127.0.0.1"]
EXAMPLE_ENVIRONMENT = {**os.environ, **ENVIRONMENT, "PEERBUS_TOKEN": "secret"}


def say_to_a_listener(part, *options):
    """The two commands of docs/reach.md: what the second one prints, when it dials the listener's address with that part."""
    with subprocess.Popen(
        [*EXAMPLE, "listen", *options], stdout=subprocess.PIPE, text=True, env=EXAMPLE_ENVIRONMENT
    ) as listener:
        try:
            address = next(line.strip() for line in listener.stdout if part in line)
            say = [*EXAMPLE, "say", address, "hello", "there"]
            said = subprocess.run(say, capture_output=True, text=True, env=EXAMPLE_ENVIRONMENT, timeout=PROGRAM_S)
        finally:
            listener.kill()
    assert (said.returncode, said.stderr) == (0, "")
    return said.stdout


def test_the_example_of_the_manual_reaches_a_node_on_the_same_lan():
    assert "by /ip4/127.0.0.1/udp/" in say_to_a_listener("/quic-v1/p2p/")


def test_the_example_of_the_manual_reaches_a_node_through_a_relay(tmp_path):
    with relay_process(tmp_path, "--port=0", "--metrics", "127.0.0.1:0", PEERBUS_RELAY_TOKEN="secret") as relay:
        said = say_to_a_listener("/p2p-circuit/", "--relay", relay["addresses"][0])
    # Only the relay's address was known; a punched connection may have taken its place by the time of the answer.
    assert said.startswith("hello there came back by /ip4/127.0.0.1/")
