"""Batches or a recording to probabilities: the one loop that training's evaluation, `evaluate` and `detect` share."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float32, Int, Int64

from siamese_jax.config.experiment import Config
from siamese_jax.forward import Variables, forward
from siamese_jax.models.blocks import Logits
from siamese_jax.models.build import build_model
from siamese_jax.recordings.quality import Quality
from siamese_jax.recordings.recording import Recording, Segment
from siamese_jax.recordings.windows import WindowGrid, read_padded, window_grid
from siamese_jax.shards.batches import evaluation_batches
from siamese_jax.shards.schema import Shard
from siamese_jax.signals.preprocess import rows_present
from siamese_jax.vocabulary import TaskSpec

SPAN_SECONDS = 0.3
"""Frames within this span make one event: about the length of a spike and the rise of its slow wave."""
APART_SECONDS = 0.25
"""Least distance of two events: a spike and its slow wave are one, the complexes of a 4-Hz run are not."""

READ_SECONDS = 600.0
"""Of a recording at a time: neighbouring stretches overlap by the windows' margins, so longer ones read less twice."""

REACH_SECONDS = 1.0
"""To either side of a window, at least: an electrode that is bad there is absent in the window."""

Predictor = Callable[[Variables, np.ndarray, np.ndarray], Logits]


class Predictions(NamedTuple):
    """Logits of many windows, in order, on the host.

    Attributes:
        grid: where each window lies.
        window: by task, [window, logit].
        frame: by task with a single logit, [window, frame, logit], since events are found in these alone; empty if
            the model pools features.
    """

    grid: WindowGrid
    window: dict[str, Float32[np.ndarray, "window _logits"]]
    frame: dict[str, Float32[np.ndarray, "window frame _logits"]]


@lru_cache(maxsize=8)
def make_predictor(config: Config, tasks: tuple[TaskSpec, ...]) -> Predictor:
    """A compiled `predict(variables, eeg, present) -> Logits` for batches of one shape.

    The same one for the same arguments: a second file, or a second evaluation, compiles nothing.
    """
    model = build_model(config, tasks)
    return jax.jit(lambda variables, eeg, present: forward(config, model, variables, eeg, present))


def predict_batches(
    predictor: Predictor, variables: Variables, batches: Iterable[tuple[np.ndarray, np.ndarray, int]]
) -> Iterator[Logits]:
    """Logits of each batch, as NumPy arrays without the padding.

    Args:
        predictor: from `make_predictor`.
        variables: `params` and `batch_stats`.
        batches: (eeg, present, number of samples that are not padding), all of one shape.
    """
    waiting: tuple[Logits, int] | None = None
    for eeg, present, n in batches:
        # Fetch the previous batch only when this one is under way, so that the device never waits for the host.
        running = (predictor(variables, eeg, present), n)
        if waiting is not None:
            yield _fetch(*waiting)
        waiting = running
    if waiting is not None:
        yield _fetch(*waiting)


def predict_recording(
    predictor: Predictor,
    config: Config,
    variables: Variables,
    recording: Recording,
    *,
    hop_seconds: float,
    quality: Quality | None = None,
    batch_size: int = 64,
    on_progress: Callable[[float], None] = lambda seconds: None,
) -> Predictions:
    """Logits of every window of a recording, read block by block.

    Windows of which a present electrode has a sample that is not finite have no logits: they are left out, as if they
    lay in a gap. So are those in which half of the electrodes or more are bad, or in which those that are good make no
    row of the montage.

    Args:
        predictor: from `make_predictor` for the same configuration.
        config: of the checkpoint.
        variables: `params` and `batch_stats`.
        recording: read at the checkpoint's `data.sfreq` with its `data.ch_names`; any length, since memory does not
            grow with it but for the logits.
        hop_seconds: from one window to the next; a whole number of samples, and of frames if the model gives frames.
        quality: of this recording: an electrode that is bad in a window, its margins or a second beside it is absent
            there. None takes all that are present as good.
        batch_size: windows at a time.
        on_progress: called with the seconds of signal done.

    Raises:
        ValueError: a recording of other channels or another rate; a hop that is no such whole number; no segment is
            as long as a window, the electrodes that are there make no row of the montage, or every window is left out.
    """
    hop = config.hop(hop_seconds)
    _check_recording(config, recording)
    grid = window_grid(recording.segments, window=config.n_times, hop=hop)
    if len(grid.start) == 0:
        longest = max((s.n_times for s in recording.segments), default=0) / config.data.sfreq
        raise ValueError(
            f"{recording.path or 'the recording'} has no gap-free stretch of {config.data.window_seconds} s"
            f" (the longest is {longest:.1f} s)"
        )
    present, lost = _usable(config, recording, grid, quality)
    if lost.all():
        raise ValueError(
            f"{recording.path or 'the recording'}: in every window of {config.data.window_seconds} s half of the"
            " electrodes or more are bad, or the good ones make no row of the montage; exclude electrodes by name"
            " (`--exclude`) to analyse the others"
        )
    done = 0
    parts = []
    batches = _recording_batches(config, recording, grid, present, batch_size)
    for logits in predict_batches(predictor, variables, batches):
        parts.append(logits)
        done += len(next(iter(logits.window.values())))
        on_progress(done * hop_seconds)
    window, frame = _concatenated(parts)
    finite = np.all([np.isfinite(logits).all(-1) for logits in window.values()], axis=0)
    if not finite.any():
        raise ValueError(
            f"{recording.path or 'the recording'}: every window of {config.data.window_seconds} s has a sample that is"
            " NaN or infinite in an electrode that is present"
        )
    kept = finite & ~lost
    grid = WindowGrid(grid.segment[kept], grid.start[kept])
    return Predictions(grid, *jax.tree.map(lambda logits: logits[kept], (window, frame)))


