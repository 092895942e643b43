"""Where recordings come from: what `prepare` needs to know of a folder, a BIDS data set or a public data set.

A source lists recordings by name and opens them one at a time, with their annotations and patients.
It reads nothing ahead and is pickled to other processes; all else (labels, splits, shards, reports) is the same for all
sources.
"""

import errno
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

from siamese_jax.cohort.pseudonyms import Pseudonyms, stored_pseudonyms
from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.edf import read_annotations
from siamese_jax.recordings.edf_records import Layout, read_layout, start_datetime
from siamese_jax.recordings.read import EDF_SUFFIXES, SUFFIXES, files_of, is_edf, read_recording
from siamese_jax.recordings.recording import Annotation, Recording, end_seconds
from siamese_jax.recordings.sidecars import MANIFEST, ManifestRow, listed, read_annotation_table, read_manifest
from siamese_jax.recordings.texts import is_machine_text, stage_of
from siamese_jax.recordings.windows import WindowGrid, window_grid
from siamese_jax.shards.labels import RULES, Rule
from siamese_jax.vocabulary import IED

DETECTED, ANNOTATED, RUN = "_detected.edf", "_annotated.edf", "_run.json"
"""What `siamese-jax detect` puts after a recording's stem: the first two beside the last are no recordings."""
RESULT_TABLES: tuple[str, ...] = ("_events.csv", "_hypnogram.csv")
"""What it writes as tables."""
REVIEWED, REVIEWED_EDF, VERDICTS = "_reviewed.csv", "_reviewed.edf", "_verdicts.tsv"
"""What `siamese-jax review` puts beside them; the first, beside a recording, holds labels."""
COMPANIONS: tuple[str, ...] = ("_annotations", "-annotations", "_hypnogram")
"""`<stem><one of these>.edf` beside `<stem>.edf` holds annotations of it, and is no recording."""
TABLE_SUFFIXES: tuple[str, ...] = (".csv", ".tsv")

DETECTED_STAGE_SECONDS = 30.0

_SUBJECT = re.compile(r"(?:^|/)(sub-[A-Za-z0-9]+)(?=[/_.])")  # of BIDS


class Opened(NamedTuple):
    """A recording, ready to be read, with what its source states about it."""

    recording: Recording
    """Of the requested channels and rate."""
    annotations: tuple[Annotation, ...]
    """All there are; those that no rule of the source is about are never stored."""
    patient: str
    """Shared by all recordings of one person."""
    patient_from: str
    """How that is known: `manifest`, `file name`, ..."""
    split: str | None = None
    """`train`, `validation` or `test` if the source says so; else prepare decides."""
    searched: Mapping[str, bool] = {}
    """By task, whether somebody looked for it in all of the recording. Of a task that is not named: for events, yes if
    they are annotated in any recording of the source; for states and findings, yes if this recording has some."""
    notes: tuple[str, ...] = ()
    """What was repaired, left out or is in doubt, in the same words for the same thing, so that they can be counted."""


@dataclass(frozen=True)
class Source(ABC):
    """A place where recordings come from. Subclasses are frozen dataclasses of plain values."""

    root: Path
    """The folder."""

    patients_per_shard: ClassVar[int] = 1
    """More where a patient's recordings last seconds: a file each would be too many."""

    @property
    @abstractmethod
    def title(self) -> str:
        """Where the recordings come from, in words; stands in each shard and each checkpoint trained on it."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The tasks that it labels, and how."""
        return RULES

    @abstractmethod
    def names(self) -> Sequence[str]:
        """Every recording by a name of its own (a path in the folder, with slashes), in a fixed order.

        Raises:
            ValueError: the folder is not of this kind.
        """

    @abstractmethod
    def files(self, name: str) -> Sequence[Path]:
        """The files that a recording and its labels are read from; the first one holds the signal."""

    @abstractmethod
    def open(self, name: str, data: DataConfig) -> Opened:
        """A recording of the channels `data.ch_names` at `data.sfreq`.

        Raises:
            ValueError: it cannot be used; the message says why, and prepare skips it.
            OSError: it cannot be read.
        """

    def grid(self, opened: Opened, *, window: int, hop: int) -> WindowGrid:
        """Where its windows lie, in samples; overridden where a data set says it."""
        return window_grid(opened.recording.segments, window=window, hop=hop)

    def notes(self) -> Sequence[str]:
        """Notes on the source as a whole: for example files that belong to no recording."""
        return ()

    def options(self) -> dict[str, object]:
        """Choices that decide the content of shards, besides files, tasks and `DataConfig`; as JSON holds them."""
        return {}


