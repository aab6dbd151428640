"""Python on a plain TCP socket, without encryption: what the interpreter and the kernel alone allow."""

from __future__ import annotations

import argparse
import socket
import struct
from typing import Any, Callable, List

from endpoint import Endpoint, Lane, serve

LANES = [
    Lane("raw TCP, plain", kind="limit"),
    Lane("raw TCP, plain, 64 KiB batches", ["--batch"], measures=("one_way",), sizes=(100, 1024), kind="limit"),
]
_LENGTH = struct.Struct(">I")
_BUFFER = 64 << 10


class Frames:
    """Cuts the bytes of a socket into messages. A large message is received into a buffer of its own."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._filled = 0

    def take(self) -> List[memoryview]:
        messages: List[memoryview] = []
        while not messages:
            received = self._source.recv_into(self._view[self._filled:])
            if not received:
                raise ConnectionError("the peer closed the connection")
            self._filled += received
            self._cut(messages)
        return messages

    def _cut(self, messages: List[memoryview]) -> None:
        start, whole = 0, memoryview(bytes(self._view[:self._filled]))
        while self._filled - start >= _LENGTH.size:
            size = _LENGTH.unpack_from(whole, start)[0]
            start += _LENGTH.size
            if self._filled - start < size:
                if size + _LENGTH.size > _BUFFER:
                    messages.append(self._large(whole[start:], size))
                    self._filled = 0
                    return
                start -= _LENGTH.size
                break
            messages.append(whole[start:start + size])
            start += size
        rest = self._filled - start
        self._view[:rest] = whole[start:]
        self._filled = rest

    def _large(self, begun: memoryview, size: int) -> memoryview:
        message = memoryview(bytearray(size))
        message[:len(begun)] = begun
        filled = len(begun)
        while filled < size:
            received = self._source.recv_into(message[filled:])
            if not received:
                raise ConnectionError("the peer closed the connection")
            filled += received
        return message


class TCPEndpoint(Endpoint):
    def __init__(self, batch: bool) -> None:
        self._batch = batch
        self._gathered = bytearray()
        self._listener: Any = None
        self._socket: Any = None

    def listen(self) -> Any:
        self._listener = socket.create_server(("127.0.0.1", 0))
        return list(self._listener.getsockname())

    def connect(self, address: Any) -> None:
        self._use(socket.create_connection(tuple(address)))

    def accept(self) -> None:
        if self._socket is None:
            self._use(self._listener.accept()[0])

    def _use(self, connected: socket.socket) -> None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self._frames = Frames(connected)

    def sender(self) -> Callable[[bytes], object]:
        return self._gather if self._batch else self._send_one

    def _send_one(self, message: bytes) -> None:
        header = _LENGTH.pack(len(message))
        if len(message) <= _BUFFER:
            self._socket.sendall(header + bytes(message))
        else:
            self._socket.sendall(header)
            self._socket.sendall(message)

    def _gather(self, message: bytes) -> None:
        self._gathered += _LENGTH.pack(len(message))
        self._gathered += message
        if len(self._gathered) >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        if self._gathered:
            self._socket.sendall(self._gathered)
            self._gathered.clear()

    def take(self) -> List[memoryview]:
        return self._frames.take()

    def close(self) -> None:
        for end in (self._socket, self._listener):
            if end is not None:
                end.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", action="store_true")
    serve(TCPEndpoint(parser.parse_args().batch))
