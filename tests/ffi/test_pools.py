"""Small worlds through the C functions of the built library; each scenario is a function of programs/pools_world.py."""

import subprocess
import sys

import pytest
from harness import ROOT

PROGRAM = ROOT / "tests" / "ffi" / "programs" / "pools_world.py"
SCENARIO_SECONDS = 120
SCENARIOS = [
    line.split()[1].removesuffix("():")
    for line in PROGRAM.read_text().split("# ---- Scenarios ----")[1].splitlines()
    if line.startswith("def ") and line.endswith("():")
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_pools(scenario, library_path, tmp_path):
    command = [sys.executable, "-W", "error", PROGRAM, library_path, tmp_path, scenario]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SCENARIO_SECONDS)
    assert done.returncode == 0 and not done.stderr, done.stderr
