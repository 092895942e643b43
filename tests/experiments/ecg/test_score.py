"""The whole command on miniatures of three data sets, and its model put to new records."""

import csv
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from data_tools.ptb_xl import PtbXl
from data_tools.wfdb import DEFAULT_DATA
from experiments.ecg import networks, score
from experiments.ecg.__main__ import Design, main
from siamese_jax.checkpoints import load
from siamese_jax.cli.console import OK
from siamese_jax.cohort.prepare import prepare
from siamese_jax.evaluation.metrics import auroc
from tests.data_tools import test_cinc2021, test_ludb, test_ptb_xl

TINY = {"width": 0.0625, "steps": 1, "batch_size": 4, "resamples": 4}


def write(root, first=0):
    """Twelve records of each data set: every second one in sinus rhythm, a few with rarer things."""
    for i in range(12):
        said = ["Rhythm: Sinus rhythm."] if i % 2 else ["Rhythm: Sinus bradycardia."]
        said += ["Complete right bundle branch block."] * (i % 4 == 0) + ["I degree AV block."] * (i % 4 == 1)
        test_ludb.write(root / "ludb", first + i + 1, said)
        codes = ["426783006"] if i % 2 else ["426177001"]
        codes += ["59118001"] * (i % 4 == 0) + ["270492004"] * (i % 4 == 1)
        name = f"E{first}{'1' * i}"  # no two of one sum, which seeds the signal
        test_cinc2021.write(root / "cinc", name, f"#Dx: {','.join(codes)}")
    return root / "ludb", root / "cinc"


def test_the_command_runs_goes_on_and_its_model_scores_new_records(tmp_path, monkeypatch):
    design = Design(folds=3, repeats=1, rare_share=0.3, min_positives=4, **TINY)
    places = {"out": tmp_path / "out", "to": tmp_path / "to"}
    folders = write(tmp_path / "in")
    assert main(folders, design, **places) == OK
    tree = json.loads((tmp_path / "to" / "ecg.json").read_text(), parse_constant=pytest.fail)
    rows = {row["class"]: row for row in tree["results"]["classes"]}
    assert {name: (r["positives"], r["labelled"], r["is_rare"]) for name, r in rows.items()} == {
        "NSR": (12, 24, False),
        "SB": (12, 24, False),
        "IAVB": (6, 24, True),
        "RBBB": (6, 24, True),
    }
    assert tree["made"]["networks"] == 3 * (2 + 2) and "REAL ECG" in tree["made"]["data"]
    text = (tmp_path / "to" / "ecg.md").read_text()
    assert "| RBBB | 6 | 24 | 0.250 |" in text and "Verdict: " in text and "corrected t-test" in text
    assert (tmp_path / "to" / "ecg.png").stat().st_size > 10_000
    assert sum(file.stat().st_size for file in (tmp_path / "to" / "model").iterdir()) < 1 << 20
    assert load(tmp_path / "to" / "model").config.tasks == ("NSR", "SB", "IAVB", "RBBB")

    monkeypatch.setattr(networks, "fit", lambda *args, **kwargs: pytest.fail("trained again"))
    assert main(folders, design, **places) == OK
    again = json.loads((tmp_path / "to" / "ecg.json").read_text())
    assert again["results"] == tree["results"]

    with pytest.raises(ValueError, match="learnt from all 24 patients of these records"):
        score.main(tmp_path / "to" / "model", tmp_path / "known", ludb=folders[0], cinc=folders[1])
    new = write(tmp_path / "new", first=50)
    assert score.main(tmp_path / "to" / "model", tmp_path / "scored", ludb=new[0], cinc=new[1]) == OK
    figures = json.loads((tmp_path / "scored" / "scores.json").read_text())
    assert figures["patients"] == 24 and figures["RBBB"]["max_f1"]["positives"] == 6
    assert 0 <= figures["RBBB"]["auprc"]["value"] <= 1
    scored_by_hand(tmp_path / "scored", figures)
    unlabelled(tmp_path / "to" / "model", tmp_path)


