"""peerbus.hpp: compiles without a warning everywhere it should, and does what it says under the sanitizers."""

import re
import shutil
import subprocess

import pytest
from harness import ROOT, compile_program

SOURCES = ROOT / "tests" / "cpp"
HELLO = ROOT / "bindings" / "cpp" / "examples" / "hello.cpp"
TESTS = re.findall(r"^    TEST\((\w+)\),$", (SOURCES / "unit.cpp").read_text(), re.MULTILINE)
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
RUN_SECONDS = 120

matrix = pytest.mark.parametrize("compiler", [name for name in ("g++", "clang++") if shutil.which(name)])
standards = pytest.mark.parametrize("standard", ["c++17", "c++20"])


@pytest.fixture(scope="session", params=["c++17", "c++20"])
def unit(request, library_path, tmp_path_factory):
    output = tmp_path_factory.mktemp("cpp") / f"unit-{request.param}"
    return compile_program([SOURCES / "unit.cpp"], output, standard=request.param, library=library_path, flags=SANITIZE)


@matrix
@standards
def test_hello_compiles_without_warnings_and_runs(tmp_path, library_path, compiler, standard):
    flags = ["-Wshadow", "-Wconversion"]
    given = {"standard": standard, "library": library_path, "flags": flags, "compiler": compiler}
    program = compile_program([HELLO], tmp_path / "hello", **given)
    done = subprocess.run([program, tmp_path], capture_output=True, text=True, timeout=RUN_SECONDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" says hello, bob\n") and done.stderr == ""


def test_units_of_both_standards_link_into_one_program(tmp_path, library_path):
    objects = []
    for name, standard in (("old", "c++17"), ("new", "c++20")):
        source, output = tmp_path / f"{name}.cpp", tmp_path / f"{name}.o"
        source.write_text(f'#include "peerbus.hpp"\nint uses_{name}() {{ return int(peerbus::bytes("four").size()); }}\n')
        compile_program([source], output, standard=standard, library=library_path, flags=["-c", "-Wno-error"])
        objects.append(output)
    main = tmp_path / "main.cpp"
    main.write_text("int uses_old();\nint uses_new();\nint main() { return uses_old() + uses_new() - 8; }\n")
    program = compile_program([main, *objects], tmp_path / "both", standard="c++17", library=library_path)
    assert subprocess.run([program], timeout=RUN_SECONDS).returncode == 0


@pytest.mark.parametrize("test", TESTS)
def test_unit(unit, tmp_path, test):
    done = subprocess.run([unit, test, tmp_path], capture_output=True, text=True, timeout=RUN_SECONDS)
    assert done.returncode == 0, done.stderr


def test_every_unit_test_is_known(unit):
    listed = subprocess.run([unit], capture_output=True, text=True, timeout=RUN_SECONDS, check=True).stdout
    assert listed.split() == TESTS
