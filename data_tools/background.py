"""What goes on all the time: 1/f noise, rhythms, muscle tone, the heart, mains.

Noise is made in overlapping blocks of 8 s: a random spectrum of the block's own shape, an inverse FFT, a sine
window, overlap-add. The squares of the windows sum to 1, so the power is constant where the stage is, and the
spectrum glides from one stage to the next within a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32
from scipy import fft

from data_tools import physiology, waveforms
from data_tools.patients import PatientProfile
from siamese_jax.vocabulary import STAGES

BLOCK_SECONDS = 8.0
EPOCH_SECONDS = 30.0
EEG_HIGHPASS_HZ, EEG_LOWPASS_HZ = 0.3, 45.0
"""Corners of the noise's soft roll-off: the amplifier below, the skull above (INFERENCE)."""
HIGHEST_HZ = 100.0
"""No EEG noise is made above."""
_BLOCKS_AT_ONCE = 16

Signals = Float32[np.ndarray, "chan time"]


@dataclass(frozen=True)
class Scene:
    """The EEG leads of a recording under way, in microvolts and changed in place; and who and when it is."""

    signals: Signals
    sfreq: float
    ch_names: tuple[str, ...]
    hypnogram: tuple[str, ...]
    profile: PatientProfile

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.signals.shape[1] / self.sfreq

    def stage(self, seconds: float) -> str:
        """The stage at a moment."""
        return self.hypnogram[min(int(seconds / EPOCH_SECONDS), len(self.hypnogram) - 1)]


class _Source(NamedTuple):
    """Noise from one or more independent generators of one spectrum."""

    fields: Float32[np.ndarray, "chan generator"]
    amplitude: Float32[np.ndarray, "block freq"]  # of real and imaginary part
    first_bin: int  # that `amplitude` tells about


def add_background(scene: Scene, rng: np.random.Generator) -> None:
    """Add 1/f noise, rhythms and the reference's own noise, by the stage of each moment."""
    profile, ch_names = scene.profile, scene.ch_names
    n_block = 2 * round(BLOCK_SECONDS * scene.sfreq / 2)
    frequency = fft.rfftfreq(n_block, 1 / scene.sfreq)
    frequency = frequency[frequency <= HIGHEST_HZ]
    weights = _stage_weights(scene.hypnogram, scene.signals.shape[1], n_block, scene.sfreq)
    gain = _wandering_gain(len(weights), rng, spread=0.12)
    noise_psd = np.stack([stage_noise_psd(profile, stage, frequency) for stage in STAGES])
    mixing = np.linalg.cholesky(_noise_correlation(ch_names)).astype(np.float32)
    sources = [_Source(mixing, _block_amplitude(weights * gain[:, None] ** 2, noise_psd, n_block), 0)]
    for rhythm in physiology.RHYTHMS:
        psd = np.stack([_rhythm_psd(profile, rhythm, stage, frequency) for stage in STAGES])
        swelling = _wandering_gain(len(weights), rng, spread=0.35)
        amplitude = _block_amplitude(weights * swelling[:, None] ** 2, psd, n_block)
        (used,) = np.nonzero(psd.max(0) > 1e-4 * psd.max())
        fields = rhythm_fields(rhythm, ch_names)
        sources.append(_Source(fields.astype(np.float32), amplitude[:, used[0] : used[-1] + 1], int(used[0])))
    reference_psd = physiology.REFERENCE_UV**2 * _unit_power(1 / np.maximum(frequency, 0.5), frequency)
    reference = _block_amplitude(np.ones((len(weights), 1)), reference_psd[None], n_block)
    sources.append(_Source(np.ones((len(ch_names), 1), np.float32), reference, 0))
    _overlap_add(scene.signals, sources, n_block, len(frequency), rng)


