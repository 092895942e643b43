"""`python -m experiments.ablate SHARDS`: what each part of Siamese-ES adds, and controls against a confound.

    A electron alone    B both branches, no sleep loss    C sleep branch learnt first, then frozen    D everything
    E electron alone, given the true stage    F no gradient from the IED loss into Twins-Sleep
    not_fused           both tasks, features not fused
    true_state_only     no signal at all: what the stage alone says of an IED
    states_shuffled     D with sleep labels that mean nothing: shuffled within each patient

With `--more`, one change at a time: depth of sharing, converter, fusion, pooling, preprocessing, weights of the tasks.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from experiments.sweep.command import DEFAULTS, Options, Page, run_page
from experiments.sweep.jobs import recalibrated
from experiments.sweep.predictions import Scored
from experiments.sweep.runs import (
    ELECTRON_ONLY,
    NOT_FUSED,
    REFERENCE,
    SHUFFLED,
    SLEEP_FROZEN,
    SLEEP_LOSS_OFF,
    STAGE_GIVEN,
    STATE_ONLY,
    STOPPED,
    UNSHARED,
    ablated,
    varied,
)
from experiments.sweep.summary import Contrast
from siamese_jax.cli.console import run

EFFECTS = (
    Contrast("everything: D against A", REFERENCE, ELECTRON_ONLY),
    Contrast("multi-task learning, at equal capacity: D against B", REFERENCE, SLEEP_LOSS_OFF),
    Contrast("the same, a third of the sleep loss: sleep_weight_0.3 against B", "sleep_weight_0.3", SLEEP_LOSS_OFF),
    Contrast("the same, a tenth of the sleep loss: sleep_weight_0.1 against B", "sleep_weight_0.1", SLEEP_LOSS_OFF),
    Contrast("the same, weights learnt: balance_uncertainty against B", "balance_uncertainty", SLEEP_LOSS_OFF),
    Contrast("multi-task learning, without fusion: not fused against A", NOT_FUSED, ELECTRON_ONLY),
    Contrast("fusion of sleep features: D against not fused", REFERENCE, NOT_FUSED),
    Contrast("sleep features without multi-task learning: C against A", SLEEP_FROZEN, ELECTRON_ONLY),
    Contrast("learning together, nothing shared: shared_0 against C", UNSHARED, SLEEP_FROZEN),
    Contrast("the true stage as an intercept: E against A", STAGE_GIVEN, ELECTRON_ONLY),
    Contrast("what the IED loss teaches Twins-Sleep: D against F", REFERENCE, STOPPED),
    Contrast("true stages against shuffled ones: D against states_shuffled", REFERENCE, SHUFFLED),
)


def main(
    shards: Annotated[Path, tyro.conf.Positional],
    options: Annotated[Options, tyro.conf.arg(name="")] = DEFAULTS,
    *,
    more: bool = False,
) -> int:
    """Take Siamese-ES apart.

    Args:
        shards: From `siamese-jax prepare`, with sleep stages.
        options: Of the sweep.
        more: Also depth of sharing, converter, fusion, pooling, preprocessing and weights of the tasks.
    """
    page = Page("ablate", "Ablations", REFERENCE, EFFECTS, with_true_state)
    return run_page(shards, options, page, ablated(options.scale) | (varied(options.scale) if more else {}))


def with_true_state(scored: Sequence[Scored]) -> list[Scored]:
    """E and the control that knows the state alone, from A's predictions and the stages.

    A scalar that goes through a network of its own to a linear head adds one number for each stage to the log-odds; so
    E is A with an intercept a stage, fitted on validation patients, and the control is the intercepts alone.
    """
    found = []
    for of in (s for s in scored if s.run == ELECTRON_ONLY):
        for name, share in ((STAGE_GIVEN, 1.0), (STATE_ONLY, 0.0)):
            fixing, tested = (p._replace(log_odds=share * p.log_odds) for p in (of.validation, of.test))
            validation, test = recalibrated(fixing, tested, by_stage=True)
            n_parameters = of.n_parameters * (share > 0) + len(np.unique(fixing.stage))
            found.append(
                of._replace(run=name, validation=validation, test=test, n_parameters=n_parameters, seconds=0.0)
            )
    return found


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
