"""Siamese-ES: published sizes, who sees which gradient, and what a frame depends on."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamese_jax.config.experiment import Config, ModelConfig
from siamese_jax.config.presets import PAPER, SMALL
from siamese_jax.models import efficientnet
from siamese_jax.models.blocks import DepthwiseConv, Dropout
from siamese_jax.models.build import build_model, frozen_parameters
from siamese_jax.models.efficientnet import RwtStage
from siamese_jax.models.siamese_es import ROW_STAGES, SmallStage
from siamese_jax.pipeline import forward, initialise
from siamese_jax.vocabulary import IED, SLEEP, TaskSpec

TASKS = (IED, SLEEP)
N_ROWS, N_FREQS = 5, 9


def model_config(**changes) -> ModelConfig:
    return dataclasses.replace(SMALL.model, **({"width": 0.34, "dilations": (1, 1, 2), "shared_stages": 1} | changes))


def build(config: ModelConfig, tasks=TASKS):
    names = tuple(t.name for t in tasks)
    return build_model(Config(tasks=names, model=config, preprocess=SMALL.preprocess), tasks)


def inputs(n_frames=20, batch=3, seed=0):
    rng = np.random.default_rng(seed)
    maps = jnp.asarray(rng.normal(size=(batch, N_FREQS, n_frames, N_ROWS)), jnp.float32)
    return maps, jnp.ones((batch, N_ROWS), bool)


def initial(model, maps, present):
    variables = jax.jit(model.init)(jax.random.key(1), maps, present)
    # Statistics as if trained, so that no layer is an accidental identity.
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: x + 0.1 * np.abs(rng.normal(size=x.shape)).astype(np.float32), variables)


def n_parameters(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_paper_size_has_the_parameters_of_efficientnetv2_rw_t():
    """Counted in timm with 45 rows: stem, stages 0 to 5, last convolution: 9.8 k, 10 k, ... 8.99 M."""
    model = build_model(PAPER, TASKS)
    maps, present = jax.ShapeDtypeStruct((1, 129, 126, 45), jnp.float32), jax.ShapeDtypeStruct((1, 45), bool)
    logits, variables = jax.eval_shape(
        lambda k, m, p: model.init_with_output(k, m, p), jax.random.key(0), maps, present
    )
    counts = {name: n_parameters(tree) for name, tree in variables["params"].items()}
    shared = [counts[f"shared_{i}"] for i in range(4)]
    assert shared == [9_768, 10_464, 218_048, 343_616]
    for branch in ("electron", "sleep"):
        own = [counts[f"{branch}_{part}"] for part in ("4", "5", "6", "features")]
        assert own == [607_790, 2_240_634, 8_988_100, 215_040]
    # nEpiNet's path (one branch, 45 rows) is the 12.63 M of the released backbone.
    assert round((sum(shared) + sum(own)) / 1e6, 2) == 12.63
    assert counts["head_ied"] == 2 * 1024 + 1 and counts["head_sleep"] == 5 * (1024 + 1)
    assert logits.window["ied"].shape == (1, 1) and logits.window["sleep"].shape == (1, 5)


def test_paper_maps_have_the_published_shapes():
    """As timm gives them: 24x65x63 after the stem, 48x17x16 after the shared stages, 208x5x4 at the end."""
    model = build_model(PAPER, TASKS)
    maps, present = jax.ShapeDtypeStruct((1, 129, 126, 45), jnp.float32), jax.ShapeDtypeStruct((1, 45), bool)
    _, seen = jax.eval_shape(
        lambda k, m, p: model.init_with_output(k, m, p, capture_intermediates=True),
        jax.random.key(0),
        maps,
        present,
    )
    shape = {
        name: layers["__call__"][0].shape[1:] for name, layers in seen["intermediates"].items() if name != "__call__"
    }
    assert shape["shared_0"] == (65, 63, 24)
    assert shape["shared_3"] == (17, 16, 48)
    assert shape["electron_4"] == (9, 8, 104)
    assert shape["sleep_6"] == (5, 4, 208)


@pytest.mark.parametrize("fusion", ["none", "concat", "gated", "film"])
@pytest.mark.parametrize("pooling", ["frames", "average"])
def test_the_sleep_loss_sends_exactly_zero_gradient_into_twins_electron(fusion, pooling):
    maps, present = inputs()
    model = build(model_config(fusion=fusion, pooling=pooling))
    variables = initial(model, maps, present)

    def loss(params, task):
        return (model.apply(variables | {"params": params}, maps, present).window[task] ** 2).sum()

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    from_sleep, from_ied = gradient(variables["params"], "sleep"), gradient(variables["params"], "ied")
    size = {k: sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(v)) for k, v in from_sleep.items()}
    assert all(size[name] == 0 for name in size if name.startswith(("electron", "fusion", "head_ied")))
    assert all(size[name] > 0 for name in size if name.startswith(("shared", "sleep", "head_sleep")))
    into_sleep = sum(
        float(jnp.abs(x).sum()) for k, v in from_ied.items() if k.startswith("sleep") for x in jax.tree.leaves(v)
    )
    assert (into_sleep > 0) == (fusion != "none")


def test_stop_sleep_gradient_keeps_the_ied_loss_out_of_twins_sleep_and_changes_no_output():
    maps, present = inputs()
    open_, stopped = build(model_config()), build(model_config(stop_sleep_gradient=True))
    variables = initial(open_, maps, present)
    np.testing.assert_array_equal(
        open_.apply(variables, maps, present).window["ied"],
        stopped.apply(variables, maps, present).window["ied"],
    )

    def loss(params, model):
        return model.apply(variables | {"params": params}, maps, present).window["ied"].sum()

    into = {
        name: sum(
            float(jnp.abs(x).sum())
            for k, v in jax.jit(jax.grad(loss), static_argnums=1)(variables["params"], model).items()
            if k.startswith("sleep")
            for x in jax.tree.leaves(v)
        )
        for name, model in (("open", open_), ("stopped", stopped))
    }
    assert into["open"] > 0 and into["stopped"] == 0


@pytest.mark.parametrize("size", ["small", "paper"])
def test_branches_have_the_same_shapes_and_separate_weights(size):
    maps, present = inputs(33)
    changes = {"width": 0.34} if size == "paper" else {}
    model = build(model_config(size=size, **changes))
    params = jax.eval_shape(model.init, jax.random.key(0), maps, present)["params"]
    branches = [
        {k.split("_", 1)[1]: jax.tree.map(jnp.shape, v) for k, v in params.items() if k.startswith(owner)}
        for owner in ("electron", "sleep")
    ]
    assert branches[0] == branches[1] and branches[0]


@pytest.mark.parametrize("shared", [0, 1, 2])
def test_shared_stages_says_how_much_is_shared(shared):
    maps, present = inputs()
    model = build(model_config(shared_stages=shared))
    params = jax.eval_shape(model.init, jax.random.key(0), maps, present)["params"]
    assert sorted(n for n in params if n.startswith("shared")) == [f"shared_{i}" for i in range(shared)]
    assert sorted(n for n in params if n.startswith("electron")) == [f"electron_{i}" for i in range(shared, 3)]


def test_one_task_alone_has_no_twins_sleep():
    maps, present = inputs()
    model = build(model_config(fusion="none"), (IED,))
    params = jax.eval_shape(model.init, jax.random.key(0), maps, present)["params"]
    assert not [name for name in params if "sleep" in name]


def test_a_frame_of_the_small_model_depends_on_its_context_alone_wherever_the_window_begins():
    config = model_config()
    model, context = build(config), config.context_frames
    maps, present = inputs(60)
    variables = initial(model, maps, present)
    whole = model.apply(variables, maps, present).frame
    shift, n = 13, 25
    part = model.apply(variables, maps[:, :, shift : shift + n + 2 * context], present).frame
    for task in ("ied", "sleep"):
        np.testing.assert_allclose(part[task], whole[task][:, shift : shift + n], rtol=2e-6, atol=2e-6)
    gradient = jax.grad(lambda x: model.apply(variables, x, present).frame["ied"][0, 30, 0])(maps)
    touched = np.flatnonzero(np.abs(gradient).sum((0, 1, 3)))
    assert (touched.min(), touched.max()) == (30, 30 + 2 * context)


def test_odds_of_frames_add_up_to_the_odds_of_the_window_and_sleep_logits_average():
    maps, present = inputs()
    model = build(model_config())
    logits = model.apply(initial(model, maps, present), maps, present)
    np.testing.assert_allclose(jnp.exp(logits.window["ied"]), jnp.exp(logits.frame["ied"]).sum(1), rtol=1e-5)
    np.testing.assert_allclose(logits.window["sleep"], logits.frame["sleep"].mean(1), rtol=1e-5, atol=1e-6)


def test_a_sample_has_no_gradient_from_another_sample_of_its_batch():
    maps, present = inputs()
    model = build(model_config())
    variables = initial(model, maps, present)
    gradient = jax.grad(lambda x: model.apply(variables, x, present).window["ied"][1, 0])(maps)
    assert float(jnp.abs(gradient[np.array([0, 2])]).max()) == 0 and float(jnp.abs(gradient[1]).max()) > 0


def test_dropout_follows_a_samples_key_and_not_its_place():
    maps, present = inputs()
    maps = jnp.concatenate([maps, maps])
    present = jnp.concatenate([present, present])
    model = build(model_config(dropout=0.5))
    variables = initial(model, maps, present)
    keys = jax.random.split(jax.random.key(3), 3)

    def run(keys):
        return model.apply(variables, maps, present, keys=keys, mutable=["batch_stats"])[0].window["ied"]

    same = run(jnp.concatenate([keys, keys]))
    np.testing.assert_allclose(same[:3], same[3:], rtol=1e-6)
    other = run(jnp.concatenate([keys, keys[::-1]]))
    assert float(jnp.abs(other[3] - other[0]).max()) > 1e-4


def test_dropout_keeps_the_mean():
    x, keys = jnp.ones((4, 50, 40)), jax.random.split(jax.random.key(0), 4)
    y = Dropout(0.25, salt=0).apply({}, x, keys)
    np.testing.assert_allclose(np.unique(y), [0, 4 / 3], rtol=1e-6)
    assert float(y.mean()) == pytest.approx(1, abs=0.03)
    assert (Dropout(0.25, salt=1).apply({}, x, keys) != y).any()
    np.testing.assert_array_equal(Dropout(0.25, salt=0).apply({}, x, None), x)


@pytest.mark.parametrize("stride", [1, 2])
def test_both_depthwise_convolutions_are_the_same_function_of_the_same_parameters(stride):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 8, 6)), jnp.float32)
    variables = DepthwiseConv(stride).init(jax.random.key(0), x)

    def run(implementation):
        def loss(variables, x):
            y = DepthwiseConv(stride, implementation).apply(variables, x)
            return (y**2).sum(), y

        (_, y), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(variables, x)
        return y, gradients

    reference = run("lax")
    for implementation in ("shift", "auto"):
        chex.assert_trees_all_close(run(implementation), reference, rtol=1e-4, atol=1e-5)


def test_other_tasks_are_heads_of_the_same_machinery():
    region = TaskSpec("region", "multiclass", ("generalized", "frontal", "temporal", "centro-parietal", "occipital"))
    kinds = TaskSpec("kinds", "multilabel", ("spike", "sharp", "spindle"))
    maps, present = inputs()
    model = build(model_config(), (IED, SLEEP, region, kinds))
    logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), maps, present)
    assert {k: v.shape for k, v in logits.window.items()} == {
        "ied": (3, 1),
        "sleep": (3, 5),
        "region": (3, 5),
        "kinds": (3, 3),
    }


def test_an_absent_row_changes_nothing_but_the_weight_of_those_present():
    maps, present = inputs()
    model = build(model_config())
    variables = initial(model, maps, present)
    run = jax.jit(model.apply)
    some = present.at[:, 3:].set(False)
    emptied = run(variables, maps.at[..., 3:].set(0), some)
    np.testing.assert_allclose(run(variables, maps, some).window["ied"], emptied.window["ied"], rtol=1e-6)
    assert float(jnp.abs(run(variables, maps, present).window["ied"] - emptied.window["ied"]).max()) > 1e-3
    nobody = run(variables, maps * 0, present & False)
    assert bool(jnp.isfinite(nobody.window["ied"]).all())


@pytest.mark.parametrize("size", ["small", "paper"])
def test_rows_that_are_there_stand_in_for_those_that_are_not(size):
    """Where all rows hold the same and weigh the same, the layer that joins them cannot detect that some are absent."""
    maps, present = inputs()
    some = present.at[:, 3:].set(False)
    if size == "small":
        stage, row_axis, absent = SmallStage(model_config(), ROW_STAGES), 1, 7.0
        x = jnp.repeat(jnp.transpose(maps, (0, 3, 2, 1))[:, :1], N_ROWS, 1)
    else:
        stage, row_axis, absent = RwtStage(model_config(size=size), 0), 3, 0.0
        x = jnp.repeat(maps[..., :1], N_ROWS, 3)
    variables = stage.init(jax.random.key(0), x, present, train=False)
    layer = variables["params"]["Dense_0"] if size == "small" else variables["params"]["Conv_0"]["Conv_0"]
    by_row = layer["kernel"].reshape(*(() if size == "small" else (3, 3)), N_ROWS, -1)
    layer["kernel"] = jnp.repeat(by_row[..., :1, :], N_ROWS, -2).reshape(layer["kernel"].shape)
    emptied = jnp.where(some.reshape([3, *(N_ROWS if a == row_axis else 1 for a in (1, 2, 3))]), x, absent)
    whole = stage.apply(variables, x, present, train=False)
    np.testing.assert_allclose(stage.apply(variables, emptied, some, train=False), whole, rtol=1e-4, atol=1e-5)
    assert np.ptp(whole) > 0.1


def test_what_a_row_looks_like_is_learnt_once_for_all_rows():
    """Exchanging two rows exchanges their maps up to the stage that joins them, whose head-wide part stays."""
    maps, present = inputs()
    model = build(model_config(shared_stages=2))
    variables = initial(model, maps, present)

    def stages(maps):
        _, seen = model.apply(variables, maps, present, capture_intermediates=True)
        return seen["intermediates"]["shared_1"]["__call__"][0]

    order = np.array([1, 0, 2, 4, 3])
    np.testing.assert_allclose(stages(maps[..., order]), stages(maps)[:, order], rtol=1e-5, atol=1e-6)


def test_a_task_without_definition_is_refused():
    with pytest.raises(ValueError, match=r"no definition of \['sleep'\]; there are \['ied'\]"):
        build_model(SMALL, (IED,))


def test_model_passes_under_strict_dtype_promotion():
    maps, present = inputs()
    with jax.numpy_dtype_promotion("strict"):
        model = build(model_config())
        logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), maps, present)
        keys = jax.random.split(jax.random.key(0), 3)
        jax.eval_shape(lambda v, m: model.apply(v, m, present, keys=keys, mutable=["batch_stats"]), variables, maps)
    assert logits.window["ied"].dtype == jnp.float32


# --- precision, memory, what is frozen ---

KEYS = jax.random.split(jax.random.key(3), 3)
KEEP_BARRIERS = {"xla_disable_hlo_passes": "cse_barrier_expander"}
"""Without this XLA's CPU compiler drops what keeps recomputation behind the forward pass; GPU and TPU keep it."""


