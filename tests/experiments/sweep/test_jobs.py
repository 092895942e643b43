"""A sweep trains what it says on whom it says, and scores every window once."""

import dataclasses
from types import SimpleNamespace

import chex
import numpy as np
import pytest

from experiments import training
from experiments.runner import Runner
from experiments.sweep import jobs
from experiments.sweep.command import Options, with_known_sleep
from experiments.sweep.folds import Fold, grouped, marked_of, patients_of, sleep_task, with_fewer
from experiments.sweep.jobs import recalibrated, shuffled_states, sweep, training_job
from experiments.sweep.measures import within
from experiments.sweep.predictions import ASLEEP, Predictions
from experiments.sweep.runs import Run, changed, with_sleep_task
from siamese_jax.checkpoints import load
from siamese_jax.evaluation.metrics import auroc
from siamese_jax.shards.schema import open_shards
from siamese_jax.training.loop import train
from siamese_jax.training.parallel import choose_devices
from siamese_jax.vocabulary import SLEEP
from tests.simulated_cohort import tiny_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tiny_shards(tmp_path_factory.mktemp("cohort"), patients=12)
    return [s for name in ("train", "validation", "test") for s in open_shards(folder / name)]


@pytest.fixture
def fold(shards):
    return grouped(shards, n_folds=3, repeats=1, seed=0)[0]


@pytest.fixture
def run(tiny):
    return Run("tiny", "Does it run?", tiny)


def silent(out):
    return Runner(out, say=lambda text: None)


def quietly(*runs, fold, out, seeds=1, progress=lambda *_: None):
    return sweep(runs, [fold], seeds, silent(out), progress=progress)


def predicted(log_odds, label, stage):
    n = len(label)
    onset = np.arange(n, dtype=float)
    return Predictions(np.array(["p"] * n), onset, np.array(label), np.array(stage, np.int32), log_odds)


def key(run, fold, seed):
    return training_job(run, fold, seed, progress=lambda *_: None).key


def test_a_sweep_that_was_killed_goes_on_and_ends_as_if_nothing_had_been(run, fold, tmp_path):
    whole = quietly(run, fold=fold, out=tmp_path / "whole")

    def kill(what, done, total):
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quietly(run, fold=fold, out=tmp_path / "killed", progress=kill)
    seen = []
    again = quietly(run, fold=fold, out=tmp_path / "killed", progress=lambda what, done, total: seen.append(done))
    assert seen[0] == 5  # a checkpoint was saved at step 4
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one.test.log_odds, other.test.log_odds)


def test_a_sweep_over_fewer_patients_trains_on_those_its_seed_drew_and_on_nobody_else(run, fold, tmp_path, monkeypatch):
    taught = []

    def learn(config, shards, workdir, **options):
        taught.append((config.training.seed, patients_of(shards), marked_of(shards)))
        return SimpleNamespace(variables={"params": np.zeros(3)})

    def predictions(network, shards):
        return predicted(np.zeros(4), np.arange(4) < 2, np.zeros(4))

    monkeypatch.setattr(jobs, "trained", learn)
    monkeypatch.setattr(jobs, "predictions", predictions)
    some = [patients_of(with_fewer(fold, seed, n_patients=3).train) for seed in (0, 1)]
    fewer, marked = Options(train_patients=3).drawn, Options(ied_patients=3).drawn
    sweep([run], [fold], 2, silent(tmp_path), drawn=fewer, progress=lambda *_: None)
    assert taught == [(0, some[0], some[0]), (1, some[1], some[1])]
    # Each of these is another job, and trained.
    sweep([run], [fold], 1, silent(tmp_path), drawn=marked, progress=lambda *_: None)
    (everybody,) = quietly(run, fold=fold, out=tmp_path)
    assert taught[2:] == [(0, patients_of(fold.train), some[0]), (0, *[patients_of(fold.train)] * 2)]
    assert everybody.n_parameters == 3


def test_a_run_may_start_from_what_another_task_taught_and_keep_it(run, fold, tmp_path, monkeypatch):
    asleep = changed(run.config, {"model": {"fusion": "none"}}, tasks=("sleep",))
    frozen = dataclasses.replace(run, config=dataclasses.replace(run.config, freeze=("sleep",)), pretrained=asleep)
    taught = []

    def learn(config, *args, **kwargs):
        done = train(config, *args, **kwargs)
        taught.append(load(args[2] / "checkpoint").variables["params"])
        return done

    monkeypatch.setattr(training, "train", learn)
    quietly(frozen, fold=fold, out=tmp_path)
    first, then = taught
    for name, layer in first.items():
        if name.startswith("sleep"):
            chex.assert_trees_all_close(layer, then[name], rtol=1e-6)  # averaging equal values rounds
    assert "head_ied" not in first
    assert not np.array_equal(
        first["shared_0"]["Conv_0"]["Conv_0"]["kernel"], then["shared_0"]["Conv_0"]["Conv_0"]["kernel"]
    )


