"""Cohorts: the same bytes, what the files say, resuming, space on the disk, the command."""

import ast
import csv
import datetime
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tyro

from data_tools import simulate
from data_tools.cohort_folder import Unfinished
from data_tools.simulate import SimulationConfig, main, simulate_cohort, simulate_patient
from data_tools.simulator.patients import draw_profile
from data_tools.simulator.recording import SIMULATED
from siamese_jax.cli.console import OK, SOME_FAILED
from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.texts import is_ied, stage_of
from siamese_jax.vocabulary import LEADS_29, STAGES, TEN_TWENTY
from tests.data_tools.simulator.scenes import SFREQ

MINUTE = SimulationConfig(minutes=1)
SHORT = SimulationConfig(minutes=0.5, sfreq=100.0)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# --- bytes --------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    def written(name, seed):
        paths = list(simulate_cohort(tmp_path / name, MINUTE, patients=2, seed=seed))
        assert [path.name for path in paths] == ["SIM0001.edf", "SIM0002.edf"]
        return contents(tmp_path / name)

    first = written("a", 0)
    assert set(first) == {"SIM0001.edf", "SIM0002.edf", "patients.csv", "events.csv", "manifest.csv", "simulation.json"}
    assert written("b", 0) == first
    other = written("c", 1)
    assert all(other[name] != content for name, content in first.items() if name != "manifest.csv")
    assert first["manifest.csv"].split() == [b"file,patient", b"SIM0001.edf,SIM0001", b"SIM0002.edf,SIM0002"]
    assert first["SIM0001.edf"][500_000:] != first["SIM0002.edf"][500_000:]


def test_a_file_says_what_was_simulated(tmp_path):
    (path,) = simulate_cohort(tmp_path, MINUTE, patients=1, ied_free=0.0, seed=5)
    recording = read_recording(path, ch_names=TEN_TWENTY, sfreq=SFREQ)
    assert recording.patient_code == "SIM0001" and recording.present.all()
    assert recording.start_datetime == datetime.datetime(2000, 1, 1)
    rows = list(csv.DictReader((tmp_path / "events.csv").read_text().splitlines()))
    events = [mark for mark in recording.annotations if not stage_of(mark.text) and mark.text != SIMULATED]
    assert len(rows) == len(events) > 3
    for row, mark in zip(rows, events, strict=True):
        assert (row["patient"], row["kind"], row["channel"]) == ("SIM0001", mark.text, mark.channel)
        assert float(row["onset_seconds"]) == pytest.approx(mark.onset_seconds, abs=2e-4)
        assert float(row["duration_seconds"]) == pytest.approx(mark.duration_seconds, abs=2e-4)
        assert row["stage"] in STAGES and float(row["amplitude_uv"]) > 0 and float(row["snr"]) > 0
        assert (row["family"] == "ied") == is_ied(row["kind"]) == bool(row["region"])
    (patient,) = csv.DictReader((tmp_path / "patients.csv").read_text().splitlines())
    assert patient["has_ied"] == "1" and patient["focus"] in TEN_TWENTY
    assert int(patient["n_ied"]) == sum(is_ied(mark.text) for mark in events)
    assert 3 <= float(patient["age_years"]) <= 87 and float(patient["breach_gain"]) >= 1


def test_a_file_holds_the_microvolts_that_were_simulated(tmp_path):
    (path,) = simulate_cohort(tmp_path, MINUTE, patients=1, ied_free=1.0, seed=6)
    profile_seed, seed = np.random.SeedSequence([6, 0]).generate_state(2).tolist()
    expected = simulate_patient(draw_profile("SIM0001", region=None, seed=profile_seed), MINUTE, seed=seed).eeg_uv
    recording = read_recording(path, ch_names=TEN_TWENTY, sfreq=SFREQ)
    read = recording.read(0, 0, len(expected))
    assert np.abs(read - expected).max() <= np.abs(expected).max() / 65534 + 1e-3


def test_a_cohort_of_150_is_140_patients_and_10_without_ieds():
    regions = simulate.draw_regions(150, ied_free=simulate.IED_FREE, rng=np.random.default_rng(0))
    assert regions.count(None) == 10


# --- resuming -----------------------------------------------------------------------------------------------


