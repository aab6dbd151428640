"""Log lines of the library go to ``logging``: through a pipe and a thread, both only when somebody asked for a level."""

from __future__ import annotations

import json
import logging
import os
import threading
from typing import Callable, Dict, Mapping, Optional

from . import _library

Sink = Callable[[int, str, str], None]
"""Takes a level of ``logging``, the name of the logger ("peerbus", "swarm2", ...) and the text."""

LOGGERS = (
    "peerbus", "net/identify", "nat", "basichost", "p2p-circuit", "relay", "p2p-holepunch", "tcp-tpt", "connmgr", "dht",
    "autorelay", "autonat", "swarm2", "yamux", "unailib", "quic-transport", "quicreuse", "webtransport",
)  # fmt: skip
"""The loggers of the library (SPEC P2P-02)."""

_ROOT = "peerbus"
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "dpanic": logging.CRITICAL,
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}
_END = b"\0end of log"
_READ_BYTES = 65536
_MAX_LINE = 1 << 20  # a line longer than this is handed on in pieces
_STOP_S = 1.0


def python_logger(name: str) -> logging.Logger:
    """The ``logging`` logger of a logger of the library: "peerbus", or a child of it such as "peerbus.swarm2"."""
    return logging.getLogger(_ROOT if name in (_ROOT, "unailib", "") else f"{_ROOT}.{name}")


def to_logging(level: int, name: str, text: str) -> None:
    """The usual sink."""
    python_logger(name).log(level, "%s", text)


def levels_asked_for() -> Dict[str, str]:
    """The levels that the program set on "peerbus" and its children before the library was initialized."""
    asked = {name: python_logger(name).level for name in LOGGERS if name != "unailib"}
    return {name: _name_of(level) for name, level in asked.items() if level != logging.NOTSET}


def _name_of(level: int) -> str:
    for name in ("debug", "info", "warn", "error"):
        if level <= _LEVELS[name]:
            return name
    return "fatal"


class Reader:
    """The thread that reads the pipe."""

    def __init__(self, library: _library.Library, sink: Sink) -> None:
        self._sink = sink
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._run, name="peerbus-log", daemon=True)
        self._thread.start()
        library.check(library.c.SetLogDescriptor(self._writer))

    def stop(self) -> None:
        """Hands on what was written so far, and ends the thread. The descriptors stay open: the library may write on."""
        try:
            os.write(self._writer, b"\n" + _END + b"\n")
        except BlockingIOError:
            return
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        rest = b""
        while True:
            *lines, rest = (rest + os.read(self._reader, _READ_BYTES)).split(b"\n")
            if len(rest) > _MAX_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                if line == _END:
                    return
                if line.strip():
                    self._hand_on(line.decode("utf-8", "replace"))

    def _hand_on(self, line: str) -> None:
        level, name, text = parse(line)
        try:
            self._sink(level, name, text)
        except Exception:
            logging.getLogger(_ROOT).exception("the log sink of peerbus failed")


def parse(line: str) -> tuple[int, str, str]:
    """Level, logger and text of one line: JSON, or fields between tabs (time, level, logger, place, text)."""
    if line.startswith("{"):
        try:
            record = json.loads(line)
        except ValueError:
            return logging.INFO, _ROOT, line
        level = _LEVELS.get(str(record.pop("level", "info")).lower(), logging.INFO)
        name = str(record.pop("logger", _ROOT))
        text = str(record.pop("msg", ""))
        record.pop("ts", None)
        extra = " ".join(f"{key}={value}" for key, value in record.items())
        return level, name, f"{text} {extra}".strip()
    fields = line.split("\t")
    if len(fields) >= 4 and fields[1].lower() in _LEVELS:
        return _LEVELS[fields[1].lower()], fields[2], "\t".join(fields[3:])
    return logging.INFO, _ROOT, line


_reader: Optional[Reader] = None


def prepare(library: _library.Library, levels: Optional[Mapping[str, str]], sink: Sink) -> Mapping[str, str]:
    """The levels for InitializeLibrary; starts the reader when one of them is audible."""
    global _reader
    chosen = dict(levels_asked_for() if levels is None else levels)
    if any(level.lower() != "fatal" for level in chosen.values()):
        _reader = Reader(library, sink)
    return chosen


def prepare_quietly(library: _library.Library) -> Mapping[str, str]:
    """``prepare`` for programs that chose nothing: what their ``logging`` levels say."""
    return prepare(library, None, to_logging)


def stop() -> None:
    """At the end of the process."""
    if _reader is not None:
        _reader.stop()
