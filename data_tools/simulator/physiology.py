"""Figures of the background, the heart, muscles and mains: every figure with its source.

How sure a figure is: FACT (read in the source), RECALL (published, quoted from memory), INFERENCE (our own choice).
Where it comes from, by the keys used in all modules of the simulator:

    3.2  vEpiSet (Sci Data 2025;12:229): its 4-s windows by state, as audited in eng-rodriguez/dissertation-research
    7.1  IFCN criteria of IEDs (Kural et al., Neurology 2020;94:e2139) and common textbook ranges
    7.2  mimics and normal variants: AASM definitions; 3,050 EEGs scored with SCORE (PMC9294211); Medscape's review of
         benign variants; for the background generator textbook spectra
    SEEN looked up in recordings kept for that and never reported on: DREAMS sleep spindles, subjects 2 and 4
         (Cz-A1), and the first half of EEGLAB's sample recording (awake)

Amplitudes are in microvolts from baseline to peak, times in seconds, rates per minute of the stage.
"""

from typing import NamedTuple

import numpy as np

from data_tools.simulator.patches import Patch


class Range(NamedTuple):
    """A quantity drawn uniformly between two values."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """One draw."""
        return float(rng.uniform(self.low, self.high))

    def at(self, quantile: float) -> float:
        """The value that lies `quantile` (0..1) of the way up."""
        return self.low + quantile * (self.high - self.low)


# --- patients ---------------------------------------------------------------------------------------------------

AGE_MEDIAN, AGE_LOG_SPREAD, AGE_RANGE = 27.0, 0.6, Range(3, 87)
"""Median and limits FACT 1.1 (the published cohort); the spread is ours."""

BREACH_SHARE = 0.03
"""Share of patients with a skull defect: 1.25 % of 3,050 reports (FACT 7.2); more in a cohort with epilepsy surgery
(INFERENCE)."""
BREACH_GAIN = Range(1.5, 3.0)  # up to 3 times the neighbours (RECALL 7.2)
BREACH_SITES = ("F3", "F4", "C3", "C4", "P3", "P4", "T3", "T4", "F7", "F8")  # craniotomies; INFERENCE

CHILD_GAIN, CHILD_YEARS = 0.7, 9.0
"""A child's EEG is larger: 1 + 0.7 exp(-(age - 3) / 9) (RECALL: about twice an adult's at school age)."""

# --- 1/f noise --------------------------------------------------------------------------------------------------

EXPONENT = {"W": 1.2, "N1": 1.6, "N2": 1.95, "N3": 2.35, "R": 1.7}
"""beta of the 1/f^beta noise above the knee. Steepens with the depth of sleep: W -1 to -2, N3 -2.5 to -3 (Miskovic et
al. 2019, Bodizs et al. 2021; RECALL); SEEN 1.5, 1.9, 2.2, 2.6. The textbook's 1.0, 1.6, 2.2 (7.2) lie below."""
EXPONENT_SPREAD = 0.15  # between patients (INFERENCE)
EXPONENT_DRIFT = 0.06  # within a patient, over minutes (INFERENCE)

KNEE_HZ = {"W": 0.8, "N1": 1.2, "N2": 1.5, "N3": 1.5, "R": 1.2}
"""The noise is flatter below; SEEN."""

RMS_UV = {"W": 8.5, "N1": 6.8, "N2": 9.0, "N3": 16.0, "R": 7.3}
"""Median over adults of the root mean square of noise and rhythms over the 19 scalp leads, against a quiet reference.
7.2 has 10-20 awake, 15-30 in N2 and 40-60 in N3 with K-complexes and slow waves, which come on top here (SEEN)."""
PATIENT_SPREAD = 0.33
"""Log-spread of the level between patients (INFERENCE; SEEN 3 dB and more)."""
STAGE_SPREAD = 0.12
"""Log-spread between patients of a stage's level beyond what all stages share (INFERENCE)."""
DRIFT = {"W": 0.32, "N1": 0.15, "N2": 0.10, "N3": 0.10, "R": 0.10}
"""Log-spread of the level within a patient: half of its variance over minutes, half over 20 s (INFERENCE; SEEN 0.25
to 0.5 in all)."""
BAND_DRIFT = 0.05
"""Log-spread of each band's level of its own over 20 s (INFERENCE)."""
BURSTS = {"slow": 0.15, "middle": 0.45, "fast": 0.65}
"""Log-spread of a generator's amplitude within a second: EEG is less Gaussian than noise (SEEN)."""

