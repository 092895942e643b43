"""The same function for each of many items, in this process, in a pool of processes or on a cluster.

What goes wrong with one item costs that item alone: a `ValueError` is the item's own fault and final, so is a file that
is not there or may not be opened; anything else (a disk that stumbles, a worker that dies) is tried again first.
Imports the standard library only; with several workers `dask.distributed` is used if it is installed (the extra
`cluster`), otherwise a pool of processes.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from multiprocessing import resource_tracker
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple, Protocol

EXTRA = "dask.distributed is not installed: pip install 'siamese-jax[cluster]'"
CONNECT_SECONDS = 30.0
"""How long to wait for a scheduler to answer and for its first worker."""
LOOK_SECONDS = 5.0
"""How often to see to the workers while nothing is done."""
STARTS = 3
"""How often to start Dask's workers if one dies at once."""
FINAL = (ValueError, FileNotFoundError, PermissionError)
"""What would be the same the next time."""
GONE = "the scheduler is gone, or its network: what is finished is kept, run the same again"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PJRT_NPROC", "NPROC")
"""How many threads BLAS (the first three) and XLA on a CPU (the others) start; read once, when they are loaded."""


class Outcome(NamedTuple):
    """What became of one item.

    Attributes:
        index: which one.
        result: what the function gave; None if it failed.
        failure: why it failed, in words; None if it did not.
    """

    index: int
    result: Any
    failure: str | None


def run_each(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    *,
    workers: int = 1,
    scheduler: str | None = None,
    attempts: int = 3,
    on_retry: Callable[[int, str], None] = lambda index, why: None,
) -> Iterator[Outcome]:
    """Call `function` with each item, and give the outcomes as they come, in whatever order.

    Args:
        function: of one item; defined at a module's top level, or a `functools.partial` of such a one. Whether its
            worker is lost half-way or its answer on the way back, it may be called again: it must bear that.
        items: sent to the workers by pickle, as results are on their way back.
        workers: processes on this machine; 1 means this process. They share its cores.
        scheduler: address of a Dask scheduler (`tcp://host:8786`), whose workers are used instead.
        attempts: how often to try an item that fails otherwise than by a `FINAL` error.
        on_retry: told which item will be tried again, and why.

    Raises:
        ValueError: fewer than one worker or attempt; a function that cannot be sent to a worker; no scheduler at the
            address, or one without workers or with another version of this package; a scheduler, without Dask.
        ConnectionError: the scheduler is gone in the middle; workers of this machine that die as often as they start.
    """
    if workers < 1 or attempts < 1:
        raise ValueError(f"workers and attempts must be 1 or more, given {workers} and {attempts}")
    if scheduler is not None and find_spec("distributed") is None:
        raise ValueError(f"a scheduler is given, but {EXTRA}")
    if scheduler is None and workers == 1:
        return _outcomes(_Here(), function, items, attempts, on_retry)
    try:
        ForkingPickler.dumps(function)
    except Exception as error:  # each thing that cannot be pickled has its own way to say so
        raise ValueError(f"{function!r} cannot be sent to a worker: {error}") from None
    opened = _machine(workers) if scheduler is None else _cluster(scheduler)
    return _outcomes(opened, function, items, attempts, on_retry)


# --- who works ----------------------------------------------------------------------------------------------


class _Crew(Protocol):
    """Who works on the items."""

    @property
    def lost(self) -> tuple[type[BaseException], ...]:
        """What a future raises whose worker died."""
        ...

    def capacity(self) -> int: ...  # how many items to hand out at a time

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future: ...


class _Here(AbstractContextManager):
    """This process, one item after the other."""

    lost = ()

    def __exit__(self, *exception: object) -> None:
        pass

    def capacity(self) -> int:
        return 1

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        future = Future()
        future.set_result(function(*arguments))
        return future


