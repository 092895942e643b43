"""VGG-16: the published size, pooling, and what every network over maps must do."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamese_jax.models import vgg16
from siamese_jax.models.blocks import max_pool_map
from siamese_jax.models.build import build_model
from siamese_jax.pipeline import forward_training, initialise
from siamese_jax.vocabulary import IED
from tests.models import on_maps


def test_it_has_the_parameters_and_maps_of_the_published_network():
    size, heads, shape = on_maps.published("vgg16")
    assert sum(size.values()) == 14_738_880 and heads == {"head_ied": 513, "head_sleep": 5 * 513}
    expected = (
        [(129, 126, 64)] * 2 + [(64, 63, 128)] * 2 + [(32, 31, 256)] * 3 + [(16, 15, 512)] * 3 + [(8, 7, 512)] * 3
    )
    assert [shape[f"Conv_{i}"] for i in range(13)] == expected  # pooled once more: 4 x 3
    assert size["Conv_0"] == 9 * 45 * 64 + 64


@pytest.mark.parametrize(
    ("extents", "pooled"), [((129, 126), (64, 63)), ((8, 7), (4, 3)), ((1, 6), (1, 3)), ((1, 1), (1, 1))]
)
def test_an_axis_of_one_is_left_as_it_is(extents, pooled):
    x = jax.ShapeDtypeStruct((1, *extents, 2), jnp.float32)
    assert jax.eval_shape(lambda x: max_pool_map(x, (2, 2), (2, 2)), x).shape == (1, *pooled, 2)


@pytest.mark.parametrize(("kernel", "strides", "padding"), [((2, 2), (2, 2), (0, 0)), ((3, 3), (2, 2), (1, 1))])
@pytest.mark.parametrize("extents", [(7, 6), (6, 9), (2, 3)])
def test_pooling_and_its_gradient_are_those_of_xla(extents, kernel, strides, padding):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, *extents, 4)) - 3, jnp.float32)  # mostly negative: zeros around would show
    weights = jnp.asarray(rng.normal(size=(3, 8, 8, 4)), jnp.float32)

    def value_and_gradient(pool):
        def weighted(x):
            y = pool(x)
            return (y * weights[:, : y.shape[1], : y.shape[2]]).sum(), y

        (_, y), gradient = jax.value_and_grad(weighted, has_aux=True)(x)
        return y, gradient

    found = value_and_gradient(lambda x: max_pool_map(x, kernel, strides, padding))
    expected = value_and_gradient(lambda x: nn.max_pool(x, kernel, strides, [(p, p) for p in padding]))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_equal_values_share_a_gradient_whose_sum_is_one():
    gradient = jax.grad(lambda x: max_pool_map(x, (2, 2), (2, 2)).sum())(jnp.ones((1, 2, 2, 1)))
    np.testing.assert_allclose(gradient, 0.25 * np.ones((1, 2, 2, 1)))


@pytest.fixture
def shallow(monkeypatch):
    """Two blocks, one of two convolutions: compiles in a second."""
    monkeypatch.setattr(vgg16, "BLOCKS", ((64,), (128, 128)))


def test_weights_begin_as_timms(shallow):
    """Normal, of the variance 2 / (places x output features), which carries ReLUs without normalisation."""
    model, (maps, present) = on_maps.build("vgg16", width=0.5, tasks=(IED,)), on_maps.inputs()
    params = jax.jit(model.init)(jax.random.key(1), maps, present)["params"]
    for i, features in ((1, 64), (2, 64)):
        assert float(params[f"Conv_{i}"]["kernel"].std()) == pytest.approx((2 / 9 / features) ** 0.5, rel=0.03)


def test_a_network_without_batch_statistics_is_trained_like_any_other(tiny, shallow):
    model = dataclasses.replace(tiny.model, name="vgg16", width=0.125, fusion="none", pooling="average")
    config = dataclasses.replace(tiny, tasks=("ied",), model=model)
    variables = initialise(config, (IED,), jax.random.key(0))
    assert variables["batch_stats"] == {}
    eeg = jnp.ones((2, config.n_times + 2 * config.margin, len(config.data.ch_names)))
    present, keys = jnp.ones(eeg.shape[::2], bool), jax.random.split(jax.random.key(1))
    network = build_model(config, (IED,))
    logits, stats = jax.eval_shape(lambda v: forward_training(config, network, v, eeg, present, keys=keys), variables)
    assert stats == {} and logits.window["ied"].shape == (2, 1)


def test_every_parameter_has_a_gradient(shallow):
    on_maps.check_that_every_parameter_has_a_gradient("vgg16")


def test_inference_judges_each_window_by_itself(shallow):
    on_maps.check_that_inference_judges_each_window_by_itself("vgg16")


def test_present_rows_stand_in_for_absent_ones(shallow):
    on_maps.check_that_present_rows_stand_in_for_absent_ones("vgg16", ("Conv_0",))
