"""Writing HDF5 sample shards; `shards.py` has their layout, and reads them."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

import h5py
import numpy as np

from siamese_jax.files import publish
from siamese_jax.recordings.windows import untouched, window_onsets
from siamese_jax.shards import quantise
from siamese_jax.shards.quantise import LabelledRecording
from siamese_jax.shards.schema import PARTIAL_SUFFIX, SCHEMA_VERSION, ShardInfo, checksum

_Node = Any  # an h5py file or group: its types do not say what indexing gives
_TEXT = "text"
_FORMAT = ("v110", "v110")  # from this version of the format on, HDF5 guards its own structures by checksums


def write_shard(path: str | Path, recordings: Sequence[LabelledRecording], *, info: ShardInfo) -> None:
    """Write recordings to `path`, whole or not at all.

    The signal goes from file to file a minute at a time. Windows that a bad interval touches (those in
    `recordings`, and those that `quantised_blocks` finds) get weight 0 in every task.

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
            _write_index(file, recordings, info, bad)
            _write_events(file, recordings)
            file.attrs["checksum"] = checksum(file)
        _flush(partial)
        publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _check_fits(path: Path, recordings: Sequence[LabelledRecording], info: ShardInfo) -> None:
    if not any(len(item.grid.start) for item in recordings):
        raise ValueError(f"{path}: no recording holds a whole window of {info.window / info.sfreq:g} s")
    for item in recordings:
        recording, n = item.recording, len(item.grid.start)
        if (recording.sfreq, tuple(recording.ch_names)) != (info.sfreq, info.ch_names):
            raise ValueError(
                f"{item.name}: read as {recording.ch_names} at {recording.sfreq} Hz,"
                f" the shard holds {info.ch_names} at {info.sfreq} Hz"
            )
        for task in info.tasks:
            if task.name not in item.labels or len(item.labels[task.name].label) != n:
                raise ValueError(f"{item.name}: needs one {task.name!r} label for each of its {n} windows")


def _write_signal(
    file: _Node, recordings: Sequence[LabelledRecording], info: ShardInfo
) -> list[list[tuple[float, float]]]:
    """Write `signal` and what scales it; returns each recording's bad intervals."""
    n_chans, n_recordings = len(info.ch_names), len(recordings)
    n_times = sum(segment.n_times for item in recordings for segment in item.recording.segments)
    signal = file.create_dataset("signal", (n_times, n_chans), np.int16)
    scales = quantise.channel_scales(info.ch_names)
    offsets = np.zeros((n_recordings, n_chans), np.float32)
    clipped = np.zeros((n_recordings, n_chans), np.int64)
    row, bad = 0, []
    for i, item in enumerate(recordings):
        offsets[i] = quantise.channel_medians(item)
        found = list(item.bad)
        for block in quantise.quantised_blocks(item, scales, offsets[i]):
            signal[row : row + len(block.integers)] = block.integers
            row += len(block.integers)
            clipped[i] += block.clipped
            found += block.bad
        bad.append(quantise.merged(found))
    group = file.create_group("recordings")
    names = [(item.patient, item.name) for item in recordings]
    _write_table(group, names, {"patient": _TEXT, "name": _TEXT})
    group["present"] = np.array([item.recording.present for item in recordings])
    group["scale"], group["offset"], group["clipped"] = np.tile(scales, (n_recordings, 1)), offsets, clipped
    _write_table(
        file.create_group("bad_intervals"),
        [(i, onset, duration) for i, intervals in enumerate(bad) for onset, duration in intervals],
        {"recording": np.int32, "onset_seconds": np.float64, "duration_seconds": np.float64},
    )
    return bad


def _write_index(
    file: _Node,
    recordings: Sequence[LabelledRecording],
    info: ShardInfo,
    bad: list[list[tuple[float, float]]],
) -> None:
    """Write segments, samples, labels and weights."""
    segments, starts, index, usable, row = [], [], [], [], 0
    for i, item in enumerate(recordings):
        first, rows = len(segments), []
        for segment in item.recording.segments:
            segments.append((row, segment.n_times, i, segment.onset_seconds))
            rows.append(row)
            row += segment.n_times
        starts.append(np.array(rows, np.int64)[item.grid.segment] + item.grid.start)
        index.append(first + item.grid.segment)
        onsets = window_onsets(item.recording.segments, item.grid, sfreq=info.sfreq)
        usable.append(untouched(onsets, bad[i], window_seconds=info.window / info.sfreq))
    columns = {"start": np.int64, "length": np.int64, "recording": np.int32, "onset_seconds": np.float64}
    _write_table(file.create_group("segments"), segments, columns)
    samples, labels, weights = (file.create_group(name) for name in ("samples", "labels", "weights"))
    samples["start"] = np.concatenate(starts).astype(np.int64)
    samples["segment"] = np.concatenate(index).astype(np.int32)
    good = np.concatenate(usable)
    for task in info.tasks:
        label = np.concatenate([item.labels[task.name].label for item in recordings])
        weight = np.concatenate([item.labels[task.name].weight for item in recordings]) * good
        missing = (weight == 0).reshape((-1,) + (1,) * (label.ndim - 1))
        labels[task.name] = np.where(missing, np.zeros((), label.dtype), label)
        weights[task.name] = weight.astype(np.float32)


def _write_events(file: _Node, recordings: Sequence[LabelledRecording]) -> None:
    rows = [
        (event.onset_seconds, event.duration_seconds, event.text, event.channel or "", i)
        for i, item in enumerate(recordings)
        for event in item.events
    ]
    times = {"onset_seconds": np.float64, "duration_seconds": np.float64}
    columns = {**times, "text": _TEXT, "channel": _TEXT, "recording": np.int32}
    _write_table(file.create_group("events"), rows, columns)


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
