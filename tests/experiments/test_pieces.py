"""The stop-watch of two sides: they take turns, and what is said of one is that one's."""

import time

import numpy as np
import pytest

from experiments.pieces import eeg_of, in_turns, main, page, windows_and_blocks
from siamese_jax.checkpoints import load
from siamese_jax.detection.predict import make_predictor


def test_two_sides_take_turns_and_each_is_timed():
    calls = []

    def ours():
        calls.append("ours")
        time.sleep(0.02)

    def theirs():
        calls.append("theirs")
        sum(range(1_000_000))

    found = in_turns(ours, theirs, 5)
    assert calls == ["ours", "theirs"] * 6
    assert found["ours_seconds"] >= 0.02 > 0.01 > found["ours_computing"]
    assert found["theirs_computing"] > 0.001 and found["computing_ratio"] < 0.5


def test_few_rounds_are_refused():
    with pytest.raises(SystemExit, match="--rounds must be 5 or more, given 3"):
        main(rounds=3)


def test_both_sides_of_a_minute_are_the_same_model_and_operations_are_counted():
    model = load()
    _, (_, ours), (_, theirs), operations = windows_and_blocks(model)
    assert [x.window["ied"].shape[0] for x in (ours(), theirs())] == [1, 57]
    dense = model.config.dense(60.0)
    least = dense.n_frames * 2 * sum(3 * a * b for a, b in ((19 * 24, 24), (64, 64)))  # some of its convolutions
    assert least < operations < 100 * least
    assert make_predictor(model.config, model.tasks)._cache_size() >= 2


def test_the_page_says_under_what_load_and_leaves_no_floor_blank():
    row = {"piece": "reading", "ours": "a", "theirs": "b", "floor_seconds": None, "ratio": 0.5, "computing_ratio": 0.25}
    row |= dict.fromkeys(("ours_seconds", "theirs_seconds", "ours_computing", "theirs_computing"), 1.0)
    machine = {"processor": "P", "cores": 1, "all_cores": 2, "jax": "1", "mne": "2", "gflops": 50.0}
    machine |= {"load_before": 4.0, "load_after": 5.5}
    text = page(
        {"command": "c", "date": "d", "commit": "e", "rounds": 5, "minutes": 2, "machine": machine, "pieces": [row]}
    )
    assert "4.0 before and 5.5 after" in text and "| 0.50 | 0.25 | - |" in text


def test_the_signal_has_the_size_of_an_eeg():
    eeg = eeg_of(20000, 19)
    assert eeg.dtype == np.float32 and eeg.std() == pytest.approx(15, rel=0.01)
