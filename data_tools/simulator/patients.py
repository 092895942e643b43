"""Who is recorded: what stays the same through one patient's recording."""

from dataclasses import dataclass

import numpy as np

from data_tools.simulator import physiology
from data_tools.simulator.head import LEAD_POSITIONS, Head, SkullDefect
from data_tools.simulator.ieds import REGIONS, IedProfile, draw_ied
from data_tools.simulator.transients import Traits, draw_traits
from siamese_jax.vocabulary import STAGES


@dataclass(frozen=True)
class PatientProfile:
    """What stays the same through one patient's recording."""

    code: str
    age_years: float
    head: Head
    amplitude: float  # of all brain activity, relative to the median adult's
    stage_gain: dict[str, float]  # of each stage's level, beyond that
    exponent_shift: float  # added to the 1/f exponent
    rhythms_hz: dict[str, float]  # centre frequency by rhythm
    rhythm_gain: dict[str, float]  # of the rhythm's power, 0 for one that the patient has not
    slow_wave_uv: float  # median size
    muscle_gain: float  # of the scalp muscles' tone
    traits: tuple[Traits, ...]  # one for each of transients.TRANSIENTS
    ied: IedProfile | None

    def rms_uv(self, stage: str) -> float:
        """Root mean square of noise and rhythms over the scalp in a stage, in microvolts, before drifts."""
        child = 1 + physiology.CHILD_GAIN * np.exp(
            -(self.age_years - physiology.AGE_RANGE.low) / physiology.CHILD_YEARS
        )
        return float(physiology.RMS_UV[stage] * self.amplitude * self.stage_gain[stage] * child)


def draw_profile(code: str, *, region: str | None, seed: int, density: float = 1.0) -> PatientProfile:
    """Draw a patient whose IEDs come from a region of `ieds.REGIONS`, or who has none (None).

    Everything but `ied` comes from a random stream of its own, so the same seed gives the same patient with
    and without epilepsy: transients, mimics and artefacts cannot depend on the IED label.

    Args:
        code: Of the patient.
        region: Where the IEDs come from.
        seed: Of the patient.
        density: How many times more often IEDs come than in a natural night.

    Raises:
        ValueError: an unknown region.
    """
    if region is not None and region not in REGIONS:
        raise ValueError(f"patient {code}: region must be one of {', '.join(REGIONS)} or None, given {region!r}")
    rng = np.random.default_rng([seed, 0])
    age = physiology.AGE_MEDIAN * np.exp(physiology.AGE_LOG_SPREAD * rng.standard_normal())
    age = float(np.clip(age, *physiology.AGE_RANGE))
    head = Head(defect=_draw_defect(rng))
    shift = float(np.clip(rng.standard_normal(), -2, 2)) * physiology.EXPONENT_SPREAD
    amplitude = float(np.exp(physiology.PATIENT_SPREAD * rng.standard_normal()))
    slow_wave = physiology.SLOW_WAVE_UV.draw(rng) * amplitude * np.exp(physiology.SLOW_WAVE_AGE * max(age - 20.0, 0.0))
    return PatientProfile(
        code=code,
        age_years=age,
        head=head,
        amplitude=amplitude,
        stage_gain={stage: float(np.exp(physiology.STAGE_SPREAD * rng.standard_normal())) for stage in STAGES},
        exponent_shift=shift,
        rhythms_hz={rhythm.name: _draw_hz(rhythm, age, rng) for rhythm in physiology.RHYTHMS},
        rhythm_gain={rhythm.name: _draw_gain(rhythm, age, rng) for rhythm in physiology.RHYTHMS},
        slow_wave_uv=float(slow_wave),
        muscle_gain=float(np.exp(physiology.SCALP_MUSCLE_SPREAD * rng.standard_normal())),
        traits=draw_traits(age, np.random.default_rng([seed, 2]), breach=head.defect is not None),
        ied=None
        if region is None
        else draw_ied(region, np.random.default_rng([seed, 1]), age_years=age, density=density),
    )


def _draw_defect(rng: np.random.Generator) -> SkullDefect | None:
    luck, gain = rng.uniform(), physiology.BREACH_GAIN.draw(rng)
    site = LEAD_POSITIONS[str(rng.choice(physiology.BREACH_SITES))]
    return SkullDefect(site, gain) if luck < physiology.BREACH_SHARE else None


def _draw_hz(rhythm: physiology.Rhythm, age: float, rng: np.random.Generator) -> float:
    return rhythm.frequency_hz.draw(rng) + (physiology.alpha_hz(age) if rhythm.name == "alpha" else 0.0)


def _draw_gain(rhythm: physiology.Rhythm, age: float, rng: np.random.Generator) -> float:
    gain = float(np.exp(rhythm.spread * rng.standard_normal()))
    return gain if rhythm.ages.low <= age < rhythm.ages.high else 0.0
