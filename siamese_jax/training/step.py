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

from siamese_jax.config import Config, TrainingConfig
from siamese_jax.forward import Variables, forward_training, initialise
from siamese_jax.models.build import build_model, chosen_tasks
from siamese_jax.recordings.batches import Batch
from siamese_jax.signals.augment import augment
from siamese_jax.training.losses import task_loss
from siamese_jax.vocabulary import TaskSpec


class TrainState(NamedTuple):
    """All that a run must keep to go on as if it had never stopped.

    Attributes:
        step: updates done.
        variables: `params` and `batch_stats`.
        opt_state: of the optimiser.
        ema: running average of `variables`; what evaluation, detection and export use.
    """

    step: Int32[Array, ""]
    variables: Variables
    opt_state: PyTree
    ema: Variables


class StepMetrics(NamedTuple):
    """Of one global batch: total loss, each task's mean loss, norm of the gradient before clipping."""

    loss: Float32[Array, ""]
    task_losses: dict[str, Float32[Array, ""]]
    gradient_norm: Float32[Array, ""]


def make_optimizer(config: TrainingConfig) -> optax.GradientTransformation:
    """AdamW with warm-up, cosine decay and clipping by the global norm."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(learning_rate(config), eps=config.adam_eps, weight_decay=config.weight_decay),
    )


def learning_rate(config: TrainingConfig) -> optax.Schedule:
    """The learning rate at a step: linear warm-up from 0, then a cosine to its final value."""
    return optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.warmup_steps, config.steps, config.final_learning_rate
    )


def create_state(config: Config, tasks: tuple[TaskSpec, ...]) -> TrainState:
    """The state before the first step, from `config.training.seed`."""
    variables = initialise(config, tasks, jax.random.key(config.training.seed))
    return TrainState(
        step=jnp.int32(0),
        variables=variables,
        opt_state=make_optimizer(config.training).init(variables["params"]),
        ema=jax.tree.map(jnp.copy, variables),
    )


def make_train_step(
    config: Config, tasks: tuple[TaskSpec, ...], *, axis: str | None
) -> Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]:
    """`step(state, batch) -> (state, metrics)` for one device's slice of a batch.

    Args:
        config: the experiment.
        tasks: definitions of the tasks in the batches.
        axis: the device axis that the step runs under, or None for one device and the whole batch.
    """
    model = build_model(config, tasks, axis=axis)
    heads = chosen_tasks(config, tasks)
    optimizer = make_optimizer(config.training)
    task_weights = dict(config.training.task_weights)

    def across(value: PyTree) -> PyTree:
        return value if axis is None else jax.lax.psum(value, axis)

    def loss_of(params: PyTree, state: TrainState, batch: Batch) -> tuple[Array, tuple[dict[str, Array], Variables]]:
        arrays: Any = jax.tree.map(jnp.asarray, batch)
        augment_keys, dropout_keys = _sample_keys(config, arrays.sample)
        eeg, present = augment(config, arrays.eeg, arrays.present, augment_keys)
        variables = {"params": params, "batch_stats": state.variables["batch_stats"]}
        logits, batch_stats = forward_training(config, model, variables, eeg, present, keys=dropout_keys)
        means, loss = {}, jnp.float32(0)
        for task in heads:
            total, weight = task_loss(
                task,
                logits.window[task.name],
                arrays.labels[task.name],
                arrays.weights[task.name],
                pos_weight=config.training.pos_weight,
                label_smoothing=config.training.label_smoothing,
            )
            # This device's share of the global mean; a batch without a single label of the task gives 0, not NaN.
            means[task.name] = total / jnp.maximum(across(weight), jnp.float32(1e-6))
            loss = loss + task_weights.get(task.name, 1.0) * means[task.name]
        return loss, (means, batch_stats)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (means, batch_stats)), grads = value_and_grad(state.variables["params"], state, batch)
        # Shares of a mean add up to it: gradients are summed, not averaged.
        loss, means, grads = across((loss, means, grads))
        updates, opt_state = optimizer.update(grads, state.opt_state, state.variables["params"])
        params = optax.apply_updates(state.variables["params"], updates)
        variables = {"params": params, "batch_stats": batch_stats}
        new = TrainState(
            step=state.step + 1,
            variables=variables,
            opt_state=opt_state,
            ema=_averaged(state.ema, variables, state.step, config.training.ema_decay),
        )
        return new, StepMetrics(loss, means, optax.tree.norm(grads))

    return step


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
