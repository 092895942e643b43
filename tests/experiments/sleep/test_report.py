"""Figures against counts by hand."""

import json

import numpy as np
import pytest

from experiments.sleep.data import Truth
from experiments.sleep.excerpts import ScoredExcerpt
from experiments.sleep.networks import Trained
from experiments.sleep.report import describe, figures, page, write
from experiments.sleep.scoring import Settings
from siamese_jax.files import finite
from siamese_jax.recordings.recording import recording_from_array


def excerpt(subject, true, found, *, marked, detected):
    eeg = np.random.default_rng(subject).normal(0, 30, (3000 * len(true), 1))
    names = {"ch_names": ("Cz",), "target_ch_names": ("Cz",)}
    recording = recording_from_array(eeg, sfreq=100.0, target_sfreq=100.0, **names)
    truth = Truth(np.array(true), np.array(marked, float).reshape(-1, 2), 30.0 * len(true))
    spindles = np.array(detected, float).reshape(-1, 2)
    return ScoredExcerpt(subject, recording, truth, np.eye(5)[found], spindles, np.full(len(spindles), 0.5), Settings())


EXCERPTS = [
    excerpt(
        1, [0, 2, 2, 3], [0, 2, 2, 2], marked=[(20, 21), (35, 36), (65, 66)], detected=[(35.2, 36), (40, 41), (2, 3)]
    ),
    excerpt(2, [2, 2, 2, -1], [2, 2, 4, 2], marked=[(5, 6)], detected=[(5, 5.5)]),
]


def test_figures_are_pooled_over_epochs_and_spindles():
    tree = finite(figures(EXCERPTS))
    pooled = tree["pooled"]
    assert pooled["epochs"] == 7 and pooled["stages"]["accuracy"][0] == pytest.approx(5 / 7)
    # True: W 1, N2 5, N3 1; found: W 1, N2 5, R 1.
    by_chance = (1 * 1 + 5 * 5) / 49
    assert pooled["stages"]["kappa"][0] == pytest.approx((5 / 7 - by_chance) / (1 - by_chance))
    assert pooled["stages"]["macro_f1"][0] == pytest.approx((1 + 0.8 + 0 + 0) / 4)
    assert pooled["stages"]["macro_f1_of_5"][0] == pytest.approx((1 + 0.8) / 5)
    assert pooled["f1_by_stage"] == {"W": 1.0, "N1": None, "N2": pytest.approx(0.8), "N3": 0.0, "R": 0.0}
    names = ("matched", "false", "missed")
    assert [pooled["spindles"][name] for name in names] == [2, 1, 2]  # what is found at 2 s, in W, counts never
    assert [pooled["spindles_marked_in_nrem"][name] for name in names] == [2, 1, 1]  # nor here what is marked there
    assert pooled["spindles"]["f1"][0] == pytest.approx(4 / 7)
    assert tree["by_subject"]["2"]["spindle_f1"] == 1.0
    assert pooled["spindles"]["f1"][1:] == pytest.approx([2 / 5, 1.0])  # one subject or the other, twice
    low, high = pooled["stages"]["accuracy"][1:]
    assert low == pytest.approx(2 / 3) and high == pytest.approx(3 / 4)
    with pytest.raises(ValueError, match="no subject"):
        figures([])


NETWORKS = [Trained("abc1234", 10.4, 19.0), Trained("abc1234", 20.4, 38.4)]


def page_of(excerpts, **about):
    return page(finite(figures(excerpts) | describe("x", 0.0, trained=0, networks=()) | about))


