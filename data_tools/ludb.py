"""The Lobachevsky University database as shards: `python -m data_tools.ludb ROOT OUT`.

200 electrocardiograms of twelve leads, 10 s at 500 Hz, a subject each (Kalyakulina et al., IEEE Access 2020;
physionet.org/content/ludb; ODC-By). ROOT holds, in `data` or directly,

    1.hea, 1.dat    a WFDB record; diagnoses as comments below `#<diagnoses>:`, as in `#Rhythm: Sinus rhythm.`
    1.i ... 1.v6    where waves begin and end, by lead: not read
    ludb.csv        ID, Sex, Age, and diagnoses in columns by kind, several in a cell on lines of their own

Both places say the same in different capitals, save that only ludb.csv has `Pacemaker presence, undefined`: what either
says counts. Texts become 39 classes, named as in the challenge (`data_tools/cinc2021.py`) where it has the class; walls
of infarctions and kinds of extrasystoles are not told apart, for most have a handful of subjects.

THE HEADERS' GAINS ARE NO CALIBRATION: in all 150 records looked at, each lead's gain is that lead's own range, so that
every lead would span 1 mV and I + III would not be II (FACT, measured). The integers obey I + III = II exactly, and
taken as microvolts their leads span what those of PTB-XL do (median of lead II 1.5 mV and 1.3 mV): so they are taken
for microvolts (INFERENCE). `--gain header` believes the headers.

A line to train with stands in `data_tools/wfdb.py`.
"""

import csv
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import tyro
from tyro.conf import Positional

from data_tools.wfdb import DEFAULT_DATA, find_headers, read_ecg, read_header, read_samples
from siamese_jax.cli.console import run
from siamese_jax.cli.recordings import Options, ShardOptions, make_shards
from siamese_jax.cohort.sources import Opened, Source
from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.recording import Annotation
from siamese_jax.shards.labels import FindingRule, Rule, TextClasses
from siamese_jax.vocabulary import TaskSpec

CLASSES: dict[str, str] = {
    # rhythm
    "NSR": r"sinus rhythm",
    "STach": r"sinus tachycardia",
    "SB": r"sinus bradycardia",
    "SA": r"sinus arrhythmia",
    "irregular": r"irregular sinus rhythm",
    "AF": r"atrial fibrillation",
    "AFL": r"atrial flutter.*",
    "wandering": r"wandering atrial pacemaker",
    "aberrant": r"aberrant conduction",
    # electrical axis
    "axis-normal": r"electric axis of the heart: normal",
    "LAD": r"electric axis of the heart: left axis deviation",
    "RAD": r"electric axis of the heart: right axis deviation",
    "axis-vertical": r"electric axis of the heart: vertical",
    "axis-horizontal": r"electric axis of the heart: horizontal",
    # conduction
    "SAB": r"sinoatrial blockade.*",
    "IAVB": r"i degree av[ -]block",
    "IIIAVB": r"iii degree av[ -]block",
    "IRBBB": r"incomplete right bundle branch block",
    "ILBBB": r"incomplete left bundle branch block",
    "RBBB": r"complete right bundle branch block",
    "LBBB": r"complete left bundle branch block",
    "LAnFB": r"left anterior hemiblock",
    "NSIVCB": r"non-specific intravintricular conduction delay",  # as the data set spells it
    # extrasystoles
    "PAC": r"atrial extrasystole.*",
    "PVC": r"ventricular extrasystole.*",
    # hypertrophy
    "LAH": r"left atrial hypertrophy",
    "LAO": r"left atrial overload",
    "LVH": r"left ventricular hypertrophy",
    "LVO": r"left ventricular overload",
    "RAH": r"right atrial hypertrophy",
    "RAO": r"right atrial overload",
    "RVH": r"right ventricular hypertrophy",
    # pacing
    "PR": r"pacemaker presence.*|(uni|bi)polar (atrial|ventricular) pacing|biventricular pacing|p-synchrony",
    # ischemia
    "STEMI": r"stemi: .*",
    "ischemia": r"ischemia: .*",
    "scar": r"scar formation: .*",
    "ischemia-or-scar": r"undefined ischemia/scar/supp\.nstemi: .*",
    # repolarisation
    "repolarisation": r"non-specific repolari[sz]ation abnormalities: .*",
    "early-repolarisation": r"early repolari[sz]ation syndrome",
}
"""Each class and the texts that mean it, in small letters."""

Gain = Literal["mended", "header"]

_TABLE = "ludb.csv"
_MENDED_GAIN = 1000.0  # integers of a microvolt
_NO_DIAGNOSIS = ("ID", "Sex", "Age")
_RULE = FindingRule(TaskSpec("diagnosis", "multilabel", tuple(CLASSES)), TextClasses(tuple(CLASSES.items())))


