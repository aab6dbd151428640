"""Waiting costs nothing, also right after messages that were waited for shortly."""

import asyncio
import time

import pytest

import peerbus

WAIT_S = 1.0
MOST_CPU_S = 0.25  # an idle wait takes under a millisecond; a receiver that looks all the time takes all of it


def test_a_wait_after_a_quick_exchange_does_not_use_the_processor(nodes):
    a, b = nodes
    for number in range(200):
        a.send(b.peer_id, b"%d" % number)
        assert bytes(b.receive(timeout=20)) == b"%d" % number
    before = time.process_time()
    with pytest.raises(peerbus.TimeoutError):
        b.receive(timeout=WAIT_S)
    assert time.process_time() - before < MOST_CPU_S


def test_a_wait_for_an_answer_that_does_not_come_does_not_use_the_processor(nodes):
    a, b = nodes
    for number in range(200):
        a.send(b.peer_id, b"%d" % number)
        assert bytes(b.receive(timeout=20)) == b"%d" % number
        b.send(a.peer_id, b"%d" % number)
        assert bytes(a.receive(timeout=20)) == b"%d" % number
    a.send(b.peer_id, b"the last question")
    before = time.process_time()
    with pytest.raises(peerbus.TimeoutError):
        a.receive(timeout=WAIT_S)
    assert time.process_time() - before < MOST_CPU_S


def test_a_wait_in_asyncio_after_a_quick_exchange_does_not_use_the_processor(nodes):
    a, b = nodes

    async def exchange():
        receiver = b.asynchronous
        for number in range(200):
            waiting = asyncio.create_task(receiver.receive(timeout=20))
            await asyncio.sleep(0)
            await a.asynchronous.send(b.peer_id, b"%d" % number)
            assert bytes(await waiting) == b"%d" % number
        before = time.process_time()
        with pytest.raises(peerbus.TimeoutError):
            await receiver.receive(timeout=WAIT_S)
        return time.process_time() - before

    assert asyncio.run(exchange()) < MOST_CPU_S


def test_a_lone_message_is_the_same_as_one_of_a_batch(nodes):
    a, b = nodes
    for size in (1, 100, 4096, 4097, 100_000):
        a.send(b.peer_id, bytes([size % 251]) * size)
        message = b.receive(timeout=20)
        assert message.data.readonly and message.data.contiguous and message.data.format == "B"
        assert (message.sender, len(message), bytes(message)) == (a.peer_id, size, bytes([size % 251]) * size)
