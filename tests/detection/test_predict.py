"""Training and clinic see the same: a window from a shard and in its recording, dense and windowed passes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamese_jax.config.experiment import DataConfig
from siamese_jax.config.presets import SMALL
from siamese_jax.detection import predict as room
from siamese_jax.detection.predict import (
    Predictions,
    make_predictor,
    predict_recording,
    predict_shards,
    probabilities,
    timelines,
)
from siamese_jax.evaluation.events import find_events
from siamese_jax.models.blocks import Logits
from siamese_jax.models.build import build_model
from siamese_jax.pipeline import forward, forward_training, initialise
from siamese_jax.recordings.recording import Recording, Segment, recording_from_array
from siamese_jax.recordings.windows import WindowGrid, window_grid
from siamese_jax.shards.marks import TaskMarks
from siamese_jax.shards.schema import ShardInfo, open_shard
from siamese_jax.shards.write import LabelledRecording, write_shard
from siamese_jax.signals.augment import shuffle_rows
from siamese_jax.vocabulary import IED, SLEEP
from tests.conftest import CH_NAMES

TASKS = (IED, SLEEP)


def noise(seconds: float, seed: int = 0, sfreq: float = 100.0) -> np.ndarray:
    """Coloured noise of some 20 uV on the five electrodes."""
    rng = np.random.default_rng(seed)
    white = rng.normal(size=(int(seconds * sfreq), len(CH_NAMES)))
    eeg = np.apply_along_axis(np.convolve, 0, white, np.ones(5) / 5, "same")
    return (20 * eeg / eeg.std()).astype(np.float32)


def recording_of(eeg: np.ndarray, sfreq: float = 100.0) -> Recording:
    return recording_from_array(eeg, sfreq=sfreq, ch_names=CH_NAMES, target_ch_names=CH_NAMES, target_sfreq=sfreq)


def with_gap(recording: Recording, cut: int, gap_seconds: float) -> Recording:
    """The same samples, as if recording had paused after sample `cut`."""
    whole, (only,) = recording.source, recording.segments
    segments = (Segment(0.0, cut), Segment(cut / recording.sfreq + gap_seconds, only.n_times - cut))
    source = lambda segment, start, stop: whole(0, start + segment * cut, stop + segment * cut)  # noqa: E731
    return dataclasses.replace(recording, segments=segments, source=source)


def broken_at(recording: Recording, sample: int, value: float) -> Recording:
    """The recording as its reader would give it if one sample of one electrode were lost."""

    def source(segment: int, start: int, stop: int) -> np.ndarray:
        eeg = recording.source(segment, start, stop).copy()
        if start <= sample < stop:
            eeg[sample - start, 2] = value
        return eeg

    return dataclasses.replace(recording, source=source)


@pytest.fixture(scope="module")
def variables_of():
    def make(config):
        variables = initialise(config, TASKS, jax.random.key(0))
        rng = np.random.default_rng(1)
        noisy = jax.tree.map(
            lambda x: x + 0.1 * np.abs(rng.normal(size=x.shape)).astype(np.float32), variables["batch_stats"]
        )
        return variables | {"batch_stats": noisy}  # as if trained

    return make


@pytest.fixture
def predict(tiny, variables_of):
    predictor, variables = make_predictor(tiny, TASKS), variables_of(tiny)

    def run(recording, *, hop_seconds, batch_size=8, **options):
        return predict_recording(
            predictor, tiny, variables, recording, hop_seconds=hop_seconds, batch_size=batch_size, **options
        )

    return run


def shard_of(path, recording, config):
    grid = window_grid(recording.segments, window=config.n_times, hop=config.n_times)
    marks = {"ied": TaskMarks((), ((0.0, recording.segments[0].n_times / recording.sfreq),)), "sleep": TaskMarks()}
    info = ShardInfo(config.data.sfreq, CH_NAMES, config.n_times, config.n_times, TASKS)
    write_shard(path, [LabelledRecording("r", "p1", recording, grid, marks)], info=info)
    return open_shard(path)


def quantised(recording: Recording, shard) -> Recording:
    """The recording as the shard holds it."""
    windows = [shard.read_window(i) for i in range(len(shard))]
    return recording_of(np.concatenate(windows))


def test_a_window_from_a_shard_has_the_logits_of_the_same_window_inside_the_recording(
    tiny,
    predict,
    variables_of,
    tmp_path,
):
    recording = recording_of(noise(30))
    shard = shard_of(tmp_path / "p1.h5", recording, tiny)
    ((windows, from_shard),) = predict_shards(
        make_predictor(tiny, TASKS), tiny, variables_of(tiny), [shard], batch_size=8
    )
    assert windows.tolist() == list(range(30))
    exact = predict(quantised(recording, shard), hop_seconds=1.0)
    close = predict(recording, hop_seconds=1.0)
    for task in ("ied", "sleep"):
        # The same int16 samples, filtered in a window and in a minute.
        np.testing.assert_allclose(from_shard.window[task], exact.window[task], atol=1e-5)
        # 0.1 uV per step against 20 uV of EEG.
        np.testing.assert_allclose(from_shard.window[task], close.window[task], atol=2e-3)
        assert np.ptp(from_shard.window[task], axis=0).min() > 0.02


def test_overlapping_windows_agree_on_every_frame_that_they_share(tiny, predict):
    """So a pass at any hop gives the same logits a moment, away from the recording's ends."""
    recording = recording_of(noise(20))
    (apart, _), (dense, _) = (
        timelines(tiny, "ied", predict(recording, hop_seconds=hop), recording.segments, hop=round(100 * hop))[0]
        for hop in (1.0, 0.25)
    )
    assert len(apart.frame_logits) == len(dense.frame_logits) == 20 * 20 + 1
    np.testing.assert_allclose(apart.frame_logits, dense.frame_logits, atol=2e-4)
    assert np.ptp(apart.frame_logits) > 0.1


