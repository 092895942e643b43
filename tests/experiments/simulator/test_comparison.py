"""The comparisons of the simulator's page, where the answer is known."""

import numpy as np
import pytest

from experiments.simulator import comparison
from experiments.simulator.data import SHARED_ELECTRODES, Night
from experiments.simulator.measures import BANDS
from experiments.simulator.realism import LEVEL, RECORDER, SHAPE, Epochs

RATE = 200.0
MINUTES = 6


def night(name: str, *, seed: int, gain: float = 1.0, is_real: bool = False, stages=None, spindles=None) -> Night:
    """Noise (white and a random walk) that is twice as large in N2 as awake."""
    rng = np.random.default_rng(seed)
    n = round(MINUTES * 60 * RATE)
    stages = np.repeat([0, 2], MINUTES * 30) if stages is None else stages
    walk = rng.normal(0, 1, n).cumsum()
    eeg = gain * (rng.normal(0, 4, n) + (walk - np.linspace(0, walk[-1], n)) * 0.1)
    eeg *= np.repeat(np.where(stages == 2, 2.0, 1.0), round(RATE))
    marks = {"expert 1" if is_real else "simulator": spindles or []}
    return Night(name, is_real, "Cz-A1", RATE, eeg, stages, marks)


def test_a_louder_person_differs_in_level_and_not_in_shape():
    simulated = {"Cz-A1": [night(f"S{i}", seed=i) for i in range(6)]}
    tree = comparison.compare_spectra(simulated, [night("R", seed=9, gain=2.0, is_real=True)])
    found = tree["real"]["R"]["stages"]
    assert set(found) == {"W", "N2"}
    for own in found.values():
        assert own["level_db"] == pytest.approx(20 * np.log10(2), abs=0.5)
        assert all(abs(value) < 0.8 for value in own["shape_db"].values())
        assert sum(own["shape_db"].values()) == pytest.approx(0, abs=1e-9)
        assert not any(own["within_10_90"].values())
    medians = {stage: np.array(tree["simulated"]["Cz-A1"][stage]["median"]) for stage in ("W", "N2")}
    assert np.mean(medians["N2"][8:] - medians["W"][8:]) == pytest.approx(20 * np.log10(2), abs=0.3)
    assert tree["simulated"]["Cz-A1"]["R"] == {"n": 0}


def test_bands_beyond_a_slow_recorder_are_left_out():
    slow = night("R", seed=9, is_real=True)
    slow = slow._replace(eeg_uv=slow.eeg_uv[::4], sfreq=50.0)
    tree = comparison.compare_spectra({"Cz-A1": [night("S", seed=0)]}, [slow])
    assert set(tree["real"]["R"]["stages"]["N2"]["difference_db"]) == set(BANDS) - {"beta"}
    assert "beta" not in comparison.unrest_of(slow._replace(stages=np.full(360, 2)))["N2"]


def test_spindles_of_n2_are_counted_by_the_minute_and_measured():
    one = night("S", seed=0, spindles=[(200.0 + 10 * i, 1.0) for i in range(12)] + [(30.0, 1.0)])
    t = np.arange(len(one.eeg_uv)) / RATE
    for onset in 200.0 + 10 * np.arange(12):
        one.eeg_uv[:] += 60 * np.exp(-0.5 * ((t - onset - 0.5) / 0.2) ** 2) * np.sin(2 * np.pi * 13.5 * t)
    found = comparison.spindles_of(one, "simulator")
    assert found["per_minute"] == pytest.approx(12 / 3) and len(found["hz"]) == 12
    assert np.median(found["hz"]) == pytest.approx(13.5, abs=0.15)
    real = night("R", seed=1, is_real=True, spindles=[(300.0, 0.0)])
    rows = comparison.compare_spindles({"Cz-A1": [one]}, [real])
    assert rows["simulated, Cz-A1"]["n"] == 12 and rows["R, expert 1"]["marked_seconds"] is None
    assert rows["R, expert 1"]["per_minute"] == pytest.approx([1 / 3] * 3)


def test_slow_waves_are_shared_out_by_stage():
    one = night("S", seed=0, gain=0.01)
    t = np.arange(len(one.eeg_uv)) / RATE
    one.eeg_uv[:] += np.where(t >= 270, 60 * np.sin(2 * np.pi * t), 0)
    found = comparison.slow_wave_shares(one)
    assert found["W"] == 0 and found["N2"] == pytest.approx(0.5, abs=0.02)


