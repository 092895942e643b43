"""Window-level metrics: curves, operating points, agreement, calibration.

Every metric is a pure function of scores, labels and `weights`. A weight is how often a window counts: 0
leaves it out (no label), 1 is the plain metric, and a bootstrap gives the number of times that the window's
patient was drawn. A metric that is not defined on its data (no positives, say) is NaN, without a warning.
"""

import math
from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Integer, Shaped

from siamese_jax.config.typed import quoted
from siamese_jax.files import finite

Scores = Float[np.ndarray, "batch"]
"""Larger means more likely positive: probabilities or logits."""
Labels = Shaped[np.ndarray, "batch"]
"""Positive above 0.5."""
Weights = Shaped[np.ndarray, "batch"] | None
"""How often each window counts, 0 or more; None is 1 for all."""
SENSITIVITIES: tuple[float, ...] = (0.80, 0.8211)
"""Where thresholds are fixed besides the one of maximal F1; 0.8211 is the published one of Siamese-ES."""

FALSE_PER_HOUR: tuple[float, ...] = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Rates of false events for which thresholds are fixed."""

MAX_F1, EVENTS_MAX_F1 = "max_f1", "events_max_f1"
"""Names of the operating points of maximal F1: of windows, and of events."""


def at_rate(false_per_hour: float) -> str:
    """Name of the operating point of so many false events an hour: `events_1_per_hour`."""
    return f"events_{false_per_hour:g}_per_hour"


# --- binary -----------------------------------------------------------------------------------------------


class Curve(NamedTuple):
    """What is detected at each threshold; a window counts as detected if its score is at or above it."""

    thresholds: Float64[np.ndarray, "threshold"]
    """The distinct scores, falling."""
    true_positives: Float64[np.ndarray, "threshold"]
    false_positives: Float64[np.ndarray, "threshold"]
    n_positives: float
    n_negatives: float

    @property
    def sensitivity(self) -> Float64[np.ndarray, "threshold"]:
        """True positives / positives."""
        return _ratio(self.true_positives, self.n_positives)

    @property
    def false_positive_rate(self) -> Float64[np.ndarray, "threshold"]:
        """False positives / negatives, which is 1 - specificity."""
        return _ratio(self.false_positives, self.n_negatives)

    @property
    def precision(self) -> Float64[np.ndarray, "threshold"]:
        """True positives / detected."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def f1(self) -> Float64[np.ndarray, "threshold"]:
        """Harmonic mean of sensitivity and precision; NaN without positives."""
        if self.n_positives == 0:
            return np.full_like(self.thresholds, np.nan)
        return 2 * self.true_positives / (self.true_positives + self.false_positives + self.n_positives)


def curve(scores: Scores, labels: Labels, *, weights: Weights = None) -> Curve:
    """The counts at every threshold that separates windows; ties are one threshold.

    Raises:
        ValueError: lengths that differ, a weight that is negative or not finite, a window that counts but has no score
            or no label (NaN).
    """
    scores, positive, weights = _selected(scores, labels, weights)
    order = np.argsort(-scores, kind="stable")
    scores, weights, positive = scores[order], weights[order], positive[order]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if scores.size else np.zeros(0, int)
    detected = np.cumsum(weights)[ends]
    true_positives = np.cumsum(weights * positive)[ends]
    n_positives = float(true_positives[-1]) if ends.size else 0.0
    n_negatives = float(detected[-1]) - n_positives if ends.size else 0.0
    return Curve(scores[ends], true_positives, detected - true_positives, n_positives, n_negatives)


def auroc(scores: Scores, labels: Labels, *, weights: Weights = None) -> float:
    """Area under the ROC curve: P(a positive scores above a negative), ties counting one half.

    NaN unless there are positives and negatives. Arguments and errors as for `curve`.
    """
    counts = curve(scores, labels, weights=weights)
    new_false = np.diff(counts.false_positives, prepend=0.0)
    twice_below = counts.true_positives + np.append(0.0, counts.true_positives[:-1])
    return _quotient(float(new_false @ twice_below), 2 * counts.n_positives * counts.n_negatives)


