"""When each record of an EDF or BDF file starts, which records follow each other, and the annotations.

All times count from the first sample of the file. EDF+ counts from the header's second, so that the first record may
start a fraction of a second later (2.2.4): `Layout.first_seconds` is subtracted here and added in `edf_write.py`.
"""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from siamese_jax.recordings.edf_records import Layout, annotation_lists, time_stamp
from siamese_jax.recordings.recording import Annotation
from siamese_jax.vocabulary import IED_INSIDE_SECONDS

_EXACT = 1e-9
"""Seconds; no file is written more finely."""
_CLOCK_DRIFT = 5e-5
"""Seconds per second by which the clocks of an amplifier and of a computer may differ."""
_LARGEST_OVERLAP_SECONDS = IED_INSIDE_SECONDS
"""By more than this records must not overlap: a mark could then belong to windows of two stretches."""


class Stamps(NamedTuple):
    """What the annotation signals of a file hold."""

    onsets: Float64[np.ndarray, "record"]
    """Start of each record in seconds from the first sample; one without a time stamp follows the one before."""
    digit_seconds: Float64[np.ndarray, "record"]
    """What the last digit of its time stamp is worth; 0 without a stamp."""
    annotations: tuple[Annotation, ...]
    """In the order of the file, the text as it stands there."""
    n_missing: int
    """Records without a time stamp, in a file that has some."""
    n_damaged: int
    """Lists that could not be read."""


def read_stamps(layout: Layout) -> Stamps:
    """Time stamps and annotations from every record's annotation signals; reads those bytes alone."""
    found: list[str | None] = []
    annotations: list[Annotation] = []
    n_damaged = 0
    spans = layout.annotation_spans
    with layout.path.open("rb", buffering=0) as file:
        for record in range(layout.n_records if spans else 0):
            for start, stop, origin in spans:
                file.seek(len(layout.header) + record * layout.record_bytes + start)
                data = file.read(stop - start)
                if len(found) == record:
                    found.append(time_stamp(data))
                for one in annotation_lists(data):
                    if one is None:
                        n_damaged += 1
                        continue
                    onset = round(float(one[0]) - layout.first_seconds, 9)
                    annotations += [Annotation(onset, one[1], text, origin=origin) for text in one[2] if text]
    onsets, digits = _onsets(layout, found)
    return Stamps(onsets, digits, tuple(annotations), found.count(None), n_damaged)


def _onsets(layout: Layout, stamps: list[str | None]) -> tuple[np.ndarray, np.ndarray]:
    """Each record's start, and what its stamp's last digit is worth.

    Writers drop zeros at the end, or keep so many digits in all: stamps with as many digits before the point are
    taken to have as many behind it as the longest of them.
    """
    lengths = [tuple(map(len, stamp.lstrip("+-0").partition(".")[::2])) if stamp else None for stamp in stamps]
    longest: dict[int, int] = {}
    for whole, decimals in filter(None, lengths):
        longest[whole] = max(longest.get(whole, 0), decimals)
    step = float(layout.record_seconds)
    onsets, digits = np.arange(layout.n_records) * step, np.zeros(layout.n_records)
    late = 0.0  # after the time at which a file without gaps would be
    for record, (stamp, length) in enumerate(zip(stamps, lengths, strict=True)):
        if stamp and length:
            late = float(stamp) - layout.first_seconds - record * step
            digits[record] = 10.0 ** -longest[length[0]]
        onsets[record] = round(onsets[record] + late, 9)
    return onsets, digits


class Run(NamedTuple):
    """Records that follow each other without a gap."""

    first: int
    n_records: int
    onset_seconds: float


