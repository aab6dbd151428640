"""A library made of Python memory, for tests of what handles its batches."""

import ctypes
import os
import struct

from peerbus import Message, _compiled

_for_ever = []  # what messages may still refer to when the library of their test is gone


NOWHERE = {
    name: 0
    for name in (
        "batch_free", "send", "send_lent", "channel_send", "channel_send_lent", "channel_send_batch_lent",
        "publish_batch",
    )
}
"""Addresses of the library's functions for an accelerator that calls none of them."""


class UncompiledCalls:
    def messages(self, batch):
        return None


def compiled_calls(free):
    """Calls of the accelerator that frees batches by a Python function."""
    pointer = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(free)
    address = ctypes.cast(pointer, ctypes.c_void_p).value
    _for_ever.append(pointer)
    return _compiled.accelerator.Calls(Message, **{**NOWHERE, "batch_free": address})


class FakeLibrary:
    """Hands over the batches that a test put into ``waiting``: lists of (channel, payload)."""

    def __init__(self, compiled=_compiled.accelerator is not None):
        self.c = self
        self.calls = UncompiledCalls()
        if compiled:
            self.calls = compiled_calls(self.peerbus_batch_free)
        self.freed = []
        self.waiting = []
        self.asked = []
        self.reader, self.writer = os.pipe()

    def close(self):
        os.close(self.reader)
        os.close(self.writer)

    def check(self, result):
        return result

    def peerbus_wake_descriptor(self, instance, what):
        return self.reader

    def peerbus_receive(self, instance, channel, most, most_bytes, timeout_ms, out):
        self.asked.append((channel, most))
        if not self.waiting:
            return 0
        rows = self.waiting.pop(0)
        out._obj.value = self.batch(*[data for _, data in rows], channels=[name for name, _ in rows])
        return len(rows)

    def peerbus_batch_free(self, batch):
        self.freed.append(batch)

    free_small = peerbus_batch_free

    def memory(self, content):
        _for_ever.append(ctypes.create_string_buffer(content, max(1, len(content))))
        return ctypes.addressof(_for_ever[-1])

    def batch(self, *payloads, channels=None, gap=0):
        sender, protocol = self.memory(b"peer\0"), self.memory(b"protocol\0")
        rows = [
            struct.pack("=10Q", self.memory(data), len(data), sender, self.memory(channel + b"\0"), protocol, gap, 0, 0, 0, 0)
            for data, channel in zip(payloads, channels or [b"channel"] * len(payloads))
        ]
        table = self.memory(b"".join(rows))
        return self.memory(struct.pack("=4Q", table, len(rows), 0, 0))
