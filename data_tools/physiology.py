"""What the simulator knows about EEG: every length, amplitude and rate in one place, each with its source.

How sure a figure is: FACT (read in the source), RECALL (published, quoted from memory), INFERENCE (our own choice).
Where it comes from, by the keys used below:

    3.2  vEpiSet (Sci Data 2025;12:229): its 4-s windows by state, as audited in eng-rodriguez/dissertation-research
    7.1  IFCN criteria of IEDs (Kural et al., Neurology 2020;94:e2139) and common textbook ranges
    7.2  mimics and normal variants: AASM definitions; 3,050 EEGs scored with SCORE (PMC9294211); Medscape's review of
         benign variants; for the background generator textbook spectra

Amplitudes are in microvolts from baseline to peak, times in seconds, rates per minute of the stage.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data_tools import waveforms
from siamese_jax.vocabulary import POSITIONS


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


class Pole(NamedTuple):
    """One Gaussian on the 10-20 map (unit head, x right, y front): a field is a sum of poles."""

    x: float
    y: float
    sigma: float
    gain: float = 1.0


# --- background: 7.2 "Background generator", INFERENCE unless marked ------------------------------

EXPONENT = {"W": 1.0, "N1": 1.6, "N2": 1.6, "N3": 2.2, "R": 1.3}
"""beta of the 1/f^beta noise: 7.2; R is ours, between W and N1 ('low-amplitude mixed frequency')."""

RMS_UV = {
    "W": Range(10, 20),
    "N1": Range(12, 22),  # ours: between W and N2
    "N2": Range(15, 30),
    "N3": Range(40, 60),
    "R": Range(10, 20),  # ours: as W
}
"""Root mean square of the background over all scalp electrodes, rhythms included."""

CORRELATION_LENGTH = 1.2
"""Correlation of the 1/f noise is exp(-(d / 1.2)^2) over the map distance d. Fitted to the EEGLAB sample
recording by eye (0.83, 0.68, 0.45, 0.27, 0.11 at d = 0.45, 0.75, 1.05, 1.4, 1.8; 1-30 Hz)."""

LOCAL_SHARE = 0.04
"""Share of the noise power that an electrode has for itself (INFERENCE: amplifier and contact noise)."""

REFERENCE_UV = 3.0
"""RMS of what the common reference adds to every EEG lead alike (INFERENCE)."""

HEART_PICKUP_UV = Range(0, 6)
"""Height of the R wave in the common reference (INFERENCE)."""

MAINS_UV = Range(0.5, 3.0)
"""Mains residue of one electrode (7.2 asks for one; size INFERENCE)."""


class Rhythm(NamedTuple):
    """A narrow band on top of the 1/f noise."""

    name: str
    frequency_hz: Range
    width_hz: float
    share: dict[str, float]  # of the background's mean power over the scalp, by stage
    poles: tuple[Pole, ...]  # an independent source each


RHYTHMS = (
    # 8-13 Hz occipital, 20-60 uV (FACT 7.2, amplitude RECALL); traces of it in N1 and R are RECALL.
    Rhythm("alpha", Range(8.5, 11.5), 0.6, {"W": 0.30, "N1": 0.04, "R": 0.03},
           (Pole(-0.35, -0.9, 0.45), Pole(0.35, -0.9, 0.45), Pole(0, -0.6, 0.5))),
    # 9-11 Hz over C3/C4 in wake (FACT 7.2); sine-like here, not arciform.
    Rhythm("mu", Range(9, 11), 0.5, {"W": 0.04}, (Pole(-0.5, 0, 0.25), Pole(0.5, 0, 0.25))),
    # Fronto-central beta in wakefulness: RECALL.
    Rhythm("beta", Range(18, 24), 3.0, {"W": 0.03, "N1": 0.02},
           (Pole(-0.3, 0.4, 0.6), Pole(0.3, 0.4, 0.6))),
    # N1 and R: 'low-amplitude, mixed-frequency' with theta (AASM; RECALL).
    Rhythm("theta", Range(4.5, 6.5), 0.9, {"N1": 0.25, "N2": 0.12, "R": 0.25},
           (Pole(0, 0.1, 0.8), Pole(0, -0.3, 0.8))),
    # 0.5-2 Hz, > 75 uV, frontal in N3 (FACT 7.2).
    Rhythm("delta", Range(0.8, 1.3), 0.35, {"N1": 0.05, "N2": 0.2, "N3": 0.5},
           (Pole(0, 0.5, 1.0, 1.7), Pole(-0.4, 0.4, 0.7), Pole(0.4, 0.4, 0.7))),
)  # fmt: skip

# --- hypnogram ----------------------------------------------------------------------------------------------

BOUT_EPOCHS = {"W": 8.0, "N1": 3.0, "N2": 15.0, "N3": 20.0, "R": 20.0}
"""Mean length of an uninterrupted bout in 30-s epochs, before compression (RECALL, order of magnitude)."""

NEXT_STAGE = {
    "W": {"N1": 0.85, "N2": 0.15},
    "N1": {"N2": 0.70, "W": 0.25, "R": 0.05},
    "N2": {"N3": 0.40, "R": 0.25, "W": 0.20, "N1": 0.15},
    "N3": {"N2": 0.80, "W": 0.15, "N1": 0.05},
    "R": {"W": 0.35, "N1": 0.30, "N2": 0.35},
}
"""Where a bout ends up (RECALL: the usual order W-N1-N2-N3-N2-R, figures ours)."""

FIRST_STAGE = {"W": 0.6, "N1": 0.1, "N2": 0.3}
"""INFERENCE: not always W, so that a stage cannot be read off the clock."""

# --- events that are no IED: mimics, sleep transients, artefacts --------------------------------------------


@dataclass(frozen=True)
class Transient:
    """A kind of event: how often, how long, how big, where."""

    text: str
    shape: Callable[..., np.ndarray]
    per_minute: dict[str, Range]
    duration: Range
    amplitude_uv: Range
    fields: tuple[tuple[Pole, ...], ...]  # one of them is chosen; () is a random electrode
    frequency_hz: Range = Range(0, 0)
    incidence: float = 1.0  # share of patients who have it
    jitter: float = 0.08  # scatter of the field's centre on the map (INFERENCE)
    older_than: float = 0.0  # years

    @property
    def is_artefact(self) -> bool:
        """Whether it comes from elsewhere than the brain."""
        return self.text.startswith("Artefact")


_OCULAR_HORIZONTAL = ((Pole(-0.85, 0.75, 0.35), Pole(0.85, 0.75, 0.35, -1.0)),)
_TEMPORAL = ((Pole(-0.95, 0.25, 0.35),), (Pole(0.95, 0.25, 0.35),))

TRANSIENTS = (
    # 11-16 Hz, 0.5-2 s, detected from 25 uV, slow type frontal, fast type centro-parietal, N2 (N3): FACT 7.2;
    # up to 50 uV: RECALL.
    # Spindles together 2-4 a minute in N2 (7.2 INFERENCE), so half for each type; N3 fewer (RECALL).
    Transient("Spindle", waveforms.spindle, {"N2": Range(1, 2), "N3": Range(0.2, 0.5)}, Range(0.6, 2.0),
              Range(25, 50), ((Pole(0, 0.45, 0.6),),), Range(11, 13)),
    Transient("Spindle", waveforms.spindle, {"N2": Range(1, 2), "N3": Range(0.2, 0.5)}, Range(0.6, 2.0),
              Range(25, 50), ((Pole(0, -0.2, 0.6),),), Range(13, 15.5)),
    # 0.5-2 s, >= 100 to > 200 uV, fronto-central, N2: FACT 7.2; 2-4 a minute: 7.2 INFERENCE.
    Transient("K-complex", waveforms.k_complex, {"N2": Range(2, 4)}, Range(0.5, 1.2), Range(100, 220),
              ((Pole(0, 0.3, 0.8),),)),
    # < 0.5 s, 50-150 uV, Cz, N1-N2: FACT 7.2; the sharp part < 200 ms: RECALL; 2-4 a minute: INFERENCE.
    Transient("Vertex wave", waveforms.vertex_wave, {"N1": Range(2, 4), "N2": Range(1, 2)}, Range(0.25, 0.48),
              Range(50, 150), ((Pole(0, 0, 0.45),),)),
    # Positive triangles, trains of 1-6 Hz, 30-50 uV, occipital, N1-N2: FACT 7.2.
    # In 20 % of subjects: 7.2 INFERENCE; rate and length of a train ours.
    Transient("POSTS", waveforms.posts, {"N1": Range(1, 3), "N2": Range(1, 3)}, Range(0.3, 2.0),
              Range(30, 50), ((Pole(-0.31, -0.95, 0.4), Pole(0.31, -0.95, 0.4)),), Range(2, 6),
              incidence=0.2),
    # 6-11 Hz, single or trains, 60-200 uV, anterior/mid temporal, drowsy or light sleep, age > 30 (FACT 7.2).
    # Sharp transients including wickets: 19.21 % of 3,050 EEGs (FACT, PMC9294211); wickets alone are rarer.
    # Over 30 only, so 0.35 of those (INFERENCE) is about 19 % of a cohort here. Rate and lengths INFERENCE.
    Transient("Wicket", waveforms.wicket, {"W": Range(0.5, 1), "N1": Range(1, 3), "N2": Range(1, 2)},
              Range(0.2, 1.2), Range(60, 200), _TEMPORAL, Range(6, 11), incidence=0.35, older_than=30),
    # < 50 ms, < 50 uV, broad temporal, N1-N2, in 20 % of people (FACT 7.2); rate INFERENCE.
    Transient("Small sharp spike", waveforms.sharp_transient, {"N1": Range(0.5, 2), "N2": Range(0.5, 2)},
              Range(0.08, 0.12), Range(25, 50), ((Pole(-0.9, 0, 0.7),), (Pole(0.9, 0, 0.7),)), incidence=0.2),
    # Sharply contoured waves of no meaning, anywhere: what IEDs are most often confused with. 7.2 gives sharp
    # transients in 19.21 % of reports (FACT); that everyone has some that nobody reports is INFERENCE, as are
    # all figures. They lack what makes an IED in 7.1: after-wave, disruption, a fall slower than the rise.
    Transient("Sharp transient", waveforms.sharp_transient,
              {"W": Range(1, 3), "N1": Range(1, 3), "N2": Range(1, 3), "N3": Range(1, 3), "R": Range(1, 3)},
              Range(0.08, 0.30), Range(30, 110), tuple((Pole(*xy, 0.4),) for xy in POSITIONS.values())),
    # 2-6 Hz, 20-100 uV (RECALL), fronto-central, REM (FACT 7.2); rate and length RECALL.
    Transient("Sawtooth waves", waveforms.sawtooth, {"R": Range(1, 2)}, Range(1.5, 5.0), Range(20, 60),
              ((Pole(0, 0.15, 0.6),),), Range(2, 5)),
    # Artefacts: kinds from 7.2, sizes and rates RECALL. The cornea is positive, so Fp1 and Fp2 turn positive.
    Transient("Artefact blink", waveforms.blink, {"W": Range(4, 12)}, Range(0.3, 0.5), Range(60, 180),
              ((Pole(-0.31, 1.05, 0.35), Pole(0.31, 1.05, 0.35)),)),
    # 0.25-0.5 Hz, Fp/F7/F8 with opposite sign, N1: FACT 7.2.
    Transient("Artefact eye movement", waveforms.slow_eye_movement, {"N1": Range(4, 8)}, Range(3, 8),
              Range(30, 90), _OCULAR_HORIZONTAL, Range(0.25, 0.5)),
    Transient("Artefact eye movement", waveforms.rapid_eye_movement, {"R": Range(6, 15), "W": Range(1, 3)},
              Range(0.4, 1.2), Range(40, 120), _OCULAR_HORIZONTAL),
    # 20-70 Hz (7.2 INFERENCE); the temporal and frontal muscles.
    Transient("Artefact EMG", waveforms.muscle,
              {"W": Range(1, 3), "N1": Range(0.3, 1), "N2": Range(0, 0.3), "R": Range(0, 0.3)},
              Range(0.5, 4.0), Range(30, 120),
              ((Pole(-0.95, 0.2, 0.4),), (Pole(0.95, 0.2, 0.4),), (Pole(0, 1.0, 0.6),)), Range(30, 45)),
    Transient("Artefact electrode pop", waveforms.electrode_pop,
              {"W": Range(0, 0.5), "N1": Range(0, 0.3), "N2": Range(0, 0.2), "N3": Range(0, 0.2),
               "R": Range(0, 0.2)},
              Range(0.5, 2.0), Range(50, 200), ((),)),
)  # fmt: skip

# --- IEDs: 7.1 and 3.2 ----------------------------------------------------------------------------


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

IED_PER_MINUTE, IED_RATE_SIGMA = 1.3, 0.7
"""Median and log-spread over patients of the mean of wake and sleep rates. INFERENCE: in 4/5 of the patients
it puts an IED into about a tenth of the 4-s windows, as in vEpiSet (2,516 of 25,449; EpiSet-260K: 4.4 %)."""

SNR_MEDIAN, SNR_SIGMA_PATIENT, SNR_SIGMA_EVENT = 3.0, 0.25, 0.3
"""Amplitude over background RMS is lognormal with median 3 (7.1 INFERENCE); the spreads are ours."""

GENERALIZED_SNR_FACTOR = 2.0
"""Generalised discharges are larger (RECALL: commonly 150-300 uV; the factor is ours)."""

LOWEST_SNR = 2.0
"""An IED that an expert marked stands out (INFERENCE)."""

IED_AMPLITUDE_UV = Range(50, 400)
"""IED amplitudes are clipped to this: 50-200 uV, children to 400 (RECALL 7.1), 'usually > 50' (FACT 7.1)."""

IED_KINDS = {"spike": 0.4, "sharp wave": 0.3, "spike-and-wave": 0.3}
"""How often a focal patient's IEDs are mainly of a kind (INFERENCE)."""

