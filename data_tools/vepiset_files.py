"""The files of vEpiSet (`data_tools.vepiset`): which there are, and what is in them."""

import csv
import dataclasses
import re
import struct
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.io
from jaxtyping import Float32
from scipy.io.matlab import MatReadError

from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.recording import Annotation, Recording, Segment, recording_from_array
from siamese_jax.recordings.resample import resample, resampled_length
from siamese_jax.vocabulary import LEADS_29, UNITS_UV

SFREQ_HZ = 500.0
EPOCH_SECONDS = 4.0
EPOCH_SAMPLES = 2000
LABELS = ("none", "generalized", "frontal", "temporal", "centro-parietal", "occipital")
"""By the number in an epoch's name (FACT: the data paper)."""
SOME_IED = "ied"
"""Label of an epoch that holds an IED somewhere: the group's own converter writes 1 for all of them."""

_FOLDERS = ("non-ied", "generalized-ied", "frontal-ied", "temporal-ied", "centro-parietal-ied", "occipital-ied")
_NPY = re.compile(r"(?P<id>.+)_(?P<start>\d+)_(?P<stop>\d+)_(?P<rate>\d+)__(?P<label>\d+)\.npy", re.IGNORECASE)
_DAMAGED = (MatReadError, ValueError, TypeError, KeyError, IndexError, OverflowError, EOFError, MemoryError)
_DAMAGED += (ZeroDivisionError, zlib.error, struct.error)
"""What SciPy raises on a file that is cut short or no MATLAB file at all."""


class Epoch(NamedTuple):
    """A published epoch: samples [start, stop) of its recording."""

    path: str
    """As text: 25,000 of them go to every worker, and a `Path` takes ten times as long."""
    start: int
    stop: int
    label: str
    """One of LABELS, or SOME_IED."""


class Found(NamedTuple):
    """What there is of one recording."""

    mat: Path | None
    epochs: tuple[Epoch, ...]
    """By `start`."""
    trouble: str | None
    """Why it cannot be used, if so."""


