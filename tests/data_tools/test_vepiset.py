"""The reader of vEpiSet, on its layout: MATLAB 5 files written byte by byte, and epochs as NumPy saves them."""

import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

import data_tools.vepiset
from data_tools.vepiset import CORRECTIONS, Vepiset, main
from data_tools.vepiset_files import LABELS
from siamese_jax.cli.console import OK, SOME_FAILED
from siamese_jax.cohort.check import check
from siamese_jax.cohort.prepare import PrepareReport, prepare
from siamese_jax.config.experiment import DataConfig
from siamese_jax.shards.marks import events_of
from siamese_jax.shards.schema import Shard, open_shard
from siamese_jax.vocabulary import LEADS_29

FOLDERS = ("Non-IED", "Generalized-IED", "Frontal-IED", "Temporal-IED", "Centro-Parietal-IED", "Occipital-IED")
DATA = DataConfig(ch_names=("C3", "O2", "A1"), sfreq=500.0)  # the data set's rate: samples compare one by one
MARKS = [
    *(("0.1", "0", "Waking"), ("6.0", "0", "!"), ("16.05", "0", "!"), ("20.0", "0", "Sleeping")),
    *(("25.0", "0", "!start"), ("29.5", "0", "!end"), ("34.0", "0", "!")),
]
"""Epoch 1 holds a mark, 4 one near its border, 6 and 7 a run, 8 a mark; the state changes at the border of epoch 5."""
PUBLISHED = {1: 3, 4: 2, 6: 1, 7: 1, 9: 5}
"""Epoch 8 holds a mark and is no IED, 9 is one without a mark: both occur in the data set."""


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def matrix(array_class: int, shape: tuple[int, ...], name: str, *data: bytes) -> bytes:
    """An array of a MATLAB 5 file (MAT-File Format, MathWorks): flags, dimensions, name, then its data elements."""
    head = element(6, struct.pack("<II", array_class, 0)), element(5, np.array(shape, "<i4").tobytes())
    return element(14, b"".join((*head, element(1, name.encode()), *data)))


def doubles(name: str, array: np.ndarray) -> bytes:
    return matrix(6, array.shape, name, element(9, array.astype("<f8").tobytes("F")))


def characters(name: str, rows: list, width: int = 32) -> bytes:
    """Rows of three padded strings, as the data set holds its events: an array of n x 3 x width characters."""
    codes = np.array([[list(cell.ljust(width).encode("utf-16le")) for cell in row] for row in rows], np.uint8)
    codes = codes.reshape(len(rows), 3, 2 * width).view("<u2")
    return matrix(4, codes.shape, name, element(4, codes.tobytes("F")))


def cells(name: str, rows: list) -> bytes:
    """The same as cells that hold a string, or a number for the onset."""
    held = []
    for column in range(3):
        for row in rows:
            if column == 0:
                held.append(doubles("", np.array([[float(row[0])]])))
            else:
                codes = np.frombuffer(row[column].encode("utf-16le"), "<u2")
                held.append(matrix(4, (1, len(codes)), "", element(4, codes.tobytes())))
    return matrix(1, (len(rows), 3), name, *held)


