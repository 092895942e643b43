"""The training loop: order of operations and input/output, no arithmetic.

Restore, then for each step: batch, step, log; now and then evaluate, then save. A run that was stopped goes on with the
same next batch and the same draws, since both are functions of the step alone.
"""

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import jax

from siamese_jax import checkpoints
from siamese_jax.config import Config
from siamese_jax.forward import Variables
from siamese_jax.recordings.batches import stream, task_specs
from siamese_jax.recordings.shards import Shard
from siamese_jax.training.evaluate import window_scores
from siamese_jax.training.parallel import data_parallel
from siamese_jax.training.step import StepMetrics, create_state, learning_rate


class Outcome(NamedTuple):
    """How a run ended: at which step, whether that was the last one, and windows per second without compilation."""

    step: int
    finished: bool
    windows_per_second: float


def train(
    config: Config,
    training: tuple[Shard, ...],
    validation: tuple[Shard, ...],
    workdir: Path,
    *,
    devices: list[jax.Device],
    stop_at: int | None = None,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, line: None,
) -> Outcome:
    """Train to `config.training.steps`, resuming what `workdir` holds.

    Writes `workdir/checkpoint/` and one JSON object a step to `workdir/training.jsonl`. SIGTERM (and Ctrl-C) saves and
    ends cleanly.

    Args:
        config: the experiment.
        training: shards to learn from.
        validation: shards to evaluate on along the way; may be empty.
        workdir: created if it is not there.
        devices: to train on.
        stop_at: end early after this step, as a queue's time limit would.
        on_step: called after each step with what was logged.

    Raises:
        ValueError: shards that do not fit the configuration, a batch that the devices cannot share, a workdir of another configuration.
        FloatingPointError: loss or gradient is not finite; the step is named, the last good checkpoint kept.
    """
    tasks = task_specs(training, config)
    parallel = data_parallel(config, tasks, devices)
    folder = workdir / "checkpoint"
    checkpoints.write_description(folder, config, tasks)
    last = config.training.steps if stop_at is None else min(stop_at, config.training.steps)
    schedule = learning_rate(config.training)

    with checkpoints.open_manager(folder) as manager, _stop_requested() as stop:
        state = create_state(config, tasks)
        state = checkpoints.restore(manager, state) or state
        step = start = int(state.step)
        state = parallel.place_state(state)
        batches = stream(training, config, seed=config.training.seed, start_step=start)
        with closing(_Log(workdir / "training.jsonl", start)) as log, closing(batches):
            clock = _Clock(config.training.batch_size)

            def report(step: int, metrics: StepMetrics) -> None:
                line = _line(step, metrics, float(schedule(step - 1)))
                log.write(line)
                on_step(step, line | {"windows_per_second": clock.rate()})

            waiting: tuple[int, StepMetrics] | None = None
            while step < last and not stop.is_set():
                state, metrics = parallel.step(state, parallel.place(next(batches)))
                step += 1
                if waiting is not None:
                    # The previous step's numbers are fetched while this one runs: the device never waits for the log.
                    report(*waiting)
                    clock.tick()
                waiting = (step, metrics)
                evaluates = step % config.training.evaluate_every == 0 or step == config.training.steps
                saves = step % config.training.checkpoint_every == 0 or step == last
                if evaluates or saves:
                    report(*waiting)
                    waiting = None
                    with clock.paused():
                        if evaluates and validation:
                            log.write({"step": step} | window_scores(config, tasks, _local(state.ema, devices), validation))
                        if saves:
                            checkpoints.save(manager, step, state, state.ema)
            if waiting is not None:  # stopped by a signal
                report(*waiting)
                checkpoints.save(manager, step, state, state.ema)
        manager.wait_until_finished()
    return Outcome(step, step == config.training.steps, clock.rate())


def _line(step: int, metrics: StepMetrics, rate: float) -> dict[str, float]:
    numbers = {"loss": metrics.loss, **{f"loss/{k}": v for k, v in metrics.task_losses.items()}}
    numbers["gradient_norm"] = metrics.gradient_norm
    line = {name: float(value) for name, value in numbers.items()}
    wrong = [name for name, value in line.items() if not math.isfinite(value)]
    if wrong:
        raise FloatingPointError(
            f"training step {step}: {wrong[0]} is {line[wrong[0]]}; stopped. The last checkpoint saved before it is"
            " intact; try a lower training.learning_rate or training.clip_norm"
        )
    return {"step": step, **line, "learning_rate": rate}


def _local(variables: Variables, devices: list[jax.Device]) -> Variables:
    """The same variables on one device: evaluation need not be repeated on every device."""
    return jax.device_put(variables, devices[0])


class _Clock:
    """Windows per second since the first step, without compilation and pauses."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size, self._steps, self._since = batch_size, 0, time.monotonic()

    def tick(self) -> None:
        if self._steps == 0:
            self._since = time.monotonic()
        self._steps += 1

    def rate(self) -> float:
        elapsed = time.monotonic() - self._since
        return (self._steps - 1) * self._batch_size / elapsed if self._steps > 1 else math.nan

    @contextmanager
    def paused(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._since += time.monotonic() - began


class _Log:
    """JSON lines, one a step; lines after the step that a run resumes from are dropped first."""

    def __init__(self, path: Path, resumed_from: int) -> None:
        kept = []
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step_of(line) <= resumed_from]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(f"{line}\n" for line in kept))
        os.replace(temporary, path)
        self._file = path.open("a")

    def write(self, line: dict[str, float]) -> None:
        # JSON has no NaN: a figure that is undefined (an AUROC without positives) is null.
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        self._file.write(json.dumps(clean) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf  # cut short by a crash: drop it


@contextmanager
def _stop_requested() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set instead of ending the process; the old handlers return afterwards."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # only the main thread may install handlers
        return
    old = {s: signal.signal(s, lambda *_: event.set()) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for which, handler in old.items():
            signal.signal(which, handler)