class _Pool(AbstractContextManager):
    """Processes, each a pool of its own: one that dies breaks nothing but the item that it worked on."""

    lost = (BrokenProcessPool,)

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._idle: list[_Process] = []
        self._busy: dict[Future, _Process] = {}

    def __exit__(self, *exception: object) -> None:
        for future, process in self._busy.items():
            if not future.done():
                process.kill()  # interrupted: nobody waits for the end of a night
        for process in (*self._busy.values(), *self._idle):
            process.pool.shutdown()

    def capacity(self) -> int:
        return self._workers

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        for done in [future for future in self._busy if future.done()]:
            process = self._busy.pop(done)
            if isinstance(done.exception(), self.lost):
                process.pool.shutdown()
            else:
                self._idle.append(process)
        process = self._idle.pop() if self._idle else _Process()
        try:
            future = process.pool.submit(function, *arguments)
        except BrokenProcessPool:  # it died while it had nothing to do
            process.pool.shutdown()
            process = _Process()
            future = process.pool.submit(function, *arguments)
        self._busy[future] = process
        return future


class _Process:
    """A pool of one process, and how to end it."""

    def __init__(self) -> None:
        with _ctrl_c(signal.SIG_BLOCK):
            self.pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_follow_parent)
            self._pid = self.pool.submit(os.getpid)

    def kill(self) -> None:
        with suppress(BrokenProcessPool, ProcessLookupError):
            os.kill(self._pid.result(), signal.SIGKILL)


def _follow_parent() -> None:
    """In a pool's process: end when the parent does, however it ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _ctrl_c(how: int) -> Iterator[None]:
    """Put Ctrl-C off until the end (`signal.SIG_BLOCK`), or not (`signal.SIG_UNBLOCK`).

    A terminal sends it to all processes. It stays blocked for good in those that are started meanwhile, and in those
    that threads which are started meanwhile start later: they leave it to this one.
    """
    resource_tracker.ensure_running()  # when it is started it unblocks SIGINT
    before = signal.pthread_sigmask(how, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Cluster:
    """Workers of Dask."""

    def __init__(self, client: Any, ours: Any = None, workers: int = 0) -> None:
        """Whoever listens to the client's scheduler; of our own cluster, `ours`, there should be `workers`."""
        from distributed import KilledWorker

        self.lost = (KilledWorker,)
        self._client, self._ours, self._workers = client, ours, workers
        self._executor: Executor = client.get_executor(pure=False)

    def capacity(self) -> int:
        try:
            there = sum(self._client.nthreads().values())
        except OSError:
            raise ConnectionError(GONE) from None
        if there < self._workers:
            self._ours.scale(self._workers)  # what died is started again by Dask, but not if it died while it started
        return max(there, 1)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        return self._executor.submit(function, *arguments)


@contextmanager
def _machine(workers: int) -> Iterator[_Crew]:
    """Workers on this machine, who share its cores between them."""
    before = dict(os.environ)
    threads = max((os.cpu_count() or 1) // workers, 1)
    os.environ.update({name: str(threads) for name in THREADS if name not in os.environ})  # workers inherit it
    try:
        with _Pool(workers) if find_spec("distributed") is None else _local_cluster(workers) as crew:
            yield crew
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _local_cluster(workers: int) -> Iterator[_Crew]:
    from distributed import Client

    with _quiet(), _ctrl_c(signal.SIG_BLOCK), _started(workers) as cluster, Client(cluster) as client:
        with _ctrl_c(signal.SIG_UNBLOCK):  # but while they start and while they end
            yield _Cluster(client, cluster, workers)


def _started(workers: int) -> Any:
    """A cluster on this machine; Dask gives it up if a worker dies while it starts."""
    from distributed import LocalCluster

    for _ in range(STARTS):
        with suppress(RuntimeError):
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",  # without one it would still take the usual port, or warn
                memory_limit=None,  # honest work is not killed for its size
                silence_logs=logging.CRITICAL + 1,
                # Who is to be tried again is decided here.
                scheduler_kwargs={"allowed_failures": 0, "dashboard": False},
            )
    raise ConnectionError(f"workers died while they started, {STARTS} times: is there memory for {workers}?")


