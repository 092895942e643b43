"""EEGNet: published counts, its layers one by one in numpy, norms, and what every raw network must do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamese_jax.models.blocks import EPSILON
from siamese_jax.models.eegnet import CappedDense, at_most
from tests.models import raw_network as raw

SMALL = {"dropout": 0.5}
N_TIMES = 70


@pytest.fixture
def net():
    return raw.network("eegnet", N_TIMES, **SMALL)


@pytest.mark.parametrize(("n_rows", "wanted"), [(19, 1665), (23, 1729), (26, 1777)])
def test_it_has_the_published_parameters(n_rows, wanted):
    assert raw.n_parameters("eegnet", n_rows, 512) == wanted
    assert raw.n_parameters("eegnet", n_rows, 512, width=0.25) == wanted  # 8 filters are the fewest
    assert raw.n_parameters("eegnet", n_rows, 1024) == wanted + 256  # the head reads every time


def test_it_does_what_a_raw_network_must(net):
    raw.check_shapes(net)
    raw.check_absent_rows(net)
    raw.check_gradient_reaches_every_parameter(net)
    raw.check_samples_are_judged_alone(net)
    raw.check_training(net, "eegnet", **SMALL)


def norm_of(net, i):
    scale, stats = net.variables["params"][f"BatchNorm_{i}"], net.variables["batch_stats"][f"BatchNorm_{i}"]
    p, s = ({k: np.asarray(v) for k, v in tree["BatchNorm_0"].items()} for tree in (scale, stats))
    return lambda x: (x - s["mean"]) / np.sqrt(s["var"] + EPSILON) * p["scale"] + p["bias"]


def along_time(x, kernel, before):
    """Correlation along the first axis with zeros around: [time, in] by [tap, in, out]."""
    n = len(kernel)
    padded = np.pad(x, ((before, n - 1 - before), (0, 0)))
    return np.stack([np.einsum("ki,kio->o", padded[t : t + n], kernel) for t in range(len(x))])


def elu_mean(x, size):
    x = np.where(x > 0, x, np.expm1(x))
    n = len(x) // size
    return x[: n * size].reshape(n, size, -1).mean(1)


def test_its_layers_are_those_of_the_paper(net):
    """Step by step in numpy, of a sample without its third row; norms of spatial filters and head are capped."""
    spatial = net.variables["params"]["spatial"]
    variables = jax.tree.map(lambda leaf: 3 * leaf if leaf is spatial else leaf, net.variables)
    params = jax.tree.map(np.asarray, variables["params"])
    present = np.array([True, True, False, True, True])
    x = np.where(present, np.asarray(net.maps[0, 0]), 0)
    rows = [norm_of(net, 0)(along_time(x[:, [r]], params["Conv_0"]["kernel"], 31)) for r in range(raw.N_ROWS)]
    norms = np.sqrt((params["spatial"] ** 2).sum(0))
    assert norms.max() > 1 > norms.min()
    weights = params["spatial"] / np.maximum(norms, 1) * present[:, None, None] * 5 / 4
    x = np.einsum("rtf,rfd->tfd", np.stack(rows), weights).reshape(N_TIMES, 16)
    x = elu_mean(norm_of(net, 1)(x), 4)
    kernel = params["separable_time"][..., 0][:, :, None] * np.eye(16)  # each feature by itself, then across
    x = along_time(x, kernel, 7) @ params["separable_feature"]
    x = elu_mean(norm_of(net, 2)(x), 8).reshape(-1)
    head = params["head_ied"]["kernel"]
    assert (norm := np.sqrt((head**2).sum())) > 0.25
    wanted = x @ head / norm * 0.25 + params["head_ied"]["bias"]
    given = net.run(variables, net.maps, net.present.at[:, 2].set(False)).window["ied"][0]
    np.testing.assert_allclose(given, wanted, rtol=1e-3, atol=1e-4)


def test_norms_are_capped_and_smaller_ones_left_alone():
    weights = jnp.asarray([[3.0, 0.3, 0.0], [4.0, 0.4, 0.0]])
    np.testing.assert_allclose(at_most(1.0, weights), [[0.6, 0.3, 0.0], [0.8, 0.4, 0.0]], rtol=1e-6)
    gradient = jax.grad(lambda w: at_most(1.0, w)[0].sum())(weights)
    # Beyond the cap only the direction counts: the gradient is at a right angle to the weights.
    assert abs(float((gradient * weights).sum(0)[0])) < 1e-6 < float(jnp.abs(gradient[:, 0]).max())
    np.testing.assert_allclose(gradient[:, 1:], [[1.0, 1.0], [0.0, 0.0]])
    dense = CappedDense(2)
    variables = {"params": {"kernel": jnp.asarray([[3.0, 0.03], [4.0, 0.04]]), "bias": jnp.asarray([1.0, 2.0])}}
    np.testing.assert_allclose(np.asarray(dense.apply(variables, jnp.ones((1, 2)))), [[1 + 0.35, 2.07]], rtol=1e-6)
