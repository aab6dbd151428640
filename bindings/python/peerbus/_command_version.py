"""``python -m peerbus version``."""

from __future__ import annotations

import argparse

from . import _command, _library

HELP = "print the version of the shared library and where it is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _command.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    loaded = _library.load()
    facts = {"version": loaded.version, "abi": _library.ABI, "library": str(loaded.path)}
    _command.answer(arguments, facts, f"peerbus {loaded.version}, binary interface {_library.ABI}, {loaded.path}")
    return _command.DONE
