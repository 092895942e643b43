"""Augmentation of raw windows and of montage rows, each sample by its own key."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Int, Key

from siamese_jax.config.experiment import Config
from siamese_jax.config.montages import AVERAGE
from siamese_jax.signals.faults import broken
from siamese_jax.signals.preprocess import row_names
from siamese_jax.vocabulary import EARS, TEN_TWENTY

# What is folded into a sample's key, so that each draw leaves the others as they are. Not small numbers: row i of
# `jax.random.split(key, n)` is `fold_in(key, i)`.
_SHIFT, _SHUFFLE, _FAULT = 0x5417, 0x50FF, 0xFA17


def augment(
    config: Config,
    eeg: Float32[jax.Array, "batch time chan"],
    present: Bool[jax.Array, "batch chan"],
    keys: Key[jax.Array, "batch"],
) -> tuple[Float32[jax.Array, "batch time_out chan"], Bool[jax.Array, "batch chan"]]:
    """Varies time, amplitude, side, missing and broken electrodes by `config.training`.

    Probability 0 changes nothing.

    The window begins up to `config.shift` samples earlier or later, each whole number of samples as likely: a
    slice of the longer one that came, so that nothing wraps around. Labels stay: an IED that makes a
    window positive peaks 0.1 s or more inside it, and the configuration refuses longer shifts beside the task
    `ied`; one that a negative window did not have comes at most as deep as the shift.

    A gain for the whole sample, uniform in 1 +- `amplitude`; each channel made absent (and 0) with
    probability `electrode_dropout`, but never the last one; one fault (`faults.py`) with probability
    `faults`; left and right exchanged with probability `flip`,
    in `eeg` and `present` alike. A derivation's mirror image is that of its electrodes: `C3-A1` becomes
    `C4-A2`.

    Args:
        config: the experiment's configuration (static under `jax.jit`).
        eeg: microvolts; absent channels 0. `config.shift` more samples on both sides than are given back.
        present: which of `config.data.ch_names` are there, by sample.
        keys: one typed key (`jax.random.key`) a sample: what happens to a sample depends on its own key
            alone.

    Returns:
        `eeg` and `present`, varied; `eeg` is `2 * config.shift` samples shorter than it was.

    Raises:
        ValueError: `eeg` is too short to be shifted.
    """
    training, shift = config.training, config.shift
    n_times = eeg.shape[1] - 2 * shift
    if n_times < 1:
        raise ValueError(f"windows of {eeg.shape[1]} samples cannot be shifted by {shift} to both sides")
    mirror = np.array(config.mirror if training.flip > 0 else range(len(config.data.ch_names)))

    def one(eeg, present, key):
        if shift:
            start = jax.random.randint(jax.random.fold_in(key, _SHIFT), (), 0, 2 * shift + 1)
            eeg = jax.lax.dynamic_slice_in_dim(eeg, start, n_times)
        gain_key, dropout_key, flip_key = jax.random.split(key, 3)
        gain = jax.random.uniform(gain_key, minval=1 - training.amplitude, maxval=1 + training.amplitude)
        # Draws lie in [0, 1); the highest among the electrodes that are there survives any probability.
        draws = jnp.where(present, jax.random.uniform(dropout_key, present.shape), -1.0)
        keep = (draws >= training.electrode_dropout) | (draws == draws.max()) | ~present
        flipped = jax.random.bernoulli(flip_key, training.flip)
        eeg, present = jnp.where(keep[None], eeg * gain, 0.0), present & keep
        if training.faults:
            whether, fault_key = jax.random.split(jax.random.fold_in(key, _FAULT))
            worse = broken(eeg, present, fault_key, sfreq=config.data.sfreq)
            eeg = jnp.where(jax.random.bernoulli(whether, training.faults), worse, eeg)
        return jnp.where(flipped, eeg[:, mirror], eeg), jnp.where(flipped, present[mirror], present)

    return jax.vmap(one)(eeg, present, keys)


def shuffle_rows(
    config: Config,
    rows: Float32[jax.Array, "batch time row"],
    row_present: Bool[jax.Array, "batch row"],
    keys: Key[jax.Array, "batch"],
) -> tuple[Float32[jax.Array, "batch time row"], Bool[jax.Array, "batch row"]]:
    """With probability `training.row_shuffle`, lets the rows of each block of the montage change places.

    A block is what stands against the same: the scalp electrodes as they are, those against the common average,
    those against an ear, those against one another. Other rows (ears, PG, ECG, EMG) stay. Source: the training
    of Siamese-ES's group (vepiset_dataset, commit 4c67c2f, `base_trainer/dataietr.py`: the 19 scalp rows and,
    independently, the 19 rows of the common average, always).

    Args:
        config: the experiment's configuration (static under `jax.jit`).
        rows: as `preprocess` gives them.
        row_present: which of them are there; goes where its row goes.
        keys: one typed key a sample: what happens to a sample depends on its own key alone.

    Returns:
        `rows` and `row_present`, of the same shapes.
    """
    probability = config.training.row_shuffle
    if not probability:
        return rows, row_present
    blocks = _blocks(row_names(config))

    def one(rows, row_present, key):
        whether, *block_keys = jax.random.split(jax.random.fold_in(key, _SHUFFLE), 1 + len(blocks))
        order = jnp.arange(rows.shape[1])
        for block, block_key in zip(blocks, block_keys, strict=True):
            order = order.at[block].set(jax.random.permutation(block_key, block))
        order = jnp.where(jax.random.bernoulli(whether, probability), order, jnp.arange(rows.shape[1]))
        return rows[:, order], row_present[order]

    return jax.vmap(one)(rows, row_present, keys)


def _blocks(row_names: tuple[str, ...]) -> list[Int[np.ndarray, "row"]]:
    """The rows of each block of a montage, where a block has two or more."""
    against = {name: "an ear" for name in EARS} | {name: "one another" for name in TEN_TWENTY}
    against |= {AVERAGE: AVERAGE, "": "nothing"}
    blocks: dict[str, list[int]] = {}
    for row, name in enumerate(row_names):
        electrode, _, reference = name.partition("-")
        if electrode in TEN_TWENTY and reference in against:
            blocks.setdefault(against[reference], []).append(row)
    return [np.array(block) for block in blocks.values() if len(block) > 1]
