"""One patient's IEDs in time: which discharge comes when, and its waveform. Figures and their sources: `ieds`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.random import Generator

from data_tools.simulator import ieds, waveforms
from data_tools.simulator.ieds import IedProfile, Periodic, Shape, choose
from data_tools.simulator.onsets import EPOCH_SECONDS, draw_onsets

PAUSE_SECONDS = 0.5
"""At least so long from the end of one discharge, or run of them, to the peak of the next."""
EDGE_SECONDS = 0.5
"""No discharge nearer to an end of the recording."""


class Complex(NamedTuple):
    """One spike, sharp wave or polyspike with what follows. Time runs from its first peak; the first peak is -1."""

    peaks: tuple[float, ...]  # of its spikes, the first at 0
    heights: tuple[float, ...]
    rise: float
    fall: float
    before_gain: float
    shoulder_gain: float
    shoulder: float  # seconds
    wave_seconds: float
    wave_gain: float

    @property
    def sharp_seconds(self) -> float:
        """From the rise of the first spike to the fall of the last."""
        return self.peaks[-1] + self.rise + self.fall

    @property
    def seconds(self) -> float:
        """From the first peak to the end of the after-wave."""
        return self._wave_start + self.wave_seconds

    @property
    def _wave_start(self) -> float:
        return self.peaks[-1] + self.fall / 2 + 0.8 * self.shoulder

    def wave(self, t: Float[np.ndarray, "time"]) -> Float[np.ndarray, "time"]:
        """The waveform: spikes, positive shoulder, after-wave (7.1 recipe)."""
        length = 0.01 + 1.2 * self.rise  # ours: as long as the peak is wide
        before = waveforms.half_sine((t + 0.5 * self.rise + length) / length)
        bump = waveforms.half_sine((t - self.peaks[-1] - self.fall / 2) / self.shoulder)
        total = self.before_gain * before + self.shoulder_gain * bump
        total += self.wave_gain * waveforms.after_wave(t - self._wave_start, seconds=self.wave_seconds)
        for peak, height in zip(self.peaks, self.heights, strict=True):
            total += height * waveforms.spike(t - peak, rise=self.rise, fall=self.fall)
        return total


class Discharge(NamedTuple):
    """A single complex or a run of them."""

    kind: str  # of ieds.SHARP_SECONDS
    focus: int  # of the profile's foci
    stage: str
    starts: tuple[float, ...]  # first peak of each complex, seconds from the start of the recording
    complexes: tuple[Complex, ...]
    snr: float  # amplitude over the background's RMS


def draw_discharges(ied: IedProfile, hypnogram: Sequence[str], seconds: float, rng: Generator) -> list[Discharge]:
    """Everything that the patient's foci do in a recording, in order."""
    discharges: list[Discharge] = []
    free_from = EDGE_SECONDS
    for start in draw_onsets(ied.per_minute, hypnogram, seconds, rng).tolist():
        stage = hypnogram[int(start / EPOCH_SECONDS)]
        discharge = _draw_discharge(ied, start, stage, rng)
        end = discharge.starts[-1] + discharge.complexes[-1].seconds
        if start >= free_from and end <= seconds - EDGE_SECONDS:
            discharges.append(discharge)
            free_from = end + PAUSE_SECONDS
    return discharges


def draw_periodic(periodic: Periodic, n_epochs: int, seconds: float, rng: Generator) -> list[Discharge]:
    """A patient's periodic discharges one by one, in order; runs come in every stage (`n_epochs` of them) alike."""
    found: list[Discharge] = []
    free_from = EDGE_SECONDS
    for onset in draw_onsets({"": periodic.runs_per_minute}, ("",) * n_epochs, seconds, rng).tolist():
        low, high = np.log(ieds.PERIODIC_RUN_SECONDS)
        hz = periodic.hz * rng.uniform(0.93, 1.07, size=len(periodic.foci))
        length = max(float(np.exp(rng.triangular(low, low, high))), 6 / float(hz.min()))
        end = min(onset + length, seconds - EDGE_SECONDS - 1)
        if onset < free_from or end < onset + 6 / hz.min():
            continue
        free_from = end + PAUSE_SECONDS
        for i, focus in enumerate(periodic.foci):
            start = onset + rng.uniform() / hz[i]
            while start < end:
                interval = float(np.exp(ieds.PERIODIC_JITTER * rng.standard_normal()) / hz[i])
                complex_ = _draw_complex(
                    periodic.shape, periodic.kind, interval, rng, after_wave=focus.after_wave, most_spikes=3
                )
                snr = periodic.snr * float(np.exp(ieds.PERIODIC_SNR_SIGMA * rng.standard_normal()))
                found.append(Discharge(periodic.kind, i, "", (start,), (complex_,), max(snr, ieds.LOWEST_SNR)))
                start += interval
    return sorted(found, key=lambda discharge: discharge.starts)


