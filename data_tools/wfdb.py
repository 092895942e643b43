r"""WFDB records, PhysioNet's format: a header in text, `<record>.hea`, and signals in binary files beside it.

    1 12 500 5000                                         record, signals, rate, samples; time and date are not used
    1.dat 16 1000(24)/mV 16 0 -119 1508 0 i               file, format, gain(baseline)/unit, bits, zero, first sample,
    1.dat 16 1000(24)/mV 16 0 -55 723 0 ii                checksum, block size, description
    # Rhythm: Sinus rhythm.                               comments; diagnoses stand here

After header(5) and signal(5) of the WFDB Applications Guide (FACT); the tests hold it against the wfdb package. Fields
from the gain on may be missing. `16+24` is format 16 after 24 bytes: so the headers of PhysioNet's challenges point
into MATLAB files. LUDB, PTB-XL and the challenge of 2021 have format 16 alone, so no other is read.

Why not the wfdb package: it reads on where a header is wrong (version 4.3.1, measured: the rate `fast` becomes 250 Hz
and `1e3` 1 Hz, the gain `loud` 200, and checksums are not verified), so that each header would have to be parsed here
before it is.

`read_ecg` makes the leads of the standard electrocardiogram in such a record a recording, with what is missing in it.

A line to train with, on shards of any of them as they come (100 Hz, 10 s, the task `diagnosis`):

    siamese-jax train SHARDS RUN --preset ecg
"""

import dataclasses
import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int16

from siamese_jax.cohort.sources import reading_notes
from siamese_jax.config.experiment import DataConfig
from siamese_jax.config.presets import ECG
from siamese_jax.files import MAX_TEXT_BYTES
from siamese_jax.recordings.intervals import merged
from siamese_jax.recordings.recording import Annotation, Recording, recording_from_array
from siamese_jax.vocabulary import TWELVE_LEADS, unit_factor

DEFAULT_DATA = ECG.data
"""Ten seconds of twelve leads: a resting electrocardiogram. Classifiers of PTB-XL are no worse at 100 Hz than at 500
(Strodthoff et al. 2021; RECALL)."""
SHORTEST_SHARE = 0.5
"""How much of a window a record must last, to be lengthened to one."""
DEFAULT_SFREQ, DEFAULT_GAIN, DEFAULT_UNIT = 250.0, 200.0, "mV"
"""What header(5) says of fields that are missing; a gain of 0 is a missing one."""

FORMAT, MISSING = "16", -(2**15)
"""The format that is read (two bytes a sample, the lower one first), and the value of a missing sample."""

_LEADS = {name.removeprefix("ECG-").upper(): name for name in TWELVE_LEADS}


class Signal(NamedTuple):
    """A signal as its line in the header describes it."""

    file: str
    offset: int
    """Bytes before the first sample."""
    gain: float
    """Integers in one of its unit."""
    calibrated: bool
    """Whether the header gives the gain."""
    baseline: int
    """The integer that is 0 of its unit."""
    unit: str
    checksum: int | None
    """Sum of all samples, modulo 65536."""
    description: str


