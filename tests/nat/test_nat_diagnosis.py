"""What a diagnosis says where the situation needs a network of its own."""

from __future__ import annotations

from nodes import Peer, config


def test_a_node_that_cannot_announce_itself_on_the_lan_says_so_until_it_can(network, tmp_path):
    host = network.host("host", network.internet)
    host.link_down()
    keys = {**config(tmp_path, host, mdns={"enabled": True}), "listen_ips": [host.ipv4]}
    with Peer(host, keys) as peer:
        assert "mdns_failing" in peer.await_advice("mdns_failing", present=True)
        host.link_up()
        assert "mdns_failing" not in peer.await_advice("mdns_failing", present=False)
