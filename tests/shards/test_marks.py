"""Marks that overlap are one event, and no others; labels follow from what a shard stores."""

import math
from pathlib import Path

import numpy as np
import pytest

from siamese_jax.recordings.recording import Annotation
from siamese_jax.recordings.windows import untouched
from siamese_jax.shards.labels import IED_RULE, RULES, UNKNOWN, EventRule, FindingRule, Rule, TextClasses
from siamese_jax.shards.marks import FrameBags, Mark, TaskMarks, events_of, window_labels
from siamese_jax.shards.schema import open_shard
from siamese_jax.shards.write import write_shard
from siamese_jax.vocabulary import IED, TaskSpec
from tests.recordings.in_memory import SFREQ, WINDOW, info_of, labelled, noise, recording_of


def ied(onset: float, duration: float = 0.0, channel: str | None = None, text: str = "IED", origin="human"):
    return Annotation(onset, duration, text, channel, origin)


def events(*annotations: Annotation) -> list[tuple]:
    """Kind, onset, end and place of each, in hundredths of a second."""
    found = events_of(IED_RULE.marks(annotations))
    return [(e.kind, *(round(100 * t) for t in (e.onset_seconds, e.stop_seconds, e.place_seconds))) for e in found]


# --- marks -> frames


def bags(
    *annotations: Annotation, first: float = 10.0, seconds: float = 4.0, held: TaskMarks | None = None
) -> list[int]:
    """What is known of each tenth of a second from `first` on, its ends included."""
    held = held or IED_RULE.task_marks(annotations, [(0.0, 60.0)])
    return FrameBags(held).of_window(first + np.arange(round(10 * seconds) + 1) / 10).tolist()


def test_frames_of_a_mark_are_one_bag_frames_around_it_are_not_known_and_all_others_are_negative() -> None:
    # 11.0 to 11.5 s: frames 10 to 15; a point at 13.02 s stands for 12.92 to 13.12 s: frames 30, 31.
    found = bags(ied(11.0, 0.5), ied(13.02))
    assert [i for i, bag in enumerate(found) if bag == 1] == list(range(10, 16))
    assert [i for i, bag in enumerate(found) if bag == 2] == [30, 31]
    assert [i for i, bag in enumerate(found) if bag == -1] == [29, 32]
    wider = FrameBags(IED_RULE.task_marks([ied(11.0, 0.5)], [(0.0, 60.0)])).of_window(10 + np.arange(201) / 50)
    assert np.flatnonzero(wider == -1).tolist() == [*range(46, 50), *range(76, 80)]  # 0.1 s on both sides


def test_a_short_mark_is_a_bag_of_200_ms_and_a_known_peak_shortens_a_long_one() -> None:
    fine = 10 + np.arange(401) / 100
    short = FrameBags(IED_RULE.task_marks([ied(11.0, 0.04)], [(0.0, 60.0)])).of_window(fine)
    assert np.flatnonzero(short == 1).tolist() == list(range(92, 113))
    peaked = TaskMarks((Mark(11.0, 0.8, 11.6, 1, (), "event"),), ((0.0, 60.0),))
    found = FrameBags(peaked).of_window(fine)
    assert np.flatnonzero(found == 1).tolist() == list(range(150, 171))
    assert set(found[91:150].tolist()) == set(found[171:190].tolist()) == {-1}


def test_marks_that_the_window_cuts_name_no_class_or_lie_where_nobody_judged_are_not_known() -> None:
    assert bags(ied(9.0, 2.0))[:12] == [-1] * 11 + [0]
    assert bags(ied(13.5, 3.0))[33:] == [0, 0] + [-1] * 6
    assert set(bags(ied(11.0, 0.5, text="spike?"))) == {0, -1}
    half = TaskMarks((), ((0.0, 12.0),))
    assert bags(held=half) == [0] * 21 + [-1] * 20


def test_a_run_is_a_bag_and_the_label_of_a_whole_window_the_widest() -> None:
    assert bags(ied(10.5, 3.0))[5:36] == [1] * 31
    whole = Mark(10.0, 4.0, math.nan, 1, (), "window")
    assert bags(held=TaskMarks((whole,), ())) == [1] * 41
    assert bags(held=TaskMarks((whole._replace(code=0),), ())) == [0] * 41
    assert bags(held=TaskMarks((whole,), ()), first=11.0) == [-1] * 41  # of that window alone


