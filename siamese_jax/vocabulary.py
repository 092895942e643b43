"""The field's words, as data: electrodes and their aliases, sleep stages, tasks, units.

Imports the standard library only; every other module may import this one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

# --- electrodes ------------------------------------------------------------------------------------------------

TEN_TWENTY: tuple[str, ...] = (
    *("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2"),
    *("F7", "F8", "T3", "T4", "T5", "T6", "Fz", "Cz", "Pz"),
)
"""The 19 scalp electrodes of the 10-20 system, in the order that Siamese-ES's group stores them."""

LEADS_29: tuple[str, ...] = (
    *TEN_TWENTY,
    *("PG1", "PG2", "A1", "A2", "ECG1", "ECG2", "EMG1", "EMG2", "EMG3", "EMG4"),
)
"""The 29 leads of the published pipeline (vepiset_dataset, commit 5235f85): 23 EEG, 2 ECG, 4 EMG."""

TWELVE_LEADS: tuple[str, ...] = (
    *("ECG-I", "ECG-II", "ECG-III", "ECG-aVR", "ECG-aVL", "ECG-aVF"),
    *("ECG-V1", "ECG-V2", "ECG-V3", "ECG-V4", "ECG-V5", "ECG-V6"),
)
"""The leads of the standard electrocardiogram; `ECG I` beside an EEG is no lead of it, but ECG1."""

POSITIONS: dict[str, tuple[float, float]] = {
    "Fp1": (-0.31, 0.95),
    "Fp2": (0.31, 0.95),
    "F7": (-0.81, 0.59),
    "F3": (-0.39, 0.55),
    "Fz": (0.0, 0.5),
    "F4": (0.39, 0.55),
    "F8": (0.81, 0.59),
    "T3": (-1.0, 0.0),
    "C3": (-0.5, 0.0),
    "Cz": (0.0, 0.0),
    "C4": (0.5, 0.0),
    "T4": (1.0, 0.0),
    "T5": (-0.81, -0.59),
    "P3": (-0.39, -0.55),
    "Pz": (0.0, -0.5),
    "P4": (0.39, -0.55),
    "T6": (0.81, -0.59),
    "O1": (-0.31, -0.95),
    "O2": (0.31, -0.95),
}
"""10-20 positions on a unit head seen from above: x to the right ear, y to the nose."""

LEFT_RIGHT: dict[str, str] = {
    "Fp1": "Fp2",
    "F3": "F4",
    "C3": "C4",
    "P3": "P4",
    "O1": "O2",
    "F7": "F8",
    "T3": "T4",
    "T5": "T6",
    "PG1": "PG2",
    "A1": "A2",
}
"""Each left electrode and its mirror image."""

NEIGHBOURS: dict[str, tuple[str, ...]] = {
    "Fp1": ("AF7", "AF3", "FPz"),
    "Fp2": ("AF8", "AF4", "FPz"),
    "F7": ("F5", "FT7", "AF7", "F9"),
    "F3": ("F1", "F5", "AF3", "FC3", "FC1", "FC5"),
    "Fz": ("F1", "F2", "FCz", "AFz"),
    "F4": ("F2", "F6", "AF4", "FC4", "FC2", "FC6"),
    "F8": ("F6", "FT8", "AF8", "F10"),
    "T3": ("FT7", "TP7", "C5", "T9"),
    "C3": ("C1", "C5", "FC3", "CP3", "FC1", "FC5", "CP1", "CP5"),
    "Cz": ("C1", "C2", "FCz", "CPz"),
    "C4": ("C2", "C6", "FC4", "CP4", "FC2", "FC6", "CP2", "CP6"),
    "T4": ("FT8", "TP8", "C6", "T10"),
    "T5": ("TP7", "P5", "PO7", "P9"),
    "P3": ("P1", "P5", "CP3", "PO3", "CP1", "CP5"),
    "Pz": ("P1", "P2", "CPz", "POz"),
    "P4": ("P2", "P6", "CP4", "PO4", "CP2", "CP6"),
    "T6": ("TP8", "P6", "PO8", "P10"),
    "O1": ("PO7", "PO3", "Oz", "I1"),
    "O2": ("PO8", "PO4", "Oz", "I2"),
}
"""The electrodes of the 10-10 system about half a 10-20 distance away from each of the 10-20 system, nearest first."""

