"""From a configuration to a model: the one list of models there are."""

from collections.abc import Sequence

import flax.linen as nn
import jax
from jaxtyping import PyTree

from siamese_jax.config.experiment import Config
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

    It takes `maps` and `row_present`, and gives the `Logits` of a batch. `maps` is what the converter gives, with
    `context_frames` more frames on both sides; what it holds of rows that are not present is 0, or not looked at. In
    training it takes `keys` too, a random key a sample; without them it uses running statistics and no dropout.

    Args:
        config: the experiment.
        tasks: what the shards (or the checkpoint) define; those that `config.tasks` does not name get no head.
        axis: device axis over which batch statistics are shared, or None.

    Raises:
        ValueError: `config.tasks` names a task that `tasks` lacks.
    """
    return MODELS[config.model.name](config, chosen_tasks(config, tasks), axis)


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
