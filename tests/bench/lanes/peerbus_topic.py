"""Topics of peerbus.Node: one publisher, subscribers that are connected to it, default settings."""

from __future__ import annotations

import argparse
import time
from typing import Any, Dict, List

from endpoint import Lane, serve
from topic_endpoint import TopicEndpoint

LANES = [
    Lane("peerbus gossip", measures=("topics",)),
    Lane("peerbus gossip, lists of 64", ["--lists"], ("topics",)),
    Lane("peerbus direct", ["--mode", "direct"], ("topics",)),
    Lane("peerbus direct, lists of 64", ["--mode", "direct", "--lists"], ("topics",)),
]
_LIST = 64


class PeerbusTopic(TopicEndpoint):
    def __init__(self, mode: str, lists: bool) -> None:
        import node
        import peerbus

        self._make = node
        self._refusal = peerbus.WouldBlockError
        self._node: Any = node.new_node().sync.start()
        self._channel = ""
        self._mode = mode
        self._lists = lists

    def listen(self) -> List[str]:
        address = self._make.addresses_of(self._node, "tcp")
        self._channel = self._channel_of(address)
        return address

    def connect(self, address: List[str]) -> None:
        self._node.connect(address)
        self._channel = self._channel_of(address)

    def subscribe(self) -> None:
        self._node.subscribe(self._channel, mode=self._mode)

    def publish_one(self, message: bytes) -> bool:
        try:
            self._node.publish(self._channel, message)
        except self._refusal:
            return False
        return True

    def publish(self, size: int, seconds: float) -> Dict[str, Any]:
        if not self._lists:
            return super().publish(size, seconds)
        publish_many, channel, clock = self._node.publish_many, self._channel, time.perf_counter
        messages, count = [bytes(size)] * _LIST, 0
        start = clock()
        while clock() - start < seconds:
            count += len(publish_many(channel, messages))
        return {"messages": count, "refused": 0, "seconds": clock() - start}

    def take(self, timeout: float) -> List[Any]:
        return [message.data for message in self._node.receive_batch(timeout=timeout)]

    def lost(self) -> Dict[str, int]:
        return dict(self._make.losses_of(self._node))

    def close(self) -> None:
        self._node.close()

    def _channel_of(self, address: List[str]) -> str:
        channel = f"{self._make.peer_of(address[0])}::ps:bench"
        self._node.open_topic(channel, self._mode)
        return channel


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", default="gossip")
    parser.add_argument("--lists", action="store_true")
    options = parser.parse_args()
    serve(PeerbusTopic(options.mode, options.lists))
