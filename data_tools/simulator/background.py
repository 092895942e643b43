"""What the brain does all the time: 1/f noise, rhythms and slow waves, from sources in the cortex.

The cortex is a sphere of current dipoles, radial and tangential, which are alike near one another. As everything
there is Gaussian, the leads' covariance through the head's lead field says it all: `cortical_covariance`. Rhythms
come from patches of cortex. Slow waves of deep sleep are no noise: they come one by one, travel, and differ in size.

A skull defect magnifies what the leads over it see, with the frequency of each source.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from data_tools.simulator import physiology
from data_tools.simulator.head import CORTEX_DEPTH_CM, HEAD_RADIUS_CM, LEAD_POSITIONS, SCALP_LEADS, Head, lead_positions
from data_tools.simulator.hypnogram import Night
from data_tools.simulator.noise import BLOCK_SECONDS, Blocks, NoiseSource, Signals, add_noise, unit_power, wander
from data_tools.simulator.onsets import EPOCH_SECONDS
from data_tools.simulator.patches import Patch, field
from data_tools.simulator.patients import PatientProfile
from siamese_jax.vocabulary import STAGES

WHOLE = Head()
MIDDLE_HZ = {"slow": 2.0, "middle": 8.0, "fast": 20.0}
"""Of the noise's bands, for a skull defect."""


@dataclass(frozen=True)
class Scene:
    """The EEG leads of a recording under way, in microvolts and changed in place; and who and when it is."""

    signals: Signals
    sfreq: float
    ch_names: tuple[str, ...]
    hypnogram: tuple[str, ...]
    profile: PatientProfile

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.signals.shape[1] / self.sfreq

    def stage(self, seconds: float) -> str:
        """The stage at a moment."""
        return self.hypnogram[min(int(seconds / EPOCH_SECONDS), len(self.hypnogram) - 1)]


def add_background(scene: Scene, night: Night, rng: np.random.Generator) -> None:
    """Add noise, rhythms, slow waves, and what electrodes and reference add, by the stages of each moment."""
    profile, ch_names = scene.profile, scene.ch_names
    blocks = Blocks.of(scene.signals.shape[1], scene.sfreq)
    frequency, n_blocks = blocks.frequency_hz, len(blocks.centres)
    weights = night.weights(blocks.centres, BLOCK_SECONDS / 2)
    drift = weights @ np.array([physiology.DRIFT[stage] for stage in STAGES])
    level = np.exp(2 * drift * (wander(n_blocks, 40, rng) + wander(n_blocks, 5, rng)) / np.sqrt(2))
    steeper = physiology.EXPONENT_DRIFT * wander(n_blocks, 40, rng)
    noise_psd = np.stack([stage_noise_psd(profile, stage, frequency) for stage in STAGES])
    # Between two stages the noise lies between theirs; rhythms come and go, so that their powers mix.
    noise = np.exp(weights @ np.log(np.maximum(noise_psd, 1e-12))) * level[:, None]
    noise *= (np.maximum(frequency, 0.5) / 4.0) ** -steeper[:, None]
    sources = []
    for band, share in _band_shares(frequency).items():
        mixing = _breached(_mixing(ch_names, band), profile, ch_names, MIDDLE_HZ[band])
        own = np.exp(2 * physiology.BAND_DRIFT * wander(n_blocks, 5, rng))
        sources.append(NoiseSource(mixing, noise * own[:, None] * share, physiology.BURSTS[band]))
    for rhythm in physiology.RHYTHMS:
        swelling = np.exp(rhythm.swelling * wander(n_blocks, 4, rng) - rhythm.swelling**2)
        psd = np.stack([_rhythm_psd(profile, rhythm, stage, frequency) for stage in STAGES])
        if psd.any():
            fields = _breached(rhythm_fields(rhythm, ch_names), profile, ch_names, profile.rhythms_hz[rhythm.name])
            powers = weights * (level * swelling**2)[:, None]
            sources.append(NoiseSource(fields, powers @ psd, rhythm.bursts))
    sources.append(NoiseSource(np.ones((len(ch_names), 1)), physiology.REFERENCE_SHARE * noise))
    own = physiology.ELECTRODE_UV**2 * unit_power(1 / np.maximum(frequency, 0.5), frequency)
    sources.append(NoiseSource(np.eye(len(ch_names)), np.tile(own, (n_blocks, 1))))
    add_noise(scene.signals, sources, blocks, rng)
    _add_slow_waves(scene, night, rng)


