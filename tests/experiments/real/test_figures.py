"""Figures whose value is known: a perfect scorer, one that is late, one that finds nothing; false events by hand."""

import math
import os
from pathlib import Path

import numpy as np
import pytest

from experiments.real import evaluate_scorers
from experiments.real.figures import Found, per_hour, segments, timing
from experiments.real.scorers import Scorer, plain_scorers
from experiments.real.sets import Item
from siamese_jax.detection.predict import Timeline
from siamese_jax.vocabulary import TEN_TWENTY
from tests.experiments.real.made_up import (
    SFREQ,
    reader_of_cz,
    signal,
    write_grond,
    write_healthy,
    write_segment,
)

REAL = os.environ.get("SIAMESE_JAX_REAL")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every set, in small; what is unmarked or outside the labels is there to mislead."""
    root = tmp_path_factory.mktemp("real")
    for i in range(3):
        write_grond(root, f"gpd_{i}", "gpd", discharges=(1.5, 2.5, 3.5, 5.5, 6.5, 7.5), marked=True)
        write_grond(root, f"lrda_{i}", "lrda", discharges=(0.2, 9.7))  # at the ends, which no label speaks of
        captions = {f"a{i}": ("LPD (2)", (5,)), f"b{i}": ("LRDA (1)", ())}
        for name, (caption, times) in captions.items():
            write_segment(root / f"discharges/vecams/{name}.npz", signal(15, times), caption=caption)
        for kind, times in (("lpd", (25,)), ("grda", (10, 40)), ("sz", (22, 24))):
            path = root / f"discharges/iiic/{kind}{i}.npz"
            write_segment(path, signal(50, times), kind=kind, labelled_seconds=np.array([20.0, 30.0]))
    for name, times, told in (("normal", (1,), ()), ("spike", (2.3, 3.3), (2.3, 3.3)), ("spike2", (2.0,), (2.7,))):
        path = root / f"discharges/snippets/{name}.npz"
        write_segment(path, signal(5, times), kind=name.rstrip("2"), discharge_seconds=np.array(told))
    write_healthy(root / "eegmat/Subject01_1.edf", 40, (10, 20))
    write_healthy(root / "eegmat/Subject02_2.edf", 20)
    return root


def test_a_scorer_that_tells_all_has_all(folder):
    found = evaluate_scorers(folder, {"told": reader_of_cz()})
    figures = found["figures"]["told"]
    assert found["missing"] == []
    areas = [key for key in figures if not key.startswith(("snippets", "eegmat"))]
    assert {key: figures[key]["value"] for key in areas} == dict.fromkeys(areas, 1.0) and len(areas) == 6
    assert (figures["snippets_found"]["value"], figures["snippets_found"]["rests_on"]) == (2, "3 spikes")
    assert figures["snippets_false"]["value"] == 1
    assert math.isnan(figures["snippets_found"]["low"])  # one patient
    assert figures["eegmat_per_hour"]["value"] == pytest.approx(120)  # two in a minute
    assert figures["grond_segments"]["rests_on"] == "3 / 3 segments"
    assert figures["grond_windows_auroc"]["rests_on"] == "9 / 24 windows"  # 3 marks, and 1 to 9 s, of 3 segments each
    assert figures["iiic_segments"]["rests_on"] == "3 / 3 segments"


def test_a_scorer_that_is_late_finds_the_segment_but_not_the_time(folder):
    figures = evaluate_scorers(folder, {"late": reader_of_cz(0.3)})["figures"]["late"]
    assert figures["grond_segments"]["value"] == 1
    assert figures["grond_windows_auroc"]["value"] == 1
    assert figures["grond_timing"]["value"] < 0.45
    assert figures["snippets_found"]["value"] == 0


def test_a_scorer_that_tells_nothing_is_at_chance_and_without_a_threshold_there_are_no_events(folder):
    def same(recording):
        return [Timeline(np.zeros(recording.segments[0].n_times, np.float32), 1 / SFREQ, 0.0, 0.0, 0.2)]

    figures = evaluate_scorers(folder, {"blind": Scorer(TEN_TWENTY, SFREQ, same, None, "")})["figures"]["blind"]
    assert {figures[key]["value"] for key in figures if key != "grond_windows_auprc"} == {0.5}
    assert figures["grond_windows_auprc"]["value"] == pytest.approx(9 / 33)
    assert not any(key.startswith(("snippets", "eegmat")) for key in figures)


def test_what_is_not_there_is_said_and_the_rest_is_scored(tmp_path):
    write_healthy(tmp_path / "eegmat/Subject01_1.edf", 10)
    found = evaluate_scorers(tmp_path, {"told": reader_of_cz()})
    assert list(found["figures"]["told"]) == ["eegmat_per_hour"]
    assert len(found["missing"]) == 4 and "discharges/iiic" in found["missing"][2]


def item(patient, *, positive=True, reviewed=None, discharges=()):
    return Item(patient, patient, positive, (0.0, 10.0), discharges, reviewed, lambda names, rate: None)


def found(patient, scores, *, events=0, hours=1.0, **known):
    scores = np.array(scores, np.float64)
    seconds = np.arange(len(scores)) * 0.1
    return Found(item(patient, **known), seconds, scores, np.arange(events, dtype=np.float64), hours * 3600)


def test_alarms_an_hour_by_hand():
    """Poisson's interval of no event in 2 h is 0 to 3.69 / 2; where people differ, theirs is the wider."""
    none = per_hour([found("a", [0]), found("b", [0])])
    assert (none.value, none.low) == (0, 0) and none.high == pytest.approx(3.6889 / 2, abs=1e-3)
    few = per_hour([found("a", [0], events=4, hours=1), found("b", [0], events=4, hours=3)])
    assert few.value == 2 and few.low == pytest.approx(3.454 / 4, abs=1e-3) and few.high == pytest.approx(4)
    alone = per_hour([found("a", [0], events=4), found("a", [0])])
    assert alone.value == 2 and alone.n_patients == 1 and math.isnan(alone.low) and math.isnan(alone.high)


