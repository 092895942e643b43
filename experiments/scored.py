"""What a run of a sweep leaves behind: what it answered on windows that it did not learn from."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32, Shaped

from siamese_jax.vocabulary import STAGES

ASLEEP = len(STAGES)
"""Code of a window whose stage is not known but that it is one of sleep, as where wake and sleep alone were told."""


class Answers(NamedTuple):
    """A model's answers on all windows of some patients that have an IED label.

    Attributes:
        patient: whose each window is.
        onset_seconds: where it begins in its recording.
        label: whether it holds an IED.
        stage: index of its sleep stage in `vocabulary.STAGES`; `ASLEEP` where no more than that is known, -1 where
            nothing is.
        probability: of an IED, recalibrated on the validation patients.
    """

    patient: Shaped[np.ndarray, "window"]
    onset_seconds: Float64[np.ndarray, "window"]
    label: Bool[np.ndarray, "window"]
    stage: Int32[np.ndarray, "window"]
    probability: Float64[np.ndarray, "window"]


class Scored(NamedTuple):
    """One trained model on patients that it never saw.

    Attributes:
        run: name of its configuration in `experiments.runs`.
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
    validation: Answers
    test: Answers
    n_parameters: int
    seconds: float
