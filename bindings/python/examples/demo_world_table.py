"""The live table of demo_world.py: one row per node, its pools, and what it sent, received and refused."""

from __future__ import annotations

import shutil
import sys
from typing import Any, Dict, List

from peerbus.pools import NodeConn

COLUMNS = [("public", "PUBLIC"), ("agents", "WORLD_AGENTS"), ("world node", "WORLD_NODE"), ("masters", "WORLD_MASTERS")]
COUNTS = ["sent", "received", "refused"]
HEAD = f"{'node':<9} {'state':<24}" + "".join([*(f" {title:>11}" for title, _ in COLUMNS), *(f" {name:>8}" for name in COUNTS)])


class Table:
    """On a terminal it is drawn anew in place; otherwise it is printed when asked for, and checks as they come."""

    def __init__(self, names: List[str]) -> None:
        self.rows: Dict[str, Dict[str, Any]] = {name: {"state": "starting", "status": None} for name in names}
        self.live = sys.stdout.isatty() and shutil.get_terminal_size().columns >= len(HEAD)
        self.drawn = 0
        self.failures = 0

    def state(self, name: str, text: str) -> None:
        self.rows[name]["state"] = text
        self.draw()

    def status(self, name: str, status: Dict[str, Any]) -> None:
        self.rows[name]["status"] = status
        self.draw()

    def check(self, what: str, good: bool, seen: Any = "") -> None:
        """A line that stays: something that was expected, and whether it happened."""
        self.failures += not good
        self.erase()
        print(f"{'ok   ' if good else 'WRONG'} {what}" + ("" if good else f": {seen}"), flush=True)
        self.draw()

    def show(self) -> None:
        """The table as it is now, for logs."""
        if not self.live:
            print("\n".join(self.lines()), flush=True)

    def draw(self) -> None:
        if self.live:
            self.erase()
            lines = self.lines()
            print("\n".join(lines), flush=True)
            self.drawn = len(lines)

    def erase(self) -> None:
        if self.drawn:
            print(f"\033[{self.drawn}F\033[J", end="")
            self.drawn = 0

    def lines(self) -> List[str]:
        return [HEAD, *(self.line(name, row) for name, row in self.rows.items())]

    def line(self, name: str, row: Dict[str, Any]) -> str:
        status = row["status"]
        cells = f"{name:<9} {row['state'][:24]:<24}"
        if status is None:
            return cells
        for _, group in COLUMNS:
            into, out = (status["pools"][getattr(NodeConn, f"{way}_{group}")] for way in ("IN", "OUT"))
            cells += f" {f'{into} in {out} out':>11}"
        return cells + "".join(f" {status[name]:>8}" for name in COUNTS)
