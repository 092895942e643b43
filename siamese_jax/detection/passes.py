"""One pass over a recording: blocks of signal, and the electrodes that can be used in them, go in; logits come out.

A network that only convolves along time runs through a block at once, and the logits of its windows follow from its
frames; any other sees the windows of a block one by one. Each block is read once, and overlaps the next by margins and
by less than a window.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float32, Int64

from siamese_jax.config.experiment import Config
from siamese_jax.models.blocks import Logits
from siamese_jax.models.siamese_es import adds_odds
from siamese_jax.recordings.recording import Recording
from siamese_jax.recordings.windows import WindowGrid, read_padded

BLOCK_SECONDS = 60.0
"""About: whole windows."""

Choices = tuple[Bool[np.ndarray, "choice chan"], Int64[np.ndarray, "place"]]
"""Some choices of electrodes, and which of them each place takes; -1 where a place cannot be used."""
Choose = Callable[[WindowGrid, int, int], Choices]
"""Of places, their length and their reach to either side in samples."""
Batch = tuple[Float32[np.ndarray, "batch time chan"], Bool[np.ndarray, "batch chan"], int]
"""Signal, electrodes, and how many rows are not padding."""


class Input(NamedTuple):
    """What the network is given: signal with its margins, the electrodes that are there, and what of a block it is for.

    Attributes:
        places: the frames of a dense block, or the windows of any other.
    """

    eeg: Float32[np.ndarray, "time chan"]
    present: Bool[np.ndarray, "chan"]
    places: Bool[np.ndarray, "place"]


class Block(NamedTuple):
    """Windows of one segment that begin within a minute or so; without an input if none of them can be used."""

    segment: int
    starts: Int64[np.ndarray, "window"]
    inputs: list[Input]


class BlockLogits(NamedTuple):
    """What the windows of a block got; those without logits are left out.

    Attributes:
        grid: the windows.
        window: by task, [window, logit].
        frame: by task with a single logit: [window, frame, logit], or of a dense block [1, frame, logit], NaN where no
            such window lies.
        frame_grid: where the rows of `frame` begin.
    """

    grid: WindowGrid
    window: dict[str, Float32[np.ndarray, "window _logits"]]
    frame: dict[str, Float32[np.ndarray, "row frame _logits"]]
    frame_grid: WindowGrid


def blocks_of(config: Config, recording: Recording, grid: WindowGrid, *, hop: int, choose: Choose) -> Iterator[Block]:
    """The blocks of a recording, in order of time, each read at its turn."""
    dense = config.dense(BLOCK_SECONDS)
    n_times = round(BLOCK_SECONDS * config.data.sfreq) if dense is None else dense.n_times
    n_windows = max(1, (n_times - config.n_times) // hop + 1)
    for segment in np.unique(grid.segment).tolist():
        starts = grid.start[grid.segment == segment]
        for first in range(0, len(starts), n_windows):
            some = starts[first : first + n_windows]
            if dense is None:
                yield Block(segment, some, _windows(config, recording, segment, some, choose))
            else:
                yield Block(segment, some, _frames(dense, recording, segment, int(some[0]), choose))


def batch_shape(config: Config, batch_size: int) -> tuple[int, int, int]:
    """Of the batches for `answered`: as much signal as in so many windows."""
    dense = config.dense(BLOCK_SECONDS)
    size = batch_size if dense is None else max(1, batch_size * config.n_times // dense.n_times)
    geometry = dense or config
    return size, geometry.n_times + 2 * geometry.margin, len(config.data.ch_names)


def answered(
    predict: Callable[[Iterable[Batch]], Iterator[Logits]], blocks: Iterator[Block], shape: tuple[int, int, int]
) -> Iterator[tuple[Block, list[Logits]]]:
    """Each block with the network's answers to its inputs; blocks share batches.

    Args:
        predict: batches in, the logits of each out, without the padding.
        blocks: from `blocks_of`.
        shape: from `batch_shape`.
    """
    waiting: deque[Block] = deque()
    answers: deque[Logits] = deque()

    def inputs() -> Iterator[Input]:
        for block in blocks:
            waiting.append(block)
            yield from block.inputs

    def batches() -> Iterator[Batch]:
        every = inputs()
        while some := list(islice(every, shape[0])):
            eeg, present = np.zeros(shape, np.float32), np.zeros(shape[::2], bool)
            for row, one in enumerate(some):
                eeg[row], present[row] = one.eeg, one.present
            yield eeg, present, len(some)

    def complete() -> Iterator[tuple[Block, list[Logits]]]:
        while waiting and len(waiting[0].inputs) <= len(answers):
            block = waiting.popleft()
            yield block, [answers.popleft() for _ in block.inputs]

    for logits in predict(batches()):
        n = len(next(iter(logits.window.values())))
        answers.extend(jax.tree.map(lambda x, row=row: x[row], logits) for row in range(n))
        yield from complete()
    yield from complete()


def block_logits(config: Config, block: Block, answers: list[Logits], *, hop: int) -> BlockLogits:
    """The logits of a block's windows from the answers to its inputs, of which there is at least one."""
    dense = config.dense(BLOCK_SECONDS)
    if dense is None:
        windows = np.array([one.places.argmax() for one in block.inputs])
        window, frame = jax.tree.map(lambda *rows: np.stack(rows), *answers)
        kept = _finite(window)
        grid = _grid(block, windows[kept])
        window, frame = ({task: x[kept] for task, x in by_task.items()} for by_task in (window, single_logits(frame)))
        return BlockLogits(grid, window, frame, grid)
    frames = jax.tree.map(lambda x: np.full_like(x, np.nan), answers[0].frame)
    for one, answer in zip(block.inputs, answers, strict=True):
        for task, x in frames.items():
            x[one.places] = answer.frame[task][one.places]
    index = _frames_of_windows(config, dense, hop)[: len(block.starts)]
    kept = _finite(frames)[index].all(1)
    window = {task: _pooled(x[index[kept]], odds=adds_odds(config.model, task)) for task, x in frames.items()}
    unseen = np.ones(dense.n_frames, bool)
    unseen[index[kept]] = False
    frame = {task: np.where(unseen[:, None], np.nan, x)[None] for task, x in single_logits(frames).items()}
    return BlockLogits(_grid(block, np.flatnonzero(kept)), window, frame, _grid(block, np.zeros(1, int)))


