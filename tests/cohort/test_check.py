"""Cohorts that are broken on purpose: each trouble is found and named, and a sound cohort has none."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from siamese_jax.cli import console
from siamese_jax.cli import recordings as cli
from siamese_jax.cohort.check import SHOWN, Check, Finding, check
from siamese_jax.recordings.recording import Annotation
from siamese_jax.recordings.sidecars import SPLITS
from siamese_jax.shards.schema import checksum, open_shard
from siamese_jax.shards.summary import summarise
from siamese_jax.shards.write import write_shard
from tests.recordings.in_memory import SFREQ, info_of, labelled, noise, recording_of
from tests.simulated_cohort import tiny_shards

NIGHT = tuple(Annotation(4.0 * i, 4.0, f"Sleep stage {stage}") for i, stage in enumerate(["W", "N1", "N2", "N3", "R"]))
IEDS = (Annotation(3.0, 0.1, "IED"), Annotation(13.0, 0.1, "IED"))
N = int(20 * SFREQ)


def put(folder: Path, split: str, name: str, signal: np.ndarray, *, patient: str | None = None, **options) -> Path:
    """A shard of one recording of 20 s or more with every class, by default of a patient of its own."""
    path = folder / split / f"{name}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    recording = recording_of([signal], present=options.pop("present", None))
    item = labelled(recording, (*NIGHT, *IEDS), name=f"{name}.edf", patient=patient or f"P-{name}", **options)
    write_shard(path, [item], info=info_of(recording))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two patients in each split."""
    for i in range(6):
        put(tmp_path, SPLITS[i // 2], "abcdef"[i], noise(N, seed=i))
    return tmp_path


def finding(checked: Check, name: str) -> Finding:
    return next(found for found in checked.findings if found.name == name)


def test_a_sound_cohort_passes_in_a_dozen_lines(folder: Path) -> None:
    told: list[tuple[str, int, int]] = []
    checked = check(folder, lambda *news: told.append(news))
    assert (checked.errors, checked.warnings, checked.complaints()) == ((), (), [])
    assert checked.summary == summarise(folder)
    lines = checked.text().splitlines()
    assert len(lines) <= 12
    assert lines[-1] == "all shards are sound"
    assert [line.split()[-1] for line in lines[5:-1]] == ["sound"] * len(checked.findings)
    assert max(len(line) for line in lines[4:]) <= 100
    looked = {found.name: found.looked_at for found in checked.findings}
    assert looked["patients"] == "6 patients in 3 splits"
    assert looked["duplicate windows"] == "114 windows"
    assert looked["constant channels"].startswith("24 channels of 6 recordings")
    assert ("comparing signals", 6 * N, 6 * N) in told


def test_simulated_patients_are_told_apart(tmp_path: Path) -> None:
    """The simulator's patients share frequencies, amplitudes and waveforms, but no signal."""
    checked = check(tiny_shards(tmp_path, patients=4, minutes=1.0))
    assert checked.errors == ()
    for name in ("same signal", "duplicate windows", "constant channels"):
        assert finding(checked, name).result == "sound"


# --- one signal under two names


@pytest.mark.parametrize(
    ("split", "patient", "result"),
    [("test", None, "1 error"), ("train", None, "1 error"), ("validation", "P-c", "1 warning")],
)
def test_a_night_under_two_names(folder: Path, split: str, patient: str | None, result: str) -> None:
    source = "c" if patient else "a"
    original = noise(N, seed="abcdef".index(source))
    recordings = [original] if patient else []
    copy = original[300:, [2, 0, 3, 1]] + 20
    if patient:  # both nights of one patient, in one shard
        (folder / "validation" / "c.h5").unlink()
        items = [
            labelled(recording_of([signal]), (*NIGHT, *IEDS), name=f"{name}.edf", patient=patient)
            for name, signal in [("c", recordings[0]), ("copy", copy)]
        ]
        write_shard(folder / "validation" / "c.h5", items, info=info_of(items[0].recording))
    else:
        put(folder, split, "copy", copy)
    checked = check(folder)
    found = finding(checked, "same signal")
    assert found.result == result
    (line,) = found.errors + found.warnings
    for name in (f"{source}.edf", "copy.edf", split, "hold the same signal", "s of it"):
        assert name in line
    assert checked.errors == found.errors


def test_recordings_of_minutes_are_read_in_pieces_that_hide_nothing(folder: Path) -> None:
    """130 s: words and windows that begin in one minute and end in the next, and the seconds of all three."""
    signal = noise(13_000, seed=20)
    signal[6000:, 3] = 1.0
    path = put(folder, "train", "long", signal)
    block = open_shard(path).read_integers(5900, 6100)  # the window at 59 s
    as_written(path, lambda file: file["signal"].__setitem__(slice(11_900, 12_100), block))
    twice, still = check(folder).warnings
    assert twice == "long.edf (patient P-long, train) holds 1 window twice, first at 59 s and 119 s"
    assert still.endswith("ECG1 53 %")  # 69 of 130: in one of the last 70 there is the window again
    pieces = [signal[start : start + 3000] for start in (4500, 10_500)]  # 30 s about the end of a minute
    for name, piece in zip(("g", "h"), pieces, strict=True):
        put(folder, "test", name, piece)
    found = finding(check(folder), "same signal")
    assert [line.split(" (")[0] for line in found.errors] == ["long.edf", "long.edf"]
    for line in found.errors:
        assert 24 <= float(line.split("about ")[1].split(" s")[0]) <= 31


def test_leaks_stand_before_other_duplicates(folder: Path) -> None:
    put(folder, "train", "again", noise(N, seed=0)[200:])
    put(folder, "test", "leak", noise(N, seed=5)[200:])
    put(folder, "train", "leaked", noise(N, seed=4)[200:])
    first, second, third = finding(check(folder), "same signal").errors
    assert "leaked.edf (patient P-leaked, train) and e.edf (patient P-e, test)" in first
    assert "again.edf" in second
    assert "leak.edf" in third


def test_windows_of_recordings_already_named_are_only_counted(folder: Path) -> None:
    put(folder, "test", "copy", noise(N, seed=1))
    found = finding(check(folder), "duplicate windows")
    assert found.result == "sound"
    assert found.looked_at == "133 windows, 19 of them again in recordings named above"


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


@pytest.mark.parametrize(("split", "kind"), [("test", "errors"), ("train", "warnings")])
def test_windows_of_the_same_samples_in_two_recordings(folder: Path, split: str, kind: str) -> None:
    target = folder / split / {"test": "e.h5", "train": "b.h5"}[split]
    block = open_shard(folder / "train" / "a.h5").read_integers(500, 1000)
    as_written(target, lambda file: file["signal"].__setitem__(slice(1200, 1700), block))
    checked = check(folder)
    (line,) = getattr(finding(checked, "duplicate windows"), kind)
    assert f"a.edf (patient P-a, train) and {target.stem}.edf" in line
    assert "share 4 identical windows, first at 5 s and 12 s" in line
    assert len(checked.errors) + len(checked.warnings) == 1


def test_windows_twice_in_one_recording(folder: Path) -> None:
    path = folder / "test" / "f.h5"
    block = open_shard(path).read_integers(0, 200)
    as_written(path, lambda file: file["signal"].__setitem__(slice(1000, 1200), block))
    (line,) = check(folder).warnings
    assert line == "f.edf (patient P-f, test) holds 1 window twice, first at 0 s and 10 s"


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
    signal[700:, 1] = -3.0  # 13 of 20 s
    signal[1100:, 2] = 5.0  # 9 of 20 s
    signal[:, 3] = 0.0
    put(folder, "train", "dead", signal, present=[True, True, True, False])
    off = noise(N, seed=11)
    off[800:] = 1.0
    put(folder, "test", "off", off)
    found = finding(check(folder), "constant channels")
    assert found.warnings == (
        "dead.edf (patient P-dead, train) stands still for much of its time: Fp1 100 %, Cz 65 %",
        "off.edf (patient P-off, test) stands still for much of its time: all 4 channels 60 %",
    )


def test_label_imbalance_is_a_warning(folder: Path) -> None:
    for path in (folder / "test").glob("*.h5"):
        as_written(path, lambda file: file["labels/ied"].__setitem__(slice(None), 0))
    checked = check(folder)
    assert checked.errors == ()
    assert checked.warnings == (
        "ied: test has no window of ied (train has 4)",
    )  # of two windows that an IED touches, one


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
    assert finding(check(folder), "patients").looked_at == "5 patients in 3 splits"


# --- what is printed


def test_of_many_the_first_few_are_printed_and_the_others_counted() -> None:
    empty = check(Path("/nowhere"))
    many = tuple(f"line {i}" for i in range(SHOWN + 7))
    checked = Check(empty.summary, (Finding("a", "b", many, many), Finding("c", "d", (), many[:1])))
    assert checked.complaints() == [*many[:SHOWN], "... and 7 more of this kind"]
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
    put(folder, "test", "copy", noise(N, seed=0)[100:])
    assert cli.prepare(folder, check=True) == console.NOT_ANALYSED
    said = capsys.readouterr()
    assert "error: a.edf" in said.err
    assert "a.edf" not in said.out
    assert said.out.splitlines()[-1] == "1 error, 1 warning"
