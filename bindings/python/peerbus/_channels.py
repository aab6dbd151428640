"""Handles of direct channels: message ids, many messages per call, and how far each message is."""

from __future__ import annotations

import contextlib
import json
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Sequence

from . import _errors, _library
from ._buffers import Payload, Pinned
from ._waiting import Steps, Waiter, deadline_after, passed

if TYPE_CHECKING:
    from ._core import Core, Live

QUEUED, SENT, ACCEPTED, TAKEN = 0, 1, 2, 3  # of the enum peerbus_delivery
BATCH = 256  # messages of one call of the library; those that find no room are put together again for the next
_CHAT = "/unaiverse/chat/1.0.0"
_CHAT_LOOK_S = 0.02


@contextlib.contextmanager
def _telling(ids: Sequence[int], payloads: Sequence[Payload]) -> Iterator[None]:
    """Errors say how many messages were taken before."""
    try:
        yield
    except _errors.PeerbusError as error:
        error.args = (f"{error}; {len(ids)} of {len(payloads)} messages were taken", *error.args[1:])
        raise


def _not_taken(live: Live, code: int) -> int:
    """0 for one that needs waiting; raises for others."""
    return 0 if code == _errors.WOULD_BLOCK else live.native.check(code)


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


class ChannelCore:
    """A channel handle without a style; Channel and BlockingChannel are faces of it."""

    def __init__(self, core: Core, to: str, name: Optional[str]) -> None:
        live = core.live
        self._core = core
        self.channel = core.direct_channel(to, name) if name is not None else live.channel(to)[0]
        self._handle = self._open(live, 0)
        self._watches: Dict[int, int] = {}  # state: the handle that asks for its events
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

    @property
    def _sending(self) -> Live:
        """``_live``, in less time."""
        live = self._core._live
        if self._closed or live is None or live.closed:
            return self._live  # raises
        return live

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
        if self._closed or live is None or live.closed:  # as _sending, without its call
            live = self._live
        if live.lines and self.channel in live.lines:
            return 0
        number = live.native.calls.channel_send(live.instance, self._handle, data)
        return number if number > 0 else _not_taken(live, number)

    def _attempt(self, live: Live, data: Payload) -> int:
        number = live.native.calls.channel_send(live.instance, self._handle, data)
        return number if number > 0 else _not_taken(live, number)

    def send(self, waiter: Waiter, data: Payload, timeout: float) -> Steps[int]:
        live = self._live
        _library.milliseconds(timeout)
        sent = 0
        with Pinned(data) as payload:

            def attempt() -> bool:
                nonlocal sent
                sent = self._attempt(self._live, payload.data)
                return sent > 0

            yield from live.outbox.send(waiter, self.channel, attempt, deadline_after(timeout))
        return sent

    def try_send_many(self, payloads: Sequence[Payload]) -> List[int]:
        """Sends the first messages, until one needs waiting. Their ids."""
        ids: List[int] = []
        with _telling(ids, payloads):
            live = self._sending
            while len(ids) < len(payloads) and self.channel not in live.outbox.lines:
                if not self._attempt_many(live, payloads, ids):
                    break
        return ids

    def send_many(
        self, waiter: Waiter, payloads: Sequence[Payload], timeout: float, ids: Sequence[int] = ()
    ) -> Steps[List[int]]:
        """Sends in order, each call of the library as many as fit. ``ids`` are those of the first ones, which were sent before.
        An error tells how many were taken."""
        _library.milliseconds(timeout)
        deadline = deadline_after(timeout)
        taken = list(ids)
        with _telling(taken, payloads):
            while len(taken) < len(payloads):
                live = self._live
                if live.outbox.blocked(self.channel) or not self._attempt_many(live, payloads, taken):
                    attempt = partial(self._attempt_many, live, payloads, taken)
                    yield from live.outbox.send(waiter, self.channel, attempt, deadline)
        return taken

    def _attempt_many(self, live: Live, payloads: Sequence[Payload], ids: List[int]) -> bool:
        """Sends what follows those that have ids, and adds theirs. False when nothing was taken."""
        first = len(ids)
        count = min(BATCH, len(payloads) - first)
        taken = live.native.calls.channel_send_many(live.instance, self._handle, payloads, first, count)
        if isinstance(taken, int):
            if taken != _errors.WOULD_BLOCK:
                live.native.check(taken)
            return False
        ids.extend(range(taken[1], taken[1] + taken[0]))
        return True

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
