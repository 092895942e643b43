"""HDF5 sample shards: their schema, and reading them; `write.py` writes them.

A shard is one file and holds one patient (many, where a patient's recordings last seconds): it is written under a
temporary name and renamed, so an interrupted preparation loses one shard and keeps the others; a patient moves to
another split by moving a file; and no file can hold patients of two splits. Its layout (`SCHEMA_VERSION` counts
changes):

    signal          int16 [time, chan], contiguous: the segments of the recordings one after another
    levels/         start, stop (rows in signal); [level, chan]: offset, shift. Steps are `signal` where no level is
                    (EEG within +-3.2 mV, so nearly everywhere), else `(signal << shift) + offset`
    segments/       start (row in signal), length, recording, onset_seconds
    recordings/     patient, name, digest (SHA-256 of the file with the signal);
                    [recording, chan]: scale (uV = scale * steps), present,
                    coarse (how many samples are stored in steps of 16 scales or more)
    bad_intervals/  recording, onset_seconds, duration_seconds
    samples/        start (row in signal), segment
    marks/<task>    recording, onset_seconds, duration_seconds, peak_seconds (NaN: unknown), code (-1: no known class),
                    channels (separated by spaces), kind, origin
    judged/<task>   recording, onset_seconds, duration_seconds: where somebody judged
    labels/<task>   one label a sample, of a multilabel task one a class; 0 where missing
    weights/<task>  float32, 0 where the label is missing
    attributes      those of `ShardInfo`, schema_version, created_by, and
                    checksum: SHA-256 over every data set and every other attribute

Windows are slices of `signal`: stored once however much they overlap, and read with any margin. Labels and weights
follow from marks, judged stretches and bad intervals (`marks.py`), and are stored so that a stream need not know how.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int16, Int32, Int64, Integer, Shaped, UInt8

from siamese_jax.recordings.windows import read_padded, untouched
from siamese_jax.shards.marks import Mark, TaskMarks
from siamese_jax.vocabulary import TaskSpec, standard_names

SCHEMA_VERSION = 3
SUFFIX = ".h5"
PARTIAL_SUFFIX = ".partial"

_Node = Any  # an h5py file or group: its types do not say what indexing gives


@dataclass(frozen=True)
class ShardInfo:
    """What a shard's attributes say."""

    sfreq: float
    ch_names: tuple[str, ...]
    window: int
    """Samples in a window, without margins."""
    hop: int
    tasks: tuple[TaskSpec, ...]
    source: str = ""
    """Where the recordings came from, in words."""
    fingerprint: str = ""
    """Hash of the input files and of the configuration, by which `prepare` knows a finished shard."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ch_names", standard_names(self.ch_names))


class Marks(NamedTuple):
    """A task's marks of all the recordings of a shard; the columns are those of `marks.Mark`."""

    recording: Int32[np.ndarray, "mark"]
    onset_seconds: Float64[np.ndarray, "mark"]
    duration_seconds: Float64[np.ndarray, "mark"]
    peak_seconds: Float64[np.ndarray, "mark"]
    code: Int32[np.ndarray, "mark"]
    channels: Shaped[np.ndarray, "mark"]
    """Separated by spaces."""
    kind: Shaped[np.ndarray, "mark"]
    origin: Shaped[np.ndarray, "mark"]


class Judged(NamedTuple):
    """Where somebody judged, for one task, in all the recordings of a shard."""

    recording: Int32[np.ndarray, "stretch"]
    onset_seconds: Float64[np.ndarray, "stretch"]
    duration_seconds: Float64[np.ndarray, "stretch"]


class Levels(NamedTuple):
    """Where int16 does not hold the steps as they are: steps are `(signal << shift) + offset`. In order, and apart."""

    start: Int64[np.ndarray, "level"]
    """Row of `signal`."""
    stop: Int64[np.ndarray, "level"]
    offset: Int32[np.ndarray, "level chan"]
    shift: UInt8[np.ndarray, "level chan"]


