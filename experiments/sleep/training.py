"""The network, and its training on some subjects: each once, by what it learnt from, however often it is asked for."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from experiments.sleep.data import CHANNEL, SPINDLE, Central, open_excerpt, staged_every, truth
from experiments.sleep.scoring import STEP_SECONDS, Habits, Said, Settings, choose, say
from siamese_jax.checkpoints import Checkpoint, load, write_bundled
from siamese_jax.config import Config, ConverterConfig, DataConfig, ModelConfig, PreprocessConfig, TrainingConfig
from siamese_jax.evaluation.stages import transition_probabilities
from siamese_jax.recordings.prepare import prepare
from siamese_jax.recordings.shards import open_shards
from siamese_jax.recordings.sources import Opened
from siamese_jax.training.loop import train
from siamese_jax.training.parallel import choose_devices
from siamese_jax.vocabulary import SLEEP

HOP_SECONDS = 0.2
"""From one window of training to the next: a frame."""
DILATIONS = (1, 1, 2, 4, 8, 16, 32)
"""A frame of 0.2 s sees 13 s to each side."""
SETTINGS, FINISHED = "settings.json", "finished"

CONFIG = Config(
    tasks=(SLEEP.name, SPINDLE.name),
    data=DataConfig(ch_names=(CHANNEL,), sfreq=100.0, window_seconds=0.8),
    preprocess=PreprocessConfig(
        eeg_band_hz=(0.3, 45.0), mains_hz=None, filter_half_seconds=2.5, montage="referential", eeg_scale_uv=5.0
    ),
    converter=ConverterConfig(n_fft=(64,), hop=20, band_hz=(1.0, 30.0), amplitude="log"),
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
"""Ours, fixed beforehand but for what the docstring of the command says. Both tasks read the sleep branch, frame by
frame: a spindle is a state of 0.2 s. Windows are short, and each sees 13 s of signal to each side."""


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    steps: int = 400
    """Updates of a network."""
    colours: int = 12
    """Times that each recording is learnt from: once as it is, and else through a filter drawn for it."""
    seeds: int = 2
    """Networks of which the mean answer counts."""


@dataclass(frozen=True)
class Laboratory:
    """Excerpts of DREAMS, and every network that was trained on some of them.

    `report` is told what is being done. What is done lies in `out`, by its configuration and by whom it learnt from,
    and is not done again.
    """

    folder: Path
    out: Path
    size: Size = field(default_factory=Size)
    report: Callable[[str], None] = print

    def opened(self, subject: int) -> Opened:
        """An excerpt with what the expert says of it."""
        return open_excerpt(self.folder, subject, CONFIG.data)

    def models(self, learnt_from: Sequence[int]) -> tuple[Checkpoint, ...]:
        """The networks that learnt from these subjects, trained if need be."""
        return tuple(self._model(tuple(sorted(learnt_from)), seed) for seed in range(self.size.seeds))

    def said(self, learnt_from: Sequence[int], subject: int) -> Said:
        """What those networks say of a subject; remembered.

        Raises:
            ValueError: they learnt from that subject.
        """
        if subject in learnt_from:
            raise ValueError(f"subject {subject} is among those learnt from: {sorted(learnt_from)}")
        path = self._run(learnt_from) / f"said-of-{subject}-by-{self.size.seeds}.npz"
        if not path.exists():
            found = say(self.models(learnt_from), self.opened(subject).recording)
            part = path.with_suffix(".part.npz")
            np.savez(part, **found._asdict())
            part.replace(path)
        with np.load(path) as saved:
            seconds = {name: float(saved[name]) for name in ("frame_seconds", "onset_seconds")}
            return Said(saved["log_stages"], saved["frame_logits"], **seconds)

    def habits(self, subjects: Sequence[int]) -> Habits:
        """How stages follow one another in these subjects."""
        sequences = [staged_every(self.opened(s), STEP_SECONDS) for s in sorted(subjects)]
        counts = np.bincount(np.concatenate([s[s >= 0] for s in sequences]), minlength=len(SLEEP.classes)) + 1.0
        return Habits(transition_probabilities(sequences, n_classes=len(SLEEP.classes)), counts / counts.sum())

    def settings(self, subjects: Sequence[int]) -> Settings:
        """The settings that are best for these subjects, each answered for by networks trained on the others."""
        rest = {s: tuple(t for t in subjects if t != s) for s in subjects}
        said = {s: self.said(others, s) for s, others in rest.items()}
        truths = {s: truth(self.opened(s)) for s in subjects}
        return choose(said, truths, {s: self.habits(others) for s, others in rest.items()})

    def missing(self, groups: Iterable[Sequence[int]]) -> int:
        """How many networks are still to be trained for these groups of subjects."""
        runs = [self._run(group) / f"seed-{seed}" for group in groups for seed in range(self.size.seeds)]
        return sum(not (run / FINISHED).exists() for run in runs)

    def _run(self, learnt_from: Sequence[int]) -> Path:
        """Where the networks that learnt from these subjects lie, and what they say."""
        return self._home / f"on-{'-'.join(map(str, sorted(learnt_from)))}"

    @property
    def _home(self) -> Path:
        """By all that decides a network, but whom it learnt from."""
        files = sorted((path.name, path.stat().st_size) for path in self.folder.glob("*.txt"))
        what = (CONFIG, dataclasses.replace(self.size, seeds=0), files)
        return self.out / hashlib.sha256(repr(what).encode()).hexdigest()[:12]

    def _model(self, learnt_from: tuple[int, ...], seed: int) -> Checkpoint:
        run = self._run(learnt_from) / f"seed-{seed}"
        if not (run / FINISHED).exists():
            self.report(f"training on {', '.join(map(str, learnt_from))}, seed {seed}: {self.size.steps} steps")
            folders = [self._shards(subject, colour) for subject in learnt_from for colour in range(self.size.colours)]
            shards = tuple(shard for folder in folders for shard in open_shards(folder / "train"))
            short = {"steps": self.size.steps, "warmup_steps": self.size.steps // 10, "seed": seed}
            config = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, **short))
            train(config, shards, (), run, devices=choose_devices(1))
            (run / FINISHED).touch()
        return load(run / "checkpoint")

    def _shards(self, subject: int, colour: int) -> Path:
        shards = self._home / "shards" / f"{subject}-{colour}"
        if not (shards / FINISHED).exists():
            prepare(Central(self.folder, subject, colour), shards, CONFIG.data, hop_seconds=HOP_SECONDS, seed=0)
            (shards / FINISHED).touch()
        return shards


def save_models(folder: Path, models: Sequence[Checkpoint], settings: Settings, habits: Habits) -> None:
    """Write networks, how to read what they say, and what they know of stages, as `load_models` reads them."""
    for i, model in enumerate(models):
        (folder / str(i)).mkdir(parents=True, exist_ok=True)
        write_bundled(folder / str(i), model)
    tree = {"settings": dataclasses.asdict(settings), "habits": {k: v.tolist() for k, v in habits._asdict().items()}}
    (folder / SETTINGS).write_text(json.dumps(tree, indent=2) + "\n")


def load_models(folder: Path) -> tuple[tuple[Checkpoint, ...], Settings, Habits]:
    """What `save_models` wrote.

    Raises:
        ValueError: a folder without networks or settings.
    """
    if not (folder / SETTINGS).is_file() or not (folder / "0").is_dir():
        raise ValueError(f"{folder} holds no networks of this experiment: it needs {SETTINGS} and a folder 0")
    tree = json.loads((folder / SETTINGS).read_text())
    models = tuple(load(path) for path in sorted(folder.iterdir()) if path.is_dir())
    return models, Settings(**tree["settings"]), Habits(**{k: np.array(v) for k, v in tree["habits"].items()})
