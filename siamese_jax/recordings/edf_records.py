"""The bytes of an EDF or BDF file: its header checked, its records, its time-stamped annotation lists.

edfio decodes signals (in `edf.py`); what it leaves to its callers stands here: bounds on every header number
before anything is allocated, records read from the middle of a file, and annotations of damaged lists. Source:
EDF (Kemp et al. 1992), EDF+ (Kemp and Olivan 2003, sections 2.1 and 2.2), www.edfplus.info.
"""

import datetime
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import get_args

import numpy as np

from siamese_jax.recordings.recording import Origin

MAX_RECORD_BYTES = 1 << 28
"""A larger record is refused: the least we read is one, and EDF recommends at most 61,440 bytes."""

SIGNAL_FIELDS = {
    **{"label": 16, "transducer": 80, "unit": 8},
    **{"physical minimum": 8, "physical maximum": 8, "digital minimum": 8, "digital maximum": 8},
    **{"prefiltering": 80, "samples in a record": 8, "reserved": 32},
}
"""Bytes of each header field of a signal; the header holds the first of all signals, then the second."""
_NUMBERS = ((184, 192, True), (236, 244, True), (244, 252, False), (252, 256, True))  # from, to, whether whole
_SIGNAL_NUMBERS = {
    **{"physical minimum": False, "physical maximum": False},
    **{"digital minimum": True, "digital maximum": True, "samples in a record": True},
}
MAKER = "siamese-jax"
"""Stands before the origin of annotations that this package wrote, in their signal's reserved field (EDFlib, and
programs built on it, refuse a file with any other text there) or in the recording field of the file."""
_ORIGIN = re.compile(rf"{MAKER} ({'|'.join(get_args(Origin))})\b")


@dataclass(frozen=True)
class Layout:
    """Where things lie in an EDF or BDF file whose header has been checked."""

    path: Path
    header: bytes
    """256 bytes and 256 a signal; as in the file but for NUL bytes and numbers that EDF writes otherwise."""
    mended: tuple[str, ...]
    """Numbers that EDF writes otherwise, and how they are read."""
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
    def annotation_spans(self) -> tuple[tuple[int, int, Origin], ...]:
        """First and last byte (excluded) in a record of each annotation signal, and who made the annotations."""
        ends = np.cumsum((0, *self.samples)) * self.sample_bytes
        others = sorted(set(range(len(self.labels))) - set(self.ordinary))
        return tuple((int(ends[i]), int(ends[i + 1]), self._origin(i)) for i in others)

    def _origin(self, position: int) -> Origin:
        said = _ORIGIN.search(f"{self.signal_field(position, 'reserved')}\n{self.field(88, 80)}")
        return next((origin for origin in get_args(Origin) if said and said[1] == origin), "human")

    @property
    def kind(self) -> str:
        """`EDF`, `EDF+C`, `EDF+D`, `BDF`, `BDF+C` or `BDF+D`."""
        plain = "BDF" if self.bdf else "EDF"
        plus = self.field(192, 44)[:5].upper()
        return plus if plus in (f"{plain}+C", f"{plain}+D") else plain

    @functools.cached_property
    def first_seconds(self) -> float:
        """From the header's date and time to the first sample, by the first record's time stamp (EDF+ 2.2.4)."""
        if not self.annotation_spans:
            return 0.0
        start, stop, _ = self.annotation_spans[0]
        with self.path.open("rb") as file:
            file.seek(len(self.header) + start)
            onset = time_stamp(file.read(stop - start))
        return float(onset or 0)

    @property
    def truncated(self) -> bool:
        """Whether there are fewer data than the header claims, or the header does not know how many."""
        expected = self.records_expected
        return expected is None or self.n_records < expected or self.n_left_over > 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the file's length and its header's numbers, one sentence each."""
        found = []
        expected = self.records_expected
        if expected != self.n_records:
            claim = "does not say how many data records there are" if expected is None else f"claims {expected}"
            found.append(f"the header {claim}; the file holds {self.n_records} whole data records, all are read")
        if self.n_left_over:
            found.append(f"the last data record is cut ({self.n_left_over} of {self.record_bytes} bytes): left out")
        if self.field(184, 8) != str(len(self.header)):
            found.append(f"the header states a wrong length of itself: {self.field(184, 8)!r}, not {len(self.header)}")
        if self.mended:
            more = f" and {len(self.mended) - 3} more" if len(self.mended) > 3 else ""
            found.append(f"numbers in the header are not as EDF has them: {', '.join(self.mended[:3])}{more}")
        return tuple(found)

    def field(self, start: int, length: int) -> str:
        """A field of the header's first 256 bytes, as text."""
        return _text(self.header[start : start + length])

    def signal_field(self, position: int, name: str) -> str:
        """A field of a signal's header, as text; `name` is one of SIGNAL_FIELDS."""
        return _text(self.header[_signal_span(name, position, len(self.labels))])

    def read_records(self, start: int, stop: int) -> bytes:
        """The bytes of records [start, stop), straight from the file.

        The file is opened for each call, so that threads may read it at the same time.

        Raises:
            ValueError: the file has become shorter than it was.
        """
        with self.path.open("rb") as file:
            file.seek(len(self.header) + start * self.record_bytes)
            data = file.read((stop - start) * self.record_bytes)
        if len(data) != (stop - start) * self.record_bytes:
            raise ValueError(f"{self.path.name} has become shorter since it was opened")
        return data

    def read_left_over(self) -> bytes:
        """The bytes after the last whole record."""
        with self.path.open("rb") as file:
            file.seek(len(self.header) + self.n_records * self.record_bytes)
            return file.read(self.n_left_over)

    def as_file(self, start: int, stop: int) -> bytes:
        """An EDF or BDF of records [start, stop) alone, for a decoder of whole files."""
        counts = b"%-8d%b%-8d" % (len(self.header), self.header[192:236], stop - start)
        return b"".join((self.header[:184], counts, self.header[244:], self.read_records(start, stop)))


