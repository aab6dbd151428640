"""One node without a style: what may wait is steps (see _waiting), and Node, BlockingNode and P2P are faces of it."""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import tempfile
import threading
import warnings
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

from . import _config, _errors, _library, _log, _publishing
from ._buffers import Payload, Pinned
from ._events import Events
from ._inbox import Inbox
from ._outbox import Outbox
from ._publishing import Publication, Publications
from ._slots import slots
from ._waiting import Steps, Waiter, deadline_after
from ._workers import Call, start_call

DIRECT = "::dm:"
TOPIC = "::ps:"
DEFAULT_CHANNEL = "main"
RESERVE_TIMEOUT_S = 60.0
Relay = Union[str, Sequence[str], Mapping[str, Any]]
"""A relay: its multiaddresses, or ``{"ID": ..., "Addrs": [...]}``."""
_REMEMBERED_CHANNELS = 4096  # receivers whose channel text a node keeps ready

_EVENT_THREAD_STOP_S = 2.0
_log_of_peerbus = logging.getLogger("peerbus")


class Live:
    """What a started node consists of. It does not refer to the Core, so that a forgotten node can be collected."""

    def __init__(self, library: _library.Library, instance: int, answer: Dict[str, Any]) -> None:
        self.native = library
        self.instance = instance
        self.peer_id = str(answer["addresses"][0]).rsplit("/", 1)[-1]
        self.send_now = library.calls.send
        self.outbox = Outbox()
        self.lines = self.outbox.lines
        self.inbox = Inbox(library, instance)
        self.events = Events(library, instance, self.outbox, str(answer.get("reachability", "unknown")))
        self.deliveries = self.events.deliveries
        self.clean_up: Callable[[], object] = lambda: None
        self.channels: Dict[str, Tuple[str, bytes]] = {}
        self.topics: Dict[str, bytes] = {}
        self.closed = False
        self._lock = threading.Lock()
        self._closing: Optional[Call] = None
        self._let_go = False

    def channel(self, to: str) -> Tuple[str, bytes]:
        """The channel that a peer id or channel stands for, as text and as UTF-8; remembered for the next message."""
        known = self.channels.get(to)
        if known is None:
            _library.encode(to, "the receiver")
            channel = to if "::" in to else f"{self.peer_id}{DIRECT}{to}-{DEFAULT_CHANNEL}"
            known = (channel, _library.encode(channel, "channel"))
            if len(self.channels) >= _REMEMBERED_CHANNELS:
                self.channels.clear()
            self.channels[to] = known
        return known

    def topic(self, channel: str) -> bytes:
        """A topic channel as UTF-8; remembered for the next message."""
        name = self.topics.get(channel)
        if name is None:
            name = _library.encode(channel, "channel")
            if len(self.topics) >= _REMEMBERED_CHANNELS:
                self.topics.clear()
            self.topics[channel] = name
        return name

    def close(self) -> Call:
        """Begins to close, once; further calls get the same Call."""
        with self._lock:
            if self._closing is None:
                self.closed = True
                self._closing = start_call(self._close)
            return self._closing

    def _close(self) -> object:
        if self._let_go:  # by close_all; the number may have another node by now
            return "already closed"
        try:
            return self.native.control(self.native.c.CloseNode, self.instance)
        finally:
            self.let_go()

    def let_go(self) -> None:
        """After the library closed the node: everybody who waits learns it, and the number is free."""
        with self._lock:
            if self._let_go:
                return
            self._let_go = self.closed = True
        _live.discard(self)
        self.events.finish(_errors.ClosedError("the node was closed"))
        self.inbox.close()
        self.events.thread.join(_EVENT_THREAD_STOP_S)
        slots.release(self.instance)
        self.clean_up()


_live: Set[Live] = set()


