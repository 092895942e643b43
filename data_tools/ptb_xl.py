"""PTB-XL as shards: `python -m data_tools.ptb_xl ROOT OUT`.

Ten-second electrocardiograms of twelve leads with a cardiologist's statements (Wagner et al., Scientific Data 2020;
physionet.org/content/ptb-xl; CC BY 4.0). Version 1.0.3 has 21,799 of 18,869 patients, 1.0.1 has 21,837. ROOT holds

    ptbxl_database.csv             a row a record: ecg_id, patient_id, scp_codes, strat_fold, filename_lr and _hr, ...
    scp_statements.csv             a row a statement: its code (without a heading), diagnostic, form and rhythm (1 or
                                   empty), diagnostic_class (NORM, MI, STTC, CD, HYP), ...
    records100/00000/00001_lr.hea  WFDB records at 100 Hz, and at 500 Hz in records500 (00001_hr)

Traps. `scp_codes` is a Python dictionary as text: statement and likelihood in per cent, where 0 is NOT absent but
unknown: all statements on form and rhythm have it. So every statement named counts, as in the authors' example; a
limit (`--likelihood 50`) leaves out those that are known to be less likely. Patient numbers are text such as
`15709.0`. The folds respect patients: 1 to 8 train, 9 validation, 10 test, as the authors propose. A record without a
statement of the chosen kind is not labelled: it has no diagnosis, not even that of a normal heart.

A line to train with stands in `data_tools/wfdb.py`; with `--rate 500` it needs `--data.sfreq 500`.
"""

import ast
import csv
import dataclasses
import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import tyro
from tyro.conf import Positional

from data_tools.wfdb import DEFAULT_DATA, find_headers, read_ecg, read_header
from siamese_jax.cli.console import run
from siamese_jax.cli.recordings import Options, ShardOptions, make_shards
from siamese_jax.cohort.sources import Opened, Source
from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.recording import Annotation
from siamese_jax.shards.labels import FindingRule, Rule, TextClasses
from siamese_jax.vocabulary import TaskSpec

Statements = Literal["superclass", "diagnostic", "all"]
SUPERCLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
"""Normal, myocardial infarction, ST and T changes, conduction disturbance, hypertrophy."""
SPLITS = {**dict.fromkeys(range(1, 9), "train"), 9: "validation", 10: "test"}
"""By `strat_fold`."""

_TABLE, _STATEMENTS = "ptbxl_database.csv", "scp_statements.csv"
_COLUMNS = {100: "filename_lr", 500: "filename_hr"}


class Statement(NamedTuple):
    """A row of scp_statements.csv."""

    code: str
    superclass: str | None
    """None if it is about form or rhythm alone."""


