"""CNN-LSTM: its size, its LSTM step by step in numpy, and what every raw network must do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamese_jax.models.blocks import max_pool
from siamese_jax.models.cnn_lstm import Lstm
from tests.models import raw_network as raw

SMALL = {"width": 0.13, "dropout": 0.5}


@pytest.fixture
def net():
    return raw.network("cnn_lstm", 80, **SMALL)


def test_it_has_the_parameters_of_its_table():
    """0.217 M in PyTorch, whose LSTM has 256 biases more that do nothing of their own."""
    assert raw.n_parameters("cnn_lstm", 19, 512) == 216_577 == 216_833 - 4 * 64
    assert raw.n_parameters("cnn_lstm", 19, 1024) == 216_577
    assert raw.n_parameters("cnn_lstm", 19, 512, width=0.25) < 216_577 / 10


def test_it_does_what_a_raw_network_must(net):
    raw.check_shapes(net)
    raw.check_absent_rows(net)
    raw.check_gradient_reaches_every_parameter(net)
    raw.check_samples_are_judged_alone(net)
    raw.check_training(net, "cnn_lstm", **SMALL)


def test_rows_that_are_there_stand_in_for_those_that_are_not(net):
    """Where all rows hold the same and weigh the same, no output shows that some are absent."""
    kernel = net.variables["params"]["Conv_0"]["Conv_0"]["kernel"]
    even = jax.tree.map(lambda x: jnp.broadcast_to(x[:, :, :1], x.shape) if x is kernel else x, net.variables)
    maps = jnp.broadcast_to(net.maps[..., :1], net.maps.shape)
    some = net.present.at[:, 2:].set(False)
    whole = net.run(even, maps, net.present).window["sleep"]
    np.testing.assert_allclose(net.run(even, maps, some).window["sleep"], whole, rtol=1e-4, atol=1e-5)
    assert np.ptp(whole, axis=0).max() > 1e-3


def test_the_lstm_is_the_textbook_s():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 11, 3)).astype(np.float32)  # steps that the unrolled loop does not divide
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32),
        jax.eval_shape(Lstm(4).init, jax.random.key(0), x),
    )
    weights = variables["params"]
    of_input, bias = np.asarray(weights["input"]["kernel"]), np.asarray(weights["input"]["bias"])
    of_state = np.asarray(weights["recurrent"])

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    hidden = cell = np.zeros((2, 4))
    for step in range(x.shape[1]):
        z = x[:, step] @ of_input + hidden @ of_state + bias
        into, forget, candidate, out = z[:, :4], z[:, 4:8], z[:, 8:12], z[:, 12:]
        cell = sigmoid(forget) * cell + sigmoid(into) * np.tanh(candidate)
        hidden = sigmoid(out) * np.tanh(cell)
    np.testing.assert_allclose(jax.jit(Lstm(4).apply)(variables, x), hidden, rtol=1e-4, atol=1e-5)


def test_the_largest_of_some_frames_and_all_of_its_gradient():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 11, 3)), jnp.float32)
    given, pull = jax.vjp(lambda x: max_pool(x, 4), x)
    np.testing.assert_array_equal(given, np.asarray(x)[:, :8].reshape(2, 2, 4, 3).max(2))
    largest = np.zeros((2, 11, 3))
    largest[:, :8] = (np.repeat(given, 4, 1) == x[:, :8]).astype(float)
    np.testing.assert_array_equal(pull(jnp.ones_like(given))[0], largest)


def test_dropout_is_off_altogether_at_0(net):
    still = raw.build("cnn_lstm", width=SMALL["width"], dropout=0.0)

    @jax.jit
    def run(keys):
        return still.apply(net.variables, net.maps, net.present, keys=keys, mutable=["batch_stats"])[0].window["ied"]

    np.testing.assert_array_equal(run(net.keys), run(net.keys[::-1]))
