"""One pass over a recording: a minute at once gives what each window gives, and electrodes are absent by frame."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from siamese_jax.detection.passes import answered, batch_shape, block_logits, blocks_of
from siamese_jax.detection.predict import Predictions, make_predictor, predict_recording, timelines
from siamese_jax.models.blocks import Logits
from siamese_jax.pipeline import initialise
from siamese_jax.recordings.recording import read_once
from siamese_jax.recordings.windows import WindowGrid, read_padded, window_grid
from siamese_jax.vocabulary import IED, SLEEP
from tests.detection.test_predict import noise, recording_of, with_gap

TASKS, CHANS = (IED, SLEEP), np.arange(5)


@pytest.fixture
def variables(tiny):
    return initialise(tiny, TASKS, jax.random.key(0))


def all_of_them(places: WindowGrid, length: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    return np.ones((1, 5), bool), np.zeros(len(places.start), int)


def grid_of(recording, config, hop: int) -> WindowGrid:
    return window_grid(recording.segments, window=config.n_times, hop=hop)


@pytest.mark.parametrize("hop_seconds", [0.25, 1.0, 2.5])
def test_a_dense_pass_gives_what_each_window_gives_by_itself(tiny, variables, hop_seconds):
    """Over several minutes and a gap, one stretch being shorter than a block, with an electrode that is absent."""
    recording, hop = with_gap(recording_of(noise(150.7)), 12550, 30.0), round(100 * hop_seconds)
    recording = dataclasses.replace(recording, present=CHANS != 2)
    predictor, grid = make_predictor(tiny, TASKS), grid_of(recording, tiny, hop)
    found = predict_recording(predictor, tiny, variables, recording, hop_seconds=hop_seconds)
    windows = [
        read_padded(partial(recording.read, i), recording.segments[i].n_times, start, start + 100 + 2 * tiny.margin)
        for i, start in zip(grid.segment.tolist(), (grid.start - tiny.margin).tolist(), strict=True)
    ]
    present = np.repeat(recording.present[None], len(windows), 0)
    alone = jax.tree.map(np.asarray, predictor(variables, np.stack(windows), present))
    np.testing.assert_array_equal(found.grid, grid)
    for task in ("ied", "sleep"):
        assert np.ptp(alone.window[task], axis=0).min() > 0.05
        np.testing.assert_allclose(found.window[task], alone.window[task], atol=1e-5)
    one_by_one = Predictions(grid, alone.window, {"ied": alone.frame["ied"]})
    for (line, i), (expected, j) in zip(
        *(timelines(tiny, "ied", given, recording.segments, hop=hop) for given in (found, one_by_one)), strict=True
    ):
        np.testing.assert_allclose(line.frame_logits, expected.frame_logits, atol=1e-5)
        assert (i, line[1:]) == (j, expected[1:])


@pytest.mark.parametrize("pooling", ["frames", "average"])
def test_every_window_lies_in_one_block_and_blocks_hardly_overlap(tiny, pooling):
    config = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, pooling=pooling))
    recording = with_gap(recording_of(noise(400)), 30050, 30.0)
    reads = []
    source = lambda segment, a, b: reads.append(b - a) or recording.source(segment, a, b)  # noqa: E731
    spied, grid = dataclasses.replace(recording, source=source), grid_of(recording, config, 25)
    blocks = list(blocks_of(config, spied, grid, hop=25, choose=all_of_them))
    np.testing.assert_array_equal(np.concatenate([block.starts for block in blocks]), grid.start)
    assert all(np.ptp(block.starts) + 100 <= 6000 for block in blocks)
    n_inputs, length = sum(len(block.inputs) for block in blocks), batch_shape(config, 64)[1]
    assert all(one.eeg.shape == (length, 5) for block in blocks for one in block.inputs)
    # Of all that is read, and that a dense pass runs through, a third at most is margin, overlap and the last block.
    assert sum(reads) < 1.15 * 40000
    assert n_inputs == len(grid.start) if pooling == "average" else n_inputs * length < 1.35 * 40000


def test_a_block_is_seen_once_for_each_choice_of_electrodes(tiny):
    """Each frame by the electrodes that are good where it is, and by no others."""
    recording = recording_of(noise(55))

    def choose(places, length, reach):
        assert length == 1 and reach >= tiny.reach
        seconds = places.start / 100
        which = np.where((seconds < 10) | (seconds >= 20) & (seconds < 30), 0, 1)
        return np.array([CHANS >= 0, CHANS != 1]), np.where((seconds >= 30) & (seconds < 35), -1, which)

    ((_, starts, inputs),) = blocks_of(tiny, recording, grid_of(recording, tiny, 100), hop=100, choose=choose)
    seconds = np.arange(tiny.dense(60.0).n_frames) * tiny.frame_seconds
    assert len(starts) == 55 and len(inputs) == 2
    without, whole = sorted(inputs, key=lambda one: one.present.sum())
    assert whole.present.all() and np.flatnonzero(~without.present).tolist() == [1]
    np.testing.assert_array_equal(whole.places, (seconds < 10) | (seconds >= 20) & (seconds < 30))
    np.testing.assert_array_equal(without.places, (seconds >= 10) & (seconds < 20) | (seconds >= 35))


def test_windows_that_hold_a_frame_without_logits_are_left_out_and_so_are_frames_that_no_window_holds(tiny):
    recording, hop, dense = recording_of(noise(30)), 100, tiny.dense(60.0)

    def choose(places, length, reach):
        return np.ones((1, 5), bool), np.where((places.start >= 1230) & (places.start <= 1250), -1, 0)

    (block,) = blocks_of(tiny, recording, grid_of(recording, tiny, hop), hop=hop, choose=choose)
    ramp = np.arange(dense.n_frames, dtype=np.float32)[:, None]
    answers = [Logits({"ied": np.zeros(1)}, {"ied": ramp, "sleep": np.repeat(ramp, 5, 1)})]
    found = block_logits(tiny, block, answers, hop=hop)
    assert found.grid.start.tolist() == [100 * i for i in range(30) if i != 12]
    np.testing.assert_allclose(found.window["sleep"][:, 4], found.grid.start / 5 + 10)  # the mean of 21 frames
    lost = np.flatnonzero(np.isnan(found.frame["ied"][0, :, 0])) * tiny.frame_seconds
    np.testing.assert_allclose(lost[lost < 30], np.arange(12.05, 12.99, 0.05))  # both ends are of the neighbours
    assert lost[lost > 29].min() == pytest.approx(30.05) and list(found.frame) == ["ied"]


def test_blocks_share_batches_and_come_back_in_order_with_their_own_answers(tiny):
    """Those without an input too, wherever they stand."""
    recording = recording_of(noise(500))

    def choose(places, length, reach):
        block = int(places.start[0]) // 6000
        which = places.start % 2 if block % 3 == 1 else 0 * places.start
        return np.array([CHANS >= 0, CHANS != 0]), np.full_like(which, -1) if block in (0, 4, 8) else which

    blocks = list(blocks_of(tiny, recording, grid_of(recording, tiny, 100), hop=100, choose=choose))
    sizes, number = [], {id(one): i for i, one in enumerate(one for block in blocks for one in block.inputs)}
    assert 0 in {len(block.inputs) for block in blocks}

    def predict(batches):
        done = 0
        for eeg, present, n in batches:
            sizes.append(n)
            assert eeg.shape == (3, *batch_shape(tiny, 180)[1:]) and not eeg[n:].any() and not present[n:].any()
            yield Logits({"ied": np.arange(done, done + n)[:, None]}, {})
            done += n

    found = list(answered(predict, iter(blocks), batch_shape(tiny, 180)))
    assert len(found) == len(blocks) and set(sizes[:-1]) == {3}
    for (block, answers), expected in zip(found, blocks, strict=True):
        assert block is expected
        assert [a.window["ied"].item() for a in answers] == [number[id(one)] for one in block.inputs]


def test_who_judges_and_predicts_in_step_reads_once():
    """Blocks of any place and length are the samples that they would be, and each sample is read once."""
    plain, reads = with_gap(recording_of(noise(900)), 50050, 10.0), []
    source = lambda segment, a, b: reads.append((segment, a, b)) or plain.source(segment, a, b)  # noqa: E731
    passing = read_once(dataclasses.replace(plain, source=source))
    for segment, n_times in enumerate(s.n_times for s in plain.segments):
        for start in range(0, n_times, 5700):
            for a, b in ((start, start + 6700), (start - 20000, start + 100)):
                a, b = max(a, 0), min(b, n_times)
                np.testing.assert_array_equal(passing.read(segment, a, b), plain.read(segment, a, b))
    assert passing.read(1, 5, 5).shape == (0, 5)
    assert sum(b - a for _, a, b in reads) == 90000 and len(set(reads)) == len(reads)
