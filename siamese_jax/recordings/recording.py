"""A recording in microvolts at one rate: signals, stretches without a gap, annotations.

`edf.py` and other readers make one of a file, `recording_from_array` of an array.
"""

import datetime
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32

from siamese_jax.recordings.channels import ChannelReport, FileChannel, choose_channels, spreads_of
from siamese_jax.recordings.intervals import Stretch, without
from siamese_jax.recordings.resample import resample, resampled_length
from siamese_jax.vocabulary import standard_names

N_SAMPLED, SAMPLED_SECONDS = 20, 10
KEPT_SECONDS, N_KEPT = 200, 4
"""What `read_once` reads at a time, and how many of these it keeps."""


Origin = Literal["human", "machine", "reviewed", "simulated"]


class Annotation(NamedTuple):
    """A mark in time."""

    onset_seconds: float
    """From the first sample of the recording by the clock, gaps included."""
    duration_seconds: float
    text: str
    channel: str | None = None
    """Standard name, or label, of the one channel that it concerns (EDF+ `text@@label`)."""
    origin: Origin = "human"
    """Who made it. Marks of a machine are never labels until a person has reviewed them."""


class Segment(NamedTuple):
    """A stretch without a gap."""

    onset_seconds: float
    """From the first sample of the recording by the clock."""
    n_times: int
    """Samples at the recording's sfreq."""


@dataclass(frozen=True, eq=False)
class Recording:
    """The wanted channels of one file or array, in microvolts at one rate."""

    path: Path | None
    sfreq: float
    ch_names: tuple[str, ...]
    present: Bool[np.ndarray, "chan"]
    segments: tuple[Segment, ...]
    annotations: tuple[Annotation, ...] = field(repr=False)
    patient_code: str | None
    """The EDF patient code; None if the file gives none or a placeholder."""
    start_datetime: datetime.datetime | None
    """When the first sample was taken, to the microsecond; None if the file does not say or hides it."""
    report: ChannelReport
    source: Callable[[int, int, int], Float32[np.ndarray, "time chan"]] = field(repr=False)
    """Samples [start, stop) of a segment; `read` checks its arguments."""

    def read(self, segment: int, start: int, stop: int) -> Float32[np.ndarray, "time chan"]:
        """Samples [start, stop) of a segment in microvolts at `sfreq`; a channel that is absent is 0.

        Reads from disk what it needs, and may be called from any thread. Blocks give the same samples as one
        read of everything.

        Raises:
            ValueError: a segment or samples that do not exist.
        """
        if not 0 <= segment < len(self.segments):
            raise ValueError(f"segment must be 0 to {len(self.segments) - 1}, is {segment}")
        n_times = self.segments[segment].n_times
        if not 0 <= start <= stop <= n_times:
            raise ValueError(f"segment {segment} has samples 0 to {n_times}: [{start}, {stop}) cannot be read")
        return self.source(segment, start, stop)


def end_seconds(recording: Recording) -> float:
    """The end of the last sample, by the clock; of a file that was cut short, the end that its header promises."""
    end = max(segment.onset_seconds + segment.n_times / recording.sfreq for segment in recording.segments)
    report = recording.report
    return end * max((report.records_expected or 0) / max(report.records_read, 1), 1.0)


