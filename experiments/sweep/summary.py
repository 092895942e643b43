"""From runs of a sweep to figures with intervals: of each configuration, overall and by sleep stage; and differences.

Patients are what varies: every interval comes from drawing the test patients anew, the same draws for all runs, so that
differences are paired, and for all folds, so that a patient whom several repeats test counts as often in each. A figure
is the mean over folds and seeds; seeds are no patients, so their spread stands beside the interval.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy import special

from experiments.statistics.significance import corrected_difference, hanley_mcneil, holm
from experiments.sweep.measures import (
    ALL,
    FALSE_PER_HOUR,
    PUBLISHED,
    STRATA,
    Samples,
    covered_seconds,
    figures,
    ied_free,
    too_few,
    within,
)
from experiments.sweep.predictions import Predictions, Scored
from siamese_jax.evaluation.statistics import draws
from siamese_jax.files import finite

COMPARED = ("auprc", "auroc", "f1", f"specificity_at_{PUBLISHED:g}")
"""Figures of which differences are taken; more is better in each."""
LEVEL = 0.95


class Facts(NamedTuple):
    """What a page of a sweep holds beside its figures.

    Attributes:
        title: of the page.
        source: of the data, as their shards say it: SIMULATED or real.
        note: inputs, widths and budget that all runs share.
        command: that makes the page.
        commit: of the code.
        date: of the page.
        window_seconds: length of a window.
        n_patients: in training, validation and test together.
        training_drawn: whether each seed learnt from patients of its own, so that seeds vary the training set.
    """

    title: str
    source: str
    note: str
    command: str
    commit: str
    date: str
    window_seconds: float
    n_patients: int
    training_drawn: bool = False


class Contrast(NamedTuple):
    """A question that two runs answer: what does `run` gain over `against`?"""

    name: str
    run: str
    against: str


Key = tuple[str, int, int]
"""Run, fold, seed."""


def summarise(
    scored: Sequence[Scored],
    facts: Facts,
    *,
    reference: str,
    effects: Sequence[Contrast] = (),
    n_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """All figures of a sweep as a JSON-ready tree; what is not defined is None.

    Args:
        scored: runs x folds x seeds; some may be missing. Windows are in the order of their recordings.
        facts: what the page holds besides.
        reference: name of the run that all others are compared with, where both have the fold and seed.
        effects: further questions; a contrast with a run that is not there is left out.
        n_resamples: of the test patients.
        seed: of the draws.

    Raises:
        ValueError: nothing scored, a run twice, runs of a fold that were tested on different windows, a patient that
            is both in validation and test.
    """
    _check(scored)
    folds = sorted({s.fold for s in scored})
    one = {fold: next(s.test for s in scored if s.fold == fold) for fold in folds}
    drawn = _drawn(one, n_resamples, seed)
    found = {(s.run, s.fold, s.seed): figures(s, drawn[s.fold], window_seconds=facts.window_seconds) for s in scored}
    names = list(dict.fromkeys(s.run for s in scored))
    compared = [Contrast(name, name, reference) for name in names if name != reference]
    effects = [c for c in effects if {c.run, c.against} <= set(names)]
    n_test = float(np.mean([len(np.unique(test.patient)) for test in one.values()]))
    n_validation = float(np.mean([len(np.unique(s.validation.patient)) for s in scored]))
    sizes = {"n_train": max(facts.n_patients - n_test - n_validation, 1.0), "n_test": n_test}
    strata = {name: _stratum(list(one.values()), name, facts.window_seconds) for name in STRATA}
    hours = {name: stratum["ied_free_hours"] for name, stratum in strata.items()}
    return finite(
        facts._asdict()
        | {
            "reference": reference,
            "folds": folds,
            "seeds": sorted({s.seed for s in scored}),
            "resamples": n_resamples,
            "level": LEVEL,
            "seconds": float(sum(s.seconds for s in scored)),
            "patients_a_fold": sizes | {"n_validation": n_validation},
            "strata": strata,
            "runs": {name: _run(name, scored, found, hours) for name in names},
            "differences": _differences(compared, found, sizes),
            "effects": _differences(effects, found, sizes),
        }
    )


def _check(scored: Sequence[Scored]) -> None:
    if not scored:
        raise ValueError("no run was scored")
    seen: set[Key] = set()
    first: dict[int, Predictions] = {}
    for s in scored:
        key = s.run, s.fold, s.seed
        if key in seen:
            raise ValueError(f"run {s.run!r}, fold {s.fold}, seed {s.seed} is there twice")
        seen.add(key)
        both = set(s.validation.patient.tolist()) & set(s.test.patient.tolist())
        if both:
            raise ValueError(f"run {s.run!r}, fold {s.fold}: patients {sorted(both)} are in validation and in test")
        other = first.setdefault(s.fold, s.test)
        if not all(np.array_equal(getattr(s.test, f), getattr(other, f)) for f in Predictions._fields[:-1]):
            raise ValueError(f"run {s.run!r}, seed {s.seed} was tested on other windows than the rest of fold {s.fold}")


def _drawn(
    tests: Mapping[int, Predictions], n_resamples: int, seed: int
) -> dict[int, Float64[np.ndarray, "row patient"]]:
    """How often each of a fold's test patients counts: a row of ones, the data as they are, then the resamples."""
    own = {fold: np.unique(test.patient) for fold, test in tests.items()}
    everybody = np.unique(np.concatenate(list(own.values())))
    rows = draws(len(everybody), n_resamples=n_resamples, seed=seed)
    rows = np.concatenate([np.ones((1, len(everybody))), rows])
    return {fold: rows[:, np.searchsorted(everybody, patients)] for fold, patients in own.items()}


