import csv
import json

import pytest

from data_tools.simulate import SimulationConfig, simulate_cohort
from experiments.compare import main
from experiments.sweep_command import Options
from siamese_jax.config import DataConfig
from siamese_jax.recordings.prepare import prepare
from siamese_jax.recordings.sources import Folder


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
    options = Options(out=tmp_path, only=("siamese_es", "eegnet"), seeds=2, steps=2, batch_size=4, resamples=50)
    assert main(shards, options) == 0
    page, told = (tmp_path / "compare.md").read_text(), capsys.readouterr().out
    assert "SIMULATED minutes" in page
    assert "Reduced inputs and widths" in page
    assert "2 updates of 4 windows" in page
    assert "4 jobs: 0 done before, 4 to do" in told
    assert "min left" in told
    tree = json.loads((tmp_path / "compare.json").read_text())
    assert set(tree["runs"]) == {"siamese_es", "eegnet"}
    assert tree["runs"]["eegnet"]["n_parameters"] == 1665
    with (tmp_path / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["run"] for row in rows} == {"siamese_es", "eegnet"}
    assert (tmp_path / "compare.png").stat().st_size > 10_000
    monkeypatch.setattr("experiments.sweep.train", lambda *_, **__: pytest.fail("trained again"))
    assert main(shards, options) == 0
    assert "4 jobs: 4 done before, 0 to do" in capsys.readouterr().out


def test_a_run_that_is_not_there_is_named(shards, tmp_path):
    with pytest.raises(ValueError, match="--only eegnot: there are siamese_es, eegnet"):
        main(shards, Options(out=tmp_path, only=("eegnot",)))
