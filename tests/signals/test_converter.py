from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from siamese_jax.config.experiment import Config, ConverterConfig, DataConfig, ModelConfig
from siamese_jax.signals.converter import convert, frequencies

IMPLEMENTATIONS = ("fft", "dft")


def config_of(*, sfreq=200.0, seconds=2.0, context_frames=3, **converter):
    """`small` with three stages: so many frames of context."""
    return Config(
        data=DataConfig(sfreq=sfreq, window_seconds=seconds),
        converter=ConverterConfig(**{"n_fft": (64,), "band_hz": (0.0, sfreq / 2)} | converter),
        model=ModelConfig(dilations=(1, 1, context_frames - 2), shared_stages=0),
    )


def noise(config, *, n_batch=2, n_rows=3, seed=0):
    shape = (n_batch, config.n_times_out + 2 * config.context, n_rows)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def maps_of(config, rows):
    maps = jax.jit(partial(convert, config))(jnp.asarray(rows))
    assert maps.dtype == jnp.float32
    n_frames = config.n_frames + 2 * config.model.context_frames
    assert maps.shape == (len(rows), len(frequencies(config)), n_frames, rows.shape[-1])
    return np.asarray(maps)


def agree(a, b):
    """The tolerances of two implementations: against the window's maximum, and in log1p."""
    limit = 1e-5 * np.abs(b).max(axis=(1, 2, 3), keepdims=True)
    return np.all(np.abs(a - b) <= limit) and np.all(np.abs(np.log1p(a) - np.log1p(b)) <= 1e-3)


