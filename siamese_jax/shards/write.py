"""Writing HDF5 sample shards; `schema.py` has their layout, and reads them."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import h5py
import numpy as np
from jaxtyping import Float32, Int16, Int32, UInt8

from siamese_jax.files import publish
from siamese_jax.recordings.intervals import Stretch, merged
from siamese_jax.recordings.recording import Recording
from siamese_jax.recordings.windows import WindowGrid, untouched, window_onsets
from siamese_jax.shards.marks import TaskMarks, window_labels
from siamese_jax.shards.schema import PARTIAL_SUFFIX, SCHEMA_VERSION, Judged, Levels, Marks, ShardInfo, checksum
from siamese_jax.vocabulary import channel_kind

EEG_SCALE_UV = 0.1
"""Microvolts a step: below an amplifier's noise. Within +-3.27 mV, steps are stored as they are."""
OTHER_SCALE_UV = 0.5
"""The same for ECG, EMG and EOG, which are larger: +-16 mV."""
LEVEL_SECONDS = 2
"""Where int16 does not hold the steps, each so long stretch has an offset, and if need be coarser steps, of its own."""
COARSE_SHIFT = 4
"""From 16 steps in one, samples are counted as coarse: 1.6 uV in EEG, where it moves by 52 mV within a stretch."""

_Node = Any  # an h5py file or group: its types do not say what indexing gives
_TEXT = "text"
_FORMAT = ("v110", "v110")  # from this version of the format on, HDF5 guards its own structures by checksums
_INT16 = np.iinfo(np.int16)
_BLOCK_SECONDS = 60
_MOST_STEPS = 1 << 30
_TIMES = {"onset_seconds": np.float64, "duration_seconds": np.float64}
_MARKS = dict(
    zip(Marks._fields, (np.int32, np.float64, np.float64, np.float64, np.int32, _TEXT, _TEXT, _TEXT), strict=True)
)


class LabelledRecording(NamedTuple):
    """A recording, its patient, its windows, and what is known of each task in it."""

    name: str
    patient: str
    recording: Recording
    grid: WindowGrid
    marks: dict[str, TaskMarks]
    """By task; of a task that nobody judged in it, `TaskMarks()`."""
    bad: tuple[Stretch, ...] = ()
    """Intervals that somebody marked as bad."""
    digest: str = ""
    """SHA-256 of the file with its signal."""


