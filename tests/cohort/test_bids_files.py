"""BIDS's names of files, and its inheritance principle, clause by clause (common principles)."""

import json
from pathlib import Path

import pytest

from siamese_jax.cohort.bids_files import (
    applies,
    ending_of,
    entities_of,
    inherited,
    is_recording,
    participants,
    pipelines,
    read_json,
    seconds_before,
)
from tests.cohort.bids_tree import edf, table


def test_a_name_says_whose_it_is_and_what():
    path = Path("sub-01_ses-pre_task-sleep_run-02_eeg.edf")
    assert entities_of(path) == {"sub": "01", "ses": "pre", "task": "sleep", "run": "2"}
    assert (ending_of(path), ending_of(Path("events.json"))) == ("eeg", "events")
    names = ("sub-1_eeg.EDF", "sub-1_eeg.set", "sub-1_eeg.fdt", "sub-1_ieeg.edf", "sub-1_eeg.json", "raw.edf")
    assert [name for name in names if is_recording(Path(name))] == ["sub-1_eeg.EDF", "sub-1_eeg.set"]


@pytest.mark.parametrize(
    ("name", "does"),
    [
        ("sub-01_task-sleep_events.tsv", True),
        ("sub-01_task-sleep_run-002_events.tsv", True),  # an index, whatever its zeros
        ("task-sleep_events.tsv", True),
        ("sub-01_task-sleep_run-1_events.tsv", False),
        ("sub-01_task-sleep_acq-psg_run-2_events.tsv", False),  # an entity that the recording lacks (rule 2.3)
        ("sub-1_task-sleep_events.tsv", False),  # a label, of which zeros are a part
    ],
)
def test_a_file_applies_to_recordings_that_have_all_its_entities(name, does):
    assert applies(entities_of(Path(name)), entities_of(Path("sub-01_task-sleep_run-02_eeg.edf"))) is does


def test_the_lowest_file_comes_first_and_of_one_folder_the_most_particular(tmp_path):
    recording = tmp_path / "sub-01" / "ses-1" / "eeg" / "sub-01_ses-1_task-a_run-1_eeg.edf"
    expected = [
        table(tmp_path, "sub-01/ses-1/eeg/sub-01_ses-1_task-a_run-1_events.tsv", ("onset",)),
        table(tmp_path, "sub-01/ses-1/eeg/sub-01_ses-1_task-a_events.tsv", ("onset",)),
        table(tmp_path, "sub-01/ses-1/sub-01_ses-1_events.tsv", ("onset",)),
        table(tmp_path, "sub-01/sub-01_task-a_events.tsv", ("onset",)),
        table(tmp_path, "task-a_events.tsv", ("onset",)),
    ]
    table(tmp_path, "sub-01/ses-1/eeg/sub-01_ses-1_task-b_run-1_events.tsv", ("onset",))
    table(tmp_path.parent, "events.tsv", ("onset",))  # above the data set
    (tmp_path / "sub-01" / "events.txt").write_text("?")
    assert inherited(tmp_path, recording) == expected


def test_what_this_package_wrote_is_told_from_other_pipelines(tmp_path):
    for name, made_by in (("experts", None), ("siamese-jax", None), ("later", "siamese-jax"), ("yasa", "YASA")):
        (tmp_path / "derivatives" / name).mkdir(parents=True)
        if made_by:
            held = json.dumps({"GeneratedBy": [{"Name": made_by, "Version": "1"}]})
            (tmp_path / "derivatives" / name / "dataset_description.json").write_text(held)
    read, own = pipelines(tmp_path)
    assert [path.name for path in read] == ["experts", "yasa"]
    assert [path.name for path in own] == ["later", "siamese-jax"]


def test_a_part_begins_where_those_before_it_end(tmp_path):
    parts = [edf(tmp_path, f"sub-1_task-a_split-{n}_eeg.edf", seconds=s) for n, s in ((1, 5), (2, 7), (10, 9))]
    edf(tmp_path, "sub-1_task-b_split-1_eeg.edf", seconds=99)
    assert [seconds_before(path) for path in parts] == [0.0, 5.0, 12.0]
    assert seconds_before(edf(tmp_path, "sub-1_task-a_eeg.edf")) == 0.0


def test_participants_and_folders_are_compared(tmp_path):
    path = table(tmp_path, "participants.tsv", ("participant_id", "age"), ("sub-1", 30), ("sub-3", "n/a"))
    assert participants(path, {"sub-1", "sub-2"}) == [
        "not in participants.tsv: sub-2",
        "in participants.tsv, but without EEG here: sub-3",
    ]
    path.write_bytes(b"\xef\xbb\xbfparticipant_id\tage\r\nsub-1\t30\r\n")
    assert participants(path, {"sub-1"}) == participants(tmp_path / "none.tsv", {"sub-1"}) == []
    path.write_text("id\nsub-1\n")
    assert "the header needs a column participant_id" in participants(path, {"sub-1"})[0]


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[1]", "must hold a JSON object")])
def test_json_of_another_kind_is_refused_with_the_files_name(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=f"a.json: {message}"):
        read_json(tmp_path / "a.json")
    assert read_json(tmp_path / "none.json") == {}
