"""What was marked for a task, and where somebody judged: labels of windows and events to score follow from both.

A rule (`labels.py`) makes marks of annotations; a shard stores them as they are, each with its own channel. What a
window's label is, `window_labels` says; for scoring, `events_of` joins marks that overlap.
"""

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int8, Int64, Shaped

from siamese_jax.recordings.intervals import TOLERANCE_SECONDS, Stretch, holding, merged
from siamese_jax.recordings.recording import Origin
from siamese_jax.vocabulary import IED_INSIDE_SECONDS, TaskSpec

STATE_SHARE = 0.75
"""How much of a window must share the state at its centre, or a finding."""
POINT_SECONDS = 0.1
"""How long a mark without a duration counts when marks are compared: about what a spike lasts, half to each side. So
marks of one discharge on several channels, each some milliseconds after the last, are one event."""
SPREAD_SECONDS = 0.5
"""Overlapping marks whose peaks lie further apart are a run: no one moment stands for all of them."""
_TRUSTED: tuple[Origin, ...] = ("reviewed", "human", "simulated", "machine")
_SAME_SECONDS = 1e-3  # between a window and the mark that names it

Kind = Literal["event", "run", "window", "state", "finding"]
"""`event` peaks once within its stretch; a `run` holds several, from its onset to its end; of a `window` the label is
given as a whole, and counts for a window of exactly this place; a `state` or a `finding` holds throughout."""


class Mark(NamedTuple):
    """A stretch that somebody marked for a task; a mark without duration is a moment."""

    onset_seconds: float
    duration_seconds: float
    peak_seconds: float
    """NaN where nobody said when it peaks."""
    code: int
    """Index of its class; -1 if it belongs to the task, but names none of the classes."""
    channels: tuple[str, ...]
    """Those that it concerns; none: not known."""
    kind: Kind
    origin: Origin = "human"

    @property
    def stop_seconds(self) -> float:
        """Where it ends."""
        return self.onset_seconds + self.duration_seconds

    @property
    def place_seconds(self) -> float:
        """Its peak, or if that is unknown its middle: at most half its length from the peak, its onset all of it."""
        middle = self.onset_seconds + self.duration_seconds / 2
        return middle if math.isnan(self.peak_seconds) else self.peak_seconds


class TaskMarks(NamedTuple):
    """What is known of one task in one recording."""

    marks: tuple[Mark, ...] = ()
    judged: tuple[Stretch, ...] = ()
    """Stretches that somebody judged, in order and apart: what is not marked there is not there."""


class Labels(NamedTuple):
    """One task's labels. A label of weight 0 is missing, and holds 0."""

    label: Shaped[np.ndarray, "window ..."]
    """Binary: float32, 0 or 1; multiclass: int32, the class; multilabel: float32, 0 or 1 for each class."""
    weight: Float32[np.ndarray, "window"]


# --- marks -> events ----------------------------------------------------------------------------------------


def events_of(marks: Iterable[Mark]) -> tuple[Mark, ...]:
    """Events in order of time: marks of one class that overlap are one, whoever made them and on whatever channels.

    Marks that only touch stay apart, as the complexes of a run do that are marked end to end; a mark without duration
    stands for `POINT_SECONDS`. The event reaches from the first onset to the last end, on all the channels, and its
    origin is the most trusted one. It peaks at the median of the peaks that are known (of a mark without duration it
    is), else of the marks' middles. It is a run if one of them is, or if they peak more than `SPREAD_SECONDS` apart.
    States, findings and labels of windows are no events.
    """
    groups: list[list[Mark]] = []
    reached = -math.inf
    for mark in sorted((m for m in marks if m.kind in ("event", "run")), key=lambda m: (m.code, _reach(m))):
        start, stop = _reach(mark)
        if groups and groups[-1][0].code == mark.code and start < reached - TOLERANCE_SECONDS:
            groups[-1].append(mark)
            reached = max(reached, stop)
        else:
            groups.append([mark])
            reached = stop
    return tuple(sorted((_joined(group) for group in groups), key=lambda event: event.place_seconds))


def _reach(mark: Mark) -> tuple[float, float]:
    spare = 0.0 if mark.duration_seconds > 0 else POINT_SECONDS / 2
    return mark.onset_seconds - spare, mark.stop_seconds + spare


def _joined(group: Sequence[Mark]) -> Mark:
    if len(group) == 1:
        return group[0]
    onset, stop = min(mark.onset_seconds for mark in group), max(mark.stop_seconds for mark in group)
    known = [mark.peak_seconds for mark in group if not math.isnan(mark.peak_seconds)]
    places = [mark.place_seconds for mark in group]
    is_run = any(mark.kind == "run" for mark in group) or max(places) - min(places) > SPREAD_SECONDS
    channels = dict.fromkeys(channel for mark in group for channel in mark.channels)
    origins: list[Origin] = [mark.origin for mark in group]
    return Mark(
        onset_seconds=onset,
        duration_seconds=stop - onset,
        peak_seconds=math.nan if is_run else median(known or places),
        code=group[0].code,
        channels=tuple(channels),
        kind="run" if is_run else "event",
        origin=min(origins, key=_TRUSTED.index),
    )


