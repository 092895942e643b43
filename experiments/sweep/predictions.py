"""What a run of a sweep leaves behind: its predictions on windows of patients that it did not learn from."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32, Shaped

from siamese_jax.vocabulary import STAGES

ASLEEP = len(STAGES)
"""Code of a window of which only wake or sleep is known, and that is of sleep."""


class Predictions(NamedTuple):
    """A model's predictions on all windows of some patients that have an IED label.

    Attributes:
        patient: whose each window is.
        onset_seconds: where it begins in its recording.
        label: whether it holds an IED.
        stage: index of its sleep stage in `vocabulary.STAGES`; `ASLEEP` where no more than that is known, -1 where
            nothing is.
        log_odds: of an IED.
    """

    patient: Shaped[np.ndarray, "window"]
    onset_seconds: Float64[np.ndarray, "window"]
    label: Bool[np.ndarray, "window"]
    stage: Int32[np.ndarray, "window"]
    log_odds: Float64[np.ndarray, "window"]

    @property
    def probability(self) -> Float64[np.ndarray, "window"]:
        """Of an IED."""
        return 0.5 * (1 + np.tanh(self.log_odds / 2))


class Scored(NamedTuple):
    """One trained model on patients that it never saw, its log-odds recalibrated on the validation patients.

    Attributes:
        run: name of its configuration in `experiments.sweep.runs`.
        fold: which split of the patients.
        seed: of its initial parameters, batches and augmentation.
        validation: where thresholds are fixed.
        test: where everything else is measured.
        n_parameters: that were trained.
        seconds: of training and scoring.
    """

    run: str
    fold: int
    seed: int
    validation: Predictions
    test: Predictions
    n_parameters: int
    seconds: float
