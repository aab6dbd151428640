"""A library made of Python memory, for tests of what handles its batches."""

import ctypes
import os
import struct


class FakeLibrary:
    """Hands over the batches that a test put into ``waiting``: lists of (channel, payload)."""

    def __init__(self):
        self.c = self
        self.freed = []
        self.kept = []
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
        self.kept.append(ctypes.create_string_buffer(content, max(1, len(content))))
        return ctypes.addressof(self.kept[-1])

    def batch(self, *payloads, channels=None, gap=0):
        sender, protocol = self.memory(b"peer\0"), self.memory(b"protocol\0")
        rows = [
            struct.pack("=10Q", self.memory(data), len(data), sender, self.memory(channel + b"\0"), protocol, gap, 0, 0, 0, 0)
            for data, channel in zip(payloads, channels or [b"channel"] * len(payloads))
        ]
        table = self.memory(b"".join(rows))
        return self.memory(struct.pack("=4Q", table, len(rows), 0, 0))
