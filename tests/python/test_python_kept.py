"""Messages that a program keeps stay as they came, whatever the memory that they share goes through."""

import threading

import pytest

SIZES = (1, 40, 1000, 1024, 5000, 16383, 16384)
"""Payloads of up to 16,383 bytes share memory; larger ones have their own."""
MESSAGES = 6000


def payload(number):
    size = SIZES[number % len(SIZES)]
    return (b"%07d " % number * (size // 8 + 1))[:size]


@pytest.mark.parametrize("most", [1, 30, 1000])
def test_kept_messages_do_not_change_while_others_come_and_go(pair, most):
    alice, bob = pair
    channel = alice.channel(bob.peer_id)
    sender = threading.Thread(target=lambda: channel.send_many([payload(n) for n in range(MESSAGES)], timeout=60))
    sender.start()
    kept, number = {}, 0
    while number < MESSAGES:
        for message in bob.receive_batch(max_messages=most, timeout=20):
            assert message.data == payload(number), f"message {number} came damaged"
            if number % 37 == 0:
                kept[number] = message
                kept.pop(number - 37 * 50, None)
            number += 1
        for old, message in kept.items():
            if old % 3 == number % 3:
                assert message.data == payload(old), f"message {old} has changed since"
    sender.join()
    bob.close()
    assert all(message.data == payload(old) for old, message in kept.items())
