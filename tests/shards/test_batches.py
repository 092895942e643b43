"""The stream: every labelled window once a pass, a function of (seed, step), and nothing left running."""

import dataclasses
import itertools
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from siamese_jax.config.experiment import Config, DataConfig, ModelConfig, PreprocessConfig, TrainingConfig
from siamese_jax.recordings.recording import Annotation
from siamese_jax.shards import batches as batches_module
from siamese_jax.shards.batches import Batch, evaluation_batches, stream, task_specs
from siamese_jax.shards.marks import Kind, Mark, TaskMarks
from siamese_jax.shards.schema import Shard, open_shard
from siamese_jax.shards.write import write_shard
from siamese_jax.vocabulary import TaskSpec
from tests.recordings.in_memory import info_of, labelled, noise, recording_of

CH_NAMES = ("Fp1", "Cz", "O2")
N_WINDOWS = (13, 8)  # of the two shards
CONFIG = Config(
    data=DataConfig(ch_names=CH_NAMES, sfreq=100.0, window_seconds=2.0),
    preprocess=PreprocessConfig(eeg_band_hz=(1.0, 30.0), mains_hz=None, filter_half_seconds=0.5),
    converter=dataclasses.replace(Config().converter, n_fft=(32,), band_hz=(0.0, 40.0)),
    training=TrainingConfig(batch_size=8, flip=0.0),
)


def with_training(tasks: tuple[str, ...] = CONFIG.tasks, **fields: object) -> Config:
    model = CONFIG.model if {"ied", "sleep"} <= set(tasks) else ModelConfig(fusion="none")
    return dataclasses.replace(
        CONFIG, tasks=tasks, model=model, training=dataclasses.replace(CONFIG.training, **fields)
    )


def numbered(n_windows: int, *, first: int, ch_names: tuple[str, ...] = CH_NAMES) -> np.ndarray:
    """A signal whose every window of 2 s every 2 s is flat at its own number, but for a wiggle of 0.2 uV."""
    wiggle = np.where(np.arange(200) % 2, 0.1, -0.1)
    levels = np.repeat(np.arange(first, first + n_windows), 200) + np.tile(wiggle, n_windows)
    return np.tile(levels[:, None], (1, len(ch_names))).astype(np.float32)


def shard_at(
    path: Path, n_windows: int, *, first: int, ch_names: tuple[str, ...] = CH_NAMES, **labels: object
) -> Shard:
    recording = recording_of([numbered(n_windows, first=first, ch_names=ch_names)], ch_names=ch_names)
    marks = [Annotation(0.0, 0.0, "Sleep stage N2"), Annotation(1.0, 0.0, "IED")]
    item = labelled(recording, marks, hop=200, patient=path.stem, **labels)
    write_shard(path, [item], info=info_of(recording, hop=200))
    return open_shard(path)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    folder = tmp_path_factory.mktemp("shards")
    return [
        shard_at(folder / "A.h5", N_WINDOWS[0], first=0),
        shard_at(folder / "B.h5", N_WINDOWS[1], first=N_WINDOWS[0]),
    ]


def numbers(batch: Batch) -> list[int]:
    """Which windows a batch holds, told from the signal itself."""
    middle = batch.eeg[:, CONFIG.margin : CONFIG.margin + 200]
    return np.rint(middle.mean(axis=(1, 2))).astype(int).tolist()


def taken(batches: Iterator[Batch], n: int) -> list[Batch]:
    found = list(itertools.islice(batches, n))
    batches.close()
    return found


# --- training


def test_every_window_comes_once_a_pass_and_what_is_left_joins_the_next(shards: list[Shard]) -> None:
    n = sum(N_WINDOWS)  # 21, in batches of 8
    order = [k for batch in taken(stream(shards, CONFIG, seed=3), 16) for k in numbers(batch)]
    passes = [order[i : i + n] for i in range(0, 5 * n, n)]
    for one in passes:
        assert sorted(one) == list(range(n))
    assert len({tuple(one) for one in passes}) == 5  # each in an order of its own


