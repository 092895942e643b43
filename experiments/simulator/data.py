"""The recordings that the page compares: a cohort that it simulates, DREAMS, and the EEGLAB sample."""

import csv
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from data_tools import simulate
from data_tools.code_hash import ROOT
from data_tools.dreams import CLIPPED_UV, read_excerpt
from experiments.hypnogram import UNKNOWN, stages_of
from experiments.runner import Arrays, Job, Runner
from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.recording import recording_from_array

DERIVATIONS = ("C3-A1", "Cz-A1")
"""What DREAMS has."""
SHARED_ELECTRODES = (
    *("F3", "Fz", "F4", "T3", "C3", "Cz", "C4", "T4"),
    *("T5", "P3", "Pz", "P4", "T6", "O1", "O2"),
)
"""Electrodes of the 10-20 system that the EEGLAB sample has."""

COHORT = "cohort"
"""Folder in that of the job that simulates it."""

_SIMULATED, _REAL = False, True


class Night(NamedTuple):
    """One derivation of one person."""

    name: str
    is_real: bool
    ch_name: str
    sfreq: float
    eeg_uv: Float[np.ndarray, "time"]
    stages: Integer[np.ndarray, "second"]
    """Index in STAGES, or UNKNOWN, of each whole second."""
    spindles: dict[str, list[tuple[float, float]]]
    """Onsets and durations (0: not marked) by who marked them."""


# --- simulated -------------------------------------------------------------------------------------------------


class Cohort(NamedTuple):
    """A simulated cohort on disk and what making it took."""

    folder: Path
    command: str
    cost: dict[str, float]
    """Seconds of CPU and wall, simulated hours, bytes; of the run that made it."""

    @property
    def paths(self) -> list[Path]:
        """The recordings."""
        return sorted(self.folder.glob("*.edf"))

    def events(self) -> list[dict[str, str]]:
        """The rows of events.csv."""
        with (self.folder / "events.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def simulated(runner: Runner, options: str) -> Cohort:
    """A cohort of `python -m data_tools.simulate`: made now, or read if this very simulator made it before.

    Raises:
        ValueError: the simulator fails.
    """
    command = f"python -m data_tools.simulate OUT {options}"

    def work(folder: Path) -> Arrays:
        out = folder / COHORT
        print(f"$ {command}")
        line = [sys.executable, "-m", "data_tools.simulate", str(out.absolute()), *shlex.split(options)]
        done = subprocess.run(line, cwd=ROOT, check=False)
        if done.returncode:
            raise ValueError(f"`{command}` failed with status {done.returncode}")
        paths = list(out.glob("*.edf"))
        hours = sum(_seconds(path) for path in paths) / 3600
        return {"hours": np.array(hours), "bytes": np.array(sum(path.stat().st_size for path in paths), float)}

    done = runner.do(Job(command, options, simulate.CODE, work))
    cost = {"wall_seconds": done.wall_seconds, "cpu_seconds": done.cpu_seconds}
    return Cohort(done.folder / COHORT, command, cost | {name: float(x) for name, x in done.answer.items()})


def simulated_night(path: Path, ch_name: str, sfreq: float) -> Night:
    """A derivation (`C3-A1`) of a simulated recording, with its spindles as the simulator annotated them."""
    active, reference = ch_name.split("-")
    recording = read_recording(path, ch_names=(active, reference), sfreq=sfreq)
    eeg = recording.read(0, 0, recording.segments[0].n_times)
    marks = [(a.onset_seconds, a.duration_seconds) for a in recording.annotations if a.text.startswith("Spindle")]
    stages = stages_of(recording.annotations, int(len(eeg) / sfreq), seconds=1)
    return Night(path.stem, _SIMULATED, ch_name, sfreq, eeg[:, 0] - eeg[:, 1], stages, {"simulator": marks})


def simulated_channels(
    path: Path, ch_names: Sequence[str], sfreq: float
) -> tuple[Float[np.ndarray, "time chan"], Integer[np.ndarray, "second"]]:
    """Channels of a simulated recording as they were recorded, and the stage of each second."""
    recording = read_recording(path, ch_names=tuple(ch_names), sfreq=sfreq)
    eeg = recording.read(0, 0, recording.segments[0].n_times)
    return eeg, stages_of(recording.annotations, int(len(eeg) / sfreq), seconds=1)


def _seconds(path: Path) -> float:
    recording = read_recording(path, ch_names=("Cz",), sfreq=100.0)
    return sum(segment.n_times for segment in recording.segments) / recording.sfreq


# --- real ------------------------------------------------------------------------------------------------------


def dreams_night(folder: Path, subject: int) -> Night:
    """A subject of DREAMS at the rate of the file.

    Raises:
        ValueError, OSError: as `read_excerpt`.
    """
    excerpt = read_excerpt(folder / f"excerpt{subject}.txt")
    marks: dict[str, list[tuple[float, float]]] = {}
    for a in excerpt.annotations:
        if a.text.startswith("Spindle"):
            marks.setdefault(a.text.removeprefix("Spindle (").removesuffix(")"), []).append(a[:2])
    stages = stages_of(excerpt.annotations, len(excerpt.eeg_uv) // excerpt.sfreq, seconds=1)
    name = f"DREAMS {subject}"
    return Night(name, _REAL, excerpt.ch_name, float(excerpt.sfreq), excerpt.eeg_uv, stages, marks)


def at_rate(night: Night, sfreq: float) -> Night:
    """The same derivation at another rate."""
    if night.sfreq == sfreq:
        return night
    recording = recording_from_array(
        night.eeg_uv[:, None],
        sfreq=night.sfreq,
        ch_names=(night.ch_name,),
        target_ch_names=(night.ch_name,),
        target_sfreq=sfreq,
    )
    return night._replace(eeg_uv=recording.read(0, 0, recording.segments[0].n_times)[:, 0], sfreq=sfreq)


def not_clipped(night: Night) -> Integer[np.ndarray, "second"]:
    """The stages, with UNKNOWN in each second in which a real recorder was saturated."""
    rate = round(night.sfreq)
    seconds = np.abs(night.eeg_uv[: len(night.stages) * rate]).reshape(-1, rate).max(1)
    return np.where(night.is_real & (seconds > CLIPPED_UV), UNKNOWN, night.stages)


def eeglab_channels(path: Path, *, half: int) -> tuple[Float[np.ndarray, "time chan"], float]:
    """SHARED_ELECTRODES of one half (0 or 1) of the EEGLAB sample at its own rate.

    Raises:
        ValueError: the file lacks one of them.
    """
    recording = read_recording(path, ch_names=SHARED_ELECTRODES, sfreq=128.0)
    if not recording.present.all():
        missing = [name for name, there in zip(SHARED_ELECTRODES, recording.present, strict=True) if not there]
        raise ValueError(f"{path.name} lacks {', '.join(missing)}")
    n = recording.segments[0].n_times
    return recording.read(0, half * (n // 2), (half + 1) * (n // 2)), 128.0
