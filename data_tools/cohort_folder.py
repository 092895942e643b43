"""A folder of recordings that were made here, with tables of what is in them: `simulate` and `implant` write one.

OUT/<code>.edf ...   OUT/patients.csv   OUT/events.csv   OUT/manifest.csv   OUT/<settings>.json
"""

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import track

from data_tools.simulator.events import Event
from siamese_jax import files
from siamese_jax.cli.console import OK, SOME_FAILED, print_error
from siamese_jax.jobs import run_each

SPARE = 1.02
"""Annotations and headers take less than a fiftieth of the signals' space."""


class Made(NamedTuple):
    """What patients.csv and events.csv say about one recording, as text."""

    about: tuple[str, ...]  # the recording's code comes first
    events: list[tuple[str, ...]]

    @property
    def code(self) -> str:
        """The recording's: its file is `<code>.edf`."""
        return self.about[0]


class Unfinished(Exception):
    """Some recordings could not be made, and all others are there; says which, and why."""


@dataclass(frozen=True)
class CohortFolder:
    """Where recordings are put, and how they are made."""

    path: Path
    settings: Mapping[str, object]
    """Of one folder, they never change."""
    settings_name: str
    columns: tuple[str, ...]
    """Of patients.csv: the first is the recording's code; one is `patient`, one may be `split`."""

    def finished(self) -> dict[str, Made]:
        """What is known of the recordings that an earlier call finished, by their codes."""
        out = self.path
        if not all((out / name).exists() for name in (self.settings_name, "patients.csv", "events.csv")):
            return {}
        with (out / "patients.csv").open(newline="") as file:
            rows = [tuple(row) for row in csv.reader(file)][1:]
        done = {row[0]: Made(row, []) for row in rows if len(row) == len(self.columns)}
        done = {code: made for code, made in sorted(done.items()) if (out / f"{code}.edf").exists()}
        with (out / "events.csv").open(newline="") as file:
            for row in csv.reader(file):
                if row and row[0] in done:
                    done[row[0]].events.append(tuple(row))
        return done

    def write(
        self,
        make: Callable[[Any], Made],
        items: Mapping[str, Any],
        *,
        n_bytes: float,
        workers: int,
        on_retry: Callable[[str, str], None],
    ) -> Iterator[Path]:
        """Make what is missing, yielding the path of each recording once it is there, in whatever order.

        Args:
            make: writes the recording of an item; defined at a module's top level, or a partial of such a function.
            items: by code.
            n_bytes: space that a recording's samples take, in the mean.
            workers: processes that make recordings at once.
            on_retry: told which recording is tried again, and why.

        Raises:
            ValueError: a folder with recordings of other settings, or of somebody else's.
            OSError: not enough space on the disk; nothing has been written then, unless others filled it meanwhile.
            Unfinished: at the end, if recordings failed three times, as when a worker is lost each time.
        """
        out = self.path
        self._refuse_others()
        done = self.finished()
        todo = [code for code in items if code not in done]
        self.check_room(len(todo), n_bytes)
        out.mkdir(parents=True, exist_ok=True)
        files.write_json(out / self.settings_name, dict(self.settings))
        self._write_tables(done)
        yield from (out / f"{code}.edf" for code in done)

        def retried(index: int, why: str) -> None:
            self.check_room(1, n_bytes)  # if that is the reason, all others would end likewise
            on_retry(todo[index], why)

        failures: dict[str, str] = {}
        outcomes = run_each(make, [items[code] for code in todo], workers=workers, on_retry=retried)
        for index, made, failure, _ in outcomes:
            if failure:
                failures[todo[index]] = failure
                continue
            done[made.code] = made
            _append(out / "events.csv", made.events)
            _append(out / "patients.csv", [made.about])  # comes last: a recording that stands there is finished
            yield out / f"{made.code}.edf"
        self._write_tables(done)
        if failures:
            raise Unfinished("; ".join(f"{code}: {why}" for code, why in sorted(failures.items())))

    def _refuse_others(self) -> None:
        """Settings alone, which a call that failed left behind, bind nobody."""
        out = self.path
        if not any(out.glob("*.edf")):
            return
        if not (out / self.settings_name).exists():
            raise ValueError(
                f"{out} holds recordings without {self.settings_name}, which says how they were made: choose another"
            )
        before = json.loads((out / self.settings_name).read_text())
        other = [f"{key} {before.get(key)}, now {new}" for key, new in self.settings.items() if before.get(key) != new]
        if other:
            raise ValueError(f"{out} holds a cohort of other settings ({'; '.join(other)}): empty it or choose another")

    def check_room(self, n_recordings: int, n_bytes: float) -> None:
        """Refuse a disk without space for so many recordings, of whose samples one takes `n_bytes`; OSError."""
        needed, out = SPARE * n_recordings * n_bytes, self.path
        parent = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
        free = shutil.disk_usage(parent).free
        if needed > free:
            raise OSError(
                f"{out}: {n_recordings} recordings need {needed / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB"
                " free; make fewer or shorter ones, with fewer leads or at a lower rate"
            )

    def _write_tables(self, done: Mapping[str, Made]) -> None:
        """Write patients.csv, events.csv and manifest.csv anew, by code."""
        in_order = [done[code] for code in sorted(done)]
        told = [name for name in ("patient", "split") if name in self.columns]
        places = [self.columns.index(name) for name in told]
        for name, columns, rows in (
            ("events.csv", (self.columns[0], *Event._fields), [row for made in in_order for row in made.events]),
            ("patients.csv", self.columns, [made.about for made in in_order]),
            ("manifest.csv", ("file", *told), [(f"{m.code}.edf", *(m.about[i] for i in places)) for m in in_order]),
        ):
            text = io.StringIO(newline="")
            csv.writer(text).writerows([columns, *rows])
            files.write_text(self.path / name, text.getvalue())


def made(about: Sequence[object], events: Sequence[Event]) -> Made:
    """The rows of one recording: `about`, by the folder's columns, and everything that was put into it."""
    row = as_text(about)
    return Made(row, [(row[0], *as_text(event)) for event in events])


def as_text(values: Sequence[object]) -> tuple[str, ...]:
    """A row's cells."""
    return tuple(str(round(value, 4) if isinstance(value, float) else value) for value in values)


def follow(cohort: Iterator[Path], *, doing: str, total: int) -> tuple[int, int]:
    """Make all of it in front of the user: how many recordings are there, and the exit status.

    Raises:
        SystemExit: what stops the whole, in a sentence.
    """
    n_written, status = 0, OK
    try:
        for _ in track(cohort, description=doing, total=total):
            n_written += 1
    except Unfinished as error:
        print_error(f"{error}; the others are finished, and the same command tries again")
        status = SOME_FAILED
    except (ValueError, OSError, MemoryError) as error:
        raise SystemExit(f"error: {error}") from None
    return n_written, status


def say_retry(code: str, why: str) -> None:
    """Print that a recording is tried again."""
    print(f"{code} is tried again: {why}", file=sys.stderr)


def _append(path: Path, rows: Sequence[tuple[str, ...]]) -> None:
    with path.open("a", newline="") as file:
        csv.writer(file).writerows(rows)
