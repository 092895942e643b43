"""What each part of the recipe of the package's model adds: `python -m experiments.ingredients MADE REAL OUT`.

Trains the same network with one part left out at a time, on the shards that `experiments.weights` made, and scores each
on the real sets of `experiments.real`. Writes OUT/ingredients.md and ingredients.json. The same command resumes.
"""

import dataclasses
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro

from experiments import training
from experiments.pages import UNDEFINED, number, table, write_page
from experiments.provenance import made_by
from experiments.real.figures import evaluate_scorers
from experiments.real.page import ROWS
from experiments.real.scorers import Scorer, checkpoint_scorer, ensemble_scorer
from experiments.runner import Arrays, Job, Runner
from experiments.training import trained
from experiments.weights import LEARNING
from siamese_jax.checkpoints import load
from siamese_jax.cli.console import OK, run, use_compilation_cache
from siamese_jax.config.experiment import Config
from siamese_jax.config.presets import SMALL
from siamese_jax.shards.schema import Shard, open_shards
from siamese_jax.training.parallel import choose_devices

CODE = (*training.CODE, "experiments/real/figures.py", "experiments/real/sets.py", "experiments/real/scorers.py")
FIGURES = tuple(key for key in ROWS if not key.startswith(("snippets", "eegmat")))
"""Those that need no threshold: a training this short has none fixed."""


class Variant(NamedTuple):
    """A training: flags that replace those of the recipe, and which shards it learns from."""

    flags: Sequence[str] = ()
    learns_from: Callable[[Shard], bool] = lambda shard: True


def _is_simulated(shard: Shard) -> bool:
    return _name(shard).startswith("simulated/")


def _is_early(shard: Shard, most: int) -> bool:
    """Whether it is of real backgrounds, or of one of the first simulated patients."""
    return not _is_simulated(shard) or int(_name(shard).removeprefix("simulated/SIM").partition(".")[0]) <= most


def _name(shard: Shard) -> str:
    return str(shard.recordings["name"][0])


VARIANTS = {
    "the recipe": Variant(),
    "without faults and limit": Variant(("--training.faults", "0", "--preprocess.limit-uv", "None")),
    "without the loss by frame": Variant(("--training.frame-weight", "0")),
    "without missing electrodes": Variant(("--training.electrode-dropout", "0")),
    "without implants in real EEG": Variant(learns_from=_is_simulated),
    "25 simulated patients": Variant(learns_from=partial(_is_early, most=25)),
    "100 simulated patients": Variant(learns_from=partial(_is_early, most=100)),
}


def main(
    made: Annotated[Path, tyro.conf.Positional],
    real: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    *,
    steps: int = 800,
    seeds: int = 3,
    only: tuple[str, ...] = (),
) -> int:
    """Train with one part of the recipe left out at a time, and score real recordings.

    Args:
        made: The folder OUT of experiments.weights: its shards are learnt from.
        real: Folder of real recordings, as for experiments.real.
        out: Folder for ingredients.md, ingredients.json and the trainings.
        steps: Updates of each training.
        seeds: Trainings of each variant.
        only: Names of variants to run; default all.
    """
    use_compilation_cache()
    if unknown := [name for name in only if name not in VARIANTS]:
        raise ValueError(f"no variants {unknown}: there are {list(VARIANTS)}")
    shards, runner = tuple(open_shards(made / "shards" / "train")), Runner(out)
    names = only or tuple(VARIANTS)
    cases = [(name, seed) for seed in range(seeds) for name in names]
    done = runner.do_all([_job(name, seed, shards, real, steps) for name, seed in cases])
    values = {name: [d.answer for (other, _), d in zip(cases, done, strict=True) if other == name] for name in names}
    together = [d.folder / "run" / "checkpoint" for (name, _), d in zip(cases, done, strict=True) if name == names[0]]
    if len(together) > 1:
        scorer = ensemble_scorer([checkpoint_scorer(load(path)) for path in together])
        values[f"{names[0]}: mean log-odds of its {len(together)} networks"] = [_figures(real, scorer)]
    tree = {
        "what": "Parts of the recipe, left out one at a time",
        **made_by(shlex.join(["python", "-m", "experiments.ingredients", *sys.argv[1:]])),
        "steps": steps,
        "seeds": seeds,
        "cpu_seconds": round(sum(d.cpu_seconds for d in done)),
        "figures": {name: {key: [float(own[key]) for own in rows] for key in FIGURES} for name, rows in values.items()},
    }
    write_page(out, "ingredients", tree, page)
    return OK


def _job(name: str, seed: int, shards: Sequence[Shard], real: Path, steps: int) -> Job:
    variant = VARIANTS[name]
    mine = [shard for shard in shards if variant.learns_from(shard)]
    flags = [*LEARNING, *variant.flags, "--training.steps", str(steps), "--training.warmup-steps", str(steps // 24)]
    flags += ["--training.seed", str(seed), "--training.evaluate-every", str(steps)]
    config = tyro.cli(Config, default=SMALL, args=flags)

    def work(folder: Path) -> Arrays:
        checkpoint = trained(config, mine, folder / "run", devices=choose_devices(1))
        return _figures(real, checkpoint_scorer(checkpoint))

    decides = {"config": config.to_json(), "shards": [shard.info.fingerprint for shard in mine], "real": str(real)}
    return Job(f"{name}, seed {seed}", decides, CODE, work)


def _figures(real: Path, scorer: Scorer) -> Arrays:
    """The figures of a scorer that has no threshold."""
    found = evaluate_scorers(real, {"it": dataclasses.replace(scorer, threshold=None)})["figures"]["it"]
    return {key: np.array(found[key]["value"] if key in found else np.nan) for key in FIGURES}


def page(tree: Mapping[str, Any]) -> str:
    """One table: the mean over seeds, and the lowest and highest."""
    rows = [(name, *(_cell(figures[key]) for key in FIGURES)) for name, figures in tree["figures"].items()]
    return "\n".join(
        [
            f"# {tree['what']}",
            "",
            "REAL recordings, none of which any of these networks learnt from. Means over"
            f" {tree['seeds']} trainings of {tree['steps']} updates each; in brackets the lowest and the highest. The"
            " model of the package has more updates.",
            "",
            *table(("learnt with", *(ROWS[key].words for key in FIGURES)), rows),
            "",
            f"`{tree['command']}`, commit {tree['commit']}, {tree['date']}, {tree['cpu_seconds']} s of CPU.",
            "",
        ]
    )


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):  # the set is not there
        return UNDEFINED
    mean = number(float(np.mean(known)))
    return mean if len(known) == 1 else f"{mean} [{number(min(known))}, {number(max(known))}]"


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
