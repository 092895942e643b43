"""A simulated cohort of EEG recordings: `python -m data_tools.simulate OUT --patients 24 --minutes 10`.

Continuous EDF+ recordings of patients with a hypnogram, background, sleep transients, mimics, artefacts and,
in four of five patients, interictal epileptiform discharges (IEDs). Every figure behind it stands in
`physiology.py` with its source. It is a stand-in for teaching and testing: results on it say whether a method
works, not how well it would do in a clinic. In particular the night is compressed in time, so that ten
minutes hold several stages.

All leads are recorded against one common, electrically quiet (non-cephalic) reference, whose own noise and
heartbeat are in every EEG lead alike.
"""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from jaxtyping import Float32
from rich.progress import track

from data_tools import background, physiology
from data_tools.background import EPOCH_SECONDS, Scene, Signals
from data_tools.events import Event, add_ieds, add_transients
from data_tools.patients import PatientProfile, draw_hypnogram, draw_profile, draw_regions
from siamese_jax.recordings.edf import Annotation
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.vocabulary import LEADS_29, STAGES, TEN_TWENTY, channel_kind

LEADS = {19: TEN_TWENTY, 29: LEADS_29}
SIMULATED = "Simulated recording"
"""The annotation that says so in every file."""
START = datetime(2000, 1, 1)
"""Every simulated recording begins then: the same seed gives the same bytes."""


@dataclass(frozen=True)
class SimulationConfig:
    """How recordings are made, whoever is recorded."""

    minutes: float = 10.0
    """Length of each recording, at least 0.5; rounded to whole seconds."""
    sfreq: float = 256.0
    """Samples per second: a whole number, at least 100."""
    leads: Literal[19, 29] = 19
    """19 (the 10-20 system) or 29 (with ears, nasopharyngeal leads, ECG and EMG)."""
    compression: float = 5.0
    """How many times faster than in nature sleep stages follow one another; 1 is a natural night."""
    mains_hz: float = 50.0
    """Mains frequency; its residue is left out at and above the Nyquist frequency."""

    def __post_init__(self) -> None:
        if self.leads not in LEADS:
            raise ValueError(f"leads must be one of {tuple(LEADS)}, given {self.leads}")
        for name, lowest in (("minutes", 0.5), ("sfreq", 100.0), ("compression", 1.0)):
            if not getattr(self, name) >= lowest:
                raise ValueError(f"{name} must be at least {lowest:g}, given {getattr(self, name)}")
        if self.sfreq != round(self.sfreq):
            raise ValueError(f"sfreq must be a whole number of samples per second, given {self.sfreq}")

    @property
    def ch_names(self) -> tuple[str, ...]:
        """The leads by their standard names, EEG first."""
        return LEADS[self.leads]


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
        marks += [Annotation(e.onset_seconds, e.duration_seconds, e.kind, e.channel) for e in self.events]
        return sorted(marks, key=lambda mark: mark.onset_seconds)


def simulate_patient(profile: PatientProfile, config: SimulationConfig, *, seed: int) -> SimulatedRecording:
    """Simulate one recording of a patient (see `draw_profile`): a pure function of its arguments.

    Hypnogram, background, each kind of transient and the IEDs draw from random streams of their own, so that
    taking one kind of event out of `profile` leaves all others as they are.
    """
    ch_names, sfreq = config.ch_names, config.sfreq
    seconds = round(config.minutes * 60)
    n_times = seconds * round(sfreq)
    n_epochs = math.ceil(seconds / EPOCH_SECONDS)
    hypnogram = draw_hypnogram(n_epochs, compression=config.compression, rng=_stream(seed, "hypnogram"))
    signals = np.zeros((len(ch_names), n_times), np.float32)
    n_eeg = sum(channel_kind(name) == "eeg" for name in ch_names)
    scene = Scene(signals[:n_eeg], sfreq, ch_names[:n_eeg], hypnogram, profile)
    background.add_background(scene, _stream(seed, "background"))
    events = tuple(sorted(_add_events(scene, seed), key=lambda event: event.onset_seconds))
    _add_body(signals, config, hypnogram, seed)
    if config.mains_hz < sfreq / 2:
        background.add_mains(signals, sfreq=sfreq, mains_hz=config.mains_hz, rng=_stream(seed, "mains"))
    return SimulatedRecording(signals.T, sfreq, ch_names, hypnogram, events)


def simulate_cohort(
    out: Path, config: SimulationConfig, *, patients: int = 24, ied_free: float = 0.2, seed: int = 0
) -> Iterator[Path]:
    """Write a cohort to the folder `out`, yielding the path of each EDF+ file once it is written.

    Files are `SIM0001.edf` and so on; `patients.csv` tells who they are and `events.csv` everything that was
    put into them, both complete when the iterator ends. `round(patients * ied_free)` of the patients have no
    IED. The same arguments give the same bytes.

    Raises:
        ValueError: no patients, or a share outside 0..1.
    """
    if patients < 1 or not 0 <= ied_free <= 1:
        raise ValueError(f"patients must be positive and ied_free in 0..1, given {patients} and {ied_free}")
    out.mkdir(parents=True, exist_ok=True)
    regions = draw_regions(patients, ied_free=ied_free, rng=_stream(seed, "regions"))
    with (
        (out / "patients.csv").open("w", newline="") as patients_file,
        (out / "events.csv").open("w", newline="") as events_file,
    ):
        patients_csv, events_csv = csv.writer(patients_file), csv.writer(events_file)
        patients_csv.writerow(_PATIENT_COLUMNS)
        events_csv.writerow(("patient", *Event._fields))
        for i, region in enumerate(regions):
            profile_seed, recording_seed = np.random.SeedSequence([seed, i]).generate_state(2).tolist()
            profile = draw_profile(f"SIM{i + 1:04d}", region=region, seed=profile_seed)
            recording = simulate_patient(profile, config, seed=recording_seed)
            path = out / f"{profile.code}.edf"
            _write(path, recording, profile)
            patients_csv.writerow(_patient_row(profile, recording))
            events_csv.writerows((profile.code, *_rounded(event)) for event in recording.events)
            yield path


