"""What the commands of sweeps share: their options, and the way from shards to a page with its table and figure."""

import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from experiments.pages import write_page
from experiments.provenance import made_by
from experiments.runner import Runner
from experiments.sweep.curves import draw_curves
from experiments.sweep.folds import Fold, make_folds, patients_of, sleep_task, with_fewer
from experiments.sweep.jobs import Progress, sweep
from experiments.sweep.page import csv_text, markdown
from experiments.sweep.predictions import Scored
from experiments.sweep.runs import Run, Scale, changed, with_sleep_task
from experiments.sweep.summary import Contrast, Facts, summarise
from siamese_jax.cli.console import OK, progress_bar, use_compilation_cache
from siamese_jax.evaluation import metrics
from siamese_jax.files import write_text
from siamese_jax.vocabulary import SLEEP

NOTES: dict[Scale, str] = {
    "reduced": "Reduced inputs and widths (19 electrodes at 128 Hz, at most 36 bins, {steps} updates of {batch}"
    " windows): these figures compare designs of like cost, not the published networks.",
    "published": "Published inputs and widths ({steps} updates of {batch} windows).",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What the sweeps share."""

    out: Annotated[Path | None, tyro.conf.arg(help="Default runs/NAME, by the command's name.")] = None
    scale: Annotated[Scale, tyro.conf.arg(help="reduced: for two CPU cores; published: each network's own size.")] = (
        "reduced"
    )
    folds: Annotated[int, tyro.conf.arg(help="1: the shards' own split; 3 and more: folds of all their patients.")] = 1
    repeats: Annotated[int, tyro.conf.arg(help="How often the patients are assigned to folds.")] = 1
    seeds: Annotated[int, tyro.conf.arg(help="Trainings of each configuration on each fold.")] = 3
    train_patients: Annotated[
        int | None, tyro.conf.arg(help="Learn from so many patients alone, whom each seed draws anew; default all.")
    ] = None
    ied_patients: Annotated[
        int | None, tyro.conf.arg(help="Labels for IEDs of so many of these alone, of the others sleep; default all.")
    ] = None
    only: Annotated[tuple[str, ...], tyro.conf.arg(help="These runs alone.")] = ()
    steps: Annotated[int | None, tyro.conf.arg(help="Updates instead of the scale's.")] = None
    batch_size: Annotated[int | None, tyro.conf.arg(help="Windows of an update instead of the scale's.")] = None
    resamples: Annotated[int, tyro.conf.arg(help="Of the bootstrap over patients.")] = 2000

    def drawn(self, fold: Fold, seed: int) -> Fold:
        """What of a fold a seed learns from."""
        return with_fewer(fold, seed, n_patients=self.train_patients, n_marked=self.ied_patients)


DEFAULTS = Options()


@dataclasses.dataclass(frozen=True)
class Page:
    """What a sweep is made into.

    Attributes:
        name: of the command and of its files.
        title: of the page.
        reference: the run that others are compared with.
        effects: further contrasts.
        derived: more to score, made of what the runs predicted.
        learning_rates: of which each run takes the one that suits it best; none: each its own configuration's.
    """

    name: str
    title: str
    reference: str
    effects: tuple[Contrast, ...] = ()
    derived: Callable[[Sequence[Scored]], list[Scored]] = lambda scored: []
    learning_rates: tuple[float, ...] = ()


def run_page(shards: Path, options: Options, page: Page, runs: dict[str, Run]) -> int:
    """Sweep, then write what was found.

    Raises:
        ValueError: a name in `options.only` that is no run, or shards that do not fit.
    """
    unknown = [name for name in options.only if name not in runs]
    if unknown:
        raise ValueError(f"--only {' '.join(unknown)}: there are {', '.join(runs)}")
    chosen = [resized(r, options) for name, r in runs.items() if not options.only or name in options.only]
    out = options.out or Path("runs") / page.name
    runner = Runner(out)
    use_compilation_cache()
    folds = make_folds(shards, n_folds=options.folds, repeats=options.repeats)
    chosen = with_known_sleep(chosen, folds[0])
    with progress_bar() as progress:
        if page.learning_rates:
            chosen = at_best_rates(chosen, page.learning_rates, folds, runner, options.drawn, progress)
        scored = sweep(chosen, folds, options.seeds, runner, drawn=options.drawn, progress=progress)
    scored += page.derived(scored)
    tree = summarise(
        scored,
        facts(options, page, chosen, folds),
        reference=page.reference,
        effects=page.effects,
        n_resamples=options.resamples,
    )
    tree["questions"] = {r.name: r.question for r in chosen}
    write_text(out / f"{page.name}.csv", csv_text(tree))
    draw_curves(scored, out / f"{page.name}.png", reference=page.reference, title=page.title)
    write_page(out, page.name, tree, markdown)
    return OK


def with_known_sleep(runs: Sequence[Run], fold: Fold) -> list[Run]:
    """The runs with the task of sleep that the shards have.

    Raises:
        ValueError: they have none, and a run needs one.
    """
    task = sleep_task([*fold.train, *fold.validation, *fold.test])
    if task is not None:
        return [with_sleep_task(run, task) for run in runs]
    need = [run.name for run in runs if SLEEP.name in run.config.tasks]
    if need:
        without = [run.name for run in runs if run.name not in need]
        advice = f"; --only {' '.join(without)} needs none" if without else ""
        raise ValueError(f"{', '.join(need)} learn sleep, and the shards have no labels for it{advice}")
    return list(runs)


def resized(given: Run, options: Options) -> Run:
    """A run with as many updates of as many windows as were requested."""
    training = given.config.training
    steps, batch = options.steps or training.steps, options.batch_size or training.batch_size
    warmup = min(training.warmup_steps, max(steps // 10, 1))
    new = {"training": {"steps": steps, "batch_size": batch, "warmup_steps": warmup}}
    pretrained = given.pretrained and changed(given.pretrained, new)
    return dataclasses.replace(given, config=changed(given.config, new), pretrained=pretrained)


def at_best_rates(
    runs: Sequence[Run],
    rates: Sequence[float],
    folds: Sequence[Fold],
    runner: Runner,
    drawn: Callable[[Fold, int], Fold],
    progress: Progress,
) -> list[Run]:
    """Each run at the one of some learning rates whose AUPRC in validation patients is best: first fold, seed 0.

    No network's own rate is known for so few updates, and one for all would favour some.
    """
    print(f"learning rates first: each of {', '.join(f'{rate:g}' for rate in rates)} for each run")
    tried = [at_rate(run, rate) for run in runs for rate in rates]
    found = sweep(tried, folds[:1], 1, runner, drawn=drawn, progress=progress)
    value = [metrics.auprc(s.validation.probability, s.validation.label) for s in found]
    best = np.nan_to_num(np.reshape(value, (len(runs), len(rates))), nan=-1.0).argmax(1)
    for i, run in enumerate(runs):
        shown = ", ".join(f"{rate:g}: {x:.3f}" for rate, x in zip(rates, value[i * len(rates) :], strict=False))
        print(f"  {run.name}: {rates[best[i]]:g}   (validation AUPRC {shown})")
    return [at_rate(run, rates[i]) for run, i in zip(runs, best, strict=True)]


def at_rate(run: Run, rate: float) -> Run:
    """A run at another learning rate."""
    return dataclasses.replace(run, config=changed(run.config, {"training": {"learning_rate": rate}}))


def facts(options: Options, page: Page, runs: Sequence[Run], folds: Sequence[Fold]) -> Facts:
    """What the page holds beside its figures."""
    first = options.drawn(folds[0], 0)
    everybody = [*first.train, *first.validation, *first.test]
    training = runs[0].config.training
    note = NOTES[options.scale].format(steps=training.steps, batch=training.batch_size)
    if page.learning_rates:
        of = ", ".join(f"{run.name} {run.config.training.learning_rate:g}" for run in runs)
        note += f" Learning rates, the best of {len(page.learning_rates)} in validation patients from seed 0: {of}."
    if options.train_patients is not None:
        note += f" Learnt from {options.train_patients} patients alone, whom each seed drew anew."
    if options.ied_patients is not None:
        note += f" IEDs learnt from {options.ied_patients} patients alone, whom each seed drew anew; sleep from all."
    return Facts(
        title=page.title,
        source="; ".join(sorted({shard.info.source for shard in everybody})),
        note=note,
        **made_by(f"python -m experiments.{page.name} {shlex.join(sys.argv[1:])}"),
        window_seconds=runs[0].config.data.window_seconds,
        n_patients=len(patients_of(everybody)),
        training_drawn=options.train_patients is not None or options.ied_patients is not None,
    )