def _draw_discharge(ied: IedProfile, start: float, stage: str, rng: Generator) -> Discharge:
    generalized = ied.region == "generalized"
    kind = choose(ied.kinds, rng)
    focus = int(rng.choice(len(ied.foci), p=[focus.share for focus in ied.foci]))
    n_complexes = 1
    if generalized:
        n_complexes = round(ieds.RUN_COMPLEXES[stage].draw(rng))
    elif rng.uniform() < ieds.FOCAL_RUN_SHARE:
        n_complexes = round(ieds.FOCAL_RUN_COMPLEXES.draw(rng))
    bounds = ieds.RUN_HZ if generalized else ieds.FOCAL_RUN_HZ
    hz = float(np.clip(ied.run_hz * rng.uniform(0.93, 1.07), *bounds))
    slowing = ieds.RUN_SLOWING.draw(rng)
    # The rate falls in proportion through the run.
    intervals = [1 / (hz * (1 - slowing * i / n_complexes)) for i in range(n_complexes)]
    starts = start + np.cumsum([0.0, *intervals[:-1]])
    complexes = []
    for interval in intervals:
        poly = generalized and rng.uniform() < ieds.RUN_POLYSPIKE_SHARE
        room = interval if n_complexes > 1 else None
        complexes.append(
            _draw_complex(ied.shape, "polyspike" if poly else kind, room, rng, after_wave=ied.foci[focus].after_wave)
        )
    snr = max(ied.snr * float(np.exp(ieds.SNR_SIGMA_EVENT * rng.standard_normal())), ieds.LOWEST_SNR)
    return Discharge(kind, focus, stage, tuple(starts.tolist()), tuple(complexes), snr)


def _draw_complex(
    shape: Shape, kind: str, room: float | None, rng: Generator, *, after_wave: bool, most_spikes: int = 2
) -> Complex:
    """A complex of a kind; within a run it has `room` seconds until the next, and `most_spikes` if a polyspike."""
    sharp = shape.sharp_seconds[kind] * rng.uniform(0.93, 1.03)
    rise = sharp * shape.rise_share
    shoulder = ieds.SHOULDER_SECONDS.low if room else ieds.SHOULDER_SECONDS.draw(rng)
    n_spikes, hz = 1, shape.polyspike_hz * rng.uniform(0.96, 1.04)
    wave_gain = shape.after_wave_gain[kind] * rng.uniform(0.85, 1.15)
    if kind == "polyspike":
        n_spikes = int(rng.integers(*ieds.POLYSPIKE_COUNT, endpoint=True))
        wave_gain *= rng.uniform() < ieds.POLYSPIKE_WAVE_SHARE
        if room:
            n_spikes, hz = min(n_spikes, most_spikes), max(hz, ieds.RUN_POLYSPIKE_HZ)
            wave_gain = shape.after_wave_gain[kind]
    wave_gain *= after_wave or kind == "spike-and-wave"
    wave = shape.after_wave_seconds * rng.uniform(0.93, 1.07)
    peaks = np.arange(n_spikes) / hz
    if room:
        wave = min(wave, max(room - peaks[-1] - (sharp - rise) / 2 - 0.8 * shoulder - rise, 0.05))
    heights = np.concatenate([[1.0], rng.uniform(0.6, 1.0, size=n_spikes - 1)])
    return Complex(
        peaks=tuple(peaks.tolist()),
        heights=tuple(heights.tolist()),
        rise=rise,
        fall=sharp - rise,
        before_gain=shape.before_gain[kind] * rng.uniform(0.75, 1.25),
        shoulder_gain=shape.shoulder_gain,
        shoulder=shoulder,
        wave_seconds=wave,
        wave_gain=float(wave_gain),
    )