@dataclass(frozen=True)
class PtbXl(Source):
    """PTB-XL in its folder."""

    statements: Statements = "superclass"
    """Classes: the five superclasses, the diagnostic statements, or all of them, in the order of scp_statements.csv."""
    rate: Literal[100, 500] = 100
    """Hz of the records that are read."""
    likelihood: float = 0.0
    """Per cent; statements known to be less likely are left out."""

    patients_per_shard: ClassVar[int] = 256

    @property
    def title(self) -> str:
        """The data set's name."""
        return "PTB-XL"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Statements as findings."""
        return _rules(self.statements, _statements(self.root))

    def names(self) -> Sequence[str]:
        """The records of the table, in its order."""
        self._refuse_other_rate()
        named = [row.get(_COLUMNS[self.rate]) or "" for row in _table(self.root)]
        named = [name for name in named if name]
        if len(set(named)) != len(named):
            twice = next(name for i, name in enumerate(named) if name in named[:i])
            raise ValueError(f"{self.root / _TABLE} has {twice} more than once")
        return named

    def files(self, name: str) -> Sequence[Path]:
        """Signal and header; the labels' table is among the options."""
        header = self._header(name)
        return [*read_header(header).files, header]

    def open(self, name: str, data: DataConfig) -> Opened:
        """A record with its row of the table."""
        row = self._rows()[name]
        patient, fold, codes = _patient(row), _fold(row), _codes(row)
        kept = {code for code, percent in codes.items() if not 0 < percent < self.likelihood}
        known = {statement.code for statement in _statements(self.root)}
        ecg = read_ecg(self._header(name), data)
        seconds = ecg.recording.segments[0].n_times / data.sfreq
        marks = [Annotation(0.0, seconds, code) for code in sorted(kept)]
        (rule,) = self.rules
        notes = [f"{code} is no statement of {_STATEMENTS}: left out" for code in sorted(set(codes) - known)]
        if kept != set(codes):
            notes.append(f"statements less likely than {self.likelihood:g} % left out")
        return Opened(
            recording=ecg.recording,
            annotations=(*marks, *ecg.bad),
            patient=f"PTB-XL-{patient}",
            patient_from="patient_id",
            split=SPLITS[fold],
            searched={rule.task.name: any(rule.class_of(mark.text) is not None for mark in marks)},
            notes=(*ecg.notes, *notes),
        )

    def notes(self) -> Sequence[str]:
        """Records that the table does not name, and rows that name none."""
        folder, names = self.root / f"records{self.rate}", set(self.names())
        held = {path.relative_to(self.root).with_suffix("").as_posix() for path in find_headers(folder)}
        nameless = len(_table(self.root)) - len(names)
        counts = {f"rows of {_TABLE} without a record's name": nameless}
        counts[f"records of {folder.name} that are not in {_TABLE}"] = len(held - names)
        return [f"{what}, not used: {n}" for what, n in counts.items() if n]

    def options(self) -> dict[str, object]:
        """What decides labels besides the records' own files."""
        digests = {name: _digest(self.root / name, _changed(self.root / name)) for name in (_TABLE, _STATEMENTS)}
        return {"statements": self.statements, "rate": self.rate, "likelihood": self.likelihood, **digests}

    def _refuse_other_rate(self) -> None:
        """In one sentence, not one for each record."""
        there = [rate for rate in _COLUMNS if (self.root / f"records{rate}").is_dir()]
        if self.rate not in there:
            other = "".join(f"; records{rate} is there: use --rate {rate}" for rate in there)
            raise ValueError(f"{self.root} has no records{self.rate}{other}")

    def _rows(self) -> dict[str, Mapping[str, str]]:
        return _by_name(self.root, _COLUMNS[self.rate], _changed(self.root / _TABLE))

    def _header(self, name: str) -> Path:
        path = Path(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{_TABLE} names a record outside its folder: {name}")
        return self.root / f"{name}.hea"


def main(
    root: Positional[Path],
    out: Positional[Path],
    options: Options = ShardOptions(),  # noqa: B008
    *,
    statements: Statements = "superclass",
    rate: Literal[100, 500] = 100,
    likelihood: float = 0.0,
) -> int:
    """Makes shards of PTB-XL, whose task is `diagnosis`: which statements hold of ten seconds of twelve leads.

    Args:
        root: The folder with ptbxl_database.csv.
        out: Folder for the shards; finished ones are kept.
        options: How recordings become shards.
        statements: Classes: the five superclasses, the 44 diagnostic statements or all 71.
        rate: Whether to read the records at 100 or at 500 Hz.
        likelihood: Leave out statements known to be less likely, in per cent; what is unknown counts.
    """
    data = dataclasses.replace(DEFAULT_DATA, sfreq=float(rate))
    return make_shards(PtbXl(root, statements, rate, likelihood), out, data, options)


# --- the tables ---------------------------------------------------------------------------------------------


def _changed(path: Path) -> int:
    """When a table was last written: it is read once, not for each record."""
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: no such folder")
    if not path.is_file():
        raise ValueError(f"{path}: no such file; PTB-XL's folder holds {_TABLE} and {_STATEMENTS}")
    return path.stat().st_mtime_ns


@functools.lru_cache(maxsize=4)
def _digest(path: Path, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _table(root: Path) -> tuple[Mapping[str, str], ...]:
    columns = ("patient_id", "scp_codes", "strat_fold", *_COLUMNS.values())
    return _csv(root / _TABLE, columns, _changed(root / _TABLE))


@functools.lru_cache(maxsize=2)
def _by_name(root: Path, column: str, changed: int) -> dict[str, Mapping[str, str]]:
    return {row.get(column) or "": row for row in _table(root)}


@functools.lru_cache(maxsize=4)
def _csv(path: Path, columns: tuple[str, ...], changed: int) -> tuple[Mapping[str, str], ...]:
    """A table's rows, of the columns that are read."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            rows = csv.DictReader(file)
            lacking = [column or "of codes" for column in columns if column not in (rows.fieldnames or ())]
            if lacking:
                raise ValueError(f"{path} lacks the columns {', '.join(lacking)}")
            return tuple({column: (row[column] or "").strip() for column in columns} for row in rows)
        except csv.Error as error:
            raise ValueError(f"{path} is no table of comma-separated values: {error}") from None


def _statements(root: Path) -> tuple[Statement, ...]:
    """Every statement, in the table's order."""
    return _read_statements(root, _changed(root / _STATEMENTS))


@functools.lru_cache(maxsize=2)
def _read_statements(root: Path, changed: int) -> tuple[Statement, ...]:
    path, found = root / _STATEMENTS, []
    for row in _csv(path, ("", "diagnostic", "diagnostic_class"), changed):
        is_diagnostic = row["diagnostic"] not in ("", "0", "0.0")
        superclass = row["diagnostic_class"] if is_diagnostic else None
        if is_diagnostic and superclass not in SUPERCLASSES:
            known = ", ".join(SUPERCLASSES)
            raise ValueError(f"{path}: diagnostic_class of {row['']} must be one of {known}, is {superclass!r}")
        found.append(Statement(row[""], superclass))
    return tuple(found)


@functools.lru_cache(maxsize=2)
def _rules(statements: Statements, held: tuple[Statement, ...]) -> tuple[FindingRule]:
    """The task, whose classes do not depend on the records: two halves of the data set agree."""
    if statements == "superclass":
        of_class = {name: [s.code for s in held if s.superclass == name] for name in SUPERCLASSES}
    else:
        of_class = {s.code: [s.code] for s in held if statements == "all" or s.superclass}
    patterns = tuple((name, "|".join(map(re.escape, codes)) or "(?!)") for name, codes in of_class.items())
    return (FindingRule(TaskSpec("diagnosis", "multilabel", tuple(of_class)), TextClasses(patterns)),)


def _patient(row: Mapping[str, str]) -> str:
    """`15709.0` is patient 15709."""
    found = re.fullmatch(r"(\d+)(?:\.0*)?", row["patient_id"])
    if found is None:
        raise ValueError(f"{_TABLE} gives no patient_id for it, but {row['patient_id']!r}")
    return found[1]


def _fold(row: Mapping[str, str]) -> int:
    found = re.fullmatch(r"(\d+)(?:\.0*)?", row["strat_fold"])
    if found is None or int(found[1]) not in SPLITS:
        raise ValueError(f"{_TABLE}: strat_fold must be 1 to 10, is {row['strat_fold']!r}")
    return int(found[1])


def _codes(row: Mapping[str, str]) -> dict[str, float]:
    """Statement and likelihood in per cent; 0 if that is unknown."""
    try:
        codes = ast.literal_eval(row["scp_codes"])
        return {str(code).strip(): float(percent) for code, percent in codes.items()}
    except (ValueError, SyntaxError, AttributeError, TypeError, RecursionError, MemoryError):
        raise ValueError(f"{_TABLE}: scp_codes is no dictionary of numbers: {row['scp_codes'][:60]!r}") from None


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
