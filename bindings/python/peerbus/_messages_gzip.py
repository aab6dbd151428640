"""gzip for tensors: cheap to write, bounded to read (SPEC MSG-08, MSG-09)."""

from __future__ import annotations

import zlib

from ._messages_limits import DecodeError

_GZIP = 16 + zlib.MAX_WBITS

#: Fastest level that compresses, and the level that only stores.
FAST_LEVEL = 1
STORED_LEVEL = 0

#: Data up to this many bytes is compressed without a look at a sample.
PROBE_THRESHOLD = 128 * 1024
#: Bytes of each of the three samples: beginning, middle, end.
PROBE_BYTES = 8 * 1024
#: A sample that shrinks to less than this share makes compressing worth it.
WORTHWHILE = 0.9

#: Bytes of input and of output handled at a time while reading.
READ_STEP = 64 * 1024
OUTPUT_STEP = 1024 * 1024
#: gzip allows members in a row. Writers of tensors make one.
MAX_MEMBERS = 16


def compress(data: memoryview) -> bytes:
    """Return ``data`` (contiguous, format "B") as one gzip member.

    Data that does not get smaller, such as trained weights, is stored: the same
    format, at the price of a copy and a checksum.
    """
    level = FAST_LEVEL if _is_compressible(data) else STORED_LEVEL
    stream = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
    return b"".join((stream.compress(data), stream.flush()))


def _is_compressible(data: memoryview) -> bool:
    size = len(data)
    if size <= PROBE_THRESHOLD:
        return True
    starts = (0, (size - PROBE_BYTES) // 2, size - PROBE_BYTES)
    sample = b"".join(data[start : start + PROBE_BYTES] for start in starts)
    return len(zlib.compress(sample, FAST_LEVEL)) < WORTHWHILE * len(sample)


def decompress(data: bytes, size: int) -> bytearray:
    """Return the ``size`` bytes that the gzip file ``data`` holds.

    The result grows with what was really decompressed, never to ``size`` in
    advance. Raises DecodeError when the data is no gzip, is cut off, or holds
    more or fewer bytes.
    """
    out = bytearray()
    rest = memoryview(data)
    for _ in range(MAX_MEMBERS):
        rest = rest[_read_member(rest, out, size) :]
        if not rest:
            break
    if rest:
        raise DecodeError(f"tensor data: {len(rest)} bytes follow its last gzip member")
    if len(out) != size:
        raise DecodeError(f"tensor data holds {len(out)} bytes where its shape needs {size}")
    return out


def _read_member(data: memoryview, out: bytearray, size: int) -> int:
    """Append one member to ``out``; return the bytes of ``data`` it took."""
    stream = zlib.decompressobj(_GZIP)
    for start in range(0, len(data), READ_STEP):
        chunk = bytes(data[start : start + READ_STEP])
        end = start + len(chunk)
        _feed(stream, chunk, out, size)
        if stream.eof:
            return end - len(stream.unused_data)
    raise DecodeError("tensor data: its gzip ends early")


def _feed(stream: zlib._Decompress, chunk: bytes, out: bytearray, size: int) -> None:
    while not stream.eof:
        # One byte more than is missing tells "too long" from "complete".
        room = min(size + 1 - len(out), OUTPUT_STEP)
        try:
            piece = stream.decompress(chunk, room)
        except zlib.error as error:
            raise DecodeError(f"tensor data is no valid gzip: {error}") from error
        out += piece
        if len(out) > size:
            raise DecodeError(f"tensor data holds more than the {size} bytes of its shape")
        chunk = stream.unconsumed_tail
        # A full piece may leave output inside the stream although no input is left.
        if not chunk and len(piece) < room:
            return
