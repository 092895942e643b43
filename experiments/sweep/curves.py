"""One figure of a sweep: ROC, precision-recall and calibration of every run, means over folds and seeds."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float64
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from experiments.figures import COLOURS, write_figure
from experiments.sweep.measures import PUBLISHED
from experiments.sweep.predictions import Predictions, Scored
from siamese_jax.evaluation import metrics

FALSE_POSITIVE_RATES = np.geomspace(1e-3, 1, 301)
SENSITIVITIES = np.linspace(0.01, 1, 100)
BINS = 10
FEWEST = 10
"""Windows below which a bin of the calibration panel is not drawn: chance alone decides there."""
DASHES = ("-", "--", "-.", ":", (0, (6, 2)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 1, 2)))
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""With dashes they distinguish lines in grey."""


def draw_curves(scored: Sequence[Scored], path: Path, *, reference: str, title: str) -> Path:
    """Draw the test windows' ROC, precision-recall and calibration as one PNG; returns its path.

    Curves are averaged vertically: at each false-positive rate the sensitivity, and at each sensitivity the
    precision, of every fold and seed, then their mean.

    Args:
        scored: runs x folds x seeds, as for `experiments.sweep.summary.summarise`.
        path: of the PNG.
        reference: name of the run whose line is thick and black.
        title: what the data are and whether they are simulated.

    Raises:
        ValueError: nothing scored.
    """
    if not scored:
        raise ValueError("no run was scored")
    names = list(dict.fromkeys(s.run for s in scored))
    others = [name for name in names if name != reference]
    looks = {name: _look(i) for i, name in enumerate(others)}
    looks[reference] = {"color": "black", "ls": "-", "lw": 3, "marker": "o", "ms": 6}
    tests = {name: [s.test for s in scored if s.run == name] for name in sorted(names, key=lambda n: n == reference)}
    order = [name for name in (reference, *others) if name in tests]
    with matplotlib.rc_context({"font.size": 12.5, "axes.titlesize": 13}):
        figure = plt.figure(figsize=(15, 7.6), layout="constrained")
        grid = figure.add_gridspec(2, 3, height_ratios=(3.2, 1))
        _draw_roc(figure.add_subplot(grid[:, 0]), tests, looks)
        _draw_precision(figure.add_subplot(grid[:, 1]), tests, looks)
        _draw_calibration(figure.add_subplot(grid[0, 2]), figure.add_subplot(grid[1, 2]), tests, looks)
        figure.legend(
            [Line2D([], [], **looks[name]) for name in order],
            [f"{n}: AUROC {_area(metrics.auroc, tests[n])}, AUPRC {_area(metrics.auprc, tests[n])}" for n in order],
            loc="outside lower center",
            ncols=3,
            handlelength=3,
            columnspacing=1.2,
            fontsize=11,
            frameon=False,
        )
        figure.suptitle(title, fontsize=14)
        write_figure(figure, path)
    return path


def mean_sensitivity(tests: Sequence[Predictions], rates: Float64[np.ndarray, "rate"]) -> Float64[np.ndarray, "rate"]:
    """The highest sensitivity with at most each false-positive rate, mean over the tests that have both labels."""
    found = []
    for counts in _both_labels(tests):
        last = np.searchsorted(counts.false_positive_rate, rates, side="right")
        found.append(np.append(0.0, counts.sensitivity)[last])
    return np.mean(found, 0) if found else np.full(len(rates), np.nan)


def mean_precision(tests: Sequence[Predictions], wanted: Float64[np.ndarray, "rate"]) -> Float64[np.ndarray, "rate"]:
    """Precision at the highest threshold that reaches each sensitivity, mean over the tests that have both labels."""
    found = []
    for counts in _both_labels(tests):
        # Rounding must not ask for one positive more.
        found.append(counts.precision[np.searchsorted(counts.sensitivity, wanted * (1 - 1e-12), side="left")])
    return np.mean(found, 0) if found else np.full(len(wanted), np.nan)


def _both_labels(tests: Sequence[Predictions]) -> list[metrics.Curve]:
    found = [metrics.curve(test.probability, test.label) for test in tests]
    return [counts for counts in found if counts.n_positives and counts.n_negatives]


