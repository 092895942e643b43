"""Saving and restoring: parameters, the configuration they belong to, the operating points that were fixed.

    FOLDER/config.json             configuration, task definitions, versions
    FOLDER/operating_points.json   thresholds fixed on validation patients
    FOLDER/<step>/train            everything a run needs to go on (Orbax)
    FOLDER/<step>/inference        averaged parameters and batch statistics alone (Orbax)

The only importer of orbax.
"""

import dataclasses
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding
from jaxtyping import PyTree

from siamese_jax.config import Config
from siamese_jax.forward import Variables, initialise
from siamese_jax.vocabulary import TaskSpec

FORMAT = 1
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
    if read_only:
        options = ocp.CheckpointManagerOptions(read_only=True)
    else:
        options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
    handlers = {item: ocp.StandardCheckpointHandler() for item in ("train", "inference")}
    return ocp.CheckpointManager(folder.resolve(), options=options, item_handlers=handlers)


class Description(NamedTuple):
    """What `config.json` says: configuration, task definitions, and the sources of the training shards in words."""

    config: Config
    tasks: tuple[TaskSpec, ...]
    trained_on: tuple[str, ...]


def write_description(folder: Path, description: Description) -> None:
    """Write `config.json`, or check it if it is there.

    Raises:
        ValueError: the folder belongs to a run with another configuration; the fields that differ are named.
    """
    if (folder / "config.json").exists():
        there = read_description(folder)
        differences = _differences(there.config, description.config)
        differences = [text for text in differences if text.split(":")[0] not in FREE_ON_RESUME]
        if there.tasks != description.tasks:
            differences.append(f"task definitions: {there.tasks} there, {description.tasks} given")
        if differences:
            raise ValueError(f"{folder} holds a run with another configuration: " + "; ".join(differences))
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
    """What a checkpoint folder's `config.json` says.

    Raises:
        ValueError: not a checkpoint folder, or one of another format.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not a checkpoint: it has no config.json")
    try:
        tree = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise ValueError(f"{path} has another format than this version reads ({FORMAT})")
    try:
        tasks = tuple(TaskSpec(t["name"], t["kind"], tuple(t["classes"])) for t in tree["tasks"])
        config, trained_on = tree["config"], tuple(map(str, tree["trained_on"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is incomplete: {error}") from None
    return Description(Config.from_json(json.dumps(config)), tasks, trained_on)


def save(manager: ocp.CheckpointManager, step: int, state: PyTree, variables: Variables) -> None:
    """Save a training state and, apart from it, the variables for inference; the disk may still be busy."""
    items = ocp.args.Composite(train=ocp.args.StandardSave(state), inference=ocp.args.StandardSave(variables))
    manager.save(step, args=items, force=True)


def restore(manager: ocp.CheckpointManager, like: PyTree) -> PyTree | None:
    """The last training state saved, or None if there is none.

    Args:
        manager: of the run's checkpoint folder.
        like: a state of the same structure, shapes and types.
    """
    step = manager.latest_step()
    if step is None:
        return None
    items = ocp.args.Composite(train=ocp.args.StandardRestore(_target(like)))
    return manager.restore(step, args=items)["train"]


def load(folder: Path) -> Checkpoint:
    """The newest checkpoint of a folder, ready for inference.

    Raises:
        ValueError: not a checkpoint, nothing saved yet, or parameters that do not fit the configuration; the
            first ones that differ are named.
    """
    description = read_description(folder)
    with open_manager(folder, read_only=True) as manager:
        step = manager.latest_step()
        if step is None:
            raise ValueError(f"{folder} holds no saved parameters yet: was training stopped early?")
        target = jax.eval_shape(lambda: initialise(description.config, description.tasks, jax.random.key(0)))
        saved = manager.item_metadata(step)["inference"]
        _check_fits(folder, target, saved)
        items = ocp.args.Composite(inference=ocp.args.StandardRestore(_target(target)))
        variables = manager.restore(step, args=items)["inference"]
    points = folder / "operating_points.json"
    return Checkpoint(*description, variables, points.read_text() if points.is_file() else "[]", step)


def write_operating_points(folder: Path, text: str) -> None:
    """Put thresholds, as JSON text, beside the parameters."""
    _write(folder / "operating_points.json", text)


def _target(tree: PyTree) -> PyTree:
    # Named explicitly: what was saved on eight devices must load on one.
    here = SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), tree)


def _check_fits(folder: Path, target: PyTree, saved: PyTree) -> None:
    def shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
        leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
        return {"/".join(str(getattr(k, "key", k)) for k in path): tuple(leaf.shape) for path, leaf in leaves}

    wanted, there = shapes(target), shapes(saved)
    wrong = [
        f"{name}: {there.get(name, 'absent')} saved, {wanted.get(name, 'absent')} configured"
        for name in sorted(wanted.keys() | there.keys())
        if wanted.get(name) != there.get(name)
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(f"{folder}: parameters do not fit config.json: " + "; ".join(wrong[:5]) + more)


def _differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Fields in which two configurations differ, as `path: a there, b given`."""
    found = []
    for field in dataclasses.fields(a):
        left, right, path = getattr(a, field.name), getattr(b, field.name), f"{where}{field.name}"
        if dataclasses.is_dataclass(left):
            found += _differences(left, right, f"{path}.")
        elif left != right:
            found.append(f"{path}: {left!r} there, {right!r} given")
    return found


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)
