"""What is known about interictal epileptiform discharges (IEDs), and one patient's share of it.

How sure a figure is, and keys such as 7.1: see `physiology`. Ranges of amplitude and length are drawn uniformly.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data_tools.simulator.head import LEAD_POSITIONS, SCALP_LEADS
from data_tools.simulator.patches import Patch
from data_tools.simulator.physiology import Range
from siamese_jax.vocabulary import LEFT_RIGHT

# --- where and how often ------------------------------------------------------------------------------------


class Region(NamedTuple):
    """Where a patient's IEDs come from."""

    electrodes: tuple[str, ...]
    windows_wake: int  # 4-s windows with an IED in vEpiSet, by state (FACT 3.2, AUDIT)
    windows_sleep: int

    @property
    def sleep_to_wake(self) -> float:
        """P(IED | sleep) / P(IED | wake), of 13,439 windows of sleep and 11,775 of wakefulness (3.2)."""
        return (self.windows_sleep / 13439) / (self.windows_wake / 11775)


REGIONS = {
    "generalized": Region(("Fz",), 72, 501),
    "frontal": Region(("Fp1", "Fp2", "F3", "F4", "Fz"), 85, 368),
    "temporal": Region(("F7", "F8", "T3", "T4", "T5", "T6"), 273, 423),
    "centro-parietal": Region(("C3", "C4", "Cz", "P3", "P4", "Pz"), 240, 125),
    "occipital": Region(("O1", "O2"), 87, 329),
}
"""Patients have regions in proportion to the windows of that class (INFERENCE: 3.2 counts no patients)."""

RELATIVE_NREM_RATE = {"N1": 1.75, "N2": 1.69, "N3": 2.46}
"""Focal IED rates relative to REM (RECALL, pooled studies); their mean over W is the region's ratio."""

WAKE_TO_REM_RATE = 1.11
"""Rate in W relative to R (RECALL, same source)."""

IED_PER_MINUTE, IED_RATE_SIGMA = 0.305, 1.3
"""Median and log-spread over patients of the mean of wake and sleep rates, in a natural night. INFERENCE: the upper
quartile of patients has 6 times the windows of the lower (vEpiSet: 72 and 9 a recording, 3.2; all of that would make a
small cohort one patient's); the median then puts an IED into 4.3-4.4 % of the 4-s windows of 140 patients and 10
controls (EpiSet-265K: 4.4 %; simulated, 40 cohorts of two hours each, which scatter by 0.5)."""

HIGHEST_PER_MINUTE = 12.0
"""The mean rate is clipped there, where half of the windows hold an IED (3.2: at most 239 of some 300)."""

SECOND_FOCUS_SHARE = 0.2
"""Of focal patients who have two foci (INFERENCE), half of them in mirrored places."""
SECOND_FOCUS_EVENTS = Range(0.2, 0.5)

# --- how large ----------------------------------------------------------------------------------------------

SNR_MEDIAN, SNR_SIGMA_PATIENT, SNR_SIGMA_EVENT = 3.0, 0.25, 0.45
"""Amplitude over background RMS is lognormal with median 3 (7.1 INFERENCE); the spread over patients is ours, that over
one patient's discharges is at least .45 in real ones (FACT, measured)."""

GENERALIZED_SNR_FACTOR = 2.0
"""Generalised discharges are larger (RECALL: commonly 150-300 uV; the factor is ours)."""

CHILD_SNR_FACTOR, CHILD_YEARS = 1.3, 12.0
"""Children's are larger (RECALL 7.1: to 400 uV; figures ours)."""

LOWEST_SNR = 2.0
"""An IED that an expert marked stands out (INFERENCE)."""

QUIET_UV = 18.0
"""Over a background smaller than this, IEDs get no smaller: with the median of 3 most are above 50 uV (INFERENCE)."""

IED_AMPLITUDE_UV = Range(35, 400)
"""IED amplitudes are clipped to this: 50-200 uV, children to 400 (RECALL 7.1), 'usually > 50' (FACT 7.1)."""

