"""What decoding a received message may cost.

A message is small on the wire and can be large in memory: gzip reaches 1000 to
1, a PNG more. Each message therefore has one budget, counted in bytes of
decoded data over all its samples together (SPEC MSG-09, GEN-07).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

#: Decoded bytes of one message, all tensors, pictures and JSON text together.
#: The same as the largest message of a node by default.
MAX_DECODED_BYTES = 50 * 1024 * 1024

#: Encoded bytes of the list in a stats_update. An empty entry is two bytes on
#: the wire and about eighty in memory, hence the smaller number.
MAX_STATS_BYTES = 4 * 1024 * 1024

#: Entries in a stream_sample; an empty one is two bytes on the wire too.
MAX_SAMPLES = 4096

#: Picture formats that are decoded, as Pillow names them.
IMAGE_FORMATS = ("PNG",)


class DecodeError(ValueError):
    """A received message, or its content, is not what its format says.

    Also raised when decoding would exceed :class:`DecodeLimits`, or needs a
    library that is not installed.
    """

    # Programs meet it as peerbus.messages.DecodeError; tracebacks and pickles
    # should say so.
    __module__ = "peerbus.messages"


@dataclass(frozen=True)
class DecodeLimits:
    """Bounds for decoding one message.

    Pass one to ``Msg.from_bytes(data, limits=...)``, or set
    ``Msg.default_limits`` for every message that follows::

        Msg.default_limits = DecodeLimits(decoded_bytes=512 * 1024 * 1024)

    ``decoded_bytes``: tensors, pictures and JSON text of one message, in bytes.
    ``stats_bytes``: encoded size of a stats_update, in bytes.
    ``samples``: entries in a stream_sample.
    ``image_formats``: picture formats to decode, as Pillow names them.
    """

    decoded_bytes: int = MAX_DECODED_BYTES
    stats_bytes: int = MAX_STATS_BYTES
    samples: int = MAX_SAMPLES
    image_formats: Tuple[str, ...] = IMAGE_FORMATS


class Budget:
    """Counts down the decoded bytes of one message."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._left = total

    def take(self, size: int, what: str) -> None:
        """Reserve ``size`` bytes for ``what``; call it before allocating."""
        if size > self._left:
            raise DecodeError(
                f"{what} needs {size} bytes but {self._left} of the {self._total} that "
                "one message may decode to are left; raise DecodeLimits.decoded_bytes"
            )
        self._left -= size
