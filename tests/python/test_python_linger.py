"""An asyncio task that expects an answer looks for it, in turn with the other tasks."""

import asyncio
import contextlib
import gc
import os

import pytest
from support import LOCAL, run

import peerbus
from peerbus._waiting import LoopWatch


class Looks:
    """Stands for peerbus_look. ``found`` is what it answers; ``on_look`` is called each time."""

    def __init__(self):
        self.found = 0
        self.on_look = lambda: None
        self.asked = []  # the arguments

    def __call__(self, again):
        self.asked.append(again)
        self.on_look()
        return self.found


@pytest.fixture
def looks():
    return Looks()


@contextlib.contextmanager
def watching(looks):
    reader, writer = os.pipe()
    watch = LoopWatch(asyncio.get_running_loop(), reader, looks)
    try:
        yield watch
    finally:
        watch._finish()
        os.close(reader)
        os.close(writer)


def never():
    return False


def test_other_tasks_run_between_two_looks(looks):
    turns = []

    async def other():
        while True:
            turns.append(len(looks.asked))
            await asyncio.sleep(0)

    async def main():
        with watching(looks) as watch:
            looks.on_look = lambda: setattr(looks, "found", len(looks.asked) == 3)
            task = asyncio.create_task(other())
            found = await watch.linger(never, None)
            task.cancel()
            return found

    if run(main()):  # else the machine was too busy for three looks
        assert {1, 2} <= set(turns)


def test_a_wait_that_found_nothing_tells_it_and_expects_nothing(looks):
    async def main():
        with watching(looks) as watch:
            watch.expects = True
            assert not await watch.linger(never, None)
            assert not watch.expects

    run(main())
    assert looks.asked[-1] == 0 and set(looks.asked[:-1]) == {1}


def test_a_found_message_ends_the_looking(looks):
    looks.found = 1

    async def main():
        with watching(looks) as watch:
            assert await watch.linger(never, None)

    run(main())
    assert looks.asked == [1]


def test_a_cancelled_task_says_that_it_looks_no_more(looks):
    async def main():
        with watching(looks) as watch:
            task = asyncio.create_task(watch.linger(never, None))
            looks.on_look = lambda: looks.asked[-1] and task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())
    assert looks.asked == [1, 0]


def test_a_task_whose_loop_is_gone_says_that_it_looks_no_more(looks):
    loop = asyncio.new_event_loop()

    async def main():
        with watching(looks) as watch:
            lingering = watch.linger(never, None)
            lingering.send(None)  # it waits for the next turn of a loop that makes none
            return lingering

    lingering = loop.run_until_complete(main())
    loop.close()
    del lingering
    gc.collect()
    assert looks.asked == [1, 0]


def test_nobody_looks_after_a_deadline(looks):
    async def main():
        with watching(looks) as watch:
            assert not await watch.linger(never, 0.0)

    run(main())
    assert looks.asked == [1, 0]


@pytest.mark.usefixtures("environment")
def test_tasks_that_expect_answers_of_each_other_get_each_message_once():
    rounds, waiters = 100, 3

    async def main():
        async with peerbus.Node(**LOCAL) as alice, peerbus.Node(**LOCAL) as bob:
            await alice.connect(bob.addresses)
            got = []

            async def take():
                for _ in range(rounds):
                    got.append(int(bytes(await bob.receive())))
                    await bob.send(alice.peer_id, b"next")

            async def give():
                for number in range(rounds * waiters):
                    await alice.send(bob.peer_id, b"%d" % number)
                    assert bytes(await alice.receive()) == b"next"

            await asyncio.gather(give(), *(take() for _ in range(waiters)))
            assert got == list(range(rounds * waiters))

    run(main())


@pytest.mark.usefixtures("environment")
def test_a_message_comes_when_the_one_who_looked_is_busy_otherwise():
    with peerbus.BlockingNode(**LOCAL) as alice, peerbus.BlockingNode(**LOCAL) as bob:
        alice.connect(bob.addresses)
        inbox = bob._core.live.inbox
        for number in range(50):
            alice.send(bob.peer_id, b"%d" % number)
            assert bytes(bob.receive(timeout=20)) == b"%d" % number
        assert inbox._look(1) == 0  # and it never looks again
        alice.send(bob.peer_id, b"last")
        entry = bob._core.live.native.c.peerbus_wait(bob._core.live.instance, None, 20000)
        assert entry == 1
        assert bytes(bob.receive(timeout=0)) == b"last"
