"""The reader of the CinC Challenge 2021: records in the challenge's layout, malformed ones, and real ones."""

import csv
import io
import json
import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from data_tools.cinc2021 import SCORED, Cinc2021, main
from data_tools.wfdb import DEFAULT_DATA
from siamese_jax.cli.console import SOME_FAILED
from siamese_jax.cli.recordings import ShardOptions
from siamese_jax.cohort.check import check
from siamese_jax.cohort.prepare import prepare
from siamese_jax.shards.schema import open_shard
from siamese_jax.vocabulary import TWELVE_LEADS
from tests.data_tools.wfdb_bytes import heartbeats, write_record

REAL = Path(__file__).parents[2] / "../shared/data/cinc2021"
NAMES = tuple(SCORED)
PEOPLE = ("#Age: 74", "#Sex: Male")


def write(folder: Path, name: str, diagnoses: str, *, seconds: float = 10, sfreq: int = 500, **options) -> np.ndarray:
    """A record as the challenge has it: a MATLAB file, and a date that WFDB does not know."""
    digital = heartbeats(seconds, sfreq, seed=sum(name.encode()))
    file = io.BytesIO()
    savemat(file, {"val": digital.T.astype(np.int16)}, format="4")
    record = f"{name} 12 {sfreq} {len(digital)} 05-May-2020 09:49:17"
    comments = (*PEOPLE, diagnoses, "#Rx: Unknown", "#Hx: Unknown", "#Sx: Unknown")
    defaults = {"suffix": ".mat", "skip": file.getvalue()[:24], "record": record, "comments": comments}
    write_record(folder, name, digital, **(defaults | options))
    return digital


def shards_of(folder: Path, out: Path):
    """The report, and by record: its labels of each window, weights, shard and row."""
    report = prepare(Cinc2021(folder), out, DEFAULT_DATA, hop_seconds=10.0, seed=0)
    held = {}
    for shard in map(open_shard, sorted(out.rglob("*.h5"))):
        for row, name in enumerate(shard.recordings["name"]):
            mine = shard.recording == row
            labels = shard.labels["diagnosis"][mine]
            found = [{NAMES[i] for i in np.flatnonzero(window)} for window in labels]
            held[name] = (found, shard.weights["diagnosis"][mine].tolist(), shard.recordings["patient"][row])
    assert not check(out).errors
    return report, held


def test_records_become_shards_with_the_scored_diagnoses(tmp_path):
    folder = tmp_path / "in"
    write(folder / "training/georgia/g1", "E00001", "#Dx: 426783006")
    write(folder / "training/cpsc_2018/g1", "A0001", "# Dx: 59118001, 164889003")  # spaces vary
    write(folder / "training/ptb-xl/g1", "HR00001", "#Dx:713427006,63593006,17338001,733534002", newline="\r\n")
    write(folder / "training/ptb/g1", "S0001", "#DX : 164909002,284470004,427172004", sfreq=1000)
    write(folder / "training/st_petersburg_incart/g1", "I0001", "#Dx: 427393009", sfreq=257, seconds=31)
    report, held = shards_of(folder, tmp_path / "out")
    assert {Path(name).stem: labels for name, (labels, _, _) in held.items()} == {
        "E00001": [{"NSR"}],
        "A0001": [{"RBBB", "AF"}],
        "HR00001": [{"RBBB", "PAC", "PVC", "LBBB"}],  # the codes that the challenge scored as one
        "S0001": [{"LBBB", "PAC", "PVC"}],
        "I0001": [{"SA"}] * 3,
    }
    assert all(set(weights) == {1.0} for _, weights, _ in held.values())
    assert {patient for _, _, patient in held.values()} == {"E00001", "A0001", "HR00001", "S0001", "I0001"}
    assert "records found: 1 CPSC, 1 Georgia, 1 PTB, 1 PTB-XL, 1 St Petersburg" in report.notes
    assert any(note.startswith("who the patients are is not published") for note in report.notes)
    assert len(list((tmp_path / "out").rglob("*.h5"))) == 3  # many patients in a shard


