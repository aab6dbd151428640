"""The slots of the library that nodes of this process live in."""

from __future__ import annotations

import threading
from collections import deque
from typing import Deque

from . import _errors, _library

_RESTING = 8  # released numbers that are not used again yet


class Slots:
    """Instance numbers, shared by every kind of node of this process.

    A few released numbers rest before they are used again, oldest first, so that a call that is just leaving a closed
    node does not meet a new one. Not more: the library keeps a descriptor per resting number."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._released: Deque[int] = deque()
        self._fresh = 0

    def take(self) -> int:
        total = _library.instances()
        with self._lock:
            if self._released and (len(self._released) > _RESTING or self._fresh >= total):
                return self._released.popleft()
            if self._fresh < total:
                self._fresh += 1
                return self._fresh - 1
        raise _errors.LimitError(f"all {total} nodes of this process are in use; close one, or initialize with more")

    def release(self, number: int) -> None:
        with self._lock:
            self._released.append(number)


slots = Slots()
