"""peerbus.h is read by C99 and C++ compilers and by cffi."""

import shutil
import subprocess

import cffi
import pytest
from harness import ROOT, WARNINGS

HEADER = ROOT / "include" / "peerbus.h"
STRICT = [*WARNINGS, "-Wstrict-prototypes", "-Wconversion"]


def without_preprocessor_lines():
    return "\n".join(line for line in HEADER.read_text().splitlines() if not line.startswith("#"))


def compilers(*names):
    return [name for name in names if shutil.which(name)]


def check_syntax(compiler, standard, source, flags):
    command = [compiler, f"-std={standard}", *flags, f"-I{HEADER.parent}", "-fsyntax-only", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compiler", compilers("gcc", "clang"))
@pytest.mark.parametrize("standard", ["c99", "c11", "c17"])
def test_header_is_strict_c(tmp_path, compiler, standard):
    source = tmp_path / "only.c"
    source.write_text('#include "peerbus.h"\n#include "peerbus.h"\nint main(void) { return LibraryABI() != PEERBUS_ABI; }\n')
    check_syntax(compiler, standard, source, STRICT)


@pytest.mark.parametrize("compiler", compilers("g++", "clang++"))
@pytest.mark.parametrize("standard", ["c++17", "c++20"])
def test_header_is_cpp_with_c_linkage(tmp_path, compiler, standard):
    source = tmp_path / "only.cpp"
    linkage = 'extern "C" int LibraryABI(void);'
    source.write_text(f'#include "peerbus.h"\n{linkage}\nint main() {{ return LibraryABI() != PEERBUS_ABI; }}\n')
    check_syntax(compiler, standard, source, WARNINGS)


def test_cdef_takes_the_stripped_header():
    ffi = cffi.FFI()
    ffi.cdef(without_preprocessor_lines())
    assert ffi.sizeof("peerbus_message") == 80
    assert ffi.sizeof("peerbus_publication") == 24
    assert ffi.typeof("peerbus_code").relements["PEERBUS_INTERNAL"] == -22


def test_every_declared_function_can_be_called_through_cffi(library_path):
    ffi = cffi.FFI()
    ffi.cdef(without_preprocessor_lines())
    library = ffi.dlopen(str(library_path))
    functions = [name for name in dir(library) if callable(getattr(library, name))]
    assert "CreateNode" in functions and "peerbus_receive" in functions
    assert library.LibraryABI() == library.PEERBUS_ABI
    assert ffi.string(library.peerbus_code_name(library.PEERBUS_TIMEOUT)) == b"TIMEOUT"


def test_codes_are_numbered_without_gaps_and_named_after_their_constant(library_path):
    ffi = cffi.FFI()
    ffi.cdef(without_preprocessor_lines())
    library = ffi.dlopen(str(library_path))
    numbers = ffi.typeof("peerbus_code").relements
    assert sorted(numbers.values()) == list(range(-len(numbers) + 1, 1))
    names = {name: ffi.string(library.peerbus_code_name(number)).decode() for name, number in numbers.items()}
    assert names == {name: name.removeprefix("PEERBUS_") for name in numbers}


@pytest.mark.parametrize("number", [1, -25, 2**31 - 1, -(2**31)])
def test_other_numbers_have_no_code_name(library_path, number):
    ffi = cffi.FFI()
    ffi.cdef("const char *peerbus_code_name(int code);")
    assert ffi.string(ffi.dlopen(str(library_path)).peerbus_code_name(number)) == b"UNKNOWN"
