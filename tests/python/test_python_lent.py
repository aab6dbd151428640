"""Large bytes in the lists of Channel.send_many: lent to the library, and back exactly once however the call ends."""

import asyncio
import os
import sys
from collections.abc import Sequence

import pytest
from harness import missing
from support import LOCAL, run, run_python

import peerbus
from peerbus import _compiled

LARGE = 300 << 10
ROOM = 2 * LARGE + 4096
TIGHT = {"limits": {"channel_send_bytes": ROOM, "channel_bytes": ROOM}}
"""Room for two large messages on their way, and for two at a receiver."""


@pytest.fixture(autouse=True)
def accelerator(environment):
    if _compiled.accelerator is None:
        missing("the accelerator of the Python package, which ./build.sh builds")

TOO_LARGE = peerbus.NODE_LIMITS["message_bytes"] + 1


class Lent:
    """Some large payloads, and who has them."""

    def __init__(self, count, size=LARGE):
        self.payloads = [bytes([k]) + os.urandom(size - 1) for k in range(count)]
        self._before = self._references()

    def _references(self):
        return [sys.getrefcount(payload) for payload in self.payloads]

    def held(self):
        """References that the library has of each; a send before takes back what it needs no more."""
        return [now - before for now, before in zip(self._references(), self._before)]

    def none(self):
        return [0] * len(self.payloads)


def pair_of(nodes, **keys):
    one, other = nodes(**keys), nodes(**keys)
    one.connect(other.addresses)
    return one, other, one.channel(other.peer_id, "large")


def settle(channel):
    """Everything that was sent before is accepted, and written: what was lent is back."""
    channel.send(b"is written when what was lent is no longer").accepted(20)
    channel.send(b"takes back what was lent")


def received(node, count):
    got = []
    while len(got) < count:
        got += [bytes(message) for message in node.receive_batch(timeout=20)]
    return got


def taken_by(error):
    """How many messages an error of send_many says were taken."""
    return int(str(error.value).split(";")[-1].split()[0])


def test_large_and_small_payloads_arrive_in_order_and_come_back(nodes):
    _, other, channel = pair_of(nodes)
    lent = Lent(3)
    payloads = [b"first", bytearray(b"second"), *lent.payloads, memoryview(b"third"), b"", *lent.payloads, b"last"]
    sent = channel.send_many(payloads)
    assert sent.ids == list(range(1, len(payloads) + 1))
    assert received(other, len(payloads)) == [bytes(payload) for payload in payloads]
    del payloads
    settle(channel)
    assert lent.held() == lent.none()


def test_large_bytes_are_not_copied(nodes):
    _, _, channel = pair_of(nodes, **TIGHT)
    lent = Lent(8)
    with pytest.raises(peerbus.WouldBlockError) as error:
        channel.send_many(lent.payloads, timeout=0.1)
    # Of those that were taken the last ones are on their way and nowhere else; those that were not are ours alone.
    taken = taken_by(error)
    assert 0 < taken < 8
    assert lent.held()[taken - 1] == 1 and not any(lent.held()[taken:])


def test_bytes_that_can_change_are_copied(nodes):
    _, other, channel = pair_of(nodes)
    payload = bytearray(b"a" * LARGE)
    channel.send_many([payload, memoryview(payload)])
    payload[:] = b"b" * LARGE
    assert received(other, 2) == [b"a" * LARGE] * 2


def test_a_timeout_tells_how_many_were_taken_and_the_others_are_not_sent(nodes):
    _, other, channel = pair_of(nodes, **TIGHT)
    lent = Lent(12)
    with pytest.raises(peerbus.WouldBlockError) as error:
        channel.send_many(lent.payloads, timeout=0.1)
    taken = taken_by(error)
    assert received(other, taken) == lent.payloads[:taken]
    assert channel.info()["last"] == taken
    settle(channel)
    assert lent.held() == lent.none()
    assert received(other, 2)[0].startswith(b"is written")


def test_a_list_that_finds_no_room_at_once_waits_for_it(nodes):
    _, other, channel = pair_of(nodes, **TIGHT)
    lent = Lent(20)

    async def run_both():
        sending = asyncio.get_running_loop().run_in_executor(None, channel.send_many, lent.payloads, 20)
        got = await asyncio.get_running_loop().run_in_executor(None, received, other, 20)
        return (await sending).ids, got

    ids, got = run(run_both())
    assert ids == list(range(1, 21)) and got == lent.payloads
    del got
    settle(channel)
    assert lent.held() == lent.none()


@pytest.mark.parametrize("place", [0, 1, 4], ids=["first", "in the middle", "last"])
@pytest.mark.parametrize("problem", ["too large", "no buffer"])
def test_of_a_list_with_a_bad_payload_none_is_taken(nodes, place, problem):
    _, other, channel = pair_of(nodes)
    lent = Lent(4)
    payloads = list(lent.payloads)
    payloads.insert(place, bytes(TOO_LARGE) if problem == "too large" else "text")
    with pytest.raises(peerbus.TooLargeError if problem == "too large" else TypeError):
        channel.send_many(payloads)
    del payloads
    assert lent.held() == lent.none()
    assert channel.send(b"next").id == 1
    assert received(other, 1) == [b"next"]