def stage_noise_psd(
    profile: PatientProfile, stage: str, frequency: Float[np.ndarray, "freq"]
) -> Float[np.ndarray, "freq"]:
    """Power spectral density of the 1/f^beta noise in a stage, the mean over the scalp, in microvolts^2 / Hz.

    Falls as f^-beta between the stage's knee and the soft low-pass.
    """
    beta, knee = physiology.EXPONENT[stage] + profile.exponent_shift, physiology.KNEE_HZ[stage]
    f = np.maximum(frequency, 1e-3)
    highpass = 1 + (physiology.HIGHPASS_HZ / f) ** 4
    steeper = 1 + (f / physiology.FAST_KNEE_HZ) ** (2 * physiology.FAST_STEEPENING[stage])
    shape = 1 / (knee**beta + f**beta) / np.sqrt(steeper) / highpass / (1 + (f / physiology.LOWPASS_HZ) ** 2)
    return profile.rms_uv(stage) ** 2 * noise_share(stage) * unit_power(shape, frequency)


def noise_share(stage: str) -> float:
    """What the rhythms that people of every age have leave to the noise of the background's power in a stage."""
    return 1 - sum(r.share.get(stage, 0.0) for r in physiology.RHYTHMS if r.ages == physiology.EVERY_AGE)


def rhythm_fields(rhythm: physiology.Rhythm, ch_names: tuple[str, ...]) -> Float[np.ndarray, "chan generator"]:
    """Fields of a rhythm's independent generators, scaled to a mean power of 1 over the scalp electrodes."""
    names = (*ch_names, *SCALP_LEADS)
    fields = np.stack([field(site, WHOLE, names, shift=np.zeros(3)) for site in rhythm.sites], axis=1)
    return fields[: len(ch_names)] / np.sqrt((fields[len(ch_names) :] ** 2).sum(1).mean())


@lru_cache
def cortical_covariance(ch_names: tuple[str, ...], band: str) -> Float[np.ndarray, "chan chan"]:
    """Covariance of EEG leads that a band's noise in the cortex gives, of mean variance 1 over the scalp electrodes."""
    names = (*ch_names, *SCALP_LEADS)
    places, first, second = _cortex()
    alike = np.arccos(np.clip(places @ places.T, -1, 1)) / np.radians(physiology.COHERENCE_DEGREES[band])
    strength = 1 + physiology.FRONTAL_GAIN[band] * places[:, 1]
    sources = np.exp(-(alike**2)) * np.outer(strength, strength)
    covariance = np.zeros((len(names), len(names)))
    for moments, power in ((places, 1.0), (first, physiology.TANGENTIAL_SHARE), (second, physiology.TANGENTIAL_SHARE)):
        lead_field = WHOLE.lead_field(places * (1 - CORTEX_DEPTH_CM / HEAD_RADIUS_CM), moments, names)
        covariance += power * lead_field @ sources @ lead_field.T
    n = len(ch_names)
    return covariance[:n, :n] / np.diag(covariance)[n:].mean()


def _cortex() -> tuple[Float[np.ndarray, "source 3"], Float[np.ndarray, "source 3"], Float[np.ndarray, "source 3"]]:
    """Directions of places spread evenly over the cortex, and two tangents at each. It ends at its temporal base."""
    k = np.arange(700) + 0.5
    z, turn = 1 - 2 * k / len(k), k * np.pi * (3 - np.sqrt(5))
    sphere = np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], axis=1)
    places = sphere[z > -0.35]
    first = np.cross(places, (0.0, 0.6, -0.8))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return places, first, np.cross(places, first)


