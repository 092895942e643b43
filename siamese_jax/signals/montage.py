"""Montages as matrices: the rows that a network sees, made of the electrodes that are there.

Every row is one electrode (`Fp1`), the difference of two (`Fp1-F7`) or an electrode against the common
average (`Fp1-avg`). Which electrodes are present differs from sample to sample, so the matrix does too: a
static signed part and, for the common average, the mean over the present electrodes.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32

from siamese_jax.config.montages import AVERAGE, row_electrodes
from siamese_jax.vocabulary import TEN_TWENTY


def montage_rows(kind: str, ch_names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a montage's rows, in order.

    Args:
        kind: `referential` (every channel as it is), `average` (the 19 scalp electrodes against their common
            average), `bipolar` (longitudinal, 18 rows), `average_bipolar` (the rows of both, as SpikeNet reads
            them), or `paper45` (23 EEG leads as they are, one ECG and two EMG derivations, then the rows of
            `average`; the published code of Siamese-ES's group, vepiset_dataset commit 5235f85).
        ch_names: the channels that the rows are made of.

    Returns:
        `Fp1` for a channel as it is, `Fp1-avg` for common average reference, `Fp1-F7` for a difference. Only
        `referential` depends on `ch_names`; the other montages keep a row whose electrode is not among them,
        and `apply_montage` marks it absent.

    Raises:
        ValueError: the montage is unknown, or `ch_names` allow not one of its rows.
    """
    return _layout(kind, ch_names).names


def apply_montage(
    eeg: Float32[jax.Array, "batch time chan"],
    present: Bool[jax.Array, "batch chan"],
    *,
    kind: str,
    ch_names: tuple[str, ...],
) -> tuple[Float32[jax.Array, "batch time row"], Bool[jax.Array, "batch row"]]:
    """The rows of a montage and which of them are there.

    The common average is the mean of the 10-20 scalp electrodes that are present; ears, PG leads and channels
    other than EEG never enter it, and it needs two electrodes, since one alone would cancel itself. What an
    absent channel holds, even NaN, changes nothing, and its gradient is 0.

    Args:
        eeg: signals in any one unit.
        present: which channels are there, by sample.
        kind: as for `montage_rows`.
        ch_names: the channels of `eeg`, in order.

    Returns:
        The rows in the unit of `eeg`, and which rows are present: those whose every electrode is. The others
        are 0.

    Raises:
        ValueError: as `montage_rows`.
    """
    layout = _layout(kind, ch_names)
    lacking = (layout.signs != 0)[None] & ~present[:, None, :]
    row_present = layout.possible[None] & ~lacking.any(axis=-1)
    averaged = present & layout.scalp[None]
    n_averaged = averaged.sum(axis=-1, keepdims=True)
    row_present &= ~layout.rereferenced[None] | (n_averaged >= 2)
    share = averaged.astype(jnp.float32) / jnp.maximum(n_averaged, 1).astype(jnp.float32)
    matrix = layout.signs[None] - jnp.where(layout.rereferenced[None, :, None], share[:, None, :], 0.0)
    matrix = jnp.where(row_present[..., None], matrix, 0.0)
    eeg = jnp.where(present[:, None, :], eeg, 0.0)
    return jnp.einsum("btc,brc->btr", eeg, matrix, precision=jax.lax.Precision.HIGHEST), row_present


class _Layout(NamedTuple):
    names: tuple[str, ...]
    signs: Float32[np.ndarray, "row chan"]
    rereferenced: Bool[np.ndarray, "row"]
    possible: Bool[np.ndarray, "row"]
    scalp: Bool[np.ndarray, "chan"]


@functools.lru_cache(maxsize=64)
def _layout(kind: str, ch_names: tuple[str, ...]) -> _Layout:
    rows = row_electrodes(kind, ch_names)
    signs = np.zeros((len(rows), len(ch_names)), np.float32)
    possible = np.ones(len(rows), bool)
    for row, (plus, minus) in enumerate(rows):
        for name, sign in ((plus, 1.0), (minus, -1.0)):
            if name in ch_names:
                signs[row, ch_names.index(name)] = sign
            elif name not in (None, AVERAGE):
                possible[row] = False
    if not possible.any():
        raise ValueError(f"montage {kind!r} has no row that can be made of the channels {ch_names}")
    return _Layout(
        names=tuple(plus if minus is None else f"{plus}-{minus}" for plus, minus in rows),
        signs=signs,
        rereferenced=np.array([minus == AVERAGE for _, minus in rows]),
        possible=possible,
        scalp=np.array([name in TEN_TWENTY for name in ch_names]),
    )