@pytest.mark.parametrize("hop_seconds", [0.05, 0.35, 0.6, 1.5])
def test_any_hop_that_is_allowed_gives_the_logits_of_windows_that_touch(tiny, predict, hop_seconds):
    """The hop is a whole number of frames, so its frames lie on those of windows that touch."""
    recording = recording_of(noise(12))
    (touching, _), (line, _) = (
        timelines(tiny, "ied", predict(recording, hop_seconds=hop), recording.segments, hop=round(100 * hop))[0]
        for hop in (1.0, hop_seconds)
    )
    seen = ~np.isnan(line.frame_logits)
    assert seen.mean() > 0.6 and seen.all() == (hop_seconds <= 1)
    np.testing.assert_allclose(line.frame_logits[seen], touching.frame_logits[: len(seen)][seen], atol=2e-4)


def test_the_size_of_batches_changes_nothing(predict):
    recording = recording_of(noise(150))
    some, many = (predict(recording, hop_seconds=0.5, batch_size=size) for size in (5, 200))
    np.testing.assert_allclose(some.frame["ied"], many.frame["ied"], atol=1e-5)
    np.testing.assert_array_equal(some.grid.start, many.grid.start)


def test_no_window_and_no_frame_crosses_a_gap(tiny, predict):
    eeg = noise(21)
    recording = with_gap(recording_of(eeg), 1050, 1000.0)
    predictions = predict(recording, hop_seconds=1.0)
    assert np.bincount(predictions.grid.segment).tolist() == [10, 10]
    lines = timelines(tiny, "ied", predictions, recording.segments, hop=100)
    assert [line.onset_seconds for line, _ in lines] == [0.0, 1010.5]
    # The second stretch is judged as if the first had never been.
    alone = predict(recording_of(eeg[1050:]), hop_seconds=1.0)
    np.testing.assert_allclose(predictions.window["ied"][10:], alone.window["ied"], atol=1e-5)


def test_a_recording_without_a_whole_window_is_refused(predict):
    with pytest.raises(ValueError, match=r"no gap-free stretch of 1.0 s \(the longest is 0.9 s\)"):
        predict(recording_of(noise(0.9)), hop_seconds=1.0)
    with pytest.raises(
        ValueError, match="the hop of 0.123 s is not a whole number of steps of 5 samples at 100 Hz: .*: 0.1 s, 0.15 s"
    ):
        predict(recording_of(noise(5)), hop_seconds=0.123)