@pytest.fixture
def shallow_paper(monkeypatch):
    """`paper` with one block a stage and a quarter of its features: compiles in seconds."""
    monkeypatch.setattr(efficientnet, "RW_T", tuple(stage._replace(repeats=1) for stage in efficientnet.RW_T))
    return model_config(size="paper", width=0.25, shared_stages=3, pooling="average", dropout=0.0)


@pytest.fixture(params=["small", "paper"])
def either(request):
    return model_config(dropout=0.0) if request.param == "small" else request.getfixturevalue("shallow_paper")


def example(config, n_frames=33):
    maps, present = inputs(n_frames)
    present = present.at[1, 3:].set(False)
    maps = maps * present[:, None, None]
    return initial(build(config), maps, present), maps, present


def training_loss(config, maps, present):
    """Of parameters and batch statistics: the loss, the logits of all tasks and the new statistics."""
    model = build(config)

    def loss(params, batch_stats):
        variables = {"params": params, "batch_stats": batch_stats}
        logits, new = model.apply(
            variables, maps, present, keys=jax.random.split(KEYS[0], len(maps)), mutable=["batch_stats"]
        )
        return sum((x**2).mean() for x in logits.window.values()), (logits.window, new["batch_stats"])

    return loss


def graded(config, maps, present):
    return jax.jit(jax.value_and_grad(training_loss(config, maps, present), has_aux=True))


