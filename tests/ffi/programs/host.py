"""The same program as host.c, in Python on ctypes alone. Arguments: the library."""

import ctypes
import select
import sys
import threading
import zlib

from structures import Batch, Publication, Slice

TEXT_FUNCTIONS = {
    "CreateNode", "GetNodeAddresses", "ConnectTo", "DisconnectFrom", "SubscribeToTopic", "UnsubscribeFromTopic", "GetTopicInfo"
}


library = ctypes.CDLL(sys.argv[1])
library.peerbus_last_error.restype = ctypes.c_char_p
library.peerbus_code_name.restype = ctypes.c_char_p
library.FreeString.argtypes = [ctypes.c_void_p]
library.peerbus_batch_free.argtypes = [ctypes.POINTER(Batch)]
library.peerbus_send.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
library.peerbus_publish.argtypes = library.peerbus_send.argtypes
library.peerbus_receive.argtypes = [
    ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_int, ctypes.POINTER(ctypes.POINTER(Batch))
]


def payload(size, seed):
    blocks = (bytes((i * 31 + block + seed) & 255 for i in range(256)) for block in range(min(256, size // 256 + 1)))
    cycle = b"".join(blocks)
    return (cycle * (size // len(cycle) + 1))[:size]


def answer(kind, *parts):
    print(kind, *parts, sep="\t", flush=True)


def text(function, *arguments):
    function.restype = ctypes.c_void_p
    pointer = function(*arguments)
    answer("text", ctypes.string_at(pointer).decode())
    library.FreeString(pointer)


def integer(code):
    answer("int", code, library.peerbus_last_error().decode() if code < 0 else "")


def control(name, instance, argument=""):
    function = getattr(library, name)
    text(function, int(instance), argument.encode()) if name in TEXT_FUNCTIONS else text(function, int(instance))


def send(instance, channel, count, size, seed, timeout):
    taken, code = 0, 0
    while taken < int(count):
        data = payload(int(size), int(seed) + taken)
        code = library.peerbus_send(int(instance), channel.encode(), data, len(data), int(timeout))
        if code < 0:
            break
        taken += 1
    answer("int", taken, library.peerbus_code_name(code).decode())


def send_now(instance, channel, size, seed):
    text(library.SendMessageToPeer, int(instance), channel.encode(), payload(int(size), int(seed)), int(size))


def publish(instance, channel, size, seed, timeout):
    data = payload(int(size), int(seed))
    integer(library.peerbus_publish(int(instance), channel.encode(), data, len(data), int(timeout)))


def publish_batch(instance, channel, count, size, seed, timeout):
    payloads = [payload(int(size), int(seed) + k) for k in range(int(count))]
    messages = (Slice * len(payloads))(*[(ctypes.cast(data, ctypes.c_void_p), len(data)) for data in payloads])
    out = (Publication * len(payloads))()
    published = library.peerbus_publish_batch(int(instance), channel.encode(), messages, len(payloads), int(timeout), out)
    if published < 1:
        return integer(published)
    answer("published", published, out[0].id, out[published - 1].peers, out[published - 1].missed)


def take(instance, channel, most, max_bytes, timeout):
    batch = ctypes.POINTER(Batch)()
    name = None if channel == "*" else channel.encode()
    return library.peerbus_receive(int(instance), name, int(most), int(max_bytes), int(timeout), ctypes.byref(batch)), batch


def receive(instance, channel, most, max_bytes, timeout):
    count, batch = take(instance, channel, most, max_bytes, timeout)
    if count < 0:
        return integer(count)
    parts = []
    for message in batch.contents.messages[:count] if count else ():
        view = (ctypes.c_ubyte * message.size).from_address(message.data)
        names = (message.sender.decode(), message.channel.decode(), message.protocol.decode())
        parts.append(" ".join(map(str, (*names, message.gap, message.size, zlib.crc32(view)))))
    library.peerbus_batch_free(batch)
    answer("batch", count, *parts)


def poll(descriptor, timeout):
    waiter = select.poll()
    waiter.register(int(descriptor), select.POLLIN)
    answer("int", len(waiter.poll(int(timeout))), "")


def end_a_wait(instance, timeout, how):
    got = []
    thread = threading.Thread(target=lambda: got.append(take(instance, "*", 1, 0, timeout)[0]))
    thread.start()
    if how == "close":
        library.CloseNode.restype = ctypes.c_void_p
        library.FreeString(library.CloseNode(int(instance)))
    else:
        library.peerbus_interrupt(int(instance))
    thread.join()
    answer("int", got[0], "")


COMMANDS = {
    "control": control,
    "events": lambda *numbers: text(library.PopEvents, *map(int, numbers)),
    "send": send,
    "send_now": send_now,
    "publish": publish,
    "publish_batch": publish_batch,
    "open": lambda instance, channel, options: text(library.OpenTopic, int(instance), channel.encode(), options.encode()),
    "receive": receive,
    "flush": lambda instance, channel, timeout: integer(library.peerbus_flush(int(instance), channel.encode(), int(timeout))),
    "interrupt": lambda instance: integer(library.peerbus_interrupt(int(instance))),
    "policy": lambda instance, channel, policy: integer(
        library.peerbus_set_policy(int(instance), channel.encode(), int(policy))
    ),
    "wake": lambda instance, what: integer(library.peerbus_wake_descriptor(int(instance), int(what))),
    "poll": poll,
    "end_a_wait": end_a_wait,
}

library.InitializeLibrary(8, 0, 0, 0, None)
for line in sys.stdin:
    command, *arguments = line.rstrip("\n").split("\t")
    COMMANDS[command](*arguments)