# --- reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Shard:
    """An open shard: its index in memory, its signal on disk until a window is read.

    Windows may be read from any thread; pickling leaves the file handle behind.
    """

    path: Path
    info: ShardInfo
    start: Int64[np.ndarray, "window"]
    """Row of `signal` in which each window starts."""
    segment: Int32[np.ndarray, "window"]
    recording: Int32[np.ndarray, "window"]
    onset_seconds: Float64[np.ndarray, "window"]
    """From the start of the window's recording, gaps included."""
    labels: dict[str, np.ndarray]
    weights: dict[str, Float32[np.ndarray, "window"]]
    segments: dict[str, np.ndarray]
    """Columns start, length, recording, onset_seconds."""
    recordings: dict[str, np.ndarray]
    """Columns name, patient, digest, scale, present, coarse."""
    bad_intervals: dict[str, np.ndarray]
    """Columns recording, onset_seconds, duration_seconds."""
    marks: dict[str, Marks]
    """By task: what was marked."""
    judged: dict[str, Judged]
    """By task: where somebody judged."""
    levels: Levels
    _signal: "_Signal" = field(repr=False)

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.start)

    @property
    def patients(self) -> tuple[str, ...]:
        """The patients of its recordings, in order of their names."""
        return tuple(sorted(set(self.recordings["patient"].tolist())))

    def patient(self, windows: Int64[np.ndarray, "window"]) -> Shaped[np.ndarray, "window"]:
        """The patient of each of some windows."""
        return self.recordings["patient"][self.recording[windows]]

    def of_patients(self, patients: Collection[str]) -> "Shard":
        """The same file with the windows of these patients alone."""
        kept = np.flatnonzero(np.isin(self.patient(np.arange(len(self))), list(patients)))
        by_window = {name: getattr(self, name)[kept] for name in ("start", "segment", "recording", "onset_seconds")}
        labels, weights = ({t: x[kept] for t, x in tree.items()} for tree in (self.labels, self.weights))
        return replace(self, **by_window, labels=labels, weights=weights)

    def read_window(self, i: int, margin: int = 0) -> Float32[np.ndarray, "time chan"]:
        """Window `i` with `margin` samples more on both sides, in microvolts; absent channels 0.

        The margins hold real samples as far as the segment goes and its reflection beyond.
        """
        segment = self.segment[i]
        first, length = int(self.segments["start"][segment]), int(self.segments["length"][segment])
        start = int(self.start[i]) - first - margin
        stop = start + self.info.window + 2 * margin
        steps = read_padded(lambda a, b: self._steps(first + a, first + b), length, start, stop)
        microvolts = steps.astype(np.float32)
        microvolts *= self.recordings["scale"][self.recording[i]]
        return microvolts

    def read_integers(self, start: int, stop: int) -> Int32[np.ndarray, "time chan"]:
        """Rows of the signal in whole steps: microvolts are `scale * steps` of their recording."""
        return self._steps(start, stop).astype(np.int32)

    def task_marks(self, task: str, recording: int) -> TaskMarks:
        """What was marked in one of its recordings for a task, and where somebody judged."""
        marks, judged = self.marks[task], self.judged[task]
        rows = zip(*(column[marks.recording == recording].tolist() for column in marks[1:]), strict=True)
        own = judged.recording == recording
        stretches = zip(judged.onset_seconds[own].tolist(), judged.duration_seconds[own].tolist(), strict=True)
        found = (Mark._make((*row[:4], tuple(row[4].split()), *row[5:])) for row in rows)
        return TaskMarks(tuple(found), tuple(stretches))

    def bad(self, recording: int) -> list[tuple[float, float]]:
        """The bad intervals of one of its recordings: onset and duration in seconds."""
        own = self.bad_intervals["recording"] == recording
        columns = (self.bad_intervals[name][own].tolist() for name in ("onset_seconds", "duration_seconds"))
        return list(zip(*columns, strict=True))

    def _steps(self, start: int, stop: int) -> Integer[np.ndarray, "time chan"]:
        """As `read_integers`, but int16 where that holds them."""
        stored, levels = self._signal.read(start, stop), self.levels
        first, last = np.searchsorted(levels.stop, start, side="right"), np.searchsorted(levels.start, stop)
        if first >= last:
            return stored
        steps = stored.astype(np.int32)
        for i in range(first, last):
            rows = slice(max(levels.start[i] - start, 0), levels.stop[i] - start)
            steps[rows] = (steps[rows] << levels.shift[i]) + levels.offset[i]
        return steps

    def present(self, i: int) -> Bool[np.ndarray, "chan"]:
        """Which channels the recording of window `i` has."""
        return self.recordings["present"][self.recording[i]]

    def judged_windows(self, task: str) -> Bool[np.ndarray, "window"]:
        """Windows that somebody judged for a task in part at least, and that no bad interval touches.

        Those of which an event touches the edge alone are among them, and have no label.
        """
        found = np.zeros(len(self), bool)
        seconds = self.info.window / self.info.sfreq
        for recording in np.unique(self.recording).tolist():
            own = np.flatnonzero(self.recording == recording)
            stretches = self.task_marks(task, recording).judged
            free = untouched(self.onset_seconds[own], stretches, window_seconds=seconds)
            found[own] = ~free & untouched(self.onset_seconds[own], self.bad(recording), window_seconds=seconds)
        return found

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        self._signal.close()


