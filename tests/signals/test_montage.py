from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamese_jax.signals.montage import apply_montage, montage_rows
from siamese_jax.vocabulary import LEADS_29, TEN_TWENTY


def signals(ch_names, *, n_batch=3, n_times=40, seed=0):
    rng = np.random.default_rng(seed)
    eeg = rng.normal(0, 50, (n_batch, n_times, len(ch_names))).astype(np.float32)
    return eeg, np.ones((n_batch, len(ch_names)), bool)


def montage(kind, ch_names, eeg, present):
    rows, row_present = apply_montage(jnp.asarray(eeg), jnp.asarray(present), kind=kind, ch_names=ch_names)
    assert rows.dtype == jnp.float32 and row_present.dtype == bool
    return np.asarray(rows), np.asarray(row_present)


def test_common_average_is_the_mean_of_the_electrodes_that_are_present():
    eeg, present = signals(TEN_TWENTY)
    present[0, [3, 7]] = False
    present[1, 2:] = False
    rows, row_present = montage("average", TEN_TWENTY, eeg, present)
    for sample in range(len(eeg)):
        there = present[sample]
        wanted = eeg[sample][:, there] - eeg[sample][:, there].mean(axis=1, keepdims=True)
        np.testing.assert_allclose(rows[sample][:, there], wanted, atol=2e-5)
    np.testing.assert_array_equal(row_present, present)
    assert np.all(rows[0][:, [3, 7]] == 0)


@pytest.mark.parametrize("kind", ["referential", "average", "bipolar", "average_bipolar", "paper45"])
def test_what_an_absent_channel_holds_changes_nothing(kind):
    eeg, present = signals(LEADS_29)
    present[0, [0, 5, 20]] = False
    present[2, 10:17] = False
    garbage = eeg.copy()
    garbage[0][:, [0, 5]], garbage[0][:, 20] = np.nan, 1e30
    garbage[2][:, 10:17] = np.inf
    clean, clean_present = montage(kind, LEADS_29, eeg, present)
    dirty, dirty_present = montage(kind, LEADS_29, garbage, present)
    np.testing.assert_array_equal(dirty, clean)
    np.testing.assert_array_equal(dirty_present, clean_present)
    assert np.all(clean[~np.broadcast_to(clean_present[:, None], clean.shape)] == 0)
    assert not clean_present.all() and np.isfinite(dirty).all()


def test_ears_pg_and_other_channels_neither_enter_the_average_nor_are_rows_of_it():
    eeg, present = signals(LEADS_29)
    rows, _ = montage("average", LEADS_29, eeg, present)
    eeg[:, :, 19:] += 1000
    again, _ = montage("average", LEADS_29, eeg, present)
    np.testing.assert_array_equal(again, rows)
    assert montage_rows("average", LEADS_29) == tuple(f"{name}-avg" for name in TEN_TWENTY)
    np.testing.assert_allclose(rows.sum(axis=-1), 0, atol=1e-3)


def test_a_lone_electrode_has_no_common_average():
    eeg, present = signals(TEN_TWENTY)
    present[0], present[1] = False, False
    present[0, 4], present[1, [4, 5]] = True, True
    _, row_present = montage("average", TEN_TWENTY, eeg, present)
    np.testing.assert_array_equal(row_present.sum(axis=1), [0, 2, 19])


def test_bipolar_rows_are_the_double_banana():
    names = montage_rows("bipolar", TEN_TWENTY)
    chains = (
        "Fp1-F7 F7-T3 T3-T5 T5-O1  Fp2-F8 F8-T4 T4-T6 T6-O2"
        "  Fp1-F3 F3-C3 C3-P3 P3-O1  Fp2-F4 F4-C4 C4-P4 P4-O2  Fz-Cz Cz-Pz"
    )
    assert names == tuple(chains.split())
    eeg, present = signals(TEN_TWENTY)
    present[1, TEN_TWENTY.index("T3")] = False
    rows, row_present = montage("bipolar", TEN_TWENTY, eeg, present)
    for row, name in enumerate(names):
        a, b = (TEN_TWENTY.index(part) for part in name.split("-"))
        np.testing.assert_allclose(rows[0][:, row], eeg[0][:, a] - eeg[0][:, b], atol=2e-5)
    assert [name for name, there in zip(names, row_present[1], strict=True) if not there] == [
        "F7-T3",
        "T3-T5",
    ]
    assert np.all(rows[1][:, 1:3] == 0) and row_present[[0, 2]].all()


