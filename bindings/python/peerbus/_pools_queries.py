"""What a pool set answers at once: membership, tokens, roles and settings."""

from __future__ import annotations

import json
import logging
from typing import Any, Awaitable, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple, Union

from . import _errors
from ._core import Live
from ._pools_native import NativeSet
from .p2p import P2P
from .tokens import MAX_TOKEN_BYTES

PeerInfo = Dict[str, Any]
"""``{"id", "addrs", "connected_at", "direction", "misc", "relayed"}``; misc is the role."""
Changes = Dict[str, Set[str]]
"""Peer ids by pool."""

_INFO_KEYS = ("id", "addrs", "connected_at", "direction", "relayed")

log = logging.getLogger("peerbus.pools")


class PoolQueries:
    """The part of ConnectionPools that waits for nothing."""

    _set: NativeSet
    _networks: Dict[str, P2P]

    # What the set is

    @property
    def max_con(self) -> int:
        """The budget of connections."""
        return self._set.budget

    @property
    def pool_names(self) -> List[str]:
        """The pools in declared order."""
        return list(self._set.capacities)

    @property
    def capacities(self) -> Dict[str, int]:
        """Places by pool; -1 is unlimited (SPEC POOL-02)."""
        return dict(self._set.capacities)

    @property
    def p2p_name_to_p2p(self) -> Dict[str, P2P]:
        """The networks by name, a copy."""
        return dict(self._networks)

    @property
    def policy(self) -> Optional[str]:
        """``"token"``, ``"none"``, or None: neither a key nor a policy was given, so no message can be judged."""
        return str(self._set.ask("policy")) or None

    def __getitem__(self, p2p_name: str) -> P2P:
        """The network of that name (POOL-07). KeyError: there is none."""
        try:
            return self._networks[p2p_name]
        except KeyError:
            raise _errors.NotFoundError(f"there is no network {p2p_name!r}; there are {', '.join(self._networks)}") from None

    def __str__(self) -> str:
        return str(self._set.ask("text"))

    # Membership

    def add(self, peer_info: PeerInfo, pool_name: str) -> bool:
        """Puts a peer into a pool, connected or not, and sets ``peer_info["misc"]`` to its role (POOL-15 to POOL-19).

        False, and nothing changed: the pool is full, or the peer is in another one. In its own pool the info is refreshed.
        KeyError: no such pool, or no id."""
        if not peer_info.get("id"):
            raise _errors.NotFoundError("the peer info has no id")
        known = {key: peer_info[key] for key in _INFO_KEYS if peer_info.get(key) is not None}
        try:
            stored = self._set.call("PoolsAdd", pool_name, as_text(known))
        except _errors.RefusedError as error:
            log.info("%s", error)
            return False
        peer_info["misc"] = stored["misc"]
        return True

    def move(self, peer_id: str, pool_name: str) -> bool:
        """Moves a pooled peer; False, and nothing changed, when the pool is full (POOL-17). KeyError: pool or peer."""
        try:
            self._set.call("PoolsMove", pool_name, peer_id)
        except _errors.RefusedError as error:
            log.info("%s", error)
            return False
        return True

    def get_added_after_updating(self, pool_name: Optional[str] = None) -> Union[Set[str], Changes]:
        """What the last update added: of one pool, empty if unchanged, or the dict of the changed ones (POOL-26)."""
        return self._changed("added", pool_name)

    def get_removed_after_updating(self, pool_name: Optional[str] = None) -> Union[Set[str], Changes]:
        """What the last update found lost or misplaced; as above."""
        return self._changed("removed", pool_name)

    def get_refused_after_updating(self) -> List[Dict[str, str]]:
        """Whom the last update found refused: ``{"network", "peer", "reason", "pool"}`` each (POOL-24)."""
        return list(self._set.ask("changes")["refused"])

    def _changed(self, kind: str, pool_name: Optional[str]) -> Union[Set[str], Changes]:
        changes = as_sets(self._set.ask("changes")[kind])
        return changes if pool_name is None else changes.get(self._known(pool_name), set())

    def _known(self, pool_name: str) -> str:
        if pool_name not in self._set.capacities:
            raise _errors.NotFoundError(f"there is no pool {pool_name!r}")
        return pool_name

    def get_all_connected_peer_infos(self, pool_name: str) -> List[PeerInfo]:
        """The peers of a pool (POOL-27). KeyError: unknown pool."""
        return list(self._set.ask("peers", pools=[pool_name]))

    def get_pool_status(self) -> Dict[str, Set[str]]:
        """Peer ids by pool, of every pool in declared order (POOL-28)."""
        ids = as_sets(self._set.ask("status"))
        return {name: ids[name] for name in self._set.capacities}

    def get_all_connected_peer_ids(self) -> List[str]:
        """Ids of all pooled peers (POOL-29)."""
        return list(self._set.ask("peer_ids"))

    def is_connected(self, peer_id: str, pool_name: Optional[str] = None) -> bool:
        """Whether the peer is in that pool, in any without one (POOL-30)."""
        return bool(self._set.ask("is_connected", peer=peer_id, pools=None if pool_name is None else [pool_name]))

    def get_pool_of(self, peer_id: str) -> Optional[str]:
        """The peer's pool, None for an unknown peer (POOL-31)."""
        found = self._set.ask("pool_of", peer=peer_id)
        return None if found is None else str(found["pool"])

    def size(self, pool_name: Optional[str] = None) -> int:
        """Number of peers in a pool, in all without one (POOL-32). KeyError: unknown pool."""
        return int(self._set.ask("size", pools=None if pool_name is None else [pool_name]))

    def counts(self) -> Dict[str, int]:
        """How many peers, messages, snapshots and list entries were refused so far, by reason."""
        return dict(self._set.ask("counts"))

    def passed_time_since_last_communication(self) -> float:
        """Seconds since a message was last sent or received; above 1e9 before the first (POOL-34)."""
        return float(self._set.ask("idle_seconds"))

    # Roles and settings

    def get_role(self, peer_id: str) -> int:
        """The stored role, 0 for an unknown peer (POOL-49)."""
        return int(self._set.ask("role", peer=peer_id))

    def set_role(self, peer_id: str, new_role: int) -> None:
        """Stores a role, 0 or positive with bit 0, of a peer known or not; rules route it anew. ValueError: other roles."""
        self._set.change("role", {"peer": peer_id, "role": new_role})

    def set_allowed(self, name: str, peer_ids: Iterable[str]) -> None:
        """Replaces an allow set that a rule names, and routes who enters or leaves it. KeyError: no rule names it."""
        self._set.change("allowed", {"name": name, "peers": list(peer_ids)})

    def set_keep_refused(self, keep: bool) -> None:
        """Whether refused peers, strangers excepted, stay connected; the next update tries to place them again."""
        self._set.change("keep_refused", keep)

    def set_inspector_node_id(self, node_id: Optional[str]) -> None:
        """Whose inspector bit counts; None: nobody's (POOL-40)."""
        self._set.change("inspector_node_id", node_id or "")

    # Tokens

    def set_token(self, token: Optional[str]) -> None:
        """Replaces the token of later messages; None and "" are none (POOL-12). ValueError: no receiver would read it."""
        self._set.change("token", token or "")

    async def verify_token(
        self,
        token: str,
        peer_id: str,
        *,
        node_id: Optional[str] = None,
        ip: Optional[str] = None,
        hostname: Optional[str] = None,
        port: Optional[int] = None,
    ) -> Tuple[Optional[str], Optional[str]]:
        """``(node_id, cv_hash)`` of a token that holds for the peer now, else ``(None, None)`` (POOL-13).

        The keyword arguments are claims that must be equal. A coroutine, although it waits for nothing."""
        match = {"node_id": node_id, "ip": ip, "hostname": hostname, "port": port}
        if isinstance(token, str) and len(token) > MAX_TOKEN_BYTES:
            return None, None
        answer = self._set.ask("verify_token", token=token, peer=peer_id, **match)
        if not answer["valid"]:
            return None, None
        return answer["claims"]["node_id"], answer["claims"].get("cv_hash", "")

    def get_last_token(self, peer_id: str) -> Optional[str]:
        """The last valid token of a pooled peer, without the inspector bit (POOL-33)."""
        token: Optional[str] = self._set.ask("last_token", peer=peer_id)
        return token

    async def get_cv_hash_from_last_token(self, peer_id: str) -> Optional[str]:
        """The cv_hash of a pooled peer's last token, verified again; None if there is none or it has expired (POOL-54).

        A coroutine, although it waits for nothing."""
        return self._last_claim(peer_id, "cv_hash")

    def get_peer_code_hash(self, peer_id: str) -> Optional[str]:
        """The code_hash of a pooled peer's last token, verified again; None without one (POOL-13)."""
        return self._last_claim(peer_id, "code_hash") or None

    def _last_claim(self, peer_id: str, name: str) -> Optional[str]:
        claims = self._set.ask("last_claims", peer=peer_id)
        return None if claims is None else str(claims.get(name, ""))


def as_text(value: Any) -> str:
    """JSON for a function that takes text."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _errors.InvalidArgumentError(f"{error}, in {type(value).__name__}") from error


def as_sets(lists: Mapping[str, Sequence[str]]) -> Changes:
    """Peer ids by pool as the sets that the documented class answers with."""
    return {name: set(ids) for name, ids in lists.items()}


def live_of(p2p: P2P) -> Live:
    """The running node of a network."""
    return p2p._core.live


async def succeeds(what: str, call: Awaitable[object]) -> bool:
    """Whether the call ends without an error of peerbus, which is logged."""
    try:
        await call
    except _errors.PeerbusError as error:
        log.warning("%s failed: %s", what, error)
        return False
    return True
