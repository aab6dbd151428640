"""Nodes for the tests of the Python package: on loopback, closed at the end of each test."""

import contextlib
import itertools
import os
import sys

import pytest
from support import ENVIRONMENT, LOCAL, LOCAL_P2P, PACKAGE, ROOT, run

if str(PACKAGE) not in sys.path:
    sys.path.insert(0, str(PACKAGE))
sys.path.insert(0, str(ROOT / "tests" / "chaos"))
os.environ.update(ENVIRONMENT)

from pools_support import Root, conn_of, enlist, join
from proxies import TCPProxy

import peerbus
from peerbus.pools import NodeConn


@pytest.fixture(scope="session")
def environment(library_path):
    """The library under test, here and in the processes that tests start."""
    os.environ["PEERBUS_LIBRARY"] = str(library_path)


@pytest.fixture
def nodes(environment):
    """Makes blocking nodes: nodes(limits={...})."""
    with contextlib.ExitStack() as stack:
        yield lambda **keys: stack.enter_context(peerbus.Node(**{**LOCAL, **keys}))


@pytest.fixture
def networks(environment, tmp_path):
    """Makes nodes of the class P2P: networks(limits={...})."""
    peerbus.P2P.setup_library()
    with contextlib.ExitStack() as stack:
        made = itertools.count()
        yield lambda **keys: stack.enter_context(peerbus.P2P(str(tmp_path / f"p2p-{next(made)}"), **{**LOCAL_P2P, **keys}))


@pytest.fixture
def pair(nodes):
    """Two connected nodes."""
    alice, bob = nodes(), nodes()
    with bob.events("peer_connected") as events:
        alice.connect(bob.addresses, timeout=20)
        events.wait_for_blocking("peer_connected", peer=alice.peer_id, timeout=20)
    return alice, bob


@pytest.fixture
def link():
    """Puts a proxy before an address: link(address) gives the proxy and the address behind it."""
    with contextlib.ExitStack() as stack:

        def before(address):
            port, peer_id = address.split("/tcp/")[1].split("/p2p/")
            proxy = stack.enter_context(contextlib.closing(TCPProxy(int(port))))
            return proxy, proxy.address(peer_id)

        yield before


@pytest.fixture
def stack():
    """Closes at the end of the test what is entered."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def root(environment):
    """Issues tokens."""
    return Root()


@pytest.fixture
def world_pair(networks, stack, root):
    """An agent and the world node, connected on the world network."""
    world = conn_of(stack, networks, root, name="world", world=True)
    agent = conn_of(stack, networks, root, name="agent")
    enlist(agent, world)
    run(join(agent, world, NodeConn.P2P_WORLD))
    return agent, world
