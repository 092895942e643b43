"""From answers to figures: arithmetic by hand on crafted scores, and runs of discharges counted once."""

import dataclasses
import json

import numpy as np
import pytest

from siamese_jax.detection import score as room
from siamese_jax.detection.predict import Predictions, Timeline
from siamese_jax.detection.score import (
    TOLERANCE_SECONDS,
    RecordingEvents,
    Scores,
    _errors,
    _events,
    _recording_events,
    fix_operating_points,
    found_and_real,
    report,
    report_text,
    score,
)
from siamese_jax.evaluation.events import Event, count_events
from siamese_jax.evaluation.metrics import points_from_rows, points_to_rows
from siamese_jax.recordings.recording import Annotation
from siamese_jax.recordings.windows import WindowGrid
from siamese_jax.shards.labels import IED_RULE, UNKNOWN, EventRule, TextClasses
from siamese_jax.shards.marks import TaskMarks
from siamese_jax.shards.schema import Shard, open_shard
from siamese_jax.shards.write import write_shard
from siamese_jax.vocabulary import IED, SLEEP, STATE, TaskSpec
from tests.recordings.in_memory import info_of, labelled, noise, recording_of

TASKS = (IED, SLEEP)


def event(peak: float, probability: float = 0.9) -> Event:
    return Event(peak - 0.05, peak, 0.1, probability)


def scores(events=()) -> Scores:
    """Two patients of four windows; IED scores in perfect order but for one pair; one window without any label."""
    return Scores(
        patients=np.array(["a"] * 4 + ["b"] * 4, object),
        labels={"ied": np.array([0, 0, 1, 1, 0, 1, 0, 0], np.float32), "sleep": np.array([0, 1, 2, 3, 4, 0, 1, 0])},
        weights={"ied": np.array([1, 1, 1, 1, 1, 1, 1, 0], np.float32), "sleep": np.ones(8, np.float32)},
        probabilities={
            "ied": np.array([[0.1], [0.2], [0.6], [0.9], [0.3], [0.5], [0.55], [0.99]], np.float32),
            "sleep": np.eye(5, dtype=np.float32)[[0, 1, 2, 3, 4, 0, 1, 4]],
        },
        events={"ied": events} if events else {},
    )


def recording_events(patient, found, places, hours) -> RecordingEvents:
    """Without runs."""
    return RecordingEvents(patient, found, places, hours, np.zeros(len(places), bool))


def test_figures_by_hand(tiny):
    validation = scores()
    points = fix_operating_points(tiny, TASKS, validation)
    (point,) = [p for p in points if p.criterion == "max_f1"]
    # The last window has no label: its 0.99 is no false positive.
    assert (point.sensitivity, point.precision, point.specificity) == (1, 0.75, 0.75)
    tree = report(tiny, TASKS, validation, points, n_resamples=50)
    ied = tree["ied"]
    assert ied["auroc"]["value"] == pytest.approx(11 / 12)  # 3 positives x 4 negatives, one pair the wrong way
    assert ied["prevalence"] == pytest.approx(3 / 7)
    # F1 is greatest where all three positives and one negative are detected.
    assert ied["max_f1"]["threshold"] == pytest.approx(0.5)
    assert ied["max_f1"]["sensitivity"]["value"] == 1 and ied["max_f1"]["precision"]["value"] == 0.75
    assert ied["max_f1"]["specificity"]["value"] == 0.75
    assert tree["sleep"]["accuracy"]["value"] == 7 / 8
    assert np.array(tree["sleep"]["confusion"]).trace() == 7
    assert (tree["patients"], tree["windows"]) == (2, 8)
    json.dumps(tree, allow_nan=False)
    text = report_text(tree)
    assert "ied (prevalence 0.429)" in text and "max_f1, threshold 0.500; 3 positive windows" in text


