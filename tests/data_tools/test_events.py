"""Transients, artefacts and IEDs, each added to silence and measured there."""

import dataclasses

import numpy as np
import pytest

from data_tools import physiology
from data_tools.background import Scene, background_rms_uv
from data_tools.events import add_ieds, add_transients
from siamese_jax.vocabulary import POSITIONS, STAGES, TEN_TWENTY, is_ied
from tests.data_tools.scenes import SFREQ, profile, silent_scene

KINDS = list(enumerate(physiology.TRANSIENTS))
POLARITY = {"K-complex": -1, "Vertex wave": -1, "Wicket": -1, "POSTS": 1, "Artefact blink": 1}


@pytest.mark.parametrize(("i", "kind"), KINDS, ids=[f"{kind.text}-{i}" for i, kind in KINDS])
def test_an_event_is_where_and_as_large_as_its_row_says(i, kind):
    stage = next(iter(kind.per_minute))
    scene = silent_scene(stage, minutes=20)
    events = add_transients(scene, kind, {stage: 4.0}, np.random.default_rng(i))
    assert len(events) > 20
    marked = np.zeros(scene.signals.shape[1], bool)
    for event in events:
        start, stop = (np.array([0, event.duration_seconds]) + event.onset_seconds) * SFREQ
        piece = scene.signals[:, int(start) - 1 : int(stop) + 2]
        marked[int(start) : int(stop) + 1] = True
        lead = TEN_TWENTY.index(event.channel)
        peak = np.abs(piece).max()
        assert np.abs(piece[lead]).max() == pytest.approx(peak)
        assert peak == pytest.approx(event.amplitude_uv, rel=1e-3)
        assert kind.amplitude_uv.low <= event.amplitude_uv <= kind.amplitude_uv.high
        assert kind.duration.low <= event.duration_seconds <= kind.duration.high
        assert np.abs(piece[:, [0, 1, -2, -1]]).max() < 0.15 * peak  # no step gives it away
        if kind.text in POLARITY:
            assert np.sign(piece[lead][np.abs(piece[lead]).argmax()]) == POLARITY[kind.text]
        assert event.snr == pytest.approx(
            event.amplitude_uv / background_rms_uv(scene.profile, stage, (event.channel,))[0]
        )
    assert not scene.signals[:, ~marked].any()


@pytest.mark.parametrize(
    ("text", "leads"),
    [
        ("K-complex", {"Fz", "F3", "F4", "Cz"}),
        ("Vertex wave", {"Cz"}),
        ("POSTS", {"O1", "O2"}),
        ("Wicket", {"T3", "T4", "F7", "F8"}),
        ("Artefact blink", {"Fp1", "Fp2"}),
        ("Sawtooth waves", {"Cz", "Fz"}),
    ],
)
def test_an_event_has_its_maximum_where_it_belongs(text, leads):
    (kind,) = [kind for kind in physiology.TRANSIENTS if kind.text == text]
    stage = next(iter(kind.per_minute))
    events = add_transients(silent_scene(stage, minutes=20), kind, {stage: 4.0}, np.random.default_rng(0))
    assert {event.channel for event in events} <= leads


def test_spindles_swing_at_11_to_16_hz_for_half_a_second_to_two():
    for kind in physiology.TRANSIENTS[:2]:
        assert kind.text == "Spindle"
        scene = silent_scene("N2", minutes=20)
        for event in add_transients(scene, kind, {"N2": 3.0}, np.random.default_rng(2)):
            start = round(event.onset_seconds * SFREQ)
            wave = scene.signals[TEN_TWENTY.index(event.channel), start : start + round(2.1 * SFREQ)]
            amplitude = np.abs(np.fft.rfft(wave, 8192))
            assert 11 <= np.fft.rfftfreq(8192, 1 / SFREQ)[amplitude.argmax()] <= 16
            visible = np.flatnonzero(np.abs(wave) > 0.1 * np.abs(wave).max())
            assert 0.4 <= (visible[-1] - visible[0]) / SFREQ <= 2.0
            assert 20 <= np.abs(wave).max() <= 50


def test_vertex_waves_are_as_sharp_as_sharp_waves():
    (kind,) = [kind for kind in physiology.TRANSIENTS if kind.text == "Vertex wave"]
    scene = silent_scene("N1", minutes=20)
    for event in add_transients(scene, kind, {"N1": 3.0}, np.random.default_rng(2)):
        start = round(event.onset_seconds * SFREQ)
        wave = scene.signals[TEN_TWENTY.index(event.channel), start : start + round(0.5 * SFREQ)]
        below = np.flatnonzero(wave < wave.min() * np.exp(-2))
        assert 0.07 <= (below[-1] - below[0]) / SFREQ <= 0.25


def test_events_come_at_their_rate_and_in_their_stages():
    hypnogram = ("W", "N1", "N2", "N3", "R") * 400
    scene = Scene(np.zeros((19, round(30 * len(hypnogram) * 16)), np.float32), 16.0, TEN_TWENTY, hypnogram, profile())
    (kind,) = [kind for kind in physiology.TRANSIENTS if kind.text == "Vertex wave"]
    events = add_transients(scene, kind, {"N1": 3.0, "N2": 1.0}, np.random.default_rng(0))
    counts = {stage: sum(event.stage == stage for event in events) for stage in STAGES}
    assert counts["W"] == counts["N3"] == counts["R"] == 0
    assert counts["N1"] == pytest.approx(600, rel=0.15) and counts["N2"] == pytest.approx(200, rel=0.2)


# --- IEDs ---------------------------------------------------------------------------------------------------


