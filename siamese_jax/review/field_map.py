"""Potentials between electrodes: spherical splines (Perrin et al. 1989, Electroenceph Clin Neurophysiol 72:184)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from numpy.polynomial.legendre import legval

from siamese_jax.vocabulary import POSITIONS

ORDER, TERMS = 4, 30
SMOOTHING = 1e-7
"""Added to the spline's own values at the electrodes: noise of an electrode makes no peak of its own."""


def weights(electrodes: Sequence[str], size: int) -> Float64[np.ndarray, "point electrode"]:
    """What each electrode gives to each point of a map of `size` times `size` points, rows from the nose down.

    The map is the head from above, ears at its sides; points outside of the head are NaN. Electrodes at the rim of the
    head in `POSITIONS` lie at its equator, 90 degrees from Cz.
    """
    places = _on_sphere(np.array([POSITIONS[name] for name in electrodes]))
    axis = np.linspace(-1, 1, size)
    flat = np.stack([np.tile(axis, size), np.repeat(-axis, size)], 1)
    inside = np.hypot(*flat.T) <= 1
    n = len(electrodes)
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = _spline(places @ places.T) + SMOOTHING * np.eye(n)
    system[n, n] = 0
    solved = np.linalg.solve(system, np.eye(n + 1)[:, :n])
    out = np.full((size * size, n), np.nan)
    out[inside] = _spline(_on_sphere(flat[inside]) @ places.T) @ solved[:n] + solved[n]
    return out


def _on_sphere(flat: Float64[np.ndarray, "point 2"]) -> Float64[np.ndarray, "point 3"]:
    """From above: the distance from Cz along the head becomes the distance from the middle."""
    angle = np.hypot(*flat.T) * np.pi / 2
    around = np.arctan2(flat[:, 1], flat[:, 0])
    return np.stack([np.sin(angle) * np.cos(around), np.sin(angle) * np.sin(around), np.cos(angle)], 1)


def _spline(cosine: Float64[np.ndarray, "a b"]) -> Float64[np.ndarray, "a b"]:
    n = np.arange(1, TERMS + 1)
    return legval(np.clip(cosine, -1, 1), [0, *((2 * n + 1) / (n * (n + 1)) ** ORDER)]) / (4 * np.pi)
