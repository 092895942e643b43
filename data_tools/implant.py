"""Simulated discharges in real recordings without any: `python -m data_tools.implant FOLDER OUT --copies 3`.

FOLDER holds EDF files or a BIDS data set of people without discharges: yours or public ones. Each recording is copied
several times, and each time other simulated discharges, look-alikes and faults of electrodes are put into it, through
the fields of the simulator's head and as large as fits the background there. What is real stays unchanged: background,
artefacts, amplifier. What is marked is known, so that nobody need mark anything.

The copies are those of one person in OUT/manifest.csv, so that no split parts them. They are labelled for discharges.
Sleep is labelled where FOLDER has stages; elsewhere a person counts as awake for the rates of discharges, and no more.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro
from scipy import signal

from data_tools.code_hash import code_hash
from data_tools.cohort_folder import CohortFolder, Made, follow, made, say_retry
from data_tools.simulate import IED_FREE, START
from data_tools.simulator.background import Scene
from data_tools.simulator.events import Levels, add_events, measure_levels
from data_tools.simulator.faults import add_faults
from data_tools.simulator.ieds import draw_regions
from data_tools.simulator.onsets import EPOCH_SECONDS
from data_tools.simulator.patients import draw_profile
from siamese_jax.cli.console import OK, SOME_FAILED, print_error, run
from siamese_jax.cohort.bids import Bids
from siamese_jax.cohort.bids_files import DESCRIPTION
from siamese_jax.cohort.pseudonyms import Pseudonyms
from siamese_jax.cohort.sources import Folder, Opened, manifest_rows
from siamese_jax.config.sections import DataConfig
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.recordings.recording import Annotation
from siamese_jax.recordings.texts import ied_meaning, is_ied, stage_of
from siamese_jax.vocabulary import TEN_TWENTY

IMPLANTED = "Recording with simulated events"
"""The annotation that says so in every file."""
DATA = DataConfig(ch_names=TEN_TWENTY, sfreq=256.0)
"""Electrodes, of which a recording may lack some, and rate of the copies."""
DENSITY = 8.0
"""So many times more often than in a natural night discharges come: real recordings are short, and mostly awake."""
LEAST_SECONDS = 10.0
LEVEL_BAND_HZ = (0.5, 40.0)
"""Where the background's size is measured: drifts and mains are none of it."""
SETTINGS = "implants.json"
CODE = ("data_tools/implant.py", "data_tools/cohort_folder.py", "data_tools/simulator")
"""What decides a copy, beside its settings and its source."""


@dataclass(frozen=True)
class ImplantConfig:
    """How copies are made."""

    copies: int = 3
    """Of each recording, every one with other events."""
    minutes: float | None = None
    """Of each copy: a stretch from anywhere in the recording; default all of its longest stretch without a gap."""
    seed: int = 0
    """The same seed gives the same files, byte for byte."""

    def __post_init__(self) -> None:
        if self.copies < 1 or self.seed < 0:
            raise ValueError(f"copies must be positive and seed not negative, given {self.copies} and {self.seed}")
        if self.minutes is not None and not LEAST_SECONDS / 60 <= self.minutes <= 24 * 60:
            raise ValueError(f"minutes must be {LEAST_SECONDS / 60:.2f} to 1440, given {self.minutes}")


class Found(NamedTuple):
    """A recording that can be used."""

    name: str  # in its source
    person: str  # `IMP0001`: whoever it is, in the order of the recordings
    split: str  # of the source's manifest; empty if it says nothing
    segment: int
    seconds: int  # of that segment


class Copy(NamedTuple):
    """One copy of a recording."""

    code: str
    index: int
    region: str | None
    copy: int
    found: Found


def find(source: Folder) -> tuple[list[Found], dict[str, str]]:
    """The recordings of a folder that can be used; why the others cannot, by their names.

    Raises:
        ValueError: no recording is of use.
    """
    persons: dict[str, str] = {}
    found, skipped = [], {}
    for name in source.names():
        try:
            opened = source.open(name, DATA)
            segment = _longest(opened)
        except (ValueError, OSError) as error:
            skipped[name] = str(error)
            continue
        person = persons.setdefault(opened.patient, f"IMP{len(persons) + 1:04d}")
        seconds = int(opened.recording.segments[segment].n_times / DATA.sfreq)
        found.append(Found(name, person, opened.split or "", segment, seconds))
    if not found:
        raise ValueError(f"{source.root}: no recording can be used ({'; '.join(sorted(set(skipped.values()))[:3])})")
    return found, skipped