def find_runs(layout: Layout, stamps: Stamps, *, sfreq: float) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """The gap-free runs of records, and warnings.

    A record begins a new run if it starts earlier or later than the one before it ends (EDF+ 2.2.4), by more than half
    a sample, the rounding of both stamps and the drift of a clock. A steady drift parts nothing until the stamps are
    0.05 s (or a quarter of a record) from where the samples counted since the run's start would be: marks could then
    be in the wrong place. The stamps decide, also in a file that calls itself continuous.

    Args:
        layout: of the file.
        stamps: of the file.
        sfreq: samples per second of the fastest channel that is used.

    Raises:
        ValueError: a record starts more than 0.1 s, or half a record, before the one before it ends.
    """
    step = float(layout.record_seconds)
    largest_overlap = min(_LARGEST_OVERLAP_SECONDS, step / 2)
    largest_drift = largest_overlap / 2  # so that a clock that is too slow makes no overlap that is refused
    late = stamps.onsets - np.arange(layout.n_records) * step
    rounding = _rounding(stamps.digit_seconds, step, sfreq)
    lows, highs = late - rounding / 2, late + rounding / 2
    apart = np.maximum(lows[1:] - highs[:-1], lows[:-1] - highs[1:])
    is_jump = np.append(False, apart > 0.5 / sfreq + _CLOCK_DRIFT * step + _EXACT)
    firsts = _first_records(lows, highs, is_jump, largest_drift=largest_drift)
    counts = np.diff([*firsts, layout.n_records])
    onsets = stamps.onsets[firsts]
    runs = tuple(itertools.starmap(Run, zip(firsts, counts.tolist(), onsets.tolist(), strict=True)))
    gaps = np.diff(onsets) - counts[:-1] * step
    for run, gap in zip(runs[1:], gaps, strict=True):
        if gap < -largest_overlap - _EXACT:
            raise ValueError(
                f"{layout.path.name}: data record {run.first + 1} starts {-gap:g} s before the one before it ends"
                f" ({run.onset_seconds:g} s after the first sample): the clock went back, or records overlap, so that"
                " one time in this file means two moments; split it into two files before that record"
            )
    drifted = ~is_jump[firsts[1:]] & (np.abs(gaps) < largest_overlap)
    ahead, behind = gaps[~drifted & (gaps > 0)], gaps[~drifted & (gaps < 0)]
    warnings = []
    if ahead.size:
        warnings.append(f"{ahead.size} gap(s) in time, {ahead.sum():g} s in all, part the recording")
    if behind.size:
        seconds = -behind.min()
        warnings.append(f"{behind.size} data record(s) start before the one before them ends, by {seconds:g} s at most")
    if drifted.any():
        n = drifted.sum()
        warnings.append(
            f"time stamps drift from the samples: {n} time(s) by {largest_drift:g} s, which parts the recording"
        )
    if stamps.n_missing:
        warnings.append(f"{stamps.n_missing} data record(s) without a time stamp: taken to follow the one before")
    if stamps.n_damaged:
        warnings.append(f"{stamps.n_damaged} annotation list(s) are damaged and left out")
    return runs, tuple(warnings)


def _first_records(
    lows: Float64[np.ndarray, "record"],
    highs: Float64[np.ndarray, "record"],
    is_jump: Bool[np.ndarray, "record"],
    *,
    largest_drift: float,
) -> list[int]:
    """The first record of each run: after a jump, or where the stamps of a run lie too far apart.

    How late a record starts lies between its low and its high; all of a run must be within `largest_drift`.
    """
    firsts, least, most = [0], -np.inf, np.inf
    for record, (low, high, jumps) in enumerate(zip(lows.tolist(), highs.tolist(), is_jump.tolist(), strict=True)):
        least, most = max(least, low), min(most, high)
        if jumps or least - most > largest_drift:
            firsts.append(record)
            least, most = low, high
    return firsts


def _rounding(digit_seconds: Float64[np.ndarray, "record"], step: float, sfreq: float) -> Float64[np.ndarray, "record"]:
    """How far rounding may move a stamp against another: by its last digit.

    Where records last a whole number of last digits, nothing needs rounding: then a sample is allowed at most, so that
    stamps in whole seconds still show a gap of one second.
    """
    used = digit_seconds > 0
    ratio = np.divide(step, digit_seconds, out=np.zeros_like(digit_seconds), where=used)
    whole = used & (np.abs(ratio - np.rint(ratio)) < 1e-6)
    return np.where(whole, np.minimum(digit_seconds, 1 / sfreq), digit_seconds)