def _mixing(ch_names: tuple[str, ...], band: str) -> Float[np.ndarray, "chan generator"]:
    covariance = cortical_covariance(ch_names, band)
    return np.linalg.cholesky(covariance + 1e-4 * np.eye(len(covariance)))


def _band_shares(frequency: Float[np.ndarray, "freq"]) -> dict[str, Float[np.ndarray, "freq"]]:
    """How much of the noise's power belongs to each band; they blend over an octave and sum to 1."""
    low, high = (1 / (1 + (np.maximum(frequency, 1e-3) / edge) ** 4) for edge in physiology.BAND_EDGES_HZ)
    return {"slow": low, "middle": high - low, "fast": 1 - high}


def _rhythm_psd(
    profile: PatientProfile, rhythm: physiology.Rhythm, stage: str, frequency: Float[np.ndarray, "freq"]
) -> Float[np.ndarray, "freq"]:
    power = rhythm.share.get(stage, 0.0) * profile.rhythm_gain[rhythm.name] * profile.rms_uv(stage) ** 2
    peak = np.exp(-0.5 * ((frequency - profile.rhythms_hz[rhythm.name]) / rhythm.width_hz) ** 2)
    return power * unit_power(peak, frequency)


def _breached(
    fields: Float[np.ndarray, "chan generator"], profile: PatientProfile, ch_names: tuple[str, ...], hertz: float
) -> Float[np.ndarray, "chan generator"]:
    return fields * profile.head.breach_gain(ch_names, np.array([hertz]))


def _add_slow_waves(scene: Scene, night: Night, rng: np.random.Generator) -> None:
    """Slow oscillations: negative, then positive; each from a place and of a size of its own, travelling."""
    per_minute = np.array([physiology.SLOW_WAVES_PER_MINUTE.get(stage, 0.0) for stage in STAGES])
    bouts = np.exp(0.7 * wander(len(night.seconds_weights), 12, rng) - 0.7**2 / 2)
    rates = night.seconds_weights**1.5 @ per_minute * bouts
    seconds = np.repeat(np.arange(len(rates)), rng.poisson(rates / 60))
    fields = _slow_wave_fields(scene.ch_names) * scene.profile.head.breach_gain(scene.ch_names, np.array([1.0]))
    points = lead_positions(scene.ch_names)
    for second in seconds:
        site = int(rng.integers(fields.shape[1]))
        centre = second + rng.uniform()
        size = scene.profile.slow_wave_uv * np.exp(physiology.SLOW_WAVE_SPREAD * rng.standard_normal())
        origin = np.array(LEAD_POSITIONS[physiology.SLOW_WAVE_SITES[site][0]])
        distance = HEAD_RADIUS_CM / 100 * np.arccos(np.clip(points @ origin, -1, 1))
        delays = distance / physiology.SLOW_WAVE_SPEED.draw(rng)
        negative, positive = (r.draw(rng) for r in (physiology.SLOW_WAVE_NEGATIVE, physiology.SLOW_WAVE_POSITIVE))
        gain = physiology.SLOW_WAVE_POSITIVE_GAIN.draw(rng)
        start = max(int((centre - negative) * scene.sfreq), 0)
        stop = min(int((centre + delays.max() + negative + 1.5 * positive) * scene.sfreq), scene.signals.shape[1])
        t = np.arange(start, stop) / scene.sfreq - centre - delays[:, None]
        # Gaussian halves, whose width at a tenth of the height is the half-wave's length.
        wave = -np.exp(-0.5 * (t / (negative / 4.3)) ** 2)
        wave += gain * np.exp(-0.5 * ((t - (negative + positive) / 2) / (positive / 4.3)) ** 2)
        scene.signals[:, start:stop] += (size * fields[:, site])[:, None] * wave


@lru_cache
def _slow_wave_fields(ch_names: tuple[str, ...]) -> Float[np.ndarray, "chan site"]:
    sites = [(Patch(leads, physiology.SLOW_WAVE_CM),) for leads in physiology.SLOW_WAVE_SITES]
    return np.stack([field(site, WHOLE, ch_names, shift=np.zeros(3)) for site in sites], axis=1)
