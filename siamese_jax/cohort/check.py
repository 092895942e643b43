"""Whether a folder of prepared shards is fit to train and test on (`siamese-jax prepare --check`).

Errors make results wrong: damaged files, a set that is not complete, patients or signals in two splits.
Warnings matter for training: signals stored twice, constant electrodes, classes that are rare or missing.

Signals are compared window by window: by a digest of the stored integers, less each channel's offset and whole-number
gain. It finds a window that was stored twice; a copy that was cut elsewhere, filtered, referenced otherwise, resampled
or rounded anew is not found.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64

from siamese_jax.cohort.prepare import Progress
from siamese_jax.cohort.report import REPORT, read_report
from siamese_jax.jobs import in_words
from siamese_jax.recordings.sidecars import SPLITS
from siamese_jax.shards.schema import PARTIAL_SUFFIX, SUFFIX, Shard, verify_shard
from siamese_jax.shards.summary import ShardSummary, in_class, shards_of_split, summary_of
from siamese_jax.vocabulary import TaskSpec

STILL_SHARE = 0.5
"""A channel that stands still in more of a recording's windows is named."""
RARE_SHARE = 0.01
"""A class that fewer of the labelled windows have is rare."""
APART = 3.0
"""A class is unevenly distributed if its share differs between two splits by a greater factor ..."""
ASSIGNMENTS = 999
"""... and by less in each of so many random assignments of the patients to the splits: p = 0.001."""
SHOWN = 5
"""Of more errors or warnings of one kind, so many are printed, and the number of the others."""

_FEW_VALUES = 16
"""Windows without a channel of more values (saturated, or mains noise alone) may be equal by chance."""


@dataclass(frozen=True)
class Finding:
    """One line of the table: what was looked for, in what, and what was found."""

    name: str
    checked: str
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def result(self) -> str:
        """`sound`, or how many errors and warnings."""
        return _numbers(self.errors, self.warnings) or "sound"


