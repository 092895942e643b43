"""How good a model is on shards: thresholds fixed on some patients, figures of others, with intervals.

Every interval is a bootstrap over patients. Windows are scored as they stand in the shards; events are found in the
frames of whole recordings, as detection finds them, and matched one to one with the events that were marked, where
somebody judged (`shards/marks.py`). A network that pools features over a window says which window holds an event, but
not when: it has no event figures, and detection takes its windows' threshold.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Shaped
from scipy import special

from siamese_jax.config.experiment import Config
from siamese_jax.detection.predict import (
    Predictions,
    Timeline,
    gives_times,
    make_predictor,
    predict_shards,
    probabilities,
    timelines,
)
from siamese_jax.evaluation import metrics, statistics
from siamese_jax.evaluation.events import Event, EventCounts, count_events, find_events, froc, match_peaks, pool_counts
from siamese_jax.evaluation.metrics import EVENTS_MAX_F1, OperatingPoint
from siamese_jax.evaluation.statistics import patient_bootstrap
from siamese_jax.models.build import chosen_tasks
from siamese_jax.pipeline import Variables
from siamese_jax.recordings.intervals import Stretch, holding, without
from siamese_jax.recordings.recording import Segment
from siamese_jax.shards.marks import Mark, TaskMarks, events_of
from siamese_jax.shards.schema import Shard
from siamese_jax.vocabulary import TaskSpec

Metric = Callable[..., float]
Arrays = tuple[np.ndarray, np.ndarray]
RATES = ("sensitivity", "precision", "specificity", "f1")
"""Measured at each threshold of windows."""
TOLERANCE_SECONDS = 0.25
"""Between an annotated and a detected peak that count as the same event."""
NO_TIMES = "no figures of events: this network finds which windows hold one, but not when"
SEED = 0
"""Of every bootstrap, so that all figures are of the same draws of patients."""
LEAST_PROBABILITY = 0.01
"""Events less likely than this are not looked at when a threshold is fixed."""


class RecordingEvents(NamedTuple):
    """Found and annotated events of one recording where it was judged; a run is one event, at its middle."""

    patient: str
    found: tuple[Event, ...]
    annotated_seconds: Float64[np.ndarray, "event"]
    hours: float
    is_run: Bool[np.ndarray, "event"]
    """Of the annotated ones: which are runs, which have no time to compare the found one with."""


class Scores(NamedTuple):
    """A model's outputs on some shards.

    Attributes:
        patients: of each window.
        labels: by task.
        weights: by task; 0 where there is no label.
        probabilities: by task, [window, logit].
        events: by binary task of events, of each recording that somebody judged.
        timeless: tasks of events that are not in `events`, since the network gives no times.
    """

    patients: Shaped[np.ndarray, "window"]
    labels: dict[str, Shaped[np.ndarray, "window ..."]]
    weights: dict[str, Float32[np.ndarray, "window"]]
    probabilities: dict[str, Float32[np.ndarray, "window _logits"]]
    events: dict[str, tuple[RecordingEvents, ...]]
    timeless: tuple[str, ...] = ()


def score(
    config: Config,
    tasks: tuple[TaskSpec, ...],
    variables: Variables,
    shards: Sequence[Shard],
    *,
    on_progress: Callable[[int], None] = lambda windows: None,
) -> Scores:
    """The model's outputs on all labelled windows of `shards`, and its events. Errors as for `predict_shards`."""
    predictor, chosen = make_predictor(config, tasks), chosen_tasks(config, tasks)
    predicted = predict_shards(predictor, config, variables, shards, on_progress=on_progress)
    of_events = [task for task in chosen if task.kind == "binary" and any(_recordings(s, task) for s in shards)]
    events = {task.name: tuple(_events(config, task, shards, predicted)) for task in of_events}
    labelled = []
    for shard, (windows, predictions) in zip(shards, predicted, strict=True):
        counts = np.any([shard.weights[name][windows] > 0 for name in config.tasks], axis=0)
        labelled.append((shard, windows[counts], {t: x[counts] for t, x in predictions.window.items()}))
    return Scores(
        patients=np.concatenate([shard.patient(windows) for shard, windows, _ in labelled]),
        labels={t: np.concatenate([s.labels[t][windows] for s, windows, _ in labelled]) for t in config.tasks},
        weights={t: np.concatenate([s.weights[t][windows] for s, windows, _ in labelled]) for t in config.tasks},
        probabilities={
            t.name: np.concatenate([probabilities(t, logits[t.name]) for _, _, logits in labelled]) for t in chosen
        },
        events={name: recordings for name, recordings in events.items() if recordings},
        timeless=tuple(name for name, recordings in events.items() if not recordings),
    )


