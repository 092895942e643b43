"""The reader of LUDB: records in its layout, whose gains are no calibration, malformed ones, and the real ones."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from data_tools.ludb import CLASSES, Ludb, _is_scaled_to_range, main
from data_tools.wfdb import DEFAULT_DATA
from siamese_jax.cli.console import SOME_FAILED
from siamese_jax.cli.recordings import ShardOptions
from siamese_jax.cohort.check import check
from siamese_jax.cohort.prepare import prepare
from siamese_jax.config.experiment import DataConfig
from siamese_jax.shards.schema import open_shard
from siamese_jax.vocabulary import TWELVE_LEADS
from tests.data_tools.wfdb_bytes import LEADS, checksum, encoded, heartbeats

REAL = Path(__file__).parents[2] / "../shared/data/ludb"
NAMES = tuple(CLASSES)
NATIVE = DataConfig(ch_names=TWELVE_LEADS, sfreq=500.0, window_seconds=10.0)
COLUMNS = (
    "ID,Sex,Age,Rhythms,Electric axis of the heart,Conduction abnormalities,Extrasystolies,Hypertrophies,"
    "Cardiac pacing,Ischemia,Non-specific repolarization abnormalities,Other states"
)
HEADERS = {
    1: ["Rhythm: Sinus bradycardia.", "Electric axis of the heart: left axis deviation.", "Left ventricular overload."],
    2: [
        "Rhythm: Atrial fibrillation.",
        "Ventricular extrasystole, type: single PVC.",
        "STEMI: septal.",
        "STEMI: apical.",
    ],
    10: ["Rhythm: Sinus rhythm.", "Undefined ischemia/scar/supp.NSTEMI: lateral wall.", "I degree AV block. "],
}
TABLE = f"""{COLUMNS}
1,"F
","51
",Sinus bradycardia,Electric axis of the heart: left axis deviation,,,"Left ventricular overload
Left ventricular hypertrophy",,,Non-specific repolarization abnormalities: posterior wall,
2,"M
","80
",Atrial fibrillation,,,"Ventricular extrasystole, type: single pvc",,"Pacemaker presence, undefined",Stemi: septal,,
10,"M
","33
",Sinus rhythm,Electric axis of the heart: normal,I degree av block,,,,,,Early repolarization syndrome
"""


def write(
    folder: Path, subject: int, comments=(), *, gains: str | None = None, newline: str = "\n", missing=()
) -> np.ndarray:
    """A record as LUDB has it: small letters, no resolution, each lead's gain its own range and baseline its mean.

    `missing`: places in [time, chan] whose samples are not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digital = heartbeats(10, 500, seed=subject)
    scales = [gains or f"{np.ptp(column)}({int(column.mean())})/mV" for column in digital.T]
    for place in missing:
        digital[place] = -(2**15)
    lines = [f"{subject} 12 500 5000"]
    for lead, gain, column in zip(LEADS, scales, digital.T, strict=True):
        lines.append(f"{subject}.dat 16 {gain} 0 0 {column[0]} {checksum(column)} 0 {lead.lower()}")
    lines += ["#<age>: 51", "#<sex>: F", "#<diagnoses>:", *(f"#{text}" for text in comments)]
    (folder / f"{subject}.hea").write_bytes("".join(line + newline for line in lines).encode())
    (folder / f"{subject}.dat").write_bytes(encoded(digital))
    return digital


def write_all(root: Path, *, table: str | None = TABLE, prefix: str = "", newline: str = "\n") -> None:
    for subject, comments in HEADERS.items():
        write(root / "data", subject, comments, newline=newline)
    if table is not None:
        (root / "ludb.csv").write_bytes((prefix + table.replace("\n", newline)).encode())


def labels_of(out: Path) -> dict[str, set[str]]:
    """Classes by patient."""
    held = {}
    for shard in map(open_shard, sorted(out.rglob("*.h5"))):
        for i, patient in enumerate(shard.patient(np.arange(len(shard)))):
            held[patient] = {NAMES[k] for k in np.flatnonzero(shard.labels["diagnosis"][i])}
            assert shard.weights["diagnosis"][i] == 1
    return held


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_header_and_table_say_becomes_classes(tmp_path, newline):
    write_all(tmp_path / "in", prefix="\ufeff", newline=newline)
    report = prepare(Ludb(tmp_path / "in"), tmp_path / "out", DEFAULT_DATA, hop_seconds=10.0, seed=0)
    assert labels_of(tmp_path / "out") == {
        "LUDB-1": {"SB", "LAD", "LVO", "LVH", "repolarisation"},
        "LUDB-2": {"AF", "PVC", "STEMI", "PR"},
        "LUDB-10": {"NSR", "ischemia-or-scar", "IAVB", "axis-normal", "early-repolarisation"},
    }
    assert [file.name for file in report.used] == ["data/1.hea", "data/2.hea", "data/10.hea"]
    assert not check(tmp_path / "out").errors


def test_headers_alone_are_enough_and_that_is_said(tmp_path):
    write_all(tmp_path / "in", table=None)
    (tmp_path / "in" / "data" / "1.avr").write_bytes(b"\0\0")
    report = prepare(Ludb(tmp_path / "in"), tmp_path / "out", DEFAULT_DATA, hop_seconds=10.0, seed=0)
    assert labels_of(tmp_path / "out")["LUDB-1"] == {"SB", "LAD", "LVO"}
    assert "no ludb.csv: headers alone were read" in report.notes
    assert "where waves begin and end (.i, .ii and so on) is not read" in report.notes


