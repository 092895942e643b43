"""EDF, EDF+ and BDF files made byte by byte from the standard's tables: no reader or writer judges itself."""

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Signal(NamedTuple):
    label: str
    digital: np.ndarray  # [record, sample]
    unit: str = "uV"
    physical: tuple[str, str] = ("-3276.8", "3276.7")  # 0.1 uV a step with the digital range below
    range: tuple[str, str] = ("-32768", "32767")


def edf_bytes(
    signals: list[Signal],
    *,
    seconds: str = "1",
    reserved: str = "",
    lists: list[bytes] | None = None,
    claimed: str | None = None,
    patient: str = "X X X X",
    recording: str = "Startdate X X X X",
    date: str = "01.01.85",
    time: str = "00.00.00",
    bdf: bool = False,
) -> bytes:
    """A file; `lists` holds one annotation block for each record."""
    name, width = ("BDF", 3) if bdf else ("EDF", 2)
    n_records = len(lists) if lists is not None else len(signals[0].digital)
    columns = [_encode(signal.digital, width) for signal in signals]
    fields = [(s.label, s.unit, *s.physical, *s.range, str(s.digital.shape[1])) for s in signals]
    if lists is not None:
        length = -(-max(map(len, lists)) // (2 * width)) * 2 * width
        columns.append(np.array([list(block.ljust(length, b"\0")) for block in lists], np.uint8))
        fields.append((f"{name} Annotations", "", "-1", "1", "-32768", "32767", str(length // width)))
    version = b"\xffBIOSEMI" if bdf else b"0".ljust(8)
    parts = [version, _pad(patient, 80), _pad(recording, 80), _pad(date, 8), _pad(time, 8)]
    parts += [_pad(str(256 * (len(fields) + 1)), 8), _pad(reserved, 44)]
    parts += [_pad(claimed or str(n_records), 8), _pad(seconds, 8), _pad(str(len(fields)), 4)]
    label, unit, low, high, bottom, top, samples = zip(*fields, strict=True)
    blank = ("",) * len(fields)
    for values, size in (
        *((label, 16), (blank, 80), (unit, 8), (low, 8), (high, 8)),
        *((bottom, 8), (top, 8), (blank, 80), (samples, 8), (blank, 32)),
    ):
        parts += [_pad(value, size) for value in values]
    return b"".join(parts) + np.concatenate(columns, axis=1).tobytes()


def stamp(onset: str, *annotations: bytes) -> bytes:
    """A record's annotation block: its time stamp, then whole annotation lists."""
    return b"".join((f"{onset}\x14\x14\x00".encode(), *annotations))


def noise(n_records: int, n_samples: int, seed: int = 0) -> np.ndarray:
    """White noise of 30 uV in steps of 0.1 uV."""
    return np.rint(300 * np.random.default_rng(seed).standard_normal((n_records, n_samples))).astype(int)


def save(folder: Path, *arguments, name: str = "a.edf", **keywords) -> Path:
    path = folder / name
    path.write_bytes(edf_bytes(*arguments, **keywords))
    return path


def whole(recording, segment: int = 0) -> np.ndarray:
    return recording.read(segment, 0, recording.segments[segment].n_times)


def _encode(digital: np.ndarray, width: int) -> np.ndarray:
    little = np.ascontiguousarray(digital.astype("<i4"))
    return little.view(np.uint8).reshape(*digital.shape, 4)[:, :, :width].reshape(len(digital), -1)


def _pad(text: str, size: int) -> bytes:
    raw = text.encode("latin-1")
    assert len(raw) <= size, text
    return raw.ljust(size)
