"""What every network over frequency-temporal maps must do; each has a test file that asks for it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from siamese_jax.config.experiment import Config, ModelConfig
from siamese_jax.models.build import build_model
from siamese_jax.vocabulary import IED, SLEEP

N_FREQS, N_FRAMES, N_ROWS = 9, 20, 5
KEYS = jax.random.split(jax.random.key(3), 4)


def build(name, width=0.125, tasks=(IED, SLEEP), axis=None, dropout=0.0):
    model = ModelConfig(name=name, width=width, fusion="none", pooling="average", dropout=dropout)
    return build_model(Config(tasks=tuple(t.name for t in tasks), model=model), tasks, axis=axis)


def inputs(n_frames=N_FRAMES):
    rng = np.random.default_rng(0)
    maps = jnp.asarray(np.abs(rng.normal(size=(len(KEYS), N_FREQS, n_frames, N_ROWS))), jnp.float32)
    return maps, jnp.ones((len(KEYS), N_ROWS), bool)


def initial(model):
    """Variables as if trained: no layer is an accidental identity, no statistic 0 or 1."""
    variables = jax.jit(model.init)(jax.random.key(1), *inputs())
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: x + 0.1 * np.abs(rng.normal(size=x.shape)).astype(np.float32), variables)


def flat(logits):
    return jnp.concatenate(list(logits.window.values()), -1)


def published(name, n_rows=45):
    """Parameters, trunk and heads apart, and the shape of each layer's output, at full width."""
    model = build(name, width=1.0)
    maps, present = jax.ShapeDtypeStruct((1, 129, 126, n_rows), jnp.float32), jax.ShapeDtypeStruct((1, n_rows), bool)
    logits, made = jax.eval_shape(
        lambda m, p: model.init_with_output(jax.random.key(0), m, p, capture_intermediates=True), maps, present
    )
    size = {layer: sum(x.size for x in jax.tree.leaves(p)) for layer, p in made["params"].items()}
    heads = {layer: size.pop(layer) for layer in list(size) if layer.startswith("head_")}
    shape = {k: v["__call__"][0].shape[1:] for k, v in made["intermediates"].items() if k != "__call__"}
    assert {task: x.shape for task, x in logits.window.items()} == {"ied": (1, 1), "sleep": (1, 5)}
    return size, heads, shape


def check_that_every_parameter_has_a_gradient(name):
    model, (maps, present) = build(name, dropout=0.3), inputs()
    variables = initial(model)

    def loss(params):
        logits, _ = model.apply(variables | {"params": params}, maps, present, keys=KEYS, mutable=["batch_stats"])
        return (flat(logits) ** 2).sum()

    gradient = jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(variables["params"]))
    assert not [jax.tree_util.keystr(path) for path, x in gradient if not float(jnp.abs(x).max()) > 0]


def check_that_inference_judges_each_window_by_itself(name):
    """The same again and in other company, without keys; with keys another, by the key and not by the place."""
    model, (maps, present) = build(name, dropout=0.5), inputs()
    variables = initial(model)
    run = jax.jit(lambda maps, keys: flat(model.apply(variables, maps, present, keys=keys, mutable=["batch_stats"])[0]))
    alone = run(maps, None)
    np.testing.assert_array_equal(run(maps, None), alone)
    others = run(maps.at[1:].multiply(3), None)
    np.testing.assert_allclose(others[0], alone[0], rtol=1e-5, atol=1e-6)
    assert float(jnp.abs(others[1:] - alone[1:]).min(-1).max()) > 1e-4
    turned = np.array([1, 2, 3, 0])
    dropped = run(maps, KEYS)
    np.testing.assert_allclose(run(maps[turned], KEYS[turned]), dropped[turned], rtol=1e-4, atol=1e-4)
    assert float(jnp.abs(run(maps, KEYS[turned]) - dropped).max()) > 1e-2


def check_that_present_rows_stand_in_for_absent_ones(name, kernel_at):
    """Where all rows hold the same and weigh the same, no output shows that some are absent."""
    model, (maps, present) = build(name), inputs()
    variables = initial(model)
    maps = jnp.repeat(maps[..., :1], N_ROWS, -1)
    layer = variables["params"]
    for key in kernel_at:
        layer = layer[key]
    layer["kernel"] = jnp.repeat(layer["kernel"][:, :, :1], N_ROWS, 2)
    some = present.at[:2, 3:].set(False)
    run = jax.jit(lambda maps, present: flat(model.apply(variables, maps, present)))
    whole, emptied = run(maps, present), run(maps * some[:, None, None], some)
    np.testing.assert_allclose(emptied, whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(run(maps, some), emptied)  # what an absent row holds is not looked at
    assert float(jnp.abs(run(maps * some[:, None, None], present) - whole)[:2].max()) > 1e-3
    assert bool(jnp.isfinite(run(maps, present & False)).all())


def check_that_batch_statistics_are_those_of_all_devices(name):
    """Two devices with half of the batch each: logits and running statistics are the whole batch's."""
    maps, present = inputs()
    maps = maps * jnp.array([0.5, 0.5, 2.0, 2.0])[:, None, None, None]  # the devices' halves differ
    variables = initial(build(name))

    def run(model):
        return lambda *of: model.apply(variables, of[0], of[1], keys=of[2], mutable=["batch_stats"])

    logits, new = jax.jit(run(build(name)))(maps, present, KEYS)
    halves = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), (maps, present, KEYS))
    parts, theirs = jax.jit(jax.vmap(run(build(name, axis="device")), axis_name="device"))(*halves)
    np.testing.assert_allclose(flat(parts).reshape(4, -1), flat(logits), rtol=1e-3, atol=1e-3)
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[1], theirs), new, rtol=1e-3, atol=1e-3)
    assert jax.tree.leaves(new)
    assert not np.allclose(flat(jax.jit(run(build(name)))(*jax.tree.map(lambda x: x[0], halves))[0]), flat(logits)[:2])