def main(
    out: Annotated[Path, tyro.conf.Positional],
    config: Annotated[SimulationConfig, tyro.conf.arg(name="")],
    *,
    patients: int = 24,
    ied_free: float = 0.2,
    seed: int = 0,
) -> None:
    """Simulate a cohort of EEG recordings as EDF+ files with annotations.

    Args:
        out: Folder for SIM0001.edf and so on, patients.csv and events.csv.
        config: How recordings are made.
        patients: How many patients, with one recording each.
        ied_free: Share of patients without IEDs.
        seed: The same seed gives the same files, byte for byte.
    """
    cohort = simulate_cohort(out, config, patients=patients, ied_free=ied_free, seed=seed)
    n_written = sum(1 for _ in track(cohort, description="Simulating", total=patients))
    print(f"{n_written} simulated recordings of {config.minutes:g} min, patients.csv and events.csv in {out}")


def _stream(seed: int, name: str) -> np.random.Generator:
    """A random stream of its own for every purpose."""
    return np.random.default_rng([seed, *name.encode()])


def _add_events(scene: Scene, seed: int) -> list[Event]:
    """Transients and mimics, then the IEDs, which disrupt what the brain makes, then the artefacts."""
    kinds = list(enumerate(zip(physiology.TRANSIENTS, scene.profile.per_minute, strict=True)))
    events = []
    for i, (transient, per_minute) in kinds:
        if not transient.is_artefact:
            events += add_transients(scene, transient, per_minute, _stream(seed, f"transient {i}"))
    if scene.profile.ied is not None:
        events += add_ieds(scene, scene.profile.ied, _stream(seed, "ied"))
    for i, (transient, per_minute) in kinds:
        if transient.is_artefact:
            events += add_transients(scene, transient, per_minute, _stream(seed, f"transient {i}"))
    return events


def _add_body(signals: Signals, config: SimulationConfig, hypnogram: tuple[str, ...], seed: int) -> None:
    """The heart, in its leads and a little in the EEG's reference; muscle tone in the EMG leads."""
    rng = _stream(seed, "heart")
    ecg = background.heart(signals.shape[1], sfreq=config.sfreq, hypnogram=hypnogram, rng=rng)
    pickup = physiology.HEART_PICKUP_UV.draw(rng)
    kinds = [channel_kind(name) for name in config.ch_names]
    for signal, name, kind in zip(signals, config.ch_names, kinds, strict=True):
        if kind == "eeg":
            signal += np.float32(pickup) * ecg
        elif kind == "ecg":
            signal += np.float32(physiology.ECG_UV[name]) * ecg
    if "emg" in kinds:
        emg = signals[kinds.index("emg") :]  # they come last
        background.add_muscle_tone(emg, sfreq=config.sfreq, hypnogram=hypnogram, rng=_stream(seed, "muscle"))


_PATIENT_COLUMNS = (
    *("patient", "age_years", "has_ied", "region", "focus", "kind", "snr_median", "n_ied"),
    *(f"ied_per_minute_{stage}" for stage in STAGES),
    *(f"minutes_{stage}" for stage in STAGES),
    *(f"background_rms_uv_{stage}" for stage in STAGES),
    *("alpha_hz", "exponent_shift"),
)


def _patient_row(profile: PatientProfile, recording: SimulatedRecording) -> tuple[object, ...]:
    ied = profile.ied
    about = ("", "", "", "") if ied is None else (ied.region, ied.focus, ied.kind, round(ied.snr, 2))
    return (
        *(profile.code, round(profile.age_years, 1), int(ied is not None), *about),
        sum(event.kind.startswith("IED") for event in recording.events),
        *(round(ied.per_minute[stage], 3) if ied else 0 for stage in STAGES),
        *(recording.hypnogram.count(stage) * EPOCH_SECONDS / 60 for stage in STAGES),
        *(round(profile.rms_uv(stage), 1) for stage in STAGES),
        *(round(profile.rhythms_hz["alpha"], 2), round(profile.exponent_shift, 3)),
    )


def _rounded(event: Event) -> tuple[object, ...]:
    return tuple(round(value, 4) if isinstance(value, float) else value for value in event)


def _write(path: Path, recording: SimulatedRecording, profile: PatientProfile) -> None:
    write_recording(
        path,
        recording.eeg_uv,
        sfreq=recording.sfreq,
        ch_names=recording.ch_names,
        annotations=recording.annotations(),
        patient_code=profile.code,
        start=START,
    )


if __name__ == "__main__":
    tyro.cli(main)