def predict_shards(
    predictor: Predictor,
    config: Config,
    variables: Variables,
    shards: Sequence[Shard],
    *,
    batch_size: int = 64,
    on_progress: Callable[[int], None] = lambda windows: None,
) -> list[tuple[Int[np.ndarray, "window"], Predictions]]:
    """For each shard, the windows that `evaluation_batches` takes, and their logits.

    Args:
        predictor: from `make_predictor` for the same configuration.
        config: its tasks and geometry must be those of the shards.
        variables: `params` and `batch_stats`.
        shards: of whatever patients.
        batch_size: windows at a time.
        on_progress: called with the number of windows done.

    Raises:
        ValueError: shards that do not fit the configuration, or hold no label.
    """
    places = []

    def inputs() -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        for batch, shard, window in evaluation_batches(shards, config, batch_size):
            real = shard >= 0
            places.append((shard[real], window[real]))
            yield batch.eeg, batch.present, int(real.sum())

    done = 0
    parts = []
    for logits in predict_batches(predictor, variables, inputs()):
        parts.append(logits)
        done += len(next(iter(logits.window.values())))
        on_progress(done)
    shard_of, window_of = (np.concatenate(column) for column in zip(*places, strict=True))
    logits = _concatenated(parts)
    found = []
    for i, shard in enumerate(shards):
        mine = shard_of == i
        windows = window_of[mine]
        segment = shard.segment[windows]
        grid = WindowGrid(segment, shard.start[windows] - shard.segments["start"][segment])
        found.append((windows, Predictions(grid, *jax.tree.map(lambda x, mine=mine: x[mine], logits))))
    return found


class Timeline(NamedTuple):
    """A task's logits along one segment, and how events are to be found in them (arguments of `find_events`).

    Attributes:
        frame_logits: NaN where no window lies.
        frame_seconds: from one logit to the next.
        onset_seconds: where the first one is centred, from the recording's start.
        span_seconds: whose odds add up to one event.
        min_separation_seconds: least distance between two events.
    """

    frame_logits: Float32[np.ndarray, "frame"]
    frame_seconds: float
    onset_seconds: float
    span_seconds: float
    min_separation_seconds: float


def gives_times(config: Config, task: str, predictions: Predictions, *, hop: int) -> bool:
    """Whether there is a logit a frame of a task, and the frames of windows `hop` samples apart lie on one grid."""
    return task in predictions.frame and config.keeps_frames and hop % config.hop_multiple == 0


