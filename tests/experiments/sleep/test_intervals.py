"""Intervals: joined over gaps, and matched as often and as closely as trying every choice finds."""

import math

import numpy as np
import pytest

from experiments.sleep.intervals import count_intervals, find_intervals, match_intervals
from siamese_jax.evaluation.events import EventCounts


def spans(*pairs):
    return np.array(pairs, float).reshape(-1, 2)


def overlap(a, b):
    both = max(min(a[1], b[1]) - max(a[0], b[0]), 0.0)
    return both / (a[1] - a[0] + b[1] - b[0] - both)


@pytest.mark.parametrize("seed", range(40))
def test_intervals_are_matched_as_often_as_brute_force_finds_and_then_as_closely(seed):
    rng = np.random.default_rng(seed)
    detected, reference = (np.cumsum(rng.uniform(0.1, 1, (rng.integers(0, 6), 2)), 1) for _ in range(2))
    allowed = {(i, j): overlap(a, b) for i, a in enumerate(detected) for j, b in enumerate(reference)}
    allowed = {pair: share for pair, share in allowed.items() if share >= 0.2}

    def best(i, free):
        if i == len(detected):
            return (0, 0.0)
        found = [best(i + 1, free)]
        for j in free:
            if (i, j) in allowed:
                n, total = best(i + 1, free - {j})
                found.append((n + 1, total + allowed[i, j]))
        return max(found)

    pairs = match_intervals(detected, reference, least_overlap=0.2)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    n, total = best(0, frozenset(range(len(reference))))
    assert len(pairs) == n and sum(allowed[tuple(pair)] for pair in pairs) == pytest.approx(total)


def test_the_closest_pair_gives_way_where_that_makes_another_pair():
    # Greedily, 0-10 takes 1-10 (0.9), and 5-12 is left alone: 0-3 overlaps it nowhere.
    pairs = match_intervals(spans((0, 10), (5, 12)), spans((1, 10), (0, 3)), least_overlap=0.2)
    assert pairs.tolist() == [[0, 1], [1, 0]]


def test_nested_and_equal_intervals_match_once_and_by_their_overlap():
    inner = match_intervals(spans((0, 10)), spans((4, 5), (3, 7)), least_overlap=0.2)
    assert inner.tolist() == [[0, 1]]  # 0.1 is too little, 0.4 is enough
    assert len(match_intervals(spans((0, 1), (0, 1)), spans((0, 1)), least_overlap=1.0)) == 1
    assert len(match_intervals(spans((0, 1)), spans((1, 2)), least_overlap=1e-6)) == 0  # they only touch
    counts = count_intervals(spans((0, 1), (5, 6)), spans((0, 1)), least_overlap=0.2, hours=0.5)
    assert counts == EventCounts(1, 1, 0, 0.5)


@pytest.mark.parametrize(
    "bad", [{"least_overlap": 0.0}, {"detected": spans((1, 1))}, {"reference": spans((0, math.nan))}]
)
def test_impossible_intervals_and_limits_are_refused(bad):
    with pytest.raises(ValueError):
        match_intervals(**{"detected": spans((0, 1)), "reference": spans((0, 1)), "least_overlap": 0.2} | bad)


def test_stretches_are_joined_over_short_gaps_then_judged_by_length():
    logits = np.full(100, -8.0)
    logits[10:14] = logits[16:20] = logits[40] = logits[60:99] = 1.0
    given = {"frame_seconds": 0.1, "onset_seconds": 5.0, "threshold": 1.0}
    assert len(find_intervals(logits, **given)) == 4
    found = find_intervals(logits, **given, gap_seconds=0.2, least_seconds=0.5, most_seconds=3.0)
    np.testing.assert_allclose(found, [[5.95, 6.95]])  # a frame stands for half a step to each side
    logits[15] = math.nan
    assert len(find_intervals(logits, **given, gap_seconds=0.2)) == 4  # nothing is joined over a loss of signal
    assert find_intervals(logits[:0], **given).shape == (0, 2)
    with pytest.raises(ValueError, match="threshold a number"):
        find_intervals(logits, **given | {"threshold": math.nan})
    with pytest.raises(ValueError, match="least_seconds <= most_seconds"):
        find_intervals(logits, **given, least_seconds=2.0, most_seconds=1.0)