def test_batches_are_full_and_carry_margins_types_and_positions(shards: list[Shard]) -> None:
    for step, batch in enumerate(taken(stream(shards, CONFIG, seed=0), 4)):
        assert batch.eeg.shape == (8, CONFIG.n_times + 2 * CONFIG.margin, 3)
        assert batch.eeg.dtype == np.float32
        assert batch.present.shape == (8, 3)
        assert batch.present.dtype == np.bool_
        assert batch.sample.dtype == np.uint32
        assert batch.sample.tolist() == list(range(8 * step, 8 * step + 8))
        assert list(batch.labels) == list(batch.weights) == ["ied", "sleep"]
        assert batch.labels["ied"].dtype == np.float32
        assert batch.labels["sleep"].dtype == np.int32
        assert all(weight.dtype == np.float32 and weight.shape == (8,) for weight in batch.weights.values())


def test_signal_and_labels_are_of_the_same_window(shards: list[Shard]) -> None:
    for batch in taken(stream(shards, CONFIG, seed=1), 6):
        wanted = [float(k in (0, N_WINDOWS[0])) for k in numbers(batch)]  # each shard's first window has the IED
        assert batch.labels["ied"].tolist() == wanted
        assert set(batch.labels["sleep"].tolist()) == {2}


def test_frames_around_the_mark_of_a_window_are_its_bag_and_only_training_reads_them(shards: list[Shard]) -> None:
    for batch in taken(stream(shards, CONFIG, seed=0), 6):
        for number, bags in zip(numbers(batch), batch.bags["ied"], strict=True):
            marked = number in (0, N_WINDOWS[0])  # at 1 s of a shard's first window
            assert bags.tolist() == ([0] * 9 + [1] * 3 + [0] * 9 if marked else [0] * 21)
        assert set(batch.bags) == {"ied"}
    assert next(evaluation_batches(shards, CONFIG, 4)).batch.bags == {}
    pools = dataclasses.replace(CONFIG, model=ModelConfig(pooling="average"))
    for config in (with_training(frame_weight=0.0), pools, with_training(("sleep",))):
        assert taken(stream(shards, config, seed=0), 1)[0].bags == {}


def test_the_margins_of_a_window_are_its_neighbours(shards: list[Shard]) -> None:
    batch = taken(stream(shards, CONFIG, seed=0), 1)[0]
    for row, k in enumerate(numbers(batch)):
        if k not in (0, N_WINDOWS[0] - 1, N_WINDOWS[0], sum(N_WINDOWS) - 1):
            assert batch.eeg[row, CONFIG.margin - 10].mean() == pytest.approx(k - 1, abs=0.3)
            assert batch.eeg[row, CONFIG.margin + 210].mean() == pytest.approx(k + 1, abs=0.3)


@pytest.mark.parametrize("start", [1, 2, 3, 7, 30])
def test_a_stream_from_step_k_continues_any_other(shards: list[Shard], start: int) -> None:
    whole = taken(stream(shards, CONFIG, seed=5), start + 3)[start:]
    resumed = taken(stream(shards, CONFIG, seed=5, start_step=start), 3)
    for one, other in zip(whole, resumed, strict=True):
        assert_same(one, other)


