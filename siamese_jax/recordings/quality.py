"""Which electrodes are broken when: each EEG channel of a recording judged second by second, on the host.

A fault is what no brain makes. The limits are wide, so that no discharge, no slow wave of a child and no muscle of a
chewing patient makes its channel bad; the network decides between these limits. They are INFERENCE, compared with real
recordings in the tests.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from scipy.fft import rfft
from scipy.ndimage import uniform_filter1d

from siamese_jax.recordings.intervals import Stretch, merged
from siamese_jax.recordings.recording import Recording, Segment
from siamese_jax.recordings.windows import WindowGrid, read_padded
from siamese_jax.vocabulary import channel_kind

FAULTS = ("flat", "clipped", "mains", "broad noise", "implausible", "alone", "too large")
"""A second of a channel has one at most: the first that holds."""

FLAT_UV = 1.0
"""Peak to peak in a second; a suppressed EEG has more than 3."""
CLIPPED_SHARE, CLIPPED_UV = 0.15, 100.0
"""Of a second's samples, which stand still at its extremes; and how far apart these must be."""
IMPLAUSIBLE_UV = 1000.0
"""From the mean of three seconds; the largest waves that we saw have some 600."""
MAINS_SHARE, MAINS_UV = 0.8, 300.0
"""Of the power above 1 Hz, and root mean square: the filter, of 50 dB and more, removes what is less."""
NOISE_HZ, NOISE_SHARE, NOISE_UV, NOISE_TIMES, NOISE_MOST_UV = 35.0, 0.1, 50.0, 8.0, 200.0
"""Above 35 Hz without mains: share of the power above 1 Hz, and root mean square, at least; so many times the median
channel's, or beyond a limit."""
ALONE_TIMES, ALONE_CORRELATION, ALONE_SECONDS, ALONE_CHANNELS = 5.0, 0.3, 10, 8
"""Size against the median channel, largest correlation with any other, in ten seconds; of eight channels or more."""
LARGE_TIMES, LARGE_SHARE, LARGE_SECONDS = 6.0, 0.8, 30
"""Size against the median channel, in which share of a block, of so many seconds or more: a wrong gain. No discharges
and no blinks last that long, and a hole in the skull makes its EEG three times larger at most."""
BAD_SHARE = 0.5
"""Of electrodes, from which on a stretch is bad; of seconds, above which an electrode is called mostly bad."""

BLOCK_SECONDS, AROUND_SECONDS, DRIFT_SECONDS, SMOOTH_SECONDS = 200, 2, 3, 0.04
MAINS_HZ, LARGEST_UV, N_NAMED = (50.0, 60.0), 1e6, 5


class QualityReport(NamedTuple):
    """What is bad in a recording.

    Attributes:
        channel_seconds: outside bad stretches, by channel and fault.
        mostly_bad: channels that are bad in more than half of these seconds.
        bad_stretches: onset and duration in seconds by the recording's clock, where half of the EEG channels or more
            are bad.
        seconds: judged.
    """

    channel_seconds: dict[str, dict[str, int]] = {}
    mostly_bad: tuple[str, ...] = ()
    bad_stretches: tuple[Stretch, ...] = ()
    seconds: int = 0

    def notes(self) -> tuple[str, ...]:
        """Sentences on bad channels and bad stretches, if there are any."""
        said, n = [], {name: sum(faults.values()) for name, faults in self.channel_seconds.items()}
        worst = sorted(n, key=n.__getitem__, reverse=True)
        for name in worst[:N_NAMED]:
            faults = self.channel_seconds[name]
            by_time = ", ".join(sorted(faults, key=faults.__getitem__, reverse=True))
            said.append(f"{name} {n[name]} s, {n[name] / self.seconds:.1%} ({by_time})")
        if more := worst[N_NAMED:]:
            said.append(f"{len(more)} more for {n[more[0]]} s at most")
        notes = [f"bad channels, taken as absent where they are bad: {', '.join(said)}"] if said else []
        if self.mostly_bad:
            notes.append(f"bad in more than half of the time: {', '.join(self.mostly_bad)}")
        if lost := sum(duration for _, duration in self.bad_stretches):
            notes.append(f"half of the channels or more are bad in {lost:.0f} s, which are not analysed")
        return tuple(notes)


