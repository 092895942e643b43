"""How sure a metric is: the bootstrap over patients.

Windows of one patient are alike, so windows are not what varies: patients are. Imports NumPy only.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped


class Interval(NamedTuple):
    """A metric with its bootstrap interval, and how much it rests on."""

    value: float
    """On the data as they are."""
    low: float
    high: float
    level: float
    n_patients: int
    """Patients with at least one window that counts."""
    n_resamples: int
    n_resamples_valid: int
    """Resamples on which the metric is defined; the others are left out of the interval."""

    def __str__(self) -> str:
        n = f"{self.n_patients} patient{'s' * (self.n_patients != 1)}"
        if math.isnan(self.value):
            return f"not defined ({n})"
        if math.isnan(self.low):
            why = n if self.n_patients < 2 else f"all rests on one of {n}"
            return f"{self.value:.3f} [not defined ({why})]"
        undefined = self.n_resamples - self.n_resamples_valid
        text = f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}], {n}"
        return text + (f", undefined in {undefined} of {self.n_resamples} resamples" if undefined else "")


def patient_bootstrap(
    metric: Callable[..., float],
    patients: Shaped[np.ndarray, "batch"] | Sequence[str],
    arrays: tuple[Shaped[np.ndarray, "batch ..."], ...],
    *,
    seed: int,
    weights: Shaped[np.ndarray, "batch"] | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """The metric with a percentile interval from drawing whole patients with replacement.

    The metric is called as `metric(*arrays, weights=w)`: a resample is the same arrays with each window
    counting as often as its patient was drawn. For a paired comparison pass a metric that returns the
    difference of two. With few patients the interval is too narrow (below about 20 it covers visibly less
    than `level`), so `n_patients` belongs beside it. There is no interval where all rests on one patient: there is one
    alone, or without one of them the metric is not defined (the only one with a positive window).

    Args:
        metric: from `siamese_jax.evaluation.metrics`, or any function of the same shape; NaN where it is not
            defined.
        patients: whose window each is.
        arrays: what the metric takes, each with a row a window.
        seed: of the draws; equal seeds give the same draws of patients for every metric.
        weights: 0 leaves a window out, 1 takes it; patients without any window left are not drawn. Default
            all 1.
        n_resamples: how many draws.
        level: share of resamples within the interval.

    Returns:
        Value and interval, NaN where undefined.

    Raises:
        ValueError: lengths that differ, a level outside (0, 1), no resamples.
    """
    codes = np.unique(np.asarray(patients), return_inverse=True)[1]
    base = np.ones(len(codes)) if weights is None else np.asarray(weights, np.float64)
    lengths = [len(codes), len(base), *(len(array) for array in arrays)]
    if len(set(lengths)) > 1:
        raise ValueError(f"patients, weights and arrays must have a row a window, given lengths {lengths}")
    if not 0 < level < 1 or n_resamples < 1:
        raise ValueError(f"level must be in (0, 1) and n_resamples >= 1, given {level} and {n_resamples}")
    used = base > 0
    codes, arrays, base = codes[used], tuple(array[used] for array in arrays), base[used]
    drawn_from, codes = np.unique(codes, return_inverse=True)
    multiplicities = draws(len(drawn_from), n_resamples=n_resamples, seed=seed)
    # Few patients give few different draws: 6 patients have 462.
    different, counts = np.unique(multiplicities, axis=0, return_counts=True)
    values = np.array([metric(*arrays, weights=base * times[codes]) for times in different], np.float64)
    values = np.repeat(values, counts)
    valid = values[~np.isnan(values)]
    tail = (1 - level) / 2
    # Who is missing from a third of the resamples is seen there to be needed.
    alone = valid.size < n_resamples and _rests_on_one(metric, arrays, base, codes)
    defined = valid.size and len(drawn_from) > 1 and not alone
    low, high = np.quantile(valid, [tail, 1 - tail]) if defined else (np.nan, np.nan)
    value = float(metric(*arrays, weights=base))
    return Interval(value, float(low), float(high), level, len(drawn_from), n_resamples, valid.size)


def _rests_on_one(
    metric: Callable[..., float], arrays: tuple[np.ndarray, ...], weights: np.ndarray, codes: np.ndarray
) -> bool:
    """Whether the metric is not defined without some one of the patients, whom `codes` number."""
    return any(
        math.isnan(metric(*arrays, weights=weights * (codes != one))) for one in range(codes.max(initial=-1) + 1)
    )


def draws(n_patients: int, *, n_resamples: int, seed: int) -> Shaped[np.ndarray, "resample patient"]:
    """How often each patient was drawn, in each resample of as many as there are.

    `patient_bootstrap` draws these, from the patients with a window that counts, in the order of their names.
    """
    if n_patients == 0:
        return np.zeros((n_resamples, 0), np.int64)
    picks = np.random.default_rng(seed).integers(n_patients, size=(n_resamples, n_patients))
    flat = (picks + n_patients * np.arange(n_resamples)[:, None]).ravel()
    return np.bincount(flat, minlength=n_resamples * n_patients).reshape(n_resamples, n_patients)
