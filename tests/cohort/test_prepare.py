"""A folder of EDF files becomes shards: by patient, again and again the same, and nothing lost silently."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from siamese_jax import jobs
from siamese_jax.cohort import prepare as prepare_module
from siamese_jax.cohort import sources as sources_module
from siamese_jax.cohort.check import check
from siamese_jax.cohort.prepare import prepare
from siamese_jax.cohort.report import PrepareReport, grouped, refuse_unfinished
from siamese_jax.cohort.sources import COMPANIONS, Folder, manifest_rows
from siamese_jax.cohort.splits import SkippedFile, shard_name, split_patients
from siamese_jax.config.experiment import DataConfig
from siamese_jax.locks import locked
from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.edf_write import write_annotations, write_recording
from siamese_jax.recordings.recording import Annotation
from siamese_jax.recordings.sidecars import SPLITS, read_annotation_table, read_manifest
from siamese_jax.shards.labels import EventRule, StateRule, TextClasses
from siamese_jax.shards.schema import Shard, open_shard, verify_shard
from siamese_jax.shards.summary import summarise
from siamese_jax.vocabulary import TaskSpec
from tests.recordings.in_memory import noise

CH_NAMES = ("Fp1", "Cz", "O2")
DATA = DataConfig(ch_names=CH_NAMES, sfreq=100.0, window_seconds=2.0)
SHARED = Path(__file__).parents[3] / "shared/data"
IED = Annotation(5.0, 0.1, "IED")
N2 = Annotation(0.0, 0.0, "Sleep stage N2")


def edf(path: Path, *annotations: Annotation, patient: str = "X", seconds: int = 20, seed: int | None = None) -> Path:
    """An EDF+ file of noise that no other file holds (by its path), unless `seed` says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(str(path).encode()) if seed is None else seed
    signal = noise(seconds * 100, seed=seed, n_chans=3)
    write_recording(path, signal, sfreq=100.0, ch_names=CH_NAMES, annotations=annotations, patient_code=patient)
    return path


def run(folder: Path, out: Path, **options: object) -> PrepareReport:
    manifest = manifest_rows(folder, options.pop("manifest", None))
    source = Folder(folder, manifest, options.pop("units", {}), options.pop("more_rules", ()))
    return prepare(source, out, DATA, **{"hop_seconds": 1.0, "seed": 0} | options)


