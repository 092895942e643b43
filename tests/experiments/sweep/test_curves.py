"""The figure's lines against hand counts, and a picture that shows every run."""

import matplotlib.image
import numpy as np
import pytest
from scipy import special

from experiments.sweep.curves import _look, draw_curves, mean_precision, mean_sensitivity, reliability
from experiments.sweep.predictions import Predictions
from siamese_jax.evaluation import metrics
from tests.experiments.sweep.made_up import scored


def predictions(chance, label):
    n = len(chance)
    return Predictions(
        np.repeat(["a"], n),
        np.arange(n) * 4.0,
        np.array(label, bool),
        np.zeros(n, np.int32),
        special.logit(np.array(chance)),
    )


STEPS = predictions([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [1, 0, 1, 0, 0, 1])
TIES = predictions([0.5] * 4, [1, 0, 0, 0])


def test_sensitivity_at_a_false_positive_rate_is_the_best_allowed():
    found = mean_sensitivity([STEPS], np.array([0.0, 0.3, 0.34, 0.9, 1.0]))
    assert found == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])
    assert mean_sensitivity([TIES], np.array([0.0, 0.99, 1.0])).tolist() == [0, 0, 1]
    assert mean_sensitivity([STEPS, TIES], np.array([0.34])) == pytest.approx([1 / 3])  # their mean


def test_precision_at_a_recall_is_at_the_highest_threshold_that_reaches_it():
    found = mean_precision([STEPS], np.array([0.1, 1 / 3, 0.34, 2 / 3, 1.0]))
    assert found == pytest.approx([1, 1, 2 / 3, 2 / 3, 1 / 2])
    assert mean_precision([STEPS, TIES], np.array([1.0])) == pytest.approx([3 / 8])


def test_lines_are_those_of_the_tables_operating_points():
    test = scored("x", quality=2.0, rounded=2).test
    threshold = metrics.threshold_at_sensitivity(test.probability, test.label, sensitivity=0.8211)
    slow = metrics.confusion(test.probability, test.label, threshold=threshold)
    assert mean_precision([test], np.array([0.8211])) == pytest.approx([slow.precision])
    assert mean_sensitivity([test], np.array([1 - slow.specificity + 1e-12])) == pytest.approx([slow.sensitivity])


def test_reliability_by_hand():
    probability, share, n = reliability([predictions([0.05, 0.07, 1.0, 0.92], [0, 1, 1, 1]), predictions([0.06], [0])])
    assert (probability[[0, 9]], share[[0, 9]]) == (pytest.approx([0.06, 0.96]), pytest.approx([1 / 3, 1]))
    assert n.tolist() == [1.5] + [0] * 8 + [1.0]
    assert np.isnan(share[1:9]).all()


def test_tests_without_both_labels_have_no_curve():
    empty = predictions([0.1, 0.2], [0, 0])
    assert np.isnan(mean_sensitivity([empty], np.array([0.5]))).all()
    assert mean_precision([empty, STEPS], np.array([1.0])) == pytest.approx([0.5])


def test_lines_differ():
    looks = {(look["color"], str(look["ls"])) for look in map(_look, range(64))}
    assert len(looks) == 64


def test_a_figure_of_nine_runs(tmp_path):
    runs = [scored(f"net{i}", quality=1 + 0.3 * i) for i in range(9)]
    nothing = runs[0]._replace(run="nothing", test=runs[0].test._replace(label=runs[0].test.label & False))
    path = draw_curves([*runs, nothing], tmp_path / "new" / "curves.png", reference="net8", title="SIMULATED")
    image = matplotlib.image.imread(path)[:, :, :3]
    assert image.shape[0] > 600 and image.shape[1] > 1200
    blue = np.all(np.abs(image - np.array([0x00, 0x72, 0xB2]) / 255) < 0.02, -1)
    thirds = np.array_split(blue, 3, axis=1)
    assert all(third.sum() > 30 for third in thirds), "the first network is in every panel"
    with pytest.raises(ValueError, match="no run was scored"):
        draw_curves([], tmp_path / "x.png", reference="net8", title="")
