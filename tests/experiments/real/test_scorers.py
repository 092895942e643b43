"""Plain scores of waves whose size is known; a checkpoint as `detect` has it; several together."""

import math

import jax
import numpy as np
import pytest

from experiments.real.figures import find
from experiments.real.scorers import checkpoint_scorer, ensemble_scorer, plain_scorers
from experiments.real.sets import Item
from siamese_jax.checkpoints import Checkpoint
from siamese_jax.detection.detect import NEAR_SECONDS, detect
from siamese_jax.pipeline import initialise
from siamese_jax.recordings.recording import recording_from_array
from siamese_jax.vocabulary import IED, SLEEP, TEN_TWENTY
from tests.conftest import CH_NAMES
from tests.experiments.real.made_up import reader_of_cz

SFREQ = 200.0


def recording_of(eeg, ch_names=TEN_TWENTY, sfreq=SFREQ):
    return recording_from_array(eeg, sfreq=sfreq, ch_names=ch_names, target_ch_names=ch_names, target_sfreq=sfreq)


def sine(hz, uv, seconds=10):
    return uv * np.sin(2 * np.pi * hz * np.arange(round(seconds * SFREQ)) / SFREQ)


def inner(line):
    return line.frame_logits[400:-400]


def test_amplitude_is_of_one_electrode_against_the_average_within_the_band():
    """What all electrodes share, what is slower than 1 Hz and what is faster than 35 Hz adds next to nothing."""
    eeg = np.repeat((sine(7, 300) + sine(0.1, 500))[:, None], 19, 1)
    eeg[:, 4] += sine(10, -60) + sine(0.1, 200) + sine(90, 40)
    (line,) = plain_scorers()["amplitude"].score(recording_of(eeg.astype(np.float32)))
    assert (line.onset_seconds, line.frame_seconds, len(line.frame_logits)) == (0.0, 1 / SFREQ, 2000)
    assert inner(line).max() == pytest.approx(60 * 18 / 19, abs=4)


def test_sharpness_grows_with_the_square_of_the_frequency():
    eeg = np.random.default_rng(0).normal(0, 1e-3, (2000, 19))
    slow, fast = eeg.copy(), eeg.copy()
    slow[:, 4] += sine(4, 50)
    fast[:, 4] += sine(8, 50)
    scorer = plain_scorers()["sharpness"]
    (a,), (b,) = (scorer.score(recording_of(x.astype(np.float32))) for x in (slow, fast))
    assert inner(b).max() / inner(a).max() == pytest.approx(4, rel=0.03)


def checkpoint(config, seed, **options):
    tasks = (IED, SLEEP)
    variables = initialise(config, tasks, jax.random.key(seed))
    return Checkpoint(config, tasks, variables, 1, **options)


@pytest.fixture
def noise():
    eeg = np.random.default_rng(1).normal(0, 20, (2000, len(CH_NAMES))).astype(np.float32)
    return recording_of(eeg, CH_NAMES, 100.0)


def test_a_checkpoint_finds_what_detect_finds(tiny, noise):
    made, threshold = checkpoint(tiny, 0), 0.1
    scorer = checkpoint_scorer(made, threshold=threshold)
    found = find(scorer, Item("a", "a", None, (0, 20), (), None, lambda names, rate: noise))
    expected = [event.peak_seconds for event in detect(made, noise, threshold=threshold).events]
    assert found.peaks is not None and len(found.peaks) == len(expected) > 3
    np.testing.assert_allclose(found.peaks, expected, atol=NEAR_SECONDS + 0.01)  # `detect` looks for the wave near them
    assert (scorer.ch_names, scorer.sfreq, scorer.threshold) == (CH_NAMES, 100, threshold)
    assert found.analysed_seconds == pytest.approx(20, abs=0.1)
    assert "given" in scorer.words and "no operating point" in checkpoint_scorer(made).words


def test_an_ensemble_is_the_mean_of_log_odds(tiny, noise):
    scorers = [checkpoint_scorer(checkpoint(tiny, seed), threshold=p) for seed, p in ((0, 0.9), (1, 0.5))]
    together = ensemble_scorer(scorers)
    (a,), (b,), (mean,) = (scorer.score(noise) for scorer in (*scorers, together))
    assert np.abs(a.frame_logits - b.frame_logits).max() > 0.1
    np.testing.assert_allclose(mean.frame_logits, (a.frame_logits + b.frame_logits) / 2, atol=1e-6)
    assert together.threshold == pytest.approx(1 / (1 + math.exp(-math.log(9) / 2)))
    assert ensemble_scorer(scorers, threshold=0.7).threshold == 0.7


def test_an_ensemble_is_of_checkpoints_that_read_the_same(tiny):
    with pytest.raises(ValueError, match="the same electrodes at the same rate"):
        ensemble_scorer([checkpoint_scorer(checkpoint(tiny, 0)), reader_of_cz()])
    with pytest.raises(ValueError, match="averages log-odds"):
        ensemble_scorer(list(plain_scorers().values()))
    with pytest.raises(ValueError, match="the same electrodes"):
        ensemble_scorer([])
