"""Arrays as shards: split by group, and no epoch's margins hold another's samples."""

import numpy as np
import pytest

from siamese_jax.cohort.arrays import shards_from_arrays
from siamese_jax.shards.schema import open_shards

RATE, N, GROUPS = 100.0, 200, 6
NAMES = ("C3", "C4")


def made(out, **changes):
    """60 epochs; each holds its own number in microvolts, with a little noise."""
    n = 60
    epochs = np.arange(n)[:, None, None] * 10.0 + np.random.default_rng(0).normal(0, 0.5, (n, N, 2))
    given = {"labels": np.arange(n) % 2, "groups": [f"p{i // 10}" for i in range(n)], "sfreq": RATE, "ch_names": NAMES}
    given |= changes
    return epochs, shards_from_arrays(out, epochs, given.pop("labels"), given.pop("groups"), **given)


def shards_of(out):
    return {s: open_shards(out / s) for s in ("train", "validation", "test") if any((out / s).glob("*.h5"))}


def test_a_group_is_in_one_split_and_every_epoch_in_one_window(tmp_path):
    made(tmp_path)
    split_of, windows = {}, 0
    for split, shards in shards_of(tmp_path).items():
        for shard in shards:
            windows += len(shard)
            for patient in shard.patients:
                assert split_of.setdefault(patient, split) == split
    assert sorted(split_of) == [f"p{i}" for i in range(GROUPS)] and windows == 60
    assert set(split_of.values()) == {"train", "validation", "test"}


def test_margins_hold_no_neighbour(tmp_path):
    made(tmp_path)
    margin = 3 * N  # wider than an epoch
    seen = set()
    for shards in shards_of(tmp_path).values():
        for shard in shards:
            for i in range(len(shard)):
                window = shard.read_window(i, margin)
                level = np.round(np.median(window) / 10)
                assert len(window) == N + 2 * margin and np.abs(window - 10 * level).max() < 4.9
                seen.add(float(level))
    assert {float(i) for i in range(60)} == seen


def test_labels_are_those_given_and_missing_ones_count_nothing(tmp_path):
    labels = [None if i % 5 == 0 else ("none", "ied")[i % 2] for i in range(60)]
    made(tmp_path, labels=labels)
    found = []
    for shards in shards_of(tmp_path).values():
        for shard in shards:
            weight, label = shard.weights["ied"], shard.labels["ied"]
            found += zip(np.asarray(label).tolist(), np.asarray(weight).tolist(), strict=True)
    expected = [(0.0, 0.0) if text is None else (float(text == "ied"), 1.0) for text in labels]
    assert sorted(found) == sorted(expected)


def test_splits_may_be_given(tmp_path):
    made(tmp_path, splits={f"p{i}": "test" for i in range(GROUPS)})
    assert set(shards_of(tmp_path)) == {"test"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0, 1]}, "60 epochs were given, and 2 labels of ied"),
        ({"groups": ["a"]}, "60 epochs were given, and 1 groups"),
        ({"labels": [7] * 60}, "a label is 7, allowed are none, ied or their numbers"),
        ({"sfreq": None}, "an array needs sfreq= and ch_names="),
        ({"ch_names": ("C3",)}, r"epochs must be \[epoch, time, channel\] with 1 channels, given \(60, 200, 2\)"),
        ({"splits": {"p9": "test"}}, "splits names groups without an epoch: p9"),
        ({"splits": {"p1": "tests"}}, "splits must be train, validation, test, given 'tests'"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        made(tmp_path, **changes)


def test_epochs_of_mne_are_in_volts_and_lack_their_bad_channels(tmp_path):
    mne = pytest.importorskip("mne", reason="MNE is not installed")
    eeg_uv = np.random.default_rng(1).normal(0, 20, (12, 3, N))
    info = mne.create_info(["C3", "C4", "Cz"], RATE, "eeg")
    epochs = mne.EpochsArray(eeg_uv * 1e-6, info, verbose="error")
    epochs.info["bads"] = ["C4"]
    shards_from_arrays(tmp_path, epochs, np.arange(12) % 2, np.arange(12) // 2)
    (shard, *_) = shards_of(tmp_path)["train"]
    assert shard.info.ch_names == ("C3", "Cz")
    first = int(shard.patients[0])
    held = shard.read_window(0)
    np.testing.assert_allclose(held, eeg_uv[2 * first][[0, 2]].T, atol=0.06)  # steps of 0.1 uV
