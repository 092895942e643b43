"""A recording on its way into a shard: its signal as int16, a minute at a time, and where there is none."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int16, Int64

from siamese_jax.recordings.recording import Annotation, Recording
from siamese_jax.recordings.windows import WindowGrid
from siamese_jax.shards.labels import Labels
from siamese_jax.vocabulary import channel_kind

EEG_SCALE_UV = 0.1
"""Microvolts per integer: +-3.27 mV about the channel's median; the rounding is below amplifier noise."""
OTHER_SCALE_UV = 0.5
"""The same for ECG, EMG and EOG, which are larger: +-16 mV."""

_INT16 = np.iinfo(np.int16)
_BLOCK_SECONDS = 60
_MEDIAN_PIECES = 64


class LabelledRecording(NamedTuple):
    """A recording, whose it is, its windows, their labels by task, and what these came from."""

    name: str
    patient: str
    recording: Recording
    grid: WindowGrid
    labels: dict[str, Labels]
    events: tuple[Annotation, ...] = ()
    bad: tuple[tuple[float, float], ...] = ()
    """Intervals that somebody marked as bad: onset and duration in seconds."""


class UnreadableRecordingError(ValueError):
    """A recording's signal could not be read. `name` is the recording's, `reason` says why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


class QuantisedBlock(NamedTuple):
    """A stretch of a segment as it is stored."""

    integers: Int16[np.ndarray, "time chan"]
    clipped: Int64[np.ndarray, "chan"]
    """How many samples of each channel lay beyond int16."""
    bad: list[tuple[float, float]]
    """Seconds without a signal: onset from the start of the recording, and duration."""


def channel_scales(ch_names: Sequence[str]) -> Float32[np.ndarray, "chan"]:
    """Microvolts per integer of each channel."""
    return np.array([EEG_SCALE_UV if _is_eeg(name) else OTHER_SCALE_UV for name in ch_names], np.float32)


def channel_medians(item: LabelledRecording) -> Float32[np.ndarray, "chan"]:
    """Each channel's median in microvolts, over up to 64 seconds spread evenly; 0 for absent channels.

    It is taken away before rounding (DC-coupled amplifiers sit tens of millivolts from 0) and given back when
    a window is read, so it need not be exact.

    Raises:
        UnreadableRecordingError: the signal cannot be read.
    """
    recording, second = item.recording, _second(item.recording.sfreq)
    places = [
        (k, start)
        for k, segment in enumerate(recording.segments)
        for start in range(0, max(segment.n_times - second, 0) + 1, second)
    ]
    chosen = [places[i] for i in np.unique(np.linspace(0, len(places) - 1, _MEDIAN_PIECES).astype(int))]
    pieces = [_read(item, k, a, min(a + second, recording.segments[k].n_times)) for k, a in chosen]
    return np.median(_finite(np.concatenate(pieces)), axis=0).astype(np.float32) * recording.present


def quantised_blocks(
    item: LabelledRecording, scales: Float32[np.ndarray, "chan"], offsets: Float32[np.ndarray, "chan"]
) -> Iterator[QuantisedBlock]:
    """The segments one after another, at most a minute at a time: round((microvolts - offset) / scale).

    Absent channels are 0. A second is bad if all EEG channels present stand still in it (the amplifier was
    off, or a part of the file was blanked), or if some sample is not finite; such samples are stored as 0 uV.

    Raises:
        UnreadableRecordingError: the signal cannot be read.
    """
    recording = item.recording
    watched = recording.present & np.array([_is_eeg(name) for name in recording.ch_names])
    step = _BLOCK_SECONDS * _second(recording.sfreq)
    for k, segment in enumerate(recording.segments):
        for start in range(0, segment.n_times, step):
            block = _read(item, k, start, min(start + step, segment.n_times))
            integers = np.rint((_finite(block) - offsets) / scales) * recording.present
            clipped = np.sum((integers < _INT16.min) | (integers > _INT16.max), axis=0)
            onset = segment.onset_seconds + start / recording.sfreq
            bad = _bad_seconds(block, watched, onset, recording.sfreq)
            yield QuantisedBlock(np.clip(integers, _INT16.min, _INT16.max).astype(np.int16), clipped, bad)


def merged(intervals: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Intervals (onset, duration) in order of time, those that touch or overlap joined."""
    joined: list[tuple[float, float]] = []
    for onset, duration in sorted(intervals):
        if joined and onset <= sum(joined[-1]) + 1e-6:
            joined[-1] = (joined[-1][0], max(sum(joined[-1]), onset + duration) - joined[-1][0])
        else:
            joined.append((onset, duration))
    return joined


def _bad_seconds(
    block: Float32[np.ndarray, "time chan"], watched: Bool[np.ndarray, "chan"], onset: float, sfreq: float
) -> list[tuple[float, float]]:
    found = []
    for start in range(0, len(block), _second(sfreq)):
        piece = block[start : start + _second(sfreq)]
        still = watched.any() and len(piece) > 1 and not np.ptp(piece[:, watched], axis=0).any()
        if still or not np.isfinite(piece).all():
            found.append((onset + start / sfreq, len(piece) / sfreq))
    return found


def _read(item: LabelledRecording, segment: int, start: int, stop: int) -> Float32[np.ndarray, "time chan"]:
    try:
        return item.recording.read(segment, start, stop)
    except (ValueError, OSError, EOFError) as error:
        raise UnreadableRecordingError(item.name, f"its signal cannot be read: {error}") from error


def _finite(block: Float32[np.ndarray, "time chan"]) -> Float32[np.ndarray, "time chan"]:
    return np.nan_to_num(block, posinf=0, neginf=0)


def _second(sfreq: float) -> int:
    """A second in whole samples."""
    return max(round(sfreq), 1)


def _is_eeg(ch_name: str) -> bool:
    return channel_kind(ch_name) == "eeg"