@dataclass(frozen=True)
class Folder(Source):
    """Recordings (EDF, EDF+, BDF, or what MNE reads) anywhere in a folder, with annotations in them or beside them.

    Beside `<stem>.edf`: `<stem>.csv` or `.tsv`, `<stem>_events.tsv` (of BIDS: without its `_eeg`), and
    `<stem>_annotations.edf` and its like.
    """

    manifest: Mapping[str, ManifestRow] = field(default_factory=dict)
    """By file, from `manifest_rows`."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Units to read channels in instead of the header's, as for `read_recording`."""
    more_rules: tuple[Rule, ...] = ()
    """Tasks besides IEDs, sleep and state."""
    pseudonyms: Pseudonyms = field(default_factory=stored_pseudonyms)
    """Of patients whom only an EDF patient code names."""

    @property
    def title(self) -> str:
        """The folder's name."""
        return self.root.resolve().name

    @property
    def rules(self) -> tuple[Rule, ...]:
        """IEDs, sleep, state, and the tasks that the user named."""
        return RULES + self.more_rules

    def names(self) -> Sequence[str]:
        """Files whose names end as recordings' do and that are no companions of others."""
        if not self.root.is_dir():
            raise ValueError(f"{self.root}: no such folder")
        paths = recording_files(self.root)
        if not paths:
            raise ValueError(f"{self.root}: nothing to prepare (no file ends in {', '.join(SUFFIXES)})")
        return [path.relative_to(self.root).as_posix() for path in paths]

    def notes(self) -> Sequence[str]:
        """What was left out because `detect` wrote it, and folders that cannot be read."""
        results = [path.name for path in _by_suffix(self.root) if _is_result(path)]
        notes = [f"{len(results)} files left out that `siamese-jax detect` wrote: {few(results)}"] if results else []
        used = {path for name in self.names() for path in self.files(name)}
        tables = (path for path in _by_suffix(self.root, TABLE_SUFFIXES) if path not in used and not _is_result(path))
        unread = [path.relative_to(self.root).as_posix() for path in tables if path.name != MANIFEST]
        notes += [f"{len(unread)} tables not read, by their names of no recording: {few(unread)}"] if unread else []
        return notes + unreadable_folders(self.root)

    def files(self, name: str) -> Sequence[Path]:
        """The file and what lies beside it."""
        return [*files_of(self.root / name), *_sidecars(self.root / name)]

    def open(self, name: str, data: DataConfig) -> Opened:
        """A file, with the annotations in it and beside it."""
        path = self.root / name
        refuse_link_to_nothing(path)
        recording = read_recording(path, ch_names=data.ch_names, sfreq=data.sfreq, units=self.units or None)
        annotations, notes = annotations_of(recording)
        row = self.manifest.get(name, ManifestRow())
        patient, patient_from = self._patient(name, recording.patient_code, row)
        searched = {} if row.ied_labelled is None else {IED.name: row.ied_labelled}
        notes = (*notes, *reading_notes(recording))
        return Opened(recording, annotations, patient, patient_from, row.split, searched, notes)

    def _patient(self, name: str, code: str | None, row: ManifestRow) -> tuple[str, str]:
        """Who a recording is of, and how that is known."""
        if row.patient:
            return row.patient, "manifest"
        if code:
            return self.pseudonyms.of(code), "EDF patient code"
        subject = _SUBJECT.search(name)
        return (subject[1] if subject else Path(name).with_suffix("").as_posix()), "file name"

    def options(self) -> dict[str, object]:
        """Units decide the signal."""
        return {"units": dict(sorted(self.units.items()))}


def recording_files(folder: Path) -> list[Path]:
    """Every file under a folder that is a recording of its own, in order; links to nothing among them."""
    every = _by_suffix(folder)
    stems = {(path.parent, path.stem) for path in every}
    return [path for path in every if not _is_companion(path, stems) and not _is_result(path)]


def unreadable_folders(folder: Path) -> list[str]:
    """A line on each folder in a folder that cannot be looked into."""
    errors: list[OSError] = []
    for _ in os.walk(folder, onerror=errors.append):
        pass
    return [f"{Path(error.filename)} cannot be searched: {error.strerror}" for error in errors]


