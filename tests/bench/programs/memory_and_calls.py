"""Prints what nodes cost in memory and what the main calls cost from Python, as one JSON object."""

from __future__ import annotations

import ctypes
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

FURTHER_NODES = 20
_LOOPS = 20_000
_ROUNDS = 5
_BATCH_TRIES = 200


def rss_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS in /proc/self/status")


def nanoseconds(call: Callable[[], object], loops: int = _LOOPS) -> float:
    """The best of a few rounds: what the call costs when nothing else runs."""
    best = float("inf")
    for _ in range(_ROUNDS):
        start = time.perf_counter_ns()
        for _ in range(loops):
            call()
        best = min(best, (time.perf_counter_ns() - start) / loops)
    return best


class Library:
    def __init__(self) -> None:
        self.c = ctypes.CDLL(os.environ["PEERBUS_LIBRARY"])
        for name in ("CreateNode", "CloseNode", "ConnectTo", "GetConnectedPeers", "GetNodeAddresses", "PopMessages"):
            getattr(self.c, name).restype = ctypes.c_void_p
        self.c.FreeString.argtypes = [ctypes.c_void_p]
        self.c.peerbus_batch_free.argtypes = [ctypes.c_void_p]
        send = self.c.peerbus_send
        send.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        receive = self.c.peerbus_receive
        receive.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
        self.c.InitializeLibrary(64, 0, 65536, 0, None)

    def control(self, name: str, *arguments: Any) -> Any:
        pointer = getattr(self.c, name)(*arguments)
        try:
            answer = json.loads(ctypes.string_at(pointer))
        finally:
            self.c.FreeString(pointer)
        if answer["state"] == "Error":
            raise RuntimeError(f"{name}: {answer}")
        return answer.get("message")


def timed(call: Callable[[], Any], milliseconds: List[float]) -> Any:
    start = time.perf_counter()
    result = call()
    milliseconds.append((time.perf_counter() - start) * 1000)
    return result


def create(library: Library, directory: str, number: int, milliseconds: List[float]) -> Any:
    config = {"identity_dir": f"{directory}/{number}", "listen_ips": ["127.0.0.1"], "nat": {"port_mapping": False}}
    text = json.dumps(config).encode()
    return timed(lambda: library.control("CreateNode", number, text), milliseconds)["addresses"]


def tcp_of(addresses: List[str]) -> bytes:
    return json.dumps([a for a in addresses if "/tcp/" in a and "/ws" not in a]).encode()


def calls(library: Library, mine: str, other: str) -> Dict[str, float]:
    c, channel, payload = library.c, f"{mine}::dm:{other}-bench".encode(), bytes(100)
    batch = ctypes.c_void_p()
    out = ctypes.byref(batch)

    def connected_peers() -> None:
        c.FreeString(c.GetConnectedPeers(0))

    def drain() -> int:
        count = c.peerbus_receive(1, None, 65536, 0, 100, out)
        if count > 0:
            c.peerbus_batch_free(batch)
        return int(count)

    def send_burst() -> float:
        start = time.perf_counter_ns()
        for _ in range(1000):
            c.peerbus_send(0, channel, payload, 100, 1000)
        taken = (time.perf_counter_ns() - start) / 1000
        while drain() > 0:
            pass
        return taken

    return {
        "LibraryABI": nanoseconds(c.LibraryABI),
        "MessageQueueLength": nanoseconds(lambda: c.MessageQueueLength(0)),
        "GetConnectedPeers, 1 peer": nanoseconds(connected_peers, _LOOPS // 10),
        "peerbus_receive, nothing waits": nanoseconds(lambda: c.peerbus_receive(0, None, 1024, 0, 0, out)),
        "peerbus_send 100 B": statistics.median(send_burst() for _ in range(_BATCH_TRIES // 4)),
    }


def main() -> None:
    before = rss_mib()
    library = Library()
    result: Dict[str, Any] = {"rss_python": before, "rss_loaded": rss_mib()}
    milliseconds: Dict[str, List[float]] = {"CreateNode": [], "ConnectTo": [], "CloseNode": []}
    with tempfile.TemporaryDirectory(prefix="peerbus-bench-") as directory:
        nodes = [create(library, directory, 0, milliseconds["CreateNode"])]
        time.sleep(1)  # RSS of a node that has come to rest
        result["rss_one_node"] = rss_mib()
        for number in range(1, 1 + FURTHER_NODES):
            nodes.append(create(library, directory, number, milliseconds["CreateNode"]))
        time.sleep(1)
        result["rss_per_further_node"] = (rss_mib() - result["rss_one_node"]) / FURTHER_NODES
        for number in range(1, 1 + FURTHER_NODES):
            target = tcp_of(nodes[number])
            timed(lambda target=target: library.control("ConnectTo", 0, target), milliseconds["ConnectTo"])
            if number == 1:
                result["python_ns"] = calls(library, nodes[0][0].rsplit("/", 1)[1], nodes[1][0].rsplit("/", 1)[1])
        for number in reversed(range(1 + FURTHER_NODES)):
            timed(lambda number=number: library.control("CloseNode", number), milliseconds["CloseNode"])
    result["milliseconds"] = milliseconds
    print(json.dumps(result))


if __name__ == "__main__":
    main()
