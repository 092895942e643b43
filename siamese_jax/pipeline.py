"""The forward pass: raw microvolts in, logits by task out. Training, evaluation, detection and export all call this.

eeg [batch, n_times + 2 margin, chan], present [batch, chan]
  -> preprocess -> rows [batch, n_times_out + 2 context, row], in training perhaps shuffled
  -> convert    -> maps [batch, freq, frame, row]
  -> model      -> Logits
"""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Key, PyTree

from siamese_jax.config.experiment import Config
from siamese_jax.models.blocks import Logits
from siamese_jax.models.build import build_model, check_logits, is_own_network
from siamese_jax.signals.augment import shuffle_rows
from siamese_jax.signals.converter import convert
from siamese_jax.signals.preprocess import preprocess
from siamese_jax.vocabulary import TaskSpec

Variables = PyTree[Array]
"""`params` and `batch_stats`; these are empty if a network normalises nothing over a batch."""


def forward(
    config: Config,
    model: Any,
    variables: Variables,
    eeg: Float32[Array, "batch time chan"],
    present: Bool[Array, "batch chan"],
) -> Logits:
    """Logits of a batch, each sample judged by itself (running statistics, no dropout).

    A window gets NaN in every logit if a present electrode has a sample in it, or in its margins, that is NaN or
    infinite.

    Args:
        config: what the model was built from.
        model: what `build_model` gave.
        variables: `params` and `batch_stats`.
        eeg: microvolts at `config.data.sfreq`, each window with `config.margin` samples on both sides.
        present: electrodes that were recorded; what `eeg` holds of the others is not looked at.
    """
    maps, row_present = _maps(config, eeg, present)
    return _where_finite(model.apply(variables, maps, row_present), eeg, present)


def forward_training(
    config: Config,
    model: Any,
    variables: Variables,
    eeg: Float32[Array, "batch time chan"],
    present: Bool[Array, "batch chan"],
    *,
    keys: Key[Array, "batch"],
) -> tuple[Logits, Variables]:
    """As `forward`, with shuffled rows (if so configured), batch statistics and dropout; also the new `batch_stats`.

    A sample that is not finite makes its logits NaN and, through the statistics, those of the whole batch.
    """
    maps, row_present = _maps(config, eeg, present, keys)
    logits, updated = model.apply(variables, maps, row_present, keys=keys, mutable=["batch_stats"])
    return _where_finite(logits, eeg, present), updated.get("batch_stats", {})


def initialise(config: Config, tasks: tuple[TaskSpec, ...], key: Key[Array, ""]) -> Variables:
    """Fresh variables for `config`; the network alone is run, once, on zeros."""
    n_chans = len(config.data.ch_names)
    eeg = jax.ShapeDtypeStruct((1, config.n_times + 2 * config.margin, n_chans), jnp.float32)
    present = jax.ShapeDtypeStruct((1, n_chans), jnp.bool_)
    maps, row_present = jax.eval_shape(partial(_maps, config), eeg, present)
    model = build_model(config, tasks)
    if is_own_network(config):
        check_logits(config, tasks, jax.eval_shape(model.init_with_output, key, maps, row_present)[0])
    variables = jax.jit(
        lambda k: model.init(k, jnp.zeros(maps.shape, maps.dtype), jnp.ones(row_present.shape, jnp.bool_))
    )(key)
    return {"batch_stats": {}} | variables


def _maps(
    config: Config,
    eeg: Float32[Array, "batch time chan"],
    present: Bool[Array, "batch chan"],
    keys: Key[Array, "batch"] | None = None,
) -> tuple[Float32[Array, "batch freq frame row"], Bool[Array, "batch row"]]:
    chex.assert_equal_shape_prefix((eeg, present), 1)
    rows, row_present = preprocess(config, eeg, present)
    if keys is not None:
        rows, row_present = shuffle_rows(config, rows, row_present, keys)
    return convert(config, rows), row_present


def _where_finite(logits: Logits, eeg: Float32[Array, "batch time chan"], present: Bool[Array, "batch chan"]) -> Logits:
    """NaN for windows that are not finite, whatever the layers and, of an exported program, the runtime make of one."""
    finite = jnp.isfinite(jnp.where(present[:, None], eeg, 0.0)).all((1, 2))
    return jax.tree.map(lambda x: jnp.where(finite.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.nan), logits)
