"""What the simulator's page measures, on signals whose answers are known."""

import numpy as np
import pytest

from experiments.simulator.measures import (
    angles,
    band_power,
    by_distance,
    channel_features,
    correlation,
    cut,
    measure_burst,
    measure_wave,
    power_field,
    pure_windows,
    slope,
    slow_wave_share,
    spectra,
    typical,
)

RATE = 200.0


def noise(seconds: int, beta: float, seed: int = 0) -> np.ndarray:
    """Noise whose power falls as f^-beta."""
    n = round(seconds * RATE)
    rng = np.random.default_rng(seed)
    f = np.fft.rfftfreq(n, 1 / RATE)
    spectrum = rng.normal(size=len(f)) + 1j * rng.normal(size=len(f))
    return np.fft.irfft(spectrum * np.maximum(f, f[1]) ** (-beta / 2), n)


def windows(eeg_uv: np.ndarray) -> np.ndarray:
    return cut(eeg_uv, RATE, np.arange(0, int(len(eeg_uv) / RATE) - 3, 4))


def test_windows_lie_in_one_stage_and_begin_where_they_say():
    stages = np.array([0] * 6 + [2] * 10 + [-1] + [2] * 7)
    assert pure_windows(stages, 2).tolist() == [8, 12, 20]
    assert pure_windows(stages, 0).tolist() == [0]
    samples = np.arange(24 * RATE)
    assert cut(samples, RATE, np.array([8]))[0, [0, -1]].tolist() == [8 * RATE, 12 * RATE - 1]


def test_a_sine_has_the_power_of_a_sine_in_its_band():
    t = np.arange(0, 40, 1 / RATE)
    spectrum = spectra(windows(30 * np.sin(2 * np.pi * 10 * t)), RATE)
    assert band_power(spectrum, (8, 12)) == pytest.approx(30**2 / 2, rel=1e-3)
    assert band_power(spectrum, (16, 30)).max() < 1e-3


def test_the_typical_spectrum_of_noise_is_its_density_and_no_artefact_moves_it():
    eeg = np.random.default_rng(0).normal(0, 5, round(2000 * RATE))
    density = 2 * 5**2 / RATE
    assert typical(spectra(windows(eeg), RATE)).psd[4:-4].mean() == pytest.approx(density, rel=0.02)
    eeg[: round(100 * RATE)] *= 100
    assert typical(spectra(windows(eeg), RATE)).psd[4:-4].mean() == pytest.approx(density, rel=0.15)


@pytest.mark.parametrize("beta", [0, 1, 2])
def test_the_slope_is_that_of_the_noise(beta):
    assert slope(typical(spectra(windows(noise(1200, beta)), RATE))) == pytest.approx(-beta, abs=0.06)


@pytest.mark.parametrize(("hz", "amplitude", "sigma"), [(11.8, 20.0, 0.3), (13.3, 40.0, 0.2), (14.7, 12.0, 0.4)])
def test_a_burst_has_its_frequency_amplitude_and_duration(hz, amplitude, sigma):
    t = np.arange(0, 20, 1 / RATE) - 10
    eeg = amplitude * np.exp(-0.5 * (t / sigma) ** 2) * np.sin(2 * np.pi * hz * t) + 50 * np.sin(2 * np.pi * 0.7 * t)
    found = measure_burst(eeg, RATE, 9.2, 1.6)
    assert found.peak_hz == pytest.approx(hz, abs=0.1)
    assert found.amplitude_uv == pytest.approx(amplitude, rel=0.05)
    assert found.seconds == pytest.approx(2.355 * sigma, rel=0.08)
    assert measure_burst(eeg, RATE, 0.5, 1.0) is None and measure_burst(eeg, RATE, 18.0, 1.0) is None