def mat(path: Path, *arrays: bytes, compressed: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    path.write_bytes(header + b"".join(struct.pack("<II", 15, len(z)) + z for z in map(zlib.compress, arrays)))
    if not compressed:
        path.write_bytes(header + b"".join(arrays))
    return path


def volts(name: str, n_times: int) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return np.cumsum(rng.normal(0, 4e-6, (29, n_times)), axis=1) + rng.normal(0, 20e-6, (29, n_times))


def epochs(root: Path, name: str, eeg: np.ndarray, labels: dict[int, int]) -> None:
    for number, start in enumerate(range(0, eeg.shape[1], 2000)):
        stop, label = min(start + 2000, eeg.shape[1]), labels.get(number, 0)
        (root / FOLDERS[label]).mkdir(parents=True, exist_ok=True)
        path = root / FOLDERS[label] / f"{name}_{start}_{stop}_500__{label}.npy"
        np.save(path, eeg[:, start:stop].astype(np.float32))


def patient(root: Path, name: str, *, marks=MARKS, published=PUBLISHED, n_epochs=10, extra=0, files="both") -> Path:
    eeg = volts(name, n_epochs * 2000 + extra)
    if files != "epochs":
        arrays = [doubles("eeg_data", eeg)] + ([characters("events", marks)] if marks else [])
        mat(root / "MAT_Files" / f"{name}.mat", *arrays)
    if files != "mat":
        epochs(root, name, eeg, published)
    return root


def run(root: Path, out: Path, data: DataConfig = DATA, hop: float = 4.0) -> PrepareReport:
    return prepare(Vepiset(root), out, data, hop_seconds=hop, seed=0)


def shard_of(out: Path, name: str) -> Shard:
    (path,) = (p for p in out.rglob("*.h5") if p.name.startswith(f"{name}-"))
    return open_shard(path)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Five patients in all layouts, in a folder that holds the data set's."""
    root = tmp_path_factory.mktemp("vepiset")
    inner = root / "download" / "opensource-dataset"
    patient(inner, "DA00100A", extra=700)
    patient(inner, "DA00100B", marks=[("0.1", "0", "Waking")], published={})
    patient(inner, "DA00100C", files="mat")
    patient(inner, "DA00100D", marks=[], files="epochs", extra=900, published=PUBLISHED | {10: 4})
    patient(inner, "DA00100E", marks=[("0.1", "0", "Sleeping")], published={}, n_epochs=5)
    next(inner.rglob("DA00100D_6000_*.npy")).unlink()
    info = "\ufefffile_name,sex,age\r\n" + "".join(f"DA00100{letter},F,30\r\n" for letter in "ABCDEF")
    (inner / "MAT_Files" / "base_info.csv").write_bytes(info.encode())
    (inner / "MAT_Files" / "._DA00100A.mat").write_bytes(b"what macOS leaves behind")
    return root


@pytest.fixture(scope="module")
def prepared(tree, tmp_path_factory) -> tuple[Path, PrepareReport]:
    out = tmp_path_factory.mktemp("shards")
    return out, run(tree, out)


def test_published_epochs_decide_their_windows_and_marks_the_state(prepared):
    out, report = prepared
    shard = shard_of(out, "DA00100A")
    expected = [PUBLISHED.get(k, 0) for k in range(10)]
    assert shard.labels["region"].tolist() == expected
    assert shard.labels["ied"].tolist() == [float(label > 0) for label in expected]
    assert shard.weights["ied"].tolist() == shard.weights["region"].tolist() == [1.0] * 10  # however near a border
    assert shard.labels["state"].tolist() == [0.0] * 5 + [1.0] * 5
    assert not report.skipped
    assert [task.name for task in shard.info.tasks] == ["ied", "state", "region"]
    assert shard.info.tasks[2].classes == LABELS


def events_as_evaluation_reads_them(shard: Shard) -> tuple[list[float], list[float]]:
    events = events_of(shard.task_marks("ied", 0).marks)
    ends = [(e.onset_seconds, e.stop_seconds) if e.kind == "run" else (e.place_seconds,) * 2 for e in events]
    first, last = zip(*ends, strict=True)
    return list(first), list(last)


def test_the_marks_stay_as_events_that_detection_is_scored_against(prepared):
    shard = shard_of(prepared[0], "DA00100A")
    marks = shard.marks["ied"]
    assert sorted(set(marks.kind)) == ["event", "run", "window"] and (marks.kind == "window").sum() == 11
    assert events_as_evaluation_reads_them(shard) == ([6.0, 16.05, 25.0, 34.0], [6.0, 16.05, 29.5, 34.0])


def test_without_marks_a_discharge_is_somewhere_in_its_epoch(prepared):
    shard = shard_of(prepared[0], "DA00100D")
    starts = [4.0 * k for k in [*sorted(PUBLISHED), 10]]
    assert events_as_evaluation_reads_them(shard) == (starts, [start + 4.0 for start in starts[:-1]] + [41.8])


@pytest.mark.parametrize("name", ["DA00100A", "DA00100D"])
def test_samples_are_those_of_the_file_in_microvolts(prepared, name):
    shard = shard_of(prepared[0], name)
    eeg = volts(name, 20_700 if name == "DA00100A" else 20_900) * 1e6
    rows = [LEADS_29.index(lead) for lead in DATA.ch_names]
    onset = shard.segments["onset_seconds"][shard.segment] * 500
    for i in range(len(shard)):
        start = round(onset[i] + shard.start[i] - shard.segments["start"][shard.segment[i]])
        np.testing.assert_allclose(shard.read_window(i), eeg[rows, start : start + 2000].T, atol=0.06)


def test_without_epochs_the_marks_decide_and_no_region_is_known(prepared):
    shard = shard_of(prepared[0], "DA00100C")
    # The mark at 16.05 s is 0.05 s from a border: neither window there knows its label; the run touches 6 and 7.
    assert shard.weights["ied"].tolist() == [1, 1, 1, 1, 0, 1, 1, 1, 1, 1]
    assert shard.labels["ied"].tolist() == [0, 1, 0, 0, 0, 0, 1, 1, 1, 0]
    assert shard.labels["state"].tolist() == [0.0] * 5 + [1.0] * 5
    assert not shard.weights["region"].any()


def test_without_its_mat_file_a_recording_comes_from_its_epochs_with_a_gap(prepared):
    out, report = prepared
    shard = shard_of(out, "DA00100D")
    assert shard.segments["onset_seconds"].tolist() == [0.0, 16.0]
    assert shard.segments["length"].tolist() == [6000, 12_900]
    assert shard.labels["region"].tolist() == [PUBLISHED.get(k, 0) for k in range(10) if k != 3]
    assert not shard.weights["state"].any()
    (used,) = (file for file in report.used if file.name == "DA00100D")
    assert used.notes[:2] == (
        "no MAT file: put together from its epochs, state unknown",
        "1 gaps where epochs are missing",
    )


def test_no_sample_beyond_a_gap_leaks_into_a_window_at_another_rate(tree, tmp_path):
    inner = tree / "download" / "opensource-dataset"
    for path in inner.rglob("DA00100D_*.npy"):
        held = np.load(path)
        after_the_gap = int(path.name.split("_")[1]) > 6000
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        np.save(tmp_path / path.parent.name / path.name, held + np.float32(1e-3) if after_the_gap else held)
    data = DataConfig(ch_names=("C3",), sfreq=200.0)
    read = [Vepiset(root).open("DA00100D", data).recording.read for root in (inner, tmp_path)]
    np.testing.assert_array_equal(read[0](0, 0, 2400), read[1](0, 0, 2400))
    assert np.abs(read[0](1, 0, 2400) - read[1](1, 0, 2400)).min() > 900


def test_the_report_says_what_the_labels_are_tangled_up_with(prepared):
    notes = "\n".join(prepared[1].notes)
    assert "train with --preprocess.mains-hz None" in notes
    assert "DA00100Y and DA00103U): use an average reference" in notes
    assert "not here (1): DA00100F" in notes
    assert "1 IED epochs hold no mark and 1 others hold one" in notes  # of DA00100A alone: it has both
    assert "1 of the epochs shorter than 4 s that are left out are IED epochs" in notes
    # A and D: 5 published each; C: 4 by its marks (1, 6, 7, 8). Asleep: 5 of 10 in A and in C, 5 of 15 in B and E.
    assert "IEDs in 3 of 5 recordings; the 3 with most hold 100% of the IED epochs" in notes
    assert "asleep 50% of the scored time in recordings with IEDs, 33% in those without" in notes
    text = prepared[1].text()
    assert "DA00100A, DA00100D: its last epoch is shorter than 4 s: left out" in text


def test_shards_are_sound_and_split_by_patient(prepared):
    out, report = prepared
    assert not check(out).errors
    assert {file.patient for file in report.used} == {f"DA00100{letter}" for letter in "ABCDE"}
    assert sum(len(split.patients) for split in report.summary.splits) == 5
    assert all(split.patients for split in report.summary.splits)


def test_a_window_that_is_no_epoch_is_labelled_by_the_marks(tree, tmp_path):
    root = patient(tmp_path / "v", "DA00100A")
    run(root, tmp_path / "out", hop=2.0)
    shard = shard_of(tmp_path / "out", "DA00100A")
    assert shard.labels["ied"][::2].tolist() == [float(PUBLISHED.get(k, 0) > 0) for k in range(10)]
    between = shard.labels["ied"][1::2], shard.weights["ied"][1::2]  # onsets 2, 6, 10, ... 34 s
    assert between[0].tolist() == [0, 0, 0, 1, 0, 1, 1, 0, 0]
    assert between[1].tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]  # the marks at 6 and 34 s lie on borders
    regions = shard.labels["region"][1::2], shard.weights["region"][1::2]
    assert not regions[0].any()
    assert regions[1].tolist() == [0, 0, 1, 0, 1, 0, 0, 0, 0]  # none where no mark is; unknown where one is


