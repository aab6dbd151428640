"""Long calls in worker threads: what cannot be interrupted in C is waited for here, in both styles."""

from __future__ import annotations

import os
import threading
from typing import Callable, List, Optional, TypeVar

from ._waiting import Steps, Waiter, run_blocking

T = TypeVar("T")
_WORKER_IDLE_S = 10.0  # how long a worker without work stays


class Call:
    """A function that runs in a worker thread, because it takes long and cannot be interrupted."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._waiters: List[Waiter] = []
        self._result: object = None
        self._error: Optional[BaseException] = None
        self._unwanted: Optional[Callable[[object], object]] = None
        self.done = False

    def run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error
        with self._lock:
            self.done = True
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.wake()
        if self._unwanted is not None and self._error is None:
            self._unwanted(self._result)

    def abandon(self, unwanted: Callable[[object], object]) -> None:
        """Nobody waits for the result any more; ``unwanted`` gets it, now or when it is there."""
        with self._lock:
            if not self.done:
                self._unwanted = unwanted
                return
        if self._error is None:
            unwanted(self._result)

    def wait(self, waiter: Waiter) -> Steps[object]:
        """Steps that wait for the end. Several may; the function goes on when they are cancelled."""
        with self._lock:
            if not self.done:
                self._waiters.append(waiter)
        while not self.done:
            waiter.clear()
            if not self.done:
                yield None
        if self._error is not None:
            raise self._error
        return self._result


class _Worker:
    def __init__(self, call: Call) -> None:
        self._call: Optional[Call] = call
        self._ready = threading.Semaphore(0)
        threading.Thread(target=self._run, name="peerbus-worker", daemon=True).start()

    def give(self, call: Call) -> None:
        self._call = call
        self._ready.release()

    def _run(self) -> None:
        while self._call is not None:
            self._call.run()
            self._call = None
            with _workers.lock:
                _workers.idle.append(self)
            if not self._ready.acquire(timeout=_WORKER_IDLE_S):
                with _workers.lock:
                    if self in _workers.idle:
                        _workers.idle.remove(self)
                        return
                self._ready.acquire()  # a call was given in the last moment


class _Workers:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle: List[_Worker] = []


_workers = _Workers()


def start_call(function: Callable[[], object]) -> Call:
    """Runs the function in a daemon thread."""
    call = Call(function)
    with _workers.lock:
        worker = _workers.idle.pop() if _workers.idle else None
    if worker is None:
        _Worker(call)
    else:
        worker.give(call)
    return call


def run_interruptible(function: Callable[[], T]) -> T:
    """Calls a long C function so that Ctrl-C works: signals reach only the main thread, so only there a worker is needed."""
    if threading.current_thread() is not threading.main_thread():
        return function()
    result: T = run_blocking(start_call(function).wait)  # type: ignore[assignment]
    return result


def _after_fork() -> None:
    global _workers
    _workers = _Workers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
