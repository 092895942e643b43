"""One function for many items: whoever does the work, the outcomes are the same and a bad item costs itself alone."""

import contextlib
import errno
import functools
import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

import siamese_jax.jobs
from siamese_jax.jobs import Outcome, run_each

CREWS = ("pool", "dask")


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
            os.kill(os.getpid(), signal.SIGKILL)
        case "leaves once" if first:
            os._exit(7)
        case "slow":
            time.sleep(1)
        case "large":
            return b"x" * 20_000_000
        case "threads":
            return [os.environ[name] for name in siamese_jax.jobs.THREADS]
        case "sleeps":
            time.sleep(100)
    return f"did {job.name}"


def calls(job: Job) -> list[int]:
    """The processes that were called, in order."""
    mark = job.folder / job.name
    return [int(line) for line in mark.read_text().splitlines()] if mark.exists() else []


@pytest.fixture(params=CREWS)
def crew(request, monkeypatch):
    use(request.param, monkeypatch)
    return request.param


def use(crew, monkeypatch):
    if crew == "dask":
        pytest.importorskip("distributed")
    else:
        monkeypatch.setitem(sys.modules, "distributed", None)  # as if it were not installed


class Run(NamedTuple):
    jobs: dict[str, list[Job]]
    outcomes: dict[str, list[Outcome]]
    said: str
    environment_is_as_before: bool
    retried: list[tuple[str, str]]


KINDS = ["works"] * 6 + ["broken", "no disk", "stumbles", "exits", "kills", "leaves once", "large", "threads"]
KINDS += ["kills once", "not there", "not allowed"] + ["works"] * 6


@pytest.fixture(scope="module", params=CREWS)
def run(request, tmp_path_factory):
    """All kinds of trouble at once, with two workers."""
    folder = tmp_path_factory.mktemp(request.param)
    jobs = [Job(folder, f"{kind}-{i}", kind) for i, kind in enumerate(KINDS)]
    (folder / "said").touch()
    with pytest.MonkeyPatch.context() as patch, (folder / "said").open("r+") as said:
        use(request.param, patch)
        for name in siamese_jax.jobs.THREADS:
            patch.delenv(name, raising=False)
        patch.setattr(os, "cpu_count", lambda: 7)
        before, error, retried = dict(os.environ), os.dup(2), []
        os.dup2(said.fileno(), 2)  # of the workers too
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
    return Run(by_kind, came, (folder / "said").read_text(), same, retried)


def test_every_item_that_can_be_done_is_done(run):
    for kind in ("works", "stumbles", "kills once", "leaves once"):
        assert {o.result for o in run.outcomes[kind]} == {f"did {job.name}" for job in run.jobs[kind]}
        assert {o.failure for o in run.outcomes[kind]} == {None}
    assert run.outcomes["large"][0].result == b"x" * 20_000_000


def test_what_cannot_heal_is_final_and_all_else_is_tried_again(run):
    tried = {kind: (len(calls(run.jobs[kind][0])), run.outcomes[kind][0].failure) for kind in KINDS}
    assert tried["stumbles"] == (2, None)
    assert tried["no disk"] == (3, "OSError: no space left on device")
    assert tried["exits"] == (3, "SystemExit: 3")
    for kind, why in (
        ("broken", " is no EDF"),
        ("not there", ".edf cannot be opened: no such file or directory"),
        ("not allowed", ".edf cannot be opened: permission denied"),
    ):
        n_calls, failure = tried[kind]
        assert failure == run.jobs[kind][0].name + why
        assert n_calls <= 2  # two if a neighbour's death cost it one


def test_who_kills_its_worker_is_told_from_who_stood_beside_it(run):
    (outcome,) = run.outcomes["kills"]
    n_lost = len(calls(run.jobs["kills"][0]))
    assert outcome.failure == f"its worker was lost {n_lost} times" and n_lost >= 3
    for kind in ("kills once", "leaves once"):
        assert run.outcomes[kind][0].failure is None
        assert len(set(calls(run.jobs[kind][0]))) >= 2  # in another process


