"""Nodes of peerbus in the namespaces of a made-up internet, each a process of its own."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional

from program import Program, ProgramError
from topology import Host

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DEADLINE_S = 60.0

Config = Dict[str, Any]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "bindings" / "python")}


def config(directory: Path, host: Host, **keys: Any) -> Config:
    """A node as a user behind a router has it, except that nobody outside the made-up internet is asked for anything."""
    nat = {"port_mapping": False, **keys.pop("nat", {})}
    ips = (["0.0.0.0"] if host.has_ipv4 else []) + (["::"] if host.has_ipv6 else [])
    return {"identity_dir": str(directory / host.name), "listen_ips": ips, "dht": {"enabled": False}, "nat": nat, **keys}


class OrderError(Exception):
    """The library answered an order with an error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Peer:
    """A node that obeys peer.py's orders. Use it in a with block."""

    def __init__(self, host: Host, configuration: Config, trusted: Optional[Path] = None) -> None:
        """trusted: PEM file of the authorities of this machine, instead of those that there are."""
        self.host = host
        command = ["ip", "netns", "exec", host.namespace, sys.executable, "-W", "error"]
        environment = {**ENVIRONMENT, "SSL_CERT_FILE": str(trusted)} if trusted else ENVIRONMENT
        self._program = Program([*command, str(HERE / "peer.py"), json.dumps(configuration)], environment)

    def __enter__(self) -> Peer:
        try:
            self.peer_id: str = self.about()["peer_id"]
        except BaseException:
            self._program.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        self._program.__exit__(*error)

    def order(self, do: str, **fields: Any) -> None:
        self._program.order(do, **fields)

    def answer(self) -> Dict[str, Any]:
        answer = self._program.answer()
        if "error" in answer:
            raise OrderError(answer["error"], answer["message"])
        return answer

    def ask(self, do: str, **fields: Any) -> Dict[str, Any]:
        self.order(do, **fields)
        return self.answer()

    def about(self) -> Dict[str, Any]:
        return self.ask("about")

    def addresses(self) -> List[str]:
        found: List[str] = self.about()["addresses"]
        return found

    def circuits(self) -> List[str]:
        return [address for address in self.addresses() if "/p2p-circuit" in address]

    def connect(self, other: Peer | Relay, timeout: float = DEADLINE_S) -> Dict[str, Any]:
        return self.ask("connect", addresses=other.addresses(), timeout=timeout)

    def use_relay(self, relay: Relay) -> None:
        """Connects to the relay and reserves."""
        self.connect(relay)
        self.ask("reserve", relay=relay.peer_id)

    def send(self, other: Peer, first: int, count: int, *, size: int = 100, pace: float = 0.0) -> Dict[str, int]:
        """Numbered messages; how often an attempt failed before the library took one, by code."""
        self.begin_send(other, first, count, size=size, pace=pace)
        return self.end_send()

    def begin_send(
        self, other: Peer, first: int, count: int, *, size: int = 100, pace: float = 0.0, timeout: float = DEADLINE_S
    ) -> None:
        """Begins to send; an attempt that fails after that time is the last one."""
        self.ask("begin_send", peer=other.peer_id, first=first, count=count, size=size, pace=pace, timeout=timeout)

    def end_send(self) -> Dict[str, int]:
        failures: Dict[str, int] = self.ask("end_send")["failures"]
        return failures

    def received(self, other: Peer, count: int, timeout: float = DEADLINE_S) -> List[int]:
        """The numbers of the other's messages, in their order, when there are count of them or the time is over."""
        numbers: List[int] = self.ask("received", peer=other.peer_id, count=count, timeout=timeout)["numbers"]
        return numbers

    def await_event(self, type: str, **fields: Any) -> Dict[str, Any]:
        event = self.ask("await_event", type=type, fields=fields, timeout=DEADLINE_S)["event"]
        if event is None:
            raise AssertionError(f"no event {type} {fields} of {self.host.name}; there were {self.ask('events')['events']}")
        found: Dict[str, Any] = event
        return found

    def await_advice(self, code: str, present: bool) -> List[str]:
        """The codes of the advice of its diagnosis, once this one is among them or, if not present, no more."""
        codes: List[str] = self.ask("await_advice", code=code, present=present, timeout=DEADLINE_S)["codes"]
        return codes

    def is_relayed(self, other: Peer) -> bool:
        listed = {peer["id"]: peer["relayed"] for peer in self.ask("peers")["peers"]}
        return bool(listed[other.peer_id])


class Relay:
    """`python -m peerbus relay` in a namespace, as a user runs it."""

    def __init__(self, host: Host, directory: Path, *options: str, port: int = 4001) -> None:
        self.host = host
        self._directory, self._options, self._port = directory / host.name, options, port
        self._start()

    def addresses(self) -> List[str]:
        return self._addresses

    def restart(self) -> None:
        """Kills it and starts it anew, with the same identity and port."""
        self.kill()
        self._start()

    def kill(self) -> None:
        self._program.kill()
        self._program.__exit__(None, None, None)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: Any) -> None:
        self._program.kill()
        self._program.__exit__(None, None, None)

    def _start(self) -> None:
        command = ["ip", "netns", "exec", self.host.namespace, sys.executable, "-m", "peerbus", "relay", "--json"]
        place = ["--identity-dir", str(self._directory), "--port", str(self._port)]
        self._program = Program([*command, *place, *self._options], ENVIRONMENT)
        try:
            facts = self._program.answer(DEADLINE_S)
        except ProgramError:
            self._program.__exit__(None, None, None)
            raise
        self.peer_id: str = facts["peer_id"]
        self._addresses: List[str] = facts["addresses"]


class ICEServer:
    """A STUN and TURN server in a namespace, over UDP, TCP and TLS. Use it in a with block."""

    USERNAME, CREDENTIAL = "alice", "secret"

    def __init__(self, host: Host, directory: Path) -> None:
        self.host, self.certificate = host, directory / "turn.pem"
        command = ["ip", "netns", "exec", host.namespace, str(_turn_server()), "-ip", host.ipv4]
        options = ["-username", self.USERNAME, "-credential", self.CREDENTIAL, "-certificate", str(self.certificate)]
        self._program = Program([*command, *options], ENVIRONMENT)

    def __enter__(self) -> ICEServer:
        try:
            self._addresses = self._program.answer(DEADLINE_S)
        except ProgramError:
            self._program.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self._program.kill()
        self._program.__exit__(None, None, None)

    def ice_config(self, kind: str) -> Config:
        """What a node has to know of it to use it as "stun", or as TURN over "udp", "tcp" or "tls"."""
        if kind == "stun":
            return {"stun_servers": [self._addresses["stun"]]}
        account = {"username": self.USERNAME, "credential": self.CREDENTIAL}
        return {"turn_servers": [{"urls": [self._addresses[kind]], **account}]}


@functools.lru_cache(None)
def _turn_server() -> Path:
    """The built program; a second build at the same time would only cost time."""
    program = Path(tempfile.mkdtemp(prefix="peerbus-nat")) / "turnserver"
    atexit.register(shutil.rmtree, program.parent, True)
    subprocess.run(["go", "build", "-o", str(program), "./tests/nat/turnserver"], cwd=ROOT, check=True)
    return program
