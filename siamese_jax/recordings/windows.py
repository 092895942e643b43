"""Where a recording's windows lie, what they hold beyond a segment's ends, and which label each has.

The only cutter: training and detection take their windows from here. A window never reaches across a gap; its
margins may reach beyond a segment, and there the signal is reflected.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, Num, Shaped

from siamese_jax.recordings.edf import Annotation, Segment
from siamese_jax.vocabulary import IED, IED_INSIDE_SECONDS, SLEEP, STAGES, STATE, TaskSpec, is_ied, stage_of

RUN_SECONDS = 1.0
"""From this duration on, an IED annotation is a run of discharges rather than one of them."""
STAGE_SHARE = 0.75
"""How much of a window must share the stage at its centre."""
TASKS: tuple[TaskSpec, ...] = (IED, SLEEP, STATE)
"""The tasks that annotations of IEDs and stages give."""

_TOLERANCE = 1e-6  # seconds: onsets are sums of rounded decimals, and the rules' limits count as inside
_ASLEEP = "asleep"  # asleep in a stage that nobody scored: vEpiSet marks 'Waking' and 'Sleeping' only
_SLEEPING = re.compile(r"(sleeping|asleep|sleep)", re.IGNORECASE)
_UNSCORED = re.compile(r"((sleep )?stage (\?|mt?|unknown|unscored))|\?|(not |un)scored|movement( time)?", re.IGNORECASE)


class WindowGrid(NamedTuple):
    """Where windows start: the segment, and the sample within it, in order of time."""

    segment: Int32[np.ndarray, "window"]
    start: Int64[np.ndarray, "window"]


class Labels(NamedTuple):
    """One task's labels. A label of weight 0 is missing, and holds 0."""

    label: Shaped[np.ndarray, "window"]
    """Binary: float32, 0 or 1; multiclass: int32, the class."""
    weight: Float32[np.ndarray, "window"]


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


# --- labels -------------------------------------------------------------------------------------------------


class IedMarks(NamedTuple):
    """IEDs as intervals of time in seconds: `start` to `stop` is touched, `first_peak` to `last_peak` counts.

    Of one discharge both peaks are the same; of a run they are its ends.
    """

    start: Float64[np.ndarray, "event"]
    first_peak: Float64[np.ndarray, "event"]
    last_peak: Float64[np.ndarray, "event"]
    stop: Float64[np.ndarray, "event"]


def ied_marks(annotations: Sequence[Annotation]) -> IedMarks:
    """The IEDs among annotations, whatever their channel.

    The peak of an annotation with a duration is taken to be its middle: an interval is drawn around a
    discharge, so that its middle is wrong by half its length at most, its onset by all of it. Without a
    duration the onset is all there is, and is the peak. From 1 s on, an annotation is a run. `!start` and the
    next `!end` enclose a run; one without a partner is a single mark.
    """
    rows, opened = [], None
    for onset, duration, text, _ in sorted(annotations, key=lambda annotation: annotation.onset_seconds):
        mark = text.strip().lower()
        if mark == "!start":
            if opened is not None:
                rows.append((opened,) * 4)
            opened = onset
        elif mark == "!end" and opened is not None:
            rows.append((opened, opened, onset, onset))
            opened = None
        elif mark == "!end":
            rows.append((onset,) * 4)
        elif is_ied(text) and duration >= RUN_SECONDS:
            rows.append((onset, onset, onset + duration, onset + duration))
        elif is_ied(text):
            peak = onset + max(duration, 0.0) / 2
            rows.append((onset, peak, peak, onset + max(duration, 0.0)))
    if opened is not None:
        rows.append((opened,) * 4)
    return IedMarks(*np.array(rows, np.float64).reshape(-1, 4).T)


def ied_labels(
    annotations: Sequence[Annotation], onsets: Float64[np.ndarray, "window"], *, window_seconds: float
) -> Labels:
    """1 if a peak lies at least 0.1 s inside the window, or a run overlaps it by as much; float32.

    Weight 0 if an IED only touches the window; else 0 with weight 1: that somebody looked for IEDs is for the
    caller to know.
    """
    marks = ied_marks(annotations)
    order = np.argsort(onsets, kind="stable")
    label, weight = np.zeros(len(onsets), np.float32), np.ones(len(onsets), np.float32)
    inside = IED_INSIDE_SECONDS - _TOLERANCE
    for start, stop in zip(marks.start, marks.stop, strict=True):
        # An interval that ends where the window starts is outside; a mark without length there is not.
        reach = -_TOLERANCE if stop > start else _TOLERANCE
        weight[_starting_in(onsets, order, start - window_seconds - reach, stop + reach)] = 0
    for first, last in zip(marks.first_peak, marks.last_peak, strict=True):
        positive = _starting_in(onsets, order, first + inside - window_seconds, last - inside)
        label[positive] = weight[positive] = 1
    return Labels(label, weight)


