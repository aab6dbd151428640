"""P2P: the documented blocking class of SPEC section 3, a thin layer on Node."""

from __future__ import annotations

import ctypes
import json
import logging
import struct
import threading
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Sequence, Union

from . import _config, _core, _errors, _library, _log
from ._buffers import Payload
from ._waiting import run_blocking
from ._workers import run_interruptible
from .node import DEFAULT_TIMEOUT_S, WEBRTC_TIMEOUT_S, Node

_logger = logging.getLogger("peerbus.P2P")

_BINARY = 0xB1
_HEAD = struct.Struct(">BII")
_LENGTH = struct.Struct(">I")
_MAX_MESSAGE = 2**31 - 1
_MAX_INSTANCES = 32  # the defaults of SPEC GEN-07 and P2P-01
_MAX_CHANNELS = 100
_MAX_QUEUE_PER_CHANNEL = 50
_MAX_MESSAGE_SIZE = 50 * 1024 * 1024  # bytes
_PEER_ID_PREFIXES = ("Qm", "12D3")
_INFO_LEVELS = {name: "info" for name in _log.LOGGERS}


class P2P:
    """A node with the methods and names of SPEC P2P-*. Every call blocks, releases the GIL and can be ended by Ctrl-C;
    ``node`` is the same node for asyncio.

    Call ``P2P.setup_library()`` first. Errors are P2PError with one subclass per code; wrong arguments are ValueError
    as well.

    Arguments:
        identity_dir: directory of the node's key, created if absent.
        port: base port P: TCP P, QUIC P+1, WebTransport P+2, WebRTC-direct P+3; 0: random ones.
        ips: addresses to listen on, default ``["0.0.0.0"]``.
        enable_relay_client: may be reached through relays. Implied by enable_relay_service.
        enable_relay_service: relays others.
        use_broad_limits: relayed circuits without limits of data and time.
        is_isolated: disconnects peers that do not speak the chat or signalling protocol.
        knows_is_public: public at once, without asking others.
        enable_tls: a certificate by AutoTLS; ignored when the three custom values are given.
        domain_name, tls_cert_path, tls_key_path: a certificate of one's own; all three or none.
        dht_enabled, dht_keep: a DHT client, and whether it stays after the verdict on reachability.
        webrtc_enabled: WebRTC.
        flood_sub: floodsub instead of gossipsub.
        ice_stun_servers, ice_turn_servers: for WebRTC; none by default.
        log_sub: the node's label in logs.
        listen_addrs, listen_ports, static_relays, dht_bootstrap_peers, nat, limits: as the keys of CreateNode.
        reachability_timeout_ms: how long the constructor waits for a verdict on reachability.

    Source: SPEC P2P-04 to P2P-09.
    """

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _set_up: ClassVar[bool] = False

    @classmethod
    def setup_library(
        cls,
        max_instances: Optional[int] = _MAX_INSTANCES,
        max_channels: Optional[int] = _MAX_CHANNELS,
        max_queue_per_channel: Optional[int] = _MAX_QUEUE_PER_CHANNEL,
        max_message_size: Optional[int] = _MAX_MESSAGE_SIZE,
        enable_logging: bool = False,
        unai_logger: Any = None,
    ) -> None:
        """Sets the defaults of later nodes (SPEC P2P-01). A second call warns and changes nothing.

        None is the default, too: 32 nodes, 100 channels, 50 messages per channel, 50 MiB per message. With
        ``enable_logging`` the library's log goes to ``unai_logger`` - a ``logging.Logger``, or an object with the method
        ``p2p(line, src=...)`` - or else to the logger "peerbus". Raises ValueError for numbers that are not positive."""
        instances = _positive("max_instances", max_instances, _MAX_INSTANCES)
        channels = _positive("max_channels", max_channels, _MAX_CHANNELS)
        queue = _positive("max_queue_per_channel", max_queue_per_channel, _MAX_QUEUE_PER_CHANNEL)
        size = _positive("max_message_size", max_message_size, _MAX_MESSAGE_SIZE)
        levels = _INFO_LEVELS if enable_logging else None
        sink = _sink_of(unai_logger) if enable_logging else _log.to_logging
        if not _library.initialize(instances, channels, queue, size, lambda loaded: _log.prepare(loaded, levels, sink)):
            _logger.warning("the library is already set up; setup_library changes nothing")
        cls._set_up = True

    def __init__(
        self,
        identity_dir: _config.PathText,
        port: int = 0,
        ips: Optional[Sequence[str]] = None,
        enable_relay_client: bool = True,
        enable_relay_service: bool = False,
        use_broad_limits: bool = False,
        is_isolated: bool = False,
        knows_is_public: bool = False,
        enable_tls: bool = False,
        domain_name: Optional[str] = None,
        tls_cert_path: Optional[_config.PathText] = None,
        tls_key_path: Optional[_config.PathText] = None,
        dht_enabled: bool = True,
        dht_keep: bool = False,
        webrtc_enabled: bool = True,
        flood_sub: bool = False,
        ice_stun_servers: Optional[Sequence[str]] = None,
        ice_turn_servers: Optional[Sequence[Mapping[str, Any]]] = None,
        log_sub: str = "pub",
        *,
        listen_addrs: Optional[Sequence[str]] = None,
        listen_ports: Optional[Sequence[int]] = None,
        static_relays: Optional[Sequence[Union[str, Mapping[str, Any]]]] = None,
        dht_bootstrap_peers: Optional[Sequence[Union[str, Mapping[str, Any]]]] = None,
        reachability_timeout_ms: Optional[int] = None,
        nat: Optional[Mapping[str, bool]] = None,
        limits: Optional[Mapping[str, int]] = None,
    ) -> None:
        if not P2P._set_up:
            raise _errors.NotInitializedError("the library is not set up; call P2P.setup_library() first")
        custom_tls = (domain_name, tls_cert_path, tls_key_path)
        if any(value is not None for value in custom_tls) and not all(custom_tls):
            raise _errors.InvalidConfigError("domain_name, tls_cert_path and tls_key_path are needed together")
        self._enable_relay_client = bool(enable_relay_client or enable_relay_service)
        self.log_sub = log_sub
        self._is_public = False
        self._core = _core.Core(
            {
                "identity_dir": identity_dir,
                "predefined_port": port,
                "listen_ips": ips,
                "listen_addrs": listen_addrs,
                "listen_ports": listen_ports,
                "relay": {
                    "enable_client": self._enable_relay_client,
                    "enable_service": enable_relay_service,
                    "with_broad_limits": use_broad_limits,
                    "static_relays": static_relays,
                },
                "tls": {
                    "auto_tls": enable_tls and domain_name is None,
                    "domain": domain_name or "",
                    "cert_path": tls_cert_path or "",
                    "key_path": tls_key_path or "",
                },
                "network": {
                    "isolated": is_isolated,
                    "force_public": knows_is_public,
                    "flood_sub": flood_sub,
                    "reachability_timeout_ms": reachability_timeout_ms,
                },
                "dht": {"enabled": dht_enabled, "keep": dht_keep and dht_enabled, "bootstrap_peers": dht_bootstrap_peers},
                "webrtc": {
                    "enabled": webrtc_enabled,
                    "ice_config": {"stun_servers": ice_stun_servers, "turn_servers": ice_turn_servers},
                },
                "nat": nat,
                "limits": limits,
                "log": {"name": log_sub},
                "pop_messages": "binary",
            }
        )
        run_blocking(self._core.start)

    # Life

    @property
    def node(self) -> Node:
        """The same node with awaitable methods, batches and events (SPEC P2P-34)."""
        return Node._of(self._core)

    def close(self, close_all: bool = False) -> str:
        """Closes the node, or with ``close_all`` every node of the process, within 10 s (SPEC P2P-26).

        Closing again succeeds. Returns a message; of close_all ``"n closed, m failed"``."""
        if close_all:
            return run_interruptible(_core.close_all)
        return run_blocking(self._core.close)

    def __enter__(self) -> P2P:
        return self

    def __exit__(self, *error: object) -> None:
        if not _library._state.forked:
            self.close()

    # Peers

    def connect_to(self, multiaddrs: List[str], timeout: float = DEFAULT_TIMEOUT_S) -> Dict[str, Any]:
        """Connects to one peer; the first address carries ``/p2p/<id>``, malformed later ones are skipped (SPEC P2P-12).

        Blocks up to ``timeout`` seconds. Returns ``{"ID": id, "Addrs": [address actually dialled]}``."""
        if not isinstance(multiaddrs, list) or not multiaddrs or not all(isinstance(text, str) for text in multiaddrs):
            raise _errors.InvalidArgumentError("multiaddrs must be a list of texts that is not empty")
        return run_blocking(lambda waiter: self._core.connect(waiter, multiaddrs, timeout))

    def disconnect_from(self, peer_id: str) -> None:
        """Closes every connection to the peer and forgets it; not connected or oneself is no error (SPEC P2P-13)."""
        _nonempty("peer_id", peer_id)
        if not peer_id.startswith(_PEER_ID_PREFIXES):
            _logger.warning("%r does not look like a peer id", peer_id)
        run_blocking(lambda waiter: self._core.disconnect(waiter, peer_id, DEFAULT_TIMEOUT_S))

    def reserve_on_relay(self, relay_id: str) -> str:
        """Reserves a slot at a connected relay within 60 s (SPEC P2P-22): own addresses gain ``<relay>/p2p-circuit``.

        It is renewed until the node disconnects from the relay. Returns its end as ``YYYY-MM-DDThh:mm:ssZ``."""
        _nonempty("relay_id", relay_id)
        return run_blocking(lambda waiter: self._core.reserve_on_relay(waiter, relay_id, _core.RESERVE_TIMEOUT_S))

    def start_static_relay(self, relay: _core.Relay) -> str:
        """Switches to that relay, given as ``{"ID", "Addrs"}`` or by its multiaddresses (SPEC NEW-16)."""
        return run_blocking(lambda waiter: self._core.start_static_relay(waiter, relay, _core.RESERVE_TIMEOUT_S))

    def get_connected_peers_info(self) -> List[Dict[str, Any]]:
        """The connected application peers: id, addrs, connected_at, direction, misc, relayed (SPEC P2P-24).

        A failure is an error, never an empty list."""
        return list(self._core.ask("GetConnectedPeers"))

    def get_node_addresses(self, peer_id: str = "") -> List[str]:
        """Own addresses, or those known of a peer, each with ``/p2p/<id>`` (SPEC P2P-23). Unknown peer: NotFoundError."""
        return list(self._core.ask("GetNodeAddresses", _library.encode(peer_id, "peer_id")))

    # WebRTC

    def get_webrtc_connections(self) -> List[Dict[str, Any]]:
        """The WebRTC data channels: ``{"peer_id": id, "state": "open" or "other"}`` (SPEC P2P-25)."""
        return list(self._core.ask("GetWebRTCConnections"))

    def initiate_webrtc_connection(self, peer_id: str, timeout: float = WEBRTC_TIMEOUT_S) -> Dict[str, Any]:
        """Opens a WebRTC data channel with a connected peer; one that is open already is an error (SPEC P2P-25)."""
        _nonempty("peer_id", peer_id)
        return run_blocking(lambda waiter: self._core.initiate_webrtc(waiter, peer_id, timeout))

    def close_webrtc_connection(self, peer_id: str) -> None:
        """Closes the WebRTC data channel with the peer; none is no error (SPEC P2P-25)."""
        _nonempty("peer_id", peer_id)
        run_blocking(lambda waiter: self._core.close_webrtc(waiter, peer_id))

    def set_ice_config(
        self,
        ice_stun_servers: Optional[Sequence[str]] = None,
        ice_turn_servers: Optional[Sequence[Mapping[str, Any]]] = None,
    ) -> None:
        """Replaces the STUN and TURN servers of later WebRTC connections; None keeps, ``[]`` clears (SPEC P2P-25)."""
        self._core.set_ice_config(ice_stun_servers, ice_turn_servers)

    def set_turn_credentials(self, ice_turn_servers: Sequence[Mapping[str, Any]]) -> None:
        """Replaces the TURN servers of later WebRTC connections (SPEC P2P-25)."""
        self.set_ice_config(ice_turn_servers=ice_turn_servers)

    # Messages

    def send_message_to_peer(self, channel: str, msg_bytes: Payload) -> None:
        """Sends on ``<owner>::dm:<target>-<suffix>`` (SPEC P2P-14). Blocks until the transport took it, at most 30 s."""
        self._send(channel, _core.DIRECT, msg_bytes)

    def broadcast_message(self, channel: str, msg_bytes: Payload) -> None:
        """Publishes on ``<owner>::ps:<name>``, without subscribing (SPEC P2P-16)."""
        self._send(channel, _core.TOPIC, msg_bytes)

    def pop_messages(self) -> List[Dict[str, Any]]:
        """Takes the oldest message of each channel: ``{"from": id, "data": bytes, "protocol": text}`` (SPEC P2P-17)."""
        live = self._core.live
        fetched = live.inbox.pop_pending()
        if fetched:  # by receiving through ``node``
            live.inbox.confirmer.confirm(fetched)
            return [{"from": one.sender, "data": bytes(one), "protocol": one.protocol} for one in fetched]
        return _parse_popped(live.native, live.native.c.PopMessages(live.instance))

    def get_message_queue_length(self) -> int:
        """Messages that wait; -1 on failure (SPEC P2P-19)."""
        try:
            return self._core.waiting()
        except _errors.PeerbusError:
            return -1

    # Topics

    def subscribe_to_topic(self, channel: str) -> None:
        """Starts receiving a topic; idempotent (SPEC P2P-20)."""
        _nonempty("channel", channel)
        run_blocking(lambda waiter: self._core.subscribe(waiter, channel, DEFAULT_TIMEOUT_S))

    def unsubscribe_from_topic(self, channel: str) -> None:
        """Stops receiving a topic; idempotent, unknown topics too (SPEC P2P-20)."""
        _nonempty("channel", channel)
        run_blocking(lambda waiter: self._core.unsubscribe(waiter, channel, DEFAULT_TIMEOUT_S))

    def get_topic_peers(self) -> List[str]:
        """Ids of connected peers that subscribe to any topic this node joined, each once (SPEC P2P-20)."""
        return list(self._core.ask("GetTopicPeers"))

    def get_rendezvous_peers_info(self) -> Optional[Dict[str, Any]]:
        """``{"peers": [...], "update_count": n}`` of the rendezvous topic; None before the first (SPEC P2P-21)."""
        answer: Optional[Dict[str, Any]] = self._core.ask("GetRendezvousPeers")
        return answer

    # State

    @property
    def peer_id(self) -> Optional[str]:
        """The node's own id; None after its life (SPEC P2P-10)."""
        try:
            return self._core.live.peer_id
        except _errors.PeerbusError:
            return None

    @property
    def addresses(self) -> List[str]:
        """Own addresses with ``/p2p/<id>``; [] on failure."""
        try:
            return self.get_node_addresses()
        except _errors.PeerbusError as error:
            _logger.warning("cannot read the node's addresses: %s", error)
            return []

    @property
    def is_public(self) -> bool:
        """Whether the node is publicly reachable; false at first, an unknown verdict keeps the last."""
        return self.get_reachability()

    def get_reachability(self) -> bool:
        """The last verdict on reachability; the last known one on failure."""
        try:
            self._is_public = bool(self._core.ask("GetReachability"))
        except _errors.PeerbusError as error:
            _logger.warning("cannot read the node's reachability: %s", error)
        return self._is_public

    @property
    def relay_is_enabled(self) -> bool:
        """Whether the node is a relay client or service (SPEC P2P-08)."""
        return self._enable_relay_client

    def __repr__(self) -> str:
        return f"<P2P {self.peer_id or 'closed'}>"

    def _send(self, channel: str, kind: str, data: Payload) -> None:
        _nonempty("channel", channel)
        if kind not in channel:
            raise _errors.InvalidArgumentError(f"{channel!r} is no channel of the form <owner>{kind}...")
        live = self._core.live
        name = _library.encode(channel, "channel")
        # Copied unless it cannot change: after Ctrl-C a worker may still read it.
        kept = data if isinstance(data, bytes) else _copied(data)
        if len(kept) > _MAX_MESSAGE:
            raise _errors.TooLargeError(f"a message of {len(kept)} bytes is above {_MAX_MESSAGE}")

        def send() -> object:
            return live.native.control(live.native.c.SendMessageToPeer, live.instance, name, kept, len(kept))

        run_interruptible(send)


