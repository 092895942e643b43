"""SpikeNet: its size, its two first convolutions as one, seconds joined, and what every raw network must do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamese_jax.models.spikenet import joined_kernel, piece_starts
from tests.models import raw_network as raw

SMALL = {"width": 0.25, "dropout": 0.5}


@pytest.fixture
def net():
    return raw.network("spikenet", 150, **SMALL)


def test_it_has_the_published_parameters():
    """0.318 M before the head, which reads 2 x 128 features whatever the window."""
    for n_times in (128, 512):
        assert raw.n_parameters("spikenet", 37, n_times) == 317_632 + 2 * 128 + 1
    assert raw.n_parameters("spikenet", 37, 128, width=0.25) < 317_632 / 10


def test_it_does_what_a_raw_network_must(net):
    raw.check_shapes(net)
    raw.check_absent_rows(net)
    raw.check_gradient_reaches_every_parameter(net)
    raw.check_samples_are_judged_alone(net)
    raw.check_training(net, "spikenet", **SMALL)


def test_pieces_are_half_a_second_apart_and_reach_the_window_s_end():
    assert piece_starts(128) == [0]
    assert piece_starts(512) == [0, 64, 128, 192, 256, 320, 384]
    assert piece_starts(150) == [0, 22]
    for n_times in range(128, 400):
        starts = piece_starts(n_times)
        assert starts[0] == 0 and starts[-1] + 128 == n_times
        assert len(starts) == 1 or 0 < min(np.diff(starts)) <= max(np.diff(starts)) <= 64


def test_odds_of_a_window_are_the_mean_of_those_of_its_seconds(net):
    window = net.run(net.variables, net.maps, net.present).window
    seconds = [net.run(net.variables, net.maps[:, :, s : s + 128], net.present).window for s in (0, 22)]
    for task, logits in window.items():
        odds = np.mean([np.exp(second[task]) for second in seconds], 0)
        np.testing.assert_allclose(np.exp(logits), odds, rtol=1e-4)
        assert np.abs(seconds[0][task] - seconds[1][task]).max() > 1e-4


def test_two_convolutions_are_one_of_the_product_of_their_kernels():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(8, 1, 3)), rng.normal(size=(8, 3, 2))
    x = rng.normal(size=40)

    def along_time(x, kernel):
        return np.stack(
            [np.einsum("ki,kio->o", x[t : t + len(kernel)], kernel) for t in range(len(x) - len(kernel) + 1)]
        )

    joined = joined_kernel(jnp.asarray(first, jnp.float32), jnp.asarray(second, jnp.float32))
    assert joined.shape == (15, 1, 2)
    wanted = along_time(along_time(x[:, None], first), second)
    np.testing.assert_allclose(along_time(x[:, None], np.asarray(joined)), wanted, rtol=1e-4, atol=1e-4)


def test_rows_are_filtered_alike_and_summed_by_their_place(net):
    """Rows that change places together with their weights change nothing."""
    order = np.array([3, 0, 4, 1, 2])
    weights = net.variables["params"]["second"]["over_rows"]
    moved = jax.tree.map(lambda x: x[order] if x is weights else x, net.variables)
    whole = net.run(net.variables, net.maps, net.present).window["sleep"]
    np.testing.assert_allclose(net.run(moved, net.maps[..., order], net.present).window["sleep"], whole, rtol=1e-3)
    assert np.abs(net.run(net.variables, net.maps[..., order], net.present).window["sleep"] - whole).max() > 1e-3
