"""One network of the experiment: which classes it has heads for, how it is trained, what it answers; done once."""

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float32, Int

from experiments.ecg.records import Classes, Records, Split
from siamese_jax.config.experiment import Config
from siamese_jax.detection.predict import make_predictor, predict_batches, probabilities
from siamese_jax.forward import Variables, initialise
from siamese_jax.shards.batches import Batch
from siamese_jax.training.step import create_state, make_train_step
from siamese_jax.vocabulary import TaskSpec

ALL, RARE, SINGLE = "all", "rare", "single"
ARMS = (ALL, RARE, SINGLE)
"""One network with heads for all classes; one with heads for the rare ones; one network for each rare class."""
PREDICTED_AT_ONCE = 64


class Network(NamedTuple):
    """A network of an arm, and the classes that it has heads for."""

    arm: str
    classes: tuple[int, ...]


def networks(classes: Classes) -> tuple[Network, ...]:
    """Those that each split needs."""
    single = tuple(Network(SINGLE, (c,)) for c in classes.rare)
    return (Network(ALL, classes.every), Network(RARE, classes.rare), *single)


def answers(
    config: Config, records: Records, split: Split, network: Network, cache: Path
) -> Float32[np.ndarray, "window _class"]:
    """Probabilities of the network's classes on the validation windows, then on the test windows.

    Trained on the training windows alone; read from `cache` if that was done before with the same configuration,
    data and code.
    """
    path = cache / f"{network.arm}-{split.repeat}-{split.fold}-{_key(config, records, split, network)}.npy"
    if path.exists():
        return np.load(path)
    names = _names(network)
    seed = 1000 * split.repeat + split.fold
    variables = fit(config, names, records, split.train, network.classes, seed=seed)
    found = predict(config, names, variables, records, np.concatenate([split.validation, split.test]))
    cache.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.save(file, found)
    temporary.replace(path)
    return found


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

    Initial parameters, the windows of each batch and their augmentation hang on the seed and the windows, not on the
    classes: networks of different arms see the same.

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
    """Batch `number` of a stream of passes, as `recordings.batches.stream` deals them out."""
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


@lru_cache(maxsize=4)
def _program(config: Config, names: tuple[str, ...]) -> str:
    """The code that answers hang on, as what it becomes: a change that changes nothing trains nothing anew."""
    begin, step = _compiled(config, names)
    key, size, length = jax.random.key(0), config.training.batch_size, config.n_times + 2 * config.margin
    n_leads = len(config.data.ch_names)
    of_class = {name: np.zeros(size, np.float32) for name in names}
    batch = Batch(
        eeg=np.zeros((size, length, n_leads), np.float32),
        present=np.ones((size, n_leads), bool),
        labels=of_class,
        weights=of_class,
        sample=np.zeros(size, np.uint32),
    )
    state: Any = jax.eval_shape(begin, key)
    predictor: Any = make_predictor(config, task_specs(names))
    lowered = (begin.lower(key), step.lower(state, batch), predictor.lower(state.ema, batch.eeg, batch.present))
    return "".join([inspect.getsource(_batch), *(program.as_text() for program in lowered)])


def _key(config: Config, records: Records, split: Split, network: Network) -> str:
    """Hash of all that answers hang on."""
    columns = list(network.classes)
    names = _names(network)
    settings = [_program(_with_tasks(config, names), names), records.digest, split.repeat, split.fold]
    digest = hashlib.sha256(json.dumps([config.training.steps, *settings]).encode())
    for part in (*split[2:], records.labels[:, columns], records.weights[:, columns]):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:20]
