"""Receiving: batches come from the library, messages go to whoever waits first."""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
import time
from collections import deque
from typing import Callable, Deque, Dict, List, NamedTuple, Optional, TypeVar

from . import _buffers, _errors, _library
from ._buffers import Message
from ._confirm import Confirmer
from ._waiting import LoopWatch, Steps, Waiter, passed

T = TypeVar("T")
PREFETCH_MESSAGES = 1024  # of one call into the library when the host asks for single messages
PREFETCH_BYTES = 4 * 1024 * 1024  # payload bytes of that
PREFETCH_S = 0.005  # and what the program took in this time
LINGER_MS = 20  # how late Ctrl-C may be
_WAKE_MESSAGES = 1
_LONG_WAIT_MS = 86_400_000
_CLOSED = -4
_INTERRUPTED = _errors.INTERRUPTED


class _Entry(NamedTuple):
    waiter: Waiter
    channel: Optional[str]


class _Ahead:
    """How many messages are fetched for a program that takes them one by one: twice as many as the time before, if it came
    back for more within PREFETCH_S, else what it took in such a time. The library counts what is fetched as taken by the
    program, and tells the senders: so that is true of a slow program, and of one that takes a single message, and little
    ahead of a fast one."""

    __slots__ = ("_at", "_count", "_most")

    def __init__(self) -> None:
        self._most = 1
        self._count = 0  # of the last fetch, until the program has come back for more
        self._at = 0.0

    def most(self) -> int:
        """The program wants another message, and none is left."""
        if self._count:
            passed_s = time.monotonic() - self._at
            pace = 2.0 if passed_s <= PREFETCH_S else PREFETCH_S / passed_s
            self._most = max(1, min(PREFETCH_MESSAGES, int(pace * self._count)))
            self._count = 0
        return self._most

    def fetched(self, count: int) -> None:
        if count:
            self._count = count
            self._at = time.monotonic()


