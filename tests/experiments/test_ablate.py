import dataclasses
import json

import numpy as np
import pytest

from experiments.ablate import EFFECTS, main, with_true_state
from experiments.sweep.command import Options
from experiments.sweep.predictions import Predictions, Scored
from experiments.sweep.runs import STAGE_GIVEN, runs
from siamese_jax.evaluation.metrics import auroc
from tests.experiments.test_compare import reduced_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return reduced_shards(tmp_path_factory.mktemp("cohort"))


def test_the_whole_command_at_a_tiny_size(shards, tmp_path):
    names = ("siamese_es", "A_electron_only")
    assert main(shards, Options(out=tmp_path, only=names, seeds=1, steps=2, batch_size=8, resamples=50)) == 0
    tree = json.loads((tmp_path / "ablate.json").read_text())
    assert set(tree["runs"]) == {*names, "E_stage_given", "true_state_only"}
    asked = {effect["name"] for effect in tree["effects"]}
    assert "everything: D against A" in asked
    assert "multi-task learning, at equal capacity: D against B" not in asked  # B was not run
    assert "Ablations" in (tmp_path / "ablate.md").read_text()


def test_every_contrast_is_of_runs_that_there_are():
    """One that is not there is left out of the page without a word."""
    there = {*runs("reduced"), STAGE_GIVEN}
    assert [c for c in EFFECTS if not {c.run, c.against} <= there] == []


def test_a_page_over_fewer_patients_says_so(shards, tmp_path):
    options = Options(out=tmp_path, only=("siamese_es",), seeds=1, steps=2, batch_size=8, resamples=50)
    assert main(shards, dataclasses.replace(options, train_patients=2)) == 0
    tree = json.loads((tmp_path / "ablate.json").read_text())
    assert tree["patients_a_fold"]["n_train"] == 2
    assert "Learnt from 2 patients alone, whom each seed drew anew." in (tmp_path / "ablate.md").read_text()


def test_a_page_over_the_ieds_of_fewer_patients_says_so(shards, tmp_path):
    options = Options(out=tmp_path, only=("siamese_es",), seeds=1, steps=2, batch_size=8, resamples=50, ied_patients=2)
    assert main(shards, options) == 0
    assert json.loads((tmp_path / "ablate.json").read_text())["patients_a_fold"]["n_train"] > 2
    said = "IEDs learnt from 2 patients alone, whom each seed drew anew; sleep from all."
    assert said in (tmp_path / "ablate.md").read_text()


def predictions(rng, n=3000):
    stage = rng.integers(0, 5, n).astype(np.int32)
    truth = rng.normal(size=n) + np.array([-3.0, -1.0, 0.0, 1.0, 3.0])[stage]
    label = rng.random(n) < 1 / (1 + np.exp(-truth))
    signal = rng.normal(size=n) * 0.5 + (truth - np.array([-3.0, -1.0, 0.0, 1.0, 3.0])[stage])
    return Predictions(np.array(["p"] * n), np.arange(n) * 4.0, label, stage, signal)


def test_the_true_stage_adds_what_it_knows_and_alone_knows_nothing_of_the_signal():
    rng = np.random.default_rng(0)
    of = Scored("A_electron_only", 0, 0, predictions(rng), predictions(rng), 100, 1.0)
    given, alone = with_true_state([of])
    assert (given.run, alone.run) == ("E_stage_given", "true_state_only")
    assert auroc(given.test.probability, given.test.label) > auroc(of.test.probability, of.test.label) + 0.1
    assert np.unique(alone.test.probability).size == 5
    by_stage = [alone.test.probability[alone.test.stage == stage][0] for stage in range(5)]
    assert by_stage == sorted(by_stage)
    assert with_true_state([of._replace(run="siamese_es")]) == []
