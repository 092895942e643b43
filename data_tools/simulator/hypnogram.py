"""A night's or a day's sleep: the stage of every 30-s epoch, and what the brain did beneath that verdict.

Stages follow a Markov chain from epoch to epoch (as in Kemp and Kamphuisen, Sleep 1986;9:405) whose probabilities
change with two slow processes: the need for deep sleep, which sleep uses up (Borbely's process S), and the cycle of
some 95 minutes that opens a window for REM sleep at its end, longer from cycle to cycle. The figures are ours; the
nights they give are compared with published ones (Ohayon et al., Sleep 2004;27:1255) by the tests.

A scorer gives one stage to 30 s. The brain is less tidy: it changes stage within an epoch, is aroused for seconds,
waxes and wanes between wake and N1, and deepens by degrees. `Night.weights` gives these gradual stages.
"""

from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from data_tools.simulator.noise import wander
from data_tools.simulator.onsets import EPOCH_SECONDS
from siamese_jax.vocabulary import STAGES

NIGHT_MINUTES = 480.0
"""Lights off to lights on (RECALL, usual for a laboratory)."""

RecordingKind = Literal["night", "day", "mixed"]

SLEEP_LATENCY_MINUTES = {"night": 14.0, "day": 9.0}
"""Mean from lights off to the first sleep: 10-20 at night (Ohayon 2004, RECALL); shorter after sleep deprivation, as is
usual before a daytime EEG (RECALL; the figure is ours)."""
CYCLE_MINUTES, CYCLE_SPREAD = 95.0, 10.0
"""Length of an NREM-REM cycle, 90-110 (RECALL)."""
REM_WINDOW = (0.12, 0.24, 0.34, 0.38)
"""Share of each cycle, at its end, in which REM sleep comes easily; the last for all later ones (INFERENCE)."""
NEED_HOURS = 2.6
"""Time in which sleep uses up the need for N3 to 1/e: process S falls with some 4 h, slow waves sooner (RECALL)."""
DAY_NEED = 0.25
"""Need for deep sleep in a daytime record, of that at lights off (INFERENCE)."""
AGE_OF_FULL_NEED, NEED_LOST_PER_YEAR = 25.0, 0.009
"""N3 falls from some 20 % of the night at 20 to 10 % at 70 (Ohayon 2004, RECALL)."""
WAKE_GAINED_PER_YEAR = 0.03
"""Wake after sleep onset grows from some 20 min at 20 to 60 and more at 70 (the same, RECALL)."""

AROUSALS_PER_HOUR = {"N1": 24.0, "N2": 12.0, "N3": 4.0, "R": 14.0}
"""AASM arousals, 3-15 s; 10-20 per hour of sleep in the healthy, more with age (Bonnet and Arand 2007, RECALL)."""
AROUSAL_SECONDS = (3.0, 15.0)
SHIFT_SECONDS = 13.0
"""A transition lies up to so far from the border of the epoch that shows it (a scorer goes by the majority)."""


@dataclass(frozen=True)
class Night:
    """The stages of a recording, as scored and as they were."""

    hypnogram: tuple[str, ...]  # a stage per 30-s epoch
    seconds_weights: Float[np.ndarray, "second stage"]  # of each stage in each second; every row sums to 1

    def weights(self, centres: Float[np.ndarray, "block"], width_seconds: float) -> Float[np.ndarray, "block stage"]:
        """The mean share of each stage within `width_seconds` about each moment."""
        total = np.vstack([np.zeros(len(STAGES)), np.cumsum(self.seconds_weights, axis=0)])
        last = len(self.seconds_weights)
        start = np.clip(np.floor(centres - width_seconds / 2), 0, last - 1).astype(int)
        stop = np.clip(np.ceil(centres + width_seconds / 2), start + 1, last).astype(int)
        return (total[stop] - total[start]) / (stop - start)[:, None]


