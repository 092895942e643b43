"""Labels that cannot be learnt from or tested on are named; what chance deals is left alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from siamese_jax.cohort.balance import DEALS, imbalances, patient_counts
from siamese_jax.shards.schema import Shard, ShardInfo, _Signal
from siamese_jax.vocabulary import IED, SLEEP, TaskSpec

FINDINGS = TaskSpec("findings", "multilabel", ("norm", "af", "mi"))


def shard(
    task: TaskSpec, labels: Sequence[object], *, weights: Sequence[float] | None = None, patients: Sequence[str] = "P"
) -> Shard:
    """As much of a shard as counting needs; windows belong to the patients in turn."""
    values, n = np.asarray(labels, np.int32 if task.kind == "multiclass" else np.float32), len(labels)
    return Shard(
        path=Path("none.h5"),
        info=ShardInfo(100.0, ("Cz",), 200, 200, (task,)),
        start=np.arange(n) * 200,
        segment=np.zeros(n, np.int32),
        recording=(np.arange(n) % len(patients)).astype(np.int32),
        onset_seconds=np.arange(n) * 2.0,
        labels={task.name: values},
        weights={task.name: np.ones(n, np.float32) if weights is None else np.asarray(weights, np.float32)},
        segments={},
        recordings={"patient": np.array(list(patients))},
        events={},
        bad_intervals={},
        _signal=_Signal(Path("none.h5")),
    )


def lines(task: TaskSpec, **splits: Sequence[Shard]) -> list[str]:
    return imbalances({"train": (), "validation": (), "test": ()} | splits)


def binary(n: int, positives: int) -> Shard:
    return shard(IED, [1] * positives + [0] * (n - positives))


def test_counts_are_by_patient_and_of_labelled_windows_only() -> None:
    one = shard(SLEEP, [0, 1, 2, 2, 2, 0], weights=[1, 1, 1, 0, 0.5, 1], patients=["b", "a", "b"])  # a: windows 1 and 4
    two = shard(SLEEP, [4], patients="c")
    other = shard(IED, [1.0], patients="d")
    counts = patient_counts(SLEEP, [[one], [], [two, other]])
    assert counts.split.tolist() == [0, 0, 2]
    assert counts.labelled.tolist() == [2, 3, 1]
    assert counts.having.tolist() == [[0, 1, 1, 0, 0], [2, 0, 1, 0, 0], [0, 0, 0, 0, 1]]


def test_of_several_findings_each_counts() -> None:
    counts = patient_counts(FINDINGS, [[shard(FINDINGS, [[1, 0, 0], [0, 1, 1], [0, 0, 0]], patients="ab")]])
    assert counts.labelled.tolist() == [2, 1]
    assert counts.having.tolist() == [[1, 0, 0], [0, 1, 1]]


def test_balanced_labels_say_nothing() -> None:
    assert lines(IED, train=[binary(100, 10)] * 6, validation=[binary(100, 8)] * 2, test=[binary(100, 15)] * 2) == []
    nights = [shard(SLEEP, [0, 1, 2, 3, 4] * 20)]
    assert lines(SLEEP, train=nights * 3, test=nights) == []


def test_classes_that_a_split_lacks_are_named() -> None:
    found = lines(SLEEP, train=[shard(SLEEP, [0, 1, 2, 3, 4, 4])], test=[shard(SLEEP, [0, 1, 2, 2])])
    assert found == ["sleep: test has no window of N3 (train has 1), R (train has 2)"]
    found = lines(SLEEP, train=[shard(SLEEP, [0, 1, 2, 2])], test=[shard(SLEEP, [0, 0, 1, 2])])
    assert found == ["sleep: no window of N3, R in any split"]


def test_a_split_without_labels_is_named_and_a_task_that_nobody_labelled_is_not() -> None:
    unseen = shard(IED, [0] * 9, weights=[0] * 9)
    assert lines(IED, train=[binary(20, 2)], test=[unseen]) == [
        "ied: test has no labelled window, train has 20",
    ]
    assert lines(IED, train=[unseen], test=[unseen]) == []
    assert imbalances({"train": [], "test": []}) == []


def test_rare_classes_are_told_with_their_ratio() -> None:
    assert lines(IED, train=[binary(480, 2)], test=[binary(480, 2)]) == [
        "ied: rare among 960 labelled windows: ied 1 : 240"
    ]
    assert lines(IED, train=[binary(400, 4)], test=[binary(400, 4)]) == []  # one in a hundred
    rows = [[1, 0, 0]] * 996 + [[0, 1, 0]] * 3 + [[0, 1, 1]]
    (found,) = lines(FINDINGS, train=[shard(FINDINGS, rows)])
    assert found == "findings: rare among 1000 labelled windows: mi 1 : 1000, af 1 : 250"


def test_a_class_dealt_unevenly_is_named_with_its_shares() -> None:
    found = lines(IED, train=[binary(100, 40)] * 12, validation=[binary(100, 38)] * 4, test=[binary(100, 10)] * 8)
    assert found == [
        "ied: ied is 40 % of train, 38 % of validation, 10 % of test: more than chance among 24 patients",
    ]


@pytest.mark.parametrize(
    "splits",
    [
        {"train": [binary(100, 28)] * 12, "test": [binary(100, 10)] * 8},  # not three times
        {"train": [binary(100, 40)], "test": [binary(100, 10)]},  # two patients: it might be the other way round
        {"train": [binary(100, 5)] * 11 + [binary(100, 95)], "test": [binary(100, 4)] * 4},  # one with many events
    ],
)
def test_what_chance_may_deal_is_not_named(splits: Mapping[str, Sequence[Shard]]) -> None:
    assert lines(IED, **splits) == []


def test_patients_dealt_by_chance_are_hardly_ever_called_uneven() -> None:
    """Patients as they are, some with many events and most with few, in 60 random deals."""
    rng = np.random.default_rng(5)
    called, apart = 0, 0
    for _ in range(60):
        positives = np.minimum(100, rng.lognormal(1, 1.5, 20)).astype(int) + 1
        groups = [[binary(100, int(n)) for n in part] for part in np.split(positives, [12, 16])]
        shares = [np.mean([made.labels["ied"].mean() for made in group]) for group in groups]
        apart += max(shares) > 3 * min(shares)
        called += any("chance" in line for line in lines(IED, train=groups[0], validation=groups[1], test=groups[2]))
    assert apart > 15
    assert called <= 1
    assert DEALS >= 999
