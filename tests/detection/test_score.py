"""From answers to figures: arithmetic by hand on crafted scores, and runs of discharges counted once."""

import dataclasses
import json

import numpy as np
import pytest

from siamese_jax.detection.predict import Predictions, Timeline
from siamese_jax.detection.score import (
    RecordingEvents,
    Scores,
    _events,
    _recording_events,
    fix_operating_points,
    report,
    report_text,
)
from siamese_jax.evaluation.events import Event
from siamese_jax.evaluation.metrics import points_from_rows, points_to_rows
from siamese_jax.recordings.recording import Annotation
from siamese_jax.recordings.windows import WindowGrid
from siamese_jax.shards.labels import IED_RULE
from siamese_jax.shards.schema import open_shard
from siamese_jax.shards.write import write_shard
from siamese_jax.vocabulary import IED, SLEEP, TaskSpec
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
        events=events,
    )


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
        events=(),
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
    silent = scores(events=(RecordingEvents("a", (event(1.0),), np.array([]), 0.1),))
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
    mine = (RecordingEvents("a", found, np.array([10.1, 20.0, 90.0]), 0.5),)
    points = fix_operating_points(tiny, TASKS, scores(mine))
    (point,) = [p for p in points if p.criterion == "events_max_f1"]
    # At 0.9: 2 matched, none false, 1 missed: F1 0.8; at 0.8 one false more.
    assert point.threshold == pytest.approx(0.9) and point.f1 == pytest.approx(0.8)
    tree = report(tiny, TASKS, scores(mine), [point], n_resamples=10)["ied"]["events_max_f1"]
    assert tree["sensitivity"]["value"] == pytest.approx(2 / 3) and tree["precision"]["value"] == 1
    assert tree["false_detections_per_hour"]["value"] == 0 and tree["annotated"] == 3
    low = point.__class__(**{**point.__dict__, "threshold": 0.3})
    tree = report(tiny, TASKS, scores(mine), [low], n_resamples=10)["ied"]["events_max_f1"]
    assert tree["false_detections_per_hour"]["value"] == 2 / 0.5


def test_a_run_is_one_event_however_many_discharges_are_found_in_it():
    marks = IED_RULE.marks([Annotation(10.0, 3.0, "IED spike-and-wave"), Annotation(30.0, 0.1, "IED spike")])
    line = Timeline(np.zeros(1201, np.float32), 0.05, 0.0, 0.3, 0.2)
    found = [event(9.9, 0.5), event(11.0, 0.95), event(12.9, 0.7), event(30.05), event(40.0)]
    mine = _recording_events("a", found, marks, [line])
    np.testing.assert_allclose(mine.annotated_seconds, [11.5, 30.05])
    assert sorted((e.peak_seconds, e.probability) for e in mine.found) == [(11.5, 0.95), (30.05, 0.9), (40.0, 0.9)]
    assert mine.hours == pytest.approx(60 / 3600, rel=1e-2)


def test_what_lies_where_nobody_looked_is_neither_missed_nor_counted():
    marks = IED_RULE.marks([Annotation(10.0, 0.0, "IED spike"), Annotation(50.0, 0.0, "IED spike")])
    logits = np.zeros(1201, np.float32)
    logits[900:1101] = np.nan  # 45 s to 55 s
    mine = _recording_events("a", [], marks, [Timeline(logits, 0.05, 0.0, 0.3, 0.2)])
    np.testing.assert_allclose(mine.annotated_seconds, [10.0])
    assert mine.hours == pytest.approx(50 / 3600, rel=1e-2)


def test_windows_that_nobody_could_judge_are_not_scored_and_those_that_an_ied_touches_are(tiny, tmp_path):
    """A minute: an IED at 10.05 s touches the window from 10 s too, and 30 to 40 s are marked as bad."""
    recording = recording_of([noise(6000, n_chans=5)], ch_names=tiny.data.ch_names)
    item = labelled(recording, [Annotation(10.05, 0, "IED")], window=100, hop=100, bad=[(30.0, 10.0)])
    write_shard(tmp_path / "x.h5", [item], info=info_of(recording, window=100, hop=100))
    shard = open_shard(tmp_path / "x.h5")
    windows = np.arange(len(shard))
    assert (shard.weights["ied"] == 0).sum() == 1 + 10
    frames = np.full((len(shard), round(1.0 / tiny.frame_seconds) + 1, 1), -9.0, np.float32)
    frames[[12, 35], 3] = 9.0  # one detection in the bad stretch
    start = shard.start - shard.segments["start"][shard.segment]
    predictions = Predictions(WindowGrid(shard.segment, start), {"ied": frames[:, 0]}, {"ied": frames})
    (mine,) = _events(tiny, shard, windows, predictions)
    assert mine.hours == pytest.approx(50 / 3600, rel=0.03)
    assert [int(e.peak_seconds) for e in mine.found] == [12] and mine.annotated_seconds.tolist() == [10.05]


def test_an_ied_counts_on_the_border_of_two_windows_and_not_where_the_signal_is_bad(tiny, tmp_path):
    """Windows of 1 s end to end: marks at 10 s and 35 s have no label of their own on either side."""
    recording = recording_of([noise(6000, n_chans=5)], ch_names=tiny.data.ch_names)
    marks = [Annotation(10.0, 0, "IED"), Annotation(35.0, 0, "IED"), Annotation(36.5, 0, "IED")]
    item = labelled(recording, marks, window=100, hop=100, bad=[(30.0, 10.0)])
    write_shard(tmp_path / "x.h5", [item], info=info_of(recording, window=100, hop=100))
    shard = open_shard(tmp_path / "x.h5")
    frames = np.full((len(shard), round(1.0 / tiny.frame_seconds) + 1, 1), -9.0, np.float32)
    start = shard.start - shard.segments["start"][shard.segment]
    predictions = Predictions(WindowGrid(shard.segment, start), {"ied": frames[:, 0]}, {"ied": frames})
    (mine,) = _events(tiny, shard, np.arange(len(shard)), predictions)
    assert mine.annotated_seconds.tolist() == [10.0]
    assert mine.hours == pytest.approx(50 / 3600, rel=0.03)


def test_without_any_ied_figures_are_undefined_and_nothing_breaks(tiny):
    nothing = scores((RecordingEvents("a", (), np.zeros(0), 1.0),))
    nothing.labels["ied"][:] = 0
    points = fix_operating_points(tiny, TASKS, nothing)
    tree = report(tiny, TASKS, nothing, points, n_resamples=10)
    assert tree["ied"]["auroc"]["value"] is None
    json.dumps(tree["ied"]["auroc"], allow_nan=False)
    assert "not defined (" in report_text(tree)
