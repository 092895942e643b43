"""Several processes train as one does; one that is lost ends the others, and the same commands resume."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from siamese_jax import checkpoints
from siamese_jax.cli.training import Processes
from siamese_jax.shards.schema import open_shards
from siamese_jax.training.loop import train
from siamese_jax.training.parallel import data_parallel
from siamese_jax.training.processes import LOST_AFTER_SECONDS, join
from siamese_jax.training.step import create_state
from siamese_jax.vocabulary import IED, SLEEP
from tests.simulated_cohort import tiny_shards

ROOT = Path(__file__).parents[2]
QUICK = "--xla_backend_optimization_level=0"  # to compile; one device a process
SETTINGS = """--data.ch-names F3 F4 C3 C4 Cz --data.sfreq 100 --data.window-seconds 1 --model.width 0.34
    --preprocess.eeg-band-hz 1 30 --preprocess.filter-half-seconds 0.5 --converter.n-fft 16 --converter.hop 5
    --converter.band-hz 0 30 --model.dilations 1 1 2 --model.shared-stages 1 --training.batch-size 16
    --training.steps 100000 --training.warmup-steps 2 --training.checkpoint-every 2""".split()


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return tiny_shards(tmp_path_factory.mktemp("cohort"))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(arguments, log: Path, **environment) -> subprocess.Popen:
    everything = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | environment
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)], cwd=ROOT, env=everything, stdout=file, stderr=subprocess.STDOUT
        )


def run_two(folder: Path, configs, shards: Path, stop_at: int | None) -> tuple[list[int], list[str]]:
    """Exit codes and logs of two processes of two devices each."""
    options = {"devices": 2, "port": free_port(), "processes": 2, "shards": str(shards), "stop_at": stop_at}
    (folder / "options.json").write_text(json.dumps(options | {"lost_after": 60}))
    running = []
    for i, config in enumerate(configs):
        (folder / f"config{i}.json").write_text(config.to_json())
        running.append(start([ROOT / "tests/training/process_of_several.py", folder, i], folder / f"log{i}"))
    codes = [process.wait(240) for process in running]
    return codes, [(folder / f"log{i}").read_text() for i in range(2)]


def train_as_two(folder: Path, config, shards: Path, stop_at: int | None) -> None:
    codes, logs = run_two(folder, (config, config), shards, stop_at)
    assert codes == [0, 0], "".join(log[-3000:] for log in logs)


def train_as_one(folder: Path, config, shards: Path, stop_at: int | None, n_devices: int) -> None:
    training, validation = (tuple(open_shards(shards / split)) for split in ("train", "validation"))
    train(config, training, validation, folder / "run", devices=jax.devices()[:n_devices], stop_at=stop_at)


def lines(folder: Path):
    return [json.loads(line) for line in (folder / "run/training.jsonl").read_text().splitlines()]


def losses(folder: Path):
    found = [(line["step"], line["loss"]) for line in lines(folder) if "loss" in line]
    assert [step for step, _ in found] == list(range(1, len(found) + 1))  # by one process, each step once
    return [loss for _, loss in found]


def final_variables(folder: Path, config):
    with checkpoints.open_manager(folder / "run/checkpoint") as manager:
        variables = jax.device_get(checkpoints.restore_state(manager, create_state(config, (IED, SLEEP))).variables)
    # The next batch-norm takes this bias away: its gradient is rounding alone, which Adam makes as large as any other.
    del variables["params"]["shared_0"]["BatchNorm_0"]["BatchNorm_0"]["bias"]
    return variables


def test_processes_may_come_and_go(shards, with_training, tmp_path):
    """Two processes, one, and two again give what one device gives: batches, draws, losses, parameters."""
    config, other = (
        with_training(parallel=parallel, accumulate=2, evaluate_every=8) for parallel in ("pmap", "shard_map")
    )
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    alone.mkdir(), shared.mkdir()
    train_as_one(alone, config, shards, None, 1)
    train_as_two(shared, config, shards, 3)
    train_as_one(shared, other, shards, 5, 8)
    train_as_two(shared, other, shards, None)
    np.testing.assert_allclose(losses(shared), losses(alone), rtol=1e-5)
    chex.assert_trees_all_close(final_variables(shared, config), final_variables(alone, config), rtol=0, atol=2e-4)
    # The processes looked at validation shards too, and one of them wrote it down.
    assert len([line for line in lines(shared) if "validation/ied/auroc" in line]) == 1


def test_processes_that_were_given_different_things_refuse_to_begin(shards, with_training, tmp_path):
    codes, logs = run_two(tmp_path, (with_training(seed=0), with_training(seed=1)), shards, 2)
    assert 0 not in codes
    assert all("were given different arguments, shards or checkpoints" in log for log in logs), logs
    assert not (tmp_path / "run").exists()


def wait_for(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return False


@pytest.fixture
def command(shards, tmp_path):
    """Starts both processes of `siamese-jax train`."""
    started = []

    def go(*, lost_after: int):
        port, both = free_port(), []
        for i in range(2):
            where = f"--coordinator 127.0.0.1:{port} --process-id {i} --num-processes 2 --lost-after {lost_after}"
            arguments = ["-m", "siamese_jax.cli.main", "train", shards, tmp_path / "run", *where.split(), *SETTINGS]
            both.append(start(arguments, tmp_path / f"log{i}", XLA_FLAGS=QUICK, PYTHONUNBUFFERED=""))
        started.extend(both)
        return both

    yield go
    for process in started:
        process.kill()


def test_a_lost_process_ends_the_other_and_the_same_commands_resume(command, tmp_path):
    def last_step() -> int:
        log = tmp_path / "run/training.jsonl"
        return max((line["step"] for line in lines(tmp_path)), default=0) if log.exists() else 0

    staying, lost = command(lost_after=10)
    assert wait_for(lambda: last_step() >= 4, 240), (tmp_path / "log0").read_text()[-3000:]
    lost.send_signal(signal.SIGKILL)
    code = staying.wait(10 + 60)  # as long as is stated, and some time to abort
    printed = (tmp_path / "log0").read_text()
    assert code in (75, -signal.SIGABRT), printed
    assert "gives no sign of life for 10 s, JAX ends all others. Then start all processes again" in printed

    saved = max(int(step.name) for step in (tmp_path / "run/checkpoint/state").iterdir() if step.name.isdigit())
    assert saved >= 2
    again = command(lost_after=60)
    assert wait_for(lambda: f"resumes from step {saved}" in (tmp_path / "log0").read_text(), 240)
    reached = last_step()
    assert wait_for(lambda: last_step() > max(reached, saved + 2), 240)
    # SIGTERM to one of them, as a cluster's queue would: both save the same step and end well.
    again[1].send_signal(signal.SIGTERM)
    assert [process.wait(60) for process in again] == [0, 0]
    with checkpoints.open_manager(tmp_path / "run/checkpoint") as manager:
        assert manager.latest_step() == len(losses(tmp_path)) > saved


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give all of --coordinator, --process-id and --num-processes, or --cluster alone"),
        ({"coordinator": "here:1"}, "give all of"),
        ({"coordinator": "here:1", "process_id": 0, "num_processes": 2, "cluster": True}, "or --cluster alone"),
        ({"coordinator": "here:1", "process_id": 2, "num_processes": 2}, "--process-id must be 0 to 1 of 2, given 2"),
        ({"coordinator": "here:1", "process_id": -1, "num_processes": 2}, "must be 0 to 1 of 2, given -1"),
        ({"coordinator": "here", "process_id": 0, "num_processes": 2}, "must be HOST:PORT, given 'here'"),
        ({"coordinator": "::1", "process_id": 0, "num_processes": 2}, "must be HOST:PORT, given '::1'"),
        ({"coordinator": "here:1", "process_id": 0, "num_processes": 0}, "--num-processes must be 1 or more, given 0"),
        (
            {"coordinator": "here:1", "process_id": 0, "num_processes": 1, "lost_after_seconds": 0},
            "--lost-after must be 1 or more",
        ),
        ({"cluster": True}, "found no SLURM, Open MPI, TPU pod or Kubernetes job to join"),
    ],
)
def test_what_cannot_be_joined_is_one_sentence(given, message):
    with pytest.raises(ValueError, match=message):
        join(**given)


def test_jax_learns_after_how_long_a_silent_process_is_lost(monkeypatch):
    """A process that dies breaks its connections and is missed at once; one that hangs is missed by this alone."""
    given = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda *arguments, **options: given.update(options))
    join("here:1", 0, 2, lost_after_seconds=7)
    assert given["heartbeat_timeout_seconds"] == 7
    assert Processes().lost_after == LOST_AFTER_SECONDS  # the command line may not import JAX to look it up


def test_a_micro_batch_holds_the_same_windows_on_any_number_of_devices(with_training):
    config = with_training(batch_size=16, accumulate=2)
    for n in (1, 2, 4):
        rows = data_parallel(config, (IED, SLEEP), jax.devices()[:n]).rows
        by_device = rows.reshape(n, 2, -1)  # device, micro-batch, window
        assert sorted(rows) == list(range(16))
        assert sorted(by_device[:, 0].ravel()) == list(range(8))


def test_a_batch_that_cannot_be_shared_is_said_before_any_work(with_training):
    with pytest.raises(ValueError, match=r"batch_size=16 cannot be divided .*among 3 devices; use a multiple of 3"):
        data_parallel(with_training(), (IED, SLEEP), jax.devices()[:3])
    config = dataclasses.replace(with_training(batch_size=16, accumulate=4))
    with pytest.raises(ValueError, match=r"among 8 devices in 4 micro-batches; use a multiple of 32"):
        data_parallel(config, (IED, SLEEP), jax.devices())
