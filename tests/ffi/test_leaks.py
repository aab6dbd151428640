"""A hundred nodes in a row leave a process as it was."""

import json
import time

from harness import node_config

WARM_UP, CYCLES = 10, 100
GROWTH_KIB = 24 * 1024
SETTLE_SECONDS = 30


def cycle(host, config):
    host.control("CloseNode")
    host.control("CreateNode", config)


def settled(measure, most):
    """The smallest of several readings: sockets of closed nodes may close a moment later."""
    end = time.monotonic() + SETTLE_SECONDS
    while (now := measure()) > most and time.monotonic() < end:
        time.sleep(0.1)
    return now


def test_creating_and_closing_leaves_descriptors_and_memory_flat(start, tmp_path):
    host, other = start("c"), start("python")
    config = json.dumps(node_config(tmp_path / "node0"))
    for _ in range(WARM_UP):
        cycle(host, config)
    descriptors, memory = host.descriptors(), host.resident_kib()
    for _ in range(CYCLES):
        host.connect(other)
        host.send(host.channel_to(other))
        other.receive_count(1)
        cycle(host, config)
    assert settled(host.descriptors, descriptors) <= descriptors
    assert host.resident_kib() - memory < GROWTH_KIB
