"""Events that are no IED: sleep transients, normal variants that look like IEDs, artefacts. Figures and traits.

How sure a figure is, and keys such as 7.2: see `physiology`. A range of durations or amplitudes holds 95 % of a
lognormal distribution and clips the rest. SREDA (3 of 10,000 reports) and cone waves (below 3 years) are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from data_tools.simulator import waveforms
from data_tools.simulator.patches import Patch
from data_tools.simulator.physiology import Range

Family = Literal["ied", "transient", "mimic", "artefact"]


@dataclass(frozen=True)
class Transient:
    """A kind of event: how often, how long, how big, where from, in whom."""

    text: str
    family: Family
    shape: Callable[..., np.ndarray]
    per_minute: dict[str, Range]
    duration: Range
    amplitude_uv: Range  # baseline to peak at the lead where it is largest
    sites: tuple[tuple[Patch, ...], ...] = ()  # one of them is chosen; none: see the next three
    frequency_hz: Range = Range(0, 0)
    eyes: Literal["", "up", "right"] = ""  # the eyes are its source; positive when they turn there
    electrodes: int = 0  # so many electrodes, each with a wave of its own
    at_defect: bool = False  # below the hole in the skull
    incoherent: bool = False  # each patch has a wave of its own
    lag_seconds: float = 0.0  # of each patch's wave behind that of the patch before
    incidence: float = 1.0  # share of the patients of that age who have it
    older_than: float = 0.0  # years
    younger_than: float = 200.0
    follower: "Transient | None" = None  # often comes at its end
    follower_share: float = 0.0


class Traits(NamedTuple):
    """What stays the same of one kind of event in one patient."""

    per_minute: dict[str, float]  # by stage; empty: never
    size: float  # standard normal: how large the patient's are among all patients'
    frequency_hz: float  # the middle of the patient's
    site: int  # most come from there


def draw_traits(age_years: float, rng: np.random.Generator, *, breach: bool = False) -> tuple[Traits, ...]:
    """A patient's traits, one for each of TRANSIENTS; `breach`: the skull has a defect.

    Every kind takes the same number of draws, so one patient's traits do not depend on the others' age.
    """
    traits = []
    for kind in TRANSIENTS:
        rate, luck, frequency, side = rng.uniform(size=4)
        size = float(rng.standard_normal())
        has_it = luck < kind.incidence and kind.older_than <= age_years < kind.younger_than
        has_it &= breach or not kind.at_defect
        own = {stage: float(bounds.at(rate)) for stage, bounds in kind.per_minute.items()} if has_it else {}
        traits.append(Traits(own, size, float(kind.frequency_hz.at(frequency)), int(side * max(len(kind.sites), 1))))
    return tuple(traits)


def lognormal(bounds: Range, quantile_z: float) -> float:
    """The value at a standard normal deviate of a lognormal distribution with 95 % within `bounds`, clipped to them."""
    low, high = np.log(bounds)
    value = np.exp((low + high) / 2 + (high - low) / (2 * 1.96) * quantile_z)
    return float(np.clip(value, *bounds))


def _each(*stages: str, low: float, high: float) -> dict[str, Range]:
    return dict.fromkeys(stages, Range(low, high))


_ALL = ("W", "N1", "N2", "N3", "R")
_LEFT_TEMPORAL, _RIGHT_TEMPORAL = (Patch(("F7", "T3"), 6),), (Patch(("F8", "T4"), 6),)
_LEFT_BACK, _RIGHT_BACK = (Patch(("T5",), 8),), (Patch(("T6",), 8),)
_OCCIPITAL = ((Patch(("O1",), 5), Patch(("O2",), 5, 0.8)), (Patch(("O1",), 5, 0.8), Patch(("O2",), 5)))
_EVERY_LEAD = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "F7", "F8", "T3", "T4", "T5", "T6",
               "Fz", "Cz", "Pz")  # fmt: skip

SLOW_SPINDLE = Transient(
    "Spindle", "transient", waveforms.spindle, {"N2": Range(0.25, 2.3), "N3": Range(0.1, 0.7)}, Range(0.5, 1.6),
    Range(9, 32), ((Patch(("Fz",), 13),), (Patch(("F3",), 10), Patch(("F4",), 10))), Range(11.5, 12.9),
)  # fmt: skip
"""11-16 Hz, 0.5-2 s, slow type frontal, fast type centro-parietal, N2 and less N3: FACT 7.2.