def every_shard(out: Path) -> dict[str, Shard]:
    """By patient."""
    return {shard.patients[0]: shard for shard in map(verify_shard, sorted(out.rglob("*.h5")))}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten patients, two nights of the first; five with IEDs, three with stages."""
    folder = tmp_path_factory.mktemp("cohort")
    for k in range(10):
        marks = ([IED] if k < 5 else []) + ([N2] if k < 3 else [])
        edf(folder / f"night{k}.edf", *marks, patient=f"P{k:03d}")
    edf(folder / "later" / "night0.edf", patient="P000")
    return folder


@pytest.fixture(scope="module")
def prepared(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PrepareReport]:
    out = tmp_path_factory.mktemp("out")
    return out, run(cohort, out)


@pytest.fixture
def out_copy(prepared: tuple[Path, PrepareReport], tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared[0], tmp_path / "out"))


# --- what comes out


def test_every_file_becomes_windows_of_what_its_recording_holds(prepared: tuple, cohort: Path) -> None:
    out, report = prepared
    assert sorted(file.name for file in report.used) == sorted(
        path.relative_to(cohort).as_posix() for path in cohort.rglob("*.edf")
    )
    assert report.skipped == ()
    for shard in every_shard(out).values():
        for i, name in enumerate(shard.recordings["name"]):
            own = np.flatnonzero(shard.recording == i)
            assert shard.onset_seconds[own].tolist() == list(range(19))  # 20 s, windows of 2 s every 1 s
            recording = read_recording(cohort / name, ch_names=CH_NAMES, sfreq=100.0)
            wanted = recording.read(0, 700, 900)
            np.testing.assert_allclose(shard.read_window(int(own[7])), wanted, atol=0.0501)


def test_labels_come_from_the_annotations(prepared: tuple) -> None:
    shards = every_shard(prepared[0])
    assert len(shards) == 10
    positives = [int(shard.labels["ied"].sum()) for shard in shards.values()]
    assert sorted(positives) == [0] * 5 + [1] * 5  # 5.05 s lies in 4 to 6 s; of 5 to 7 s it touches the edge
    assert all(shard.weights["ied"].sum() == len(shard) - (shard.labels["ied"].sum() > 0) for shard in shards.values())
    scored = [shard for shard in shards.values() if shard.weights["sleep"].any()]
    assert len(scored) == 3
    for shard in scored:
        assert set(shard.labels["sleep"][shard.weights["sleep"] > 0].tolist()) == {2}
        assert shard.labels["state"][shard.weights["state"] > 0].all()


def test_one_patient_is_in_one_split_with_all_nights(prepared: tuple) -> None:
    out, report = prepared
    by_patient: dict[str, set[str]] = {}
    for file in report.used:
        by_patient.setdefault(file.patient, set()).add(file.split)
    assert len(by_patient) == 10
    assert all(len(splits) == 1 for splits in by_patient.values())
    groups = [{open_shard(path).patients[0] for path in (out / split).glob("*.h5")} for split in SPLITS]
    assert [len(group) for group in groups] == [6, 2, 2]
    assert not (groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2])
    both = [s for s in every_shard(out).values() if len(s.recordings["name"]) == 2]
    assert [sorted(shard.recordings["name"].tolist()) for shard in both] == [["later/night0.edf", "night0.edf"]]


def test_every_split_has_patients_with_ieds(prepared: tuple) -> None:
    out, _ = prepared
    for split in SPLITS:
        assert any(open_shard(path).labels["ied"].any() for path in (out / split).glob("*.h5"))


def test_no_patient_code_stands_in_names_or_reports(prepared: tuple) -> None:
    out, report = prepared
    text = report.text() + (out / "prepare.json").read_text() + " ".join(str(path) for path in out.rglob("*"))
    assert not re.search(r"P00\d", text)
    assert {file.patient_from for file in report.used} == {"EDF patient code"}
    held = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    assert len(held) > 10 and not any(b"P000" in content for content in held)
    assert not any(os.environ["SIAMESE_JAX_SALT"].encode() in content for content in held)


def test_the_report_counts_and_says_what_was_decided(prepared: tuple) -> None:
    out, report = prepared
    text = report.text()
    assert "11 files used, 0 skipped; 10 shards" in text
    assert "patients: 10, told apart by EDF patient code" in text
    assert "6 of 11 recordings have no annotation of ied and count as free of it" in text
    assert "8 of 11 recordings are not labelled for sleep" in text
    rows = {split.name: split for split in report.summary.splits}
    assert sum(split.windows for split in rows.values()) == 11 * 19
    assert sum(split.recordings for split in rows.values()) == 11
    assert sum(split.hours for split in rows.values()) == pytest.approx(11 * 20 / 3600)
    assert sum(split.tasks[0].positives for split in rows.values()) == 5
    assert sum(split.tasks[1].counts[2] for split in rows.values()) == 3 * 19
    train = rows["train"]
    assert train.tasks[0].prevalence == pytest.approx(train.tasks[0].positives / train.tasks[0].labelled)
    assert summarise(out) == report.summary
    written = json.loads((out / "prepare.json").read_text())
    assert written["finished"] is True
    assert len(written["used"]) == 11
    assert written["configuration"]["hop_seconds"] == 1.0


def test_progress_reaches_its_end(cohort: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    run(cohort, tmp_path / "out", progress=lambda *told: seen.append(told))
    assert ("reading headers", 11, 11) in seen
    assert seen[-1] == ("writing shards", 10, 10)


# --- again


def test_the_same_folder_gives_the_same_shards_byte_for_byte(prepared: tuple, cohort: Path, tmp_path: Path) -> None:
    out, _ = prepared
    run(cohort, tmp_path / "again")
    names = sorted(path.relative_to(out) for path in out.rglob("*.h5"))
    assert names == sorted(path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*.h5"))
    assert all((out / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)


def test_a_patient_s_shard_does_not_depend_on_who_is_in_which_split(
    prepared: tuple, cohort: Path, tmp_path: Path
) -> None:
    out, _ = prepared
    run(cohort, tmp_path, seed=1)
    before, after = ({path.name: path for path in folder.rglob("*.h5")} for folder in (out, tmp_path))
    assert {path.parent.name for path in before.values()} == set(SPLITS)
    assert any(before[name].parent.name != after[name].parent.name for name in before)
    assert all(before[name].read_bytes() == after[name].read_bytes() for name in before)


def test_a_second_run_writes_nothing_and_a_lost_or_damaged_shard_comes_back(cohort: Path, out_copy: Path) -> None:
    before = {path: path.read_bytes() for path in sorted(out_copy.rglob("*.h5"))}
    stamps = {path: path.stat().st_mtime_ns for path in before}
    assert run(cohort, out_copy).written == 0
    assert {path: path.stat().st_mtime_ns for path in before} == stamps
    lost, damaged = list(before)[0], list(before)[3]
    lost.unlink()
    os.truncate(damaged, 5000)
    report = run(cohort, out_copy)
    assert report.written == 2 and f"10 shards in {out_copy}, 2 of them new" in report.text()
    assert {path: path.read_bytes() for path in sorted(out_copy.rglob("*.h5"))} == before
    assert len(report.used) == 11


def test_a_new_annotation_makes_its_patient_anew(tmp_path: Path) -> None:
    for k in range(3):
        edf(tmp_path / "in" / f"{k}.edf", IED)
    run(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "1.csv").write_text("onset,duration,label\n10,0,IED\n")
    assert run(tmp_path / "in", tmp_path / "out").written == 1
    assert every_shard(tmp_path / "out")["1"].labels["ied"].nonzero()[0].tolist() == [4, 9]


def test_another_configuration_is_refused_naming_what_differs(cohort: Path, out_copy: Path) -> None:
    before = {path: path.read_bytes() for path in out_copy.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"hop_seconds was 1\.0, is 2\.0"):
        run(cohort, out_copy, hop_seconds=2.0)
    with pytest.raises(ValueError, match="seed was 0, is 1"):
        run(cohort, out_copy, seed=1)
    with pytest.raises(ValueError, match=f"source was {cohort.name}, is another night"):
        run(cohort, out_copy, title="another night")
    longer = dataclasses.replace(DATA, window_seconds=4.0)
    with pytest.raises(ValueError, match=r"window_seconds was 2\.0, is 4\.0"):
        prepare(Folder(cohort), out_copy, longer, hop_seconds=1.0, seed=0)
    assert {path: path.read_bytes() for path in out_copy.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"configuration": 5}', '{"configuration": ["ab", 1]}', "\xff"])
def test_a_damaged_report_is_refused(cohort: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "prepare.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"prepare\.json is damaged"):
        run(cohort, tmp_path)


def test_units_decide_the_signal_whatever_their_order(tmp_path: Path) -> None:
    edf(tmp_path / "in" / "a.edf", IED, seconds=4)
    run(tmp_path / "in", tmp_path / "plain")
    run(tmp_path / "in", tmp_path / "out", units={"Cz": "nV", "Fp1": "uV"})
    plain, other = (every_shard(tmp_path / name)["a"] for name in ("plain", "out"))
    np.testing.assert_allclose(other.read_window(0)[:, 1], plain.read_window(0)[:, 1] / 1000, atol=0.11)
    assert run(tmp_path / "in", tmp_path / "out", units={"Fp1": "uV", "Cz": "nV"}).written == 0
    with pytest.raises(ValueError, match="units was"):
        run(tmp_path / "in", tmp_path / "out", units={"Cz": "uV"})


def test_shards_of_unknown_origin_are_refused(cohort: Path, out_copy: Path) -> None:
    (out_copy / "prepare.json").unlink()
    with pytest.raises(ValueError, match=r"no prepare\.json"):
        run(cohort, out_copy)


def test_a_patient_who_would_change_split_is_refused_rather_than_leaked(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for k in range(4):
        edf(folder / f"{k}.edf", IED)
    run(folder, out, seed=1)
    for k in range(4, 12):
        edf(folder / f"{k}.edf", IED)
    with pytest.raises(ValueError, match="holds shards that the recordings would not give now"):
        run(folder, out, seed=1)
    assert check(out).errors == ()


def test_a_killed_run_goes_on_where_it_was(cohort: Path, tmp_path: Path) -> None:
    """SIGKILL after three shards: what is there is whole, and a second run ends as an undisturbed one."""
    out = tmp_path / "out"
    script = f"""
import os, signal
from pathlib import Path
from siamese_jax.config.experiment import DataConfig
from siamese_jax.shards import write as shards_write
from siamese_jax.cohort.prepare import prepare
from siamese_jax.cohort.sources import Folder
written, flush = [], shards_write._flush
def killing(path):
    written.append(path)
    if len(written) == 4:  # the fourth shard's file, before it gets its name
        os.kill(os.getpid(), signal.SIGKILL)
    flush(path)
shards_write._flush = killing
data = DataConfig(ch_names={CH_NAMES!r}, sfreq=100.0, window_seconds=2.0)
prepare(Folder(Path({str(cohort)!r})), {str(out)!r}, data, hop_seconds=1.0, seed=0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=Path(__file__).parents[2])
    assert done.returncode == -9, done.stderr
    assert len(every_shard(out)) == 3
    assert any("interrupted" in error for error in check(out).errors)
    assert run(cohort, out).written == 7
    assert check(out).errors == ()
    assert len(every_shard(out)) == 10


