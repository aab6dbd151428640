"""Header, dynamic symbols, C shim and Go exports name the same functions, in both directions."""

import re
import subprocess

from harness import ROOT

HEADER = ROOT / "include" / "peerbus.h"
EXPORT = ROOT / "export"
GO_PREFIX = "go_"
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
DECLARED = re.compile(r"^[a-z][\w \*]*?\b(\w+)\([^;{]*\);", re.MULTILINE)
DEFINED = re.compile(r"^[a-z][\w \*]*?\b(\w+)\([^;{]*\)\s*\{", re.MULTILINE)


def tool(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def declared():
    functions = set(DECLARED.findall(COMMENT.sub("", HEADER.read_text())))
    assert {"InitializeLibrary", "FreeString", "peerbus_last_error"} <= functions, "the header was not understood"
    return functions


def block_end(code, at):
    """Where the block ends whose opening brace lies right before `at`."""
    depth = 1
    while depth:
        depth += {"{": 1, "}": -1}.get(code[at], 0)
        at += 1
    return at


def shim():
    """Every function that a C file of export/ defines, with its body."""
    found = {}
    for file in EXPORT.glob("*.c"):
        code = COMMENT.sub("", file.read_text())
        found.update({match[1]: code[match.end() : block_end(code, match.end())] for match in DEFINED.finditer(code)})
    return found


def go_exports():
    found = set()
    for file in EXPORT.glob("*.go"):
        found.update(re.findall(r"^//export (\w+)$", file.read_text(), re.MULTILINE))
    return found


def dynamic_symbols(library_path):
    lines = tool("nm", "-D", "--defined-only", str(library_path)).splitlines()
    return {line.split()[-1].split("@")[0] for line in lines if line.split()[-2] != "A"}


def test_the_library_exports_exactly_what_the_header_declares(library_path):
    assert dynamic_symbols(library_path) == declared()


def test_every_declared_function_is_defined_by_the_shim():
    assert declared() - set(shim()) == set()


def test_every_declared_function_enters_its_go_export_or_is_pure_c():
    bodies = shim()
    exports = go_exports()
    for name in declared():
        entered = set(re.findall(rf"\b{GO_PREFIX}(\w+)\(", bodies[name]))
        assert entered <= {name}, f"{name} enters the Go export of another function"
        assert (GO_PREFIX + name in exports) == bool(entered), f"{name}: its Go export and its shim disagree"


def test_every_go_export_is_entered_by_the_function_of_its_name():
    assert {name for name in go_exports() if name.startswith(GO_PREFIX)} <= {GO_PREFIX + name for name in declared()}


def test_soname_and_nodelete(library_path):
    dynamic = tool("readelf", "-dW", str(library_path))
    assert re.search(r"\(SONAME\).*\[libpeerbus\.so\.0\]", dynamic)
    assert re.search(r"\(FLAGS_1\).*\bNODELETE\b", dynamic)


def test_stack_is_not_executable_and_nothing_needs_text_relocations(library_path):
    assert "TEXTREL" not in tool("readelf", "-dW", str(library_path))
    stack = re.search(r"GNU_STACK.*", tool("readelf", "-lW", str(library_path))).group()
    assert "RWE" not in stack
