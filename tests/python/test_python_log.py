"""Log lines of the library reach logging."""

import logging

import pytest
from support import run_python

from peerbus import _log

pytestmark = pytest.mark.usefixtures("environment")

LISTENING = """
import logging, peerbus
from support import LOCAL
records = []
handler = logging.Handler()
handler.emit = records.append
logger = logging.getLogger("peerbus")
logger.addHandler(handler)
{setting}
with peerbus.Node(**LOCAL) as node, peerbus.Node(**LOCAL) as other:
    node.connect(other.addresses)
    node.sync.disconnect(other.peer_id)
import peerbus._log

peerbus._log.stop()
print(len([record for record in records if not record.name.endswith("P2P")]) > 0)
"""


def test_a_line_of_fields_is_taken_apart():
    line = "2026-01-02T03:04:05.000Z\tWARN\tswarm2\tswarm/dial.go:1\tdial failed\twith a tab"
    assert _log.parse(line) == (logging.WARNING, "swarm2", "swarm/dial.go:1\tdial failed\twith a tab")


def test_a_json_line_is_taken_apart():
    line = '{"level":"error","ts":"x","logger":"dht","msg":"lookup failed","peer":"12D3"}'
    assert _log.parse(line) == (logging.ERROR, "dht", "lookup failed peer=12D3")


def test_any_other_line_is_handed_on_whole():
    assert _log.parse("goroutine 1 [running]:") == (logging.INFO, "peerbus", "goroutine 1 [running]:")
    assert _log.parse("{broken") == (logging.INFO, "peerbus", "{broken")


def test_the_levels_of_python_loggers_are_asked_of_the_library():
    logger = logging.getLogger("peerbus.swarm2")
    logger.setLevel(logging.DEBUG)
    try:
        assert _log.levels_asked_for() == {"swarm2": "debug"}
    finally:
        logger.setLevel(logging.NOTSET)


def test_a_program_that_sets_a_level_gets_the_lines():
    setting = "for name in ('peerbus', 'peerbus.swarm2', 'peerbus.basichost'): logging.getLogger(name).setLevel(logging.DEBUG)"
    assert run_python(LISTENING.format(setting=setting)) == "True\n"


def test_a_program_that_sets_none_gets_no_line():
    assert run_python(LISTENING.format(setting="")) == "False\n"
