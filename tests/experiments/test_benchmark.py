"""The benchmark's stop-watch: what it says of a process is that process's own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmark import _run

HOLD_205_MB = "import time; held = bytes(range(256)) * 800_000; time.sleep(0.3); print('large')"


def test_a_process_is_timed_and_its_own_memory_measured():
    # In a process as small as the benchmark's own: on Linux a child begins with its parent's peak.
    code = f"from experiments.benchmark import _run; print(_run(['-c', {HOLD_205_MB!r}]), _run(['-c', '']))"
    root = Path(__file__).parents[2]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    (seconds, megabytes, text), (_, nothing, _) = ast.literal_eval(said.replace(") (", "), ("))
    assert text == "large\n" and 0.3 <= seconds < 30
    assert 205 < megabytes < 205 + 100 and nothing < 100


def test_a_command_that_fails_is_no_measurement():
    with pytest.raises(SystemExit, match="exit code 3"):
        _run(["-c", "raise SystemExit(3)"])
