"""What is done for each single message: by the accelerator, or through ctypes where it is missing.

None of these calls waits for room, but for publish_many. A negative result is a code of the library, whose text the same thread
may then ask for."""

from __future__ import annotations

import ctypes
from typing import Any, Callable, ClassVar, List, Optional, Protocol, Sequence, Tuple, Union

from . import _errors
from ._buffers import Message, Payload, Pinned
from ._compiled import accelerator
from ._packing import Packed

_BARE_BYTES = 2**31 - 1  # what a payload passed to a bare function may have
_reference = ctypes.byref


class Calls(Protocol):
    def send(self, instance: int, channel: bytes, data: Payload) -> int:
        """peerbus_send. 0 or a code."""

    def channel_send(self, instance: int, handle: int, data: Payload) -> int:
        """peerbus_channel_send. The id of the message or a code."""

    def channel_send_many(
        self, instance: int, handle: int, payloads: Sequence[Payload], first: int, count: int
    ) -> Union[int, Tuple[int, int]]:
        """peerbus_channel_send_batch of ``payloads[first : first + count]``. How many were taken and the first one's id, or a
        code."""

    def publish(self, instance: int, channel: bytes, data: Payload) -> Union[int, Tuple[int, int, int]]:
        """peerbus_publish_batch of one message. The id, peers and missed of its publication, or a code."""

    def publish_many(
        self, instance: int, channel: bytes, payloads: Sequence[Payload], first: int, count: int, timeout_ms: int
    ) -> Union[int, bytes]:
        """peerbus_publish_batch of ``payloads[first : first + count]``, which waits for room. What it wrote for those that were
        published, or a code."""

    def messages(self, batch: int) -> Optional[List[Message]]:
        """The messages of a batch, which then belongs to them. None, and the batch still the caller's, if this implementation
        leaves it to ``_buffers.messages``."""


class _Id:
    """Where the library writes a message id."""

    __slots__ = ("number", "reference")

    def __init__(self) -> None:
        self.number = ctypes.c_uint64()
        self.reference = _reference(self.number)


class _Bytes(ctypes.Structure):
    """peerbus_slice of a bytes object, which it keeps"""

    _fields_: ClassVar = [("data", ctypes.c_char_p), ("size", ctypes.c_size_t)]


class _Publication(ctypes.Structure):
    """peerbus_publication"""

    _fields_: ClassVar = [("id", ctypes.c_uint64), ("peers", ctypes.c_uint64), ("missed", ctypes.c_uint64)]


class CtypesCalls:
    """bytes go the short way: functions without declared argument types take half the time of a call, but take only int, bytes
    and references, and an int travels as a C int, so that a size must be at most _BARE_BYTES."""

    def __init__(self, c: ctypes.CDLL) -> None:
        self._c = c
        self._send, self._channel_send = _bare(c, "peerbus_send"), _bare(c, "peerbus_channel_send")
        self._publish = _bare(c, "peerbus_publish_batch")
        self._ids: List[_Id] = []  # that no call uses

    def send(self, instance: int, channel: bytes, data: Payload) -> int:
        if type(data) is bytes and len(data) <= _BARE_BYTES:
            return self._send(instance, channel, data, len(data), 0)
        with Pinned(data) as payload:
            result: int = self._c.peerbus_send(instance, channel, payload.pointer, payload.size, 0)
            return result

    def channel_send(self, instance: int, handle: int, data: Payload) -> int:
        try:
            id = self._ids.pop()  # of two threads that send each has its own
        except IndexError:
            id = _Id()
        if type(data) is bytes and len(data) <= _BARE_BYTES:
            result = self._channel_send(instance, handle, data, len(data), 0, id.reference)
        else:
            with Pinned(data) as payload:
                result = self._c.peerbus_channel_send(
                    instance, handle, payload.pointer, payload.size, 0, id.reference
                )
        number = id.number.value
        self._ids.append(id)
        return result or number

    def channel_send_many(
        self, instance: int, handle: int, payloads: Sequence[Payload], first: int, count: int
    ) -> Union[int, Tuple[int, int]]:
        id = ctypes.c_uint64()
        with Packed(payloads[first : first + count]) as packed:
            result: int = self._c.peerbus_channel_send_batch(
                instance, handle, packed.slices_from(0), packed.count, 0, _reference(id)
            )
        return result if result < 0 else (result, id.value)

    def publish(self, instance: int, channel: bytes, data: Payload) -> Union[int, Tuple[int, int, int]]:
        out = _Publication()
        if type(data) is bytes:
            result = self._publish(instance, channel, _reference(_Bytes(data, len(data))), 1, 0, _reference(out))
        else:
            with Packed([data]) as packed:
                result = self._c.peerbus_publish_batch(instance, channel, packed.slices_from(0), 1, 0, _reference(out))
        return result if result < 0 else (out.id, out.peers, out.missed)

    def publish_many(
        self, instance: int, channel: bytes, payloads: Sequence[Payload], first: int, count: int, timeout_ms: int
    ) -> Union[int, bytes]:
        out = (_Publication * count)()
        with Packed(payloads[first : first + count]) as packed:
            result: int = self._c.peerbus_publish_batch(
                instance, channel, packed.slices_from(0), count, timeout_ms, ctypes.addressof(out)
            )
        return result if result < 0 else bytes(out)[: result * ctypes.sizeof(_Publication)]

    def messages(self, batch: int) -> Optional[List[Message]]:
        return None


def _bare(c: ctypes.CDLL, name: str) -> Callable[..., int]:
    function: Any = c[name]
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]


def calls_of(c: ctypes.CDLL, abi: int) -> Calls:
    """The calls of a loaded library. Raises LibraryError when the accelerator was built for another one."""
    if accelerator is None:
        return CtypesCalls(c)
    if abi != accelerator.ABI:
        raise _errors.LibraryError(
            f"{accelerator.__file__} was built for binary interface {accelerator.ABI} of the library, not {abi}; rebuild it"
        )
    names = (
        "batch_free", "send", "send_lent", "channel_send", "channel_send_lent", "channel_send_batch_lent",
        "publish_batch",
    )
    addresses = {name: _address(c, f"peerbus_{name}") for name in names}
    calls: Calls = accelerator.Calls(Message, **addresses)
    return calls


def _address(c: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(c, name), ctypes.c_void_p).value or 0
