"""The same without asyncio: the with block gives the blocking face of a node."""

import peerbus

LOCAL = {"listen_ips": ["127.0.0.1"], "nat": {"port_mapping": False}}  # stay on this machine

with peerbus.Node(config=LOCAL) as alice, peerbus.Node(config=LOCAL) as bob:
    alice.connect(bob.addresses)
    alice.send(bob.peer_id, b"hello, bob")
    message = bob.receive(timeout=10)
    print(f"{message.sender} says: {bytes(message).decode()}")
