"""Commands that measure a checkpoint on shards: `fix-thresholds`, `evaluate`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from siamese_jax import files
from siamese_jax.cli.console import OK, progress_bar, use_compilation_cache

if TYPE_CHECKING:
    from siamese_jax.checkpoints import Checkpoint, Thresholds
    from siamese_jax.detection.score import Scores
    from siamese_jax.shards.schema import Shard

INTERFACE = "interface.json"
"""Of an exported bundle: it holds the thresholds, too."""


CheckpointArgument = Annotated[Path, Positional, tyro.conf.arg(metavar="CHECKPOINT")]
ShardsArgument = Annotated[Path, Positional, tyro.conf.arg(metavar="SHARDS")]


def fix_thresholds(
    checkpoint: CheckpointArgument, shards: ShardsArgument, *, allow_training_patients: bool = False
) -> int:
    """Fixes a checkpoint's thresholds on SHARDS/validation; `evaluate` and `detect` use them as they are.

    Example: siamese-jax fix-thresholds runs/mine shards

    Args:
        checkpoint: Run or checkpoint of `siamese-jax train`; the thresholds are saved in it.
        shards: From `siamese-jax prepare`.
        allow_training_patients: Use patients that the checkpoint learnt from, too; thresholds of them suit no others.
    """
    use_compilation_cache()
    from siamese_jax import checkpoints, identity, weights
    from siamese_jax.detection.evaluation import open_split, refuse_known
    from siamese_jax.detection.score import fix_operating_points

    folder = checkpoints.find_folder(checkpoint)
    if weights.is_ours(folder):
        raise ValueError(f"{folder} comes with the package and stays as it is: fix the thresholds of a copy")
    if files.member(folder, INTERFACE):
        raise ValueError(
            f"{folder} is an exported bundle, and its thresholds stand in more than one file: fix those of the"
            " checkpoint that it came from, then export again"
        )
    loaded = checkpoints.load(folder)
    opened = open_split(shards, "validation")
    known = identity.known_to(loaded.identity.origins, opened, loaded.config.tasks)
    so = "thresholds of them suit no others"
    refuse_known(known, f"{folder} learnt from", so, allow=allow_training_patients, on_warning=print_warning)
    scores = _scores(loaded, opened, "fixing thresholds")
    fixed = checkpoints.Thresholds(
        fix_operating_points(loaded.config, loaded.tasks, scores),
        identity.origin_of(opened, loaded.config.tasks),
        *identity.now(),
    )
    checkpoints.write_thresholds(folder, fixed)
    print("\n".join(thresholds_text(fixed)))
    print(f"wrote {folder / checkpoints.OPERATING_POINTS}")
    return OK


def print_warning(text: str) -> None:
    """A line on what the user should know before the figures."""
    print(f"warning   {text}")


def thresholds_text(thresholds: "Thresholds") -> list[str]:
    """Every threshold with the false events an hour that it gave, and what they were fixed on."""
    lines = []
    for point in thresholds.points:
        found = "none: no positive" if math.isnan(point.threshold) else f"{point.threshold:.3f}  {point.rate_text()}"
        lines.append(f"  {point.task:<12} {point.criterion:<19} {found}".rstrip())
    return [*lines, f"  thresholds {thresholds.text()}"]


def evaluate(
    checkpoint: CheckpointArgument,
    shards: ShardsArgument,
    *,
    split: Literal["train", "validation", "test", "all"] = "test",
    allow_training_patients: bool = False,
    out: Path | None = None,
) -> int:
    """Measures a checkpoint on SHARDS/test, with 95 % bootstraps over patients; its thresholds stay as they are.

    Example: siamese-jax evaluate runs/mine shards

    Args:
        checkpoint: Run, checkpoint, exported bundle, or name of a model of the package.
        shards: From `siamese-jax prepare`.
        split: Which patients of SHARDS; all of them, of recordings from elsewhere.
        allow_training_patients: Measure on patients that it learnt from, or its thresholds were fixed on, too.
        out: Where the figures go as JSON; default metrics.json beside the checkpoint folder.
    """
    use_compilation_cache()
    from siamese_jax import checkpoints, weights
    from siamese_jax.detection.evaluation import evaluate as run_evaluation
    from siamese_jax.detection.evaluation import open_split
    from siamese_jax.detection.score import report_text

    folder = checkpoints.find_folder(checkpoint)
    if out is None and weights.is_ours(folder):
        raise ValueError(f"{folder} comes with the package, where nothing is written: say where figures go, --out")
    loaded, opened = checkpoints.load(folder), open_split(shards, split)
    total = sum(map(len, opened))
    with progress_bar() as progress:
        figures = run_evaluation(
            loaded,
            opened,
            allow_training_patients=allow_training_patients,
            on_warning=print_warning,
            on_progress=lambda done: progress("evaluating", done, total),
        )
    path = out or folder.parent / "metrics.json"
    files.write_json(path, figures)
    print(report_text(figures))
    if loaded.thresholds is None:
        print(f"no thresholds yet: `siamese-jax fix-thresholds {folder} SHARDS` fixes them on validation patients")
    print(f"wrote {path}")
    return OK


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
