"""Commands that use a trained model: `detect`, `export`."""

import math
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional

from siamese_jax.cli.console import (
    NOT_ANALYSED,
    NOTICE,
    OK,
    SOME_FAILED,
    print_error,
    progress_bar,
    use_compilation_cache,
)
from siamese_jax.cli.evaluation import thresholds_text
from siamese_jax.cli.recordings import channel_units, describe, duration

if TYPE_CHECKING:
    from siamese_jax.checkpoints import Checkpoint
    from siamese_jax.detection.analysis import Analysis
    from siamese_jax.detection.archive import Job, Result
    from siamese_jax.detection.detect import Detections
    from siamese_jax.detection.results import Written
    from siamese_jax.export.bundle import Exported
    from siamese_jax.recordings.recording import Recording


def detect(
    files: Annotated[tuple[Path, ...], Positional, tyro.conf.arg(metavar="FILES")],
    *,
    checkpoint: Path | None = None,
    out: Path = Path("detection"),
    threshold: float | None = None,
    false_per_hour: float | None = None,
    task: str | None = None,
    hop: float = 1.0,
    units: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    nearest: bool = False,
    copy: bool = False,
    reports: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
) -> int:
    """Finds IEDs and sleep stages in recordings; writes tables, EDF+ and, of several files, OUT/summary.csv.

    What is finished is kept: a file is analysed again if it, the model or the settings are others than before.

    Example: siamese-jax detect night.edf --checkpoint runs/mine --out detection

    Args:
        files: EDF or BDF files (with the extra `mne` also what MNE reads), or folders that are searched for them.
        checkpoint: Run, checkpoint, exported bundle, or name of a model of the package (`siamese-jax models`); default
            `ied`.
        out: Folder for what is written, with the same folders inside as those that are searched.
        threshold: Least probability of an event; default the one that was fixed on validation patients.
        false_per_hour: False events an hour whose threshold to take; default 1 with a model of the package.
        task: Which events to find, if the model knows several kinds; default `ied`.
        hop: Seconds from one window to the next.
        units: Units to take instead of the header's, as CHANNEL=UNIT; `*=uV` for all.
        exclude: Electrodes to take as absent, in all files.
        nearest: Let a near electrode of the 10-10 system (AF3) stand in for one of the model's that is missing (Fp1).
        copy: Also write NAME_annotated.edf, a copy of each EDF file with the annotations in it.
        reports: Write a review page for each of several files, too; a single file always gets one.
        workers: Processes to work with, on this machine.
        scheduler: Dask scheduler to work with instead, tcp://HOST:PORT, whose workers see all files under these paths.
    """
    use_compilation_cache()
    from siamese_jax.checkpoints import load
    from siamese_jax.detection.analysis import plan_analysis
    from siamese_jax.detection.archive import Result, find_jobs, refused, standing
    from siamese_jax.locks import locked

    jobs = find_jobs(files, out)
    loaded = load(checkpoint)
    analysis = plan_analysis(
        loaded,
        threshold=threshold,
        false_per_hour=false_per_hour,
        task=task,
        hop_seconds=hop,
        units=channel_units(units),
        exclude=exclude,
        nearest=nearest,
        copy=copy,
    )
    print(f"model     {analysis.model}")
    if exclude:
        print(f"excluded  {', '.join(analysis.settings['exclude'])}")
    with locked(out) as note:
        if note:
            print(f"note      {note}")
        why = refused(jobs)
        found = [Result(job, None, why[job]) if job in why else standing(job, analysis) for job in jobs]
        if len(files) > 1 or workers > 1 or scheduler or any(file.is_dir() for file in files):
            code = _detect_many(found, set(why), out, analysis, workers, scheduler, with_reports=reports)
        else:
            code = _detect_one(found[0], analysis, loaded)
    print(NOTICE)
    return code


def _detect_one(found: "Result", analysis: "Analysis", loaded: "Checkpoint") -> int:
    """With all that there is to say about a recording."""
    from siamese_jax.detection.analysis import analyse

    job = found.job
    if found.record is not None:
        print(f"{job.name} was analysed before with this model and these settings: see {job.folder}")
        return OK
    if found.why:
        print(f"again     {found.why}")
    seconds = 0.0

    def say(recording: "Recording") -> None:
        nonlocal seconds
        seconds = sum(segment.n_times for segment in recording.segments) / recording.sfreq
        print(describe(recording))

    try:
        with progress_bar() as progress:
            result, written = analyse(
                job.file,
                job.folder,
                analysis,
                loaded,
                with_report=True,
                on_read=say,
                on_progress=lambda done: progress("detecting", min(done, seconds), seconds),
            )
            progress("detecting", seconds, seconds)
    except (ValueError, OSError) as error:
        print_error(error)
        return NOT_ANALYSED
    print(detection_text(result.detections, written))
    return OK


