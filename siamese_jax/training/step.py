"""One step of training, written for one device's slice of a batch.

Every sum that crosses samples crosses devices too (`psum` over `axis`), so the step on n devices is the step on one
device with the whole batch. Randomness is keyed by a sample's place in the stream, never by device.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float32, Int32, PyTree

from siamese_jax.config.experiment import Config, TrainingConfig
from siamese_jax.models.build import build_model, chosen_tasks, frozen_parameters
from siamese_jax.pipeline import Variables, forward_training, initialise
from siamese_jax.shards.batches import Batch
from siamese_jax.signals.augment import augment
from siamese_jax.training.losses import balanced, frame_loss, initial_balance, task_loss
from siamese_jax.vocabulary import TaskSpec


class TrainState(NamedTuple):
    """All that a run must keep to go on as if it had never stopped.

    Attributes:
        step: updates done.
        variables: `params` and `batch_stats`.
        balance: what is learnt about the tasks' weights; empty if they are fixed.
        opt_state: of the optimiser.
        ema: running average of `variables`; what evaluation, detection and export use.
    """

    step: Int32[Array, ""]
    variables: Variables
    balance: dict[str, Float32[Array, ""]]
    opt_state: PyTree
    ema: Variables


class StepMetrics(NamedTuple):
    """Of one global batch: loss, each task's mean loss, its learnt weight, norm of the gradient before clipping."""

    loss: Float32[Array, ""]
    task_losses: dict[str, Float32[Array, ""]]
    task_weights: dict[str, Float32[Array, ""]]
    gradient_norm: Float32[Array, ""]


class Learnt(NamedTuple):
    """What the optimiser moves."""

    params: Any
    balance: Any