HIGHPASS_HZ, LOWPASS_HZ = 0.2, 60.0
"""Corners of the noise's soft roll-off: the amplifier below, the skull above (INFERENCE)."""

COHERENCE_DEGREES = {"slow": 45.0, "middle": 42.0, "fast": 36.0}
"""How far over the cortex activity is alike: correlation exp(-(angle / 45)^2), by band. SEEN: with these and the head
model the correlation of leads falls with distance as in EEGLAB's sample, against its reference and against the mean."""
BAND_EDGES_HZ = (4.0, 14.0)
TANGENTIAL_SHARE = 0.7
"""Power of each of the two tangential moments of the cortex, of the radial one (INFERENCE; SEEN 0.2 to 2)."""
FRONTAL_GAIN = {"slow": 0.2, "middle": 0.1, "fast": 0.1}
"""By how much more the frontal pole generates than the middle, and the occipital pole less (SEEN; RECALL for N3)."""

ELECTRODE_UV = 1.0
"""RMS of each electrode's own noise (INFERENCE: amplifier and contact)."""
REFERENCE_SHARE = 1.1
"""Power of what the common reference picks up, of the noise's mean power over the scalp. No reference is silent: the
correlation of far leads in EEGLAB's sample requires 0.8-1.2 (SEEN)."""

FAST_KNEE_HZ, FAST_STEEPENING = 15.0, {"W": 1.0, "N1": 1.4, "N2": 1.6, "N3": 1.6, "R": 1.4}
"""Above 15 Hz the noise falls more steeply, by so much in the exponent (SEEN)."""

# --- rhythms ----------------------------------------------------------------------------------------------------


EVERY_AGE = Range(0, 200)


class Rhythm(NamedTuple):
    """A narrow band on top of the 1/f noise."""

    name: str
    frequency_hz: Range
    width_hz: float
    share: dict[str, float]  # of the background's mean power over the scalp, by stage
    sites: tuple[tuple[Patch, ...], ...]  # an independent generator each
    spread: float = 0.5  # of log power between patients (INFERENCE)
    swelling: float = 0.4  # log-spread of the amplitude over tens of seconds: waxing and waning (INFERENCE)
    bursts: float = 0.4  # and within a second
    ages: Range = EVERY_AGE


