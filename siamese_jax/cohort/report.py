"""The report and the settings of `prepare`, and whether a folder of shards fits them."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from siamese_jax.cohort.marks_found import TextRow, table
from siamese_jax.cohort.sources import few
from siamese_jax.cohort.splits import SkippedFile
from siamese_jax.files import write_json
from siamese_jax.recordings.sidecars import SPLITS
from siamese_jax.shards.schema import PARTIAL_SUFFIX, SUFFIX, open_shard
from siamese_jax.shards.summary import ShardSummary

REPORT = "prepare.json"
SHOWN = 20
"""How many notes on recordings are printed."""


class UsedFile(NamedTuple):
    """A recording that a shard holds."""

    name: str
    patient: str
    patient_from: str
    """How the patient is known: manifest, EDF patient code, file name, ..."""
    split: str
    notes: tuple[str, ...]
    """What is to be known about it: repaired, truncated, channels missing, warnings."""


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did."""

    out: Path
    used: tuple[UsedFile, ...]
    skipped: tuple[SkippedFile, ...]
    notes: tuple[str, ...]
    """Decisions and doubts about the source as a whole."""
    retried: tuple[tuple[str, str], ...]
    """Recordings and shards that were tried again, and why: their worker was lost, or a disk failed for a moment."""
    texts: tuple[TextRow, ...]
    """Every text of a mark, and how it was read."""
    written: int
    """Shards written by this run; the others were finished before it."""
    summary: ShardSummary

    def text(self) -> str:
        """The report as lines to print."""
        shards = sum(split.shards for split in self.summary.splits)
        used = f"{len(self.used)} file{'s' * (len(self.used) != 1)} used, {len(self.skipped)} skipped"
        lines = [f"{used}; {shards} shard{'s' * (shards != 1)} in {self.out}"]
        lines[0] += f", {self.written} of them new" if self.written != shards else ""
        lines += [f"skipped {line}" for line in grouped((file.reason, file.name) for file in self.skipped)]
        lines += grouped((why, name) for name, why in self.retried)
        notes = grouped((note, file.name) for file in self.used for note in file.notes)
        lines += notes[:SHOWN] + ([f"and {len(notes) - SHOWN} more notes in {REPORT}"] if len(notes) > SHOWN else [])
        lines += [*self.notes, *table(self.texts, more_in=REPORT), self.summary.table()]
        return "\n".join(lines).encode(errors="backslashreplace").decode()  # a file's name need not be text


def grouped(said: Iterable[tuple[str, str]]) -> list[str]:
    """Lines about recordings, each text once, with the names of the first few."""
    names = defaultdict(list)
    for text, name in said:
        names[text].append(name)
    return [f"{few(group)}: {text}" for text, group in names.items()]


def check_configuration(out: Path, now: Mapping[str, Any]) -> None:
    """Refuse a folder whose shards were made with other settings."""
    held = read_report(out)
    if held is None:
        if any(out.rglob(f"*{SUFFIX}")):
            raise ValueError(f"{out} holds shards but no {REPORT}: prepare into an empty folder")
        return
    before = held.configuration
    differing = [name for name in now if before.get(name) != now[name]]
    if differing:
        changes = "; ".join(f"{name} was {before.get(name)}, is {now[name]}" for name in differing)
        raise ValueError(f"{out} holds shards of another configuration ({changes}): prepare into an empty folder")


def check_expected(out: Path, shards: Mapping[Path, Sequence[str]]) -> None:
    """Refuse a folder with shards that this run would not make; remove what a broken run left unfinished."""
    for path in sorted(out.rglob(f"*{PARTIAL_SUFFIX}")):
        path.unlink()
    split_of = {patient: path.parent.name for path, patients in shards.items() for patient in patients}
    there = sorted(path for split in SPLITS for path in (out / split).glob(f"*{SUFFIX}"))
    unexpected = [path for path in there if path not in shards or _holds_others(path, split_of)]
    if unexpected:
        names = few([path.relative_to(out).as_posix() for path in unexpected])
        raise ValueError(
            f"{out} holds shards that the recordings would not give now: {names}. Their patients were removed, or"
            " moved to another split by new patients: prepare into an empty folder"
        )


def _holds_others(path: Path, split_of: Mapping[str, str]) -> bool:
    """Whether a shard holds a patient who is in another split now: one of many patients keeps its name."""
    try:
        patients = open_shard(path).patients
    except ValueError:
        return False  # damaged: it is made again
    return any(split_of.get(patient, path.parent.name) != path.parent.name for patient in patients)


def refuse_unfinished(out: Path) -> None:
    """Refuse a folder of shards in which `prepare` has not come to its end."""
    held = read_report(out)
    if held and not held.finished:
        raise ValueError(f"{out}: preparing it was not finished: run it again, and it resumes")


class Held(NamedTuple):
    """What a folder's `prepare.json` says."""

    configuration: dict[str, Any]
    finished: bool
    used: tuple[str, ...]
    """Names of the recordings that shards hold, if it is finished."""
    skipped: tuple[str, ...]
    """Names of those that were left out."""


def read_report(out: Path) -> Held | None:
    """What `prepare.json` says; None if there is none.

    Raises:
        ValueError: it is damaged.
    """
    path = out / REPORT
    if not path.exists():
        return None
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        used, skipped = (tuple(str(file["name"]) for file in held.get(key, ())) for key in ("used", "skipped"))
        return Held(dict(held["configuration"]), held["finished"] is True, used, skipped)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): prepare into an empty folder") from error


def write_report(out: Path, configuration: Mapping[str, Any], held: Mapping[str, Any]) -> None:
    """Write `prepare.json`, whole or not at all."""
    write_json(out / REPORT, {"configuration": configuration, **held})
