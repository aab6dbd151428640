"""Sums a run up: results.json, the text table, the plot."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional

_HERE = Path(__file__).resolve().parent
LIMIT = "raw libp2p"
TOPICS = "topics to "
_LOSSLESS = 0.9999
BATCHED = "raw libp2p, 64 KiB batches"
ORIGINAL = {"100": (65e3, 149e3, 6.8e6), "1024": (33e3, 136e3, 930e3), "65536": (115, 941, None), "1048576": (133, 1082, None),
            "16777216": (122, 815, None)}
"""The UNaIVERSE v0.1.5 library over TCP, and beside it the raw stream by single writes and by batches: messages/s up to 1 KiB,
MB/s above. Measured once, on another machine."""
_UNITS = {1 << 20: "MiB", 1 << 10: "KiB"}


def size_name(size: int) -> str:
    for unit, name in _UNITS.items():
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


def spread(values: Iterable[float]) -> Optional[Dict[str, float]]:
    numbers = list(values)
    if not numbers:
        return None
    return {"median": statistics.median(numbers), "min": min(numbers), "max": max(numbers)}


def summarize(results: Dict[str, List[Any]], kinds: Dict[str, str], started: float, options: Any) -> Dict[str, Any]:
    """All figures. ``kinds`` says of each lane what endpoint.Lane says; ratios are to the best lane of kind "peer"."""
    pairs = {key.split("/", 1)[1]: rounds for key, rounds in results.items() if key.startswith("pair/")}
    return {
        "machine": {
            "processors": os.cpu_count(), "system": platform.platform(), "python": platform.python_version(),
            "load": os.getloadavg()[0],
        },
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": time.time() - started,
        "repetitions": options.repetitions,
        "quick": options.quick,
        "kinds": kinds,
        "one_way": _one_way(pairs, kinds),
        "round_trip": _round_trip(pairs, kinds),
        "topics": _topics(results, kinds),
        "others": {key: _merge([one for one in rounds if one is not None])
                   for key, rounds in results.items() if not key.startswith(("pair/", TOPICS))},
        "raw": results,
    }


def _ratios(own: List[Any], reference: List[Any], *path: str) -> Optional[Dict[str, float]]:
    """Within one repetition, so that a slow minute of the machine hits both."""
    pairs = [(_at(a, path), _at(b, path)) for a, b in zip(own, reference)]
    return spread(a / b for a, b in pairs if a and b)


def _at(tree: Any, path: Iterable[str]) -> Any:
    for step in path:
        tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


def _best(rounds_of: Dict[str, List[Any]], kinds: Dict[str, str], path: Iterable[str], pick: Any = max) -> Optional[str]:
    """The encrypted peer with the best median at this place of its rounds."""
    medians = {}
    for lane, rounds in rounds_of.items():
        values = [v for v in (_at(one, path) for one in rounds) if v] if kinds.get(lane) == "peer" else []
        if values:
            medians[lane] = statistics.median(values)
    return pick(medians, key=medians.__getitem__) if medians else None


def _one_way(pairs: Dict[str, List[Any]], kinds: Dict[str, str]) -> Dict[str, Any]:
    table: Dict[str, Any] = {}
    limit = pairs.get(LIMIT, [])
    for lane, rounds in pairs.items():
        for size in {size for one in rounds if one for size in one["one_way"]}:
            values = {name: spread(v for v in (_at(one, ("one_way", size, name)) for one in rounds) if v is not None)
                      for name in ("rate", "megabytes", "sender_cpu_us", "receiver_cpu_us")}
            values["of_limit"] = _ratios(rounds, limit, "one_way", size, "rate")
            values["best_peer"] = best = _best(pairs, kinds, ("one_way", size, "rate"))
            values["of_best_peer"] = _ratios(rounds, pairs.get(best or "", []), "one_way", size, "rate")
            values["of_original"] = _of_original(size, rounds, limit, pairs.get(BATCHED, []))
            table.setdefault(size, {})[lane] = values
    return dict(sorted(table.items(), key=lambda item: int(item[0])))


def _of_original(size: str, rounds: List[Any], limit: List[Any], batched: List[Any]) -> Dict[str, Any]:
    """How many times the original, which is not run here, by three estimates that need not agree: its own figure, and its
    share of either raw lane of this run. Machines differ in what a system call costs beside what a byte costs."""
    if size not in ORIGINAL:
        return {}
    original, single, batches = ORIGINAL[size]
    unit = "rate" if batches else "megabytes"
    values = [v for v in (_at(one, ("one_way", size, unit)) for one in rounds) if v]
    scaled = {"by single writes": (limit, single), "by batches": (batched, batches)}
    result = {"absolute": spread(v / original for v in values)}
    for name, (reference, there) in scaled.items():
        ratio = _ratios(rounds, reference, "one_way", size, "rate") if there else None
        result[name] = ratio and {key: value * there / original for key, value in ratio.items()}
    return result


def _round_trip(pairs: Dict[str, List[Any]], kinds: Dict[str, str]) -> Dict[str, Any]:
    table = {}
    best = _best(pairs, kinds, ("round_trip", "p50"), min)
    for lane, rounds in pairs.items():
        if any(one and "round_trip" in one for one in rounds):
            values: Dict[str, Any] = {name: spread(v for v in (_at(one, ("round_trip", name)) for one in rounds) if v)
                                      for name in ("p50", "p90", "p99")}
            values["of_limit"] = _ratios(rounds, pairs.get(LIMIT, []), "round_trip", "p50")
            values["best_peer"] = best
            for name in ("p50", "p99"):
                values[f"{name}_of_best_peer"] = _ratios(rounds, pairs.get(best or "", []), "round_trip", name)
            table[lane] = values
    return table


def _topics(results: Dict[str, List[Any]], kinds: Dict[str, str]) -> Dict[str, Any]:
    """By the number of subscribers. The best peer is the fastest of those that delivered everything."""
    table: Dict[str, Any] = {}
    for count in sorted({key.split("/")[0][len(TOPICS):] for key in results if key.startswith(TOPICS)}, key=int):
        prefix = f"{TOPICS}{count}/"
        lanes = {key[len(prefix):]: rounds for key, rounds in results.items() if key.startswith(prefix)}
        best = _best({lane: rounds for lane, rounds in lanes.items()
                      if all(one and one["delivered"] >= _LOSSLESS for one in rounds)}, kinds, ("rate",))
        table[count] = {}
        for lane, rounds in lanes.items():
            whole = [one for one in rounds if one]
            values: Dict[str, Any] = {name: spread(one[name] for one in whole)
                                      for name in ("published_rate", "rate", "delivered", "refused")}
            lost: Dict[str, int] = {}
            for reason, number in (pair for one in whole for side in one["lost"] for pair in side.items()):
                lost[reason] = lost.get(reason, 0) + number
            table[count][lane] = {**values, "counted_losses": lost, "best_peer": best,
                                  "of_best_peer": _ratios(rounds, lanes.get(best or "", []), "rate")}
    return table


def _merge(rounds: List[Any]) -> Any:
    """The spread of every number at the same place of all rounds; lists of numbers are pooled."""
    if not rounds:
        return None
    if isinstance(rounds[0], dict):
        return {key: _merge([one[key] for one in rounds if key in one]) for key in rounds[0]}
    if isinstance(rounds[0], list):
        pooled = [value for one in rounds for value in one]
        return spread(pooled) if all(isinstance(value, (int, float)) for value in pooled) else pooled
    return spread(rounds)


def write_json(summary: Dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(summary, indent=1) + "\n")


# Text

def _number(value: float) -> str:
    for bound, digits in ((1000, 0), (100, 1), (10, 2)):
        if abs(value) >= bound:
            return f"{value:,.{digits}f}"
    return f"{value:.3f}"


def _cell(values: Optional[Dict[str, float]]) -> str:
    return "-" if values is None else f"{_number(values['median'])} [{_number(values['min'])} .. {_number(values['max'])}]"


def _ratio(values: Optional[Dict[str, float]]) -> str:
    return "-" if values is None else f"{values['median']:.2f} [{values['min']:.2f} .. {values['max']:.2f}]"


def _rows(title: str, header: List[str], rows: List[List[str]]) -> str:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                       for column, (cell, width) in enumerate(zip(row, widths))) for row in [header, *rows]]
    return "\n".join(["", title, lines[0], "-" * len(lines[0]), *lines[1:]])


def table(summary: Dict[str, Any]) -> str:
    parts = [f"{summary['repetitions']} repetitions in {summary['seconds']:.0f} s; median [min .. max]; "
             f"{summary['machine']['processors']} processors, load {summary['machine']['load']:.1f}"]
    for size, lanes in summary["one_way"].items():
        rows = [[lane, _cell(v["rate"]), _cell(v["megabytes"]), _ratio(v["of_best_peer"]), _ratio(v["of_limit"]),
                 _cell(v["sender_cpu_us"]), _cell(v["receiver_cpu_us"])] for lane, v in lanes.items()]
        parts.append(_rows(f"One way, {size_name(int(size))}, counted at the receiver{_against(lanes)}",
                           ["lane", "messages/s", "MB/s", "x best peer", f"x {LIMIT}", "sender CPU us", "receiver CPU us"],
                           rows))
        parts.extend(filter(None, [_originals(lanes)]))
    if summary["round_trip"]:
        lanes = summary["round_trip"]
        rows = [[lane, _cell(v["p50"]), _cell(v["p90"]), _cell(v["p99"]), _ratio(v["p50_of_best_peer"]),
                 _ratio(v["p99_of_best_peer"]), _ratio(v["of_limit"])] for lane, v in lanes.items()]
        parts.append(_rows(f"Round trip, 100 B, us{_against(lanes)}",
                           ["lane", "p50", "p90", "p99", "p50 x best peer", "p99 x best peer", f"p50 x {LIMIT}"], rows))
    for count, lanes in summary["topics"].items():
        rows = [[lane, _cell(v["published_rate"]), _cell(v["rate"]), _percent(v["delivered"]), _ratio(v["of_best_peer"]),
                 _cell(v["refused"]), json.dumps(v["counted_losses"])] for lane, v in lanes.items()]
        title = f"Topics, 1 KiB, unpaced, to {count}; arriving at the slowest subscriber"
        parts.append(_rows(title + _against(lanes, "lossless "), ["lane", "published/s", "arriving/s", "delivered",
                           "x best peer", "refused", "counted losses"], rows))
    for group in sorted({key.split("/", 1)[0] for key in summary["others"]}):
        parts.append(_other(group, {key.split("/", 1)[1]: value for key, value in summary["others"].items()
                                    if key.startswith(group + "/")}))
    return "\n".join(parts)


def _against(lanes: Dict[str, Any], which: str = "") -> str:
    """Which lane "best peer" is: another library that encrypts."""
    best = next((values["best_peer"] for values in lanes.values()), None)
    return f"; best {which}encrypted peer: {best}" if best else ""


def _percent(values: Optional[Dict[str, float]]) -> str:
    return "-" if values is None else f"{values['median']:.2%} [{values['min']:.2%} .. {values['max']:.2%}]"


def _originals(lanes: Dict[str, Any]) -> str:
    """One line per lane of peerbus, with every estimate: none of them is a measurement."""
    lines = []
    for lane, values in lanes.items():
        if lane.startswith("peerbus"):
            known = [f"{name} {_ratio(value)}" for name, value in values["of_original"].items() if value]
            lines.append(f"  {lane} x original, estimated: " + "; ".join(known))
    return "\n".join(lines)


_TITLES = {
    "stalled": "Paced sends of 100 B to a healthy peer, us: the call, and from the call to the receiving program",
    "webrtc": "WebRTC, 64 KiB one way and 100 B both ways, each side on its own processor, beside a bare data channel",
    "idle": "Idle CPU of a connected node, % of one core",
    "footprint": "Footprint: MiB, ms, ns from Python", "calls": "Cost of each function from C, ns",
}


def _other(group: str, columns: Dict[str, Any]) -> str:
    flat = {name: _flat(value) for name, value in columns.items()}
    keys = list(dict.fromkeys(key for value in flat.values() for key in value))
    rows = [[key or "CPU %", *(_cell(flat[name].get(key)) for name in flat)] for key in keys]
    return _rows(_TITLES[group], ["", *flat], rows)


def _flat(value: Any, prefix: str = "") -> Dict[str, Any]:
    if not isinstance(value, dict) or "median" in value:
        return {prefix: value} if isinstance(value, dict) else {}
    flat: Dict[str, Any] = {}
    for key, inner in value.items():
        flat.update(_flat(inner, f"{prefix} {key}".strip()))
    return flat


def plot(folder: Path, python: Path) -> Optional[Path]:
    """Draws results.png with the first interpreter that has matplotlib."""
    for interpreter in (python, Path(sys.executable)):
        if interpreter.exists():
            done = subprocess.run([str(interpreter), str(_HERE / "plot.py"), str(folder)], capture_output=True, text=True)
            if done.returncode == 0:
                return folder / "results.png"
            if "No module named 'matplotlib'" not in done.stderr:
                print(done.stderr, file=sys.stderr)
    return None
