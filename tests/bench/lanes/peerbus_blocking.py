"""peerbus.Node in threads: send, and receive_batch or (--receive single) one message at a time; or (--batch) send_many."""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from typing import Any, Callable, Dict, List

from endpoint import END, Digest, Endpoint, Lane, receive_each, serve

LANES = [
    Lane("peerbus"),
    Lane("peerbus, single receive", ["--receive", "single"], sizes=(100, 1024)),
    Lane("peerbus, send_many of 64", ["--batch", "64"], measures=("one_way",)),
    Lane("peerbus QUIC", ["--transport", "quic"]),
]
_WAIT_S = 60.0


class BlockingEndpoint(Endpoint):
    def __init__(self, transport: str, receive: str) -> None:
        import node

        self._transport = transport
        self._make = node
        self._node: Any = node.new_node().sync.start()
        self._peer = ""
        self._single = receive == "single"

    def listen(self) -> List[str]:
        return self._make.addresses_of(self._node, self._transport)

    def connect(self, address: List[str]) -> None:
        self._node.connect(address)
        self._peer = self._make.peer_of(address[0])

    def accept(self) -> None:
        self._peer = self._peer or self._node.peers()[0]["id"]

    def sender(self) -> Callable[[bytes], object]:
        return partial(self._node.send, self._peer)

    def receive(self, size: int) -> Dict[str, Any]:
        if not self._single:
            return super().receive(size)
        self.accept()
        receive = self._node.receive
        return receive_each(lambda: receive(timeout=_WAIT_S).data, size)

    def take(self) -> List[memoryview]:
        if self._single:
            return [self._node.receive(timeout=_WAIT_S).data]
        return [message.data for message in self._node.receive_batch(timeout=_WAIT_S)]

    def close(self) -> None:
        self._node.close()


class BatchEndpoint(BlockingEndpoint):
    """Hands its messages over in lists of a fixed length."""

    def __init__(self, transport: str, receive: str, batch: int) -> None:
        super().__init__(transport, receive)
        self._batch = batch

    def send(self, size: int, seconds: float) -> Dict[str, Any]:
        channel, message, count = self._node.channel(self._peer), bytes(size), 0
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            channel.send_many([message] * self._batch)
            count += self._batch
        taken = time.perf_counter() - start
        channel.send(END)
        return {"messages": count, "seconds": taken}

    def prove(self, size: int, count: int) -> Dict[str, Any]:
        channel, digest = self._node.channel(self._peer), Digest()
        messages = [os.urandom(size) for _ in range(count)]
        for begin in range(0, count, self._batch):
            channel.send_many(messages[begin : begin + self._batch])
        digest.add(messages)
        return digest.result()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--transport", default="tcp")
    parser.add_argument("--receive", default="batch")
    parser.add_argument("--batch", type=int)
    options = parser.parse_args()
    if options.batch:
        serve(BatchEndpoint(options.transport, options.receive, options.batch))
    else:
        serve(BlockingEndpoint(options.transport, options.receive))
