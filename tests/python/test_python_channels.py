"""Channel and BlockingChannel: ids, many messages per call, delivery states."""

import asyncio
import concurrent.futures

import pytest
from support import LOCAL

import peerbus

SMALL = {"limits": {"channel_messages": 4}}


async def connected(one, other):
    await one.connect(other.addresses)
    return one.channel(other.peer_id, "orders")


def test_a_message_is_accepted_and_then_taken():
    async def run():
        async with peerbus.Node(**LOCAL) as alice, peerbus.Node(**LOCAL) as bob:
            channel = await connected(alice, bob)
            message = await channel.send(b"one")
            assert message.id == 1
            await message.accepted(20)
            taken = asyncio.ensure_future(message.taken(20))
            received = await bob.receive(channel.name, timeout=20)
            assert bytes(received.data) == b"one" and received.protocol == "/peerbus/channel/1.0.0"
            await taken
            info = channel.info()
            assert (info["last"], info["taken"]) == (1, 1) and "once" in info["guarantees"]

    asyncio.run(run())


def test_many_messages_get_consecutive_ids_and_arrive_in_order():
    async def run():
        async with peerbus.Node(**LOCAL) as alice, peerbus.Node(**LOCAL) as bob:
            channel = await connected(alice, bob)
            payloads = [b"%d" % i for i in range(10_000)] + [bytes(100_000), bytearray(b"last")]
            sent = await channel.send_many(payloads)
            assert [m.id for m in sent] == list(range(1, len(payloads) + 1))
            got = []
            while len(got) < len(payloads):
                got += [bytes(m.data) for m in await bob.receive_batch(channel.name, timeout=20)]
            assert got == [bytes(p) for p in payloads]
            await asyncio.gather(*(m.taken(20) for m in sent[-500:]))

    asyncio.run(run())


def test_a_full_receiver_holds_the_sender_and_accepts_in_turn():
    async def run():
        async with peerbus.Node(**LOCAL) as alice, peerbus.Node(**LOCAL, **SMALL) as bob:
            channel = await connected(alice, bob)
            sent = await channel.send_many([b"%d" % i for i in range(6)])
            await sent[3].accepted(20)
            with pytest.raises(peerbus.TimeoutError):
                await sent[5].accepted(0.2)
            for i in range(6):
                assert bytes((await bob.receive(channel.name, timeout=20)).data) == b"%d" % i
            await sent[5].taken(20)

    asyncio.run(run())


def test_threads_that_send_on_one_handle_get_the_ids_of_their_own_messages():
    with peerbus.Node(**LOCAL) as alice, peerbus.Node(**LOCAL) as bob:
        alice.connect(bob.addresses)
        channel = alice.channel(bob.peer_id)
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            sent = dict(threads.map(lambda i: (channel.send(b"%d" % i).id, b"%d" % i), range(4000)))
        assert sorted(sent) == list(range(1, 4001))
        received = {}
        while len(received) < len(sent):
            received.update((message.id, bytes(message)) for message in bob.receive_batch(timeout=20))
        assert received == sent


def test_what_the_peer_drops_is_lost():
    with peerbus.Node(**LOCAL) as alice, peerbus.Node(**LOCAL, **SMALL) as bob:
        alice.connect(bob.addresses)
        channel = alice.channel(bob.peer_id)
        bob.set_policy(channel.name, "drop_newest")
        sent = channel.send_many([b"x"] * 6)
        sent[3].accepted(20)
        with pytest.raises(peerbus.LostError, match="peer_queue_full"):
            sent[5].accepted(20)


def test_what_the_program_has_not_asked_for_is_not_taken():
    with peerbus.Node(**LOCAL) as alice, peerbus.Node(**LOCAL) as bob:
        alice.connect(bob.addresses)
        sent = alice.channel(bob.peer_id).send_many([b"x"] * 100)
        sent[99].accepted(20)
        bob.receive(timeout=20)
        sent[0].taken(20)
        with pytest.raises(peerbus.TimeoutError):
            sent[1].taken(0.2)
        for _ in range(99):
            bob.receive(timeout=20)
        sent[99].taken(20)


def test_blocking_waits_and_their_errors():
    with peerbus.Node(**LOCAL) as alice, peerbus.Node(**LOCAL) as bob:
        alice.connect(bob.addresses)
        channel = alice.channel(alice.direct_channel(bob.peer_id, "x"))
        message = channel.send(b"hello")
        message.queued(0)
        message.accepted(20)
        with pytest.raises(peerbus.TimeoutError):
            message.taken(0.05)
        bob.receive(timeout=20)
        message.taken(20)
        channel.close()
        channel.close()
        with pytest.raises(peerbus.ClosedError):
            channel.send(b"again")
        with pytest.raises(peerbus.InvalidArgumentError):
            alice.channel("no peer")


def test_a_chat_channel_confirms_nothing():
    with peerbus.Node(**LOCAL) as alice, peerbus.Node(**LOCAL, channel={"acknowledged": False}) as bob:
        alice.connect(bob.addresses)
        channel = alice.channel(bob.peer_id)
        message = channel.send(b"hello")
        message.sent(20)
        with pytest.raises(peerbus.UnsupportedError):
            message.accepted(20)
        assert channel.info()["guarantees"] == ["ordered"]


def test_closing_the_node_ends_a_wait():
    async def run():
        async with peerbus.Node(**LOCAL) as bob:
            async with peerbus.Node(**LOCAL) as alice:
                channel = await connected(alice, bob)
                message = await channel.send(b"one")
                await message.sent(20)
                waiting = asyncio.ensure_future(message.taken())
                await message.accepted(20)
            with pytest.raises((peerbus.ClosedError, peerbus.LostError)):
                await waiting

    asyncio.run(run())
