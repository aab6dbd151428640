"""The documented class P2P: SPEC section 3."""

import inspect

import pytest
from support import DEADLINE_S, run_python

import peerbus

LOOPBACK = {"ips": ["127.0.0.1"], "dht_enabled": False, "webrtc_enabled": False}
NAT = {"nat": {"port_mapping": False, "hole_punching": False, "autonat": False}}


@pytest.fixture(scope="module", autouse=True)
def library(environment):
    peerbus.P2P.setup_library()


@pytest.fixture
def make(tmp_path):
    """Makes P2P nodes."""
    made = []

    def make_one(**keys):
        made.append(peerbus.P2P(str(tmp_path / str(len(made))), **{**LOOPBACK, **NAT, **keys}))
        return made[-1]

    yield make_one
    for node in made:
        node.close()


@pytest.fixture
def pair(make):
    alice, bob = make(), make()
    with bob.node.events("peer_connected") as events:
        alice.connect_to(bob.addresses)
        events.wait_for_blocking("peer_connected", peer=alice.peer_id, timeout=DEADLINE_S)
    return alice, bob


def pop_until(node, count):
    """Pops that many messages; the Node of the same node waits for what is not there yet."""
    messages = []
    while len(messages) < count:
        popped = node.pop_messages()
        if not popped:
            messages.append(as_popped(node.node.sync.receive(timeout=DEADLINE_S)))
        messages += popped
    return messages


def as_popped(message):
    return {"from": message.sender, "data": bytes(message), "protocol": message.protocol}


def test_the_defaults_of_the_library_are_those_of_the_spec():
    calls = []

    class Recorder(peerbus.P2P):
        pass

    original = peerbus.p2p._library.initialize
    peerbus.p2p._library.initialize = lambda *arguments: calls.append(arguments[:4]) or True
    try:
        Recorder.setup_library()
    finally:
        peerbus.p2p._library.initialize = original
    assert calls == [(32, 100, 50, 50 * 1024 * 1024)]


def test_the_arguments_of_the_constructor_are_those_of_the_spec():
    parameters = inspect.signature(peerbus.P2P.__init__).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items() if name != "self"}
    assert defaults == {
        "identity_dir": inspect.Parameter.empty, "port": 0, "ips": None, "enable_relay_client": True,
        "enable_relay_service": False, "use_broad_limits": False, "is_isolated": False, "knows_is_public": False,
        "enable_tls": False, "domain_name": None, "tls_cert_path": None, "tls_key_path": None, "dht_enabled": True,
        "dht_keep": False, "webrtc_enabled": True, "flood_sub": False, "ice_stun_servers": None, "ice_turn_servers": None,
        "log_sub": "pub", "listen_addrs": None, "listen_ports": None, "static_relays": None, "dht_bootstrap_peers": None,
        "reachability_timeout_ms": None, "nat": None, "limits": None,
    }  # fmt: skip


def test_the_setup_has_the_documented_arguments_and_defaults():
    parameters = inspect.signature(peerbus.P2P.setup_library).parameters.values()
    assert {one.name: one.default for one in parameters} == {
        "max_instances": 32, "max_channels": 100, "max_queue_per_channel": 50, "max_message_size": 50 * 1024 * 1024,
        "enable_logging": False, "unai_logger": None,
    }  # fmt: skip


def test_a_second_setup_warns_and_changes_nothing(make, caplog):
    node = make()
    peerbus.P2P.setup_library(max_instances=1)
    assert "changes nothing" in caplog.text
    assert node.peer_id and make().peer_id


def test_a_node_before_the_setup_is_an_error(tmp_path):
    program = """
import sys, peerbus
try:
    peerbus.P2P(sys.argv[1])
except peerbus.P2PError as error:
    print(error.code)
"""
    assert run_python(program, str(tmp_path)) == "NOT_INITIALIZED\n"


def test_exhausted_instances_are_an_error_and_closing_frees_one(tmp_path):
    program = """
import sys, peerbus
peerbus.P2P.setup_library(max_instances=1)
keys = dict(ips=["127.0.0.1"], dht_enabled=False, webrtc_enabled=False, nat={"port_mapping": False, "autonat": False})
with peerbus.P2P(sys.argv[1] + "/a", **keys):
    try:
        peerbus.P2P(sys.argv[1] + "/b", **keys)
    except peerbus.P2PError as error:
        print(error.code)
with peerbus.P2P(sys.argv[1] + "/b", **keys) as node:
    print(node.peer_id[:4])
"""
    assert run_python(program, str(tmp_path)) == "LIMIT\n12D3\n"