def test_a_recording_of_other_channels_or_another_rate_is_refused_with_their_names(predict):
    others = ("F3", "F4", "C3", "C4", "Pz")
    options = {"target_ch_names": others, "target_sfreq": 100.0}
    recording = recording_from_array(noise(5), sfreq=100.0, ch_names=others, **options)
    needed = "the checkpoint needs F3, F4, C3, C4, Cz in this order, at 100 Hz"
    with pytest.raises(ValueError, match=rf"was read as F3, F4, C3, C4, Pz at 100 Hz; {needed}"):
        predict(recording, hop_seconds=1.0)
    with pytest.raises(ValueError, match=rf"was read as F3, F4, C3, C4, Cz at 200 Hz; {needed}"):
        predict(recording_of(noise(5, sfreq=200.0), 200.0), hop_seconds=1.0)


def test_a_recording_in_which_the_model_sees_nothing_is_refused(predict):
    """One electrode alone is its own common average."""
    recording = recording_of(noise(5))
    one = dataclasses.replace(recording, present=np.array([False, False, True, False, False]))
    with pytest.raises(ValueError, match=r"of the electrodes C3 not one row of the checkpoint's montage \(average\)"):
        predict(one, hop_seconds=1.0)
    two = dataclasses.replace(recording, present=np.array([False, True, True, False, False]))
    assert len(predict(two, hop_seconds=1.0).grid.start) == 5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_windows_that_see_a_sample_that_is_not_finite_have_no_logits(tiny, predict, value):
    """The others have the logits they would have; no frame of the timeline is made of a window without."""
    eeg = noise(30)
    whole = predict(recording_of(eeg), hop_seconds=0.5)
    found = predict(broken_at(recording_of(eeg), 1500, value), hop_seconds=0.5)
    sees = (whole.grid.start - tiny.reach <= 1500) & (whole.grid.start + tiny.n_times + tiny.reach > 1500)
    assert 2 < sees.sum() < 12
    np.testing.assert_array_equal(found.grid.start, whole.grid.start[~sees])
    for task in ("ied", "sleep"):
        np.testing.assert_allclose(found.window[task], whole.window[task][~sees], atol=1e-5)
    ((line, _),) = timelines(tiny, "ied", found, [Segment(0.0, 3000)], hop=50)
    assert np.isnan(line.frame_logits[round(15.0 / line.frame_seconds)])


