"""pyzmq with CURVE, DEALER to DEALER over TCP; large messages without a copy."""

from __future__ import annotations

from typing import Any, Callable, List

from endpoint import Endpoint, Lane, serve

LANES = [Lane("pyzmq CURVE", optional=True, kind="peer")]
_NO_COPY_FROM = 64 << 10
_WAIT_MS = 60_000
_LINGER_MS = 2000


class CurveEndpoint(Endpoint):
    def __init__(self) -> None:
        import zmq

        self._zmq = zmq
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.RCVTIMEO, _WAIT_MS)
        self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
        self._public, secret = zmq.curve_keypair()
        self._socket.curve_publickey, self._socket.curve_secretkey = self._public, secret

    def listen(self) -> Any:
        self._socket.curve_server = True
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        return [f"tcp://127.0.0.1:{port}", self._public.decode()]

    def connect(self, address: Any) -> None:
        self._socket.curve_serverkey = address[1].encode()
        self._socket.connect(address[0])

    def sender(self) -> Callable[[bytes], object]:
        send = self._socket.send
        return lambda message: send(message, copy=len(message) < _NO_COPY_FROM)

    def take(self) -> List[Any]:
        message = self._socket.recv(copy=False)
        return [message.bytes if len(message) < _NO_COPY_FROM else message.buffer]

    def close(self) -> None:
        self._socket.close()
        self._context.term()


if __name__ == "__main__":
    serve(CurveEndpoint())
