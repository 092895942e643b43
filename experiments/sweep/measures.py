"""Figures of one trained model on its test patients and on resamples of them, overall and by sleep stage."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from experiments.statistics.patient_counts import (
    count_patients,
    patient_sums,
    quotient,
    resampled_auroc,
    resampled_calibration,
    resampled_curves,
    resampled_matched_auroc,
)
from experiments.sweep.predictions import ASLEEP, Predictions, Scored
from siamese_jax.evaluation import metrics
from siamese_jax.vocabulary import STAGES

PUBLISHED, ROUND = 0.8211, 0.8
"""Sensitivities of the main table: that of Siamese-ES as published, and the round one of other work."""
SENSITIVITIES = (PUBLISHED, ROUND)
ALL = "all"
CODES = {name: (code,) for code, name in enumerate(STAGES)} | {"asleep": (*range(1, len(STAGES)), ASLEEP)}
"""By stratum of state, codes of the stages in it."""
STRATA = (ALL, *CODES)
LEAST_POSITIVES, LEAST_PATIENTS = 10, 3
"""Positives, and patients that have any, below which a stratum of a fold has no figures."""
FALSE_PER_HOUR = "false_detections_per_hour"

Samples = Float64[np.ndarray, "resample"]
"""A figure on each row of the draws; in a table the first is the data as they are."""


def figures(
    scored: Scored, drawn: Float64[np.ndarray, "resample patient"], *, window_seconds: float
) -> dict[str, dict[str, Samples]]:
    """Every figure of one trained model by stratum, on each row of `drawn`, the draws of its test patients.

    A stratum with too few positives has none but false detections per hour, which need no positives.

    Args:
        scored: one model; patients are drawn in the order of their names.
        drawn: how often each test patient counts.
        window_seconds: length of a window.
    """
    test = scored.test
    patient = np.unique(test.patient, return_inverse=True)[1]
    chance, label = scored.validation.probability, scored.validation.label
    by_f1 = metrics.max_f1_threshold(chance, label)
    fixed = {s: metrics.threshold_at_sensitivity(chance, label, sensitivity=s) for s in SENSITIVITIES}
    found: dict[str, dict[str, Samples]] = {}
    for name in STRATA:
        inside = within(test, name)
        values = {FALSE_PER_HOUR: _false_per_hour(test, patient, inside, fixed[ROUND], drawn, window_seconds)}
        if not too_few(test, inside):
            part = test.probability[inside], test.label[inside], patient[inside]
            values |= _ranking(*part, drawn)
            values["f1"] = _at(by_f1, *part, drawn)["f1"]
            for wanted, threshold in fixed.items():
                rates = _at(threshold, *part, drawn)
                values |= {f"validation_{wanted:g}_{r}": rates[r] for r in ("sensitivity", "specificity", "precision")}
            values["calibration_error"], values["brier"] = resampled_calibration(*part, drawn)
            values["matched_auroc"] = _matched(test, patient, CODES.get(name, range(ASLEEP + 1)), drawn)
        found[name] = values
    return found


def too_few(test: Predictions, inside: Bool[np.ndarray, "window"]) -> str | None:
    """Why a stratum has no figures, in words; None if it has."""
    positives = inside & test.label
    n, patients = int(positives.sum()), len(np.unique(test.patient[positives]))
    return f"{n} positives in {patients} patients" if n < LEAST_POSITIVES or patients < LEAST_PATIENTS else None


def detections_begin(
    predictions: Predictions, threshold: float, *, window_seconds: float
) -> Bool[np.ndarray, "window"]:
    """Where a detection begins: in a detected window that does not go on from a detected one.

    A window goes on from the row before if that is the same patient's and begins up to one window length earlier.
    """
    detected = predictions.probability >= threshold
    return detected & ~(
        np.isfinite(_gap(predictions, window_seconds)) & np.append(False, detected[:-1])[: len(detected)]
    )


def covered_seconds(predictions: Predictions, *, window_seconds: float) -> Float64[np.ndarray, "window"]:
    """How much recorded time each window adds to those before it: its length, less what it shares with the last."""
    return np.minimum(_gap(predictions, window_seconds), window_seconds)


def _gap(predictions: Predictions, window_seconds: float) -> Float64[np.ndarray, "window"]:
    """Seconds since the beginning of the window that each goes on from; infinite if from none."""
    gap = np.diff(predictions.onset_seconds)
    goes_on = (predictions.patient[1:] == predictions.patient[:-1]) & (gap > 0) & (gap <= window_seconds * (1 + 1e-6))
    return np.append(np.inf, np.where(goes_on, gap, np.inf))[: len(predictions.onset_seconds)]


def within(test: Predictions, stratum: str) -> Bool[np.ndarray, "window"]:
    """Windows of a stratum: of all, of one sleep stage, or of sleep."""
    return np.ones(len(test.label), bool) if stratum == ALL else np.isin(test.stage, CODES[stratum])


def ied_free(test: Predictions) -> Bool[np.ndarray, "window"]:
    """Windows of patients without a single positive window."""
    return ~np.isin(test.patient, np.unique(test.patient[test.label]))


def _false_per_hour(
    test: Predictions, patient: np.ndarray, inside: np.ndarray, threshold: float, drawn: np.ndarray, seconds: float
) -> Samples:
    """A detection belongs to the stage in which it begins, so that the stages' counts add up."""
    here = inside & ied_free(test)
    if math.isnan(threshold):
        return np.full(len(drawn), np.nan)
    n = drawn.shape[1]
    begins = detections_begin(test, threshold, window_seconds=seconds)
    hours = patient_sums(here * covered_seconds(test, window_seconds=seconds) / 3600, patient, n_patients=n)
    return quotient(drawn @ patient_sums((here & begins).astype(float), patient, n_patients=n), drawn @ hours)