def test_a_second_process_is_kept_out(cohort: Path, tmp_path: Path) -> None:
    with locked(tmp_path / "out"), pytest.raises(ValueError, match="another process"):
        run(cohort, tmp_path / "out")
    assert run(cohort, tmp_path / "out").written == 10


def test_out_that_is_a_file_is_one_sentence(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'out'} is a file, not a folder")):
        run(cohort, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


# --- splits


def test_a_split_depends_on_seed_and_names_alone() -> None:
    has_ied = {f"p{k}": k % 3 == 0 for k in range(30)}
    shuffled = dict(sorted(has_ied.items(), key=lambda item: hash(item[0])))
    options = {"fractions": (0.6, 0.2, 0.2), "seed": 4}
    assert split_patients(has_ied, **options) == split_patients(shuffled, **options)
    others = [split_patients(has_ied, fractions=(0.6, 0.2, 0.2), seed=seed) for seed in range(5)]
    assert len({tuple(sorted(split.items())) for split in others}) == 5


def test_a_split_is_the_same_in_every_process_and_version() -> None:
    """Worked out by hand: the order of sha256("0:a"), sha256("0:b"), ...; IED patients a to d first."""
    order = sorted("abcdefgh", key=lambda p: subprocess.check_output(["sha256sum"], input=f"0:{p}".encode()))
    ied, other = [p for p in order if p in "abcd"], [p for p in order if p not in "abcd"]
    splits = split_patients({p: p in "abcd" for p in "abcdefgh"}, fractions=(0.5, 0.25, 0.25), seed=0)
    assert [splits[p] for p in ied] == ["train", "train", "validation", "test"]
    assert [splits[p] for p in other] == ["train", "train", "validation", "test"]


@pytest.mark.parametrize("n_ied", [0, 1, 2, 3, 4, 7, 20])
@pytest.mark.parametrize("n_other", [0, 1, 3, 11])
def test_splits_follow_the_fractions_and_spread_ieds(n_ied: int, n_other: int) -> None:
    has_ied = {f"i{k}": True for k in range(n_ied)} | {f"o{k}": False for k in range(n_other)}
    splits = split_patients(has_ied, fractions=(0.6, 0.2, 0.2), seed=0)
    assert set(splits) == set(has_ied)
    counts = [sum(split == name for split in splits.values()) for name in SPLITS]
    n = n_ied + n_other
    assert all(abs(count - n * share) <= 1 for count, share in zip(counts, (0.6, 0.2, 0.2), strict=True))
    for name in SPLITS:
        assert n < 3 or name in splits.values()
        assert n_ied < 3 or any(splits[p] == name for p in splits if has_ied[p])


def test_fractions_count_however_they_are_rounded_and_of_two_each_has_a_patient() -> None:
    """100 x 0.57 and 100 x 0.29 fall short of whole numbers by a bit."""
    sizes = {}
    for n, fractions in (
        (10, (0.7, 0.2, 0.1)),
        (100, (0.57, 0.29, 0.14)),
        (2, (0.99, 0.01, 0)),
        (3, (0.98, 0.01, 0.01)),
    ):
        splits = split_patients({f"p{k}": False for k in range(n)}, fractions=fractions, seed=0)
        sizes[n] = [list(splits.values()).count(name) for name in SPLITS]
    assert sizes == {10: [7, 2, 1], 100: [57, 29, 14], 2: [1, 1, 0], 3: [1, 1, 1]}


def test_a_fraction_of_0_gives_an_empty_split() -> None:
    splits = split_patients({f"p{k}": True for k in range(9)}, fractions=(0, 0, 1), seed=0)
    assert set(splits.values()) == {"test"}


@pytest.mark.parametrize("fractions", [(0.5, 0.2, 0.2), (1.2, -0.1, -0.1), (0.5, 0.5)])
def test_fractions_that_are_none_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be .* sum"):
        split_patients({"p": True}, fractions=fractions, seed=0)


def test_patients_whose_split_is_given_do_not_count_against_the_others() -> None:
    fixed = {f"t{k}": "train" for k in range(10)}
    has_event = dict.fromkeys([*fixed, *(f"p{k}" for k in range(10))], False)
    splits = split_patients(has_event, fractions=(0.6, 0.2, 0.2), seed=0, fixed=fixed)
    assert [[splits[f"p{k}"] for k in range(10)].count(name) for name in SPLITS] == [6, 2, 2]
    assert fixed.items() <= splits.items()


def test_names_of_shards_are_names_of_files_on_every_system() -> None:
    patients = ["a", "A", "a/b", "a b", "..", "-x-", "CON", "日本", "ж", "x" * 300, "a\\b:c*?", "n" * 39 + "-b"]
    names = [shard_name(patient) for patient in patients]
    assert len({name.lower() for name in names}) == len(patients)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*\.h5", name) and len(name) < 64


def test_an_empty_split_is_said(tmp_path: Path) -> None:
    edf(tmp_path / "in" / "a.edf", IED)
    text = run(tmp_path / "in", tmp_path / "out").text()
    assert "validation is empty: too few patients" in text
    assert "test is empty: too few patients" in text


# --- patients and manifest


def test_who_a_recording_is_of(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    edf(folder / "a" / "night.edf", patient="X")
    edf(folder / "b" / "night.edf", patient="X")  # another person, or not: never joined by the file's name alone
    edf(folder / "sub-07" / "ses-1" / "sub-07_ses-1_task-sleep_eeg.edf", patient="X")
    edf(folder / "sub-07" / "ses-2" / "sub-07_ses-2_task-sleep_eeg.edf", patient="X")
    edf(folder / "not-sub-08.edf", patient="X")
    edf(folder / "coded.edf", IED, patient="MRN-77")
    edf(folder / "named.edf", patient="MRN-77")
    (folder / "manifest.csv").write_text("file,patient\nnamed.edf,Case 9/b\n")
    report = run(folder, tmp_path / "out")
    found = {file.name: (file.patient, file.patient_from) for file in report.used}
    assert found["a/night.edf"] == ("a/night", "file name")
    assert found["b/night.edf"] == ("b/night", "file name")
    assert {found[name] for name in found if "sub-07" in name} == {("sub-07", "file name")}
    assert found["not-sub-08.edf"] == ("not-sub-08", "file name")
    assert found["named.edf"] == ("Case 9/b", "manifest")
    assert re.fullmatch(r"edf-[0-9a-f]{10}", found["coded.edf"][0])
    assert "told apart by EDF patient code and file name and manifest" in report.text()


def test_the_manifest_decides_splits_and_who_was_looked_at(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for k in range(6):
        edf(folder / f"{k}.edf", *([IED] if k == 0 else []))
    rows = ["0.edf,test,", "1.edf,test,no", "2.edf,,no", "3.edf,train,yes"]
    (tmp_path / "who.csv").write_text("file,split,ied_labelled\n" + "\n".join(rows) + "\n")
    report = run(folder, tmp_path / "out", manifest=tmp_path / "who.csv")
    splits = {file.patient: file.split for file in report.used}
    assert (splits["0"], splits["1"], splits["3"]) == ("test", "test", "train")
    shards = every_shard(tmp_path / "out")
    assert {p for p, shard in shards.items() if not shard.weights["ied"].any()} == {"1", "2"}
    assert "2 of 6 recordings are not labelled for ied" in report.text()


def test_marks_that_do_not_count_are_said_and_deal_no_patient_out(tmp_path: Path) -> None:
    """Nine with IEDs, of which three count: each split has one of them."""
    folder = tmp_path / "in"
    for k in range(9):
        edf(folder / f"{k}.edf", IED, seconds=8)
    (folder / "manifest.csv").write_text("file,ied_labelled\n" + "".join(f"{k}.edf,no\n" for k in range(6)))
    report = run(folder, tmp_path / "out")
    assert "6 of 9 recordings have annotations of ied that do not count" in report.text()
    assert [split.tasks[0].positives for split in report.summary.splits] == [1, 1, 1]


def test_a_folder_without_any_ied_annotation_is_not_labelled_for_ieds(tmp_path: Path) -> None:
    edf(tmp_path / "in" / "a.edf", N2)
    report = run(tmp_path / "in", tmp_path / "out")
    shard = next(iter(every_shard(tmp_path / "out").values()))
    assert not shard.weights["ied"].any()
    assert shard.weights["sleep"].all()
    assert "1 of 1 recordings are not labelled for ied" in report.text()
    assert "no patient with an annotation" not in report.text()  # there is none to be spread


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,patient\nnobody.edf,P\n", r"nobody\.edf"),
        ("patient\nP\n", "line 1: the header needs a column file"),
        ("file,subject\na.edf,P\n", r"unknown columns \['subject'\]"),
        ("file,split\na.edf,dev\n", "line 2: split must be one of"),
        ("file,ied_labelled\na.edf,maybe\n", "line 2: ied_labelled must be yes or no"),
        ("file,patient\na.edf,P\na.edf,Q\n", "line 3: file 'a.edf' is empty or stands there twice"),
        ("file,patient\na.edf\n", "line 2: 1 cells"),
        ("", "empty"),
    ],
)
def test_a_bad_manifest_stops_the_run_naming_the_line(tmp_path: Path, text: str, reason: str) -> None:
    edf(tmp_path / "in" / "a.edf", IED)
    (tmp_path / "in" / "manifest.csv").write_text(text)
    with pytest.raises(ValueError, match=reason) as error:
        run(tmp_path / "in", tmp_path / "out")
    assert "manifest.csv" in str(error.value)
    assert not list((tmp_path / "out").rglob("*.h5"))


def test_one_patient_in_two_splits_by_the_manifest_is_refused(tmp_path: Path) -> None:
    edf(tmp_path / "in" / "a.edf", IED)
    edf(tmp_path / "in" / "b.edf", IED)
    (tmp_path / "in" / "manifest.csv").write_text("file,patient,split\na.edf,P,train\nb.edf,P,test\n")
    with pytest.raises(ValueError, match="patient 'P' is in two splits: train and, by b.edf, test"):
        run(tmp_path / "in", tmp_path / "out")


# --- annotations beside recordings


@pytest.mark.parametrize("ending", COMPANIONS)
def test_an_annotation_file_beside_a_recording_labels_it_and_is_no_recording(tmp_path: Path, ending: str) -> None:
    edf(tmp_path / "in" / "a.edf")
    write_annotations(tmp_path / "in" / f"a{ending}.edf", [IED, N2])
    report = run(tmp_path / "in", tmp_path / "out")
    assert [file.name for file in report.used] == ["a.edf"]
    assert report.skipped == ()
    shard = every_shard(tmp_path / "out")["a"]
    assert shard.labels["ied"].sum() == 1
    assert shard.weights["sleep"].all()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a_eeg.csv", "onset,duration,label\n5,0.1,IED\n0,20,Sleep stage N2\n"),
        ("a_eeg.tsv", "Onset\tText\n5.05\tspike\n0\tN2\n"),
        ("a_events.tsv", "onset\tduration\ttrial_type\n5\t0.1\tied\n0\tn/a\tsleep stage 2\n"),
        (
            "a_eeg.csv",
            '\ufeffdescription, onset ,duration,channel,note\n"IED, left",5,0.1,Fp1,x\n\nN2,0,,n/a,\n',
        ),
    ],
)
def test_tables_beside_a_recording_label_it(tmp_path: Path, name: str, text: str) -> None:
    edf(tmp_path / "in" / "a_eeg.edf")
    (tmp_path / "in" / name).write_text(text, encoding="utf-8")
    run(tmp_path / "in", tmp_path / "out")
    shard = every_shard(tmp_path / "out")["a_eeg"]
    assert np.flatnonzero(shard.labels["ied"]).tolist() == [4]
    assert set(shard.labels["sleep"].tolist()) == {2}
    assert shard.weights["sleep"].all()