Experts' marks in DREAMS subjects 2 and 4 (FACT, measured): 3.2 and 1.8 a minute of N2, 0.8 of N3 (half for each type);
13.0 +- 0.7 and 12.2 or 13.7 +- 1 Hz; lasting 0.73 (0.52-1.24) and 1.01 s (0.55-1.62; medians and 5-95 %), of which
nobody sees the ends; 20 uV (12-27) and 11-16 uV at Cz between 10 and 17 Hz, so the 20-50 uV of 7.2 are peak to peak.
"""

FAST_SPINDLE = Transient(
    "Spindle", "transient", waveforms.spindle, {"N2": Range(0.25, 2.3), "N3": Range(0.1, 0.7)}, Range(0.5, 1.6),
    Range(9, 32), ((Patch(("Cz", "Pz"), 13),), (Patch(("C3", "P3"), 9), Patch(("C4", "P4"), 9))), Range(12.7, 14.3),
)  # fmt: skip

SLEEP = (
    SLOW_SPINDLE,
    FAST_SPINDLE,
    # 0.5-2 s, >= 100 to > 200 uV, fronto-central, bisynchronous, N2: FACT 7.2. Rate: 7.2 INFERENCE (2-4 a minute);
    # a few in N3 and the share that a spindle follows are RECALL.
    Transient("K-complex", "transient", waveforms.k_complex, {"N2": Range(1.5, 3.5), "N3": Range(0.2, 0.8)},
              Range(0.5, 1.4), Range(90, 230), ((Patch(("Fz", "Cz"), 14),), (Patch(("Fz",), 14),)),
              follower=SLOW_SPINDLE, follower_share=0.35),
    # < 0.5 s, 50-150 uV, rarely > 250, Cz, N1-N2: FACT 7.2; the sharp part < 200 ms: RECALL; rate: INFERENCE.
    Transient("Vertex wave", "transient", waveforms.vertex_wave, {"N1": Range(2, 4), "N2": Range(0.5, 1.5)},
              Range(0.25, 0.48), Range(45, 160), ((Patch(("Cz",), 11),),)),
    # Positive triangles, trains of 1-6 Hz, 30-50 uV, occipital, bisynchronous, N1-N2: FACT 7.2.
    # In 20 % of subjects: 7.2 INFERENCE; rate and length of a train ours.
    Transient("POSTS", "transient", waveforms.posts, {"N1": Range(1, 3), "N2": Range(1, 3)}, Range(0.3, 2.5),
              Range(28, 55), _OCCIPITAL, Range(2, 6), incidence=0.2),
    # Positive triangles of 160-250 ms, 20-50 uV (RECALL 7.2), occipital, wake, scanning; share and rate INFERENCE.
    Transient("Lambda wave", "transient", waveforms.lambda_wave, {"W": Range(2, 8)}, Range(0.16, 0.25),
              Range(20, 50), _OCCIPITAL, incidence=0.3),
    # 2-6 Hz, 20-100 uV (RECALL), fronto-central, REM (FACT 7.2); rate and length RECALL.
    Transient("Sawtooth waves", "transient", waveforms.sawtooth, {"R": Range(1, 2)}, Range(1.5, 5.0), Range(20, 60),
              ((Patch(("Cz", "Fz"), 12),),), Range(2.2, 5)),
    # 3-5 Hz, seconds to minutes, 75-200 uV (at most 350), fronto-central or diffuse, drowsy, 3 months to 10 years:
    # FACT 7.2. Most children have it: RECALL; rate INFERENCE.
    Transient("Hypnagogic hypersynchrony", "transient", waveforms.hypersynchrony, {"N1": Range(1, 3)}, Range(2, 12),
              Range(75, 250), ((Patch(("Fz", "Cz"), 16), Patch(("P3", "P4"), 12, 0.4)),), Range(3, 5),
              incidence=0.8, younger_than=10),
    # 250-400 ms, occipital, wake (FACT 7.2). Slow fused transients: 2.59 % of 3,050 reports (FACT), here of those
    # below 25, who are 45 % of a cohort. Amplitude and rate INFERENCE.
    Transient("Posterior slow wave of youth", "transient", waveforms.slow_wave, {"W": Range(1, 5)}, Range(0.35, 0.5),
              Range(40, 100), _OCCIPITAL, incidence=0.058, younger_than=25),
)  # fmt: skip

MIMICS = (
    # 6-11 Hz, single or trains, 60-200 uV, anterior to mid temporal, drowsy or light sleep, age > 30; in 0.9-3.25 %
    # (FACT 7.2): 3.25 % are 7.6 % of those over 30, who are 43 % of a cohort. Rate and length INFERENCE.
    Transient("Wicket", "mimic", waveforms.wicket, {"W": Range(0.5, 1), "N1": Range(1, 3), "N2": Range(1, 2)},
              Range(0.15, 1.2), Range(60, 200), (_LEFT_TEMPORAL, _RIGHT_TEMPORAL), Range(6, 11), incidence=0.076,
              older_than=30),
    # < 50 ms, < 50 uV, broad temporal with an oblique dipole (RECALL), N1-N2, in some 20 % (FACT 7.2; 1.05 % of
    # routine reports, which seldom hold so much sleep). Rate INFERENCE.
    Transient("Small sharp spike", "mimic", waveforms.small_sharp_spike, {"N1": Range(0.5, 2), "N2": Range(0.5, 2)},
              Range(0.055, 0.09), Range(22, 50),
              ((Patch(("T3",), 11, tilt=0.7, towards="F4"),), (Patch(("T4",), 11, tilt=0.7, towards="F3"),)),
              incidence=0.2),
    # 14 or 6 Hz, < 2 s, 20-60 uV, positive, comb-like, posterior temporal, light sleep, adolescents (FACT 7.2):
    # 1.83 % of 3,050 reports (FACT), here of those from 8 to 25 years, who are some 43 %. Rate INFERENCE.
    Transient("14-and-6 Hz positive burst", "mimic", waveforms.fourteen_and_six,
              {"N1": Range(0.5, 1.5), "N2": Range(0.3, 1)}, Range(0.4, 1.9), Range(20, 60), (_LEFT_BACK, _RIGHT_BACK),
              Range(13.5, 14.5), incidence=0.043, older_than=8, younger_than=25),
    # Spike < 30 ms, bursts of 1-2 s, waves 50-100 uV, frontal in wake (WHAM) or occipital in drowsiness (FOLD,
    # RECALL); goes in deeper sleep (7.2). 0.69 % of 3,050 reports (FACT). Rate INFERENCE.
    Transient("6-Hz phantom burst", "mimic", waveforms.phantom_spike_wave, {"W": Range(0.3, 1), "N1": Range(0.5, 1.5)},
              Range(1, 2), Range(50, 100), ((Patch(("Fz",), 14),), (Patch(("O1", "O2"), 12),)), Range(5.5, 6.5),
              incidence=0.0069),
    # 4-7 Hz, several seconds to minutes, 50-200 uV (RECALL), mid-temporal, notched, N1 (7.2); 6.03 % of 3,050 reports
    # (FACT). Rate INFERENCE.
    Transient("RMTD", "mimic", waveforms.notched_theta, {"W": Range(0.1, 0.3), "N1": Range(0.5, 1.5)}, Range(3, 20),
              Range(50, 150), ((Patch(("T3",), 7),), (Patch(("T4",), 7),)), Range(4.5, 6.8), incidence=0.0603),
    # Temporal slowing of the old: 2.89 % of 3,050 reports (FACT), here of those over 60, some 9 %. Rest INFERENCE.
    Transient("Temporal slow wave", "mimic", waveforms.slow_wave, _each("W", "N1", low=0.5, high=3), Range(0.3, 0.6),
              Range(30, 80), (_LEFT_TEMPORAL, _RIGHT_TEMPORAL), incidence=0.32, older_than=60),
    # Sharply contoured waves of no meaning, anywhere: what IEDs are most often confused with. 7.2 gives sharp
    # transients in 19.21 % of reports (FACT); that everyone has some that nobody reports is INFERENCE, as are
    # all figures. They last longer than the 200 ms that a sharp wave may (FACT 7.1; ACNS 2021 has the same limit
    # between `sharp` and `sharply contoured`): a shorter one of that size would be a real spike.
    Transient("Sharply contoured wave", "mimic", waveforms.contoured_wave, _each(*_ALL, low=0.5, high=3),
              Range(0.42, 0.90), Range(28, 110), tuple((Patch((name,), 6),) for name in _EVERY_LEAD)),
    # Rhythmic delta activity: at most 4 Hz, here 1-3; at least 6 cycles; nothing between two waves; `high` from 150 uV
    # on (ACNS 2021). Lateralised (LRDA), then generalised, mostly frontal (GRDA). Share and rate INFERENCE.
    Transient("Rhythmic delta LRDA", "mimic", waveforms.rhythmic_delta, _each(*_ALL, low=0.1, high=0.5), Range(8, 60),
              Range(30, 180), tuple((Patch(leads, 10),) for leads in (("F7", "T3"), ("F8", "T4"), ("F3",), ("F4",))),
              Range(1, 3), incidence=0.08),
    Transient("Rhythmic delta GRDA", "mimic", waveforms.rhythmic_delta, _each(*_ALL, low=0.1, high=0.5), Range(8, 60),
              Range(30, 180), ((Patch(("Fz",), 16),), (Patch(("Fz", "Cz"), 16),), (Patch(("Fz", "Fp1", "Fp2"), 14),)),
              Range(1, 3), incidence=0.08),
    # Generalised, blunt, three phases, the second positive and largest, 1.5-2.5 Hz, behind later than in front by
    # 25-140 ms (Bickford and Butt 1955, RECALL; ACNS 2021: a lag of 100 ms). ACNS counts them among the GPDs, so the
    # text is one that recordings.texts takes for no label. Share, rate and size INFERENCE.
    Transient("Triphasic waves", "mimic", waveforms.triphasic, _each(*_ALL, low=0.1, high=0.4), Range(6, 40),
              Range(50, 200), ((Patch(("Fz",), 13), Patch(("Pz",), 13)),), Range(1.5, 2.5),
              incoherent=True, lag_seconds=0.06, incidence=0.06),
    # Mu-like arcs, magnified and sharpened by a hole in the skull (7.2: 1.25 %, up to 3 x the neighbours, all
    # stages). Amplitude below a whole skull; rate and length INFERENCE.
    Transient("Breach rhythm", "mimic", waveforms.wicket, _each("W", "N1", "N2", low=2, high=5), Range(0.4, 2.0),
              Range(20, 50), (), Range(7, 11), at_defect=True),
)  # fmt: skip

ARTEFACTS = (
    # Kinds from 7.2, sizes and rates RECALL. The cornea is positive, so Fp1 and Fp2 turn positive.
    Transient("Artefact blink", "artefact", waveforms.blink, {"W": Range(4, 12)}, Range(0.25, 0.5), Range(50, 200),
              eyes="up"),
    # 0.25-0.5 Hz, Fp/F7/F8 with opposite sign, N1: FACT 7.2.
    Transient("Artefact eye movement", "artefact", waveforms.slow_eye_movement, {"N1": Range(3, 7)}, Range(3, 8),
              Range(25, 90), (), Range(0.25, 0.5), eyes="right"),
    Transient("Artefact eye movement", "artefact", waveforms.rapid_eye_movement,
              {"R": Range(5, 15), "W": Range(1, 3)}, Range(0.4, 1.2), Range(35, 130), eyes="right"),
    # 20-70 Hz (7.2 INFERENCE); the temporal and frontal muscles.
    Transient("Artefact EMG", "artefact", waveforms.muscle,
              {"W": Range(1, 3), **_each("N1", low=0.3, high=1), **_each("N2", "N3", "R", low=0, high=0.3)},
              Range(0.4, 5.0), Range(20, 120),
              (tuple(Patch((name,), 3, muscle=True) for name in ("F7", "T3", "T5")),
               tuple(Patch((name,), 3, muscle=True) for name in ("F8", "T4", "T6")),
               tuple(Patch((name,), 3, muscle=True) for name in ("Fp1", "Fp2", "F7", "F8"))),
              Range(30, 45), incoherent=True),
    Transient("Artefact chewing", "artefact", waveforms.chewing, {"W": Range(0.05, 0.3)}, Range(3, 12), Range(50, 200),
              (tuple(Patch((name,), 3, muscle=True) for name in ("F7", "T3", "F8", "T4")),), Range(30, 45),
              incidence=0.5, incoherent=True),
    Transient("Artefact electrode pop", "artefact", waveforms.electrode_pop,
              {"W": Range(0, 0.5), **_each("N1", "N2", "N3", "R", low=0, high=0.25)}, Range(0.5, 2.0), Range(50, 250),
              electrodes=1),
    Transient("Artefact sweat", "artefact", waveforms.sweat, _each(*_ALL, low=0.1, high=0.4), Range(8, 30),
              Range(30, 120), (), Range(0.2, 0.4), electrodes=5, incidence=0.15),
    Transient("Artefact movement", "artefact", waveforms.movement,
              {"W": Range(0.1, 0.5), "N1": Range(0.1, 0.4), **_each("N2", "N3", "R", low=0, high=0.12)},
              Range(1.5, 8), Range(100, 350), (), Range(0.8, 2), electrodes=12),
)  # fmt: skip

TRANSIENTS = (*SLEEP, *MIMICS, *ARTEFACTS)
