"""Augmentation of raw windows, each sample by its own key."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32, Int, Key

from siamese_jax.config import Config
from siamese_jax.vocabulary import LEFT_RIGHT


def augment(
    config: Config,
    eeg: Float32[jax.Array, "batch time chan"],
    present: Bool[jax.Array, "batch chan"],
    keys: Key[jax.Array, "batch"],
) -> tuple[Float32[jax.Array, "batch time chan"], Bool[jax.Array, "batch chan"]]:
    """Varies amplitude, missing electrodes and side as `config.training` asks; probability 0 changes nothing.

    A gain for the whole sample, uniform in 1 +- `amplitude`; each channel made absent (and 0) with
    probability `electrode_dropout`, but never the last one; left and right exchanged with probability `flip`,
    in `eeg` and `present` alike. A derivation's mirror image is that of its electrodes: `C3-A1` becomes
    `C4-A2`.

    Args:
        config: the experiment's configuration (static under `jax.jit`).
        eeg: microvolts; absent channels 0.
        present: which of `config.data.ch_names` are there, by sample.
        keys: one typed key (`jax.random.key`) a sample: what happens to a sample depends on its own key
            alone.

    Returns:
        `eeg` and `present`, varied, of the same shapes.

    Raises:
        ValueError: `training.flip` is above 0 and a channel's mirror image is not among
            `config.data.ch_names`.
    """
    training = config.training
    mirror = _mirror(config.data.ch_names) if training.flip > 0 else np.arange(len(config.data.ch_names))

    def one(eeg, present, key):
        gain_key, dropout_key, flip_key = jax.random.split(key, 3)
        gain = jax.random.uniform(gain_key, minval=1 - training.amplitude, maxval=1 + training.amplitude)
        # Draws lie in [0, 1); the highest among the electrodes that are there survives any probability.
        draws = jnp.where(present, jax.random.uniform(dropout_key, present.shape), -1.0)
        keep = (draws >= training.electrode_dropout) | (draws == draws.max()) | ~present
        flipped = jax.random.bernoulli(flip_key, training.flip)
        eeg, present = jnp.where(keep[None], eeg * gain, 0.0), present & keep
        return jnp.where(flipped, eeg[:, mirror], eeg), jnp.where(flipped, present[mirror], present)

    return jax.vmap(one)(eeg, present, keys)


def _mirror(ch_names: tuple[str, ...]) -> Int[np.ndarray, "chan"]:
    """For each channel, where its mirror image stands."""
    other_side = LEFT_RIGHT | {right: left for left, right in LEFT_RIGHT.items()}
    images = ["-".join(other_side.get(part, part) for part in name.split("-")) for name in ch_names]
    lone = [name for name, image in zip(ch_names, images, strict=True) if image not in ch_names]
    if lone:
        raise ValueError(
            f"training.flip exchanges left and right, but data.ch_names lack the mirror images of {lone};"
            " add them or set training.flip=0"
        )
    return np.array([ch_names.index(image) for image in images])
