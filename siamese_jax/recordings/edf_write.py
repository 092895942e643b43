"""Writing EDF+: recordings, annotations alone, and annotated copies with the source's signals byte for byte.

Every file is written under a temporary name and renamed when it is whole. Source: EDF+ (Kemp and Olivan
2003).
"""

import contextlib
import datetime
import io
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Literal

import edfio
import numpy as np
from jaxtyping import Float

from siamese_jax.recordings.edf_records import (
    MAX_RECORD_BYTES,
    SIGNAL_FIELDS,
    Layout,
    find_runs,
    read_layout,
    read_stamps,
    start_datetime,
)
from siamese_jax.recordings.recording import Annotation
from siamese_jax.vocabulary import EARS, channel_kind, standard_name

_DIGITAL = 32767
_SMALLEST_RANGE_UV = 100.0
_COPY_BYTES = 1 << 24
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
) -> None:
    """Write microvolts as EDF+C with 16 bits.

    Labels are in the style of the EDF+ standard texts (`EEG Fp1-Ref`, `ECG ECG1`), the unit is uV. Each
    channel has its own physical range, symmetric about 0 and at least 100 uV, so the error is at most its
    largest value / 65534.

    Args:
        path: file to write; an existing one is replaced.
        eeg_uv: samples in microvolts, a whole number of data records (of 1 s, if `sfreq` is whole).
        sfreq: samples per second.
        ch_names: standard names.
        annotations: marks; onsets from the start of the file.
        patient_code: one word; None is nobody.
        sex: M, F, or X if not said.
        start: of the file, in whole seconds, from 1985 to 2084; None hides it.

    Raises:
        ValueError: names and columns differ in number, samples that are not finite or beyond 9,999,999 uV, a
            name or code that EDF+ cannot hold, a part of a data record left over, a fraction of a second in
            `start`.
    """
    path = Path(path)
    if eeg_uv.shape[1] != len(ch_names):
        raise ValueError(f"{path.name}: {len(ch_names)} names for {eeg_uv.shape[1]} channels")
    n_in_record = Fraction(str(float(sfreq))).numerator
    if not len(eeg_uv) or len(eeg_uv) % n_in_record:
        raise ValueError(f"{path.name}: {len(eeg_uv)} samples are no whole number of data records of {n_in_record}")
    labels = [_label(name) for name in ch_names]
    edf = edfio.Edf(
        [_signal(eeg_uv[:, i], sfreq, label) for i, label in enumerate(labels)],
        annotations=_edfio_annotations(annotations, labels),
        **_identity(patient_code, sex, start),
    )
    with _replacing(path) as file:
        edf.write(file)


def write_annotations(
    path: Path | str,
    annotations: Iterable[Annotation],
    *,
    start: datetime.datetime | None = None,
    patient_code: str | None = None,
) -> None:
    """Write annotations without signals, as Sleep-EDF does: an EDF+C file of one data record that takes 0 s.

    No annotations at all are a result too. Onsets count from `start`, which is to be that of the recording.

    Raises:
        ValueError: a text that EDF+ cannot hold, an onset or duration that is no number, a bad `start` or
        code.
    """
    found = _edfio_annotations(annotations, ())
    nothing = [edfio.EdfAnnotation(0.0, None, "")]  # edfio writes no file of none; an empty text is none
    edf = edfio.Edf([], annotations=found or nothing, **_identity(patient_code, "X", start))
    with _replacing(Path(path)) as file:
        edf.write(file)


