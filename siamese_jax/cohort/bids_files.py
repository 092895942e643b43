"""The files of a BIDS data set: what their names say, and which tables are about which recording.

Source: BIDS 1.10, common principles: file name structure and the inheritance principle; derivatives.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from siamese_jax.cohort.sources import few
from siamese_jax.recordings.edf_records import read_layout
from siamese_jax.recordings.edf_times import read_stamps
from siamese_jax.recordings.read import is_edf
from siamese_jax.recordings.sidecars import table_rows

DESCRIPTION = "dataset_description.json"
SUFFIXES: tuple[str, ...] = (".edf", ".bdf", ".vhdr", ".set")
"""The formats of BIDS."""
OURS = "siamese-jax"
"""A pipeline of this name wrote what a model found, which must never become what it learns."""
OF_A_TABLE: tuple[str, ...] = ("desc", "space", "res", "den", "label", "recording")
"""Entities of a table's name that no recording's name has."""


def entities_of(path: Path) -> dict[str, str]:
    """`sub`, `ses`, `task` and so on, from a file's name; numbers without their zeros."""
    pairs = [part.partition("-") for part in path.name.partition(".")[0].split("_")]
    return {key: (value.lstrip("0") or "0") if key in ("run", "split") else value for key, dash, value in pairs if dash}


def ending_of(path: Path) -> str:
    """`eeg`, `events` and so on."""
    return path.name.partition(".")[0].rpartition("_")[2]


def is_recording(path: Path) -> bool:
    """Whether a file in an `eeg` folder is a recording by its name."""
    return path.suffix.lower() in SUFFIXES and ending_of(path) == "eeg"


def applies(entities: Mapping[str, str], recording: Mapping[str, str], *, ignoring: Sequence[str] = ()) -> bool:
    """Whether a file is about a recording: its name has no entity that the recording's lacks or has otherwise."""
    return all(recording.get(key) == value for key, value in entities.items() if key not in ignoring)


def inherited(root: Path, recording: Path) -> list[Path]:
    """Tables and dictionaries that apply to a recording, the lowest in the folders first (inheritance principle)."""
    entities, folder, found = entities_of(recording), recording.parent, []
    while True:
        near = [(path, of) for path, of in _tables_in(folder, folder.stat().st_mtime_ns) if applies(of, entities)]
        found += [path for path, of in sorted(near, key=lambda one: (-len(one[1]), one[0].name))]
        if folder == root or folder == folder.parent:
            return found
        folder = folder.parent


@lru_cache(maxsize=4096)
def _tables_in(folder: Path, changed_ns: int) -> list[tuple[Path, dict[str, str]]]:  # noqa: ARG001
    """Tables and dictionaries in a folder, and what their names say; read once as long as nothing changes in it."""
    return [(path, entities_of(path)) for path in folder.iterdir() if path.name.endswith((".tsv", ".json"))]


def pipelines(root: Path) -> tuple[list[Path], list[Path]]:
    """The folders of derivatives: those to take marks from, and those that this package wrote."""
    folders = sorted(path for path in (root / "derivatives").glob("*") if path.is_dir())
    made_by = {folder: json.dumps(read_json(folder / DESCRIPTION).get("GeneratedBy", "")) for folder in folders}
    own = [folder for folder in folders if OURS in (folder.name, *made_by[folder].lower().split('"'))]
    return [folder for folder in folders if folder not in own], own


def seconds_before(path: Path) -> float:
    """How long the parts of a recording before this one last by the clock, gaps in them included.

    A table of all parts counts seconds from the first sample of the first part. Between parts no time is taken to pass:
    BIDS splits one recording into files for their size alone.
    """
    entities = entities_of(path)
    if "split" not in entities or not is_edf(path):
        return 0.0
    whole, total = {k: v for k, v in entities.items() if k != "split"}, 0.0
    for other in path.parent.glob(f"*{path.suffix}"):
        theirs = entities_of(other)
        part = theirs.pop("split", "")
        if is_recording(other) and theirs == whole and part.zfill(9) < entities["split"].zfill(9):
            layout = read_layout(other)
            total += float(read_stamps(layout).onsets[-1]) + float(layout.record_seconds)
    return total


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing if there is none.

    Raises:
        ValueError: it is no JSON object.
    """
    if not path.exists():
        return {}
    try:
        held = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(held, dict):
        raise ValueError(f"{path}: must hold a JSON object")
    return held


def participants(path: Path, subjects: set[str]) -> list[str]:
    """Where participants.tsv and the folders differ."""
    if not path.exists():
        return []
    try:
        listed = {row["participant_id"] for _, row in table_rows(path, "\t", ("participant_id",))}
    except ValueError as error:
        return [str(error)]
    differences = {
        "not in participants.tsv": sorted(subjects - listed),
        "in participants.tsv, but without EEG here": sorted(listed - subjects),
    }
    return [f"{what}: {few(names)}" for what, names in differences.items() if names]
