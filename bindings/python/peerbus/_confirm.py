"""Messages of durable channels: who received one says when it is done with it."""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING, Any, Iterable, List, Union

from . import _library
from ._buffers import Message

if TYPE_CHECKING:
    from ._waiting import Steps, Waiter

BATCH = 65536  # PEERBUS_MAX_BATCH
_ENTRY = struct.Struct("=24xQ32xQ8x")  # of a peerbus_message only the channel and the id


class Confirmer:
    """Confirms messages of one node."""

    def __init__(self, library: _library.Library, instance: int) -> None:
        self._library = library
        self._instance = instance

    def confirm(self, messages: List[Message]) -> None:
        """Returns when the disk has it. Messages of channels that are not durable need nothing."""
        durable = [message for message in messages if message.durable]
        for first in range(0, len(durable), BATCH):
            self._confirm(durable[first : first + BATCH])

    def _confirm(self, messages: List[Message]) -> None:
        names = {message.channel: ctypes.create_string_buffer(message.channel.encode()) for message in messages}
        addresses = {channel: ctypes.addressof(text) for channel, text in names.items()}
        table = b"".join(_ENTRY.pack(addresses[message.channel], message.id) for message in messages)
        _library.refuse_fork()
        self._library.check(self._library.c.peerbus_confirm(self._instance, table, len(messages)))

    def message(self, redelivered: bool, *fields: Any) -> Message:
        """A message that is to be confirmed."""
        message = DurableMessage(*fields)
        message._confirmer, message.redelivered = self, redelivered
        return message

    def steps(self, waiter: Waiter, messages: Union[Message, Iterable[Message]]) -> Steps[None]:
        """``confirm`` in a worker thread."""
        from ._workers import start_call

        listed = [messages] if isinstance(messages, Message) else list(messages)
        if any(message.durable for message in listed):
            yield from start_call(lambda: self.confirm(listed)).wait(waiter)


class DurableMessage(Message):
    """A message that its sender keeps until it is confirmed."""

    __slots__ = ("_confirmer", "redelivered")

    _confirmer: Confirmer
    redelivered: bool

    @property
    def durable(self) -> bool:
        return True

    def confirm(self) -> None:
        self._confirmer.confirm([self])
