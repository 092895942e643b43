"""Miniatures of the sets, and a scorer that reads its answer off one electrode."""

from pathlib import Path

import numpy as np

from experiments.real.scorers import Scorer
from siamese_jax.detection.predict import Timeline
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.vocabulary import TEN_TWENTY

SFREQ = 200.0
QUIET, LOUD = -5.0, 5.0
TOLD = TEN_TWENTY.index("Cz")


def signal(seconds: float, discharges=(), seed: int = 0) -> np.ndarray:
    """Noise of 1 uV, but Cz: 100 uV for 0.1 s to either side of each discharge, 1 uV at one other sample."""
    eeg = np.random.default_rng(seed).normal(0, 1, (round(seconds * SFREQ), len(TEN_TWENTY))).astype(np.float32)
    times = np.arange(len(eeg)) / SFREQ
    eeg[:, TOLD] = 0
    eeg[0, TOLD] = 1  # a constant channel would be taken for one that is not there
    for discharge in discharges:
        eeg[np.abs(times - discharge) < 0.1 + 1e-6, TOLD] = 100
    return eeg


def write_segment(path: Path, eeg: np.ndarray, **arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, eeg_uv=eeg, sfreq=SFREQ, ch_names=np.array(TEN_TWENTY), **arrays)


def write_healthy(path: Path, seconds: int, discharges=()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_recording(path, signal(seconds, discharges), sfreq=SFREQ, ch_names=TEN_TWENTY)


def write_grond(folder: Path, name: str, kind: str, *, discharges=(), marked: bool = False) -> None:
    """A segment of GROND with these discharges; only a marked one has those from 5 s on."""
    told = [t for t in discharges if t >= 5] if marked else []
    first = 5.0 if marked else np.nan
    eeg = signal(10, discharges)
    path = folder / "discharges" / "grond" / f"{name}.npz"
    write_segment(path, eeg, kind=kind, discharge_seconds=np.array(told), marked_from_seconds=first)


def reader_of_cz(shift_seconds: float = 0.0) -> Scorer:
    """Log-odds of +5 where Cz is high and -5 elsewhere; late by `shift_seconds`."""

    def score(recording):
        (segment,) = recording.segments
        high = recording.read(0, 0, segment.n_times)[:, TOLD] > 50
        logits = np.where(np.roll(high, round(shift_seconds * SFREQ)), LOUD, QUIET).astype(np.float32)
        return [Timeline(logits, 1 / SFREQ, segment.onset_seconds, 0.0, 0.2)]

    return Scorer(TEN_TWENTY, SFREQ, score, 0.5, "made up")
