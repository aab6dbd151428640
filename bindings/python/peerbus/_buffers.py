"""Payloads across the border without copying: any buffer in, read-only memoryviews of a received batch out."""

from __future__ import annotations

import ctypes
import struct
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Dict, List, Optional, Tuple, Type, Union

from ._compiled import accelerator

if sys.maxsize < 2**63 - 1:
    raise ImportError("peerbus needs a 64-bit Python")

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._accelerator import Record
    from ._confirm import Confirmer
    from ._library import Library

    Payload = Union[bytes, bytearray, memoryview, Buffer]
    """What can be sent: bytes, bytearray, memoryview, a NumPy array, anything with the buffer protocol."""
else:
    Payload = Any

    if accelerator is not None:
        Record = accelerator.Record
    else:

        class Record:
            """The fields of a received message."""

            __slots__ = ("channel", "data", "gap", "id", "inspector", "node_id", "protocol", "sender")

            def __bytes__(self) -> bytes:
                return bytes(self.data)

            def __len__(self) -> int:
                return len(self.data)


class _PyBuffer(ctypes.Structure):
    """Py_buffer of CPython, whose layout is part of the stable ABI."""

    _fields_: ClassVar = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


_SIMPLE = 0  # PyBUF_SIMPLE: contiguous, read-only suffices
_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int]
_get_buffer.restype = ctypes.c_int
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = [ctypes.POINTER(_PyBuffer)]
_release_buffer.restype = None


class Pinned:
    """A payload held in place: ``pointer`` and ``size`` are what the C function takes, until the with block ends;
    ``data`` is the object that is held.

    Arrays with gaps between their elements are the one kind that must be copied first (in C order)."""

    __slots__ = ("_buffer", "data", "pointer", "size")

    pointer: Union[bytes, int]

    def __init__(self, data: Payload) -> None:
        self._buffer: Optional[_PyBuffer] = None
        self.data = data
        if isinstance(data, bytes):
            self.pointer, self.size = data, len(data)
            return
        if isinstance(data, str):
            raise TypeError("a payload is bytes, not str; encode the text first")
        if not memoryview(data).c_contiguous:
            self.data = memoryview(data).tobytes()
        buffer = _PyBuffer()
        _get_buffer(self.data, ctypes.byref(buffer), _SIMPLE)
        self._buffer = buffer
        self.size = buffer.len
        self.pointer = buffer.buf or b""  # an empty buffer may have no address, and NULL is an error

    def __enter__(self) -> Pinned:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._buffer is not None:
            _release_buffer(ctypes.byref(self._buffer))
            self._buffer = None


class Slice(ctypes.Structure):
    """peerbus_slice"""

    _fields_: ClassVar = [("data", ctypes.c_void_p), ("size", ctypes.c_size_t)]


class Message(Record):
    """One received message.

    ``data`` is a read-only memoryview of memory that the library filled; it stays valid as long as somebody holds it,
    also after the node is closed. It may keep the whole batch in memory that it came with (at most about 8 MiB and the
    message itself): take ``bytes(message)`` of what is to be kept for long.
    """

    __slots__ = ()

    def __init__(
        self,
        sender: str,
        channel: str,
        data: memoryview,
        protocol: str,
        gap: int,
        id: int = 0,
        node_id: Optional[str] = None,
        inspector: bool = False,
    ) -> None:
        self.sender = sender
        """Peer id of the sender, proved by the connection or by the signature of the topic message."""
        self.channel = channel
        """The channel it was sent on."""
        self.data = data
        """The payload."""
        self.protocol = protocol
        """What it came by, e.g. ``"/peerbus/channel/1.0.0"``, ``"/unaiverse/chat/1.0.0"`` or ``"/meshsub/1.2.0"``."""
        self.gap = gap
        """Messages of this channel that this node dropped right before this one (its queue was full)."""
        self.id = id
        """The sender's number of the message (``Publication.id`` of a topic message); 0 when the protocol has none."""
        self.node_id = node_id
        """Of the sender, from the token that the message carries; None unless pools verified it."""
        self.inspector = inspector
        """Pools found that the sender is the configured inspector and speaks as such."""

    redelivered = False
    """An earlier process of this node may have received it, too. Only messages of durable channels are."""

    @property
    def durable(self) -> bool:
        """Its sender keeps it until it is confirmed; it comes again after a restart of this process."""
        return False

    def confirm(self) -> None:
        """Says that the program is done with a message of a durable channel: it never comes again, and its sender learns
        that it was taken. Returns when the disk has it, which takes some milliseconds; ``Node.confirm`` takes many at once,
        and does not hold up an event loop. Other messages need nothing.

        Raises StoreError: it may come again; ClosedError once the node is closed."""

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Message of {len(self)} bytes on {self.channel} from {self.sender}>"


