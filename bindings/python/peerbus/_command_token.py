"""``python -m peerbus token keygen|issue|verify``."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from . import _command, _errors, tokens

HELP = "make keys for tokens, issue tokens and verify them"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PRIVATE_MODE = 0o600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="action", required=True)
    _add_keygen(actions)
    _add_issue(actions)
    _add_verify(actions)


def run(arguments: argparse.Namespace) -> int:
    status: int = arguments.action(arguments)
    return status


def _add(actions: Any, name: str, help_text: str, action: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    one: argparse.ArgumentParser = actions.add_parser(name, help=help_text, description=help_text, epilog=_command.EXIT_STATUS)
    one.set_defaults(action=action)
    _command.add_json(one)
    return one


def _add_keygen(actions: Any) -> None:
    one = _add(actions, "keygen", "make a key pair: the private key signs tokens, the public key verifies them", _keygen)
    one.add_argument("--algorithm", choices=tokens.ALGORITHMS, default=tokens.DEFAULT_ALGORITHM, help="default: %(default)s")
    one.add_argument("--out", metavar="FILE", help="write the private key to FILE, which only its owner may read, and the "
                     "public key to FILE.pub; default: both to stdout")  # fmt: skip


def _add_issue(actions: Any) -> None:
    one = _add(actions, "issue", "sign a token for a node", _issue)
    one.add_argument("--key", required=True, metavar="FILE", help='PEM of the private key; "-": stdin')
    one.add_argument("--node-id", required=True, metavar="ID", help="who the token names")
    one.add_argument("--peer", required=True, action="append", metavar="PEER_ID", help="a peer id that may use it; repeatable")
    one.add_argument("--expires-in", type=_seconds, default=tokens.DEFAULT_LIFETIME_S, metavar="TIME",
                     help="lifetime: a number of seconds, or with s, m, h or d behind it; default: 24h")  # fmt: skip
    for name, what in (("cv-hash", "hash of the node's CV"), ("code-hash", "hash of the node's code")):
        one.add_argument(f"--{name}", default="", metavar="HASH", help=what)
    _add_place(one, "")
    one.add_argument("--peers-as-text", action="store_true", help="write p2p_peers as one text, as the existing network does")


def _add_verify(actions: Any) -> None:
    one = _add(actions, "verify", "tell whether a token holds for a peer now; status 1 if it does not", _verify)
    one.add_argument("--key", required=True, metavar="FILE", help='PEM or JWK of the public key; "-": stdin')
    one.add_argument("--peer", required=True, metavar="PEER_ID", help="the peer that shows the token")
    one.add_argument("--node-id", metavar="ID", help="a claim that must be equal")
    _add_place(one, None)
    one.add_argument("token", help='the token; "-": stdin')


def _add_place(parser: argparse.ArgumentParser, default: Optional[str]) -> None:
    equal = "a claim that must be equal" if default is None else "a claim of the token"
    parser.add_argument("--ip", default=default, help=equal)
    parser.add_argument("--hostname", default=default, help=equal)
    parser.add_argument("--port", type=_port, default=None if default is None else 0, help=equal)


def _keygen(arguments: argparse.Namespace) -> int:
    private_key, public_key = tokens.generate_key(arguments.algorithm)
    facts: Dict[str, Any] = {"algorithm": arguments.algorithm, "public_key": public_key}
    if arguments.out is None:
        _command.answer(arguments, {**facts, "private_key": private_key}, private_key + public_key.rstrip("\n"))
        return _command.DONE
    public_file = f"{arguments.out}.pub"
    _write_new(public_file, public_key, 0o644)
    try:
        _write_new(arguments.out, private_key, _PRIVATE_MODE)
    except OSError:
        os.unlink(public_file)
        raise
    files = {"private_key_file": arguments.out, "public_key_file": public_file}
    _command.answer(arguments, {**facts, **files}, f"private key in {arguments.out}, public key in {public_file}")
    return _command.DONE


def _issue(arguments: argparse.Namespace) -> int:
    token = tokens.Issuer(_read(arguments.key)).issue(
        arguments.node_id,
        arguments.peer,
        lifetime=arguments.expires_in,
        cv_hash=arguments.cv_hash,
        code_hash=arguments.code_hash,
        ip=arguments.ip,
        hostname=arguments.hostname,
        port=arguments.port,
        p2p_peers_as_text=arguments.peers_as_text,
    )
    _command.answer(arguments, {"token": token}, token)
    return _command.DONE


def _verify(arguments: argparse.Namespace) -> int:
    if arguments.key == "-" and arguments.token == "-":
        raise _errors.InvalidArgumentError("the key and the token cannot both come from stdin")
    token = _read("-").strip() if arguments.token == "-" else arguments.token
    match = {"node_id": arguments.node_id, "ip": arguments.ip, "hostname": arguments.hostname, "port": arguments.port}
    try:
        claims = tokens.verify(_read(arguments.key), token, arguments.peer, **match)
    except tokens.InvalidTokenError as error:
        facts = {"valid": False, "reason": error.reason, "problem": str(error)}
        _command.answer(arguments, facts, f"invalid, {error.reason}: {error}")
        return _command.NO
    said = claims.as_dict()
    lines = [f"{name}: {', '.join(value) if isinstance(value, list) else value}" for name, value in said.items() if value]
    _command.answer(arguments, {"valid": True, "claims": said}, "\n".join(["valid", *lines]))
    return _command.DONE


def _read(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise _errors.InvalidArgumentError(f"{'stdin' if name == '-' else name} is not text") from None


def _write_new(name: str, text: str, mode: int) -> None:
    # O_EXCL: a key that exists is never overwritten, since tokens in use hang on it.
    with os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text)
    if not found or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time above 0, such as 90, 30m or 24h")
    return float(found[1]) * _UNITS[found[2] or "s"]


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)
