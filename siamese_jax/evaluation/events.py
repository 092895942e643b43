"""From logits per frame to events with a time, and from events to counts, one to one. Imports NumPy only.

The unit of clinical work is the event, not the window: a perfect detector of windows still has to say where
the spike is. Spikes are matched by their peaks with a tolerance, because overlap-based scoring collapses trains of
spikes into one.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, Shaped


class Event(NamedTuple):
    """A detected interval with a probability; times on the clock that `find_events` was given."""

    onset_seconds: float
    peak_seconds: float
    duration_seconds: float
    probability: float


# --- logits -> events -------------------------------------------------------------------------------------


def find_events(
    frame_logits: Float[np.ndarray, "frame"],
    *,
    frame_seconds: float,
    onset_seconds: float,
    threshold: float,
    span_seconds: float = 0.3,
    min_separation_seconds: float = 0.2,
) -> tuple[Event, ...]:
    """Events in order of time.

    Frame logits add up to a window's logit by their odds (log-sum-exp), so an event's probability is that of
    the summed odds of the frames within half a span of its peak. Peaks are local maxima of the logits, not of
    the sums: a sum over a span has a flat top as wide as the span, which gives no time and would count one
    spike twice. Of peaks that are too close the highest stays. An event reaches as far as the odds stay above
    half of the peak's, but never beyond the lowest frame between two events, nor into a gap.

    Args:
        frame_logits: NaN where there is no signal; nothing is summed, compared or joined across such a gap.
        frame_seconds: from one frame to the next.
        onset_seconds: where frame 0 is centred.
        threshold: least probability of an event.
        span_seconds: whose odds make one event; about the length of a spike and its slow wave.
        min_separation_seconds: least distance of two peaks, more than half a span so that no frame alone
            makes two events.

    Raises:
        ValueError: a threshold outside (0, 1) (NaN too), a rate or separation that is too small.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must be a probability between 0 and 1, given {threshold}")
    if frame_seconds <= 0 or not 0 <= span_seconds / 2 < min_separation_seconds:
        raise ValueError(
            "frame_seconds must be positive and min_separation_seconds more than half of span_seconds,"
            f" given {frame_seconds}, {min_separation_seconds} and {span_seconds}"
        )
    half = math.floor(span_seconds / 2 / frame_seconds + 1e-9)
    separation = math.ceil(min_separation_seconds / frame_seconds - 1e-9)
    events = []
    for first, stop in runs(~np.isnan(frame_logits)):
        logits = frame_logits[first:stop].astype(np.float64)
        peaks = _local_maxima(logits)
        summed = _summed_odds(logits, peaks, half=half)
        reaching = summed >= math.log(threshold) - math.log1p(-threshold)
        peaks, summed = peaks[reaching], summed[reaching]
        kept = _highest_apart(peaks, logits[peaks], separation=separation)
        for peak, logit, (left, right) in zip(peaks[kept], summed[kept], _extents(logits, peaks[kept]), strict=True):
            # A frame stands for half a step to each side, but the signal ends at its first and last frame.
            begin, end = max(left - 0.5, 0), min(right + 0.5, len(logits) - 1)
            events.append(
                Event(
                    onset_seconds=float(onset_seconds + (first + begin) * frame_seconds),
                    peak_seconds=float(onset_seconds + (first + peak) * frame_seconds),
                    duration_seconds=float((end - begin) * frame_seconds),
                    probability=float(np.exp(-np.logaddexp(0.0, -logit))),
                )
            )
    return tuple(events)


