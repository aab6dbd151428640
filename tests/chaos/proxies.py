"""Proxies between two processes that harm what passes: they kill, reset, stall, slow down, or leave half open."""

import contextlib
import random
import socket
import struct
import threading
import time

CHUNK = 16 * 1024
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST


def end_connection(end, by_reset):
    with contextlib.suppress(OSError):
        if by_reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        end.shutdown(socket.SHUT_RDWR)
    end.close()


class TCPProxy:
    """Forwards connections to a port on this machine."""

    def __init__(self, target):
        self._target = target
        self._lock = threading.Lock()
        self._connections = []
        self._orphans = set()  # ends whose connection is half open
        self._flowing = threading.Event()
        self._flowing.set()
        self.pause_s = 0.0  # after each chunk: a slow link
        self.harms = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def address(self, peer_id):
        return f"/ip4/127.0.0.1/tcp/{self.port}/p2p/{peer_id}"

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            with self._lock:
                self._connections.append((near, far))
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._forward, args=(one, other), daemon=True).start()

    def _forward(self, one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(CHUNK):
                self._flowing.wait()
                if self.pause_s:
                    time.sleep(self.pause_s)
                try:
                    other.sendall(data)
                except OSError:
                    if one not in self._orphans:
                        break
        for end in {one, other} - self._orphans:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def kill(self):
        """Every connection ends, in an orderly way or by a reset."""
        self.harms += 1
        with self._lock:
            connections, self._connections = self._connections, []
        by_reset = random.random() < 0.5
        for pair in connections:
            for end in pair:
                end_connection(end, by_reset)

    def half_open(self, survivor):
        """Every connection is reset at one end, and the other ("near" or "far") is not told: what it writes vanishes."""
        self.harms += 1
        with self._lock:
            connections, self._connections = self._connections, []
        for near, far in connections:
            alive, dead = (near, far) if survivor == "near" else (far, near)
            self._orphans.add(alive)
            end_connection(dead, by_reset=True)

    def stall(self, seconds):
        """Nothing passes for a while, and nobody is told."""
        self.harms += 1
        self._flowing.clear()
        time.sleep(seconds)
        self._flowing.set()

    def slow(self, seconds):
        """A link of about 1.6 MB/s for a while."""
        self.harms += 1
        self.pause_s = 0.01
        time.sleep(seconds)
        self.pause_s = 0.0

    def close(self):
        self._flowing.set()
        self._listener.close()
        self.kill()
        for end in self._orphans:
            end_connection(end, by_reset=True)


class UDPProxy:
    """Forwards datagrams to a port on this machine, one socket per sender."""

    def __init__(self, target):
        self._target = ("127.0.0.1", target)
        self._lock = threading.Lock()
        self._routes = {}
        self._closed = False
        self.loss = 0.0
        self.harms = 0
        self._silent_until = 0.0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._receive, daemon=True).start()

    def address(self, peer_id):
        return f"/ip4/127.0.0.1/udp/{self.port}/quic-v1/p2p/{peer_id}"

    def _passes(self):
        return time.monotonic() >= self._silent_until and random.random() >= self.loss

    def _receive(self):
        while not self._closed:
            try:
                data, sender = self._socket.recvfrom(65535)
                if self._passes():
                    self._route(sender).sendto(data, self._target)
            except OSError:
                continue

    def _route(self, sender):
        with self._lock:
            route = self._routes.get(sender)
            if route is None:
                route = self._routes[sender] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                route.bind(("127.0.0.1", 0))
                threading.Thread(target=self._answer, args=(route, sender), daemon=True).start()
            return route

    def _answer(self, route, sender):
        while not self._closed:
            try:
                data, _ = route.recvfrom(65535)
                if self._passes():
                    self._socket.sendto(data, sender)
            except OSError:
                return

    def kill(self):
        """Later datagrams come from other ports, as behind a router that forgot: the peer seems to move."""
        self.harms += 1
        with self._lock:
            routes, self._routes = list(self._routes.values()), {}
        for route in routes:
            route.close()

    def stall(self, seconds):
        """Every datagram is lost for a while."""
        self.harms += 1
        self._silent_until = time.monotonic() + seconds
        time.sleep(seconds)

    def slow(self, seconds):
        """One datagram of twenty is lost."""
        self.harms += 1
        self.loss = 0.05
        time.sleep(seconds)
        self.loss = 0.0

    def close(self):
        self._closed = True
        self.kill()
        self._socket.close()
