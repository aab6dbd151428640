"""One side of tests/bench/pools.py. Arguments: library, directory, "receive" or "send", mode, messages[, size]."""

import ctypes
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "ffi" / "programs"))
from pools_host import KEYS, RAW_CONTENT, Batch, check, control, library, start_node, token

NETWORK = "n"
LIMITS = {"channel_messages": 65536, "send_messages": 65536}
# The same in both processes: a key for measurements only.
PRIVATE_KEY = (
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIMzr9BDTe9jiqId4+kO23SeKxYp2nhxl4voQwYOxq1if\n-----END PRIVATE KEY-----\n"
)
PUBLIC_KEY = json.dumps({"kty": "OKP", "crv": "Ed25519", "x": "fO3zVkn1IwIDINj0-vpzhC4Ra4TnCOSLHgOkjgfuo1o"})


def pools(slot, **more):
    config = {
        "max_connections": 10,
        "networks": [{"name": NETWORK, "instance": slot}],
        "pools": [{"name": "p", "network": NETWORK, "capacity": 1}],
        "rules": [{"pool": "p"}],
    }
    return control("CreatePools", {**config, **more})["pools"]


def receive(mode, messages):
    slot, addresses, _ = start_node(limits=LIMITS)
    number = None if mode == "no set" else pools(slot, policy=mode, public_key=PUBLIC_KEY)
    print(json.dumps(addresses), flush=True)

    def take(count):
        while count > 0:
            batch = ctypes.POINTER(Batch)()
            if number is None:
                got = library.peerbus_receive(slot, None, 4096, ctypes.c_size_t(0), 60000, ctypes.byref(batch))
            else:
                got = library.peerbus_pools_receive(number, NETWORK.encode(), None, 4096, 0, 60000, ctypes.byref(batch))
            assert check(got), "nothing came"
            count -= got
            library.peerbus_batch_free(batch)
        return count

    behind = take(messages // 10)  # warm-up
    began, cpu = time.perf_counter(), sum(os.times()[:2])
    rest = messages - messages // 10 + behind
    take(rest)
    seconds, cpu = time.perf_counter() - began, sum(os.times()[:2]) - cpu
    print(json.dumps({"per_second": rest / seconds, "cpu_us": cpu / rest * 1e6}), flush=True)
    sys.stdin.read()


def send(messages, size):
    slot, _, own = start_node(limits=LIMITS)
    number = pools(slot, token=token("sender", own))
    addresses = json.loads(sys.stdin.readline())
    peer = addresses[0].split("/p2p/")[1].encode()
    control("ConnectTo", slot, addresses)
    content = bytes(size)
    for _ in range(messages):
        check(library.peerbus_pools_send(number, peer, b"", b"misc", RAW_CONTENT, content, size, None, 60000))
    sys.stdin.read()


if __name__ == "__main__":
    library.InitializeLibrary(4, 0, 0, 0, None)
    KEYS.update(private_key=PRIVATE_KEY, public_key=PUBLIC_KEY)
    if sys.argv[3] == "receive":
        receive(sys.argv[4], int(sys.argv[5]))
    else:
        send(int(sys.argv[5]), int(sys.argv[6]))
    control("ClosePools", -1)
    control("CloseNode", -1)
