"""Finding, loading and initializing the shared library, once per process and not before something needs it."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional

from . import _errors
from ._calls import calls_of

ABI = 1
DEFAULT_INSTANCES = 1024  # slots when no call to initialize() or P2P.setup_library() chose a number
_MAX_INSTANCES = 4096
_MAX_TIMEOUT_MS = 86_400_000
_ENVIRONMENT = "PEERBUS_LIBRARY"
_FILE_NAMES = {"darwin": "libpeerbus.dylib", "win32": "peerbus.dll"}

_TEXT = ctypes.c_char_p
_JSON = ctypes.c_void_p  # not c_char_p: ctypes would copy the text and lose the pointer that FreeString needs
_INT = ctypes.c_int
_PROTOTYPES: Dict[str, List[Any]] = {
    # name: [result, arguments...]; the names and types of include/peerbus.h
    "InitializeLibrary": [None, _INT, _INT, _INT, _INT, _TEXT],
    "SetLogDescriptor": [_INT, _INT],
    "ConfigureRuntime": [_JSON, _TEXT],
    "LibraryVersion": [_TEXT],
    "LibraryABI": [_INT],
    "DumpStacks": [_JSON],
    "FreeString": [None, ctypes.c_void_p],
    "CreateNode": [_JSON, _INT, _TEXT],
    "CloseNode": [_JSON, _INT],
    "GetNodeAddresses": [_JSON, _INT, _TEXT],
    "GetReachability": [_JSON, _INT],
    "GetStatistics": [_JSON, _INT],
    "ConnectTo": [_JSON, _INT, _TEXT],
    "DisconnectFrom": [_JSON, _INT, _TEXT],
    "GetConnectedPeers": [_JSON, _INT],
    "Diagnose": [_JSON, _INT],
    "ReserveOnRelay": [_JSON, _INT, _TEXT],
    "StartStaticRelay": [_JSON, _INT, _TEXT],
    "FindPeers": [_JSON, _INT, _TEXT, _INT, _INT],
    "StopAdvertising": [_JSON, _INT, _TEXT],
    "InitiateWebRTCConnection": [_JSON, _INT, _TEXT],
    "CloseWebRTCConnection": [_JSON, _INT, _TEXT],
    "GetWebRTCConnections": [_JSON, _INT],
    "UpdateICEConfig": [_JSON, _INT, _TEXT],
    "SendMessageToPeer": [_JSON, _INT, _TEXT, ctypes.c_void_p, _INT],
    "MessageQueueLength": [_INT, _INT],
    "PopMessages": [ctypes.c_void_p, _INT],
    "SubscribeToTopic": [_JSON, _INT, _TEXT],
    "UnsubscribeFromTopic": [_JSON, _INT, _TEXT],
    "OpenTopic": [_JSON, _INT, _TEXT, _TEXT],
    "GetTopicInfo": [_JSON, _INT, _TEXT],
    "GetTopicPeers": [_JSON, _INT],
    "SetTopicRules": [_JSON, _INT, _TEXT, _TEXT],
    "WaitForTopicPeers": [_JSON, _INT, _TEXT, _INT, _INT],
    "GetRendezvousPeers": [_JSON, _INT],
    "PopEvents": [_JSON, _INT, _INT, _INT],
    "StartOperation": [_JSON, _INT, _TEXT, _TEXT, _INT],
    "CancelOperation": [_JSON, _INT, ctypes.c_longlong],
    "peerbus_send": [_INT, _INT, _TEXT, ctypes.c_void_p, ctypes.c_size_t, _INT],
    "peerbus_send_lent": [_INT, _INT, _TEXT, ctypes.c_void_p, _INT],
    "peerbus_channel_open": [_INT, _INT, _TEXT, _INT],
    "peerbus_channel_send": [_INT, _INT, _INT, ctypes.c_void_p, ctypes.c_size_t, _INT, ctypes.c_void_p],
    "peerbus_channel_send_lent": [_INT, _INT, _INT, ctypes.c_void_p, _INT, ctypes.c_void_p],
    "peerbus_confirm": [_INT, _INT, ctypes.c_void_p, _INT],
    "peerbus_channel_send_batch": [_INT, _INT, _INT, ctypes.c_void_p, _INT, _INT, ctypes.c_void_p],
    "peerbus_channel_send_batch_lent": [_INT, _INT, _INT, ctypes.c_void_p, _INT, _INT, ctypes.c_void_p],
    "peerbus_channel_wait": [_INT, _INT, _INT, ctypes.c_uint64, _INT, _INT],
    "peerbus_channel_configure": [_INT, _INT, _INT, _TEXT],
    "peerbus_channel_close": [_INT, _INT, _INT],
    "GetChannelInfo": [_JSON, _INT, _TEXT],
    "peerbus_publish": [_INT, _INT, _TEXT, ctypes.c_void_p, ctypes.c_size_t, _INT],
    "peerbus_publish_batch": [_INT, _INT, _TEXT, ctypes.c_void_p, _INT, _INT, ctypes.c_void_p],
    "peerbus_wait": [_INT, _INT, _TEXT, _INT],
    "peerbus_look": [_INT, _INT, _INT],
    "peerbus_receive": [_INT, _INT, _TEXT, _INT, ctypes.c_size_t, _INT, ctypes.c_void_p],
    "peerbus_batch_free": [None, ctypes.c_void_p],
    "peerbus_set_policy": [_INT, _INT, _TEXT, _INT],
    "peerbus_wake_descriptor": [_INT, _INT, _INT],
    "CreatePools": [_JSON, _TEXT],
    "ClosePools": [_JSON, _INT],
    "PoolsConnect": [_JSON, _INT, _TEXT, _TEXT, _INT],
    "PoolsDisconnect": [_JSON, _INT, _TEXT, _TEXT, _INT],
    "PoolsReserve": [_JSON, _INT, _TEXT, _TEXT, _INT],
    "StartPoolsOperation": [_JSON, _INT, _TEXT, _TEXT, _TEXT, _INT],
    "PoolsUpdate": [_JSON, _INT],
    "PoolsAdd": [_JSON, _INT, _TEXT, _TEXT],
    "PoolsMove": [_JSON, _INT, _TEXT, _TEXT],
    "PoolsRemove": [_JSON, _INT, _TEXT, _INT],
    "PoolsRemoveAllWorldAgents": [_JSON, _INT, _INT],
    "PoolsRoute": [_JSON, _INT, _TEXT, _TEXT],
    "PoolsSet": [_JSON, _INT, _TEXT, _TEXT],
    "PoolsSetWorldList": [_JSON, _INT, _TEXT, ctypes.c_void_p, ctypes.c_size_t],
    "PoolsAddToWorldList": [_JSON, _INT, _TEXT, _TEXT],
    "PoolsApplyRendezvous": [_JSON, _INT],
    "PoolsLeaveWorld": [_JSON, _INT],
    "PoolsQuery": [_JSON, _INT, _TEXT, _TEXT],
    "PoolsSubscribe": [_JSON, _INT, _TEXT, _TEXT, _TEXT],
    "PoolsUnsubscribe": [_JSON, _INT, _TEXT, _TEXT, _TEXT],
    "peerbus_pools_send": [_INT, _INT, _TEXT, _TEXT, _TEXT, _INT, ctypes.c_void_p, ctypes.c_size_t, _TEXT, _INT],
    "peerbus_pools_publish": [_INT, _INT, _TEXT, _TEXT, _TEXT, _INT, ctypes.c_void_p, ctypes.c_size_t, _INT],
    "peerbus_pools_receive": [_INT, _INT, _TEXT, _TEXT, _INT, ctypes.c_size_t, _INT, ctypes.c_void_p],
    "GenerateTokenKey": [_JSON, _TEXT],
    "IssueToken": [_JSON, _TEXT, _TEXT],
    "VerifyToken": [_JSON, _TEXT, _TEXT, _TEXT, _TEXT],
    "peerbus_last_error": [_TEXT],
}


class Library:
    """The loaded library: ``c`` has the functions of the header, ``calls`` the short ways of single messages, and the methods
    turn answers into values or errors."""

    def __init__(self, path: Path) -> None:
        try:
            self.c = ctypes.CDLL(str(path))
            for name, (result, *arguments) in _PROTOTYPES.items():
                function = getattr(self.c, name)
                function.restype, function.argtypes = result, arguments
            # Freeing a batch of small messages is short: giving the interpreter lock away for it would cost more.
            self.free_small = ctypes.PyDLL(str(path)).peerbus_batch_free
            self.free_small.restype, self.free_small.argtypes = None, [ctypes.c_void_p]
            # Without declared arguments a call takes half the time, and this one is made again and again.
            self.look: Callable[[int, int], int] = self.c["peerbus_look"]
        except (OSError, AttributeError) as error:
            raise _errors.LibraryError(f"cannot load {path}: {error}; rebuild it or point {_ENVIRONMENT} to another") from error
        self.path = path
        found = self.c.LibraryABI()
        if found != ABI:
            raise _errors.LibraryError(f"{path} has binary interface {found}, not {ABI}; install matching versions")
        self.calls = calls_of(self.c, found)

    @property
    def version(self) -> str:
        """Version of the shared library, e.g. ``"0.1.0"``."""
        return bytes(self.c.LibraryVersion()).decode()

    def text(self, function: Callable[..., Optional[int]], *arguments: Any) -> bytes:
        """Calls a function that returns malloc'd text, and frees that text."""
        pointer = function(*arguments)
        if not pointer:
            raise _errors.NoMemoryError(f"{getattr(function, '__name__', 'the library')} could not allocate its answer")
        try:
            return ctypes.string_at(pointer)
        finally:
            self.c.FreeString(pointer)

    def control(self, function: Callable[..., Optional[int]], *arguments: Any) -> Any:
        """Calls a control function. Returns its message, None for Empty, and raises its Error."""
        return unwrap(json.loads(self.text(function, *arguments)))

    def check(self, result: int) -> int:
        """Returns the result of a data function, or raises when it is negative. To be called on the same thread."""
        if result < 0:
            raise _errors.from_number(result, bytes(self.c.peerbus_last_error()).decode("utf-8", "replace"))
        return result