# --- marks -> frames ----------------------------------------------------------------------------------------

LEAST_BAG_SECONDS = 0.2
"""A mark stands for at least this much: people place marks within about 0.1 s of the peak."""
DOUBT_SECONDS = 0.1
"""Around a mark, where frames are neither in it nor without it."""
MAX_BAGS = 100
"""In one window; frames of further marks are not known."""


class FrameBags:
    """What is known of frames in a binary task of events: the stretches of which some frame is positive.

    A mark says that a discharge is somewhere in it, not in which frame: its frames are a bag. A known peak shortens the
    bag to `LEAST_BAG_SECONDS`; the label of a whole window is the widest bag.
    """

    def __init__(self, held: TaskMarks) -> None:
        self._judged = held.judged
        self._windows = [mark for mark in held.marks if mark.kind == "window"]
        self._is_of_events = all(mark.kind in ("event", "run", "window") for mark in held.marks)
        self._events = events_of(held.marks)
        self._bags = np.array([_bag(event) for event in self._events], np.float64).reshape(-1, 2)
        marked = np.array([(event.onset_seconds, event.stop_seconds) for event in self._events]).reshape(-1, 2)
        self._start = np.minimum(self._bags[:, 0], marked[:, 0]) - DOUBT_SECONDS
        self._stop = np.maximum(self._bags[:, 1], marked[:, 1]) + DOUBT_SECONDS

    def of_window(self, times: Float64[np.ndarray, "frame"]) -> Int8[np.ndarray, "frame"]:
        """By frame: 1 and more: the number of its bag; 0: judged, and no event; -1: not known.

        Not known are frames that nobody judged, those within `DOUBT_SECONDS` of a mark, and those of marks that are not
        all in the window or name no class.

        Args:
            times: of the frames' centres, from the start of the recording; the ends of the window are among them.
        """
        bags = np.full(len(times), -1, np.int8)
        first, last = float(times[0]), float(times[-1])
        for mark in self._windows:
            if max(abs(mark.onset_seconds - first), abs(mark.stop_seconds - last)) < _SAME_SECONDS:
                return np.full(len(times), mark.code, np.int8)
        if not self._is_of_events:
            return bags
        for onset, duration in self._judged:
            bags[(times >= onset - TOLERANCE_SECONDS) & (times <= onset + duration + TOLERANCE_SECONDS)] = 0
        near = np.flatnonzero((self._start < last) & (self._stop > first))
        for i in near:
            bags[(times > self._start[i]) & (times < self._stop[i])] = -1
        whole = [i for i in near if self._bags[i, 0] >= first and self._bags[i, 1] <= last and self._events[i].code > 0]
        for number, i in enumerate(whole[:MAX_BAGS], start=1):
            start, stop = self._bags[i]
            bags[(times >= start - TOLERANCE_SECONDS) & (times <= stop + TOLERANCE_SECONDS)] = number
        return bags


def _bag(event: Mark) -> tuple[float, float]:
    """From where to where frames may hold the event."""
    spare = LEAST_BAG_SECONDS / 2
    start, stop = event.place_seconds - spare, event.place_seconds + spare
    if math.isnan(event.peak_seconds):
        start, stop = min(start, event.onset_seconds), max(stop, event.stop_seconds)
    return start, stop


# --- marks -> labels ----------------------------------------------------------------------------------------


def window_labels(
    task: TaskSpec, held: TaskMarks, onsets: Float64[np.ndarray, "window"], *, window_seconds: float
) -> Labels:
    """Labels of windows, by nothing but marks and what was judged.

    Events: the class of the event that peaks at least 0.1 s inside the window, or whose run overlaps it by as much; of
    several, of the one nearest to its centre. Weight 0 if events only touch the window, if the class is unknown, or if
    no event is in it and not all of it was judged. States: the state at the window's centre; weight 0 where it is
    unknown or fills less than 75 % of the window. Findings: each that fills 75 % of a window that was judged.
    """
    if task.kind == "multilabel":
        return _finding_labels(task, held, onsets, window_seconds)
    if any(mark.kind == "state" for mark in held.marks):
        return _state_labels(task, held, onsets, window_seconds)
    return _event_labels(task, held, onsets, window_seconds)


