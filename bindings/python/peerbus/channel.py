"""Channel: the sending side of a direct channel, for asyncio; BlockingChannel: the same for threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Type, TypeVar, Union, overload

from ._buffers import Payload
from ._channels import ACCEPTED, QUEUED, SENT, TAKEN, ChannelCore
from ._waiting import run_async, run_blocking

if TYPE_CHECKING:
    from ._core import Core

DEFAULT_TIMEOUT_S = 30.0


class _ChannelFace:
    _core: ChannelCore

    def __init__(self, core: ChannelCore) -> None:
        self._core = core

    @property
    def name(self) -> str:
        """The channel, ``"<own>::dm:<peer>-<name>"``."""
        return self._core.channel

    def info(self) -> Dict[str, Any]:
        """Which ``protocol`` the channel travels by, its ``guarantees`` and how far it is: see GetChannelInfo of the header.

        Raises NotFoundError before the first message."""
        return self._core.info()

    def configure(
        self,
        *,
        send_class: Optional[str] = None,
        compression: Optional[Sequence[str]] = None,
        compress_above: Optional[int] = None,
        progress: Optional[bool] = None,
        durable: Optional[bool] = None,
    ) -> None:
        """Sets how messages travel that are sent from now on; None leaves an option as it is.

        ``send_class``: ``"control"`` messages go ahead of the peer's other channels; ``"bulk"`` ones leave room for the
        others, only ``limits.bulk_sends`` of the node are written at a time, and they go by TCP where both sides listen on
        it; ``"normal"``. It belongs to the channel: all its handles share it. ``compression``: of ``"zstd"``, ``"lz4"``,
        ``"gzip"``, the first that the peer takes, for messages of at least ``compress_above`` bytes; ``[]`` for none.
        ``progress``: whether large messages that are sent raise ``progress`` events. ``durable``: whether messages are on
        disk before ``send`` returns, and wait there for the peer, also across restarts of this process
        (docs/durable-channels.md). It belongs to the channel, like the class, and is settled by the first message. Raises
        InvalidArgumentError, also when it is too late for ``durable``, and StoreError;
        see peerbus_channel_configure of the header."""
        self._core.configure(
            {
                "class": send_class,
                "compression": compression,
                "compress_above": compress_above,
                "progress": progress,
                "durable": durable,
            }
        )

    def close(self) -> None:
        """Gives the handle back. Messages that it took are still delivered."""
        self._core.close()


class _Sent:
    __slots__ = ("_core", "id")

    def __init__(self, core: ChannelCore, number: int) -> None:
        self._core = core
        self.id = number

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} on {self._core.channel}>"


_SentT = TypeVar("_SentT", bound=_Sent)


class SentMessages(Sequence[_SentT]):
    """What ``send_many`` answers: a SentMessage for each message, made when it is asked for. ``ids`` are their ids."""

    __slots__ = ("_core", "_make", "ids")

    def __init__(self, make: Callable[[ChannelCore, int], _SentT], core: ChannelCore, ids: List[int]) -> None:
        self._make = make
        self._core = core
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> _SentT: ...

    @overload
    def __getitem__(self, index: slice) -> SentMessages[_SentT]: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[_SentT, SentMessages[_SentT]]:
        if isinstance(index, slice):
            return SentMessages(self._make, self._core, self.ids[index])
        return self._make(self._core, self.ids[index])

    def __repr__(self) -> str:
        return f"<{len(self.ids)} messages on {self._core.channel}>"


class SentMessage(_Sent):
    """A message that a Channel took. ``id`` counts from 1 on its channel."""

    __slots__ = ()

    async def queued(self, timeout: Optional[float] = None) -> None:
        """Waits until this node has the message, on disk if the channel is durable: it has since ``send`` returned, so this is
        for programs that handle all states alike."""
        await run_async(lambda waiter: self._core.wait(waiter, self.id, QUEUED, timeout))

    async def sent(self, timeout: Optional[float] = None) -> None:
        """Waits until the transport has taken all bytes of the message.

        Raises LostError when that never happens: the text has the reason; NotFoundError when a chat stream is over and nobody
        knows; TimeoutError."""
        await run_async(lambda waiter: self._core.wait(waiter, self.id, SENT, timeout))

    async def accepted(self, timeout: Optional[float] = None) -> None:
        """Waits until the peer's receive queue has the message.

        Raises LostError when it never will: the text has the reason, and whether the message may have arrived;
        UnsupportedError on a chat channel, which confirms nothing; TimeoutError."""
        await run_async(lambda waiter: self._core.wait(waiter, self.id, ACCEPTED, timeout))

    async def taken(self, timeout: Optional[float] = None) -> None:
        """Waits until the peer's program has taken the message out of the library. Raises as ``accepted``.

        A Python program that takes single messages is given some ahead, as many as it takes in 5 ms, and these count as
        taken. On a durable channel a message is taken when the program has confirmed it."""
        await run_async(lambda waiter: self._core.wait(waiter, self.id, TAKEN, timeout))


class Channel(_ChannelFace):
    """The sending side of a direct channel. Get it by ``node.channel(peer_id)``.

    ::

        channel = node.channel(peer_id, "orders")
        message = await channel.send(b"one")
        await message.accepted()
    """

    async def send(self, data: Payload, timeout: float = DEFAULT_TIMEOUT_S) -> SentMessage:
        """Node.send through the handle. The answer has the message's id and waits for its delivery."""
        number = self._core.try_send(data)
        if not number:
            number = await self._send_later(data, timeout)
        return SentMessage(self._core, number)

    async def _send_later(self, data: Payload, timeout: float) -> int:
        return await run_async(lambda waiter: self._core.send(waiter, data, timeout))

    async def send_many(
        self, payloads: Sequence[Payload], timeout: float = DEFAULT_TIMEOUT_S
    ) -> SentMessages[SentMessage]:
        """Sends many messages, in order, with few calls of the library: the fastest way for small ones. ``bytes`` of at least
        256 KiB are not copied, see Node.send.

        Raises WouldBlockError at the timeout; its text says how many were taken."""
        numbers = self._core.try_send_many(payloads)
        if len(numbers) < len(payloads):
            numbers = await self._send_rest(payloads, timeout, numbers)
        return SentMessages(SentMessage, self._core, numbers)

    async def _send_rest(self, payloads: Sequence[Payload], timeout: float, numbers: List[int]) -> List[int]:
        return await run_async(lambda waiter: self._core.send_many(waiter, payloads, timeout, numbers))


