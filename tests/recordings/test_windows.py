"""Where windows lie, what is read beyond a segment's ends, and every label rule at its limits."""

import numpy as np
import pytest

from siamese_jax.recordings.edf import Annotation, Segment
from siamese_jax.recordings.windows import (
    ied_labels,
    ied_marks,
    label_windows,
    read_padded,
    sleep_labels,
    state_labels,
    untouched,
    window_grid,
    window_onsets,
)
from siamese_jax.vocabulary import STAGES

WINDOW = 4.0
ONE = np.array([10.0])  # one window, 10 to 14 s


def ied(onset: float, duration: float = 0.0, text: str = "IED") -> Annotation:
    return Annotation(onset, duration, text)


def label_and_weight(labels) -> tuple[float, float]:
    return labels.label.item(), labels.weight.item()


# --- the grid


def test_windows_are_whole_and_none_crosses_a_gap() -> None:
    segments = (Segment(0.0, 1000), Segment(20.0, 799), Segment(30.0, 801), Segment(90.0, 800))
    grid = window_grid(segments, window=800, hop=100)
    assert grid.segment.tolist() == [0, 0, 0, 2, 3]  # 799 samples hold no window
    assert grid.start.tolist() == [0, 100, 200, 0, 0]
    lengths = np.array([segment.n_times for segment in segments])
    assert np.all(grid.start + 800 <= lengths[grid.segment])
    onsets = window_onsets(segments, grid, sfreq=100)
    np.testing.assert_allclose(onsets, [0, 1, 2, 30, 90])  # by the clock, gaps included


def test_windows_may_lie_apart() -> None:
    assert window_grid((Segment(0.0, 1000),), window=100, hop=300).start.tolist() == [0, 300, 600, 900]


def test_a_recording_without_windows_gives_an_empty_grid() -> None:
    grid = window_grid((Segment(0.0, 5),), window=6, hop=1)
    assert len(grid.start) == len(grid.segment) == len(window_onsets((Segment(0.0, 5),), grid, sfreq=1)) == 0


@pytest.mark.parametrize(("window", "hop"), [(0, 1), (1, 0), (-5, 1)])
def test_windows_and_hops_below_a_sample_are_refused(window: int, hop: int) -> None:
    with pytest.raises(ValueError, match="at least 1 sample"):
        window_grid((Segment(0.0, 10),), window=window, hop=hop)


# --- reading beyond the ends


@pytest.mark.parametrize("n_times", [1, 2, 3, 7, 50])
@pytest.mark.parametrize(("start", "stop"), [(-20, 30), (-3, 2), (0, 1), (4, 60), (-100, 200), (55, 80), (-9, -2)])
def test_beyond_its_ends_a_segment_is_reflected_as_numpy_does_it(n_times: int, start: int, stop: int) -> None:
    signal = np.random.default_rng(n_times).normal(size=(n_times, 2)).astype(np.float32)
    padded = np.pad(signal, ((200, 200), (0, 0)), mode="reflect" if n_times > 1 else "edge")
    got = read_padded(lambda a, b: signal[a:b], n_times, start, stop)
    np.testing.assert_array_equal(got, padded[200 + start : 200 + stop])


def test_only_samples_that_exist_are_asked_for() -> None:
    asked = []

    def read(a: int, b: int) -> np.ndarray:
        asked.append((a, b))
        return np.zeros((b - a, 1), np.float32)

    for start, stop in ((0, 10), (-4, 6), (95, 104), (40, 60)):
        assert read_padded(read, 100, start, stop).shape == (stop - start, 1)
    assert asked == [(0, 10), (0, 6), (95, 100), (40, 60)]


def test_an_empty_segment_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="segment of 0"):
        read_padded(lambda a, b: np.zeros((b - a, 1)), 0, 0, 5)


# --- IED labels


@pytest.mark.parametrize(
    ("peak", "label", "weight"),
    [
        (9.99, 0, 1),  # a point before the window does not touch it
        (10.0, 0, 0),
        (10.09, 0, 0),
        (10.1, 1, 1),
        (12.0, 1, 1),
        (13.9, 1, 1),
        (13.91, 0, 0),
        (14.0, 0, 0),
        (14.01, 0, 1),
    ],
)
def test_a_peak_counts_from_a_tenth_of_a_second_inside(peak: float, label: float, weight: float) -> None:
    assert label_and_weight(ied_labels([ied(peak)], ONE, window_seconds=WINDOW)) == (label, weight)


