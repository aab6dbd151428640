"""Handles of direct channels: message ids, many messages per call, and how far each message is."""

from __future__ import annotations

import contextlib
import ctypes
import json
import threading
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence

from . import _errors, _library
from ._buffers import Payload, Pinned
from ._library import BARE_BYTES
from ._packing import Packed
from ._waiting import Steps, Waiter, deadline_after, passed

if TYPE_CHECKING:
    from ._core import Core, Live

SENT, ACCEPTED, TAKEN = 1, 2, 3  # of the enum peerbus_delivery
BATCH = 4096  # messages of one call of the library
_CHAT = "/unaiverse/chat/1.0.0"
_CHAT_LOOK_S = 0.02


class Deliveries:
    """Who waits until messages of a channel get further. A delivery event of the channel makes them look again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Dict[str, List[Waiter]] = {}

    def join(self, channel: str, waiter: Waiter) -> None:
        with self._lock:
            self._waiting.setdefault(channel, []).append(waiter)

    def leave(self, channel: str, waiter: Waiter) -> None:
        with self._lock:
            waiters = self._waiting[channel]
            waiters.remove(waiter)
            if not waiters:
                del self._waiting[channel]

    def news(self, channel: str) -> None:
        """Messages of the channel got further."""
        with self._lock:
            waiters = list(self._waiting.get(channel, ()))
        for waiter in waiters:
            waiter.wake()

    def wake_all(self) -> None:
        """Events were lost, or the node closed: everybody looks."""
        with self._lock:
            waiters = [waiter for line in self._waiting.values() for waiter in line]
        for waiter in waiters:
            waiter.wake()


class _Answer:
    """Where the library writes a message id."""

    __slots__ = ("id", "reference")

    def __init__(self) -> None:
        self.id = ctypes.c_uint64()
        self.reference = ctypes.byref(self.id)


class ChannelCore:
    """A channel handle without a style; Channel and BlockingChannel are faces of it."""

    def __init__(self, core: Core, to: str, name: Optional[str]) -> None:
        live = core.live
        self._core = core
        self.channel = core.direct_channel(to, name) if name is not None else live.channel(to)[0]
        self._handle = self._open(live, 0)
        self._watches: Dict[int, int] = {}  # state: the handle that asks for its events
        self._answers: List[_Answer] = []  # that nobody uses now
        self._lock = threading.Lock()
        self._closed = False

    def _open(self, live: Live, events: int) -> int:
        name = _library.encode(self.channel, "channel")
        return live.native.check(live.native.c.peerbus_channel_open(live.instance, name, events))

    @property
    def _live(self) -> Live:
        if self._closed:
            raise _errors.ClosedError(f"the handle of {self.channel} is closed")
        return self._core.live

    def close(self) -> None:
        """Gives the handles back. Fine when the node is closed, which does the same."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            handles = [self._handle, *self._watches.values()]
        with contextlib.suppress(_errors.PeerbusError):
            live = self._core.live
            for handle in handles:
                live.native.c.peerbus_channel_close(live.instance, handle)
            live.deliveries.news(self.channel)

    def info(self) -> Dict[str, Any]:
        """What GetChannelInfo answers."""
        return dict(self._core.ask("GetChannelInfo", _library.encode(self.channel, "channel")))

    def configure(self, options: Mapping[str, Any]) -> None:
        """Sets the options that are not None, by the names of peerbus_channel_configure."""
        given = {name: value for name, value in options.items() if value is not None}
        live = self._live
        text = _library.encode(json.dumps(given, default=list), "options")
        live.native.check(live.native.c.peerbus_channel_configure(live.instance, self._handle, text))

    # Sending

    def try_send(self, data: Payload) -> int:
        """The id of the message, or 0 when sending needs waiting."""
        live = self._core._live
        if self._closed or live is None or live.closed:
            live = self._live  # raises
        if self.channel in live.outbox.lines:
            return 0
        if type(data) is not bytes or len(data) > BARE_BYTES:
            with Pinned(data) as payload:
                return self._attempt(live, payload)
        answer = self._answer()
        result = live.native.channel_send_bytes(live.instance, self._handle, data, len(data), 0, answer.reference)
        number = answer.id.value
        self._answers.append(answer)
        return self._taken(live, result, number)

    def _answer(self) -> _Answer:
        try:
            return self._answers.pop()  # of two threads that send each has its own
        except IndexError:
            return _Answer()

    def _attempt(self, live: Live, payload: Pinned) -> int:
        answer = _Answer()
        result: int = live.native.c.peerbus_channel_send(
            live.instance, self._handle, payload.pointer, payload.size, 0, answer.reference
        )
        return self._taken(live, result, answer.id.value)

    def _taken(self, live: Live, result: int, number: int) -> int:
        if result == _errors.WOULD_BLOCK:
            return 0
        live.native.check(result)
        return number

    def send(self, waiter: Waiter, data: Payload, timeout: float) -> Steps[int]:
        live = self._live
        _library.milliseconds(timeout)
        sent = 0
        with Pinned(data) as payload:

            def attempt() -> bool:
                nonlocal sent
                sent = self._attempt(self._live, payload)
                return sent > 0

            yield from live.outbox.send(waiter, self.channel, attempt, deadline_after(timeout))
        return sent

    def send_many(self, waiter: Waiter, payloads: Sequence[Payload], timeout: float) -> Steps[List[int]]:
        """Sends in order, each call of the library as many as fit. Raises WouldBlockError with ``sent``: the ids so far."""
        live = self._live
        _library.milliseconds(timeout)
        deadline = deadline_after(timeout)
        ids: List[int] = []
        while len(ids) < len(payloads):
            before = len(ids)
            with Packed(payloads[before : before + BATCH]) as part:

                def attempt(part: Packed = part, before: int = before) -> bool:
                    taken = self._attempt_batch(self._live, part, len(ids) - before)
                    ids.extend(taken)
                    return len(taken) > 0

                while len(ids) < before + part.count:
                    if live.outbox.blocked(self.channel) or not attempt():
                        try:
                            yield from live.outbox.send(waiter, self.channel, attempt, deadline)
                        except _errors.WouldBlockError as error:
                            text = f"{error}; {len(ids)} of {len(payloads)} messages were taken"
                            raise _errors.WouldBlockError(text) from None
        return ids

    def _attempt_batch(self, live: Live, part: Packed, begin: int) -> range:
        answer = _Answer()
        result: int = live.native.c.peerbus_channel_send_batch(
            live.instance, self._handle, part.slices_from(begin), part.count - begin, 0, answer.reference
        )
        first = self._taken(live, result, answer.id.value)
        return range(first, first + max(0, result))

    # Delivery

    def wait(self, waiter: Waiter, number: int, state: int, timeout: Optional[float]) -> Steps[None]:
        """Steps until the message has reached the state. Raises LostError, UnsupportedError, TimeoutError."""
        if self.reached(number, state):
            return
        live = self._live
        deadline = deadline_after(timeout)
        live.deliveries.join(self.channel, waiter)
        try:
            self._watch(live, state)
            while True:
                waiter.clear()
                if self.reached(number, state):
                    return
                if passed(deadline):
                    raise _errors.TimeoutError(f"message {number} on {self.channel} got no further before the timeout")
                yield self._look_again(state, deadline)
        finally:
            live.deliveries.leave(self.channel, waiter)

    def _look_again(self, state: int, deadline: Optional[float]) -> Optional[float]:
        """When to look without an event: a chat channel, which can only tell that a message was sent, raises none."""
        if state != SENT or self.info()["protocol"] != _CHAT:
            return deadline
        soon = deadline_after(_CHAT_LOOK_S)
        return soon if deadline is None or soon is None else min(soon, deadline)

    def reached(self, number: int, state: int) -> bool:
        """Whether the message has reached the state by now."""
        live = self._live
        result: int = live.native.c.peerbus_channel_wait(live.instance, self._handle, number, state, 0)
        if result == _errors.TIMEOUT:
            return False
        live.native.check(result)
        return True

    def _watch(self, live: Live, state: int) -> None:
        """Asks for the events of a state, from the first wait for it on."""
        with self._lock:
            if state not in self._watches and not self._closed:
                self._watches[state] = self._open(live, 1 << state)
