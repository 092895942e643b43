"""Faults of electrodes and amplifiers, put into a recording in place; each is marked with the electrode that broke.

Kinds and sizes are those of real recordings (FACT, measured, where no other source stands); how often and how long is
INFERENCE. A fault of many electrodes hides what lies below it: it keeps away from discharges, whose labels would else
be wrong. One electrode's does not, for its neighbours still show them.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.random import Generator

from data_tools.simulator import waveforms
from data_tools.simulator.background import Scene
from data_tools.simulator.events import Event, Levels
from data_tools.simulator.onsets import draw_onsets
from data_tools.simulator.physiology import Range

PER_MINUTE = Range(0.0, 0.4)
"""Of each kind, from recording to recording."""
APART_SECONDS = 1.0
"""From a fault of many electrodes to a discharge."""

Times = Float[np.ndarray, "time"]


class Fault(NamedTuple):
    """A kind of fault."""

    text: str
    shape: Callable[[Times, float, float, Generator], Times]  # as in waveforms
    seconds: Range
    size_uv: Range  # largest value; drawn uniformly over the logarithm
    electrodes: Literal["one", "some", "all"] = "one"
    frequency_hz: tuple[float, ...] = (0.0,)  # one of them
    replaces: bool = False  # the signal, and is not added to it


def broad_noise(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """White noise of standard deviation 1/3: an electrode without contact picks up everything."""
    return rng.standard_normal(len(t)) / 3


def flat(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """Nothing."""
    return np.zeros(len(t))


def mains(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A sine, with some of its second harmonic."""
    phase = 2 * np.pi * frequency_hz * t + rng.uniform(0, 2 * np.pi)
    return (np.sin(phase) + rng.uniform(0.0, 0.4) * np.sin(2 * phase)) / 1.4


def glitch(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """One half-wave, at each electrode of its own size and sign."""
    return rng.uniform(-1, 1) * waveforms.half_sine(t / duration_seconds)


FAULTS = (
    Fault("Artefact electrode step", waveforms.electrode_pop, Range(2, 20), Range(200, 2000)),
    Fault("Artefact electrode noise", broad_noise, Range(3, 60), Range(150, 1200)),  # 50-400 uV rms
    Fault("Artefact electrode flat", flat, Range(3, 60), Range(1, 1), replaces=True),
    Fault("Artefact electrode mains", mains, Range(3, 60), Range(30, 300), frequency_hz=(50.0, 60.0)),
    Fault("Artefact glitch", glitch, Range(0.05, 0.05), Range(100, 1000), "all"),
    Fault("Artefact electrode contact lost", waveforms.movement, Range(2, 15), Range(1000, 5000), "some",
          frequency_hz=(0.5, 1.0)),
)  # fmt: skip


def add_faults(scene: Scene, levels: Levels, events: Sequence[Event], rng: Generator) -> list[Event]:
    """Break electrodes of a recording that holds `events`; one row for each electrode, or one without if it is all."""
    added: list[Event] = []
    for fault in FAULTS:
        per_minute = dict.fromkeys(scene.hypnogram, PER_MINUTE.draw(rng))
        for onset in draw_onsets(per_minute, scene.hypnogram, scene.seconds, rng).tolist():
            added += _add_fault(scene, fault, onset, levels, events, rng)
    return sorted(added, key=lambda event: event.onset_seconds)


def _add_fault(
    scene: Scene, fault: Fault, onset: float, levels: Levels, events: Sequence[Event], rng: Generator
) -> list[Event]:
    low, high = fault.seconds
    duration = min(float(np.exp(rng.uniform(np.log(low), np.log(high)))), scene.seconds - onset)
    n = len(scene.ch_names)
    n_broken = {"one": 1, "some": int(rng.integers(1, n + 1)), "all": n}[fault.electrodes]
    if n_broken > 1 and _near_discharge(onset, duration, events):
        return []
    start, stop = round(onset * scene.sfreq), round((onset + duration) * scene.sfreq)
    if stop - start < 2:
        return []
    t = np.arange(stop - start) / scene.sfreq
    hz = float(rng.choice(fault.frequency_hz))
    size = float(np.exp(rng.uniform(*np.log(fault.size_uv))))
    broken = sorted(rng.permutation(n)[:n_broken].tolist())
    for i in broken:
        piece = scene.signals[i, start:stop]
        wave = fault.shape(t, hz, duration, rng)
        if fault.electrodes == "some":
            wave = wave * rng.uniform(0.3, 1.0) / np.abs(wave).max()
        piece[:] = piece[0] if fault.replaces else piece + size * wave
    if n_broken == n:
        return [_row(fault.text, scene, levels, onset, duration, "", size)]
    return [_row(fault.text, scene, levels, onset, duration, scene.ch_names[i], size) for i in broken]


def _near_discharge(onset: float, duration: float, events: Sequence[Event]) -> bool:
    return any(
        event.family == "ied"
        and event.onset_seconds - APART_SECONDS < onset + duration
        and onset < event.onset_seconds + event.duration_seconds + APART_SECONDS
        for event in events
    )


def _row(text: str, scene: Scene, levels: Levels, onset: float, duration: float, channel: str, size: float) -> Event:
    snr = levels.snr(size, onset + duration / 2, channel or scene.ch_names[0])
    return Event(text, "artefact", onset, duration, channel, size, snr, scene.stage(onset))
