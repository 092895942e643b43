"""What the brain does all the time, against the figures of physiology.py and a real recording."""

import dataclasses

import numpy as np
import pytest
from scipy.signal import welch

from data_tools.simulator import physiology
from data_tools.simulator.background import (
    Scene,
    _cortex,
    add_background,
    cortical_covariance,
    noise_share,
    rhythm_fields,
    stage_noise_psd,
)
from data_tools.simulator.head import LEAD_POSITIONS, Head, SkullDefect, lead_positions
from siamese_jax.vocabulary import LEADS_29, STAGES, TEN_TWENTY
from tests.data_tools.simulator.scenes import SFREQ, night_of, profile

EEG = LEADS_29[:23]


def typical():
    """A median adult without a hole in the skull."""
    own = profile()
    return dataclasses.replace(
        own,
        age_years=30.0,
        head=Head(),
        amplitude=1.0,
        exponent_shift=0.0,
        stage_gain=dict.fromkeys(STAGES, 1.0),
        rhythm_gain={rhythm.name: float(rhythm.name != "youth") for rhythm in physiology.RHYTHMS},
        slow_wave_uv=65.0,
    )


def background(stage, *, minutes=10, patient=None, seed=0, ch_names=TEN_TWENTY):
    hypnogram = (stage,) * (2 * minutes)
    signals = np.zeros((len(ch_names), round(minutes * 60 * SFREQ)), np.float32)
    scene = Scene(signals, SFREQ, ch_names, hypnogram, patient or typical())
    add_background(scene, night_of(hypnogram), np.random.default_rng(seed))
    return signals.astype(float)


@pytest.fixture(scope="module")
def backgrounds():
    """Ten minutes of background alone in each stage."""
    return {stage: background(stage) for stage in STAGES}


def spectra(signals):
    return welch(signals, SFREQ, nperseg=1024)


def average(signals):
    return signals - signals.mean(0)


def band(signals, low, high):
    frequency, density = spectra(signals)
    return density[:, (frequency >= low) & (frequency < high)].sum(1) * frequency[1]


def lead(name):
    return TEN_TWENTY.index(name)


# --- spectra ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_the_noise_falls_as_the_stage_says(stage):
    frequency = np.arange(0, 100, 0.125)
    density = stage_noise_psd(typical(), stage, frequency)
    wanted = (frequency >= 4) & (frequency <= 10)
    slope, _ = np.polyfit(np.log(frequency[wanted]), np.log(density[wanted]), 1)
    assert abs(-slope - physiology.EXPONENT[stage]) < 0.25
    faster = (frequency >= 20) & (frequency <= 40)
    steeper, _ = np.polyfit(np.log(frequency[faster]), np.log(density[faster]), 1)
    assert steeper < slope - 0.5 and density[0] == 0


def test_the_deeper_the_sleep_the_steeper_the_spectrum_and_the_larger_the_eeg(backgrounds):
    def slope(stage):
        frequency, density = spectra(average(backgrounds[stage]))
        wanted = (frequency >= 2.5) & (frequency <= 30) & ((frequency < 7) | (frequency > 16))
        return np.polyfit(np.log(frequency[wanted]), np.log(density.mean(0)[wanted]), 1)[0]

    assert slope("W") > slope("N1") > slope("N2") > slope("N3")
    assert -2.2 < slope("W") < -1.2 and -3.3 < slope("N3") < -2.3  # DREAMS 2 and 4, EEGLAB: -1.1 to -1.6, -2.4 to -2.7
    size = {stage: backgrounds[stage].std() for stage in STAGES}
    assert size["N3"] > 1.5 * size["N2"] > 1.5 * size["N1"]


@pytest.mark.parametrize("stage", ["W", "N1", "R"])
def test_background_has_the_size_that_the_stage_says(backgrounds, stage):
    power = backgrounds[stage].var(1).mean()
    asked = (
        typical().rms_uv(stage) ** 2 * (1 + physiology.REFERENCE_SHARE * noise_share(stage))
        + physiology.ELECTRODE_UV**2
    )
    assert power == pytest.approx(asked, rel=0.3)


# --- rhythms ------------------------------------------------------------------------------------------------