def test_the_signal_in_a_shard_is_that_of_the_file(tmp_path):
    digital = write(tmp_path / "in", "E00001", "#Dx: 426783006", sfreq=100)
    report = prepare(Cinc2021(tmp_path / "in"), tmp_path / "out", DEFAULT_DATA, hop_seconds=10.0, seed=0)
    (shard,) = map(open_shard, (tmp_path / "out").rglob("*.h5"))
    assert (shard.info.ch_names, shard.info.sfreq, shard.info.window) == (TWELVE_LEADS, 100.0, 1000)
    assert shard.info.source == "PhysioNet/CinC Challenge 2021" and not report.used[0].notes
    assert np.abs(shard.read_window(0) - digital).max() <= 0.3  # stored in steps of 0.5 uV


def test_unscored_and_unknown_diagnoses_are_said(tmp_path):
    folder = tmp_path / "in"
    write(folder, "E00001", "#Dx: 426783006,67741000119109")
    write(folder, "E00002", "#Dx: 233917008")
    write(folder, "E00003", "#Dx: Unknown")
    write(folder, "E00004", "#Hx: nothing about diagnoses")
    report, held = shards_of(folder, tmp_path / "out")
    notes = {file.name: file.notes for file in report.used}
    assert notes["E00001.hea"] == ("diagnoses that were not scored left out",)
    assert notes["E00002.hea"] == ("diagnoses that were not scored left out; it has no other",)
    assert notes["E00003.hea"] == notes["E00004.hea"] == ("its header names no diagnosis: not labelled",)
    assert held["E00001.hea"][:2] == ([{"NSR"}], [1.0]) and held["E00002.hea"][:2] == ([set()], [1.0])
    assert held["E00003.hea"][:2] == held["E00004.hea"][:2] == ([set()], [0.0])


def test_short_and_interrupted_records_are_used_as_far_as_they_go(tmp_path):
    folder = tmp_path / "in"
    write(folder, "A0001", "#Dx: 426783006", seconds=6)
    digital = heartbeats(20, 500, seed=5)
    digital[6000:7000] = 0  # no lead moves in the second window
    write_record(folder, "Q0001", digital, comments=("#Dx: 426783006",))
    report, held = shards_of(folder, tmp_path / "out")
    assert held["A0001.hea"][:2] == ([{"NSR"}], [1.0])
    assert held["Q0001.hea"][1] == [1.0, 0.0]
    notes = {file.name: file.notes for file in report.used}
    assert notes["A0001.hea"] == ("shorter than a window of 10 s: lengthened by its mirror image",)
    assert "not labelled there" in notes["Q0001.hea"][1]


def test_what_cannot_be_used_is_skipped_by_name_and_the_rest_goes_on(tmp_path, capsys):
    folder = tmp_path / "in"
    write(folder, "E00001", "#Dx: 426783006")
    write(folder, "E00002", "#Dx: 426783006")
    (folder / "E00002.mat").write_bytes((folder / "E00002.mat").read_bytes()[:-2])
    write(folder, "E00003", "#Dx: 426783006")
    (folder / "E00003.mat").unlink()
    write(folder, "E00004", "#Dx: 426783006", seconds=3)
    (folder / "E00005.hea").write_text("<html>404</html>")
    write(folder, "E00006", "#Dx: 426783006")
    (folder / "E00006.mat").write_bytes((folder / "E00006.mat").read_bytes()[:-1] + b"\x55")
    write(folder / "again", "E00001", "#Dx: 164889003")  # the same signal, another diagnosis
    write(folder, "E00008", "#Dx: 426783006", gain="1000/lux")
    assert main(folder, tmp_path / "out", ShardOptions()) == SOME_FAILED
    said = capsys.readouterr().out.splitlines()
    reasons = {f["name"]: f["reason"] for f in json.loads((tmp_path / "out" / "prepare.json").read_text())["skipped"]}
    assert set(reasons) == {*(f"E0000{i}.hea" for i in (2, 3, 4, 5, 6, 8)), "again/E00001.hea"}
    for name, reason in {
        "E00002.hea": "E00002.mat is cut short: 4999 samples a signal, E00002.hea says 5000",
        "E00003.hea": "no such file",
        "E00004.hea": "lasts less than half of a window",
        "E00005.hea": "is no WFDB header",
        "E00006.hea": "do not give the header's checksum",
        "again/E00001.hea": "the same bytes as E00001.hea",
        "E00008.hea": "'lux' is no known unit of voltage",
    }.items():
        assert reason in reasons[name]
        assert any(name in line and reasons[name] in line for line in said)
    assert not check(tmp_path / "out").errors


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no WFDB headers"):
        Cinc2021(tmp_path).names()