def _by_suffix(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    names = (Path(where, name) for where, _, files in os.walk(folder) for name in files)
    return sorted(path for path in names if path.suffix.lower() in suffixes)


def few(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"


def _is_result(path: Path) -> bool:
    endings = [
        ending for ending in (DETECTED, ANNOTATED, REVIEWED_EDF, VERDICTS, *RESULT_TABLES) if path.name.endswith(ending)
    ]
    return any(path.with_name(f"{path.name.removesuffix(ending)}{RUN}").is_file() for ending in endings)


def manifest_rows(folder: Path, manifest: str | Path | None) -> dict[str, ManifestRow]:
    """What the manifest says by file; `folder/manifest.csv` if there is one and none is given.

    Raises:
        ValueError: no such folder or manifest, a bad manifest, or one that names files that are not there.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    path = Path(manifest) if manifest is not None else folder / MANIFEST
    if manifest is None and not path.exists():
        return {}
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    rows = read_manifest(path)
    absent = [name for name in rows if not (folder / name).is_file()]
    if absent:
        raise ValueError(f"{path} names files that are not in {folder}: {few(absent)}")
    return rows


def reading_notes(recording: Recording) -> tuple[str, ...]:
    """What is to be known about a recording as it was read."""
    report = recording.report
    notes = [*report.warnings]
    if report.missing:
        notes.append(f"lacks {', '.join(report.missing)}")
    if report.truncated:
        notes.append(f"cut short: {report.records_read} of {report.records_expected} records")
    return tuple(notes)


def _is_companion(path: Path, stems: Set[tuple[Path, str]]) -> bool:
    endings = (ending for ending in COMPANIONS if path.stem.lower().endswith(ending))
    return any((path.parent, path.stem[: -len(ending)]) in stems for ending in endings)


def _sidecars(path: Path) -> list[Path]:
    names = {f"{path.stem}.csv", f"{path.stem}.tsv", f"{path.stem.removesuffix('_eeg')}_events.tsv"}
    names |= {f"{path.stem}{ending}.edf" for ending in COMPANIONS} | {f"{path.stem}{REVIEWED}"}
    beside = listed(path.parent)
    return sorted(p for name in names for p in beside.get(name.lower(), ()) if p.is_file())


def refuse_link_to_nothing(path: Path, advice: str = "") -> None:
    """Refuse what is no file. If there is nothing of the name, it was removed, or its disk failed: an `OSError`.

    Raises:
        ValueError: a link to nothing, a pipe, ...
        FileNotFoundError: nothing of this name.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if not path.is_file():
        raise ValueError(f"it is not a file, or it is a link whose target is missing{advice}")


# --- marks in a recording's file and beside it ------------------------------------------------------------------


def annotations_of(recording: Recording) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
    """The annotations in a recording's file and in the files beside it, and notes on them.

    Raises:
        ValueError: a file beside it is damaged, or cannot belong to it.
    """
    found, notes = [*with_origin(recording.annotations)], []
    for sidecar in _sidecars(recording.path) if recording.path else ():
        if sidecar.suffix.lower() in EDF_SUFFIXES:
            marks, said = _companion_marks(sidecar, recording)
            found += with_origin(marks)
            notes += said
        else:
            marks = with_origin(read_annotation_table(sidecar))
            found += _in_doubt(marks) if sidecar.name.lower().endswith(REVIEWED) else marks
    return tuple(found), tuple(notes)


def _in_doubt(marks: Sequence[Annotation]) -> list[Annotation]:
    """A reviewed table's marks: those that nobody has judged yet are neither labels nor free of discharges."""
    return [m._replace(text=f"{m.text}?", origin="reviewed") if m.origin == "machine" else m for m in marks]


def with_origin(annotations: Sequence[Annotation]) -> list[Annotation]:
    """A file's annotations, with the origin `machine` where the texts show that `siamese-jax detect` wrote them.

    Programs that save a file anew may drop the header field that names the origin.
    """
    if not any(is_machine_text(mark.text) for mark in annotations if mark.origin == "human"):
        return list(annotations)
    return [
        mark._replace(origin="machine") if mark.origin == "human" and _as_detect_wrote(mark) else mark
        for mark in annotations
    ]


def _as_detect_wrote(mark: Annotation) -> bool:
    is_stage = mark.text == f"Sleep stage {stage_of(mark.text)}" and mark.duration_seconds == DETECTED_STAGE_SECONDS
    return is_machine_text(mark.text) or is_stage


def _companion_marks(path: Path, recording: Recording) -> tuple[Sequence[Annotation], list[str]]:
    """The annotations of an EDF+ file beside a recording, in seconds from the recording's start.

    The headers of both tell when they start. If the companion does not start with the recording, its marks outside of
    the recording are left out; else all are kept.

    Raises:
        ValueError: by the two headers none of its marks lies in the recording.
    """
    marks, layout = read_annotations(path), read_layout(path)
    ours, theirs, end = recording.start_datetime, start_datetime(layout), end_seconds(recording)
    what = f"its {next((e for e in COMPANIONS if path.stem.lower().endswith(e)), path.suffix)} file"
    if ours is None or theirs is None:
        signal = recording.path
        same_clock = signal is not None and is_edf(signal) and _clock(read_layout(signal)) == _clock(layout)
        return marks, [] if same_clock else [f"{what} or the recording hides its date: taken to start together"]
    late = (theirs - ours).total_seconds()
    if not late:
        return marks, []
    moved = [mark._replace(onset_seconds=mark.onset_seconds + late) for mark in marks]
    before = [m for m in moved if m.onset_seconds < 0 and not m.duration_seconds and stage_of(m.text)]
    inside = before[-1:]  # a stage without duration holds until the next one
    inside += [m for m in moved if m.onset_seconds <= end and m.onset_seconds + m.duration_seconds >= 0]
    way = f"{abs(late):g} s {'after' if late > 0 else 'before'} the recording"
    if marks and not inside:
        raise ValueError(f"by its header {path.name} starts {way}, and none of its marks lies in it: correct the start")
    left_out = f", {len(moved) - len(inside)} outside left out" if len(inside) < len(moved) else ""
    return inside, [f"{what} starts {way}: its marks are moved{left_out}"]


def _clock(layout: Layout) -> tuple[str, float]:
    """The time of day at which a file starts, whatever the date."""
    return layout.field(176, 8), layout.first_seconds
