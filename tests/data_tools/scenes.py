"""A patient and a silent stretch of EEG, to which tests add what they measure."""

import numpy as np

from data_tools.background import Scene
from data_tools.patients import draw_profile
from siamese_jax.vocabulary import TEN_TWENTY

SFREQ = 256.0


def profile(region=None, seed=1):
    return draw_profile("SIM0001", region=region, seed=seed)


def silent_scene(stage, *, minutes, patient=None, level=0.0):
    """Nothing but `level` microvolts in one stage: what is added to it is the event alone."""
    n_epochs = round(2 * minutes)
    signals = np.full((19, round(n_epochs * 30 * SFREQ)), level, np.float32)
    return Scene(signals, SFREQ, TEN_TWENTY, (stage,) * n_epochs, patient or profile())