def test_each_class_of_a_multilabel_task_has_a_threshold_and_figures_of_its_own(tiny):
    task = TaskSpec("diagnosis", "multilabel", ("NORM", "LAO/LAE", "never"))
    config = dataclasses.replace(tiny, tasks=("diagnosis",), model=dataclasses.replace(tiny.model, fusion="none"))
    labels = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 1]], np.float32)
    chance = np.array([[0.9, 0.1, 0], [0.6, 0.3, 0], [0.7, 0.2, 0], [0.1, 0.4, 0], [0.2, 0.1, 0], [0.9, 0.9, 0]])
    answers = Scores(
        patients=np.array(list("aabbcc"), object),
        labels={"diagnosis": labels},
        weights={"diagnosis": np.array([1, 1, 1, 1, 1, 0], np.float32)},  # the last window has no label
        probabilities={"diagnosis": chance.astype(np.float32)},
        events={},
    )
    points = fix_operating_points(config, (task,), answers)
    assert [(p.task, p.criterion) for p in points] == [(f"diagnosis/{c}", "max_f1") for c in task.classes]
    # NORM: both found at 0.6 with one false, 4/5; LAO/LAE: both found at 0.2 with one false, likewise.
    assert [p.threshold for p in points[:2]] == pytest.approx([0.6, 0.2]) and np.isnan(points[2].threshold)
    tree = report(config, (task,), answers, points, n_resamples=20)["diagnosis"]
    norm, lao, never = (tree[f"max_f1/{c}"] for c in task.classes)
    assert (norm["positives"], lao["positives"], never["positives"]) == (2, 2, 0)
    assert norm["f1"]["value"] == pytest.approx(0.8) and norm["precision"]["value"] == pytest.approx(2 / 3)
    assert lao["sensitivity"]["value"] == 1 and lao["specificity"]["value"] == pytest.approx(2 / 3)
    assert never["threshold"] is None and never["f1"]["value"] is None
    assert tree["auprc/NORM"]["value"] == pytest.approx((1 + 2 / 3) / 2)
    json.dumps(tree, allow_nan=False)
    text = report_text({"patients": 3, "windows": 6, "diagnosis": tree})
    assert "max_f1/LAO/LAE, threshold 0.200; 2 positive windows" in text
    assert "max_f1/never, no threshold: no positive among the patients that it was to be fixed on" in text
    assert points_from_rows(points_to_rows(points))[:2] == points[:2]


def test_a_test_set_without_a_single_label_or_event_is_reported_in_valid_json(tiny):
    silent = scores(events=(recording_events("a", (event(1.0),), np.array([]), 0.1),))
    silent.weights["ied"][:] = 0
    tree = report(tiny, TASKS, silent, fix_operating_points(tiny, TASKS, silent), n_resamples=10)
    json.dumps(tree, allow_nan=False)
    assert tree["ied"]["prevalence"] is None and tree["ied"]["events_max_f1"]["threshold"] is None
    assert tree["ied"]["events_max_f1"]["annotated"] == 0
    text = report_text(tree)
    assert "nan" not in text and "\nied\n" in text


def test_thresholds_come_from_validation_and_are_only_applied_to_test(tiny):
    points = fix_operating_points(tiny, TASKS, scores())
    harder = scores()
    harder.probabilities["ied"][:] *= 0.5
    tree = report(tiny, TASKS, harder, points, n_resamples=10)
    assert tree["ied"]["auroc"]["value"] == pytest.approx(11 / 12)  # ranks have not changed
    assert tree["ied"]["max_f1"]["sensitivity"]["value"] == 0  # but nothing reaches the threshold


def test_events_are_matched_one_to_one_and_counted_by_hour(tiny):
    found = (event(10.0), event(20.2), event(20.3, 0.4), event(50.0, 0.8))
    mine = (recording_events("a", found, np.array([10.1, 20.0, 90.0]), 0.5),)
    points = fix_operating_points(tiny, TASKS, scores(mine))
    (point,) = [p for p in points if p.criterion == "events_max_f1"]
    # At 0.9: 2 matched, none false, 1 missed: F1 0.8; at 0.8 one false more.
    assert point.threshold == pytest.approx(0.9) and point.f1 == pytest.approx(0.8)
    tree = report(tiny, TASKS, scores(mine), [point], n_resamples=10)["ied"]["events_max_f1"]
    assert tree["sensitivity"]["value"] == pytest.approx(2 / 3) and tree["precision"]["value"] == 1
    assert tree["false_detections_per_hour"]["value"] == 0 and tree["annotated"] == 3
    assert (tree["error_seconds_median"], tree["error_seconds_90"]) == pytest.approx((0.15, 0.19))
    low = point.__class__(**{**point.__dict__, "threshold": 0.3})
    tree = report(tiny, TASKS, scores(mine), [low], n_resamples=10)["ied"]["events_max_f1"]
    assert tree["false_detections_per_hour"]["value"] == 2 / 0.5


