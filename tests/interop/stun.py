"""Program: a STUN server that answers binding requests on loopback, for libraries that gather no loopback candidate themselves.

stun.py HOLDER joins the network of the process HOLDER, prints its port and serves until its input ends."""

import socket
import struct
import sys
import threading

import loopback

BINDING_REQUEST, BINDING_SUCCESS, XOR_MAPPED_ADDRESS = 0x0001, 0x0101, 0x0020
COOKIE = 0x2112A442
IPV4 = 1


def answer(request, host, port):
    """The success response to a binding request, None for anything else (RFC 8489)."""
    if len(request) < 20:
        return None
    kind, _, cookie = struct.unpack_from(">HHI", request)
    if kind != BINDING_REQUEST or cookie != COOKIE:
        return None
    address = struct.unpack(">I", socket.inet_aton(host))[0]
    mapped = struct.pack(">HHBBHI", XOR_MAPPED_ADDRESS, 8, 0, IPV4, port ^ COOKIE >> 16, address ^ COOKIE)
    return struct.pack(">HHI", BINDING_SUCCESS, len(mapped), COOKIE) + request[8:20] + mapped


def serve(sock):
    while True:
        request, (host, port) = sock.recvfrom(2048)
        response = answer(request, host, port)
        if response:
            sock.sendto(response, (host, port))


def main():
    loopback.join(int(sys.argv[1]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        threading.Thread(target=serve, args=(sock,), daemon=True).start()
        print(sock.getsockname()[1], flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
