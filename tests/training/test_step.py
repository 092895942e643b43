"""The step on any number of devices is the step on one device with the whole batch."""

import dataclasses
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from siamese_jax.models import efficientnet
from siamese_jax.training.parallel import choose_devices, data_parallel
from siamese_jax.training.step import create_state, learning_rate, make_optimizer, make_train_step
from siamese_jax.vocabulary import IED, SLEEP

TASKS = (IED, SLEEP)


@cache
def compiled(config):
    """The step on one device: made once for all tests of the configuration."""
    return jax.jit(make_train_step(config, TASKS, axis=None))


def one_device(config, batch):
    return compiled(config)(create_state(config, TASKS), batch)


def moved(old, new):
    """How far parameters went: what the optimiser made of the gradient."""
    return jax.tree.map(lambda a, b: b - a, old, new)


@pytest.mark.parametrize(
    ("parallel", "n_devices"), [("pmap", 1), ("pmap", 2), ("pmap", 8), ("shard_map", 1), ("shard_map", 8)]
)
def test_loss_and_gradient_on_n_devices_equal_those_on_one(with_training, make_batch, parallel, n_devices):
    """Uneven weights, dropout and all augmentations on; labels of `sleep` on the first quarter only."""
    fields = {"amplitude": 0.3, "electrode_dropout": 0.3, "flip": 0.5, "balance": "uncertainty"}
    batch = make_batch()
    expected, numbers = one_device(with_training(**fields), batch)
    config = with_training(parallel=parallel, **fields)
    data = data_parallel(config, TASKS, jax.devices()[:n_devices])
    state, found = data.step(data.place_state(create_state(config, TASKS)), data.place(batch))
    np.testing.assert_allclose(found.loss, numbers.loss, rtol=1e-5)
    np.testing.assert_allclose(found.gradient_norm, numbers.gradient_norm, rtol=1e-4)
    chex.assert_trees_all_close(found.task_losses, numbers.task_losses, rtol=1e-5)
    chex.assert_trees_all_close(state.variables["batch_stats"], expected.variables["batch_stats"], rtol=1e-4, atol=1e-6)
    # Adam's first moment after one step is the clipped gradient times a constant: every leaf of it must agree.
    chex.assert_trees_all_close(first_moment(state), first_moment(expected), rtol=2e-3, atol=2e-6)


def first_moment(state):
    return next(s.mu for s in jax.tree.leaves(state.opt_state, is_leaf=lambda s: hasattr(s, "mu")) if hasattr(s, "mu"))


def test_pmap_and_shard_map_give_the_same_bits(with_training, make_batch):
    ends = []
    for parallel in ("pmap", "shard_map"):
        config = with_training(parallel=parallel)
        data = data_parallel(config, TASKS, jax.devices()[:2])
        state = data.place_state(create_state(config, TASKS))
        for step in range(3):
            state, _ = data.step(state, data.place(make_batch(step)))
        ends.append(jax.device_get(state.variables))
    chex.assert_trees_all_equal(*ends)


def test_a_batch_without_a_single_label_changes_nothing_but_statistics(with_training, make_batch):
    config = with_training(balance="uncertainty", warmup_steps=0, weight_decay=0.0)  # the first step is a full one
    batch = make_batch()
    none = batch._replace(weights={k: np.zeros_like(v) for k, v in batch.weights.items()})
    state, numbers = one_device(config, none)
    assert float(numbers.loss) == 0 and float(numbers.gradient_norm) == 0
    chex.assert_trees_all_equal(state.variables["params"], create_state(config, TASKS).variables["params"])


def test_labels_of_weight_0_do_not_matter(tiny, make_batch):
    batch = make_batch()
    other = {k: np.where(batch.weights[k] == 0, 1, v).astype(v.dtype) for k, v in batch.labels.items()}
    assert any((other[k] != v).any() for k, v in batch.labels.items())
    chex.assert_trees_all_equal(one_device(tiny, batch)[1], one_device(tiny, batch._replace(labels=other))[1])


def test_task_weights_scale_the_loss_of_their_task(with_training, make_batch):
    _, plain = one_device(with_training(), make_batch())
    _, weighted = one_device(with_training(task_weights=(("sleep", 0.25),)), make_batch())
    expected = plain.task_losses["ied"] + 0.25 * plain.task_losses["sleep"]
    np.testing.assert_allclose(weighted.loss, expected, rtol=1e-6)


