"""How pools are declared: capacities and the rules that route peers to them (SPEC POOL-02, POOL-03, POOL-25)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Union

Capacity = Union[float, str, Mapping[str, Any]]
"""A ratio of the budget that the slots leave; 0 is disabled and a negative number unlimited. Or one of the values below."""

UNLIMITED = "unlimited"
"""A pool outside the budget, bounded by the connection limit of its network."""

DISABLED = "disabled"
"""A pool without places."""


def slots(count: int) -> Capacity:
    """A fixed number of places, at least 1."""
    return {"slots": count}


def ratio(share: float) -> Capacity:
    """A share of what the slots leave, above 0 and at most 1. The same as the plain number."""
    return {"ratio": share}


@dataclass(frozen=True)
class Rule:
    """Routes a new peer to a pool when every condition that it states holds; the first such rule decides.

    Attributes:
        pool: a declared pool; the rule looks at peers of its network.
        direction: ``"inbound"``, ``"outbound"``, None: both.
        role_mask, role_value: ``role & role_mask == role_value``.
        allow: names of allow sets, one of which holds the peer; empty: everybody. ``set_allowed`` fills them.
    """

    pool: str
    direction: Optional[str] = None
    role_mask: int = 0
    role_value: int = 0
    allow: Sequence[str] = ()

    def as_json(self) -> Dict[str, Any]:
        """The form that CreatePools takes."""
        stated = {"pool": self.pool, "role_mask": self.role_mask, "role_value": self.role_value, "allow": list(self.allow)}
        return stated if self.direction is None else {**stated, "direction": self.direction}
