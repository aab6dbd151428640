"""peerbus.Node in threads over WebRTC: a session beside a TCP connection, or (--kind connection) instead of a relayed one."""

from __future__ import annotations

import argparse
import time
from typing import Any, List

from endpoint import Lane, serve
from peerbus_blocking import BlockingEndpoint

_MEASURES = ("one_way", "round_trip", "webrtc")
_SIZES = (100, 1024, 64 << 10, 1 << 20)
LANES = [
    Lane("peerbus WebRTC session", ["--kind", "session"], _MEASURES, _SIZES),
    Lane("peerbus WebRTC connection", ["--kind", "connection"], _MEASURES, _SIZES),
]
_DEADLINE_S = 30.0


class WebRTCEndpoint(BlockingEndpoint):
    """Both sides speak chat on a session, which carries nothing else, and acknowledged channels on a connection."""

    def __init__(self, kind: str) -> None:
        import node

        self._kind, self._make, self._single = kind, node, False
        acknowledged = {"acknowledged": kind == "connection"}
        nat = {"port_mapping": False, "hole_punching": False}
        self._node: Any = node.peerbus.Node(config={**node.CONFIG, "nat": nat, "channel": acknowledged}).sync.start()
        self._relay: Any = None
        self._peer = ""

    def listen(self) -> List[str]:
        if self._kind == "session":
            return self._make.addresses_of(self._node, "tcp")
        return self._behind_a_relay()

    def _behind_a_relay(self) -> List[str]:
        """The relay only introduces the two: what is measured does not pass it."""
        service = {"relay": {"enable_service": True, "with_broad_limits": True}, "network": {"force_public": True}}
        self._relay = self._make.peerbus.Node(config={**self._make.CONFIG, **service}).sync.start()
        (address,) = self._make.addresses_of(self._relay, "tcp")
        self._node.connect([address])
        self._node.reserve_on_relay(self._relay.peer_id)
        return [f"{address}/p2p-circuit/p2p/{self._node.peer_id}"]

    def connect(self, address: List[str]) -> None:
        super().connect(address)
        opened = self._node.initiate_webrtc(self._peer)
        if opened["kind"] != self._kind:
            raise RuntimeError(f"a {opened['kind']} opened, not a {self._kind}")
        deadline = time.monotonic() + _DEADLINE_S
        while any(peer["relayed"] for peer in self._node.peers() if peer["id"] == self._peer):
            if time.monotonic() > deadline:
                raise RuntimeError("the peer stays relayed")
            time.sleep(0.01)

    def accept(self) -> None:
        relay = self._relay.peer_id if self._relay else ""
        self._peer = self._peer or next(peer["id"] for peer in self._node.peers() if peer["id"] != relay)

    def close(self) -> None:
        super().close()
        if self._relay:
            self._relay.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", default="session")
    serve(WebRTCEndpoint(parser.parse_args().kind))
