"""Arrays with labels as shards: epochs that were cut elsewhere, one window each, split by group.

A group (a patient) is in one split. Each epoch is a segment of its own: a window's margins are its own samples,
reflected at its ends, and never those of a neighbour.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from siamese_jax.cohort.report import REPORT, UsedFile, write_report
from siamese_jax.cohort.splits import shard_paths, split_patients
from siamese_jax.config.samples import whole_samples
from siamese_jax.config.sections import DataConfig
from siamese_jax.recordings.recording import recording_from_epochs
from siamese_jax.recordings.sidecars import SPLITS
from siamese_jax.recordings.windows import window_grid
from siamese_jax.shards.marks import Mark, TaskMarks
from siamese_jax.shards.schema import SCHEMA_VERSION, ShardInfo
from siamese_jax.shards.summary import ShardSummary, summarise
from siamese_jax.shards.write import LabelledRecording, write_shard
from siamese_jax.vocabulary import IED, SLEEP, STATE, TaskSpec, standard_names

APART_SECONDS = 1.0
"""From the end of an epoch to the next one's start, by a shard's clock: they never touch."""
_KNOWN = {task.name: task for task in (IED, SLEEP, STATE)}


def shards_from_arrays(
    out: str | Path,
    epochs: Any,
    labels: Collection[Any] | Mapping[str, Collection[Any]],
    groups: Collection[Any],
    *,
    task: str = "ied",
    classes: Sequence[str] | None = None,
    sfreq: float | None = None,
    ch_names: Sequence[str] | None = None,
    splits: Mapping[str, str] | None = None,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
    source: str = "arrays",
) -> ShardSummary:
    """Write epochs as shards that `train` and `evaluate` take; one epoch is one window.

    Args:
        out: folder to make; it must not hold shards.
        epochs: [epoch, time, channel] in MICROVOLTS; or an `mne.Epochs`, whose volts, rate, names and bad channels are
            understood.
        labels: by epoch, a class's name or its number; None is a missing label. Of several tasks: by task's name.
        groups: by epoch, whose it is (a patient). All epochs of a group are in one split.
        task: name of the task, where `labels` is one list.
        classes: of `task`, in order, the negative one first; default the known ones of `ied`, `sleep` and `state`, else
            the labels in order. Two classes make a task of events, more one of which exactly one is true.
        sfreq: samples per second; of an array.
        ch_names: the channels' names, in order; of an array.
        splits: by group: `train`, `validation` or `test`; the others are drawn.
        fractions: of the groups that are drawn, for the three.
        seed: decides, with the groups' names, who is drawn for which split.
        source: where the epochs come from, in words; stands in each checkpoint trained on them.

    Raises:
        ValueError: shapes, lengths or labels that do not fit; samples that are not finite; a folder with shards.
        OSError: the folder cannot be written.
    """
    out = Path(out)
    if (out / REPORT).exists() or any(out.rglob("*.h5")):
        raise ValueError(f"{out} holds shards: name an empty folder")
    eeg_uv, sfreq, ch_names = _arrays(epochs, sfreq, ch_names)
    data = DataConfig(ch_names=standard_names(ch_names), sfreq=sfreq, window_seconds=eeg_uv.shape[1] / sfreq)
    given = {task: labels} if not isinstance(labels, Mapping) else dict(labels)
    owners = [str(group) for group in groups]
    for what, values in {**{f"labels of {name}": values for name, values in given.items()}, "groups": owners}.items():
        if len(values) != len(eeg_uv):
            raise ValueError(f"{len(eeg_uv)} epochs were given, and {len(values)} {what}")
    specs = {name: _task(name, values, classes if name == task else None) for name, values in given.items()}
    codes = {name: [_code(specs[name], value) for value in values] for name, values in given.items()}
    first = next(iter(codes.values()))
    has_event = {owner: False for owner in dict.fromkeys(owners)}
    for owner, code in zip(owners, first, strict=True):
        has_event[owner] |= code > 0
    if wrong := sorted(set(splits or {}) - set(has_event)):
        raise ValueError(f"splits names groups without an epoch: {', '.join(wrong)}")
    if wrong := sorted(set((splits or {}).values()) - set(SPLITS)):
        raise ValueError(f"splits must be {', '.join(SPLITS)}, given {', '.join(map(repr, wrong))}")
    split_of = split_patients(has_event, fractions=fractions, seed=seed, fixed=splits)
    for split in SPLITS:
        (out / split).mkdir(parents=True, exist_ok=True)
    window = whole_samples(data.window_seconds, data.sfreq, "an epoch")
    used = []
    for path, members in shard_paths(out, split_of, 1).items():
        recordings = [_labelled(owner, eeg_uv, owners, specs, codes, ch_names, data) for owner in members]
        decisive = hashlib.sha256(" ".join(recording.digest for recording in recordings).encode())
        decisive.update(f"{data} {specs} {source}".encode())
        info = ShardInfo(
            sfreq=data.sfreq,
            ch_names=data.ch_names,
            window=window,
            hop=window,
            tasks=tuple(specs.values()),
            source=source,
            fingerprint=decisive.hexdigest(),
        )
        write_shard(path, recordings, info=info)
        used += [UsedFile(owner, owner, "groups", split_of[owner], ())._asdict() for owner in members]
    configuration = {"schema_version": SCHEMA_VERSION, "source": source, "seed": seed, "fractions": list(fractions)}
    write_report(out, configuration, {"finished": True, "notes": [], "texts": [], "used": used, "skipped": []})
    return summarise(out)


def _arrays(
    epochs: Any, sfreq: float | None, ch_names: Sequence[str] | None
) -> tuple[Float[np.ndarray, "epoch time chan"], float, tuple[str, ...]]:
    """Samples in microvolts, their rate and the names of their channels; of an `mne.Epochs` without its bad ones."""
    if hasattr(epochs, "get_data") and hasattr(epochs, "info"):
        bad, kinds = set(epochs.info["bads"]), epochs.get_channel_types()
        names = [
            name
            for name, kind in zip(epochs.ch_names, kinds, strict=True)
            if name not in bad and kind in ("eeg", "ecg", "emg", "eog")
        ]
        volts = epochs.get_data(picks=names)
        return (volts.transpose(0, 2, 1) * 1e6).astype(np.float32), float(epochs.info["sfreq"]), tuple(names)
    if sfreq is None or ch_names is None:
        raise ValueError("an array needs sfreq= and ch_names=")
    eeg_uv = np.asarray(epochs)
    if eeg_uv.ndim != 3 or eeg_uv.shape[2] != len(ch_names):
        raise ValueError(
            f"epochs must be [epoch, time, channel] with {len(ch_names)} channels, given {eeg_uv.shape}; of"
            " [epoch, channel, time] take epochs.transpose(0, 2, 1)"
        )
    return eeg_uv.astype(np.float32, copy=False), float(sfreq), tuple(ch_names)


def _task(name: str, values: Collection[Any], classes: Sequence[str] | None) -> TaskSpec:
    if classes is None and name in _KNOWN:
        return _KNOWN[name]
    held = tuple(classes or sorted({str(value) for value in values if value is not None}))
    if len(held) < 2:
        raise ValueError(f"task {name!r} needs two classes or more, and its labels are {held}")
    return TaskSpec(name, "binary" if len(held) == 2 else "multiclass", held)


def _code(task: TaskSpec, value: Any) -> int:
    """The number of a label's class; -1 where it is missing."""
    if value is None:
        return -1
    if str(value) in task.classes:
        return task.classes.index(str(value))
    if isinstance(value, int | np.integer | bool | np.bool_) and 0 <= int(value) < len(task.classes):
        return int(value)
    raise ValueError(
        f"task {task.name!r}: a label is {value!r}, allowed are {', '.join(task.classes)} or their numbers"
    )


