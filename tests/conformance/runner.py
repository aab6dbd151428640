"""Runs generated cases in driver processes: a case that crashes, hangs or leaks fails alone, the rest runs in a new process."""

import os
import selectors
import signal
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass, field

import generate
import pytest
from harness import ROOT, compile_program

SOURCES = ROOT / "tests" / "conformance"
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{SOURCES}", "-Wno-pedantic"]
CASE_SECONDS = 60
EXIT_SECONDS = 60
OWN_PROCESS = {"own": "live", "first": "bare"}


@dataclass
class Outcome:
    """What one case did: answers by tag, and what went wrong apart from the answers."""

    answers: dict = field(default_factory=lambda: defaultdict(list))
    trouble: str = ""


class Driver:
    """One process of the driver, read line by line with a deadline."""

    def __init__(self, program, directory, world, numbers):
        self.log = directory / f"{world}-{numbers[0]}.stderr"
        directory = directory / f"{world}-{numbers[0]}"
        directory.mkdir(exist_ok=True)
        self.stderr = self.log.open("wb")
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1:handle_segv=0:handle_abort=0:use_sigaltstack=0"}
        self.process = subprocess.Popen(
            [program, directory, world, *map(str, numbers)],
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env=environment,
        )
        self.buffer = b""
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)

    def line(self, deadline):
        """The next line; "" at the end, None when it takes too long."""
        while b"\n" not in self.buffer:
            if not self.selector.select(max(0, deadline - time.monotonic())):
                return None
            chunk = os.read(self.process.stdout.fileno(), 1 << 16)
            if not chunk:
                return ""
            self.buffer += chunk
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode("utf-8", "backslashreplace")

    def end(self):
        """Exit status; a process that does not end is asked for its stacks and killed."""
        try:
            return self.process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return "it never ended"

    def kill(self):
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def close(self):
        self.selector.close()
        self.process.stdout.close()
        self.stderr.close()

    def tail(self):
        return self.log.read_text(errors="backslashreplace")[-6000:]


def compiled(cases, directory, library):
    """The driver with these cases."""
    generated = directory / "cases.c"
    generated.write_text(generate.source(cases))
    sources = [SOURCES / "driver.c", generated]
    return compile_program(sources, directory / "driver", standard="gnu99", library=library, flags=SANITIZE)


def run(cases, program, directory, case_seconds=CASE_SECONDS):
    """Runs all cases; returns an Outcome for each number."""
    outcomes = {}
    for world in ("live", "bare"):
        waiting = [number for number, case in enumerate(cases) if case.world == world]
        while waiting:
            waiting = run_group(cases, program, directory, world, waiting, outcomes, case_seconds)
    for number, case in enumerate(cases):
        if case.world in OWN_PROCESS:
            run_group(cases, program, directory, OWN_PROCESS[case.world], [number], outcomes, case_seconds)
    return outcomes


def run_group(cases, program, directory, world, numbers, outcomes, case_seconds):
    """Runs the cases in one process; returns those that it did not get to."""
    driver = Driver(program, directory, world, numbers)
    try:
        return follow(driver, cases, numbers, outcomes, case_seconds)
    finally:
        driver.close()


def follow(driver, cases, numbers, outcomes, case_seconds):
    waiting, current = list(numbers), None
    while (line := driver.line(time.monotonic() + case_seconds)) not in ("", None, "DONE"):
        if line.startswith("BEGIN "):
            current = waiting.pop(0)
            outcomes[current] = Outcome()
        elif line.startswith("END "):
            current = None
        elif line.startswith("LEAK "):
            suspect = next((n for n in numbers if cases[n].name == line[5:]), numbers[-1])
            outcomes[suspect].trouble += f"memory leaked in this case or a later one of its process\n{driver.tail()}"
        else:
            note(outcomes, current, line)
    if line is None:
        driver.kill()
    status = driver.end()
    if line == "DONE" and status == 0:
        return waiting
    ended = "hangs" if line is None else f"ended with status {status}"
    culprit = current if current is not None else (numbers[-1] if not waiting else waiting.pop(0))
    outcomes.setdefault(culprit, Outcome()).trouble += f"the process {ended} in this case or right after it\n{driver.tail()}"
    return waiting


def note(outcomes, current, line):
    if current is None:
        pytest.fail(f"the driver or the library wrote outside of a case: {line}")
    kind, tag, number, data = line.split(" ") if line.count(" ") == 3 else ("?", "", "0", "")
    if kind not in "TCDINX" or data[-1:] not in (".", "-"):
        outcomes[current].trouble += f"the library wrote to stdout: {line}\n"
        return
    content = None if data == "-" else bytes.fromhex(data[:-1])
    if kind == "X":
        outcomes[current].trouble += f"{tag}: {(content or b'').decode()} ({number})\n"
    else:
        outcomes[current].answers[tag].append((kind, int(number), content))
