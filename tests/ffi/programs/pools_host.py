"""Agents and world nodes over the C functions, for pools_world.py. Arguments: the library, a directory."""

import ctypes
import itertools
import json
import sys
import time

from structures import Batch

PATIENCE_S = 20  # how long a scenario waits for what must happen; it never makes one pass
JSON_CONTENT, RAW_CONTENT = 7, 9
VERIFIED, INSPECTOR = 1, 2
WORLD = "p2p_world"


class Failure(Exception):
    """An Error envelope or a negative code; ``code`` is its name."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


library = ctypes.CDLL(sys.argv[1])
library.peerbus_last_error.restype = ctypes.c_char_p
library.peerbus_code_name.restype = ctypes.c_char_p
library.FreeString.argtypes = [ctypes.c_void_p]
library.peerbus_batch_free.argtypes = [ctypes.POINTER(Batch)]
library.PoolsSetWorldList.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
library.peerbus_send.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
library.peerbus_pools_send.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.c_char_p,
    ctypes.c_int,
]
library.peerbus_pools_publish.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.c_int,
]
library.peerbus_pools_receive.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(Batch)),
]


def control(name, *arguments):
    """Calls a control function; texts and JSON values become C texts."""
    function = getattr(library, name)
    function.restype = ctypes.c_void_p
    pointer = function(
        *[a.encode() if isinstance(a, str) else json.dumps(a).encode() if isinstance(a, (dict, list)) else a for a in arguments]
    )
    envelope = json.loads(ctypes.string_at(pointer))
    library.FreeString(pointer)
    if envelope["state"] == "Error":
        raise Failure(envelope["code"], envelope["message"])
    return envelope.get("message")


def check(code):
    if code < 0:
        raise Failure(library.peerbus_code_name(code).decode(), library.peerbus_last_error().decode())
    return code


def code_of(call, *arguments, **named):
    """The code that a call fails with."""
    try:
        answer = call(*arguments, **named)
    except Failure as failure:
        return failure.code
    raise AssertionError(f"{call.__name__}{arguments[:2]} answered {answer} instead of failing")


def until(what, condition):
    """Waits for what no call waits for."""
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.005)
    return found


slots = itertools.count()
KEYS = {}  # of all tokens


def start_node(**keys):
    """A node; its slot, addresses and id."""
    slot = next(slots)
    config = {
        "identity_dir": f"{sys.argv[2]}/{slot}",
        "listen_addrs": ["/ip4/127.0.0.1/tcp/0"],
        "dht": {"enabled": False},
        "nat": {"port_mapping": False, "hole_punching": False, "autonat": False},
        "webrtc": {"enabled": False},
        **keys,
    }
    addresses = control("CreateNode", slot, config)["addresses"]
    return slot, addresses, addresses[0].split("/p2p/")[1]


def token(node_id, *peers, **more):
    return control("IssueToken", KEYS["private_key"], {"node_id": node_id, "p2p_peers": list(peers), **more})["token"]


class Member:
    """An agent or world node: two nodes and a set of the preset."""

    def __init__(self, name, is_world_node=False, **options):
        self.name = name
        self.public, self.public_addresses, self.public_id = start_node()
        self.world, self.addresses, self.id = start_node()
        self.token = token(name, self.public_id, self.id)
        config = {
            "preset": "node_conn",
            "max_connections": 100,
            "public": self.public,
            "world": self.world,
            "is_world_node": is_world_node,
            "public_key": KEYS["public_key"],
            "token": self.token,
            **options,
        }
        self.pools = control("CreatePools", config)["pools"]

    def ask(self, query, **arguments):
        return control("PoolsQuery", self.pools, query, arguments)

    def set(self, setting, value):
        return control("PoolsSet", self.pools, setting, json.dumps(value))

    def entry(self, role):
        return {"id": self.id, "addrs": self.addresses, "misc": role}

    def set_list(self, name, entries):
        text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
        return control("PoolsSetWorldList", self.pools, name, text, len(text))

    def join(self, world):
        control("PoolsConnect", self.pools, WORLD, world.addresses, 20000)
        self.set("world", world.id)
        until(
            f"{self.name} is pooled",
            lambda: world.ask("is_connected", peer=self.id) and self.ask("is_connected", peer=world.id),
        )

    def send(self, to, text=b'"hi"', kind="misc", network=None, content=JSON_CONTENT):
        return check(
            library.peerbus_pools_send(
                self.pools, to.encode(), b"", kind.encode(), content, text, len(text), network and network.encode(), 20000
            )
        )

    def receive(self, count=1):
        """Messages as (sender, node id, flags, payload)."""
        messages = []
        while len(messages) < count:
            batch = ctypes.POINTER(Batch)()
            got = check(
                library.peerbus_pools_receive(self.pools, WORLD.encode(), None, 64, 0, PATIENCE_S * 1000, ctypes.byref(batch))
            )
            assert got, f"{count - len(messages)} messages never came"
            for m in batch.contents.messages[:got]:
                payload = ctypes.string_at(m.data, m.size)
                messages.append((m.sender.decode(), m.node_id and m.node_id.decode(), m.flags, payload))
            library.peerbus_batch_free(batch)
        return messages

    def events(self):
        """Events of the world network's node so far."""
        found = []
        while taken := control("PopEvents", self.world, 4096, 0):
            found += taken
        return found

    def losses(self):
        return control("GetStatistics", self.world)["lost"]["in"]

    def wait_for_loss(self, reason, count=1):
        until(f"{count} messages are lost as {reason}", lambda: self.losses().get(reason, 0) == count)


def a_world_of(*names, **options):
    world = Member("world", is_world_node=True, **options)
    agents = [Member(name) for name in names]
    world.set_list("world_agents", [agent.entry(1) for agent in agents])
    for agent in agents:
        agent.join(world)
    return [world, *agents]
