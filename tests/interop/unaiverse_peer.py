"""Program: drives one node of a library with the control functions that peerbus and the existing network share.

unaiverse_peer.py LIBRARY HOLDER joins the network of the process HOLDER (loopback.py), reads a JSON list
[function, argument, ...] per line and answers {"ok": ...} or {"error": ...}. It is a process of its own because two Go
libraries in one are not supported.
"""

import base64
import ctypes
import hashlib
import json
import struct
import sys

import loopback

INSTANCE = 0
BINARY = 0xB1
LIMIT = 50 << 20
CHANNELS = 100
QUEUED = 50


def pattern(size, seed):
    """Bytes that both sides can make: a block that repeats, so that 20 MiB need no transport of their own."""
    block = hashlib.sha256(str(seed).encode()).digest() * 1024
    return (block * (size // len(block) + 1))[:size]


def summary(data):
    return {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}


class Library:
    def __init__(self, path):
        self.functions = ctypes.CDLL(path)
        names = ["CreateNode", "ConnectTo", "DisconnectFrom", "GetConnectedPeers", "GetRendezvousPeers",
                 "SendMessageToPeer", "SubscribeToTopic", "UnsubscribeFromTopic", "PopMessages", "GetTopicPeers",
                 "CloseNode", "GetWebRTCConnections", "UpdateICEConfig"]
        if hasattr(self.functions, "InitiateWebRTCConnection"):  # theirs has it inside only
            names += ["InitiateWebRTCConnection", "CloseWebRTCConnection"]
        for name in names:
            getattr(self.functions, name).restype = ctypes.c_void_p
        self.functions.FreeString.argtypes = [ctypes.c_void_p]
        self.functions.InitializeLibrary.restype = None
        self.functions.InitializeLibrary(2, CHANNELS, QUEUED, LIMIT, b"{}")

    def raw(self, name, *arguments):
        encoded = [a.encode() if isinstance(a, str) else a for a in arguments]
        pointer = getattr(self.functions, name)(INSTANCE, *encoded)
        if not pointer:
            raise RuntimeError(f"{name} answered NULL")
        try:
            if ctypes.string_at(pointer, 1)[0] != BINARY:
                return ctypes.string_at(pointer)
            total = struct.unpack(">xI", ctypes.string_at(pointer, 5))[0]
            return ctypes.string_at(pointer, total)
        finally:
            self.functions.FreeString(pointer)

    def call(self, name, *arguments):
        answer = json.loads(self.raw(name, *arguments))
        if answer["state"] == "Error":
            raise RuntimeError(f"{name}: {answer}")
        return answer.get("message")

    def send(self, channel, data):
        return self.call("SendMessageToPeer", channel, data, len(data))

    def pattern(self, channel, size, seed):
        return self.send(channel, pattern(size, seed))

    def hexadecimal(self, channel, text):
        return self.send(channel, bytes.fromhex(text))

    def pop(self):
        """[{"from", "length", "sha256"}] of the oldest message of each channel."""
        answer = self.raw("PopMessages")
        if answer[0] == BINARY:
            return [{"from": sender.decode(), **summary(data)} for sender, _, data in frames(answer)]
        messages = json.loads(answer)
        if isinstance(messages, dict):
            if messages["state"] != "Empty":
                raise RuntimeError(f"PopMessages: {messages}")
            return []
        return [{"from": m["from"], **summary(base64.b64decode(m["data"]))} for m in messages]

    def pop_protocols(self):
        """What the oldest message of each channel came by; binary layout only."""
        answer = self.raw("PopMessages")
        return [protocol.decode() for _, protocol, _ in frames(answer)] if answer[0] == BINARY else []


def frames(answer):
    count = struct.unpack_from(">I", answer, 5)[0]
    at = 9
    for _ in range(count):
        parts = []
        for _ in range(3):
            length = struct.unpack_from(">I", answer, at)[0]
            parts.append(answer[at + 4:at + 4 + length])
            at += 4 + length
        yield tuple(parts)
    if at != len(answer):
        raise RuntimeError(f"{len(answer) - at} bytes follow the last message")


def main():
    loopback.join(int(sys.argv[2]))
    library = Library(sys.argv[1])
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            own = getattr(library, name, None)
            answer = {"ok": own(*arguments) if own else library.call(name, *arguments)}
        except Exception as problem:
            answer = {"error": f"{type(problem).__name__}: {problem}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
