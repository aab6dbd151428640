"""The exception tree: one subclass of PeerbusError per result code of include/peerbus.h (SPEC P2P-28)."""

from __future__ import annotations

import builtins
from typing import Dict, Optional, Tuple, Type


class PeerbusError(Exception):
    """Base of every error that peerbus raises.

    ``code`` is the stable name from the header, e.g. ``"NOT_CONNECTED"``; compare it, or catch the subclass, rather
    than reading the text.
    """

    code: str = "UNKNOWN"

    def __init__(self, message: str, code: Optional[str] = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


P2PError = PeerbusError
"""The name that the documented class ``P2P`` uses for the same tree."""


class InvalidArgumentError(PeerbusError, ValueError):
    """An argument is malformed or out of range."""

    code = "INVALID_ARGUMENT"


class ArgumentTypeError(InvalidArgumentError, TypeError):
    """An argument is of a wrong type: a wrong argument as any other (SPEC P2P-28), and Python's TypeError."""


class NotInitializedError(PeerbusError):
    """``P2P.setup_library`` was not called."""

    code = "NOT_INITIALIZED"


class NoNodeError(PeerbusError):
    """The node was not started yet."""

    code = "NO_NODE"


class ClosedError(PeerbusError):
    """The node was closed, or is closing."""

    code = "CLOSED"


class InUseError(PeerbusError):
    """The slot already has a node."""

    code = "IN_USE"


class InvalidConfigError(PeerbusError, ValueError):
    """The configuration has unknown, malformed or contradicting keys."""

    code = "INVALID_CONFIG"


class IdentityError(PeerbusError):
    """The identity directory or key cannot be read, written or trusted."""

    code = "IDENTITY"


class NotConnectedError(PeerbusError, ConnectionError):
    """No connection to that peer, and no address to dial."""

    code = "NOT_CONNECTED"


class UnreachableError(PeerbusError, ConnectionError):
    """Every address of the peer was tried and failed."""

    code = "UNREACHABLE"


class TimeoutError(PeerbusError, builtins.TimeoutError):
    """The deadline passed. Also a builtin ``TimeoutError``."""

    code = "TIMEOUT"


class WouldBlockError(PeerbusError):
    """No room before the deadline; nothing was taken."""

    code = "WOULD_BLOCK"


class TooLargeError(PeerbusError, ValueError):
    """A message above ``limits.message_bytes``, or a text above 1 MiB."""

    code = "TOO_LARGE"


class InterruptedError(PeerbusError):
    """``peerbus_interrupt`` ended the wait."""

    code = "INTERRUPTED"


class CancelledError(PeerbusError):
    """The operation was cancelled inside the library. A cancelled task gets ``asyncio.CancelledError`` instead."""

    code = "CANCELLED"


class RefusedError(PeerbusError):
    """A local or remote limit or rule said no."""

    code = "REFUSED"


class NotFoundError(PeerbusError, KeyError):
    """Nothing known under that name."""

    code = "NOT_FOUND"
    __str__ = Exception.__str__  # that of KeyError shows the text as code


class PeerClosedError(PeerbusError, ConnectionError):
    """The stream or connection ended before the message was taken."""

    code = "PEER_CLOSED"


class UnsupportedError(PeerbusError):
    """This build does not do what was asked."""

    code = "UNSUPPORTED"


class LimitError(PeerbusError):
    """Too many of something in this process; the text says of what."""

    code = "LIMIT"


class NoMemoryError(PeerbusError, MemoryError):
    """The library could not allocate memory."""

    code = "NO_MEMORY"


class ForkedError(PeerbusError):
    """The library was loaded before this process was forked off."""

    code = "FORKED"


class InternalError(PeerbusError):
    """A defect of peerbus; the log has the stacks."""

    code = "INTERNAL"


class LostError(PeerbusError):
    """The message will never arrive, or nobody will ever know; the text has the reason."""

    code = "LOST"


class StoreError(PeerbusError):
    """The file of durable channels is damaged, foreign, in use, or cannot be written; the text says which."""

    code = "STORE"


class LibraryError(PeerbusError, ImportError):
    """The shared library is missing, cannot be loaded or has another binary interface."""

    code = "LIBRARY"


# Index i holds code -(i + 1) of the enum peerbus_code.
_BY_NUMBER: Tuple[Type[PeerbusError], ...] = (
    InvalidArgumentError,
    NotInitializedError,
    NoNodeError,
    ClosedError,
    InUseError,
    InvalidConfigError,
    IdentityError,
    NotConnectedError,
    UnreachableError,
    TimeoutError,
    WouldBlockError,
    TooLargeError,
    InterruptedError,
    CancelledError,
    RefusedError,
    NotFoundError,
    PeerClosedError,
    UnsupportedError,
    LimitError,
    NoMemoryError,
    ForkedError,
    InternalError,
    LostError,
    StoreError,
)
_BY_NAME: Dict[str, Type[PeerbusError]] = {kind.code: kind for kind in _BY_NUMBER}

WOULD_BLOCK = -11
TIMEOUT = -10
INTERRUPTED = -13


def from_name(code: str, message: str) -> PeerbusError:
    """The exception for the ``code`` of a JSON envelope. Unknown codes keep their name in a plain PeerbusError."""
    kind = _BY_NAME.get(code)
    return PeerbusError(message, code) if kind is None else kind(message)


def from_number(number: int, message: str) -> PeerbusError:
    """The exception for a negative result of a data function."""
    index = -number - 1
    if 0 <= index < len(_BY_NUMBER):
        kind = _BY_NUMBER[index]
        return kind(message or kind.code)
    return PeerbusError(message or f"unknown result {number}")