ChannelKind = Literal["eeg", "ecg", "emg", "eog"]


def channel_kind(ch_name: str) -> ChannelKind:
    """The kind of a channel, judged by its standard name; anything unrecognised counts as EEG."""
    for kind in ("ecg", "emg", "eog"):
        if ch_name.lower().startswith(kind):
            return kind
    return "eeg"


# --- tasks -----------------------------------------------------------------------------------------------------

TaskKind = Literal["binary", "multiclass", "multilabel"]
MAX_CLASSES = 1000


@dataclass(frozen=True)
class TaskSpec:
    """What a shard labels and a model predicts.

    A `binary` task has one logit and two classes (negative first), a `multiclass` task one logit a class of which
    exactly one is true, a `multilabel` task one logit a class of which any number are true.
    """

    name: str
    kind: TaskKind
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.classes) > MAX_CLASSES:
            raise ValueError(f"task {self.name!r}: at most {MAX_CLASSES} classes, given {len(self.classes)}")
        if self.kind == "binary" and len(self.classes) != 2:
            raise ValueError(f"task {self.name!r}: a binary task has 2 classes, given {self.classes}")
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"task {self.name!r}: classes must be distinct and not empty, given {self.classes}")

    @property
    def n_logits(self) -> int:
        """How many logits a head for this task gives."""
        return 1 if self.kind == "binary" else len(self.classes)


STAGES: tuple[str, ...] = ("W", "N1", "N2", "N3", "R")
"""AASM sleep stages, in the order of the `sleep` task's classes."""

IED = TaskSpec("ied", "binary", ("none", "ied"))
SLEEP = TaskSpec("sleep", "multiclass", STAGES)
STATE = TaskSpec("state", "binary", ("wake", "sleep"))

IED_INSIDE_SECONDS = 0.1
"""How far inside a window an IED's peak must lie to make it positive (vepiset_dataset, commit 5235f85)."""

# --- channel names ------------------------------------------------------------------------------------------

MIN_EEG_SFREQ_HZ = 100.0
"""Lowest rate at which an EEG channel is used: a spike lasts 20 to 70 ms (HED-SCORE 2.1), so its energy
reaches about 50 Hz, and half the rate must hold that."""

EARS: tuple[str, ...] = ("A1", "A2", "A1A2")
"""References at the ears or mastoids, as the second half of a derivation's standard name (`C3-A2`)."""

_TEN_TEN: tuple[str, ...] = (
    *("Fp1", "FPz", "Fp2", "Nz", "O1", "Oz", "O2", "I1", "Iz", "I2", "T9", "T10"),
    *(f"{row}{n}" for row in ("AF", "F", "P", "PO") for n in range(1, 11)),
    *(f"{row}{n}" for row in ("FC", "C", "CP") for n in range(1, 7)),
    *(f"{row}{n}" for row in ("FT", "TP") for n in range(7, 11)),
    *(f"{row}z" for row in ("AF", "F", "FC", "C", "CP", "P", "PO")),
)
"""The extended 10-10 system (Jurcak et al. 2007); four of its names are aliases below."""

_OTHER_LEADS: tuple[str, ...] = (
    *("A1", "A2", "A1A2", "PG1", "PG2", "SP1", "SP2", "T1", "T2"),
    *("ECG1", "ECG2", "EMG1", "EMG2", "EMG3", "EMG4", "EOG1", "EOG2", "EOGV", "EOGH"),
)

_ALIASES: dict[str, str] = {
    # the 10-20 system's older names are the standard ones here, because the published group stores them
    **{"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"},
    **{"M1": "A1", "M2": "A2"},
    **{"A1+A2": "A1A2", "M1M2": "A1A2", "M1+M2": "A1A2", "(A1+A2)/2": "A1A2", "(M1+M2)/2": "A1A2"},
    **{"ECG": "ECG1", "EKG": "ECG1", "EKG1": "ECG1", "EKG2": "ECG2", "ECGI": "ECG1", "ECGII": "ECG2"},
    **{"EMG": "EMG1", "CHIN": "EMG1", "CHIN1": "EMG1", "CHIN2": "EMG2", "EMGCHIN": "EMG1"},
    **{"EOG": "EOG1", "EOGL": "EOG1", "EOGLEFT": "EOG1", "LEOG": "EOG1", "LOC": "EOG1", "E1": "EOG1"},
    **{"EOGR": "EOG2", "EOGRIGHT": "EOG2", "REOG": "EOG2", "ROC": "EOG2", "E2": "EOG2"},
    **{"VEOG": "EOGV", "HEOG": "EOGH", "EOGVERTICAL": "EOGV", "EOGHORIZONTAL": "EOGH"},
}

