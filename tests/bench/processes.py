"""The processes of a measurement, and talking to them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, Optional, Sequence, Type

HERE = Path(__file__).resolve().parent
ANSWER_S = 180.0
_END_S = 15.0


class ProgramError(Exception):
    """A program of the benchmark ended, or did not answer."""


class Program:
    """One process that takes orders (lanes/endpoint.py says which). Use it in a with block."""

    def __init__(self, command: Sequence[str], environment: Dict[str, str]) -> None:
        self._command = list(command)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment
        )
        self._answers: queue.Queue[Optional[str]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def order(self, do: str, **fields: Any) -> None:
        """Gives an order without waiting for its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure("ended") from None

    def answered(self) -> bool:
        """Whether an answer waits."""
        return not self._answers.empty()

    def answer(self, timeout: Optional[float] = None) -> Dict[str, Any]:
        timeout = ANSWER_S if timeout is None else timeout
        try:
            line = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise self._failure(f"did not answer within {timeout:.0f} s") from None
        if line is None:
            raise self._failure("ended")
        result: Dict[str, Any] = json.loads(line)
        return result

    def ask(self, do: str, **fields: Any) -> Dict[str, Any]:
        self.order(do, **fields)
        return self.answer()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def cpu_seconds(self) -> float:
        """What all its threads have used so far, to the nanosecond."""
        total = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def peak_mib(self) -> float:
        """The most memory that it has held so far."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        raise ProgramError(f"no VmHWM of process {self.pid}")

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            if kind is None:
                self.order("quit")
                self._process.wait(_END_S)
        except (ProgramError, subprocess.TimeoutExpired):
            pass  # the figures are in; what hangs at its end is ended below
        finally:
            self._end()

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # an order that it did not read
                    pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._answers.put(line)
        except ValueError:
            pass  # closed by _end
        self._answers.put(None)

    def _failure(self, what: str) -> ProgramError:
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().splitlines()[-12:]
        return ProgramError(f"{' '.join(self._command)} {what}; its stderr ends with:\n" + "\n".join(last))


class Programs:
    """How programs are started: which library and binding they load, which interpreter peers get."""

    def __init__(self, checkout: Path, rawstream: Path, peers_python: Optional[Path] = None) -> None:
        self.checkout = checkout
        self.shared_object = checkout / "dist" / "libpeerbus.so"
        self._peers_python = peers_python
        self._environment = {
            **os.environ,
            "PEERBUS_CHECKOUT": str(checkout),
            "PEERBUS_LIBRARY": str(self.shared_object),
            "PEERBUS_RAWSTREAM": str(rawstream),
            "PYTHONPATH": str(HERE / "lanes"),
        }

    def lane(self, file: str, arguments: List[str], optional: bool) -> Program:
        python = str(self._peers_python) if optional and self._peers_python else sys.executable
        return Program([python, str(HERE / "lanes" / file), *arguments], self._environment)

    def program(self, name: str, *arguments: str) -> Program:
        return Program([sys.executable, str(HERE / "programs" / name), *arguments], self._environment)

    def run(self, command: Sequence[str]) -> Dict[str, Any]:
        """Runs a program that prints one JSON object and ends."""
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=ANSWER_S)
        if done.returncode:
            raise ProgramError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        result: Dict[str, Any] = json.loads(done.stdout)
        return result


STOP, CONTINUE = signal.SIGSTOP, signal.SIGCONT
