"""peerbus: peer-to-peer nodes, message channels and publish/subscribe.

``Node`` is the place to start; ``P2P`` is the documented class of the UNaIVERSE interface on the same ground; typed
messages are in ``peerbus.messages``. Importing the package loads nothing: the shared library comes with the first node.
"""

from __future__ import annotations

from typing import Mapping, Optional

from . import _library, _log
from ._buffers import Message, Payload
from ._config import NODE_LIMITS
from ._discovery import FoundPeer
from ._errors import (
    CancelledError,
    ClosedError,
    ForkedError,
    IdentityError,
    InternalError,
    InterruptedError,
    InUseError,
    InvalidArgumentError,
    InvalidConfigError,
    LibraryError,
    LimitError,
    LostError,
    NoMemoryError,
    NoNodeError,
    NotConnectedError,
    NotFoundError,
    NotInitializedError,
    P2PError,
    PeerbusError,
    PeerClosedError,
    RefusedError,
    StoreError,
    TimeoutError,
    TooLargeError,
    UnreachableError,
    UnsupportedError,
    WouldBlockError,
)
from ._events import Event, EventStream
from ._publishing import Publication, Publications
from .channel import BlockingChannel, BlockingSentMessage, Channel, SentMessage, SentMessages
from .node import BlockingNode, Node, Policy
from .p2p import P2P

__version__ = "0.1.0"


def initialize(max_instances: int = _library.DEFAULT_INSTANCES, log_levels: Optional[Mapping[str, str]] = None) -> bool:
    """Initializes the library before the first node does; only needed to choose these two. Returns whether it was first.

    Arguments:
        max_instances: nodes that may live at once in this process, 1 to 4096.
        log_levels: ``{"peerbus": "info", "swarm2": "debug"}``; lines go to the ``logging`` loggers "peerbus" and
            "peerbus.swarm2". None: the levels set on these loggers by then; a logger without level is silent.
    """
    return _library.initialize(max_instances, 0, 0, 0, lambda loaded: _log.prepare(loaded, log_levels, _log.to_logging))


def version() -> str:
    """Version of the shared library, which this loads if need be."""
    return _library.load().version


__all__ = [
    "NODE_LIMITS",
    "P2P",
    "BlockingChannel",
    "BlockingNode",
    "BlockingSentMessage",
    "CancelledError",
    "Channel",
    "ClosedError",
    "Event",
    "EventStream",
    "ForkedError",
    "FoundPeer",
    "IdentityError",
    "InUseError",
    "InternalError",
    "InterruptedError",
    "InvalidArgumentError",
    "InvalidConfigError",
    "LibraryError",
    "LimitError",
    "LostError",
    "Message",
    "NoMemoryError",
    "NoNodeError",
    "Node",
    "NotConnectedError",
    "NotFoundError",
    "NotInitializedError",
    "P2PError",
    "Payload",
    "PeerClosedError",
    "PeerbusError",
    "Policy",
    "Publication",
    "Publications",
    "RefusedError",
    "SentMessage",
    "SentMessages",
    "StoreError",
    "TimeoutError",
    "TooLargeError",
    "UnreachableError",
    "UnsupportedError",
    "WouldBlockError",
    "initialize",
    "version",
]
