"""Montages as names: the electrodes of each row. Imports the vocabulary only."""

from siamese_jax.vocabulary import LEADS_29, TEN_TWENTY, channel_kind

AVERAGE = "avg"
"""Stands for the common average in a row's name."""

Row = tuple[str, str | None]
"""An electrode, and what it stands against: another one, the common average, or nothing."""

DOUBLE_BANANA: tuple[tuple[str, str], ...] = (
    *(("Fp1", "F7"), ("F7", "T3"), ("T3", "T5"), ("T5", "O1")),
    *(("Fp2", "F8"), ("F8", "T4"), ("T4", "T6"), ("T6", "O2")),
    *(("Fp1", "F3"), ("F3", "C3"), ("C3", "P3"), ("P3", "O1")),
    *(("Fp2", "F4"), ("F4", "C4"), ("C4", "P4"), ("P4", "O2")),
    *(("Fz", "Cz"), ("Cz", "Pz")),
)
"""The longitudinal bipolar montage: temporal and parasagittal chains, left before right, then the midline."""


def row_electrodes(kind: str, ch_names: tuple[str, ...]) -> tuple[Row, ...]:
    """The electrodes of each row of a montage, in order, whether or not they are among `ch_names`.

    Args:
        kind: as for `signals.montage.montage_rows`.
        ch_names: standard names; only `referential` depends on them.

    Raises:
        ValueError: the montage is unknown.
    """
    average = tuple((name, AVERAGE) for name in TEN_TWENTY)
    if kind == "referential":
        return tuple((name, None) for name in ch_names)
    if kind == "average":
        return average
    if kind == "bipolar":
        return DOUBLE_BANANA
    if kind == "average_bipolar":
        return (*average, *DOUBLE_BANANA)
    if kind == "paper45":
        leads = tuple((name, None) for name in LEADS_29 if channel_kind(name) == "eeg")
        return (*leads, ("ECG1", "ECG2"), ("EMG1", "EMG2"), ("EMG3", "EMG4"), *average)
    raise ValueError(f"montage must be referential, average, bipolar, average_bipolar or paper45, given {kind!r}")


def can_be_made(row: Row, ch_names: tuple[str, ...]) -> bool:
    """Whether the electrodes of a row are among `ch_names`; a common average needs two of the scalp."""
    if row[1] == AVERAGE and sum(name in TEN_TWENTY for name in ch_names) < 2:
        return False
    return all(name in ch_names for name in row if name not in (None, AVERAGE))
