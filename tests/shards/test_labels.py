"""Every label rule at its limits."""

import dataclasses

import numpy as np
import pytest

from siamese_jax.recordings.recording import Annotation
from siamese_jax.shards.labels import (
    IED_RULE,
    RULES,
    SLEEP_RULE,
    STATE_RULE,
    UNKNOWN,
    EventRule,
    FindingRule,
    StateRule,
    TextClasses,
    described,
)
from siamese_jax.shards.marks import TaskMarks, window_labels
from siamese_jax.vocabulary import STAGES, TaskSpec

WINDOW = 4.0
ONE = np.array([10.0])  # one window, 10 to 14 s
ied_labels, sleep_labels, state_labels = IED_RULE.label, SLEEP_RULE.label, STATE_RULE.label


def ied(onset: float, duration: float = 0.0, text: str = "IED") -> Annotation:
    return Annotation(onset, duration, text)


def label_and_weight(labels) -> tuple[float, float]:
    return labels.label.item(), labels.weight.item()


# --- IED labels


@pytest.mark.parametrize(
    ("peak", "label", "weight"),
    [
        (9.99, 0, 1),  # a point before the window does not touch it
        (10.0, 0, 0),
        (10.09, 0, 0),
        (10.1, 1, 1),
        (12.0, 1, 1),
        (13.9, 1, 1),
        (13.91, 0, 0),
        (14.0, 0, 0),
        (14.01, 0, 1),
    ],
)
def test_a_peak_counts_from_a_tenth_of_a_second_inside(peak: float, label: float, weight: float) -> None:
    assert label_and_weight(ied_labels([ied(peak)], ONE, window_seconds=WINDOW)) == (label, weight)


@pytest.mark.parametrize(
    ("onset", "duration", "expected"),
    [
        (9.9, 0.4, (1, 1)),  # middle 10.1
        (9.88, 0.4, (0, 0)),  # middle 10.08: touches
        (9.5, 0.6, (0, 0)),  # ends inside
        (9.5, 0.5, (0, 1)),  # ends where the window begins
        (13.6, 0.6, (1, 1)),  # middle 13.9
        (13.95, 0.2, (0, 0)),
        (14.0, 0.2, (0, 1)),
    ],
)
def test_the_peak_of_a_short_interval_is_its_middle(onset: float, duration: float, expected: tuple) -> None:
    assert label_and_weight(ied_labels([ied(onset, duration)], ONE, window_seconds=WINDOW)) == expected


@pytest.mark.parametrize(
    ("onset", "duration", "expected"),
    [
        (9.0, 1.1, (1, 1)),  # 0.1 s of it lie inside
        (9.0, 1.09, (0, 0)),
        (9.0, 1.0, (0, 1)),
        (9.15, 1.0, (1, 1)),  # a second is long enough for a run
        (13.9, 3.0, (1, 1)),
        (13.91, 3.0, (0, 0)),
        (0.0, 60.0, (1, 1)),
        (14.0, 2.0, (0, 1)),
    ],
)
def test_a_run_marks_every_window_it_overlaps_by_a_tenth(onset: float, duration: float, expected: tuple) -> None:
    assert label_and_weight(ied_labels([ied(onset, duration)], ONE, window_seconds=WINDOW)) == expected


def test_start_and_end_marks_enclose_a_run_and_lonely_ones_are_single() -> None:
    marks = IED_RULE.marks([ied(5, text="!start"), ied(9, text="!end"), ied(20, text="!end"), ied(30, text="!start")])
    assert [(m.kind, m.onset_seconds, m.stop_seconds) for m in marks] == [
        ("run", 5, 9),
        ("event", 20, 20),
        ("event", 30, 30),
    ]
    assert np.isnan(marks[0].peak_seconds) and [m.peak_seconds for m in marks[1:]] == [20, 30]
    onsets = np.arange(0.0, 40.0, 4.0)
    twice = IED_RULE.marks([ied(5, text="!start"), ied(7, text="!Start "), ied(9, text="!end")])
    assert [(m.kind, m.onset_seconds, m.stop_seconds) for m in twice] == [("event", 5, 5), ("run", 7, 9)]
    got = ied_labels([ied(5, text="!start"), ied(9, text="!end")], onsets, window_seconds=WINDOW)
    assert got.label.tolist() == [0, 1, 1] + [0] * 7
    assert got.weight.tolist() == [1] * 10


def test_a_tenth_of_a_second_counts_as_inside_however_it_is_rounded() -> None:
    """0.3 - 0.1 is less than 0.2 in floating point."""
    got = ied_labels([ied(0.3)], np.array([0.2]), window_seconds=WINDOW)
    assert label_and_weight(got) == (1, 1)