def test_paper45_has_the_rows_of_the_published_code_in_its_order():
    leads = "Fp1 Fp2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T3 T4 T5 T6 Fz Cz Pz PG1 PG2 A1 A2".split()
    derived = ["ECG1-ECG2", "EMG1-EMG2", "EMG3-EMG4"]
    assert montage_rows("paper45", LEADS_29) == (*leads, *derived, *(f"{name}-avg" for name in leads[:19]))
    eeg, present = signals(LEADS_29)
    rows, row_present = montage("paper45", LEADS_29, eeg, present)
    x = eeg[0]
    pairs = np.stack([x[:, 23] - x[:, 24], x[:, 25] - x[:, 26], x[:, 27] - x[:, 28]], axis=1)
    scalp = x[:, :19] - x[:, :19].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(rows[0], np.concatenate([x[:, :23], pairs, scalp], axis=1), atol=3e-5)
    assert row_present.all() and rows.shape == (3, 40, 45)


def test_average_bipolar_is_the_one_montage_and_then_the_other():
    eeg, present = signals(TEN_TWENTY)
    present[0, 4], present[1, 1:] = False, False
    both = montage("average_bipolar", TEN_TWENTY, eeg, present)
    apart = [montage(kind, TEN_TWENTY, eeg, present) for kind in ("average", "bipolar")]
    (rows, row_present), (parts, parts_present) = both, zip(*apart, strict=True)
    np.testing.assert_allclose(rows, np.concatenate(parts, axis=-1), rtol=1e-6, atol=1e-4)  # microvolts, sums reordered
    np.testing.assert_array_equal(row_present, np.concatenate(parts_present, axis=-1))
    assert both[1].shape == (3, 37) and both[1][2].all() and not both[1][1].any()
    names = (montage_rows(kind, TEN_TWENTY) for kind in ("average", "bipolar"))
    assert montage_rows("average_bipolar", TEN_TWENTY) == tuple(name for part in names for name in part)


def test_rows_whose_electrode_is_not_among_the_channels_are_absent():
    eeg, present = signals(("C3", "Cz", "C4", "Pz"))
    rows, row_present = montage("bipolar", ("C3", "Cz", "C4", "Pz"), eeg, present)
    assert rows.shape[-1] == 18
    np.testing.assert_array_equal(row_present, np.tile(np.arange(18) == 17, (3, 1)))
    np.testing.assert_allclose(rows[..., 17], eeg[..., 1] - eeg[..., 3], atol=2e-5)
    assert np.all(rows[..., :17] == 0)


def test_referential_passes_any_channel_through():
    eeg, present = signals(("C3-A1",))
    rows, row_present = montage("referential", ("C3-A1",), eeg, present)
    np.testing.assert_array_equal(rows, eeg)
    assert montage_rows("referential", ("C3-A1",)) == ("C3-A1",) and row_present.all()


def test_an_impossible_montage_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'average'.*C3-A1"):
        montage_rows("average", ("C3-A1",))
    with pytest.raises(ValueError, match="given 'laplacian'"):
        montage_rows("laplacian", TEN_TWENTY)


def test_the_gradient_reaches_present_channels_only_and_is_finite():
    eeg, present = signals(TEN_TWENTY)
    present[:, 2] = False
    eeg[:, :, 2] = np.nan

    def loss(x):
        rows, _ = apply_montage(x, jnp.asarray(present), kind="average", ch_names=TEN_TWENTY)
        return jnp.sum(jnp.square(rows))

    gradient = np.asarray(jax.grad(loss)(jnp.asarray(eeg)))
    assert np.all(gradient[:, :, 2] == 0) and np.isfinite(gradient).all()
    assert np.all(np.abs(gradient[:, :, :2]).sum(axis=1) > 0)


def test_jit_gives_what_eager_gives():
    eeg, present = signals(LEADS_29)
    present[0, 3] = False
    function = partial(apply_montage, kind="paper45", ch_names=LEADS_29)
    eager, jitted = (f(jnp.asarray(eeg), jnp.asarray(present)) for f in (function, jax.jit(function)))
    np.testing.assert_allclose(jitted[0], eager[0], atol=1e-4)
    np.testing.assert_array_equal(jitted[1], eager[1])
