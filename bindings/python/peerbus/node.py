"""Node: a peer-to-peer node for asyncio, and the same calls for threads."""

from __future__ import annotations

import asyncio
import enum
from typing import Any, AsyncIterator, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Union

from . import _config, _errors, _library
from ._buffers import Message, Payload
from ._core import DEFAULT_CHANNEL, RESERVE_TIMEOUT_S, Core, Relay, TemporaryIdentity
from ._discovery import FoundPeer, search_async, search_blocking
from ._events import Event, EventStream
from ._publishing import Publication, Publications
from ._waiting import Steps, Waiter, deadline_after, run_async, run_blocking
from .channel import BlockingChannel, Channel, opened

DEFAULT_TIMEOUT_S = 30.0  # of every call that waits for the network (SPEC GEN-06)
FOUND_PEERS = 100  # what find_peers reports at most, unless told otherwise
WEBRTC_TIMEOUT_S = 60.0  # of opening a WebRTC connection (SPEC GEN-06)
BATCH_MESSAGES = 1024  # what receive_batch takes at most, unless told otherwise
BATCH_BYTES = 4 * 1024 * 1024  # payload bytes of that, but always one message
_PATIENCE = 256  # messages that an "async for" takes without a wait before it lets other tasks run


class Policy(enum.IntEnum):
    """What happens to a message that finds the receive queue of its channel full (SPEC P2P-18)."""

    BLOCK = 0
    """Stop reading that stream, so that flow control holds the sender. Default of direct channels."""
    DROP_OLDEST = 1
    """Default of topics."""
    DROP_NEWEST = 2
    LATEST = 3
    """Keep only the newest message."""