def _detect_many(
    found: list["Result"],
    refused: "set[Job]",
    out: Path,
    analysis: "Analysis",
    workers: int,
    scheduler: str | None,
    *,
    with_reports: bool,
) -> int:
    """With a line for each recording, and those that failed once more at the end."""
    from siamese_jax.detection.archive import detect_each, write_summary

    results = [one for one in found if one.record is not None or one.job in refused]
    due = [one.job for one in found if one not in results]
    print(f"files     {len(found)}, of which {sum(one.record is not None for one in found)} are finished")
    for changed, n in Counter(one.why for one in found if one.why and one.job not in refused).items():
        print(f"again     {n}: {changed}")
    done = detect_each(
        due,
        analysis,
        with_reports=with_reports,
        workers=workers,
        scheduler=scheduler,
        on_retry=lambda job, why: print(f"note      {job.name} will be tried again: {why}"),
    )
    for n, result in enumerate(done, start=1):
        results.append(result)
        print(f"{n:>{len(str(len(due)))}}/{len(due)}  {result_text(result)}")
    summary = write_summary(out, results)
    failed = sorted((result for result in results if result.record is None), key=lambda result: result.job.name)
    print(f"wrote     {summary}: {len(results) - len(failed)} files analysed, {len(failed)} failed")
    for result in failed:
        print_error(f"{result.job.name}: {result.why}")
    if failed:
        return NOT_ANALYSED if len(failed) == len(results) else SOME_FAILED
    return OK


def review(
    folder: Annotated[Path, Positional, tyro.conf.arg(metavar="OUT")],
    verdicts: Annotated[tuple[Path, ...], Positional, tyro.conf.arg(metavar="VERDICTS")],
) -> int:
    """Merges verdicts that the review page saved into the results: events, EDF+, counts and the archive's summary.

    What `detect` wrote stays. Copied beside its recording, NAME_reviewed.csv gives `prepare` labels.

    Example: siamese-jax review detection night_verdicts.tsv

    Args:
        folder: What `detect` wrote: its OUT.
        verdicts: Tables that the page saved, NAME_verdicts.tsv; of several readers the latest verdict counts.
    """
    from siamese_jax.detection.archive import update_summary
    from siamese_jax.detection.verdicts import merge
    from siamese_jax.locks import locked

    if not folder.is_dir():
        raise ValueError(f"no such folder: {folder}")
    with locked(folder) as note:
        if note:
            print(f"note      {note}")
        for one in merge(folder, verdicts):
            counts = ", ".join(f"{verdict} {n}" for verdict, n in one.counts.items())
            print(
                f"{one.name}: {sum(one.counts.values())} of {one.n_events} events judged: {counts}; {one.n_added} new"
            )
            if one.n_disputed:
                print(f"note      readers differ on {one.n_disputed} events: the latest verdict counts")
            print("wrote     " + "\n          ".join(map(str, one.files)))
        summary = update_summary(folder)
    if summary:
        print(f"wrote     {summary}")
    print(NOTICE)
    return OK


def models() -> int:
    """Lists the models that come with the package: what they find, in what, what they learnt from, thresholds, card."""
    from siamese_jax import weights
    from siamese_jax.checkpoints import PARAMETERS, read_description, read_thresholds
    from siamese_jax.models.build import chosen_tasks

    for name in weights.names():
        folder = weights.folder(name)
        config, tasks, identity = read_description(folder)
        thresholds = read_thresholds(folder)
        size = (folder / PARAMETERS).stat().st_size / 1e6
        print(f"{name}{' (default)' * (name == weights.DEFAULT)}, {config.model.title}, {size:.1f} MB")
        print("\n".join(f"  task       {task.name}: {', '.join(task.classes)}" for task in chosen_tasks(config, tasks)))
        print(f"  electrodes {' '.join(config.data.ch_names)}, at {config.data.sfreq:g} Hz")
        print(f"  learnt from {'; '.join(identity.sources)}")
        print("\n".join(thresholds_text(thresholds)) if thresholds else "  thresholds none")
        print(f"  folder     {folder}\n  card       {folder / weights.CARD}")
    if not weights.names():
        print("no model comes with this installation: `siamese-jax detect --checkpoint` takes one of yours")
    print(NOTICE)
    return OK