def add_muscle_tone(signals: Signals, *, sfreq: float, hypnogram: Sequence[str], rng: np.random.Generator) -> None:
    """Add muscle noise above about 20 Hz to EMG `signals` in place, in microvolts, its size by the stage."""
    n_block = 2 * round(BLOCK_SECONDS * sfreq / 2)
    frequency = fft.rfftfreq(n_block, 1 / sfreq)
    weights = _stage_weights(hypnogram, signals.shape[1], n_block, sfreq)
    shape = _unit_power(frequency**4 / (frequency**4 + 20.0**4) / (1 + (frequency / 120.0) ** 2), frequency)
    psd = np.array([physiology.EMG_RMS_UV[stage] ** 2 for stage in STAGES])[:, None] * shape
    gain = _wandering_gain(len(weights), rng, spread=0.2)
    amplitude = _block_amplitude(weights * gain[:, None] ** 2, psd, n_block)
    each_its_own = np.eye(len(signals), dtype=np.float32)
    _overlap_add(signals, [_Source(each_its_own, amplitude, 0)], n_block, len(frequency), rng)


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
    """Add a residue of the mains to every lead in place, with a phase and a size of its own."""
    angle = 2 * np.pi * rng.uniform(size=len(signals))
    size = np.array([physiology.MAINS_UV.draw(rng) for _ in signals])
    parts = (size * np.stack([np.cos(angle), np.sin(angle)])).T
    step = round(BLOCK_SECONDS * sfreq)
    for start in range(0, signals.shape[1], step):
        phase = 2 * np.pi * mains_hz / sfreq * np.arange(start, min(start + step, signals.shape[1]))
        signals[:, start : start + step] += parts @ np.stack([np.cos(phase), np.sin(phase)])


def background_rms_uv(profile: PatientProfile, stage: str, ch_names: Sequence[str]) -> Float[np.ndarray, "chan"]:
    """The root mean square that `add_background` gives each EEG lead in a stage, in microvolts."""
    share = np.full(len(ch_names), _noise_share(stage))
    for rhythm in physiology.RHYTHMS:
        share += rhythm.share.get(stage, 0.0) * (rhythm_fields(rhythm, ch_names) ** 2).sum(1)
    return profile.rms_uv(stage) * np.sqrt(share)


def stage_noise_psd(
    profile: PatientProfile, stage: str, frequency: Float[np.ndarray, "freq"]
) -> Float[np.ndarray, "freq"]:
    """Power spectral density of one EEG lead's 1/f^beta noise in a stage, in microvolts^2 / Hz.

    Falls as f^-beta between 1 Hz and the soft low-pass; flat below, where an amplifier's high-pass acts.
    """
    beta = physiology.EXPONENT[stage] + profile.exponent_shift
    f = np.maximum(frequency, 1e-3)
    shape = 1 / (0.6**beta + f**beta) / (1 + (EEG_HIGHPASS_HZ / f) ** 4) / (1 + (f / EEG_LOWPASS_HZ) ** 4)
    return profile.rms_uv(stage) ** 2 * _noise_share(stage) * _unit_power(shape, frequency)


def rhythm_fields(rhythm: physiology.Rhythm, ch_names: Sequence[str]) -> Float[np.ndarray, "chan source"]:
    """Fields of a rhythm's independent sources, scaled to a mean power of 1 over the scalp electrodes."""
    fields = np.stack([field((pole,), ch_names) for pole in rhythm.poles], axis=1)
    scalp = np.stack([field((pole,), tuple(physiology.POSITIONS)) for pole in rhythm.poles], axis=1)
    return fields / np.sqrt((scalp**2).sum(1).mean())


def field(poles: Sequence[physiology.Pole], ch_names: Sequence[str]) -> Float[np.ndarray, "chan"]:
    """The sum of Gaussians at each EEG lead."""
    x, y = np.array([physiology.position(name) for name in ch_names]).T
    hills = [p.gain * np.exp(-((x - p.x) ** 2 + (y - p.y) ** 2) / (2 * p.sigma**2)) for p in poles]
    return np.sum(hills, axis=0)


def _noise_share(stage: str) -> float:
    return 1 - sum(rhythm.share.get(stage, 0.0) for rhythm in physiology.RHYTHMS)


def _rhythm_psd(
    profile: PatientProfile, rhythm: physiology.Rhythm, stage: str, frequency: Float[np.ndarray, "freq"]
) -> Float[np.ndarray, "freq"]:
    share = rhythm.share.get(stage, 0.0)
    peak = np.exp(-0.5 * ((frequency - profile.rhythm_hz(rhythm.name)) / rhythm.width_hz) ** 2)
    return profile.rms_uv(stage) ** 2 * share * _unit_power(peak, frequency)


