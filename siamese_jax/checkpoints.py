"""Saving and restoring: parameters, the configuration they belong to, the operating points that were fixed.

    FOLDER/config.json             configuration, task definitions, versions
    FOLDER/operating_points.json   thresholds fixed on validation patients
    FOLDER/<step>/train            everything a run needs to go on (Orbax)
    FOLDER/<step>/inference        averaged parameters and batch statistics alone (Orbax)

A bundle (`deployment.export`) has the same two files and `parameters.safetensors` in place of steps. The only
importer of orbax.
"""

import dataclasses
import gc
import inspect
import json
import logging
import math
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding
from jaxtyping import PyTree

from siamese_jax import files
from siamese_jax.config.experiment import Config, differences
from siamese_jax.config.typed import parse_json, typed
from siamese_jax.forward import Variables, initialise
from siamese_jax.models.build import chosen_tasks
from siamese_jax.tensors import check_fits, named, read_tensors, write_tensors
from siamese_jax.vocabulary import TaskSpec

T = TypeVar("T")
FORMAT = 1
PARAMETERS = "parameters.safetensors"
"""Of a bundle, in place of Orbax's steps."""
MAX_QUOTED = 500
"""Characters of somebody else's error in one of ours."""
# What may change between stopping and going on, since no number depends on it.
FREE_ON_RESUME = ("training.parallel", "training.evaluate_every", "training.checkpoint_every")


class Checkpoint(NamedTuple):
    """All that is needed to run a trained model.

    Attributes:
        config: what it was trained with; preprocessing included.
        tasks: definitions of the tasks, in the shards' order.
        trained_on: where the training recordings came from, in words.
        variables: averaged `params` and `batch_stats`.
        operating_points: thresholds fixed on validation patients, as JSON text (`evaluation.metrics` reads it).
        step: updates done.
    """

    config: Config
    tasks: tuple[TaskSpec, ...]
    trained_on: tuple[str, ...]
    variables: Variables
    operating_points: str
    step: int


def open_manager(folder: Path, *, read_only: bool = False) -> ocp.CheckpointManager:
    """Orbax's manager of a checkpoint folder: asynchronous; keeps two steps, removes half-written ones.

    Read-only it removes nothing: what is half-written may be a training run's that is going on.
    """
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)  # Orbax explains in three warnings what read-only means
    try:
        if read_only:
            options = ocp.CheckpointManagerOptions(read_only=True)
        else:
            options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
        handlers = {item: ocp.StandardCheckpointHandler() for item in ("train", "inference")}
        return ocp.CheckpointManager(folder.resolve(), options=options, item_handlers=handlers)
    finally:
        log.setLevel(level)


class Description(NamedTuple):
    """What `config.json` says: configuration, task definitions, and the sources of the training shards in words."""

    config: Config
    tasks: tuple[TaskSpec, ...]
    trained_on: tuple[str, ...]


def check_description(folder: Path, description: Description) -> None:
    """Refuse a folder that holds another run; one without a saved step holds none.

    Raises:
        ValueError: the folder belongs to a run with another configuration; the fields that differ are named.
    """
    if not _has_steps(folder):
        return
    there = read_description(folder)
    changed = differences(there.config, description.config)
    wrong = [f"{path}: {text}" for path, text in changed.items() if path not in FREE_ON_RESUME]
    if there.tasks != description.tasks:
        wrong.append(f"task definitions: {there.tasks} there, {description.tasks} given")
    if wrong:
        raise ValueError(f"{folder} holds a run with another configuration: " + "; ".join(wrong))


