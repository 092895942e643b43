"""Shards as a stream of batches: training without end, evaluation once.

What a training batch holds is a function of (seed, step) alone: a pass visits its windows once, in an order
drawn from the seed and the pass's number, and what a pass leaves over begins the next batch. All passes are
equally long. So the step is the whole state of a stream, and one that starts at step k continues any other;
and a process among several that knows which rows of a batch are its own reads those windows and no others.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int64, Integer, Shaped, UInt32

from siamese_jax.config.experiment import Config
from siamese_jax.shards.marks import FrameBags
from siamese_jax.shards.schema import Shard
from siamese_jax.vocabulary import TaskSpec

T = TypeVar("T")

_MAX_OPEN = 128  # files; many systems allow a process 256


class Batch(NamedTuple):
    """Windows on their way into the model: NumPy arrays here, a JAX pytree as it stands."""

    eeg: Float32[np.ndarray, "batch time chan"]
    """Microvolts at `config.data.sfreq`, absent channels 0; with `config.margin` samples on both sides, and in
    training `config.shift` more."""
    present: Bool[np.ndarray, "batch chan"]
    labels: dict[str, Shaped[np.ndarray, "batch ..."]]
    """By task. Binary: float32 [batch]; multiclass: int32 [batch]; multilabel: float32 [batch, class]."""
    weights: dict[str, Float32[np.ndarray, "batch"]]
    """By task; 0 where there is no label, and the label is then 0."""
    bags: dict[str, Int8[np.ndarray, "batch frame"]]
    """By binary task of events, in training alone, if the loss by frame needs them: see `marks.FrameBags`."""
    sample: UInt32[np.ndarray, "batch"]
    """Position in the whole stream: the only source of randomness per sample."""


class EvaluationBatch(NamedTuple):
    """A batch, and which window each of its rows is."""

    batch: Batch
    shard: Int64[np.ndarray, "batch"]
    """Index into the shards; -1 for a row that only fills the batch."""
    window: Int64[np.ndarray, "batch"]
    """Index into that shard's windows; -1 for a row that only fills the batch."""


def task_specs(shards: Sequence[Shard], config: Config) -> tuple[TaskSpec, ...]:
    """The tasks of `config.tasks` as the shards define them.

    Raises:
        ValueError: no shards, a task that a shard lacks, or one that two shards define differently.
    """
    if not shards:
        raise ValueError("there are no shards to read")
    for shard in shards:
        own = {task.name: task for task in shard.info.tasks}
        for name in config.tasks:
            if name not in own:
                raise ValueError(f"{shard.path} has no labels for task {name!r}; it has {sorted(own)}")
            first = next(task for task in shards[0].info.tasks if task.name == name)
            if own[name] != first:
                raise ValueError(
                    f"task {name!r} differs: {first.kind} {first.classes} in {shards[0].path},"
                    f" {own[name].kind} {own[name].classes} in {shard.path}"
                )
    return tuple(next(t for t in shards[0].info.tasks if t.name == name) for name in config.tasks)


