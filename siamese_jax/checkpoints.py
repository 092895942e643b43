"""Saving and restoring: parameters, the configuration they belong to, what they were learnt from, and thresholds.

    FOLDER/config.json              configuration, task definitions, versions
    FOLDER/identity.json            what it learnt from: salted patients, digests of recordings, fingerprints of shards
    FOLDER/parameters.safetensors   averaged parameters and batch statistics
    FOLDER/operating_points.json    thresholds, and what they were fixed on; absent until they are fixed
    FOLDER/state/<step>/            everything a run needs to resume (Orbax); no other command reads it

A bundle (`export`) holds the same files but for `state/`. Each file is written whole or not at all. A training run
writes the first two once, before anything else, then at each checkpoint the state and after it the parameters: so
parameters that are there always belong to the configuration and the identity beside them, and a run that resumes from a
state writes that state's parameters again. The only importer of orbax.
"""

import dataclasses
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding
from jaxtyping import PyTree

from siamese_jax import files, weights
from siamese_jax.config.experiment import Config, differences
from siamese_jax.config.typed import parse_json, typed
from siamese_jax.evaluation.metrics import OperatingPoint, points_from_rows, points_to_rows
from siamese_jax.identity import Identity, Origin
from siamese_jax.models.build import chosen_tasks
from siamese_jax.pipeline import Variables, initialise
from siamese_jax.tensors import named, read_tensors, write_tensors
from siamese_jax.vocabulary import TaskSpec

FORMAT = 2
CONFIG, IDENTITY, PARAMETERS = "config.json", "identity.json", "parameters.safetensors"
OPERATING_POINTS, STATE, RUN_CHECKPOINT = "operating_points.json", "state", "checkpoint"
MAX_IDENTITY_BYTES = 1 << 26
"""100,000 patients with a recording each take 14 MB."""
MAX_QUOTED = 500
"""Characters of somebody else's error in one of ours."""
# What may change when a run resumes, since no number depends on it.
FREE_ON_RESUME = ("training.parallel", "training.evaluate_every", "training.checkpoint_every")


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Thresholds, and what they were fixed on."""

    points: tuple[OperatingPoint, ...]
    fixed_on: Origin
    version: str
    """Of siamese-jax."""
    date: str
    """UTC."""

    def text(self) -> str:
        """When they were fixed, and on what."""
        n = len(self.fixed_on.patients)
        where = f"{n} patient{'s' * (n != 1)} of {'; '.join(self.fixed_on.sources)}"
        return f"fixed on {where}, {self.date[:10]}, by siamese-jax {self.version}"


class Checkpoint(NamedTuple):
    """All that is needed to run a trained model.

    Attributes:
        config: what it was trained with; preprocessing included.
        tasks: definitions of the tasks, in the shards' order.
        variables: averaged `params` and `batch_stats`.
        step: updates done.
        identity: what it learnt from.
        thresholds: None until they are fixed.
        folder: where it was loaded from; None if it was not.
    """

    config: Config
    tasks: tuple[TaskSpec, ...]
    variables: Variables
    step: int
    identity: Identity = Identity()
    thresholds: Thresholds | None = None
    folder: Path | None = None

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Where the training recordings came from, in words."""
        return self.identity.sources

    @property
    def points(self) -> tuple[OperatingPoint, ...]:
        """The thresholds; none if they are not fixed yet.

        Those of events are left out if the network gives no times: older versions fixed some for it.
        """
        points = () if self.thresholds is None else self.thresholds.points
        return tuple(p for p in points if not p.of_events or self.config.keeps_frames)


class Description(NamedTuple):
    """What `config.json` and `identity.json` say."""

    config: Config
    tasks: tuple[TaskSpec, ...]
    identity: Identity


# --- config.json, identity.json --------------------------------------------------------------------------------


def holds_run(folder: Path) -> bool:
    """Whether anything was saved in a folder."""
    return (folder / PARAMETERS).exists() or _last_step(folder) is not None


