"""Threads of the host that sleep in a receive: each message wakes one, whoever else comes and goes."""

import ctypes
import threading
import time

import peerbus

WAIT_MS = 30_000
THREADS = 16
CLOSED = -4  # PEERBUS_CLOSED
ASLEEP = "0x1"


class Receiver(threading.Thread):
    """Takes one message with the C function, and keeps the code."""

    def __init__(self, node, channel=None, timeout_ms=WAIT_MS):
        super().__init__(daemon=True)
        live = node._core.live
        self.native, self.instance = live.native, live.instance
        self.channel = None if channel is None else channel.encode()
        self.timeout_ms = timeout_ms
        self.code = None
        self.calls = False
        self.start()

    def run(self):
        batch = ctypes.c_void_p()
        self.calls = True
        receive = self.native.c.peerbus_receive
        self.code = receive(self.instance, self.channel, 1, 0, self.timeout_ms, ctypes.byref(batch))
        self.native.c.peerbus_batch_free(batch)

    def is_asleep(self):
        """Whether the kernel says that it waits for the word in its bed (export/sleep.c) to be another one."""
        with open(f"/proc/self/task/{self.native_id}/syscall") as state:
            return self.calls and state.read().split()[3:4] == [ASLEEP]

    def ends_with(self, code):
        self.join(WAIT_MS / 1000)
        return self.code == code


def test_each_message_wakes_one_of_many_threads(nodes):
    a, b = nodes
    for _ in range(5):  # the threads of the next turn sleep where those of this one did
        receivers = [Receiver(b) for _ in range(THREADS)]
        for number in range(THREADS):
            a.send(b.peer_id, b"%d" % number)
        assert all(receiver.ends_with(1) for receiver in receivers)
    assert b.waiting == 0


def test_a_thread_that_waits_for_a_channel_sleeps_on_while_others_get_messages(nodes):
    a, b = nodes
    busy, quiet = a.direct_channel(b.peer_id, "busy"), a.direct_channel(b.peer_id, "quiet")
    apart = Receiver(b, quiet)
    for number in range(THREADS):
        receiver = Receiver(b, busy)
        a.send(busy, b"%d" % number)
        assert receiver.ends_with(1)
    assert apart.is_alive()
    a.send(quiet, b"at last")
    assert apart.ends_with(1)


def test_threads_whose_time_is_over_take_nothing_from_those_that_wait(nodes):
    a, b = nodes
    for _ in range(20):
        hasty = [Receiver(b, timeout_ms=1) for _ in range(4)]
        patient = Receiver(b)
        a.send(b.peer_id, b"one")
        for receiver in hasty:
            receiver.join()
        taken = sum(receiver.code for receiver in hasty)
        if taken == 0:
            assert patient.ends_with(1)
        else:
            assert taken == 1
            a.send(b.peer_id, b"another")
            assert patient.ends_with(1)


def test_closing_a_node_wakes_all_that_sleep_although_its_number_is_used_again(nodes):
    _, b = nodes
    receivers = [Receiver(b) for _ in range(THREADS)]
    end = time.monotonic() + WAIT_MS / 1000
    while not all(receiver.is_asleep() for receiver in receivers):  # who came later would be one of the next node's
        assert time.monotonic() < end
        time.sleep(0.001)
    b.close()
    with peerbus.Node(config={"listen_ips": ["127.0.0.1"], "nat": {"port_mapping": False}}):
        assert all(receiver.ends_with(CLOSED) for receiver in receivers)
