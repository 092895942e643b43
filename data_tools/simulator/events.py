"""What happens now and then: transients, mimics, IEDs and artefacts, added to the background in place."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from data_tools.simulator import ieds, patches, waveforms
from data_tools.simulator.background import Scene
from data_tools.simulator.body import eye_field
from data_tools.simulator.discharges import EDGE_SECONDS, Complex, Discharge, draw_discharges, draw_periodic
from data_tools.simulator.ieds import Focus, IedProfile
from data_tools.simulator.onsets import draw_onsets
from data_tools.simulator.transients import TRANSIENTS, Family, Traits, Transient, lognormal
from siamese_jax.recordings.recording import Annotation

RUN_SECONDS = 1.0
"""From this duration on, a run of discharges is one event; below, each complex is one."""
LEVEL_SECONDS = 4.0
"""The background's size is measured in stretches of this length."""
N_FIELDS = 3
"""A patient's events of one kind and site take turns in so many slightly different fields."""
SHIFT = 0.07
"""Scatter of their centres in each direction, in head radii (INFERENCE)."""
OWN_SITE_SHARE = 0.7
"""Of events that come from the patient's preferred site, before others get their share (INFERENCE)."""
OWN_SIZE_SHARE = 0.6
"""Correlation of the sizes of one patient's events of a kind (INFERENCE)."""
FREQUENCY_SCATTER = 0.03
"""Relative, from event to event. INFERENCE: DREAMS subjects 2 and 4 scatter by 0.06 and 0.08 within a person, both
types of spindle together and the error of measuring included."""

Field = Float[np.ndarray, "chan"]


class Event(NamedTuple):
    """Something that was put into a recording. A single IED's peak lies in the middle of its interval.

    An IED's interval is its sharp part, from the rise of its first to the fall of its last spike, without the slow wave
    after it; of a run of `RUN_SECONDS` or more it is the whole run's. Anything else's interval is all of it.
    """

    kind: str
    family: Family
    onset_seconds: float
    duration_seconds: float
    channel: str  # of the largest amplitude; empty: a fault of all of them
    amplitude_uv: float  # baseline to peak, unsigned, as put in at that channel; of an IED the sharp part's
    snr: float  # amplitude over the background's RMS there and then
    stage: str
    region: str = ""  # of ieds.REGIONS; IEDs only
    focus: str = ""  # the electrode above it; IEDs only

    def mark(self) -> Annotation:
        """As a recording's annotation."""
        return Annotation(self.onset_seconds, self.duration_seconds, self.kind, self.channel or None)


class Levels(NamedTuple):
    """How large the background is at each lead, before anything happens."""

    rms_uv: Float[np.ndarray, "block chan"]
    ch_names: tuple[str, ...]

    def at(self, seconds: float, ch_name: str) -> float:
        """Root mean square about a moment."""
        block = min(int(seconds / LEVEL_SECONDS), len(self.rms_uv) - 1)
        return float(self.rms_uv[block, self.ch_names.index(ch_name)])

    def snr(self, amplitude_uv: float, seconds: float, ch_name: str) -> float:
        """Amplitude over it; infinite in silence."""
        level = self.at(seconds, ch_name)
        return amplitude_uv / level if level else math.inf


