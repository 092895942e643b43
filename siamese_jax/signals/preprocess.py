"""From raw microvolts to the filtered, re-referenced, scaled rows that the converter sees."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32

from siamese_jax.config.experiment import Config
from siamese_jax.signals.montage import apply_montage, montage_rows
from siamese_jax.vocabulary import channel_kind

SPREAD_FLOOR_UV = 0.1
"""Added to a row's spread in `window` scaling, so that a flat row stays flat; below any amplifier's noise."""
MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution in units of its median absolute deviation."""
GAIN_FLOOR = 1e-10
"""Gains below -200 dB are rounding; `filter_report` says -200."""
BLOCK = 32
"""Output samples a step of the convolution: so many inner products share one read of the signal."""


def preprocess(
    config: Config,
    eeg: Float32[jax.Array, "batch time chan"],
    present: Bool[jax.Array, "batch chan"],
) -> tuple[Float32[jax.Array, "batch time_out row"], Bool[jax.Array, "batch row"]]:
    """Filters a window, takes it to the montage and scales it.

    Filter and montage are linear and each montage row mixes one kind of channel, so but for
    `preprocess.limit_uv` their order does not matter; the filter comes first because it differs by channel
    kind. Filtering by FFT is circular: what wraps around falls into the margins and is cropped, so that a
    window gives what filtering its whole recording gives. `preprocess.implementation` names another way to
    the same rows, a strided convolution.

    Args:
        config: the experiment's configuration (static under `jax.jit`).
        eeg: `config.n_times + 2 * config.margin` samples of microvolts at `config.data.sfreq`.
        present: which of `config.data.ch_names` are there, by sample.

    Returns:
        The rows, `config.n_times_out + 2 * config.context` samples at `config.sfreq` (sample `config.context`
        falls on the window's first), dimensionless: microvolts over the scale of the row's kind or over its
        own spread. And which rows are present; the others are 0.

    Raises:
        ValueError: `eeg` has another shape, or the filter or the montage is impossible.
    """
    expected = (config.n_times + 2 * config.margin, len(config.data.ch_names))
    if eeg.shape[1:] != expected:
        raise ValueError(f"a window and its margins are {expected} [time, chan] here, given {eeg.shape[1:]}")
    prep = config.preprocess
    filtered = _filter(config, eeg.astype(jnp.float32))
    if prep.limit_uv is not None:
        limits = [prep.limit_uv if channel_kind(name) == "eeg" else np.inf for name in config.data.ch_names]
        limit = np.array(limits, np.float32)[None, None]
        filtered = jnp.clip(filtered, -limit, limit)
    rows, row_present = apply_montage(filtered, present, kind=prep.montage, ch_names=config.data.ch_names)
    if prep.scaling == "fixed":
        kinds = map(channel_kind, row_names(config))
        scale_uv = [prep.eeg_scale_uv if kind == "eeg" else prep.other_scale_uv for kind in kinds]
        return rows / np.array(scale_uv, np.float32)[None, None], row_present
    return rows / _spread_uv(config, rows), row_present


def row_names(config: Config) -> tuple[str, ...]:
    """The names of the rows that `preprocess` gives, in order; errors as `montage_rows`."""
    return montage_rows(config.preprocess.montage, config.data.ch_names)


def rows_present(config: Config, present: Bool[jax.Array, "batch chan"]) -> Bool[jax.Array, "batch row"]:
    """Which rows `preprocess` can make of the electrodes that are there.

    Raises:
        ValueError: the montage is impossible.
    """
    nothing = jnp.zeros((present.shape[0], 1, present.shape[1]), jnp.float32)
    return apply_montage(nothing, present, kind=config.preprocess.montage, ch_names=config.data.ch_names)[1]


