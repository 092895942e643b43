"""Where windows lie, and what is read beyond a segment's ends."""

import numpy as np
import pytest

from siamese_jax.recordings.recording import Segment
from siamese_jax.recordings.windows import read_padded, untouched, window_grid, window_onsets

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


# --- bad intervals


def test_windows_that_a_bad_interval_overlaps_are_found() -> None:
    onsets = np.array([0.0, 4, 8, 12])
    assert untouched(onsets, [(4.5, 1.0), (12.0, 1.0)], window_seconds=4.0).tolist() == [
        True,
        False,
        True,
        False,
    ]
    assert untouched(onsets, [(4.0, 4.0)], window_seconds=4.0).tolist() == [True, False, True, True]


def test_an_interval_that_ends_where_a_window_starts_is_outside_and_one_a_millisecond_longer_is_not():
    onsets = np.array([0.3, 0.6])
    assert untouched(onsets, [(0.1, 0.2)], window_seconds=0.3).all()  # 0.1 + 0.2 is a little more than 0.3
    assert untouched(onsets, [(0.1, 0.201)], window_seconds=0.3).tolist() == [False, True]
    assert untouched(onsets, [(0.899, 1.0)], window_seconds=0.3).tolist() == [True, False]
