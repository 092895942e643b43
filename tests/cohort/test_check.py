"""Cohorts that are broken on purpose: each trouble is found and named, and a sound cohort has none."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from siamese_jax.cli import console
from siamese_jax.cli import recordings as cli
from siamese_jax.cohort.check import SHOWN, Check, Finding, PatientCounts, _counts, _digest, check, imbalances
from siamese_jax.cohort.report import write_report
from siamese_jax.recordings.recording import Annotation
from siamese_jax.recordings.sidecars import SPLITS
from siamese_jax.shards.schema import checksum, open_shard
from siamese_jax.shards.summary import summarise
from siamese_jax.shards.write import write_shard
from siamese_jax.vocabulary import IED, SLEEP, TaskSpec
from tests.recordings.in_memory import SFREQ, info_of, labelled, noise, recording_of
from tests.simulated_cohort import tiny_shards

NIGHT = tuple(Annotation(4.0 * i, 4.0, f"Sleep stage {stage}") for i, stage in enumerate(["W", "N1", "N2", "N3", "R"]))
IEDS = (Annotation(3.0, 0.1, "IED"), Annotation(13.0, 0.1, "IED"))
N = int(20 * SFREQ)


def put(folder: Path, split: str, name: str, signal: np.ndarray, *, patient: str | None = None, **options) -> Path:
    """A shard of one recording of 20 s or more with every class, by default of a patient of its own."""
    path = folder / split / f"{name}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    recording, digest = recording_of([signal], present=options.pop("present", None)), options.pop("digest", name)
    item = labelled(recording, (*NIGHT, *IEDS), name=f"{name}.edf", patient=patient or f"P-{name}", **options)
    item = item._replace(digest=digest)
    write_shard(path, [item], info=info_of(recording))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two patients in each split, and the report of a preparation that used their six recordings."""
    for i in range(6):
        put(tmp_path, SPLITS[i // 2], "abcdef"[i], noise(N, seed=i))
    report(tmp_path)
    return tmp_path


def report(folder: Path, *, finished: bool = True, used: str = "abcdef", skipped: str = "") -> None:
    lists = {key: [{"name": f"{name}.edf"} for name in names] for key, names in (("used", used), ("skipped", skipped))}
    write_report(folder, {}, {"finished": finished} | (lists if finished else {}))


def finding(checked: Check, name: str) -> Finding:
    return next(found for found in checked.findings if found.name == name)


def test_a_sound_cohort_passes_in_a_dozen_lines(folder: Path) -> None:
    told: list[tuple[str, int, int]] = []
    checked = check(folder, lambda *news: told.append(news))
    assert (checked.errors, checked.warnings, checked.error_lines()) == ((), (), [])
    assert checked.summary == summarise(folder)
    lines = checked.text().splitlines()
    assert len(lines) <= 12
    assert lines[-1] == "all shards are sound"
    assert [line.split()[-1] for line in lines[5:-1]] == ["sound"] * len(checked.findings)
    assert max(len(line) for line in lines[4:]) <= 100
    searched = {found.name: found.checked for found in checked.findings}
    assert searched["complete"] == "6 recordings used, 0 left out (prepare.json)"
    assert searched["patients"] == "6 patients in 3 splits"
    assert searched["equal signals"] == "114 windows of 6 recordings"
    assert searched["constant channels"].startswith("24 channels of 6 recordings")
    assert told[-1] == ("comparing windows", 114, 114)


def test_simulated_patients_are_told_apart(tmp_path: Path) -> None:
    """The simulator's patients share frequencies, amplitudes and waveforms, but no signal."""
    checked = check(tiny_shards(tmp_path, patients=4, minutes=1.0))
    assert checked.errors == ()
    for name in ("complete", "equal signals", "constant channels"):
        assert finding(checked, name).result == "sound"


# --- what is complete


def test_a_set_that_was_not_finished_is_not_sound(folder: Path) -> None:
    report(folder, finished=False)
    checked = check(folder)
    assert checked.errors == (f"{folder}: preparing it was not finished; run `siamese-jax prepare` again",)
    assert "sound" not in checked.text().splitlines()[-1]


def test_recordings_that_were_used_and_are_gone_are_errors_and_those_left_out_warnings(folder: Path) -> None:
    report(folder, skipped="xy")
    (folder / "test" / "e.h5").unlink()
    (folder / "train" / "a.h5").unlink()
    found = finding(check(folder), "complete")
    assert found.errors == tuple(f"{name}.edf: used by the preparation, but no shard holds it" for name in ("a", "e"))
    assert found.warnings == tuple(
        f"{name}.edf: left out by the preparation; prepare.json has the reason" for name in ("x", "y")
    )
    assert found.checked == "6 recordings used, 2 left out (prepare.json)"


def test_a_set_without_a_report_or_with_a_damaged_one_is_not_called_complete(folder: Path) -> None:
    (folder / "prepare.json").write_text('{"finished": true')
    (error,) = check(folder).errors
    assert error.startswith(f"{folder / 'prepare.json'} is damaged (")
    (folder / "prepare.json").unlink()
    (warning,) = check(folder).warnings
    assert warning == f"{folder / 'prepare.json'}: no such file, so nothing says which recordings belong to the set"


# --- one signal under two names


@pytest.mark.parametrize(
    ("split", "patient", "kind"),
    [("test", "P-x", "errors"), ("train", "P-x", "errors"), ("train", "P-a", "warnings")],
)
def test_a_night_under_two_names(folder: Path, split: str, patient: str, kind: str) -> None:
    """In two splits, or of two patients, it is an error; twice of one patient, a warning."""
    recordings = [recording_of([noise(N, seed=seed)]) for seed in (0, 0)]
    if patient == "P-a":  # both in one shard
        items = [
            labelled(recording, (*NIGHT, *IEDS), name=f"{name}.edf", patient=patient)
            for name, recording in zip(("a", "copy"), recordings, strict=True)
        ]
        write_shard(folder / "train" / "a.h5", items, info=info_of(recordings[0]))
    else:
        put(folder, split, "copy", noise(N, seed=0), patient=patient)
    checked = check(folder)
    (line,) = getattr(finding(checked, "equal signals"), kind)
    one, other = "a.edf (patient P-a, train)", f"copy.edf (patient {patient}, {split})"
    assert line == f"{one} and {other} share 19 windows, first at 0 s and 0 s: leave one out"
    assert len(checked.errors) + len(checked.warnings) == 1


def test_leaks_stand_before_other_duplicates(folder: Path) -> None:
    put(folder, "train", "again", noise(N, seed=0))
    put(folder, "test", "leak", noise(N, seed=2))
    first, second = finding(check(folder), "equal signals").errors
    assert "leak.edf (patient P-leak, test)" in first
    assert "again.edf" in second


def test_one_file_under_two_names_is_known_by_its_digest(folder: Path) -> None:
    """Whatever the windows hold: read with other electrodes, they differ."""

    for split, name, digest in (("train", "b", "same"), ("test", "f", "same"), ("train", "a", ""), ("test", "e", "")):
        put(folder, split, name, noise(N, seed="abcdef".index(name)), digest=digest)
    (error,) = check(folder).errors
    assert error == "b.edf (patient P-b, train) and f.edf (patient P-f, test) are one file under two names"


def test_a_copied_file_is_one_error_not_three(folder: Path) -> None:
    copy = folder / "test" / "b.h5"
    copy.write_bytes((folder / "train" / "b.h5").read_bytes())
    (error,) = check(folder).errors
    assert error == "patient 'P-b' is in train (b.h5) and in test (b.h5)"


def test_a_patient_in_two_shards_of_a_split_is_an_error(folder: Path) -> None:
    put(folder, "train", "later", noise(N, seed=9), patient="P-a")
    (error,) = check(folder).errors
    assert "'P-a' is in train (a.h5) and in train (later.h5)" in error


# --- windows


def as_written(path: Path, change: Callable[[h5py.File], None]) -> None:
    """Change a shard and make its checksum fit, as whoever writes shards otherwise would."""
    with h5py.File(path, "r+") as file:
        change(file)
        file.attrs["checksum"] = checksum(file)


@pytest.mark.parametrize("gain", [1, -3])
def test_a_stretch_of_one_recording_within_another(folder: Path, gain: int) -> None:
    """Neither another offset nor a whole-number gain of each channel hides it."""
    block = open_shard(folder / "train" / "a.h5").read_integers(500, 1000)
    block = gain * np.clip(block, -9000, 9000) + np.array([0, 7, -300, 20])
    for path, at in ((folder / "train" / "a.h5", 500), (folder / "test" / "e.h5", 1200)):
        signal = block if at == 1200 else (block - [0, 7, -300, 20]) // gain
        as_written(path, lambda file, at=at, signal=signal: file["signal"].__setitem__(slice(at, at + 500), signal))
    (error,) = check(folder).errors
    assert error == (
        "a.edf (patient P-a, train) and e.edf (patient P-e, test) share 4 windows, first at 5 s and 12 s: leave one out"
    )


def test_windows_twice_in_one_recording(folder: Path) -> None:
    path = folder / "test" / "f.h5"
    block = open_shard(path).read_integers(0, 200)
    as_written(path, lambda file: file["signal"].__setitem__(slice(1000, 1200), block))
    (line,) = check(folder).warnings
    assert line == "f.edf (patient P-f, test) holds 1 window twice, first at 0 s and 10 s"


def test_one_sample_makes_another_window() -> None:
    block = np.random.default_rng(0).integers(-99, 99, (200, 3)).astype(np.int16)
    other = block.copy()
    other[120, 2] += 1
    assert _digest(block) == _digest((3 * block + [5, 0, -9]).astype(np.int16)) != _digest(other)
    steep = np.array([[0], [21845], [100]] * 9, np.int16)  # three times its steps are beyond int16
    assert _digest(steep) == _digest((3 * steep.astype(int) - 32768).astype(np.int16))


def test_windows_that_are_listed_twice(folder: Path) -> None:
    path = folder / "validation" / "d.h5"
    as_written(path, lambda file: file["samples/start"].__setitem__(slice(5, 7), file["samples/start"][7]))
    checked = check(folder)
    assert checked.errors == (f"{path}: 2 windows listed twice, the first in d.edf at 7 s",)
    assert checked.warnings == ()


def test_labelled_windows_without_a_signal_are_no_duplicates(folder: Path) -> None:
    path = folder / "train" / "a.h5"
    as_written(path, lambda file: file["signal"].__setitem__(slice(600, 1000), 7))
    (line,) = check(folder).warnings
    assert line == f"{path}: 3 windows with labels but a signal that stands still, the first in a.edf at 6 s"
    as_written(path, lambda file: [file[f"weights/{task}"].__setitem__(slice(6, 9), 0) for task in file["weights"]])
    assert check(folder).errors + check(folder).warnings == ()


@pytest.mark.parametrize("noise_uv", [0.0, 0.5, 5.0])
def test_nothing_but_mains_is_no_signal_that_two_recordings_share(folder: Path, noise_uv: float) -> None:
    hum = 40 * np.sin(2 * np.pi * 25 * np.arange(N) / SFREQ + 0.4)[:, None]
    for seed, (split, name) in enumerate([("train", "g"), ("test", "h"), ("test", "i")]):
        put(folder, split, name, (hum + noise(N, seed=70 + seed, sd_uv=noise_uv)).astype(np.float32))
    checked = check(folder)
    assert checked.errors + checked.warnings == ()


# --- channels and labels


def test_channels_that_stand_still_are_named_with_their_share(folder: Path) -> None:
    signal = noise(N, seed=10)
    signal[:, 0] = 12.0
    signal[700:, 1] = -3.0  # 12 of 19 windows
    signal[1100:, 2] = 5.0  # 8 of 19
    signal[:, 3] = 0.0
    put(folder, "train", "dead", signal, present=[True, True, True, False])
    off = noise(N, seed=11)
    off[800:] = 1.0
    put(folder, "test", "off", off)
    assert finding(check(folder), "constant channels").warnings == (
        "dead.edf (patient P-dead, train) stands still in many of its windows: Fp1 100 %, Cz 63 %",
        "off.edf (patient P-off, test) stands still in many of its windows: all 4 channels 58 %",
    )


def test_label_imbalance_is_a_warning(folder: Path) -> None:
    for path in (folder / "test").glob("*.h5"):
        as_written(path, lambda file: file["labels/ied"].__setitem__(slice(None), 0))
    checked = check(folder)
    assert checked.errors == ()
    assert checked.warnings == ("ied: test has no window of ied (train has 4)",)  # of two that an IED touches, one


FINDINGS = TaskSpec("findings", "multilabel", ("norm", "af", "mi"))


def binary(split: str, n: int, positives: int, *, patients: int = 1) -> list[PatientCounts]:
    """Patients with so many labelled windows each."""
    return patients * [PatientCounts(split, n, np.array([n - positives, positives]))]


def test_counts_are_by_patient_and_of_labelled_windows_only(folder: Path) -> None:
    weights, stages = [1, 1, 1, 0, 0.5] + 14 * [0], [0, 1, 2, 2, 2] + 14 * [0]
    as_written(folder / "train" / "a.h5", lambda file: file["weights/sleep"].__setitem__(slice(None), weights))
    as_written(folder / "train" / "a.h5", lambda file: file["labels/sleep"].__setitem__(slice(None), stages))
    ((split, labelled, having),) = _counts(SLEEP, "train", [open_shard(folder / "train" / "a.h5")])
    assert (split, labelled, having.tolist()) == ("train", 4, [1, 1, 2, 0, 0])
    assert _counts(FINDINGS, "train", [open_shard(folder / "train" / "a.h5")]) == []


def test_balanced_labels_say_nothing() -> None:
    patients = binary("train", 100, 10, patients=6) + binary("validation", 100, 8) + binary("test", 100, 15)
    assert imbalances(IED, patients) == []
    assert imbalances(IED, []) == []


def test_classes_and_splits_without_windows_are_named() -> None:
    def night(split: str, *having: int) -> PatientCounts:
        return PatientCounts(split, sum(having), np.array(having))

    found = imbalances(SLEEP, [night("train", 9, 9, 9, 1, 2), night("test", 1, 1, 2, 0, 0)])
    assert found == ["test has no window of N3 (train has 1), R (train has 2)"]
    found = imbalances(SLEEP, [night("train", 1, 1, 2, 0, 0), night("test", 2, 1, 1, 0, 0)])
    assert found == ["no window of N3, R in any split"]
    assert imbalances(IED, binary("train", 20, 2) + binary("test", 0, 0)) == [
        "test has no labelled window, train has 20"
    ]
    assert imbalances(IED, binary("train", 0, 0) + binary("test", 0, 0)) == []  # a task that nobody labelled


def test_rare_classes_are_told_with_their_ratio() -> None:
    assert imbalances(IED, binary("train", 480, 2) + binary("test", 480, 2)) == [
        "rare among 960 labelled windows: ied 1 : 240"
    ]
    assert imbalances(IED, binary("train", 400, 4) + binary("test", 400, 4)) == []  # one in a hundred
    (found,) = imbalances(FINDINGS, [PatientCounts("train", 1000, np.array([996, 4, 1]))])
    assert found == "rare among 1000 labelled windows: mi 1 : 1000, af 1 : 250"


def test_a_class_dealt_unevenly_is_named_with_its_shares() -> None:
    train, validation = binary("train", 100, 40, patients=12), binary("validation", 100, 38, patients=4)
    assert imbalances(IED, train + validation + binary("test", 100, 10, patients=8)) == [
        "ied is 40 % of train, 38 % of validation, 10 % of test: more than chance among 24 patients",
    ]


@pytest.mark.parametrize(
    "patients",
    [
        binary("train", 100, 28, patients=12) + binary("test", 100, 10, patients=8),  # not three times
        binary("train", 100, 40) + binary("test", 100, 10),  # two patients: it might be the other way round
        # one with many events
        binary("train", 100, 5, patients=11) + binary("train", 100, 95) + binary("test", 100, 4, patients=4),
    ],
)
def test_what_chance_may_deal_is_not_named(patients: list[PatientCounts]) -> None:
    assert imbalances(IED, patients) == []


def test_patients_dealt_by_chance_are_hardly_ever_called_uneven() -> None:
    """Patients as they are, some with many events and most with few, in 60 random deals."""
    rng, called, apart = np.random.default_rng(5), 0, 0
    for _ in range(60):
        positives = np.minimum(100, rng.lognormal(1, 1.5, 20)).astype(int) + 1
        groups = np.split(positives, [12, 16])
        shares = [group.mean() for group in groups]
        apart += max(shares) > 3 * min(shares)
        patients = [
            p for split, group in zip(SPLITS, groups, strict=True) for n in group for p in binary(split, 100, int(n))
        ]
        called += any("chance" in line for line in imbalances(IED, patients))
    assert apart > 15
    assert called <= 1


# --- files


def test_shards_that_do_not_fit_are_named_and_the_others_are_compared(folder: Path) -> None:
    tasks = json.dumps([{"name": "ied", "kind": "multilabel", "classes": ["x", "y"]}])

    def other(file: h5py.File) -> None:
        del file["labels"], file["weights"]
        n = len(file["samples/start"])
        file["labels/ied"], file["weights/ied"] = np.zeros((n, 2), np.float32), np.ones(n, np.float32)
        file.attrs["tasks"], file.attrs["hop"] = tasks, 50

    as_written(folder / "test" / "e.h5", other)
    errors = check(folder).errors
    assert len(errors) == 2
    assert all(error.startswith(str(folder / "test" / "e.h5")) for error in errors)
    assert "hop is 50, but 100 in" in errors[0]


def test_damaged_files_and_leftovers_are_named(folder: Path) -> None:
    (folder / "train" / "a.h5").write_bytes(b"text")
    (folder / "test" / "x.h5.1.partial").touch()
    errors = check(folder).errors
    assert [Path(error.split(":")[0]).name for error in errors] == ["a.h5", "x.h5.1.partial"]
    assert finding(check(folder), "patients").checked == "5 patients in 3 splits"


# --- what is printed


def test_of_many_the_first_few_are_printed_and_the_others_counted() -> None:
    empty = check(Path("/nowhere"))
    many = tuple(f"line {i}" for i in range(SHOWN + 7))
    checked = Check(empty.summary, (Finding("a", "b", many, many), Finding("c", "d", (), many[:1])))
    assert checked.error_lines() == [*many[:SHOWN], "... and 7 more of this kind"]
    printed = checked.text().splitlines()
    assert printed[-1] == f"{len(many)} errors, {len(many) + 1} warnings"
    assert [line for line in printed if line.startswith("warning: ")] == [
        *(f"warning: {line}" for line in many[:SHOWN]),
        "warning: ... and 7 more of this kind",
        "warning: line 0",
    ]


def test_errors_go_to_standard_error_and_decide_the_exit_code(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    signal = noise(N, seed=10)
    signal[:, 0] = 12.0
    put(folder, "train", "dead", signal)
    assert cli.prepare(folder, check=True) == console.OK
    said = capsys.readouterr()
    assert "warning: dead.edf" in said.out
    assert said.out.splitlines()[-1] == "all shards are sound; 1 warning"
    assert "dead.edf" not in said.err
    put(folder, "test", "copy", noise(N, seed=0))
    assert cli.prepare(folder, check=True) == console.NOT_ANALYSED
    said = capsys.readouterr()
    assert "error: a.edf" in said.err
    assert "a.edf" not in said.out
    assert said.out.splitlines()[-1] == "1 error, 1 warning"