def scipy_magnitude(rows, *, n_fft, hop):
    """|sum(w x exp(-i 2 pi k n / N))| in float64; SciPy's own scaling is undone."""
    window = signal.windows.hann(n_fft, sym=False)
    options = {"nperseg": n_fft, "noverlap": n_fft - hop, "boundary": None, "padded": False, "axis": 1}
    _, _, spectrum = signal.stft(rows.astype(np.float64), window=window, **options)
    return np.abs(np.moveaxis(spectrum, -1, 2)) * window.sum()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_2000_centred_samples_give_scipy_s_129_by_126(implementation):
    small = config_of(sfreq=500.0, seconds=4.0, n_fft=(256,), hop=16, implementation=implementation)
    config = replace(small, model=ModelConfig(size="paper"))
    window = np.cumsum(np.random.default_rng(0).normal(size=(2, 2000, 3)), axis=1).astype(np.float32)
    padded = np.pad(window, ((0, 0), (128, 128), (0, 0)), mode="reflect")
    maps = maps_of(config, padded)
    assert maps.shape == (2, 129, 126, 3)
    assert agree(maps, scipy_magnitude(padded, n_fft=256, hop=16))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_10_hz_sine_stands_in_the_10_hz_bin_with_a_quarter_of_n_fft(implementation):
    config = config_of(n_fft=(80,), band_hz=(0.0, 40.0), implementation=implementation)
    n_times = config.n_times_out + 2 * config.context
    sine = 3 * np.sin(2 * np.pi * 10 * np.arange(n_times) / 200.0).astype(np.float32)
    maps = maps_of(config, sine[None, :, None])[0, :, :, 0]
    bin_10_hz = frequencies(config).index(10.0)
    assert np.all(maps.argmax(axis=0) == bin_10_hz)
    np.testing.assert_allclose(maps[bin_10_hz], 3 * 80 / 4, rtol=1e-5)
    assert np.delete(maps, [bin_10_hz - 1, bin_10_hz, bin_10_hz + 1], axis=0).max() < 1e-3


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_power_over_all_bins_is_the_power_of_the_windowed_frame(implementation):
    config = config_of(n_fft=(64,), hop=10, implementation=implementation)
    rows = noise(config)
    two_sided = np.array([1.0, *[2.0] * 31, 1.0])[None, :, None, None]
    power = (np.square(maps_of(config, rows)) * two_sided).sum(axis=1) / 64
    window = signal.windows.hann(64, sym=False)[None, :, None]
    frames = [np.square(rows[:, m * 10 : m * 10 + 64] * window).sum(axis=1) for m in range(power.shape[1])]
    np.testing.assert_allclose(power, np.stack(frames, axis=1), rtol=1e-4)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_shift_by_a_hop_is_a_shift_by_a_frame_and_twice_the_signal_twice_the_map(implementation):
    config = config_of(implementation=implementation)
    rows = noise(config)
    maps, later = maps_of(config, rows), maps_of(config, np.roll(rows, -10, axis=1))
    np.testing.assert_allclose(later[:, :, :-1], maps[:, :, 1:], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(maps_of(config, 2 * rows), 2 * maps, rtol=1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_frame_0_is_centred_on_the_window_s_first_sample_after_the_context(implementation):
    config = config_of(n_fft=(32, 64), kind="multi_resolution", implementation=implementation)
    impulse = np.zeros((1, config.n_times_out + 2 * config.context, 1), np.float32)
    impulse[0, config.context] = 1
    maps = maps_of(config, impulse)[0, :, :, 0]
    assert np.all(maps.argmax(axis=1) == config.model.context_frames)
    np.testing.assert_allclose(maps[:, config.model.context_frames], 1, rtol=1e-5)


def test_the_implementations_agree_and_auto_is_one_of_them_on_every_transformation():
    config = config_of(kind="multi_resolution", n_fft=(64, 128, 32), band_hz=(2.0, 60.0))
    fft, dft, auto = (
        replace(config, converter=replace(config.converter, implementation=name)) for name in ("fft", "dft", "auto")
    )
    rows = noise(config, n_batch=8)
    assert agree(maps_of(dft, rows), maps_of(fft, rows))
    wanted = maps_of(dft, rows)
    np.testing.assert_array_equal(maps_of(auto, rows), wanted)
    one_by_one = jax.vmap(lambda row: convert(auto, row[None])[0])(jnp.asarray(rows))
    np.testing.assert_allclose(one_by_one, wanted, rtol=1e-4, atol=1e-4)
    assert jax.local_device_count() >= 8
    devices = jax.pmap(partial(convert, auto))(jnp.asarray(rows)[:, None])
    np.testing.assert_allclose(devices[:, 0], wanted, rtol=1e-4, atol=1e-4)
    gradients = [jax.jit(jax.grad(partial(mean_square, c)))(jnp.asarray(rows)) for c in (auto, fft)]
    np.testing.assert_allclose(*gradients, rtol=1e-3, atol=1e-7)


def mean_square(config, rows):
    return jnp.mean(jnp.square(convert(config, rows)))


def test_each_resolution_is_the_stft_of_its_own_length_on_the_same_centres():
    config = config_of(kind="multi_resolution", n_fft=(32, 128, 64), band_hz=(0.0, 60.0))
    rows = noise(config)
    maps, hz = maps_of(config, rows), np.array(frequencies(config))
    first = 0
    for n_fft in (32, 128, 64):
        surplus = 64 - n_fft // 2
        whole = scipy_magnitude(rows[:, surplus : rows.shape[1] - surplus], n_fft=n_fft, hop=10)
        kept = np.arange(0, 60.1, 200 / n_fft)
        np.testing.assert_allclose(hz[first : first + len(kept)], kept)
        assert agree(maps[:, first : first + len(kept)], whole[:, : len(kept)])
        first += len(kept)
    assert first == maps.shape[1]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_band_keeps_the_bins_on_both_its_edges_and_no_others(implementation):
    full = config_of(n_fft=(100,), implementation=implementation)
    config = replace(full, converter=replace(full.converter, band_hz=(4.0, 50.0)))
    assert frequencies(config) == tuple(np.arange(4.0, 51.0, 2.0))
    rows = noise(config)
    np.testing.assert_allclose(maps_of(config, rows), maps_of(full, rows)[:, 2:26], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("amplitude", ["magnitude", "log"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_silence_gives_zero_and_a_finite_gradient(implementation, amplitude):
    config = config_of(implementation=implementation, amplitude=amplitude)
    rows = jnp.asarray(noise(config)).at[0].set(0.0)
    assert np.all(maps_of(config, rows)[0] == 0)
    gradient = jax.jit(jax.grad(lambda x: convert(config, x).sum()))(rows)
    assert np.all(gradient[0] == 0) and np.isfinite(gradient).all() and np.any(gradient[1] != 0)


def test_log_is_log1p_of_the_magnitude():
    config = config_of()
    logarithmic = replace(config, converter=replace(config.converter, amplitude="log"))
    rows = noise(config)
    np.testing.assert_allclose(maps_of(logarithmic, rows), np.log1p(maps_of(config, rows)), rtol=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_half_precision_in_is_float32_inside(implementation):
    config = config_of(implementation=implementation)
    rounded = jnp.asarray(noise(config)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(maps_of(config, rounded), maps_of(config, rounded.astype(jnp.float32)))


def test_none_hands_on_the_samples_as_frames_of_one_bin():
    config = config_of(kind="none")
    rows = noise(config)
    np.testing.assert_array_equal(maps_of(config, rows)[:, 0], rows)


def test_rows_of_another_length_are_refused():
    config = config_of()
    with pytest.raises(ValueError, match=rf"time={config.n_times_out + 2 * config.context}.*given \(1, 400, 2\)"):
        convert(config, jnp.zeros((1, 400, 2)))


def halves(config, rows):
    """An own converter: two bins a frame, the rows' samples there and half of them."""
    first = config.converter.half
    frames = rows[:, first :: config.converter.stride][:, : config.n_frames + 2 * config.model.context_frames]
    return jnp.stack([frames, frames / 2], 1)


def too_few(config, rows):
    return rows[:, None, :3]


def test_an_own_converter_is_called_by_its_name_and_its_maps_are_checked():
    config = Config(converter=ConverterConfig(kind=f"{__name__}:halves"))
    rows = jnp.arange(2 * (config.n_times_out + 2 * config.context) * 3, dtype=jnp.float32).reshape(2, -1, 3)
    maps = convert(config, rows)
    assert maps.shape == (2, 2, config.n_frames + 2 * config.model.context_frames, 3)
    np.testing.assert_array_equal(maps, halves(config, rows))
    wrong = replace(config, converter=ConverterConfig(kind=f"{__name__}:too_few"))
    with pytest.raises(ValueError, match=r"must give \[batch=2, freq, frame=\d+, row=3\], and gives \(2, 1, 3, 3\)"):
        convert(wrong, rows)