def _positive(name: str, value: Optional[int], default: int) -> int:
    if value is None:
        return default
    if not isinstance(value, int):
        raise _errors.ArgumentTypeError(f"{name} must be a whole number, not {type(value).__name__}")
    if not 0 < value <= _MAX_MESSAGE:
        raise _errors.InvalidArgumentError(f"{name} is {value}; it must be 1 to {_MAX_MESSAGE}")
    return value


def _copied(data: Payload) -> bytes:
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise _errors.ArgumentTypeError(f"a message is bytes, not {type(data).__name__}") from None


def _nonempty(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise _errors.InvalidArgumentError(f"{name} must be a text that is not empty, not {value!r}")


def _sink_of(logger: Any) -> _log.Sink:
    if logger is None:
        return _log.to_logging
    if isinstance(logger, logging.Logger):
        return lambda level, name, text: logger.log(level, "%s: %s", name, text)

    def write(_level: int, name: str, text: str) -> None:
        logger.p2p(f"{name}: {text}", src="peerbus")

    return write


def _parse_popped(library: _library.Library, pointer: Optional[int]) -> List[Dict[str, Any]]:
    """What PopMessages returned: its binary layout, or an envelope."""
    if not pointer:
        raise _errors.NoMemoryError("PopMessages could not allocate its answer")
    try:
        head = ctypes.string_at(pointer, 1)
        if head[0] != _BINARY:
            _library.unwrap(json.loads(ctypes.string_at(pointer)))
            return []
        _, total, count = _HEAD.unpack(ctypes.string_at(pointer, _HEAD.size))
        return _parse_binary(ctypes.string_at(pointer, total), count)
    finally:
        library.c.FreeString(pointer)


def _parse_binary(buffer: bytes, count: int) -> List[Dict[str, Any]]:
    offset = _HEAD.size

    def part() -> bytes:
        nonlocal offset
        start = offset + _LENGTH.size
        offset = start + int(_LENGTH.unpack_from(buffer, start - _LENGTH.size)[0])
        return buffer[start:offset]

    messages = []
    for _ in range(count):
        sender, protocol = part().decode(), part().decode()
        messages.append({"from": sender, "data": part(), "protocol": protocol})
    return messages
