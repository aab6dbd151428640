"""What each kind of argument can be abused with, and what each function of the header must answer.

A label is what a call's answer comes down to: "Success", "Empty", a code such as "CLOSED", "Nothing" for void, "NULL", and
"Minus one" for MessageQueueLength, which has no codes. Everything the header adds must be entered here: the generator
refuses a function or an argument that it does not know.
"""

from dataclasses import dataclass, field

SUCCESS = frozenset({"Success"})
EMPTY_OR_SUCCESS = frozenset({"Success", "Empty"})
INVALID = frozenset({"INVALID_ARGUMENT"})
TOO_LARGE = frozenset({"TOO_LARGE"})
NOTHING = frozenset({"Nothing"})
MINUS_ONE = frozenset({"Minus one"})
BAD_CONFIG = frozenset({"INVALID_ARGUMENT", "INVALID_CONFIG"})


def labels(*names):
    return frozenset(names)


# ---- Arguments: kind of argument -> {name of the abuse: (C expression, expected labels)} ----

INSTANCE = {
    "minus_five": ("-5", INVALID),
    "max_instances": ("MAX_INSTANCES", INVALID),
    "int_max": ("INT_MAX", INVALID),
    "int_min": ("INT_MIN", INVALID),
}
TEXT = {
    "null": ("NULL", INVALID),
    "empty": ('""', INVALID),
    "invalid_utf8": (r'"\xff\xfe\x80"', INVALID),
    "overlong_utf8": (r'"\xc0\xaf"', INVALID),
    "surrogate_utf8": (r'"\xed\xa0\x80"', INVALID),
    "as_long_as_allowed": ("exact_text", INVALID),
    "too_long": ("huge_text", TOO_LARGE),
}
MALFORMED = {"null", "invalid_utf8", "overlong_utf8", "surrogate_utf8", "too_long"}
NAME = {
    name: (expression, labels("NOT_FOUND") if name in ("empty", "as_long_as_allowed") else expected)
    for name, (expression, expected) in TEXT.items()
}
CHANNEL = {
    **TEXT,
    "of_256_bytes": ("text_of_256", INVALID),
    "without_kind": ('"a"', INVALID),
    "only_kind": ('"::dm:"', INVALID),
    "both_kinds": ('"a::dm:b::ps:c"', INVALID),
    "kind_twice": ('"a::ps:b::ps:c"', INVALID),
    "format_directives": ('"%s%n::%s"', INVALID),
}
PEER_ID = {**TEXT, "no_peer_id": ('"not-a-peer"', INVALID), "cut_peer_id": ('"12D3KooW"', INVALID)}
JSON = {
    **TEXT,
    "cut_json": ('"{\\"a\\":"', INVALID),
    "other_json_type": ('"17"', INVALID),
    "nested_lists": ("nested_lists", INVALID),
    "two_values": ('"{} {}"', INVALID),
}
CONFIG = {
    **{name: (expression, TOO_LARGE if name == "too_long" else BAD_CONFIG) for name, (expression, _) in JSON.items()},
    "unknown_key": ('"{\\"unknown_key\\":1}"', BAD_CONFIG),
}
ADDRESSES = {
    **JSON,
    "empty_list": ('"[]"', INVALID),
    "list_of_numbers": ('"[1,2]"', INVALID),
    "without_peer": ('"[\\"/ip4/127.0.0.1/tcp/1\\"]"', INVALID),
    "no_multiaddr": ('"[\\"127.0.0.1:1\\"]"', INVALID),
}
RELAY = {
    **JSON,
    "without_addresses": ('"{\\"ID\\":\\"12D3KooWAHoEkEqnKzM5PXFygh2movVBCSX3k8tDsT2cneU68Gyt\\",\\"Addrs\\":[]}"', INVALID),
    "without_id": ('"{\\"Addrs\\":[\\"/ip4/127.0.0.1/tcp/1\\"]}"', INVALID),
    "unknown_field": ('"{\\"Id\\":\\"\\"}"', INVALID),
}
DEAD_RELAY = '"{\\"ID\\":\\"12D3KooWAHoEkEqnKzM5PXFygh2movVBCSX3k8tDsT2cneU68Gyt\\",\\"Addrs\\":[\\"/ip4/127.0.0.1/tcp/1\\"]}"'
TIMEOUT = {
    "minus_one": ("-1", INVALID),
    "int_min": ("INT_MIN", INVALID),
    "above_maximum": ("PEERBUS_MAX_TIMEOUT_MS + 1", INVALID),
    "int_max": ("INT_MAX", INVALID),
}
LENGTH = {
    "minus_one": ("-1", INVALID),
    "int_min": ("INT_MIN", INVALID),
    "int_max": ("INT_MAX", TOO_LARGE),
    "above_limit": ("50 * 1024 * 1024 + 1", TOO_LARGE),
    "zero": ("0", INVALID),
}
SIZE = {
    "size_max": ("SIZE_MAX", TOO_LARGE),
    "half_of_size_max": ("SIZE_MAX / 2 + 1", TOO_LARGE),
    "above_int": ("(size_t)1 << 32", TOO_LARGE),
    "above_limit": ("50 * 1024 * 1024 + 1", TOO_LARGE),
    "zero": ("0", INVALID),
}
FREED = {"null": ("NULL", NOTHING)}


