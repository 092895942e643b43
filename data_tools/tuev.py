"""The TUH EEG Events Corpus (TUEV) as shards: `python -m data_tools.tuev ROOT OUT`.

Temple University's corpus of short events in clinical EEG (Harati et al., IEEE SPMB 2015; Obeid & Picone, Front
Neurosci 2016;10:196); on request from isip.piconepress.com, under its own terms. ROOT is v2.0.0 or v2.0.1, as it comes:

    edf/train/<patient>/<patient>_<file>.edf    359 files; patients are 00002275 in v2.0.0, aaaaaaar in v2.0.1
    edf/eval/<session>/<class>_<session>_a_.edf 159 files; the class in the name is never read
    <the same>.rec                              rows of channel, start, stop (seconds), label; no header
    <the same>_chNNN.lab, .htk                  the same labels by channel, and features: not needed

A label is 1 spsw, 2 gped, 3 pled, 4 eyem, 5 artf or 6 bckg; a channel is 0 to 21 of the TCP montage below (FACT: the
corpus's AAREADME). Two tasks: `tuev`, those six classes; and `ied`, spsw against eyem, artf and bckg. Windows with gped
or pled have no label of `ied`: periodic discharges are no interictal spikes, but whoever saw them would not call the
window free of discharges either.

Windows. Only parts of a file are annotated, so windows are not laid end to end: there is one about the middle of each
event. An event is a stretch of time; a row for each channel says the same thing again, and the published scripts make
each such row a sample, copies with unlike labels among them (LaBraM, issue 46). Where channels disagree, a class
other than bckg goes before bckg, then the one on most channels, then the first in the order above; the number of such
windows is printed at the end. A window that would cross the edge of its file lies at the edge: the published scripts
continue at the file's other end. A window's `tuev` is the event nearest to its centre; its `ied` is 1 if that of
spsw, gped and pled nearest to its centre is a spsw. The default is 4 s, as the presets have; the published scripts
use 5 s, the event and 2 s to each side: `--window 5`.

Nothing is filtered (US mains: `--preprocess.mains-hz 60`), files of any rate are resampled, and electrodes that a file
lacks are marked absent: the published scripts take 250 Hz for granted and drop such files.

Splits. eval is the test set. Validation patients are not published: BIOT's and LaBraM's seed does not fix theirs, since
they draw from an unordered set. Here they are the last fifth of the training patients by name (CBraMod's rule). A list
of them cannot be shipped with this program, as the two releases name them differently and the corpus is not public;
`--write-split FILE` writes it for the given tree with its hash, and `--split FILE` uses a file of that form, so that
two laboratories can check that theirs is the same.

To train: `siamese-jax train SHARDS RUN --tasks tuev --model.fusion none --preprocess.mains-hz 60`.
"""

import csv
import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from tyro.conf import Positional

from siamese_jax import files
from siamese_jax.cli.console import OK, run
from siamese_jax.cli.recordings import Options, ShardOptions, make_shards
from siamese_jax.cohort.sources import Opened, Source, reading_notes
from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.recording import Annotation, Recording
from siamese_jax.recordings.windows import WindowGrid
from siamese_jax.shards.labels import UNKNOWN, EventRule, Rule, TextClasses
from siamese_jax.vocabulary import IED, TaskSpec

DEFAULT_DATA = DataConfig()
TUEV = TaskSpec("tuev", "multiclass", ("spsw", "gped", "pled", "eyem", "artf", "bckg"))
BACKGROUND = TUEV.classes.index("bckg")
TCP: tuple[str, ...] = (
    *("Fp1-F7", "F7-T3", "T3-T5", "T5-O1", "Fp2-F8", "F8-T4", "T4-T6", "T6-O2"),
    *("A1-T3", "T3-C3", "C3-Cz", "Cz-C4", "C4-T4", "T4-A2"),
    *("Fp1-F3", "F3-C3", "C3-P3", "P3-O1", "Fp2-F4", "F4-C4", "C4-P4", "P4-O2"),
)
"""The channels that .rec files number from 0 (FACT: AAREADME)."""
TRAIN_SHARE = (4, 5)
"""Of the training patients by name, those who stay in training; the others are for validation."""