def _ranking(chance: np.ndarray, label: np.ndarray, patient: np.ndarray, drawn: np.ndarray) -> dict[str, Samples]:
    counts = count_patients(chance, label, patient, n_patients=drawn.shape[1])
    curves = resampled_curves(counts, drawn, sensitivities=SENSITIVITIES)
    values = {"auroc": resampled_auroc(counts, drawn), "auprc": curves.auprc}
    for i, wanted in enumerate(SENSITIVITIES):
        values[f"specificity_at_{wanted:g}"] = curves.specificity[i]
        values[f"precision_at_{wanted:g}"] = curves.precision[i]
    return values


def _at(
    threshold: float, chance: np.ndarray, label: np.ndarray, patient: np.ndarray, drawn: np.ndarray
) -> dict[str, Samples]:
    """Rates at a threshold that was fixed elsewhere; NaN where there is none."""
    detected = chance >= threshold
    if math.isnan(threshold):
        return dict.fromkeys(("sensitivity", "specificity", "precision", "f1"), np.full(len(drawn), np.nan))
    cells = (detected & label, detected & ~label, ~detected & label, ~detected & ~label)
    hit, false, missed, passed = (drawn @ patient_sums(c * 1.0, patient, n_patients=drawn.shape[1]) for c in cells)
    return {
        "sensitivity": quotient(hit, hit + missed),
        "specificity": quotient(passed, passed + false),
        "precision": quotient(hit, hit + false),
        "f1": quotient(2 * hit, (2 * hit + false + missed) * (hit + missed > 0)),
    }


def _matched(test: Predictions, patient: np.ndarray, codes: Sequence[int], drawn: np.ndarray) -> Samples:
    cells = []
    for code in codes:
        here = test.stage == code
        cells.append(count_patients(test.probability[here], test.label[here], patient[here], n_patients=drawn.shape[1]))
    return resampled_matched_auroc(cells, drawn)
