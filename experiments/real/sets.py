"""Five sets of real recordings, as they lie in one folder.

    discharges/grond/*.npz      10 s of patients in intensive care: kind, in some the reviewed time of every discharge
    discharges/vecams/*.npz     15 s, with a caption that names what is seen
    discharges/iiic/*.npz       50 s, of which 20 to 30 s are labelled
    discharges/snippets/*.npz   5 s of one patient: spikes with their times, and a normal one
    eegmat/SubjectNN_*.edf      healthy people

Each `.npz` holds `eeg_uv` (microvolts, [time, chan]), `sfreq` and `ch_names`. The segments of the first three do not
say whose they are: each counts as a patient. In GROND what lies before `marked_from_seconds` is unmarked, not negative.
"""

import math
import re
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.recording import Recording, recording_from_array

EDGE_SECONDS = 1.0
"""At either end of a segment, where a filter of 1 Hz has not settled: no label speaks of it."""
PERIODIC = frozenset({"gpd", "lpd", "bipd"})
SNIPPETS_PATIENT = "of the snippets"

Stretch = tuple[float, float]
Arrays = Mapping[str, np.ndarray]
WHOLE: Stretch = (0.0, math.inf)


class Item(NamedTuple):
    """A segment or a recording, and what is known of it.

    Attributes:
        name: of its file.
        patient: whose it is; of unknown patients the segment's name.
        positive: whether `judged` holds discharges; None where that is not asked (a seizure).
        judged: start and stop in seconds.
        discharges: their reviewed times in seconds.
        reviewed: start and stop of the seconds in which `discharges` are all there are; None if nobody looked.
        open: reads it, given electrodes and a rate in Hz.
    """

    name: str
    patient: str
    positive: bool | None
    judged: Stretch
    discharges: tuple[float, ...]
    reviewed: Stretch | None
    open: Callable[[Sequence[str], float], Recording]


def read_sets(folder: Path, *, leave_out: Collection[str] = ()) -> tuple[dict[str, list[Item]], list[str]]:
    """The items of each set that is there, and what is not there, in words.

    Args:
        folder: that holds `discharges` and `eegmat`.
        leave_out: people of EEGMAT (`Subject01`) to pass over: those whom a detector learnt from.

    Raises:
        ValueError: no set is there; a file that cannot be read, or that lacks an array; nobody of that name.
    """
    found, missing = {}, []
    for name, (pattern, read) in SETS.items():
        paths = sorted(folder.glob(pattern))
        if paths:
            found[name] = [_item(path, read) for path in paths]
        else:
            missing.append(f"{name}: there is no {pattern} in {folder}")
    if not found:
        raise ValueError(f"{folder} holds no set: " + "; ".join(missing))
    if healthy := found.get("eegmat"):
        if unknown := sorted(set(leave_out) - {item.patient for item in healthy}):
            raise ValueError(f"{', '.join(unknown)} cannot be left out: {folder / 'eegmat'} has no file of that name")
        found["eegmat"] = [item for item in healthy if item.patient not in leave_out]
        if not found["eegmat"]:
            del found["eegmat"]
            missing.append("eegmat: everybody is left out")
    return found, missing


def _item(path: Path, read: Callable[[Path], Item]) -> Item:
    try:
        return read(path)
    except (ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is no file of this set, or lacks an array: {error}") from error


def _grond(path: Path) -> Item:
    arrays = _arrays(path)
    start, stop = _within_edges(arrays)
    first = float(arrays["marked_from_seconds"])
    reviewed = None if math.isnan(first) else (max(first, start), stop)
    return _segment(path, arrays, positive=str(arrays["kind"]) in PERIODIC, judged=(start, stop), reviewed=reviewed)


def _vecams(path: Path) -> Item:
    arrays = _arrays(path)
    words = set(re.findall(r"\w+", str(arrays["caption"]).lower()))
    return _segment(path, arrays, positive=bool(words & PERIODIC), judged=_within_edges(arrays))


def _iiic(path: Path) -> Item:
    arrays = _arrays(path)
    start, stop = arrays["labelled_seconds"].tolist()
    kind = str(arrays["kind"])
    positive = None if kind == "sz" else kind in PERIODIC
    return _segment(path, arrays, positive=positive, judged=(start, stop))


def _snippet(path: Path) -> Item:
    arrays = _arrays(path)
    positive = str(arrays["kind"]) == "spike"
    item = _segment(path, arrays, positive=positive, judged=WHOLE, reviewed=WHOLE)
    return item._replace(patient=SNIPPETS_PATIENT)


def _eegmat(path: Path) -> Item:
    def read(ch_names: Sequence[str], sfreq: float) -> Recording:
        return read_recording(path, ch_names=ch_names, sfreq=sfreq)

    patient = path.stem.split("_")[0]
    return Item(path.stem, patient, positive=False, judged=WHOLE, discharges=(), reviewed=None, open=read)


SETS: dict[str, tuple[str, Callable[[Path], Item]]] = {
    "grond": ("discharges/grond/*.npz", _grond),
    "vecams": ("discharges/vecams/*.npz", _vecams),
    "iiic": ("discharges/iiic/*.npz", _iiic),
    "snippets": ("discharges/snippets/*.npz", _snippet),
    "eegmat": ("eegmat/Subject*.edf", _eegmat),
}
"""Of each set which files are its own, and how one is read."""


def _arrays(path: Path) -> Arrays:
    with np.load(path) as file:
        return dict(file)


def _within_edges(arrays: Arrays) -> Stretch:
    return EDGE_SECONDS, len(arrays["eeg_uv"]) / float(arrays["sfreq"]) - EDGE_SECONDS


def _segment(
    path: Path, arrays: Arrays, *, positive: bool | None, judged: Stretch, reviewed: Stretch | None = None
) -> Item:
    eeg, sfreq = arrays["eeg_uv"], float(arrays["sfreq"])
    read = partial(recording_from_array, eeg, sfreq=sfreq, ch_names=arrays["ch_names"].tolist())
    discharges = tuple(map(float, arrays["discharge_seconds"])) if reviewed else ()

    def opened(ch_names: Sequence[str], rate: float) -> Recording:
        return read(target_ch_names=ch_names, target_sfreq=rate)

    return Item(path.stem, path.stem, positive, judged, discharges, reviewed, opened)
