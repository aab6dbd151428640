"""Durable channels: what kill -9 of the sender must not take along."""

import json
import random
import signal

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
with peerbus.Node(identity_dir=directory, channel={"durable": True}, **LOCAL) as node:
    channel = node.channel(peer_id, "orders")
    try:
        last = channel.info()["last"]
    except peerbus.NotFoundError:
        last = 0
    print("taken up", last, flush=True)
    node.connect(addresses)
    while last < count:
        payloads = [b"%d" % n for n in range(last + 1, min(last + 7, count) + 1)]
        last = channel.send_many(payloads)[-1].id
        print(last, flush=True)
    channel.send(b"end").accepted(30)
"""


def start_sender(directory, bob):
    return start_python(SENDER, str(directory), bob.peer_id, json.dumps(bob.addresses), str(MESSAGES))


def test_a_killed_sender_goes_on_where_it_ended(nodes, tmp_path):
    bob = nodes()
    chance = random.Random(4)
    kept = 0
    for _ in range(KILLS):
        sender = start_sender(tmp_path, bob)
        taken_up = int(sender.stdout.readline().split()[-1])
        assert taken_up >= kept, f"{kept} messages were taken, the next process knows {taken_up}"
        for _ in range(chance.randrange(1, 60)):
            kept = int(sender.stdout.readline() or kept)
        sender.send_signal(signal.SIGKILL)
        rest = sender.communicate()[0].split()
        kept = int(rest[-1]) if rest else kept
    assert kept < MESSAGES, "the senders were killed too late"
    sender = start_sender(tmp_path, bob)
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
