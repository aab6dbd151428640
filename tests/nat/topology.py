"""Small internets out of network namespaces: public hosts, routers of every kind, and hosts behind them.

    with Network("example") as net:
        relay = net.host("relay", net.internet)
        home = net.router("home", net.internet, SYMMETRIC)
        alice = net.host("alice", home.lan)
        with alice.inside():
            socket.create_connection((relay.ipv4, 4001))

Every host and router is a network namespace, every segment a bridge in one more namespace, and nothing leads out of
them: no interface of theirs is in the namespace of the machine. The internet has public-range addresses, because
libp2p decides by the address what it does: behind a private one it never punches. Needs root, iproute2 and nftables.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import itertools
import os
import shutil
import subprocess
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Dict, Iterator, List, Optional, Sequence, Type, Union

_CLONE_NEWNET = 0x40000000
_COMMAND_S = 30.0
_LIBC = ctypes.CDLL(None, use_errno=True)
_ATTEMPT = itertools.count()


@dataclass(frozen=True)
class NAT:
    """What a router does with the packets of its hosts, as statements of nftables. "wan" and "lan" are its interfaces."""

    name: str
    translation: str = ""
    allowed: str = "accept"  # of what hosts send

    def only(self, condition: str) -> NAT:
        """The same router with a firewall that lets out only what the condition matches."""
        return NAT(f"{self.name}, only {condition}", self.translation, f"{condition} accept")


_POSTROUTING = "type nat hook postrouting priority srcnat"
_PREROUTING = "type nat hook prerouting priority dstnat"

PORT_RESTRICTED = NAT("port restricted cone", f"""
    chain out {{
        {_POSTROUTING}
        oifname "wan" masquerade
    }}""")
"""One outside port for an inside port, whoever is addressed; lets in only answers of the address and port addressed."""

FULL_CONE = NAT("full cone", f"""
    map open {{
        type inet_service : ipv4_addr . inet_service
        flags dynamic,timeout
        timeout 5m
    }}
    chain out {{
        {_POSTROUTING}
        oifname "wan" meta l4proto udp add @open {{ udp sport : ip saddr . udp sport }}
        oifname "wan" masquerade
    }}
    chain in {{
        {_PREROUTING}
        iifname "wan" meta l4proto udp dnat to udp dport map @open
    }}""")
"""As port restricted, but a UDP port that was used once lets in everybody. TCP is port restricted."""

SYMMETRIC = NAT("symmetric", f"""
    chain out {{
        {_POSTROUTING}
        oifname "wan" meta l4proto {{ tcp, udp }} masquerade fully-random
        oifname "wan" masquerade
    }}""")
"""A new random outside port for every address and port addressed: nobody can be told which one to answer to."""

UDP_BLOCKED = NAT("UDP blocked", PORT_RESTRICTED.translation, "meta l4proto != udp accept")
FIREWALL = NAT("firewall without translation")
"""Routes, lets in only answers. What IPv6 networks have instead of a NAT."""


class Network:
    """A set of namespaces that live until the end of the with block."""

    def __init__(self, name: str) -> None:
        self._prefix = f"pb{os.getpid()}x{next(_ATTEMPT)}-{name}"
        self._namespaces: List[str] = []
        self._lans = itertools.count(1)
        self._segments = itertools.count(1)
        self.switch = ""
        self.internet: Any = None

    def __enter__(self) -> Network:
        try:
            self.switch = self._namespace("switch")
            self.internet = Segment(self, "11.0.0.0/24", "2a0b:1100::/64")
        except OSError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        for name in self._namespaces:
            run(["ip", "netns", "del", name])

    def host(self, name: str, segment: Segment, *, ipv4: bool = True, ipv6: bool = False) -> Host:
        host = Host(self._namespace(name), name)
        host.attach("eth0", segment, ipv4=ipv4, ipv6=ipv6)
        return host

    def router(self, name: str, wan: Segment, nat: NAT, *, ipv6: bool = False) -> Router:
        """A router with a segment of its own behind it, ``lan``; IPv6 is routed, never translated."""
        number = next(self._lans)
        lan = Segment(self, f"192.168.{number}.0/24", f"2a0b:1100:0:{number:x}::/64")
        return Router(self._namespace(name), name, wan, lan, nat, ipv6)

    def next_segment(self) -> int:
        return next(self._segments)

    def _namespace(self, name: str) -> str:
        full = f"{self._prefix}-{name}"
        run(["ip", "netns", "add", full])
        self._namespaces.append(full)
        ip(full, "link set lo up")
        return full


class Segment:
    """One broadcast domain with its addresses, handed out in order."""

    def __init__(self, network: Network, ipv4: str, ipv6: str) -> None:
        self.network, self.switch = network, network.switch
        self.ipv4, self.ipv6 = ipaddress.ip_network(ipv4), ipaddress.ip_network(ipv6)
        self.gateway: Optional[Router] = None
        self.bridge = f"br{network.next_segment()}"
        self._members: List[Host] = []
        self._routes: List[str] = []
        self._ports = itertools.count(1)
        self._numbers = itertools.count(1)
        ip(self.switch, f"link add {self.bridge} type bridge", f"link set {self.bridge} up")

    def plug(self, member: Host, interface: str) -> None:
        """Lays a cable from an interface of the member to the bridge."""
        port = f"{self.bridge}p{next(self._ports)}"
        ip(self.switch, f"link add {port} type veth peer name {interface} netns {member.namespace}",
           f"link set {port} master {self.bridge}", f"link set {port} up")
        self._members.append(member)

    def next_addresses(self) -> Dict[int, str]:
        number = next(self._numbers)
        return {net.version: f"{net[number]}/{net.prefixlen}" for net in (self.ipv4, self.ipv6)}

    def route_to(self, destination: Any, router: str) -> None:
        """Tells every member, also later ones, where a network behind a router is."""
        self._routes.append(f"route replace {destination} via {router}")
        for member in self._members:
            if member.has_ipv6 and member.ipv6 != router:
                ip(member.namespace, *self._routes[-1:])

    def routes(self) -> List[str]:
        return list(self._routes)


class Host:
    """A namespace with one interface. Its processes and sockets see nothing else of the machine."""

    def __init__(self, namespace: str, name: str) -> None:
        self.namespace, self.name = namespace, name
        self._addresses: Dict[int, str] = {}
        self._segment: Any = None
        self._interface = ""

    @property
    def has_ipv4(self) -> bool:
        return 4 in self._addresses

    @property
    def has_ipv6(self) -> bool:
        return 6 in self._addresses

    @property
    def ipv4(self) -> str:
        return self._addresses[4].split("/")[0]

    @property
    def ipv6(self) -> str:
        return self._addresses[6].split("/")[0]

    def attach(self, interface: str, segment: Segment, *, ipv4: bool = True, ipv6: bool = False) -> None:
        self._interface, self._segment = interface, segment
        segment.plug(self, interface)
        wanted = {4: ipv4, 6: ipv6}
        self._addresses.update({version: one for version, one in segment.next_addresses().items() if wanted[version]})
        if not ipv6:
            self._setting(f"ipv6/conf/{interface}/disable_ipv6")
        self._configure()

    def change_address(self) -> None:
        """Moves to other addresses of the same segment: what a new lease does."""
        ip(self.namespace, f"addr flush dev {self._interface} scope global")
        fresh = self._segment.next_addresses()
        self._addresses = {version: fresh[version] for version in self._addresses}
        self._configure()

    def link_down(self) -> None:
        ip(self.namespace, f"link set {self._interface} down")

    def link_up(self) -> None:
        """Up again with the same addresses: the kernel forgets routes and IPv6 addresses with the link."""
        self._configure()

    def received_bytes(self) -> int:
        """What came in over the cable so far: the wire does not care what a library claims."""
        return int(run_in(self.namespace, ["cat", f"/sys/class/net/{self._interface}/statistics/rx_bytes"]))

    def start(self, command: Sequence[Union[str, os.PathLike[str]]], **options: Any) -> subprocess.Popen[Any]:
        """Starts a program in the namespace."""
        return subprocess.Popen(["ip", "netns", "exec", self.namespace, *map(str, command)], **options)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that this thread makes in the block belong to the namespace, also afterwards."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.namespace}") as there:
            _set_namespace(there.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())

    def _setting(self, name: str) -> None:
        """Switches a setting of the kernel on, for this namespace."""
        with self.inside(), open(f"/proc/sys/net/{name}", "w") as setting:
            setting.write("1")

    def _configure(self) -> None:
        commands = [f"link set {self._interface} up"]
        for version, address in self._addresses.items():
            commands.append(f"addr replace {address} dev {self._interface}{' nodad' if version == 6 else ''}")
        ip(self.namespace, *commands, *self._default_routes())

    def _default_routes(self) -> List[str]:
        gateway = self._segment.gateway
        if gateway is None:
            return self._segment.routes() if self.has_ipv6 else []
        inner = gateway.lan_addresses
        return [f"route replace default via {inner[version].split('/')[0]}" for version in self._addresses if version in inner]


class Router(Host):
    """Translates and filters between its interfaces "wan" and "lan". As a host it is its outside."""

    def __init__(self, namespace: str, name: str, wan: Segment, lan: Segment, nat: NAT, ipv6: bool) -> None:
        super().__init__(namespace, name)
        self.lan, self.nat = lan, nat
        self.attach("wan", wan, ipv6=ipv6)
        lan.plug(self, "lan")
        self.lan_addresses = lan.next_addresses()
        commands = [f"addr add {self.lan_addresses[4]} dev lan", "link set lan up"]
        if ipv6:
            commands.append(f"addr add {self.lan_addresses[6]} dev lan nodad")
            wan.route_to(lan.ipv6, self.ipv6)
        else:
            del self.lan_addresses[6]
        ip(namespace, *commands)
        lan.gateway = self
        self._setting("ipv4/ip_forward")
        self._setting("ipv6/conf/all/forwarding")
        self._rules()

    def _rules(self) -> None:
        # Unsolicited packets to the router itself vanish: were they answered by a reset, no TCP connection could be punched.
        run_in(self.namespace, ["nft", "-f", "-"], f"""
