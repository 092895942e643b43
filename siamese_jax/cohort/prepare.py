"""A source's recordings as shards, split by patient (`siamese-jax prepare`, and each reader of a public data set).

    OUT/train/<patient>.h5  OUT/validation/<patient>.h5  OUT/test/<patient>.h5  OUT/prepare.json

Each recording is either used or named in the report with the reason why not. It is skipped only for what its files
hold; if it cannot be read at the moment, or a shard cannot be written, the preparation is not finished, and
`prepare.json` says so. Run again, it keeps the shards that are finished and makes the others. Any number of processes
may read recordings and write shards; the shards are the same, byte for byte.
"""

import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from siamese_jax.cohort.marks_found import settled, text_rows
from siamese_jax.cohort.report import (
    PrepareReport,
    UsedFile,
    check_configuration,
    check_expected,
    grouped,
    write_report,
)
from siamese_jax.cohort.sources import Source
from siamese_jax.cohort.splits import (
    Found,
    SkippedFile,
    is_bad,
    labelled_for,
    look,
    shard_paths,
    split_patients,
    without_copies,
)
from siamese_jax.config.samples import whole_samples
from siamese_jax.config.sections import DataConfig
from siamese_jax.jobs import Outcome, in_words, run_each
from siamese_jax.locks import locked
from siamese_jax.recordings.sidecars import MANIFEST, SPLITS
from siamese_jax.shards.labels import EventRule, described
from siamese_jax.shards.marks import TaskMarks
from siamese_jax.shards.schema import SCHEMA_VERSION, ShardInfo, verify_shard
from siamese_jax.shards.summary import coarse_channels, summarise
from siamese_jax.shards.write import LabelledRecording, UnreadableRecordingError, write_shard
from siamese_jax.vocabulary import IED

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""


def prepare(
    source: Source,
    out: str | Path,
    data: DataConfig,
    *,
    hop_seconds: float,
    seed: int,
    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
    title: str | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress = lambda what, done, total: None,
) -> PrepareReport:
    """Make shards in `out` of a source's recordings.

    Args:
        source: where the recordings come from: a `Folder` of EDF files, say.
        out: made if need be; finished shards in it are kept if they are of this configuration.
        data: channels, rate and window.
        hop_seconds: from one window's onset to the next.
        seed: decides, with the patients' names, who is in which split, unless the source says it.
        fractions: of patients for train, validation and test.
        title: where the recordings come from, in words, instead of the source's own title.
        workers: processes that work at it, as for `run_each`.
        scheduler: address of a cluster's scheduler, as for `run_each`.
        progress: called with what is done.

    Raises:
        ValueError: no usable recording; `out` is of another configuration or other patients; no such scheduler.
        OSError: `out` cannot be written, or a recording cannot be read that nothing is wrong with; it is not finished.
    """
    out = Path(out)
    settings = _Settings(source, data, hop_seconds, seed, tuple(fractions), title or source.title)
    settings.check()
    work = _Work(workers, scheduler, progress, [])
    with locked(out) as note:
        check_configuration(out, settings.configuration())
        files, skipped = _find(settings, work)
        _check_any(source.root, files, skipped)
        splits, notes = _split(files, settings)
        shards = shard_paths(out, splits, source.patients_per_shard)
        check_expected(out, shards)
        write_report(out, settings.configuration(), {"finished": False})
        unreadable, failed, written = _finish_shards(out, shards, files, settings, work)
        if failed:
            lists = {"failed": [f._asdict() for f in failed]}
            write_report(out, settings.configuration(), {"finished": False, **lists})
            raise OSError(
                f"{out} is not finished, since of {len(files)} recordings {len(failed)} could not be prepared:"
                f" {_reasons(failed)}. What is finished is kept: correct this, or remove them, and run it again"
            )
        skipped += unreadable
        files = [file for file in files if file.name not in {lost.name for lost in skipped}]
        _check_any(source.root, files, skipped)
        used = [UsedFile(f.name, f.patient, f.patient_from, splits[f.patient], f.notes) for f in files]
        coarse = coarse_channels(path for path in shards if path.exists())
        notes += [*source.notes(), *_doubts(files, settings), *coarse, *([note] if note else [])]
        texts = text_rows((f.marks.texts for f in files), source.rules)
        lists = {"texts": texts, "used": used, "skipped": skipped}
        held = {name: [row._asdict() for row in rows] for name, rows in lists.items()}
        write_report(out, settings.configuration(), {"finished": True, "notes": notes, **held})
        retried = tuple(work.retried)
        return PrepareReport(
            out, tuple(used), tuple(skipped), tuple(notes), retried, tuple(texts), written, summarise(out)
        )


