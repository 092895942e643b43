"""Packed signal is what was packed."""

import base64
import zlib

import numpy as np
import pytest

from siamese_jax.review.packing import packed, steps


def unpacked(text, n_chans):
    """As the page's script does: inflate, put the bytes together, add up along time, wrapping around."""
    low, high = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(2, -1).astype(np.uint16)
    differences = (low | high << 8).astype(np.int16).reshape(n_chans, -1)
    return np.cumsum(differences, axis=1, dtype=np.int16).T


@pytest.mark.parametrize("shape", [(1, 1), (2000, 19), (7, 3)])
def test_samples_come_back_also_where_differences_wrap_around(shape):
    values = np.random.default_rng(0).integers(-32_768, 32_768, shape).astype(np.int16)
    np.testing.assert_array_equal(unpacked(packed(values), shape[1]), values)


def test_steps_are_half_a_microvolt_and_hold_what_does_not_fit():
    given = np.array([[0.0, 0.26, -0.26, 1e9, -1e9, np.nan]], np.float32)
    np.testing.assert_array_equal(steps(given), [[0, 1, -1, 32_767, -32_768, 0]])
    noise = np.random.default_rng(0).normal(0, 30, (2000, 19)).astype(np.float32)
    assert np.abs(steps(noise) * 0.5 - noise).max() <= 0.25


def test_eeg_takes_less_than_half_of_its_bytes():
    """Waves of 40 uV at 200 Hz with 2 uV of noise, 19 electrodes."""
    rng, seconds = np.random.default_rng(0), np.arange(2000) / 200
    waves = 40 * np.sin(2 * np.pi * rng.uniform(1, 12, 19) * seconds[:, None])
    text = packed(steps((waves + rng.normal(0, 2, waves.shape)).astype(np.float32)))
    assert len(text) < 0.6 * waves.size * 2
