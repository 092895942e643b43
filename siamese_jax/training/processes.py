"""Several processes that train together, on one machine or many: how they join, agree and end.

A process that dies ends the others: JAX aborts each of them when its coordination service misses a sign of life for
`LOST_AFTER_SECONDS` (or at once, when the collective's connection breaks). Only the steps since the last checkpoint are
lost: the same command in every process resumes from there.
"""

import hashlib
import re

import jax
import numpy as np
from jax.experimental import multihost_utils

LOST_AFTER_SECONDS = 60
"""How long a process may give no sign of life before the others end."""


def join(
    coordinator: str | None = None,
    process_id: int | None = None,
    num_processes: int | None = None,
    *,
    cluster: bool = False,
    lost_after_seconds: int = LOST_AFTER_SECONDS,
) -> None:
    """Become one of several processes that train together; call this before anything else in JAX.

    Args:
        coordinator: address of the first process, `host:port`.
        process_id: which this one is, from 0.
        num_processes: how many there are.
        cluster: let JAX find all this out by itself instead: from SLURM, Open MPI, a TPU pod or Kubernetes.
        lost_after_seconds: after this long without a sign of life from one of them, the others end.

    Raises:
        ValueError: not all of the first three, or those and `cluster`; an impossible one; no cluster, or nobody there.
    """
    given = (coordinator, process_id, num_processes)
    if any(x is not None for x in given) if cluster else None in given:
        raise ValueError("give all of --coordinator, --process-id and --num-processes, or --cluster alone")
    if num_processes is not None and num_processes < 1:
        raise ValueError(f"--num-processes must be 1 or more, given {num_processes}")
    if process_id is not None and num_processes is not None and not 0 <= process_id < num_processes:
        raise ValueError(f"--process-id must be 0 to {num_processes - 1} of {num_processes}, given {process_id}")
    if coordinator is not None and not re.fullmatch(r"([^:]+|\[[0-9A-Fa-f:.]+\]):\d+", coordinator):
        raise ValueError(f"--coordinator must be HOST:PORT, given {coordinator!r}")
    if lost_after_seconds < 1:
        raise ValueError(f"--lost-after must be 1 or more seconds, given {lost_after_seconds}")
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id, heartbeat_timeout_seconds=lost_after_seconds)
    except (ValueError, RuntimeError) as error:
        if cluster:
            raise ValueError(
                f"--cluster: found no SLURM, Open MPI, TPU pod or Kubernetes job to join ({error});"
                " give --coordinator, --process-id and --num-processes"
            ) from None
        raise ValueError(f"could not join {coordinator} as process {process_id} of {num_processes}: {error}") from None


def is_first() -> bool:
    """Whether this is the process that writes for all."""
    return jax.process_index() == 0


def must_agree(*given: object) -> None:
    """Refuse to begin where processes were given different things: they would train apart, or wait for one another.

    Raises:
        ValueError: in all of them, if `repr(given)` is not the same everywhere.
    """
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(repr(given).encode()).digest(), np.uint8)
    everyone = np.asarray(multihost_utils.process_allgather(digest))
    if (everyone != everyone[0]).any():
        raise ValueError(
            "the processes of this run were given different arguments, shards or checkpoints: all must be the same,"
            " but for --process-id"
        )


def wait_for_all(where: str) -> None:
    """Wait until every process has come here."""
    multihost_utils.sync_global_devices(where)


def stop_agreed(step: int) -> bool:
    """Whether all processes end at this step because one of them got SIGTERM; every process must ask at every step."""
    return jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step)


def leave() -> None:
    """Wait until every process is done, and leave the others. One process alone has nothing to do here."""
    if jax.process_count() > 1:
        jax.distributed.shutdown()
