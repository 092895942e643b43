"""The model that comes with the package, at a thousandth of its size: from backgrounds to a folder that detects."""

import hashlib
import json
import re
import shutil

import pytest

from data_tools.simulate import SimulationConfig, simulate_cohort
from experiments import weights as room
from siamese_jax import checkpoints
from siamese_jax.cli.console import OK
from siamese_jax.identity import known_to, salted
from siamese_jax.shards.schema import open_shards

FILES = {"P2_1": "SIM0001", "P2_2": "SIM0002", "P3_1": "SIM0003", "P4": "SIM0004"}
"""Three people, of whom one has two recordings."""


@pytest.fixture(scope="module")
def backgrounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("normal") / "normal"
    list(simulate_cohort(folder / "all", SimulationConfig(minutes=0.5), patients=4, ied_free=1.0, seed=9))
    for name, source in FILES.items():
        shutil.move(folder / "all" / f"{source}.edf", folder / f"{name}.edf")
    shutil.rmtree(folder / "all")
    return folder


@pytest.fixture(scope="module")
def made(backgrounds, tmp_path_factory):
    out = tmp_path_factory.mktemp("weights")
    assert make(backgrounds, out) == OK
    return out


def make(backgrounds, out, **options):
    size = {"patients": 2, "minutes": 1.0, "copies": 2, "steps": 3}
    return room.main(backgrounds, out / "work", to=out / "ied", source="the normal archive", **size, **options)


def test_a_person_is_in_one_part_and_those_of_uneven_numbers_fix_thresholds_alone(made):
    def patients(split):
        return {name for shard in open_shards(made / "work/shards" / split) for name in shard.patients}

    rows = (made / "work/backgrounds.csv").read_text().splitlines()
    assert rows[1:] == ["P2_1.edf,P2,train", "P2_2.edf,P2,train", "P3_1.edf,P3_1,validation", "P4.edf,P4,train"]
    assert len(patients("train")) == 2 + 2 and len(patients("validation")) == 1
    model = checkpoints.load(made / "ied")
    assert len(model.thresholds.fixed_on.patients) == 1 and len(model.identity.origins[0].patients) == 4


def test_the_folder_holds_a_model_its_thresholds_and_a_card(made):
    names = {path.name for path in (made / "ied").iterdir()}
    assert names == {"config.json", "identity.json", "parameters.safetensors", "operating_points.json", "card.md"}
    model = checkpoints.load(made / "ied")
    assert model.step == 3 and model.config.preprocess.limit_uv == 500 and model.config.training.faults == 0.35
    assert "the normal archive" in model.trained_on[0] and "SIMULATED" in model.trained_on[0]
    card = (made / "ied/card.md").read_text()
    assert "Research use only" in card and "It learnt from 2 of these people" in card
    shares = [row.split("|")[-2].strip() for row in card.splitlines() if re.match(r"\| 0\.\d+ to ", row)]
    assert shares and all(0 <= float(share) <= 1 for share in shares)
    assert "| ied events_max_f1 |" in card and "Not measured: `--real FOLDER` was not given." in card


def test_its_identity_knows_recordings_anywhere_and_nobody_by_a_name_of_here(made, backgrounds):
    identity = checkpoints.load(made / "ied").identity
    learnt = {hashlib.sha256((backgrounds / f"{name}.edf").read_bytes()).hexdigest() for name in ("P2_1", "P2_2", "P4")}
    held_out = hashlib.sha256((backgrounds / "P3_1.edf").read_bytes()).hexdigest()
    assert learnt <= identity.recordings and held_out not in identity.recordings
    assert held_out in checkpoints.load(made / "ied").thresholds.fixed_on.recordings
    training = open_shards(made / "work/shards/train")
    names = {name for shard in training for name in shard.patients}
    (origin,) = identity.origins
    assert not {salted(origin.salt, name) for name in names} & set(origin.patients)
    # The very recordings are known all the same, by what is in them.
    known = known_to(identity.origins, training)
    assert set(known.patients) == names == set(known.by_recording)
    assert not known_to(identity.origins, open_shards(made / "work/shards/validation")).patients


def test_the_same_command_goes_on_and_a_checkpoint_that_is_there_can_be_taken(made, backgrounds, monkeypatch):
    before = (made / "ied/parameters.safetensors").read_bytes()
    trained = (made / "work/run/training.jsonl").read_bytes()
    assert make(backgrounds, made) == OK
    assert (made / "ied/parameters.safetensors").read_bytes() == before
    assert (made / "work/run/training.jsonl").read_bytes() == trained
    monkeypatch.setattr(room, "_make", None)
    identity = json.loads((made / "ied/identity.json").read_text())
    shutil.rmtree(made / "ied")
    assert make(backgrounds, made, checkpoint=made / "work/run/checkpoint") == OK
    assert json.loads((made / "ied/identity.json").read_text()) == identity


def test_its_figures_on_real_recordings_leave_out_whom_it_learnt_from(made, backgrounds, tmp_path):
    """Known by what is in the files: names there are others."""
    (tmp_path / "eegmat").mkdir()
    for name, other in (("P4", "Subject07_2"), ("P3_1", "Subject08_1")):
        shutil.copy(backgrounds / f"{name}.edf", tmp_path / "eegmat" / f"{other}.edf")
    assert make(backgrounds, made, checkpoint=made / "work/run/checkpoint", real=tmp_path) == OK
    card = (made / "ied/card.md").read_text()
    assert "People of EEGMAT left out: Subject07." in card
    assert "| EEGMAT, healthy people: events an hour | " in card
    assert "grond: there is no discharges/grond" in card


def test_backgrounds_that_tell_nobody_apart_are_refused(backgrounds, tmp_path):
    shutil.copy(backgrounds / "P2_1.edf", tmp_path / "normal.edf")
    with pytest.raises(ValueError, match="normal.edf names no person by a number"):
        make(tmp_path, tmp_path / "out")
    (tmp_path / "normal.edf").rename(tmp_path / "P2.edf")
    with pytest.raises(ValueError, match="needs people of even numbers, and of uneven ones"):
        make(tmp_path, tmp_path / "out")
    (tmp_path / "manifest.csv").write_text("file,patient\nP2.edf,P2\n")
    with pytest.raises(ValueError, match="P2.edf needs a patient, and a split"):
        make(tmp_path, tmp_path / "out")
