"""Do common diagnoses help rare ones? The question of Hughes et al. (arXiv 1812.00497), on any electrocardiograms.

    python -m experiments.ecg LUDB_FOLDER CINC_FOLDER        # 355 records: repeated folds, half an hour of one core

Or the folder of any shards: `page.ON_PTB_XL` has the commands for PTB-XL by its own folds, for which it was designed.

Networks with heads for all classes, for the rare ones, and for one of them each, on the same windows with the same
number of updates; then a network with all heads on all records (TO/model), which `python -m experiments.ecg.score`
applies to new ones. A second call resumes: each network's predictions are kept by the hash of what decides them.

What was chosen, and how: the classes, by number of positives alone; updates, learning rate and dropout, on the common
classes in one split that is not among those reported (one earlier pass with other values had printed figures of rare
classes for one fold); the width, by what half an hour allows. At half this width, reported before, no difference was
significant either (mean AUPRC of rare classes: all heads 0.158, rare heads 0.148, one network a class 0.188).
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from data_tools.twelve_lead import twelve_lead
from experiments.ecg import page, results
from experiments.ecg.networks import ALL, Network, fit, networks, prediction_job, task_specs
from experiments.ecg.records import Classes, Records, Split, choose_classes, make_splits, read_records
from experiments.pages import write_page
from experiments.provenance import made_by
from experiments.runner import Runner
from siamese_jax import identity
from siamese_jax.checkpoints import Checkpoint, Thresholds, write
from siamese_jax.cli.console import OK, run, use_compilation_cache
from siamese_jax.cli.recordings import ShardOptions, make_shards
from siamese_jax.config.experiment import Config
from siamese_jax.config.presets import ECG

TRAINED_ON_ALL = 9999
"""Seed of the network on all records: of no repeat."""


@dataclass(frozen=True)
class Design:
    """What decides the figures, besides the records."""

    folds: int = 5
    """Of patients; 0: the shards' own splits."""
    repeats: int = 2
    """How often patients are assigned anew; without folds, seeds."""
    rare_share: float = 0.1
    """Classes that are true of a smaller share of the windows are rare."""
    min_positives: int = 10
    """Classes with fewer positive windows are left out."""
    width: float = 0.25
    """Of the network, 1 for 64 to 256 features."""
    dropout: float = 0.2
    """Before the heads."""
    steps: int = 200
    """Updates of each network."""
    batch_size: int = 32
    """Windows of each update."""
    learning_rate: float = 1e-2
    """At its height."""
    resamples: int = 1000
    """Of the bootstraps."""

    @property
    def config(self) -> Config:
        """Of every network, but for its heads."""
        steps = {"steps": self.steps, "warmup_steps": self.steps // 10}
        training = dataclasses.replace(
            ECG.training, **steps, batch_size=self.batch_size, learning_rate=self.learning_rate
        )
        model = dataclasses.replace(ECG.model, width=self.width, dropout=self.dropout)
        return dataclasses.replace(ECG, model=model, training=training)


def main(
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional],
    design: Annotated[Design, tyro.conf.arg(name="")] = Design(),  # noqa: B008
    *,
    out: Path = Path("runs/ecg"),
    to: Path = Path("experiments/results/ecg"),
) -> int:
    """Train what is not trained yet, then write TO/ecg.md, ecg.json, ecg.png and model/.

    Args:
        folders: LUDB's and the challenge's, or one of shards.
        design: Classes, folds, networks.
        out: Shards and each network's predictions land here.
        to: The figures and the model land here.
    """
    use_compilation_cache()
    shards, config = _shards(folders, out), design.config
    records = read_records(shards, config)
    classes = choose_classes(records, rare_share=design.rare_share, min_positives=design.min_positives)
    splits = make_splits(records, classes, folds=design.folds, repeats=design.repeats)
    found, minutes = _all_predictions(config, records, classes, splits, Runner(out))
    arms = results.collect(records, splits, found)
    tree = {
        "made": _made(design, records, splits, ("LUDB_FOLDER", "CINC_FOLDER") if len(folders) > 1 else ("SHARDS",))
        | {"networks": sum(map(len, found.values())), "minutes": minutes},
        "results": results.summarise(records, classes, splits, arms, n_resamples=design.resamples),
    }
    page.draw(tree, to / "ecg.png")
    write_page(to, "ecg", tree, page.markdown)
    _save_model(config, records, classes, results.thresholds(records, classes.every, arms[ALL]), to / "model")
    return OK


