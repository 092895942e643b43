from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from siamese_jax.config.experiment import (
    Config,
    ConverterConfig,
    DataConfig,
    ModelConfig,
    PreprocessConfig,
    TrainingConfig,
)
from siamese_jax.signals.preprocess import filter_report, filter_taps, preprocess

REFERENTIAL = PreprocessConfig(montage="referential", eeg_scale_uv=1.0, other_scale_uv=1.0)
FOUR = ("C3", "Cz", "C4", "Pz")


def config_of(prep=REFERENTIAL, *, ch_names=FOUR, sfreq=200.0, seconds=2.0, **parts):
    data = DataConfig(ch_names=ch_names, sfreq=sfreq, window_seconds=seconds)
    return Config(data=data, preprocess=prep, training=TrainingConfig(flip=0.0), **parts)


def rows_of(config, eeg, present=None):
    eeg = jnp.asarray(eeg, jnp.float32)
    present = jnp.ones((len(eeg), eeg.shape[-1]), bool) if present is None else jnp.asarray(present)
    rows, row_present = jax.jit(partial(preprocess, config))(eeg, present)
    assert rows.dtype == jnp.float32
    return np.asarray(rows), np.asarray(row_present)


def times(config):
    """Seconds from the window's first sample, margins included."""
    return (np.arange(config.n_times + 2 * config.margin) - config.margin) / config.data.sfreq


def recording(n_times, n_chans, *, seed=0):
    """Noise falling as 1/f, with offsets of 500 uV and a drift: what a real amplifier hands over."""
    rng = np.random.default_rng(seed)
    eeg = np.cumsum(rng.normal(0, 4, (n_times, n_chans)), axis=0) + rng.normal(0, 5, (n_times, n_chans))
    return eeg - eeg.mean(axis=0) + rng.choice([-500.0, 500.0], n_chans)


def measured_gain(config, hz, channel=0):
    """Amplitude of the filtered sine of 100 uV over 100 uV, from both its phases."""
    phase = 2 * np.pi * hz * times(config)
    eeg = np.stack([np.sin(phase), np.cos(phase)])[..., None] * 100 * np.ones(len(config.data.ch_names))
    rows, _ = rows_of(config, eeg)
    return np.sqrt(np.square(rows[:, :, channel] / 100).sum(axis=0)).mean()


@pytest.mark.parametrize(("half_seconds", "notch_half"), [(2.0, 1.0), (0.5, 1.65)])
def test_the_taps_are_scipy_s_windowed_sinc_but_for_the_gain_at_dc(half_seconds, notch_half):
    config = config_of(replace(REFERENTIAL, eeg_band_hz=(1.0, 90.0), filter_half_seconds=half_seconds))
    taps = filter_taps(config, "eeg")
    edges = [1.0, 50 - notch_half, 50 + notch_half, 90.0]
    oracle = signal.firwin(len(taps), edges, pass_zero=False, scale=False, fs=200.0, window="hamming")
    window = signal.windows.hamming(len(taps))
    np.testing.assert_allclose(taps, oracle - window * oracle.sum() / window.sum(), atol=1e-12)
    assert abs(taps.sum()) < 1e-14
    np.testing.assert_array_equal(taps, taps[::-1])


def test_gain_of_sines_is_one_inside_half_at_the_edges_and_nothing_at_the_mains():
    config = config_of()
    assert measured_gain(config, 10.0) == pytest.approx(1, abs=3e-3)
    assert measured_gain(config, 45.0) == pytest.approx(1, abs=3e-3)
    assert measured_gain(config, 0.5) == pytest.approx(0.5, abs=3e-3)
    assert measured_gain(config, 55.0) == pytest.approx(0.5, abs=3e-3)
    assert measured_gain(config, 50.0) < 4e-3
    assert measured_gain(config, 70.0) < 4e-3
    assert measured_gain(config, 0.0) < 1e-6


def test_harmonics_of_the_mains_are_notched_and_a_band_without_mains_is_left_alone():
    wide = config_of(replace(REFERENTIAL, eeg_band_hz=(0.5, None)), sfreq=500.0)
    assert all(measured_gain(wide, hz) < 4e-3 for hz in (50.0, 100.0, 150.0, 200.0))
    assert all(measured_gain(wide, hz) == pytest.approx(1, abs=4e-3) for hz in (47.0, 75.0, 175.0, 230.0))
    without = config_of(replace(REFERENTIAL, mains_hz=None))
    assert measured_gain(without, 50.0) == pytest.approx(1, abs=4e-3)
    below = replace(REFERENTIAL, eeg_band_hz=(0.5, 30.0))
    taps = [filter_taps(config_of(replace(below, mains_hz=mains)), "eeg") for mains in (50.0, None)]
    np.testing.assert_array_equal(*taps)


