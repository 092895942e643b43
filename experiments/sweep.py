"""Runs x folds x seeds: each trained and scored once, kept, and found again.

A job's folder is named after the hash of all that its figures hang on: configuration, patients of each part, bytes of
the shards, code. So a sweep that is killed at any moment goes on where it stopped (a half-trained job from its last
checkpoint), and one whose code or data changed begins afresh. Every job's time stands in OUT/log.jsonl.
"""

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float64, Int32, Shaped

from experiments.folds import Fold, marked_of, patients_of
from experiments.provenance import hash_of
from experiments.runs import Run
from experiments.scored import ASLEEP, Answers, Scored
from experiments.statistics.calibration import fit_logistic
from siamese_jax.checkpoints import Checkpoint, load
from siamese_jax.cohort.report import locked
from siamese_jax.config.experiment import Config
from siamese_jax.detection.predict import make_predictor, predict_shards
from siamese_jax.shards.schema import Shard
from siamese_jax.training.loop import train
from siamese_jax.training.parallel import choose_devices
from siamese_jax.vocabulary import IED, SLEEP, STATE

CODE = (
    *("siamese_jax/config/experiment.py", "siamese_jax/config/sections.py", "siamese_jax/vocabulary.py"),
    *("siamese_jax/forward.py", "siamese_jax/detection/predict.py", "siamese_jax/checkpoints.py"),
    *("siamese_jax/signals", "siamese_jax/models", "siamese_jax/training"),
    *("siamese_jax/shards/batches.py", "siamese_jax/shards/schema.py", "siamese_jax/recordings/windows.py"),
    *("experiments/statistics/calibration.py", "experiments/sweep.py"),
)
"""What a trained model's answers hang on; commands, tables and documents may change without a new sweep."""
ROOT = Path(__file__).parents[1]
SCORES, ABOUT = "scores.npz", "about.json"
SCORED_PARTS = ("validation", "test")

Say = Callable[[str], None]
Progress = Callable[[str, float, float], None]


class Judged(NamedTuple):
    """A network's log-odds of an IED beside what is known of the windows; as `Answers`."""

    patient: Shaped[np.ndarray, "window"]
    onset_seconds: Float64[np.ndarray, "window"]
    label: Bool[np.ndarray, "window"]
    stage: Int32[np.ndarray, "window"]
    log_odds: Float64[np.ndarray, "window"]


class Job(NamedTuple):
    """One run on one fold from one seed."""

    run: Run
    fold: Fold
    seed: int

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.run.name}, fold {self.fold.number}, seed {self.seed}"


def sweep(
    runs: Iterable[Run],
    folds: Sequence[Fold],
    seeds: int,
    out: Path,
    *,
    drawn: Callable[[Fold, int], Fold] = lambda fold, seed: fold,
    say: Say = print,
    progress: Progress,
) -> list[Scored]:
    """Every run on every fold from every seed; what `out` holds already is read, the rest trained, scored and kept.

    All runs are done for one seed and fold before the next, so that a sweep that is cut short can be compared.

    Args:
        runs: configurations; each is told its seed.
        folds: from `make_folds`.
        seeds: how many: 0, 1, ...
        out: jobs land in OUT/jobs, a line for each in OUT/log.jsonl.
        drawn: what of a fold a seed learns from; default all.
        say: told of each job that is done, and how long the rest will take.
        progress: told (what, done, total) within a job.

    Raises:
        ValueError: shards that do not fit a configuration; what `drawn` raises; another process is at work at one of
            the jobs.
    """
    runs, jobs = tuple(runs), []
    for seed in range(seeds):
        for fold in folds:
            jobs += [Job(run, drawn(fold, seed), seed) for run in runs]
    folders = [out / "jobs" / job_key(job) for job in jobs]
    missing = sum(not (folder / SCORES).exists() for folder in folders)
    say(f"{len(jobs)} jobs: {len(jobs) - missing} done before, {missing} to do, in {out}")
    scored, spent = [], []
    for job, folder in zip(jobs, folders, strict=True):
        if not (folder / SCORES).exists():
            with locked(folder):
                seconds = _do(job, folder, progress)
            _log(out, job, folder, seconds)
            spent.append(seconds["wall"])
            left = (missing - len(spent)) * float(np.mean(spent)) / 60
            say(f"{len(spent)}/{missing} {job.name}: {seconds['wall']:.0f} s; about {left:.0f} min left")
        scored.append(read_scored(job, folder))
    return scored


def job_key(job: Job) -> str:
    """Hash of all that a job's figures hang on."""
    fold = {
        part: [(s.path.name, s.info.fingerprint, sorted(patients_of([s])), sorted(marked_of([s]))) for s in shards]
        for part, shards in job.fold._asdict().items()
        if part != "number"
    }
    own = [config and config.to_json() for config in (seeded(job.run.config, job.seed), job.run.pretrained)]
    given = [own, job.run.shuffles_states, fold, code_version(ROOT)]
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()[:20]


def code_version(root: Path) -> str:
    """Hash of the source that a trained model's answers hang on."""
    places = [root / place for place in CODE]
    return hash_of(root, (file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place])))


def seeded(config: Config, seed: int) -> Config:
    """A run's configuration with a job's seed."""
    return dataclasses.replace(config, training=dataclasses.replace(config.training, seed=seed))


def read_scored(job: Job, folder: Path) -> Scored:
    """What a finished job found, its log-odds recalibrated on the validation patients (Platt 1999)."""
    about = json.loads((folder / ABOUT).read_text())
    with np.load(folder / SCORES, allow_pickle=False) as held:
        fixing, tested = (Judged(*(held[f"{part}/{name}"] for name in Judged._fields)) for part in SCORED_PARTS)
    validation, test = recalibrated(fixing, tested)
    counts = {name: about[name] for name in ("n_parameters", "seconds")}
    return Scored(job.run.name, job.fold.number, job.seed, validation, test, **counts)


