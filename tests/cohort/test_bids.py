"""A BIDS data set as a source: its tables decide marks and channels, and what is not used is said."""

import datetime
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from siamese_jax.cli.main import command
from siamese_jax.cohort.bids import Bids
from siamese_jax.cohort.check import check
from siamese_jax.cohort.prepare import prepare
from siamese_jax.cohort.sources import manifest_rows
from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.recordings.recording import Annotation
from siamese_jax.shards.labels import EventRule, StateRule, TextClasses
from siamese_jax.shards.schema import open_shard
from siamese_jax.vocabulary import TaskSpec, standard_name
from tests.cohort.bids_tree import CH_NAMES, brainvision, data_set, edf, table
from tests.recordings.edf_bytes import Signal, save, stamp
from tests.recordings.in_memory import noise

DATA = DataConfig(ch_names=CH_NAMES, sfreq=100.0, window_seconds=2.0)
NIGHT = "sub-01/eeg/sub-01_task-sleep"
NAME = f"{NIGHT}_eeg.edf"
HEAD = ("onset", "duration", "trial_type")


def opened(root: Path, name: str = NAME, **options: object):
    return pickle.loads(pickle.dumps(Bids(root, **options))).open(name, DATA)  # noqa: S301


def marks(root: Path, name: str = NAME, **options: object) -> list[tuple[float, float, str]]:
    return [mark[:3] for mark in opened(root, name, **options).annotations]


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """One recording without a mark."""
    edf(data_set(tmp_path / "bids"), NAME)
    return tmp_path / "bids"


# --- the whole way ---------------------------------------------------------------------------------------------


def test_a_data_set_becomes_shards_by_participant(tmp_path, capsys):
    root = data_set(tmp_path / "bids")
    table(root, "participants.tsv", ("participant_id",), *[(f"sub-{k}",) for k in range(6)])
    for k in range(6):
        for session in ("a", "b"):
            stem = f"sub-{k}/ses-{session}/eeg/sub-{k}_ses-{session}_task-sleep"
            edf(root, f"{stem}_eeg.edf")
            table(root, f"{stem}_events.tsv", HEAD, (5.0, 0.1, "spike"), (0, 20, "Sleep stage N2"))
    table(root, "sub-0/ses-a/eeg/sub-0_ses-a_task-sleep_channels.tsv", ("name", "status"), ("Cz", "bad"))
    edf(root, "sourcedata/sub-0/eeg/sub-0_eeg.edf")
    edf(root, "derivatives/clean/sub-0/eeg/sub-0_desc-clean_eeg.edf")
    options = "--channels Fp1 Cz O2 --sfreq 100 --window 2"
    assert command(["prepare", str(root), str(tmp_path / "out"), *options.split()]) == 0
    assert "12 files used, 0 skipped; 6 shards" in capsys.readouterr().out
    shards = {shard.patients: shard for shard in map(open_shard, sorted((tmp_path / "out").rglob("*.h5")))}
    assert sorted(shards) == [(f"sub-{k}",) for k in range(6)] and not check(tmp_path / "out").errors
    shard = shards["sub-0",]
    assert shard.info.source == "Sleep in a suitcase"
    assert shard.recordings["present"].tolist() == [[True, False, True], [True, True, True]]
    assert shard.labels["ied"].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0] * 2 and shard.weights["ied"].all()
    assert shard.labels["sleep"].tolist() == [2] * 20 and shard.weights["sleep"].all()


def test_a_folder_without_a_description_is_any_folder(night, tmp_path, capsys):
    (night / "dataset_description.json").unlink()
    command(["prepare", str(night), str(tmp_path / "out"), "--channels", *CH_NAMES, "--sfreq", "100", "--window", "2"])
    assert "told apart by EDF patient code" in capsys.readouterr().out


