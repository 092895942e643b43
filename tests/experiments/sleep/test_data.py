"""One derivation of each person: which, what an expert marked, and what a filter changes."""

import numpy as np
import pytest

from experiments.sleep.data import (
    CHANNEL,
    NONE,
    SPINDLE_RULE,
    Central,
    filtered,
    open_excerpt,
    staged_every,
    truth,
    with_rest,
)
from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.recording import Annotation
from siamese_jax.vocabulary import SLEEP
from tests.data_tools.excerpts import signal, write_excerpt

DATA = DataConfig(ch_names=(CHANNEL,), sfreq=100.0, window_seconds=0.8)
SPINDLES = {1: [(10.0, 1.0), (62.0, 0.5), (100.0, 2.0)]}


def test_either_derivation_is_the_channel_and_the_expert_is_read_as_he_wrote(tmp_path):
    for number, channel in ((1, "C3-A1"), (2, "CZ-A1")):
        write_excerpt(tmp_path, number, channel=channel, samples=signal(14_000 + number)[:14_000], spindles=SPINDLES)
        opened = open_excerpt(tmp_path, number, DATA)
        eeg = opened.recording.read(0, 0, 14_000)[:, 0]
        np.testing.assert_allclose(eeg, signal(14_000 + number)[:14_000], atol=0.01)
        marked = truth(opened)
        stages = [SLEEP.classes[s] for s in marked.stages]
        assert stages == ["W", "N2", "N3", "R"]  # at 15, 45, 75 and 105 s, of stages that last 20 s each
        np.testing.assert_allclose(marked.spindles, [(10.0, 11.0), (62.0, 62.5), (100.0, 102.0)])
        assert staged_every(opened, 5.0).tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 8 + [4] * 4 + [-1] * 4


def test_frames_lie_in_a_spindle_or_not_and_those_at_its_border_are_no_example(tmp_path):
    write_excerpt(tmp_path, 1, channel="CZ-A1", samples=signal(14_000), spindles=SPINDLES)
    onsets = np.array([5.0, 9.2, 9.7, 10.1, 10.9, 11.0])
    labels = SPINDLE_RULE.label(open_excerpt(tmp_path, 1, DATA).annotations, onsets, window_seconds=0.8)
    assert labels.weight.tolist() == [1, 1, 0, 1, 1, 1]
    assert labels.label.tolist()[3] == 1 and not any(labels.label[[0, 1, 4, 5]])


def test_nobody_looked_means_no_labels(tmp_path):
    write_excerpt(tmp_path, 1, channel="CZ-A1", samples=signal(14_000))
    opened = open_excerpt(tmp_path, 1, DATA)
    assert truth(opened).spindles is None
    assert not SPINDLE_RULE.label(opened.annotations, np.array([5.0]), window_seconds=0.8).weight.any()


def test_a_slow_excerpt_has_its_stages_alone_and_its_signal_at_the_rate_that_is_read(tmp_path):
    time = np.arange(7_000) / 50.0
    write_excerpt(tmp_path, 3, channel="C3-A1", samples=20 * np.sin(2 * np.pi * 12 * time), spindles=SPINDLES)
    opened = open_excerpt(tmp_path, 3, DATA)
    eeg = opened.recording.read(0, 0, 14_000)[:, 0]
    inside = slice(500, -500)
    np.testing.assert_allclose(eeg[inside], 20 * np.sin(2 * np.pi * 12 * np.arange(14_000) / 100)[inside], atol=0.05)
    assert len(truth(opened).stages) == 4 and truth(opened).spindles is None
    assert not SPINDLE_RULE.label(opened.annotations, np.array([5.0, 10.1]), window_seconds=0.8).weight.any()


def test_overlapping_spindles_are_one_stretch_and_an_onset_alone_is_unknown():
    marks = [("Spindle", 10.0, 2.0), ("Spindle", 11.0, 2.0), ("Spindle", 11.5, 0.5), ("Spindle (expert 2)", 20.0, 0.0)]
    found = with_rest([Annotation(at, length, text, None) for text, at, length in marks], 30.0)
    rest = [(a.onset_seconds, a.onset_seconds + a.duration_seconds) for a in found if a.text == NONE]
    assert rest == [(0.0, 10.0), (13.0, 19.0), (21.0, 30.0)]
    spindles = [(a.onset_seconds, a.duration_seconds) for a in found if a.text != NONE]
    assert spindles == [(10.0, 2.0), (12.0, 1.0)]  # one stretch from 10 to 13


def test_a_filter_is_a_gain_by_frequency_without_delay():
    time = np.arange(2000) / 100.0
    slow, fast = (np.sin(2 * np.pi * hz * time) for hz in (2.0, 14.0))
    found = filtered((slow + fast)[:, None], sfreq=100.0, rng=np.random.default_rng(3))[:, 0]
    gains = [2 * np.mean(found * wave) for wave in (slow, fast)]
    np.testing.assert_allclose(found, gains[0] * slow + gains[1] * fast, atol=1e-3)  # no phase, nothing added
    drawn_db = np.random.default_rng(3).normal(0, 4.0, 14)[[2, 8]]  # at 2 and 14 Hz, which are knots
    np.testing.assert_allclose(20 * np.log10(gains), drawn_db, atol=0.05)


def test_each_copy_is_another_signal_with_the_same_labels(tmp_path):
    write_excerpt(tmp_path, 1, channel="CZ-A1", samples=signal(14_000), spindles=SPINDLES)
    opened = [Central(tmp_path, 1, copy).open("excerpt1.txt", DATA) for copy in (0, 1, 1, 2)]
    eeg = [one.recording.read(0, 0, 14_000) for one in opened]
    np.testing.assert_array_equal(eeg[1], eeg[2])
    assert not np.allclose(eeg[0], eeg[1]) and not np.allclose(eeg[1], eeg[3])
    assert len({one.annotations for one in opened}) == 1


def test_what_is_not_there_is_said(tmp_path):
    write_excerpt(tmp_path, 1, channel="CZ-A1", samples=signal(14_000))
    with pytest.raises(ValueError, match=r"no excerpt5\.txt"):
        open_excerpt(tmp_path, 5, DATA)
    write_excerpt(tmp_path, 2, channel="O1-A1", samples=signal(14_000))
    with pytest.raises(ValueError, match=r"excerpt2\.txt has O1-A1: C3-A1 or Cz-A1 is needed"):
        open_excerpt(tmp_path, 2, DATA)
    with pytest.raises(ValueError, match="Cz alone"):
        open_excerpt(tmp_path, 1, DataConfig())