def test_states_give_no_bags() -> None:
    state = Mark(0.0, 60.0, math.nan, 1, (), "state")
    assert set(bags(held=TaskMarks((state,), ((0.0, 60.0),)))) == {-1}


# --- marks -> events


def test_a_discharge_marked_on_four_channels_each_10_ms_later_is_one_event() -> None:
    marks = [ied(12.0 + 0.01 * k, 0.2, channel) for k, channel in enumerate((None, "F7", "T3", "Fp1"))]
    (event,) = events_of(IED_RULE.marks(marks))
    assert event.channels == ("F7", "T3", "Fp1")
    assert (event.onset_seconds, event.stop_seconds) == (12.0, pytest.approx(12.23))
    assert event.place_seconds == pytest.approx(12.115)  # the median of the four middles
    assert events(*marks, ied(13.0, 0.2, "F7")) == [("event", 1200, 1223, 1211), ("event", 1300, 1320, 1310)]


def test_moments_on_several_channels_are_one_event_if_they_follow_within_a_tenth_of_a_second() -> None:
    assert events(ied(5.0, channel="F7"), ied(5.03, channel="T3"), ied(5.09, channel="T5")) == [
        ("event", 500, 509, 503)
    ]
    assert [e[0] for e in events(ied(5.0), ied(5.11))] == ["event", "event"]
    assert len(events(ied(5.0, 0.2), ied(5.24))) == 1  # 40 ms after the end of an interval
    assert len(events(ied(5.0, 0.2), ied(5.26))) == 2


def test_a_peak_that_somebody_marked_counts_before_the_middle_of_an_interval() -> None:
    assert events(ied(5.0, 0.4), ied(5.1)) == [("event", 500, 540, 510)]
    assert events(ied(5.0, 0.4), ied(5.1, 0.5)) == [("event", 500, 560, 528)]  # of two middles, 5.2 and 5.35 s


def test_marks_end_to_end_are_events_of_their_own() -> None:
    assert [place for *_, place in events(ied(5.0, 0.3), ied(5.3, 0.3), ied(5.6, 0.3))] == [515, 545, 575]


def test_a_run_and_the_discharges_marked_in_it_are_one_run() -> None:
    assert events(ied(5.0, 3.0, "F7"), ied(5.1, 0.1), ied(7.9, 0.3, "T3"), ied(8.5)) == [
        ("run", 500, 820, 660),
        ("event", 850, 850, 850),
    ]
    by_channel = [ied(t, 0.0, c, text) for t, c, text in ((5, "F7", "!start"), (5.01, "T3", "!start"))]
    by_channel += [ied(t, 0.0, c, text) for t, c, text in ((5.5, "F7", "!end"), (5.51, "T3", "!end"))]
    assert events(*by_channel) == [("run", 500, 551, 526)]


def test_overlapping_marks_that_no_one_moment_stands_for_are_a_run() -> None:
    chain = [ied(5.0 + 0.3 * k, 0.4) for k in range(5)]
    assert events(*chain) == [("run", 500, 660, 580)]
    assert events(*chain[:2]) == [("event", 500, 570, 535)]


def test_classes_stay_apart_and_the_most_trusted_origin_counts() -> None:
    rule = EventRule(
        TaskSpec("waves", "multiclass", ("none", "spike", "spindle")),
        TextClasses((("spike", "spike"), ("spindle", "spindle"), (UNKNOWN, "unsure"))),
    )
    marks = rule.marks([ied(5.0, 0.2, text=text) for text in ("spike", "spindle", "unsure", "spike")])
    assert sorted(event.code for event in events_of(marks)) == [-1, 1, 2]
    for origins, wanted in ((("simulated", "human"), "human"), (("human", "reviewed"), "reviewed")):
        (event,) = events_of(IED_RULE.marks([ied(5.0, 0.2, origin=origin) for origin in origins]))
        assert event.origin == wanted
    held = [Mark(0.0, 4.0, math.nan, 1, (), kind) for kind in ("window", "state", "finding")]
    assert events_of(held) == ()


# --- what a shard stores gives its labels

SURE = EventRule(TaskSpec("sure", "binary", ("none", "sure")), TextClasses((("sure", "sure"), (UNKNOWN, "unsure"))))
SOME = EventRule(TaskSpec("some", "multiclass", ("a", "b")), TextClasses((("a", "one"), ("b", "two"))), rest=False)
FINDINGS = FindingRule(TaskSpec("found", "multilabel", ("x", "y")), TextClasses((("x", "x"), ("y", "y"))))
EVERY: tuple[Rule, ...] = (*RULES, SURE, SOME, FINDINGS)
TEXTS = ("IED", "!start", "!end", "N2", "W", "Sleeping", "Movement time", "sure", "unsure", "one", "two", "x", "y")