def test_what_is_finished_is_kept_and_the_tables_are_complete(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    list(simulate_cohort(whole, SHORT, patients=4, seed=3))
    unfinished = simulate_cohort(cut, SHORT, patients=4, seed=3)
    kept = [next(unfinished), next(unfinished)]
    unfinished.close()
    before = [path.stat().st_mtime_ns for path in kept]
    (cut / "SIM0003.edf").write_bytes(b"half a file")
    with (cut / "events.csv").open("a") as file:
        file.write("SIM0003,Spindle,1.0,0.7\n")  # written when the power failed
    paths = list(simulate_cohort(cut, SHORT, patients=4, seed=3))
    assert [path.name for path in paths] == [f"SIM000{i}.edf" for i in (1, 2, 3, 4)]
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert contents(cut) == contents(whole)


def test_a_lost_file_is_made_again(tmp_path):
    list(simulate_cohort(tmp_path, SHORT, patients=3, seed=3))
    before = contents(tmp_path)
    (tmp_path / "SIM0002.edf").unlink()
    list(simulate_cohort(tmp_path, SHORT, patients=3, seed=3))
    assert contents(tmp_path) == before


def test_a_folder_of_other_settings_is_refused_and_left_alone(tmp_path):
    list(simulate_cohort(tmp_path, SHORT, patients=1, seed=3))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="seed 3, now 4"):
        list(simulate_cohort(tmp_path, SHORT, patients=1, seed=4))
    with pytest.raises(ValueError, match=r"sfreq 100.0, now 128.0"):
        list(simulate_cohort(tmp_path, SimulationConfig(minutes=0.5, sfreq=128.0), patients=1, seed=3))
    assert contents(tmp_path) == before
    (tmp_path / "simulation.json").unlink()
    with pytest.raises(ValueError, match="without simulation.json"):
        list(simulate_cohort(tmp_path, SHORT, patients=1, seed=3))


def test_every_module_behind_a_recording_counts_as_the_simulator():
    """`CODE` is simulate.py, cohort_folder.py and simulator/: nothing else of data_tools may be behind a recording."""
    assert simulate.CODE == ("data_tools/simulate.py", "data_tools/cohort_folder.py", "data_tools/simulator")
    here = Path(simulate.__file__)
    for path in (here, *(here.parent / "simulator").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("data_tools"):
                own = node.module.startswith("data_tools.simulator") or node.module in (
                    "data_tools.code_hash",
                    "data_tools.cohort_folder",
                )
                assert own, f"{path.name} imports {node.module}"


def test_settings_without_a_recording_bind_nobody(tmp_path, monkeypatch):
    def broken(*_):
        raise ValueError("no such head")

    with monkeypatch.context() as patch:
        patch.setattr(simulate, "_make", broken)
        with pytest.raises(Unfinished, match="SIM0001: no such head"):
            list(simulate_cohort(tmp_path, SHORT, patients=1, seed=3))
    assert set(contents(tmp_path)) == {"simulation.json", "patients.csv", "events.csv", "manifest.csv"}
    (path,) = simulate_cohort(tmp_path, SHORT, patients=1, seed=4)
    assert path.exists() and '"seed": 4' in (tmp_path / "simulation.json").read_text()
    path.unlink()
    (tmp_path / "patients.csv").unlink()  # stopped before it was written
    assert len(list(simulate_cohort(tmp_path, SHORT, patients=1, seed=5))) == 1


# --- what fails -------------------------------------------------------------------------------------------

_make = simulate._make


def lost_once(out, config, seed, patient):
    """In a worker: dies at the first attempt at the second patient."""
    mark = out.parent / "was lost"
    if patient[0] == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return _make(out, config, seed, patient)


def fails_each_time(out, config, seed, patient):
    if patient[0] == 1:
        raise OSError("stale file handle")
    return _make(out, config, seed, patient)


def test_a_lost_worker_is_replaced_and_the_bytes_are_the_same(tmp_path, monkeypatch):
    list(simulate_cohort(tmp_path / "whole", SHORT, patients=3, seed=4))
    monkeypatch.setattr(simulate, "_make", lost_once)
    said = []
    cohort = simulate_cohort(
        tmp_path / "out", SHORT, patients=3, seed=4, workers=2, on_retry=lambda code, why: said.append((code, why))
    )
    assert sorted(path.name for path in cohort) == ["SIM0001.edf", "SIM0002.edf", "SIM0003.edf"]
    assert ("SIM0002", "its worker was lost") in said
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_what_fails_three_times_costs_its_recording_alone(tmp_path, monkeypatch, capsys):
    command = (tmp_path / "out", "--patients", 3, "--minutes", 0.5, "--sfreq", 100, "--seed", 4)
    with monkeypatch.context() as patch:
        patch.setattr(simulate, "_make", fails_each_time)
        assert run(*command) == SOME_FAILED == 5
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert lines[:2] == ["SIM0002 is tried again: OSError: stale file handle"] * 2
    assert [line for line in lines if line.startswith("error")] == [
        "error: SIM0002: OSError: stale file handle; the others are finished, and the same command tries again"
    ]
    assert "2 simulated recordings of 0.5 min, patients.csv" in said.out
    held = contents(tmp_path / "out")
    assert {name for name in held if name.endswith(".edf")} == {"SIM0001.edf", "SIM0003.edf"}
    assert run(*command) == OK
    assert "3 simulated recordings of 0.5 min, 2 of them kept from before" in capsys.readouterr().out
    list(simulate_cohort(tmp_path / "whole", SHORT, patients=3, seed=4))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_disk_that_fills_on_the_way_ends_the_run(tmp_path, monkeypatch):
    def full(*_):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        tried.append(1)
        raise OSError("no space left on device")

    usage, tried = shutil.disk_usage(tmp_path), []
    monkeypatch.setattr(simulate, "_make", full)
    with pytest.raises(OSError, match="and the disk has 0.00 GB free"):
        list(simulate_cohort(tmp_path, SHORT, patients=5))
    assert len(tried) == 1


# --- the disk -----------------------------------------------------------------------------------------------


def test_too_little_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=30_000_000_000))
    full = SimulationConfig(hours=2, leads=29, sfreq=500.0)
    with pytest.raises(OSError, match=r"150 recordings need 31\.\d\d GB and the disk has 30\.00 GB free"):
        next(simulate_cohort(tmp_path / "deep" / "out", full, patients=150))
    assert not any(tmp_path.iterdir())