def recalibrated(fixing: Judged, tested: Judged, *, by_stage: bool = False) -> tuple[Answers, Answers]:
    """Probabilities of both parts from log-odds, by slope and intercept fitted on the first.

    All runs alike: positives are oversampled in training, so that what a network calls a probability is none.

    Args:
        fixing: of validation patients.
        tested: of test patients.
        by_stage: with an intercept for each code of a stage, and one for none, as if the stage were known.
    """

    def columns(of: Judged) -> np.ndarray:
        stages = np.eye(ASLEEP + 2)[of.stage] if by_stage else np.ones((len(of.label), 1))
        return np.column_stack([of.log_odds, stages])

    fitted = fit_logistic(columns(fixing), fixing.label)

    def answers(of: Judged) -> Answers:
        return Answers(of.patient, of.onset_seconds, of.label, of.stage, 0.5 * (1 + np.tanh(columns(of) @ fitted / 2)))

    return answers(fixing), answers(tested)


# --- one job ---------------------------------------------------------------------------------------------------


def _do(job: Job, folder: Path, progress: Progress) -> dict[str, float]:
    """Train and score; the scores appear whole, under their name, at the very end."""
    began, cpu = time.monotonic(), time.process_time()
    shards = job.fold.train
    if job.run.shuffles_states:
        (task,) = set(job.run.config.tasks) & set(job.run.config.model.sleep_tasks)
        rngs = (np.random.default_rng([job.seed, i]) for i in range(len(shards)))
        shards = tuple(shuffled_states(shard, task, rng) for shard, rng in zip(shards, rngs, strict=True))
    first = None
    if job.run.pretrained is not None:
        first = _train(seeded(job.run.pretrained, job.seed), shards, folder / "pretrained", None, job, progress)
    trained = _train(seeded(job.run.config, job.seed), shards, folder / "trained", first, job, progress)
    parts = {part: judge(trained, getattr(job.fold, part)) for part in SCORED_PARTS}
    seconds = {"wall": time.monotonic() - began, "cpu": time.process_time() - cpu}
    n_parameters = sum(x.size for x in jax.tree.leaves(trained.variables["params"]))
    description = {"run": job.run.name, "fold": job.fold.number, "seed": job.seed, "n_parameters": n_parameters}
    description |= {"seconds": seconds["wall"], "cpu_seconds": seconds["cpu"]}
    (folder / ABOUT).write_text(json.dumps(description))
    partial = folder / "partial.npz"
    np.savez(partial, **{f"{p}/{name}": x for p, own in parts.items() for name, x in own._asdict().items()})
    partial.replace(folder / SCORES)
    shutil.rmtree(folder / "pretrained", ignore_errors=True)
    jax.clear_caches()  # no other job has the same network: hundreds of them would fill the memory
    return seconds


def _train(
    config: Config, shards: tuple[Shard, ...], workdir: Path, init_from: Checkpoint | None, job: Job, progress: Progress
) -> Checkpoint:
    def on_step(step: int, _: dict[str, float]) -> None:
        progress(f"training {job.name}", step, config.training.steps)

    outcome = train(config, shards, (), workdir, devices=choose_devices(None), init_from=init_from, on_step=on_step)
    if not outcome.finished:
        raise KeyboardInterrupt
    return load(workdir / "checkpoint")


def judge(trained: Checkpoint, shards: Sequence[Shard]) -> Judged:
    """A model's log-odds on all windows with an IED label."""
    predictor = make_predictor(trained.config, trained.tasks)
    predicted = predict_shards(predictor, trained.config, trained.variables, shards)
    parts = []
    for shard, (windows, found) in zip(shards, predicted, strict=True):
        kept = shard.weights[IED.name][windows] > 0
        parts.append(about(shard, windows[kept])._replace(log_odds=found.window[IED.name][kept, 0].astype(np.float64)))
    return Judged(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def about(shard: Shard, windows: np.ndarray) -> Judged:
    """What is known of some windows; log-odds of 0."""
    stage = np.full(len(windows), -1, np.int32)
    if SLEEP.name in shard.labels:
        scored = shard.weights[SLEEP.name][windows] > 0
        stage[scored] = shard.labels[SLEEP.name][windows][scored]
    elif STATE.name in shard.labels:
        scored = shard.weights[STATE.name][windows] > 0
        stage[scored] = np.where(shard.labels[STATE.name][windows][scored] > 0.5, ASLEEP, 0)
    return Judged(
        patient=shard.patient(windows).astype(str),
        onset_seconds=shard.onset_seconds[windows],
        label=shard.labels[IED.name][windows] > 0.5,
        stage=stage,
        log_odds=np.zeros(len(windows)),
    )


def shuffled_states(shard: Shard, task: str, rng: np.random.Generator) -> Shard:
    """The shard with the labels of a task of sleep dealt out anew among each patient's windows that have one."""
    labels, weights = shard.labels[task].copy(), shard.weights[task]
    patient = shard.patient(np.arange(len(shard)))
    for name in shard.patients:
        own = np.flatnonzero((patient == name) & (weights > 0))
        labels[own] = labels[rng.permutation(own)]
    return dataclasses.replace(shard, labels=shard.labels | {task: labels})


def _log(out: Path, job: Job, folder: Path, seconds: dict[str, float]) -> None:
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "job": job.name, "folder": folder.name}
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps(line | {f"{kind}_seconds": round(n, 1) for kind, n in seconds.items()}) + "\n")
