"""The bytes of an EDF or BDF file: its header checked, its records, its time-stamped annotation lists.

edfio decodes signals (in `edf.py`); what it leaves to its callers stands here: bounds on every header number before
anything is allocated, records read from the middle of a file, and the onset of each record.
Source: EDF (Kemp et al. 1992), EDF+ (Kemp and Olivan 2003, sections 2.1 and 2.2), www.edfplus.info.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

MAX_RECORD_BYTES = 1 << 28
"""A larger record is refused: the standard recommends at most 61,440 bytes, and one record is the least we read."""

SIGNAL_FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
"""Bytes of each header field of a signal, in order; the header holds all signals' first field, then the second."""
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
    """Each time-stamped annotation list as its timing and its texts (EDF+ 2.2.2: onset, 20, text, 20, ..., 0)."""
    chunks = (chunk.split(b"\x14") for chunk in data.split(b"\x00") if chunk)
    return [chunk[:-1] if len(chunk) > 1 else chunk for chunk in chunks]


def _annotation_text(text: bytes) -> str:
    """UTF-8, as EDF+ has it, or Latin-1, as some writers do."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")
