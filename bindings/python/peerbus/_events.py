"""Events of one node: a thread takes them from the library, ends operations and serves subscribers."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional

from . import _errors, _library
from ._channels import Deliveries
from ._outbox import Outbox
from ._waiting import Steps, Waiter, deadline_after, passed, run_async, run_blocking

Event = Dict[str, Any]
"""An event: ``"type"``, ``"time"`` (RFC 3339) and the fields that include/peerbus.h lists for its type."""

STREAM_EVENTS = 4096  # events that wait in one EventStream before further ones are counted as lost
_TAKEN_AT_ONCE = 256
_LONG_WAIT_MS = 86_400_000
_GRACE_S = 5.0  # what an operation may answer after its deadline before the host stops to believe in it

_log = logging.getLogger("peerbus")


class EventStream:
    """Events from the moment of its creation on. Iterate over it with ``for`` or ``async for``; it ends with the node.

    At most ``STREAM_EVENTS`` wait; what comes above that is lost to this stream and announced by an ``events_lost``
    event with the ``count``. Close it (or leave its ``with`` block) when it is no longer read."""

    def __init__(self, types: Optional[List[str]] = None) -> None:
        self._types = frozenset(types) if types is not None else None
        self._lock = threading.Lock()
        self._queue: Deque[Event] = deque()
        self._lost = 0
        self._waiters: List[Waiter] = []
        self._ended = False

    def _put(self, event: Event) -> None:
        if self._types is not None and event.get("type") not in self._types:
            return
        with self._lock:
            if self._ended:
                return
            if len(self._queue) >= STREAM_EVENTS:
                self._lost += 1
                return
            self._queue.append(event)
            waiters = list(self._waiters)
        for waiter in waiters:
            waiter.wake()

    def _take(self) -> Optional[Event]:
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            if self._lost:
                lost, self._lost = self._lost, 0
                return {"type": "events_lost", "count": lost}
            return None

    def next_steps(self, waiter: Waiter, deadline: Optional[float]) -> Steps[Optional[Event]]:
        """Steps that wait for the next event; None at the end of the stream."""
        with self._lock:
            self._waiters.append(waiter)
        try:
            while True:
                waiter.clear()
                event = self._take()
                if event is not None or self._ended:
                    return event
                if passed(deadline):
                    raise _errors.TimeoutError("no event came before the timeout")
                yield deadline
        finally:
            with self._lock:
                self._waiters.remove(waiter)

    def match_steps(self, waiter: Waiter, type: str, fields: Dict[str, Any], deadline: Optional[float]) -> Steps[Event]:
        """Steps that wait for the next event of that type with those fields, and drop the others."""
        while True:
            event = yield from self.next_steps(waiter, deadline)
            if event is None:
                raise _errors.ClosedError(f"the node was closed while waiting for {type}")
            if event.get("type") == type and all(event.get(name) == value for name, value in fields.items()):
                return event

    async def wait_for(self, type: str, *, timeout: Optional[float] = None, **fields: Any) -> Event:
        """The next event of that type whose fields have those values; events before it are dropped.

        ``timeout`` in seconds, None: until the node closes. Raises TimeoutError, ClosedError."""
        deadline = deadline_after(timeout)
        return await run_async(lambda waiter: self.match_steps(waiter, type, fields, deadline))

    def wait_for_blocking(self, type: str, *, timeout: Optional[float] = None, **fields: Any) -> Event:
        """``wait_for`` for threads."""
        deadline = deadline_after(timeout)
        return run_blocking(lambda waiter: self.match_steps(waiter, type, fields, deadline))

    def close(self) -> None:
        """Ends the stream: waiting events can still be read, new ones do not come."""
        with self._lock:
            self._ended = True
            waiters = list(self._waiters)
        for waiter in waiters:
            waiter.wake()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = run_blocking(lambda waiter: self.next_steps(waiter, None))
        if event is None:
            raise StopIteration
        return event

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        event = await run_async(lambda waiter: self.next_steps(waiter, None))
        if event is None:
            raise StopAsyncIteration
        return event


class _Operation:
    """A control function that runs inside the library."""

    __slots__ = ("done", "error", "message", "number", "progress", "waiter")

    def __init__(self, waiter: Waiter) -> None:
        self.waiter = waiter
        self.progress: Deque[Event] = deque()  # events of a running search
        self.number = -1
        self.done = False
        self.message: Any = None
        self.error: Optional[_errors.PeerbusError] = None

    def progressed(self, event: Event) -> None:
        self.progress.append(event)
        self.waiter.wake()

    def finish(self, message: Any, error: Optional[_errors.PeerbusError]) -> None:
        self.message, self.error = message, error
        self.done = True
        self.waiter.wake()


class Events:
    """The event thread of one node and what it serves. It knows nothing of the node object, which can so be collected."""

    def __init__(self, library: _library.Library, instance: int, outbox: Outbox, reachability: str) -> None:
        self._library = library
        self._instance = instance
        self._outbox = outbox
        self.deliveries = Deliveries()
        self._lock = threading.Lock()
        self._operations: Dict[int, _Operation] = {}
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._end: Optional[_errors.PeerbusError] = None
        self._callbacks: List[Callable[[Event], object]] = []
        self._dispatcher: Optional[threading.Thread] = None
        self.counts: Dict[str, int] = {}
        self.reachability = reachability
        self.thread = threading.Thread(target=self._run, name=f"peerbus-events-{instance}", daemon=True)
        self.thread.start()

    def operate(self, waiter: Waiter, function: bytes, argument: bytes, timeout: float) -> Steps[Any]:
        """Steps that run a control function in the background of the library; leaving them early cancels it."""
        start = self._library.c.StartOperation
        return self.run(waiter, timeout, start, self._instance, function, argument, _library.milliseconds(timeout))

    def run(self, waiter: Waiter, timeout: float, start: Callable[..., Optional[int]], *arguments: Any) -> Steps[Any]:
        """Steps that run what a control function of this node starts in the background; leaving them early cancels it."""
        operation = _Operation(waiter)
        self.begin(operation, start, *arguments)
        deadline = deadline_after(timeout + _GRACE_S)
        try:
            while not operation.done:
                waiter.clear()
                if operation.done:
                    break
                if passed(deadline):
                    raise _errors.TimeoutError(f"no answer within {timeout} s")
                yield deadline
        finally:
            self.leave(operation)
        if operation.error is not None:
            raise operation.error
        return operation.message

    def search(self, waiter: Waiter, name: bytes, limit: int, timeout: float) -> _Operation:
        """Starts a FindPeers, to be read with ``next_found`` and ended with ``leave``."""
        operation = _Operation(waiter)
        self.begin(operation, self._library.c.FindPeers, self._instance, name, limit, _library.milliseconds(timeout))
        return operation

    def next_found(self, waiter: Waiter, operation: _Operation, deadline: Optional[float]) -> Steps[Optional[Event]]:
        """Steps that wait for the next progress of a search; None at its end."""
        operation.waiter = waiter
        while True:
            waiter.clear()
            if operation.progress:
                return operation.progress.popleft()
            if operation.done:
                if operation.error is not None:
                    raise operation.error
                return operation.progress.popleft() if operation.progress else None
            if passed(deadline):
                raise _errors.TimeoutError("the search gave no answer within its timeout")
            yield deadline

    def open_stream(self, types: Optional[List[str]] = None) -> EventStream:
        """A new subscriber."""
        stream = EventStream(types)
        with self._lock:
            if self._end is None:
                self._streams.add(stream)
                return stream
        stream.close()
        return stream

    def call_back(self, callback: Callable[[Event], object]) -> Callable[[], None]:
        """Calls the function with every later event, on one thread that all callbacks of the node share."""
        stream = self.open_stream()
        with self._lock:
            self._callbacks = [*self._callbacks, callback]
            first = self._dispatcher is None
            if first:
                self._dispatcher = threading.Thread(
                    target=self._dispatch, args=(stream,), name="peerbus-callbacks", daemon=True
                )
                self._dispatcher.start()
        if not first:
            stream.close()

        def remove() -> None:
            with self._lock:
                self._callbacks = [other for other in self._callbacks if other is not callback]

        return remove

    def report(self, event: Event) -> None:
        """Tells the subscribers of something that happened on this side of the library."""
        self._count(event)
        self._pass_on(event)

    def finish(self, error: _errors.PeerbusError) -> None:
        """Ends everything that waits for events. The first reason stays."""
        with self._lock:
            if self._end is None:
                self._end = error
            operations, self._operations = list(self._operations.values()), {}
            streams = list(self._streams)
        for operation in operations:
            operation.finish(None, type(error)(str(error)))
        for stream in streams:
            stream.close()
        self._outbox.wake_all()
        self.deliveries.wake_all()

    def begin(self, operation: _Operation, start: Callable[..., Optional[int]], *arguments: Any) -> None:
        """Calls a control function that starts an operation."""
        with self._lock:  # the end may be reported before the number is known here
            if self._end is not None:
                raise type(self._end)(str(self._end))
            operation.number = self._library.control(start, *arguments)["operation"]
            self._operations[operation.number] = operation

    def leave(self, operation: _Operation) -> None:
        """Cancels the operation unless it has ended."""
        if operation.done:
            return
        with self._lock:
            self._operations.pop(operation.number, None)
        with contextlib.suppress(_errors.NotFoundError, _errors.ClosedError, _errors.NoNodeError):  # it has just ended
            self._library.control(self._library.c.CancelOperation, self._instance, operation.number)

    def _run(self) -> None:
        pop = self._library.c.PopEvents
        while True:
            try:
                for event in self._library.control(pop, self._instance, _TAKEN_AT_ONCE, _LONG_WAIT_MS) or ():
                    self._handle(event)
            except _errors.InterruptedError:
                continue
            except _errors.PeerbusError as error:
                self.finish(error)
                return
            except Exception as error:  # without this thread every operation would wait for its deadline
                _log.exception("the event thread of node %d failed", self._instance)
                self.finish(_errors.InternalError(f"the event thread failed: {error!r}"))
                return

    def _handle(self, event: Event) -> None:
        kind = self._count(event)
        if kind == "operation":
            self._end_operation(event)
            return
        if kind == "peer_found":
            with self._lock:
                search = self._operations.get(int(event["operation"]))
            if search is not None:
                search.progressed(event)
        if kind == "writable":
            self._outbox.writable(str(event.get("channel")))
        elif kind == "delivery":
            self.deliveries.news(str(event.get("channel")))
        elif kind == "events_lost":
            self._outbox.wake_all()  # a "writable" may be among them
            self.deliveries.wake_all()
        elif kind == "reachability":
            self.reachability = str(event.get("reachability"))
        self._pass_on(event)

    def _count(self, event: Event) -> str:
        kind = str(event.get("type"))
        with self._lock:
            self.counts[kind] = self.counts.get(kind, 0) + 1
        return kind

    def _pass_on(self, event: Event) -> None:
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream._put(event)

    def _end_operation(self, event: Event) -> None:
        with self._lock:
            operation = self._operations.pop(int(event["operation"]), None)
        if operation is None:
            return  # cancelled meanwhile, or started by other code of this process
        try:
            operation.finish(_library.unwrap(event["result"]), None)
        except _errors.PeerbusError as error:
            operation.finish(None, error)

    def _dispatch(self, stream: EventStream) -> None:
        for event in stream:
            for callback in self._callbacks:
                try:
                    callback(event)
                except Exception:
                    _log.exception("the callback %r failed on a %s event", callback, event.get("type"))
