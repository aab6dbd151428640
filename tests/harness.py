"""How tests configure nodes and compile programs against the library."""

import os
import random
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMPILE_SECONDS = 180

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
ARCHIVE_LIBRARIES = ["-lpthread", "-ldl", "-lm", "-lresolv"]


def node_config(directory, **keys):
    """Configuration of a node that listens on loopback only and reaches out to nobody."""
    nat = {"port_mapping": False, "hole_punching": False, "autonat": False}
    return {"identity_dir": str(directory), "listen_ips": ["127.0.0.1"], "nat": nat, "dht": {"enabled": False}, **keys}


def made_up_peer_id(seed):
    """A well-formed Ed25519 peer id that no node of a test has."""
    number = int.from_bytes(bytes([0, 36, 8, 1, 18, 32]) + bytes([seed]) * 32, "big")
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "1" + text


def free_ports(count=1):
    """The first of so many ports in a row, for TCP and UDP, that nobody gets who asks for any port: those are further up. They
    can be given up and taken again."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        first = random.randrange(10_000, lowest - count)
        try:
            with ExitStack() as stack:
                for port in range(first, first + count):
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        stack.enter_context(socket.socket(socket.AF_INET, kind)).bind(("127.0.0.1", port))
            return first
        except OSError:
            continue  # somebody has one of them


def compile_program(sources, output, *, standard, library, flags=(), compiler=None):
    """Compiles C (standard "c99") or C++ ("c++17") against a .so or .a of peerbus; returns the program's path."""
    cxx = standard.startswith("c++")
    compiler = compiler or os.environ.get("CXX" if cxx else "CC", "c++" if cxx else "cc")
    library = Path(library)
    beside = ARCHIVE_LIBRARIES if library.suffix == ".a" else [f"-Wl,-rpath,{library.parent}"]
    command = [compiler, f"-std={standard}", "-O1", "-g", *WARNINGS, *flags, f"-I{ROOT / 'include'}",
               f"-I{ROOT / 'bindings' / 'cpp'}", *map(str, sources), "-o", str(output), str(library), *beside, "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return Path(output)


def missing(reason):
    """Skips what cannot run here; with PEERBUS_NO_SKIPS, as in CI, it fails, because a skipped test would hide that nothing was
    checked."""
    if os.environ.get("PEERBUS_NO_SKIPS"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
