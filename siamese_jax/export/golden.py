"""Inputs that exported programs are verified with: EEG by simple formulas, with discharges, rhythms, absent electrodes.

Not a simulator: as much likeness as a trained model needs to give probabilities all the way from 0 to 1.
"""

import numpy as np
from jaxtyping import Float64

from siamese_jax.config.experiment import Config

WINDOWS = 8
DISCHARGE_UV = 200.0
"""Largest amplitude; windows have from none of it to all."""
HEAD = (
    ".   Fp1 .   Fp2 .",
    "F7  F3  Fz  F4  F8",
    "T3  C3  Cz  C4  T4",
    "T5  P3  Pz  P4  T6",
    ".   O1  .   O2  .",
)
PLACES = {name: (row, col) for row, line in enumerate(HEAD) for col, name in enumerate(line.split()) if name != "."}
"""Row and column of each scalp electrode, one apart."""
RHYTHMS = ((10.0, 20.0, (4, 2)), (13.0, 15.0, (2, 2)), (1.0, 60.0, (0, 2)), (6.0, 10.0, (3, 2)))
"""Alpha, a spindle, slow waves, theta: Hz, microvolts, and the place where the rhythm is largest."""


def golden_inputs(config: Config) -> dict[str, np.ndarray]:
    """`eeg` and `present` of `WINDOWS` windows with margins, the same each time.

    In every window: noise that falls as 1/f, mains, offsets of up to 300 uV and one rhythm. In all but the first: four
    discharges (spike, shoulder, slow wave), each smaller than the one before, about one electrode, another in each
    window. Channels that are not on the scalp have beats of up to 1 mV. In all windows but the first some other
    electrodes are absent, and hold NaN.
    """
    rng = np.random.default_rng(0)
    ch_names, n_times = config.data.ch_names, config.n_times + 2 * config.margin
    seconds = (np.arange(n_times) - config.margin) / config.data.sfreq
    of_channel = (WINDOWS, 1, len(ch_names))
    walk = np.cumsum(rng.normal(size=(WINDOWS, n_times, len(ch_names))), axis=1)
    eeg = 10 * (walk - walk.mean(1, keepdims=True)) / walk.std(1, keepdims=True) + rng.normal(0, 1, walk.shape)
    eeg += 5 * np.sin(2 * np.pi * 50 * seconds[None, :, None] + rng.uniform(0, 2 * np.pi, of_channel))
    eeg += rng.uniform(-300, 300, of_channel)
    scalp = [name for name in ch_names if name in PLACES]
    body = np.array([name not in PLACES for name in ch_names]) * rng.uniform(-1, 1, len(ch_names))
    present = np.ones((WINDOWS, len(ch_names)), bool)
    for window, share in enumerate(np.linspace(0, 1, WINDOWS)):
        hz, uv, place = RHYTHMS[window % len(RHYTHMS)]
        eeg[window] += uv * np.outer(np.sin(2 * np.pi * hz * seconds), _field(ch_names, place, width=2.0))
        beats = sum(_pulse(seconds - beat, rise=0.02, fall=0.03) for beat in np.arange(-9, 99) * (0.6 + 0.1 * window))
        eeg[window] += 1000 * (0.2 + share) * np.outer(beats, body)
        focus = scalp[window * (len(scalp) - 1) // (WINDOWS - 1)] if scalp else ""
        if focus:
            discharges = sum(
                (1 - 0.2 * k) * _discharge(seconds - config.data.window_seconds * (2 * k + 1) / 8) for k in range(4)
            )
            eeg[window] += DISCHARGE_UV * share * np.outer(discharges, _field(ch_names, PLACES[focus], width=1.0))
        others = [i for i in rng.permutation(len(ch_names)) if ch_names[i] != focus]
        present[window, others[: len(ch_names) * window // (WINDOWS + 2)]] = False
    return {"eeg": np.where(present[:, None], eeg, np.nan).astype(np.float32), "present": present}


def _field(ch_names: tuple[str, ...], place: tuple[int, int], *, width: float) -> Float64[np.ndarray, "chan"]:
    """How much of a source at a place each channel sees: 1 there, less with the distance, nothing off the scalp."""
    apart = np.array([np.subtract(PLACES.get(name, (99, 99)), place) for name in ch_names])
    return np.exp(-(apart**2).sum(1) / (2 * width**2))


def _discharge(after: Float64[np.ndarray, "time"]) -> Float64[np.ndarray, "time"]:
    """A spike at 0 s, its positive shoulder and its slow wave; surface-negative."""
    shoulder, wave = _pulse(after - 0.06, rise=0.03, fall=0.04), _pulse(after - 0.18, rise=0.1, fall=0.13)
    return -_pulse(after, rise=0.02, fall=0.035) + 0.3 * shoulder - 0.7 * wave


def _pulse(after: Float64[np.ndarray, "time"], *, rise: float, fall: float) -> Float64[np.ndarray, "time"]:
    """From 0 to 1 and back, each half a period of a cosine, in so many seconds before and after 0."""
    turns = np.clip(after / np.where(after < 0, rise, fall), -1, 1)
    return 0.5 + 0.5 * np.cos(np.pi * turns)
