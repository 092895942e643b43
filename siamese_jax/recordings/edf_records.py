"""The bytes of an EDF or BDF file: its header checked, its records, its time-stamped annotation lists.

edfio decodes signals (in `edf.py`); what it leaves to its callers stands here: bounds on every header number
before anything is allocated, records read from the middle of a file, and the onset of each record. Source:
EDF (Kemp et al. 1992), EDF+ (Kemp and Olivan 2003, sections 2.1 and 2.2), www.edfplus.info.
"""

import datetime
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

MAX_RECORD_BYTES = 1 << 28
"""A larger record is refused: the least we read is one, and EDF recommends at most 61,440 bytes."""

SIGNAL_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
"""Bytes of each header field of a signal; the header holds the first of all signals, then the second."""
_SAMPLES_FIELD = 8

_TIMING = re.compile(rb"([+-]\d{1,15}(?:\.\d*)?)(?:\x15(\d{1,15}(?:\.\d*)?))?")


@dataclass(frozen=True)
class Layout:
    """Where things lie in an EDF or BDF file whose header has been checked."""

    path: Path
    header: bytes
    """The header as it stands in the file, 256 bytes and 256 a signal."""
    bdf: bool
    labels: tuple[str, ...]
    samples: tuple[int, ...]
    """Samples of each signal in one record."""
    record_seconds: Fraction
    records_expected: int | None
    """As the header claims; None if it does not know (-1)."""
    n_records: int
    """Whole records in the file."""
    n_left_over: int
    """Bytes after the last whole record."""

    @property
    def sample_bytes(self) -> int:
        """Bytes in a sample: 2 in EDF, 3 in BDF."""
        return 3 if self.bdf else 2

    @property
    def record_bytes(self) -> int:
        """Bytes in a record."""
        return sum(self.samples) * self.sample_bytes

    @property
    def ordinary(self) -> tuple[int, ...]:
        """Positions of the signals that are not annotations."""
        name = "BDF Annotations" if self.bdf else "EDF Annotations"
        return tuple(i for i, label in enumerate(self.labels) if label != name)

    @property
    def annotation_spans(self) -> tuple[tuple[int, int], ...]:
        """First and last byte (excluded) in a record of each annotation signal."""
        ends = np.cumsum((0, *self.samples)) * self.sample_bytes
        others = set(range(len(self.labels))) - set(self.ordinary)
        return tuple((int(ends[i]), int(ends[i + 1])) for i in sorted(others))

    @property
    def kind(self) -> str:
        """`EDF`, `EDF+C`, `EDF+D`, `BDF`, `BDF+C` or `BDF+D`."""
        plain = "BDF" if self.bdf else "EDF"
        plus = self.field(192, 44)[:5].upper()
        return plus if plus in (f"{plain}+C", f"{plain}+D") else plain

    @property
    def truncated(self) -> bool:
        """Whether there are fewer data than the header claims, or the header does not know how many."""
        expected = self.records_expected
        return expected is None or self.n_records < expected or self.n_left_over > 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the file's length, one sentence each."""
        found = []
        expected = self.records_expected
        if expected != self.n_records:
            claim = "does not say how many data records there are" if expected is None else f"claims {expected}"
            found.append(f"the header {claim}; the file holds {self.n_records} whole data records, all are read")
        if self.n_left_over:
            found.append(f"the last data record is cut ({self.n_left_over} of {self.record_bytes} bytes): left out")
        if self.field(184, 8) != str(len(self.header)):
            found.append(f"the header's own length is wrong in it: {self.field(184, 8)!r}, not {len(self.header)}")
        return tuple(found)

    def field(self, start: int, length: int) -> str:
        """A field of the header's first 256 bytes, as text."""
        return _text(self.header[start : start + length])

    def read_records(self, start: int, stop: int) -> bytes:
        """The bytes of records [start, stop), straight from the file.

        The file is opened for each call: nothing stays mapped, and threads do not meet.

        Raises:
            ValueError: the file has become shorter than it was.
        """
        with self.path.open("rb") as file:
            file.seek(len(self.header) + start * self.record_bytes)
            data = file.read((stop - start) * self.record_bytes)
        if len(data) != (stop - start) * self.record_bytes:
            raise ValueError(f"{self.path.name} has become shorter since it was opened")
        return data

    def as_file(self, start: int, stop: int) -> bytes:
        """An EDF or BDF of records [start, stop) alone, for a decoder of whole files."""
        header = self.header.replace(b"\x00", b" ")
        counts = b"%-8d%b%-8d" % (len(header), header[192:236], stop - start)
        return b"".join((header[:184], counts, header[244:], self.read_records(start, stop)))


