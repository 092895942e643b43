"""A chain of stages, against every path that there is."""

import itertools

import numpy as np
import pytest

from experiments.statistics.stages import smoothed_stages, transition_probabilities


@pytest.mark.parametrize("seed", range(5))
def test_the_posterior_is_the_sum_over_all_paths(seed):
    rng = np.random.default_rng(seed)
    logs, transitions = rng.normal(0, 2, (4, 3)), rng.dirichlet(np.ones(3), 3)
    if seed == 0:
        transitions = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]])  # some steps are impossible
    expected = np.zeros((4, 3))
    for path in itertools.product(range(3), repeat=4):
        chance = np.exp(sum(logs[t, s] for t, s in enumerate(path)))
        chance *= np.prod([transitions[a, b] for a, b in itertools.pairwise(path)])
        expected[np.arange(4), path] += chance
    np.testing.assert_allclose(smoothed_stages(logs, transitions), expected / expected.sum(1, keepdims=True))


def test_a_chain_that_knows_nothing_changes_nothing_and_long_nights_do_not_underflow():
    logs = np.log(np.random.default_rng(0).dirichlet(np.ones(5), 3000))
    np.testing.assert_allclose(smoothed_stages(logs, np.full((5, 5), 0.2)), np.exp(logs))
    sticky = smoothed_stages(logs, np.full((5, 5), 0.01) + 0.95 * np.eye(5))
    assert np.isfinite(sticky).all() and (np.diff(sticky.argmax(1)) != 0).mean() < 0.3
    assert smoothed_stages(np.zeros((0, 5)), np.eye(5)).shape == (0, 5)


def test_transitions_are_counted_within_recordings_and_between_known_stages():
    found = transition_probabilities([np.array([0, 0, 1, -1, 1]), np.array([2, 2])], n_classes=3, pseudo_count=1.0)
    counts = np.array([[2, 2, 1], [1, 1, 1], [1, 1, 2]])
    np.testing.assert_allclose(found, counts / counts.sum(1, keepdims=True))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="n_classes=2"):
        transition_probabilities([np.array([0, 2])], n_classes=2)
    with pytest.raises(ValueError, match="above 0"):
        transition_probabilities([np.array([0, 1])], n_classes=2, pseudo_count=0.0)
    with pytest.raises(ValueError, match="rows sum to 1"):
        smoothed_stages(np.zeros((3, 2)), np.ones((2, 2)))