def test_the_weight_of_positives_and_smoothing_reach_the_loss(with_training, make_batch):
    batch = make_batch()
    positive = batch._replace(labels=batch.labels | {"ied": batch.weights["ied"]})
    _, plain = one_device(with_training(), positive)
    three_times = 3 * with_training().training.pos_weight
    _, changed = one_device(with_training(pos_weight=three_times, label_smoothing=0.1), positive)
    assert float(changed.task_losses["ied"] / plain.task_losses["ied"]) > 2
    assert abs(float(changed.task_losses["sleep"] - plain.task_losses["sleep"])) > 1e-4


def test_micro_batches_give_the_gradient_of_the_whole_batch(with_training, make_batch):
    """The same windows twice: batch statistics are then those of either half. Labels differ, and some are missing."""
    half = jax.tree.map(lambda x: x[:8], make_batch())
    batch = jax.tree.map(lambda x: np.concatenate([x, x]), half)
    batch.labels["ied"][8:] = 1 - batch.labels["ied"][8:]
    batch.weights["sleep"][4:] = 0  # the second micro-batch has no stage at all
    batch.weights["ied"][10:] = 0
    whole, expected = one_device(with_training(balance="uncertainty"), batch)
    parts, found = one_device(with_training(balance="uncertainty", accumulate=2), batch)
    chex.assert_trees_all_close(found, expected, rtol=1e-5)
    chex.assert_trees_all_close(first_moment(parts), first_moment(whole), rtol=1e-3, atol=2e-6)
    # Running statistics follow micro-batches: twice the same is 1 - 0.9^2 of the way instead of 0.1 of it.
    start = create_state(with_training(), TASKS).variables["batch_stats"]
    once, twice = (moved(start, state.variables["batch_stats"]) for state in (whole, parts))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(once))
    chex.assert_trees_all_close(twice, jax.tree.map(lambda x: 1.9 * x, once), rtol=1e-3, atol=1e-5)


def test_a_task_buys_a_lower_weight_by_a_penalty(with_training, make_batch):
    """Uncertainty weighting: the gradient of s is 1/2 - loss at s = 0, and nothing for a task without a label."""
    config = with_training(balance="uncertainty", clip_norm=1e9)
    state, numbers = one_device(config, make_batch())
    for task in ("ied", "sleep"):
        np.testing.assert_allclose(
            first_moment(state).balance[task], 0.1 * (0.5 - numbers.task_losses[task]), rtol=1e-4
        )
    _, fixed = one_device(with_training(), make_batch())
    np.testing.assert_allclose(numbers.loss, fixed.loss, rtol=1e-6)  # both weights are 1 at first
    batch = make_batch()
    unlabelled = batch._replace(weights=batch.weights | {"sleep": np.zeros_like(batch.weights["sleep"])})
    state, numbers = one_device(config, unlabelled)
    assert float(first_moment(state).balance["sleep"]) == 0 != float(first_moment(state).balance["ied"])
    np.testing.assert_allclose(numbers.loss, numbers.task_losses["ied"], rtol=1e-6)


def test_learnt_weights_leave_1_by_the_loss_alone(with_training, make_batch):
    weights, sizes = [], []
    for weight_decay in (0.0, 1.0):
        config = with_training(balance="uncertainty", warmup_steps=0, weight_decay=weight_decay)
        step, state = compiled(config), create_state(config, TASKS)
        for _ in range(2):
            state, numbers = step(state, make_batch())
        weights.append({task: float(weight) for task, weight in numbers.task_weights.items()})
        sizes.append(float(optax.tree.norm(state.variables["params"])))
    assert all(float(loss) > 0.5 for loss in numbers.task_losses.values())
    assert set(weights[0]) == {"ied", "sleep"} and all(0.9 < weight < 1 for weight in weights[0].values())
    assert weights[0] == pytest.approx(weights[1], abs=2e-6)  # they do not decay: that would make 2e-5
    assert sizes[1] / sizes[0] == pytest.approx(1 - 2 * config.training.learning_rate, abs=1e-3)  # parameters do
    fixed, step = create_state(with_training(), TASKS), make_train_step(with_training(), TASKS, axis=None)
    assert jax.eval_shape(step, fixed, make_batch())[1].task_weights == {}


