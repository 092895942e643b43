"""The one place that names devices: who reads what of a batch, how one device's step becomes everybody's."""

import importlib.util
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Int, PyTree

from siamese_jax.config.experiment import Config
from siamese_jax.shards.batches import Batch
from siamese_jax.training.step import TrainState, make_train_step
from siamese_jax.vocabulary import TaskSpec

Device: TypeAlias = jax.Device  # pyright: ignore[reportInvalidTypeForm] (JAX defines it by assignment)
AXIS = "data"
KEEP_BARRIERS = "--xla_disable_hlo_passes=cse_barrier_expander"
"""XLA's CPU compiler drops the barriers by which `model.remat` and `training.accumulate` save memory (170 MB to 50, of
`small` in four micro-batches), unless told not to before it begins."""


class DataParallel(NamedTuple):
    """A training step over several devices, of this process and others.

    Attributes:
        rows: which positions of a global batch this process reads, in this order.
        place_state: puts a state that was just made or restored where `step` wants it.
        place: lays this process's part of a batch out over its devices.
        step: `(state, placed batch) -> (state, metrics)`; the state keeps its natural shapes and is donated.
        as_saved: a state as checkpoints take it: known to be the same in all processes.
    """

    rows: Int[np.ndarray, "row"]
    place_state: Callable[[TrainState], TrainState]
    place: Callable[[Batch], Any]
    step: Callable[[TrainState, Any], Any]
    as_saved: Callable[[PyTree], PyTree]


def choose_devices(n: int | None) -> list[Device]:
    """The first `n` devices of each process, or all there are; those of the first process come first.

    On a CPU, `n` devices are forced; call this before anything else in JAX but `join`.

    Raises:
        ValueError: fewer than `n` devices.
    """
    if n is not None and n < 1:
        raise ValueError(f"--devices must be 1 or more, given {n}")
    if not any(map(importlib.util.find_spec, ("jax_plugins", "libtpu"))):  # no accelerator
        os.environ["XLA_FLAGS"] = " ".join(dict.fromkeys([*os.environ.get("XLA_FLAGS", "").split(), KEEP_BARRIERS]))
    if n is not None:
        try:
            jax.config.update("jax_num_cpu_devices", n)
        except RuntimeError:
            # The backend is up already (as in tests): what there is must do.
            pass
    by_process: dict[int, list[Device]] = {}
    for device in sorted(jax.devices(), key=lambda d: (d.process_index, d.id)):
        by_process.setdefault(device.process_index, []).append(device)
    fewest = min(map(len, by_process.values()))
    if n is not None and fewest < n:
        raise ValueError(f"--devices {n}: there are only {fewest} {jax.devices()[0].platform} devices")
    return [device for devices in by_process.values() for device in devices[:n]]


def data_parallel(config: Config, tasks: tuple[TaskSpec, ...], devices: Sequence[Device]) -> DataParallel:
    """The training step over `devices`, by `config.training.parallel`.

    The same one for the same arguments: a run that resumes, or another on other shards, compiles nothing.

    Raises:
        ValueError: the batch does not divide evenly among devices and micro-batches.
    """
    return _data_parallel(config, tasks, tuple(devices))


@lru_cache(maxsize=8)
def _data_parallel(config: Config, tasks: tuple[TaskSpec, ...], devices: tuple[Device, ...]) -> DataParallel:
    rows = _rows(config, devices)
    step = make_train_step(config, tasks, axis=AXIS)
    return (_by_pmap if config.training.parallel == "pmap" else _by_shard_map)(step, devices, rows)


def _rows(config: Config, devices: tuple[Device, ...]) -> Int[np.ndarray, "row"]:
    """A micro-batch holds the same windows however many devices share it; each device's part lies together."""
    size, n, parts = config.training.batch_size, len(devices), config.training.accumulate
    if size % (n * parts):
        cut = f" in {parts} micro-batches" if parts > 1 else ""
        raise ValueError(
            f"training.batch_size={size} cannot be divided evenly among {n} devices{cut};"
            f" use a multiple of {n * parts} or another --devices"
        )
    mine = [i for i, device in enumerate(devices) if device.process_index == jax.process_index()]
    return np.arange(size).reshape(parts, n, -1)[:, mine].transpose(1, 0, 2).ravel()


def _by_pmap(step: Callable, devices: tuple[Device, ...], rows: Int[np.ndarray, "row"]) -> DataParallel:
    n_local = sum(device.process_index == jax.process_index() for device in devices)
    replicated = NamedSharding(Mesh(np.array(devices), (AXIS,)), P())
    # The state goes in and out unreplicated (None): it keeps its shapes, and checkpoints take it as it is.
    mapped = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None, devices=devices, donate_argnums=0)
    several = jax.process_count() > 1
    return DataParallel(
        rows=rows,
        # Among several processes, pmap takes and gives each process's own copy of the state.
        place_state=jax.device_get if several else lambda state: jax.device_put(state, replicated),
        place=lambda batch: jax.tree.map(lambda x: x.reshape(n_local, -1, *x.shape[1:]), batch),
        step=mapped,
        as_saved=lambda state: _of_all(state, replicated) if several else state,
    )


def _by_shard_map(step: Callable, devices: tuple[Device, ...], rows: Int[np.ndarray, "row"]) -> DataParallel:
    mesh = Mesh(np.array(devices), (AXIS,))
    # check_vma=True would add its own sum to gradients that the step has summed already: n times too big, silently.
    mapped = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(), check_vma=False)
    replicated, sharded = NamedSharding(mesh, P()), NamedSharding(mesh, P(AXIS))
    return DataParallel(
        rows=rows,
        place_state=lambda state: _of_all(jax.device_get(state), replicated),
        place=lambda batch: jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharded, x), batch),
        step=jax.jit(mapped, donate_argnums=0),
        as_saved=lambda state: state,
    )


def _of_all(tree: PyTree, replicated: NamedSharding) -> PyTree:
    """Arrays that span all processes, from each process's equal copies."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(replicated, np.asarray(x)), tree)


def own_copy(tree: PyTree) -> PyTree:
    """Replicated arrays as they lie on this process's first device alone."""
    return jax.tree.map(lambda x: x.addressable_data(0), tree)
