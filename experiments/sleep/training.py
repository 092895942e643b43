"""The network, and its training on some subjects: each once, by what it learnt from, however often it is asked for."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_tools.dreams import Dreams
from experiments.provenance import commit, hash_of
from experiments.sleep.data import CHANNEL, SPINDLE, Central, open_excerpt, staged_every, truth
from experiments.sleep.scoring import STEP_SECONDS, Habits, Said, Settings, choose, say
from experiments.statistics.stages import transition_probabilities
from experiments.sweep import ROOT, code_version
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
from siamese_jax.shards.schema import open_shards
from siamese_jax.training.loop import train
from siamese_jax.training.parallel import choose_devices
from siamese_jax.vocabulary import SLEEP

HOP_SECONDS = 0.2
"""From one window of training to the next: a frame."""
DILATIONS = (1, 1, 2, 4, 8, 16, 32)
"""A frame of 0.2 s sees 13 s to each side."""
SETTINGS, FINISHED, TRAINED = "settings.json", "finished", "trained.json"
CODE = (
    *("data_tools/dreams.py", "experiments/sleep/data.py", "experiments/sleep/scoring.py"),
    *("experiments/sleep/training.py", "siamese_jax/recordings/*.py"),
)
"""What a network and its logits hang on beside what `code_version` covers."""

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
    colours: int = 12
    """Times that each recording is learnt from: once as it is, and else through a filter drawn for it."""
    seeds: int = 4
    """Networks of which the mean answer counts."""
    choosing_seeds: int = 2
    """How many of them answer for people on whom settings are chosen; no more than `seeds`."""

    def __post_init__(self) -> None:
        if not 0 < self.choosing_seeds <= self.seeds or min(self.steps, self.colours) < 1:
            raise ValueError(f"steps and colours must be 1 or more and choosing_seeds 1 to seeds, given {self}")


class Trained(NamedTuple):
    """How a network came about."""

    commit: str
    """Of the code; empty outside a repository."""
    wall_seconds: float
    """With what had to be prepared for it, which the next one may find done."""
    cpu_seconds: float


@dataclass(frozen=True)
class Laboratory:
    """Excerpts of DREAMS, and every network that was trained on some of them.

    `report` is told what is being done. What is done lies in `out`, by its configuration, by the excerpts' contents, by
    the code and by whom it learnt from, and is not done again.
    """

    folder: Path
    out: Path
    size: Size = field(default_factory=Size)
    also: tuple[int, ...] = ()
    """Excerpts that every network learns from, beside those that are asked for."""
    report: Callable[[str], None] = print

    def opened(self, subject: int) -> Opened:
        """An excerpt with what the expert says of it."""
        return open_excerpt(self.folder, subject, CONFIG.data)

    def models(self, learnt_from: Sequence[int], *, seeds: int) -> tuple[Checkpoint, ...]:
        """So many networks that learnt from these subjects, trained if need be."""
        return tuple(self._model(self.everybody(learnt_from), seed) for seed in range(seeds))

    def everybody(self, learnt_from: Sequence[int]) -> tuple[int, ...]:
        """Whom a network learns from, if it is asked to learn from these."""
        return tuple(sorted({*learnt_from, *self.also}))

    def said(self, learnt_from: Sequence[int], subject: int, *, seeds: int) -> Said:
        """What those networks say of a subject; remembered.

        Raises:
            ValueError: they learnt from that subject.
        """
        if subject in self.everybody(learnt_from):
            raise ValueError(f"subject {subject} is among those learnt from: {self.everybody(learnt_from)}")
        path = self._run(learnt_from) / f"said-of-{subject}-by-{seeds}.npz"
        if not path.exists():
            found = say(self.models(learnt_from, seeds=seeds), self.opened(subject).recording)
            part = path.with_suffix(".part.npz")
            np.savez(part, **found._asdict())
            part.replace(path)
        with np.load(path) as saved:
            seconds = {name: float(saved[name]) for name in ("frame_seconds", "onset_seconds")}
            return Said(saved["log_stages"], saved["frame_logits"], **seconds)

    def habits(self, subjects: Sequence[int]) -> Habits:
        """How stages follow one another in these subjects, and how often a network trained on them expects each."""
        sequences = [staged_every(self.opened(s), STEP_SECONDS) for s in self.everybody(subjects)]
        counts = np.bincount(np.concatenate([s[s >= 0] for s in sequences]), minlength=len(SLEEP.classes))
        # What the network aims at on average: smoothed labels give a stage that nobody was in its share, too.
        smoothing = CONFIG.training.label_smoothing
        shares = (1 - smoothing) * counts / counts.sum() + smoothing / len(counts)
        return Habits(transition_probabilities(sequences, n_classes=len(SLEEP.classes)), shares)

    def settings(self, subjects: Sequence[int]) -> Settings:
        """The settings that are best for these subjects, each answered for by networks trained on the others."""
        rest = {s: tuple(t for t in subjects if t != s) for s in subjects}
        seeds = self.size.choosing_seeds
        said = {s: self.said(others, s, seeds=seeds) for s, others in rest.items()}
        truths = {s: truth(self.opened(s)) for s in subjects}
        return choose(said, truths, {s: self.habits(others) for s, others in rest.items()})

    def missing(self, groups: Iterable[tuple[Sequence[int], int]]) -> int:
        """How many networks are still to be trained: so many for each group of subjects."""
        return sum(not (run / TRAINED).exists() for run in self._runs(groups))

    def trained(self, groups: Iterable[tuple[Sequence[int], int]]) -> tuple[Trained, ...]:
        """How each of those networks came about, now or in an earlier call."""
        return tuple(Trained(**json.loads((run / TRAINED).read_text())) for run in sorted(self._runs(groups)))

    def _runs(self, groups: Iterable[tuple[Sequence[int], int]]) -> set[Path]:
        return {self._run(group) / f"seed-{seed}" for group, seeds in groups for seed in range(seeds)}

    def _run(self, learnt_from: Sequence[int]) -> Path:
        """Where the networks that learnt from these subjects lie, and what they say."""
        return self._home / f"on-{'-'.join(map(str, self.everybody(learnt_from)))}"

    @cached_property
    def _home(self) -> Path:
        """By all that decides a network, but whom it learnt from."""
        source = Dreams(self.folder)
        files = [path for name in source.names() for path in source.files(name)]
        own = [path for pattern in CODE for path in ROOT.glob(pattern)]
        code = (code_version(ROOT), hash_of(ROOT, own))
        what = (CONFIG, (self.size.steps, self.size.colours), hash_of(self.folder, files), code)
        return self.out / hashlib.sha256(repr(what).encode()).hexdigest()[:12]

    def _model(self, learnt_from: tuple[int, ...], seed: int) -> Checkpoint:
        run = self._run(learnt_from) / f"seed-{seed}"
        if not (run / TRAINED).exists():
            began, cpu, code = time.monotonic(), time.process_time(), commit()
            self.report(f"training on {', '.join(map(str, learnt_from))}, seed {seed}: {self.size.steps} steps")
            folders = [self._shards(subject, colour) for subject in learnt_from for colour in range(self.size.colours)]
            shards = tuple(shard for folder in folders for shard in open_shards(folder / "train"))
            short = {"steps": self.size.steps, "warmup_steps": self.size.steps // 10, "seed": seed}
            config = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, **short))
            if not train(config, shards, (), run, devices=choose_devices(1)).finished:
                raise KeyboardInterrupt
            spent = Trained(code, time.monotonic() - began, time.process_time() - cpu)
            _write_json(run / TRAINED, spent._asdict())
        return load(run / "checkpoint")

    def _shards(self, subject: int, colour: int) -> Path:
        shards = self._home / "shards" / f"{subject}-{colour}"
        if not (shards / FINISHED).exists():
            prepare(Central(self.folder, subject, colour), shards, CONFIG.data, hop_seconds=HOP_SECONDS, seed=0)
            (shards / FINISHED).touch()
        return shards


class Saved(NamedTuple):
    """Networks that can be taken to other people: with the settings and the chain that go with them."""

    networks: tuple[Checkpoint, ...]
    settings: Settings
    habits: Habits
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
        "habits": {name: values.tolist() for name, values in saved.habits._asdict().items()},
        "learnt_from": saved.learnt_from,
        "trained": [one._asdict() for one in saved.trained],
    }
    _write_json(folder / SETTINGS, tree)


def load_models(folder: Path) -> Saved:
    """What `save_models` wrote.

    Raises:
        ValueError: a folder without it, or with other networks than it says.
    """
    if not (folder / SETTINGS).is_file():
        raise ValueError(f"{folder} holds no networks of this experiment: it has no {SETTINGS}")
    tree = json.loads((folder / SETTINGS).read_text())
    networks = tuple(load(folder / str(i)) for i in range(tree["networks"]))
    habits = Habits(**{name: np.array(values) for name, values in tree["habits"].items()})
    trained = tuple(Trained(**one) for one in tree.get("trained", ()))
    return Saved(networks, Settings(**tree["settings"]), habits, tuple(tree["learnt_from"]), trained)


def _write_json(path: Path, tree: dict[str, Any]) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(tree, indent=2, allow_nan=False) + "\n")
    part.replace(path)
