"""Faults of electrodes and amplifiers, put into training windows on purpose: a discharge in them remains one.

What happens in routine recordings: an electrode that loses contact is noise of a wide band, goes flat, pops (a jump
that decays, and that a filter of zero phase lets rise before) or shows brief deflections that no neighbour shares; a
pull at a cable makes a few electrodes pop together; a knock on the cable or the box is a short deflection of all
electrodes (Tatum et al. 2018, J Clin Neurophysiol 35:3; ACNS guideline on artefacts). A discharge has a field, so
neighbours share it. Sizes and durations are ours, wider than those: most false events of a network trained without
pops were pops (healthy people of EEGMAT, PhysioNet), and most of one trained with those of one side and one electrode
were those of two sides or several.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float32, Key

NOISE_UV, POP_UV, KNOCK_UV = (40.0, 400.0), (30.0, 1500.0), (30.0, 400.0)
POP_HZ, DECAY_SECONDS, KNOCK_SECONDS = (0.1, 2.0), (0.02, 2.0), (0.02, 0.08)
SPIKE_UV, SPIKE_HZ, SPIKE_SECONDS = (20.0, 200.0), (0.3, 20.0), (0.004, 0.03)
"""Of a spike at one electrode alone, again and again: a motor unit, or bad contact."""
POP_TOGETHER, MOST_TOGETHER = 1 / 3, 4
"""Share of pops that several electrodes show, and how many at most."""


def broken(
    eeg: Float32[jax.Array, "time chan"], present: Bool[jax.Array, "chan"], key: Key[jax.Array, ""], *, sfreq: float
) -> Float32[jax.Array, "time chan"]:
    """A window in which one fault happens, each of the five as likely.

    Noise, a pop, spikes or silence at one of the electrodes that are there, from a moment on or throughout, a pop at a
    few of them now and then; or a knock that all electrodes see. Where several see one, each does by its own size.

    Args:
        eeg: microvolts, absent channels 0; they stay 0.
        present: which channels are there.
        key: of this sample.
        sfreq: samples per second.
    """
    n_times, n_chans = eeg.shape
    which, where, when, size, noise, gains, times, together = jax.random.split(key, 8)
    kind = jax.random.randint(which, (), 0, 5)
    draws = jnp.where(present, jax.random.uniform(where, (n_chans,)), -1.0)
    place = jnp.argsort(jnp.argsort(-draws))  # 0 is the electrode that breaks, 1 the next
    several, many, sizes = jax.random.split(together, 3)
    is_several = (kind == 1) & jax.random.bernoulli(several, POP_TOGETHER)
    n_broken = jnp.where(is_several, jax.random.randint(many, (), 2, MOST_TOGETHER + 1), 1)
    shares = jnp.where(place == 0, 1.0, jax.random.uniform(sizes, (n_chans,), minval=-1.0))
    shares = jnp.where(place < n_broken, shares, 0.0)
    # Half begin before the window does.
    begin = jnp.maximum(jax.random.uniform(when, minval=-1.0), 0.0) * n_times / sfreq
    after = jnp.arange(n_times, dtype=jnp.float32) / sfreq - begin

    u, v, w = jax.random.uniform(times, (3,))
    hiss = _drawn(size, NOISE_UV) * jax.random.normal(noise, (n_times,))
    period, decay = 1 / _between(w, POP_HZ), _between(u, DECAY_SECONDS)
    since = after % period
    pop = jnp.exp(-since / decay) - jnp.where(v < 0.5, jnp.exp((since - period) / decay), 0.0)
    phase = after % (1 / _between(u, SPIKE_HZ)) / _between(v, SPIKE_SECONDS)
    spikes = _drawn(size, SPIKE_UV) * (jnp.exp(-((phase - 1.5) ** 2)) - 0.7 * jnp.exp(-((phase - 3.0) ** 2)))
    one = jnp.stack([hiss, _drawn(size, POP_UV) * pop, spikes, jnp.zeros(n_times)])[jnp.minimum(kind, 3)]
    one = jnp.where(after >= 0, one, 0.0)
    width = _between(u, KNOCK_SECONDS)
    knock = _drawn(size, KNOCK_UV) * jnp.exp(-(((after - 3 * width) / width) ** 2))
    all_of_them = jax.random.normal(gains, (n_chans,))

    silent = (kind == 3) & (after >= 0)
    eeg = jnp.where(silent[:, None] & (place == 0)[None], 0.0, eeg)
    sign = jnp.where(jax.random.bernoulli(jax.random.fold_in(size, 1)), 1.0, -1.0)
    fault = jnp.where(kind == 4, knock[:, None] * all_of_them[None], one[:, None] * shares[None])
    return eeg + sign * jnp.where(present[None], fault, 0.0)


def _drawn(key: Key[jax.Array, ""], bounds: tuple[float, float]) -> Float32[jax.Array, ""]:
    return _between(jax.random.uniform(key), bounds)


def _between(u: Float32[jax.Array, ""], bounds: tuple[float, float]) -> Float32[jax.Array, ""]:
    """From the lower bound to the upper one, by logarithm."""
    low, high = bounds
    return low * (high / low) ** u