def values(expected, **expressions):
    return {name: (expression, expected) for name, expression in expressions.items()}


def number(lowest, highest):
    """Values just outside lowest..highest, and the ends of int."""
    return values(INVALID, below=f"{lowest} - 1", above=f"{highest} + 1", int_min="INT_MIN", int_max="INT_MAX")


ANY_INT = values(NOTHING, minus_one="-1", zero="0", int_min="INT_MIN", int_max="INT_MAX")

ARGUMENTS = {
    ("int", "instance"): INSTANCE,
    ("const char *", "channel"): CHANNEL,
    ("const char *", "peerID"): PEER_ID,
    ("const char *", "relayPeerID"): PEER_ID,
    ("const char *", "addrInfoJSON"): RELAY,
    ("const char *", "configJSON"): CONFIG,
    ("const char *", "addrsJSON"): ADDRESSES,
    ("const char *", "logConfigJSON"): {name: (expression, NOTHING) for name, (expression, _) in JSON.items()},
    ("const char *", "function"): {**TEXT, "other_function": ('"CloseNode"', INVALID)},
    ("const char *", "argument"): CHANNEL,
    ("const char *", "name"): {
        name: (expression, expected if name in MALFORMED else labels("UNSUPPORTED", "INVALID_ARGUMENT"))
        for name, (expression, expected) in TEXT.items()
    },
    ("int", "maxPeers"): number("1", "1000"),
    ("const char *", "data"): {"null": ("NULL", INVALID)},
    ("int", "length"): LENGTH,
    ("const void *", "data"): {"null": ("NULL", INVALID)},
    ("size_t", "size"): SIZE,
    ("int", "timeoutMs"): TIMEOUT,
    ("int", "timeout_ms"): TIMEOUT,
    ("int", "maxEvents"): number("1", "4096"),
    ("int", "count"): number("1", "PEERBUS_MAX_BATCH"),
    ("int", "max_messages"): number("1", "PEERBUS_MAX_BATCH"),
    ("int", "again"): values(SUCCESS, zero="0", minus_one="-1", int_max="INT_MAX"),
    ("size_t", "max_bytes"): {"size_max": ("SIZE_MAX", SUCCESS), "one": ("1", SUCCESS)},
    ("peerbus_batch **", "out"): {"null": ("NULL", INVALID)},
    ("int", "pools"): values(INVALID, zero="0", minus_five="-5", int_max="INT_MAX", int_min="INT_MIN"),
    ("const char *", "network"): NAME,
    ("const char *", "pool"): NAME,
    ("const char *", "list"): TEXT,
    ("const char *", "query"): TEXT,
    ("const char *", "setting"): TEXT,
    ("const char *", "infoJSON"): JSON,
    ("const char *", "optionsJSON"): {
        **JSON,
        "unknown_key": ('"{\\"unknown_key\\":1}"', INVALID),
        "unknown_mode": ('"{\\"mode\\":\\"loud\\"}"', INVALID),
        "overflow_of_gossip": ('"{\\"overflow\\":\\"block\\"}"', INVALID),
    },
    ("const char *", "routesJSON"): JSON,
    ("const char *", "entryJSON"): JSON,
    ("const char *", "valueJSON"): {**JSON, "null_value": ('"null"', INVALID)},
    ("const char *", "argumentsJSON"): {**JSON, "unknown_key": ('"{\\"unknown_key\\":1}"', INVALID)},
    ("const char *", "requestJSON"): JSON,
    ("const char *", "matchJSON"): JSON,
    ("const char *", "algorithm"): TEXT,
    ("const char *", "privateKey"): TEXT,
    ("const char *", "publicKey"): TEXT,
    ("const char *", "token"): TEXT,
    ("const char *", "peer_id"): TEXT,
    ("const char *", "trail"): TEXT,
    ("const char *", "content_type"): TEXT,
    ("int", "content_field"): values(
        INVALID, minus_one="-1", one="1", ten="10", none_with_data="0", int_max="INT_MAX", int_min="INT_MIN"
    ),
    ("const peerbus_slice *", "messages"): {
        "null": ("NULL", INVALID),
        "null_data": ("&(peerbus_slice){NULL, 1}", INVALID),
        "huge": ("&(peerbus_slice){direct, SIZE_MAX}", TOO_LARGE),
    },
    ("peerbus_publication *", "out"): {"null": ("NULL", SUCCESS)},
    ("const char *", "rulesJSON"): {
        **JSON,
        "unknown_key": ('"{\\"alow\\":[]}"', INVALID),
        "negative_number": ('"{\\"max_bytes\\":-1}"', INVALID),
    },
    ("const char *", "sendOptionsJSON"): {
        **JSON,
        "unknown_key": ('"{\\"klass\\":\\"bulk\\"}"', INVALID),
        "unknown_class": ('"{\\"class\\":\\"fast\\"}"', INVALID),
        "negative_number": ('"{\\"compress_above\\":-1}"', INVALID),
    },
    ("int", "events"): values(
        INVALID, minus_one="-1", lost="16", all_bits="INT_MAX", int_min="INT_MIN"
    ),
    ("int", "handle"): values(
        INVALID, zero="0", minus_one="-1", unknown="1000000", int_max="INT_MAX", int_min="INT_MIN"
    ),
    ("uint64_t *", "id"): {"null": ("NULL", SUCCESS)},
    ("uint64_t *", "first_id"): {"null": ("NULL", SUCCESS)},
    ("uint64_t", "id"): values(INVALID, zero="0", unknown="UINT64_C(1) << 60", largest="UINT64_MAX"),
    ("int", "state"): number("PEERBUS_QUEUED", "PEERBUS_TAKEN"),
    ("const peerbus_slice *", "slices"): {
        "null": ("NULL", INVALID),
        "null_data": ("&(peerbus_slice){NULL, 5}", INVALID),
        "too_large": ("&(peerbus_slice){big, SIZE_MAX}", TOO_LARGE),
    },
    ("const peerbus_loan *", "loan"): {
        "null": ("NULL", INVALID),
        "null_data": ("&(peerbus_loan){NULL, 5, ignore_release, NULL}", INVALID),
        "null_release": ('&(peerbus_loan){"hello", 5, NULL, NULL}', INVALID),
        "too_large": ("&(peerbus_loan){big, SIZE_MAX, ignore_release, NULL}", TOO_LARGE),
    },
    ("const peerbus_loan *", "loans"): {
        "null": ("NULL", INVALID),
        "null_data": ("&(peerbus_loan){NULL, 5, ignore_release, NULL}", INVALID),
        "null_release": ('&(peerbus_loan){"hello", 5, NULL, NULL}', SUCCESS),
        "too_large": ("&(peerbus_loan){big, SIZE_MAX, ignore_release, NULL}", TOO_LARGE),
    },
    ("const peerbus_message *", "messages"): {
        "null": ("NULL", INVALID),
        "null_channel": ("&(peerbus_message){.id = 1}", INVALID),
        "bad_channel": ('&(peerbus_message){.channel = "?", .id = 1}', INVALID),
        "no_utf8": ('&(peerbus_message){.channel = "\\xff", .id = 1}', INVALID),
    },
    ("int", "policy"): number("PEERBUS_BLOCK", "PEERBUS_LATEST"),
    ("int", "what"): number("PEERBUS_WAKE_MESSAGES", "PEERBUS_WAKE_EVENTS"),
    ("long long", "operation"): values(
        labels("NOT_FOUND"), zero="0", minus_one="-1", largest="LLONG_MAX", smallest="LLONG_MIN"
    ),
    ("int", "fd"): values(
        INVALID, minus_two="-2", int_min="INT_MIN", closed="1000", int_max="INT_MAX", read_only="read_only"
    ),
    ("int", "code"): values(SUCCESS, one="1", int_min="INT_MIN", int_max="INT_MAX", minus_99="-99"),
    ("int", "maxInstances"): ANY_INT,
    ("int", "maxUniqueChannels"): ANY_INT,
    ("int", "maxChannelQueueLen"): ANY_INT,
    ("int", "maxMessageSize"): ANY_INT,
    ("void *", "s"): FREED,
    ("int *", "i"): FREED,
    ("peerbus_batch *", "batch"): FREED,
}

