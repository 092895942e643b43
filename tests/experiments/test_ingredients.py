"""Parts of the recipe left out one at a time: each training differs by that part alone, and the command resumes."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from data_tools.simulate import SimulationConfig, simulate_cohort
from experiments import ingredients as room
from experiments.real.scorers import Scorer
from siamese_jax.checkpoints import Checkpoint
from siamese_jax.cohort.prepare import prepare
from siamese_jax.cohort.sources import Folder, manifest_rows

FILES = {"SIM0001": "simulated/SIM0001", "SIM0002": "simulated/SIM0030", "SIM0003": "implanted/IMP0002_01"}
TRAIN = "file,patient,split\n" + "".join(f"{name}.edf,{name},train\n" for name in FILES.values())


@pytest.fixture
def made(tmp_path, tiny):
    folder = tmp_path / "recordings"
    list(simulate_cohort(folder / "all", SimulationConfig(minutes=0.5), patients=3, ied_free=0.0, seed=2))
    for source, name in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.move(folder / "all" / f"{source}.edf", folder / f"{name}.edf")
    shutil.rmtree(folder / "all")
    (folder / "manifest.csv").write_text(TRAIN)
    source = Folder(folder, manifest_rows(folder, None), {}, ())
    prepare(source, tmp_path / "shards", tiny.data, hop_seconds=1.0, seed=0)
    return tmp_path


def test_each_variant_is_trained_as_it_says_and_a_second_call_trains_nothing(made, tiny, monkeypatch, capsys):
    learnt: list[Checkpoint] = []

    def scorer(checkpoint: Checkpoint) -> Scorer:
        learnt.append(checkpoint)
        n_patients = len(checkpoint.identity.origins[0].patients)
        return Scorer(("Cz",), 100.0, lambda recording: [], 0.5, str(n_patients))

    def evaluated(folder: Path, scorers: dict[str, Scorer]) -> dict:
        (one,) = scorers.values()
        assert one.threshold is None  # no figures of events
        return {"figures": {"it": {"grond_segments": {"value": int(one.words) / 10}}}}

    monkeypatch.setattr(room, "SMALL", tiny)
    monkeypatch.setattr(room, "LEARNING", ("--training.faults", "0.35", "--training.electrode-dropout", "0.2"))
    monkeypatch.setattr(room, "checkpoint_scorer", scorer)
    monkeypatch.setattr(room, "evaluate_scorers", evaluated)
    only = ("the recipe", "without faults and limit", "without implants in real EEG", "25 simulated patients")
    size = {"steps": 2, "seeds": 1, "only": only}
    assert room.main(made, Path("real"), made / "out", **size) == 0
    figures = json.loads((made / "out/ingredients.json").read_text())["figures"]
    assert {name: own["grond_segments"] for name, own in figures.items()} == dict(
        zip(only, ([0.3], [0.3], [0.2], [0.2]), strict=True)
    )
    recipe, without, *others = (one.config for one in learnt)
    assert recipe.training.faults == 0.35 and without.training.faults == 0
    assert without.preprocess.limit_uv is None and recipe.training.electrode_dropout == 0.2
    assert dataclasses.replace(without.training, faults=0.35) == recipe.training
    assert others == [recipe, recipe]
    capsys.readouterr()
    assert room.main(made, Path("real"), made / "out", **size) == 0
    assert "4 jobs: 4 done before, 0 to do" in capsys.readouterr().out and len(learnt) == 4


def test_an_unknown_variant_is_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(ValueError, match=r"no variants \['without salt'\]: there are \['the recipe'"):
        room.main(tmp_path, tmp_path, tmp_path / "out", only=("without salt",))
