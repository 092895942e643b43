"""The whole command at a tiny size: nobody is tested on what was learnt from them, and nothing is done twice."""

import dataclasses
import json

import numpy as np
import pytest

from data_tools.code_hash import ROOT
from experiments import training
from experiments.provenance import commit
from experiments.runner import Runner
from experiments.sleep import __main__ as command
from experiments.sleep import networks
from experiments.sleep.networks import Networks, Size, load_models
from experiments.sleep.scoring import Prediction
from siamese_jax.shards.schema import open_shards
from tests.data_tools.excerpts import signal, write_excerpt

SPINDLES = {1: [(25.0 + 5 * i, 1.0) for i in range(12)]}
SIZE = Size(steps=2, copies=2, seeds=1, choosing_seeds=1)


@pytest.fixture
def folder(tmp_path):
    for number in (1, 2, 4, 6):
        channel = "C3-A1" if number == 1 else "CZ-A1"
        samples = signal(14_000 + number)[:14_000]
        write_excerpt(tmp_path / "in", number, channel=channel, samples=samples, spindles=SPINDLES)
    return tmp_path / "in"


@pytest.fixture
def small(monkeypatch):
    model = dataclasses.replace(networks.CONFIG.model, width=0.1, dilations=(1, 1, 2), shared_stages=2)
    short = dataclasses.replace(networks.CONFIG.training, batch_size=8)
    monkeypatch.setattr(networks, "CONFIG", dataclasses.replace(networks.CONFIG, model=model, training=short))


def untrained(folder, out, **options):
    return Networks(folder, Runner(out, say=lambda text: None), SIZE, **options)


def test_the_command_trains_scores_saves_and_goes_on(folder, small, tmp_path, monkeypatch, capsys):
    learnt_from = []

    def train(config, shards, *args, **options):
        learnt_from.append(sorted(patient for shard in shards for patient in shard.patients))
        return original(config, shards, *args, **options)

    original = training.train
    monkeypatch.setattr(training, "train", train)
    options = {"train": (1, 2), "also": (6,), "test": (4,), "out": tmp_path / "out"}
    assert command.main(folder, SIZE, **options) == 0
    one, two, six = (["DREAMS-" + number] * 2 for number in "126")
    assert sorted(learnt_from) == sorted([one + six, one + two + six, two + six])
    first = json.loads((tmp_path / "out" / "results" / "sleep.json").read_text())
    assert list(first["by_subject"]) == ["4"] and first["pooled"]["epochs"] == 4
    assert (tmp_path / "out" / "results" / "sleep.png").stat().st_size > 10_000
    text = (tmp_path / "out" / "results" / "sleep.md").read_text()
    assert "REAL EEG" in text and "The 3 networks were trained by commit " in text
    assert first["networks"]["count"] == first["trained"] == 3 and first["networks"]["cpu_seconds"] > 0

    learnt_from.clear()
    command.main(folder, SIZE, **options)
    assert not learnt_from
    saved = tmp_path / "out" / "model"
    second = json.loads((tmp_path / "out" / "results" / "sleep.json").read_text())
    assert (
        second["networks"] == first["networks"] and second["trained"] == 0
    )  # of an earlier call, and as it was written down then
    assert load_models(saved).learnt_from == (1, 2, 6)
    (trained,) = load_models(saved).trained
    assert trained.commit == commit() and 0 < trained.wall_seconds
    capsys.readouterr()
    command.main(folder, model=saved, out=tmp_path / "elsewhere")
    again = json.loads((tmp_path / "elsewhere" / "results" / "sleep.json").read_text())
    assert "excerpt 6 is left out" in capsys.readouterr().out and list(again["by_subject"]) == ["4"]
    # What is saved is what was scored.
    assert again["by_subject"]["4"] == first["by_subject"]["4"]
    with pytest.raises(ValueError, match=r"learnt from \[2\]"):
        command.main(folder, model=saved, test=(2, 4), out=tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"settings\.json"):
        load_models(tmp_path)


def test_networks_are_never_asked_about_whom_they_learnt_from(folder, tmp_path):
    with pytest.raises(ValueError, match="subject 4 is among those learnt from"):
        untrained(folder, tmp_path).predicted((1, 4), 4, seeds=1)
    with pytest.raises(ValueError, match="subject 2 is among those learnt from"):
        untrained(folder, tmp_path, also=(2,)).predicted((1, 4), 2, seeds=1)