class _AddressSpace(ctypes.c_ubyte * sys.maxsize):  # type: ignore[misc]
    """Memory as one array that starts at address 1, and owner of one batch.

    Slices of its memoryview are payloads wherever they lie; each keeps this object, and the object's end frees the
    batch. One array type of one length, because ctypes keeps every array type for ever."""

    __slots__ = ("batch", "free")

    batch: int
    free: Callable[[int], None]

    def __del__(self) -> None:
        self.free(self.batch)


_BASE = 1
_BATCH = struct.Struct("=2Q")  # peerbus_batch: messages, count
_MESSAGE = struct.Struct("=9Q8x")  # peerbus_message without its reserved word
_WORDS = 10  # of 64 bits in a peerbus_message
_VERIFIED, _INSPECTOR, _DURABLE, _REDELIVERED = 1, 2, 4, 8  # peerbus_message_flag
_string_at = ctypes.string_at
_new_message = object.__new__


_SMALL = 4096  # bytes of a lone payload that are copied, which costs less than an owner of the batch
_REMEMBERED_TEXTS = 1024
# All memory, without an owner: to copy from.
_everything = memoryview((ctypes.c_ubyte * sys.maxsize).from_address(_BASE)).cast("B").toreadonly()
_known: Dict[bytes, str] = {}


def _text(address: int) -> str:
    """A text of a batch; the same object for each message of a channel."""
    raw = _string_at(address)
    text = _known.get(raw)
    if text is None:
        if len(_known) >= _REMEMBERED_TEXTS:
            _known.clear()
        text = _known[raw] = raw.decode("utf-8", "replace")
    return text


class _Texts(Dict[int, str]):
    """The texts of a batch by address: messages of one channel share them."""

    def __missing__(self, address: int) -> str:
        text = self[address] = _text(address)
        return text


def messages(library: Library, batch: int, confirmer: Optional[Confirmer] = None) -> List[Message]:
    """The messages of a batch that the library handed over; the batch is ours. Without a confirmer none waits for one."""
    found = library.calls.messages(batch)
    if found is not None:
        return found
    table, count = _BATCH.unpack_from(_everything, batch - _BASE)
    table -= _BASE
    if count == 1:
        data, size, sender, channel, protocol, gap, _, flags, id = _MESSAGE.unpack_from(_everything, table)
        if size <= _SMALL and not flags:
            data -= _BASE
            payload = memoryview(_everything[data : data + size].tobytes())
            message = Message(_text(sender), _text(channel), payload, _text(protocol), gap, id)
            library.free_small(batch)
            return [message]
    owner = _AddressSpace.from_address(_BASE)
    owner.free = library.c.peerbus_batch_free
    owner.batch = batch
    memory = memoryview(owner).cast("B").toreadonly()
    return _messages(memory, memory[table : table + count * _MESSAGE.size].cast("Q"), count, confirmer)


def _messages(memory: memoryview, table: memoryview, count: int, confirmer: Optional[Confirmer]) -> List[Message]:
    """The messages of a table. Runs of one channel, which most batches are, get their texts once."""
    columns = [table[field::_WORDS] for field in range(_WORDS - 1)]
    starts, sizes, senders, channels, protocols, gaps, _, flags, ids = columns
    texts = _Texts()
    if flags[0] or not all(_uniform(column, count) for column in (senders, channels, protocols, flags)):
        rows = zip(*(column.tolist() for column in columns))
        return [_message(memory, texts, row, confirmer) for row in rows]
    sender, channel, protocol = texts[senders[0]], texts[channels[0]], texts[protocols[0]]
    found = []
    for start, size, gap, id in zip(starts.tolist(), sizes.tolist(), gaps.tolist(), ids.tolist()):
        message = _new_message(Message)  # without __init__, whose call would take longer than all of this
        start -= _BASE
        message.data = memory[start : start + size]
        message.sender, message.channel, message.protocol = sender, channel, protocol
        message.gap, message.id, message.node_id, message.inspector = gap, id, None, False
        found.append(message)
    return found


def _uniform(column: memoryview, count: int) -> bool:
    return column.tobytes() == column[:1].tobytes() * count


def _message(memory: memoryview, texts: _Texts, row: Tuple[int, ...], confirmer: Optional[Confirmer]) -> Message:
    start, size, sender, channel, protocol, gap, node_id, flags, id = row
    data = memory[start - _BASE : start - _BASE + size]
    node = texts[node_id] if flags & _VERIFIED else None
    fields = (texts[sender], texts[channel], data, texts[protocol], gap, id, node, bool(flags & _INSPECTOR))
    if not flags & _DURABLE or confirmer is None:
        return Message(*fields)
    return confirmer.message(bool(flags & _REDELIVERED), *fields)
