"""Stretches of time against the same question asked of every moment."""

import numpy as np
import pytest

from siamese_jax.recordings.intervals import common, holding, merged, without


def test_intervals_that_touch_are_joined() -> None:
    assert merged([(5, 1), (0, 2), (1, 0.5), (6, 1), (9, 1)]) == [(0, 2), (5, 2), (9, 1)]
    assert merged([]) == []


def test_what_is_cut_out_and_what_is_common() -> None:
    assert without([(0, 10), (20, 5)], [(2, 1), (9, 12), (30, 1)]) == [(0, 2), (3, 6), (21, 4)]
    assert without([(0, 10)], [(4, 0)]) == [(0, 10)]  # a moment cuts nothing
    assert without([(0, 10)], [(0, 10)]) == [] and without([(0, 10)], []) == [(0, 10)]
    assert common([(0, 10), (20, 5)], [(8, 14), (24, 9)]) == [(8, 2), (20, 2), (24, 1)]
    assert common([(0, 10)], [(10, 5)]) == [] and common([], [(0, 1)]) == []


@pytest.mark.parametrize("seed", range(5))
def test_every_moment_is_in_or_out_as_both_lists_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = (list(zip(rng.uniform(0, 90, 20), rng.uniform(0, 5, 20), strict=True)) for _ in range(2))
    moments = rng.uniform(0, 100, 500)

    def inside(intervals: list) -> np.ndarray:
        return np.any([(moments >= a) & (moments <= a + seconds) for a, seconds in intervals], axis=0)

    np.testing.assert_array_equal(holding(one, moments, seconds=0.0), inside(one))
    np.testing.assert_array_equal(inside(common(one, other)), inside(one) & inside(other))
    np.testing.assert_array_equal(inside(without(one, other)), inside(one) & ~inside(other))


def test_a_window_is_held_by_stretches_that_touch_and_by_no_two_apart() -> None:
    onsets = np.array([0.0, 0.1, 6.0, 9.0, 10.5, -0.1])
    assert holding([(0.0, 4.0), (4.0, 6.0), (10.5, 4.0)], onsets, seconds=4.0).tolist() == [
        True,
        True,
        True,
        False,
        True,
        False,
    ]
    assert holding([], onsets, seconds=4.0).tolist() == [False] * 6
    assert holding([(0.1, 0.2)], np.array([0.1]), seconds=0.1 + 0.1).item()  # however it is rounded
