"""LUDB and the challenge together: one finding for what means the same, no label where nobody searched."""

import csv
from pathlib import Path

import numpy as np
import pytest

from data_tools.cinc2021 import SCORED
from data_tools.ludb import CLASSES
from data_tools.twelve_lead import FINDINGS, GIVEN, SIZES, collection, main, twelve_lead
from data_tools.wfdb import DEFAULT_DATA
from siamese_jax.cli.console import OK
from siamese_jax.cli.recordings import ShardOptions
from siamese_jax.cohort.prepare import prepare
from siamese_jax.shards.schema import open_shard
from tests.data_tools import test_cinc2021, test_ludb

REAL = Path(__file__).parents[2] / "../shared/data"


def held(root, out):
    """By record: label and weight of each finding."""
    prepare(twelve_lead(root / "ludb", root / "cinc"), out, DEFAULT_DATA, hop_seconds=10.0, seed=0)
    found = {}
    for shard in map(open_shard, sorted(out.rglob("*.h5"))):
        for i, name in enumerate(shard.recordings["name"][shard.recording]):
            found[Path(name).stem] = {t: (shard.labels[t][i], shard.weights[t][i]) for t in shard.labels}
    return found


def test_what_means_the_same_is_one_finding_and_silence_is_no_label(tmp_path):
    test_ludb.write(tmp_path / "ludb", 1, ["Rhythm: Atrial flutter, typical.", "Left ventricular hypertrophy."])
    test_ludb.write(tmp_path / "ludb", 2, ["Rhythm: Sinus bradycardia.", "Complete right bundle branch block."])
    test_ludb.write(tmp_path / "ludb", 3, [])  # without a diagnosis
    for name, codes in (
        ("A0001", "164889003,713427006"),  # CPSC: fibrillation, complete right block
        ("HR00001", "164890007,426783006"),  # PTB-XL: flutter, sinus rhythm
        ("JS00009", "426177001,17338001"),  # Chapman: bradycardia, ventricular beats
        ("JS45551", "59931005"),  # Ningbo: inverted T
        ("Z00001", "426783006"),  # of no collection that is known
    ):
        test_cinc2021.write(tmp_path / "cinc", name, f"#Dx: {codes}")
    records = held(tmp_path, tmp_path / "out")
    yes, no, unknown = (1.0, 1.0), (0.0, 1.0), (0.0, 0.0)
    expected = {
        "1": {"AF": yes, "LVH": yes, "SB": no, "PVC": no, "TInv": unknown, "PRWP": unknown},
        "2": {"AF": no, "SB": yes, "RBBB": yes, "TInv": unknown},
        "A0001": {"AF": yes, "RBBB": yes, "NSR": no, "SB": unknown, "PVC": unknown, "LVH": unknown, "TInv": unknown},
        "HR00001": {"AF": yes, "NSR": yes, "PVC": unknown, "TInv": no, "PRWP": unknown, "axis-normal": unknown},
        "JS00009": {"SB": yes, "PVC": yes, "AF": no, "SA": unknown, "PR": unknown, "LAnFB": unknown},
        "JS45551": {"TInv": yes, "AF": no, "SA": no, "PR": no, "LAnFB": no, "PRWP": no},
    }
    for name, findings in expected.items():
        assert {f: records[name][f] for f in findings} == findings, name
    for name in ("3", "Z00001"):
        assert {weight for _, weight in records[name].values()} == {0.0}


def test_a_record_s_name_tells_its_collection():
    names = ("A0001", "Q0001", "I0001", "S0001", "HR00001", "E00001", "JS10646", "JS10647", "X1", "JS")
    assert [collection(f"in/g1/{name}.hea") for name in names] == (
        ["CPSC", "CPSC-Extra", "St Petersburg", "PTB", "PTB-XL", "Georgia", "Chapman-Shaoxing", "Ningbo", "", "Ningbo"]
    )


def test_every_finding_is_of_classes_that_there_are_and_none_counts_twice():
    for classes, column in ((CLASSES, 1), (SCORED, 2)):
        used = [cls for finding in FINDINGS for cls in finding[column]]
        assert set(used) <= set(classes) and len(set(used)) == len(used)
    assert {cls for finding in FINDINGS for cls in finding.cinc} <= set(GIVEN)
    assert all(finding.reason and (finding.ludb or finding.cinc) for finding in FINDINGS)
    assert {len(row) for row in GIVEN.values()} == {len(SIZES)} and sum(SIZES) == 88_253


def test_a_folder_is_needed_and_one_is_enough(tmp_path, capsys):
    with pytest.raises(ValueError, match="give --ludb FOLDER, --cinc FOLDER or both"):
        main(tmp_path / "out")
    test_ludb.write(tmp_path / "ludb", 1, ["Rhythm: Sinus rhythm."])
    assert main(tmp_path / "out", ShardOptions(), ludb=tmp_path / "ludb") == OK
    assert "1 file used" in capsys.readouterr().out


@pytest.mark.skipif(not (REAL / "cinc2021").is_dir(), reason="no ../shared/data/cinc2021")
def test_the_table_is_the_challenge_s_own():
    columns = "CPSC CPSC_Extra StPetersburg PTB PTB_XL Georgia Chapman_Shaoxing Ningbo".split()
    with (REAL / "cinc2021" / "scored_diagnoses_2021.csv").open() as file:
        rows = {row["SNOMEDCTCode"]: np.array([int(row[c]) for c in columns]) for row in csv.DictReader(file)}
    for name, counts in GIVEN.items():
        np.testing.assert_array_equal(counts, np.sum([rows[code] for code in SCORED[name]], 0), name)