# --- which shape --------------------------------------------------------------------------------------------

KINDS = {"spike": 0.35, "sharp wave": 0.3, "spike-and-wave": 0.25, "polyspike": 0.1}
"""How often a focal patient's IEDs are mainly of a kind (INFERENCE)."""

MAIN_KIND_SHARE = Range(0.6, 0.95)
"""Share of a focal patient's IEDs that are of the main kind; the rest as KINDS (INFERENCE)."""

SHARP_SECONDS = {
    "spike": Range(0.028, 0.068),  # rise 10-30 ms + fall 15-45 ms (7.1 recipe); spike 20-70 ms (FACT 7.1)
    "sharp wave": Range(0.076, 0.190),  # FACT 7.1: 70-200 ms; ends ours, so that a tenth more or less stays within
    "spike-and-wave": Range(0.028, 0.068),
    "polyspike": Range(0.028, 0.045),  # ours: at 25 Hz they must not run together
    "blunt wave": Range(0.200, 0.320),  # only periodic ones: `blunt` is wider than 200 ms (ACNS); the other end ours
}
"""Rise and fall of the sharp part together; half of that is the width at half height, 14-94 ms. Real spikes measure
15-60 ms there (FACT, measured; Gotman and Gloor 1976 and Frost 1985 describe the same two half-waves, RECALL)."""

RISE_SHARE = Range(0.30, 0.58)
"""Criterion 3 requires asymmetry (FACT, Kural 2020). Mostly the rise is the shorter part (RECALL 7.1), but by no means
always in real spikes (FACT, measured)."""

BEFORE_SHARE, BEFORE_GAIN = 0.5, Range(0.0, 0.8)
"""Of a patient's kinds that begin with a positive phase, and how large it is; in real spikes it is as large as the peak
at most (FACT, measured; shares INFERENCE). From discharge to discharge a quarter more or less."""

SHOULDER_SECONDS, SHOULDER_GAIN = Range(0.040, 0.080), Range(0.0, 0.6)
"""The positive phase after it: 0.3 (7.1 recipe), from none to twice that, so that spikes have one phase, two or three
(Gotman and Gloor 1976, RECALL)."""

NO_AFTER_WAVE_SHARE = 0.65
"""Of foci without spike-and-wave whose discharges no slow wave follows: half of all focal patients (FACT, measured in
real ones). Criterion 4 is one of six, of which four suffice (FACT, Kural 2020)."""

AFTER_WAVE_SECONDS = Range(0.160, 0.330)
"""150-350 ms (7.1 recipe, RECALL), less what one discharge differs from the next."""

AFTER_WAVE_GAIN = {
    "spike": Range(0.4, 0.7),
    "sharp wave": Range(0.4, 0.8),
    "spike-and-wave": Range(0.8, 1.3),
    "polyspike": Range(0.6, 1.2),
    "blunt wave": Range(0.3, 0.6),
}
"""7.1: 0.4-1.2 (recipe), 0.5-1.5 (RECALL); which kind has which part is ours."""

POLYSPIKE_COUNT, POLYSPIKE_HZ, POLYSPIKE_WAVE_SHARE = (2, 6), Range(11, 24), 0.7
"""2-6 spikes at 10-25 Hz (RECALL 7.1), less a scatter; a wave follows most (INFERENCE)."""

RUN_HZ, RUN_SLOWING = Range(2.8, 4.0), Range(0.0, 0.1)
"""Generalised spike-and-wave, 2.5-4 Hz (RECALL 7.1), slower towards the end of a run (RECALL; figure ours)."""

RUN_COMPLEXES = {"W": Range(1, 9), "N1": Range(1, 6), "N2": Range(1, 4), "N3": Range(1, 4), "R": Range(1, 3)}
"""Of generalised discharges: longer in wakefulness (FACT 7.1, Front Neurol 2018); counts INFERENCE."""

