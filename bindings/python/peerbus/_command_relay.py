"""``python -m peerbus relay``: a relay of one's own, so that nodes behind NATs reach each other."""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from . import _command, _errors, node

HELP = "run a relay, through which nodes behind NATs are reached"
_VARIABLES = "PEERBUS_RELAY_"  # each option is also an environment variable: --identity-dir is PEERBUS_RELAY_IDENTITY_DIR
_DEFAULT_PORT = 4001
_TRUE = ("1", "true", "yes", "on")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    def option(name: str, text: str, default: Any = None, **shape: Any) -> None:
        variable = _VARIABLES + name.upper().replace("-", "_")
        shown = f" (default {default})".replace("%", "%%") if default else ""
        parser.add_argument(f"--{name}", help=f"{text}{shown}; ${variable}", default=_given(variable, default, shape), **shape)

    home = Path.home() / ".peerbus" / "relay"
    option("identity-dir", "directory of the relay's key, created if absent; keep it, and the relay keeps its id", str(home))
    option("port", "TCP and WebSocket port; QUIC, WebTransport and WebRTC-direct take the next three", _DEFAULT_PORT, type=int)
    option("ip", "address to listen on; repeatable, in the variable separated by commas (default: all)", [], action="append")
    option("announce", "multiaddr to tell others besides those listened on, e.g. a cloud machine's public one; repeatable", [],
           action="append")
    option("allow", "peer id that may reserve; repeatable. With neither this nor a token everybody may", [], action="append")
    option("token", "secret whose holders may reserve; better given by the variable than on the command line", "")
    option("broad-limits", "no limits of data (128 KiB) and time (2 min) of relayed connections", False, action="store_true")
    option("reservation", "seconds that a reservation lasts", 3600, type=int)
    option("metrics", "HTTP address for Prometheus, e.g. 127.0.0.1:9464; answers /metrics", "")
    _command.add_json(parser)


def _given(variable: str, default: Any, shape: Mapping[str, Any]) -> Any:
    text = os.environ.get(variable)
    if text is None:
        return default
    if shape.get("action") == "append":
        return [part.strip() for part in text.split(",") if part.strip()]
    if shape.get("action") == "store_true":
        return text.strip().lower() in _TRUE
    return text  # argparse converts a default that is a text


def configuration(arguments: argparse.Namespace) -> Dict[str, Any]:
    """The node that the options describe. A relay is reachable, or of no use: so nobody is asked."""
    return {
        "identity_dir": arguments.identity_dir,
        "predefined_port": arguments.port,
        "listen_ips": arguments.ip or _every_address(),
        "announce_addrs": arguments.announce,
        "relay": {
            "enable_service": True,
            "with_broad_limits": arguments.broad_limits,
            "allow": arguments.allow,
            "token": arguments.token,
            "reservation_ms": arguments.reservation * 1000,
        },
        "network": {"force_public": True},
        "dht": {"enabled": False},
        "nat": {"port_mapping": False, "hole_punching": False},
        "log": {"name": "relay"},
    }


def _every_address() -> List[str]:
    """All addresses of this machine; one without IPv6 could not listen on ``::``."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        probe.bind(("::", 0))
        return ["0.0.0.0", "::"]
    return ["0.0.0.0"]


def run(arguments: argparse.Namespace) -> int:
    # Ctrl-C or SIGTERM is how a relay ends. Blocked before the first thread starts, they wait for sigwait in every thread.
    stop = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    with node.BlockingNode(config=configuration(arguments)) as relay, _metrics(arguments.metrics, relay) as served:
        facts: Dict[str, Any] = {"peer_id": relay.peer_id, "addresses": relay.addresses, "metrics": served}
        _command.answer(arguments, facts, _describe(facts))
        with contextlib.suppress(BrokenPipeError):
            print(end="", flush=True)
        signal.sigwait(stop)
    return _command.DONE


def _describe(facts: Mapping[str, Any]) -> str:
    lines = [f"relay {facts['peer_id']} listens on", *(f"  {address}" for address in facts["addresses"])]
    if facts["metrics"]:
        lines.append(f"metrics: {facts['metrics']}")
    return "\n".join(lines)


@contextlib.contextmanager
def _metrics(where: str, relay: node.BlockingNode) -> Iterator[Optional[str]]:
    """Serves /metrics at host:port; yields its address, or None without one."""
    if not where:
        yield None
        return
    host, _, port = where.rpartition(":")
    if not host or not port.isdigit():
        raise _errors.InvalidArgumentError(f"--metrics is {where!r}; it must be <address>:<port>")

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10  # seconds that a client may take

        def do_GET(self) -> None:
            found = self.path == "/metrics"
            body = exposition(relay.statistics()).encode() if found else b"see /metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer((host.strip("[]"), int(port)), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="peerbus-metrics", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


_METRICS: List[Tuple[str, str, str]] = [
    # field of GetStatistics' "relay", kind, help
    ("active", "gauge", "1 while the relay serves"),
    ("reservations", "gauge", "reservations now"),
    ("circuits", "gauge", "relayed connections now"),
    ("reservations_granted", "counter", "reservations made"),
    ("reservations_renewed", "counter", "reservations renewed"),
    ("circuits_opened", "counter", "relayed connections made"),
    ("bytes", "counter", "bytes relayed, both directions"),
]


def exposition(statistics: Mapping[str, Any]) -> str:
    """The relay's counters in the text format of Prometheus."""
    relay: Mapping[str, Any] = statistics.get("relay", {})
    lines: List[str] = []

    def metric(name: str, kind: str, text: str, samples: List[Tuple[str, Any]]) -> None:
        full = f"peerbus_{name}" + ("_total" if kind == "counter" else "")
        lines.extend((f"# HELP {full} {text}", f"# TYPE {full} {kind}"))
        lines.extend(f"{full}{labels} {int(value)}" for labels, value in samples)

    for field, kind, text in _METRICS:
        metric(f"relay_{field}", kind, text, [("", relay.get(field, 0))])
    refused = [(f"{{request={json.dumps(name)}}}", count) for name, count in sorted(relay.get("refused", {}).items())]
    metric("relay_refused", "counter", "requests refused, by kind and circuit v2 status", refused)
    metric("connections", "gauge", "connections now", [("", statistics.get("connections", 0))])
    return "\n".join(lines) + "\n"
