"""What is counted once a patient gives on every resample what the slow metric gives with weights."""

import math

import numpy as np
import pytest

from experiments.statistics import patient_counts
from experiments.statistics.patient_counts import (
    count_patients,
    resampled_auroc,
    resampled_calibration,
    resampled_curves,
    resampled_matched_auroc,
)
from siamese_jax.evaluation import metrics
from siamese_jax.evaluation.statistics import draws, patient_bootstrap

N = 7
WANTED = (0.3, 0.8, 0.8211, 1.0)


def windows(*, seed=0, n_windows=40, rate=0.1, digits=1):
    """Patients in any order; with one digit nearly every score is shared, also by positives with negatives."""
    rng = np.random.default_rng(seed)
    patient = rng.permutation(np.repeat(np.arange(N), n_windows))
    label = rng.random(len(patient)) < rate
    chance = np.round(np.clip(rng.normal(0.3 + 0.3 * label + 0.03 * patient, 0.2), 0, 1), digits)
    return chance, label, patient


def same(fast, slow):
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("digits", "rate"), [(1, 0.1), (2, 0.5), (12, 0.1), (3, 0.008)])
def test_every_resample_equals_the_metrics_with_weights(digits, rate):
    chance, label, patient = windows(digits=digits, rate=rate, seed=digits)
    drawn = draws(N, n_resamples=60, seed=1)
    drawn[:N] = np.eye(N, dtype=int)  # each alone, who may have no positive
    counts = count_patients(chance, label, patient, n_patients=N)
    curves = resampled_curves(counts, drawn, sensitivities=WANTED)
    error, brier = resampled_calibration(chance, label, patient, drawn)
    weights = [times[patient] for times in drawn]
    same(resampled_auroc(counts, drawn), [metrics.auroc(chance, label, weights=w) for w in weights])
    same(curves.auprc, [metrics.auprc(chance, label, weights=w) for w in weights])
    same(error, [metrics.expected_calibration_error(chance, label, weights=w) for w in weights])
    same(brier, [metrics.brier_score(chance, label, weights=w) for w in weights])
    for i, wanted in enumerate(WANTED):
        slow = []
        for w in weights:
            threshold = metrics.threshold_at_sensitivity(chance, label, sensitivity=wanted, weights=w)
            at = metrics.confusion(chance, label, threshold=threshold, weights=w)
            slow.append((math.nan,) * 2 if math.isnan(threshold) else (at.specificity, at.precision))
        same(curves.specificity[i], [s for s, _ in slow])
        same(curves.precision[i], [p for _, p in slow])


def test_the_interval_is_that_of_patient_bootstrap():
    chance, label, patient = windows(digits=2)
    sample = resampled_auroc(count_patients(chance, label, patient, n_patients=N), draws(N, n_resamples=300, seed=4))
    slow = patient_bootstrap(metrics.auroc, patient, (chance, label), seed=4, n_resamples=300)
    assert np.quantile(sample, [0.025, 0.975]) == pytest.approx((slow.low, slow.high), abs=1e-9)


def test_a_resample_without_positives_is_undefined_and_the_next_is_not():
    chance, label, patient = np.array([0.9, 0.1, 0.8, 0.2]), np.array([1, 0, 0, 0]), np.array([0, 0, 1, 1])
    counts = count_patients(chance, label, patient, n_patients=2)
    curves = resampled_curves(counts, np.array([[0, 2], [1, 1]]), sensitivities=(0.8,))
    for values, whole in ((curves.auprc, 1), (curves.specificity[0], 1), (curves.precision[0], 1)):
        assert np.isnan(values[0]) and values[1] == whole
    assert np.isnan(resampled_auroc(counts, np.array([[0, 2]]))[0])


def test_rounding_asks_for_no_further_positive():
    assert 0.56 * 25 > 14
    chance, label = np.linspace(1, 0, 50), np.tile([1, 0], 25)
    counts = count_patients(chance, label, np.zeros(50, int), n_patients=1)
    assert resampled_curves(counts, np.ones((1, 1)), sensitivities=(0.56,)).precision == pytest.approx(14 / 27)


