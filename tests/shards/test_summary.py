"""What a folder of shards is said to hold is what was put in."""

import math
from pathlib import Path

import numpy as np
import pytest

from siamese_jax.recordings.recording import Annotation
from siamese_jax.shards.marks import Mark, TaskMarks
from siamese_jax.shards.schema import ShardInfo
from siamese_jax.shards.summary import SHOWN_CLASSES, coarse_channels, shards_of_split, summarise
from siamese_jax.shards.write import LabelledRecording, write_shard
from siamese_jax.vocabulary import TaskSpec
from tests.recordings.in_memory import CH_NAMES, HOP, SFREQ, WINDOW, info_of, labelled, noise, recording_of

MANY = TaskSpec("findings", "multilabel", tuple("abcdefgh"))
NIGHT = (Annotation(0.0, 6.0, "Sleep stage W"), Annotation(6.0, 14.0, "Sleep stage N2"), Annotation(3.0, 0.1, "IED"))


def several(folder: Path) -> Path:
    """One shard of two patients with three recordings, the first with a gap; another of one; no test."""
    items = [
        labelled(recording_of([noise(1000), noise(1000)]), NIGHT, name="a", patient="P1"),
        labelled(recording_of([noise(2000, seed=1)]), NIGHT, name="b", patient="P2"),
        labelled(recording_of([noise(2000, seed=2)]), name="c", patient="P1", labelled_for=()),
    ]
    for split, made in (
        ("train", items),
        ("validation", [labelled(recording_of([noise(500)]), name="d", patient="P3")]),
    ):
        (folder / split).mkdir()
        write_shard(folder / split / "some.h5", made, info=info_of(items[0].recording))
    return folder


def test_splits_count_shards_patients_recordings_hours_and_windows(tmp_path: Path) -> None:
    train, validation, test = summarise(several(tmp_path)).splits
    assert (train.name, train.shards, train.patients, train.recordings) == ("train", 1, ("P1", "P2"), 3)
    assert train.hours == pytest.approx(60 / 3600)
    assert train.windows == 2 * 9 + 2 * 19
    assert train.megabytes == pytest.approx((tmp_path / "train" / "some.h5").stat().st_size / 1e6)
    assert (validation.patients, validation.windows) == (("P3",), 4)
    assert (test.shards, test.patients, test.tasks) == (0, (), ())


def test_only_labelled_windows_are_counted(tmp_path: Path) -> None:
    train = summarise(several(tmp_path)).splits[0]
    ied, sleep, _ = train.tasks
    assert (ied.task.name, ied.positives) == ("ied", 2)
    assert ied.labelled == 18 + 19 - 2  # of each recording, a window that the discharge only touches
    assert ied.prevalence == pytest.approx(2 / 35)
    assert sum(sleep.counts) == sleep.labelled < train.windows
    assert [sleep.task.classes[i] for i in np.flatnonzero(sleep.counts)] == ["W", "N2"]
    nobody_looked = summarise(tmp_path).splits[1].tasks[1]
    assert nobody_looked.labelled == 0
    assert math.isnan(nobody_looked.prevalence)


def test_the_table_has_a_line_for_each_split(tmp_path: Path) -> None:
    lines = summarise(several(tmp_path)).table().splitlines()
    assert [line.split()[0] for line in lines] == ["split", "train", "validation", "test"]
    assert "ied: 2 of 35 (5.7%); sleep: W" in lines[1]
    assert "sleep: none; state: none" in lines[2]
    assert lines[3].endswith("(empty)")


def many_findings(path: Path, rows: np.ndarray) -> None:
    """A window each row, end to end, with the findings that it says."""
    recording = recording_of([noise(WINDOW * len(rows))])
    held = TaskMarks(
        tuple(Mark(2.0 * i, 2.0, math.nan, int(code), (), "finding") for i, code in np.argwhere(rows)),
        ((0.0, 2.0 * len(rows)),),
    )
    grid = labelled(recording, name="ecg", hop=WINDOW).grid
    path.parent.mkdir()
    item = LabelledRecording("ecg", "P1", recording, grid, {"findings": held})
    write_shard(path, [item], info=ShardInfo(SFREQ, CH_NAMES, WINDOW, WINDOW, (MANY,)))


def test_of_many_classes_the_table_names_the_ends(tmp_path: Path) -> None:
    rows = np.arange(9)[:, None] < np.array([3, 4, 9, 1, 2, 5, 6, 7])
    many_findings(tmp_path / "test" / "ecg.h5", rows)
    (counts,) = summarise(tmp_path).splits[2].tasks
    assert counts.counts == (3, 4, 9, 1, 2, 5, 6, 7)
    assert len(MANY.classes) > SHOWN_CLASSES
    assert summarise(tmp_path).table().splitlines()[3].endswith("findings: 8 classes, most c 9, least d 1")


def test_shards_of_other_tasks_do_not_disturb_the_counts(tmp_path: Path) -> None:
    several(tmp_path)
    before = summarise(tmp_path).splits[0]
    recording = recording_of([noise(500)])
    made = labelled(recording, name="z", patient="P9")
    task = TaskSpec("ied", "multilabel", tuple("abcdefgh"))
    item = made._replace(marks={"ied": TaskMarks((), ((0.0, 5.0),))})
    write_shard(tmp_path / "train" / "z.h5", [item], info=ShardInfo(SFREQ, CH_NAMES, WINDOW, HOP, (task,)))
    after = summarise(tmp_path).splits[0]
    assert after.tasks == before.tasks
    assert after.windows == before.windows + 4


def test_channels_that_are_coarsely_rounded_are_named(tmp_path: Path) -> None:
    signal = noise(400_000)
    signal[1000:1500:100, 1] = 60_000.0  # 6 s of 4,000
    signal[:1, 0] = 60_000.0  # 2 s
    write_shard(tmp_path / "a.h5", [labelled(recording_of([signal]))], info=info_of(recording_of([signal])))
    (line,) = coarse_channels([tmp_path / "a.h5"])
    assert line == "night.edf: jumps by tens of millivolts and is coarsely rounded there: Cz"


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no shards \(\*\.h5\) in train, validation, test"):
        summarise(tmp_path)
    assert shards_of_split(tmp_path, "train") == []