# --- over folds and seeds ---------------------------------------------------------------------------------------

Found = Mapping[Key, dict[str, dict[str, Samples]]]


def _once(tests: Sequence[Predictions]) -> Predictions:
    """The windows of all folds, those of a patient whom several folds test only once."""
    seen: set[str] = set()
    parts = []
    for test in tests:
        new = np.array([p not in seen for p in test.patient.tolist()], bool)
        seen |= set(test.patient.tolist())
        parts.append([column[new] for column in test])
    return Predictions(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _stratum(tests: Sequence[Predictions], name: str, window_seconds: float) -> dict[str, Any]:
    """What a stratum holds, and why it has no figures if no fold has any."""
    test = _once(tests)
    inside = within(test, name)
    positive, free = inside & test.label, inside & ied_free(test)
    n_windows, n_positives = int(inside.sum()), int(positive.sum())
    reasons = [too_few(t, within(t, name)) for t in tests]
    return {
        "patients": len(np.unique(test.patient[inside])),
        "windows": n_windows,
        "positives": n_positives,
        "prevalence": n_positives / n_windows if n_windows else math.nan,
        "patients_with_positives": len(np.unique(test.patient[positive])),
        "ied_free_patients": len(np.unique(test.patient[free])),
        "ied_free_hours": float(covered_seconds(test, window_seconds=window_seconds)[free].sum()) / 3600,
        "folds": sum(r is None for r in reasons),
        "too_few": None if None in reasons else "; ".join(str(r) for r in reasons),
    }


def _run(name: str, scored: Sequence[Scored], found: Found, hours: Mapping[str, float]) -> dict[str, Any]:
    own = [s for s in scored if s.run == name]
    keys = [(s.run, s.fold, s.seed) for s in own]
    strata: dict[str, Any] = {}
    for stratum in STRATA:
        measured = dict.fromkeys(f for key in keys for f in found[key][stratum])
        strata[stratum] = {figure: _mean(keys, found, stratum, figure) for figure in measured}
        _bound(strata[stratum].get(FALSE_PER_HOUR), hours[stratum])
    test = _once(list({s.fold: s.test for s in own}.values()))
    area = strata[ALL].get("auroc", {"value": math.nan})["value"]
    n_positives = int(test.label.sum())
    n_negatives = len(test.label) - n_positives
    low, high = hanley_mcneil(area, n_positives=n_positives, n_negatives=n_negatives, level=LEVEL)
    return {
        "n_parameters": own[0].n_parameters,
        "seconds": float(np.mean([s.seconds for s in own])),
        "folds": sorted({s.fold for s in own}),
        "seeds": sorted({s.seed for s in own}),
        "strata": strata,
        "auroc_hanley_mcneil": {"value": area, "low": low, "high": high},
    }


def _mean(keys: Sequence[Key], found: Found, stratum: str, figure: str) -> dict[str, Any]:
    """Mean over the folds that have the figure, and over seeds; how far seeds (means over folds) spread."""
    having = {key: found[key][stratum][figure] for key in keys if figure in found[key][stratum]}
    by_seed = _by(having, 2)
    return _interval(list(having.values())) | {
        "seed_sd": float(np.std(list(by_seed.values()), ddof=1)) if len(by_seed) > 1 else math.nan
    }


def _bound(false_per_hour: dict[str, Any] | None, hours: float) -> None:
    """Where nothing was detected, drawing patients anew finds nothing either: the limit is that of a Poisson count."""
    if false_per_hour and false_per_hour["value"] == 0 and hours > 0:
        false_per_hour["high"] = -math.log((1 - LEVEL) / 2) / hours


def _by(samples: Mapping[Key, Samples], part: int) -> dict[int, float]:
    """Mean value on the data as they are by fold (part 1) or by seed (part 2)."""
    values: dict[int, list[float]] = {}
    for key, sample in samples.items():
        values.setdefault(int(key[part]), []).append(float(sample[0]))
    return {k: float(np.mean(v)) for k, v in values.items()}


def _interval(samples: Sequence[Samples]) -> dict[str, Any]:
    """The mean of several runs; resamples on which one of them is not defined are left out and counted."""
    mean = np.mean(samples, 0)
    valid = mean[1:][~np.isnan(mean[1:])]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(valid, [tail, 1 - tail]) if valid.size and not np.isnan(mean[0]) else (math.nan, math.nan)
    undefined = len(mean) - 1 - valid.size
    return {"value": float(mean[0]), "low": float(low), "high": float(high), "resamples_undefined": undefined}


# --- differences ------------------------------------------------------------------------------------------------

_DIFFERENCE = (
    *("value", "low", "high", "share_of_seeds_better"),
    *("p_bootstrap", "corrected_low", "corrected_high", "p_corrected", "p_drawn"),
)
"""What is not known of two runs that have no fold and seed in common."""


def _differences(contrasts: Sequence[Contrast], found: Found, sizes: dict[str, float]) -> list[dict[str, Any]]:
    """Each contrast's paired differences; p is adjusted (Holm) over the contrasts of the list, figure by figure."""
    rows = [c._asdict() | {"figures": {f: _difference(c, found, f, sizes) for f in COMPARED}} for c in contrasts]
    for figure in COMPARED:
        for p in ("p_bootstrap", "p_corrected", "p_drawn"):
            adjusted = holm({str(i): row["figures"][figure][p] for i, row in enumerate(rows)})
            for i, row in enumerate(rows):
                row["figures"][figure][f"{p}_holm"] = adjusted[str(i)]
    return rows


def _difference(contrast: Contrast, found: Found, figure: str, sizes: dict[str, float]) -> dict[str, Any]:
    paired: dict[Key, Samples] = {}
    for run, fold, seed in found:
        other = contrast.against, fold, seed
        if run == contrast.run and other in found:
            mine, theirs = found[run, fold, seed][ALL], found[other][ALL]
            if figure in mine:  # and then in theirs: it depends on the fold's labels alone
                paired[run, fold, seed] = mine[figure] - theirs[figure]
    if not paired:
        return dict.fromkeys(_DIFFERENCE, math.nan) | {"seeds": 0, "folds": 0, "by_seed": []}
    by_fold, by_seed = _by(paired, 1), _by(paired, 2)
    corrected = corrected_difference(np.array(list(by_fold.values())), **sizes, level=LEVEL)
    p_bootstrap = _p(np.mean(list(paired.values()), 0))
    return _interval(list(paired.values())) | {
        "seeds": len(by_seed),
        "folds": len(by_fold),
        "by_seed": list(by_seed.values()),
        "share_of_seeds_better": float(np.mean([value > 0 for value in by_seed.values()])),
        "p_bootstrap": p_bootstrap,
        "corrected_low": corrected.low,
        "corrected_high": corrected.high,
        "p_corrected": corrected.p,
        "p_drawn": max(p_bootstrap, _p_of_draws(list(by_seed.values()))),
    }


def _p(samples: Samples) -> float:
    """Two-sided p of no difference: the level at which the percentile interval just touches 0."""
    valid = samples[1:][~np.isnan(samples[1:])]
    if not valid.size or np.isnan(samples[0]):
        return math.nan
    tail = 1 + min(int((valid <= 0).sum()), int((valid >= 0).sum()))
    return min(1.0, 2 * tail / (valid.size + 1))


def _p_of_draws(differences: Sequence[float]) -> float:
    """Two-sided p of no difference from Student's t over training sets; 1 with a single one.

    The greater of this and of the bootstrap's p claims nothing that holds for these training sets or for these test
    patients alone (intersection-union test).
    """
    if len(differences) < 2 or np.isnan(differences).any():
        return 1.0
    if not np.ptp(differences):
        return float(differences[0] == 0)
    error = float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
    return 2 * float(special.stdtr(len(differences) - 1, -abs(float(np.mean(differences))) / error))