def test_a_sequence_that_fails_in_the_middle_sends_nothing_and_keeps_nothing(nodes):
    class Failing(Sequence):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            if index == 3:
                raise KeyError("gone")
            return lent.payloads[index]

    _, _, channel = pair_of(nodes)
    lent = Lent(5)
    with pytest.raises(KeyError):
        channel.send_many(Failing())
    assert lent.held() == lent.none()
    assert channel.send(b"next").id == 1


def test_a_closed_handle_and_a_closed_node_hold_nothing(nodes):
    one, _, channel = pair_of(nodes, **TIGHT)
    lent = Lent(6)
    with pytest.raises(peerbus.WouldBlockError):
        channel.send_many(lent.payloads, timeout=0.1)
    closed = one.channel(channel.name)
    closed.close()
    before = lent.held()
    with pytest.raises(peerbus.ClosedError):
        closed.send_many(lent.payloads)
    assert lent.held() == before and any(before)
    one.close()
    with pytest.raises(peerbus.ClosedError):
        channel.send_many(lent.payloads)
    assert lent.held() == lent.none()


def test_the_library_itself_refuses_a_handle_that_was_closed_meanwhile(nodes):
    one, _, _ = pair_of(nodes)
    lent = Lent(3)
    live = one._core.live
    for instance, handle in ((live.instance, 999_999), (peerbus._library.DEFAULT_INSTANCES - 1, 1)):
        assert live.native.calls.channel_send_many(instance, handle, lent.payloads, 0, 3) < 0
        assert lent.held() == lent.none()


def test_on_chat_a_list_is_copied(nodes):
    one, other = nodes(), nodes(channel={"acknowledged": False})
    one.connect(other.addresses)
    channel = one.channel(other.peer_id, "large")
    lent = Lent(3)
    channel.send_many(lent.payloads)
    assert received(other, 3) == lent.payloads
    assert lent.held() == lent.none()


def test_asyncio_lends_and_a_cancelled_list_keeps_what_was_taken_only():
    lent = Lent(12)

    async def scenario():
        async with peerbus.Node(**LOCAL, **TIGHT) as one, peerbus.Node(**LOCAL, **TIGHT) as other:
            await one.connect(other.addresses)
            channel = one.channel(other.peer_id, "large")
            sending = asyncio.ensure_future(channel.send_many(lent.payloads))
            while not one._core.live.outbox.crowded:
                await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            taken = channel.info()["last"]
            assert 0 < taken < 12
            got = []
            while len(got) < taken:
                got += [bytes(message) for message in await other.receive_batch(timeout=20)]
            assert got == lent.payloads[:taken]
            assert channel.info()["last"] == taken
            message = await channel.send(b"is written when what was lent is no longer")
            await message.accepted(20)
            await channel.send(b"takes back what was lent")
            del got
            assert lent.held() == lent.none()

    run(scenario())


INTERRUPTED = """
import os, signal, sys, threading
import peerbus
from support import LOCAL
tight = {"limits": {"channel_send_bytes": 604 << 10, "channel_bytes": 604 << 10}}
with peerbus.Node(**LOCAL, **tight) as one, peerbus.Node(**LOCAL, **tight) as other:
    one.connect(other.addresses)
    channel = one.channel(other.peer_id, "large")
    payloads = [os.urandom(300 << 10) for _ in range(12)]
    before = [sys.getrefcount(payload) for payload in payloads]
    outbox = one._core.live.outbox

    def interrupt():
        while not outbox.crowded:
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    try:
        channel.send_many(payloads)
    except KeyboardInterrupt:
        pass
    else:
        raise SystemExit("it was not interrupted")
    got = []
    while len(got) < channel.info()["last"]:
        got += [bytes(message) for message in other.receive_batch(timeout=20)]
    assert got == payloads[:len(got)] and 0 < len(got) < 12
    del got
    channel.send(b"is written when what was lent is no longer").accepted(20)
    channel.send(b"takes back what was lent")
    assert [sys.getrefcount(payload) for payload in payloads] == before
"""


def test_ctrl_c_in_the_middle_of_a_list_leaves_nothing_behind():
    assert run_python(INTERRUPTED) == ""


FORKED = """
import os, sys, warnings
import peerbus
from support import LOCAL
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
with peerbus.Node(**LOCAL) as one, peerbus.Node(**LOCAL) as other:
    one.connect(other.addresses)
    channel = one.channel(other.peer_id, "large")
    payloads = [os.urandom(300 << 10) for _ in range(3)]
    before = [sys.getrefcount(payload) for payload in payloads]
    live, calls = one._core.live, one._core.live.native.calls
    pid = os.fork()
    if pid == 0:
        code = calls.channel_send_many(live.instance, 1, payloads, 0, 3)
        after = [sys.getrefcount(payload) for payload in payloads]
        os._exit(0 if code < 0 and after == before else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert channel.send_many(payloads).ids == [1, 2, 3]
    for payload in payloads:
        assert bytes(other.receive(timeout=20)) == payload
"""


def test_a_forked_child_holds_nothing_and_the_parent_goes_on():
    assert run_python(FORKED) == ""
