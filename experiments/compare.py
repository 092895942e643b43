"""`python -m experiments.compare SHARDS`: Siamese-ES and the networks it is compared with, on the same patients.

Every network of `experiments.runs.compared` is trained with the same data, augmentation, optimiser, updates and rule
for thresholds, from several seeds, on the shards' own split or on repeated folds of their patients; what is done is
kept in OUT, so that the same command goes on. Then OUT/compare.md, compare.csv, compare.json and compare.png.
"""

from pathlib import Path
from typing import Annotated

import tyro

from experiments.runs import REFERENCE, compared
from experiments.sweep_command import DEFAULTS, Options, Page, run_page
from siamese_jax.cli.console import run


def main(
    shards: Annotated[Path, tyro.conf.Positional],
    options: Annotated[Options, tyro.conf.arg(name="")] = DEFAULTS,
) -> int:
    """Compare Siamese-ES with other networks.

    Args:
        shards: From `siamese-jax prepare`.
        options: Of the sweep.
    """
    page = Page("compare", "The comparison", REFERENCE)
    return run_page(shards, options, page, compared(options.scale))


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
