"""The Frequency-Temporal Converter: rows of signal to maps of magnitude over frequency and time.

Two implementations of one short-time Fourier transform: `fft` frames the signal and transforms every frame,
`dft` is one strided convolution with the wanted bins only, faster on a CPU and the only one that ONNX can
express.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from siamese_jax.config.experiment import Config
from siamese_jax.config.own import is_own, own_object


def convert(config: Config, rows: Float[jax.Array, "batch time row"]) -> Float32[jax.Array, "batch freq frame row"]:
    """The magnitude of every row over frequency and time.

    Frame 0 is centred on `config.model.context_frames` hops before the window's first sample, the last as
    many hops beyond its last; every frame sees samples that are really there. The window is a periodic Hann
    window and the magnitude the plain sum |sum(w x exp(-i 2 pi k n / N))|, as `torch.stft(normalized=False)`
    and torchaudio's `Spectrogram(power=1)`: a sine of amplitude A gives A N / 4 in its bin. `log` is log1p of
    that sum: linear far below 1, so that silence stays 0, and a logarithm above.

    Args:
        config: the experiment's configuration (static under `jax.jit`).
        rows: `config.n_times_out + 2 * config.context` samples at `config.sfreq`, dimensionless; any float
            type.

    Returns:
        The maps: as many bins as `frequencies(config)`, `config.n_frames + 2 * config.model.context_frames`
        frames. `multi_resolution` stacks its transforms along frequency, all centred on the same samples;
        `none` gives the samples themselves as the frames of one bin. A function of the user's own,
        `converter.kind="my_module:my_converter"`, is called as this one is, with `config` and `rows`, and may give any
        number of bins. Float32, always: half precision is wrong
        by 2 log units in weak bins. The gradient is finite everywhere, 0 where the magnitude is 0.

    Raises:
        ValueError: `rows` has another length; an own function that is not imported, or gives maps of other frames.
    """
    expected = config.n_times_out + 2 * config.context
    if rows.ndim != 3 or rows.shape[1] != expected:
        raise ValueError(f"the converter needs [batch, time={expected}, row] here, given {rows.shape}")
    rows = rows.astype(jnp.float32)
    if config.converter.kind == "none":
        return rows[:, None]
    if is_own(config.converter.kind):
        return _own_maps(config, rows)
    maps = jnp.concatenate([_magnitude(config, rows, n_fft=n_fft) for n_fft in config.converter.n_fft], axis=1)
    return jnp.log1p(maps) if config.converter.amplitude == "log" else maps


def _own_maps(config: Config, rows: Float32[jax.Array, "batch time row"]) -> Float32[jax.Array, "batch freq frame row"]:
    maps = own_object(config.converter.kind, "converter.kind")(config, rows)
    n_frames, shape = config.n_frames + 2 * config.model.context_frames, getattr(maps, "shape", ())
    if len(shape) != 4 or (shape[0], shape[2], shape[3]) != (rows.shape[0], n_frames, rows.shape[2]):
        raise ValueError(
            f"converter.kind={config.converter.kind!r} must give [batch={rows.shape[0]}, freq, frame={n_frames},"
            f" row={rows.shape[2]}], and gives {shape}"
        )
    return maps.astype(jnp.float32)


def frequencies(config: Config) -> tuple[float, ...]:
    """The frequency in Hz of each bin that `convert` gives; one entry of 0 for `none`."""
    if config.converter.kind == "none":
        return (0.0,)
    return tuple(float(k * config.sfreq / n) for n in config.converter.n_fft for k in config.bins(n))


def _magnitude(
    config: Config, rows: Float32[jax.Array, "batch time row"], *, n_fft: int
) -> Float32[jax.Array, "batch freq frame row"]:
    surplus = config.converter.half - n_fft // 2
    signal = rows[:, surplus : rows.shape[1] - surplus].transpose(0, 2, 1)
    bins, hop = np.array(config.bins(n_fft)), config.converter.hop
    dft = functools.partial(_stft_by_dft, n_fft=n_fft, hop=hop, bins=bins)
    fft = functools.partial(_stft_by_fft, n_fft=n_fft, hop=hop, bins=bins)
    # The choice by platform covers the linear part alone, so that a gradient need not keep values of both.
    real, imag = {
        "dft": dft,
        "fft": fft,
        "auto": lambda x: jax.lax.platform_dependent(x, cpu=dft, default=fft),
    }[config.converter.implementation](signal)
    power = real * real + imag * imag
    # sqrt has an infinite slope at 0, which the chain rule turns into NaN: take it of 1 there. NaN stays NaN.
    magnitude = jnp.where(power == 0, 0.0, jnp.sqrt(jnp.where(power == 0, 1.0, power)))
    return magnitude.transpose(0, 3, 2, 1)


def _stft_by_fft(
    signal: Float32[jax.Array, "batch row time"], *, n_fft: int, hop: int, bins: np.ndarray
) -> tuple[Float32[jax.Array, "batch row frame freq"], Float32[jax.Array, "batch row frame freq"]]:
    starts = np.arange(0, signal.shape[-1] - n_fft + 1, hop)
    frames = signal[..., starts[:, None] + np.arange(n_fft)]
    window = _hann(n_fft).astype(np.float32)
    spectrum = jnp.fft.rfft(frames * window[None, None, None])[..., bins[0] : bins[-1] + 1]
    return spectrum.real, spectrum.imag


def _stft_by_dft(
    signal: Float32[jax.Array, "batch row time"], *, n_fft: int, hop: int, bins: np.ndarray
) -> tuple[Float32[jax.Array, "batch row frame freq"], Float32[jax.Array, "batch row frame freq"]]:
    n_batch, n_rows, n_times = signal.shape
    # The product is reduced modulo n_fft while it is an integer: exact angles for long transforms too.
    angle = 2 * np.pi / n_fft * (np.outer(np.arange(n_fft), bins) % n_fft)
    kernel = _hann(n_fft)[:, None] * np.concatenate([np.cos(angle), -np.sin(angle)], axis=1)
    parts = jax.lax.conv_general_dilated(
        signal.reshape(n_batch * n_rows, n_times, 1),
        jnp.asarray(kernel, jnp.float32)[:, None],
        window_strides=(hop,),
        padding="VALID",
        dimension_numbers=("NWC", "WIO", "NWC"),
        precision=jax.lax.Precision.HIGHEST,
    ).reshape(n_batch, n_rows, -1, 2 * len(bins))
    return parts[..., : len(bins)], parts[..., len(bins) :]


def _hann(n_fft: int) -> Float[np.ndarray, "time"]:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
