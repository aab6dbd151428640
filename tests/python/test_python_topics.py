"""Direct topics from Python."""

from __future__ import annotations

import asyncio

import pytest

import peerbus

LOCAL = {"ips": ["127.0.0.1"], "dht": {"enabled": False}}


def test_a_direct_topic_delivers_everything_with_its_numbers():
    async def run():
        async with peerbus.Node(**LOCAL) as alice, peerbus.Node(**LOCAL) as bob:
            await bob.connect(alice.addresses)
            topic = alice.topic("news")
            alice.open_topic(topic)
            await bob.subscribe(topic, mode="direct")
            await alice.wait_for_topic_peers(topic, 1, 20)
            first = await alice.publish(topic, b"first")
            many = await alice.publish_many(topic, [b"%d" % number for number in range(5000)])
            assert (first, first.missed, many[-1].id) == (1, 0, first.id + 5000)
            got = []
            while len(got) < 5001:
                got += await bob.receive_batch(topic, timeout=20)
            assert [bytes(message) for message in got[1:]] == [b"%d" % number for number in range(5000)]
            assert [message.id for message in got] == list(range(first.id, first.id + 5001))
            await alice.flush(topic)
            info = alice.topic_info(topic)
            assert (info["mode"], info["overflow"], info["published"]) == ("direct", "block", 5001)
            assert [(peer["peer"], peer["state"]) for peer in info["subscribers"]] == [(bob.peer_id, "connected")]
            (publisher,) = bob.topic_info(topic)["publishers"]
            assert (publisher["received"], publisher["missing"], publisher["exact"]) == (5001, 0, True)

    asyncio.run(run())


def test_a_subscriber_by_gossip_is_reported_as_missed():
    with peerbus.Node(**LOCAL) as alice, peerbus.Node(**LOCAL) as bob:
        topic = alice.topic("news")
        alice.open_topic(topic, overflow="drop_newest")
        lost = alice.events("messages_lost")
        bob.connect(alice.addresses)
        bob.subscribe(topic)
        while not (published := alice.publish(topic, b"x")).missed:
            pass
        assert (published, published.missed) == (0, 1)
        for event in lost:
            if event["reason"] == "gossip_only":
                assert (event["peer"], event["channel"]) == (bob.peer_id, topic)
                break
        lost.close()


def test_the_mode_and_the_overflow_are_checked():
    with peerbus.Node(**LOCAL) as node:
        topic = node.topic("news")
        for mode, overflow in (("loud", None), ("direct", "spill"), ("gossip", "block")):
            with pytest.raises(peerbus.InvalidArgumentError):
                node.open_topic(topic, mode, overflow)
        with pytest.raises(peerbus.NotFoundError):
            node.topic_info(topic)
        node.subscribe(topic)
        with pytest.raises(peerbus.RefusedError):
            node.open_topic(topic)
