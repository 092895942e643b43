"""The files of one detection: which there are, what stands in them, and that nothing of a reviewer's is overwritten.

    <stem>_events.csv    <stem>_hypnogram.csv (if stages are known)    <stem>_detected.edf
    <stem>_annotated.edf (if wanted)
    <stem>_run.json      what was analysed, how, and the SHA-256 of each of the others

They are written beside and get their names when all are whole. The run record comes first and names the others: a
detection is finished where all that it names are there.
"""

import csv
import hashlib
import io
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from siamese_jax import files
from siamese_jax.cohort.sources import ANNOTATED, DETECTED, RUN, VERDICTS
from siamese_jax.config.typed import parse_json
from siamese_jax.detection.detect import EPOCH_SECONDS, Detection, Detections, Epoch
from siamese_jax.recordings.edf_write import write_annotated_copy, write_annotations
from siamese_jax.recordings.quality import QualityReport
from siamese_jax.recordings.recording import Annotation, Recording
from siamese_jax.vocabulary import IED

EVENTS, HYPNOGRAM = "_events.csv", "_hypnogram.csv"
ENDINGS = (EVENTS, HYPNOGRAM, DETECTED, ANNOTATED)
EVENT_COLUMNS = ("onset", "duration", "label", "origin", "peak", "probability", "channel", "amplitude_uv", "stage")
EPOCH_COLUMNS = ("onset", "duration", "label", "origin", "stage", "probability")
MACHINE = "machine"
LEARNT = "the model learnt from this recording: what it finds here does not show how it performs on others"


class Written(NamedTuple):
    """The files of one detection; `copy` is None if none was wanted, or there could be none: then `notes` say why."""

    events: Path
    hypnogram: Path | None
    annotations: Path
    copy: Path | None
    run: Path
    notes: tuple[str, ...]
    """Notes: that the model learnt from the recording, which electrodes are bad, what of a patient's
    identity is hidden, why there is no copy."""
    report: Path | None = None
    """The review page, if requested."""


def write_detections(
    folder: Path,
    recording: Recording,
    detections: Detections,
    *,
    provenance: Mapping[str, Any],
    source: Mapping[str, int] | None = None,
    learnt_from: Collection[str] = (),
    copy: bool = False,
) -> Written:
    """Write all that one detection gives into `folder`, names beginning with the recording's.

    Tables; `_detected.edf`: EDF+, annotations alone; the run record; and if wanted `_annotated.edf`: a copy of the
    recording with the annotations added, its signals' bytes unchanged. Results of an earlier detection are replaced.

    Args:
        folder: created if it is not there.
        recording: that was analysed; its file is never touched.
        detections: what was found.
        provenance: for the run record: with which `model`, in words, and whatever else is to stand there.
        source: `signature` of the recording's file before it was read; None does not compare.
        learnt_from: SHA-256 of the files that the model learnt from; if this one is among them, the notes say so.
        copy: write `_annotated.edf`, which is as large as the recording.

    Raises:
        ValueError: results that somebody changed are there; a recording that was changed while it was analysed.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = recording.path.stem if recording.path else "array"
    with _staged(folder, stem) as stage:
        parts = {ending: stage / Path(ending).stem for ending in ENDINGS}  # no .edf: nobody takes it for a recording
        file, digests, notes = _write_parts(parts, recording, detections, copy=copy)
        notes = (*detections.quality.notes(), *notes)
        if file.get("sha256") in learnt_from:
            notes = (LEARNT, *notes)
        if recording.path and source and source != signature(recording.path):
            raise ValueError(f"{recording.path.name} was changed while it was analysed")
        record = {**provenance, **_run_record(recording, detections, notes), "recording": {**(source or {}), **file}}
        record["files"] = {f"{stem}{ending}": digest for ending, digest in digests.items()}
        files.write_json(stage / "_run", record)
        check_unchanged(folder, stem)
        for ending in ENDINGS:
            (folder / f"{stem}{ending}").unlink(missing_ok=True)
        paths = {ending: folder / f"{stem}{ending}" for ending in digests}
        files.publish(stage / "_run", run := folder / f"{stem}{RUN}")
        for ending, path in paths.items():
            files.publish(parts[ending], path)
    return Written(paths[EVENTS], paths.get(HYPNOGRAM), paths[DETECTED], paths.get(ANNOTATED), run, notes)


def check_unchanged(folder: Path, stem: str) -> None:
    """Refuse to go on where a result would be overwritten that is not as `detect` wrote it, or that readers judged.

    Raises:
        ValueError: there is one; it is named.
    """
    if (folder / f"{stem}{VERDICTS}").exists():
        raise ValueError(
            f"{folder / f'{stem}{VERDICTS}'} holds readers' verdicts on events that would be overwritten."
            f" Move the results of {stem} to another folder, or give another --out"
        )
    try:
        written = dict((read_record(folder, stem) or {}).get("files", {}))
    except (ValueError, TypeError, AttributeError):
        written = {}  # damaged, or of a version that did not note what it wrote
    for path in (folder / f"{stem}{ending}" for ending in ENDINGS):
        if path.exists() and sha256(path) != written.get(path.name):
            raise ValueError(
                f"{path} is not as detect wrote it, by {stem}{RUN}: somebody may have changed it, and it would be"
                " overwritten. Move it to another folder, or give another --out"
            )


def read_record(folder: Path, stem: str) -> dict[str, Any] | None:
    """The run record of a detection, or None if there is none.

    Raises:
        ValueError: it cannot be read, or is no JSON.
    """
    text = files.read_text(folder, f"{stem}{RUN}")
    return None if text is None else parse_json(text, f"{stem}{RUN}")


def signature(path: Path) -> dict[str, int]:
    """By which a file that was changed is known, most often, without reading it."""
    about = path.stat()
    return {"bytes": about.st_size, "modified_ns": about.st_mtime_ns}


def sha256(path: Path) -> str:
    """Of a file's content."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Of what decides the results."""
    return {name: version(name) for name in ("siamese-jax", "jax")}