def _windows(
    config: Config, recording: Recording, segment: int, starts: Int64[np.ndarray, "window"], choose: Choose
) -> list[Input]:
    """Each window that can be used by itself."""
    grid = WindowGrid(np.full(len(starts), segment, np.int32), starts)
    choices, which = choose(grid, config.n_times, config.margin)
    n_times, length = recording.segments[segment].n_times, config.n_times + 2 * config.margin
    begins = starts - config.margin
    eeg = read_padded(partial(recording.read, segment), n_times, int(begins[0]), int(begins[-1]) + length)
    return [
        Input(eeg[begins[i] - begins[0] :][:length], choices[which[i]], np.arange(len(starts)) == i)
        for i in np.flatnonzero(which >= 0)
    ]


def _frames(dense: Config, recording: Recording, segment: int, start: int, choose: Choose) -> list[Input]:
    """A dense block once for each choice of electrodes, with the frames for which it holds.

    A frame takes the electrodes that are good in every second that it sees.
    """
    n_times, length = recording.segments[segment].n_times, dense.n_times + 2 * dense.margin
    offsets = np.rint(np.arange(dense.n_frames) * dense.frame_seconds * dense.data.sfreq).astype(np.int64)
    grid = WindowGrid(np.full(len(offsets), segment, np.int32), start + offsets)
    choices, which = choose(grid, 1, dense.reach)
    begin = start - dense.margin
    eeg = np.zeros((length, len(dense.data.ch_names)), np.float32)
    seen = min(length, n_times + dense.margin - begin)  # no frame of a window sees more
    eeg[:seen] = read_padded(partial(recording.read, segment), n_times, begin, begin + seen)
    inputs = [Input(eeg, choice, which == i) for i, choice in enumerate(choices) if (which == i).any()]
    return inputs if np.isfinite(eeg).all() else [_without_nonfinite(dense, one, offsets) for one in inputs]


def _without_nonfinite(dense: Config, given: Input, offsets: Int64[np.ndarray, "place"]) -> Input:
    """What is not finite as 0, and not for the frames that would see it: a filter would spread it over the block."""
    is_broken = ~np.isfinite(given.eeg[:, given.present]).all(1)
    n_before = np.concatenate([[0], np.cumsum(is_broken)])
    first = dense.margin + offsets - dense.reach
    sees = n_before[first + 2 * dense.reach] > n_before[first]
    return Input(np.nan_to_num(given.eeg, posinf=0.0, neginf=0.0), given.present, given.places & ~sees)


def _frames_of_windows(config: Config, dense: Config, hop: int) -> Int64[np.ndarray, "window frame"]:
    """Where the frames of each window of a dense block stand among its frames."""
    first = np.arange(0, dense.n_times - config.n_times + 1, hop) / (dense.frame_seconds * dense.data.sfreq)
    return np.rint(first).astype(np.int64)[:, None] + np.arange(config.n_frames)


def _pooled(frames: Float32[np.ndarray, "window frame _k"], *, odds: bool) -> Float32[np.ndarray, "window _k"]:
    """As the network pools the frames of a window; on the host, where the frames are put together."""
    pooled = np.logaddexp.reduce(frames, axis=1, dtype=np.float64) if odds else frames.mean(1)
    return pooled.astype(np.float32)


def _finite(by_task: dict[str, np.ndarray]) -> Bool[np.ndarray, "place"]:
    return np.all([np.isfinite(logits).all(-1) for logits in by_task.values()], axis=0)


def single_logits(frame: Mapping[str, Any]) -> dict[str, Any]:
    """Tasks with a single logit: those that events are found in."""
    return {task: x for task, x in frame.items() if x.shape[-1] == 1}


def _grid(block: Block, windows: Int64[np.ndarray, "window"]) -> WindowGrid:
    return WindowGrid(np.full(len(windows), block.segment, np.int32), block.starts[windows])
