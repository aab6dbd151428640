"""Waiting in both styles from one implementation.

Everything that may wait is written once, as *steps*: a function that takes a waiter and returns a generator. The
generator yields a deadline whenever it can go on only after ``waiter.wake()`` (or when the deadline has passed), and
its return value is the result. ``run_blocking`` drives steps in a thread, ``run_async`` in a task. When the wait ends
early - Ctrl-C, a cancelled task - the generator is closed, so its ``finally`` blocks undo what was begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING, Callable, Generator, List, Optional, TypeVar, Union

if TYPE_CHECKING:
    from ._inbox import Inbox

T = TypeVar("T")
Steps = Generator[Optional[float], None, T]
"""Yields deadlines of ``time.monotonic`` (None: no deadline)."""


def deadline_after(timeout: Optional[float]) -> Optional[float]:
    """The ``time.monotonic`` value of a timeout in seconds; None stays None."""
    return None if timeout is None else time.monotonic() + timeout


def passed(deadline: Optional[float]) -> bool:
    """Whether the deadline has come."""
    return deadline is not None and time.monotonic() >= deadline


class _Bell:
    """A pipe that wakes a thread out of poll()."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)
        self._rung = False

    def ring(self) -> None:
        self._rung = True
        with contextlib.suppress(BlockingIOError):  # full of earlier rings: it is awake already
            os.write(self.writer, b"\0")

    def silence(self) -> None:
        if self._rung:
            self._rung = False
            self.drain()

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self.reader, 512):
                pass

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


_LINGER_S = 250e-6  # the longest wait of which an end is expected by looking
_lingers = (os.cpu_count() or 1) > 1

_SPARE_BELLS = 16
_bells: List[_Bell] = []


def _take_bell() -> _Bell:
    try:
        return _bells.pop()
    except IndexError:
        return _Bell()


_signals: Optional[_Bell] = None  # rung by the interpreter; never closed, because a signal may come at any time


def _poll(descriptors: List[int], timeout_s: Optional[float]) -> None:
    """Waits until one is readable, or a signal is to be handled, or the time is over.

    poll() by itself would sleep through a signal that comes between Python's last look and the system call. So in
    the main thread a signal rings a bell of its own meanwhile, unless the program has a wakeup descriptor already.
    """
    global _signals
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    timeout_ms = None if timeout_s is None else timeout_s * 1000
    if threading.current_thread() is not threading.main_thread():
        poll.poll(timeout_ms)
        return
    if _signals is None:
        _signals = _Bell()
    poll.register(_signals.reader, select.POLLIN)
    ours = True
    try:
        before = signal.set_wakeup_fd(_signals.writer, warn_on_full_buffer=False)
        if before not in (-1, _signals.writer):
            ours = False
            signal.set_wakeup_fd(before)
        if (_signals.reader, select.POLLIN) in poll.poll(timeout_ms):
            _signals.drain()
    finally:
        if ours:
            signal.set_wakeup_fd(-1)


class ThreadWaiter:
    """One wait of one thread. ``wake`` may be called from any thread, the rest only by the owner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._woken = False
        self._bell: Optional[_Bell] = None  # from the first wait on
        self._inbox: Optional[Inbox] = None

    @property
    def woken(self) -> bool:
        """Whether a wake came that was not cleared."""
        return self._woken

    def wake(self) -> None:
        with self._lock:
            if not self._woken:
                self._woken = True
                if self._bell is not None:
                    self._bell.ring()

    def clear(self) -> None:
        with self._lock:
            self._woken = False
            if self._bell is not None:
                self._bell.silence()

    def watch(self, inbox: Inbox) -> None:
        """From now on messages that wait in the library end the wait as well."""
        self._inbox = inbox

    def unwatch(self) -> None:
        self._inbox = None

    def wait(self, deadline: Optional[float]) -> None:
        """Returns after a wake, or at the deadline. Signals are handled meanwhile."""
        with self._lock:
            if self._woken:
                return
            if self._bell is None:
                self._bell = _take_bell()
            descriptors = [self._bell.reader]
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        if self._inbox is not None:
            descriptors.append(self._inbox.descriptor)
        _poll(descriptors, remaining)

    def close(self) -> None:
        """No wait follows."""
        with self._lock:
            bell, self._bell = self._bell, None
        if bell is None:
            return
        if len(_bells) < _SPARE_BELLS:
            bell.silence()
            _bells.append(bell)
        else:
            bell.close()


class TaskWaiter:
    """One wait of one asyncio task. ``wake`` may be called from any thread, the rest only inside its event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._woken = False
        self._future: Optional[asyncio.Future[None]] = None
        self._watch: Optional[LoopWatch] = None

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # that loop is closed, and its tasks with it
            self._loop.call_soon_threadsafe(self.wake_here)

    def wake_here(self) -> None:
        self._woken = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    @property
    def woken(self) -> bool:
        """Whether a wake came that was not cleared."""
        return self._woken

    def clear(self) -> None:
        self._woken = False

    def watch(self, inbox: Inbox) -> None:
        """From now on messages that wait in the library end the wait as well."""
        self._watch = inbox.watch_of(self._loop)
        self._watch.add(self)

    def unwatch(self) -> None:
        if self._watch is not None:
            self._watch.discard(self)
            self._watch = None

    async def wait(self, deadline: Optional[float]) -> None:
        """Returns after a wake, or at the deadline."""
        if self._watch is None:
            await self._sleep(deadline)
            return
        if self._watch.expects and await self._watch.linger(lambda: self._woken, deadline):
            self._woken = True
            return
        began = self._watch.wait_began()
        await self._sleep(deadline)
        self._watch.wait_ended(began)

    async def _sleep(self, deadline: Optional[float]) -> None:
        if self._woken:
            return
        self._future = self._loop.create_future()
        timer = None
        if deadline is not None:
            timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self.wake_here)
        try:
            await self._future
        finally:
            self._future = None
            if timer is not None:
                timer.cancel()