def test_the_users_tasks_and_manifest_hold_here_too(night):
    table(night, f"{NIGHT}_events.tsv", HEAD, (1, "n/a", "eyes open"), (9, "n/a", "eyes closed"), (3, 0.5, "blink"))
    eyes = StateRule(TaskSpec("eyes", "binary", ("open", "closed")), TextClasses((("open", "eyes open"),)))
    blink = EventRule(TaskSpec("blink", "binary", ("none", "blink")), TextClasses((("blink", "blink"),)))
    rows = table(night, "m.csv", ("file,patient,split,ied_labelled",), (f"{NAME},P1,test,no",))
    found = opened(night, manifest=manifest_rows(night, rows), more_rules=(eyes, blink))
    assert [mark.text for mark in found.annotations] == ["eyes open", "blink", "eyes closed"]
    assert (found.patient, found.patient_from, found.split) == ("P1", "manifest", "test")
    assert found.searched == {"ied": False, "blink": True}


# --- marks -----------------------------------------------------------------------------------------------------


def test_columns_as_bids_has_them(night):
    columns = ("onset", "duration", "sample", "trial_type", "value", "channel", "stim_file")
    rows = [
        (-3.5, 0, -350, "start", 1, "n/a", "n/a"),
        ("2.5e0", "n/a", 250, "spike", 7, "EEG FP1-REF", "n/a"),
        (4, 0.2, 400, "n/a", "spike", "Fp1|O2", "n/a"),
        ("n/a", 0, "n/a", "spike", 7, "n/a", "n/a"),
        (6, 0, 600, "n/a", "n/a", "n/a", "a.png"),
    ]
    table(night, f"{NIGHT}_events.tsv", columns, *rows)
    found = opened(night)
    expected = [(-3.5, 0.0, "start", None), (2.5, 0.0, "spike", "Fp1"), (4.0, 0.2, "spike", None)]
    assert [mark[:4] for mark in found.annotations] == expected
    assert {"marks without an onset are left out", "marks without a text are left out"} <= set(found.notes)


@pytest.mark.parametrize("late", [0, 750_000, 62_500])
def test_onsets_count_from_the_first_sample_also_in_a_file_that_starts_between_two_seconds(night, late):
    """BIDS counts from the first stored sample, EDF+ from the header's second: the same mark in both is one."""
    start = datetime.datetime(2031, 5, 17, 22, 14, 5, late)
    own = [Annotation(3.25, 0.1, "spike"), Annotation(7.0, 0.0, "own")]
    write_recording(night / NAME, noise(2000, n_chans=3), sfreq=100, ch_names=CH_NAMES, annotations=own, start=start)
    table(night, f"{NIGHT}_events.tsv", HEAD, (3.25, 0.1, "spike"), (9.5, 0.1, "spike"))
    assert marks(night) == [(3.25, 0.1, "spike"), (7.0, 0.0, "own"), (9.5, 0.1, "spike")]


def test_a_number_means_what_the_dictionary_says(night):
    table(night, f"{NIGHT}_events.tsv", ("onset", "duration", "stage"), (0, 10, 4), (10, 10, 0))
    assert [text for *_, text in marks(night)] == ["4", "0"]  # REM or N3, who knows
    assert "stages are numbers that no events.json explains: not read" in opened(night).notes
    levels = {"0": "Wake", "4": {"Description": "REM", "TermURL": "x"}}
    (night / "events.json").write_text(json.dumps({"stage": {"Levels": levels}, "HED": {}, "trial_type": "?"}))
    assert [text for *_, text in marks(night)] == ["REM", "Wake"]
    assert not any("explains" in note for note in opened(night).notes)
    (night / f"{NIGHT}_events.json").write_text(json.dumps({"stage": {"Levels": {"4": "N3"}}}))
    assert [text for *_, text in marks(night)] == ["N3", "0"]  # the lower file's key replaces the upper one's