def flat(tree):
    return jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)])


@pytest.mark.parametrize(
    ("size", "fusion"), [("small", "concat"), ("small", "gated"), ("small", "film"), ("paper", "none")]
)
def test_parameters_statistics_and_logits_are_float32_whatever_the_branches_compute_in(shallow_paper, size, fusion):
    config = dataclasses.replace(shallow_paper if size == "paper" else model_config(), dtype="bfloat16", fusion=fusion)
    maps, present = inputs(33)
    (logits, variables), (_, plain) = (
        jax.eval_shape(build(c).init_with_output, jax.random.key(1), maps, present)
        for c in (config, dataclasses.replace(config, dtype="float32"))
    )
    assert variables == plain
    gradient, new = jax.eval_shape(
        jax.grad(training_loss(config, maps, present), has_aux=True), variables["params"], variables["batch_stats"]
    )
    assert {x.dtype for x in jax.tree.leaves((logits, variables, gradient, new))} == {jnp.dtype("float32")}


@pytest.mark.parametrize("converter", ["dft", "fft"])
@pytest.mark.parametrize("size", ["small", "paper"])
def test_bfloat16_begins_behind_the_converter_and_ends_before_the_heads(tiny, size, converter):
    """Read from the traced program, raw microvolts to logits: what comes before the cast, and what after it."""
    config = dataclasses.replace(
        tiny,
        model=dataclasses.replace(tiny.model, size=size, dtype="bfloat16"),
        converter=dataclasses.replace(tiny.converter, implementation=converter),
    )
    eeg = jax.ShapeDtypeStruct((2, config.n_times + 2 * config.margin, len(config.data.ch_names)), jnp.float32)
    present = jax.ShapeDtypeStruct(eeg.shape[::2], bool)
    model = build_model(config, TASKS)
    variables = jax.eval_shape(lambda: initialise(config, TASKS, jax.random.key(0)))
    program = jax.make_jaxpr(partial(forward, config, model))(variables, eeg, present)
    steps = [(e.primitive.name, {str(v.aval.dtype) for v in (*e.invars, *e.outvars)}) for e in leaves_of(program.jaxpr)]
    begins = next(i for i, (_, types) in enumerate(steps) if "bfloat16" in types)
    before, after = steps[:begins], steps[begins:]
    products = {"conv_general_dilated", "dot_general"}
    # Filter and converter are behind us: their transforms were met before the cast, and none comes after it.
    assert "fft" in {name for name, _ in before} and "fft" not in {name for name, _ in after}
    assert ("conv_general_dilated" in {name for name, _ in before}) == (converter == "dft")
    assert after[0] == ("convert_element_type", {"float32", "bfloat16"})
    convolutions = [types for name, types in after if name == "conv_general_dilated"]
    assert len(convolutions) >= 4 and all(types == {"bfloat16"} for types in convolutions)
    heads = [types for name, types in after if name in products][-len(TASKS) :]
    assert all(types == {"float32"} for types in heads)


