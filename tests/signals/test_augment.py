from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamese_jax.config import Config, DataConfig, TrainingConfig
from siamese_jax.signals.augment import augment
from siamese_jax.signals.montage import apply_montage, montage_rows
from siamese_jax.vocabulary import LEADS_29, TEN_TWENTY

STILL = TrainingConfig(amplitude=0.0, electrode_dropout=0.0, flip=0.0)


def config_of(*, ch_names=TEN_TWENTY, **training):
    return Config(data=DataConfig(ch_names=ch_names), training=replace(STILL, **training))


def batch(n_batch=16, n_chans=19, n_times=12, seed=0):
    rng = np.random.default_rng(seed)
    present = rng.random((n_batch, n_chans)) < 0.8
    eeg = np.where(present[:, None], rng.normal(0, 50, (n_batch, n_times, n_chans)), 0).astype(np.float32)
    return jnp.asarray(eeg), jnp.asarray(present)


def augmented(config, eeg, present, *, seed=0):
    keys = jax.random.split(jax.random.key(seed), len(eeg))
    return jax.jit(partial(augment, config))(eeg, present, keys)


def test_probability_zero_changes_nothing_at_all():
    eeg, present = batch()
    new_eeg, new_present = augmented(config_of(), eeg, present)
    np.testing.assert_array_equal(new_eeg, eeg)
    np.testing.assert_array_equal(new_present, present)


def test_a_sample_depends_on_its_own_key_alone():
    config = config_of(amplitude=0.3, electrode_dropout=0.3, flip=0.5)
    eeg, present = batch()
    keys = jax.random.split(jax.random.key(1), len(eeg))
    whole = augment(config, eeg, present, keys)
    order = np.random.default_rng(0).permutation(len(eeg))
    shuffled = augment(config, eeg[order], present[order], keys[order])
    alone = augment(config, eeg[5:6], present[5:6], keys[5:6])
    for a, b, c in zip(whole, shuffled, alone, strict=True):
        np.testing.assert_array_equal(a[order], b)
        np.testing.assert_array_equal(a[5:6], c)
    other = augment(config, eeg, present, keys.at[3].set(jax.random.key(99)))
    changed = [i for i in range(len(eeg)) if not np.array_equal(whole[0][i], other[0][i])]
    assert changed == [3]


def test_one_gain_a_sample_uniform_around_1():
    eeg, present = batch(n_batch=400)
    new_eeg, _ = augmented(config_of(amplitude=0.2), eeg, present)
    there = np.broadcast_to(present[:, None], eeg.shape)
    gains = np.where(there, np.asarray(new_eeg) / np.where(there, eeg, 1), np.nan)
    of_sample = np.nanmean(gains, axis=(1, 2))
    np.testing.assert_allclose(gains[there], np.broadcast_to(of_sample[:, None, None], eeg.shape)[there], rtol=1e-5)
    assert 0.8 <= of_sample.min() < 0.82 and 1.18 < of_sample.max() <= 1.2
    assert of_sample.mean() == pytest.approx(1, abs=3 * 0.2 / np.sqrt(3 * 400))


def test_electrodes_drop_out_at_the_rate_asked_for_and_are_zero_and_marked():
    eeg, present = batch(n_batch=400)
    new_eeg, new_present = (np.asarray(a) for a in augmented(config_of(electrode_dropout=0.25), eeg, present))
    assert not np.any(new_present & ~np.asarray(present))
    kept = new_present.sum() / np.asarray(present).sum()
    assert kept == pytest.approx(0.75, abs=3 * np.sqrt(0.25 * 0.75 / np.asarray(present).sum()))
    np.testing.assert_array_equal(new_eeg, np.where(new_present[:, None], eeg, 0))


def test_the_last_electrode_never_drops_out():
    eeg, present = batch(n_batch=200)
    present = present.at[:, 0].set(False).at[:, 1].set(True)
    _, new_present = augmented(config_of(electrode_dropout=0.99), eeg, present)
    assert np.all(np.asarray(new_present).sum(axis=1) >= 1)
    assert np.asarray(new_present).sum(axis=1).mean() < 1.5
    assert not np.any(new_present & ~present)


def test_flip_exchanges_left_and_right_signals_and_presence_and_leaves_the_rest():
    eeg, present = batch(n_batch=200, n_chans=29)
    config = config_of(ch_names=LEADS_29, flip=0.5)
    new_eeg, new_present = (np.asarray(a) for a in augmented(config, eeg, present))
    mirror = "Fp2 Fp1 F4 F3 C4 C3 P4 P3 O2 O1 F8 F7 T4 T3 T6 T5 Fz Cz Pz PG2 PG1 A2 A1".split()
    image = [*(LEADS_29.index(name) for name in mirror), *range(23, 29)]
    flipped = np.array([not np.array_equal(a, b) for a, b in zip(new_eeg, eeg, strict=True)])
    np.testing.assert_array_equal(new_eeg[flipped], np.asarray(eeg)[flipped][:, :, image])
    np.testing.assert_array_equal(new_present[flipped], np.asarray(present)[flipped][:, image])
    np.testing.assert_array_equal(new_present[~flipped], np.asarray(present)[~flipped])
    assert flipped.mean() == pytest.approx(0.5, abs=3 * 0.5 / np.sqrt(200))


def test_rows_of_a_flipped_sample_are_the_rows_of_the_other_side():
    eeg, present = batch(n_batch=8)
    new_eeg, new_present = augmented(config_of(flip=0.999), eeg, present)
    options = {"kind": "bipolar", "ch_names": TEN_TWENTY}
    rows, row_present = apply_montage(eeg, present, **options)
    new_rows, new_row_present = apply_montage(new_eeg, new_present, **options)
    names = montage_rows("bipolar", TEN_TWENTY)
    for left, right in (("Fp1-F7", "Fp2-F8"), ("T5-O1", "T6-O2"), ("C3-P3", "C4-P4"), ("Fz-Cz", "Fz-Cz")):
        np.testing.assert_allclose(new_rows[..., names.index(left)], rows[..., names.index(right)], atol=1e-4)
        np.testing.assert_array_equal(new_row_present[:, names.index(left)], row_present[:, names.index(right)])


def test_derivations_are_mirrored_by_their_electrodes_and_a_lone_side_is_refused():
    eeg, present = batch(n_batch=4, n_chans=3)
    config = config_of(ch_names=("C3-A2", "Fz-Cz", "C4-A1"), flip=0.999)
    np.testing.assert_array_equal(augmented(config, eeg, present)[0], eeg[..., ::-1])
    with pytest.raises(ValueError, match=r"training.flip .* lack the mirror images of \['C3-A1'\]"):
        augmented(config_of(ch_names=("C3-A1",), flip=0.5), eeg[..., :1], present[:, :1])
    np.testing.assert_array_equal(
        augmented(config_of(ch_names=("C3-A1",)), eeg[..., :1], present[:, :1])[0], eeg[..., :1]
    )
