"""A reader's verdicts, as the review page saves them, merged into the results of a detection.

    <stem>_verdicts.tsv    every verdict that was ever merged, of any reader: rows are added, never changed or removed
    <stem>_reviewed.csv    the events with their verdicts: `IED`, `no IED`, `IED?`; labels for `prepare`
    <stem>_reviewed.edf    EDF+: accepted events, and those in doubt

The latest verdict on an event counts. What `detect` wrote stays as it was, but for the counts in the run record.
"""

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from siamese_jax import files
from siamese_jax.cohort.sources import REVIEWED, REVIEWED_EDF, RUN, VERDICTS
from siamese_jax.detection.results import EVENTS, read_record, sha256, write_csv
from siamese_jax.recordings.edf_write import write_annotations
from siamese_jax.recordings.recording import Annotation
from siamese_jax.recordings.sidecars import as_seconds, table_rows
from siamese_jax.vocabulary import IED, STAGES, standard_name

COLUMNS = (
    *("recording", "events_sha256", "onset", "duration", "peak", "probability", "channel", "amplitude_uv", "stage"),
    *("verdict", "reader", "at"),
)
LABELS = {"accept": IED.name.upper(), "reject": f"no {IED.name.upper()}", "unsure": f"{IED.name.upper()}?"}
"""What a verdict makes of an event; read as a discharge, as none, and as doubt (`recordings/texts.py`)."""


class Verdict(NamedTuple):
    """One reader's verdict on one event; all as the table holds it."""

    recording: str
    events_sha256: str
    onset: str
    duration: str
    peak: str
    probability: str
    channel: str
    amplitude_uv: str
    stage: str
    verdict: str
    reader: str
    at: str
    """When, as ISO 8601 in UTC, so that texts are in the order of time."""

    @property
    def event(self) -> tuple[str, str]:
        """By which an event is known within a detection."""
        return self.peak, self.channel


class Merged(NamedTuple):
    """The merged verdicts of a recording."""

    name: str
    """Its results' place in the folder, with slashes, without an ending."""
    counts: Mapping[str, int]
    """Events by their latest verdict."""
    n_events: int
    """Events that `detect` found, and those that readers added."""
    n_added: int
    """Verdicts that were not merged before."""
    n_disputed: int
    """Events on which readers differ; the latest verdict counts."""
    files: tuple[Path, ...]


class _Place(NamedTuple):
    """Where the results of a recording lie, and its run record."""

    folder: Path
    record: dict[str, Any]


def read_verdicts(path: Path) -> list[Verdict]:
    """The rows of a table of verdicts.

    Raises:
        ValueError: other columns, or a row that no page writes; with file and line.
    """
    found = []
    for line, row in table_rows(path, "\t", COLUMNS, allowed=COLUMNS):
        for column in ("onset", "duration", "peak"):
            as_seconds(path, line, column, row[column])
        if row["verdict"] not in LABELS:
            raise ValueError(f"{path}, line {line}: verdict must be one of {', '.join(LABELS)}, is {row['verdict']!r}")
        if not standard_name(row["channel"]) or row["stage"] not in ("", *STAGES):
            raise ValueError(f"{path}, line {line}: no event of a page: {row['channel']!r}, stage {row['stage']!r}")
        found.append(Verdict(**{column: row[column] for column in COLUMNS}))
    return found


def merge(folder: Path, tables: Sequence[Path]) -> list[Merged]:
    """Merge tables of verdicts into the results of `detect` in a folder and the folders inside.

    Raises:
        ValueError: a malformed table; verdicts on events that are not in this folder. Then nothing is written.
        OSError: a file cannot be read or written.
    """
    given = [verdict for path in tables for verdict in read_verdicts(path)]
    if not given:
        raise ValueError(f"{', '.join(map(str, tables))}: no verdict in it")
    places: dict[tuple[str, str], _Place] = {}
    for run in sorted(folder.rglob(f"*{RUN}")):
        stem = run.name.removesuffix(RUN)
        record = read_record(run.parent, stem) or {}
        digest = record.get("files", {}).get(f"{stem}{EVENTS}")
        if digest:
            places[stem, digest] = _Place(run.parent, record)
    due: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in given:
        due.setdefault((verdict.recording, verdict.events_sha256), []).append(verdict)
    if unknown := sorted({name for name, digest in due if (name, digest) not in places}):
        raise ValueError(
            f"{folder} holds no results with the events that were judged of {', '.join(map(files.plain, unknown))}:"
            " of another folder, or detected anew since?"
        )
    for stem, digest in due:
        if sha256(places[stem, digest].folder / f"{stem}{EVENTS}") != digest:
            raise ValueError(f"{places[stem, digest].folder / f'{stem}{EVENTS}'} was changed since detect wrote it")
    return [_merge_one(folder, places[key], key[0], verdicts) for key, verdicts in due.items()]


