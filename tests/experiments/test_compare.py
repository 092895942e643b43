import csv
import json
from pathlib import Path

import numpy as np
import pytest

from data_tools.simulate import SimulationConfig, simulate_cohort
from experiments.compare import main
from experiments.sweep import command
from experiments.sweep.command import Options, at_best_rates
from experiments.sweep.predictions import Predictions, Scored
from experiments.sweep.runs import compared
from siamese_jax.cohort.prepare import prepare
from siamese_jax.cohort.sources import Folder
from siamese_jax.config.experiment import DataConfig


def reduced_shards(folder):
    """As the reduced scale wants them: 19 electrodes at 128 Hz, windows of 4 s; a minute of each patient."""
    simulation = SimulationConfig(minutes=1.0, sfreq=128.0, compression=20.0)
    list(simulate_cohort(folder / "recordings", simulation, patients=8, ied_free=0.25, seed=4))
    data = DataConfig(sfreq=128.0)
    prepare(Folder(folder / "recordings"), folder / "shards", data, hop_seconds=4.0, seed=0, title="SIMULATED minutes")
    return folder / "shards"


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return reduced_shards(tmp_path_factory.mktemp("cohort"))


def test_the_whole_command_at_a_tiny_size(shards, tmp_path, capsys, monkeypatch):
    options = Options(out=tmp_path, only=("siamese_es", "eegnet"), seeds=1, steps=2, batch_size=8, resamples=50)
    assert main(shards, options, learning_rates=(3e-3,)) == 0
    page, told = (tmp_path / "compare.md").read_text(), capsys.readouterr().out
    assert "SIMULATED minutes" in page
    assert "Reduced inputs and widths" in page
    assert "2 updates of 8 windows" in page
    assert "2 jobs: 0 done before, 2 to do" in told  # the rates
    assert "2 jobs: 2 done before, 0 to do" in told  # the seeds
    assert "min left" in told
    tree = json.loads((tmp_path / "compare.json").read_text())
    assert set(tree["runs"]) == {"siamese_es", "eegnet"}
    assert tree["runs"]["eegnet"]["n_parameters"] == 1665
    with (tmp_path / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["run"] for row in rows} == {"siamese_es", "eegnet"}
    assert (tmp_path / "compare.png").stat().st_size > 10_000
    assert "learning rates first: each of 0.003 for each run" in told
    assert "the best of 1 in validation patients" in page
    monkeypatch.setattr("experiments.training.train", lambda *_, **__: pytest.fail("trained again"))
    assert main(shards, options, learning_rates=(3e-3,)) == 0
    assert "2 jobs: 2 done before, 0 to do" in capsys.readouterr().out


def test_a_run_that_is_not_there_is_named(shards, tmp_path):
    with pytest.raises(ValueError, match="--only eegnot: there are siamese_es, eegnet"):
        main(shards, Options(out=tmp_path, only=("eegnot",)))


def test_each_run_takes_the_rate_that_is_best_in_validation_patients(monkeypatch):
    """Not in test patients, where another one is."""
    runs = list(compared("reduced").values())[:2]
    quality = {("siamese_es", 0.1): 0.5, ("siamese_es", 0.2): 3.0, ("eegnet", 0.1): 2.0, ("eegnet", 0.2): 0.1}

    def swept(runs, folds, seeds, runner, *, drawn, progress):
        assert (seeds, drawn) == (1, Options.drawn)
        found = []
        for run in runs:
            good = quality[run.name, run.config.training.learning_rate]
            found.append(scored(run.name, validation=good, test=4 - good))
        return found

    monkeypatch.setattr(command, "sweep", swept)
    best = at_best_rates(runs, (0.1, 0.2), [None], Path(), Options.drawn, lambda *_: None)
    assert [(r.name, r.config.training.learning_rate) for r in best] == [("siamese_es", 0.2), ("eegnet", 0.1)]


def scored(run, *, validation, test):
    def predictions(good):
        rng = np.random.default_rng(0)
        label = np.arange(400) < 40
        score = rng.normal(size=400) + good * label
        return Predictions(np.repeat(["p"], 400), np.arange(400) * 4.0, label, np.zeros(400, np.int32), score)

    return Scored(run, 0, 0, predictions(validation), predictions(test), 1, 1.0)
