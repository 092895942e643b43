"""The one place that names devices: how batches are laid out over them, how one device's step becomes everybody's."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from siamese_jax.config import Config
from siamese_jax.recordings.batches import Batch
from siamese_jax.training.step import TrainState, make_train_step
from siamese_jax.vocabulary import TaskSpec

Device: TypeAlias = jax.Device  # pyright: ignore[reportInvalidTypeForm] (JAX defines it by assignment)
AXIS = "data"


class DataParallel(NamedTuple):
    """A training step over several devices.

    Attributes:
        place_state: puts a state that was just made or restored where `step` wants it.
        place: lays a global batch out over the devices.
        step: `(state, placed batch) -> (state, metrics)`; the state keeps its natural shapes and is donated.
    """

    place_state: Callable[[TrainState], TrainState]
    place: Callable[[Batch], Any]
    step: Callable[[TrainState, Any], Any]


def choose_devices(n: int | None) -> list[Device]:
    """The first `n` devices, or all there are. On a CPU, `n` devices are forced; call this before anything else in JAX.

    Raises:
        ValueError: fewer than `n` devices.
    """
    if n is not None and n < 1:
        raise ValueError(f"--devices must be 1 or more, given {n}")
    if n is not None:
        try:
            jax.config.update("jax_num_cpu_devices", n)
        except RuntimeError:
            # The backend is up already (as in tests): what there is must do.
            pass
    devices = jax.devices()
    if n is not None and len(devices) < n:
        raise ValueError(f"--devices {n}: there are only {len(devices)} {devices[0].platform} devices")
    return devices[:n]


def data_parallel(config: Config, tasks: tuple[TaskSpec, ...], devices: list[Device]) -> DataParallel:
    """The training step over `devices`, by `config.training.parallel`.

    Raises:
        ValueError: the batch does not divide evenly among the devices.
    """
    n = len(devices)
    if config.training.batch_size % n:
        raise ValueError(
            f"training.batch_size={config.training.batch_size} cannot be divided evenly among {n} devices;"
            f" use a multiple of {n} or another --devices"
        )
    step = make_train_step(config, tasks, axis=AXIS)
    return _by_pmap(step, devices) if config.training.parallel == "pmap" else _by_shard_map(step, devices)


def _by_pmap(step: Callable, devices: list[Device]) -> DataParallel:
    n = len(devices)
    # The state goes in and out unreplicated (None): it keeps its shapes, and checkpoints take it as it is.
    mapped = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None, devices=devices, donate_argnums=0)
    return DataParallel(
        place_state=lambda state: state,
        place=lambda batch: jax.tree.map(lambda x: x.reshape(n, -1, *x.shape[1:]), batch),
        step=mapped,
    )


def _by_shard_map(step: Callable, devices: list[Device]) -> DataParallel:
    mesh = Mesh(np.array(devices), (AXIS,))
    # check_vma=True would add its own sum to gradients that the step has summed already: n times too big, silently.
    mapped = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(), check_vma=False)
    replicated, sharded = NamedSharding(mesh, P()), NamedSharding(mesh, P(AXIS))
    return DataParallel(
        place_state=lambda state: jax.device_put(state, replicated),
        place=lambda batch: jax.device_put(batch, sharded),
        step=jax.jit(mapped, donate_argnums=0),
    )
