"""One central derivation of real people against an ear, with its sleep stages and its spindles.

DREAMS holds C3-A1 of some people and Cz-A1 of others. Both stand in one channel here, called Cz: with five people
no network can learn what distinguishes them. Spindles are a state of one moment, not an event of a window, so that
every frame learns whether it lies in one: what is not marked is marked as none.

Of an excerpt that was sampled more slowly than the network reads, only the stages are used: in the one that there is,
at 50 Hz, expert 1 marked 5 spindles and expert 2 over 40.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from data_tools.dreams import Dreams
from experiments.hypnogram import stages_of
from siamese_jax.cohort.sources import Opened, Source
from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.recording import Annotation, Recording, recording_from_array
from siamese_jax.recordings.resample import resample, resampled_length
from siamese_jax.shards.labels import SLEEP_RULE, Rule, StateRule, TextClasses
from siamese_jax.vocabulary import TaskSpec

CHANNEL = "Cz"
CENTRAL = ("C3-A1", "Cz-A1")
"""Derivations that stand for it."""
SPINDLE = TaskSpec("spindle", "binary", ("none", "spindle"))
NONE = "No spindle"
MARKED = r"spindle( \(expert \d\))?"
SPINDLE_RULE = StateRule(SPINDLE, TextClasses((("none", NONE), ("spindle", MARKED))))
EPOCH_SECONDS = 30.0
KNOTS_HZ = (0.3, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0, 25.0, 30.0, 45.0)
KNOT_DB = 4.0
"""How far gains lie apart, as a standard deviation (ours)."""
NREM = ("N1", "N2", "N3")
"""Where spindles are looked for."""


class Truth(NamedTuple):
    """An expert's marks in a recording.

    Attributes:
        stages: of each whole 30-s epoch, the one at its centre, as an index into `SLEEP.classes`; -1 where unknown.
        spindles: start and stop in seconds, in order of time; None if nobody looked for them.
        seconds: length of the recording.
    """

    stages: np.ndarray
    spindles: Float64[np.ndarray, "spindle start_stop"] | None
    seconds: float


@dataclass(frozen=True)
class Central(Source):
    """One excerpt of DREAMS, `CHANNEL` alone, with expert 1's spindles."""

    subject: int = 1
    """Its number."""
    copy: int = 0
    """0: as it is. Any other: through a filter drawn by this number, as `filtered` says."""

    @property
    def title(self) -> str:
        """The data set's name."""
        return "DREAMS sleep spindles, a central derivation"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Stages, and spindles as a state."""
        return SLEEP_RULE, SPINDLE_RULE

    def names(self) -> Sequence[str]:
        """The excerpt's file."""
        file = f"excerpt{self.subject}.txt"
        found = [name for name in Dreams(self.root).names() if Path(name).name == file]
        if not found:
            raise ValueError(f"{self.root} holds no {file}")
        return found

    def files(self, name: str) -> Sequence[Path]:
        """The excerpt, and its stages and spindles as far as they are there."""
        return Dreams(self.root).files(name)

    def open(self, name: str, data: DataConfig) -> Opened:
        """The excerpt's one derivation as `CHANNEL`."""
        if data.ch_names != (CHANNEL,):
            raise ValueError(f"data.ch_names must be {CHANNEL} alone, given {', '.join(data.ch_names)}")
        source = Dreams(self.root)
        excerpt = source.read(name)
        if excerpt.ch_name not in CENTRAL:
            raise ValueError(f"{name} has {excerpt.ch_name}: {' or '.join(CENTRAL)} is needed")
        slow = excerpt.sfreq < data.sfreq
        eeg = at_rate(excerpt.eeg_uv[:, None], excerpt.sfreq, data.sfreq)
        if self.copy:
            seed = [self.subject, self.copy]
            eeg = filtered(eeg, sfreq=data.sfreq, rng=np.random.default_rng(seed))
        names: dict[str, Any] = {"ch_names": (CHANNEL,), "target_ch_names": (CHANNEL,)}
        recording = recording_from_array(eeg, sfreq=data.sfreq, target_sfreq=data.sfreq, **names)
        opened = source.opened(name, excerpt, recording)
        searched = opened.searched[SPINDLE.name] and not slow
        stages = tuple(a for a in excerpt.annotations if SPINDLE_RULE.class_of(a.text) is None)
        annotations = with_rest(excerpt.annotations, _seconds(recording)) if searched else stages
        return opened._replace(annotations=annotations, split="train", searched={SPINDLE.name: searched})

    def options(self) -> dict[str, object]:
        """The filter decides the signal."""
        return {"copy": self.copy, "knots_hz": KNOTS_HZ, "knot_db": KNOT_DB}


