"""A patient and a silent stretch of EEG, to which tests add what they measure."""

import numpy as np

from data_tools.simulator.background import Scene
from data_tools.simulator.hypnogram import Night
from data_tools.simulator.patients import draw_profile
from data_tools.simulator.transients import TRANSIENTS, Traits
from siamese_jax.vocabulary import STAGES, TEN_TWENTY

SFREQ = 256.0


def profile(region=None, seed=1):
    return draw_profile("SIM0001", region=region, seed=seed)


def silent_scene(stage, *, minutes, patient=None, level=0.0):
    """Nothing but `level` microvolts in one stage: what is added to it is the event alone."""
    n_epochs = round(2 * minutes)
    signals = np.full((19, round(n_epochs * 30 * SFREQ)), level, np.float32)
    return Scene(signals, SFREQ, TEN_TWENTY, (stage,) * n_epochs, patient or profile())


def night_of(hypnogram):
    """A night that is what it was scored as, second for second."""
    codes = np.repeat([STAGES.index(stage) for stage in hypnogram], 30)
    return Night(tuple(hypnogram), np.eye(len(STAGES))[codes])


def traits(kind, per_minute):
    """That of a patient with middling events of a kind of transient."""
    return Traits(per_minute, size=0.0, frequency_hz=kind.frequency_hz.at(0.5), site=0)


def named(text):
    """The kinds of transient with that text."""
    return [kind for kind in TRANSIENTS if kind.text == text]