def auprc(scores: Scores, labels: Labels, *, weights: Weights = None) -> float:
    """Area under the precision-recall curve as average precision: the mean precision over positives.

    Ties are one step; chance level is `prevalence`; NaN without positives. Arguments and errors: see `curve`.
    """
    counts = curve(scores, labels, weights=weights)
    new_true = np.diff(counts.true_positives, prepend=0.0)
    return _quotient(float(new_true @ counts.precision), counts.n_positives)


def prevalence(labels: Labels, *, weights: Weights = None) -> float:
    """Share of positives among the windows that count; NaN if none does."""
    _, positive, weights = _selected(np.zeros(len(labels)), labels, weights)
    return _quotient(float(weights @ positive), float(weights.sum()))


class Confusion(NamedTuple):
    """Counts of windows at one threshold, and the rates that follow."""

    true_positives: float
    false_positives: float
    false_negatives: float
    true_negatives: float

    @property
    def sensitivity(self) -> float:
        """True positives / positives (recall)."""
        return _quotient(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def precision(self) -> float:
        """True positives / detected (positive predictive value)."""
        return _quotient(self.true_positives, self.true_positives + self.false_positives)

    @property
    def specificity(self) -> float:
        """True negatives / negatives."""
        return _quotient(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and precision; NaN without positives."""
        n_positives = self.true_positives + self.false_negatives
        if n_positives == 0:
            return math.nan
        return 2 * self.true_positives / (self.true_positives + self.false_positives + n_positives)


def confusion(scores: Scores, labels: Labels, *, threshold: float, weights: Weights = None) -> Confusion:
    """Counts where a score at or above `threshold` is a detection; NaN if that is NaN. Otherwise as for `curve`."""
    if math.isnan(threshold):
        return Confusion(math.nan, math.nan, math.nan, math.nan)
    scores, positive, weights = _selected(scores, labels, weights)
    detected = scores >= threshold
    true_positives = float(weights @ (detected & positive))
    false_positives = float(weights @ detected) - true_positives
    false_negatives = float(weights @ positive) - true_positives
    true_negatives = float(weights.sum()) - true_positives - false_positives - false_negatives
    return Confusion(true_positives, false_positives, false_negatives, true_negatives)


# --- operating points -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, why it was chosen, and what it gave on the data where it was fixed (not on test data)."""

    task: str
    criterion: str
    """Of windows `max_f1`, or `sensitivity_0.8` for the highest threshold that reaches that sensitivity; of events
    `events_max_f1`, or `events_1_per_hour` for the lowest threshold with at most that many false ones an hour."""
    threshold: float
    """Detected if the probability is at or above; NaN if the data had no positives."""
    sensitivity: float
    precision: float
    specificity: float
    f1: float
    prevalence: float
    n_windows: int
    false_per_hour: float = math.nan
    """False events an hour; NaN at a threshold of windows."""
    false_per_hour_limit: float = math.nan
    """Upper limit (one-sided, 95 %) of that rate in other recordings of such patients."""
    hours: float = math.nan
    """What both rest on."""

    @property
    def of_events(self) -> bool:
        """Whether it is a threshold of events, not of windows."""
        return self.criterion.startswith("events_")

    def rate_text(self) -> str:
        """The false events an hour in words; empty if they are not known."""
        if math.isnan(self.false_per_hour):
            return ""
        return (
            f"{self.false_per_hour:.2f} false events an hour in {self.hours:.2f} h,"
            f" 95 % upper limit {self.false_per_hour_limit:.2f}"
        )


def max_f1_threshold(scores: Scores, labels: Labels, *, weights: Weights = None) -> float:
    """The threshold of maximal F1, the higher of two equals; NaN without positives. As for `curve`."""
    counts = curve(scores, labels, weights=weights)
    if counts.n_positives == 0:
        return math.nan
    return float(counts.thresholds[np.argmax(counts.f1)])


def threshold_at_sensitivity(scores: Scores, labels: Labels, *, sensitivity: float, weights: Weights = None) -> float:
    """The highest threshold that detects at least this share of the positives; NaN without positives.

    Arguments and errors as for `curve`; a `sensitivity` outside (0, 1] is a ValueError too.
    """
    if not 0 < sensitivity <= 1:
        raise ValueError(f"sensitivity must be above 0 and at most 1, given {sensitivity}")
    counts = curve(scores, labels, weights=weights)
    if counts.n_positives == 0:
        return math.nan
    # Rounding must not ask for one positive more than 0.7 x 10 = 7.000000000000001 says.
    reached = counts.true_positives >= sensitivity * counts.n_positives * (1 - 1e-12)
    return float(counts.thresholds[np.argmax(reached)])


def operating_points(
    probabilities: Scores,
    labels: Labels,
    *,
    task: str,
    weights: Weights = None,
    sensitivities: Iterable[float] = SENSITIVITIES,
) -> tuple[OperatingPoint, ...]:
    """The point of maximal F1, then one for each sensitivity, all fixed on these (validation) windows.

    Arguments and errors as for `curve` and `threshold_at_sensitivity`.
    """
    thresholds = {MAX_F1: max_f1_threshold(probabilities, labels, weights=weights)}
    for wanted in sensitivities:
        thresholds[f"sensitivity_{wanted:g}"] = threshold_at_sensitivity(
            probabilities, labels, sensitivity=wanted, weights=weights
        )
    points = []
    for criterion, threshold in thresholds.items():
        counts = confusion(probabilities, labels, threshold=threshold, weights=weights)
        points.append(
            OperatingPoint(
                task=task,
                criterion=criterion,
                threshold=threshold,
                sensitivity=counts.sensitivity,
                precision=counts.precision,
                specificity=counts.specificity,
                f1=counts.f1,
                prevalence=prevalence(labels, weights=weights),
                n_windows=round(float(_checked_weights(weights, len(labels), len(labels)).sum())),
            )
        )
    return tuple(points)


def points_to_rows(points: Iterable[OperatingPoint]) -> list[dict[str, Any]]:
    """Operating points as JSON holds them; what is not defined is None."""
    return [finite(asdict(point)) for point in points]


def points_from_rows(rows: Any) -> tuple[OperatingPoint, ...]:
    """The operating points that `points_to_rows` gave, from JSON.

    Raises:
        ValueError: not a list of objects with the fields of OperatingPoint, their types and ranges.
    """
    if not isinstance(rows, list):
        raise ValueError(f"operating points must be a list, given {quoted(rows)}")
    return tuple(_point(row) for row in rows)


def _point(row: Any) -> OperatingPoint:
    kinds = {field.name: field.type for field in fields(OperatingPoint)}
    unbounded = {
        field.name for field in fields(OperatingPoint) if field.default is not MISSING
    }  # older files lack them
    if not isinstance(row, dict) or not set(kinds) - unbounded <= set(row) <= set(kinds):
        raise ValueError(f"one of the operating points must have the keys {list(kinds)}, given {quoted(row)}")
    # JSON has no NaN, and other programs write 1.0 as 1.
    values: dict[str, Any] = {name: math.nan if row.get(name) is None else row[name] for name in kinds}
    allowed = {float: (float, int), int: (int,), str: (str,)}
    wrong = [name for name, kind in kinds.items() if type(values[name]) not in allowed[kind]]
    if wrong:
        raise ValueError(f"one of the operating points has {wrong} of the wrong type: {quoted(row)}")
    most = {name: 1e9 if name in unbounded else 1 for name, kind in kinds.items() if kind is float}
    outside = [n for n, limit in most.items() if not (_is_nan(values[n]) or 0 <= values[n] <= limit)]
    if outside:
        raise ValueError(f"one of the operating points has {outside} outside its range: {quoted(row)}")
    return OperatingPoint(**values)


# --- multiclass -------------------------------------------------------------------------------------------


def confusion_matrix(
    predicted: Integer[np.ndarray, "batch"],
    labels: Integer[np.ndarray, "batch"],
    *,
    n_classes: int,
    weights: Weights = None,
) -> Float64[np.ndarray, "class class"]:
    """How often class `row` was called class `column`; `weights` as for `curve`.

    Raises:
        ValueError: lengths that differ, a negative weight, a class outside 0 to n_classes - 1 in a window
            that counts.
    """
    weights = _checked_weights(weights, len(labels), len(predicted))
    used = weights > 0
    pair = np.stack([labels[used], predicted[used]])
    if pair.size and (pair.min() < 0 or pair.max() >= n_classes):
        raise ValueError(f"classes must be 0 to {n_classes - 1}, given {pair.min()} to {pair.max()}")
    flat = np.bincount(pair[0] * n_classes + pair[1], weights=weights[used], minlength=n_classes**2)
    return flat.reshape(n_classes, n_classes).astype(np.float64)


def accuracy(matrix: Float64[np.ndarray, "class class"]) -> float:
    """Share of windows called what they are, from a confusion matrix; NaN if it is empty."""
    return _quotient(float(np.trace(matrix)), float(matrix.sum()))


def cohen_kappa(matrix: Float64[np.ndarray, "class class"]) -> float:
    """Agreement beyond chance, (observed - expected) / (1 - expected) (Cohen 1960), from a confusion matrix.

    NaN if the matrix is empty or both sides know one and the same class only.
    """
    total = float(matrix.sum())
    by_chance = float(matrix.sum(0) @ matrix.sum(1))
    return _quotient(total * float(np.trace(matrix)) - by_chance, total**2 - by_chance)


def class_f1(matrix: Float64[np.ndarray, "class class"]) -> Float64[np.ndarray, "class"]:
    """F1 of each class against the rest, from a confusion matrix; NaN if never true nor predicted."""
    return _ratio(2 * np.diag(matrix), matrix.sum(0) + matrix.sum(1))


def macro_f1(matrix: Float64[np.ndarray, "class class"]) -> float:
    """Mean of `class_f1` over the classes where it is defined."""
    values = class_f1(matrix)
    defined = values[~np.isnan(values)]
    return _quotient(float(defined.sum()), len(defined))


# --- calibration ------------------------------------------------------------------------------------------


def brier_score(probabilities: Scores, labels: Labels, *, weights: Weights = None) -> float:
    """Mean squared difference of probability and label (Brier 1950); 0 is best. As for `curve`."""
    probabilities, positive, weights = _selected(probabilities, labels, weights)
    return _quotient(float(weights @ (probabilities - positive) ** 2), float(weights.sum()))


def expected_calibration_error(
    probabilities: Scores, labels: Labels, *, n_bins: int = 10, weights: Weights = None
) -> float:
    """Mean |share of positives - mean probability| over bins of equal width, each by its windows; 0 best.

    Arguments and errors as for `curve`; a probability outside 0 to 1 is a ValueError too.
    """
    probabilities, positive, weights = _selected(probabilities, labels, weights)
    if probabilities.size and (probabilities.min() < 0 or probabilities.max() > 1):
        raise ValueError(f"probabilities must be 0 to 1, given {probabilities.min()} to {probabilities.max()}")
    bins = np.minimum((probabilities * n_bins).astype(int), n_bins - 1)
    excess = np.bincount(bins, weights=weights * (positive - probabilities), minlength=n_bins)
    return _quotient(float(np.abs(excess).sum()), float(weights.sum()))


# --- private ----------------------------------------------------------------------------------------------


def _selected(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None
) -> tuple[Float64[np.ndarray, "used"], Bool[np.ndarray, "used"], Float64[np.ndarray, "used"]]:
    """Scores, positives and weights of the windows that count."""
    weights = _checked_weights(weights, len(labels), len(scores))
    used = weights > 0
    scores, labels = scores[used].astype(np.float64), labels[used].astype(np.float64)
    for what, values in (("score", scores), ("label", labels)):
        bad = np.isnan(values)
        if bad.any():
            first = np.flatnonzero(used)[np.argmax(bad)]
            raise ValueError(f"{bad.sum()} of {bad.size} windows that count have no {what} (NaN), first window {first}")
    return scores, labels > 0.5, weights[used]


def _checked_weights(weights: np.ndarray | None, n_labels: int, n_scores: int) -> Float64[np.ndarray, "batch"]:
    weights = np.ones(n_labels) if weights is None else weights.astype(np.float64)
    if not n_labels == n_scores == len(weights):
        raise ValueError(
            f"each window needs a score, a label and a weight, given {n_scores}, {n_labels}, {len(weights)}"
        )
    if not np.all((weights >= 0) & (weights < np.inf)):
        wrong = weights[~((weights >= 0) & (weights < np.inf))]
        raise ValueError(f"weights must be 0 or more, given {wrong[0]}")
    return weights


def _ratio(numerator: np.ndarray, denominator: np.ndarray | float) -> Float64[np.ndarray, "..."]:
    """Elementwise quotient, NaN where the denominator is 0."""
    safe = np.where(np.equal(denominator, 0), np.nan, denominator)
    return numerator / safe


def _quotient(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