def test_the_example_of_two_scorers_gives_the_first(night):
    """bids-examples, eeg_sleep_staging: an expert, then a program, row by row."""
    columns = ("onset", "duration", "annotation_type", "sleep_stage", "original_label", "annotation_method")
    rows = [
        *((0, 30, "sleep_stage", "wake", "W", "manual_consensus"), (0, 30, "sleep_stage", "n1", "N1", "automated")),
        *((30, 30, "sleep_stage", "n3", "S4", "manual_consensus"), (30, 30, "sleep_stage", "n3", "N3", "automated")),
        (60, 30, "unscored", "n/a", "unknown", "manual_consensus"),
        (60, 30, "sleep_stage", "n2", "N2", "automated"),
    ]
    table(night, f"{NIGHT}_events.tsv", columns, *rows)
    found = opened(night)
    assert [mark.text for mark in found.annotations] == ["wake", "n3", "unscored"]
    assert "some states are scored twice: the first that is listed counts" in found.notes


def test_triggers_that_look_like_stages_are_none(night):
    table(night, f"{NIGHT}_events.tsv", HEAD, (1, 0, "S1"), (2, "n/a", "R"), (3, 0.5, "W"), (4, 30, "N2"))
    assert marks(night) == [(4.0, 30.0, "N2")]
    assert "short marks such as S1 or R are taken for triggers, not for stages" in opened(night).notes
    table(night, f"{NIGHT}_hypnogram.tsv", ("onset", "stage"), (0, "W"), (10, "N1"))  # here nothing else is meant
    assert marks(night) == [(0.0, 0.0, "W"), (10.0, 0.0, "N1")]


def test_states_are_those_of_one_table_and_events_those_of_all(night):
    night_of = {"W": (0, 10, "Sleep stage W"), "2": (10, 10, "Sleep stage 2")}
    edf(night, NAME, Annotation(0.0, 20.0, "Sleep stage R"), Annotation(3.0, 0.1, "spike"))
    table(night, f"{NIGHT}_events.tsv", HEAD, (3.0, 0.1, "spike"), (7.0, 0.1, "spike"))
    derived = "derivatives/experts/sub-01/eeg/sub-01_task-sleep_desc-hypnogram_events.tsv"
    table(night, derived, HEAD, *night_of.values())
    found = opened(night)
    assert [m.text for m in found.annotations] == ["Sleep stage W", "spike", "spike", "Sleep stage 2"]
    assert "other states than in desc-hypnogram_events.tsv are not used" in found.notes
    assert "marks are taken from derivatives, too: experts" in Bids(night).notes()
    table(night, f"{NIGHT}_hypnogram.tsv", ("onset", "duration", "stage"), (0, 20, "N3"))
    assert [m.text for m in opened(night).annotations] == ["N3", "spike", "spike"]


def test_what_this_package_found_is_never_learnt_from(night):
    table(night, "derivatives/siamese-jax/sub-01/eeg/sub-01_task-sleep_desc-ied_events.tsv", HEAD, (3.0, 0.1, "spike"))
    assert marks(night) == []
    assert "derivatives/siamese-jax holds what siamese-jax found: not learnt from" in Bids(night).notes()


def test_marks_of_another_recording_are_not_taken(night):
    for name in ("task-other", "task-sleep_run-2", "task-sleep_acq-x"):
        table(night, f"derivatives/a/sub-01/sub-01_{name}_desc-x_events.tsv", HEAD, (3.0, 0.1, "spike"))
        table(night, f"sub-01/eeg/sub-01_{name}_events.tsv", HEAD, (3.0, 0.1, "spike"))
    assert marks(night) == []
    assert any(
        note.startswith("of no recording by their names: sub-01/eeg/sub-01_task-") for note in Bids(night).notes()
    )