def window_scores(
    config: Config, tasks: tuple[TaskSpec, ...], variables: Variables, shards: Sequence[Shard]
) -> dict[str, float]:
    """A few figures for the log of a training run, named `validation/<task>/<figure>`."""
    scores = score(config, tasks, variables, shards)
    line = {}
    for task in chosen_tasks(config, tasks):
        for name, metric in _figures(task).items():
            value = metric(*_arrays(task, scores), weights=scores.weights[task.name])
            line[f"validation/{task.name}/{name}"] = value
    return line


def fix_operating_points(config: Config, tasks: tuple[TaskSpec, ...], validation: Scores) -> tuple[OperatingPoint, ...]:
    """Thresholds for each binary task's windows and for its events, from validation patients alone.

    Of a multilabel task each class has the one of maximal F1, as the task `<task>/<class>`.
    """
    points: list[OperatingPoint] = []
    for task in chosen_tasks(config, tasks):
        sensitivities = metrics.SENSITIVITIES if task.kind == "binary" else ()
        for suffix, (chance, labels) in _yes_or_no(task, validation):
            points += metrics.operating_points(
                chance,
                labels,
                task=f"{task.name}{suffix}",
                weights=validation.weights[task.name],
                sensitivities=sensitivities,
            )
    for name, recordings in validation.events.items():
        points += _event_points(name, recordings)
    return tuple(points)


def report(
    config: Config,
    tasks: tuple[TaskSpec, ...],
    test: Scores,
    points: Sequence[OperatingPoint],
    *,
    n_resamples: int = 1000,
) -> dict[str, Any]:
    """Figures on test patients, by task, as a JSON-ready tree; each `{value, low, high}` is a 95 % patient bootstrap.

    Args:
        config: of the model.
        tasks: definitions.
        test: from `score`, of patients that neither training nor thresholds saw.
        points: from `fix_operating_points`.
        n_resamples: of the bootstrap.
    """
    tree: dict[str, Any] = {"patients": len(set(test.patients)), "windows": len(test.patients)}
    for task in chosen_tasks(config, tasks):
        weights = test.weights[task.name]

        def interval(metric: Metric, arrays: Arrays | None = None, task=task, weights=weights) -> dict[str, Any]:
            arrays = arrays or _arrays(task, test)
            bootstrap = {"weights": weights, "seed": SEED, "n_resamples": n_resamples}
            return _plain(patient_bootstrap(metric, test.patients, arrays, **bootstrap)._asdict())

        tree[task.name] = {name: interval(metric) for name, metric in _figures(task).items()}
        if task.kind == "multiclass":
            matrix = _matrix(*_arrays(task, test), weights=weights, task=task)
            tree[task.name] |= {"confusion": matrix.astype(int).tolist(), "classes": list(task.classes)}
        if task.kind == "binary":
            tree[task.name] |= _plain({"prevalence": metrics.prevalence(_arrays(task, test)[1], weights=weights)})
        for suffix, arrays in _yes_or_no(task, test):
            for point in points:
                if point.task == f"{task.name}{suffix}" and not point.of_events:
                    found = {"threshold": point.threshold, "positives": round(float(weights @ (arrays[1] > 0.5)))}
                    tree[task.name][f"{point.criterion}{suffix}"] = _plain(found) | {
                        rate: interval(partial(_rate_at, rate, point.threshold), arrays) for rate in RATES
                    }
    for point in points:
        if point.of_events and point.task in test.events:
            tree[point.task][point.criterion] = _event_report(test.events[point.task], point.threshold, n_resamples)
    for name in test.timeless:
        tree[name]["events"] = NO_TIMES
    return tree


