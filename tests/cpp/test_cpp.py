"""The C++ headers: they compile without a warning everywhere they should, and do what they say under the sanitizers."""

import functools
import re
import shutil
import subprocess

import pytest
from harness import ROOT, compile_program

SOURCES = ROOT / "tests" / "cpp"
HELLO = ROOT / "bindings" / "cpp" / "examples" / "hello.cpp"
PROGRAMS = {
    name: re.findall(r"^    TEST\((\w+)\),$", (SOURCES / f"{name}.cpp").read_text(), re.MULTILINE) for name in ("unit", "pools")
}
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
RUN_SECONDS = 120

matrix = pytest.mark.parametrize("compiler", [name for name in ("g++", "clang++") if shutil.which(name)])
standards = pytest.mark.parametrize("standard", ["c++17", "c++20"])


@pytest.fixture(scope="session")
def compiled(library_path, tmp_path_factory):
    """Compiles a test program for a standard, once."""

    @functools.lru_cache(None)
    def program(name, standard):
        output = tmp_path_factory.mktemp("cpp") / f"{name}-{standard}"
        return compile_program([SOURCES / f"{name}.cpp"], output, standard=standard, library=library_path, flags=SANITIZE)

    return program


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
        source.write_text(f'#include "peerbus_pools.hpp"\nint uses_{name}() {{ return int(peerbus::bytes("four").size()); }}\n')
        compile_program([source], output, standard=standard, library=library_path, flags=["-c", "-Wno-error"])
        objects.append(output)
    main = tmp_path / "main.cpp"
    main.write_text("int uses_old();\nint uses_new();\nint main() { return uses_old() + uses_new() - 8; }\n")
    program = compile_program([main, *objects], tmp_path / "both", standard="c++17", library=library_path)
    assert subprocess.run([program], timeout=RUN_SECONDS).returncode == 0


@standards
@pytest.mark.parametrize(("name", "test"), [(name, test) for name, tests in PROGRAMS.items() for test in tests])
def test_unit(compiled, tmp_path, name, test, standard):
    done = subprocess.run([compiled(name, standard), test, tmp_path], capture_output=True, text=True, timeout=RUN_SECONDS)
    assert done.returncode == 0, done.stderr


@standards
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_unit_test_is_known(compiled, name, standard):
    listed = subprocess.run([compiled(name, standard)], capture_output=True, text=True, timeout=RUN_SECONDS, check=True).stdout
    assert listed.split() == PROGRAMS[name]
