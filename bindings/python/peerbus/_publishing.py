"""Publishing on topics: one message or many in one call."""

from __future__ import annotations

import array
from contextlib import suppress
from typing import TYPE_CHECKING, List, Sequence

from . import _errors, _library
from ._buffers import Payload
from ._packing import Packed
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


_PUBLICATION_WORDS = 3  # of 64 bits
_new_int = int.__new__


def _publication(id: int, peers: int, missed: int) -> Publication:
    """A Publication without the call of its __new__, which would take longer than this."""
    publication = _new_int(Publication, peers)
    publication.id = id
    publication.missed = missed
    return publication


def _call(live: Live, name: bytes, packed: Packed, first: int, most: int, timeout_ms: int) -> List[Publication]:
    count = min(packed.count - first, most)
    answers = array.array("Q", bytes(8 * _PUBLICATION_WORDS * count))
    slices, address = packed.slices_from(first), answers.buffer_info()[0]
    published = live.native.c.peerbus_publish_batch(live.instance, name, slices, count, timeout_ms, address)
    live.native.check(published)
    del answers[_PUBLICATION_WORDS * published :]
    columns = (answers[word::_PUBLICATION_WORDS] for word in range(_PUBLICATION_WORDS))
    return list(map(_publication, *columns))


def _publish_rest(live: Live, name: bytes, packed: Packed, done: List[Publication], most: int, timeout_ms: int) -> None:
    """Publishes what follows those that are done, at most so many in one call. An error says how many were published."""
    while len(done) < packed.count:
        try:
            done += _call(live, name, packed, len(done), most, timeout_ms)
        except _errors.PeerbusError as error:
            error.args = (f"{error} ({len(done)} of {packed.count} messages were published)", *error.args[1:])
            raise


def try_publish(live: Live, name: bytes, data: Payload) -> List[Publication]:
    """Publishes if that needs no waiting; else an empty list."""
    published = live.native.calls.publish(live.instance, name, data)
    if isinstance(published, tuple):
        return [_publication(*published)]
    if published != _errors.WOULD_BLOCK:
        live.native.check(published)
    return []


def try_publish_many(live: Live, name: bytes, payloads: Sequence[Payload]) -> List[Publication]:
    """Publishes the first messages, until one needs waiting. An error says how many were published before it."""
    done: List[Publication] = []
    if payloads:
        with Packed(payloads) as packed, suppress(_errors.WouldBlockError):
            _publish_rest(live, name, packed, done, _CHUNK_AT_ONCE, 0)
    return done


def publish_many(
    live: Live, waiter: Waiter, name: bytes, payloads: Sequence[Payload], timeout: float, published: Sequence[Publication] = ()
) -> Steps[List[Publication]]:
    """Steps that publish the messages in order, in a worker thread, but those that were published before. An error says how
    many were."""
    timeout_ms = _library.milliseconds(timeout)
    # Copied: the worker may still read them when the wait is left and the host changes its buffers.
    copies = [data if isinstance(data, bytes) else bytes(memoryview(data)) for data in payloads]

    def work() -> List[Publication]:
        done = list(published)
        if copies:
            with Packed(copies) as packed:
                _publish_rest(live, name, packed, done, _CHUNK, timeout_ms)
        return done

    everything = yield from start_call(work).wait(waiter)
    assert isinstance(everything, list)
    return everything
