"""Losses by task, each as (weighted sum, weight), so that devices can add both before anybody divides.

A missing label has weight 0 and contributes exactly nothing, neither to the loss nor to any gradient. A mean of
per-device means would be wrong wherever devices hold different numbers of labels.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int8, Num

from siamese_jax.config.experiment import Config
from siamese_jax.config.own import own_object
from siamese_jax.shards.marks import MAX_BAGS
from siamese_jax.vocabulary import TaskSpec


def task_loss(
    task: TaskSpec,
    logits: Float32[Array, "batch _logits"],
    labels: Num[Array, "batch *class"],
    weights: Float32[Array, "batch"],
    *,
    pos_weight: float = 1.0,
    label_smoothing: float = 0.0,
    own: str | None = None,
) -> tuple[Float32[Array, ""], Float32[Array, ""]]:
    """Weighted sum of a task's losses over a batch, and the sum of the weights.

    Args:
        task: its kind decides: binary and multilabel are cross-entropies of independent sigmoids (the mean over
            classes for multilabel), multiclass a cross-entropy of a softmax.
        logits: [batch, logit].
        labels: binary [batch] in 0..1; multiclass [batch] class indices; multilabel [batch, class] in 0..1.
        weights: 0..1 per sample; 0 where there is no label.
        pos_weight: multiplies the loss of positives (binary and multilabel).
        label_smoothing: s turns a target y into y (1 - s) + s / classes.
        own: `config.training.loss`: the user's own `loss(task, logits, labels)`, a number a sample, [batch], instead.

    Raises:
        ValueError: an own loss that is not imported, or gives something else.
    """
    if own is None:
        per_sample = _per_sample(task, logits, labels, pos_weight, label_smoothing)
    else:
        per_sample = own_object(own, "training.loss")(task, logits, labels)
        if getattr(per_sample, "shape", None) != weights.shape:
            given = getattr(per_sample, "shape", type(per_sample).__name__)
            raise ValueError(f"training.loss={own!r} must give a number a sample, {weights.shape}, and gives {given}")
    # `where`, not a product alone: 0 times the infinite loss of an infinite logit would be NaN.
    weighted = jnp.where(weights > 0, weights * per_sample, jnp.float32(0))
    return weighted.sum(), weights.sum()


def frame_loss(
    logits: Float32[Array, "batch frame 1"],
    bags: Int8[Array, "batch frame"],
    weights: Float32[Array, "batch"],
    *,
    pos_weight: float = 1.0,
) -> Float32[Array, ""]:
    """Weighted sum of the losses by frame of a binary task whose odds add up over frames.

    A bag is a mark: some frame of it is positive. Its odds are the sum of its frames' odds, its loss that of one
    positive; every frame that was judged and not marked is one negative; frames that are not known count nothing. So a
    frame outside a mark is pressed down, and which frame of a mark rises is left to the network.

    Args:
        logits: by frame.
        bags: 1 and more: the number of the frame's bag; 0: negative; -1: not known (`shards.marks.FrameBags`).
        weights: of the windows.
        pos_weight: multiplies the loss of bags.
    """
    x = logits[..., 0]
    per_window = jnp.where(bags == 0, jax.nn.softplus(x), 0.0).sum(-1)
    numbers = jnp.arange(1, min(MAX_BAGS, x.shape[1]) + 1, dtype=bags.dtype)
    inside = bags[:, None] == numbers[None, :, None]
    of_bag = jax.nn.logsumexp(jnp.where(inside, x[:, None], -1e9), -1)
    per_window += pos_weight * jnp.where(inside.any(-1), jax.nn.softplus(-of_bag), 0.0).sum(-1)
    return jnp.where(weights > 0, weights * per_window, jnp.float32(0)).sum()


def initial_balance(config: Config) -> dict[str, Float32[Array, ""]]:
    """What is learnt about the tasks' weights, before the first step: weights of 1; nothing if they are fixed."""
    return {task: jnp.float32(0) for task in config.tasks} if config.training.balance == "uncertainty" else {}


def balanced(
    config: Config,
    task: str,
    balance: Mapping[str, Float32[Array, ""]],
    loss: Float32[Array, ""],
    share: Float32[Array, ""],
) -> Float32[Array, ""]:
    """A task's part of the total loss.

    With s from `balance`, it is exp(-s) loss + s / 2: a classification's likelihood with the temperature exp(s)
    (Kendall, Gal and Cipolla 2018, eq. 10). A task cannot lower its weight without paying s / 2.

    Args:
        config: its `task_weights` multiply whatever is learnt.
        task: its name.
        balance: s by task; empty if weights are fixed.
        loss: a share of the task's mean loss.
        share: of the batch's labels of this task which that loss covers. The penalty is split by it: it counts once
            however many devices and micro-batches share a batch, and not at all where nobody has a label.
    """
    if task in balance:
        loss = jnp.exp(-balance[task]) * loss + share * balance[task] / 2
    return dict(config.training.task_weights).get(task, 1.0) * loss


def _per_sample(task: TaskSpec, logits: Array, labels: Array, pos_weight: float, smoothing: float) -> Array:
    if task.kind == "multiclass":
        n = len(task.classes)
        target = jax.nn.one_hot(labels, n, dtype=logits.dtype) * (1 - smoothing) + smoothing / n
        return -(target * jax.nn.log_softmax(logits)).sum(-1)
    positive = labels.reshape(logits.shape).astype(logits.dtype) * (1 - smoothing) + smoothing / 2
    losses = -(pos_weight * positive * jax.nn.log_sigmoid(logits) + (1 - positive) * jax.nn.log_sigmoid(-logits))
    return losses.mean(-1)
