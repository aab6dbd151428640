"""A process that takes orders as JSON lines and answers each with one: how tests and benchmarks drive nodes."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Mapping, Optional, Sequence, Type

ANSWER_S = 180.0
_END_S = 15.0
_SHOWN_LINES = 12


class ProgramError(Exception):
    """A program ended, or did not answer."""


class Program:
    """One process. Use it in a with block: {"do": "quit"} ends it there, and what does not end then is killed."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
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

    def kill(self) -> None:
        """Ends it as a crash would."""
        self._process.kill()
        self._process.wait()

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

    def errors(self) -> str:
        """The end of what it wrote to stderr."""
        self._errors.seek(0)
        return "\n".join(self._errors.read().decode(errors="replace").strip().splitlines()[-_SHOWN_LINES:])

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            if kind is None and self._process.poll() is None:
                self.order("quit")
                self._process.wait(_END_S)
        except (ProgramError, subprocess.TimeoutExpired):
            pass  # what was asked of it has been answered; what hangs at its end is ended below
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
        return ProgramError(f"{' '.join(self._command)} {what}; its stderr ends with:\n{self.errors()}")
