"""Two nodes in one program: one connects to the other and says hello."""

import asyncio

import peerbus

LOCAL = {"listen_ips": ["127.0.0.1"], "nat": {"port_mapping": False}}  # stay on this machine


async def main() -> None:
    async with peerbus.Node(config=LOCAL) as alice, peerbus.Node(config=LOCAL) as bob:
        await alice.connect(bob.addresses)
        await alice.send(bob.peer_id, b"hello, bob")
        message = await bob.receive(timeout=10)
        print(f"{message.sender} says: {bytes(message).decode()}")


asyncio.run(main())
