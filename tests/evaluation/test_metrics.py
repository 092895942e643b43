import itertools
import json
import math

import numpy as np
import pytest

from siamese_jax.evaluation.metrics import (
    Confusion,
    OperatingPoint,
    accuracy,
    auprc,
    auroc,
    brier_score,
    class_f1,
    cohen_kappa,
    confusion,
    confusion_matrix,
    curve,
    expected_calibration_error,
    macro_f1,
    max_f1_threshold,
    operating_points,
    points_from_rows,
    points_to_rows,
    prevalence,
    threshold_at_sensitivity,
)

SCORES = np.array([0.9, 0.8, 0.8, 0.6, 0.4, 0.4, 0.2])
LABELS = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0])


def tied_data(seed, n=40):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(np.float32)
    return (rng.integers(0, 8, n) / 8).astype(np.float32), labels


def test_published_confusion_gives_the_published_rates():
    # papers: vEpiSet's table, 1964 / 384 / 552 / 22549
    counts = Confusion(1964, 384, 552, 22549)
    assert round(counts.precision, 4) == 0.8365
    assert round(counts.sensitivity, 4) == 0.7806
    assert round(counts.f1, 4) == 0.8076
    assert counts.specificity == pytest.approx(22549 / 22933)


def test_f1_is_the_harmonic_mean_of_the_published_sensitivity_and_precision():
    # Siamese-ES: sensitivity .8211 and precision .7118 give F1 .7626, here as whole windows of 1e4 positives
    detected = 8211 / 0.7118
    assert round(Confusion(8211, detected - 8211, 10_000 - 8211, 1).f1, 4) == 0.7626


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_the_share_of_ordered_pairs_with_ties_at_one_half(seed):
    scores, labels = tied_data(seed)
    pairs = list(itertools.product(scores[labels == 1], scores[labels == 0]))
    wins = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs)
    assert auroc(scores, labels) == pytest.approx(wins / len(pairs), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_auroc_equals_mann_whitney_of_scipy(seed):
    from scipy.stats import mannwhitneyu

    scores, labels = tied_data(seed, n=200)
    positive, negative = scores[labels == 1], scores[labels == 0]
    statistic = mannwhitneyu(positive, negative).statistic
    assert auroc(scores, labels) == pytest.approx(statistic / (len(positive) * len(negative)), abs=1e-12)


def test_auprc_by_hand_with_ties_as_one_step():
    # thresholds .9: TP 1 of 1; .8: TP 2 of 3; .6: 2 of 4; .4: 3 of 6. Steps of 1/3 recall at .9, .8 and .4.
    assert auprc(SCORES, LABELS) == pytest.approx((1 / 1 + 2 / 3 + 3 / 6) / 3, abs=1e-12)


def test_auprc_of_a_constant_score_is_the_prevalence():
    assert auprc(np.full(7, 0.3), LABELS) == pytest.approx(prevalence(LABELS)) == pytest.approx(3 / 7)


def test_curve_counts_by_hand():
    counts = curve(SCORES, LABELS)
    assert counts.thresholds.tolist() == [0.9, 0.8, 0.6, 0.4, 0.2]
    assert counts.true_positives.tolist() == [1, 2, 2, 3, 3]
    assert counts.false_positives.tolist() == [0, 1, 2, 3, 4]
    assert (counts.n_positives, counts.n_negatives) == (3, 4)
    assert counts.false_positive_rate.tolist() == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(
    "metric",
    [
        auroc,
        auprc,
        brier_score,
        expected_calibration_error,
        max_f1_threshold,
        lambda s, y, weights=None: threshold_at_sensitivity(s, y, sensitivity=0.6, weights=weights),
        lambda s, y, weights=None: confusion(s, y, threshold=0.5, weights=weights).f1,
        lambda s, y, weights=None: prevalence(y, weights=weights),
        lambda s, y, weights=None: cohen_kappa(
            confusion_matrix((s * 4).astype(int), y.astype(int), n_classes=5, weights=weights)
        ),
    ],
)
def test_a_whole_weight_is_a_window_that_stands_there_so_often(metric):
    scores, labels = tied_data(7)
    weights = np.random.default_rng(8).integers(0, 4, len(scores))
    repeated = np.repeat(np.arange(len(scores)), weights)
    assert metric(scores, labels, weights=weights) == pytest.approx(
        metric(scores[repeated], labels[repeated]), abs=1e-12
    )


def test_a_window_of_weight_0_may_hold_nothing():
    weights = np.array([1, 1, 1, 0, 1, 1, 1.0])
    masked = np.where(weights == 0, np.nan, SCORES)
    kept = weights > 0
    assert auroc(masked, LABELS, weights=weights) == auroc(SCORES[kept], LABELS[kept])


@pytest.mark.parametrize(
    ("labels", "defined"),
    [(np.zeros(7), {"specificity", "precision"}), (np.ones(7), {"sensitivity", "precision", "f1", "auprc"})],
)
def test_what_is_not_defined_is_nan_without_a_warning(labels, defined):
    counts = confusion(SCORES, labels, threshold=0.5)
    values = {
        "auroc": auroc(SCORES, labels),
        "auprc": auprc(SCORES, labels),
        "sensitivity": counts.sensitivity,
        "specificity": counts.specificity,
        "precision": counts.precision,
        "f1": counts.f1,
    }
    assert {name for name, value in values.items() if not math.isnan(value)} == defined
    assert math.isnan(max_f1_threshold(SCORES, labels)) == (labels.sum() == 0)


def test_a_threshold_that_is_not_defined_has_no_rates():
    """Without positives there is no threshold; that nothing reaches it does not make its specificity 1."""
    point = operating_points(SCORES, np.zeros(7), task="ied", weights=np.array([1, 1, 1, 0, 1, 1, 1]))[0]
    rates = (point.threshold, point.sensitivity, point.precision, point.specificity, point.f1)
    assert all(map(math.isnan, rates))
    assert (point.prevalence, point.n_windows) == (0.0, 6)


def test_nothing_that_counts_is_nan_everywhere():
    none = np.zeros(7)
    matrix = confusion_matrix(LABELS.astype(int), LABELS.astype(int), n_classes=2, weights=none)
    values = [
        auroc(SCORES, LABELS, weights=none),
        auprc(SCORES, LABELS, weights=none),
        prevalence(LABELS, weights=none),
        brier_score(SCORES, LABELS, weights=none),
        expected_calibration_error(SCORES, LABELS, weights=none),
        accuracy(matrix),
        cohen_kappa(matrix),
        macro_f1(matrix),
        *operating_points(SCORES, LABELS, task="ied", weights=none)[0].__dict__.values(),
    ]
    assert [v for v in values if not (isinstance(v, float) and math.isnan(v))] == ["ied", "max_f1", 0]


def test_confusion_counts_a_score_at_the_threshold_as_detected():
    assert confusion(SCORES, LABELS, threshold=0.8) == Confusion(2, 1, 1, 3)


@pytest.mark.parametrize("seed", range(5))
def test_max_f1_threshold_beats_every_other(seed):
    scores, labels = tied_data(seed)
    best = max(confusion(scores, labels, threshold=float(t)).f1 for t in scores)
    assert confusion(scores, labels, threshold=max_f1_threshold(scores, labels)).f1 == best


@pytest.mark.parametrize("sensitivity", [0.1, 0.5, 0.7, 0.8, 0.8211, 1.0])
def test_threshold_at_sensitivity_is_the_highest_that_reaches_it(sensitivity):
    scores = np.linspace(0.05, 0.95, 10).astype(np.float32)
    labels = np.ones(10, np.float32)
    threshold = threshold_at_sensitivity(scores, labels, sensitivity=sensitivity)
    # of 10 positives it takes as many as the share rounded up
    assert confusion(scores, labels, threshold=threshold).true_positives == math.ceil(round(sensitivity * 10, 9))


def test_operating_points_say_what_they_gave_where_they_were_fixed():
    points = operating_points(SCORES.astype(np.float32), LABELS, task="ied")
    assert [p.criterion for p in points] == ["max_f1", "sensitivity_0.8", "sensitivity_0.8211"]
    best = points[0]
    assert best.threshold == float(np.float32(0.8))
    assert (best.sensitivity, best.precision, best.specificity) == (2 / 3, 2 / 3, 3 / 4)
    assert (best.task, best.n_windows, best.prevalence) == ("ied", 7, 3 / 7)
    assert points[1].threshold == float(np.float32(0.4))


def test_operating_points_survive_json_undefined_ones_included():
    points = operating_points(SCORES, LABELS, task="ied") + operating_points(SCORES, np.zeros(7), task="spindle")
    back = points_from_rows(json.loads(json.dumps(points_to_rows(points), allow_nan=False)))
    assert back[:3] == points[:3]
    assert math.isnan(back[3].threshold)
    assert repr(back) == repr(points)


GOOD = json.dumps(points_to_rows(operating_points(SCORES, LABELS, task="ied", sensitivities=())))


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[1]",
        '[{"task": "ied"}]',
        GOOD.replace('"ied"', "3"),
        GOOD.replace('"threshold": 0.8', '"threshold": "0.8"'),
        GOOD.replace('"n_windows": 7', '"n_windows": 7.5'),
        GOOD.replace('"f1"', '"F1"'),
        GOOD.replace('"false_per_hour": null', '"false_per_hour": -1.0'),
    ],
)
def test_points_from_rows_refuses_what_it_did_not_write(text):
    assert text != GOOD
    with pytest.raises(ValueError, match="operating points"):
        points_from_rows(json.loads(text))