@pytest.mark.parametrize("name", ["max_instances", "max_channels", "max_queue_per_channel", "max_message_size"])
@pytest.mark.parametrize("value", [0, -1, 2**31])
def test_sizes_out_of_range_are_value_errors(name, value):
    with pytest.raises(ValueError, match=name):
        peerbus.P2P.setup_library(**{name: value})


@pytest.mark.parametrize(
    "keys",
    [
        {"domain_name": "example.org"},
        {"tls_cert_path": "c", "tls_key_path": "k"},
        {"enable_tls": True, "dht_enabled": False},
        {"enable_relay_service": True, "dht_enabled": False},
    ],
    ids=str,
)
def test_contradicting_arguments_are_value_errors(make, keys):
    with pytest.raises(ValueError):
        make(**keys)


def test_the_identity_directory_is_created_and_keeps_the_peer_id(make, tmp_path):
    node = make()
    assert (tmp_path / "0" / "identity.key").exists()
    peer_id = node.peer_id
    node.close()
    assert node.peer_id is None
    with peerbus.P2P(str(tmp_path / "0"), **LOOPBACK, **NAT) as again:
        assert again.peer_id == peer_id


def test_own_addresses_end_in_the_peer_id(make):
    node = make()
    assert node.addresses and node.addresses == node.get_node_addresses()
    assert all(address.endswith("/p2p/" + node.peer_id) for address in node.addresses)
    node.close()
    assert node.addresses == []


def test_reachability_is_false_at_first_and_true_when_forced(make):
    node = make()
    assert node.is_public is False and node.get_reachability() is False
    assert make(knows_is_public=True).is_public is True


def test_a_relay_service_implies_the_client(make):
    assert make().relay_is_enabled is True
    assert make(enable_relay_client=False).relay_is_enabled is False
    assert make(enable_relay_client=False, enable_relay_service=True, knows_is_public=True).relay_is_enabled is True


def test_connecting_answers_id_and_address_and_lists_the_peer(make):
    alice, bob = make(), make()
    answer = alice.connect_to(bob.addresses)
    assert answer["ID"] == bob.peer_id and len(answer["Addrs"]) == 1
    [info] = alice.get_connected_peers_info()
    assert set(info) >= {"id", "addrs", "connected_at", "direction", "misc", "relayed"}
    assert (info["id"], info["direction"], info["misc"], info["relayed"]) == (bob.peer_id, "outbound", 0, False)
    assert bob.peer_id in alice.get_node_addresses(bob.peer_id)[0]


@pytest.mark.parametrize("addresses", [[], None, "/ip4/127.0.0.1/tcp/1", ["nonsense"], [1]])
def test_connecting_to_no_address_is_a_value_error(make, addresses):
    with pytest.raises(ValueError):
        make().connect_to(addresses)


def test_connecting_to_oneself_succeeds(make):
    node = make()
    assert node.connect_to(node.addresses)["ID"] == node.peer_id


def test_failures_to_connect_are_p2p_errors(make):
    alice, bob = make(), make()
    addresses = [address for address in bob.addresses if "/tcp/" in address]  # a closed UDP port does not answer
    bob.close()
    with pytest.raises(peerbus.P2PError):
        alice.connect_to(addresses)


def test_disconnecting_forgets_the_peer(pair, caplog):
    alice, bob = pair
    alice.disconnect_from(bob.peer_id)
    assert alice.get_connected_peers_info() == []
    alice.disconnect_from(bob.peer_id)
    alice.disconnect_from(alice.peer_id)
    with pytest.raises(ValueError):
        alice.disconnect_from("")


def test_messages_are_popped_with_sender_data_and_protocol(pair):
    alice, bob = pair
    alice.send_message_to_peer(f"{alice.peer_id}::dm:{bob.peer_id}-0", b"\x00\xffhello")
    [message] = pop_until(bob, 1)
    assert (message["from"], message["data"]) == (alice.peer_id, b"\x00\xffhello")
    assert message["protocol"].startswith("/")
    assert bob.pop_messages() == []


def test_popping_takes_one_message_of_each_channel(pair):
    alice, bob = pair
    for suffix in ("a", "b"):
        for number in range(2):
            alice.send_message_to_peer(f"{alice.peer_id}::dm:{bob.peer_id}-{suffix}", f"{suffix}{number}".encode())
        alice.node.sync.flush(f"{alice.peer_id}::dm:{bob.peer_id}-{suffix}")  # in bob's queue from then on
    assert bob.get_message_queue_length() == 4
    assert sorted(message["data"] for message in bob.pop_messages()) == [b"a0", b"b0"]
    assert sorted(message["data"] for message in bob.pop_messages()) == [b"a1", b"b1"]


