"""The measurements. Each takes programs and answers plain numbers; run.py repeats them in turn and report.py sums up.

Before anything is timed, each lane proves that it transfers what it is given: random messages of every size that is
measured go through, and both sides answer a digest of their contents and order.
"""

from __future__ import annotations

import contextlib
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
WEBRTC_SIZE = 64 << 10
_ALTERNATIONS = 3
_STALL_SIZE = 100
_STALL_INTERVAL_S = 0.001
_STALL_FLOOD_SIZE = 64 << 10
_QUIET_S = 1.5
_PROBE_EVERY_S = 0.05
_PROBE_S = 30.0
_PROVE_BYTES = 2 << 20
_PROVE_MESSAGES = 64
_PROVE_TOPIC_MESSAGES = 16
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
TINY = Effort(seconds=0.01, warm_up=0.001, round_trips=10, sends=20, idle_seconds=0.1)
"""What the test of this harness takes: everything runs, nothing is worth reading."""


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


def _prove(sender: Any, receiver: Any, size: int) -> None:
    count = max(1, min(_PROVE_MESSAGES, _PROVE_BYTES // size))
    receiver.order("check", size=size, count=count)
    sent = sender.ask("prove", size=size, count=count)["digest"]
    if receiver.answer()["digest"] != sent:
        raise RuntimeError(f"{count} messages of {size} bytes did not arrive as they were sent")


def pair(programs: Programs, lane: Any, effort: Effort, sizes: List[int], trips: bool) -> Dict[str, Any]:
    """One way of these sizes, and round trip if wanted, between two fresh processes."""
    file, declared = lane
    start = [file, declared.arguments, declared.optional]
    result: Dict[str, Any] = {"one_way": {}}
    with programs.lane(*start) as receiver, programs.lane(*start) as sender:
        sender.ask("connect", address=receiver.ask("listen")["address"])
        for size in sizes:
            if "one_way" in declared.measures and (declared.sizes is None or size in declared.sizes):
                _prove(sender, receiver, size)
                _series(sender, receiver, size, effort.warm_up)
                result["one_way"][str(size)] = _series(sender, receiver, size, effort.seconds)
        if trips and "round_trip" in declared.measures:
            for count in (1 + effort.round_trips // 10, effort.round_trips):
                receiver.order("echo", count=count)
                times = sender.ask("round_trip", size=ROUND_TRIP_SIZE, count=count)["nanoseconds"]
                receiver.answer()
            result["round_trip"] = microseconds(times)
    return result


def webrtc(programs: Programs, lane: Any, bare: Any, effort: Effort) -> Dict[str, Any]:
    """A lane beside a bare data channel, in turn, both ways, each side on a processor of its own. Over loopback SCTP loses
    packets now and then, and stands still for a second, so that a single series says little about either."""
    with contextlib.ExitStack() as stack:
        pairs = {name: _pinned_pair(stack, programs, one) for name, one in (("peerbus", lane), ("bare pion", bare))}
        for sides in pairs.values():
            for sender, receiver in (sides, sides[::-1]):
                _prove(sender, receiver, WEBRTC_SIZE)
                _series(sender, receiver, WEBRTC_SIZE, effort.warm_up)
        series: Dict[str, List[Dict[str, Any]]] = {name: [] for name in pairs}
        trips: Dict[str, List[float]] = {name: [] for name in pairs}
        for _ in range(_ALTERNATIONS):
            for name, sides in pairs.items():
                for sender, receiver in (sides, sides[::-1]):
                    series[name].append(_series(sender, receiver, WEBRTC_SIZE, effort.seconds))
            for name, (sender, receiver) in pairs.items():
                count = effort.round_trips // _ALTERNATIONS
                receiver.order("echo", count=count)
                trips[name] += sender.ask("round_trip", size=ROUND_TRIP_SIZE, count=count)["nanoseconds"]
                receiver.answer()
    columns = {name: _webrtc_figures(series[name], trips[name]) for name in pairs}
    ratios = {key: value / columns["bare pion"][key] for key, value in columns["peerbus"].items()}
    return {**columns["peerbus"], "bare pion": columns["bare pion"], "x bare pion": ratios}


def _pinned_pair(stack: contextlib.ExitStack, programs: Programs, lane: Any) -> List[Any]:
    file, declared = lane
    listener, dialler = (
        stack.enter_context(programs.lane(file, declared.arguments, declared.optional, number % (os.cpu_count() or 1)))
        for number in range(2)
    )
    dialler.ask("connect", address=listener.ask("listen")["address"])
    return [dialler, listener]


def _webrtc_figures(series: List[Dict[str, Any]], trips: List[float]) -> Dict[str, float]:
    """Bytes over time and processor time over bytes, of all series together."""
    size = WEBRTC_SIZE / 1e6
    seconds = sum(one["messages"] / one["rate"] for one in series if one["rate"])
    return {
        "MB/s": sum(one["messages"] for one in series if one["rate"]) * size / seconds,
        "CPU us per MB": sum(one["messages"] * (one["sender_cpu_us"] + one["receiver_cpu_us"]) for one in series)
        / (sum(one["messages"] for one in series) * size),
        "round trip us": percentile(trips, 0.5) / 1000,
    }


def stalled(programs: Programs, effort: Effort, stall: bool) -> Dict[str, Any]:
    """Sends to one peer while another one, whose queue is full, is stopped; or without that other traffic."""
    with programs.program("peer.py") as healthy, programs.program("peer.py") as other, programs.program("peer.py") as sender:
        addresses = [program.ask("listen")["address"] for program in (healthy, other)]
        for address in addresses:
            sender.ask("connect", address=address)
        to_healthy, to_other = (address[0].rsplit("/", 1)[1] for address in addresses)
        _paced(sender, healthy, to_healthy, 1 + effort.sends // 10)
        if not stall:
            return {**_paced(sender, healthy, to_healthy, effort.sends), "sender's peak MiB": sender.peak_mib()}
        other.signal(STOP)
        try:
            sender.ask("fill", peer=to_other, size=_STALL_FLOOD_SIZE)
            result = _paced(sender, healthy, to_healthy, effort.sends)
        finally:
            other.signal(CONTINUE)
        result["sender's peak MiB"] = sender.peak_mib()
        return {**result, **_accounted(sender, other)}


def _accounted(sender: Any, receiver: Any) -> Dict[str, Any]:
    """What became of every message that was accepted for the peer that stood still. Other than counted is silent loss."""
    receiver.order("count", size=_STALL_FLOOD_SIZE, quiet=_QUIET_S)
    sent, received = sender.ask("stop"), receiver.answer()
    lost = sum(sum(side["lost"].values()) for side in (sent, received))
    silent = sent["messages"] - received["messages"] - lost
    if silent > 0:
        raise RuntimeError(f"{silent} of {sent['messages']} messages to the stopped peer were lost silently")
    return {"to the stopped peer": sent["messages"], "of these lost, counted": lost}


def _paced(sender: Any, receiver: Any, peer: str, count: int) -> Dict[str, Any]:
    receiver.order("latencies", count=count)
    sends = sender.ask("paced", peer=peer, count=count, size=_STALL_SIZE, interval=_STALL_INTERVAL_S)["nanoseconds"]
    return {"send": microseconds(sends), "delivery": microseconds(receiver.answer()["nanoseconds"])}


def topics(programs: Programs, lane: Any, effort: Effort, subscribers: int) -> Dict[str, Any]:
    """One publisher as fast as it can; delivered is the share of what should have arrived."""
    file, declared = lane
    start = [file, declared.arguments, declared.optional]
    with contextlib.ExitStack() as stack:
        publisher = stack.enter_context(programs.lane(*start))
        address = publisher.ask("listen")["address"]
        receivers = [stack.enter_context(programs.lane(*start)) for _ in range(subscribers)]
        for receiver in receivers:
            receiver.ask("connect", address=address)
            receiver.ask("subscribe")
        _await_first(publisher, receivers)
        _prove_topic(publisher, receivers)
        for receiver in receivers:
            receiver.order("collect", size=TOPIC_SIZE, quiet=_QUIET_S)
        published = publisher.ask("publish", size=TOPIC_SIZE, seconds=effort.seconds)
        collected = [receiver.answer() for receiver in receivers]
    arrived, expected = sum(one["messages"] for one in collected), published["messages"] * subscribers
    if arrived > expected:
        raise RuntimeError(f"{arrived} messages arrived, {expected} were published")
    return {
        "published": published["messages"],
        "refused": published["refused"],
        "published_rate": published["messages"] / published["seconds"],
        "rate": min((one["messages"] / one["seconds"] if one["seconds"] else 0.0) for one in collected),
        "delivered": arrived / expected if expected else 0.0,
        "lost": [one["lost"] for one in collected],
    }


def _await_first(publisher: Any, receivers: List[Any]) -> None:
    """Publishes probes until every subscriber has one: the topic is known everywhere."""
    for receiver in receivers:
        receiver.order("first")
    deadline = time.monotonic() + _PROBE_S
    while not all(receiver.answered() for receiver in receivers) and time.monotonic() < deadline:
        publisher.ask("probe")
        time.sleep(_PROBE_EVERY_S)
    for receiver in receivers:
        receiver.answer()


def _prove_topic(publisher: Any, receivers: List[Any]) -> None:
    for receiver in receivers:
        receiver.order("check", size=TOPIC_SIZE, count=_PROVE_TOPIC_MESSAGES)
    sent = publisher.ask("prove", size=TOPIC_SIZE, count=_PROVE_TOPIC_MESSAGES)["digest"]
    if any(receiver.answer()["digest"] != sent for receiver in receivers):
        raise RuntimeError(f"{_PROVE_TOPIC_MESSAGES} messages on a topic did not arrive as they were published")


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
