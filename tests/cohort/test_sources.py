"""Marks beside recordings: companions that start at another time, machines' marks, and how often folders are read."""

import datetime
import os
from pathlib import Path

import pytest

from siamese_jax.cohort.bids import Bids
from siamese_jax.cohort.sources import Folder, with_origin
from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.edf_write import write_annotations, write_recording
from siamese_jax.recordings.recording import Annotation
from tests.cohort import bids_tree
from tests.recordings.in_memory import noise

CH_NAMES = ("Fp1", "Cz", "O2")
DATA = DataConfig(ch_names=CH_NAMES, sfreq=100.0, window_seconds=2.0)
NIGHT = datetime.datetime(2020, 3, 2, 22, 0, 0)


def edf(path: Path, *annotations: Annotation, start: datetime.datetime | None = NIGHT, seconds: int = 120) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    signal = noise(seconds * 100, seed=sum(path.name.encode()), n_chans=3)
    write_recording(path, signal, sfreq=100.0, ch_names=CH_NAMES, annotations=annotations, start=start)
    return path


def opened(folder: Path, name: str = "night.edf"):
    return Folder(folder).open(name, DATA)


def times(marks) -> list[tuple[float, float, str]]:
    return [tuple(mark)[:3] for mark in marks]


def seconds(n: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=n)


@pytest.mark.parametrize(("late", "way"), [(-60, "60 s before"), (-3600, "3600 s before"), (20, "20 s after")])
def test_marks_of_a_companion_with_another_start_are_moved(tmp_path: Path, late: float, way: str) -> None:
    edf(tmp_path / "night.edf")
    marks = [Annotation(t - late, 30, text) for t, text in ((0, "Sleep stage W"), (30, "Sleep stage N2"))]
    marks = [mark for mark in marks if mark.onset_seconds >= 0]
    write_annotations(tmp_path / "night_annotations.edf", marks, start=NIGHT + seconds(late))
    found = opened(tmp_path)
    expected = [(0, 30, "Sleep stage W"), (30, 30, "Sleep stage N2")]
    assert times(found.annotations) == expected[-len(marks) :]
    assert f"its _annotations file starts {way} the recording: its marks are moved" in found.notes


def test_of_a_longer_companion_what_lies_in_the_recording_is_kept(tmp_path: Path) -> None:
    """A stage without duration before the recording holds into it; one of before, and what comes after it, do not."""
    edf(tmp_path / "night.edf")
    marks = [(10, "Sleep stage W"), (40, "Sleep stage N1"), (90, "Sleep stage N2"), (400, "Sleep stage R")]
    write_annotations(
        tmp_path / "night_hypnogram.edf", [Annotation(t, 0, text) for t, text in marks], start=NIGHT - seconds(60)
    )
    found = opened(tmp_path)
    assert times(found.annotations) == [(-20, 0, "Sleep stage N1"), (30, 0, "Sleep stage N2")]
    assert (
        "its _hypnogram file starts 60 s before the recording: its marks are moved, 2 outside left out" in found.notes
    )


def test_a_companion_of_another_night_is_refused(tmp_path: Path) -> None:
    edf(tmp_path / "night.edf")
    marks = [Annotation(30, 30, "Sleep stage W")]
    write_annotations(tmp_path / "night_annotations.edf", marks, start=NIGHT + seconds(86400))
    with pytest.raises(ValueError, match=r"night_annotations.edf starts 86400 s after .* none of its marks lies in it"):
        opened(tmp_path)


@pytest.mark.parametrize("start", [None, NIGHT])
def test_a_companion_that_tells_no_date_is_taken_to_start_with_the_recording(tmp_path: Path, start) -> None:
    edf(tmp_path / "night.edf", start=start)
    write_annotations(tmp_path / "night_annotations.edf", [Annotation(30, 30, "Sleep stage W")])
    found = opened(tmp_path)
    assert times(found.annotations) == [(30, 30, "Sleep stage W")]
    told = "its _annotations file or the recording hides its date: taken to start together"
    assert (told in found.notes) == (start is not None)  # both hidden: the time of day is the same


def test_what_detect_wrote_before_it_named_the_origin_is_a_machine_s() -> None:
    marks = [Annotation(1, 0.1, "IED p=0.93"), Annotation(0, 30, "Sleep stage N2"), Annotation(30, 0, "Sleep stage W")]
    marks += [Annotation(5, 0.1, "spike"), Annotation(6, 0.1, "IED p=0.70", None, "reviewed")]
    assert [mark.origin for mark in with_origin(marks)] == ["machine", "machine", "human", "human", "reviewed"]
    assert with_origin(marks[1:]) == marks[1:]  # without its events nothing shows that the stages are its own


def test_tables_of_no_recording_are_told(tmp_path: Path) -> None:
    edf(tmp_path / "night.edf")
    for name in ("night.csv", "Night_marks.csv", "subjects.tsv", "manifest.csv", "night_events.csv", "night_run.json"):
        (tmp_path / name).write_text("onset,label\n")
    assert (
        "2 tables not read, by their names of no recording: Night_marks.csv, subjects.tsv" in Folder(tmp_path).notes()
    )


def listings(monkeypatch: pytest.MonkeyPatch, source: Folder) -> int:
    """How often folders are read while every recording is opened once and its files are named three times."""
    count, scandir, listdir = 0, os.scandir, os.listdir

    def counting(function):
        def call(*arguments):
            nonlocal count
            count += 1
            return function(*arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", counting(scandir))
        patch.setattr(os, "listdir", counting(listdir))
        for name in source.names():
            source.open(name, DATA)
            for _ in range(3):
                source.files(name)
    return count


def test_a_folder_is_read_as_often_for_many_recordings_as_for_few(tmp_path: Path, monkeypatch) -> None:
    counts = []
    for n in (2, 9):
        for k in range(n):
            edf(tmp_path / str(n) / f"{k}.edf", seconds=4)
            (tmp_path / str(n) / f"{k}.csv").write_text("onset,label\n1,IED\n")
        counts.append(listings(monkeypatch, Folder(tmp_path / str(n))))
    assert counts[0] == counts[1] <= 2


def test_the_root_of_a_bids_data_set_is_read_as_often_for_many_subjects_as_for_few(tmp_path: Path, monkeypatch) -> None:
    per_subject, iterdir = [], Path.iterdir
    for n in (2, 9):
        root = bids_tree.data_set(tmp_path / str(n))
        for k in range(n):
            bids_tree.edf(root, f"sub-{k:02d}/eeg/sub-{k:02d}_eeg.edf")
        read: list[str] = []
        monkeypatch.setattr(Path, "iterdir", lambda path, read=read: (read.append(str(path)), iterdir(path))[1])
        source = Bids(root)
        for name in source.names():
            source.open(name, DATA)
            source.files(name)
        monkeypatch.undo()
        per_subject.append(read.count(str(root)))
    assert per_subject == [1, 1]
