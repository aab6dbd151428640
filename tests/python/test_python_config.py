"""Arguments of Node become the configuration of CreateNode."""

import pytest

import peerbus
from peerbus import _config


def test_short_names_stand_for_the_keys_of_create_node():
    config = _config.node_config(None, {"ips": ["127.0.0.1"], "port": 4001, "name": "left"})
    assert (config["listen_ips"], config["predefined_port"], config["log"]) == (["127.0.0.1"], 4001, {"name": "left"})


def test_config_and_keywords_are_joined():
    config = _config.node_config({"dht": {"enabled": False}}, {"dht": {"keep": False}, "name": "left"})
    assert config["dht"] == {"enabled": False, "keep": False}


@pytest.mark.parametrize(
    ("config", "keywords"),
    [
        ({"dht": {"enabled": False}}, {"dht": {"enabled": True}}),
        ({"listen_ips": []}, {"ips": []}),
        ({"dht": True}, {"dht": {"keep": True}}),
    ],
)
def test_a_key_given_twice_is_a_type_error(config, keywords):
    with pytest.raises(TypeError, match="given twice"):
        _config.node_config(config, keywords)


def test_own_limits_win_over_those_of_the_class():
    limits = _config.node_config(None, {"limits": {"channels": 3}})["limits"]
    assert limits == {**peerbus.NODE_LIMITS, "channels": 3}


@pytest.mark.parametrize(
    ("given", "message_bytes", "queue_bytes"),
    [
        ({"send_bytes": 1 << 20}, 1 << 20, 512 << 20),
        ({"queue_bytes": 2 << 20, "channel_bytes": 1 << 20}, 1 << 20, 2 << 20),
        ({"peer_queue_bytes": 1 << 30}, 128 << 20, 1 << 30),
        ({"message_bytes": 1 << 30}, 1 << 30, 1 << 30),
    ],
)
def test_limits_that_were_not_given_follow_those_that_were(given, message_bytes, queue_bytes):
    limits = _config.node_config(None, {"limits": given})["limits"]
    assert (limits["message_bytes"], limits["queue_bytes"]) == (message_bytes, queue_bytes)


def test_the_config_of_the_caller_is_not_changed():
    config = {"dht": {"enabled": False}}
    _config.node_config(config, {"dht": {"keep": False}})
    assert config == {"dht": {"enabled": False}}


def test_a_value_that_json_does_not_know_is_a_type_error():
    with pytest.raises(TypeError, match="node configuration"):
        peerbus.Node(name=object())


def test_a_node_that_was_never_started_says_so():
    node = peerbus.Node()
    with pytest.raises(peerbus.NoNodeError):
        _ = node.addresses
    node.sync.close()
    with pytest.raises(peerbus.ClosedError):
        _ = node.addresses