def runs(valid: Shaped[np.ndarray, "frame"]) -> Iterator[tuple[int, int]]:
    """Start and stop of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], valid, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _local_maxima(logits: Float64[np.ndarray, "frame"]) -> Int[np.ndarray, "peak"]:
    """Frames above their neighbours; of a plateau its middle; an end has one neighbour only."""
    starts = np.flatnonzero(np.append(True, logits[1:] != logits[:-1]))
    stops = np.append(starts[1:], len(logits))
    level = np.concatenate([[-np.inf], logits[starts], [-np.inf]])
    top = (level[1:-1] > level[:-2]) & (level[1:-1] > level[2:])
    return (starts[top] + stops[top] - 1) // 2


def _summed_odds(
    logits: Float64[np.ndarray, "frame"], peaks: Int[np.ndarray, "peak"], *, half: int
) -> Float64[np.ndarray, "peak"]:
    """Logit of the summed odds of the frames up to `half` away from each peak."""
    padded = np.pad(logits, half, constant_values=-np.inf)
    return np.logaddexp.reduce([padded[peaks + shift] for shift in range(2 * half + 1)], axis=0)


def _highest_apart(
    peaks: Int[np.ndarray, "peak"], heights: Float64[np.ndarray, "peak"], *, separation: int
) -> Shaped[np.ndarray, "peak"]:
    """Which peaks stay when, from the highest down, each removes those less than `separation` frames away."""
    kept = np.zeros(len(peaks), bool)
    removed = np.zeros(len(peaks), bool)
    first = np.searchsorted(peaks, peaks - separation, side="right")
    stop = np.searchsorted(peaks, peaks + separation, side="left")
    for i in np.argsort(-heights, kind="stable"):
        if not removed[i]:
            kept[i] = True
            removed[first[i] : stop[i]] = True
    return kept


def _extents(logits: Float64[np.ndarray, "frame"], peaks: Int[np.ndarray, "peak"]) -> Iterator[tuple[int, int]]:
    """First and last frame around each peak whose odds are at least half of the peak's."""
    if not peaks.size:
        return
    valleys = [a + int(np.argmin(logits[a : b + 1])) for a, b in zip(peaks[:-1], peaks[1:], strict=True)]
    for peak, low, stop in zip(peaks, [0, *valleys], [*valleys, len(logits)], strict=True):
        below = logits[low:stop] < logits[peak] - math.log(2)
        before, after = np.flatnonzero(below[: peak - low]), np.flatnonzero(below[peak - low :])
        left = low + before[-1] + 1 if before.size else low
        right = peak + after[0] - 1 if after.size else stop - 1
        yield int(left), int(right)


# --- events -> counts -------------------------------------------------------------------------------------


class EventCounts(NamedTuple):
    """Events against a reference, one to one, and the rates that follow (NaN where undefined)."""

    matched: int
    false_detections: int
    missed: int
    hours: float
    """Length of the signal that was analysed."""

    @property
    def sensitivity(self) -> float:
        """Matched / reference events."""
        return _quotient(self.matched, self.matched + self.missed)

    @property
    def precision(self) -> float:
        """Matched / detected events."""
        return _quotient(self.matched, self.matched + self.false_detections)

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and precision; NaN without reference events."""
        if self.matched + self.missed == 0:
            return math.nan
        return 2 * self.matched / (2 * self.matched + self.false_detections + self.missed)

    @property
    def false_detections_per_hour(self) -> float:
        """Detected events without a partner, by hour of signal."""
        return _quotient(self.false_detections, self.hours)


def match_peaks(
    detected_seconds: Float[np.ndarray, "detected"],
    reference_seconds: Float[np.ndarray, "reference"],
    *,
    tolerance_seconds: float,
) -> Int[np.ndarray, "pair 2"]:
    """As many one-to-one pairs (index detected, index reference) as there can be within the tolerance.

    Peaks on a line with one tolerance: taking the earliest that still fit, from left to right, is optimal
    (taking the nearest is not). Pairs come in order of time and are not always nearest neighbours.

    Raises:
        ValueError: a negative tolerance, a time that is NaN.
    """
    if not tolerance_seconds >= 0 or np.isnan(detected_seconds).any() or np.isnan(reference_seconds).any():
        raise ValueError(f"times must be numbers and tolerance_seconds 0 or more, given {tolerance_seconds}")
    by_time, reference_by_time = np.argsort(detected_seconds), np.argsort(reference_seconds)
    times, reference_times = detected_seconds[by_time].tolist(), reference_seconds[reference_by_time].tolist()
    reach = tolerance_seconds + 1e-9  # 0.8 s is within 0.1 s of 0.7 s, whatever binary fractions say
    pairs, i, j = [], 0, 0
    while i < len(times) and j < len(reference_times):
        if times[i] < reference_times[j] - reach:
            i += 1
        elif reference_times[j] < times[i] - reach:
            j += 1
        else:
            pairs.append((by_time[i], reference_by_time[j]))
            i, j = i + 1, j + 1
    return np.array(pairs, np.int64).reshape(-1, 2)


def count_events(
    detected_seconds: Float[np.ndarray, "detected"],
    reference_seconds: Float[np.ndarray, "reference"],
    *,
    tolerance_seconds: float,
    hours: float,
) -> EventCounts:
    """One recording's detected peaks against its reference peaks. Errors as for `match_peaks`."""
    matched = len(match_peaks(detected_seconds, reference_seconds, tolerance_seconds=tolerance_seconds))
    return EventCounts(matched, len(detected_seconds) - matched, len(reference_seconds) - matched, hours)


