"""Where a recording's windows lie, and what they hold beyond a segment's ends.

The only cutter: training and detection take their windows from here. A window never reaches across a gap; its
margins may reach beyond a segment, and there the signal is reflected.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64, Num

from siamese_jax.recordings.intervals import TOLERANCE_SECONDS, Stretch
from siamese_jax.recordings.recording import Segment


class WindowGrid(NamedTuple):
    """Where windows start: the segment, and the sample within it, in order of time."""

    segment: Int32[np.ndarray, "window"]
    start: Int64[np.ndarray, "window"]


def window_grid(segments: Sequence[Segment], *, window: int, hop: int) -> WindowGrid:
    """Whole windows, `hop` samples apart from the start of each gap-free segment; none across a gap.

    Samples at a segment's end that fill no window, and segments shorter than one, give none.

    Raises:
        ValueError: `window` or `hop` below 1.
    """
    if window < 1 or hop < 1:
        raise ValueError(f"window and hop must be at least 1 sample, given {window} and {hop}")
    starts = [np.arange(0, segment.n_times - window + 1, hop, dtype=np.int64) for segment in segments]
    index = np.repeat(np.arange(len(starts), dtype=np.int32), [len(s) for s in starts])
    return WindowGrid(index, np.concatenate([np.zeros(0, np.int64), *starts]))


def window_onsets(segments: Sequence[Segment], grid: WindowGrid, *, sfreq: float) -> Float64[np.ndarray, "window"]:
    """Each window's onset in seconds from the start of the recording, gaps included."""
    onsets = np.array([segment.onset_seconds for segment in segments], np.float64)
    return onsets[grid.segment] + grid.start / sfreq


def read_padded(
    read: Callable[[int, int], Num[np.ndarray, "time chan"]], n_times: int, start: int, stop: int
) -> Num[np.ndarray, "time chan"]:
    """Samples `start` to `stop` of a segment of `n_times`, either end of which may lie beyond the segment's.

    There the signal is reflected about its first or last sample, again and again if need be: the same samples
    as `np.pad(segment, mode="reflect")`. `read(a, b)` is called once, with 0 <= a < b <= n_times.

    Raises:
        ValueError: an empty segment, or `stop` before `start`.
    """
    if n_times < 1 or stop < start:
        raise ValueError(f"cannot read samples {start} to {stop} of a segment of {n_times}")
    if start >= 0 and stop <= n_times:
        return read(start, stop)
    period = max(2 * (n_times - 1), 1)
    index = np.abs(np.arange(start, stop)) % period
    index = np.minimum(index, period - index) if n_times > 1 else np.zeros_like(index)
    first = int(index.min())
    return read(first, int(index.max()) + 1)[index - first]


def untouched(
    onsets: Float64[np.ndarray, "window"], intervals: Sequence[Stretch], *, window_seconds: float
) -> Bool[np.ndarray, "window"]:
    """The windows that no interval (onset, duration) overlaps; one that ends where a window starts does not."""
    good = np.ones(len(onsets), bool)
    for onset, duration in intervals:
        is_after = onsets >= onset + duration - TOLERANCE_SECONDS
        is_before = onsets + window_seconds <= onset + TOLERANCE_SECONDS
        good &= is_after | is_before
    return good
