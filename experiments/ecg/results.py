"""From every network's predictions to figures: per class, and differences between arms with two kinds of intervals.

A class's figures are those of all test windows of a repeat together, averaged over repeats: a fold alone has two or
three positives. A difference between arms is tested in two ways. The corrected t-test takes the mean over the rare
classes in each fold, and knows that folds share their training data. The bootstrap draws patients, and knows that
twelve positives are twelve people; it takes the networks as they are.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from experiments.ecg.networks import ALL, ARMS, RARE, SINGLE, Network
from experiments.ecg.records import Classes, Records, Split
from experiments.statistics.significance import corrected_difference, holm
from siamese_jax.evaluation import metrics
from siamese_jax.evaluation.statistics import patient_bootstrap
from siamese_jax.files import finite

LEAST_VALID = 0.5
"""Of the resamples in which a figure must be defined for its interval to be given."""
COMPARISONS = ((ALL, SINGLE), (ALL, RARE))
FIGURES = ("auprc", "f1")

Predictions = Mapping[tuple[int, int], Mapping[Network, Float32[np.ndarray, "window _class"]]]
"""By repeat and fold: each network's probabilities of the validation windows, then of the test windows."""


class Arm(NamedTuple):
    """What the networks of an arm predict for the windows that were tested; NaN and False where a class has no head.

    Attributes:
        probability: from the network that did not see the window.
        detected: at the threshold of maximal F1 on that network's validation windows.
    """

    probability: Float32[np.ndarray, "window repeat class"]
    detected: Bool[np.ndarray, "window repeat class"]


def collect(records: Records, splits: Sequence[Split], predictions: Predictions) -> dict[str, Arm]:
    """The predictions of each arm for the test windows; the validation windows decide thresholds alone."""
    n_repeats = 1 + max(split.repeat for split in splits)
    shape = (len(records.patients), n_repeats, len(records.classes))
    arms = {arm: Arm(np.full(shape, np.nan, np.float32), np.zeros(shape, bool)) for arm in ARMS}
    for split in splits:
        for network, found in predictions[split.repeat, split.fold].items():
            chosen, tested = np.split(found, [len(split.validation)])
            for column, c in enumerate(network.classes):
                threshold = metrics.max_f1_threshold(
                    chosen[:, column],
                    records.labels[split.validation, c],
                    weights=records.weights[split.validation, c],
                )
                arm = arms[network.arm]
                arm.probability[split.test, split.repeat, c] = tested[:, column]
                arm.detected[split.test, split.repeat, c] = tested[:, column] >= threshold  # never, if there is none
    return arms


def summarise(
    records: Records, classes: Classes, splits: Sequence[Split], arms: Mapping[str, Arm], *, n_resamples: int
) -> dict[str, Any]:
    """Every figure as a JSON-ready tree; what is not defined is None."""
    tested = _tested(splits)
    shown = {name: Arm(arm.probability[tested], arm.detected[tested]) for name, arm in arms.items()}
    labels, weights = records.labels[tested], records.weights[tested]
    rows = []
    for c in classes.every:
        n, positives = float(weights[:, c].sum()), float((labels * weights)[:, c].sum())
        row: dict[str, Any] = {
            "class": records.classes[c],
            "is_rare": c in classes.rare,
            "labelled": round(n),
            "positives": round(positives),
        }
        row["arms"] = {
            name: {figure: _mean(figure, arm, labels, weights, (c,)) for figure in FIGURES}
            for name, arm in shown.items()
            if not np.isnan(arm.probability[:, :, c]).any()
        }
        rows.append(row)
    means = {
        name: {figure: _mean(figure, arm, labels, weights, classes.rare) for figure in FIGURES}
        for name, arm in shown.items()
    }
    differences = [
        _difference(figure, [arms[name] for name in pair], records, classes, splits, n_resamples=n_resamples)
        | {"figure": figure, "arms": list(pair)}
        for pair in COMPARISONS
        for figure in FIGURES
    ]
    adjusted = holm({str(i): d["corrected"]["p"] for i, d in enumerate(differences)})
    for i, difference in enumerate(differences):
        difference["corrected"]["p_holm"] = adjusted[str(i)]
    return finite({"classes": rows, "rare_means": means, "differences": differences})


