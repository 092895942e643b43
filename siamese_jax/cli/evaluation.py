"""The command `evaluate`: how good a checkpoint is on shards."""

import json
from pathlib import Path

from tyro.conf import Positional

from siamese_jax.cli.console import OK, progress_bar, use_compilation_cache


def evaluate(checkpoint: Positional[Path], shards: Positional[Path], *, out: Path | None = None) -> int:
    """Fixes thresholds on SHARDS/validation, then measures on SHARDS/test, with 95 % bootstraps over patients.

    Args:
        checkpoint: From `siamese-jax train`: RUN/checkpoint. The thresholds are saved in it.
        shards: From `siamese-jax prepare`.
        out: Where the figures go as JSON; default metrics.json beside the checkpoint folder.
    """
    use_compilation_cache()
    from siamese_jax import checkpoints
    from siamese_jax.detection.score import fix_operating_points, report, report_text, score
    from siamese_jax.evaluation.metrics import points_to_json
    from siamese_jax.shards.schema import open_shards

    if checkpoints.is_bundle(checkpoint):
        raise ValueError(
            f"{checkpoint} is an exported bundle, and its thresholds stand in more than one file: evaluate the"
            " checkpoint that it came from, then export again"
        )
    loaded = checkpoints.load(checkpoint)
    scores = {}
    with progress_bar() as progress:
        for split in ("validation", "test"):
            opened = open_shards(shards / split)
            total = sum(map(len, opened))
            scores[split] = score(
                loaded.config,
                loaded.tasks,
                loaded.variables,
                opened,
                on_progress=lambda done, split=split, total=total: progress(f"evaluating {split}", done, total),
            )
    points = fix_operating_points(loaded.config, loaded.tasks, scores["validation"])
    checkpoints.write_operating_points(checkpoint, points_to_json(points))
    figures = report(loaded.config, loaded.tasks, scores["test"], points)
    figures["data"] = sorted({shard.info.source for shard in open_shards(shards / "test")})
    path = out or checkpoint.parent / "metrics.json"
    path.write_text(json.dumps(figures, indent=2) + "\n")
    print(report_text(figures))
    print(f"wrote {path}; thresholds in {checkpoint / 'operating_points.json'}")
    return OK
