"""What the arguments of Node mean as the configuration of CreateNode."""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping, Optional, Union

PathText = Union[str, "os.PathLike[str]"]
Config = Dict[str, Any]

_MIB = 1 << 20
NODE_LIMITS: Mapping[str, int] = {
    "channels": 4096,
    "channel_messages": 65536,
    "message_bytes": 128 * _MIB,
    "queue_bytes": 512 * _MIB,
}
"""Limits of a Node where its ``limits`` say nothing: bounds of memory that do not throttle ordinary programs.

The other byte budgets follow ``message_bytes``; these two follow what ``limits`` says of other budgets."""

_BUDGETS = ("channel_bytes", "peer_queue_bytes", "send_bytes", "queue_bytes")

_FRIENDLY = {"ips": ("listen_ips",), "port": ("predefined_port",), "name": ("log", "name")}


def node_config(config: Optional[Mapping[str, Any]], keywords: Mapping[str, Any]) -> Config:
    """Joins both sources; a key given twice is a TypeError, like a repeated argument."""
    merged: Config = {}
    _merge(merged, dict(config or {}), "")
    for name, value in keywords.items():
        path = _FRIENDLY.get(name, (name,))
        for part in reversed(path):
            value = {part: value}
        _merge(merged, value, "")
    merged["limits"] = {**_fitting(merged.get("limits") or {}), **(merged.get("limits") or {})}
    return merged


def _fitting(given: Mapping[str, Any]) -> Config:
    """NODE_LIMITS without contradicting the given limits: a message fits every budget, and the budgets fit the queue."""
    budgets = [_number(given[name]) for name in _BUDGETS if _number(given.get(name)) > 0]
    message = min([NODE_LIMITS["message_bytes"], *budgets])
    largest = max([NODE_LIMITS["queue_bytes"], *budgets, _number(given.get("message_bytes"))])
    return {**NODE_LIMITS, "message_bytes": message, "queue_bytes": largest}


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0  # what else it is, the library says


def _merge(target: Config, source: Mapping[str, Any], prefix: str) -> None:
    for key, value in source.items():
        if isinstance(value, Mapping):
            inner = target.setdefault(key, {})
            if not isinstance(inner, dict):
                raise TypeError(f"{prefix}{key} is given twice")
            _merge(inner, value, f"{prefix}{key}.")
        elif key in target:
            raise TypeError(f"{prefix}{key} is given twice")
        else:
            target[key] = value


def as_json_value(value: object) -> Any:
    """For json.dumps: paths become texts, other sequences lists."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (tuple, set, frozenset)):
        return list(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} cannot be part of a node configuration")
