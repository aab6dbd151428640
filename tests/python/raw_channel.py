"""A peer that writes the frames of /peerbus/channel/1.0.0 itself, as docs/channel-protocol.md has them, or as it likes."""

import contextlib
import itertools
import os
import socket
import subprocess
from dataclasses import dataclass

from support import DEADLINE_S, ROOT

PROTOCOL = "/peerbus/channel/1.0.0"
OPEN, DATA, EXTENDED, POSITION, PING = 1, 2, 3, 4, 5
ACCEPT, ACK, DROPPED, CLOSE = 16, 17, 18, 32
ZSTD, LZ4, GZIP = 1, 2, 3


def uvarint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def frame(kind, body=b""):
    return uvarint(len(body) + 1) + bytes([kind]) + body


def packed(codec, payload, cls=0):
    """A message whose payload that codec shall unpack."""
    return frame(EXTENDED, bytes([codec, cls, 0, 0]) + payload)


def zstd_of_one_byte(size, block=128 << 10):
    """A zstd frame of that many zeros in blocks of four bytes, which does not tell its size."""
    repeated = (1 << 1 | block << 3).to_bytes(3, "little") + b"\0"
    last = bytes([repeated[0] | 1]) + repeated[1:]
    return bytes.fromhex("28b52ffd0048") + repeated * (size // block - 1) + last


@dataclass
class Frame:
    kind: int
    body: bytes

    def numbers(self, skip=0):
        """The varints of the body, from that byte on."""
        rest, found = iter(self.body[skip:]), []
        for byte in rest:
            number, shift = byte & 0x7F, 7
            while byte & 0x80:
                byte = next(rest)
                number |= (byte & 0x7F) << shift
                shift += 7
            found.append(number)
        return found


class Stream:
    """One stream of the raw peer: the sending side of one channel."""

    def __init__(self, path, channel):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(DEADLINE_S)
        self._socket.connect(path)
        self._source = self._socket.makefile("rb")
        name = channel.encode()
        fields = [b"\0", os.urandom(16), bytes(16), *map(uvarint, (1, 1, 0, 1, 1, len(name))), name]
        self.write(frame(OPEN, b"".join(fields)))
        self.accept = self.read(ACCEPT)
        self.write(frame(POSITION, uvarint(1)))

    def codecs(self):
        return self.accept.numbers(skip=17)[3]

    def write(self, *frames):
        self._socket.sendall(b"".join(frames))

    def read(self, *kinds):
        """The next frame of one of the kinds; None when the peer ended the stream."""
        while (length := self._length()) is not None:
            body = self._source.read(length)
            if body[0] in kinds:
                return Frame(body[0], body[1:])
        return None

    def _length(self):
        length = 0
        for shift in itertools.count(0, 7):
            byte = self._source.read(1)
            if not byte:
                return None
            length |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return length

    def settled(self, count):
        """Asks for an ACK of that many messages. The DROPPED frames until then, as [first, count, reason] each."""
        self.write(frame(PING))
        dropped = []
        while answer := self.read(DROPPED, ACK):
            if answer.kind == DROPPED:
                dropped.append(answer.numbers())
            elif answer.numbers()[0] > count:
                return dropped
        raise AssertionError("the stream ended before the ACK")

    def close(self):
        self._source.close()
        self._socket.close()


class RawPeer:
    """A libp2p peer in a process of its own; every stream of it runs on one connection."""

    def __init__(self, program, folder, address):
        self._path = str(folder / "streams")
        self._process = subprocess.Popen(
            [program, address, PROTOCOL, self._path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.id = self._process.stdout.readline().strip()
        assert self.id, "the raw peer found no connection"
        self._streams = contextlib.ExitStack()

    def stream(self, to, name):
        opened = Stream(self._path, f"{self.id}::dm:{to}-{name}")
        return self._streams.enter_context(contextlib.closing(opened))

    def close(self):
        self._streams.close()
        self._process.communicate(timeout=DEADLINE_S)


def build(output):
    """Builds the program of the raw peer."""
    command = ["go", "build", "-o", str(output), "./tests/tools/rawpeer"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return str(output)
