"""Files that MNE reads, and the one reader of all commands."""

import datetime

import numpy as np
import pytest

from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.recordings.read import files_of, read_recording
from siamese_jax.recordings.through_mne import recording_from_raw

mne = pytest.importorskip("mne", reason="MNE is not installed")
NAMES, RATE = ("C3", "T7", "Cz"), 200.0
EEG_UV = np.random.default_rng(0).normal(0, 20, (4000, 3)).astype(np.float32)
WANTED = {"ch_names": ("C3", "T3", "Cz", "Pz"), "sfreq": RATE}


def raw(eeg_uv=EEG_UV):
    return mne.io.RawArray(eeg_uv.T * 1e-6, mne.create_info(list(NAMES), RATE, "eeg"), verbose="error")


def test_a_fif_and_an_edf_of_the_same_signal_are_read_alike(tmp_path):
    write_recording(tmp_path / "night.edf", EEG_UV, sfreq=RATE, ch_names=NAMES)
    raw().save(tmp_path / "night_raw.fif", verbose="error")
    found = [read_recording(tmp_path / name, **WANTED) for name in ("night.edf", "night_raw.fif")]
    for recording in found:
        assert recording.present.tolist() == [True, True, True, False] and recording.segments[0].n_times == 4000
        np.testing.assert_allclose(recording.read(0, 0, 4000)[:, :3], EEG_UV, atol=0.01)
    assert found[1].path == tmp_path / "night_raw.fif"


def test_bad_stretches_of_a_raw_are_gaps_and_marks_count_from_its_first_sample():
    held = raw()
    held.set_meas_date(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
    held.set_annotations(
        mne.Annotations([4.0, 9.0], [2.0, 0.5], ["bad jump", "spike"], orig_time=held.info["meas_date"])
    )
    held.crop(2.0)  # MNE keeps counting from the start of the acquisition
    recording = recording_from_raw(held, **WANTED)
    assert [(s.onset_seconds, s.n_times) for s in recording.segments] == [(0.0, 400), (4.0, 2800)]
    assert [(round(m.onset_seconds, 6), m.text) for m in recording.annotations] == [(2.0, "bad jump"), (7.0, "spike")]
    np.testing.assert_allclose(recording.read(1, 0, 10)[:, :3], EEG_UV[1200:1210], atol=1e-3)
    assert recording.start_datetime == datetime.datetime(2026, 1, 1, 0, 0, 2)


def test_a_raw_that_is_bad_throughout_is_refused():
    held = raw()
    held.set_annotations(mne.Annotations([0.0], [20.0], ["BAD_all"]))
    with pytest.raises(ValueError, match="all of the recording is marked as bad"):
        recording_from_raw(held, **WANTED)


def test_what_cannot_be_read_is_said(tmp_path):
    (tmp_path / "night.set").write_bytes(b"no EEGLAB file")
    with pytest.raises(ValueError, match="MNE cannot read it"):
        read_recording(tmp_path / "night.set", **WANTED)
    with pytest.raises(FileNotFoundError):
        read_recording(tmp_path / "gone.vhdr", **WANTED)
    with pytest.raises(ValueError, match="units can be given for EDF and BDF alone"):
        read_recording(tmp_path / "night.set", units={"*": "uV"}, **WANTED)


def test_the_signal_s_file_comes_first(tmp_path):
    for name in ("a.vhdr", "a.eeg", "a.vmrk", "b.edf"):
        (tmp_path / name).touch()
    assert [path.name for path in files_of(tmp_path / "a.vhdr")] == ["a.eeg", "a.vhdr", "a.vmrk"]
    assert [path.name for path in files_of(tmp_path / "b.edf")] == ["b.edf"]
