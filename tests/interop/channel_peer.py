"""/peerbus/channel/1.0.0 a second time, written from docs/channel-protocol.md alone, over the streams of a stock libp2p.

Frames as section 2 has them, and the two sides of a stream. Nothing here decides: tests say what is sent, and look at what
came."""

import base64
import os
from pathlib import Path

from program import Program

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv" / "bench" / "bin" / "python"
PROTOCOL = "/peerbus/channel/1.0.0"
NOBODY = bytes(16)

OPEN, DATA, EXTENDED, POSITION, PING, FINISH, ACCEPT, ACK, DROPPED, CLOSE = 1, 2, 3, 4, 5, 6, 16, 17, 18, 32
GOING_AWAY, FENCED, TOO_MANY, VIOLATION, REFUSED, UNSUPPORTED = range(1, 7)
REPORT_TAKEN, EARLY, DURABLE = 1, 2, 4


def uvarint(number):
    low, number = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + uvarint(number) if number else bytes([low])


def frame(kind, *fields):
    """Numbers are written as uvarint, bytes as they are."""
    body = b"".join(uvarint(field) if isinstance(field, int) else field for field in fields)
    return uvarint(1 + len(body)) + bytes([kind]) + body


def open_frame(channel, session, instance=NOBODY, generation=1, oldest=1, flags=0, ack_messages=1, extensions=b""):
    name = channel.encode() if isinstance(channel, str) else channel
    return frame(OPEN, b"\0", session, instance, generation, oldest, flags, ack_messages, 1 << 20, len(name), name, extensions)


def accept_frame(instance, born=1, next=1, largest=1 << 20, codecs=1, flags=0, extensions=b""):
    return frame(ACCEPT, b"\0", instance, born, next, largest, codecs, flags, extensions)


def extended(payload, codec=0, class_=0, hops=0, extensions=b""):
    return frame(EXTENDED, bytes([codec, class_, hops]), len(extensions), extensions, payload)


class Fields:
    """The fields of a frame's body, taken one after the other."""

    def __init__(self, body):
        self.body, self.at = body, 0

    def bytes(self, size=None):
        end = len(self.body) if size is None else self.at + size
        assert end <= len(self.body), f"{self.body.hex()} is too short"
        self.at, taken = end, self.body[self.at:end]
        return taken

    def number(self):
        result, shift = 0, 0
        while True:
            byte = self.bytes(1)[0]
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                assert byte or shift == 7, f"{self.body.hex()} has a number that is not in its shortest form"
                return result


def decode(kind, body):
    """A received frame: its type and a dictionary of its fields."""
    take = Fields(body)
    if kind == OPEN:
        names = {"minor": take.bytes(1)[0], "session": take.bytes(16), "instance": take.bytes(16)}
        names |= {name: take.number() for name in ("generation", "oldest", "flags", "ack_messages", "ack_bytes")}
        names["channel"] = take.bytes(take.number()).decode()
    elif kind == ACCEPT:
        names = {"minor": take.bytes(1)[0], "instance": take.bytes(16)}
        names |= {name: take.number() for name in ("born", "next", "largest", "codecs", "flags")}
    elif kind == EXTENDED:
        names = dict(zip(("codec", "class", "hops"), take.bytes(3)))
        take.bytes(take.number())
        return kind, names | {"payload": take.bytes()}
    elif kind == DATA:
        return kind, {"payload": take.bytes()}
    elif kind == POSITION:
        names = {"number": take.number()}
    elif kind == ACK:
        names = {name: take.number() for name in ("accepted", "taken", "window")}
    elif kind == DROPPED:
        names = {"first": take.number(), "count": take.number(), "reason": take.bytes(1)[0]}
    elif kind == CLOSE:
        names = {"code": take.bytes(1)[0], "text": take.bytes(take.number()).decode()}
    else:
        assert kind in (PING, FINISH), f"a frame of type {kind}"
        names = {}
    assert not take.bytes(), f"version 1.0 defines no extensions, but type {kind} has {body.hex()}"
    return kind, names


class Stream:
    """A stream of the other library, as frames."""

    def __init__(self, program, number):
        self._program, self._number, self._waiting, self.ended = program, number, b"", None

    def write(self, *frames):
        """Answers whether they were written; the peer may have ended the stream."""
        return "error" not in self._program.ask("write", stream=self._number, data=base64.b64encode(b"".join(frames)).decode())

    def reset(self):
        self._program.ask("reset", stream=self._number)

    def close_write(self):
        self._program.ask("close_write", stream=self._number)

    def raw(self, within=10.0):
        """The next frame's type and body. None at the end of the stream, which `ended` then tells, or when nothing came."""
        while True:
            head = next((i + 1 for i, byte in enumerate(self._waiting) if byte < 0x80), None)
            if head:
                size = Fields(self._waiting).number()
                if len(self._waiting) >= head + size:
                    whole, self._waiting = self._waiting[:head + size], self._waiting[head + size:]
                    return whole[head], whole[head + 1:]
            if not self.read(within):
                return None

    def read(self, within=10.0):
        """Takes what has come, at most 64 KiB. False at the end of the stream, or when nothing came in time."""
        answer = self._program.ask("read", stream=self._number, limit=1 << 16, within=within)
        self.ended = answer.get("end")
        self._waiting += base64.b64decode(answer.get("data", ""))
        return "data" in answer

    def next(self, within=10.0):
        got = self.raw(within)
        return got and decode(*got)

    def until(self, kind, **fields):
        """The next frame of that type and with those fields; others before it are passed over."""
        while got := self.next():
            if got[0] == kind and all(got[1][name] == value for name, value in fields.items()):
                return got[1]
        raise AssertionError(f"no frame {kind} with {fields}; the stream: {self.ended or 'silent'}")

    def rest(self, within=10.0):
        """What comes up to the end of the stream."""
        frames = []
        while got := self.next(within):
            frames.append(got)
        return frames


class Peer:
    """A stock libp2p host in a process of its own."""

    def __init__(self, *arguments):
        program = Path(__file__).with_name("libp2p_peer.py")
        self.program = Program([str(PYTHON), str(program), *arguments], os.environ)
        listening = self.program.ask("listen")
        self.id, self.address = listening["id"], listening["address"]

    def __enter__(self):
        self.program.__enter__()
        return self

    def __exit__(self, *error):
        self.program.__exit__(*error)

    def do(self, name, **fields):
        answer = self.program.ask(name, **fields)
        assert "error" not in answer and "late" not in answer, answer
        return answer

    def open(self, to, protocols=(PROTOCOL,)):
        answer = self.do("open", peer=to, protocols=list(protocols))
        return Stream(self.program, answer["stream"])

    def accept(self, protocol=PROTOCOL, within=20):
        answer = self.program.ask("accept", protocol=protocol, within=within)
        return Stream(self.program, answer["stream"]) if "stream" in answer else None