RUN_POLYSPIKE_SHARE, RUN_POLYSPIKE_HZ = 0.12, 18.0
"""Of the complexes of generalised spike-and-wave that begin with two spikes, and at what rate, so that there is time
for the wave (INFERENCE)."""

FOCAL_RUN_SHARE, FOCAL_RUN_HZ, FOCAL_RUN_COMPLEXES = 0.06, Range(1.0, 3.0), Range(2, 6)
"""Focal discharges now and then come in runs (INFERENCE)."""

DISRUPTION_GAIN, DISRUPTION_SECONDS = Range(0.4, 1.0), Range(0.2, 0.4)
"""Criterion 5: the background is weaker for a while, 0.4-0.7 (7.1 recipe), or not at all: four criteria of six suffice
(FACT, Kural 2020)."""

# --- periodic discharges ------------------------------------------------------------------------------------

PERIODIC_SHARE = 0.25
"""Of patients with IEDs who have periodic discharges, too (INFERENCE: seldom in the clinic, but models must meet them).
ACNS is the terminology of 2021 (Hirsch et al., J Clin Neurophysiol 2021;38:1)."""
PERIODIC_TYPES = {"LPD": 0.4, "GPD": 0.45, "BIPD": 0.15}
"""Lateralised, generalised, bilateral independent (ACNS; shares INFERENCE, about those of the IIIC data set)."""
PERIODIC_TEXTS = {"LPD": "lateralized", "GPD": "generalized", "BIPD": "bilateral independent"}
PERIODIC_HZ, PERIODIC_JITTER = Range(0.5, 3.0), 0.08
"""0.5-3 Hz (ACNS; above 2.5 Hz for 10 s it speaks of a seizure), log-spread of the intervals: nearly regular, which is
less than 50 % from one to the next in most (ACNS)."""
PERIODIC_RUN_SECONDS, PERIODIC_RUNS_PER_MINUTE = Range(10, 180), Range(0.1, 0.5)
"""Brief runs last 10-59 s, intermediate ones 1-10 min (ACNS); not shorter than 6 intervals (ACNS); rates INFERENCE."""
PERIODIC_KINDS = {"spike": 0.2, "sharp wave": 0.45, "polyspike": 0.2, "blunt wave": 0.15}
"""Spiky, sharp, of more than three phases, or blunt (ACNS), all of one patient's alike; shares INFERENCE. A slow wave
follows them at half of the foci."""
BLUNT_HIGHEST_HZ = 1.5
"""Faster, blunt waves would follow each other without an interval, which is rhythmic delta (ACNS; figure ours)."""
PERIODIC_SNR, PERIODIC_SNR_SIGMA = Range(2.8, 8.3), 0.15
"""Over a quiet background 50-150 uV, ACNS's `medium`, from patient to patient, and the scatter in one (INFERENCE)."""
PERIODIC_EXTENT_CM = Range(6, 11)
"""Lateralised ones reach over much of a hemisphere (RECALL)."""

# --- which field --------------------------------------------------------------------------------------------

FOCAL_EXTENT_CM = Range(3.5, 7.5)
"""Diameter of the cortex that takes part: 10-44 cm2. Scalp electrodes see a spike from 6-20 cm2 on, and commonly
more than 10 (Tao et al., Epilepsia 2005;46:669; RECALL)."""
GENERALIZED_EXTENT_CM = Range(13, 18)
MESIAL_SHARE, MESIAL_DEPTH_CM = 0.4, Range(2.5, 4.0)
"""Temporal foci that lie deep and so have a wide field (INFERENCE)."""
TILT = Range(0.0, 0.6)
"""Tangential part of a focus, in some direction (INFERENCE)."""
ROLANDIC_SHARE_CHILD, ROLANDIC_SHARE, ROLANDIC_YEARS, ROLANDIC_TILT = 0.8, 0.15, 16.0, Range(0.8, 1.4)
"""Centro-temporal spikes with a tangential dipole, negative centro-temporal and positive frontal (RECALL 7.1), among
lateral central foci, of children and of others (shares INFERENCE)."""
PROPAGATION_SHARE, PROPAGATION_SECONDS, PROPAGATION_GAIN = 0.6, Range(0.005, 0.020), Range(0.3, 0.8)
"""Foci that spread to a second patch, how much later (7.1 recipe: 0-20 ms) and how strongly (INFERENCE)."""
MIRROR_SHARE = 0.2
"""Of the second patches that lie on the other side (INFERENCE)."""


