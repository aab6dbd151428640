"""The classes have the names, defaults, return kinds and coroutine-ness of SPEC section 2."""

import inspect

import pytest

from peerbus.pools import ConnectionPools, NodeConn

REQUIRED = inspect.Parameter.empty

COROUTINES = {
    "connect", "disconnect", "reserve", "verify_token", "remove", "conn_routing_fcn", "update", "get_messages", "send",
    "subscribe", "unsubscribe", "publish", "get_cv_hash_from_last_token",
    "set_world_agents_and_world_masters_lists_from_rendezvous", "remove_all_world_agents", "leave_world",
}  # fmt: skip

POOLS = {
    "__init__": {"max_connections": REQUIRED, "pool_name_to_p2p_name_and_ratio": REQUIRED, "p2p_name_to_p2p": REQUIRED,
                 "public_key": None, "token": None},
    "close_transports": {},
    "connect": {"addresses": REQUIRED, "p2p_name": REQUIRED},
    "set_token": {"token": REQUIRED},
    "verify_token": {"token": REQUIRED, "peer_id": REQUIRED},
    "get_peer_code_hash": {"peer_id": REQUIRED},
    "reserve": {"peer_id": REQUIRED, "p2p_name": REQUIRED},
    "add": {"peer_info": REQUIRED, "pool_name": REQUIRED},
    "move": {"peer_id": REQUIRED, "pool_name": REQUIRED},
    "remove": {"peer_id": REQUIRED},
    "conn_routing_fcn": {"connected_peer_infos": REQUIRED, "p2p": REQUIRED, "membership": None},
    "update": {},
    "get_added_after_updating": {"pool_name": None},
    "get_removed_after_updating": {"pool_name": None},
    "get_refused_after_updating": {},
    "get_all_connected_peer_infos": {"pool_name": REQUIRED},
    "get_pool_status": {},
    "get_all_connected_peer_ids": {},
    "is_connected": {"peer_id": REQUIRED, "pool_name": None},
    "get_pool_of": {"peer_id": REQUIRED},
    "size": {"pool_name": None},
    "get_last_token": {"peer_id": REQUIRED},
    "passed_time_since_last_communication": {},
    "send": {"peer_id": REQUIRED, "channel_trail": REQUIRED, "content_type": REQUIRED, "content": None, "p2p": None},
    "subscribe": {"peer_id": REQUIRED, "channel": REQUIRED, "default_p2p_name": None},
    "unsubscribe": {"peer_id": REQUIRED, "channel": REQUIRED, "default_p2p_name": None},
    "publish": {"peer_id": REQUIRED, "channel": REQUIRED, "content_type": REQUIRED, "content": None},
    "get_messages": {"p2p_name": REQUIRED, "allowed_not_connected_peers": None},
}  # fmt: skip

NODE_CONN = {
    "__init__": dict.fromkeys(["max_connections", "p2p_u", "p2p_w", "is_world_node", "public_key", "token"], REQUIRED),
    "set_world": {"world_peer_id": REQUIRED},
    "get_world_peer_id": {},
    "get_world_node_peer_id": {},
    "set_inspector": {"inspector_peer_id": REQUIRED},
    "get_first_world_master": {},
    "set_world_agents_list": {"world_agents_list_peer_infos": REQUIRED},
    "set_world_masters_list": {"world_masters_list_peer_infos": REQUIRED},
    "add_to_world_agents_list": {"peer_id": REQUIRED, "addrs": REQUIRED, "role": REQUIRED},
    "add_to_world_masters_list": {"peer_id": REQUIRED, "addrs": REQUIRED, "role": REQUIRED},
    "get_role": {"peer_id": REQUIRED},
    "set_role": {"peer_id": REQUIRED, "new_role": REQUIRED},
    "find_addrs_by_role": {"role": REQUIRED, "return_peer_ids_too": False, "discard_yourself": False},
    "count_by_role": {"role": REQUIRED},
    "is_public": {"peer_id": REQUIRED},
    "is_world_master": {"peer_id": REQUIRED},
    "is_world_node": {"peer_id": REQUIRED},
    "is_in_world": {"peer_id": REQUIRED},
    "get_addrs": {"peer_id": REQUIRED},
    "set_addresses_in_peer_info": {"peer_id": REQUIRED, "addresses": REQUIRED},
    "in_connection_queues": {"peer_id": REQUIRED},
    "set_world_agents_and_world_masters_lists_from_rendezvous": {},
    "reset_rendezvous_tag": {},
    "get_cv_hash_from_last_token": {"peer_id": REQUIRED},
    "remove_all_world_agents": {},
    "leave_world": {},
    "get_all_connected_peer_infos": {"pool_names": REQUIRED},
    "is_connected": {"peer_id": REQUIRED, "pool_names": None},
    "size": {"pool_names": None},
    "get_added_after_updating": {"pool_names": None},
    "get_removed_after_updating": {"pool_names": None},
    "get_messages": {"p2p_name": REQUIRED, "allowed_not_connected_peers": None},
}