class _Settings(NamedTuple):
    """What decides the content of shards, besides the files."""

    source: Source
    data: DataConfig
    hop_seconds: float
    seed: int
    fractions: tuple[float, ...]
    title: str

    @property
    def window(self) -> int:
        return whole_samples(self.data.window_seconds, self.data.sfreq, "the window")

    @property
    def hop(self) -> int:
        return whole_samples(self.hop_seconds, self.data.sfreq, "the hop")

    def check(self) -> None:
        """Refuse windows or hops that are not whole samples, and tasks that a shard cannot distinguish."""
        _ = self.window, self.hop  # refused where they are no whole samples
        tasks = [rule.task.name for rule in self.source.rules]
        wrong = sorted({task for task in tasks if tasks.count(task) > 1 or "/" in task})
        if wrong:
            raise ValueError(f"tasks must have names of their own, without '/', given {', '.join(wrong)} among {tasks}")

    def configuration(self) -> dict[str, Any]:
        """As JSON holds it."""
        split = {"seed": self.seed, "fractions": list(self.fractions)}
        return self.shard_configuration() | split

    def shard_configuration(self) -> dict[str, Any]:
        """What decides the content of a shard, whoever else is in the source; as JSON holds it."""
        held = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self.data), "hop_seconds": self.hop_seconds}
        held |= {"source": self.title, "rules": [described(rule) for rule in self.source.rules]}
        return json.loads(json.dumps(held | self.source.options()))


class _Work(NamedTuple):
    """How the work is done, and who is informed of it."""

    workers: int
    scheduler: str | None
    progress: Progress
    retried: list[tuple[str, str]]
    """What was tried again, and why: filled on the way."""

    def run(
        self, what: str, function: Callable[..., Any], items: Sequence[Any], names: Sequence[str]
    ) -> Iterator[Outcome]:
        """What becomes of each item, as they come."""

        def on_retry(index: int, why: str) -> None:
            self.retried.append((names[index], f"tried again: {why}"))

        self.progress(what, 0, len(items))
        outcomes = run_each(function, items, workers=self.workers, scheduler=self.scheduler, on_retry=on_retry)
        for done, outcome in enumerate(outcomes, start=1):
            yield outcome
            self.progress(what, done, len(items))


# --- deciding -----------------------------------------------------------------------------------------------


def _find(settings: _Settings, work: _Work) -> tuple[list[Found], list[SkippedFile]]:
    """A first look at every recording; what cannot be used, and why."""
    names, rest = list(settings.source.names()), {"window": settings.window, "hop": settings.hop}
    first_look = partial(_look, source=settings.source, data=settings.data, **rest)
    found, skipped, failed = [], [], []
    outcomes = work.run("reading headers", first_look, names, names)
    for i, result, failure, worker_lost in sorted(outcomes, key=lambda outcome: outcome.index):
        if failure is not None:
            # A recording that ends each worker that opens it alone is left out; one whose disk fails may be read later.
            (skipped if worker_lost else failed).append(SkippedFile(names[i], failure))
        else:
            (found if isinstance(result, Found) else skipped).append(result)
    if skipped:
        still = _names_now(settings.source)
        failed += [file for file in skipped if file.name not in still]
    if failed:
        raise OSError(
            f"{settings.source.root}: {len(failed)} of {len(names)} recordings cannot be read, and not for what they"
            f" hold: {_reasons(failed)}. Nothing was written: correct this, or remove them, and run it again"
        )
    files, copies = without_copies(found)
    return files, sorted(skipped, key=lambda file: names.index(file.name)) + copies


def _look(name: str, **options: Any) -> Found | SkippedFile:
    """A first look, and why a recording is of no use because of what it holds, or lacks: a file that a table lists."""
    try:
        return look(name, **options)
    except (ValueError, FileNotFoundError) as error:
        return SkippedFile(name, _without_name(in_words(error), name))


def _names_now(source: Source) -> set[str]:
    """The recordings that are there after the first look; one that is not was on a disk or network that failed."""
    try:
        return set(source.names())
    except ValueError:
        return set()


