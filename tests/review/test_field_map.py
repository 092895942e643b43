"""Maps of potentials: what is measured at an electrode stands at its place."""

import numpy as np

from siamese_jax.review.field_map import weights
from siamese_jax.vocabulary import LEFT_RIGHT, POSITIONS, TEN_TWENTY

SIZE = 41


def value_at(drawn, name):
    x, y = POSITIONS[name]
    return drawn[round((1 - y) / 2 * (SIZE - 1)), round((x + 1) / 2 * (SIZE - 1))]


def test_a_map_passes_through_the_potentials_at_the_electrodes():
    potentials = np.random.default_rng(0).normal(0, 50, 19)
    drawn = (weights(TEN_TWENTY, SIZE) @ potentials).reshape(SIZE, SIZE)
    inner = [name for name in TEN_TWENTY if np.hypot(*POSITIONS[name]) < 0.9]
    found = [value_at(drawn, name) for name in inner]  # at the nearest point of a grid of 0.05
    np.testing.assert_allclose(found, [potentials[TEN_TWENTY.index(name)] for name in inner], atol=15)
    assert np.corrcoef(found, [potentials[TEN_TWENTY.index(name)] for name in inner])[0, 1] > 0.98


def test_equal_potentials_give_a_flat_map_and_the_corners_are_no_head():
    drawn = (weights(TEN_TWENTY, SIZE) @ np.full(19, 7.0)).reshape(SIZE, SIZE)
    np.testing.assert_allclose(drawn[~np.isnan(drawn)], 7.0, atol=1e-6)
    assert np.isnan(drawn[0, 0]) and not np.isnan(drawn[SIZE // 2]).any()


def test_mirrored_potentials_give_the_mirrored_map():
    swap = LEFT_RIGHT | {right: left for left, right in LEFT_RIGHT.items()}
    mirror = [TEN_TWENTY.index(swap.get(name, name)) for name in TEN_TWENTY]
    potentials = np.random.default_rng(0).normal(0, 50, 19)
    table = weights(TEN_TWENTY, SIZE)
    drawn = (table @ potentials).reshape(SIZE, SIZE)
    np.testing.assert_allclose((table @ potentials[mirror]).reshape(SIZE, SIZE), drawn[:, ::-1], atol=1e-6)
