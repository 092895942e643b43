"""Starting from a checkpoint: the answers that are handed on, and what is refused."""

import dataclasses
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamese_jax.checkpoints import Checkpoint
from siamese_jax.config.experiment import Config
from siamese_jax.models.build import build_model
from siamese_jax.models.siamese_es import RwtStage
from siamese_jax.pipeline import forward, initialise
from siamese_jax.signals.converter import convert
from siamese_jax.signals.preprocess import preprocess
from siamese_jax.training.transfer import MUST_AGREE, transfer
from siamese_jax.vocabulary import IED, SLEEP, STATE, TaskSpec
from tests.identities import learnt_from

TASKS = (IED, SLEEP)
SPINDLE = TaskSpec("spindle", "binary", ("none", "spindle"))


def change(config: Config, **sections) -> Config:
    """The configuration with other fields: `change(config, model={"width": 0.5}, tasks=("ied",))`."""
    fields = {
        name: dataclasses.replace(getattr(config, name), **value) if isinstance(value, dict) else value
        for name, value in sections.items()
    }
    return dataclasses.replace(config, **fields)


def random_variables(config: Config, tasks, seed: int):
    """Variables of which nothing is 0 or 1, the batch statistics least of all; nothing is compiled for them."""
    rng = np.random.default_rng(seed)

    def draw(path, x):
        wild = path[-1].key in ("var", "scale")
        return jnp.asarray(rng.uniform(0.5, 1.5, x.shape) if wild else rng.normal(0, 0.3, x.shape), jnp.float32)

    shapes = jax.eval_shape(lambda: initialise(config, tasks, jax.random.key(0)))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def trained(config: Config, tasks=TASKS) -> Checkpoint:
    return Checkpoint(config, tasks, random_variables(config, tasks, 1), 70, learnt_from("SIMULATED"))


def started(source: Checkpoint, config: Config, tasks=TASKS):
    fresh = random_variables(config, tasks, 9)
    variables, done = transfer(source, config, tasks, fresh)
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, fresh)
    return variables, done, fresh


def windows(config: Config, *, highest_hz: float = 20.0, seed: int = 0):
    """The same signals at whatever rate, of each electrode its own: sines from 2 Hz up."""
    n, start = config.n_times + 2 * config.margin, -config.margin / config.data.sfreq
    seconds = start + np.arange(n) / config.data.sfreq
    rng = {name: np.random.default_rng([seed, *name.encode()]) for name in config.data.ch_names}
    columns = []
    for name in config.data.ch_names:
        hz, uv, phase = (rng[name].uniform(*span, (3, 6, 1)) for span in ((2, highest_hz), (5, 40), (0, 6.28)))
        columns.append((uv * np.sin(2 * np.pi * hz * seconds + phase)).sum(1))
    return jnp.asarray(np.stack(columns, -1), jnp.float32)


def answers(config: Config, variables, eeg, there: set[str]):
    """Logits of `small`; of `paper`, which takes a minute to compile, what its stem says: the rest is the same."""
    present = jnp.array([[name in there for name in config.data.ch_names]] * len(eeg))
    if config.model.size == "small":
        return forward(config, build_model(config, TASKS), variables, eeg, present).window
    rows, row_present = preprocess(config, eeg, present)
    stem = {collection: tree["shared_0"] for collection, tree in variables.items()}
    maps = convert(config, rows)
    return {"stem": RwtStage(config.model, 0).apply(stem, maps, row_present, train=False)}


@pytest.fixture
def small(tiny):
    return change(tiny, preprocess={"montage": "referential"})


@pytest.fixture
def paper(tiny):
    model = {"size": "paper", "width": 0.1, "pooling": "average"}
    return change(tiny, preprocess={"montage": "referential"}, model=model)


def sized(request, name):
    return request.getfixturevalue(name)


