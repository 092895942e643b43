"""One model, one recording: what decides the results, and read, detect, write: `detect` of Python and of the shell."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from siamese_jax import weights
from siamese_jax.checkpoints import Checkpoint
from siamese_jax.detection.detect import HOP_SECONDS, detect, event_task, event_threshold, excluded
from siamese_jax.detection.found import Found
from siamese_jax.detection.report import write_report
from siamese_jax.detection.results import Written, check_unchanged, sha256, signature, versions
from siamese_jax.recordings.read import read_recording
from siamese_jax.recordings.recording import Recording
from siamese_jax.tensors import named
from siamese_jax.vocabulary import IED


@dataclass(frozen=True)
class Analysis:
    """What is done with each recording."""

    checkpoint: Path | None
    """Where workers find it; None if it was never loaded from a folder."""
    digest: str
    """Hash of the checkpoint's content."""
    model: str
    """The checkpoint in words."""
    threshold: float | None
    """As given; None takes the checkpoint's own."""
    false_per_hour: float | None
    """Or the checkpoint's for so many false events an hour."""
    task: str | None
    """Of the events; None if the model knows stages alone."""
    settings: dict[str, Any]
    """What decides the results besides the recording's bytes; stands in the run record, as JSON holds it."""


def plan_analysis(
    checkpoint: Checkpoint,
    *,
    threshold: float | None = None,
    hop_seconds: float = HOP_SECONDS,
    units: Mapping[str, str] | None = None,
    false_per_hour: float | None = None,
    task: str | None = None,
    exclude: Sequence[str] = (),
    nearest: bool = False,
    copy: bool = False,
) -> Analysis:
    """What is to be done, checked before any recording is read.

    Args:
        checkpoint: as loaded.
        threshold: least probability of an event; None takes the checkpoint's own, or, of a model that comes with the
            package, that of `weights.FALSE_PER_HOUR`.
        hop_seconds: from one window to the next.
        units: units to take instead of the header's, by channel.
        false_per_hour: take the threshold that was fixed for so many false events an hour.
        task: binary task whose events are wanted; None takes `event_task`.
        exclude: electrodes to take as absent.
        nearest: let a near electrode stand in for one that is missing.
        copy: write a copy of each recording with the annotations in it.

    Raises:
        ValueError: a checkpoint that knows neither events nor stages; an impossible threshold or hop; a rate
            for which no threshold was fixed; an electrode to exclude that the model does not know.
    """
    checkpoint.config.hop(hop_seconds)
    digest = model_digest(checkpoint)
    task, folder = event_task(checkpoint, task), checkpoint.folder
    is_ours = folder is not None and weights.is_ours(folder)
    if is_ours and task is not None and threshold is None and false_per_hour is None:
        false_per_hour = weights.FALSE_PER_HOUR
    least, _ = event_threshold(checkpoint, threshold, false_per_hour=false_per_hour, task=task)
    settings = {"model_sha256": digest, "threshold": None if math.isnan(least) else least, "hop_seconds": hop_seconds}
    settings |= {"units": dict(units or {}), "exclude": sorted(excluded(checkpoint.config, exclude)), "copy": copy}
    settings |= {"task": task, "nearest": nearest} | versions()
    title = "a model" if folder is None else weights.title(folder)
    words = f"{title}, step {checkpoint.step}, trained on: {'; '.join(checkpoint.trained_on)}"
    return Analysis(folder and folder.absolute(), digest, words, threshold, false_per_hour, task, settings)


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
) -> tuple[Found, Written]:
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
    wanted = {"ch_names": data.ch_names, "sfreq": data.sfreq, "nearest": settings["nearest"]}
    recording = read_recording(file, **wanted, units=settings["units"])
    source = signature(file)
    on_read(recording)
    found = find(recording, analysis, checkpoint, source=source, on_progress=on_progress)
    written = found.save(folder, copy=settings["copy"])
    if with_report and analysis.task == IED.name:  # the page asks whether an event is an IED
        digest = sha256(written.events)
        report = write_report(folder, recording, found.detections, model=analysis.model, events_sha256=digest)
        said = (f"{report.path.name} holds all signal but {report.left_out_seconds:.0f} s: the limit of its size",)
        written = written._replace(report=report.path, notes=written.notes + said * (report.left_out_seconds > 0))
    return found, written


def find(
    recording: Recording,
    analysis: Analysis,
    checkpoint: Checkpoint,
    *,
    source: Mapping[str, int] | None = None,
    on_progress: Callable[[float], None] = lambda seconds: None,
) -> Found:
    """Detect in a recording that was read; nothing is written.

    Args:
        recording: of the checkpoint's channels and rate.
        analysis: how.
        checkpoint: that `analysis` was made for.
        source: `signature` of the recording's file before it was read.
        on_progress: told the seconds of signal that are done.

    Raises:
        ValueError: a recording that cannot be analysed.
    """
    detections = detect(
        checkpoint,
        recording,
        threshold=analysis.threshold,
        false_per_hour=analysis.false_per_hour,
        hop_seconds=analysis.settings["hop_seconds"],
        task=analysis.task,
        exclude=analysis.settings["exclude"],
        on_progress=on_progress,
    )
    provenance = {"model": analysis.model, "settings": analysis.settings}
    return Found(recording, detections, provenance, checkpoint.identity.recordings, source)