_IED_TEXTS = TextClasses((("ied", "spsw"), (UNKNOWN, "gped|pled")))
_TUEV_TEXTS = TextClasses(tuple((name, name) for name in TUEV.classes))
_SESSION = re.compile(r"[a-z]+_(\d+)_.*", re.IGNORECASE)
_HASH = re.compile(r"# sha256 of the lines below: ([0-9a-f]{64})")


class Row(NamedTuple):
    """A line of a .rec file."""

    channel: int
    start: float
    stop: float
    label: int
    """Index into TUEV.classes."""

    @property
    def middle(self) -> float:
        """To the millisecond: what has the same middle is the same event."""
        return round((self.start + self.stop) / 2, 3)


@dataclass(frozen=True)
class Tuev(Source):
    """The corpus's folder; `validation` names the training patients who are for validation."""

    validation: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The corpus."""
        return "TUH EEG Events Corpus (TUEV)"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Spikes and sharp waves, and the six classes; a window without an event has no class."""
        return EventRule(IED, _IED_TEXTS), EventRule(TUEV, _TUEV_TEXTS, rest=False)

    @property
    def edf(self) -> Path:
        """The folder with `train` and `eval` in it."""
        return _edf_folder(self.root)

    def names(self) -> Sequence[str]:
        """The EDF files of train and eval."""
        folders = [self.edf / part for part in ("train", "eval")]
        paths = [path for folder in folders for path in sorted(folder.rglob("*")) if _is_file(path, ".edf")]
        return [path.relative_to(self.root).as_posix() for path in paths]

    def files(self, name: str) -> Sequence[Path]:
        """The EDF file and its .rec."""
        return [self.root / name, (self.root / name).with_suffix(".rec")]

    def open(self, name: str, data: DataConfig) -> Opened:
        """A file and its events; patients are identified by folder in train, sessions in eval."""
        path, rec = self.files(name)
        patient, part = _whose(path.relative_to(self.edf))
        if not rec.is_file():
            raise ValueError(f"no {rec.name} beside it: nothing says what its events are")
        rows = read_rows(rec)
        recording = read_recording(path, ch_names=data.ch_names, sfreq=data.sfreq)
        inside = [row for row in rows if _is_inside(row.middle, recording)]
        if not inside:
            raise ValueError(f"{rec.name} names no event within the file: no window")
        events = tuple(
            Annotation(row.start, row.stop - row.start, TUEV.classes[row.label], TCP[row.channel])
            for row in events_of(inside)[0]
        )
        notes = [*reading_notes(recording), *_said(rows, inside, recording, data)]
        split = "test" if part == "eval" else "validation" if patient in self.validation else "train"
        whose = "evaluation session" if part == "eval" else "folder"
        searched = {IED.name: True, TUEV.name: True}
        return Opened(recording, events, patient, whose, split, searched, tuple(notes))

    def grid(self, opened: Opened, *, window: int, hop: int) -> WindowGrid:
        """A window about each event's middle, moved inside its file where that is near; `hop` does not matter."""
        middles = np.array(sorted({a.onset_seconds + a.duration_seconds / 2 for a in opened.annotations}))
        segment, start = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
        for k, (onset, n_times) in enumerate(opened.recording.segments):
            centre = np.rint((middles - onset) * opened.recording.sfreq).astype(np.int64)
            centre = centre[(centre >= 0) & (centre <= n_times)]
            if n_times >= window:
                start.append(np.unique(np.clip(centre - window // 2, 0, n_times - window)))
                segment.append(np.full(len(start[-1]), k, np.int32))
        return WindowGrid(np.concatenate(segment), np.concatenate(start))

    def notes(self) -> Sequence[str]:
        """Counts of events, .rec files without a recording, and which split this is."""
        n_rows, n_events, n_torn, orphans = 0, 0, 0, []
        folders = [self.edf / part for part in ("train", "eval")]
        for rec in sorted(path for folder in folders for path in folder.rglob("*") if _is_file(path, ".rec")):
            if not rec.with_suffix(".edf").is_file():
                orphans.append(rec.name)
                continue
            try:
                rows = read_rows(rec)
            except (ValueError, OSError):
                continue  # its recording is skipped, and says why
            kept, torn = events_of(rows)
            n_rows, n_events, n_torn = n_rows + len(rows), n_events + len({r.middle for r in kept}), n_torn + torn
        lines = [f"{n_rows} rows by channel are {n_events} events; of {n_torn} of them channels disagree on the class"]
        if orphans:
            lines.append(f"{len(orphans)} .rec files without an EDF file: {', '.join(orphans[:5])}")
        patients = train_patients(self.root)
        if patients:
            text = hashlib.sha256(_split_text(patients, self.validation).encode()).hexdigest()
            lines.append(f"validation: {len(self.validation)} of {len(patients)} training patients, sha256 {text[:16]}")
        return lines


def main(
    root: Positional[Path],
    out: Positional[Path | None] = None,
    options: Options = ShardOptions(),  # noqa: B008
    *,
    split: Path | None = None,
    write_split: Path | None = None,
) -> int:
    """Makes shards of TUEV, a window about each event; eval is the test set.

    Args:
        root: The release's folder (v2.0.1), or the folder `edf` in it.
        out: Folder for the shards; finished ones are kept.
        options: How recordings become shards.
        split: CSV file with columns patient, split of the training patients; default the last fifth by name for
            validation.
        write_split: Write that file for this tree, and make no shards.
    """
    if (out is None) == (write_split is None):
        raise ValueError("give either a folder for the shards or --write-split FILE")
    if options.hop is not None:
        raise ValueError("windows lie about events, one for each: --hop has no meaning here")
    patients = train_patients(root)
    validation = last_by_name(patients) if split is None else read_split(split, patients)
    if out is not None:
        return make_shards(Tuev(root, validation), out, DEFAULT_DATA, options)
    assert write_split is not None
    text = _split_text(patients, validation)
    digest = hashlib.sha256(text.encode()).hexdigest()
    files.write_text(write_split, f"# sha256 of the lines below: {digest}\n{text}")
    print(f"{len(validation)} of {len(patients)} training patients for validation; sha256 {digest}")
    return OK


# --- events ----------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> list[Row]:
    """The lines of a .rec file.

    Raises:
        ValueError: a line that is not channel, start, stop, label, or an unknown channel or label; with its number.
    """
    rows = []
    lines = path.read_bytes().decode("utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            channel, start, stop, label = (float(cell) for cell in line.split(","))
        except ValueError:
            channel = start = stop = label = math.nan
        known = channel in range(len(TCP)) and label - 1 in range(len(TUEV.classes))
        if not known or not 0 <= start <= stop < math.inf:
            raise ValueError(
                f"{path.name}, line {number}: a line is channel (0 to {len(TCP) - 1}), start and stop in seconds and"
                f" label (1 to {len(TUEV.classes)}), given {line.strip()[:60]!r}"
            )
        rows.append(Row(int(channel), start, stop, int(label) - 1))
    return rows


def events_of(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """The rows that name their event's class, in order of time; and the number of events that channels disagree on.

    An event is all rows with the same middle. Any class goes before background, then the one on most channels, then
    the first in the corpus's order.
    """
    together: dict[float, list[Row]] = defaultdict(list)
    for row in rows:
        together[row.middle].append(row)
    kept, torn = [], 0
    for group in together.values():
        votes = Counter(row.label for row in set(group))
        best = min(votes, key=lambda label: (label == BACKGROUND, -votes[label], label))
        kept += sorted({row for row in group if row.label == best})
        torn += len(votes) > 1
    return sorted(kept, key=lambda row: (row.start, row.channel)), torn


def _is_inside(seconds: float, recording: Recording) -> bool:
    """Whether a moment lies in a recording, and not in a gap or after its end."""
    return any(
        segment.onset_seconds <= seconds <= segment.onset_seconds + segment.n_times / recording.sfreq
        for segment in recording.segments
    )


def _said(rows: Sequence[Row], inside: Sequence[Row], recording: Recording, data: DataConfig) -> list[str]:
    """What became of events beyond the file's end and near its edges."""
    beyond = len({row.middle for row in rows}) - len({row.middle for row in inside})
    half = data.window_seconds / 2
    ends = [(s.onset_seconds, s.onset_seconds + s.n_times / recording.sfreq) for s in recording.segments]
    near = {row.middle for row in inside if not any(a + half <= row.middle <= b - half for a, b in ends)}
    notes = [f"{beyond} events after the end of the file: left out"] if beyond else []
    if near:
        notes.append(
            f"{len(near)} events nearer to an edge than half a window: the window at the edge stands for them, labelled"
            " by the event nearest to its centre"
        )
    return notes


# --- patients --------------------------------------------------------------------------------------------------


def train_patients(root: Path) -> list[str]:
    """The training patients of a tree by name, without those whose files say two names.

    Raises:
        ValueError: not the corpus's folder.
    """
    edf = _edf_folder(root)
    patients = set()
    for path in (edf / "train").rglob("*"):
        if _is_file(path, ".edf"):
            try:
                patients.add(_whose(path.relative_to(edf))[0])
            except ValueError:
                continue  # its recording is skipped, and says why
    return sorted(patients)


def last_by_name(patients: Sequence[str]) -> tuple[str, ...]:
    """The last fifth of patients that are in order, as CBraMod's script takes them for validation."""
    part, whole = TRAIN_SHARE
    return tuple(patients[max(len(patients) * part // whole, 1) :])


def read_split(path: Path, patients: Sequence[str]) -> tuple[str, ...]:
    """The validation patients that a split file names.

    Args:
        path: CSV with a header `patient,split`; the hash above it is checked if it is there.
        patients: the training patients of the tree that is there; the file must name these and no others.

    Raises:
        ValueError: another form, another hash, or other patients.
    """
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    body = [line for line in lines if line.strip() and not line.startswith("#")]
    table = list(csv.reader(body))
    if not table or table[0] != ["patient", "split"] or any(len(row) != 2 for row in table):
        raise ValueError(f"{path}: a split file has a header `patient,split` and two cells a line")
    named = dict(table[1:])
    wrong = sorted({split for split in named.values()} - {"train", "validation"})
    if wrong or len(named) != len(table) - 1:
        raise ValueError(f"{path}: each patient stands once, in train or validation; it has {wrong or 'one twice'}")
    told = next((match[1] for line in lines if (match := _HASH.fullmatch(line.strip()))), None)
    if told is not None and told != hashlib.sha256("".join(f"{line}\n" for line in body).encode()).hexdigest():
        raise ValueError(f"{path}: its lines are not those that its hash was made of")
    differing = sorted(set(named) ^ set(patients))
    if differing:
        raise ValueError(
            f"{path} is the split of another tree: {len(differing)} patients are in one of them only, as {differing[0]}"
        )
    return tuple(sorted(patient for patient, split in named.items() if split == "validation"))


def _split_text(patients: Sequence[str], validation: Sequence[str]) -> str:
    rows = [f"{patient},{'validation' if patient in validation else 'train'}\n" for patient in patients]
    return "".join(["patient,split\n", *rows])


def _whose(path: Path) -> tuple[str, str]:
    """The patient, and `train` or `eval`; `path` begins with the latter."""
    part, *folders, _ = path.parts
    if part == "train":
        named = path.stem.partition("_")[0]
        if folders and folders[0] != named:
            raise ValueError(
                f"it lies in the folder of {folders[0]}, but its name says {named}: whose it is is not known"
            )
        return named, part
    session = _SESSION.fullmatch(path.stem)
    if not folders and session is None:
        raise ValueError("a file of eval lies in its session's folder, or names the session: <class>_<number>_a_.edf")
    # The corpus numbers sessions here, not patients; two of one patient would both be in the test set.
    return f"eval-{session[1] if session and not folders else folders[0]}", part


def _edf_folder(root: Path) -> Path:
    """The folder with `train` and `eval`: the one given, or one below it."""
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    places = [root, *(path for level in ("edf", "*/edf", "*/*/edf") for path in sorted(root.glob(level)))]
    found = [place for place in places if (place / "train").is_dir() or (place / "eval").is_dir()]
    if not found:
        raise ValueError(f"{root} holds no edf/train or edf/eval of TUEV")
    if len(found) > 1:
        raise ValueError(f"{root} holds several releases, name one: {', '.join(map(str, found))}")
    return found[0]


def _is_file(path: Path, suffix: str) -> bool:
    return path.suffix.lower() == suffix and path.is_file() and not path.name.startswith(".")


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