def test_the_same_configuration_gets_every_bit(small):
    source = trained(small)
    variables, done, _ = started(source, change(small, training={"learning_rate": 1e-4}))
    chex.assert_trees_all_equal(variables, source.variables)
    n = sum(x.size for x in jax.tree.leaves(source.variables["params"]))
    assert (sum(done.restored.values()), done.adapted, done.fresh, done.notes) == (n, {}, {}, ())


def test_heads_are_restored_if_the_task_is_the_same(small):
    source = trained(small)
    fewer = TaskSpec("sleep", "multiclass", ("W", "N1", "N2", "N3", "X"))  # as many classes, not the same ones
    config = change(small, tasks=("ied", "sleep", "spindle"))
    variables, done, fresh = started(source, config, (IED, fewer, SPINDLE))
    params, old = variables["params"], source.variables["params"]
    chex.assert_trees_all_equal(params["head_ied"], old["head_ied"])
    for head in ("head_sleep", "head_spindle"):
        chex.assert_trees_all_equal(params[head], fresh["params"][head])
    assert {name.split("/")[0] for name in done.fresh} == {"head_sleep", "head_spindle"}
    assert "fresh     head_sleep: multiclass W N1 N2 N3 R there, multiclass W N1 N2 N3 X here" in done.notes
    assert "fresh     head_spindle: the checkpoint has no such task" in done.notes


@pytest.mark.parametrize(("there", "here"), [("concat", "none"), ("none", "gated"), ("gated", "film")])
def test_another_fusion_leaves_the_branches_and_the_heads_of_state(small, there, here):
    source = trained(change(small, model={"fusion": there}))
    variables, done, fresh = started(source, change(small, model={"fusion": here}))
    params, old = variables["params"], source.variables["params"]
    new = {layer for layer in params if layer.startswith("fusion_") or layer == "head_ied"}
    assert {name.split("/")[0] for name in done.fresh} == new  # also where `head_ied` has the same shape
    for layer in params:
        chex.assert_trees_all_equal(params[layer], (fresh["params"] if layer in new else old)[layer])
    gone = [f"left out  {'fusion'}"] if there == "gated" else []
    assert [note for note in done.notes if note.startswith("left out")] == gone


def test_a_branch_that_was_not_there_is_fresh(small):
    source = trained(change(small, tasks=("ied",), model={"fusion": "none"}), (IED,))
    variables, done, fresh = started(source, change(small, model={"fusion": "none"}))
    assert {name.split("_")[0] for name in done.fresh} == {"sleep", "head"}
    for collection in ("params", "batch_stats"):
        chex.assert_trees_all_equal(variables[collection]["sleep_2"], fresh[collection]["sleep_2"])
        chex.assert_trees_all_equal(variables[collection]["electron_2"], source.variables[collection]["electron_2"])


@pytest.mark.parametrize("size", ["small", "paper"])
def test_a_recording_of_the_common_electrodes_gets_the_checkpoint_s_answer(request, size):
    """Electrodes go by name, whatever their order and number, and what is new says nothing until it is there."""
    config = sized(request, size)
    source, common = trained(config), {"C3", "Cz"}
    other = change(config, data={"ch_names": ("Cz", "O1", "C3", "O2")}, training={"flip": 0.0})
    variables, done, fresh = started(source, other)
    expected = answers(config, source.variables, windows(config), common)
    found = answers(other, variables, windows(other), common)
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)
    assert "rows      Cz C3 restored; O1 O2 fresh" in done.notes
    assert done.adapted and all(2 * taken == of for taken, of in done.adapted.values())
    with_new = answers(other, variables, windows(other), {"C3", "Cz", "O1"})
    assert any(np.abs(with_new[task] - found[task]).max() > 1e-3 for task in found)
    layer = "electron_2" if size == "small" else "shared_0"
    kernels = [tree["params"][layer] for tree in (variables, fresh)]
    if size == "small":
        a, b = (kernel["Dense_0"]["kernel"].reshape(4, -1, kernel["Dense_0"]["kernel"].shape[-1]) for kernel in kernels)
        chex.assert_trees_all_equal(a[jnp.array([1, 3])], b[jnp.array([1, 3])])
    else:
        a, b = (kernel["Conv_0"]["Conv_0"]["kernel"] for kernel in kernels)
        chex.assert_trees_all_equal(a[:, :, jnp.array([1, 3])], b[:, :, jnp.array([1, 3])])


