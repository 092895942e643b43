"""All commands from EDFs to an annotated EDF, as a user gives them: commands in, sentences and files out."""

import csv
import dataclasses
import json
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import edfio
import numpy as np
import pytest

import siamese_jax
from data_tools.simulate import SimulationConfig, simulate_cohort
from siamese_jax import checkpoints, weights
from siamese_jax.cli import console
from siamese_jax.cli import main as cli
from siamese_jax.cli.main import command
from siamese_jax.cli.recordings import ShardOptions
from siamese_jax.config.presets import SMALL
from siamese_jax.detection import score as evaluation
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.recordings.recording import Annotation
from siamese_jax.shards.schema import open_shards
from siamese_jax.vocabulary import STATE, TEN_TWENTY
from tests.recordings.edf_bytes import Signal, edf_bytes, stamp

DATA = Path(__file__).parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real recordings is not here")
TINY = dataclasses.replace(
    SMALL,
    model=dataclasses.replace(SMALL.model, width=0.34, dilations=(1, 1, 1), shared_stages=1),
    training=dataclasses.replace(
        SMALL.training, steps=4, warmup_steps=1, batch_size=8, evaluate_every=4, checkpoint_every=4
    ),
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """Recordings, shards and a trained, evaluated checkpoint."""
    root = tmp_path_factory.mktemp("demo")
    simulation = SimulationConfig(minutes=1.5, compression=20.0)
    list(simulate_cohort(root / "recordings", simulation, patients=8, ied_free=0.0, seed=5))
    assert cli.prepare(root / "recordings", root / "shards") == console.OK
    assert cli.train(root / "shards", root / "run", TINY, devices=2) == console.OK
    assert cli.fix_thresholds(root / "run" / "checkpoint", root / "shards") == console.OK
    assert cli.evaluate(root / "run" / "checkpoint", root / "shards") == console.OK
    return root


def with_gap(source: Path, path: Path, *, after_records: int, gap_seconds: int) -> Path:
    """The recording as an EDF+D that paused; records of `source` last 1 s."""
    edf = edfio.read_edf(source)
    assert edf.data_record_duration == 1
    signals = [
        Signal(s.label, s.digital.reshape(edf.num_data_records, -1), physical=tuple(f"{v:g}" for v in s.physical_range))
        for s in edf.signals
    ]
    onsets = [i + gap_seconds * (i >= after_records) for i in range(edf.num_data_records)]
    path.write_bytes(edf_bytes(signals, reserved="EDF+D", lists=[stamp(f"+{onset}") for onset in onsets]))
    return path


def as_row(annotation) -> tuple[float, float, str]:
    return round(annotation.onset, 4), round(annotation.duration or 0, 4), annotation.text


def run(*arguments: str | Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from siamese_jax.cli.main import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_metrics_hold_every_figure_with_its_interval(demo):
    figures = json.loads((demo / "run" / "metrics.json").read_text())
    ied, sleep = figures["ied"], figures["sleep"]
    assert 0 < ied["prevalence"] < 1
    for item in (ied["auroc"], ied["auprc"], sleep["accuracy"], sleep["kappa"], sleep["macro_f1"]):
        assert item["n_patients"] == figures["patients"] and item["n_resamples"] == 1000
        assert item["low"] is None or item["low"] <= item["value"] <= item["high"]
    for name in ("max_f1", "sensitivity_0.8", "sensitivity_0.8211"):
        assert set(ied[name]) == {"threshold", "positives", "sensitivity", "precision", "specificity", "f1"}
    assert set(ied["events_max_f1"]) > {"sensitivity", "precision", "f1", "false_detections_per_hour", "hours"}
    points = json.loads((demo / "run" / "checkpoint" / "operating_points.json").read_text())["points"]
    by_name = {point["criterion"]: point["threshold"] for point in points if point["task"] == "ied"}
    assert by_name["max_f1"] == ied["max_f1"]["threshold"]


def test_thresholds_are_fixed_on_validation_patients_and_figures_are_of_test_patients(demo, tmp_path, monkeypatch):
    used = {}
    monkeypatch.setattr(evaluation, "score", lambda c, t, v, shards, on_progress: {s.path.parent.name for s in shards})
    monkeypatch.setattr(evaluation, "fix_operating_points", lambda c, t, scores: used.update(thresholds=scores) or ())
    monkeypatch.setattr(evaluation, "report", lambda c, t, scores, points: used.update(figures=scores) or {})
    monkeypatch.setattr(evaluation, "report_text", lambda figures: "")
    shutil.copytree(demo / "run" / "checkpoint", tmp_path / "checkpoint")
    assert cli.fix_thresholds(tmp_path / "checkpoint", demo / "shards") == console.OK
    assert cli.evaluate(tmp_path / "checkpoint", demo / "shards") == console.OK
    assert used == {"thresholds": {"validation"}, "figures": {"test"}}


def test_shards_whose_preparation_did_not_finish_are_refused(demo, tmp_path):
    shutil.copytree(demo / "shards", tmp_path / "shards")
    report = tmp_path / "shards" / "prepare.json"
    report.write_text(json.dumps(json.loads(report.read_text()) | {"finished": False}))
    checkpoint = demo / "run" / "checkpoint"
    for work in (
        lambda: cli.evaluate(checkpoint, tmp_path / "shards"),
        lambda: cli.evaluate(checkpoint, tmp_path / "shards", split="all"),
        lambda: cli.fix_thresholds(checkpoint, tmp_path / "shards"),
        lambda: cli.train(tmp_path / "shards", tmp_path / "run", TINY),
    ):
        with pytest.raises(ValueError, match="preparing it was not finished: run it again, and it resumes"):
            work()


def test_detecting_in_a_recording_that_the_model_learnt_from_is_warned_of(demo, tmp_path, capsys):
    """In what is printed, in the run record and in the summary; not in a recording of another patient."""
    learnt, new = (
        demo / "recordings" / str(open_shards(demo / "shards" / split)[0].recordings["name"][0])
        for split in ("train", "test")
    )
    options = {"checkpoint": demo / "run" / "checkpoint", "out": tmp_path}
    for source, warned in ((learnt, True), (new, False)):
        assert cli.detect((source,), **options) == console.OK
        assert ("note      the model learnt from this recording" in capsys.readouterr().out) == warned
        warnings = json.loads((tmp_path / f"{source.stem}_run.json").read_text())["warnings"]
        assert any(text.startswith("the model learnt from") for text in warnings) == warned
    cli.detect((learnt, new), **options)
    rows = (tmp_path / "summary.csv").read_text().splitlines()
    assert [learnt.name in row for row in rows] == ["the model learnt from" in row for row in rows]


def test_detection_writes_events_stages_and_an_annotated_copy(demo, tmp_path, capsys):
    source = demo / "recordings" / "SIM0001.edf"
    code = cli.detect((source,), checkpoint=demo / "run" / "checkpoint", out=tmp_path, threshold=0.05, copy=True)
    said = capsys.readouterr().out
    assert code == console.OK
    assert "channels  19 of 19 used" in said and "IEDs in 1 min 30 s analysed of 1 min 30 s" in said
    assert "Research use only" in said
    with (tmp_path / "SIM0001_events.csv").open(newline="") as file:
        events = list(csv.DictReader(file))
    assert events, "a threshold this low should find something"
    run_record = json.loads((tmp_path / "SIM0001_run.json").read_text())
    assert run_record["threshold"] == 0.05 and run_record["events_by_stage"][-1]["events"] == len(events)

    original, copy = (edfio.read_edf(path) for path in (source, tmp_path / "SIM0001_annotated.edf"))
    for before, after in zip(original.signals, copy.signals, strict=True):
        np.testing.assert_array_equal(before.digital, after.digital)
    alone = edfio.read_edf(tmp_path / "SIM0001_detected.edf")
    # In the copy a channel goes by the label that the file itself gives it.
    labelled = [(*as_row(a)[:2], re.sub("@@(.*)", r"@@EEG \1-Ref", a.text)) for a in alone.annotations]
    expected = [*map(as_row, original.annotations), *labelled]
    assert sorted(map(as_row, copy.annotations)) == sorted(expected)
    ied = [a for a in alone.annotations if a.text.startswith("IED p=")]
    # EDF+ orders by onset, the table by peak.
    assert [f"{a.onset:.3f}" for a in ied] == sorted((row["onset"] for row in events), key=float)
    stages = [a.text for a in alone.annotations if a.text.startswith("Sleep stage")]
    assert len(stages) == 3 and set(stages) <= {f"Sleep stage {s}" for s in ("W", "N1", "N2", "N3", "R")}


def test_export_says_what_it_wrote_and_a_bundle_detects_what_its_checkpoint_detects(demo, tmp_path, capsys):
    assert cli.export(demo / "run" / "checkpoint", tmp_path / "bundle") == console.OK
    said = capsys.readouterr().out
    for pattern in (
        r"^model     .*checkpoint, step 4, trained on: ",
        r"^ +\d+\.\d s  running model\.stablehlo in a fresh process$",
        r"^ +[\d,]+ kB  parameters\.safetensors$",
        r"^verified  model\.stablehlo: log-odds differ from forward's by at most frame/ied \d\.\de-\d\d, ",
        r"^wrote     .*bundle, in \d+ s$",
        r"^Research use only",
    ):
        assert re.search(pattern, said, re.MULTILINE), pattern
    card = (tmp_path / "bundle" / "README.md").read_text()
    auroc = json.loads((demo / "run" / "metrics.json").read_text())["ied"]["auroc"]["value"]
    assert f"| ied, auroc | {auroc:.3f} |" in card

    source = demo / "recordings" / "SIM0001.edf"
    # Programs are not looked at: these bytes are none.
    (tmp_path / "bundle" / "model.stablehlo").write_bytes(b"not a program")
    with pytest.raises(ValueError, match="is an exported bundle.*fix those of the checkpoint that it came from"):
        cli.fix_thresholds(tmp_path / "bundle", demo / "shards")
    folders = (("a", demo / "run" / "checkpoint"), ("b", tmp_path / "bundle"))
    for name, folder in folders:
        assert cli.detect((source,), checkpoint=folder, out=tmp_path / name, threshold=0.05) == console.OK
    for name in ("SIM0001_events.csv", "SIM0001_hypnogram.csv"):
        events = (tmp_path / "a" / name).read_text()
        assert events == (tmp_path / "b" / name).read_text() and len(events.splitlines()) > 1
    for name, folder in folders:  # without --threshold: the operating points came along
        cli.detect((source,), checkpoint=folder, out=tmp_path / name)
    thresholds = [json.loads((tmp_path / n / "SIM0001_run.json").read_text())["threshold"] for n in ("a", "b")]
    assert thresholds[0] == thresholds[1] != 0.05


def test_mistakes_at_export_are_one_sentence_before_any_work(demo, tmp_path):
    checkpoint = demo / "run" / "checkpoint"
    result = run("export", tmp_path, tmp_path / "out")
    assert (result.returncode, result.stdout) == (console.NOT_ANALYSED, "")
    assert result.stderr == f"error: {tmp_path} is not a checkpoint: it has no config.json\n"
    result = run("export", checkpoint, demo)
    assert result.returncode == console.NOT_ANALYSED
    assert result.stderr == f"error: {demo} is there already: an export goes into a folder of its own\n"
    assert not (tmp_path / "out").exists()


@pytest.fixture
def shipped(demo, tmp_path, monkeypatch) -> Path:
    """The demo's checkpoint in the place of the model that comes with the package, with a threshold for a rate."""
    monkeypatch.setattr(weights, "HOME", tmp_path / "home")
    folder = tmp_path / "home/ied"
    shutil.copytree(demo / "run/checkpoint", folder, ignore=shutil.ignore_patterns("state"))
    fixed = checkpoints.read_thresholds(folder)
    rate = {"threshold": 0.3, "false_per_hour": 8.5, "false_per_hour_limit": 11.0, "hours": 2.0}
    point = dataclasses.replace(fixed.points[-1], task="ied", criterion="events_10_per_hour", **rate)
    checkpoints.write_thresholds(folder, dataclasses.replace(fixed, points=(*fixed.points, point)))
    return folder


def test_detect_without_a_checkpoint_takes_the_model_of_the_package(demo, shipped, tmp_path, capsys):
    source = demo / "recordings" / "SIM0001.edf"
    assert command(["detect", str(source), "--out", str(tmp_path / "a"), "--threshold", "0.05"]) == console.OK
    said = capsys.readouterr().out
    assert re.search(r"^model     ied, which comes with siamese-jax \S+, step 4, trained on: recordings$", said, re.M)
    assert "Research use only" in said and str(shipped) not in said
    record = json.loads((tmp_path / "a/SIM0001_run.json").read_text())
    assert record["model"].startswith("ied, which comes with")
    own = demo / "run" / "checkpoint"
    assert cli.detect((source,), checkpoint=own, out=tmp_path / "b", threshold=0.05) == console.OK
    tables = [(tmp_path / name / "SIM0001_events.csv").read_text() for name in ("a", "b")]
    assert tables[0] == tables[1] and len(tables[0].splitlines()) > 1
    assert siamese_jax.load().step == 4


def test_detect_takes_a_threshold_by_its_false_events_an_hour(demo, shipped, tmp_path, capsys):
    arguments = ["detect", str(demo / "recordings/SIM0001.edf"), "--checkpoint", str(shipped)]
    arguments += ["--out", str(tmp_path), "--false-per-hour"]
    assert command([*arguments, "10"]) == console.OK
    said = capsys.readouterr().out
    assert "threshold 0.300 (operating point events_10_per_hour: 8.50 false events an hour in 2.00 h, 95 % upp" in said
    assert json.loads((tmp_path / "SIM0001_run.json").read_text())["threshold"] == 0.3
    with pytest.raises(ValueError, match="no threshold for 3 false events an hour, but for 10$"):
        command([*arguments, "3"])


def test_the_model_of_the_package_has_a_rate_unless_told_otherwise(demo, shipped, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(weights, "FALSE_PER_HOUR", 10.0)
    arguments = ["detect", str(demo / "recordings/SIM0001.edf"), "--out", str(tmp_path)]
    assert command(arguments) == console.OK
    assert "threshold 0.300 (operating point events_10_per_hour" in capsys.readouterr().out
    assert command([*arguments, "--checkpoint", str(shipped)]) == console.OK
    assert "events_10_per_hour" not in capsys.readouterr().out


def test_models_tells_of_each_model_what_it_finds_and_where_its_card_is(shipped, capsys):
    assert command(["models"]) == console.OK
    said = capsys.readouterr().out
    for pattern in (
        r"^ied \(default\), small siamese_es, \d\.\d MB$",
        r"^  task +ied: none, ied$",
        r"^  task +sleep: W, N1, N2, N3, R$",
        r"^  electrodes +Fp1 Fp2 .* Pz, at 200 Hz$",
        r"^  learnt from +recordings$",
        r"^  ied +events_10_per_hour +0\.300  8\.50 false events an hour in 2\.00 h, 95 % upper limit 11\.00$",
        r"^  thresholds +fixed on \d patients? of recordings, ",
    ):
        assert re.search(pattern, said, re.MULTILINE), pattern
    assert str(shipped / "card.md") in said


def test_nothing_is_written_into_the_package_and_an_empty_one_says_so(demo, shipped, tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match="comes with the package and stays as it is: fix the thresholds of a copy"):
        cli.fix_thresholds(shipped, demo / "shards")
    with pytest.raises(ValueError, match="say where figures go, --out"):
        cli.evaluate(shipped, demo / "shards")
    monkeypatch.setattr(weights, "HOME", tmp_path)
    assert cli.models() == console.OK and "no model comes with this installation" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no model 'ied' comes with this installation .there are: none."):
        cli.detect((demo / "recordings/SIM0001.edf",), out=tmp_path / "out")


def test_several_files_one_of_them_broken(demo, tmp_path, capsys):
    broken = tmp_path / "broken.edf"
    broken.write_bytes(b"0       not an EDF")
    good = demo / "recordings" / "SIM0002.edf"
    code = cli.detect((broken, good), checkpoint=demo / "run" / "checkpoint", out=tmp_path / "out")
    said = capsys.readouterr()
    assert code == console.SOME_FAILED
    assert said.err.count("error: ") == 1 and "broken.edf" in said.err
    assert (tmp_path / "out" / "SIM0002_events.csv").exists()
    assert cli.detect((broken,), checkpoint=demo / "run" / "checkpoint", out=tmp_path / "out") == console.NOT_ANALYSED


def test_an_archive_is_a_line_a_file_and_a_summary_and_goes_on_where_it_stopped(demo, tmp_path, capsys):
    for name in ("a/SIM0001.edf", "b/SIM0002.edf"):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        shutil.copy(demo / "recordings" / Path(name).name, tmp_path / "in" / name)
    (tmp_path / "in" / "broken.edf").write_bytes(b"0       not an EDF")
    options = {"checkpoint": demo / "run" / "checkpoint", "out": tmp_path / "out"}
    for threshold, lines in (
        (0.05, ["files     3, of which 0 are finished", "1/3  a/SIM0001.edf  ", "3/3  broken.edf  failed"]),
        (0.05, ["files     3, of which 2 are finished", "1/1  broken.edf  failed"]),
        (
            0.1,
            ["files     3, of which 0 are finished", "again     2: threshold was 0.05, is 0.1", "2/3  b/SIM0002.edf  "],
        ),
    ):
        assert cli.detect((tmp_path / "in",), threshold=threshold, **options) == console.SOME_FAILED
        said = capsys.readouterr()
        assert [line for line in lines if line not in said.out] == []
        assert said.err.splitlines()[-1].startswith("error: broken.edf: ")
        summary = (tmp_path / "out" / "summary.csv").read_text().splitlines()
        assert [line.split(",")[:2] for line in summary[1:]] == [
            ["a/SIM0001.edf", "ok"],
            ["b/SIM0002.edf", "ok"],
            ["broken.edf", "failed"],
        ]
    assert (tmp_path / "out" / "b" / "SIM0002_detected.edf").exists()
    assert not list((tmp_path / "out").rglob("*_annotated.edf"))  # as large as the recordings: only if asked for


def test_a_single_file_that_is_finished_is_said_to_be(demo, tmp_path, capsys):
    source, options = demo / "recordings" / "SIM0001.edf", {"checkpoint": demo / "run" / "checkpoint", "out": tmp_path}
    assert cli.detect((source,), **options) == console.OK
    capsys.readouterr()
    assert cli.detect((source,), **options) == console.OK
    assert (
        f"SIM0001.edf was analysed before with this model and these settings: see {tmp_path}" in capsys.readouterr().out
    )
    assert cli.detect((source,), hop=0.5, **options) == console.OK
    assert "again     hop_seconds was 1.0, is 0.5\nSIM0001.edf  " in capsys.readouterr().out
    assert not (tmp_path / "summary.csv").exists()


def test_files_of_one_stem_stop_themselves_alone(demo, tmp_path, capsys):
    """A name of one's own is analysed, the others are named with what to do; as OUT/summary.csv says, too."""
    names = ("night.edf", "night.bdf", "nap.edf")
    for name in names:
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(demo / "recordings" / "SIM0001.edf", tmp_path / "in" / name)
    options = {"checkpoint": demo / "run", "out": tmp_path / "out", "threshold": 0.05}  # the run's folder does
    assert cli.detect((tmp_path / "in",), **options) == console.SOME_FAILED
    said = capsys.readouterr()
    assert "1/1  nap.edf  " in said.out
    assert said.err.count("error: ") == 2 and "night.bdf: its results would overwrite those of" in said.err
    rows = (tmp_path / "out" / "summary.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:2] for row in rows] == [["nap.edf", "ok"], ["night.bdf", "failed"], ["night.edf", "failed"]]


def test_the_version_is_printed_and_each_help_has_names_and_an_example(capsys):
    assert command(["--version"]) == console.OK
    assert capsys.readouterr().out == f"siamese-jax {version('siamese-jax')}\n"
    names = {
        "info": ["FILE"],
        "prepare": ["FOLDER", "OUT"],
        "train": ["SHARDS", "RUN"],
        "fix-thresholds": ["CHECKPOINT", "SHARDS"],
        "evaluate": ["CHECKPOINT", "SHARDS"],
        "detect": ["FILES"],
        "review": ["OUT", "VERDICTS"],
        "export": ["CHECKPOINT", "OUT"],
    }
    for name, positionals in names.items():
        with pytest.raises(SystemExit) as caught:
            command([name, "--help"])
        said = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
        assert caught.value.code == 0 and f"Example: siamese-jax {name}" in " ".join(said.split())
        usage = said.partition("\n\n")[0]
        assert [text for text in positionals if text not in usage] == []


def test_no_event_crosses_a_gap_and_its_time_is_the_clock_s(demo, tmp_path, capsys):
    """An EDF+D with a pause of 100 s: edfio joins its records, our times and the copy do not."""
    source = with_gap(demo / "recordings" / "SIM0003.edf", tmp_path / "gap.edf", after_records=40, gap_seconds=100)
    cli.detect((source,), checkpoint=demo / "run" / "checkpoint", out=tmp_path / "out", threshold=0.05)
    printed = capsys.readouterr().out
    assert "in 2 stretches\n" in printed and "1 gap(s) in time, 100 s in all" in printed
    with (tmp_path / "out" / "gap_events.csv").open(newline="") as file:
        peaks = np.array([float(row["peak"]) for row in csv.DictReader(file)])
    assert ((peaks <= 40) | (peaks >= 140)).all() and (peaks >= 140).any()
    assert (tmp_path / "out" / "gap_detected.edf").exists()


@needs_data
def test_the_eeglab_sample_is_analysed_saying_what_was_used(demo, tmp_path, capsys):
    source = DATA / "eeglab-sample/eeglab_data.edf"
    assert cli.detect((source,), checkpoint=demo / "run" / "checkpoint", out=tmp_path) == console.OK
    said = capsys.readouterr().out
    assert "channels  15 of 19 used; renamed EEG T7->T3" in said
    assert "missing   Fp1, Fp2, F7, F8" in said
    assert "EOG1" in said


@needs_data
def test_the_dreams_polysomnogram_is_refused_in_one_sentence(demo, tmp_path, capsys):
    source = DATA / "dreams-spindles/excerpt3.edf"
    assert cli.detect((source,), checkpoint=demo / "run" / "checkpoint", out=tmp_path) == console.NOT_ANALYSED
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "excerpt3.edf" in errors[0] and "50 Hz is too slow" in errors[0]


def test_a_users_mistake_is_one_sentence_and_an_exit_code(tmp_path):
    result = run("detect", tmp_path / "none.edf", "--checkpoint", tmp_path)
    assert result.returncode == console.NOT_ANALYSED
    assert result.stderr == f"error: no such file or folder: {tmp_path / 'none.edf'}\n"
    (tmp_path / "none.edf").touch()
    result = run("detect", tmp_path / "none.edf", "--checkpoint", tmp_path)
    assert result.returncode == console.NOT_ANALYSED
    assert result.stderr.startswith("error: ") and "has no config.json" in result.stderr
    assert "Traceback" not in result.stderr
    result = run("train", tmp_path, tmp_path, "--model.shared-stages", "9")
    assert result.returncode == console.USAGE
    assert "model.shared_stages must be" in result.stderr and "Traceback" not in result.stderr
    result = run("train", tmp_path / "nothing", tmp_path / "run")
    assert result.returncode == console.NOT_ANALYSED and "no shards" in result.stderr


def test_ctrl_c_has_an_exit_code_of_its_own():
    def interrupted() -> int:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        console.run(interrupted)
    assert caught.value.code == console.INTERRUPTED == 130


def test_preparing_without_some_recordings_is_no_success(demo, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    shutil.copy(demo / "recordings" / "SIM0001.edf", tmp_path / "in")
    (tmp_path / "in" / "broken.edf").write_bytes(b"0       not an EDF")
    assert cli.prepare(tmp_path / "in", tmp_path / "out") == console.SOME_FAILED
    assert "broken.edf" in capsys.readouterr().out
    assert [path.stem for path in (tmp_path / "out").glob("*/*.h5")]


def test_help_answers_at_once_and_without_jax():
    began = time.monotonic()
    result = run("--help")
    assert result.returncode == 0
    assert {"info", "prepare", "train", "fix-thresholds", "evaluate", "detect", "export"} <= set(
        result.stdout.replace("{", " ").replace(",", " ").split()
    )
    assert time.monotonic() - began < 5  # half a second where nothing else runs
    code = "import sys; import siamese_jax.cli.main; sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_info_prints_no_patient_data_of_the_header_and_texts_of_marks_as_they_stand(tmp_path, capsys):
    rng = np.random.default_rng(0)
    eeg = rng.normal(0, 30, (20 * 200, 19)).astype(np.float32)
    path = tmp_path / "night.edf"
    marks = [Annotation(1.0, 0.0, "Opened eyes at 22:10")]
    write_recording(path, eeg, sfreq=200.0, ch_names=TEN_TWENTY, annotations=marks, patient_code="JANE-DOE-1")
    assert cli.info(path) == console.OK
    said = capsys.readouterr().out.lower()
    assert "jane" not in said and "19 of 19 used" in said and "opened eyes at 22:10" in said


def test_few_electrodes_are_warned_of(tmp_path, capsys):
    eeg = np.random.default_rng(0).normal(0, 30, (20 * 200, 10)).astype(np.float32)
    for n, warned in ((9, True), (10, False)):
        write_recording(tmp_path / f"{n}.edf", eeg[:, :n], sfreq=200.0, ch_names=TEN_TWENTY[:n])
        cli.info(tmp_path / f"{n}.edf")
        assert ("fewer than half of the electrodes" in capsys.readouterr().out) == warned


def test_units_can_be_given(tmp_path, capsys):
    rng = np.random.default_rng(0)
    eeg = rng.normal(0, 30e3, (20 * 200, 19)).astype(np.float32)  # nanovolts called microvolts
    write_recording(tmp_path / "nv.edf", eeg, sfreq=200.0, ch_names=TEN_TWENTY)
    cli.info(tmp_path / "nv.edf")
    assert "note" in capsys.readouterr().out
    cli.info(tmp_path / "nv.edf", units=("*=nV",))
    assert "note" not in capsys.readouterr().out
    with pytest.raises(ValueError, match="--units takes CHANNEL=UNIT, given 'nV'"):
        cli.info(tmp_path / "nv.edf", units=("nV",))


def test_prepare_takes_other_electrodes_rates_and_windows(demo, tmp_path):
    options = ShardOptions(channels=("C3", "Cz"), sfreq=100.0, window=2.0)
    assert cli.prepare(demo / "recordings", tmp_path / "shards", options) == console.OK
    (info,) = {
        shard.info.ch_names + (shard.info.sfreq, shard.info.window) for shard in open_shards(tmp_path / "shards/train")
    }
    assert info == ("C3", "Cz", 100.0, 200)


@pytest.mark.parametrize("wrong", ["sfreq", "window", "hop"])
def test_a_rate_or_length_of_0_is_refused_rather_than_taken_for_none(demo, tmp_path, wrong):
    with pytest.raises(ValueError, match=f"{wrong}.* 0.0|{wrong}.*=0.0"):
        command(["prepare", str(demo / "recordings"), str(tmp_path / "out"), f"--{wrong}", "0"])
    assert not (tmp_path / "out").exists()


def test_prepare_check_names_a_shard_that_was_edited(demo, tmp_path, capsys):
    assert cli.prepare(demo / "shards", check=True) == console.OK
    assert "all shards are sound" in capsys.readouterr().out
    original = sorted((demo / "shards" / "train").glob("*.h5"))[0]
    (tmp_path / "train").mkdir()
    damaged = tmp_path / "train" / original.name
    content = bytearray(original.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert cli.prepare(tmp_path, check=True) == console.NOT_ANALYSED
    assert damaged.name in capsys.readouterr().err
    with pytest.raises(ValueError, match="give either a folder and --check"):
        cli.prepare(tmp_path)


def test_a_checkpoint_without_the_task_cannot_detect(demo, tmp_path, monkeypatch):
    loaded = checkpoints.load(demo / "run" / "checkpoint")
    config = dataclasses.replace(loaded.config, tasks=("state",))
    monkeypatch.setattr(checkpoints, "load", lambda folder: loaded._replace(config=config, tasks=(STATE,)))
    with pytest.raises(ValueError, match="trained for state: it detects neither events nor stages"):
        cli.detect((demo / "recordings" / "SIM0001.edf",), checkpoint=tmp_path, out=tmp_path)


def test_further_tasks_are_named_on_the_command_line(demo, tmp_path, capsys):
    arguments = ["prepare", str(demo / "recordings"), str(tmp_path / "shards"), "--channels", "C3", "Cz", "--hop", "2"]
    tasks = ["--events", "spindle=spindle.*", "--states", "depth=light:.*(N1|N2);deep:.*N3"]
    assert command([*arguments, *tasks]) == console.OK
    task = {task.name: task for task in open_shards(tmp_path / "shards/train")[0].info.tasks}
    assert list(task) == ["ied", "sleep", "state", "spindle", "depth"]
    assert (task["spindle"].kind, task["depth"].classes) == ("binary", ("light", "deep"))
    assert "; spindle: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"events": ("spindle",)}, "--events takes TASK=TEXT, given 'spindle'"),
        ({"events": ("spindle=(",)}, "no regular expression"),
        ({"states": ("eyes=open:o",)}, "two classes or more, given 'eyes=open:o'"),
        ({"states": ("open:o;closed:c",)}, "--states takes"),
    ],
)
def test_tasks_of_another_form_are_refused(demo, tmp_path, given, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        cli.prepare(demo / "recordings", tmp_path / "out", **given)
