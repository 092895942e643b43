"""The same function for each of many items: in this process, or by Dask's workers on this machine or on a cluster.

What goes wrong with one item costs that item alone: a `ValueError` is the item's own fault and final, so is a file that
is not there or may not be opened; anything else (an error of the disk, a worker that dies) is tried again first.
"""

import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from distributed import Client, Future

ATTEMPTS = 3
"""How often an item is tried that fails otherwise than by a `FINAL` error."""
FINAL = (ValueError, FileNotFoundError, PermissionError)
"""What would be the same the next time."""
CONNECT_SECONDS = 30.0
"""Seconds to wait for a scheduler and for its first worker."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PJRT_NPROC", "NPROC")
"""How many threads BLAS (the first three) and XLA on a CPU (the others) start; read once, when they are loaded."""
SILENT = logging.CRITICAL + 1
"""Level of Dask's log: what matters of it is in the outcomes."""


class Outcome(NamedTuple):
    """What became of one item.

    Attributes:
        index: which one.
        result: what the function gave; None if it failed.
        failure: why it failed, in words; None if it did not.
        worker_lost: whether it failed because no worker survived it.
    """

    index: int
    result: Any
    failure: str | None
    worker_lost: bool = False


class _Answer(NamedTuple):
    """What came of one attempt."""

    result: Any = None
    error: str | None = None
    final: bool = False
    """Whether it would be the same the next time."""
    losses: int = 0
    """How many workers died of it, or beside it."""


_Work: TypeAlias = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[tuple[int, _Answer]]]
"""One attempt at each item: its place and what came of it, in whatever order."""


def run_each(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    *,
    workers: int = 1,
    scheduler: str | None = None,
    on_retry: Callable[[int, str], None] = lambda index, why: None,
) -> Iterator[Outcome]:
    """Call `function` with each item, and give the outcomes as they come, in whatever order.

    Args:
        function: of one item; defined at a module's top level, or a `functools.partial` of such a one. If its worker is
            lost before its result arrives, it is called again: a second call must do no harm.
        items: sent to the workers by pickle, as results are on their way back.
        workers: processes on this machine; 1 means this process. They share its cores.
        scheduler: address of a Dask scheduler (`tcp://host:8786`), whose workers are used instead.
        on_retry: called with an item's place and a reason when the item will be tried again.

    Raises:
        ValueError: fewer than one worker; no scheduler at the address, or one without workers or with another version
            of this package.
        ConnectionError: the scheduler is gone in the middle; workers of this machine that die while they start.
    """
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, given {workers}")
    if scheduler is not None:
        opened = _cluster(scheduler)
    else:
        opened = nullcontext(_in_this_process) if workers == 1 else _machine(workers)
    return _outcomes(opened, function, items, on_retry)


def _outcomes(
    opened: AbstractContextManager[_Work],
    function: Callable[[Any], Any],
    items: Sequence[Any],
    on_retry: Callable[[int, str], None],
) -> Iterator[Outcome]:
    errors, losses = Counter(), Counter()
    due, suspects = list(range(len(items))), []
    with opened as work:
        while due or suspects:
            # Two items of one worker die together: which of them is to blame shows when each is worked on alone.
            alone = not due
            batch, due = due or [suspects.pop(0)], []
            for place, answer in work(function, [items[index] for index in batch]):
                index = batch[place]
                failure, again = answer.error, due
                if answer.losses:
                    losses[index] += answer.losses
                    failure, again = f"its worker was lost {losses[index]} times", suspects
                    final = alone and losses[index] >= ATTEMPTS
                else:
                    errors[index] += failure is not None
                    final = answer.final or errors[index] >= ATTEMPTS
                if failure is None or final:
                    yield Outcome(index, answer.result, failure, worker_lost=answer.losses > 0)
                else:
                    again.append(index)
                    on_retry(index, "its worker was lost" if answer.losses else failure)


# --- where the work is done ---------------------------------------------------------------------------------


def _in_this_process(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, _Answer]]:
    for place, item in enumerate(items):
        yield place, _attempt(item, function)


