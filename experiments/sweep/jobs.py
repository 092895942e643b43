"""Runs x folds x seeds: each trained and scored once, as a job of `experiments.runner`."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import training
from experiments.runner import Arrays, Done, Job, Runner
from experiments.statistics.calibration import fit_logistic
from experiments.sweep.folds import Fold, marked_of, patients_of
from experiments.sweep.predictions import ASLEEP, Predictions, Scored
from experiments.sweep.runs import Run
from experiments.training import trained
from siamese_jax.checkpoints import Checkpoint
from siamese_jax.config.experiment import Config
from siamese_jax.detection.predict import make_predictor, predict_shards
from siamese_jax.shards.schema import Shard
from siamese_jax.training.parallel import choose_devices
from siamese_jax.vocabulary import IED, SLEEP, STATE

CODE = (*training.CODE, "experiments/sweep/jobs.py")
SCORED_PARTS = ("validation", "test")

Progress = Callable[[str, float, float], None]
"""Told what is being done, how much of it is done, and of how much."""


def sweep(
    runs: Iterable[Run],
    folds: Sequence[Fold],
    seeds: int,
    runner: Runner,
    *,
    drawn: Callable[[Fold, int], Fold] = lambda fold, seed: fold,
    progress: Progress,
) -> list[Scored]:
    """Every run on every fold from every seed; what the runner holds already is read, the rest trained and scored.

    All runs are done for one seed and fold before the next, so that a sweep that is cut short can be compared.

    Args:
        runs: configurations; each gets the seed of its job.
        folds: from `make_folds`.
        seeds: how many: 0, 1, ...
        runner: keeps what is done.
        drawn: what of a fold a seed learns from; default all.
        progress: told (what, done, total) within a job.

    Raises:
        ValueError: shards that do not fit a configuration; what `drawn` raises; another process is at work at one of
            the jobs.
    """
    runs = tuple(runs)
    cases = [(run, drawn(fold, seed), seed) for seed in range(seeds) for fold in folds for run in runs]
    done = runner.do_all(training_job(*case, progress=progress) for case in cases)
    return [scored(run, fold, seed, one) for (run, fold, seed), one in zip(cases, done, strict=True)]


def training_job(run: Run, fold: Fold, seed: int, *, progress: Progress) -> Job:
    """One run on one fold from one seed."""
    name = f"{run.name}, fold {fold.number}, seed {seed}"

    def work(folder: Path) -> Arrays:
        return _train_and_score(run, fold, seed, folder, lambda *done: progress(f"training {name}", *done))

    return Job(name, _decides(run, fold, seed), CODE, work)


def _decides(run: Run, fold: Fold, seed: int) -> list[Any]:
    parts = {
        part: [(s.path.name, s.info.fingerprint, sorted(patients_of([s])), sorted(marked_of([s]))) for s in shards]
        for part, shards in fold._asdict().items()
        if part != "number"
    }
    configs = [config and json.loads(config.to_json()) for config in (seeded(run.config, seed), run.pretrained)]
    return [configs, run.shuffles_states, parts]


def seeded(config: Config, seed: int) -> Config:
    """A run's configuration with a job's seed."""
    return dataclasses.replace(config, training=dataclasses.replace(config.training, seed=seed))


def scored(run: Run, fold: Fold, seed: int, done: Done) -> Scored:
    """What a job found, its log-odds recalibrated on the validation patients (Platt 1999)."""
    fixing, tested = (Predictions(*(done.answer[f"{p}/{f}"] for f in Predictions._fields)) for p in SCORED_PARTS)
    n_parameters = int(done.answer["n_parameters"])
    return Scored(run.name, fold.number, seed, *recalibrated(fixing, tested), n_parameters, done.wall_seconds)


def recalibrated(
    fixing: Predictions, tested: Predictions, *, by_stage: bool = False
) -> tuple[Predictions, Predictions]:
    """Both parts with log-odds recalibrated by slope and intercept fitted on the first.

    All runs alike: positives are oversampled in training, so that what a network calls a probability is none.

    Args:
        fixing: of validation patients.
        tested: of test patients.
        by_stage: with an intercept for each code of a stage, and one for none, as if the stage were known.
    """

    def columns(of: Predictions) -> np.ndarray:
        stages = np.eye(ASLEEP + 2)[of.stage] if by_stage else np.ones((len(of.label), 1))
        return np.column_stack([of.log_odds, stages])

    fitted = fit_logistic(columns(fixing), fixing.label)
    validation, test = (of._replace(log_odds=columns(of) @ fitted) for of in (fixing, tested))
    return validation, test


# --- one job ---------------------------------------------------------------------------------------------------


def _train_and_score(run: Run, fold: Fold, seed: int, folder: Path, progress: Callable[[float, float], None]) -> Arrays:
    """Predictions of the validation and of the test patients, and the number of parameters."""
    shards = fold.train
    if run.shuffles_states:
        (task,) = set(run.config.tasks) & set(run.config.model.sleep_tasks)
        rngs = (np.random.default_rng([seed, i]) for i in range(len(shards)))
        shards = tuple(shuffled_states(shard, task, rng) for shard, rng in zip(shards, rngs, strict=True))
    options, first = {"devices": choose_devices(None), "progress": progress}, None
    if run.pretrained is not None:
        first = trained(seeded(run.pretrained, seed), shards, folder / "pretrained", **options)
    network = trained(seeded(run.config, seed), shards, folder / "trained", init_from=first, **options)
    parts = {part: predictions(network, getattr(fold, part)) for part in SCORED_PARTS}
    n_parameters = sum(x.size for x in jax.tree.leaves(network.variables["params"]))
    shutil.rmtree(folder / "pretrained", ignore_errors=True)
    jax.clear_caches()  # no other job has the same network: hundreds of them would fill the memory
    columns = {f"{part}/{name}": x for part, own in parts.items() for name, x in own._asdict().items()}
    return columns | {"n_parameters": np.array(n_parameters)}


def predictions(network: Checkpoint, shards: Sequence[Shard]) -> Predictions:
    """A network's log-odds on all windows with an IED label."""
    predictor = make_predictor(network.config, network.tasks)
    predicted = predict_shards(predictor, network.config, network.variables, shards)
    parts = []
    for shard, (windows, found) in zip(shards, predicted, strict=True):
        kept = shard.weights[IED.name][windows] > 0
        log_odds = found.window[IED.name][kept, 0].astype(np.float64)
        parts.append(_beside_what_is_known(log_odds, shard, windows[kept]))
    return Predictions(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _beside_what_is_known(log_odds: np.ndarray, shard: Shard, windows: np.ndarray) -> Predictions:
    stage = np.full(len(windows), -1, np.int32)
    if SLEEP.name in shard.labels:
        known = shard.weights[SLEEP.name][windows] > 0
        stage[known] = shard.labels[SLEEP.name][windows][known]
    elif STATE.name in shard.labels:
        known = shard.weights[STATE.name][windows] > 0
        stage[known] = np.where(shard.labels[STATE.name][windows][known] > 0.5, ASLEEP, 0)
    label = shard.labels[IED.name][windows] > 0.5
    return Predictions(shard.patient(windows).astype(str), shard.onset_seconds[windows], label, stage, log_odds)


def shuffled_states(shard: Shard, task: str, rng: np.random.Generator) -> Shard:
    """The shard with the labels of a task of sleep shuffled among each patient's windows that have one."""
    labels, weights = shard.labels[task].copy(), shard.weights[task]
    patient = shard.patient(np.arange(len(shard)))
    for name in shard.patients:
        own = np.flatnonzero((patient == name) & (weights > 0))
        labels[own] = labels[rng.permutation(own)]
    return dataclasses.replace(shard, labels=shard.labels | {task: labels})
