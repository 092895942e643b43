"""Tasks as rules: how annotations in time become the labels of windows.

Three rules serve every task: of events that peak within a window (IEDs, spindles), of states that fill it (sleep), and
of findings that hold together (diagnoses). A rule is data: a task, and which class a text names.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped

from siamese_jax.recordings.recording import Annotation
from siamese_jax.recordings.texts import ied_meaning, sleep_meaning
from siamese_jax.vocabulary import IED, IED_INSIDE_SECONDS, SLEEP, STATE, TaskSpec

RUN_SECONDS = 1.0
"""From this duration on, an IED annotation is a run of discharges rather than one of them."""
STATE_SHARE = 0.75
"""How much of a window must share the state at its centre, or a finding."""
UNKNOWN = ""
"""What `class_of` says of a text that belongs to a task but names none of its classes ('Movement time')."""

ClassOf = Callable[[str], str | None]
"""The class that an annotation's text names: one of the task's, UNKNOWN, or None if it is about something else."""

_TOLERANCE = 1e-6  # seconds: onsets are sums of rounded decimals, and the rules' limits count as inside


class Labels(NamedTuple):
    """One task's labels. A label of weight 0 is missing, and holds 0."""

    label: Shaped[np.ndarray, "window ..."]
    """Binary: float32, 0 or 1; multiclass: int32, the class; multilabel: float32, 0 or 1 for each class."""
    weight: Float32[np.ndarray, "window"]


class EventMarks(NamedTuple):
    """Events as intervals of time in seconds: `start` to `stop` is touched, `first_peak` to `last_peak` counts.

    Of one discharge both peaks are the same; of a run they are its ends. `code` is the class, -1 if unknown.
    """

    start: Float64[np.ndarray, "event"]
    first_peak: Float64[np.ndarray, "event"]
    last_peak: Float64[np.ndarray, "event"]
    stop: Float64[np.ndarray, "event"]
    code: Int64[np.ndarray, "event"]


@dataclass(frozen=True)
class TextClasses:
    """Which class a text names, by regular expressions that must match all of it, whatever its case."""

    patterns: tuple[tuple[str, str], ...]
    """Class (or UNKNOWN) and expression; the first that matches counts."""

    def __post_init__(self) -> None:
        for name, pattern in self.patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"class {name!r}: {pattern!r} is no regular expression: {error}") from None

    def __call__(self, text: str) -> str | None:
        """The class that a text names."""
        for name, pattern in self.patterns:
            if re.fullmatch(pattern, text.strip(), re.IGNORECASE):
                return name
        return None