@functools.lru_cache(maxsize=64)
def filter_taps(config: Config, kind: str) -> Float[np.ndarray, "tap"]:
    """The linear-phase FIR that does band and mains together: a windowed sinc (Hamming), designed at once.

    The pass band is that of the channel kind, its edges at half amplitude (-6 dB), less a stop band around
    the mains frequency and each harmonic: 1 Hz to each side, or half the transition width where
    that is wider. A multiple of the window makes the gain at 0 Hz exactly 0 where the band has a low edge,
    exactly 1 where not: an electrode's offset can be thousands of times its EEG.

    Args:
        config: the experiment's configuration.
        kind: a channel kind of the vocabulary.

    Returns:
        `2 * config.filter_half + 1` symmetric float64 taps at `config.data.sfreq`.
    """
    sfreq, half = config.data.sfreq, config.filter_half
    offsets = np.arange(-half, half + 1)
    window = np.hamming(2 * half + 1)
    taps = window * sum(
        _low_pass(high, offsets, sfreq) - _low_pass(low, offsets, sfreq) for low, high in config.pass_bands(kind)
    )
    taps += window * (_dc_gain(config, kind) - taps.sum()) / window.sum()
    taps.flags.writeable = False
    return taps


def filter_report(config: Config) -> dict[str, dict[float, float]]:
    """What the filters do: gain in dB by frequency in Hz, for each channel kind among `config.data.ch_names`.

    The frequencies are 0, the edges of the band and the mains; gains below -200 dB are given as -200.
    """
    report = {}
    for kind in sorted({channel_kind(name) for name in config.data.ch_names}):
        taps = filter_taps(config, kind)
        phase = 2 * np.pi * np.arange(-config.filter_half, config.filter_half + 1) / config.data.sfreq
        wanted = {0.0, *config.band_hz(kind), config.preprocess.mains_hz} - {None}
        gains = {f: abs(float(taps @ np.cos(phase * f))) for f in sorted(wanted) if f <= config.data.sfreq / 2}
        report[kind] = {f: 20 * math.log10(max(gain, GAIN_FLOOR)) for f, gain in gains.items()}
    return report


def _low_pass(edge_hz: float, offsets: np.ndarray, sfreq: float) -> np.ndarray:
    return 2 * edge_hz / sfreq * np.sinc(2 * edge_hz / sfreq * offsets)


def _dc_gain(config: Config, kind: str) -> float:
    return 1.0 if config.band_hz(kind)[0] is None else 0.0


def _filter(config: Config, eeg: Float32[jax.Array, "batch time chan"]) -> Float32[jax.Array, "batch time_out chan"]:
    """Filters, lowers the rate, crops the margins to `config.context`."""
    signal = eeg.transpose(0, 2, 1)
    # Float32 keeps microvolts beside millivolts of offset only if the offset goes first; by linearity it
    # returns times the gain at 0 Hz.
    offset = signal.mean(axis=-1, keepdims=True)
    way = {"fft": _filter_by_fft, "convolution": _filter_by_convolution}[config.preprocess.implementation]
    dc_gain = np.array([_dc_gain(config, channel_kind(name)) for name in config.data.ch_names], np.float32)
    return (way(config, signal - offset) + offset * dc_gain[None, :, None]).transpose(0, 2, 1)


