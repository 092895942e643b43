"""Are simulated events as large, long and fast as the literature says? Measured in the signal, kind by kind.

The ranges are those of the keys 7.1 (discharges) and 7.2 (mimics and normal variants) of
data_tools.simulator.physiology. What is only remembered there (RECALL), so it is here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer
from scipy import signal

from experiments.simulator.measures import measure_burst, measure_wave

AT_LEAST = math.inf
MOST = 0.8
"""So many of a kind's events inside the range make a `yes`; the median alone inside makes a `mostly`."""
MOST_EVENTS = 400
"""No more of a kind are measured, spread evenly over the list."""


@dataclass(frozen=True)
class Expected:
    """What the literature says of a kind of event; None: nothing."""

    kind: str
    """Beginning of the annotation, in any case."""
    amplitude_uv: tuple[float, float] | None = None
    seconds: tuple[float, float] | None = None
    """Of the whole event."""
    wave_seconds: tuple[float, float] | None = None
    """Of its sharpest wave."""
    hz: tuple[float, float] | None = None
    sign: int = 0
    """-1: electronegative at its electrode; 1: positive; 0: either, or a rhythm."""
    highest_hz: float | None = None
    """Low-pass before the wave is measured, for slow waves: faster background would cut them short."""
    source: str = "7.2"
    rides: bool = False
    """On larger waves: its amplitude is that of its own band."""


EXPECTED = (
    Expected("IED repetitive", (50, 400), None, (0.02, 0.2), None, -1, source="ACNS 2021"),
    Expected("IED spike-and-wave", (50, 400), None, (0.02, 0.07), None, -1, source="7.1; amplitude R"),
    Expected("IED spike", (50, 400), None, (0.02, 0.07), None, -1, source="7.1; amplitude R"),
    Expected("IED sharp", (50, 400), None, (0.07, 0.2), None, -1, source="7.1; amplitude R"),
    Expected("IED polyspike", (50, 400), None, (0.02, 0.07), (10, 25), -1, source="7.1; amplitude and Hz R"),
    Expected("Spindle", (20, 50), (0.5, 2), None, (11, 16), source="7.2; amplitude R", rides=True),
    Expected("K-complex", (100, AT_LEAST), (0.5, 2), None, None, -1, 30.0),
    Expected("Vertex", (50, 250), (0, 0.5), (0, 0.2), None, -1, 30.0, "7.2; wave R"),
    Expected("POSTS", (30, 50), None, None, (1, 6), 1, 30.0),
    Expected("Wicket", (60, 200), None, None, (6, 11)),
    Expected("Small sharp", (0, 50), None, (0, 0.05)),
    Expected("14", (20, 60), (0, 2), None, (5, 15), 1),
    Expected("6", (50, 100), (1, 2), (0, 0.03), source="7.2; amplitude of the wave"),
    Expected("Phantom", (50, 100), (1, 2), (0, 0.03), source="7.2; amplitude of the wave"),
    Expected("RMTD", (50, 200), (2, 120), None, (4, 7), 0, 30.0, "7.2; amplitude R, `several s to minutes`"),
    Expected("Rhythmic delta", (20, AT_LEAST), (3, 120), None, (1, 4), 0, 30.0, "ACNS 2021"),
    Expected("Triphasic", None, None, None, (1.5, 2.5), 0, 30.0, "ACNS 2021; Hz R"),
    Expected("Rhythmic", (50, 200), (2, 120), None, (4, 7), 0, 30.0, "7.2; amplitude R, `several s to minutes`"),
    Expected("Hypnagogic", (75, 350), None, None, (3, 5), 0, 30.0),
    Expected("Sawtooth", (20, 100), None, None, (2, 6), 0, 30.0, "7.2; amplitude R"),
    Expected("Lambda", (20, 50), (0.16, 0.25), None, None, 1, 30.0, "7.2; R"),
    Expected("Posterior slow", None, (0.25, 0.4), None, None, 0, 30.0),
)
"""The first that fits counts."""


class Summary(NamedTuple):
    """One quantity of one kind."""

    low: float
    """10th percentile."""
    median: float
    high: float
    """90th percentile."""
    inside: float | None
    """Share of events in the range; None without one."""
    verdict: str
    """yes, mostly, no; `no range`."""


def expected(kind: str) -> Expected | None:
    """What is known of a kind, or None."""
    return next((e for e in EXPECTED if kind.casefold().startswith(e.kind.casefold())), None)


