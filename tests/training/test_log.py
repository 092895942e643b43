"""What a run says of itself: lines, curves that say the same, and what a resumed run drops."""

import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from siamese_jax.training.log import TrainingLog
from siamese_jax.training.step import StepMetrics


def metrics_of(step: int) -> StepMetrics:
    losses = {task: jnp.float32(np.sin(step + i)) for i, task in enumerate(("ied", "sleep"))}
    return StepMetrics(jnp.float32(1 / step), losses, {"ied": jnp.float32(0.5)}, jnp.float32(step))


def keep(folder: Path, config, steps: range, *, scores_at: int | None = None, **options) -> list:
    """A log of some steps; gives what it said to `on_step`."""
    said = []
    log = TrainingLog(folder, config, steps.start - 1, on_step=lambda *news: said.append(news), **options)
    for step in steps:
        log.step(step, metrics_of(step))
        if step == scores_at:
            log.catch_up()
            log.write({"step": step, "validation/ied/auroc": 0.75, "validation/sleep/kappa": math.nan})
    log.catch_up()
    log.close()
    return said


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


def events(path: Path) -> list[Event]:
    """The records of an event file (TFRecord: length, its checksum, data, their checksum)."""
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def points(folder: Path) -> list[tuple[str, int, float]]:
    """All points as a viewer shows them: where a session starts at a step, what came at or after it is dropped."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        for event in events(path):
            if event.session_log.status == SessionLog.START:
                found = [point for point in found if point[1] < event.step]
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    return found


def as_points(of_lines: list[dict]) -> list[tuple[str, int, float]]:
    return [(k, x["step"], v) for x in of_lines for k, v in x.items() if k != "step" and v is not None]


def rounded(of_points):
    return sorted((name, step, float(np.float32(value))) for name, step, value in of_points)


def test_a_line_holds_every_number_of_its_step(tiny, tmp_path):
    said = keep(tmp_path, tiny, range(1, 4))
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
    for step, line in enumerate(lines(tmp_path), 1):
        wanted = {"loss": 1 / step, "loss/ied": np.sin(step), "loss/sleep": np.sin(step + 1), "gradient_norm": step}
        wanted |= {"weight/ied": 0.5, "step": step}
        assert line.pop("learning_rate") > 0 or step == 1
        assert line == pytest.approx(wanted, rel=1e-6)
    assert [step for step, _ in said] == [1, 2, 3]
    pace = [line["windows_per_second"] for _, line in said]
    assert math.isnan(pace[0]) and all(math.isfinite(x) and x > 0 for x in pace[1:])
    assert not (tmp_path / "tensorboard").exists()


def test_curves_hold_what_the_lines_hold(tiny, tmp_path):
    keep(tmp_path, tiny, range(1, 5), scores_at=4, tensorboard=True)
    found = points(tmp_path)
    assert rounded(found) == rounded(as_points(lines(tmp_path)))
    assert ("validation/ied/auroc", 4, 0.75) in found
    assert {name for name, _, _ in found}.isdisjoint({"validation/sleep/kappa", "step"})  # undefined: no point


def test_a_resumed_run_drops_later_lines_and_points_and_no_step_comes_twice(tiny, tmp_path):
    keep(tmp_path, tiny, range(1, 7), scores_at=4, tensorboard=True)  # killed at 6; the last checkpoint was at 3
    keep(tmp_path, tiny, range(4, 9), scores_at=8, tensorboard=True)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2  # within one second, and none was written over
    found = points(tmp_path)
    assert [step for name, step, _ in found if name == "loss"] == list(range(1, 9))
    assert len({(name, step) for name, step, _ in found}) == len(found)
    assert rounded(found) == rounded(as_points(lines(tmp_path)))
    assert [step for name, step, _ in found if name == "validation/ied/auroc"] == [8]  # that of step 4 went too


def test_a_process_that_is_not_the_first_says_the_same_and_writes_nothing(tiny, tmp_path):
    said = keep(tmp_path, tiny, range(1, 4), scores_at=2, tensorboard=True, writes=False)
    assert [step for step, _ in said] == [1, 2, 3] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("writes", [True, False])  # all processes refuse, or those that did not would wait for ever
def test_without_tensorboardx_the_way_to_it_is_said_before_anything_is_written(tiny, tmp_path, monkeypatch, writes):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ValueError, match=r"need tensorboardX: pip install tensorboardX"):
        keep(tmp_path, tiny, range(1, 2), tensorboard=True, writes=writes)
    assert not list(tmp_path.iterdir())
    keep(tmp_path, tiny, range(1, 2))


def test_tensorboardx_comes_without_tensorflow_and_only_when_asked_for():
    program = (
        "import sys, siamese_jax.training.log as log\nassert 'tensorboardX' not in sys.modules\n"
        "log._summary_writer(); print(*{'tensorflow', 'torch', 'tensorboard'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
