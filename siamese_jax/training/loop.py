"""The training loop: order of operations and input/output, no arithmetic.

Restore, then for each step: batch, step, log; now and then evaluate, then save. A run that was stopped goes on with the
same next batch and the same draws, since both are functions of the step alone.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from siamese_jax import checkpoints
from siamese_jax.checkpoints import Checkpoint
from siamese_jax.config.experiment import Config
from siamese_jax.detection.score import window_scores
from siamese_jax.shards.batches import Batch, electrodes, stream, task_specs
from siamese_jax.shards.schema import Shard
from siamese_jax.signals.preprocess import rows_present
from siamese_jax.training.log import Diary
from siamese_jax.training.parallel import DataParallel, Device, data_parallel, own_copy
from siamese_jax.training.processes import is_first, must_agree, stop_agreed, wait_for_all
from siamese_jax.training.profile import Profiler
from siamese_jax.training.step import TrainState, create_state
from siamese_jax.training.transfer import transfer
from siamese_jax.vocabulary import TaskSpec


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
    init_from: Checkpoint | None = None,
    tensorboard: bool = False,
    profile: bool = False,
    on_start: Callable[[str], None] = lambda text: None,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, line: None,
) -> Outcome:
    """Train to `config.training.steps`, resuming what `workdir` holds.

    SIGTERM (and Ctrl-C) saves and ends cleanly. Of several processes each calls this with the same arguments and reads
    its part of each batch; the first one writes the log, and all save.

    Args:
        config: the experiment.
        training: shards to learn from.
        validation: shards to evaluate on along the way; may be empty.
        workdir: for `checkpoint/` and `training.jsonl`; created if it is not there, one that all processes see.
        devices: to train on, those of all processes.
        stop_at: end early after this step, as a queue's time limit would.
        init_from: what a new run starts from (`transfer`); of a run that goes on it is checked, not used.
        tensorboard: write what is logged to `workdir/tensorboard/` too.
        profile: leave a trace in `workdir/profile/`.
        on_start: called once, before the first step, with what the run starts from.
        on_step: called after each step with what was logged.

    Raises:
        ValueError: shards that do not fit the configuration, a batch that the devices cannot share, a workdir of
            another configuration.
        FloatingPointError: loss or gradient is not finite; the step is named, the last good checkpoint kept.
    """
    tasks = task_specs(training, config)
    start_from = init_from and (init_from.config, init_from.tasks, init_from.trained_on, init_from.step)
    must_agree(config, stop_at, start_from, [(s.path.name, s.info, len(s)) for s in (*training, *validation)])
    parallel = data_parallel(config, tasks, devices)
    training, left_out = _with_rows(config, training)
    folder = workdir / "checkpoint"
    state, text = _first_state(config, tasks, init_from)  # before anything is written: it may not fit
    _describe(folder, config, tasks, training, init_from)
    last = config.training.steps if stop_at is None else min(stop_at, config.training.steps)
    with checkpoints.open_manager(folder) as manager, _stop_requested() as stop_requested:
        if saved := checkpoints.restore(manager, state):
            state, text = saved, f"start     resumes from step {int(saved.step)}"
        on_start(text + left_out)
        start = int(state.step)
        batches = stream(training, config, seed=config.training.seed, start_step=start, rows=parallel.rows)
        diary = Diary(workdir, config, start, on_step=on_step, tensorboard=tensorboard, writes=is_first())
        profiler = Profiler(workdir / "profile" if profile and is_first() else None)
        with closing(batches), closing(diary), closing(profiler):
            run = _Run(config, tasks, validation, parallel, manager, diary, profiler)
            step = run.steps(parallel.place_state(state), start, last, batches, stop_requested)
        manager.wait_until_finished()
    return Outcome(step, step == config.training.steps, diary.windows_per_second())


class _Run(NamedTuple):
    """What stays the same from step to step."""

    config: Config
    tasks: tuple[TaskSpec, ...]
    validation: tuple[Shard, ...]
    parallel: DataParallel
    manager: Any
    diary: Diary
    profiler: Profiler

    def steps(
        self,
        state: TrainState,
        step: int,
        last: int,
        batches: Iterator[Batch],
        stop_requested: Callable[[int], bool],
    ) -> int:
        """From `step` to `last`, or until a stop is requested; the step that was reached, saved."""
        stops = step >= last
        while not stops:
            step += 1
            with self.profiler.step(step):
                state, metrics = self.parallel.step(state, self.parallel.place(next(batches)))
            self.diary.step(step, metrics)
            stops = stop_requested(step) or step == last
            self._look_and_save(state, step, stops=stops)
        return step

    def _look_and_save(self, state: TrainState, step: int, *, stops: bool) -> None:
        training = self.config.training
        evaluates = step % training.evaluate_every == 0 or step == training.steps
        saves = step % training.checkpoint_every == 0 or stops
        if evaluates or saves:
            self.diary.catch_up()  # nothing is saved before its loss was seen to be finite
        with self.diary.paused():
            if evaluates and self.validation:
                scores = window_scores(self.config, self.tasks, own_copy(state.ema), self.validation)
                self.diary.write({"step": step} | scores)
            if saves:
                saved = self.parallel.as_saved(state)
                checkpoints.save(self.manager, step, saved, saved.ema)


def _with_rows(config: Config, training: tuple[Shard, ...]) -> tuple[tuple[Shard, ...], str]:
    """The shards of which the montage can make a row, and what is to be said of the others.

    Raises:
        ValueError: there is none; the network would learn from zeros.
    """
    there = [electrodes(shard, config) for shard in training]
    row = np.asarray(rows_present(config, jnp.concatenate(there))).any(1)
    seen = [rows.any() for rows in np.split(row, np.cumsum([len(t) for t in there])[:-1])]
    blind = [shard.path.name for shard, sees in zip(training, seen, strict=True) if not sees]
    why = f"of their electrodes not one row of the montage ({config.preprocess.montage}) can be made"
    if len(blind) == len(training):
        raise ValueError(f"the shards in {training[0].path.parent}: {why}; is another preprocess.montage meant?")
    kept = tuple(shard for shard, sees in zip(training, seen, strict=True) if sees)
    return kept, f"\nleft out  {', '.join(blind)}: {why}" if blind else ""


def _describe(
    folder: Path, config: Config, tasks: tuple[TaskSpec, ...], training: tuple[Shard, ...], init_from: Checkpoint | None
) -> None:
    """Write `config.json`, or check that it is this run's. All look before the first process writes."""
    sources = {shard.info.source for shard in training} | set(init_from.trained_on if init_from else ())
    description = checkpoints.Description(config, tasks, tuple(sorted(sources)))
    checkpoints.check_description(folder, description)
    wait_for_all("description checked")
    if is_first():
        checkpoints.write_description(folder, description)
    wait_for_all("description written")
    checkpoints.read_description(folder)  # refuses a folder that not all processes see


