"""Losses: arithmetic by hand, and what a missing label may not do."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamese_jax.config.experiment import Config, TrainingConfig
from siamese_jax.shards.marks import MAX_BAGS
from siamese_jax.training.losses import balanced, frame_loss, initial_balance, task_loss
from siamese_jax.vocabulary import IED, SLEEP, TaskSpec

DIAGNOSES = TaskSpec("diagnosis", "multilabel", ("AF", "LBBB"))
LOG2 = math.log(2)


def given(*rows):
    return jnp.asarray(rows, jnp.float32)


def test_binary_loss_of_undecided_logits_is_log_2_each_and_pos_weight_counts_positives_only():
    total, weight = task_loss(IED, given([0], [0], [0]), given(1, 0, 0), given(1, 1, 1), pos_weight=3.0)
    assert float(total) == pytest.approx((3 + 1 + 1) * LOG2, rel=1e-6)
    assert float(weight) == 3


def test_multiclass_loss_is_minus_the_log_of_the_true_class():
    logits = jnp.log(given([0.5, 0.2, 0.1, 0.1, 0.1], [0.1, 0.1, 0.6, 0.1, 0.1]))
    total, weight = task_loss(SLEEP, logits, jnp.array([1, 2]), given(1, 0.5))
    assert float(total) == pytest.approx(-math.log(0.2) - 0.5 * math.log(0.6), rel=1e-5)
    assert float(weight) == 1.5


def test_multilabel_loss_is_the_mean_over_classes():
    logits = given([0, math.log(3)])
    total, _ = task_loss(DIAGNOSES, logits, given([1, 0]), given(1))
    assert float(total) == pytest.approx((LOG2 - math.log(0.25)) / 2, rel=1e-6)


def test_label_smoothing_moves_the_target_by_s_over_the_number_of_classes():
    p = 0.9
    logit = math.log(p / (1 - p))
    total, _ = task_loss(IED, given([logit]), given(1), given(1), label_smoothing=0.1)
    assert float(total) == pytest.approx(-0.95 * math.log(p) - 0.05 * math.log(1 - p), rel=1e-5)
    uniform, _ = task_loss(SLEEP, jnp.zeros((1, 5)), jnp.array([3]), given(1), label_smoothing=0.5)
    assert float(uniform) == pytest.approx(math.log(5), rel=1e-6)


def test_a_bag_adds_the_odds_of_its_frames_and_every_negative_frame_counts_alone():
    logits = jnp.log(given([0.5, 0.25, 0.25, 1.0, 3.0, 7.0]))[..., None]
    bags = jnp.array([[1, 1, 0, -1, 2, 0]], jnp.int8)
    total = frame_loss(logits, bags, given(1), pos_weight=2.0)
    # Odds of .75 and 3 for the bags: 1 / p = 7/3 and 4/3; negatives cost log(1 + odds).
    assert float(total) == pytest.approx(2 * math.log(7 / 3 * 4 / 3) + math.log(1.25) + math.log(8), rel=1e-5)
    assert float(frame_loss(logits, bags, given(0.5))) == pytest.approx(
        0.5 * (math.log(7 / 3 * 4 / 3) + math.log(1.25) + math.log(8)), rel=1e-5
    )


def test_every_bag_of_a_long_window_counts_once():
    marked = np.zeros((1, 700), np.int8)
    marked[0, 6 * np.arange(MAX_BAGS)] = 1 + np.arange(MAX_BAGS)
    bags = jnp.asarray(marked)
    logits = jnp.full((1, 700, 1), -jnp.log(3.0))  # each bag of odds 1/3 costs log 4, each negative log 4/3
    expected = MAX_BAGS * math.log(4) + (700 - MAX_BAGS) * math.log(4 / 3)
    assert float(frame_loss(logits, bags, given(1))) == pytest.approx(expected, rel=1e-5)


def test_frames_that_are_not_known_and_windows_without_a_label_have_no_gradient():
    logits = jnp.log(given([0.5, 0.25, 2.0], [9.0, 9.0, 9.0]))[..., None]
    bags = jnp.array([[1, -1, 0], [1, 0, 0]], jnp.int8)
    gradient = jax.grad(lambda x: frame_loss(x, bags, given(1, 0)))(logits)[..., 0]
    assert (gradient != 0).tolist() == [[True, False, True], [False, False, False]]
    assert gradient[0, 0] < 0 < gradient[0, 2]
    infinite = jnp.full_like(logits, jnp.inf).at[0].set(logits[0])
    assert jnp.isfinite(jax.grad(lambda x: frame_loss(x, bags, given(1, 0)))(infinite)[0]).all()


@pytest.mark.parametrize("task", [IED, SLEEP, DIAGNOSES], ids=lambda task: task.name)
def test_a_sample_without_label_is_the_same_as_no_sample(task):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(6, task.n_logits)), jnp.float32)
    shape = {"binary": (6,), "multiclass": (6,), "multilabel": (6, 2)}[task.kind]
    labels = jnp.asarray(rng.integers(0, 2, shape))
    weights = given(1, 0, 1, 0, 0.5, 0)
    kept = np.array([0, 2, 4])
    masked = task_loss(task, logits, labels, weights, pos_weight=2.0, label_smoothing=0.1)
    sliced = task_loss(task, logits[kept], labels[kept], weights[kept], pos_weight=2.0, label_smoothing=0.1)
    np.testing.assert_allclose(masked, sliced, rtol=1e-6)
    # Not even a logit gone wild reaches loss or gradient from there.
    wild = logits.at[1].set(jnp.inf).at[3].set(-1e30)
    np.testing.assert_array_equal(task_loss(task, wild, labels, weights, pos_weight=2.0, label_smoothing=0.1), masked)
    gradient = jax.grad(lambda x: task_loss(task, x, labels, weights)[0])(logits)
    np.testing.assert_array_equal(gradient[np.array([1, 3, 5])], 0)
    assert float(jnp.abs(gradient[kept]).min()) > 0


def test_losses_pass_under_strict_dtype_promotion():
    with jax.numpy_dtype_promotion("strict"):
        for task in (IED, SLEEP, DIAGNOSES):
            labels = jnp.zeros((2, 2) if task.kind == "multilabel" else 2, jnp.int32)
            total, _ = task_loss(task, jnp.zeros((2, task.n_logits)), labels, given(1, 1))
            assert total.dtype == jnp.float32


def test_a_learnt_weight_rests_where_it_is_the_inverse_of_twice_the_loss():
    config = Config(training=TrainingConfig(balance="uncertainty", task_weights=(("sleep", 3.0),)))
    for task, factor in (("ied", 1.0), ("sleep", 3.0)):
        slope = jax.grad(
            lambda s, task=task: balanced(config, task, {task: s}, jnp.float32(0.4), jnp.float32(1)), argnums=0
        )
        assert float(slope(jnp.log(jnp.float32(0.8)))) == pytest.approx(0, abs=1e-6)
        assert float(slope(jnp.float32(0))) == pytest.approx(factor * (0.5 - 0.4), rel=1e-5)


def test_the_penalty_counts_once_however_a_batch_is_shared():
    config, balance = Config(training=TrainingConfig(balance="uncertainty")), {"ied": jnp.float32(0.7)}
    whole = balanced(config, "ied", balance, jnp.float32(2.0), jnp.float32(1))
    parts = [
        balanced(config, "ied", balance, jnp.float32(loss), jnp.float32(s)) for loss, s in ((1.5, 0.25), (0.5, 0.75))
    ]
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-6)
    assert float(whole) == pytest.approx(math.exp(-0.7) * 2 + 0.35, rel=1e-6)


def test_fixed_weights_learn_nothing():
    config = Config(training=TrainingConfig(task_weights=(("ied", 0.5),)))
    assert initial_balance(config) == {}
    assert float(balanced(config, "ied", {}, jnp.float32(2.0), jnp.float32(1))) == 1.0
    assert set(initial_balance(Config(training=TrainingConfig(balance="uncertainty")))) == {"ied", "sleep"}


def hinge(task, logits, labels):
    """An own loss."""
    return jax.nn.relu(1 - (2 * labels - 1) * logits[:, 0])


def mean_hinge(task, logits, labels):
    return hinge(task, logits, labels).mean()


def test_an_own_loss_replaces_the_cross_entropy_and_missing_labels_still_count_nothing():
    logits, labels = jnp.array([[0.5], [2.0], [math.inf]]), jnp.array([1.0, 0.0, 0.0])
    total, weight = task_loss(IED, logits, labels, jnp.array([1.0, 0.5, 0.0]), own=f"{__name__}:hinge")
    assert (float(total), float(weight)) == (0.5 + 0.5 * 3.0, 1.5)
    with pytest.raises(ValueError, match=r"must give a number a sample, \(3,\), and gives \(\)"):
        task_loss(IED, logits, labels, jnp.ones(3), own=f"{__name__}:mean_hinge")
