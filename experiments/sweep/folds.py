"""Which patients learn, which fix thresholds, which are tested: the shards' own split, or repeated folds."""

import dataclasses
from collections.abc import Collection, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from siamese_jax.cohort.report import refuse_unfinished
from siamese_jax.shards.schema import Shard, open_shards
from siamese_jax.vocabulary import IED, SLEEP, STATE

SPLITS = ("train", "validation", "test")


class Fold(NamedTuple):
    """One split of the patients; nobody is in two of its parts."""

    number: int
    train: tuple[Shard, ...]
    validation: tuple[Shard, ...]
    test: tuple[Shard, ...]


def make_folds(shards: Path, *, n_folds: int = 1, repeats: int = 1, seed: int = 0) -> list[Fold]:
    """The folds of some shards.

    One fold is the split that `prepare` made. Of several, each tests the patients of one part and fixes thresholds on
    those of the next, whatever split their shards lie in; patients are assigned by their number of windows with an
    IED, so that each part has its share of the rich and of the free. Further repeats deal again.

    Args:
        shards: folder of train/, validation/ and test/.
        n_folds: 1, or 3 and more.
        repeats: how often the patients are assigned; 1 with a single fold.
        seed: of the dealing.

    Raises:
        ValueError: impossible numbers; fewer patients than parts; shards without labels for IEDs; a patient in two
            parts.
    """
    if n_folds < 1 or n_folds == 2 or repeats < 1 or (n_folds == 1 and repeats > 1):
        raise ValueError(f"--folds must be 1, or 3 and more with --repeats, given {n_folds} and {repeats}")
    refuse_unfinished(shards)
    split = {name: open_shards(shards / name) for name in SPLITS}
    unlabelled = [s.path for own in split.values() for s in own if IED.name not in s.labels]
    if unlabelled:
        raise ValueError(f"{unlabelled[0]} has no labels for task {IED.name!r}")
    if n_folds == 1:
        for one, other in combinations(SPLITS, 2):
            if both := patients_of(split[one]) & patients_of(split[other]):
                raise ValueError(f"{shards}: patient {min(both)!r} is in {one} and in {other}, and may be in one alone")
        return [Fold(0, *(tuple(split[name]) for name in SPLITS))]
    return grouped([s for own in split.values() for s in own], n_folds=n_folds, repeats=repeats, seed=seed)


def grouped(everybody: Sequence[Shard], *, n_folds: int, repeats: int, seed: int) -> list[Fold]:
    """Repeated folds of the patients of some shards; as `make_folds`, and its errors."""
    found = []
    for repeat in range(repeats):
        parts = deal(positives(everybody), n_folds, np.random.default_rng([seed, repeat]))
        for i in range(n_folds):
            tested, fixing = parts[i], parts[(i + 1) % n_folds]
            learning = {p for part in parts for p in part} - set(tested) - set(fixing)
            chosen = [restricted(everybody, some) for some in (learning, fixing, tested)]
            found.append(Fold(repeat * n_folds + i, *chosen))
    return found


def with_fewer(fold: Fold, seed: int, *, n_patients: int | None = None, n_marked: int | None = None) -> Fold:
    """The fold with fewer of its training patients, drawn by the seed, or with the IEDs of fewer of them.

    A smaller number draws some of the same: those with marked IEDs are among those who are there.

    Args:
        fold: whose training patients are meant.
        seed: of the draw.
        n_patients: how many are there at all; default all.
        n_marked: whose labels for IEDs are; the others keep the labels of other tasks. Default all.

    Raises:
        ValueError: the fold has fewer, or less than one is requested.
    """
    names = sorted(patients_of(fold.train))
    drawn = [names[i] for i in np.random.default_rng([seed, fold.number]).permutation(len(names))]
    there = drawn[: _checked("--train-patients", n_patients, len(drawn))]
    marked = there[: _checked("--ied-patients", n_marked, len(there))]
    return fold._replace(train=tuple(with_ieds_of(shard, marked) for shard in restricted(fold.train, there)))


def _checked(option: str, n: int | None, n_there: int) -> int:
    if n is None:
        return n_there
    if not 1 <= n <= n_there:
        raise ValueError(f"{option} must be 1 to {n_there}, as many as there are, given {n}")
    return n


def with_ieds_of(shard: Shard, patients: Collection[str]) -> Shard:
    """The shard with labels for IEDs in the windows of these patients alone."""
    own = np.isin(shard.patient(np.arange(len(shard))), list(patients))
    labels, weights = (np.where(own, tree[IED.name], 0).astype(np.float32) for tree in (shard.labels, shard.weights))
    labels, weights = shard.labels | {IED.name: labels}, shard.weights | {IED.name: weights}
    return dataclasses.replace(shard, labels=labels, weights=weights)


def sleep_task(shards: Sequence[Shard]) -> str | None:
    """The task of sleep in all of some shards: stages, or else wake and sleep alone; None if there is none."""
    held = set.intersection(*({task.name for task in shard.info.tasks} for shard in shards))
    return next((task.name for task in (SLEEP, STATE) if task.name in held), None)


def patients_of(shards: Sequence[Shard]) -> set[str]:
    """Whose windows some shards hold; of a shard that was taken apart, not whose recordings lie in its file."""
    return {patient for shard in shards for patient in shard.patient(np.arange(len(shard))).tolist()}


def marked_of(shards: Sequence[Shard]) -> set[str]:
    """Whose windows have labels for IEDs."""
    return {patient for s in shards for patient in s.patient(np.flatnonzero(s.weights[IED.name] > 0)).tolist()}


def positives(shards: Sequence[Shard]) -> dict[str, int]:
    """By patient: windows with an IED."""
    counts: dict[str, int] = {}
    for shard in shards:
        own = shard.patient(np.arange(len(shard)))
        for patient in shard.patients:
            has = (own == patient) & (shard.labels[IED.name] > 0) & (shard.weights[IED.name] > 0)
            counts[patient] = counts.get(patient, 0) + int(has.sum())
    return counts


def deal(counts: dict[str, int], n_parts: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Patients in as many parts, alike in their counts: the richest first, a round of all parts at a time.

    Raises:
        ValueError: fewer patients than parts.
    """
    if len(counts) < n_parts:
        raise ValueError(f"{n_parts} folds need as many patients, the shards hold {len(counts)}")
    names = sorted(counts)
    shuffled = [names[i] for i in rng.permutation(len(names))]  # chance decides among equals
    ordered = sorted(shuffled, key=lambda name: -counts[name])
    parts: list[list[str]] = [[] for _ in range(n_parts)]
    for first in range(0, len(ordered), n_parts):
        row = ordered[first : first + n_parts]
        for part, name in zip(rng.permutation(n_parts)[: len(row)], row, strict=True):
            parts[part].append(name)
    return [tuple(sorted(part)) for part in parts]


def restricted(shards: Sequence[Shard], patients: Collection[str]) -> tuple[Shard, ...]:
    """What of some shards is these patients'; a shard with nothing of theirs is left out."""
    kept = []
    for shard in shards:
        if set(shard.patients) <= set(patients):
            kept.append(shard)
        elif set(shard.patients) & set(patients):
            kept.append(shard.of_patients(patients))
    return tuple(kept)
