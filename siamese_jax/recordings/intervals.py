"""Stretches of time as (onset, duration) in seconds: joined, cut out of one another, compared with windows."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float64

TOLERANCE_SECONDS = 1e-6
"""Onsets are sums of rounded decimals: what ends this close to where another begins touches it."""

Interval = tuple[float, float]
"""Onset and duration in seconds."""


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """Intervals in order of time, those that touch or overlap joined."""
    joined: list[Interval] = []
    for onset, duration in sorted(intervals):
        if joined and onset <= sum(joined[-1]) + TOLERANCE_SECONDS:
            joined[-1] = (joined[-1][0], max(sum(joined[-1]), onset + duration) - joined[-1][0])
        else:
            joined.append((onset, duration))
    return joined


def common(intervals: Iterable[Interval], others: Iterable[Interval]) -> list[Interval]:
    """What lies in both and has a duration, in order of time."""
    return _common(_edges(intervals), _edges(others))


def without(intervals: Iterable[Interval], holes: Iterable[Interval]) -> list[Interval]:
    """What of `intervals` lies outside `holes` and has a duration, in order of time."""
    cut = [edge for interval in _edges(holes) for edge in interval]
    outside = [-math.inf, *cut, math.inf]
    return _common(_edges(intervals), list(zip(outside[::2], outside[1::2], strict=True)))


def holding(
    intervals: Iterable[Interval], onsets: Float64[np.ndarray, "window"], *, seconds: float
) -> Bool[np.ndarray, "window"]:
    """Which windows of `seconds` from `onsets` on lie wholly in one of the intervals, joined; of 0 s: which moments."""
    edges = np.array(_edges(intervals), np.float64).reshape(-1, 2)
    if not len(edges):
        return np.zeros(len(onsets), bool)
    at = np.searchsorted(edges[:, 0], onsets + TOLERANCE_SECONDS, side="right") - 1
    return (at >= 0) & (onsets + seconds <= edges[at, 1] + TOLERANCE_SECONDS)


def _edges(intervals: Iterable[Interval]) -> list[tuple[float, float]]:
    """Start and stop of the joined intervals that have a duration."""
    return [(onset, onset + duration) for onset, duration in merged(i for i in intervals if i[1] > 0)]


def _common(edges: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]]) -> list[Interval]:
    found, i, j = [], 0, 0
    while i < len(edges) and j < len(others):
        start, stop = max(edges[i][0], others[j][0]), min(edges[i][1], others[j][1])
        if stop > start:
            found.append((start, stop - start))
        if edges[i][1] < others[j][1]:
            i += 1
        else:
            j += 1
    return found
