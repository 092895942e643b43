"""Shards: what goes in comes out, to half a step; and nothing else than what went in comes out."""

import dataclasses
import errno
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from siamese_jax.recordings.recording import Annotation
from siamese_jax.shards import write as shards_module
from siamese_jax.shards.labels import FindingRule, TextClasses
from siamese_jax.shards.marks import TaskMarks
from siamese_jax.shards.schema import SCHEMA_VERSION, Shard, ShardInfo, open_shard, open_shards, verify_shard
from siamese_jax.shards.write import COARSE_SHIFT, EEG_SCALE_UV, OTHER_SCALE_UV, UnreadableRecordingError, write_shard
from siamese_jax.vocabulary import IED, TaskSpec
from tests.recordings.in_memory import CH_NAMES, HOP, SFREQ, WINDOW, info_of, labelled, noise, recording_of

MARKS = (
    Annotation(0.0, 30.0, "Sleep stage W"),
    Annotation(30.0, 30.0, "Sleep stage N2"),
    Annotation(12.0, 0.1, "IED", "Fp1"),
    Annotation(40.5, 0.0, "spike"),
)


@pytest.fixture(scope="module")
def pieces() -> list[np.ndarray]:
    """65 s (more than a block), a gap, 7.4 s; a DC offset of 30 mV on one channel, as BioSemi files have."""
    signal = [noise(6500, seed=1), noise(740, seed=2)]
    for piece in signal:
        piece[:, 1] += 30_000
        piece[:, 2] = 0
    return signal