class Inbox:
    """Received messages of one node: those still in the library, and the rest of a batch that the host asked for singly.

    ``take`` never waits; a message leaves the inbox only as its result, and nothing is awaited between taking a message
    and returning it. So a task that is cancelled while it waits has taken nothing.

    Waiting for one channel needs a thread (a "scout"), because the wake descriptor tells only that something came, not on
    which channel. A scout takes nothing: two batches that are fetched at once could swap their order. It lives until the
    next message of its channel."""

    def __init__(self, library: _library.Library, instance: int) -> None:
        self._library = library
        self._instance = instance
        self.confirmer = Confirmer(library, instance)
        self.descriptor = os.dup(library.check(library.c.peerbus_wake_descriptor(instance, _WAKE_MESSAGES)))
        self._lock = threading.Lock()
        self._pending: Deque[Message] = deque()
        self._entries: List[_Entry] = []
        self._scouts: Dict[str, threading.Thread] = {}
        self._watches: Dict[int, LoopWatch] = {}
        self._batch = ctypes.c_void_p()
        self._batch_reference = ctypes.byref(self._batch)
        self._ahead = _Ahead()
        self._lingering = False
        self._lingered = ctypes.c_void_p()  # of the one who lingers
        self._lingered_reference = ctypes.byref(self._lingered)
        self._closed = False

    def receive(
        self, waiter: Waiter, channel: Optional[str], most: int, most_bytes: int, prefetch: bool, deadline: Optional[float]
    ) -> Steps[List[Message]]:
        """Steps that wait for the first message. An empty list when the deadline passed."""
        taken = self.take(channel, most, most_bytes, prefetch)
        if taken or passed(deadline):
            return taken
        return (yield from self.wait(waiter, channel, most, most_bytes, prefetch, deadline))

    def wait(
        self,
        waiter: Waiter,
        channel: Optional[str],
        most: int,
        most_bytes: int,
        prefetch: bool,
        deadline: Optional[float],
    ) -> Steps[List[Message]]:
        """``receive`` after a ``take`` that found nothing. What came since then keeps the descriptor readable, or is
        pending, so the library is asked again only after the wait."""
        entry = _Entry(waiter, channel)
        self._enter(entry)
        try:
            with self._lock:
                taken = self._take_pending(channel, most, most_bytes)
            while not taken:
                yield deadline
                waiter.clear()
                taken = self.take(channel, most, most_bytes, prefetch)
                if passed(deadline):
                    break
                if not taken:
                    with self._lock:
                        self._send_scout(channel)
            return taken
        finally:
            self._leave(entry)

    async def expect(self, deadline: Optional[float]) -> bool:
        """In asyncio, before ``wait`` for a message of any channel: lingers if one is expected. Whether to ``take`` again."""
        watch = self._watches.get(id(asyncio.get_running_loop()))
        if watch is None or not watch.expects or self._entries or self._lingering:
            return False
        return await watch.linger(lambda: bool(self._pending), deadline)

    def repeat(self, waiter: Waiter, take: Callable[[], List[T]], deadline: Optional[float]) -> Steps[List[T]]:
        """Steps that repeat a way to take messages, which found none, whenever some wait in the library. An empty list when
        the deadline passed."""
        entry = _Entry(waiter, None)
        self._enter(entry)
        try:
            taken: List[T] = []
            while not taken:
                yield deadline
                waiter.clear()
                taken = take()
                if passed(deadline):
                    break
            return taken
        finally:
            self._leave(entry)

    def take(self, channel: Optional[str], most: int, most_bytes: int, prefetch: bool = False) -> List[Message]:
        """Up to ``most`` waiting messages of one or all channels. With ``prefetch`` more may come from the library at
        once; they wait here for the next call."""
        with self._lock:
            taken = self._take_pending(channel, most, most_bytes)
            if not taken and not self._lingering:
                if prefetch:
                    fetched = self._fetch(channel, self._ahead.most(), PREFETCH_BYTES, 0)
                    self._ahead.fetched(len(fetched))
                    self._pending.extend(fetched)
                    taken = self._take_pending(channel, most, most_bytes)
                else:
                    taken = self._fetch(channel, most, most_bytes, 0)
            self._pass_on()
            return taken

    def take_one(self, channel: Optional[str]) -> Optional[Message]:
        """The next message if there is one; the fast path of everything that takes single messages."""
        if channel is None and self._pending:
            with self._lock:
                if self._pending:
                    message = self._pending.popleft()
                    self._pass_on()
                    return message
        taken = self.take(channel, 1, 0, True)
        return taken[0] if taken else None

    def pop_pending(self) -> List[Message]:
        """The oldest message of each channel among those that were taken from the library already."""
        with self._lock:
            first: Dict[str, Message] = {}
            for message in self._pending:
                first.setdefault(message.channel, message)
            self._pending = deque(message for message in self._pending if first[message.channel] is not message)
            return list(first.values())

    def waiting(self) -> int:
        """Messages taken from the library that wait here."""
        return len(self._pending)

    def watch_of(self, loop: asyncio.AbstractEventLoop) -> LoopWatch:
        """The watch of this event loop. To be called inside it, with the lock held."""
        watch = self._watches.get(id(loop))
        if watch is None or watch.abandoned:
            for key, old in list(self._watches.items()):
                if old.abandoned:
                    old.close()
                    del self._watches[key]
            watch = self._watches[id(loop)] = LoopWatch(loop, self.descriptor, self._look)
        return watch

    def _look(self, again: int) -> int:
        return self._library.look(self._instance, again)

    def close(self) -> None:
        """Everybody who waits finds the node closed. Pending messages can still be taken."""
        with self._lock:
            self._closed = True
            entries = list(self._entries)
            watches, self._watches = list(self._watches.values()), {}
        for entry in entries:
            entry.waiter.wake()
        for watch in watches:
            watch.close()
        os.close(self.descriptor)

    def _take_pending(self, channel: Optional[str], most: int, most_bytes: int) -> List[Message]:
        pending = self._pending
        if channel is None and most == 1:
            return [pending.popleft()] if pending else []
        taken: List[Message] = []
        passed_by: List[Message] = []
        room = most_bytes if most_bytes else 1 << 62
        while pending and len(taken) < most:
            message = pending.popleft()
            if channel is not None and message.channel != channel:
                passed_by.append(message)
                continue
            if taken and len(message) > room:
                pending.appendleft(message)
                break
            room -= len(message)
            taken.append(message)
        pending.extendleft(reversed(passed_by))
        return taken

    def _fetch(self, channel: Optional[str], most: int, most_bytes: int, timeout_ms: int) -> List[Message]:
        # Under the lock: the call does not wait, and two threads that fetch would swap the order of a channel.
        if self._closed:
            raise _errors.ClosedError("the node is closed")
        name = None if channel is None else _library.encode(channel, "channel")
        receive = self._library.c.peerbus_receive
        count = receive(self._instance, name, most, most_bytes, timeout_ms, self._batch_reference)
        if count > 0:
            batch = self._batch.value
            assert batch is not None
            return _buffers.messages(self._library, batch, self.confirmer)
        if count != 0 and count != _INTERRUPTED:
            self._library.check(count)
        return []

    def linger(self, most: int, most_bytes: int, prefetch: bool, deadline: Optional[float]) -> List[Message]:
        """Like ``take`` of all channels, and waits inside the library for a moment, so that the answer that a
        thread waits for reaches it without the detour over a descriptor. Signals are handled afterwards, which is why the
        moment is short; a longer wait is for ``wait``.

        One thread at a time, and nobody fetches meanwhile: two batches that are fetched at once could swap their order."""
        moment = LINGER_MS
        if deadline is not None:
            moment = max(0, min(moment, int((deadline - time.monotonic()) * 1000)))
        with self._lock:
            if self._pending or self._lingering or self._entries:
                return self._take_pending(None, most, most_bytes)
            self._lingering = True
            if prefetch:
                most, most_bytes, wanted = self._ahead.most(), PREFETCH_BYTES, 1
            else:
                wanted = most
        batch = self._lingered
        taken: List[Message] = []
        count = 0
        try:
            count = self._library.c.peerbus_receive(
                self._instance, None, most, most_bytes, moment, self._lingered_reference
            )
        finally:  # also when Ctrl-C raises right after the call
            with self._lock:
                self._lingering = False
                if batch.value is not None:
                    fetched = _buffers.messages(self._library, batch.value, self.confirmer)
                    batch.value = None
                    if prefetch:
                        self._ahead.fetched(len(fetched))
                    if count > 0 and count <= wanted:
                        taken = fetched
                    else:
                        self._pending.extend(fetched)
                        if count > 0:
                            taken = self._take_pending(None, wanted, 0)
                if self._pending:
                    self._pass_on()
        if count < 0 and count != _INTERRUPTED:
            self._library.check(count)
        return taken

    def _pass_on(self) -> None:
        """What was fetched and not taken must not wait beside somebody who waits for it."""
        if self._pending and self._entries:
            unfiltered = [entry for entry in self._entries if entry.channel is None]
            for entry in unfiltered[:1] + [entry for entry in self._entries if entry.channel is not None]:
                entry.waiter.wake()

    def _enter(self, entry: _Entry) -> None:
        with self._lock:
            if self._closed:
                raise _errors.ClosedError("the node is closed")
            if entry.channel is None:
                entry.waiter.watch(self)
            self._entries.append(entry)
            self._send_scout(entry.channel)

    def _send_scout(self, channel: Optional[str]) -> None:
        # With the lock held.
        if channel is not None and channel not in self._scouts:
            scout = threading.Thread(target=self._scout, args=(channel,), name="peerbus-scout", daemon=True)
            self._scouts[channel] = scout
            scout.start()

    def _leave(self, entry: _Entry) -> None:
        entry.waiter.unwatch()
        with self._lock:
            self._entries = [other for other in self._entries if other is not entry]
            self._pass_on()

    def _scout(self, channel: str) -> None:
        name = _library.encode(channel, "channel")
        found = 0
        while found == 0:
            found = self._library.c.peerbus_wait(self._instance, name, _LONG_WAIT_MS)
        with self._lock:
            del self._scouts[channel]
            # After a failure everybody tries, and meets the same failure.
            for entry in self._entries:
                if entry.channel == channel or found < 0:
                    entry.waiter.wake()
