"""From scores by frame to one figure a question, with its interval over patients."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float64
from scipy import special

from experiments.real.scorers import Scorer
from experiments.real.sets import Item, read_sets
from siamese_jax.evaluation.events import find_events, match_peaks
from siamese_jax.evaluation.metrics import auprc, auroc
from siamese_jax.evaluation.statistics import patient_bootstrap

SEED = 0
WINDOW_SECONDS = 1.0
NEAR_SECONDS, FAR_SECONDS = 0.1, 0.25
"""From a discharge: within the first a frame lies on it, from the second on beside it."""


class Found(NamedTuple):
    """What a scorer says of one item.

    Attributes:
        item: which one.
        seconds: of each frame.
        scores: its score; never NaN.
        peaks: of events, in seconds; none of a scorer without a threshold.
        analysed_seconds: the length of signal that the scores cover.
    """

    item: Item
    seconds: Float64[np.ndarray, "frame"]
    scores: Float64[np.ndarray, "frame"]
    peaks: Float64[np.ndarray, "event"]
    analysed_seconds: float


class Figure(NamedTuple):
    """A figure; NaN where it, or its interval, is not defined."""

    value: float
    low: float
    high: float
    n_patients: int
    rests_on: str
    """How much, in words."""


def evaluate_scorers(
    folder: Path,
    scorers: Mapping[str, Scorer],
    *,
    leave_out: Collection[str] = (),
    on_progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, Any]:
    """All figures of each scorer, on the sets that are in a folder.

    Args:
        folder: see `sets`.
        scorers: by name; `checkpoint_scorer` makes one.
        leave_out: people of EEGMAT to pass over.
        on_progress: told the scorer, how many items are done and of how many.

    Returns:
        `figures`: by scorer and by key of `FIGURES` the fields of a `Figure`; a figure whose set is not there, or that
        asks for events of a scorer that finds none, is left out. `missing`: what is not there, in words.

    Raises:
        ValueError: as `read_sets`; a recording that a scorer cannot read.
    """
    sets, missing = read_sets(folder, leave_out=leave_out)
    figures: dict[str, dict[str, Any]] = {}
    for name, scorer in scorers.items():
        asked = {
            key: question
            for key, question in FIGURES.items()
            if question.group in sets and (scorer.threshold is not None or not question.of_events)
        }
        items = [(group, item) for group in {q.group: None for q in asked.values()} for item in sets[group]]
        found: dict[str, list[Found]] = {group: [] for group, _ in items}
        for done, (group, item) in enumerate(items, 1):
            found[group].append(find(scorer, item))
            on_progress(name, done, len(items))
        figures[name] = {key: question.measure(found[question.group])._asdict() for key, question in asked.items()}
    return {"figures": figures, "missing": missing}


def find(scorer: Scorer, item: Item) -> Found:
    """A scorer's scores and events of one item."""
    lines = scorer.score(item.open(scorer.ch_names, scorer.sfreq))
    seconds = [line.onset_seconds + np.arange(len(line.frame_logits)) * line.frame_seconds for line in lines]
    scores = np.concatenate([np.zeros(0), *(line.frame_logits for line in lines)])
    known = ~np.isnan(scores)
    analysed = sum(float((~np.isnan(line.frame_logits)).sum()) * line.frame_seconds for line in lines)
    least = scorer.threshold
    events = [] if least is None else [e for line in lines for e in find_events(**line._asdict(), threshold=least)]
    peaks = np.array([event.peak_seconds for event in events], np.float64)
    return Found(item, np.concatenate([np.zeros(0), *seconds])[known], scores[known], peaks, analysed)


# --- figures ------------------------------------------------------------------------------------------------------


def segments(found: Sequence[Found]) -> Figure:
    """AUROC of the largest score of each segment that is judged."""
    rows = [(f.item.patient, _largest(f, *f.item.judged), f.item.positive) for f in found]
    return _area(auroc, [row for row in rows if row[2] is not None], "segments")


def timing(found: Sequence[Found]) -> Figure:
    """Mean over reviewed segments of the AUROC of frames on a discharge against frames beside all of them."""
    patients, areas = [], []
    for one in found:
        if one.item.reviewed is None or not one.item.discharges:
            continue
        start, stop = one.item.reviewed
        distance = np.abs(one.seconds[:, None] - one.item.discharges).min(1)
        on, beside = distance <= NEAR_SECONDS + 1e-9, distance >= FAR_SECONDS - 1e-9
        used = (one.seconds >= start) & (one.seconds < stop) & (on | beside)
        patients.append(one.item.patient)
        areas.append(auroc(one.scores[used], on[used]))
    values = np.array(areas, np.float64)
    interval = patient_bootstrap(_mean, patients, (values,), seed=SEED, weights=~np.isnan(values))
    return Figure(interval.value, interval.low, interval.high, interval.n_patients, f"{len(areas)} segments")


