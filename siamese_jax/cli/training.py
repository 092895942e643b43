"""Commands about models: `train`, `evaluate`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from siamese_jax.cli.console import OK, progress_bar, use_compilation_cache
from siamese_jax.config import Config
from siamese_jax.presets import PRESET_HELP, PRESETS

PresetConfig = Annotated[
    tyro.extras.subcommand_type_from_defaults(PRESETS, PRESET_HELP, prefix_names=False),
    tyro.conf.arg(name=""),
]
"""A preset's name on the command line, then any field of it: `small --model.fusion gated`."""


def train(
    shards: Positional[Path],
    run: Positional[Path],
    config: PresetConfig,
    *,
    devices: int | None = None,
    stop_at: int | None = None,
) -> int:
    """Trains on SHARDS/train, watching SHARDS/validation; goes on where RUN stopped.

    Args:
        shards: From `siamese-jax prepare`.
        run: Folder for checkpoint/ and training.jsonl.
        config: The experiment.
        devices: How many devices; default all there are. On a CPU, N devices are forced.
        stop_at: Save and end after this step, as a time limit would; the same command goes on.
    """
    from siamese_jax.training.parallel import choose_devices

    chosen = choose_devices(devices)
    use_compilation_cache()
    from siamese_jax.recordings.shards import open_shards
    from siamese_jax.training.loop import train as run_training

    validation = shards / "validation"
    training = tuple(open_shards(shards / "train"))
    watched = tuple(open_shards(validation)) if any(validation.glob("*.h5")) else ()
    print(
        f"training {config.model.size} {config.model.name} for {config.training.steps} steps of"
        f" {config.training.batch_size} windows on {len(chosen)} {chosen[0].platform} device(s)"
        f" by {config.training.parallel}; {len(training)} patients"
    )
    print(filter_text(config))
    with progress_bar() as progress:

        def on_step(step: int, line: Mapping[str, float]) -> None:
            text = f"loss {line['loss']:.3f}, {line['windows_per_second']:.0f} windows/s"
            progress(f"training ({text})", step, config.training.steps)

        outcome = run_training(config, training, watched, run, devices=chosen, stop_at=stop_at, on_step=on_step)
    state = "finished" if outcome.finished else "stopped; the same command goes on"
    print(f"step {outcome.step} of {config.training.steps}: {state}; {outcome.windows_per_second:.0f} windows/s")
    print(f"wrote {run / 'checkpoint'} and {run / 'training.jsonl'}")
    return OK


def evaluate(checkpoint: Positional[Path], shards: Positional[Path], *, out: Path | None = None) -> int:
    """Fixes thresholds on SHARDS/validation, then measures on SHARDS/test, with 95 % bootstraps over patients.

    Args:
        checkpoint: From `siamese-jax train`: RUN/checkpoint. The thresholds are saved in it.
        shards: From `siamese-jax prepare`.
        out: Where the figures go as JSON; default metrics.json beside the checkpoint folder.
    """
    use_compilation_cache()
    from siamese_jax import checkpoints
    from siamese_jax.evaluation.metrics import points_to_json
    from siamese_jax.recordings.shards import open_shards
    from siamese_jax.training.evaluate import fix_operating_points, report, report_text, score

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


def filter_text(config: Config) -> str:
    """The filters' gain at 0 Hz, at their edges and at the mains."""
    from siamese_jax.signals.preprocess import filter_report

    return "\n".join(
        f"filter    {kind}: " + ", ".join(f"{gain:.0f} dB at {hz:g} Hz" for hz, gain in gains.items())
        for kind, gains in filter_report(config).items()
    )
