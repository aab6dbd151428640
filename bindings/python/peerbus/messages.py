"""Typed messages of the UNaIVERSE network (SPEC section 4, MSG-01 to MSG-14).

A channel carries any bytes; :class:`Msg` is one way to fill them::

    data = Msg(sender=node.peer_id, content={"hello": "world"}).to_bytes()
    Msg.from_bytes(data).content    # {'hello': 'world'}

Importing this module loads neither protobuf nor NumPy, PyTorch or Pillow;
each is imported when a message first needs it.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any, ClassVar, FrozenSet, Optional, Set, Tuple, Type, TypeVar, Union

from . import _messages_schema
from ._messages_limits import MAX_DECODED_BYTES, Budget, DecodeError, DecodeLimits
from ._messages_samples import FilePayload, decode_samples, encode_samples
from ._messages_stats import decode_stats, encode_stats
from ._messages_tensors import TENSOR_KINDS

__all__ = ["MAX_DECODED_BYTES", "DecodeError", "DecodeLimits", "FilePayload", "Msg"]

_TIMESTAMP_FORMAT = "%Y-%m-%d %H:%M:%S.%f"
_UNKNOWN_CHANNEL = "<unknown>"
_EMPTY = "<empty>"
_BYTES_TYPES = (bytes, bytearray, memoryview)

# Content that was not decoded yet: None is a value that JSON can hold.
_UNDECODED: Any = object()

_M = TypeVar("_M", bound="Msg")


class Msg:
    """A message: who sent it, on which channel, of what type, with what content.

    The content is encoded when the message is made. Changing the object that
    was given, or that :attr:`content` returned, does not change the message.

    ==================  ===========================================================
    content_type        content
    ==================  ===========================================================
    ``stream_sample``   ``{name: {"data", "data_tag": -1, "data_uuid": None}}``;
                        data is a tensor, a PIL image, a str or a file
                        ``{"content", "filename", "mime_type"}``; None skips it
    ``stats_update``    list of ``{"group_key", "stat_name", "timestamp", "value"}``,
                        the timestamp in ms since the Unix epoch
    ``misc``, and types bytes, bytearray or memoryview, which are read as bytes;
    of your own         or any JSON value
    any other           any JSON value
    ==================  ===========================================================

    Tensors are NumPy arrays, PyTorch tensors, or anything with the buffer
    protocol or DLPack. Peers without peerbus read bytes as no content.
    """

    PROFILE = "profile"
    WORLD_APPROVAL = "world_approval"
    AGENT_APPROVAL = "agent_approval"
    PROFILE_REQUEST = "profile_request"
    ADDRESS_UPDATE = "address_update"
    STREAM_SAMPLE = "stream_sample"
    ROLE_SUGGESTION = "role_suggestion"
    INTERACTION = "interaction"
    INTERACTION_STATUS = "interaction_status"
    HSM = "hsm"
    MISC = "misc"
    GET_CV_FROM_ROOT = "get_cv_from_root"
    BADGE_SUGGESTIONS = "badge_suggestions"
    INSPECT_ON = "inspect_on"
    INSPECT_CMD = "inspect_cmd"
    WORLD_AGENTS_LIST = "world_agents_list"
    CONSOLE_AND_BEHAV_STATUS = "console_and_behav_status"
    STATS_UPDATE = "stats_update"
    STATS_REQUEST = "stats_request"
    STATS_RESPONSE = "stats_response"

    #: Types that a new message may have; :meth:`register_content_type` adds one.
    CONTENT_TYPES: ClassVar[Set[str]] = {
        PROFILE, WORLD_APPROVAL, AGENT_APPROVAL, PROFILE_REQUEST, ADDRESS_UPDATE,
        STREAM_SAMPLE, ROLE_SUGGESTION, INTERACTION, INTERACTION_STATUS, HSM, MISC,
        GET_CV_FROM_ROOT, BADGE_SUGGESTIONS, INSPECT_ON, INSPECT_CMD, WORLD_AGENTS_LIST,
        CONSOLE_AND_BEHAV_STATUS, STATS_UPDATE, STATS_REQUEST, STATS_RESPONSE,
    }  # fmt: skip

    #: Known types whose content is no raw bytes (MSG-11).
    _STRUCTURED_TYPES: ClassVar[FrozenSet[str]] = frozenset(CONTENT_TYPES - {MISC})

    _envelope: _messages_schema.EnvelopeMessage
    _content: Any
    _limits: Optional[DecodeLimits]
    _tensors: Optional[str]

    #: Bounds for messages whose from_bytes is given none.
    default_limits: ClassVar[DecodeLimits] = DecodeLimits()
    #: What tensors are read as where from_bytes is not told.
    default_tensors: ClassVar[str] = "auto"

    def __init__(
        self,
        sender: Optional[str] = None,
        content: Any = None,
        timestamp_net: Optional[str] = None,
        channel: Optional[str] = None,
        content_type: str = MISC,
        piggyback: Optional[str] = None,
        _proto_msg: Any = None,
    ) -> None:
        """Make a new message (MSG-02, MSG-03).

        ``sender``: peer id, required. ``content``: see the class; None and
        ``"<empty>"`` are no content. ``timestamp_net``: UTC, now by default, as
        ``2026-01-31 23:59:59.000001``. ``channel``: ``"<unknown>"`` by default.
        ``content_type``: a member of CONTENT_TYPES. ``_proto_msg``: a parsed
        protobuf message to wrap instead of all others (MSG-04).

        Raises AssertionError for a wrong sender, channel, timestamp or type;
        TypeError and ValueError for content that its type cannot carry;
        ValueError if a parsed message comes with other arguments.
        """
        if _proto_msg is not None:
            others = (sender, content, timestamp_net, channel, piggyback)
            if any(argument is not None for argument in others):
                raise ValueError(
                    "a parsed message has its own sender, content, timestamp, "
                    "channel and piggyback: pass none of them beside it"
                )
            self._open(_proto_msg.SerializeToString(), None, None)
            return
        _check_arguments(sender, timestamp_net, channel, content_type)
        self._limits = None
        self._tensors = None
        self._envelope = _messages_schema.load().Envelope()
        self.sender = sender
        self.timestamp_net = _now() if timestamp_net is None else timestamp_net
        self.channel = channel
        self.content_type = content_type
        self.piggyback = piggyback
        self._encode(content)

    def __str__(self) -> str:
        return (
            f"Msg(sender={_printable(self.sender[:12])}..., "
            f"content_type={_printable(self.content_type)}, "
            f"channel={self.channel!r}, content_len={self._envelope.ByteSize()} bytes)"
        )

    def __reduce__(self) -> Tuple[Any, ...]:
        return _restore, (type(self), self.to_bytes(), self._limits, self._tensors)

    @classmethod
    def register_content_type(cls, content_type: str) -> str:
        """Add a type of your own (MSG-06) and return it.

        Its content is bytes or any JSON value. Only senders need to register:
        receivers take every type.
        """
        if not isinstance(content_type, str) or not content_type:
            raise TypeError("a content type is a str that is not empty")
        Msg.CONTENT_TYPES.add(content_type)
        return content_type

    @property
    def sender(self) -> str:
        """Peer id as the message states it; only the node's ``from`` is verified."""
        return self._envelope.sender

    @sender.setter
    def sender(self, value: Optional[str]) -> None:
        self._envelope.sender = _text(value, "", "sender")

    @property
    def content_type(self) -> str:
        """Type of the content. Setting it does not encode the content anew."""
        return self._envelope.content_type

    @content_type.setter
    def content_type(self, value: Optional[str]) -> None:
        self._envelope.content_type = _text(value, self.MISC, "content_type")

    @property
    def channel(self) -> str:
        """Channel as the message states it, ``"<unknown>"`` if it was given none."""
        return self._envelope.channel

    @channel.setter
    def channel(self, value: Optional[str]) -> None:
        self._envelope.channel = _text(value, _UNKNOWN_CHANNEL, "channel")

    @property
    def piggyback(self) -> str:
        """Token of the sender and inspector bit, in messages of pools."""
        return self._envelope.piggyback

    @piggyback.setter
    def piggyback(self, value: Optional[str]) -> None:
        self._envelope.piggyback = _text(value, "", "piggyback")

    @property
    def timestamp_net(self) -> str:
        """When the message was made, by the sender's clock, in UTC."""
        return self._envelope.timestamp_net

    @timestamp_net.setter
    def timestamp_net(self, value: Optional[str]) -> None:
        self._envelope.timestamp_net = _text(value, "", "timestamp_net")

    @property
    def content(self) -> Any:
        """The content, decoded at the first access and kept (MSG-12).

        ``"<empty>"`` if there is none. Raises DecodeError if a peer sent
        something that is malformed or larger than the limits.
        """
        if self._content is _UNDECODED:
            self._content = self._decode()
        return self._content

    def to_bytes(self) -> bytes:
        """The message as bytes, for a channel."""
        return self._envelope.SerializeToString(deterministic=True)

    @classmethod
    def from_bytes(
        cls: Type[_M],
        msg_bytes: Union[bytes, bytearray, memoryview],
        *,
        limits: Optional[DecodeLimits] = None,
        tensors: Optional[str] = None,
    ) -> _M:
        """Open a received message; its content is not decoded yet (MSG-12).

        ``limits``: what decoding may cost, ``Msg.default_limits`` by default.
        ``tensors``: "numpy", "torch", or "auto", which gives torch tensors if
        the program has imported torch and NumPy arrays otherwise. The default
        is ``Msg.default_tensors``. NumPy has no bfloat16; such tensors become
        float32 arrays of the same values.

        Raises DecodeError if the bytes are no message. Content types that were
        never registered are accepted.
        """
        if not isinstance(msg_bytes, _BYTES_TYPES):
            raise TypeError(f"a message is bytes, not {type(msg_bytes).__name__}")
        message = cls.__new__(cls)
        message._open(bytes(msg_bytes), limits, tensors)
        return message

    def _open(self, data: bytes, limits: Optional[DecodeLimits], tensors: Optional[str]) -> None:
        if tensors is not None and tensors not in TENSOR_KINDS:
            raise ValueError(f"tensors is one of {', '.join(TENSOR_KINDS)}, not {tensors!r}")
        self._limits = limits
        self._tensors = tensors
        self._envelope = _messages_schema.parse(_messages_schema.load().Envelope, data)
        self._content = _UNDECODED

    def _encode(self, content: Any) -> None:
        """Put ``content`` into the field that its type has (MSG-07)."""
        self._content = _UNDECODED
        if content is None or (isinstance(content, str) and content == _EMPTY):
            return
        if isinstance(content, _BYTES_TYPES):
            self._encode_raw(content)
            return
        if self.content_type == self.STREAM_SAMPLE:
            self._envelope.stream_sample = encode_samples(content)
        elif self.content_type == self.STATS_UPDATE:
            self._envelope.stats_update = encode_stats(content)
        else:
            self._envelope.json_content = _encode_json(content)
        self._content = content

    def _encode_raw(self, content: Union[bytes, bytearray, memoryview]) -> None:
        if self.content_type in self._STRUCTURED_TYPES:
            raise TypeError(
                f"content of type {self.content_type} is not {type(content).__name__}; "
                "bytes travel as misc or as a registered type"
            )
        self._envelope.raw_content = bytes(content)

    def _decode(self) -> Any:
        limits = self.default_limits if self._limits is None else self._limits
        kind = self._envelope.WhichOneof("content")
        if kind == "stream_sample":
            tensors = self.default_tensors if self._tensors is None else self._tensors
            return decode_samples(self._envelope.stream_sample, limits, tensors)
        if kind == "stats_update":
            return decode_stats(self._envelope.stats_update, limits)
        if kind == "json_content":
            return _decode_json(self._envelope.json_content, limits)
        return _EMPTY if kind is None else self._envelope.raw_content