def test_what_is_frozen_does_not_move(tiny, with_training, make_batch):
    config = with_training(weight_decay=0.5, learning_rate=0.01, warmup_steps=0)
    config = dataclasses.replace(config, freeze=("stem",))
    start = create_state(config, TASKS)
    state, _ = one_device(config, make_batch())
    for kind in ("params", "batch_stats"):
        for tree in (state.variables, state.ema):
            old, new = start.variables[kind], tree[kind]
            assert set(old) == set(new)
            for part in old:
                if part.startswith("shared"):
                    chex.assert_trees_all_close(old[part], new[part], rtol=1e-6)  # the average adds up to it
                    assert tree is state.ema or jax.tree.all(jax.tree.map(np.array_equal, old[part], new[part]))
                else:
                    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, old[part], new[part]))), part


def test_the_optimiser_clips_by_the_global_norm_and_decays_weights(with_training):
    config = with_training(clip_norm=2.0, weight_decay=0.1, learning_rate=0.01, warmup_steps=0).training
    params = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([4.0])}
    optimizer = make_optimizer(config, decayed=True)
    _, state = optimizer.update({"a": jnp.array([30.0, 0.0]), "b": jnp.array([40.0])}, optimizer.init(params), params)
    # Adam's first moment is a tenth of the gradient: (30, 0, 40) scaled from a norm of 50 to one of 2.
    clipped = {"a": jnp.array([0.12, 0.0]), "b": jnp.array([0.16])}
    chex.assert_trees_all_close(optax.tree.get(state, "mu"), clipped, rtol=1e-5)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    chex.assert_trees_all_close(updates, jax.tree.map(lambda p: -0.01 * 0.1 * p, params), rtol=1e-5)


def test_draws_depend_on_the_place_in_the_stream_and_the_seed_alone(tiny, with_training, make_batch):
    batch = make_batch()
    _, first = one_device(tiny, batch)
    reversed_ = jax.tree.map(lambda x: x[::-1].copy(), batch)
    _, again = one_device(tiny, reversed_)
    np.testing.assert_allclose(again.loss, first.loss, rtol=1e-5)
    _, elsewhere = one_device(tiny, batch._replace(sample=batch.sample + 1000))
    assert abs(float(elsewhere.loss - first.loss)) > 1e-4
    # The same initial state, another seed.
    _, other = compiled(with_training(seed=1))(create_state(tiny, TASKS), batch)
    assert abs(float(other.loss - first.loss)) > 1e-4


def test_the_average_forgets_the_start_quickly_and_covers_batch_statistics(with_training, make_batch):
    config = with_training(ema_decay=0.5)
    start = create_state(config, TASKS)
    before = jax.device_get(start.ema)
    state, _ = compiled(config)(start, make_batch())
    # decay min(d, (1 + 0) / (10 + 0)) = 0.1 at the first step
    expected = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, before, state.variables)
    chex.assert_trees_all_close(state.ema, expected, rtol=1e-5, atol=1e-7)
    assert set(state.ema) == {"params", "batch_stats"}
    # From step 8 on, (1 + t) / (10 + t) is beyond one half.
    later, _ = compiled(config)(start._replace(step=jnp.int32(100)), make_batch())
    expected = jax.tree.map(lambda old, new: 0.5 * old + 0.5 * new, before, later.variables)
    chex.assert_trees_all_close(later.ema, expected, rtol=1e-5, atol=1e-7)


def test_repeated_steps_on_one_batch_lower_its_loss(with_training, make_batch):
    config = with_training(steps=60, amplitude=0.0, electrode_dropout=0.0, flip=0.0)
    state, batch, losses = create_state(config, TASKS), make_batch(), []
    for _ in range(40):
        state, numbers = compiled(config)(state, batch)
        losses.append(float(numbers.loss))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_the_step_is_traced_once(with_training, make_batch):
    config = with_training()
    step = chex.assert_max_traces(make_train_step(config, TASKS, axis=None), n=1)
    step, state = jax.jit(step), create_state(config, TASKS)
    for i in range(3):
        state, _ = step(state, make_batch(i))
    assert int(state.step) == 3


