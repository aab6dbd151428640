"""Event streams: bounded, filtered, ended."""

import pytest

import peerbus
from peerbus import _events
from peerbus._events import EventStream


def test_events_come_in_order_and_the_stream_ends():
    stream = EventStream()
    for number in range(3):
        stream._put({"type": "t", "number": number})
    stream.close()
    assert [event["number"] for event in stream] == [0, 1, 2]


def test_a_stream_takes_only_the_types_it_was_opened_for():
    stream = EventStream(["wanted"])
    stream._put({"type": "other"})
    stream._put({"type": "wanted"})
    stream.close()
    assert [event["type"] for event in stream] == ["wanted"]


def test_events_above_the_bound_are_counted_and_announced(monkeypatch):
    monkeypatch.setattr(_events, "STREAM_EVENTS", 2)
    stream = EventStream()
    for number in range(5):
        stream._put({"type": "t", "number": number})
    stream.close()
    assert list(stream) == [{"type": "t", "number": 0}, {"type": "t", "number": 1}, {"type": "events_lost", "count": 3}]


def test_waiting_for_an_event_compares_its_fields():
    stream = EventStream()
    stream._put({"type": "t", "peer": "other"})
    stream._put({"type": "t", "peer": "wanted"})
    assert stream.wait_for_blocking("t", peer="wanted", timeout=1)["peer"] == "wanted"


def test_waiting_for_an_event_that_does_not_come_times_out():
    with pytest.raises(peerbus.TimeoutError):
        EventStream().wait_for_blocking("t", timeout=0.01)


def test_waiting_for_an_event_of_a_closed_node_is_an_error():
    stream = EventStream()
    stream.close()
    with pytest.raises(peerbus.ClosedError):
        stream.wait_for_blocking("t")


def test_leaving_the_with_block_ends_the_stream():
    with EventStream() as stream:
        stream._put({"type": "t"})
    stream._put({"type": "late"})
    assert [event["type"] for event in stream] == ["t"]