def table(folder):
    with (folder / "probabilities.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def scored_by_hand(folder, figures):
    """Whoever has the table and the labels finds the same figures."""
    rows = table(folder)
    assert list(rows[0]) == ["record", "NSR", "SB", "IAVB", "RBBB"]
    names = [row["record"] for row in rows]
    assert names == sorted({file["name"] for file in json.loads((folder / "shards/prepare.json").read_text())["used"]})
    labels = {"NSR": np.array([int(re.sub(r"ludb/|[.]hea", "", n)) % 2 == 0 for n in names if n.startswith("ludb")])}
    labels["NSR"] = np.append([n.count("1") % 2 for n in names if n.startswith("cinc")], labels["NSR"])
    chance = np.array([float(row["NSR"]) for row in rows])
    assert auroc(chance, labels["NSR"].astype(np.float32)) == pytest.approx(figures["NSR"]["auroc"]["value"])


def unlabelled(model, folder):
    """Records without a label of a class, then without any: valid JSON, and each with its probabilities."""
    test_cinc2021.write(folder / "one", "A0001", "#Dx: 426783006")  # CPSC: nobody looked for SB
    test_cinc2021.write(folder / "one", "A0002", "#Dx: 59118001", seconds=25)
    test_ludb.write(folder / "none", 99)
    found = {}
    for name, place in {"one": {"cinc": folder / "one"}, "none": {"ludb": folder / "none"}}.items():
        assert score.main(model, folder / f"{name}-out", **place) == OK
        found[name] = json.loads((folder / f"{name}-out" / "scores.json").read_text(), parse_constant=pytest.fail)
    assert found["one"]["SB"]["prevalence"] is None and found["one"]["RBBB"]["prevalence"] == pytest.approx(2 / 3)
    assert [found["none"][name]["prevalence"] for name in ("NSR", "SB", "IAVB", "RBBB")] == [None] * 4
    assert [row["record"] for row in table(folder / "one-out")] == ["cinc/A0001.hea", "cinc/A0002.hea"]
    ((record, *chances),) = (row.values() for row in table(folder / "none-out"))
    assert record == "ludb/99.hea" and all(0 < float(chance) < 1 for chance in chances)


def test_a_long_record_has_the_mean_of_its_windows():
    held = {"name": np.array(["b", "a"], object)}
    shards = [SimpleNamespace(recordings=held, recording=np.array([0, 1, 0]))]
    chance = {"AF": np.array([[0.2], [0.5], [0.4]]), "PVC": np.array([[0.9], [0.7], [0.9]])}
    scores = SimpleNamespace(probabilities=chance)
    assert list(score.by_record(scores, shards, ("AF", "PVC"))) == [["a", "0.5", "0.7"], ["b", "0.3", "0.9"]]


def test_ptb_xl_by_its_own_folds(tmp_path):
    # Two common classes and two rare ones, as in the test above: the same networks, compiled once.
    said = ("'IMI': 80.0", "'NORM': 100.0", "'NORM': 100.0, '1AVB': 0.0")
    rows = [
        (i + 1, f"{i}.0", f"{{{said[i % 3]}, 'SR': 0.0}}", fold)
        for i, fold in enumerate(np.repeat([3, 9, 10], 6).tolist())
    ]
    test_ptb_xl.write(tmp_path / "in", rows)
    prepare(PtbXl(tmp_path / "in", "all"), tmp_path / "shards", DEFAULT_DATA, hop_seconds=10.0, seed=0)
    design = Design(folds=0, repeats=2, rare_share=0.5, min_positives=3, **TINY)
    assert main((tmp_path / "shards",), design, out=tmp_path / "out", to=tmp_path / "to") == OK
    tree = json.loads((tmp_path / "to" / "ecg.json").read_text())
    shown = {row["class"]: (row["positives"], row["labelled"], row["is_rare"]) for row in tree["results"]["classes"]}
    # of the test fold
    assert shown == {"NORM": (4, 6, False), "SR": (6, 6, False), "IMI": (2, 6, True), "1AVB": (2, 6, True)}
    assert (
        "the shards' own splits, 2 seeds: 6 windows to train, 6 to choose thresholds, 6 to test"
        in tree["made"]["design"]
    )
    assert "no folds to test over" in (tmp_path / "to" / "ecg.md").read_text()


def test_folders_that_are_no_pair_are_refused(tmp_path):
    with pytest.raises(ValueError, match="give the folders of LUDB and of the challenge, or one of shards, not 3"):
        main((tmp_path,) * 3)
