"""Durable channels: what kill -9 of the sender must not take along, and what the receiving program confirms."""

import asyncio
import json
import random
import signal
import subprocess

import pytest
from support import DEADLINE_S, LOCAL, finish, start_python

import peerbus

pytestmark = pytest.mark.usefixtures("environment")

MESSAGES = 3000
KILLS = 6

SENDER = """
import json, sys
from support import LOCAL
import peerbus
directory, peer_id, addresses, count = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
of_node, of_channel = [({"channel": {"durable": True}}, {}), ({}, {"durable": True})][sys.argv[5] == "option"]
with peerbus.Node(identity_dir=directory, **of_node, **LOCAL) as node:
    channel = node.channel(peer_id, "orders", **of_channel)
    try:
        last = channel.info()["last"]
    except peerbus.NotFoundError:
        last = 0
    print("taken up", last, flush=True)
    node.connect(addresses)
    while last < count and sys.stdin.readline():
        payloads = [b"%d" % n for n in range(last + 1, min(last + 7, count) + 1)]
        last = channel.send_many(payloads)[-1].id
        print(last, flush=True)
    channel.send(b"end").accepted(30)
"""


def start_sender(directory, bob, chosen_by, lists):
    """It sends so many lists of 7 messages, and the end when it has sent them all."""
    arguments = [str(directory), bob.peer_id, json.dumps(bob.addresses), str(MESSAGES), chosen_by]
    sender = start_python(SENDER, *arguments, stdin=subprocess.PIPE)
    sender.stdin.write("\n" * lists)
    sender.stdin.flush()
    return sender


@pytest.mark.parametrize("chosen_by", ["key", "option"])
def test_a_killed_sender_goes_on_where_it_ended(nodes, tmp_path, chosen_by):
    bob = nodes()
    chance = random.Random(4)
    kept = 0
    for _ in range(KILLS):
        heard = chance.randrange(1, 60)
        sender = start_sender(tmp_path, bob, chosen_by, heard + 1)
        taken_up = int(sender.stdout.readline().split()[-1])
        assert taken_up >= kept, f"{kept} messages were taken, the next process knows {taken_up}"
        for _ in range(heard):
            kept = int(sender.stdout.readline())
        sender.send_signal(signal.SIGKILL)
        rest = sender.communicate()[0].split()
        kept = int(rest[-1]) if rest else kept
    sender = start_sender(tmp_path, bob, chosen_by, MESSAGES)
    got = []
    while not got or got[-1] != b"end":
        batch = bob.receive_batch(timeout=DEADLINE_S)
        assert batch, f"nothing came after {len(got)} messages"
        got += [bytes(m) for m in batch]
    assert got == [b"%d" % n for n in range(1, MESSAGES + 1)] + [b"end"]
    finish(sender)


def test_a_damaged_store_refuses_the_node_and_is_kept(environment, tmp_path):
    with peerbus.Node(identity_dir=str(tmp_path), channel={"durable": True}, **LOCAL):
        pass
    file = tmp_path / "channels.db"
    file.chmod(0o600)
    file.write_bytes(b"x" * 5000)
    with pytest.raises(peerbus.StoreError, match="move the file away"):
        peerbus.Node(identity_dir=str(tmp_path), channel={"durable": True}, **LOCAL).sync.start()
    assert file.read_bytes() == b"x" * 5000


def durable(tmp_path, name):
    return peerbus.Node(identity_dir=str(tmp_path / name), channel={"durable": True}, **LOCAL)


