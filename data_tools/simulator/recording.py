"""One simulated recording: how it is made and all that is known about it."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32

from data_tools.simulator import body, physiology
from data_tools.simulator.background import Scene, add_background
from data_tools.simulator.events import Event, add_events
from data_tools.simulator.hypnogram import RecordingKind, draw_night
from data_tools.simulator.noise import Signals
from data_tools.simulator.onsets import EPOCH_SECONDS
from data_tools.simulator.patients import PatientProfile
from siamese_jax.recordings.recording import Annotation
from siamese_jax.vocabulary import LEADS_29, TEN_TWENTY, channel_kind

LEADS = {19: TEN_TWENTY, 29: LEADS_29}
SIMULATED = "Simulated recording"
"""The annotation that says so in every file."""
NATURAL_HOURS, SHORT_COMPRESSION = 1.0, 5.0
"""Recordings of an hour or more show sleep as it is; shorter ones, unless told otherwise, five times as fast."""
ALLOWED = {
    "minutes": (0.5, 24 * 60.0),
    "hours": (0.5 / 60, 24.0),
    "sfreq": (100.0, 2000.0),
    "compression": (1.0, 60.0),
    "mains_hz": (1.0, 400.0),
}
"""What may be requested, bounds included (INFERENCE). Nothing here varies over more than a day; long-term EEG is seldom
sampled faster than 2000 Hz; 60 times as fast, a sleep cycle of 90 min is three epochs of 30 s, and there are no stages
to tell apart beyond that; aircraft have mains of 400 Hz."""


@dataclass(frozen=True)
class SimulationConfig:
    """How recordings are made, whoever is recorded."""

    minutes: float = 10.0
    """Length of each recording, 0.5 to 1440; rounded to whole seconds."""
    hours: float | None = None
    """Its length in hours, at most 24; goes before minutes."""
    sfreq: float = 256.0
    """Samples per second: a whole number, 100 to 2000."""
    leads: Literal[19, 29] = 19
    """19 (the 10-20 system) or 29 (with ears, nasopharyngeal leads, ECG and EMG)."""
    recording: RecordingKind = "mixed"
    """A piece of a night, a day record (wake, drowsiness, perhaps a nap), or mixed: either for each patient."""
    compression: float | None = None
    """How many times faster than in nature sleep stages follow one another, 1 to 60; by default 1, a natural night,
    from an hour on, and 5 below."""
    mains_hz: float = 50.0
    """Mains frequency; its residue and harmonics are left out at and above the Nyquist frequency."""

    def __post_init__(self) -> None:
        for name, allowed in (("leads", tuple(LEADS)), ("recording", get_args(RecordingKind))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, given {getattr(self, name)!r}")
        for name, (lowest, highest) in ALLOWED.items():
            given = getattr(self, name)
            if given is not None and not lowest <= given <= highest:
                raise ValueError(f"{name} must be {lowest:g} to {highest:g}, given {given}")
        if self.sfreq != round(self.sfreq):
            raise ValueError(f"sfreq must be a whole number of samples per second, given {self.sfreq}")

    @property
    def ch_names(self) -> tuple[str, ...]:
        """The leads by their standard names, EEG first."""
        return LEADS[self.leads]

    @property
    def seconds(self) -> int:
        """Length of a recording."""
        return round(self.minutes * 60 if self.hours is None else self.hours * 3600)

    @property
    def haste(self) -> float:
        """How many times faster than in nature stages follow one another."""
        if self.compression is not None:
            return self.compression
        return 1.0 if self.seconds >= NATURAL_HOURS * 3600 else SHORT_COMPRESSION


@dataclass(frozen=True)
class SimulatedRecording:
    """One recording with all that is known about it."""

    eeg_uv: Float32[np.ndarray, "time chan"]  # microvolts; each channel is contiguous in memory
    sfreq: float
    ch_names: tuple[str, ...]
    hypnogram: tuple[str, ...]  # a stage per 30-s epoch; the last epoch may be cut short
    events: tuple[Event, ...]  # by onset

    def annotations(self) -> list[Annotation]:
        """Stages (`Sleep stage W`, 30 s each) and events, by onset; and that it is all simulated."""
        seconds = len(self.eeg_uv) / self.sfreq
        marks = [Annotation(0.0, seconds, SIMULATED)]
        for i, stage in enumerate(self.hypnogram):
            onset = i * EPOCH_SECONDS
            marks.append(Annotation(onset, min(EPOCH_SECONDS, seconds - onset), f"Sleep stage {stage}", None))
        marks += [event.mark() for event in self.events]
        return sorted(marks, key=lambda mark: mark.onset_seconds)


def simulate_patient(profile: PatientProfile, config: SimulationConfig, *, seed: int) -> SimulatedRecording:
    """Simulate one recording of a patient (see `draw_profile`): a pure function of its arguments.

    Hypnogram, background, each kind of transient and the IEDs draw from random streams of their own, so that
    taking one kind of event out of `profile` leaves all others as they are.
    """
    ch_names, sfreq = config.ch_names, config.sfreq
    night = draw_night(
        math.ceil(config.seconds / EPOCH_SECONDS),
        kind=config.recording,
        compression=config.haste,
        age_years=profile.age_years,
        rng=_stream(seed, "hypnogram"),
    )
    signals = np.zeros((len(ch_names), config.seconds * round(sfreq)), np.float32)
    n_eeg = sum(channel_kind(name) == "eeg" for name in ch_names)
    scene = Scene(signals[:n_eeg], sfreq, ch_names[:n_eeg], night.hypnogram, profile)
    add_background(scene, night, _stream(seed, "background"))
    tone = {stage: rms * profile.muscle_gain for stage, rms in physiology.SCALP_MUSCLE_UV.items()}
    over_muscles = np.array([physiology.SCALP_MUSCLE_GAIN.get(name, 0.0) for name in scene.ch_names])
    muscles = _stream(seed, "scalp muscles")
    body.add_muscle_tone(scene.signals, tone, lead_gain=over_muscles, sfreq=sfreq, night=night, rng=muscles)
    events = tuple(add_events(scene, lambda name: _stream(seed, name)))
    _add_heart(signals, config, night.hypnogram, seed)
    n_emg = sum(channel_kind(name) == "emg" for name in ch_names)
    if n_emg:  # they come last
        emg, each, limbs = signals[-n_emg:], np.ones(n_emg), _stream(seed, "muscle")
        body.add_muscle_tone(emg, physiology.EMG_RMS_UV, lead_gain=each, sfreq=sfreq, night=night, rng=limbs)
    body.add_mains(signals, sfreq=sfreq, mains_hz=config.mains_hz, rng=_stream(seed, "mains"))
    return SimulatedRecording(signals.T, sfreq, ch_names, night.hypnogram, events)


def _stream(seed: int, name: str) -> np.random.Generator:
    """A random stream of its own for every purpose."""
    return np.random.default_rng([seed, *name.encode()])


def _add_heart(signals: Signals, config: SimulationConfig, hypnogram: tuple[str, ...], seed: int) -> None:
    """The heart: in its leads, a little in the EEG's reference, and at the ears, each in its own way."""
    rng = _stream(seed, "heart")
    ecg = body.heart(signals.shape[1], sfreq=config.sfreq, hypnogram=hypnogram, rng=rng)
    common = physiology.HEART_PICKUP_UV.draw(rng)
    ear = physiology.EAR_PICKUP_UV * np.exp(physiology.EAR_PICKUP_SPREAD * rng.standard_normal())
    ear = min(ear, physiology.EAR_PICKUP_MAX)
    for signal, name in zip(signals, config.ch_names, strict=True):
        size = physiology.ECG_UV.get(name, 0.0)
        if channel_kind(name) == "eeg":
            size = common + ear * physiology.EAR_PICKUP_SHARE.get(name, 0.0)
        if size:
            signal += np.float32(size) * ecg
