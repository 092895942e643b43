"""From a network's logits to a hypnogram and spindles, what both are worth, and how their settings are chosen.

Settings are chosen on people whom the network that is judged by them never saw: `choose` is given predictions of people
who were left out of training, and never sees the person to be tested.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Float64, Int, Shaped

from experiments.sleep.data import EPOCH_SECONDS, NREM, SPINDLE, Truth, stage_at
from experiments.sleep.intervals import count_intervals, find_intervals
from experiments.statistics.stages import smoothed_stages
from siamese_jax.checkpoints import Checkpoint
from siamese_jax.detection.predict import make_predictor, predict_recording, timelines
from siamese_jax.evaluation import metrics
from siamese_jax.evaluation.events import EventCounts, pool_counts
from siamese_jax.recordings.recording import Recording
from siamese_jax.vocabulary import SLEEP

T = TypeVar("T")
STEP_SECONDS = 5.0
"""Step of the chain of stages: that in which DREAMS is scored."""
LEAST_OVERLAP = 0.2
"""Intersection over union from which a spindle is found."""
LEAST_CHANCE = 1e-3
"""A stage's probability where settings are judged: one epoch that was thought impossible does not decide."""
GAP_SECONDS, MOST_SECONDS = 0.2, 3.0
"""Within a spindle, and of one (AASM: 0.5 s or more; few last 3 s). Fixed beforehand."""


class Prediction(NamedTuple):
    """What one network, or the mean of several, predicts for a recording.

    Attributes:
        log_stages: mean log-probability of each stage, every `STEP_SECONDS`.
        frame_logits: of a spindle, one a frame.
        frame_seconds: from one frame to the next.
        onset_seconds: where frame 0 is centred.
    """

    log_stages: Float64[np.ndarray, "step class"]
    frame_logits: Float[np.ndarray, "frame"]
    frame_seconds: float
    onset_seconds: float


@dataclass(frozen=True)
class Settings:
    """How a prediction becomes a hypnogram and spindles."""

    trust: float = 0.3
    """Weight of a step's log-likelihoods beside the chain of stages: steps of 5 s that share 26 s of signal are not
    independent."""
    threshold: float = 0.0
    """Least logit of a frame in a spindle."""
    least_seconds: float = 0.5
    """Shortest spindle."""


TRUST_GRID = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0)
SPINDLE_GRID: tuple[tuple[float, float], ...] = tuple(
    itertools.product((i / 4 for i in range(-20, 21)), (0.3, 0.4, 0.5, 0.6, 0.7))
)


class StageStatistics(NamedTuple):
    """What is known of stages from the hypnograms of training.

    Attributes:
        transitions: from one step to the next.
        shares: mean probability that a network gives to each stage in training.
    """

    transitions: Float64[np.ndarray, "class class"]
    shares: Float64[np.ndarray, "class"]


def predict(models: Sequence[Checkpoint], recording: Recording) -> Prediction:
    """The mean logits of several networks over a recording, window after window."""
    predicted = [_predicted(model, recording) for model in models]
    stages = np.mean([s.log_stages for s in predicted], 0)
    stages -= np.logaddexp.reduce(stages, 1)[:, None]
    return predicted[0]._replace(log_stages=stages, frame_logits=np.mean([s.frame_logits for s in predicted], 0))


