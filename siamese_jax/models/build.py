"""From a configuration to a model: the one list of models there are."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import PyTree

from siamese_jax.config.experiment import Config
from siamese_jax.config.own import is_own, own_object
from siamese_jax.models.aied import AiED
from siamese_jax.models.cnn_lstm import CnnLstm
from siamese_jax.models.eegformer import EEGformer
from siamese_jax.models.eegnet import EEGNet
from siamese_jax.models.nepinet import NEpiNet
from siamese_jax.models.resnet1d import ResNet1d
from siamese_jax.models.siamese_es import SiameseES, is_frozen
from siamese_jax.models.spikenet import SpikeNet
from siamese_jax.models.vgg16 import VGG16
from siamese_jax.vocabulary import TaskSpec

MODELS: dict[str, type[nn.Module]] = {
    "siamese_es": SiameseES,
    "resnet1d": ResNet1d,
    "vgg16": VGG16,
    "aied": AiED,
    "nepinet": NEpiNet,
    "eegnet": EEGNet,
    "cnn_lstm": CnnLstm,
    "eegformer": EEGformer,
    "spikenet": SpikeNet,
}


def build_model(config: Config, tasks: Sequence[TaskSpec], *, axis: str | None = None) -> nn.Module:
    """The model that `config` names, with a head for each task of `config.tasks`.

    A network of `MODELS`, or the user's own: a Flax module of the fields `config`, `tasks` and `axis`.

    It takes `maps` and `row_present`, and gives the `Logits` of a batch. `maps` is what the converter gives, with
    `context_frames` more frames on both sides; what it holds of rows that are not present is 0, or not looked at. In
    training it takes `keys` too, a random key a sample; without them it uses running statistics and no dropout.

    Args:
        config: the experiment.
        tasks: what the shards (or the checkpoint) define; those that `config.tasks` does not name get no head.
        axis: device axis over which batch statistics are shared, or None.

    Raises:
        ValueError: `config.tasks` names a task that `tasks` lacks; an own network that is not imported, or is none.
    """
    name, heads = config.model.name, chosen_tasks(config, tasks)
    if not is_own(name):
        return MODELS[name](config, heads, axis)
    network = own_object(name, "model.name")
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise ValueError(f"model.name is {name!r}, which is no class of flax.linen.Module")
    return network(config=config, tasks=heads, axis=axis)


def is_own_network(config: Config) -> bool:
    """Whether the network is the user's own."""
    return is_own(config.model.name)


def check_logits(config: Config, tasks: Sequence[TaskSpec], logits: Any) -> None:
    """Refuse what a network gives for a batch of 1 if it is not what the configuration says.

    Raises:
        ValueError: other tasks, shapes or types; what is wanted is named.
    """
    for task in chosen_tasks(config, tasks):
        wanted: dict[str, tuple[int, ...]] = {"window": (1, task.n_logits)}
        if config.keeps_frames:
            wanted["frame"] = (1, config.n_frames, task.n_logits)
        for part, shape in wanted.items():
            given = getattr(logits, part, {}).get(task.name)
            if given is None or given.shape != shape:
                there = "nothing" if given is None else f"the shape {given.shape}"
                raise ValueError(
                    f"model.name={config.model.name!r} must give Logits.{part}[{task.name!r}] of shape {shape} for one"
                    f" window with model.pooling={config.model.pooling!r}, and gives {there}"
                )


def chosen_tasks(config: Config, tasks: Sequence[TaskSpec]) -> tuple[TaskSpec, ...]:
    """Those of `tasks` that `config.tasks` names, in its order.

    Raises:
        ValueError: `config.tasks` names a task that `tasks` lacks.
    """
    by_name = {task.name: task for task in tasks}
    missing = [name for name in config.tasks if name not in by_name]
    if missing:
        raise ValueError(f"tasks={config.tasks}: no definition of {missing}; there are {sorted(by_name)}")
    return tuple(by_name[name] for name in config.tasks)


def frozen_parameters(config: Config, params: PyTree) -> PyTree[bool]:
    """Which parameters `config.freeze` keeps as they are: a tree like `params`, True where frozen.

    Heads and fusion never are. In training, frozen parts run on their running batch statistics and leave them alone.

    Args:
        config: the experiment.
        params: of a model that `build_model` made from it.
    """
    return {name: jax.tree.map(lambda _, name=name: is_frozen(config, name), tree) for name, tree in params.items()}