def test_a_published_label_says_nothing_of_a_part_of_its_epoch(tmp_path):
    root = patient(tmp_path / "v", "DA00100A")
    run(root, tmp_path / "out", DataConfig(ch_names=("C3",), window_seconds=2.0), hop=2.0)
    shard = shard_of(tmp_path / "out", "DA00100A")
    assert (
        shard.labels["ied"][18:].tolist() == shard.labels["region"][18:].tolist() == [0, 0]
    )  # of epoch 9, without mark
    assert shard.weights["ied"][18:].tolist() == [1, 1]


@pytest.mark.parametrize(("data", "hop"), [(DATA, 2.0), (DataConfig(ch_names=("C3",), window_seconds=2.0), 2.0)])
def test_epochs_alone_take_no_other_windows(tmp_path, data, hop):
    patient(tmp_path / "v", "DA00100D", files="epochs")
    with pytest.raises(ValueError, match="without its MAT file only its epochs are labelled"):
        run(tmp_path / "v", tmp_path / "out", data, hop)


def test_corrections_stand_for_labels_that_are_not_at_hand_and_yield_to_those_that_are(tmp_path):
    (start,) = CORRECTIONS["DA001031"]
    number = start // 2000
    marks = [(str(number * 4 + 2.0), "0", "!"), (str(number * 4 - 6.0), "0", "!")]
    patient(tmp_path / "v", "DA001031", marks=marks, files="mat", n_epochs=number + 2)
    run(tmp_path / "v", tmp_path / "a")
    label, weight = (
        held["ied"].tolist() for held in (shard_of(tmp_path / "a", "DA001031").labels, {"ied": np.ones(1)})
    )
    assert label == [0.0] * (number - 2) + [1.0, 0.0, 0.0, 0.0]
    assert weight == [1.0]
    epochs(tmp_path / "v", "DA001031", volts("DA001031", (number + 2) * 2000), {number: 4})
    run(tmp_path / "v", tmp_path / "b")
    assert shard_of(tmp_path / "b", "DA001031").labels["region"][number] == 4


