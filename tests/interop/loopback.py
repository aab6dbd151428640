"""A network that holds nothing but a loopback interface, for programs whose library looks for routers on its own."""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys

NEW_USER, NEW_NET = 0x10000000, 0x40000000
GET_FLAGS, SET_FLAGS, UP = 0x8913, 0x8914, 1


class Unavailable(Exception):
    """This machine does not let the tests make a network of their own."""


def check(result, what):
    if result != 0:
        raise Unavailable(f"{what}: {os.strerror(ctypes.get_errno())}")


def leave(kinds):
    check(ctypes.CDLL(None, use_errno=True).unshare(kinds), "unshare")


def raise_loopback():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = bytearray(struct.pack("16sh22x", b"lo", 0))
        fcntl.ioctl(sock, GET_FLAGS, request)
        flags = struct.unpack_from("16sh", request)[1]
        fcntl.ioctl(sock, SET_FLAGS, struct.pack("16sh22x", b"lo", flags | UP))


def join(holder):
    """Moves this process into the network of the process `holder`."""
    libc = ctypes.CDLL(None, use_errno=True)
    for kind, flag in ("user", NEW_USER), ("net", NEW_NET):
        theirs, own = f"/proc/{holder}/ns/{kind}", f"/proc/self/ns/{kind}"
        if os.readlink(theirs) == os.readlink(own):
            continue
        with open(theirs) as namespace:
            check(libc.setns(namespace.fileno(), flag), f"joining {theirs}")


def hold():
    """Program: makes the network, says so, and keeps it until its input ends."""
    try:
        leave(NEW_NET if os.geteuid() == 0 else NEW_USER | NEW_NET)
        raise_loopback()
    except (Unavailable, OSError) as problem:
        print(problem, flush=True)
        return
    print("ready", flush=True)
    sys.stdin.read()


class Network:
    """`with Network() as network`: peers join(network.holder)."""

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        answer = self.process.stdout.readline().strip()
        if answer != "ready":
            self.__exit__()
            raise Unavailable(answer)
        self.holder = self.process.pid
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


if __name__ == "__main__":
    hold()