@pytest.fixture(scope="module")
def path(pieces: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    recording = recording_of(pieces, present=[True, True, False, True])
    path = tmp_path_factory.mktemp("shards") / "P1.h5"
    write_shard(path, [labelled(recording, MARKS)], info=info_of(recording))
    return path


@pytest.fixture
def copy(path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(path, tmp_path / "copy.h5"))


# --- what goes in comes out


def test_a_window_comes_back_within_half_a_step(path: Path, pieces: list[np.ndarray]) -> None:
    shard = verify_shard(path)
    scale = shard.recordings["scale"][0]
    np.testing.assert_allclose(scale, [EEG_SCALE_UV] * 3 + [OTHER_SCALE_UV])
    assert EEG_SCALE_UV <= 0.1
    assert len(shard) == (6500 - WINDOW) // HOP + 1 + (740 - WINDOW) // HOP + 1
    for i in range(len(shard)):
        got = shard.read_window(i)
        k = int(shard.segment[i])
        start = round((shard.onset_seconds[i] - shard.segments["onset_seconds"][k]) * SFREQ)
        error = np.abs(got - pieces[k][start : start + WINDOW])
        rounding = 30_000 * 2.0**-23  # of float32 at 30 mV
        assert np.all(error <= scale / 2 + [1e-4, 2 * rounding, 0, 1e-4])
        assert got.dtype == np.float32
        assert got.flags.c_contiguous


def test_margins_hold_the_segment_and_its_reflection_never_the_neighbour(path: Path, pieces: list[np.ndarray]) -> None:
    """Margins of 9 s on segments of 7.4 s: reflected again and again, and no sample of another segment."""
    shard = open_shard(path)
    margin = 900
    whole = [np.pad(piece, ((margin, margin), (0, 0)), mode="reflect") for piece in pieces]
    for i in range(len(shard)):
        k = int(shard.segment[i])
        start = round((shard.onset_seconds[i] - shard.segments["onset_seconds"][k]) * SFREQ)
        wanted = whole[k][start : start + WINDOW + 2 * margin]
        np.testing.assert_allclose(shard.read_window(i, margin), wanted, atol=OTHER_SCALE_UV / 2 + 1e-3)


def test_an_absent_channel_is_0_and_marked(path: Path) -> None:
    shard = open_shard(path)
    assert shard.present(0).tolist() == [True, True, False, True]
    assert not shard.read_window(3)[:, 2].any()


def test_labels_marks_and_attributes_come_back(path: Path) -> None:
    shard = open_shard(path)
    assert shard.patients == ("P1",)
    assert shard.info.ch_names == CH_NAMES
    assert (shard.info.sfreq, shard.info.window, shard.info.hop) == (SFREQ, WINDOW, HOP)
    assert [task.name for task in shard.info.tasks] == ["ied", "sleep", "state"]
    assert shard.info.tasks[0] == IED
    assert np.flatnonzero(shard.labels["ied"]).tolist() == [11, 39, 40]  # of 2 s: 12 to 14 s only touches
    assert np.flatnonzero(shard.weights["ied"] == 0).tolist() == [12]
    assert shard.labels["sleep"][[0, 20, 50]].tolist() == [0, 0, 2] and shard.weights["sleep"][[0, 50]].all()
    assert shard.recordings["digest"].tolist() == ["digest of night.edf"]
    assert shard.marks["ied"].onset_seconds.tolist() == [12.0, 40.5]
    assert shard.marks["ied"].channels.tolist() == ["Fp1", ""]
    assert shard.marks["sleep"].code.tolist() == [0, 2] and shard.marks["sleep"].kind.tolist() == ["state"] * 2
    assert shard.judged["ied"].duration_seconds.tolist() == [65.0, pytest.approx(7.4)]
    assert shard.judged["sleep"].duration_seconds.tolist() == [60.0]


def test_several_recordings_of_a_patient_do_not_mix(tmp_path: Path) -> None:
    coarse = noise(300, seed=6)
    coarse[290, 0] = 90_000.0
    first, second = recording_of([noise(450, seed=5)]), recording_of([noise(300, seed=6), coarse])
    write_shard(
        tmp_path / "x.h5",
        [
            labelled(first, [Annotation(1.0, 0, "IED")], name="a"),
            labelled(second, [Annotation(20.0, 0, "IED")], name="b", patient="Ärztin", bad=[(15.5, 1.0)]),
        ],
        info=info_of(first),
    )
    shard = verify_shard(tmp_path / "x.h5")
    assert shard.recordings["name"].tolist() == ["a", "b"]
    assert shard.recordings["patient"].tolist() == ["P1", "Ärztin"]
    assert shard.bad_intervals["recording"].tolist() == [1] and shard.marks["ied"].recording.tolist() == [0, 1]
    assert shard.recordings["coarse"].tolist() == [[0, 0, 0, 0], [100, 0, 0, 0]]  # the stretch of 2 s about the jump
    assert shard.weights["ied"].tolist() == [1, 0, 1, 1, 1, 1, 0]  # the IED touches a window, the bad second another
    assert shard.recording.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert shard.segment.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert shard.onset_seconds.tolist() == [0, 1, 2, 0, 1, 13, 14]
    assert shard.labels["ied"].tolist() == [1, 0, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(shard.read_window(5), noise(300, seed=6)[:200], atol=0.26)


def test_the_signal_is_stored_once_contiguous_and_as_int16(path: Path) -> None:
    with h5py.File(path) as file:
        signal = file["signal"]
        assert signal.dtype == np.int16
        assert signal.shape == (7240, len(CH_NAMES))
        assert signal.chunks is None
        assert signal.compression is None
        assert signal.id.get_offset() is not None


def test_the_same_recordings_give_the_same_bytes(path: Path, pieces: list[np.ndarray], tmp_path: Path) -> None:
    recording = recording_of(pieces, present=[True, True, False, True])
    write_shard(tmp_path / "again.h5", [labelled(recording, MARKS)], info=info_of(recording))
    assert (tmp_path / "again.h5").read_bytes() == path.read_bytes()


def slow(kind: str, n_times: int) -> np.ndarray:
    """What a DC-coupled electrode may do, in microvolts: 10 mV in a minute, or at once."""
    seconds = np.arange(n_times) / SFREQ
    return {"drift": 10_000 * seconds / 60, "step": 10_000.0 * (seconds > 33.37)}[kind] + 20_000


@pytest.mark.parametrize("kind", ["drift", "step"])
def test_eeg_on_a_drifting_or_jumping_electrode_survives_in_every_window(tmp_path: Path, kind: str) -> None:
    """The step lies within a window; of the 2 s about it EEG is stored in steps of 0.2 uV, elsewhere of 0.1 uV."""
    eeg = noise(7000, seed=4)
    signal = (eeg + slow(kind, 7000)[:, None] * [1, 0, -1, 1]).astype(np.float32)
    recording = recording_of([signal])
    write_shard(tmp_path / "x.h5", [labelled(recording)], info=info_of(recording))
    shard = verify_shard(tmp_path / "x.h5")
    scale = shard.recordings["scale"][0]
    assert shard.weights["ied"].all() and not shard.recordings["coarse"].any()
    for i in range(len(shard)):
        start = i * HOP
        error = np.abs(shard.read_window(i) - signal[start : start + WINDOW])
        is_coarse = kind == "step" and start <= 3400 and start + WINDOW > 3200
        # Half a step, twice as long and rounded again where coarse; the rest is float32's rounding at 30 mV.
        assert np.all(error <= scale * (1.5 if is_coarse else 0.5) + 0.006)
    wide = shard.read_window(33, margin=600)  # across levels, one contiguous slice
    np.testing.assert_allclose(wide, signal[2700:4100], atol=OTHER_SCALE_UV / 2 + 0.6)
    assert len(shard.levels.start) < 36


def test_reading_whole_steps_is_exact_whatever_the_level(tmp_path: Path) -> None:
    signal = (np.rint(noise(1000, seed=4) / 0.5) * 0.5 + slow("drift", 1000)[:, None].round()).astype(np.float32)
    recording = recording_of([signal])
    write_shard(tmp_path / "x.h5", [labelled(recording)], info=info_of(recording))
    shard = open_shard(tmp_path / "x.h5")
    assert shard.levels.offset.any() and not shard.levels.shift.any()
    steps = shard.read_integers(130, 730)
    assert steps.dtype == np.int32
    np.testing.assert_array_equal(steps, np.rint(signal[130:730] / shard.recordings["scale"][0]))


def test_nothing_is_clipped_and_what_is_coarsely_stored_is_counted(tmp_path: Path) -> None:
    signal = noise(800)
    signal[10:15, 0], signal[20, 0] = 500_000.0, -262_000.0
    signal[500:, 3] = np.tile([20_000.0, -20_000.0], 150)
    recording = recording_of([signal])
    write_shard(tmp_path / "x.h5", [labelled(recording)], info=info_of(recording))
    shard = open_shard(tmp_path / "x.h5")
    assert shard.levels.start.tolist() == [0, 400, 600] and shard.levels.stop.tolist() == [200, 600, 800]
    assert shard.levels.shift[:, 0].tolist() == [7, 0, 0] and shard.levels.shift[0, 0] >= COARSE_SHIFT
    assert shard.recordings["coarse"].tolist() == [[200, 0, 0, 0]]
    step = EEG_SCALE_UV * 2**7
    np.testing.assert_allclose(shard.read_window(0)[:, 0], signal[:200, 0], atol=step / 2 + 0.1)
    np.testing.assert_allclose(shard.read_window(0)[:, 1:], signal[:200, 1:], atol=OTHER_SCALE_UV / 2 + 1e-3)
    np.testing.assert_allclose(shard.read_window(2), signal[200:400], atol=OTHER_SCALE_UV / 2 + 1e-3)


def test_a_long_recording_is_never_whole_in_memory(tmp_path: Path) -> None:
    asked: list[int] = []
    recording = recording_of([np.zeros((0, 4))])

    def source(segment: int, start: int, stop: int) -> np.ndarray:
        asked.append(stop - start)
        return noise(stop - start, seed=start)

    n_times = 100 * 60 * 20
    recording = dataclasses.replace(
        recording, segments=(recording.segments[0]._replace(n_times=n_times),), source=source
    )
    write_shard(tmp_path / "x.h5", [labelled(recording)], info=info_of(recording))
    assert max(asked) <= 60 * SFREQ
    assert sum(asked) == n_times  # once


# --- what is no signal


def test_windows_without_a_signal_have_no_label(tmp_path: Path) -> None:
    signal = noise(2000)
    signal[500:700, :3] = 7.0  # all EEG channels stand still from 5 to 7 s; the ECG goes on
    signal[1500:1600, 0] = 0  # one channel alone
    recording = recording_of([signal])
    write_shard(tmp_path / "x.h5", [labelled(recording, MARKS[:1], bad=[(12.5, 0.2)])], info=info_of(recording))
    shard = open_shard(tmp_path / "x.h5")
    assert shard.bad_intervals["onset_seconds"].tolist() == [5.0, 12.5]
    np.testing.assert_allclose(shard.bad_intervals["duration_seconds"], [2.0, 0.2])
    touched = [4, 5, 6, 11, 12]
    for weights in shard.weights.values():
        assert np.flatnonzero(weights == 0).tolist() == touched
    assert not shard.labels["sleep"][touched].any()


def test_a_window_without_a_signal_has_no_label_of_any_class(tmp_path: Path) -> None:
    """Of a multilabel task, a weight counts for all classes of its window."""
    recording = recording_of([noise(600)])
    item = labelled(recording, bad=[(2.5, 0.2)])
    texts = TextClasses((("af", "af"), ("lbbb", "lbbb"), ("mi", "mi")))
    rule = FindingRule(TaskSpec("diagnosis", "multilabel", ("af", "lbbb", "mi")), texts)
    held = rule.task_marks([Annotation(0.0, 6.0, "af"), Annotation(0.0, 6.0, "mi")], [(0.0, 6.0)])
    info = dataclasses.replace(info_of(recording), tasks=(*info_of(recording).tasks, rule.task))
    write_shard(tmp_path / "x.h5", [item._replace(marks=item.marks | {"diagnosis": held})], info=info)
    shard = verify_shard(tmp_path / "x.h5")
    assert shard.weights["diagnosis"].tolist() == [1, 0, 0, 1, 1]
    assert shard.labels["diagnosis"].tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0], [1, 0, 1], [1, 0, 1]]


