"""The shapes of EEG events: functions of time in seconds, the surface-negative side downwards.

Every transient has the signature `shape(t, frequency_hz, duration_seconds, rng)`, with `t` running over the
event from 0 to its duration, and starts and ends at 0: no step gives it away. Its size is the caller's. Keys such
as 7.2 are those of `physiology`; shares and widths that name no source are INFERENCE.
"""

import numpy as np
from jaxtyping import Float
from numpy.random import Generator

Times = Float[np.ndarray, "*shape"]

# --- epileptiform -------------------------------------------------------------------------------------------


def spike(t: Times, *, rise: float, fall: float) -> Times:
    """A pointed negative wave with its peak at t = 0: rises within `rise`, falls within `fall` seconds (7.1).

    exp(-2 |t / rise|^1.5) before the peak, with `fall` after it: at -rise and fall an eighth is left, so the
    sharp part lasts rise + fall. The power, between a Gaussian's 2 and a cusp's 1, makes it pointed.
    """
    return -np.exp(-2 * np.abs(t / np.where(t < 0, rise, fall)) ** 1.5)


def after_wave(t: Times, *, seconds: float) -> Times:
    """A negative slow wave from t = 0 to `seconds`: half a sine, a little steeper at first (7.1 recipe)."""
    return -half_sine(np.clip(t / seconds, 0.0, 1.0) ** 0.85)


def half_sine(phase: Times) -> Times:
    """sin(pi * phase) for 0 <= phase <= 1, else 0."""
    return np.sin(np.pi * np.clip(phase, 0.0, 1.0))


# --- sleep --------------------------------------------------------------------------------------------------


