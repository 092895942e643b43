"""A recording to Detections: events with time, place and stage, the hypnogram, counts by stage, what was analysed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from siamese_jax.checkpoints import Checkpoint
from siamese_jax.config.experiment import Config
from siamese_jax.detection.predict import (
    Predictions,
    Timeline,
    make_predictor,
    predict_recording,
    probabilities,
    timelines,
)
from siamese_jax.evaluation.events import Event, find_events
from siamese_jax.evaluation.metrics import EVENTS_MAX_F1, FALSE_PER_HOUR, MAX_F1, at_rate
from siamese_jax.models.build import chosen_tasks
from siamese_jax.recordings.quality import Quality, QualityReport, judge
from siamese_jax.recordings.recording import Recording, Segment, read_once
from siamese_jax.recordings.windows import WindowGrid, window_onsets
from siamese_jax.vocabulary import IED, SLEEP, STATE, TEN_TWENTY, standard_names

EPOCH_SECONDS = 30.0
"""AASM sleep-scoring epoch; epochs count from the recording's start."""
HOP_SECONDS = 1.0
NEAR_SECONDS, AROUND_SECONDS = 0.1, 0.5
"""From where the network found an event: where its deflection is searched for, and what that is measured against (the
median)."""
EDGE_SHARE = 0.2
"""A deflection lasts while it stays above this share of its peak."""
CRITERIA = (EVENTS_MAX_F1, MAX_F1)
"""Operating points in order of preference: fixed on events, else on windows."""
MOST_BELOW, BELOW_ODDS = 500, 0.1
"""Events below the threshold that a reader may still look at: so many at most, down to this share of its odds."""
APART_SECONDS = 0.2
"""Least distance of an event below the threshold from one that reaches it."""


class Detection(NamedTuple):
    """One event: an IED, a spindle, ...; times in seconds from the recording's start, gaps included.

    The network says within about 0.1 s where it is; the time of its peak, its onset and its duration are those of the
    largest deflection there.
    """

    onset_seconds: float
    duration_seconds: float
    peak_seconds: float
    probability: float
    channel: str
    """Scalp electrode with the largest deflection from the common average within 0.1 s of what the network says."""
    amplitude_uv: float
    """That deflection; negative is surface-negative."""
    stage: str | None
    """Of the epoch that holds the peak; None if the checkpoint has no stages or the epoch has none."""


class Epoch(NamedTuple):
    """One 30-s epoch of the hypnogram; `probability` is that of its stage, `analysed_seconds` what it rests on."""

    onset_seconds: float
    stage: str
    probability: float
    analysed_seconds: float


class StageCount(NamedTuple):
    """Events within one stage: number, minutes analysed, rate."""

    stage: str
    events: int
    minutes: float

    @property
    def per_hour(self) -> float:
        """Events per hour of this stage; NaN if none of it was analysed."""
        return 60 * self.events / self.minutes if self.minutes else math.nan


@dataclass(frozen=True)
class Detections:
    """What was found in one recording, and what was analysed."""

    events: tuple[Detection, ...]
    hypnogram: tuple[Epoch, ...]
    recording_seconds: float
    analysed_seconds: float
    threshold: float
    """NaN if the model detects no events."""
    threshold_origin: str
    """Where the threshold comes from, in words."""
    quality: QualityReport = QualityReport()
    """Which electrodes were bad, and when."""
    task: str | None = IED.name
    """Of the events; None if the model knows stages alone."""
    below: tuple[Detection, ...] = ()
    """Events that do not reach the threshold, for a reader who wants to lower it; no result counts them."""

    def counts(self) -> tuple[StageCount, ...]:
        """Events and analysed minutes by stage, every stage listed; then `all`."""
        rows = []
        for stage in SLEEP.classes if self.hypnogram else ():
            minutes = sum(e.analysed_seconds for e in self.hypnogram if e.stage == stage) / 60
            rows.append(StageCount(stage, sum(e.stage == stage for e in self.events), minutes))
        return (*rows, StageCount("all", len(self.events), self.analysed_seconds / 60))


