"""Commands about recordings and shards: `info`, `prepare`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from siamese_jax.cli.console import NOT_ANALYSED, OK, SOME_FAILED, print_error, progress_bar
from siamese_jax.config.presets import PRESETS, PresetName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siamese_jax.cohort.sources import Source
    from siamese_jax.config.experiment import DataConfig
    from siamese_jax.recordings.recording import Annotation as Mark
    from siamese_jax.recordings.recording import Recording
    from siamese_jax.shards.labels import EventRule, StateRule


def info(
    file: Annotated[Path, Positional, tyro.conf.arg(metavar="FILE")],
    *,
    preset: PresetName = "small",
    units: tuple[str, ...] = (),
) -> int:
    """Says what a recording holds, which channels would be used, and how the marks in it and beside it are read.

    Prints no patient data of the header; the texts of marks are printed as they stand there.

    Example: siamese-jax info night.edf

    Args:
        file: An EDF, EDF+ or BDF file; with the extra `mne` any file that MNE reads.
        preset: Whose electrodes and rate to ask for.
        units: Units to take instead of the header's, as CHANNEL=UNIT; `*=uV` for all.
    """
    from siamese_jax.cohort.sources import annotations_of, with_origin
    from siamese_jax.recordings.edf import read_annotations
    from siamese_jax.recordings.edf_records import read_layout
    from siamese_jax.recordings.read import is_edf, read_recording

    if is_edf(file) and not read_layout(file).ordinary:
        print(f"{file.name}  annotations only, no signals")
        print_marks(with_origin(read_annotations(file)))
        return OK
    data = PRESETS[preset].data
    recording = read_recording(file, ch_names=data.ch_names, sfreq=data.sfreq, units=channel_units(units))
    print(describe(recording))
    annotations, notes = annotations_of(recording)
    for note in notes:
        print(f"note      {note}")
    print_marks(annotations, recording)
    return OK


def print_marks(annotations: "Sequence[Mark]", recording: "Recording | None" = None) -> None:
    """Print every text of a recording's marks and how it is read, and marks that lie outside."""
    from siamese_jax.cohort.marks_found import outside_notes, table, text_rows, texts_of
    from siamese_jax.shards.labels import RULES

    texts = texts_of(annotations)
    n_machine = len(annotations) - sum(count for _, count in texts)
    machine = f", {n_machine} of them by a machine and never labels until they are reviewed" if n_machine else ""
    print(f"marks     {len(annotations)} annotations{machine}")
    for note in outside_notes(annotations, recording, RULES)[0] if recording else ():
        print(f"note      {note}")
    print(*table(text_rows([texts], RULES), most=None), sep="\n")


@dataclass(frozen=True)
class ShardOptions:
    """How recordings become shards."""

    channels: tuple[str, ...] = ()
    """Electrodes or derivations to hold instead of the default ones."""
    sfreq: float | None = None
    """Samples per second instead of the default rate; tell `train` (`--data.sfreq 100`)."""
    window: float | None = None
    """Seconds of a window instead of the default length."""
    hop: float | None = None
    """Seconds from one window to the next; default the window's length."""
    seed: int = 0
    """Decides, with the patients' names, who is in which split."""
    workers: int = 1
    """Processes to work with, on this machine."""
    scheduler: str | None = None
    """Address of a Dask cluster's scheduler to work with instead: tcp://HOST:PORT."""

    def data(self, default: "DataConfig") -> "DataConfig":
        """A configuration with what is given here instead."""
        given = {"ch_names": self.channels or None, "sfreq": self.sfreq, "window_seconds": self.window}
        return dataclasses.replace(default, **{name: value for name, value in given.items() if value is not None})


Options = Annotated[ShardOptions, tyro.conf.arg(name="")]


def prepare(
    folder: Annotated[Path, Positional, tyro.conf.arg(metavar="FOLDER")],
    out: Annotated[Path | None, Positional, tyro.conf.arg(metavar="OUT")] = None,
    options: Options = ShardOptions(),  # noqa: B008
    *,
    check: bool = False,
    preset: PresetName = "small",
    manifest: Path | None = None,
    units: tuple[str, ...] = (),
    events: tuple[str, ...] = (),
    states: tuple[str, ...] = (),
    source: str | None = None,
) -> int:
    """Makes HDF5 shards, split by patient, of recordings whose annotations say where IEDs and stages are.

    A folder with a dataset_description.json is read as a BIDS data set.

    Example: siamese-jax prepare recordings shards --source "our lab"

    Args:
        folder: Searched with all folders in it; with --check, a folder of shards.
        out: Folder for the shards; finished ones are kept.
        options: How recordings become shards.
        check: Check the shards in FOLDER instead: damage, leaks, equal windows, dead channels, labels.
        preset: Whose electrodes, rate and window to use.
        manifest: CSV file with columns file, patient, split, ied_labelled; default FOLDER/manifest.csv if it is there.
        units: Units to take instead of the header's, as CHANNEL=UNIT; `*=uV` for all.
        events: Further tasks of events, as TASK=TEXT, a regular expression for whole texts (`spindle=.*spindle.*`).
        states: Further tasks of states, as TASK=CLASS:TEXT;CLASS:TEXT (`eyes=open:eyes open;closed:eyes closed`).
        source: Where the recordings come from, in words, which checkpoints repeat; default the folder's name.
    """
    from siamese_jax.cohort.bids import Bids
    from siamese_jax.cohort.bids_files import DESCRIPTION
    from siamese_jax.cohort.sources import Folder, manifest_rows

    if check == (out is not None):
        raise ValueError("give either a folder and --check, or a folder and where to put its shards")
    if out is None:
        return check_shards(folder)
    rows = manifest_rows(folder, manifest)
    rules = tuple(task_of_events(text) for text in events) + tuple(task_of_states(text) for text in states)
    kind = Bids if (folder / DESCRIPTION).exists() else Folder
    found = kind(folder, rows, channel_units(units), rules)
    return make_shards(found, out, PRESETS[preset].data, options, title=source)