def test_epochs_of_the_groups_own_converter_know_ied_and_no_region(tmp_path):
    root = tmp_path / "npy" / "DA00100A"
    root.mkdir(parents=True)
    eeg = volts("DA00100A", 6000).astype(np.float32)
    for k, label in enumerate((0, 1, 0)):
        np.save(root / f"DA00100A_{2000 * k}_{2000 * k + 2000}_500__{label}.npy", eeg[:, 2000 * k : 2000 * k + 2000])
    run(tmp_path / "npy", tmp_path / "out")
    shard = shard_of(tmp_path / "out", "DA00100A")
    assert shard.labels["ied"].tolist() == [0, 1, 0]
    assert shard.weights["region"].tolist() == [1, 0, 1]


def test_events_as_cells_and_uncompressed_files_say_the_same(tmp_path):
    eeg = doubles("eeg_data", volts("x", 20_000))
    mat(tmp_path / "a" / "x.mat", eeg, characters("events", MARKS), compressed=False)
    mat(tmp_path / "b" / "x.mat", eeg, cells("events", MARKS))
    opened = [Vepiset(tmp_path / folder).open("x", DATA) for folder in "ab"]
    assert opened[0].annotations == opened[1].annotations
    assert len(opened[0].annotations) == len(MARKS)


def test_odd_events_are_left_out_and_counted(tmp_path):
    untimed = [("", "", "!"), ("nan", "0", "!"), ("-1.0", "0", "!")]
    odd = [*MARKS, *untimed, ("40.0", "0", "!"), ("30.5", "0", "!start"), ("31.0", "0", "!start")]
    patient(tmp_path, "x", marks=odd, files="mat")
    opened = Vepiset(tmp_path).open("x", DATA)
    assert opened.notes[:3] == (
        "3 events without a time: left out",
        "1 events after the end of the signal: left out",
        "2 of !start and !end without a partner: each taken as one discharge",
    )
    assert len(opened.annotations) == len(MARKS) + 2


