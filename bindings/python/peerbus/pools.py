"""Connection pools with roles and tokens (SPEC section 2).

``ConnectionPools`` divides a budget of connections into named pools over networks of the class ``peerbus.P2P``;
``NodeConn`` is its preset for an agent or a world node. ``peerbus.tokens`` issues and verifies the tokens::

    pools = ConnectionPools(
        100,
        {"in": ["net", 0.5], "out": ["net", 0.5]},
        {"net": p2p},
        public_key,
        token,
        rules=[Rule("in", direction="inbound"), Rule("out", direction="outbound")],
    )
    await pools.connect(addresses, "net")
    added, removed = await pools.update()
    for message in await pools.get_messages("net", timeout=10):
        print(message.sender, message.node_id, message.content)
"""

from __future__ import annotations

from ._pools_messages import PoolMsg
from ._pools_preset import NodeConn
from ._pools_queries import Changes, PeerInfo
from ._pools_rules import DISABLED, UNLIMITED, Capacity, Rule, ratio, slots
from ._pools_set import ConnectionPools, Routes

__all__ = [
    "DISABLED",
    "UNLIMITED",
    "Capacity",
    "Changes",
    "ConnectionPools",
    "NodeConn",
    "PeerInfo",
    "PoolMsg",
    "Routes",
    "Rule",
    "ratio",
    "slots",
]
