"""Nodes talk: the asyncio style."""

import asyncio
import socket
import threading

import pytest
from support import DEADLINE_S, LOCAL, run

import peerbus

pytestmark = pytest.mark.usefixtures("environment")


class Pair:
    """``async with Pair() as (alice, bob)``: two connected nodes."""

    async def __aenter__(self):
        self.alice = await peerbus.Node(**LOCAL).start()
        self.bob = await peerbus.Node(**LOCAL).start()
        with self.bob.events() as events:
            await self.alice.connect(self.bob.addresses)
            await events.wait_for("peer_connected", peer=self.alice.peer_id, timeout=DEADLINE_S)
        return self.alice, self.bob

    async def __aexit__(self, *error):
        await asyncio.gather(self.alice.close(), self.bob.close())


def test_messages_go_both_ways():
    async def main():
        async with Pair() as (alice, bob):
            await alice.send(bob.peer_id, b"ping")
            assert (await bob.receive()).data == b"ping"
            await bob.send(alice.peer_id, b"pong")
            assert (await alice.receive()).data == b"pong"

    run(main())


def test_async_for_yields_the_messages_in_order_until_the_node_closes():
    async def main():
        async with Pair() as (alice, bob):

            async def send():
                for number in range(3000):
                    await alice.send(bob.peer_id, b"%d" % number)

            received = []

            async def receive():
                async for message in bob.messages():
                    received.append(int(bytes(message)))
                    if len(received) == 3000:
                        await bob.close()

            await asyncio.gather(send(), receive())
            assert received == list(range(3000))

    run(main())


def test_leaving_async_for_early_loses_nothing():
    async def main():
        async with Pair() as (alice, bob):
            for number in range(10):
                await alice.send(bob.peer_id, b"%d" % number)
            received = []
            async for message in bob.messages():
                received.append(bytes(message))
                if len(received) == 3:
                    break
            while len(received) < 10:
                received.append(bytes(await bob.receive()))
            assert received == [b"%d" % number for number in range(10)]

    run(main())


def test_a_cancelled_receive_takes_nothing():
    async def main():
        async with Pair() as (alice, bob):
            waiting = asyncio.create_task(bob.receive())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await alice.send(bob.peer_id, b"hello")
            assert (await bob.receive()).data == b"hello"

    run(main())


def test_receives_that_are_cancelled_while_messages_come_lose_none():
    async def main():
        async with Pair() as (alice, bob):
            received = []

            async def receive():
                received.append(int(bytes(await bob.receive())))

            for number in range(200):
                tasks = [asyncio.create_task(receive()) for _ in range(3)]
                await alice.send(bob.peer_id, b"%d" % number)
                await asyncio.sleep(0)
                tasks[number % 3].cancel()
                await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            while len(received) < 200:
                await receive()
            assert sorted(received) == list(range(200))

    run(main())


def test_a_receive_ends_at_its_timeout():
    async def main():
        async with peerbus.Node(**LOCAL) as node:
            with pytest.raises(peerbus.TimeoutError):
                await node.receive(timeout=0.01)
            assert await node.receive_batch(timeout=0.01) == []

    run(main())


def test_many_tasks_share_a_node():
    async def main():
        async with Pair() as (alice, bob):
            waiting = [asyncio.create_task(bob.receive()) for _ in range(50)]
            await asyncio.sleep(0)
            await asyncio.gather(*(alice.send(bob.peer_id, b"%d" % number) for number in range(50)))
            received = await asyncio.gather(*waiting)
            assert sorted(int(bytes(message)) for message in received) == list(range(50))

    run(main())


def test_tasks_and_threads_wait_side_by_side():
    async def main():
        async with Pair() as (alice, bob):
            loop = asyncio.get_running_loop()
            blocking = [loop.run_in_executor(None, lambda: bob.sync.receive(timeout=DEADLINE_S)) for _ in range(3)]
            waiting = [asyncio.create_task(bob.receive(timeout=DEADLINE_S)) for _ in range(3)]
            for number in range(6):
                await alice.send(bob.peer_id, b"%d" % number)
            received = await asyncio.gather(*blocking, *waiting)
            assert sorted(int(bytes(message)) for message in received) == list(range(6))

    run(main())


def test_two_event_loops_share_a_node():
    with peerbus.Node(**LOCAL) as alice, peerbus.Node(**LOCAL) as bob:
        alice.connect(bob.addresses)
        received = []

        def loop():
            received.append(run(bob.asynchronous.receive()))

        threads = [threading.Thread(target=loop) for _ in range(2)]
        for thread in threads:
            thread.start()
        alice.send(bob.peer_id, b"one")
        alice.send(bob.peer_id, b"two")
        for thread in threads:
            thread.join(DEADLINE_S)
        assert sorted(bytes(message) for message in received) == [b"one", b"two"]


def test_a_loop_that_goes_on_after_the_node_closed_is_left_clean():
    loop = asyncio.new_event_loop()
    try:
        for _ in range(2):
            with peerbus.Node(**LOCAL) as node, pytest.raises(TimeoutError):
                loop.run_until_complete(node.asynchronous.receive(timeout=0.01))
    finally:
        loop.close()


def test_one_channel_can_be_awaited_alone():
    async def main():
        async with Pair() as (alice, bob):
            left, right = (alice.direct_channel(bob.peer_id, name) for name in ("left", "right"))
            waiting = asyncio.create_task(bob.receive(right))
            await asyncio.sleep(0)
            await alice.send(left, b"l1")
            assert (await bob.receive()).data == b"l1"
            await alice.send(right, b"r1")
            assert (await waiting).data == b"r1"

    run(main())