class _Face:
    """What Node and BlockingNode have in common: everything that does not wait."""

    _core: Core

    def __init__(
        self, identity_dir: Optional[_config.PathText] = None, *, config: Optional[Mapping[str, Any]] = None, **keys: Any
    ) -> None:
        merged = _config.node_config(config, keys)
        if identity_dir is None and merged.get("identity_dir") is None:
            identity = TemporaryIdentity()
            self._core = _core_of({**merged, "identity_dir": identity.path}, identity.remove)
            return
        if identity_dir is not None:
            if merged.get("identity_dir") is not None:
                raise TypeError("identity_dir is given twice")
            merged["identity_dir"] = identity_dir
        self._core = Core(merged)

    @property
    def peer_id(self) -> str:
        """The node's own id, e.g. ``"12D3KooW..."``. Stays readable after the end."""
        return self._core.live_or_closed.peer_id

    @property
    def addresses(self) -> List[str]:
        """Own addresses, each ending in ``/p2p/<peer id>`` (SPEC P2P-10). Loopback only if there is nothing else."""
        return list(self._core.ask("GetNodeAddresses", b""))

    def addresses_of(self, peer_id: str) -> List[str]:
        """Known addresses of a peer. Raises NotFoundError (SPEC P2P-23)."""
        return list(self._core.ask("GetNodeAddresses", _library.encode(peer_id, "peer id")))

    @property
    def reachability(self) -> str:
        """``"unknown"``, ``"public"`` or ``"private"``: the newest verdict (SPEC P2P-11)."""
        return self._core.live.events.reachability

    @property
    def is_public(self) -> bool:
        """Whether others can dial this node; false before the first verdict."""
        return bool(self._core.ask("GetReachability"))

    @property
    def closed(self) -> bool:
        """Whether the node was closed."""
        return self._core.closed

    @property
    def waiting(self) -> int:
        """Received messages that nobody has taken yet."""
        return self._core.waiting()

    @property
    def event_counts(self) -> Dict[str, int]:
        """How many events of each type came so far, operations included."""
        return dict(self._core.live_or_closed.events.counts)

    def direct_channel(self, peer_id: str, name: str = DEFAULT_CHANNEL) -> str:
        """The channel on which this node sends to that peer: ``"<own>::dm:<peer>-<name>"``."""
        return self._core.direct_channel(peer_id, name)

    def topic(self, name: str, owner: Optional[str] = None) -> str:
        """The topic channel ``"<owner>::ps:<name>"``; the owner is this node unless given."""
        return self._core.topic(name, owner)

    def set_policy(self, channel: str, policy: Union[Policy, str]) -> None:
        """What happens when that channel's receive queue is full: a Policy or its name, e.g. ``"latest"``."""
        try:
            number = Policy[policy.upper()] if isinstance(policy, str) else Policy(policy)
        except (KeyError, ValueError):
            names = ", ".join(known.name.lower() for known in Policy)
            raise _errors.InvalidArgumentError(f"{policy!r} is no policy; there are {names}") from None
        self._core.set_policy(channel, number)

    def peers(self) -> List[Dict[str, Any]]:
        """The connected application peers: id, addrs, connected_at, direction, misc, relayed (SPEC P2P-24)."""
        return list(self._core.ask("GetConnectedPeers"))

    def open_topic(self, channel: str, mode: str = "direct", overflow: Optional[str] = None) -> None:
        """Chooses how this node takes part in a topic: ``"direct"`` or ``"gossip"``, which a topic is without this call.

        A direct topic goes from its publisher to each subscriber over acknowledged channels: lossless and in order.
        ``overflow`` says what happens to a message for a subscriber without room: ``"block"`` (default: ``publish`` waits),
        ``"drop_newest"`` or ``"drop_oldest"``, which concern that subscriber alone. Subscribers open it as direct, too.
        See docs/topics.md. Raises RefusedError while it is subscribed to in the other mode."""
        self._core.open_topic(channel, mode, overflow)

    def topic_info(self, channel: str) -> Dict[str, Any]:
        """``mode``, ``subscribers`` with their state and ``publishers`` with what is ``missing`` of each: see GetTopicInfo of
        the header. Raises NotFoundError."""
        return self._core.topic_info(channel)

    def set_topic_rules(self, channel: str, rules: Optional[Mapping[str, Any]]) -> None:
        """Rules that the library applies to a topic, whether subscribed or not; None removes them.

        Keys, all optional: ``allow`` (peer ids that may publish), ``max_bytes``, ``rate``
        (``{"per_second": 10, "burst": 20}`` of each author), ``schema`` (``"any"``, ``"json"`` or ``"envelope"``) and
        ``content_types`` of envelopes. What they refuse does not spread and is a ``messages_lost`` event with its reason.
        Raises InvalidArgumentError."""
        self._core.set_topic_rules(channel, rules)

    def webrtc_connections(self) -> List[Dict[str, str]]:
        """The WebRTC data channels: ``peer_id`` and ``state``, ``"open"`` or ``"other"`` (SPEC P2P-25)."""
        return list(self._core.ask("GetWebRTCConnections"))

    def set_ice_config(
        self,
        stun_servers: Optional[Sequence[str]] = None,
        turn_servers: Optional[Sequence[Mapping[str, Any]]] = None,
    ) -> None:
        """Replaces the STUN and TURN servers of later WebRTC connections; None keeps, ``[]`` clears (SPEC P2P-25)."""
        self._core.set_ice_config(stun_servers, turn_servers)

    def topic_peers(self) -> List[str]:
        """Ids of the connected peers that subscribe to a topic this node has joined, each once (SPEC P2P-20)."""
        return list(self._core.ask("GetTopicPeers"))

    def rendezvous_peers(self) -> Optional[Dict[str, Any]]:
        """The newest snapshot of the rendezvous topic, ``peers`` and ``update_count``; None before the first (P2P-21)."""
        answer: Optional[Dict[str, Any]] = self._core.ask("GetRendezvousPeers")
        return answer

    def statistics(self) -> Dict[str, Any]:
        """Counters and gauges of the node; losses are exact (SPEC GEN-02)."""
        return dict(self._core.ask("GetStatistics"))

    def stop_advertising(self, name: str) -> None:
        """Ends ``advertise``: the LAN forgets at once, DHT servers within 30 minutes. Idempotent."""
        self._core.stop_advertising(name)

    def events(self, *types: str) -> EventStream:
        """The events from now on, of the given types or all: iterate with ``for`` or ``async for``."""
        return self._core.live.events.open_stream(list(types) if types else None)

    def on_event(self, callback: Callable[[Event], object]) -> Callable[[], None]:
        """Calls ``callback(event)`` for every later event, on a thread of this node; it may block and may use the node.

        Exceptions of the callback are logged and change nothing. Returns what removes the callback."""
        return self._core.live.events.call_back(callback)

    def _wait_for_message(self, waiter: Waiter, channel: Optional[str], deadline: Optional[float]) -> Steps[Message]:
        taken = yield from self._core.live_or_closed.inbox.wait(waiter, channel, 1, 0, True, deadline)
        if not taken:  # the caller had found nothing either
            raise _errors.TimeoutError("no message came before the timeout")
        return taken[0]

    def __repr__(self) -> str:
        live = self._core._live
        return f"<{type(self).__name__} {'not started' if live is None else live.peer_id}{' closed' if self.closed else ''}>"


