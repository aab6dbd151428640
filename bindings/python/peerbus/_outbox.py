"""Senders that found no room: one line per channel, served in the order they came."""

from __future__ import annotations

import threading
from collections import deque
from typing import Callable, Deque, Dict, List, Optional

from . import _errors
from ._waiting import Steps, Waiter, passed


class Outbox:
    """The lines of one node. A sender joins before it tries again, so the "writable" event in between is not missed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.lines: Dict[str, Deque[Waiter]] = {}
        """By channel. Who finds one with a line must join behind it."""

    def blocked(self, channel: str) -> bool:
        """Whether senders of this channel wait."""
        return channel in self.lines

    @property
    def crowded(self) -> bool:
        """Whether senders of any channel wait."""
        return bool(self.lines)

    def send(self, waiter: Waiter, channel: str, attempt: Callable[[], bool], deadline: Optional[float]) -> Steps[None]:
        """Steps that repeat the attempt, in turn, until it succeeds. Raises WouldBlockError at the deadline."""
        self._join(channel, waiter)
        try:
            while True:
                waiter.clear()
                if self._first(channel) is waiter and attempt():
                    return
                if passed(deadline):
                    raise _errors.WouldBlockError(f"no room on {channel} before the timeout; nothing was sent")
                yield deadline
        finally:
            self._leave(channel, waiter)

    def writable(self, channel: str) -> None:
        """The library has room on that channel again."""
        with self._lock:
            line = self.lines.get(channel)
            first = line[0] if line else None
        if first is not None:
            first.wake()

    def wake_all(self) -> None:
        """Everybody first in line tries again: events were lost, or the node closed."""
        with self._lock:
            waiters: List[Waiter] = [waiter for line in self.lines.values() for waiter in line]
        for waiter in waiters:
            waiter.wake()

    def _first(self, channel: str) -> Optional[Waiter]:
        with self._lock:
            line = self.lines.get(channel)
            return line[0] if line else None

    def _join(self, channel: str, waiter: Waiter) -> None:
        with self._lock:
            self.lines.setdefault(channel, deque()).append(waiter)

    def _leave(self, channel: str, waiter: Waiter) -> None:
        with self._lock:
            line = self.lines[channel]
            line.remove(waiter)
            following = line[0] if line else None
            if following is None:
                del self.lines[channel]
        if following is not None:
            following.wake()