def test_each_event_is_real_or_not():
    found = (event(10.0), event(20.2), event(20.3, 0.4), event(50.0, 0.8))
    chance, real = found_and_real(recording_events("a", found, np.array([10.1, 20.3, 90.0]), 0.5))
    assert chance.tolist() == [0.9, 0.9, 0.4, 0.8]
    assert real[[0, 3]].tolist() == [True, False] and real[1:3].sum() == 1  # one event, one partner


def by_rate(tiny, *recordings: RecordingEvents):
    points = fix_operating_points(tiny, TASKS, scores(recordings))
    return {p.criterion.split("_")[1]: p for p in points if p.criterion.endswith("_per_hour")}


def test_each_rate_of_false_events_has_the_lowest_threshold_that_keeps_it(tiny):
    """In one hour two events that were marked, at 0.9 and 0.6, and three false ones."""
    found = (event(10, 0.9), event(20, 0.8), event(30, 0.7), event(40, 0.6), event(50, 0.5))
    points = by_rate(tiny, recording_events("a", found, np.array([10.0, 40.0]), 1.0))
    assert list(points) == ["0.5", "1", "2", "5", "10"]
    assert [p.threshold for p in points.values()] == pytest.approx([0.9, 0.8, 0.6, 0.01, 0.01])
    assert [p.false_per_hour for p in points.values()] == [0, 1, 2, 3, 3]
    assert [p.sensitivity for p in points.values()] == [0.5, 0.5, 1, 1, 1]
    # Tables of the Poisson distribution: one-sided 95 % limits of counts of 0 to 3.
    limits = [p.false_per_hour_limit for p in points.values()]
    assert limits == pytest.approx([2.996, 4.744, 6.296, 7.754, 7.754], abs=1e-3)
    tree = report(tiny, TASKS, scores((recording_events("b", found, np.array([10.0]), 2.0),)), [points["2"]])["ied"]
    assert tree["events_2_per_hour"]["false_detections_per_hour"]["value"] == 3 / 2
    assert "events_2_per_hour" not in report(tiny, TASKS, scores(), [points["2"]])["ied"]  # it is none of windows


def test_the_limit_of_a_rate_knows_that_patients_differ(tiny):
    """All ten false events are one patient's: another may be alike, with 20 an hour; Poisson says 16.96."""
    rows = [recording_events("a", tuple(event(float(k)) for k in range(10)), np.zeros(0), 0.5)]
    point = by_rate(tiny, *rows, recording_events("b", (), np.zeros(0), 0.5))["10"]
    assert (point.false_per_hour, point.false_per_hour_limit, point.hours) == (10, 20, 1)
    assert np.isnan(point.sensitivity)  # without a marked event rates are fixed all the same


def test_a_rate_that_no_threshold_keeps_has_none(tiny):
    """The most probable event of six minutes is false: at least 10 an hour."""
    assert list(by_rate(tiny, recording_events("a", (event(10),), np.zeros(0), 0.1))) == ["10"]


# --- events where somebody judged


def line_of(seconds: float, *, absent: tuple[float, float] | None = None, at: dict[float, float] | None = None):
    """A timeline of frames every 0.05 s whose logits are low but at some moments, and NaN in a stretch."""
    logits = np.full(round(seconds / 0.05) + 1, -9.0, np.float32)
    for moment, logit in (at or {}).items():
        logits[round(moment / 0.05)] = logit
    if absent is not None:
        logits[round(absent[0] / 0.05) : round(absent[1] / 0.05) + 1] = np.nan
    return Timeline(logits, 0.05, 0.0, 0.3, 0.3)


def scored(*annotations: Annotation, rule=IED_RULE, seconds: float = 60.0, bad=(), judged=None, **line):
    held = rule.task_marks(annotations, [(0.0, seconds)] if judged is None else judged)
    return _recording_events("a", [line_of(seconds, **line)], held, bad)


def ied(onset: float, duration: float = 0.0, channel: str | None = None) -> Annotation:
    return Annotation(onset, duration, "IED", channel)