def _event_labels(
    task: TaskSpec, held: TaskMarks, onsets: Float64[np.ndarray, "window"], window_seconds: float
) -> Labels:
    order = np.argsort(onsets, kind="stable")
    centre = onsets + window_seconds / 2
    label = np.zeros(len(onsets), np.int64)
    weight = holding(held.judged, onsets, seconds=window_seconds).astype(np.float32)
    nearest = np.full(len(onsets), np.inf)
    events = [mark for mark in held.marks if mark.kind != "window"]
    events.sort(key=lambda mark: (mark.onset_seconds, mark.place_seconds, mark.stop_seconds, mark.code))
    for mark in events:
        # An interval that ends where the window starts is outside; a mark without length there is not.
        reach = -TOLERANCE_SECONDS if mark.duration_seconds > 0 else TOLERANCE_SECONDS
        start, stop = mark.onset_seconds - window_seconds - reach, mark.stop_seconds + reach
        weight[_starting_in(onsets, order, start, stop)] = 0
    inside = IED_INSIDE_SECONDS - TOLERANCE_SECONDS
    for mark in events:
        ends = (mark.onset_seconds, mark.stop_seconds) if mark.kind == "run" else (mark.place_seconds,) * 2
        hit = _starting_in(onsets, order, ends[0] + inside - window_seconds, ends[1] - inside)
        away = np.maximum(np.maximum(ends[0] - centre[hit], centre[hit] - ends[1]), 0.0)
        closer = away < nearest[hit]
        nearest[hit[closer]] = away[closer]
        label[hit[closer]], weight[hit[closer]] = max(mark.code, 0), mark.code >= 0
    for mark in held.marks:
        if mark.kind == "window" and abs(mark.duration_seconds - window_seconds) < _SAME_SECONDS:
            at = mark.onset_seconds
            hit = _starting_in(onsets, order, at - _SAME_SECONDS / 2, at + _SAME_SECONDS / 2)
            label[hit], weight[hit] = max(mark.code, 0), mark.code >= 0
    return Labels(label.astype(_dtype(task)), weight)


def _state_labels(
    task: TaskSpec, held: TaskMarks, onsets: Float64[np.ndarray, "window"], window_seconds: float
) -> Labels:
    marks = sorted((mark for mark in held.marks if mark.duration_seconds > 0), key=lambda mark: mark.onset_seconds)
    start = np.array([mark.onset_seconds for mark in marks], np.float64)
    stop = np.array([mark.stop_seconds for mark in marks], np.float64)
    code = np.array([mark.code for mark in marks], np.int64)
    centre = onsets + window_seconds / 2
    at = np.searchsorted(start, centre, side="right") - 1
    label = np.where((at >= 0) & (centre < stop[at]), code[at], -1)
    share = np.zeros(len(onsets))
    for value in range(len(task.classes)):
        within = _share(start, np.where(code == value, stop, start), onsets, window_seconds)
        share[label == value] = within[label == value]
    known = (label >= 0) & (share >= STATE_SHARE - TOLERANCE_SECONDS)
    return Labels(np.where(known, label, 0).astype(_dtype(task)), known.astype(np.float32))


def _finding_labels(
    task: TaskSpec, held: TaskMarks, onsets: Float64[np.ndarray, "window"], window_seconds: float
) -> Labels:
    label = np.zeros((len(onsets), len(task.classes)), np.float32)
    judged = holding(held.judged, onsets, seconds=window_seconds)
    for i in range(len(task.classes)):
        own = merged((mark.onset_seconds, mark.duration_seconds) for mark in held.marks if mark.code == i)
        if own:
            start, seconds = np.array(own, np.float64).T
            label[:, i] = _share(start, start + seconds, onsets, window_seconds) >= STATE_SHARE - TOLERANCE_SECONDS
    return Labels(label * judged[:, None], judged.astype(np.float32))


def _dtype(task: TaskSpec) -> type[np.generic]:
    return np.int32 if task.kind == "multiclass" else np.float32


def _starting_in(
    onsets: Float64[np.ndarray, "window"], order: Int64[np.ndarray, "window"], low: float, high: float
) -> Int64[np.ndarray, "hit"]:
    """The windows with low <= onset <= high."""
    first = np.searchsorted(onsets, low, side="left", sorter=order)
    return order[first : np.searchsorted(onsets, high, side="right", sorter=order)]


def _share(
    start: Float64[np.ndarray, "interval"],
    stop: Float64[np.ndarray, "interval"],
    onsets: Float64[np.ndarray, "window"],
    window_seconds: float,
) -> Float64[np.ndarray, "window"]:
    """How much of each window lies within intervals that are in order and do not overlap."""
    seconds = np.cumsum(stop - start)
    edges = np.stack([start, stop], 1).ravel()
    reached = np.stack([seconds - (stop - start), seconds], 1).ravel()
    within = np.interp(onsets + window_seconds, edges, reached) - np.interp(onsets, edges, reached)
    return within / window_seconds
