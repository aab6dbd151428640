"""A look at encoded protobuf before it is parsed.

The parser allocates an object for each sub-message, and an empty sub-message
is two bytes on the wire. Counting first keeps the memory of a hostile
stream_sample proportional to what it carries.
"""

from __future__ import annotations

from typing import Tuple

from ._messages_limits import DecodeError

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


def check_field_count(data: memoryview, path: Tuple[int, ...], limit: int) -> int:
    """Raise DecodeError if ``data`` holds more than ``limit`` fields.

    ``path`` names the field to descend into at each level; fields inside count
    too. Returns how many of ``limit`` are left.
    """
    offset = 0
    while offset < len(data):
        if limit == 0:
            raise DecodeError("stream_sample has too many fields; raise DecodeLimits.samples")
        limit -= 1
        key, offset = _read_varint(data, offset)
        start, offset = _skip_field(data, offset, key & 7)
        if path and key == path[0] << 3 | _LENGTH_DELIMITED:
            limit = check_field_count(data[start:offset], path[1:], limit)
    return limit


def _skip_field(data: memoryview, offset: int, wire_type: int) -> Tuple[int, int]:
    """Return where the value at ``offset`` starts and ends."""
    start = offset
    if wire_type == _VARINT:
        _, end = _read_varint(data, offset)
    elif wire_type == _LENGTH_DELIMITED:
        length, start = _read_varint(data, offset)
        end = start + length
    elif wire_type in (_FIXED64, _FIXED32):
        end = start + (8 if wire_type == _FIXED64 else 4)
    else:
        raise DecodeError(f"stream_sample: wire type {wire_type} is not in use")
    if end > len(data):
        raise DecodeError("stream_sample ends in the middle of a field")
    return start, end


def _read_varint(data: memoryview, offset: int) -> Tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[offset : offset + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, offset + index + 1
    raise DecodeError("stream_sample: a number does not end")
