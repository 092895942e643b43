import dataclasses
import json

import chex
import numpy as np
import pytest

from experiments import sweep as module
from experiments.folds import Fold, grouped, marked_of, patients_of, sleep_task, with_fewer
from experiments.measures import within
from experiments.runs import Run, changed, told_by
from experiments.scored import ASLEEP
from experiments.sweep import Job, Judged, code_version, job_key, recalibrated, shuffled_states, sweep
from experiments.sweep_command import Options, told_by_what_there_is
from siamese_jax.checkpoints import load
from siamese_jax.cohort.report import locked
from siamese_jax.evaluation.metrics import auroc
from siamese_jax.shards.schema import open_shards
from siamese_jax.training.loop import train
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


def quietly(*runs, fold, out, seeds=1, progress=lambda *_: None):
    return sweep(runs, [fold], seeds, out, say=lambda text: None, progress=progress)


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
        np.testing.assert_array_equal(one.test.probability, other.test.probability)


def test_two_processes_never_work_at_the_same_job(run, fold, tmp_path):
    folder = tmp_path / "jobs" / job_key(Job(run, fold, 0))
    with locked(folder), pytest.raises(ValueError, match=f"{folder.name}: another process is at work there"):
        quietly(run, fold=fold, out=tmp_path)
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_what_is_done_is_read_and_not_done_again(run, fold, tmp_path, monkeypatch):
    first = quietly(run, fold=fold, out=tmp_path)
    monkeypatch.setattr(module, "train", lambda *_, **__: pytest.fail("trained again"))
    second = quietly(run, fold=fold, out=tmp_path)
    np.testing.assert_array_equal(first[0].test.probability, second[0].test.probability)
    (line,) = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert line["wall_seconds"] > 0
    assert line["job"] == "tiny, fold 0, seed 0"


def test_a_sweep_over_fewer_patients_trains_on_those_its_seed_drew_and_on_nobody_else(run, fold, tmp_path, monkeypatch):
    taught = []

    def learn(config, shards, *args, **kwargs):
        taught.append((config.training.seed, patients_of(shards), marked_of(shards)))
        return train(config, shards, *args, **kwargs)

    monkeypatch.setattr(module, "train", learn)
    options = {"say": lambda text: None, "progress": lambda *_: None}
    some = [patients_of(with_fewer(fold, seed, n_patients=3).train) for seed in (0, 1)]
    few = sweep([run], [fold], 2, tmp_path, drawn=Options(train_patients=3).drawn, **options)
    assert taught == [(0, some[0], some[0]), (1, some[1], some[1])]
    # Each of these is another job, and trained.
    sweep([run], [fold], 1, tmp_path, drawn=Options(ied_patients=3).drawn, **options)
    (everybody,) = sweep([run], [fold], 1, tmp_path, **options)
    assert taught[2:] == [(0, patients_of(fold.train), some[0]), (0, *[patients_of(fold.train)] * 2)]
    np.testing.assert_array_equal(few[0].test.onset_seconds, everybody.test.onset_seconds)


def test_a_run_may_start_from_what_another_task_taught_and_keep_it(run, fold, tmp_path, monkeypatch):
    asleep = changed(run.config, {"model": {"fusion": "none"}}, tasks=("sleep",))
    frozen = dataclasses.replace(run, config=dataclasses.replace(run.config, freeze=("sleep",)), pretrained=asleep)
    taught = []

    def learn(config, *args, **kwargs):
        done = train(config, *args, **kwargs)
        taught.append(load(args[2] / "checkpoint").variables["params"])
        return done

    monkeypatch.setattr(module, "train", learn)
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
    for part, answers in (("validation", found.validation), ("test", found.test)):
        own = getattr(fold, part)
        n = sum(int((s.weights["ied"] > 0).sum()) for s in own)
        assert (
            len(answers.label)
            == len(set(zip(answers.patient.tolist(), answers.onset_seconds.tolist(), strict=True)))
            == n
        )
        assert answers.label.sum() == sum(int(s.labels["ied"][s.weights["ied"] > 0].sum()) for s in own)
        stages = np.concatenate(
            [np.where(s.weights["sleep"] > 0, s.labels["sleep"], -1)[s.weights["ied"] > 0] for s in own]
        )
        np.testing.assert_array_equal(answers.stage, stages)


def test_the_key_hangs_on_all_that_figures_hang_on(run, fold, monkeypatch):
    job = Job(run, fold, 0)
    longer = dataclasses.replace(run, config=changed(run.config, {"training": {"steps": 9}}))
    renamed = dataclasses.replace(run, name="other", question="?")
    other_bytes = dataclasses.replace(fold.test[0], info=dataclasses.replace(fold.test[0].info, fingerprint="x"))
    others = [
        Job(run, fold, 1),
        Job(longer, fold, 0),
        Job(dataclasses.replace(run, pretrained=run.config), fold, 0),
        Job(dataclasses.replace(run, shuffles_states=True), fold, 0),
        Job(run, fold._replace(train=fold.train[1:]), 0),
        Job(run, fold._replace(train=fold.validation, validation=fold.train), 0),
        Job(run, with_fewer(fold, 0, n_marked=3), 0),
        Job(run, fold._replace(test=(other_bytes, *fold.test[1:])), 0),
    ]
    keys = [job_key(j) for j in (job, *others)]
    assert len(set(keys)) == len(keys)
    assert job_key(Job(renamed, fold._replace(number=7), 0)) == keys[0]
    monkeypatch.setattr(module, "code_version", lambda root: "changed")
    assert job_key(job) != keys[0]