class Focus(NamedTuple):
    """One place where a patient's discharges begin, and where they spread to."""

    region: str
    lead: str
    patches: tuple[Patch, ...]
    shift: tuple[float, float, float]  # head radii: foci do not sit under electrodes
    spread: tuple[Patch, ...]  # empty: nowhere
    spread_seconds: float
    spread_gain: float
    share: float  # of the patient's discharges
    after_wave: bool = True  # follows its discharges; spike-and-wave has it anyway


class Shape(NamedTuple):
    """What one patient's discharges have in common; kinds are those of SHARP_SECONDS."""

    sharp_seconds: dict[str, float]  # rise + fall by kind
    rise_share: float
    before_gain: dict[str, float]  # by kind
    shoulder_gain: float
    after_wave_seconds: float
    after_wave_gain: dict[str, float]  # by kind
    polyspike_hz: float


class Periodic(NamedTuple):
    """A patient's periodic discharges: one kind, at each focus with a period of its own."""

    pattern: str  # of PERIODIC_TYPES
    kind: str
    hz: float
    runs_per_minute: float
    snr: float
    foci: tuple[Focus, ...]
    shape: Shape


@dataclass(frozen=True)
class IedProfile:
    """How a patient's discharges look and when they come."""

    region: str
    focus: str  # electrode of the main focus
    kind: str  # the main one of KINDS
    per_minute: dict[str, float]  # discharges, or runs of them, by stage
    snr: float  # median of amplitude over the background's RMS
    foci: tuple[Focus, ...]
    kinds: dict[str, float]  # share of each
    shape: Shape
    run_hz: float
    periodic: Periodic | None

    def about(self) -> tuple[str, str, str, str]:
        """Region, focus, kind, and the pattern of periodic discharges, if any: what tables say of a patient."""
        return self.region, self.focus, self.kind, self.periodic.pattern if self.periodic else ""


def draw_regions(n_patients: int, *, ied_free: float, rng: np.random.Generator) -> list[str | None]:
    """The region of each patient's IEDs, None for the `round(n_patients * ied_free)` who have none.

    Regions come in the proportions of REGIONS as nearly as the number of patients allows (systematic sampling), in
    random order.
    """
    n_free = round(n_patients * ied_free)
    counts = [region.windows_wake + region.windows_sleep for region in REGIONS.values()]
    quantiles = (np.arange(n_patients - n_free) + rng.uniform()) / max(n_patients - n_free, 1)
    chosen = np.searchsorted(np.cumsum(counts) / sum(counts), quantiles, side="right")
    regions = [list(REGIONS)[i] for i in chosen] + [None] * n_free
    return [regions[i] for i in rng.permutation(n_patients)]


