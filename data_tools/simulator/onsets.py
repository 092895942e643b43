"""When events happen: points in time at the rates of the stages, more of them in some minutes than in others."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

EPOCH_SECONDS = 30.0
"""Stages are scored by it."""
CLUMPING = 3.0
"""Shape of the gamma distribution by which a rate varies from epoch to epoch: smaller is more clumped. INFERENCE; in
DREAMS subject 2 the median interval between spindles is 9.4 s where the mean is 18 (12.7 without clumping)."""


def draw_onsets(
    per_minute: Mapping[str, float], hypnogram: Sequence[str], seconds: float, rng: np.random.Generator
) -> Float[np.ndarray, "event"]:
    """Onsets in seconds, in order: Poisson within an epoch, at the stage's rate times a gamma variate of mean 1.

    Args:
        per_minute: Rates by stage; a stage that is missing has none.
        hypnogram: A stage for each 30-s epoch.
        seconds: Length of the recording; no onset lies beyond.
        rng: Drawn from in the same order whatever the rates are.
    """
    rates = np.array([per_minute.get(stage, 0.0) for stage in hypnogram])
    busy = rng.gamma(CLUMPING, 1 / CLUMPING, size=len(rates))
    counts = rng.poisson(rates * busy * EPOCH_SECONDS / 60)
    epochs = np.repeat(np.arange(len(rates)), counts)
    onsets = np.sort((epochs + rng.uniform(size=len(epochs))) * EPOCH_SECONDS)
    return onsets[onsets < seconds]
