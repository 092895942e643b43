"""Each shape by what defines it: polarity, length of the sharp part, rate, asymmetry."""

import numpy as np
import pytest

from data_tools.simulator import waveforms
from data_tools.simulator.transients import TRANSIENTS, lognormal

SFREQ = 2000.0
SHAPES = {kind.shape.__name__: kind for kind in TRANSIENTS}


def drawn(kind, seed):
    """A wave with its times, frequency and duration."""
    rng = np.random.default_rng(seed)
    duration, hz = lognormal(kind.duration, rng.standard_normal()), kind.frequency_hz.draw(rng)
    t = np.arange(0, duration, 1 / SFREQ)
    return t, kind.shape(t, hz, duration, rng), hz, duration


def waves(name, n=20):
    return [drawn(SHAPES[name], seed) for seed in range(n)]


def main_phase(wave, level):
    """Seconds before and after the largest deflection for which it stays beyond `level` of it."""
    peak = np.abs(wave).argmax()
    outside = np.flatnonzero(wave * np.sign(wave[peak]) < level * np.abs(wave[peak]))
    before, after = outside[outside < peak], outside[outside > peak]
    first, last = (before[-1] if before.size else 0), (after[0] if after.size else len(wave))
    return (peak - first) / SFREQ, (last - peak) / SFREQ


def peak_hz(wave, low, high):
    frequency = np.fft.rfftfreq(2**16, 1 / SFREQ)
    power = np.abs(np.fft.rfft(wave - wave.mean(), 2**16))
    inside = (frequency >= low) & (frequency <= high)
    return frequency[inside][power[inside].argmax()]


def share_below(wave, hz):
    power = np.abs(np.fft.rfft(wave, 2**16)) ** 2
    return power[np.fft.rfftfreq(2**16, 1 / SFREQ) < hz].sum() / power.sum()


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_begins_and_ends_at_zero(name):
    for t, wave, _, _ in waves(name):
        assert wave.shape == t.shape and np.isfinite(wave).all()
        assert np.abs(wave[[0, 1, -2, -1]]).max() < 0.06 * np.abs(wave).max()


# --- epileptiform -------------------------------------------------------------------------------------------


def test_a_spike_lasts_as_long_as_its_rise_and_fall_and_is_pointed():
    t = np.arange(-0.2, 0.2, 1 / SFREQ)
    for rise, fall in ((0.010, 0.015), (0.030, 0.040), (0.06, 0.1)):
        wave = waveforms.spike(t, rise=rise, fall=fall)
        assert wave.min() == pytest.approx(-1) and wave.max() <= 0
        assert main_phase(wave, np.exp(-2)) == pytest.approx((rise, fall), abs=2 / SFREQ)
        # A Gaussian of that length is wider at the top.
        assert sum(main_phase(wave, 0.9)) < 0.75 * (rise + fall) * np.sqrt(np.log(1 / 0.9) / 2)


def test_an_after_wave_is_one_negative_half_wave_of_its_length():
    t = np.arange(-0.1, 0.5, 1 / SFREQ)
    wave = waveforms.after_wave(t, seconds=0.3)
    below = np.flatnonzero(wave < -1e-6) / SFREQ - 0.1
    assert wave.min() == pytest.approx(-1, abs=1e-3) and wave.max() <= 0
    assert below[0] == pytest.approx(0, abs=0.002) and below[-1] == pytest.approx(0.3, abs=0.002)
    assert below[0] + 0.1 < t[wave.argmin()] + 0.1 < 0.1 + 0.15  # steeper at first


# --- sleep --------------------------------------------------------------------------------------------------