# --- windows ---------------------------------------------------------------------------------------------------


def _arrays(task: TaskSpec, scores: Scores) -> Arrays:
    """What metrics of a task take: a probability a window, or the classes' probabilities; and the labels."""
    chance = scores.probabilities[task.name]
    return (chance[:, 0] if task.kind == "binary" else chance), scores.labels[task.name]


def _yes_or_no(task: TaskSpec, scores: Scores) -> Iterator[tuple[str, Arrays]]:
    """A binary task, or each class of a multilabel one, behind what its name adds to the task's."""
    chance, labels = _arrays(task, scores)
    if task.kind == "binary":
        yield "", (chance, labels)
    if task.kind == "multilabel":
        yield from ((f"/{name}", (chance[:, i], labels[:, i])) for i, name in enumerate(task.classes))


def _figures(task: TaskSpec) -> dict[str, Metric]:
    """The figures of a task that need no threshold, by name."""
    if task.kind == "multiclass":
        figures = {"accuracy": metrics.accuracy, "kappa": metrics.cohen_kappa, "macro_f1": metrics.macro_f1}
        return {name: partial(_from_matrix, figure, task) for name, figure in figures.items()}
    ranking: dict[str, Metric] = {"auroc": metrics.auroc, "auprc": metrics.auprc}
    if task.kind == "binary":
        return ranking
    return {
        f"{name}/{cls}": partial(_of_class, metric, i)
        for i, cls in enumerate(task.classes)
        for name, metric in ranking.items()
    }


def _of_class(metric: Metric, i: int, chance: np.ndarray, labels: np.ndarray, *, weights: np.ndarray) -> float:
    return metric(chance[:, i], labels[:, i], weights=weights)


def _from_matrix(
    figure: Callable[[np.ndarray], float],
    task: TaskSpec,
    chance: np.ndarray,
    labels: np.ndarray,
    *,
    weights: np.ndarray,
) -> float:
    return figure(_matrix(chance, labels, weights=weights, task=task))


def _matrix(chance: np.ndarray, labels: np.ndarray, *, weights: np.ndarray, task: TaskSpec) -> np.ndarray:
    return metrics.confusion_matrix(chance.argmax(-1), labels, n_classes=len(task.classes), weights=weights)


def _rate_at(rate: str, threshold: float, chance: np.ndarray, labels: np.ndarray, *, weights: np.ndarray) -> float:
    return getattr(metrics.confusion(chance, labels, threshold=threshold, weights=weights), rate)


# --- events ----------------------------------------------------------------------------------------------------


def _events(
    config: Config,
    task: TaskSpec,
    shards: Sequence[Shard],
    predicted: Sequence[tuple[Int[np.ndarray, "window"], Predictions]],
) -> Iterator[RecordingEvents]:
    """Each recording's events of a binary task, where somebody judged and the signal is good.

    None if the network gives no times.
    """
    for shard, (windows, predictions) in zip(shards, predicted, strict=True):
        hop, table = shard.info.hop, shard.segments
        if not gives_times(config, task.name, predictions, hop=hop):
            continue
        columns = (table["onset_seconds"].tolist(), table["length"].tolist())
        segments = [Segment(onset, length) for onset, length in zip(*columns, strict=True)]
        for recording, held in _recordings(shard, task).items():
            mine = shard.recording[windows] == recording
            if mine.any():
                own = jax.tree.map(lambda x, mine=mine: x[mine], predictions)
                lines = [line for line, _ in timelines(config, task.name, own, segments, hop=hop)]
                patient = str(shard.recordings["patient"][recording])
                yield _recording_events(patient, lines, held, shard.bad(recording))


