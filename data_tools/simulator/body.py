"""What is not the brain's and goes on all the time: the heart, muscles and mains; and the field of the eyes."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

from data_tools.simulator import physiology, waveforms
from data_tools.simulator.head import SCALP_LEADS, Head
from data_tools.simulator.hypnogram import Night
from data_tools.simulator.noise import BLOCK_SECONDS, Blocks, NoiseSource, Signals, add_noise, unit_power, wander
from data_tools.simulator.onsets import EPOCH_SECONDS
from siamese_jax.vocabulary import STAGES

FLESH = Head(radii=(0.98, 0.985, 0.99, 1.0), conductivity_s_per_m=(0.33,) * 4)
"""A head without a skull: between eye and electrode there is none."""


@lru_cache
def eye_field(ch_names: tuple[str, ...], turn: Literal["up", "right"]) -> Float[np.ndarray, "chan"]:
    """What both eyes do to the EEG leads when they turn, scaled to a largest magnitude of 1 at the 19 scalp leads.

    Each eyeball is a dipole, its cornea positive. Turning up, it turns the frontal poles positive; turning right,
    the right front positive and the left front negative.
    """
    moments = np.tile({"up": (0.0, 0.0, 1.0), "right": (1.0, 0.0, 0.0)}[turn], (2, 1))
    names = (*ch_names, *SCALP_LEADS)
    potential = FLESH.lead_field(np.array(physiology.EYE_POSITIONS), moments, names).sum(1)
    return potential[: len(ch_names)] / np.abs(potential[len(ch_names) :]).max()


def add_muscle_tone(
    signals: Signals,
    rms_uv: dict[str, float],
    *,
    lead_gain: Float[np.ndarray, "chan"],
    sfreq: float,
    night: Night,
    rng: np.random.Generator,
) -> None:
    """Add muscle noise above about 20 Hz in place, each lead's its own, of a size by the stage and the lead."""
    blocks = Blocks.of(signals.shape[1], sfreq)
    f = blocks.frequency_hz
    shape = unit_power(f**4 / (f**4 + 20.0**4) / (1 + (f / 120.0) ** 2), f)
    power = night.weights(blocks.centres, BLOCK_SECONDS / 2) @ np.array([rms_uv[stage] ** 2 for stage in STAGES])
    power *= np.exp(2 * 0.3 * wander(len(power), 5, rng) - 2 * 0.3**2)
    add_noise(signals, [NoiseSource(np.diag(lead_gain), power[:, None] * shape)], blocks, rng)


def heart(
    n_times: int, *, sfreq: float, hypnogram: Sequence[str], rng: np.random.Generator
) -> Float32[np.ndarray, "time"]:
    """An electrocardiogram with R waves of height 1; its rate falls with sleep."""
    quantile = rng.uniform()
    rate = np.array([physiology.HEART_PER_MINUTE[stage].at(quantile) for stage in hypnogram])
    n_beats = int(n_times / sfreq / 60 * rate.max() * 1.2) + 10
    scatter = 1 + physiology.HEART_SCATTER * rng.standard_normal(n_beats)
    ecg = np.zeros(n_times, np.float32)
    half = round(0.35 * sfreq)
    at = rng.uniform(0, 1)
    for factor in scatter:
        centre = round(at * sfreq)
        start, stop = max(centre - half, 0), min(centre + half, n_times)
        if start >= n_times:
            break
        ecg[start:stop] += waveforms.heartbeat(np.arange(start, stop) / sfreq - at)
        at += 60 / rate[min(int(at / EPOCH_SECONDS), len(rate) - 1)] * factor
    return ecg


def add_mains(signals: Signals, *, sfreq: float, mains_hz: float, rng: np.random.Generator) -> None:
    """Add a residue of the mains, whose frequency wanders a little, and of its harmonics below half the rate.

    Every lead has sizes and phases of its own.
    """
    orders = {
        order: gain for order, gain in {1: 1.0, **physiology.MAINS_HARMONICS}.items() if order * mains_hz < sfreq / 2
    }
    size = physiology.MAINS_UV * np.exp(physiology.MAINS_SPREAD * rng.standard_normal())
    sizes = size * np.array([physiology.MAINS_UNLIKE.draw(rng) for _ in signals])
    parts = {
        order: gain * sizes * np.exp(2j * np.pi * rng.uniform(size=len(signals))) for order, gain in orders.items()
    }
    n_times, step = signals.shape[1], round(BLOCK_SECONDS * sfreq)
    hertz = mains_hz + physiology.MAINS_WANDER_HZ * wander(n_times // step + 2, 10, rng)
    phase = 0.0
    for i, start in enumerate(range(0, n_times, step)):
        n = min(step, n_times - start)
        # The frequency glides from one step's to the next one's.
        angle = phase + 2 * np.pi / sfreq * (
            hertz[i] * np.arange(n) + (hertz[i + 1] - hertz[i]) * np.arange(n) ** 2 / (2 * step)
        )
        phase += np.pi * (hertz[i] + hertz[i + 1]) * step / sfreq
        for order, part in parts.items():
            signals[:, start : start + n] += np.outer(part.real, np.cos(order * angle)) - np.outer(
                part.imag, np.sin(order * angle)
            )
