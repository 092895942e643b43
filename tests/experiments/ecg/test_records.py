"""Classes of shards, folds of patients: every class distributed evenly, nobody in two parts."""

import numpy as np
import pytest

from data_tools.ptb_xl import PtbXl
from data_tools.wfdb import DEFAULT_DATA
from experiments.ecg.records import Classes, choose_classes, deal_folds, make_splits, read_records
from siamese_jax.cohort.prepare import prepare
from siamese_jax.config.presets import ECG
from tests.data_tools.test_ptb_xl import write
from tests.experiments.ecg.in_memory import made, small


def random_records(n=90, windows_each=2):
    rng = np.random.default_rng(5)
    return made(small(), rng.random((n, 4)) < [0.5, 0.2, 0.1, 0.06], windows_each=windows_each)


def test_every_class_is_dealt_out_evenly_and_no_patient_cut_in_two():
    records = random_records()
    fold = deal_folds(records, range(4), folds=5, seed=0)
    for patient in np.unique(records.patients):
        assert len(set(fold[records.patients == patient])) == 1
    has = records.labels[::2]
    for c in range(4):
        counts = np.bincount(fold[::2], weights=has[:, c], minlength=5)
        assert counts.max() - counts.min() <= (1 if c else 2), counts  # the most frequent one comes last
    sizes = np.bincount(fold[::2])
    assert sizes.max() - sizes.min() <= 3
    np.testing.assert_array_equal(fold, deal_folds(records, range(4), folds=5, seed=0))
    assert (fold != deal_folds(records, range(4), folds=5, seed=1)).any()


def test_each_patient_is_tested_once_a_repeat_and_on_one_side_of_each_split():
    records = random_records()
    splits = make_splits(records, Classes((0, 1), (2, 3)), folds=5, repeats=2)
    assert [(s.repeat, s.fold) for s in splits] == [(r, f) for r in range(2) for f in range(5)]
    for repeat in range(2):
        tested = np.concatenate([s.test for s in splits if s.repeat == repeat])
        np.testing.assert_array_equal(np.sort(tested), np.arange(len(records.patients)))
    for split in splits:
        sides = [set(records.patients[part]) for part in split[2:]]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 90


def test_without_folds_the_shards_decide():
    records = random_records()
    first, second = make_splits(records, Classes((0,), (3,)), folds=0, repeats=2)
    assert set(records.split[first.train]) == {"train"} and set(records.split[first.test]) == {"test"}
    assert (second.repeat, second.fold) == (1, 0)
    with pytest.raises(ValueError, match="must hold train, validation and test"):
        make_splits(records._replace(split=np.full(180, "train")), Classes((0,), (3,)), folds=0, repeats=1)
    with pytest.raises(ValueError, match="folds must be 3 or more"):
        make_splits(records, Classes((0,), (3,)), folds=2, repeats=1)


def test_rare_is_a_share_of_those_who_were_looked_at():
    labels, weights = np.zeros((40, 4)), np.ones((40, 4))
    labels[:20, 0] = labels[:5, 1] = labels[:5, 2] = labels[:2, 3] = 1
    weights[20:, 2] = 0  # nobody looked: 5 of 20, not of 40
    records = made(small(), labels, weights=weights)
    assert choose_classes(records, rare_share=0.2, min_positives=5) == Classes((0, 2), (1,))
    with pytest.raises(ValueError, match="3 have 5 positive windows or more; 0 of these are rare"):
        choose_classes(records, rare_share=0.1, min_positives=5)


def test_classes_of_a_multilabel_task_are_read_as_they_stand(tmp_path):
    digital = write(tmp_path / "in")
    prepare(PtbXl(tmp_path / "in", "all"), tmp_path / "out", DEFAULT_DATA, hop_seconds=10.0, seed=0)
    records = read_records(tmp_path / "out", ECG)
    assert records.classes[:3] == ("NDT", "NORM", "IMI") and records.labels.shape == (6, 9)
    by_patient = {p: row for p, row in zip(records.patients, records.labels, strict=True)}
    assert {records.classes[i] for i in np.flatnonzero(by_patient["PTB-XL-13243"])} == {"IMI", "1AVB", "SR"}
    assert records.weights[records.patients == "PTB-XL-17448"].max() == 0  # no statement at all
    mine = np.flatnonzero(records.patients == "PTB-XL-20372")[0]
    assert records.split[mine] == "validation"
    inside = records.eeg[mine, ECG.margin : ECG.margin + 1000]
    assert np.abs(inside - digital[3]).max() <= 0.3


def test_shards_of_another_length_are_refused(tmp_path):
    write(tmp_path / "in")
    prepare(PtbXl(tmp_path / "in"), tmp_path / "out", DEFAULT_DATA, hop_seconds=10.0, seed=0)
    with pytest.raises(ValueError, match="is not of the leads, the rate and the length"):
        read_records(tmp_path / "out", small())
    with pytest.raises(ValueError, match="no shards in"):
        read_records(tmp_path / "in", ECG)
