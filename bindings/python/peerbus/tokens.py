"""Tokens that name a node and the peer ids it may use (SPEC POOL-13): keys, an issuer for tests and small deployments,
and verification. Signing and verifying happen in the library; whoever holds the private key decides for whom it signs::

    private_key, public_key = generate_key()
    token = Issuer(private_key).issue("node-7", [peer_id], lifetime=3600)
    claims = verify(public_key, token, peer_id)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from . import _errors, _library

ALGORITHMS = ("EdDSA", "ES256", "RS256")
DEFAULT_ALGORITHM = "EdDSA"
DEFAULT_LIFETIME_S = 24 * 3600.0
MAX_TOKEN_BYTES = 16 * 1024  # of a token that is read at all

__all__ = [
    "ALGORITHMS",
    "DEFAULT_ALGORITHM",
    "DEFAULT_LIFETIME_S",
    "Claims",
    "InvalidTokenError",
    "Issuer",
    "generate_key",
    "verify",
]


class InvalidTokenError(_errors.PeerbusError, ValueError):
    """A token that does not hold for the peer now.

    ``reason`` is one of ``"no_token"``, ``"bad_token"``, ``"expired_token"``, ``"token_peer_mismatch"``."""

    code = "INVALID_TOKEN"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Claims:
    """What a valid token says. Texts are empty and the port is 0 where it says nothing."""

    node_id: str
    p2p_peers: Tuple[str, ...]
    expires: datetime
    cv_hash: str = ""
    code_hash: str = ""
    ip: str = ""
    hostname: str = ""
    port: int = 0

    def as_dict(self) -> Dict[str, Any]:
        """The claims by the names that they have in the token; ``exp`` in RFC 3339."""
        stated = {name: value for name, value in vars(self).items() if name not in ("p2p_peers", "expires")}
        return {**stated, "p2p_peers": list(self.p2p_peers), "exp": self.expires.isoformat()}


def generate_key(algorithm: str = DEFAULT_ALGORITHM) -> Tuple[str, str]:
    """A new key pair, ``(private_key, public_key)`` in PEM, for one of ``ALGORITHMS``."""
    library = _library.load()
    answer = library.control(library.c.GenerateTokenKey, _library.encode(algorithm, "algorithm"))
    return str(answer["private_key"]), str(answer["public_key"])


class Issuer:
    """Signs tokens with one private key, PEM of an Ed25519, EC P-256 or RSA key."""

    def __init__(self, private_key: str) -> None:
        self._key = _library.encode(private_key, "the private key")

    def issue(
        self,
        node_id: str,
        p2p_peers: Sequence[str],
        *,
        lifetime: float = DEFAULT_LIFETIME_S,
        cv_hash: str = "",
        code_hash: str = "",
        ip: str = "",
        hostname: str = "",
        port: int = 0,
        p2p_peers_as_text: bool = False,
    ) -> str:
        """A token for the node with these peer ids that expires after ``lifetime`` seconds, rounded up to a second.

        ``p2p_peers_as_text`` writes the ids as one text, as the existing network's issuer does.
        Raises InvalidArgumentError, a ValueError, also for a key that cannot sign."""
        if isinstance(p2p_peers, str):
            raise _errors.InvalidArgumentError("p2p_peers is a list of peer ids, not one text")
        optional = {"cv_hash": cv_hash, "code_hash": code_hash, "ip": ip, "hostname": hostname, "port": port}
        request: Dict[str, Any] = {name: value for name, value in optional.items() if value}
        request.update(node_id=node_id, p2p_peers=list(p2p_peers), lifetime_seconds=_lifetime(lifetime))
        if p2p_peers_as_text:
            request["p2p_peers_as_text"] = True
        library = _library.load()
        return str(library.control(library.c.IssueToken, self._key, json.dumps(request).encode())["token"])


def verify(
    public_key: str,
    token: str,
    peer_id: str,
    *,
    node_id: Optional[str] = None,
    ip: Optional[str] = None,
    hostname: Optional[str] = None,
    port: Optional[int] = None,
) -> Claims:
    """The claims of a token that holds for the peer now; the keyword arguments are claims that must be equal.

    ``public_key``: PEM or JWK. Raises InvalidTokenError; InvalidArgumentError for a key that cannot be used."""
    given = {"node_id": node_id, "ip": ip, "hostname": hostname, "port": port}
    match = {name: value for name, value in given.items() if value is not None}
    library = _library.load()
    texts = [_library.encode(text, "an argument") for text in (public_key, token, peer_id)]
    if len(texts[1]) > MAX_TOKEN_BYTES:
        raise InvalidTokenError(f"a token of {len(texts[1])} bytes, at most {MAX_TOKEN_BYTES} are read", "bad_token")
    answer = library.control(library.c.VerifyToken, *texts, json.dumps(match).encode())
    if not answer["valid"]:
        raise InvalidTokenError(str(answer["problem"]), str(answer["reason"]))
    return _claims(answer["claims"])


def _claims(stated: Mapping[str, Any]) -> Claims:
    peers: List[str] = stated["p2p_peers"]
    optional = {name: stated[name] for name in ("cv_hash", "code_hash", "ip", "hostname", "port") if stated.get(name)}
    return Claims(str(stated["node_id"]), tuple(peers), _time(str(stated["exp"])), **optional)


def _time(text: str) -> datetime:
    """RFC 3339 as Go writes it; before Python 3.11 fromisoformat knows no Z and no fractions of other lengths."""
    seconds, _, zone = text.partition(".")
    if zone:
        text = seconds + zone.lstrip("0123456789")
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc)


def _lifetime(seconds: float) -> float:
    if not 0 < seconds < float("inf"):
        raise _errors.InvalidArgumentError(f"a lifetime of {seconds} s; it must be above 0")
    return seconds