def timelines(
    config: Config, task: str, predictions: Predictions, segments: Sequence[Segment], *, hop: int
) -> list[tuple[Timeline, int]]:
    """A binary task's logits along each segment that has windows, with the segment's index.

    From a model that keeps frames, a logit a frame, each once: where windows overlap, their logits for one moment are
    averaged (they are equal but near a segment's ends). Windows of a shard that lie between the frames of others
    count for the nearest frame: half a frame at most. From one that pools features, a logit a window at the window's
    centre; events are then told apart no better than by a window's length, and a segment whose windows do not lie
    on the grid has no line.

    Args:
        config: of the model.
        task: one with a single logit.
        predictions: of one recording.
        segments: of the same recording.
        hop: samples from one window to the next.
    """
    found = []
    sfreq, per_frame = config.data.sfreq, config.data.sfreq * config.frame_seconds
    by_frame = gives_times(config, task, predictions, hop=hop)
    for index, segment in enumerate(segments):
        mine = predictions.grid.segment == index
        if not mine.any():
            continue
        starts = predictions.grid.start[mine]
        if not by_frame and (starts % hop).any():
            continue
        if by_frame:
            logits = _merged(predictions.frame[task][mine, :, 0], np.rint(starts / per_frame).astype(np.int64))
            line = Timeline(logits, config.frame_seconds, segment.onset_seconds, SPAN_SECONDS, APART_SECONDS)
        else:
            logits = _merged(predictions.window[task][mine], starts // hop)
            centre = segment.onset_seconds + config.data.window_seconds / 2
            line = Timeline(logits, hop / sfreq, centre, 0.0, config.data.window_seconds)
        found.append((line, index))
    return found


def probabilities(task: TaskSpec, logits: Float32[np.ndarray, "*batch _logits"]) -> Float32[np.ndarray, "*batch _p"]:
    """Probability per logit: a softmax for a multiclass task, sigmoids otherwise."""
    if task.kind == "multiclass":
        shifted = np.exp(logits - logits.max(-1, keepdims=True))
        return shifted / shifted.sum(-1, keepdims=True)
    # Written with tanh, which cannot overflow.
    return (0.5 * (1 + np.tanh(logits / 2))).astype(np.float32)


def _merged(logits: Float32[np.ndarray, "window frame"], first: Int[np.ndarray, "window"]) -> Float32[np.ndarray, "_"]:
    """Windows' logits on one axis, averaged where they overlap; `first` is where each window's begin."""
    index = (first[:, None] + np.arange(logits.shape[1])).ravel()
    count = np.bincount(index)
    total = np.bincount(index, weights=logits.ravel())
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


@lru_cache(maxsize=8)
def _row_finder(config: Config) -> Callable[[np.ndarray], jax.Array]:
    """`rows_present`, compiled once for however many files."""
    return jax.jit(partial(rows_present, config))


def _has_rows(config: Config, present: Bool[np.ndarray, "chan"]) -> bool:
    """Whether these electrodes make any row of the montage."""
    return bool(_row_finder(config)(present[None]).any())


def _usable(
    config: Config, recording: Recording, grid: WindowGrid, quality: Quality | None
) -> tuple[Bool[np.ndarray, "window chan"], Bool[np.ndarray, "window"]]:
    """The electrodes that each window takes, and the windows that are left out."""
    if quality is None:
        return np.repeat(recording.present[None], len(grid.start), 0), np.zeros(len(grid.start), bool)
    reach = max(config.margin, round(REACH_SECONDS * config.data.sfreq))
    present, lost = quality.within(grid, window=config.n_times, reach=reach)
    distinct, which = np.unique(present, axis=0, return_inverse=True)
    has_rows = np.array([_has_rows(config, row) for row in distinct])
    return present, lost | ~has_rows[which]


def _check_recording(config: Config, recording: Recording) -> None:
    """Refuse a recording in which the model would see nothing, or something else, and answer all the same."""
    data = config.data
    if recording.ch_names != data.ch_names or recording.sfreq != data.sfreq:
        raise ValueError(
            f"{recording.path or 'the recording'} was read as {', '.join(recording.ch_names)} at"
            f" {recording.sfreq:g} Hz; the checkpoint needs {', '.join(data.ch_names)} in this order, at"
            f" {data.sfreq:g} Hz"
        )
    if not _has_rows(config, recording.present):
        there = [name for name, present in zip(data.ch_names, recording.present, strict=True) if present]
        raise ValueError(
            f"{recording.path or 'the recording'}: of the electrodes {', '.join(there) or '(none)'} not one row of the"
            f" checkpoint's montage ({config.preprocess.montage}) can be made"
        )


def _recording_batches(
    config: Config,
    recording: Recording,
    grid: WindowGrid,
    present: Bool[np.ndarray, "window chan"],
    batch_size: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    length, done = config.n_times + 2 * config.margin, 0
    for starts, block, begin in _blocks(config, recording, grid, batch_size):
        for first in range(0, len(starts), batch_size):
            offsets = starts[first : first + batch_size] - config.margin - begin
            eeg = np.zeros((batch_size, length, block.shape[1]), np.float32)
            there = np.zeros((batch_size, block.shape[1]), bool)
            there[: len(offsets)] = present[done : done + len(offsets)]
            for row, offset in enumerate(offsets):
                eeg[row] = block[offset : offset + length]
            done += len(offsets)
            yield eeg, there, len(offsets)


def _blocks(
    config: Config, recording: Recording, grid: WindowGrid, batch_size: int
) -> Iterator[tuple[Int64[np.ndarray, "window"], Float32[np.ndarray, "time chan"], int]]:
    """Where windows start, the stretch of signal that they and their margins need, and where that begins.

    Each holds whole batches of windows, about `READ_SECONDS` of them.
    """
    for segment in np.unique(grid.segment):
        starts = grid.start[grid.segment == segment]
        hop = max(1, int(starts[-1]) // max(1, len(starts) - 1))
        n_windows = batch_size * max(1, round(READ_SECONDS * config.data.sfreq / (batch_size * hop)))
        for first in range(0, len(starts), n_windows):
            some = starts[first : first + n_windows]
            begin, end = int(some[0]) - config.margin, int(some[-1]) + config.n_times + config.margin
            read = partial(recording.read, int(segment))
            yield some, read_padded(read, recording.segments[segment].n_times, begin, end), begin


def _fetch(logits: Logits, n: int) -> Logits:
    frames = {task: frame for task, frame in logits.frame.items() if frame.shape[-1] == 1}
    return jax.tree.map(lambda x: np.asarray(x)[:n], Logits(logits.window, frames))


def _concatenated(parts: list[Logits]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    whole = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
    return whole.window, whole.frame
