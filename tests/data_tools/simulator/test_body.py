"""Eyes, heart, muscles and mains."""

import numpy as np
import pytest
from scipy.signal import find_peaks, welch

from data_tools.simulator import body
from siamese_jax.vocabulary import LEADS_29, LEFT_RIGHT, TEN_TWENTY, channel_kind
from tests.data_tools.simulator.scenes import SFREQ, night_of

EEG = tuple(name for name in LEADS_29 if channel_kind(name) == "eeg")


def by_name(turn):
    return dict(zip(EEG, body.eye_field(EEG, turn), strict=True))


def test_eyes_turning_up_make_the_frontal_poles_positive_and_fade_backwards():
    field = by_name("up")
    assert field["Fp1"] == pytest.approx(1.0) or field["Fp2"] == pytest.approx(1.0)
    assert field["Fp1"] == pytest.approx(field["Fp2"], rel=1e-6)
    assert 0.9 > field["Fz"] > field["Cz"] > abs(field["Pz"]) and abs(field["O1"]) < 0.15


def test_eyes_turning_right_make_the_right_front_positive_and_the_left_negative():
    field = by_name("right")
    assert field["F8"] > 0.5 and field["F7"] < -0.5
    assert {max(TEN_TWENTY, key=field.get), min(TEN_TWENTY, key=field.get)} <= {"F7", "F8", "Fp1", "Fp2"}
    for left, right in LEFT_RIGHT.items():
        assert field[left] == pytest.approx(-field[right], abs=1e-9)
    assert abs(field["Cz"]) < 1e-9 and abs(field["O1"]) < 0.15


def test_the_heart_slows_down_in_sleep_and_scatters():
    hypnogram = ("W",) * 10 + ("N3",) * 10
    n_times = round(600 * SFREQ)
    ecg = body.heart(n_times, sfreq=SFREQ, hypnogram=hypnogram, rng=np.random.default_rng(0))
    beats, _ = find_peaks(ecg, height=0.7, distance=0.3 * SFREQ)
    intervals, half = np.diff(beats) / SFREQ, np.searchsorted(beats, n_times // 2)
    assert 62 <= 60 / np.median(intervals[: half - 1]) <= 85
    assert 52 <= 60 / np.median(intervals[half:]) <= 68
    assert 0.02 < intervals[half:].std() / intervals[half:].mean() < 0.06
    assert np.abs(ecg[beats] - 1).max() < 0.15


def test_muscle_tone_is_fast_follows_the_stage_and_stays_with_its_lead():
    tone = {"W": 20.0, "N1": 10.0, "N2": 5.0, "N3": 4.0, "R": 2.0}
    signals = np.zeros((3, round(600 * SFREQ)), np.float32)
    night = night_of(("W",) * 10 + ("R",) * 10)
    gain = np.array([1.0, 0.5, 0.0])
    body.add_muscle_tone(signals, tone, lead_gain=gain, sfreq=SFREQ, night=night, rng=np.random.default_rng(1))
    awake, asleep = signals[:, : round(290 * SFREQ)], signals[:, -round(290 * SFREQ) :]
    np.testing.assert_allclose(awake.std(1), 20.0 * gain, rtol=0.15)
    np.testing.assert_allclose(asleep.std(1), 2.0 * gain, rtol=0.15)
    assert abs(np.corrcoef(signals[:2])[0, 1]) < 0.05 and not signals[2].any()
    frequency, density = welch(awake[0], SFREQ, nperseg=512)
    assert density[(frequency > 30) & (frequency < 90)].mean() > 20 * density[(frequency > 1) & (frequency < 8)].mean()


@pytest.mark.parametrize(("sfreq", "lines"), [(500.0, [50, 100, 150]), (256.0, [50, 100]), (100.0, [])])
def test_mains_come_with_their_harmonics_below_half_the_rate(sfreq, lines):
    signals = np.zeros((2, round(200 * sfreq)), np.float32)
    body.add_mains(signals, sfreq=sfreq, mains_hz=50.0, rng=np.random.default_rng(2))
    if not lines:
        assert not signals.any()
        return
    frequency, density = welch(signals[0], sfreq, nperseg=round(4 * sfreq))
    found, _ = find_peaks(density, height=1e-4 * density.max(), distance=40)
    np.testing.assert_allclose(frequency[found], lines, atol=0.3)
    size = np.abs(signals).max()
    assert 0.02 < size < 8.0
    assert np.abs(np.diff(signals)).max() < size * 2 * np.pi * 50 * 2.1 / sfreq  # and no step between pieces


def test_the_frequency_of_the_mains_wanders_a_little():
    sfreq = 500.0
    signals = np.zeros((1, round(600 * sfreq)), np.float32)
    body.add_mains(signals, sfreq=sfreq, mains_hz=50.0, rng=np.random.default_rng(3))
    t = np.arange(signals.shape[1]) / sfreq
    phase = np.unwrap(np.angle((signals[0] * np.exp(-2j * np.pi * 50 * t)).reshape(-1, 50).mean(1)))  # each 0.1 s
    assert 0.003 < np.diff(phase[::10]).std() / (2 * np.pi) < 0.06
    assert np.abs(np.diff(phase)).max() < 2 * np.pi * 0.1 * 0.1  # nowhere a jump, nor more than 0.1 Hz off