@contextmanager
def _cluster(address: str) -> Iterator[_Crew]:
    from distributed import Client
    from distributed.comm.addressing import get_address_host_port

    with _quiet():
        try:
            get_address_host_port(address)  # else a client is left half open: collected as a cluster starts, it hangs
            client = Client(address, timeout=CONNECT_SECONDS)
        except (OSError, ValueError, TypeError) as error:  # TypeError: TLS without certificates
            raise ValueError(f"no Dask scheduler answers at {address}: {error}") from None
        with client:
            _check_workers(client, address)
            yield _Cluster(client)


def _check_workers(client: Any, address: str) -> None:
    """Refuse a cluster without workers, or with others than ours: their results would differ."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError:
        raise ValueError(f"the scheduler at {address} has no workers") from None
    ours, others = version("siamese-jax"), ["none"]
    with suppress(PackageNotFoundError):
        others = sorted(set(client.run(version, "siamese-jax").values()) - {ours})
    if others:
        raise ValueError(f"workers of {address} have siamese-jax {', '.join(others)}; this is {ours}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Dask's log on the user's screen: what matters of it is in the outcomes."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]
    before = {log: log.level for log in map(logging.getLogger, names)}
    for log in before:  # those to come take their level from the one named `distributed`
        log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for log, level in before.items():
            log.setLevel(level)


# --- the work -----------------------------------------------------------------------------------------------


def _outcomes(
    opened: AbstractContextManager[_Crew],
    function: Callable[[Any], Any],
    items: Sequence[Any],
    attempts: int,
    on_retry: Callable[[int, str], None],
) -> Iterator[Outcome]:
    waiting, suspects = deque(range(len(items))), deque()
    errors, losses = Counter(), Counter()
    with opened as crew:
        running: dict[Future, int] = {}
        alone = False

        def start(index: int) -> None:
            running[crew.submit(_answer, function, items[index])] = index

        while waiting or suspects or running:
            capacity = crew.capacity()
            if not running:
                alone = not waiting
                start((waiting or suspects).popleft())
            while waiting and len(running) < capacity:
                start(waiting.popleft())
            for future in wait(running, LOOK_SECONDS, FIRST_COMPLETED).done:
                index = running.pop(future)
                answer = _fetched(future, crew.lost)
                if answer.losses:
                    losses[index] += answer.losses
                    # Two tasks of one cluster's worker die together: who is to blame shows when each runs alone.
                    if alone and losses[index] >= attempts:
                        yield Outcome(index, None, f"its worker was lost {losses[index]} times")
                    else:
                        suspects.append(index)
                        on_retry(index, "its worker was lost")
                elif answer.error:
                    errors[index] += 1
                    if answer.final or errors[index] >= attempts:
                        yield Outcome(index, None, answer.error)
                    else:
                        waiting.append(index)
                        on_retry(index, answer.error)
                else:
                    yield Outcome(index, answer.result, None)


class _Answer(NamedTuple):
    """What came of one attempt."""

    result: Any = None
    error: str = ""
    final: bool = False
    """Whether it would be the same the next time."""
    losses: int = 0
    """How many workers died of it, or beside it."""


def _answer(function: Callable[[Any], Any], item: Any) -> _Answer:
    """One attempt, where the work is done; errors travel as text, since not every exception can be pickled."""
    try:
        return _Answer(function(item))
    except FINAL as error:
        return _Answer(error=in_words(error), final=True)
    except (Exception, SystemExit) as error:
        return _Answer(error=_named(error))


def _fetched(future: Future, lost: tuple[type[BaseException], ...]) -> _Answer:
    try:
        return future.result()
    except CancelledError:
        raise ConnectionError(GONE) from None
    except lost as error:
        # A scheduler that is not ours has tried again by itself.
        return _Answer(losses=1 + getattr(error, "allowed_failures", 0))
    except Exception as error:  # on the way: what cannot be pickled, or is not there to be imported
        return _Answer(error=_named(error))


def in_words(error: Exception) -> str:
    """What is wrong, and with which file."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename} cannot be opened: {error.strerror[0].lower()}{error.strerror[1:]}"
    return str(error) or type(error).__name__


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