def test_a_message_is_taken_when_the_program_confirmed_it(environment, tmp_path):
    async def run():
        async with durable(tmp_path, "alice") as alice, durable(tmp_path, "bob") as bob:
            await alice.connect(bob.addresses)
            channel = alice.channel(bob.peer_id, "orders")
            one, two, *rest = await channel.send_many([b"%d" % n for n in range(1, 21)])
            got = [await bob.receive(timeout=DEADLINE_S) for _ in range(20)]
            assert all(message.durable and not message.redelivered for message in got)
            with pytest.raises(peerbus.TimeoutError):
                await one.accepted(0.2)
            await bob.confirm(got[0])
            await one.taken(DEADLINE_S)
            got[1].confirm()
            await two.taken(DEADLINE_S)
            await bob.confirm(got)
            await rest[-1].taken(DEADLINE_S)
            assert "durable" in channel.info()["guarantees"]

    asyncio.run(run())


def test_unconfirmed_messages_come_again_to_the_next_process(environment, tmp_path):
    with durable(tmp_path, "alice") as alice:
        with durable(tmp_path, "bob") as bob:
            alice.connect(bob.addresses)
            channel = alice.channel(bob.peer_id, "orders")
            sent = channel.send_many([b"1", b"2", b"3"])
            got = [bob.receive(timeout=DEADLINE_S) for _ in range(3)]
            bob.confirm(got[1])
        with durable(tmp_path, "bob") as bob:
            alice.connect(bob.addresses)
            again = [bob.receive(timeout=DEADLINE_S) for _ in range(2)]
            assert [(bytes(m), m.id, m.redelivered) for m in again] == [(b"1", 1, True), (b"3", 3, True)]
            bob.confirm(again)
            sent[-1].taken(DEADLINE_S)


def test_messages_of_other_channels_need_no_confirmation(pair):
    alice, bob = pair
    sent = alice.channel(bob.peer_id, "orders").send(b"x")
    message = bob.receive(timeout=DEADLINE_S)
    message.confirm()
    bob.confirm([message])
    assert not message.durable and not message.redelivered
    sent.taken(DEADLINE_S)


CHOSEN = """
import sys
from support import LOCAL
import peerbus
with peerbus.Node(identity_dir=sys.argv[1], **LOCAL) as node:
    channel = node.channel(sys.argv[2], "orders", durable=True)
    channel.send_many([b"1", b"2", b"3"])
    print("kept", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_sender_kept_by_choice_is_sent_by_a_later_node_without_being_asked(nodes, tmp_path):
    bob = nodes(channel={"durable": True})
    sender = start_python(CHOSEN, str(tmp_path), bob.peer_id)
    assert sender.stdout.readline() == "kept\n"
    with sender:
        sender.send_signal(signal.SIGKILL)
    with peerbus.Node(identity_dir=str(tmp_path), **LOCAL) as node:
        node.connect(bob.addresses)
        got = [bob.receive(timeout=DEADLINE_S) for _ in range(3)]
        assert [(bytes(message), message.durable) for message in got] == [(b"1", True), (b"2", True), (b"3", True)]
        bob.confirm(got)
        channel = node.channel(bob.peer_id, "orders")
        assert channel.send(b"4").id == 4 and "kept" in channel.info()["guarantees"]
        with pytest.raises(peerbus.InvalidArgumentError, match="stays durable"):
            channel.configure(durable=False)


def test_a_channel_is_durable_by_choice_before_its_first_message_only(pair, tmp_path):
    alice, bob = pair
    chosen, plain = alice.channel(bob.peer_id, "chosen", durable=True), alice.channel(bob.peer_id, "plain")
    plain.send(b"x").accepted(DEADLINE_S)
    chosen.send(b"x").accepted(DEADLINE_S)
    assert "kept" in chosen.info()["guarantees"] and "kept" not in plain.info()["guarantees"]
    with pytest.raises(peerbus.InvalidArgumentError, match="before the first one"):
        plain.configure(durable=True)
    chosen.configure(durable=True)
    plain.configure(durable=False)
    with durable(tmp_path, "carol") as carol:
        carol.connect(bob.addresses)
        light = carol.channel(bob.peer_id, "light", durable=False)
        light.send(b"x").accepted(DEADLINE_S)
        assert "kept" not in light.info()["guarantees"]
