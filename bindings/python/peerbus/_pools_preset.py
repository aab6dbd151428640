"""NodeConn: the pools of an agent or world node over a public and a world network (SPEC POOL-41 to POOL-59)."""

from __future__ import annotations

from typing import (
    AbstractSet,
    Any,
    ClassVar,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

from . import _errors, _library
from ._pools_messages import PoolMsg
from ._pools_queries import Changes, PeerInfo, as_text, live_of, log
from ._pools_set import REMOVE_TIMEOUT_S, ConnectionPools, Routes, common_config
from .p2p import P2P

PoolNames = Union[str, Iterable[str]]
"""One pool, or several; the aggregates of NodeConn are sets of names."""

_AGENTS, _MASTERS = "world_agents", "world_masters"


class NodeConn(ConnectionPools):
    """The pools of a node of the UNaIVERSE network.

    The public network routes by direction alone. The world network admits only peers of the two lists, the world node and
    the inspector; anybody else is a stranger, refused and reported before it takes a place.

    Arguments:
        max_connections: the budget; POOL-42 has the shares.
        p2p_u, p2p_w: the public and the world network.
        is_world_node: the shares of a world node instead of those of an agent.
        public_key, token, policy, inspector_node_id, keep_refused: as of ConnectionPools.
        refuse_relayed: relayed peers are refused on the world network (POOL-58).
        stay_in_lost_world: losing the world node does not leave the world; see ``leave_world``.
    """

    P2P_PUBLIC = "p2p_public"
    P2P_WORLD = "p2p_world"

    IN_PUBLIC = "in_all_universe_public"
    OUT_PUBLIC = "out_all_universe_public"
    IN_WORLD_AGENTS = "in_world_agents_private"
    OUT_WORLD_AGENTS = "out_world_agents_private"
    IN_WORLD_NODE = "in_world_node_private"
    OUT_WORLD_NODE = "out_world_node_private"
    IN_WORLD_MASTERS = "in_world_masters_private"
    OUT_WORLD_MASTERS = "out_world_masters_private"

    # Timers of a node in a world, seconds (POOL-57). The program runs them.
    RENDEZVOUS_INTERVAL_S = 10.0  # and at once on join, leave, role or address change
    INTERVIEW_TIMEOUT_S = 45.0  # of a new public peer
    ACKNOWLEDGEMENT_TIMEOUT_S = 45.0  # connected without acknowledgement
    PROFILE_INTERVAL_S = 10.0  # of the dynamic profile
    TOKEN_RENEWAL_INTERVAL_S = 23.5 * 3600  # tokens live 24 h
    ADDRESS_CHECK_INTERVAL_S = 300.0  # besides events
    ALIVE_INTERVAL_S = 150.0  # of the report to the root
    RELAY_RENEWAL_MARGIN_S = 900.0  # left on a reservation when it is renewed

    PUBLIC: ClassVar[FrozenSet[str]] = frozenset({IN_PUBLIC, OUT_PUBLIC})
    WORLD_NODE: ClassVar[FrozenSet[str]] = frozenset({IN_WORLD_NODE, OUT_WORLD_NODE})
    WORLD_AGENTS: ClassVar[FrozenSet[str]] = frozenset({IN_WORLD_AGENTS, OUT_WORLD_AGENTS})
    WORLD_MASTERS: ClassVar[FrozenSet[str]] = frozenset({IN_WORLD_MASTERS, OUT_WORLD_MASTERS})
    WORLD: ClassVar[FrozenSet[str]] = WORLD_NODE | WORLD_AGENTS | WORLD_MASTERS
    ALL: ClassVar[FrozenSet[str]] = PUBLIC | WORLD
    OUTGOING: ClassVar[FrozenSet[str]] = frozenset({OUT_PUBLIC, OUT_WORLD_NODE, OUT_WORLD_AGENTS, OUT_WORLD_MASTERS})
    INCOMING: ClassVar[FrozenSet[str]] = ALL - OUTGOING

    def __init__(
        self,
        max_connections: int,
        p2p_u: P2P,
        p2p_w: P2P,
        is_world_node: bool,
        public_key: Optional[str],
        token: Optional[str],
        *,
        policy: Optional[str] = None,
        inspector_node_id: Optional[str] = None,
        keep_refused: bool = False,
        refuse_relayed: bool = False,
        stay_in_lost_world: bool = False,
    ) -> None:
        if type(self).conn_routing_fcn is not NodeConn.conn_routing_fcn:
            raise TypeError("NodeConn routes by its lists; override conn_routing_fcn in a subclass of ConnectionPools instead")
        config = common_config(max_connections, public_key, token, policy, inspector_node_id, keep_refused)
        config.update(
            preset="node_conn",
            public=live_of(p2p_u).instance,
            world=live_of(p2p_w).instance,
            is_world_node=is_world_node,
            refuse_relayed=refuse_relayed,
            stay_in_lost_world=stay_in_lost_world,
        )
        self._open(config, {self.P2P_PUBLIC: p2p_u, self.P2P_WORLD: p2p_w})

    @property
    def p2p_public(self) -> P2P:
        """The public network."""
        return self[self.P2P_PUBLIC]

    @property
    def p2p_world(self) -> P2P:
        """The world network."""
        return self[self.P2P_WORLD]

    # World

    def set_world(self, world_peer_id: Optional[str]) -> None:
        """Names the peer id of the world node; None: no world. The former one is a stranger (POOL-45)."""
        self._set.change("world", world_peer_id or None)

    def get_world_peer_id(self) -> Optional[str]:
        """The peer id of the world node, None outside a world."""
        return self._world("world")

    get_world_node_peer_id = get_world_peer_id

    @property
    def world_node_peer_id(self) -> Optional[str]:
        """The same."""
        return self.get_world_peer_id()

    async def leave_world(self) -> Optional[str]:
        """Leaves the world: no world node, empty lists, a rendezvous tag of -1, no subscription of its rendezvous topic, and no
        peer of the world network has a place, role or address any more; they are disconnected in the background. Returns the
        peer id of the world node, None when none was named.

        A lost world node does the same (POOL-58), and both raise the event ``world_left`` of the world network; the next
        ``update`` lists the peers as removed, once."""
        return await self._operate("PoolsLeaveWorld", "", lambda: self._set.call("PoolsLeaveWorld")) or None

    def set_inspector(self, inspector_peer_id: Optional[str]) -> None:
        """Names the peer id of the inspector, who goes to the masters pools; None: nobody."""
        self._set.change("inspector", inspector_peer_id or None)

    @property
    def inspector_peer_id(self) -> Optional[str]:
        """The peer id of the inspector, None for nobody."""
        return self._world("inspector")

    def get_first_world_master(self) -> Optional[str]:
        """The first master of the list that was last set, else the first one added since; None without (POOL-46)."""
        return self._world("first_master")

    def _world(self, name: str) -> Optional[str]:
        return str(self._set.ask("world")[name]) or None

    # Lists

    def set_world_agents_list(self, world_agents_list_peer_infos: Optional[Sequence[Mapping[str, Any]]]) -> None:
        """Replaces the agents of the world by ``[{"id", "addrs", "misc"}]``; None empties (POOL-47).

        ValueError, and nothing changed: an entry is malformed, repeated, or its role is not that of an agent."""
        self._set_list(_AGENTS, world_agents_list_peer_infos)

    def set_world_masters_list(self, world_masters_list_peer_infos: Optional[Sequence[Mapping[str, Any]]]) -> None:
        """Replaces the masters of the world, as above."""
        self._set_list(_MASTERS, world_masters_list_peer_infos)

    def _set_list(self, name: str, infos: Optional[Sequence[Mapping[str, Any]]]) -> None:
        text = as_text([_entry(info) for info in infos or ()]).encode()
        self._set.call("PoolsSetWorldList", name, text, len(text))

    def add_to_world_agents_list(self, peer_id: str, addrs: Optional[Sequence[str]], role: int) -> None:
        """Adds an agent, or gives it new addresses and role. ValueError: not the role of an agent (POOL-48)."""
        self._add_to_list(_AGENTS, peer_id, addrs, role)

    def add_to_world_masters_list(self, peer_id: str, addrs: Optional[Sequence[str]], role: int) -> None:
        """Adds a master, or gives it new addresses and role. ValueError: not the role of a master."""
        self._add_to_list(_MASTERS, peer_id, addrs, role)

    def _add_to_list(self, name: str, peer_id: str, addrs: Optional[Sequence[str]], role: int) -> None:
        entry = {"id": peer_id, "addrs": None if addrs is None else list(addrs), "misc": role}
        self._set.call("PoolsAddToWorldList", name, as_text(entry))

    @property
    def world_agents_set(self) -> Set[str]:
        """The agents of the world, a copy."""
        return set(self._set.ask("world_agents"))

    @property
    def world_masters_set(self) -> Set[str]:
        """The masters of the world, a copy."""
        return set(self._set.ask("world_masters"))

    @property
    def world_agents_and_world_masters_set(self) -> Set[str]:
        """Their union."""
        return set(self._set.ask("world_agents_and_masters"))

    @property
    def rendezvous_tag(self) -> int:
        """The update_count of the applied snapshot, -1 before the first."""
        return int(self._set.ask("world")["rendezvous_tag"])

    def reset_rendezvous_tag(self) -> None:
        """Makes the next snapshot of somebody who may publish it count, whatever its update_count (POOL-53)."""
        self._set.change("rendezvous_tag", None)

    async def set_world_agents_and_world_masters_lists_from_rendezvous(self) -> bool:
        """Applies the newest snapshot of the rendezvous topic, if it is newer than the applied one (POOL-53).

        Returns whether it was applied. A snapshot that is older, or whose author may not publish it, is refused, counted
        and logged."""
        try:
            return bool(self._set.call("PoolsApplyRendezvous")["applied"])
        except _errors.RefusedError as error:
            log.warning("%s", error)
            return False

    # Roles and addresses

    def find_addrs_by_role(
        self, role: int, return_peer_ids_too: bool = False, discard_yourself: bool = False
    ) -> Union[List[List[str]], Tuple[List[List[str]], List[str]]]:
        """Addresses of the peers with exactly this role, with their ids if asked; peers without known ones are left out
        (POOL-50)."""
        return self._find(return_peer_ids_too, role=role, discard_self=discard_yourself)

    def find_addrs_by_role_mask(
        self, mask: int, value: int, return_peer_ids_too: bool = False, discard_yourself: bool = False
    ) -> Union[List[List[str]], Tuple[List[List[str]], List[str]]]:
        """The same for ``role & mask == value``."""
        return self._find(return_peer_ids_too, mask=mask, value=value, discard_self=discard_yourself)

    def _find(self, with_ids: bool, **asked: Any) -> Union[List[List[str]], Tuple[List[List[str]], List[str]]]:
        found = self._set.ask("find_by_role", **asked)
        addresses = [list(one["addrs"]) for one in found]
        return (addresses, [str(one["id"]) for one in found]) if with_ids else addresses

    def count_by_role(self, role: int) -> int:
        """Number of known peers with exactly this role."""
        return int(self._set.ask("count_by_role", role=role))

    def count_by_role_mask(self, mask: int, value: int) -> int:
        """Number of known peers with ``role & mask == value``."""
        return int(self._set.ask("count_by_role", mask=mask, value=value))

    def get_addrs(self, peer_id: str) -> Optional[List[str]]:
        """Known addresses of a peer, connected or not; None if unknown or older than 24 h (POOL-52)."""
        addresses: Optional[List[str]] = self._set.ask("addresses", peer=peer_id)
        return addresses

    def set_addrs(self, peer_id: str, addrs: Sequence[str]) -> None:
        """Keeps addresses of a peer, connected or not, for 24 h."""
        self._set.change("addresses", {"peer": peer_id, "addrs": list(addrs)})

    def set_addresses_in_peer_info(self, peer_id: str, addresses: Sequence[str]) -> None:
        """Replaces the addresses in the info of a pooled peer; does nothing for others (POOL-52)."""
        self._set.change("info_addresses", {"peer": peer_id, "addrs": list(addresses)})

    # Membership

    def in_connection_queues(self, peer_id: str) -> bool:
        """Whether the peer is in any pool."""
        return self.is_connected(peer_id)

    def is_public(self, peer_id: str) -> bool:
        """Whether the peer is in a pool of the public network (POOL-51)."""
        return self.is_connected(peer_id, self.PUBLIC)

    def is_world_master(self, peer_id: str) -> bool:
        """Whether the peer is in a pool of masters."""
        return self.is_connected(peer_id, self.WORLD_MASTERS)

    def is_world_node(self, peer_id: str) -> bool:
        """Whether the peer is in a pool of the world node."""
        return self.is_connected(peer_id, self.WORLD_NODE)

    def is_in_world(self, peer_id: str) -> bool:
        """Whether the peer is in any pool of the world network."""
        return self.is_connected(peer_id, self.WORLD)

    def is_connected(self, peer_id: str, pool_names: Optional[PoolNames] = None) -> bool:
        """Whether the peer is in one of the pools, in any without names (POOL-30)."""
        names = _listed(pool_names)
        return names != [] and bool(self._set.ask("is_connected", peer=peer_id, pools=names))

    def size(self, pool_names: Optional[PoolNames] = None) -> int:
        """Number of peers in the pools, in all without names (POOL-32)."""
        names = _listed(pool_names)
        return 0 if names == [] else int(self._set.ask("size", pools=names))

    def get_all_connected_peer_infos(self, pool_names: PoolNames) -> List[PeerInfo]:
        """The peers of the pools (POOL-27)."""
        names = _listed(pool_names)
        return [] if names == [] else list(self._set.ask("peers", pools=names))

    def get_added_after_updating(self, pool_names: Optional[PoolNames] = None) -> Union[Set[str], Changes]:
        """What the last update added (POOL-26): of one pool the set; by pool, of the listed ones, empty sets included; without
        names of the changed ones."""
        return self._changed_in("added", pool_names)

    def get_removed_after_updating(self, pool_names: Optional[PoolNames] = None) -> Union[Set[str], Changes]:
        """What the last update found lost or misplaced; as above."""
        return self._changed_in("removed", pool_names)

    def _changed_in(self, kind: str, pool_names: Optional[PoolNames]) -> Union[Set[str], Changes]:
        if isinstance(pool_names, str):
            return self._changed(kind, pool_names)
        changed = self._changed(kind, None)
        assert isinstance(changed, dict)
        names = _listed(pool_names)
        return changed if names is None else {self._known(name): changed.get(name, set()) for name in names}

    async def remove_all_world_agents(self) -> None:
        """Disconnects and forgets every peer in a pool of the world network, with its role (POOL-55)."""
        milliseconds = _library.milliseconds(REMOVE_TIMEOUT_S)
        await self._operate("PoolsRemoveAllWorldAgents", "", lambda: self._set.call("PoolsRemoveAllWorldAgents", milliseconds))

    # Routing and messages

    async def conn_routing_fcn(self, connected_peer_infos: List[PeerInfo], p2p: P2P, membership: Any = None) -> Routes:
        """Where the preset puts peers of a network, ``{pool: {peer_id: info}}``; it places nobody (POOL-43, POOL-44).

        Strangers are left out. ``membership`` is not looked at: the lists of this moment count.
        ValueError: a direction is undefined, or the network is none of the two."""
        network = self._name_of(p2p)
        if network is None:
            raise _errors.InvalidArgumentError("the network is neither the public nor the world network of these pools")
        routes: Dict[str, Dict[str, Any]] = {}
        for info in connected_peer_infos:
            pool = self._set.ask("route_of", network=network, info=info)["pool"]
            if pool:
                routes.setdefault(pool, {})[info["id"]] = info
        return routes

    async def get_messages(
        self, p2p_name: str, allowed_not_connected_peers: Optional[AbstractSet[str]] = None, *, timeout: float = 0.0
    ) -> List[PoolMsg]:
        """As of ConnectionPools. Agents and masters of the world are heard without a place; another set is a ValueError
        (POOL-39)."""
        if allowed_not_connected_peers is not None:
            raise _errors.InvalidArgumentError("NodeConn hears the agents and masters of the world; give no other set")
        return await super().get_messages(p2p_name, timeout=timeout)


def _entry(info: Any) -> Any:
    """What the library looks at of an entry; what is no entry goes there as it is, and is refused."""
    if not isinstance(info, Mapping):
        return info
    return {"id": info.get("id"), "addrs": info.get("addrs"), "misc": info.get("misc", 0)}


def _listed(names: Optional[PoolNames]) -> Optional[List[str]]:
    if names is None:
        return None
    return [names] if isinstance(names, str) else list(names)
