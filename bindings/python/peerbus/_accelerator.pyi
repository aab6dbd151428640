from typing import List, Optional, Sequence, Tuple, Type, Union

from ._buffers import Message, Payload

ABI: int

class Record:
    sender: str
    channel: str
    data: memoryview
    protocol: str
    gap: int
    id: int
    node_id: Optional[str]
    inspector: bool
    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...

class Calls:
    def __init__(
        self,
        message: Type[Message],
        batch_free: int,
        send: int,
        send_lent: int,
        channel_send: int,
        channel_send_lent: int,
        channel_send_batch_lent: int,
        publish_batch: int,
    ) -> None: ...
    def send(self, instance: int, channel: bytes, data: Payload) -> int: ...
    def channel_send(self, instance: int, handle: int, data: Payload) -> int: ...
    def channel_send_many(
        self, instance: int, handle: int, payloads: Sequence[Payload], first: int, count: int
    ) -> Union[int, Tuple[int, int]]: ...
    def publish(self, instance: int, channel: bytes, data: Payload) -> Union[int, Tuple[int, int, int]]: ...
    def publish_many(
        self, instance: int, channel: bytes, payloads: Sequence[Payload], first: int, count: int, timeout_ms: int
    ) -> Union[int, bytes]: ...
    def messages(self, batch: int) -> Optional[List[Message]]: ...