def _starting_in(
    onsets: Float64[np.ndarray, "window"], order: Int64[np.ndarray, "window"], low: float, high: float
) -> Int64[np.ndarray, "hit"]:
    """The windows with low <= onset <= high."""
    first = np.searchsorted(onsets, low, side="left", sorter=order)
    return order[first : np.searchsorted(onsets, high, side="right", sorter=order)]


def sleep_labels(
    annotations: Sequence[Annotation], onsets: Float64[np.ndarray, "window"], *, window_seconds: float
) -> Labels:
    """The stage at the window's centre as its index in W N1 N2 N3 R; int32.

    Weight 0 where the centre is unscored or less than 75 % of the window shares its stage.
    """
    classes = {stage: i for i, stage in enumerate(STAGES)}
    return _shared(annotations, onsets, window_seconds, classes, np.int32)


def state_labels(
    annotations: Sequence[Annotation], onsets: Float64[np.ndarray, "window"], *, window_seconds: float
) -> Labels:
    """0 awake, 1 asleep in whatever stage, by the rules of `sleep_labels`; float32."""
    classes = {"W": 0, _ASLEEP: 1} | {stage: 1 for stage in STAGES if stage != "W"}
    return _shared(annotations, onsets, window_seconds, classes, np.float32)


def label_windows(
    annotations: Sequence[Annotation],
    onsets: Float64[np.ndarray, "window"],
    *,
    window_seconds: float,
    labelled_for: Sequence[str],
) -> dict[str, Labels]:
    """Labels of every task in `TASKS`; those of a task not in `labelled_for` have weight 0."""
    rules = {IED.name: ied_labels, SLEEP.name: sleep_labels, STATE.name: state_labels}
    labels = {}
    for name, rule in rules.items():
        found = rule(annotations, onsets, window_seconds=window_seconds)
        missing = Labels(np.zeros_like(found.label), np.zeros_like(found.weight))
        labels[name] = found if name in labelled_for else missing
    return labels


def is_stage(annotation: Annotation) -> bool:
    """Whether an annotation scores sleep or wakefulness, or says that it was not scored."""
    return _stage(annotation.text) is not None


def _stage(text: str) -> str | None:
    """W N1 N2 N3 R, `asleep`, or "" for 'not scored'; None if the text is about something else."""
    stage = stage_of(text)
    if stage is not None:
        return stage
    if _SLEEPING.fullmatch(text.strip()):
        return _ASLEEP
    return "" if _UNSCORED.fullmatch(text.strip()) else None


def _shared(
    annotations: Sequence[Annotation],
    onsets: Float64[np.ndarray, "window"],
    window_seconds: float,
    classes: dict[str, int],
    dtype: type[np.generic],
) -> Labels:
    """The class at each window's centre, where enough of the window shares it."""
    marks = sorted((a for a in annotations if is_stage(a)), key=lambda annotation: annotation.onset_seconds)
    if not marks or not len(onsets):
        return Labels(np.zeros(len(onsets), dtype), np.zeros(len(onsets), np.float32))
    start = np.array([mark.onset_seconds for mark in marks])
    duration = np.array([mark.duration_seconds for mark in marks])
    # A mark holds for its duration, or, having none, until the next; the next always ends it.
    following = np.append(start[1:], max(start[-1], onsets.max() + window_seconds) + 1)
    stop = np.where(duration > 0, np.minimum(start + duration, following), following)
    code = np.array([classes.get(_stage(mark.text) or "", -1) for mark in marks])

    centre = onsets + window_seconds / 2
    at = np.searchsorted(start, centre, side="right") - 1
    label = np.where((at >= 0) & (centre < stop[at]), code[at], -1)
    share = np.zeros(len(onsets))
    for value in set(classes.values()):
        seconds = np.where(code == value, stop - start, 0.0)
        edges = np.stack([start, stop], 1).ravel()
        reached = np.stack([np.cumsum(seconds) - seconds, np.cumsum(seconds)], 1).ravel()
        within = np.interp(onsets + window_seconds, edges, reached) - np.interp(onsets, edges, reached)
        share[label == value] = within[label == value] / window_seconds
    known = (label >= 0) & (share >= STAGE_SHARE - _TOLERANCE)
    return Labels(np.where(known, label, 0).astype(dtype), known.astype(np.float32))


def untouched(
    onsets: Float64[np.ndarray, "window"], intervals: Sequence[tuple[float, float]], *, window_seconds: float
) -> Bool[np.ndarray, "window"]:
    """The windows that no interval (onset, duration) overlaps."""
    good = np.ones(len(onsets), bool)
    for onset, duration in intervals:
        good &= (onsets >= onset + duration - _TOLERANCE) | (onsets + window_seconds <= onset + _TOLERANCE)
    return good
