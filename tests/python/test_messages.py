"""peerbus.messages.Msg: construction, properties, content and its encoding (MSG-02 to MSG-14)."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest

from peerbus.messages import DecodeError, DecodeLimits, Msg

KNOWN_TYPES = {
    "profile", "world_approval", "agent_approval", "profile_request", "address_update",
    "stream_sample", "role_suggestion", "interaction", "interaction_status", "hsm", "misc",
    "get_cv_from_root", "badge_suggestions", "inspect_on", "inspect_cmd", "world_agents_list",
    "console_and_behav_status", "stats_update", "stats_request", "stats_response",
}  # fmt: skip


def sent(content, content_type=Msg.MISC, **options):
    """The message that a receiver of this content opens."""
    message = Msg(sender="alice", content=content, content_type=content_type)
    return Msg.from_bytes(message.to_bytes(), **options)


@pytest.fixture
def own_type():
    yield Msg.register_content_type("weather.v2")
    Msg.CONTENT_TYPES.discard("weather.v2")


def test_import_loads_no_heavy_library():
    program = (
        "import sys, peerbus.messages; "
        "print({'numpy', 'torch', 'PIL', 'google.protobuf'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")


def test_each_known_type_is_a_member_and_a_constant():
    assert Msg.CONTENT_TYPES == KNOWN_TYPES
    for name in KNOWN_TYPES:
        assert getattr(Msg, name.upper()) == name


def test_defaults_of_a_new_message():
    before = datetime.now(timezone.utc).replace(tzinfo=None)
    message = Msg("alice")
    made = datetime.strptime(message.timestamp_net, "%Y-%m-%d %H:%M:%S.%f")
    assert timedelta(0) <= made - before < timedelta(minutes=1)
    assert message.sender == "alice"
    assert message.content_type == "misc"
    assert message.channel == "<unknown>"
    assert message.piggyback == ""
    assert message.content == "<empty>"


def test_arguments_may_be_positional_in_the_documented_order():
    message = Msg("alice", [1], "then", "a::dm:b-x", "profile", "token")
    assert message.content == [1]
    assert (message.timestamp_net, message.channel) == ("then", "a::dm:b-x")
    assert (message.content_type, message.piggyback) == ("profile", "token")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"sender": None},
        {"sender": 7},
        {"sender": b"alice"},
        {"sender": "alice", "content_type": "nonsense"},
        {"sender": "alice", "content_type": None},
        {"sender": "alice", "content_type": ["misc"]},
        {"sender": "alice", "timestamp_net": 1.5},
        {"sender": "alice", "channel": b"c"},
    ],
)
def test_wrong_argument_is_an_assertion_error(arguments):
    with pytest.raises(AssertionError):
        Msg(**arguments)


def test_arguments_are_checked_under_python_o():
    program = (
        "from peerbus.messages import Msg\n"
        "try:\n    Msg(None)\nexcept AssertionError:\n    print('refused')"
    )
    done = subprocess.run([sys.executable, "-O", "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "refused"


def test_registered_type_is_accepted(own_type):
    assert sent({"k": 1}, own_type).content_type == "weather.v2"


@pytest.mark.parametrize("name", ["", None, 3])
def test_registering_something_else_than_a_name_is_a_type_error(name):
    with pytest.raises(TypeError):
        Msg.register_content_type(name)


def parsed_message():
    from peerbus import _messages_schema

    return _messages_schema.load().Message(sender="bob", json_content="[1]")


def test_parsed_message_is_wrapped():
    message = Msg(_proto_msg=parsed_message(), content_type=Msg.PROFILE)
    assert (message.sender, message.content_type, message.content) == ("bob", "", [1])


@pytest.mark.parametrize("name", ["sender", "content", "timestamp_net", "channel", "piggyback"])
def test_parsed_message_with_another_argument_is_a_value_error(name):
    with pytest.raises(ValueError, match="pass none of them"):
        Msg(_proto_msg=parsed_message(), **{name: "x"})


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("sender", ""),
        ("content_type", "misc"),
        ("channel", "<unknown>"),
        ("piggyback", ""),
        ("timestamp_net", ""),
    ],
)
@pytest.mark.parametrize("received", [False, True])
def test_setters_change_the_message_and_take_none(name, default, received):
    message = sent([1]) if received else Msg("alice", [1])
    setattr(message, name, "value")
    assert getattr(Msg.from_bytes(message.to_bytes()), name) == "value"
    setattr(message, name, None)
    again = Msg.from_bytes(message.to_bytes())
    assert getattr(again, name) == default
    assert again.content == [1]


@pytest.mark.parametrize("name", ["sender", "content_type", "channel", "piggyback"])
def test_setter_refuses_what_is_no_text(name):
    with pytest.raises(TypeError, match=name):
        setattr(Msg("alice"), name, 5)


def test_content_has_no_setter():
    with pytest.raises(AttributeError):
        Msg("alice").content = "x"


@pytest.mark.parametrize("content_type", sorted(KNOWN_TYPES))
@pytest.mark.parametrize("content", [None, "<empty>"])
def test_no_content_is_no_payload(content, content_type):
    message = sent(content, content_type)
    assert message.content == "<empty>"
    bare = Msg("alice", None, message.timestamp_net, None, content_type)
    assert message.to_bytes() == bare.to_bytes()


@pytest.mark.parametrize(
    "value", [{}, [], "", "text", 0, 1.5, True, False, {"a": [None, {"b": "ü\ud83d"}]}, [None]]
)
def test_any_json_value_arrives_as_it_is(value):
    assert sent(value, Msg.INTERACTION).content == value


def test_json_null_from_a_peer_is_content():
    message = Msg(_proto_msg=type(parsed_message())(json_content="null"))
    assert message.content is None


@pytest.mark.parametrize("value", [float("nan"), [float("inf")]])
def test_numbers_that_json_does_not_have_are_a_value_error(value):
    with pytest.raises(ValueError):
        Msg("alice", value)


def test_content_nested_without_end_is_a_value_error():
    circle = []
    circle.append(circle)
    deep = []
    for _ in range(100000):
        deep = [deep]
    for value in (circle, deep):
        with pytest.raises(ValueError):
            Msg("alice", value)


def test_json_nested_too_deeply_by_a_peer_is_a_decode_error():
    deep = type(parsed_message())(json_content="[" * 100000 + "]" * 100000)
    with pytest.raises(DecodeError):
        _ = Msg(_proto_msg=deep).content


def test_json_over_the_limit_is_a_decode_error():
    message = sent("x" * 100, limits=DecodeLimits(decoded_bytes=100))
    with pytest.raises(DecodeError, match=r"DecodeLimits\.decoded_bytes"):
        _ = message.content


RAW = [b"", b"\x00\xff", bytearray(b"abc"), memoryview(b"abcdef")[::2]]


@pytest.mark.parametrize("data", RAW)
def test_raw_bytes_arrive_as_bytes(data, own_type):
    for content_type in (Msg.MISC, own_type):
        content = sent(data, content_type).content
        assert type(content) is bytes
        assert content == bytes(data)


@pytest.mark.parametrize("content_type", sorted(KNOWN_TYPES - {"misc"}))
@pytest.mark.parametrize("data", RAW)
def test_raw_bytes_with_a_structured_type_are_a_type_error(data, content_type):
    with pytest.raises(TypeError):
        Msg("alice", data, content_type=content_type)


def test_bytes_inside_json_are_a_type_error():
    with pytest.raises(TypeError):
        Msg("alice", {"data": b"x"})


STATS = [
    {"group_key": "alice", "stat_name": "n", "timestamp": 1769903999000, "value": value}
    for value in (None, True, 2.5, "idle", [], {}, [1.0, [None, "x"]], {"a": {"b": [False]}})
]


def test_stats_arrive_as_they_are():
    content = sent(STATS, Msg.STATS_UPDATE).content
    assert content == STATS
    assert content[1]["value"] is True


def test_no_stats_are_an_empty_list():
    assert sent([], Msg.STATS_UPDATE).content == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"value": b"x"}, TypeError),
        ({"value": {1: 2}}, TypeError),
        ({"group_key": None}, TypeError),
        ({"timestamp": 2**63}, ValueError),
        ({"timestamp": float("inf")}, ValueError),
        ({"timestamp": "soon"}, ValueError),
        ({"stat_name": "\ud800"}, ValueError),
    ],
)
def test_stats_that_cannot_travel_name_their_entry(change, error):
    with pytest.raises(error, match="entry 1"):
        Msg("alice", [STATS[0], dict(STATS[0], **change)], content_type=Msg.STATS_UPDATE)


@pytest.mark.parametrize("key", ["group_key", "stat_name", "timestamp", "value"])
def test_stats_without_a_member_are_a_value_error(key):
    update = {k: v for k, v in STATS[0].items() if k != key}
    with pytest.raises(ValueError, match="has no " + key):
        Msg("alice", [update], content_type=Msg.STATS_UPDATE)


@pytest.mark.parametrize("content", [{}, "x", 5, [5]])
def test_stats_of_another_form_are_a_type_error(content):
    with pytest.raises(TypeError):
        Msg("alice", content, content_type=Msg.STATS_UPDATE)


def test_deepest_stat_value_that_is_written_can_be_read():
    def nested(levels, wrap):
        value = 1.0
        for _ in range(levels):
            value = wrap(value)
        return [dict(STATS[0], value=value)]

    for wrap in (lambda v: [v], lambda v: {"k": v}):
        deepest = nested(29, wrap)
        assert sent(deepest, Msg.STATS_UPDATE).content == deepest
        with pytest.raises(ValueError, match="nested"):
            Msg("alice", nested(30, wrap), content_type=Msg.STATS_UPDATE)


def test_stats_over_the_limit_are_a_decode_error():
    message = sent(STATS, Msg.STATS_UPDATE, limits=DecodeLimits(stats_bytes=20))
    with pytest.raises(DecodeError, match=r"DecodeLimits\.stats_bytes"):
        _ = message.content


def test_content_is_decoded_once_and_only_when_asked_for(monkeypatch):
    message = sent({"a": 1})
    calls = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text: calls.append(text) or loads(text))
    assert message.sender == "alice" and str(message) and message.to_bytes()
    assert calls == []
    assert message.content is message.content
    assert len(calls) == 1


def test_changing_decoded_content_does_not_change_the_message():
    message = sent({"a": 1})
    message.content["a"] = 2
    assert Msg.from_bytes(message.to_bytes()).content == {"a": 1}


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_from_bytes_takes_any_bytes(wrap):
    data = Msg("alice", [1]).to_bytes()
    assert Msg.from_bytes(wrap(data)).content == [1]


def test_from_bytes_does_not_keep_the_callers_buffer():
    buffer = bytearray(Msg("alice", [1]).to_bytes())
    message = Msg.from_bytes(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert (message.sender, message.content) == ("alice", [1])


@pytest.mark.parametrize("data", ["text", None, 5, [1]])
def test_from_bytes_of_something_else_is_a_type_error(data):
    with pytest.raises(TypeError):
        Msg.from_bytes(data)


def test_from_bytes_of_nothing_is_an_empty_message():
    message = Msg.from_bytes(b"")
    assert (message.sender, message.channel, message.content) == ("", "", "<empty>")


def test_from_bytes_refuses_an_unknown_tensor_kind():
    with pytest.raises(ValueError, match="numpy"):
        Msg.from_bytes(b"", tensors="jax")


def test_fields_of_a_later_version_are_passed_on():
    extra = bytes.fromhex("9a0603616263")
    data = Msg("alice", [1]).to_bytes() + extra
    assert Msg.from_bytes(data).to_bytes().endswith(extra)


def test_text_form_shows_sender_type_channel_and_length():
    message = Msg("a" * 20, [1], channel="a::dm:b-x", content_type="profile")
    text = str(message)
    assert "a" * 12 + "..." in text and "a" * 13 not in text
    assert "profile" in text and "'a::dm:b-x'" in text
    assert f"{len(message.to_bytes())} bytes" in text


def test_text_form_is_one_line_whatever_a_peer_sent():
    message = Msg("a\nb", channel="c\nd")
    message.content_type = "t\x1b[2J\r"
    assert str(message).isprintable()


def pickled(message):
    return pickle.loads(pickle.dumps(message))


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, pickled])
def test_message_can_be_copied_and_pickled(clone):
    message = Msg("alice", {"a": [1]})
    for original in (message, Msg.from_bytes(message.to_bytes())):
        other = clone(original)
        other.sender = "bob"
        assert (original.sender, other.content) == ("alice", {"a": [1]})


def test_class_of_a_subclass_is_kept():
    class Own(Msg):
        pass

    assert type(Own.from_bytes(b"")) is Own


def test_class_limits_apply_where_none_are_given(monkeypatch):
    monkeypatch.setattr(Msg, "default_limits", DecodeLimits(decoded_bytes=3))
    with pytest.raises(DecodeError):
        _ = sent("long text").content
    assert sent("long text", limits=DecodeLimits()).content == "long text"
