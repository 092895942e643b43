"""Whether the labels of a cohort can be learnt from and tested on: classes that are missing, rare or unevenly dealt."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from siamese_jax.shards.schema import Shard
from siamese_jax.vocabulary import TaskSpec

RARE_SHARE = 0.01
"""A class that fewer of the labelled windows have is rare."""
APART = 3.0
"""A class whose share differs between two splits by a greater factor may be dealt unevenly ..."""
DEALS = 999
"""... and is, if it differs by less in each of so many random deals of the patients to the splits: p = 0.001."""


class PatientCounts(NamedTuple):
    """One task's labelled windows by patient."""

    split: Int64[np.ndarray, "patient"]
    """Number of the patient's split."""
    labelled: Int64[np.ndarray, "patient"]
    having: Int64[np.ndarray, "patient class"]
    """Windows of each class."""


def imbalances(splits: Mapping[str, Sequence[Shard]]) -> list[str]:
    """One line for each thing that is wrong with the labels of the shards of each split.

    - A split has no labelled window, or none of a class, that another split has.
    - A class has no window at all, or fewer than `RARE_SHARE` of all.
    - The share of a class is `APART` in two splits, and more so than in any of `DEALS` random deals. Patients are
      dealt, not windows: a patient with many events is no surprise, wherever he is.
    """
    shards = [shard for group in splits.values() for shard in group]
    if not shards:
        return []
    lines = []
    for task in shards[0].info.tasks:
        counts = patient_counts(task, list(splits.values()))
        if counts.labelled.any():
            lines += [f"{task.name}: {line}" for line in _missing(task, list(splits), counts)]
            lines += [f"{task.name}: {line}" for line in _rare(task, counts)]
            lines += [f"{task.name}: {line}" for line in _apart(task, list(splits), counts)]
    return lines


def patient_counts(task: TaskSpec, splits: Sequence[Sequence[Shard]]) -> PatientCounts:
    """Count the windows of weight above 0; shards without the task hold none."""
    split, labelled, having = [], [], []
    for number, shards in enumerate(splits):
        for shard in shards:
            if task not in shard.info.tasks:
                continue
            names, patient = np.unique(shard.recordings["patient"], return_inverse=True)
            used = shard.weights[task.name] > 0
            patient = patient[shard.recording[used]]
            classes = _classes(task, shard.labels[task.name][used])
            split += [number] * len(names)
            labelled.append(np.bincount(patient, minlength=len(names)))
            having.append(np.stack([np.bincount(patient[row], minlength=len(names)) for row in classes.T], axis=1))
    none = np.zeros((0, len(task.classes)), np.int64)
    return PatientCounts(
        np.array(split, np.int64), np.concatenate([none[:, 0], *labelled]), np.concatenate([none, *having])
    )


def _classes(task: TaskSpec, labels: np.ndarray) -> Bool[np.ndarray, "window class"]:
    if task.kind == "multilabel":
        return labels > 0.5
    return np.rint(labels)[:, None] == np.arange(len(task.classes))


def _missing(task: TaskSpec, names: Sequence[str], counts: PatientCounts) -> list[str]:
    lines = []
    labelled = np.bincount(counts.split, counts.labelled, len(names)).astype(int)
    having = np.array([counts.having[counts.split == i].sum(axis=0) for i in range(len(names))])
    for i in np.unique(counts.split).tolist():
        if not labelled[i]:
            lines.append(f"{names[i]} has no labelled window, {names[int(labelled.argmax())]} has {labelled.max()}")
            continue
        gone = [
            f"{task.classes[c]} ({names[int(having[:, c].argmax())]} has {having[:, c].max()})"
            for c in np.flatnonzero((having[i] == 0) & having.any(axis=0)).tolist()
        ]
        lines += [f"{names[i]} has no window of {', '.join(gone)}"] if gone else []
    return lines


def _rare(task: TaskSpec, counts: PatientCounts) -> list[str]:
    total, having = int(counts.labelled.sum()), counts.having.sum(axis=0)
    absent = [task.classes[c] for c in np.flatnonzero(having == 0).tolist()]
    lines = [f"no window of {', '.join(absent)} in any split"] if absent else []
    rare = np.flatnonzero((having > 0) & (having < RARE_SHARE * total))
    if len(rare):
        ratios = [
            f"{task.classes[c]} 1 : {total / having[c]:.0f}" for c in rare[np.argsort(having[rare], kind="stable")]
        ]
        lines.append(f"rare among {total} labelled windows: {', '.join(ratios)}")
    return lines


def _apart(task: TaskSpec, names: Sequence[str], counts: PatientCounts) -> list[str]:
    seen = counts.labelled > 0
    split, labelled = counts.split[seen], counts.labelled[seen]
    lines = []
    for c, name in enumerate(task.classes):
        having = counts.having[seen, c]
        shares = _shares(split, labelled, having)
        factor = _factor(shares)
        # A split without the class was named before.
        if not APART < factor < np.inf:
            continue
        rng = np.random.default_rng(0)
        if all(_factor(_shares(rng.permutation(split), labelled, having)) < factor for _ in range(DEALS)):
            present = [names[i] for i in np.unique(split)]
            said = ", ".join(f"{100 * share:.2g} % of {where}" for where, share in zip(present, shares, strict=True))
            lines.append(f"{name} is {said}: more than chance among {len(split)} patients")
    return lines


def _shares(
    split: Int64[np.ndarray, "patient"], labelled: Int64[np.ndarray, "patient"], having: Int64[np.ndarray, "patient"]
) -> Float64[np.ndarray, "split"]:
    """What share of each split's labelled windows has a class; splits without patients are left out."""
    total = np.bincount(split, labelled)
    return np.bincount(split, having)[total > 0] / total[total > 0]


def _factor(shares: Float64[np.ndarray, "split"]) -> float:
    return float(shares.max() / shares.min()) if shares.min() else np.inf