def pool_counts(counts: Iterable[EventCounts]) -> EventCounts:
    """The counts of several recordings as of one."""
    rows = list(counts)
    return EventCounts(*(sum(column) for column in zip(*rows, strict=True))) if rows else EventCounts(0, 0, 0, 0.0)


class Froc(NamedTuple):
    """Free-response ROC: what each probability threshold gives; thresholds fall, the rest rises.

    Sensitivities are NaN without a reference event.
    """

    thresholds: Float64[np.ndarray, "threshold"]
    sensitivity: Float64[np.ndarray, "threshold"]
    false_detections_per_hour: Float64[np.ndarray, "threshold"]


def froc(
    detected: Sequence[Sequence[Event]],
    reference_seconds: Sequence[Float[np.ndarray, "_"]],
    *,
    hours: float,
    tolerance_seconds: float,
    n_thresholds: int = 200,
) -> Froc:
    """The FROC of several recordings together, at the distinct probabilities of their events.

    Find the events at a low threshold first: nothing below it can appear here.

    Args:
        detected: events of each recording.
        reference_seconds: reference peaks of each recording.
        hours: length of all recordings together.
        tolerance_seconds: as for `match_peaks`.
        n_thresholds: most points of the curve; of more probabilities evenly spread ones are taken.

    Raises:
        ValueError: not as many references as recordings, no hours; and as `match_peaks`.
    """
    if len(detected) != len(reference_seconds) or not hours > 0:
        raise ValueError(
            f"each recording needs its reference and hours must be positive, given {len(detected)}"
            f" recordings, {len(reference_seconds)} references and {hours} hours"
        )
    peaks = [np.array([event.peak_seconds for event in events], float) for events in detected]
    probabilities = [np.array([event.probability for event in events], float) for events in detected]
    thresholds = np.unique(np.concatenate(probabilities) if probabilities else np.zeros(0))[::-1]
    if len(thresholds) > n_thresholds:
        thresholds = thresholds[np.linspace(0, len(thresholds) - 1, n_thresholds).round().astype(int)]
    points = []
    for threshold in thresholds:
        found = [times[chance >= threshold] for times, chance in zip(peaks, probabilities, strict=True)]
        pairs = sum(
            len(match_peaks(times, reference, tolerance_seconds=tolerance_seconds))
            for times, reference in zip(found, reference_seconds, strict=True)
        )
        points.append((pairs, sum(map(len, found)) - pairs))
    matched, false_detections = np.array(points, float).reshape(-1, 2).T
    n_reference = sum(map(len, reference_seconds))
    sensitivity = matched / n_reference if n_reference else np.full_like(matched, np.nan)
    return Froc(thresholds, sensitivity, false_detections / hours)


def _quotient(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan
