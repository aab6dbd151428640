"""Many payloads for one call of the library."""

from __future__ import annotations

import array
import ctypes
from contextlib import ExitStack
from itertools import accumulate
from typing import List, Optional, Sequence, cast

from ._buffers import Payload, Pinned

_JOINED = 16 * 1024  # bytes of a payload up to which copying it costs less than pinning it
_SLICE_BYTES = 16  # of a peerbus_slice: address, size


class Packed:
    """The ``count`` payloads as a table of peerbus_slice, which stays valid as long as this object is not closed."""

    __slots__ = ("_joined", "_pins", "_table", "count")

    def __init__(self, payloads: Sequence[Payload]) -> None:
        self.count = len(payloads)
        self._pins = ExitStack()
        self._joined = _join(payloads)
        if self._joined is not None:
            sizes = list(map(len, cast("List[bytes]", payloads)))
            addresses = list(accumulate(sizes[:-1], initial=_address(self._joined)))
        else:
            pinned = [self._pin(data) for data in payloads]
            sizes = [payload.size for payload in pinned]
            addresses = [_address(p.pointer) if isinstance(p.pointer, bytes) else p.pointer for p in pinned]
        self._table = array.array("Q", bytes(_SLICE_BYTES * self.count))
        self._table[0::2] = array.array("Q", addresses)
        self._table[1::2] = array.array("Q", sizes)

    def _pin(self, data: Payload) -> Pinned:
        try:
            return self._pins.enter_context(Pinned(data))
        except BaseException:
            self._pins.close()
            raise

    def slices_from(self, index: int) -> int:
        """The address of the table's entry."""
        return self._table.buffer_info()[0] + _SLICE_BYTES * index

    def __enter__(self) -> Packed:
        return self

    def __exit__(self, *error: object) -> None:
        self._pins.close()


def _join(payloads: Sequence[Payload]) -> Optional[bytes]:
    """The payloads in one piece; None unless all of them are bytes and small."""
    if set(map(type, payloads)) != {bytes}:
        return None
    texts = cast("List[bytes]", payloads)
    return b"".join(texts) if max(map(len, texts)) <= _JOINED else None


def _address(data: bytes) -> int:
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
