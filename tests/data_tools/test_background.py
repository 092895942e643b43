"""What goes on all the time, against the figures of physiology.py and a real recording."""

import numpy as np
import pytest
from scipy.signal import welch

from data_tools import physiology
from data_tools.background import BLOCK_SECONDS, Scene, add_background, background_rms_uv
from siamese_jax.vocabulary import POSITIONS, STAGES, TEN_TWENTY
from tests.data_tools.scenes import SFREQ, profile, silent_scene


@pytest.fixture(scope="module")
def backgrounds():
    """Twelve minutes of background alone in each stage."""
    scenes = {}
    for stage in STAGES:
        scenes[stage] = silent_scene(stage, minutes=12)
        add_background(scenes[stage], np.random.default_rng(0))
    return scenes


def spectra(scene):
    return welch(scene.signals, SFREQ, nperseg=1024)


@pytest.mark.parametrize("stage", STAGES)
def test_noise_falls_as_the_stage_says(backgrounds, stage):
    frequency, density = spectra(backgrounds[stage])
    patient = backgrounds[stage].profile
    wanted = (frequency >= 2.5) & (frequency <= 32)
    for rhythm in physiology.RHYTHMS:
        if stage in rhythm.share:
            wanted &= np.abs(frequency - patient.rhythm_hz(rhythm.name)) > 2.5 * rhythm.width_hz
    far_from_rhythms = density[[TEN_TWENTY.index(name) for name in ("Fp1", "Fp2", "T3", "T4")]].mean(0)
    slope, _ = np.polyfit(np.log(frequency[wanted]), np.log(far_from_rhythms[wanted]), 1)
    assert abs(-slope - physiology.EXPONENT[stage]) < 0.3


@pytest.mark.parametrize("stage", STAGES)
def test_background_has_the_size_that_the_stage_says(backgrounds, stage):
    scene = backgrounds[stage]
    power = scene.signals.astype(float).var(axis=1) - physiology.REFERENCE_UV**2
    low, high = physiology.RMS_UV[stage]
    assert 0.93 * low < np.sqrt(power.mean()) < 1.07 * high
    np.testing.assert_allclose(np.sqrt(power), background_rms_uv(scene.profile, stage, TEN_TWENTY), rtol=0.12)


def test_alpha_is_occipital_and_of_wakefulness(backgrounds):
    frequency, awake = spectra(backgrounds["W"])
    _, deep = spectra(backgrounds["N3"])
    alpha, beside = (frequency >= 8) & (frequency <= 13), (frequency >= 14) & (frequency <= 17)
    for name in ("O1", "O2"):
        lead = TEN_TWENTY.index(name)
        assert abs(frequency[alpha][awake[lead, alpha].argmax()] - profile().rhythm_hz("alpha")) < 0.6
        assert awake[lead, alpha].max() > 8 * awake[lead, beside].mean()
        assert deep[lead, alpha].max() < 8 * deep[lead, beside].mean()
        assert 5 < np.sqrt(awake[lead, alpha].sum() * frequency[1]) < 40  # 20-60 uV are rms times about 2 or 3
    frontal = awake[TEN_TWENTY.index("Fp1"), alpha].sum()
    assert awake[TEN_TWENTY.index("O1"), alpha].sum() > 3 * frontal


def test_delta_is_frontal_and_of_deep_sleep(backgrounds):
    def delta(stage):
        frequency, density = spectra(backgrounds[stage])
        return density[:, (frequency >= 0.5) & (frequency <= 2)].sum(1)

    assert delta("N3").mean() > 5 * delta("N2").mean() > 5 * delta("W").mean()
    assert delta("N3")[TEN_TWENTY.index("Fz")] > 1.3 * delta("N3")[TEN_TWENTY.index("O1")]


def test_correlation_falls_with_distance_as_in_the_eeglab_sample(backgrounds):
    correlation = np.corrcoef(backgrounds["W"].signals)  # the sample: awake
    points = np.array([POSITIONS[name] for name in TEN_TWENTY])
    distance = np.hypot(*(points[:, None] - points).transpose(2, 0, 1))
    for (low, high), measured in (((0.3, 0.6), 0.83), ((0.9, 1.2), 0.45), ((1.6, 2.0), 0.11)):
        assert abs(correlation[(distance > low) & (distance <= high)].mean() - measured) < 0.12


def test_power_is_steady_across_blocks(backgrounds):
    hop = round(BLOCK_SECONDS / 2 * SFREQ)
    signals = backgrounds["W"].signals
    blocks = signals[:, : signals.shape[1] // hop * hop].reshape(19, -1, 8, hop // 8)
    power = (blocks.astype(float) ** 2).mean(axis=(0, 1, 3))  # by place within a block
    assert power.max() / power.min() < 1.2


def test_stages_glide_into_one_another():
    patient = profile()
    signals = np.zeros((19, round(120 * SFREQ)), np.float32)
    add_background(Scene(signals, SFREQ, TEN_TWENTY, ("W", "W", "N3", "N3"), patient), np.random.default_rng(3))
    power = (signals.astype(float) ** 2).mean(0).reshape(60, -1).mean(1)  # of 2 s each
    assert power[40:].mean() > 4 * power[:20].mean()
    steps = np.diff(signals, axis=1)
    transition = slice(round(50 * SFREQ), round(70 * SFREQ))
    assert np.abs(steps[:, transition]).max() < 6 * steps[:, round(70 * SFREQ) :].std()