def leaves_of(jaxpr):
    """Every elementary operation of a traced program, in order, those inside calls and branches too."""
    for equation in jaxpr.eqns:
        inner = [v for v in jax.tree.leaves(equation.params, is_leaf=is_program) if is_program(v)]
        for program in inner:
            yield from leaves_of(getattr(program, "jaxpr", program))
        if not inner:
            yield equation


def is_program(value) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def test_bfloat16_is_near_float32_in_logits_and_in_the_direction_of_the_gradient(either):
    """Logits within 5 % of their spread over tasks and windows; gradients within 6 degrees."""
    variables, maps, present = example(either)
    runs = {}
    for dtype in ("float32", "bfloat16"):
        config = dataclasses.replace(either, dtype=dtype)
        (_, (logits, _)), gradient = graded(config, maps, present)(variables["params"], variables["batch_stats"])
        runs[dtype] = flat(logits), flat(gradient)
    (logits, gradient), (near_logits, near_gradient) = runs["float32"], runs["bfloat16"]
    error = float(jnp.abs(near_logits - logits).max() / logits.std())
    assert 1e-5 < error < 0.05
    assert bool(jnp.isfinite(near_gradient).all())
    cosine = gradient @ near_gradient / (jnp.linalg.norm(gradient) * jnp.linalg.norm(near_gradient))
    assert float(cosine) > 0.995