def _restore(
    cls: Type[_M], data: bytes, limits: Optional[DecodeLimits], tensors: Optional[str]
) -> _M:
    return cls.from_bytes(data, limits=limits, tensors=tensors)


def _check_arguments(sender: Any, timestamp_net: Any, channel: Any, content_type: Any) -> None:
    # Raised and not asserted: "python -O" must not switch it off.
    if not isinstance(sender, str):
        raise AssertionError("a new message needs its sender, a str")
    for name, value in (("timestamp_net", timestamp_net), ("channel", channel)):
        if value is not None and not isinstance(value, str):
            raise AssertionError(f"{name} is a str or None, not {type(value).__name__}")
    if not isinstance(content_type, str) or content_type not in Msg.CONTENT_TYPES:
        raise AssertionError(
            f"content type {content_type!r} is not known; Msg.register_content_type adds it"
        )


def _encode_json(content: Any) -> str:
    try:
        return json.dumps(content, allow_nan=False)
    except RecursionError as error:
        raise ValueError("content is nested too deeply for JSON") from error


def _decode_json(text: str, limits: DecodeLimits) -> Any:
    Budget(limits.decoded_bytes).take(len(text), "JSON content")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"content is no valid JSON: {error}") from error


def _text(value: Optional[str], default: str, name: str) -> str:
    if value is None:
        return default
    if not isinstance(value, str):
        raise TypeError(f"{name} is a str or None, not {type(value).__name__}")
    return value


def _printable(text: str) -> str:
    """Escape what would break a line of a log; the text may come from a peer."""
    return text if text.isprintable() else ascii(text)[1:-1]


def _now() -> str:
    return datetime.now(timezone.utc).strftime(_TIMESTAMP_FORMAT)
