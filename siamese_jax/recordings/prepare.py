"""A folder of EDF files with annotations as shards, split by patient (`siamese-jax prepare`).

    OUT/train/<patient>.h5  OUT/validation/<patient>.h5  OUT/test/<patient>.h5  OUT/prepare.json

Nothing is lost silently: a file is either used or stands in the report with the reason why not. Run again, it
keeps the shards that are finished and goes on with the others.
"""

import dataclasses
import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from siamese_jax.config import DataConfig
from siamese_jax.recordings.cohort import (
    FoundFile,
    Progress,
    SkippedFile,
    find_recordings,
    is_bad,
    label_annotations,
    manifest_rows,
    shard_name,
    split_patients,
)
from siamese_jax.recordings.edf import Recording, read_recording
from siamese_jax.recordings.quantise import LabelledRecording, UnreadableRecordingError
from siamese_jax.recordings.shards import (
    PARTIAL_SUFFIX,
    SCHEMA_VERSION,
    SUFFIX,
    ShardInfo,
    verify_shard,
    write_shard,
)
from siamese_jax.recordings.sidecars import MANIFEST, SPLITS
from siamese_jax.recordings.summary import ShardSummary, clipped_channels, summarise
from siamese_jax.recordings.windows import TASKS, label_windows, window_grid, window_onsets
from siamese_jax.vocabulary import IED, SLEEP, STATE

REPORT = "prepare.json"


class UsedFile(NamedTuple):
    """A recording that a shard holds."""

    name: str
    """Relative to the folder."""
    patient: str
    patient_from: str
    """manifest, EDF patient code or file name."""
    split: str
    notes: tuple[str, ...]
    """What is to be known about it: truncated, channels missing, warnings."""


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did."""

    out: Path
    used: tuple[UsedFile, ...]
    skipped: tuple[SkippedFile, ...]
    notes: tuple[str, ...]
    """Decisions and doubts about the folder as a whole."""
    written: int
    """Shards written by this run; the others were finished before it."""
    summary: ShardSummary

    def text(self) -> str:
        """The report as lines to print."""
        shards = sum(len(split.patients) for split in self.summary.splits)
        lines = [f"{len(self.used)} files used, {len(self.skipped)} skipped; {shards} shards in {self.out}"]
        lines[0] += f", {self.written} of them new" if self.written != shards else ""
        lines += [f"skipped {file.name}: {file.reason}" for file in self.skipped]
        lines += [f"{file.name}: {note}" for file in self.used for note in file.notes]
        return "\n".join([*lines, *self.notes, self.summary.table()])


def prepare(
    folder: str | Path,
    out: str | Path,
    data: DataConfig,
    *,
    hop_seconds: float,
    seed: int,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    manifest: str | Path | None = None,
    units: Mapping[str, str] | None = None,
    source: str | None = None,
    progress: Progress | None = None,
) -> PrepareReport:
    """Make shards in `out` of the EDF, EDF+ and BDF files anywhere under `folder`.

    Annotations come from the files themselves and from what lies beside `<stem>.edf`: `<stem>.csv` or `.tsv`,
    `<stem>_events.tsv` (of BIDS: without its `_eeg`), and `<stem>_annotations.edf` and its like.

    Args:
        folder: searched with all folders in it.
        out: made if need be; finished shards in it are kept if they are of this configuration.
        data: channels, rate and window.
        hop_seconds: from one window's onset to the next.
        seed: decides, with the patients' names, who is in which split.
        fractions: of patients for train, validation and test.
        manifest: CSV file as for `read_manifest`; `folder/manifest.csv` if there is one and none is given.
        units: units to read channels in instead of the header's, as for `read_recording`.
        source: where the recordings come from, in words; stands in each shard and in every checkpoint trained on
            them. Default the folder's name.
        progress: told what is done.

    Raises:
        ValueError: no usable file; a bad manifest; `out` is of another configuration or other patients.
        OSError: `out` cannot be written.
    """
    folder, out, progress = Path(folder), Path(out), progress or _silent
    settings = _Settings(data, hop_seconds, seed, tuple(fractions), dict(units or {}), source or folder.name)
    settings.check()
    rows = manifest_rows(folder, manifest)
    with _locked(out):
        _check_configuration(out, settings)
        files, skipped = find_recordings(folder, rows, partial(_open, settings=settings), progress)
        _check_any(folder, files, skipped)
        splits, notes = _split(files, settings)
        shards = {patient: out / split / shard_name(patient) for patient, split in splits.items()}
        _check_expected(out, shards)
        _write_report(out, settings, {"finished": False})
        unreadable, written = _finish_shards(shards, files, settings, progress)
        skipped += unreadable
        files = [file for file in files if file.name not in {lost.name for lost in skipped}]
        _check_any(folder, files, skipped)
        used = [UsedFile(f.name, f.patient, f.patient_from, splits[f.patient], f.notes) for f in files]
        notes += [*_doubts(files), *clipped_channels(path for path in shards.values() if path.exists())]
        lists = {"used": [f._asdict() for f in used], "skipped": [f._asdict() for f in skipped]}
        _write_report(out, settings, {"finished": True, "notes": notes, **lists})
        return PrepareReport(out, tuple(used), tuple(skipped), tuple(notes), written, summarise(out))


class _Settings(NamedTuple):
    """What decides the content of shards, besides the files."""

    data: DataConfig
    hop_seconds: float
    seed: int
    fractions: tuple[float, ...]
    units: dict[str, str]
    source: str

    @property
    def window(self) -> int:
        return round(self.data.window_seconds * self.data.sfreq)

    @property
    def hop(self) -> int:
        return round(self.hop_seconds * self.data.sfreq)

    def check(self) -> None:
        """Refuse windows or hops that are not whole samples."""
        for name, seconds in (
            ("window_seconds", self.data.window_seconds),
            ("hop_seconds", self.hop_seconds),
        ):
            n = seconds * self.data.sfreq
            if n < 1 or abs(n - round(n)) > 1e-6:
                raise ValueError(f"{name}={seconds} is not a whole number of samples at {self.data.sfreq} Hz")

    def configuration(self) -> dict[str, Any]:
        """As JSON holds it."""
        split = {"seed": self.seed, "fractions": list(self.fractions)}
        return self.shard_configuration() | split

    def shard_configuration(self) -> dict[str, Any]:
        """What decides the content of a shard, whoever else is in the folder; as JSON holds it."""
        held = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self.data)}
        held |= {"hop_seconds": self.hop_seconds, "units": self.units, "source": self.source}
        return json.loads(json.dumps(held))


# --- deciding -----------------------------------------------------------------------------------------------


def _check_any(folder: Path, files: Sequence[FoundFile], skipped: Sequence[SkippedFile]) -> None:
    if not files:
        reasons = "; ".join(f"{file.name}: {file.reason}" for file in skipped) or "no .edf or .bdf file"
        raise ValueError(f"{folder}: nothing to prepare ({reasons})")


def _split(files: Sequence[FoundFile], settings: _Settings) -> tuple[dict[str, str], list[str]]:
    """Each patient's split, and what is to be said about it."""
    fixed: dict[str, str] = {}
    has_ied: dict[str, bool] = {}
    for file in files:
        wanted = file.manifest.split
        if wanted and fixed.setdefault(file.patient, wanted) != wanted:
            raise ValueError(f"{MANIFEST} puts patient {file.patient!r} into {fixed[file.patient]} and {wanted}")
        has_ied[file.patient] = has_ied.get(file.patient, False) or file.has_ied
    splits = split_patients(has_ied, fractions=settings.fractions, seed=settings.seed, fixed=fixed)
    origins = sorted({file.patient_from for file in files})
    notes = [f"patients: {len(has_ied)}, told apart by {' and '.join(origins)}"]
    for name in SPLITS:
        inside = [patient for patient, split in splits.items() if split == name]
        if not inside:
            notes.append(f"{name} is empty: too few patients")
        elif any(has_ied.values()) and not any(has_ied[patient] for patient in inside):
            notes.append(f"{name} has no patient with an IED: too few of them")
    return splits, notes