def test_rematerialisation_changes_neither_parameters_nor_loss_nor_gradient(either):
    again = dataclasses.replace(either, remat=True)
    variables, maps, present = example(either)
    made = [jax.eval_shape(build(c).init, jax.random.key(1), maps, present) for c in (either, again)]
    assert made[0] == made[1]
    expected, found = (graded(c, maps, present)(variables["params"], variables["batch_stats"]) for c in (either, again))
    chex.assert_trees_all_close(found[0], expected[0], rtol=1e-5, atol=1e-6)
    a, b = flat(found[1]), flat(expected[1])
    assert float(jnp.linalg.norm(a - b)) <= 1e-5 * float(jnp.linalg.norm(b))


def test_rematerialisation_needs_less_memory():
    """Activations of one stage at a time instead of all: less than 60 % of the temporary memory."""
    rows = jnp.ones((16, N_ROWS), bool)
    maps = jax.ShapeDtypeStruct((16, N_FREQS, 64, N_ROWS), jnp.float32)

    def megabytes(config):
        variables = jax.eval_shape(lambda m: build(config).init(jax.random.key(0), m, rows), maps)
        step = jax.jit(lambda p, s, m: jax.grad(training_loss(config, m, rows), has_aux=True)(p, s))
        lowered = step.lower(variables["params"], variables["batch_stats"], maps)
        return lowered.compile(compiler_options=KEEP_BARRIERS).memory_analysis().temp_size_in_bytes / 1e6

    assert megabytes(model_config(remat=True)) < 0.6 * megabytes(model_config())


