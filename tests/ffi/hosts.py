"""Processes of different languages that run nodes on command: programs/host.c, host.cpp and host.py.

Commands are lines of fields separated by tabs; <i> is a slot, payloads are a size and a seed (see payload):
    control <function> <i> [text]                  events <i> <max> <ms>
    send <i> <channel> <count> <size> <seed> <ms>  stops at the first failure: number taken, name of the code
    send_now <i> <channel> <size> <seed>           publish <i> <channel> <size> <seed> <ms>
    publish_batch <i> <channel> <count> <size> <seed> <ms>     seeds seed, seed + 1, ...; number, first id, peers, missed
    open <i> <channel> <options>                   a topic
    receive <i> <channel or *> <max> <bytes> <ms>  flush <i> <channel> <ms>
    policy <i> <channel> <policy>                  interrupt <i>          wake <i> <what>
    poll <descriptor> <ms>                         end_a_wait <i> <ms> <interrupt or close>
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

from harness import ROOT, compile_program, node_config

SOURCES = ROOT / "tests" / "ffi" / "programs"
ANSWER_SECONDS = 60
KINDS = ("c", "cpp", "python")
MESSAGES, EVENTS = 1, 2
BLOCK, DROP_OLDEST, DROP_NEWEST, LATEST = range(4)


class HostError(Exception):
    """A call that failed; code is the name without PEERBUS_."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True)
class Received:
    sender: str
    channel: str
    protocol: str
    gap: int
    size: int
    checksum: int


@dataclass(frozen=True)
class Published:
    """count messages, of which the first has the id; peers and missed are those of the last."""

    count: int
    id: int
    peers: int
    missed: int


def payload(size, seed):
    """What the hosts make of a size and a seed."""
    period = b"".join(bytes((i * 31 + block + seed) & 255 for i in range(256)) for block in range(min(256, size // 256 + 1)))
    return (period * (size // len(period) + 1))[:size]


def checksum(size, seed):
    return zlib.crc32(payload(size, seed))


def build(kind, directory, library):
    """The command line of a host."""
    if kind == "python":
        return [sys.executable, "-W", "error", str(SOURCES / "host.py"), str(library)]
    suffix, standard = {"c": (".c", "c99"), "cpp": (".cpp", "c++17")}[kind]
    program = Path(directory) / f"host-{kind}"
    if not program.exists():
        compile_program([SOURCES / f"host{suffix}"], program, standard=standard, library=library)
    return [str(program)]


def codes_by_number():
    header = (ROOT / "include" / "peerbus.h").read_text()
    lines = (line.split("/*")[0] for line in header.splitlines() if line.startswith("    PEERBUS_") and " = -" in line)
    pairs = (line.strip(" ,").split(" = ") for line in lines)
    return {int(number.strip(" ,")): name.removeprefix("PEERBUS_") for name, number in pairs}


CODES = codes_by_number()


def until(found, seconds=ANSWER_SECONDS):
    """What found() answers once it is true."""
    end = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < end, f"waited {seconds} s in vain"
    return result


class Host:
    """One process with a node in slot 0."""

    def __init__(self, command, directory, **keys):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        created = self.control("CreateNode", json.dumps(node_config(directory, **keys)))
        self.id = created["addresses"][0].rsplit("/", 1)[1]

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def order(self, *fields):
        self.process.stdin.write("\t".join(map(str, fields)) + "\n")
        self.process.stdin.flush()

    def answer(self, seconds=ANSWER_SECONDS):
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"the host did not answer within {seconds} s") from None
        if line is None:
            raise AssertionError(f"the host ended with status {self.process.wait(10)}")
        return self.understand(*line.split("\t"))

    def call(self, *fields):
        self.order(*fields)
        return self.answer()

    @staticmethod
    def understand(kind, *parts):
        if kind == "text":
            envelope = json.loads(parts[0])
            if isinstance(envelope, list):
                return envelope
            if envelope["state"] == "Error":
                raise HostError(envelope["code"], envelope["message"])
            return envelope.get("message")
        if kind == "error":
            raise HostError(*parts)
        if kind == "ok":
            return json.loads(parts[0]) if parts[0] else None
        if kind == "published":
            return Published(*map(int, parts))
        if kind == "batch":
            return [Received(*part.split(" ")[:3], *map(int, part.split(" ")[3:])) for part in parts[1:]]
        number = int(parts[0])
        if number < 0:
            raise HostError(CODES[number], parts[1])
        return (number, parts[1]) if parts[1] else number

    def control(self, function, argument=""):
        return self.call("control", function, 0, argument)

    def connect(self, other):
        return self.control("ConnectTo", json.dumps(other.control("GetNodeAddresses", "")))

    def channel_to(self, other, suffix="test"):
        return f"{self.id}::dm:{other.id}-{suffix}"

    def send(self, channel, count=1, size=100, seed=0, timeout=20000):
        """Sends count messages with seeds seed, seed + 1, ...; returns how many were taken, and the last code."""
        return self.call("send", 0, channel, count, size, seed, timeout)

    def receive(self, channel="*", most=1024, max_bytes=0, timeout=20000):
        return self.call("receive", 0, channel, most, max_bytes, timeout)

    def receive_count(self, count, channel="*", **limits):
        """Receives until count messages came."""
        got = []
        while len(got) < count:
            batch = self.receive(channel, **limits)
            assert batch, f"{len(got)} of {count} messages came"
            got += batch
        return got

    def events(self, timeout=0, most=4096):
        return self.call("events", 0, most, timeout) or []

    def wait_for_event(self, accept, seconds=ANSWER_SECONDS):
        """The first event that accept() takes; the ones before it are dropped."""
        end = time.monotonic() + seconds
        seen = []
        while time.monotonic() < end:
            for event in self.events(timeout=1000, most=1):
                seen.append(event)
                if accept(event):
                    return event
        raise AssertionError(f"the event did not come, these did: {seen}")

    def statistics(self):
        return self.control("GetStatistics")

    def stop(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def end(self):
        """Ends the process by the end of its input; it must leave cleanly with its node open."""
        self.go_on()
        self.process.stdin.close()
        try:
            return self.process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.reader.join(ANSWER_SECONDS)
            self.process.stdout.close()

    def kill(self):
        """Ends the process as the machine's end would."""
        self.process.kill()
        self.process.wait(ANSWER_SECONDS)
        self.reader.join(ANSWER_SECONDS)
        self.process.stdin.close()
        self.process.stdout.close()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_kib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])
