"""What a user calls: `siamese_jax` as `sj`, from arrays and MNE's objects to tables and files."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import siamese_jax as sj
from siamese_jax import checkpoints
from siamese_jax.cli.main import command
from siamese_jax.config.sections import ConverterConfig, DataConfig, ModelConfig, PreprocessConfig
from siamese_jax.pipeline import initialise
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.vocabulary import IED, SLEEP, TaskSpec
from tests.identities import learnt_from

NAMES, RATE = ("C3", "C4", "Cz"), 100.0
SPINDLE = TaskSpec("spindle", "binary", ("none", "spindle"))
CONFIG = dataclasses.replace(
    sj.SMALL,
    data=DataConfig(ch_names=NAMES, sfreq=RATE, window_seconds=2.0),
    preprocess=PreprocessConfig(eeg_band_hz=(0.5, 40.0), filter_half_seconds=1.0, mains_hz=None),
    converter=ConverterConfig(band_hz=(0.0, 40.0)),
    model=ModelConfig(width=0.25, dilations=(1, 1, 1)),
)


def model_of(*tasks: TaskSpec, folder: Path | None = None) -> sj.Checkpoint:
    """A model with random parameters; loaded from a folder if one is given."""
    names = tuple(task.name for task in tasks)
    fusion = "concat" if SLEEP in tasks else "none"
    config = dataclasses.replace(CONFIG, tasks=names, model=dataclasses.replace(CONFIG.model, fusion=fusion))
    variables = initialise(config, tasks, jax.random.key(0))
    made = checkpoints.Checkpoint(config, tasks, variables, 7, learnt_from("nothing"))
    if folder is None:
        return made
    checkpoints.write(folder, made)
    return sj.load(folder)


def signal(seconds: float = 70.0, *, seed: int = 0) -> np.ndarray:
    """[time, channel] in microvolts."""
    return np.random.default_rng(seed).normal(0, 20, (round(seconds * RATE), len(NAMES))).astype(np.float32)


def raw_of(eeg_uv: np.ndarray, names=NAMES):
    mne = pytest.importorskip("mne", reason="MNE is not installed")
    return mne.io.RawArray(eeg_uv.T * 1e-6, mne.create_info(list(names), RATE, "eeg"), verbose="error")


def test_the_version_and_the_names_are_there_without_jax():
    program = (
        "import sys, siamese_jax as sj\n"
        "assert set(sj.__all__) == set(dir(sj)) and sj.__version__ and 'jax' not in sys.modules\n"
        "assert 'pandas' not in sys.modules and 'mne' not in sys.modules\n"
        "for name in sj.__all__: getattr(sj, name)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(sj.__file__).with_name("py.typed").exists()


def test_types_are_those_of_the_names():
    # Type checkers read the imports, Python the table: both name the same things from the same places.
    text = Path(sj.__file__).read_text()
    for name, module in sj._HOME.items():
        assert f"    from {module} import {name} as {name}\n" in text
    assert text.count(" as ") == len(sj._HOME)


def test_a_run_a_text_and_a_name_are_loaded(tmp_path):
    model_of(IED, folder=tmp_path / "run" / "checkpoint")
    assert sj.load(str(tmp_path / "run")).folder == tmp_path / "run" / "checkpoint"
    assert sj.load("ied").config == sj.load().config
    with pytest.raises(ValueError, match=r"nowhere: no such folder, and no model of the package"):
        sj.load("nowhere")


def test_an_array_gives_tables_and_the_files_of_the_command(tmp_path):
    found = sj.detect(model_of(IED, SLEEP), signal(), sfreq=RATE, ch_names=NAMES, threshold=0.05)
    assert len(found.events) == len(found.detections.events) > 0 and len(found.hypnogram) == 2
    assert list(found.events.peak) == [event.peak_seconds for event in found.detections.events]
    assert set(found.events.label) == {"IED"} and set(found.hypnogram.stage) <= set(SLEEP.classes)
    counts = found.counts()
    assert counts.iloc[-1].stage == "all" and counts.iloc[-1].events == len(found.events)
    written = found.save(tmp_path / "out")
    header = written.events.read_text().splitlines()[0]
    assert header == ",".join(found.events.columns) and written.copy is None and written.notes == ()
    assert len(written.events.read_text().splitlines()) == 1 + len(found.events)


def test_axes_and_names_of_an_array_are_checked():
    model = model_of(IED)
    with pytest.raises(ValueError, match=r"must be \[time, channel\] in microvolts with 3 channels, given \(3, 7000\)"):
        sj.detect(model, signal().T, sfreq=RATE, ch_names=NAMES)
    with pytest.raises(ValueError, match="an array needs sfreq= and ch_names="):
        sj.detect(model, signal())
    with pytest.raises(ValueError, match="detect takes a path, .* not list"):
        sj.detect(model, [[0.0]], sfreq=RATE, ch_names=NAMES)


def test_a_raw_gives_what_its_microvolts_give():
    model, eeg_uv = model_of(IED, SLEEP), signal()
    of_array = sj.detect(model, eeg_uv, sfreq=RATE, ch_names=NAMES, threshold=0.05)
    of_raw = sj.detect(model, raw_of(eeg_uv), threshold=0.05)
    assert len(of_raw.events) == len(of_array.events)
    np.testing.assert_allclose(of_raw.events.probability, of_array.events.probability, atol=1e-4)
    np.testing.assert_allclose(of_raw.events.amplitude_uv, of_array.events.amplitude_uv, rtol=1e-3)


def test_bad_channels_are_absent_and_bad_stretches_gaps():
    model, raw = model_of(IED), raw_of(signal())
    raw.info["bads"] = ["C4"]
    raw.annotations.append(20.0, 10.0, "BAD_movement")
    found = sj.detect(model, raw, threshold=0.02)
    assert found.provenance["settings"]["exclude"] == ["C4"] and "C4" not in set(found.events.channel)
    ends = [(s.onset_seconds, s.onset_seconds + s.n_times / RATE) for s in found.recording.segments]
    assert ends == [(0.0, 20.0), (30.0, 70.0)] and found.detections.analysed_seconds == 60.0
    assert not ((found.events.peak > 20) & (found.events.peak < 30)).any()
    eeg = signal()
    np.testing.assert_allclose(found.recording.read(1, 0, 100), eeg[3000:3100], rtol=1e-5)


def test_a_near_electrode_stands_in_when_asked_wherever_the_signal_comes_from(tmp_path):
    model, eeg_uv, names = model_of(IED, folder=tmp_path / "model"), signal(), ("FC5", "C4", "Cz")
    straight = sj.detect(model, eeg_uv, sfreq=RATE, ch_names=NAMES, threshold=0.02).events
    of_array = sj.detect(model, eeg_uv, sfreq=RATE, ch_names=names, threshold=0.02, nearest=True)
    np.testing.assert_allclose(of_array.events.probability, straight.probability, atol=1e-6)
    assert of_array.recording.report.used["C3"] == "FC5"
    assert len(sj.detect(model, raw_of(eeg_uv, names), threshold=0.02, nearest=True).events) == len(straight)
    bad = raw_of(eeg_uv, names)
    bad.info["bads"] = ["FC5"]
    assert "C3" in sj.detect(model, bad, threshold=0.02, nearest=True).recording.report.missing

    path = tmp_path / "a.edf"
    write_recording(path, eeg_uv, sfreq=RATE, ch_names=names)
    options = ["detect", str(path), "--checkpoint", str(tmp_path / "model"), "--threshold", "0.02"]
    run = tmp_path / "out" / "a_run.json"
    assert command([*options, "--nearest", "--out", str(run.parent)]) == 0
    record = json.loads(run.read_text())
    assert record["channels_used"]["C3"] == "EEG FC5-Ref" and record["settings"]["nearest"] is True
    assert command([*options, "--out", str(run.parent)]) == 0  # other settings: it is done again
    assert json.loads(run.read_text())["channels_missing"] == ["C3"]


def test_found_events_become_annotations_of_the_raw():
    raw = raw_of(signal())
    found = sj.detect(model_of(IED, SLEEP), raw, threshold=0.05)
    raw.set_annotations(found.to_mne())
    assert sum(text.startswith("IED p=") for text in raw.annotations.description) == len(found.events)
    first = found.events.iloc[0]
    mark = next(m for m in raw.annotations if m["description"].startswith("IED"))
    assert mark["onset"] == pytest.approx(first.onset) and mark["ch_names"] == (first.channel,)


def test_another_task_of_events_is_found_under_its_name(tmp_path):
    model = model_of(SPINDLE, SLEEP, folder=tmp_path / "model")
    found = sj.detect(model, signal(), sfreq=RATE, ch_names=NAMES, threshold=0.05)
    assert set(found.events.label) == {"spindle"}
    assert found.save(tmp_path / "out").events.read_text().splitlines()[1].split(",")[2] == "spindle"
    with pytest.raises(ValueError, match="no task of events 'ied': there are spindle"):
        sj.detect(model, signal(), sfreq=RATE, ch_names=NAMES, task="ied")


def test_a_model_of_stages_alone_gives_the_hypnogram(tmp_path):
    model = model_of(SLEEP, folder=tmp_path / "model")
    found = sj.detect(model, signal(), sfreq=RATE, ch_names=NAMES)
    assert len(found.events) == 0 and len(found.hypnogram) == 2
    assert found.save(tmp_path / "out").hypnogram.exists()
    with pytest.raises(ValueError, match="knows stages and no events: it takes no threshold"):
        sj.detect(model, signal(), sfreq=RATE, ch_names=NAMES, threshold=0.5)


def test_the_committed_sleep_models_detect():
    folder = Path(__file__).parents[1] / "experiments" / "results" / "sleep" / "model" / "0"
    model = sj.load(folder)
    found = sj.detect(model, signal()[:, :1], sfreq=RATE, ch_names=("Cz",), threshold=0.2)
    assert len(found.hypnogram) == 2


def test_an_own_network_is_trained_saved_loaded_and_used(tmp_path, monkeypatch):
    from examples import own_network

    found = own_network.main(tmp_path)
    assert "examples.own_network:Spectrum" in (tmp_path / "run" / "checkpoint" / "config.json").read_text()
    inside = (found.events.peak > 19) & (found.events.peak < 41)
    assert len(found.events) > 2 and inside.all()
    # Nobody's checkpoint decides which code runs: a module that was not imported is refused.
    monkeypatch.delitem(sys.modules, "examples.own_network")
    with pytest.raises(ValueError, match="examples.own_network is not imported. Import it first"):
        sj.load(tmp_path / "run")
    monkeypatch.setenv("SIAMESE_JAX_IMPORT", "examples.own_network")
    assert sj.load(tmp_path / "run").step == 60


def test_a_preset_takes_what_the_shards_have(tmp_path):
    epochs = np.random.default_rng(0).normal(0, 10, (12, 400, 2))
    sj.shards_from_arrays(
        tmp_path, epochs, np.arange(12) % 2, np.arange(12) // 2, task="alpha", sfreq=200, ch_names=["Fz", "F7"]
    )
    config = sj.config_for(tmp_path, "small", steps=7, warmup_steps=1)
    assert config.data == DataConfig(ch_names=("Fz", "F7"), sfreq=200.0, window_seconds=2.0)
    assert (config.tasks, config.model.fusion, config.training.flip) == (("alpha",), "none", 0.0)
    assert config.training.steps == 7
    with pytest.raises(ValueError, match="no preset 'large': there are small, paper"):
        sj.config_for(tmp_path, "large")
