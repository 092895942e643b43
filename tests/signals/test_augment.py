from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamese_jax.config.experiment import Config, DataConfig, PreprocessConfig, TrainingConfig
from siamese_jax.signals.augment import augment, shuffle_rows
from siamese_jax.signals.montage import apply_montage, montage_rows
from siamese_jax.vocabulary import LEADS_29, TEN_TWENTY

STILL = TrainingConfig(amplitude=0.0, electrode_dropout=0.0, flip=0.0)


def config_of(*, ch_names=TEN_TWENTY, montage="average", **training):
    prep = PreprocessConfig(montage=montage)
    return Config(data=DataConfig(ch_names=ch_names), preprocess=prep, training=replace(STILL, **training))


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
    config = config_of(amplitude=0.3, electrode_dropout=0.3, flip=0.5, time_shift_seconds=0.05)
    eeg, present = batch(n_times=32)
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


# --- time


def shifted(config, *, n_batch, n_times=40, seed=0):
    """What became of samples whose every value is its own place in time, in each channel."""
    ramp = jnp.broadcast_to(jnp.arange(n_times, dtype=jnp.float32)[None, :, None], (n_batch, n_times, 19))
    return np.asarray(augmented(config, ramp, jnp.ones((n_batch, 19), bool), seed=seed)[0])


def test_a_shifted_window_is_a_slice_of_the_longer_one_by_whole_samples_uniformly():
    config = config_of(time_shift_seconds=0.05)  # 10 samples at 200 Hz
    assert config.shift == 10
    found = shifted(config, n_batch=2100)
    assert found.shape == (2100, 20, 19)
    starts = found[:, 0, 0].astype(int)
    np.testing.assert_array_equal(found, np.broadcast_to((starts[:, None] + np.arange(20))[..., None], found.shape))
    of_start = np.bincount(starts)
    assert len(of_start) == 21  # 10 earlier to 10 later, and nothing beyond
    assert np.abs(of_start - 100).max() < 4.5 * np.sqrt(100 * 20 / 21)
    assert not np.array_equal(starts, shifted(config, n_batch=2100, seed=1)[:, 0, 0])


def test_an_event_moves_with_its_window():
    eeg = jnp.zeros((64, 40, 19)).at[:, 17, 4].set(100.0)
    found = np.asarray(augmented(config_of(time_shift_seconds=0.05), eeg, jnp.ones((64, 19), bool))[0])
    starts = shifted(config_of(time_shift_seconds=0.05), n_batch=64)[:, 0, 0].astype(int)
    for sample, start in zip(found, starts, strict=True):  # the same keys: the same draws
        np.testing.assert_array_equal(np.argwhere(sample), [[17 - start, 4]] if start <= 17 else np.zeros((0, 2)))


