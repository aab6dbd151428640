"""ConnectionPools: the documented class of SPEC section 2, a thin face of a pool set of the library."""

from __future__ import annotations

import contextlib
import inspect
from types import TracebackType
from typing import AbstractSet, Any, Callable, Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Tuple, Type

from . import _errors, _library
from ._pools_messages import PoolMsg, encode_content, open_message
from ._pools_native import NativeSet
from ._pools_queries import Changes, PeerInfo, PoolQueries, as_sets, as_text, live_of, log, succeeds
from ._pools_rules import Rule
from ._waiting import deadline_after, run_async
from ._workers import start_call
from .p2p import P2P

CONNECT_TIMEOUT_S = 30.0  # SPEC GEN-06
RESERVE_TIMEOUT_S = 60.0
SEND_TIMEOUT_S = 30.0
REMOVE_TIMEOUT_S = 10.0
RECEIVE_MESSAGES = 1024  # what one get_messages takes at most
RECEIVE_BYTES = 64 * 1024 * 1024  # payload bytes of that, but always one message
_RELAY_MARK = "/p2p-circuit"

Routes = Mapping[str, Mapping[str, Any]]
"""What a routing function answers: ``{pool: {peer_id: info}}``."""


class ConnectionPools(PoolQueries):
    """One connection budget over named pools, each on one network (SPEC POOL-01 to POOL-40).

    The pools follow the connections by themselves; ``update()`` reports what has changed. Who finds no place is refused,
    reported and disconnected. Messages are judged before they are queued: proved sender, membership, token.

    What waits for the network is a coroutine and never blocks the event loop; queries are plain methods that answer at
    once. Where SPEC says True or False, the reason of a False is logged to "peerbus.pools"; wrong use raises ValueError,
    unknown names KeyError, both P2PErrors as well. Events (``pool_peer_added``, ``pool_peer_refused``, ..., see
    include/peerbus.h) come through ``p2p.node.events()`` of each network.

    Arguments:
        max_connections: the budget.
        pool_name_to_p2p_name_and_ratio: ``{pool: [network, capacity]}`` in order; see ``Capacity``.
        p2p_name_to_p2p: ``{network: P2P}``.
        public_key: PEM or JWK that verifies tokens; with it every message needs a valid one.
        token: the own token; None and "" are none.
        rules: who belongs where. Without rules a subclass overrides ``conn_routing_fcn``, or ``add`` places everybody.
        policy: ``"token"`` (default with a public key) or ``"none"``: messages are judged by sender and membership only.
        inspector_node_id: whose inspector bit counts.
        keep_refused: refused peers stay connected, strangers excepted.
        members_only: networks on which only peers of the allow sets of their rules are tolerated; others are strangers.
        refuse_relayed: networks that refuse connections through relays.
    """

    def __init__(
        self,
        max_connections: int,
        pool_name_to_p2p_name_and_ratio: Mapping[str, Sequence[Any]],
        p2p_name_to_p2p: Mapping[str, P2P],
        public_key: Optional[str] = None,
        token: Optional[str] = None,
        *,
        rules: Optional[Iterable[Rule]] = None,
        policy: Optional[str] = None,
        inspector_node_id: Optional[str] = None,
        keep_refused: bool = False,
        members_only: Iterable[str] = (),
        refuse_relayed: Iterable[str] = (),
    ) -> None:
        members, direct = _among(p2p_name_to_p2p, members_only), _among(p2p_name_to_p2p, refuse_relayed)
        config: Dict[str, Any] = common_config(max_connections, public_key, token, policy, inspector_node_id, keep_refused)
        config["networks"] = [
            {"name": name, "instance": live_of(p2p).instance, "members_only": name in members, "refuse_relayed": name in direct}
            for name, p2p in p2p_name_to_p2p.items()
        ]
        config["pools"] = [_declaration(name, given) for name, given in pool_name_to_p2p_name_and_ratio.items()]
        if rules is None:
            config["custom_routing"] = True
        else:
            config["rules"] = [rule.as_json() for rule in rules]
        self._open(config, p2p_name_to_p2p)

    def _open(self, config: Mapping[str, Any], networks: Mapping[str, P2P]) -> None:
        self._networks = dict(networks)
        self._custom = bool(config.get("custom_routing"))
        self._heard: Dict[str, FrozenSet[str]] = {}
        self._set = NativeSet(config)

    # Life

    def close(self) -> None:
        """Closes the pools; the networks stay open and receive unjudged from then on. Closing again is fine.

        Blocks while a refused peer is being disconnected, at most 10 s."""
        self._set.close()

    def close_transports(self) -> None:
        """Closes the pools, then every network, the last declared one first. Blocks, at most 10 s for each."""
        problems: List[_errors.PeerbusError] = []
        closings: List[Callable[[], object]] = [self.close, *(p2p.close for p2p in reversed(list(self._networks.values())))]
        for closing in closings:
            try:
                closing()
            except _errors.PeerbusError as error:
                problems.append(error)
        if problems:
            raise problems[0]

    def __enter__(self) -> ConnectionPools:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if not _library._state.forked:
            self.close()

    # Connections

    async def connect(
        self, addresses: Sequence[str], p2p_name: str, *, timeout: float = CONNECT_TIMEOUT_S
    ) -> Tuple[Optional[str], bool]:
        """Connects to a peer; returns its id and whether a relay is in between, ``(None, False)`` on failure (POOL-09).

        It places nobody: the connection does. Cancelling the task cancels the dialling."""
        core = self[p2p_name]._core
        if not addresses:
            return None, False
        try:
            reached = await run_async(lambda waiter: core.connect(waiter, addresses, timeout))
        except _errors.PeerbusError as error:
            log.warning("connecting on %s failed: %s", p2p_name, error)
            return None, False
        return str(reached["ID"]), any(_RELAY_MARK in address for address in reached["Addrs"])

    @staticmethod
    async def disconnect(p2p: P2P, peer_id: str) -> bool:
        """Disconnects a peer and leaves the pools to the end of the connection; False on error (POOL-11)."""
        leaving = run_async(lambda waiter: p2p._core.disconnect(waiter, peer_id, CONNECT_TIMEOUT_S))
        return await succeeds(f"disconnecting {peer_id}", leaving)

    async def reserve(self, peer_id: str, p2p_name: str) -> Optional[str]:
        """Reserves a place on a connected relay; its UTC expiry as ``YYYY-MM-DDThh:mm:ssZ``, or None (POOL-14)."""
        p2p = self[p2p_name]
        try:
            answer = await self._set.operate(live_of(p2p), p2p_name, "PoolsReserve", peer_id, RESERVE_TIMEOUT_S)
        except _errors.PeerbusError as error:
            log.warning("no reservation on %s: %s", peer_id, error)
            return None
        return str(answer["expires"])

    async def remove(self, peer_id: str) -> bool:
        """Disconnects a pooled peer and forgets its place, info, addresses and token; its role stays (POOL-20 to POOL-22).

        False: it was in no pool and is left alone, or disconnecting failed; its place is forgotten even then."""
        milliseconds = _library.milliseconds(REMOVE_TIMEOUT_S)
        removing = self._operate("PoolsRemove", peer_id, lambda: self._set.call("PoolsRemove", peer_id, milliseconds))
        try:
            return bool(await removing)
        except _errors.PeerbusError as error:
            log.warning("removing %s: %s", peer_id, error)
            return False

    async def _operate(self, function: str, argument: str, on_closed_nodes: Callable[[], Any]) -> Any:
        """A function of the set in the background of whichever node is open. Without one it waits for nothing and is called."""
        for p2p in self._networks.values():
            live = p2p._core._live
            if live is not None:
                with contextlib.suppress(_errors.ClosedError, _errors.NoNodeError):
                    return await self._set.operate(live, "", function, argument, REMOVE_TIMEOUT_S)
        return on_closed_nodes()

    # Routing

    async def conn_routing_fcn(self, connected_peer_infos: List[PeerInfo], p2p: P2P, membership: Any = None) -> Routes:
        """Where connected peers of a network belong, ``{pool: {peer_id: info}}``; whom it leaves out is refused (POOL-25).

        A hook for subclasses of sets without rules: a coroutine or a plain method of ``(infos, p2p)``, or of a third parameter,
        which is None here. ``update`` and ``get_messages`` ask it once about each new connection, ``route_again``
        about all. NotImplementedError in this class."""
        raise NotImplementedError("give rules=[...], or override conn_routing_fcn in a subclass")

    async def update(self) -> Tuple[Changes, Changes]:
        """Places what waits; returns and keeps ``(added, removed)`` since the last update, changed pools only (POOL-23).

        removed are lost peers, and peers that belong elsewhere now. They keep their place until ``remove`` or their return,
        so each update lists them again. A network that cannot be asked for its connections is logged, and its pools
        stay as they are. NotImplementedError without rules and without a routing function."""
        if self._custom and not self._routes_itself:
            raise NotImplementedError("update needs rules=[...], or a subclass that overrides conn_routing_fcn")
        for name in self._networks:
            await self._route_new(name)
        changes = self._set.call("PoolsUpdate")
        for problem in changes.get("problems") or ():
            log.error("%s", problem)
        return as_sets(changes["added"]), as_sets(changes["removed"])

    async def route_again(self) -> None:
        """Asks the routing function about every live connection, for when what it looks at has changed.

        Peers that belong elsewhere by now keep their place and are flagged by the next ``update``."""
        for name, p2p in self._networks.items():
            await self._route(name, p2p.get_connected_peers_info())

    @property
    def _routes_itself(self) -> bool:
        return type(self).conn_routing_fcn is not ConnectionPools.conn_routing_fcn

    async def _route_new(self, p2p_name: str) -> None:
        if self._custom and self._routes_itself:
            await self._route(p2p_name, self._set.ask("unrouted", network=p2p_name))

    async def _route(self, p2p_name: str, infos: List[PeerInfo]) -> None:
        if not infos:
            return
        asked: List[Any] = [infos, self._networks[p2p_name], None]
        answer: Any = self.conn_routing_fcn(*asked if _takes(self.conn_routing_fcn, len(asked)) else asked[:2])
        routes: Routes = await answer if inspect.isawaitable(answer) else answer
        chosen = {str(info["id"]): "" for info in infos}
        for pool, peers in routes.items():
            for peer_id in peers:
                if chosen.get(peer_id):
                    raise _errors.InvalidArgumentError(f"{peer_id} is routed to {chosen[peer_id]} and to {pool}")
                chosen[peer_id] = pool
        self._set.call("PoolsRoute", p2p_name, as_text(chosen))

    # Messages

    async def send(
        self,
        peer_id: str,
        channel_trail: Optional[str],
        content_type: str,
        content: Any = None,
        p2p: Optional[P2P] = None,
        *,
        timeout: float = SEND_TIMEOUT_S,
    ) -> bool:
        """Sends to one peer on ``<own>::dm:<peer>-<content_type>`` plus ``~<trail>`` (POOL-35).

        content as ``peerbus.messages.Msg`` takes it, with the same errors. The network is that of the peer's pool unless
        given. True: the library took the message; a later loss is a messages_lost event. False: no network, no
        connection, or no room within ``timeout`` seconds."""
        field, data = await encode_content(content_type, content)
        trail = channel_trail or ""
        network = None if p2p is None else self._name_of(p2p)
        if p2p is not None and network is None:
            log.warning("sending to %s: the given network is none of these pools'", peer_id)
            return False

        def attempt() -> bool:
            try:
                self._set.send(peer_id, trail, content_type, field, data, network)
            except _errors.WouldBlockError:
                return False
            return True

        async def sending() -> None:
            if self._crowded() or not attempt():
                await self._wait_and_send(p2p or self._p2p_of(peer_id), peer_id, trail, content_type, attempt, timeout)

        return await succeeds(f"sending {content_type} to {peer_id}", sending())

    async def _wait_and_send(
        self, p2p: P2P, peer_id: str, trail: str, content_type: str, attempt: Callable[[], bool], timeout: float
    ) -> None:
        live, deadline = live_of(p2p), deadline_after(timeout)
        channel = f"{live.peer_id}::dm:{peer_id}-{content_type}" + (f"~{trail}" if trail else "")
        await run_async(lambda waiter: live.outbox.send(waiter, channel, attempt, deadline))

    def _crowded(self) -> bool:
        """Whether anybody waits for room, so that a new sender must not overtake him."""
        lives = (p2p._core._live for p2p in self._networks.values())
        return any(live is not None and live.outbox.crowded for live in lives)

    async def publish(
        self, peer_id: str, channel: str, content_type: str, content: Any = None, *, timeout: float = SEND_TIMEOUT_S
    ) -> bool:
        """Publishes on a topic, on the network whose own id ``peer_id`` is, else that of the peer's pool (POOL-37).

        False: no such network, or an error. True does not say that anybody subscribes."""
        field, data = await encode_content(content_type, content)
        timeout_ms = _library.milliseconds(timeout)

        def publish(wait_ms: int) -> int:
            return self._set.publish(peer_id, channel, content_type, field, data, wait_ms)

        async def publishing() -> None:
            try:
                publish(0)
            except (_errors.WouldBlockError, _errors.TimeoutError):
                await run_async(start_call(lambda: publish(timeout_ms)).wait)

        return await succeeds(f"publishing on {channel}", publishing())

    async def subscribe(self, peer_id: str, channel: str, default_p2p_name: Optional[str] = None) -> bool:
        """Starts receiving a topic: on the network whose own id ``peer_id`` is, else that of the peer's pool, else the
        default one; False without any, and on errors (POOL-36)."""
        return await succeeds(f"subscribing to {channel}", self._on_topic("PoolsSubscribe", peer_id, channel, default_p2p_name))

    async def unsubscribe(self, peer_id: str, channel: str, default_p2p_name: Optional[str] = None) -> bool:
        """Stops receiving a topic; networks as in ``subscribe``."""
        ending = self._on_topic("PoolsUnsubscribe", peer_id, channel, default_p2p_name)
        return await succeeds(f"unsubscribing from {channel}", ending)

    async def _on_topic(self, function: str, peer_id: str, channel: str, p2p_name: Optional[str]) -> None:
        argument = as_text({"peer": peer_id, "channel": channel, "network": p2p_name or ""})
        await self._operate(function, argument, lambda: self._set.call(function, peer_id, channel, p2p_name or ""))

    async def get_messages(
        self, p2p_name: str, allowed_not_connected_peers: Optional[AbstractSet[str]] = None, *, timeout: float = 0.0
    ) -> List[PoolMsg]:
        """Takes the messages of a network that wait; with a ``timeout`` it waits that many seconds for the first (POOL-38).

        The piggyback of each is the sender's node id and inspector bit, from its token; under the policy "none" it is
        what came, unverified. Refused messages never arrive here: they are messages_lost events with their reason.

        allowed_not_connected_peers: senders that are heard without a place. Messages are judged as they come, so it counts
        from this call until the next one that gives another set.
        KeyError: unknown network. InvalidConfigError, a ValueError: neither key nor policy was given; nothing is taken."""
        live, deadline = live_of(self[p2p_name]), deadline_after(timeout)
        self._hear(p2p_name, frozenset(allowed_not_connected_peers or ()))
        await self._route_new(p2p_name)

        def receive() -> List[PoolMsg]:
            opened = [open_message(live, one) for one in self._set.receive(p2p_name, RECEIVE_MESSAGES, RECEIVE_BYTES)]
            return [message for message in opened if message is not None]

        taken = receive()
        if not taken and timeout > 0:
            taken = await run_async(lambda waiter: live.inbox.repeat(waiter, receive, deadline))
        return taken

    def _hear(self, p2p_name: str, peers: FrozenSet[str]) -> None:
        if peers != self._heard.get(p2p_name, frozenset()):
            self._set.change("guests", {"network": p2p_name, "peers": sorted(peers)})
            self._heard[p2p_name] = peers

    def _name_of(self, p2p: P2P) -> Optional[str]:
        return next((name for name, other in self._networks.items() if other is p2p), None)

    def _p2p_of(self, peer_id: str) -> P2P:
        found = self._set.ask("pool_of", peer=peer_id)
        if found is None:
            raise _errors.NotFoundError(f"{peer_id} is in no pool; name a network to send to it")
        return self[found["network"]]


def common_config(
    max_connections: int,
    public_key: Optional[str],
    token: Optional[str],
    policy: Optional[str],
    inspector_node_id: Optional[str],
    keep_refused: bool,
) -> Dict[str, Any]:
    """The keys of CreatePools that every set has."""
    given = {"public_key": public_key, "token": token, "policy": policy, "inspector_node_id": inspector_node_id}
    config: Dict[str, Any] = {name: value for name, value in given.items() if value}
    return {**config, "max_connections": max_connections, "keep_refused": keep_refused}


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with that many arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True


def _among(networks: Mapping[str, P2P], names: Iterable[str]) -> FrozenSet[str]:
    chosen = frozenset([names] if isinstance(names, str) else names)
    unknown = chosen.difference(networks)
    if unknown:
        raise _errors.InvalidArgumentError(f"there is no network {', '.join(sorted(unknown))}")
    return chosen


def _declaration(name: str, given: Sequence[Any]) -> Dict[str, Any]:
    if isinstance(given, str) or len(given) != 2:
        raise _errors.InvalidArgumentError(f"pool {name!r} is declared as [network, capacity], not as {given!r}")
    return {"name": name, "network": given[0], "capacity": given[1]}