def test_a_recording_without_a_window_that_is_finite_is_refused(predict):
    recording = broken_at(recording_of(noise(3)), 150, np.nan)
    with pytest.raises(ValueError, match="every window of 1.0 s has a sample that is NaN or infinite"):
        predict(recording, hop_seconds=1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sample_that_is_not_finite_makes_its_window_nan_and_no_other(tiny, variables_of, value):
    run, variables = make_predictor(tiny, TASKS), variables_of(tiny)
    length = tiny.n_times + 2 * tiny.margin
    eeg, present = np.stack([noise(length / 100, seed) for seed in range(3)]), np.ones((3, 5), bool)
    whole = run(variables, eeg, present)
    for time in (0, length // 2, length - 1):  # margins too
        broken = eeg.copy()
        broken[1, time, 4] = value
        found = run(variables, broken, present)
        for logits, expected in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
            assert np.isnan(logits[1]).all()
            np.testing.assert_array_equal(np.delete(logits, 1, 0), np.delete(expected, 1, 0))


class Sure:
    """A model that answers 0 whatever it sees, as a layer does that loses a NaN."""

    def apply(self, variables, maps, row_present, *, keys=None, mutable=None):
        logits = Logits({"ied": jnp.zeros((len(maps), 1))}, {"ied": jnp.zeros((len(maps), 7, 1))})
        return logits if keys is None else (logits, {"batch_stats": {}})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_network_answers_a_window_that_is_not_finite(tiny, value):
    eeg, present = jnp.zeros((3, tiny.n_times + 2 * tiny.margin, 5)), jnp.ones((3, 5), bool).at[2, 1].set(False)
    eeg = eeg.at[1, -1, 4].set(value).at[2, 0, 1].set(value)  # of the third window in an electrode that is absent
    keys = jax.random.split(jax.random.key(0), 3)
    for logits in (
        forward(tiny, Sure(), {}, eeg, present),
        forward_training(tiny, Sure(), {}, eeg, present, keys=keys)[0],
    ):
        for values in jax.tree.leaves(logits):
            assert np.isnan(values).reshape(3, -1).all(1).tolist() == [False, True, False]
            assert not np.isnan(values[jnp.array([0, 2])]).any()


def test_training_on_a_sample_that_is_not_finite_gives_nan_whether_it_has_a_label_or_not(tiny, variables_of):
    """In all logits of the batch, through its statistics, and in those that would be kept: the step's loss is NaN."""
    variables, length = variables_of(tiny), tiny.n_times + 2 * tiny.margin
    eeg, present = np.stack([noise(length / 100, seed) for seed in range(3)]), np.ones((3, 5), bool)
    eeg[1, length // 2, 4] = np.nan
    keys = jax.random.split(jax.random.key(0), 3)
    model = build_model(tiny, TASKS)
    logits, stats = forward_training(tiny, model, variables, jnp.asarray(eeg), jnp.asarray(present), keys=keys)
    assert all(np.isnan(values).all() for values in logits.window.values())
    assert any(np.isnan(x).any() for x in jax.tree.leaves(stats))


def test_one_configuration_is_compiled_once_however_many_files(tiny, variables_of, predict):
    first = predict(recording_of(noise(10)), hop_seconds=1.0)
    compiled, rows = make_predictor(tiny, TASKS)._cache_size(), room._row_finder(tiny)._cache_size()
    again = predict_recording(
        make_predictor(tiny, TASKS), tiny, variables_of(tiny), recording_of(noise(20)), hop_seconds=1.0, batch_size=8
    )
    assert compiled >= 1 and make_predictor(tiny, TASKS)._cache_size() == compiled
    assert rows == 1 and room._row_finder(tiny)._cache_size() == rows  # the look at which rows there are, too
    assert (len(first.grid.start), len(again.grid.start)) == (10, 20)
    other = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, pooling="average"))
    assert make_predictor(other, TASKS) is not make_predictor(tiny, TASKS)


def test_progress_reaches_the_end(predict):
    seconds = []
    predict(recording_of(noise(20)), hop_seconds=1.0, on_progress=seconds.append)
    assert seconds == sorted(seconds) and seconds[-1] == 20


def test_averages_where_windows_overlap_and_nan_where_there_is_none():
    config = dataclasses.replace(SMALL, data=DataConfig(window_seconds=4.0))
    grid = WindowGrid(np.zeros(2, np.int32), np.array([0, 1600]))
    frame = np.stack([np.full((81, 1), 1.0), np.full((81, 1), 3.0)]).astype(np.float32)
    predictions = Predictions(grid, {"ied": frame[:, 0]}, {"ied": frame})
    ((line, index),) = timelines(config, "ied", predictions, [Segment(5.0, 2400)], hop=800)
    assert (index, line.onset_seconds, line.frame_seconds) == (0, 5.0, 0.05)
    np.testing.assert_array_equal(line.frame_logits[[0, 80, 81, 159, 160, 240]], [1, 1, np.nan, np.nan, 3, 3])
    touching = predictions._replace(grid=WindowGrid(grid.segment, np.array([0, 800])))
    ((line, _),) = timelines(config, "ied", touching, [Segment(5.0, 1600)], hop=800)
    assert line.frame_logits[80] == 2 and len(line.frame_logits) == 161


def test_a_model_that_pools_features_gives_a_logit_a_window(tiny, variables_of):
    config = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, pooling="average"))
    recording = recording_of(noise(10))
    predictions = predict_recording(
        make_predictor(config, TASKS), config, variables_of(config), recording, hop_seconds=0.5
    )
    assert predictions.frame == {}
    ((line, _),) = timelines(config, "ied", predictions, recording.segments, hop=50)
    assert (line.onset_seconds, line.frame_seconds, line.min_separation_seconds) == (0.5, 0.5, 1.0)
    np.testing.assert_array_equal(line.frame_logits, predictions.window["ied"][:, 0])
    off_grid = predictions._replace(grid=predictions.grid._replace(start=predictions.grid.start + 7))
    assert timelines(config, "ied", off_grid, recording.segments, hop=50) == []


