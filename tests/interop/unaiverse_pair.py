"""Drives unaiverse_peer.py: one node of either library in a process of its own."""

import json
import subprocess
import sys
import time
from pathlib import Path

CALL_SECONDS = 90
WAIT_SECONDS = 60
PAUSE_SECONDS = 0.01


class Peer:
    def __init__(self, library, holder, config):
        command = [sys.executable, str(Path(__file__).with_name("unaiverse_peer.py")), str(library), str(holder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.created = self.call("CreateNode", json.dumps(config))
        self.addresses = self.created["addresses"]
        self.id = self.addresses[0].rsplit("/", 1)[1]

    def call(self, *request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the process ended in {request[0]} with {self.process.wait(CALL_SECONDS)}"
        answer = json.loads(line)
        assert "ok" in answer, answer["error"]
        return answer["ok"]

    def connect(self, other):
        return self.call("ConnectTo", json.dumps(other.addresses))

    def channel_to(self, other, suffix="~"):
        return f"{self.id}::dm:{other.id}-{suffix}"

    def receive(self, count):
        """Exactly that many messages."""
        got = []
        until(f"{count} messages arrive", lambda: got.extend(self.call("pop")) or len(got) >= count)
        assert len(got) == count
        return got

    def knows(self, other):
        return other.id in [peer["id"] for peer in self.call("GetConnectedPeers") or []]

    def close(self):
        try:
            if self.process.poll() is None:
                self.call("CloseNode")
        finally:
            self.process.stdin.close()
            try:
                self.process.wait(CALL_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()


def until(what, happened):
    """Waits for what no wake-up of both libraries announces."""
    end = time.monotonic() + WAIT_SECONDS
    while not happened():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(PAUSE_SECONDS)