def stream(
    shards: Sequence[Shard],
    config: Config,
    *,
    seed: int,
    start_step: int = 0,
    rows: Integer[np.ndarray, "batch"] | None = None,
) -> Generator[Batch, None, None]:
    """Training batches of `config.training.batch_size` without end, from step `start_step` on.

    A pass holds every window with a label for one of `config.tasks`. With `training.negatives_per_positive`, it
    holds every window with a positive label, and for each of these that many negatives (at most all there are),
    drawn afresh for each pass. Positive is a label of a binary or multilabel task that is not one of state
    (`model.sleep_tasks`): being asleep is nothing rare; negative is a window where every label of such a task is 0.
    Windows that only other tasks have labels for, as of recordings that were scored for sleep alone, are neither:
    as many as of these two together are drawn besides, so that however many there are, half a pass is for what is
    rare.

    A thread reads the next batch; it ends when the iterator is closed or forgotten, and what goes wrong in it is
    raised here.

    Args:
        shards: of the patients to learn from.
        config: the experiment.
        seed: decides, with the step, what a batch holds.
        start_step: the step of the first batch.
        rows: which rows of each batch to read, for a process among several; default all. Row i of what comes
            is row `rows[i]` of the whole batch, its `sample` included.

    Raises:
        ValueError: shards that do not fit the configuration or one another, or hold no label, or no positive one
            where negatives are counted by them; rows that a batch does not have.
    """
    source, size = _Source(shards, config, config.margin + config.shift, bags=True), config.training.batch_size
    own = np.arange(size) if rows is None else rows.astype(np.int64)
    if not len(own) or own.min() < 0 or own.max() >= size:
        raise ValueError(f"rows must be one or more of 0 to {size - 1} (training.batch_size={size}), given {rows}")
    n, windows_of_pass = _passes(source, config, seed)

    def batch(step: int) -> Batch:
        position = step * size + own
        windows = np.empty_like(position)
        for number in np.unique(position // n):
            here = position // n == number
            windows[here] = windows_of_pass(int(number))[position[here] % n]
        return source.read(windows, position)

    return _prefetched(batch, count(start_step))


def _passes(source: "_Source", config: Config, seed: int) -> tuple[int, Callable[[int], Int64[np.ndarray, "window"]]]:
    """The length of every pass, and the windows of pass number k in their order."""
    ratio = config.training.negatives_per_positive
    always, others, n_drawn = np.arange(source.n), [], []
    if ratio is not None:
        counted, positive = source.counted()
        always = np.flatnonzero(positive)
        others = [np.flatnonzero(counted & ~positive), np.flatnonzero(~counted)]
        n_negatives = min(round(ratio * len(always)), len(others[0]))
        n_drawn = [n_negatives, min(len(always) + n_negatives, len(others[1]))]
    if not len(always):
        raise ValueError(
            f"training.negatives_per_positive={ratio} counts by windows with a positive label in a binary or multilabel"
            f" task other than those of state {config.model.sleep_tasks}, and for tasks={config.tasks} the shards have"
            " none; null takes every window"
        )

    @lru_cache(maxsize=2)  # most batches lie in one pass or two
    def windows_of_pass(number: int) -> Int64[np.ndarray, "window"]:
        rng = np.random.default_rng([seed, number])
        drawn = [rng.choice(some, n, replace=False) for some, n in zip(others, n_drawn, strict=True)]
        return rng.permutation(np.concatenate([always, *drawn]))

    return len(always) + sum(n_drawn), windows_of_pass


def evaluation_batches(shards: Sequence[Shard], config: Config, batch_size: int) -> Iterator[EvaluationBatch]:
    """Every window with a label for one of `config.tasks`, once and in order; and those judged for events without one.

    The latter are windows of which an event touches the edge alone: events are found in them too.

    The last batch is filled up with copies of its last row that have weight 0 in every task.

    Raises:
        ValueError: `batch_size` below 1, or as `stream`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, given {batch_size}")
    source = _Source(shards, config, config.margin, judged=True)

    def batch(start: int) -> EvaluationBatch:
        position = np.arange(start, start + batch_size, dtype=np.int64)
        filling = position >= source.n
        rows = np.minimum(position, source.n - 1)
        read = source.read(rows, position)
        for name in config.tasks:
            read.labels[name][filling] = 0
            read.weights[name][filling] = 0
        shard, window = (np.where(filling, -1, index[rows]) for index in (source.shard, source.window))
        return EvaluationBatch(read, shard, window)

    return _prefetched(batch, range(0, source.n, batch_size))


def _prefetched(make: Callable[[int], T], places: Iterable[int]) -> Generator[T, None, None]:
    """`make(place)` for each place in turn, one ahead of the consumer in a thread of its own."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        rest = iter(places)
        ahead = pool.submit(make, next(rest))
        for place in rest:
            ready, ahead = ahead.result(), pool.submit(make, place)
            yield ready
        yield ahead.result()


class _Source:
    """The labelled windows of some shards, in one numbering, as the configuration wants them."""

    def __init__(
        self,
        shards: Sequence[Shard],
        config: Config,
        margin: int,
        *,
        judged: bool = False,
        bags: bool = False,
    ) -> None:
        self._tasks = task_specs(shards, config)
        for shard in shards:
            check_geometry(shard, config)
        self._shards, self._config, self._margin = tuple(shards), config, margin
        self._columns = [_columns(shard, config.data.ch_names) for shard in shards]
        self._opened: dict[int, None] = {}
        binary = [task.name for task in self._tasks if task.kind == "binary"]
        self._by_frame = config.frame_loss_tasks(binary) if bags else ()
        self._known = lru_cache(maxsize=4096)(lambda task, s, i: FrameBags(shards[s].task_marks(task, i)))
        weighted = [np.any([shard.weights[name] > 0 for name in config.tasks], axis=0) for shard in shards]
        if judged and any(some.any() for some in weighted):
            for task in (task for task in self._tasks if task.kind == "binary"):
                for some, shard in zip(weighted, shards, strict=True):
                    if "state" not in shard.marks[task.name].kind:
                        some |= shard.judged_windows(task.name)
        self._labelled = labelled = [np.flatnonzero(some) for some in weighted]
        self.shard = np.repeat(np.arange(len(shards), dtype=np.int64), [len(some) for some in labelled])
        self.window = np.concatenate(labelled).astype(np.int64)
        self.n = len(self.window)
        if not self.n:
            where, tasks = shards[0].path.parent, " or ".join(config.tasks)
            raise ValueError(f"no window of the shards in {where} has a label for {tasks}")

    def counted(self) -> tuple[Bool[np.ndarray, "window"], Bool[np.ndarray, "window"]]:
        """Which windows have a label in a binary or multilabel task that is not one of state, and which a positive."""
        labelled, positive = np.zeros((2, self.n), bool)
        for task in self._tasks:
            if task.kind != "multiclass" and task.name not in self._config.model.sleep_tasks:
                own = list(zip(self._shards, self._labelled, strict=True))
                labels = np.concatenate([shard.labels[task.name][some] for shard, some in own])
                positive |= labels.reshape(self.n, -1).any(axis=1)  # 0 where missing
                labelled |= np.concatenate([shard.weights[task.name][some] for shard, some in own]) > 0
        return labelled, positive

    def read(self, rows: Int64[np.ndarray, "batch"], position: Int64[np.ndarray, "batch"]) -> Batch:
        """The windows number `rows`, which stand at `position` of the stream."""
        config, n_chans = self._config, len(self._config.data.ch_names)
        eeg = np.zeros((len(rows), config.n_times + 2 * self._margin, n_chans), np.float32)
        present = np.zeros((len(rows), n_chans), bool)
        for i, row in enumerate(rows):
            s, window = int(self.shard[row]), int(self.window[row])
            wanted, stored = self._columns[s]
            read = self._open(s).read_window(window, self._margin)
            if wanted == stored == list(range(n_chans)):
                eeg[i] = read  # the usual case, and twice as fast
            else:
                eeg[i][:, wanted] = read[:, stored]
            present[i, wanted] = self._shards[s].present(window)[stored]
        places = list(zip(self.shard[rows], self.window[rows], strict=True))
        labels = {t: np.stack([self._shards[s].labels[t][w] for s, w in places]) for t in config.tasks}
        weights = {t: np.stack([self._shards[s].weights[t][w] for s, w in places]) for t in config.tasks}
        bags = {task: np.stack([self._bags(task, int(s), int(w)) for s, w in places]) for task in self._by_frame}
        return Batch(eeg, present, labels, weights, bags, (position % 2**32).astype(np.uint32))

    def _bags(self, task: str, s: int, window: int) -> Int8[np.ndarray, "frame"]:
        times = self._shards[s].onset_seconds[window] + np.arange(self._config.n_frames) * self._config.frame_seconds
        return self._known(task, s, int(self._shards[s].recording[window])).of_window(times)

    def _open(self, s: int) -> Shard:
        """Shard `s`; beyond a number of open files, the one that was read longest ago is closed."""
        self._opened.pop(s, None)
        self._opened[s] = None
        if len(self._opened) > _MAX_OPEN:
            oldest = next(iter(self._opened))
            del self._opened[oldest]
            self._shards[oldest].close()
        return self._shards[s]


def electrodes(shard: Shard, config: Config) -> Bool[np.ndarray, "recording chan"]:
    """Which of `config.data.ch_names` each of a shard's recordings has."""
    wanted, stored = _columns(shard, config.data.ch_names)
    present = np.zeros((len(shard.recordings["present"]), len(config.data.ch_names)), bool)
    present[:, wanted] = shard.recordings["present"][:, stored]
    return present


def check_geometry(shard: Shard, config: Config) -> None:
    """Refuse a shard whose rate or window is another than the configuration's.

    Raises:
        ValueError: it; what to prepare instead is named.
    """
    if (shard.info.sfreq, shard.info.window) != (config.data.sfreq, config.n_times):
        held, wanted = shard.info, config.data
        raise ValueError(
            f"{shard.path} holds windows of {held.window / held.sfreq:g} s at {held.sfreq:g} Hz,"
            f" the configuration wants {wanted.window_seconds:g} s at {wanted.sfreq:g} Hz:"
            f" run `siamese-jax prepare` again, with data.sfreq={wanted.sfreq:g}"
            f" and data.window_seconds={wanted.window_seconds:g}"
        )


def _columns(shard: Shard, ch_names: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """Where the shard's channels stand among `ch_names`, and in the shard."""
    wanted = [i for i, name in enumerate(ch_names) if name in shard.info.ch_names]
    if not wanted:
        raise ValueError(f"{shard.path} has none of the channels {ch_names}; it has {shard.info.ch_names}")
    return wanted, [shard.info.ch_names.index(ch_names[i]) for i in wanted]