def make_optimizer(config: TrainingConfig, *, decayed: PyTree) -> optax.GradientTransformation:
    """AdamW with warm-up, cosine decay and clipping by the global norm.

    Args:
        config: rates, norms and steps.
        decayed: a prefix of the tree that is optimised: which weights decay.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(learning_rate(config), eps=config.adam_eps, weight_decay=config.weight_decay, mask=decayed),
    )


def learning_rate(config: TrainingConfig) -> optax.Schedule:
    """The learning rate at a step: linear warm-up from 0, then a cosine to its final value."""
    return optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.warmup_steps, config.steps, config.final_learning_rate
    )


def create_state(config: Config, tasks: tuple[TaskSpec, ...], variables: Any = None) -> TrainState:
    """The state before the first step.

    Args:
        config: the experiment.
        tasks: definitions of its tasks.
        variables: to start from; default fresh ones, drawn from `config.training.seed`.
    """
    if variables is None:
        variables = initialise(config, tasks, jax.random.key(config.training.seed))
    balance = initial_balance(config)
    return TrainState(
        step=jnp.int32(0),
        variables=variables,
        balance=balance,
        opt_state=_optimizer(config, variables["params"]).init(Learnt(variables["params"], balance)),
        ema=jax.tree.map(jnp.copy, variables),
    )


def make_train_step(
    config: Config, tasks: tuple[TaskSpec, ...], *, axis: str | None
) -> Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]:
    """The step `(state, batch) -> (state, metrics)` for the share of a batch that one device holds.

    With `config.training.accumulate`, that share is gone through in micro-batches, one after another: sample i of
    the share belongs to the first of n micro-batches if it is in the first n-th of it, and so on. The gradient is that
    of the whole batch, and crosses devices once; batch statistics are those of a micro-batch.

    Args:
        config: the experiment.
        tasks: definitions of its tasks.
        axis: name of the device axis, or None for one device.
    """
    heads = chosen_tasks(config, tasks)
    value_and_grad = jax.value_and_grad(_make_loss(config, build_model(config, tasks, axis=axis), heads), has_aux=True)

    def across(tree: Any) -> Any:
        return jax.tree.map(lambda x: jax.lax.psum(x, axis), tree) if axis else tree

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        arrays: Any = jax.tree.map(jnp.asarray, batch)
        learnt: Any = Learnt(state.variables["params"], state.balance)
        # Each sample counts by the labels of the whole batch. Without a single one the loss is 0, not NaN.
        labelled = across({task.name: arrays.weights[task.name].sum() for task in heads})
        weight = {name: jnp.maximum(total, jnp.float32(1e-6)) for name, total in labelled.items()}

        def micro_batch(batch_stats: PyTree, part: Any) -> tuple[PyTree, Any]:
            (loss, (means, batch_stats)), grads = value_and_grad(learnt, batch_stats, part, weight)
            return batch_stats, (loss, means, grads)

        batch_stats, shares = _accumulated(
            micro_batch, state.variables["batch_stats"], arrays, config.training.accumulate
        )
        # Shares of a mean add up to it: gradients are summed, not averaged.
        loss, means, grads = across(shares)
        updates, opt_state = _optimizer(config, learnt.params).update(grads, state.opt_state, learnt)
        learnt = optax.apply_updates(learnt, updates)
        variables = {"params": learnt.params, "batch_stats": batch_stats}
        new = TrainState(
            step=state.step + 1,
            variables=variables,
            balance=learnt.balance,
            opt_state=opt_state,
            ema=_averaged(state.ema, variables, state.step, config.training.ema_decay),
        )
        learnt_weights = {name: jnp.exp(-s) for name, s in learnt.balance.items()}
        return new, StepMetrics(loss, means, learnt_weights, optax.tree.norm(grads))

    return step


def _make_loss(config: Config, model: Any, heads: tuple[TaskSpec, ...]) -> Callable[..., Any]:
    """`(learnt, batch_stats, batch, weight) -> (loss, (means, batch_stats))`: shares of what all micro-batches give.

    `weight` holds, by task, the labels' weight in the whole batch; the shares of a task's mean add up to it.
    """

    def loss_of(learnt: Learnt, batch_stats: PyTree, batch: Any, weight: dict[str, Array]) -> Any:
        frozen = frozen_parameters(config, learnt.params)
        params = jax.tree.map(lambda p, keep: jax.lax.stop_gradient(p) if keep else p, learnt.params, frozen)
        augment_keys, dropout_keys = _sample_keys(config, batch.sample)
        eeg, present = augment(config, batch.eeg, batch.present, augment_keys)
        variables = {"params": params, "batch_stats": batch_stats}
        logits, batch_stats = forward_training(config, model, variables, eeg, present, keys=dropout_keys)
        means, loss = {}, jnp.float32(0)
        for task in heads:
            total, labelled = task_loss(
                task,
                logits.window[task.name],
                batch.labels[task.name],
                batch.weights[task.name],
                pos_weight=config.training.pos_weight,
                label_smoothing=config.training.label_smoothing,
                own=config.training.loss,
            )
            if task.name in batch.bags:
                by_frame, bags = logits.frame[task.name], batch.bags[task.name]
                of_frames = frame_loss(by_frame, bags, batch.weights[task.name], pos_weight=config.training.pos_weight)
                total = total + config.training.frame_weight * of_frames
            means[task.name] = total / weight[task.name]
            share = labelled / weight[task.name]
            loss = loss + balanced(config, task.name, learnt.balance, means[task.name], share)
        return loss, (means, batch_stats)

    return loss_of


def _optimizer(config: Config, params: PyTree) -> optax.GradientTransformation:
    """Weights decay, but neither those that are frozen nor what balances the tasks."""
    decayed = jax.tree.map(lambda is_frozen: not is_frozen, frozen_parameters(config, params))
    return make_optimizer(config.training, decayed=Learnt(decayed, balance=False))


def _accumulated(step: Callable, carry: PyTree, batch: PyTree, n: int) -> tuple[PyTree, PyTree]:
    """The sum of what `step(carry, part) -> (carry, terms)` gives for each of n parts of a batch, in turn."""
    if n == 1:
        return step(carry, batch)
    parts = jax.tree.map(lambda x: x.reshape(n, -1, *x.shape[1:]), batch)
    shapes = jax.eval_shape(lambda: step(carry, jax.tree.map(lambda x: x[0], parts))[1])

    def add(total: PyTree, part: PyTree) -> tuple[PyTree, None]:
        # Nothing of a part may begin before the last one is done with: that is what saves the memory.
        total, part = jax.lax.optimization_barrier((total, part))
        carry, terms = step(total[0], part)
        return (carry, jax.tree.map(jnp.add, total[1], terms)), None

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    # XLA's loops are tens of times slower on a CPU: there the parts are written out one after another.
    unroll = n if jax.default_backend() == "cpu" else 1
    return jax.lax.scan(add, (carry, zeros), parts, unroll=unroll)[0]


def _sample_keys(config: Config, sample: Array) -> tuple[Array, Array]:
    """Two keys a sample, for augmentation and dropout, from its place in the training stream."""
    root = jax.random.key(config.training.seed)
    keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(root, i)))(sample)
    return keys[:, 0], keys[:, 1]


def _averaged(ema: Variables, variables: Variables, step: Array, decay: float) -> Variables:
    """Exponential moving average whose decay grows from 0.1, so that it forgets the initial values quickly."""
    t = step.astype(jnp.float32)
    d = jnp.minimum(jnp.float32(decay), (1 + t) / (10 + t))
    return jax.tree.map(lambda old, new: d * old + (1 - d) * new, ema, variables)