def unwrap(envelope: Mapping[str, Any]) -> Any:
    """The message of a JSON envelope, None for Empty; raises what an Error describes."""
    state = envelope.get("state")
    if state == "Success":
        return envelope.get("message")
    if state == "Empty":
        return None
    raise _errors.from_name(str(envelope.get("code", "UNKNOWN")), str(envelope.get("message", envelope)))


def encode(text: str, what: str) -> bytes:
    """UTF-8 of a text argument. A NUL would silently cut it in C, so it is refused here."""
    if not isinstance(text, str):
        raise _errors.ArgumentTypeError(f"{what} must be str, not {type(text).__name__}")
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise _errors.InvalidArgumentError(f"{what} is not valid Unicode: {error}") from error
    if b"\0" in encoded:
        raise _errors.InvalidArgumentError(f"{what} contains a NUL character")
    return encoded


def milliseconds(timeout: float) -> int:
    """Seconds as the milliseconds of the C API, rounded up so that a short wait is never none at all."""
    value = -int(-timeout * 1000 // 1) if timeout == timeout and abs(timeout) != float("inf") else -1
    if not 0 <= value <= _MAX_TIMEOUT_MS:
        raise _errors.InvalidArgumentError(f"timeout is {timeout} s; it must be 0 to {_MAX_TIMEOUT_MS // 1000} s")
    return value


class _State:
    """What this process knows of the library. Only the fork hook touches it without the lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.native: Optional[Library] = None
        self.loading = False
        self.initialized = False
        self.instances = 0
        self.forked = False


_state = _State()


def load() -> Library:
    """The library, loaded by the first call. Raises LibraryError, or ForkedError in a child of a process that had it."""
    refuse_fork()
    if _state.native is None:
        with _state.lock:
            if _state.native is None:
                _state.loading = True
                try:
                    _state.native = Library(find())
                finally:
                    _state.loading = False
    return _state.native


def find() -> Path:
    """Where the library is: $PEERBUS_LIBRARY, else inside this package, else dist/ of the checkout this package is in."""
    chosen = os.environ.get(_ENVIRONMENT)
    if chosen:
        if not os.path.exists(chosen):
            raise _errors.LibraryError(f"{_ENVIRONMENT} names {chosen}, which does not exist")
        return Path(chosen)
    name = _FILE_NAMES.get(sys.platform, "libpeerbus.so")
    package = Path(__file__).resolve().parent
    candidates = [package / name]
    if len(package.parents) > 2:
        candidates.append(package.parents[2] / "dist" / name)
    for candidate in candidates:
        if candidate.exists():
            return candidate
    places = ", ".join(str(candidate.parent) for candidate in candidates)
    raise _errors.LibraryError(f"{name} is neither in {places} nor named by {_ENVIRONMENT}; build it with ./build.sh")


def initialize(
    instances: int, channels: int, queue_length: int, message_bytes: int, prepare_log: Callable[[Library], Mapping[str, str]]
) -> bool:
    """Initializes the library unless that happened. ``prepare_log`` sets the sink up and gives the log levels.

    Returns whether this call was the first. Numbers <= 0 take the library's defaults."""
    loaded = load()
    with _state.lock:
        if _state.initialized:
            return False
        levels = json.dumps(dict(prepare_log(loaded))).encode()
        loaded.c.InitializeLibrary(instances, channels, queue_length, message_bytes, levels)
        _state.instances = min(instances if instances > 0 else DEFAULT_INSTANCES, _MAX_INSTANCES)
        _state.initialized = True
        return True


def initialized() -> bool:
    """Whether the library of this process is initialized."""
    return _state.initialized


def instances() -> int:
    """Number of slots."""
    return _state.instances


def refuse_fork() -> None:
    """Raises ForkedError in a child that was forked off after the library was loaded."""
    if _state.forked:
        raise forked()


def forked() -> _errors.ForkedError:
    """The error of such a child."""
    return _errors.ForkedError(
        "peerbus was loaded before this process was forked off, and its threads stayed in the parent; "
        "start children with the multiprocessing start method 'spawn', or use peerbus only after the fork"
    )


def _after_fork() -> None:
    # Whoever held the lock is not in this child.
    _state.lock = threading.Lock()
    if _state.native is not None or _state.loading:
        _state.forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
