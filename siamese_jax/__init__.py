"""siamese-jax: interictal epileptiform discharges and sleep stages from scalp EEG, in JAX.

The public names resolve on first use, so that importing a room for the host alone does not import JAX.
"""

import importlib
from typing import Any

_HOME = {
    "Config": "siamese_jax.config.experiment",
    "PAPER": "siamese_jax.config.presets",
    "SMALL": "siamese_jax.config.presets",
    "build_model": "siamese_jax.models.build",
    "detect": "siamese_jax.detection.detect",
    "load": "siamese_jax.checkpoints",
    "read_recording": "siamese_jax.recordings.edf",
    "recording_from_array": "siamese_jax.recordings.recording",
}
__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'siamese_jax' has no attribute {name!r}; there are {__all__}")
    return getattr(importlib.import_module(_HOME[name]), name)