def test_other_draws_stay_where_a_shift_is_added():
    eeg, present = batch(n_times=32)
    options = {"amplitude": 0.3, "electrode_dropout": 0.3, "flip": 0.5}
    moved = augmented(config_of(time_shift_seconds=0.05, **options), jnp.broadcast_to(eeg[:, :1], eeg.shape), present)
    still = augmented(config_of(**options), jnp.broadcast_to(eeg[:, :1], (16, 12, 19)), present)
    for a, b in zip(moved, still, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_window_too_short_for_its_shift_is_refused():
    eeg, present = batch(n_times=20)
    with pytest.raises(ValueError, match="windows of 20 samples cannot be shifted by 10 to both sides"):
        augmented(config_of(time_shift_seconds=0.05), eeg, present)


# --- amplitude, electrodes, sides


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
    options = {"kind": "average_bipolar", "ch_names": TEN_TWENTY}
    rows, row_present = apply_montage(eeg, present, **options)
    new_rows, new_row_present = apply_montage(new_eeg, new_present, **options)
    names = montage_rows("average_bipolar", TEN_TWENTY)
    chains = (("Fp1-F7", "Fp2-F8"), ("T5-O1", "T6-O2"), ("C3-P3", "C4-P4"), ("Fz-Cz", "Fz-Cz"))
    for left, right in (*chains, ("T3-avg", "T4-avg"), ("Pz-avg", "Pz-avg")):
        np.testing.assert_allclose(new_rows[..., names.index(left)], rows[..., names.index(right)], atol=1e-4)
        np.testing.assert_array_equal(new_row_present[:, names.index(left)], row_present[:, names.index(right)])


def test_derivations_are_mirrored_by_their_electrodes():
    eeg, present = batch(n_batch=4, n_chans=3)
    config = config_of(ch_names=("C3-A2", "Fz-Cz", "C4-A1"), montage="referential", flip=0.999)
    np.testing.assert_array_equal(augmented(config, eeg, present)[0], eeg[..., ::-1])
    lone = config_of(ch_names=("C3-A1",), montage="referential")
    np.testing.assert_array_equal(augmented(lone, eeg[..., :1], present[:, :1])[0], eeg[..., :1])


# --- rows

BLOCKS = {  # first and last row of each block; every other row stays
    "paper45": (LEADS_29, [(0, 18), (26, 44)]),
    "average": (TEN_TWENTY, [(0, 18)]),
    "bipolar": (TEN_TWENTY, [(0, 17)]),
    "average_bipolar": (TEN_TWENTY, [(0, 18), (19, 36)]),
    "referential": (LEADS_29, [(0, 18)]),
    "ears": (("C3-A2", "C4-A1", "O1-A2", "Fz-Cz", "EMG1", "EOG1-A2", "Fp1"), [(0, 2)]),
}


def rows_config(name, probability):
    ch_names, blocks = BLOCKS[name]
    montage = name if name != "ears" else "referential"
    config = config_of(ch_names=ch_names, montage=montage, row_shuffle=probability)
    names = montage_rows(montage, ch_names)
    return config, names, [np.arange(a, b + 1) for a, b in blocks]


def shuffled(config, n_rows, *, n_batch=200, seed=0):
    """Rows that hold their own number, of which each third is absent."""
    rows = jnp.broadcast_to(jnp.arange(n_rows, dtype=jnp.float32)[None, None], (n_batch, 3, n_rows))
    row_present = jnp.broadcast_to((jnp.arange(n_rows) % 3 > 0)[None], (n_batch, n_rows))
    keys = jax.random.split(jax.random.key(seed), n_batch)
    found, present = jax.jit(partial(shuffle_rows, config))(rows, row_present, keys)
    order = np.asarray(found)[:, 0].astype(int)
    np.testing.assert_array_equal(found, np.broadcast_to(order[:, None], rows.shape))
    np.testing.assert_array_equal(present, order % 3 > 0)  # presence goes with its row
    return order


@pytest.mark.parametrize("name", BLOCKS)
def test_rows_change_places_within_their_block_only(name):
    config, names, blocks = rows_config(name, 1.0)
    order = shuffled(config, len(names))
    for block in blocks:
        np.testing.assert_array_equal(np.sort(order[:, block], axis=1), np.broadcast_to(block, (200, len(block))))
        assert {(i, j) for i in range(len(block)) for j in order[:, block[i]]} == {
            (i, j) for i in range(len(block)) for j in block
        }  # everywhere in it
    others = np.setdiff1d(np.arange(len(names)), np.concatenate(blocks))
    np.testing.assert_array_equal(order[:, others], np.broadcast_to(others, (200, len(others))))


def test_blocks_are_shuffled_independently_of_one_another_and_samples_too():
    config, names, (scalp, average) = rows_config("paper45", 1.0)
    order = shuffled(config, len(names))
    assert len({tuple(one) for one in order}) == 200
    same = (order[:, scalp] == order[:, average] - average[0]).mean()
    assert same == pytest.approx(1 / 19, abs=4 * np.sqrt(1 / 19 / (200 * 19)))


def test_rows_are_shuffled_as_often_as_asked_for_by_the_sample_s_own_key():
    config, names, _ = rows_config("paper45", 0.3)
    order = shuffled(config, len(names), n_batch=1000)
    changed = (order != np.arange(len(names))).any(axis=1)
    assert changed.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / 1000))
    keys = jax.random.split(jax.random.key(0), 1000)[7:8]
    rows = jnp.arange(len(names), dtype=jnp.float32)[None, None]
    alone, _ = shuffle_rows(config, rows, jnp.ones((1, len(names)), bool), keys)
    np.testing.assert_array_equal(alone[0, 0], order[7])


def test_probability_0_of_a_shuffle_leaves_no_operation_behind():
    config, names, _ = rows_config("paper45", 0.0)
    rows, keys = jnp.zeros((2, 3, len(names))), jax.random.split(jax.random.key(0), 2)
    present = jnp.ones((2, len(names)), bool)
    assert not jax.make_jaxpr(partial(shuffle_rows, config))(rows, present, keys).eqns
    on = replace(config, training=replace(config.training, row_shuffle=0.1))
    assert jax.make_jaxpr(partial(shuffle_rows, on))(rows, present, keys).eqns
