"""One node of peerbus and one of the existing network's library, each in a process of its own, on a loopback of their own."""

import contextlib
import importlib.util
import sys
from pathlib import Path

import pytest
from harness import missing, node_config

sys.path.insert(0, str(Path(__file__).parent))

import loopback
from unaiverse_pair import Peer


@pytest.fixture(scope="session")
def their_library():
    spec = importlib.util.find_spec("unaiverse")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / "networking" / "p2p" / "unailib" / "unailib.so"
        if path.exists():
            return path
    return missing("the library of the existing network is not installed; see tests/requirements-interop.txt")


@pytest.fixture(scope="session")
def network():
    """The holder of a network without anything but loopback: their library looks for routers, and no key switches that off."""
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(loopback.Network()).holder
        except loopback.Unavailable as problem:
            missing(f"no network of its own for the test: {problem}")


@pytest.fixture
def ours(library_path, network, tmp_path):
    config = node_config(tmp_path / "ours", relay={"enable_client": False}, pop_messages="binary")
    with contextlib.closing(Peer(library_path, network, config)) as peer:
        yield peer


@pytest.fixture
def theirs(their_library, network, tmp_path):
    """Without DHT, relays and WebRTC it asks nobody; forced public it waits for no verdict on its reachability."""
    (tmp_path / "theirs").mkdir()
    off = {"enable_client": False, "enable_service": False, "with_broad_limits": False}
    config = {"identity_dir": str(tmp_path / "theirs"), "predefined_port": 0, "listen_ips": ["127.0.0.1"], "relay": off,
              "tls": {"auto_tls": False, "domain": "", "cert_path": "", "key_path": ""},
              "network": {"isolated": True, "force_public": True, "flood_sub": False},
              "dht": {"enabled": False, "keep": False}, "webrtc": {"enabled": False}}
    with contextlib.closing(Peer(their_library, network, config)) as peer:
        yield peer


@pytest.fixture(params=["ours dials", "theirs dials"])
def pair(request, ours, theirs):
    """Two connected nodes, by either's dial. Theirs lists a peer only once a chat stream is open."""
    dialler, other = (ours, theirs) if request.param == "ours dials" else (theirs, ours)
    dialler.connect(other)
    return ours, theirs