class UnreadableRecordingError(ValueError):
    """A recording's signal could not be read. `name` is the recording's, `reason` says why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


def write_shard(path: str | Path, recordings: Sequence[LabelledRecording], *, info: ShardInfo) -> None:
    """Write recordings to `path`, whole or not at all.

    The signal goes from file to file a minute at a time. Labels follow from the marks. Windows that a bad interval
    touches get weight 0 in every task: those in `recordings`, and every second in which all EEG channels present stand
    still (the amplifier was off, or a part of the file was blanked) or a sample is not finite, which is stored as 0 uV.

    Raises:
        ValueError: nothing to write, or recordings that do not fit `info`.
        UnreadableRecordingError: a recording's signal cannot be read.
        OSError: the disk is full or not writable.
    """
    path = Path(path)
    _check_fits(path, recordings, info)
    partial = path.with_name(f"{path.name}.{uuid4().hex}{PARTIAL_SUFFIX}")  # process ids recur on other machines
    try:
        with h5py.File(partial, "w", libver=_FORMAT, locking=False) as file:
            file.attrs["schema_version"] = SCHEMA_VERSION
            file.attrs["created_by"] = f"siamese-jax {_package_version()}, h5py {h5py.__version__}"
            for name, value in asdict(info).items():
                file.attrs[name] = json.dumps(value) if name in ("ch_names", "tasks") else value
            bad = _write_signal(file, recordings, info)
            _write_marks(file, recordings, info)
            _write_index(file, recordings, info, bad)
            file.attrs["checksum"] = checksum(file)
        _flush(partial)
        publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _check_fits(path: Path, recordings: Sequence[LabelledRecording], info: ShardInfo) -> None:
    if not any(len(item.grid.start) for item in recordings):
        raise ValueError(f"{path}: no recording holds a whole window of {info.window / info.sfreq:g} s")
    for item in recordings:
        recording = item.recording
        if (recording.sfreq, tuple(recording.ch_names)) != (info.sfreq, info.ch_names):
            raise ValueError(
                f"{item.name}: read as {recording.ch_names} at {recording.sfreq} Hz,"
                f" the shard holds {info.ch_names} at {info.sfreq} Hz"
            )
        lacking = [task.name for task in info.tasks if task.name not in item.marks]
        if lacking:
            raise ValueError(f"{item.name}: no marks are given for {', '.join(lacking)}; it has {sorted(item.marks)}")


# --- the signal ---------------------------------------------------------------------------------------------


def _write_signal(file: _Node, recordings: Sequence[LabelledRecording], info: ShardInfo) -> list[list[Stretch]]:
    """Write `signal`, `levels` and what scales them; returns each recording's bad intervals."""
    n_chans, n_recordings = len(info.ch_names), len(recordings)
    n_times = sum(segment.n_times for item in recordings for segment in item.recording.segments)
    signal = file.create_dataset("signal", (n_times, n_chans), np.int16)
    scales = np.array([EEG_SCALE_UV if _is_eeg(name) else OTHER_SCALE_UV for name in info.ch_names], np.float32)
    coarse = np.zeros((n_recordings, n_chans), np.int64)
    row, bad, levels = 0, [], []
    for i, item in enumerate(recordings):
        found = list(item.bad)
        for block, onset in _blocks(item):
            steps = np.clip(np.rint(_finite(block) / scales), -_MOST_STEPS, _MOST_STEPS) * item.recording.present
            signal[row : row + len(block)], own = _levelled(steps.astype(np.int32), LEVEL_SECONDS * _second(info.sfreq))
            for start, stop, offset, shift in own:
                levels.append((row + start, row + stop, offset, shift))
                coarse[i] += (stop - start) * (shift >= COARSE_SHIFT)
            found += _bad_seconds(block, item.recording, onset)
            row += len(block)
        bad.append(merged(found))
    group = file.create_group("levels")
    columns = zip(*levels, strict=True) if levels else ((), (), np.zeros((0, n_chans)), np.zeros((0, n_chans)))
    for name, column, dtype in zip(Levels._fields, columns, (np.int64, np.int64, np.int32, np.uint8), strict=True):
        group[name] = np.array(column, dtype)
    group = file.create_group("recordings")
    rows = [(item.patient, item.name, item.digest) for item in recordings]
    _write_table(group, rows, {"patient": _TEXT, "name": _TEXT, "digest": _TEXT})
    group["present"] = np.array([item.recording.present for item in recordings])
    group["scale"], group["coarse"] = np.tile(scales, (n_recordings, 1)), coarse
    rows = [(i, *interval) for i, intervals in enumerate(bad) for interval in intervals]
    _write_table(file.create_group("bad_intervals"), rows, {"recording": np.int32, **_TIMES})
    return bad


def _blocks(item: LabelledRecording) -> Iterator[tuple[Float32[np.ndarray, "time chan"], float]]:
    """The segments one after another, at most a minute at a time, in microvolts; and when each block begins."""
    recording = item.recording
    step = _BLOCK_SECONDS * _second(recording.sfreq)
    for k, segment in enumerate(recording.segments):
        for start in range(0, segment.n_times, step):
            try:
                block = recording.read(k, start, min(start + step, segment.n_times))
            except (ValueError, OSError, EOFError) as error:
                raise UnreadableRecordingError(item.name, f"its signal cannot be read: {error}") from error
            yield block, segment.onset_seconds + start / recording.sfreq


_Level = tuple[int, int, Int32[np.ndarray, "chan"], UInt8[np.ndarray, "chan"]]