Waiter = Union[ThreadWaiter, TaskWaiter]


def run_blocking(steps: Callable[[Waiter], Steps[T]]) -> T:
    """Runs steps in this thread."""
    waiter = ThreadWaiter()
    generator = steps(waiter)
    try:
        while True:
            waiter.wait(next(generator))
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        generator.close()
        waiter.close()


async def run_async(steps: Callable[[Waiter], Steps[T]]) -> T:
    """Runs steps in this task."""
    waiter = TaskWaiter(asyncio.get_running_loop())
    generator = steps(waiter)
    try:
        while True:
            try:
                deadline = next(generator)
            except StopIteration as end:
                result: T = end.value
                return result
            await waiter.wait(deadline)
    finally:
        generator.close()


class LoopWatch:
    """Watches the message descriptor for the tasks of one event loop; an event loop takes one reader per descriptor."""

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int, look: Callable[[int], int]) -> None:
        """``look`` is peerbus_look of the node."""
        self._loop = loop
        self._descriptor = os.dup(descriptor)
        self._look = look
        self._waiters: List[TaskWaiter] = []
        self._reading = False
        self.expects = False
        """The last wait for a message was so short that the next one may be, too."""
        self._lingered_from: Optional[float] = None

    async def linger(self, ended: Callable[[], bool], deadline: Optional[float]) -> bool:
        """Looks for a message, in turn with the other tasks and with whoever wants the processor, instead of sleeping: being
        woken takes longer than most answers of a peer nearby. Whether there is something to take, or ``ended``."""
        began = time.monotonic()
        until = began + _LINGER_S if deadline is None else min(began + _LINGER_S, deadline)
        look, found = self._look, 0
        try:
            while not ended():
                found = look(1)
                if found:  # or an error, which who takes meets as well
                    return True
                if time.monotonic() >= until:
                    self.expects, self._lingered_from = False, began
                    return False
                await asyncio.sleep(0)
            return True
        finally:
            if not found:
                look(0)

    def wait_began(self) -> float:
        """When a wait began that may have begun with ``linger``."""
        began, self._lingered_from = self._lingered_from, None
        return time.monotonic() if began is None else began

    def wait_ended(self, began: float) -> None:
        self.expects = _lingers and time.monotonic() - began < _LINGER_S

    def add(self, waiter: TaskWaiter) -> None:
        self._waiters.append(waiter)
        if not self._reading:
            self._loop.add_reader(self._descriptor, self._readable)
            self._reading = True

    def discard(self, waiter: TaskWaiter) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def _readable(self) -> None:
        # The reader stays registered between two waits, which saves system calls; it goes when messages wait unwanted.
        for waiter in self._waiters:
            if not waiter.woken:
                waiter.wake_here()
                return
        if not self._waiters:
            self._stop()

    def _stop(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._descriptor)
            self._reading = False

    def _finish(self) -> None:
        if not self._loop.is_closed():
            self._stop()
        os.close(self._descriptor)

    def close(self) -> None:
        """From any thread. The descriptor is closed where the loop cannot be selecting on it."""
        if self._loop.is_running():
            with contextlib.suppress(RuntimeError):  # closed in this very moment
                self._loop.call_soon_threadsafe(self._finish)
                return
        self._finish()

    @property
    def abandoned(self) -> bool:
        return self._loop.is_closed()


def _after_fork() -> None:
    global _signals
    while _bells:
        _bells.pop().close()
    _signals = None  # the parent reads that pipe


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