@pytest.mark.parametrize("base_ms", [30, 70, 200])
def test_a_triangle_has_its_height_and_width_and_the_other_way_is_not_looked_at(base_ms):
    t = np.arange(0, 10, 1 / RATE)
    half = base_ms / 2000
    eeg = 7.0 - 80 * np.maximum(1 - np.abs(t - 5) / half, 0) + 200 * np.maximum(1 - np.abs(t - 5.35) / 0.05, 0)
    found = measure_wave(eeg, RATE, 4.8, 0.7, sign=-1)
    assert found.amplitude_uv == pytest.approx(-80, rel=0.12)  # at 200 Hz a triangle of 30 ms has no sharp top
    assert found.seconds == pytest.approx(0.9 * base_ms / 1000, abs=0.004)
    assert measure_wave(eeg, RATE, 4.8, 0.7).amplitude_uv == pytest.approx(200, rel=0.05)
    assert measure_wave(eeg, RATE, 0.2, 0.5) is None


@pytest.mark.parametrize(("hz", "peak_to_peak", "share"), [(1.0, 100, 1.0), (1.0, 60, 0.0), (5.0, 400, 0.0)])
def test_slow_waves_are_slow_and_large(hz, peak_to_peak, share):
    t = np.arange(0, 60, 1 / RATE)
    found = slow_wave_share(peak_to_peak / 2 * np.sin(2 * np.pi * hz * t), RATE)
    assert len(found) == 60 and found[5:55].mean() == pytest.approx(share, abs=0.02)


def test_angles_are_those_of_the_ten_twenty_system():
    found = angles(("Cz", "T3", "T4", "Fz", "C3", "Fp1", "Fp2"))
    assert found[0, 1] == pytest.approx(90) and found[1, 2] == pytest.approx(180)
    assert found[0, 3] == pytest.approx(45) and found[1, 4] == pytest.approx(45)
    np.testing.assert_allclose(found, found.T)
    np.testing.assert_allclose(np.diag(found), 0, atol=1e-5)
    assert 30 < found[5, 6] < 40  # two tenths of the circumference at the hairline: 36 degrees


def test_the_correlation_of_a_mixture_is_the_mixture():
    own = np.stack([noise(400, 1, seed) for seed in range(2)])
    a, b = own[0], 0.6 * own[0] + 0.8 * own[1]
    eeg = np.stack([a, b, -a, -b], axis=1)  # their average is zero
    found = correlation(eeg, RATE, (4.0, 8.0))
    assert found[0, 1] == pytest.approx(0.6, abs=0.08) and found[0, 2] == pytest.approx(-1)
    np.testing.assert_allclose(np.diag(found), 1)
    degrees = np.array([[0, 40, 90, 40], [40, 0, 40, 90], [90, 40, 0, 40], [40, 90, 40, 0]], float)
    near, far, none = by_distance(found, degrees, (0, 60, 120, 180))
    assert near == pytest.approx(np.mean([found[0, 1], found[0, 3], found[1, 2], found[2, 3]]))
    assert far == pytest.approx(-1) and np.isnan(none)


def test_the_field_is_relative_and_of_its_band():
    t = np.arange(0, 60, 1 / RATE)
    alpha, slow = np.sin(2 * np.pi * 10 * t), np.sin(2 * np.pi * 2 * t)
    eeg = np.stack([2 * alpha, -2 * alpha, slow, -slow], axis=1)
    found = power_field(eeg, RATE, (8.0, 13.0))
    np.testing.assert_allclose(found[:2], 10 * np.log10(2), atol=0.01)  # half of the electrodes have all of it
    assert (found[2:] < -30).all()


def test_one_source_is_one_component_and_independent_channels_are_many():
    own = np.stack([noise(60, 1, seed) for seed in range(8)], axis=1)
    one = channel_features(own[:, :1] * np.arange(-3.5, 4), RATE)
    assert one["effective number of components"].max() < 1.01
    assert one["mean absolute correlation"].min() > 0.999 and one["largest component's share"].min() > 0.999
    many = channel_features(own, RATE)
    assert many["effective number of components"].min() > 4 and many["mean absolute correlation"].max() < 0.45