def _labelled_for(file: FoundFile, files: Sequence[FoundFile]) -> tuple[str, ...]:
    """Tasks that a recording counts as labelled for.

    Who annotated IEDs anywhere in the folder is taken to have looked everywhere, unless the manifest says no.
    """
    looked = file.manifest.ied_labelled
    looked = any(other.has_ied for other in files) if looked is None else looked
    return ((IED.name,) if looked else ()) + ((SLEEP.name, STATE.name) if file.has_stages else ())


def _doubts(files: Sequence[FoundFile]) -> list[str]:
    """Decisions about labels that the reader of the report should judge."""
    looked = [IED.name in _labelled_for(file, files) for file in files]
    free = sum(yes and not file.has_ied for yes, file in zip(looked, files, strict=True))
    unstaged = sum(not file.has_stages for file in files)
    lines = (
        (free, f"have no IED annotation and count as free of IEDs ({MANIFEST}: ied_labelled=no if unseen)"),
        (len(files) - sum(looked), "are not labelled for IEDs"),
        (unstaged, "are not labelled for sleep"),
    )
    return [f"{n} of {len(files)} recordings {text}" for n, text in lines if n]


# --- writing ------------------------------------------------------------------------------------------------


def _open(path: Path, *, settings: _Settings) -> Recording:
    data = settings.data
    recording = read_recording(path, ch_names=data.ch_names, sfreq=data.sfreq, units=settings.units or None)
    if not len(window_grid(recording.segments, window=settings.window, hop=settings.hop).start):
        raise ValueError(f"no stretch without a gap is as long as a window of {data.window_seconds:g} s")
    return recording