def read_layout(path: Path) -> Layout:
    """The layout of an EDF or BDF file.

    Raises:
        ValueError: one sentence that names the file, if it is empty, neither EDF nor BDF, cut inside its
            header, without a whole record, or if a number in its header is none or is out of bounds.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(256)
        n_signals = _check_start(path.name, start, size)
        header = start + file.read(256 * n_signals)
    bdf = start.startswith(b"\xff")
    at = 256 + n_signals * sum(SIGNAL_FIELDS[:_SAMPLES_FIELD])
    samples = tuple(
        _integer(header[i : i + 8], f"{path.name}: samples in a record", 0, MAX_RECORD_BYTES)
        for i in range(at, at + 8 * n_signals, 8)
    )
    record_bytes = sum(samples) * (3 if bdf else 2)
    if not 0 < record_bytes <= MAX_RECORD_BYTES:
        raise ValueError(
            f"{path.name}: its header claims data records of {record_bytes} bytes; 1 to {MAX_RECORD_BYTES} can be read"
        )
    n_records, n_left_over = divmod(size - len(header), record_bytes)
    if not n_records:
        raise ValueError(f"{path.name} holds no whole data record: {n_left_over} of {record_bytes} bytes")
    expected = _integer(header[236:244], f"{path.name}: number of data records", -1, 10**8)
    return Layout(
        path=path,
        header=header,
        bdf=bdf,
        labels=tuple(_text(header[256 + 16 * i : 272 + 16 * i]) for i in range(n_signals)),
        samples=samples,
        record_seconds=_record_seconds(header[244:252], path.name),
        records_expected=None if expected < 0 else expected,
        n_records=n_records,
        n_left_over=n_left_over,
    )


def _check_start(name: str, start: bytes, size: int) -> int:
    if not start:
        raise ValueError(f"{name} is empty")
    if start[:8].strip(b" \x00") != b"0" and start[:8] != b"\xffBIOSEMI":
        raise ValueError(f"{name} is neither EDF nor BDF: it begins with {start[:8]!r}")
    if len(start) < 256:
        raise ValueError(f"{name} is cut inside its header: {len(start)} of at least 512 bytes")
    n_signals = _integer(start[252:256], f"{name}: number of signals", 1, 9999)
    if size < 256 * (n_signals + 1):
        raise ValueError(
            f"{name} is cut inside its header: {size} of {256 * (n_signals + 1)} bytes for {n_signals} signals"
        )
    return n_signals


def _integer(field: bytes, what: str, low: int, high: int) -> int:
    text = field.strip(b" \x00")
    if not re.fullmatch(rb"[+-]?\d+", text) or not low <= int(text) <= high:
        raise ValueError(f"{what} must be a whole number from {low} to {high}, is {_text(field)!r}")
    return int(text)


def _record_seconds(field: bytes, name: str) -> Fraction:
    text = _text(field)
    if re.fullmatch(r"\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        if float(text) == 0:
            return Fraction(0)
        if 1e-6 <= float(text) <= 1e6:
            return Fraction(text)
    raise ValueError(f"{name}: seconds in a data record must be 0 or a number from 1e-6 to 1e6, is {text!r}")


def _text(field: bytes) -> str:
    return field.decode("latin-1").replace("\x00", " ").rstrip()


class Stamps(NamedTuple):
    """What the annotation signals of a file say."""

    onsets: Float64[np.ndarray, "record"]
    """Start of each record in seconds from the file's start; NaN where a record has no time stamp."""
    annotations: tuple[tuple[float, float, str], ...]
    """Onset and duration in seconds, and text, as they stand in the file."""
    n_damaged: int
    """Lists that could not be read."""


def read_stamps(layout: Layout) -> Stamps:
    """Time stamps and annotations from every record's annotation signals; reads those bytes alone.

    Clauses (EDF+ 2.2.4): the first list in the first annotation signal of each record begins with an empty
    annotation, and its onset is the record's start.
    """
    onsets = np.full(layout.n_records, np.nan)
    annotations: list[tuple[float, float, str]] = []
    n_damaged = 0
    spans = layout.annotation_spans
    with layout.path.open("rb", buffering=0) as file:
        for record in range(layout.n_records if spans else 0):
            for which, (start, stop) in enumerate(spans):
                file.seek(len(layout.header) + record * layout.record_bytes + start)
                for position, chunk in enumerate(_lists(file.read(stop - start))):
                    timing = _TIMING.fullmatch(chunk[0])
                    if timing is None:
                        n_damaged += 1
                        continue
                    onset, duration = float(timing[1]), float(timing[2] or 0)
                    if which == position == 0 and chunk[1:2] == [b""]:
                        onsets[record] = onset
                    annotations += [(onset, duration, _annotation_text(t)) for t in chunk[1:] if t]
    return Stamps(onsets, tuple(annotations), n_damaged)


