"""One central derivation against an ear, real or simulated, with its sleep stages and its spindles.

DREAMS holds C3-A1 of some people and Cz-A1 of others. Both stand in one channel here, called Cz: with five people
nobody can learn what tells them apart. Spindles are a state of one moment rather than an event of a window, so that
every frame learns whether it lies in one: what is not marked is marked as none.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from data_tools.dreams import Dreams
from siamese_jax.config import DataConfig
from siamese_jax.recordings.edf import Annotation, Recording, read_recording, recording_from_array
from siamese_jax.recordings.labels import SLEEP_RULE, Rule, StateRule, TextClasses
from siamese_jax.recordings.sources import Folder, Opened, Source
from siamese_jax.vocabulary import SLEEP, TaskSpec, stage_of

CHANNEL = "Cz"
EAR = "A1"
SPINDLE = TaskSpec("spindle", "binary", ("none", "spindle"))
NONE = "No spindle"
MARKED = r"spindle( \(expert \d\))?"
SPINDLE_RULE = StateRule(SPINDLE, TextClasses((("none", NONE), ("spindle", MARKED))))
EPOCH_SECONDS = 30.0
NREM = ("N1", "N2", "N3")
"""Where spindles are looked for."""


class Truth(NamedTuple):
    """What an expert says of a recording.

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
    """The excerpts of DREAMS, `CHANNEL` alone, with expert 1's spindles; `test` are the ones to test with."""

    test: tuple[int, ...] = ()
    train: tuple[int, ...] = ()
    """The ones to train with; all others are left out."""

    @property
    def title(self) -> str:
        """The data set's name."""
        return "DREAMS sleep spindles, a central derivation"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Stages, and spindles as a state."""
        return SLEEP_RULE, SPINDLE_RULE

    def names(self) -> Sequence[str]:
        """The excerpts that take part, by number."""
        wanted = {f"excerpt{n}.txt" for n in (*self.train, *self.test)}
        found = [name for name in Dreams(self.root).names() if Path(name).name in wanted]
        absent = sorted(wanted - {Path(name).name for name in found})
        if absent:
            raise ValueError(f"{self.root} holds no {', '.join(absent)}")
        return found

    def files(self, name: str) -> Sequence[Path]:
        """The excerpt, and its stages and spindles as far as they are there."""
        return Dreams(self.root).files(name)

    def open(self, name: str, data: DataConfig) -> Opened:
        """The excerpt's one derivation as `CHANNEL`."""
        _one_channel(data)
        opened = _renamed(Dreams(self.root), name, data)
        number = int(Path(name).stem.removeprefix("excerpt"))
        looked = opened.looked[SPINDLE.name]
        annotations = with_rest(opened.annotations, _seconds(opened.recording)) if looked else opened.annotations
        split = "test" if number in self.test else "train"
        return opened._replace(annotations=annotations, split=split, looked={SPINDLE.name: looked})


@dataclass(frozen=True)
class Simulated(Folder):
    """Simulated recordings of 29 leads, of which each gives C3-A1 or Cz-A1, in turn, as `CHANNEL`; all of them train."""

    @property
    def title(self) -> str:
        """That they are simulated."""
        return "SIMULATED recordings (data_tools.simulate), a central derivation"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Stages, and spindles as a state."""
        return SLEEP_RULE, SPINDLE_RULE

    def open(self, name: str, data: DataConfig) -> Opened:
        """A recording's derivation, and what was put into it."""
        _one_channel(data)
        path = self.root / name
        electrode = ("C3", "Cz")[int(path.stem.removeprefix("SIM")) % 2]
        whole = read_recording(path, ch_names=(electrode, EAR), sfreq=data.sfreq)
        eeg = whole.read(0, 0, whole.segments[0].n_times)
        recording = _as_channel((eeg[:, 0] - eeg[:, 1])[:, None], data.sfreq, data)
        annotations = with_rest(whole.annotations, _seconds(recording))
        return Opened(recording, annotations, path.stem, "file name", "train", {SPINDLE.name: True})


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
    """What the expert says, from annotations as `open` gives them."""
    seconds = _seconds(opened.recording)
    centres = (np.arange(int(seconds // EPOCH_SECONDS)) + 0.5) * EPOCH_SECONDS
    labels = SLEEP_RULE.label(opened.annotations, centres - 0.5, window_seconds=1.0)
    stages = np.where(labels.weight > 0, labels.label, -1)
    if not opened.looked.get(SPINDLE.name):
        return Truth(stages, None, seconds)
    rows = [(a.onset_seconds, a.duration_seconds) for a in opened.annotations if a.text == SPINDLE.name]
    spindles = np.array(rows, np.float64).reshape(-1, 2)
    spindles[:, 1] += spindles[:, 0]
    return Truth(stages, spindles, seconds)


def staged_every(opened: Opened, seconds: float) -> np.ndarray:
    """The stage at the centre of every `seconds`, as an index; -1 where unknown. For counting transitions."""
    n = int(_seconds(opened.recording) // seconds)
    stages = np.full(n, -1)
    for a in opened.annotations:
        stage = stage_of(a.text)
        if stage is not None:
            centres = (np.arange(n) + 0.5) * seconds
            inside = (centres >= a.onset_seconds) & (centres < a.onset_seconds + a.duration_seconds)
            stages[inside] = SLEEP.classes.index(stage)
    return stages


def open_excerpt(folder: Path, number: int, data: DataConfig) -> Opened:
    """One excerpt of DREAMS as `Central` gives it."""
    source = Central(folder, test=(number,))
    return source.open(source.names()[0], data)


def _one_channel(data: DataConfig) -> None:
    if data.ch_names != (CHANNEL,):
        raise ValueError(f"data.ch_names must be {CHANNEL} alone, given {', '.join(data.ch_names)}")


def _seconds(recording: Recording) -> float:
    return recording.segments[0].n_times / recording.sfreq


def _renamed(source: Dreams, name: str, data: DataConfig) -> Opened:
    """An excerpt whose derivation, C3-A1 or Cz-A1, stands in `CHANNEL`."""
    for electrode in (CHANNEL, "C3"):
        wanted = dataclasses.replace(data, ch_names=(electrode,))
        try:
            opened = source.open(name, wanted)
        except ValueError as error:
            refused = error
            continue
        eeg = opened.recording.read(0, 0, opened.recording.segments[0].n_times)
        return opened._replace(recording=_as_channel(eeg, data.sfreq, data))
    raise refused


def _as_channel(eeg: np.ndarray, sfreq: float, data: DataConfig) -> Recording:
    names = {"ch_names": (CHANNEL,), "target_ch_names": (CHANNEL,)}
    return recording_from_array(eeg, sfreq=sfreq, target_sfreq=data.sfreq, **names)
