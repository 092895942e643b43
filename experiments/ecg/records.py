"""Electrocardiograms in memory with a label a class; which classes are rare; who trains, chooses and tests."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Shaped

from siamese_jax.config.experiment import Config
from siamese_jax.identity import Origin, origin_of
from siamese_jax.recordings.sidecars import SPLITS
from siamese_jax.shards.schema import Shard, open_shards


class Records(NamedTuple):
    """Windows of whatever patients, one in a place.

    Attributes:
        patients: whose each window is.
        eeg: microvolts with margins, as a `Batch` has them.
        present: which leads are there.
        classes: names.
        labels: 1 where a class is true; 0 where it is not, or nobody looked.
        weights: 0 where nobody looked.
        split: of the shards: `train`, `validation` or `test`.
        sources: where the recordings come from, in words.
        digest: of the shards' fingerprints.
        origin: whose they are, without a name.
    """

    patients: Shaped[np.ndarray, "window"]
    eeg: Float32[np.ndarray, "window time chan"]
    present: Bool[np.ndarray, "window chan"]
    classes: tuple[str, ...]
    labels: Float32[np.ndarray, "window class"]
    weights: Float32[np.ndarray, "window class"]
    split: Shaped[np.ndarray, "window"]
    sources: tuple[str, ...]
    digest: str
    origin: Origin = Origin("")


class Classes(NamedTuple):
    """Places of the classes that an experiment is about."""

    common: tuple[int, ...]
    rare: tuple[int, ...]

    @property
    def every(self) -> tuple[int, ...]:
        """Common ones first."""
        return self.common + self.rare


class Split(NamedTuple):
    """Windows of three groups of patients. `fold` counts within a repeat."""

    repeat: int
    fold: int
    train: Int[np.ndarray, "_train"]
    validation: Int[np.ndarray, "_validation"]
    test: Int[np.ndarray, "_test"]


def read_records(folder: Path, config: Config) -> Records:
    """All windows of the shards in a folder's splits.

    A binary task is a class, and so is each class of a multilabel one.

    Raises:
        ValueError: no shards, or shards of other leads, another rate, another length or other tasks.
    """
    found = [
        (split, shard)
        for split in SPLITS
        if any((folder / split).glob("*.h5"))
        for shard in open_shards(folder / split)
    ]
    if not found:
        raise ValueError(f"{folder}: no shards in {', '.join(SPLITS)}; a reader of data_tools makes them")
    for _, shard in found:
        given = (shard.info.ch_names, shard.info.sfreq, shard.info.window)
        if given != (config.data.ch_names, config.data.sfreq, config.n_times):
            raise ValueError(f"{shard.path} is not of the leads, the rate and the length that the experiment reads")
        if shard.info.tasks != found[0][1].info.tasks:
            raise ValueError(f"{shard.path} has other tasks than {found[0][1].path}")
    labelled = [_labels(shard) for _, shard in found]
    windows = [(shard, i) for _, shard in found for i in range(len(shard))]
    return Records(
        patients=np.concatenate([shard.patient(np.arange(len(shard))) for _, shard in found]),
        eeg=np.stack([shard.read_window(i, config.margin) for shard, i in windows]),
        present=np.stack([shard.present(i) for shard, i in windows]),
        classes=labelled[0][0],
        labels=np.concatenate([labels for _, labels, _ in labelled]),
        weights=np.concatenate([weights for _, _, weights in labelled]),
        split=np.concatenate([np.full(len(shard), split) for split, shard in found]),
        sources=tuple(sorted({shard.info.source for _, shard in found})),
        digest=hashlib.sha256("".join(shard.info.fingerprint for _, shard in found).encode()).hexdigest(),
        origin=origin_of([shard for _, shard in found]),
    )


def choose_classes(records: Records, *, rare_share: float, min_positives: int) -> Classes:
    """Classes with enough positive windows; those that are true of a smaller share of their windows are rare.

    Raises:
        ValueError: none is rare, or none common.
    """
    positives, labelled = (records.labels * records.weights).sum(0), records.weights.sum(0)
    enough = positives >= min_positives
    rare = positives < rare_share * labelled
    chosen = Classes(*(tuple(np.flatnonzero(enough & which).tolist()) for which in (~rare, rare)))
    if not chosen.common or not chosen.rare:
        raise ValueError(
            f"of {len(records.classes)} classes, {int(enough.sum())} have {min_positives} positive windows or more;"
            f" {len(chosen.rare)} of these are rare (below {rare_share:g}), {len(chosen.common)} not: both are needed"
        )
    return chosen


def make_splits(records: Records, classes: Classes, *, folds: int, repeats: int) -> tuple[Split, ...]:
    """Who is trained, chosen and tested on, in every fold of every repeat.

    Each repeat deals the patients out anew. Each fold is tested once, the next one chooses thresholds, the others
    train. With no folds: the shards' own splits, as many times.

    Raises:
        ValueError: fewer than three folds, or an empty one.
    """
    if folds == 0:
        own = [np.flatnonzero(records.split == name) for name in SPLITS]
        if not all(map(len, own)):
            raise ValueError("the shards' own splits must hold train, validation and test to be used (--folds 0)")
        return tuple(Split(repeat, 0, *own) for repeat in range(repeats))
    if folds < 3:
        raise ValueError(f"folds must be 3 or more (training, thresholds, testing) or 0, given {folds}")
    found = []
    for repeat in range(repeats):
        fold_of = deal_folds(records, classes.every, folds=folds, seed=repeat)
        for fold in range(folds):
            test, validation = fold_of == fold, fold_of == (fold + 1) % folds
            parts = [np.flatnonzero(part) for part in (~test & ~validation, validation, test)]
            if not all(map(len, parts)):
                raise ValueError(f"{len(set(records.patients))} patients are too few for {folds} folds")
            found.append(Split(repeat, fold, *parts))
    return tuple(found)


def deal_folds(records: Records, classes: Sequence[int], *, folds: int, seed: int) -> Int[np.ndarray, "window"]:
    """The fold of each window: a patient's windows in one, every class distributed as evenly as possible.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): the class with the fewest patients left comes
    first, and each of its patients goes where most of that class are still wanted, then where most patients are.
    """
    rng = np.random.default_rng(seed)
    names, patient = np.unique(records.patients, return_inverse=True)
    columns = list(classes)
    has = np.zeros((len(names), len(columns)))
    np.maximum.at(has, patient, (records.labels * records.weights)[:, columns])
    wanted, room = np.tile(has.sum(0) / folds, (folds, 1)), np.full(folds, len(names) / folds)
    fold_of, order = np.full(len(names), -1), rng.permutation(len(names))

    def put(who: int, where: int) -> None:
        fold_of[who] = where
        wanted[where] -= has[who]
        room[where] -= 1

    while (left := (has * (fold_of < 0)[:, None]).sum(0)).any():
        column = int(np.where(left > 0, left, np.inf).argmin())
        for who in order[(fold_of[order] < 0) & (has[order, column] > 0)]:
            put(who, max(range(folds), key=lambda f: (wanted[f, column], room[f], rng.random())))
    for who in order[fold_of[order] < 0]:
        put(who, int(room.argmax()))
    return fold_of[patient]


def _labels(shard: Shard) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Classes, and each window's labels and weights."""
    names, labels, weights = [], [], []
    for task in shard.info.tasks:
        own = shard.labels[task.name]
        if task.kind == "multiclass":
            raise ValueError(f"{shard.path}: task {task.name!r} is {task.kind}; binary and multilabel ones are classes")
        names += [task.name] if task.kind == "binary" else task.classes
        labels.append(own.reshape(len(shard), -1))
        weights.append(np.repeat(shard.weights[task.name][:, None], labels[-1].shape[1], 1))
    return tuple(names), np.concatenate(labels, 1).astype(np.float32), np.concatenate(weights, 1).astype(np.float32)