def test_samples_that_are_not_finite_are_bad_and_stored_as_0(tmp_path: Path) -> None:
    signal = noise(600)
    signal[250, 1], signal[251, 1] = np.nan, np.inf
    recording = recording_of([signal])
    write_shard(tmp_path / "x.h5", [labelled(recording)], info=info_of(recording))
    shard = open_shard(tmp_path / "x.h5")
    assert shard.weights["ied"].tolist() == [1, 0, 0, 1, 1]
    assert np.abs(shard.read_window(1)[150:152, 1]).max() <= EEG_SCALE_UV


# --- whole or not at all


class _Boom(Exception):
    pass


@pytest.mark.parametrize("step", ["_write_signal", "_write_marks", "_write_index", "checksum", "_flush"])
def test_a_write_that_fails_leaves_nothing(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def boom(*_: object, **__: object) -> None:
        raise _Boom

    monkeypatch.setattr(shards_module, step, boom)
    recording = recording_of([noise(600)])
    with pytest.raises(_Boom):
        write_shard(tmp_path / "x.h5", [labelled(recording)], info=info_of(recording))
    assert list(tmp_path.iterdir()) == []


def test_two_that_write_the_same_shard_do_not_meet(tmp_path: Path) -> None:
    """A worker that was given up may go on; on another machine it may even have the same process id."""
    inner = labelled(recording_of([noise(600)]))

    def source(segment: int, start: int, stop: int) -> np.ndarray:
        if not (tmp_path / "x.h5").exists():
            write_shard(tmp_path / "x.h5", [inner], info=info_of(inner.recording))
        return noise(stop - start)

    recording = dataclasses.replace(recording_of([noise(600)]), source=source)
    write_shard(tmp_path / "x.h5", [labelled(recording)], info=info_of(recording))
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]
    verify_shard(tmp_path / "x.h5")


