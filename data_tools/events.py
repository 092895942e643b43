"""What happens now and then: transients, mimics, artefacts and IEDs, added to the background in place."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from data_tools import physiology, waveforms
from data_tools.background import EPOCH_SECONDS, Scene, background_rms_uv, field
from data_tools.patients import IedProfile
from data_tools.physiology import Pole, Transient

EDGE_SECONDS = 0.5
"""No event begins or ends nearer to an end of the recording."""
RUN_SECONDS = 1.0
"""From this duration on, a train of spike-and-wave complexes is one event; below, each complex is one."""


class Event(NamedTuple):
    """Something that was put into a recording. A single IED's peak lies in the middle of its interval."""

    kind: str
    onset_seconds: float
    duration_seconds: float
    channel: str  # of the largest amplitude
    amplitude_uv: float  # baseline to peak at that channel, unsigned
    snr: float  # amplitude over the background's RMS at that channel in that stage
    stage: str


def add_transients(
    scene: Scene, transient: Transient, per_minute: Mapping[str, float], rng: np.random.Generator
) -> list[Event]:
    """Add every occurrence of one kind of transient; `per_minute` by stage."""
    events = []
    rms = {stage: background_rms_uv(scene.profile, stage, scene.ch_names) for stage in per_minute}
    for onset in _onsets(scene, per_minute, rng, gap=transient.duration.high):
        stage = scene.stage(onset)
        duration = transient.duration.draw(rng)
        amplitude = transient.amplitude_uv.draw(rng)
        frequency = transient.frequency_hz.draw(rng)
        topography = _topography(transient, scene.ch_names, rng)
        start, stop = np.ceil(np.array([onset, onset + duration]) * scene.sfreq).astype(int)
        t = np.arange(start, stop) / scene.sfreq - onset
        wave = transient.shape(t, frequency, duration, rng)
        scene.signals[:, start:stop] += np.outer(topography, wave * (amplitude / np.abs(wave).max()))
        peak = int(np.abs(topography).argmax())
        about = (scene.ch_names[peak], amplitude, float(amplitude / rms[stage][peak]), stage)
        events.append(Event(transient.text, onset, duration, *about))
    return events


def add_ieds(scene: Scene, ied: IedProfile, rng: np.random.Generator) -> list[Event]:
    """Add a patient's IEDs, single or, if generalised, in runs of spike-and-wave."""
    events = []
    topography = field((Pole(*ied.centre, ied.sigma),), scene.ch_names)
    topography = topography / topography.max()
    peak_lead = int(topography.argmax())
    points = np.array([physiology.position(name) for name in scene.ch_names])
    delays = ied.propagation_seconds * np.hypot(*(points - ied.centre).T)
    delays -= delays[peak_lead]
    lead = scene.ch_names[peak_lead]
    rms = {stage: float(background_rms_uv(scene.profile, stage, (lead,))[0]) for stage in ied.per_minute}
    generalized = ied.region == "generalized"
    for first_peak in _onsets(scene, ied.per_minute, rng, gap=4.0 if generalized else 1.0):
        stage = scene.stage(first_peak)
        n_complexes = int(physiology.RUN_COMPLEXES[stage].draw(rng) + 0.5) if generalized else 1
        peaks = first_peak + np.arange(n_complexes) / physiology.RUN_HZ.draw(rng)
        snr = max(ied.snr * np.exp(physiology.SNR_SIGMA_EVENT * rng.standard_normal()), physiology.LOWEST_SNR)
        amplitude = float(np.clip(rms[stage] * snr, *physiology.IED_AMPLITUDE_UV))
        sharp = ied.sharp_seconds * float(np.exp(0.1 * rng.standard_normal()))
        for peak in peaks:
            _add_discharge(scene, ied, amplitude * topography, peak + delays, sharp, rng)
        kind = f"IED {ied.kind}"
        about = (lead, amplitude, amplitude / rms[stage], stage)
        run = float(peaks[-1] - peaks[0]) + sharp
        if run >= RUN_SECONDS:
            events.append(Event(kind, first_peak - sharp / 2, run, *about))
        else:
            events += [Event(kind, float(peak - sharp / 2), sharp, *about) for peak in peaks]
    return events


def _add_discharge(
    scene: Scene,
    ied: IedProfile,
    amplitude_uv: Float[np.ndarray, "chan"],
    peaks: Float[np.ndarray, "chan"],
    sharp_seconds: float,
    rng: np.random.Generator,
) -> None:
    """One discharge, with a peak time of its own at each lead; it damps the background (criterion 5)."""
    wave_seconds = ied.after_wave_seconds * rng.uniform(0.9, 1.1)
    gain = physiology.DISRUPTION_GAIN.draw(rng)
    disrupted = physiology.DISRUPTION_SECONDS.draw(rng)
    start = int((peaks.min() - 2 * sharp_seconds) * scene.sfreq)
    stop = int((peaks.max() + 0.2 + max(wave_seconds, disrupted)) * scene.sfreq)
    stop = min(stop, scene.signals.shape[1])
    t = np.arange(start, stop) / scene.sfreq - peaks[:, None]
    piece = scene.signals[:, start:stop]
    field_share = (amplitude_uv / amplitude_uv.max())[:, None]
    piece *= 1 - (1 - gain) * field_share * waveforms.half_sine((t + 0.02) / (disrupted + 0.04)) ** 0.5
    piece += amplitude_uv[:, None] * waveforms.epileptiform(
        t,
        rise=sharp_seconds * ied.rise_share,
        fall=sharp_seconds * (1 - ied.rise_share),
        shoulder=physiology.SHOULDER_SECONDS.draw(rng),
        wave=wave_seconds,
        wave_gain=ied.after_wave_gain * rng.uniform(0.85, 1.15),
    )


def _onsets(scene: Scene, per_minute: Mapping[str, float], rng: np.random.Generator, *, gap: float) -> list[float]:
    """Onsets of a Poisson process at the stages' rates, less those within `gap` of the one before."""
    rates = np.array([per_minute.get(stage, 0.0) for stage in scene.hypnogram])
    counts = rng.poisson(rates * EPOCH_SECONDS / 60)
    epochs = np.repeat(np.arange(len(rates)), counts)
    onsets = np.sort((epochs + rng.uniform(size=len(epochs))) * EPOCH_SECONDS)
    kept: list[float] = []
    for onset in onsets:
        last = kept[-1] + gap if kept else EDGE_SECONDS
        if last <= onset <= scene.seconds - gap - EDGE_SECONDS:
            kept.append(float(onset))
    return kept


def _topography(transient: Transient, ch_names: tuple[str, ...], rng: np.random.Generator) -> Float[np.ndarray, "chan"]:
    """A field with its maximum at 1: one of the transient's, moved a little, or one electrode alone."""
    poles = transient.fields[rng.integers(len(transient.fields))]
    if not poles:
        return np.eye(len(ch_names))[rng.integers(len(ch_names))]
    dx, dy = rng.uniform(-transient.jitter, transient.jitter, size=2)
    topography = field([pole._replace(x=pole.x + dx, y=pole.y + dy) for pole in poles], ch_names)
    return topography / np.abs(topography).max()