def peaks(events: RecordingEvents) -> list[float]:
    return sorted(round(e.peak_seconds, 3) for e in events.found)


def test_a_discharge_marked_on_three_more_channels_is_the_same_event() -> None:
    once = [ied(10.0, 0.2), ied(20.0, 0.2)]
    again = [ied(mark.onset_seconds + 0.01 * k, 0.2, f"C{k}") for mark in once for k in (1, 2, 3)]
    at = {10.1: 3.0, 20.1: 3.0, 40.0: 3.0}
    for marks in (once, [*once, *again], again):
        mine = scored(*marks, at=at)
        np.testing.assert_allclose(mine.annotated_seconds, [10.1, 20.1], atol=0.025)
        counts = count_events(
            np.array(peaks(mine)), mine.annotated_seconds, tolerance_seconds=TOLERANCE_SECONDS, hours=1.0
        )
        assert counts[:3] == (2, 1, 0)


def test_a_run_is_one_event_however_many_discharges_are_found_in_it() -> None:
    mine = scored(ied(10.0, 3.0), ied(30.0, 0.1), at={9.9: 0.0, 11.0: 3.0, 12.9: 1.0, 30.05: 2.0, 40.0: 2.0})
    np.testing.assert_allclose(mine.annotated_seconds, [11.5, 30.05])
    assert mine.is_run.tolist() == [True, False]  # of the run no error in time is counted
    near = scored(ied(10.0, 3.0), ied(30.0, 0.1), at={11.0: 3.0, 30.15: 2.0})
    np.testing.assert_allclose(_errors(near, 0.5), [0.1])
    assert peaks(mine) == [11.5, 30.05, 40.0]
    best = next(event for event in mine.found if event.peak_seconds == 11.5)
    assert best.probability == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-3)
    assert mine.hours == pytest.approx(60.05 / 3600)


def test_what_lies_where_nobody_looked_is_neither_missed_nor_counted() -> None:
    at = {20.0: 3.0, 50.0: 3.0}
    half = scored(ied(10.0), ied(50.0), judged=[(0.0, 45.0), (55.0, 5.0)], at=at)
    assert half.annotated_seconds.tolist() == [10.0] and peaks(half) == [20.0]
    assert half.hours == pytest.approx(50 / 3600, rel=1e-2)
    unread = scored(ied(10.0), ied(50.0), absent=(45.0, 55.0), at=at)
    assert unread.annotated_seconds.tolist() == [10.0] and peaks(unread) == [20.0]
    spoilt = scored(ied(10.0), ied(50.0), bad=[(45.0, 10.0)], at=at)
    assert spoilt.annotated_seconds.tolist() == [10.0] and spoilt.hours == half.hours


def test_a_run_that_is_partly_bad_is_scored_by_what_is_left_of_it() -> None:
    """Its middle is bad; what is found in its good part is a hit, not a false detection beside nothing."""
    mine = scored(ied(10.0, 4.0), bad=[(11.0, 2.0)], at={13.5: 3.0})
    assert mine.annotated_seconds.tolist() == [12.0] == peaks(mine)
    gone = scored(ied(10.0, 4.0), bad=[(9.0, 6.0)], at={13.5: 3.0})
    assert not len(gone.annotated_seconds) and not gone.found


def test_a_mark_of_unknown_class_is_neither_missed_nor_a_false_detection() -> None:
    rule = EventRule(IED, TextClasses((("ied", "IED"), (UNKNOWN, "perhaps"))))
    perhaps = Annotation(10.0, 0.2, "perhaps")
    mine = scored(perhaps, ied(30.0), rule=rule, at={9.8: 3.0, 10.4: 3.0, 10.6: 3.0, 30.0: 3.0})
    assert mine.annotated_seconds.tolist() == [30.0]
    assert peaks(mine) == [10.6, 30.0]  # 0.4 s beyond its end
    assert mine.hours == pytest.approx((60.05 - 0.7) / 3600, rel=1e-3)