class Core:
    """A node: not started, started, closed."""

    def __init__(self, config: _config.Config, clean_up: Callable[[], object] = lambda: None) -> None:
        self._json = json.dumps(config, default=_config.as_json_value).encode()
        self._clean_up = clean_up
        self._live: Optional[Live] = None
        self._starting = False
        self._ended = False

    # Life

    def start(self, waiter: Waiter) -> Steps[None]:
        """Creates the node. Left early, what is created meanwhile is closed at once."""
        if self._starting or self._live is not None or self._ended:
            raise _errors.InvalidArgumentError("a node can be started once; make a new one")
        self._starting = True
        text, clean_up = self._json, self._clean_up

        def create() -> Live:
            try:
                _library.initialize(_library.DEFAULT_INSTANCES, 0, 0, 0, _log.prepare_quietly)
                live = create_live(text)
            except BaseException:
                clean_up()
                raise
            live.clean_up = clean_up
            return live

        call = start_call(create)
        try:
            live = yield from call.wait(waiter)
        except GeneratorExit:
            self._ended = True
            call.abandon(lambda unwanted: unwanted.close() if isinstance(unwanted, Live) else None)
            raise
        except BaseException:
            self._ended = True
            raise
        assert isinstance(live, Live)
        self._live = live
        if self._ended:  # closed while it started
            live.close()
            raise _errors.ClosedError("the node was closed while it started")

    def close(self, waiter: Waiter) -> Steps[str]:
        """Closes the node; goes on when the wait is left."""
        _library.refuse_fork()
        live = self._live
        if live is None:
            if not self._starting and not self._ended:
                self._clean_up()
            self._ended = True
            return "the node was not started"
        message = yield from live.close().wait(waiter)
        return str(message)

    def __del__(self, _warn: Any = warnings.warn, _state: Any = _library._state) -> None:
        live = getattr(self, "_live", None)
        if live is None or live.closed or _state.forked:
            if live is None and not getattr(self, "_starting", True) and not self._ended:
                self._clean_up()
            return
        try:
            _warn(f"node {live.peer_id} was never closed", ResourceWarning, source=self, stacklevel=2)
        finally:  # the warning may be an error
            live.close()

    @property
    def closed(self) -> bool:
        """Whether the node was closed, or failed to start."""
        return self._ended or (self._live is not None and self._live.closed)

    @property
    def live(self) -> Live:
        """The running node. Raises NoNodeError, ClosedError or ForkedError."""
        live = self._live
        if live is None or live.closed or _library._state.forked:
            _library.refuse_fork()
            raise self._not_live()
        return live

    @property
    def live_or_closed(self) -> Live:
        """The node, also after it was closed: messages that were fetched before can still be taken."""
        _library.refuse_fork()
        if self._live is None:
            raise self._not_live()
        return self._live

    def _not_live(self) -> _errors.PeerbusError:
        if self._ended or self._live is not None:
            return _errors.ClosedError("the node is closed")
        return _errors.NoNodeError("the node is not started; use 'async with', 'with' or start()")

    # Channels

    def direct_channel(self, peer_id: str, name: str) -> str:
        return f"{self.live.peer_id}{DIRECT}{peer_id}-{name}"

    def topic(self, name: str, owner: Optional[str]) -> str:
        return f"{self.live.peer_id if owner is None else owner}{TOPIC}{name}"

    # Messages

    def try_send(self, to: str, data: Payload) -> bool:
        """Sends if that needs no waiting. False: use send."""
        live = self._live
        if live is None or live.closed:
            live = self.live  # raises
        channel, name = live.channels.get(to) or live.channel(to)
        if live.lines and channel in live.lines:
            return False
        result = live.send_now(live.instance, name, data)
        return not result or _taken(live, result)

    def send(self, waiter: Waiter, to: str, data: Payload, timeout: float) -> Steps[None]:
        live = self.live
        _library.milliseconds(timeout)
        channel, name = live.channel(to)
        with Pinned(data) as payload:

            def attempt() -> bool:
                if live.closed:
                    raise _errors.ClosedError("the node was closed before the message was taken")
                return _taken(live, live.send_now(live.instance, name, payload.data))

            yield from live.outbox.send(waiter, channel, attempt, deadline_after(timeout))

    def try_publish(self, channel: str, data: Payload) -> Optional[Publication]:
        """Publishes if that needs no waiting; else None."""
        live = self.live
        return _publishing.try_publish(live, live.topics.get(channel) or live.topic(channel), data)

    def try_publish_many(self, channel: str, payloads: Sequence[Payload]) -> Publications:
        """Publishes the first messages, until one needs waiting."""
        live = self.live
        return _publishing.try_publish_many(live, live.topic(channel), payloads)

    def publish_many(
        self, waiter: Waiter, channel: str, payloads: Sequence[Payload], timeout: float, done: Optional[Publications] = None
    ) -> Steps[Publications]:
        """``done`` are those of the first messages, which were published already."""
        live = self.live
        return _publishing.publish_many(live, waiter, live.topic(channel), payloads, timeout, done)

    def flush(self, waiter: Waiter, channel: str, timeout: float) -> Steps[None]:
        yield from self._operate(waiter, b"Flush", self.live.channel(channel)[0], "channel", timeout)

    def waiting(self) -> int:
        live = self.live
        return live.native.check(live.native.c.MessageQueueLength(live.instance)) + live.inbox.waiting()

    def set_policy(self, channel: str, policy: int) -> None:
        live = self.live
        live.native.check(live.native.c.peerbus_set_policy(live.instance, _library.encode(channel, "channel"), policy))

    # Peers and topics

    def connect(self, waiter: Waiter, addresses: Union[str, Sequence[str]], timeout: float) -> Steps[Dict[str, Any]]:
        listed = [addresses] if isinstance(addresses, str) else list(addresses)
        answer = yield from self._operate(waiter, b"ConnectTo", json.dumps(listed), "addresses", timeout)
        result: Dict[str, Any] = answer
        return result

    def disconnect(self, waiter: Waiter, peer_id: str, timeout: float) -> Steps[Any]:
        return (yield from self._operate(waiter, b"DisconnectFrom", peer_id, "peer id", timeout))

    def reserve_on_relay(self, waiter: Waiter, relay_id: str, timeout: float) -> Steps[str]:
        return str((yield from self._operate(waiter, b"ReserveOnRelay", relay_id, "relay id", timeout)))

    def start_static_relay(self, waiter: Waiter, relay: Relay, timeout: float) -> Steps[str]:
        text = json.dumps(relay_info(relay))
        return str((yield from self._operate(waiter, b"StartStaticRelay", text, "relay", timeout)))

    def diagnose(self, waiter: Waiter, timeout: float) -> Steps[Dict[str, Any]]:
        return dict((yield from self._operate(waiter, b"Diagnose", "node", "argument", timeout)))

    def subscribe(self, waiter: Waiter, channel: str, timeout: float, mode: Optional[str] = None) -> Steps[None]:
        if mode is not None:
            self.open_topic(channel, mode, None)
        yield from self._operate(waiter, b"SubscribeToTopic", channel, "channel", timeout)

    def unsubscribe(self, waiter: Waiter, channel: str, timeout: float) -> Steps[None]:
        yield from self._operate(waiter, b"UnsubscribeFromTopic", channel, "channel", timeout)

    def wait_for_topic_peers(self, waiter: Waiter, channel: str, count: int, timeout: float) -> Steps[int]:
        asked = json.dumps({"channel": channel, "count": count})
        answer = yield from self._operate(waiter, b"WaitForTopicPeers", asked, "channel", timeout)
        peers: int = answer["peers"]
        return peers

    def open_topic(self, channel: str, mode: str, overflow: Optional[str]) -> None:
        options = {"mode": mode} if overflow is None else {"mode": mode, "overflow": overflow}
        self.ask("OpenTopic", _library.encode(channel, "channel"), _library.encode(json.dumps(options), "options"))

    def topic_info(self, channel: str) -> Dict[str, Any]:
        return dict(self.ask("GetTopicInfo", _library.encode(channel, "channel")))

    def set_topic_rules(self, channel: str, rules: Optional[Mapping[str, Any]]) -> None:
        self.ask("SetTopicRules", _library.encode(channel, "channel"), _library.encode(json.dumps(rules), "rules"))

    # Discovery

    def events(self) -> Events:
        return self.live.events

    def find_peer(self, waiter: Waiter, peer_id: str, timeout: float) -> Steps[List[str]]:
        return list((yield from self._operate(waiter, b"FindPeer", peer_id, "peer id", timeout)))

    def advertise(self, waiter: Waiter, name: str, timeout: float) -> Steps[None]:
        yield from self._operate(waiter, b"Advertise", name, "the name", timeout)

    def stop_advertising(self, name: str) -> None:
        self.ask("StopAdvertising", _library.encode(name, "the name"))

    def initiate_webrtc(self, waiter: Waiter, peer_id: str, timeout: float) -> Steps[Dict[str, Any]]:
        answer = yield from self._operate(waiter, b"InitiateWebRTCConnection", peer_id, "peer id", timeout)
        result: Dict[str, Any] = answer
        return result

    def close_webrtc(self, waiter: Waiter, peer_id: str) -> Steps[None]:
        live = self.live
        name = _library.encode(peer_id, "peer id")
        yield from start_call(
            lambda: live.native.control(live.native.c.CloseWebRTCConnection, live.instance, name)
        ).wait(waiter)

    def set_ice_config(
        self, stun_servers: Optional[Sequence[str]], turn_servers: Optional[Sequence[Mapping[str, Any]]]
    ) -> None:
        servers = {"stun_servers": stun_servers, "turn_servers": turn_servers}
        given = {key: value for key, value in servers.items() if value is not None}
        self.ask("UpdateICEConfig", json.dumps(given, default=_config.as_json_value).encode())

    def _operate(self, waiter: Waiter, function: bytes, argument: str, what: str, timeout: float) -> Steps[Any]:
        return (yield from self.live.events.operate(waiter, function, _library.encode(argument, what), timeout))

    def ask(self, name: str, *arguments: Any) -> Any:
        """The answer of a control function that does not wait; None for Empty."""
        live = self.live
        return live.native.control(getattr(live.native.c, name), live.instance, *arguments)


