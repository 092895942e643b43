"""Commands that measure a checkpoint on shards: `fix-thresholds`, `evaluate`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from siamese_jax import files
from siamese_jax.cli.console import OK, progress_bar, use_compilation_cache

if TYPE_CHECKING:
    from siamese_jax.checkpoints import Checkpoint, Thresholds
    from siamese_jax.detection.score import Scores
    from siamese_jax.identity import Known
    from siamese_jax.shards.schema import Shard

INTERFACE = "interface.json"
"""Of an exported bundle: it holds the thresholds, too."""


def fix_thresholds(
    checkpoint: Positional[Path], shards: Positional[Path], *, allow_training_patients: bool = False
) -> int:
    """Fixes a checkpoint's thresholds on SHARDS/validation; `evaluate` and `detect` use them as they are.

    Args:
        checkpoint: From `siamese-jax train`: RUN/checkpoint. The thresholds are saved in it.
        shards: From `siamese-jax prepare`.
        allow_training_patients: Use patients that the checkpoint learnt from, too; thresholds of them suit no others.
    """
    use_compilation_cache()
    from siamese_jax import checkpoints, identity, weights
    from siamese_jax.detection.score import fix_operating_points

    if weights.is_ours(checkpoint):
        raise ValueError(f"{checkpoint} comes with the package and stays as it is: fix the thresholds of a copy")
    if files.member(checkpoint, INTERFACE):
        raise ValueError(
            f"{checkpoint} is an exported bundle, and its thresholds stand in more than one file: fix those of the"
            " checkpoint that it came from, then export again"
        )
    loaded = checkpoints.load(checkpoint)
    opened = open_split(shards, "validation")
    known = identity.known_to(loaded.identity.origins, opened, loaded.config.tasks)
    warn(known, f"{checkpoint} learnt from", "thresholds of them suit no others", allow=allow_training_patients)
    scores = _scores(loaded, opened, "fixing thresholds")
    fixed = checkpoints.Thresholds(
        fix_operating_points(loaded.config, loaded.tasks, scores),
        identity.origin_of(opened, loaded.config.tasks),
        *identity.now(),
    )
    checkpoints.write_thresholds(checkpoint, fixed)
    print("\n".join(thresholds_text(fixed)))
    print(f"wrote {checkpoint / checkpoints.OPERATING_POINTS}")
    return OK


def thresholds_text(thresholds: "Thresholds") -> list[str]:
    """Every threshold with the false events an hour that it gave, and what they were fixed on."""
    lines = []
    for point in thresholds.points:
        found = "none: no positive" if math.isnan(point.threshold) else f"{point.threshold:.3f}  {point.rate_text()}"
        lines.append(f"  {point.task:<12} {point.criterion:<19} {found}".rstrip())
    return [*lines, f"  thresholds {thresholds.text()}"]


def evaluate(
    checkpoint: Positional[Path],
    shards: Positional[Path],
    *,
    split: Literal["train", "validation", "test", "all"] = "test",
    allow_training_patients: bool = False,
    out: Path | None = None,
) -> int:
    """Measures a checkpoint on SHARDS/test, with 95 % bootstraps over patients; its thresholds stay as they are.

    Args:
        checkpoint: From `siamese-jax train`, RUN/checkpoint; or a folder that `siamese-jax export` wrote.
        shards: From `siamese-jax prepare`.
        split: Which patients of SHARDS; all of them, of recordings from elsewhere.
        allow_training_patients: Measure on patients that the checkpoint learnt from, or its thresholds were fixed on,
            too; the result says so.
        out: Where the figures go as JSON; default metrics.json beside the checkpoint folder.
    """
    use_compilation_cache()
    from siamese_jax import checkpoints, identity, weights
    from siamese_jax.detection.score import report, report_text

    if out is None and weights.is_ours(checkpoint):
        raise ValueError(f"{checkpoint} comes with the package, where nothing is written: say where figures go, --out")

    loaded = checkpoints.load(checkpoint)
    opened = open_split(shards, split)
    tasks, allow, good = loaded.config.tasks, allow_training_patients, "figures of them are too good"
    learnt = identity.known_to(loaded.identity.origins, opened, tasks)
    warn(learnt, f"{checkpoint} learnt from", good, allow=allow)
    fixed_on = () if loaded.thresholds is None else (loaded.thresholds.fixed_on,)
    fixed = identity.known_to(fixed_on, opened, tasks)
    warn(fixed, f"the thresholds of {checkpoint} were fixed on", good, allow=allow)
    figures = report(loaded.config, loaded.tasks, _scores(loaded, opened, "evaluating"), loaded.points)
    figures["data"] = sorted({shard.info.source for shard in opened})
    figures["thresholds"] = None if loaded.thresholds is None else loaded.thresholds.text()
    figures["training_patients"] = len(learnt.patients)
    figures["threshold_patients"] = len(fixed.patients)
    path = out or checkpoint.parent / "metrics.json"
    files.write_json(path, figures)
    print(report_text(figures))
    if loaded.thresholds is None:
        print(f"no thresholds yet: `siamese-jax fix-thresholds {checkpoint} SHARDS` fixes them on validation patients")
    print(f"wrote {path}")
    return OK


def open_split(shards: Path, split: str) -> list["Shard"]:
    """The shards of one split, or of all that there are.

    Raises:
        ValueError: there are none, or preparing them was not finished.
    """
    from siamese_jax.cohort.report import refuse_unfinished
    from siamese_jax.recordings.sidecars import SPLITS
    from siamese_jax.shards.schema import open_shards

    refuse_unfinished(shards)
    if split != "all":
        return open_shards(shards / split)
    filled = [name for name in SPLITS if any((shards / name).glob("*.h5"))]
    return [shard for name in filled or SPLITS[:1] for shard in open_shards(shards / name)]


def warn(known: "Known", whose: str, so: str, *, allow: bool) -> None:
    """Refuse patients that are known already, or print that they are there where that is allowed.

    Raises:
        ValueError: there are some, and it is not allowed.
    """
    if not known.patients:
        return
    text = f"{whose} {known.text()}: {so}"
    if not allow:
        raise ValueError(f"{text}. Take others, or allow it: --allow-training-patients")
    print(f"warning   {text}")


def _scores(loaded: "Checkpoint", shards: list["Shard"], what: str) -> "Scores":
    from siamese_jax.detection.score import score

    total = sum(map(len, shards))
    with progress_bar() as progress:
        return score(
            loaded.config,
            loaded.tasks,
            loaded.variables,
            shards,
            on_progress=lambda done: progress(what, done, total),
        )
