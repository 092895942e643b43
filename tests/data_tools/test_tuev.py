"""The reader of TUEV, on a tree of EDF and .rec files as its AAREADME describes them, written byte by byte."""

import hashlib
import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest

import data_tools.tuev
from data_tools.tuev import TCP, TUEV, Row, Tuev, events_of, last_by_name, main, read_rows, read_split, train_patients
from siamese_jax.cli.console import OK
from siamese_jax.cli.recordings import ShardOptions
from siamese_jax.cohort.check import check
from siamese_jax.cohort.prepare import PrepareReport, prepare
from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.edf import read_recording
from siamese_jax.shards.schema import Shard, open_shard
from siamese_jax.vocabulary import standard_name
from tests.recordings.edf_bytes import Signal, edf_bytes

SPSW, GPED, PLED, EYEM, ARTF, BCKG = range(1, 7)
LEADS = ("FP1", "FP2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "F7", "F8", "T3", "T4", "T5", "T6")
LEADS += ("A1", "A2", "FZ", "CZ", "PZ", "T1", "T2")
DATA = DataConfig(ch_names=("F7", "T3", "Cz"), sfreq=250.0)
ROWS = [
    *((0, 10.0, 11.0, SPSW), (1, 10.0, 11.0, SPSW), (9, 10.0, 11.0, BCKG)),  # a spike, on two channels of three
    *((3, 20.4, 21.4, GPED), (4, 20.4, 21.4, PLED), (5, 20.4, 21.4, PLED)),
    *((2, 30.0, 31.0, ARTF), (3, 30.0, 31.0, EYEM)),  # as many of each: the first in the corpus's order
    *((7, 40.0, 41.0, BCKG), (8, 40.0, 41.0, BCKG)),
    *((1, 0.0, 1.0, BCKG), (6, 58.5, 59.5, EYEM)),  # 0.5 s after the start, 1 s before the end
]
"""In the .rec's own order of columns; six events."""


def edf(path: Path, *, seconds: int = 60, rate: int = 250, without: tuple[str, ...] = (), seed: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32((seed or path.name).encode()))
    signals = [
        Signal(f"EEG {lead}-REF", rng.integers(-300, 300, (seconds, rate)), "uV", ("-3276.8", "3276.7"))
        for lead in LEADS
        if lead not in without
    ]
    signals.append(Signal("EEG EKG1-REF", rng.integers(-900, 900, (seconds, rate))))
    signals += [Signal(label, np.zeros((seconds, 1), int), "") for label in ("PHOTIC-REF", "IBI", "BURSTS", "SUPPR")]
    patient = f"{path.parent.name} M 01-JAN-1963 {path.parent.name} Age:50"
    path.write_bytes(edf_bytes(signals, patient=patient, recording="Startdate 01-JAN-2013 00002275 X X"))
    return path


def rec(path: Path, rows=ROWS, *, end: str = "\n") -> Path:
    path = path.with_suffix(".rec")
    path.write_bytes("".join(f"{c},{a:.1f},{b:.1f},{label}{end}" for c, a, b, label in rows).encode())
    return path


def recording(root: Path, name: str, rows=ROWS, **options) -> Path:
    path = edf(root / "edf" / name, **options)
    rec(path, rows)
    return path


def run(root: Path, out: Path, data: DataConfig = DATA, validation: tuple[str, ...] = ()) -> PrepareReport:
    return prepare(Tuev(root, validation), out, data, hop_seconds=data.window_seconds, seed=0)


def shards_of(out: Path) -> dict[str, Shard]:
    return {shard.patients[0]: shard for shard in map(open_shard, sorted(out.rglob("*.h5")))}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Release 2.0.1 with six training patients, one of them with two files, and two sessions of eval."""
    root = tmp_path_factory.mktemp("tuev") / "tuh_eeg_events" / "v2.0.1"
    recording(root, "train/aaaaaaar/aaaaaaar_00000001.edf")
    recording(root, "train/aaaaaaar/aaaaaaar_00000002.edf", ROWS[:3])
    for patient in ("aaaaaabs", "aaaaaaci", "aaaaaadd", "aaaaaadg", "aaaaaaez"):
        recording(root, f"train/{patient}/{patient}_00000001.edf", ROWS[6:10])
    recording(root, "eval/032/bckg_032_a_.edf", ROWS[:3])  # of which its name says something else
    recording(root, "eval/032/bckg_032_a_1.edf", ROWS[:3])
    recording(root, "eval/007/spsw_007_a_.edf", ROWS[8:10])
    (root / "edf/train/aaaaaaar/aaaaaaar_00000001_ch000.lab").write_text("0 117200000 bckg\n")
    (root / "edf/train/aaaaaaar/aaaaaaar_00000001_ch000.htk").write_bytes(b"\0" * 12)
    (root / "AAREADME.txt").write_text("TUH EEG Event Corpus\n")
    return root


@pytest.fixture(scope="module")
def prepared(tree, tmp_path_factory) -> tuple[Path, PrepareReport]:
    out = tmp_path_factory.mktemp("shards")
    return out, run(tree, out, validation=last_by_name(train_patients(tree)))


def onsets(shard: Shard, recording: int = 0) -> np.ndarray:
    mine = shard.recording == recording
    return (shard.start[mine] - shard.segments["start"][shard.segment[mine]]) / shard.info.sfreq


def test_there_is_one_window_about_each_event_and_its_class_is_the_events(prepared):
    shard = shards_of(prepared[0])["aaaaaaar"]
    first = shard.recording == 0
    assert onsets(shard).tolist() == [0.0, 8.5, 18.9, 28.5, 38.5, 56.0]
    expected = ["bckg", "spsw", "pled", "eyem", "bckg", "eyem"]
    assert [TUEV.classes[label] for label in shard.labels["tuev"][first]] == expected
    assert shard.weights["tuev"][first].tolist() == [1.0] * 6
    assert shard.info.tasks[1] == TUEV


def test_ied_is_spsw_and_periodic_discharges_have_no_label(prepared):
    shard = shards_of(prepared[0])["aaaaaaar"]
    first = shard.recording == 0
    assert shard.labels["ied"][first].tolist() == [0, 1, 0, 0, 0, 0]
    assert shard.weights["ied"][first].tolist() == [1, 1, 0, 1, 1, 1]


def test_each_class_is_ied_none_or_unknown(tmp_path):
    recording(tmp_path, "train/a/a_1.edf", [(0, 8.0 * k, 8.0 * k + 1, k) for k in range(1, 7)])
    run(tmp_path, tmp_path / "out")
    shard = shards_of(tmp_path / "out")["a"]
    assert shard.labels["tuev"].tolist() == [0, 1, 2, 3, 4, 5]
    assert shard.labels["ied"].tolist() == [1, 0, 0, 0, 0, 0]
    assert shard.weights["ied"].tolist() == [1, 0, 0, 1, 1, 1]
    without_event = Tuev(tmp_path).rules[1].label([], np.zeros(1), window_seconds=4.0)
    assert without_event.weight.tolist() == [0.0]


def test_windows_hold_the_samples_about_the_event_and_none_from_the_other_end(prepared, tree):
    shard = shards_of(prepared[0])["aaaaaaar"]
    path = tree / "edf/train/aaaaaaar/aaaaaaar_00000001.edf"
    whole = read_recording(path, ch_names=DATA.ch_names, sfreq=250.0).read(0, 0, 15_000)
    for i, onset in enumerate(onsets(shard)):
        at = round(onset * 250)
        np.testing.assert_allclose(shard.read_window(i), whole[at : at + 1000], atol=0.06)


def test_the_channel_of_an_event_is_kept(prepared):
    marks = shards_of(prepared[0])["aaaaaaar"].marks["tuev"]
    mine = marks.recording == 0
    texts = [TUEV.classes[code] for code in marks.code[mine]]
    held = set(zip(texts, marks.channels[mine].tolist(), strict=True))
    assert ("spsw", "Fp1-F7") in held and ("spsw", "F7-T3") in held
    assert ("pled", "Fp2-F8") in held and ("pled", "F8-T4") in held
    assert not {text for text, channel in held if text == "gped"}  # its channels were outvoted
    assert {standard_name(pair) for pair in TCP} == set(TCP) and len(TCP) == 22


def test_eval_is_the_test_set_and_nobody_reads_the_label_in_its_names(prepared):
    out, report = prepared
    splits = {split.name: set(split.patients) for split in report.summary.splits}
    assert splits["test"] == {"eval-032", "eval-007"}
    assert splits["validation"] == {"aaaaaadg", "aaaaaaez"}  # of six patients, the last after four fifths
    assert splits["train"] == {"aaaaaaar", "aaaaaabs", "aaaaaaci", "aaaaaadd"}
    shards = shards_of(out)
    assert len(shards["eval-032"].recordings["name"]) == 2
    assert shards["eval-032"].labels["ied"].tolist() == [1.0, 1.0]
    assert TUEV.classes[shards["eval-007"].labels["tuev"][0]] == "bckg"
    assert not check(out).errors
    assert not report.skipped


def test_the_report_counts_disagreements_edges_and_the_split(prepared):
    notes = "\n".join(prepared[1].notes)
    rows = len(ROWS) + 3 * 3 + 5 * 4 + 2
    assert f"{rows} rows by channel are {6 + 3 + 5 * 2 + 1} events; of {3 + 3 + 5} of them channels disagree" in notes
    assert "validation: 2 of 6 training patients, sha256 " in notes
    said = {note for file in prepared[1].used for note in file.notes}
    assert any(note.startswith("2 events nearer to an edge than half a window") for note in said)


def test_two_windows_at_one_edge_are_one_with_the_class_of_the_nearer_event(tmp_path):
    rows = [(0, 0.0, 1.0, SPSW), (0, 1.0, 2.0, BCKG), (0, 30.0, 31.0, BCKG)]
    recording(tmp_path, "train/a/a_1.edf", rows)
    run(tmp_path, tmp_path / "out")
    shard = shards_of(tmp_path / "out")["a"]
    assert onsets(shard).tolist() == [0.0, 28.5]
    assert [TUEV.classes[label] for label in shard.labels["tuev"]] == ["bckg", "bckg"]
    assert shard.labels["ied"].tolist() == [1.0, 0.0]  # the spike is in the window, wherever


@pytest.mark.parametrize("rate", [200, 256, 400])
def test_a_file_of_another_rate_gives_windows_about_the_same_moments(tmp_path, rate):
    recording(tmp_path, "train/a/a_1.edf", rate=rate)
    run(tmp_path, tmp_path / "out", DataConfig(ch_names=("Cz",), sfreq=200.0, window_seconds=5.0))
    shard = shards_of(tmp_path / "out")["a"]
    assert onsets(shard).tolist() == [0.0, 8.0, 18.4, 28.0, 38.0, 55.0]
    assert len(shard.read_window(0)) == 1000
    whole = read_recording(tmp_path / "edf/train/a/a_1.edf", ch_names=("Cz",), sfreq=200.0).read(0, 3680, 4680)
    np.testing.assert_allclose(shard.read_window(2), whole, atol=0.06)


def test_a_file_that_lacks_electrodes_is_used_and_says_so(tmp_path):
    recording(tmp_path, "train/a/a_1.edf", without=("F7", "A1", "A2", "T1"))
    report = run(tmp_path, tmp_path / "out")
    assert shards_of(tmp_path / "out")["a"].present(0).tolist() == [False, True, True]
    assert "lacks F7" in report.used[0].notes


def test_events_after_the_end_are_left_out_and_counted(tmp_path):
    recording(tmp_path, "train/a/a_1.edf", [*ROWS, (3, 59.0, 60.9, ARTF), (3, 70.0, 71.0, SPSW), (4, 80.0, 81.0, SPSW)])
    report = run(tmp_path, tmp_path / "out")
    assert "2 events after the end of the file: left out" in report.used[0].notes
    assert onsets(shards_of(tmp_path / "out")["a"])[-1] == 56.0


def test_of_channels_that_disagree_any_class_goes_before_background_then_the_most_then_the_rarer():
    def winner(*labels: int) -> str:
        kept, torn = events_of([Row(i, 4.0, 5.0, label - 1) for i, label in enumerate(labels)])
        assert torn == (len(set(labels)) > 1)
        assert [row.channel for row in kept] == [i for i, label in enumerate(labels) if label - 1 == kept[0].label]
        return TUEV.classes[kept[0].label]

    assert winner(BCKG, BCKG, BCKG, EYEM) == "eyem"
    assert winner(ARTF, ARTF, SPSW, BCKG) == "artf"
    assert winner(ARTF, SPSW) == "spsw"
    assert winner(PLED, GPED) == "gped"
    assert winner(BCKG, BCKG) == "bckg"


def test_the_same_row_twice_has_one_voice():
    rows = [Row(3, 4.0, 5.0, 3), Row(3, 4.0, 5.0, 3), Row(4, 4.0, 5.0, 0)]
    assert [TUEV.classes[row.label] for row in events_of(rows)[0]] == ["spsw"]


@pytest.mark.parametrize(
    "text", ["\ufeff13,90.4,91.4,6\r\n\r\n", "13,90.400000,91.400000,6.0", " 13 , 90.4 , 91.4 , 6 \n"]
)
def test_rows_are_read_however_they_are_written(tmp_path, text):
    (tmp_path / "a.rec").write_bytes(text.encode())
    assert read_rows(tmp_path / "a.rec") == [Row(13, 90.4, 91.4, 5)]


BAD_LINES = ["22,1,2,6", "-1,1,2,6", "1,1,2,0", "1,1,2,7", "1,2,1,6", "1,nan,2,6", "1,1,inf,6"]
BAD_LINES += ["1,1,2", "1,1,2,bckg", "1.5,1,2,6", "1,1,2,6,6", "1;1;2;6"]


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_line_of_another_form_is_refused_with_its_number(tmp_path, line):
    (tmp_path / "a.rec").write_text(f"1,1.0,2.0,6\n{line}\n")
    with pytest.raises(ValueError, match=r"a\.rec, line 2: a line is channel \(0 to 21\)"):
        read_rows(tmp_path / "a.rec")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("no rec", "no a_2.rec beside it"),
        ("no rows", "a_2.rec names no event within the file"),
        ("a bad row", "a_2.rec, line 1: "),
        ("no edf", "is cut inside its header"),
        ("short", "as long as a window"),
        ("folder", "it lies in the folder of a, but its name says b"),
        ("copy", "the same"),
    ],
)
def test_one_bad_file_is_skipped_with_its_reason_and_the_rest_goes_on(tmp_path, kind, reason):
    recording(tmp_path, "train/a/a_1.edf")
    name = "train/a/b_2.edf" if kind == "folder" else "train/a/a_2.edf"
    options = {"short": {"seconds": 3}, "copy": {"seed": "a_1.edf"}}.get(kind, {})
    rows = {"no rows": [], "a bad row": [(40, 1.0, 2.0, 1)], "short": [(0, 1.0, 2.0, 1)]}.get(kind, ROWS)
    path = recording(tmp_path, name, rows, **options)
    if kind == "no rec":
        path.with_suffix(".rec").unlink()
    elif kind == "no edf":
        path.write_bytes(path.read_bytes()[:700])
    report = run(tmp_path, tmp_path / "out")
    assert [Path(file.name).name for file in report.used] == ["a_1.edf"]
    assert [Path(file.name).name for file in report.skipped] == [path.name]
    assert reason in report.skipped[0].reason


def test_a_rec_without_its_edf_is_said(tmp_path):
    recording(tmp_path, "train/a/a_1.edf")
    rec(tmp_path / "edf/train/a/a_9")
    assert "1 .rec files without an EDF file: a_9.rec" in run(tmp_path, tmp_path / "out").notes


@pytest.mark.parametrize("below", [".", "edf", "..", "../.."])
def test_the_tree_is_found_from_the_release_its_edf_folder_or_above(tree, below):
    root = (tree / below).resolve() if below.startswith(".") else tree / below
    source = Tuev(root)
    assert len(source.names()) == 10
    assert all(path.is_file() for name in source.names() for path in source.files(name))
    assert pickle.loads(pickle.dumps(source)).names() == source.names()


def test_release_2_0_0_has_patients_of_digits(tmp_path):
    recording(tmp_path, "train/00002275/00002275_00000001.edf")
    recording(tmp_path, "eval/bckg_032_a_.edf")
    run(tmp_path, tmp_path / "out")
    assert set(shards_of(tmp_path / "out")) == {"00002275", "eval-032"}


def test_what_is_no_tree_or_two_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no edf/train or edf/eval"):
        main(tmp_path, tmp_path / "out")
    for release in ("v2.0.0", "v2.0.1"):
        (tmp_path / release / "edf" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds several releases, name one"):
        main(tmp_path, tmp_path / "out")


def test_a_written_split_is_checked_and_used(tree, tmp_path, capsys):
    file = tmp_path / "split.csv"
    assert main(tree, write_split=file) == OK
    body = file.read_bytes().partition(b"\n")[2]
    digest = hashlib.sha256(body).hexdigest()
    assert f"2 of 6 training patients for validation; sha256 {digest}" in capsys.readouterr().out
    assert body.decode().splitlines()[:2] == ["patient,split", "aaaaaaar,train"]
    assert file.read_text().startswith(f"# sha256 of the lines below: {digest}\n")

    patients = train_patients(tree)
    assert read_split(file, patients) == last_by_name(patients) == ("aaaaaadg", "aaaaaaez")


def test_a_split_of_ones_own_is_used_instead_of_the_rule(tmp_path):
    for patient in "ab":
        recording(tmp_path / "tuev", f"train/{patient}/{patient}_1.edf", ROWS[:3])
    (tmp_path / "own.csv").write_bytes("\ufeffpatient,split\r\na,validation\r\nb,train\r\n".encode())  # as Excel writes
    assert main(tmp_path / "tuev", tmp_path / "out", split=tmp_path / "own.csv") == OK
    assert [path.name[0] for path in (tmp_path / "out" / "validation").glob("*.h5")] == ["a"]
    assert [path.name[0] for path in (tmp_path / "out" / "train").glob("*.h5")] == ["b"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("aaaaaaar,train", "aaaaaaar,validation", "not those that its hash was made of"),
        ("patient,split", "name,part", "has a header"),
        ("aaaaaaci,train", "aaaaaaci,test", r"in train or validation; it has \['test'\]"),
        ("aaaaaaci,train", "aaaaaabs,train", "it has one twice"),
        ("aaaaaaci,train\n", "aaaaaaci,train,x\n", "two cells a line"),
    ],
)
def test_a_split_file_of_another_form_is_refused(tree, tmp_path, old, new, message):
    main(tree, write_split=tmp_path / "split.csv")
    text = (tmp_path / "split.csv").read_text()
    (tmp_path / "split.csv").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        main(tree, tmp_path / "out", split=tmp_path / "split.csv")


def test_the_split_of_another_tree_is_refused(tree, tmp_path):
    main(tree, write_split=tmp_path / "split.csv")
    with pytest.raises(ValueError, match="1 patients are in one of them only, as aaaaaafa"):
        read_split(tmp_path / "split.csv", [*train_patients(tree), "aaaaaafa"])


def test_validation_is_the_last_fifth_by_name():
    patients = [f"{i:08d}" for i in range(290)]
    assert last_by_name(patients) == tuple(patients[232:])
    assert last_by_name(["a"]) == () and last_by_name([]) == ()


def test_run_as_a_command_its_source_still_travels_to_workers(tree):
    cloudpickle = pytest.importorskip("cloudpickle", reason="comes with the extra `cluster`")
    cloudpickle.register_pickle_by_value(data_tools.tuev)  # as what is defined in __main__ goes to a worker
    try:
        assert pickle.loads(cloudpickle.dumps(Tuev(tree))).names() == Tuev(tree).names()
    finally:
        cloudpickle.unregister_pickle_by_value(data_tools.tuev)


def test_the_command_says_what_it_did_and_refuses_what_has_no_meaning(tmp_path, capsys):
    tree = tmp_path / "tuev"
    recording(tree, "train/a/a_1.edf")
    assert main(tree, tmp_path / "out", ShardOptions(sfreq=100.0, window=5.0)) == OK
    assert "1 file used, 0 skipped" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--hop has no meaning"):
        main(tree, tmp_path / "out", ShardOptions(hop=1.0))
    with pytest.raises(ValueError, match="give either a folder for the shards or --write-split"):
        main(tree)


def test_no_such_folder_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: no such folder$"):
        main(tmp_path / "nowhere", tmp_path / "out", ShardOptions())
    assert not any(tmp_path.rglob("*.h5"))


def test_what_macos_leaves_behind_is_no_recording(tmp_path):
    path = recording(tmp_path, "train/a/a_1.edf")
    said = Tuev(tmp_path).notes()
    for name in ("._a_1.edf", "._a_1.rec", "._a_2.rec"):
        path.with_name(name).write_bytes(b"\x00\x05\x16\x07")
    assert [Path(name).name for name in Tuev(tmp_path).names()] == ["a_1.edf"]
    assert Tuev(tmp_path).notes() == said
