"""Do common diagnoses help rare ones? The question of Hughes et al. (arXiv 1812.00497), on any electrocardiograms.

    python -m experiments.ecg LUDB_FOLDER CINC_FOLDER        # 355 records: repeated folds, half an hour of one core

PTB-XL by its own folds (1 to 8, 9, 10), as it was designed, on an accelerator:

    python -m data_tools.ptb_xl PTB_XL SHARDS --statements all
    python -m experiments.ecg SHARDS --folds 0 --repeats 5 --rare-share 0.01 --min-positives 20 --width 1 \
        --dropout 0.5 --steps 4000 --batch-size 128 --learning-rate 1e-3

Networks with heads for all classes, for the rare ones, and for one of them each, on the same windows with the same
number of updates; then a network with all heads on all records (TO/model), which `python -m experiments.ecg.score`
puts to new ones. A second call goes on where the first stopped: each network's answers are kept by the hash of what
they hang on.

What was chosen before any rare class was scored: the classes, by number of positives alone; updates, learning rate and
dropout, on the common classes in one split that is not among those reported; the width, by what half an hour allows.
"""

import dataclasses
import json
import shlex
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from data_tools.twelve_lead import twelve_lead
from experiments.ecg import page, results
from experiments.ecg.networks import ALL, Network, answers, fit, networks, task_specs
from experiments.ecg.records import Classes, Records, Split, choose_classes, make_splits, read_records
from siamese_jax.checkpoints import Checkpoint, write_bundled
from siamese_jax.cli.console import OK, progress_bar, run, use_compilation_cache
from siamese_jax.cli.recordings import ShardOptions, make_shards
from siamese_jax.config import Config
from siamese_jax.evaluation.metrics import points_to_json
from siamese_jax.presets import ECG

TRAINED_ON_ALL = 9999
"""Seed of the network on all records: of no repeat."""


def main(
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional],
    *,
    out: Path = Path("runs/ecg"),
    to: Path = Path("experiments/results/ecg"),
    folds: int = 5,
    repeats: int = 2,
    rare_share: float = 0.1,
    min_positives: int = 10,
    width: float = 0.125,
    dropout: float = 0.2,
    steps: int = 200,
    batch_size: int = 32,
    learning_rate: float = 1e-2,
    resamples: int = 1000,
) -> int:
    """Train what is not trained yet, then write TO/ecg.md, ecg.json, ecg.png and model/.

    Args:
        folders: LUDB's and the challenge's, or one of shards.
        out: Shards and each network's answers land here.
        to: The figures and the model land here.
        folds: Of patients; 0: the shards' own splits.
        repeats: How often patients are dealt out anew; without folds, seeds.
        rare_share: Classes that are true of a smaller share of the windows are rare.
        min_positives: Classes with fewer positive windows are left out.
        width: Of the network, 1 for 64 to 256 features.
        dropout: Before the heads.
        steps: Updates of each network.
        batch_size: Windows of each update.
        learning_rate: At its height.
        resamples: Of the bootstraps.
    """
    use_compilation_cache()
    shards = _shards(folders, out)
    training = dataclasses.replace(
        ECG.training, steps=steps, warmup_steps=steps // 10, batch_size=batch_size, learning_rate=learning_rate
    )
    model = dataclasses.replace(ECG.model, width=width, dropout=dropout)
    config = dataclasses.replace(ECG, model=model, training=training)
    records = read_records(shards, config)
    classes = choose_classes(records, rare_share=rare_share, min_positives=min_positives)
    splits = make_splits(records, classes, folds=folds, repeats=repeats)
    found, minutes = _all_answers(config, records, classes, splits, out)
    arms = results.collect(records, splits, found)
    summary = results.summarise(records, classes, splits, arms, n_resamples=resamples)
    effort = {"networks": sum(map(len, found.values())), "minutes": minutes, "resamples": resamples}
    rule = {"rare_share": rare_share, "min_positives": min_positives, "folds": folds, "repeats": repeats}
    tree = {"made": _made(config, records, splits, rule) | effort, "results": summary}
    to.mkdir(parents=True, exist_ok=True)
    text = page.markdown(tree)
    (to / "ecg.json").write_text(json.dumps(_plain(tree), indent=2, allow_nan=False) + "\n")
    (to / "ecg.md").write_text(text)
    page.draw(tree, to / "ecg.png")
    print(text)
    _save_model(config, records, classes, results.thresholds(records, classes.every, arms[ALL]), to / "model")
    print(f"wrote {to}")
    return OK


