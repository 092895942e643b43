"""Faults: what breaks, where, from when on, and what stays as it was."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamese_jax.config.experiment import Config, PreprocessConfig, TrainingConfig
from siamese_jax.signals.augment import augment
from siamese_jax.signals.faults import broken
from siamese_jax.signals.preprocess import preprocess

N, N_TIMES, SFREQ = 400, 600, 200.0


@pytest.fixture(scope="module")
def tried():
    """Windows of 1 uV everywhere, their present channels, and what a fault each made of them."""
    present = np.random.default_rng(0).random((N, 19)) < 0.7
    eeg = np.broadcast_to(present[:, None], (N, N_TIMES, 19)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), N)
    worse = jax.jit(jax.vmap(partial(broken, sfreq=SFREQ)))(jnp.asarray(eeg), jnp.asarray(present), keys)
    return eeg, present, np.asarray(worse)


def test_a_fault_is_of_one_electrode_a_few_or_all_that_are_there_and_absent_ones_stay_0(tried):
    eeg, present, worse = tried
    assert not worse[np.broadcast_to(~present[:, None], worse.shape)].any()
    touched = (worse != eeg).any(1).sum(-1)
    one, all_of_them = touched == 1, touched == present.sum(-1)
    few = (touched >= 2) & (touched <= 4) & ~all_of_them
    assert (one | few | all_of_them | (touched == 0)).all()  # a fault may begin in the last sample
    assert one.mean() == pytest.approx(0.8 - 0.2 / 3, abs=0.06)
    assert few.mean() == pytest.approx(0.2 / 3, abs=0.04)
    assert all_of_them.mean() == pytest.approx(0.2, abs=0.06)
    electrode = (worse != eeg).any(1)[one].argmax(-1)
    assert set(electrode.tolist()) == set(range(19))


def test_half_the_faults_begin_within_the_window_and_leave_what_is_before(tried):
    eeg, _, worse = tried
    differs = (worse != eeg).any(-1)
    # A knock takes a while to be seen; the others are there from their first sample on.
    of_one = ((worse != eeg).any(1).sum(-1) == 1) & differs.any(1)
    first = differs[of_one].argmax(1)
    assert (first <= 10).mean() == pytest.approx(0.5, abs=0.1)
    assert (first > N_TIMES / 2).mean() == pytest.approx(0.25, abs=0.1)


def test_sizes_reach_from_tens_of_microvolts_to_millivolts_and_both_signs(tried):
    eeg, _, worse = tried
    size = np.abs(worse - eeg).max((1, 2))
    assert size.max() > 1000
    assert np.percentile(size, 25) < 60
    steps = (worse - eeg)[np.arange(N), :, (worse != eeg).any(1).argmax(-1)]
    assert (steps.min(1) < -200).any()
    assert (steps.max(1) > 200).any()


def test_as_many_windows_have_a_fault_as_asked_for_each_by_its_own_key():
    still = TrainingConfig(amplitude=0.0, electrode_dropout=0.0, flip=0.0, faults=0.3)
    config = replace(Config(), training=still)
    eeg, present = jnp.ones((N, 80, 19)), jnp.ones((N, 19), bool)
    keys = jax.random.split(jax.random.key(3), N)
    varied, _ = jax.jit(partial(augment, config))(eeg, present, keys)
    assert (varied != eeg).any((1, 2)).mean() == pytest.approx(0.3, abs=0.07)
    alone, _ = augment(config, eeg[7:8], present[7:8], keys[7:8])
    np.testing.assert_array_equal(alone, varied[7:8])


def test_the_limit_bounds_what_one_broken_electrode_does_to_the_others():
    free = Config()
    limited = replace(free, preprocess=PreprocessConfig(limit_uv=500.0))
    rng, n_times = np.random.default_rng(0), free.n_times + 2 * free.margin
    eeg, present = rng.normal(0, 30, (1, n_times, 19)).astype(np.float32), np.ones((1, 19), bool)
    clean, _ = preprocess(free, jnp.asarray(eeg), jnp.asarray(present))
    np.testing.assert_array_equal(preprocess(limited, jnp.asarray(eeg), jnp.asarray(present))[0], clean)
    eeg[..., 4] += rng.normal(0, 20_000, (1, n_times))
    rows = {
        name: preprocess(c, jnp.asarray(eeg), jnp.asarray(present))[0]
        for name, c in (("free", free), ("limited", limited))
    }
    others = np.arange(19) != 4
    added = {
        name: float(np.abs(x - clean)[..., others].max()) * free.preprocess.eeg_scale_uv for name, x in rows.items()
    }
    assert added["free"] > 1000
    assert added["limited"] <= (500 + 200) / 19  # its own EEG in the average was below 200 uV
