"""The training loop: order of operations and input/output, no arithmetic.

Restore, then for each step: batch, step, log; now and then evaluate, then save. A run that was stopped resumes with the
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

from siamese_jax import checkpoints, identity
from siamese_jax.checkpoints import Checkpoint
from siamese_jax.config.experiment import Config
from siamese_jax.detection.score import window_scores
from siamese_jax.shards.batches import Batch, check_geometry, electrodes, stream, task_specs
from siamese_jax.shards.schema import Shard
from siamese_jax.signals.preprocess import rows_present
from siamese_jax.training.log import TrainingLog
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
    allow_training_patients: bool = False,
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
        init_from: what a new run starts from (`transfer`); of a run that resumes it is checked, not used.
        allow_training_patients: evaluate along the way on patients that `init_from` learnt from, too.
        tensorboard: write what is logged to `workdir/tensorboard/` too.
        profile: leave a trace in `workdir/profile/`.
        on_start: called once, before the first step, with what the run starts from.
        on_step: called after each step with what was logged.

    Raises:
        ValueError: shards that do not fit the configuration, a batch that the devices cannot share, a workdir of
            another configuration or of other shards, validation patients that `init_from` learnt from.
        FloatingPointError: loss or gradient is not finite; the step is named, the last good checkpoint kept.
    """
    tasks = task_specs(training, config)
    start_from = init_from and (init_from.config, init_from.tasks, init_from.identity, init_from.step)
    must_agree(config, stop_at, start_from, [(s.path.name, s.info, len(s)) for s in (*training, *validation)])
    parallel = data_parallel(config, tasks, devices)
    training, notes = _with_rows(config, training)
    folder = workdir / "checkpoint"
    state, text = _first_state(config, tasks, init_from)  # before anything is written: it may not fit
    description = _described(folder, config, tasks, (training, validation), init_from)
    watched, missing = _watched(config, tasks, training, validation)
    notes += missing
    if init_from is not None:
        notes += _already_learnt(init_from, validation, config, allow=allow_training_patients)
    _write_description(folder, description)
    last = config.training.steps if stop_at is None else min(stop_at, config.training.steps)
    with checkpoints.open_manager(folder) as manager, _stop_requested() as stop_requested:
        if saved := checkpoints.restore_state(manager, state):
            state, text = saved, f"start     resumes from step {int(saved.step)}"
            if is_first():
                notes += _in_step(folder, saved, last)
        on_start("\n".join([text, *notes]))
        start = int(state.step)
        batches = stream(training, config, seed=config.training.seed, start_step=start, rows=parallel.rows)
        log = TrainingLog(workdir, config, start, on_step=on_step, tensorboard=tensorboard, writes=is_first())
        profiler = Profiler(workdir / "profile" if profile and is_first() else None)
        with closing(batches), closing(log), closing(profiler):
            run = _Run(config, tasks, watched, parallel, folder, manager, log, profiler)
            step = run.steps(parallel.place_state(state), start, last, batches, stop_requested)
    return Outcome(step, step == config.training.steps, log.windows_per_second())


class _Run(NamedTuple):
    """What stays the same from step to step."""

    config: Config
    tasks: tuple[TaskSpec, ...]
    validation: tuple[Shard, ...]
    parallel: DataParallel
    folder: Path
    manager: Any
    log: TrainingLog
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
            self.log.step(step, metrics)
            stops = stop_requested(step) or step == last
            self._look_and_save(state, step, stops=stops)
        return step

    def _look_and_save(self, state: TrainState, step: int, *, stops: bool) -> None:
        training = self.config.training
        evaluates = step % training.evaluate_every == 0 or step == training.steps
        saves = step % training.checkpoint_every == 0 or stops
        if evaluates or saves:
            self.log.catch_up()  # nothing is saved before its loss was seen to be finite
        with self.log.paused():
            if evaluates and self.validation:
                scores = window_scores(self.config, self.tasks, own_copy(state.ema), self.validation)
                self.log.write({"step": step} | scores)
            if saves:
                saved = self.parallel.as_saved(state)
                checkpoints.save_state(self.manager, step, saved)
                if is_first():
                    checkpoints.write_parameters(self.folder, saved.ema, step)


def _with_rows(config: Config, training: tuple[Shard, ...]) -> tuple[tuple[Shard, ...], list[str]]:
    """The shards of which the montage can make a row, and a line about the others.

    Raises:
        ValueError: there is none; the network would learn from zeros.
    """
    there = [
        electrodes(shard, config) for shard in training
    ]  # one call for all shards, however many recordings each has
    row = np.asarray(rows_present(config, jnp.concatenate(there))).any(1)
    usable = [rows.any() for rows in np.split(row, np.cumsum([len(t) for t in there])[:-1])]
    kept = tuple(shard for shard, is_usable in zip(training, usable, strict=True) if is_usable)
    why = f"of their electrodes not one row of the montage ({config.preprocess.montage}) can be made"
    if not kept:
        raise ValueError(f"the shards in {training[0].path.parent}: {why}; choose another preprocess.montage")
    others = [shard.path.name for shard, is_usable in zip(training, usable, strict=True) if not is_usable]
    return kept, [f"left out  {', '.join(others)}: {why}"] if others else []


