"""Figures against counts by hand."""

import json

import numpy as np
import pytest

from experiments.sleep.data import Truth
from experiments.sleep.report import Answer, describe, figures, page, write
from experiments.sleep.scoring import Settings
from siamese_jax.recordings.edf import recording_from_array


def answer(subject, true, found, *, marked, detected):
    eeg = np.random.default_rng(subject).normal(0, 30, (3000 * len(true), 1))
    names = {"ch_names": ("Cz",), "target_ch_names": ("Cz",)}
    recording = recording_from_array(eeg, sfreq=100.0, target_sfreq=100.0, **names)
    truth = Truth(np.array(true), np.array(marked, float).reshape(-1, 2), 30.0 * len(true))
    return Answer(subject, recording, truth, np.array(found), np.array(detected, float).reshape(-1, 2), Settings())


ANSWERS = [
    answer(
        1, [0, 2, 2, 3], [0, 2, 2, 2], marked=[(20, 21), (35, 36), (65, 66)], detected=[(35.2, 36), (40, 41), (2, 3)]
    ),
    answer(2, [2, 2, 2, -1], [2, 2, 4, 2], marked=[(5, 6)], detected=[(5, 5.5)]),
]


def test_figures_are_pooled_over_epochs_and_spindles():
    tree = figures(ANSWERS)
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


def test_page_and_picture_say_what_was_measured(tmp_path, capsys):
    write(tmp_path, ANSWERS, describe("python -m experiments.sleep X", 61.4, trained=44) | {"how": ["As told."]})
    assert json.loads((tmp_path / "sleep.json").read_text())["wall_seconds"] == 61
    text = (tmp_path / "sleep.md").read_text()
    assert text in capsys.readouterr().out
    assert "61 s of wall time, in which 44 networks were trained." in text
    assert "REAL EEG" in text and "As told." in text and "| accuracy | 0.714 |" in text
    assert "2 matched, 1 false, 2 missed" in text and "`python -m experiments.sleep X`" in text
    assert (tmp_path / "sleep.png").read_bytes().startswith(b"\x89PNG")


def test_nobody_who_marked_spindles_is_no_error():
    unmarked = ANSWERS[0]._replace(truth=ANSWERS[0].truth._replace(spindles=None))
    tree = figures([unmarked]) | describe("x", 0.0, trained=0)
    assert np.isnan(tree["pooled"]["spindles"]["f1"][0]) and "nan" in page(tree)