def draw_ied(region: str, rng: np.random.Generator, *, age_years: float, density: float = 1.0) -> IedProfile:
    """A patient's IEDs from a region of REGIONS.

    Args:
        region: A key of REGIONS.
        rng: Of the patient's IEDs alone.
        age_years: Children's are larger, and more often centro-temporal.
        density: How many times more often they come than in a natural night. A night compressed in time needs more.

    Raises:
        KeyError: an unknown region.
    """
    generalized = region == "generalized"
    kind = "spike-and-wave" if generalized else choose(KINDS, rng)
    main = 1.0 if generalized else MAIN_KIND_SHARE.draw(rng)
    snr = SNR_MEDIAN * (GENERALIZED_SNR_FACTOR if generalized else 1.0)
    snr *= CHILD_SNR_FACTOR if age_years < CHILD_YEARS else 1.0
    foci = _draw_foci(region, age_years, rng)
    if kind != "spike-and-wave":
        foci = tuple(focus._replace(after_wave=bool(rng.uniform() >= NO_AFTER_WAVE_SHARE)) for focus in foci)
    return IedProfile(
        region=region,
        focus=foci[0].lead,
        kind=kind,
        per_minute=_draw_rates(REGIONS[region].sleep_to_wake, density, rng),
        snr=snr * float(np.exp(SNR_SIGMA_PATIENT * rng.standard_normal())),
        foci=foci,
        kinds={name: main * (name == kind) + (1 - main) * share for name, share in KINDS.items()},
        shape=_draw_shape(rng),
        run_hz=(RUN_HZ if generalized else FOCAL_RUN_HZ).draw(rng),
        periodic=_draw_periodic(age_years, rng) if rng.uniform() < PERIODIC_SHARE else None,
    )


def choose(weights: dict[str, float], rng: np.random.Generator) -> str:
    """One key, with a probability in proportion to its weight."""
    share = np.array(list(weights.values()))
    return str(rng.choice(list(weights), p=share / share.sum()))


def _draw_shape(rng: np.random.Generator) -> Shape:
    return Shape(
        sharp_seconds={name: seconds.draw(rng) for name, seconds in SHARP_SECONDS.items()},
        rise_share=RISE_SHARE.draw(rng),
        before_gain={name: BEFORE_GAIN.draw(rng) * (rng.uniform() < BEFORE_SHARE) for name in SHARP_SECONDS},
        shoulder_gain=SHOULDER_GAIN.draw(rng),
        after_wave_seconds=AFTER_WAVE_SECONDS.draw(rng),
        after_wave_gain={name: gain.draw(rng) for name, gain in AFTER_WAVE_GAIN.items()},
        polyspike_hz=POLYSPIKE_HZ.draw(rng),
    )


def _draw_periodic(age_years: float, rng: np.random.Generator) -> Periodic:
    pattern, after_wave = choose(PERIODIC_TYPES, rng), bool(rng.uniform() < 0.5)
    if pattern == "GPD":
        foci = (_generalized_focus(rng),)
    else:
        region = choose({name: 1.0 for name in REGIONS if name != "generalized"}, rng)
        lead = str(rng.choice([name for name in REGIONS[region].electrodes if mirror(name) != name]))
        leads = (lead, mirror(lead))[: 2 if pattern == "BIPD" else 1]
        foci = tuple(_focal_focus(region, name, age_years, 1 / len(leads), rng) for name in leads)
        wide = PERIODIC_EXTENT_CM.draw(rng)
        foci = tuple(f._replace(patches=tuple(p._replace(extent_cm=wide) for p in f.patches)) for f in foci)
    kind, hz = choose(PERIODIC_KINDS, rng), PERIODIC_HZ.draw(rng)
    return Periodic(
        pattern=pattern,
        kind=kind,
        hz=min(hz, BLUNT_HIGHEST_HZ) if kind == "blunt wave" else hz,
        runs_per_minute=PERIODIC_RUNS_PER_MINUTE.draw(rng),
        snr=PERIODIC_SNR.draw(rng),
        foci=tuple(focus._replace(after_wave=after_wave) for focus in foci),
        shape=_draw_shape(rng),
    )


def _draw_rates(sleep_to_wake: float, density: float, rng: np.random.Generator) -> dict[str, float]:
    """Rates per minute whose wake-sleep mean is the patient's and whose ratios are those above."""
    mean = density * IED_PER_MINUTE * float(np.exp(IED_RATE_SIGMA * rng.standard_normal()))
    wake = 2 * min(mean, HIGHEST_PER_MINUTE) / (1 + sleep_to_wake)
    average = sum(RELATIVE_NREM_RATE.values()) / len(RELATIVE_NREM_RATE)
    rates = {stage: wake * sleep_to_wake * relative / average for stage, relative in RELATIVE_NREM_RATE.items()}
    return {"W": wake, **rates, "R": wake / WAKE_TO_REM_RATE}


