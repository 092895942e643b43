"""The recordings that the simulator's page compares, as they are read and made."""

import numpy as np
import pytest

from experiments.runner import Runner
from experiments.simulator import data as simulator_data
from experiments.simulator.data import (
    SHARED_ELECTRODES,
    UNKNOWN,
    Night,
    at_rate,
    dreams_night,
    eeglab_channels,
    not_clipped,
    simulated,
    simulated_channels,
    simulated_night,
)
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.recordings.recording import Annotation
from tests.data_tools.excerpts import write_excerpt


def test_an_excerpt_keeps_its_rate_its_stages_and_who_marked_what(tmp_path):
    samples = np.random.default_rng(0).normal(0, 30, 140 * 200)
    samples[1000] = 327.9
    write_excerpt(
        tmp_path, 2, channel="CZ-A1", samples=samples, spindles={1: [(45.0, 0.7)], 2: [(44.9, 1.0), (50.0, 1.0)]}
    )
    night = dreams_night(tmp_path, 2)
    assert (night.ch_name, night.sfreq, night.is_real, len(night.stages)) == ("Cz-A1", 200.0, True, 140)
    assert night.spindles == {"expert 1": [(45.0, 0.7)], "expert 2": [(44.9, 0.0), (50.0, 0.0)]}
    assert night.stages[::20].tolist() == [0, 1, 2, 3, 3, 4, UNKNOWN]
    whole = not_clipped(night)
    assert whole[5] == UNKNOWN and (np.delete(whole, 5) == np.delete(night.stages, 5)).all()
    assert (not_clipped(night._replace(is_real=False)) == night.stages).all()  # no recorder saturates there


def test_another_rate_keeps_the_signal():
    t = np.arange(0, 20, 1 / 200)
    night = Night(
        "x",
        is_real=False,
        ch_name="Cz-A1",
        sfreq=200.0,
        eeg_uv=np.sin(6 * np.pi * t),
        stages=np.zeros(20, int),
        spindles={},
    )
    slower = at_rate(night, 100.0)
    assert slower.sfreq == 100.0 and len(slower.eeg_uv) == 2000
    np.testing.assert_allclose(slower.eeg_uv[200:-200], night.eeg_uv[::2][200:-200], atol=0.003)
    assert at_rate(night, 200.0) is night


def test_a_derivation_is_a_difference_and_channels_are_as_recorded(tmp_path):
    rng = np.random.default_rng(0)
    eeg = rng.normal(0, 30, (200 * 60, 3))
    marks = (
        Annotation(0.0, 60.0, "Sleep stage N2"),
        Annotation(7.0, 1.5, "Spindle", "Cz"),
        Annotation(9.0, 1.0, "K-complex"),
    )
    write_recording(tmp_path / "a.edf", eeg, sfreq=200.0, ch_names=("Cz", "A1", "Fz"), annotations=marks)
    night = simulated_night(tmp_path / "a.edf", "Cz-A1", 200.0)
    np.testing.assert_allclose(night.eeg_uv, eeg[:, 0] - eeg[:, 1], atol=0.02)
    assert not night.is_real and night.spindles == {"simulator": [(7.0, 1.5)]} and (night.stages == 2).all()
    found, stages = simulated_channels(tmp_path / "a.edf", ("Fz", "Cz"), 200.0)
    np.testing.assert_allclose(found, eeg[:, [2, 0]], atol=0.01)
    assert len(stages) == 60


def test_each_half_of_the_sample_is_the_other_half_to_the_other(tmp_path):
    eeg = np.random.default_rng(0).normal(0, 10, (128 * 20, len(SHARED_ELECTRODES)))
    write_recording(tmp_path / "e.edf", eeg, sfreq=128.0, ch_names=SHARED_ELECTRODES, annotations=())
    first, rate = eeglab_channels(tmp_path / "e.edf", half=0)
    second, _ = eeglab_channels(tmp_path / "e.edf", half=1)
    assert rate == 128.0
    np.testing.assert_allclose(np.concatenate([first, second]), eeg, atol=0.01)
    write_recording(tmp_path / "f.edf", eeg[:, 1:], sfreq=128.0, ch_names=SHARED_ELECTRODES[1:], annotations=())
    with pytest.raises(ValueError, match=r"f.edf lacks F3"):
        eeglab_channels(tmp_path / "f.edf", half=0)


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """Of a data_tools whose simulator writes one line and no recording, and notes its calls."""
    (tmp_path / "data_tools").mkdir()
    (tmp_path / "data_tools" / "__init__.py").touch()
    (tmp_path / "data_tools" / "simulate.py").write_text(
        "import pathlib, sys\n"
        "out = pathlib.Path(sys.argv[1]); out.mkdir(parents=True)\n"
        "if '--bad' in sys.argv: sys.exit(3)\n"
        "(out / 'events.csv').write_text('patient,kind\\nSIM0001,Spindle\\n')\n"
        "with open('calls', 'a') as file: file.write(' '.join(sys.argv[2:]) + '\\n')\n"
    )
    monkeypatch.setattr(simulator_data, "ROOT", tmp_path)
    return Runner(tmp_path / "work")


def test_a_cohort_is_simulated_once(tmp_path, runner):
    def calls():
        return (tmp_path / "calls").read_text().splitlines()

    cohort = simulated(runner, "--patients 1")
    assert cohort.command == "python -m data_tools.simulate OUT --patients 1"
    assert cohort.events() == [{"patient": "SIM0001", "kind": "Spindle"}] and cohort.paths == []
    assert cohort.cost["wall_seconds"] > 0 and cohort.cost["hours"] == cohort.cost["bytes"] == 0
    assert simulated(runner, "--patients 1") == cohort and calls() == ["--patients 1"]
    assert simulated(runner, "--patients 2").folder != cohort.folder and calls()[1:] == ["--patients 2"]


def test_a_simulator_that_fails_is_named(tmp_path, runner):
    for _ in range(2):  # a second call simulates again
        with pytest.raises(ValueError, match=r"`python -m data_tools.simulate OUT --bad` failed with status"):
            simulated(runner, "--bad")
