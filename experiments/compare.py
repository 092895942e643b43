"""`python -m experiments.compare SHARDS`: Siamese-ES and the networks it is compared with, on the same patients.

Every network of `experiments.sweep.runs.compared` is trained with the same data, augmentation, optimiser, updates and
rule for thresholds, at the learning rate that is best for it in validation patients, from several seeds, on the
shards' own split or on repeated folds of their patients. What is done is kept in OUT, so that the same command
resumes. Then OUT/compare.md, compare.csv, compare.json and compare.png.
"""

from pathlib import Path
from typing import Annotated

import tyro

from experiments.sweep.command import DEFAULTS, Options, Page, run_page
from experiments.sweep.runs import REFERENCE, compared
from siamese_jax.cli.console import run

LEARNING_RATES = (3e-3, 1e-3)


def main(
    shards: Annotated[Path, tyro.conf.Positional],
    options: Annotated[Options, tyro.conf.arg(name="")] = DEFAULTS,
    *,
    learning_rates: tuple[float, ...] = LEARNING_RATES,
) -> int:
    """Compare Siamese-ES with other networks.

    Args:
        shards: From `siamese-jax prepare`.
        options: Of the sweep.
        learning_rates: Of which each network takes the one that is best in validation patients, from seed 0.
    """
    page = Page("compare", "The comparison", REFERENCE, learning_rates=learning_rates)
    return run_page(shards, options, page, compared(options.scale))


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
