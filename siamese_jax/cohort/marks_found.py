"""What `prepare` and `info` print of the marks in recordings: every text, how it was read, and marks in doubt.

A mark that no task reads makes no label. So that it makes no false one either, a stage without duration ends at it, and
a task whose marks mostly lie outside a recording is not labelled there: their clock or unit must be wrong.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from siamese_jax.files import plain
from siamese_jax.recordings.recording import Annotation, Recording, end_seconds
from siamese_jax.recordings.texts import ends_scoring, ied_meaning
from siamese_jax.shards.labels import UNKNOWN, EventRule, Rule, StateRule

SHOWN = 15
"""How many texts are printed of those that were read, are in doubt or were not understood; prepare.json holds all."""
DOUBT, ENDS = "in doubt: no label", "no class: ends the state"
"""How a text is read that belongs to a task of events, or of states, and names none of its classes."""
_WRONG_UNIT = 20.0
"""From this many times the recording's length on, marks are rather in another unit than of a longer recording."""
_WIDTH = 40


class Marks(NamedTuple):
    """What is reported of a recording's marks."""

    texts: tuple[tuple[str, int], ...]
    """Each text and how often it stands there; of marks that a machine made none."""
    n_machine: int
    n_ended: int
    """Stages without duration that end at a text that no task reads."""
    misplaced: tuple[str, ...]
    """Tasks most of whose marks lie outside the recording."""
    n_unread_windows: int
    """Windows with marks that no task reads."""
    notes: tuple[str, ...]
    """About marks outside the recording."""


def settled(annotations: Sequence[Annotation], rules: Sequence[Rule]) -> tuple[tuple[Annotation, ...], int]:
    """The annotations as the rules are to read them, and how many stages without duration were ended.

    Such a stage holds until the next one (`StateRule`). A text without duration in between that no task reads may name
    another state (`Stage - X`), and after `Lights on` nobody scores: there it ends.
    """
    states = {rule.task.name for rule in rules if isinstance(rule, StateRule)}
    read = {text: reading(text, rules) for text in {mark.text for mark in annotations}}
    ordered, ends, n_ended = sorted(annotations, key=lambda mark: mark.onset_seconds), [], 0
    for i in reversed(range(len(ordered))):
        mark = ordered[i]
        if mark.origin == "machine":
            continue
        if states & read[mark.text].keys():
            later = [onset for onset in ends if onset > mark.onset_seconds]
            if later and not mark.duration_seconds:
                ordered[i] = mark._replace(duration_seconds=min(later) - mark.onset_seconds)
                n_ended += 1
            ends = []
        elif not mark.duration_seconds and (not read[mark.text] or ends_scoring(mark.text)):
            ends.append(mark.onset_seconds)
    return tuple(ordered), n_ended


def marks_of(
    annotations: Sequence[Annotation],
    recording: Recording,
    rules: Sequence[Rule],
    onsets: Float64[np.ndarray, "window"],
    *,
    window_seconds: float,
    n_ended: int = 0,
) -> Marks:
    """What is reported of the marks of a recording whose windows begin at `onsets`, in seconds."""
    texts, (notes, misplaced) = texts_of(annotations), outside_notes(annotations, recording, rules)
    unread_texts = {text for text, _ in texts if not reading(text, rules)}
    unread = [mark for mark in _human(annotations) if mark.text.strip() in unread_texts]
    starts = np.sort([mark.onset_seconds for mark in unread])
    stops = np.sort([_stop(mark) for mark in unread])
    touched = np.searchsorted(starts, onsets + window_seconds) > np.searchsorted(stops, onsets)
    n_machine = len(annotations) - len(_human(annotations))
    return Marks(texts, n_machine, n_ended, misplaced, int(touched.sum()), notes)


def texts_of(annotations: Sequence[Annotation]) -> tuple[tuple[str, int], ...]:
    """Each text and how often it stands there, the most frequent first; of marks that a machine made none."""
    return tuple(Counter(mark.text.strip() for mark in _human(annotations)).most_common())


