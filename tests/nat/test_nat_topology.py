"""The made-up internet is what it claims: each kind of router is shown by plain sockets, without peerbus."""

from __future__ import annotations

import contextlib
import socket

import pytest
from topology import FIREWALL, FULL_CONE, PORT_RESTRICTED, SYMMETRIC, UDP_BLOCKED

SOON_S = 5.0
NEVER_S = 0.2  # waiting for what must not come; only a packet that does come can fail the test
CONES = [FULL_CONE, PORT_RESTRICTED]
ALL = [*CONES, SYMMETRIC]


@pytest.fixture
def sockets():
    with contextlib.ExitStack() as stack:
        def make(host, kind=socket.SOCK_DGRAM, port=0, family=socket.AF_INET):
            with host.inside():
                made = stack.enter_context(socket.socket(family, kind))
            made.settimeout(SOON_S)
            made.bind(("", port))
            return made
        yield make


def named(nats):
    return pytest.mark.parametrize("nat", nats, ids=lambda nat: nat.name)


def arrives(source, destination, receiver):
    """Whether a datagram gets through."""
    source.sendto(b"?", destination)
    receiver.settimeout(NEVER_S)
    try:
        return receiver.recvfrom(10)[0] == b"?"
    except TimeoutError:
        return False
    finally:
        receiver.settimeout(SOON_S)


def seen_from(sender, host, receiver):
    """The address that a server sees when the sender writes to it."""
    sender.sendto(b"hello", (host.ipv4, receiver.getsockname()[1]))
    message, address = receiver.recvfrom(10)
    assert message == b"hello"
    return address


@named(ALL)
def test_hosts_reach_the_internet_through_the_router(network, sockets, nat):
    router = network.router("router", network.internet, nat)
    client, server = network.host("client", router.lan), network.host("server", network.internet)
    listener = sockets(server, socket.SOCK_STREAM)
    listener.listen()
    with client.inside(), socket.create_connection((server.ipv4, listener.getsockname()[1]), SOON_S) as connection:
        accepted, address = listener.accept()
        with accepted:
            assert address[0] == router.ipv4 != client.ipv4
            connection.sendall(b"hello")
            assert accepted.recv(10) == b"hello"


@named(CONES)
def test_a_cone_has_one_outside_port_for_everybody(network, sockets, nat):
    router = network.router("router", network.internet, nat)
    client = sockets(network.host("client", router.lan))
    servers = [network.host(name, network.internet) for name in ("one", "other")]
    assert len({seen_from(client, server, sockets(server)) for server in servers for _ in range(2)}) == 1


def test_a_symmetric_router_has_another_outside_port_for_each(network, sockets):
    router = network.router("router", network.internet, SYMMETRIC)
    client = sockets(network.host("client", router.lan))
    servers = [network.host(name, network.internet) for name in ("one", "other")]
    ports = [sockets(server) for server in servers for _ in range(2)]
    seen = {seen_from(client, server, port) for server, port in zip([server for server in servers for _ in range(2)], ports)}
    assert len(seen) == 4
    assert {address for address, _ in seen} == {router.ipv4}
    again = {seen_from(client, server, port) for server, port in zip([server for server in servers for _ in range(2)], ports)}
    assert again == seen, "a mapping must last"


def test_a_full_cone_lets_in_everybody_where_it_let_out_once(network, sockets):
    router = network.router("router", network.internet, FULL_CONE)
    client = sockets(network.host("client", router.lan))
    known, stranger = network.host("known", network.internet), network.host("stranger", network.internet)
    outside = seen_from(client, known, sockets(known))
    assert arrives(sockets(stranger), outside, client)
    assert not arrives(sockets(stranger), (outside[0], outside[1] % 60000 + 1), client)


@named([PORT_RESTRICTED, SYMMETRIC])
def test_a_restricted_router_lets_in_only_the_port_that_was_addressed(network, sockets, nat):
    router = network.router("router", network.internet, nat)
    client = sockets(network.host("client", router.lan))
    known, stranger = network.host("known", network.internet), network.host("stranger", network.internet)
    addressed = sockets(known)
    outside = seen_from(client, known, addressed)
    assert not arrives(sockets(stranger), outside, client)
    assert not arrives(sockets(known), outside, client), "another port of the known host"
    assert arrives(addressed, outside, client)


@named([*ALL, UDP_BLOCKED])
def test_nobody_connects_to_a_host_behind_a_router_and_nobody_is_told_why(network, sockets, nat):
    router = network.router("router", network.internet, nat)
    inner = sockets(network.host("client", router.lan), socket.SOCK_STREAM)
    inner.listen()
    stranger = sockets(network.host("stranger", network.internet), socket.SOCK_STREAM)
    stranger.settimeout(NEVER_S)
    with pytest.raises(TimeoutError):  # a refusal would be a reset, which ends a hole punched over TCP
        stranger.connect((router.ipv4, inner.getsockname()[1]))


