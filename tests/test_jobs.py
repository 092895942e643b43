"""One function for many items: whoever does the work, the outcomes are the same and a bad item costs itself alone."""

import contextlib
import errno
import functools
import gc
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import dask
import distributed
import pytest

import siamese_jax.jobs
from siamese_jax.jobs import Outcome, run_each

ROOT = Path(__file__).parents[1]
needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes in /proc")


class Job(NamedTuple):
    folder: Path
    name: str
    kind: str = "works"


def work(job: Job, *, nap: float = 0.0):
    """Notes that it was called, then does what its kind says."""
    mark = job.folder / job.name
    with mark.open("a") as file:
        file.write(f"{os.getpid()}\n")
    first = len(calls(job)) == 1
    time.sleep(nap)
    match job.kind:
        case "broken":
            raise ValueError(f"{job.name} is no EDF")
        case "no disk":
            raise OSError("no space left on device")
        case "not there" | "not allowed":
            code = errno.ENOENT if job.kind == "not there" else errno.EACCES
            raise OSError(code, os.strerror(code), f"{job.name}.edf")
        case "stumbles" if first:
            raise OSError("stale file handle")
        case "exits":
            raise SystemExit(3)
        case "kills" | "kills once" if first or job.kind == "kills":
            time.sleep(0.2)  # so that it has company
            os._exit(7)
        case "slow":
            time.sleep(1)
        case "large":
            return b"x" * 20_000_000
        case "no pickle":
            return threading.Lock()
        case "threads":
            return [os.environ[name] for name in siamese_jax.jobs.THREADS]
        case "deaf":
            return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        case "sleeps":
            time.sleep(100)
    return f"did {job.name}"


def calls(job: Job) -> list[int]:
    """The processes that were called, in order."""
    mark = job.folder / job.name
    return [int(line) for line in mark.read_text().splitlines()] if mark.exists() else []


class Run(NamedTuple):
    jobs: dict[str, list[Job]]
    outcomes: dict[str, list[Outcome]]
    printed: str
    environment_is_as_before: bool
    retried: list[tuple[str, str]]


KINDS = ["works"] * 6 + ["broken", "no disk", "stumbles", "exits", "kills", "large", "threads"]
KINDS += ["kills once", "not there", "not allowed", "no pickle", "deaf"] + ["works"] * 6


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """All kinds of trouble at once, with two workers."""
    folder = tmp_path_factory.mktemp("run")
    jobs = [Job(folder, f"{kind}-{i}", kind) for i, kind in enumerate(KINDS)]
    with pytest.MonkeyPatch.context() as patch, (folder / "printed").open("w+") as printed:
        for name in siamese_jax.jobs.THREADS:
            patch.delenv(name, raising=False)
        patch.setattr(os, "cpu_count", lambda: 7)
        before, error, retried = dict(os.environ), os.dup(2), []
        os.dup2(printed.fileno(), 2)  # of the workers too
        try:
            outcomes = list(
                run_each(
                    functools.partial(work, nap=0.02),
                    jobs,
                    workers=2,
                    on_retry=lambda index, why: retried.append((jobs[index].kind, why)),
                )
            )
        finally:
            os.dup2(error, 2)
            os.close(error)
        same = dict(os.environ) == before
    assert sorted(outcome.index for outcome in outcomes) == list(range(len(jobs)))  # each once
    by_kind = {kind: [job for job in jobs if job.kind == kind] for kind in KINDS}
    came = {kind: [o for o in outcomes if jobs[o.index].kind == kind] for kind in KINDS}
    return Run(by_kind, came, (folder / "printed").read_text(), same, retried)


def test_every_item_that_can_be_done_is_done(run):
    for kind in ("works", "stumbles", "kills once"):
        assert {o.result for o in run.outcomes[kind]} == {f"did {job.name}" for job in run.jobs[kind]}
        assert {o.failure for o in run.outcomes[kind]} == {None}
    assert run.outcomes["large"][0].result == b"x" * 20_000_000
    assert os.getpid() not in {pid for jobs in run.jobs.values() for job in jobs for pid in calls(job)}


def test_what_cannot_heal_is_final_and_all_else_is_tried_again(run):
    tried = {kind: (len(calls(run.jobs[kind][0])), run.outcomes[kind][0].failure) for kind in KINDS}
    # Once more each time a worker dies, by another item, before the answer was fetched.
    for kind, least, why in (
        ("stumbles", 2, None),
        ("no disk", 3, "OSError: no space left on device"),
        ("exits", 3, "SystemExit: 3"),
    ):
        assert tried[kind][0] >= least and tried[kind][1] == why
    assert tried["no pickle"][0] >= 3 and "pickle" in tried["no pickle"][1]
    for kind, why in (
        ("broken", " is no EDF"),
        ("not there", ".edf cannot be opened: no such file or directory"),
        ("not allowed", ".edf cannot be opened: permission denied"),
    ):
        n_calls, failure = tried[kind]
        assert failure == run.jobs[kind][0].name + why
        assert n_calls <= 2  # two if the worker died before its answer was fetched