def draw_night(
    n_epochs: int, *, kind: RecordingKind, compression: float, age_years: float, rng: np.random.Generator
) -> Night:
    """Draw a recording of `n_epochs` epochs.

    Args:
        n_epochs: Of 30 s.
        kind: A piece of a `night`, a `day` record (wake, drowsiness, a nap), or either (`mixed`).
        compression: How many times faster than in nature stages follow one another. A short recording shows every
            `compression`-th epoch of a longer one; with more than 1, and 10 epochs or more, it is drawn again until
            it holds three stages, if that happens within 100 draws.
        age_years: The old sleep less deeply and wake more.
        rng: Random stream.
    """
    if kind == "mixed":
        kind = "night" if rng.uniform() < 0.5 else "day"
    for _ in range(100):
        hypnogram = _draw_piece(n_epochs, kind, compression, age_years, rng)
        if compression == 1 or n_epochs < 10 or len(set(hypnogram)) >= 3:
            break
    return Night(hypnogram, _finer_truth(hypnogram, rng))


def draw_chain(
    n_epochs: int, *, kind: Literal["night", "day"], age_years: float, rng: np.random.Generator
) -> list[str]:
    """Stages of the epochs from lights off on."""
    old = max(age_years - AGE_OF_FULL_NEED, 0.0)
    full_need = max(1 - NEED_LOST_PER_YEAR * old, 0.3) * rng.uniform(0.7, 1.2) * (DAY_NEED if kind == "day" else 1.0)
    restless = (1 + WAKE_GAINED_PER_YEAR * old) * np.exp(0.35 * rng.standard_normal()) * (3 if kind == "day" else 1)
    latency = rng.gamma(2.0, SLEEP_LATENCY_MINUTES[kind]) * 60 / EPOCH_SECONDS / 2
    stages = ["W"] * min(int(latency) + 1, n_epochs)
    stage, cycle, cycle_start, need = "N1", 0, len(stages), full_need
    cycle_epochs = _cycle_epochs(rng)
    while len(stages) < n_epochs:
        stages.append(stage)
        if len(stages) - cycle_start >= cycle_epochs:
            cycle, cycle_start, cycle_epochs = cycle + 1, len(stages), _cycle_epochs(rng)
        if stage != "W":
            need *= np.exp(-EPOCH_SECONDS / 3600 / NEED_HOURS)
        window = REM_WINDOW[min(cycle, len(REM_WINDOW) - 1)] * (0.1 if kind == "day" else 1.0)
        rem = (len(stages) - cycle_start) / cycle_epochs > 1 - window
        moves = next_stage(stage, need=need, rem=rem, restless=float(restless))
        # The first stage whose cumulative probability exceeds a uniform draw; rng.choice takes ten times as long.
        stage = list(moves)[bisect(list(accumulate(moves.values())), rng.uniform() * (1 - 1e-9))]
    return stages


def next_stage(stage: str, *, need: float, rem: bool, restless: float) -> dict[str, float]:
    """Probability of each stage in the next epoch.

    Shape after Kim et al. (J Neurosci Methods 2009) and Kishi et al. (2008), who counted transitions: N1 is left for
    N2 or wake, N3 nearly always for N2, REM sleep for wake or N1. Figures INFERENCE, set by what nights they give.

    Args:
        stage: Now.
        need: For deep sleep: 1 at lights off.
        rem: Whether the cycle's window for REM sleep is open.
        restless: Factor on awakenings.
    """
    wake = 0.012 * restless
    moves = {
        "W": {"N1": 0.30 / restless**0.5, "N2": 0.05 / restless**0.5, "R": 0.03 if rem else 0.0},
        "N1": {"N2": 0.33, "W": min(5 * wake, 0.3), "R": 0.12 if rem else 0.005},
        "N2": {"N3": 0.02 if rem else 0.115 * need, "R": 0.16 if rem else 0.001, "W": wake, "N1": 1.5 * wake},
        "N3": {"N2": 0.35 if rem else 0.035 + 0.05 * (1 - min(need, 1.0)), "W": 0.4 * wake, "N1": 0.2 * wake},
        "R": {"N2": 0.02 if rem else 0.20, "W": 1.2 * wake, "N1": 1.2 * wake},
    }[stage]
    return {**moves, stage: 1 - sum(moves.values())}


def _cycle_epochs(rng: np.random.Generator) -> float:
    return max(CYCLE_MINUTES + CYCLE_SPREAD * rng.standard_normal(), 60.0) * 60 / EPOCH_SECONDS