def test_room_is_asked_for_what_is_missing_only_and_is_enough(tmp_path, monkeypatch):
    list(simulate_cohort(tmp_path / "a", MINUTE, patients=2, seed=1))
    size = sum(path.stat().st_size for path in (tmp_path / "a").glob("*.edf"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert len(list(simulate_cohort(tmp_path / "a", MINUTE, patients=2, seed=1))) == 2
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=round(0.97 * size)))
    with pytest.raises(OSError, match="2 recordings need"):
        next(simulate_cohort(tmp_path / "b", MINUTE, patients=2, seed=1))


# --- the command --------------------------------------------------------------------------------------------


def run(*arguments):
    return tyro.cli(main, args=[str(argument) for argument in arguments])


def test_the_command_line_writes_a_cohort_and_says_what_it_kept(tmp_path, capsys):
    out = tmp_path / "out"
    command = (out, "--patients", 1, "--minutes", 0.5, "--leads", 29, "--sfreq", 100)
    run(*command)
    assert "1 simulated recordings of 0.5 min, patients.csv" in capsys.readouterr().out
    recording = read_recording(out / "SIM0001.edf", ch_names=LEADS_29, sfreq=100.0)
    assert recording.present.all() and recording.segments[0].n_times == 3000
    run(*command)
    assert "1 simulated recordings of 0.5 min, 1 of them kept from before" in capsys.readouterr().out


def test_a_mistake_on_the_command_line_is_one_sentence(tmp_path):
    with pytest.raises(SystemExit, match="error: patients and workers must be positive"):
        run(tmp_path / "out", "--patients", 0)
    with pytest.raises(SystemExit, match="error: .*recordings need"):
        run(tmp_path / "out", "--patients", 10_000_000, "--hours", 24)
    command = [sys.executable, "-m", "data_tools.simulate", str(tmp_path / "out"), "--sfreq", "99"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and done.stderr == "error: sfreq must be 100 to 2000, given 99.0\n"


@pytest.mark.parametrize(
    ("option", "given", "said"),
    [
        ("compression", 61, "compression must be 1 to 60, given 61.0"),
        ("sfreq", 2001, "sfreq must be 100 to 2000, given 2001.0"),
        ("hours", 24.01, "hours must be 0.00833333 to 24, given 24.01"),
        ("minutes", 1441, "minutes must be 0.5 to 1440, given 1441.0"),
        ("mains_hz", "nan", "mains_hz must be 1 to 400, given nan"),
    ],
)
def test_figures_out_of_bounds_are_refused_before_anything_is_written(tmp_path, option, given, said):
    with pytest.raises(ValueError, match=said):
        run(tmp_path / "out", f"--{option.replace('_', '-')}", given)
    assert not any(tmp_path.iterdir())
    assert SimulationConfig(compression=60, sfreq=2000, hours=24, mains_hz=400).seconds == 86400


def test_impossible_cohorts_and_patients_are_refused(tmp_path):
    with pytest.raises(ValueError, match="patients"):
        next(simulate_cohort(tmp_path, MINUTE, patients=0))
    with pytest.raises(ValueError, match="workers"):
        next(simulate_cohort(tmp_path, MINUTE, workers=0))
    with pytest.raises(ValueError, match="ied_free"):
        next(simulate_cohort(tmp_path, MINUTE, ied_free=1.5))
    with pytest.raises(ValueError, match="seed"):
        next(simulate_cohort(tmp_path, MINUTE, seed=-1))
    assert not any(tmp_path.iterdir())
    with pytest.raises(ValueError, match="parietal"):
        draw_profile("SIM0001", region="parietal", seed=0)