table ip translation {{{self.nat.translation}
}}
table inet filter {{
    chain input {{
        type filter hook input priority filter
        iifname "wan" ct state established,related accept
        iifname "wan" meta l4proto {{ icmp, ipv6-icmp }} accept
        iifname "wan" drop
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop
        ct state established,related accept
        ct status dnat accept
        iifname "lan" {self.nat.allowed}
    }}
}}
""")


def why_impossible() -> Optional[str]:
    """Why no namespaces can be made here; None when they can."""
    missing = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not installed (packages iproute2 and nftables)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with Network("trial") as trial:
            run_in(trial.switch, ["nft", "-f", "-"], f"table ip trial {{{PORT_RESTRICTED.translation}\n}}\n")
    except OSError as error:
        return f"network namespaces are not permitted: {error}"
    return None


def ip(namespace: str, *commands: str) -> None:
    run(["ip", "-n", namespace, "-batch", "-"], "\n".join(commands) + "\n")


def run_in(namespace: str, command: Sequence[str], text: Optional[str] = None) -> str:
    return run(["ip", "netns", "exec", namespace, *command], text)


def run(command: Sequence[str], text: Optional[str] = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_COMMAND_S)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}" + (f"\n{text}" if text else ""))
    return done.stdout


def _set_namespace(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