def _check_any(folder: Path, files: Sequence[Found], skipped: Sequence[SkippedFile]) -> None:
    if not files:
        raise ValueError(f"{folder}: nothing to prepare ({_reasons(skipped) or 'no recording'})")


def _reasons(files: Sequence[SkippedFile]) -> str:
    """The first few reasons, with the names of the first few recordings of each."""
    reasons = grouped((file.reason, file.name) for file in files)
    more = [f"and {len(reasons) - 5} more reasons"] if len(reasons) > 5 else []
    return "; ".join(reasons[:5] + more)


def _without_name(failure: str, name: str) -> str:
    """A reason without the file's name before it, which the report says itself, once for all with that reason."""
    bare = Path(name).name  # which may begin another file's name: `00026_lr` is cut out of no `00026_lr.dat`
    return failure.removeprefix(f"{bare}: ").removeprefix(f"{bare} ")


def _split(files: Sequence[Found], settings: _Settings) -> tuple[dict[str, str], list[str]]:
    """Each patient's split, and notes on it."""
    events = next((rule.task.name for rule in settings.source.rules if isinstance(rule, EventRule)), "")
    fixed: dict[str, str] = {}
    has_event: dict[str, bool] = {}
    for file in files:
        if file.split and fixed.setdefault(file.patient, file.split) != file.split:
            raise ValueError(
                f"patient {file.patient!r} is in two splits: {fixed[file.patient]} and, by {file.name}, {file.split}"
            )
        counts = events in file.marked and file.searched.get(events, True)
        has_event[file.patient] = has_event.get(file.patient, False) or counts
    splits = split_patients(has_event, fractions=settings.fractions, seed=settings.seed, fixed=fixed)
    origins = sorted({file.patient_from for file in files})
    notes = [f"patients: {len(has_event)}, told apart by {' and '.join(origins)}"]
    notes += [f"split: {len(fixed)} of {len(has_event)} patients by the source"] if fixed else []
    for name in SPLITS:
        inside = [patient for patient, split in splits.items() if split == name]
        if not inside:
            notes.append(f"{name} is empty: too few patients")
        elif any(has_event.values()) and not any(has_event[patient] for patient in inside):
            notes.append(f"{name} has no patient with an annotation of {events}: too few of them")
    return splits, notes


def _doubts(files: Sequence[Found], settings: _Settings) -> list[str]:
    """Decisions about labels that the reader of the report should judge."""
    rules, lines = settings.source.rules, []
    tasks = labelled_for(files, rules)
    for rule in rules:
        task = rule.task.name
        free = [f for f in files if task in tasks[f.name] and task not in f.marked and task not in f.searched]
        if free:
            hint = f" ({MANIFEST}: ied_labelled=no if unseen)" if task == IED.name else ""
            lines.append(
                f"{len(free)} of {len(files)} recordings have no annotation of {task} and count as free of it{hint}"
            )
        unlabelled = sum(task in f.marked and task not in tasks[f.name] for f in files)
        if unlabelled:
            lines.append(f"{unlabelled} of {len(files)} recordings have annotations of {task} that do not count")
        missing = sum(task not in held for held in tasks.values())
        if missing:
            lines.append(f"{missing} of {len(files)} recordings are not labelled for {task}")
        unread = [f for f in files if task in tasks[f.name] and f.marks.n_unread_windows]
        if unread and isinstance(rule, EventRule) and rule.rest:
            lines.append(
                f"{sum(f.marks.n_unread_windows for f in unread)} windows of {len(unread)} recordings hold marks that"
                f" no task understood, listed below; without a mark of {task} they count as free of it"
            )
    if ended := sum(f.marks.n_ended for f in files):
        lines.append(f"{ended} stages without duration end at a text that is not understood, or at Lights on")
    if machine := sum(f.marks.n_machine for f in files):
        lines.append(f"{machine} marks of a machine that nobody has reviewed are left out: never labels")
    return lines


# --- writing ------------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """What decides a recording's part of a shard, besides the settings."""

    name: str
    patient: str
    digest: str
    content: str
    """As for `Found`."""
    tasks: tuple[str, ...]
    """Those that it is labelled for."""


class _Job(NamedTuple):
    """A shard to be written."""

    path: Path
    content: tuple[_Part, ...]


class _Done(NamedTuple):
    skipped: tuple[SkippedFile, ...] = ()
    is_new: bool = False
    failed: tuple[SkippedFile, ...] = ()
    """Recordings that could be read before and cannot be now: the shard is not made."""
    cannot_write: str = ""
    """Why the shard could not be written; not because of its recordings, so it ends the run."""