@dataclass(frozen=True)
class EventRule:
    """A window's class is that of the event that peaks in it; of several, of the one nearest to its centre."""

    task: TaskSpec
    """Binary or multiclass."""
    class_of: ClassOf
    rest: bool = True
    """Whether a window without an event is of the first class; else its label is missing."""
    run_seconds: float = math.inf
    """From this duration on, an annotation is a run of events, any of which may be in the window."""

    def marks(self, annotations: Sequence[Annotation]) -> EventMarks:
        """The events among annotations, whatever their channel.

        The peak of an annotation with a duration is taken to be its middle: an interval is drawn around a
        discharge, so that its middle is wrong by half its length at most, its onset by all of it. Without a
        duration the onset is all there is, and is the peak. `!start` and the next `!end` enclose a run, if the
        task knows such texts; one without a partner is a single mark.
        """
        rows, opened, opened_code = [], None, -1
        for onset, duration, text, *_ in sorted(annotations, key=lambda annotation: annotation.onset_seconds):
            name, mark = self.class_of(text), text.strip().lower()
            if name is None:
                continue
            code = -1 if name == UNKNOWN else self.task.classes.index(name)
            stop = onset + max(duration, 0.0)
            if mark == "!start":
                if opened is not None:
                    rows.append((opened,) * 4 + (code,))
                opened, opened_code = onset, code
            elif mark == "!end" and opened is not None:
                rows.append((opened, opened, onset, onset, code))
                opened = None
            elif mark == "!end":
                rows.append((onset,) * 4 + (code,))
            elif duration >= self.run_seconds:
                rows.append((onset, onset, stop, stop, code))
            else:
                peak = (onset + stop) / 2
                rows.append((onset, peak, peak, stop, code))
        if opened is not None:
            rows.append((opened,) * 4 + (opened_code,))
        # What is marked on several channels at once is one event.
        start, first, last, stop, code = np.array(sorted(set(rows)), np.float64).reshape(-1, 5).T
        return EventMarks(start, first, last, stop, code.astype(np.int64))

    def label(
        self, annotations: Sequence[Annotation], onsets: Float64[np.ndarray, "window"], *, window_seconds: float
    ) -> Labels:
        """The class of the event that peaks at least 0.1 s inside the window, or whose run overlaps it by as much.

        Weight 0 if events only touch the window, or their class is unknown. That somebody looked for events is
        for the caller to know.
        """
        marks = self.marks(annotations)
        order = np.argsort(onsets, kind="stable")
        centre = onsets + window_seconds / 2
        label = np.zeros(len(onsets), np.int64)
        weight = np.full(len(onsets), self.rest, np.float32)
        nearest = np.full(len(onsets), np.inf)
        inside = IED_INSIDE_SECONDS - _TOLERANCE
        for start, stop in zip(marks.start, marks.stop, strict=True):
            # An interval that ends where the window starts is outside; a mark without length there is not.
            reach = -_TOLERANCE if stop > start else _TOLERANCE
            weight[_starting_in(onsets, order, start - window_seconds - reach, stop + reach)] = 0
        for first, last, code in zip(marks.first_peak, marks.last_peak, marks.code, strict=True):
            hit = _starting_in(onsets, order, first + inside - window_seconds, last - inside)
            away = np.maximum(np.maximum(first - centre[hit], centre[hit] - last), 0.0)
            closer = away < nearest[hit]
            nearest[hit[closer]] = away[closer]
            label[hit[closer]], weight[hit[closer]] = max(code, 0), code >= 0
        return Labels(label.astype(_dtype(self.task)), weight)


@dataclass(frozen=True)
class StateRule:
    """A window's class is that of the state at its centre, if enough of the window shares it."""

    task: TaskSpec
    """Binary or multiclass."""
    class_of: ClassOf

    def label(
        self, annotations: Sequence[Annotation], onsets: Float64[np.ndarray, "window"], *, window_seconds: float
    ) -> Labels:
        """The state at the window's centre; weight 0 where it is unknown or fills less than 75 % of the window.

        A mark holds for its duration, or, having none, until the next; the next always ends it.
        """
        named = ((a, self.class_of(a.text)) for a in sorted(annotations, key=lambda a: a.onset_seconds))
        marks = [(a, name) for a, name in named if name is not None]
        missing = Labels(np.zeros(len(onsets), _dtype(self.task)), np.zeros(len(onsets), np.float32))
        if not marks or not len(onsets):
            return missing
        start = np.array([mark.onset_seconds for mark, _ in marks], np.float64)
        duration = np.array([mark.duration_seconds for mark, _ in marks], np.float64)
        following = np.append(start[1:], max(start[-1], onsets.max() + window_seconds) + 1)
        stop = np.where(duration > 0, np.minimum(start + duration, following), following)
        code = np.array([-1 if name == UNKNOWN else self.task.classes.index(name) for _, name in marks])
        centre = onsets + window_seconds / 2
        at = np.searchsorted(start, centre, side="right") - 1
        label = np.where((at >= 0) & (centre < stop[at]), code[at], -1)
        share = np.zeros(len(onsets))
        for value in range(len(self.task.classes)):
            within = _share(start, np.where(code == value, stop, start), onsets, window_seconds)
            share[label == value] = within[label == value]
        known = (label >= 0) & (share >= STATE_SHARE - _TOLERANCE)
        return Labels(np.where(known, label, 0).astype(missing.label.dtype), known.astype(np.float32))