_STANDARD: dict[str, str] = {
    **{name.upper(): name for name in (*_TEN_TEN, *TEN_TWENTY, *_OTHER_LEADS, *TWELVE_LEADS)},
    **_ALIASES,
}
"""Every known name, in capitals and without spaces, and its standard name."""

_TYPE_WORD = re.compile(r"^(EEG|ECG|EKG|EMG|EOG|PSG|POL)[\s_:-]*", re.IGNORECASE)
_REFERENCE = re.compile(r"-(REF\d?|LE|LER|CLE|AR|AVG|AVE|AV|CAR|ORG|CPZ|VREF|G2)$", re.IGNORECASE)
_DUPLICATE = re.compile(r"-\d+$")


def standard_name(label: str) -> str | None:
    """The standard name of a channel from its label in a file, or None if the label is not a known electrode.

    `EEG FP1-REF`, `Fp1..` and `fp1` give `Fp1`; `T7` gives `T3`; a label that is already a derivation keeps
    both sides (`T8-P8-0` gives `T4-T6`, `C3-M2` gives `C3-A2`) and is never mistaken for its first electrode.
    A suffix that names a common reference, `-CPz` among them, is dropped; `common_reference` returns it.
    Sources: EDF+ standard texts (labels as "type electrode-reference"); names and suffixes met in TUH,
    CHB-MIT, Sleep-EDF, MASS, Siena and eegmmidb files, and in those of Nihon Kohden (`POL Fp1`).
    """
    text = re.sub(r"\s*-\s*", "-", label.strip())
    for candidate in (text, _TYPE_WORD.sub("", text)):
        for name in (candidate, _DUPLICATE.sub("", candidate)):
            found = _electrode(_REFERENCE.sub("", name)) or _derivation(name)
            if found:
                return found
    return None


def standard_names(labels: Iterable[str]) -> tuple[str, ...]:
    """The standard name of each requested electrode; a label of no known electrode stays as it is.

    Raises:
        ValueError: two labels name one electrode.
    """
    label_of: dict[str, str] = {}
    for label in labels:
        name = standard_name(label) or label.strip()
        if name in label_of:
            raise ValueError(f"{label_of[name]!r} and {label!r} are one electrode, {name}: name it once")
        label_of[name] = label
    return tuple(label_of)


def _electrode(name: str) -> str | None:
    return _STANDARD.get(re.sub(r"[\s_]", "", name).rstrip(".").upper())


def _derivation(name: str) -> str | None:
    first, _, second = name.partition("-")
    sides = _electrode(first), _electrode(second)
    return f"{sides[0]}-{sides[1]}" if all(sides) and sides[0] != sides[1] else None


def common_reference(label: str) -> str | None:
    """The common reference that a label names, in capitals (`EEG FP1-REF` gives `REF`), or None."""
    match = _REFERENCE.search(_DUPLICATE.sub("", re.sub(r"\s*-\s*", "-", label.strip())))
    return match.group(1).upper() if match else None


# --- units --------------------------------------------------------------------------------------------------

UNITS_UV: dict[str, float] = {
    "uV": 1.0,
    "\u00b5V": 1.0,  # micro sign
    "\u03bcV": 1.0,  # Greek mu
    "\u00c2\u00b5V": 1.0,  # both again: UTF-8 read as Latin-1, as headers are
    "\u00ce\u00bcV": 1.0,
    "nV": 1e-3,
    "mV": 1e3,
    "V": 1e6,
}
"""Microvolts in one of each unit of voltage that EDF headers hold."""

_UNITS_ANY_CASE: dict[str, float] = {unit.lower(): factor for unit, factor in UNITS_UV.items()}


def unit_factor(unit: str) -> float | None:
    """Microvolts in one `unit`, or None if it is no known unit of voltage.

    Case is free, because headers are careless with it (`UV`, `uv`). Megavolts do not occur in a recording:
    `MV` is read as millivolts, which the reader of files says in a warning.
    """
    return _UNITS_ANY_CASE.get(unit.strip().lower())