def _labelled(
    owner: str,
    eeg_uv: Float[np.ndarray, "epoch time chan"],
    owners: Sequence[str],
    tasks: Mapping[str, TaskSpec],
    codes: Mapping[str, Sequence[int]],
    ch_names: Sequence[str],
    data: DataConfig,
) -> LabelledRecording:
    """One group's epochs as a recording with a gap between any two."""
    mine = [i for i, other in enumerate(owners) if other == owner]
    held = eeg_uv[mine]
    recording = recording_from_epochs(
        held,
        sfreq=data.sfreq,
        ch_names=ch_names,
        target_ch_names=data.ch_names,
        target_sfreq=data.sfreq,
        apart_seconds=APART_SECONDS,
    )
    marks = {}
    for name in tasks:
        found = [
            Mark(segment.onset_seconds, data.window_seconds, np.nan, codes[name][i], (), "window")
            for segment, i in zip(recording.segments, mine, strict=True)
            if codes[name][i] >= 0
        ]
        marks[name] = TaskMarks(tuple(found), tuple((mark.onset_seconds, mark.duration_seconds) for mark in found))
    window = recording.segments[0].n_times
    grid = window_grid(recording.segments, window=window, hop=window)
    digest = hashlib.sha256(np.ascontiguousarray(held).tobytes()).hexdigest()
    return LabelledRecording(owner, owner, recording, grid, marks, (), digest)
