"""From logits to a hypnogram and spindles: what counts, and whose settings are chosen on whom."""

import dataclasses

import numpy as np
import pytest

from experiments.sleep.data import Truth
from experiments.sleep.scoring import (
    LEAST_CHANCE,
    Prediction,
    Settings,
    StageStatistics,
    choose,
    in_nrem,
    spindle_counts,
    spindle_scores,
    spindles,
    stage_log_likelihood,
    stage_matrix,
    stage_probabilities,
)
from experiments.statistics.stages import transition_probabilities

EVEN = StageStatistics(np.full((5, 5), 0.2), np.full(5, 0.2))


def prediction_of(stages, frames=None, sure=0.9):
    """Steps of 5 s, six an epoch; frames of 0.2 s."""
    steps = np.repeat(stages, 6)
    logs = np.log(np.full((len(steps), 5), (1 - sure) / 4))
    logs[np.arange(len(steps)), steps] = np.log(sure)
    return Prediction(logs, np.full(150 * len(stages), -9.0) if frames is None else frames, 0.2, 0.0)


def hypnogram(predicted, settings, statistics):
    return stage_probabilities(predicted, settings, statistics).argmax(1)


def test_a_chain_without_knowledge_leaves_each_epoch_to_its_own_steps():
    stages = np.array([0, 2, 2, 3, 1])
    assert hypnogram(prediction_of(stages), Settings(), EVEN).tolist() == stages.tolist()
    unsure = prediction_of(stages)
    unsure.log_stages[6:8] = prediction_of([4, 4]).log_stages[:2]  # two of the six steps of the second epoch
    assert hypnogram(unsure, Settings(), EVEN).tolist() == stages.tolist()


def test_a_stage_that_is_rare_in_training_needs_less_and_a_chain_bridges_a_slip():
    rare = EVEN._replace(shares=np.array([0.02, 0.02, 0.92, 0.02, 0.02]))
    doubtful = Prediction(np.log(np.tile([0.01, 0.3, 0.67, 0.01, 0.01], (6, 1))), np.zeros(0), 0.2, 0.0)
    assert hypnogram(doubtful, Settings(), EVEN).tolist() == [2]
    assert hypnogram(doubtful, Settings(), rare).tolist() == [1]
    nights = [np.repeat([0, 2, 3], 100)]
    sticky = EVEN._replace(transitions=transition_probabilities(nights, n_classes=5))
    slip = prediction_of([2, 2, 0, 2, 2], sure=0.6)
    assert hypnogram(slip, Settings(trust=1.0), EVEN).tolist() == [2, 2, 0, 2, 2]
    assert hypnogram(slip, Settings(trust=0.3), sticky).tolist() == [2] * 5


def test_spindles_count_in_the_experts_nrem_alone_and_unknown_epochs_not_at_all():
    stages = np.array([0, 2, -1, 4, 3])
    middles = np.array([15.0, 45.0, 75.0, 105.0, 135.0])
    everywhere = np.stack([middles - 0.5, middles + 0.5], 1)
    assert in_nrem(everywhere, stages).mean(1).tolist() == [45.0, 135.0]
    truth = Truth(stages, everywhere[[0, 1]], 150.0)
    counts = spindle_counts(everywhere, truth, marked_in_nrem=True)
    assert (counts.matched, counts.false_detections, counts.missed) == (1, 1, 0)
    assert spindle_counts(everywhere, truth) == counts._replace(missed=1)
    assert counts.hours == pytest.approx(60 / 3600)
    assert stage_matrix(np.array([0, 2, 2, 2, 3]), Truth(stages, None, 150.0)).sum() == 4


def test_a_spindle_is_as_sure_as_its_own_frames_are_on_average():
    frames = np.full(750, -9.0)
    frames[200:205], frames[202], frames[400:404] = 3.0, -1.0, 0.0  # a gap of one frame belongs to the spindle
    predicted = Prediction(np.zeros((30, 5)), frames, 0.2, 0.1)
    found = spindles(predicted, Settings(threshold=0.0, least_seconds=0.5))
    np.testing.assert_allclose(found, [(40.0, 41.0), (80.0, 80.8)])
    sure, unsure = 1 / (1 + np.exp([-3.0, 1.0]))
    np.testing.assert_allclose(spindle_scores(predicted, found), [(4 * sure + unsure) / 5, 0.5])
    assert spindle_scores(predicted, found[:0]).shape == (0,)


def test_settings_are_the_best_for_those_who_are_given():
    frames = np.full(750, -9.0)
    frames[200:205] = 2.0  # a spindle of 1 s at 40 s
    frames[400:405] = 0.5  # no spindle
    truths = {n: Truth(np.array([2, 2, 2, 2, 3]), np.array([[40.0, 41.0]]), 150.0) for n in (1, 2)}
    predicted = {n: prediction_of(truths[n].stages, frames) for n in (1, 2)}
    settings = choose(predicted, truths, {1: EVEN, 2: EVEN})
    assert 0.5 < settings.threshold <= 2.0
    assert dataclasses.asdict(settings).keys() == {"trust", "threshold", "least_seconds"}


def test_trust_is_as_great_as_a_network_deserves():
    """The likelihood of what the expert says: of a network that is right as often as it claims, and of one that boasts.

    Without a chain the best trust is the inverse of the boast.
    """
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 5, 100)
    truths = {1: Truth(steps, None, 3000.0)}
    chance = np.where(rng.random((100, 1)) < 0.6, np.eye(5)[steps], np.eye(5)[rng.integers(0, 5, 100)])
    logs = np.log(np.repeat(0.08 + 0.6 * chance, 6, 0))
    logs -= np.logaddexp.reduce(logs, 1)[:, None]
    for boast, wanted in ((1.0, 1.0), (2.0, 0.5), (5.0, 0.2)):
        predicted = Prediction(boast * logs, np.zeros(0), 0.2, 0.0)
        assert choose({1: predicted}, truths, {1: EVEN}).trust == wanted


def test_one_epoch_thought_impossible_does_not_decide():
    truth = Truth(np.array([0, -1, 2]), None, 90.0)
    chances = np.array([[1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0], [1.0, 0, 0, 0, 0]])
    assert stage_log_likelihood(chances, truth) == pytest.approx(np.log(LEAST_CHANCE))
