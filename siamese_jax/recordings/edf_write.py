"""Writing EDF+: recordings, annotations alone, and annotated copies with the source's signals byte for byte.

Annotations that are not a person's carry `siamese-jax` and their origin in the header: `read_annotations` gives them
back with it. A date or code that EDF+ cannot hold is hidden (`X`), which the writers return as notes. Source: EDF+
(Kemp and Olivan 2003).
"""

import datetime
import hashlib
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

import edfio
import numpy as np
from jaxtyping import Float

from siamese_jax.files import replacing
from siamese_jax.recordings.edf_records import (
    MAKER,
    MAX_RECORD_BYTES,
    MONTHS,
    SIGNAL_FIELDS,
    Layout,
    read_layout,
    start_datetime,
)
from siamese_jax.recordings.edf_times import read_stamps
from siamese_jax.recordings.recording import Annotation, Origin
from siamese_jax.vocabulary import EARS, channel_kind, standard_name

_DIGITAL = 32767
_SMALLEST_RANGE_UV = 100.0
_COPY_BYTES = 1 << 24
_CODE_HIDDEN = "the patient code is hidden: EDF+ holds one word of printable ASCII characters"
_DATE_HIDDEN = "the start date is hidden: EDF+ holds the years 1985 to 2084, not {}"
_PLUS_PATIENT = re.compile(r"\S+ [MFX] (X|\d\d-[A-Z]{3}-\d{4}) \S+.*", re.IGNORECASE)


def write_recording(
    path: Path | str,
    eeg_uv: Float[np.ndarray, "time chan"],
    *,
    sfreq: float,
    ch_names: Sequence[str],
    annotations: Iterable[Annotation] = (),
    patient_code: str | None = None,
    sex: Literal["M", "F", "X"] = "X",
    start: datetime.datetime | None = None,
) -> tuple[str, ...]:
    """Write microvolts as EDF+C with 16 bits.

    Labels are in the style of the EDF+ standard texts (`EEG Fp1-Ref`, `ECG ECG1`), the unit is uV. Each
    channel has its own physical range, symmetric about 0 and at least 100 uV, so the error is at most its
    largest value / 65534.

    Args:
        path: file to write; an existing one is replaced.
        eeg_uv: samples in microvolts, a whole number of data records (of 1 s, if `sfreq` is whole).
        sfreq: samples per second.
        ch_names: standard names.
        annotations: marks of one origin; onsets from the first sample.
        patient_code: one word; None if it is not known.
        sex: M, F, or X if not known.
        start: when the first sample was taken; None hides it.

    Returns:
        what of the identity is hidden, and why.

    Raises:
        ValueError: names and columns differ in number, samples that are not finite or beyond 9,999,999 uV, a
            name or text that EDF+ cannot hold, a part of a data record left over.
    """
    path, annotations = Path(path), tuple(annotations)
    if eeg_uv.shape[1] != len(ch_names):
        raise ValueError(f"{path.name}: {len(ch_names)} names for {eeg_uv.shape[1]} channels")
    n_in_record = Fraction(str(float(sfreq))).numerator
    if not len(eeg_uv) or len(eeg_uv) % n_in_record:
        raise ValueError(f"{path.name}: {len(eeg_uv)} samples are no whole number of data records of {n_in_record}")
    labels = [_label(name) for name in ch_names]
    identity, notes = _identity(patient_code, sex, start, _origin_of(annotations, "human"))
    edf = edfio.Edf(
        [_signal(eeg_uv[:, i], sfreq, label) for i, label in enumerate(labels)],
        annotations=_edfio_annotations(annotations, labels),
        **identity,
    )
    with replacing(path) as file:
        edf.write(file)
    return notes


def write_annotations(
    path: Path | str,
    annotations: Iterable[Annotation],
    *,
    start: datetime.datetime | None = None,
    patient_code: str | None = None,
) -> tuple[str, ...]:
    """Write annotations without signals, as Sleep-EDF does: an EDF+C file of one data record that takes 0 s.

    No annotations at all are a result too, and a machine's.

    Args:
        path: file to write; an existing one is replaced.
        annotations: marks of one origin; onsets from `start`.
        start: when the recording's first sample was taken; None hides it.
        patient_code: one word; None if it is not known.

    Returns:
        what of the identity is hidden, and why.

    Raises:
        ValueError: a text that EDF+ cannot hold, an onset or duration that is no number, or several origins.
    """
    annotations = tuple(annotations)
    found = _edfio_annotations(annotations, ())
    nothing = [edfio.EdfAnnotation(0.0, None, "")]  # edfio writes no file of none; an empty text is none
    identity, notes = _identity(patient_code, "X", start, _origin_of(annotations, "machine"))
    edf = edfio.Edf([], annotations=found or nothing, **identity)
    with replacing(path) as file:
        edf.write(file)
    return notes