def _shards(folders: tuple[Path, ...], out: Path) -> Path:
    """The folder of shards; made of LUDB and the challenge if those are given."""
    if len(folders) == 1:
        return folders[0]
    if len(folders) != 2:
        raise ValueError(f"give the folders of LUDB and of the challenge, or one of shards, not {len(folders)}")
    make_shards(twelve_lead(*folders), out / "shards", ECG.data, ShardOptions())
    return out / "shards"


def _all_answers(
    config: Config, records: Records, classes: Classes, splits: tuple[Split, ...], out: Path
) -> tuple[dict[tuple[int, int], dict[Network, np.ndarray]], float]:
    """What every network says in every split, and the minutes that it took, earlier calls included."""
    wanted = [(split, network) for split in splits for network in networks(classes)]
    found: dict[tuple[int, int], dict[Network, np.ndarray]] = {}
    log, began = out / "seconds.txt", time.monotonic()
    before = sum(map(float, log.read_text().split())) if log.exists() else 0.0
    with progress_bar() as progress:
        for done, (split, network) in enumerate(wanted):
            progress("training networks", done, len(wanted))
            own = found.setdefault((split.repeat, split.fold), {})
            own[network] = answers(config, records, split, network, out / "answers")
        progress("training networks", len(wanted), len(wanted))
    seconds = time.monotonic() - began
    with log.open("a") as file:
        file.write(f"{seconds:.0f}\n")
    return found, (before + seconds) / 60


def _made(config: Config, records: Records, splits: tuple[Split, ...], rule: dict[str, Any]) -> dict[str, Any]:
    """What the page says of how it was made."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    parts = [
        round(float(np.mean([len(part) for part in group]))) for group in zip(*(s[2:] for s in splits), strict=True)
    ]
    design = f"{rule['folds']} folds of patients, dealt out {rule['repeats']} times, every class evenly"
    if not rule["folds"]:
        design = f"the shards' own splits, {rule['repeats']} seeds"
    training = config.training
    return {
        "command": f"python -m experiments.ecg {shlex.join(sys.argv[1:])}",
        "commit": commit.stdout.strip(),
        "date": date.today().isoformat(),
        "data": "; ".join(f"{source} (real ECG)" for source in records.sources),
        "windows": len(records.patients),
        "patients": len(set(records.patients)),
        "design": f"{design}: {parts[0]} windows to train, {parts[1]} to choose thresholds, {parts[2]} to test."
        f" Classes with {rule['min_positives']} positives or more, rare below {100 * rule['rare_share']:g} %",
        "network": f"{config.model.title}, width {config.model.width:g}, dropout {config.model.dropout:g},"
        f" {training.steps} updates of {training.batch_size} windows, learning rate {training.learning_rate:g}",
        "remarks": [
            "A record whose data set never annotates a class has no label for it: neither in training nor in figures.",
            "Each record of LUDB is a patient; who the challenge's patients are is not published, so two of its"
            " records may be of one person (no two are alike: `siamese-jax prepare SHARDS --check`).",
        ],
        **rule,
    }


def _save_model(config: Config, records: Records, classes: Classes, points: list[Any], folder: Path) -> None:
    """A network with all heads on all records, with the thresholds of the folds' networks."""
    names = tuple(records.classes[c] for c in classes.every)
    everyone = np.arange(len(records.patients))
    variables = fit(config, names, records, everyone, classes.every, seed=TRAINED_ON_ALL)
    own = dataclasses.replace(config, tasks=names)
    folder.mkdir(parents=True, exist_ok=True)
    points_text = points_to_json(points)
    steps = config.training.steps
    write_bundled(folder, Checkpoint(own, task_specs(names), records.sources, variables, points_text, steps))


def _plain(tree: Any) -> Any:
    """The tree with null for what is not defined."""
    if isinstance(tree, dict):
        return {key: _plain(item) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(item) for item in tree]
    return None if isinstance(tree, float) and not np.isfinite(tree) else tree


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
