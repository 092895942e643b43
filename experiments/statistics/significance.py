"""Tests of differences over folds, adjusted for their number, and an AUROC's interval that looks at windows alone.

Imports NumPy and SciPy only.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special


class CorrectedTest(NamedTuple):
    """A mean difference over folds, with what a t-test that knows of shared training data says."""

    mean: float
    low: float
    high: float
    p: float
    """Two-sided, of no difference."""
    n_folds: int


def corrected_difference(
    differences: Float[np.ndarray, "fold"], *, n_train: float, n_test: float, level: float = 0.95
) -> CorrectedTest:
    """The corrected resampled t-test (Nadeau & Bengio 2003, Machine Learning 52:239) for (repeated) folds.

    Folds train on much the same data, so their differences vary less than those of independent experiments: the
    variance of the mean of J is taken as (1/J + n_test / n_train) s^2, with J - 1 degrees of freedom. Seeds on one
    split are no folds: average over them first.

    Args:
        differences: of two models that were trained and tested on the same folds, one a fold.
        n_train: size of a fold's training set, in patients if patients are what is drawn.
        n_test: size of its test set, in the same unit.
        level: of the interval.

    Returns:
        Interval and p are NaN below two folds, or if all folds give exactly the same difference.

    Raises:
        ValueError: sizes that are not above 0, a level outside (0, 1).
    """
    if not (n_train > 0 and n_test > 0 and 0 < level < 1):
        raise ValueError(
            f"n_train and n_test must be above 0 and level in (0, 1), given {n_train}, {n_test} and {level}"
        )
    n_folds = len(differences)
    mean = float(np.mean(differences)) if n_folds else math.nan
    spread = float(np.std(differences, ddof=1)) if n_folds > 1 else 0.0
    if not spread > 1e-12 * float(np.max(np.abs(differences), initial=0.0)):  # rounding is no spread
        return CorrectedTest(mean, math.nan, math.nan, math.nan, n_folds)
    error = math.sqrt(1 / n_folds + n_test / n_train) * spread
    half = float(special.stdtrit(n_folds - 1, (1 + level) / 2)) * error
    p = 2 * float(special.stdtr(n_folds - 1, -abs(mean) / error))
    return CorrectedTest(mean, mean - half, mean + half, p, n_folds)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """The p of a family of tests, adjusted so that the chance of any false finding stays below it (Holm 1979).

    NaN is no test: it stays NaN and does not count.
    """
    tested = sorted((name for name in p if not math.isnan(p[name])), key=lambda name: p[name])
    adjusted, least = dict(p), 0.0
    for i, name in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - i) * p[name]))
        adjusted[name] = least
    return adjusted


def hanley_mcneil(auroc: float, *, n_positives: float, n_negatives: float, level: float = 0.95) -> tuple[float, float]:
    """Normal interval of an AUROC as if each window were a patient of its own (Hanley & McNeil 1982).

    It ignores that windows of a patient are alike, so it is too narrow; published intervals are often of this kind.

    Returns:
        Lower and upper limit, within 0 to 1; NaN without positives or negatives, or of an AUROC that is NaN.
    """
    if not (n_positives > 0 and n_negatives > 0) or math.isnan(auroc):
        return math.nan, math.nan
    both_above = auroc / (2 - auroc) - auroc**2
    both_below = 2 * auroc**2 / (1 + auroc) - auroc**2
    variance = auroc * (1 - auroc) + (n_positives - 1) * both_above + (n_negatives - 1) * both_below
    half = float(special.ndtri((1 + level) / 2)) * math.sqrt(variance / (n_positives * n_negatives))
    return max(0.0, auroc - half), min(1.0, auroc + half)