def test_only_what_lies_beside_a_recording_belongs_to_it(tmp_path: Path) -> None:
    """Endings in capitals count; folders of such names, and files of the same name elsewhere, do not."""
    folder = tmp_path / "in"
    edf(folder / "A.EDF", seconds=8)
    (folder / "A.CSV").write_text("onset,duration,label\n5,0.1,IED\n1,0.1,IED\n")
    write_annotations(folder / "A_Annotations.edf", [N2])
    (folder / "a.tsv").mkdir()
    (folder / "night.edf").mkdir()
    edf(folder / "other" / "A_hypnogram.edf", seconds=8)
    source = Folder(folder)
    assert source.names() == ["A.EDF", "other/A_hypnogram.edf"]
    assert [path.name for path in source.files("A.EDF")] == ["A.EDF", "A.CSV", "A_Annotations.edf"]
    run(folder, tmp_path / "out")
    shards = every_shard(tmp_path / "out")
    assert shards["A"].labels["ied"].any() and shards["A"].weights["sleep"].all()
    assert shards["A"].marks["ied"].onset_seconds.tolist() == [1, 5]  # in order, whatever file they come from
    assert shards["A"].marks["sleep"].onset_seconds.tolist() == [0]
    assert not shards["other/A_hypnogram"].labels["ied"].any()


def test_a_folder_is_titled_by_its_name_and_must_be_there(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cohort)
    assert Folder(Path()).title == cohort.name
    with pytest.raises(ValueError, match="no such folder"):
        Folder(cohort / "absent").names()


