"""A process that receives numbered messages on many channels and reports, as JSON lines, what it got and what it used."""

import json
import resource
import sys

import peerbus


def most_memory():
    """Of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    arguments = json.loads(sys.argv[1])
    with peerbus.Node(**arguments["node"]) as node:
        print(json.dumps({"id": node.peer_id}), flush=True)
        memory = most_memory()
        expected, wrong, gaps, waiting = {}, [], 0, 0
        for count in range(1, arguments["messages"] + 1):
            message = node.receive(timeout=arguments["patience"])
            number = int.from_bytes(bytes(message.data[:8]), "big")
            if number != expected.get(message.channel, 0):
                wrong.append([message.channel[-4:], number, expected.get(message.channel, 0)])
            expected[message.channel] = number + 1
            gaps += message.gap
            if count % 500 == 0:
                waiting = max(waiting, node.statistics()["received"]["waiting_bytes"])
        extra = len(node.receive_batch(timeout=0.5))
        report = {"wrong": wrong[:5], "gaps": gaps, "channels": len(expected), "extra": extra, "waiting_bytes": waiting,
                  "lost": node.statistics()["lost"], "memory": [memory, most_memory()]}
        print(json.dumps(report), flush=True)
        sys.stdin.readline()


main()
