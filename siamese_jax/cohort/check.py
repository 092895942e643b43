"""Whether a folder of prepared shards is fit to train and test on (`siamese-jax prepare --check`).

Errors make results wrong: damaged files, and people or signals that stand on both sides of a split. Warnings are to be
known before training: signals stored twice, dead electrodes, classes that are rare or missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int16, Int64, Shaped, UInt64

from siamese_jax.cohort import duplicates
from siamese_jax.cohort.balance import imbalances
from siamese_jax.cohort.duplicates import FINGERPRINT, WORD_SECONDS, Part
from siamese_jax.cohort.prepare import Progress
from siamese_jax.recordings.sidecars import SPLITS
from siamese_jax.shards.schema import PARTIAL_SUFFIX, SUFFIX, Shard, verify_shard
from siamese_jax.shards.summary import ShardSummary, shards_of_split, summary_of

STILL_SHARE = 0.5
"""A channel that stands still in more of a recording's seconds is named."""
SHOWN = 5
"""Of more errors or warnings of one kind, so many are printed, and the number of the others."""

_BLOCK_SECONDS = 60


@dataclass(frozen=True)
class Finding:
    """One line of the table: what was looked for, in what, and what was found."""

    name: str
    looked_at: str
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def result(self) -> str:
        """`sound`, or how many errors and warnings."""
        return _numbers(self.errors, self.warnings) or "sound"


@dataclass(frozen=True)
class Check:
    """What `check` found: the sound shards' summary, and a finding for each kind of trouble."""

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
        lines = [self.summary.table(), f"{'check':<18}{'looked at':<58}result"]
        lines += [f"{finding.name:<18}{finding.looked_at:<58}{finding.result}" for finding in self.findings]
        lines += [f"warning: {line}" for finding in self.findings for line in _first(finding.warnings)]
        found = _numbers(self.errors, self.warnings)
        if not self.errors:
            found = f"all shards are sound; {found}" if found else "all shards are sound"
        return "\n".join([*lines, found])

    def complaints(self) -> list[str]:
        """The errors to print: the first of each kind."""
        return [line for finding in self.findings for line in _first(finding.errors)]


def check(folder: str | Path, progress: Progress | None = None) -> Check:
    """Verify every shard under `folder` against its checksum, and look through all of them together.

    Errors are: a shard that was cut short, edited or is of another schema; shards that do not fit one another;
    leftovers of an interrupted preparation; no shard at all; a patient in two splits or shards; one signal or window in
    two splits, or under two patients' names. The signals are read twice, a minute at a time.
    """
    progress = progress or (lambda *_: None)
    splits, errors = _verified(folder, progress)
    shards = [shard for group in splits.values() for shard in group]
    summary = summary_of(folder, splits)
    megabytes = sum(split.megabytes for split in summary.splits)
    looked_at = f"{len(shards)} shards, {megabytes:.1f} MB, by checksum and schema"
    findings = [Finding("files", looked_at, (*errors, *_misfits(shards)))]
    if shards:
        scan = _scan(shards, progress)
        recordings = _recordings(splits)
        shared, same = _same_signals(scan, recordings)
        findings += [_patients(splits), same, _windows(shards, scan, recordings, shared)]
        findings += [_channels(shards, scan, recordings), _labels(splits)]
    return Check(summary, tuple(findings))


def _verified(folder: str | Path, progress: Progress) -> tuple[dict[str, list[Shard]], list[str]]:
    """The sound shards of each split, and what is wrong with the other files."""
    paths = [(split, path) for split in SPLITS for path in shards_of_split(folder, split)]
    errors, splits = [], {split: [] for split in SPLITS}
    for done, (split, path) in enumerate(paths):
        progress("verifying checksums", done, len(paths))
        try:
            splits[split].append(verify_shard(path))
        except ValueError as error:
            errors.append(str(error))
    if not paths:
        errors.append(f"{folder}: no shards (*{SUFFIX}) in {', '.join(SPLITS)}")
    errors += [
        f"{path}: left by a preparation that was interrupted; run it again or delete the file"
        for path in sorted(Path(folder).rglob(f"*{PARTIAL_SUFFIX}"))
    ]
    return splits, errors


def _misfits(shards: Sequence[Shard]) -> list[str]:
    return [
        f"{shard.path}: {name} is {getattr(shard.info, name)}, but {getattr(shards[0].info, name)} in {shards[0].path}"
        for shard in shards[1:]
        for name in ("sfreq", "ch_names", "window", "hop", "tasks")
        if getattr(shards[0].info, name) != getattr(shard.info, name)
    ]


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


