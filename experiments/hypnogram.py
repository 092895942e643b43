"""Sleep stages that a recording's annotations give, at regular steps."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from siamese_jax.recordings.recording import Annotation
from siamese_jax.shards.labels import SLEEP_RULE

UNKNOWN = -1
"""Stage of a step that nobody scored."""


def stages_of(annotations: Sequence[Annotation], n_steps: int, *, seconds: float) -> Int[np.ndarray, "step"]:
    """The stage annotated at the centre of each step of a recording, as an index into `SLEEP.classes`.

    It is UNKNOWN where nobody scored the centre, or where that stage fills less than 75 % of the second around it.

    Args:
        annotations: of the recording; texts that name no stage do not count.
        n_steps: how many steps there are, the first at 0 s.
        seconds: length of a step.
    """
    centres = (np.arange(n_steps) + 0.5) * seconds
    labels = SLEEP_RULE.label(annotations, centres - 0.5, window_seconds=1.0)
    return np.where(labels.weight > 0, labels.label, UNKNOWN)
