"""Training a network inside a job, and the code that decides what it predicts."""

from collections.abc import Callable, Sequence
from pathlib import Path

from siamese_jax.checkpoints import Checkpoint, load
from siamese_jax.config.experiment import Config
from siamese_jax.shards.schema import Shard
from siamese_jax.training.loop import train
from siamese_jax.training.parallel import Device

CODE = (
    *("siamese_jax/config/experiment.py", "siamese_jax/config/sections.py", "siamese_jax/vocabulary.py"),
    *("siamese_jax/signals", "siamese_jax/models", "siamese_jax/pipeline.py", "siamese_jax/detection/predict.py"),
    *("siamese_jax/training/loop.py", "siamese_jax/training/losses.py", "siamese_jax/training/parallel.py"),
    *("siamese_jax/training/step.py", "siamese_jax/training/transfer.py"),
    *("siamese_jax/shards/batches.py", "siamese_jax/shards/schema.py"),
    *("siamese_jax/recordings/windows.py", "siamese_jax/recordings/recording.py"),
)
"""What decides the predictions of a network, beside its configuration and its shards."""
SHARDS_CODE = ("siamese_jax/cohort/prepare.py", "siamese_jax/recordings", "siamese_jax/shards")
"""What decides shards, beside their source and configuration."""


def trained(
    config: Config,
    shards: Sequence[Shard],
    workdir: Path,
    *,
    devices: list[Device],
    init_from: Checkpoint | None = None,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> Checkpoint:
    """A network trained on some shards; a training that `workdir` holds a part of is resumed.

    Raises:
        ValueError, FloatingPointError: as `siamese_jax.training.loop.train`.
        KeyboardInterrupt: the training was told to stop; what was done is saved.
    """

    def on_step(step: int, _: dict[str, float]) -> None:
        progress(step, config.training.steps)

    outcome = train(config, tuple(shards), (), workdir, devices=devices, init_from=init_from, on_step=on_step)
    if not outcome.finished:
        raise KeyboardInterrupt
    return load(workdir / "checkpoint")
