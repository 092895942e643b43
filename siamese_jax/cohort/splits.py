"""The recordings of a source: what a first look finds, whose they are, and who is in which split and shard."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from siamese_jax.cohort.marks_found import Marks, marks_of, settled
from siamese_jax.cohort.sources import Source
from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.recording import Annotation
from siamese_jax.recordings.sidecars import SPLITS
from siamese_jax.recordings.windows import window_onsets
from siamese_jax.shards.labels import EventRule, Rule
from siamese_jax.shards.schema import SUFFIX

_BAD = re.compile(r"bad([\s_-].*)?", re.IGNORECASE | re.DOTALL)  # MNE's convention: BAD_artefact


class SkippedFile(NamedTuple):
    """A recording that no shard holds."""

    name: str
    reason: str


class Found(NamedTuple):
    """A usable recording as the first look found it."""

    name: str
    patient: str
    patient_from: str
    split: str | None
    searched: dict[str, bool]
    """As for `Opened`."""
    marked: tuple[str, ...]
    """Tasks of which it has an annotation of a known class."""
    digest: str
    """Hash of its files' bytes."""
    content: str
    """Hash of the bytes of the file with its signal."""
    notes: tuple[str, ...]
    marks: Marks


def look(name: str, *, source: Source, data: DataConfig, window: int, hop: int) -> Found:
    """Open a recording once.

    Raises:
        ValueError: it cannot be used.
        OSError: it cannot be read.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("its name is no UTF-8 text: rename it") from None
    opened = source.open(name, data)
    annotations, n_ended = settled(opened.annotations, source.rules)
    grid, recording = source.grid(opened, window=window, hop=hop), opened.recording
    if not len(grid.start):
        raise ValueError(f"no stretch without a gap is as long as a window of {data.window_seconds:g} s")
    onsets = window_onsets(recording.segments, grid, sfreq=data.sfreq)
    seconds = data.window_seconds
    marks = marks_of(annotations, recording, source.rules, onsets, window_seconds=seconds, n_ended=n_ended)
    digests = [_file_digest(path) for path in source.files(name)]
    return Found(
        name=name,
        patient=opened.patient,
        patient_from=opened.patient_from,
        split=opened.split,
        searched=dict(opened.searched) | dict.fromkeys(marks.misplaced, False),
        marked=tuple(rule.task.name for rule in source.rules if any(rule.class_of(text) for text, _ in marks.texts)),
        digest=hashlib.sha256("".join(digests).encode()).hexdigest(),
        content=digests[0],
        notes=(*opened.notes, *marks.notes),
        marks=marks,
    )


def without_copies(files: Iterable[Found]) -> tuple[list[Found], list[SkippedFile]]:
    """Files without copies of a signal, byte for byte: a copy could be named after another patient."""
    kept, skipped, seen = [], [], {}
    for file in files:
        if seen.setdefault(file.content, file.name) == file.name:
            kept.append(file)
        else:
            skipped.append(SkippedFile(file.name, f"the same bytes as {seen[file.content]}"))
    return kept, skipped


def is_bad(annotation: Annotation) -> bool:
    """Whether somebody marked an interval without a usable signal: a text such as `BAD_artefact`."""
    is_long, is_person = annotation.duration_seconds > 0, annotation.origin != "machine"
    return is_long and is_person and _BAD.fullmatch(annotation.text.strip()) is not None


def labelled_for(files: Sequence[Found], rules: Sequence[Rule]) -> dict[str, tuple[str, ...]]:
    """Tasks that each recording counts as labelled for, by its name.

    Who annotated an event anywhere in the source is taken to have looked everywhere, unless it says no.
    """
    anywhere = {task for file in files for task in file.marked}
    labelled = {}
    for file in files:
        searched = {r.task.name: r.task.name in (anywhere if isinstance(r, EventRule) else file.marked) for r in rules}
        labelled[file.name] = tuple(
            task for task, yes in (searched | file.searched).items() if yes and task in searched
        )
    return labelled


# --- splits and shards --------------------------------------------------------------------------------------


def split_patients(
    has_event: Mapping[str, bool],
    *,
    fractions: Sequence[float],
    seed: int,
    fixed: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Each patient's split: `train`, `validation` or `test`.

    Patients stand in an order drawn from the seed and their names alone: the same patients are always split
    the same way. Those with an event (an IED) are assigned first, by the fractions and at least one to each split
    if there are enough; the others then fill the splits up. `fixed` names patients whose split is given.

    Raises:
        ValueError: fractions that are not three numbers from 0 to 1 with sum 1.
    """
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions for {SPLITS} must be three numbers >= 0 with sum 1, given {tuple(fractions)}")
    splits = dict(fixed or {})
    free = [patient for patient in has_event if patient not in splits]
    free.sort(key=lambda patient: hashlib.sha256(f"{seed}:{patient}".encode()).digest())
    with_event = [patient for patient in free if has_event[patient]]
    without = [patient for patient in free if not has_event[patient]]
    wanted = _quota(len(free), fractions)
    for n, split in zip(_quota(len(with_event), fractions), SPLITS, strict=True):
        splits |= dict.fromkeys(with_event[:n], split)
        with_event = with_event[n:]
        wanted[SPLITS.index(split)] -= n
    for patient in without:
        emptiest = max(range(len(SPLITS)), key=lambda i: wanted[i])
        splits[patient] = SPLITS[emptiest]
        wanted[emptiest] -= 1
    return splits


def _quota(n: int, fractions: Sequence[float]) -> list[int]:
    """`n` patients by fractions: largest remainders, and at least one for each if there are enough."""
    exact = [n * fraction for fraction in fractions]
    quota = [int(share + 1e-9) for share in exact]
    by_remainder = sorted(range(len(quota)), key=lambda i: quota[i] - exact[i])
    for i in by_remainder[: n - sum(quota)]:
        quota[i] += 1
    for i, fraction in enumerate(fractions):
        if quota[i] == 0 and fraction > 0 and n >= sum(f > 0 for f in fractions):
            quota[quota.index(max(quota))] -= 1
            quota[i] = 1
    return quota


def shard_paths(out: Path, splits: Mapping[str, str], patients_per_shard: int) -> dict[Path, list[str]]:
    """Which patients each shard holds, every patient in one; a shard of one bears that patient's name."""
    paths = {}
    for split in SPLITS:
        patients = sorted(patient for patient, name in splits.items() if name == split)
        for first in range(0, len(patients), patients_per_shard):
            group = patients[first : first + patients_per_shard]
            name = (
                shard_name(group[0]) if patients_per_shard == 1 else f"part-{first // patients_per_shard:05d}{SUFFIX}"
            )
            paths[out / split / name] = group
    return paths


def shard_name(patient: str) -> str:
    """A file name that every system takes, and that no other patient has."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", patient).strip("-.")[:40]
    return f"{readable}-{hashlib.sha256(patient.encode()).hexdigest()[:8]}{SUFFIX}".lstrip("-")


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