# --- what the signals say -----------------------------------------------------------------------------------


class _Recording(NamedTuple):
    name: str
    patient: str
    split: str

    def __str__(self) -> str:
        return f"{self.name} (patient {self.patient}, {self.split})"


class _Scan(NamedTuple):
    """What one reading of all signals gives."""

    parts: list[Part]
    fingerprints: Shaped[np.ndarray, "word"]
    digests: UInt64[np.ndarray, "window"]
    still_windows: Bool[np.ndarray, "window"]
    seconds: Int64[np.ndarray, "recording"]
    """Whole seconds looked at."""
    still_seconds: list[Int64[np.ndarray, "chan"]]
    """In how many of them each channel stands still, by recording."""


def _recordings(splits: Mapping[str, Sequence[Shard]]) -> list[_Recording]:
    return [
        _Recording(str(name), str(patient), split)
        for split, shards in splits.items()
        for shard in shards
        for name, patient in zip(shard.recordings["name"], shard.recordings["patient"], strict=True)
    ]


def _scan(shards: Sequence[Shard], progress: Progress) -> _Scan:
    parts = duplicates.cohort_parts(shards)
    one_in = duplicates.one_in(parts)
    digests = [np.zeros(len(shard), np.uint64) for shard in shards]
    still = [np.zeros(len(shard), bool) for shard in shards]
    counts = [np.zeros(len(s.info.ch_names), np.int64) for s in shards for _ in s.recordings["name"]]
    seconds, words = np.zeros(len(counts), np.int64), [np.zeros(0, FINGERPRINT)]
    total, done = sum(part.length for part in parts), 0
    for number, start, n, block in _blocks(parts):
        progress("comparing signals", done, total)
        part, info = parts[number], parts[number].shard.info
        present, second, row = part.shard.recordings["present"][part.row], _second(part), part.start + start
        found = duplicates.fingerprints(block, present, n_starts=n, sfreq=info.sfreq, one_in=one_in)
        found["segment"], found["position"] = number, found["position"] + start
        words.append(found)
        here = np.flatnonzero((part.shard.start >= row) & (part.shard.start < row + n))
        hashes = duplicates.window_digests(block, part.shard.start[here] - row, info.window)
        digests[part.number][here], still[part.number][here] = hashes
        whole = block[: n // second * second].reshape(-1, second, block.shape[1])
        seconds[part.recording] += len(whole)
        counts[part.recording] += (whole.max(axis=1) == whole.min(axis=1)).sum(axis=0)
        done += n
    progress("comparing signals", total, total)
    return _Scan(parts, np.concatenate(words), np.concatenate(digests), np.concatenate(still), seconds, counts)


def _blocks(parts: Sequence[Part]) -> Iterator[tuple[int, int, int, Int16[np.ndarray, "time chan"]]]:
    """All signals, a minute at a time: the segment, where in it the minute begins, how many samples it has.

    The samples go on for as long as a window or word that begins in the minute. One file is open at a time.
    """
    for number, part in enumerate(parts):
        tail = max(part.shard.info.window, int(WORD_SECONDS * part.shard.info.sfreq) + 2)
        step = _BLOCK_SECONDS * _second(part)
        for start in range(0, part.length, step):
            n = min(step, part.length - start)
            row = part.start + start
            yield number, start, n, part.shard.read_integers(row, row + min(n + tail, part.length - start))
        if part is parts[-1] or parts[number + 1].number != part.number:
            part.shard.close()


def _second(part: Part) -> int:
    """A second in whole samples."""
    return max(round(part.shard.info.sfreq), 1)


def _same_signals(scan: _Scan, recordings: Sequence[_Recording]) -> tuple[set[tuple[int, int]], Finding]:
    """The finding, and the pairs of recordings that it is about."""
    leaks, errors, warnings, pairs = [], [], [], set()
    for i, j, seconds in duplicates.shared_signals(scan.parts, scan.fingerprints):
        pairs.add((i, j))
        one, other = recordings[i], recordings[j]
        line = f"{one} and {other} hold the same signal, about {_duration(seconds)} of it: leave one out"
        if one.patient != other.patient:
            (leaks if one.split != other.split else errors).append(line)
        elif one.split == other.split:  # if not, the patient is in two splits: that was said
            warnings.append(line)
    hours = sum(part.length / part.shard.info.sfreq for part in scan.parts) / 3600
    owner = np.array([part.recording for part in scan.parts])[scan.fingerprints["segment"]]
    words = np.bincount(owner, minlength=len(recordings))
    without = int((words < duplicates.MATCHES).sum())
    looked_at = f"{hours:.2f} h, {len(scan.fingerprints)} fingerprints"
    looked_at += f", too few of {without} recordings" if without else ""
    return pairs, Finding("same signal", looked_at, (*leaks, *errors), tuple(warnings))


def _windows(
    shards: Sequence[Shard], scan: _Scan, recordings: Sequence[_Recording], known: set[tuple[int, int]]
) -> Finding:
    """Windows that stand in several places, and labelled ones without a signal."""
    errors, warnings, begin, n_known = [], [], 0, 0
    first = np.zeros(len(scan.digests), bool)
    for shard in shards:
        stop, listed_twice = begin + len(shard), np.ones(len(shard), bool)
        listed_twice[np.unique(shard.start, return_index=True)[1]] = False
        first[begin:stop] = ~listed_twice
        used = np.any([weight > 0 for weight in shard.weights.values()], axis=0)
        errors += _told(shard, listed_twice, "listed twice")
        warnings += _told(shard, scan.still_windows[begin:stop] & used, "with labels but a signal that stands still")
        begin = stop
    for i, j, count, (at_one, at_other) in duplicates.shared_windows(shards, scan.digests, first & ~scan.still_windows):
        one, other, where = recordings[i], recordings[j], f"first at {at_one:g} s and {at_other:g} s"
        if i == j:
            warnings.append(f"{one} holds {_count(count, 'window')} twice, {where}")
        elif (i, j) not in known:
            line = f"{one} and {other} share {_count(count, 'identical window')}, {where}"
            (errors if one.split != other.split else warnings).append(line)
        else:
            n_known += count
    again = f", {n_known} of them again in recordings named above" if n_known else ""
    return Finding("duplicate windows", f"{len(scan.digests)} windows{again}", tuple(errors), tuple(warnings))


def _told(shard: Shard, windows: Bool[np.ndarray, "window"], what: str) -> list[str]:
    if not windows.any():
        return []
    i = int(windows.argmax())
    name, onset = shard.recordings["name"][shard.recording[i]], shard.onset_seconds[i]
    return [f"{shard.path}: {_count(int(windows.sum()), 'window')} {what}, the first in {name} at {onset:g} s"]


def _channels(shards: Sequence[Shard], scan: _Scan, recordings: Sequence[_Recording]) -> Finding:
    """Channels that a recording has, and that stand still in most of it."""
    rows = [(shard, row) for shard in shards for row in range(len(shard.recordings["name"]))]
    warnings, n_channels = [], 0
    for i, (shard, row) in enumerate(rows):
        present = shard.recordings["present"][row]
        n_channels += int(present.sum())
        share = scan.still_seconds[i] / max(scan.seconds[i], 1)
        dead = np.flatnonzero(present & (share > STILL_SHARE))
        said = [f"{shard.info.ch_names[k]} {100 * share[k]:.0f} %" for k in dead]
        if len(dead) == present.sum() > 1:
            said = [f"all {len(dead)} channels {100 * share[dead].min():.0f} %"]
        warnings += [f"{recordings[i]} stands still for much of its time: {', '.join(said)}"] if said else []
    looked_at = f"{n_channels} channels of {len(rows)} recordings, by seconds"
    return Finding("constant channels", looked_at, (), tuple(warnings))


def _labels(splits: Mapping[str, Sequence[Shard]]) -> Finding:
    tasks = next(shard for group in splits.values() for shard in group).info.tasks
    looked_at = f"classes of {', '.join(task.name for task in tasks)} by split and patient"
    return Finding("label balance", looked_at, (), tuple(imbalances(splits)))


# --- in words -----------------------------------------------------------------------------------------------


def _numbers(errors: Sequence[str], warnings: Sequence[str]) -> str:
    counts = ((len(errors), "error"), (len(warnings), "warning"))
    return ", ".join(_count(n, word) for n, word in counts if n)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _first(lines: Sequence[str]) -> list[str]:
    shown = list(lines[:SHOWN])
    return [*shown, f"... and {len(lines) - SHOWN} more of this kind"] if len(lines) > SHOWN else shown


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
