"""What every network of raw rows must do, whatever its layers: shared by the tests of each."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from siamese_jax.config.experiment import Config, ConverterConfig, ModelConfig
from siamese_jax.models.build import build_model
from siamese_jax.vocabulary import IED, SLEEP, TaskSpec

KINDS = TaskSpec("kinds", "multilabel", ("spike", "sharp", "spindle"))
TASKS = (IED, SLEEP, KINDS)
N_BATCH, N_ROWS = 4, 5


class Network(NamedTuple):
    """A small network with statistics as if trained, a batch for it, and its compiled pass."""

    model: Any
    variables: Any
    maps: jax.Array
    present: jax.Array
    keys: jax.Array
    run: Callable


def build(name: Any, *, tasks=TASKS, axis=None, **changes):
    model = ModelConfig(name=name, fusion="none", pooling="average", **changes)
    names = tuple(task.name for task in tasks)
    return build_model(Config(tasks=names, model=model, converter=ConverterConfig(kind="none")), tasks, axis=axis)


def n_parameters(name: str, n_rows: int, n_times: int, **changes) -> int:
    """Of the network with one logit; nothing is computed."""
    model = build(name, tasks=(IED,), **changes)
    maps, present = jnp.zeros((1, 1, n_times, n_rows)), jnp.ones((1, n_rows), bool)
    params = jax.eval_shape(model.init, jax.random.key(0), maps, present)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@functools.cache
def network(name: str, n_times: int, **changes) -> Network:
    model = build(name, **changes)
    rng = np.random.default_rng(0)
    maps = jnp.asarray(rng.normal(size=(N_BATCH, 1, n_times, N_ROWS)), jnp.float32)
    present = jnp.ones((N_BATCH, N_ROWS), bool)
    shapes = jax.eval_shape(model.init, jax.random.key(1), maps, present)

    def value(path, leaf):
        spread = 1 / np.sqrt(max(leaf.size // leaf.shape[-1], 1)) if leaf.ndim > 1 else 0.1
        centre = 1.0 if path[-1].key in ("scale", "var") else 0.0
        return jnp.asarray(centre + spread * rng.uniform(-1.7, 1.7, leaf.shape), jnp.float32)

    variables = jax.tree_util.tree_map_with_path(value, shapes)
    return Network(model, variables, maps, present, jax.random.split(jax.random.key(2), N_BATCH), jax.jit(model.apply))


def check_shapes(net: Network) -> None:
    with jax.numpy_dtype_promotion("strict"):
        logits = jax.eval_shape(net.model.apply, net.variables, net.maps, net.present)
    assert {k: v.shape for k, v in logits.window.items()} == {"ied": (4, 1), "sleep": (4, 5), "kinds": (4, 3)}
    assert all(v.dtype == jnp.float32 for v in logits.window.values()) and not logits.frame


def check_absent_rows(net: Network) -> None:
    """What an absent row holds changes nothing; that it is absent does; nobody there is no accident."""
    some = net.present.at[:, 3:].set(False)
    nothing = net.run(net.variables, net.maps.at[..., 3:].set(0), some).window["ied"]
    for garbage in (jnp.nan, 1e30):
        np.testing.assert_array_equal(
            net.run(net.variables, net.maps.at[..., 3:].set(garbage), some).window["ied"], nothing
        )
    assert float(jnp.abs(net.run(net.variables, net.maps, net.present).window["ied"] - nothing).max()) > 1e-4
    nobody = net.run(net.variables, net.maps * jnp.nan, net.present & False)
    assert all(bool(jnp.isfinite(x).all()) for x in nobody.window.values())


def check_gradient_reaches_every_parameter(net: Network) -> None:
    def loss(params):
        logits = net.model.apply(net.variables | {"params": params}, net.maps, net.present)
        return sum((x * jnp.arange(1.0, x.size + 1).reshape(x.shape)).sum() for x in logits.window.values())

    gradient = jax.jit(jax.grad(loss))(net.variables["params"])
    sizes = {jax.tree_util.keystr(k): float(jnp.abs(x).max()) for k, x in jax.tree_util.tree_leaves_with_path(gradient)}
    assert all(np.isfinite(size) for size in sizes.values())
    assert not [name for name, size in sizes.items() if size < 1e-7]


def check_samples_are_judged_alone(net: Network) -> None:
    alone = net.run(net.variables, net.maps.at[1:].multiply(-3), net.present.at[1:, 0].set(False)).window
    for task, logits in net.run(net.variables, net.maps, net.present).window.items():
        np.testing.assert_allclose(alone[task][0], logits[0], rtol=1e-5, atol=1e-6)
        assert float(jnp.abs(alone[task][1:] - logits[1:]).max()) > 1e-4


def check_training(net: Network, name: str, **changes) -> None:
    """Batch statistics and draws are those of the whole batch, over however many devices it is spread."""

    def train(model, maps, present, keys):
        logits, updated = model.apply(net.variables, maps, present, keys=keys, mutable=["batch_stats"])
        return logits.window["ied"], updated.get("batch_stats", {})

    over_two = functools.partial(train, build(name, axis="device", **changes))
    spread = jax.jit(jax.vmap(over_two, axis_name="device"))
    half = [x.reshape(2, -1, *x.shape[1:]) for x in (net.maps, net.present, net.keys)]
    whole = jax.jit(functools.partial(train, net.model))
    (logits, stats), (spread_logits, spread_stats) = whole(net.maps, net.present, net.keys), spread(*half)
    np.testing.assert_allclose(spread_logits.reshape(logits.shape), logits, rtol=1e-3, atol=1e-4)
    for one, two in zip(jax.tree.leaves(stats), jax.tree.leaves(spread_stats), strict=True):
        np.testing.assert_allclose(two, np.stack([one, one]), rtol=1e-4, atol=1e-5)
    again, _ = whole(net.maps, net.present, net.keys[::-1])
    assert float(jnp.abs(again - logits).max()) > 1e-4  # other keys, other draws
