"""Whole recordings and cohorts: no shortcut to the label, annotations, leads, bytes."""

import csv
import datetime

import numpy as np
import pytest
import tyro
from scipy.signal import welch

from data_tools.patients import draw_profile
from data_tools.simulate import SIMULATED, SimulationConfig, main, simulate_cohort, simulate_patient
from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.windows import ied_labels
from siamese_jax.vocabulary import LEADS_29, STAGES, TEN_TWENTY, is_ied, stage_of

SFREQ = 256.0
MINUTE = SimulationConfig(minutes=1)


def profile(region=None, seed=1):
    return draw_profile("SIM0001", region=region, seed=seed)


# --- no shortcut --------------------------------------------------------------------------------------------


def test_transients_do_not_know_about_ieds():
    config = SimulationConfig(minutes=5)
    without, with_ieds = (simulate_patient(profile(region, 4), config, seed=4) for region in (None, "temporal"))
    assert without.hypnogram == with_ieds.hypnogram
    assert without.events == tuple(event for event in with_ieds.events if not is_ied(event.kind))
    assert any(is_ied(event.kind) for event in with_ieds.events)


def test_the_largest_amplitude_hardly_tells_the_label():
    scores, labels = [], []
    for seed, region in enumerate([None, "temporal", "frontal", "centro-parietal", "occipital", "generalized"]):
        recording = simulate_patient(profile(region, seed), SimulationConfig(minutes=10), seed=seed)
        windows = recording.eeg_uv.reshape(150, 1024, 19)
        found = ied_labels(recording.annotations(), np.arange(150) * 4.0, window_seconds=4.0)
        scores.append(np.abs(windows - windows.mean(2, keepdims=True)).max((1, 2))[found.weight > 0])
        labels.append(found.label[found.weight > 0] > 0)
    scores, labels = np.concatenate(scores), np.concatenate(labels)
    auroc = (scores[labels][:, None] > scores[~labels]).mean()  # Mann-Whitney
    assert 0.5 < auroc < 0.85
    assert 0.02 < labels.mean() < 0.25


def test_a_window_is_positive_where_the_signal_holds_a_spike():
    without, with_ieds = (
        simulate_patient(profile(region, 3), SimulationConfig(minutes=10), seed=3) for region in (None, "temporal")
    )
    focus = TEN_TWENTY.index(profile("temporal", 3).ied.focus)
    added = (with_ieds.eeg_uv - without.eeg_uv)[:, focus].reshape(150, 1024)
    found = ied_labels(with_ieds.annotations(), np.arange(150) * 4.0, window_seconds=4.0)
    positive = (found.label > 0) & (found.weight > 0)
    negative = (found.label == 0) & (found.weight > 0)
    assert positive.sum() > 3
    assert (added[positive].min(1) < -40).all()
    assert np.mean(added[negative].min(1) < -40) < 0.05  # an after-wave may reach into the next window


# --- nights -------------------------------------------------------------------------------------------------


