"""Proxies between two processes that harm what passes: they kill, reset, stall, slow down, let overtake, or leave half open."""

import contextlib
import random
import select
import socket
import struct
import threading
import time

CHUNK = 16 * 1024
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST
SHUFFLED = 8  # datagrams that overtake each other
WAKE_S = 0.1  # how often a thread that waits for bytes looks whether it is over


def end_connection(end, by_reset):
    """A reset leaves once the thread that reads the end has noticed; after a shutdown it would come behind an orderly end."""
    with contextlib.suppress(OSError):
        if by_reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        else:
            end.shutdown(socket.SHUT_RDWR)
    end.close()


def receive(end):
    """What comes next from an end, b"" at its end, or None when this side closed it."""
    try:
        while not select.select([end], [], [], WAKE_S)[0]:
            pass
        return end.recv(CHUNK)
    except (OSError, ValueError):
        return None


class Threads:
    """Those of a proxy, which ends them and waits for that."""

    def __init__(self):
        self._lock = threading.Lock()
        self._all = []

    def start(self, function, *arguments):
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        with self._lock:
            self._all.append(thread)
        thread.start()

    def join(self):
        while self._all:  # they may start others
            thread = self._all.pop(0)
            thread.join(10)
            assert not thread.is_alive(), "a thread of the proxy does not end"


class Connection:
    """A forwarded connection: near is the dialler's end, far the listener's."""

    def __init__(self, near, far):
        self.near, self.far = near, far
        self.held = threading.Event()  # what is read waits for due
        self.due = threading.Event()
        self.late = {near: [], far: []}  # what was read from an end and is held
        self.orphan = None  # the end that believes in a connection whose other end is gone
        self._lock = threading.Lock()
        self._directions = 2  # that are still forwarded

    def ends(self):
        return self.near, self.far

    def end(self, by_reset):
        self.due.set()
        for end in self.ends():
            end_connection(end, by_reset)

    def direction_ended(self):
        """Closes the connection when it was the last one."""
        with self._lock:
            self._directions -= 1
            last = self._directions == 0
        if last:
            self.end(by_reset=False)

    def cut(self, survivor):
        """Resets one end; the other ("near" or "far") is not told before what is held is due."""
        end_connection(self.split(survivor)[1], by_reset=True)

    def split(self, survivor):
        """The surviving end ("near" or "far") and the other one."""
        return self.ends() if survivor == "near" else (self.far, self.near)


class TCPProxy:
    """Forwards connections to a port on this machine."""

    def __init__(self, target):
        self._target = target
        self._threads = Threads()
        self._lock = threading.Lock()
        self._connections = []
        self._every = []  # also those that were harmed
        self._closed = False
        self._flowing = threading.Event()
        self._flowing.set()
        self.pause_s = 0.0  # after each chunk: a slow link
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads.start(self._accept)

    def address(self, peer_id):
        return f"/ip4/127.0.0.1/tcp/{self.port}/p2p/{peer_id}"

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                end_connection(near, by_reset=True)
                continue
            self._forward_both(Connection(near, far))

    def _forward_both(self, connection):
        with self._lock:
            self._every.append(connection)
            if self._closed:
                connection.end(by_reset=False)
                return
            self._connections.append(connection)
        near, far = connection.ends()
        self._threads.start(self._forward, connection, near, far)
        self._threads.start(self._forward, connection, far, near)

    def _forward(self, connection, one, other):
        late = connection.late[one]
        with contextlib.suppress(OSError):
            while data := receive(one):
                self._flowing.wait()
                if self.pause_s:
                    time.sleep(self.pause_s)
                if connection.held.is_set():
                    late.append(data)
                    continue
                try:
                    other.sendall(data)
                except OSError:
                    if one is not connection.orphan:
                        break
        if connection.held.is_set():
            connection.due.wait()
        with contextlib.suppress(OSError):
            other.sendall(b"".join(late))
        for end in connection.ends():
            if end is not connection.orphan:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        connection.direction_ended()

    def _take(self):
        with self._lock:
            connections, self._connections = self._connections, []
        return connections

    def kill(self):
        """Every connection ends, in an orderly way or by a reset."""
        by_reset = random.random() < 0.5
        for connection in self._take():
            connection.end(by_reset)

    def half_open(self, survivor):
        """Every connection is reset at one end, and the other ("near" or "far") is not told: what it writes vanishes."""
        for connection in self._take():
            connection.orphan = connection.split(survivor)[0]
            connection.cut(survivor)

    def reorder(self, survivor, seconds):
        """Every connection is reset at one end; what was on its way reaches the other ("near" or "far") only after what came
        on later connections."""
        connections = self.hold()
        time.sleep(0.05)
        for connection in connections:
            connection.cut(survivor)
        time.sleep(seconds)
        for connection in connections:
            connection.due.set()

    def hold(self):
        """What the present connections carry waits until they are due."""
        connections = self._take()
        for connection in connections:
            connection.held.set()
        return connections

    @contextlib.contextmanager
    def stalled(self):
        """Nothing passes within the block, and nobody is told."""
        self._flowing.clear()
        try:
            yield
        finally:
            self._flowing.set()

    def stall(self, seconds):
        """Nothing passes for a while, and nobody is told."""
        with self.stalled():
            time.sleep(seconds)

    def slow(self, seconds):
        """A link of about 1.6 MB/s for a while."""
        self.pause_s = 0.01
        time.sleep(seconds)
        self.pause_s = 0.0

    def close(self):
        with self._lock:
            self._closed = True
        self._flowing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        with self._lock:
            every = list(self._every)
        for connection in every:
            connection.end(by_reset=False)  # wakes also who waits for room
        self._threads.join()


