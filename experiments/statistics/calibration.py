"""Logistic regression on a few columns, by Newton's method: what recalibrates log-odds on validation patients.

Imports NumPy only.
"""

import numpy as np
from jaxtyping import Bool, Float, Float64

RIDGE = 1e-3
"""Penalty on squared coefficients, beside the sum of the windows' losses: keeps them finite where classes part
perfectly, and is nothing beside hundreds of windows."""
MAX_STEPS = 100


def fit_logistic(
    columns: Float[np.ndarray, "window column"], labels: Bool[np.ndarray, "window"]
) -> Float64[np.ndarray, "column"]:
    """Coefficients b of P(label) = sigmoid(columns @ b), of least cross-entropy.

    With the log-odds and a column of ones it is the recalibration of Platt (1999); with a column for each sleep stage
    in the place of the ones, a model that knows the stage as well.

    Args:
        columns: one row a window, finite.
        labels: what was there.

    Raises:
        ValueError: columns that are not finite.
    """
    wrong = ~np.isfinite(columns).all(1)
    if wrong.any():
        raise ValueError(f"{wrong.sum()} of {len(columns)} rows hold columns that are not finite")
    x, y = columns.astype(np.float64), labels.astype(np.float64)
    b = np.zeros(x.shape[1])
    for _ in range(MAX_STEPS):
        chance = 0.5 * (1 + np.tanh(x @ b / 2))
        gradient = x.T @ (chance - y) + RIDGE * b
        curvature = (x * (chance * (1 - chance))[:, None]).T @ x + RIDGE * np.eye(len(b))
        step = np.linalg.solve(curvature, gradient)
        b -= step
        if np.abs(step).max() < 1e-9:
            break
    return b