def _watched(
    config: Config, tasks: tuple[TaskSpec, ...], training: tuple[Shard, ...], validation: tuple[Shard, ...]
) -> tuple[tuple[Shard, ...], list[str]]:
    """The shards to evaluate on during training, and lines about labels that are missing.

    Raises:
        ValueError: validation shards that do not fit the configuration.
    """
    notes = [
        f"warning   no window for training has a label for {task}: its head learns nothing"
        for task in _unlabelled(training, config)
    ]
    if not validation:
        return (), notes
    if task_specs(validation, config) != tasks:
        raise ValueError(
            f"the tasks of {validation[0].path.parent} are defined otherwise than those of {training[0].path.parent}:"
            f" {task_specs(validation, config)} against {tasks}"
        )
    for shard in validation:
        check_geometry(shard, config)
        electrodes(shard, config)  # refuses a shard without any of them
    missing = _unlabelled(validation, config)
    notes += [
        f"warning   no window for validation has a label for {task}: no figures of it along the way" for task in missing
    ]
    return (() if len(missing) == len(tasks) else validation), notes


def _unlabelled(shards: tuple[Shard, ...], config: Config) -> list[str]:
    return [task for task in config.tasks if not any((shard.weights[task] > 0).any() for shard in shards)]


def _already_learnt(init_from: Checkpoint, validation: tuple[Shard, ...], config: Config, *, allow: bool) -> list[str]:
    """A warning about validation patients that a checkpoint learnt from.

    Raises:
        ValueError: there are some, and nobody allowed it.
    """
    known = identity.known_to(init_from.identity.origins, validation, config.tasks)
    if not known.patients:
        return []
    found = f"the checkpoint that this run starts from learnt from {known.text()} of the validation shards"
    if not allow:
        raise ValueError(
            f"{found}: their figures would be too good. Validate on other patients, or allow these:"
            " --allow-training-patients"
        )
    return [f"warning   {found}: figures during training are too good"]


def _described(
    folder: Path,
    config: Config,
    tasks: tuple[TaskSpec, ...],
    shards: tuple[tuple[Shard, ...], tuple[Shard, ...]],
    init_from: Checkpoint | None,
) -> checkpoints.Description:
    """Configuration and identity of a run, checked against those of a run that the folder holds.

    Raises:
        ValueError: it holds a run of another configuration, on other shards, or on top of another checkpoint.
    """
    before = init_from.identity.runs if init_from else ()
    own = identity.new_training(*shards, config.tasks)
    description = checkpoints.Description(config, tasks, identity.Identity((own, *before)))
    if not checkpoints.holds_run(folder):
        return description
    checkpoints.check_description(folder, description)
    runs = checkpoints.read_description(folder).identity.runs
    if not runs:
        raise ValueError(f"{folder} does not say what it learnt from, so it cannot be resumed: name a new folder")
    wrong = [
        f"of the {part} data, {change}"
        for part, given in zip(("training", "validation"), shards, strict=True)
        for change in identity.changes(getattr(runs[0], part), given, config.tasks)
    ]
    if before and before != runs[1:]:
        wrong.append("it started from another checkpoint than --init-from names")
    if wrong:
        raise ValueError(
            f"{folder} holds a run on other data: {'; '.join(wrong)}. Name a new folder for the run; it may start from"
            f" this one's parameters: --init-from {folder}"
        )
    return description


def _write_description(folder: Path, description: checkpoints.Description) -> None:
    """Write configuration and identity of a new run; all processes have read the folder before the first one writes."""
    wait_for_all("description checked")
    if is_first() and not checkpoints.holds_run(folder):
        checkpoints.write_description(folder, description)
    wait_for_all("description written")
    checkpoints.read_description(folder)  # refuses a folder that not all processes see


def _in_step(folder: Path, saved: TrainState, last: int) -> list[str]:
    """Put the parameters beside a state that a killed run left without them; remove thresholds of other parameters."""
    checkpoints.write_parameters(folder, saved.ema, int(saved.step))
    if int(saved.step) >= last or checkpoints.read_thresholds(folder) is None:
        return []
    checkpoints.write_thresholds(folder, None)
    return ["warning   removed the thresholds of the parameters so far: run `siamese-jax fix-thresholds` afterwards"]


def _first_state(config: Config, tasks: tuple[TaskSpec, ...], init_from: Checkpoint | None) -> tuple[TrainState, str]:
    """The state that a new run begins with, and that in words."""
    fresh = create_state(config, tasks)
    if init_from is None:
        return fresh, f"start     at random, seed {config.training.seed}"
    variables, transferred = transfer(init_from, config, tasks, fresh.variables)
    own = jax.tree.map(jnp.copy, variables)  # a step takes its state's memory: the checkpoint keeps its own
    return create_state(config, tasks, own), transferred.text()


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