def test_three_tries_are_all_where_no_worker_dies(tmp_path):
    jobs = [Job(tmp_path, kind, kind) for kind in ("stumbles", "no disk", "broken")]
    outcomes = {jobs[outcome.index].kind: outcome.failure for outcome in run_each(work, jobs, workers=1)}
    assert [len(calls(job)) for job in jobs] == [2, 3, 1]
    assert outcomes["stumbles"] is None and outcomes["no disk"] == "OSError: no space left on device"


def test_who_kills_its_worker_is_told_from_who_stood_beside_it(run):
    (outcome,) = run.outcomes["kills"]
    assert re.fullmatch("its worker was lost [34] times", outcome.failure) and len(calls(run.jobs["kills"][0])) == 3
    assert len(set(calls(run.jobs["kills once"][0]))) == 2  # the second time in another process
    lost = {kind for kind, outcomes in run.outcomes.items() if any(outcome.worker_lost for outcome in outcomes)}
    assert lost == {"kills"}


def test_each_further_attempt_is_told_with_its_reason(run):
    told = Counter(run.retried)
    assert told["stumbles", "OSError: stale file handle"] == 1
    assert told["no disk", "OSError: no space left on device"] == told["exits", "SystemExit: 3"] == 2
    assert told["kills", "its worker was lost"] >= 2 and told["kills once", "its worker was lost"] >= 1
    # Those that waited behind the one that killed their worker are reported too.
    assert {why for kind, why in told if kind in ("works", "broken", "large")} <= {"its worker was lost"}


def test_cores_are_shared_between_the_workers_and_the_environment_is_left_as_it_was(run):
    assert run.outcomes["threads"][0].result == ["3"] * len(siamese_jax.jobs.THREADS)  # 7 cores, 2 workers
    assert run.environment_is_as_before


def test_workers_leave_ctrl_c_to_who_started_them_and_the_screen_too(run):
    assert run.outcomes["deaf"][0].result is True  # it ran after workers had been started again
    assert run.printed == ""


def test_workers_that_dask_does_not_start_again_are_replaced(monkeypatch, tmp_path):
    """As it happens where a worker dies while it starts, or takes too long to."""

    async def stay_away(nanny, exitcode):
        pass

    monkeypatch.setattr(distributed.Nanny, "_on_worker_exit", stay_away)
    jobs = [Job(tmp_path, str(i), "kills once") for i in range(2)]
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "100ms"}):
        outcomes = list(run_each(work, jobs, workers=2))
    assert {(o.index, o.failure) for o in outcomes} == {(0, None), (1, None)}


def test_workers_that_die_while_they_start_end_the_run_in_a_sentence(tmp_path, capfd):
    threading.Thread(target=kill_a_child, args=(multiprocessing.active_children(),)).start()
    with pytest.raises(ConnectionError, match="died while it started: is there memory for 2"):
        list(run_each(work, [Job(tmp_path, "works")], workers=2))
    assert capfd.readouterr().err == ""


def kill_a_child(before):
    wait_until(lambda: len(multiprocessing.active_children()) > len(before))
    next(child for child in multiprocessing.active_children() if child not in before).kill()


@needs_proc
@pytest.mark.parametrize("moment", ["while they start", "at work"])
def test_ctrl_c_ends_all_in_a_sentence(tmp_path, moment):
    """A terminal sends it to every process of the group."""
    program = (
        # As in a terminal: a job in the background ignores Ctrl-C, and so would what the tests start there.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path\nfrom tests.test_jobs import Job, work\nfrom siamese_jax.cli import console\n"
        "from siamese_jax.jobs import run_each\nprint('ready', flush=True)\n"
        f"jobs = [Job(Path({str(tmp_path)!r}), str(i), 'sleeps') for i in range(2)]\n"
        "console.run(lambda: list(run_each(work, jobs, workers=2)))"
    )
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "ready\n"
    jobs = [Job(tmp_path, "0"), Job(tmp_path, "1")]
    if moment == "at work":
        wait_until(lambda: all(calls(job) for job in jobs))
    else:
        wait_until(lambda: "spawn_main" in commands(process.pid))
    os.killpg(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=60)  # they would sleep 100 s
    assert (printed, process.returncode) == (INTERRUPTED, 130)
    assert "spawn_main" not in commands(process.pid)


INTERRUPTED = "interrupted; the same command resumes\n"


