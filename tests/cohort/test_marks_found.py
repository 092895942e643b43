"""What is printed of marks: texts and their readings, marks outside, stages that end at unread texts."""

import numpy as np
import pytest

from siamese_jax.cohort.marks_found import DOUBT, ENDS, marks_of, reading, settled, table, text_rows
from siamese_jax.recordings.recording import Annotation, Segment
from siamese_jax.shards.labels import RULES, EventRule, TextClasses
from siamese_jax.vocabulary import TaskSpec
from tests.recordings.in_memory import recording_of

ONSETS = np.arange(0, 100, 10.0)
SPINDLES = EventRule(TaskSpec("spindle", "binary", ("none", "spindle")), TextClasses((("spindle", "sp.*"),)))


def found(*marks: Annotation, segments: tuple[Segment, ...] = (Segment(0.0, 10_000),)):
    """Of a recording of 100 s at 100 Hz, cut into windows of 10 s."""
    pieces, onsets = [np.zeros((one.n_times, 4)) for one in segments], [one.onset_seconds for one in segments]
    return marks_of(marks, recording_of(pieces, onsets=onsets), RULES, ONSETS, window_seconds=10.0)


def at(onset: float, text: str, duration: float = 0.0, origin: str = "human") -> Annotation:
    return Annotation(onset, duration, text, None, origin)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("F7 spike", {"ied": "ied"}),
        ("spike?", {"ied": DOUBT}),
        ("Stage 2 sleep", {"sleep": "N2", "state": "sleep"}),
        ("Sleeping", {"sleep": ENDS, "state": "sleep"}),
        ("Unknown", {"sleep": ENDS, "state": ENDS}),
        ("Lights on", {"states": "without duration end here"}),
        ("no spikes", {"other": "other"}),
        ("BAD_muscle", {"other": "other"}),
        ("F7?", {}),
    ],
)
def test_how_each_task_reads_a_text(text, expected):
    assert reading(text, RULES) == expected


def test_a_task_of_the_user_reads_texts_too():
    assert reading("spx", (*RULES, SPINDLES)) == {"spindle": "spindle"} and reading("spx", RULES) == {}


def test_texts_are_counted_and_those_of_a_machine_apart():
    marks = found(at(1, "spike"), at(2, " spike "), at(3, "F7?"), at(4, "IED p=0.90", origin="machine"))
    assert marks.texts == (("spike", 2), ("F7?", 1)) and marks.n_machine == 1


def test_windows_with_marks_that_nobody_reads_are_counted():
    marks = found(at(5, "x"), at(25, "y", 10.0), at(50, "spike"), at(71, "no spikes"), at(80, "z"))
    assert marks.n_unread_windows == 4  # of 0, 20, 30 and 80 s; a mark at 80 s is past the window that ends there
    assert found(at(5, "x", origin="machine")).n_unread_windows == 0


@pytest.mark.parametrize(
    ("onsets", "said"),
    [
        ([1000.0 * t for t in range(5, 95, 10)], "in milliseconds or samples instead of seconds"),
        ([256.0 * t for t in range(5, 95, 10)], "in milliseconds or samples instead of seconds"),
        ([3600.0 + t for t in range(5, 95, 10)], "by another clock"),
        ([-500.0 + t for t in range(5, 95, 10)], "by another clock"),
        ([30.0 * t for t in range(1, 10)], "of a longer recording"),
    ],
)
def test_marks_outside_are_told_with_what_may_be_wrong_and_label_nothing(onsets, said):
    marks = found(*(at(onset, "spike", 0.1) for onset in onsets))
    outside = sum(not 0 <= onset <= 100 for onset in onsets)
    assert marks.misplaced == ("ied",)
    (note,) = marks.notes
    assert note.startswith(f"{outside} of 9 annotations lie outside the recording (0 to 100 s)")
    assert said in note and note.endswith("not labelled for ied")


def test_a_few_marks_outside_are_told_and_the_others_count():
    marks = found(
        at(-2, "Sleep stage W", 1), at(0, "Sleep stage W", 30), at(30, "N2", 70), at(101, "spike"), at(5, "spike")
    )
    assert marks.misplaced == () and "2 of 5 annotations lie outside" in marks.notes[0]


def test_marks_at_the_edges_or_across_them_lie_inside():
    assert found(at(-20, "W", 20), at(-5, "N2", 10), at(100, "spike"), at(0, "spike")).notes == ()


def test_events_in_a_gap_are_told_and_stages_across_it_are_not():
    segments = (Segment(0.0, 4000), Segment(60.0, 4000))
    marks = found(at(50, "spike", 0.1), at(40, "N2", 30), at(45, "N2", 5), segments=segments)
    assert marks.notes == ("1 marks of events lie in gaps, where there is no signal",)


def stages(*marks: Annotation) -> tuple[list[tuple[float, float]], int]:
    ordered, n_ended = settled(marks, RULES)
    return [(m.onset_seconds, m.duration_seconds) for m in ordered if reading(m.text, RULES).get("state")], n_ended


@pytest.mark.parametrize("text", ["Stage X", "xyz", "Lights on"])
def test_a_stage_without_duration_ends_at_a_text_that_nobody_reads(text):
    assert stages(at(0, "N2"), at(90, text), at(150, text), at(210, "R")) == ([(0, 90), (210, 0)], 1)


@pytest.mark.parametrize(
    "mark",
    [at(90, "spike"), at(90, "Eyes open"), at(90, "Lights off"), at(90, "xyz", 0.5), at(0, "xyz")],
    ids=lambda mark: f"{mark.text} at {mark.onset_seconds}",
)
def test_a_stage_goes_on_through_marks_about_other_things(mark):
    assert stages(at(0, "N2"), mark, at(210, "R")) == ([(0, 0), (210, 0)], 0)


def test_a_stage_with_a_duration_keeps_it():
    assert stages(at(0, "N2", 30), at(10, "xyz"), at(30, "R", 30)) == ([(0, 30), (30, 30)], 0)


def test_what_a_machine_wrote_ends_nothing():
    assert stages(at(0, "N2"), at(90, "xyz", origin="machine"), at(210, "R")) == ([(0, 0), (210, 0)], 0)


def test_the_table_has_the_most_frequent_first_and_the_rest_in_the_report():
    rows = text_rows([(("spike", 3), ("F7?", 1)), (("F7?", 7), ("SW", 1), ("\x1b[31mred", 1))], RULES)
    assert [(row.text, row.marks, row.recordings) for row in rows][:2] == [("F7?", 8, 2), ("spike", 3, 1)]
    lines = table(rows, most=1, more_in="prepare.json")
    assert [" ".join(line.split()) for line in lines] == [
        "marks, and how their texts were read:",
        "3 in 1 recordings spike ied",
        "marks in doubt, whose windows have no label:",
        "1 in 1 recordings SW ied in doubt: no label",
        "marks that no task understood, which give no label:",
        "8 in 2 recordings F7?",
        "and 1 more in prepare.json",
    ]
    assert "\x1b" not in "\n".join(table(rows)) and table([]) == []
    assert rows[1]._asdict() == {"text": "spike", "marks": 3, "recordings": 1, "read_as": {"ied": "ied"}}