RHYTHMS = (
    # 8-13 Hz occipital, 20-60 uV (FACT 7.2, amplitude RECALL). In one of ten it is hardly seen (RECALL).
    Rhythm("alpha", Range(-0.9, 0.9), 0.6, {"W": 0.36, "N1": 0.03, "R": 0.02},
           ((Patch(("O1",), 8),), (Patch(("O2",), 8),), (Patch(("Pz",), 12, tilt=0.7, towards="O1"),),
            (Patch(("O1", "T5", "P3"), 9),), (Patch(("O2", "T6", "P4"), 9),)), spread=0.8, swelling=0.8),
    # 9-11 Hz over C3/C4 in wake (FACT 7.2): the hand area, a sulcus: partly tangential, to the front (RECALL).
    Rhythm("mu", Range(9, 11), 0.5, {"W": 0.04},
           ((Patch(("C3",), 7, tilt=0.7, towards="F3"),), (Patch(("C4",), 7, tilt=0.7, towards="F4"),)),
           spread=0.8, swelling=0.55),
    # Fronto-central beta in wakefulness and drowsiness: RECALL.
    Rhythm("beta", Range(17, 24), 3.0, {"W": 0.02, "N1": 0.02, "R": 0.01},
           ((Patch(("F3", "C3"), 9),), (Patch(("F4", "C4"), 9),), (Patch(("Fz", "Cz"), 11),)), spread=0.6),
    # N1 and R: 'low-amplitude, mixed-frequency' with theta (AASM; RECALL).
    Rhythm("theta", Range(4.5, 6.5), 1.3, {"W": 0.03, "N1": 0.09, "N2": 0.03, "R": 0.09},
           ((Patch(("Fz", "Cz"), 14),), (Patch(("Cz", "Pz"), 14),), (Patch(("F3", "T3"), 12),),
            (Patch(("F4", "T4"), 12),)), swelling=0.5),
    # 7-12 Hz in sleep without a peak of its own: the spectrum falls smoothly from 4 to 14 Hz (SEEN); in front, in NREM
    # sleep (RECALL).
    Rhythm("frontal alpha", Range(8.5, 10), 2.2, {"N1": 0.05, "N2": 0.04, "N3": 0.012, "R": 0.04},
           ((Patch(("Fz",), 12),), (Patch(("F3", "C3"), 10),), (Patch(("F4", "C4"), 10),), (Patch(("Pz",), 12),))),
    # What is left of sleep spindles between those that stand out (INFERENCE; SEEN).
    Rhythm("sigma", Range(12, 14), 0.9, {"N2": 0.02, "N3": 0.004},
           ((Patch(("Fz",), 10),), (Patch(("Cz", "Pz"), 10),)), spread=0.6, swelling=0.25, bursts=0.7),
    # Below the slow waves that stand out: see SLOW_WAVES.
    Rhythm("delta", Range(0.8, 1.3), 0.4, {"N1": 0.05, "N2": 0.13, "N3": 0.25, "R": 0.05},
           ((Patch(("Fz",), 18),), (Patch(("F3",), 14),), (Patch(("F4",), 14),)), swelling=0.5),
    # Posterior slow waves of youth: 250-400 ms, occipital, awake (FACT 7.2); ages RECALL.
    Rhythm("youth", Range(2.8, 3.8), 0.5, {"W": 0.10},
           ((Patch(("O1", "P3"), 8),), (Patch(("O2", "P4"), 8),)), spread=0.8, swelling=0.7, ages=Range(5, 21)),
)  # fmt: skip


def alpha_hz(age_years: float) -> float:
    """Mean peak of alpha: 8 Hz at 3 years, 9 at 9, 10 in the adult, falling from 60 on (RECALL)."""
    return float(np.interp(age_years, [3, 9, 16, 60, 87], [8.0, 9.2, 10.2, 9.9, 9.2]))


# --- slow waves ---------------------------------------------------------------------------------------------------

SLOW_WAVES_PER_MINUTE = {"N2": 3.0, "N3": 16.0}
"""Slow oscillations that stand out: every few seconds in N3, fewer in N2 (Massimini et al. 2004; RECALL)."""
SLOW_WAVE_UV = Range(55, 95)
"""A young adult's median from baseline to the negative peak: N3 requires 75 uV from peak to peak (FACT 7.2)."""
SLOW_WAVE_SPREAD = 0.4  # of log amplitude within a patient (INFERENCE)
SLOW_WAVE_AGE = -0.010  # log amplitude lost per year after 20 (RECALL: about halved by 70-80)
SLOW_WAVE_NEGATIVE = Range(0.25, 0.55)  # seconds; 0.5-2 Hz (FACT 7.2)
SLOW_WAVE_POSITIVE = Range(0.35, 0.80)  # seconds; wider and lower than the negative one (RECALL)
SLOW_WAVE_POSITIVE_GAIN = Range(0.3, 0.8)
SLOW_WAVE_SPEED = Range(1.2, 7.0)  # m/s over the scalp, mostly from the front to the back (Massimini 2004, RECALL)
SLOW_WAVE_SITES = (("Fz",), ("Fz",), ("F3",), ("F4",), ("Fz", "Cz"), ("Cz",), ("Fp1", "F3"), ("Fp2", "F4"), ("Pz",))
SLOW_WAVE_CM = 17.0
"""Middle and extent of the patches: frontal, wide (FACT 7.2 for the front; size INFERENCE)."""