def test_marks_of_a_recording_in_parts_fall_into_the_right_one(night):
    for n, seconds in ((1, 5), (2, 7)):
        edf(night, f"sub-02/eeg/sub-02_task-a_split-{n}_eeg.edf", seconds=seconds)
    table(night, "sub-02/eeg/sub-02_task-a_events.tsv", HEAD, (1.0, 0.1, "spike"), (6.0, 0.1, "spike"))
    assert [m[0] for m in marks(night, "sub-02/eeg/sub-02_task-a_split-1_eeg.edf")] == [1.0, 6.0]
    assert [m[0] for m in marks(night, "sub-02/eeg/sub-02_task-a_split-2_eeg.edf")] == [-4.0, 1.0]
    table(night, "sub-02/eeg/sub-02_task-a_split-2_events.tsv", HEAD, (2.0, 0.1, "spike"))
    assert [m[0] for m in marks(night, "sub-02/eeg/sub-02_task-a_split-2_eeg.edf")] == [2.0]


def test_events_count_by_the_clock_across_gaps_and_parts(night):
    """Part 1 has 4 s of signal, of which the last 2 come 8 s late: it lasts 12 s."""
    for n, stamps in ((1, (0, 1, 10, 11)), (2, (0, 1, 2, 3))):
        folder, lists = night / "sub-02/eeg", [stamp(f"+{onset}") for onset in stamps]
        folder.mkdir(parents=True, exist_ok=True)
        signal = Signal("Cz", noise(400, seed=n, n_chans=1).round().astype(int).reshape(4, 100))
        save(folder, [signal], lists=lists, reserved="EDF+D", name=f"sub-02_task-a_split-{n}_eeg.edf")
    onsets = (1.0, 10.5, 13.0)
    table(night, "sub-02/eeg/sub-02_task-a_events.tsv", HEAD, *((onset, 0.1, "spike") for onset in onsets))
    first, second = (opened(night, f"sub-02/eeg/sub-02_task-a_split-{n}_eeg.edf") for n in (1, 2))
    assert first.recording.segments == ((0.0, 200), (10.0, 200))
    assert [mark.onset_seconds for mark in first.annotations] == [1.0, 10.5, 13.0]
    assert [mark.onset_seconds for mark in second.annotations] == [-11.0, -1.5, 1.0]


def test_a_window_across_a_boundary_counts_for_nothing(night, tmp_path):
    table(night, f"{NIGHT}_events.tsv", HEAD, (0, 0, "boundary"), (9.0, 0, "boundary"), (1.0, 0.1, "spike"))
    prepare(Bids(night), tmp_path / "out", DATA, hop_seconds=2.0, seed=0)
    (path,) = (tmp_path / "out").rglob("*.h5")
    assert open_shard(path).weights["ied"].tolist() == [1, 1, 1, 1, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("rows", "levels", "searched"),
    [
        (None, {}, {"ied": False}),  # nobody marked anything
        ([(1, 0, "square")], {}, {}),  # somebody did: the other recordings tell
        ([(1, 0, "square")], {"spike": "seen by two experts"}, {"ied": True}),
        ([(1, 0, "spike")], {}, {"ied": True}),
    ],
)
def test_who_looked_for_events(night, rows, levels, searched):
    if rows is not None:
        table(night, f"{NIGHT}_events.tsv", HEAD, *rows)
    (night / "task-sleep_events.json").write_text(json.dumps({"trial_type": {"Levels": levels}}))
    assert opened(night).searched == searched
    table(night, "derivatives/a/sub-01/sub-01_task-sleep_hypnogram.tsv", ("onset", "stage"), (0, "N2"))
    assert opened(night).searched == searched  # who scores sleep looks for nothing else


# --- channels --------------------------------------------------------------------------------------------------


def test_bad_channels_and_channels_of_another_kind_are_absent(night):
    rows = [
        ("Fp1", "EEG", "uV", "good"),
        ("CZ", "EEG", "uV", "bad"),
        ("O2", "MISC", "uV", "n/a"),
        ("X", "EEG", "uV", "bad"),
    ]
    table(night, f"{NIGHT}_channels.tsv", ("name", "type", "units", "status"), *rows)
    found = opened(night)
    assert found.recording.present.tolist() == [True, False, False]
    assert not found.recording.read(0, 0, 2000)[:, 1:].any()
    assert "bad by channels.tsv, taken as absent: Cz" in found.notes
    assert "of type MISC by channels.tsv, taken as absent: O2" in found.notes


