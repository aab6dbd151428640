"""zenoh, peer to peer over TLS, what made it fastest: callbacks, congestion control BLOCK, a transmit queue of 16.

Shared memory is off: zenoh switches it on by default, and then messages between processes of one machine are not
encrypted at all. One row has it on and says so.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import ipaddress
import json
import queue
import socket
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple

from endpoint import Endpoint, Lane, Meter, serve
from topic_endpoint import FIRST_WAIT_S, TopicEndpoint

LANES = [
    Lane("zenoh TLS", optional=True, kind="peer"),
    Lane("zenoh, shared memory, not encrypted", ["--shared-memory"], optional=True, kind="unencrypted"),
    Lane("zenoh TLS, BLOCK", ["--topic", "BLOCK"], ("topics",), optional=True, kind="peer"),
    Lane("zenoh TLS, default (DROP)", ["--topic", "DROP"], ("topics",), optional=True, kind="peer"),
]
_TRANSMIT_QUEUE = 16
_WAIT_S = 60.0
_POLL_S = 0.05
_READY = b"R"


class Certificates(NamedTuple):
    """PEM in base64, as the configuration takes it."""

    authority: str
    own: str
    key: str


def certificates() -> Certificates:
    """A certificate for 127.0.0.1 by an authority of its own; zenoh refuses one that signs itself."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def text(pem: bytes) -> str:
        return base64.b64encode(pem).decode()

    pem, form, open_text = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _signed("authority", authority_key.public_key(), "authority", authority_key)
    own = _signed("bench", key.public_key(), "authority", authority_key)
    private = key.private_bytes(pem, form, open_text)
    return Certificates(text(authority.public_bytes(pem)), text(own.public_bytes(pem)), text(private))


def _signed(subject: str, public_key: Any, issuer: str, issuer_key: Any) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in (subject, issuer)]
    return (
        x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(public_key)
        .serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=subject == issuer, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Session:
    """A zenoh session; on_message gets every payload of the subscription, in a thread of zenoh."""

    def __init__(self, shared_memory: bool) -> None:
        self._shared_memory = shared_memory
        self._arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._on_message: Callable[[bytes], object] = self._arrived.put
        self._declared: List[Any] = []

    def listen(self) -> Any:
        made, endpoint = certificates(), f"tls/127.0.0.1:{free_port()}"
        self._open("listen", endpoint, {"listen_certificate_base64": made.own, "listen_private_key_base64": made.key})
        return [endpoint, made.authority]

    def connect(self, address: Any) -> None:
        self._open("connect", address[0], {"root_ca_certificate_base64": address[1]})

    def close(self) -> None:
        self._session.close()

    def _open(self, how: str, endpoint: str, tls: Dict[str, str]) -> None:
        import zenoh

        config = zenoh.Config()
        settings: Dict[str, Any] = {
            "mode": "peer", "scouting/multicast/enabled": False, "scouting/gossip/enabled": False,
            "transport/shared_memory/enabled": self._shared_memory,
            "transport/link/tx/queue/size/data": _TRANSMIT_QUEUE, f"{how}/endpoints": [endpoint],
            **{f"transport/link/tls/{key}": value for key, value in tls.items()},
        }
        for key, value in settings.items():
            config.insert_json5(key, json.dumps(value))
        self._zenoh, self._session = zenoh, zenoh.open(config)

    def _publisher(self, key: str, congestion_control: str = "BLOCK") -> Any:
        control = getattr(self._zenoh.CongestionControl, congestion_control)
        reliable = self._zenoh.Reliability.RELIABLE
        publisher = self._session.declare_publisher(key, congestion_control=control, reliability=reliable)
        self._declared.append(publisher)
        return publisher

    def _subscribe(self, key: str) -> None:
        self._declared.append(self._session.declare_subscriber(
            key, lambda sample: self._on_message(sample.payload.to_bytes())
        ))


class ZenohEndpoint(Session, Endpoint):
    """Each side publishes on one key and subscribes to the other's."""

    def listen(self) -> Any:
        address = super().listen()
        self._use("b", "a")
        return address

    def connect(self, address: Any) -> None:
        super().connect(address)
        self._use("a", "b")
        self._await_subscriber()

    def accept(self) -> None:
        self._await_subscriber()

    def sender(self) -> Callable[[bytes], object]:
        return self._outgoing.put

    def send(self, size: int, seconds: float) -> Dict[str, Any]:
        if self._arrived.get(timeout=_WAIT_S) != _READY:
            raise RuntimeError("something else than the mark of readiness came")
        return super().send(size, seconds)

    def receive(self, size: int) -> Dict[str, Any]:
        """Counts in the callback; the sender begins when that is in place."""
        meter, done = Meter(size), threading.Event()
        add = meter.add_one
        self._on_message = lambda message: add(message) and done.set()
        self._outgoing.put(_READY)
        if not done.wait(_WAIT_S):
            raise TimeoutError(f"the series of {size} bytes did not end")
        self._on_message = self._arrived.put
        return meter.result()

    def take(self) -> List[Any]:
        return [self._arrived.get(timeout=_WAIT_S)]

    def _use(self, own: str, other: str) -> None:
        self._subscribe(f"bench/{other}")
        self._outgoing = self._publisher(f"bench/{own}")

    def _await_subscriber(self) -> None:
        deadline = time.monotonic() + FIRST_WAIT_S
        while not self._outgoing.matching_status.matching:
            if time.monotonic() > deadline:
                raise TimeoutError("the other side did not subscribe")
            time.sleep(_POLL_S)


class ZenohTopic(Session, TopicEndpoint):
    def __init__(self, congestion_control: str) -> None:
        super().__init__(shared_memory=False)
        self._congestion_control = congestion_control

    def listen(self) -> Any:
        address = super().listen()
        self._put = self._publisher("bench/topic", self._congestion_control).put
        return address

    def subscribe(self) -> None:
        self._subscribe("bench/topic")

    def publish_one(self, message: bytes) -> bool:
        self._put(message)
        return True

    def take(self, timeout: float) -> List[Any]:
        try:
            messages = [self._arrived.get(timeout=timeout)]
        except queue.Empty:
            return []
        while not self._arrived.empty():
            messages.append(self._arrived.get())
        return messages

    def collect(self, size: int, quiet: float) -> Dict[str, Any]:
        """Counts in the callback; this thread only looks whether it is quiet."""
        count, first, last, clock = 0, 0.0, time.perf_counter() + FIRST_WAIT_S, time.perf_counter

        def add(message: bytes) -> None:
            nonlocal count, first, last
            if len(message) == size:
                count += 1
                last = clock()
                first = first or last

        self._on_message = add
        while clock() < last + quiet:
            time.sleep(_POLL_S)
        self._on_message = self._arrived.put
        return {"messages": count, "seconds": last - first if count else 0.0, "lost": self.lost()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared-memory", action="store_true")
    parser.add_argument("--topic", choices=("BLOCK", "DROP"))
    options = parser.parse_args()
    serve(ZenohTopic(options.topic) if options.topic else ZenohEndpoint(options.shared_memory))