def _shards(folders: tuple[Path, ...], out: Path) -> Path:
    """The folder of shards; made of LUDB and the challenge if those are given."""
    if len(folders) == 1:
        return folders[0]
    if len(folders) != 2:
        raise ValueError(f"give the folders of LUDB and of the challenge, or one of shards, not {len(folders)}")
    make_shards(twelve_lead(*folders), out / "shards", ECG.data, ShardOptions())
    return out / "shards"


def _all_predictions(
    config: Config, records: Records, classes: Classes, splits: tuple[Split, ...], runner: Runner
) -> tuple[dict[tuple[int, int], dict[Network, np.ndarray]], float]:
    """What every network predicts in every split, and the minutes of CPU that it took, in whichever call."""
    wanted = [(split, network) for split in splits for network in networks(classes)]
    done = runner.do_all(prediction_job(config, records, split, network) for split, network in wanted)
    found: dict[tuple[int, int], dict[Network, np.ndarray]] = {}
    for (split, network), one in zip(wanted, done, strict=True):
        found.setdefault((split.repeat, split.fold), {})[network] = one.answer["probability"]
    return found, sum(one.cpu_seconds for one in done) / 60


def _made(design: Design, records: Records, splits: tuple[Split, ...], folders: tuple[str, ...]) -> dict[str, Any]:
    """What the page says of how it was made."""
    options = [f"--{name.replace('_', '-')} {value:g}" for name, value in dataclasses.asdict(design).items()]
    groups = zip(*((len(split.train), len(split.validation), len(split.test)) for split in splits), strict=True)
    parts = [round(float(np.mean(sizes))) for sizes in groups]
    dealt = f"{design.folds} folds of patients, assigned {design.repeats} times, every class evenly"
    if not design.folds:
        dealt = f"the shards' own splits, {design.repeats} seeds"
    return {
        **made_by(" ".join(["python -m experiments.ecg", *folders, *options])),
        "data": "; ".join(f"{source} (REAL ECG)" for source in records.sources),
        "windows": len(records.patients),
        "patients": len(set(records.patients)),
        "design": f"{dealt}: {parts[0]} windows to train, {parts[1]} to choose thresholds, {parts[2]} to test. Classes"
        f" with {design.min_positives} positives or more, rare below {100 * design.rare_share:g} %",
        "network": f"{design.config.model.title}, width {design.width:g}, dropout {design.dropout:g}, {design.steps}"
        f" updates of {design.batch_size} windows, learning rate {design.learning_rate:g}",
        "resamples": design.resamples,
        "remarks": [
            "A record whose data set never annotates a class has no label for it: neither in training nor in figures.",
            "Each record of LUDB is a patient; who the challenge's patients are is not published, so two of its"
            " records may be of one person (no two are alike: `siamese-jax prepare SHARDS --check`).",
        ],
    }


def _save_model(config: Config, records: Records, classes: Classes, points: list[Any], folder: Path) -> None:
    """A network with all heads on all records, with the thresholds of the folds' networks."""
    names = tuple(records.classes[c] for c in classes.every)
    everyone = np.arange(len(records.patients))
    variables = fit(config, names, records, everyone, classes.every, seed=TRAINED_ON_ALL)
    own = dataclasses.replace(config, tasks=names)
    learnt = records.origin
    run = identity.Training(*identity.now(), learnt, identity.Origin(learnt.salt))
    thresholds = Thresholds(tuple(points), learnt, *identity.now())
    steps = config.training.steps
    write(folder, Checkpoint(own, task_specs(names), variables, steps, identity.Identity((run,)), thresholds))


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