def test_a_mark_of_a_bad_signal_without_duration_says_nothing(tmp_path: Path) -> None:
    edf(tmp_path / "in" / "a.edf", IED, Annotation(8.5, 0.0, "BAD_muscle"), Annotation(12.5, 1.0, "badminton"))
    run(tmp_path / "in", tmp_path / "out")
    shard = every_shard(tmp_path / "out")["a"]
    assert len(shard.marks["ied"].code) == 1 and not len(shard.bad_intervals["onset_seconds"])
    assert np.flatnonzero(shard.weights["ied"] == 0).tolist() == [5]


def test_texts_stand_in_the_report_and_in_no_shard(tmp_path: Path) -> None:
    note = Annotation(3.0, 0.0, "Mrs Jane Doe coughs")
    edf(tmp_path / "in" / "a.edf", IED, note, Annotation(8.0, 2.0, "BAD_muscle"))
    run(tmp_path / "in", tmp_path / "out")
    shard = every_shard(tmp_path / "out")["a"]
    assert len(shard.marks["ied"].code) == 1 and shard.bad_intervals["onset_seconds"].tolist() == [8.0]
    assert np.flatnonzero(shard.weights["ied"] == 0).tolist() == [5, 7, 8, 9]
    holding = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file() and b"Jane" in path.read_bytes()]
    assert holding == ["prepare.json"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "empty, it needs a header line"),
        (b"5,0.1,IED\n", r"line 1: the header needs a column onset"),
        (b"onset,duration\n5,0.1\n", "label or text or description or trial_type"),
        (b"onset;duration;label\n5;0.1;IED\n", r"it has \['onset;duration;label'\]"),
        (
            b"onset,label\n5,IED\n00:01:02,IED\n",
            "line 3: onset must be a number of seconds, given '00:01:02'",
        ),
        (b"onset,label\nnan,IED\n", "line 2: onset must be a number"),
        (b"onset,label\ninf,IED\n", "line 2: onset must be a number"),
        (b"onset,duration,label\n5,-1,IED\n", "line 2: duration must not be negative"),
        (b"onset,duration,label\n5,long,IED\n", "line 2: duration must be a number"),
        (b"onset,label\n5,IED,Fp1\n", "line 2: 3 cells, but the header has 2"),
        (b"onset,onset,label\n5,6,IED\n", "names a column twice"),
        (b'onset,label\n5,"IED\n', "line 2"),
        (b"onset,label\n5,IED\xff\xfe\n", "not UTF-8"),
        (b"onset,label\n5,IE\x00D\n", "line 2"),
    ],
)
def test_a_hostile_table_costs_its_recording_and_no_other(tmp_path: Path, text: bytes, reason: str) -> None:
    for name in ("a", "b"):
        edf(tmp_path / "in" / f"{name}.edf", IED)
    table = tmp_path / "in" / "b.csv"
    table.write_bytes(text)
    with pytest.raises(ValueError, match=reason):
        read_annotation_table(table)
    report = run(tmp_path / "in", tmp_path / "out")
    assert [file.name for file in report.used] == ["a.edf"]
    assert [file.name for file in report.skipped] == ["b.edf"]
    assert re.search(reason, report.skipped[0].reason)
    assert "b.csv" in report.text()


def test_the_empty_cells_of_a_manifest_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("file,patient,split,ied_labelled\na.edf,,,\n")
    assert read_manifest(tmp_path / "m.csv")["a.edf"] == (None, None, None)


# --- broken files


def test_a_broken_file_costs_a_line_in_the_report(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    edf(folder / "good.edf", IED)
    (folder / "empty.edf").write_bytes(b"")
    (folder / "noise.bdf").write_bytes(bytes(range(256)) * 40)
    edf(folder / "short.edf", seconds=1)
    shutil.copy(folder / "good.edf", folder / "twin.edf")
    (folder / "twin.csv").write_text("onset,label\n7,IED\n")  # the same signal, whatever its annotations
    report = run(folder, tmp_path / "out")
    assert [file.name for file in report.used] == ["good.edf"]
    reasons = {file.name: file.reason for file in report.skipped}
    assert set(reasons) == {"empty.edf", "noise.bdf", "short.edf", "twin.edf"}
    assert "as long as a window" in reasons["short.edf"]
    assert reasons["twin.edf"] == "the same bytes as good.edf"
    for name in reasons:
        assert f"skipped {name}: " in report.text()
    assert "1 file used, 4 skipped" in report.text()


@pytest.mark.parametrize("damaged", [False, True])
def test_a_recording_is_skipped_for_what_it_holds_and_not_for_a_disk_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, damaged: bool
) -> None:
    folder = tmp_path / "in"
    for name in ("a", "b"):
        edf(folder / f"{name}.edf", IED, patient="P1")
    opened = sources_module.read_recording

    def failing(path: Path, **options: object) -> object:
        recording = opened(path, **options)
        if path.name == "b.edf":

            def source(segment: int, start: int, stop: int) -> np.ndarray:
                raise ValueError("bad record") if damaged else OSError("bad sector")

            object.__setattr__(recording, "source", source)
        return recording

    monkeypatch.setattr(sources_module, "read_recording", failing)
    if damaged:
        report = run(folder, tmp_path / "out")
        assert [file.name for file in report.used] == ["a.edf"]
        assert "skipped b.edf: its signal cannot be read: bad record" in report.text()
        (shard,) = every_shard(tmp_path / "out").values()
        assert shard.recordings["name"].tolist() == ["a.edf"]
        assert run(folder, tmp_path / "out").written == 0  # it fails again, and the others are there
    else:
        with pytest.raises(OSError, match=r"not finished.*1 could not be prepared: b.edf: .*bad sector"):
            run(folder, tmp_path / "out")
        is_refused_everywhere(tmp_path / "out")
        assert not every_shard(tmp_path / "out")
    monkeypatch.undo()
    assert run(folder, tmp_path / "out").written == 1
    (shard,) = every_shard(tmp_path / "out").values()
    assert shard.recordings["name"].tolist() == ["a.edf", "b.edf"]


def test_a_recording_that_cannot_be_read_any_more_leaves_no_old_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b"):
        edf(folder / f"{name}.edf", IED, seconds=8)
    run(folder, out)
    (folder / "b.csv").write_text("onset,duration,label\n1,0,IED\n")
    written = prepare_module.write_shard

    def failing(path: Path, *given: object, **options: object) -> None:
        if path.name.startswith("b-"):
            raise prepare_module.UnreadableRecordingError("b.edf", "bad sector")
        written(path, *given, **options)

    monkeypatch.setattr(prepare_module, "write_shard", failing)
    assert [file.name for file in run(folder, out).skipped] == ["b.edf"]
    assert list(every_shard(out)) == ["a"]


