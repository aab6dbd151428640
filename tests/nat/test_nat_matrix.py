"""Which way the messages of two nodes take, by the routers that they are behind; the table is printed at the end."""

from __future__ import annotations

from functools import partial

import matrix
import pytest


@pytest.fixture(scope="module")
def outcomes(side_by_side, tmp_path_factory):
    yield from side_by_side({case: partial(matrix.run, case, tmp_path_factory.mktemp("pair")) for case in matrix.CASES})


@pytest.mark.parametrize("case", matrix.CASES, ids=lambda case: case.name)
def test_messages_take_the_best_way_there_is(outcomes, nat_table, case):
    outcome = outcomes(case)
    nat_table.append((case, outcome))
    assert outcome.way == case.way
    assert outcome.carried == case.third, "say the cables of the relay and the TURN server"
    assert case.transport in outcome.address
