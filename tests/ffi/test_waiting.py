"""What a host waits with: wake descriptors, interrupt, close."""

import pytest
from hosts import EVENTS, KINDS, MESSAGES, HostError

WAIT_MS = 20000

every_kind = pytest.mark.parametrize("kind", KINDS)


def ready(host, descriptor, timeout=0):
    return host.call("poll", descriptor, timeout) == 1


def code_of(call, *arguments, **named):
    with pytest.raises(HostError) as failed:
        call(*arguments, **named)
    return failed.value.code


@every_kind
def test_message_descriptor_is_readable_exactly_while_messages_wait(start, kind):
    receiver, sender = start(kind), start("c")
    sender.connect(receiver)
    descriptor = receiver.call("wake", 0, MESSAGES)
    assert not ready(receiver, descriptor)
    sender.send(sender.channel_to(receiver), count=2)
    assert ready(receiver, descriptor, WAIT_MS)
    receiver.receive_count(1, most=1)
    receiver.receive_count(1, most=1)
    assert not ready(receiver, descriptor)
    sender.send(sender.channel_to(receiver))
    assert ready(receiver, descriptor, WAIT_MS)


@every_kind
def test_message_descriptor_shows_an_interruption_until_it_is_taken(start, kind):
    host = start(kind)
    descriptor = host.call("wake", 0, MESSAGES)
    host.call("interrupt", 0)
    assert ready(host, descriptor)
    assert code_of(host.receive) == "INTERRUPTED"
    assert not ready(host, descriptor)


def is_quiet_once_drained(host, descriptor):
    """Takes events until none waits and the descriptor says so; a new node has a few to tell for a moment."""
    for _ in range(100):
        while host.events():
            pass
        if not ready(host, descriptor):
            return True
    return False


@every_kind
def test_event_descriptor_is_readable_exactly_while_events_wait(start, kind):
    host, other = start(kind), start("c")
    descriptor = host.call("wake", 0, EVENTS)
    assert is_quiet_once_drained(host, descriptor)
    other.connect(host)
    assert ready(host, descriptor, WAIT_MS)
    assert host.events()
    assert is_quiet_once_drained(host, descriptor)


def take_events_to_the_end(host):
    """An interruption comes after the events that wait, of which a new node may have told one meanwhile."""
    while host.events(timeout=WAIT_MS):
        pass


@every_kind
def test_event_descriptor_shows_an_interruption_until_it_is_taken(start, kind):
    host = start(kind)
    descriptor = host.call("wake", 0, EVENTS)
    assert is_quiet_once_drained(host, descriptor)
    host.call("interrupt", 0)
    assert ready(host, descriptor)
    assert code_of(take_events_to_the_end, host) == "INTERRUPTED"
    assert is_quiet_once_drained(host, descriptor)


@every_kind
@pytest.mark.parametrize("what", [MESSAGES, EVENTS])
def test_descriptors_stay_readable_after_close(start, kind, what):
    host = start(kind)
    descriptor = host.call("wake", 0, what)
    host.control("CloseNode")
    assert ready(host, descriptor) and ready(host, descriptor)


@every_kind
@pytest.mark.parametrize("how, code", [("interrupt", "INTERRUPTED"), ("close", "CLOSED")])
def test_a_waiting_receive_ends_at_once(start, kind, how, code):
    assert code_of(start(kind).call, "end_a_wait", 0, 60000, how) == code


@every_kind
def test_an_interruption_without_a_waiter_ends_the_next_wait_only(start, kind):
    host = start(kind)
    host.call("interrupt", 0)
    host.call("interrupt", 0)
    assert code_of(host.receive) == "INTERRUPTED"
    assert host.receive(timeout=0) == []


def test_an_interruption_loses_no_message(pair):
    sender, receiver = pair
    sender.send(sender.channel_to(receiver), count=1)
    assert ready(receiver, receiver.call("wake", 0, MESSAGES), WAIT_MS)
    receiver.call("interrupt", 0)
    seen = []
    for _ in range(2):
        try:
            seen += receiver.receive()
        except HostError as error:
            assert error.code == "INTERRUPTED"
    assert len(seen) == 1
