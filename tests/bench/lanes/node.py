"""How the lanes and the other measurements make a node: on loopback, quiet, with the defaults otherwise."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, Dict, List

_CHECKOUT = Path(os.environ.get("PEERBUS_CHECKOUT", Path(__file__).resolve().parents[3]))
sys.path.insert(0, str(_CHECKOUT / "bindings" / "python"))

import peerbus  # noqa: E402

CONFIG = {"listen_ips": ["127.0.0.1"], "nat": {"port_mapping": False}}
_ADDRESS = {"tcp": re.compile(r"^/ip4/[^/]+/tcp/\d+/p2p/"), "quic": re.compile(r"^/ip4/[^/]+/udp/\d+/quic-v1/p2p/")}
TRANSPORTS = tuple(_ADDRESS)


def new_node(**keys: Any) -> peerbus.Node:
    return peerbus.Node(config=CONFIG, **keys)


def addresses_of(node: Any, transport: str) -> List[str]:
    """Only the addresses of one transport: the dialler of libp2p would choose QUIC otherwise."""
    chosen = [address for address in node.addresses if _ADDRESS[transport].match(address)]
    if not chosen:
        raise RuntimeError(f"the node listens on no {transport} address: {node.addresses}")
    return chosen


def peer_of(address: str) -> str:
    return address.rsplit("/", 1)[1]


def losses_of(node: Any) -> Dict[str, int]:
    """What a node counts as lost, as {"in queue_full": 3}."""
    lost = node.statistics()["lost"]
    return {f"{way} {reason}": number for way, reasons in lost.items() for reason, number in reasons.items()}
