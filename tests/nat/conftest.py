"""What the tests of NATs need, and the table that they fill."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import topology


@pytest.fixture(scope="session")
def namespaces():
    """That network namespaces can be made; CI sets PEERBUS_NO_SKIPS, because there the tests must run."""
    reason = topology.why_impossible()
    if reason:
        pytest.fail(reason, pytrace=False) if os.environ.get("PEERBUS_NO_SKIPS") else pytest.skip(reason)


@pytest.fixture
def network(namespaces):
    with topology.Network("test") as made:
        yield made