def test_page_and_picture_say_what_was_measured(tmp_path, capsys):
    about = describe("python -m experiments.sleep X", 61.4, trained=44, networks=NETWORKS)
    write(tmp_path, EXCERPTS, about | {"how": ["As told."]})
    tree = json.loads((tmp_path / "sleep.json").read_text())
    assert tree["wall_seconds"] == 61
    assert tree["networks"] == {"count": 2, "commits": ["abc1234"], "wall_seconds": 31, "cpu_seconds": 57}
    text = (tmp_path / "sleep.md").read_text()
    printed = capsys.readouterr().out
    assert text in printed and "excerptN_hypnogram.csv" in printed and "excerptN_spindles.csv" in printed
    assert "61 s of wall time, in which 44 networks were trained." in text
    assert "The 2 networks were trained by commit abc1234 in 31 s of wall time, 57 s of CPU." in text
    assert "REAL EEG" in text and "As told." in text and "| accuracy | 0.714 |" in text
    assert "2 matched, 1 false, 2 missed" in text and "`python -m experiments.sleep X`" in text
    assert (tmp_path / "sleep.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "excerpt1_hypnogram.csv").exists() and (tmp_path / "excerpt2_spindles.csv").exists()
    assert "networks were trained by commit" not in page_of(EXCERPTS)  # nobody wrote it down


def strict(text):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def without(subject, *, stages=False, spindles=False):
    one = EXCERPTS[0]
    truth = one.truth._replace(stages=np.full(4, -1)) if stages else one.truth
    return one._replace(subject=subject, truth=truth._replace(spindles=None) if spindles else truth)


def test_who_has_no_labels_is_in_no_pooled_figure_and_said_to_be_left_out(tmp_path):
    alone, excerpts = figures(EXCERPTS), [*EXCERPTS, without(5, stages=True), without(7, stages=True, spindles=True)]
    write(tmp_path, excerpts, describe("x", 0.0, trained=0, networks=()))
    tree = strict((tmp_path / "sleep.json").read_text())
    assert tree["pooled"] == finite(alone["pooled"]) and list(tree["by_subject"]) == ["1", "2", "5", "7"]
    text = (tmp_path / "sleep.md").read_text()
    assert "Subjects 1, 2 together" in text and "Left out of all that is pooled, having no hypnogram: 5, 7." in text
    assert "nan" not in text and "| 5 | - | - | - | - | - | - |" in text
    assert (tmp_path / "excerpt7_hypnogram.csv").exists() and (tmp_path / "excerpt7_spindles.csv").exists()


def test_who_has_no_marks_of_spindles_counts_for_stages_alone():
    both, pooled = figures(EXCERPTS)["pooled"], figures([*EXCERPTS, without(9, spindles=True)])["pooled"]
    assert pooled["subjects"] == [1, 2, 9] and pooled["epochs"] == 11 and pooled["spindles"] == both["spindles"]
    assert "Left out of pooled spindles, having no marks of them: 9." in page_of([*EXCERPTS, without(9, spindles=True)])


def test_without_any_labels_or_with_one_subject_nothing_is_made_up(tmp_path):
    write(tmp_path, [without(7, stages=True)], describe("x", 0.0, trained=0, networks=()))
    assert strict((tmp_path / "sleep.json").read_text())["pooled"]["subjects"] == []
    text = (tmp_path / "sleep.md").read_text()
    assert "No excerpt here has a hypnogram: there is nothing to compare with." in text and "nan" not in text
    assert "| accuracy | 0.750 | - |" in page_of([EXCERPTS[0]])  # of one person no other can be drawn
    assert "F1 at overlap 0.2 | - | - |" in page_of([without(9, spindles=True)])


def test_yasa_is_quoted_beside_the_recordings_that_it_scored_and_no_others():
    five = [EXCERPTS[0]._replace(subject=n) for n in (1, 2, 4, 6, 8)]
    assert "YASA" in page_of(five)
    for others in (five[:-1], [*five, EXCERPTS[1]._replace(subject=5)], EXCERPTS):
        assert "YASA" not in page_of(others)


def test_what_the_reader_noted_is_said():
    noted = EXCERPTS[1]._replace(notes=("the last 2 s left out", "clipped"))
    assert "Excerpt 2: the last 2 s left out; clipped." in page_of([EXCERPTS[0], noted])