def test_each_further_attempt_is_told_with_its_reason(run):
    told = Counter(run.retried)
    assert told["stumbles", "OSError: stale file handle"] == 1
    assert told["no disk", "OSError: no space left on device"] == told["exits", "SystemExit: 3"] == 2
    for kind in ("kills", "kills once", "leaves once"):
        lost = len(calls(run.jobs[kind][0])) - (run.outcomes[kind][0].failure is None)
        assert told[kind, "its worker was lost"] in (lost, lost - 1)  # after the last there is no other
    assert "broken file" not in {why for _, why in told}


def test_cores_are_shared_between_the_workers_and_the_environment_is_left_as_it_was(run):
    assert run.outcomes["threads"][0].result == ["3"] * len(siamese_jax.jobs.THREADS)  # 7 cores, 2 workers
    assert run.environment_is_as_before


def test_nothing_of_it_is_on_the_screen(run):
    assert run.said == ""


def test_a_pool_s_lost_worker_takes_nobody_with_it(monkeypatch, tmp_path):
    use("pool", monkeypatch)
    jobs = [Job(tmp_path, f"{kind}-{i}", kind) for i, kind in enumerate(["kills", *["works"] * 8])]
    outcomes = run_each(functools.partial(work, nap=0.1), jobs, workers=3)
    assert [o.index for o in outcomes if o.failure] == [0]
    assert [len(calls(job)) for job in jobs] == [3] + [1] * 8


def test_a_pool_s_worker_that_dies_while_it_has_nothing_to_do_is_replaced(monkeypatch, tmp_path):
    use("pool", monkeypatch)
    jobs = [Job(tmp_path, str(i)) for i in range(4)]
    outcomes = run_each(functools.partial(work, nap=0.5), jobs, workers=2)
    done = [next(outcomes)]
    os.kill(calls(jobs[done[0].index])[0], signal.SIGKILL)
    time.sleep(0.3)  # until the pool has noticed
    done += outcomes
    assert {(o.index, o.failure) for o in done} == {(i, None) for i in range(4)}


def test_workers_that_dask_does_not_start_again_are_replaced(monkeypatch, tmp_path):
    """As it happens where a worker dies while it starts, or takes too long to."""
    distributed, dask = pytest.importorskip("distributed"), pytest.importorskip("dask")

    async def stay_away(nanny, exitcode):
        pass

    monkeypatch.setattr(distributed.Nanny, "_on_worker_exit", stay_away)
    monkeypatch.setattr(siamese_jax.jobs, "LOOK_SECONDS", 0.1)
    jobs = [Job(tmp_path, str(i), "leaves once") for i in range(2)]
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "100ms"}):
        outcomes = list(run_each(functools.partial(work, nap=0.5), jobs, workers=2))
    assert {(o.index, o.failure) for o in outcomes} == {(0, None), (1, None)}


@pytest.mark.parametrize("deaths", [1, 99])
def test_dask_s_workers_that_die_while_they_start_are_started_again_or_told(monkeypatch, tmp_path, capfd, deaths):
    distributed = pytest.importorskip("distributed")
    clusters, start = [], distributed.LocalCluster

    def deadly(**options):
        clusters.append(len(clusters) + 1)
        if clusters[-1] <= deaths:
            threading.Thread(target=kill_a_child).start()
        return start(**options)

    monkeypatch.setattr(distributed, "LocalCluster", deadly)
    outcomes = run_each(work, [Job(tmp_path, "works")], workers=2)
    if deaths == 1:
        assert [o.failure for o in outcomes] == [None]
    else:
        with pytest.raises(ConnectionError, match="died while they started, 3 times: is there memory for 2"):
            list(outcomes)
    assert len(clusters) == min(deaths + 1, 3)
    assert capfd.readouterr().err == ""


def kill_a_child():
    before = multiprocessing.active_children()
    wait_until(lambda: len(multiprocessing.active_children()) > len(before))
    next(child for child in multiprocessing.active_children() if child not in before).kill()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("moment", ["while they start", "at work"])