def _work_of(client: "Client", at_a_time: int | None = None) -> _Work:
    """What a client's workers do: so many items at a time; with None their scheduler has all of them at once."""

    def work(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, _Answer]]:
        from distributed import as_completed

        left, places, running = enumerate(items), {}, as_completed(loop=client.loop)

        def start(n: int | None) -> None:
            for place, item in islice(left, n):
                future = client.submit(_attempt, item, function, pure=False)
                places[future] = place
                running.add(future)

        start(at_a_time)
        for future in running:
            yield places.pop(future), _fetched(future)
            start(1)

    return work


@contextmanager
def _machine(workers: int) -> Iterator[_Work]:
    """Workers on this machine, who share its cores between them."""
    from dask import config
    from distributed import Client, LocalCluster

    _silence_log()
    threads = dict.fromkeys(THREADS, max((os.cpu_count() or 1) // workers, 1))  # what the user has set counts first
    with ExitStack() as stack:
        stack.callback(_restore_environment, dict(os.environ))
        stack.enter_context(config.set({"distributed.nanny.pre-spawn-environ": threads}))
        with _ctrl_c_kept_from_workers():
            try:
                cluster = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",  # without one it would still take the usual port, or warn
                    memory_limit=None,  # a worker that needs much memory is not killed
                    silence_logs=SILENT,
                    scheduler_kwargs={"allowed_failures": 0, "dashboard": False},  # what is tried again is decided here
                )
            except RuntimeError as error:
                raise ConnectionError(f"a worker died while it started: is there memory for {workers}?") from error
            client = stack.enter_context(Client(stack.enter_context(cluster)))
        cluster.adapt(minimum=workers, maximum=workers)  # a worker that dies while it starts again is replaced too
        yield _work_of(client, workers)


@contextmanager
def _cluster(address: str) -> Iterator[_Work]:
    """Workers of a scheduler that somebody else started."""
    from distributed import Client
    from distributed.comm.addressing import get_address_host_port

    _silence_log()
    try:
        get_address_host_port(address)  # else a client is left half open: collected as a cluster starts, it hangs
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError) as error:  # TypeError: TLS without certificates
        raise ValueError(f"no Dask scheduler responds at {address}: {error}") from None
    with client:
        _check_workers(client, address)
        yield _work_of(client)


def _silence_log() -> None:
    """Keep Dask's log off the user's screen, for good: it is written while the process ends, too."""
    for handler in logging.getLogger("distributed").handlers:
        handler.setLevel(SILENT)


def _restore_environment(before: dict[str, str]) -> None:
    """Dask sets in this process too what it sets for its workers."""
    os.environ.clear()
    os.environ.update(before)


@contextmanager
def _ctrl_c_kept_from_workers() -> Iterator[None]:
    """Start threads here whose processes never get Ctrl-C: a terminal sends it to all, they leave it to this one.

    Windows cannot do this: there the workers end by themselves, and may print why.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # when it is started it unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _check_workers(client: "Client", address: str) -> None:
    """Refuse a cluster without workers, or with others than ours: their results would differ."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError:
        raise ValueError(f"the scheduler at {address} has no workers") from None
    ours, others = version("siamese-jax"), ["none"]
    with suppress(PackageNotFoundError):
        there: Any = client.run(version, "siamese-jax")
        others = sorted(set(there.values()) - {ours})
    if others:
        raise ValueError(f"workers of {address} have siamese-jax {', '.join(others)}; this is {ours}")


# --- one attempt --------------------------------------------------------------------------------------------


def _attempt(item: Any, function: Callable[[Any], Any]) -> _Answer:
    """One attempt, where the work is done; errors travel as text, since not every exception can be pickled."""
    try:
        return _Answer(function(item))
    except FINAL as error:
        return _Answer(error=in_words(error), final=True)
    except (Exception, SystemExit) as error:
        return _Answer(error=_named(error))


def _fetched(future: "Future") -> _Answer:
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    try:
        return future.result()
    except CancelledError:
        raise ConnectionError(
            "the scheduler is gone, or its network: what is finished is kept, run the same again"
        ) from None
    except KilledWorker as error:  # a scheduler that somebody else started has tried again by itself
        return _Answer(losses=1 + error.allowed_failures)
    except Exception as error:  # on the way: what cannot be pickled, or is not there to be imported
        return _Answer(error=_named(error))


def in_words(error: Exception) -> str:
    """What is wrong, and with which file."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename} cannot be opened: {error.strerror[0].lower()}{error.strerror[1:]}"
    return str(error) or type(error).__name__


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
