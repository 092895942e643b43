import shutil

import numpy as np
import pytest

from experiments.sweep.folds import deal, grouped, make_folds, marked_of, positives, restricted, with_fewer
from siamese_jax.shards.schema import open_shards
from tests.simulated_cohort import tiny_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return tiny_shards(tmp_path_factory.mktemp("cohort"), patients=9)


def patients(part):
    return {p for shard in part for p in set(shard.patient(np.arange(len(shard))).tolist())}


def everybody(shards):
    return [s for name in ("train", "validation", "test") for s in open_shards(shards / name)]


def test_one_fold_is_the_split_that_the_shards_have(shards):
    (fold,) = make_folds(shards)
    for name in ("train", "validation", "test"):
        assert [s.path for s in getattr(fold, name)] == [s.path for s in open_shards(shards / name)]


def test_nobody_is_in_two_parts_and_everybody_is_tested_once_a_repeat(shards):
    folds = make_folds(shards, n_folds=3, repeats=2)
    everyone = patients(everybody(shards))
    assert [fold.number for fold in folds] == list(range(6))
    for fold in folds:
        train, validation, test = map(patients, (fold.train, fold.validation, fold.test))
        assert train | validation | test == everyone
        assert len(train) + len(validation) + len(test) == len(everyone)
        assert test
        assert validation
    for repeat in (folds[:3], folds[3:]):
        assert sorted(p for fold in repeat for p in patients(fold.test)) == sorted(everyone)
    assert [patients(f.test) for f in folds[:3]] != [patients(f.test) for f in folds[3:]]


def test_parts_are_alike_in_positives():
    counts = {f"p{i}": n for i, n in enumerate([500, 400, 300, 20, 10, 5, 0, 0, 0, 0, 0, 0])}
    for seed in range(20):
        parts = deal(counts, 3, np.random.default_rng(seed))
        assert [len(part) for part in parts] == [4, 4, 4]
        for rich in (("p0", "p1", "p2"), ("p3", "p4", "p5")):
            assert all(len(set(part) & set(rich)) == 1 for part in parts)
    assert len({deal(counts, 3, np.random.default_rng(seed))[0] for seed in range(20)}) > 5


def test_a_shard_of_several_patients_is_taken_apart(shards):
    one = everybody(shards)[0]
    half = len(one) // 2
    two = one.recordings | {name: np.repeat(column, 2, axis=0) for name, column in one.recordings.items()}
    two["patient"] = np.array(["a", "b"], object)
    import dataclasses

    both = dataclasses.replace(
        one, recordings=two, recording=np.repeat([0, 1], [half, len(one) - half]).astype(np.int32)
    )
    (kept,) = restricted([both], ["b"])
    assert patients([kept]) == {"b"}
    assert len(kept) == len(one) - half
    np.testing.assert_array_equal(kept.start, one.start[half:])
    np.testing.assert_array_equal(kept.labels["ied"], one.labels["ied"][half:])
    np.testing.assert_array_equal(kept.read_window(0, 5), one.read_window(half, 5))
    assert restricted([both], ["c"]) == ()
    assert restricted([both], ["a", "b", "c"]) == (both,)


def test_positives_count_windows_that_have_a_label(shards):
    import dataclasses

    one = everybody(shards)[0]
    labels, weights = np.zeros(len(one), np.float32), np.ones(len(one), np.float32)
    labels[:5], weights[:2] = 1, 0
    changed = dataclasses.replace(one, labels=one.labels | {"ied": labels}, weights=one.weights | {"ied": weights})
    assert positives([changed]) == {one.patients[0]: 3}


def test_a_patient_in_two_parts_is_refused(shards, tmp_path):
    shutil.copytree(shards, tmp_path / "shards")
    moved = sorted((tmp_path / "shards/train").glob("*.h5"))[0]
    shutil.copy(moved, tmp_path / "shards/test" / moved.name)
    name = open_shards(moved.parent)[0].patients[0]
    with pytest.raises(ValueError, match=f"patient '{name}' is in train and in test, and may be in one alone"):
        make_folds(tmp_path / "shards")


@pytest.mark.parametrize(("n_folds", "repeats"), [(0, 1), (2, 1), (1, 2), (3, 0), (-3, 1)])
def test_impossible_numbers_are_refused(shards, n_folds, repeats):
    with pytest.raises(ValueError, match="--folds must be"):
        make_folds(shards, n_folds=n_folds, repeats=repeats)


def test_more_folds_than_patients_are_refused(shards):
    with pytest.raises(ValueError, match="the shards hold 9"):
        grouped(everybody(shards), n_folds=10, repeats=1, seed=0)


def test_fewer_patients_are_drawn_anew_by_each_seed_and_the_tested_ones_stay(shards):
    (fold,) = grouped(everybody(shards), n_folds=9, repeats=1, seed=0)[:1]
    everyone, drawn = patients(fold.train), {}
    for seed in range(20):
        fewer = with_fewer(fold, seed, n_patients=3)
        drawn[seed] = patients(fewer.train)
        assert drawn[seed] < everyone
        assert len(drawn[seed]) == 3
        assert fewer._replace(train=()) == fold._replace(train=())
        assert patients(with_fewer(fold, seed, n_patients=2).train) < drawn[seed]  # a curve over n adds, never changes
    assert len({frozenset(names) for names in drawn.values()}) > 5
    assert set.union(*drawn.values()) == everyone
    assert patients(with_fewer(fold, 0, n_patients=len(everyone)).train) == everyone


@pytest.mark.parametrize("n", [0, -1, 8])
def test_more_or_fewer_training_patients_than_can_be_are_refused(shards, n):
    fold = grouped(everybody(shards), n_folds=9, repeats=1, seed=0)[0]
    with pytest.raises(ValueError, match=f"--train-patients must be 1 to 7, as many as there are, given {n}"):
        with_fewer(fold, 0, n_patients=n)
    with pytest.raises(ValueError, match=f"--ied-patients must be 1 to 7, as many as there are, given {n}"):
        with_fewer(fold, 0, n_marked=n)


def test_the_ieds_of_fewer_patients_leave_everybody_with_the_labels_of_other_tasks(shards):
    (fold,) = grouped(everybody(shards), n_folds=9, repeats=1, seed=0)[:1]
    for seed in range(5):
        few = with_fewer(fold, seed, n_patients=5, n_marked=2)
        assert patients(few.train) == patients(with_fewer(fold, seed, n_patients=5).train)
        assert marked_of(few.train) == patients(with_fewer(fold, seed, n_patients=2).train)  # the same as alone
        assert few._replace(train=()) == fold._replace(train=())
        before = {s.path: s for s in restricted(fold.train, patients(few.train))}
        for shard in few.train:
            whole, own = before[shard.path], np.isin(shard.patient(np.arange(len(shard))), list(marked_of(few.train)))
            np.testing.assert_array_equal(shard.labels["ied"], np.where(own, whole.labels["ied"], 0))
            np.testing.assert_array_equal(shard.weights["ied"], np.where(own, whole.weights["ied"], 0))
            np.testing.assert_array_equal(shard.weights["sleep"], whole.weights["sleep"])
            np.testing.assert_array_equal(shard.labels["sleep"], whole.labels["sleep"])
            assert shard.labels["ied"].dtype == whole.labels["ied"].dtype
    with pytest.raises(ValueError, match="--ied-patients must be 1 to 5, as many as there are, given 6"):
        with_fewer(fold, 0, n_patients=5, n_marked=6)
