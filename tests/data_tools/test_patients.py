"""Patients: how often their IEDs come, where from, and how they sleep."""

import numpy as np
import pytest

from data_tools import physiology
from data_tools.patients import draw_hypnogram, draw_profile, draw_regions
from siamese_jax.vocabulary import STAGES


def profile(region=None, seed=1):
    return draw_profile("SIM0001", region=region, seed=seed)


def test_sleep_activates_ieds_as_in_vepiset():
    for name, region in physiology.REGIONS.items():
        rates = profile(name).ied.per_minute
        asleep = np.mean([rates[stage] for stage in ("N1", "N2", "N3")])
        assert asleep / rates["W"] == pytest.approx(region.sleep_to_wake)
        assert rates["R"] < rates["W"] and rates["N3"] > rates["N2"]
    # 3.2: generalised 501 of 13,439 windows asleep and 72 of 11,775 awake.
    assert physiology.REGIONS["generalized"].sleep_to_wake == pytest.approx(6.097, abs=0.01)


def test_a_twentieth_to_an_eighth_of_the_windows_hold_an_ied():
    patients = draw_regions(300, ied_free=0.2, rng=np.random.default_rng(0))
    shares = []
    for seed, region in enumerate(patients):
        ied = profile(region, seed).ied
        rates = list(ied.per_minute.values()) if ied else [0.0]
        shares.append(np.mean(1 - np.exp(-np.array(rates) * 4 / 60)))
    assert 0.04 < np.mean(shares) < 0.12
    assert patients.count(None) == 60
    assert abs(patients.count("generalized") - 240 * 573 / 2516) <= 1


def test_a_short_recording_holds_several_stages_and_a_natural_night_has_longer_bouts():
    def bouts(compression):
        nights = [draw_hypnogram(960, compression=compression, rng=np.random.default_rng(i)) for i in range(5)]
        return np.mean([1 + sum(a != b for a, b in zip(night, night[1:], strict=False)) for night in nights])

    assert bouts(5.0) > 3 * bouts(1.0)
    for seed in range(30):
        assert len(set(draw_hypnogram(10, compression=5.0, rng=np.random.default_rng(seed)))) >= 3
    many = [stage for i in range(50) for stage in draw_hypnogram(20, compression=5.0, rng=np.random.default_rng(i))]
    for stage in STAGES:
        assert many.count(stage) > 0.04 * len(many)
