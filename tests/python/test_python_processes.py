"""Where the process matters: fork, spawn, Ctrl-C, the end of the interpreter, two programs that talk."""

import multiprocessing

import pytest
from peer_program import send_hello
from support import DEADLINE_S, PACKAGE, PROGRAM_S, finish, run_python, start_python

import peerbus

pytestmark = pytest.mark.usefixtures("environment")

FORK = """
import os, sys, warnings
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
from support import LOCAL
import peerbus


def forked(call):
    try:
        call()
    except peerbus.ForkedError as error:
        return "spawn" in str(error)
    return False

def wait_for_child(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""

IN_A_FORKED_CHILD = FORK + """
with peerbus.Node(**LOCAL) as node, peerbus.Node(**LOCAL) as other:
    node.connect(other.addresses)
    pid = os.fork()
    if pid == 0:
        calls = [
            lambda: node.send(other.peer_id, b"x"), lambda: node.receive(timeout=1), lambda: node.receive("a::ps:b", timeout=1),
            lambda: node.connect(other.addresses), lambda: node.publish("a::ps:b", b"x"), lambda: node.subscribe("a::ps:b"),
            node.peers, node.close, node.events, lambda: node.addresses, lambda: peerbus.Node(**LOCAL).sync.start(),
            peerbus.version,
        ]
        sys.exit(0 if all([forked(call) for call in calls]) else 1)
    wait_for_child(pid)
    node.send(other.peer_id, b"still here")
    print(bytes(other.receive(timeout=20)).decode())
"""

BEFORE_THE_FIRST_USE = FORK + """
from peer_program import peer_id_of_a_new_node
pid = os.fork()
if pid == 0:
    sys.exit(0 if peer_id_of_a_new_node().startswith("12D3") else 1)
wait_for_child(pid)
print(peer_id_of_a_new_node()[:4])
"""

WITH_MESSAGES_FROM_THE_PARENT = FORK + """
with peerbus.Node(**LOCAL) as node, peerbus.Node(**LOCAL) as other:
    node.connect(other.addresses)
    node.send(other.peer_id, b"from before")
    message = other.receive(timeout=20)
    pid = os.fork()
    if pid == 0:
        kept = bytes(message)
        del message
        sys.exit(0 if kept == b"from before" else 1)
    wait_for_child(pid)
    print(bytes(message).decode())
"""

CTRL_C = """
import socket
from support import LOCAL
from peer_program import press_ctrl_c_when_waiting
import peerbus

def refuses(call):
    try:
        call()
    except (peerbus.WouldBlockError, peerbus.TimeoutError):
        return True
    return False

def full(alice, bob):
    send = lambda: alice.send(bob.peer_id, bytes(262144), timeout=0)
    while not (refuses(send) and refuses(lambda: alice.flush(bob.peer_id, timeout=0.2)) and refuses(send)):
        pass

limits = {{"send_messages": 4, "send_bytes": 1 << 20, "channel_messages": 4}}
silent = socket.create_server(("127.0.0.1", 0))
with peerbus.Node(**LOCAL) as nobody:
    nowhere = f"/ip4/127.0.0.1/tcp/{{silent.getsockname()[1]}}/p2p/{{nobody.peer_id}}"
with peerbus.Node(**LOCAL, limits=limits) as node, peerbus.Node(**LOCAL, limits=limits) as other:
    node.connect(other.addresses)
    {before}
    press_ctrl_c_when_waiting()
    try:
        {call}
    except KeyboardInterrupt:
        print("interrupted", node.peers()[0]["id"] == other.peer_id)
silent.close()
"""

EXIT = """
import sys, threading, asyncio
from support import LOCAL
import peerbus
node = peerbus.Node(**LOCAL).sync.start()
other = peerbus.Node(**LOCAL).sync.start()
node.connect(other.addresses)
{rest}
print("done", flush=True)
"""

SERVER = """
import sys
from support import LOCAL
import peerbus
with peerbus.Node(**LOCAL) as node:
    print(node.addresses[0], flush=True)
    for message in node.messages():
        if message.data == b"stop":
            break
        node.send(message.sender, b"echo " + bytes(message))
        node.flush(message.sender)