def test_a_source_goes_to_other_processes(tmp_path):
    digital = write(tmp_path, "E00001", "#Dx: 426783006", sfreq=100)
    source = pickle.loads(pickle.dumps(Cinc2021(tmp_path)))  # noqa: S301
    opened = source.open(source.names()[0], DEFAULT_DATA)
    np.testing.assert_array_equal(opened.recording.read(0, 0, 1000), digital.astype(np.float32))


@pytest.mark.skipif(not REAL.is_dir(), reason="the recordings are not here")
def test_the_classes_are_those_that_the_challenges_own_table_scores():
    with (REAL / "scored_diagnoses_2021.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    class_of = {code: name for name, codes in SCORED.items() for code in codes}
    assert set(class_of) == {row["SNOMEDCTCode"] for row in rows} and len(class_of) == 30
    for row in rows:
        partner = re.search(r"score (\d+) and (\d+) as the same", row["Notes"])
        same = set(partner.groups()) if partner else {row["SNOMEDCTCode"]}
        assert set(SCORED[class_of[row["SNOMEDCTCode"]]]) == same
        assert partner or class_of[row["SNOMEDCTCode"]] == row["Abbreviation"]
    order = [class_of[row["SNOMEDCTCode"]] for row in rows]
    assert tuple(dict.fromkeys(order)) == NAMES


@pytest.mark.skipif(not REAL.is_dir(), reason="the recordings are not here")
def test_the_real_records_have_the_diagnoses_of_their_headers():
    """Counted anew from the headers' text; none has a note on its amplitude."""
    source, expected, found = Cinc2021(REAL), Counter(), Counter()
    (rule,) = source.rules
    for name in source.names():
        codes = set(re.search(r"Dx: ?([\d,]+)", (REAL / name).read_text())[1].split(","))
        expected.update(finding for finding, mine in SCORED.items() if codes & set(mine))
        opened = source.open(name, DEFAULT_DATA)
        found.update({rule.class_of(mark.text) for mark in opened.annotations} - {None})
        assert opened.searched == {"diagnosis": True} and not any("deviation" in note for note in opened.notes)
    assert found == expected and found["NSR"] == 69 and len(source.names()) == 205


def test_a_folder_without_any_diagnosis_or_none_at_all_is_refused(tmp_path):
    folder = tmp_path / "in"
    write(folder, "1", "#<diagnoses>: Rhythm: Sinus rhythm.")  # LUDB's
    write(folder, "2", "#Dx: Unknown")
    with pytest.raises(ValueError, match=r"in: none of its 2 headers gives a diagnosis as the challenge's do \(#Dx:\)"):
        main(folder, tmp_path / "out", ShardOptions())
    assert not any(tmp_path.rglob("*.h5"))
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        main(tmp_path / "nowhere", tmp_path / "out", ShardOptions())
    write(folder, "E00003", "# DX : 426783006")
    assert len(Cinc2021(folder).names()) == 3


def test_what_macos_leaves_behind_is_no_record(tmp_path):
    write(tmp_path, "E00001", "#Dx: 426783006")
    (tmp_path / "._E00001.hea").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "._E00001.mat").write_bytes(b"\x00\x05\x16\x07")
    assert list(Cinc2021(tmp_path).names()) == ["E00001.hea"]