def test_an_interval_that_ends_before_it_begins_is_a_single_mark() -> None:
    marks = IED_RULE.marks([ied(12.0, -3.0)])
    assert [(m.onset_seconds, m.duration_seconds, m.peak_seconds) for m in marks] == [(12.0, 0.0, 12.0)]


def test_a_full_discharge_outweighs_one_that_only_touches() -> None:
    both = [ied(10.05), ied(12.0)]
    for order in (both, both[::-1]):
        assert label_and_weight(ied_labels(order, ONE, window_seconds=WINDOW)) == (1, 1)


def test_ied_labels_equal_the_rule_written_out_for_each_window() -> None:
    """Against the rule read from the design, window by window, on overlapping windows in any order."""
    rng = np.random.default_rng(0)
    events = [
        ied(float(t), float(d)) for t, d in zip(rng.uniform(0, 300, 60), rng.choice([0, 0.15, 0.7, 3], 60), strict=True)
    ]
    onsets = rng.permutation(np.arange(0, 296, 0.5))
    got = ied_labels(events, onsets, window_seconds=WINDOW)
    for onset, label, weight in zip(onsets, got.label, got.weight, strict=True):
        stop, positive, touched = onset + WINDOW, False, False
        for start, duration, *_ in events:
            if duration >= 1:
                positive |= min(stop, start + duration) - max(onset, start) >= 0.1
            else:
                positive |= onset + 0.1 <= start + duration / 2 <= stop - 0.1
            touched |= start + duration > onset and start < stop
        assert (label, weight) == (positive, positive or not touched)


# --- stages


def stages(*marks: tuple[float, float, str]) -> list[Annotation]:
    return [Annotation(*mark) for mark in marks]


@pytest.mark.parametrize(("n2_from", "expected"), [(13.0, (0, 1)), (12.96, (0, 0)), (11.0, (2, 1)), (11.04, (2, 0))])
def test_three_quarters_of_a_window_must_share_the_stage_at_its_centre(n2_from: float, expected: tuple) -> None:
    """13.0: 75 % wake; 12.96: 74 %; 11.0: 75 % N2; 11.04: 74 %."""
    marks = stages((0, n2_from, "Sleep stage W"), (n2_from, 60, "Sleep stage N2"))
    got = sleep_labels(marks, ONE, window_seconds=WINDOW)
    assert got.weight.item() == expected[1]
    assert got.label.item() == (expected[0] if expected[1] else 0)


def test_parts_of_a_window_in_one_stage_add_up() -> None:
    marks = stages((0, 11.0, "N2"), (11.0, 0.8, "N1"), (11.8, 30, "N2"))  # 80 % N2 in two parts
    assert label_and_weight(sleep_labels(marks, ONE, window_seconds=WINDOW)) == (STAGES.index("N2"), 1)


def test_the_next_mark_ends_one_however_long_it_said_it_was() -> None:
    """N1 from 10.2 to 11.4 s leaves N2 70 % of the window."""
    marks = stages((0, 100, "N2"), (10.2, 1.2, "N1"), (11.4, 30, "N2"))
    assert label_and_weight(sleep_labels(marks, ONE, window_seconds=WINDOW)) == (0, 0)


def test_three_quarters_count_however_they_are_rounded() -> None:
    """From 0.1 to 3.1 s of 0.1 to 4.1 s: 0.75 but for the last bit."""
    for start in np.arange(0, 50) / 10:
        marks = stages((start, 3.0, "N2"), (start + 3.0, 0, "W"))
        assert label_and_weight(sleep_labels(marks, np.array([start]), window_seconds=WINDOW)) == (2, 1)


def test_a_mark_beyond_the_last_window_changes_nothing() -> None:
    marks = stages((0, 0, "N2"), (40, 0, "W"), (1000, 0, "N2"))
    got = sleep_labels(marks, np.array([0.0, 10, 36, 50]), window_seconds=WINDOW)
    assert got.label.tolist() == [2, 2, 2, 0] and got.weight.all()


def test_a_mark_without_duration_holds_until_the_next_even_over_a_gap() -> None:
    marks = stages((0, 0, "Sleep stage W"), (100, 0, "Sleep stage N3"), (200, 0, "Sleep stage ?"))
    onsets = np.array([0.0, 90, 99, 100, 150, 195, 200, 500])
    got = sleep_labels(marks, onsets, window_seconds=WINDOW)
    assert got.weight.tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    assert got.label.tolist() == [0, 0, 3, 3, 3, 3, 0, 0]  # 99 to 103: 3 of 4 s N3


