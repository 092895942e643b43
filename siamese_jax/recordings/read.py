"""Any file as a recording: the one reader of `info`, `prepare`, `detect` and of Python.

EDF and BDF are read by `edf.py`, lazily and with their gaps; all else by MNE (`through_mne.py`), whole.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from siamese_jax.recordings import edf, through_mne
from siamese_jax.recordings.recording import Recording

EDF_SUFFIXES: tuple[str, ...] = (".edf", ".bdf")
SUFFIXES: tuple[str, ...] = (*EDF_SUFFIXES, *through_mne.SUFFIXES)
"""Of the files that are taken for recordings where a folder is searched, in small letters."""


def is_edf(path: Path) -> bool:
    """Whether a file is EDF or BDF by its name."""
    return path.suffix.lower() in EDF_SUFFIXES


def read_recording(
    path: Path | str,
    *,
    ch_names: Sequence[str],
    sfreq: float,
    units: Mapping[str, str] | None = None,
    nearest: bool = False,
) -> Recording:
    """The channels `ch_names` of a file, in microvolts at `sfreq` Hz.

    Args:
        path: an EDF or BDF file; with the extra `mne`, also BrainVision (`.vhdr`), EEGLAB (`.set`), FIF, and the
            vendors' formats that `mne.io.read_raw` reads.
        ch_names: electrodes wanted, in the order wanted; the recording has their standard names.
        sfreq: samples per second wanted.
        units: of EDF and BDF: units to read channels in instead of the header's, by label, standard name or `*`.
        nearest: let a near electrode of the 10-10 system stand in for one of the 10-20 system that is missing.

    Raises:
        ValueError: the file cannot be read or analysed; MNE is needed and not installed; units of a file that is
            neither EDF nor BDF.
        OSError: the file cannot be opened.
    """
    path = Path(path)
    if is_edf(path) or (path.is_file() and not path.suffix):
        return edf.read_recording(path, ch_names=ch_names, sfreq=sfreq, units=units, nearest=nearest)
    if units:
        raise ValueError(f"{path.name}: units can be given for EDF and BDF alone; MNE reads those of {path.suffix}")
    return through_mne.read_through_mne(path, ch_names=ch_names, sfreq=sfreq, nearest=nearest)


def files_of(path: Path) -> list[Path]:
    """The files that a recording consists of, the one with its signal first."""
    parts = through_mne.SIGNAL_PARTS.get(path.suffix.lower(), ())
    there = [part for ending in parts if (part := path.with_suffix(ending)).exists()]
    return [*there[:1], path, *there[1:]]
