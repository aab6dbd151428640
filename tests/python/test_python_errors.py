"""The exceptions stand for the codes of the header."""

import builtins
import pickle
import re

import pytest
from support import ROOT

import peerbus
from peerbus import _errors, _library


def codes_of_the_header():
    header = (ROOT / "include" / "peerbus.h").read_text()
    return {name: int(number) for name, number in re.findall(r"PEERBUS_([A-Z_]+) = (-\d+),?\s*/\*", header)}


def test_every_code_of_the_header_has_one_exception():
    for name, number in codes_of_the_header().items():
        assert type(_errors.from_number(number, "text")) is type(_errors.from_name(name, "text"))
        assert _errors.from_number(number, "text").code == name


def test_the_codes_that_the_package_compares_are_those_of_the_header():
    codes = codes_of_the_header()
    assert (codes["WOULD_BLOCK"], codes["TIMEOUT"]) == (_errors.WOULD_BLOCK, _errors.TIMEOUT)


def test_every_function_of_the_prototypes_is_in_the_header():
    header = (ROOT / "include" / "peerbus.h").read_text()
    for name, (_, *arguments) in _library._PROTOTYPES.items():
        declaration = re.search(rf"\b{name}\(([^)]*)\);", header)
        assert declaration, name
        declared = [] if declaration[1] == "void" else declaration[1].split(",")
        assert len(declared) == len(arguments), name


def test_p2p_errors_are_the_same_tree():
    assert peerbus.P2PError is peerbus.PeerbusError


@pytest.mark.parametrize(
    ("ours", "builtin"),
    [
        (peerbus.InvalidArgumentError, ValueError),
        (peerbus.InvalidConfigError, ValueError),
        (peerbus.TimeoutError, builtins.TimeoutError),
        (peerbus.NotConnectedError, ConnectionError),
        (peerbus.UnreachableError, ConnectionError),
        (peerbus.NotFoundError, LookupError),
    ],
)
def test_errors_are_also_what_python_calls_them(ours, builtin):
    assert issubclass(ours, builtin) and issubclass(ours, peerbus.PeerbusError)
    assert str(ours("what happened")) == "what happened"


def test_an_unknown_code_keeps_its_name():
    assert _errors.from_name("NEWER", "text").code == "NEWER"


def test_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(_errors.from_name("NEWER", "text")))
    assert (error.code, str(error)) == ("NEWER", "text")
    assert pickle.loads(pickle.dumps(peerbus.TimeoutError("late"))).code == "TIMEOUT"


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), 86_401])
def test_timeouts_out_of_range_are_value_errors(timeout):
    with pytest.raises(ValueError):
        _library.milliseconds(timeout)


@pytest.mark.parametrize(("seconds", "expected"), [(0, 0), (0.0001, 1), (1.5, 1500), (86_400, 86_400_000)])
def test_timeouts_are_rounded_up_to_milliseconds(seconds, expected):
    assert _library.milliseconds(seconds) == expected


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_texts_that_c_cannot_take_are_value_errors(text):
    with pytest.raises(ValueError):
        _library.encode(text, "channel")
