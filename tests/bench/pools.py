"""What judging costs: messages received per second, and processor time per message, without a pool set, under policy "none" and
under policy "token". Every message carries the same token, so that only the receiver's work differs.

    python tests/bench/pools.py [--messages 200000] [--size 256] [--repetitions 5]

Two processes on 127.0.0.1. The modes alternate within a repetition; the ratios are medians of those within a repetition.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).resolve().parent / "programs" / "pools_lane.py"
MODES = ("no set", "none", "token")


def measure(mode: str, options: argparse.Namespace) -> Dict[str, float]:
    """One run in fresh processes."""
    with tempfile.TemporaryDirectory() as directory:

        def start(role: str, *more: str) -> subprocess.Popen[str]:
            command = [sys.executable, str(PROGRAM), str(options.built), f"{directory}/{role}", role, mode]
            return subprocess.Popen([*command, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        receiver, sender = start("receive", str(options.messages)), start("send", str(options.messages), str(options.size))
        assert receiver.stdout and receiver.stdin and sender.stdout and sender.stdin
        sender.stdin.write(receiver.stdout.readline())
        sender.stdin.flush()
        result = json.loads(receiver.stdout.readline())
        for program in (sender, receiver):
            program.stdin.close()  # type: ignore[union-attr]
            assert program.wait(60) == 0
        return dict(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=256, help="bytes of content")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--library", dest="built", type=Path, default=ROOT / "dist" / "libpeerbus.so")
    options = parser.parse_args()
    runs: List[Dict[str, Dict[str, float]]] = []
    for number in range(options.repetitions):
        order = MODES if number % 2 == 0 else MODES[::-1]
        runs.append({mode: measure(mode, options) for mode in order})
    print(f"{options.messages} messages of {options.size} bytes, median of {options.repetitions} (smallest .. largest)")
    for mode in MODES:
        rates = sorted(run[mode]["per_second"] for run in runs)
        cpu = statistics.median(run[mode]["cpu_us"] for run in runs)
        print(f"{mode:8} {statistics.median(rates):10.0f}/s ({rates[0]:.0f} .. {rates[-1]:.0f})  {cpu:6.2f} us of processor")
    for other in MODES[:2]:
        rate = statistics.median(run["token"]["per_second"] / run[other]["per_second"] for run in runs)
        cpu = statistics.median(run["token"]["cpu_us"] / run[other]["cpu_us"] for run in runs)
        print(f'token / {other}: {rate:.3f} of the rate, {cpu:.3f} of the processor time')


if __name__ == "__main__":
    main()
