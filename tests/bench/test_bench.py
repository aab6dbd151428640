"""The harness of the benchmark, without timings: every lane transfers what it claims, and one that lies is found out."""

from __future__ import annotations

import importlib
import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from harness import missing

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "lanes")]

import endpoint  # noqa: E402
import measures  # noqa: E402
import processes  # noqa: E402
import program  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402

LANES = run.all_lanes()
SIZES = [100, 64 << 10]


def lanes_with(*measures_wanted):
    return [pytest.param(lane, id=lane[1].name) for lane in LANES if set(measures_wanted) & set(lane[1].measures)]


@pytest.fixture(scope="session")
def programs(library_path, tmp_path_factory):
    rawstream = run.build_rawstream(tmp_path_factory.mktemp("bench"))
    assert library_path == run.ROOT / "dist" / "libpeerbus.so", "the benchmark measures the library of its own checkout"
    return processes.Programs(run.ROOT, rawstream, run.PEERS_ENVIRONMENT / "bin" / "python")


@pytest.fixture
def installed():
    """For lanes of other libraries: that `make test` or `make bench` has installed them."""
    def check(lane):
        if lane.optional and not run.peers_are_installed():
            missing("the other libraries are not installed; `make bench` does it")
    return check


def test_an_older_python_goes_without_the_other_libraries(monkeypatch, capsys):
    monkeypatch.setattr(run, "PEERS_PYTHON", (99, 0))
    monkeypatch.setattr(sys, "argv", ["run.py", "--install"])
    assert run.main() == 0
    assert "need Python 99.0 or newer" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"need Python 99\.0 or newer"):
        run.install_peers()


@pytest.mark.parametrize("lane", lanes_with("one_way", "round_trip"))
def test_a_lane_transfers_what_it_claims(programs, installed, lane):
    declared = lane[1]
    installed(declared)
    sizes = [size for size in SIZES if declared.sizes is None or size in declared.sizes]
    result = measures.pair(programs, lane, measures.TINY, sizes, trips=True)
    assert set(result["one_way"]) == {str(size) for size in sizes}
    assert all(one["messages"] > 0 for one in result["one_way"].values())
    assert ("round_trip" in result) == ("round_trip" in declared.measures)


@pytest.mark.parametrize("lane", lanes_with("topics"))
def test_a_topic_reaches_every_subscriber(programs, installed, lane):
    installed(lane[1])
    result = measures.topics(programs, lane, measures.TINY, subscribers=2)
    assert result["published"] > 0
    assert 0 < result["delivered"] <= 1


@pytest.mark.parametrize("lane", lanes_with("webrtc"))
def test_a_webrtc_lane_is_measured_beside_a_bare_data_channel(programs, lane):
    bare = next(one for one in LANES if one[1].name == run.BARE_WEBRTC)
    result = measures.webrtc(programs, lane, bare, measures.TINY)
    assert result["x bare pion"]["MB/s"] == pytest.approx(result["MB/s"] / result["bare pion"]["MB/s"])
    assert all(value > 0 for value in result["x bare pion"].values())


def test_messages_to_a_stopped_peer_are_all_accounted_for(programs):
    result = measures.stalled(programs, measures.TINY, stall=True)
    assert result["to the stopped peer"] > 0


@pytest.mark.parametrize("lie", ["corrupt", "reorder"])
def test_a_lane_that_changes_messages_fails(programs, lie, tmp_path, monkeypatch):
    lane = liar(monkeypatch, programs, tmp_path, lie)
    with pytest.raises(RuntimeError, match="did not arrive as they were sent"):
        measures.pair(programs, lane, measures.TINY, [100], trips=False)


def test_a_lane_that_loses_messages_fails(programs, tmp_path, monkeypatch):
    lane = liar(monkeypatch, programs, tmp_path, "drop")
    answers = []

    def order_of_answers(self, timeout=None, answer=program.Program.answer):
        # Each answers once to be connected, and the sender once more when it has sent. Who waits for what was dropped does not.
        answers.append(answer(self, timeout if len(answers) < 3 else 3.0))
        return answers[-1]

    monkeypatch.setattr(program.Program, "answer", order_of_answers)
    with pytest.raises(processes.ProgramError, match="did not answer within 3 s"):
        measures.pair(programs, lane, measures.TINY, [100], trips=False)
    assert "digest" in answers[2]


def test_a_lane_that_changes_the_echo_fails(programs, tmp_path, monkeypatch):
    lane = liar(monkeypatch, programs, tmp_path, "corrupt")
    with pytest.raises(processes.ProgramError, match="the echo"):
        measures.pair(programs, lane, measures.TINY, [], trips=True)


def liar(monkeypatch, programs, folder, lie):
    """The lane of plain TCP with a sender that lies about every eighth message."""
    source = folder / "liar.py"
    source.write_text(f"""
import sys
sys.path.insert(0, {str(HERE / "lanes")!r})
from endpoint import serve
from tcp import TCPEndpoint

class Liar(TCPEndpoint):
    count, held = 0, None
    def sender(self):
        return self.lie
    def lie(self, message):
        self.count += 1
        if self.count % 8 != 1 or len(message) == 1:
            self._send_one(message)
            if self.held is not None:
                self._send_one(self.held)
                self.held = None
        elif {lie!r} == "corrupt":
            self._send_one(bytes([message[0] + 1 & 255]) + bytes(message[1:]))
        elif {lie!r} == "reorder":
            self.held = message

serve(Liar(False))
""")
    monkeypatch.setattr(measures, "_PROVE_BYTES", 64 * 100)
    return str(source), endpoint.Lane("liar")


