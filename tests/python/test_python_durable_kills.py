"""Durable channels under kill -9 of either side: the application's own ledger on disk has every message exactly once."""

import contextlib
import os
import random
import select
import signal

import pytest
from support import DEADLINE_S, finish, start_python

pytestmark = pytest.mark.usefixtures("environment")

KILLS = 8

SENDER = """
import json, pathlib, sys, threading
from support import LOCAL
import peerbus

TCP = ["/ip4/127.0.0.1/tcp/0"]  # QUIC takes 30 s to notice that a process is gone

directory, peer_id, place, enough = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])
over = threading.Event()

def keep_connected(node):
    while not over.wait(0.1):
        try:
            node.connect(json.loads(place.read_text()), timeout=5)  # at once when it is connected
        except (peerbus.PeerbusError, ValueError, FileNotFoundError):
            pass  # the receiver is away

lost = []

def note(event):
    if event["type"] == "messages_lost" or event.get("state") == "lost":
        lost.append(event)

with peerbus.Node(identity_dir=str(directory), channel={"durable": True}, listen_addrs=TCP, **LOCAL) as node:
    node.on_event(note)
    channel = node.channel(peer_id, "orders")
    try:
        last = channel.info()["last"]
    except peerbus.NotFoundError:
        last = 0
    connecting = threading.Thread(target=keep_connected, args=(node,), daemon=True)
    connecting.start()
    while not enough.exists():
        last = channel.send_many([b"%d" % n for n in range(last + 1, last + 10)])[-1].id
    channel.send(b"end")
    while channel.info()["taken"] <= last:
        over.wait(0.02)
    over.set()
    connecting.join()
print("lost", lost)
"""

# The program's own ledger comes before the confirmation, so that a crash in between shows as a redelivered message.
RECEIVER = """
import json, os, pathlib, sys
from support import LOCAL
import peerbus

TCP = ["/ip4/127.0.0.1/tcp/0"]  # QUIC takes 30 s to notice that a process is gone

directory, place = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])

def opened(name):
    path = directory / name
    path.touch()
    return set(path.read_text().split()), os.open(path, os.O_WRONLY | os.O_APPEND)

ledger, ledger_file = opened("ledger")
confirmed, confirmed_file = opened("confirmed")
with peerbus.Node(identity_dir=str(directory / "identity"), channel={"durable": True}, listen_addrs=TCP, **LOCAL) as node:
    place.with_suffix(".new").write_text(json.dumps(node.addresses))
    place.with_suffix(".new").replace(place)
    (directory / "peer_id").write_text(node.peer_id)
    print("started", flush=True)
    ended = False
    while not ended:
        batch = node.receive_batch(max_messages=11)
        for message in batch:
            entry = bytes(message).decode()
            assert message.durable and entry not in confirmed, f"{entry} came after its confirmation"
            assert message.redelivered or entry not in ledger, f"{entry} came twice, and is not marked"
            if entry not in ledger:
                os.write(ledger_file, b"%s\\n" % entry.encode())
                ledger.add(entry)
            ended = ended or entry == "end"
        node.confirm(batch)
        os.write(confirmed_file, b"".join(bytes(message) + b"\\n" for message in batch))
        confirmed.update(bytes(message).decode() for message in batch)
        print(len(ledger), flush=True)
"""


class Side:
    """One of the two programs, killed and started again."""

    def __init__(self, name, program, *arguments):
        self.name = name
        self._start = lambda: start_python(program, *map(str, arguments))
        self.process = self._start()

    def lines(self, count):
        """Waits until it has printed so many more lines, or ended."""
        out = self.process.stdout.fileno()
        while count > 0:
            assert select.select([out], [], [], DEADLINE_S)[0], f"the {self.name} does nothing"
            printed = os.read(out, 1)  # a line is not buffered here: select would not know of it
            if not printed:
                return
            count -= printed == b"\n"

    def kill(self):
        """At once, and for good unless it is revived; fine when it has ended."""
        with self.process:
            self.process.send_signal(signal.SIGKILL)
            if not self.process.stdout.closed:
                self.process.communicate()

    def revive(self):
        self.process = self._start()


@pytest.mark.parametrize("victims", ["receiver", "sender", "both"])
def test_every_message_is_in_the_ledger_once_whoever_is_killed(tmp_path, victims):
    with contextlib.ExitStack() as sides:
        kill_and_finish(tmp_path, victims, sides)


def kill_and_finish(tmp_path, victims, sides):
    chance = random.Random(victims)
    place, enough = tmp_path / "addresses.json", tmp_path / "enough"
    (tmp_path / "receiver").mkdir()
    receiver = Side("receiver", RECEIVER, tmp_path / "receiver", place)
    sides.callback(receiver.kill)
    receiver.lines(1)
    peer_id = (tmp_path / "receiver" / "peer_id").read_text()
    sender = Side("sender", SENDER, tmp_path / "sender", peer_id, place, enough)
    sides.callback(sender.kill)
    for _ in range(KILLS):
        receiver.lines(chance.randrange(2, 20))
        if victims != "receiver":
            sender.kill()
        if victims != "sender":
            receiver.kill()
            receiver.revive()
        if victims != "receiver":
            sender.revive()
    enough.touch()
    finish(receiver.process)
    assert finish(sender.process) == "lost []\n"
    *numbers, last = (tmp_path / "receiver" / "ledger").read_text().split()
    assert last == "end" and numbers == [str(n) for n in range(1, len(numbers) + 1)]