def thresholds(records: Records, classes: Sequence[int], arm: Arm) -> list[metrics.OperatingPoint]:
    """For a network trained on all: of each class, the threshold of maximal F1 on all out-of-fold probabilities."""
    points = []
    for c in classes:
        probability = arm.probability[:, :, c].ravel()
        tested = ~np.isnan(probability)
        repeats = arm.probability.shape[1]
        labels, weights = (np.repeat(x[:, c], repeats)[tested] for x in (records.labels, records.weights))
        points += metrics.operating_points(
            probability[tested], labels, task=records.classes[c], weights=weights, sensitivities=()
        )
    return points


# --- figures ---------------------------------------------------------------------------------------------------


def _mean(
    figure: str,
    arm: Arm,
    labels: Float32[np.ndarray, "window class"],
    weights: Float32[np.ndarray, "window class"],
    classes: Sequence[int],
) -> float:
    """Mean over repeats and over the classes in which it is defined."""
    values = [_figure(figure, arm, r, c, labels, weights) for r in range(arm.detected.shape[1]) for c in classes]
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def _figure(figure: str, arm: Arm, repeat: int, c: int, labels: np.ndarray, weights: np.ndarray) -> float:
    if figure == "auprc":
        return metrics.auprc(arm.probability[:, repeat, c], labels[:, c], weights=weights[:, c])
    detected = arm.detected[:, repeat, c].astype(np.float32)
    return metrics.confusion(detected, labels[:, c], threshold=0.5, weights=weights[:, c]).f1


def _tested(splits: Sequence[Split]) -> Int[np.ndarray, "window"]:
    """Every window that some split tests."""
    return np.unique(np.concatenate([split.test for split in splits]))


def _difference(
    figure: str, pair: Sequence[Arm], records: Records, classes: Classes, splits: Sequence[Split], *, n_resamples: int
) -> dict[str, Any]:
    """The first arm's mean over the rare classes minus the second's."""
    tested = _tested(splits)
    labels, weights = records.labels[tested], records.weights[tested]

    def gain(*arrays: np.ndarray, weights: np.ndarray, chosen: Sequence[int] = classes.rare) -> float:
        """`weights`: how often each window was drawn."""
        own, other, labels, looked = Arm(*arrays[:2]), Arm(*arrays[2:4]), arrays[4], arrays[5]
        drawn = looked * weights[:, None]
        return _mean(figure, own, labels, drawn, chosen) - _mean(figure, other, labels, drawn, chosen)

    def bootstrap(chosen: Sequence[int]) -> dict[str, Any]:
        arrays = (*(x[tested] for arm in pair for x in arm), labels, weights)
        metric: Callable[..., float] = partial(gain, chosen=chosen)
        found = patient_bootstrap(metric, records.patients[tested], arrays, seed=0, n_resamples=n_resamples)
        enough = found.n_resamples_valid >= LEAST_VALID * found.n_resamples
        return {
            "value": found.value,
            "low": found.low if enough else math.nan,
            "high": found.high if enough else math.nan,
        }

    by_fold = _by_fold(figure, pair, records, classes, splits)
    n_folds = len({split.fold for split in splits})
    test = corrected_difference(
        by_fold if n_folds > 1 else by_fold[:0],  # seeds on one split are no folds
        n_train=float(np.mean([len(set(records.patients[split.train])) for split in splits])),
        n_test=float(np.mean([len(set(records.patients[split.test])) for split in splits])),
    )
    return {
        "bootstrap": bootstrap(classes.rare),
        "corrected": test._asdict(),
        "by_fold": by_fold.tolist(),
        "by_class": {records.classes[c]: bootstrap((c,)) for c in classes.rare},
    }


def _by_fold(
    figure: str, pair: Sequence[Arm], records: Records, classes: Classes, splits: Sequence[Split]
) -> Float64[np.ndarray, "fold"]:
    """The difference in each fold of each repeat, over the rare classes that its test windows have."""
    found = []
    for split in splits:
        labels, weights = records.labels[split.test], records.weights[split.test]
        own = (Arm(*(x[split.test, split.repeat][:, None] for x in arm)) for arm in pair)
        left, right = (_mean(figure, arm, labels, weights, classes.rare) for arm in own)
        found.append(left - right)
    return np.array(found, np.float64)
