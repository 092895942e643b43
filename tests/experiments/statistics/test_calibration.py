import numpy as np
import pytest
from scipy.optimize import minimize

from experiments.statistics.calibration import RIDGE, fit_logistic


def drawn(coefficients, n=4000, seed=0):
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=(n, len(coefficients) - 1)), np.ones(n)])
    return x, rng.random(n) < 1 / (1 + np.exp(-x @ coefficients))


@pytest.mark.parametrize("apart", [False, True])
def test_it_finds_what_a_general_optimiser_finds(apart):
    x, y = drawn([1.5, -0.7, -2.0], n=500)
    if apart:
        y = x[:, 0] > 0.3

    def loss(b):
        z = x @ b
        return (np.logaddexp(0, z) - y * z).sum() + RIDGE / 2 * b @ b

    expected = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-6}).x
    np.testing.assert_allclose(fit_logistic(x, y), expected, rtol=1e-3, atol=1e-4)


def test_it_finds_the_coefficients_that_labels_were_drawn_with():
    x, y = drawn([2.0, -1.0, 0.5], n=40_000)
    np.testing.assert_allclose(fit_logistic(x, y), [2.0, -1.0, 0.5], atol=0.1)


@pytest.mark.parametrize("labels", [np.zeros(50, bool), np.ones(50, bool), np.arange(50) >= 25])
def test_classes_that_part_perfectly_leave_finite_coefficients(labels):
    x = np.column_stack([np.arange(50) - 24.5, np.ones(50)])
    fitted = fit_logistic(x, labels)
    assert np.isfinite(fitted).all()
    assert (((x @ fitted) > 0) == labels).all()


def test_log_odds_of_a_network_that_is_very_sure_are_as_good():
    x, y = drawn([1.0, -1.0], n=300)
    sure = x * [5000.0, 1.0]
    np.testing.assert_allclose(fit_logistic(sure, y) * [5000.0, 1.0], fit_logistic(x, y), rtol=1e-2)


def test_columns_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="1 of 2 rows"):
        fit_logistic(np.array([[np.nan], [1.0]]), np.ones(2, bool))
