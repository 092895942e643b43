"""What a folder of prepared shards holds, and whether all of it is sound (`siamese-jax prepare --check`)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siamese_jax.recordings.shards import PARTIAL_SUFFIX, SUFFIX, Shard, open_shard, verify_shard
from siamese_jax.recordings.sidecars import SPLITS
from siamese_jax.vocabulary import TaskSpec

CLIPPED_SHARE = 1e-3
"""A channel with more of its samples beyond int16 is named by `clipped_channels`."""


@dataclass(frozen=True)
class TaskCounts:
    """Labelled windows of one task in one split."""

    task: TaskSpec
    labelled: int
    counts: tuple[int, ...]
    """Windows of each class; of a multilabel task, positives of each class."""

    @property
    def positives(self) -> int:
        """Windows of a binary task's second class."""
        return self.counts[-1]

    @property
    def prevalence(self) -> float:
        """Positives of a binary task among labelled windows; NaN if there are none."""
        return self.positives / self.labelled if self.labelled else float("nan")


@dataclass(frozen=True)
class SplitSummary:
    """What one split holds."""

    name: str
    patients: tuple[str, ...]
    recordings: int
    hours: float
    windows: int
    tasks: tuple[TaskCounts, ...]
    megabytes: float


@dataclass(frozen=True)
class ShardSummary:
    """What a folder of shards holds, by split."""

    folder: Path
    splits: tuple[SplitSummary, ...]

    def table(self) -> str:
        """The summary as text, one line a split."""
        lines = [f"{'split':<11}{'patients':>9}{'recordings':>11}{'hours':>8}{'windows':>9}{'MB':>8}  labels"]
        for split in self.splits:
            tasks = "; ".join(_task_text(counts) for counts in split.tasks)
            lines.append(
                f"{split.name:<11}{len(split.patients):>9}{split.recordings:>11}{split.hours:>8.2f}"
                f"{split.windows:>9}{split.megabytes:>8.1f}  {tasks or '(empty)'}"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Check:
    """What `check` found: the sound shards' summary, and one line for each thing that is wrong."""

    summary: ShardSummary
    errors: tuple[str, ...]


def summarise(folder: str | Path) -> ShardSummary:
    """Counts of each split under `folder`, by the shards' tables (`check` reads all that is in them).

    Raises:
        ValueError: a shard that is not finished or of another schema, or no shard at all.
    """
    shards = {split: [open_shard(path) for path in _paths(folder, split)] for split in SPLITS}
    if not any(shards.values()):
        raise ValueError(f"{folder}: no shards (*{SUFFIX}) in {', '.join(SPLITS)}")
    return ShardSummary(Path(folder), tuple(_summary(split, shards[split]) for split in SPLITS))


def clipped_channels(paths: Iterable[Path]) -> list[str]:
    """One line for each recording with channels of which too many samples lay beyond the shard's range."""
    lines = []
    for shard in map(open_shard, paths):
        lengths = np.bincount(shard.segments["recording"], weights=shard.segments["length"])
        for name, row, length in zip(shard.recordings["name"], shard.recordings["clipped"], lengths, strict=True):
            channels = np.array(shard.info.ch_names)[row > CLIPPED_SHARE * length]
            if len(channels):
                lines.append(f"{name}: beyond the shard's range and clipped: {', '.join(channels)}")
    return lines


def check(folder: str | Path) -> Check:
    """Verify every shard under `folder` against its checksum, and the folder as a whole.

    Wrong are: a shard that was cut short, edited or is of another schema; one patient in two splits; shards
    that do not fit one another; leftovers of an interrupted preparation; no shard at all.
    """
    errors: list[str] = []
    shards: dict[str, list[Shard]] = {}
    for split in SPLITS:
        shards[split] = []
        for path in _paths(folder, split):
            try:
                shards[split].append(verify_shard(path))
            except ValueError as error:
                errors.append(str(error))
    every = [shard for group in shards.values() for shard in group]
    if not every and not errors:
        errors.append(f"{folder}: no shards (*{SUFFIX}) in {', '.join(SPLITS)}")
    errors += [
        f"{path}: left by a preparation that was interrupted; run it again or delete the file"
        for path in sorted(Path(folder).rglob(f"*{PARTIAL_SUFFIX}"))
    ]
    errors += _leaks(shards)
    for shard in every[1:]:
        first, other = every[0].info, shard.info
        for name in ("sfreq", "ch_names", "window", "hop", "tasks"):
            if getattr(first, name) != getattr(other, name):
                errors.append(
                    f"{shard.path}: {name} is {getattr(other, name)}, but {getattr(first, name)} in {every[0].path}"
                )
    summary = ShardSummary(Path(folder), tuple(_summary(split, shards[split]) for split in SPLITS))
    return Check(summary, tuple(errors))


def _leaks(shards: dict[str, list[Shard]]) -> list[str]:
    """One line for each patient that stands in two splits, or in two shards of one."""
    errors, seen = [], {}
    for split, group in shards.items():
        for shard in group:
            first = seen.setdefault(shard.info.patient, (split, shard.path))
            if first[1] != shard.path:
                errors.append(
                    f"patient {shard.info.patient!r} is in {first[0]} ({first[1].name})"
                    f" and in {split} ({shard.path.name})"
                )
    return errors


def _paths(folder: str | Path, split: str) -> list[Path]:
    return sorted((Path(folder) / split).glob(f"*{SUFFIX}"))


def _summary(name: str, shards: Sequence[Shard]) -> SplitSummary:
    tasks = shards[0].info.tasks if shards else ()
    return SplitSummary(
        name=name,
        patients=tuple(sorted({shard.info.patient for shard in shards})),
        recordings=sum(len(shard.recordings["name"]) for shard in shards),
        hours=sum(int(shard.segments["length"].sum()) / shard.info.sfreq for shard in shards) / 3600,
        windows=sum(len(shard) for shard in shards),
        tasks=tuple(_counts(task, shards) for task in tasks),
        megabytes=sum(shard.path.stat().st_size for shard in shards) / 1e6,
    )


def _counts(task: TaskSpec, shards: Sequence[Shard]) -> TaskCounts:
    having = [shard for shard in shards if task.name in shard.labels]
    weights = np.concatenate([shard.weights[task.name] for shard in having])
    labels = np.concatenate([shard.labels[task.name] for shard in having])[weights > 0]
    if task.kind == "multilabel":
        counts = tuple(int(n) for n in (labels > 0.5).sum(axis=0))
    else:
        counts = tuple(int((np.rint(labels) == i).sum()) for i in range(len(task.classes)))
    return TaskCounts(task, len(labels), counts)


def _task_text(counts: TaskCounts) -> str:
    if not counts.labelled:
        return f"{counts.task.name}: none"
    if counts.task.kind == "binary":
        return f"{counts.task.name}: {counts.positives} of {counts.labelled} ({counts.prevalence:.1%})"
    classes = " ".join(f"{name} {n}" for name, n in zip(counts.task.classes, counts.counts, strict=True))
    return f"{counts.task.name}: {classes}"
