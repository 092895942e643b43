"""A simulated cohort of EEG recordings as EDF+: `python -m data_tools.simulate OUT --patients 24 --minutes 10`.

Continuous recordings of patients with a hypnogram, background, sleep transients, mimics, artefacts and, in four of
five patients, interictal epileptiform discharges (IEDs). Every figure behind it stands in `physiology.py` with its
source. It is a stand-in for teaching and testing: results on it say whether a method works, not how well it would
do in a clinic. In particular the night is compressed in time, so that ten minutes hold several stages.

All leads are recorded against one common, electrically quiet (non-cephalic) reference, whose own noise and heartbeat
are in every EEG lead alike.
"""

import csv
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
from data_tools.background import EPOCH_SECONDS, Signals
from data_tools.events import Event, Scene, add_ieds, add_transients
from data_tools.patients import PatientProfile, draw_hypnogram, draw_profile
from siamese_jax.recordings.edf import Annotation
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.vocabulary import LEADS_29, STAGES, TEN_TWENTY, channel_kind

LEADS = {19: TEN_TWENTY, 29: LEADS_29}
START = datetime(2000, 1, 1)
"""Every simulated recording begins then: the same seed gives the same bytes."""


@dataclass(frozen=True)
class SimulatedRecording:
    """One recording with all that is known about it."""

    eeg_uv: Float32[np.ndarray, "time chan"]  # microvolts; each channel is contiguous in memory
    sfreq: float
    ch_names: tuple[str, ...]
    hypnogram: tuple[str, ...]  # a stage per 30-s epoch; the last epoch may be cut short
    events: tuple[Event, ...]  # by onset

    def annotations(self) -> list[Annotation]:
        """Stages (`Sleep stage W`, 30 s each) and events, by onset."""
        seconds = len(self.eeg_uv) / self.sfreq
        marks = []
        for i, stage in enumerate(self.hypnogram):
            onset = i * EPOCH_SECONDS
            marks.append(Annotation(onset, min(EPOCH_SECONDS, seconds - onset), f"Sleep stage {stage}", None))
        marks += [Annotation(e.onset_seconds, e.duration_seconds, e.kind, e.channel) for e in self.events]
        return sorted(marks, key=lambda mark: mark.onset_seconds)


def simulate_patient(
    profile: PatientProfile, *, minutes: float, sfreq: float, leads: Literal[19, 29] = 19, compression: float = 5.0,
    mains_hz: float = 50.0, seed: int,
) -> SimulatedRecording:  # fmt: skip
    """Simulate one recording of a patient: a pure function of its arguments.

    Hypnogram, background, each kind of transient and the IEDs draw from random streams of their own, so that taking
    one kind of event out of `profile` leaves all others as they are.

    Args:
        profile: The patient (see `draw_profile`).
        minutes: Length of the recording, at least 0.5.
        sfreq: Samples per second, at least 100.
        leads: 19 (the 10-20 system) or 29 (`vocabulary.LEADS_29`: with ears, nasopharyngeal leads, ECG, EMG).
        compression: How many times shorter than natural the bouts of a stage are, at least 1 (see `draw_hypnogram`).
        mains_hz: Mains frequency; no residue is added at or above the Nyquist frequency.
        seed: Of this recording.

    Raises:
        ValueError: an argument outside the limits above.
    """
    if leads not in LEADS:
        raise ValueError(f"leads must be one of {tuple(LEADS)}, given {leads}")
    if minutes < 0.5 or sfreq < 100 or compression < 1:
        raise ValueError(
            "minutes must be at least 0.5, sfreq at least 100 and compression at least 1,"
            f" given {minutes}, {sfreq} and {compression}"
        )
    ch_names = LEADS[leads]
    n_times = round(minutes * 60 * sfreq)
    n_epochs = int(np.ceil(n_times / sfreq / EPOCH_SECONDS))
    hypnogram = draw_hypnogram(n_epochs, compression=compression, rng=_stream(seed, "hypnogram"))
    signals = np.zeros((len(ch_names), n_times), np.float32)
    events = _add_eeg(signals, profile, sfreq=sfreq, ch_names=ch_names, hypnogram=hypnogram, seed=seed)
    _add_other_leads(signals, sfreq=sfreq, ch_names=ch_names, hypnogram=hypnogram, seed=seed)
    if mains_hz < sfreq / 2:
        background.add_mains(signals, sfreq=sfreq, mains_hz=mains_hz, rng=_stream(seed, "mains"))
    events = tuple(sorted(events, key=lambda event: event.onset_seconds))
    return SimulatedRecording(signals.T, sfreq, ch_names, hypnogram, events)