class _Signal:
    """The data set `signal`, opened at the first read: a handle survives neither pickling nor a fork."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._data: _Node = None

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return _Signal, (self._path,)

    def read(self, start: int, stop: int) -> Int16[np.ndarray, "time chan"]:
        with self._lock:
            if self._data is None:
                self._data = h5py.File(self._path, "r", locking=False)["signal"]
            return self._data[start:stop]

    def close(self) -> None:
        with self._lock:
            if self._data is not None:
                self._data.file.close()
            self._data = None


def open_shard(path: str | Path) -> Shard:
    """Open a shard, checking its schema and that its tables fit; `verify_shard` checks all of it.

    Raises:
        ValueError: not a finished shard of this schema; the message names file and reason.
        OSError: the system does not let it be read.
    """
    return _opened(Path(path), lambda file: _load(Path(path), file))


def verify_shard(path: str | Path) -> Shard:
    """Open a shard after comparing everything in it with its checksum.

    Raises:
        ValueError: the shard was cut short, edited or is of another schema (named with the file).
        OSError: the system does not let it be read.
    """

    def load(file: _Node) -> Shard:
        _check_schema(file)
        if checksum(file) != file.attrs["checksum"]:
            raise ValueError("its contents do not match its checksum: it was edited or damaged")
        return _load(Path(path), file)

    return _opened(Path(path), load)


def open_shards(folder: str | Path) -> list[Shard]:
    """The shards directly in a folder, in order of their names.

    Raises:
        ValueError: there are none, or one is not a finished shard of this schema.
    """
    paths = sorted(Path(folder).glob(f"*{SUFFIX}"))
    if not paths:
        raise ValueError(f"{folder}: no shards (*{SUFFIX}) here; `siamese-jax prepare FOLDER OUT` makes them")
    return [open_shard(path) for path in paths]


def _opened(path: Path, load: Callable[[_Node], Shard]) -> Shard:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        # A finished shard is never written again: reading it needs no lock, and some file systems have none.
        with h5py.File(path, "r", locking=False) as file:
            return load(file)
    # What HDF5 says about a damaged file depends on where the damage is.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk or the system: the shard may be sound
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise ValueError(f"{path}: not a sound shard: {error}") from error


def _check_schema(file: _Node) -> None:
    found = file.attrs.get("schema_version")
    if found is None:
        raise ValueError("it has no schema version, so it is no shard")
    if found != SCHEMA_VERSION:
        raise ValueError(f"its schema is {found}, this siamese-jax reads {SCHEMA_VERSION}: prepare it again")
    if "checksum" not in file.attrs:
        raise ValueError("it has no checksum, so writing it was never finished")


def _load(path: Path, file: _Node) -> Shard:
    _check_schema(file)
    attributes = {f.name: file.attrs[f.name] for f in fields(ShardInfo)}
    attributes["ch_names"] = tuple(json.loads(attributes["ch_names"]))
    tasks = json.loads(attributes["tasks"])
    attributes["tasks"] = tuple(TaskSpec(t["name"], t["kind"], tuple(t["classes"])) for t in tasks)
    info = ShardInfo(**{k: v.item() if isinstance(v, np.generic) else v for k, v in attributes.items()})
    tables = {name: _read_table(file[name]) for name in ("segments", "recordings", "bad_intervals")}
    marks = {task.name: Marks(**_read_table(file[f"marks/{task.name}"])) for task in info.tasks}
    judged = {task.name: Judged(**_read_table(file[f"judged/{task.name}"])) for task in info.tasks}
    levels = Levels(**_read_table(file["levels"]))
    start, segment = file["samples/start"][:], file["samples/segment"][:]
    labels = {task.name: file[f"labels/{task.name}"][:] for task in info.tasks}
    weights = {task.name: file[f"weights/{task.name}"][:] for task in info.tasks}
    rows, length = tables["segments"]["start"][segment], tables["segments"]["length"][segment]
    fits = (
        file["signal"].shape == (tables["segments"]["length"].sum(), len(info.ch_names))
        and np.all((start >= rows) & (start + info.window <= rows + length))
        and all(len(column) == len(start) for column in (*labels.values(), *weights.values()))
        and np.all(levels.stop[:-1] <= levels.start[1:])
    )
    if not fits:
        raise ValueError("its tables do not fit together")
    onset_seconds = tables["segments"]["onset_seconds"][segment] + (start - rows) / info.sfreq
    recording = tables["segments"]["recording"][segment]
    index = (start, segment, recording, onset_seconds, labels, weights)
    return Shard(path, info, *index, **tables, marks=marks, judged=judged, levels=levels, _signal=_Signal(path))


def _read_table(group: _Node) -> dict[str, np.ndarray]:
    return {name: data.asstr()[:] if data.dtype.kind == "S" else data[:] for name, data in group.items()}


def checksum(file: _Node) -> str:
    """SHA-256 over all data sets and attributes, in order of their names, a few megabytes at a time."""
    digest, names = hashlib.sha256(), []
    file.visit(names.append)
    attributes = {key: value for key, value in file.attrs.items() if key != "checksum"}
    digest.update(json.dumps(attributes, sort_keys=True, default=str).encode())
    for name in sorted(names):
        item = file[name]
        digest.update(json.dumps([name, dict(item.attrs.items())], default=str).encode())
        if isinstance(item, h5py.Dataset):
            digest.update(json.dumps([str(item.dtype), item.shape]).encode())
            step = max(1, (1 << 22) // max(item.dtype.itemsize * int(np.prod(item.shape[1:])), 1))
            for start in range(0, len(item), step):
                digest.update(item[start : start + step].tobytes())
    return digest.hexdigest()
