"""EDF, EDF+C, EDF+D and BDF files, or arrays, as recordings in microvolts; `edf_write.py` writes files.

A recording is lazy: opening one reads its header, its annotations and a few stretches; `Recording.read` reads
the records that it needs, and nothing stays in memory. Units become microvolts here and nowhere else.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import edfio
import numpy as np
from jaxtyping import Float32

from siamese_jax.recordings.channels import FileChannel, choose_channels, spreads_of
from siamese_jax.recordings.edf_records import Layout, patient_code, read_layout, start_datetime
from siamese_jax.recordings.edf_times import Run, Stamps, find_runs, read_stamps
from siamese_jax.recordings.recording import N_SAMPLED, SAMPLED_SECONDS, Annotation, Recording, Segment, exact_rate
from siamese_jax.recordings.resample import resample
from siamese_jax.vocabulary import standard_name, standard_names

_BLOCK_SECONDS = 60
_ABSURD = 1e15
"""No physical range reaches this; float32 would still hold it if the unit were volts."""
_LIMITS = ("digital minimum", "digital maximum", "physical minimum", "physical maximum")


def read_recording(
    path: Path | str,
    *,
    ch_names: Sequence[str],
    sfreq: float,
    units: Mapping[str, str] | None = None,
    nearest: bool = False,
    amend: Callable[[FileChannel], FileChannel] | None = None,
) -> Recording:
    """The channels `ch_names` of an EDF, EDF+C, EDF+D or BDF file, in microvolts at `sfreq` Hz.

    Each channel is resampled on its own from its exact rate. Gaps part the recording into segments, by the
    time stamp of each record (EDF+ 2.2.4); a cut file is read as far as its whole records go. Channels that
    are constant in every stretch sampled are absent. What was used, renamed, missed, ignored or doubted is in
    `report`.

    Args:
        path: the file.
        ch_names: electrodes wanted, in the order wanted; the recording has their standard names.
        sfreq: samples per second wanted.
        units: units to read channels in instead of the header's, by file label, standard name or `*`.
        nearest: let a near electrode of the 10-10 system stand in for one of the 10-20 system that is missing.
        amend: corrects what the header says of a channel, before any is chosen: BIDS has a table of them.

    Raises:
        ValueError: the file cannot be read or analysed, in one sentence that names it; an electrode is wanted twice.
        OSError: the file cannot be opened.
    """
    ch_names, layout = standard_names(ch_names), read_layout(Path(path))
    if not layout.ordinary or not layout.record_seconds:
        raise ValueError(f"{layout.path.name} holds annotations only, no signals")
    channels, gains = _file_channels(layout)
    channels = channels if amend is None else [amend(channel) for channel in channels]
    chosen, report = choose_channels(
        channels,
        ch_names,
        units=units or {},
        source=layout.path.name,
        spreads=lambda indices: spreads_of(_stretches(layout, {i: gains[i] for i in indices}, sfreq)),
        nearest=nearest,
    )
    stamps = read_stamps(layout)
    fastest = max(channels[one.index].sfreq for one in chosen.values())
    runs, run_warnings = find_runs(layout, stamps, sfreq=float(fastest))
    picked = [
        _Picked(index, ch_names.index(name), gains[index][0] * factor_uv, gains[index][1] * factor_uv)
        for name, (index, factor_uv) in chosen.items()
    ]
    return Recording(
        path=layout.path,
        sfreq=float(sfreq),
        ch_names=ch_names,
        present=np.array([name in chosen for name in ch_names], bool),
        segments=tuple(
            Segment(run.onset_seconds, int(run.n_records * layout.record_seconds * exact_rate(sfreq))) for run in runs
        ),
        annotations=_annotations(stamps),
        patient_code=patient_code(layout),
        start_datetime=start_datetime(layout),
        report=dataclasses.replace(
            report,
            warnings=(*report.warnings, *run_warnings, *layout.warnings),
            truncated=layout.truncated,
            records_expected=layout.records_expected,
            records_read=layout.n_records,
        ),
        source=_EdfSamples(layout, runs, _lanes(layout, picked, sfreq), len(ch_names), sfreq),
    )


def read_annotations(path: Path | str) -> tuple[Annotation, ...]:
    """The annotations of an EDF+ or BDF+ file, by onset; annotation-only files (hypnograms) included.

    Those that this package wrote have the origin that stands in the header, all others are human.

    Raises:
        ValueError: the file is no EDF or BDF, or is damaged, in one sentence that names it.
    """
    return _annotations(read_stamps(read_layout(Path(path))))


def _annotations(stamps: Stamps) -> tuple[Annotation, ...]:
    found = []
    for annotation in stamps.annotations:
        text, _, label = annotation.text.partition("@@")  # EDF+ standard texts: an annotation of one signal
        found.append(annotation._replace(text=text, channel=(standard_name(label) or label) if label else None))
    return tuple(sorted(found, key=lambda annotation: annotation.onset_seconds))


# --- signals ------------------------------------------------------------------------------------------------


def _decode(layout: Layout, start: int, stop: int) -> edfio.Edf | edfio.Bdf:
    """Records [start, stop) as edfio reads them: only these are in memory, however long the file."""
    data = layout.as_file(start, stop)
    if layout.bdf:
        return edfio.read_bdf(data, header_encoding="latin-1")
    return edfio.read_edf(data, lazy_load_data=True, header_encoding="latin-1")


def _file_channels(layout: Layout) -> tuple[list[FileChannel], list[tuple[float, float]]]:
    """Every signal that is no annotation, with the gain and offset from digital values to its unit."""
    channels, gains = [], []
    for position, signal in zip(layout.ordinary, _decode(layout, 0, 1).signals, strict=True):
        limits = [repr(layout.signal_field(position, name)) for name in _LIMITS]
        gain, offset, warning = _calibration(signal, bits=24 if layout.bdf else 16)
        problem = "it cannot be calibrated: digital {} to {} is physical {} to {}".format(*limits)
        rate = layout.samples[position] / layout.record_seconds
        channels.append(FileChannel(signal.label, signal.physical_dimension, rate, None if gain else problem, warning))
        gains.append((gain, offset))
    return channels, gains


def _calibration(signal: edfio.EdfSignal | edfio.BdfSignal, *, bits: int) -> tuple[float, float, str | None]:
    """Gain, 0 if there is none, and offset; what to say about them (EDF: two points on a straight line)."""
    try:
        (low, high), (bottom, top) = signal.digital_range, signal.physical_range
    except ValueError:
        return 0.0, 0.0, None
    if low >= high or bottom == top or not max(abs(bottom), abs(top)) < _ABSURD:
        return 0.0, 0.0, None
    gain = (top - bottom) / (high - low)
    warning = None
    if low < -(2 ** (bits - 1)) or high >= 2 ** (bits - 1):
        warning = f"its digital range, {low} to {high}, is beyond {bits} bits: larger values were cut when written"
    return gain, bottom - low * gain, warning


class _Picked(NamedTuple):
    """A signal (among those that are no annotations), where it goes, and how its digital values are to be scaled."""

    signal: int
    column: int
    gain: float
    offset: float


class _Lane(NamedTuple):
    """Signals of one rate."""

    signals: tuple[int, ...]
    columns: tuple[int, ...]
    gains: Float32[np.ndarray, "chan"]
    offsets: Float32[np.ndarray, "chan"]
    n_in_record: int
    ratio: Fraction


def _lanes(layout: Layout, picked: Sequence[_Picked], sfreq: float) -> tuple[_Lane, ...]:
    def n_in_record(one: _Picked) -> int:
        return layout.samples[layout.ordinary[one.signal]]

    lanes = []
    for n, group in itertools.groupby(sorted(picked, key=n_in_record), key=n_in_record):
        signals, columns, gains, offsets = zip(*group, strict=True)
        ratio = exact_rate(sfreq) * layout.record_seconds / n
        lanes.append(_Lane(signals, columns, np.array(gains, np.float32), np.array(offsets, np.float32), n, ratio))
    return tuple(lanes)


def _native(layout: Layout, lane: _Lane, record: int, start: int, stop: int) -> Float32[np.ndarray, "time chan"]:
    """Samples [start, stop) after the beginning of a record, at the channels' own rate."""
    whole, skip = divmod(start, lane.n_in_record)
    out = np.empty((stop - start, len(lane.signals)), np.float32)
    if start < stop:
        signals = _decode(layout, record + whole, record - (-stop // lane.n_in_record)).signals
        for column, signal in enumerate(lane.signals):
            out[:, column] = signals[signal].digital[skip : skip + stop - start]
    out *= lane.gains
    out += lane.offsets
    return out


def _stretches(
    layout: Layout, gains: Mapping[int, tuple[float, float]], sfreq: float
) -> Iterator[dict[int, Float32[np.ndarray, "time"]]]:
    """Short stretches of some signals from all over the file, at each one's own rate and in its own unit."""
    lanes = _lanes(layout, [_Picked(signal, 0, *scale) for signal, scale in gains.items()], sfreq)
    n = min(layout.n_records, max(1, round(SAMPLED_SECONDS / layout.record_seconds)))
    for start in np.unique(np.linspace(0, layout.n_records - n, N_SAMPLED).astype(int)).tolist():
        stretch = {}
        for lane in lanes:
            stretch |= dict(zip(lane.signals, _native(layout, lane, start, 0, n * lane.n_in_record).T, strict=True))
        yield stretch


@dataclass(frozen=True, eq=False)
class _EdfSamples:
    """Runs of records as microvolts at one rate."""

    layout: Layout
    runs: tuple[Run, ...]
    lanes: tuple[_Lane, ...]
    n_chans: int
    sfreq: float

    def __call__(self, segment: int, start: int, stop: int) -> Float32[np.ndarray, "time chan"]:
        run = self.runs[segment]
        out = np.zeros((stop - start, self.n_chans), np.float32)
        n_block = max(1, round(_BLOCK_SECONDS * self.sfreq))  # so that a long read needs little beside its result
        for lane in self.lanes:
            native = functools.partial(_native, self.layout, lane, run.first)
            for a in range(start, stop, n_block):
                b = min(a + n_block, stop)
                out[a - start : b - start, lane.columns] = resample(
                    native, run.n_records * lane.n_in_record, ratio=lane.ratio, start=a, stop=b
                )
        return out
