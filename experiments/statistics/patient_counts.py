"""Figures of a binary task on thousands of resamples of the patients at once.

A resample is how often each patient was drawn. Counts of each patient are taken once; a figure on all resamples
is then a product of matrices instead of a sort for each. Conventions and results are those of `metrics`, given
the number of draws as weights; a figure that is not defined on a resample is NaN there. Imports NumPy only.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Shaped

Drawn = Shaped[np.ndarray, "resample patient"]
"""How often each patient counts; a row of ones is the data as they are."""

CHUNK = 4_000_000
"""Numbers held at once for each [resample, threshold] array: 32 MB."""
BINS = 10
"""Of the calibration error, of equal width, as in `metrics.expected_calibration_error`."""


class PatientCounts(NamedTuple):
    """What ranking figures need of each patient; thresholds are the distinct scores of positives, falling.

    Between two of them no positive is detected anew, so neither precision at a sensitivity nor an area needs more.
    """

    true_positives: Float64[np.ndarray, "threshold patient"]
    """Positives at or above the threshold."""
    false_positives: Float64[np.ndarray, "threshold patient"]
    """Negatives at or above the threshold."""
    pairs_won: Float64[np.ndarray, "patient patient"]
    """Pairs of a positive of the row's patient with a lower negative of the column's; ties count one half."""
    n_positives: Float64[np.ndarray, "patient"]
    n_negatives: Float64[np.ndarray, "patient"]


def count_patients(
    scores: Shaped[np.ndarray, "window"],
    labels: Shaped[np.ndarray, "window"],
    patient: Int[np.ndarray, "window"],
    *,
    n_patients: int,
) -> PatientCounts:
    """Counts of each patient at every threshold where sensitivity rises.

    Args:
        scores: larger means more likely positive.
        labels: positive above 0.5.
        patient: whose window each is, 0 to n_patients - 1.
        n_patients: also of those without any window here.

    Raises:
        ValueError: a score that is NaN.
    """
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {len(scores)} windows have no score (NaN)")
    positive = np.asarray(labels) > 0.5
    rising = np.unique(scores[positive])
    n_thresholds = len(rising)
    reached = np.searchsorted(rising, scores, side="right")
    first = n_thresholds - reached  # the first falling threshold that detects the window; n_thresholds: none does
    tied = (reached > 0) & (rising[reached - 1] == scores) if n_thresholds else np.zeros(len(scores), bool)

    def table(windows: np.ndarray) -> np.ndarray:
        flat = np.bincount(
            first[windows] * n_patients + patient[windows], minlength=(n_thresholds + 1) * n_patients
        ).astype(np.float64)
        return flat.reshape(n_thresholds + 1, n_patients)

    new_true, new_false, at = table(positive), table(~positive), table(~positive & tied)[:-1]
    true_positives, false_positives = (np.cumsum(t, 0)[:-1] for t in (new_true, new_false))
    n_positives, n_negatives = new_true.sum(0), new_false.sum(0)
    won = new_true[:-1].T @ (n_negatives - false_positives + at / 2)
    return PatientCounts(true_positives, false_positives, won, n_positives, n_negatives)


def resampled_auroc(counts: PatientCounts, drawn: Drawn) -> Float64[np.ndarray, "resample"]:
    """`metrics.auroc` of each resample."""
    won = np.sum((drawn @ counts.pairs_won) * drawn, 1)
    return quotient(won, (drawn @ counts.n_positives) * (drawn @ counts.n_negatives))


def resampled_matched_auroc(cells: Sequence[PatientCounts], drawn: Drawn) -> Float64[np.ndarray, "resample"]:
    """AUROC of pairs within one patient and one cell (a sleep stage), over all such pairs, of each resample.

    The mean of the AUROCs of patient x cell, weighted by their pairs; those without both labels have none.
    """
    won = sum((np.diag(c.pairs_won) for c in cells), np.zeros(drawn.shape[1]))
    pairs = sum((c.n_positives * c.n_negatives for c in cells), np.zeros(drawn.shape[1]))
    return quotient(drawn @ won, drawn @ pairs)


class Curves(NamedTuple):
    """Figures of the precision-recall and ROC curves of each resample."""

    auprc: Float64[np.ndarray, "resample"]
    """As `metrics.auprc`."""
    specificity: Float64[np.ndarray, "sensitivity resample"]
    """At the highest threshold that reaches the sensitivity, as `metrics.threshold_at_sensitivity`."""
    precision: Float64[np.ndarray, "sensitivity resample"]
    """At the same threshold."""


def resampled_curves(counts: PatientCounts, drawn: Drawn, *, sensitivities: Sequence[float]) -> Curves:
    """Area under precision-recall, and specificity and precision at each sensitivity, of each resample.

    Raises:
        ValueError: a sensitivity outside (0, 1].
    """
    if not all(0 < wanted <= 1 for wanted in sensitivities):
        raise ValueError(f"each sensitivity must be above 0 and at most 1, given {list(sensitivities)}")
    step = max(1, CHUNK // max(1, len(counts.true_positives)))
    parts = [_curves(counts, drawn[i : i + step], sensitivities) for i in range(0, len(drawn), step)]
    return Curves(*(np.concatenate(column, -1) for column in zip(*parts, strict=True)))


def _curves(counts: PatientCounts, drawn: np.ndarray, sensitivities: Sequence[float]) -> Curves:
    n_positives, n_negatives = drawn @ counts.n_positives, drawn @ counts.n_negatives
    if not len(counts.true_positives):
        undefined = np.full((len(sensitivities), len(drawn)), np.nan)
        return Curves(np.full(len(drawn), np.nan), undefined, undefined)
    true_positives, false_positives = drawn @ counts.true_positives.T, drawn @ counts.false_positives.T
    # A patient that was not drawn adds thresholds at which nothing is new, or nothing is detected yet.
    precision = true_positives / np.maximum(true_positives + false_positives, 1e-300)
    new_true = np.diff(true_positives, axis=1, prepend=0.0)
    auprc = quotient(np.einsum("rt,rt->r", new_true, precision), n_positives)
    rows, specificity, exact = np.arange(len(drawn)), [], []
    for wanted in sensitivities:
        first = np.argmax(true_positives >= (wanted * n_positives * (1 - 1e-12))[:, None], 1)
        specificity.append(quotient(n_negatives - false_positives[rows, first], n_negatives))
        exact.append(precision[rows, first])
    defined = np.where(n_positives > 0, 1.0, np.nan)
    shape = len(sensitivities), len(drawn)
    return Curves(auprc, np.reshape(specificity, shape) * defined, np.reshape(exact, shape) * defined)


def resampled_calibration(
    probabilities: Shaped[np.ndarray, "window"],
    labels: Shaped[np.ndarray, "window"],
    patient: Int[np.ndarray, "window"],
    drawn: Drawn,
) -> tuple[Float64[np.ndarray, "resample"], Float64[np.ndarray, "resample"]]:
    """`metrics.expected_calibration_error` and `metrics.brier_score` of each resample.

    Raises:
        ValueError: a probability outside 0 to 1.
    """
    chance, positive = np.asarray(probabilities, np.float64), np.asarray(labels) > 0.5
    if chance.size and not (chance.min() >= 0 and chance.max() <= 1):
        raise ValueError(f"probabilities must be 0 to 1, given {chance.min()} to {chance.max()}")
    n_patients = drawn.shape[1]
    bins = np.minimum((chance * BINS).astype(int), BINS - 1)
    excess = patient_sums(positive - chance, patient * BINS + bins, n_patients=n_patients * BINS)
    squares = patient_sums((chance - positive) ** 2, patient, n_patients=n_patients)
    n_windows = drawn @ patient_sums(np.ones(len(chance)), patient, n_patients=n_patients)
    error = np.abs(drawn @ excess.reshape(n_patients, BINS)).sum(1)
    return quotient(error, n_windows), quotient(drawn @ squares, n_windows)


def patient_sums(
    values: Shaped[np.ndarray, "window"], patient: Int[np.ndarray, "window"], *, n_patients: int
) -> Float64[np.ndarray, "patient"]:
    """Sum of a value a window over the windows of each patient."""
    return np.bincount(patient, weights=values, minlength=n_patients)


def quotient(
    numerator: Float64[np.ndarray, "resample"], denominator: Float64[np.ndarray, "resample"]
) -> Float64[np.ndarray, "resample"]:
    """Elementwise quotient, NaN where the denominator is 0."""
    return numerator / np.where(denominator == 0, np.nan, denominator)