def test_every_window_with_a_label_is_scored_once_beside_what_is_known_of_it(run, fold, tmp_path):
    (found,) = quietly(run, fold=fold, out=tmp_path)
    for part, scored in (("validation", found.validation), ("test", found.test)):
        own = getattr(fold, part)
        n = sum(int((s.weights["ied"] > 0).sum()) for s in own)
        assert (
            len(scored.label) == len(set(zip(scored.patient.tolist(), scored.onset_seconds.tolist(), strict=True))) == n
        )
        assert scored.label.sum() == sum(int(s.labels["ied"][s.weights["ied"] > 0].sum()) for s in own)
        stages = np.concatenate(
            [np.where(s.weights["sleep"] > 0, s.labels["sleep"], -1)[s.weights["ied"] > 0] for s in own]
        )
        np.testing.assert_array_equal(scored.stage, stages)


def test_the_key_changes_with_all_that_decides_the_figures(run, fold):
    longer = dataclasses.replace(run, config=changed(run.config, {"training": {"steps": 9}}))
    renamed = dataclasses.replace(run, name="other", question="?")
    other_bytes = dataclasses.replace(fold.test[0], info=dataclasses.replace(fold.test[0].info, fingerprint="x"))
    others = [
        (run, fold, 1),
        (longer, fold, 0),
        (dataclasses.replace(run, pretrained=run.config), fold, 0),
        (dataclasses.replace(run, shuffles_states=True), fold, 0),
        (run, fold._replace(train=fold.train[1:]), 0),
        (run, fold._replace(train=fold.validation, validation=fold.train), 0),
        (run, with_fewer(fold, 0, n_marked=3), 0),
        (run, fold._replace(test=(other_bytes, *fold.test[1:])), 0),
    ]
    keys = [key(*case) for case in ((run, fold, 0), *others)]
    assert len(set(keys)) == len(keys)
    assert key(renamed, fold._replace(number=7), 0) == keys[0]


def test_the_files_that_decide_a_prediction_are_named():
    """Those that this file imports, of which a change must train anew, and none that only logs or commands."""
    assert {"siamese_jax/models", "siamese_jax/training/losses.py", "experiments/sweep/jobs.py"} <= set(jobs.CODE)
    assert "siamese_jax/training/log.py" not in jobs.CODE


def test_shuffled_states_stay_with_their_patient_and_touch_nothing_else(shards):
    shard = shards[0]
    labels, weights = shard.labels["sleep"].copy(), shard.weights["sleep"].copy()
    labels[:3], weights[:3] = [4, 3, 4], 0
    labels[3:10], weights[3:10] = 0, 1
    shard = dataclasses.replace(
        shard, labels=shard.labels | {"sleep": labels}, weights=shard.weights | {"sleep": weights}
    )
    mixed = shuffled_states(shard, "sleep", np.random.default_rng(0))
    assert (mixed.labels["sleep"] != shard.labels["sleep"]).any()
    np.testing.assert_array_equal(mixed.labels["sleep"][:3], shard.labels["sleep"][:3])
    np.testing.assert_array_equal(np.sort(mixed.labels["sleep"]), np.sort(shard.labels["sleep"]))
    np.testing.assert_array_equal(mixed.labels["ied"], shard.labels["ied"])


def only_awake_or_asleep(shard):
    """The shard of a set that distinguishes only wake and sleep."""
    known, asleep = shard.weights["sleep"], (shard.labels["sleep"] > 0).astype(np.float32)
    info = dataclasses.replace(shard.info, tasks=tuple(t for t in shard.info.tasks if t != SLEEP))
    labels, weights = {"ied": shard.labels["ied"], "state": asleep}, {"ied": shard.weights["ied"], "state": known}
    return dataclasses.replace(shard, info=info, labels=labels, weights=weights)


def test_where_wake_and_sleep_are_all_that_is_known_these_are_learnt_and_told_apart(run, shards, tmp_path):
    known = [only_awake_or_asleep(shard) for shard in shards]
    assert (sleep_task(shards), sleep_task(known), sleep_task([known[0], shards[0]])) == ("sleep", "state", "state")
    by_state = with_sleep_task(dataclasses.replace(run, shuffles_states=True, pretrained=run.config), "state")
    assert by_state.config.tasks == by_state.pretrained.tasks == ("ied", "state")
    assert with_sleep_task(run, "sleep") == run
    fold = grouped(known, n_folds=3, repeats=1, seed=0)[0]
    (found,) = quietly(dataclasses.replace(by_state, pretrained=None), fold=fold, out=tmp_path)
    assert set(found.test.stage.tolist()) <= {-1, 0, ASLEEP} and ASLEEP in found.test.stage
    for name, code in (("W", 0), ("asleep", 1)):
        there = [(s.weights["state"] > 0) & (s.labels["state"] == code) for s in fold.test]
        there = [own[s.weights["ied"] > 0] for own, s in zip(there, fold.test, strict=True)]
        np.testing.assert_array_equal(within(found.test, name), np.concatenate(there))