@dataclass(frozen=True, eq=False)
class Quality:
    """The faults of a recording's channels.

    Attributes:
        recording: that is judged.
        source: faults in a block of a segment, `BLOCK_SECONDS` from its start or what is left of it: 0, or one more
            than the index in `FAULTS`, by second; the last second of a segment is filled up by reflection.
    """

    recording: Recording
    source: Callable[[int, int], UInt8[np.ndarray, "second chan"]] = field(repr=False)

    @property
    def faults(self) -> UInt8[np.ndarray, "second chan"]:
        """Of the whole recording, one segment after another."""
        nothing = np.zeros((0, len(self.recording.ch_names)), np.uint8)
        sizes = enumerate(map(self._n_seconds, self.recording.segments))
        return np.concatenate([nothing, *(self._seconds(index, 0, n) for index, n in sizes)])

    def within(
        self, grid: WindowGrid, *, window: int, reach: int
    ) -> tuple[Bool[np.ndarray, "window chan"], Bool[np.ndarray, "window"]]:
        """Which channels can be used in each window, and in which windows half of them or more are bad.

        Only what lies near the windows is judged, so that a recording can be judged while it is read.

        Args:
            grid: of the same recording.
            window: samples of a window.
            reach: samples to either side of it that count, too.
        """
        bad = np.zeros((len(grid.start), len(self.recording.ch_names)), bool)
        for index in np.unique(grid.segment):
            mine, n = grid.segment == index, self._n_seconds(self.recording.segments[index])
            edges = grid.start[mine] - reach, grid.start[mine] + window + reach - 1
            first, last = (np.clip(edge // round(self.recording.sfreq), 0, n - 1) for edge in edges)
            bad[mine] = self._any_bad(int(index), first, last)
        return self.recording.present[None] & ~bad, self._too_many(bad)

    def report(self) -> QualityReport:
        """What is bad in the whole recording, in numbers."""
        faults, ch_names = self.faults, self.recording.ch_names
        lost = self._too_many(faults > 0)
        rest = faults[~lost]
        counts = np.stack([(rest == i + 1).sum(0) for i in range(len(FAULTS))], 1).tolist()
        by_fault = [{fault: n for fault, n in zip(FAULTS, row, strict=True) if n} for row in counts]
        mostly = (rest > 0).sum(0) > BAD_SHARE * len(rest)
        return QualityReport(
            {name: faults for name, faults in zip(ch_names, by_fault, strict=True) if faults},
            tuple(ch_names[chan] for chan in np.flatnonzero(mostly)),
            tuple(self._stretches(lost)),
            len(lost),
        )

    def _n_seconds(self, segment: Segment) -> int:
        return _n_seconds(segment, self.recording.sfreq)

    def _seconds(self, index: int, first: int, stop: int) -> UInt8[np.ndarray, "second chan"]:
        """Faults in seconds [first, stop) of a segment."""
        begin = first // BLOCK_SECONDS
        blocks = [self.source(index, block) for block in range(begin, -(-stop // BLOCK_SECONDS))]
        nothing = np.zeros((0, len(self.recording.ch_names)), np.uint8)
        return np.concatenate([nothing, *blocks])[first - begin * BLOCK_SECONDS : stop - begin * BLOCK_SECONDS]

    def _any_bad(
        self, index: int, first: Int64[np.ndarray, "window"], last: Int64[np.ndarray, "window"]
    ) -> Bool[np.ndarray, "window chan"]:
        """Which channels are bad in any of the seconds from `first` to `last` of a segment."""
        low = int(first.min())
        bad = self._seconds(index, low, int(last.max()) + 1) > 0
        total = np.concatenate([np.zeros_like(bad[:1], int), bad.cumsum(0)])
        return total[last + 1 - low] > total[first - low]

    def _too_many(self, bad: Bool[np.ndarray, "time chan"]) -> Bool[np.ndarray, "time"]:
        """Where half of the EEG channels that are there, or more, are bad."""
        eeg = self.recording.present & _is_eeg(self.recording)
        return (bad & eeg[None]).sum(1) >= max(BAD_SHARE * eeg.sum(), 1)

    def _stretches(self, seconds: Bool[np.ndarray, "second"]) -> list[Stretch]:
        found, sfreq, done = [], self.recording.sfreq, 0
        for segment in self.recording.segments:
            n = self._n_seconds(segment)
            starts = np.flatnonzero(seconds[done : done + n]) * round(sfreq) / sfreq
            ends = np.minimum(starts + round(sfreq) / sfreq, segment.n_times / sfreq)
            found += [(segment.onset_seconds + a, b - a) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
            done += n
        return merged(found)


def judge(recording: Recording) -> Quality:
    """The faults of each EEG channel in each second: each block is read and judged at first use.

    What all electrodes share is the reference's, and a montage takes it out: of four channels or more, all but `flat`
    and `clipped` is judged after the median channel is taken away.
    """
    return Quality(recording, cache(partial(_judged_block, recording)))


def _judged_block(recording: Recording, index: int, block: int) -> UInt8[np.ndarray, "second chan"]:
    segment, chans = recording.segments[index], np.flatnonzero(recording.present & _is_eeg(recording))
    first = block * BLOCK_SECONDS
    last = min(first + BLOCK_SECONDS, _n_seconds(segment, recording.sfreq))
    faults = np.zeros((last - first, len(recording.ch_names)), np.uint8)
    if len(chans):
        n, margin = round(recording.sfreq), AROUND_SECONDS * round(recording.sfreq)
        eeg = read_padded(partial(recording.read, index), segment.n_times, first * n - margin, last * n + margin)
        faults[:, chans] = _judged(eeg[:, chans], recording.sfreq)
    return faults


def _judged(eeg: Float32[np.ndarray, "time chan"], sfreq: float) -> UInt8[np.ndarray, "second chan"]:
    """A block with `AROUND_SECONDS` to either side of it."""
    n, n_chans = round(sfreq), eeg.shape[1]
    margin = AROUND_SECONDS * n

    def by_second(signal: Float32[np.ndarray, "time chan"]) -> Float32[np.ndarray, "second sample chan"]:
        return signal[margin:-margin].reshape(-1, n, n_chans)

    eeg = np.clip(np.nan_to_num(eeg), -LARGEST_UV, LARGEST_UV)  # what is not finite, the model refuses
    raw = by_second(eeg)
    low, high = raw.min(1, keepdims=True), raw.max(1, keepdims=True)
    size, step = high - low, np.abs(np.diff(raw, axis=1))
    is_still = step < np.maximum(0.001 * size, 0.2)
    is_extreme = (raw[:, 1:] > high - 0.05 * size) | (raw[:, 1:] < low + 0.05 * size)
    clipped = ((is_still & is_extreme).mean(1) > CLIPPED_SHARE) & (size[:, 0] > CLIPPED_UV)

    if n_chans >= 4:
        eeg = eeg - np.median(eeg, 1, keepdims=True)
    eeg = eeg - uniform_filter1d(eeg, DRIFT_SECONDS * n, axis=0)
    total, mains, noise = _powers(eeg[margin - n // 2 : len(eeg) - margin + n - n // 2], sfreq)
    limit_uv = np.clip(NOISE_TIMES * np.sqrt(np.median(noise, 1, keepdims=True)), NOISE_UV, NOISE_MOST_UV)
    smooth = by_second(uniform_filter1d(eeg, max(1, round(SMOOTH_SECONDS * sfreq)), axis=0))
    holds = {
        "flat": size[:, 0] < FLAT_UV,
        "clipped": clipped,
        "mains": (np.sqrt(mains) > MAINS_UV) & (mains > MAINS_SHARE * total),
        "broad noise": (np.sqrt(noise) > limit_uv) & (noise > NOISE_SHARE * total),
        "implausible": np.abs(by_second(eeg)).max(1) > IMPLAUSIBLE_UV,
        "alone": _alone(smooth),
        "too large": _too_large(smooth),
    }
    return np.select([holds[fault] for fault in FAULTS], range(1, 1 + len(FAULTS)), 0).astype(np.uint8)


def _powers(eeg: Float32[np.ndarray, "time chan"], sfreq: float) -> tuple[Float32[np.ndarray, "second chan"], ...]:
    """Mean square above 1 Hz, at the mains (of whichever frequency has more) and above `NOISE_HZ` without any mains.

    Of the two seconds about each second, weighted by a Hann window; half a second more than is judged at either end.
    """
    n = round(sfreq)
    window = np.hanning(2 * n).astype(np.float32)
    pieces = np.lib.stride_tricks.sliding_window_view(eeg, 2 * n, axis=0)[::n]
    power = np.abs(np.asarray(rfft(pieces * window))) ** 2 / (n * (window**2).sum())
    hz = np.fft.rfftfreq(2 * n, 1 / sfreq)
    harmonics = np.arange(1, max(2, int(sfreq / 2 / min(MAINS_HZ)) + 1))
    of_mains = [(np.abs(hz[:, None] - mains * harmonics) <= 1.5).any(1) for mains in MAINS_HZ]
    mains = np.maximum(*(power @ mask.astype(np.float32) for mask in of_mains))
    noise = (hz > NOISE_HZ) & ~np.any(of_mains, axis=0)
    return power @ (hz > 1).astype(np.float32), mains, power @ noise.astype(np.float32)


def _alone(eeg: Float32[np.ndarray, "second sample chan"]) -> Bool[np.ndarray, "second chan"]:
    """Channels that agree with no other in ten seconds or a few more, and in most of these are much larger: those."""
    alone = np.zeros(eeg.shape[::2], bool)
    if eeg.shape[2] < ALONE_CHANNELS or len(eeg) < ALONE_SECONDS:
        return alone
    sizes = eeg.std(1)
    is_large = sizes > ALONE_TIMES * np.median(sizes, 1, keepdims=True)
    for seconds in np.array_split(np.arange(len(eeg)), len(eeg) // ALONE_SECONDS):
        slope = np.diff(eeg[seconds].reshape(-1, eeg.shape[2]), axis=0)  # slow waves agree by chance
        slope = slope / np.maximum(np.sqrt((slope**2).mean(0)), 1e-6)
        agreement = np.abs(slope.T @ slope) / len(slope)
        np.fill_diagonal(agreement, 0.0)
        agrees = (agreement.max(0) >= ALONE_CORRELATION) | (is_large[seconds].mean(0) <= BAD_SHARE)
        alone[seconds] = is_large[seconds] & ~agrees[None]
    return alone


def _too_large(eeg: Float32[np.ndarray, "second sample chan"]) -> Bool[np.ndarray, "second chan"]:
    """Channels that are much larger than the others all the time, by a size that spikes hardly change."""
    sizes = np.median(np.abs(eeg - np.median(eeg, 1, keepdims=True)), 1)
    share = (sizes > LARGE_TIMES * np.median(sizes, 1, keepdims=True)).mean(0)
    enough = eeg.shape[2] >= ALONE_CHANNELS and len(eeg) >= LARGE_SECONDS
    return np.broadcast_to((share > LARGE_SHARE)[None] & enough, sizes.shape)


def _n_seconds(segment: Segment, sfreq: float) -> int:
    return -(-segment.n_times // round(sfreq))


def _is_eeg(recording: Recording) -> Bool[np.ndarray, "chan"]:
    return np.array([channel_kind(name) == "eeg" for name in recording.ch_names])