def spindle(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A fusiform train at `frequency_hz` that slows down a little, with its crest about the middle.

    The drift is -0.4 +- 0.8 Hz/s: median over the experts' marks of DREAMS subjects 2 and 4 (FACT, measured); the
    scatter found there (about 1.5) holds the background's too, so half of it is ours.
    """
    crest, drift = rng.uniform(0.38, 0.62), -0.4 + 0.8 * rng.standard_normal()
    about = t - crest * duration_seconds
    phase = 2 * np.pi * (frequency_hz * about + drift * about**2 / 2) + rng.uniform(0, 2 * np.pi)
    return np.cos(phase) * half_sine(_bent(t / duration_seconds, crest)) ** 1.3


def k_complex(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A sharp negative wave in the first third, then a slower positive one (7.2)."""
    u = t / duration_seconds
    sharp = _bell(u, centre=rng.uniform(0.25, 0.31), width=rng.uniform(0.05, 0.08))
    slow = _bell(u, centre=rng.uniform(0.56, 0.66), width=rng.uniform(0.11, 0.15))
    before = rng.uniform(0.0, 0.2) * _bell(u, centre=0.13, width=0.04)
    return _taper(u) * (-sharp + rng.uniform(0.4, 0.8) * slow + before)


def vertex_wave(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A sharp negative wave between two small positive ones; looks like a spike, lies at the vertex."""
    u = t / duration_seconds
    sharp = _bell(u, centre=0.45, width=rng.uniform(0.09, 0.12))
    before = _bell(u, centre=0.2, width=0.08)
    after = _bell(u, centre=0.75, width=0.11)
    return _taper(u) * (-sharp + rng.uniform(0.05, 0.3) * before + rng.uniform(0.15, 0.4) * after)


def posts(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """Positive occipital sharp transients of sleep: positive triangles with a slower fall, each of its own size."""
    cycle = (t * frequency_hz) % 1.0
    peak, end = 0.25, 0.6
    triangle = np.minimum(cycle / peak, np.clip((end - cycle) / (end - peak), 0.0, 1.0))
    return triangle * _each_cycle(t, frequency_hz, duration_seconds, rng, 0.6) * _taper(t / duration_seconds)


def sawtooth(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A train of triangles, slower up than down (REM sleep)."""
    cycle = (t * frequency_hz + rng.uniform()) % 1.0
    triangle = np.where(cycle < 0.7, cycle / 0.7, (1.0 - cycle) / 0.3) * 2 - 1
    return triangle * half_sine(t / duration_seconds)


def hypersynchrony(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """High rhythmic waves of a drowsy child, swelling; small sharp notches between some (7.2)."""
    wander = 0.15 * np.sin(2 * np.pi * rng.uniform(0.2, 0.5) * t + rng.uniform(0, 2 * np.pi))
    cycle = (frequency_hz * t + wander) % 1.0
    notch = rng.choice((0.0, 0.25)) * _bell(cycle, centre=0.1, width=0.04)
    return (np.cos(2 * np.pi * cycle) - notch) * half_sine(t / duration_seconds) ** 0.7


def slow_wave(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """One rounded negative wave, which a smaller positive one follows (posterior slow waves of youth)."""
    u = t / duration_seconds
    return rng.uniform(0.2, 0.4) * half_sine((u - 0.68) / 0.32) ** 2 - half_sine(u / 0.75) ** 2


def lambda_wave(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """One positive triangle, which falls a little more slowly than it rises (7.2: triangular, positive)."""
    u, peak = t / duration_seconds, rng.uniform(0.35, 0.5)
    return np.clip(np.minimum(u / peak, (1 - u) / (1 - peak)), 0.0, 1.0)


# --- normal variants that look like IEDs --------------------------------------------------------------------


def wicket(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """Arciform waves: pointed at the negative side, rounded at the positive side, no after-wave."""
    return _arcs(t, frequency_hz, rng) * half_sine(t / duration_seconds)


def small_sharp_spike(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A small spike of less than 50 ms, of one phase or two (7.2), without a slow wave."""
    centre = 0.42 * duration_seconds
    rebound = rng.choice((0.0, rng.uniform(0.3, 0.6)))
    main = spike(t - centre, rise=0.20 * duration_seconds, fall=0.22 * duration_seconds)
    second = spike(t - 1.6 * centre, rise=0.15 * duration_seconds, fall=0.2 * duration_seconds)
    return _taper(t / duration_seconds) * (main - rebound * second)


def fourteen_and_six(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A comb: arcs pointed at the positive side, at `frequency_hz`, at 6 / 14 of it, or both one after the other."""
    fast, slow = -_arcs(t, frequency_hz, rng), -_arcs(t, frequency_hz * 6 / 14, rng)
    share = rng.choice((0.0, 0.5, 0.5, 1.0))  # of the time at the higher frequency
    return np.where(t < share * duration_seconds, fast, slow) * half_sine(t / duration_seconds) ** 0.7


def phantom_spike_wave(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A 6-Hz burst of waves with a spike of less than 30 ms, a third as high, in front of each (7.2)."""
    seconds = (t * frequency_hz) % 1.0 / frequency_hz  # since the cycle began
    wave = after_wave(seconds - 0.035, seconds=1 / frequency_hz - 0.035)
    small = spike(seconds - 0.017, rise=0.011, fall=0.015)
    return (wave + rng.uniform(0.2, 0.33) * small) * half_sine(t / duration_seconds) ** 0.7


def notched_theta(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """Rhythmic mid-temporal theta: monomorphic, with a notch that the second harmonic makes (7.2)."""
    u = t / duration_seconds
    cycle = 2 * np.pi * frequency_hz * t + rng.uniform(0, 2 * np.pi)
    train = np.cos(cycle) - rng.uniform(0.3, 0.5) * np.cos(2 * cycle + rng.uniform(-0.5, 0.5))
    return train * half_sine(u) ** 0.5


def rhythmic_delta(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """Smooth waves of one form, a little steeper on one side, that swell and ebb; nothing lies between two of them."""
    wander = 0.1 * np.sin(2 * np.pi * rng.uniform(0.05, 0.2) * t + rng.uniform(0, 2 * np.pi))
    cycle = 2 * np.pi * (frequency_hz * t + wander)
    second = rng.uniform(0.0, 0.2) * np.sin(2 * cycle + rng.uniform(0, 2 * np.pi))
    swell = 1 + 0.25 * np.sin(2 * np.pi * rng.uniform(0.05, 0.3) * t)
    return (np.sin(cycle) + second) * swell * half_sine(t / duration_seconds) ** 0.5


def triphasic(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """Blunt complexes of a small negative, a large positive and a slow negative wave, one after the other.

    Without chance, so that the same train arrives later elsewhere.
    """
    wander = 0.05 * np.sin(2 * np.pi * t / duration_seconds * 3)
    cycle = (frequency_hz * t + wander) % 1.0
    small, large = _bell(cycle, centre=0.2, width=0.05), _bell(cycle, centre=0.4, width=0.085)
    slow = _bell(cycle, centre=0.68, width=0.11)
    return (large - 0.4 * small - 0.5 * slow) * half_sine(t / duration_seconds) ** 0.5


def contoured_wave(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A blunt wave, as steep up as down, mostly negative, with a small rebound; no slow after-wave."""
    u = t / duration_seconds
    rebound = rng.uniform(0.0, 0.4) * _bell(u, centre=0.75, width=0.1)
    return _taper(u) * rng.choice((-1.0, -1.0, -1.0, 1.0)) * (_bell(u, centre=0.45, width=0.11) - rebound)


# --- artefacts ----------------------------------------------------------------------------------------------


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


def sweat(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A slow sway about `frequency_hz`, never twice the same."""
    angle = rng.uniform(0, 2 * np.pi, size=3)
    sway = sum(np.sin(2 * np.pi * frequency_hz * k * t + a) / k for k, a in zip((1, 1.4, 2.1), angle, strict=True))
    return sway * half_sine(t / duration_seconds)


def muscle(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """A burst of noise around `frequency_hz`, an octave and a half wide."""
    return _noise(t, frequency_hz, 0.75, duration_seconds, rng) * half_sine(t / duration_seconds)


def chewing(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """Bursts of muscle noise, one or two a second."""
    bites = half_sine((t * rng.uniform(1.0, 2.0)) % 1.0 / 0.5) ** 2
    return bites * muscle(t, frequency_hz, duration_seconds, rng)


def movement(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator) -> Times:
    """Wild slow waves about `frequency_hz` with muscle noise on top."""
    slow = _noise(t, frequency_hz, 0.6, duration_seconds, rng)
    noise = _noise(t, 40.0, 0.75, duration_seconds, rng)
    return (slow / np.abs(slow).max() + rng.uniform(0.1, 0.4) * noise / np.abs(noise).max()) * half_sine(
        t / duration_seconds
    )


def heartbeat(t: Times) -> Times:
    """P, Q, R, S and T as Gaussians around the R peak at t = 0 (the waves of McSharry's model; RECALL)."""
    p, q, r = (
        0.12 * _bell(t, centre=-0.17, width=0.025),
        _bell(t, centre=-0.03, width=0.01),
        _bell(t, width=0.011),
    )
    s, end = _bell(t, centre=0.03, width=0.011), _bell(t, centre=0.26, width=0.05)
    return p - 0.12 * q + r - 0.22 * s + 0.28 * end


# --- parts --------------------------------------------------------------------------------------------------


def _bell(u: Times, *, centre: float = 0.0, width: float) -> Times:
    return np.exp(-0.5 * ((u - centre) / width) ** 2)


def _taper(u: Times) -> Times:
    """1 inside, falling to 0 over the first and last tenth."""
    return np.clip(np.minimum(u, 1.0 - u) / 0.1, 0.0, 1.0)


def _ramp(u: Times) -> Times:
    """0 until 0.8, then rising to 1 at the end."""
    return np.clip((u - 0.8) / 0.2, 0.0, 1.0)


def _bent(u: Times, crest: float) -> Times:
    """0..1 onto 0..1, with `crest` brought to the middle."""
    return np.where(u < crest, 0.5 * u / crest, 0.5 + 0.5 * (u - crest) / (1 - crest))


def _arcs(t: Times, frequency_hz: float, rng: Generator) -> Times:
    """|sin| turned down: cusps at -0.64 / 0.64, mean 0, rounded tops; the rate wanders by a twentieth."""
    wander = 0.05 * np.sin(2 * np.pi * rng.uniform(0.5, 1.5) * t + rng.uniform(0, 2 * np.pi))
    return (np.abs(np.sin(np.pi * (frequency_hz * t + wander))) - 0.64) / 0.64


def _each_cycle(t: Times, frequency_hz: float, duration_seconds: float, rng: Generator, lowest: float) -> Times:
    """A size for each cycle, from `lowest` to 1."""
    sizes = rng.uniform(lowest, 1.0, size=int(frequency_hz * duration_seconds) + 2)
    return sizes[np.clip((t * frequency_hz).astype(int), 0, len(sizes) - 1)]


def _noise(t: Times, frequency_hz: float, octaves: float, duration_seconds: float, rng: Generator) -> Times:
    """Gaussian noise, its spectrum a bell over the logarithm of frequency."""
    n = len(t)
    frequency = np.fft.rfftfreq(n, duration_seconds / n)
    away = np.log2(np.maximum(frequency, 1e-3) / frequency_hz)
    return np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * np.exp(-0.5 * (away / octaves) ** 2), n)
