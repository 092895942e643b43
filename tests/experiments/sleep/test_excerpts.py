"""The tables of one subject: what stands there is what was found."""

import csv

import numpy as np
import pytest

from experiments.sleep.data import CHANNEL, open_excerpt
from experiments.sleep.excerpts import score_excerpt, write_tables
from experiments.sleep.scoring import Prediction, Settings, StageStatistics
from siamese_jax.config.experiment import DataConfig
from tests.data_tools.excerpts import CODES, signal, write_excerpt

DATA = DataConfig(ch_names=(CHANNEL,), sfreq=100.0, window_seconds=0.8)
EVEN = StageStatistics(np.full((5, 5), 0.2), np.full(5, 0.2))


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("codes", [CODES, None])
def test_epochs_and_spindles_can_be_read_back_whether_or_not_an_expert_looked(tmp_path, codes):
    samples = signal(14_000 if codes else 180_000)
    write_excerpt(tmp_path, 7, channel="CZ-A1", samples=samples, codes=codes)
    opened = open_excerpt(tmp_path, 7, DATA)
    stages = np.repeat([0, 2, 3, 4], 6)
    logs = np.log(np.full((28, 5), 0.05))
    logs[np.arange(24), stages] = np.log(0.8)
    frames = np.full(700, -9.0)
    frames[[[200], [675]] + np.arange(5)] = 1.0  # 40 s in N2, and 135 s beyond the last whole epoch
    found = score_excerpt(7, opened, Prediction(logs, frames, 0.2, 0.1), Settings(trust=1.0), EVEN)
    assert found.staged == bool(codes) and (found.counts() is None)
    write_tables(tmp_path, [found])

    epochs = rows(tmp_path / "excerpt7_hypnogram.csv")
    assert [row["stage"] for row in epochs] == ["W", "N2", "N3", "R"]
    assert [float(row["onset_seconds"]) for row in epochs] == [0, 30, 60, 90]
    assert {float(row["duration_seconds"]) for row in epochs} == {30}
    chances = [[float(row[f"probability_{s}"]) for s in ("W", "N1", "N2", "N3", "R")] for row in epochs]
    np.testing.assert_allclose(chances, found.chances, atol=5e-5)
    np.testing.assert_allclose(np.sum(chances, 1), 1, atol=3e-4)

    spindles = rows(tmp_path / "excerpt7_spindles.csv")
    assert [(float(r["onset_seconds"]), float(r["duration_seconds"])) for r in spindles] == [(40, 1), (135, 1)]
    assert [r["stage"] for r in spindles] == ["N2", ""]
    np.testing.assert_allclose([float(r["score"]) for r in spindles], 1 / (1 + np.exp(-1)), atol=5e-5)
    assert not list(tmp_path.glob("*.tmp"))