def _unit_power(shape: Float[np.ndarray, "freq"], frequency: Float[np.ndarray, "freq"]) -> Float[np.ndarray, "freq"]:
    shape = np.where(frequency > 0, shape, 0.0)
    return shape / (shape.sum() * (frequency[1] - frequency[0]))


def _noise_correlation(ch_names: Sequence[str]) -> Float[np.ndarray, "chan chan"]:
    points = np.array([physiology.position(name) for name in ch_names])
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    shared = np.exp(-squared / physiology.CORRELATION_LENGTH**2)
    return (1 - physiology.LOCAL_SHARE) * shared + physiology.LOCAL_SHARE * np.eye(len(points))


def _stage_weights(
    hypnogram: Sequence[str], n_times: int, n_block: int, sfreq: float
) -> Float[np.ndarray, "block stage"]:
    """Share of each stage around the centre of each block; the first is centred on the recording's start."""
    hop = n_block // 2
    n_blocks = -(-n_times // hop) + 1
    centres = np.arange(n_blocks) * hop / sfreq
    moments = centres[:, None] + np.linspace(-BLOCK_SECONDS / 4, BLOCK_SECONDS / 4, 9)
    epochs = np.clip((moments / EPOCH_SECONDS).astype(int), 0, len(hypnogram) - 1)
    codes = np.array([STAGES.index(stage) for stage in hypnogram])
    return np.eye(len(STAGES))[codes[epochs]].mean(1)


def _wandering_gain(n_blocks: int, rng: np.random.Generator, *, spread: float) -> Float[np.ndarray, "block"]:
    """A lognormal gain of mean square 1 that drifts from block to block (correlation 0.7)."""
    log_gain = np.empty(n_blocks)
    log_gain[0] = rng.standard_normal()
    for i, step in enumerate(rng.standard_normal(n_blocks - 1), start=1):
        log_gain[i] = 0.7 * log_gain[i - 1] + np.sqrt(1 - 0.7**2) * step
    return np.exp(spread * log_gain - spread**2)


def _block_amplitude(
    weights: Float[np.ndarray, "block stage"], psd: Float[np.ndarray, "stage freq"], n_block: int
) -> Float32[np.ndarray, "block freq"]:
    """Standard deviation of real and imaginary part of each FFT bin that gives the mixed density."""
    bin_width = 1 / BLOCK_SECONDS  # Hz
    return (n_block / 2 * np.sqrt(weights @ psd * bin_width)).astype(np.float32)


def _overlap_add(
    signals: Signals,
    sources: Sequence[_Source],
    n_block: int,
    n_freq: int,
    rng: np.random.Generator,
) -> None:
    n_chan, n_times = signals.shape
    hop = n_block // 2
    window = np.sin(np.pi * (np.arange(n_block, dtype=np.float32) + 0.5) / n_block)
    n_blocks = len(sources[0][1])
    for first in range(0, n_blocks, _BLOCKS_AT_ONCE):
        blocks = slice(first, min(first + _BLOCKS_AT_ONCE, n_blocks))
        spectrum = np.zeros((blocks.stop - blocks.start, n_chan, n_freq), np.complex64)
        for fields, amplitude, low in sources:
            n_used = amplitude.shape[1]
            draws = rng.standard_normal((len(spectrum), fields.shape[1], n_used, 2), np.float32)
            draws *= amplitude[blocks, None, :, None]
            # Not by BLAS: its threads cost more than they give here, and may change the last bit.
            mixed = np.einsum("cs,bsf->bcf", fields, draws.reshape(*draws.shape[:2], -1))
            spectrum[..., low : low + n_used] += mixed.view(np.complex64)
        waves = fft.irfft(spectrum, n_block, axis=-1)
        waves *= window
        for i, wave in enumerate(waves, start=blocks.start):
            start = (i - 1) * hop
            a, b = max(start, 0), min(start + n_block, n_times)
            signals[:, a:b] += wave[:, a - start : b - start]