def _merge_one(root: Path, place: _Place, stem: str, verdicts: Sequence[Verdict]) -> Merged:
    folder, record = place
    log = folder / f"{stem}{VERDICTS}"
    before = read_verdicts(log) if log.exists() else []
    every = list(dict.fromkeys([*before, *verdicts]))
    if every != before:
        _write_log(log, every)
    latest = {verdict.event: verdict for verdict in sorted(every, key=lambda verdict: verdict.at)}
    said = Counter(event for event, _ in {(v.event, v.verdict) for v in _last_of_each_reader(every)})
    rows, columns = _judged_rows(folder / f"{stem}{EVENTS}", latest)
    table, edf = folder / f"{stem}{REVIEWED}", folder / f"{stem}{REVIEWED_EDF}"
    write_csv(table, columns, [[row[column] for column in columns] for row in rows])
    write_annotations(edf, _marks(rows))
    counts = Counter(row["verdict"] for row in rows if row["verdict"])
    review: dict[str, Any] = {
        **{verdict: counts[verdict] for verdict in LABELS},
        "not_judged": sum(not row["verdict"] for row in rows),
    }
    review["readers"] = sorted({verdict.reader for verdict in every if verdict.reader})
    review["events_by_stage"] = _counted(record["events_by_stage"], rows)
    files.write_json(folder / f"{stem}{RUN}", record | {"review": review})
    name = (folder / stem).relative_to(root).as_posix()
    n_disputed = sum(n > 1 for n in said.values())
    return Merged(name, counts, len(rows), len(every) - len(before), n_disputed, (table, edf, log))


def _last_of_each_reader(verdicts: Iterable[Verdict]) -> list[Verdict]:
    return list({(v.event, v.reader): v for v in sorted(verdicts, key=lambda verdict: verdict.at)}.values())


def _write_log(path: Path, verdicts: Sequence[Verdict]) -> None:
    lines = ["\t".join(row) for row in (COLUMNS, *verdicts)]
    files.write_text(path, "\n".join(lines) + "\n")


def _judged_rows(
    table: Path, latest: Mapping[tuple[str, str], Verdict]
) -> tuple[list[dict[str, str]], tuple[str, ...]]:
    """The events that were found or judged, in order of their peaks, and the table's columns."""
    with table.open(newline="", encoding="utf-8-sig") as opened:
        reader = csv.DictReader(opened)
        rows, columns = list(reader), (*(reader.fieldnames or ()), "verdict", "reader")
    held = {(row["peak"], row["channel"]): row for row in rows}
    for event, verdict in latest.items():
        row = held.setdefault(event, dict.fromkeys(columns, "") | verdict._asdict())
        row |= {"label": LABELS[verdict.verdict], "origin": "reviewed"}
        row |= {"verdict": verdict.verdict, "reader": verdict.reader}
    for row in held.values():
        row |= {"verdict": row.get("verdict", ""), "reader": row.get("reader", "")}
    return sorted(held.values(), key=lambda row: float(row["peak"])), columns


def _marks(rows: Iterable[Mapping[str, str]]) -> list[Annotation]:
    return [
        Annotation(float(row["onset"]), float(row["duration"]), row["label"], row["channel"], "reviewed")
        for row in rows
        if row["verdict"] in ("accept", "unsure")
    ]


def _counted(before: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Events by stage that no reader rejected, over the minutes that were analysed."""
    kept = Counter(stage for row in rows if row["verdict"] != "reject" for stage in (row["stage"], "all"))
    counted = []
    for row in before:
        n, minutes = kept[row["stage"]], row["minutes"]
        counted.append({**row, "events": n, "per_hour": 60 * n / minutes if minutes else math.nan})
    return counted
