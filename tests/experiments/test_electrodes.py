"""What bad and missing electrodes cost: the faults are what they say, and the page counts what was kept."""

import json

import numpy as np
import pytest

from experiments import electrodes
from experiments.electrodes import FAULTS, SETS, main
from siamese_jax.vocabulary import TEN_TWENTY

SFREQ = 200.0
X = np.random.default_rng(0).normal(0, 20, 6000).astype(np.float32)


@pytest.mark.parametrize(
    ("fault", "measure", "expected"),
    [
        ("noise, 400 uV", lambda x: (x - X).std(), 400),
        ("flat", lambda x: 1 + np.ptp(x), 1),
        ("clipped at 250 uV", lambda x: np.abs(x).max(), 250),
        ("steps of 3 mV", lambda x: np.diff(x - X).max(), 3000),
        ("mains, 500 uV", lambda x: np.sqrt(2) * (x - X).std(), 500),
        ("motor unit, 150 uV", lambda x: (x - X).max(), 150),
        ("sway, 5 mV", lambda x: (x - X).max(), 5000),
        ("10 times too large", lambda x: (x / X).mean(), 10),
    ],
)
def test_a_fault_is_as_large_as_its_name_says(fault, measure, expected):
    before = X.copy()
    assert measure(FAULTS[fault](X, SFREQ, np.random.default_rng(1))) == pytest.approx(expected, rel=0.05)
    np.testing.assert_array_equal(X, before)


def test_sets_of_electrodes_have_as_many_as_they_say():
    for words, names in SETS.items():
        assert str(len(set(names))) in words.split(":")[0] and set(names) <= set(TEN_TWENTY)


def test_the_page_counts_events_with_and_without_a_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(electrodes, "TEN_TWENTY", ("Cz", "O2"))
    monkeypatch.setattr(electrodes, "FAULTS", {"none": lambda x, sfreq, rng: x, "flat": FAULTS["flat"]})
    monkeypatch.setattr(electrodes, "SETS", {"all 19": TEN_TWENTY, "2: Cz, O2": ("Cz", "O2")})
    assert main(tmp_path, patients=1, minutes=1, false_per_hour=10) == 0
    tree = json.loads((tmp_path / "electrodes.json").read_text())
    total = tree["events_without_fault"]
    assert total > 3
    for own in tree["broken"].values():
        assert own["none"] == [total, 0] and own["flat"][0] >= total / 2
    everything, two = (tree["fewer"][words] for words in ("all 19", "2: Cz, O2"))
    assert everything["found"] == total and total >= everything["right"] > total / 2
    assert two["simulated"] == everything["simulated"] and two["right"] < everything["right"]
    assert f"{total} events found without a fault" in (tmp_path / "electrodes.md").read_text()