def _lists(data: bytes) -> list[list[bytes]]:
    """Each time-stamped annotation list as its timing and texts (EDF+ 2.2.2: onset, 20, text, 20, ..., 0)."""
    chunks = (chunk.split(b"\x14") for chunk in data.split(b"\x00") if chunk)
    return [chunk[:-1] if len(chunk) > 1 else chunk for chunk in chunks]


def _annotation_text(text: bytes) -> str:
    """UTF-8, as EDF+ has it, or Latin-1, as some writers do."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


class Run(NamedTuple):
    """Records that follow each other without a gap."""

    first: int
    n_records: int
    onset_seconds: float


def find_runs(layout: Layout, stamps: Stamps, *, tolerance_seconds: float) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """The gap-free runs of records, and warnings.

    A record follows the one before without a gap if it starts where that ends (EDF+ 2.2.4), within the
    tolerance. The stamps decide, also in a file that calls itself continuous. A record without a stamp is
    taken to follow.
    """
    step = float(layout.record_seconds)
    onsets = np.arange(layout.n_records) * step
    known = np.isfinite(stamps.onsets)
    if known.any():
        # each record counts from the last one that has a stamp; those before the first count from 0
        last = np.maximum.accumulate(np.where(known, np.arange(layout.n_records), -1))
        since = np.where(last >= 0, stamps.onsets[last] - last * step, 0.0)
        onsets = onsets + since
    off = np.diff(onsets) - step
    breaks = np.flatnonzero(np.abs(off) > tolerance_seconds) + 1
    firsts = np.concatenate([[0], breaks, [layout.n_records]]).astype(int)
    runs = tuple(
        Run(int(first), int(end - first), max(0.0, float(onsets[first])))
        for first, end in zip(firsts[:-1], firsts[1:], strict=True)
    )
    warnings = []
    gaps, overlaps = off[off > tolerance_seconds], off[off < -tolerance_seconds]
    if len(gaps):
        warnings.append(f"{len(gaps)} gap(s) in time, {gaps.sum():g} s in all, part the recording")
    if len(overlaps):
        warnings.append(f"{len(overlaps)} data record(s) start before the one before them ends: kept apart")
    if layout.annotation_spans and not known.all():
        warnings.append(f"{(~known).sum()} data record(s) without a time stamp: taken to follow the one before")
    if stamps.n_damaged:
        warnings.append(f"{stamps.n_damaged} annotation list(s) are damaged and left out")
    return runs, tuple(warnings)


_NO_CODE = re.compile(r"[x0-]*|unknown|anon\w*|patient|none|n/?a", re.IGNORECASE)
_PATIENT = re.compile(r"(\S+) [MFX] (?:X|\d\d-[A-Z]{3}-\d{4}) \S+.*", re.IGNORECASE)
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def patient_code(layout: Layout) -> str | None:
    """The code of a patient identification as in EDF+ ("code sex birthdate name"), unless a placeholder."""
    match = _PATIENT.fullmatch(layout.field(8, 80))
    return match[1] if match and not _NO_CODE.fullmatch(match[1]) else None


def start_datetime(layout: Layout) -> datetime.datetime | None:
    """The file's start, by "Startdate dd-MMM-yyyy" (EDF+) or the header's date; None if hidden or no date."""
    clock = re.fullmatch(r"(\d\d)[.:](\d\d)[.:](\d\d)", layout.field(176, 8))
    recording = layout.field(88, 80).upper()
    plus = re.match(r"STARTDATE (\d\d)-([A-Z]{3})-(\d{4})\b", recording)
    plain = re.fullmatch(r"(\d\d)[.:](\d\d)[.:](\d\d)", layout.field(168, 8))
    if clock is None or recording.startswith("STARTDATE X"):
        return None
    if plus and plus[2] in _MONTHS:
        date = int(plus[3]), _MONTHS.index(plus[2]) + 1, int(plus[1])
    elif plain:
        century = 1900 if int(plain[3]) >= 85 else 2000  # EDF+: 1985 to 2084
        date = century + int(plain[3]), int(plain[2]), int(plain[1])
    else:
        return None
    try:
        return datetime.datetime(*date, int(clock[1]), int(clock[2]), int(clock[3]))
    except ValueError:
        return None
