"""What the tests of NATs need, and the table that they fill."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness import missing

sys.path.insert(0, str(Path(__file__).resolve().parent))

import topology

_AT_ONCE = 4


@pytest.fixture(scope="session")
def namespaces():
    """That network namespaces can be made."""
    reason = topology.why_impossible()
    if reason:
        missing(reason)


@pytest.fixture
def network(namespaces):
    with topology.Network("test") as made:
        yield made


@pytest.fixture(scope="session")
def side_by_side(namespaces):
    """Runs functions a few at a time, each with an internet of its own: most of the time they wait.

    A fixture yields from it, and gets what answers a key with the result of its function.
    """
    def start(functions):
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            running = {key: pool.submit(function) for key, function in functions.items()}
            yield lambda key: running[key].result()
            pool.shutdown(cancel_futures=True)

    return start


_TABLE: list = []


@pytest.fixture(scope="session")
def nat_table():
    """Rows (case, outcome) of the table that is printed at the end."""
    return _TABLE


def pytest_terminal_summary(terminalreporter):
    if not _TABLE:
        return
    terminalreporter.section("which way, behind which NATs")
    rows = [(case.name, outcome.way, f"{outcome.first_s:.2f} s", f"{outcome.final_s:.2f} s" if outcome.final_s else "",
             outcome.address) for case, outcome in _TABLE]
    rows.insert(0, ("pair", "way", "first message", "direct after", "address"))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths)))