# ---- Functions ----


@dataclass(frozen=True)
class Wait:
    """A call that waits: C statements that end by emitting "call", run in a thread while SPARE is closed."""

    name: str
    body: str
    setup: str = "start_connected_spare();"
    ended: frozenset = labels("CLOSED")


@dataclass(frozen=True)
class Function:
    """valid: C expressions of a call that works, by argument; answers: its labels. The rest says what differs from the rule."""

    valid: dict
    answers: frozenset = SUCCESS
    before: str = ""  # C statements around every case that makes the valid call
    after: str = ""
    emit: str = ""  # how to write the answer, when the return type does not tell
    before_init: frozenset = labels("NOT_INITIALIZED")
    never: frozenset = labels("NO_NODE")
    closed: frozenset = labels("CLOSED")
    forked: frozenset = labels("FORKED")
    threads: frozenset = frozenset()  # additional labels when 16 threads call at once
    waits: tuple = ()
    abuse: dict = field(default_factory=dict)  # (argument, abuse): labels that differ from the kind's


LIVE = {"instance": "LIVE"}
TEXT_OR_CONSTANT = {"before_init": SUCCESS, "forked": SUCCESS}
VOID = {"answers": NOTHING, "before_init": NOTHING, "forked": NOTHING}
HANDLE = {**LIVE, "handle": "live_handle"}
DATA = {"channel": "direct", "data": '"hello"', "timeout_ms": "5000"}

