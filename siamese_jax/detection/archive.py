"""Detection over an archive: thousands of recordings, any number of workers, what is finished is kept.

    OUT/<where the recording lies in its folder>/<stem>_events.csv, ..., <stem>_run.json      OUT/summary.csv

A recording is finished where its run record stands beside its results and says that they were made from the same bytes,
with the same model and the same settings. The summary is made of the run records alone: it is the same, byte for byte,
whoever did the work and however often it was interrupted.
"""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from siamese_jax import checkpoints
from siamese_jax.checkpoints import Checkpoint
from siamese_jax.cohort.sources import recording_files
from siamese_jax.detection.analysis import Analysis, analyse, model_digest
from siamese_jax.detection.results import read_record, sha256, signature, write_csv
from siamese_jax.jobs import run_each
from siamese_jax.recordings.read import SUFFIXES
from siamese_jax.vocabulary import SLEEP

SUMMARY = "summary.csv"


class Job(NamedTuple):
    """A recording to analyse, and where its results go."""

    file: Path
    folder: Path
    name: str
    """Its results' folder within OUT, and its own file name, with slashes."""


def find_jobs(given: Sequence[Path], out: Path) -> tuple[Job, ...]:
    """Each file given, and each recording in the folders given, in the order of their names.

    Left out of a folder is what `detect` wrote there, what holds nothing but another file's annotations, and `out`.

    Raises:
        ValueError: nothing given; a path to nothing; a folder without a recording.
    """
    if not given:
        raise ValueError("give at least one file or folder to analyse")
    jobs = []
    for path in given:
        if not path.exists():
            raise ValueError(f"no such file or folder: {path}")
        if not path.is_dir():
            jobs.append(Job(path, out, path.name))
            continue
        is_inside = _lies_in(out, path) and not _lies_in(path, out)
        found = [file for file in recording_files(path) if not (is_inside and _lies_in(file, out))]
        if not found:
            raise ValueError(f"{path}: nothing to analyse (no file ends in {', '.join(SUFFIXES)})")
        for file in found:
            inside = file.relative_to(path)
            jobs.append(Job(file, out / inside.parent, inside.as_posix()))
    return tuple(sorted(jobs, key=lambda job: job.name))


class Result(NamedTuple):
    """What there is of a recording."""

    job: Job
    record: dict[str, Any] | None
    """Its run record, if it is finished."""
    why: str
    """If it is not: why it failed, or what has changed since it was done; nothing if it was never done."""


def refused(jobs: Sequence[Job]) -> dict[Job, str]:
    """The recordings whose results would overwrite one another's, and why each is left out."""
    same: dict[Path, list[Job]] = defaultdict(list)
    for job in jobs:
        same[job.folder / job.file.stem].append(job)
    return {
        job: f"its results would overwrite those of {', '.join(sorted(str(o.file) for o in group if o is not job))}:"
        " rename it, or give another --out"
        for group in same.values()
        if len(group) > 1
        for job in group
    }


def standing(job: Job, analysis: Analysis) -> Result:
    """A recording's run record, if its results are there and are those that would be made now."""
    try:
        record = read_record(job.folder, job.file.stem)
        if record is None:
            return Result(job, None, "")
        before, now = record["settings"], analysis.settings
        changes = [f"{name} was {before.get(name)}, is {now[name]}" for name in now if before.get(name) != now[name]]
        if changes:
            return Result(job, None, "; ".join(changes))
        if not _is_same_file(job.file, record["recording"]):
            return Result(job, None, "the recording is another")
        if not all((job.folder / Path(name).name).is_file() for name in record["files"].keys()):
            return Result(job, None, "not all results are there")
        _summary_row(Result(job, record, ""))
    except (ValueError, LookupError, TypeError, AttributeError):
        return Result(job, None, "its run record is damaged, or of an older version")
    return Result(job, record, "")


def detect_each(
    jobs: Sequence[Job],
    analysis: Analysis,
    *,
    with_reports: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    on_retry: Callable[[Job, str], None] = lambda job, why: None,
) -> Iterator[Result]:
    """Analyse recordings, and give what became of each as they are done.

    Args:
        jobs: from `find_jobs`, without those that are finished.
        analysis: from `plan_analysis`.
        with_reports: write each one's review page, too.
        workers: as for `jobs.run_each`.
        scheduler: likewise; its workers must see checkpoint, recordings and results under the same paths.
        on_retry: told which recording will be tried again, and why.
    """
    there = [job._replace(file=job.file.absolute(), folder=job.folder.absolute()) for job in jobs]
    function = partial(_analyse_in_worker, analysis=analysis, with_report=with_reports)
    outcomes = run_each(
        function, there, workers=workers, scheduler=scheduler, on_retry=lambda index, why: on_retry(jobs[index], why)
    )
    for outcome in outcomes:
        job = jobs[outcome.index]
        # The summary names the file already; where it lies on this machine is left out.
        failure = (outcome.failure or "").replace(str(job.file.absolute()), job.name)
        yield Result(job, outcome.result, failure)


