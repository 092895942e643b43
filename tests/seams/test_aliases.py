"""Electrode names -> montage: whoever writes T7 for T3 gets the same rows, windows and logits, at every door."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from siamese_jax.checkpoints import Checkpoint
from siamese_jax.config.experiment import Config, DataConfig
from siamese_jax.detection.analysis import model_digest
from siamese_jax.detection.predict import make_predictor, predict_recording
from siamese_jax.pipeline import initialise
from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.recordings.recording import recording_from_array
from siamese_jax.recordings.sidecars import read_annotation_table
from siamese_jax.shards.schema import ShardInfo
from siamese_jax.signals.preprocess import row_names, rows_present
from siamese_jax.vocabulary import IED, SLEEP, standard_names

STANDARD = ("F7", "T3", "T5", "F8", "T4", "T6")
ALIASES = ("EEG F7-Ref", "T7", "p7", "f8 ", "EEG T8", "P8")
"""What others call them: 10-10 names, EDF labels, any letter case."""
ROWS = ("F7-T3", "T3-T5", "F8-T4", "T4-T6")
TASKS = (IED, SLEEP)


def configured(tiny, ch_names) -> Config:
    data = DataConfig(ch_names=ch_names, sfreq=100.0, window_seconds=1.0)
    return dataclasses.replace(tiny, data=data, preprocess=dataclasses.replace(tiny.preprocess, montage="bipolar"))


@pytest.fixture
def standard(tiny):
    return configured(tiny, STANDARD)


@pytest.fixture
def aliased(tiny):
    return configured(tiny, ALIASES)


def test_a_configuration_with_aliases_is_that_with_standard_names(standard, aliased):
    """Four rows of the double banana were dropped where data.ch_names said T7, T8, P7 and P8."""
    assert aliased == standard and hash(aliased) == hash(standard) and aliased.data.ch_names == STANDARD
    there = np.asarray(rows_present(aliased, jnp.ones((1, 6), bool)))[0]
    assert tuple(np.array(row_names(aliased))[there]) == ROWS


def test_so_is_one_that_was_written_before(standard):
    tree = json.loads(standard.to_json())
    tree["data"]["ch_names"] = list(ALIASES)
    assert Config.from_json(json.dumps(tree)) == standard


@pytest.mark.parametrize("labels", [STANDARD, ALIASES])
def test_a_recording_gives_the_same_logits_whatever_its_channels_and_the_configuration_are_called(
    standard, aliased, labels, tmp_path
):
    eeg = np.random.default_rng(0).normal(0, 30, (1000, 6)).astype(np.float32)
    names = {"ch_names": labels, "target_sfreq": 100.0}
    recordings = [
        recording_from_array(eeg, sfreq=100.0, target_ch_names=wanted, **names) for wanted in (STANDARD, ALIASES)
    ]
    write_recording(tmp_path / "night.edf", eeg, sfreq=100.0, ch_names=standard_names(labels))
    recordings += [
        read_recording(tmp_path / "night.edf", ch_names=wanted, sfreq=100.0) for wanted in (STANDARD, ALIASES)
    ]
    assert {recording.ch_names for recording in recordings} == {STANDARD}
    assert all(recording.present.all() for recording in recordings)
    variables = initialise(standard, TASKS, jax.random.key(0))
    found = [
        predict_recording(make_predictor(config, TASKS), config, variables, recording, hop_seconds=1.0)
        for config, recording in zip((standard, aliased, standard, aliased), recordings, strict=True)
    ]
    for one, other in ((0, 1), (2, 3)):
        np.testing.assert_array_equal(found[one].window["ied"], found[other].window["ied"])
    np.testing.assert_allclose(found[0].window["ied"], found[2].window["ied"], atol=2e-3)  # EDF rounds to 16 bits
    eeg[:, 1] = 0.1 * eeg[:, 1]
    quiet = recording_from_array(eeg, sfreq=100.0, target_ch_names=ALIASES, **names)
    changed = predict_recording(make_predictor(aliased, TASKS), aliased, variables, quiet, hop_seconds=1.0)
    assert np.abs(changed.window["ied"] - found[0].window["ied"]).max() > 1e-3  # T7 is seen
    digests = {model_digest(Checkpoint(c, TASKS, ("x",), variables, "[]", 1)) for c in (standard, aliased)}
    assert len(digests) == 1


def test_shards_and_tables_have_standard_names_too(tmp_path):
    assert ShardInfo(100.0, ALIASES, 100, 100, TASKS).ch_names == STANDARD
    (tmp_path / "night.csv").write_text("onset,label,channel\n1,spike,T7\n2,spike,EEG P8-Ref\n3,spike,Grid 7\n")
    assert [mark.channel for mark in read_annotation_table(tmp_path / "night.csv")] == ["T3", "T6", "Grid 7"]


def test_an_electrode_under_two_names_is_refused_wherever_it_is_given(tmp_path):
    eeg = np.random.default_rng(0).normal(0, 30, (200, 2)).astype(np.float32)
    write_recording(tmp_path / "night.edf", eeg, sfreq=100.0, ch_names=("T3", "T4"))
    twice = ("T7", "T3")
    for door in (
        lambda: DataConfig(ch_names=twice),
        lambda: ShardInfo(100.0, twice, 100, 100, TASKS),
        lambda: read_recording(tmp_path / "night.edf", ch_names=twice, sfreq=100.0),
        lambda: recording_from_array(
            eeg, sfreq=100.0, ch_names=("T3", "T4"), target_ch_names=twice, target_sfreq=100.0
        ),
    ):
        with pytest.raises(ValueError, match="'T7' and 'T3' are one electrode, T3: name it once"):
            door()
