"""What scores every moment of a recording: a checkpoint, several together, and two plain properties of the signal."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import signal

from siamese_jax.checkpoints import Checkpoint
from siamese_jax.detection.detect import HOP_SECONDS, event_threshold
from siamese_jax.detection.predict import Timeline, make_predictor, predict_recording, timelines
from siamese_jax.recordings.recording import Recording
from siamese_jax.vocabulary import IED, TEN_TWENTY

BAND_HZ, ORDER, SFREQ = (1.0, 35.0), 2, 200.0
BATCH_SIZE = 16
"""Windows at a time: most recordings here have no more, and a batch is computed whole."""


@dataclass(frozen=True)
class Scorer:
    """Scores by frame: larger means more likely a discharge.

    Attributes:
        ch_names: electrodes that it reads.
        sfreq: at which rate, in Hz.
        score: of a recording, its scores along each stretch without a gap.
        threshold: least probability of an event; None if the scores are no log-odds: then it finds no events.
        words: where it comes from.
    """

    ch_names: tuple[str, ...]
    sfreq: float
    score: Callable[[Recording], list[Timeline]]
    threshold: float | None
    words: str


def checkpoint_scorer(checkpoint: Checkpoint, *, threshold: float | None = None) -> Scorer:
    """The log-odds of a checkpoint's task `ied`, by frame, as `siamese-jax detect` has them where no electrode is bad.

    Args:
        checkpoint: as loaded, or as a training run holds it.
        threshold: least probability of an event; None takes the checkpoint's own.

    Raises:
        ValueError: a checkpoint without that task; a threshold that is no probability.
    """
    config, hop = checkpoint.config, checkpoint.config.hop(HOP_SECONDS)
    least, origin = event_threshold(checkpoint, threshold, task=IED.name)
    predictor = make_predictor(config, checkpoint.tasks)

    def score(recording: Recording) -> list[Timeline]:
        predictions = predict_recording(
            predictor, config, checkpoint.variables, recording, hop_seconds=HOP_SECONDS, batch_size=BATCH_SIZE
        )
        return [line for line, _ in timelines(config, IED.name, predictions, recording.segments, hop=hop)]

    words = f"threshold {least:.4g} ({origin}); trained on: {'; '.join(checkpoint.trained_on) or 'not known'}"
    return Scorer(config.data.ch_names, config.data.sfreq, score, least, words)


def ensemble_scorer(scorers: Sequence[Scorer], *, threshold: float | None = None) -> Scorer:
    """Several checkpoints as one: the mean of their log-odds, frame by frame.

    Args:
        scorers: with the same electrodes, rate and frames.
        threshold: least probability of an event; None takes the mean, in log-odds, of theirs.

    Raises:
        ValueError: no scorers, or some that read other electrodes or another rate, or that give no log-odds.
    """
    if len({(one.ch_names, one.sfreq) for one in scorers}) != 1:
        raise ValueError("an ensemble needs scorers that read the same electrodes at the same rate")
    thresholds = [one.threshold for one in scorers if one.threshold is not None]
    if len(thresholds) != len(scorers):
        raise ValueError("an ensemble averages log-odds: an amplitude cannot be part of it")
    mean = float(np.mean([math.log(p) - math.log1p(-p) for p in thresholds]))
    least = 1 / (1 + math.exp(-mean)) if threshold is None else threshold

    def score(recording: Recording) -> list[Timeline]:
        return [_mean(lines) for lines in zip(*(one.score(recording) for one in scorers), strict=True)]

    words = f"the mean log-odds of {len(scorers)} checkpoints, threshold {least:.4g}"
    return dataclasses.replace(scorers[0], score=score, threshold=least, words=words)


def plain_scorers() -> dict[str, Scorer]:
    """Two properties of the signal, so that an easy task is not taken for a hard one.

    `amplitude` is the largest absolute value over electrodes of the common-average signal of 1 to 35 Hz, `sharpness`
    that of its second derivative.
    """
    band = f"{BAND_HZ[0]:g} to {BAND_HZ[1]:g} Hz, common average: the largest absolute value over electrodes"
    return {
        "amplitude": Scorer(TEN_TWENTY, SFREQ, partial(_plain, derivative=0), None, band),
        "sharpness": Scorer(TEN_TWENTY, SFREQ, partial(_plain, derivative=2), None, f"{band} of its second derivative"),
    }


def _mean(lines: Sequence[Timeline]) -> Timeline:
    frames = {(line.onset_seconds, line.frame_seconds, len(line.frame_logits)) for line in lines}
    if len(frames) > 1:
        raise ValueError(f"an ensemble needs checkpoints with the same frames, given (onset, step, number) {frames}")
    logits = np.mean([line.frame_logits for line in lines], 0, dtype=np.float32)
    return lines[0]._replace(frame_logits=logits)


def _plain(recording: Recording, *, derivative: int) -> list[Timeline]:
    sections = signal.butter(ORDER, BAND_HZ, "bandpass", fs=recording.sfreq, output="sos")
    lines = []
    for index, segment in enumerate(recording.segments):
        eeg = recording.read(index, 0, segment.n_times)[:, recording.present].astype(np.float64)
        eeg = signal.sosfiltfilt(sections, eeg - eeg.mean(1, keepdims=True), axis=0)
        for _ in range(derivative):
            eeg = np.gradient(eeg, axis=0)
        scores = np.abs(eeg).max(1).astype(np.float32)
        lines.append(Timeline(scores, 1 / recording.sfreq, segment.onset_seconds, 0.0, 1.0))
    return lines