def test_the_last_mark_holds_to_the_end() -> None:
    got = sleep_labels(stages((0, 0, "R")), np.array([0.0, 5000.0]), window_seconds=WINDOW)
    assert got.label.tolist() == [4, 4]
    assert got.weight.tolist() == [1, 1]


@pytest.mark.parametrize("text", ["Sleep stage ?", "Movement time", "unscored", " not scored ", "?", "Sleep stage M"])
def test_time_that_was_not_scored_has_no_label(text: str) -> None:
    marks = stages((0, 0, "N2"), (8, 0, text), (20, 0, "N2"))
    for rule in (sleep_labels, state_labels):
        assert rule(marks, ONE, window_seconds=WINDOW).weight.item() == 0


def test_before_the_first_mark_and_after_a_scored_interval_nothing_is_known() -> None:
    marks = stages((30, 30, "N2"))
    got = sleep_labels(marks, np.array([0.0, 26, 27.9, 29, 30, 56, 57.2, 60]), window_seconds=WINDOW)
    assert got.weight.tolist() == [0, 0, 0, 1, 1, 1, 0, 0]


def test_sleep_is_one_state_whatever_the_stage() -> None:
    marks = stages((0, 12.0, "N1"), (12.0, 60, "N2"))  # half and half: no stage, but asleep
    assert label_and_weight(sleep_labels(marks, ONE, window_seconds=WINDOW)) == (0, 0)
    assert label_and_weight(state_labels(marks, ONE, window_seconds=WINDOW)) == (1, 1)


def test_waking_and_sleeping_give_the_state_and_only_waking_a_stage() -> None:
    marks = stages((0.1, 0, "Waking"), (100, 0, " Sleeping "), (200, 0, "Waking"))
    onsets = np.array([50.0, 150, 250])
    state, sleep = (rule(marks, onsets, window_seconds=WINDOW) for rule in (state_labels, sleep_labels))
    assert state.label.tolist() == [0, 1, 0]
    assert state.weight.tolist() == [1, 1, 1]
    assert sleep.weight.tolist() == [1, 0, 1]  # asleep, but in no stage that anybody scored


# --- all tasks


ALL = [(0.0, 100.0)]


def labels_of(annotations, onsets, *, labelled_for=("ied", "sleep", "state")) -> dict:
    held = {rule.task: rule.task_marks(annotations, ALL) for rule in RULES}
    held = {task: marks if task.name in labelled_for else TaskMarks() for task, marks in held.items()}
    return {task.name: window_labels(task, marks, onsets, window_seconds=WINDOW) for task, marks in held.items()}


def test_a_recording_that_nobody_scored_has_no_label_of_any_task() -> None:
    for labels in labels_of([ied(12.0)], ONE, labelled_for=()).values():
        assert (labels.label.item(), labels.weight.item()) == (0, 0)


def test_where_ieds_were_looked_for_their_absence_is_a_label() -> None:
    got = labels_of([], ONE)
    assert label_and_weight(got["ied"]) == (0, 1)
    assert label_and_weight(got["sleep"]) == (0, 0)


def test_labels_have_the_types_of_their_kinds_and_hold_0_where_missing() -> None:
    onsets = np.arange(0.0, 96.5, 0.5)
    got = labels_of([*stages((10, 20, "N3"), (40, 10, "R")), ied(12.0), ied(30.05, 0.2)], onsets)
    assert {name: labels.label.dtype for name, labels in got.items()} == {
        "ied": np.float32,
        "sleep": np.int32,
        "state": np.float32,
    }
    for labels in got.values():
        assert labels.weight.dtype == np.float32
        assert set(labels.weight.tolist()) == {0, 1}
        assert not labels.label[labels.weight == 0].any()


# --- marks and what was judged


def test_marks_keep_channel_and_origin_and_know_a_peak_only_where_one_was_marked() -> None:
    first, second = IED_RULE.marks([Annotation(5.0, 0.2, "IED", "F7", "reviewed"), Annotation(9.0, 0.0, "IED")])
    assert first[:2] == (5.0, 0.2) and np.isnan(first.peak_seconds) and first.place_seconds == pytest.approx(5.1)
    assert first[3:] == (1, ("F7",), "event", "reviewed")
    assert second == (9.0, 0.0, 9.0, 1, (), "event", "human")


