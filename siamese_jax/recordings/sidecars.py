"""Files beside recordings: annotations as CSV or TSV, and the manifest that names patients and splits."""

import csv
import math
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, get_args

from siamese_jax.recordings.recording import Annotation, Origin
from siamese_jax.vocabulary import standard_name

SPLITS: tuple[str, ...] = ("train", "validation", "test")
MANIFEST = "manifest.csv"
TEXT: tuple[str, ...] = ("label", "text", "description", "trial_type")
"""Names of the column with the annotation's text; the first one present is read."""
PROBABILITY = "probability"
"""A column of the tables that `siamese-jax detect` writes, which have none of texts."""

_MANIFEST_COLUMNS = ("file", "patient", "split", "ied_labelled")
_YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
NO_VALUE = ("", "n/a")
"""Cells that say nothing; BIDS writes n/a."""


class ManifestRow(NamedTuple):
    """What a manifest says about one recording; None where it says nothing."""

    patient: str | None = None
    split: str | None = None
    ied_labelled: bool | None = None


def read_annotation_table(path: str | Path) -> tuple[Annotation, ...]:
    """Annotations of a CSV or TSV file with a header line.

    Columns: `onset` and `duration` in seconds from the first sample of the recording, gaps included (`duration` may
    be empty, `n/a` or missing: 0), one of `label`, `text`, `description`, `trial_type`, and maybe `channel` and
    `origin` (human, machine, reviewed or simulated; empty: human). Others are ignored. In the tables that
    `siamese-jax detect` writes, which have `probability` instead of a text, an empty or missing origin means machine.

    Raises:
        ValueError: no such columns, a time that is no number, another origin, or a file that is not text; with file
            and line.
    """
    path = Path(path)
    annotations = []
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    for line, row in table_rows(path, delimiter, ("onset", (*TEXT, PROBABILITY))):
        onset = as_seconds(path, line, "onset", row["onset"])
        held = row.get("duration", "")
        duration = 0.0 if held.lower() in NO_VALUE else as_seconds(path, line, "duration", held)
        if duration < 0:
            raise ValueError(f"{path}, line {line}: duration must not be negative, given {held}")
        text = next((row[name] for name in TEXT if name in row), None)
        if text is None:
            text = "IED" if "peak" in row else f"Sleep stage {row.get('stage', '?')}"
        channel = row.get("channel", "")
        named = None if channel.lower() in NO_VALUE else standard_name(channel) or channel
        annotations.append(Annotation(onset, duration, text, named, origin_of(path, line, row)))
    return tuple(annotations)


def origin_of(path: Path, line: int, row: Mapping[str, str]) -> Origin:
    """Who made the mark in a row of a table.

    Raises:
        ValueError: a word that names no origin.
    """
    word = row.get("origin", "").lower()
    if word in NO_VALUE:
        return "machine" if PROBABILITY in row and not set(TEXT) & set(row) else "human"
    for origin in get_args(Origin):
        if word == origin:
            return origin
    raise ValueError(f"{path}, line {line}: origin must be one of {', '.join(get_args(Origin))}, given {word!r}")


def listed(folder: Path) -> Mapping[str, Collection[Path]]:
    """Everything in a folder by its name in small letters; the folder is read once as long as nothing changes in it."""
    return _listed(folder, folder.stat().st_mtime_ns)


@lru_cache(maxsize=4096)
def _listed(folder: Path, changed_ns: int) -> Mapping[str, Collection[Path]]:  # noqa: ARG001
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        found.setdefault(path.name.lower(), []).append(path)
    return found


def read_manifest(path: str | Path) -> dict[str, ManifestRow]:
    """A manifest's rows by file, as the file stands there (relative to the folder of recordings).

    A CSV file with a column `file`, and any of `patient`, `split` (train, validation or test) and
    `ied_labelled` (yes or no: whether somebody looked for IEDs); an empty cell says nothing.

    Raises:
        ValueError: unknown columns, a file named twice, or another value than those; with file and line.
    """
    path = Path(path)
    manifest: dict[str, ManifestRow] = {}
    for line, row in table_rows(path, ",", ("file",), allowed=_MANIFEST_COLUMNS):
        name = Path(row["file"]).as_posix()
        if not row["file"] or name in manifest:
            raise ValueError(f"{path}, line {line}: file {row['file']!r} is empty or stands there twice")
        split, labelled = row.get("split", "").lower() or None, row.get("ied_labelled", "").lower() or None
        if split is not None and split not in SPLITS:
            raise ValueError(f"{path}, line {line}: split must be one of {SPLITS}, given {split!r}")
        if labelled is not None and labelled not in _YES_NO:
            raise ValueError(f"{path}, line {line}: ied_labelled must be yes or no, given {labelled!r}")
        manifest[name] = ManifestRow(row.get("patient") or None, split, _YES_NO[labelled] if labelled else None)
    return manifest


def table_rows(
    path: Path,
    delimiter: str,
    required: tuple[str | tuple[str, ...], ...],
    allowed: tuple[str, ...] | None = None,
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """(line number, cells by column in lower case) of each row that is not empty; cells are stripped.

    Raises:
        ValueError: not UTF-8 text, other columns than required and allowed, or a row of another length; with the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    if "\0" in text:
        raise ValueError(f"{path}, line {text[: text.index(chr(0))].count(chr(10)) + 1}: a NUL character")
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    columns: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = [cell.strip().lower() for cell in cells]
                _check_columns(path, reader.line_num, columns, required, allowed)
                continue
            if len(cells) != len(columns):
                where = f"{path}, line {reader.line_num}"
                raise ValueError(f"{where}: {len(cells)} cells, but the header has {len(columns)} columns")
            yield reader.line_num, dict(zip(columns, (cell.strip() for cell in cells), strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    if not columns:
        raise ValueError(f"{path}: empty, it needs a header line")


def _check_columns(
    path: Path,
    line: int,
    columns: list[str],
    required: tuple[str | tuple[str, ...], ...],
    allowed: tuple[str, ...] | None,
) -> None:
    for wanted in required:
        names = (wanted,) if isinstance(wanted, str) else wanted
        if not set(names) & set(columns):
            raise ValueError(f"{path}, line {line}: the header needs a column {' or '.join(names)}, it has {columns}")
    if len(set(columns)) != len(columns):
        raise ValueError(f"{path}, line {line}: the header names a column twice: {columns}")
    unknown = sorted(set(columns) - set(allowed)) if allowed is not None else []
    if unknown:
        raise ValueError(f"{path}, line {line}: unknown columns {unknown}; allowed: {list(allowed or ())}")


def as_seconds(path: Path, line: int, column: str, cell: str) -> float:
    """A cell's number of seconds.

    Raises:
        ValueError: it is none.
    """
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{path}, line {line}: {column} must be a number of seconds, given {cell!r}")
    return value
