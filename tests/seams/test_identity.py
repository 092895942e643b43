"""From shards to a checkpoint and back: it knows whom it learnt from, and nobody measures it on them unawares."""

import dataclasses
import json
import shutil
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

from siamese_jax import checkpoints
from siamese_jax.cli import console
from siamese_jax.cli import main as cli
from siamese_jax.shards.schema import checksum, open_shards
from siamese_jax.training.loop import train
from tests.simulated_cohort import tiny_shards

ONE = jax.devices()[:1]


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return tiny_shards(tmp_path_factory.mktemp("cohort"), patients=10, minutes=2.0)


@pytest.fixture(scope="module")
def config():
    from tests.conftest import tiny

    config = tiny.__wrapped__()
    return dataclasses.replace(config, training=dataclasses.replace(config.training, steps=2, warmup_steps=0))


def split(folder, name):
    return tuple(open_shards(folder / name))


@pytest.fixture(scope="module")
def trained(shards, config, tmp_path_factory) -> Path:
    """A run of one step of two."""
    run = tmp_path_factory.mktemp("run")
    train(config, split(shards, "train"), split(shards, "validation"), run, devices=ONE, stop_at=1)
    return run


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def moved(shards, folder, moves) -> Path:
    """Another folder of shards: (split here, number) of each, and its split there."""
    for (where, number), to in moves.items():
        (folder / to).mkdir(parents=True, exist_ok=True)
        path = sorted((shards / where).glob("*.h5"))[number]
        shutil.copy(path, folder / to / path.name)
    return folder


def test_a_run_does_not_resume_on_other_shards(shards, run, config):
    given, validation = split(shards, "train"), split(shards, "validation")
    with pytest.raises(
        ValueError, match=r"of the training data, 0 patients are new and 1 of 6 are gone; .*--init-from"
    ):
        train(config, given[1:], validation, run, devices=ONE)
    with pytest.raises(ValueError, match="of the validation data, 2 patients are new and 2 of 2 are gone"):
        train(config, given, split(shards, "test"), run, devices=ONE)
    assert checkpoints.load(run / "checkpoint").step == 1
    assert train(config, given, validation, run, devices=ONE).step == 2


def test_thresholds_are_fixed_once_named_and_gone_when_training_resumes(shards, run, config, capsys):
    checkpoint = run / "checkpoint"
    assert cli.evaluate(checkpoint, shards) == console.OK
    assert "no thresholds yet: `siamese-jax fix-thresholds" in capsys.readouterr().out
    without = json.loads((run / "metrics.json").read_text())
    assert without["thresholds"] is None and "max_f1" not in without["ied"] and without["ied"]["auroc"]["value"] > 0
    assert not (checkpoint / "operating_points.json").exists()

    assert cli.fix_thresholds(checkpoint, shards) == console.OK
    fixed = (checkpoint / "operating_points.json").read_text()
    assert "edf-" not in fixed and len(json.loads(fixed)["fixed_on"]["patients"]) == 2
    capsys.readouterr()
    assert cli.evaluate(checkpoint, shards) == console.OK
    said = capsys.readouterr().out
    assert "thresholds fixed on 2 patients of recordings, 20" in said and "warning" not in said
    figures = json.loads((run / "metrics.json").read_text())
    points = {p.criterion: p.threshold for p in checkpoints.load(checkpoint).points if p.task == "ied"}
    assert figures["ied"]["max_f1"]["threshold"] == points["max_f1"]
    assert (figures["training_patients"], figures["threshold_patients"]) == (0, 0)
    assert (checkpoint / "operating_points.json").read_text() == fixed

    told = []
    options = {"devices": ONE, "on_start": told.append}
    train(config, split(shards, "train"), split(shards, "validation"), run, stop_at=1, **options)  # nothing to do
    assert checkpoints.load(checkpoint).thresholds is not None and "removed" not in told[0]
    train(config, split(shards, "train"), split(shards, "validation"), run, **options)
    assert checkpoints.load(checkpoint).thresholds is None
    assert "removed the thresholds of the parameters so far: run `siamese-jax fix-thresholds`" in told[1]


