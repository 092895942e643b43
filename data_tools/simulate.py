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

import csv
import io
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro
from rich.progress import track

from data_tools.code_hash import code_hash
from data_tools.simulator.events import Event
from data_tools.simulator.ieds import IedProfile, draw_regions
from data_tools.simulator.onsets import EPOCH_SECONDS
from data_tools.simulator.patients import PatientProfile, draw_profile
from data_tools.simulator.recording import SimulatedRecording, SimulationConfig, simulate_patient
from siamese_jax import files
from siamese_jax.cli.console import OK, SOME_FAILED, print_error, run
from siamese_jax.jobs import run_each
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.recordings.texts import is_ied
from siamese_jax.vocabulary import STAGES

START = datetime(2000, 1, 1)
"""Every simulated recording begins then: the same seed gives the same bytes."""
IED_FREE = 1 / 15
"""Share of patients without IEDs: 10 of 150, as in the published cohort (FACT 1.1)."""
SETTINGS = "simulation.json"
CODE = ("data_tools/simulate.py", "data_tools/simulator")
"""What decides a recording, beside its settings."""
SPARE = 1.02
"""Annotations and headers take less than a fiftieth of the signals' room."""


_Patient = tuple[int, str | None]
"""Number, from 0, and region."""


class _Table(NamedTuple):
    """What patients.csv and events.csv say about one patient, as text."""

    patient: tuple[str, ...]
    events: list[tuple[str, ...]]

    @property
    def code(self) -> str:
        return self.patient[0]


