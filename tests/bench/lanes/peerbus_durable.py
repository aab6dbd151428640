"""Durable channels of peerbus.Node: a send returns when the message is on disk, and the receiver confirms each batch."""

from __future__ import annotations

import argparse
import tempfile
from typing import Any, Callable, Dict, List

from endpoint import Endpoint, Lane, serve
from peerbus_blocking import BatchEndpoint

_SIZES = (100, 1024)
LANES = [
    Lane("peerbus durable", measures=("one_way",), sizes=_SIZES),
    Lane("peerbus durable, send_many of 64", ["--batch", "64"], measures=("one_way",), sizes=_SIZES),
]
_WAIT_S = 60.0


class DurableEndpoint(BatchEndpoint):
    def __init__(self, batch: int) -> None:
        import node

        self._make, self._transport, self._batch, self._peer = node, "tcp", batch, ""
        self._directory = tempfile.TemporaryDirectory(prefix="peerbus-bench-")
        self._node: Any = node.new_node(identity_dir=self._directory.name, channel={"durable": True}).sync.start()

    def sender(self) -> Callable[[bytes], object]:
        return self._node.channel(self._peer).send

    def send(self, size: int, seconds: float) -> Dict[str, Any]:
        return super().send(size, seconds) if self._batch > 1 else Endpoint.send(self, size, seconds)

    def receive(self, size: int) -> Dict[str, Any]:
        return Endpoint.receive(self, size)

    def take(self) -> List[memoryview]:
        batch = self._node.receive_batch(timeout=_WAIT_S)
        self._node.confirm(batch)
        return [message.data for message in batch]

    def close(self) -> None:
        super().close()
        self._directory.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=1)
    serve(DurableEndpoint(parser.parse_args().batch))
