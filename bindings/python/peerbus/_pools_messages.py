"""Messages of pools: what a content becomes on the wire, and received envelopes with what the pools found out."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import Any, Optional, Tuple, Union

from ._buffers import Message, Payload
from ._core import Live
from ._messages_limits import DecodeError
from ._waiting import run_async
from ._workers import start_call
from .messages import Msg

VERIFIED, INSPECTOR = 1, 2  # peerbus_message_flag
_NO_CONTENT, _RAW = 0, 9  # peerbus_content
_FIELDS = {"stream_sample": 6, "json_content": 7, "stats_update": 8, "raw_content": _RAW}

_log = logging.getLogger("peerbus.pools")


class PoolMsg(Msg):
    """A message that a pool set let through. ``sender`` is proved; ``piggyback`` is the node id and inspector bit."""

    verified: bool = False
    """Its token was valid for the sender; False under the policy "none", where the piggyback is what came."""
    node_id: Optional[str] = None
    """Of the sender, from its token; None unless verified."""
    inspector: bool = False
    """The sender is the configured inspector and speaks as such (POOL-40)."""


async def encode_content(content_type: str, content: Any) -> Tuple[int, Payload]:
    """The field of the envelope that a content goes to and its encoded form; errors as those of Msg.

    Pictures and tensors are compressed in a worker thread, so that the event loop goes on meanwhile."""
    if isinstance(content, (bytes, bytearray, memoryview)):
        Msg(sender="", content=b"", content_type=content_type)  # for its checks, without a copy of the content
        return _RAW, content
    if content_type != Msg.STREAM_SAMPLE:
        return _encode(content_type, content)
    encoded: Any = await run_async(start_call(lambda: _encode(content_type, content)).wait)
    field, data = encoded
    return field, data


def _encode(content_type: str, content: Any) -> Tuple[int, bytes]:
    envelope = Msg(sender="", content=content, content_type=content_type)._envelope
    field = envelope.WhichOneof("content")
    if field is None:
        return _NO_CONTENT, b""
    value: Union[str, bytes] = getattr(envelope, field)
    return _FIELDS[field], value.encode() if isinstance(value, str) else value


def open_message(live: Live, received: Message) -> Optional[PoolMsg]:
    """A received message as the documented class has it; None, counted as decode_error, if it is none."""
    try:
        message = PoolMsg.from_bytes(received.data)
    except DecodeError as error:
        _log.warning("a message from %s on %s is malformed: %s", received.sender, received.channel, error)
        live.events.report(
            {
                "type": "messages_lost",
                "time": datetime.now(timezone.utc).isoformat(),
                "reason": "decode_error",
                "direction": "in",
                "count": 1,
                "channel": received.channel,
                "peer": received.sender,
            }
        )
        return None
    message.channel = received.channel
    if received.node_id is not None:
        message.verified, message.node_id, message.inspector = True, received.node_id, received.inspector
        message.piggyback = received.node_id + ("1" if received.inspector else "0")
    return message