@pytest.mark.parametrize("left, right, works", [
    (FULL_CONE, SYMMETRIC, True),
    (PORT_RESTRICTED, PORT_RESTRICTED, True),
    (PORT_RESTRICTED, SYMMETRIC, False),
    (SYMMETRIC, SYMMETRIC, False),
], ids=lambda value: getattr(value, "name", value))
def test_which_pairs_can_punch(network, sockets, left, right, works):
    """Both learn their outside address at a server and send to the other's: what every hole punching comes down to."""
    server = network.host("server", network.internet)
    ends = [sockets(network.host(f"client{side}", network.router(f"router{side}", network.internet, nat).lan))
            for side, nat in enumerate((left, right))]
    meeting = sockets(server)
    outside = [seen_from(end, server, meeting) for end in ends]
    for _ in range(2):
        ends[0].sendto(b"?", outside[1])
        ends[1].sendto(b"?", outside[0])
    through = []
    for end in ends:
        end.settimeout(SOON_S if works else NEVER_S)
        with contextlib.suppress(TimeoutError):
            through.append(end.recvfrom(10))
    if not works:
        assert through == []
        return
    end, source = (ends[0], through[0][1]) if through else pytest.fail("nothing came through")
    end.sendto(b"answer", source)
    ends[1].settimeout(SOON_S)
    while ends[1].recvfrom(10)[0] != b"answer":
        pass


def test_where_udp_is_blocked_tcp_gets_out(network, sockets):
    router = network.router("router", network.internet, UDP_BLOCKED)
    client, server = network.host("client", router.lan), network.host("server", network.internet)
    listener = sockets(server, socket.SOCK_STREAM)
    listener.listen()
    datagrams = sockets(server)
    assert not arrives(sockets(client), (server.ipv4, datagrams.getsockname()[1]), datagrams)
    connection = sockets(client, socket.SOCK_STREAM)
    connection.connect((server.ipv4, listener.getsockname()[1]))


def test_a_router_can_let_out_to_one_host_only(network, sockets):
    relay, other = network.host("relay", network.internet), network.host("other", network.internet)
    router = network.router("router", network.internet, PORT_RESTRICTED.only(f"ip daddr {relay.ipv4} meta l4proto tcp"))
    client = network.host("client", router.lan)
    for host, works in ((relay, True), (other, False)):
        listener = sockets(host, socket.SOCK_STREAM)
        listener.listen()
        connection = sockets(client, socket.SOCK_STREAM)
        connection.settimeout(SOON_S if works else NEVER_S)
        if works:
            connection.connect((host.ipv4, listener.getsockname()[1]))
        else:
            with pytest.raises(TimeoutError):
                connection.connect((host.ipv4, listener.getsockname()[1]))


def test_behind_two_routers_only_the_outer_one_is_seen(network, sockets):
    outer = network.router("outer", network.internet, PORT_RESTRICTED)
    inner = network.router("inner", outer.lan, PORT_RESTRICTED)
    client, server = network.host("client", inner.lan), network.host("server", network.internet)
    assert seen_from(sockets(client), server, sockets(server))[0] == outer.ipv4
    assert len({outer.ipv4, inner.ipv4, client.ipv4}) == 3


def test_ipv6_is_routed_and_lets_in_only_answers(network, sockets):
    router = network.router("router", network.internet, FIREWALL, ipv6=True)
    client = network.host("client", router.lan, ipv4=False, ipv6=True)
    server = network.host("server", network.internet, ipv4=False, ipv6=True)
    inner, outer = sockets(client, family=socket.AF_INET6), sockets(server, family=socket.AF_INET6)
    assert not arrives(outer, (client.ipv6, inner.getsockname()[1]), inner)
    inner.sendto(b"hello", (server.ipv6, outer.getsockname()[1]))
    assert outer.recvfrom(10)[1][0] == client.ipv6
    assert arrives(outer, (client.ipv6, inner.getsockname()[1]), inner)
    with client.inside(), pytest.raises(OSError, match="unreachable"):
        socket.create_connection(("11.0.0.1", 1))


def test_a_host_can_lose_its_link_and_its_address(network, sockets):
    router = network.router("router", network.internet, PORT_RESTRICTED)
    client, server = network.host("client", router.lan), network.host("server", network.internet)
    listener = sockets(server)
    client.link_down()
    with client.inside(), pytest.raises(OSError, match="unreachable"):
        socket.create_connection((server.ipv4, 1))
    client.link_up()
    seen_from(sockets(client), server, listener)
    before = client.ipv4
    client.change_address()
    assert client.ipv4 != before
    seen_from(sockets(client), server, listener)


def test_nothing_leads_out_of_the_namespaces(network):
    host = network.host("host", network.internet)
    with host.inside(), pytest.raises(OSError, match="unreachable"):
        socket.create_connection(("8.8.8.8", 53), SOON_S)
