"""Measures peerbus between processes on this machine, beside its limits and what a Python user could pick instead.

Run it by ``make bench``, or after ./build.sh:

    python tests/bench/run.py --peers          everything; other libraries come from requirements.txt into .venv/bench
    python tests/bench/run.py --lanes 'peerbus*,raw TCP*' --only one_way --sizes 100,1024
    python tests/bench/run.py --lanes peerbus --peers 'pyzmq*,zenoh TLS' --only round_trip
    python tests/bench/run.py --quick          one short repetition: does everything work?
    python tests/bench/run.py --list           names of the lanes
    python tests/bench/run.py --against DIR    also another checkout, as lanes "... (against)"

Each repetition runs every lane once, in turn, in fresh processes with the same warm-up; the tables show medians with
the smallest and largest value, and ratios are taken within a repetition. Every lane first proves, by digests, that it
transfers what it is given. Everything stays on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import measures
import report
from processes import HERE, ProgramError, Programs

sys.path.insert(0, str(HERE / "lanes"))

ROOT = HERE.parents[1]
MEASURES = ("one_way", "round_trip", "webrtc", "stalled", "topics", "idle", "footprint", "calls")
PEERS_ENVIRONMENT = ROOT / ".venv" / "bench"
PEERS_PYTHON = (3, 11)  # the oldest one for which every package of requirements.txt is there
_AGAINST = " (against)"
BARE_WEBRTC = "bare pion"
_NOT_LANES = ("endpoint", "async_endpoint", "topic_endpoint", "node")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short repetition: does everything work?")
    parser.add_argument("--repetitions", type=int, help="default 3, with --quick 1")
    parser.add_argument("--only", default=",".join(MEASURES), help="measurements, of: " + ", ".join(MEASURES))
    parser.add_argument("--lanes", default="*", help="names or patterns of own lanes and limits; default: all")
    parser.add_argument("--sizes", default=",".join(map(str, measures.SIZES)), help="bytes of one-way messages")
    parser.add_argument("--peers", nargs="?", const="*", default="", help="names or patterns of other libraries; alone: all")
    parser.add_argument("--subscribers", default=",".join(map(str, measures.PUBSUB_SUBSCRIBERS)), help="numbers, for topics")
    parser.add_argument("--install", action="store_true", help="only install the other libraries")
    parser.add_argument("--list", action="store_true", help="print the names of the lanes and what they measure")
    parser.add_argument("--against", type=Path, help="another checkout with dist/ and bindings/python")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder of results.json and results.png")
    options = parser.parse_args()
    unknown = set(options.only.split(",")) - set(MEASURES)
    if unknown:
        parser.error(f"--only: {', '.join(sorted(unknown))} is none of {', '.join(MEASURES)}")
    for patterns in filter(None, (options.lanes, options.peers)):
        known = [lane.name for _, lane in all_lanes() if lane.optional == (patterns is options.peers)]
        for pattern in patterns.split(","):
            if not fnmatch.filter(known, pattern):
                parser.error(f"no lane is called {pattern!r}; there are: {'; '.join(known)}")
    options.repetitions = options.repetitions or (1 if options.quick else 3)
    return options


def all_lanes() -> List[Tuple[str, Any]]:
    """File and lane of every row."""
    files = sorted((HERE / "lanes").glob("*.py"))
    return [(file.name, lane) for file in files if file.stem not in _NOT_LANES
            for lane in importlib.import_module(file.stem).LANES]


class Run:
    """One run: which programs, which lanes, and what came out so far."""

    def __init__(self, options: argparse.Namespace, rawstream: Path) -> None:
        self.options = options
        self.effort = measures.QUICK if options.quick else measures.FULL
        python = install_peers() if options.peers else None
        self.programs = {"": Programs(ROOT, rawstream, python)}
        if options.against:
            self.programs[_AGAINST] = Programs(options.against.resolve(), rawstream, python)
        self.results: Dict[str, List[Any]] = {}
        self.kinds: Dict[str, str] = {}
        self.failures: List[str] = []

    def lanes(self, *wanted: str) -> List[Tuple[str, Programs, Tuple[str, Any]]]:
        """Name, programs and lane of every chosen row that has one of these measures."""
        found = []
        for file, lane in all_lanes():
            patterns = (self.options.peers if lane.optional else self.options.lanes).split(",")
            if not any(fnmatch.fnmatch(lane.name, pattern) for pattern in patterns) or not set(wanted) & set(lane.measures):
                continue
            for suffix, programs in self.programs.items():
                if not suffix or lane.kind == "peerbus":
                    self.kinds[lane.name + suffix] = lane.kind
                    found.append((lane.name + suffix, programs, (file, lane)))
        return found

    def measure(self, key: str, function: Callable[..., Any], *arguments: Any) -> None:
        print(f"  {key}", file=sys.stderr, flush=True)
        try:
            self.results.setdefault(key, []).append(function(*arguments))
        except (ProgramError, RuntimeError, OSError, subprocess.SubprocessError) as error:
            self.results.setdefault(key, []).append(None)
            self.failures.append(f"{key}: {error}")
            print(f"  {key} FAILED: {error}", file=sys.stderr, flush=True)

    def repeat(self, only: List[str], scratch: Path) -> None:
        sizes = [int(size) for size in self.options.sizes.split(",")] if "one_way" in only else []
        for name, programs, lane in self.lanes(*({"one_way", "round_trip"} & set(only))):
            self.measure(f"pair/{name}", measures.pair, programs, lane, self.effort, sizes, "round_trip" in only)
        for count in map(int, self.options.subscribers.split(",")) if "topics" in only else ():
            for name, programs, lane in self.lanes("topics"):
                self.measure(f"topics to {count}/{name}", measures.topics, programs, lane, self.effort, count)
        bare = next(one for one in all_lanes() if one[1].name == BARE_WEBRTC)
        for name, programs, lane in self.lanes("webrtc") if "webrtc" in only else ():
            self.measure(f"webrtc/{name}", measures.webrtc, programs, lane, bare, self.effort)
        for suffix, programs in self.programs.items():
            self.repeat_nodes(only, suffix, programs, scratch)

    def repeat_nodes(self, only: List[str], suffix: str, programs: Programs, scratch: Path) -> None:
        """The measurements that only peerbus has."""
        if "stalled" in only:
            for stall in (False, True):
                key = f"stalled/{'one peer stopped' if stall else 'no stalled peer'}{suffix}"
                self.measure(key, measures.stalled, programs, self.effort, stall)
        if "idle" in only:
            for style in ("none", "blocking", "asyncio"):
                self.measure(f"idle/{style}{suffix}", measures.idle, programs, self.effort, style)
        if "footprint" in only:
            self.measure(f"footprint/peerbus{suffix}", measures.footprint, programs)
        if "calls" in only:
            program = measures.compile_calls(programs, scratch)
            self.measure(f"calls/C{suffix}", measures.calls, programs, program)


def build_rawstream(directory: Path) -> Path:
    program = directory / "rawstream"
    subprocess.run(["go", "build", "-trimpath", "-o", str(program), "./tests/bench/rawstream"], cwd=ROOT, check=True)
    return program


_INSTALLED = PEERS_ENVIRONMENT / "installed.txt"


def peers_are_installed() -> bool:
    """Whether .venv/bench has what requirements.txt wants now."""
    return _INSTALLED.exists() and _INSTALLED.read_text() == (HERE / "requirements.txt").read_text()


def install_peers() -> Path:
    """Makes .venv/bench with the pinned packages of requirements.txt; answers its interpreter."""
    python = PEERS_ENVIRONMENT / "bin" / "python"
    if sys.version_info < PEERS_PYTHON:
        raise SystemExit("the other libraries need Python {}.{} or newer; leave --peers out".format(*PEERS_PYTHON))
    if not peers_are_installed():
        print(f"installing requirements.txt in {PEERS_ENVIRONMENT.relative_to(ROOT)}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(PEERS_ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", str(HERE / "requirements.txt")], check=True)
        _INSTALLED.write_text((HERE / "requirements.txt").read_text())
    return python


def main() -> int:
    options = parse_arguments()
    if options.install:
        if sys.version_info < PEERS_PYTHON:
            print("the other libraries need Python {}.{} or newer: the tests of their lanes are skipped".format(*PEERS_PYTHON))
        else:
            install_peers()
        return 0
    if options.list:
        for _, lane in all_lanes():
            print(f"{lane.name:45} {'--peers' if lane.optional else '--lanes'}  {', '.join(lane.measures)}")
        return 0
    only = options.only.split(",")
    with tempfile.TemporaryDirectory(prefix="peerbus-bench-") as scratch:
        run = Run(options, build_rawstream(Path(scratch)))
        started = time.time()
        for repetition in range(options.repetitions):
            print(f"repetition {repetition + 1} of {options.repetitions}", file=sys.stderr, flush=True)
            run.repeat(only, Path(scratch))
    summary = report.summarize(run.results, run.kinds, started, options)
    options.output.mkdir(parents=True, exist_ok=True)
    report.write_json(summary, options.output / "results.json")
    print(report.table(summary))
    plot: Optional[Path] = report.plot(options.output, PEERS_ENVIRONMENT / "bin" / "python")
    drawn = f", {plot}" if plot else "; no plot: matplotlib is missing (--peers installs it)"
    print(f"results: {options.output / 'results.json'}{drawn}")
    for failure in run.failures:
        print(f"FAILED: {failure}")
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
