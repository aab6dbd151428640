"""Lists of statistics: content of stats_update (SPEC MSG-10)."""

from __future__ import annotations

import numbers
from typing import Any, Dict, List, Mapping

from . import _messages_schema
from ._messages_limits import DecodeError, DecodeLimits

_KEYS = ("group_key", "stat_name", "timestamp", "value")

#: Nesting of lists and dicts in a value. Each level is up to three protobuf
#: messages, of which receivers accept 100.
MAX_VALUE_DEPTH = 30


def encode_stats(updates: Any) -> bytes:
    """Encode a list of ``{group_key, stat_name, timestamp, value}`` as StatBatch.

    ``timestamp`` is in ms since the Unix epoch; ``value`` is None, bool, number,
    str, or a list or dict of these. Numbers travel as float64. Raises TypeError
    or ValueError that name the entry.
    """
    if not isinstance(updates, (list, tuple)):
        raise TypeError(f"stats_update content is a list, not {type(updates).__name__}")
    batch = _messages_schema.load().StatBatch()
    for index, update in enumerate(updates):
        try:
            _encode_update(update, batch.updates.add())
        except (TypeError, ValueError, OverflowError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"stats_update entry {index}: {error}") from error
    encoded: bytes = batch.SerializeToString(deterministic=True)
    return encoded


def _encode_update(update: Any, target: Any) -> None:
    if not isinstance(update, Mapping):
        raise TypeError(f"is a dict, not {type(update).__name__}")
    missing = [key for key in _KEYS if key not in update]
    if missing:
        raise ValueError(f"has no {', '.join(missing)}")
    target.peer_id = update["group_key"]
    target.stat_name = update["stat_name"]
    target.timestamp = int(update["timestamp"])
    _encode_value(update["value"], target.value, MAX_VALUE_DEPTH)


def _encode_value(value: Any, target: Any, depth: int) -> None:
    if depth == 0:
        raise ValueError(f"value is nested deeper than {MAX_VALUE_DEPTH}")
    if value is None:
        target.null_value = 0
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, numbers.Real):
        target.number_value = float(value)
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, (list, tuple)):
        _encode_list(value, target.list_value, depth)
    elif isinstance(value, Mapping):
        _encode_dict(value, target.struct_value, depth)
    else:
        raise TypeError(f"value of type {type(value).__name__} is no JSON value")


def _encode_list(items: Any, target: Any, depth: int) -> None:
    target.SetInParent()
    for item in items:
        _encode_value(item, target.values.add(), depth - 1)


def _encode_dict(items: Mapping[Any, Any], target: Any, depth: int) -> None:
    target.SetInParent()
    for key, item in items.items():
        if not isinstance(key, str):
            raise TypeError(f"key {key!r} of a dict is a str")
        _encode_value(item, target.fields[key], depth - 1)


def decode_stats(data: bytes, limits: DecodeLimits) -> List[Dict[str, Any]]:
    """Decode StatBatch into the list that encode_stats takes.

    Every number is a float. Raises DecodeError.
    """
    if len(data) > limits.stats_bytes:
        raise DecodeError(
            f"stats_update of {len(data)} bytes; DecodeLimits.stats_bytes is {limits.stats_bytes}"
        )
    batch = _messages_schema.parse(_messages_schema.load().StatBatch, data)
    return [
        {
            "group_key": update.peer_id,
            "stat_name": update.stat_name,
            "timestamp": update.timestamp,
            "value": _decode_value(update.value),
        }
        for update in batch.updates
    ]


def _decode_value(value: Any) -> Any:
    # The parser bounds the nesting, so this recursion ends.
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return [_decode_value(item) for item in value.list_value.values]
    if kind == "struct_value":
        return {key: _decode_value(item) for key, item in value.struct_value.fields.items()}
    if kind in (None, "null_value"):
        return None
    return getattr(value, kind)