def implant(
    folder: Path,
    out: Path,
    config: ImplantConfig = ImplantConfig(),  # noqa: B008
    *,
    manifest: Path | None = None,
    workers: int = 1,
    on_retry: Callable[[str, str], None] = lambda code, why: None,
) -> tuple[Iterator[Path], int, dict[str, str]]:
    """Put simulated events into copies of the recordings in `folder`.

    `out` gets `IMP0001_01.edf` and so on (person and copy), `patients.csv` (whose, from which file and where, which
    kind of discharges), `events.csv`, `manifest.csv` and `implants.json`. A fifteenth of the copies gets no discharge.
    What an earlier call with the same settings finished is kept.

    Returns:
        an iterator that writes and yields the path of each file once it is there; how many there will be; which
        recordings cannot be used, and why.

    Raises:
        ValueError: no recording is of use, `out` lies in `folder`, or holds something else; a manifest that is wrong.
        OSError, Unfinished: while it writes, as for `CohortFolder.write`.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{out} lies in {folder}, where its files would be taken for recordings: choose another")
    rows = manifest_rows(folder, manifest)
    kind = Bids if (folder / DESCRIPTION).exists() else Folder
    source = kind(folder, rows, pseudonyms=Pseudonyms("tells persons apart, and is never written"))
    found, skipped = find(source)
    copies = _copies(found, config)
    files = [(one.name, one.person, source.files(one.name)[0].stat().st_size) for one in found]
    settings = {
        **dataclasses.asdict(config),
        "recordings": hashlib.sha256(repr(files).encode()).hexdigest()[:16],
        "simulator": code_hash(*CODE)[:16],
    }
    seconds = [_seconds(copy.found, config) for copy in copies.values()]
    writing = CohortFolder(out, settings, SETTINGS, _COLUMNS).write(
        partial(_make, out, source, config),
        copies,
        n_bytes=2 * len(DATA.ch_names) * DATA.sfreq * sum(seconds) / len(seconds),
        workers=workers,
        on_retry=on_retry,
    )
    return writing, len(copies), skipped


def main(
    folder: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    config: Annotated[ImplantConfig, tyro.conf.arg(name="")],
    *,
    manifest: Path | None = None,
    workers: int = 1,
) -> int:
    """Put simulated discharges, look-alikes and faults into copies of real recordings without discharges.

    Args:
        folder: EDF files or a BIDS data set; nobody in it has discharges.
        out: Folder for the copies, patients.csv, events.csv and manifest.csv. What is finished there is kept.
        config: How copies are made.
        manifest: CSV file with columns file, patient and perhaps split; default FOLDER/manifest.csv if it is there.
        workers: How many processes work at once; the files do not depend on it.
    """
    try:
        writing, total, skipped = implant(folder, out, config, manifest=manifest, workers=workers, on_retry=say_retry)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    for name, why in skipped.items():
        print_error(f"{name} is left out: {why}")
    n_written, status = follow(writing, doing="Implanting", total=total)
    print(f"{n_written} recordings with simulated events, patients.csv and events.csv in {out}")
    return SOME_FAILED if skipped and status == OK else status


# --- one copy after the other ---------------------------------------------------------------------------------------


def _longest(opened: Opened) -> int:
    """The longest segment.

    Raises:
        ValueError: it is too short, or somebody marked a discharge, or may have.
    """
    marked = [mark.text for mark in opened.annotations if ied_meaning(mark.text) in ("ied", "doubt")]
    if marked:
        raise ValueError(f"it has {len(marked)} marks that are or may be of discharges, such as {marked[0]!r}")
    segment = int(np.argmax([segment.n_times for segment in opened.recording.segments]))
    seconds = opened.recording.segments[segment].n_times / DATA.sfreq
    if seconds < LEAST_SECONDS:
        raise ValueError(f"its longest stretch without a gap lasts {seconds:.1f} s, and {LEAST_SECONDS:g} s are needed")
    return segment


def _copies(found: Sequence[Found], config: ImplantConfig) -> dict[str, Copy]:
    """All copies by code."""
    rng = np.random.default_rng([config.seed, *b"regions"])
    regions = draw_regions(len(found) * config.copies, ied_free=IED_FREE, rng=rng)
    copies, n_of = {}, dict[str, int]()
    for index, region in enumerate(regions):
        one = found[index // config.copies]
        n_of[one.person] = n_of.get(one.person, 0) + 1
        code = f"{one.person}_{n_of[one.person]:02d}"
        copies[code] = Copy(code, index, region, index % config.copies + 1, one)
    return copies


def _seconds(found: Found, config: ImplantConfig) -> int:
    return found.seconds if config.minutes is None else min(found.seconds, round(60 * config.minutes))


def _make(out: Path, source: Folder, config: ImplantConfig, copy: Copy) -> Made:
    """Put events into one copy and write it."""
    opened = source.open(copy.found.name, DATA)
    recording, seconds = opened.recording, _seconds(copy.found, config)

    def stream(name: str) -> np.random.Generator:
        return np.random.default_rng([config.seed, copy.index, *name.encode()])

    segment = recording.segments[copy.found.segment]
    start = int(stream("start").integers(copy.found.seconds - seconds + 1)) * round(DATA.sfreq)
    eeg_uv = recording.read(copy.found.segment, start, start + seconds * round(DATA.sfreq))
    signals = np.ascontiguousarray(eeg_uv[:, recording.present].T)
    ch_names = tuple(np.array(recording.ch_names)[recording.present].tolist())
    begin = segment.onset_seconds + start / DATA.sfreq
    stages = _stages(opened.annotations, begin, seconds)
    profile_seed = int(np.random.SeedSequence([config.seed, copy.index]).generate_state(1)[0])
    profile = draw_profile(copy.code, region=copy.region, seed=profile_seed, density=DENSITY)
    hypnogram = tuple(stage or "W" for stage in stages)
    scene = Scene(signals, DATA.sfreq, ch_names, hypnogram, profile)
    levels = _levels(scene)
    events = add_events(scene, stream, levels=levels, families=("mimic",))
    events += add_faults(scene, levels, events, stream("faults"))
    events.sort(key=lambda event: event.onset_seconds)
    marks = [Annotation(0.0, seconds, IMPLANTED)]
    marks += [
        Annotation(i * EPOCH_SECONDS, min(EPOCH_SECONDS, seconds - i * EPOCH_SECONDS), f"Sleep stage {stage}")
        for i, stage in enumerate(stages)
        if stage
    ]
    marks += [event.mark() for event in events]
    write_recording(
        out / f"{copy.code}.edf",
        signals.T,
        sfreq=DATA.sfreq,
        ch_names=ch_names,
        annotations=sorted(marks, key=lambda mark: mark.onset_seconds),
        patient_code=copy.found.person,
        start=START,
    )
    ied = profile.ied
    about = ("", "", "", "", "") if ied is None else (*ied.about(), round(ied.snr, 2))
    n_ied = sum(is_ied(event.kind) for event in events)
    whose = (copy.code, copy.found.person, copy.found.split, copy.found.name, copy.copy, round(begin, 3), seconds)
    return made((*whose, int(ied is not None), *about, n_ied), events)


_COLUMNS = (
    *("recording", "patient", "split", "source", "copy", "from_seconds", "seconds"),
    *("has_ied", "region", "focus", "kind", "periodic", "snr_median", "n_ied"),
)


def _stages(annotations: Sequence[Annotation], begin: float, seconds: int) -> list[str | None]:
    """The stage of each 30-s epoch from `begin` on that somebody scored at its middle; None elsewhere."""
    middles = begin + EPOCH_SECONDS * (np.arange(math.ceil(seconds / EPOCH_SECONDS)) + 0.5)
    stages: list[str | None] = [None] * len(middles)
    for mark in annotations:
        if mark.origin != "machine" and (stage := stage_of(mark.text)):
            end = mark.onset_seconds + (mark.duration_seconds or EPOCH_SECONDS)
            for i in np.flatnonzero((middles >= mark.onset_seconds) & (middles < end)):
                stages[int(i)] = stage
    return stages


def _levels(scene: Scene) -> Levels:
    """The background's size without drifts and mains."""
    sos = signal.butter(2, LEVEL_BAND_HZ, "bandpass", fs=scene.sfreq, output="sos")
    filtered = np.stack([signal.sosfiltfilt(sos, channel).astype(np.float32) for channel in scene.signals])
    return measure_levels(dataclasses.replace(scene, signals=filtered))


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
