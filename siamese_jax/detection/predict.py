"""Batches or a recording to probabilities: the one loop that training's evaluation, `evaluate` and `detect` share."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float32, Int

from siamese_jax.config.experiment import Config
from siamese_jax.detection.passes import (
    BLOCK_SECONDS,
    BlockLogits,
    Choices,
    answered,
    batch_shape,
    block_logits,
    blocks_of,
    single_logits,
)
from siamese_jax.models.blocks import Logits
from siamese_jax.models.build import build_model
from siamese_jax.pipeline import Variables, forward
from siamese_jax.recordings.quality import Quality
from siamese_jax.recordings.recording import Recording, Segment
from siamese_jax.recordings.windows import WindowGrid, window_grid
from siamese_jax.shards.batches import evaluation_batches
from siamese_jax.shards.schema import Shard
from siamese_jax.signals.preprocess import rows_present
from siamese_jax.vocabulary import TaskSpec

SPAN_SECONDS = 0.3
"""Frames within this span make one event: about the length of a spike and the rise of its slow wave."""
APART_SECONDS = 0.25
"""Least distance of two events: a spike and its slow wave are one, the complexes of a 4-Hz run are not."""

REACH_SECONDS = 1.0
"""To either side of a window, or of a frame, at least: an electrode that is bad there is absent in it."""

Predictor = Callable[[Variables, np.ndarray, np.ndarray], Logits]


class Predictions(NamedTuple):
    """Logits of many windows, in order, on the host.

    Attributes:
        grid: where each window lies.
        window: by task, [window, logit].
        frame: by task with a single logit, [row, frame, logit], since events are found in these alone; a row is a
            window, or a block of a dense pass, NaN where no window lies. Empty if the model pools features.
        frame_grid: where the rows of `frame` begin; None if they are the windows.
    """

    grid: WindowGrid
    window: dict[str, Float32[np.ndarray, "window _logits"]]
    frame: dict[str, Float32[np.ndarray, "row frame _logits"]]
    frame_grid: WindowGrid | None = None


@lru_cache(maxsize=8)
def make_predictor(config: Config, tasks: tuple[TaskSpec, ...]) -> Predictor:
    """A compiled `predict(variables, eeg, present) -> Logits` for batches of one shape: windows, or dense blocks.

    The same one for the same arguments: a second file, or a second evaluation, compiles nothing.
    """
    model, lengths = build_model(config, tasks), (config, config.dense(BLOCK_SECONDS))
    by_samples = {of.n_times + 2 * of.margin: of for of in lengths if of is not None}

    def predict(variables: Variables, eeg: jax.Array, present: jax.Array) -> Logits:
        return forward(by_samples.get(eeg.shape[1], config), model, variables, eeg, present)

    return jax.jit(predict)


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
    batch_size: int | None = None,
    on_progress: Callable[[float], None] = lambda seconds: None,
) -> Predictions:
    """Logits of every window of a recording, read once from start to end.

    A network that only convolves along time runs through blocks of about a minute, and windows' logits follow from
    frames; any other sees each window by itself.

    Windows of which a present electrode has a sample that is not finite have no logits: they are left out, as if they
    lay in a gap. So are those in which half of the electrodes or more are bad, or in which those that are good make no
    row of the montage; in a dense pass, those of which any frame is such.

    Args:
        predictor: from `make_predictor` for the same configuration.
        config: of the checkpoint.
        variables: `params` and `batch_stats`.
        recording: read at the checkpoint's `data.sfreq` with its `data.ch_names`; any length, since memory does not
            grow with it but for the logits.
        hop_seconds: from one window to the next; a whole number of samples, and of frames if the model gives frames.
        quality: of this recording: an electrode that is bad in a second that a frame sees (a window, if each is seen
            by itself), or in one beside it, is absent there. Judged on the way. None takes all that are present as
            good.
        batch_size: windows at a time, or as much signal in blocks; None takes what the device likes.
        on_progress: called with the seconds of signal done.

    Raises:
        ValueError: a recording of other channels or another rate; a hop that is no such whole number; no segment is
            as long as a window, the electrodes that are there make no row of the montage, or every window is left out.
    """
    hop = config.hop(hop_seconds)
    _check_recording(config, recording)
    grid = window_grid(recording.segments, window=config.n_times, hop=hop)
    name, seconds = recording.path or "the recording", config.data.window_seconds
    if len(grid.start) == 0:
        longest = max((s.n_times for s in recording.segments), default=0) / config.data.sfreq
        raise ValueError(f"{name} has no gap-free stretch of {seconds} s (the longest is {longest:.1f} s)")
    predict = partial(predict_batches, predictor, variables)
    blocks = blocks_of(config, recording, grid, hop=hop, choose=partial(_chosen, config, recording, quality))
    parts, n_asked, done = list[BlockLogits](), 0, 0
    for block, answers in answered(predict, blocks, batch_shape(config, batch_size or _batch_size())):
        n_asked, done = n_asked + len(answers), done + len(block.starts)
        part = block_logits(config, block, answers, hop=hop) if answers else None
        if part is not None and len(part.grid.start):
            parts.append(part)
        on_progress(done * hop_seconds)
    if not n_asked:
        raise ValueError(
            f"{name}: in every window of {seconds} s half of the electrodes or more are bad, or the good ones make no"
            " row of the montage; exclude electrodes by name (`--exclude`) to analyse the others"
        )
    if not parts:
        raise ValueError(
            f"{name}: every window of {seconds} s has a sample that is NaN or infinite in an electrode that is present"
        )
    return Predictions(*jax.tree.map(lambda *xs: np.concatenate(xs), *parts))


def predict_shards(
    predictor: Predictor,
    config: Config,
    variables: Variables,
    shards: Sequence[Shard],
    *,
    batch_size: int | None = None,
    on_progress: Callable[[int], None] = lambda windows: None,
) -> list[tuple[Int[np.ndarray, "window"], Predictions]]:
    """For each shard, the windows that `evaluation_batches` takes, and their logits.

    Args:
        predictor: from `make_predictor` for the same configuration.
        config: its tasks and geometry must be those of the shards.
        variables: `params` and `batch_stats`.
        shards: of whatever patients.
        batch_size: windows at a time; None takes what the device likes.
        on_progress: called with the number of windows done.

    Raises:
        ValueError: shards that do not fit the configuration, or hold no label.
    """
    places = []

    def inputs() -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        for batch, shard, window in evaluation_batches(shards, config, batch_size or _batch_size()):
            real = shard >= 0
            places.append((shard[real], window[real]))
            yield batch.eeg, batch.present, int(real.sum())

    done = 0
    parts = []
    for logits in predict_batches(predictor, variables, inputs()):
        parts.append((logits.window, single_logits(logits.frame)))
        done += len(next(iter(logits.window.values())))
        on_progress(done)
    shard_of, window_of = (np.concatenate(column) for column in zip(*places, strict=True))
    logits = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
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

    From a model that keeps frames, a logit a frame, each once: where windows (or dense blocks) overlap, their logits
    for one moment are averaged; they are equal but near a segment's ends and where electrodes are bad. Windows of a
    shard that lie between the frames of others count for the nearest frame: half a frame at most. From one that pools
    features, a logit a window at the window's centre; events are then told apart no better than by a window's length,
    and a segment whose windows do not lie on the grid has no line.

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
            rows = predictions.grid if predictions.frame_grid is None else predictions.frame_grid
            first = np.rint(rows.start[rows.segment == index] / per_frame).astype(np.int64)
            logits = _merged(predictions.frame[task][rows.segment == index, :, 0], first)
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


def _batch_size() -> int:
    """Windows at a time: on a CPU no more than its caches hold (64 took 1.7 times as long), else enough to do."""
    return 16 if jax.default_backend() == "cpu" else 64


def _merged(logits: Float32[np.ndarray, "row frame"], first: Int[np.ndarray, "row"]) -> Float32[np.ndarray, "_"]:
    """Rows of logits on one axis, averaged where they overlap; `first` is where each row begins."""
    known = ~np.isnan(logits)
    index = (first[:, None] + np.arange(logits.shape[1]))[known]
    count = np.bincount(index)
    total = np.bincount(index, weights=logits[known])
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


@lru_cache(maxsize=8)
def _row_finder(config: Config) -> Callable[[np.ndarray], jax.Array]:
    """`rows_present`, compiled once for however many files."""
    return jax.jit(partial(rows_present, config))


@lru_cache(maxsize=1024)
def _has_rows(config: Config, present: tuple[bool, ...]) -> bool:
    """Whether these electrodes make any row of the montage."""
    return bool(_row_finder(config)(np.array([present])).any())


def _chosen(
    config: Config, recording: Recording, quality: Quality | None, places: WindowGrid, length: int, reach: int
) -> Choices:
    """The electrodes that each place takes."""
    if quality is None:
        return recording.present[None], np.zeros(len(places.start), np.int64)
    reach = max(reach, round(REACH_SECONDS * config.data.sfreq))
    present, lost = quality.within(places, window=length, reach=reach)
    # Neighbours mostly take the same: compared before they are sorted.
    is_first = np.concatenate([[True], (present[1:] != present[:-1]).any(1)])
    choices, which = np.unique(present[is_first], axis=0, return_inverse=True)
    has_rows = np.array([_has_rows(config, tuple(choice.tolist())) for choice in choices])
    which = which.ravel()[is_first.cumsum() - 1]
    return choices, np.where(lost | ~has_rows[which], -1, which)


def _check_recording(config: Config, recording: Recording) -> None:
    """Refuse a recording in which the model would see nothing, or something else, and answer all the same."""
    data = config.data
    if recording.ch_names != data.ch_names or recording.sfreq != data.sfreq:
        raise ValueError(
            f"{recording.path or 'the recording'} was read as {', '.join(recording.ch_names)} at"
            f" {recording.sfreq:g} Hz; the checkpoint needs {', '.join(data.ch_names)} in this order, at"
            f" {data.sfreq:g} Hz"
        )
    if not _has_rows(config, tuple(recording.present.tolist())):
        there = [name for name, present in zip(data.ch_names, recording.present, strict=True) if present]
        raise ValueError(
            f"{recording.path or 'the recording'}: of the electrodes {', '.join(there) or '(none)'} not one row of the"
            f" checkpoint's montage ({config.preprocess.montage}) can be made"
        )


def _fetch(logits: Logits, n: int) -> Logits:
    return jax.tree.map(lambda x: np.asarray(x)[:n], logits)
