"""The network, and its training on some subjects: each once, by what it learnt from, however often it is used."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import training
from experiments.provenance import hash_of
from experiments.runner import Arrays, Job, Runner
from experiments.sleep.data import CHANNEL, SPINDLE, Central, open_excerpt, staged_every, truth
from experiments.sleep.scoring import STEP_SECONDS, Prediction, Settings, StageStatistics, choose, predict
from experiments.statistics.stages import transition_probabilities
from experiments.training import trained
from siamese_jax.checkpoints import Checkpoint, load, write
from siamese_jax.cohort.prepare import prepare
from siamese_jax.cohort.sources import Opened
from siamese_jax.config.experiment import (
    Config,
    ConverterConfig,
    DataConfig,
    ModelConfig,
    PreprocessConfig,
    TrainingConfig,
)
from siamese_jax.files import write_json
from siamese_jax.shards.schema import open_shards
from siamese_jax.training.parallel import choose_devices
from siamese_jax.vocabulary import SLEEP

HOP_SECONDS = 0.2
"""From one window of training to the next: a frame."""
DILATIONS = (1, 1, 2, 4, 8, 16, 32)
"""A frame of 0.2 s sees 13 s to each side."""
SETTINGS = "settings.json"
TRAINED, SHARDS = "trained", "shards"
"""Folders in those of jobs."""
SHARDS_CODE = (*training.SHARDS_CODE, "data_tools/dreams.py", "experiments/hypnogram.py", "experiments/sleep/data.py")
CODE = (*training.CODE, *SHARDS_CODE, "experiments/sleep/networks.py")
PREDICTION_CODE = (*CODE, "experiments/sleep/scoring.py")

CONFIG = Config(
    tasks=(SLEEP.name, SPINDLE.name),
    data=DataConfig(ch_names=(CHANNEL,), sfreq=100.0, window_seconds=0.8),
    preprocess=PreprocessConfig(
        eeg_band_hz=(0.3, 45.0), mains_hz=None, filter_half_seconds=2.5, montage="referential", eeg_scale_uv=5.0
    ),
    converter=ConverterConfig(n_fft=(64,), hop=20, band_hz=(1.0, 24.0), amplitude="log"),
    model=ModelConfig(
        width=0.5,
        dilations=DILATIONS,
        shared_stages=len(DILATIONS) - 1,
        fusion="none",
        dropout=0.3,
        sleep_tasks=("sleep", "state", "spindle"),
    ),
    training=TrainingConfig(
        batch_size=64,
        learning_rate=3e-3,
        weight_decay=0.05,
        ema_decay=0.99,
        label_smoothing=0.05,
        pos_weight=4.0,
        amplitude=0.1,
        electrode_dropout=0.0,
        flip=0.0,
        evaluate_every=10**6,
        checkpoint_every=10**6,
    ),
)
"""Ours, fixed beforehand but for what the docstring of the command says. Nothing above 24 Hz is read, so that an
excerpt of 50 Hz can be learnt from. Both tasks read the sleep branch, frame by frame: a spindle is a state of 0.2 s.
Windows are short, and each sees 13 s of signal to each side."""


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    steps: int = 500
    """Updates of a network."""
    copies: int = 12
    """Times that each recording is learnt from: once as it is, and else through a filter drawn for it."""
    seeds: int = 4
    """Networks of which the mean prediction counts."""
    choosing_seeds: int = 2
    """How many of them predict people on whom settings are chosen; no more than `seeds`."""

    def __post_init__(self) -> None:
        if not 0 < self.choosing_seeds <= self.seeds or min(self.steps, self.copies) < 1:
            raise ValueError(f"steps and copies must be 1 or more and choosing_seeds 1 to seeds, given {self}")


class Trained(NamedTuple):
    """How a network came about."""

    commit: str
    """Of the code; empty outside a repository."""
    wall_seconds: float
    """With what had to be prepared for it, which the next one may find done."""
    cpu_seconds: float


@dataclass(frozen=True)
class Networks:
    """Excerpts of DREAMS, the networks that are trained on some of them, and what these predict; each done once.

    Attributes:
        folder: of DREAMS.
        runner: keeps networks and predictions.
        size: how much is trained.
        also: excerpts that every network learns from, besides the requested ones.
    """

    folder: Path
    runner: Runner
    size: Size = field(default_factory=Size)
    also: tuple[int, ...] = ()

    def opened(self, subject: int) -> Opened:
        """An excerpt with the expert's marks."""
        return open_excerpt(self.folder, subject, CONFIG.data)

    def everybody(self, learnt_from: Sequence[int]) -> tuple[int, ...]:
        """Whom a network learns from, if it is asked to learn from these."""
        return tuple(sorted({*learnt_from, *self.also}))

    def jobs(self, learnt_from: Sequence[int], *, seeds: int) -> list[Job]:
        """The training of so many networks on these subjects."""
        return [self._training(self.everybody(learnt_from), seed) for seed in range(seeds)]

    def trained(self, learnt_from: Sequence[int], *, seeds: int) -> tuple[Checkpoint, ...]:
        """So many networks that learnt from these subjects, trained if need be."""
        done = [self.runner.do(job) for job in self.jobs(learnt_from, seeds=seeds)]
        return tuple(load(one.folder / TRAINED / "checkpoint") for one in done)

    def predicted(self, learnt_from: Sequence[int], subject: int, *, seeds: int) -> Prediction:
        """What those networks predict for a subject.

        Raises:
            ValueError: they learnt from that subject.
        """
        if subject in self.everybody(learnt_from):
            raise ValueError(f"subject {subject} is among those learnt from: {self.everybody(learnt_from)}")

        def work(folder: Path) -> Arrays:
            found = predict(self.trained(learnt_from, seeds=seeds), self.opened(subject).recording)
            return {name: np.asarray(value) for name, value in found._asdict().items()}

        decides = [[job.key for job in self.jobs(learnt_from, seeds=seeds)], self._contents(subject)]
        job = Job(f"prediction of {subject} by {_names(learnt_from)}", decides, PREDICTION_CODE, work)
        found = self.runner.do(job).answer
        seconds = {name: float(found[name]) for name in ("frame_seconds", "onset_seconds")}
        return Prediction(found["log_stages"], found["frame_logits"], **seconds)

    def stage_statistics(self, subjects: Sequence[int]) -> StageStatistics:
        """How stages follow one another in these subjects, and how often a network trained on them expects each."""
        sequences = [staged_every(self.opened(s), STEP_SECONDS) for s in self.everybody(subjects)]
        counts = np.bincount(np.concatenate([s[s >= 0] for s in sequences]), minlength=len(SLEEP.classes))
        # What the network aims at on average: smoothed labels give a stage that nobody was in its share, too.
        smoothing = CONFIG.training.label_smoothing
        shares = (1 - smoothing) * counts / counts.sum() + smoothing / len(counts)
        return StageStatistics(transition_probabilities(sequences, n_classes=len(SLEEP.classes)), shares)

    def settings(self, subjects: Sequence[int]) -> Settings:
        """The settings that are best for these subjects, each predicted by networks trained on the others."""
        rest = {s: tuple(t for t in subjects if t != s) for s in subjects}
        seeds = self.size.choosing_seeds
        predicted = {s: self.predicted(others, s, seeds=seeds) for s, others in rest.items()}
        truths = {s: truth(self.opened(s)) for s in subjects}
        return choose(predicted, truths, {s: self.stage_statistics(others) for s, others in rest.items()})

    def _training(self, learnt_from: tuple[int, ...], seed: int) -> Job:
        short = {"steps": self.size.steps, "warmup_steps": self.size.steps // 10, "seed": seed}
        config = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, **short))

        def work(folder: Path) -> Arrays:
            cases = [(subject, copy) for subject in learnt_from for copy in range(self.size.copies)]
            shards = [shard for case in cases for shard in open_shards(self._shards(*case) / "train")]
            trained(config, shards, folder / TRAINED, devices=choose_devices(1))
            return {}

        decides = [json.loads(config.to_json()), self.size.copies, [self._contents(s) for s in learnt_from]]
        return Job(f"training on {_names(learnt_from)}, seed {seed}", decides, CODE, work)

    def _shards(self, subject: int, copy: int) -> Path:
        """A folder of shards of one copy of a subject."""

        def work(folder: Path) -> Arrays:
            prepare(Central(self.folder, subject, copy), folder / SHARDS, CONFIG.data, hop_seconds=HOP_SECONDS, seed=0)
            return {}

        data = dataclasses.asdict(CONFIG.data)
        job = Job(f"shards of {subject}, copy {copy}", [data, copy, self._contents(subject)], SHARDS_CODE, work)
        return self.runner.do(job).folder / SHARDS

    def _contents(self, subject: int) -> list[Any]:
        """A subject's number, and the hash of the subject's files."""
        source = Central(self.folder, subject)
        return [subject, hash_of(self.folder, source.files(source.names()[0]))]


