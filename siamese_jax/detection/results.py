"""Detections to files that other programs read: annotation-only EDF+, an annotated copy, CSV, and a run record.

Each file is written under a temporary name and renamed, so that a file that is there is whole.
"""

import csv
import glob
import io
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from siamese_jax import files
from siamese_jax.cohort.sources import ANNOTATED, DETECTED, RUN
from siamese_jax.detection.detect import EPOCH_SECONDS, Detections
from siamese_jax.recordings.edf_write import write_annotated_copy, write_annotations
from siamese_jax.recordings.recording import Annotation, Recording


class Written(NamedTuple):
    """The files of one detection; `copy` is None if there could be none, and then `notes` say why."""

    events: Path
    hypnogram: Path | None
    annotations: Path
    copy: Path | None
    run: Path
    notes: tuple[str, ...]
    """What is to be known about the files: what of a patient's identity is hidden, why there is no copy."""


def annotations_of(detections: Detections) -> tuple[Annotation, ...]:
    """Events and stages as EDF+ annotations, in order of time.

    An event reads `IED p=0.93` and names its channel; a stage reads `Sleep stage N2` (EDF+ standard texts).
    """
    events = [
        Annotation(e.onset_seconds, e.duration_seconds, f"IED p={e.probability:.2f}", e.channel, "machine")
        for e in detections.events
    ]
    stages = [
        Annotation(e.onset_seconds, EPOCH_SECONDS, f"Sleep stage {e.stage}", origin="machine")
        for e in detections.hypnogram
    ]
    return tuple(sorted(stages + events, key=lambda a: a.onset_seconds))


def write_detections(
    folder: Path, recording: Recording, detections: Detections, *, provenance: Mapping[str, Any]
) -> Written:
    """Write all that one detection gives into `folder`, names beginning with the recording's.

    `<stem>_events.csv`, `<stem>_hypnogram.csv` (if stages are known), `<stem>_detected.edf` (EDF+, annotations
    alone), `<stem>_annotated.edf` (a copy of the recording with the annotations added, its signals' bytes unchanged)
    and `<stem>_run.json` (what was analysed, with which threshold and versions). That one is written last: where it
    is, all the others are, and are of one detection.

    Args:
        folder: created if it is not there.
        recording: that was analysed; its file is never touched.
        detections: what was found.
        provenance: for the run record: with which `model`, in words, and whatever else is to stand there.

    Raises:
        ValueError: an annotation-only file that does not read back as written.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = recording.path.stem if recording.path else "array"
    annotations = annotations_of(detections)
    events, run = folder / f"{stem}_events.csv", folder / f"{stem}{RUN}"
    annotated, hypnogram = folder / f"{stem}{ANNOTATED}", None
    if run.exists():  # an earlier detection's: from here on it is none, and not all of its files may be written anew
        for path in (run, annotated, folder / f"{stem}_hypnogram.csv"):
            path.unlink(missing_ok=True)
    for unfinished in folder.glob(f".{glob.escape(stem)}_*{files.PARTIAL}"):  # of a process that was killed
        unfinished.unlink()
    write_csv(events, EVENT_COLUMNS, (_event_row(e) for e in detections.events))
    if detections.hypnogram:
        hypnogram = folder / f"{stem}_hypnogram.csv"
        rows = (
            (f"{e.onset_seconds:.3f}", f"{EPOCH_SECONDS:.3f}", e.stage, f"{e.probability:.4f}")
            for e in detections.hypnogram
        )
        write_csv(hypnogram, ("onset", "duration", "stage", "probability"), rows)
    only = folder / f"{stem}{DETECTED}"
    start, code = recording.start_datetime, recording.patient_code
    notes = [f"{only.name}: {note}" for note in write_annotations(only, annotations, start=start, patient_code=code)]
    copy, of_copy = _write_copy(annotated, recording, annotations)
    notes += of_copy
    names = [path.name for path in (events, hypnogram, only, copy) if path is not None]
    files.write_json(run, {**provenance, **_run_record(recording, detections, notes), "files": names})
    return Written(events, hypnogram, only, copy, run, tuple(notes))


EVENT_COLUMNS = ("onset", "duration", "peak", "probability", "channel", "amplitude_uv", "stage")


def _event_row(event: Any) -> tuple[str, ...]:
    return (
        f"{event.onset_seconds:.3f}",
        f"{event.duration_seconds:.3f}",
        f"{event.peak_seconds:.3f}",
        f"{event.probability:.4f}",
        event.channel,
        f"{event.amplitude_uv:.1f}",
        event.stage or "",
    )


def _write_copy(
    path: Path, recording: Recording, annotations: Sequence[Annotation]
) -> tuple[Path | None, Sequence[str]]:
    if recording.path is None:
        return None, ["no annotated copy: the recording is an array, not a file"]
    try:
        return path, [f"{path.name}: {note}" for note in write_annotated_copy(recording.path, path, annotations)]
    except ValueError as error:
        return None, [f"no annotated copy: {error}"]


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
        "warnings": [*report.warnings, *notes],
        "truncated": report.truncated,
        "events_by_stage": [row._asdict() | {"per_hour": row.per_hour} for row in detections.counts()],
        "notice": "Research use only. Not a medical device.",
    }


def versions() -> dict[str, str]:
    """Of what decides the results."""
    return {name: version(name) for name in ("siamese-jax", "jax")}


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    files.write_text(path, text.getvalue())
