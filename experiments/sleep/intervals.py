"""Events that last, such as spindles: found where logits reach a threshold, matched one to one by their overlap."""

import math

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy import optimize

from siamese_jax.evaluation.events import EventCounts, runs


def find_intervals(
    frame_logits: Float[np.ndarray, "frame"],
    *,
    frame_seconds: float,
    onset_seconds: float,
    threshold: float,
    least_seconds: float = 0.0,
    most_seconds: float = math.inf,
    gap_seconds: float = 0.0,
) -> Float64[np.ndarray, "interval start_stop"]:
    """Stretches of frames that reach a threshold, in order of time: events that last, such as spindles.

    A frame stands for half a step to each side. Stretches that a gap of at most `gap_seconds` parts are joined first;
    then what is too short or too long is left out. NaN (no signal) reaches no threshold.

    Args:
        frame_logits: one a frame.
        frame_seconds: from one frame to the next.
        onset_seconds: where frame 0 is centred.
        threshold: least LOGIT, so that it may be as extreme as it needs to be.
        least_seconds: shortest event.
        most_seconds: longest event.
        gap_seconds: longest gap within an event; none is joined across NaN.

    Returns:
        Start and stop in seconds.

    Raises:
        ValueError: a rate that is not positive, a threshold that is no number, durations that leave no event.
    """
    if frame_seconds <= 0 or math.isnan(threshold) or not 0 <= least_seconds <= most_seconds or gap_seconds < 0:
        raise ValueError(
            "frame_seconds must be positive, threshold a number and 0 <= least_seconds <= most_seconds, given"
            f" {frame_seconds}, {threshold}, {least_seconds} and {most_seconds} (gap_seconds {gap_seconds})"
        )
    joined: list[list[int]] = []
    for first, stop in runs(frame_logits >= threshold):
        between = frame_logits[joined[-1][1] : first] if joined else frame_logits[:0]
        if joined and len(between) * frame_seconds <= gap_seconds + 1e-9 and not np.isnan(between).any():
            joined[-1][1] = stop
        else:
            joined.append([first, stop])
    found = np.array(joined, np.float64).reshape(-1, 2)
    seconds = (found[:, 1] - found[:, 0]) * frame_seconds
    kept = (seconds >= least_seconds - 1e-9) & (seconds <= most_seconds + 1e-9)
    return onset_seconds + (found[kept] - 0.5) * frame_seconds


def match_intervals(
    detected: Float[np.ndarray, "detected start_stop"],
    reference: Float[np.ndarray, "reference start_stop"],
    *,
    least_overlap: float,
) -> Int[np.ndarray, "pair 2"]:
    """As many one-to-one pairs (index detected, index reference) as overlap enough, in order of the detected index.

    Overlap is intersection over union. Of all ways to make that many pairs, one with the largest sum of overlaps is
    taken: the optimum (an assignment), not a greedy choice, which may give an interval to the best partner of another.

    Args:
        detected: start and stop in seconds.
        reference: likewise.
        least_overlap: least intersection over union of a pair, above 0 and at most 1.

    Raises:
        ValueError: a limit outside (0, 1], an interval that does not stop after it starts.
    """
    if not 0 < least_overlap <= 1:
        raise ValueError(f"least_overlap must be above 0 and at most 1, given {least_overlap}")
    for intervals in (detected, reference):
        if not (np.isfinite(intervals).all() and (intervals[:, 1] > intervals[:, 0]).all()):
            raise ValueError("every interval must start and then stop, both at finite times")
    overlap = _intersection_over_union(detected, reference)
    allowed = overlap >= least_overlap - 1e-9
    # One more pair outweighs any sum of overlaps, which are 1 at most.
    worth = np.where(allowed, min(overlap.shape) + 1 + overlap, 0.0)
    pairs = np.stack(optimize.linear_sum_assignment(worth, maximize=True), 1)
    return pairs[allowed[pairs[:, 0], pairs[:, 1]]].astype(np.int64)


def count_intervals(
    detected: Float[np.ndarray, "detected start_stop"],
    reference: Float[np.ndarray, "reference start_stop"],
    *,
    least_overlap: float,
    hours: float,
) -> EventCounts:
    """One recording's detected intervals against its reference intervals. Errors as for `match_intervals`."""
    matched = len(match_intervals(detected, reference, least_overlap=least_overlap))
    return EventCounts(matched, len(detected) - matched, len(reference) - matched, hours)


def _intersection_over_union(
    left: Float[np.ndarray, "left start_stop"], right: Float[np.ndarray, "right start_stop"]
) -> Float64[np.ndarray, "left right"]:
    starts = np.maximum(left[:, None, 0], right[None, :, 0])
    stops = np.minimum(left[:, None, 1], right[None, :, 1])
    both = np.maximum(stops - starts, 0.0)
    either = (left[:, 1] - left[:, 0])[:, None] + (right[:, 1] - right[:, 0])[None] - both
    return both / either