def test_nobody_is_measured_who_was_learnt_from_unless_told_so(shards, run, tmp_path, capsys):
    checkpoint, mixed = run / "checkpoint", tmp_path / "mixed"
    # One patient of the training, and one whom thresholds will be fixed on, among those to test.
    moves = {("train", 0): "test", ("validation", 0): "test", ("test", 0): "test", ("validation", 1): "validation"}
    moved(shards, mixed, moves)
    with pytest.raises(
        ValueError, match=r"learnt from 1 of 3 patients \(edf-\w+\): figures .*--allow-training-patients"
    ):
        cli.evaluate(checkpoint, mixed)
    with pytest.raises(ValueError, match=r"learnt from 6 of 6 patients"):
        cli.evaluate(checkpoint, shards, split="train")
    assert not (run / "metrics.json").exists()
    cli.fix_thresholds(checkpoint, shards)
    with pytest.raises(ValueError, match="thresholds of .* were fixed on 2 of 2 patients"):
        cli.evaluate(checkpoint, shards, split="validation")
    capsys.readouterr()
    assert cli.evaluate(checkpoint, mixed, allow_training_patients=True) == console.OK
    said = capsys.readouterr().out
    assert "warning   the model learnt from 1 of these patients: figures of them are too good" in said
    assert "warning   thresholds were fixed on 1 of these patients" in said
    figures = json.loads((run / "metrics.json").read_text())
    assert (figures["training_patients"], figures["threshold_patients"], figures["patients"]) == (1, 1, 3)


def test_thresholds_are_not_fixed_on_those_learnt_from(shards, run, tmp_path, capsys):
    other = moved(shards, tmp_path / "other", {("train", 0): "validation", ("test", 0): "validation"})
    with pytest.raises(ValueError, match=r"learnt from 1 of 2 patients .*thresholds of them suit no others"):
        cli.fix_thresholds(run / "checkpoint", other)
    assert not (run / "checkpoint" / "operating_points.json").exists()
    assert cli.fix_thresholds(run / "checkpoint", other, allow_training_patients=True) == console.OK
    assert "warning   " in capsys.readouterr().out


def test_a_folder_of_test_patients_alone_is_enough_for_external_validation(shards, run, tmp_path):
    cli.fix_thresholds(run / "checkpoint", shards)
    outside = moved(shards, tmp_path / "outside", {("test", 0): "test"})
    assert cli.evaluate(run / "checkpoint", outside, out=tmp_path / "a.json") == console.OK
    everyone = moved(shards, tmp_path / "everyone", {("test", 0): "train", ("test", 1): "validation"})
    assert cli.evaluate(run / "checkpoint", everyone, split="all", out=tmp_path / "b.json") == console.OK
    one, both = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert (one["patients"], both["patients"]) == (1, 2)
    assert one["ied"]["max_f1"]["threshold"] == both["ied"]["max_f1"]["threshold"]
    # One patient has no interval, and neither has what rests on one: only the first has IEDs.
    assert one["ied"]["auroc"]["value"] is not None and one["ied"]["auroc"]["low"] is None
    assert both["ied"]["auroc"]["low"] is None and both["sleep"]["accuracy"]["low"] is not None


def renamed(path: Path, patient: str) -> None:
    """The shard as `prepare` would make it if the same file were said to be of another patient."""
    with h5py.File(path, "r+") as file:
        del file["recordings/patient"]
        file["recordings"].create_dataset("patient", data=np.array([patient.encode()]))
        file.attrs["checksum"] = checksum(file)


def test_a_recording_is_known_again_under_another_patient_s_name(shards, run, tmp_path):
    other = moved(shards, tmp_path / "other", {("train", 0): "test"})
    (path,) = (other / "test").iterdir()
    renamed(path, "somebody else")
    with pytest.raises(ValueError, match=r"1 of 1 patients \(somebody else; by their recordings, under other names"):
        cli.evaluate(run / "checkpoint", other)


def test_a_fine_tuned_model_learnt_from_its_parents_patients_too(shards, run, config, tmp_path):
    parent = checkpoints.load(run / "checkpoint")
    moves = {("validation", 0): "train", ("validation", 1): "validation", ("test", 0): "test", ("train", 0): "old"}
    new = moved(shards, tmp_path / "new", moves)
    options = {"devices": ONE, "init_from": parent, "stop_at": 1}
    with pytest.raises(ValueError, match=r"starts from learnt from 1 of 1 patients .*--allow-training-patients"):
        train(config, split(new, "train"), split(new, "old"), tmp_path / "no", **options)
    assert not (tmp_path / "no").exists()
    train(config, split(new, "train"), split(new, "validation"), tmp_path / "child", **options)
    child = tmp_path / "child" / "checkpoint"
    assert checkpoints.load(child).identity.runs[1:] == parent.identity.runs
    assert cli.evaluate(child, new) == console.OK
    for known, n in (("train", 1), ("all", 1)):
        with pytest.raises(ValueError, match=f"learnt from {n} of"):
            cli.evaluate(child, new, split=known)
    with pytest.raises(ValueError, match="learnt from 6 of 6 patients"):
        cli.evaluate(child, shards, split="train")
    with pytest.raises(ValueError, match="started from another checkpoint than --init-from names"):
        stranger = parent._replace(identity=checkpoints.load(child).identity)
        train(
            config,
            split(new, "train"),
            split(new, "validation"),
            tmp_path / "child",
            **options | {"init_from": stranger},
        )