def _recordings(shard: Shard, task: TaskSpec) -> dict[int, TaskMarks]:
    """The recordings in which somebody judged a task of events: marks of a state are none."""
    every = {i: shard.task_marks(task.name, i) for i in range(len(shard.recordings["name"]))}
    return {i: held for i, held in every.items() if held.judged and all(m.kind != "state" for m in held.marks)}


def _recording_events(
    patient: str, lines: Sequence[Timeline], held: TaskMarks, bad: Sequence[Stretch]
) -> RecordingEvents:
    """What is found and what was marked where somebody judged; `lines` may reach further.

    Nothing is found or missed within the tolerance of a mark of unknown class. Of what is found within one run, the
    most probable alone counts, at the run's middle: nobody counts a run's discharges.
    """
    every = events_of(held.marks)
    unknown = [event for event in every if event.code < 0]
    spared = [(e.onset_seconds - TOLERANCE_SECONDS, e.duration_seconds + 2 * TOLERANCE_SECONDS) for e in unknown]
    judged = without(held.judged, [*spared, *bad])
    analysed, found = [], []
    for line in lines:
        times = line.onset_seconds + line.frame_seconds * np.arange(len(line.frame_logits))
        counts = holding(judged, times, seconds=0.0) & ~np.isnan(line.frame_logits)
        analysed.append((times[counts], line.frame_seconds))
        logits = np.where(counts, line.frame_logits, np.nan).astype(np.float32)
        found += find_events(**line._replace(frame_logits=logits)._asdict(), threshold=LEAST_PROBABILITY)
    marked = [event for event in every if event.code > 0 and any(_is_in(event, *frames) for frames in analysed)]
    for run in (event for event in marked if event.kind == "run"):
        first, last = run.onset_seconds - TOLERANCE_SECONDS, run.stop_seconds + TOLERANCE_SECONDS
        inside = [event for event in found if first <= event.peak_seconds <= last]
        if inside:
            best = max(inside, key=lambda event: event.probability)
            found = [e for e in found if e not in inside] + [best._replace(peak_seconds=run.place_seconds)]
    hours = sum(len(times) * frame_seconds for times, frame_seconds in analysed) / 3600
    places, is_run = np.array([event.place_seconds for event in marked], float), [e.kind == "run" for e in marked]
    return RecordingEvents(patient, tuple(found), places, hours, np.array(is_run, bool))


def _is_in(event: Mark, times: Float64[np.ndarray, "frame"], frame_seconds: float) -> bool:
    """Whether an event's place, or some of a run, lies in frames that were analysed."""
    ends = (event.onset_seconds, event.stop_seconds) if event.kind == "run" else (event.place_seconds,) * 2
    reach = frame_seconds / 2 + 1e-6  # a frame stands for half a step to each side
    return bool(((times >= ends[0] - reach) & (times <= ends[1] + reach)).any())


def _event_points(task: str, events: Sequence[RecordingEvents]) -> Iterator[OperatingPoint]:
    """The threshold of maximal event F1, then the lowest one of each rate of false events that some threshold keeps."""
    yield _event_point(task, EVENTS_MAX_F1, _max_f1_threshold(events), events)
    hours = sum(e.hours for e in events)
    thresholds = [*sorted({e.probability for one in events for e in one.found}, reverse=True), LEAST_PROBABILITY]
    for rate in metrics.FALSE_PER_HOUR:
        # A lower threshold never has fewer false events: another event found adds a match or a false one.
        n_kept = bisect_right(
            thresholds, rate * hours, key=lambda least: pool_counts(_counts(events, least)).false_detections
        )
        if n_kept:
            yield _event_point(task, metrics.at_rate(rate), thresholds[n_kept - 1], events)