def _filter_by_fft(
    config: Config, signal: Float32[jax.Array, "batch chan time"]
) -> Float32[jax.Array, "batch chan time_out"]:
    n_out = round(signal.shape[-1] * config.decimation)
    response = _response(config)
    spectrum = jnp.fft.rfft(signal)[..., : n_out // 2 + 1]
    spectrum = jax.lax.complex(spectrum.real * response[None], spectrum.imag * response[None])
    first = round(config.margin * config.decimation) - config.context
    return jnp.fft.irfft(spectrum, n=n_out)[..., first : first + config.n_times_out + 2 * config.context]


def _filter_by_convolution(
    config: Config, signal: Float32[jax.Array, "batch chan time"]
) -> Float32[jax.Array, "batch chan time_out"]:
    """One strided convolution a channel kind; each of its steps gives `BLOCK` output samples or a few more."""
    p, q = config.decimation.as_integer_ratio()  # p samples come out for every q that go in
    n_out = config.n_times_out + 2 * config.context
    # Whole groups of p samples before the window: as many as the context needs, and what they have too many.
    groups = math.ceil(config.context / p)
    start, surplus = config.margin - config.filter_half - groups * q, groups * p - config.context
    kinds = np.array([channel_kind(name) for name in config.data.ch_names])
    filtered = []
    for kind in np.unique(kinds):
        kernel, stride = _kernel(config, str(kind))
        n_blocks = math.ceil((surplus + n_out) / kernel.shape[1])
        needed = (n_blocks - 1) * stride + len(kernel)
        piece = signal[:, np.flatnonzero(kinds == kind), start : start + needed]
        # Zeros where only samples beyond the last one wanted would look.
        piece = jnp.pad(piece, ((0, 0), (0, 0), (0, needed - piece.shape[-1])))
        blocks = jax.lax.conv_general_dilated(
            piece.reshape(-1, needed, 1),
            jnp.asarray(kernel)[:, None],
            window_strides=(stride,),
            padding="VALID",
            dimension_numbers=("NWC", "WIO", "NWC"),
            precision=jax.lax.Precision.HIGHEST,
        )
        filtered.append(blocks.reshape(*piece.shape[:2], -1)[..., surplus : surplus + n_out])
    places = np.argsort(np.argsort(kinds, kind="stable"))
    return jnp.concatenate(filtered, axis=1)[:, places]


@functools.lru_cache(maxsize=64)
def _kernel(config: Config, kind: str) -> tuple[Float32[np.ndarray, "tap sample"], int]:
    """The filter's taps for a block of successive output samples, and how many input samples lie between blocks.

    Output sample r of every p lies r q / p input samples after the first: there the taps are those that band-limited
    interpolation finds between the designed ones.
    """
    p, q = config.decimation.as_integer_ratio()
    half, n_in = config.filter_half, config.n_times + 2 * config.margin
    spectrum = np.fft.rfft(_centred_taps(config, kind))
    turns = np.arange(len(spectrum)) / n_in
    repeats = math.ceil(BLOCK / p)
    kernel = np.zeros((2 * half + repeats * q, repeats * p))
    for r in range(p):
        delayed = np.fft.irfft(spectrum * np.exp(-2j * np.pi * turns * r * q / p), n=n_in)
        taps = np.roll(delayed, half)[: 2 * half + q]
        for i in range(repeats):
            kernel[i * q : i * q + len(taps), i * p + r] = taps
    return kernel.astype(np.float32), repeats * q


@functools.lru_cache(maxsize=64)
def _response(config: Config) -> Float32[np.ndarray, "chan freq"]:
    """The zero-phase gain by rfft bin of the lowered rate (and of the new length)."""
    n_in = config.n_times + 2 * config.margin
    n_out = round(n_in * config.decimation)
    kinds = [channel_kind(name) for name in config.data.ch_names]
    gains = {
        kind: np.fft.rfft(_centred_taps(config, kind)).real[: n_out // 2 + 1] * (n_out / n_in) for kind in set(kinds)
    }
    return np.stack([gains[kind] for kind in kinds]).astype(np.float32)


def _centred_taps(config: Config, kind: str) -> Float[np.ndarray, "time"]:
    """The taps on a circle as long as a window and its margins, the middle one first."""
    half, n_in = config.filter_half, config.n_times + 2 * config.margin
    return np.roll(np.pad(filter_taps(config, kind), (0, n_in - 2 * half - 1)), -half)


def _spread_uv(config: Config, rows: Float32[jax.Array, "batch time row"]) -> Float32[jax.Array, "batch 1 row"]:
    """A robust standard deviation of each row within the window proper, plus the floor."""
    window = rows[:, config.context : config.context + config.n_times_out]
    deviation = jnp.abs(window - jnp.median(window, axis=1, keepdims=True))
    return MAD_TO_SD * jnp.median(deviation, axis=1, keepdims=True) + SPREAD_FLOOR_UV