def test_a_shard_that_no_worker_survives_is_gone_and_the_set_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b", "c"):
        edf(folder / f"{name}.edf", IED, seconds=8)
    run(folder, out)

    def failing(job: object, **_: object) -> object:
        if job.path.name.startswith("b-"):
            raise RuntimeError("out of memory")
        return prepare_module._Done()

    monkeypatch.setattr(prepare_module, "_finish_shard", failing)
    with pytest.raises(OSError, match=r"not finished.*of 3 recordings 1 could not .*: b.edf: .*out of memory"):
        run(folder, out)
    assert sorted(every_shard(out)) == ["a", "c"]
    is_refused_everywhere(out)
    assert json.loads((out / "prepare.json").read_text())["failed"][0]["name"] == "b.edf"
    monkeypatch.undo()
    assert run(folder, out).written == 1


def is_refused_everywhere(out: Path) -> None:
    """A set that is not finished is refused by training, and an error of `prepare --check`."""
    with pytest.raises(ValueError, match="was not finished: run it again"):
        refuse_unfinished(out)
    assert any("not finished" in error for error in check(out).errors)


def test_a_recording_that_vanishes_after_the_first_look_leaves_the_set_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        edf(tmp_path / "in" / f"{name}.edf", IED, patient=name, seconds=8)
    opened = Folder.open

    def failing(source: Folder, name: str, data: DataConfig) -> object:
        if name == "a.edf" and (tmp_path / "out" / "prepare.json").exists():  # the first look is over
            (source.root / name).unlink(missing_ok=True)
        return opened(source, name, data)

    monkeypatch.setattr(Folder, "open", failing)
    with pytest.raises(OSError, match=r"not finished.*a.edf: .*No such file"):
        run(tmp_path / "in", tmp_path / "out")
    assert next(iter(every_shard(tmp_path / "out").values())).recordings["name"].tolist() == ["b.edf"]
    is_refused_everywhere(tmp_path / "out")


@pytest.mark.parametrize("error", [None, PermissionError, TimeoutError, OSError])
def test_a_disk_that_fails_at_the_first_look_stops_the_run_before_patients_are_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError] | None
) -> None:
    """None: the files of the share are gone, as if it were no longer mounted."""
    for name in ("a", "b"):
        edf(tmp_path / "in" / f"{name}.edf", IED, patient=name)
    opened = Folder.open

    def failing(source: Folder, name: str, data: DataConfig) -> object:
        if name == "b.edf" and error is not None:
            raise error(5, "the share is gone", name)
        if name == "b.edf":
            (source.root / name).unlink(missing_ok=True)
        return opened(source, name, data)

    monkeypatch.setattr(Folder, "open", failing)
    with pytest.raises(
        OSError, match=r"1 of 2 recordings cannot be read.*b\.edf.*(share is gone|no such file).*Nothing was written"
    ):
        run(tmp_path / "in", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.h5"))


def test_recordings_of_which_none_can_be_read_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path, *_: object, **__: object) -> None:
        raise prepare_module.UnreadableRecordingError("a.edf", "bad sector")

    edf(tmp_path / "in" / "a.edf", IED, seconds=4)
    monkeypatch.setattr(prepare_module, "write_shard", failing)
    with pytest.raises(ValueError, match=r"nothing to prepare \(a\.edf: bad sector\)"):
        run(tmp_path / "in", tmp_path / "out")


