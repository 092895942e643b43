"""Sleep stages in sequence: a hidden Markov model over a classifier's probabilities. Imports NumPy and SciPy only.

A scorer looks at an epoch and at what came before and after it; a classifier of windows looks at the window. What
stages usually follow one another makes up for part of the difference.
"""

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy import special


def transition_probabilities(
    sequences: list[Int[np.ndarray, "_"]], *, n_classes: int, pseudo_count: float = 0.5
) -> Float64[np.ndarray, "class class"]:
    """How often stage `row` was followed by stage `column`, as probabilities; every row sums to 1.

    Args:
        sequences: stages of recordings, in order of time; nothing is counted from one to the next. A stage below 0 is
            unknown, and what leads to it or away from it is not counted.
        n_classes: number of stages.
        pseudo_count: added to every count, so that what was never seen remains possible.

    Raises:
        ValueError: a stage of `n_classes` or more, a pseudo-count that is not above 0.
    """
    if not pseudo_count > 0 or any((np.asarray(s) >= n_classes).any() for s in sequences):
        raise ValueError(f"stages must be below n_classes={n_classes} and pseudo_count above 0, given {pseudo_count}")
    counts = np.full((n_classes, n_classes), pseudo_count, np.float64)
    for sequence in sequences:
        known = (sequence[:-1] >= 0) & (sequence[1:] >= 0)
        np.add.at(counts, (sequence[:-1][known], sequence[1:][known]), 1.0)
    return counts / counts.sum(1, keepdims=True)


def smoothed_stages(
    log_likelihoods: Float[np.ndarray, "time class"], transitions: Float[np.ndarray, "class class"]
) -> Float64[np.ndarray, "time class"]:
    """Probability of each stage at each time, given all times (forward-backward).

    Args:
        log_likelihoods: of what was seen, by stage, but for a constant a row: a classifier's log-probabilities, less
            the log of the shares that it was trained with if these are not to count. A row of zeros says nothing.
        transitions: from `transition_probabilities`, for steps of the same length.

    Returns:
        The posterior; every row sums to 1. Before the first time all stages are equally likely.

    Raises:
        ValueError: shapes that do not fit, rows of `transitions` that do not sum to 1.
    """
    n_classes = log_likelihoods.shape[1]
    if transitions.shape != (n_classes, n_classes) or not np.allclose(transitions.sum(1), 1):
        raise ValueError(f"transitions must be {n_classes} x {n_classes} and its rows sum to 1")
    with np.errstate(divide="ignore"):  # what is impossible has a log of -inf
        step = np.log(transitions)
    forward, backward = np.zeros(log_likelihoods.shape), np.zeros(log_likelihoods.shape)
    for t, seen in enumerate(log_likelihoods):
        before = _log_sum(forward[t - 1][:, None] + step, axis=0) if t else np.zeros(n_classes)
        forward[t] = _normalised(before + seen)
    for t in range(len(log_likelihoods) - 2, -1, -1):
        after = backward[t + 1] + log_likelihoods[t + 1]
        backward[t] = _normalised(_log_sum(step + after[None], axis=1))
    return np.exp(_normalised(forward + backward))


def _normalised(logs: Float[np.ndarray, "*time class"]) -> Float64[np.ndarray, "*time class"]:
    return logs - _log_sum(logs, axis=-1)[..., None]


def _log_sum(logs: Float[np.ndarray, "..."], *, axis: int) -> Float64[np.ndarray, "..."]:
    return np.asarray(special.logsumexp(logs, axis=axis))