def discharges(region, *, kind=None, stage="N2", seed=1, level=0.0):
    patient = profile(region, seed)
    ied = dataclasses.replace(patient.ied, kind=kind) if kind else patient.ied
    scene = silent_scene(stage, minutes=20, patient=patient, level=level)
    events = add_ieds(scene, dataclasses.replace(ied, per_minute={stage: 3.0}), np.random.default_rng(seed))
    assert len(events) > 20
    return scene, ied, events


@pytest.mark.parametrize("region", ["frontal", "temporal", "centro-parietal", "occipital"])
def test_an_ied_is_a_negative_spike_at_its_focus(region):
    for seed in range(4):
        scene, ied, events = discharges(region, seed=seed)
        assert ied.focus in physiology.REGIONS[region].electrodes
        for event in events:
            peak = event.onset_seconds + event.duration_seconds / 2
            about = scene.signals[:, round((peak - 0.1) * SFREQ) : round((peak + 0.06) * SFREQ)]
            lead, sample = np.unravel_index(about.argmin(), about.shape)
            assert TEN_TWENTY[lead] == event.channel == ied.focus
            assert abs(round((peak - 0.1) * SFREQ) + sample - peak * SFREQ) < 0.01 * SFREQ
            assert about.min() == pytest.approx(-event.amplitude_uv, rel=0.15)
            assert 50 <= event.amplitude_uv <= 400
            assert 0.02 <= event.duration_seconds <= 0.2
            assert is_ied(event.kind)


def test_the_field_of_an_ied_falls_with_distance():
    scene, ied, events = discharges("temporal")
    distance = np.hypot(*(np.array([POSITIONS[name] for name in TEN_TWENTY]) - ied.centre).T)
    for event in events[:10]:
        middle = (event.onset_seconds + event.duration_seconds / 2) * SFREQ
        depth = -scene.signals[:, round(middle - 0.05 * SFREQ) : round(middle + 0.05 * SFREQ)].min(1)
        # The sample grid misses a peak by up to 2 ms, hence the small change allowed.
        assert (np.diff(depth[distance.argsort()]) < 0.03 * event.amplitude_uv).all()
        assert depth[distance.argmax()] < 0.1 * event.amplitude_uv


def test_an_ied_reaches_distant_electrodes_later():
    patient = profile("frontal", seed=2)
    ied = dataclasses.replace(patient.ied, per_minute={"N2": 3.0}, sigma=0.6, propagation_seconds=0.01)
    scene = silent_scene("N2", minutes=5, patient=patient)
    event = add_ieds(scene, ied, np.random.default_rng(0))[0]
    start = round((event.onset_seconds - 0.01) * SFREQ)
    times = scene.signals[:, start : start + round((event.duration_seconds + 0.04) * SFREQ)].argmin(1) / SFREQ
    distance = np.hypot(*(np.array([POSITIONS[name] for name in TEN_TWENTY]) - ied.centre).T)
    near, far = distance.argmin(), np.abs(distance - 1.0).argmin()
    assert times[far] - times[near] == pytest.approx(0.01 * (distance[far] - distance[near]), abs=0.006)


@pytest.mark.parametrize("kind", ["spike", "sharp wave", "spike-and-wave"])
def test_an_ied_rises_faster_than_it_falls_and_has_an_after_wave(kind):
    scene, ied, events = discharges("temporal", kind=kind)
    assert ied.rise_share < 0.5
    for event in events:
        middle = round((event.onset_seconds + event.duration_seconds / 2) * SFREQ)
        wave = scene.signals[TEN_TWENTY.index(event.channel), middle - 60 : middle + 200]
        peak = 40 + wave[40:80].argmin()
        half = wave[peak] / 2
        rise = peak - np.flatnonzero(wave[:peak] > half)[-1]
        fall = np.flatnonzero(wave[peak:] > half)[0]
        assert rise <= fall + 1  # samples
        after = wave[peak + round(0.08 * SFREQ) :]
        assert -after.min() > 0.25 * -wave[peak]
        assert 0.08 < (np.flatnonzero(after < 0.5 * after.min()).size) / SFREQ < 0.36


def test_the_background_is_disrupted_after_an_ied():
    quiet, _, _ = discharges("temporal", level=0.0)
    scene, ied, events = discharges("temporal", level=1000.0)
    gain = (scene.signals - quiet.signals) / 1000
    assert gain.max() <= 1.001 and np.median(gain) == pytest.approx(1)
    for event in events:
        peak = round((event.onset_seconds + event.duration_seconds / 2) * SFREQ)
        lowest = gain[TEN_TWENTY.index(event.channel), peak : peak + round(0.45 * SFREQ)].min()
        assert 0.38 < lowest < 0.72
        assert gain[:, peak - round(0.1 * SFREQ)].min() > 0.99
    assert gain[TEN_TWENTY.index("T4" if ied.centre[0] < 0 else "T3")].min() > 0.95


def test_generalised_discharges_come_in_runs_longest_in_wakefulness():
    runs = {}
    for stage in ("W", "N3"):
        scene, ied, events = discharges("generalized", stage=stage)
        assert {event.kind for event in events} == {"IED spike-and-wave"}
        runs[stage] = max(event.duration_seconds for event in events)
        run = max(events, key=lambda event: event.duration_seconds)
        start = round((run.onset_seconds - 0.05) * SFREQ)
        wave = scene.signals[TEN_TWENTY.index(run.channel), start : start + round(run.duration_seconds * SFREQ)]
        rate = np.fft.rfftfreq(4096, 1 / SFREQ)
        in_band = (rate > 2) & (rate < 6)
        assert 2.3 < rate[in_band][np.abs(np.fft.rfft(wave - wave.mean(), 4096))[in_band].argmax()] < 4.3
    assert runs["W"] > runs["N3"] > 0.9