def test_no_electrode_in_common_keeps_what_is_learnt_for_all_of_them(small):
    source = trained(small)
    config = change(small, data={"ch_names": ("O1", "O2")})
    variables, done, fresh = started(source, config)
    chex.assert_trees_all_equal(variables["params"]["sleep_1"], source.variables["params"]["sleep_1"])
    chex.assert_trees_all_equal(variables["params"]["sleep_2"]["Dense_0"], fresh["params"]["sleep_2"]["Dense_0"])
    assert not done.adapted and set(done.fresh) == {"electron_2/Dense_0/kernel", "sleep_2/Dense_0/kernel"}
    assert "rows      none of O1 O2 among the checkpoint's: all weights by place are fresh" in done.notes


# --- rates -----------------------------------------------------------------------------------------------------

AT_200 = {"data": {"sfreq": 200.0}, "converter": {"n_fft": (32,), "hop": 10}}


@pytest.mark.parametrize("size", ["small", "paper"])
def test_the_same_signal_at_half_the_rate_gets_the_checkpoint_s_answer(request, size):
    at_100 = sized(request, size)
    at_200 = change(at_100, **AT_200)
    source = trained(at_200)
    variables, done, _ = started(source, at_100)
    there = set(at_100.data.ch_names)
    expected = answers(at_200, source.variables, windows(at_200), there)
    found = answers(at_100, variables, windows(at_100), there)
    chex.assert_trees_all_close(found, expected, rtol=0.01, atol=0.01)
    unscaled = answers(at_100, source.variables, windows(at_100), there)
    assert max(float(np.abs(unscaled[task] - expected[task]).max()) for task in expected) > 0.1
    assert "differs   data.sfreq: 200.0 there, 100.0 given" in done.notes
    back, _, _ = started(Checkpoint(at_100, TASKS, variables, 1), at_200)
    chex.assert_trees_all_close(back, source.variables, rtol=1e-4, atol=1e-4)


def test_another_rate_names_the_setting_that_fits(small):
    source = trained(change(small, **AT_200))
    naive = {"n_fft": (32,), "hop": 10, "band_hz": (0.0, 20.0)}
    with pytest.raises(ValueError, match="every 50 ms .*32 and 10.*every 100 ms: at 100 Hz use (.*)") as caught:
        started(source, change(small, converter=naive))
    assert str(caught.value).endswith("use converter.n_fft=16, converter.hop=5, converter.band_hz=0 25")
    _, done, _ = started(source, change(small, converter={"n_fft": (16,), "hop": 5, "band_hz": (0.0, 25.0)}))
    assert not done.fresh
    with pytest.raises(ValueError, match=r"at 100 Hz use converter.hop=5$"):
        started(source, change(small, converter={"hop": 10}))
    with pytest.raises(ValueError, match=r"5 bins from 0 to 25 Hz.*; given are 4 bins.*use converter.band_hz=0 25$"):
        started(source, change(small, converter={"band_hz": (0.0, 20.0)}))


def test_a_rate_at_which_nothing_fits_names_one_that_does(small):
    source = trained(small)
    at_120 = change(small, data={"sfreq": 120.0}, converter={"n_fft": (20,), "hop": 6})
    with pytest.raises(ValueError, match=r"nothing at 120 Hz fits: use preprocess.sfreq=100"):
        started(source, at_120)
    low = change(small, preprocess={"sfreq": 50.0, "eeg_band_hz": (1.0, 20.0)}, converter={"band_hz": (0.0, 20.0)})
    assert low.sfreq == 50
    with pytest.raises(ValueError, match=r"nothing at 50 Hz fits: use preprocess.sfreq=100"):
        started(source, low)
    for given, converter in ((at_120, {"n_fft": (16,), "hop": 5}), (low, {"band_hz": (0.0, 30.0)})):
        _, done, _ = started(source, change(given, preprocess={"sfreq": 100.0}, converter=converter))
        assert not done.fresh