def test_alpha_is_posterior_of_wakefulness_and_at_the_patients_own_frequency(backgrounds):
    frequency, awake = spectra(backgrounds["W"])
    alpha = (frequency >= 7.5) & (frequency <= 13.5)
    for name in ("O1", "O2"):
        peak = frequency[alpha][awake[lead(name), alpha].argmax()]
        assert abs(peak - typical().rhythms_hz["alpha"]) < 0.8
    in_band, beside = band(backgrounds["W"], 8, 13), band(backgrounds["W"], 14, 19)
    assert in_band[lead("O1")] > 6 * beside[lead("O1")]
    assert in_band[lead("O1")] > 2 * in_band[lead("Fp1")]
    asleep = band(backgrounds["N3"], 8, 13) / band(backgrounds["N3"], 4, 8)
    assert (in_band / band(backgrounds["W"], 4, 8))[lead("O1")] > 4 * asleep[lead("O1")]
    assert 5 < np.sqrt(in_band[lead("O1")]) < 30  # 20-60 uV from peak to peak or so


def test_alpha_waxes_and_wanes(backgrounds):
    spectrum = np.abs(np.fft.rfft(backgrounds["W"][lead("O1")].reshape(-1, round(2 * SFREQ)), axis=1)) ** 2
    alpha = spectrum[:, 16:27].sum(1)  # 8-13 Hz
    assert np.std(np.log(alpha)) > 0.7


def test_alpha_quickens_through_childhood_and_slows_in_old_age():
    hertz = [physiology.alpha_hz(age) for age in (3, 9, 30, 80)]
    assert hertz[0] < hertz[1] < hertz[2] > hertz[3] and 7.5 < min(hertz) and max(hertz) < 10.5


def test_a_youths_posterior_slow_waves():
    young = dataclasses.replace(typical(), rhythm_gain={**typical().rhythm_gain, "youth": 2.0})
    with_waves, without = (band(background("W", patient=one, minutes=5), 2.5, 4.5) for one in (young, typical()))
    extra = with_waves - without
    assert extra[lead("O1")] > 0.4 * without[lead("O1")] and extra[lead("O1")] > 3 * extra[lead("Fz")]


def test_rhythms_have_the_share_of_power_that_was_asked_for():
    for rhythm in physiology.RHYTHMS:
        assert (rhythm_fields(rhythm, TEN_TWENTY) ** 2).sum(1).mean() == pytest.approx(1.0)


# --- slow waves ---------------------------------------------------------------------------------------------


def test_slow_waves_are_frontal_of_deep_sleep_and_large(backgrounds):
    slow = {stage: band(backgrounds[stage], 0.5, 2) for stage in ("W", "N2", "N3")}
    assert slow["N3"].mean() > 3 * slow["N2"].mean() > 3 * slow["W"].mean()
    assert slow["N3"][lead("Fz")] > 1.3 * slow["N3"][lead("O1")]
    fz = backgrounds["N3"][lead("Fz")].reshape(-1, round(30 * SFREQ))
    over_75 = (np.ptp(fz.reshape(-1, round(2 * SFREQ)), axis=1) > 75).mean()
    assert over_75 > 0.5  # N3 asks for such waves in a fifth of an epoch


def test_slow_waves_differ_in_size_point_downwards_and_travel(backgrounds):
    smooth = np.real(np.fft.ifft(np.fft.fft(backgrounds["N3"]) * (np.abs(np.fft.fftfreq(600 * 256, 1 / 256)) < 4)))
    fz = smooth[lead("Fz")]
    assert (fz**3).mean() / (fz**2).mean() ** 1.5 < -0.2
    assert (fz**4).mean() / (fz**2).mean() ** 2 > 3.2
    lags = range(-40, 41)
    front, back = average(smooth)[lead("Fp1")], average(smooth)[lead("Cz")]
    best = max(lags, key=lambda lag: np.dot(np.roll(front, lag), back))
    assert best >= 0


# --- space --------------------------------------------------------------------------------------------------


def by_angle(correlation, names, edges):
    points = lead_positions(names)
    upper = np.triu_indices(len(names), 1)
    degrees, values = np.degrees(np.arccos(np.clip(points @ points.T, -1, 1)))[upper], correlation[upper]
    return [values[(degrees >= low) & (degrees < high)].mean() for low, high in zip(edges, edges[1:], strict=False)]


