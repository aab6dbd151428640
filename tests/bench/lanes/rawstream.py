"""A raw go-libp2p stream or a bare pion data channel between two Go programs (../rawstream): the limit of all that uses one."""

from __future__ import annotations

import os
import sys

from endpoint import Lane

LANES = [
    Lane("raw libp2p", kind="limit"),
    Lane("raw libp2p, 64 KiB batches", ["-batch"], measures=("one_way",), sizes=(100, 1024), kind="limit"),
    Lane("raw libp2p QUIC", ["-transport", "quic"], kind="limit"),
    Lane("bare pion", ["-transport", "webrtc"], sizes=(100, 1024, 64 << 10, 1 << 20), kind="limit"),
]

if __name__ == "__main__":
    program = os.environ["PEERBUS_RAWSTREAM"]
    os.execv(program, [program, *sys.argv[1:]])
