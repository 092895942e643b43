"""What a network learns from: the same windows in every arm, no label that nobody gave, and nobody it is tested on."""

import jax
import numpy as np
import pytest

from experiments.ecg import networks
from experiments.ecg.networks import ALL, ARMS, RARE, SINGLE, Network, fit, predict, prediction_job
from experiments.ecg.records import Classes, make_splits
from experiments.runner import Runner
from siamese_jax.evaluation.metrics import auroc
from tests.experiments.ecg.in_memory import made, small

CLASSES = Classes((0,), (1, 2))


@pytest.fixture
def records():
    return made(small(), np.random.default_rng(1).random((30, 3)) < [0.5, 0.3, 0.3])


def test_each_rare_class_has_a_network_of_its_own():
    assert networks.networks(CLASSES) == (
        Network(ALL, (0, 1, 2)),
        Network(RARE, (1, 2)),
        Network(SINGLE, (1,)),
        Network(SINGLE, (2,)),
    )
    assert {n.arm for n in networks.networks(CLASSES)} == set(ARMS)


def test_every_arm_sees_the_same_windows_in_the_same_order(records):
    windows = np.arange(5, 28)
    seen = {}
    for classes in ((0, 1, 2), (2,)):
        names = tuple(f"class{i}" for i in range(len(classes)))
        seen[classes] = [networks._batch(small(), names, records, windows, classes, i, seed=7) for i in range(4)]
        for batch in seen[classes]:
            for name, c in zip(names, classes, strict=True):
                rows = [np.flatnonzero((records.eeg == x).all((1, 2)))[0] for x in batch.eeg]
                np.testing.assert_array_equal(batch.labels[name], records.labels[rows, c])
    for one, other in zip(*seen.values(), strict=True):
        np.testing.assert_array_equal(one.eeg, other.eeg)
        np.testing.assert_array_equal(one.sample, other.sample)
    drawn = np.concatenate([b.eeg[:, 0, 0] for b in seen[2,]])[: len(windows)]
    assert set(drawn) == set(records.eeg[windows, 0, 0])  # a pass takes each window once, and no other


def test_a_label_that_nobody_gave_changes_nothing(records):
    config = small(steps=3, warmup_steps=1)
    weights = records.weights.copy()
    weights[10:20, 1] = 0
    wild = records.labels.copy()
    wild[10:20, 1] = 1 - wild[10:20, 1]
    windows = np.arange(30)
    found = [
        fit(config, ("class0",), records._replace(weights=w, labels=labels), windows, (1,), seed=0)
        for labels, w in ((records.labels, weights), (wild, weights), (wild, records.weights))
    ]
    for one, other in zip(*map(jax.tree.leaves, found[:2]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, found[1:]), strict=True))


def test_predictions_are_made_again_when_what_decides_them_changes(records, tmp_path):
    config, network = small(steps=1, warmup_steps=0), Network(SINGLE, (1,))
    split = make_splits(records, CLASSES, folds=3, repeats=1)[0]
    job = prediction_job(config, records, split, network)
    first = Runner(tmp_path, say=lambda text: None).do(job).answer["probability"]
    assert first.shape == (len(split.validation) + len(split.test), 1)
    others, own = records.labels.copy(), records.labels.copy()
    others[0, 2] = 1 - others[0, 2]  # of a class that it has no head for
    own[0, 1] = 1 - own[0, 1]
    assert prediction_job(config, records._replace(labels=others), split, network).key == job.key
    changed = [
        prediction_job(config, records._replace(labels=own), split, network),
        prediction_job(small(steps=1, warmup_steps=0, learning_rate=1e-3), records, split, network),
        prediction_job(config, records._replace(digest="other"), split, network),
        prediction_job(config, records, split._replace(train=split.train[1:]), network),
        prediction_job(config, records, split._replace(repeat=1), network),
        prediction_job(config, records, split, Network(SINGLE, (2,))),
    ]
    assert len({job.key, *(one.key for one in changed)}) == 7


def test_a_label_that_hangs_on_the_patient_alone_scores_at_chance():
    """Each patient's windows are alike, so that a patient on two sides would give the label away."""
    labels = np.random.default_rng(2).permutation(np.resize([0, 1], 60))[:, None]
    records = made(small(), np.concatenate([labels, labels], 1), windows_each=3)
    probability = np.full(len(records.patients), np.nan)
    for split in make_splits(records, Classes((0,), (1,)), folds=3, repeats=1):
        variables = fit(small(), ("class0",), records, split.train, (0,), seed=0)
        probability[split.test] = predict(small(), ("class0",), variables, records, split.test)[:, 0]
        known = predict(small(), ("class0",), variables, records, split.train)[:, 0]
        assert auroc(known, records.labels[split.train, 0]) > 0.9  # it was learnt
    assert 0.3 < auroc(probability, records.labels[:, 0]) < 0.7