def relay_info(relay: Relay) -> Dict[str, Any]:
    """{"ID", "Addrs"} of a relay that may be given by its multiaddresses, the first of which ends in ``/p2p/<id>``."""
    if isinstance(relay, Mapping):
        return dict(relay)
    addresses = [relay] if isinstance(relay, str) else list(relay)
    if not addresses or not all(isinstance(address, str) for address in addresses):
        raise _errors.InvalidArgumentError("a relay is given by its multiaddresses, or as {'ID': ..., 'Addrs': [...]}")
    return {"ID": addresses[0].rpartition("/p2p/")[2], "Addrs": addresses}


def _taken(live: Live, result: int) -> bool:
    if result == _errors.WOULD_BLOCK:
        return False
    live.native.check(result)
    return True


def create_live(config: bytes) -> Live:
    """Creates a node in the next free slot. Blocks."""
    library = _library.load()
    tried: List[int] = []
    try:
        while True:
            number = slots.take()
            try:
                answer = library.control(library.c.CreateNode, number, config)
            except _errors.InUseError:
                tried.append(number)  # other code of this process has it
                continue
            except BaseException:
                tried.append(number)
                raise
            return _assemble(library, number, answer)
    finally:
        for number in tried:
            slots.release(number)


def _assemble(library: _library.Library, number: int, answer: Dict[str, Any]) -> Live:
    try:
        live = Live(library, number, answer)
    except BaseException:
        library.control(library.c.CloseNode, number)
        slots.release(number)
        raise
    _live.add(live)
    return live


def close_all() -> str:
    """Closes every node of this process. Blocks up to 10 s."""
    library = _library.load()
    ours = list(_live)
    for live in ours:
        live.closed = True
    try:
        return str(library.control(library.c.CloseNode, -1))
    finally:
        for live in ours:
            live.let_go()


class TemporaryIdentity:
    """A private directory for the key of a node that gets a new identity each time."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="peerbus-")
        self._process = os.getpid()

    def remove(self) -> None:
        if os.getpid() == self._process:
            shutil.rmtree(self.path, ignore_errors=True)


def _at_exit() -> None:
    if _library._state.forked or not _library.initialized():
        return
    try:
        if _live:
            close_all()
    except _errors.PeerbusError:
        _log_of_peerbus.exception("closing the nodes at the end of the program failed")
    _log.stop()


def _after_fork() -> None:
    # The parent's nodes are not this process's to close, and no lock of theirs may be waited for here.
    _live.clear()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