def test_other_contents_are_other_networks_and_the_same_are_the_same(folder, tmp_path):
    def keys():
        return [untrained(folder, tmp_path).jobs(group, seeds=1)[0].key for group in ((1, 2), (1, 4))]

    before, path = keys(), folder / "excerpt2.txt"
    assert len(set(before)) == 2 and keys() == before
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])  # as long as before
    assert keys()[0] != before[0] and keys()[1] == before[1]  # nothing was learnt from 2 there
    path.write_bytes(content)
    (folder / "licence.txt").write_text("no excerpt")
    assert keys() == before


def test_the_files_that_decide_networks_and_predictions_are_named():
    assert {"siamese_jax/models", "siamese_jax/cohort/prepare.py", "experiments/sleep/data.py"} <= set(networks.CODE)
    assert "experiments/sleep/scoring.py" in networks.PREDICTION_CODE and "experiments/sleep/report.py" not in (
        networks.PREDICTION_CODE
    )


def test_a_training_that_is_interrupted_leaves_no_network_behind(folder, small, tmp_path, monkeypatch):
    original = training.train
    monkeypatch.setattr(training, "train", lambda *args, **options: original(*args, stop_at=1, **options))
    cut = untrained(folder, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cut.trained((1,), seeds=1)
    assert not cut.runner.is_done(*cut.jobs((1,), seeds=1))


def test_networks_that_were_saved_before_their_training_was_written_down_are_read():
    saved = load_models(ROOT / "experiments/results/sleep/model")
    assert len(saved.networks) == 4 and saved.learnt_from == (1, 2, 3, 4, 6, 8) and saved.trained == ()


def test_stages_of_those_always_learnt_from_count_as_habits(folder, tmp_path):
    own, both = (untrained(folder, tmp_path, also=also).stage_statistics((1, 2)) for also in ((), (6,)))
    for_all = untrained(folder, tmp_path).stage_statistics((1, 2, 6))
    np.testing.assert_array_equal(both.transitions, for_all.transitions)
    assert not np.array_equal(both.transitions, own.transitions)


def test_each_subject_left_out_is_unknown_to_all_that_decides_about_it(folder, tmp_path, monkeypatch):
    asked, chosen = [], []

    def ask(self, learnt_from, subject, *, seeds):
        asked.append((tuple(sorted(learnt_from)), subject))
        return Prediction(np.log(np.full((28, 5), 0.2)), np.full(700, -9.0), 0.2, 0.0)

    def choose(predicted, truths, statistics):
        chosen.append(tuple(sorted(predicted)))
        return networks.Settings()

    monkeypatch.setattr(Networks, "predicted", ask)
    monkeypatch.setattr(networks, "choose", choose)
    excerpts = command._left_out(untrained(folder, tmp_path), (1, 2, 4))
    assert [a.subject for a in excerpts] == [1, 2, 4] and chosen == [(2, 4), (1, 4), (1, 2)]
    of_1 = [((4,), 2), ((2,), 4), ((2, 4), 1)]
    assert asked == [*of_1, ((4,), 1), ((1,), 4), ((1, 4), 2), ((2,), 1), ((1,), 2), ((1, 2), 4)]


@pytest.mark.parametrize(
    ("train", "also", "test", "message"),
    [
        ((1, 2), (), (2,), r"nobody in common, given \[2\]"),
        ((1, 2), (4,), (4,), r"nobody in common, given \[4\]"),
        ((1, 2, 4), (1,), (), r"nobody in common, given \[1\]"),
        ((1, 2), (4,), (), "3 different"),
        ((1,), (), (2,), "2 different"),
    ],
)
def test_impossible_choices_of_people_are_refused(folder, tmp_path, train, also, test, message):
    with pytest.raises(ValueError, match=message):
        command.main(folder, SIZE, train=train, also=also, test=test, out=tmp_path)


def test_every_colour_of_a_subject_is_a_shard_of_that_subject(folder, small, tmp_path):
    shards = untrained(folder, tmp_path)._shards(2, 1)
    (shard,) = open_shards(shards / "train")
    assert shard.patients == ("DREAMS-2",) and len(shard) == 697  # every 0.2 s of 140 s