def test_ctrl_c_is_the_parent_s_alone(crew, tmp_path, moment):
    """A terminal sends it to every process of the group."""
    program = (
        # As in a terminal: a job in the background ignores Ctrl-C, and so would what the tests start there.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"import sys; sys.modules.update({{'distributed': None}} if {crew!r} == 'pool' else {{}})\n"
        "from pathlib import Path\nfrom tests.test_workers import Job, work\nfrom siamese_jax.cli import console\n"
        "from siamese_jax.jobs import run_each\nprint('ready', flush=True)\n"
        f"jobs = [Job(Path({str(tmp_path)!r}), str(i), 'sleeps') for i in range(2)]\n"
        "console.run(lambda: list(run_each(work, jobs, workers=2)))"
    )
    root, pipe = Path(__file__).parents[1], subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "ready\n"
    jobs = [Job(tmp_path, "0"), Job(tmp_path, "1")]
    if moment == "at work":
        wait_until(lambda: all(calls(job) for job in jobs))
        assert all(is_deaf(calls(job)[0]) for job in jobs)
    else:
        wait_until(lambda: "spawn_main" in commands(process.pid))
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (said, process.returncode) == ("interrupted; the same command goes on\n", 130)
    assert not [pid for job in jobs for pid in calls(job) if is_alive(pid)]


def is_deaf(pid: int) -> bool:
    """Whether Ctrl-C is kept from a process, or ignored by it."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool((int(status["SigBlk"], 16) | int(status["SigIgn"], 16)) & 1 << signal.SIGINT - 1)


def commands(group: int) -> str:
    """The command lines of a group's processes."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has ended since
            if os.getpgid(int(process.name)) == group:
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return "\n".join(found)


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


def test_there_may_be_nothing_to_do(crew):
    assert list(run_each(work, [], workers=2)) == []


def test_who_stops_listening_stops_the_workers_at_once(crew, tmp_path):
    jobs = [Job(tmp_path, "works"), Job(tmp_path, "long", "sleeps")]
    outcomes = run_each(work, jobs, workers=2)
    assert next(outcomes).index == 0
    wait_until(lambda: calls(jobs[1]))
    began = time.monotonic()
    outcomes.close()
    assert time.monotonic() - began < 20  # they would sleep 100 s
    assert not [pid for job in jobs for pid in calls(job) if is_alive(pid)]


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes in /proc")
def test_a_pool_s_workers_do_not_outlive_who_started_them(tmp_path):
    program = (
        "import sys; sys.modules['distributed'] = None\n"
        "from pathlib import Path\nfrom tests.test_workers import Job, work\nfrom siamese_jax.jobs import run_each\n"
        f"list(run_each(work, [Job(Path({str(tmp_path)!r}), str(i), 'sleeps') for i in range(2)], workers=2))"
    )
    root = Path(__file__).parents[1]
    process = subprocess.Popen([sys.executable, "-c", program], cwd=root, stderr=subprocess.DEVNULL)
    jobs = [Job(tmp_path, "0"), Job(tmp_path, "1")]
    wait_until(lambda: all(calls(job) for job in jobs))
    process.kill()
    process.wait()
    wait_until(lambda: not any(is_alive(calls(job)[0]) for job in jobs))


def wait_until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_function_that_no_worker_could_be_sent_is_refused_in_a_sentence(crew, tmp_path):
    with pytest.raises(ValueError, match="<lambda>.*cannot be sent to a worker: "):
        run_each(lambda job: job, [1], workers=2)


def test_impossible_numbers_are_refused():
    for numbers in ({"workers": 0}, {"attempts": 0}):
        with pytest.raises(ValueError, match="must be 1 or more, given"):
            run_each(work, [], **numbers)


def test_a_scheduler_asks_for_the_extra(monkeypatch):
    use("pool", monkeypatch)
    with pytest.raises(ValueError, match=r"a scheduler is given, but .*pip install 'siamese-jax\[cluster\]'"):
        run_each(work, [], scheduler="tcp://127.0.0.1:8786")