def test_a_wrong_unit_is_said_and_nothing_is_scaled(tmp_path):
    mat(tmp_path / "x.mat", doubles("eeg_data", volts("x", 20_000) * 1e6), characters("events", MARKS))
    (note,) = (n for n in Vepiset(tmp_path).open("x", DATA).notes if "robust standard deviation" in n)
    assert "times 1e-06 it would be" in note


def spoil(kind: str, root: Path) -> None:
    """A second patient, `bad`, with something wrong."""
    path, eeg = root / "MAT_Files" / "bad.mat", volts("bad", 10_000)
    good = doubles("eeg_data", eeg), characters("events", MARKS)
    if kind == "cut":
        mat(path, *good).write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])
    elif kind == "v7.3":
        path.write_bytes(
            b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H", 0x0200) + b"IM" + b"\x89HDF\r\n\x1a\n" * 9
        )
    elif kind == "text":
        path.write_text("no matrix here\n" * 40)
    elif kind == "empty":
        path.touch()
    elif kind == "leads":
        mat(path, doubles("eeg_data", eeg[:28]), good[1])
    elif kind == "no signal":
        mat(path, good[1])
    elif kind == "no events":
        mat(path, good[0])
    elif kind == "events of another form":
        mat(path, good[0], doubles("events", np.ones((4, 2))))
    elif kind == "not finite":
        mat(path, doubles("eeg_data", np.where(eeg > 5e-5, np.nan, eeg)), good[1])
    elif kind == "case":
        mat(path, *good)
        mat(path.with_name("BAD.mat"), doubles("eeg_data", eeg[::-1]), good[1])
    elif kind == "twice":
        mat(path, *good)
        mat(root / "copy" / "bad.mat", doubles("eeg_data", eeg[::-1]), good[1])
    else:
        epochs(root, "bad", eeg, {})
        first = root / FOLDERS[0] / "bad_0_2000_500__0.npy"
        if kind == "epoch twice":
            np.save(root / FOLDERS[3] / "bad_0_2000_500__3.npy", eeg[:, :2000])
        elif kind == "folder":
            first.rename(root / FOLDERS[2] / first.name)
        elif kind == "rate":
            first.rename(first.with_name("bad_0_2000_250__0.npy"))
        elif kind == "label":
            first.rename(first.with_name("bad_0_2000_500__7.npy"))
        elif kind == "all epochs damaged":
            for damaged in (root / FOLDERS[0]).glob("bad_*"):
                damaged.write_bytes(damaged.read_bytes()[:100])


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("cut", "bad.mat is damaged or no MATLAB file"),
        ("v7.3", "bad.mat is of MATLAB 7.3"),
        ("text", "bad.mat is damaged or no MATLAB file"),
        ("empty", "bad.mat is damaged or no MATLAB file"),
        ("leads", "bad.mat: eeg_data must be 29 leads x samples of real numbers, is float64 of shape (28, 10000)"),
        ("no signal", "bad.mat holds no variable eeg_data"),
        ("no events", "bad.mat holds no variable events"),
        ("events of another form", "bad.mat: events must be rows of onset, duration and text, is float64"),
        ("not finite", "not finite"),
        ("case", "differ in case only"),
        ("twice", "there are 2 of it: "),
        ("epoch twice", "its epoch from sample 0 on is there more than once"),
        ("folder", "bad_0_2000_500__0.npy lies in Frontal-IED, but its name says none"),
        ("rate", "bad_0_2000_250__0.npy: an epoch's name gives its first sample, its end, 500 (Hz)"),
        ("label", "bad_0_2000_500__7.npy: an epoch's name gives its first sample, its end, 500 (Hz) and a label of 0"),
        ("all epochs damaged", "none of its 5 epochs can be read"),
    ],
)
def test_one_bad_recording_is_skipped_with_its_reason_and_the_rest_goes_on(tmp_path, kind, reason):
    root = patient(tmp_path / "v", "good")
    spoil(kind, root)
    report = run(root, tmp_path / "out")
    assert [file.name for file in report.used] == ["good"]
    assert all(reason in file.reason for file in report.skipped)
    assert sorted(file.name for file in report.skipped) == (["BAD", "bad"] if kind == "case" else ["bad"])
    assert "\n" not in "".join(file.reason for file in report.skipped)