@pytest.mark.parametrize("implementation", ["fft", "convolution"])
def test_without_a_low_edge_an_offset_passes_unchanged(implementation):
    config = config_of(replace(REFERENTIAL, eeg_band_hz=(None, 30.0), implementation=implementation))
    phase = 2 * np.pi * 10 * times(config)
    eeg = np.broadcast_to(500 + 20 * np.sin(phase)[None, :, None], (1, len(phase), 4))
    rows, _ = rows_of(config, eeg)
    whole_cycles = rows[:, config.context : config.context + config.n_times_out]
    assert whole_cycles.mean() == pytest.approx(500, abs=1e-3)
    assert whole_cycles.std() == pytest.approx(20 / np.sqrt(2), rel=5e-3)


def test_every_channel_kind_has_its_own_band_and_scale():
    prep = replace(REFERENTIAL, eeg_scale_uv=50.0, other_scale_uv=500.0, mains_hz=None)
    config = config_of(prep, ch_names=("C3", "ECG1", "EMG1", "EOG1"), sfreq=500.0)
    at_10_hz, at_100_hz = ([measured_gain(config, hz, channel=c) for c in range(4)] for hz in (10.0, 100.0))
    np.testing.assert_allclose(at_10_hz, [1 / 50, 1 / 500, 0, 1 / 500], atol=1e-4)
    np.testing.assert_allclose(at_100_hz, [0, 1 / 500, 1 / 500, 0], atol=1e-4)


@pytest.mark.parametrize("implementation", ["fft", "convolution"])
def test_an_electrode_s_offset_changes_no_row(implementation):
    config = config_of(replace(REFERENTIAL, implementation=implementation))
    eeg = recording(config.n_times + 2 * config.margin, 4)[None]
    eeg = np.round(2 * eeg) / 2  # float32 holds these exactly beside an offset: what differs is our arithmetic
    rows, _ = rows_of(config, eeg)
    offset, _ = rows_of(config, eeg + np.array([500.0, -500.0, 5000.0, 50_000.0]))
    np.testing.assert_allclose(offset, rows, atol=5e-5)


@pytest.mark.parametrize("implementation", ["fft", "convolution"])
@pytest.mark.parametrize(("sfreq", "lowered"), [(200.0, None), (500.0, 250.0), (500.0, 200.0)])
def test_a_window_gives_the_rows_of_the_whole_recording(sfreq, lowered, implementation):
    config = config_of(PreprocessConfig(sfreq=lowered, implementation=implementation), sfreq=sfreq)
    eeg = recording(round(40 * sfreq), 4)
    filtered = signal.fftconvolve(eeg, filter_taps(config, "eeg")[:, None], mode="same", axes=0)
    if lowered == 250.0:
        filtered = filtered[::2]
    elif lowered:
        interpolator = signal.firwin(401, 150.0, window=("kaiser", 14.0), fs=2 * sfreq)
        filtered = signal.resample_poly(filtered, 2, 5, window=interpolator, axis=0)
    oracle = (filtered - filtered.mean(axis=1, keepdims=True)) / 50
    columns = [4, 17, 5, 18]  # C3 Cz C4 Pz among the 19 rows
    starts = [round(s * sfreq) for s in (10.0, 13.3, 22.22)]
    windows = np.stack([eeg[s - config.margin : s + config.n_times + config.margin] for s in starts])
    rows, row_present = rows_of(config, windows)
    assert rows.shape == (3, config.n_times_out + 2 * config.context, 19)
    assert np.flatnonzero(row_present[0]).tolist() == sorted(columns)
    tolerance = 3e-5 if lowered else 1e-5  # a lower rate folds back what the stop band leaves
    for start, row in zip(starts, rows, strict=True):
        first = round(start * config.decimation) - config.context
        wanted = oracle[first : first + len(row)]
        assert np.abs(row[:, columns] - wanted).max() < tolerance * wanted.std()


@pytest.mark.parametrize(
    ("sfreq", "lowered", "n_fft", "hop"),
    [
        (500.0, None, 32, 10),
        (500.0, 250.0, 30, 10),
        (500.0, 200.0, 30, 8),
        (512.0, 384.0, 34, 8),
        (500.0, 300.0, 32, 4),
    ],
)
def test_the_convolution_gives_what_the_fft_gives_for_every_kind_of_channel(sfreq, lowered, n_fft, hop):
    """At whole and broken ratios of rates, where the context is whole groups of samples and where it is not."""
    bands = {"eeg_band_hz": (0.5, 55.0), "ecg_band_hz": (0.5, 80.0), "emg_band_hz": (20.0, 90.0)}
    prep = replace(REFERENTIAL, sfreq=lowered, **bands)
    parts = {"ch_names": ("EMG1", "C3", "ECG1", "Cz", "EOG1"), "converter": ConverterConfig(n_fft=(n_fft,), hop=hop)}
    by_fft, by_convolution = (
        config_of(replace(prep, implementation=way), sfreq=sfreq, **parts) for way in ("fft", "convolution")
    )
    eeg = np.stack([recording(by_fft.n_times + 2 * by_fft.margin, 5, seed=s) for s in range(2)])
    a, b = rows_of(by_fft, eeg)[0], rows_of(by_convolution, eeg)[0]
    assert a.shape == b.shape == (2, by_fft.n_times_out + 2 * by_fft.context, 5)
    # A lower rate: what the stop band leaves is cut off by one and folded back by the other.
    tolerance = 3e-4 if lowered else 2e-5
    assert (np.abs(a - b).max(axis=(0, 1)) < tolerance * a.std(axis=(0, 1))).all()