class Unfinished(Exception):
    """Some recordings could not be made, and all others are there; says which, and why."""


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

    Files are `SIM0001.edf` and so on; `patients.csv` tells who they are, `events.csv` everything that was put into
    them, both complete when the iterator ends, `manifest.csv` tells `prepare` whose each file is, so that splits depend
    on no laboratory's salt, and `simulation.json` how they were made. `round(patients * ied_free)`
    of the patients have no IED. The same arguments give the same bytes, whatever the number of workers. Recordings
    that an earlier call with the same settings finished are kept. `on_retry` is told which patient's recording is tried
    again, and why.

    Raises:
        ValueError: no patients or workers, a negative seed, a share outside 0..1, a folder with recordings of other
            settings.
        OSError: not enough room on the disk; nothing has been written then, unless others filled it meanwhile.
        Unfinished: at the end, if recordings failed three times, as when a worker is lost each time.
    """
    if patients < 1 or workers < 1 or seed < 0 or not 0 <= ied_free <= 1:
        wanted = "patients and workers must be positive, seed not negative and ied_free in 0..1"
        raise ValueError(f"{wanted}, given {patients}, {workers}, {seed} and {ied_free}")
    settings = {
        **asdict(config),
        "patients": patients,
        "ied_free": ied_free,
        "seed": seed,
        "simulator": code_hash(*CODE)[:16],
    }
    _refuse_other_settings(out, settings)
    tables = finished(out)
    _refuse_full_disk(out, config, patients - len(tables))
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / SETTINGS, settings)
    _write_tables(out, tables)
    regions = draw_regions(patients, ied_free=ied_free, rng=np.random.default_rng([seed, *b"regions"]))
    todo = [(i, region) for i, region in enumerate(regions) if _code(i) not in tables]
    yield from (out / f"{code}.edf" for code in tables)

    def retried(index: int, why: str) -> None:
        _refuse_full_disk(out, config, 1)  # if that is the reason, all others would end likewise
        on_retry(_code(todo[index][0]), why)

    failures: dict[str, str] = {}
    for index, table, failure in run_each(partial(_make, out, config, seed), todo, workers=workers, on_retry=retried):
        if failure:
            failures[_code(todo[index][0])] = failure
            continue
        tables[table.code] = table
        _append(out / "events.csv", table.events)
        _append(out / "patients.csv", [table.patient])  # comes last: a patient who stands there is finished
        yield out / f"{table.code}.edf"
    _write_tables(out, tables)
    if failures:
        raise Unfinished("; ".join(f"{code}: {why}" for code, why in sorted(failures.items())))


def finished(out: Path) -> dict[str, _Table]:
    """What is known of the patients whose recordings an earlier call finished, by their codes."""
    if not all((out / name).exists() for name in (SETTINGS, "patients.csv", "events.csv")):
        return {}
    with (out / "patients.csv").open(newline="") as file:
        rows = [tuple(row) for row in csv.reader(file)][1:]
    done = {row[0]: _Table(row, []) for row in rows if len(row) == len(_PATIENT_COLUMNS)}
    done = {code: table for code, table in sorted(done.items()) if (out / f"{code}.edf").exists()}
    with (out / "events.csv").open(newline="") as file:
        for row in csv.reader(file):
            if row and row[0] in done:
                done[row[0]].events.append(tuple(row))
    return done


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
    n_written, status = 0, OK
    try:
        kept = len(finished(out))
        cohort = simulate_cohort(
            out, config, patients=patients, ied_free=ied_free, seed=seed, workers=workers, on_retry=_say_retry
        )
        for _ in track(cohort, description="Simulating", total=patients):
            n_written += 1
    except Unfinished as error:
        print_error(f"{error}; the others are finished, and the same command tries again")
        status = SOME_FAILED
    except (ValueError, OSError, MemoryError) as error:
        raise SystemExit(f"error: {error}") from None
    before = f", {kept} of them kept from before" if kept else ""
    length = f"{config.seconds / 60:g} min"
    print(f"{n_written} simulated recordings of {length}{before}, patients.csv and events.csv in {out}")
    return status


def _say_retry(code: str, why: str) -> None:
    print(f"{code} is tried again: {why}", file=sys.stderr)


# --- one patient after the other ------------------------------------------------------------------------------------


def _code(i: int) -> str:
    return f"SIM{i + 1:04d}"


def _make(out: Path, config: SimulationConfig, seed: int, patient: _Patient) -> _Table:
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
    events = [(profile.code, *_as_text(event)) for event in recording.events]
    return _Table(_as_text(_patient_row(profile, recording)), events)


# --- the folder -----------------------------------------------------------------------------------------------------


def _refuse_other_settings(out: Path, settings: dict[str, object]) -> None:
    """Settings alone, which a call that failed left behind, bind nobody."""
    if not any(out.glob("SIM*.edf")):
        return
    if (out / SETTINGS).exists():
        before = json.loads((out / SETTINGS).read_text())
        other = [
            f"{name} {before.get(name)}, now {value}" for name, value in settings.items() if before.get(name) != value
        ]
        if other:
            raise ValueError(f"{out} holds a cohort of other settings ({'; '.join(other)}): empty it or choose another")
    else:
        raise ValueError(f"{out} holds recordings without {SETTINGS}, which says how they were made: choose another")


def _refuse_full_disk(out: Path, config: SimulationConfig, n_recordings: int) -> None:
    needed = SPARE * n_recordings * len(config.ch_names) * 2 * config.seconds * config.sfreq  # 16 bits a sample
    parent = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise OSError(
            f"{out}: {n_recordings} recordings need {needed / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free;"
            " simulate fewer patients, less time, fewer leads or a lower rate"
        )


def _append(path: Path, rows: list[tuple[str, ...]]) -> None:
    with path.open("a", newline="") as file:
        csv.writer(file).writerows(rows)


def _write_tables(out: Path, tables: dict[str, _Table]) -> None:
    """Write patients.csv, events.csv and manifest.csv anew, by patient."""
    in_order = [tables[code] for code in sorted(tables)]
    for name, columns, rows in (
        ("events.csv", ("patient", *Event._fields), [row for table in in_order for row in table.events]),
        ("patients.csv", _PATIENT_COLUMNS, [table.patient for table in in_order]),
        ("manifest.csv", ("file", "patient"), [(f"{table.code}.edf", table.code) for table in in_order]),
    ):
        text = io.StringIO(newline="")
        csv.writer(text).writerows([columns, *rows])
        files.write_text(out / name, text.getvalue())


_PATIENT_COLUMNS = (
    *("patient", "age_years", "has_ied", "region", "focus", "kind", "snr_median", "periodic", "n_ied"),
    *(f"ied_per_minute_{stage}" for stage in STAGES),
    *(f"minutes_{stage}" for stage in STAGES),
    *(f"background_rms_uv_{stage}" for stage in STAGES),
    *("alpha_hz", "exponent_shift", "slow_wave_uv", "breach_gain"),
)


def _patient_row(profile: PatientProfile, recording: SimulatedRecording) -> tuple[object, ...]:
    ied, defect = profile.ied, profile.head.defect
    about = ("", "", "", "", "") if ied is None else (ied.region, ied.focus, ied.kind, round(ied.snr, 2), _pattern(ied))
    return (
        *(profile.code, round(profile.age_years, 1), int(ied is not None), *about),
        sum(is_ied(event.kind) for event in recording.events),
        *(round(ied.per_minute[stage], 3) if ied else 0 for stage in STAGES),
        *(recording.hypnogram.count(stage) * EPOCH_SECONDS / 60 for stage in STAGES),
        *(round(profile.rms_uv(stage), 1) for stage in STAGES),
        *(round(profile.rhythms_hz["alpha"], 2), round(profile.exponent_shift, 3)),
        *(round(profile.slow_wave_uv, 1), round(defect.gain, 2) if defect else 1),
    )


def _pattern(ied: IedProfile) -> str:
    return ied.periodic.pattern if ied.periodic else ""


def _as_text(values: tuple[object, ...]) -> tuple[str, ...]:
    return tuple(str(round(value, 4) if isinstance(value, float) else value) for value in values)


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