def write_description(folder: Path, description: Description) -> None:
    """Write `config.json` and `identity.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    tree = {
        "format": FORMAT,
        "versions": {name: version(name) for name in ("siamese-jax", "jax", "flax")},
        "tasks": [dataclasses.asdict(task) for task in description.tasks],
        "config": json.loads(description.config.to_json()),
    }
    files.write_json(folder / CONFIG, tree)
    files.write_json(folder / IDENTITY, dataclasses.asdict(description.identity))


def read_description(folder: Path) -> Description:
    """What a checkpoint's or a bundle's `config.json` and `identity.json` say.

    Raises:
        ValueError: not a checkpoint folder, one of another format, or a configuration that cannot be.
    """
    path = folder / CONFIG
    tree = _read_json(folder, CONFIG)
    if tree is None:
        raise ValueError(f"{folder} is not a checkpoint: it has no {CONFIG}")
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise ValueError(f"{path} has another format than this version reads ({FORMAT}): train again with this version")
    missing = [key for key in ("tasks", "config") if key not in tree]
    if missing:
        raise ValueError(f"{path} is incomplete: it lacks {missing}")
    try:
        tasks = typed(tuple[TaskSpec, ...], tree["tasks"], "tasks")
        config = typed(Config, tree["config"], "config")
        chosen_tasks(config, tasks)
    except ValueError as error:
        raise ValueError(f"{path}: {str(error)[:MAX_QUOTED]}") from None
    identity = _read_json(folder, IDENTITY, limit=MAX_IDENTITY_BYTES)
    if identity is None:
        raise ValueError(f"{folder} is not a checkpoint: it has no {IDENTITY}")
    return Description(config, tasks, _as(Identity, identity, folder / IDENTITY))


def check_description(folder: Path, description: Description) -> None:
    """Refuse a folder whose run has another configuration, or other tasks.

    Raises:
        ValueError: the fields that differ are named.
    """
    there = read_description(folder)
    changed = differences(there.config, description.config)
    wrong = [f"{path}: {text}" for path, text in changed.items() if path not in FREE_ON_RESUME]
    if there.tasks != description.tasks:
        wrong.append(f"task definitions: {there.tasks} there, {description.tasks} given")
    if wrong:
        raise ValueError(f"{folder} holds a run with another configuration: " + "; ".join(wrong))


# --- parameters ------------------------------------------------------------------------------------------------


def write_parameters(folder: Path, variables: Variables, step: int) -> None:
    """Put the parameters of a step in the place of earlier ones, beside a description that is there."""
    write_tensors(folder / PARAMETERS, named(jax.device_get(variables)), notes={"step": str(step)})


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Write what `load` reads. What was in the folder before is no checkpoint until the last file is there."""
    (folder / PARAMETERS).unlink(missing_ok=True)
    write_description(folder, Description(checkpoint.config, checkpoint.tasks, checkpoint.identity))
    write_thresholds(folder, checkpoint.thresholds)
    write_parameters(folder, checkpoint.variables, checkpoint.step)


def find_folder(given: str | Path | None) -> Path:
    """The folder of a checkpoint: `given` itself, `given/checkpoint` of a run, or that of a model of the package.

    Raises:
        ValueError: there is none.
    """
    if given is None:
        return weights.folder()
    folder = Path(given)
    if not (folder / CONFIG).exists() and (folder / RUN_CHECKPOINT / CONFIG).exists():
        return folder / RUN_CHECKPOINT
    if not folder.exists() and str(given) in weights.names():
        return weights.folder(str(given))
    if not folder.exists():
        known = ", ".join(weights.names()) or "none"
        raise ValueError(f"{given}: no such folder, and no model of the package has this name (it has: {known})")
    return folder


def load(folder: str | Path | None = None) -> Checkpoint:
    """A checkpoint or an exported bundle, ready for inference; None takes the model that comes with the package.

    A run's folder gives its checkpoint; the name of a model that comes with the package gives that model.

    Loading runs no code of the folder, whoever made it (`config/own.py`): parameters are numbers of
    safetensors, the rest is JSON. A bundle's StableHLO and ONNX are programs, and `state/` is for the run alone:
    neither is read.

    Raises:
        ValueError: not a checkpoint, nothing saved yet, parameters that do not fit the configuration (the first ones
            that differ are named) or are not finite; without a folder, no model that comes with this installation.
    """
    folder = find_folder(folder)
    description = read_description(folder)
    path = files.member(folder, PARAMETERS)
    if path is None:
        raise ValueError(f"{folder} holds no saved parameters yet: was training stopped before its first checkpoint?")
    try:
        target = jax.eval_shape(lambda: initialise(description.config, description.tasks, jax.random.key(0)))
    except Exception as error:  # each layer checks what it can: a montage without a row, a filter that leaves nothing
        raise ValueError(f"{folder / CONFIG} does not describe a network: {str(error)[:MAX_QUOTED]}") from None
    variables, notes = read_tensors(path, target)
    for name, leaf in named(variables).items():
        if not np.isfinite(leaf).all():
            raise ValueError(f"{path}: {name} holds numbers that are not finite: did training diverge?")
    step = notes.get("step", "")
    if not (step.isascii() and step.isdigit() and len(step) < 19):
        raise ValueError(f"{path}: its note `step` must be a number, given {step[:20]!r}")
    return Checkpoint(
        config=description.config,
        tasks=description.tasks,
        variables=jax.device_put(variables, jax.local_devices()[0]),
        step=int(step),
        identity=description.identity,
        thresholds=read_thresholds(folder),
        folder=folder,
    )


