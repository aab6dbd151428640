"""What the commands of ``python -m peerbus`` share: how they answer, and how they fail."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from typing import Any, Mapping

from . import _errors

DONE, NO, USAGE, FAILED = 0, 1, 2, 3
EXIT_STATUS = "Exit status: 0 done, 1 the answer is no, 2 wrong usage, 3 failed; 2 and 3 say why on stderr."


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option that every command has."""
    parser.add_argument("--json", action="store_true", help="answer, also errors, as one JSON object on stdout")


def answer(arguments: argparse.Namespace, facts: Mapping[str, Any], text: str) -> None:
    """Prints the answer of a command: the facts with --json, else the text."""
    print(json.dumps(facts) if arguments.json else text)


def guard(arguments: argparse.Namespace) -> int:
    """Runs the chosen command. Failures become a line on stderr, or an object with --json; wrong arguments are usage."""
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone, e.g. "| head": nothing is left to tell anybody
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except _errors.PeerbusError as error:
        return _fail(arguments, error.code, str(error), USAGE if isinstance(error, ValueError) else FAILED)
    except OSError as error:
        return _fail(arguments, "FILE", f"{error.filename or 'input'}: {error.strerror or error}", FAILED)
    return status


def _fail(arguments: argparse.Namespace, code: str, message: str, status: int) -> int:
    if arguments.json:
        print(json.dumps({"error": {"code": code, "message": message}}))
    print(f"peerbus: {message}", file=sys.stderr)
    return status
