"""Transients, artefacts and IEDs, each added to silence or noise and measured there; and who gets which."""

import dataclasses

import numpy as np
import pytest

from data_tools.simulator.background import Scene
from data_tools.simulator.events import add_events, add_ieds, add_transients, measure_levels
from data_tools.simulator.head import Head, SkullDefect
from data_tools.simulator.ieds import KINDS
from data_tools.simulator.transients import SLOW_SPINDLE, TRANSIENTS
from siamese_jax.recordings.texts import ied_meaning, is_ied
from siamese_jax.vocabulary import LEADS_29, TEN_TWENTY
from tests.data_tools.simulator.scenes import SFREQ, named, profile, silent_scene, traits

KIND_LIST = list(enumerate(TRANSIENTS))
POLARITY = {"K-complex": -1, "Vertex wave": -1, "Wicket": -1, "POSTS": 1, "Lambda wave": 1, "Artefact blink": 1,
            "Small sharp spike": -1, "14-and-6 Hz positive burst": 1}  # fmt: skip
BREACH = dataclasses.replace(profile(), head=Head(defect=SkullDefect((-0.7071, 0.0, 0.7071), 2.5)))


def many(kind, *, seed=0, stage=None, minutes=20, per_minute=4.0, patient=None):
    """A silent scene with events of one kind."""
    stage = stage or next(iter(kind.per_minute))
    scene = silent_scene(stage, minutes=minutes, patient=patient or (BREACH if kind.at_defect else None))
    rng = np.random.default_rng(seed)
    return scene, add_transients(scene, kind, traits(kind, {stage: per_minute}), measure_levels(scene), rng)


def stream(name):
    return np.random.default_rng([7, *name.encode()])


def mixed_scene(patient, *, repeats=4, sfreq=100.0, ch_names=TEN_TWENTY):
    hypnogram = ("W", "N1", "N2", "N2", "N3", "R") * repeats
    shape = (len(ch_names), round(30 * len(hypnogram) * sfreq))
    signals = 10 * np.random.default_rng(3).standard_normal(shape, np.float32)
    return Scene(signals, sfreq, ch_names, hypnogram, patient)


# --- transients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("i", "kind"), KIND_LIST, ids=[f"{kind.text}-{i}" for i, kind in KIND_LIST])
def test_an_event_is_where_and_as_large_as_its_row_says(i, kind):
    kind = dataclasses.replace(kind, follower=None)
    scene, events = many(kind, seed=i)
    assert len(events) > 10
    marked = np.zeros(scene.signals.shape[1], bool)
    for event in events:
        start, stop = (np.array([0, event.duration_seconds]) + event.onset_seconds) * SFREQ
        piece = scene.signals[:, int(start) - 1 : int(stop) + 2]
        marked[int(start) : int(stop) + 1] = True
        peak = np.abs(piece).max()
        lead = TEN_TWENTY.index(event.channel)
        assert (event.kind, event.family, event.region, event.focus) == (kind.text, kind.family, "", "")
        assert event.stage == next(iter(kind.per_minute))
        assert np.abs(piece[lead]).max() == pytest.approx(peak) == pytest.approx(event.amplitude_uv, rel=1e-3)
        # Waves of their own may add up, and a hole in the skull magnifies.
        slack = 1.5 if kind.incoherent else 2.6 if kind.at_defect else 1.0001
        assert 0.9 * kind.amplitude_uv.low <= event.amplitude_uv <= slack * kind.amplitude_uv.high
        assert kind.duration.low <= event.duration_seconds <= kind.duration.high
        assert np.abs(piece[:, [0, 1, -2, -1]]).max() < 0.15 * peak  # no step gives it away
        if kind.text in POLARITY:
            assert np.sign(piece[lead][np.abs(piece[lead]).argmax()]) == POLARITY[kind.text]
    assert not scene.signals[:, ~marked].any()


