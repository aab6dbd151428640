"""A peer on cffi in ABI mode: cffi_peer.py <library> <directory> listen|dial. Who dials reads the addresses from stdin."""

import json
import sys

import cffi
import harness

WAIT_MS = 20000

ffi = cffi.FFI()
header = (harness.ROOT / "include" / "peerbus.h").read_text()
ffi.cdef("\n".join(line for line in header.splitlines() if not line.startswith("#")))
library = ffi.dlopen(sys.argv[1])


def answer(returned):
    envelope = json.loads(ffi.string(returned))
    library.FreeString(returned)
    assert envelope["state"] == "Success", envelope
    return envelope["message"]


def check(code):
    assert code >= 0, ffi.string(library.peerbus_last_error()).decode()
    return code


def send(channel, data):
    check(library.peerbus_send(0, channel.encode(), ffi.from_buffer(data), len(data), WAIT_MS))
    check(library.peerbus_flush(0, channel.encode(), WAIT_MS))


def receive():
    out = ffi.new("peerbus_batch **")
    assert check(library.peerbus_receive(0, ffi.NULL, 1, 0, WAIT_MS, out)) == 1
    message = out[0].messages[0]
    taken = ffi.string(getattr(message, "from")).decode(), bytes(ffi.buffer(message.data, message.size))
    library.peerbus_batch_free(out[0])
    return taken


def main(directory, role):
    library.InitializeLibrary(1, 0, 0, 0, ffi.NULL)
    created = answer(library.CreateNode(0, json.dumps(harness.node_config(directory)).encode()))
    own = created["addresses"][0].rsplit("/", 1)[1]
    print(json.dumps(created["addresses"]), flush=True)
    if role == "listen":
        peer, data = receive()
        send(f"{own}::dm:{peer}-echo", data[::-1])
    else:
        peer = answer(library.ConnectTo(0, sys.stdin.readline().encode()))["ID"]
        data = bytes(range(256)) * 1000
        send(f"{own}::dm:{peer}-echo", data)
        assert receive() == (peer, data[::-1])
    answer(library.CloseNode(0))


main(*sys.argv[2:])