def test_a_topic_that_delivers_more_than_was_published_fails(monkeypatch):
    class Side:
        def __init__(self, answers):
            self.answers = answers

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def order(self, do, **_):
            self.last = do

        def answered(self):
            return True

        def answer(self):
            return self.answers.get(self.last, {})

        def ask(self, do, **_):
            return self.answers.get(do, {})

    published = {"messages": 10, "refused": 0, "seconds": 1.0}
    collected = {"messages": 11, "seconds": 1.0, "lost": {}}
    sides = iter([Side({"listen": {"address": []}, "publish": published, "prove": {"digest": "x"}}),
                  Side({"collect": collected, "check": {"digest": "x"}})])
    programs = Namespace(lane=lambda *_: next(sides))
    with pytest.raises(RuntimeError, match="11 messages arrived, 10 were published"):
        measures.topics(programs, ("any.py", endpoint.Lane("any")), measures.TINY, subscribers=1)


def test_ratios_are_to_the_best_peer_that_encrypts():
    def rounds(*rates):
        return [{"one_way": {"100": {"rate": rate, "megabytes": rate, "sender_cpu_us": 1, "receiver_cpu_us": 1}},
                 "round_trip": {"p50": 1000 / rate, "p90": 1.0, "p99": 1000 / rate}} for rate in rates]

    results = {"pair/peerbus": rounds(30, 40, 50), "pair/good": rounds(20, 20, 20), "pair/poor": rounds(5, 5, 5),
               "pair/open": rounds(90, 90, 90), "pair/raw libp2p": rounds(10, 10, 10)}
    kinds = {"peerbus": "peerbus", "good": "peer", "poor": "peer", "open": "unencrypted", "raw libp2p": "limit"}
    summary = report.summarize(results, kinds, 0.0, Namespace(repetitions=3, quick=False))
    own = summary["one_way"]["100"]["peerbus"]
    assert own["best_peer"] == "good"
    assert own["of_best_peer"] == {"median": 2.0, "min": 1.5, "max": 2.5}
    assert own["of_limit"]["median"] == 4.0
    assert summary["round_trip"]["peerbus"]["p50_of_best_peer"]["median"] == pytest.approx(0.5)
    assert "best encrypted peer: good" in report.table(summary)


def test_a_lossy_peer_is_not_the_best_on_topics():
    def rounds(rate, delivered):
        return [{"published_rate": rate, "rate": rate, "delivered": delivered, "refused": 0, "lost": [{}]}]

    results = {"topics to 4/own": rounds(10, 1.0), "topics to 4/lossy": rounds(99, 0.5), "topics to 4/lossless": rounds(5, 1.0)}
    kinds = {"own": "peerbus", "lossy": "peer", "lossless": "peer"}
    topics = report.summarize(results, kinds, 0.0, Namespace(repetitions=1, quick=False))["topics"]["4"]
    assert topics["own"]["best_peer"] == "lossless"
    assert topics["own"]["of_best_peer"]["median"] == 2.0


def test_one_quick_run_writes_tables_and_json(tmp_path, capsys, monkeypatch, programs):
    monkeypatch.setattr(measures, "QUICK", measures.TINY)
    arguments = ["--quick", "--lanes", "raw TCP*", "--only", "one_way,round_trip", "--sizes", "100", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    assert run.main() == 0
    assert "raw TCP, plain" in capsys.readouterr().out
    summary = json.loads((tmp_path / "results.json").read_text())
    assert set(summary["one_way"]["100"]) == {"raw TCP, plain", "raw TCP, plain, 64 KiB batches"}
    assert set(summary["round_trip"]) == {"raw TCP, plain"}


def test_unknown_lanes_are_refused_with_the_names_that_exist(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--lanes", "peerbsu"])
    with pytest.raises(SystemExit):
        run.parse_arguments()
    assert "peerbus asyncio" in capsys.readouterr().err


def test_every_lane_file_declares_what_it_measures():
    for file, lane in LANES:
        assert lane.kind in ("peerbus", "peer", "unencrypted", "limit"), f"{file}: {lane.name}"
        assert set(lane.measures) <= {"one_way", "round_trip", "webrtc", "topics"}, f"{file}: {lane.name}"
        assert importlib.import_module(Path(file).stem).__doc__
    names = [lane.name for _, lane in LANES]
    assert len(names) == len(set(names))


def test_the_cutter_joins_and_cuts_at_any_boundary():
    from async_endpoint import Cutter, frame

    messages = [b"a" * 3, b"", b"b" * 70000, b"c"]
    stream = b"".join(map(frame, messages))
    for step in (1, 3, 5, 4096, len(stream)):
        cutter, found = Cutter(), []
        for start in range(0, len(stream), step):
            found += [bytes(message) for message in cutter.add(stream[start:start + step])]
        assert found == messages