@dataclass(frozen=True)
class Check:
    """What `check` found: the sound shards' summary, and a finding for each thing that was checked."""

    summary: ShardSummary
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[str, ...]:
        """All errors, one line each."""
        return tuple(error for finding in self.findings for error in finding.errors)

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings, one line each."""
        return tuple(warning for finding in self.findings for warning in finding.warnings)

    def text(self) -> str:
        """Summary, findings and warnings as lines to print."""
        lines = [self.summary.table(), f"{'check':<18}{'checked':<58}result"]
        lines += [f"{finding.name:<18}{finding.checked:<58}{finding.result}" for finding in self.findings]
        lines += [f"warning: {line}" for finding in self.findings for line in _first(finding.warnings)]
        found = _numbers(self.errors, self.warnings)
        if not self.errors:
            found = f"all shards are sound; {found}" if found else "all shards are sound"
        return "\n".join([*lines, found])

    def error_lines(self) -> list[str]:
        """The errors to print: the first of each kind."""
        return [line for finding in self.findings for line in _first(finding.errors)]


def check(folder: str | Path, progress: Progress = lambda what, done, total: None) -> Check:
    """Verify every shard under `folder` against its checksum, and look through all of them together.

    Errors are: a shard that was cut short, edited or is of another schema; shards that do not fit one another; a
    preparation that was not finished, or recordings of it that no shard holds; no shard at all; a patient in two splits
    or shards; one recording or window in two splits, or under two patients' names. The signals are read twice.
    """
    folder = Path(folder)
    splits, errors = _verified(folder, progress)
    shards = [shard for group in splits.values() for shard in group]
    summary = summary_of(splits)
    megabytes = sum(split.megabytes for split in summary.splits)
    checked = f"{len(shards)} shards, {megabytes:.1f} MB, by checksum and schema"
    findings = [
        Finding("files", checked, (*errors, *_misfits(shards))),
        _complete(folder, None if errors else shards),
    ]
    if shards:
        recordings = _recordings(splits)
        scan = _scan(shards, recordings, progress)
        findings += [_patients(splits), _equal(scan, recordings), _still(shards, scan, recordings)]
        findings += [_labels(splits)]
    return Check(summary, tuple(findings))


# --- files and patients -------------------------------------------------------------------------------------


def _verified(folder: Path, progress: Progress) -> tuple[dict[str, list[Shard]], list[str]]:
    """The sound shards of each split, and what is wrong with the other files."""
    paths = [(split, path) for split in SPLITS for path in shards_of_split(folder, split)]
    errors, splits = [], {split: [] for split in SPLITS}
    for done, (split, path) in enumerate(paths):
        progress("verifying checksums", done, len(paths))
        try:
            splits[split].append(verify_shard(path))
        except (ValueError, OSError) as error:
            errors.append(in_words(error))
    if not paths:
        errors.append(f"{folder}: no shards (*{SUFFIX}) in {', '.join(SPLITS)}")
    errors += [
        f"{path}: left by a preparation that was interrupted; run it again or delete the file"
        for path in sorted(folder.rglob(f"*{PARTIAL_SUFFIX}"))
    ]
    return splits, errors


def _misfits(shards: Sequence[Shard]) -> list[str]:
    return [
        f"{shard.path}: {name} is {getattr(shard.info, name)}, but {getattr(shards[0].info, name)} in {shards[0].path}"
        for shard in shards[1:]
        for name in ("sfreq", "ch_names", "window", "hop", "tasks")
        if getattr(shards[0].info, name) != getattr(shard.info, name)
    ]


def _complete(folder: Path, shards: Sequence[Shard] | None) -> Finding:
    """Whether `prepare` came to its end, and whether the shards hold all that it used (None: some are damaged)."""
    try:
        report = read_report(folder)
    except (OSError, ValueError) as error:
        return Finding("complete", REPORT, (in_words(error),))
    if report is None:
        warning = f"{folder / REPORT}: no such file, so nothing says which recordings belong to the set"
        return Finding("complete", f"no {REPORT}", (), (warning,))
    if not report.finished:
        error = f"{folder}: preparing it was not finished; run `siamese-jax prepare` again"
        return Finding("complete", REPORT, (error,))
    used, skipped = report.used, report.skipped
    there = used if shards is None else {name for shard in shards for name in shard.recordings["name"].tolist()}
    missing = [name for name in used if name not in there]
    errors = tuple(f"{name}: used by the preparation, but no shard holds it" for name in missing)
    warnings = tuple(f"{name}: left out by the preparation; {REPORT} has the reason" for name in skipped)
    return Finding("complete", f"{len(used)} recordings used, {len(skipped)} left out ({REPORT})", errors, warnings)


def _patients(splits: Mapping[str, Sequence[Shard]]) -> Finding:
    errors, seen = [], {}
    for split, shards in splits.items():
        for shard in shards:
            for patient in shard.patients:
                before, path = seen.setdefault(patient, (split, shard.path))
                if path != shard.path:
                    errors.append(
                        f"patient {patient!r} is in {before} ({path.name}) and in {split} ({shard.path.name})"
                    )
    return Finding("patients", f"{len(seen)} patients in {sum(map(bool, splits.values()))} splits", tuple(errors))


# --- signals ------------------------------------------------------------------------------------------------


class _Recording(NamedTuple):
    name: str
    patient: str
    split: str
    digest: str
    """SHA-256 of its file; empty if it came from none."""

    def __str__(self) -> str:
        return f"{self.name} (patient {self.patient}, {self.split})"


class _Scan(NamedTuple):
    """What one reading of all windows gives."""

    windows: int
    equal: dict[tuple[int, int], list[tuple[float, float]]]
    """Onsets of equal windows in two recordings, or twice in one (numbers in the cohort)."""
    listed_twice: list[str]
    without_signal: list[str]
    still: list[Int64[np.ndarray, "chan"]]
    """In how many windows each channel stands still, by recording."""
    counts: Int64[np.ndarray, "recording"]
    """Windows of each recording."""


def _recordings(splits: Mapping[str, Sequence[Shard]]) -> list[_Recording]:
    found = []
    for split, shards in splits.items():
        for table in (shard.recordings for shard in shards):
            rows = zip(*(table[column].tolist() for column in ("name", "patient", "digest")), strict=True)
            found += [_Recording(name, patient, split, digest) for name, patient, digest in rows]
    return found


def _scan(shards: Sequence[Shard], recordings: Sequence[_Recording], progress: Progress) -> _Scan:
    first: dict[bytes, tuple[int, float]] = {}
    still = [np.zeros(len(shard.info.ch_names), np.int64) for shard in shards for _ in shard.recordings["name"]]
    scan = _Scan(sum(map(len, shards)), defaultdict(list), [], [], still, np.zeros(len(recordings), np.int64))
    before, done = 0, 0
    for shard in shards:
        empty, again = np.zeros(len(shard), bool), np.ones(len(shard), bool)
        again[np.unique(shard.start, return_index=True)[1]] = False
        for i in np.flatnonzero(~again).tolist():
            progress("comparing windows", done + i, scan.windows)
            block = shard.read_integers(int(shard.start[i]), int(shard.start[i]) + shard.info.window)
            recording, onset = before + int(shard.recording[i]), float(shard.onset_seconds[i])
            moves = block.max(axis=0) != block.min(axis=0)
            scan.still[recording][~moves] += 1
            scan.counts[recording] += 1
            empty[i] = not moves.any()
            there, there_onset = (
                (recording, onset) if empty[i] else first.setdefault(_digest(block), (recording, onset))
            )
            if (there, there_onset) != (recording, onset) and _is_distinctive(block):
                scan.equal[there, recording].append((there_onset, onset))
        used = np.any([weight > 0 for weight in shard.weights.values()], axis=0)
        scan.listed_twice.extend(_told(shard, again, "listed twice"))
        scan.without_signal.extend(_told(shard, empty & used, "with labels but a signal that stands still"))
        before, done = before + len(shard.recordings["name"]), done + len(shard)
        shard.close()  # one file is open at a time
    progress("comparing windows", done, scan.windows)
    return scan


def _digest(block: Int[np.ndarray, "time chan"]) -> bytes:
    """Of a window, the same with another offset in any channel, and with a gain that is a whole number."""
    steps = np.diff(block.astype(np.int64), axis=0)
    first = np.take_along_axis(steps, (steps != 0).argmax(axis=0)[None], axis=0)[0]
    gain = np.maximum(np.gcd.reduce(steps, axis=0), 1) * np.where(first < 0, -1, 1)
    return hashlib.sha256(steps // gain).digest()[:16]


def _is_distinctive(block: Int[np.ndarray, "time chan"]) -> bool:
    """Whether windows that equal this one must be copies of it."""
    return any(len(np.unique(channel)) > _FEW_VALUES for channel in block.T)


def _told(shard: Shard, windows: Bool[np.ndarray, "window"], what: str) -> list[str]:
    if not windows.any():
        return []
    i = int(windows.argmax())
    name, onset = shard.recordings["name"][shard.recording[i]], shard.onset_seconds[i]
    return [f"{shard.path}: {_count(int(windows.sum()), 'window')} {what}, the first in {name} at {onset:g} s"]


def _equal(scan: _Scan, recordings: Sequence[_Recording]) -> Finding:
    """Recordings of one file, and windows that stand in several places; first those in two splits."""
    said = {pair: _shared(pair, onsets, recordings) for pair, onsets in scan.equal.items()}
    of_file = defaultdict(list)
    for i, recording in enumerate(recordings):
        of_file[recording.digest].append(i)
    for digest, same in of_file.items():
        for i, j in combinations(same if digest else (), 2):
            said[i, j] = f"{recordings[i]} and {recordings[j]} are one file under two names"
    leaks, errors, warnings = [], [], []
    for (i, j), line in sorted(said.items()):
        one, other = recordings[i], recordings[j]
        if one.patient != other.patient:
            (leaks if one.split != other.split else errors).append(line)
        elif one.split == other.split:  # if not, the patient is in two splits: that is an error above
            warnings.append(line)
    checked = f"{scan.windows} windows of {len(recordings)} recordings"
    return Finding("equal signals", checked, (*scan.listed_twice, *leaks, *errors), tuple(warnings))


def _shared(pair: tuple[int, int], onsets: list[tuple[float, float]], recordings: Sequence[_Recording]) -> str:
    one, other = (recordings[i] for i in pair)
    count, where = _count(len(onsets), "window"), "first at {:g} s and {:g} s".format(*min(onsets))
    if one is other:
        return f"{one} holds {count} twice, {where}"
    return f"{one} and {other} share {count}, {where}: leave one out"


def _still(shards: Sequence[Shard], scan: _Scan, recordings: Sequence[_Recording]) -> Finding:
    """Channels that a recording has, and that stand still in most of its windows; windows without any signal."""
    rows = [(shard, row) for shard in shards for row in range(len(shard.recordings["name"]))]
    warnings, n_channels = list(scan.without_signal), 0
    for i, (shard, row) in enumerate(rows):
        present = shard.recordings["present"][row]
        n_channels += int(present.sum())
        share = scan.still[i] / max(scan.counts[i], 1)
        still = np.flatnonzero(present & (share > STILL_SHARE))
        said = [f"{shard.info.ch_names[k]} {100 * share[k]:.0f} %" for k in still]
        if len(still) == present.sum() > 1:
            said = [f"all {len(still)} channels {100 * share[still].min():.0f} %"]
        warnings += [f"{recordings[i]} stands still in many of its windows: {', '.join(said)}"] if said else []
    checked = f"{n_channels} channels of {len(rows)} recordings, by windows"
    return Finding("constant channels", checked, (), tuple(warnings))


# --- labels -------------------------------------------------------------------------------------------------


class PatientCounts(NamedTuple):
    """One task's labelled windows of one patient."""

    split: str
    labelled: int
    having: Int64[np.ndarray, "class"]
    """Windows of each class."""


