"""Noise: its spectrum, its mixing, its steadiness across blocks, its bursts."""

import numpy as np
import pytest
from scipy.signal import welch

from data_tools.simulator.noise import BLOCK_SECONDS, Blocks, NoiseSource, add_noise, unit_power, wander

SFREQ, SECONDS = 200.0, 400


def made(mixing, psd_of, *, bursts=0.0, seconds=SECONDS, seed=0):
    signals = np.zeros((len(mixing), round(seconds * SFREQ)), np.float32)
    blocks = Blocks.of(signals.shape[1], SFREQ)
    psd = np.stack([psd_of(blocks.frequency_hz, centre) for centre in blocks.centres])
    source = NoiseSource(np.array(mixing, float), psd, bursts)
    add_noise(signals, [source], blocks, np.random.default_rng(seed))
    return signals.astype(float)


def hill(frequency, _centre):
    return 9.0 * unit_power(np.exp(-0.5 * ((frequency - 10) / 2) ** 2), frequency)


def test_noise_has_the_spectrum_that_was_asked_for():
    frequency, density = welch(made([[1.0]], hill)[0], SFREQ, nperseg=400)
    asked = hill(frequency, 0) * (frequency > 0)
    near = (frequency >= 6) & (frequency <= 14)
    np.testing.assert_allclose(density[near], asked[near], rtol=0.25)
    assert density[(frequency > 25) & (frequency < 95)].max() < 0.01 * asked.max()


def test_no_power_is_silence():
    assert not made([[1.0]], lambda frequency, _: 0 * frequency, seconds=20).any()


def test_generators_reach_the_leads_as_mixed():
    mixing = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, -2.0]])
    np.testing.assert_allclose(np.cov(made(mixing, hill)), 9.0 * mixing @ mixing.T, atol=1.5)


@pytest.mark.parametrize("bursts", [0.0, 0.5])
def test_power_is_steady_across_blocks_and_at_both_ends(bursts):
    hop = round(BLOCK_SECONDS / 2 * SFREQ)
    signals = made(np.eye(20), hill, bursts=bursts)
    power = (signals**2).mean(0)
    places = power.reshape(-1, 8, hop // 8).mean(axis=(0, 2))
    assert places.max() / places.min() < 1.15
    assert power.mean() == pytest.approx(9.0, rel=0.05)
    for end in (power[:hop], power[-hop:]):
        assert end.mean() == pytest.approx(9.0, rel=0.3)


def test_a_spectrum_glides_into_the_next():
    def louder(frequency, centre):
        return hill(frequency, centre) * (16.0 if centre > SECONDS / 2 else 1.0)

    power = (made(np.eye(20), louder) ** 2).mean(0).reshape(SECONDS, -1).mean(1)  # of a second each
    middle = SECONDS // 2
    assert power[: middle - 8].mean() == pytest.approx(9.0, rel=0.1)
    assert power[middle + 8 :].mean() == pytest.approx(144.0, rel=0.1)
    assert (np.diff(power[middle - 6 : middle + 6]) < 60).all()


def test_bursts_are_heavy_tailed_and_each_generator_has_its_own():
    def kurtosis(x):
        return (x**4).mean() / (x**2).mean() ** 2 - 3

    steady, bursting = (made(np.eye(2), hill, bursts=bursts) for bursts in (0.0, 0.5))
    assert abs(kurtosis(steady[0])) < 0.3 and kurtosis(bursting[0]) > 1.0
    envelopes = (bursting**2).reshape(2, -1, 100).mean(2)
    assert abs(np.corrcoef(envelopes)[0, 1]) < 0.15


@pytest.mark.parametrize("seconds", [1, 4, 9, 65])
def test_any_length_is_filled(seconds):
    signals = made(np.eye(3), hill, seconds=seconds, bursts=0.3)
    assert signals.shape == (3, seconds * SFREQ)
    assert (np.abs(signals.reshape(3, -1, 100)).max(2) > 0.1).all()


def test_wander_is_standard_and_forgets_as_told():
    steps = wander(200_000, 20.0, np.random.default_rng(1))
    assert steps.mean() == pytest.approx(0.0, abs=0.1) and steps.var() == pytest.approx(1.0, abs=0.1)
    for lag in (1, 20, 40):
        assert (steps[lag:] * steps[:-lag]).mean() == pytest.approx(np.exp(-lag / 20), abs=0.06)