class Route:
    """The proxy's socket for the datagrams of one sender."""

    def __init__(self, sender):
        self.sender = sender
        self.over = threading.Event()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(WAKE_S)
        self.socket.bind(("127.0.0.1", 0))


class UDPProxy:
    """Forwards datagrams to a port on this machine, one socket per sender."""

    def __init__(self, target):
        self._target = ("127.0.0.1", target)
        self._threads = Threads()
        self._lock = threading.Lock()
        self._routes = {}
        self._waiting = []  # datagrams that others overtake
        self._over = threading.Event()
        self.loss = 0.0
        self._shuffling = False
        self._mute = None  # the side whose datagrams vanish
        self._silent_until = 0.0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(WAKE_S)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._threads.start(self._receive)

    def address(self, peer_id):
        return f"/ip4/127.0.0.1/udp/{self.port}/quic-v1/p2p/{peer_id}"

    def _pass(self, side, through, data, to):
        """Sends a datagram of a side on, unless it is one that gets lost, or has to wait for others."""
        if side == self._mute or time.monotonic() < self._silent_until or random.random() < self.loss:
            return
        with self._lock:
            self._waiting.append((through, data, to))
            if self._shuffling and len(self._waiting) < SHUFFLED:
                return
            leaving, self._waiting = self._waiting, []
        random.shuffle(leaving)
        for through, data, to in leaving:
            with contextlib.suppress(OSError):
                through.sendto(data, to)

    def _receive(self):
        while not self._over.is_set():
            try:
                data, sender = self._socket.recvfrom(65535)
            except OSError:
                continue
            self._pass("near", self._route(sender).socket, data, self._target)
        self._socket.close()

    def _route(self, sender):
        with self._lock:
            route = self._routes.get(sender)
            if route is None:
                route = self._routes[sender] = Route(sender)
                self._threads.start(self._answer, route)
            return route

    def _answer(self, route):
        while not (route.over.is_set() or self._over.is_set()):
            try:
                data, _ = route.socket.recvfrom(65535)
            except OSError:
                continue
            if not route.over.is_set():
                self._pass("far", self._socket, data, route.sender)
        route.socket.close()

    def kill(self):
        """Later datagrams come from other ports, as behind a router that forgot: the peer seems to move."""
        with self._lock:
            routes, self._routes = list(self._routes.values()), {}
        for route in routes:
            route.over.set()

    def half_open(self, survivor):
        """What one side ("near" or "far") sends vanishes for a while, and what the other sends arrives."""
        self._mute = survivor
        time.sleep(0.5)
        self._mute = None

    def reorder(self, survivor, seconds):
        """Datagrams of both sides overtake each other for a while."""
        self._shuffling = True
        time.sleep(seconds)
        self._shuffling = False

    def stall(self, seconds):
        """Every datagram is lost for a while."""
        self._silent_until = time.monotonic() + seconds
        time.sleep(seconds)

    def slow(self, seconds):
        """One datagram of twenty is lost."""
        self.loss = 0.05
        time.sleep(seconds)
        self.loss = 0.0

    def close(self):
        self._over.set()
        self._threads.join()
