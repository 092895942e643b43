"""EEGformer: its size, attention and filters in numpy, who sees whom, and what every raw network must do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamese_jax.models import eegformer
from siamese_jax.models.eegformer import Attention, RowFilters, Transformer, pieces_of
from tests.models import raw_network as raw

SMALL = {"width": 0.125, "dropout": 0.1}


@pytest.fixture
def net(monkeypatch):
    monkeypatch.setattr(eegformer, "BLOCKS", 1)
    return raw.network("eegformer", 40, **SMALL)


def random_variables(module, *args):
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *args)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)


def test_it_has_the_parameters_of_its_table():
    """Counted by hand from the docstring's layers, for 19 rows and 512 samples, of which 485 are left."""
    width, filters, rows = 128, 120, 19
    block = 12 * width**2 + 12 * width  # 4 for attention, 8 for the perceptron; no bias of keys, two layer norms
    convolutions = 2 * (10 + 1) * rows + (10 + 1) * rows * filters
    regional = 485 * width + width + (filters + 1) * width + 3 * block
    synchronous = width * width + width + (rows + 1) * width + 3 * block
    temporal = rows * filters * width + width + (10 + 1) * width + 3 * block
    decoder = (width + 1) * rows * filters + (filters + 1) + (rows + 1) * 2 + (10 + 1) * 5 + 2 * 5 + 1
    wanted = convolutions + regional + synchronous + temporal + decoder
    assert raw.n_parameters("eegformer", rows, 512) == wanted == 2_493_285
    assert raw.n_parameters("eegformer", rows, 512, width=0.25) < wanted / 10


def test_it_does_what_a_raw_network_must(net):
    raw.check_shapes(net)
    raw.check_absent_rows(net)
    raw.check_gradient_reaches_every_parameter(net)
    raw.check_samples_are_judged_alone(net)
    raw.check_training(net, "eegformer", **SMALL)


def test_present_rows_stand_in_for_absent_ones(net):
    """Where all rows hold the same and weigh the same, and do not attend, no output shows that some are absent."""
    params = jax.tree.map(jnp.asarray, net.variables["params"])
    filters, temporal = params["filters"], params["temporal"]["embed"]
    filters |= {name: jnp.repeat(w[:, :1], raw.N_ROWS, 1) for name, w in filters.items() if "kernel" in name}
    filters |= {name: jnp.repeat(w[:1], raw.N_ROWS, 0) for name, w in filters.items() if "bias" in name}
    params["synchronous"]["position"] *= 0
    params["synchronous"]["attention_0"]["out"]["kernel"] *= 0
    own = temporal["kernel"].shape[0] // raw.N_ROWS
    temporal["kernel"] = jnp.tile(temporal["kernel"][:own], (raw.N_ROWS, 1))
    maps = jnp.repeat(net.maps[..., :1], raw.N_ROWS, -1)
    whole, some = (
        net.run({"params": params}, maps, present).window["ied"]
        for present in (net.present, net.present.at[:, 3:].set(False))
    )
    np.testing.assert_allclose(some, whole, rtol=1e-4, atol=1e-5)


def test_attention_is_the_textbook_s_and_looks_at_those_who_are_there():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 1, 5, 8)).astype(np.float32)
    seen = np.array([[True] * 5, [True, True, False, True, False]])
    variables = random_variables(Attention(), x, seen)
    weights = {k: {n: np.asarray(w) for n, w in v.items()} for k, v in variables["params"].items()}
    wanted = np.zeros((2, 5, 8))
    for sample in range(2):
        q, k, v = (x[sample, 0] @ weights[n]["kernel"] + weights[n].get("bias", 0) for n in ("query", "key", "value"))
        for head in range(4):
            part = slice(2 * head, 2 * head + 2)
            scores = np.exp(q[:, part] @ k[:, part].T / np.sqrt(2)) * seen[sample]
            wanted[sample, :, part] = scores / scores.sum(1, keepdims=True) @ v[:, part]
    wanted = wanted @ weights["out"]["kernel"] + weights["out"]["bias"]
    np.testing.assert_allclose(jax.jit(Attention().apply)(variables, x, seen)[:, 0], wanted, rtol=1e-4, atol=1e-4)


def test_filters_see_their_row_alone():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 3, 30)).astype(np.float32)
    variables = random_variables(RowFilters(4), x)
    weights = {k: np.asarray(v) for k, v in variables["params"].items()}
    given = jax.jit(RowFilters(4).apply)(variables, x)
    assert given.shape == (1, 3, 4, 3)
    for row in range(3):
        y = x[0, row]
        for i in range(2):
            y = np.maximum(np.correlate(y, weights[f"kernel_{i}"][:, row, 0]) + weights[f"bias_{i}"][row], 0)
        for j in range(4):
            z = np.maximum(np.correlate(y, weights["kernel_2"][:, row, j]) + weights["bias_2"][row, j], 0)
            np.testing.assert_allclose(given[0, row, j], z, rtol=1e-4, atol=1e-4)


def test_groups_of_tokens_do_not_see_one_another_and_their_own_tokens_do(monkeypatch):
    monkeypatch.setattr(eegformer, "BLOCKS", 1)
    module = Transformer(8, 0.0, salt=0)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 4, 5)), jnp.float32)
    variables = random_variables(module, x, None)
    touched = jax.jit(jax.grad(lambda x: (jnp.asarray(module.apply(variables, x, None))[0, 1, 2] ** 2).sum()))(x)
    assert np.abs(touched[0, [0, 2]]).max() == 0
    assert np.abs(touched[0, 1]).max(-1).min() > 0


@pytest.mark.parametrize("width", [16, 128])
def test_pieces_are_means_of_runs_of_features(width):
    pieces = pieces_of(width)
    np.testing.assert_allclose(pieces.sum(0), 1, rtol=1e-6)
    places = [np.flatnonzero(column) for column in pieces.T]
    np.testing.assert_array_equal(np.concatenate(places), np.arange(width))
    assert max(map(len, places)) - min(map(len, places)) <= 1
