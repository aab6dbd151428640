"""How the programs of a measurement are started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from program import ANSWER_S, Program, ProgramError  # noqa: E402


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

    def lane(self, file: str, arguments: List[str], optional: bool, processor: Optional[int] = None) -> Program:
        """processor: the only one that it may use."""
        python = str(self._peers_python) if optional and self._peers_python else sys.executable
        pinned = [] if processor is None else ["taskset", "-c", str(processor)]
        return Program([*pinned, python, str(HERE / "lanes" / file), *arguments], self._environment)

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
