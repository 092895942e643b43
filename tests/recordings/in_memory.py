"""Recordings that stand in memory, for tests of what comes after reading files."""

from collections.abc import Sequence

import numpy as np

from siamese_jax.recordings.channels import ChannelReport
from siamese_jax.recordings.recording import Annotation, Recording, Segment
from siamese_jax.recordings.windows import window_grid
from siamese_jax.shards.labels import RULES, Rule
from siamese_jax.shards.marks import TaskMarks
from siamese_jax.shards.schema import ShardInfo
from siamese_jax.shards.write import LabelledRecording

SFREQ = 100.0
CH_NAMES = ("Fp1", "Cz", "O2", "ECG1")
WINDOW, HOP = 200, 100


def recording_of(
    pieces: Sequence[np.ndarray],
    *,
    onsets: Sequence[float] | None = None,
    present: Sequence[bool] | None = None,
    ch_names: Sequence[str] = CH_NAMES,
    sfreq: float = SFREQ,
) -> Recording:
    """Gap-free pieces in microvolts as a recording; by default each begins 10 s after the end of the last."""
    if onsets is None:
        ends = np.cumsum([len(piece) / sfreq + 10 for piece in pieces])
        onsets = [0.0, *ends[:-1].tolist()]
    return Recording(
        path=None,
        sfreq=sfreq,
        ch_names=tuple(ch_names),
        present=np.array(present if present is not None else [True] * len(ch_names)),
        segments=tuple(Segment(float(t), len(piece)) for t, piece in zip(onsets, pieces, strict=True)),
        annotations=(),
        patient_code=None,
        start_datetime=None,
        report=ChannelReport(used={}, renamed={}, missing=(), ignored={}),
        source=lambda segment, start, stop: pieces[segment][start:stop].astype(np.float32),
    )


def noise(n_times: int, *, seed: int = 0, n_chans: int = len(CH_NAMES), sd_uv: float = 40.0) -> np.ndarray:
    """Gaussian noise in microvolts."""
    return np.random.default_rng(seed).normal(0, sd_uv, (n_times, n_chans)).astype(np.float32)


def labelled(
    recording: Recording,
    annotations: Sequence[Annotation] = (),
    *,
    name: str = "night.edf",
    patient: str = "P1",
    labelled_for: Sequence[str] = ("ied", "sleep", "state"),
    window: int = WINDOW,
    hop: int = HOP,
    bad: Sequence[tuple[float, float]] = (),
    rules: Sequence[Rule] = RULES,
) -> LabelledRecording:
    """The recording with its windows and its marks."""
    grid = window_grid(recording.segments, window=window, hop=hop)
    stretches = [(segment.onset_seconds, segment.n_times / recording.sfreq) for segment in recording.segments]
    marks = {
        rule.task.name: rule.task_marks(annotations, stretches) if rule.task.name in labelled_for else TaskMarks()
        for rule in rules
    }
    return LabelledRecording(name, patient, recording, grid, marks, tuple(bad), f"digest of {name}")


def info_of(recording: Recording, *, window: int = WINDOW, hop: int = HOP, rules: Sequence[Rule] = RULES) -> ShardInfo:
    """What a shard of such recordings says."""
    tasks = tuple(rule.task for rule in rules)
    return ShardInfo(recording.sfreq, recording.ch_names, window, hop, tasks, source="a test")