def test_the_odds_of_300_ms_make_one_event_and_events_lie_250_ms_apart():
    """Frames every 0.05 s: of a plateau, the frames up to 0.15 s away from its middle count, 7 of them."""
    config = dataclasses.replace(SMALL, data=DataConfig(window_seconds=4.0))
    frame = np.full((1, 81, 1), -30.0, np.float32)
    frame[0, 36:45] = -3.0  # 9 frames about 2 s
    frame[0, [10, 14, 60, 65], 0] = 1.0, 0.0, 1.0, 0.0  # 0.2 s apart: one event; 0.25 s apart: two
    predictions = Predictions(WindowGrid(np.zeros(1, np.int32), np.array([0])), {"ied": frame[:, 0]}, {"ied": frame})
    ((line, _),) = timelines(config, "ied", predictions, [Segment(0.0, 800)], hop=800)
    found = find_events(**line._asdict(), threshold=0.01)
    assert [round(event.peak_seconds, 3) for event in found] == [0.5, 2.0, 3.0, 3.25]
    np.testing.assert_allclose(found[1].probability, 7 * np.exp(-3) / (1 + 7 * np.exp(-3)), atol=1e-4)


def test_probabilities_by_kind_of_task():
    logits = np.array([[0.0], [np.log(3)], [-800.0], [800.0]], np.float32)
    np.testing.assert_allclose(probabilities(IED, logits)[:, 0], [0.5, 0.75, 0, 1], atol=1e-6)
    stages = probabilities(SLEEP, np.log(np.array([[1, 2, 3, 3, 1]], np.float32)))
    np.testing.assert_allclose(stages[0], [0.1, 0.2, 0.3, 0.3, 0.1], rtol=1e-5)


@pytest.mark.parametrize("sfreq", [200.0, 500.0])
def test_an_electrode_that_is_absent_may_hold_anything(tiny, variables_of, sfreq):
    data = dataclasses.replace(tiny.data, sfreq=sfreq)
    config = dataclasses.replace(tiny, data=data, preprocess=dataclasses.replace(tiny.preprocess, sfreq=100.0))
    predictor, variables = make_predictor(config, TASKS), variables_of(config)
    n = config.n_times + 2 * config.margin
    eeg = np.random.default_rng(0).normal(0, 20, (2, n, len(CH_NAMES))).astype(np.float32)
    present = np.ones((2, len(CH_NAMES)), bool)
    present[:, 2] = False
    garbage = eeg.copy()
    garbage[..., 2] = np.nan
    a, b = (predictor(variables, x, present) for x in (eeg, garbage))
    np.testing.assert_array_equal(a.window["ied"], b.window["ied"])
    assert np.isfinite(b.window["ied"]).all()


class Spy:
    """A model that gives back what it sees, and keeps its keys."""

    def apply(self, variables, maps, row_present, *, keys=None, mutable=None):
        self.keys = keys
        seen = Logits({"maps": maps, "present": row_present.astype(jnp.float32)}, {})
        return seen if keys is None else (seen, {"batch_stats": {}})


def test_training_shuffles_rows_between_preprocessing_and_converter_and_nothing_else_does(tiny):
    on = dataclasses.replace(tiny, training=dataclasses.replace(tiny.training, row_shuffle=1.0))
    keys = jax.random.split(jax.random.key(3), 4)
    eeg = jax.random.normal(jax.random.key(0), (4, on.n_times + 2 * on.margin, 5)) * 30
    present = jnp.ones((4, 5), bool).at[0, 2].set(False)
    spy = Spy()
    plain, found = (forward_training(c, spy, {}, eeg, present, keys=keys)[0].window for c in (tiny, on))
    assert (jax.random.key_data(spy.keys) == jax.random.key_data(keys)).all()  # dropout's draws stay
    numbers = jnp.broadcast_to(jnp.arange(19, dtype=jnp.float32)[None, None], (4, 1, 19))
    order = np.asarray(shuffle_rows(on, numbers, jnp.ones((4, 19), bool), keys)[0]).astype(int)[:, 0]
    for i in range(4):
        assert (found["present"][i] != plain["present"][i]).any()
        np.testing.assert_array_equal(found["present"][i], plain["present"][i][order[i]])
        np.testing.assert_allclose(found["maps"][i], plain["maps"][i][..., order[i]], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(forward(on, Spy(), {}, eeg, present).window["maps"], plain["maps"])
