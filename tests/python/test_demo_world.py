"""make demo-world: the whole world in eleven processes."""

import re
import subprocess
import sys

from support import ROOT

DEMO = ROOT / "bindings" / "python" / "examples" / "demo_world.py"
DEMO_S = 300.0


def test_everything_that_the_demo_expects_happens(environment):
    done = subprocess.run([sys.executable, "-W", "error", DEMO], capture_output=True, text=True, timeout=DEMO_S)
    assert done.returncode == 0, done.stdout + done.stderr
    checks = re.findall(r"^(ok|WRONG) +(.*)$", done.stdout, re.MULTILINE)
    assert len(checks) >= 20 and all(result == "ok" for result, _ in checks)
    assert "world node" in done.stdout and "\033" not in done.stdout  # plain lines when nobody sees a terminal