def test_chunks_change_nothing(monkeypatch):
    counts = count_patients(*windows(digits=3), n_patients=N)
    drawn = draws(N, n_resamples=50, seed=0)
    whole = resampled_curves(counts, drawn, sensitivities=WANTED)
    monkeypatch.setattr(patient_counts, "CHUNK", 7 * len(counts.true_positives))
    for one, other in zip(whole, resampled_curves(counts, drawn, sensitivities=WANTED), strict=True):
        assert one.shape == other.shape
        same(one, other)


def test_matched_auroc_counts_pairs_within_patient_and_cell_only():
    chance, label, patient = windows(digits=1, rate=0.4)
    cell = np.random.default_rng(0).integers(2, size=len(label))
    drawn = draws(N, n_resamples=20, seed=0)
    counted = [count_patients(chance[cell == c], label[cell == c], patient[cell == c], n_patients=N) for c in (0, 1)]
    slow = []
    for times in drawn:
        won = pairs = 0.0
        for p in range(N):
            for c in (0, 1):
                here = (patient == p) & (cell == c)
                above = chance[here & label][:, None] - chance[here & ~label]
                won += times[p] * (np.sum(above > 0) + np.sum(above == 0) / 2)
                pairs += times[p] * above.size
        slow.append(won / pairs)
    same(resampled_matched_auroc(counted, drawn), slow)


def test_who_it_is_gives_auroc_but_no_matched_auroc():
    patient = np.repeat(np.arange(N), 50)
    label = np.random.default_rng(0).random(len(patient)) < 0.1 * patient
    counts = count_patients(patient / N, label, patient, n_patients=N)
    assert resampled_auroc(counts, np.ones((1, N)))[0] > 0.75
    assert resampled_matched_auroc([counts], np.ones((1, N)))[0] == 0.5


def test_without_positives_nothing_is_defined():
    chance, label, patient = windows()
    counts = count_patients(chance, np.zeros_like(label), patient, n_patients=N)
    drawn = draws(N, n_resamples=5, seed=0)
    curves = resampled_curves(counts, drawn, sensitivities=WANTED)
    assert all(np.isnan(x).all() for x in (*curves, resampled_auroc(counts, drawn)))
    assert np.isnan(resampled_matched_auroc([counts], drawn)).all()
    assert np.isnan(resampled_matched_auroc([], drawn)).all()


def test_the_interval_of_an_auroc_covers_the_truth_about_as_often_as_it_says():
    # 30 patients whose windows are alike; the truth is measured on 3,000.
    def cohort(rng, n):
        patient = np.repeat(np.arange(n), 20)
        label = rng.random(len(patient)) < 0.3
        score = rng.normal(size=n)[patient] + rng.normal(label, 1.0)
        return score, label, patient

    truth = metrics.auroc(*cohort(np.random.default_rng(123), 3000)[:2])
    covered = 0
    for seed in range(200):
        counts = count_patients(*cohort(np.random.default_rng(seed), 30), n_patients=30)
        sample = resampled_auroc(counts, draws(30, n_resamples=200, seed=seed))
        low, high = np.quantile(sample, [0.05, 0.95])
        covered += low <= truth <= high
    assert 165 <= covered <= 192  # 180 of 200 by its own account


def test_bad_input_is_named():
    one = np.zeros(2, int)
    with pytest.raises(ValueError, match="1 of 2 windows have no score"):
        count_patients(np.array([0.1, np.nan]), np.zeros(2), one, n_patients=1)
    counts = count_patients(np.zeros(2), np.ones(2), one, n_patients=1)
    with pytest.raises(ValueError, match=r"given \[0.8, 80\]"):
        resampled_curves(counts, np.ones((1, 1)), sensitivities=(0.8, 80))
    with pytest.raises(ValueError, match="given 0.5 to 1.5"):
        resampled_calibration(np.array([0.5, 1.5]), np.zeros(2), one, np.ones((1, 1)))