@dataclass(frozen=True)
class FindingRule:
    """A window has every finding that fills enough of it: diagnoses of a whole recording, say."""

    task: TaskSpec
    """Multilabel."""
    class_of: ClassOf

    def label(
        self, annotations: Sequence[Annotation], onsets: Float64[np.ndarray, "window"], *, window_seconds: float
    ) -> Labels:
        """Each finding that fills 75 % of the window; every weight is 1: that somebody looked, the caller must know."""
        label = np.zeros((len(onsets), len(self.task.classes)), np.float32)
        for i, finding in enumerate(self.task.classes):
            own = sorted((a.onset_seconds, a.duration_seconds) for a in annotations if self.class_of(a.text) == finding)
            if own:
                start = np.array([onset for onset, _ in own], np.float64)
                stop = np.maximum.accumulate(np.array([onset + duration for onset, duration in own], np.float64))
                start[1:] = np.maximum(start[1:], stop[:-1])  # where two overlap, each second counts once
                share = _share(start, np.maximum(start, stop), onsets, window_seconds)
                label[:, i] = share >= STATE_SHARE - _TOLERANCE
        return Labels(label, np.ones(len(onsets), np.float32))


Rule = EventRule | StateRule | FindingRule


def label_windows(
    rules: Sequence[Rule],
    annotations: Sequence[Annotation],
    onsets: Float64[np.ndarray, "window"],
    *,
    window_seconds: float,
    labelled_for: Sequence[str],
) -> dict[str, Labels]:
    """Labels of every rule's task; those of a task not in `labelled_for` have weight 0."""
    labels = {}
    for rule in rules:
        found = rule.label(annotations, onsets, window_seconds=window_seconds)
        missing = Labels(np.zeros_like(found.label), np.zeros_like(found.weight))
        labels[rule.task.name] = found if rule.task.name in labelled_for else missing
    return labels


def described(rule: Rule) -> str:
    """A rule in words that change whenever its labels may."""
    texts = rule.class_of.patterns if isinstance(rule.class_of, TextClasses) else getattr(rule.class_of, "__name__", "")
    options = f" rest={rule.rest} run_seconds={rule.run_seconds}" if isinstance(rule, EventRule) else ""
    return f"{type(rule).__name__} {rule.task.name}{rule.task.classes}: {texts}{options}"


# --- the tasks that texts of IEDs and stages give -----------------------------------------------------------


def ied_class(text: str) -> str | None:
    """`ied` if a text marks an interictal epileptiform discharge; UNKNOWN if it may mark one."""
    return {"ied": IED.classes[1], "doubt": UNKNOWN}.get(ied_meaning(text) or "")


def sleep_class(text: str) -> str | None:
    """The AASM stage that a text names; UNKNOWN if it means asleep, or not scored."""
    meaning = sleep_meaning(text)
    return UNKNOWN if meaning in ("asleep", "unscored") else meaning


def state_class(text: str) -> str | None:
    """`wake` or `sleep`, in whatever stage (vEpiSet marks 'Waking' and 'Sleeping' only); UNKNOWN if not scored."""
    wake, sleep = STATE.classes
    meaning = sleep_meaning(text)
    return {None: None, "unscored": UNKNOWN, "W": wake}.get(meaning, sleep)


IED_RULE = EventRule(IED, ied_class, run_seconds=RUN_SECONDS)
SLEEP_RULE = StateRule(SLEEP, sleep_class)
STATE_RULE = StateRule(STATE, state_class)
RULES: tuple[Rule, ...] = (IED_RULE, SLEEP_RULE, STATE_RULE)
"""The tasks that any annotated EEG may give."""


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