# --- thresholds ------------------------------------------------------------------------------------------------


def write_thresholds(folder: Path, thresholds: Thresholds | None) -> None:
    """Put thresholds beside the parameters; None removes those that are there."""
    if thresholds is None:
        (folder / OPERATING_POINTS).unlink(missing_ok=True)
        return
    tree = dataclasses.asdict(thresholds) | {"points": points_to_rows(thresholds.points)}
    files.write_json(folder / OPERATING_POINTS, tree)


def read_thresholds(folder: Path) -> Thresholds | None:
    """The thresholds of a checkpoint; None if they are not fixed yet.

    Raises:
        ValueError: a file of another form; it is named.
    """
    tree, path = _read_json(folder, OPERATING_POINTS, limit=MAX_IDENTITY_BYTES), folder / OPERATING_POINTS
    if tree is None:
        return None
    if not isinstance(tree, dict) or "points" not in tree:
        raise ValueError(f"{path} must be an object with points: `siamese-jax fix-thresholds` writes it")
    try:
        points = points_from_rows(tree["points"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return dataclasses.replace(_as(Thresholds, tree | {"points": []}, path), points=points)


# --- state -----------------------------------------------------------------------------------------------------


def open_manager(folder: Path) -> ocp.CheckpointManager:
    """Orbax's manager of the states in a checkpoint folder: keeps two steps, removes half-written ones."""
    options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True, create=True)
    (folder / STATE).mkdir(parents=True, exist_ok=True)
    path = (folder / STATE).resolve()
    return ocp.CheckpointManager(path, options=options, item_handlers=ocp.StandardCheckpointHandler())


def save_state(manager: ocp.CheckpointManager, step: int, state: PyTree) -> None:
    """Save a training state; it is on the disk when this returns."""
    manager.save(step, args=ocp.args.StandardSave(state), force=True)
    manager.wait_until_finished()


def restore_state(manager: ocp.CheckpointManager, like: PyTree) -> PyTree | None:
    """The last training state saved, or None if there is none.

    Args:
        manager: of the run's checkpoint folder.
        like: a state of the same structure, shapes and types.

    Raises:
        ValueError: what was saved is damaged, or a state of another structure.
    """
    step, folder = manager.latest_step(), Path(manager.directory).parent
    if step is None:
        if (folder / PARAMETERS).exists():
            raise ValueError(
                f"{folder} holds parameters and no state to resume from: name a new folder for the run, which may start"
                f" from these parameters: --init-from {folder}"
            )
        return None
    # Named explicitly: what was saved on eight devices must load on one.
    here = SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), like)
    try:
        # Compared first: when one of many arrays does not fit, Orbax leaves the others' reading behind unfinished.
        if changed := sorted(_shapes(target) ^ _shapes(manager.item_metadata(step).tree)):
            raise ValueError(f"other arrays: {changed[:2]}")
        return manager.restore(step, args=ocp.args.StandardRestore(target))
    except Exception as error:
        said = files.plain(str(error).partition("\n")[0])[:MAX_QUOTED]
        raise ValueError(
            f"{folder / STATE}: step {step} cannot be resumed, it is damaged or of another version ({said});"
            f" a new run may start from its parameters: --init-from {folder}"
        ) from None


def _last_step(folder: Path) -> int | None:
    there = (folder / STATE).iterdir() if (folder / STATE).is_dir() else ()
    return max((int(path.name) for path in there if path.name.isdigit()), default=None)


# --- private ---------------------------------------------------------------------------------------------------


def _shapes(tree: PyTree) -> set[str]:
    leaves = jax.tree.leaves_with_path(tree)
    return {f"{jax.tree_util.keystr(path, simple=True, separator='.')} {x.dtype}{list(x.shape)}" for path, x in leaves}


def _read_json(folder: Path, name: str, *, limit: int = files.MAX_TEXT_BYTES) -> Any:
    text = files.read_text(folder, name, limit=limit)
    return None if text is None else parse_json(text, str(folder / name))


def _as(kind: Any, tree: Any, path: Path) -> Any:
    try:
        return typed(kind, tree, path.name)
    except ValueError as error:
        raise ValueError(f"{path}: {str(error)[:MAX_QUOTED]}") from None