def test_the_seed_decides_the_order(shards: list[Shard]) -> None:
    orders = [numbers(taken(stream(shards, CONFIG, seed=seed), 1)[0]) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_a_batch_may_hold_several_passes(shards: list[Shard]) -> None:
    config = dataclasses.replace(CONFIG, training=TrainingConfig(batch_size=50, flip=0.0))
    order = numbers(taken(stream(shards, config, seed=0), 1)[0])
    assert sorted(order[:21]) == sorted(order[21:42]) == list(range(21))


def test_windows_without_a_label_of_a_wanted_task_do_not_come(tmp_path: Path) -> None:
    half = shard_at(tmp_path / "A.h5", 6, first=0, labelled_for=("ied",))
    none = shard_at(tmp_path / "B.h5", 6, first=6, labelled_for=())
    order = [k for batch in taken(stream([half, none], CONFIG, seed=0), 3) for k in numbers(batch)]
    assert set(order) == set(range(6))
    batch = taken(stream([half, none], CONFIG, seed=0), 1)[0]
    assert batch.weights["ied"].all()
    assert not batch.weights["sleep"].any()
    assert not batch.labels["sleep"].any()
    only_sleep = dataclasses.replace(CONFIG, tasks=("sleep",), model=ModelConfig(fusion="none"))
    with pytest.raises(ValueError, match="no window of the shards .* has a label for sleep"):
        stream([half, none], only_sleep, seed=0)


# --- several processes


def assert_same(one: Batch, other: Batch) -> None:
    assert one.eeg.tobytes() == other.eeg.tobytes()
    assert one.present.tolist() == other.present.tolist()
    assert one.sample.tolist() == other.sample.tolist()
    for name in one.labels:
        assert one.labels[name].tolist() == other.labels[name].tolist()
        assert one.weights[name].tolist() == other.weights[name].tolist()
    assert {name: bags.tolist() for name, bags in one.bags.items()} == {k: v.tolist() for k, v in other.bags.items()}


def rows_of(batch: Batch, rows: np.ndarray) -> Batch:
    by_task = ({k: v[rows] for k, v in of_task.items()} for of_task in (batch.labels, batch.weights, batch.bags))
    return Batch(batch.eeg[rows], batch.present[rows], *by_task, batch.sample[rows])


HALVES = [[0, 1, 2, 3], [4, 5, 6, 7]]
EVERY_OTHER = [[0, 2, 4, 6], [1, 3, 5, 7]]
MICRO_BATCHES = [[0, 1, 4, 5], [2, 3, 6, 7]]  # two processes, each with its part of both halves of a batch
BACKWARDS = [[7, 0], [6, 1, 2], [5, 4, 3]]  # in any order, unequal


@pytest.mark.parametrize("ratio", [None, 4.0])
@pytest.mark.parametrize("parts", [HALVES, EVERY_OTHER, MICRO_BATCHES, BACKWARDS])
def test_what_processes_read_together_is_the_batch(shards: list[Shard], parts: list[list[int]], ratio: object) -> None:
    config = with_training(negatives_per_positive=ratio)
    whole = taken(stream(shards, config, seed=2, start_step=1), 5)
    for rows in map(np.array, parts):
        own = taken(stream(shards, config, seed=2, start_step=1, rows=rows), 5)
        for one, other in zip(whole, own, strict=True):
            assert_same(rows_of(one, rows), other)


def test_a_process_reads_its_own_windows_and_no_others(shards: list[Shard], monkeypatch: pytest.MonkeyPatch) -> None:
    rows, steps = np.array([1, 5]), 4
    # A batch is read ahead, so that of step 4 is read too.
    own = [number for batch in taken(stream(shards, CONFIG, seed=2), steps + 1) for number in numbers(batch)[1::4]]
    read, found = Shard.read_window, []

    def watched(shard: Shard, i: int, margin: int) -> np.ndarray:
        found.append(i + (shard.path.stem == "B") * N_WINDOWS[0])
        return read(shard, i, margin)

    monkeypatch.setattr(Shard, "read_window", watched)
    taken(stream(shards, CONFIG, seed=2, rows=rows), steps)
    assert found == own


@pytest.mark.parametrize("rows", [[], [-1, 0], [0, 8]])
def test_rows_that_a_batch_does_not_have_are_refused(shards: list[Shard], rows: list[int]) -> None:
    with pytest.raises(ValueError, match=r"rows must be one or more of 0 to 7 \(training.batch_size=8\), given \["):
        stream(shards, CONFIG, seed=0, rows=np.array(rows, np.int64))


# --- margins for a shift in time


def test_only_training_windows_carry_samples_for_a_shift(shards: list[Shard]) -> None:
    config = with_training(time_shift_seconds=0.05)
    assert config.shift == 5
    for shifted, plain in zip(
        taken(stream(shards, config, seed=4), 3), taken(stream(shards, CONFIG, seed=4), 3), strict=True
    ):
        assert shifted.eeg.shape[1] == plain.eeg.shape[1] + 10
        np.testing.assert_array_equal(shifted.eeg[:, 5:-5], plain.eeg)
        assert np.abs(np.diff(shifted.eeg[:, :5], axis=1)).max() > 0.1  # the signal goes on: no padding by zeros
    one, other = (next(evaluation_batches(shards, c, 4)).batch for c in (config, CONFIG))
    assert_same(one, other)


# --- negatives

POSITIVE = (2, 3, 11)  # windows with an IED, of 20


@pytest.fixture(scope="module")
def rare(tmp_path_factory: pytest.TempPathFactory) -> list[Shard]:
    recording = recording_of([numbered(20, first=0)], ch_names=CH_NAMES)
    marks = [Annotation(2.0 * k + 1, 0.0, "IED") for k in POSITIVE]
    item = labelled(recording, [*marks, Annotation(0.0, 0.0, "Sleep stage N2")], hop=200)
    folder = tmp_path_factory.mktemp("rare")
    write_shard(folder / "A.h5", [item], info=info_of(recording, hop=200))
    return [open_shard(folder / "A.h5")]


def passes_of(shards: list[Shard], config: Config, *, n: int, length: int) -> list[list[int]]:
    batches = taken(stream(shards, config, seed=7), -(-n * length // config.training.batch_size))
    order = [number for batch in batches for number in numbers(batch)]
    return [order[i * length : (i + 1) * length] for i in range(n)]


@pytest.mark.parametrize(("ratio", "n_others"), [(2.0, 6), (0.5, 2), (1.2, 4), (5.5, 16), (100.0, 17)])
def test_a_pass_holds_every_positive_once_and_as_many_others_as_asked_for(
    rare: list[Shard], ratio: float, n_others: int
) -> None:
    for one in passes_of(rare, with_training(negatives_per_positive=ratio), n=8, length=3 + n_others):
        assert len(set(one)) == len(one)
        assert set(POSITIVE) <= set(one)


def test_negatives_are_fresh_in_each_pass_and_all_come_up(rare: list[Shard]) -> None:
    passes = passes_of(rare, with_training(negatives_per_positive=2.0), n=60, length=9)
    drawn = [frozenset(one) - set(POSITIVE) for one in passes]
    assert len(set(drawn)) > 50
    assert frozenset.union(*drawn) == set(range(20)) - set(POSITIVE)
    of_window = np.bincount([k for one in drawn for k in one], minlength=20)[sorted(frozenset.union(*drawn))]
    assert of_window.mean() == pytest.approx(60 * 6 / 17)
    assert np.abs(of_window - of_window.mean()).max() < 4 * np.sqrt(60 * 6 / 17 * 11 / 17)  # hypergeometric: uniform
    places = [one.index(k) for one in passes for k in POSITIVE]  # and positives stand anywhere in a pass
    assert np.mean(places) == pytest.approx(4, abs=4 * np.sqrt(80 / 12 / len(places)))


@pytest.mark.parametrize("start", [1, 2, 9])
def test_a_stream_with_drawn_negatives_resumes_in_the_middle_of_a_pass(rare: list[Shard], start: int) -> None:
    config = with_training(negatives_per_positive=2.0)  # passes of 9, batches of 8
    whole = taken(stream(rare, config, seed=5), start + 3)[start:]
    for one, other in zip(whole, taken(stream(rare, config, seed=5, start_step=start), 3), strict=True):
        assert_same(one, other)


def test_every_window_comes_where_negatives_are_not_counted_and_in_evaluation(rare: list[Shard]) -> None:
    assert sorted(passes_of(rare, CONFIG, n=1, length=20)[0]) == list(range(20))
    found = evaluation_batches(rare, with_training(negatives_per_positive=1.0), 20)
    assert numbers(next(found).batch) == list(range(20))


def test_evaluation_also_reads_windows_that_an_event_only_touches_and_training_does_not(tmp_path: Path) -> None:
    """20 s: an event at 10.05 s has its peak too near to the border for either window; 16 to 17 s are bad."""
    recording = recording_of([numbered(10, first=0)], ch_names=CH_NAMES)
    item = labelled(recording, [Annotation(10.05, 0.0, "IED")], hop=200, bad=[(16.0, 1.0)])
    write_shard(tmp_path / "e.h5", [item], info=info_of(recording, hop=200))
    shard = open_shard(tmp_path / "e.h5")
    config = with_training(tasks=("ied",))
    assert np.flatnonzero(shard.weights["ied"] == 0).tolist() == [5, 8]
    found = next(evaluation_batches([shard], config, 9))
    assert found.window.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert found.batch.weights["ied"].tolist() == [1, 1, 1, 1, 1, 0, 1, 1, 1]
    assert set(passes_of([shard], config, n=1, length=8)[0]) == {0, 1, 2, 3, 4, 6, 7, 9}


def test_negatives_are_not_counted_by_tasks_of_state_nor_by_classes_of_one_choice(rare: list[Shard]) -> None:
    three = with_training(negatives_per_positive=1.0, tasks=("ied", "sleep", "state"))
    for one in passes_of(rare, three, n=4, length=6):  # all 20 are asleep, in N2
        assert set(POSITIVE) <= set(one)
    sleep = with_training(negatives_per_positive=1.0, tasks=("sleep", "state"))
    with pytest.raises(ValueError, match=r"negatives_per_positive=1.0 counts by .*tasks=\('sleep', 'state'\).* none"):
        stream(rare, sleep, seed=0)


def held(kind: Kind, classes: np.ndarray, judged: np.ndarray) -> TaskMarks:
    """Marks of windows of 2 s end to end: which of them has which classes, and which somebody judged."""
    marks = (Mark(2.0 * i, 2.0, math.nan, int(code), (), kind) for i, code in np.argwhere(classes))
    return TaskMarks(tuple(marks), tuple((2.0 * i, 2.0) for i in np.flatnonzero(judged)))


def test_a_positive_of_any_class_of_a_multilabel_task_counts(tmp_path: Path) -> None:
    recording = recording_of([numbered(5, first=0)], ch_names=CH_NAMES)
    labels = np.array([[1, 0], [0, 0], [0, 1], [1, 1], [0, 0]], np.float32)
    weights = np.array([1, 1, 1, 0, 1], np.float32)  # without a weight there is no label: window 3 does not come
    item = labelled(recording, hop=200)._replace(marks={"kind": held("finding", labels, weights)})
    task = TaskSpec("kind", "multilabel", ("a", "b"))
    write_shard(tmp_path / "m.h5", [item], info=dataclasses.replace(info_of(recording, hop=200), tasks=(task,)))
    config = with_training(negatives_per_positive=0.5, tasks=("kind",))
    passes = passes_of([open_shard(tmp_path / "m.h5")], config, n=20, length=3)
    assert {frozenset(one) for one in passes} == {frozenset({0, 2, 1}), frozenset({0, 2, 4})}


def test_the_classes_of_a_multiclass_task_are_no_positives(tmp_path: Path) -> None:
    recording = recording_of([numbered(5, first=0)], ch_names=CH_NAMES)
    task = TaskSpec("kind", "multiclass", ("none", "a", "b"))
    item = labelled(recording, [Annotation(1.0, 0.0, "IED")], hop=200)
    item = item._replace(marks=item.marks | {"kind": held("state", np.eye(3)[[0, 1, 2, 1, 0]], np.ones(5))})
    info = info_of(recording, hop=200)
    write_shard(tmp_path / "m.h5", [item], info=dataclasses.replace(info, tasks=(*info.tasks, task)))
    config = with_training(negatives_per_positive=2.0, tasks=("ied", "sleep", "kind"))
    passes = passes_of([open_shard(tmp_path / "m.h5")], config, n=20, length=3)
    assert all(len(set(one)) == 3 and 0 in one for one in passes)  # window 0, the only IED, and two more
    assert set().union(*passes) == set(range(5))


@pytest.mark.parametrize(("n_scored", "n_drawn"), [(4, 4), (9, 9), (30, 9)])
def test_windows_scored_for_sleep_alone_are_no_negatives_and_take_half_a_pass_at_most(
    rare: list[Shard], tmp_path: Path, n_scored: int, n_drawn: int
) -> None:
    recording = recording_of([numbered(n_scored, first=100)], ch_names=CH_NAMES)
    item = labelled(recording, [Annotation(0.0, 0.0, "Sleep stage N2")], hop=200)
    item = item._replace(marks=item.marks | {"ied": TaskMarks()})
    write_shard(tmp_path / "B.h5", [item], info=info_of(recording, hop=200))
    both = [*rare, open_shard(tmp_path / "B.h5")]
    config = with_training(negatives_per_positive=2.0, tasks=("ied", "sleep"))
    passes = passes_of(both, config, n=40, length=9 + n_drawn)
    for one in passes:
        assert len(set(one)) == len(one)
        assert set(POSITIVE) <= set(one)
        assert sum(number < 100 for number in one) == 9  # 3 positives, 6 negatives: as without the others
    assert {number for one in passes for number in one} == {*range(20), *range(100, 100 + n_scored)}  # all come up
    assert len({frozenset(one) for one in passes}) > 30  # afresh in each pass
    alone = with_training(negatives_per_positive=2.0, tasks=("ied",))
    assert max(number for one in passes_of(both, alone, n=4, length=9) for number in one) < 100


def test_without_a_positive_a_number_of_negatives_is_refused(tmp_path: Path) -> None:
    recording = recording_of([noise(600, n_chans=3)], ch_names=CH_NAMES)
    item = labelled(recording, [Annotation(0.0, 0.0, "N2")], hop=200)
    write_shard(tmp_path / "A.h5", [item], info=info_of(recording, hop=200))
    with pytest.raises(ValueError, match="training.negatives_per_positive=3.0 counts by windows .*null takes every"):
        stream([open_shard(tmp_path / "A.h5")], with_training(negatives_per_positive=3.0), seed=0)


# --- channels


def test_channels_are_picked_by_name_and_absent_ones_are_0(tmp_path: Path) -> None:
    names = ("O2", "Pz", "Fp1")
    recording = recording_of([noise(600, n_chans=3)], ch_names=names, present=[True, True, False])
    item = labelled(recording, [Annotation(0.0, 0.0, "N2")], hop=200)
    write_shard(tmp_path / "A.h5", [item], info=info_of(recording, hop=200))
    shard = open_shard(tmp_path / "A.h5")
    batch = next(evaluation_batches([shard], CONFIG, 3)).batch  # wants Fp1, Cz, O2
    assert batch.present.tolist() == [[False, False, True]] * 3
    assert not batch.eeg[:, :, :2].any()
    for row in range(3):
        np.testing.assert_array_equal(batch.eeg[row, :, 2], shard.read_window(row, CONFIG.margin)[:, 0])


def test_a_shard_without_any_wanted_channel_is_refused(tmp_path: Path) -> None:
    other = shard_at(tmp_path / "A.h5", 3, first=0, ch_names=("T3", "T4"))
    with pytest.raises(ValueError, match=r"A\.h5 has none of the channels"):
        stream([other], CONFIG, seed=0)


# --- evaluation


@pytest.mark.parametrize("size", [1, 4, 21, 50])
def test_evaluation_takes_every_window_once_in_order_and_fills_up_with_weight_0(shards: list[Shard], size: int) -> None:
    shard, window, order = [], [], []
    for found in evaluation_batches(shards, CONFIG, size):
        assert found.batch.eeg.shape[0] == size
        filling = found.shard < 0
        assert (filling == (found.window < 0)).all()
        for name in ("ied", "sleep"):
            assert not found.batch.weights[name][filling].any()
            assert not found.batch.labels[name][filling].any()
            assert found.batch.weights[name][~filling].all()
        assert np.isfinite(found.batch.eeg).all()
        assert found.batch.present[filling].all()  # a copy of a real row: nothing divides by no electrodes
        shard += found.shard[~filling].tolist()
        window += found.window[~filling].tolist()
        order += np.array(numbers(found.batch))[~filling].tolist()
    assert shard == [0] * 13 + [1] * 8
    assert window == [*range(13), *range(8)]
    assert order == list(range(21))


def test_evaluation_by_no_rows_is_refused(shards: list[Shard]) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        evaluation_batches(shards, CONFIG, 0)


# --- what does not fit


def test_no_shards_are_refused() -> None:
    with pytest.raises(ValueError, match="no shards"):
        stream([], CONFIG, seed=0)


def test_two_shards_whose_task_differs_in_classes_are_refused_by_name(shards: list[Shard], tmp_path: Path) -> None:
    stages = ("W", "N1", "N2", "N3")
    recording = recording_of([noise(600, n_chans=3)], ch_names=CH_NAMES)
    info = info_of(recording, hop=200)
    tasks = tuple(TaskSpec("sleep", "multiclass", stages) if t.name == "sleep" else t for t in info.tasks)
    item = labelled(recording, [Annotation(0.0, 0.0, "N2")], hop=200)
    write_shard(tmp_path / "four.h5", [item], info=dataclasses.replace(info, tasks=tasks))
    four = open_shard(tmp_path / "four.h5")
    with pytest.raises(ValueError, match="task 'sleep' differs") as error:
        stream([*shards, four], CONFIG, seed=0)
    for part in (str(shards[0].path), str(four.path), "'R'", str(stages)):
        assert part in str(error.value)
    assert task_specs([four], CONFIG)[1].classes == stages


def test_a_shard_without_a_wanted_task_is_refused(shards: list[Shard]) -> None:
    with pytest.raises(ValueError, match="A.h5 has no labels for task 'spindle'"):
        stream(shards, dataclasses.replace(CONFIG, tasks=("ied", "sleep", "spindle")), seed=0)


@pytest.mark.parametrize(("name", "value"), [("sfreq", 200.0), ("window_seconds", 4.0)])
def test_another_rate_or_window_says_what_to_prepare_again(shards: list[Shard], name: str, value: float) -> None:
    config = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, **{name: value}))
    with pytest.raises(ValueError, match=rf"A\.h5 .*siamese-jax prepare.*{name}={value:g}"):
        stream(shards, config, seed=0)


def test_multilabel_tasks_travel_as_vectors(tmp_path: Path) -> None:
    recording = recording_of([noise(600, n_chans=3)], ch_names=CH_NAMES)
    task = TaskSpec("kind", "multilabel", ("a", "b"))
    rows = np.array([[1, 0], [1, 1], [1, 1]], np.float32)
    item = labelled(recording, hop=200)._replace(marks={"kind": held("finding", rows, np.array([1, 1, 0]))})
    write_shard(tmp_path / "m.h5", [item], info=dataclasses.replace(info_of(recording, hop=200), tasks=(task,)))
    config = dataclasses.replace(CONFIG, tasks=("kind",), model=ModelConfig(fusion="none"))
    shard = open_shard(tmp_path / "m.h5")
    assert shard.labels["kind"].tolist() == [[1, 0], [1, 1], [0, 0]]  # missing: 0, never a magic value
    found = next(evaluation_batches([shard], config, 2))
    assert found.batch.labels["kind"].tolist() == [[1, 0], [1, 1]]
    assert found.batch.weights["kind"].tolist() == [1, 1]


# --- threads and files


def test_the_reading_thread_ends_with_its_consumer(shards: list[Shard]) -> None:
    def readers() -> int:
        return sum(thread.name.startswith("batches") for thread in threading.enumerate())

    assert readers() == 0
    stream(shards, CONFIG, seed=0)  # not begun: no thread
    assert readers() == 0
    batches = stream(shards, CONFIG, seed=0)
    next(batches)
    assert readers() == 1
    batches.close()
    assert readers() == 0
    with pytest.raises(KeyError):
        for _ in stream(shards, CONFIG, seed=0):
            raise KeyError
    list(evaluation_batches(shards, CONFIG, 4))
    assert readers() == 0


def test_what_goes_wrong_in_the_reading_thread_is_raised_to_the_consumer(tmp_path: Path) -> None:
    shard = shard_at(tmp_path / "A.h5", 5, first=0)
    (tmp_path / "A.h5").unlink()
    with pytest.raises(OSError, match=r"A\.h5"):
        next(stream([shard], CONFIG, seed=0))
    assert not any(thread.name.startswith("batches") for thread in threading.enumerate())


def test_the_next_batch_is_read_while_this_one_is_used(shards: list[Shard], monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()
    read, calls = batches_module._Source.read, itertools.count()

    def watched(*arguments: object) -> Batch:
        if next(calls) == 1:
            begun.set()
        return read(*arguments)

    monkeypatch.setattr(batches_module._Source, "read", watched)
    batches = stream(shards, CONFIG, seed=0)
    next(batches)
    assert begun.wait(timeout=10)
    batches.close()


def test_no_more_files_are_open_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "_MAX_OPEN", 2)
    many = [shard_at(tmp_path / f"{i}.h5", 3, first=3 * i) for i in range(6)]
    batches = stream(many, CONFIG, seed=0)
    order = []
    for batch in itertools.islice(batches, 9):
        order += numbers(batch)
        assert sum(shard._signal._data is not None for shard in many) <= 3  # one may be opened just now
    batches.close()
    assert sorted(order) == sorted([*range(18)] * 4)