def test_an_ecg_that_the_table_calls_an_eeg_is_still_one(tmp_path):
    root = data_set(tmp_path / "bids")
    write_recording(root / "a.edf", noise(2000, seed=3, n_chans=2), sfreq=100.0, ch_names=("Fp1", "ECG1"))
    (root / NAME).parent.mkdir(parents=True)
    (root / "a.edf").rename(root / NAME)
    data = DataConfig(ch_names=("Fp1", "ECG1"), sfreq=100.0, window_seconds=2.0)
    for kind, there in (("EEG", True), ("ECG", True), ("n/a", True), ("TRIG", False)):
        table(root, f"{NIGHT}_channels.tsv", ("name", "type"), ("Fp1", "EEG"), ("ECG1", kind))
        assert Bids(root).open(NAME, data).recording.present.tolist() == [True, there]
    for kind in ("EOG", "ECG", "MISC"):
        table(root, f"{NIGHT}_channels.tsv", ("name", "type"), ("Fp1", kind), ("ECG1", "ECG"))
        with pytest.raises(ValueError, match=f"of type {kind} by channels.tsv"):
            Bids(root).open(NAME, data)


def test_the_files_unit_counts_if_it_has_one(night):
    before = opened(night).recording.read(0, 0, 2000)
    for units in ("V", "uV", "n/a"):
        table(night, f"{NIGHT}_channels.tsv", ("name", "units"), *[(name, units) for name in CH_NAMES])
        found = opened(night)
        np.testing.assert_array_equal(found.recording.read(0, 0, 2000), before)
        said = "channels.tsv says V where the file says uV: uV is taken" in found.notes
        assert said == (units == "V")
    header = (night / NAME).read_bytes().replace(b"uV      ", b"        ")
    (night / NAME).write_bytes(header)
    with pytest.raises(ValueError, match="no known unit of voltage"):
        opened(night)
    table(night, "task-sleep_channels.tsv", ("name", "units"), *[(name, "mV") for name in CH_NAMES])
    (night / f"{NIGHT}_channels.tsv").unlink()
    found = opened(night)
    np.testing.assert_allclose(found.recording.read(0, 0, 2000), 1000 * before, rtol=1e-5)
    assert "channels.tsv says mV where the file says nothing: mV is taken" in found.notes
    assert opened(night, units={"*": "uV"}).recording.read(0, 0, 1)[0, 0] == pytest.approx(before[0, 0])


def test_electrodes_of_the_bitbrain_nights_are_known():
    assert [standard_name(f"PSG_{name}") for name in ("F3", "O2", "EOGL", "ABD")] == ["F3", "O2", "EOG1", None]


# --- what cannot be used ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            f"{NIGHT}_events.tsv",
            b"onset\tduration\ttrial_type\n1\t0\n",
            "line 2: 2 cells, but the header has 3 columns",
        ),
        (
            f"{NIGHT}_events.tsv",
            b"onset\tduration\nsoon\t0\n",
            "line 2: onset must be a number of seconds, given 'soon'",
        ),
        (f"{NIGHT}_events.tsv", b"duration\ttrial_type\n0\tspike\n", "needs a column onset"),
        (f"{NIGHT}_events.tsv", b"onset\tduration\ttrial_type\n1\t0\t\xff\n", "not UTF-8 text"),
        (f"{NIGHT}_events.json", b"{", "sub-01_task-sleep_events.json: not JSON"),
        (f"{NIGHT}_channels.tsv", b"channel\nFp1\n", "needs a column name"),
        (NAME, b"0" + b" " * 99, "is cut inside its header"),
    ],
)
def test_a_damaged_file_costs_its_recording_and_no_other(night, tmp_path, name, content, message):
    edf(night, "sub-02/eeg/sub-02_eeg.edf")
    (night / name).write_bytes(content)
    report = prepare(Bids(night), tmp_path / "out", DATA, hop_seconds=2.0, seed=0)
    (skipped,) = report.skipped
    assert skipped.name == NAME and message in skipped.reason and [f.patient for f in report.used] == ["sub-02"]