def test_gains_that_are_the_ranges_of_the_leads_are_no_calibration(tmp_path):
    digital = write(tmp_path, 1, HEADERS[1])
    source = pickle.loads(pickle.dumps(Ludb(tmp_path)))  # noqa: S301
    opened = source.open("1.hea", NATIVE)
    got = opened.recording.read(0, 0, 5000)
    np.testing.assert_array_equal(got, (digital - digital.mean(axis=0).astype(int)).astype(np.float32))
    assert "its header's gains are the ranges of its leads: integers taken for microvolts" in opened.notes
    believed = Ludb(tmp_path, "header").open("1.hea", NATIVE)
    assert not any("gains" in note for note in believed.notes)
    np.testing.assert_allclose(np.ptp(believed.recording.read(0, 0, 5000), axis=0), 1000.0, atol=0.01)
    calibrated = write(tmp_path, 2, HEADERS[2], gains="500/mV")
    opened = Ludb(tmp_path).open("2.hea", NATIVE)
    np.testing.assert_array_equal(opened.recording.read(0, 0, 5000), (2 * calibrated).astype(np.float32))
    assert not any("gains" in note for note in opened.notes)


def test_missing_samples_do_not_make_the_headers_gains_believed(tmp_path):
    """One in a lead of the first, a lead throughout in both; warnings are errors here."""
    digital = write(tmp_path, 1, HEADERS[1], missing=[np.s_[100, 3], np.s_[:, 5]])
    opened = Ludb(tmp_path).open("1.hea", NATIVE)
    assert "its header's gains are the ranges of its leads: integers taken for microvolts" in opened.notes
    got = np.ptp(opened.recording.read(0, 200, 5000)[:, :3], axis=0)
    np.testing.assert_array_equal(got, np.ptp(digital[200:, :3], axis=0))
    write(tmp_path, 2, HEADERS[2], gains="500/mV", missing=[np.s_[:, 5]])
    assert not any("gains" in note for note in Ludb(tmp_path).open("2.hea", NATIVE).notes)
    write(tmp_path, 10, HEADERS[10], missing=[np.s_[:, :]])
    assert not _is_scaled_to_range(tmp_path / "10.hea")  # nothing says that it is


def test_what_is_not_known_or_not_there_is_said_and_the_rest_goes_on(tmp_path, capsys):
    root = tmp_path / "in"
    write_all(root, table=TABLE + "11,F,40,Sinus rhythm,,,,,,,,\n")
    write(root / "data", 3, ["Rhythm: Torsades.", "Left atrial hypertrophy."])
    write(root / "data", 4)
    write(root / "data", 5, HEADERS[1])
    (root / "data" / "5.dat").write_bytes(b"\0" * 100)
    write(root / "data", 6, HEADERS[1])
    (root / "data" / "6.dat").unlink()
    (root / "data" / "notes.hea").write_text("not a number")
    assert main(root, tmp_path / "out", ShardOptions()) == SOME_FAILED
    said = capsys.readouterr().out.splitlines()
    held = json.loads((tmp_path / "out" / "prepare.json").read_text())
    reasons = {file["name"]: file["reason"] for file in held["skipped"]}
    assert reasons["data/5.hea"] == "5.dat is cut short: 4 samples a signal, 5.hea says 5000"
    assert set(reasons) == {"data/5.hea", "data/6.hea"} and "no such file" in reasons["data/6.hea"]
    notes = {file["name"]: file["notes"] for file in held["used"]}
    assert "a diagnosis that is not known here, 'torsades': left out" in notes["data/3.hea"]
    assert "not in ludb.csv: its header alone was read" in notes["data/3.hea"]
    assert "no diagnosis: not labelled" in notes["data/4.hea"]
    assert "subjects of ludb.csv without a record: 11" in said
    assert not check(tmp_path / "out").errors


@pytest.mark.parametrize(
    ("content", "message"),
    [("Name,Sex\n1,F\n", "ludb.csv lacks the column ID"), ('"' + "x" * 200_000, "is no table of comma-separated")],
)
def test_a_table_that_is_none_is_refused(tmp_path, content, message):
    write_all(tmp_path / "in", table=content)
    with pytest.raises(ValueError, match=message):
        prepare(Ludb(tmp_path / "in"), tmp_path / "out", DEFAULT_DATA, hop_seconds=10.0, seed=0)


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no records"):
        Ludb(tmp_path).names()


@pytest.mark.skipif(not REAL.is_dir(), reason="the recordings are not here")
def test_every_text_of_the_real_records_is_known():
    """Figures counted from ludb.csv's text by hand."""
    source = Ludb(REAL)
    (rule,) = source.rules
    held = []
    for name in source.names():
        opened = source.open(name, DEFAULT_DATA)
        held.append({rule.class_of(mark.text) for mark in opened.annotations})
        assert opened.notes == ("its header's gains are the ranges of its leads: integers taken for microvolts",)
    assert len(held) == 150 and not any(None in mine for mine in held)
    figures = {"NSR": 109, "AF": 10, "LVH": 79, "axis-vertical": 19, "IRBBB": 21, "PR": 7, "early-repolarisation": 6}
    assert {name: sum(name in mine for mine in held) for name in figures} == figures


@pytest.mark.skipif(not REAL.is_dir(), reason="the recordings are not here")
@pytest.mark.parametrize("name", ["1.hea", "101.hea", "17.hea"])
def test_real_leads_obey_einthoven_as_mended_and_not_by_their_headers(name):
    """I + III = II."""

    def error(source: Ludb) -> float:
        one, two, three = source.open(name, NATIVE).recording.read(0, 0, 5000)[:, :3].T
        return float(np.std(one + three - two) / np.std(two))

    assert error(Ludb(REAL)) < 1e-3 and error(Ludb(REAL, "header")) > 0.05


def test_no_such_folder_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: no such folder$"):
        main(tmp_path / "nowhere", tmp_path / "out", ShardOptions())
    assert not any(tmp_path.rglob("*.h5"))
