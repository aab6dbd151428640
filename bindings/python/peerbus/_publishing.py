"""Publishing on topics: one message or many in one call."""

from __future__ import annotations

import array
from contextlib import suppress
from typing import TYPE_CHECKING, Optional, Sequence, Union, overload

from . import _errors, _library
from ._buffers import Payload
from ._waiting import Steps, Waiter
from ._workers import start_call

if TYPE_CHECKING:
    from ._core import Live

_CHUNK = 4096  # messages of one call into the library
_CHUNK_AT_ONCE = 256  # without a worker thread: a signal is handled between two calls


class Publication(int):
    """How many connected subscribers there were when a message was published. ``id`` is the publisher's number of the
    message, which grows with each one, on any topic, and which receivers see as ``Message.id``. ``missed`` counts the known
    subscribers of a direct topic that it was not taken for; ``Node.topic_info`` says which and why."""

    id: int
    missed: int

    def __new__(cls, peers: int, id: int, missed: int = 0) -> Publication:
        publication = super().__new__(cls, peers)
        publication.id = id
        publication.missed = missed
        return publication

    def __repr__(self) -> str:
        return f"Publication(peers={int(self)}, id={self.id}, missed={self.missed})"


_WORDS = 3  # of 64 bits in a peerbus_publication
_new_int = int.__new__


def _publication(id: int, peers: int, missed: int) -> Publication:
    """A Publication without the call of its __new__, which would take longer than this."""
    publication = _new_int(Publication, peers)
    publication.id = id
    publication.missed = missed
    return publication


class Publications(Sequence[Publication]):
    """What became of messages that were published in one call, in their order; it equals a list of the same. Few programs
    look at more than their number, so that each Publication is made when it is asked for."""

    __slots__ = ("_words",)

    def __init__(self) -> None:
        self._words = array.array("Q")

    def add(self, publications: bytes) -> None:
        """Adds what the library wrote: an array of peerbus_publication."""
        self._words.frombytes(publications)

    def __len__(self) -> int:
        return len(self._words) // _WORDS

    @overload
    def __getitem__(self, index: int) -> Publication: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Publication]: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[Publication, Sequence[Publication]]:
        places = range(0, len(self._words), _WORDS)[index]
        if isinstance(places, range):
            return [_publication(*self._words[place : place + _WORDS]) for place in places]
        return _publication(*self._words[places : places + _WORDS])

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, (list, Publications)) else NotImplemented

    __hash__ = None  # type: ignore[assignment] # as a list has none

    def __repr__(self) -> str:
        return f"Publications({list(self)})"


def _publish_rest(live: Live, name: bytes, payloads: Sequence[Payload], done: Publications, most: int, timeout_ms: int) -> None:
    """Publishes what follows those that are done, at most so many in one call. An error says how many were published."""
    while len(done) < len(payloads):
        first = len(done)
        try:
            published = live.native.calls.publish_many(
                live.instance, name, payloads, first, min(len(payloads) - first, most), timeout_ms
            )
            if isinstance(published, int):
                live.native.check(published)
            else:
                done.add(published)
        except _errors.PeerbusError as error:
            error.args = (f"{error} ({len(done)} of {len(payloads)} messages were published)", *error.args[1:])
            raise


def try_publish(live: Live, name: bytes, data: Payload) -> Optional[Publication]:
    """Publishes if that needs no waiting; else None."""
    published = live.native.calls.publish(live.instance, name, data)
    if isinstance(published, tuple):
        return _publication(*published)
    if published != _errors.WOULD_BLOCK:
        live.native.check(published)
    return None


def try_publish_many(live: Live, name: bytes, payloads: Sequence[Payload]) -> Publications:
    """Publishes the first messages, until one needs waiting. An error says how many were published before it."""
    done = Publications()
    with suppress(_errors.WouldBlockError):
        _publish_rest(live, name, payloads, done, _CHUNK_AT_ONCE, 0)
    return done


def publish_many(
    live: Live, waiter: Waiter, name: bytes, payloads: Sequence[Payload], timeout: float, done: Optional[Publications] = None
) -> Steps[Publications]:
    """Steps that publish the messages in order, in a worker thread, but those that are done. An error says how many were
    published."""
    timeout_ms = _library.milliseconds(timeout)
    # Copied: the worker may still read them when the wait is left and the host changes its buffers.
    copies = [data if isinstance(data, bytes) else bytes(memoryview(data)) for data in payloads]

    def work() -> Publications:
        published = Publications() if done is None else done
        _publish_rest(live, name, copies, published, _CHUNK, timeout_ms)
        return published

    everything = yield from start_call(work).wait(waiter)
    assert isinstance(everything, Publications)
    return everything