def test_an_empty_table_is_no_reason_to_leave_out_a_recording(night):
    (night / f"{NIGHT}_events.tsv").write_bytes(b"")
    assert "its events table is empty" in opened(night).notes
    (night / f"{NIGHT}_events.tsv").write_bytes(b"\xef\xbb\xbfonset\tduration\ttrial_type\r\n5\t0.1\tspike\r\n")
    assert marks(night) == [(5.0, 0.1, "spike")]


def test_files_that_are_not_here_or_misplaced_are_skipped_by_name(night):
    (night / "sub-03/eeg").mkdir(parents=True)
    (night / "sub-03/eeg/sub-03_task-a_eeg.edf").symlink_to("../../.git/annex/objects/x")
    edf(night, "sub-04/eeg/sub-05_eeg.edf")
    edf(night, "sub-04/eeg/night.edf")
    with pytest.raises(
        ValueError, match=r"it is not a file, or it is a link whose target is missing: fetch it first \(datalad get\)"
    ):
        opened(night, "sub-03/eeg/sub-03_task-a_eeg.edf")
    with pytest.raises(ValueError, match="its name is of sub-05, its folder of sub-04"):
        opened(night, "sub-04/eeg/sub-05_eeg.edf")
    table(night, "participants.tsv", ("participant_id",), ("sub-01",))
    assert Bids(night).notes() == [
        "not in participants.tsv: sub-03, sub-04",
        "of no recording by their names: sub-04/eeg/night.edf",
    ]
    with pytest.raises(ValueError, match="is a BIDS data set without EEG"):
        Bids(data_set(night / "sub-04")).names()


# --- through MNE -----------------------------------------------------------------------------------------------


def test_without_mne_it_says_how_to_get_it(night, monkeypatch):
    brainvision(night, "sub-02/eeg/sub-02_eeg", np.zeros((1000, 3)))
    monkeypatch.setitem(sys.modules, "mne", None)
    with pytest.raises(ValueError, match=r"needs mne: pip install 'siamese-jax\[mne\]'"):
        opened(night, "sub-02/eeg/sub-02_eeg.vhdr")


def test_a_brainvision_file_is_read_in_microvolts(night):
    pytest.importorskip("mne", reason="MNE is not installed")
    eeg_uv = noise(5000, seed=1, n_chans=3).round(1)
    markers = ("New Segment,,1,1,0,20260101000000000000", "Comment,spike,501,1,0", "New Segment,,2501,1,0")
    brainvision(night, "sub-02/eeg/sub-02_eeg", eeg_uv, *markers)
    table(night, "sub-02/eeg/sub-02_channels.tsv", ("name", "status"), ("Cz", "bad"))
    data = DataConfig(ch_names=CH_NAMES, sfreq=250.0, window_seconds=2.0)
    found = Bids(night).open("sub-02/eeg/sub-02_eeg.vhdr", data)
    got = found.recording.read(0, 0, 5000)
    np.testing.assert_allclose(got[:, [0, 2]], eeg_uv[:, [0, 2]], atol=1e-3)
    assert found.recording.present.tolist() == [True, False, True] and not got[:, 1].any()
    said = [(round(m.onset_seconds, 3), m.text) for m in found.annotations if m.text != "New Segment/"]
    assert said == [(2.0, "spike"), (10.0, "BAD boundary")]
    files = [path.suffix for path in Bids(night).files("sub-02/eeg/sub-02_eeg.vhdr")]
    assert files == [".eeg", ".vhdr", ".vmrk", ".tsv"]
    (night / "sub-02/eeg/sub-02_eeg.eeg").unlink()
    with pytest.raises(ValueError, match="MNE cannot read it: FileNotFoundError"):
        Bids(night).open("sub-02/eeg/sub-02_eeg.vhdr", data)