def _max_f1_threshold(events: Sequence[RecordingEvents]) -> float:
    hours = sum(e.hours for e in events)
    curve = froc(
        [e.found for e in events],
        [e.annotated_seconds for e in events],
        hours=hours,
        tolerance_seconds=TOLERANCE_SECONDS,
    )
    annotated = sum(len(e.annotated_seconds) for e in events)
    matched, false = curve.sensitivity * annotated, curve.false_detections_per_hour * hours
    if not annotated or not len(matched):
        return math.nan
    return float(curve.thresholds[int(np.argmax(2 * matched / (matched + false + annotated)))])


def _event_point(task: str, criterion: str, threshold: float, events: Sequence[RecordingEvents]) -> OperatingPoint:
    """A threshold with what it gives, and the upper limit of its rate of false events.

    The limit is the higher of two: from drawing patients, who differ, and of a Poisson count (Garwood 1936), which is
    above 0 where there is no false event.
    """
    if math.isnan(threshold):
        return OperatingPoint(task, criterion, *([math.nan] * 6), n_windows=0)
    rows = _counts(events, threshold)
    counts, patients = pool_counts(rows), [one.patient for one in events]
    columns = np.array([row.false_detections for row in rows], float), np.array([row.hours for row in rows], float)
    drawn = patient_bootstrap(_false_per_hour, patients, columns, seed=SEED, level=0.9)  # two-sided
    return OperatingPoint(
        task=task,
        criterion=criterion,
        threshold=threshold,
        sensitivity=counts.sensitivity,
        precision=counts.precision,
        specificity=math.nan,
        f1=counts.f1,
        prevalence=math.nan,
        n_windows=0,
        false_per_hour=counts.false_detections_per_hour,
        false_per_hour_limit=float(
            np.fmax(drawn.high, special.gammaincinv(counts.false_detections + 1, 0.95) / counts.hours)
        ),
        hours=counts.hours,
    )


def _false_per_hour(
    false: Float64[np.ndarray, "recording"],
    hours: Float64[np.ndarray, "recording"],
    *,
    weights: Float64[np.ndarray, "recording"],
) -> float:
    return float(weights @ false / (weights @ hours))


def _counts(events: Sequence[RecordingEvents], threshold: float) -> list[EventCounts]:
    """What a threshold gives in each recording."""
    rows = []
    for one in events:
        peaks = _peaks(one, threshold)
        rows.append(count_events(peaks, one.annotated_seconds, tolerance_seconds=TOLERANCE_SECONDS, hours=one.hours))
    return rows


def _peaks(one: RecordingEvents, threshold: float) -> Float64[np.ndarray, "event"]:
    """Times of the events found in a recording that are as probable as the threshold or more."""
    return np.array([event.peak_seconds for event in one.found if event.probability >= threshold], np.float64)


def found_and_real(
    one: RecordingEvents,
) -> tuple[Float64[np.ndarray, "event"], Bool[np.ndarray, "event"]]:
    """The probability of each event found in a recording, and whether it matches an annotated one."""
    chance = np.array([event.probability for event in one.found], np.float64)
    peaks = _peaks(one, 0.0)
    real = np.zeros(len(peaks), bool)
    real[match_peaks(peaks, one.annotated_seconds, tolerance_seconds=TOLERANCE_SECONDS)[:, 0]] = True
    return chance, real


def _errors(one: RecordingEvents, threshold: float) -> Float64[np.ndarray, "pair"]:
    """How far the found events lie from the single ones that they match, in seconds."""
    peaks = _peaks(one, threshold)
    pairs = match_peaks(peaks, one.annotated_seconds, tolerance_seconds=TOLERANCE_SECONDS)
    pairs = pairs[~one.is_run[pairs[:, 1]]]
    return np.abs(peaks[pairs[:, 0]] - one.annotated_seconds[pairs[:, 1]])