def _finish_shards(
    shards: Mapping[str, Path],
    files: Sequence[FoundFile],
    settings: _Settings,
    progress: Progress,
) -> tuple[list[SkippedFile], int]:
    """Write what is not there yet; returns files that could not be read, and how many shards were written."""
    skipped, written = [], 0
    for done, (patient, path) in enumerate(shards.items()):
        progress("writing shards", done, len(shards))
        own = [(file, _labelled_for(file, files)) for file in files if file.patient == patient]
        unreadable, is_new = _finish_shard(path, own, settings)
        skipped += unreadable
        written += is_new
    progress("writing shards", len(shards), len(shards))
    return skipped, written


def _finish_shard(
    path: Path, own: Sequence[tuple[FoundFile, tuple[str, ...]]], settings: _Settings
) -> tuple[list[SkippedFile], bool]:
    """Write a patient's shard unless it is there, without files whose signal cannot be read.

    Returns those files, and whether the shard was written.
    """
    chosen, skipped = list(own), []
    while chosen:
        content = [(file.name, file.digest, tasks) for file, tasks in chosen]
        fingerprint = _hash(json.dumps([settings.shard_configuration(), content]))
        if _is_finished(path, fingerprint):
            return skipped, False
        info = ShardInfo(
            sfreq=settings.data.sfreq,
            ch_names=settings.data.ch_names,
            window=settings.window,
            hop=settings.hop,
            tasks=TASKS,
            patient=chosen[0][0].patient,
            source=settings.source,
            fingerprint=fingerprint,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_shard(path, [_labelled(file, tasks, settings) for file, tasks in chosen], info=info)
        except UnreadableRecordingError as error:
            skipped.append(SkippedFile(error.name, error.reason))
            chosen = [(file, tasks) for file, tasks in chosen if file.name != error.name]
        else:
            return skipped, True
    return skipped, False


def _is_finished(path: Path, fingerprint: str) -> bool:
    if not path.exists():
        return False
    try:
        return verify_shard(path).info.fingerprint == fingerprint
    except ValueError:
        return False  # damaged: it is made again from the recordings


def _labelled(file: FoundFile, tasks: tuple[str, ...], settings: _Settings) -> LabelledRecording:
    try:
        recording = _open(file.path, settings=settings)
        annotations = label_annotations(recording, file.sidecars)
    except (ValueError, OSError) as error:
        raise UnreadableRecordingError(file.name, str(error)) from error
    grid = window_grid(recording.segments, window=settings.window, hop=settings.hop)
    onsets = window_onsets(recording.segments, grid, sfreq=recording.sfreq)
    return LabelledRecording(
        name=file.name,
        recording=recording,
        grid=grid,
        labels=label_windows(annotations, onsets, window_seconds=settings.data.window_seconds, labelled_for=tasks),
        events=annotations,
        bad=tuple((a.onset_seconds, a.duration_seconds) for a in annotations if is_bad(a)),
    )


# --- the folder of shards -----------------------------------------------------------------------------------


def _check_configuration(out: Path, settings: _Settings) -> None:
    """Refuse a folder whose shards were made with other settings."""
    path = out / REPORT
    if not path.exists():
        if any(out.rglob(f"*{SUFFIX}")):
            raise ValueError(f"{out} holds shards but no {REPORT}: prepare into an empty folder")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["configuration"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): prepare into an empty folder") from error
    now = settings.configuration()
    differing = [name for name in now if before.get(name) != now[name]]
    if differing:
        changes = "; ".join(f"{name} was {before.get(name)}, is {now[name]}" for name in differing)
        raise ValueError(f"{out} holds shards of another configuration ({changes}): prepare into an empty folder")


def _check_expected(out: Path, shards: Mapping[str, Path]) -> None:
    """Refuse a folder with shards that this run would not make; remove what a broken run left unfinished."""
    for path in sorted(out.rglob(f"*{PARTIAL_SUFFIX}")):
        path.unlink()
    there = {path for split in SPLITS for path in (out / split).glob(f"*{SUFFIX}")}
    strangers = sorted(there - set(shards.values()))
    if strangers:
        names = ", ".join(path.relative_to(out).as_posix() for path in strangers)
        raise ValueError(
            f"{out} holds shards that the recordings would not give now: {names}. Their patients are gone, or"
            " others that came moved them to another split: prepare into an empty folder"
        )


def _write_report(out: Path, settings: _Settings, held: Mapping[str, Any]) -> None:
    partial_path = out / f"{REPORT}{PARTIAL_SUFFIX}"
    text = json.dumps({"configuration": settings.configuration(), **held}, indent=2)
    partial_path.write_text(text, encoding="utf-8")
    partial_path.replace(out / REPORT)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keep a second process out of the folder; the lock goes with the process, however that ends."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{out}: another process is preparing shards there") from None
        yield


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _silent(what: str, done: int, total: int) -> None:
    pass