def export(
    checkpoint: Annotated[Path, Positional, tyro.conf.arg(metavar="CHECKPOINT")],
    out: Annotated[Path, Positional, tyro.conf.arg(metavar="OUT")],
    *,
    onnx: bool = False,
) -> int:
    """Writes a trained model as a program that needs no siamese-jax, with parameters and a model card; verified.

    Example: siamese-jax export runs/mine bundle --onnx

    Args:
        checkpoint: Run or checkpoint of `siamese-jax train`, or name of a model of the package.
        out: The folder to make.
        onnx: Also write model.onnx; needs `pip install jax2onnx onnx onnxruntime`.
    """
    use_compilation_cache()
    from siamese_jax.checkpoints import find_folder, load
    from siamese_jax.export.bundle import check_out
    from siamese_jax.export.bundle import export as run_export
    from siamese_jax.export.onnx import check_onnx

    check_out(out)
    if onnx:
        check_onnx()
    folder = find_folder(checkpoint)
    loaded = load(folder)
    print(f"model     {folder}, step {loaded.step}, trained on: {'; '.join(loaded.trained_on)}")
    began = time.monotonic()
    exported = run_export(
        loaded,
        out,
        onnx=onnx,
        figures=_figures(folder),
        on_stage=lambda stage: print(f"{time.monotonic() - began:6.1f} s  {stage}"),
    )
    print(export_text(exported))
    print(f"wrote     {out}, in {time.monotonic() - began:.0f} s")
    print(NOTICE)
    return OK


def export_text(exported: "Exported") -> str:
    """Each file with its size, each program with its largest error."""
    lines = [f"  {size / 1e3:>9,.0f} kB  {name}" for name, size in exported.files.items()]
    for program, errors in exported.errors.items():
        each = ", ".join(f"{output} {error:.1e}" for output, error in errors.items())
        lines.append(f"verified  {program}: log-odds differ from forward's by at most {each}")
    lines.append(f"          (in a process without flax and siamese-jax; {exported.tolerance:g} is allowed)")
    return "\n".join(lines)


def _figures(checkpoint: Path) -> dict[str, Any]:
    """What `evaluate` wrote beside the checkpoint folder, for the model card."""
    from siamese_jax.config.typed import parse_json
    from siamese_jax.files import read_text

    text = read_text(checkpoint.parent, "metrics.json")
    figures = {} if text is None else parse_json(text, str(checkpoint.parent / "metrics.json"))
    if not isinstance(figures, dict):
        raise ValueError(f"{checkpoint.parent / 'metrics.json'} is not what `siamese-jax evaluate` writes")
    return figures


def detection_text(found: "Detections", written: "Written") -> str:
    """Counts by stage with their minutes, the threshold and its origin, the files."""
    lines = [f"threshold {found.threshold:.3f} ({found.threshold_origin})"] if found.task else []
    counts = found.counts()
    lines.append(
        f"{found_text(counts[-1].events, found.task)} in {duration(found.analysed_seconds)} analysed of"
        f" {duration(found.recording_seconds)}"
    )
    lines += [
        f"  {row.stage:<4}{row.events:>6} events {row.minutes:>7.1f} min {_rate(row.per_hour):>8}/h" for row in counts
    ]
    paths = [written.events, written.hypnogram, written.annotations, written.copy, written.run, written.report]
    lines.append("wrote     " + "\n          ".join(str(path) for path in paths if path is not None))
    lines += [f"note      {note}" for note in written.notes]
    return "\n".join(lines)


def result_text(result: "Result") -> str:
    """One recording of many in a line."""
    if result.record is None:
        return f"{result.job.name}  failed"
    every = result.record["events_by_stage"][-1]
    rate = math.nan if every["per_hour"] is None else every["per_hour"]
    found = found_text(every["events"], result.record["settings"]["task"])
    return f"{result.job.name}  {found} in {duration(60 * every['minutes'])}, {_rate(rate)}/h"


def found_text(n: int, task: str | None) -> str:
    """`3 IEDs`, `3 events of spindle`, or that no events were looked for."""
    if task is None:
        return "stages"
    plural = "s" * (n != 1)
    return f"{n} IED{plural}" if task == "ied" else f"{n} event{plural} of {task}"


def _rate(value: float) -> str:
    return f"{value:.1f}" if value == value else "-"  # NaN: none of this stage