def write_description(folder: Path, description: Description) -> None:
    """Write `config.json`, unless a run that saved a step did."""
    if _has_steps(folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    tree = {
        "format": FORMAT,
        "versions": {name: version(name) for name in ("siamese-jax", "jax", "flax")},
        "trained_on": description.trained_on,
        "tasks": [dataclasses.asdict(task) for task in description.tasks],
        "config": json.loads(description.config.to_json()),
    }
    _write(folder / "config.json", json.dumps(tree, indent=2) + "\n")


def read_description(folder: Path) -> Description:
    """What a checkpoint's or a bundle's `config.json` says.

    Raises:
        ValueError: not a checkpoint folder, one of another format, or a configuration that cannot be.
    """
    path, text = folder / "config.json", files.read_text(folder, "config.json")
    if text is None:
        raise ValueError(f"{folder} is not a checkpoint: it has no config.json")
    tree = parse_json(text, str(path))
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise ValueError(f"{path} has another format than this version reads ({FORMAT})")
    missing = [key for key in ("tasks", "trained_on", "config") if key not in tree]
    if missing:
        raise ValueError(f"{path} is incomplete: it lacks {missing}")
    try:
        tasks = typed(tuple[TaskSpec, ...], tree["tasks"], "tasks")
        config = typed(Config, tree["config"], "config")
        chosen_tasks(config, tasks)
    except ValueError as error:
        raise ValueError(f"{path}: {str(error)[:MAX_QUOTED]}") from None
    sources = tree["trained_on"]
    if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
        raise ValueError(f"{path}: trained_on must be a list of texts")
    return Description(config, tasks, tuple(map(files.plain, sources)))


def save(manager: ocp.CheckpointManager, step: int, state: PyTree, variables: Variables) -> None:
    """Save a training state and, apart from it, the variables for inference; the disk may still be busy."""
    items = ocp.args.Composite(train=ocp.args.StandardSave(state), inference=ocp.args.StandardSave(variables))
    manager.save(step, args=items, force=True)


def restore(manager: ocp.CheckpointManager, like: PyTree) -> PyTree | None:
    """The last training state saved, or None if there is none.

    Args:
        manager: of the run's checkpoint folder.
        like: a state of the same structure, shapes and types.

    Raises:
        ValueError: what was saved is a state of another structure.
    """
    step = manager.latest_step()
    if step is None:
        return None
    items = ocp.args.Composite(train=ocp.args.StandardRestore(_target(like)))
    try:
        return _in_a_sentence(Path(manager.directory), lambda: manager.restore(step, args=items)["train"])
    except ValueError:
        raise ValueError(
            f"{manager.directory}: step {step} cannot be gone on from: it is damaged, or of another version."
            f" A new run may start from its parameters: --init-from {manager.directory}"
        ) from None


def load(folder: Path) -> Checkpoint:
    """The newest checkpoint of a folder, or an exported bundle, ready for inference.

    Whoever made the folder, loading it runs nothing of it: parameters are arrays of zarr or safetensors, the rest is
    JSON. A bundle's StableHLO and ONNX are programs, so they are not looked at; `forward` is ours.

    Raises:
        ValueError: not a checkpoint, nothing saved yet, parameters that do not fit the configuration (the first ones
            that differ are named) or are not finite.
    """
    description = read_description(folder)
    try:
        target = jax.eval_shape(lambda: initialise(description.config, description.tasks, jax.random.key(0)))
    except Exception as error:  # each layer checks what it can: a montage without a row, a filter that leaves nothing
        raise ValueError(f"{folder / 'config.json'} describes no network: {str(error)[:MAX_QUOTED]}") from None
    bundled = files.member(folder, PARAMETERS)
    variables, step = _read_bundled(bundled, target) if bundled else _read_newest(folder, target)
    for name, leaf in named(variables).items():
        if not np.isfinite(leaf).all():
            raise ValueError(f"{folder}: {name} holds numbers that are not finite: did training diverge?")
    points = files.read_text(folder, "operating_points.json")
    return Checkpoint(*description, variables, "[]" if points is None else points, step)


def is_bundle(folder: Path) -> bool:
    """Whether a folder is an exported bundle rather than a run's checkpoint."""
    return files.member(folder, PARAMETERS) is not None


def write_bundled(folder: Path, checkpoint: Checkpoint) -> None:
    """Write what `load` reads from a bundle: parameters as safetensors, description and operating points as JSON."""
    write_description(folder, Description(checkpoint.config, checkpoint.tasks, checkpoint.trained_on))
    write_operating_points(folder, checkpoint.operating_points)
    write_tensors(folder / PARAMETERS, named(checkpoint.variables), notes={"step": str(checkpoint.step)})


def _read_bundled(path: Path, target: PyTree) -> tuple[Variables, int]:
    variables, notes = read_tensors(path, target)
    step = notes.get("step", "")
    if not (step.isascii() and step.isdigit() and len(step) < 19):
        raise ValueError(f"{path}: its note `step` must be a number, given {step[:20]!r}")
    return jax.device_put(variables, jax.local_devices()[0]), int(step)


def _read_newest(folder: Path, target: PyTree) -> tuple[Variables, int]:
    files.check_tree(folder)
    step, saved = _in_a_sentence(folder, lambda: _newest_metadata(folder))
    if step is None:
        raise ValueError(f"{folder} holds no saved parameters yet: was training stopped early?")
    check_fits(folder, target, {name: (shape, dtype) for name, (shape, dtype, _) in saved.items()})
    # What is read is allocated chunk by chunk, however small the array.
    large = [name for name, (shape, _, chunk) in saved.items() if math.prod(chunk) > max(math.prod(shape), 1)]
    if large:
        raise ValueError(f"{folder / str(step)}: {large[0]} is stored in chunks larger than itself")

    def read() -> Variables:
        items = ocp.args.Composite(inference=ocp.args.StandardRestore(_target(target)))
        with open_manager(folder, read_only=True) as manager:
            return manager.restore(step, args=items)["inference"]

    return _in_a_sentence(folder, read), step


def _newest_metadata(folder: Path) -> tuple[int | None, dict[str, tuple[tuple[int, ...], str, tuple[int, ...]]]]:
    """The last step and, for each array by name, its shape, type and the shape of a chunk."""
    with open_manager(folder, read_only=True) as manager:
        step = manager.latest_step()
        saved = {} if step is None else named(manager.item_metadata(step)["inference"])
    return step, {n: (tuple(x.shape), str(x.dtype), tuple(x.storage.chunk_shape)) for n, x in saved.items()}


def _in_a_sentence(folder: Path, read: Callable[[], T]) -> T:
    """What `read` gives; whatever Orbax raises where it meets files that it did not write, as a ValueError.

    Orbax opens all arrays at once and closes its event loop at the first that fails. The others then report to nobody,
    now or later, and Python prints a stack trace for each: after a failure, those are left out.
    """
    print_it = sys.unraisablehook

    def print_others(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value) and not inspect.iscoroutine(unraisable.object):
            print_it(unraisable)

    sys.unraisablehook = print_others
    try:
        value = read()
    except Exception as error:
        said = files.plain(str(error).partition("\n")[0])[:MAX_QUOTED] or type(error).__name__
    else:
        sys.unraisablehook = print_it
        return value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of coroutines that nobody awaits any more
        gc.collect()
    raise ValueError(f"{folder} holds no checkpoint that can be read: {said}")


def _has_steps(folder: Path) -> bool:
    return folder.is_dir() and any(path.name.isdigit() for path in folder.iterdir())


def write_operating_points(folder: Path, text: str) -> None:
    """Put thresholds, as JSON text, beside the parameters."""
    _write(folder / "operating_points.json", text)


def _target(tree: PyTree) -> PyTree:
    # Named explicitly: what was saved on eight devices must load on one.
    here = SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), tree)


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)
