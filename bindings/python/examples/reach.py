"""Reach a peer behind NAT: one side listens, perhaps through a relay, the other says something. See docs/reach.md.

    python reach.py listen [--relay ADDRESS]     prints the addresses to give to others, and echoes what comes
    python reach.py say ADDRESS WORDS            sends the words, prints the echo and which way the connection took

PEERBUS_TOKEN holds the token of the relay, if it has one.
"""

import argparse
import asyncio
import contextlib
import os

import peerbus


async def listen(arguments):
    relay = {"token": os.environ.get("PEERBUS_TOKEN", "")}
    async with peerbus.Node(arguments.identity_dir, ips=arguments.ip, relay=relay) as node:
        if arguments.relay:
            print("reserved until", await node.start_static_relay(arguments.relay))
        for address in node.addresses:
            print(address, flush=True)
        async for message in node.messages():
            print(message.sender, "says", bytes(message).decode(), flush=True)
            await node.send(message.sender, bytes(message))


async def say(arguments):
    async with peerbus.Node(arguments.identity_dir, ips=arguments.ip) as node:
        connection = await node.connect(arguments.address)
        await node.send(connection["ID"], " ".join(arguments.words).encode())
        echo = await node.receive(timeout=30)
        print(bytes(echo).decode(), "came back by", connection["Addrs"][0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identity-dir", help="directory of the node's key (default: a new identity each time)")
    parser.add_argument("--ip", action="append", help="address to listen on; repeatable (default: all)")
    commands = parser.add_subparsers(required=True)
    listener = commands.add_parser("listen")
    listener.add_argument("--relay", help="address of a relay, ending in /p2p/<id>")
    listener.set_defaults(run=listen)
    sayer = commands.add_parser("say")
    sayer.add_argument("address")
    sayer.add_argument("words", nargs="+")
    sayer.set_defaults(run=say)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(arguments.run(arguments))


main()
