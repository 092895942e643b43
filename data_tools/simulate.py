"""A simulated cohort of EEG recordings: `python -m data_tools.simulate OUT --patients 24 --minutes 10`.

Continuous EDF+ recordings of patients with a hypnogram, background, sleep transients, mimics, artefacts and, in all
but a few patients, interictal epileptiform discharges (IEDs). Sources in the brain reach the leads through a spherical
head. Every figure stands beside its source in `simulator/`: physiology, transients, ieds. It is a stand-in for
teaching and testing: results on it say whether a method works, not how well it would do in a clinic.

`--patients 150 --hours 2 --leads 29 --sfreq 500` gives 140 patients with IEDs and 10 without, as in the published
cohort: some 31 GB. The default is small, and its nights are compressed in time, so that ten minutes hold several
stages.

All leads are recorded against one common reference, whose own noise and heartbeat are in every EEG lead alike.

What an event's duration covers. Of an IED its sharp part: from the rise of its first spike to the fall of its last one,
without the slow wave that follows. Of a run of IEDs of 1 s or more, which is one event, the whole run, measured in the
same way; in a shorter run each complex is an event. Of anything else, all of it: a K-complex that carries a spindle and
the spindle are two events.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from data_tools.code_hash import code_hash
from data_tools.cohort_folder import CohortFolder, Made, follow, made, say_retry
from data_tools.simulator.ieds import draw_regions
from data_tools.simulator.onsets import EPOCH_SECONDS
from data_tools.simulator.patients import PatientProfile, draw_profile
from data_tools.simulator.recording import SimulatedRecording, SimulationConfig, simulate_patient
from siamese_jax.cli.console import run
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.recordings.texts import is_ied
from siamese_jax.vocabulary import STAGES

START = datetime(2000, 1, 1)
"""Every simulated recording begins then: the same seed gives the same bytes."""
IED_FREE = 1 / 15
"""Share of patients without IEDs: 10 of 150, as in the published cohort (FACT 1.1)."""
SETTINGS = "simulation.json"
CODE = ("data_tools/simulate.py", "data_tools/cohort_folder.py", "data_tools/simulator")
"""What decides a recording, beside its settings."""


_Patient = tuple[int, str | None]
"""Number, from 0, and region."""


def simulate_cohort(
    out: Path,
    config: SimulationConfig,
    *,
    patients: int = 24,
    ied_free: float = IED_FREE,
    seed: int = 0,
    workers: int = 1,
    on_retry: Callable[[str, str], None] = lambda code, why: None,
) -> Iterator[Path]:
    """Write a cohort to the folder `out`, yielding the path of each EDF+ file once it is there, in whatever order.

    Files are `SIM0001.edf` and so on; `patients.csv` describes the patients, `events.csv` everything that was put into
    them, both complete when the iterator ends, `manifest.csv` tells `prepare` whose each file is, so that splits depend
    on no laboratory's salt, and `simulation.json` how they were made. `round(patients * ied_free)`
    of the patients have no IED. The same arguments give the same bytes, whatever the number of workers. Recordings
    that an earlier call with the same settings finished are kept. `on_retry` is called with the patient whose recording
    is tried again, and why.

    Raises:
        ValueError: no patients or workers, a negative seed, a share outside 0..1, a folder with recordings of other
            settings.
        OSError: not enough space on the disk; nothing has been written then, unless others filled it meanwhile.
        Unfinished: at the end, if recordings failed three times, as when a worker is lost each time.
    """
    if patients < 1 or workers < 1 or seed < 0 or not 0 <= ied_free <= 1:
        wanted = "patients and workers must be positive, seed not negative and ied_free in 0..1"
        raise ValueError(f"{wanted}, given {patients}, {workers}, {seed} and {ied_free}")
    folder = _folder(out, config, patients=patients, ied_free=ied_free, seed=seed)
    n_bytes = len(config.ch_names) * 2 * config.seconds * config.sfreq  # 16 bits a sample
    folder.check_room(patients - len(folder.finished()), n_bytes)  # before millions of patients are drawn for nothing
    regions = draw_regions(patients, ied_free=ied_free, rng=np.random.default_rng([seed, *b"regions"]))
    yield from folder.write(
        partial(_make, out, config, seed),
        {_code(i): (i, region) for i, region in enumerate(regions)},
        n_bytes=n_bytes,
        workers=workers,
        on_retry=on_retry,
    )


def _folder(out: Path, config: SimulationConfig, *, patients: int, ied_free: float, seed: int) -> CohortFolder:
    settings = {**asdict(config), "patients": patients, "ied_free": ied_free, "seed": seed}
    return CohortFolder(out, {**settings, "simulator": code_hash(*CODE)[:16]}, SETTINGS, _PATIENT_COLUMNS)


def main(
    out: Annotated[Path, tyro.conf.Positional],
    config: Annotated[SimulationConfig, tyro.conf.arg(name="")],
    *,
    patients: int = 24,
    ied_free: float = IED_FREE,
    seed: int = 0,
    workers: int = 1,
) -> int:
    """Simulate a cohort of EEG recordings as EDF+ files with annotations.

    Args:
        out: Folder for SIM0001.edf and so on, patients.csv and events.csv. What is finished there is kept.
        config: How recordings are made.
        patients: How many patients, with one recording each.
        ied_free: Share of patients without IEDs; 10 of 150 unless given.
        seed: The same seed gives the same files, byte for byte.
        workers: How many processes simulate at once; the files do not depend on it.
    """
    kept = len(_folder(out, config, patients=patients, ied_free=ied_free, seed=seed).finished())
    cohort = simulate_cohort(
        out, config, patients=patients, ied_free=ied_free, seed=seed, workers=workers, on_retry=say_retry
    )
    n_written, status = follow(cohort, doing="Simulating", total=patients)
    before = f", {kept} of them kept from before" if kept else ""
    length = f"{config.seconds / 60:g} min"
    print(f"{n_written} simulated recordings of {length}{before}, patients.csv and events.csv in {out}")
    return status


# --- one patient after the other ------------------------------------------------------------------------------------


def _code(i: int) -> str:
    return f"SIM{i + 1:04d}"


def _make(out: Path, config: SimulationConfig, seed: int, patient: _Patient) -> Made:
    """Simulate a patient and write the recording."""
    i, region = patient
    profile_seed, recording_seed = np.random.SeedSequence([seed, i]).generate_state(2).tolist()
    profile = draw_profile(_code(i), region=region, seed=profile_seed, density=math.sqrt(config.haste))
    recording = simulate_patient(profile, config, seed=recording_seed)
    write_recording(
        out / f"{profile.code}.edf",
        recording.eeg_uv,
        sfreq=recording.sfreq,
        ch_names=recording.ch_names,
        annotations=recording.annotations(),
        patient_code=profile.code,
        start=START,
    )
    return made(_patient_row(profile, recording), recording.events)


_PATIENT_COLUMNS = (
    *("patient", "age_years", "has_ied", "region", "focus", "kind", "periodic", "snr_median", "n_ied"),
    *(f"ied_per_minute_{stage}" for stage in STAGES),
    *(f"minutes_{stage}" for stage in STAGES),
    *(f"background_rms_uv_{stage}" for stage in STAGES),
    *("alpha_hz", "exponent_shift", "slow_wave_uv", "breach_gain"),
)


def _patient_row(profile: PatientProfile, recording: SimulatedRecording) -> tuple[object, ...]:
    ied, defect = profile.ied, profile.head.defect
    about = ("", "", "", "", "") if ied is None else (*ied.about(), round(ied.snr, 2))
    return (
        *(profile.code, round(profile.age_years, 1), int(ied is not None), *about),
        sum(is_ied(event.kind) for event in recording.events),
        *(round(ied.per_minute[stage], 3) if ied else 0 for stage in STAGES),
        *(recording.hypnogram.count(stage) * EPOCH_SECONDS / 60 for stage in STAGES),
        *(round(profile.rms_uv(stage), 1) for stage in STAGES),
        *(round(profile.rhythms_hz["alpha"], 2), round(profile.exponent_shift, 3)),
        *(round(profile.slow_wave_uv, 1), round(defect.gain, 2) if defect else 1),
    )


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
