"""pyzmq with CURVE over TCP: DEALER to DEALER, large messages without a copy; topics by XPUB and SUB."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any, Callable, Dict, List

from endpoint import Endpoint, Lane, receive_each, serve
from topic_endpoint import TopicEndpoint

LANES = [
    Lane("pyzmq CURVE", optional=True, kind="peer"),
    Lane("pyzmq CURVE, XPUB_NODROP", ["--topic", "nodrop"], ("topics",), optional=True, kind="peer"),
    Lane("pyzmq CURVE, XPUB defaults", ["--topic", "defaults"], ("topics",), optional=True, kind="peer"),
]
_NO_COPY_FROM = 64 << 10
_WAIT_MS = 60_000
_LINGER_MS = 2000
_BATCH = 256


class Curve:
    """A socket that is the CURVE server where it listens and the client where it connects."""

    def __init__(self, socket_type: str) -> None:
        import zmq

        self._zmq = zmq
        self._context = zmq.Context()
        self._socket = self._context.socket(getattr(zmq, socket_type))
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

    def close(self) -> None:
        self._socket.close()
        self._context.term()


class CurveEndpoint(Curve, Endpoint):
    def __init__(self) -> None:
        super().__init__("DEALER")

    def sender(self) -> Callable[[bytes], object]:
        send = self._socket.send
        return lambda message: send(message, copy=len(message) < _NO_COPY_FROM)

    def receive(self, size: int) -> Dict[str, Any]:
        if size < _NO_COPY_FROM:
            return receive_each(self._socket.recv, size)
        receive = partial(self._socket.recv, copy=False)
        return receive_each(lambda: receive().buffer, size)

    def take(self) -> List[Any]:
        return [self._socket.recv()]


class CurveTopic(Curve, TopicEndpoint):
    def __init__(self, mode: str) -> None:
        self._mode = mode
        super().__init__("XPUB")

    def listen(self) -> Any:
        if self._mode == "nodrop":
            self._socket.setsockopt(self._zmq.XPUB_NODROP, 1)
        return super().listen()

    def connect(self, address: Any) -> None:
        self._context.destroy()
        super().__init__("SUB")
        Curve.connect(self, address)

    def subscribe(self) -> None:
        self._socket.setsockopt(self._zmq.SUBSCRIBE, b"")

    def publish_one(self, message: bytes) -> bool:
        self._socket.send(message)  # with NODROP it waits for room
        return True

    def take(self, timeout: float) -> List[Any]:
        if not self._socket.poll(int(timeout * 1000)):
            return []
        messages, receive, at_once = [], self._socket.recv, self._zmq.NOBLOCK
        try:
            for _ in range(_BATCH):
                messages.append(receive(at_once))
        except self._zmq.Again:
            pass
        return messages


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--topic", choices=("nodrop", "defaults"))
    mode = parser.parse_args().topic
    serve(CurveTopic(mode) if mode else CurveEndpoint())