def windows(found: Sequence[Found], *, metric: Callable[..., float]) -> Figure:
    """The metric of 1 s around each reviewed discharge against the whole seconds of negative segments.

    The first lie wherever the discharge does, also near a segment's end.
    """
    rows, half = [], WINDOW_SECONDS / 2
    for one in found:
        item, (start, stop) = one.item, one.item.judged
        rows += [(item.patient, _largest(one, t - half, t + half), True) for t in item.discharges]
        if item.positive is False:
            begins = np.arange(start, stop - WINDOW_SECONDS + 1e-9, WINDOW_SECONDS)
            rows += [(item.patient, _largest(one, t, t + WINDOW_SECONDS), False) for t in begins.tolist()]
    return _area(metric, rows, "windows")


def spikes_found(found: Sequence[Found]) -> Figure:
    """How many marked spikes have an event of their own within 0.1 s. Of one patient there is no interval."""
    marks = [np.array(one.item.discharges, np.float64) for one in found]
    pairs = [match_peaks(one.peaks, m, tolerance_seconds=NEAR_SECONDS) for one, m in zip(found, marks, strict=True)]
    return Figure(float(sum(map(len, pairs))), math.nan, math.nan, 1, f"{sum(map(len, marks))} spikes")


def events_in_negatives(found: Sequence[Found]) -> Figure:
    """How many events there are in segments without a discharge."""
    negative = [one for one in found if one.item.positive is False]
    seconds = sum(one.analysed_seconds for one in negative)
    return Figure(float(sum(len(one.peaks) for one in negative)), math.nan, math.nan, 1, f"{seconds:.0f} s")


def per_hour(found: Sequence[Found]) -> Figure:
    """Events an hour.

    The interval reaches as far as the wider of two at either end: from drawing patients, who differ, and of a Poisson
    count (Garwood 1936), which is not 0 wide where there is no event.
    """
    counts = np.array([len(one.peaks) for one in found], np.float64)
    hours = np.array([one.analysed_seconds / 3600 for one in found])
    drawn = patient_bootstrap(_rate, [one.item.patient for one in found], (counts, hours), seed=SEED)
    events, total = counts.sum(), hours.sum()
    poisson = (special.gammaincinv(events, 0.025) if events else 0.0, special.gammaincinv(events + 1, 0.975))
    low, high = np.minimum(drawn.low, poisson[0] / total), np.maximum(drawn.high, poisson[1] / total)  # NaN stays NaN
    return Figure(drawn.value, float(low), float(high), drawn.n_patients, f"{60 * total:.0f} min")


class Question(NamedTuple):
    """What a figure is of: its set, how it is made, whether it asks for events."""

    group: str
    measure: Callable[[Sequence[Found]], Figure]
    of_events: bool = False


FIGURES = {
    "grond_segments": Question("grond", segments),
    "grond_windows_auroc": Question("grond", partial(windows, metric=auroc)),
    "grond_windows_auprc": Question("grond", partial(windows, metric=auprc)),
    "grond_timing": Question("grond", timing),
    "vecams_segments": Question("vecams", segments),
    "iiic_segments": Question("iiic", segments),
    "snippets_found": Question("snippets", spikes_found, of_events=True),
    "snippets_false": Question("snippets", events_in_negatives, of_events=True),
    "eegmat_per_hour": Question("eegmat", per_hour, of_events=True),
}


def _largest(found: Found, start: float, stop: float) -> float:
    """The largest score within [start, stop) seconds; NaN if none lies there."""
    inside = found.scores[(found.seconds >= start - 1e-9) & (found.seconds < stop - 1e-9)]
    return float(inside.max()) if inside.size else math.nan


def _area(metric: Callable[..., float], rows: Sequence[tuple[str, float, bool | None]], what: str) -> Figure:
    patients = [row[0] for row in rows]
    scores = np.array([row[1] for row in rows], np.float64)
    labels = np.array([row[2] for row in rows], bool)
    known = ~np.isnan(scores)
    interval = patient_bootstrap(metric, patients, (scores, labels), seed=SEED, weights=known)
    rests_on = f"{(labels & known).sum()} / {(~labels & known).sum()} {what}"
    return Figure(interval.value, interval.low, interval.high, interval.n_patients, rests_on)


def _mean(values: Float[np.ndarray, "batch"], *, weights: Float[np.ndarray, "batch"]) -> float:
    return float(values @ weights / weights.sum()) if weights.sum() else math.nan


def _rate(
    counts: Float[np.ndarray, "batch"], hours: Float[np.ndarray, "batch"], *, weights: Float[np.ndarray, "batch"]
) -> float:
    analysed = float(hours @ weights)
    return float(counts @ weights) / analysed if analysed else math.nan