def test_correlation_falls_with_distance_as_in_the_eeglab_sample(backgrounds):
    """Measured in the first half of the sample, awake, 1-30 Hz, in the 15 leads that it shares with ours."""
    names = tuple(name for name in TEN_TWENTY if name not in ("Fp1", "Fp2", "F7", "F8"))
    leads = [lead(name) for name in names]
    edges = (20, 55, 70, 100, 130, 180)
    awake = backgrounds["W"][leads]
    np.testing.assert_allclose(by_angle(np.corrcoef(awake), names, edges), (0.81, 0.68, 0.46, 0.28, 0.17), atol=0.17)
    against_mean = by_angle(np.corrcoef(average(awake)), names, edges)
    np.testing.assert_allclose(against_mean, (0.51, 0.13, -0.31, -0.46, -0.44), atol=0.12)


@pytest.mark.parametrize("name", ["slow", "middle", "fast"])
def test_the_cortex_is_symmetric_and_its_covariance_is_one(name):
    covariance = cortical_covariance(EEG, name)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
    assert np.diag(covariance)[:19].mean() == pytest.approx(1.0)
    left, right = EEG.index("F3"), EEG.index("F4")
    assert covariance[left, left] == pytest.approx(covariance[right, right], rel=0.05)
    np.testing.assert_allclose(cortical_covariance(TEN_TWENTY, name), covariance[:19, :19])


def test_every_place_of_the_cortex_has_a_normal_and_two_tangents():
    triads = np.stack(_cortex(), axis=1)
    np.testing.assert_allclose(triads @ triads.transpose(0, 2, 1), np.tile(np.eye(3), (len(triads), 1, 1)), atol=1e-12)
    assert len(triads) > 300 and triads[:, 0, 2].min() < -0.3


def test_slow_activity_reaches_further_than_fast():
    def reach(name):
        covariance = cortical_covariance(TEN_TWENTY, name)
        return covariance[lead("C3"), lead("F3")] / np.sqrt(
            covariance[lead("C3"), lead("C3")] * covariance[lead("F3"), lead("F3")]
        )

    assert reach("slow") > reach("middle") > reach("fast")


def test_ears_and_nasopharynx_see_the_temporal_lobe():
    signals = background("W", minutes=4, ch_names=EEG)
    correlation = np.corrcoef(average(signals))
    for ear, near, far in (("A1", "T3", "T4"), ("A2", "T4", "T3")):
        assert correlation[EEG.index(ear), EEG.index(near)] > correlation[EEG.index(ear), EEG.index(far)] + 0.5


def test_a_hole_in_the_skull_lets_more_through_of_what_is_fast():
    broken = dataclasses.replace(typical(), head=Head(defect=SkullDefect(LEAD_POSITIONS["C3"], gain=3.0)))
    plain, open_skull = (background("W", minutes=4, patient=patient) for patient in (typical(), broken))
    for low, high, least, most in ((1, 3, 3.0, 6.0), (15, 30, 5.0, 11.0)):
        ratio = band(average(open_skull), low, high) / band(average(plain), low, high)
        assert least < ratio[lead("C3")] / ratio[lead("T4")] < most
        assert ratio.argmax() == lead("C3") and ratio[lead("T4")] < 1.4


# --- time ---------------------------------------------------------------------------------------------------


def test_stages_glide_into_one_another():
    hypnogram = ("W", "W", "N3", "N3")
    signals = np.zeros((19, round(120 * SFREQ)), np.float32)
    add_background(
        Scene(signals, SFREQ, TEN_TWENTY, hypnogram, typical()), night_of(hypnogram), np.random.default_rng(3)
    )
    power = (signals.astype(float) ** 2).mean(0).reshape(60, -1).mean(1)  # of 2 s each
    assert power[32:].mean() > 3 * power[:28].mean()
    steps = np.diff(signals, axis=1)
    transition = slice(round(50 * SFREQ), round(70 * SFREQ))
    assert np.abs(steps[:, transition]).max() < 8 * steps[:, round(70 * SFREQ) :].std()


def test_the_level_drifts_within_a_stage_and_patients_differ(backgrounds):
    epochs = np.diff(backgrounds["N2"])[:, : 149 * 1024].reshape(19, 149, 1024).std(2).mean(0)[:148]
    slowly = epochs.reshape(-1, 4).mean(1)
    assert 0.04 < np.log(slowly).std() < 0.4
    levels = [np.log(profile(seed=seed).rms_uv("N2")) for seed in range(200)]
    assert 0.25 < np.std(levels) < 0.5  # 2 to 4 dB
