"""What a folder of prepared shards holds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped

from siamese_jax.recordings.sidecars import SPLITS
from siamese_jax.shards.schema import SUFFIX, Shard, open_shard
from siamese_jax.vocabulary import TaskSpec

COARSE_SHARE = 1e-3
"""A channel with more of its samples in coarse steps is named by `coarse_channels`."""
SHOWN_CLASSES = 6
"""Of a task with more classes, the table names the most and the least frequent."""


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
    shards: int
    """Files."""
    patients: tuple[str, ...]
    recordings: int
    hours: float
    windows: int
    tasks: tuple[TaskCounts, ...]
    megabytes: float


@dataclass(frozen=True)
class ShardSummary:
    """What a folder of shards holds, by split."""

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


def summarise(folder: str | Path) -> ShardSummary:
    """Counts of each split under `folder`, by the shards' tables (`check.check` reads all that is in them).

    Raises:
        ValueError: a shard that is not finished or of another schema, or no shard at all.
    """
    shards = {split: [open_shard(path) for path in shards_of_split(folder, split)] for split in SPLITS}
    if not any(shards.values()):
        raise ValueError(f"{folder}: no shards (*{SUFFIX}) in {', '.join(SPLITS)}")
    return summary_of(shards)


def coarse_channels(paths: Iterable[Path]) -> list[str]:
    """One line for each recording with channels that move so far that much of them is stored in coarse steps."""
    lines = []
    for shard in map(open_shard, paths):
        lengths = np.bincount(shard.segments["recording"], weights=shard.segments["length"])
        for name, row, length in zip(shard.recordings["name"], shard.recordings["coarse"], lengths, strict=True):
            channels = np.array(shard.info.ch_names)[row > COARSE_SHARE * length]
            if len(channels):
                named = ", ".join(channels)
                lines.append(f"{name}: jumps by tens of millivolts and is coarsely rounded there: {named}")
    return lines


def summary_of(splits: Mapping[str, Sequence[Shard]]) -> ShardSummary:
    """Counts of the shards of each split."""
    return ShardSummary(tuple(_summary(split, shards) for split, shards in splits.items()))


def shards_of_split(folder: str | Path, split: str) -> list[Path]:
    """The shards of a split, in order of their names."""
    return sorted((Path(folder) / split).glob(f"*{SUFFIX}"))


def _summary(name: str, shards: Sequence[Shard]) -> SplitSummary:
    tasks = shards[0].info.tasks if shards else ()
    return SplitSummary(
        name=name,
        shards=len(shards),
        patients=tuple(sorted({patient for shard in shards for patient in shard.patients})),
        recordings=sum(len(shard.recordings["name"]) for shard in shards),
        hours=sum(int(shard.segments["length"].sum()) / shard.info.sfreq for shard in shards) / 3600,
        windows=sum(len(shard) for shard in shards),
        tasks=tuple(_counts(task, shards) for task in tasks),
        megabytes=sum(shard.path.stat().st_size for shard in shards) / 1e6,
    )


def _counts(task: TaskSpec, shards: Sequence[Shard]) -> TaskCounts:
    having = [shard for shard in shards if task in shard.info.tasks]
    weights = np.concatenate([shard.weights[task.name] for shard in having])
    labels = np.concatenate([shard.labels[task.name] for shard in having])[weights > 0]
    return TaskCounts(task, len(labels), tuple(in_class(task, labels).sum(axis=0).tolist()))


def in_class(task: TaskSpec, labels: Shaped[np.ndarray, "window ..."]) -> Bool[np.ndarray, "window class"]:
    """Which windows are of which class, by their labels; of a multilabel task one may be of several."""
    return labels > 0.5 if task.kind == "multilabel" else np.rint(labels)[:, None] == np.arange(len(task.classes))


def _task_text(counts: TaskCounts) -> str:
    if not counts.labelled:
        return f"{counts.task.name}: none"
    if counts.task.kind == "binary":
        return f"{counts.task.name}: {counts.positives} of {counts.labelled} ({counts.prevalence:.1%})"
    if len(counts.counts) > SHOWN_CLASSES:
        most, least = int(np.argmax(counts.counts)), int(np.argmin(counts.counts))
        ends = (f"{word} {counts.task.classes[i]} {counts.counts[i]}" for word, i in (("most", most), ("least", least)))
        return f"{counts.task.name}: {len(counts.counts)} classes, {', '.join(ends)}"
    classes = " ".join(f"{name} {n}" for name, n in zip(counts.task.classes, counts.counts, strict=True))
    return f"{counts.task.name}: {classes}"
