"""Which electrodes are bad when: each fault is found where it is and nowhere else, and no discharge is one."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter

from data_tools.simulator import faults
from data_tools.simulator.background import add_background
from data_tools.simulator.events import measure_levels
from data_tools.simulator.physiology import Range
from data_tools.simulator.waveforms import electrode_pop, spike
from siamese_jax.recordings import quality as room
from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.quality import FAULTS, Quality, QualityReport, judge
from siamese_jax.recordings.recording import Recording, recording_from_array
from siamese_jax.recordings.windows import WindowGrid
from siamese_jax.vocabulary import TEN_TWENTY
from tests.data_tools.simulator import scenes
from tests.recordings.in_memory import recording_of

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SFREQ, SECONDS, T5 = 200.0, 60, TEN_TWENTY.index("T5")
RNG = np.random.default_rng(7)
T = np.arange(round(SECONDS * SFREQ)) / SFREQ


def eeg_of(seconds: int = SECONDS, *, seed: int = 0) -> np.ndarray:
    """Some 15 uV of 1/f noise, half of which all electrodes share in pairs of neighbours."""
    white = np.random.default_rng(seed).normal(size=(round(seconds * SFREQ) + 400, 19))
    eeg = lfilter([1.0], [1.0, -0.97], white, axis=0)[400:]
    eeg = eeg + np.roll(eeg, 1, 1) + np.roll(eeg, -1, 1)
    return 15 * eeg / eeg.std()


def recorded(eeg: np.ndarray) -> Recording:
    return recording_of([eeg], ch_names=TEN_TWENTY, sfreq=SFREQ)


def broken(change: Callable[[np.ndarray, np.ndarray], np.ndarray], begin: int, end: int) -> np.ndarray:
    """The faults by second and channel after T5 was changed from one second to another."""
    eeg, part = eeg_of(), slice(round(begin * SFREQ), round(end * SFREQ))
    eeg[part, T5] = change(eeg[part, T5], T[part] - begin)
    return judge(recorded(eeg)).faults


def slow_noise(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Of 130 uV, in the band of EEG."""
    noise = lfilter([1.0], [1.0, -0.97], RNG.normal(size=len(t)))
    return 130 * noise / noise.std()


BREAKS = {
    "flat": lambda x, t: np.full_like(x, x[0]),
    "clipped": lambda x, t: np.clip(30 * x, -250, 250),
    "implausible": lambda x, t: x + 3000 * np.sin(2 * np.pi * 0.7 * t),
    "mains": lambda x, t: x + 600 * np.sin(2 * np.pi * 50 * t),
    "broad noise": lambda x, t: RNG.normal(0, 400, len(t)),
    "alone": slow_noise,
}


@pytest.mark.parametrize("fault", BREAKS)
def test_a_fault_is_found_in_its_channel_and_seconds(fault):
    found = broken(BREAKS[fault], 20, 40)
    expected = np.zeros_like(found)
    expected[20:40, T5] = 1 + FAULTS.index(fault)
    assert (found[21:39, T5] == expected[21:39, T5]).all()
    others = np.delete(found, [19, 20, 39, 40], 0)  # half a second more is looked at, and three for drift
    assert ((others > 0) == np.delete(expected > 0, [19, 20, 39, 40], 0)).all()
    assert not np.delete(found, T5, 1).any()


def test_a_step_that_recovers_slowly_is_implausible_where_it_happens():
    found = broken(lambda x, t: x + 2000 * electrode_pop(t, 0.0, 10.0, RNG), 20, 30)
    assert FAULTS[found[20, T5] - 1] == "implausible" and (np.delete(found, T5, 1) == 0).all()


