"""The inbox hands messages over once, in order, to whoever asks."""

import pytest
from fake_library import FakeLibrary

from peerbus import _inbox, _waiting
from peerbus._inbox import Inbox

LEFT, RIGHT = b"left", b"right"


@pytest.fixture
def library():
    library = FakeLibrary()
    yield library
    library.close()


@pytest.fixture
def inbox(library):
    inbox = Inbox(library, 0)
    yield inbox
    inbox.close()


def contents(messages):
    return [bytes(message) for message in messages]


def test_the_rest_of_a_prefetched_batch_waits_for_the_next_call(library, inbox):
    library.waiting = [[(LEFT, b"1"), (LEFT, b"2"), (LEFT, b"3")]]
    assert bytes(inbox.take_one(None)) == b"1"
    assert inbox.waiting() == 2
    assert contents(inbox.take(None, 10, 0)) == [b"2", b"3"]
    assert len(library.asked) == 1


def test_a_batch_asks_the_library_for_no_more_than_it_returns(library, inbox):
    inbox.take(None, 7, 0)
    assert library.asked == [(None, 7)]


def test_messages_of_other_channels_are_passed_by_and_keep_their_order(library, inbox):
    library.waiting = [[(LEFT, b"l1"), (RIGHT, b"r1"), (LEFT, b"l2"), (RIGHT, b"r2")]]
    assert bytes(inbox.take_one(None)) == b"l1"
    assert contents(inbox.take("right", 1, 0)) == [b"r1"]
    assert contents(inbox.take(None, 10, 0)) == [b"l2", b"r2"]


def test_a_batch_stops_at_its_bytes_but_takes_at_least_one(library, inbox):
    library.waiting = [[(LEFT, b"0"), (LEFT, b"333"), (LEFT, b"55555"), (LEFT, b"1")]]
    inbox.take_one(None)
    assert contents(inbox.take(None, 10, 2)) == [b"333"]
    assert contents(inbox.take(None, 10, 5)) == [b"55555"]
    assert contents(inbox.take(None, 10, 0)) == [b"1"]


def test_popping_takes_the_oldest_of_each_channel(library, inbox):
    library.waiting = [[(LEFT, b"0"), (LEFT, b"l1"), (LEFT, b"l2"), (RIGHT, b"r1")]]
    inbox.take_one(None)
    assert contents(inbox.pop_pending()) == [b"l1", b"r1"]
    assert contents(inbox.pop_pending()) == [b"l2"]
    assert inbox.pop_pending() == []


def test_what_was_fetched_can_be_taken_after_the_end(library):
    inbox = Inbox(library, 0)
    library.waiting = [[(LEFT, b"1"), (LEFT, b"2")]]
    inbox.take_one(None)
    inbox.close()
    assert bytes(inbox.take_one(None)) == b"2"
    with pytest.raises(Exception, match="closed"):
        inbox.take_one(None)


def test_messages_left_by_one_receiver_wake_another(library, inbox):
    waiter = _waiting.ThreadWaiter()
    waiting = inbox.wait(waiter, None, 1, 0, True, None)
    assert next(waiting) is None
    library.waiting = [[(LEFT, b"1"), (LEFT, b"2")]]
    assert bytes(inbox.take_one(None)) == b"1"
    waiter.wait(0.0)
    assert waiter.woken
    with pytest.raises(StopIteration) as end:
        next(waiting)
    assert contents(end.value.value) == [b"2"]


def test_a_receiver_that_gives_up_hands_its_wake_on(library, inbox):
    first, second = _waiting.ThreadWaiter(), _waiting.ThreadWaiter()
    waits = [inbox.wait(waiter, None, 1, 0, True, None) for waiter in (first, second)]
    for wait in waits:
        next(wait)
    library.waiting = [[(LEFT, b"1"), (LEFT, b"2")]]
    inbox.take_one(None)
    assert first.woken and not second.woken
    waits[0].close()
    assert second.woken
    waits[1].close()


def test_a_program_that_takes_single_messages_is_given_few_ahead_until_it_is_fast(library, inbox, monkeypatch):
    """The library counts what was fetched as taken."""
    now = 0.0
    monkeypatch.setattr(_inbox.time, "monotonic", lambda: now)
    for fetched in (1, 2, 4, 8):  # it comes back at once
        library.waiting = [[(LEFT, b"x")] * fetched]
        for _ in range(fetched):
            inbox.take_one(None)
    now += 10 * _inbox.PREFETCH_S  # it took 8 messages in that time
    inbox.take_one(None)
    library.waiting = [[(LEFT, b"x")]]
    inbox.take_one(None)
    inbox.take_one(None)
    assert [most for _, most in library.asked] == [1, 2, 4, 8, 1, 1, 2]


def test_idle_time_makes_a_program_no_slower(library, inbox, monkeypatch):
    now = 0.0
    monkeypatch.setattr(_inbox.time, "monotonic", lambda: now)
    library.waiting = [[(LEFT, b"x")] * 50]
    for _ in range(50):
        inbox.take_one(None)
    assert inbox.take_one(None) is None  # it is back, and waits
    now += 100.0
    inbox.take_one(None)
    assert library.asked[-1] == (None, 100)