def read_once(recording: Recording) -> Recording:
    """The same recording, which keeps the latest minutes that were read of it.

    Who goes through it from start to end, and looks at a stretch more than once on the way, reads the file once;
    memory does not grow with the length. Not for several threads at a time.
    """
    n_times = round(KEPT_SECONDS * recording.sfreq)

    @lru_cache(maxsize=N_KEPT)
    def block(segment: int, number: int) -> Float32[np.ndarray, "time chan"]:
        stop = min((number + 1) * n_times, recording.segments[segment].n_times)
        return recording.source(segment, number * n_times, stop)

    def source(segment: int, start: int, stop: int) -> Float32[np.ndarray, "time chan"]:
        parts = [np.zeros((0, len(recording.ch_names)), np.float32)]
        for number in range(start // n_times, -(-stop // n_times)):
            begin = number * n_times
            parts.append(block(segment, number)[max(start - begin, 0) : stop - begin])
        return np.concatenate(parts)

    return replace(recording, source=source)


def without_stretches(recording: Recording, holes: Sequence[Stretch]) -> Recording:
    """The same recording with gaps where `holes` lie: no window reaches across one, and what it holds is never read.

    Raises:
        ValueError: nothing is left.
    """
    if not any(duration > 0 for _, duration in holes):
        return recording
    rate, segments, pieces = recording.sfreq, [], []
    for index, segment in enumerate(recording.segments):
        whole = (segment.onset_seconds, segment.n_times / rate)
        for onset, duration in without([whole], holes):
            start = math.ceil((onset - segment.onset_seconds) * rate - 1e-6)
            stop = math.floor((onset + duration - segment.onset_seconds) * rate + 1e-6)
            if stop > start:
                segments.append(Segment(segment.onset_seconds + start / rate, stop - start))
                pieces.append((index, start))
    if not segments:
        raise ValueError("all of the recording is marked as bad, or was not recorded")

    def source(segment: int, start: int, stop: int) -> Float32[np.ndarray, "time chan"]:
        index, first = pieces[segment]
        return recording.source(index, first + start, first + stop)

    return replace(recording, segments=tuple(segments), source=source)


def recording_from_array(
    eeg_uv: Float[np.ndarray, "time chan"],
    *,
    sfreq: float,
    ch_names: Sequence[str],
    target_ch_names: Sequence[str],
    target_sfreq: float,
    nearest: bool = False,
) -> Recording:
    """An array of MICROVOLTS as a recording of `target_ch_names` at `target_sfreq` Hz.

    Names, resampling, constant channels and the check of amplitude are as for a file; there is one segment.

    Args:
        eeg_uv: samples in microvolts (MNE's arrays are in volts: multiply by 1e6). Not copied if float32.
        sfreq: its samples per second.
        ch_names: its channels' names, as in a file's labels.
        target_ch_names: electrodes wanted, in order; the recording has their standard names.
        target_sfreq: samples per second wanted.
        nearest: let a near electrode of the 10-10 system stand in for one of the 10-20 system that is missing.

    Raises:
        ValueError: names and columns differ in number, samples are not finite, an electrode is wanted twice, or no
            wanted EEG channel is usable.
    """
    target_ch_names = standard_names(target_ch_names)
    if eeg_uv.shape[1] != len(ch_names) or not len(eeg_uv):
        raise ValueError(f"the array has shape {eeg_uv.shape}, and {len(ch_names)} channel names are given")
    if not np.isfinite(eeg_uv).all():
        raise ValueError("the array has samples that are not finite")
    rate = exact_rate(sfreq)
    channels = [FileChannel(label, "uV", rate) for label in ch_names]
    signal = eeg_uv.astype(np.float32, copy=False)
    n_sampled = max(2, int(SAMPLED_SECONDS * sfreq))
    starts = range(0, len(signal), max(n_sampled, len(signal) // N_SAMPLED))
    chosen, report = choose_channels(
        channels,
        target_ch_names,
        units={},
        source="the array",
        spreads=lambda indices: spreads_of({i: signal[a : a + n_sampled, i] for i in indices} for a in starts),
        nearest=nearest,
    )
    columns = [(target_ch_names.index(name), one.index) for name, one in chosen.items()]
    ratio = exact_rate(target_sfreq) / rate
    return Recording(
        path=None,
        sfreq=float(target_sfreq),
        ch_names=target_ch_names,
        present=np.array([name in chosen for name in target_ch_names], bool),
        segments=(Segment(0.0, resampled_length(len(signal), ratio)),),
        annotations=(),
        patient_code=None,
        start_datetime=None,
        report=report,
        source=_ArraySamples(signal, tuple(columns), len(target_ch_names), ratio),
    )


def recording_from_epochs(
    epochs_uv: Float[np.ndarray, "epoch time chan"],
    *,
    sfreq: float,
    ch_names: Sequence[str],
    target_ch_names: Sequence[str],
    target_sfreq: float,
    apart_seconds: float,
) -> Recording:
    """Epochs in MICROVOLTS as a recording with a gap between any two: each is a segment of its own.

    What lies beyond an epoch's ends is its own reflection, when it is resampled as when it is cut into windows.

    Args:
        epochs_uv: samples in microvolts, all epochs of one length.
        sfreq: their samples per second.
        ch_names: their channels' names.
        target_ch_names: electrodes wanted, in order.
        target_sfreq: samples per second wanted.
        apart_seconds: from the end of one to the start of the next.

    Raises:
        ValueError: as for `recording_from_array`.
    """
    n_epochs, n_times = epochs_uv.shape[:2]
    whole = recording_from_array(
        epochs_uv.reshape(n_epochs * n_times, -1),
        sfreq=sfreq,
        ch_names=ch_names,
        target_ch_names=target_ch_names,
        target_sfreq=target_sfreq,
    )
    ratio = exact_rate(target_sfreq) / exact_rate(sfreq)
    signal = epochs_uv.astype(np.float32, copy=False)
    samples = whole.source
    assert isinstance(samples, _ArraySamples)
    of_epoch = [replace(samples, signal=epoch) for epoch in signal]
    step = n_times / sfreq + apart_seconds
    return replace(
        whole,
        segments=tuple(Segment(i * step, resampled_length(n_times, ratio)) for i in range(n_epochs)),
        source=lambda segment, start, stop: of_epoch[segment](0, start, stop),
    )


def exact_rate(sfreq: float) -> Fraction:
    """A rate as the decimal number that was written: 199.8 is 999 / 5."""
    if not 0 < sfreq < 1e6:
        raise ValueError(f"sfreq must be above 0 and below 1e6 Hz, is {sfreq}")
    return Fraction(str(float(sfreq)))


@dataclass(frozen=True, eq=False)
class _ArraySamples:
    """An array's columns at another rate."""

    signal: Float32[np.ndarray, "time chan"]
    columns: tuple[tuple[int, int], ...]  # in the result, in the array
    n_chans: int
    ratio: Fraction

    def __call__(self, segment: int, start: int, stop: int) -> Float32[np.ndarray, "time chan"]:
        targets, sources = (list(side) for side in zip(*self.columns, strict=True))
        out = np.zeros((stop - start, self.n_chans), np.float32)
        out[:, targets] = resample(
            lambda a, b: self.signal[a:b, sources], len(self.signal), ratio=self.ratio, start=start, stop=stop
        )
        return out
