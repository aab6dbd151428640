"""peerbus.tokens: keys, issuing and verifying, signed by the library."""

import base64
import json
import time
from datetime import datetime, timezone

import pytest
from harness import made_up_peer_id

import peerbus
from peerbus import tokens

PEER, OTHER = made_up_peer_id(1), made_up_peer_id(2)

pytestmark = pytest.mark.usefixtures("environment")


def claims_in(token):
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def header_of(token):
    head = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))


@pytest.mark.parametrize("algorithm", tokens.ALGORITHMS)
def test_a_token_of_each_algorithm_verifies_with_its_key_only(algorithm):
    private_key, public_key = tokens.generate_key(algorithm)
    _, foreign = tokens.generate_key(algorithm)
    token = tokens.Issuer(private_key).issue("node-1", [PEER, OTHER], cv_hash="cv")
    assert header_of(token)["alg"] == algorithm
    claims = tokens.verify(public_key, token, OTHER)
    assert (claims.node_id, claims.p2p_peers, claims.cv_hash) == ("node-1", (PEER, OTHER), "cv")
    with pytest.raises(tokens.InvalidTokenError) as refused:
        tokens.verify(foreign, token, PEER)
    assert refused.value.reason == "bad_token"


@pytest.fixture(scope="module")
def keys(environment):
    return tokens.generate_key()


@pytest.fixture(scope="module")
def issuer(keys):
    return tokens.Issuer(keys[0])


def test_every_claim_arrives(keys, issuer):
    given = {"cv_hash": "cv", "code_hash": "code", "ip": "10.0.0.1", "hostname": "host", "port": 4001}
    before = time.time()
    claims = tokens.verify(keys[1], issuer.issue("node-1", [PEER], lifetime=3600, **given), PEER)
    assert {name: getattr(claims, name) for name in given} == given
    assert before + 3599 <= claims.expires.timestamp() <= time.time() + 3602
    assert claims.expires.tzinfo == timezone.utc
    assert claims.as_dict() == {**given, "node_id": "node-1", "p2p_peers": [PEER], "exp": claims.expires.isoformat()}


def test_what_is_not_said_is_empty(keys, issuer):
    claims = tokens.verify(keys[1], issuer.issue("node-1", [PEER]), PEER)
    assert (claims.cv_hash, claims.code_hash, claims.ip, claims.hostname, claims.port) == ("", "", "", "", 0)
    assert abs(claims.expires.timestamp() - time.time() - tokens.DEFAULT_LIFETIME_S) < 60


def test_peers_can_be_written_as_one_text(keys, issuer):
    token = issuer.issue("node-1", [PEER], p2p_peers_as_text=True)
    assert claims_in(token)["p2p_peers"] == json.dumps([PEER])
    assert tokens.verify(keys[1], token, PEER).p2p_peers == (PEER,)


def test_a_token_serves_no_peer_that_it_does_not_name(keys, issuer):
    with pytest.raises(tokens.InvalidTokenError) as refused:
        tokens.verify(keys[1], issuer.issue("node-1", [PEER]), OTHER)
    assert refused.value.reason == "token_peer_mismatch" and refused.value.code == "INVALID_TOKEN"


def test_a_token_ends_at_its_time(keys, issuer):
    token = issuer.issue("node-1", [PEER], lifetime=0.001)
    expires = claims_in(token)["exp"]
    while time.time() <= expires:  # a second at most: exp is a whole number
        time.sleep(expires - time.time() + 0.01)
    with pytest.raises(tokens.InvalidTokenError) as refused:
        tokens.verify(keys[1], token, PEER)
    assert refused.value.reason == "expired_token"


@pytest.mark.parametrize(
    ("token", "reason"),
    [("", "no_token"), ("x", "bad_token"), ("a.b.c", "bad_token"), ("a" * (1 << 20), "bad_token")],
    ids=["none", "a letter", "three letters", "a MiB"],
)
def test_what_is_no_token_says_why(keys, token, reason):
    with pytest.raises(tokens.InvalidTokenError) as refused:
        tokens.verify(keys[1], token, PEER)
    assert refused.value.reason == reason and str(refused.value)


def test_a_text_that_is_too_long_for_the_library_is_no_token(keys):
    with pytest.raises(tokens.InvalidTokenError) as refused:
        tokens.verify(keys[1], "x" * (1 << 20), PEER)
    assert refused.value.reason == "bad_token"


def test_the_key_decides_about_the_algorithm_and_not_the_header(keys, issuer):
    head, body, _ = issuer.issue("node-1", [PEER]).split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    assert head != none
    for token in (f"{none}.{body}.", f"{none}.{body}.AAAA"):
        with pytest.raises(tokens.InvalidTokenError) as refused:
            tokens.verify(keys[1], token, PEER)
        assert refused.value.reason == "bad_token"


OTHER_CLAIMS = [{"node_id": "node-2"}, {"ip": "10.0.0.2"}, {"hostname": "other"}, {"port": 4002}]
NO_CLAIMS = [{"node_id": ""}, {"ip": ""}, {"hostname": ""}, {"port": 0}]


@pytest.mark.parametrize("claim", OTHER_CLAIMS + NO_CLAIMS)
def test_claims_are_compared_on_request(keys, issuer, claim):
    token = issuer.issue("node-1", [PEER], ip="10.0.0.1", hostname="host", port=4001)
    assert tokens.verify(keys[1], token, PEER, node_id="node-1", ip="10.0.0.1", hostname="host", port=4001)
    with pytest.raises(tokens.InvalidTokenError):
        tokens.verify(keys[1], token, PEER, **claim)


@pytest.mark.parametrize(
    ("node_id", "peers", "optional"),
    [
        ("", [PEER], {}),
        ("node-1", [], {}),
        ("node-1", PEER, {}),
        ("node-1", [PEER] * 10_000, {}),
        ("node-1", [PEER], {"lifetime": 0}),
        ("node-1", [PEER], {"lifetime": -5}),
        ("node-1", [PEER], {"lifetime": float("nan")}),
        ("node-1", [PEER], {"lifetime": float("inf")}),
        ("node-1", [PEER], {"lifetime": 11 * 365 * 86400}),
        ("node-1", [PEER], {"cv_hash": "x" * (1 << 15)}),
    ],
)
def test_what_cannot_be_issued_is_a_value_error(issuer, node_id, peers, optional):
    with pytest.raises(ValueError):
        issuer.issue(node_id, peers, **optional)


def test_keys_that_cannot_be_used_are_value_errors(keys):
    private_key, public_key = keys
    for key in ("", "not a key", public_key):
        with pytest.raises(ValueError):
            tokens.Issuer(key).issue("node-1", [PEER])
    token = tokens.Issuer(private_key).issue("node-1", [PEER])
    for key in ("", "not a key", private_key):
        with pytest.raises(peerbus.InvalidArgumentError):
            tokens.verify(key, token, PEER)
    with pytest.raises(ValueError):
        tokens.generate_key("HS256")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T23:59:59Z", "2026-01-31T23:59:59+00:00"),
        ("2026-01-31T23:59:59.123456789Z", "2026-01-31T23:59:59+00:00"),
        ("2026-02-01T01:59:59+02:00", "2026-01-31T23:59:59+00:00"),
        ("2026-02-01T01:59:59.5+02:00", "2026-01-31T23:59:59+00:00"),
    ],
)
def test_times_are_read_as_the_library_writes_them(text, expected):
    assert tokens._time(text) == datetime.fromisoformat(expected)