def _labels(splits: Mapping[str, Sequence[Shard]]) -> Finding:
    tasks = next(shard for group in splits.values() for shard in group).info.tasks
    lines = [
        f"{task.name}: {line}"
        for task in tasks
        for line in imbalances(task, [n for split, group in splits.items() for n in _counts(task, split, group)])
    ]
    checked = f"classes of {', '.join(task.name for task in tasks)} by split and patient"
    return Finding("label balance", checked, (), tuple(lines))


def _counts(task: TaskSpec, split: str, shards: Sequence[Shard]) -> list[PatientCounts]:
    found = []
    for shard in (shard for shard in shards if task in shard.info.tasks):
        used, patient = shard.weights[task.name] > 0, shard.patient(np.arange(len(shard)))
        classes = in_class(task, shard.labels[task.name])
        for name in shard.patients:
            here = used & (patient == name)
            found.append(PatientCounts(split, int(here.sum()), classes[here].sum(axis=0)))
    return found


def imbalances(task: TaskSpec, patients: Sequence[PatientCounts]) -> list[str]:
    """One line for each thing that is wrong with a task's labels; none if nobody labelled it.

    - A split has no labelled window, or none of a class, that another split has.
    - A class has no window at all, or fewer than `RARE_SHARE` of all.
    - The share of a class differs by `APART` between splits, and by more than in any of `ASSIGNMENTS` random ones.
      Patients are assigned, not windows, so that one patient with many events is not taken for an uneven split.
    """
    if not any(counts.labelled for counts in patients):
        return []
    names = list(dict.fromkeys(counts.split for counts in patients))
    members = np.array([[counts.split == name for counts in patients] for name in names], float)
    labelled, having = (np.array(column, float) for column in list(zip(*patients, strict=True))[1:])
    lines, total, by_split = [], labelled.sum(), members @ having
    for name, n, own in zip(names, members @ labelled, by_split, strict=True):
        missing = [
            f"{task.classes[c]} ({names[by_split[:, c].argmax()]} has {by_split[:, c].max():.0f})"
            for c in np.flatnonzero((own == 0) & by_split.any(axis=0))
        ]
        if not n:
            most = (members @ labelled).argmax()
            lines.append(f"{name} has no labelled window, {names[most]} has {(members @ labelled)[most]:.0f}")
        elif missing:
            lines.append(f"{name} has no window of {', '.join(missing)}")
    of_class = dict(zip(task.classes, by_split.sum(axis=0), strict=True))
    absent = [label for label, n in of_class.items() if not n]
    rare = sorted((n, label) for label, n in of_class.items() if 0 < n < RARE_SHARE * total)
    lines += [f"no window of {', '.join(absent)} in any split"] if absent else []
    ratios = ", ".join(f"{label} 1 : {total / n:.0f}" for n, label in rare)
    lines += [f"rare among {total:.0f} labelled windows: {ratios}"] if rare else []
    return lines + _uneven(task, names, members[:, labelled > 0], labelled[labelled > 0], having[labelled > 0])


