"""The residual network along time: its size and maps, absent leads, batch statistics."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from siamese_jax.config.experiment import Config, ConverterConfig, ModelConfig
from siamese_jax.models.build import build_model
from siamese_jax.models.resnet1d import FEATURES
from siamese_jax.vocabulary import TaskSpec

TASKS = (TaskSpec("AF", "binary", ("absent", "AF")), TaskSpec("diagnosis", "multilabel", ("NORM", "MI", "CD")))
N_TIMES, N_ROWS = 160, 4
KEYS = jax.random.split(jax.random.key(3), 4)


def build(width=0.0625, axis=None, dropout=0.0):
    model = ModelConfig(name="resnet1d", width=width, fusion="none", pooling="average", dropout=dropout)
    config = Config(tasks=tuple(t.name for t in TASKS), model=model, converter=ConverterConfig(kind="none"))
    return build_model(config, TASKS, axis=axis)


def inputs():
    rng = np.random.default_rng(0)
    maps = jnp.asarray(rng.normal(size=(len(KEYS), 1, N_TIMES, N_ROWS)), jnp.float32)
    return maps, jnp.ones((len(KEYS), N_ROWS), bool)


def initial(model):
    """Variables as if trained: no layer is an accidental identity, no statistic 0 or 1."""
    variables = jax.jit(model.init)(jax.random.key(1), *inputs())
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: x + 0.1 * np.abs(rng.normal(size=x.shape)).astype(np.float32), variables)


def flat(logits):
    return jnp.concatenate(list(logits.window.values()), -1)


def test_it_has_the_parameters_and_lengths_that_its_page_tells():
    model = build(width=1.0)
    maps, present = jax.ShapeDtypeStruct((1, 1, 1000, 12), jnp.float32), jax.ShapeDtypeStruct((1, 12), bool)
    (logits, seen), variables = jax.eval_shape(
        lambda m, p: (
            model.init_with_output(jax.random.key(0), m, p, capture_intermediates=True),
            model.init(jax.random.key(0), m, p),
        ),
        maps,
        present,
    )
    size = {layer: sum(x.size for x in jax.tree.leaves(p)) for layer, p in variables["params"].items()}
    assert size["Conv_0"] == 15 * 12 * 64 + 2 * 64
    into = (64, *FEATURES)
    for i, (a, b) in enumerate(zip(into[:-1], FEATURES, strict=True)):
        past = a * b + 2 * b if i % 2 == 0 else 0  # where length or features change
        assert size[f"ResidualBlock_{i}"] == 7 * (a + b) * b + 4 * b + past
    assert size["head_AF"] == 257 and size["head_diagnosis"] == 3 * 257
    assert round(sum(size.values()) / 1e6, 2) == 4.09  # three heads' 1028 aside, 4.08 million
    shape = [seen["intermediates"][f"ResidualBlock_{i}"]["__call__"][0].shape[1:] for i in range(8)]
    assert seen["intermediates"]["Conv_0"]["__call__"][0].shape[1:] == (1, 500, 64)
    assert [s[1] for s in shape] == [250, 250, 125, 125, 63, 63, 32, 32] and [s[2] for s in shape] == list(FEATURES)
    assert {task: x.shape for task, x in logits.window.items()} == {"AF": (1, 1), "diagnosis": (1, 3)}
    assert logits.frame == {}


def test_every_parameter_has_a_gradient():
    model, (maps, present) = build(dropout=0.3), inputs()
    variables = initial(model)

    def loss(params):
        logits, _ = model.apply(variables | {"params": params}, maps, present, keys=KEYS, mutable=["batch_stats"])
        return (flat(logits) ** 2).sum()

    gradient = jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(variables["params"]))
    assert not [jax.tree_util.keystr(path) for path, x in gradient if not float(jnp.abs(x).max()) > 0]


def test_inference_judges_each_window_by_itself_and_training_drops_by_the_key():
    model, (maps, present) = build(dropout=0.5), inputs()
    variables = initial(model)
    run = jax.jit(lambda maps, keys: flat(model.apply(variables, maps, present, keys=keys, mutable=["batch_stats"])[0]))
    alone = run(maps, None)
    np.testing.assert_array_equal(run(maps, None), alone)
    np.testing.assert_allclose(run(maps.at[1:].multiply(3), None)[0], alone[0], rtol=1e-5, atol=1e-6)
    turned = np.array([1, 2, 3, 0])
    dropped = run(maps, KEYS)
    np.testing.assert_allclose(run(maps[turned], KEYS[turned]), dropped[turned], rtol=1e-4, atol=1e-4)
    assert float(jnp.abs(run(maps, KEYS[turned]) - dropped).max()) > 1e-2


def test_present_leads_stand_in_for_absent_ones():
    """Where all leads hold the same and weigh the same, no output shows that some are absent."""
    model, (maps, present) = build(), inputs()
    variables = initial(model)
    maps = jnp.repeat(maps[..., :1], N_ROWS, -1)
    layer = variables["params"]["Conv_0"]["Conv_0"]
    layer["kernel"] = jnp.repeat(layer["kernel"][:, :, :1], N_ROWS, 2)
    some = present.at[:2, 2:].set(False)
    run = jax.jit(lambda maps, present: flat(model.apply(variables, maps, present)))
    whole, emptied = run(maps, present), run(maps * some[:, None, None], some)
    np.testing.assert_allclose(emptied, whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(run(maps, some), emptied)  # what an absent lead holds is not looked at
    assert float(jnp.abs(run(maps * some[:, None, None], present) - whole)[:2].max()) > 1e-3
    assert bool(jnp.isfinite(run(maps, present & False)).all())


def test_batch_statistics_are_those_of_all_devices():
    maps, present = inputs()
    maps = maps * jnp.array([0.5, 0.5, 2.0, 2.0])[:, None, None, None]  # the devices' halves differ
    variables = initial(build())

    def run(model):
        return lambda *of: model.apply(variables, of[0], of[1], keys=of[2], mutable=["batch_stats"])

    logits, new = jax.jit(run(build()))(maps, present, KEYS)
    halves = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), (maps, present, KEYS))
    parts, theirs = jax.jit(jax.vmap(run(build(axis="device")), axis_name="device"))(*halves)
    np.testing.assert_allclose(flat(parts).reshape(4, -1), flat(logits), rtol=1e-3, atol=1e-3)
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[1], theirs), new, rtol=1e-3, atol=1e-3)