@pytest.fixture(scope="module")
def cluster():
    """Somebody's cluster, which tries what was lost again by itself: one worker of two threads."""
    dask = pytest.importorskip("dask")
    # However long a worker takes to start again on a busy machine, it is not given up.
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "600s"}),
        somebodys_cluster(n_workers=1, threads_per_worker=2) as cluster,
    ):
        yield cluster


def somebodys_cluster(**options):
    distributed = pytest.importorskip("distributed")
    scheduler = {"dashboard": False, "allowed_failures": 1}
    return distributed.LocalCluster(
        dashboard_address="127.0.0.1:0", scheduler_kwargs=scheduler, silence_logs=60, **options
    )


def test_a_cluster_with_another_version_is_refused(cluster, monkeypatch):
    monkeypatch.setattr(siamese_jax.jobs, "version", other_version)
    with pytest.raises(ValueError, match="have siamese-jax 9.9; this is 1.0"):
        list(run_each(work, [1], scheduler=cluster.scheduler_address))


def other_version(name):
    return "1.0" if multiprocessing.parent_process() is None else "9.9"


def test_on_somebody_s_cluster_neighbours_are_not_blamed_either(cluster, tmp_path):
    kinds = ["slow", "kills", "broken", "kills once", *["works"] * 5]
    jobs = [Job(tmp_path, f"{kind}-{i}", kind) for i, kind in enumerate(kinds)]
    address = cluster.scheduler_address
    outcomes = {o.index: o for o in run_each(work, jobs, scheduler=address, attempts=1)}
    assert len(calls(jobs[0])) > 1  # it stood beside who killed their worker
    assert {kinds[i]: o.failure for i, o in outcomes.items()} == {
        "works": None,
        "slow": None,
        "kills": f"its worker was lost {len(calls(jobs[1]))} times",
        "broken": f"{jobs[2].name} is no EDF",
        "kills once": None,
    }
    assert [outcomes[i].result for i in (0, 8)] == ["did slow-0", "did works-8"]
    assert os.getpid() not in calls(jobs[0])


def test_a_scheduler_that_is_killed_ends_the_run_in_a_sentence(monkeypatch, tmp_path):
    pytest.importorskip("distributed")
    monkeypatch.setattr(siamese_jax.jobs, "CONNECT_SECONDS", 2.0)
    monkeypatch.setattr(siamese_jax.jobs, "LOOK_SECONDS", 0.5)
    root, card, quiet = Path(__file__).parents[1], tmp_path / "scheduler.json", subprocess.DEVNULL
    start = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    start += ["--no-dashboard", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(card)]
    join = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(card), "--nthreads", "1"]
    processes = [subprocess.Popen(start, cwd=root, stderr=quiet)]
    try:
        wait_until(card.exists)
        processes.append(subprocess.Popen([*join, "--no-nanny", "--no-dashboard"], cwd=root, stderr=quiet))
        monkeypatch.setattr(
            siamese_jax.jobs, "_check_workers", lambda client, address: client.wait_for_workers(1, timeout=30)
        )
        jobs = [Job(tmp_path, "works"), Job(tmp_path, "long", "sleeps")]
        outcomes = run_each(work, jobs, scheduler=json.loads(card.read_text())["address"])
        assert next(outcomes).result == "did works"
        processes[0].kill()
        with pytest.raises(ConnectionError, match="the scheduler is gone"):
            next(outcomes)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_scheduler_that_is_not_there_or_has_no_workers_is_one_sentence(monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(siamese_jax.jobs, "CONNECT_SECONDS", 0.5)
    for address in ("tcp://127.0.0.1:9", "nowhere", "tcp://127.0.0.1:x", "inproc://x"):
        with pytest.raises(ValueError, match=f"no Dask scheduler answers at {address}: "):
            list(run_each(work, [1], scheduler=address))
    # One left half open waits for a lock when it is collected, and for ever if that is while a cluster starts.
    clients = [x for x in gc.get_objects() if type(x) is distributed.Client]
    assert [client.status for client in clients if client.status != "closed"] == []
    with somebodys_cluster(n_workers=0) as cluster:
        with pytest.raises(ValueError, match="has no workers"):
            list(run_each(work, [1], scheduler=cluster.scheduler_address))