def write_summary(out: Path, results: Sequence[Result]) -> Path:
    """Write a row for each recording, in the order of their names, as `summary.csv` in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [_summary_row(result) for result in sorted(results, key=lambda result: result.job.name)]
    write_csv(out / SUMMARY, SUMMARY_COLUMNS, rows)
    return out / SUMMARY


def update_summary(out: Path) -> Path | None:
    """Make the rows of recordings that were analysed anew of their run records, if `out` holds a summary.

    Raises:
        ValueError: a run record is damaged.
    """
    path = out / SUMMARY
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8-sig") as opened:
        header, *rows = csv.reader(opened)
    for i, (name, status, *_) in enumerate(rows):
        job = Job(Path(name), out / Path(name).parent, name)
        if status == "ok" and (record := read_record(job.folder, Path(name).stem)):
            rows[i] = list(_summary_row(Result(job, record, "")))
    write_csv(path, header, rows)
    return path


SUMMARY_COLUMNS = (
    *("file", "status", "note", "ieds", "minutes", "ieds_per_hour"),
    *(f"{value}_{stage}" for stage in SLEEP.classes for value in ("ieds", "minutes", "ieds_per_hour")),
    *("threshold", "model_sha256"),
)


def _summary_row(result: Result) -> tuple[str, ...]:
    if result.record is None:
        return (result.job.name, "failed", result.why, *[""] * (len(SUMMARY_COLUMNS) - 3))
    record, review = result.record, result.record.get("review")
    counted = {row["stage"]: row for row in (review or record)["events_by_stage"]}
    notes = list(record["warnings"])
    notes += [_review_text(review)] if review else []
    notes += [f"lacks {', '.join(record['channels_missing'])}"] if record["channels_missing"] else []
    notes += ["cut short"] if record["truncated"] else []
    figures = [text for stage in ("all", *SLEEP.classes) for text in _figures(counted.get(stage))]
    settings = record["settings"]
    return (
        *(result.job.name, "ok", "; ".join(notes)),
        *figures,
        *("" if settings["threshold"] is None else f"{settings['threshold']:.6g}", settings["model_sha256"]),
    )


def _review_text(review: dict[str, Any]) -> str:
    judged = sum(review[verdict] for verdict in ("accept", "reject", "unsure"))
    return f"{judged} of {judged + review['not_judged']} events judged, {review['reject']} rejected and not counted"


def _figures(row: dict[str, Any] | None) -> tuple[str, str, str]:
    if row is None:  # of a model that knows no stages
        return "", "", ""
    rate = row["per_hour"]
    return str(row["events"]), f"{row['minutes']:.2f}", "" if rate is None else f"{rate:.2f}"


def _analyse_in_worker(job: Job, *, analysis: Analysis, with_report: bool) -> dict[str, Any]:
    analyse(job.file, job.folder, analysis, _loaded(analysis.checkpoint, analysis.digest), with_report=with_report)
    record = read_record(job.folder, job.file.stem)
    if record is None:
        raise OSError("its results were removed right after they were written: does another process write there?")
    return record


@lru_cache(maxsize=1)
def _loaded(folder: Path | None, digest: str) -> Checkpoint:
    """A worker's checkpoint, read once."""
    checkpoint = checkpoints.load(folder)
    if model_digest(checkpoint) != digest:
        raise RuntimeError("the checkpoint has changed since the command began: is it still being trained?")
    return checkpoint


# --- files --------------------------------------------------------------------------------------------------


def _lies_in(path: Path, folder: Path) -> bool:
    return path.absolute().is_relative_to(folder.absolute())


def _is_same_file(file: Path, before: dict[str, Any]) -> bool:
    """By size and time, else by content."""
    try:
        now = signature(file)
        if now["bytes"] != before["bytes"]:
            return False
        return now["modified_ns"] == before["modified_ns"] or sha256(file) == before["sha256"]
    except OSError:
        return False  # it will say so when it is read