def _predicted(model: Checkpoint, recording: Recording) -> Prediction:
    config, hop = model.config, model.config.data.window_seconds
    predictor = make_predictor(config, model.tasks)
    predictions = predict_recording(predictor, config, model.variables, recording, hop_seconds=hop)
    logits = predictions.window[SLEEP.name].astype(np.float64)
    logs = logits - np.logaddexp.reduce(logits, 1)[:, None]
    step = ((predictions.grid.start / recording.sfreq + hop / 2) // STEP_SECONDS).astype(np.int64)
    n_steps = int(recording.segments[0].n_times / recording.sfreq // STEP_SECONDS)
    inside = step < n_steps
    count = np.bincount(step[inside], minlength=n_steps)
    total = np.stack([np.bincount(step[inside], weights=c, minlength=n_steps) for c in logs[inside].T], 1)
    line = timelines(config, SPINDLE.name, predictions, recording.segments, hop=config.n_times)[0][0]
    return Prediction(total / count[:, None], line.frame_logits, line.frame_seconds, line.onset_seconds)


def stage_probabilities(
    predicted: Prediction, settings: Settings, statistics: StageStatistics
) -> Float64[np.ndarray, "epoch class"]:
    """Of each whole 30-s epoch: the mean over its steps, each given all.

    A likelihood is the network's probability over the share of the stage in training (Bayes).
    """
    likelihood = settings.trust * (predicted.log_stages - np.log(statistics.shares))
    chance = smoothed_stages(likelihood, statistics.transitions)
    per_epoch = round(EPOCH_SECONDS / STEP_SECONDS)
    whole = len(chance) // per_epoch * per_epoch
    return chance[:whole].reshape(-1, per_epoch, chance.shape[1]).mean(1)


def spindles(predicted: Prediction, settings: Settings) -> Float64[np.ndarray, "spindle start_stop"]:
    """Spindles in whatever stage."""
    return find_intervals(
        predicted.frame_logits,
        frame_seconds=predicted.frame_seconds,
        onset_seconds=predicted.onset_seconds,
        threshold=settings.threshold,
        least_seconds=settings.least_seconds,
        most_seconds=MOST_SECONDS,
        gap_seconds=GAP_SECONDS,
    )


def spindle_scores(
    predicted: Prediction, found: Float64[np.ndarray, "spindle start_stop"]
) -> Float64[np.ndarray, "spindle"]:
    """How sure of each spindle, 0 to 1: the mean probability of its frames.

    For ranking: frames in spindles weigh more than others in training, so that it is no calibrated probability.
    """
    chance = 1 / (1 + np.exp(-predicted.frame_logits.astype(np.float64)))
    frames = np.rint((found - predicted.onset_seconds) / predicted.frame_seconds + 0.5).astype(
        np.int64
    )  # half one to each side
    return np.array([chance[first:stop].mean() for first, stop in frames], np.float64)


def in_nrem(
    intervals: Float64[np.ndarray, "interval start_stop"], stages: Int[np.ndarray, "epoch"]
) -> Float64[np.ndarray, "_ start_stop"]:
    """The intervals whose middle lies in an epoch of N1, N2 or N3."""
    wanted = [SLEEP.classes.index(stage) for stage in NREM]
    return intervals[np.isin(stage_at(intervals.mean(1), stages), wanted)]


def stage_matrix(found: Int[np.ndarray, "epoch"], truth: Truth) -> Float64[np.ndarray, "class class"]:
    """Epochs by the expert's stage (rows) and the found one (columns)."""
    known = _known(found, truth)
    return metrics.confusion_matrix(found[known], truth.stages[known], n_classes=len(SLEEP.classes))


def stage_log_likelihood(chances: Float64[np.ndarray, "epoch class"], truth: Truth) -> float:
    """Sum over epochs of the log-probability of the expert's stage, at least `LEAST_CHANCE` each."""
    known = _known(chances, truth)
    return float(np.log(np.maximum(chances[known, truth.stages[known]], LEAST_CHANCE)).sum())


def _known(found: Shaped[np.ndarray, "epoch *_"], truth: Truth) -> Int[np.ndarray, "known"]:
    """Those of the epochs found of which the expert gives a stage."""
    return np.flatnonzero(truth.stages[: len(found)] >= 0)


def spindle_counts(
    found: Float64[np.ndarray, "spindle start_stop"], truth: Truth, *, marked_in_nrem: bool = False
) -> EventCounts:
    """Spindles found in the expert's N1 to N3 against those marked.

    Args:
        found: in whatever stage.
        truth: the expert's marks; some experts mark spindles in what another scored as wake.
        marked_in_nrem: count only what is marked in N1 to N3; else every mark, wherever it lies, is to be found.
    """
    assert truth.spindles is not None
    hours = EPOCH_SECONDS / 3600 * np.isin(truth.stages, [SLEEP.classes.index(s) for s in NREM]).sum()
    reference = in_nrem(truth.spindles, truth.stages) if marked_in_nrem else truth.spindles
    detected = in_nrem(found, truth.stages)
    return count_intervals(detected, reference, least_overlap=LEAST_OVERLAP, hours=float(hours))


def choose(
    predicted: Mapping[int, Prediction], truths: Mapping[int, Truth], statistics: Mapping[int, StageStatistics]
) -> Settings:
    """The settings that are best for these people together: likelihood of the expert's stages, and F1 of spindles.

    Of settings that are equally good, the first.

    Args:
        predicted: by person, by networks that did not learn from that person.
        truths: the expert's marks.
        statistics: of stages, by person, from the hypnograms that those networks learnt from.
    """

    def log_likelihood(trust: float) -> float:
        chances = {n: stage_probabilities(predicted[n], Settings(trust), statistics[n]) for n in predicted}
        return sum(stage_log_likelihood(chances[n], truths[n]) for n in predicted)

    looked = [n for n in predicted if truths[n].spindles is not None]

    def f1(pair: tuple[float, float]) -> float:
        settings = Settings(threshold=pair[0], least_seconds=pair[1])
        return pool_counts(spindle_counts(spindles(predicted[n], settings), truths[n]) for n in looked).f1

    threshold, least_seconds = _best(SPINDLE_GRID, f1)
    return Settings(_best(TRUST_GRID, log_likelihood), threshold, least_seconds)


def _best(grid: Sequence[T], worth: Callable[[T], float]) -> T:
    values = [worth(candidate) for candidate in grid]
    return grid[int(np.argmax([-math.inf if math.isnan(v) else v for v in values]))]