def _first_state(config: Config, tasks: tuple[TaskSpec, ...], init_from: Checkpoint | None) -> tuple[TrainState, str]:
    """The state that a new run begins with, and that in words."""
    fresh = create_state(config, tasks)
    if init_from is None:
        return fresh, f"start     at random, seed {config.training.seed}"
    variables, transferred = transfer(init_from, config, tasks, fresh.variables)
    return create_state(config, tasks, variables), transferred.text()


@contextmanager
def _stop_requested() -> Iterator[Callable[[int], bool]]:
    """Whether to end after a step: SIGTERM or Ctrl-C came, here or at another process; the old handlers return.

    Among several processes JAX listens to SIGTERM itself, and they agree on a step that all of them can still do.
    """
    asked = threading.Event()
    handlers: dict[signal.Signals, Callable[[int, object], object]] = {}
    if threading.current_thread() is threading.main_thread():  # no other may install handlers
        if jax.process_count() > 1:
            handlers = {signal.SIGINT: lambda *_: os.kill(os.getpid(), signal.SIGTERM)}
        else:
            handlers = dict.fromkeys((signal.SIGTERM, signal.SIGINT), lambda *_: asked.set())
    old = {which: signal.signal(which, handler) for which, handler in handlers.items()}
    try:
        yield lambda step: asked.is_set() or stop_agreed(step)
    finally:
        for which, handler in old.items():
            signal.signal(which, handler)