def detect(
    checkpoint: Checkpoint,
    recording: Recording,
    *,
    threshold: float | None = None,
    false_per_hour: float | None = None,
    hop_seconds: float = HOP_SECONDS,
    task: str | None = None,
    exclude: Sequence[str] = (),
    on_progress: Callable[[float], None] = lambda seconds: None,
) -> Detections:
    """Events and sleep stages of a recording.

    An electrode that is bad (`recordings/quality.py`) is taken as absent there; what lies where half of the electrodes
    or more are bad is not analysed.

    Args:
        checkpoint: from `checkpoints.load`. It knows a binary task of events, or sleep stages, or both.
        recording: read with the checkpoint's `data.ch_names` and `data.sfreq`.
        threshold: least probability of an event; None takes the operating point fixed on validation patients.
        false_per_hour: take the threshold that was fixed for so many false events an hour.
        hop_seconds: from one window to the next.
        task: binary task whose events are wanted; None takes `event_task`.
        exclude: electrodes to take as absent.
        on_progress: called with the seconds of signal done.

    Raises:
        ValueError: a checkpoint without such a task, a recording without a gap-free window or without one that is good,
            an impossible threshold or hop, a rate of false events for which no threshold was fixed, an electrode to
            exclude that the model does not know.
    """
    config = checkpoint.config
    task = event_task(checkpoint, task)
    least, origin = event_threshold(checkpoint, threshold, false_per_hour=false_per_hour, task=task)
    out = excluded(config, exclude)
    recording = replace(recording, present=recording.present & ~np.isin(recording.ch_names, out))
    passing = read_once(recording)  # to judge and to predict, in step
    quality = judge(passing)
    predictions = predict_recording(
        make_predictor(config, checkpoint.tasks),
        config,
        checkpoint.variables,
        passing,
        hop_seconds=hop_seconds,
        quality=quality,
        on_progress=on_progress,
    )
    hop, segments = config.hop(hop_seconds), recording.segments
    lines = timelines(config, task, predictions, segments, hop=hop) if task else []
    events = [(index, event) for line, index in lines for event in find_events(**line._asdict(), threshold=least)]
    below = _below(lines, events, least)
    epochs = _hypnogram(config, predictions, recording, hop_seconds)
    stage_of_epoch = {round(epoch.onset_seconds / EPOCH_SECONDS): epoch.stage for epoch in epochs}

    def located(found: Sequence[tuple[int, Event]]) -> tuple[Detection, ...]:
        rows = []
        for index, event in found:
            onset, duration, peak, channel, amplitude = _deflection(recording, quality, index, event.peak_seconds)
            stage = stage_of_epoch.get(int(peak // EPOCH_SECONDS))
            rows.append(Detection(onset, duration, peak, event.probability, channel, amplitude, stage))
        return tuple(sorted(rows, key=lambda event: event.peak_seconds))

    return Detections(
        events=located(events),
        hypnogram=epochs,
        recording_seconds=sum(s.n_times for s in recording.segments) / recording.sfreq,
        analysed_seconds=_covered(predictions, recording.segments, config) / recording.sfreq,
        threshold=least,
        threshold_origin=origin,
        quality=quality.report(),
        task=task,
        below=located(below),
    )


def excluded(config: Config, given: Sequence[str]) -> tuple[str, ...]:
    """The standard names of electrodes to exclude.

    Raises:
        ValueError: one is named twice, or is none of the model's.
    """
    names = standard_names(given)
    if unknown := [name for name in names if name not in config.data.ch_names]:
        raise ValueError(
            f"cannot exclude {', '.join(unknown)}: the model's electrodes are {', '.join(config.data.ch_names)}"
        )
    return names


def event_task(checkpoint: Checkpoint, given: str | None = None) -> str | None:
    """The task whose events are detected: `given`, else `ied`, else the first binary task that is no task of state.

    None for a checkpoint that knows stages and no events.

    Raises:
        ValueError: `given` is no binary task of the checkpoint; a checkpoint that knows neither events nor stages.
    """
    config = checkpoint.config
    binary = [task.name for task in chosen_tasks(config, checkpoint.tasks) if task.kind == "binary"]
    if given is not None:
        if given not in binary:
            raise ValueError(f"the model has no task of events {given!r}: there are {', '.join(binary) or 'none'}")
        return given
    if IED.name in binary:
        return IED.name
    # A sleep model may hold spindles among its tasks of state: their heads only read other features.
    events = [name for name in binary if name != STATE.name]
    if not events and SLEEP.name not in config.tasks:
        raise ValueError(f"the model was trained for {', '.join(config.tasks)}: it detects neither events nor stages")
    return events[0] if events else None


def event_threshold(
    checkpoint: Checkpoint, given: float | None, *, task: str | None, false_per_hour: float | None = None
) -> tuple[float, str]:
    """The least probability of an event of a task, and where it comes from in words; NaN without a task.

    Raises:
        ValueError: a threshold that is no probability, or a rate besides; a rate for which no threshold was fixed; a
            model without events.
    """
    if task is None:
        if given is not None or false_per_hour is not None:
            raise ValueError("the model knows stages and no events: it takes no threshold and no false_per_hour")
        return math.nan, "the model detects no events"
    if given is not None:
        if false_per_hour is not None:
            raise ValueError(f"give a threshold ({given:g}) or false events an hour ({false_per_hour:g}), not both")
        if not 0 < given < 1:
            raise ValueError(f"threshold must be a probability between 0 and 1, given {given}")
        return given, "given"
    points = {p.criterion: p for p in checkpoint.points if p.task == task}
    where, fixed = "", checkpoint.thresholds
    if fixed is not None:
        where = fixed.text()
        if len(fixed.points) > len(checkpoint.points):
            where += f"; the checkpoint's {EVENTS_MAX_F1} is not used, since this network gives no times"
    criteria = CRITERIA if false_per_hour is None else (at_rate(false_per_hour),)
    for criterion in criteria:
        if criterion in points and not math.isnan(points[criterion].threshold):
            rate = points[criterion].rate_text()
            return points[criterion].threshold, f"operating point {criterion}{rate and f': {rate}'}, {where}"
    if false_per_hour is not None:
        fixed_for = ", ".join(f"{rate:g}" for rate in FALSE_PER_HOUR if at_rate(rate) in points)
        advice = "run `siamese-jax fix-thresholds` again, which fixes some where recordings are long enough"
        raise ValueError(
            f"the checkpoint has no threshold for {false_per_hour:g} false events an hour"
            + (f", but for {fixed_for}" if fixed_for else f" or any other number: {advice}")
        )
    return 0.5, "no operating point in the checkpoint: run `siamese-jax fix-thresholds` to fix one"


def _below(
    lines: Sequence[tuple[Timeline, int]], events: Sequence[tuple[int, Event]], threshold: float
) -> list[tuple[int, Event]]:
    """The most probable events below a threshold and apart from those that reach it, each with its segment."""
    odds = BELOW_ODDS * threshold / (1 - threshold)
    more = [(index, e) for line, index in lines for e in find_events(**line._asdict(), threshold=odds / (1 + odds))]
    peaks = np.sort([event.peak_seconds for _, event in events])
    found = []
    for index, event in more:
        at = np.searchsorted(peaks, event.peak_seconds)
        distance = np.abs(peaks[max(at - 1, 0) : at + 1] - event.peak_seconds).min(initial=np.inf)
        if event.probability < threshold and distance >= APART_SECONDS:
            found.append((index, event))
    return sorted(found, key=lambda one: -one[1].probability)[:MOST_BELOW]


def _hypnogram(config: Config, predictions: Predictions, recording: Recording, hop_seconds: float) -> tuple[Epoch, ...]:
    """The stage of each 30-s epoch of which windows' centres cover half: the largest mean probability."""
    if SLEEP.name not in predictions.window:
        return ()
    onsets = window_onsets(recording.segments, predictions.grid, sfreq=recording.sfreq)
    index = ((onsets + config.data.window_seconds / 2) // EPOCH_SECONDS).astype(np.int64)
    chance = probabilities(SLEEP, predictions.window[SLEEP.name])
    count = np.bincount(index)
    total = np.stack([np.bincount(index, weights=column) for column in chance.T], 1)
    analysed = np.minimum(count * hop_seconds, EPOCH_SECONDS)
    epochs = np.flatnonzero(analysed >= EPOCH_SECONDS / 2)
    mean = total[epochs] / count[epochs, None]
    return tuple(
        Epoch(
            float(epoch * EPOCH_SECONDS),
            SLEEP.classes[int(row.argmax())],
            float(row.max()),
            float(analysed[epoch]),
        )
        for epoch, row in zip(epochs, mean, strict=True)
    )


def _deflection(
    recording: Recording, quality: Quality, index: int, found_seconds: float
) -> tuple[float, float, float, str, float]:
    """The largest deflection from the common average near a moment: onset, duration, peak, electrode, microvolts."""
    segment, sfreq = recording.segments[index], recording.sfreq
    centre = round((found_seconds - segment.onset_seconds) * sfreq)
    reach, near = round(AROUND_SECONDS * sfreq), round(NEAR_SECONDS * sfreq)
    moment = WindowGrid(np.array([index], np.int32), np.array([centre], np.int64))
    present = quality.within(moment, window=1, reach=reach)[0][0]
    scalp = [i for i, name in enumerate(recording.ch_names) if name in TEN_TWENTY and present[i]]
    scalp = scalp or np.flatnonzero(present).tolist()
    first, stop = max(centre - reach, 0), min(centre + reach, segment.n_times)
    eeg: Float32[np.ndarray, "time chan"] = recording.read(index, first, stop)[:, scalp]
    eeg = eeg - np.median(eeg, 0)
    if len(scalp) > 1:
        eeg = eeg - eeg.mean(1, keepdims=True)
    begin = max(centre - near - first, 0)
    close = eeg[begin : centre + near - first + 1]
    time, chan = np.unravel_index(np.abs(close).argmax(), close.shape)
    peak, amplitude = begin + int(time), float(close[time, chan])
    below = np.flatnonzero(eeg[:, chan] * np.sign(amplitude) <= EDGE_SHARE * abs(amplitude))
    left, right = below[below < peak].max(initial=0), below[below > peak].min(initial=len(eeg) - 1)
    seconds = [segment.onset_seconds + (first + i) / sfreq for i in (left, right, peak)]
    return seconds[0], seconds[1] - seconds[0], seconds[2], recording.ch_names[scalp[int(chan)]], amplitude


def _covered(predictions: Predictions, segments: Sequence[Segment], config: Config) -> int:
    """Samples within at least one window."""
    covered = 0
    for index in range(len(segments)):
        starts = predictions.grid.start[predictions.grid.segment == index]
        if len(starts):
            covered += int(np.minimum(np.diff(starts), config.n_times).sum()) + config.n_times
    return covered