def _event_report(events: Sequence[RecordingEvents], threshold: float, n_resamples: int) -> dict[str, Any]:
    columns = tuple(np.array(column, np.float64) for column in zip(*_counts(events, threshold), strict=True))
    patients = np.array([recording.patient for recording in events], object)

    def interval(rate: str) -> dict[str, Any]:
        def metric(*columns: np.ndarray, weights: np.ndarray) -> float:
            matched, false, missed, hours = (float(weights @ column) for column in columns)
            return getattr(EventCounts(round(matched), round(false), round(missed), hours), rate)

        return _plain(patient_bootstrap(metric, patients, columns, seed=SEED, n_resamples=n_resamples)._asdict())

    rates = ("sensitivity", "precision", "f1", "false_detections_per_hour")
    about = {"threshold": threshold, "tolerance_seconds": TOLERANCE_SECONDS, "hours": float(columns[3].sum())}
    errors = np.concatenate([np.zeros(0), *(_errors(one, threshold) for one in events)])
    median, most = np.quantile(errors, (0.5, 0.9)).tolist() if errors.size else (math.nan, math.nan)
    about |= {"error_seconds_median": median, "error_seconds_90": most}
    about["annotated"] = int(columns[0].sum() + columns[2].sum())
    return _plain(about) | {rate: interval(rate) for rate in rates}


def _plain(figures: dict[str, Any]) -> dict[str, Any]:
    """The same with None for what is not defined: JSON has no NaN."""
    return {k: v if isinstance(v, int) or math.isfinite(v) else None for k, v in figures.items()}


# --- text ------------------------------------------------------------------------------------------------------


def report_text(tree: dict[str, Any]) -> str:
    """The figures of `report` as lines to print."""
    n = f"{tree['patients']} patient{'s' * (tree['patients'] != 1)}"
    lines = [f"{n}, {tree['windows']} windows; [95 % bootstrap over patients]"]
    for key, what in (
        ("training_patients", "the model learnt from"),
        ("threshold_patients", "thresholds were fixed on"),
    ):
        if tree.get(key):
            lines.append(f"warning   {what} {tree[key]} of these patients: figures of them are too good")
    if tree.get("thresholds"):
        lines.append(f"thresholds {tree['thresholds']}")
    for task, figures in tree.items():
        if not isinstance(figures, dict):
            continue
        note = f" (prevalence {figures['prevalence']:.3f})" if figures.get("prevalence") is not None else ""
        lines.append(f"{task}{note}")
        lines += [f"  {name:<12} {_bracketed(item)}" for name, item in figures.items() if _is_interval(item)]
        for name, point in figures.items():
            if isinstance(point, dict) and "threshold" in point:
                lines.append(f"  {name}, {_threshold_text(point)}")
                lines += [f"    {rate:<26} {_bracketed(item)}" for rate, item in point.items() if _is_interval(item)]
                if point.get("error_seconds_median") is not None:
                    error = f"median {point['error_seconds_median']:.3f}, 90 % within {point['error_seconds_90']:.3f}"
                    lines.append(f"    {'seconds from the mark':<26} {error}")
        lines += [f"  {figures['events']}"] if "events" in figures else []
    return "\n".join(lines)


def _threshold_text(point: dict[str, Any]) -> str:
    support = f"; {point['positives']} positive windows" if "positives" in point else ""
    if point["threshold"] is None:
        return f"no threshold: no positive among the patients that it was to be fixed on{support}"
    return f"threshold {point['threshold']:.3f}{support}"


def _is_interval(item: Any) -> bool:
    return isinstance(item, dict) and "value" in item


def _bracketed(item: dict[str, Any]) -> str:
    values: dict[str, Any] = {name: math.nan if value is None else value for name, value in item.items()}
    return str(statistics.Interval(**values))