def simulate_cohort(
    out: Path, *, patients: int = 24, minutes: float = 10.0, sfreq: float = 256.0, leads: Literal[19, 29] = 19,
    seed: int = 0, ied_free: float = 0.2, compression: float = 5.0, mains_hz: float = 50.0,
) -> Iterator[Path]:  # fmt: skip
    """Write a cohort to the folder `out`, yielding the path of each EDF+ file as it is written.

    Files are `SIM0001.edf` and so on; `patients.csv` tells who they are and `events.csv` everything that was put into
    them, both complete when the iterator ends. `round(patients * ied_free)` of the patients have no IED. Other
    arguments as in `simulate_patient`.

    Raises:
        ValueError: no patients, or a share outside 0..1.
    """
    if patients < 1 or not 0 <= ied_free <= 1:
        raise ValueError(f"patients must be positive and ied_free in 0..1, given {patients} and {ied_free}")
    out.mkdir(parents=True, exist_ok=True)
    spared = set(np.random.default_rng(seed).permutation(patients)[: round(patients * ied_free)].tolist())
    with (
        open(out / "patients.csv", "w", newline="") as patients_file,
        open(out / "events.csv", "w", newline="") as events_file,
    ):
        patients_csv, events_csv = csv.writer(patients_file), csv.writer(events_file)
        patients_csv.writerow(_PATIENT_COLUMNS)
        events_csv.writerow(("patient", *Event._fields))
        for i in range(patients):
            profile_seed, recording_seed = np.random.SeedSequence([seed, i]).generate_state(2).tolist()
            profile = draw_profile(f"SIM{i + 1:04d}", has_ied=i not in spared, seed=profile_seed)
            recording = simulate_patient(
                profile, minutes=minutes, sfreq=sfreq, leads=leads, compression=compression, mains_hz=mains_hz,
                seed=recording_seed,
            )  # fmt: skip
            path = out / f"{profile.code}.edf"
            _write(path, recording, profile)
            patients_csv.writerow(_patient_row(profile, recording))
            events_csv.writerows((profile.code, *_rounded(event)) for event in recording.events)
            yield path


def main(
    out: tyro.conf.Positional[Path], *, patients: int = 24, minutes: float = 10.0, sfreq: float = 256.0,
    leads: Literal[19, 29] = 19, seed: int = 0, ied_free: float = 0.2, compression: float = 5.0, mains_hz: float = 50.0,
) -> None:  # fmt: skip
    """Simulate a cohort of EEG recordings as EDF+ files with annotations.

    Args:
        out: Folder for SIM0001.edf and so on, patients.csv and events.csv.
        patients: How many patients, with one recording each.
        minutes: Length of each recording.
        sfreq: Samples per second.
        leads: 19 (10-20 system) or 29 (with ears, nasopharyngeal leads, ECG and EMG).
        seed: The same seed gives the same files, byte for byte.
        ied_free: Share of patients without IEDs.
        compression: How many times faster than in nature sleep stages follow one another.
        mains_hz: Mains frequency.
    """
    cohort = simulate_cohort(
        out, patients=patients, minutes=minutes, sfreq=sfreq, leads=leads, seed=seed, ied_free=ied_free,
        compression=compression, mains_hz=mains_hz,
    )  # fmt: skip
    paths = list(track(cohort, description="Simulating", total=patients))
    print(f"{len(paths)} simulated recordings of {minutes:g} min, patients.csv and events.csv in {out}")


def _stream(seed: int, name: str) -> np.random.Generator:
    """A random stream of its own for every purpose."""
    return np.random.default_rng([seed, *name.encode()])


def _add_eeg(
    signals: Signals, profile: PatientProfile, *, sfreq: float, ch_names: tuple[str, ...], hypnogram: tuple[str, ...],
    seed: int,
) -> list[Event]:  # fmt: skip
    n_eeg = sum(channel_kind(name) == "eeg" for name in ch_names)  # they come first
    scene = Scene(signals[:n_eeg], sfreq, ch_names[:n_eeg], hypnogram, profile)
    background.add_background(
        scene.signals, sfreq=sfreq, ch_names=scene.ch_names, hypnogram=hypnogram, profile=profile,
        rng=_stream(seed, "background"),
    )  # fmt: skip
    rows = list(zip(range(len(physiology.TRANSIENTS)), physiology.TRANSIENTS, profile.per_minute, strict=True))
    # An IED disrupts what the brain makes, not the artefacts: these come last.
    rows.sort(key=lambda row: row[1].is_artefact)
    n_cerebral = sum(not transient.is_artefact for transient in physiology.TRANSIENTS)
    events = []
    for place, (i, transient, per_minute) in enumerate(rows):
        if place == n_cerebral and profile.ied is not None:
            events += add_ieds(scene, profile.ied, _stream(seed, "ied"))
        events += add_transients(scene, transient, per_minute, _stream(seed, f"transient {i}"))
    return events


def _add_other_leads(
    signals: Signals, *, sfreq: float, ch_names: tuple[str, ...], hypnogram: tuple[str, ...], seed: int
) -> None:
    rng = _stream(seed, "heart")
    ecg = background.heart(signals.shape[1], sfreq=sfreq, hypnogram=hypnogram, rng=rng)
    pickup = physiology.HEART_PICKUP_UV.draw(rng)
    for signal, name in zip(signals, ch_names, strict=True):
        if channel_kind(name) == "eeg":
            signal += np.float32(pickup) * ecg
        elif channel_kind(name) == "ecg":
            signal += np.float32(physiology.ECG_UV[name]) * ecg
    muscles = [i for i, name in enumerate(ch_names) if channel_kind(name) == "emg"]
    if muscles:
        emg = signals[muscles[0] : muscles[-1] + 1]
        background.add_muscle_tone(emg, sfreq=sfreq, hypnogram=hypnogram, rng=_stream(seed, "muscle"))


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
        path, recording.eeg_uv, sfreq=recording.sfreq, ch_names=recording.ch_names,
        annotations=recording.annotations(), patient_code=profile.code,
    )  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)
