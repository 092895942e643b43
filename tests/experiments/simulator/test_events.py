"""Events compared with their ranges: what is measured is what was simulated."""

import math

import numpy as np
import pytest

from experiments.simulator import events
from experiments.simulator.events import Placed, expected, summarise

RATE = 200.0
T = np.arange(0, 60, 1 / RATE)


def gauss(centre: float, width: float) -> np.ndarray:
    return np.exp(-0.5 * ((T - centre) / width) ** 2)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("IED spike", "IED spike"),
        ("IED spike-and-wave", "IED spike-and-wave"),
        ("Spindle", "Spindle"),
        ("Vertex wave", "Vertex"),
        ("14-and-6 Hz positive bursts", "14"),
        ("6-Hz phantom", "6"),
        ("Artefact blink", None),
        ("Sharply contoured wave", None),
    ],
)
def test_a_kind_is_known_by_its_beginning(text, kind):
    found = expected(text)
    assert (found.kind if found else None) == kind


def test_verdicts():
    assert summarise([1, 2, 3, 4, 99], (0, 5)).verdict == "yes"
    assert summarise([1, 2, 3, 98, 99], (0, 5)).verdict == "mostly"
    assert summarise([1, 2, 97, 98, 99], (0, 5)).verdict == "no"
    assert summarise([1, 2], None)[3:] == (None, "no range")
    assert summarise([100, 1e6], (100, math.inf)).verdict == "yes"
    with pytest.raises(ValueError, match="nothing to summarise"):
        summarise([], (0, 5))


def test_an_event_is_measured_at_its_electrode_and_the_way_it_points():
    eeg = np.zeros((len(T), 2))
    eeg[:, 1] = -80 * gauss(20.0, 0.012) + 120 * gauss(20.2, 0.02)
    found = events.measure(eeg, RATE, ("Fz", "T3"), [Placed("IED spike", 19.8, 0.6, "T3", 80, "N2")])
    assert found["amplitude_uv"][0] == pytest.approx(80, rel=0.03)
    assert found["wave_seconds"][0] == pytest.approx(2 * 0.012 * (2 * np.log(10)) ** 0.5, rel=0.1)
    assert found["hz"] == []
    nowhere = [Placed("IED spike", 19.8, 0.6, "ECG1", 80, "N2"), Placed("IED spike", 0.1, 0.6, "T3", 80, "N2")]
    assert not any(events.measure(eeg, RATE, ("Fz", "T3"), nowhere).values())


def test_a_spindle_is_measured_in_its_own_band():
    eeg = (30 * gauss(20, 0.3) * np.sin(2 * np.pi * 13 * T) + 60 * np.sin(2 * np.pi * 0.8 * T))[:, None]
    found = events.measure(eeg, RATE, ("Cz",), [Placed("Spindle", 19.2, 1.6, "Cz", 30, "N2")])
    assert found["amplitude_uv"][0] == pytest.approx(30, rel=0.06)
    assert found["hz"][0] == pytest.approx(13, abs=0.1)


def test_a_frequency_needs_two_periods():
    eeg = (50 * np.sin(2 * np.pi * 9 * T))[:, None]
    short, long = Placed("Wicket", 20, 0.15, "T3", 50, "N1"), Placed("Wicket", 30, 1.0, "T3", 50, "N1")
    found = events.measure(eeg, RATE, ("T3",), [short, long])
    assert len(found["amplitude_uv"]) == 2 and found["hz"] == pytest.approx([9], abs=0.2)


def test_elsewhere_is_the_same_stage_and_nobody_is_there():
    stages = np.array([0] * 30 + [2] * 30)
    taken = [Placed("Spindle", 35.0, 10.0, "Cz", 1, "N2"), Placed("K-complex", 50.0, 1.0, "Cz", 1, "N2")]
    rng = np.random.default_rng(0)
    found = events.elsewhere(taken[:1] * 0 + [taken[1]] * 40, taken, stages, ("W", "N1", "N2"), rng)
    assert len(found) > 30
    for one in found:
        assert 30 <= one.onset and one.onset + 1 <= 60
        assert one.onset + 1 <= 35 or one.onset >= 45
        assert one.onset + 1 <= 50 or one.onset >= 51
    assert events.elsewhere([taken[0]], taken, stages[:40], ("W", "N1", "N2"), rng) == []  # ten free seconds: nowhere


def test_the_mean_discharge_has_its_rise_fall_and_after_wave():
    rng = np.random.default_rng(0)
    peaks = np.arange(2.0, 58.0, 2.0)
    channel = np.zeros(len(T))
    for peak in peaks:
        t = T - peak
        sharp = np.where(t < 0, np.maximum(1 + t / 0.020, 0), np.maximum(1 - t / 0.040, 0))
        after = np.where((t > 0.1) & (t < 0.4), np.sin(np.pi * (t - 0.1) / 0.3), 0)
        channel -= 100 * sharp + 60 * after
    found = events.mean_discharge(
        channel + rng.normal(0, 10, len(T)), RATE, (peaks + rng.uniform(-0.01, 0.01, 28)).tolist()
    )
    assert found.rise_seconds == pytest.approx(0.018, abs=0.004)
    assert found.fall_seconds == pytest.approx(0.036, abs=0.005)
    assert found.after_wave_gain == pytest.approx(0.6, abs=0.08)
    assert events.mean_discharge(channel, RATE, peaks[:9].tolist()) is None


def test_windows_with_a_discharge_are_counted_once_and_by_state():
    stages = np.array([0] * 8 + [2] * 8 + [0, 0, 2, 2] + [-1] * 4)
    at = [Placed("IED spike", onset, 0.1, "T3", 1, "W") for onset in (1.0, 3.0, 13.0, 17.0, 21.0, 99.0)]
    assert events.windows_with(at, stages).tolist() == [[2, 1], [2, 1]]


def test_the_table_says_what_is_in_range_and_what_has_none():
    lists = {
        "put_in_uv": [100.0],
        "amplitude_uv": [180.0],
        "background_uv": [40.0],
        "seconds": [0.3],
        "wave_seconds": [0.1],
    }
    found = events.table({"K-complex": {**lists, "hz": []}, "Artefact pop": {**lists, "hz": [], "background_uv": []}})
    assert found["K-complex"]["amplitude_uv"]["verdict"] == "yes" and found["K-complex"]["seconds"]["verdict"] == "no"
    assert "wave_seconds" not in found["K-complex"] and found["K-complex"]["background_uv"] == 40
    assert found["Artefact pop"]["source"] == "no published range" and "hz" not in found["Artefact pop"]
    assert len(events.spread([Placed("x", float(i), 1, "Cz", 1, "W") for i in range(1000)], 10)) == 10
