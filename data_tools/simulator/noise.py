"""Gaussian noise of a spectrum that changes with time, from few generators to many leads.

Noise is made in overlapping blocks of 8 s: a random spectrum of the block's own shape, an inverse FFT, a sine
window, overlap-add. The squares of the windows sum to 1, so the power is constant where the spectrum is, and one
spectrum glides into the next within a block. A generator may also burst: wax and wane within a second.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32
from scipy import fft, signal

BLOCK_SECONDS = 8.0
HIGHEST_HZ = 100.0
"""No noise is made above."""
_BLOCKS_AT_ONCE = 16
_KNOTS = 16
"""A burst's gain is drawn so many times in half a block, which is every quarter of a second."""
_BURST_KNOTS = 2.0
"""Its correlation falls to 1/e within half a second (INFERENCE)."""

Signals = Float32[np.ndarray, "chan time"]


class NoiseSource(NamedTuple):
    """Noise from one or more independent generators of one spectrum."""

    mixing: Float[np.ndarray, "chan generator"]
    psd: Float[np.ndarray, "block freq"]  # of each generator, in microvolts^2 / Hz at the frequencies of `Blocks`
    bursts: float = 0.0  # log-spread of each generator's gain over fractions of a second: more makes it less Gaussian


class Blocks(NamedTuple):
    """How a recording is cut into blocks."""

    n_block: int  # samples
    centres: Float[np.ndarray, "block"]  # in seconds; the first block is centred on the recording's start
    frequency_hz: Float[np.ndarray, "freq"]  # of the bins in which there is noise

    @classmethod
    def of(cls, n_times: int, sfreq: float) -> "Blocks":
        """The blocks of a recording of `n_times` samples."""
        n_block = 2 * round(BLOCK_SECONDS * sfreq / 2)
        hop = n_block // 2
        frequency = fft.rfftfreq(n_block, 1 / sfreq)
        n_blocks = -(-n_times // hop) + 1
        return cls(n_block, np.arange(n_blocks) * hop / sfreq, frequency[frequency <= HIGHEST_HZ])


def add_noise(signals: Signals, sources: Sequence[NoiseSource], blocks: Blocks, rng: np.random.Generator) -> None:
    """Add the noise of all sources to `signals`, in microvolts and in place."""
    n_times, hop = signals.shape[1], blocks.n_block // 2
    parts = [_used_bins(source, blocks) for source in sources]
    mixing = np.concatenate([source.mixing for source in sources], axis=1).astype(np.float32)
    spread = np.concatenate([np.full(source.mixing.shape[1], source.bursts) for source in sources])
    gains = _burst_gains(spread, n_times, hop, rng)
    window = np.sin(np.pi * (np.arange(blocks.n_block, dtype=np.float32) + 0.5) / blocks.n_block)
    tail = np.zeros((mixing.shape[1], hop), np.float32)  # second half of the block before
    for first in range(0, len(blocks.centres), _BLOCKS_AT_ONCE):
        some = slice(first, min(first + _BLOCKS_AT_ONCE, len(blocks.centres)))
        waves = np.concatenate([_waves(part, some, blocks, rng) for part in parts])
        waves *= window
        waves[:, 1:, :hop] += waves[:, :-1, hop:]
        waves[:, 0, :hop] += tail
        tail = waves[:, -1, hop:].copy()
        start, stop = (some.start - 1) * hop, min((some.stop - 1) * hop, n_times)
        generated = waves[:, :, :hop].reshape(len(waves), -1)[:, max(-start, 0) : stop - start]
        start = max(start, 0)
        bursting = spread > 0
        generated[bursting] *= _interpolated(gains, start, stop, hop)
        # Not by BLAS: its threads cost more than they give here, and may change the last bit.
        signals[:, start:stop] += np.einsum("cs,st->ct", mixing, generated)


def unit_power(shape: Float[np.ndarray, "freq"], frequency_hz: Float[np.ndarray, "freq"]) -> Float[np.ndarray, "freq"]:
    """A density of the same shape whose integral is 1, with nothing at 0 Hz."""
    shape = np.where(frequency_hz > 0, shape, 0.0)
    return shape / (shape.sum() * (frequency_hz[1] - frequency_hz[0]))


def wander(n: int, correlation: float, rng: np.random.Generator) -> Float[np.ndarray, "step"]:
    """A Gaussian process of mean 0 and variance 1 whose correlation falls to 1/e within `correlation` steps."""
    keep = np.exp(-1 / correlation)
    steps = rng.standard_normal(n)
    steps[1:] *= np.sqrt(1 - keep**2)
    wandering, _ = signal.lfilter([1.0], [1.0, -keep], steps, zi=np.zeros(1))
    return wandering


def _used_bins(source: NoiseSource, blocks: Blocks) -> tuple[int, Float32[np.ndarray, "block used"], slice]:
    """How many generators, the standard deviation of real and imaginary part of each bin with power, those bins."""
    largest = source.psd.max(0)
    (used,) = np.nonzero(largest > 1e-5 * largest.max())
    bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
    amplitude = blocks.n_block / 2 * np.sqrt(source.psd[:, bins] / BLOCK_SECONDS)
    return source.mixing.shape[1], amplitude.astype(np.float32), bins


def _waves(
    part: tuple[int, Float32[np.ndarray, "block used"], slice], some: slice, blocks: Blocks, rng: np.random.Generator
) -> Float32[np.ndarray, "generator block time"]:
    n_generators, amplitude, bins = part
    spectrum = np.zeros((n_generators, some.stop - some.start, len(blocks.frequency_hz)), np.complex64)
    draws = rng.standard_normal((*spectrum.shape[:2], bins.stop - bins.start, 2), np.float32)
    draws *= amplitude[some, :, None]
    spectrum[..., bins] = draws.view(np.complex64)[..., 0]
    return np.asarray(fft.irfft(spectrum, blocks.n_block, axis=-1))


def _burst_gains(
    spread: Float[np.ndarray, "generator"], n_times: int, hop: int, rng: np.random.Generator
) -> Float32[np.ndarray, "bursting knot"]:
    """Lognormal gains of mean square 1, `_KNOTS` a hop, of the generators that burst."""
    n_knots = -(-n_times // hop) * _KNOTS + 2
    rows = [np.exp(s * wander(n_knots, _BURST_KNOTS, rng) - s**2) for s in spread if s > 0]
    return np.array(rows, np.float32).reshape(-1, n_knots)


def _interpolated(
    gains: Float32[np.ndarray, "bursting knot"], start: int, stop: int, hop: int
) -> Float32[np.ndarray, "bursting time"]:
    place = np.arange(start, stop) * (_KNOTS / hop)
    before = place.astype(int)
    share = (place - before).astype(np.float32)
    return gains[:, before] * (1 - share) + gains[:, before + 1] * share