def test_log_magnitudes_have_no_other_rate(small):
    source = trained(change(small, **AT_200 | {"converter": {"n_fft": (32,), "hop": 10, "amplitude": "log"}}))
    with pytest.raises(ValueError, match=r"log magnitudes at 200 Hz.*use data.sfreq=200"):
        started(source, change(small, converter={"amplitude": "log"}))


# --- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("model.size", {"model": {"size": "paper", "pooling": "frames"}}),
        ("model.width", {"model": {"width": 0.67}}),
        ("model.dilations", {"model": {"dilations": (1, 2, 1)}}),
        ("model.shared_stages", {"model": {"shared_stages": 2}}),
        ("model.pooling", {"model": {"pooling": "average"}}),
        ("converter.kind", {"converter": {"kind": "multi_resolution", "n_fft": (16, 8)}}),
        ("converter.amplitude", {"converter": {"amplitude": "log"}}),
    ],
)
def test_another_network_is_refused_by_name(small, field, other):
    assert field in MUST_AGREE
    with pytest.raises(ValueError, match=rf"{field}: .* there, .* given"):
        started(trained(small), change(small, **other))


def test_random_weights_are_not_frozen(small):
    alone = trained(change(small, tasks=("ied",), model={"fusion": "none"}), (IED,))
    with pytest.raises(ValueError, match=r"freeze=\('sleep',\) would keep random weights: .* all of sleep \(it"):
        started(alone, change(small, model={"fusion": "none"}, freeze=("sleep",)))
    _, done, _ = started(alone, change(small, model={"fusion": "none"}, freeze=("stem", "electron")))
    assert {name.split("_")[0] for name in done.frozen} == {"shared", "electron"}
    more = change(small, data={"ch_names": ("C3", "C4", "O1", "O2")}, freeze=("electron",))
    with pytest.raises(ValueError, match=r"random weights: .*all of electron"):
        started(trained(small), more)
    fewer = change(small, data={"ch_names": ("C3", "C4")}, freeze=("electron",))
    assert started(trained(small), fewer)[1].frozen


# --- words -----------------------------------------------------------------------------------------------------


def test_the_text_says_what_became_of_each_part(small):
    source = trained(small)
    config = change(
        small,
        tasks=("sleep", "spindle"),
        data={"ch_names": ("Cz", "O1")},
        preprocess={"mains_hz": 60.0},
        model={"remat": True},
        training={"flip": 0.0},
        freeze=("stem",),
    )
    _, done, fresh = started(source, config, (SLEEP, SPINDLE))
    text = done.text()
    assert text.splitlines() == [
        "start     step 70 of a model trained on: SIMULATED; parameters:",
        "  stem          146 restored, frozen",
        "  electron      3,328 restored, 192 fresh",
        "  sleep         3,328 restored, 192 fresh",
        "  head_sleep    125 restored",
        "  head_spindle  49 fresh",
        "rows      Cz restored; O1 fresh",
        "fresh     head_spindle: the checkpoint has no such task",
        "left out  head_ied",
        "differs   preprocess.mains_hz: 50.0 there, 60.0 given",
    ]
    counted = sum(int(n.replace(",", "")) for n in re.findall(r" ([\d,]+) (?:restored|fresh)", text))
    assert counted == sum(x.size for x in jax.tree.leaves(fresh["params"]))


def test_a_state_task_that_reads_another_branch_gets_a_new_head(small):
    source = trained(change(small, tasks=("sleep", "state")), (SLEEP, STATE))
    config = change(small, tasks=("sleep", "state"), model={"sleep_tasks": ("sleep",)})
    _, done, _ = started(source, config, (SLEEP, STATE))
    assert "fresh     head_state: it reads another branch" in done.notes
