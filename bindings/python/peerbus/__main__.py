"""``python -m peerbus <command>``: what people ask of the library at a shell.

A command is a module of this package with ``HELP``, ``add_arguments(parser)`` and ``run(arguments)``, which returns an
exit status. To add one, add its line to ``COMMANDS``."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import List, Optional

from . import _command

COMMANDS = {
    "relay": "_command_relay",
    "doctor": "_command_doctor",
    "token": "_command_token",
    "version": "_command_version",
}
"""The commands and their modules, in the order of ``--help``."""


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(prog="python -m peerbus", description="Commands of peerbus.", epilog=_command.EXIT_STATUS)
    commands = top.add_subparsers(metavar="command", required=True)
    for name, module_name in COMMANDS.items():
        module = importlib.import_module(f".{module_name}", __package__)
        one = commands.add_parser(name, help=module.HELP, description=module.HELP, epilog=_command.EXIT_STATUS)
        module.add_arguments(one)
        one.set_defaults(run=module.run)
    return top


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs a command; returns its exit status."""
    parsed = parser().parse_args(arguments)
    return _command.guard(parsed)


if __name__ == "__main__":
    sys.exit(main())