def test_annotations_cover_the_recording_and_stay_within_it():
    recording = simulate_patient(profile("frontal"), SimulationConfig(minutes=2.75), seed=0)
    seconds = len(recording.eeg_uv) / SFREQ
    assert seconds == 165
    annotations = recording.annotations()
    stages = [mark for mark in annotations if stage_of(mark.text)]
    assert [mark.onset_seconds for mark in stages] == [0, 30, 60, 90, 120, 150]
    assert [mark.duration_seconds for mark in stages] == [30, 30, 30, 30, 30, 15]
    assert tuple(stage_of(mark.text) for mark in stages) == recording.hypnogram
    for mark in annotations:
        assert 0 <= mark.onset_seconds <= mark.onset_seconds + mark.duration_seconds <= seconds
    assert SIMULATED in {mark.text for mark in annotations}
    for event in recording.events:
        middle = event.onset_seconds + event.duration_seconds / 2 if is_ied(event.kind) else event.onset_seconds
        assert event.stage == recording.hypnogram[int(middle // 30)] or event.duration_seconds > 1


# --- other leads --------------------------------------------------------------------------------------------


def test_29_leads_bring_a_heart_and_muscles_that_relax_in_sleep():
    config = SimulationConfig(minutes=10, sfreq=500, leads=29)
    recording = simulate_patient(profile(), config, seed=2)
    assert recording.ch_names == LEADS_29 and recording.eeg_uv.shape == (300_000, 29)
    assert recording.eeg_uv.dtype == np.float32 and np.isfinite(recording.eeg_uv).all()
    ecg = recording.eeg_uv[:, LEADS_29.index("ECG1")]
    beats = np.flatnonzero((ecg[1:-1] > 400) & (ecg[1:-1] > ecg[:-2]) & (ecg[1:-1] >= ecg[2:]))
    assert 45 < 60 / np.median(np.diff(beats) / 500) < 90
    assert recording.eeg_uv[:, LEADS_29.index("ECG2")].min() < -300
    epochs = recording.eeg_uv[:, LEADS_29.index("EMG1")].reshape(20, -1).std(1)
    tone = {stage: epochs[[s == stage for s in recording.hypnogram]].mean() for stage in set(recording.hypnogram)}
    ordered = [tone[stage] for stage in STAGES if stage in tone]
    assert len(ordered) >= 3 and (np.diff(ordered) < 0).all()
    frequency, density = welch(recording.eeg_uv[:, 0], 500, nperseg=1000)
    mains = density[frequency == 50].item()
    assert mains > 5 * density[(frequency > 52) & (frequency < 60)].mean()


# --- bytes --------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    def written(name, seed):
        paths = list(simulate_cohort(tmp_path / name, MINUTE, patients=2, seed=seed))
        assert [path.name for path in paths] == ["SIM0001.edf", "SIM0002.edf"]
        return {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())}

    first = written("a", 0)
    assert set(first) == {"SIM0001.edf", "SIM0002.edf", "patients.csv", "events.csv"}
    assert written("b", 0) == first
    other = written("c", 1)
    assert all(other[name] != content for name, content in first.items())
    assert first["SIM0001.edf"][500_000:] != first["SIM0002.edf"][500_000:]


def test_a_file_says_what_was_simulated(tmp_path):
    (path,) = simulate_cohort(tmp_path, MINUTE, patients=1, ied_free=0.0, seed=5)
    recording = read_recording(path, ch_names=TEN_TWENTY, sfreq=SFREQ)
    assert recording.patient_code == "SIM0001" and recording.present.all()
    assert recording.start_datetime == datetime.datetime(2000, 1, 1)
    rows = list(csv.DictReader((tmp_path / "events.csv").read_text().splitlines()))
    events = [mark for mark in recording.annotations if not stage_of(mark.text) and mark.text != SIMULATED]
    assert len(rows) == len(events) > 5
    for row, mark in zip(rows, events, strict=True):
        assert (row["patient"], row["kind"], row["channel"]) == ("SIM0001", mark.text, mark.channel)
        assert float(row["onset_seconds"]) == pytest.approx(mark.onset_seconds, abs=2e-4)
        assert float(row["duration_seconds"]) == pytest.approx(mark.duration_seconds, abs=2e-4)
        assert row["stage"] in STAGES and float(row["amplitude_uv"]) > 0 and float(row["snr"]) > 0
    (patient,) = csv.DictReader((tmp_path / "patients.csv").read_text().splitlines())
    assert patient["has_ied"] == "1" and patient["focus"] in TEN_TWENTY
    assert int(patient["n_ied"]) == sum(is_ied(mark.text) for mark in events)


def test_a_file_holds_the_microvolts_that_were_simulated(tmp_path):
    (path,) = simulate_cohort(tmp_path, MINUTE, patients=1, ied_free=1.0, seed=6)
    profile_seed, seed = np.random.SeedSequence([6, 0]).generate_state(2).tolist()
    expected = simulate_patient(draw_profile("SIM0001", region=None, seed=profile_seed), MINUTE, seed=seed).eeg_uv
    recording = read_recording(path, ch_names=TEN_TWENTY, sfreq=SFREQ)
    read = recording.read(0, 0, len(expected))
    assert np.abs(read - expected).max() <= np.abs(expected).max() / 65534 + 1e-3


def test_the_command_line_writes_a_cohort(tmp_path, capsys):
    arguments = [
        str(tmp_path / "out"),
        "--patients",
        "1",
        "--minutes",
        "0.5",
        "--leads",
        "29",
        "--sfreq",
        "100",
    ]
    tyro.cli(main, args=arguments)
    assert "1 simulated recordings" in capsys.readouterr().out
    recording = read_recording(tmp_path / "out" / "SIM0001.edf", ch_names=LEADS_29, sfreq=100.0)
    assert recording.present.all() and recording.segments[0].n_times == 3000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"leads": 20}, "leads"),
        ({"minutes": 0.1}, "minutes"),
        ({"minutes": float("nan")}, "minutes"),
        ({"sfreq": 50.0}, "sfreq"),
        ({"sfreq": 128.5}, "whole number"),
        ({"compression": 0.5}, "compression"),
    ],
)
def test_impossible_recordings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SimulationConfig(**change)


def test_impossible_cohorts_and_patients_are_refused(tmp_path):
    with pytest.raises(ValueError, match="patients"):
        next(simulate_cohort(tmp_path, MINUTE, patients=0))
    with pytest.raises(ValueError, match="ied_free"):
        next(simulate_cohort(tmp_path, MINUTE, ied_free=1.5))
    with pytest.raises(ValueError, match="parietal"):
        draw_profile("SIM0001", region="parietal", seed=0)