def _names(subjects: Sequence[int]) -> str:
    return ", ".join(map(str, subjects))


class Saved(NamedTuple):
    """Networks that can be taken to other people: with the settings and the statistics of stages that go with them."""

    networks: tuple[Checkpoint, ...]
    settings: Settings
    stage_statistics: StageStatistics
    learnt_from: tuple[int, ...]
    trained: tuple[Trained, ...] = ()
    """How each came about; empty where that was not written down."""


def save_models(folder: Path, saved: Saved) -> None:
    """Write what `load_models` reads: a bundle for each network, and `SETTINGS`."""
    for i, network in enumerate(saved.networks):
        (folder / str(i)).mkdir(parents=True, exist_ok=True)
        write(folder / str(i), network)
    tree = {
        "networks": len(saved.networks),
        "settings": dataclasses.asdict(saved.settings),
        "stage_statistics": {name: values.tolist() for name, values in saved.stage_statistics._asdict().items()},
        "learnt_from": saved.learnt_from,
        "trained": [one._asdict() for one in saved.trained],
    }
    write_json(folder / SETTINGS, tree)


def load_models(folder: Path) -> Saved:
    """What `save_models` wrote.

    Raises:
        ValueError: a folder without it, or with other networks than it says.
    """
    if not (folder / SETTINGS).is_file():
        raise ValueError(f"{folder} holds no networks of this experiment: it has no {SETTINGS}")
    tree = json.loads((folder / SETTINGS).read_text())
    networks = tuple(load(folder / str(i)) for i in range(tree["networks"]))
    statistics = StageStatistics(**{name: np.array(values) for name, values in tree["stage_statistics"].items()})
    trained = tuple(Trained(**one) for one in tree.get("trained", ()))
    return Saved(networks, Settings(**tree["settings"]), statistics, tuple(tree["learnt_from"]), trained)