@pytest.mark.parametrize(("away", "matched"), [(0.25, 1), (0.3, 0)])
def test_a_detection_counts_within_a_quarter_of_a_second(tiny, away: float, matched: int) -> None:
    mine = scored(ied(10.0), at={10.0 + away: 3.0})
    (point,) = [p for p in fix_operating_points(tiny, TASKS, scores((mine,))) if p.criterion == "events_max_f1"]
    tree = report(tiny, TASKS, scores((mine,)), [point], n_resamples=10)["ied"]["events_max_f1"]
    assert tree["sensitivity"]["value"] == matched and tree["tolerance_seconds"] == 0.25
    in_run = scored(ied(10.0, 2.0), at={12.0 + away: 3.0})
    assert peaks(in_run) == [11.0 if matched else 12.3]


def test_events_of_two_percent_are_looked_at_when_a_threshold_is_fixed(tiny) -> None:
    """Three events at p = 0.02, nothing else: the threshold lies there, and all three are found."""
    at = {moment: float(np.log(0.02 / 0.98)) for moment in (10.0, 20.0, 30.0)}
    mine = scored(*(ied(moment) for moment in at), at=at)
    (point,) = [p for p in fix_operating_points(tiny, TASKS, scores((mine,))) if p.criterion == "events_max_f1"]
    assert point.threshold == pytest.approx(0.02, rel=0.05) and point.f1 == 1.0
    hardly = scored(ied(10.0), at={10.0: float(np.log(0.008 / 0.992))})
    assert not hardly.found  # below LEAST_PROBABILITY


def shard_of(folder, tiny, marks, *, hop: int = 100, bad=(), **options) -> Shard:
    recording = recording_of([noise(6000, n_chans=5)], ch_names=tiny.data.ch_names)
    item = labelled(recording, marks, window=100, hop=hop, bad=bad, **options)
    write_shard(folder / "x.h5", [item], info=info_of(recording, window=100, hop=hop))
    return open_shard(folder / "x.h5")


def answers(tiny, shard: Shard, windows, at: dict[int, int]) -> Predictions:
    """Low logits in all frames of some windows, but for one frame each of those named."""
    frames = np.full((len(windows), round(1.0 / tiny.frame_seconds) + 1, 1), -9.0, np.float32)
    for window, frame in at.items():
        frames[window, frame] = 9.0
    start = shard.start - shard.segments["start"][shard.segment]
    return Predictions(WindowGrid(shard.segment[windows], start[windows]), {"ied": frames[:, 0]}, {"ied": frames})


def test_windows_that_nobody_could_judge_are_not_scored_and_those_that_an_ied_touches_are(tiny, tmp_path):
    """A minute: an IED at 10.05 s touches the window from 10 s too, and 30 to 40 s are marked as bad."""
    shard = shard_of(tmp_path, tiny, [ied(10.05)], bad=[(30.0, 10.0)])
    assert (shard.weights["ied"] == 0).sum() == 1 + 10
    windows = np.arange(60)
    (mine,) = _events(tiny, IED, [shard], [(windows, answers(tiny, shard, windows, {12: 3, 35: 3}))])
    assert mine.hours == pytest.approx(50 / 3600, rel=0.03)
    assert [int(e.peak_seconds) for e in mine.found] == [12] and mine.annotated_seconds.tolist() == [10.05]


def test_an_ied_counts_on_the_border_of_two_windows_and_not_where_the_signal_is_bad(tiny, tmp_path):
    """Windows of 1 s end to end: marks at 10 s and 35 s have no label of their own on either side."""
    shard = shard_of(tmp_path, tiny, [ied(10.0), ied(35.0), ied(36.5)], bad=[(30.0, 10.0)])
    windows = np.flatnonzero(shard.judged_windows("ied"))
    assert set(windows) == {*range(30), *range(40, 60)}  # those of the mark at 10 s too, which have no label
    (mine,) = _events(tiny, IED, [shard], [(windows, answers(tiny, shard, windows, {}))])
    assert mine.annotated_seconds.tolist() == [10.0]
    assert mine.hours == pytest.approx(50 / 3600, rel=0.03)


def test_recordings_that_nobody_judged_and_tasks_of_state_have_no_events(tiny, tmp_path):
    marks = [ied(10.0), Annotation(0.0, 60.0, "Sleep stage N2")]
    windows = np.arange(60)
    for labelled_for, wanted in ((("ied", "state"), 1), (("state",), 0)):
        shard = shard_of(tmp_path, tiny, marks, labelled_for=labelled_for)
        predictions = answers(tiny, shard, windows, {})
        assert len(list(_events(tiny, IED, [shard], [(windows, predictions)]))) == wanted
        state = predictions._replace(frame={"state": predictions.frame["ied"]})
        assert not list(_events(tiny, STATE, [shard], [(windows, state)]))
    assert shard.task_marks("ied", 0) == TaskMarks()


