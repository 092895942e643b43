"""The training loop: order of operations and input/output, no arithmetic.

Restore, then for each step: batch, step, log; now and then evaluate, then save. A run that was stopped goes on with the
same next batch and the same draws, since both are functions of the step alone.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import jax

from siamese_jax import checkpoints
from siamese_jax.config import Config
from siamese_jax.recordings.batches import stream, task_specs
from siamese_jax.recordings.shards import Shard
from siamese_jax.training.diary import Diary
from siamese_jax.training.evaluate import window_scores
from siamese_jax.training.parallel import Device, data_parallel
from siamese_jax.training.step import create_state


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
    devices: list[Device],
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
        ValueError: shards that do not fit the configuration, a batch that the devices cannot share, a workdir of
            another configuration.
        FloatingPointError: loss or gradient is not finite; the step is named, the last good checkpoint kept.
    """
    tasks = task_specs(training, config)
    parallel = data_parallel(config, tasks, devices)
    folder, sources = workdir / "checkpoint", tuple(sorted({shard.info.source for shard in training}))
    checkpoints.write_description(folder, checkpoints.Description(config, tasks, sources))
    last = config.training.steps if stop_at is None else min(stop_at, config.training.steps)
    with checkpoints.open_manager(folder) as manager, _stop_requested() as stop:
        state = create_state(config, tasks)
        state = checkpoints.restore(manager, state) or state
        step = start = int(state.step)
        state = parallel.place_state(state)
        batches = stream(training, config, seed=config.training.seed, start_step=start)
        with closing(Diary(workdir / "training.jsonl", config, start, on_step)) as diary, closing(batches):
            while step < last and not stop.is_set():
                state, metrics = parallel.step(state, parallel.place(next(batches)))
                step += 1
                diary.step(step, metrics)
                evaluates = step % config.training.evaluate_every == 0 or step == config.training.steps
                saves = step % config.training.checkpoint_every == 0 or step == last or stop.is_set()
                if evaluates or saves:
                    diary.catch_up()  # nothing is saved before its loss was seen to be finite
                with diary.paused():
                    if evaluates and validation:
                        variables = jax.device_put(state.ema, devices[0])  # need not be repeated on every device
                        diary.write({"step": step} | window_scores(config, tasks, variables, validation))
                    if saves:
                        checkpoints.save(manager, step, state, state.ema)
            diary.catch_up()
            if step > start and manager.latest_step() != step:  # stopped just after the last look
                checkpoints.save(manager, step, state, state.ema)
        manager.wait_until_finished()
    return Outcome(step, step == config.training.steps, diary.windows_per_second())


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
