"""The structures of include/peerbus.h that the programs read, as ctypes sees them."""

import ctypes
from typing import ClassVar


class Message(ctypes.Structure):
    """peerbus_message"""

    _fields_: ClassVar = [
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_uint64),
        ("sender", ctypes.c_char_p),
        ("channel", ctypes.c_char_p),
        ("protocol", ctypes.c_char_p),
        ("gap", ctypes.c_uint64),
        ("node_id", ctypes.c_char_p),
        ("flags", ctypes.c_uint64),
        ("id", ctypes.c_uint64),
        ("reserved", ctypes.c_uint64),
    ]


class Batch(ctypes.Structure):
    """peerbus_batch"""

    _fields_: ClassVar = [
        ("messages", ctypes.POINTER(Message)),
        ("count", ctypes.c_uint64),
        ("block", ctypes.c_void_p),
        ("block_size", ctypes.c_uint64),
    ]


class Slice(ctypes.Structure):
    """peerbus_slice"""

    _fields_: ClassVar = [("data", ctypes.c_void_p), ("size", ctypes.c_size_t)]


class Publication(ctypes.Structure):
    """peerbus_publication"""

    _fields_: ClassVar = [("id", ctypes.c_uint64), ("peers", ctypes.c_uint64), ("missed", ctypes.c_uint64)]
