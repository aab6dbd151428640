"""One pool set of the library: its calls as values and exceptions, and what may wait as steps."""

from __future__ import annotations

import contextlib
import ctypes
import json
import weakref
from typing import Any, List, Mapping, Optional

from . import _buffers, _errors, _library
from ._buffers import Message, Payload, Pinned
from ._core import Live
from ._waiting import run_async
from ._workers import run_interruptible, start_call


class NativeSet:
    """A pool set, from its creation to ``close``, which also happens when nobody refers to it any more."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._library = _library.load()
        answer = self._library.control(self._library.c.CreatePools, as_json(config, "the configuration"))
        self.number = int(answer["pools"])
        self.budget = int(config["max_connections"])
        self.capacities = {str(pool["name"]): int(pool["capacity"]) for pool in answer["capacities"]}
        self._finalizer = weakref.finalize(self, _close_later, self._library, self.number)
        self._finalizer.atexit = False  # type: ignore[misc]

    def close(self) -> None:
        """Closes the set; its nodes stay open. Blocks while a refused peer is being disconnected, at most 10 s."""
        self._finalizer.detach()
        _library.refuse_fork()
        run_interruptible(lambda: self._library.control(self._library.c.ClosePools, self.number))

    # Control

    def call(self, function: str, *arguments: Any) -> Any:
        """A control function that does not wait; texts are encoded."""
        encoded = [_library.encode(one, "an argument") if isinstance(one, str) else one for one in arguments]
        _library.refuse_fork()
        return self._library.control(getattr(self._library.c, function), self.number, *encoded)

    async def operate(self, live: Live, network: str, function: str, argument: str, timeout: float) -> Any:
        """StartPoolsOperation, carried by a node of the set. A task that is cancelled cancels it."""
        texts = [_library.encode(text, "an argument") for text in (network, function, argument)]
        start, timeout_ms = self._library.c.StartPoolsOperation, _library.milliseconds(timeout)
        return await run_async(lambda waiter: live.events.run(waiter, timeout, start, self.number, *texts, timeout_ms))

    def ask(self, query: str, **arguments: Any) -> Any:
        """PoolsQuery; arguments that are None are left out. None for Empty."""
        given = {name: value for name, value in arguments.items() if value is not None}
        return self.call("PoolsQuery", query, as_json(given, query))

    def change(self, setting: str, value: Any) -> None:
        """PoolsSet."""
        self.call("PoolsSet", setting, as_json(value, setting))

    # Messages

    def send(self, peer_id: str, trail: str, content_type: str, field: int, data: Payload, network: Optional[str]) -> None:
        """peerbus_pools_send without a wait. WouldBlockError: there is no room."""
        texts = [_library.encode(text, "an argument") for text in (peer_id, trail, content_type)]
        named = None if network is None else _library.encode(network, "network")
        _library.refuse_fork()
        send = self._library.c.peerbus_pools_send
        with Pinned(data) as payload:
            self._library.check(send(self.number, *texts, field, payload.pointer, payload.size, named, 0))

    def publish(self, peer_id: str, channel: str, content_type: str, field: int, data: Payload, timeout_ms: int) -> int:
        """peerbus_pools_publish; the number of connected subscribers."""
        texts = [_library.encode(text, "an argument") for text in (peer_id, channel, content_type)]
        _library.refuse_fork()
        publish = self._library.c.peerbus_pools_publish
        with Pinned(data) as payload:
            return self._library.check(publish(self.number, *texts, field, payload.pointer, payload.size, timeout_ms))

    def receive(self, network: str, most: int, most_bytes: int) -> List[Message]:
        """peerbus_pools_receive of what waits now, of all channels."""
        batch = ctypes.c_void_p()
        name = _library.encode(network, "network")
        _library.refuse_fork()
        receive = self._library.c.peerbus_pools_receive
        count = receive(self.number, name, None, most, most_bytes, 0, ctypes.byref(batch))
        if count > 0:
            assert batch.value is not None
            return _buffers.messages(self._library, batch.value)
        if count != _errors.INTERRUPTED:
            self._library.check(count)
        return []


def as_json(value: Any, what: str) -> bytes:
    """JSON for the library. Raises ValueError for what JSON cannot hold."""
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _errors.InvalidArgumentError(f"{what}: {error}") from error


def _close_later(library: _library.Library, number: int) -> None:
    if _library._state.forked:
        return

    def close() -> None:
        with contextlib.suppress(_errors.PeerbusError):  # closed meanwhile, or the library is gone
            library.control(library.c.ClosePools, number)

    with contextlib.suppress(RuntimeError):  # no threads any more: the interpreter ends
        start_call(close)