def _finish_shards(
    out: Path, shards: Mapping[Path, Sequence[str]], files: Sequence[Found], settings: _Settings, work: _Work
) -> tuple[list[SkippedFile], list[SkippedFile], int]:
    """Write what is not there yet; returns recordings that are of no use, those that failed, and the number written.

    Raises:
        OSError: a shard cannot be written.
    """
    by_patient, tasks = defaultdict(list), labelled_for(files, settings.source.rules)
    for file in files:
        by_patient[file.patient].append(_Part(file.name, file.patient, file.digest, file.content, tasks[file.name]))
    jobs = [_Job(path, tuple(p for patient in group for p in by_patient[patient])) for path, group in shards.items()]
    for split in SPLITS:
        (out / split).mkdir(exist_ok=True)
    results: dict[int, _Done] = {}
    names = [job.path.name for job in jobs]
    for i, done, failure, _ in work.run("writing shards", partial(_finish_shard, settings=settings), jobs, names):
        results[i] = done or _Done(failed=tuple(SkippedFile(part.name, failure or "") for part in jobs[i].content))
        if results[i].failed:
            jobs[i].path.unlink(missing_ok=True)  # of an earlier run: it must not be taken for what is wanted now
        if results[i].cannot_write:
            raise OSError(f"{jobs[i].path} cannot be written, {out} is not finished: {results[i].cannot_write}")
    ordered = [results[i] for i in sorted(results)]
    skipped, failed = ([f for done in ordered for f in getattr(done, kind)] for kind in ("skipped", "failed"))
    return skipped, failed, sum(done.is_new for done in ordered)


def _finish_shard(job: _Job, *, settings: _Settings) -> _Done:
    """Write a shard unless it is there, without recordings whose signal cannot be read."""
    chosen, skipped = list(job.content), []
    while chosen:
        decisive = json.dumps([settings.shard_configuration(), chosen])
        fingerprint = hashlib.sha256(decisive.encode()).hexdigest()
        info = ShardInfo(
            sfreq=settings.data.sfreq,
            ch_names=settings.data.ch_names,
            window=settings.window,
            hop=settings.hop,
            tasks=tuple(rule.task for rule in settings.source.rules),
            source=settings.title,
            fingerprint=fingerprint,
        )
        try:
            if _is_finished(job.path, fingerprint):
                return _Done(tuple(skipped))
            write_shard(job.path, [_labelled(part, settings) for part in chosen], info=info)
        except UnreadableRecordingError as error:
            unreadable = SkippedFile(error.name, error.reason)
            if isinstance(error.__cause__, OSError):
                return _Done(failed=(unreadable,))
            skipped.append(unreadable)
            chosen = [part for part in chosen if part.name != error.name]
        except Exception as error:  # HDF5 raises a RuntimeError, KeyError or ValueError, too, when a disk is full
            full = "No space left" in str(error)
            return _Done(cannot_write="no space left on the disk" if full else f"{type(error).__name__}: {error}")
        else:
            return _Done(tuple(skipped), is_new=True)
    job.path.unlink(missing_ok=True)
    return _Done(tuple(skipped))


def _is_finished(path: Path, fingerprint: str) -> bool:
    if not path.exists():
        return False
    try:
        return verify_shard(path).info.fingerprint == fingerprint
    except ValueError:
        return False  # damaged: it is made again from the recordings


def _labelled(part: _Part, settings: _Settings) -> LabelledRecording:
    source = settings.source
    try:
        opened = source.open(part.name, settings.data)
        grid = source.grid(opened, window=settings.window, hop=settings.hop)
    except (ValueError, OSError) as error:
        raise UnreadableRecordingError(part.name, str(error)) from error
    annotations, recording = settled(opened.annotations, source.rules)[0], opened.recording
    stretches = [(segment.onset_seconds, segment.n_times / recording.sfreq) for segment in recording.segments]
    marks = {
        rule.task.name: rule.task_marks(annotations, stretches) if rule.task.name in part.tasks else TaskMarks()
        for rule in source.rules
    }
    bad = tuple((a.onset_seconds, a.duration_seconds) for a in annotations if is_bad(a))
    return LabelledRecording(part.name, opened.patient, recording, grid, marks, bad, part.content)