def test_the_code_version_hangs_on_the_source_that_answers_hang_on(tmp_path):
    for place in module.CODE:
        path = tmp_path / place if place.endswith(".py") else tmp_path / place / "one.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    before = code_version(tmp_path)
    (tmp_path / "README.md").write_text("more words")
    assert code_version(tmp_path) == before
    for place in module.CODE:
        path = tmp_path / place if place.endswith(".py") else tmp_path / place / "one.py"
        path.write_text("x = 2\n")
        after = code_version(tmp_path)
        assert after != before
        before = after
    assert len(code_version(module.ROOT)) == 64


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
    """The shard as a set has it that tells wake and sleep alone."""
    known, asleep = shard.weights["sleep"], (shard.labels["sleep"] > 0).astype(np.float32)
    info = dataclasses.replace(shard.info, tasks=tuple(t for t in shard.info.tasks if t != SLEEP))
    labels, weights = {"ied": shard.labels["ied"], "state": asleep}, {"ied": shard.weights["ied"], "state": known}
    return dataclasses.replace(shard, info=info, labels=labels, weights=weights)


def test_where_wake_and_sleep_are_all_that_is_known_these_are_learnt_and_told_apart(run, shards, tmp_path):
    told = [only_awake_or_asleep(shard) for shard in shards]
    assert (sleep_task(shards), sleep_task(told), sleep_task([told[0], shards[0]])) == ("sleep", "state", "state")
    by_state = told_by(dataclasses.replace(run, shuffles_states=True, pretrained=run.config), "state")
    assert by_state.config.tasks == by_state.pretrained.tasks == ("ied", "state")
    assert told_by(run, "sleep") == run
    (found,) = quietly(by_state, fold=grouped(told, n_folds=3, repeats=1, seed=0)[0], out=tmp_path)
    (staged,) = quietly(run, fold=grouped(shards, n_folds=3, repeats=1, seed=0)[0], out=tmp_path)
    assert set(found.test.stage.tolist()) <= {-1, 0, ASLEEP} and ASLEEP in found.test.stage
    for name in ("W", "asleep"):
        np.testing.assert_array_equal(within(found.test, name), within(staged.test, name))


def test_the_weight_of_the_sleep_loss_follows_its_task(run):
    lighter = dataclasses.replace(run, config=changed(run.config, {"training": {"task_weights": (("sleep", 0.3),)}}))
    assert told_by(lighter, "state").config.training.task_weights == (("state", 0.3),)


def test_runs_that_need_sleep_are_named_where_there_is_none(run, fold):
    def silent(shard):
        only = dataclasses.replace(shard.info, tasks=tuple(t for t in shard.info.tasks if t.name == "ied"))
        return dataclasses.replace(shard, info=only)

    without = Fold(0, *(tuple(silent(s) for s in part) for part in fold[1:]))
    one_task = changed(run.config, {"model": {"fusion": "none"}}, tasks=("ied",))
    alone = dataclasses.replace(run, name="alone", config=one_task)
    assert told_by_what_there_is([alone], without) == [alone]
    with pytest.raises(ValueError, match="^tiny learn sleep, and the shards have no labels for it; --only alone needs"):
        told_by_what_there_is([run, alone], without)


def judged(log_odds, label, stage):
    n = len(label)
    return Judged(np.array(["p"] * n), np.arange(n, dtype=float), np.array(label), np.array(stage, np.int32), log_odds)


def test_recalibration_keeps_ranks_and_makes_probabilities_of_log_odds():
    rng = np.random.default_rng(0)
    truth = rng.normal(-2, 2, 20_000)
    label = rng.random(20_000) < 1 / (1 + np.exp(-truth))
    told = judged(3 * truth + 5, label, np.zeros(20_000))  # three times too sure, and shifted
    fixing, tested = recalibrated(told, told)
    np.testing.assert_allclose(tested.probability, 1 / (1 + np.exp(-truth)), atol=0.03)
    assert auroc(tested.probability, label) == pytest.approx(auroc(truth, label), abs=1e-6)
    np.testing.assert_array_equal(fixing.probability, tested.probability)


def test_an_intercept_a_stage_tells_the_share_of_each_stage():
    rng = np.random.default_rng(0)
    stage = rng.integers(-1, 5, 30_000)
    share = np.array([0.02, 0.1, 0.2, 0.3, 0.4, 0.5])  # of W N1 N2 N3 R, and of none
    label = rng.random(30_000) < share[stage]
    silent = judged(np.zeros(30_000), label, stage)
    _, tested = recalibrated(silent, silent, by_stage=True)
    for one in range(-1, 5):
        assert tested.probability[stage == one] == pytest.approx(label[stage == one].mean(), abs=0.01)
    _, alike = recalibrated(silent, silent)
    assert np.unique(alike.probability).size == 1


def test_a_label_that_is_a_function_of_the_patient_cannot_be_predicted_across_patients(shards, tiny, tmp_path):
    """What tells the training patients apart tells nothing about others: only a leak could."""
    names = sorted({shard.patients[0] for shard in shards})
    chosen = set(np.random.default_rng(5).permutation(names)[: len(names) // 2].tolist())
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
        job = Job(Run("tiny", "", config), fold, 0)
        trained = module._train(config, fold.train, tmp_path / str(fold.number), None, job, lambda *_: None)
        own, other = module.judge(trained, fold.train), module.judge(trained, fold.test)
        learnt.append(auroc(own.log_odds, own.label))
        scores.append(other.log_odds)
        labels.append(other.label)
    assert min(learnt) > 0.8, "the patients can be told apart"
    assert 0.15 < auroc(np.concatenate(scores), np.concatenate(labels)) < 0.85
