"""The benchmark's stop-watch: what it says of a process is that process's own, of steps that they are training's."""

import ast
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmark import _run, measure_steps
from siamese_jax.shards.schema import open_shards
from siamese_jax.training.loop import train
from tests.simulated_cohort import tiny_shards

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


def test_steps_are_measured_as_training_takes_them(tiny, tmp_path):
    """The losses are those that a run writes down; what is counted is the step and not its compilation."""
    import jax

    training = dataclasses.replace(tiny.training, accumulate=2)
    config, shards = dataclasses.replace(tiny, training=training), tiny_shards(tmp_path)
    found = measure_steps(config, shards, steps=3, devices=2)
    train(config, tuple(open_shards(shards / "train")), (), tmp_path / "run", devices=jax.devices()[:2], stop_at=3)
    lines = [json.loads(line) for line in (tmp_path / "run" / "training.jsonl").read_text().splitlines()]
    assert found["losses"] == pytest.approx([line["loss"] for line in lines], abs=6e-4)
    assert 0 < found["seconds_per_step"] < found["compile_seconds"]
    assert found["windows_per_second"] == pytest.approx(16 / found["seconds_per_step"], rel=0.1)
    assert 0 < found["temporary_megabytes"] < found["peak_megabytes"]
