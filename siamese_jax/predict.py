"""Batches or a recording to probabilities: the one loop that training's evaluation, `evaluate` and `detect` share."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float32, Int

from siamese_jax.config import Config
from siamese_jax.forward import Variables, forward
from siamese_jax.models.blocks import Logits
from siamese_jax.models.build import build_model
from siamese_jax.recordings.edf import Recording
from siamese_jax.recordings.windows import WindowGrid, read_padded, window_grid
from siamese_jax.vocabulary import TaskSpec

Predictor = Callable[[Variables, np.ndarray, np.ndarray], Logits]


class Predictions(NamedTuple):
    """Logits of many windows, in order, on the host.

    Attributes:
        grid: where each window lies.
        window: by task, [window, logit].
        frame: by task, [window, frame, logit]; empty if the model pools features.
    """

    grid: WindowGrid
    window: dict[str, Float32[np.ndarray, "window _logits"]]
    frame: dict[str, Float32[np.ndarray, "window frame _logits"]]


def make_predictor(config: Config, tasks: tuple[TaskSpec, ...]) -> Predictor:
    """A compiled `predict(variables, eeg, present) -> Logits` for batches of one shape."""
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
    batch_size: int = 64,
    on_progress: Callable[[float], None] = lambda seconds: None,
) -> Predictions:
    """Logits of every window of a recording, read block by block.

    Args:
        predictor: from `make_predictor` for the same configuration.
        config: of the checkpoint; `recording` must have been read at its `data.sfreq` with its `data.ch_names`.
        variables: `params` and `batch_stats`.
        recording: any length; memory does not grow with it but for the logits.
        hop_seconds: from one window to the next; a whole number of samples.
        batch_size: windows at a time.
        on_progress: called with the seconds of signal done.

    Raises:
        ValueError: the hop is not a whole number of samples, or no segment is as long as a window.
    """
    hop = hop_seconds * config.data.sfreq
    if hop != round(hop) or hop < 1:
        raise ValueError(f"a hop of {hop_seconds} s is not a whole number of samples at {config.data.sfreq} Hz")
    grid = window_grid(recording.segments, window=config.n_times, hop=round(hop))
    if len(grid.start) == 0:
        longest = max((s.n_times for s in recording.segments), default=0) / config.data.sfreq
        raise ValueError(
            f"{recording.path or 'the recording'} has no gap-free stretch of {config.data.window_seconds} s"
            f" (the longest is {longest:.1f} s)"
        )
    done = 0
    parts = []
    for logits in predict_batches(predictor, variables, _recording_batches(config, recording, grid, batch_size)):
        parts.append(logits)
        done += len(next(iter(logits.window.values())))
        on_progress(done * hop_seconds)
    return Predictions(grid, *_concatenated(parts))


def frame_timeline(
    frame_logits: Float32[np.ndarray, "window frame"],
    starts: Int[np.ndarray, "window"],
    *,
    n_times: int,
    samples_per_frame: float,
) -> Float32[np.ndarray, "frame"]:
    """Logits of a segment's frames, each once; NaN where no window lies.

    Where windows overlap, their logits for one moment are averaged; for a model that only convolves along time
    they are equal away from the segment's ends.

    Args:
        frame_logits: of the segment's windows.
        starts: first sample of each window, a multiple of `samples_per_frame`.
        n_times: length of the segment in samples.
        samples_per_frame: from one frame to the next.
    """
    n_frames = int(n_times // samples_per_frame) + 1
    first = np.rint(starts / samples_per_frame).astype(np.int64)
    index = (first[:, None] + np.arange(frame_logits.shape[1])).ravel()
    inside = index < n_frames
    total = np.bincount(index[inside], weights=frame_logits.ravel()[inside], minlength=n_frames)
    count = np.bincount(index[inside], minlength=n_frames)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def probabilities(task: TaskSpec, logits: Float32[np.ndarray, "*batch _logits"]) -> Float32[np.ndarray, "*batch _p"]:
    """Probability per logit: a softmax for a multiclass task, sigmoids otherwise."""
    if task.kind == "multiclass":
        shifted = np.exp(logits - logits.max(-1, keepdims=True))
        return shifted / shifted.sum(-1, keepdims=True)
    # Written with tanh, which cannot overflow.
    return (0.5 * (1 + np.tanh(logits / 2))).astype(np.float32)


def _recording_batches(
    config: Config, recording: Recording, grid: WindowGrid, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    length = config.n_times + 2 * config.margin
    present = np.repeat(recording.present[None], batch_size, 0)
    for segment in np.unique(grid.segment):
        starts = grid.start[grid.segment == segment]
        n_times = recording.segments[segment].n_times
        for first in range(0, len(starts), batch_size):
            some = starts[first : first + batch_size]
            begin = int(some[0]) - config.margin

            def read(a: int, b: int, segment: int = int(segment)) -> Array:
                return recording.read(segment, a, b)

            block = read_padded(read, n_times, begin, int(some[-1]) + config.n_times + config.margin)
            offsets = some - config.margin - begin
            eeg = np.zeros((batch_size, length, block.shape[1]), np.float32)
            for row, offset in enumerate(offsets):
                eeg[row] = block[offset : offset + length]
            yield eeg, present, len(some)


def _fetch(logits: Logits, n: int) -> Logits:
    return jax.tree.map(lambda x: np.asarray(x)[:n], logits)


def _concatenated(parts: list[Logits]) -> Logits:
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
