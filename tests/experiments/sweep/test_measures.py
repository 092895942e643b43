"""Figures of one model, compared with counts by hand and against the plain metrics."""

import math

import numpy as np
import pytest
from scipy import special

from experiments.sweep.measures import (
    FALSE_PER_HOUR,
    LEAST_PATIENTS,
    LEAST_POSITIVES,
    STRATA,
    covered_seconds,
    detections_begin,
    figures,
    too_few,
    within,
)
from experiments.sweep.predictions import ASLEEP, Predictions, Scored
from siamese_jax.evaluation import metrics
from siamese_jax.evaluation.statistics import draws
from tests.experiments.sweep.made_up import WINDOW_SECONDS, scored


def as_they_are(one, n_patients):
    found = figures(one, np.ones((1, n_patients)), window_seconds=WINDOW_SECONDS)
    return {stratum: {name: float(v[0]) for name, v in values.items()} for stratum, values in found.items()}


def predictions(onset, chance, *, patient=None, label=None, stage=None):
    n = len(onset)
    return Predictions(
        np.array(patient if patient is not None else ["a"] * n),
        np.array(onset, float),
        np.array(label if label is not None else [False] * n),
        np.array(stage if stage is not None else [0] * n, np.int32),
        special.logit(np.array(chance, float)),
    )


def test_adjacent_detected_windows_are_one_detection():
    #                    one     not  two: a gap    three: another recording, four: another patient
    onset = [0, 4, 8, 12, 20, 24, 0, 4, 8]
    chance = [0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.1]
    patient = ["a"] * 7 + ["b"] * 2
    begins = detections_begin(predictions(onset, chance, patient=patient), 0.5, window_seconds=4.0)
    assert begins.tolist() == [1, 0, 0, 1, 1, 0, 1, 1, 0]


def test_overlapping_windows_are_one_detection_and_cover_time_once():
    some = predictions([0, 1, 2, 3, 9, 0], [0.9, 0.9, 0.1, 0.9, 0.9, 0.9])
    assert detections_begin(some, 0.5, window_seconds=4.0).tolist() == [1, 0, 0, 1, 1, 1]
    assert covered_seconds(some, window_seconds=4.0).tolist() == [4, 1, 1, 1, 4, 4]  # 0 to 7, 9 to 13, 0 to 4


def test_nobody_is_nothing():
    nothing = predictions([], [])
    assert detections_begin(nothing, 0.5, window_seconds=4.0).tolist() == []
    assert covered_seconds(nothing, window_seconds=4.0).tolist() == []


def test_false_detections_per_hour_by_hand():
    # Threshold .5 reaches 8 of the 10 positives in validation. Patient a has an IED and does not count; b: 2 detections
    # in 5 windows, of which one begins in W and one in N2; c: none in 4 windows. 2 in 36 s = 200/h; W: 1 in 5 windows;
    # N2: 1 in 4 windows.
    validation = predictions(range(11), [0.9] * 7 + [0.5] + [0.05] * 3, patient=["v"] * 11, label=[True] * 10 + [False])
    test = predictions(
        [0, 4, 0, 4, 8, 12, 16, 0, 4, 8, 12],
        [0.9, 0.9, 0.6, 0.7, 0.2, 0.8, 0.1, 0.1, 0.2, 0.3, 0.4],
        patient=["a"] * 2 + ["b"] * 5 + ["c"] * 4,
        label=[True, False] + [False] * 9,
        stage=[0, 0, 0, 2, 0, 2, 2, 0, 0, 0, 2],
    )
    one = Scored("x", 0, 0, validation, test, 1, 1.0)
    found = figures(one, np.array([[1, 1, 1], [1, 2, 1], [3, 0, 0]]), window_seconds=4.0)
    rates = {name: found[name][FALSE_PER_HOUR] for name in ("all", "W", "N2", "N3")}
    assert rates["all"][:2] == pytest.approx([2 / 36 * 3600, 4 / 56 * 3600])
    assert rates["W"][0] == pytest.approx(1 / 20 * 3600) and rates["N2"][0] == pytest.approx(1 / 16 * 3600)
    assert math.isnan(rates["all"][2]) and math.isnan(rates["N3"][0])


def test_thresholds_come_from_validation_and_exact_sensitivities_from_the_test():
    one = scored("x", quality=2.0, rounded=2)
    test, validation = one.test, one.validation
    found = as_they_are(one, 12)["all"]
    best = metrics.max_f1_threshold(validation.probability, validation.label)
    assert found["f1"] == pytest.approx(metrics.confusion(test.probability, test.label, threshold=best).f1)
    for wanted in (0.8, 0.8211):
        for source, prefix in ((validation, "validation_"), (test, "")):
            threshold = metrics.threshold_at_sensitivity(source.probability, source.label, sensitivity=wanted)
            at = metrics.confusion(test.probability, test.label, threshold=threshold)
            for rate in ("specificity", "precision"):
                name = f"validation_{wanted:g}_{rate}" if prefix else f"{rate}_at_{wanted:g}"
                assert found[name] == pytest.approx(getattr(at, rate))
        assert found[f"validation_{wanted:g}_sensitivity"] != pytest.approx(wanted, abs=1e-6)