def _draw_piece(
    n_epochs: int, kind: Literal["night", "day"], compression: float, age_years: float, rng: np.random.Generator
) -> tuple[str, ...]:
    """A piece from anywhere in the night, so that a stage cannot be read off the clock; a day from its start."""
    n_natural = int(np.ceil(n_epochs * compression))
    n_whole = max(n_natural, round(NIGHT_MINUTES * 60 / EPOCH_SECONDS)) if kind == "night" else n_natural
    first = int(rng.integers(n_whole - n_natural + 1))
    chain = draw_chain(n_whole, kind=kind, age_years=age_years, rng=rng)[first:]
    return tuple(chain[int(i * compression)] for i in range(n_epochs))


def _finer_truth(hypnogram: tuple[str, ...], rng: np.random.Generator) -> Float[np.ndarray, "second stage"]:
    """Share of each stage in each second of what was scored as `hypnogram`."""
    per_epoch = int(EPOCH_SECONDS)
    codes = np.repeat([STAGES.index(stage) for stage in hypnogram], per_epoch)
    for border in np.flatnonzero(np.diff(codes)) + 1:
        shift = round(rng.uniform(-SHIFT_SECONDS, SHIFT_SECONDS))
        if shift > 0:
            codes[border : border + shift] = codes[border - 1]
        elif shift < 0:
            codes[border + shift : border] = codes[border]
    weights = _smooth(np.eye(len(STAGES))[codes], seconds=9)
    weights = _between_stages(weights, rng)
    return _with_arousals(weights, np.array(hypnogram), rng)


def _between_stages(
    weights: Float[np.ndarray, "second stage"], rng: np.random.Generator
) -> Float[np.ndarray, "second stage"]:
    """Let every stage lean towards its neighbours, by amounts that wander over tens of seconds and minutes.

    Drowsiness alternates between alpha and none (7.2: N1), N2 comes near N1 or N3, N3 is broken by N2, REM sleep
    has tonic stretches like N1. How far each leans: INFERENCE, set so that stages overlap as real ones do.
    """
    n = len(weights)
    leans = (
        ("W", "N1", -1.3, 25.0),  # from, to, log-odds of leaning, seconds
        ("N1", "W", -0.9, 12.0),
        ("N1", "N2", -1.2, 25.0),
        ("N2", "N1", -1.3, 90.0),
        ("N2", "N3", -1.2, 90.0),
        ("N3", "N2", -0.9, 60.0),
        ("R", "N1", -0.8, 60.0),
    )
    leant = weights.copy()
    for origin, target, middle, seconds in leans:
        level = middle + rng.normal(0, 0.5) + 1.3 * wander(n, seconds, rng)
        share = weights[:, STAGES.index(origin)] * 0.9 / (1 + np.exp(-level)) * 0.75
        leant[:, STAGES.index(origin)] -= share
        leant[:, STAGES.index(target)] += share
    leant = np.maximum(leant, 0.0)
    return leant / leant.sum(1, keepdims=True)


def _with_arousals(
    weights: Float[np.ndarray, "second stage"], hypnogram: np.ndarray, rng: np.random.Generator
) -> Float[np.ndarray, "second stage"]:
    """Add a few seconds of wake here and there."""
    rates = np.array([AROUSALS_PER_HOUR.get(stage, 0.0) for stage in hypnogram]) * EPOCH_SECONDS / 3600
    weights = weights.copy()
    for epoch in np.repeat(np.arange(len(rates)), rng.poisson(rates * rng.uniform(0.6, 1.6))):
        start = int((epoch + rng.uniform()) * EPOCH_SECONDS)
        stop = min(start + round(rng.uniform(*AROUSAL_SECONDS)), len(weights))
        weights[start:stop] = 0.3 * weights[start:stop]
        weights[start:stop, STAGES.index("W")] += 1 - weights[start:stop].sum(1)
    return weights


def _smooth(weights: Float[np.ndarray, "second stage"], *, seconds: int) -> Float[np.ndarray, "second stage"]:
    """A running mean that keeps the ends."""
    return ndimage.uniform_filter1d(weights, seconds, axis=0, mode="nearest")