class BlockingSentMessage(_Sent):
    """A SentMessage whose waits block the thread."""

    __slots__ = ()

    def queued(self, timeout: Optional[float] = None) -> None:
        """See SentMessage.queued."""
        run_blocking(lambda waiter: self._core.wait(waiter, self.id, QUEUED, timeout))

    def sent(self, timeout: Optional[float] = None) -> None:
        """See SentMessage.sent."""
        run_blocking(lambda waiter: self._core.wait(waiter, self.id, SENT, timeout))

    def accepted(self, timeout: Optional[float] = None) -> None:
        """See SentMessage.accepted."""
        run_blocking(lambda waiter: self._core.wait(waiter, self.id, ACCEPTED, timeout))

    def taken(self, timeout: Optional[float] = None) -> None:
        """See SentMessage.taken."""
        run_blocking(lambda waiter: self._core.wait(waiter, self.id, TAKEN, timeout))


class BlockingChannel(_ChannelFace):
    """A Channel whose methods block the calling thread."""

    def send(self, data: Payload, timeout: float = DEFAULT_TIMEOUT_S) -> BlockingSentMessage:
        """See Channel.send."""
        number = self._core.try_send(data)
        if not number:
            number = self._send_later(data, timeout)
        return BlockingSentMessage(self._core, number)

    def _send_later(self, data: Payload, timeout: float) -> int:
        return run_blocking(lambda waiter: self._core.send(waiter, data, timeout))

    def send_many(
        self, payloads: Sequence[Payload], timeout: float = DEFAULT_TIMEOUT_S
    ) -> SentMessages[BlockingSentMessage]:
        """See Channel.send_many."""
        numbers = self._core.try_send_many(payloads)
        if len(numbers) < len(payloads):
            numbers = self._send_rest(payloads, timeout, numbers)
        return SentMessages(BlockingSentMessage, self._core, numbers)

    def _send_rest(self, payloads: Sequence[Payload], timeout: float, numbers: List[int]) -> List[int]:
        return run_blocking(lambda waiter: self._core.send_many(waiter, payloads, timeout, numbers))


_Face = TypeVar("_Face", bound=_ChannelFace)


def opened(face: Type[_Face], core: Core, to: str, name: Optional[str], options: Mapping[str, Any]) -> _Face:
    """A channel with the options of ``configure``."""
    channel = face(ChannelCore(core, to, name))
    if options:
        try:
            channel.configure(**options)
        except BaseException:
            channel.close()
            raise
    return channel