def test_specificity_at_a_sensitivity_is_at_the_highest_threshold_that_reaches_it():
    # Ten positives, .95 to .05 with a negative below each: .8211 needs nine of them, above which eight negatives lie.
    patient = np.repeat(["a", "b", "c"], [8, 6, 6])
    chance, label = np.linspace(0.95, 0.05, 20), np.tile([True, False], 10)
    test = predictions(np.arange(20) * 4, chance, patient=patient, label=label)
    one = Scored("x", 0, 0, test._replace(patient=np.repeat(["v"], 20)), test, 1, 1.0)
    found = as_they_are(one, 3)["all"]
    assert found["specificity_at_0.8211"] == pytest.approx(2 / 10)
    assert found["precision_at_0.8211"] == pytest.approx(9 / 17)
    assert found["specificity_at_0.8"] == pytest.approx(3 / 10)


def test_a_stage_has_the_figures_of_its_windows_and_resamples_those_of_copies():
    one = scored("x", quality=1.5, n_windows=200)
    drawn = draws(12, n_resamples=3, seed=0)
    found = figures(one, drawn, window_seconds=WINDOW_SECONDS)
    here = within(one.test, "N2")
    codes = np.unique(one.test.patient, return_inverse=True)[1]
    best = metrics.max_f1_threshold(one.validation.probability, one.validation.label)
    for i, times in enumerate(drawn):
        weights = times[codes] * here
        data = one.test.probability, one.test.label
        slow = {
            "auroc": metrics.auroc(*data, weights=weights),
            "auprc": metrics.auprc(*data, weights=weights),
            "brier": metrics.brier_score(*data, weights=weights),
            "calibration_error": metrics.expected_calibration_error(*data, weights=weights),
            "f1": metrics.confusion(*data, threshold=best, weights=weights).f1,
        }
        assert {name: found["N2"][name][i] for name in slow} == pytest.approx(slow, abs=1e-9)


def test_matched_auroc_of_all_is_that_of_the_stages_by_their_pairs():
    one = scored("x", quality=1.5, n_windows=200)
    one = one._replace(test=one.test._replace(stage=np.where(one.test.stage == 4, -1, one.test.stage)))
    won = pairs = 0
    for patient in np.unique(one.test.patient):
        for stage in range(4):
            here = (one.test.patient == patient) & (one.test.stage == stage)
            chance, label = one.test.probability[here], one.test.label[here]
            won += np.sum(chance[label][:, None] > chance[~label])
            pairs += label.sum() * (~label).sum()
    assert as_they_are(one, 12)["all"]["matched_auroc"] == pytest.approx(won / pairs)


def test_too_few_positives_or_patients_say_so():
    one = scored("x", quality=2.0, n_windows=200)
    rare = one.test.label & ((one.test.stage != 4) | (np.cumsum(one.test.label & (one.test.stage == 4)) < 4))
    few = (one.test.stage == 0) & (np.char.find(one.test.patient.astype(str), "T00") == 0)
    test = one.test._replace(label=rare, stage=np.where(rare & ~few & (one.test.stage == 0), 1, one.test.stage))
    assert too_few(test, within(test, "R")) == "3 positives in 1 patients"
    found = as_they_are(one._replace(test=test), 12)
    assert set(found["R"]) == {FALSE_PER_HOUR} and "auroc" in found["N2"]
    for least, patients in ((LEAST_POSITIVES - 1, LEAST_PATIENTS), (LEAST_POSITIVES, LEAST_PATIENTS - 1)):
        some = predictions(range(12), [0.5] * 12, label=[i < least for i in range(12)])
        some = some._replace(patient=np.array([f"p{i % patients}" for i in range(12)]))
        assert too_few(some, within(some, "all")) is not None


def test_sleep_is_every_stage_but_wake_and_sleep_of_no_known_stage():
    one = scored("x", quality=2.0)
    told = one.test._replace(stage=np.where(np.arange(len(one.test.stage)) % 7 == 0, -1, one.test.stage))
    known = told._replace(stage=np.where(told.stage > 0, ASLEEP, told.stage))  # and no more than that
    np.testing.assert_array_equal(within(told, "asleep"), np.isin(told.stage, [1, 2, 3, 4]))
    for name in ("all", "W", "asleep"):
        np.testing.assert_array_equal(within(known, name), within(told, name))
    assert not any(within(known, name).any() for name in ("N1", "N2", "N3", "R"))
    wide, narrow = (as_they_are(one._replace(test=test), 12) for test in (known, told))
    assert wide["asleep"]["auroc"] == narrow["asleep"]["auroc"]
    assert wide["asleep"]["matched_auroc"] != narrow["asleep"]["matched_auroc"]  # pairs within a stage are fewer


def test_validation_without_ieds_fixes_no_threshold():
    one = scored("x", quality=2.0)
    one = one._replace(validation=one.validation._replace(label=np.zeros_like(one.validation.label)))
    found = as_they_are(one, 12)["all"]
    assert math.isnan(found["f1"]) and math.isnan(found["validation_0.8_precision"])
    assert found["auroc"] > 0.5
    assert set(STRATA) == set(as_they_are(one, 12))
    assert math.isnan(found[FALSE_PER_HOUR])