def make_shards(
    source: "Source", out: Path, default: "DataConfig", options: ShardOptions, *, title: str | None = None
) -> int:
    """Prepare a source's shards and print what became of its recordings; `title` replaces the source's own."""
    from siamese_jax.cohort.prepare import prepare as run_preparation

    data = options.data(default)
    with progress_bar() as progress:
        report = run_preparation(
            source,
            out,
            data,
            hop_seconds=data.window_seconds if options.hop is None else options.hop,
            seed=options.seed,
            title=title,
            workers=options.workers,
            scheduler=options.scheduler,
            progress=progress,
        )
    print(report.text())
    return SOME_FAILED if report.skipped else OK


def check_shards(folder: Path) -> int:
    """Print what a folder of shards holds and whether all of it is sound."""
    from siamese_jax.cohort.check import check

    with progress_bar() as progress:
        checked = check(folder, progress)
    print(checked.text())
    for line in checked.error_lines():
        print_error(line)
    return NOT_ANALYSED if checked.errors else OK


def describe(recording: "Recording") -> str:
    """What was read, which channels serve, what is in doubt."""
    report = recording.report
    seconds = sum(segment.n_times for segment in recording.segments) / recording.sfreq
    n = len(recording.segments)
    name = recording.path.name if recording.path else "array"
    lines = [f"{name}  {duration(seconds)}" + (f" in {n} stretches" if n > 1 else "")]
    used = f"channels  {int(recording.present.sum())} of {len(recording.ch_names)} used"
    renamed = ", ".join(f"{label}->{name}" for label, name in report.renamed.items())
    lines.append(used + (f"; renamed {renamed}" if renamed else ""))
    if report.missing:
        lines.append(f"missing   {', '.join(report.missing)}")
    if report.ignored:
        by_reason: dict[str, list[str]] = {}
        for label, reason in report.ignored.items():
            by_reason.setdefault(reason, []).append(label)
        lines += [f"not used  {', '.join(labels)}: {reason}" for reason, labels in by_reason.items()]
    lines += [f"note      {warning}" for warning in report.warnings]
    if 2 * recording.present.sum() < len(recording.present):
        lines.append("note      fewer than half of the electrodes: references and judgements rest on little")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as far as they matter."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def channel_units(given: tuple[str, ...]) -> dict[str, str]:
    """What `--units CHANNEL=UNIT ...` says.

    Raises:
        ValueError: text of another form.
    """
    pairs = [text.rpartition("=") for text in given]
    wrong = [text for text, (channel, _, unit) in zip(given, pairs, strict=True) if not channel or not unit]
    if wrong:
        raise ValueError(f"--units takes CHANNEL=UNIT, given {wrong[0]!r}")
    return {channel: unit for channel, _, unit in pairs}


def task_of_events(text: str) -> "EventRule":
    """What `--events TASK=TEXT` says: windows with such an event against those without.

    Raises:
        ValueError: text of another form.
    """
    from siamese_jax.shards.labels import EventRule, TextClasses
    from siamese_jax.vocabulary import TaskSpec

    name, _, pattern = text.partition("=")
    if not name or not pattern:
        raise ValueError(f"--events takes TASK=TEXT, given {text!r}")
    return EventRule(TaskSpec(name, "binary", ("none", name)), TextClasses(((name, pattern),)))


def task_of_states(text: str) -> "StateRule":
    """What `--states TASK=CLASS:TEXT;CLASS:TEXT` says.

    Raises:
        ValueError: text of another form, or fewer than two classes.
    """
    from siamese_jax.shards.labels import StateRule, TextClasses
    from siamese_jax.vocabulary import TaskSpec

    name, _, rest = text.partition("=")
    pairs = tuple((label, pattern) for label, _, pattern in (part.partition(":") for part in rest.split(";")))
    if not name or len(pairs) < 2 or not all(label and pattern for label, pattern in pairs):
        raise ValueError(f"--states takes TASK=CLASS:TEXT;CLASS:TEXT with two classes or more, given {text!r}")
    return StateRule(TaskSpec(name, "multiclass", tuple(label for label, _ in pairs)), TextClasses(pairs))