def test_points_of_older_files_have_no_rate_and_rates_may_be_above_1():
    row = json.loads(GOOD)[0]
    older = {
        name: value for name, value in row.items() if name not in ("false_per_hour", "false_per_hour_limit", "hours")
    }
    assert repr(points_from_rows([older])) == repr(points_from_rows([row]))
    (point,) = points_from_rows([row | {"criterion": "events_5_per_hour", "false_per_hour": 4, "hours": 2.5}])
    assert point.of_events and (point.false_per_hour, point.hours) == (4, 2.5)


# Cohen 1960's layout: observed .70, by chance .5 x .6 + .5 x .4 = .50, kappa .40
TWO = np.array([[20.0, 5.0], [10.0, 15.0]])


def test_kappa_accuracy_and_f1_by_hand():
    assert accuracy(TWO) == pytest.approx(0.7)
    assert cohen_kappa(TWO) == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert class_f1(TWO).tolist() == pytest.approx([40 / 55, 30 / 45])
    assert macro_f1(TWO) == pytest.approx((40 / 55 + 30 / 45) / 2)


def test_confusion_matrix_has_the_truth_in_its_rows():
    predicted, labels = np.array([0, 1, 1, 2, 2]), np.array([0, 0, 1, 2, 1])
    assert confusion_matrix(predicted, labels, n_classes=3).tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 1]]


