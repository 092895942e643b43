"""What MNE reads, as recordings: BrainVision, EEGLAB, FIF, vendors' formats, and an `mne.io.Raw` in memory.

The only importer of MNE that reads. MNE gives volts, [channel, time]; a recording has microvolts, [time, channel].
"""

import dataclasses
import datetime
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from siamese_jax.recordings.recording import Annotation, Recording, recording_from_array, without_stretches
from siamese_jax.vocabulary import NEIGHBOURS, standard_name

if TYPE_CHECKING:
    import mne

SUFFIXES: tuple[str, ...] = (".vhdr", ".set", ".fif", ".cnt", ".lay")
"""By which a folder is searched; a file of any other format that MNE reads can be named."""
SIGNAL_PARTS: dict[str, tuple[str, ...]] = {".vhdr": (".eeg", ".vmrk"), ".set": (".fdt",), ".lay": (".dat",)}
"""Other files of a recording, the one with the signal first."""
GAP = "bad_acq_skip"
"""How MNE marks that nothing was recorded, in small letters."""
_KINDS = ("eeg", "ecg", "emg", "eog")
_BLOCK = 1 << 20  # samples of a channel that MNE holds in float64 at a time


def read_through_mne(
    path: Path,
    *,
    ch_names: Sequence[str],
    sfreq: float,
    nearest: bool = False,
    skips: Callable[[str], bool] = lambda label: False,
) -> Recording:
    """The channels `ch_names` of a file that `mne.io.read_raw` reads, in memory.

    Args:
        path: the file.
        ch_names: electrodes wanted, in order.
        sfreq: samples per second wanted.
        nearest: let a near electrode of the 10-10 system stand in for one of the 10-20 system that is missing.
        skips: whether the channel of a label must not be used.

    Raises:
        ValueError: MNE is not installed, or cannot read it; as `recording_from_raw`.
        FileNotFoundError: nothing of this name.
    """
    try:
        import mne
    except ImportError:
        raise ValueError(f"{path.name} needs mne: pip install 'siamese-jax[mne]'") from None
    if not path.exists():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what we do not use: triggers, positions of electrodes
        try:
            raw = mne.io.read_raw(path, verbose="error")
        except Exception as error:  # of any kind: MNE's readers let out what a damaged file makes of them
            said = f"{type(error).__name__}: {error}".replace(str(path.parent), "").splitlines()[0]
            raise ValueError(f"MNE cannot read it: {said}") from error
        recording = recording_from_raw(raw, ch_names=ch_names, sfreq=sfreq, nearest=nearest, bad=GAP, skips=skips)
    return dataclasses.replace(recording, path=path)


def recording_from_raw(
    raw: "mne.io.BaseRaw",
    *,
    ch_names: Sequence[str],
    sfreq: float,
    nearest: bool = False,
    bad: str = "bad",
    skips: Callable[[str], bool] = lambda label: False,
) -> Recording:
    """An `mne.io.Raw` as a recording, in memory.

    Args:
        raw: of any reader. Its electrodes in `info["bads"]` are read: say which to leave out with `skips`.
        ch_names: electrodes wanted, in order.
        sfreq: samples per second wanted.
        nearest: let a near electrode of the 10-10 system stand in for one of the 10-20 system that is missing.
        bad: annotations whose text begins so, in small or capital letters, are taken as gaps.
        skips: whether the channel of a label must not be used.

    Raises:
        ValueError: none of the electrodes is there; nothing is left between the gaps; samples that are not finite.
    """
    wanted = {standard_name(name) or name for name in ch_names}
    wanted |= {near for name in wanted for near in NEIGHBOURS.get(name, ()) if nearest}
    kinds = zip(raw.ch_names, raw.get_channel_types(), strict=True)
    labels = [label for label, kind in kinds if kind in _KINDS and not skips(label)]
    labels = [label for label in labels if wanted & {name := standard_name(label) or label, name.partition("-")[0]}]
    if not labels:
        raise ValueError(f"none of the electrodes wanted ({' '.join(ch_names)}); it has {', '.join(raw.ch_names)}")
    eeg_uv = np.empty((raw.n_times, len(labels)), np.float32)
    for start in range(0, raw.n_times, _BLOCK):
        stop = min(start + _BLOCK, raw.n_times)
        volts: Any = raw.get_data(picks=np.array(labels), start=start, stop=stop)
        eeg_uv[start:stop] = volts.T * 1e6
    recording = recording_from_array(
        eeg_uv,
        sfreq=raw.info["sfreq"],
        ch_names=labels,
        target_ch_names=ch_names,
        target_sfreq=sfreq,
        nearest=nearest,
    )
    marks = _annotations(raw)
    gaps = [(mark.onset_seconds, mark.duration_seconds) for mark in marks if mark.text.lower().startswith(bad)]
    recording = dataclasses.replace(recording, annotations=marks, start_datetime=_start(raw))
    return without_stretches(recording, gaps)


def _annotations(raw: "mne.io.BaseRaw") -> tuple[Annotation, ...]:
    """Marks in seconds from the first sample: with a measurement date MNE counts from the start of the acquisition."""
    late = raw.first_time if raw.annotations.orig_time is not None else 0.0
    rows = zip(raw.annotations.onset, raw.annotations.duration, raw.annotations.description, strict=True)
    return tuple(Annotation(float(a) - late, float(b), str(text).removeprefix("Comment/")) for a, b, text in rows)


def _start(raw: "mne.io.BaseRaw") -> datetime.datetime | None:
    """When the first sample was taken, without a time zone, as EDF has it."""
    date = raw.info["meas_date"]
    return None if date is None else date.replace(tzinfo=None) + datetime.timedelta(seconds=raw.first_time)