def read_layout(path: Path) -> Layout:
    """The layout of an EDF or BDF file.

    A decimal comma in a header number is read as a point, `60.0` as the whole number it is; both are said in
    the layout's warnings.

    Raises:
        ValueError: one sentence that names the file, if it is empty, neither EDF nor BDF, cut inside its
            header, without a whole record, or if a number in its header is none or is out of bounds.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(256)
        n_signals = _check_start(path.name, start, size)
        header, mended = _with_plain_numbers(start + file.read(256 * n_signals), n_signals)
    samples = tuple(
        _integer(
            header[_signal_span("samples in a record", i, n_signals)],
            f"{path.name}: samples in a record",
            0,
            MAX_RECORD_BYTES,
        )
        for i in range(n_signals)
    )
    bdf = start.startswith(b"\xff")
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
        mended=mended,
        bdf=bdf,
        labels=tuple(_text(header[_signal_span("label", i, n_signals)]) for i in range(n_signals)),
        samples=samples,
        record_seconds=_record_seconds(header[244:252], path.name),
        records_expected=None if expected < 0 else expected,
        n_records=n_records,
        n_left_over=n_left_over,
    )


def _signal_span(name: str, position: int, n_signals: int) -> slice:
    """Where a field of a signal lies in the header."""
    names = list(SIGNAL_FIELDS)
    before = sum(SIGNAL_FIELDS[other] for other in names[: names.index(name)])
    at = 256 + before * n_signals + SIGNAL_FIELDS[name] * position
    return slice(at, at + SIGNAL_FIELDS[name])


def _check_start(name: str, start: bytes, size: int) -> int:
    if not start:
        raise ValueError(f"{name} is empty")
    if start[:8].strip(b" \x00") != b"0" and start[:8] != b"\xffBIOSEMI":
        raise ValueError(f"{name} is neither EDF nor BDF: it begins with {start[:8]!r}")
    if len(start) < 256:
        raise ValueError(f"{name} is cut inside its header: {len(start)} of at least 512 bytes")
    n_signals = _integer(_plain_number(start[252:256], whole=True), f"{name}: number of signals", 1, 9999)
    if size < 256 * (n_signals + 1):
        raise ValueError(
            f"{name} is cut inside its header: {size} of {256 * (n_signals + 1)} bytes for {n_signals} signals"
        )
    return n_signals


def _with_plain_numbers(header: bytes, n_signals: int) -> tuple[bytes, tuple[str, ...]]:
    """The header with every number as EDF has it and spaces for NUL bytes; and which numbers that changed."""
    spans = [(slice(start, stop), whole) for start, stop, whole in _NUMBERS]
    spans += [(_signal_span(f, i, n_signals), whole) for f, whole in _SIGNAL_NUMBERS.items() for i in range(n_signals)]
    new, mended = bytearray(header.replace(b"\x00", b" ")), dict[str, None]()
    for span, whole in spans:
        number = _plain_number(bytes(new[span]), whole=whole)
        if number.strip() != new[span].strip():
            mended[f"{_text(bytes(new[span]))!r} is read as {_text(number)}"] = None
        new[span] = number
    return bytes(new), tuple(mended)


def _plain_number(field: bytes, *, whole: bool) -> bytes:
    """A header number with a point for a decimal comma and, if it is a whole one, without decimals that are 0."""
    text = field.strip(b" \x00")
    if whole:
        text = re.sub(rb"^([+-]?\d+)[.,]0*$", rb"\1", text)
    elif re.fullmatch(rb"[+-]?\d*,\d+([eE][+-]?\d+)?", text):
        text = text.replace(b",", b".")
    return text.ljust(len(field))


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


# --- annotation lists ---------------------------------------------------------------------------------------

_TIMING = re.compile(rb"([+-]\d{1,15}(?:\.\d*)?)(?:\x15(\d{1,15}(?:\.\d*)?))?")


def annotation_lists(data: bytes) -> Iterator[tuple[str, float, list[str]] | None]:
    """Onset as it is written, duration and texts of each time-stamped list (EDF+ 2.2.2); None for a damaged one."""
    for chunk in filter(None, data.split(b"\x00")):
        timing, *texts = chunk.split(b"\x14")
        times = _TIMING.fullmatch(timing)
        # the byte 20 ends a text, so nothing stands behind the last
        yield times and (times[1].decode(), float(times[2] or 0), [_annotation_text(text) for text in texts[:-1]])


def time_stamp(data: bytes) -> str | None:
    """The onset of a record, as written in its first annotation signal: that of an empty text, before all others."""
    first = next(annotation_lists(data), None)
    return first[0] if first and first[2][:1] == [""] else None


def _annotation_text(text: bytes) -> str:
    """UTF-8, as EDF+ has it, or Latin-1, as some writers do."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


