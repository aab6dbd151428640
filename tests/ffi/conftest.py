"""Hosts of every language, ended after each test."""

import hosts
import pytest

import peerbus


@pytest.fixture(scope="session")
def programs(library_path, tmp_path_factory):
    """Starts a host of a kind: programs(kind) is its command line."""
    directory = tmp_path_factory.mktemp("hosts")
    return lambda kind: hosts.build(kind, directory, library_path)


@pytest.fixture
def start(programs, tmp_path):
    """start(kind, **configuration keys) is a Host; all of them must end cleanly."""
    started = []

    def begin(kind="c", **keys):
        host = hosts.Host(programs(kind), tmp_path / f"node{len(started)}", **keys)
        started.append(host)
        return host

    yield begin
    assert [host.end() for host in started] == [0] * len(started)


@pytest.fixture
def pair(start):
    """Two connected hosts, the first in C, the second in Python."""
    first, second = start("c"), start("python")
    first.connect(second)
    return first, second


@pytest.fixture
def nodes():
    """Two connected nodes of this process."""
    config = {"listen_ips": ["127.0.0.1"], "nat": {"port_mapping": False}}
    with peerbus.Node(config=config) as a, peerbus.Node(config=config) as b:
        a.connect(b.addresses)
        yield a, b