class Header(NamedTuple):
    """A record as its header describes it."""

    path: Path
    sfreq: float
    n_times: int | None
    """Samples of each signal; None if the files' lengths say it."""
    signals: tuple[Signal, ...]
    comments: tuple[str, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """Where the samples are, each file once."""
        return tuple(dict.fromkeys(self.path.with_name(signal.file) for signal in self.signals))


class Ecg(NamedTuple):
    """An electrocardiogram and what is to be known about it."""

    recording: Recording
    bad: tuple[Annotation, ...]
    """`BAD_missing` where samples are missing, or no lead moves."""
    notes: tuple[str, ...]
    comments: tuple[str, ...]
    """The header's."""


# --- headers ------------------------------------------------------------------------------------------------


def find_headers(root: Path) -> list[Path]:
    """Every header in a folder and all folders in it, in order, save what macOS leaves behind (`._100.hea`).

    Raises:
        ValueError: no such folder.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    return sorted(path for path in root.rglob("*.hea") if not path.name.startswith("."))


_RATE = re.compile(r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?)(?:/[^\s]*)?", re.IGNORECASE)  # a counter's frequency may follow
_FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?")  # format, samples per frame, skew, bytes before
_GAIN = re.compile(r"([+-]?\d+(?:\.\d*)?(?:e[+-]?\d+)?)(?:\(([+-]?\d+)\))?(?:/(\S+))?", re.IGNORECASE)


def read_header(path: Path) -> Header:
    """What `<record>.hea` says.

    Raises:
        ValueError: no header, or of a record in several segments or at several rates, in one sentence that names it.
        OSError: it cannot be opened.
    """
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise ValueError(f"{path.name} is larger than {MAX_TEXT_BYTES} bytes: no header is")
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    comments = tuple(line.lstrip("#").strip() for line in lines if line.startswith("#"))
    record, *rest = [line for line in lines if not line.startswith("#")] or [""]
    fields = record.split()
    if len(fields) < 2 or not fields[1].isdecimal():
        raise ValueError(f"{path.name} is no WFDB header: its first line is {record[:60]!r}")
    if "/" in fields[0]:
        raise ValueError(f"{path.name} is of a record in several segments, which are not read")
    rate = _RATE.fullmatch(fields[2]) if len(fields) > 2 else None
    sfreq = float(rate[1]) if rate else DEFAULT_SFREQ
    if (len(fields) > 2 and rate is None) or not 0 < sfreq < 1e6:
        raise ValueError(f"{path.name}: {fields[2]!r} is no sampling rate")
    n_signals, n_times = int(fields[1]), int(fields[3]) if len(fields) > 3 and fields[3].isdecimal() else 0
    if not 0 < n_signals <= len(rest):
        raise ValueError(f"{path.name} is to describe {n_signals} signals, and describes {len(rest)}")
    return Header(path, sfreq, n_times or None, tuple(_signal(path, line) for line in rest[:n_signals]), comments)


def _signal(path: Path, line: str) -> Signal:
    """One signal's line."""
    file, kind, gain, _, zero, _, checksum, _, description = [*line.split(maxsplit=8), *[""] * 9][:9]
    coded, scaled = _FORMAT.fullmatch(kind), _GAIN.fullmatch(gain or "0")
    numbers = [text for text in (zero, checksum) if not re.fullmatch(r"[+-]?\d*", text)]
    if coded is None or scaled is None or numbers:
        raise ValueError(f"{path.name}: not the description of a signal: {line[:80]!r}")
    if file in ("-", "~") or Path(file).name != file:
        raise ValueError(f"{path.name}: the samples must be in a file beside it, not in {file!r}")
    if int(coded[2] or 1) > 1 or int(coded[3] or 0):
        raise ValueError(
            f"{path.name}: {description or 'a signal'} has a rate or a delay of its own ({kind}): not read"
        )
    if coded[1] != FORMAT:
        raise ValueError(f"{path.name}: signal format {coded[1]} is not read; only {FORMAT} is")
    factor = float(scaled[1])
    return Signal(
        file=file,
        offset=int(coded[4] or 0),
        gain=factor or DEFAULT_GAIN,
        calibrated=factor != 0,
        baseline=int(scaled[2] or zero or 0),
        unit=scaled[3] or DEFAULT_UNIT,
        checksum=int(checksum) if checksum else None,
        description=description.strip(),
    )


# --- samples ------------------------------------------------------------------------------------------------


def read_samples(header: Header, wanted: Sequence[int]) -> Float32[np.ndarray, "time chan"]:
    """Some of a record's signals, in microvolts; NaN where a sample is missing.

    Args:
        header: the record's.
        wanted: which of `header.signals`, in the order wanted.

    Raises:
        ValueError: a file cut short, samples that do not give the header's checksum, files of different lengths, or a
            unit that is none of voltage.
        OSError: a file cannot be opened.
    """
    columns = {}
    for file in header.files:
        inside = [i for i, signal in enumerate(header.signals) if signal.file == file.name]
        if any(i in wanted for i in inside):
            digital = _digital(header, file, inside)
            columns |= {i: _microvolts(header, i, digital[:, k]) for k, i in enumerate(inside) if i in wanted}
    if len({len(column) for column in columns.values()}) != 1:
        raise ValueError(f"{header.path.name}: its signals are not of one length")
    return np.stack([columns[i] for i in wanted], axis=1)


def _digital(header: Header, file: Path, inside: Sequence[int]) -> Int16[np.ndarray, "time chan"]:
    """The integers of all signals in a file, which take turns."""
    (offset, *others), n_signals = {header.signals[i].offset for i in inside}, len(inside)
    if others:
        raise ValueError(f"{header.path.name}: the signals in {file.name} begin at different bytes")
    n_held = max(file.stat().st_size - offset, 0) // (2 * n_signals)
    n_times = n_held if header.n_times is None else header.n_times
    if n_held < n_times or not n_times:
        raise ValueError(f"{file.name} is cut short: {n_held} samples a signal, {header.path.name} says {n_times}")
    return np.fromfile(file, "<i2", n_times * n_signals, offset=offset).astype(np.int16).reshape(n_times, n_signals)


def _microvolts(header: Header, i: int, digital: Int16[np.ndarray, "time"]) -> Float32[np.ndarray, "time"]:
    signal = header.signals[i]
    place = f"{header.path.name}: signal {i + 1} ({signal.description or 'without a name'})"
    if signal.checksum is not None and (int(digital.sum(dtype=np.int64)) - signal.checksum) % 2**16:
        raise ValueError(f"{place} in {signal.file} is damaged: its samples do not give the header's checksum")
    factor = unit_factor(signal.unit)
    if factor is None:
        raise ValueError(f"{place}: {signal.unit!r} is no known unit of voltage")
    volts = (digital.astype(np.float64) - signal.baseline) * (factor / signal.gain)
    with np.errstate(over="ignore"):  # an absurd gain: `recording_from_array` refuses what is not finite
        return np.where(digital == MISSING, np.nan, volts).astype(np.float32)


# --- electrocardiograms -------------------------------------------------------------------------------------


def read_ecg(path: Path, data: DataConfig, *, gain: float | None = None) -> Ecg:
    """The leads of a record that `data.ch_names` names, at `data.sfreq`, in microvolts.

    Leads are known by their names, in whatever order and case. One without a sample or without movement is absent.
    Missing samples of others are bridged by straight lines, and the seconds with them are bad. A record shorter than a
    window is lengthened by its mirror image. Samples are read again each time.

    Args:
        path: the header.
        data: what is wanted.
        gain: integers in a millivolt, of every lead, instead of what the header says.

    Raises:
        ValueError: as `read_header` and `read_samples`; no requested lead; shorter than half a window.
        OSError: a file cannot be opened.
    """
    samples = _Lazy(path, _stamp(read_header(path)), data, gain)
    found = samples.ecg()
    return found._replace(recording=dataclasses.replace(found.recording, source=samples))


_Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class _Lazy:
    """A record's samples, read when they are used: a shard opens hundreds before it reads the first."""

    path: Path
    stamp: _Stamp
    data: DataConfig
    gain: float | None

    def ecg(self) -> Ecg:
        return _read(self.path, self.stamp, self.data, self.gain)

    def __call__(self, segment: int, start: int, stop: int) -> Float32[np.ndarray, "time chan"]:
        return self.ecg().recording.source(segment, start, stop)


def _stamp(header: Header) -> _Stamp:
    """What distinguishes a record's files from those that may replace them."""
    states = ((path.name, path.stat()) for path in (header.path, *header.files))
    return tuple((name, state.st_mtime_ns, state.st_size) for name, state in states)


@functools.lru_cache(maxsize=1)  # a shard reads one record after another, a minute at a time
def _read(path: Path, stamp: _Stamp, data: DataConfig, gain: float | None) -> Ecg:
    header = read_header(path)
    if gain is not None:
        signals = (signal._replace(gain=gain, calibrated=True, unit="mV") for signal in header.signals)
        header = header._replace(signals=tuple(signals))
    leads = {i: name for i, s in enumerate(header.signals) if (name := _LEADS.get(s.description.upper()))}
    chosen = [i for i, name in leads.items() if name in data.ch_names]
    if not chosen:
        held = ", ".join(signal.description or "?" for signal in header.signals)
        raise ValueError(f"{path.name} has none of the leads wanted; it has {held}")
    signal = read_samples(header, chosen)
    there = np.flatnonzero(~np.isnan(signal).all(axis=0))
    if not len(there):
        raise ValueError(f"{path.name}: every sample is missing")
    chosen, signal = [chosen[k] for k in there], signal[:, there]
    bad = _bad_seconds(signal, header.sfreq)
    signal, repairs = _lengthened(_bridged(signal), header, data)
    recording = recording_from_array(
        signal,
        sfreq=header.sfreq,
        ch_names=[leads[i] for i in chosen],
        target_ch_names=data.ch_names,
        target_sfreq=data.sfreq,
    )
    notes = [*reading_notes(recording), *repairs]
    if bad:
        notes.append("samples are missing, or every lead stands still, for a while: not labelled there")
    if not all(header.signals[i].calibrated for i in chosen):
        notes.append(f"its header gives no gain: {DEFAULT_GAIN:g} integers a {DEFAULT_UNIT} taken, as WFDB does")
    marks = tuple(Annotation(onset, duration, "BAD_missing") for onset, duration in bad)
    return Ecg(dataclasses.replace(recording, path=path), marks, tuple(notes), header.comments)


def _bad_seconds(signal: Float32[np.ndarray, "time chan"], sfreq: float) -> list[tuple[float, float]]:
    """Seconds with missing samples, or in which no lead moves: onsets and durations."""
    found, n_second = [], max(1, round(sfreq))
    for start in range(0, len(signal), n_second):
        piece = signal[start : start + n_second]
        still = len(piece) > 1 and not np.ptp(piece, axis=0).any()
        if still or np.isnan(piece).any():
            found.append((start / sfreq, len(piece) / sfreq))
    return merged(found)


def _bridged(signal: Float32[np.ndarray, "time chan"]) -> Float32[np.ndarray, "time chan"]:
    """Straight lines over missing samples; each channel has one that is not missing."""
    signal, time = signal.copy(), np.arange(len(signal))
    for column in signal.T:
        missing = np.isnan(column)
        if missing.any():
            column[missing] = np.interp(time[missing], time[~missing], column[~missing])
    return signal


def _lengthened(
    signal: Float32[np.ndarray, "time chan"], header: Header, data: DataConfig
) -> tuple[Float32[np.ndarray, "time chan"], list[str]]:
    """A signal of a window at least, and a note on its length."""
    seconds, window = len(signal) / header.sfreq, data.window_seconds
    if seconds < SHORTEST_SHARE * window:
        raise ValueError(f"{header.path.name} lasts less than half of a window of {window:g} s")
    if seconds < window:
        spare = math.ceil(window * header.sfreq) - len(signal)
        mirrored = np.pad(signal, ((0, spare), (0, 0)), mode="reflect")
        return mirrored, [f"shorter than a window of {window:g} s: lengthened by its mirror image"]
    notes = [f"longer than a window of {window:g} s: its diagnoses count for each"] if seconds >= 2 * window else []
    if len(signal) % round(window * header.sfreq):
        notes.append("its end fills no whole window and is left out")
    return signal, notes
