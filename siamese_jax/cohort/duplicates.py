"""The same signal twice: recordings that share a stretch of it, and windows of the same samples.

A recording is known again by the times between its turning points (where rising turns to falling, or back): those of
32 in a row are hashed to a word, and of all words those whose hash is small are kept, the same ones wherever the signal
stands (content-defined sampling, as in winnowing: Schleimer, Wilkerson, Aiken, SIGMOD 2003). Turning points stay where
they are if the signal is cut elsewhere, shifted, scaled or inverted, whatever its channel is called; rounding to int16
about another median moves a few of them, which other words outlive. A word counts once in a recording, so that what
repeats itself all the time (a hum, a calibration) counts for next to nothing. Two recordings with three words in common
at the same distance in time are then compared sample by sample: chance can suggest a pair, but not confirm it.

Not found: a copy that was filtered, referenced otherwise or resampled on another grid of time.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int16, Int64, Shaped, UInt64

from siamese_jax.shards.schema import Shard

RUNS = 32
"""Times between turning points in a word: 40 bits at least, as those of white noise have 1.3 bits each."""
WORD_SECONDS = 5.0
"""A longer word stands across a flat stretch, and is dropped."""
MATCHES = 3
"""Words in common, at the same distance in time, from which two recordings are compared."""
SHARED_SECONDS = 10.0
"""From here on two recordings hold the same signal; of short ones, half of the shorter."""
EVERY = 64
"""One word in so many is kept, and fewer of cohorts that would need more than `TABLE` of them."""
TABLE = 1 << 23
"""Words of a cohort: some 150 MB."""
FINGERPRINT = np.dtype([("word", np.uint64), ("segment", np.int32), ("position", np.int32), ("channel", np.int16)])
"""A word, and where it begins: the cohort's segment, the sample in it, the channel."""

_PIECES, _PIECE_SECONDS = 8, 2.0  # compared of each candidate
_MIN_STEP = 2.0  # integers: where samples differ by less from one to the next, all is rounding
_ROUNDINGS = 2.0  # integers: half a step of each, and half of a file between them with steps of up to 6
_FEW_VALUES = 16
_BASE = 0x9E3779B97F4A7C15
_SCRAMBLE = np.uint64(0xFF51AFD7ED558CCD)


class Part(NamedTuple):
    """A segment among those of a whole cohort."""

    shard: Shard
    number: int
    """Of the shard in the cohort."""
    recording: int
    """Number in the cohort: the recordings of one shard after another."""
    row: int
    """Of the shard's table of recordings."""
    start: int
    """Row of the shard's signal."""
    length: int


def cohort_parts(shards: Sequence[Shard]) -> list[Part]:
    """The segments of one shard after another."""
    parts, before = [], 0
    for k, shard in enumerate(shards):
        columns = (shard.segments[name].tolist() for name in ("recording", "start", "length"))
        parts += [Part(shard, k, before + row, row, start, length) for row, start, length in zip(*columns, strict=True)]
        before += len(shard.recordings["name"])
    return parts


class SharedSignal(NamedTuple):
    """Two recordings, by their numbers in the cohort, that hold the same signal, and about how much of it."""

    first: int
    second: int
    seconds: float


# --- fingerprints -------------------------------------------------------------------------------------------


