"""A folder of recordings: its files, what lies beside them, whose they are, and who is in which split."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from siamese_jax.recordings.edf import Annotation, Recording, read_annotations
from siamese_jax.recordings.shards import SUFFIX
from siamese_jax.recordings.sidecars import (
    MANIFEST,
    SPLITS,
    ManifestRow,
    read_annotation_table,
    read_manifest,
)
from siamese_jax.recordings.windows import ied_marks, is_stage
from siamese_jax.vocabulary import is_ied

COMPANIONS: tuple[str, ...] = ("_annotations", "-annotations", "_hypnogram")
"""`<stem><one of these>.edf` beside `<stem>.edf` holds annotations of it, and is no recording."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there are."""

_RECORDING_SUFFIXES = (".edf", ".bdf")
_BAD = re.compile(r"bad([\s_-].*)?", re.IGNORECASE | re.DOTALL)  # MNE's convention: BAD_artefact
_BIDS_SUBJECT = re.compile(r"(?:^|/)(sub-[A-Za-z0-9]+)(?=[/_.])")
_NOTHING_SAID = ManifestRow(None, None, None)


class SkippedFile(NamedTuple):
    """A file that no shard holds."""

    name: str
    reason: str


class FoundFile(NamedTuple):
    """A usable recording as the first look found it."""

    name: str
    """Relative to the folder, with slashes."""
    path: Path
    sidecars: tuple[Path, ...]
    """Files with annotations beside it."""
    digest: str
    """Hash of its bytes and its sidecars'."""
    patient: str
    patient_from: str
    """`manifest`, `EDF patient code` or `file name`."""
    has_ied: bool
    has_stages: bool
    manifest: ManifestRow
    notes: tuple[str, ...]
    """What is to be known about it: truncated, channels missing, warnings."""


def find_recordings(
    folder: Path,
    rows: Mapping[str, ManifestRow],
    open_recording: Callable[[Path], Recording],
    progress: Progress,
) -> tuple[list[FoundFile], list[SkippedFile]]:
    """Every EDF and BDF file under `folder`, opened once by `open_recording`; what cannot be used, and why.

    A file with the same bytes as another is not used: it could be the same night under two patients' names.
    """
    every = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _RECORDING_SUFFIXES and p.is_file())
    paths = [path for path in every if not _is_companion(path, every)]
    files, skipped, seen = [], [], {}
    for done, path in enumerate(paths):
        name = path.relative_to(folder).as_posix()
        progress("reading headers", done, len(paths))
        try:
            recording = open_recording(path)
            content = _file_digest(path)
            file = _found(name, path, recording, content, rows.get(name, _NOTHING_SAID))
        except (ValueError, OSError) as error:
            skipped.append(SkippedFile(name, str(error)))
            continue
        if seen.setdefault(content, name) == name:
            files.append(file)
        else:
            skipped.append(SkippedFile(name, f"the same bytes as {seen[content]}"))
    progress("reading headers", len(paths), len(paths))
    return files, skipped


