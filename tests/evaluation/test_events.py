import functools
import math

import numpy as np
import pytest

from siamese_jax.evaluation.events import (
    Event,
    EventCounts,
    count_events,
    find_events,
    froc,
    match_peaks,
    pool_counts,
)

FRAME = 0.05
QUIET = -8.0


def logits_with(bumps, n=200, quiet=QUIET):
    logits = np.full(n, quiet, np.float32)
    for frame, value in bumps.items():
        logits[frame] = value
    return logits


def find(logits, **changes):
    return find_events(logits, **{"frame_seconds": FRAME, "onset_seconds": 0.0, "threshold": 0.5} | changes)


def most_pairs(detected, reference, tolerance):
    """The size of the largest one-to-one matching, by trying every choice for each detected peak in turn."""

    @functools.cache
    def best(i, free):
        if i == len(detected):
            return 0
        fits = [j for j in free if abs(detected[i] - reference[j]) <= tolerance]
        return max([best(i + 1, free), *(1 + best(i + 1, free - {j}) for j in fits)])

    return best(0, frozenset(range(len(reference))))


@pytest.mark.parametrize("seed", range(60))
def test_matching_is_as_large_as_brute_force_finds(seed):
    rng = np.random.default_rng(seed)
    detected, reference = rng.uniform(0, 1, rng.integers(0, 8)), rng.uniform(0, 1, rng.integers(0, 8))
    pairs = match_peaks(detected, reference, tolerance_seconds=0.12)
    assert len(pairs) == most_pairs(tuple(detected), tuple(reference), 0.12)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    assert np.all(np.abs(detected[pairs[:, 0]] - reference[pairs[:, 1]]) <= 0.12)


@pytest.mark.parametrize("seed", range(5))
def test_matching_is_as_large_as_scipy_finds_on_longer_trains(seed):
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(seed)
    detected, reference = rng.uniform(0, 30, 100), rng.uniform(0, 30, 120)
    fits = np.abs(detected[:, None] - reference) <= 0.2
    rows, columns = linear_sum_assignment(fits, maximize=True)
    assert len(match_peaks(detected, reference, tolerance_seconds=0.2)) == fits[rows, columns].sum()


def test_taking_the_nearest_would_lose_a_pair_here():
    # 1.00 is nearest to 1.04, but then 1.08 has no partner: 1.00-0.92 and 1.08-1.04 both fit.
    pairs = match_peaks(np.array([1.0, 1.08]), np.array([0.92, 1.04]), tolerance_seconds=0.1)
    assert pairs.tolist() == [[0, 0], [1, 1]]


def test_tolerance_includes_its_edge_in_decimal_seconds():
    assert len(match_peaks(np.array([0.8]), np.array([0.7]), tolerance_seconds=0.1)) == 1
    assert len(match_peaks(np.array([0.801]), np.array([0.7]), tolerance_seconds=0.1)) == 0


def test_one_detection_over_a_train_of_spikes_matches_one_spike():
    # 3-Hz run: overlap scoring would call it all found
    train = np.arange(30) / 3
    counts = count_events(np.array([5.0]), train, tolerance_seconds=0.1, hours=1.0)
    assert counts == EventCounts(1, 0, 29, 1.0)


def test_event_rates_by_hand_and_pooled():
    counts = pool_counts([EventCounts(3, 1, 1, 0.5), EventCounts(1, 2, 2, 1.5)])
    assert counts == EventCounts(4, 3, 3, 2.0)
    assert counts.sensitivity == counts.precision == counts.f1 == pytest.approx(4 / 7)
    assert counts.false_detections_per_hour == 1.5
    nothing = pool_counts([])
    assert all(math.isnan(x) for x in (nothing.sensitivity, nothing.precision, nothing.f1))
    assert math.isnan(nothing.false_detections_per_hour)


@pytest.mark.parametrize("height", [0.5, 3.0, 12.0])
def test_one_hot_frame_is_one_event_at_its_time(height):
    # The sum of odds over a span has a flat top of the span's width: neither twice, nor at its edge.
    (event,) = find(logits_with({100: height}), onset_seconds=20.0)
    assert event.peak_seconds == pytest.approx(25.0)
    assert event.duration_seconds == pytest.approx(FRAME)
    assert event.onset_seconds == pytest.approx(25.0 - FRAME / 2)