def one_in(parts: Sequence[Part]) -> int:
    """Which share of the words to keep, for a table of constant size."""
    samples = sum(part.length * int(part.shard.recordings["present"][part.row].sum()) for part in parts)
    return max(EVERY, -(-samples // TABLE))


def fingerprints(
    block: Int16[np.ndarray, "time chan"],
    present: Bool[np.ndarray, "chan"],
    *,
    n_starts: int,
    sfreq: float,
    one_in: int,
) -> Shaped[np.ndarray, "word"]:
    """The words kept of those that begin in the first `n_starts` samples; `FINGERPRINT`, without segment.

    Where `block` ends after `WORD_SECONDS` more at the earliest, or with its segment, none is missing.
    """
    signal = np.ascontiguousarray(block.T[present])
    rising = signal[:, 1:] > signal[:, :-1]
    turning = rising[:, 1:] != rising[:, :-1]
    at = np.flatnonzero(turning)
    if len(at) <= RUNS:
        return np.zeros(0, FINGERPRINT)
    words, base, n = np.diff(at).astype(np.uint64), _BASE, 1
    while n < RUNS:  # a polynomial in the base, modulo 2^64: its degree doubles
        words = words[:-n] * np.uint64(base) + words[n:]
        base, n = base * base % 2**64, 2 * n
    words = (words ^ (words >> np.uint64(31))) * _SCRAMBLE
    span = at[RUNS:] - at[:-RUNS]
    kept = np.flatnonzero((words <= np.uint64((2**64 - 1) // one_in)) & (span <= WORD_SECONDS * sfreq))
    channel, position = np.divmod(at[kept], turning.shape[1])
    whole = (at[kept + RUNS] // turning.shape[1] == channel) & (position < n_starts)
    found = np.zeros(int(whole.sum()), FINGERPRINT)
    found["word"], found["position"] = words[kept][whole], position[whole]
    found["channel"] = np.flatnonzero(present)[channel[whole]]
    return found


def shared_signals(parts: Sequence[Part], table: Shaped[np.ndarray, "word"]) -> list[SharedSignal]:
    """The pairs of recordings that hold the same signal, by all their `FINGERPRINT`s in order of segments.

    Of a signal under three names, two pairs are given at least. A recording is not compared with itself.
    """
    seconds: dict[tuple[int, int], float] = {}
    lengths: dict[int, float] = defaultdict(float)
    for part in parts:
        lengths[part.recording] += part.length / part.shard.info.sfreq
    for first, second in _candidates(*_matches(table, np.array([part.recording for part in parts]))):
        sides = parts[first["segment"][0]], parts[second["segment"][0]]
        if _same(sides, first, second):
            pair = sides[0].recording, sides[1].recording
            seconds[pair] = seconds.get(pair, 0.0) + _span(sides, first, second)
        for part in sides:
            part.shard.close()
    return [
        SharedSignal(*pair, shared)
        for pair, shared in sorted(seconds.items())
        if shared >= min(SHARED_SECONDS, *(lengths[recording] / 2 for recording in pair))
    ]


def _matches(
    table: Shaped[np.ndarray, "word"], recording: Int[np.ndarray, "segment"]
) -> tuple[Shaped[np.ndarray, "match"], Shaped[np.ndarray, "match"]]:
    """Words of one recording, and the same words in the next recording that has them; of each, the first in `table`."""
    table = table[np.argsort(table["word"], kind="stable")]
    new = _changes(table["word"])
    table = table[~(new & np.append(new[1:], True))]  # of the words that stand at one place only, little is left
    table = table[_changes(table["word"], recording[table["segment"]])]
    pairs = np.flatnonzero(~_changes(table["word"])[1:])
    return table[pairs], table[pairs + 1]


def _candidates(
    first: Shaped[np.ndarray, "match"], second: Shaped[np.ndarray, "match"]
) -> Iterator[tuple[Shaped[np.ndarray, "some"], Shaped[np.ndarray, "some"]]]:
    """Matches between two segments at one distance in time, where there are enough; in order of time."""
    lag = second["position"].astype(np.int64) - first["position"]
    order = np.lexsort((first["position"], lag, second["segment"], first["segment"]))
    first, second, lag = first[order], second[order], lag[order]
    edges = np.append(np.flatnonzero(_changes(first["segment"], second["segment"], lag)), len(lag))
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        if stop - start >= MATCHES:
            yield first[start:stop], second[start:stop]


def _changes(*columns: Shaped[np.ndarray, "row"]) -> Bool[np.ndarray, "row"]:
    """Whether a row differs from the one before; the first does."""
    changed = np.ones(len(columns[0]), bool)
    if len(changed):
        changed[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return changed


def _same(sides: tuple[Part, Part], first: Shaped[np.ndarray, "match"], second: Shaped[np.ndarray, "match"]) -> bool:
    """Whether the signal is the same, but for scale and offset, at most of a few places of all matches."""
    places = np.unique(np.linspace(0, len(first) - 1, _PIECES).astype(int))
    agreeing = 0
    for places_of in zip(first[places], second[places], strict=True):
        left = min(part.length - int(place["position"]) for part, place in zip(sides, places_of, strict=True))
        n = min(left, round(_PIECE_SECONDS * sides[0].shard.info.sfreq))
        x, y = (_read(part, place, n) for part, place in zip(sides, places_of, strict=True))
        agreeing += _agree(x, y)
    return 2 * agreeing > len(places)


def _read(part: Part, place: np.void, n: int) -> Int64[np.ndarray, "time"]:
    start = part.start + int(place["position"])
    return part.shard.read_integers(start, start + n)[:, place["channel"]].astype(np.int64)


def _agree(x: Int[np.ndarray, "time"], y: Int[np.ndarray, "time"]) -> bool:
    """Whether both are one signal, rounded again: y = gain * x + offset to within a few steps of either."""
    if min(np.diff(x).std(), np.diff(y).std()) < _MIN_STEP:
        return False
    x, y = x - x.mean(), y - y.mean()
    gain = (x @ y) / (x @ x)
    return bool(np.abs(y - gain * x).max() <= _ROUNDINGS * (1 + abs(gain)))


def _span(sides: tuple[Part, Part], first: Shaped[np.ndarray, "match"], second: Shaped[np.ndarray, "match"]) -> float:
    """Seconds shared, by the first and last match: n places spread evenly cover (n - 1) / (n + 1) of a stretch."""
    n, reach, lag = len(first), int(first["position"][-1] - first["position"][0]), int(second["position"][0])
    lag -= int(first["position"][0])
    overlap = min(sides[0].length, sides[1].length - lag) - max(0, -lag)
    return min(reach * (n + 1) / (n - 1), overlap) / sides[0].shard.info.sfreq


# --- windows ------------------------------------------------------------------------------------------------


class SharedWindows(NamedTuple):
    """Windows of the same samples in two recordings, or twice in one (numbers in the cohort)."""

    first: int
    second: int
    count: int
    onsets: tuple[float, float]
    """Seconds at which the first such window begins in either."""


def window_digests(
    block: Int16[np.ndarray, "time chan"], starts: Int64[np.ndarray, "window"], window: int
) -> tuple[UInt64[np.ndarray, "window"], Bool[np.ndarray, "window"]]:
    """A hash of the samples of each window of a block, and whether all its channels stand still."""
    hashes = (hashlib.blake2b(block[start : start + window].data, digest_size=8).digest() for start in starts)
    moved = np.append(0, np.cumsum((block[1:] != block[:-1]).any(axis=1)))
    return np.frombuffer(b"".join(hashes), np.uint64), moved[starts + window - 1] == moved[starts]


def shared_windows(
    shards: Sequence[Shard], digests: UInt64[np.ndarray, "window"], candidates: Bool[np.ndarray, "window"]
) -> list[SharedWindows]:
    """Which recordings share windows, by the digests of all windows in order of their shards.

    Windows with a few different values at most in each channel (a hum in step with the clock, a rail) do not count:
    they are the same wherever they come from. Of windows that several recordings share, neighbours are paired.
    """
    index = np.flatnonzero(candidates)
    index = index[np.argsort(digests[index], kind="stable")]
    again = np.flatnonzero(np.diff(digests[index]) == 0)
    windows_before = np.cumsum([0, *map(len, shards)])
    recordings_before = np.cumsum([0, *(len(shard.recordings["name"]) for shard in shards)])

    def place(window: int) -> tuple[int, int]:
        shard = int(np.searchsorted(windows_before, window, side="right")) - 1
        return shard, window - int(windows_before[shard])

    found: dict[tuple[int, int], list[tuple[float, float]]] = {}
    reading = 0  # one file is open at a time
    for pair in sorted(zip(index[again].tolist(), index[again + 1].tolist(), strict=True)):
        (k, i), (m, j) = map(place, pair)
        if k != reading:
            shards[reading].close()
            reading = k
        start = int(shards[k].start[i])
        if _says_something(shards[k].read_integers(start, start + shards[k].info.window)):
            owners = recordings_before[k] + shards[k].recording[i], recordings_before[m] + shards[m].recording[j]
            onsets = float(shards[k].onset_seconds[i]), float(shards[m].onset_seconds[j])
            found.setdefault((int(owners[0]), int(owners[1])), []).append(onsets)
    return [SharedWindows(*pair, len(onsets), min(onsets)) for pair, onsets in sorted(found.items())]


def _says_something(window: Int16[np.ndarray, "time chan"]) -> bool:
    return any(len(np.unique(channel)) > _FEW_VALUES for channel in window.T)