def outside_notes(
    annotations: Sequence[Annotation], recording: Recording, rules: Sequence[Rule]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Notes on marks where there is no signal, and the tasks of which most marks lie outside of the recording."""
    human, end = _human(annotations), end_seconds(recording)
    read = {text: reading(text, rules) for text, _ in texts_of(human)}
    by_task = {rule.task.name: [m for m in human if rule.task.name in read[m.text.strip()]] for rule in rules}
    misplaced = [task for task, own in by_task.items() if 2 * sum(_is_outside(m, end) for m in own) > len(own)]
    outside, notes = [mark for mark in human if _is_outside(mark, end)], []
    if outside:
        line = f"{len(outside)} of {len(human)} annotations lie outside the recording (0 to {end:g} s)"
        line += _suspicion(outside, human, end)
        notes.append(line + (f": not labelled for {', '.join(misplaced)}" if misplaced else ""))
    events = {mark for rule in rules if isinstance(rule, EventRule) for mark in by_task[rule.task.name]}
    if in_gaps := sum(_is_in_gap(mark, recording) and not _is_outside(mark, end) for mark in events):
        notes.append(f"{in_gaps} marks of events lie in gaps, where there is no signal")
    return tuple(notes), tuple(misplaced)


def reading(text: str, rules: Sequence[Rule]) -> dict[str, str]:
    """How each task reads a text, in words; empty if it is not understood."""
    found = {}
    for rule in rules:
        name = rule.class_of(text)
        if name == UNKNOWN:
            found[rule.task.name] = ENDS if isinstance(rule, StateRule) else DOUBT
        elif name is not None:
            found[rule.task.name] = name
    if not found and ends_scoring(text):
        found["states"] = "without duration end here"
    if not found and ied_meaning(text) == "other":
        found["other"] = "other"
    return found


class TextRow(NamedTuple):
    """A line of the table of texts."""

    text: str
    marks: int
    recordings: int
    read_as: Mapping[str, str]
    """By task; empty if not understood."""


def text_rows(texts: Iterable[Sequence[tuple[str, int]]], rules: Sequence[Rule]) -> list[TextRow]:
    """The table of texts of several recordings, the most frequent first."""
    marks, recordings = Counter(), defaultdict(int)
    for of_one in texts:
        for text, count in of_one:
            marks[text] += count
            recordings[text] += 1
    return [TextRow(text, n, recordings[text], reading(text, rules)) for text, n in marks.most_common()]


def table(rows: Sequence[TextRow], *, most: int | None = SHOWN, more_in: str = "") -> list[str]:
    """The table as lines to print: what was read, what is in doubt, and what was not understood; `most` of each."""
    lines, widest = [], max((row.recordings for row in rows), default=0)
    groups = {
        "marks, and how their texts were read:": [r for r in rows if r.read_as and DOUBT not in r.read_as.values()],
        "marks in doubt, whose windows have no label:": [r for r in rows if DOUBT in r.read_as.values()],
        "marks that no task understood, which give no label:": [r for r in rows if not r.read_as],
    }
    for title, group in groups.items():
        lines += [title] if group else []
        for row in group[:most]:
            read_as = ", ".join(name if task == name else f"{task} {name}" for task, name in row.read_as.items())
            text = plain(row.text) if len(row.text) <= _WIDTH else f"{plain(row.text[: _WIDTH - 3])}..."
            where = f" in {row.recordings:>5,} recordings" if widest > 1 else ""
            lines.append(f"  {row.marks:>7,}{where}  {text or '(no text)':<{_WIDTH}}  {read_as}".rstrip())
        lines += [f"  and {len(group) - most} more in {more_in}"] if most is not None and len(group) > most else []
    return lines


def _human(annotations: Sequence[Annotation]) -> list[Annotation]:
    return [mark for mark in annotations if mark.origin != "machine"]


def _stop(mark: Annotation) -> float:
    return mark.onset_seconds + max(mark.duration_seconds, 0.0)


def _is_outside(mark: Annotation, end: float) -> bool:
    return mark.onset_seconds > end or _stop(mark) < 0


def _is_in_gap(mark: Annotation, recording: Recording) -> bool:
    stretches = ((one.onset_seconds, one.onset_seconds + one.n_times / recording.sfreq) for one in recording.segments)
    return not any(mark.onset_seconds <= last and _stop(mark) >= first for first, last in stretches)


def _suspicion(outside: Sequence[Annotation], human: Sequence[Annotation], end: float) -> str:
    """What may be wrong with the times of marks of which some lie outside."""
    onsets = [mark.onset_seconds for mark in human]
    first, last = min(onsets), max(onsets)
    where = f", from {min(m.onset_seconds for m in outside):g} to {max(m.onset_seconds for m in outside):g} s"
    if 2 * len(outside) <= len(human):
        return where
    if last > _WRONG_UNIT * end and last - first > end:
        return f"{where}; in milliseconds or samples instead of seconds?"
    if last - first <= end:
        return f"{where}; by another clock, or of another recording?"
    return f"{where}; of a longer recording?"
