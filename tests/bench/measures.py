"""The measurements. Each takes programs and answers plain numbers; run.py repeats them in turn and report.py sums up."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from processes import CONTINUE, HERE, STOP, Programs

SIZES = (100, 1024, 64 << 10, 1 << 20, 16 << 20)
ROUND_TRIP_SIZE = 100
TOPIC_SIZE = 1024
PUBSUB_SUBSCRIBERS = (1, 4)
_STALL_SIZE = 100
_STALL_INTERVAL_S = 0.001
_STALL_FLOOD_SIZE = 64 << 10
_QUIET_S = 1.5
_SETTLE_S = 1.0


class Effort(NamedTuple):
    """How long one measurement takes; every lane gets the same."""

    seconds: float
    warm_up: float
    round_trips: int
    sends: int
    idle_seconds: float


FULL = Effort(seconds=1.0, warm_up=0.3, round_trips=3000, sends=2000, idle_seconds=4.0)
QUICK = Effort(seconds=0.2, warm_up=0.05, round_trips=300, sends=200, idle_seconds=1.0)


def percentile(values: List[int], share: float) -> float:
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * share))])


def microseconds(nanoseconds: List[int]) -> Dict[str, float]:
    return {name: percentile(nanoseconds, share) / 1000 for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}


def _series(sender: Any, receiver: Any, size: int, seconds: float) -> Dict[str, Any]:
    receiver.order("receive", size=size)
    sent = sender.ask("send", size=size, seconds=seconds)
    received = receiver.answer()
    if received["messages"] != sent["messages"]:
        raise RuntimeError(f"{sent['messages']} messages of {size} bytes were sent, {received['messages']} arrived")
    rate = received["counted"] / received["seconds"] if received["counted"] > 0 else 0.0
    return {
        "messages": sent["messages"],
        "rate": rate,
        "megabytes": rate * size / 1e6,
        "sender_cpu_us": sent["cpu_seconds"] / sent["messages"] * 1e6,
        "receiver_cpu_us": received["cpu_seconds"] / sent["messages"] * 1e6,
    }


def pair(programs: Programs, lane: Any, effort: Effort, sizes: List[int], trips: bool) -> Dict[str, Any]:
    """One way of these sizes, and round trip if wanted, between two fresh processes."""
    file, declared = lane
    start = [file, declared.arguments, declared.optional]
    result: Dict[str, Any] = {"one_way": {}}
    with programs.lane(*start) as receiver, programs.lane(*start) as sender:
        sender.ask("connect", address=receiver.ask("listen")["address"])
        for size in sizes:
            if "one_way" in declared.measures and (declared.sizes is None or size in declared.sizes):
                _series(sender, receiver, size, effort.warm_up)
                result["one_way"][str(size)] = _series(sender, receiver, size, effort.seconds)
        if trips and "round_trip" in declared.measures:
            for count in (effort.round_trips // 10, effort.round_trips):
                receiver.order("echo", count=count)
                times = sender.ask("round_trip", size=ROUND_TRIP_SIZE, count=count)["nanoseconds"]
                receiver.answer()
            result["round_trip"] = microseconds(times)
    return result


def stalled(programs: Programs, effort: Effort, stall: bool) -> Dict[str, Any]:
    """Sends to one peer while another one, whose queue is full, is stopped; or without that other traffic."""
    with programs.program("peer.py") as healthy, programs.program("peer.py") as other, programs.program("peer.py") as sender:
        addresses = [program.ask("listen")["address"] for program in (healthy, other)]
        for address in addresses:
            sender.ask("connect", address=address)
        to_healthy, to_other = (address[0].rsplit("/", 1)[1] for address in addresses)
        _paced(sender, healthy, to_healthy, effort.sends // 10)
        if stall:
            other.signal(STOP)
        try:
            if stall:
                sender.ask("fill", peer=to_other, size=_STALL_FLOOD_SIZE)
            return _paced(sender, healthy, to_healthy, effort.sends)
        finally:
            if stall:
                other.signal(CONTINUE)


def _paced(sender: Any, receiver: Any, peer: str, count: int) -> Dict[str, Any]:
    receiver.order("latencies", count=count)
    sends = sender.ask("paced", peer=peer, count=count, size=_STALL_SIZE, interval=_STALL_INTERVAL_S)["nanoseconds"]
    return {"send": microseconds(sends), "delivery": microseconds(receiver.answer()["nanoseconds"])}


def topic(programs: Programs, effort: Effort, subscribers: int) -> Dict[str, Any]:
    """One publisher as fast as it can, with default settings; delivered is the share of what should have arrived."""
    with programs.program("peer.py") as publisher:
        address = publisher.ask("listen")["address"]
        channel = f"{address[0].rsplit('/', 1)[1]}::ps:bench"
        receivers = []
        try:
            for _ in range(subscribers):
                receivers.append(programs.program("peer.py"))
                receivers[-1].ask("connect", address=address)
                receivers[-1].ask("subscribe", channel=channel)
            publisher.ask("publish_until_reached", channel=channel, subscribers=subscribers)
            for receiver in receivers:
                receiver.order("collect", size=TOPIC_SIZE, quiet=_QUIET_S)
            published = publisher.ask("publish", channel=channel, size=TOPIC_SIZE, seconds=effort.seconds)
            collected = [receiver.answer() for receiver in receivers]
        finally:
            for receiver in receivers:
                receiver.__exit__(None, None, None)
    arrived = sum(one["messages"] for one in collected)
    rates = [one["messages"] / one["seconds"] for one in collected if one["seconds"]]
    return {
        "published": published["messages"],
        "refused": published["refused"],
        "published_rate": published["messages"] / published["seconds"],
        "rate": min(rates, default=0.0),
        "delivered": arrived / (published["messages"] * subscribers),
        "lost": [one["lost"] for one in collected],
    }


def idle(programs: Programs, effort: Effort, style: str) -> float:
    """CPU in percent of one core while a connected node waits."""
    with programs.program("peer.py") as other, programs.program("peer.py") as waiting:
        waiting.ask("connect", address=other.ask("listen")["address"])
        waiting.order("wait", style=style, seconds=_SETTLE_S + effort.idle_seconds + 1)
        time.sleep(_SETTLE_S)
        start, used = time.monotonic(), waiting.cpu_seconds()
        time.sleep(effort.idle_seconds)
        share = (waiting.cpu_seconds() - used) / (time.monotonic() - start)
        waiting.answer()
    return 100 * share


def footprint(programs: Programs) -> Dict[str, Any]:
    result = programs.run([sys.executable, str(HERE / "programs" / "memory_and_calls.py")])
    result["library_mib"] = programs.shared_object.stat().st_size / (1 << 20)
    return result


def compile_calls(programs: Programs, directory: Path) -> Path:
    """Compiles programs/calls.c against the library."""
    program, folder = directory / "calls", programs.shared_object.parent
    subprocess.run(
        [os.environ.get("CC", "cc"), "-std=gnu11", "-O2", f"-I{HERE.parents[1] / 'include'}",
         str(HERE / "programs" / "calls.c"),
         "-o", str(program), str(programs.shared_object), f"-Wl,-rpath,{folder}", "-lpthread"],
        check=True,
    )
    return program


def calls(programs: Programs, program: Path) -> Dict[str, float]:
    """Nanoseconds of each exported function from C."""
    with tempfile.TemporaryDirectory(prefix="peerbus-bench-") as directory:
        return programs.run([str(program), f"{directory}/a", f"{directory}/b"])