def manifest_rows(folder: Path, manifest: str | Path | None) -> dict[str, ManifestRow]:
    """What the manifest says by file; `folder/manifest.csv` if there is one and none is given.

    Raises:
        ValueError: no such folder or manifest, a bad manifest, or one that names files that are not there.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    path = Path(manifest) if manifest is not None else folder / MANIFEST
    if manifest is None and not path.exists():
        return {}
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    rows = read_manifest(path)
    absent = [name for name in rows if not (folder / name).is_file()]
    if absent:
        raise ValueError(f"{path} names files that are not in {folder}: {', '.join(absent)}")
    return rows


def label_annotations(recording: Recording, sidecars: Sequence[Path]) -> tuple[Annotation, ...]:
    """Annotations of IEDs, stages and bad intervals, in the recording and beside it; no other text is kept.

    Raises:
        ValueError: a sidecar that cannot be read.
    """
    found = list(recording.annotations)
    for path in sidecars:
        found += read_annotations(path) if path.suffix.lower() == ".edf" else read_annotation_table(path)
    wanted = (a for a in found if is_ied(a.text) or is_stage(a) or is_bad(a))
    return tuple(sorted(wanted, key=lambda annotation: annotation.onset_seconds))


def is_bad(annotation: Annotation) -> bool:
    """Whether an annotation marks an interval without a usable signal: a text such as `BAD_artefact`."""
    return annotation.duration_seconds > 0 and _BAD.fullmatch(annotation.text.strip()) is not None


def split_patients(
    has_ied: Mapping[str, bool],
    *,
    fractions: Sequence[float],
    seed: int,
    fixed: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Each patient's split: `train`, `validation` or `test`.

    Patients stand in an order drawn from the seed and their names alone: the same patients are always split
    the same way. Those with an IED are dealt out first, by the fractions and at least one to each split if
    there are enough; the others then fill the splits up. `fixed` names patients whose split is given.

    Raises:
        ValueError: fractions that are not three numbers from 0 to 1 with sum 1.
    """
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions for {SPLITS} must be three numbers >= 0 with sum 1, given {tuple(fractions)}")
    splits = dict(fixed or {})
    free = [patient for patient in has_ied if patient not in splits]
    free.sort(key=lambda patient: hashlib.sha256(f"{seed}:{patient}".encode()).digest())
    with_ied = [patient for patient in free if has_ied[patient]]
    without = [patient for patient in free if not has_ied[patient]]
    wanted = _quota(len(free), fractions)
    for n, split in zip(_quota(len(with_ied), fractions), SPLITS, strict=True):
        splits |= dict.fromkeys(with_ied[:n], split)
        with_ied = with_ied[n:]
        wanted[SPLITS.index(split)] -= n
    for patient in without:
        emptiest = max(range(len(SPLITS)), key=lambda i: wanted[i])
        splits[patient] = SPLITS[emptiest]
        wanted[emptiest] -= 1
    return splits


def _quota(n: int, fractions: Sequence[float]) -> list[int]:
    """`n` patients by fractions: largest remainders, and nobody left without if there are enough."""
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


def shard_name(patient: str) -> str:
    """A file name that every system takes, and that no other patient has."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", patient).strip("-.")[:40]
    return f"{readable}-{hashlib.sha256(patient.encode()).hexdigest()[:8]}{SUFFIX}"


def _found(name: str, path: Path, recording: Recording, content: str, row: ManifestRow) -> FoundFile:
    sidecars = _sidecars(path)
    annotations = label_annotations(recording, sidecars)
    patient, patient_from = _patient(name, recording.patient_code, row)
    report = recording.report
    notes = [*report.warnings]
    if report.missing:
        notes.append(f"lacks {', '.join(report.missing)}")
    if report.truncated:
        notes.append(f"cut short: {report.records_read} of {report.records_expected} records")
    return FoundFile(
        name=name,
        path=path,
        sidecars=sidecars,
        digest=hashlib.sha256("".join([content, *map(_file_digest, sidecars)]).encode()).hexdigest(),
        patient=patient,
        patient_from=patient_from,
        has_ied=bool(len(ied_marks(annotations).start)),
        has_stages=any(is_stage(annotation) for annotation in annotations),
        manifest=row,
        notes=tuple(notes),
    )


def _is_companion(path: Path, every: Sequence[Path]) -> bool:
    for ending in COMPANIONS:
        if path.stem.lower().endswith(ending):
            stem = path.stem[: -len(ending)]
            return any(other.parent == path.parent and other.stem == stem for other in every)
    return False


def _sidecars(path: Path) -> tuple[Path, ...]:
    names = {f"{path.stem}.csv", f"{path.stem}.tsv", f"{path.stem.removesuffix('_eeg')}_events.tsv"}
    names |= {f"{path.stem}{ending}.edf" for ending in COMPANIONS}
    lower = {name.lower() for name in names}
    return tuple(sorted(p for p in path.parent.iterdir() if p.name.lower() in lower and p.is_file()))


def _patient(name: str, code: str | None, row: ManifestRow) -> tuple[str, str]:
    """Who a recording is of, and how that is known. A header's code may be a name: its hash stands for it."""
    if row.patient:
        return row.patient, "manifest"
    if code:
        return f"edf-{hashlib.sha256(code.encode()).hexdigest()[:10]}", "EDF patient code"
    subject = _BIDS_SUBJECT.search(name)
    return (subject[1] if subject else Path(name).with_suffix("").as_posix()), "file name"


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