def test_a_segment_without_a_score_does_not_count():
    """Three in four pairs are in order; the fifth segment, of which nothing was analysed, is left out."""
    rows = [("a", [0, 4], True), ("b", [2], True), ("c", [3], False), ("d", [1], False), ("e", [], False)]
    figure = segments([found(name, scores, positive=positive) for name, scores, positive in rows])
    assert (figure.value, figure.rests_on, figure.n_patients) == (0.75, "2 / 2 segments", 4)


def test_frames_near_a_discharge_but_not_on_it_and_unmarked_ones_do_not_count():
    """Frames 0.1 s apart; the discharge at 0.5 s; those at 0.3 and 0.7 s lie between, the last two are unmarked."""
    scores = [0, 0, 0, 9, 1, 1, 1, 9, 0, 0, 9, 9]
    one = found("a", scores, reviewed=(0.0, 1.0), discharges=(0.5,))
    assert timing([one]).value == 1
    assert timing([found("a", [2, *scores[1:]], reviewed=(0.0, 1.0), discharges=(0.5,))]).value == pytest.approx(0.8)
    assert timing([one, found("b", [0] * 12, reviewed=(0.0, 1.0), discharges=(0.5,))]).value == 0.75


@pytest.mark.skipif(not REAL, reason="SIAMESE_JAX_REAL must name a folder with discharges/ and eegmat/")
def test_plain_scores_are_on_the_real_sets_what_others_measured():
    """Labels are read as by another program that measured the same figures of amplitude."""
    figures = evaluate_scorers(Path(str(REAL)), {"amplitude": plain_scorers()["amplitude"]})["figures"]["amplitude"]
    expected = {
        "grond_segments": 0.75,
        "grond_windows_auroc": 0.79,
        "grond_windows_auprc": 0.64,
        "grond_timing": 0.916,
        "vecams_segments": 0.82,
        "iiic_segments": 0.49,
    }
    assert {key: figures[key]["value"] for key in expected} == pytest.approx(expected, abs=0.03)
