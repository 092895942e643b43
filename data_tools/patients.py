"""Who is recorded: a patient's constants, and the stages of their (time-compressed) night."""

from dataclasses import dataclass

import numpy as np

from data_tools import physiology
from siamese_jax.vocabulary import POSITIONS


@dataclass(frozen=True)
class IedProfile:
    """How a patient's interictal epileptiform discharges look and when they come."""

    region: str
    focus: str  # electrode
    centre: tuple[float, float]  # of the field on the 10-20 map
    sigma: float  # of the field, in map units
    kind: str  # of physiology.IED_KINDS
    per_minute: dict[str, float]  # discharges, or runs of them if generalised, by stage
    snr: float  # median of amplitude over the background's RMS
    sharp_seconds: float  # rise + fall
    rise_share: float
    after_wave_seconds: float
    after_wave_gain: float
    propagation_seconds: float  # delay per map unit of distance from the centre


@dataclass(frozen=True)
class PatientProfile:
    """What stays the same through one patient's recording."""

    code: str
    age_years: float
    amplitude: float  # 0..1: where in the range of background RMS the patient lies
    exponent_shift: float  # added to the 1/f exponent
    rhythms_hz: dict[str, float]  # centre frequency by rhythm
    per_minute: tuple[dict[str, float], ...]  # of each of physiology.TRANSIENTS, by stage; empty: never
    ied: IedProfile | None

    def rms_uv(self, stage: str) -> float:
        """Background RMS over the scalp in a stage, in microvolts."""
        return physiology.RMS_UV[stage].at(self.amplitude)

    def rhythm_hz(self, name: str) -> float:
        """The patient's centre frequency of a rhythm, in Hz."""
        return self.rhythms_hz[name]


def draw_regions(n_patients: int, *, ied_free: float, rng: np.random.Generator) -> list[str | None]:
    """The region of each patient's IEDs, None for the `round(n_patients * ied_free)` who have none.

    Regions come in the proportions of physiology.REGIONS as nearly as the number of patients allows
    (systematic sampling), in random order.
    """
    n_free = round(n_patients * ied_free)
    counts = [region.windows_wake + region.windows_sleep for region in physiology.REGIONS.values()]
    quantiles = (np.arange(n_patients - n_free) + rng.uniform()) / max(n_patients - n_free, 1)
    chosen = np.searchsorted(np.cumsum(counts) / sum(counts), quantiles, side="right")
    regions = [list(physiology.REGIONS)[i] for i in chosen] + [None] * n_free
    return [regions[i] for i in rng.permutation(n_patients)]


def draw_profile(code: str, *, region: str | None, seed: int) -> PatientProfile:
    """Draw a patient whose IEDs come from a region of physiology.REGIONS, or who has none (None).

    Everything but `ied` comes from a random stream of its own, so the same seed gives the same patient with
    and without epilepsy: transients, mimics and artefacts cannot depend on the IED label.

    Raises:
        ValueError: an unknown region.
    """
    if region is not None and region not in physiology.REGIONS:
        allowed = ", ".join(physiology.REGIONS)
        raise ValueError(f"patient {code}: region must be one of {allowed} or None, given {region!r}")
    rng = np.random.default_rng([seed, 0])
    # Median and limits FACT 1.1; the spread is ours.
    age = float(np.clip(27 * np.exp(0.6 * rng.standard_normal()), 3, 87))
    rates = []
    for transient in physiology.TRANSIENTS:
        quantile, luck = rng.uniform(size=2)
        has_it = luck < transient.incidence and age >= transient.older_than
        own = {stage: rate.at(quantile) for stage, rate in transient.per_minute.items()}
        rates.append(own if has_it else {})
    return PatientProfile(
        code=code,
        age_years=age,
        amplitude=float(rng.uniform()),
        exponent_shift=float(np.clip(0.08 * rng.standard_normal(), -0.15, 0.15)),
        rhythms_hz={rhythm.name: rhythm.frequency_hz.draw(rng) for rhythm in physiology.RHYTHMS},
        per_minute=tuple(rates),
        ied=None if region is None else _draw_ied(region, np.random.default_rng([seed, 1])),
    )


