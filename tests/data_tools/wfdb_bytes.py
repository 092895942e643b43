"""WFDB records byte by byte, as header(5) and signal(5) lay them down."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def encoded(values: Sequence[int] | np.ndarray) -> bytes:
    """Samples in turn, in format 16."""
    return np.asarray(values, "<i2").tobytes()


def checksum(values: np.ndarray) -> int:
    """Sum modulo 65536, as a signed number."""
    total = int(np.sum(values, dtype=np.int64)) % 65536
    return total - 65536 if total >= 32768 else total


def write_record(
    folder: Path,
    name: str,
    digital: np.ndarray,
    *,
    sfreq: str = "500",
    leads: Sequence[str] = LEADS,
    skip: bytes = b"",
    gain: str = "1000/mV",
    suffix: str = ".dat",
    record: str | None = None,
    comments: Sequence[str] = (),
    newline: str = "\n",
) -> Path:
    """A header and its signal file of `digital` [time, chan]; returns the header's path."""
    folder.mkdir(parents=True, exist_ok=True)
    file = f"{name}{suffix}"
    (folder / file).write_bytes(skip + encoded(digital))
    code = f"16+{len(skip)}" if skip else "16"
    lines = [record or f"{name} {len(leads)} {sfreq} {len(digital)}"]
    for lead, column in zip(leads, digital.T, strict=True):
        lines.append(f"{file} {code} {gain} 16 0 {column[0]} {checksum(column)} 0 {lead}")
    path = folder / f"{name}.hea"
    path.write_bytes("".join(line + newline for line in (*lines, *comments)).encode())
    return path


def heartbeats(seconds: float, sfreq: float, *, seed: int = 0, n_leads: int = 12) -> np.ndarray:
    """Integers of 1 uV that move in every lead: an R wave each second, and noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sfreq)) / sfreq
    beat = np.exp(-(((time % 1.0) - 0.4) ** 2) / (2 * 0.02**2))
    sizes = rng.uniform(400, 1500, n_leads) * rng.choice([-1, 1], n_leads)
    return np.rint(beat[:, None] * sizes + rng.normal(0, 20, (len(time), n_leads))).astype(np.int64)
