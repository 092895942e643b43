"""Jobs of an experiment: each is done once, kept under the hash of what decides its answer, and read from then on.

    OUT/jobs/<hash>/answer.npz    the answer; the job is done once this file is there
    OUT/jobs/<hash>/about.json    the job in words, the commit that did it, seconds of wall time and of CPU
    OUT/jobs/<hash>/...           what the job keeps besides, such as checkpoints
    OUT/log.jsonl                 a line for each job that was done

A command that was killed resumes when it is given again: jobs that are done are read, and a job that was cut short
begins in the folder that it left, so that a training resumes from its last checkpoint. Changed code or data make other
hashes, so other jobs.
"""

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_tools.code_hash import code_hash
from experiments.provenance import commit
from siamese_jax.files import replacing, write_json
from siamese_jax.locks import locked

ANSWER, ABOUT = "answer.npz", "about.json"

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Job:
    """Something that an experiment does once.

    Attributes:
        name: in words; it may change without another job.
        decides: all that decides the answer but the code, as JSON: configuration, patients, fingerprints of shards.
        code: modules and folders that decide it, as `code_hash` takes them.
        work: does it in the folder that it is given, which may hold what a call that was killed left there; returns
            the answer.
    """

    name: str
    decides: Any
    code: tuple[str, ...]
    work: Callable[[Path], Arrays]

    @property
    def key(self) -> str:
        """Hash of all that decides the answer."""
        return hashlib.sha256(json.dumps([self.decides, _version(self.code)]).encode()).hexdigest()[:20]


_version = functools.cache(lambda places: code_hash(*places))


class Done(NamedTuple):
    """A job's answer, where it lies, and how it came about."""

    folder: Path
    answer: Arrays
    commit: str
    """Of the code; empty outside a repository."""
    wall_seconds: float
    cpu_seconds: float
    """With those of processes that the job started."""


@dataclass(frozen=True)
class Runner:
    """Does jobs and keeps their answers in a folder.

    Attributes:
        out: the folder.
        say: told of each job that is done, and how long the others may take.
    """

    out: Path
    say: Callable[[str], None] = print

    def is_done(self, job: Job) -> bool:
        """Whether the answer is there."""
        return (self._folder(job) / ANSWER).exists()

    def do(self, job: Job) -> Done:
        """The answer of a job, which is done now if it was not done before.

        Raises:
            ValueError: another process is at work at this job; what the job raises.
        """
        folder = self._folder(job)
        if not self.is_done(job):
            with locked(folder):
                self._do(job, folder)
        about = json.loads((folder / ABOUT).read_text())
        with np.load(folder / ANSWER, allow_pickle=False) as held:
            answer = {name: held[name] for name in held.files}
        return Done(folder, answer, about["commit"], about["wall_seconds"], about["cpu_seconds"])

    def do_all(self, jobs: Iterable[Job]) -> list[Done]:
        """The answers of some jobs, in their order; errors as for `do`."""
        jobs = list(jobs)
        missing = {job.key: job for job in jobs if not self.is_done(job)}
        n_done = len({job.key for job in jobs}) - len(missing)
        self.say(f"{n_done + len(missing)} jobs: {n_done} done before, {len(missing)} to do, in {self.out}")
        done, seconds = [], []
        for job in jobs:
            is_new = missing.pop(job.key, None) is not None
            done.append(self.do(job))
            if is_new:
                seconds.append(done[-1].wall_seconds)
                left = len(missing) * float(np.mean(seconds)) / 60
                total = len(seconds) + len(missing)
                self.say(f"{len(seconds)}/{total} {job.name}: {seconds[-1]:.0f} s; about {left:.0f} min left")
        return done

    def _folder(self, job: Job) -> Path:
        return self.out / "jobs" / job.key

    def _do(self, job: Job, folder: Path) -> None:
        """Do a job; the answer is written last."""
        made_by, began, cpu = commit(), time.monotonic(), _cpu_seconds()
        answer: dict[str, Any] = dict(job.work(folder))
        about = {"job": job.name, "commit": made_by, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        about |= {"wall_seconds": time.monotonic() - began, "cpu_seconds": _cpu_seconds() - cpu}
        write_json(folder / ABOUT, about)
        with replacing(folder / ANSWER) as file:
            np.savez(file, **answer)
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(about | {"folder": folder.name}) + "\n")


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