PARTS = {"stem": "shared", "electron": "electron", "sleep": "sleep"}


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("freeze", [("stem",), ("sleep",), ("stem", "electron"), ("stem", "sleep")])
def test_a_frozen_part_computes_in_training_what_it_does_in_inference_and_keeps_its_statistics(freeze, remat):
    """Bit for bit, wherever what it is given is frozen too."""
    config = dataclasses.replace(SMALL, model=model_config(fusion="film", remat=remat, dropout=0.5), freeze=freeze)
    model, (variables, maps, present) = build_model(config, TASKS), example(config.model)
    run = jax.jit(partial(model.apply, mutable=["batch_stats", "intermediates"], capture_intermediates=True))
    _, calm = run(variables, maps, present)
    _, busy = run(variables, maps, present, keys=KEYS)
    for stage, before in variables["batch_stats"].items():
        after = busy["batch_stats"][stage]
        if stage.startswith(tuple(PARTS[part] for part in freeze)):
            chex.assert_trees_all_equal(after, before)
        else:
            assert all(np.any(a != b) for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True))
        if "stem" in freeze:
            outputs = [seen["intermediates"][stage]["__call__"][0] for seen in (calm, busy)]
            assert np.array_equal(*outputs) == stage.startswith(tuple(PARTS[part] for part in freeze))


@pytest.mark.parametrize("size", ["small", "paper"])
@pytest.mark.parametrize("freeze", [(), ("stem",), ("electron",), ("sleep", "stem")])
def test_frozen_parameters_are_those_of_the_parts_named_and_never_heads_or_fusion(size, freeze):
    config = dataclasses.replace(SMALL, model=model_config(size=size, fusion="gated"), freeze=freeze)
    maps, present = inputs(33)
    params = jax.eval_shape(build_model(config, TASKS).init, jax.random.key(0), maps, present)["params"]
    frozen = frozen_parameters(config, params)
    chex.assert_trees_all_equal_structs(frozen, params)
    by_layer = {name: set(jax.tree.leaves(tree)) for name, tree in frozen.items()}
    expected = tuple(f"{PARTS[part]}_" for part in freeze)
    assert by_layer == {name: {name.startswith(expected) if expected else False} for name in params}
    assert by_layer["head_sleep"] == by_layer["fusion_gate"] == {False}
    if size == "paper":
        assert by_layer["electron_features"] == {"electron" in freeze}