SPIKE_SECONDS = Range(0.025, 0.070)  # rise 10-30 ms + fall 15-45 ms (7.1 recipe); spike 20-70 ms (FACT 7.1)
SHARP_WAVE_SECONDS = Range(0.070, 0.160)  # FACT 7.1: 70-200 ms; upper end ours
RISE_SHARE = Range(0.35, 0.45)  # criterion 3: the rise is shorter than the fall (RECALL 7.1)
SHOULDER_SECONDS = Range(0.040, 0.080)  # 7.1 recipe
AFTER_WAVE_SECONDS = Range(0.150, 0.350)  # 7.1 recipe, RECALL
AFTER_WAVE_GAIN = {  # 7.1 recipe: 0.4-1.2 overall; which kind has which part is ours
    "spike": Range(0.4, 0.7),
    "sharp wave": Range(0.4, 0.8),
    "spike-and-wave": Range(0.8, 1.2),
}
FOCAL_SIGMA = Range(0.35, 0.60)  # 7.1 recipe
GENERALIZED_SIGMA = Range(1.0, 1.5)  # 7.1 recipe
PROPAGATION_SECONDS = Range(0.0, 0.020)  # 7.1 recipe, over the width of the head
DISRUPTION_GAIN = Range(0.4, 0.7)  # criterion 5, 7.1 recipe
DISRUPTION_SECONDS = Range(0.2, 0.4)
RUN_HZ = Range(2.5, 4.0)  # generalised spike-and-wave (RECALL 7.1)
RUN_COMPLEXES = {"W": Range(1, 8), "N1": Range(1, 5), "N2": Range(1, 4), "N3": Range(1, 4), "R": Range(1, 3)}
"""Longer in wakefulness (FACT 7.1, Front Neurol 2018); counts INFERENCE."""

# --- other leads --------------------------------------------------------------------------------------------

EXTRA_POSITIONS = {"PG1": (-0.95, 0.45), "PG2": (0.95, 0.45), "A1": (-1.25, -0.15), "A2": (1.25, -0.15)}
"""INFERENCE: the ears beside T3/T4, the nasopharyngeal leads as anterior temporal ones."""

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


def position(ch_name: str) -> tuple[float, float]:
    """Map position of an EEG lead; KeyError for a lead that is none."""
    return POSITIONS[ch_name] if ch_name in POSITIONS else EXTRA_POSITIONS[ch_name]
