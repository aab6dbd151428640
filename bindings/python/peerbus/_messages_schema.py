"""The protobuf classes of the message schema, in private descriptor pools.

The default pool of a process holds one definition per file and message name,
and other packages bring a ``p2p.Message`` too. Nothing here touches it
(SPEC MSG-01).
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Optional, Protocol

from ._messages_limits import DecodeError

#: Fields of Message that hold a sub-message.
_NESTED_CONTENT = ("stream_sample", "stats_update")


class EnvelopeMessage(Protocol):
    """What Msg uses of an Envelope; the class itself is made while running."""

    sender: str
    content_type: str
    channel: str
    piggyback: str
    timestamp_net: str
    stream_sample: bytes
    json_content: str
    stats_update: bytes
    raw_content: bytes

    def ByteSize(self) -> int: ...

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...

    def WhichOneof(self, oneof_group: str) -> Optional[str]: ...


class Schema(NamedTuple):
    """Generated classes. ``Envelope`` is ``Message`` with its sub-messages left
    as bytes: opening a message then costs nothing that grows with its content,
    and content that is passed on is passed on byte for byte."""

    Message: Any
    Envelope: Any
    StreamSampleContent: Any
    StatBatch: Any


@functools.cache
def load() -> Schema:
    """Build the classes, on first use: importing protobuf takes a while."""
    from google.protobuf import descriptor_pb2

    from ._schema import FILE_DESCRIPTOR_SET

    files = descriptor_pb2.FileDescriptorSet.FromString(FILE_DESCRIPTOR_SET)
    Message = _message_class(files, "p2p.Message")
    StreamSampleContent, StatBatch = _field_classes(Message)
    _leave_content_encoded(files.file[-1])
    Envelope = _message_class(files, "p2p.Message")
    return Schema(Message, Envelope, StreamSampleContent, StatBatch)


def parse(message_class: Any, data: Any) -> Any:
    """Parse ``data`` (bytes) as ``message_class``. Raises DecodeError."""
    from google.protobuf.message import DecodeError as ProtobufDecodeError

    try:
        return message_class.FromString(data)
    # Invalid UTF-8 is a UnicodeDecodeError in the pure Python parser.
    except (ProtobufDecodeError, ValueError, RecursionError) as error:
        name = message_class.DESCRIPTOR.name
        raise DecodeError(f"{len(data)} bytes are no valid {name}: {error}") from error


def _message_class(files: Any, name: str) -> Any:
    from google.protobuf import descriptor_pool, message_factory

    pool: Any = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def _field_classes(Message: Any) -> Any:
    from google.protobuf import message_factory

    fields = Message.DESCRIPTOR.fields_by_name
    return [message_factory.GetMessageClass(fields[n].message_type) for n in _NESTED_CONTENT]


def _leave_content_encoded(file: Any) -> None:
    message = next(m for m in file.message_type if m.name == "Message")
    for field in message.field:
        if field.name in _NESTED_CONTENT:
            field.type = field.TYPE_BYTES
            field.ClearField("type_name")