def test_rows_see_every_sample_within_the_filter_s_reach_and_none_beyond():
    config = config_of()
    surplus = config.margin - config.filter_half - config.context
    assert surplus > 0
    eeg = recording(config.n_times + 2 * config.margin, 4)[None]
    rows, _ = rows_of(config, eeg)
    beyond = eeg.copy()
    beyond[:, :surplus] += 1000
    beyond[:, -surplus:] -= 1000
    np.testing.assert_allclose(rows_of(config, beyond)[0], rows, atol=2e-3)
    within = eeg.copy()
    within[:, surplus] += 1e6
    np.testing.assert_array_less(0.05, np.abs(rows_of(config, within)[0] - rows)[:, 0].min())


def test_nan_in_an_absent_electrode_changes_nothing_and_its_rows_are_zero_and_marked():
    config = config_of(PreprocessConfig())
    eeg = np.stack([recording(config.n_times + 2 * config.margin, 4, seed=s) for s in range(2)])
    present = np.array([[True, False, True, True], [True, True, True, False]])
    rows, row_present = rows_of(config, np.where(present[:, None], eeg, 0.0), present)
    garbage, _ = rows_of(config, np.where(present[:, None], eeg, np.nan), present)
    np.testing.assert_array_equal(garbage, rows)
    assert row_present.sum(axis=1).tolist() == [3, 3]
    assert np.all(rows[~np.broadcast_to(row_present[:, None], rows.shape)] == 0)


def test_fixed_scaling_is_linear_and_window_scaling_ignores_the_scale():
    config = config_of()
    eeg = recording(config.n_times + 2 * config.margin, 4)[None]
    np.testing.assert_allclose(rows_of(config, 2 * eeg)[0], 2 * rows_of(config, eeg)[0], rtol=1e-6)
    own = config_of(
        replace(REFERENTIAL, scaling="window"),
        model=ModelConfig(size="paper"),
        converter=ConverterConfig(hop=8),
    )
    eeg = np.random.default_rng(0).normal(0, 50, (1, own.n_times + 2 * own.margin, 4))
    rows, _ = rows_of(own, eeg)
    np.testing.assert_allclose(rows_of(own, 1000 * eeg)[0], rows, rtol=5e-3, atol=1e-4)
    inside = rows[0, own.context : own.context + own.n_times_out]
    np.testing.assert_allclose(np.median(np.abs(inside - np.median(inside, 0)), 0) * 1.4826, 1, rtol=5e-3)
    assert np.all(rows_of(own, 0 * eeg)[0] == 0)


def test_the_report_says_what_scipy_finds_of_the_taps():
    config = config_of(ch_names=("C3", "ECG1", "EMG1"), sfreq=500.0)
    report = filter_report(config)
    assert {kind: tuple(gains) for kind, gains in report.items()} == {
        "eeg": (0.0, 0.5, 50.0, 55.0),
        "ecg": (0.0, 0.5, 50.0),
        "emg": (0.0, 20.0, 50.0),
    }
    for kind, gains in report.items():
        assert gains.pop(0.0) < -150
        _, response = signal.freqz(filter_taps(config, kind), worN=list(gains), fs=500.0)
        np.testing.assert_allclose(list(gains.values()), 20 * np.log10(np.abs(response)), atol=1e-6)


def test_a_window_of_another_shape_is_refused():
    config = config_of()
    with pytest.raises(ValueError, match=r"given \(400, 4\)"):
        preprocess(config, jnp.zeros((1, 400, 4)), jnp.ones((1, 4), bool))


def test_jit_gives_what_eager_gives_and_the_gradient_is_finite_at_zero():
    config = config_of(
        replace(REFERENTIAL, scaling="window"),
        model=ModelConfig(size="paper"),
        converter=ConverterConfig(hop=8),
    )
    eeg = recording(config.n_times + 2 * config.margin, 4)[None]
    present = jnp.ones((1, 4), bool)
    eager, _ = preprocess(config, jnp.asarray(eeg, jnp.float32), present)
    np.testing.assert_allclose(rows_of(config, eeg)[0], eager, rtol=1e-4, atol=1e-5)
    gradient = jax.grad(lambda x: preprocess(config, x, present)[0].sum())(jnp.zeros(eeg.shape))
    assert np.isfinite(gradient).all()