def positional(kind, name):
    """Parameters that are given by position, with their defaults; what this package adds takes keywords only."""
    parameters = inspect.signature(getattr(kind, name)).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "self" and p.kind is p.POSITIONAL_OR_KEYWORD}


@pytest.mark.parametrize("name", POOLS)
def test_arguments_of_connection_pools(name):
    assert positional(ConnectionPools, name) == POOLS[name]


@pytest.mark.parametrize("name", NODE_CONN)
def test_arguments_of_node_conn(name):
    assert positional(NodeConn, name) == NODE_CONN[name]


@pytest.mark.parametrize("name", sorted({*POOLS, *NODE_CONN} - {"__init__"}))
def test_what_waits_is_a_coroutine_and_what_answers_at_once_is_not(name):
    for kind in (ConnectionPools, NodeConn):
        if hasattr(kind, name):
            assert inspect.iscoroutinefunction(getattr(kind, name)) == (name in COROUTINES)


def test_disconnect_needs_no_set():
    assert isinstance(inspect.getattr_static(ConnectionPools, "disconnect"), staticmethod)
    assert positional(ConnectionPools, "disconnect") == {"p2p": REQUIRED, "peer_id": REQUIRED}


def test_the_constants_are_those_of_the_spec():
    pools = ["all_universe_public", "world_agents_private", "world_node_private", "world_masters_private"]
    nouns = ["PUBLIC", "WORLD_AGENTS", "WORLD_NODE", "WORLD_MASTERS"]
    for noun, name in zip(nouns, pools):
        assert getattr(NodeConn, f"IN_{noun}") == f"in_{name}" and getattr(NodeConn, f"OUT_{noun}") == f"out_{name}"
        assert getattr(NodeConn, noun) == {f"in_{name}", f"out_{name}"}
    assert (NodeConn.P2P_PUBLIC, NodeConn.P2P_WORLD) == ("p2p_public", "p2p_world")
    assert {f"in_{name}" for name in pools} == NodeConn.INCOMING
    assert {f"out_{name}" for name in pools} == NodeConn.OUTGOING
    assert NodeConn.INCOMING | NodeConn.OUTGOING == NodeConn.ALL
    assert NodeConn.WORLD == NodeConn.ALL - NodeConn.PUBLIC


def test_the_timers_are_those_of_the_spec():
    stated = {"RENDEZVOUS_INTERVAL": 10, "INTERVIEW_TIMEOUT": 45, "ACKNOWLEDGEMENT_TIMEOUT": 45, "PROFILE_INTERVAL": 10,
              "TOKEN_RENEWAL_INTERVAL": 84600, "ADDRESS_CHECK_INTERVAL": 300, "ALIVE_INTERVAL": 150,
              "RELAY_RENEWAL_MARGIN": 900}  # fmt: skip
    assert {name: getattr(NodeConn, f"{name}_S") for name in stated} == stated


def test_the_public_module_has_the_names_of_the_documentation():
    from peerbus import pools

    assert {"ConnectionPools", "NodeConn", "Rule", "PoolMsg"} <= set(pools.__all__)
    assert all(hasattr(pools, name) for name in pools.__all__)