@pytest.mark.parametrize("seed", range(6))
def test_labels_are_those_of_the_stored_marks_and_of_what_was_judged(tmp_path: Path, seed: int) -> None:
    """Whatever was annotated, in a recording with a gap and bad seconds, and in one labelled for half of the tasks."""
    rng = np.random.default_rng(seed)

    def some(n: int) -> list[Annotation]:
        durations = rng.choice([0.0, 0.15, 0.7, 3.0, 9.0, -1.0], n)
        channels, origins = rng.choice(["", "F7", "T 3"], n), rng.choice(["human", "reviewed", "machine"], n)
        rows = zip(rng.uniform(-2, 75, n), durations, rng.choice(TEXTS, n), channels, origins, strict=True)
        return [Annotation(float(t), float(d), str(x), str(c) or None, str(o)) for t, d, x, c, o in rows]

    names = tuple(rule.task.name for rule in EVERY)
    pieces = [noise(3000), noise(2500, seed=1)]
    items = [
        labelled(recording_of(pieces), some(90), name="a", bad=[(12.3, 0.5)], rules=EVERY, labelled_for=names),
        labelled(recording_of(pieces), some(90), name="b", rules=EVERY, labelled_for=names[::2]),
    ]
    write_shard(tmp_path / "x.h5", items, info=info_of(items[0].recording, rules=EVERY))
    shard = open_shard(tmp_path / "x.h5")
    assert shard.recordings["digest"].tolist() == ["digest of a", "digest of b"]
    for task in shard.info.tasks:
        for recording in (0, 1):
            own, held = shard.recording == recording, shard.task_marks(task.name, recording)
            onsets = shard.onset_seconds[own]
            label, weight = window_labels(task, held, onsets, window_seconds=WINDOW / SFREQ)
            weight = weight * untouched(onsets, shard.bad(recording), window_seconds=WINDOW / SFREQ)
            np.testing.assert_array_equal(shard.weights[task.name][own], weight)
            np.testing.assert_array_equal(shard.labels[task.name][own], (label.T * (weight > 0)).T)
            assert not any(mark.origin == "machine" for mark in held.marks)
        assert shard.weights[task.name].sum() < len(shard)
    assert sum((shard.weights[task.name] * (shard.labels[task.name].T > 0)).any() for task in shard.info.tasks) > 4
    assert shard.task_marks("state", 1) != TaskMarks() == shard.task_marks("sleep", 1)  # nobody labelled b for sleep


def test_marks_come_back_as_they_were(tmp_path: Path) -> None:
    marks = [ied(12.0, 0.1, "Fp1", origin="reviewed"), ied(40.5), ied(50.0, 2.0, "EEG odd")]
    recording = recording_of([noise(6500)])
    write_shard(tmp_path / "x.h5", [labelled(recording, marks)], info=info_of(recording))
    shard = open_shard(tmp_path / "x.h5")
    held = shard.task_marks("ied", 0)
    assert held.judged == ((0.0, 65.0),)
    assert repr(held.marks) == repr(  # NaN is no equal of itself
        (
            Mark(12.0, 0.1, math.nan, 1, ("Fp1",), "event", "reviewed"),
            Mark(40.5, 0.0, 40.5, 1, (), "event", "human"),
            Mark(50.0, 2.0, math.nan, 1, ("EEG_odd",), "run", "human"),
        )
    )
    assert shard.marks["ied"].channels.tolist() == ["Fp1", "", "EEG_odd"]
    assert shard.judged_windows("ied").all() and not shard.judged_windows("sleep").any()


def test_a_window_whose_label_is_given_as_a_whole_has_it_wherever_marks_lie() -> None:
    onsets = np.array([0.0, 2.0, 4.0, 8.0])
    marks = (
        *IED_RULE.marks([ied(5.0), ied(8.02)]),
        Mark(4.0, 4.0, math.nan, 0, (), "window"),
        Mark(8.0, 4.0, math.nan, 1, (), "window"),
        Mark(0.0, 3.0, math.nan, 1, (), "window"),  # of another length: it names no window
    )
    got = window_labels(IED, TaskMarks(marks, ((0.0, 20.0),)), onsets, window_seconds=4.0)
    assert got.label.tolist() == [0, 1, 0, 1] and got.weight.tolist() == [1, 1, 1, 1]