def test_events_of_any_binary_task_are_scored(tiny, tmp_path, monkeypatch):
    """A perfect answer for a task that is no `ied`, from the shard to the figures."""
    spindle = EventRule(TaskSpec("spindle", "binary", ("none", "spindle")), TextClasses((("spindle", "sp.*"),)))
    recording = recording_of([noise(6000, n_chans=5)], ch_names=tiny.data.ch_names)
    marks = [Annotation(10.05, 0.9, "spindle"), Annotation(30.2, 0.5, "spindle")]
    options = {"rules": (spindle,), "window": 100, "hop": 100}
    item = labelled(recording, marks, labelled_for=("spindle",), **options)
    write_shard(tmp_path / "x.h5", [item], info=info_of(recording, **options))
    shard = open_shard(tmp_path / "x.h5")
    config = dataclasses.replace(tiny, tasks=("spindle",), model=dataclasses.replace(tiny.model, fusion="none"))
    windows = np.arange(60)
    given = answers(tiny, shard, windows, {10: 10, 30: 9})
    given = given._replace(window={"spindle": given.window["ied"]}, frame={"spindle": given.frame["ied"]})
    monkeypatch.setattr(room, "predict_shards", lambda *_, **__: [(windows, given)])
    monkeypatch.setattr(room, "make_predictor", lambda *_: None)
    found = score(config, (spindle.task,), {}, [shard])
    points = fix_operating_points(config, (spindle.task,), found)
    tree = report(config, (spindle.task,), found, points, n_resamples=10)["spindle"]["events_max_f1"]
    assert tree["f1"]["value"] == 1 and tree["annotated"] == 2


def test_a_network_that_pools_has_no_event_figures_and_detection_takes_its_windows_threshold(tiny, tmp_path):
    """A perfect classifier of windows: matched by windows' centres, it would have found every fifth event."""
    rng = np.random.default_rng(0)
    marks = [ied(float(k) + float(rng.uniform(0.12, 0.88))) for k in range(2, 58, 3)]
    shard = shard_of(tmp_path, tiny, marks)
    pooled = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, pooling="average"))
    windows = np.arange(60)
    logits = np.where(shard.labels["ied"] > 0, 6.0, -6.0).astype(np.float32)[:, None]
    start = shard.start - shard.segments["start"][shard.segment]
    predictions = Predictions(WindowGrid(shard.segment, start), {"ied": logits}, {})
    assert not list(_events(pooled, IED, [shard], [(windows, predictions)]))
    answered = Scores(
        patients=shard.patient(windows),
        labels={t: shard.labels[t] for t in pooled.tasks},
        weights={t: shard.weights[t] for t in pooled.tasks},
        probabilities={"ied": 1 / (1 + np.exp(-logits)), "sleep": np.full((60, 5), 0.2, np.float32)},
        events={},
        timeless=("ied",),
    )
    points = fix_operating_points(pooled, TASKS, answered)
    assert "max_f1" in {p.criterion for p in points} and "events_max_f1" not in {p.criterion for p in points}
    tree = report(pooled, TASKS, answered, points, n_resamples=10)
    assert tree["ied"]["max_f1"]["f1"]["value"] == 1 and "events_max_f1" not in tree["ied"]
    assert "  no figures of events: this network finds which windows hold one" in report_text(tree)
    json.dumps(tree, allow_nan=False)


def test_without_any_ied_figures_are_undefined_and_nothing_breaks(tiny):
    nothing = scores((recording_events("a", (), np.zeros(0), 1.0),))
    nothing.labels["ied"][:] = 0
    points = fix_operating_points(tiny, TASKS, nothing)
    tree = report(tiny, TASKS, nothing, points, n_resamples=10)
    assert tree["ied"]["auroc"]["value"] is None
    json.dumps(tree["ied"]["auroc"], allow_nan=False)
    assert "not defined (" in report_text(tree)