def find_recordings(root: Path) -> dict[str, Found]:
    """Every recording in a folder and all folders in it, by its id.

    Raises:
        ValueError: no such folder, or none of vEpiSet's files in it.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    mats: dict[str, list[Path]] = defaultdict(list)
    epochs: dict[str, list[Epoch]] = defaultdict(list)
    troubles: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or suffix not in (".mat", ".npy"):  # `._<id>.mat` is what macOS leaves behind
            continue
        if suffix == ".mat":
            mats[path.stem].append(path)
            continue
        named = _NPY.fullmatch(path.name)
        if named is None:
            troubles[path.stem] = f"{path.name}: an epoch's name is <id>_<start>_<end>_500__<label>.npy"
            continue
        try:
            epochs[named["id"]].append(_epoch(path, named))
        except ValueError as error:
            troubles[named["id"]] = str(error)
    ids = {*mats, *epochs, *troubles}
    if not ids:
        raise ValueError(f"{root} holds neither MAT files nor epochs (<id>_<start>_<end>_500__<label>.npy) of vEpiSet")
    return {i: _found(i, mats[i], sorted(epochs[i], key=lambda e: e.start), troubles.get(i), ids) for i in sorted(ids)}


def _epoch(path: Path, named: re.Match[str]) -> Epoch:
    start, stop, rate, label = (int(named[key]) for key in ("start", "stop", "rate", "label"))
    if rate != SFREQ_HZ or not start < stop or label >= len(LABELS):
        raise ValueError(
            f"{path.name}: an epoch's name gives its first sample, its end, 500 (Hz) and a label of 0 to"
            f" {len(LABELS) - 1}"
        )
    folder = path.parent.name.lower()
    if folder in _FOLDERS and _FOLDERS.index(folder) != label:
        raise ValueError(f"{path.name} lies in {path.parent.name}, but its name says {LABELS[label]}")
    # Outside the published folders the group's converter (mat2npy.py) may have written it, which has 0 and 1 only.
    return Epoch(str(path), start, stop, LABELS[label] if folder in _FOLDERS or label != 1 else SOME_IED)


def _found(name: str, mats: Sequence[Path], epochs: Sequence[Epoch], trouble: str | None, ids: set[str]) -> Found:
    alike = sorted(other for other in ids if other != name and other.lower() == name.lower())
    starts = [epoch.start for epoch in epochs]
    twice = next((a for a, b in zip(starts, starts[1:], strict=False) if a == b), None)
    if alike:
        trouble = f"its name and that of {', '.join(alike)} differ in case only: which of them is whose is not known"
    elif len(mats) > 1:
        trouble = f"there are {len(mats)} of it: {', '.join(path.as_posix() for path in mats)}"
    elif twice is not None:
        trouble = f"its epoch from sample {twice} on is there more than once"
    return Found(mats[0] if mats else None, tuple(epochs), trouble)


def info_ids(root: Path) -> set[str]:
    """The recordings that base_info.csv names; none if there is no such file."""
    ids: set[str] = set()
    for path in root.rglob("base_info.csv"):
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
        rows = csv.DictReader(text.splitlines())
        ids |= {Path(row["file_name"].strip()).stem for row in rows if (row.get("file_name") or "").strip()}
    return ids


# --- MAT files -------------------------------------------------------------------------------------------------


def read_signal(path: Path) -> Float32[np.ndarray, "time chan"]:
    """The 29 leads in microvolts.

    Raises:
        ValueError: no MATLAB 5 file, or no `eeg_data` of 29 leads in it.
    """
    eeg = _variable(path, "eeg_data")
    if eeg.ndim != 2 or eeg.shape[0] != len(LEADS_29) or eeg.dtype.kind not in "fiu" or not eeg.shape[1]:
        raise ValueError(
            f"{path.name}: eeg_data must be {len(LEADS_29)} leads x samples of real numbers, is {eeg.dtype} of shape"
            f" {eeg.shape}"
        )
    signal = eeg.T.astype(np.float32, order="C")
    signal *= np.float32(UNITS_UV["V"])
    return signal


def mat_length(path: Path) -> int:
    """How many samples a MAT file holds, from its table of contents.

    Raises:
        ValueError: no MATLAB 5 file, or no `eeg_data` in it.
    """
    shapes = {name: shape for name, shape, _ in _scipy(scipy.io.whosmat, path)}
    if len(shapes.get("eeg_data", ())) != 2:
        raise ValueError(f"{path.name} holds no variable eeg_data")
    return shapes["eeg_data"][1]


def read_marks(path: Path, seconds: float) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
    """The events of a MAT file, and notes on them.

    Args:
        path: the file.
        seconds: how long its signal is.

    Raises:
        ValueError: no MATLAB 5 file, or no `events` with an onset, a duration and a text each.
    """
    table = _variable(path, "events")
    if table.size == 0:
        return (), ("no events: neither IEDs nor states are marked",)
    if table.ndim != 2 or table.shape[1] != 3 or table.dtype.kind not in "UO":
        raise ValueError(
            f"{path.name}: events must be rows of onset, duration and text, is {table.dtype} of shape {table.shape}"
        )
    marks, untimed, beyond, depth, lone = [], 0, 0, 0, 0
    for row in table:
        onset, text = _number(_text(row[0])), _text(row[2])
        if onset is None or onset < 0:
            untimed += 1
        elif onset >= seconds:
            beyond += 1
        else:
            marks.append(Annotation(onset, 0.0, text))
    marks.sort(key=lambda mark: mark.onset_seconds)
    for mark in marks:
        word = mark.text.lower()
        lone += (word == "!start" and depth == 1) or (word == "!end" and depth == 0)
        depth = {"!start": 1, "!end": 0}.get(word, depth)
    notes = [
        f"{count} {what}"
        for count, what in (
            (untimed, "events without a time: left out"),
            (beyond, "events after the end of the signal: left out"),
            (lone + depth, "of !start and !end without a partner: each taken as one discharge"),
        )
        if count
    ]
    return tuple(marks), tuple(notes)


def _variable(path: Path, name: str) -> np.ndarray:
    held = _scipy(scipy.io.loadmat, path, variable_names=[name])
    if not isinstance(held.get(name), np.ndarray):
        raise ValueError(f"{path.name} holds no variable {name}")
    return held[name]


def _scipy(function: Any, path: Path, **options: Any) -> Any:
    """What SciPy makes of a MAT file, its many exceptions as one."""
    try:
        return function(str(path), **options)
    except NotImplementedError:
        raise ValueError(f"{path.name} is of MATLAB 7.3; vEpiSet is published as MATLAB 5: save(..., '-v7')") from None
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's trouble, not the file's
            raise
        said = str(error)[:100] or type(error).__name__
        raise ValueError(f"{path.name} is damaged or no MATLAB file ({said})") from error


def _text(cell: Any) -> str:
    """A padded string, a cell that holds one, or a number in a cell."""
    if isinstance(cell, np.ndarray):
        if cell.size == 0:
            return ""
        cell = cell.flat[0]
    return str(cell).strip(" \t\r\n\0")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


# --- epochs ----------------------------------------------------------------------------------------------------


def rebuilt(epochs: Sequence[Epoch], data: DataConfig) -> tuple[Recording, tuple[str, ...]]:
    """A recording from its epochs, a segment for each stretch without a gap; and notes on it.

    Raises:
        ValueError: not one epoch can be read, or they hold no usable channel.
    """
    pieces: list[Float32[np.ndarray, "time chan"]] = []
    stretches: list[tuple[int, int]] = []  # first sample in the recording, and length
    end, damaged = -1, 0
    for epoch in epochs:
        piece = _read_epoch(epoch)
        if piece is None:
            damaged += 1
        elif epoch.start == end and stretches[-1][1] % EPOCH_SAMPLES == 0:
            stretches[-1] = (stretches[-1][0], stretches[-1][1] + len(piece))
        else:
            stretches.append((epoch.start, len(piece)))
        if piece is not None:
            pieces.append(piece)
            end = epoch.stop
    if not pieces:
        raise ValueError(f"none of its {len(epochs)} epochs can be read as 29 leads x samples")
    signal = np.concatenate(pieces)
    target = {"target_ch_names": data.ch_names, "target_sfreq": data.sfreq}
    whole = recording_from_array(signal, sfreq=SFREQ_HZ, ch_names=LEADS_29, **target)
    ratio = Fraction(str(float(data.sfreq))) / Fraction(str(SFREQ_HZ))
    lengths = [length for _, length in stretches]
    columns = {i: LEADS_29.index(whole.report.used[n]) for i, n in enumerate(data.ch_names) if whole.present[i]}
    recording = dataclasses.replace(
        whole,
        segments=tuple(Segment(start / SFREQ_HZ, resampled_length(length, ratio)) for start, length in stretches),
        source=_Stretches(tuple(np.split(signal, np.cumsum(lengths)[:-1])), columns, len(data.ch_names), ratio),
    )
    notes = [f"{damaged} epochs cannot be read: gaps instead"] if damaged else []
    if len(stretches) > 1:
        notes.append(f"{len(stretches) - 1} gaps where epochs are missing")
    return recording, tuple(notes)


def _read_epoch(epoch: Epoch) -> Float32[np.ndarray, "time chan"] | None:
    """An epoch in microvolts, or None if it is damaged or not what its name says."""
    try:
        held = np.load(epoch.path, allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return None
    expected = (len(LEADS_29), epoch.stop - epoch.start)
    if not isinstance(held, np.ndarray) or held.shape != expected or held.dtype.kind not in "fiu":
        return None
    piece = held.T.astype(np.float32, order="C") * np.float32(UNITS_UV["V"])
    return piece if np.isfinite(piece).all() else None


@dataclass(frozen=True, eq=False)
class _Stretches:
    """Samples of a stretch at another rate: none of its filter's taps reaches across a gap."""

    stretches: tuple[Float32[np.ndarray, "time chan"], ...]
    columns: Mapping[int, int]
    """Where in the stretches each channel of the result is."""
    n_chans: int
    ratio: Fraction

    def __call__(self, segment: int, start: int, stop: int) -> Float32[np.ndarray, "time chan"]:
        signal = self.stretches[segment]
        out = np.zeros((stop - start, self.n_chans), np.float32)
        out[:, list(self.columns)] = resample(
            lambda a, b: signal[a:b, list(self.columns.values())],
            len(signal),
            ratio=self.ratio,
            start=start,
            stop=stop,
        )
        return out