# --- what stands in them ------------------------------------------------------------------------------------


def annotations_of(detections: Detections) -> tuple[Annotation, ...]:
    """Events and stages as EDF+ annotations, in order of time.

    An event reads `IED p=0.93` (or `spindle p=0.93`, by the task) and names its channel; a stage reads `Sleep stage N2`
    (EDF+ standard texts).
    """
    label = event_label(detections)
    events = [
        Annotation(e.onset_seconds, e.duration_seconds, f"{label} p={e.probability:.2f}", e.channel, MACHINE)
        for e in detections.events
    ]
    stages = [
        Annotation(e.onset_seconds, EPOCH_SECONDS, f"Sleep stage {e.stage}", None, MACHINE)
        for e in detections.hypnogram
    ]
    return tuple(sorted(stages + events, key=lambda a: a.onset_seconds))


def event_label(detections: Detections) -> str:
    """What an event is called in the files: `IED`, or the task's name."""
    return IED.name.upper() if detections.task == IED.name else detections.task or ""


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table, whole or not at all."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(header)
    writer.writerows(rows)
    files.write_text(path, table.getvalue())


def _event_row(event: Detection, label: str) -> tuple[str, ...]:
    return (
        *(f"{event.onset_seconds:.3f}", f"{event.duration_seconds:.3f}", label, MACHINE),
        *(f"{event.peak_seconds:.3f}", f"{event.probability:.4f}"),
        *(event.channel, f"{event.amplitude_uv:.1f}", event.stage or ""),
    )


def _epoch_row(epoch: Epoch) -> tuple[str, ...]:
    times = f"{epoch.onset_seconds:.3f}", f"{EPOCH_SECONDS:.3f}"
    return (*times, f"Sleep stage {epoch.stage}", MACHINE, epoch.stage, f"{epoch.probability:.4f}")


def _run_record(recording: Recording, detections: Detections, notes: Sequence[str]) -> dict[str, Any]:
    report = recording.report
    return {
        "versions": versions(),
        "threshold": detections.threshold,
        "threshold_origin": detections.threshold_origin,
        "recording_seconds": detections.recording_seconds,
        "analysed_seconds": detections.analysed_seconds,
        "segments": [{"onset_seconds": s.onset_seconds, "samples": s.n_times} for s in recording.segments],
        "channels_used": dict(report.used),
        "channels_missing": list(report.missing),
        "channels_ignored": dict(report.ignored),
        "quality": _quality_record(detections.quality),
        "warnings": [*report.warnings, *notes],
        "truncated": report.truncated,
        "events_by_stage": [row._asdict() | {"per_hour": row.per_hour} for row in detections.counts()],
        "notice": "Research use only. Not a medical device.",
    }


def _quality_record(quality: QualityReport) -> dict[str, Any]:
    stretches = [{"onset_seconds": onset, "duration_seconds": duration} for onset, duration in quality.bad_stretches]
    return {**quality._asdict(), "bad_stretches": stretches}


# --- writing ------------------------------------------------------------------------------------------------


@contextmanager
def _staged(folder: Path, stem: str) -> Iterator[Path]:
    """A folder to write in, gone afterwards; those of processes that were killed go too, of this stem alone."""
    name = re.compile(rf"\.{re.escape(stem)}\.[0-9a-f]{{32}}{re.escape(files.PARTIAL)}")
    for unfinished in [path for path in folder.iterdir() if name.fullmatch(path.name)]:
        shutil.rmtree(unfinished, ignore_errors=True)
    stage = folder / f".{stem}.{uuid4().hex}{files.PARTIAL}"
    stage.mkdir()
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _write_parts(
    parts: Mapping[str, Path], recording: Recording, detections: Detections, *, copy: bool
) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """Write all but the run record; the recording's SHA-256, that of each part, and notes on them."""
    annotations, stem = annotations_of(detections), recording.path.stem if recording.path else "array"
    label = event_label(detections)
    write_csv(parts[EVENTS], EVENT_COLUMNS, (_event_row(event, label) for event in detections.events))
    if detections.hypnogram:
        write_csv(parts[HYPNOGRAM], EPOCH_COLUMNS, map(_epoch_row, detections.hypnogram))
    start, code = recording.start_datetime, recording.patient_code
    hidden = write_annotations(parts[DETECTED], annotations, start=start, patient_code=code)
    notes = [f"{stem}{DETECTED}: {note}" for note in hidden]
    digests = {ending: sha256(part) for ending, part in parts.items() if part.exists()}
    if recording.path is None:
        no_copy = ("no annotated copy: the recording is an array, not a file",) * copy
        return {}, digests, (*notes, *no_copy)
    if not copy:
        return {"sha256": sha256(recording.path)}, digests, tuple(notes)
    try:
        copied = write_annotated_copy(recording.path, parts[ANNOTATED], annotations)
    except ValueError as error:
        return {"sha256": sha256(recording.path)}, digests, (*notes, f"no annotated copy: {error}")
    notes += [f"{stem}{ANNOTATED}: {note}" for note in copied.notes]
    return {"sha256": copied.source_sha256}, digests | {ANNOTATED: copied.sha256}, tuple(notes)