def test_a_channel_with_a_wrong_gain_is_too_large_throughout_and_one_over_a_hole_in_the_skull_is_not():
    def found(times: float, end: int) -> np.ndarray:
        return broken(lambda x, t: times * x, 0, end)

    expected = np.zeros((SECONDS, 19), int)
    expected[:, T5] = 1 + FAULTS.index("too large")
    np.testing.assert_array_equal(found(10, SECONDS), expected)
    assert {*BREAKS, "too large"} == set(FAULTS)
    assert not found(3, SECONDS).any() and not found(10, SECONDS // 2).any()


def spikes(uv: float, every: float) -> np.ndarray:
    """Spikes and after-waves, again and again."""
    about = T % every - every / 2
    after = np.where((about > 0.05) & (about < 0.3), np.sin(np.pi * (about - 0.05) / 0.25), 0.0)
    return uv * (spike(about, rise=0.03, fall=0.04) - 0.6 * after)


def near(chan: int) -> np.ndarray:
    """A narrow field."""
    return np.eye(19)[chan] + 0.25 * np.eye(19)[chan - 1] + 0.25 * np.eye(19)[chan + 1]


@pytest.mark.parametrize(
    "added",
    [
        pytest.param(spikes(500, 1.0)[:, None] * near(T5), id="spikes, 500 uV, a quarter of it at neighbours"),
        pytest.param(spikes(150, 7.0)[:, None] * (np.arange(19) == T5), id="now and then"),
        pytest.param(spikes(600, 1 / 3)[:, None] * np.linspace(1, 0.1, 19), id="3-Hz spike-and-wave, 600 uV"),
        pytest.param(400 * np.sin(2 * np.pi * 1.2 * T)[:, None] * np.linspace(1, 0.2, 19), id="slow waves, 800 uV"),
        pytest.param(100 * np.sin(2 * np.pi * 50 * T)[:, None] * np.linspace(0, 1, 19), id="mains that filters remove"),
        pytest.param(
            RNG.normal(0, 35, (len(T), 1)) * np.isin(TEN_TWENTY, ["T3", "F7"]), id="muscle at the temples, 35 uV"
        ),
        pytest.param(5000 * np.sin(2 * np.pi * (50 * T + 0.1 * T))[:, None] * np.ones(19), id="what all share"),
        pytest.param(20000 + 100 * T[:, None] * np.linspace(-1, 1, 19), id="offset and drift"),
    ],
)
def test_neither_discharges_nor_what_filter_and_montage_remove_make_a_channel_bad(added):
    assert not judge(recorded(eeg_of() + added)).faults.any()


def test_blocks_give_what_the_whole_gives(monkeypatch):
    eeg = eeg_of(120)
    eeg[3500:9000, T5] += RNG.normal(0, 400, 5500)
    eeg[9900:16100, 3] = slow_noise(eeg[9900:16100, 3], T[:6200])
    whole = judge(recorded(eeg)).faults
    monkeypatch.setattr(room, "BLOCK_SECONDS", 20)
    blocks = judge(recorded(eeg)).faults
    assert len(np.unique(whole)) == 3 and (blocks == whole).all()


def test_other_kinds_and_absent_channels_are_not_judged_and_samples_that_are_not_finite_stop_nothing():
    eeg = np.zeros((4000, 19))
    eeg[:, :3] = eeg_of(20)[:, :3]
    eeg[333, 1], eeg[444, 1] = np.nan, np.inf
    names = [*TEN_TWENTY[:4], *(f"ECG{i}" for i in range(15))]
    found = judge(recording_of([eeg], ch_names=names, present=[True] * 3 + [False] + [True] * 15, sfreq=SFREQ))
    assert not found.faults[:, [0, 2, *range(3, 19)]].any()
    assert found.report().mostly_bad == () and found.report().bad_stretches == ()


def judged(faults: np.ndarray, *, onsets: tuple[float, ...] = (0.0,), n_times: tuple[int, ...] = (2000,)) -> Quality:
    """Crafted faults of four channels at 100 Hz."""
    pieces = [np.zeros((n, 4), np.float32) for n in n_times]
    ends = np.cumsum([0, *(-(-n // 100) for n in n_times)])
    recording = recording_of(pieces, onsets=onsets, ch_names=TEN_TWENTY[:4], sfreq=100.0)
    return Quality(recording, lambda segment, _: faults[ends[segment] : ends[segment + 1]].astype(np.uint8))


def test_a_channel_that_is_mostly_bad_is_used_where_it_is_good():
    """What is said of the whole changes nothing of a part: a recording can be judged while it is read."""
    faults = np.zeros((20, 4))
    faults[:15, 0] = 5
    grid = WindowGrid(np.zeros(19, np.int32), np.arange(19) * 100)
    present, lost = judged(faults).within(grid, window=200, reach=0)
    assert np.flatnonzero(present[:, 0]).tolist() == [15, 16, 17, 18] and present[:, 1:].all() and not lost.any()


def test_only_what_is_asked_for_is_read_and_judged_and_all_of_it_once(monkeypatch):
    monkeypatch.setattr(room, "BLOCK_SECONDS", 20)
    reads, plain = [], recorded(eeg_of(100))
    quality = judge(dataclasses.replace(plain, source=lambda i, a, b: reads.append((a, b)) or plain.source(i, a, b)))
    moments = WindowGrid(np.zeros(2, np.int32), np.array([4000, 7000]))
    quality.within(moments, window=1, reach=1000)  # from 15 to 40 s
    assert reads == [(0, 4400), (3600, 8400), (7600, 12400)]
    quality.within(moments, window=1, reach=900)
    quality.report()
    assert len(reads) == 5


def test_a_channel_is_absent_from_the_windows_that_reach_its_bad_second():
    faults = np.zeros((20, 4))
    faults[8, 1] = 5
    grid = WindowGrid(np.zeros(19, np.int32), np.arange(19) * 100)
    present, lost = judged(faults).within(grid, window=200, reach=100)
    assert np.flatnonzero(~present[:, 1]).tolist() == [6, 7, 8, 9] and present[:, [0, 2, 3]].all() and not lost.any()
    present, _ = judged(faults).within(grid, window=200, reach=101)
    assert np.flatnonzero(~present[:, 1]).tolist() == [5, 6, 7, 8, 9, 10]


def test_half_of_the_channels_make_a_bad_stretch_and_half_of_the_time_a_bad_channel():
    faults = np.zeros((20, 4))
    faults[2:5, :2] = 1  # a bad stretch
    faults[5:15, 0] = 6  # 10 of the other 17 s
    faults[15:18, 1] = 4
    report = judged(faults).report()
    assert report == QualityReport(
        {"Fp1": {"alone": 10}, "Fp2": {"broad noise": 3}}, ("Fp1",), ((2.0, 3.0),), 20
    )  # fmt: skip
    assert report.notes() == (
        "bad channels, taken as absent where they are bad: Fp1 10 s, 50.0% (alone), Fp2 3 s, 15.0% (broad noise)",
        "bad in more than half of the time: Fp1",
        "half of the channels or more are bad in 3 s, which are not analysed",
    )
    assert QualityReport().notes() == () == judged(np.zeros((20, 4))).report().notes()


def test_segments_have_seconds_of_their_own_and_stretches_the_recording_s_clock():
    """The first has 4 s and a half, so its fifth row is the half; the second begins after a gap."""
    faults = np.zeros((15, 4))
    faults[4:6] = 1
    found = judged(faults, onsets=(0.0, 60.0), n_times=(450, 1000))
    assert found.report().bad_stretches == ((4.0, 0.5), (60.0, 1.0))
    grid = WindowGrid(np.array([0, 0, 1, 1], np.int32), np.array([200, 250, 0, 100]))
    _, lost = found.within(grid, window=200, reach=0)
    assert lost.tolist() == [False, True, True, False]
    _, lost = found.within(grid, window=200, reach=100)  # beyond a segment's ends there is nothing
    assert lost.tolist() == [True, True, True, True]


# --- simulated and real recordings ---------------------------------------------------------------------------

FOUND = {"electrode noise": 300.0, "electrode step": 1500.0, "electrode flat": 0.0, "contact lost": 3000.0}
"""From which size on the simulator's faults are found for certain."""


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.text)
def test_the_simulator_s_faults_are_found_and_nothing_else(monkeypatch, fault):
    monkeypatch.setattr(faults, "FAULTS", (fault,))
    monkeypatch.setattr(faults, "PER_MINUTE", Range(1.5, 1.5))
    scene = scenes.silent_scene("W", minutes=10)
    add_background(scene, scenes.night_of(scene.hypnogram), np.random.default_rng(1))
    assert not judge(recording_of([scene.signals.T], ch_names=TEN_TWENTY, sfreq=scene.sfreq)).faults.any()
    rows = faults.add_faults(scene, measure_levels(scene), (), np.random.default_rng(2))
    found = judge(recording_of([scene.signals.T], ch_names=TEN_TWENTY, sfreq=scene.sfreq)).faults > 0
    marked, sure = np.zeros_like(found), []
    for row in rows:
        chans = [TEN_TWENTY.index(row.channel)] if row.channel else list(range(19))
        first, last = int(row.onset_seconds), int(row.onset_seconds + row.duration_seconds)
        marked[max(first - 2, 0) : last + 3, chans] = True
        if row.amplitude_uv >= next((least for kind, least in FOUND.items() if row.kind.endswith(kind)), np.inf):
            inside = found[first : first + 1] if row.kind.endswith("step") else found[first + 1 : last]
            sure += inside[:, chans].ravel().tolist()
    assert np.mean(sure or [True]) > (0.7 if fault.text.endswith("lost") else 0.95)
    assert bool(sure) == fault.text.endswith(tuple(FOUND))
    others = ~marked & (marked.mean(1, keepdims=True) < 0.5)  # where half are bad, it is the median channel, too
    assert not found[others].any()


def real(pattern: str) -> list[Path]:
    paths = sorted(DATA.glob(pattern))
    if not paths:
        pytest.skip(f"no {pattern} in {DATA}")
    return paths


def share(recording: Recording) -> float:
    return float((judge(recording).faults[:, recording.present] > 0).mean())


def test_healthy_people_have_hardly_a_bad_second():
    shares = [
        share(read_recording(path, ch_names=TEN_TWENTY, sfreq=SFREQ))
        for path in (*real("eegmat/*.edf"), *real("eeglab-sample/*.edf"))
    ]
    assert max(shares) < 0.01 and np.mean(shares) < 0.004


def test_sleep_of_one_electrode_has_hardly_a_bad_second():
    for path in real("dreams-spindles/excerpt[12468].txt"):
        rate = 100.0 if path.stem == "excerpt1" else 200.0
        options = {"sfreq": rate, "ch_names": ["Cz"], "target_ch_names": ["Cz"], "target_sfreq": SFREQ}
        uv = np.loadtxt(path, skiprows=1, dtype=np.float32)[:, None]
        assert share(recording_from_array(uv, **options)) < 0.001


def test_no_second_about_a_reviewed_discharge_is_bad():
    n = 0
    for path in real("discharges/[gs]*/*.npz"):
        with np.load(path) as arrays:
            options = {"target_ch_names": TEN_TWENTY, "target_sfreq": SFREQ, "ch_names": arrays["ch_names"].tolist()}
            recording = recording_from_array(arrays["eeg_uv"], sfreq=float(arrays["sfreq"]), **options)
            moments = arrays["discharge_seconds"] if "discharge_seconds" in arrays else np.zeros(0)
        found = judge(recording).faults
        for moment in moments.astype(int):
            assert not found[max(moment - 1, 0) : moment + 2].any(), (path.name, moment)
            n += 1
    assert n > 90