def _uneven(
    task: TaskSpec,
    names: Sequence[str],
    members: Float64[np.ndarray, "split patient"],
    labelled: Float64[np.ndarray, "patient"],
    having: Float64[np.ndarray, "patient class"],
) -> list[str]:
    """Classes whose share differs between splits by more than chance explains."""
    inside = np.flatnonzero(members.any(axis=1)).tolist()
    names, members = [names[i] for i in inside], members[inside]

    def shares(members: Float64[np.ndarray, "split patient"]) -> Float64[np.ndarray, "split class"]:
        return members @ having / (members @ labelled)[:, None]

    def factor(shares: Float64[np.ndarray, "split class"]) -> Float64[np.ndarray, "class"]:
        most, least = shares.max(axis=0), shares.min(axis=0)
        return np.divide(most, least, out=np.full_like(most, np.inf), where=least > 0)

    found, rng = shares(members), np.random.default_rng(0)
    apart = (factor(found) > APART) & (factor(found) < np.inf)  # a split without the class was named before
    for _ in range(ASSIGNMENTS):
        if not apart.any():
            break
        apart &= factor(shares(rng.permutation(members, axis=1))) < factor(found)
    lines = []
    for label, share in zip(np.array(task.classes)[apart], found.T[apart], strict=True):
        said = ", ".join(f"{100 * x:.2g} % of {name}" for name, x in zip(names, share, strict=True))
        lines.append(f"{label} is {said}: more than chance among {len(labelled)} patients")
    return lines


# --- in words -----------------------------------------------------------------------------------------------


def _numbers(errors: Sequence[str], warnings: Sequence[str]) -> str:
    counts = ((len(errors), "error"), (len(warnings), "warning"))
    return ", ".join(_count(n, word) for n, word in counts if n)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _first(lines: Sequence[str]) -> list[str]:
    shown = list(lines[:SHOWN])
    return [*shown, f"... and {len(lines) - SHOWN} more of this kind"] if len(lines) > SHOWN else shown
