"""What was found in one excerpt beside the expert's marks, and tables of it that anybody can score."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int

from experiments.sleep.data import EPOCH_SECONDS, Truth, stage_at, truth
from experiments.sleep.scoring import (
    Prediction,
    Settings,
    StageStatistics,
    spindle_counts,
    spindle_scores,
    spindles,
    stage_matrix,
    stage_probabilities,
)
from siamese_jax.cohort.sources import Opened
from siamese_jax.detection.results import write_csv
from siamese_jax.evaluation.events import EventCounts
from siamese_jax.recordings.recording import Recording
from siamese_jax.vocabulary import SLEEP

HYPNOGRAM = ("onset_seconds", "duration_seconds", "stage", *(f"probability_{stage}" for stage in SLEEP.classes))
SPINDLES = ("onset_seconds", "duration_seconds", "score", "stage")


class ScoredExcerpt(NamedTuple):
    """What was found in one excerpt, and the expert's marks.

    Attributes:
        subject: number of the excerpt.
        recording: what was scored.
        truth: the expert's marks; stages of -1 throughout without a hypnogram.
        chances: probability of each stage in each whole 30-s epoch.
        spindles: start and stop in seconds, in whatever stage.
        scores: of each of them; see `spindle_scores`.
        settings: by which both were found.
        notes: what the reader repaired, left out or missed.
    """

    subject: int
    recording: Recording
    truth: Truth
    chances: Float64[np.ndarray, "epoch class"]
    spindles: Float64[np.ndarray, "spindle start_stop"]
    scores: Float64[np.ndarray, "spindle"]
    settings: Settings
    notes: tuple[str, ...] = ()

    @property
    def stages(self) -> Int[np.ndarray, "epoch"]:
        """The likeliest stage of each epoch, as an index."""
        return self.chances.argmax(1)

    @property
    def staged(self) -> bool:
        """Whether the expert gives a stage anywhere."""
        return bool((self.truth.stages >= 0).any())

    @property
    def matrix(self) -> Float64[np.ndarray, "class class"]:
        """Epochs by true stage and found stage."""
        return stage_matrix(self.stages, self.truth)

    def counts(self, *, marked_in_nrem: bool = False) -> EventCounts | None:
        """Spindles as `spindle_counts` has them; None where nobody marked any, or stages."""
        if self.truth.spindles is None or not self.staged:
            return None
        return spindle_counts(self.spindles, self.truth, marked_in_nrem=marked_in_nrem)


def score_excerpt(
    subject: int, opened: Opened, predicted: Prediction, settings: Settings, statistics: StageStatistics
) -> ScoredExcerpt:
    """A prediction as hypnogram and spindles, beside the expert's marks."""
    found, chances = spindles(predicted, settings), stage_probabilities(predicted, settings, statistics)
    known = {"notes": opened.notes, "settings": settings}
    return ScoredExcerpt(
        subject, opened.recording, truth(opened), chances, found, spindle_scores(predicted, found), **known
    )


def write_tables(folder: Path, excerpts: Sequence[ScoredExcerpt]) -> None:
    """Write excerptN_hypnogram.csv and excerptN_spindles.csv of each subject N, labelled or not.

    A row of the first is a whole 30-s epoch, of the second a spindle, wherever it lies: `stage` is the network's at its
    middle, empty beyond the last whole epoch. Onsets and durations are in seconds from the excerpt's begin.
    """
    for one in excerpts:
        names = [SLEEP.classes[stage] for stage in one.stages]
        epochs = zip(names, one.chances, strict=True)
        rows = [
            (f"{i * EPOCH_SECONDS:.3f}", f"{EPOCH_SECONDS:.3f}", name, *(f"{p:.4f}" for p in chance))
            for i, (name, chance) in enumerate(epochs)
        ]
        write_csv(folder / f"excerpt{one.subject}_hypnogram.csv", HYPNOGRAM, rows)
        at = stage_at(one.spindles.mean(1), one.stages)
        rows = [
            (f"{start:.3f}", f"{stop - start:.3f}", f"{score:.4f}", SLEEP.classes[stage] if stage >= 0 else "")
            for (start, stop), score, stage in zip(one.spindles, one.scores, at, strict=True)
        ]
        write_csv(folder / f"excerpt{one.subject}_spindles.csv", SPINDLES, rows)