def test_runs_are_closed_on_the_channel_that_they_were_opened_on() -> None:
    """Two channels, 10 ms apart, as an export by channel gives them; then an end that names no channel."""
    texts = [(5.0, "!start", "F7"), (5.01, "!start", "T3"), (9.0, "!end", "F7"), (9.01, "!end", "T3")]
    marks = IED_RULE.marks([Annotation(onset, 0.0, text, channel) for onset, text, channel in texts])
    assert [(m.kind, m.onset_seconds, m.stop_seconds, m.channels) for m in marks] == [
        ("run", 5.0, 9.0, ("F7",)),
        ("run", 5.01, 9.01, ("T3",)),
    ]
    loose = IED_RULE.marks([Annotation(5.0, 0.0, "!start", "F7"), Annotation(8.0, 0.0, "!end")])
    assert [(m.kind, m.stop_seconds) for m in loose] == [("run", 8.0)]
    other = IED_RULE.marks([Annotation(5.0, 0.0, "!start", "F7"), Annotation(8.0, 0.0, "!end", "T3")])
    assert [m.kind for m in other] == ["event", "event"]


def test_what_a_machine_wrote_is_no_label_until_somebody_reviewed_it() -> None:
    machine, reviewed = (Annotation(12.0, 0.2, "IED", None, origin) for origin in ("machine", "reviewed"))
    assert label_and_weight(ied_labels([machine], ONE, window_seconds=WINDOW)) == (0, 1)
    assert label_and_weight(ied_labels([reviewed], ONE, window_seconds=WINDOW)) == (1, 1)
    staged = Annotation(0.0, 60.0, "Sleep stage N2", None, "machine")
    assert label_and_weight(sleep_labels([staged], ONE, window_seconds=WINDOW)) == (0, 0)


def test_judged_is_where_somebody_looked_less_what_has_no_class() -> None:
    stretches = [(0.0, 100.0), (200.0, 50.0)]
    assert IED_RULE.task_marks([ied(12.0)], stretches).judged == tuple(stretches)
    unsure = [Annotation(20.0, 5.0, "unsure"), Annotation(40.0, 0.0, "spike")]
    assert WAVES.task_marks(unsure, stretches).judged == ((0.0, 20.0), (25.0, 75.0), (200.0, 50.0))
    alone = dataclasses.replace(WAVES, rest=False).task_marks([Annotation(40.0, 2.0, "spike"), *unsure], stretches)
    assert alone.judged == ((40.0, 2.0),)
    night = stages((0, 30, "N2"), (30, 0, "Movement time"), (60, 0, "R"))  # the last one holds to the end
    assert SLEEP_RULE.task_marks(night, stretches).judged == ((0.0, 30.0), (60.0, 40.0), (200.0, 50.0))
    assert SLEEP_RULE.task_marks(night, stretches).marks[-1].stop_seconds == 250
    assert SLEEP_RULE.task_marks([], stretches).judged == ()


def test_a_window_that_reaches_beyond_what_was_judged_is_not_negative() -> None:
    held = IED_RULE.task_marks([ied(12.0)], [(0.0, 20.0)])
    got = window_labels(IED_RULE.task, held, np.array([0.0, 10.0, 16.0, 16.1]), window_seconds=WINDOW)
    assert got.label.tolist() == [0, 1, 0, 0] and got.weight.tolist() == [1, 1, 1, 0]


# --- rules of any task

WAVES = EventRule(
    TaskSpec("waves", "multiclass", ("none", "spike", "spindle")),
    TextClasses((("spike", "spike"), ("spindle", "sp.*le.*"), (UNKNOWN, "unsure"))),
)


def waves(*marks: tuple[float, float, str], rule: EventRule = WAVES):
    return rule.label([Annotation(*mark) for mark in marks], ONE, window_seconds=WINDOW)


def test_of_several_events_the_one_nearest_to_the_centre_counts() -> None:
    """The window's centre is at 12 s."""
    assert label_and_weight(waves((10.5, 0, "Spike"), (11.0, 1.0, "spindle (slow)"))) == (2, 1)  # 1.5 and 0.5 s away
    assert label_and_weight(waves((12.4, 0, " SPIKE "), (11.0, 1.0, "spindle"))) == (1, 1)
    assert label_and_weight(waves((9.0, 0, "spike"), (9.6, 1.2, "spindle"))) == (2, 1)  # one peaks outside
    assert waves((12.0, 0, "spike")).label.dtype == np.int32


def test_of_runs_that_hold_the_centre_the_earlier_counts() -> None:
    rule = dataclasses.replace(WAVES, run_seconds=1.0)
    assert label_and_weight(waves((9.0, 4.0, "spindle"), (10.0, 6.0, "spike"), rule=rule)) == (2, 1)
    assert label_and_weight(waves((9.0, 4.0, "spike"), (10.0, 6.0, "spindle"), rule=rule)) == (1, 1)