def _draw_foci(region: str, age_years: float, rng: np.random.Generator) -> tuple[Focus, ...]:
    if region == "generalized":
        return (_generalized_focus(rng),)
    lead = str(rng.choice(REGIONS[region].electrodes))
    if rng.uniform() >= SECOND_FOCUS_SHARE:
        return (_focal_focus(region, lead, age_years, 1.0, rng),)
    others = [name for name in REGIONS[region].electrodes if name != lead]
    second = mirror(lead) if rng.uniform() < 0.5 and mirror(lead) != lead else str(rng.choice(others))
    share = SECOND_FOCUS_EVENTS.draw(rng)
    return (
        _focal_focus(region, lead, age_years, 1 - share, rng),
        _focal_focus(region, second, age_years, share, rng),
    )


def _generalized_focus(rng: np.random.Generator) -> Focus:
    """Both frontal lobes, one a little stronger, with the maximum in the middle; spreads backwards."""
    extent, right = GENERALIZED_EXTENT_CM.draw(rng), rng.uniform(0.85, 1.15)
    patches = (Patch(("F3",), extent), Patch(("F4",), extent, right), Patch(("Fz",), extent, 0.5))
    back = (Patch(("P3",), 12), Patch(("P4",), 12, right))
    gain = PROPAGATION_GAIN.draw(rng) / 2
    return Focus("generalized", "Fz", patches, (0, 0, 0), back, PROPAGATION_SECONDS.draw(rng), gain, 1.0)


def _focal_focus(region: str, lead: str, age_years: float, share: float, rng: np.random.Generator) -> Focus:
    patch = Patch((lead,), FOCAL_EXTENT_CM.draw(rng), tilt=TILT.draw(rng), towards=str(rng.choice(_nearest(lead, 4))))
    if region == "temporal" and rng.uniform() < MESIAL_SHARE:
        patch = patch._replace(depth_cm=MESIAL_DEPTH_CM.draw(rng))
    rolandic = ROLANDIC_SHARE_CHILD if age_years < ROLANDIC_YEARS else ROLANDIC_SHARE
    if lead in ("C3", "C4") and rng.uniform() < rolandic:
        # The wave is negative, so it is positive on the side that the dipole points away from: in front.
        temporal, behind = ("T3", "P3") if lead == "C3" else ("T4", "P4")
        patch = patch._replace(leads=(lead, lead, temporal), tilt=ROLANDIC_TILT.draw(rng), towards=behind)
    shift = rng.uniform(-0.12, 0.12, size=3)
    spread, seconds, gain = (), PROPAGATION_SECONDS.draw(rng), PROPAGATION_GAIN.draw(rng)
    if rng.uniform() < PROPAGATION_SHARE:
        across = rng.uniform() < MIRROR_SHARE and mirror(lead) != lead
        target = mirror(lead) if across else str(rng.choice(_nearest(lead, 3)))
        spread = (Patch((target,), FOCAL_EXTENT_CM.draw(rng)),)
    return Focus(region, lead, (patch,), (shift[0], shift[1], shift[2]), spread, seconds, gain, share)


def mirror(lead: str) -> str:
    """The electrode on the other side; itself on the midline."""
    return {**LEFT_RIGHT, **{right: left for left, right in LEFT_RIGHT.items()}}.get(lead, lead)


def _nearest(lead: str, n: int) -> list[str]:
    """The `n` scalp electrodes nearest to one."""
    there = np.array(LEAD_POSITIONS[lead])
    others = [name for name in SCALP_LEADS if name != lead]
    return sorted(others, key=lambda name: -float(there @ np.array(LEAD_POSITIONS[name])))[:n]
