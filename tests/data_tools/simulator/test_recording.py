"""Whole recordings: no shortcut to the label, annotations, leads."""

import dataclasses

import numpy as np
import pytest
from scipy.signal import welch

from data_tools.simulator.patients import draw_profile
from data_tools.simulator.recording import SIMULATED, SimulationConfig, simulate_patient
from siamese_jax.recordings.texts import is_ied, stage_of
from siamese_jax.shards.labels import IED_RULE
from siamese_jax.vocabulary import LEADS_29, STAGES, TEN_TWENTY
from tests.data_tools.simulator.scenes import SFREQ, profile

# --- no shortcut --------------------------------------------------------------------------------------------


def test_transients_do_not_know_about_ieds():
    config = SimulationConfig(minutes=5)
    without, with_ieds = (simulate_patient(profile(region, 4), config, seed=4) for region in (None, "temporal"))
    assert without.hypnogram == with_ieds.hypnogram
    others = tuple(event for event in with_ieds.events if not is_ied(event.kind))
    assert [(e.kind, e.onset_seconds, e.channel, e.amplitude_uv) for e in without.events] == [
        (e.kind, e.onset_seconds, e.channel, e.amplitude_uv) for e in others
    ]
    assert any(is_ied(event.kind) for event in with_ieds.events)


def test_the_largest_amplitude_hardly_tells_the_label():
    scores, labels = [], []
    for seed, region in enumerate([None, "temporal", "frontal", "centro-parietal", "occipital", "generalized"]):
        recording = simulate_patient(profile(region, seed), SimulationConfig(minutes=6), seed=seed)
        windows = recording.eeg_uv.reshape(90, 1024, 19)
        found = IED_RULE.label(recording.annotations(), np.arange(90) * 4.0, window_seconds=4.0)
        scores.append(np.abs(windows - windows.mean(2, keepdims=True)).max((1, 2))[found.weight > 0])
        labels.append(found.label[found.weight > 0] > 0)
    scores, labels = np.concatenate(scores), np.concatenate(labels)
    auroc = (scores[labels][:, None] > scores[~labels]).mean()  # Mann-Whitney
    assert 0.5 < auroc < 0.85
    assert 0.01 < labels.mean() < 0.25


def test_a_window_is_positive_where_the_signal_holds_a_spike():
    patients = (draw_profile("SIM0001", region=region, seed=3, density=6.0) for region in (None, "temporal"))
    without, with_ieds = (simulate_patient(patient, SimulationConfig(minutes=10), seed=3) for patient in patients)
    added = np.abs(with_ieds.eeg_uv - without.eeg_uv).max(1).reshape(150, 1024)
    found = IED_RULE.label(with_ieds.annotations(), np.arange(150) * 4.0, window_seconds=4.0)
    positive = (found.label > 0) & (found.weight > 0)
    negative = (found.label == 0) & (found.weight > 0)
    assert positive.sum() > 3
    assert (added[positive].max(1) > 20).all()
    assert np.mean(added[negative].max(1) > 20) < 0.05  # an after-wave may reach into the next window


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


def test_an_hour_is_natural_unless_told_otherwise():
    assert SimulationConfig(minutes=59).haste == 5 and SimulationConfig(hours=1).haste == 1
    assert SimulationConfig(minutes=60).haste == 1 and SimulationConfig(hours=2, compression=3.0).haste == 3
    assert SimulationConfig(minutes=5, hours=2).seconds == 7200 and SimulationConfig(minutes=0.5).seconds == 30


def test_a_day_record_has_no_deep_sleep():
    config = SimulationConfig(minutes=4, recording="day", compression=1.0)
    stages = {stage for seed in range(6) for stage in simulate_patient(profile(), config, seed=seed).hypnogram}
    assert "W" in stages and not stages & {"N3", "R"}


# --- other leads --------------------------------------------------------------------------------------------


def test_29_leads_bring_a_heart_and_muscles_that_relax_in_sleep():
    patient = dataclasses.replace(profile(), muscle_gain=0.3)
    recording = simulate_patient(patient, SimulationConfig(minutes=10, sfreq=500, leads=29, recording="night"), seed=2)
    assert recording.ch_names == LEADS_29 and recording.eeg_uv.shape == (300_000, 29)
    assert recording.eeg_uv.dtype == np.float32 and np.isfinite(recording.eeg_uv).all()
    ecg = recording.eeg_uv[:, LEADS_29.index("ECG1")]
    beats = np.flatnonzero((ecg[1:-1] > 400) & (ecg[1:-1] > ecg[:-2]) & (ecg[1:-1] >= ecg[2:]))
    assert 45 < 60 / np.median(np.diff(beats) / 500) < 90
    assert recording.eeg_uv[:, LEADS_29.index("ECG2")].min() < -300
    seconds = recording.eeg_uv[:, LEADS_29.index("EMG1")].reshape(20, 30, 500).std(2)  # tone returns in arousals
    stages = np.array(recording.hypnogram)
    ordered = [np.median(seconds[stages == stage]) for stage in STAGES if stage in recording.hypnogram]
    assert len(ordered) >= 3 and ordered[0] > 1.6 * ordered[-1]
    frequency, density = welch(recording.eeg_uv[:, TEN_TWENTY.index("Cz")], 500, nperseg=1000)
    assert density[frequency == 50].item() > 2 * density[(frequency > 52) & (frequency < 60)].mean()


def test_the_heart_shows_at_the_ears_and_with_opposite_signs():
    found = []
    for seed in range(6):
        eeg = simulate_patient(profile(), SimulationConfig(minutes=2, leads=29), seed=seed).eeg_uv
        ecg, ears = eeg[:, LEADS_29.index("ECG1")], eeg[:, [LEADS_29.index("A1"), LEADS_29.index("A2")]]
        beats = np.flatnonzero((ecg[1:-1] > 400) & (ecg[1:-1] > ecg[:-2]) & (ecg[1:-1] >= ecg[2:]))[1:-1] + 1
        found.append((ears[beats] - (ears[beats - 15] + ears[beats + 15]) / 2).mean(0))
    a1, a2 = np.mean(found, axis=0)
    assert a2 - a1 > 2


# --- settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"leads": 20}, "leads"),
        ({"minutes": 0.1}, "minutes"),
        ({"minutes": float("nan")}, "minutes"),
        ({"hours": 0.001}, "hours"),
        ({"hours": float("inf")}, "hours"),
        ({"sfreq": 50.0}, "sfreq"),
        ({"sfreq": 128.5}, "whole number"),
        ({"compression": 0.5}, "compression"),
        ({"mains_hz": -50.0}, "mains_hz"),
        ({"mains_hz": float("nan")}, "mains_hz"),
        ({"recording": "evening"}, "recording"),
    ],
)
def test_impossible_recordings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SimulationConfig(**change)