def draw_hypnogram(n_epochs: int, *, compression: float, rng: np.random.Generator) -> tuple[str, ...]:
    """Stages W N1 N2 N3 R of consecutive 30-s epochs, from a Markov chain.

    A real night spends an hour where ten minutes must do here: bouts are `compression` times shorter than
    natural (1 is a natural night; the order of stages stays), at least one epoch. A recording of 10 epochs or
    more is drawn again until it holds three stages, if that happens within 100 draws.
    """
    for _ in range(100):
        hypnogram = _draw_chain(n_epochs, compression, rng)
        if n_epochs < 10 or len(set(hypnogram)) >= 3:
            break
    return hypnogram


def _draw_chain(n_epochs: int, compression: float, rng: np.random.Generator) -> tuple[str, ...]:
    stages: list[str] = []
    stage = _choose(physiology.FIRST_STAGE, rng)
    while len(stages) < n_epochs:
        mean_epochs = max(physiology.BOUT_EPOCHS[stage] / compression, 1.0)
        stages += [stage] * int(rng.geometric(1 / mean_epochs))
        stage = _choose(physiology.NEXT_STAGE[stage], rng)
    return tuple(stages[:n_epochs])


def _draw_ied(region: str, rng: np.random.Generator) -> IedProfile:
    generalized = region == "generalized"
    focus = str(rng.choice(physiology.REGIONS[region].electrodes))
    kind = "spike-and-wave" if generalized else _choose(physiology.IED_KINDS, rng)
    sharp = physiology.SHARP_WAVE_SECONDS if kind == "sharp wave" else physiology.SPIKE_SECONDS
    sigma = physiology.GENERALIZED_SIGMA if generalized else physiology.FOCAL_SIGMA
    x, y = np.array(POSITIONS[focus]) + rng.uniform(-0.08, 0.08, size=2)  # foci do not sit under electrodes
    return IedProfile(
        region=region,
        focus=focus,
        centre=(float(x), float(y)),
        sigma=sigma.draw(rng),
        kind=kind,
        per_minute=_ied_rates(physiology.REGIONS[region].sleep_to_wake, rng),
        snr=physiology.SNR_MEDIAN
        * (physiology.GENERALIZED_SNR_FACTOR if generalized else 1.0)
        * float(np.exp(physiology.SNR_SIGMA_PATIENT * rng.standard_normal())),
        sharp_seconds=sharp.draw(rng),
        rise_share=physiology.RISE_SHARE.draw(rng),
        after_wave_seconds=physiology.AFTER_WAVE_SECONDS.draw(rng),
        after_wave_gain=physiology.AFTER_WAVE_GAIN[kind].draw(rng),
        propagation_seconds=physiology.PROPAGATION_SECONDS.draw(rng) / 2,  # the head is 2 units wide
    )


def _ied_rates(sleep_to_wake: float, rng: np.random.Generator) -> dict[str, float]:
    """Rates per minute whose wake-sleep mean is the patient's and whose ratios are those of physiology.py."""
    mean = physiology.IED_PER_MINUTE * float(np.exp(physiology.IED_RATE_SIGMA * rng.standard_normal()))
    wake = 2 * mean / (1 + sleep_to_wake)
    nrem = physiology.RELATIVE_NREM_RATE
    average = sum(nrem.values()) / len(nrem)
    rates = {stage: wake * sleep_to_wake * relative / average for stage, relative in nrem.items()}
    return {"W": wake, **rates, "R": wake / physiology.WAKE_TO_REM_RATE}


def _choose(weights: dict[str, float], rng: np.random.Generator) -> str:
    return str(rng.choice(list(weights), p=list(weights.values())))
