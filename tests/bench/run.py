"""Measures peerbus between processes on this machine, beside its limits and, if installed, other libraries.

Run it by ``make bench``, or after ./build.sh:

    python tests/bench/run.py [--quick] [--repetitions 5] [--only one_way,round_trip] [--lanes peerbus,raw]
    python tests/bench/run.py --peers          also other libraries; installs requirements.txt in .venv/bench
    python tests/bench/run.py --against DIR    also another checkout, as lanes "... (against)"

Each repetition runs every lane once, in turn, in fresh processes with the same warm-up; the tables show medians with
the smallest and largest value, and ratios are taken within a repetition. Everything stays on 127.0.0.1.
"""

from __future__ import annotations

import argparse
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
MEASURES = ("one_way", "round_trip", "stalled", "topics", "idle", "footprint", "calls")
PEERS_ENVIRONMENT = ROOT / ".venv" / "bench"
_AGAINST = " (against)"
_NOT_LANES = ("endpoint", "node")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short repetition: does everything work?")
    parser.add_argument("--repetitions", type=int, help="default 3, with --quick 1")
    parser.add_argument("--only", default=",".join(MEASURES), help="measurements, of: " + ", ".join(MEASURES))
    parser.add_argument("--lanes", default="", help="beginnings of lane names; default: all")
    parser.add_argument("--sizes", default=",".join(map(str, measures.SIZES)), help="bytes of one-way messages")
    parser.add_argument("--peers", action="store_true", help="measure other libraries too, and draw the plot")
    parser.add_argument("--against", type=Path, help="another checkout with dist/ and bindings/python")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder of results.json and results.png")
    options = parser.parse_args()
    unknown = set(options.only.split(",")) - set(MEASURES)
    if unknown:
        parser.error(f"--only: {', '.join(sorted(unknown))} is none of {', '.join(MEASURES)}")
    options.repetitions = options.repetitions or (1 if options.quick else 3)
    return options


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
        self.failures: List[str] = []

    def lanes(self) -> List[Tuple[str, Programs, Tuple[str, Any]]]:
        """Name, programs and lane of every row."""
        found = []
        for file in sorted((HERE / "lanes").glob("*.py")):
            if file.stem in _NOT_LANES:
                continue
            for lane in importlib.import_module(file.stem).LANES:
                if lane.optional and not self.options.peers:
                    continue
                for suffix, programs in self.programs.items():
                    if not suffix or lane.kind == "peerbus":
                        found.append((lane.name + suffix, programs, (file.name, lane)))
        wanted = tuple(filter(None, self.options.lanes.split(",")))
        return [row for row in found if not wanted or row[0].startswith(wanted)]

    def measure(self, key: str, function: Callable[..., Any], *arguments: Any) -> None:
        print(f"  {key}", file=sys.stderr, flush=True)
        try:
            self.results.setdefault(key, []).append(function(*arguments))
        except (ProgramError, RuntimeError, OSError, subprocess.SubprocessError) as error:
            self.results[key].append(None)
            self.failures.append(f"{key}: {error}")
            print(f"  {key} FAILED: {error}", file=sys.stderr, flush=True)

    def repeat(self, only: List[str], scratch: Path) -> None:
        if "one_way" in only or "round_trip" in only:
            sizes = [int(size) for size in self.options.sizes.split(",")] if "one_way" in only else []
            trips = "round_trip" in only
            for name, programs, lane in self.lanes():
                self.measure(f"pair/{name}", measures.pair, programs, lane, self.effort, sizes, trips)
        for suffix, programs in self.programs.items():
            self.repeat_nodes(only, suffix, programs, scratch)

    def repeat_nodes(self, only: List[str], suffix: str, programs: Programs, scratch: Path) -> None:
        """The measurements that only peerbus has."""
        if "stalled" in only:
            for stall in (False, True):
                key = f"stalled/{'one peer stopped' if stall else 'no stalled peer'}{suffix}"
                self.measure(key, measures.stalled, programs, self.effort, stall)
        if "topics" in only:
            for count in measures.PUBSUB_SUBSCRIBERS:
                self.measure(f"topics/{count} subscribers{suffix}", measures.topic, programs, self.effort, count)
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


def install_peers() -> Path:
    """Makes .venv/bench with the pinned packages of requirements.txt; answers its interpreter."""
    python = PEERS_ENVIRONMENT / "bin" / "python"
    wanted = (HERE / "requirements.txt").read_text()
    mark = PEERS_ENVIRONMENT / "installed.txt"
    if not mark.exists() or mark.read_text() != wanted:
        print(f"installing requirements.txt in {PEERS_ENVIRONMENT.relative_to(ROOT)}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(PEERS_ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", str(HERE / "requirements.txt")], check=True)
        mark.write_text(wanted)
    return python


def main() -> int:
    options = parse_arguments()
    only = options.only.split(",")
    with tempfile.TemporaryDirectory(prefix="peerbus-bench-") as scratch:
        run = Run(options, build_rawstream(Path(scratch)))
        started = time.time()
        for repetition in range(options.repetitions):
            print(f"repetition {repetition + 1} of {options.repetitions}", file=sys.stderr, flush=True)
            run.repeat(only, Path(scratch))
    summary = report.summarize(run.results, started, options)
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
