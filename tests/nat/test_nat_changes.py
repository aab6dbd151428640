"""When relays and addresses change, every message arrives, once and in order."""

from __future__ import annotations

from functools import partial

import changes
import pytest


@pytest.fixture(scope="module")
def happenings(side_by_side, tmp_path_factory):
    yield from side_by_side({name: partial(run, tmp_path_factory.mktemp("change")) for name, run in changes.ALL})


@pytest.mark.parametrize("change", [name for name, _ in changes.ALL])
def test_messages_go_on(happenings, change):
    happenings(change)