def test_macro_f1_leaves_out_a_class_that_nobody_names():
    matrix = np.zeros((3, 3))
    matrix[:2, :2] = TWO
    assert macro_f1(matrix) == pytest.approx(macro_f1(TWO))
    matrix[2, 0] = 5.0  # true, never predicted: F1 0, and it counts
    assert class_f1(matrix)[2] == 0.0


def test_kappa_is_zero_for_independent_calls_and_undefined_for_one_class():
    assert cohen_kappa(np.outer([3.0, 5, 2], [1.0, 4, 5])) == pytest.approx(0, abs=1e-12)
    assert math.isnan(cohen_kappa(np.array([[9.0, 0], [0, 0]])))


def test_brier_and_calibration_error_by_hand():
    probabilities, labels = np.array([0.05, 0.05, 0.95, 0.95]), np.array([0, 1, 1, 0])
    assert brier_score(probabilities, labels) == pytest.approx((2 * 0.05**2 + 2 * 0.95**2) / 4)
    # bins [0, .1): 0.5 against .05; [.9, 1]: 0.5 against .95; half of the windows each
    assert expected_calibration_error(probabilities, labels) == pytest.approx((0.45 + 0.45) / 2)


def test_calibration_error_of_certainty_lies_in_the_last_bin():
    # one bin: (1 - .95) and (0 - 1) of two windows add up before the absolute value
    assert expected_calibration_error(np.array([0.95, 1.0]), np.array([1, 0])) == pytest.approx(0.95 / 2)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: auroc(SCORES, LABELS, weights=-np.ones(7)), "weights must be 0 or more, given -1"),
        (lambda: auroc(np.where(SCORES == 0.6, np.nan, SCORES), LABELS), "first window 3"),
        (lambda: auroc(SCORES, np.where(SCORES == 0.6, np.nan, LABELS)), "1 of 7 windows that count have no label"),
        (lambda: auroc(SCORES, LABELS, weights=np.array([1, 1, np.inf, 1, 1, 1, 1])), "0 or more, given inf"),
        (lambda: auroc(SCORES, LABELS, weights=np.array([1, 1, np.nan, 1, 1, 1, 1])), "0 or more, given nan"),
        (lambda: threshold_at_sensitivity(SCORES, LABELS, sensitivity=1.2), "given 1.2"),
        (lambda: expected_calibration_error(SCORES * 2, LABELS), "0 to 1, given"),
        (
            lambda: confusion_matrix(np.array([5]), np.array([0]), n_classes=5),
            "classes must be 0 to 4, given 0 to 5",
        ),
    ],
)
def test_wrong_input_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_operating_point_is_frozen():
    point = operating_points(SCORES, LABELS, task="ied")[0]
    with pytest.raises(AttributeError, match="cannot assign"):
        point.threshold = 0.1
    assert isinstance(point, OperatingPoint)