PRESET = {"pools": "live_pools"}
POOLS = {"never": INVALID}
NETWORK = {**PRESET, "network": '"p2p_world"'}


def unlike(argument, expected, *names):
    """Abuses of one argument that this function answers otherwise than the kind says."""
    return {(argument, name): labels(*expected.split()) for name in names}


RETRY_TEXT = "char *answer = %s; while (is_success(answer)) { FreeString(answer); answer = %s; } emit_text(\"call\", answer);"
RETRY_INT = "int code = %s; while (code == 0) code = %s; emit_data_int(\"call\", code);"


def until_it_fails(template, call):
    return template.replace("%s", call)


RECEIVE = (
    "peerbus_batch *batch = NULL; int count = peerbus_receive(SPARE, %s, 1, 0, 60000, &batch); "
    'emit_batch("call", count, batch);'
)

PEER_TEXTS = ("no_peer_id", "cut_peer_id", "as_long_as_allowed")
POOL_CONTENT = {
    "content_type": '"misc"',
    "content_field": "PEERBUS_CONTENT_RAW",
    "data": '"hello"',
    "size": "5",
    "timeout_ms": "5000",
}
POOLED = {"setup": "start_pooled_spare();"}

POOL_FUNCTIONS = {
    "CreatePools": Function(
        {"configJSON": "spare_pools_config"}, before="start_spare();", after="close_spare();", threads=labels("IN_USE")
    ),
    "ClosePools": Function(PRESET | {"pools": "closed_pools"}, closed=SUCCESS, **POOLS),
    "PoolsConnect": Function(
        {**NETWORK, "addrsJSON": "peer_addresses", "timeoutMs": "20000"},
        waits=(
            Wait(
                "for_a_silent_peer",
                'emit_text("call", PoolsConnect(spare_pools, "n", silent_addresses(), 60000));',
                **POOLED,
            ),
        ),
        **POOLS,
    ),
    "PoolsDisconnect": Function(
        {**NETWORK, "peerID": "absent_peer", "timeoutMs": "5000"},
        abuse=unlike("peerID", "INVALID_ARGUMENT", "empty"),
        **POOLS,
    ),
    "PoolsReserve": Function(
        {**NETWORK, "peerID": "absent_peer", "timeoutMs": "5000"}, answers=labels("NOT_CONNECTED"), **POOLS
    ),
    "StartPoolsOperation": Function(
        {**NETWORK, "function": '"PoolsRemove"', "argument": '"nobody"', "timeoutMs": "5000"},
        threads=labels("LIMIT"),
        # What an argument means is the operation's business: its event carries the error. "" is the first open node.
        abuse={
            **{("argument", name): SUCCESS for name in CHANNEL if name not in MALFORMED},
            **unlike("network", "Success", "empty"),
        },
        **POOLS,
    ),
    "PoolsUpdate": Function(PRESET, **POOLS),
    "PoolsAdd": Function(
        {**PRESET, "pool": '"in_all_universe_public"', "infoJSON": "somebody"}, **POOLS
    ),
    "PoolsMove": Function(
        {**PRESET, "pool": '"in_all_universe_public"', "peerID": '"somebody"'},
        before='FreeString(PoolsAdd(live_pools, "in_all_universe_public", somebody));',
        abuse=unlike("peerID", "NOT_FOUND", "empty", *PEER_TEXTS),
        **POOLS,
    ),
    "PoolsRemove": Function(
        {**PRESET, "peerID": "absent_peer", "timeoutMs": "5000"},
        before='FreeString(PoolsAdd(live_pools, "in_all_universe_public", absent_info));',
        abuse=unlike("peerID", "Success", "empty", *PEER_TEXTS),
        **POOLS,
    ),
    "PoolsRemoveAllWorldAgents": Function({**PRESET, "timeoutMs": "5000"}, **POOLS),
    "PoolsRoute": Function({**NETWORK, "routesJSON": '"{}"'}, answers=INVALID, **POOLS),
    "PoolsSet": Function({**PRESET, "setting": '"keep_refused"', "valueJSON": '"false"'}, **POOLS),
    "PoolsSetWorldList": Function({**PRESET, "list": '"world_agents"', "data": '"[]"', "size": "2"}, **POOLS),
    "PoolsAddToWorldList": Function(
        {**PRESET, "list": '"world_masters"', "entryJSON": "absent_info"},
        **POOLS,
    ),
    "PoolsApplyRendezvous": Function(PRESET, **POOLS),
    "PoolsLeaveWorld": Function(PRESET, after="name_world();", **POOLS),
    "PoolsQuery": Function({**PRESET, "query": '"size"', "argumentsJSON": '"{}"'}, **POOLS),
    **{
        name: Function(
            {**NETWORK, "peerID": '"nobody"', "channel": "topic"},
            abuse={
                **unlike("peerID", "Success", "empty", *PEER_TEXTS),
                **unlike("network", "Success", "empty"),
            },
            **POOLS,
        )
        for name in ("PoolsSubscribe", "PoolsUnsubscribe")
    },
    "peerbus_pools_send": Function(
        {**NETWORK, **POOL_CONTENT, "peer_id": "peer_id", "trail": '""'},
        before='FreeString(PoolsConnect(live_pools, "p2p_world", peer_addresses, 20000));',
        abuse={
            **unlike("peer_id", "NOT_FOUND", "empty"),
            **unlike("trail", "Success", "empty"),
            **unlike("content_type", "Success", "empty"),
            **unlike("network", "Success", "null", "empty"),
            **unlike("size", "Success", "zero"),
        },
        waits=(
            Wait(
                "for_room",
                until_it_fails(
                    RETRY_INT,
                    'peerbus_pools_send(spare_pools, peer_id, "", "x", PEERBUS_CONTENT_RAW, big, BIG_BYTES, "n", 60000)',
                ),
                **POOLED,
            ),
        ),
        **POOLS,
    ),
    "peerbus_pools_publish": Function(
        {**PRESET, **POOL_CONTENT, "peer_id": "world_id", "channel": "topic"},
        abuse={
            **unlike("peer_id", "NOT_FOUND", "empty", "as_long_as_allowed"),
            **unlike("content_type", "Success", "empty"),
            **unlike("content_type", "Success", "as_long_as_allowed"),
            **unlike("size", "Success", "zero"),
        },
        **POOLS,
    ),
    "peerbus_pools_receive": Function(
        {**NETWORK, "channel": "direct", "max_messages": "16", "max_bytes": "0", "timeout_ms": "0", "out": "&batch"},
        emit="emit_batch",
        abuse={("channel", "null"): SUCCESS},
        waits=(
            Wait(
                "on_all_channels",
                "peerbus_batch *batch = NULL; "
                'int count = peerbus_pools_receive(spare_pools, "n", NULL, 1, 0, 60000, &batch); '
                'emit_batch("call", count, batch);',
                **POOLED,
            ),
        ),
        **POOLS,
    ),
    "GenerateTokenKey": Function({"algorithm": '"EdDSA"'}, before_init=SUCCESS),
    "IssueToken": Function(
        {"privateKey": "private_key", "requestJSON": '"{\\"node_id\\":\\"n\\",\\"p2p_peers\\":[\\"p\\"]}"'},
        before_init=SUCCESS,
    ),
    "VerifyToken": Function(
        {"publicKey": "public_key", "token": '"x.y.z"', "peerID": '"p"', "matchJSON": '"{}"'},
        before_init=SUCCESS,
        abuse={
            **unlike("token", "Success", "empty", "as_long_as_allowed"),
            **unlike("peerID", "Success", "empty", *PEER_TEXTS),
        },
    ),
}