def _levelled(
    steps: Int32[np.ndarray, "time chan"], length: int
) -> tuple[Int16[np.ndarray, "time chan"], list[_Level]]:
    """Steps as int16, and the stretches of `length` samples (start, stop, offset, shift) in which that took a level.

    A channel that int16 holds as it is has offset and shift 0. Of any other, the offset lies midway between its
    extremes, and steps are made coarser by powers of two until they fit; nothing is clipped.
    """
    levels = []
    if steps.min(initial=0) < _INT16.min or steps.max(initial=0) > _INT16.max:
        for start in range(0, len(steps), length):
            piece = steps[start : start + length]
            low, high = piece.min(axis=0).astype(np.int64), piece.max(axis=0).astype(np.int64)
            beyond = (low < _INT16.min) | (high > _INT16.max)
            if beyond.any():
                offset = np.where(beyond, (low + high) // 2, 0).astype(np.int32)
                needed = np.where(beyond, (high - low) / (2 * _INT16.max), 1)
                shift = np.ceil(np.log2(np.maximum(needed, 1))).astype(np.uint8)
                levels.append((start, start + len(piece), offset, shift))
    if not levels:
        return steps.astype(np.int16), levels
    stored = steps.astype(np.int64)
    for start, stop, offset, shift in levels:
        piece = stored[start:stop] - offset
        stored[start:stop] = (piece + ((1 << shift.astype(np.int64)) >> 1)) >> shift  # to the nearest
    return stored.astype(np.int16), levels


def _bad_seconds(block: Float32[np.ndarray, "time chan"], recording: Recording, onset: float) -> list[Stretch]:
    """Seconds without a signal: onset from the start of the recording, and duration."""
    watched = recording.present & np.array([_is_eeg(name) for name in recording.ch_names])
    found, second = [], _second(recording.sfreq)
    for start in range(0, len(block), second):
        piece = block[start : start + second]
        still = watched.any() and len(piece) > 1 and not np.ptp(piece[:, watched], axis=0).any()
        if still or not np.isfinite(piece).all():
            found.append((onset + start / recording.sfreq, len(piece) / recording.sfreq))
    return found


def _finite(block: Float32[np.ndarray, "time chan"]) -> Float32[np.ndarray, "time chan"]:
    return np.nan_to_num(block, posinf=0, neginf=0)


def _second(sfreq: float) -> int:
    """A second in whole samples."""
    return max(round(sfreq), 1)


def _is_eeg(ch_name: str) -> bool:
    return channel_kind(ch_name) == "eeg"


# --- marks, windows and labels ------------------------------------------------------------------------------


def _write_marks(file: _Node, recordings: Sequence[LabelledRecording], info: ShardInfo) -> None:
    for task in info.tasks:
        marks, judged = [], []
        for i, item in enumerate(recordings):
            held = item.marks[task.name]
            marks += [(i, *mark._replace(channels=_words(mark.channels))) for mark in held.marks]
            judged += [(i, *stretch) for stretch in held.judged]
        _write_table(file.create_group(f"marks/{task.name}"), marks, _MARKS)
        columns = {name: _MARKS[name] for name in Judged._fields}
        _write_table(file.create_group(f"judged/{task.name}"), judged, columns)


def _words(names: Sequence[str]) -> str:
    """Names separated by spaces; one with spaces in it has underscores there."""
    return " ".join("_".join(name.split()) for name in names)


def _write_index(
    file: _Node, recordings: Sequence[LabelledRecording], info: ShardInfo, bad: Sequence[Sequence[Stretch]]
) -> None:
    """Write segments, samples, labels and weights."""
    segments, starts, index, row = [], [], [], 0
    found = {task.name: [] for task in info.tasks}
    seconds = info.window / info.sfreq
    for i, item in enumerate(recordings):
        first, rows = len(segments), []
        for segment in item.recording.segments:
            segments.append((row, segment.n_times, i, segment.onset_seconds))
            rows.append(row)
            row += segment.n_times
        starts.append(np.array(rows, np.int64)[item.grid.segment] + item.grid.start)
        index.append(first + item.grid.segment)
        onsets = window_onsets(item.recording.segments, item.grid, sfreq=info.sfreq)
        good = untouched(onsets, bad[i], window_seconds=seconds)
        for task in info.tasks:
            label, weight = window_labels(task, item.marks[task.name], onsets, window_seconds=seconds)
            found[task.name].append((label, weight * good))
    columns = {"start": np.int64, "length": np.int64, "recording": np.int32, "onset_seconds": np.float64}
    _write_table(file.create_group("segments"), segments, columns)
    samples, labels, weights = (file.create_group(name) for name in ("samples", "labels", "weights"))
    samples["start"] = np.concatenate(starts).astype(np.int64)
    samples["segment"] = np.concatenate(index).astype(np.int32)
    for name, rows in found.items():
        label, weight = (np.concatenate(column) for column in zip(*rows, strict=True))
        missing = (weight == 0).reshape((-1,) + (1,) * (label.ndim - 1))
        labels[name] = np.where(missing, np.zeros((), label.dtype), label)
        weights[name] = weight.astype(np.float32)


def _write_table(group: _Node, rows: Sequence[tuple[Any, ...]], columns: dict[str, Any]) -> None:
    for i, (name, dtype) in enumerate(columns.items()):
        column = [row[i] for row in rows]
        if dtype == _TEXT:  # of fixed length: HDF5 fills others up with whatever is in memory
            column = [text.encode() for text in column]
            dtype = h5py.string_dtype("utf-8", max(map(len, column), default=0) or 1)
        group.create_dataset(name, data=np.array(column, dtype))


def _flush(path: Path) -> None:
    """Make sure that a file is on the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _package_version() -> str:
    try:
        return version("siamese-jax")
    except PackageNotFoundError:
        return "(not installed)"