def test_probability_is_that_of_the_summed_odds_within_the_span():
    bumps = {97: -1.0, 99: 0.2, 100: 0.5, 103: -0.3, 104: -0.3}  # 104 lies 0.2 s away: outside
    (event,) = find(logits_with(bumps, quiet=-np.inf))
    odds = sum(math.exp(bumps[frame]) for frame in (97, 99, 100, 103))
    assert event.probability == pytest.approx(odds / (1 + odds), rel=1e-6)


def test_frames_that_are_each_below_the_threshold_reach_it_together():
    three = {99: -0.8, 100: -0.5, 101: -0.8}
    assert len(find(logits_with(three))) == 1
    assert find(logits_with({100: -0.5})) == ()


def test_a_window_with_one_event_has_the_event_probability():
    # The window's logit is the log-sum-exp of its frames; here all its odds lie within one span.
    logits = logits_with({100: 0.7, 101: 0.1}, quiet=-40.0)
    (event,) = find(logits)
    window = np.logaddexp.reduce(logits.astype(float))
    assert event.probability == pytest.approx(1 / (1 + math.exp(-window)), abs=1e-12)


@pytest.mark.parametrize(("apart", "n_events"), [(2, 1), (3, 1), (4, 2), (10, 2)])
def test_of_peaks_closer_than_the_separation_the_highest_stays(apart, n_events):
    events = find(logits_with({100: 2.0, 100 + apart: 3.0}), min_separation_seconds=0.2)
    assert len(events) == n_events
    assert events[-1].peak_seconds == pytest.approx((100 + apart) * FRAME)


def test_a_removed_peak_removes_no_other():
    # 3 removes 2 beside it; 1 lies close to 2 only, and stays.
    events = find(logits_with({100: 3.0, 103: 2.0, 106: 1.0}))
    assert [round(e.peak_seconds / FRAME) for e in events] == [100, 106]


@pytest.mark.parametrize("at", [0, 199])
def test_an_event_at_the_end_of_the_signal_is_found_and_stays_inside(at):
    (event,) = find(logits_with({at: 2.0}))
    assert event.peak_seconds == pytest.approx(at * FRAME)
    assert event.onset_seconds >= 0
    assert event.onset_seconds + event.duration_seconds <= 199 * FRAME + 1e-9


def test_duration_is_where_odds_are_above_half_of_the_peak():
    half = 3.0 - math.log(2)
    bumps = {97: half - 0.01, 98: half + 0.01, 99: 2.9, 100: 3.0, 101: half + 0.01, 102: half - 0.01}
    (event,) = find(logits_with(bumps))
    assert event.onset_seconds == pytest.approx(97.5 * FRAME)
    assert event.duration_seconds == pytest.approx(4 * FRAME)


def test_events_on_one_hill_divide_it_at_the_lowest_frame():
    # Everywhere above half of both peaks: without the division each would cover the other.
    first, second = find(logits_with({100: 5.0, 101: 4.9, 102: 4.6, 103: 4.7, 104: 4.9, 105: 4.95}))
    assert first.onset_seconds + first.duration_seconds == pytest.approx(101.5 * FRAME)
    assert second.onset_seconds == pytest.approx(101.5 * FRAME)
    assert second.duration_seconds == pytest.approx(4 * FRAME)


def test_a_plateau_is_one_event_in_its_middle():
    (event,) = find(logits_with(dict.fromkeys(range(80, 121), 4.0)))
    assert event.peak_seconds == pytest.approx(100 * FRAME)
    assert event.duration_seconds == pytest.approx(41 * FRAME)


def test_nothing_crosses_a_gap():
    # Below the threshold on both sides of one missing frame: without the gap they would add up.
    logits = logits_with({99: -0.5, 100: -0.6, 101: -0.5})
    assert len(find(logits)) == 1
    logits[100] = np.nan
    assert find(logits) == ()
    # Nor does a duration, nor the removal of the lower of two.
    logits = logits_with({98: 3.0, 99: 3.1, 101: 3.2, 102: 3.0})
    logits[100] = np.nan
    before, after = find(logits)
    assert before.onset_seconds + before.duration_seconds <= 99 * FRAME + 1e-9
    assert after.onset_seconds >= 101 * FRAME - 1e-9