def measure_levels(scene: Scene) -> Levels:
    """The background's size as it is now; the last stretch may be up to twice as long."""
    step = round(LEVEL_SECONDS * scene.sfreq)
    n_blocks = max(scene.signals.shape[1] // step, 1)
    bounds = [*(i * step for i in range(n_blocks)), scene.signals.shape[1]]
    rms = [scene.signals[:, a:b].std(axis=1) for a, b in zip(bounds, bounds[1:], strict=False)]
    return Levels(np.array(rms, dtype=float), scene.ch_names)


def add_events(
    scene: Scene,
    stream: Callable[[str], np.random.Generator],
    *,
    levels: Levels | None = None,
    families: Sequence[Family] = ("transient", "mimic", "artefact"),
) -> list[Event]:
    """Add all of a patient's events, by onset: the brain's, then IEDs, which disrupt them, then artefacts.

    Args:
        scene: The background; its profile says which events.
        stream: A random stream by name. Every kind has its own, so that one without IEDs has all the others alike.
        levels: The background's size; measured if None.
        families: Which events are added beside the IEDs.
    """
    levels = levels or measure_levels(scene)
    kinds = [
        (i, (kind, traits))
        for i, (kind, traits) in enumerate(zip(TRANSIENTS, scene.profile.traits, strict=True))
        if kind.family in families
    ]
    events: list[Event] = []
    for i, (kind, traits) in kinds:
        if kind.family != "artefact":
            events += add_transients(scene, kind, traits, levels, stream(f"transient {i}"))
    if scene.profile.ied is not None:
        events += add_ieds(scene, scene.profile.ied, levels, stream("ied"))
    for i, (kind, traits) in kinds:
        if kind.family == "artefact":
            events += add_transients(scene, kind, traits, levels, stream(f"transient {i}"))
    return sorted(events, key=lambda event: event.onset_seconds)


# --- transients, mimics, artefacts --------------------------------------------------------------------------


def add_transients(
    scene: Scene, kind: Transient, traits: Traits, levels: Levels, rng: np.random.Generator
) -> list[Event]:
    """Add every occurrence of one kind of transient, and what follows it."""
    events: list[Event] = []
    onsets = draw_onsets(traits.per_minute, scene.hypnogram, scene.seconds, rng).tolist()
    if not onsets:
        return events
    sources, followers = _Sources(kind, scene, rng), None
    free_from = EDGE_SECONDS
    for onset in onsets:
        duration = lognormal(kind.duration, rng.standard_normal())
        if onset < free_from or onset + duration > scene.seconds - EDGE_SECONDS:
            continue
        free_from = onset + duration + 0.1
        events.append(_add_transient(scene, kind, traits, sources, onset, duration, levels, rng))
        if kind.follower is None or rng.uniform() >= kind.follower_share:
            continue
        followers = followers or _Sources(kind.follower, scene, rng)
        own = scene.profile.traits[TRANSIENTS.index(kind.follower)]
        after, length = onset + 0.8 * duration, lognormal(kind.follower.duration, rng.standard_normal())
        if after + length <= scene.seconds - EDGE_SECONDS:
            events.append(_add_transient(scene, kind.follower, own, followers, after, length, levels, rng))
            free_from = after + length + 0.1
    return events


class _Sources:
    """The fields of one kind of event in one patient, made at first use."""

    def __init__(self, kind: Transient, scene: Scene, rng: np.random.Generator) -> None:
        self.kind, self.scene = kind, scene
        self.shifts = rng.uniform(-SHIFT, SHIFT, size=(N_FIELDS, 3))
        self.made: dict[tuple[int, int], list[Field]] = {}

    def draw(self, traits: Traits, rng: np.random.Generator) -> list[Field]:
        """The field of each source of an event, each with a wave of its own."""
        kind, ch_names = self.kind, self.scene.ch_names
        if kind.electrodes:
            return list(np.eye(len(ch_names))[rng.permutation(len(ch_names))[: kind.electrodes]])
        n_sites = max(len(kind.sites), 1)
        site = traits.site if rng.uniform() < OWN_SITE_SHARE else int(rng.integers(n_sites))
        key = (site, int(rng.integers(N_FIELDS)))
        if key not in self.made:
            self.made[key] = self._make(*key, traits.frequency_hz)
        return self.made[key]

    def _make(self, site: int, turn: int, frequency_hz: float) -> list[Field]:
        kind, head, ch_names = self.kind, self.scene.profile.head, self.scene.ch_names
        if kind.eyes:
            return [eye_field(ch_names, kind.eyes)]
        if kind.at_defect and head.defect is not None:
            return [head.patch_field(head.defect.centre, 6.0, ch_names, frequency_hz=frequency_hz)]
        parts = [(patch,) for patch in kind.sites[site]] if kind.incoherent else [kind.sites[site]]
        shift = self.shifts[turn]
        # A wave without a frequency is as fast as its main phase is short.
        hz = frequency_hz or 0.5 / kind.duration.at(0.5)
        return [patches.field(part, head, ch_names, shift=shift, frequency_hz=hz) for part in parts]


def _add_transient(
    scene: Scene,
    kind: Transient,
    traits: Traits,
    sources: _Sources,
    onset: float,
    duration: float,
    levels: Levels,
    rng: np.random.Generator,
) -> Event:
    chance = math.sqrt(1 - OWN_SIZE_SHARE**2) * rng.standard_normal()
    amplitude = lognormal(kind.amplitude_uv, OWN_SIZE_SHARE * traits.size + chance)
    frequency = traits.frequency_hz * (1 + FREQUENCY_SCATTER * rng.standard_normal())
    frequency = float(np.clip(frequency, *kind.frequency_hz))
    start, stop = (math.ceil(moment * scene.sfreq) for moment in (onset, onset + duration))
    t = np.arange(start, stop) / scene.sfreq - onset
    piece = np.zeros((len(scene.ch_names), len(t)))
    for i, field in enumerate(sources.draw(traits, rng)):
        wave = kind.shape(t - i * kind.lag_seconds, frequency, duration, rng)
        size = amplitude * (1.0 if i == 0 else rng.uniform(0.3, 1.0))
        piece += np.outer(field, wave * (size / np.abs(wave).max()))
    scene.signals[:, start:stop] += piece
    return _event(kind.text, kind.family, onset, duration, np.abs(piece).max(1), scene, levels)


def _event(
    text: str,
    family: Family,
    onset: float,
    duration: float,
    sizes: Field,
    scene: Scene,
    levels: Levels,
    stage: str | None = None,
    focus: Focus | None = None,
) -> Event:
    """The row of an event that is as large as `sizes`, in microvolts."""
    channel = scene.ch_names[int(sizes.argmax())]
    amplitude = float(sizes.max())
    snr = levels.snr(amplitude, onset + duration / 2, channel)
    about = (channel, amplitude, snr, stage or scene.stage(onset))
    return Event(text, family, onset, duration, *about, *((focus.region, focus.lead) if focus else ()))


# --- IEDs ---------------------------------------------------------------------------------------------------


def add_ieds(scene: Scene, ied: IedProfile, levels: Levels, rng: np.random.Generator) -> list[Event]:
    """Add a patient's IEDs, single or in runs, and the periodic ones, which no others come between.

    The text of a periodic discharge says `repetitive`. A reader's `periodic` may stand for a whole run with all that
    lies between, so `recordings.texts` takes it for no label.
    """
    discharges = draw_discharges(ied, scene.hypnogram, scene.seconds, rng)
    if ied.periodic is None:
        return _add_discharges(scene, discharges, ied.foci, levels, rng)
    periodic = draw_periodic(ied.periodic, len(scene.hypnogram), scene.seconds, rng)
    starts = np.array([discharge.starts[0] for discharge in periodic])
    apart = [one for one in discharges if not ((starts > one.starts[0] - 2.0) & (starts < one.starts[-1] + 2.0)).any()]
    text = f"IED repetitive {ieds.PERIODIC_TEXTS[ied.periodic.pattern]} {{}}"
    return _add_discharges(scene, apart, ied.foci, levels, rng) + _add_discharges(
        scene, periodic, ied.periodic.foci, levels, rng, text=text
    )


def _add_discharges(
    scene: Scene,
    discharges: Sequence[Discharge],
    foci: Sequence[Focus],
    levels: Levels,
    rng: np.random.Generator,
    *,
    text: str = "IED {}",
) -> list[Event]:
    """Add discharges that begin at some of the foci."""
    fields = [_focus_fields(focus, scene) for focus in foci]
    events: list[Event] = []
    for discharge in discharges:
        focus = foci[discharge.focus]
        here, there = fields[discharge.focus]
        level = levels.at(discharge.starts[0], scene.ch_names[int(np.abs(here).argmax())])
        amplitude = float(np.clip(discharge.snr * max(level, ieds.QUIET_UV), *ieds.IED_AMPLITUDE_UV))
        sizes = [
            _add_complex(scene, complex_, start, amplitude * here, amplitude * there, focus.spread_seconds, rng)
            for complex_, start in zip(discharge.complexes, discharge.starts, strict=True)
        ]
        kind = text.format(discharge.kind)
        for onset, duration, size in _intervals(discharge, sizes):
            events.append(_event(kind, "ied", onset, duration, size, scene, levels, discharge.stage, focus))
    return events


def _focus_fields(focus: Focus, scene: Scene) -> tuple[Field, Field]:
    """Fields where a discharge begins and where it spreads to; upwards where the spike is negative."""
    head, ch_names, shift = scene.profile.head, scene.ch_names, np.array(focus.shift)
    here = patches.field(focus.patches, head, ch_names, shift=shift, frequency_hz=12.0)
    if not focus.spread:
        return here, np.zeros(len(ch_names))
    return here, focus.spread_gain * patches.field(focus.spread, head, ch_names, shift=shift, frequency_hz=12.0)


def _intervals(discharge: Discharge, sizes: Sequence[Field]) -> list[tuple[float, float, Field]]:
    """Onset, duration and size of each event: of a long run as a whole, else of each complex."""
    # A spike's rise and fall differ; its interval reaches as far before the peak as after it.
    margins = [(complex_.rise + complex_.fall) / 2 for complex_ in discharge.complexes]
    each = [
        (start - margin, complex_.peaks[-1] + 2 * margin, size)
        for start, margin, complex_, size in zip(discharge.starts, margins, discharge.complexes, sizes, strict=True)
    ]
    run = each[-1][0] + each[-1][1] - each[0][0]
    return [(each[0][0], run, np.max(sizes, axis=0))] if len(each) > 1 and run >= RUN_SECONDS else each


def _add_complex(
    scene: Scene,
    complex_: Complex,
    start: float,
    here_uv: Field,
    there_uv: Field,
    delay: float,
    rng: np.random.Generator,
) -> Field:
    """Add one complex, which damps the background (criterion 5); the size of its sharp part at each lead."""
    gain, disrupted = ieds.DISRUPTION_GAIN.draw(rng), ieds.DISRUPTION_SECONDS.draw(rng)
    lasting = max(complex_.seconds, complex_.peaks[-1] + disrupted) + delay
    first = max(int((start - 0.25) * scene.sfreq), 0)
    last = min(int((start + lasting + 0.1) * scene.sfreq), scene.signals.shape[1])
    t = np.arange(first, last) / scene.sfreq - start
    piece = scene.signals[:, first:last]
    share = np.abs(here_uv) / np.abs(here_uv).max()
    damping = waveforms.half_sine((t + 0.02) / (complex_.peaks[-1] + disrupted + 0.04)) ** 0.5
    piece *= 1 - (1 - gain) * np.outer(share, damping)
    added = np.outer(here_uv, complex_.wave(t))
    if there_uv.any():
        added += np.outer(there_uv, complex_.wave(t - delay))
    piece += added
    sharp = (t >= -complex_.rise) & (t <= complex_.peaks[-1] + complex_.fall)
    return np.abs(added[:, sharp]).max(1)