# --- who and when -------------------------------------------------------------------------------------------

_NO_CODE = re.compile(r"[x0-]*|unknown|anon\w*|patient|none|n/?a", re.IGNORECASE)
_PATIENT = re.compile(r"(\S+) [MFX] (?:X|\d\d-[A-Z]{3}-\d{4}) \S+.*", re.IGNORECASE)
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def patient_code(layout: Layout) -> str | None:
    """The code of a patient identification as in EDF+ ("code sex birthdate name"), unless a placeholder."""
    match = _PATIENT.fullmatch(layout.field(8, 80))
    return match[1] if match and not _NO_CODE.fullmatch(match[1]) else None


def start_datetime(layout: Layout) -> datetime.datetime | None:
    """When the first sample was taken; None if the date is hidden or there is none.

    The date is that of "Startdate dd-MMM-yyyy" (EDF+) or the header's, the fraction of a second that of the first
    record's time stamp.
    """
    clock = re.fullmatch(r"(\d\d)[.:](\d\d)[.:](\d\d)", layout.field(176, 8))
    recording = layout.field(88, 80).upper()
    plus = re.match(r"STARTDATE (\d\d)-([A-Z]{3})-(\d{4})\b", recording)
    plain = re.fullmatch(r"(\d\d)[.:/' -](\d\d)[.:/' -](\d\d)", layout.field(168, 8))
    if clock is None or recording.startswith("STARTDATE X"):
        return None
    if plus and plus[2] in MONTHS:
        date = int(plus[3]), MONTHS.index(plus[2]) + 1, int(plus[1])
    elif plain:
        century = 1900 if int(plain[3]) >= 85 else 2000  # EDF+: 1985 to 2084
        date = century + int(plain[3]), int(plain[2]), int(plain[1])
    else:
        return None
    try:
        start = datetime.datetime(*date, int(clock[1]), int(clock[2]), int(clock[3]))
        return start + datetime.timedelta(seconds=layout.first_seconds)
    except (ValueError, OverflowError):
        return None
