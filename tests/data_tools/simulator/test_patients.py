"""Patients: what stays the same, and that it does not depend on the label."""

import dataclasses

import numpy as np
import pytest

from data_tools.simulator import physiology
from data_tools.simulator.head import LEAD_POSITIONS
from siamese_jax.vocabulary import STAGES
from tests.data_tools.simulator.scenes import profile


@pytest.fixture(scope="module")
def many():
    return [profile(seed=seed) for seed in range(400)]


def test_a_patient_is_the_same_with_and_without_epilepsy():
    for seed in range(20):
        without, with_ieds = profile(None, seed), profile("frontal", seed)
        assert without.ied is None and with_ieds.ied.region == "frontal"
        assert dataclasses.replace(with_ieds, ied=None) == without


def test_ages_and_breaches_are_those_of_the_cohort(many):
    ages = np.array([one.age_years for one in many])
    assert 24 < np.median(ages) < 30 and ages.min() >= 3 and ages.max() <= 87
    holes = [one.head.defect for one in many if one.head.defect]
    assert 0.01 < len(holes) / len(many) < 0.06
    for hole in holes:
        assert hole.centre in [LEAD_POSITIONS[name] for name in physiology.BREACH_SITES] and 1.5 <= hole.gain <= 3


def test_children_have_larger_and_slower_eegs_and_the_old_smaller_slow_waves(many):
    def median(of, low, high):
        return np.median([of(one) for one in many if low <= one.age_years < high])

    assert median(lambda one: one.rms_uv("W"), 3, 12) > 1.2 * median(lambda one: one.rms_uv("W"), 25, 60)
    assert median(lambda one: one.rhythms_hz["alpha"], 3, 8) + 0.6 < median(lambda one: one.rhythms_hz["alpha"], 18, 40)
    assert median(lambda one: one.slow_wave_uv, 50, 88) < 0.85 * median(lambda one: one.slow_wave_uv, 18, 30)
    for one in many:
        assert 7 < one.rhythms_hz["alpha"] < 11.5
        assert (one.rhythm_gain["youth"] > 0) == (5 <= one.age_years < 21)


def test_levels_are_near_the_published_ones_and_overlap(many):
    adults = [one for one in many if one.age_years >= 18]
    levels = {stage: np.array([one.rms_uv(stage) for one in adults]) for stage in STAGES}
    for stage, level in levels.items():
        assert np.median(level) == pytest.approx(physiology.RMS_UV[stage], rel=0.25)
        assert np.percentile(level, 90) > 1.8 * np.percentile(level, 10)
    assert np.median(levels["N3"]) > 1.4 * np.median(levels["N2"])
    assert np.percentile(levels["N3"], 15) < np.percentile(levels["N2"], 85)  # one's N3 is another's N2


def test_patients_differ_in_every_rhythm(many):
    for rhythm in physiology.RHYTHMS:
        hertz = [one.rhythms_hz[rhythm.name] for one in many]
        assert np.ptp(hertz) > 0.8 * np.ptp(rhythm.frequency_hz)
        assert np.std([np.log(one.rhythm_gain[rhythm.name]) for one in many if one.rhythm_gain[rhythm.name]]) > 0.3
