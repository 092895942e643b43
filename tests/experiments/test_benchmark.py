"""The benchmark's stop-watch: what it says of a process is that process's own."""

import pytest

from experiments.benchmark import _run


def test_a_process_is_timed_and_its_own_memory_measured():
    small = _run(["-c", "print('small')"])
    code = "import time; held = bytes(range(256)) * 800_000; time.sleep(0.3); print('large')"
    seconds, megabytes, said = _run(["-c", code])
    assert said == "large\n" and 0.3 <= seconds < 30
    assert 195 < megabytes - small[1] < 260  # 204.8 MB held


def test_a_command_that_fails_is_no_measurement():
    with pytest.raises(SystemExit, match="exit code 3"):
        _run(["-c", "raise SystemExit(3)"])
