"""A made-up sweep: predictions of models whose quality is chosen, on patients with stages and IEDs."""

import numpy as np
from scipy import special

from experiments.sweep.predictions import Predictions, Scored
from experiments.sweep.summary import Facts

WINDOW_SECONDS = 4.0
FACTS = Facts(
    title="A made-up comparison",
    source="SIMULATED by the tests",
    note="No input at all.",
    command="python -m nothing",
    commit="abc1234",
    date="2026-01-01",
    window_seconds=WINDOW_SECONDS,
    n_patients=60,
)


def cohort(*, n_patients=12, n_windows=60, n_free=2, prefix="T", seed=0):
    """Patients without predictions yet: onsets, labels and stages; the last `n_free` have no IED; IEDs prefer sleep."""
    rng = np.random.default_rng(seed)
    patient = np.repeat([f"{prefix}{i:03d}" for i in range(n_patients)], n_windows)
    onset = np.tile(np.arange(n_windows) * WINDOW_SECONDS, n_patients)
    stage = rng.integers(5, size=len(patient)).astype(np.int32)
    rate = np.repeat(rng.uniform(0.03, 0.2, n_patients) * (np.arange(n_patients) < n_patients - n_free), n_windows)
    label = rng.random(len(patient)) < rate * np.array([0.5, 1.0, 2.0, 2.0, 0.5])[stage]
    return Predictions(patient, onset, label, stage, np.zeros(len(patient)))


def predicted(known, *, quality, seed, rounded=None, alike=0.0):
    """The same with probabilities: `quality` is how far positives lie above negatives, in standard deviations.

    `alike` is how much of a window's noise all models share; `rounded` digits make ties.
    """
    shared = np.random.default_rng(99).normal(size=len(known.label))
    own = np.random.default_rng([seed, 7]).normal(size=len(known.label))
    level = np.random.default_rng(5).normal(size=len(np.unique(known.patient)))
    level = 0.5 * level[np.unique(known.patient, return_inverse=True)[1]]
    logit = quality * known.label + level + np.sqrt(alike) * shared + np.sqrt(1 - alike) * own - 2.5
    return known._replace(log_odds=logit if rounded is None else special.logit(np.round(special.expit(logit), rounded)))


def scored(run, *, quality, fold=0, seed=0, rounded=None, alike=0.0, **size):
    """One model; `size` as for `cohort`, test and validation patients alike."""
    halves = [
        predicted(
            cohort(prefix=f"{prefix}{fold}", seed=10 * fold + n, **size),
            quality=quality,
            seed=1000 * seed + 10 * fold + n,
            rounded=rounded,
            alike=alike,
        )
        for n, prefix in enumerate("VT")
    ]
    return Scored(run, fold, seed, *halves, 1234, 10.0)