@pytest.mark.parametrize(
    ("text", "leads"),
    [
        ("K-complex", {"Fz", "Cz"}),
        ("Vertex wave", {"Cz"}),
        ("POSTS", {"O1", "O2"}),
        ("Lambda wave", {"O1", "O2"}),
        ("Wicket", {"T3", "T4", "F7", "F8"}),
        ("RMTD", {"T3", "T4"}),
        ("14-and-6 Hz positive burst", {"T5", "T6"}),
        ("Small sharp spike", {"T3", "T4", "F7", "F8", "C3", "C4"}),
        ("Artefact blink", {"Fp1", "Fp2"}),
        ("Artefact EMG", {"Fp1", "Fp2", "F7", "F8", "T3", "T4", "T5", "T6"}),
        ("Sawtooth waves", {"Cz", "Fz"}),
        ("Breach rhythm", {"C3"}),
    ],
)
def test_an_event_has_its_maximum_where_it_belongs(text, leads):
    (kind,) = named(text)
    assert {event.channel for event in many(kind)[1]} <= leads


def test_slow_spindles_are_frontal_and_fast_ones_behind():
    for kind, leads in zip(named("Spindle"), ({"Fz", "F3", "F4"}, {"Cz", "Pz", "C3", "C4", "P3", "P4"}), strict=True):
        assert {event.channel for event in many(kind)[1]} <= leads


def test_lateral_eye_movements_have_opposite_signs_at_both_sides():
    for kind in named("Artefact eye movement"):
        scene, events = many(kind)
        left, right = (scene.signals[TEN_TWENTY.index(name)] for name in ("F7", "F8"))
        assert np.corrcoef(left, right)[0, 1] < -0.9
        assert {event.channel for event in events} <= {"F7", "F8"}


def test_each_muscle_has_a_noise_of_its_own():
    (kind,) = named("Artefact EMG")
    scene, events = many(kind)
    one = next(event for event in events if event.channel in ("T3", "F7", "T5") and event.duration_seconds > 1)
    start = round(one.onset_seconds * SFREQ)
    piece = scene.signals[:, start : start + round(one.duration_seconds * SFREQ)]
    assert abs(np.corrcoef(piece[TEN_TWENTY.index("F7")], piece[TEN_TWENTY.index("T5")])[0, 1]) < 0.4


def test_pops_are_at_one_electrode_and_movements_at_many():
    for text, n in (("Artefact electrode pop", 1), ("Artefact sweat", 5), ("Artefact movement", 12)):
        scene, events = many(*named(text), per_minute=1.0)
        for event in events:
            start = round((event.onset_seconds + 0.1 * event.duration_seconds) * SFREQ)
            stop = start + max(round(0.5 * event.duration_seconds * SFREQ), 1)
            assert (np.abs(scene.signals[:, start:stop]).max(1) > 0).sum() == n


def test_a_spindle_often_follows_a_k_complex():
    (kind,) = named("K-complex")
    _, events = many(kind, minutes=60)
    complexes = [event for event in events if event.kind == "K-complex"]
    spindles = [event for event in events if event.kind == SLOW_SPINDLE.text]
    assert len(spindles) / len(complexes) == pytest.approx(kind.follower_share, abs=0.1)
    for spindle in spindles:
        near = min(complexes, key=lambda event: abs(event.onset_seconds - spindle.onset_seconds))
        assert 0 < spindle.onset_seconds - near.onset_seconds < 1.5


def test_one_patient_s_events_of_a_kind_are_alike():
    (kind,) = named("K-complex")
    kind = dataclasses.replace(kind, follower=None)
    sizes = []
    for seed in range(12):
        scene = silent_scene("N2", minutes=5)
        own = traits(kind, {"N2": 4.0})._replace(size=float(np.random.default_rng(seed).standard_normal()))
        events = add_transients(scene, kind, own, measure_levels(scene), np.random.default_rng(seed))
        sizes.append(np.log([event.amplitude_uv for event in events]))
    within, between = np.mean([size.std() for size in sizes]), np.std([size.mean() for size in sizes])
    assert 0.12 < within < 0.25 and 0.08 < between < 0.25


# --- levels -------------------------------------------------------------------------------------------------