def test_a_person_like_the_simulated_ones_lies_among_them_and_another_does_not():
    def eeg(seed: int, mixing: float) -> np.ndarray:
        rng = np.random.default_rng(seed)
        own, shared = rng.normal(0, 10, (128 * 60, 15)), rng.normal(0, 10, (128 * 60, 1))
        return own + mixing * shared * np.linspace(-1, 1, 15)

    simulated = [eeg(seed, 1.0) for seed in range(4)]
    like = comparison.compare_fields(simulated, eeg(9, 1.0), 128.0, SHARED_ELECTRODES)
    other = comparison.compare_fields(simulated, eeg(9, 5.0), 128.0, SHARED_ELECTRODES)
    name = "largest component's share"
    assert like["several_channels"][name]["auroc"] == pytest.approx(0.5, abs=0.2)
    assert other["several_channels"][name]["auroc"] > 0.99
    band = like["bands"]["4-8 Hz"]["correlation"]
    assert len(band["real"]) == len(like["edges_degrees"]) - 1
    np.testing.assert_allclose(band["real"], band["median"], atol=0.1)


def test_epochs_are_of_thirty_seconds_and_unknown_ones_are_left_out():
    stages = np.repeat([0, -1, 2], [100, 40, 220])
    found = comparison.epochs_of(night("S", seed=0, stages=stages))
    assert found.stage.tolist() == [0, 0, 0] + [2] * 7 and found.features.shape == (10, 5)  # that at 105 s is unknown
    assert (found.features[3:].mean(0) - found.features[:3].mean(0) > 1).all()  # log 4 of power


def test_stages_as_hard_on_both_sides_give_one_kappa_and_harder_ones_a_smaller():
    def person(seed: int, distance: float) -> Epochs:
        rng = np.random.default_rng(seed)
        stage = rng.permutation(np.repeat([0, 2, 3], 40))
        return Epochs(rng.normal(0, 1, (120, 5)) + distance * stage[:, None] / 3, stage)

    simulated = [person(seed, 2.0) for seed in range(8)]
    options = {"draws": 4, "rng": np.random.default_rng(0)}
    alike = comparison.compare_stages(simulated, [person(20 + i, 2.0) for i in range(4)], [0, 1, 2, 3], **options)
    harder = comparison.compare_stages(simulated, [person(20 + i, 0.5) for i in range(4)], [0, 2], **options)
    assert alike["real"] == pytest.approx(alike["simulated_matched"][1], abs=0.1)
    assert harder["real"] < harder["simulated_matched"][0] - 0.3
    assert len(harder["real_by_person"]) == len(harder["real_within_person"]) == 2
    assert alike["epochs_of_a_real_person"] == [40, 0, 40, 40, 0]
    assert np.sum(harder["real_confusion"]) == 240


def test_a_louder_person_is_told_by_level_and_by_nothing_else():
    simulated = [night(f"S{i}", seed=i, gain=1 + 0.02 * i) for i in range(8)]
    real = [night(f"R{i}", seed=50 + i, gain=3.0, is_real=True) for i in range(2)]
    rng = np.random.default_rng(0)
    windows = comparison.windows_of(simulated + real, rng)
    tree = comparison.tell_apart(windows, draws=8, rng=rng)
    assert set(tree["single"]) == {*LEVEL, *SHAPE}
    assert tree["single"]["standard deviation"]["auroc"] > 0.99 and tree["combined"]["level"]["auroc"] > 0.99
    assert tree["single"]["slope"]["auroc"] == pytest.approx(0.5, abs=0.15)
    assert tree["combined"]["shape"]["auroc"] < 0.75
    assert tree["windows"]["real"] == {"W": 90, "N1": 0, "N2": 90, "N3": 0, "R": 0}
    assert all(len(one["by_person"]) == 2 for one in tree["single"].values())


def test_traces_of_recorders_are_looked_for_without_a_filter():
    simulated = [night(f"S{i}", seed=i) for i in range(3)]
    real = night("R", seed=9, is_real=True)
    real = real._replace(eeg_uv=np.round(real.eeg_uv / 2) * 2 + 0.0)
    rng = np.random.default_rng(0)
    found = comparison.recorder_traces(comparison.windows_of([*simulated, real], rng, recorder=True))
    assert set(found) == set(RECORDER) and found["step of the values"]["auroc"] > 0.999
    assert found["repeated values"]["auroc"] > 0.999 and found["mains line"]["auroc"] == pytest.approx(0.5, abs=0.2)