def test_learning_rate_warms_up_and_falls_to_its_final_value(with_training):
    schedule = learning_rate(with_training(steps=100, warmup_steps=10, learning_rate=1e-3).training)
    rates = [float(schedule(i)) for i in (0, 5, 10, 55, 100)]
    assert rates[0] == 0 and rates[1] == pytest.approx(5e-4) and rates[2] == pytest.approx(1e-3)
    assert rates[3] == pytest.approx(5e-4, rel=0.01) and rates[4] == pytest.approx(1e-7, rel=0.01)


def test_a_batch_that_devices_cannot_share_is_refused_before_any_work(with_training):
    with pytest.raises(ValueError, match="batch_size=15 cannot be divided evenly among 2 devices"):
        data_parallel(with_training(batch_size=15), TASKS, jax.devices()[:2])


def test_more_devices_than_there_are_is_an_error():
    jnp.zeros(1).block_until_ready()
    with pytest.raises(ValueError, match="--devices 99: there are only 8 cpu devices"):
        choose_devices(99)
    with pytest.raises(ValueError, match="must be 1 or more, given 0"):
        choose_devices(0)


FLAGS = {
    "no converter": {"converter": {"kind": "none"}},
    "several resolutions": {"converter": {"kind": "multi_resolution", "n_fft": (8, 16)}},
    "log": {"converter": {"amplitude": "log"}},
    "fft": {"converter": {"implementation": "fft"}},
    "referential": {"preprocess": {"montage": "referential"}},
    "bipolar": {"preprocess": {"montage": "bipolar"}},
    "45 rows": {"preprocess": {"montage": "paper45"}},
    "no sleep features": {"model": {"fusion": "none"}},
    "gated": {"model": {"fusion": "gated"}},
    "film": {"model": {"fusion": "film"}},
    "stopped": {"model": {"stop_sleep_gradient": True}},
    "nothing shared": {"model": {"shared_stages": 0}},
    "shifted": {"training": {"time_shift_seconds": 0.05}},
    "shuffled": {"training": {"row_shuffle": 0.5}},
    "averaged": {"model": {"pooling": "average"}},
    "paper, lax": {"model": {"size": "paper", "width": 0.25, "shared_stages": 4, "depthwise": "lax"}},
}


def flagged(tiny, name):
    sections = {k: dataclasses.replace(getattr(tiny, k), **v) for k, v in FLAGS[name].items()}
    return dataclasses.replace(tiny, **sections)


@pytest.mark.parametrize("name", FLAGS)
def test_every_flag_of_the_ablation_table_gives_a_step(tiny, make_batch, monkeypatch, name):
    # Two blocks of a kind in a row, not more: what follows is more of the same.
    short = [stage._replace(repeats=min(stage.repeats, 2)) for stage in efficientnet.RW_T]
    monkeypatch.setattr(efficientnet, "RW_T", tuple(short))
    config = flagged(tiny, name)
    batch = make_batch(config=config)
    state = jax.eval_shape(lambda: create_state(config, TASKS))
    after, numbers = jax.eval_shape(make_train_step(config, TASKS, axis=None), state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert set(numbers.task_losses) == {"ied", "sleep"} and numbers.loss.shape == ()


@pytest.mark.parametrize("name", ["no converter", "several resolutions", "bipolar", "film", "averaged"])
def test_a_step_with_that_flag_is_finite_and_moves_every_parameter(tiny, make_batch, name):
    config = flagged(tiny, name)
    state, numbers = one_device(config, make_batch(config=config))
    assert np.isfinite(float(numbers.loss)) and float(numbers.gradient_norm) > 0
    moments = {jax.tree_util.keystr(p): m for p, m in jax.tree_util.tree_leaves_with_path(first_moment(state))}
    assert all(np.isfinite(moment).all() for moment in moments.values())
    # The next normalisation takes away whatever this bias adds: its gradient is rounding, or nothing.
    moments.pop(".params['shared_0']['BatchNorm_0']['BatchNorm_0']['bias']")
    assert not [name for name, moment in moments.items() if not np.any(moment)]


def test_one_task_alone_trains_without_twins_sleep(tiny, make_batch):
    config = dataclasses.replace(tiny, tasks=("ied",), model=dataclasses.replace(tiny.model, fusion="none"))
    _, numbers = one_device(config, make_batch(config=config))
    assert set(numbers.task_losses) == {"ied"}
    np.testing.assert_array_equal(numbers.loss, numbers.task_losses["ied"])
