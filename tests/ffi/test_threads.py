"""The library's own threads: how exactly the kernel keeps their sleeps (export/threads.c)."""

import json
import subprocess
import sys

from harness import ROOT

PROGRAM = """
import json, os, threading, peerbus

def slacks():
    return {task: int(open(f"/proc/{task}/timerslack_ns").read()) for task in os.listdir("/proc/self/task")}

usual = slacks()[str(threading.get_native_id())]
with peerbus.Node(listen_ips=["127.0.0.1"], nat={"port_mapping": False}) as node:
    node.peers()
    print(json.dumps([usual, slacks().pop(str(threading.get_native_id())), sorted(slacks().values())]))
"""


def test_one_thread_of_go_sleeps_loosely_and_the_others_exactly_and_those_of_the_host_as_ever():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True)
    usual, of_the_host, all_threads = json.loads(run.stdout)
    assert of_the_host == usual
    assert sum(slack > usual for slack in all_threads) == 1
    assert sum(slack < usual for slack in all_threads) >= 2