@dataclass(frozen=True)
class Ludb(Source):
    """LUDB in its folder."""

    gain: Gain = "mended"
    """`mended` takes integers for microvolts where a header's gains are its leads' ranges; `header` believes it."""

    patients_per_shard: ClassVar[int] = 256

    @property
    def title(self) -> str:
        """The data set's name."""
        return "LUDB"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The diagnoses, put into words of one kind."""
        return (_RULE,)

    def names(self) -> Sequence[str]:
        """Headers whose name is a number, by that number."""
        paths = [path for path in find_headers(self.root) if path.stem.isdecimal()]
        if not paths:
            raise ValueError(f"{self.root} holds no records (1.hea and so on) of LUDB")
        paths.sort(key=lambda path: (int(path.stem), path.as_posix()))
        return [path.relative_to(self.root).as_posix() for path in paths]

    def files(self, name: str) -> Sequence[Path]:
        """Signal, header, and the table if there is one."""
        table = self.root / _TABLE
        return [*read_header(self.root / name).files, self.root / name, *([table] if table.is_file() else [])]

    def open(self, name: str, data: DataConfig) -> Opened:
        """A record with the diagnoses in its header and in the table."""
        path, subject = self.root / name, Path(name).stem
        mended = self.gain == "mended" and _is_scaled_to_range(path)
        ecg = read_ecg(path, data, gain=_MENDED_GAIN if mended else None)
        rows = _rows(self.root)
        said = [text for text in ecg.comments if not text.startswith("<")] + rows.get(subject, [])
        texts = dict.fromkeys(text for text in map(_normal, said) if text)
        strange = [text for text in texts if _RULE.class_of(text) is None]
        notes = [*ecg.notes, *(f"a diagnosis that is not known here, {text!r}: left out" for text in strange)]
        notes += [f"not in {_TABLE}: its header alone was read"] if rows and subject not in rows else []
        notes += [] if texts else ["no diagnosis: not labelled"]
        notes += ["its header's gains are the ranges of its leads: integers taken for microvolts"] if mended else []
        seconds = ecg.recording.segments[0].n_times / data.sfreq
        return Opened(
            recording=ecg.recording,
            annotations=(*(Annotation(0.0, seconds, text) for text in texts), *ecg.bad),
            patient=f"LUDB-{subject}",
            patient_from="record number",
            searched={_RULE.task.name: bool(texts)},
            notes=tuple(notes),
        )

    def options(self) -> dict[str, object]:
        """Gains decide the signal."""
        return {"gain": self.gain}

    def notes(self) -> Sequence[str]:
        """What lies there and is not read."""
        lines = ["where waves begin and end (.i, .ii and so on) is not read"] if any(self.root.rglob("*.avr")) else []
        held = {Path(name).stem for name in self.names()}
        absent = [subject for subject in _rows(self.root) if subject not in held]
        if absent:
            lines.append(f"subjects of {_TABLE} without a record: {', '.join(absent)}")
        return lines if (self.root / _TABLE).is_file() else [*lines, f"no {_TABLE}: headers alone were read"]


def main(
    root: Positional[Path],
    out: Positional[Path],
    options: Options = ShardOptions(),  # noqa: B008
    *,
    gain: Gain = "mended",
) -> int:
    """Makes shards of LUDB, whose task is `diagnosis`: which of 39 hold of ten seconds of twelve leads.

    Args:
        root: The folder with ludb.csv.
        out: Folder for the shards; finished ones are kept.
        options: How recordings become shards.
        gain: Whether to take integers for microvolts where a header's gains are its leads' ranges.
    """
    return make_shards(Ludb(root, gain), out, DEFAULT_DATA, options)


def _is_scaled_to_range(path: Path) -> bool:
    """Whether each lead spans just 1 mV by the header's gains, give or take a rounding.

    Of the samples that are there: a lead without any says nothing.
    """
    header = read_header(path)
    samples = read_samples(header, range(len(header.signals)))
    there = samples[:, ~np.isnan(samples).all(axis=0)]
    spans = np.nanmax(there, axis=0) - np.nanmin(there, axis=0)
    return spans.size > 0 and bool(np.all(np.abs(spans - 1000.0) < 1.0))


def _rows(root: Path) -> dict[str, list[str]]:
    """The table's texts by subject; none if there is no table."""
    path = root / _TABLE
    return _table(path, path.stat().st_mtime_ns) if path.is_file() else {}


@functools.lru_cache(maxsize=2)
def _table(path: Path, changed: int) -> dict[str, list[str]]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            rows = list(csv.DictReader(file))
        except csv.Error as error:
            raise ValueError(f"{path} is no table of comma-separated values: {error}") from None
    if rows and "ID" not in rows[0]:
        raise ValueError(f"{path} lacks the column ID")
    cells = {
        (row["ID"] or "").strip(): [str(cell or "") for name, cell in row.items() if name not in _NO_DIAGNOSIS]
        for row in rows
    }
    return {subject: [line for cell in row for line in cell.splitlines()] for subject, row in cells.items()}


def _normal(text: str) -> str:
    """`Rhythm: Sinus rhythm.` and `Sinus rhythm` are the same."""
    return re.sub(r"\s+", " ", text).strip(" .").lower().removeprefix("rhythm: ")


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
