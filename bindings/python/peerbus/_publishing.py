"""Publishing on topics: one message or many in one call."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, ClassVar, List, Sequence

from . import _errors, _library
from ._buffers import Payload, Pinned, Slice
from ._waiting import Steps, Waiter
from ._workers import start_call

if TYPE_CHECKING:
    from ._core import Live

_CHUNK = 4096  # messages of one call into the library


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


class _Publication(ctypes.Structure):
    """peerbus_publication"""

    _fields_: ClassVar = [("id", ctypes.c_uint64), ("peers", ctypes.c_uint64), ("missed", ctypes.c_uint64)]


def _slice(pinned: Pinned) -> Slice:
    pointer = pinned.pointer
    if isinstance(pointer, bytes):
        return Slice(ctypes.cast(ctypes.c_char_p(pointer), ctypes.c_void_p), pinned.size)
    return Slice(pointer, pinned.size)


def _call(live: Live, name: bytes, payloads: Sequence[Pinned], timeout_ms: int) -> List[Publication]:
    count = len(payloads)
    given = (Slice * count)(*map(_slice, payloads))
    answers = (_Publication * count)()
    published = live.native.c.peerbus_publish_batch(live.instance, name, given, count, timeout_ms, answers)
    live.native.check(published)
    return [Publication(answer.peers, answer.id, answer.missed) for answer in answers[:published]]


def try_publish(live: Live, name: bytes, data: Payload) -> List[Publication]:
    """Publishes if that needs no waiting; else an empty list."""
    with Pinned(data) as payload:
        try:
            return _call(live, name, [payload], 0)
        except _errors.WouldBlockError:
            return []


def publish_many(
    live: Live, waiter: Waiter, name: bytes, payloads: Sequence[Payload], timeout: float
) -> Steps[List[Publication]]:
    """Steps that publish the messages in order, in a worker thread. An error says how many were published before it."""
    timeout_ms = _library.milliseconds(timeout)
    # Copied: the worker may still read them when the wait is left and the host changes its buffers.
    copies = [data if isinstance(data, bytes) else bytes(memoryview(data)) for data in payloads]

    def work() -> List[Publication]:
        done: List[Publication] = []
        while len(done) < len(copies):
            chunk = [Pinned(data) for data in copies[len(done) : len(done) + _CHUNK]]
            try:
                done += _call(live, name, chunk, timeout_ms)
            except _errors.PeerbusError as error:
                error.args = (f"{error} ({len(done)} of {len(copies)} messages were published)", *error.args[1:])
                raise
        return done

    published = yield from start_call(work).wait(waiter)
    assert isinstance(published, list)
    return published