@pytest.mark.parametrize(
    ("onset", "duration", "expected"),
    [
        (9.9, 0.4, (1, 1)),  # middle 10.1
        (9.88, 0.4, (0, 0)),  # middle 10.08: touches
        (9.5, 0.6, (0, 0)),  # ends inside
        (9.5, 0.5, (0, 1)),  # ends where the window begins
        (13.6, 0.6, (1, 1)),  # middle 13.9
        (13.95, 0.2, (0, 0)),
        (14.0, 0.2, (0, 1)),
    ],
)
def test_the_peak_of_a_short_interval_is_its_middle(onset: float, duration: float, expected: tuple) -> None:
    assert label_and_weight(ied_labels([ied(onset, duration)], ONE, window_seconds=WINDOW)) == expected


@pytest.mark.parametrize(
    ("onset", "duration", "expected"),
    [
        (9.0, 1.1, (1, 1)),  # 0.1 s of it lie inside
        (9.0, 1.09, (0, 0)),
        (9.0, 1.0, (0, 1)),
        (13.9, 3.0, (1, 1)),
        (13.91, 3.0, (0, 0)),
        (0.0, 60.0, (1, 1)),
        (14.0, 2.0, (0, 1)),
    ],
)
def test_a_run_marks_every_window_it_overlaps_by_a_tenth(onset: float, duration: float, expected: tuple) -> None:
    assert label_and_weight(ied_labels([ied(onset, duration)], ONE, window_seconds=WINDOW)) == expected


def test_start_and_end_marks_enclose_a_run_and_lonely_ones_are_single() -> None:
    marks = ied_marks([ied(5, text="!start"), ied(9, text="!end"), ied(20, text="!end"), ied(30, text="!start")])
    np.testing.assert_array_equal(np.stack(marks, 1), [[5, 5, 9, 9], [20] * 4, [30] * 4])
    onsets = np.arange(0.0, 40.0, 4.0)
    got = ied_labels([ied(5, text="!start"), ied(9, text="!end")], onsets, window_seconds=WINDOW)
    assert got.label.tolist() == [0, 1, 1] + [0] * 7
    assert got.weight.tolist() == [1] * 10


def test_a_full_discharge_outweighs_one_that_only_touches() -> None:
    both = [ied(10.05), ied(12.0)]
    for order in (both, both[::-1]):
        assert label_and_weight(ied_labels(order, ONE, window_seconds=WINDOW)) == (1, 1)


def test_ied_labels_equal_the_rule_written_out_for_each_window() -> None:
    """Against the rule read from the design, window by window, on overlapping windows in any order."""
    rng = np.random.default_rng(0)
    events = [
        ied(float(t), float(d)) for t, d in zip(rng.uniform(0, 300, 60), rng.choice([0, 0.15, 0.7, 3], 60), strict=True)
    ]
    onsets = rng.permutation(np.arange(0, 296, 0.5))
    got = ied_labels(events, onsets, window_seconds=WINDOW)
    for onset, label, weight in zip(onsets, got.label, got.weight, strict=True):
        stop, positive, touched = onset + WINDOW, False, False
        for start, duration, *_ in events:
            if duration >= 1:
                positive |= min(stop, start + duration) - max(onset, start) >= 0.1
            else:
                positive |= onset + 0.1 <= start + duration / 2 <= stop - 0.1
            touched |= start + duration > onset and start < stop
        assert (label, weight) == (positive, positive or not touched)


# --- stages


def stages(*marks: tuple[float, float, str]) -> list[Annotation]:
    return [Annotation(*mark) for mark in marks]


@pytest.mark.parametrize(("n2_from", "expected"), [(13.0, (0, 1)), (12.96, (0, 0)), (11.0, (2, 1)), (11.04, (2, 0))])
def test_three_quarters_of_a_window_must_share_the_stage_at_its_centre(n2_from: float, expected: tuple) -> None:
    """13.0: 75 % wake; 12.96: 74 %; 11.0: 75 % N2; 11.04: 74 %."""
    marks = stages((0, n2_from, "Sleep stage W"), (n2_from, 60, "Sleep stage N2"))
    got = sleep_labels(marks, ONE, window_seconds=WINDOW)
    assert got.weight.item() == expected[1]
    assert got.label.item() == (expected[0] if expected[1] else 0)


def test_parts_of_a_window_in_one_stage_add_up() -> None:
    marks = stages((0, 11.0, "N2"), (11.0, 0.8, "N1"), (11.8, 30, "N2"))  # 80 % N2 in two parts
    assert label_and_weight(sleep_labels(marks, ONE, window_seconds=WINDOW)) == (STAGES.index("N2"), 1)


