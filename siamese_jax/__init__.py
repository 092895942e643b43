"""siamese-jax: interictal epileptiform discharges and sleep stages from scalp EEG, in JAX.

The public names resolve on first use, so that importing a part for the host alone does not import JAX.
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siamese_jax.api import config_for as config_for
    from siamese_jax.api import detect as detect
    from siamese_jax.api import evaluate as evaluate
    from siamese_jax.api import train as train
    from siamese_jax.checkpoints import Checkpoint as Checkpoint
    from siamese_jax.checkpoints import load as load
    from siamese_jax.cohort.arrays import shards_from_arrays as shards_from_arrays
    from siamese_jax.config.experiment import Config as Config
    from siamese_jax.config.presets import PAPER as PAPER
    from siamese_jax.config.presets import PRESETS as PRESETS
    from siamese_jax.config.presets import SMALL as SMALL
    from siamese_jax.config.sections import ConverterConfig as ConverterConfig
    from siamese_jax.config.sections import DataConfig as DataConfig
    from siamese_jax.config.sections import ModelConfig as ModelConfig
    from siamese_jax.config.sections import PreprocessConfig as PreprocessConfig
    from siamese_jax.config.sections import TrainingConfig as TrainingConfig
    from siamese_jax.detection.found import Found as Found
    from siamese_jax.evaluation.events import find_events as find_events
    from siamese_jax.models.blocks import Logits as Logits
    from siamese_jax.models.build import build_model as build_model
    from siamese_jax.pipeline import forward as forward
    from siamese_jax.recordings.read import read_recording as read_recording
    from siamese_jax.recordings.recording import Recording as Recording
    from siamese_jax.recordings.recording import recording_from_array as recording_from_array
    from siamese_jax.signals.augment import augment as augment
    from siamese_jax.signals.converter import convert as convert
    from siamese_jax.signals.preprocess import preprocess as preprocess
    from siamese_jax.vocabulary import TaskSpec as TaskSpec

_HOME = {
    "Checkpoint": "siamese_jax.checkpoints",
    "Config": "siamese_jax.config.experiment",
    "ConverterConfig": "siamese_jax.config.sections",
    "DataConfig": "siamese_jax.config.sections",
    "Found": "siamese_jax.detection.found",
    "Logits": "siamese_jax.models.blocks",
    "ModelConfig": "siamese_jax.config.sections",
    "PAPER": "siamese_jax.config.presets",
    "PRESETS": "siamese_jax.config.presets",
    "PreprocessConfig": "siamese_jax.config.sections",
    "Recording": "siamese_jax.recordings.recording",
    "SMALL": "siamese_jax.config.presets",
    "TaskSpec": "siamese_jax.vocabulary",
    "TrainingConfig": "siamese_jax.config.sections",
    "augment": "siamese_jax.signals.augment",
    "build_model": "siamese_jax.models.build",
    "config_for": "siamese_jax.api",
    "convert": "siamese_jax.signals.converter",
    "detect": "siamese_jax.api",
    "evaluate": "siamese_jax.api",
    "find_events": "siamese_jax.evaluation.events",
    "forward": "siamese_jax.pipeline",
    "load": "siamese_jax.checkpoints",
    "preprocess": "siamese_jax.signals.preprocess",
    "read_recording": "siamese_jax.recordings.read",
    "recording_from_array": "siamese_jax.recordings.recording",
    "shards_from_arrays": "siamese_jax.cohort.arrays",
    "train": "siamese_jax.api",
}
__all__ = ["__version__", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]
__version__ = version("siamese-jax")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'siamese_jax' has no attribute {name!r}; there are {__all__}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
