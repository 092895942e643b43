import math

import numpy as np
import pytest

from siamese_jax.evaluation.metrics import auroc, confusion
from siamese_jax.evaluation.statistics import patient_bootstrap


def mean(values, *, weights):
    return float(values @ weights / weights.sum()) if weights.sum() else math.nan


def cohort(n_patients=6, n_windows=50, seed=0):
    rng = np.random.default_rng(seed)
    patients = np.repeat([f"P{i}" for i in range(n_patients)], n_windows)
    level = np.repeat(rng.normal(size=n_patients), n_windows)
    return patients, level + 0.1 * rng.normal(size=len(patients))


def test_whole_patients_are_drawn():
    # A value that is constant in each patient: every resample's mean is then a mean of whole patients.
    seen = []

    def spy(values, *, weights):
        seen.append([set(weights[values == p].tolist()) for p in (0.0, 1.0, 2.0)])
        return 0.0

    values = np.repeat([0.0, 1.0, 2.0], [5, 1, 9])
    patient_bootstrap(spy, values.astype(str), (values,), seed=0)
    assert len(seen) > 5
    assert all(len(weights) == 1 for resample in seen for weights in resample)
    assert all(sum(w.copy().pop() for w in resample) == 3 for resample in seen)


def test_interval_equals_the_slow_bootstrap_that_copies_windows():
    patients, values = cohort()
    interval = patient_bootstrap(mean, patients, (values,), seed=3, n_resamples=400)
    draws = np.random.default_rng(3).integers(6, size=(400, 6))
    slow = [np.mean(np.concatenate([values[patients == f"P{i}"] for i in draw])) for draw in draws]
    low, high = np.quantile(slow, [0.025, 0.975])
    assert interval.value == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-9)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    # 40 patients, truth 0; the percentile bootstrap at 90 % should cover 85 to 94 % of 300 cohorts.
    covered = 0
    for seed in range(300):
        patients, values = cohort(n_patients=40, n_windows=2, seed=seed)
        interval = patient_bootstrap(mean, patients, (values,), seed=seed, n_resamples=200, level=0.9)
        covered += interval.low <= 0 <= interval.high
    assert 255 <= covered <= 282


def test_more_windows_of_the_same_patients_do_not_make_it_surer():
    patients, values = cohort(n_windows=20)
    once = patient_bootstrap(mean, patients, (values,), seed=0)
    ten = patient_bootstrap(mean, np.tile(patients, 10), (np.tile(values, 10),), seed=0)
    assert ten.high - ten.low == pytest.approx(once.high - once.low)


def test_undefined_resamples_are_counted_and_left_out():
    # Two patients of three hold the positives: a resample without both has no AUROC, chance (1/3)^3.
    patients = np.repeat(["a", "b", "c"], 4)
    labels = np.array([1, 0, 1, 0] * 2 + [0] * 4)
    interval = patient_bootstrap(auroc, patients, (np.linspace(1, 0, 12), labels), seed=1)
    undefined = interval.n_resamples - interval.n_resamples_valid
    assert undefined == pytest.approx(1000 / 27, abs=20)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert str(interval).endswith(f"3 patients, undefined in {undefined} of 1000 resamples")


def test_one_patient_alone_has_no_interval():
    labels = (np.arange(200) % 10 == 0).astype(float)
    scores = labels + np.random.default_rng(0).standard_normal(200)
    interval = patient_bootstrap(auroc, ["p1"] * 200, (scores, labels), seed=0)
    assert interval.value == auroc(scores, labels) and interval.n_patients == 1
    assert math.isnan(interval.low) and math.isnan(interval.high)
    assert str(interval) == f"{interval.value:.3f} [not defined (1 patient)]"


def test_where_all_rests_on_one_patient_there_is_no_interval():
    # Only `a` has positives: its sensitivity is the same in every resample that has it, however many others there are.
    patients, labels = np.repeat(list("abcdefgh"), 4), np.array([1, 0, 1, 0] + [0] * 28)
    scores = np.linspace(1, 0, 32)

    def sensitivity(scores, labels, *, weights):
        return confusion(scores, labels, threshold=0.95, weights=weights).sensitivity

    for metric in (auroc, sensitivity):
        interval = patient_bootstrap(metric, patients, (scores, labels), seed=0)
        assert not math.isnan(interval.value) and math.isnan(interval.low) and math.isnan(interval.high)
        assert str(interval).endswith("[not defined (all rests on one of 8 patients)]")
    labels[4] = 1  # of `b`
    assert not math.isnan(patient_bootstrap(auroc, patients, (scores, labels), seed=0).low)


def test_two_patients_have_an_interval_and_their_number_beside_it():
    interval = patient_bootstrap(mean, ["a", "b"], (np.array([0.0, 1.0]),), seed=0)
    assert str(interval) == "0.500 [0.000, 1.000], 2 patients"


def test_a_metric_that_is_defined_nowhere_has_no_interval():
    arrays = np.array([0.1, 0.2]), np.zeros(2)
    interval = patient_bootstrap(auroc, ["a", "b"], arrays, seed=0, n_resamples=50)
    assert interval.n_resamples_valid == 0
    assert all(math.isnan(x) for x in (interval.value, interval.low, interval.high))


def test_a_patient_without_a_label_is_not_drawn():
    patients, values = cohort(n_patients=4)
    weights = (patients != "P3").astype(np.float32)
    kept = weights > 0
    masked = np.where(kept, values, 1e9)
    left_out = patient_bootstrap(mean, patients, (masked,), weights=weights, seed=0)
    assert left_out == patient_bootstrap(mean, patients[kept], (values[kept],), seed=0)
    assert left_out.n_patients == 3


def test_the_seed_fixes_the_interval():
    patients, values = cohort()
    first, again, other = (patient_bootstrap(mean, patients, (values,), seed=s) for s in (0, 0, 1))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_wrong_lengths_and_levels_are_named():
    with pytest.raises(ValueError, match=r"given lengths \[2, 2, 3\]"):
        patient_bootstrap(mean, ["a", "b"], (np.zeros(3),), seed=0)
    with pytest.raises(ValueError, match="given 95 and 1000"):
        patient_bootstrap(mean, ["a", "b"], (np.zeros(2),), seed=0, level=95)
