"""Senders that wait for room are served in order, and no event between a failed try and the wait is missed."""

import threading

import pytest
from support import DEADLINE_S

import peerbus
from peerbus import _waiting
from peerbus._outbox import Outbox


class Room:
    """A queue that says no until somebody makes room."""

    def __init__(self):
        self.free = 0
        self.taken = []
        self.tried = threading.Semaphore(0)

    def attempt(self, name):
        def attempt():
            taken = self.free > 0
            if taken:
                self.free -= 1
                self.taken.append(name)
            self.tried.release()
            return taken

        return attempt


def send(outbox, attempt, timeout=DEADLINE_S):
    deadline = _waiting.deadline_after(timeout)
    _waiting.run_blocking(lambda waiter: outbox.send(waiter, "channel", attempt, deadline))


def test_room_that_comes_between_the_try_and_the_wait_is_noticed():
    outbox, room = Outbox(), Room()

    def attempt():
        if room.attempt("only")():
            return True
        room.free = 1
        outbox.writable("channel")
        return False

    send(outbox, attempt)
    assert room.taken == ["only"]
    assert not outbox.blocked("channel")


def test_a_sender_without_room_raises_at_its_deadline():
    outbox = Outbox()
    with pytest.raises(peerbus.WouldBlockError):
        send(outbox, lambda: False, timeout=0.01)
    assert not outbox.blocked("channel")


def test_senders_are_served_in_the_order_they_came():
    outbox, room = Outbox(), Room()
    first = threading.Thread(target=send, args=(outbox, room.attempt("first")))
    first.start()
    assert room.tried.acquire(timeout=DEADLINE_S)
    others = []
    for name in ("second", "third"):
        joined = len(outbox.lines["channel"])
        others.append(threading.Thread(target=send, args=(outbox, room.attempt(name))))
        others[-1].start()
        while len(outbox.lines["channel"]) == joined:
            others[-1].join(0.001)
    room.free = 3
    outbox.writable("channel")
    for thread in [first, *others]:
        thread.join(DEADLINE_S)
    assert room.taken == ["first", "second", "third"]


def test_a_failing_try_leaves_no_line_behind():
    outbox = Outbox()

    def attempt():
        raise peerbus.ClosedError("gone")

    with pytest.raises(peerbus.ClosedError):
        send(outbox, attempt)
    assert not outbox.blocked("channel")