"""


def test_a_forked_child_gets_a_clear_error_and_the_parent_goes_on():
    assert run_python(IN_A_FORKED_CHILD) == "still here\n"


def test_a_program_may_fork_before_the_first_use():
    assert run_python(BEFORE_THE_FIRST_USE) == "12D3\n"


def test_a_forked_child_can_read_and_drop_messages_of_its_parent():
    assert run_python(WITH_MESSAGES_FROM_THE_PARENT) == "from before\n"


def test_importing_loads_no_library():
    program = "import peerbus, pathlib; print('libpeerbus' in pathlib.Path('/proc/self/maps').read_text())"
    assert run_python(program) == "False\n"


@pytest.mark.parametrize("content", [None, b"", b"no library"], ids=["missing", "empty", "text"])
def test_a_library_that_cannot_be_loaded_is_named_by_the_error(tmp_path, monkeypatch, content):
    path = tmp_path / "libpeerbus.so"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("PEERBUS_LIBRARY", str(path))
    program = """
import peerbus, pathlib, sys, tempfile
tempfile.tempdir = sys.argv[1]
try:
    peerbus.Node().sync.start()
except peerbus.LibraryError as error:
    print("libpeerbus.so" in str(error), [path.name for path in pathlib.Path(sys.argv[1]).iterdir() if path.is_dir()])
"""
    assert run_python(program, str(tmp_path)) == "True []\n"


def test_a_spawned_process_talks_to_its_parent(nodes):
    node = nodes()
    process = multiprocessing.get_context("spawn").Process(target=send_hello, args=(node.addresses, node.peer_id))
    process.start()
    try:
        hello = node.receive(timeout=PROGRAM_S)
        assert hello.data == b"hello"
        node.send(hello.sender, b"answer")
        assert node.receive(timeout=DEADLINE_S).data == b"got answer"
        process.join(PROGRAM_S)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join(DEADLINE_S)
        process.close()


def test_two_programs_talk(nodes):
    server = start_python(SERVER)
    try:
        address = server.stdout.readline().strip()
        node = nodes()
        peer = node.connect(address)["ID"]
        for number in range(20):
            node.send(peer, b"%d" % number)
            assert node.receive(timeout=DEADLINE_S).data == b"echo %d" % number
        node.send(peer, b"stop")
        finish(server)
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("before", "call"),
    [
        ("pass", "node.receive()"),
        ("pass", "node.receive(other.direct_channel(node.peer_id))"),
        ("pass", "node.receive_batch()"),
        ("pass", "next(node.messages())"),
        ("pass", "node.connect(nowhere)"),
        ("stream = node.events('node_failed')", "next(stream)"),
        ("full(node, other)", "node.send(other.peer_id, bytes(262144))"),
        ("full(node, other)", "node.flush(other.peer_id)"),
        ("pass", "peerbus.Node(**LOCAL, network={{'reachability_timeout_ms': 20000}}).sync.start()"),
    ],
    ids=["receive", "receive one channel", "receive_batch", "messages", "connect", "events", "send", "flush", "start"],
)
def test_ctrl_c_ends_every_wait_and_the_node_goes_on(before, call):
    program = CTRL_C.format(before=before, call=call.replace("{{", "{").replace("}}", "}"))
    assert run_python(program) == "interrupted True\n"


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "threading.Thread(target=list, args=(node.messages(),), daemon=True).start()",
        "threading.Thread(target=list, args=(node.messages(other.direct_channel(node.peer_id)),), daemon=True).start()",
        "threading.Thread(target=list, args=(node.events(),), daemon=True).start()",
        "node.on_event(lambda event: None)",
        "node.send(other.peer_id, bytes(1000))",
        "other.send(node.peer_id, b'x'); kept = node.receive(timeout=20)",
        "loop = asyncio.new_event_loop(); task = loop.create_task(node.asynchronous.receive()); "
        "loop.run_until_complete(asyncio.sleep(0)); task.cancel(); loop.run_until_complete(asyncio.sleep(0)); loop.close()",
    ],
    ids=["nothing", "receive", "receive one channel", "events", "callback", "unsent", "kept message", "event loop"],
)
def test_the_interpreter_ends_with_open_nodes(rest):
    assert run_python(EXIT.format(rest=rest)) == "done\n"


@pytest.mark.parametrize("example", sorted(path.name for path in (PACKAGE / "examples").glob("hello*.py")))
def test_the_examples_run(example):
    out = run_python((PACKAGE / "examples" / example).read_text())
    assert out.endswith("says: hello, bob\n")


def test_the_version_is_that_of_the_package():
    assert peerbus.version() == peerbus.__version__