def with_rest(annotations: Sequence[Annotation], seconds: float) -> tuple[Annotation, ...]:
    """Annotations with marks for every stretch outside spindles, from 0 to `seconds`.

    Spindles that overlap count as one stretch. One without a duration, of which the extent is unknown, is left out and
    marked as unknown for a second to each side, by no mark at all.
    """
    marked = [a for a in annotations if SPINDLE_RULE.class_of(a.text) == "spindle"]
    others = [a for a in annotations if a not in marked]
    spindles = sorted((a.onset_seconds, a.onset_seconds + a.duration_seconds) for a in marked if a.duration_seconds > 0)
    unknown = [(a.onset_seconds - 1, a.onset_seconds + 1) for a in marked if not a.duration_seconds > 0]
    found, reached = [], 0.0
    for start, stop, is_spindle in sorted([(*s, True) for s in spindles] + [(*u, False) for u in unknown]):
        if start > reached:
            found.append(Annotation(reached, start - reached, NONE, None))
        if is_spindle and stop > reached:
            start = max(start, reached)
            found.append(Annotation(start, stop - start, SPINDLE.name, None))
        reached = max(reached, stop)
    if seconds > reached:
        found.append(Annotation(reached, seconds - reached, NONE, None))
    return tuple(sorted((*others, *found), key=lambda a: a.onset_seconds))


def truth(opened: Opened) -> Truth:
    """The expert's marks, from annotations as `open` gives them."""
    seconds = _seconds(opened.recording)
    stages = staged_every(opened, EPOCH_SECONDS)
    if not opened.searched.get(SPINDLE.name):
        return Truth(stages, None, seconds)
    rows = [(a.onset_seconds, a.duration_seconds) for a in opened.annotations if a.text == SPINDLE.name]
    spindles = np.array(rows, np.float64).reshape(-1, 2)
    spindles[:, 1] += spindles[:, 0]
    return Truth(stages, spindles, seconds)


def stage_at(seconds: Float64[np.ndarray, "moment"], stages: Int[np.ndarray, "epoch"]) -> Int[np.ndarray, "moment"]:
    """Of moments the stage of the 30-s epoch that each lies in; -1 outside all of them."""
    epoch = (seconds // EPOCH_SECONDS).astype(np.int64)
    known = (epoch >= 0) & (epoch < len(stages))
    found = np.full(len(seconds), -1, np.int64)
    found[known] = stages[epoch[known]]
    return found


def staged_every(opened: Opened, seconds: float) -> Int[np.ndarray, "step"]:
    """The expert's stage at the centre of every whole step of so many seconds, as `stages_of` has it."""
    return stages_of(opened.annotations, int(_seconds(opened.recording) // seconds), seconds=seconds)


def filtered(
    eeg: Float[np.ndarray, "time chan"], *, sfreq: float, rng: np.random.Generator
) -> Float32[np.ndarray, "time chan"]:
    """EEG through a filter without phase whose gain in decibels is drawn at `KNOTS_HZ` and linear in between.

    Skulls, electrodes and amplifiers differ in this way from one person to the next, by far more than four people can
    tell a network. Stages and spindles stay.
    """
    gain_db = rng.normal(0, KNOT_DB, len(KNOTS_HZ))
    hz = np.maximum(np.fft.rfftfreq(len(eeg), 1 / sfreq), KNOTS_HZ[0])
    gain = 10 ** (np.interp(np.log(hz), np.log(KNOTS_HZ), gain_db) / 20)
    return np.fft.irfft(np.fft.rfft(eeg, axis=0) * gain[:, None], len(eeg), axis=0).astype(np.float32)


def at_rate(eeg: Float[np.ndarray, "time chan"], sfreq: float, wanted: float) -> Float32[np.ndarray, "_time chan"]:
    """EEG at another rate, as a recording is resampled; from a slower one nothing stands above half of that."""
    ratio, samples = Fraction(wanted) / Fraction(sfreq), eeg.astype(np.float32)
    stop = resampled_length(len(samples), ratio)
    return resample(lambda a, b: samples[a:b], len(samples), ratio=ratio, start=0, stop=stop)


def open_excerpt(folder: Path, subject: int, data: DataConfig) -> Opened:
    """One excerpt of DREAMS as `Central` gives it."""
    source = Central(folder, subject)
    return source.open(source.names()[0], data)


def _seconds(recording: Recording) -> float:
    return recording.segments[0].n_times / recording.sfreq
