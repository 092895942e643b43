"""Identities of made-up checkpoints."""

from collections.abc import Sequence
from typing import Any

from siamese_jax.checkpoints import Thresholds
from siamese_jax.evaluation.metrics import points_from_rows
from siamese_jax.identity import Identity, Origin, Training, salted

DATE = "2026-01-02T03:04:05+00:00"


def learnt_from(*sources: str, patients: tuple[str, ...] = ()) -> Identity:
    """Of a model trained on these sources, in words, and on patients of these names."""
    origin = Origin("salt", patients=tuple(salted("salt", name) for name in patients), sources=sources)
    return Identity((Training("0.1.0", DATE, origin, Origin("salt")),))


def thresholds_of(rows: Sequence[dict[str, Any]]) -> Thresholds:
    """Operating points, given as JSON holds them, that were fixed on a patient `V`."""
    fixed_on = Origin("salt", patients=(salted("salt", "V"),), sources=("validation recordings",))
    return Thresholds(points_from_rows(list(rows)), fixed_on, "0.1.0", DATE)