def test_popping_finds_what_the_node_has_fetched(pair):
    alice, bob = pair
    channel = f"{alice.peer_id}::dm:{bob.peer_id}-0"
    for number in range(3):
        alice.send_message_to_peer(channel, b"%d" % number)
    assert bob.node.sync.receive(timeout=DEADLINE_S).data == b"0"
    assert [message["data"] for message in pop_until(bob, 2)] == [b"1", b"2"]


@pytest.mark.parametrize("channel", ["", "nonsense", None, "a::ps:b"])
def test_sending_on_a_wrong_channel_is_a_value_error(make, channel):
    with pytest.raises(ValueError):
        make().send_message_to_peer(channel, b"x")


@pytest.mark.parametrize("channel", ["", "nonsense", None, "a::dm:b-c"])
def test_broadcasting_on_a_wrong_channel_is_a_value_error(make, channel):
    with pytest.raises(ValueError):
        make().broadcast_message(channel, b"x")


def test_a_text_is_no_message(make):
    node = make()
    with pytest.raises(TypeError):
        node.send_message_to_peer(f"{node.peer_id}::dm:{node.peer_id}-0", "text")


@pytest.mark.parametrize(
    "call",
    [
        lambda node: node.send_message_to_peer(f"{node.peer_id}::dm:{node.peer_id}-0", "text"),
        lambda node: node.broadcast_message("a::ps:b", 5),
        lambda node: node.get_node_addresses(5),
        lambda node: node.connect_to("text"),
        lambda node: node.subscribe_to_topic(None),
        lambda node: node.setup_library(max_instances="3"),
    ],
)
def test_arguments_of_wrong_types_are_value_errors_and_p2p_errors(make, call):
    with pytest.raises(ValueError) as caught:
        call(make())
    assert isinstance(caught.value, peerbus.P2PError) and caught.value.code == "INVALID_ARGUMENT"


def test_sending_to_oneself_is_a_value_error(make):
    node = make()
    with pytest.raises(ValueError):
        node.send_message_to_peer(f"{node.peer_id}::dm:{node.peer_id}-0", b"x")


def test_a_broadcast_reaches_subscribers(pair):
    alice, bob = pair
    topic = f"{alice.peer_id}::ps:news"
    with alice.node.events("topic_peer_joined") as events:
        alice.subscribe_to_topic(topic)
        alice.subscribe_to_topic(topic)
        bob.subscribe_to_topic(topic)
        events.wait_for_blocking("topic_peer_joined", peer=bob.peer_id, timeout=DEADLINE_S)
    assert alice.get_topic_peers() == [bob.peer_id]
    alice.broadcast_message(topic, b"extra")
    [message] = pop_until(bob, 1)
    assert (message["from"], message["data"]) == (alice.peer_id, b"extra")
    alice.unsubscribe_from_topic(topic)
    alice.unsubscribe_from_topic(topic)
    alice.broadcast_message(topic, b"after")
    assert pop_until(bob, 1)[0]["data"] == b"after"


def test_there_is_no_rendezvous_before_the_first_snapshot(make):
    assert make().get_rendezvous_peers_info() is None


def test_the_queue_length_counts_and_is_negative_after_the_end(make):
    node = make()
    assert node.get_message_queue_length() == 0
    node.close()
    assert node.get_message_queue_length() == -1


def test_closing_twice_succeeds_and_answers_a_text(make):
    node = make()
    assert isinstance(node.close(), str)
    assert isinstance(node.close(), str)
    with pytest.raises(peerbus.P2PError):
        node.pop_messages()
    with pytest.raises(peerbus.P2PError):
        node.get_connected_peers_info()


def test_closing_all_closes_every_node(tmp_path):
    program = """
import sys, peerbus
peerbus.P2P.setup_library()
keys = dict(ips=["127.0.0.1"], dht_enabled=False, webrtc_enabled=False, nat={"port_mapping": False, "autonat": False})
first, second = (peerbus.P2P(sys.argv[1] + name, **keys) for name in ("/a", "/b"))
print(first.close(close_all=True), second.peer_id)
print(type(second.close()).__name__)
with peerbus.P2P(sys.argv[1] + "/a", **keys) as again:
    print(again.peer_id[:4])
"""
    assert run_python(program, str(tmp_path)) == "2 closed, 0 failed None\nstr\n12D3\n"


def test_logs_reach_the_given_logger():
    program = """
import peerbus, peerbus._library, peerbus._log
class Logger:
    lines = []
    def p2p(self, line, src):
        self.lines.append((src, line))
peerbus.P2P.setup_library(enable_logging=True, unai_logger=Logger())
peerbus._library.load().c.InitializeLibrary(0, 0, 0, 0, None)  # which logs a warning
peerbus._log.stop()
print(len(Logger.lines) > 0, {src for src, _ in Logger.lines})
"""
    assert run_python(program) == "True {'peerbus'}\n"
