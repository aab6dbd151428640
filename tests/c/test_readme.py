"""What README.md prints: its first examples run as they stand, and its table names every function."""

import json
import os
import re
import subprocess
import sys

import pytest
from harness import ROOT, compile_program
from test_symbols import declared

README = (ROOT / "README.md").read_text()
RUN_SECONDS = 60

# What the ten lines of C leave to the reader: bob's node, and the variables. Alice's id is that of the key in her directory.
FRAME = r"""
#include <stdio.h>
#include <string.h>
#include "peerbus.h"

static int start(int instance, const char *config, char *addresses, char *id) {
    char *answer = CreateNode(instance, config);
    char *list = answer ? strstr(answer, "[\"") : NULL, *end = list ? strchr(list, ']') : NULL;
    int started = end != NULL && end - list < 4000 && sscanf(strstr(list, "/p2p/"), "/p2p/%%127[^\"/]", id) == 1;
    if (started) sprintf(addresses, "%%.*s", (int)(end - list) + 1, list);
    FreeString(answer);
    return started;
}

int main(void) {
    char alice_addresses[4096], bob_addresses[4096], alice[128], bob[128], channel[300];
    InitializeLibrary(2, 0, 0, 0, NULL);
    if (!start(0, "{\"identity_dir\":\"alice\",\"listen_ips\":[\"127.0.0.1\"]}", alice_addresses, alice)) return 1;
    FreeString(CloseNode(0));
    if (!start(1, "{\"identity_dir\":\"bob\",\"listen_ips\":[\"127.0.0.1\"]}", bob_addresses, bob)) return 1;
%s
    return 0;
}
"""


def block(language):
    """The first example in that language."""
    return re.search(rf"```{language}\n(.*?)```", README, re.DOTALL).group(1)


@pytest.fixture
def environment(library_path, tmp_path):
    """That of a program on a machine without routers; the examples do not say to leave them alone."""
    defaults = tmp_path / "defaults.json"
    defaults.write_text(json.dumps({"nat": {"port_mapping": False}}))
    return {**os.environ, "PYTHONPATH": str(ROOT / "bindings" / "python"), "PEERBUS_LIBRARY": str(library_path),
            "PEERBUS_NODE_DEFAULTS": str(defaults)}


def output_of(command, environment, tmp_path):
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_python_example_runs_as_printed(environment, tmp_path):
    said = output_of([sys.executable, "-W", "error", "-c", block("python")], environment, tmp_path)
    assert re.fullmatch(r"12D3Koo\w+ says hello, bob\n", said)


def test_the_c_example_runs_as_printed(library_path, environment, tmp_path):
    source = tmp_path / "example.c"
    source.write_text(FRAME % block("c"))
    program = compile_program([source], tmp_path / "example", standard="c99", library=library_path)
    said = output_of([str(program)], environment, tmp_path)
    assert re.fullmatch(r"12D3Koo\w+ says hello, bob\n", said)


def test_the_table_names_every_function_and_no_other():
    table = re.search(r"^## The functions\n(.*?)^## ", README, re.DOTALL | re.MULTILINE).group(1)
    named = [name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(declared())