def test_an_event_of_unknown_class_leaves_its_window_without_a_label_unless_a_known_one_is_nearer() -> None:
    assert label_and_weight(waves((12.0, 0, "unsure"))) == (0, 0)
    assert label_and_weight(waves((10.5, 0, "unsure"), (12.0, 0, "spike"))) == (1, 1)
    assert label_and_weight(waves((12.0, 0, "unsure"), (10.5, 0, "spike"))) == (0, 0)


def test_a_run_that_nobody_closed_has_the_class_of_its_opening() -> None:
    rule = dataclasses.replace(WAVES, class_of=TextClasses(((UNKNOWN, "!start"), ("spike", "!end"))))
    assert [m.code for m in rule.marks([ied(5, text="!start")])] == [-1]
    assert [m.code for m in rule.marks([ied(5, text="!start"), ied(9, text="!end")])] == [1]  # the end names the class
    assert [m.code for m in IED_RULE.marks([ied(5, text="!start")])] == [1]


def test_texts_that_no_class_has_change_nothing() -> None:
    assert label_and_weight(waves((12.0, 0, "my spike"), (12.0, 3.0, "lights off"))) == (0, 1)


def test_without_rest_a_window_without_event_has_no_label() -> None:
    rule = dataclasses.replace(WAVES, rest=False)
    assert label_and_weight(waves(rule=rule)) == (0, 0)
    assert label_and_weight(waves((12.0, 0, "spike"), rule=rule)) == (1, 1)


def test_a_long_event_is_no_run_unless_the_rule_says_from_when() -> None:
    """0 to 23 s: its middle, 11.5 s, is inside; that of 0 to 17 s is not, and it only touches."""
    assert label_and_weight(waves((0.0, 23.0, "spindle"))) == (2, 1)
    assert label_and_weight(waves((0.0, 17.0, "spindle"))) == (0, 0)
    assert label_and_weight(waves((0.0, 17.0, "spindle"), rule=dataclasses.replace(WAVES, run_seconds=1.0))) == (2, 1)


def test_findings_hold_together_and_seconds_that_overlap_count_once() -> None:
    rule = FindingRule(
        TaskSpec("ecg", "multilabel", ("af", "lbbb", "mi")), TextClasses((("af", "af"), ("lbbb", "lbbb")))
    )
    onsets = np.array([0.0, 10.0, 20.0])
    marks = [
        Annotation(0, 30, "AF"),
        Annotation(10, 1.5, "lbbb"),
        Annotation(10.5, 1.5, "lbbb"),
        Annotation(20, 3, "lbbb"),
    ]
    got = rule.label(marks, onsets, window_seconds=WINDOW)
    assert got.label.tolist() == [[1, 0, 0], [1, 0, 0], [1, 1, 0]]  # 2 of 4 s are half of the window, 3 of 4 s are 75 %
    assert got.weight.tolist() == [1, 1, 1] and got.label.dtype == np.float32
    assert not rule.label([], onsets, window_seconds=WINDOW).label.any()
    nested = [Annotation(20, 2.5, "af"), Annotation(20.2, 0.5, "af"), Annotation(21, 1.5, "af")]
    assert not rule.label(nested, onsets, window_seconds=WINDOW).label.any()  # together 2.5 of 4 s
    backwards = [Annotation(20.5, -5, "af"), Annotation(20.5, 3.2, "af")]
    assert rule.label(backwards, onsets, window_seconds=WINDOW).label[:, 0].tolist() == [0, 0, 1]


def test_an_expression_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"class 'a': '\(' is no regular expression"):
        TextClasses((("a", "("),))


def test_a_rule_in_words_changes_with_all_that_decides_its_labels() -> None:
    other = TextClasses((("spike", "spike"), ("spindle", "spindle")))
    variants = [
        WAVES,
        *(dataclasses.replace(WAVES, **c) for c in ({"rest": False}, {"run_seconds": 1.0}, {"class_of": other})),
    ]
    renamed = TaskSpec("waves", "multiclass", ("none", "spindle", "spike"))
    variants.append(dataclasses.replace(WAVES, task=renamed))
    variants += [SLEEP_RULE, STATE_RULE, IED_RULE, StateRule(WAVES.task, WAVES.class_of)]
    assert len({described(rule) for rule in variants}) == len(variants)
    assert "0x" not in "".join(map(described, variants))  # no addresses: the words are the same in every process
