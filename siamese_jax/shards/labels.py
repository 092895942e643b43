"""Tasks as rules: how annotations in time become the marks of a task, and marks the labels of windows.

Three rules serve every task: of events that peak within a window (IEDs, spindles), of states that fill it (sleep), and
of findings that hold together (diagnoses). A rule is data: a task, and which class a text names. What a machine wrote
is no label: rules leave it out until a person has reviewed it.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from siamese_jax.recordings.intervals import Stretch, common, merged, without
from siamese_jax.recordings.recording import Annotation
from siamese_jax.recordings.texts import ied_meaning, sleep_meaning
from siamese_jax.shards.marks import Kind, Labels, Mark, TaskMarks, window_labels
from siamese_jax.vocabulary import IED, SLEEP, STATE, TaskSpec

RUN_SECONDS = 1.0
"""From this duration on, an IED annotation is a run of discharges rather than one of them."""
UNKNOWN = ""
"""What `class_of` says of a text that belongs to a task but names none of its classes ('Movement time')."""

ClassOf = Callable[[str], str | None]
"""The class that an annotation's text names: one of the task's, UNKNOWN, or None if it is about something else."""


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
class _Rule:
    """What the three rules have in common."""

    task: TaskSpec
    class_of: ClassOf

    def is_about(self, annotation: Annotation) -> bool:
        """Whether an annotation is a mark of the task: its text is one of the task's, and a person stands for it."""
        return annotation.origin != "machine" and self.class_of(annotation.text) is not None

    def marks(self, annotations: Sequence[Annotation]) -> tuple[Mark, ...]:
        """The marks among annotations, one for each, in order of time."""
        raise NotImplementedError

    def task_marks(self, annotations: Sequence[Annotation], stretches: Sequence[Stretch]) -> TaskMarks:
        """The marks of a recording that somebody looked through for the task, and what of it was judged.

        Args:
            annotations: all there are, in any order.
            stretches: the recording's gap-free stretches.

        Judged are the stretches, less marks of unknown class; and of a rule that knows no rest, what is marked alone.
        """
        marks = _ended(self.marks(annotations), max((onset + duration for onset, duration in stretches), default=0.0))
        known, unknown = ([_stretch(m) for m in marks if (m.code >= 0) == yes] for yes in (True, False))
        searched = stretches if self._rest else common(stretches, known)
        return TaskMarks(marks, tuple(without(searched, unknown)))

    def label(
        self, annotations: Sequence[Annotation], onsets: Float64[np.ndarray, "window"], *, window_seconds: float
    ) -> Labels:
        """The labels of windows (`window_labels` has the rule), if somebody looked through all of them."""
        stretches = merged((float(onset), window_seconds) for onset in onsets)
        return window_labels(self.task, self.task_marks(annotations, stretches), onsets, window_seconds=window_seconds)

    @property
    def _rest(self) -> bool:
        """Whether a stretch without a mark was judged: nothing is there."""
        return True

    def _named(self, annotations: Sequence[Annotation]) -> Iterator[tuple[Annotation, int]]:
        """The task's annotations in order of time, and the class of each; -1 if unknown."""
        for annotation in sorted(filter(self.is_about, annotations), key=lambda a: a.onset_seconds):
            name = self.class_of(annotation.text)
            yield annotation, self.task.classes.index(name) if name else -1


@dataclass(frozen=True)
class EventRule(_Rule):
    """A window's class is that of the event that peaks in it; of several, of the one nearest to its centre.

    The task is binary or multiclass.
    """

    rest: bool = True
    """Whether a window without an event is of the first class; else its label is missing."""
    run_seconds: float = math.inf
    """From this duration on, an annotation is a run of events, any of which may be in the window."""

    def marks(self, annotations: Sequence[Annotation]) -> tuple[Mark, ...]:
        """The events and runs among annotations, each on its own channel.

        Without a duration, an annotation's onset is all there is, and is the peak. `!start` and the next `!end` of the
        same channel, or of none, enclose a run, if the task knows such texts; one without a partner is a single mark.
        """
        found: list[Mark] = []
        opened: dict[str, Mark] = {}
        for annotation, code in self._named(annotations):
            text, channel = annotation.text.strip().lower(), annotation.channel or ""
            mark = _mark(annotation, code, "event")
            if text == "!start":
                found += [opened[channel]] if channel in opened else []
                opened[channel] = mark._replace(duration_seconds=0.0, peak_seconds=mark.onset_seconds)
                continue
            partner = next((c for c in (channel, "", *(() if channel else opened)) if c in opened), None)
            if text == "!end" and partner is not None:
                begun = opened.pop(partner)
                seconds = mark.onset_seconds - begun.onset_seconds
                mark = begun._replace(duration_seconds=seconds, peak_seconds=math.nan, code=code, kind="run")
            elif text == "!end":
                mark = mark._replace(duration_seconds=0.0, peak_seconds=mark.onset_seconds)
            elif mark.duration_seconds >= self.run_seconds:
                mark = mark._replace(kind="run", peak_seconds=math.nan)
            found.append(mark)
        return tuple(sorted((*found, *opened.values()), key=lambda mark: mark.onset_seconds))

    @property
    def _rest(self) -> bool:
        return self.rest


@dataclass(frozen=True)
class StateRule(_Rule):
    """A window's class is that of the state at its centre, if enough of the window shares it.

    The task is binary or multiclass.
    """

    def marks(self, annotations: Sequence[Annotation]) -> tuple[Mark, ...]:
        """The states: each holds for its duration, or, having none, until the next; the next always ends it."""
        found: list[Mark] = []
        for annotation, code in self._named(annotations):
            if found and found[-1].stop_seconds > annotation.onset_seconds:
                found[-1] = found[-1]._replace(duration_seconds=annotation.onset_seconds - found[-1].onset_seconds)
            mark = _mark(annotation, code, "state")._replace(peak_seconds=math.nan)
            found.append(mark if mark.duration_seconds > 0 else mark._replace(duration_seconds=math.inf))
        return tuple(mark for mark in found if mark.duration_seconds > 0)

    @property
    def _rest(self) -> bool:
        return False


@dataclass(frozen=True)
class FindingRule(_Rule):
    """A window has every finding that fills enough of it: diagnoses of a recording, say. The task is multilabel."""

    def marks(self, annotations: Sequence[Annotation]) -> tuple[Mark, ...]:
        """The findings: each holds for its duration, beside the others."""
        named = self._named(annotations)
        return tuple(_mark(annotation, code, "finding")._replace(peak_seconds=math.nan) for annotation, code in named)


Rule = EventRule | StateRule | FindingRule


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


def _mark(annotation: Annotation, code: int, kind: Kind) -> Mark:
    onset, duration = annotation.onset_seconds, max(annotation.duration_seconds, 0.0)
    channels = () if annotation.channel is None else (annotation.channel,)
    peak = math.nan if duration else onset
    return Mark(onset, duration, peak, code, channels, kind, annotation.origin)


def _stretch(mark: Mark) -> Stretch:
    return mark.onset_seconds, mark.duration_seconds


def _ended(marks: Sequence[Mark], stop_seconds: float) -> tuple[Mark, ...]:
    """Marks of which those without an end last until `stop_seconds`."""
    left = [max(stop_seconds - mark.onset_seconds, 0.0) for mark in marks]
    pairs = zip(marks, left, strict=True)
    return tuple(m._replace(duration_seconds=s) if math.isinf(m.duration_seconds) else m for m, s in pairs)