def commands(group: int) -> str:
    """The command lines of a group's processes."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has ended since
            if os.getpgid(int(process.name)) == group:
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return "\n".join(found)


def wait_until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_one_worker_is_this_process(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    kinds = ("works", "broken", "stumbles", "no disk")
    jobs = [Job(tmp_path, kind, kind) for kind in kinds]
    outcomes = {o.index: o for o in run_each(lambda job: work(job), jobs)}
    assert [outcomes[i].result for i in (0, 2)] == ["did works", "did stumbles"]
    assert [outcomes[i].failure for i in (1, 3)] == ["broken is no EDF", "OSError: no space left on device"]
    assert [calls(job) for job in jobs] == [[os.getpid()] * n for n in (1, 1, 2, 3)]
    with pytest.raises(KeyboardInterrupt):
        list(run_each(interrupted, jobs))


def interrupted(job):
    raise KeyboardInterrupt


def test_fewer_than_one_worker_is_refused():
    with pytest.raises(ValueError, match="workers must be 1 or more, given 0"):
        run_each(work, [], workers=0)


SOMEBODYS = {"dashboard_address": "127.0.0.1:0", "silence_logs": 60}


@pytest.fixture(scope="module")
def cluster():
    """Somebody's cluster, which tries what was lost again by itself: one worker of two threads."""
    scheduler = {"dashboard": False, "allowed_failures": 1}
    # However long a worker takes to start again on a busy machine, it is not given up.
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "600s"}),
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, scheduler_kwargs=scheduler, **SOMEBODYS) as cluster,
    ):
        yield cluster


def test_a_cluster_with_another_version_is_refused(cluster, monkeypatch):
    monkeypatch.setattr(siamese_jax.jobs, "version", other_version)
    with pytest.raises(ValueError, match="have siamese-jax 9.9; this is 1.0"):
        list(run_each(work, [1], scheduler=cluster.scheduler_address))


def other_version(name):
    return "1.0" if multiprocessing.parent_process() is None else "9.9"


def test_on_somebody_s_cluster_neighbours_are_not_blamed_either(cluster, monkeypatch, tmp_path):
    monkeypatch.setattr(siamese_jax.jobs, "ATTEMPTS", 1)
    kinds = ["slow", "kills", "broken", "kills once", *["works"] * 5]
    jobs = [Job(tmp_path, f"{kind}-{i}", kind) for i, kind in enumerate(kinds)]
    outcomes = {o.index: o for o in run_each(work, jobs, scheduler=cluster.scheduler_address)}
    assert len(calls(jobs[0])) > 1  # it stood beside who killed their worker
    assert {kinds[i]: o.failure for i, o in outcomes.items()} == {
        "works": None,
        "slow": None,
        "kills": "its worker was lost 4 times",  # twice by two
        "broken": f"{jobs[2].name} is no EDF",
        "kills once": None,
    }
    assert [outcomes[i].result for i in (0, 8)] == ["did slow-0", "did works-8"]


def test_a_scheduler_that_is_killed_ends_the_run_in_a_sentence(monkeypatch, tmp_path):
    program = (
        "import distributed, time\nif __name__ == '__main__':\n"
        f"    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, **{SOMEBODYS})\n"
        "    print(cluster.scheduler_address, flush=True); time.sleep(99)"
    )
    monkeypatch.setattr(siamese_jax.jobs, "CONNECT_SECONDS", 2.0)
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    jobs = [Job(tmp_path, "works"), Job(tmp_path, "long", "sleeps")]
    outcomes = run_each(work, jobs, scheduler=process.stdout.readline().strip())
    assert next(outcomes).result == "did works"
    process.kill()
    process.communicate()
    with pytest.raises(ConnectionError, match="the scheduler is gone"):
        next(outcomes)


def test_a_scheduler_that_is_not_there_or_has_no_workers_is_one_sentence(monkeypatch):
    monkeypatch.setattr(siamese_jax.jobs, "CONNECT_SECONDS", 0.5)
    for address in ("tcp://127.0.0.1:9", "nowhere", "tcp://127.0.0.1:x", "inproc://x"):
        with pytest.raises(ValueError, match=f"no Dask scheduler responds at {address}: "):
            list(run_each(work, [1], scheduler=address))
    # One left half open waits for a lock when it is collected, and for ever if that is while a cluster starts.
    clients = [x for x in gc.get_objects() if type(x) is distributed.Client]
    assert [client.status for client in clients if client.status != "closed"] == []
    with distributed.LocalCluster(n_workers=0, **SOMEBODYS) as cluster:
        with pytest.raises(ValueError, match="has no workers"):
            list(run_each(work, [1], scheduler=cluster.scheduler_address))