def write_annotated_copy(source: Path | str, target: Path | str, annotations: Iterable[Annotation]) -> None:
    """Copy an EDF, EDF+C or EDF+D file, its records unchanged but for one more annotation signal.

    A plain EDF becomes EDF+C: its new signal carries the time stamps as well, and its identification fields
    get EDF+'s first subfields, with the old text after them where 80 characters hold both. Of a cut file the
    whole records are copied. `Annotation.channel` is written as `text@@label`, with the file's own label for
    it. Copying takes little memory, however long the file. Before the copy gets its name it is read back.

    Raises:
        ValueError: the source is BDF or has no signals, or source and target are one file, or a text cannot
            be written; or what was read back differs (signals, record onsets or annotations).
    """
    layout, target = read_layout(Path(source)), Path(target)
    if layout.bdf:
        raise ValueError(f"{layout.path.name} is BDF: only EDF files can be copied with annotations")
    if not layout.ordinary or not layout.record_seconds:
        raise ValueError(f"{layout.path.name} holds annotations only, no signals")
    if target.exists() and target.samefile(layout.path):
        raise ValueError(f"the annotated copy of {target.name} cannot take its place")
    stamped = [(a.onset_seconds, a.duration_seconds, _said(a, layout.labels)) for a in annotations]
    blocks = _annotation_blocks(layout, stamped)
    header = _header_with_annotations(layout, len(blocks[0]) // 2)
    with _replacing(target) as file:
        file.write(header)
        for start, stop in _chunks(layout):
            old = np.frombuffer(layout.read_records(start, stop), np.uint8).reshape(stop - start, -1)
            new = np.frombuffer(b"".join(blocks[start:stop]), np.uint8).reshape(stop - start, -1)
            file.write(np.concatenate([old, new], axis=1).tobytes())
        file.flush()
        _check_copy(layout, read_layout(Path(file.name)), stamped)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[io.BufferedWriter]:
    """A file to write that gets the name `path` when all went well, and else is removed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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


def _identity(patient_code: str | None, sex: Literal["M", "F", "X"], start: datetime.datetime | None) -> dict:
    if start is not None and start.microsecond:
        raise ValueError(f"an EDF file starts at a whole second, given {start}")
    return {
        "patient": edfio.Patient(code=patient_code or "X", sex=sex),
        "recording": edfio.Recording(startdate=start.date() if start else None),
        "starttime": start.time() if start else None,
    }


def _edfio_annotations(annotations: Iterable[Annotation], labels: Sequence[str]) -> list[edfio.EdfAnnotation]:
    found = [(a.onset_seconds, a.duration_seconds, _said(a, labels)) for a in annotations]
    return [edfio.EdfAnnotation(float(onset), float(length) or None, text) for onset, length, text in found]


# --- annotations in bytes -----------------------------------------------------------------------------------


def _said(annotation: Annotation, labels: Sequence[str]) -> str:
    """The text as it goes into the file, checked."""
    onset, duration, text, channel, _ = annotation
    if not (math.isfinite(onset) and math.isfinite(duration) and duration >= 0):
        raise ValueError(f"annotation {text!r}: onset {onset} and duration {duration} must be numbers of seconds")
    if not text or not text.isprintable():
        raise ValueError(f"annotation at {onset} s: its text {text!r} must be printable and not empty")
    return text if channel is None else f"{text}@@{_label_of(channel, labels)}"


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
    """Seconds to the microsecond, without an exponent."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _annotation_blocks(layout: Layout, stamped: Sequence[tuple[float, float, str]]) -> list[bytes]:
    """One block of lists for each record, all of one length, an even number of bytes.

    Any record may hold any annotation (EDF+ 2.2.2), so they are spread evenly and the records grow little.
    """
    lists = []
    for onset, duration, text in sorted(stamped):
        timing = f"{'' if onset < 0 else '+'}{_seconds(onset)}" + (f"\x15{_seconds(duration)}" if duration else "")
        lists.append(f"{timing}\x14{text}\x14\x00".encode())
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


def _header_with_annotations(layout: Layout, n_samples: int) -> bytes:
    """The source's header with one annotation signal more; a plain EDF's as EDF+C."""
    old, n_signals = layout.header, len(layout.labels)
    if layout.record_bytes + 2 * n_samples > MAX_RECORD_BYTES or n_signals >= 9999:
        raise ValueError(f"{layout.path.name}: its data records have no room for the annotations")
    patient, recording, reserved = old[8:88], old[88:168], old[192:236]
    if layout.kind == "EDF":
        patient, recording = _plus_identification(layout)
        reserved = b"EDF+C".ljust(44)
    size, records, count = 256 * (n_signals + 2), layout.n_records, n_signals + 1
    parts = [old[:8], patient, recording, old[168:184], b"%-8d" % size, reserved]
    parts += [b"%-8d" % records, old[244:252], b"%-4d" % count]
    added = ("EDF Annotations", "", "", "-1", "1", "-32768", "32767", "", str(n_samples), "")
    at = 256
    for length, value in zip(SIGNAL_FIELDS, added, strict=True):
        parts += [old[at : at + length * n_signals], value.encode().ljust(length)]
        at += length * n_signals
    return b"".join(parts)


def _plus_identification(layout: Layout) -> tuple[bytes, bytes]:
    """Patient and recording fields with EDF+'s subfields, the old text behind them if it fits."""
    patient, recording = layout.field(8, 80), layout.field(88, 80)
    start = start_datetime(layout)
    months = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
    date = f"{start.day:02}-{months[start.month - 1]}-{start.year}" if start else "X"
    if not _PLUS_PATIENT.fullmatch(patient):
        patient = _behind("X X X X", patient)
    if not recording.startswith("Startdate "):
        recording = _behind(f"Startdate {date} X X X", recording)
    return patient.encode("latin-1").ljust(80), recording.encode("latin-1").ljust(80)


def _behind(first: str, text: str) -> str:
    both = f"{first} {text.strip()}".rstrip()
    return both if len(both) <= 80 else first


def _chunks(layout: Layout) -> Iterator[tuple[int, int]]:
    step = max(1, _COPY_BYTES // layout.record_bytes)
    for start in range(0, layout.n_records, step):
        yield start, min(start + step, layout.n_records)


def _check_copy(old: Layout, new: Layout, stamped: Sequence[tuple[float, float, str]]) -> None:
    """Read a copy back: old signals, record onsets, and the annotations of both."""
    kept = (new.labels[:-1], new.samples[:-1], new.record_seconds, new.n_records)
    if kept != (old.labels, old.samples, old.record_seconds, old.n_records):
        raise ValueError(f"the annotated copy of {old.path.name} has another header")
    for start, stop in _chunks(old):
        was = np.frombuffer(old.read_records(start, stop), np.uint8).reshape(stop - start, -1)
        now = np.frombuffer(new.read_records(start, stop), np.uint8).reshape(stop - start, -1)
        if not np.array_equal(was, now[:, : old.record_bytes]):
            raise ValueError(f"the annotated copy of {old.path.name} has other signals")
    before, after = read_stamps(old), read_stamps(new)
    tolerance = float(old.record_seconds) / max(old.samples) / 2
    if find_runs(old, before, tolerance_seconds=tolerance)[0] != find_runs(new, after, tolerance_seconds=tolerance)[0]:
        raise ValueError(f"the annotated copy of {old.path.name} has other record onsets")
    added = Counter((round(onset, 6), round(duration, 6), text) for onset, duration, text in stamped)
    if Counter(before.annotations) + added != Counter(after.annotations):
        raise ValueError(f"the annotated copy of {old.path.name} has other annotations")
