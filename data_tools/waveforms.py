"""The shapes of EEG events: functions of time in seconds, the surface-negative side downwards.

Every transient has the signature `shape(t, frequency_hz, duration_seconds, rng)`, with `t` running over the
event from 0 to its duration, and starts and ends at 0: no step gives it away. Its size is the caller's.
"""

import numpy as np
from jaxtyping import Float
from numpy.random import Generator

Times = Float[np.ndarray, "*shape"]


def epileptiform(
    t: Times, *, rise: float, fall: float, shoulder: float, wave: float, wave_gain: float
) -> Float[np.ndarray, "*shape"]:
    """An interictal epileptiform discharge around its negative peak at t = 0 (key 7.1 in `physiology`).

    `-asym_gauss(rise, fall) + 0.3 positive shoulder - wave_gain * half-sine after-wave`. A Gaussian half
    falls to exp(-2) at `rise` or `fall`, so the sharp part lasts `rise + fall`. All times in seconds.
    """
    sigma = np.where(t < 0, rise, fall) / 2
    spike = np.exp(-0.5 * (t / sigma) ** 2)
    bump = half_sine((t - fall / 2) / shoulder)
    after = half_sine((t - fall / 2 - 0.8 * shoulder) / wave)
    return -spike + 0.3 * bump - wave_gain * after


def half_sine(phase: Times) -> Float[np.ndarray, "*shape"]:
    """sin(pi * phase) for 0 <= phase <= 1, else 0."""
    return np.sin(np.pi * np.clip(phase, 0.0, 1.0))


def spindle(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A fusiform train (Hann envelope) at `frequency_hz`."""
    phase = rng.uniform(0, 2 * np.pi)
    return np.cos(2 * np.pi * frequency_hz * t + phase) * half_sine(t / duration_seconds) ** 2


def k_complex(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A sharp negative wave in the first third, then a slower positive one (key 7.2 in `physiology`)."""
    u = t / duration_seconds
    sharp = _bell(u, centre=0.28, width=rng.uniform(0.05, 0.08))
    slow = _bell(u, centre=0.62, width=0.14)
    return _taper(u) * (-sharp + rng.uniform(0.4, 0.8) * slow)


def vertex_wave(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A sharp negative wave between two small positive ones; looks like a spike, lies at the vertex."""
    u = t / duration_seconds
    sharp = _bell(u, centre=0.45, width=0.11)
    before = _bell(u, centre=0.2, width=0.08)
    after = _bell(u, centre=0.75, width=0.11)
    return _taper(u) * (-sharp + rng.uniform(0.1, 0.3) * before + rng.uniform(0.2, 0.4) * after)


def posts(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """Positive occipital sharp transients of sleep: a train of positive triangles with a slower fall."""
    cycle = (t * frequency_hz) % 1.0
    peak, end = 0.25, 0.6
    triangle = np.minimum(cycle / peak, np.clip((end - cycle) / (end - peak), 0.0, 1.0))
    return triangle * _taper(t / duration_seconds)


def wicket(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """Arciform waves: pointed at the negative side, rounded at the positive side, no after-wave."""
    arcs = np.abs(np.sin(np.pi * frequency_hz * t)) - 1.0
    return (arcs + 0.36) / 0.64 * half_sine(t / duration_seconds)


def sharp_transient(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A pointed wave, as steep up as down, mostly negative, with a small rebound; no slow after-wave."""
    u = t / duration_seconds
    rebound = rng.uniform(0.0, 0.4) * _bell(u, centre=0.75, width=0.1)
    return _taper(u) * rng.choice((-1.0, -1.0, -1.0, 1.0)) * (_bell(u, centre=0.45, width=0.11) - rebound)


def sawtooth(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A train of triangles, slower up than down (REM sleep)."""
    cycle = (t * frequency_hz + rng.uniform()) % 1.0
    triangle = np.where(cycle < 0.7, cycle / 0.7, (1.0 - cycle) / 0.3) * 2 - 1
    return triangle * half_sine(t / duration_seconds)


def blink(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A positive deflection at the frontal poles, closing faster than opening."""
    u = t / duration_seconds
    return _taper(u) * np.where(u < 0.4, _bell(u, centre=0.4, width=0.13), _bell(u, centre=0.4, width=0.18))


def slow_eye_movement(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A pendular movement at `frequency_hz`, to either side first."""
    sign = rng.choice((-1.0, 1.0))
    return sign * np.sin(2 * np.pi * frequency_hz * t) * half_sine(t / duration_seconds)


def rapid_eye_movement(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A saccade: up in about 50 ms, then held and drifting back (the amplifier's high-pass)."""
    u = t / duration_seconds
    rise = 0.5 * (1 + np.tanh((t - 0.06) / 0.02))
    return rng.choice((-1.0, 1.0)) * rise * np.exp(-1.5 * u) * (1 - _ramp(u))


def electrode_pop(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A step at one electrode that discharges exponentially."""
    u = t / duration_seconds
    return rng.choice((-1.0, 1.0)) * np.minimum(t / 0.01, 1.0) * np.exp(-5 * u) * (1 - _ramp(u))


def muscle(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A burst of noise around `frequency_hz`, an octave and a half wide."""
    n = len(t)
    frequency = np.fft.rfftfreq(n, duration_seconds / n)
    octaves = np.log2(np.maximum(frequency, 1e-3) / frequency_hz)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * np.exp(-0.5 * (octaves / 0.75) ** 2), n)
    return noise * half_sine(t / duration_seconds)


def heartbeat(t: Times) -> Times:
    """P, Q, R, S and T as Gaussians around the R peak at t = 0 (the waves of McSharry's model; RECALL)."""
    p, q, r = (
        0.12 * _bell(t, centre=-0.17, width=0.025),
        _bell(t, centre=-0.03, width=0.01),
        _bell(t, width=0.011),
    )
    s, end = _bell(t, centre=0.03, width=0.011), _bell(t, centre=0.26, width=0.05)
    return p - 0.12 * q + r - 0.22 * s + 0.28 * end


def _bell(u: Times, *, centre: float = 0.0, width: float) -> Times:
    return np.exp(-0.5 * ((u - centre) / width) ** 2)


def _taper(u: Times) -> Times:
    """1 inside, falling to 0 over the first and last tenth."""
    return np.clip(np.minimum(u, 1.0 - u) / 0.1, 0.0, 1.0)


def _ramp(u: Times) -> Times:
    """0 until 0.8, then rising to 1 at the end."""
    return np.clip((u - 0.8) / 0.2, 0.0, 1.0)