def test_cancelling_a_connect_ends_the_dialling():
    async def main():
        async with peerbus.Node(**LOCAL) as node, peerbus.Node(**LOCAL) as other:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.settimeout(DEADLINE_S)
                address = f"/ip4/127.0.0.1/tcp/{listener.getsockname()[1]}/p2p/{other.peer_id}"
                connecting = asyncio.create_task(node.connect(address))
                loop = asyncio.get_running_loop()
                dialled, _ = await loop.run_in_executor(None, listener.accept)
                with dialled:
                    dialled.settimeout(DEADLINE_S)
                    connecting.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await connecting

                    def read_to_the_end():
                        try:
                            while dialled.recv(4096):
                                pass
                        except ConnectionResetError:
                            pass

                    await loop.run_in_executor(None, read_to_the_end)

    run(main())


def test_closing_ends_what_waits():
    async def main():
        async with peerbus.Node(**LOCAL) as node, peerbus.Node(**LOCAL) as other:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                address = f"/ip4/127.0.0.1/tcp/{listener.getsockname()[1]}/p2p/{other.peer_id}"
                waiting = [
                    asyncio.create_task(node.receive()),
                    asyncio.create_task(node.receive(other.direct_channel(node.peer_id))),
                    asyncio.create_task(node.connect(address)),
                ]
                await asyncio.sleep(0)
                await node.close()
                for ended in await asyncio.gather(*waiting, return_exceptions=True):
                    assert isinstance(ended, (peerbus.ClosedError, peerbus.CancelledError)), ended

    run(main())


def test_a_full_receiver_makes_the_sender_wait():
    async def main():
        small = {**LOCAL, "limits": {"send_messages": 4, "send_bytes": 1 << 20}}
        async with peerbus.Node(**small) as alice, peerbus.Node(**{**LOCAL, "limits": {"channel_messages": 4}}) as bob:
            await alice.connect(bob.addresses)
            sent = 0
            with pytest.raises(peerbus.WouldBlockError):
                while True:
                    await alice.send(bob.peer_id, bytes(256 * 1024), timeout=0)
                    sent += 1
            waiting = [asyncio.create_task(alice.send(bob.peer_id, b"%d" % number)) for number in range(5)]
            received = [await bob.receive() for _ in range(sent + 5)]
            await asyncio.gather(*waiting)
            assert [bytes(message) for message in received[-5:]] == [b"0", b"1", b"2", b"3", b"4"]

    run(main())


def test_topics_reach_subscribers():
    async def main():
        async with Pair() as (alice, bob):
            topic = alice.topic("news")
            with alice.events() as events:
                await alice.subscribe(topic)
                await bob.subscribe(topic)
                await events.wait_for("topic_peer_joined", peer=bob.peer_id, timeout=DEADLINE_S)
            assert await alice.publish(topic, b"extra") == 1
            assert (await bob.receive()).data == b"extra"
            assert await alice.wait_for_topic_peers(topic, 1, timeout=DEADLINE_S) == 1
            assert await alice.publish_many(topic, [b"one", b"two"]) == [1, 1]
            assert [(await bob.receive()).data for _ in range(2)] == [b"one", b"two"]

    run(main())


def test_events_are_awaited():
    async def main():
        async with peerbus.Node(**LOCAL) as alice, peerbus.Node(**LOCAL) as bob:
            events = bob.events("peer_connected")
            await alice.connect(bob.addresses)
            async for event in events:
                assert event["peer"] == alice.peer_id
                break
            assert bob.event_counts["peer_connected"] == 1

    run(main())


def test_flush_and_disconnect_are_awaited():
    async def main():
        async with Pair() as (alice, bob):
            await alice.send(bob.peer_id, b"hello")
            await alice.flush(bob.peer_id)
            await alice.disconnect(bob.peer_id)
            assert alice.peers() == []
            assert (await bob.receive()).data == b"hello"

    run(main())


def test_a_start_that_is_cancelled_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def main():
        node = peerbus.Node(**LOCAL)
        starting = asyncio.create_task(node.start())
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert node.closed
        with pytest.raises(peerbus.ClosedError):
            await node.send("x", b"y")
        while list(tmp_path.iterdir()):
            await asyncio.sleep(0.001)

    run(main())


def test_a_batch_is_awaited_and_bounded():
    async def main():
        async with Pair() as (alice, bob):
            for number in range(10):
                await alice.send(bob.peer_id, b"%d" % number)
            await alice.flush(bob.peer_id)
            taken = []
            while len(taken) < 10:
                batch = await bob.receive_batch(max_messages=3)
                assert 1 <= len(batch) <= 3
                taken += [bytes(message) for message in batch]
            assert taken == [b"%d" % number for number in range(10)]

    run(main())


def test_a_busy_stream_of_messages_lets_other_tasks_run():
    async def main():
        async with Pair() as (alice, bob):
            for _ in range(2000):
                await alice.send(bob.peer_id, b"x")
            while bob.waiting < 2000:
                await asyncio.sleep(0)
            turns = 0

            async def other():
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            task = asyncio.create_task(other())
            received = 0
            async for _ in bob.messages():
                received += 1
                if received == 2000:
                    break
            task.cancel()
            assert turns > 1

    run(main())