def test_the_weight_of_the_sleep_loss_follows_its_task(run):
    lighter = dataclasses.replace(run, config=changed(run.config, {"training": {"task_weights": (("sleep", 0.3),)}}))
    assert with_sleep_task(lighter, "state").config.training.task_weights == (("state", 0.3),)


def test_runs_that_need_sleep_are_named_where_there_is_none(run, fold):
    def silent(shard):
        only = dataclasses.replace(shard.info, tasks=tuple(t for t in shard.info.tasks if t.name == "ied"))
        return dataclasses.replace(shard, info=only)

    without = Fold(0, *(tuple(silent(s) for s in part) for part in fold[1:]))
    one_task = changed(run.config, {"model": {"fusion": "none"}}, tasks=("ied",))
    alone = dataclasses.replace(run, name="alone", config=one_task)
    assert with_known_sleep([alone], without) == [alone]
    with pytest.raises(ValueError, match="^tiny learn sleep, and the shards have no labels for it; --only alone needs"):
        with_known_sleep([run, alone], without)


def test_recalibration_keeps_ranks_and_makes_probabilities_of_log_odds():
    rng = np.random.default_rng(0)
    truth = rng.normal(-2, 2, 20_000)
    label = rng.random(20_000) < 1 / (1 + np.exp(-truth))
    given = predicted(3 * truth + 5, label, np.zeros(20_000))  # three times too sure, and shifted
    fixing, tested = recalibrated(given, given)
    np.testing.assert_allclose(tested.probability, 1 / (1 + np.exp(-truth)), atol=0.03)
    assert auroc(tested.probability, label) == pytest.approx(auroc(truth, label), abs=1e-6)
    np.testing.assert_array_equal(fixing.probability, tested.probability)


def test_an_intercept_a_stage_tells_the_share_of_each_stage():
    rng = np.random.default_rng(0)
    stage = rng.integers(-1, 5, 30_000)
    share = np.array([0.02, 0.1, 0.2, 0.3, 0.4, 0.5])  # of W N1 N2 N3 R, and of none
    label = rng.random(30_000) < share[stage]
    silent = predicted(np.zeros(30_000), label, stage)
    _, tested = recalibrated(silent, silent, by_stage=True)
    for one in range(-1, 5):
        assert tested.probability[stage == one] == pytest.approx(label[stage == one].mean(), abs=0.01)
    _, alike = recalibrated(silent, silent)
    assert np.unique(alike.probability).size == 1


def test_a_label_that_is_a_function_of_the_patient_cannot_be_predicted_across_patients(shards, tiny, tmp_path):
    """What distinguishes training patients does not help with others: only a leak could."""
    shards = shards[:6]  # fewer are easier to tell apart
    names = sorted({shard.patients[0] for shard in shards})
    chosen = set(np.random.default_rng(6).permutation(names)[: len(names) // 2].tolist())
    of_patient = []
    for shard in shards:
        label = np.full(len(shard), float(shard.patients[0] in chosen), np.float32)
        weight = np.ones(len(shard), np.float32)
        of_patient.append(
            dataclasses.replace(shard, labels=shard.labels | {"ied": label}, weights=shard.weights | {"ied": weight})
        )
    alone = {"model": {"fusion": "none", "dropout": 0.0}, "training": {"steps": 80, "checkpoint_every": 80}}
    alone["training"] |= {"amplitude": 0.0, "flip": 0.0, "electrode_dropout": 0.0, "ema_decay": 0.9}
    config = changed(tiny, alone, tasks=("ied",))
    scores, labels, learnt = [], [], []
    for fold in grouped(of_patient, n_folds=3, repeats=1, seed=0):
        network = training.trained(config, fold.train, tmp_path / str(fold.number), devices=choose_devices(None))
        own, other = (jobs.predictions(network, part) for part in (fold.train, fold.test))
        learnt.append(auroc(own.log_odds, own.label))
        scores.append(other.log_odds)
        labels.append(other.label)
    assert min(learnt) > 0.8, "the patients can be told apart"
    assert 0.15 < auroc(np.concatenate(scores), np.concatenate(labels)) < 0.85
