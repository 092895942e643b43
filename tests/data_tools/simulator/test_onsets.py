"""Onsets come at their rates, in their stages, and a little clumped."""

import numpy as np
import pytest

from data_tools.simulator.onsets import CLUMPING, draw_onsets

STAGES = ("W", "N1", "N2", "N3", "R") * 400


def counts(onsets, n_epochs):
    return np.bincount((onsets / 30).astype(int), minlength=n_epochs)


def test_events_come_at_their_rate_and_in_their_stages():
    onsets = draw_onsets({"N1": 3.0, "N2": 1.0}, STAGES, 30.0 * len(STAGES), np.random.default_rng(0))
    assert (np.diff(onsets) >= 0).all()
    per_epoch = counts(onsets, len(STAGES))
    by_stage = {stage: per_epoch[np.array(STAGES) == stage].sum() for stage in set(STAGES)}
    assert by_stage["W"] == by_stage["N3"] == by_stage["R"] == 0
    assert by_stage["N1"] == pytest.approx(600, rel=0.15) and by_stage["N2"] == pytest.approx(200, rel=0.2)


def test_some_epochs_are_busier_than_a_constant_rate_would_have_it():
    hypnogram = ("N2",) * 4000
    per_epoch = counts(draw_onsets({"N2": 6.0}, hypnogram, 120000.0, np.random.default_rng(0)), 4000)
    # Mean m and variance m + m^2 / shape: the negative binomial distribution.
    assert per_epoch.mean() == pytest.approx(3, rel=0.05)
    assert per_epoch.var() == pytest.approx(3 + 9 / CLUMPING, rel=0.12)


def test_nothing_comes_after_the_end():
    for seconds in (1.0, 29.0, 45.0):
        onsets = draw_onsets({"W": 600.0}, ("W", "W"), seconds, np.random.default_rng(1))
        assert len(onsets) > 5 and 0 <= onsets.min() and onsets.max() < seconds
    assert not draw_onsets({}, ("W", "W"), 60.0, np.random.default_rng(1)).size