# --- muscles, heart, mains, eyes ------------------------------------------------------------------------------------

SCALP_MUSCLE_UV = {"W": 2.5, "N1": 1.2, "N2": 0.7, "N3": 0.5, "R": 0.3}
"""RMS of the scalp muscles' tone above 20 Hz at the leads over them (RECALL, order of magnitude; SEEN below 3)."""
SCALP_MUSCLE_SPREAD = 0.6  # of log amplitude, between patients (INFERENCE)
SCALP_MUSCLE_GAIN = {
    **{"T3": 1.0, "T4": 1.0, "F7": 0.9, "F8": 0.9, "Fp1": 0.7, "Fp2": 0.7, "T5": 0.6, "T6": 0.6, "O1": 0.5, "O2": 0.5},
    **{"F3": 0.25, "F4": 0.25, "C3": 0.25, "C4": 0.25, "A1": 0.8, "A2": 0.8, "PG1": 0.4, "PG2": 0.4},
}
"""Temporalis, frontalis and neck muscles; hardly any at the vertex (RECALL)."""

HEART_PICKUP_UV = Range(0, 4)
"""Height of the R wave in the common reference (INFERENCE)."""
EAR_PICKUP_UV, EAR_PICKUP_SPREAD, EAR_PICKUP_MAX = 3.0, 0.9, 20.0
"""Median, log-spread over patients and bound of the R wave at the ears (INFERENCE; SEEN strong in one of two)."""
EAR_PICKUP_SHARE = {
    **{"A1": -1.0, "A2": 0.8, "PG1": -0.6, "PG2": 0.5, "T3": -0.25, "T4": 0.2, "T5": -0.3, "T6": 0.25},
    **{"O1": -0.1, "O2": 0.08, "F7": -0.15, "F8": 0.12},
}
"""The nearer to the neck the more, of opposite sign on the two sides (RECALL; sizes INFERENCE)."""
HEART_PER_MINUTE = {
    "W": Range(62, 85),
    "N1": Range(58, 78),
    "N2": Range(54, 72),
    "N3": Range(52, 68),
    "R": Range(56, 78),
}
HEART_SCATTER = 0.04  # of the beat-to-beat interval; RECALL, as the rates above
ECG_UV = {"ECG1": 700.0, "ECG2": -500.0}  # R wave at the two chest leads, RECALL

EMG_RMS_UV = {"W": 30.0, "N1": 15.0, "N2": 9.0, "N3": 6.0, "R": 2.5}
"""Chin and limb tone falls with the depth of sleep and is lost in R (AASM rule; sizes RECALL)."""

MAINS_UV, MAINS_SPREAD, MAINS_UNLIKE = 0.3, 0.9, Range(0.4, 1.6)
"""Mains residue: a patient's median, its log-spread over patients, each electrode's factor. 7.2 requires a residue,
most recorders filter it (SEEN); sizes INFERENCE."""
MAINS_WANDER_HZ = 0.02  # of the grid's frequency over minutes (RECALL: within 0.05)
MAINS_HARMONICS = {2: 0.1, 3: 0.25}  # size relative to the first; odd ones are stronger (RECALL)

EYE_POSITIONS = ((-0.35, 0.82, -0.32), (0.35, 0.82, -0.32))
"""The eyeballs in head radii: 3 cm to either side, below and before the frontal poles (INFERENCE)."""