def test_each_side_of_a_gap_is_analysed_as_if_alone():
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 2, 300).astype(np.float32)
    logits[140:150] = np.nan
    left, right = find(logits[:140]), find(logits[150:], onset_seconds=150 * FRAME)
    assert len(left) > 5
    np.testing.assert_allclose(find(logits), left + right, atol=1e-9)


def test_one_frame_a_window_gives_windows_as_events():
    # Logits per window at a hop of 1 s: every maximum stands for itself, whatever its span.
    events = find(logits_with({10: 1.0, 20: 2.0}), frame_seconds=1.0, onset_seconds=2.0)
    assert [e.peak_seconds for e in events] == [12.0, 22.0]


@pytest.mark.parametrize("logits", [np.zeros(0), np.full(5, np.nan), np.full(50, QUIET)])
def test_no_signal_or_no_event_is_no_event(logits):
    assert find(logits) == ()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"threshold": 0.0}, "threshold must be a probability between 0 and 1, given 0.0"),
        ({"threshold": math.nan}, "given nan"),
        ({"frame_seconds": 0.0}, "frame_seconds must be positive"),
        ({"span_seconds": 0.4}, "more than half of span_seconds"),
    ],
)
def test_impossible_settings_are_named(changes, match):
    with pytest.raises(ValueError, match=match):
        find(logits_with({}), **changes)


def test_froc_by_hand():
    events = [
        [Event(0.9, 1.0, 0.1, 0.9), Event(4.9, 5.0, 0.1, 0.6)],
        [Event(1.9, 2.0, 0.1, 0.8), Event(6.9, 7.0, 0.1, 0.7)],
    ]
    reference = [np.array([1.0, 3.0]), np.array([7.05])]
    points = froc(events, reference, hours=2.0, tolerance_seconds=0.1)
    assert points.thresholds.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert points.sensitivity.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert points.false_detections_per_hour.tolist() == [0.0, 0.5, 0.5, 1.0]


@pytest.mark.parametrize("seed", range(5))
def test_froc_rises_and_ends_at_the_counts_of_all_events(seed):
    rng = np.random.default_rng(seed)
    times = [np.sort(rng.uniform(0, 20, 40)) for _ in range(2)]
    events = [[Event(t, t, 0.0, p) for t, p in zip(row, rng.random(40), strict=True)] for row in times]
    reference = [rng.uniform(0, 20, 30) for _ in range(2)]
    points = froc(events, reference, hours=0.5, tolerance_seconds=0.1, n_thresholds=20)
    assert len(points.thresholds) == 20
    assert np.all(np.diff(points.sensitivity) >= 0)
    assert np.all(np.diff(points.false_detections_per_hour) >= 0)
    last = pool_counts(
        count_events(t, r, tolerance_seconds=0.1, hours=0.25) for t, r in zip(times, reference, strict=True)
    )
    assert points.sensitivity[-1] == last.sensitivity
    assert points.false_detections_per_hour[-1] == last.false_detections_per_hour


def test_froc_without_events_or_reference():
    empty = froc([[]], [np.array([1.0])], hours=1.0, tolerance_seconds=0.1)
    assert len(empty.thresholds) == 0
    unknown = froc([[Event(0.0, 0.0, 0.1, 0.5)]], [np.zeros(0)], hours=1.0, tolerance_seconds=0.1)
    assert np.isnan(unknown.sensitivity).all()
    assert unknown.false_detections_per_hour.tolist() == [1.0]


def test_tolerances_and_hours_that_are_no_numbers_are_refused():
    """NaN compares with nothing: two peaks an hour apart would match."""
    with pytest.raises(ValueError, match="tolerance_seconds 0 or more, given nan"):
        count_events(np.array([0.0]), np.array([3600.0]), tolerance_seconds=math.nan, hours=1.0)
    with pytest.raises(ValueError, match="hours must be positive, given 1 recordings, 1 references and nan"):
        froc([[]], [np.zeros(0)], hours=math.nan, tolerance_seconds=0.1)
