"""Own certificates for secure WebSocket from Python: docs/certificates.md. The automatic ones are in tests/autotls."""

import re
import shutil
import socket
import ssl
import subprocess

import pytest
from harness import missing
from support import DEADLINE_S

import peerbus

DOMAIN = "node.test"


def make_certificate(directory, subject=DOMAIN):
    """A self-signed pair for the domain in these two files; answers the certificate as a handshake shows it."""
    if not shutil.which("openssl"):
        missing("openssl, which makes the certificates of this test")
    chain, key = directory / "chain.pem", directory / "key.pem"
    fresh = directory / "fresh.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
               "-subj", f"/CN={subject}", "-addext", f"subjectAltName=DNS:{subject}", "-keyout", str(key),
               "-out", str(fresh)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=DEADLINE_S)
    fresh.replace(chain)
    return ssl.PEM_cert_to_DER_cert(chain.read_text())


def port_of(node):
    (address,) = [address for address in node.addresses if f"/dns4/{DOMAIN}/" in address]
    return int(re.search(r"/tcp/(\d+)/tls/ws", address)[1])


def shown_at(port):
    """The certificate that the node shows."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    raw = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
    with raw, context.wrap_socket(raw, server_hostname=DOMAIN) as secured:
        return secured.getpeercert(binary_form=True)


@pytest.fixture
def server(nodes, tmp_path):
    first = make_certificate(tmp_path)
    tls = {"domain": DOMAIN, "cert_path": str(tmp_path / "chain.pem"), "key_path": str(tmp_path / "key.pem")}
    return nodes(tls=tls), first


def test_a_node_shows_its_certificate_and_announces_the_domain(server):
    node, certificate = server
    assert shown_at(port_of(node)) == certificate
    assert not [address for address in node.addresses if address.startswith("/ip4/") and "/tls/ws" in address]


def test_a_peer_that_trusts_the_authority_connects_by_secure_websocket(server, nodes, tmp_path):
    node, _ = server
    port = port_of(node)
    address = f"/ip4/127.0.0.1/tcp/{port}/tls/sni/{DOMAIN}/ws/p2p/{node.peer_id}"
    with pytest.raises(peerbus.PeerbusError):
        nodes().connect(address)
    trusting = nodes(tls={"ca_path": str(tmp_path / "chain.pem")})
    connection = trusting.connect(address)
    assert "/ws" in connection["Addrs"][0]
    trusting.send(node.peer_id, b"secured")
    assert bytes(node.receive(timeout=DEADLINE_S)) == b"secured"


def test_changed_files_are_used_without_a_restart(server, tmp_path):
    node, first = server
    port = port_of(node)
    assert shown_at(port) == first
    with node.events("certificate_renewed") as events:
        second = make_certificate(tmp_path)
        event = events.wait_for_blocking("certificate_renewed", timeout=DEADLINE_S)
    assert event["source"] == "files" and event["names"] == [DOMAIN]
    assert shown_at(port) == second != first


def test_a_certificate_for_another_name_does_not_start(nodes, tmp_path):
    make_certificate(tmp_path, "other.test")
    with pytest.raises(peerbus.InvalidConfigError):
        nodes(tls={"domain": DOMAIN, "cert_path": str(tmp_path / "chain.pem"), "key_path": str(tmp_path / "key.pem")})