def test_a_damaged_epoch_is_a_gap(tmp_path):
    root = patient(tmp_path / "v", "x", files="epochs")
    damaged = root / FOLDERS[0] / "x_4000_6000_500__0.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    np.save(root / FOLDERS[0] / "x_16000_18000_500__0.npy", np.zeros((28, 2000), np.float32))
    opened = Vepiset(root).open("x", DATA)
    assert [segment.onset_seconds for segment in opened.recording.segments] == [0.0, 12.0, 36.0]
    assert opened.notes[1:3] == ("2 epochs cannot be read: gaps instead", "2 gaps where epochs are missing")


def test_shards_of_other_published_labels_are_not_mixed_with_these(tmp_path):
    root = patient(tmp_path / "v", "x")
    assert run(root, tmp_path / "out").written == 1
    assert run(root, tmp_path / "out").written == 0
    (root / FOLDERS[0] / "x_0_2000_500__0.npy").rename(root / FOLDERS[3] / "x_0_2000_500__3.npy")
    with pytest.raises(ValueError, match="another configuration"):
        run(root, tmp_path / "out")


def test_the_source_travels_to_other_processes(tree):
    source = Vepiset(tree)
    assert pickle.loads(pickle.dumps(source)) == source
    assert pickle.loads(pickle.dumps(source)).names() == source.names()


def test_run_as_a_command_its_source_still_travels_to_workers(tree):
    cloudpickle = pytest.importorskip("cloudpickle", reason="comes with the extra `cluster`")
    cloudpickle.register_pickle_by_value(data_tools.vepiset)  # as what is defined in __main__ goes to a worker
    try:
        assert pickle.loads(cloudpickle.dumps(Vepiset(tree))).names() == Vepiset(tree).names()
    finally:
        cloudpickle.unregister_pickle_by_value(data_tools.vepiset)


def test_the_command_says_what_it_did(tmp_path, capsys):
    root = patient(tmp_path / "v", "good")
    assert main(root, tmp_path / "a") == OK
    assert "1 file used, 0 skipped" in capsys.readouterr().out
    spoil("text", root)
    assert main(root, tmp_path / "b") == SOME_FAILED
    assert "bad.mat is damaged or no MATLAB file" in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds neither MAT files nor epochs"):
        main(tmp_path / "a" / "train", tmp_path / "c")
    with pytest.raises(ValueError, match="no such folder"):
        main(tmp_path / "nowhere", tmp_path / "c")
