"""What tests run in other processes."""

import os
import signal
import sys
import threading

from support import DEADLINE_S, LOCAL


def send_hello(addresses, peer_id):
    """Connects to a node, sends it one message and waits for the answer."""
    import peerbus

    with peerbus.Node(**LOCAL) as node:
        node.connect(addresses)
        node.send(peer_id, b"hello")
        answer = node.receive(timeout=DEADLINE_S)
        node.send(peer_id, b"got " + bytes(answer))
        node.flush(peer_id)


def peer_id_of_a_new_node():
    """The id of a node that lives for this call only."""
    import peerbus

    with peerbus.Node(**LOCAL) as node:
        return node.peer_id


def press_ctrl_c_when_waiting():
    """Sends SIGINT to this process once its main thread waits inside peerbus."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it starts with "&"
    main = threading.main_thread().ident
    pause = threading.Event()

    def watch():
        while True:
            frame = sys._current_frames()[main]
            while frame is not None:
                if frame.f_code.co_filename.endswith("_waiting.py") and frame.f_code.co_name == "wait":
                    os.kill(os.getpid(), signal.SIGINT)
                    return
                frame = frame.f_back
            pause.wait(0.001)

    threading.Thread(target=watch, daemon=True).start()
