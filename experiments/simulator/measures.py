"""What is measured in a signal, the same way in a simulated and in a real one.

Spectra, spindle-like bursts, single waves, and how alike electrodes are. Signals are in microvolts.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Integer
from scipy import signal

from siamese_jax.vocabulary import POSITIONS

Signal = Float[np.ndarray, "time"]

WINDOW_SECONDS = 4
"""Spectra and features are of windows so long, without overlap."""
BANDS = {"delta": (1.0, 4.0), "theta": (4.0, 8.0), "alpha": (8.0, 12.0), "sigma": (12.0, 16.0), "beta": (16.0, 30.0)}
"""In Hz; above 1 and below 30 Hz, where the recorders' filters of DREAMS leave the signal alone."""
SPINDLE_HZ = (11.0, 16.0)
"""AASM's range of sleep spindles (FACT, key 7.2 of data_tools.simulator.physiology)."""
FIELD_BANDS = {"1-4 Hz": (1.0, 4.0), "4-8 Hz": (4.0, 8.0), "8-13 Hz": (8.0, 13.0), "13-30 Hz": (13.0, 30.0)}


# --- windows and spectra ---------------------------------------------------------------------------------------


def pure_windows(stages: Integer[np.ndarray, "second"], stage: int) -> Integer[np.ndarray, "window"]:
    """First seconds of the windows that lie in one stage from end to end."""
    whole = stages[: len(stages) // WINDOW_SECONDS * WINDOW_SECONDS].reshape(-1, WINDOW_SECONDS)
    return np.flatnonzero((whole == stage).all(1)) * WINDOW_SECONDS


def cut(eeg_uv: Signal, sfreq: float, seconds: Integer[np.ndarray, "window"]) -> Float[np.ndarray, "window time"]:
    """The windows that begin at these seconds."""
    length = round(WINDOW_SECONDS * sfreq)
    starts = np.round(seconds * sfreq).astype(int)
    return eeg_uv[starts[:, None] + np.arange(length)]


class Spectrum(NamedTuple):
    """Power spectral density in microvolts^2 / Hz."""

    frequency_hz: Float64[np.ndarray, "freq"]
    psd: Float64[np.ndarray, "... freq"]


def spectra(windows: Float[np.ndarray, "window time"], sfreq: float) -> Spectrum:
    """The periodogram of each window (Hann, its mean taken off)."""
    frequency, psd = signal.periodogram(windows.astype(np.float64), sfreq, window="hann", detrend="constant", axis=1)
    return Spectrum(frequency, psd)


def typical(spectrum: Spectrum) -> Spectrum:
    """The median over windows, which a few artefacts do not move; over its own ratio to the mean in noise, ln 2."""
    return Spectrum(spectrum.frequency_hz, np.median(spectrum.psd, axis=0) / np.log(2))


def band_power(spectrum: Spectrum, band: tuple[float, float]) -> Float64[np.ndarray, "..."]:
    """Power from `band[0]` up to, not including, `band[1]` Hz, in microvolts^2."""
    low, high = band
    inside = (spectrum.frequency_hz >= low) & (spectrum.frequency_hz < high)
    return spectrum.psd[..., inside].sum(-1) * (spectrum.frequency_hz[1] - spectrum.frequency_hz[0])


def slope(spectrum: Spectrum, low: float = 2.0, high: float = 30.0) -> Float64[np.ndarray, "..."]:
    """Slope of log power over log frequency, by least squares between two frequencies: -beta of 1/f^beta noise.

    The logarithm of a periodogram scatters alike at every frequency. Weights of 1/f make every octave count alike.
    """
    f = spectrum.frequency_hz
    inside = (f >= low) & (f < high)
    weights = 1 / f[inside] / (1 / f[inside]).sum()
    x = np.log(f[inside])
    x = x - weights @ x
    return np.log(spectrum.psd[..., inside] + 1e-12) @ (weights * x) / (weights @ x**2)


def decibels(power: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """10 log10."""
    return 10 * np.log10(power)


# --- bursts and waves ------------------------------------------------------------------------------------------


class Burst(NamedTuple):
    """A short rhythm, as found around its mark."""

    peak_hz: float
    """Where its spectrum is largest."""
    amplitude_uv: float
    """Baseline to peak: the largest value of the envelope."""
    seconds: float
    """For how long the envelope is above half of that."""


def measure_burst(
    eeg_uv: Signal, sfreq: float, onset: float, duration: float, *, band: tuple[float, float] = SPINDLE_HZ
) -> Burst | None:
    """Measure a burst that is marked from `onset` for `duration` seconds; None where the signal ends too early.

    The envelope is that of the signal filtered to the band, widened by 1 Hz either way. It is followed from its
    largest value within the mark to half of that on both sides, for at most half a second beyond the mark.
    """
    margin = 2.0  # seconds, for the filter to settle
    first, stop = round((onset - margin) * sfreq), round((onset + duration + margin) * sfreq)
    if first < 0 or stop > len(eeg_uv):
        return None
    piece = eeg_uv[first:stop].astype(np.float64)
    wide = (max(band[0] - 1.0, 0.3), min(band[1] + 1.0, 0.45 * sfreq))
    filtered = signal.sosfiltfilt(signal.butter(3, wide, "bandpass", fs=sfreq, output="sos"), piece)
    envelope = np.abs(np.asarray(signal.hilbert(filtered)))
    a, b = round(margin * sfreq), len(piece) - round(margin * sfreq)
    peak = a + int(envelope[a:b].argmax())
    reach = round(0.5 * sfreq)
    above = envelope >= envelope[peak] / 2
    left = _run_length(above[max(a - reach, 0) : peak][::-1])
    right = _run_length(above[peak : b + reach])
    n_fft = round(20 * sfreq)  # bins of 0.05 Hz
    power = np.abs(np.fft.rfft(filtered[a:b] * np.hanning(b - a), n_fft)) ** 2
    hz = np.fft.rfftfreq(n_fft, 1 / sfreq)
    inside = (hz >= band[0]) & (hz <= band[1])
    return Burst(float(hz[inside][power[inside].argmax()]), float(envelope[peak]), (left + right) / sfreq)


class Wave(NamedTuple):
    """A single wave, as found in its mark."""

    amplitude_uv: float
    """Baseline to peak, with its sign: electronegative is negative."""
    seconds: float
    """Between the two places where it has come back to a tenth of its height."""


def measure_wave(
    eeg_uv: Signal, sfreq: float, onset: float, duration: float, *, sign: int = 0, highest_hz: float | None = None
) -> Wave | None:
    """Measure the largest wave within a mark; None where the signal ends too early.

    The baseline is the median of the second before and after the mark. `sign` is the direction of the wave (0:
    either). Above `highest_hz` nothing is looked at. The piece is made four times as dense first, as a spike of 30 ms
    has six samples at 200 Hz.
    """
    margin, up = 1.0, 4
    first, stop = round((onset - margin) * sfreq), round((onset + duration + margin) * sfreq)
    if first < 0 or stop > len(eeg_uv):
        return None
    piece = eeg_uv[first:stop].astype(np.float64)
    if highest_hz is not None:
        piece = signal.sosfiltfilt(signal.butter(3, highest_hz, fs=sfreq, output="sos"), piece)
    a, b = round(margin * sfreq), len(piece) - round(margin * sfreq)
    piece = piece - np.median(np.concatenate([piece[:a], piece[b:]]))
    piece = signal.resample_poly(piece, up, 1)
    upright = np.abs(piece[a * up : b * up]) if sign == 0 else sign * piece[a * up : b * up]
    peak = a * up + int(upright.argmax())
    beyond = piece * np.sign(piece[peak]) > 0.1 * abs(piece[peak])
    left, right = _run_length(beyond[:peak][::-1]), _run_length(beyond[peak:])
    return Wave(float(piece[peak]), (left + right) / (sfreq * up))


def _run_length(true: Bool[np.ndarray, "time"]) -> int:
    """How many are true before the first that is not."""
    return int(true.argmin()) if not true.all() else len(true)


def slow_wave_share(
    eeg_uv: Signal, sfreq: float, *, least_uv: float = 75.0, band: tuple[float, float] = (0.5, 2.0)
) -> Float64[np.ndarray, "second"]:
    """How much of each second lies in a slow wave (AASM: 0.5-2 Hz, more than 75 uV from peak to peak; RECALL).

    Waves are the stretches between two zero crossings upwards of the filtered signal.
    """
    filtered = signal.sosfiltfilt(signal.butter(2, band, "bandpass", fs=sfreq, output="sos"), eeg_uv.astype(np.float64))
    ups = np.flatnonzero((filtered[:-1] < 0) & (filtered[1:] >= 0)) + 1
    inside = np.zeros(len(filtered))
    for a, b in zip(ups[:-1], ups[1:], strict=True):
        lasts = (b - a) / sfreq
        if 1 / band[1] <= lasts <= 1 / band[0] and np.ptp(filtered[a:b]) > least_uv:
            inside[a:b] = 1
    seconds, rate = int(len(filtered) / sfreq), round(sfreq)
    return inside[: seconds * rate].reshape(seconds, rate).mean(1)


# --- fields ----------------------------------------------------------------------------------------------------


def angles(ch_names: Sequence[str], positions: Mapping[str, tuple[float, float]] = POSITIONS) -> np.ndarray:
    """Angle between each two electrodes as seen from the middle of the head, in degrees: [chan, chan].

    The 10-20 map is taken for an azimuthal one: from Cz (0) to T3 and T4 (1) it is 90 degrees.
    """
    x, y = np.array([positions[name] for name in ch_names]).T
    polar, azimuth = np.hypot(x, y) * np.pi / 2, np.arctan2(y, x)
    unit = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=1)
    return np.degrees(np.arccos(np.clip(unit @ unit.T, -1, 1)))


def correlation(
    eeg_uv: Float[np.ndarray, "time chan"], sfreq: float, band: tuple[float, float]
) -> Float64[np.ndarray, "chan chan"]:
    """Correlation of electrodes in a band, against their common average: the median over windows."""
    windows = _windows(eeg_uv, sfreq, band)
    windows = windows - windows.mean(1, keepdims=True)
    covariance = np.einsum("wtc,wtd->wcd", windows, windows)
    scale = np.sqrt(np.einsum("wcc->wc", covariance))
    return np.median(covariance / (scale[:, :, None] * scale[:, None, :] + 1e-12), axis=0)


def by_distance(
    matrix: Float[np.ndarray, "chan chan"], degrees: Float[np.ndarray, "chan chan"], edges: Sequence[float]
) -> Float64[np.ndarray, "bin"]:
    """Mean over the pairs of electrodes in each bin of distance; NaN where there is none."""
    upper = np.triu_indices(len(matrix), 1)
    bins = np.digitize(degrees[upper], edges) - 1
    found = [matrix[upper][bins == i] for i in range(len(edges) - 1)]
    return np.array([values.mean() if len(values) else np.nan for values in found])


def power_field(
    eeg_uv: Float[np.ndarray, "time chan"], sfreq: float, band: tuple[float, float]
) -> Float64[np.ndarray, "chan"]:
    """Power of each electrode in a band against the common average, in dB over the electrodes' mean."""
    power = np.median((_windows(eeg_uv, sfreq, band) ** 2).mean(1), axis=0)
    return decibels(power / power.mean())


def channel_features(eeg_uv: Float[np.ndarray, "time chan"], sfreq: float) -> dict[str, Float64[np.ndarray, "window"]]:
    """How channels hang together in each window, against their average, 1-30 Hz."""
    windows = _windows(eeg_uv, sfreq, (1.0, 30.0))
    covariance = np.einsum("wtc,wtd->wcd", windows, windows) / windows.shape[1]
    variance = np.einsum("wcc->wc", covariance)
    matrix = covariance / (np.sqrt(variance[:, :, None] * variance[:, None, :]) + 1e-12)
    upper = np.triu_indices(matrix.shape[1], 1)
    values = np.maximum(np.linalg.eigvalsh(covariance), 0)
    share = values / values.sum(1, keepdims=True)
    return {
        "mean absolute correlation": np.abs(matrix[:, upper[0], upper[1]]).mean(1),
        "largest component's share": share.max(1),
        "effective number of components": np.exp(-(share * np.log(share + 1e-12)).sum(1)),
        "spread of power over electrodes (dB)": decibels(variance + 1e-9).std(1),
    }


def _windows(
    eeg_uv: Float[np.ndarray, "time chan"], sfreq: float, band: tuple[float, float]
) -> Float64[np.ndarray, "window sample chan"]:
    """Windows of the signal in a band, against the average of the electrodes."""
    centred = eeg_uv.astype(np.float64) - eeg_uv.mean(1, keepdims=True)
    filtered = signal.sosfiltfilt(signal.butter(3, band, "bandpass", fs=sfreq, output="sos"), centred, axis=0)
    length = round(WINDOW_SECONDS * sfreq)
    n = len(filtered) // length
    return filtered[: n * length].reshape(n, length, -1)