def reliability(tests: Sequence[Predictions]) -> tuple[Float64[np.ndarray, "bin"], ...]:
    """Mean probability, share of positives and number of windows a test, by bins of probability; NaN if empty."""
    chance = np.concatenate([test.probability for test in tests]).astype(np.float64)
    label = np.concatenate([test.label for test in tests])
    bins = np.minimum((chance * BINS).astype(int), BINS - 1)
    n, probability, positives = (np.bincount(bins, w, BINS) for w in (np.ones(len(bins)), chance, label * 1.0))
    some = np.where(n > 0, n, np.nan)
    return probability / some, positives / some, n / len(tests)


# --- panels -----------------------------------------------------------------------------------------------------


def _look(i: int) -> dict[str, Any]:
    """How the i-th line looks: 64 are different."""
    n = len(COLOURS)
    second = (i + i // n) % n
    return {"color": COLOURS[i % n], "ls": DASHES[second], "lw": 1.5, "marker": MARKS[second], "ms": 6}


def _draw_roc(axes: Axes, tests: dict[str, list[Predictions]], looks: dict[str, dict[str, Any]]) -> None:
    for i, (name, own) in enumerate(tests.items()):
        curve = mean_sensitivity(own, FALSE_POSITIVE_RATES)
        axes.plot(FALSE_POSITIVE_RATES, curve, markevery=(7 * i % 40, 40), **looks[name])
    axes.plot(FALSE_POSITIVE_RATES, FALSE_POSITIVE_RATES, color="grey", lw=0.8)
    axes.text(0.5, 0.42, "chance", color="grey", ha="right")
    axes.axhline(PUBLISHED, color="grey", lw=0.8, ls=":")
    axes.text(0.95, PUBLISHED - 0.01, f"{PUBLISHED:g}", color="grey", ha="right", va="top")
    axes.set(xscale="log", xlim=(1e-3, 1), ylim=(0, 1.02), title="ROC (rare false positives spread out)")
    axes.set(xlabel="false-positive rate = 1 - specificity", ylabel="sensitivity")
    axes.set_xticks([1e-3, 1e-2, 1e-1, 1], ["0.001", "0.01", "0.1", "1"])
    axes.grid(alpha=0.3)


def _draw_precision(axes: Axes, tests: dict[str, list[Predictions]], looks: dict[str, dict[str, Any]]) -> None:
    for i, (name, own) in enumerate(tests.items()):
        curve = mean_precision(own, SENSITIVITIES)
        axes.plot(SENSITIVITIES, curve, markevery=(2 * i % 15, 15), **looks[name])
    one = next(iter(tests.values()))
    chance = float(np.mean([test.label.mean() for test in one]))
    axes.axhline(chance, color="grey", lw=0.8)
    axes.text(0.01, chance + 0.01, f"prevalence {chance:.3f}", color="grey")
    axes.axvline(PUBLISHED, color="grey", lw=0.8, ls=":")
    axes.text(PUBLISHED - 0.01, 0.3, f"{PUBLISHED:g}", color="grey", ha="right")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), title="Precision and recall")
    axes.set(xlabel="recall = sensitivity", ylabel="precision")
    axes.grid(alpha=0.3)


def _draw_calibration(upper: Axes, lower: Axes, tests: dict[str, list[Predictions]], looks: dict[str, Any]) -> None:
    edges = np.linspace(0, 1, BINS + 1)
    for name, own in tests.items():
        probability, share, n = reliability(own)
        shown = n >= FEWEST
        upper.plot(probability[shown], share[shown], **looks[name])
        lower.stairs(np.maximum(n, 1e-9), edges, color=looks[name]["color"], ls=looks[name]["ls"], lw=looks[name]["lw"])
    upper.plot([0, 1], [0, 1], color="grey", lw=0.8)
    upper.set(xlim=(0, 1), ylim=(0, 1.02), title=f"Calibration (bins of {FEWEST} windows and more)")
    upper.set(ylabel="share with an IED")
    upper.tick_params(labelbottom=False)
    lower.set(xlim=(0, 1), yscale="log", xlabel="probability of an IED", ylabel="windows")
    lower.set_ylim(bottom=1)
    lower.yaxis.set_major_locator(LogLocator(numticks=5))
    for axes in (upper, lower):
        axes.grid(alpha=0.3)


def _area(metric: Callable[..., float], tests: Sequence[Predictions]) -> str:
    values = [metric(test.probability, test.label) for test in tests if 0 < test.label.sum() < len(test.label)]
    return f"{np.mean(values):.3f}" if values else "-"
