"""A checkpoint's figures on shards: what `evaluate` of Python and of the command line share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from siamese_jax import identity
from siamese_jax.checkpoints import Checkpoint
from siamese_jax.cohort.report import refuse_unfinished
from siamese_jax.detection import score
from siamese_jax.identity import Known
from siamese_jax.recordings.sidecars import SPLITS
from siamese_jax.shards.schema import Shard, open_shards


def evaluate(
    checkpoint: Checkpoint,
    shards: Sequence[Shard],
    *,
    allow_training_patients: bool = False,
    on_warning: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[int], None] = lambda windows: None,
) -> dict[str, Any]:
    """Every figure with its 95 % bootstrap over patients; the checkpoint's thresholds are used as they are.

    Args:
        checkpoint: as loaded.
        shards: from `open_split`.
        allow_training_patients: measure on patients that the checkpoint learnt from, or its thresholds were fixed on,
            too.
        on_warning: told that there are such patients, where that is allowed.
        on_progress: told the number of windows done.

    Raises:
        ValueError: shards that do not fit the checkpoint; patients that it knows, where that is not allowed.
    """
    name, tasks = str(checkpoint.folder or "the model"), checkpoint.config.tasks
    allow, good = allow_training_patients, "figures of them are too good"
    learnt = identity.known_to(checkpoint.identity.origins, shards, tasks)
    refuse_known(learnt, f"{name} learnt from", good, allow=allow, on_warning=on_warning)
    fixed_on = () if checkpoint.thresholds is None else (checkpoint.thresholds.fixed_on,)
    fixed = identity.known_to(fixed_on, shards, tasks)
    refuse_known(fixed, f"the thresholds of {name} were fixed on", good, allow=allow, on_warning=on_warning)
    config, definitions = checkpoint.config, checkpoint.tasks
    scores = score.score(config, definitions, checkpoint.variables, list(shards), on_progress=on_progress)
    figures = score.report(config, definitions, scores, checkpoint.points)
    figures["data"] = sorted({shard.info.source for shard in shards})
    figures["thresholds"] = None if checkpoint.thresholds is None else checkpoint.thresholds.text()
    figures["training_patients"] = len(learnt.patients)
    figures["threshold_patients"] = len(fixed.patients)
    return figures


def open_split(shards: Path, split: str) -> list[Shard]:
    """The shards of one split, or of `all` that there are.

    Raises:
        ValueError: there are none, or preparing them was not finished.
    """
    refuse_unfinished(shards)
    if split != "all":
        return open_shards(shards / split)
    filled = [name for name in SPLITS if any((shards / name).glob("*.h5"))]
    return [shard for name in filled or SPLITS[:1] for shard in open_shards(shards / name)]


def refuse_known(known: Known, whose: str, so: str, *, allow: bool, on_warning: Callable[[str], None]) -> None:
    """Refuse patients that are known already, or say that they are there where that is allowed.

    Raises:
        ValueError: there are some, and it is not allowed.
    """
    if not known.patients:
        return
    text = f"{whose} {known.text()}: {so}"
    if not allow:
        raise ValueError(f"{text}. Take others, or allow it: --allow-training-patients")
    on_warning(text)
