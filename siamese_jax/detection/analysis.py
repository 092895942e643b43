"""One model, one recording: what decides the results, and read, detect, write."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siamese_jax import weights
from siamese_jax.checkpoints import Checkpoint
from siamese_jax.detection.detect import Detections, detect, event_threshold, excluded
from siamese_jax.detection.report import write_report
from siamese_jax.detection.results import Written, check_unchanged, sha256, signature, versions, write_detections
from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.recording import Recording
from siamese_jax.tensors import named


@dataclass(frozen=True)
class Analysis:
    """What is done with each recording."""

    checkpoint: Path
    digest: str
    """Hash of the checkpoint's content."""
    model: str
    """The checkpoint in words."""
    threshold: float | None
    """As given; None takes the checkpoint's own."""
    false_per_hour: float | None
    """Or the checkpoint's for so many false events an hour."""
    settings: dict[str, Any]
    """What decides the results besides the recording's bytes; stands in the run record, as JSON holds it."""


def plan_analysis(
    folder: Path,
    checkpoint: Checkpoint,
    *,
    threshold: float | None,
    hop_seconds: float,
    units: dict[str, str],
    false_per_hour: float | None = None,
    exclude: Sequence[str] = (),
) -> Analysis:
    """What is to be done, checked before any recording is read.

    Args:
        folder: where the checkpoint came from.
        checkpoint: as loaded.
        threshold: least probability of an event; None takes the checkpoint's own.
        hop_seconds: from one window to the next.
        units: units to take instead of the header's, by channel.
        false_per_hour: take the threshold that was fixed for so many false events an hour.
        exclude: electrodes to take as absent.

    Raises:
        ValueError: a checkpoint that detects no events; an impossible threshold or hop; a rate for which no threshold
            was fixed; an electrode to exclude that the model does not know.
    """
    checkpoint.config.hop(hop_seconds)
    digest = model_digest(checkpoint)
    least, _ = event_threshold(checkpoint, threshold, false_per_hour=false_per_hour)
    settings = {"model_sha256": digest, "threshold": least, "hop_seconds": hop_seconds, "units": units}
    settings |= {"exclude": sorted(excluded(checkpoint.config, exclude))} | versions()
    words = f"{weights.title(folder)}, step {checkpoint.step}, trained on: {'; '.join(checkpoint.trained_on)}"
    return Analysis(folder.absolute(), digest, words, threshold, false_per_hour, settings)


def model_digest(checkpoint: Checkpoint) -> str:
    """SHA-256 of configuration, tasks and parameters; a checkpoint and the bundle made of it have the same."""
    digest = hashlib.sha256(f"{checkpoint.config.to_json()} {checkpoint.tasks}".encode())
    for name, leaf in sorted(named(checkpoint.variables).items()):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def analyse(
    file: Path,
    folder: Path,
    analysis: Analysis,
    checkpoint: Checkpoint,
    *,
    with_report: bool = False,
    on_read: Callable[[Recording], None] = lambda recording: None,
    on_progress: Callable[[float], None] = lambda seconds: None,
) -> tuple[Detections, Written]:
    """Read one recording, detect, and write what was found.

    Args:
        file: the recording.
        folder: where its results go.
        analysis: how.
        checkpoint: that `analysis` was made for.
        with_report: write the review page, too.
        on_read: told the recording before anything else is done with it.
        on_progress: told the seconds of signal that are done.

    Raises:
        ValueError: a recording that cannot be analysed, or results in `folder` that somebody changed.
        OSError: it cannot be read, or its results not written.
    """
    check_unchanged(folder, file.stem)  # before the work; once more before anything is written
    data, settings = checkpoint.config.data, analysis.settings
    recording = read_recording(file, ch_names=data.ch_names, sfreq=data.sfreq, units=settings["units"])
    source = signature(file)
    on_read(recording)
    found = detect(
        checkpoint,
        recording,
        threshold=analysis.threshold,
        false_per_hour=analysis.false_per_hour,
        hop_seconds=settings["hop_seconds"],
        exclude=settings["exclude"],
        on_progress=on_progress,
    )
    provenance = {"model": analysis.model, "settings": settings}
    written = write_detections(
        folder, recording, found, provenance=provenance, source=source, learnt_from=checkpoint.identity.recordings
    )
    if with_report:
        digest = sha256(written.events)
        report = write_report(folder, recording, found, model=analysis.model, events_sha256=digest)
        said = (f"{report.path.name} holds all signal but {report.left_out_seconds:.0f} s, for which it has no room",)
        written = written._replace(report=report.path, notes=written.notes + said * (report.left_out_seconds > 0))
    return found, written