FUNCTIONS = {
    "InitializeLibrary": Function(
        {
            "maxInstances": "0", "maxUniqueChannels": "0", "maxChannelQueueLen": "0", "maxMessageSize": "0",
            "logConfigJSON": "NULL",
        },
        **VOID,
    ),
    "SetLogDescriptor": Function({"fd": "-1"}, before_init=SUCCESS),
    "ConfigureRuntime": Function({"configJSON": '"{}"'}, before_init=SUCCESS),
    "LibraryVersion": Function({}, **TEXT_OR_CONSTANT),
    "LibraryABI": Function({}, emit="emit_int", **TEXT_OR_CONSTANT),
    "DumpStacks": Function({}, emit="emit_beginning", before_init=SUCCESS, forked=labels("NULL")),
    "FreeString": Function({"s": "NULL"}, **VOID),
    "FreeInt": Function({"i": "NULL"}, **VOID),
    "CreateNode": Function(
        {"instance": "SPARE", "configJSON": "spare_config"},
        after="close_spare();",
        never=SUCCESS,
        closed=SUCCESS,
        threads=labels("IN_USE"),
        abuse={("configJSON", "null"): INVALID},
        waits=(
            Wait(
                "for_reachability",
                'emit_text("call", CreateNode(SPARE, waiting_config));',
                setup="",
                ended=labels("CLOSED", "Success"),
            ),
        ),
    ),
    "CloseNode": Function(
        {"instance": "SPARE"}, before="start_spare();", after="close_spare();", closed=SUCCESS
    ),
    "GetNodeAddresses": Function(
        {**LIVE, "peerID": '""'},
        abuse={
            ("peerID", "empty"): SUCCESS,
            ("peerID", "no_peer_id"): labels("INVALID_ARGUMENT", "NOT_FOUND"),
            ("peerID", "cut_peer_id"): labels("INVALID_ARGUMENT", "NOT_FOUND"),
        },
    ),
    "GetReachability": Function(LIVE),
    "GetStatistics": Function(LIVE),
    "ConnectTo": Function(
        {**LIVE, "addrsJSON": "peer_addresses"},
        waits=(Wait("for_a_silent_peer", 'emit_text("call", ConnectTo(SPARE, silent_addresses()));'),),
    ),
    "DisconnectFrom": Function({**LIVE, "peerID": "absent_peer"}),
    "GetConnectedPeers": Function(LIVE),
    "Diagnose": Function(LIVE),
    "ReserveOnRelay": Function({**LIVE, "relayPeerID": "absent_peer"}, answers=labels("NOT_CONNECTED")),
    "StartStaticRelay": Function(
        {**LIVE, "addrInfoJSON": DEAD_RELAY},
        answers=labels("UNREACHABLE"),
        waits=(Wait("for_a_silent_relay", 'emit_text("call", StartStaticRelay(SPARE, silent_relay()));'),),
    ),
    # The nodes of the matrix run without discovery. Of a search that started, its event carries the error.
    "FindPeers": Function(
        {**LIVE, "name": '"weather"', "maxPeers": "10", "timeoutMs": "0"},
        threads=labels("LIMIT"),
        abuse={("name", name): SUCCESS for name in TEXT if name not in MALFORMED},
    ),
    "FindPeer": Function({**LIVE, "peerID": "absent_peer"}, answers=labels("UNSUPPORTED")),
    "Advertise": Function({**LIVE, "name": '"weather"'}, answers=labels("UNSUPPORTED")),
    "StopAdvertising": Function(
        {**LIVE, "name": '"weather"'},
        abuse={("name", "empty"): SUCCESS},
    ),
    "InitiateWebRTCConnection": Function({**LIVE, "peerID": "absent_peer"}, answers=labels("NOT_CONNECTED")),
    "CloseWebRTCConnection": Function({**LIVE, "peerID": "absent_peer"}),
    "GetWebRTCConnections": Function(LIVE),
    "UpdateICEConfig": Function({**LIVE, "configJSON": '"{}"'}),
    "SendMessageToPeer": Function(
        {**LIVE, "channel": "direct", "data": '"hello"', "length": "5"},
        waits=(
            Wait("for_room", until_it_fails(RETRY_TEXT, "SendMessageToPeer(SPARE, spare_direct, big, BIG_BYTES)")),
        ),
    ),
    "MessageQueueLength": Function(
        LIVE, emit="emit_int", before_init=MINUS_ONE, never=MINUS_ONE, closed=MINUS_ONE, forked=MINUS_ONE,
        abuse={("instance", name): MINUS_ONE for name in INSTANCE},
    ),
    "PopMessages": Function(LIVE, answers=EMPTY_OR_SUCCESS),
    "SubscribeToTopic": Function({**LIVE, "channel": "topic"}),
    "UnsubscribeFromTopic": Function({**LIVE, "channel": "topic"}),
    "OpenTopic": Function({**LIVE, "channel": "topic", "optionsJSON": '"{}"'}),
    "GetTopicInfo": Function({**LIVE, "channel": "topic"}, labels("Success", "NOT_FOUND")),
    "GetTopicPeers": Function(LIVE),
    "SetTopicRules": Function({**LIVE, "channel": "topic", "rulesJSON": '"null"'}),
    "WaitForTopicPeers": Function(
        {**LIVE, "channel": "topic", "count": "0", "timeoutMs": "0"},
        abuse={("count", "below"): SUCCESS, ("count", "above"): labels("TIMEOUT"), ("count", "int_max"): labels("TIMEOUT")},
        waits=(Wait("for_subscribers", 'emit_text("call", WaitForTopicPeers(SPARE, topic, 1, 60000));'),),
    ),
    "GetRendezvousPeers": Function(LIVE, answers=labels("Empty")),
    "PopEvents": Function(
        {**LIVE, "maxEvents": "16", "timeoutMs": "0"},
        answers=EMPTY_OR_SUCCESS,
        waits=(Wait("for_an_event", until_it_fails(RETRY_TEXT, "PopEvents(SPARE, 16, 60000)")),),
    ),
    "StartOperation": Function(
        {**LIVE, "function": '"SubscribeToTopic"', "argument": "topic", "timeoutMs": "5000"},
        threads=labels("LIMIT"),
        # What a well-formed argument means is the operation's business: its event carries the error.
        abuse={("argument", name): SUCCESS for name in CHANNEL if name not in MALFORMED},
    ),
    "CancelOperation": Function({**LIVE, "operation": "999999"}, answers=labels("NOT_FOUND")),
    "peerbus_send": Function(
        {**LIVE, **DATA, "size": "5"},
        abuse={("size", "zero"): labels("Success")},  # an acknowledged channel carries empty messages
        waits=(
            Wait("for_room", until_it_fails(RETRY_INT, "peerbus_send(SPARE, spare_direct, big, BIG_BYTES, 60000)")),
        ),
    ),
    "peerbus_send_lent": Function(
        {**LIVE, "channel": "direct", "loan": '&(peerbus_loan){"hello", 5, ignore_release, NULL}', "timeout_ms": "5000"},
        waits=(
            Wait(
                "for_room",
                "peerbus_loan loan = {big, BIG_BYTES, ignore_release, NULL}; "
                + until_it_fails(RETRY_INT, "peerbus_send_lent(SPARE, spare_direct, &loan, 60000)"),
            ),
        ),
    ),
    "peerbus_channel_open": Function({**LIVE, "channel": "direct", "events": "1 << PEERBUS_TAKEN"}),
    "peerbus_channel_send": Function(
        {**HANDLE, "data": '"hello"', "size": "5", "timeout_ms": "5000", "id": "&(uint64_t){0}"},
        abuse={("size", "zero"): labels("Success")},
        waits=(
            Wait(
                "for_room",
                until_it_fails(RETRY_INT, "peerbus_channel_send(SPARE, spare_handle, big, BIG_BYTES, 60000, NULL)"),
            ),
        ),
    ),
    "peerbus_channel_send_lent": Function(
        {
            **HANDLE, "loan": '&(peerbus_loan){"hello", 5, ignore_release, NULL}', "timeout_ms": "5000",
            "id": "&(uint64_t){0}",
        },
        waits=(
            Wait(
                "for_room",
                "peerbus_loan loan = {big, BIG_BYTES, ignore_release, NULL}; "
                + until_it_fails(RETRY_INT, "peerbus_channel_send_lent(SPARE, spare_handle, &loan, 60000, NULL)"),
            ),
        ),
    ),
    "peerbus_channel_send_batch": Function(
        {**HANDLE, "slices": '&(peerbus_slice){"hello", 5}', "count": "1", "timeout_ms": "5000", "first_id": "&(uint64_t){0}"},
        waits=(
            Wait(
                "for_room",
                "peerbus_slice one = {big, BIG_BYTES}; int code = 1; "
                "while (code > 0) code = peerbus_channel_send_batch(SPARE, spare_handle, &one, 1, 60000, NULL); "
                'emit_data_int("call", code);',
            ),
        ),
    ),
    "peerbus_channel_send_batch_lent": Function(
        {
            **HANDLE, "loans": '&(peerbus_loan){"hello", 5, ignore_release, NULL}', "count": "1", "timeout_ms": "5000",
            "first_id": "&(uint64_t){0}",
        },
        waits=(
            Wait(
                "for_room",
                "peerbus_loan one = {big, BIG_BYTES, ignore_release, NULL}; int code = 1; "
                "while (code > 0) code = peerbus_channel_send_batch_lent(SPARE, spare_handle, &one, 1, 60000, NULL); "
                'emit_data_int("call", code);',
            ),
        ),
    ),
    "peerbus_channel_wait": Function(
        {**HANDLE, "id": "1", "state": "PEERBUS_ACCEPTED", "timeout_ms": "5000"},
        waits=(
            Wait(
                "until_it_is_taken",
                'uint64_t id = 0; peerbus_channel_send(SPARE, spare_handle, "x", 1, 1000, &id); '
                'emit_data_int("call", peerbus_channel_wait(SPARE, spare_handle, id, PEERBUS_TAKEN, 60000));',
                ended=labels("CLOSED", "LOST"),  # LOST: the session has just ended without saying that it was taken
            ),
        ),
    ),
    "peerbus_channel_configure": Function(
        {**HANDLE, "sendOptionsJSON": '"{\\"class\\":\\"bulk\\",\\"durable\\":false}"'},
    ),
    "peerbus_channel_close": Function({**LIVE, "handle": "peerbus_channel_open(LIVE, direct, 0)"}),
    "GetChannelInfo": Function({**LIVE, "channel": "direct"}),
    "peerbus_flush": Function(
        {**LIVE, "channel": "direct", "timeout_ms": "5000"},
        waits=(
            Wait(
                "for_the_transport",
                'emit_data_int("call", peerbus_flush(SPARE, spare_direct, 60000));',
                setup="start_connected_spare(); fill_spare();",
            ),
        ),
    ),
    "peerbus_publish": Function(
        {**LIVE, **DATA, "channel": "topic", "size": "5"},
        abuse={("data", "null"): INVALID, ("size", "zero"): labels("INVALID_ARGUMENT", "Success")},
    ),
    "peerbus_publish_batch": Function(
        {
            **LIVE, "channel": "topic", "messages": "&(peerbus_slice){topic, 5}", "count": "1", "timeout_ms": "5000",
            "out": "NULL",
        },
    ),
    "peerbus_receive": Function(
        {**LIVE, "channel": "direct", "max_messages": "16", "max_bytes": "0", "timeout_ms": "0", "out": "&batch"},
        emit="emit_batch",
        abuse={("channel", "null"): SUCCESS},
        waits=(
            Wait("on_all_channels", RECEIVE.replace("%s", "NULL")),
            Wait("on_one_channel", RECEIVE.replace("%s", "spare_direct")),
        ),
    ),
    "peerbus_batch_free": Function({"batch": "NULL"}, **VOID),
    "peerbus_confirm": Function({**LIVE, "messages": "&(peerbus_message){.channel = direct, .id = 1}", "count": "1"}),
    "peerbus_wait": Function(
        {**LIVE, "channel": "NULL", "timeout_ms": "0"},
        abuse={("channel", "null"): SUCCESS},
        waits=(
            Wait("for_a_message", 'emit_data_int("call", peerbus_wait(SPARE, NULL, 60000));'),
            Wait("on_one_channel", 'emit_data_int("call", peerbus_wait(SPARE, spare_direct, 60000));'),
        ),
    ),
    "peerbus_look": Function({**LIVE, "again": "1"}),
    "peerbus_interrupt": Function(LIVE),
    "peerbus_set_policy": Function({**LIVE, "channel": "direct", "policy": "PEERBUS_LATEST"}),
    "peerbus_wake_descriptor": Function(
        {**LIVE, "what": "PEERBUS_WAKE_MESSAGES"},
    ),
    **POOL_FUNCTIONS,
    "peerbus_code_name": Function({"code": "PEERBUS_TIMEOUT"}, **TEXT_OR_CONSTANT),
    "peerbus_last_error": Function({}, **TEXT_OR_CONSTANT),
}

# Functions with a timeout argument need a Wait, unless it is bounded by nothing that a test can hold up.
WAITS_FOR_NOTHING = {
    "FindPeers": "the timeout is the operation's, the call returns at once",
    "PoolsDisconnect": "what leaves has at most a second",
    "PoolsRemove": "what leaves has at most a second",
    "PoolsRemoveAllWorldAgents": "what leaves has at most a second",
    "PoolsReserve": "without a connection to the relay it fails at once",
    "peerbus_pools_publish": "the router of an idle node always answers at once",
    "StartOperation": "the timeout is the operation's, the call returns at once",
    "StartPoolsOperation": "the timeout is the operation's, the call returns at once",
    "peerbus_publish": "only a subscriber that is slow makes it wait",
    "peerbus_publish_batch": "only a subscriber that is slow makes it wait",
}