def summarise(values: Sequence[float], allowed: tuple[float, float] | None) -> Summary:
    """Percentiles of a quantity, and how it fits the range.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("nothing to summarise")
    low, median, high = np.percentile(values, (10, 50, 90)).tolist()
    if allowed is None:
        return Summary(low, median, high, None, "no range")
    inside = float(np.mean([allowed[0] <= v <= allowed[1] for v in values]))
    fits = "yes" if inside >= MOST else "mostly" if allowed[0] <= median <= allowed[1] else "no"
    return Summary(low, median, high, inside, fits)


class Placed(NamedTuple):
    """An event of the side table at its place."""

    kind: str
    onset: float
    seconds: float
    channel: str
    amplitude_uv: float
    stage: str


def placed(row: Mapping[str, str]) -> Placed:
    """A row of events.csv."""
    numbers = (float(row["onset_seconds"]), float(row["duration_seconds"]))
    return Placed(row["kind"], *numbers, row["channel"], abs(float(row["amplitude_uv"])), row["stage"])


def spread(events: Sequence[Placed], most: int = MOST_EVENTS) -> list[Placed]:
    """At most so many of the events, evenly spread over the list."""
    if len(events) <= most:
        return list(events)
    return [events[i] for i in np.linspace(0, len(events) - 1, most).astype(int)]


def measure(
    eeg_uv: Float[np.ndarray, "time chan"], sfreq: float, ch_names: Sequence[str], events: Sequence[Placed]
) -> dict[str, list[float]]:
    """Amplitude, length of the sharpest wave and frequency (what is defined for the kind) of events in the signal.

    Events are of one kind. An event at no single EEG channel, or at the edge, is not measured.
    """
    about = expected(events[0].kind) or Expected(events[0].kind)
    found: dict[str, list[float]] = {"amplitude_uv": [], "wave_seconds": [], "hz": []}
    for event in events:
        if event.channel not in ch_names:
            continue
        channel = eeg_uv[:, ch_names.index(event.channel)]
        wave = measure_wave(channel, sfreq, event.onset, event.seconds, sign=about.sign, highest_hz=about.highest_hz)
        if wave is None:
            continue
        burst = None
        if about.hz is not None and event.seconds * about.hz[0] >= 2:  # two periods at least
            burst = measure_burst(channel, sfreq, event.onset, event.seconds, band=_wider(about.hz))
        found["amplitude_uv"].append(burst.amplitude_uv if burst and about.rides else abs(wave.amplitude_uv))
        found["wave_seconds"].append(wave.seconds)
        if burst is not None:
            found["hz"].append(burst.peak_hz)
    return found


def elsewhere(
    events: Sequence[Placed],
    taken: Sequence[Placed],
    stages: Integer[np.ndarray, "second"],
    stage_names: Sequence[str],
    rng: np.random.Generator,
) -> list[Placed]:
    """For each event a place of the same stage and length where nothing is annotated: what background alone measures.

    An event is left out if twenty draws find no such place.
    """
    busy = np.zeros(len(stages) + 1, bool)
    for other in taken:
        busy[max(int(other.onset) - 1, 0) : math.ceil(other.onset + other.seconds) + 1] = True
    found = []
    for event in events:
        length = math.ceil(event.seconds) + 1
        free = np.flatnonzero(stages == stage_names.index(event.stage))
        for second in rng.choice(free, 20) if len(free) else ():
            if second + length < len(stages) and not busy[second : second + length].any():
                found.append(event._replace(onset=float(second)))
                break
    return found


class Discharge(NamedTuple):
    """A patient's mean discharge, aligned at its peak."""

    rise_seconds: float
    """From a tenth of the height to the peak."""
    fall_seconds: float
    after_wave_gain: float
    """Largest value of the same sign, 0.1 to 0.5 s after the peak, over the peak."""


def mean_discharge(channel: Float[np.ndarray, "time"], sfreq: float, peaks: Sequence[float]) -> Discharge | None:
    """Average the signal around peaks (seconds, refined here by up to 30 ms); None with fewer than ten of them.

    Averaging leaves what the discharges share: the background falls by the root of their number.
    """
    around = round(1.0 * sfreq)
    pieces = []
    for peak in peaks:
        centre = round(peak * sfreq)
        slack = round(0.03 * sfreq)
        if centre - around - slack < 0 or centre + around + slack >= len(channel):
            continue
        centre += int(np.argmin(channel[centre - slack : centre + slack + 1])) - slack
        pieces.append(channel[centre - around : centre + around + 1])
    if len(pieces) < 10:
        return None
    up = 4
    mean = signal.resample_poly(np.mean(pieces, axis=0, dtype=np.float64), up, 1)
    rate = sfreq * up
    mean = -(mean - np.median(mean[: round(0.8 * rate)]))
    peak = around * up - up + int(mean[around * up - up : around * up + up + 1].argmax())
    low = mean < 0.1 * mean[peak]
    rise, fall = int(low[:peak][::-1].argmax()), int(low[peak:].argmax())
    after = mean[peak + round(0.1 * rate) : peak + round(0.5 * rate)]
    return Discharge(rise / rate, fall / rate, float(after.max() / mean[peak]))


def windows_with(
    discharges: Sequence[Placed], stages: Integer[np.ndarray, "second"], *, seconds: int = 4
) -> Integer[np.ndarray, "state 2"]:
    """Windows, and windows that a discharge begins in, awake (first row) and asleep; mixed windows count as neither."""
    whole = stages[: len(stages) // seconds * seconds].reshape(-1, seconds)
    hit = np.zeros(len(whole), bool)
    for event in discharges:
        if event.onset / seconds < len(whole):
            hit[int(event.onset / seconds)] = True
    awake, asleep = (whole == 0).all(1), (whole > 0).all(1)
    return np.array([[state.sum(), (state & hit).sum()] for state in (awake, asleep)])


def table(measured: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """Summaries by kind and quantity.

    Args:
        measured: by kind the lists `put_in_uv`, `amplitude_uv`, `background_uv`, `seconds`, `wave_seconds`, `hz`.
    """
    rows = {}
    for kind, found in sorted(measured.items()):
        about = expected(kind) or Expected(kind, source="no published range")
        row: dict[str, Any] = {"n": len(found["seconds"]), "source": about.source}
        for name in ("put_in_uv", "amplitude_uv", "seconds", "wave_seconds", "hz"):
            allowed = about.amplitude_uv if name == "put_in_uv" else getattr(about, name)
            if name == "wave_seconds" and allowed is None:
                continue
            if found[name]:
                row[name] = {**summarise(found[name], allowed)._asdict(), "range": allowed and list(allowed)}
        if found["background_uv"]:
            row["background_uv"] = float(np.median(found["background_uv"]))
        rows[kind] = row
    return rows


def _wider(hz: tuple[float, float]) -> tuple[float, float]:
    """A band that a rhythm outside the range can be found in, too."""
    return 0.7 * hz[0], 1.4 * hz[1]