class Copied(NamedTuple):
    """The result of copying a file, with hashes taken while it was copied."""

    notes: tuple[str, ...]
    """What of the identity is hidden, and why."""
    source_sha256: str
    sha256: str


def write_annotated_copy(source: Path | str, target: Path | str, annotations: Iterable[Annotation]) -> Copied:
    """Copy an EDF, EDF+C or EDF+D file, its records unchanged but for one more annotation signal.

    A plain EDF becomes EDF+C: its new signal carries the time stamps as well, and its identification fields
    get EDF+'s first subfields, with the old text after them where 80 characters hold both. Of a cut file the
    whole records are copied. `Annotation.channel` is written as `text@@label`, with the file's own label for
    it. Copying takes little memory, however long the file. Before the copy gets its name it is read back.

    Args:
        source: the file to copy.
        target: file to write; an existing one is replaced.
        annotations: marks of one origin; onsets from the first sample.

    Returns:
        notes, and the SHA-256 of both files.

    Raises:
        ValueError: the source is BDF or has no signals, or source and target are one file, or a text cannot
            be written; or what was read back differs (signals, record onsets or annotations).
    """
    layout, target, annotations = read_layout(Path(source)), Path(target), tuple(annotations)
    if layout.bdf:
        raise ValueError(f"{layout.path.name} is BDF: only EDF files can be copied with annotations")
    if not layout.ordinary or not layout.record_seconds:
        raise ValueError(f"{layout.path.name} holds annotations only, no signals")
    if target.exists() and target.samefile(layout.path):
        raise ValueError(f"the annotated copy of {target.name} cannot take its place")
    origin = _origin_of(annotations, "machine")
    added = [_as_written(annotation, layout.labels) for annotation in annotations]
    blocks = _annotation_blocks(layout, added)
    header, notes = _header_with_annotations(layout, len(blocks[0]) // 2, origin)
    digest, signals = hashlib.sha256(layout.header), 0
    with replacing(target) as file:
        file.write(header)
        for start, stop in _chunks(layout):
            data = layout.read_records(start, stop)
            digest.update(data)
            signals = zlib.crc32(data, signals)
            old = np.frombuffer(data, np.uint8).reshape(stop - start, -1)
            new = np.frombuffer(b"".join(blocks[start:stop]), np.uint8).reshape(stop - start, -1)
            file.write(np.concatenate([old, new], axis=1).tobytes())
        digest.update(layout.read_left_over())
        file.flush()
        copied = _check_copy(layout, read_layout(Path(file.name)), signals, added)
    return Copied(notes, digest.hexdigest(), copied)


def _origin_of(annotations: Sequence[Annotation], of_none: Origin) -> Origin:
    origins: set[Origin] = {annotation.origin for annotation in annotations} or {of_none}
    if len(origins) > 1:
        raise ValueError(f"annotations of one origin can be written at a time, given {', '.join(sorted(origins))}")
    return origins.pop()


# --- through edfio ------------------------------------------------------------------------------------------


def _label(name: str) -> str:
    kind = channel_kind(name)
    label = f"EEG {name}-Ref" if kind == "eeg" and "-" not in name else f"{kind.upper()} {name}"
    if len(label) > 16 or not label.isascii():
        raise ValueError(f"channel {name!r} gives the label {label!r}; EDF holds 16 ASCII characters")
    return label


def _signal(signal: Float[np.ndarray, "time"], sfreq: float, label: str) -> edfio.EdfSignal:
    peak = float(max(-signal.min(), signal.max()))
    if not peak <= 9_999_999:  # also false for NaN
        raise ValueError(f"{label}: samples must be finite and within 9,999,999 uV, the largest is {peak}")
    top = float(math.ceil(max(peak, _SMALLEST_RANGE_UV)))
    return edfio.EdfSignal.from_digital(
        np.rint(signal * np.float32(_DIGITAL / top)).astype(np.int16),
        sfreq,
        label=label,
        physical_dimension="uV",
        physical_range=(-top, top),
        digital_range=(-_DIGITAL, _DIGITAL),
    )


def _identity(
    patient_code: str | None, sex: Literal["M", "F", "X"], start: datetime.datetime | None, origin: Origin
) -> tuple[dict, tuple[str, ...]]:
    """Arguments of `edfio.Edf`, and notes on what is hidden."""
    notes = []
    if patient_code is not None and not re.fullmatch(r"[!-~]{1,74}", patient_code):
        notes.append(_CODE_HIDDEN)
        patient_code = None
    date = start.date() if start else None
    if date and not _can_hold(date):
        notes.append(_DATE_HIDDEN.format(date.year))
        date = None
    made_by = {} if origin == "human" else {"equipment_code": MAKER, "additional": (origin,)}
    identity = {
        "patient": edfio.Patient(code=patient_code or "X", sex=sex),
        "recording": edfio.Recording(startdate=date, **made_by),
        "starttime": start.time() if start else None,
    }
    return identity, tuple(notes)


def _can_hold(date: datetime.date) -> bool:
    return 1985 <= date.year <= 2084  # two digits in the header (EDF+ 2.1.3.2)


def _edfio_annotations(annotations: Iterable[Annotation], labels: Sequence[str]) -> list[edfio.EdfAnnotation]:
    written = [_as_written(annotation, labels) for annotation in annotations]
    return [edfio.EdfAnnotation(a.onset_seconds, a.duration_seconds or None, a.text) for a in written]


# --- annotations in bytes -----------------------------------------------------------------------------------


def _as_written(annotation: Annotation, labels: Sequence[str]) -> Annotation:
    """An annotation as it goes into the file: checked, to the microsecond, its channel in its text."""
    onset, duration, text, channel, _ = annotation
    if not (math.isfinite(onset) and math.isfinite(duration) and duration >= 0):
        raise ValueError(f"annotation {text!r}: onset {onset} and duration {duration} must be numbers of seconds")
    if not text or not text.isprintable():
        raise ValueError(f"annotation at {onset} s: its text {text!r} must be printable and not empty")
    said = text if channel is None else f"{text}@@{_label_of(channel, labels)}"
    return annotation._replace(
        onset_seconds=round(float(onset), 6), duration_seconds=round(float(duration), 6), text=said, channel=None
    )


def _label_of(channel: str, labels: Sequence[str]) -> str:
    """The file's label for a channel: the same, or of that electrode, or of it against an ear."""
    if channel in labels:
        return channel
    standard = [standard_name(label) for label in labels]
    for name in (channel, *(f"{channel}-{ear}" for ear in EARS)):
        if name in standard:
            return labels[standard.index(name)]
    return channel


def _seconds(value: float) -> str:
    """Seconds to the nanosecond, without an exponent."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _annotation_blocks(layout: Layout, added: Sequence[Annotation]) -> list[bytes]:
    """One block of lists for each record, all of one length, an even number of bytes.

    Any record may hold any annotation (EDF+ 2.2.2), so they are spread evenly and the records grow little.
    """
    lists = []
    for annotation in sorted(added):
        onset = annotation.onset_seconds + layout.first_seconds  # as EDF+ counts
        duration = f"\x15{_seconds(annotation.duration_seconds)}" if annotation.duration_seconds else ""
        lists.append(f"{'' if onset < 0 else '+'}{_seconds(onset)}{duration}\x14{annotation.text}\x14\x00".encode())
    stamps = [b""] * layout.n_records
    if not layout.annotation_spans:  # the first annotation signal keeps the time (EDF+ 2.2.4)
        step = Decimal(layout.record_seconds.numerator) / Decimal(layout.record_seconds.denominator)
        stamps = [f"+{record * step:f}\x14\x14\x00".encode() for record in range(layout.n_records)]
    # a record is full when the next list does not fit, so each wastes less than the longest list
    room = -(-sum(map(len, lists)) // layout.n_records) + max(map(len, lists), default=0)
    width = max(map(len, stamps)) + room
    width += max(2 - width, width % 2)
    waiting = iter(lists)
    upcoming = next(waiting, None)
    blocks = []
    for block in stamps:
        while upcoming is not None and len(block) + len(upcoming) <= width:
            block += upcoming
            upcoming = next(waiting, None)
        blocks.append(block.ljust(width, b"\x00"))
    return blocks


# --- the copy -----------------------------------------------------------------------------------------------


def _header_with_annotations(layout: Layout, n_samples: int, origin: Origin) -> tuple[bytes, tuple[str, ...]]:
    """The source's header with one annotation signal more, a plain EDF's as EDF+C; and what of it is hidden."""
    old, n_signals = layout.header, len(layout.labels)
    if layout.record_bytes + 2 * n_samples > MAX_RECORD_BYTES or n_signals >= 9999:
        raise ValueError(f"{layout.path.name}: its data records are too small for the annotations")
    identification, notes = _identification(layout)
    reserved = b"EDF+C".ljust(44) if layout.kind == "EDF" else old[192:236]
    size, records, count = 256 * (n_signals + 2), layout.n_records, n_signals + 1
    parts = [old[:8], identification, b"%-8d" % size, reserved]
    parts += [b"%-8d" % records, old[244:252], b"%-4d" % count]
    mark = "" if origin == "human" else f"{MAKER} {origin}"
    added = ("EDF Annotations", "", "", "-1", "1", "-32768", "32767", "", str(n_samples), mark)
    at = 256
    for length, value in zip(SIGNAL_FIELDS.values(), added, strict=True):
        parts += [old[at : at + length * n_signals], value.encode().ljust(length)]
        at += length * n_signals
    return b"".join(parts), notes


def _identification(layout: Layout) -> tuple[bytes, tuple[str, ...]]:
    """Patient, recording, start date and time as in EDF+, a plain EDF's old text behind subfields if it fits."""
    patient, recording = layout.field(8, 80), layout.field(88, 80)
    clock = re.sub(rb"(?<=\d)[:/' -](?=\d)", b".", layout.header[168:184])
    start = start_datetime(layout)
    notes = []
    if layout.kind == "EDF":
        said = f"{start.day:02}-{MONTHS[start.month - 1]}-{start.year}" if start else "X"
        if not _PLUS_PATIENT.fullmatch(patient):
            patient = _behind("X X X X", patient)
        if not recording.startswith("Startdate "):
            recording = _behind(f"Startdate {said} X X X", recording)
    if start and not _can_hold(start.date()):
        notes.append(_DATE_HIDDEN.format(start.year))
        recording, clock = re.sub(r"(?i)^(startdate) \S+", r"\1 X", recording), b"01.01.85" + clock[8:]
    fields = []
    for text, what in ((patient, "patient"), (recording, "recording")):
        fields.append(re.sub(r"[^ ]*[^ -~][^ ]*", "X", text))
        if fields[-1] != text:
            notes.append(f"words of the {what} field are hidden: EDF+ holds printable ASCII characters")
    return b"".join(text.encode().ljust(80) for text in fields) + clock, tuple(notes)


def _behind(first: str, text: str) -> str:
    both = f"{first} {text.strip()}".rstrip()
    return both if len(both) <= 80 else first


def _chunks(layout: Layout) -> Iterator[tuple[int, int]]:
    step = max(1, _COPY_BYTES // layout.record_bytes)
    for start in range(0, layout.n_records, step):
        yield start, min(start + step, layout.n_records)


def _check_copy(old: Layout, new: Layout, signals: int, added: Sequence[Annotation]) -> str:
    """Read a copy back: old signals (by their checksum), record onsets, the annotations of both; gives its SHA-256."""
    kept = (new.labels[:-1], new.samples[:-1], new.record_seconds, new.n_records)
    if kept != (old.labels, old.samples, old.record_seconds, old.n_records):
        raise ValueError(f"the annotated copy of {old.path.name} has another header")
    digest, found = hashlib.sha256(new.header), 0
    for start, stop in _chunks(old):
        data = new.read_records(start, stop)
        digest.update(data)
        found = zlib.crc32(
            np.frombuffer(data, np.uint8).reshape(stop - start, -1)[:, : old.record_bytes].tobytes(), found
        )
    if found != signals:
        raise ValueError(f"the annotated copy of {old.path.name} has other signals")
    before, after = read_stamps(old), read_stamps(new)
    if not np.allclose(before.onsets, after.onsets, rtol=0, atol=1e-9):
        raise ValueError(f"the annotated copy of {old.path.name} has other record onsets")
    rest = Counter(after.annotations)
    rest.subtract(before.annotations)
    rounded = Counter(a._replace(onset_seconds=round(a.onset_seconds, 6)) for a in rest.elements())
    if min(rest.values(), default=0) < 0 or rounded != Counter(added):
        raise ValueError(f"the annotated copy of {old.path.name} has other annotations")
    return digest.hexdigest()