def test_spindles_swing_at_11_to_16_hz_and_are_fusiform():
    drifts = []
    for seed in range(200):
        t, wave, hz, duration = drawn(SHAPES["spindle"], seed)
        assert 11 <= hz <= 16 and peak_hz(wave, 5, 30) == pytest.approx(hz, abs=1.0)
        size = np.abs(wave).reshape(-1)
        outer = max(size[: len(t) // 8].max(), size[-len(t) // 8 :].max())
        assert outer < 0.55 * size.max()
        assert 0.3 < t[size.argmax()] / duration < 0.7
        crossings = np.flatnonzero(np.diff(np.signbit(wave))) / SFREQ
        crossings = crossings[(crossings > 0.1 * duration) & (crossings < 0.9 * duration)]
        drifts.append(np.polyfit((crossings[1:] + crossings[:-1]) / 2, 0.5 / np.diff(crossings), 1)[0])
    assert np.median(drifts) == pytest.approx(-0.4, abs=0.2)  # Hz/s
    assert 0.5 < np.std(drifts) < 1.2


def test_a_k_complex_is_sharp_and_negative_and_then_slow_and_positive():
    for t, wave, _, duration in waves("k_complex"):
        assert duration >= 0.5
        assert wave.argmin() < wave.argmax() and -wave.min() == np.abs(wave).max()
        assert wave.max() > 0.35 * -wave.min()
        assert sum(main_phase(wave, 0.5)) < 0.25 * t[-1]
        after = wave[wave.argmin() :]
        assert sum(main_phase(np.maximum(after, 0), 0.5)) > sum(main_phase(wave, 0.5))


def test_vertex_waves_are_negative_and_as_sharp_as_sharp_waves():
    for t, wave, _, _ in waves("vertex_wave"):
        assert -wave.min() == np.abs(wave).max() and t[-1] < 0.5
        assert 0.07 <= sum(main_phase(wave, np.exp(-2))) <= 0.25


def test_posts_and_lambda_waves_are_positive_triangles():
    for _, wave, hz, duration in waves("posts"):
        assert wave.min() >= 0
        crests = np.flatnonzero((wave[1:-1] > wave[:-2]) & (wave[1:-1] >= wave[2:]) & (wave[1:-1] > 0.3))
        assert len(crests) == pytest.approx(hz * duration, abs=2.1)
        assert 1 <= hz <= 6
    for _, wave, _, duration in waves("lambda_wave"):
        assert 0.16 <= duration <= 0.25 and wave.min() >= 0 and wave.max() > 0.98
        assert main_phase(wave, 0.1)[0] < 1.1 * main_phase(wave, 0.1)[1]


def test_sawtooth_waves_rise_more_slowly_than_they_fall():
    for _, wave, hz, _ in waves("sawtooth"):
        assert 2 <= hz <= 6 and peak_hz(wave, 0.5, 12) == pytest.approx(hz, abs=0.4)
        assert (np.diff(wave) > 0).mean() > 0.6


def test_rhythms_of_drowsiness_have_their_rate():
    for name, low, high in (("hypersynchrony", 3, 5), ("notched_theta", 4, 7)):
        for _, wave, hz, _ in waves(name):
            assert low <= hz <= high
            assert peak_hz(wave, 2, 8) == pytest.approx(hz, abs=0.35)
    for _, wave, hz, _ in waves("notched_theta"):
        assert 2 * hz - 0.5 < peak_hz(wave, 1.6 * hz, 2.5 * hz) < 2 * hz + 0.5  # the notch


def test_slow_waves_of_youth_last_250_to_400_ms():
    for _, wave, _, _ in waves("slow_wave"):
        assert wave.min() == -np.abs(wave).max() and wave.max() < 0.5 * -wave.min()
    (youth,) = [kind for kind in TRANSIENTS if kind.text == "Posterior slow wave of youth"]
    for seed in range(20):
        assert 0.25 <= sum(main_phase(drawn(youth, seed)[1], 1e-3)) <= 0.4


# --- mimics -------------------------------------------------------------------------------------------------


def test_wickets_are_pointed_below_round_above_and_have_no_after_wave():
    for _, wave, hz, duration in waves("wicket"):
        assert -wave.min() == np.abs(wave).max()
        if duration * hz > 2:
            inner = wave[len(wave) // 3 : -len(wave) // 3]
            assert (inner < 0.5 * wave.min()).mean() < 0.35  # cusps are brief
        assert share_below(wave, 4.0) < 0.35


def test_small_sharp_spikes_last_less_than_50_ms_and_no_wave_follows():
    for t, wave, _, _ in waves("small_sharp_spike"):
        assert wave.min() == -np.abs(wave).max()
        assert sum(main_phase(wave, np.exp(-2))) < 0.05
        assert t[-1] < 0.12 and wave.max() < 0.7


def test_14_and_6_is_a_comb_with_its_teeth_up():
    rates = set()
    for _, wave, hz, duration in waves("fourteen_and_six", 60):
        assert wave.max() == np.abs(wave).max() and duration < 2
        rate = peak_hz(wave, 4, 20)
        assert abs(rate - hz) < 1.5 or abs(rate - hz * 6 / 14) < 1.5
        rates.add(round(rate / hz))
    assert rates == {0, 1}


def test_phantom_spikes_are_short_and_a_third_of_the_waves():
    for t, wave, hz, duration in waves("phantom_spike_wave"):
        assert 1 <= duration <= 2 and peak_hz(wave, 3, 9) == pytest.approx(hz, abs=0.6)
        cycle = (t * hz) % 1.0 / hz
        middle = (t > 0.3 * duration) & (t < 0.7 * duration)
        assert -wave[middle & (cycle < 0.030)].min() < 0.4 * -wave.min()
        assert wave[middle & (cycle < 0.03)].min() < -0.1  # it is there
        assert wave[middle & (np.abs(cycle - 0.034) < 0.001)].min() > -0.1  # and over before the wave begins


def test_contoured_waves_are_blunter_than_any_spike_or_sharp_wave_and_rise_and_fall_alike():
    signs = []
    for _, wave, _, _ in waves("contoured_wave", 40):
        before, after = main_phase(wave, 0.5)
        assert before == pytest.approx(after, rel=0.2)
        assert before + after > 0.1  # of discharges 0.094 at most
        signs.append(np.sign(wave[np.abs(wave).argmax()]))
    assert 0.5 < np.mean(np.array(signs) < 0) < 0.95


def test_rhythmic_delta_has_1_to_3_hz_and_nothing_sharp():
    for _, wave, hz, duration in waves("rhythmic_delta"):
        assert 1 <= hz <= 3 and duration * hz >= 6  # ACNS 2021: six cycles
        assert peak_hz(wave, 0.5, 5) == pytest.approx(hz, abs=0.15)
        assert share_below(wave, 7.0) > 0.99


def test_triphasic_waves_are_small_negative_then_large_positive_then_slow_negative():
    for t, wave, hz, duration in waves("triphasic"):
        assert 1.5 <= hz <= 2.5 and wave.max() > -1.3 * wave.min()
        assert share_below(wave, 15.0) > 0.99  # blunt
        cycle = (t > 0.5 * duration) & (t < 0.5 * duration + 1 / hz)
        turns = np.flatnonzero(np.diff(np.signbit(np.diff(wave[cycle]))))
        assert 3 <= len(turns) <= 5


# --- artefacts ----------------------------------------------------------------------------------------------


def test_a_blink_is_positive_and_the_lid_closes_faster_than_it_opens():
    for _, wave, _, _ in waves("blink"):
        before, after = main_phase(wave, 0.5)
        assert wave.min() >= 0 and before < 0.85 * after


def test_eyes_move_slowly_in_drowsiness_and_jump_in_rem_sleep():
    for _, wave, hz, _ in waves("slow_eye_movement"):
        assert 0.25 <= hz <= 0.5 and share_below(wave, 1.0) > 0.95
    directions = set()
    for t, wave, _, _ in waves("rapid_eye_movement"):
        peak = np.abs(wave).argmax()
        directions.add(np.sign(wave[peak]))
        below = np.flatnonzero(np.abs(wave[:peak]) < 0.1 * np.abs(wave).max())
        assert t[peak] - t[below[-1]] < 0.12
        assert np.abs(wave[peak:]).mean() > 0.3 * np.abs(wave).max()  # held
    assert directions == {-1, 1}


def test_a_pop_is_a_step_that_discharges():
    for t, wave, _, _ in waves("electrode_pop"):
        assert t[np.abs(wave).argmax()] <= 0.012
        assert (np.abs(np.diff(wave)) > 0.02 * np.abs(wave).max()).sum() <= 25


def test_muscles_are_fast_and_sweat_is_slow():
    assert all(share_below(wave, 15.0) < 0.1 for _, wave, _, _ in waves("muscle"))
    assert all(share_below(wave, 1.0) > 0.95 for _, wave, _, _ in waves("sweat"))
    assert all(share_below(wave, 8.0) > 0.5 for _, wave, _, _ in waves("movement"))


def test_chewing_is_muscle_once_or_twice_a_second():
    for _, wave, _, _ in waves("chewing"):
        assert share_below(wave, 15.0) < 0.1
        assert 0.9 <= peak_hz(wave**2, 0.7, 2.5) <= 2.1


def test_a_heartbeat_has_its_r_wave_at_zero():
    t = np.arange(-0.35, 0.5, 1 / SFREQ)
    wave = waveforms.heartbeat(t)
    assert abs(t[wave.argmax()]) < 0.005 and wave.max() == pytest.approx(1, abs=0.06)
    assert 0.2 < t[(t > 0.1) & (t < 0.45)][wave[(t > 0.1) & (t < 0.45)].argmax()] < 0.3  # T