def test_a_write_that_fails_keeps_the_shard_that_was_there(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def boom(_: object) -> None:
        raise _Boom

    before = copy.read_bytes()
    monkeypatch.setattr(shards_module, "checksum", boom)
    recording = recording_of([noise(600)])
    with pytest.raises(_Boom):
        write_shard(copy, [labelled(recording)], info=info_of(recording))
    assert copy.read_bytes() == before


def test_while_a_shard_is_written_no_shard_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And before it gets its name it is on the disk, whole."""
    seen: list[list[str]] = []
    done: list[str] = []
    for name in ("_flush", "publish"):
        step = getattr(shards_module, name)
        monkeypatch.setattr(shards_module, name, lambda *paths, name=name, step=step: (done.append(name), step(*paths)))

    def source(segment: int, start: int, stop: int) -> np.ndarray:
        seen.append([path.suffix for path in tmp_path.iterdir()])
        return noise(stop - start)

    recording = dataclasses.replace(recording_of([noise(600)]), source=source)
    write_shard(tmp_path / "x.h5", [labelled(recording)], info=info_of(recording))
    assert seen == [[".partial"]] * len(seen)
    assert seen[0] and done == ["_flush", "publish"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]


def test_a_signal_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    def source(segment: int, start: int, stop: int) -> np.ndarray:
        raise OSError("bad sector")

    recording = dataclasses.replace(recording_of([noise(600)]), source=source)
    with pytest.raises(UnreadableRecordingError, match=r"night\.edf: .*bad sector") as error:
        write_shard(tmp_path / "x.h5", [labelled(recording)], info=info_of(recording))
    assert error.value.name == "night.edf"
    assert list(tmp_path.iterdir()) == []


def test_recordings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    recording = recording_of([noise(600)])
    info = info_of(recording)
    with pytest.raises(ValueError, match="no recording holds a whole window"):
        write_shard(tmp_path / "x.h5", [labelled(recording_of([noise(199)]))], info=info)
    with pytest.raises(ValueError, match=r"night\.edf: read as .* at 100\.0 Hz"):
        write_shard(tmp_path / "x.h5", [labelled(recording)], info=dataclasses.replace(info, sfreq=200.0))
    others = dataclasses.replace(info, ch_names=("Fp2", *info.ch_names[1:]))
    with pytest.raises(ValueError, match=r"night\.edf: read as .*Fp1"):
        write_shard(tmp_path / "x.h5", [labelled(recording)], info=others)
    with pytest.raises(ValueError, match=r"night\.edf: no marks are given for ied, state; it has \['sleep'\]"):
        write_shard(tmp_path / "x.h5", [labelled(recording)._replace(marks={"sleep": TaskMarks()})], info=info)


# --- refused: cut, edited, of another schema


def refused(path: Path, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        verify_shard(path)
    assert str(path) in str(error.value)


def test_one_flipped_bit_anywhere_in_the_signal_is_found(copy: Path) -> None:
    with h5py.File(copy) as file:
        offset, size = file["signal"].id.get_offset(), file["signal"].id.get_storage_size()
    whole = copy.read_bytes()
    for place in (0, 1, size // 2, size - 1):
        flipped = bytearray(whole)
        flipped[offset + place] ^= 1
        copy.write_bytes(flipped)
        refused(copy, "do not match its checksum")
    copy.write_bytes(whole)
    verify_shard(copy)


def test_one_flipped_byte_anywhere_in_the_file_changes_nothing_unnoticed(copy: Path) -> None:
    whole = copy.read_bytes()
    wanted = _everything(verify_shard(copy))
    places = np.random.default_rng(0).integers(0, len(whole), 60).tolist() + list(range(0, 700, 25))
    n_refused = 0
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 0xFF
        copy.write_bytes(flipped)
        try:
            shard = verify_shard(copy)
        except ValueError as error:
            assert str(copy) in str(error)
            n_refused += 1
        else:
            assert _everything(shard) == wanted  # a byte that no reader looks at
    assert n_refused > len(places) / 2


def _everything(shard: Shard) -> bytes:
    signal = b"".join(shard.read_window(i).tobytes() for i in range(len(shard)))
    tables = (
        shard.labels,
        shard.weights,
        shard.segments,
        shard.recordings,
        shard.bad_intervals,
        *(table._asdict() for tables in (shard.marks, shard.judged) for table in tables.values()),
        shard.levels._asdict(),
    )
    shard.close()
    return signal + pickle.dumps([shard.info, *[{k: v.tolist() for k, v in table.items()} for table in tables]])


@pytest.mark.parametrize("keep", [0, 7, 100, 0.3, 0.9, -1])
def test_a_shard_that_was_cut_short_is_refused(copy: Path, keep: float) -> None:
    size = copy.stat().st_size
    os.truncate(copy, size + int(keep) if keep < 0 else int(keep * size) if 0 < keep < 1 else int(keep))
    refused(copy, "not a sound shard")
    with pytest.raises(ValueError, match="not a sound shard"):
        open_shard(copy)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda f: f.attrs.__setitem__("patient", "P2"), "checksum"),
        (lambda f: f.attrs.__setitem__("sfreq", 99.0), "checksum"),
        (lambda f: f.attrs.__setitem__("note", "new"), "checksum"),
        (lambda f: f["labels/ied"].__setitem__(3, 1.0), "checksum"),
        (lambda f: f["marks/ied/channels"].__setitem__(0, "Fp2"), "checksum"),
        (lambda f: f["judged/ied/duration_seconds"].__setitem__(0, 60.0), "checksum"),
        (lambda f: f["levels/offset"].__setitem__((0, 1), 0), "checksum"),
        (lambda f: f.__setitem__("extra", np.zeros(1)), "checksum"),
        (lambda f: f.__delitem__("marks/ied/kind"), "checksum"),
        (lambda f: f.__delitem__("labels/ied"), "sound"),
        (lambda f: f.attrs.__delitem__("checksum"), "never finished"),
        (lambda f: f.attrs.__delitem__("schema_version"), "no schema version"),
        (lambda f: f.attrs.__setitem__("schema_version", SCHEMA_VERSION + 1), f"reads {SCHEMA_VERSION}"),
        (lambda f: f.attrs.__setitem__("schema_version", 2), "its schema is 2, .* reads 3: prepare it again"),
    ],
)
def test_an_edited_shard_is_refused_by_name_and_reason(copy: Path, edit, reason: str) -> None:
    with h5py.File(copy, "r+") as file:
        edit(file)
    refused(copy, reason)


def test_another_schema_or_an_unfinished_shard_is_not_opened_either(copy: Path) -> None:
    with h5py.File(copy, "r+") as file:
        file.attrs["schema_version"] = 99
    with pytest.raises(ValueError, match="its schema is 99"):
        open_shard(copy)


def test_files_that_are_no_shards_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("onset,duration,label\n")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros(4)
    refused(tmp_path / "text.h5", "not a sound shard")
    refused(tmp_path / "other.h5", "it is no shard")
    refused(tmp_path / "absent.h5", "no such file")
    with pytest.raises(ValueError, match="no shards"):
        open_shards(tmp_path / "absent")


# --- file systems without locks


@pytest.fixture
def without_locks(tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose flock fails as on NFS without its lock service."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and Linux: HDF5 calls flock from C")
    text = "#include <errno.h>\nint flock(int fd, int op) { errno = ENOLCK; return -1; }\n"
    (tmp_path / "nolock.c").write_text(text)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "nolock.so", tmp_path / "nolock.c"], check=True)
    return os.environ | {"LD_PRELOAD": str(tmp_path / "nolock.so")}


def test_shards_are_written_and_read_where_there_are_no_locks(path: Path, without_locks: dict[str, str]) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom siamese_jax.shards.schema import verify_shard\n"
        "from siamese_jax.shards.write import write_shard\n"
        "from tests.recordings.in_memory import info_of, labelled, noise, recording_of\n"
        "shard = verify_shard(sys.argv[1])\nprint(shard.read_window(0).shape)\n"
        "recording = recording_of([noise(600)])\n"
        "write_shard(sys.argv[2], [labelled(recording)], info=info_of(recording))\nverify_shard(sys.argv[2])"
    )
    made = Path(without_locks["LD_PRELOAD"]).with_name("made.h5")
    command = [sys.executable, "-c", program, path, made]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=without_locks, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "") and verify_shard(made)


def test_what_the_system_does_not_let_us_read_is_not_called_damaged(copy: Path, monkeypatch) -> None:
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "[Errno 13] Unable to synchronously open file")

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(PermissionError) as caught:
        verify_shard(copy)
    assert (caught.value.filename, caught.value.strerror) == (str(copy), "Permission denied")


# --- threads and processes


def test_windows_may_be_read_from_many_threads(path: Path) -> None:
    shard = open_shard(path)
    wanted = [shard.read_window(i, 50) for i in range(len(shard))]
    shard.close()
    wrong: list[int] = []

    def read() -> None:
        for i in range(len(shard)):
            if not np.array_equal(shard.read_window(i, 50), wanted[i]):
                wrong.append(i)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shard.close()
    assert not wrong


def test_a_pickled_shard_opens_its_file_anew(path: Path) -> None:
    shard = open_shard(path)
    wanted = shard.read_window(2)
    other = pickle.loads(pickle.dumps(shard))
    shard.close()
    np.testing.assert_array_equal(other.read_window(2), wanted)
    other.close()


def test_info_is_hashable_and_equal_by_value() -> None:
    info = ShardInfo(100.0, ("Cz",), 200, 100, (IED,))
    assert info == dataclasses.replace(info)
    assert hash(info) == hash(dataclasses.replace(info))