def test_a_mark_without_duration_holds_until_the_next_even_over_a_gap() -> None:
    marks = stages((0, 0, "Sleep stage W"), (100, 0, "Sleep stage N3"), (200, 0, "Sleep stage ?"))
    onsets = np.array([0.0, 90, 99, 100, 150, 195, 200, 500])
    got = sleep_labels(marks, onsets, window_seconds=WINDOW)
    assert got.weight.tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    assert got.label.tolist() == [0, 0, 3, 3, 3, 3, 0, 0]  # 99 to 103: 3 of 4 s N3


def test_the_last_mark_holds_to_the_end() -> None:
    got = sleep_labels(stages((0, 0, "R")), np.array([0.0, 5000.0]), window_seconds=WINDOW)
    assert got.label.tolist() == [4, 4]
    assert got.weight.tolist() == [1, 1]


@pytest.mark.parametrize("text", ["Sleep stage ?", "Movement time", "unscored", "?", "Sleep stage M"])
def test_time_that_was_not_scored_has_no_label(text: str) -> None:
    marks = stages((0, 0, "N2"), (8, 0, text), (20, 0, "N2"))
    for rule in (sleep_labels, state_labels):
        assert rule(marks, ONE, window_seconds=WINDOW).weight.item() == 0


def test_before_the_first_mark_and_after_a_scored_interval_nothing_is_known() -> None:
    marks = stages((30, 30, "N2"))
    got = sleep_labels(marks, np.array([0.0, 26, 27.9, 29, 30, 56, 57.2, 60]), window_seconds=WINDOW)
    assert got.weight.tolist() == [0, 0, 0, 1, 1, 1, 0, 0]


def test_sleep_is_one_state_whatever_the_stage() -> None:
    marks = stages((0, 12.0, "N1"), (12.0, 60, "N2"))  # half and half: no stage, but asleep
    assert label_and_weight(sleep_labels(marks, ONE, window_seconds=WINDOW)) == (0, 0)
    assert label_and_weight(state_labels(marks, ONE, window_seconds=WINDOW)) == (1, 1)


def test_waking_and_sleeping_give_the_state_and_only_waking_a_stage() -> None:
    marks = stages((0.1, 0, "Waking"), (100, 0, "Sleeping"), (200, 0, "Waking"))
    onsets = np.array([50.0, 150, 250])
    state, sleep = (rule(marks, onsets, window_seconds=WINDOW) for rule in (state_labels, sleep_labels))
    assert state.label.tolist() == [0, 1, 0]
    assert state.weight.tolist() == [1, 1, 1]
    assert sleep.weight.tolist() == [1, 0, 1]  # asleep, but in no stage that anybody scored


# --- all tasks


def test_a_recording_that_nobody_scored_has_no_label_of_any_task() -> None:
    got = label_windows([ied(12.0)], ONE, window_seconds=WINDOW, labelled_for=())
    for labels in got.values():
        assert (labels.label.item(), labels.weight.item()) == (0, 0)


def test_where_ieds_were_looked_for_their_absence_is_a_label() -> None:
    got = label_windows([], ONE, window_seconds=WINDOW, labelled_for=("ied", "sleep", "state"))
    assert label_and_weight(got["ied"]) == (0, 1)
    assert label_and_weight(got["sleep"]) == (0, 0)


def test_labels_have_the_types_of_their_kinds_and_hold_0_where_missing() -> None:
    onsets = np.arange(0.0, 100.0, 0.5)
    marks = [*stages((10, 20, "N3"), (40, 10, "R")), ied(12.0), ied(30.05, 0.2)]
    got = label_windows(marks, onsets, window_seconds=WINDOW, labelled_for=("ied", "sleep", "state"))
    assert {name: labels.label.dtype for name, labels in got.items()} == {
        "ied": np.float32,
        "sleep": np.int32,
        "state": np.float32,
    }
    for labels in got.values():
        assert labels.weight.dtype == np.float32
        assert set(labels.weight.tolist()) == {0, 1}
        assert not labels.label[labels.weight == 0].any()


def test_windows_that_a_bad_interval_overlaps_are_found() -> None:
    onsets = np.array([0.0, 4, 8, 12])
    assert untouched(onsets, [(4.5, 1.0), (12.0, 1.0)], window_seconds=4.0).tolist() == [
        True,
        False,
        True,
        False,
    ]
    assert untouched(onsets, [(4.0, 4.0)], window_seconds=4.0).tolist() == [True, False, True, True]
