"""Faults: each breaks what its mark says, there and then, and leaves all else; discharges stay visible."""

import numpy as np
import pytest

from data_tools.simulator import faults
from data_tools.simulator.events import Event, measure_levels
from data_tools.simulator.faults import FAULTS, add_faults
from data_tools.simulator.physiology import Range
from siamese_jax.recordings.texts import ied_meaning, stage_of
from siamese_jax.vocabulary import TEN_TWENTY
from tests.data_tools.simulator.scenes import SFREQ, silent_scene


def broken(monkeypatch, fault, *, minutes=20, events=(), seed=0):
    """Noise of 10 uV with one kind of fault: before, after, rows."""
    monkeypatch.setattr(faults, "FAULTS", (fault,))
    monkeypatch.setattr(faults, "PER_MINUTE", Range(1.0, 1.0))
    scene = silent_scene("W", minutes=minutes)
    scene.signals[:] = 10 * np.random.default_rng(5).standard_normal(scene.signals.shape)
    before = scene.signals.copy()
    rows = add_faults(scene, measure_levels(scene), events, np.random.default_rng(seed))
    return before, scene.signals, rows


def stretch(row):
    return slice(round(row.onset_seconds * SFREQ), round((row.onset_seconds + row.duration_seconds) * SFREQ))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.text)
def test_a_fault_breaks_what_its_mark_says_and_nothing_else(monkeypatch, fault):
    before, after, rows = broken(monkeypatch, fault)
    assert len(rows) > 5
    marked = np.zeros(before.shape, bool)
    for row in rows:
        leads = [TEN_TWENTY.index(row.channel)] if row.channel else list(range(19))
        marked[leads, stretch(row)] = True
        assert (after[leads, stretch(row)] != before[leads, stretch(row)]).mean() > 0.9
        assert row.mark().channel == (row.channel or None) and row.family == "artefact"
        assert fault.seconds.low * 0.999 <= row.duration_seconds <= fault.seconds.high * 1.001 or (
            row.onset_seconds + row.duration_seconds == pytest.approx(1200)
        )
    assert (after[~marked] == before[~marked]).all()
    assert (fault.electrodes == "all") == (not rows[0].channel)
    assert ied_meaning(fault.text) == "other" and stage_of(fault.text) is None


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.text)
def test_a_fault_is_what_its_name_says(monkeypatch, fault):
    before, after, rows = broken(monkeypatch, fault, seed=1)
    sizes = []
    for row in rows:
        lead = TEN_TWENTY.index(row.channel or "Cz")
        piece, added = after[lead, stretch(row)], (after - before)[lead, stretch(row)]
        sizes.append(np.abs(added).max())
        if fault.text.endswith("flat"):
            assert np.ptp(piece) == 0
        elif fault.text.endswith("mains") and row.duration_seconds > 3:
            power = np.abs(np.fft.rfft(added)) ** 2
            hz = np.fft.rfftfreq(len(added), 1 / SFREQ)[power.argmax()]
            assert min(abs(hz - 50), abs(hz - 60)) < 1
        elif fault.text.endswith("noise"):
            assert 45 < added.std() < 420
            power = np.abs(np.fft.rfft(added)) ** 2
            assert power[: len(power) // 2].sum() == pytest.approx(power[len(power) // 2 :].sum(), rel=0.3)
        elif fault.text.endswith("step"):
            assert np.abs(added).argmax() < 0.05 * SFREQ  # at once
            assert np.abs(added[len(added) // 2 :]).max() < 0.2 * np.abs(added).max()  # and recovers slowly
            assert np.abs(added[round(0.1 * len(added))]) > 0.4 * np.abs(added).max()
    if fault.text.endswith("lost"):
        assert max(sizes) > 1000  # millivolts
        assert len({row.onset_seconds for row in rows}) < len(rows)  # of several electrodes at once


def test_a_fault_of_many_electrodes_keeps_away_from_discharges(monkeypatch):
    ieds = [Event("IED spike", "ied", 5.0 * i, 0.05, "T3", 80.0, 4.0, "W") for i in range(1, 239)]
    for fault in FAULTS:
        _, _, rows = broken(monkeypatch, fault, events=ieds, seed=2)
        several = {r.onset_seconds for r in rows if [x.onset_seconds for x in rows].count(r.onset_seconds) > 1}
        for row in rows:
            if not row.channel or row.onset_seconds in several:
                end = row.onset_seconds + row.duration_seconds
                assert all(ied.onset_seconds > end + 0.9 or ied.onset_seconds < row.onset_seconds - 0.9 for ied in ieds)
        assert rows or fault.electrodes == "some"