def test_snr_is_amplitude_over_the_background_there_and_then():
    scene = silent_scene("N2", minutes=4)
    gain = np.repeat([1.0, 20.0], scene.signals.shape[1] // 2)
    scene.signals[:] = gain * np.random.default_rng(0).standard_normal(scene.signals.shape)
    scene.signals[0] *= 3
    levels = measure_levels(scene)
    assert levels.at(10.0, "Cz") == pytest.approx(1, rel=0.1) and levels.at(200.0, "Cz") == pytest.approx(20, rel=0.1)
    assert levels.at(10.0, TEN_TWENTY[0]) == pytest.approx(3, rel=0.1)
    for kind in (*named("Vertex wave"), *named("Artefact electrode pop")):
        for event in add_transients(scene, kind, traits(kind, {"N2": 4.0}), levels, np.random.default_rng(1)):
            middle = event.onset_seconds + event.duration_seconds / 2
            assert event.snr == pytest.approx(event.amplitude_uv / levels.at(middle, event.channel))
    scene, (event, *_) = many(*named("Vertex wave"))
    assert event.snr == np.inf  # in silence


# --- IEDs ---------------------------------------------------------------------------------------------------


def discharges(region, *, kind=None, stage="N2", seed=1, level=0.0, minutes=20, **changes):
    patient = profile(region, seed)
    changes = {"periodic": None, "per_minute": {stage: 3.0}} | changes
    if kind:
        changes |= {"kinds": {name: float(name == kind) for name in KINDS}}
    ied = dataclasses.replace(patient.ied, **changes)
    scene = silent_scene(stage, minutes=minutes, patient=patient, level=level)
    return scene, ied, add_ieds(scene, ied, measure_levels(scene), np.random.default_rng(seed))


def peak_of(event):
    return event.onset_seconds + event.duration_seconds / 2


@pytest.mark.parametrize("region", ["frontal", "temporal", "centro-parietal", "occipital"])
def test_an_ied_is_a_negative_spike_where_its_row_says(region):
    for seed in range(4):
        scene, ied, events = discharges(region, seed=seed)
        assert len(events) > 20
        leads = {focus.lead for focus in ied.foci}
        for event in events:
            assert is_ied(event.kind) and event.family == "ied" and event.region == region and event.focus in leads
            if event.kind == "IED polyspike" or event.duration_seconds >= 1:
                continue
            middle = round(peak_of(event) * SFREQ)
            about = scene.signals[:, middle - round(0.02 * SFREQ) : middle + round(0.04 * SFREQ)]
            lead = TEN_TWENTY.index(event.channel)
            assert about[lead].min() == about.min() == pytest.approx(-event.amplitude_uv, rel=1e-3)
            assert 30 <= event.amplitude_uv <= 400 * 1.8 and 0.02 <= event.duration_seconds <= 0.2
            # The spread may come later, but the peak lies in the middle to within its delay.
            assert abs(about[lead].argmin() - round(0.02 * SFREQ)) <= round(0.021 * SFREQ) + 1


def test_ieds_are_as_large_as_their_background_asks_but_never_tiny():
    for level, smallest, largest in ((1.0, 18, 18), (60.0, 60, 60)):
        patient = profile("frontal", 2)
        ied = dataclasses.replace(patient.ied, per_minute={"N2": 3.0}, snr=3.0, periodic=None)
        scene = silent_scene("N2", minutes=20, patient=patient)
        scene.signals[:] = level * np.random.default_rng(0).standard_normal(scene.signals.shape)
        events = add_ieds(scene, ied, measure_levels(scene), np.random.default_rng(0))
        middle = np.median([event.amplitude_uv for event in events])
        assert 3 * smallest * 0.85 < middle < 3 * largest * 1.5
        for event in events:
            assert event.snr == pytest.approx(event.amplitude_uv / level, rel=0.15)


def test_an_ied_reaches_the_place_it_spreads_to_later():
    patient = profile("occipital", seed=2)
    focus = patient.ied.foci[0]
    (source,) = focus.patches
    front = source._replace(leads=("Fz",), tilt=0.0)
    focus = focus._replace(spread=(front,), spread_seconds=0.02, spread_gain=0.8, share=1.0)
    scene, _, events = discharges("occipital", seed=2, minutes=5, foci=(focus,), kind="spike")
    for event in events[:5]:
        start = round((peak_of(event) - 0.03) * SFREQ)
        times = scene.signals[:, start : start + round(0.08 * SFREQ)].argmin(1) / SFREQ
        assert times[TEN_TWENTY.index("Fz")] - times[TEN_TWENTY.index(event.channel)] == pytest.approx(0.02, abs=0.006)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_ied_bears_its_name(kind):
    _, ied, events = discharges("temporal", kind=kind)
    assert {event.kind for event in events} == {f"IED {kind}"}
    lengths = np.array([event.duration_seconds for event in events if event.duration_seconds < 1])
    low, high = {"sharp wave": (0.07, 0.2), "polyspike": (0.06, 0.6)}.get(kind, (0.02, 0.07))
    assert low <= lengths.min() and lengths.max() <= high


def test_the_background_is_disrupted_after_an_ied():
    added = []
    for level in (0.0, 1000.0):
        scene, ied, events = discharges("temporal", level=level)
        added.append(scene.signals)
    gain = (added[1] - added[0]) / 1000
    assert gain.max() <= 1.001 and np.median(gain) == pytest.approx(1)
    lowest = []
    for event in events:
        peak = round(peak_of(event) * SFREQ)
        lowest.append(gain[TEN_TWENTY.index(event.channel), peak : peak + round(0.9 * SFREQ)].min())
        assert gain[:, peak - round((0.1 + event.duration_seconds) * SFREQ)].min() > 0.99

    assert 0.38 < min(lowest) < 0.55 and 0.85 < max(lowest) < 1.001  # of some hardly


@pytest.mark.parametrize("pattern", ["LPD", "GPD", "BIPD"])
def test_periodic_discharges_are_marked_one_by_one(pattern):
    seed = next(
        seed for seed in range(200) if (own := profile("temporal", seed).ied.periodic) and own.pattern == pattern
        and own.kind != "polyspike" and own.hz < 2
    )  # fmt: skip
    periodic = profile("temporal", seed).ied.periodic._replace(runs_per_minute=1.0)
    scene, _, events = discharges("temporal", seed=seed, periodic=periodic, foci=profile("temporal", seed).ied.foci)
    mine = [event for event in events if "repetitive" in event.kind]
    name = {"LPD": "lateralized", "GPD": "generalized", "BIPD": "bilateral independent"}[pattern]
    assert {event.kind for event in mine} == {f"IED repetitive {name} {periodic.kind}"}
    assert len(mine) > 100 and all(is_ied(event.kind) for event in mine)
    assert {event.focus for event in mine} == {focus.lead for focus in periodic.foci}
    assert all(event.duration_seconds < 0.25 for event in mine)
    # Peaks lie where the marks say, and the largest negative wave of each period is marked.
    lead = TEN_TWENTY.index(mine[0].channel)
    own = [event for event in mine if event.channel == mine[0].channel]
    for event in own:
        middle = round(peak_of(event) * SFREQ)
        around = scene.signals[lead, middle - 26 : middle + 27]
        assert abs(around.argmin() - 26) <= 0.021 * SFREQ + 1 or pattern == "BIPD"
        assert 30 < event.amplitude_uv < 250
    assert 1 / np.median(np.diff([peak_of(event) for event in own])) == pytest.approx(periodic.hz, rel=0.15)
    # No other discharge comes between.
    others = np.array([peak_of(event) for event in events if event not in mine])
    assert len(others) and min(np.abs(others - peak_of(event)).min() for event in mine) > 1.5


def test_triphasic_waves_arrive_later_behind_and_are_no_label():
    (kind,) = named("Triphasic waves")
    scene, events = many(kind, minutes=10, per_minute=1.0)
    front, back = (scene.signals[TEN_TWENTY.index(name)] for name in ("Fp1", "O1"))
    for event in events:
        start = round(event.onset_seconds * SFREQ)
        stop = start + round(event.duration_seconds * SFREQ)
        lags = np.arange(0, round(0.2 * SFREQ))
        match = [np.dot(front[start:stop], back[start + lag : stop + lag]) for lag in lags]
        assert 0.025 <= lags[int(np.argmax(match))] / SFREQ <= 0.14
        largest = scene.signals[TEN_TWENTY.index(event.channel), start:stop]
        assert largest.max() == pytest.approx(event.amplitude_uv, rel=1e-3) and largest.max() > -1.2 * largest.min()
    assert ied_meaning(kind.text) == "doubt" and ied_meaning("Rhythmic delta LRDA") == "other"


def test_a_long_run_is_one_event_and_a_short_one_several():
    scene, ied, events = discharges("generalized", stage="W")
    runs = [event for event in events if event.duration_seconds >= 1]
    short = [event for event in events if event.duration_seconds < 1]
    assert len(runs) > 5 and len(short) > 5 and max(event.duration_seconds for event in short) < 0.15
    rates = []
    for run in runs:
        start = round(run.onset_seconds * SFREQ)
        wave = scene.signals[TEN_TWENTY.index("Fz"), start : start + round(run.duration_seconds * SFREQ)]
        rate = np.fft.rfftfreq(4096, 1 / SFREQ)
        inside = (rate > 2) & (rate < 6)
        rates.append(rate[inside][np.abs(np.fft.rfft(wave - wave.mean(), 4096))[inside].argmax()])
        assert {run.channel, run.focus, run.region} == {"Fz", "generalized"}
    # Of a run of two or three complexes a harmonic may be the largest.
    assert np.mean([2.3 < one < 4.3 for one in rates]) > 0.9


# --- who gets which -----------------------------------------------------------------------------------------


def test_every_row_says_what_was_put_in():
    """Take one kind away at a time: the difference is as large as its rows say, where and when they say."""
    patient = profile(seed=11)
    full = mixed_scene(patient)
    events = add_events(full, stream)
    assert [event.onset_seconds for event in events] == sorted(event.onset_seconds for event in events)
    for i, kind in KIND_LIST[::4]:
        without = mixed_scene(
            dataclasses.replace(
                patient,
                traits=(*patient.traits[:i], patient.traits[i]._replace(per_minute={}), *patient.traits[i + 1 :]),
            )
        )
        others = add_events(without, stream)
        assert [event for event in events if event in others] == others
        mine = [event for event in events if event not in others]
        difference = full.signals - without.signals
        for event in mine:
            start, stop = (round(x * 100) for x in (event.onset_seconds, event.onset_seconds + event.duration_seconds))
            lead = TEN_TWENTY.index(event.channel)
            put_in = np.abs(difference[lead, max(start - 1, 0) : stop + 2]).max()
            assert put_in == pytest.approx(event.amplitude_uv, rel=0.01) or event.kind != kind.text


def test_nothing_but_ieds_knows_about_ieds():
    for seed in range(3):
        without, with_ieds = profile(None, seed), profile("temporal", seed)
        assert without.traits == with_ieds.traits and without.head == with_ieds.head
        plain, epileptic = (add_events(mixed_scene(patient), stream) for patient in (without, with_ieds))
        assert plain == [event for event in epileptic if event.family != "ied"]
        assert {is_ied(event.kind) for event in plain} == {False}
        assert all(event.family == "ied" for event in epileptic if is_ied(event.kind))


def test_counts_of_mimics_and_artefacts_tell_nothing_about_the_label(monkeypatch):
    """Over a cohort of different people: the best weights of half of them are at chance on the other half."""
    # Counts need no fields, which take the time.
    monkeypatch.setattr(
        "data_tools.simulator.patches.field", lambda patches, head, ch_names, **how: np.ones(len(ch_names))
    )
    texts = sorted({kind.text for kind in TRANSIENTS})
    counts, labels = [], []
    for seed in range(100):
        patient = profile("temporal" if seed % 2 else None, seed)
        scene = mixed_scene(patient, repeats=5, ch_names=TEN_TWENTY[:2])
        rng = np.random.default_rng([seed, 5])
        events = add_events(scene, lambda name, rng=rng: rng.spawn(1)[0])
        counts.append([sum(event.kind == text for event in events) for text in texts])
        labels.append(seed % 2)
    x, y = np.sqrt(np.array(counts, float)), np.array(labels) * 2.0 - 1
    scores = np.zeros(100)
    for half in (np.arange(100) < 40, np.arange(100) >= 40):
        centre = x[half].mean(0)
        xs = x - centre
        weights = np.linalg.solve(xs[half].T @ xs[half] + 20 * np.eye(x.shape[1]), xs[half].T @ y[half])
        scores[~half] = xs[~half] @ weights
    auroc = np.mean([(scores[(y > 0) & half][:, None] > scores[(y < 0) & half]).mean()
                     for half in (np.arange(100) < 40, np.arange(100) >= 40)])  # fmt: skip
    assert 0.33 < auroc < 0.67  # 2.9 standard errors about 0.5
    common = x.max(0) > 2
    t = (x[y > 0].mean(0) - x[y < 0].mean(0)) / np.sqrt(x[y > 0].var(0) / 50 + x[y < 0].var(0) / 50 + 1e-9)
    assert np.abs(t[common]).max() < 4


def test_29_leads_get_their_events_too():
    scene = mixed_scene(profile("temporal", 3), ch_names=LEADS_29[:23])
    before = scene.signals.copy()
    events = add_events(scene, stream)
    assert {event.channel for event in events} <= set(LEADS_29[:23])
    assert (np.abs(scene.signals - before).max(1) > 5).all()
