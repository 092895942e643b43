"""The whole command at a tiny size: nobody is tested on what was learnt from them, and nothing is done twice."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from experiments.provenance import commit
from experiments.sleep import __main__ as command
from experiments.sleep import training
from experiments.sleep.scoring import Said
from experiments.sleep.training import Laboratory, Size, load_models
from experiments.sweep import ROOT
from siamese_jax.shards.schema import open_shards
from tests.data_tools.excerpts import signal, write_excerpt

SPINDLES = {1: [(25.0 + 5 * i, 1.0) for i in range(12)]}
SIZE = Size(steps=2, colours=2, seeds=1, choosing_seeds=1)


@pytest.fixture
def folder(tmp_path):
    for number in (1, 2, 4, 6):
        channel = "C3-A1" if number == 1 else "CZ-A1"
        samples = signal(14_000 + number)[:14_000]
        write_excerpt(tmp_path / "in", number, channel=channel, samples=samples, spindles=SPINDLES)
    return tmp_path / "in"


@pytest.fixture
def small(monkeypatch):
    model = dataclasses.replace(training.CONFIG.model, width=0.1, dilations=(1, 1, 2), shared_stages=2)
    short = dataclasses.replace(training.CONFIG.training, batch_size=8)
    monkeypatch.setattr(training, "CONFIG", dataclasses.replace(training.CONFIG, model=model, training=short))


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
    networks = json.loads((tmp_path / "out" / "results" / "sleep.json").read_text())["networks"]
    assert networks == first["networks"]  # of an earlier call, and as it was written down then
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
        Laboratory(folder, tmp_path, SIZE).said((1, 4), 4, seeds=1)
    with pytest.raises(ValueError, match="subject 2 is among those learnt from"):
        Laboratory(folder, tmp_path, SIZE, also=(2,)).said((1, 4), 2, seeds=1)


def test_other_contents_or_other_code_are_other_networks_and_the_same_are_the_same(folder, tmp_path, monkeypatch):
    def home():
        return Laboratory(folder, tmp_path, SIZE)._home

    before, path = home(), folder / "excerpt2.txt"
    assert home() == before
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])  # as long as before
    assert home() != before
    path.write_bytes(content)
    (folder / "licence.txt").write_text("no excerpt")
    assert home() == before
    for name in ("siamese_jax/models/siamese_es.py", "experiments/sleep/data.py", "siamese_jax/cohort/prepare.py"):
        copy = tmp_path / "code"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "runs", "results", "tests", "docs"))
        monkeypatch.setattr(training, "ROOT", copy)
        assert home() == before
        (copy / name).write_text((copy / name).read_text() + "# another\n")
        assert home() != before, name
        shutil.rmtree(copy)


def test_a_training_that_is_interrupted_leaves_no_network_behind(folder, small, tmp_path, monkeypatch):
    original = training.train
    monkeypatch.setattr(training, "train", lambda *args, **options: original(*args, stop_at=1, **options))
    laboratory = Laboratory(folder, tmp_path, SIZE)
    with pytest.raises(KeyboardInterrupt):
        laboratory.models((1,), seeds=1)
    assert laboratory.missing([((1,), 1)]) == 1


def test_networks_that_were_saved_before_their_training_was_written_down_are_read():
    saved = load_models(ROOT / "experiments/results/sleep/model")
    assert len(saved.networks) == 4 and saved.learnt_from == (1, 2, 3, 4, 6, 8) and saved.trained == ()


def test_stages_of_those_always_learnt_from_count_as_habits(folder, tmp_path):
    own, both = (Laboratory(folder, tmp_path, SIZE, also=also).habits((1, 2)) for also in ((), (6,)))
    for_all = Laboratory(folder, tmp_path, SIZE).habits((1, 2, 6))
    np.testing.assert_array_equal(both.transitions, for_all.transitions)
    assert not np.array_equal(both.transitions, own.transitions)


def test_each_subject_left_out_is_unknown_to_all_that_decides_about_it(folder, tmp_path, monkeypatch):
    said, chosen = [], []

    def ask(self, learnt_from, subject, *, seeds):
        said.append((tuple(sorted(learnt_from)), subject))
        return Said(np.log(np.full((28, 5), 0.2)), np.full(700, -9.0), 0.2, 0.0)

    def choose(answers, truths, habits):
        chosen.append(tuple(sorted(answers)))
        return training.Settings()

    monkeypatch.setattr(Laboratory, "said", ask)
    monkeypatch.setattr(training, "choose", choose)
    answers = command._left_out(Laboratory(folder, tmp_path, SIZE), (1, 2, 4))
    assert [a.subject for a in answers] == [1, 2, 4] and chosen == [(2, 4), (1, 4), (1, 2)]
    of_1 = [((4,), 2), ((2,), 4), ((2, 4), 1)]
    assert said == [*of_1, ((4,), 1), ((1,), 4), ((1, 4), 2), ((2,), 1), ((1,), 2), ((1, 2), 4)]


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
    shards = Laboratory(folder, tmp_path, SIZE)._shards(2, 1)
    (shard,) = open_shards(shards / "train")
    assert shard.patients == ("DREAMS-2",) and len(shard) == 697  # every 0.2 s of 140 s
