"""Searches for peers, for threads and for asyncio."""

from __future__ import annotations

from typing import Any, AsyncIterator, Callable, Dict, Iterator, List, NamedTuple, Optional, Set

from . import _library
from ._events import Event, Events
from ._waiting import Steps, Waiter, deadline_after, run_async, run_blocking

_GRACE_S = 5.0  # what a search may take after its deadline


class FoundPeer(NamedTuple):
    """A peer that a search found."""

    peer_id: str
    addresses: List[str]
    """Each with ``/p2p/<peer id>``, as ``Node.connect`` takes them; empty if nobody knows one now."""
    source: str
    """``"dht"`` or ``"mdns"``: who reported it first."""


def _peer_of(fields: Dict[str, Any]) -> FoundPeer:
    return FoundPeer(str(fields["peer"]), [str(address) for address in fields["addresses"]], str(fields["source"]))


class _Search:
    """One FindPeers. Its end names every found peer, so that events which a full queue lost are made up for."""

    def __init__(self, events: Callable[[], Events], name: str, limit: int, timeout: float) -> None:
        self._events = events()
        self._arguments = (_library.encode(name, "the name"), limit, timeout)
        self._deadline = deadline_after(timeout + _GRACE_S)
        self._operation: Any = None
        self._reported: Set[str] = set()
        self._rest: Optional[List[FoundPeer]] = None  # at the end: what no event reported

    def next_steps(self, waiter: Waiter) -> Steps[Optional[FoundPeer]]:
        if self._operation is None:
            self._operation = self._events.search(waiter, *self._arguments)
        if self._rest is None:
            event: Optional[Event] = yield from self._events.next_found(waiter, self._operation, self._deadline)
            if event is not None:
                self._reported.add(str(event["peer"]))
                return _peer_of(event)
            self._rest = [_peer_of(each) for each in self._operation.message["peers"] if each["peer"] not in self._reported]
        return self._rest.pop(0) if self._rest else None

    def close(self) -> None:
        if self._operation is not None:
            self._events.leave(self._operation)


async def search_async(events: Callable[[], Events], name: str, limit: int, timeout: float) -> AsyncIterator[FoundPeer]:
    """The peers as they are found."""
    search = _Search(events, name, limit, timeout)
    try:
        while True:
            found = await run_async(search.next_steps)
            if found is None:
                return
            yield found
    finally:
        search.close()


def search_blocking(events: Callable[[], Events], name: str, limit: int, timeout: float) -> Iterator[FoundPeer]:
    """The peers as they are found."""
    search = _Search(events, name, limit, timeout)
    try:
        while True:
            found = run_blocking(search.next_steps)
            if found is None:
                return
            yield found
    finally:
        search.close()
