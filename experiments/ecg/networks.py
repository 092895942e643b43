"""One network of the experiment: which classes it has heads for, how it is trained, what it predicts."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float32, Int

from experiments import training
from experiments.ecg.records import Classes, Records, Split
from experiments.runner import Arrays, Job
from siamese_jax.config.experiment import Config
from siamese_jax.detection.predict import make_predictor, predict_batches, probabilities
from siamese_jax.pipeline import Variables, initialise
from siamese_jax.shards.batches import Batch
from siamese_jax.training.step import create_state, make_train_step
from siamese_jax.vocabulary import TaskSpec

ALL, RARE, SINGLE = "all", "rare", "single"
ARMS = (ALL, RARE, SINGLE)
"""One network with heads for all classes; one with heads for the rare ones; one network for each rare class."""
PREDICTED_AT_ONCE = 64
CODE = (*training.CODE, "experiments/ecg/networks.py")


class Network(NamedTuple):
    """A network of an arm, and the classes that it has heads for."""

    arm: str
    classes: tuple[int, ...]


def networks(classes: Classes) -> tuple[Network, ...]:
    """Those that each split needs."""
    single = tuple(Network(SINGLE, (c,)) for c in classes.rare)
    return (Network(ALL, classes.every), Network(RARE, classes.rare), *single)


def prediction_job(config: Config, records: Records, split: Split, network: Network) -> Job:
    """The training of a network on a split's training windows.

    Its answer is `probability` [window, class] of the network's classes, of the validation windows, then of the test
    windows.
    """
    names, columns = _names(network), list(network.classes)

    def work(folder: Path) -> Arrays:
        seed = 1000 * split.repeat + split.fold
        variables = fit(config, names, records, split.train, network.classes, seed=seed)
        windows = np.concatenate([split.validation, split.test])
        return {"probability": predict(config, names, variables, records, windows)}

    digest = hashlib.sha256()
    for part in (*split[2:], records.labels[:, columns], records.weights[:, columns]):
        digest.update(np.ascontiguousarray(part).tobytes())
    own = json.loads(_with_tasks(config, names).to_json())
    name = f"{network.arm} {', '.join(records.classes[c] for c in columns)}, repeat {split.repeat}, fold {split.fold}"
    return Job(name, [own, records.digest, split.repeat, split.fold, digest.hexdigest()], CODE, work)


def task_specs(names: Sequence[str]) -> tuple[TaskSpec, ...]:
    """A binary task a class: so each has weights of its own, 0 where nobody looked for it."""
    return tuple(TaskSpec(name, "binary", ("absent", name)) for name in names)


def fit(
    config: Config,
    names: tuple[str, ...],
    records: Records,
    windows: Int[np.ndarray, "_train"],
    classes: Sequence[int],
    *,
    seed: int,
) -> Variables:
    """Averaged parameters after `config.training.steps` updates.

    Initial parameters, the windows of each batch and their augmentation are decided by the seed and the windows, not by
    the classes: networks of different arms see the same.

    Args:
        config: of all networks; its tasks do not count.
        names: of the classes.
        records: labels and signals.
        windows: to learn from.
        classes: their places in `records`.
        seed: of everything.
    """
    begin, step = _compiled(_with_tasks(config, names), names)
    state = begin(jax.random.key(seed))
    for number in range(config.training.steps):
        state, _ = step(state, _batch(config, names, records, windows, classes, number, seed))
    return state.ema


def predict(
    config: Config,
    names: tuple[str, ...],
    variables: Variables,
    records: Records,
    windows: Int[np.ndarray, "window"],
) -> Float32[np.ndarray, "window _class"]:
    """Probability of each class of some windows."""
    tasks = task_specs(names)
    predictor = make_predictor(_with_tasks(config, names), tasks)

    def batches():
        for start in range(0, len(windows), PREDICTED_AT_ONCE):
            some = windows[start : start + PREDICTED_AT_ONCE]
            filled = np.pad(some, (0, PREDICTED_AT_ONCE - len(some)), mode="edge")
            yield records.eeg[filled], records.present[filled], len(some)

    parts = [
        np.concatenate([probabilities(task, np.asarray(logits.window[task.name])) for task in tasks], 1)
        for logits in predict_batches(predictor, variables, batches())
    ]
    return np.concatenate(parts)


def _batch(
    config: Config,
    names: tuple[str, ...],
    records: Records,
    windows: Int[np.ndarray, "_train"],
    classes: Sequence[int],
    number: int,
    seed: int,
) -> Batch:
    """Batch `number` of a stream of passes, as `siamese_jax.shards.batches.stream` orders them."""
    size = config.training.batch_size
    position = number * size + np.arange(size)
    passes = position // len(windows)
    order = {k: np.random.default_rng([seed, k]).permutation(windows) for k in np.unique(passes).tolist()}
    rows = np.array([order[k][i] for k, i in zip(passes, position % len(windows), strict=True)])
    return Batch(
        eeg=records.eeg[rows],
        present=records.present[rows],
        labels={name: records.labels[rows, c] for name, c in zip(names, classes, strict=True)},
        weights={name: records.weights[rows, c] for name, c in zip(names, classes, strict=True)},
        bags={},
        sample=((position + (seed << 16)) % 2**32).astype(np.uint32),
    )


def _names(network: Network) -> tuple[str, ...]:
    """Equal names for equal heads: the networks of single classes are compiled once."""
    return tuple(f"class{i}" for i in range(len(network.classes)))


def _with_tasks(config: Config, names: tuple[str, ...]) -> Config:
    return dataclasses.replace(config, tasks=names)


@lru_cache(maxsize=4)
def _compiled(config: Config, names: tuple[str, ...]) -> tuple[Any, Any]:
    tasks = task_specs(names)
    begin = jax.jit(lambda key: create_state(config, tasks, initialise(config, tasks, key)))
    return begin, jax.jit(make_train_step(config, tasks, axis=None), donate_argnums=0)