def _core_of(config: _config.Config, clean_up: Callable[[], object]) -> Core:
    try:
        return Core(config, clean_up)
    except BaseException:
        clean_up()
        raise


class Node(_Face):
    """A peer-to-peer node.

    ::

        async with peerbus.Node() as node:              # asyncio
            await node.connect(addresses)
            await node.send(peer_id, b"hello")
            async for message in node.messages():
                print(message.sender, bytes(message))

        with peerbus.Node() as node:                    # threads: a BlockingNode with the same methods
            node.connect(addresses)

    The arguments are the configuration; the node starts with the ``with`` block, or with ``start()``. ``sync`` is the
    blocking face of the same node; both may be used at once, from any thread and any number of event loops.

    Arguments:
        identity_dir: directory of the node's key, created if absent. Without it the node gets a new identity in a
            private temporary directory, which is removed at its end.
        config: keys of CreateNode as README.md lists them, e.g. ``{"dht": {"enabled": False}}``.
        keys: the same keys as keywords (``dht={"enabled": False}``), and shorter names of common ones: ``ips``
            (``listen_ips``), ``port`` (``predefined_port``, 0: random), ``name`` (``log.name``). ``limits`` not given
            are those of ``peerbus.NODE_LIMITS``.

    Like every libp2p node it listens on 0.0.0.0 unless told otherwise: ``ips=["127.0.0.1"]`` keeps it on this machine.

    Timeouts are seconds; 0 tries once. Every failure is a subclass of PeerbusError.
    A ``send`` that finds room, and a ``receive`` that finds a message, do not switch tasks.
    """

    @property
    def sync(self) -> BlockingNode:
        """The same node with blocking methods."""
        return BlockingNode._of(self._core)

    @classmethod
    def _of(cls, core: Core) -> Node:
        node = cls.__new__(cls)
        node._core = core
        return node

    async def start(self) -> Node:
        """Starts the node; ``async with`` does it. Raises InvalidConfigError, IdentityError."""
        await run_async(self._core.start)
        return self

    async def close(self) -> None:
        """Closes the node: messages taken for sending get up to 2 s to leave. Closing again is fine.

        Fetched messages can still be received; then ``receive`` raises ClosedError, and iterations end.
        Cancelling it does not stop the closing."""
        await run_async(self._core.close)

    async def __aenter__(self) -> Node:
        return await self.start()

    async def __aexit__(self, *error: object) -> None:
        if not _library._state.forked:
            await self.close()

    def __enter__(self) -> BlockingNode:
        return self.sync.__enter__()

    def __exit__(self, *error: object) -> None:
        self.sync.__exit__(*error)

    async def connect(self, addresses: Union[str, Sequence[str]], timeout: float = DEFAULT_TIMEOUT_S) -> Dict[str, Any]:
        """Connects to a peer by its multiaddresses; the first must end in ``/p2p/<peer id>`` (SPEC P2P-12), or be that alone
        where discovery can find the peer.

        Returns ``{"ID": peer id, "Addrs": [address actually dialled]}``. Cancelling the task cancels the dialling.
        Raises InvalidArgumentError (a ValueError), UnreachableError, TimeoutError, RefusedError."""
        return await run_async(lambda waiter: self._core.connect(waiter, addresses, timeout))

    def find_peers(
        self, name: str = "", limit: int = FOUND_PEERS, timeout: float = DEFAULT_TIMEOUT_S
    ) -> AsyncIterator[FoundPeer]:
        """The peers that advertise a name, or subscribe to a topic channel, as they are found; for ``async for``.

        The empty name stands for every node on the LAN (``mdns.enabled``). Ends after ``limit`` peers (1 to 1000) or
        ``timeout`` seconds, which is no error; leaving the loop ends the search. Nothing is connected by it.
        Raises UnsupportedError when discovery is off, UnreachableError when nobody could be asked."""
        return search_async(self._core.events, name, limit, timeout)

    async def find_peer(self, peer_id: str, timeout: float = DEFAULT_TIMEOUT_S) -> List[str]:
        """The addresses of a peer, as ``connect`` takes them. ``connect("/p2p/<peer id>")`` looks them up by itself.

        Raises NotFoundError, UnsupportedError when discovery is off, UnreachableError."""
        return await run_async(lambda waiter: self._core.find_peer(waiter, peer_id, timeout))

    async def advertise(self, name: str, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        """Lets others find this node under a name, or a topic channel, from its return until ``stop_advertising``.

        Raises UnreachableError or TimeoutError when nobody took it; then nothing stays."""
        await run_async(lambda waiter: self._core.advertise(waiter, name, timeout))

    async def disconnect(self, peer_id: str, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        """Closes every connection to the peer and forgets it. Not connected is no error (SPEC P2P-13)."""
        await run_async(lambda waiter: self._core.disconnect(waiter, peer_id, timeout))

    async def reserve_on_relay(self, relay_id: str, timeout: float = RESERVE_TIMEOUT_S) -> str:
        """Reserves a slot at a connected relay, so that others reach this node through it (SPEC P2P-22).

        ``addresses`` gain ``<relay>/p2p-circuit``. The reservation is renewed in time and made again after a loss (events
        ``relay_reserved``, ``relay_lost``, ``relay_failed``) until the node disconnects from the relay or closes. Returns
        when it ends, as ``YYYY-MM-DDThh:mm:ssZ``. Raises NotConnectedError, RefusedError, TimeoutError."""
        return await run_async(lambda waiter: self._core.reserve_on_relay(waiter, relay_id, timeout))

    async def start_static_relay(self, relay: Relay, timeout: float = RESERVE_TIMEOUT_S) -> str:
        """Connects to a relay and uses it instead of the configuration's ``relay.static_relays``; when it fails, nothing
        changes. Returns when the reservation ends. Raises UnreachableError, RefusedError, TimeoutError."""
        return await run_async(lambda waiter: self._core.start_static_relay(waiter, relay, timeout))

    async def diagnose(self, timeout: float = DEFAULT_TIMEOUT_S) -> Dict[str, Any]:
        """How this node is reached: addresses with their verdicts, NAT, relays, hole punches, connections, and ``advice``, a
        list of ``{"code", "text", "change"}``. Takes up to 2 s. The fields are those of ``Diagnose`` in include/peerbus.h."""
        return await run_async(lambda waiter: self._core.diagnose(waiter, timeout))

    async def initiate_webrtc(self, peer_id: str, timeout: float = WEBRTC_TIMEOUT_S) -> Dict[str, Any]:
        """Opens a WebRTC connection with a connected peer; direct messages then travel on it (SPEC P2P-25, NEW-15).

        Returns it with the ``path`` that was found. Cancelling the task ends the attempt. Raises RefusedError (open
        already, or the peer said no), NotConnectedError, UnreachableError, TimeoutError, UnsupportedError."""
        return await run_async(lambda waiter: self._core.initiate_webrtc(waiter, peer_id, timeout))

    async def close_webrtc(self, peer_id: str) -> None:
        """Closes the WebRTC data channel with the peer; none is no error. Messages on their way get a second."""
        await run_async(lambda waiter: self._core.close_webrtc(waiter, peer_id))

    async def send(self, to: str, data: Payload, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        """Puts a message into the outbound queue of a peer id (its channel ``main``) or of a direct channel.

        When it returns, the data may change: it is copied, but for ``bytes`` of at least 256 KiB, which never do and are held
        until the peer has them. While there is no room it waits, in the order of the calls; then it raises
        WouldBlockError at the timeout, and nothing was sent. A message that was taken and then lost is a
        ``messages_lost`` event. Raises NotConnectedError, InvalidArgumentError, TooLargeError, ClosedError."""
        if not self._core.try_send(to, data):
            await self._send_later(to, data, timeout)

    async def _send_later(self, to: str, data: Payload, timeout: float) -> None:
        await run_async(lambda waiter: self._core.send(waiter, to, data, timeout))

    def channel(self, to: str, name: Optional[str] = None, **options: Any) -> Channel:
        """The sending side of a direct channel: to a peer id and ``name`` (default ``"main"``), or a whole channel name.

        It answers message ids and tells when a message was accepted and taken; see Channel. Nothing is sent yet. ``options``
        are those of ``Channel.configure``, e.g. ``send_class="bulk"`` or ``durable=True``."""
        return opened(Channel, self._core, to, name, options)

    async def publish(self, channel: str, data: Payload, timeout: float = DEFAULT_TIMEOUT_S) -> Publication:
        """Publishes on a topic channel, without subscribing to it. Returns how many connected subscribers there were (an
        int), with the message's ``id``.

        While a subscriber takes messages slower than they are published it waits; then it raises WouldBlockError at the
        timeout, and nothing was published. A subscriber that takes nothing for ``topics.stall_ms`` ceases to hold
        others up: what it misses is a ``messages_lost`` event. Raises InvalidArgumentError when the topic's rules refuse
        the message."""
        published = self._core.try_publish(channel, data)
        if published is not None:
            return published
        return (await run_async(lambda waiter: self._core.publish_many(waiter, channel, [data], timeout)))[0]

    async def publish_many(
        self, channel: str, payloads: Sequence[Payload], timeout: float = DEFAULT_TIMEOUT_S
    ) -> Publications:
        """Publishes the messages in order: much cheaper than one by one. An error says how many went out before it."""
        return await run_async(lambda waiter: self._core.publish_many(waiter, channel, payloads, timeout))

    async def wait_for_topic_peers(self, channel: str, count: int, timeout: float = DEFAULT_TIMEOUT_S) -> int:
        """Waits until at least ``count`` connected peers subscribe to the topic. Returns how many do. Raises TimeoutError."""
        return await run_async(lambda waiter: self._core.wait_for_topic_peers(waiter, channel, count, timeout))

    async def flush(self, to: str, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        """Waits until what was sent to the peer id or channel before is in the peer's receive queue; on a channel that speaks
        chat, until the transport has taken it.

        Raises TimeoutError, or PeerClosedError when some of it was lost."""
        await run_async(lambda waiter: self._core.flush(waiter, to, timeout))

    async def subscribe(self, channel: str, timeout: float = DEFAULT_TIMEOUT_S, mode: Optional[str] = None) -> None:
        """Starts receiving a topic channel. Idempotent. One rendezvous topic (``...:rv``) at a time (SPEC P2P-20, P2P-21).

        ``mode``, ``"direct"`` or ``"gossip"``, opens the topic so before: see ``open_topic``."""
        await run_async(lambda waiter: self._core.subscribe(waiter, channel, timeout, mode))

    async def unsubscribe(self, channel: str, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        """Stops receiving a topic channel. Idempotent, also for unknown topics."""
        await run_async(lambda waiter: self._core.unsubscribe(waiter, channel, timeout))

    async def receive(self, channel: Optional[str] = None, timeout: Optional[float] = None) -> Message:
        """Takes the next message, of one channel or of all in turn. Waits until one comes, or ``timeout`` seconds.

        A cancelled wait has taken nothing. Raises TimeoutError; ClosedError once the node is closed and what was
        fetched before is taken."""
        inbox = self._core.live_or_closed.inbox
        message = inbox.take_one(channel)
        if message is None:
            deadline = deadline_after(timeout)
            if channel is None and await inbox.expect(deadline):
                message = inbox.take_one(None)
            if message is None:
                message = await run_async(lambda waiter: self._wait_for_message(waiter, channel, deadline))
        return message

    async def receive_batch(
        self,
        channel: Optional[str] = None,
        timeout: Optional[float] = None,
        max_messages: int = BATCH_MESSAGES,
        max_bytes: int = BATCH_BYTES,
    ) -> List[Message]:
        """Waits for the first message and takes all that wait, within the bounds, but always one (``max_bytes`` 0: no
        bound). An empty list at the timeout."""
        inbox, deadline = self._core.live_or_closed.inbox, deadline_after(timeout)
        taken = inbox.take(channel, max_messages, max_bytes)
        if not taken and channel is None and await inbox.expect(deadline):
            taken = inbox.take(channel, max_messages, max_bytes)
        return taken or await run_async(lambda waiter: inbox.receive(waiter, channel, max_messages, max_bytes, False, deadline))

    async def confirm(self, messages: Union[Message, Iterable[Message]]) -> None:
        """Says that the program is done with messages of durable channels: see ``Message.confirm``. Many at once cost one
        writing of the disk. Others among them are fine."""
        confirmer = self._core.live.inbox.confirmer
        await run_async(lambda waiter: confirmer.steps(waiter, messages))

    def messages(self, channel: Optional[str] = None) -> AsyncIterator[Message]:
        """The messages as they come, for ``async for``; ends when the node is closed.

        Leaving the loop early loses nothing: later messages go to whoever receives next."""
        return _MessageStream(self, channel)


class _MessageStream:
    """``async for`` over the messages."""

    def __init__(self, node: Node, channel: Optional[str]) -> None:
        self._node = node
        self._channel = channel
        self._since_wait = 0

    def __aiter__(self) -> _MessageStream:
        return self

    async def __anext__(self) -> Message:
        inbox = self._node._core.live_or_closed.inbox
        if self._since_wait >= _PATIENCE:
            self._since_wait = 0
            await asyncio.sleep(0)  # before a message is taken: a cancellation in here loses none
        try:
            message = inbox.take_one(self._channel)
            if message is not None:
                self._since_wait += 1
                return message
            self._since_wait = 0
            return await self._node.receive(self._channel)
        except _errors.ClosedError:
            raise StopAsyncIteration from None


class BlockingNode(_Face):
    """A Node whose methods block the calling thread instead of being awaited. Arguments and errors are those of Node.

    Get it by ``with peerbus.Node(...) as node``, as ``node.sync`` of a running Node, or make one directly. Ctrl-C ends
    every wait; a message, connection or subscription is then either complete or cancelled, never half done.
    """

    @property
    def sync(self) -> BlockingNode:
        """Itself."""
        return self

    @property
    def asynchronous(self) -> Node:
        """The same node with awaitable methods."""
        return Node._of(self._core)

    @classmethod
    def _of(cls, core: Core) -> BlockingNode:
        node = cls.__new__(cls)
        node._core = core
        return node

    def start(self) -> BlockingNode:
        """See Node.start."""
        run_blocking(self._core.start)
        return self

    def close(self) -> None:
        """See Node.close."""
        run_blocking(self._core.close)

    def __enter__(self) -> BlockingNode:
        return self.start()

    def __exit__(self, *error: object) -> None:
        if not _library._state.forked:
            self.close()

    def connect(self, addresses: Union[str, Sequence[str]], timeout: float = DEFAULT_TIMEOUT_S) -> Dict[str, Any]:
        """See Node.connect."""
        return run_blocking(lambda waiter: self._core.connect(waiter, addresses, timeout))

    def find_peers(self, name: str = "", limit: int = FOUND_PEERS, timeout: float = DEFAULT_TIMEOUT_S) -> Iterator[FoundPeer]:
        """See Node.find_peers; for ``for``."""
        return search_blocking(self._core.events, name, limit, timeout)

    def find_peer(self, peer_id: str, timeout: float = DEFAULT_TIMEOUT_S) -> List[str]:
        """See Node.find_peer."""
        return run_blocking(lambda waiter: self._core.find_peer(waiter, peer_id, timeout))

    def advertise(self, name: str, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        """See Node.advertise."""
        run_blocking(lambda waiter: self._core.advertise(waiter, name, timeout))

    def disconnect(self, peer_id: str, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        """See Node.disconnect."""
        run_blocking(lambda waiter: self._core.disconnect(waiter, peer_id, timeout))

    def reserve_on_relay(self, relay_id: str, timeout: float = RESERVE_TIMEOUT_S) -> str:
        """See Node.reserve_on_relay."""
        return run_blocking(lambda waiter: self._core.reserve_on_relay(waiter, relay_id, timeout))

    def start_static_relay(self, relay: Relay, timeout: float = RESERVE_TIMEOUT_S) -> str:
        """See Node.start_static_relay."""
        return run_blocking(lambda waiter: self._core.start_static_relay(waiter, relay, timeout))

    def diagnose(self, timeout: float = DEFAULT_TIMEOUT_S) -> Dict[str, Any]:
        """See Node.diagnose."""
        return run_blocking(lambda waiter: self._core.diagnose(waiter, timeout))

    def initiate_webrtc(self, peer_id: str, timeout: float = WEBRTC_TIMEOUT_S) -> Dict[str, Any]:
        """As Node.initiate_webrtc."""
        return run_blocking(lambda waiter: self._core.initiate_webrtc(waiter, peer_id, timeout))

    def close_webrtc(self, peer_id: str) -> None:
        """As Node.close_webrtc."""
        run_blocking(lambda waiter: self._core.close_webrtc(waiter, peer_id))

    def send(self, to: str, data: Payload, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        """See Node.send."""
        if not self._core.try_send(to, data):
            self._send_later(to, data, timeout)

    def _send_later(self, to: str, data: Payload, timeout: float) -> None:
        run_blocking(lambda waiter: self._core.send(waiter, to, data, timeout))

    def channel(self, to: str, name: Optional[str] = None, **options: Any) -> BlockingChannel:
        """See Node.channel."""
        return opened(BlockingChannel, self._core, to, name, options)

    def publish(self, channel: str, data: Payload, timeout: float = DEFAULT_TIMEOUT_S) -> Publication:
        """See Node.publish."""
        published = self._core.try_publish(channel, data)
        if published is not None:
            return published
        return run_blocking(lambda waiter: self._core.publish_many(waiter, channel, [data], timeout))[0]

    def publish_many(
        self, channel: str, payloads: Sequence[Payload], timeout: float = DEFAULT_TIMEOUT_S
    ) -> Publications:
        """See Node.publish_many."""
        _library.milliseconds(timeout)
        payloads = list(payloads)
        published = self._core.try_publish_many(channel, payloads)
        if len(published) == len(payloads):
            return published
        return run_blocking(lambda waiter: self._core.publish_many(waiter, channel, payloads, timeout, published))

    def wait_for_topic_peers(self, channel: str, count: int, timeout: float = DEFAULT_TIMEOUT_S) -> int:
        """See Node.wait_for_topic_peers."""
        return run_blocking(lambda waiter: self._core.wait_for_topic_peers(waiter, channel, count, timeout))

    def flush(self, to: str, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        """See Node.flush."""
        run_blocking(lambda waiter: self._core.flush(waiter, to, timeout))

    def subscribe(self, channel: str, timeout: float = DEFAULT_TIMEOUT_S, mode: Optional[str] = None) -> None:
        """See Node.subscribe."""
        run_blocking(lambda waiter: self._core.subscribe(waiter, channel, timeout, mode))

    def unsubscribe(self, channel: str, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        """See Node.unsubscribe."""
        run_blocking(lambda waiter: self._core.unsubscribe(waiter, channel, timeout))

    def receive(self, channel: Optional[str] = None, timeout: Optional[float] = None) -> Message:
        """See Node.receive."""
        inbox, deadline = self._core.live_or_closed.inbox, deadline_after(timeout)
        taken = inbox.linger(1, 0, True, deadline) if channel is None else inbox.take(channel, 1, 0, True)
        if taken:
            return taken[0]
        return run_blocking(lambda waiter: self._wait_for_message(waiter, channel, deadline))

    def receive_batch(
        self,
        channel: Optional[str] = None,
        timeout: Optional[float] = None,
        max_messages: int = BATCH_MESSAGES,
        max_bytes: int = BATCH_BYTES,
    ) -> List[Message]:
        """See Node.receive_batch."""
        inbox, deadline = self._core.live_or_closed.inbox, deadline_after(timeout)
        if channel is None:
            taken = inbox.linger(max_messages, max_bytes, False, deadline)
            if taken:
                return taken
        return run_blocking(lambda waiter: inbox.receive(waiter, channel, max_messages, max_bytes, False, deadline))

    def confirm(self, messages: Union[Message, Iterable[Message]]) -> None:
        """See Node.confirm."""
        listed = [messages] if isinstance(messages, Message) else list(messages)
        self._core.live.inbox.confirmer.confirm(listed)

    def messages(self, channel: Optional[str] = None) -> Iterator[Message]:
        """The messages as they come, for ``for``; ends when the node is closed."""
        while True:
            try:
                message = self.receive(channel)
            except _errors.ClosedError:
                return
            yield message