def test_a_name_that_is_no_text_costs_its_recording_alone(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    edf(folder / "a.edf", IED, seconds=4)
    try:
        edf(folder / "b\udcff.edf", IED, seconds=4, seed=1)  # the byte 0xff, in no encoding
    except OSError:
        pytest.skip("this disk takes no such names")
    report = run(folder, tmp_path / "out")
    assert [file.name for file in report.used] == ["a.edf"]
    assert "skipped b\\udcff.edf: its name is no UTF-8 text: rename it" in report.text()


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("Can't decrement id ref count (file write failed: No space left on device)"),
        ValueError("Unable to create dataset (file write failed: No space left on device)"),
        KeyError("Unable to flush (No space left on device)"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_full_disk_ends_the_run_and_no_recording_is_to_blame(
    tmp_path: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """HDF5 raises any of these; the set of the shards before it never counts as finished."""
    written, out = prepare_module.write_shard, tmp_path / "out"

    def full(path: Path, *given: object, **options: object) -> None:
        if len(list(out.rglob("*.h5"))) >= 2:
            raise error
        written(path, *given, **options)

    monkeypatch.setattr(prepare_module, "write_shard", full)
    with pytest.raises(OSError, match=r"cannot be written, .*out is not finished: no space left"):
        run(cohort, out)
    assert len(list(out.rglob("*.h5"))) == 2
    is_refused_everywhere(out)
    monkeypatch.undo()
    assert run(cohort, out).written == 8
    refuse_unfinished(out)
    assert not check(out).errors


def test_a_shard_that_may_not_be_read_ends_the_run_and_is_kept(
    cohort: Path, out_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = {path: path.stat().st_mtime_ns for path in out_copy.rglob("*.h5")}

    def refuse(path: Path) -> Shard:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(prepare_module, "verify_shard", refuse)
    with pytest.raises(OSError, match=r"\.h5 cannot be written, .* is not finished: PermissionError: "):
        run(cohort, out_copy)
    assert {path: path.stat().st_mtime_ns for path in out_copy.rglob("*.h5")} == shards


def test_a_truncated_file_is_used_as_far_as_it_goes_and_said(tmp_path: Path) -> None:
    path = edf(tmp_path / "in" / "a.edf", IED)
    os.truncate(path, path.stat().st_size * 6 // 10)
    report = run(tmp_path / "in", tmp_path / "out")
    assert "a.edf: cut short: " in report.text()
    assert 5 <= len(every_shard(tmp_path / "out")["a"]) < 19


def test_channels_that_are_coarsely_rounded_are_said(tmp_path: Path) -> None:
    signal = noise(400, n_chans=3)
    signal[:100, 1] = 90_000.0
    (tmp_path / "in").mkdir()
    write_recording(tmp_path / "in" / "a.edf", signal, sfreq=100.0, ch_names=CH_NAMES, patient_code="X")
    said = run(tmp_path / "in", tmp_path / "out").text()
    assert "a.edf: jumps by tens of millivolts and is coarsely rounded there: Cz" in said


def test_missing_electrodes_are_said_and_absent(tmp_path: Path) -> None:
    edf(tmp_path / "in" / "a.edf", IED)
    data = DataConfig(ch_names=(*CH_NAMES, "Pz"), sfreq=100.0, window_seconds=2.0)
    report = prepare(Folder(tmp_path / "in"), tmp_path / "out", data, hop_seconds=1.0, seed=0)
    assert "a.edf: lacks Pz" in report.text()
    assert every_shard(tmp_path / "out")["a"].present(0).tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"hop_seconds": 0.0}, "the hop of 0.0 s is not a whole number"),
        ({"hop_seconds": 0.3333}, "the hop of 0.3333 s is not a whole number"),
        ({"manifest": "absent.csv"}, "no such file"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_made(
    cohort: Path, tmp_path: Path, options: dict, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        run(cohort, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", [["ied"], ["spindle", "spindle"], ["a/b"]])
def test_tasks_that_a_shard_cannot_tell_apart_are_refused(cohort: Path, tmp_path: Path, names: list[str]) -> None:
    rules = [EventRule(TaskSpec(name, "binary", ("none", "x")), TextClasses((("x", "x"),))) for name in names]
    with pytest.raises(ValueError, match=f"names of their own, without '/', given {names[0]} among"):
        run(cohort, tmp_path / "out", more_rules=tuple(rules))
    assert not (tmp_path / "out").exists()


def test_nothing_to_prepare_is_an_error_with_reasons(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match=r"nothing to prepare \(no file ends in \.edf, \.bdf, "):
        run(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "a.edf").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"nothing to prepare \(a\.edf: "):
        run(tmp_path / "in", tmp_path / "out")
    with pytest.raises(ValueError, match="no such folder"):
        run(tmp_path / "absent", tmp_path / "out")


# --- check


def test_a_sound_folder_passes_and_its_table_is_shown(prepared: tuple) -> None:
    found = check(prepared[0])
    assert found.errors == ()
    assert found.summary == prepared[1].summary
    lines = found.summary.table().splitlines()
    assert [line.split()[0] for line in lines] == ["split", *SPLITS]


def test_check_names_every_shard_that_is_wrong_and_goes_on(out_copy: Path) -> None:
    paths = sorted((out_copy / "train").glob("*.h5"))
    os.truncate(paths[0], paths[0].stat().st_size - 100)
    whole = bytearray(paths[1].read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    paths[1].write_bytes(whole)
    found = check(out_copy)
    assert [str(path) in error for path, error in zip(paths[:2], found.errors, strict=True)] == [True, True]
    assert len(found.summary.splits[0].patients) == 4


def test_check_finds_a_patient_in_two_splits(out_copy: Path) -> None:
    path = next((out_copy / "train").glob("*.h5"))
    shutil.copy(path, out_copy / "test" / path.name)
    (error,) = check(out_copy).errors
    assert "is in train" in error
    assert "and in test" in error


def test_check_of_a_folder_without_shards_fails(tmp_path: Path) -> None:
    assert "no shards" in check(tmp_path).errors[0]


# --- real recordings


def test_a_real_recording_takes_the_same_road(tmp_path: Path) -> None:
    source = SHARED / "eeglab-sample" / "eeglab_data.edf"
    if not source.exists():
        pytest.skip(f"{source} is absent: real recordings are not part of the project")
    (tmp_path / "in").mkdir()
    shutil.copy(source, tmp_path / "in" / "a.edf")
    (tmp_path / "in" / "a.csv").write_text("onset,duration,label\n0,60,Waking\n100,0.1,IED\n")
    data = DataConfig()
    report = prepare(Folder(tmp_path / "in"), tmp_path / "out", data, hop_seconds=1.0, seed=0)
    shard = next(iter(every_shard(tmp_path / "out").values()))
    assert "lacks Fp1, Fp2, F7, F8" in report.text()
    assert not shard.present(0)[[data.ch_names.index(name) for name in ("Fp1", "Fp2", "F7", "F8")]].any()
    recording = read_recording(source, ch_names=data.ch_names, sfreq=data.sfreq)
    np.testing.assert_allclose(shard.read_window(50), recording.read(0, 10_000, 10_800), atol=0.051)
    assert np.flatnonzero(shard.labels["ied"]).tolist() == [97, 98, 99]


# --- many patients in a shard, many processes, more tasks


@dataclasses.dataclass(frozen=True)
class ManyInOne(Folder):
    patients_per_shard = 3

    def notes(self) -> tuple[str, ...]:
        return ("said by the source",)


def test_a_shard_may_hold_many_patients_and_each_window_knows_its_own(tmp_path: Path, cohort: Path) -> None:
    prepare(ManyInOne(cohort), tmp_path, DATA, hop_seconds=1.0, seed=0)
    one = prepare(Folder(cohort), tmp_path / "one", DATA, hop_seconds=1.0, seed=0)
    split_of = {file.patient: file.split for file in one.used}
    for split, sizes in {"train": [3, 3], "validation": [2], "test": [2]}.items():
        shards = [verify_shard(path) for path in sorted((tmp_path / split).glob("*.h5"))]
        assert [len(shard.patients) for shard in shards] == sizes
        patients = [patient for shard in shards for patient in shard.patients]
        assert patients == sorted(patients)  # who shares a shard does not depend on the seed's order
        for shard in shards:
            windows = np.arange(len(shard))
            assert {split_of[patient] for patient in shard.patients} == {split}
            for patient in shard.patients:
                alone = every_shard(tmp_path / "one" / split)[patient]
                own = windows[shard.patient(windows) == patient]
                assert len(own) == len(alone)
                np.testing.assert_array_equal(shard.read_window(int(own[-1])), alone.read_window(len(alone) - 1))
                np.testing.assert_array_equal(shard.labels["ied"][own], alone.labels["ied"])
    assert check(tmp_path).errors == ()
    report = prepare(ManyInOne(cohort), tmp_path, DATA, hop_seconds=1.0, seed=0)
    assert report.written == 0 and "said by the source" in report.text()


def test_a_patient_who_would_change_split_is_refused_in_shards_of_many_too(tmp_path: Path) -> None:
    """Their files keep their names, whoever is in them."""
    folder, out = tmp_path / "in", tmp_path / "out"
    for k in range(9):
        edf(folder / f"{k}.edf", IED, seconds=4)
    prepare(ManyInOne(folder), out, DATA, hop_seconds=1.0, seed=1)
    before = {path: path.read_bytes() for path in out.rglob("*.h5")}
    for k in range(9, 14):
        edf(folder / f"{k}.edf", IED, seconds=4)
    with pytest.raises(ValueError, match=r"would not give now: .*part-00000\.h5"):
        prepare(ManyInOne(folder), out, DATA, hop_seconds=1.0, seed=1)
    assert {path: path.read_bytes() for path in out.rglob("*.h5")} == before


def test_a_damaged_shard_of_many_is_made_again(tmp_path: Path, cohort: Path) -> None:
    prepare(ManyInOne(cohort), tmp_path, DATA, hop_seconds=1.0, seed=0)
    path = tmp_path / "train" / "part-00001.h5"
    before = path.read_bytes()
    path.write_bytes(before[:3000])
    assert prepare(ManyInOne(cohort), tmp_path, DATA, hop_seconds=1.0, seed=0).written == 1
    assert path.read_bytes() == before


def test_another_patient_of_the_same_recording_makes_its_shard_anew(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    edf(folder / "a.edf", IED, seconds=4)
    for patient, written in {"Ann": 1, "Anna": 1, "Anna ": 0}.items():
        (folder / "manifest.csv").write_text(f"file,patient\na.edf,{patient}\n")
        source = ManyInOne(folder, manifest_rows(folder, None))
        assert prepare(source, out, DATA, hop_seconds=1.0, seed=0).written == written
        assert open_shard(out / "train" / "part-00000.h5").patients == (patient.strip(),)


def test_further_tasks_come_from_expressions(tmp_path: Path) -> None:
    for k, text in enumerate(("Spindle (expert 1)", "eyes open", "nothing")):
        edf(tmp_path / "in" / f"{k}.edf", Annotation(5.0, 1.0, text))
    spindle = EventRule(TaskSpec("spindle", "binary", ("none", "spindle")), TextClasses((("spindle", "spindle.*"),)))
    eyes = StateRule(TaskSpec("eyes", "multiclass", ("open", "closed")), TextClasses((("open", "eyes open"),)))
    report = run(tmp_path / "in", tmp_path / "out", more_rules=(spindle, eyes))
    shards = every_shard(tmp_path / "out")
    assert shards["0"].labels["spindle"].nonzero()[0].tolist() == [4, 5]  # 5.5 s lies in the windows from 4 and 5 s
    assert shards["1"].weights["spindle"].all() and not shards["1"].labels["spindle"].any()  # looked for everywhere
    assert shards["1"].weights["eyes"].tolist() == [0] * 19 and shards["0"].weights["eyes"].sum() == 0  # 1 s of 2
    assert [len(shards[k].marks["spindle"].code) for k in "012"] == [1, 0, 0]
    assert [len(shards[k].marks["eyes"].code) for k in "012"] == [0, 1, 0]
    assert "2 of 3 recordings have no annotation of spindle and count as free of it\n" in report.text()
    with pytest.raises(ValueError, match="rules was"):
        run(tmp_path / "in", tmp_path / "out", more_rules=(spindle,))


def test_what_is_said_of_many_recordings_is_said_once() -> None:
    lines = grouped([("no stages", f"{k}.edf") for k in range(7)] + [("cut short", "x.edf")])
    assert lines == ["0.edf, 1.edf, 2.edf, 3.edf, 4.edf and 2 more: no stages", "x.edf: cut short"]


@dataclasses.dataclass(frozen=True)
class Deadly(Folder):
    """Kills the process that opens its second recording, once."""

    def open(self, name, data):
        flag = self.root / "died"
        if name == "night1.edf" and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().open(name, data)


def test_two_workers_of_which_one_dies_write_the_same_bytes_and_report_as_one(tmp_path: Path, cohort: Path) -> None:
    folder = Path(shutil.copytree(cohort, tmp_path / "in"))
    (folder / "broken.edf").write_bytes(b"0" * 300)
    report = prepare(Deadly(folder), tmp_path / "two", DATA, hop_seconds=1.0, seed=0, workers=2)
    assert ("night1.edf", "tried again: its worker was lost") in report.retried
    assert "night1.edf: tried again: its worker was lost" in report.text()
    assert [file.name for file in report.skipped] == ["broken.edf"]
    prepare(Folder(folder), tmp_path / "one", DATA, hop_seconds=1.0, seed=0)
    for path in sorted((tmp_path / "one").rglob("*.h5")) + [tmp_path / "one" / "prepare.json"]:
        assert (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize("worker_lost", [True, False])
def test_a_recording_that_ends_every_worker_is_left_out_one_whose_disk_fails_is_waited_for(
    tmp_path: Path, cohort: Path, monkeypatch: pytest.MonkeyPatch, *, worker_lost: bool
) -> None:
    def run_each(function, items, **options):
        for outcome in jobs.run_each(function, items, **options):
            fails = items[outcome.index] == "night1.edf"
            yield jobs.Outcome(outcome.index, None, "in any words", worker_lost) if fails else outcome

    monkeypatch.setattr(prepare_module, "run_each", run_each)
    if worker_lost:
        report = prepare(Folder(cohort), tmp_path / "out", DATA, hop_seconds=1.0, seed=0)
        assert report.skipped == (SkippedFile("night1.edf", "in any words"),)
    else:
        with pytest.raises(OSError, match=r"1 of 11 recordings cannot be read.*night1.edf: in any words"):
            prepare(Folder(cohort), tmp_path / "out", DATA, hop_seconds=1.0, seed=0)


# --- what is no recording


def test_what_detect_wrote_is_left_out_and_said(tmp_path: Path) -> None:
    edf(tmp_path / "in" / "night.edf", IED)
    for ending in ("detected", "annotated"):
        shutil.copy(tmp_path / "in" / "night.edf", tmp_path / "in" / f"night_{ending}.edf")
    edf(tmp_path / "in" / "ours_annotated.edf", IED)  # a name that anybody may choose
    (tmp_path / "in" / "night_run.json").write_text("{}")
    report = run(tmp_path / "in", tmp_path / "out")
    assert [file.name for file in report.used] == ["night.edf", "ours_annotated.edf"] and not report.skipped
    assert "2 files left out that `siamese-jax detect` wrote: night_annotated.edf, night_detected.edf" in report.text()


def test_a_link_to_nothing_and_a_pipe_are_named(tmp_path: Path) -> None:
    edf(tmp_path / "in" / "night.edf", IED)
    (tmp_path / "in" / "gone.edf").symlink_to(tmp_path / "elsewhere.edf")
    os.mkfifo(tmp_path / "in" / "pipe.edf")
    report = run(tmp_path / "in", tmp_path / "out")
    assert "skipped gone.edf, pipe.edf: it is not a file, or it is a link whose target is missing" in report.text()


def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edf(tmp_path / "in" / "night.edf", IED)
    (tmp_path / "in" / "locked").mkdir()
    scandir = os.scandir

    def refusing(path: str | Path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root may read everything
    assert "locked cannot be searched: Permission denied" in run(tmp_path / "in", tmp_path / "out").text()


def test_of_many_reasons_the_first_few_are_told_without_the_name_twice(tmp_path: Path) -> None:
    for k in range(8):
        path = tmp_path / "in" / f"{k}.edf"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(str(k).encode() * 300)
    with pytest.raises(ValueError, match="3 more reasons") as error:
        run(tmp_path / "in", tmp_path / "out")
    assert "(0.edf: is neither EDF nor BDF: it begins with b'00000000'; 1.edf: is" in str(error.value)
    assert str(error.value).count("neither") == 5


def test_shards_of_a_preparation_that_was_not_finished_are_refused(out_copy: Path) -> None:
    refuse_unfinished(out_copy)
    refuse_unfinished(out_copy / "train")  # not from prepare: nothing is known
    report = json.loads((out_copy / "prepare.json").read_text())
    (out_copy / "prepare.json").write_text(json.dumps(report | {"finished": False}))
    with pytest.raises(ValueError, match="was not finished: run it again"):
        refuse_unfinished(out_copy)
