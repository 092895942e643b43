"""The files of a detection: what stands in them, and that nothing is overwritten that somebody changed."""

import hashlib
import json
import re

import numpy as np
import pytest

from siamese_jax import files
from siamese_jax.detection import results
from siamese_jax.detection.detect import Detection, Detections, Epoch
from siamese_jax.detection.results import annotations_of, write_detections
from siamese_jax.recordings.edf import read_annotations, read_recording
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.recordings.recording import recording_from_array
from siamese_jax.recordings.sidecars import read_annotation_table

EVENT = Detection(10.25, 0.1, 10.3, 0.8766, "T3", -142.04, "N2")
FOUND = Detections(
    events=(EVENT, EVENT._replace(onset_seconds=70.0, peak_seconds=70.05, probability=0.5, stage=None)),
    hypnogram=(Epoch(0.0, "N2", 0.9, 28.0), Epoch(30.0, "W", 0.6, 30.0)),
    recording_seconds=120.0,
    analysed_seconds=120.0,
    threshold=0.5,
    threshold_origin="given",
)


def saved(folder, stem="night"):
    """Two minutes of two electrodes as an EDF file, read."""
    eeg = np.random.default_rng(0).normal(0, 20, (12_000, 2)).astype(np.float32)
    write_recording(folder / f"{stem}.edf", eeg, sfreq=100.0, ch_names=("T3", "T4"))
    return read_recording(folder / f"{stem}.edf", ch_names=("T3", "T4"), sfreq=100.0)


def write(folder, recording, found=FOUND, **provenance):
    return write_detections(folder, recording, found, provenance={"model": "test"} | provenance, copy=True)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_detection_is_tables_annotations_a_copy_and_a_record_of_all(tmp_path):
    written = write(tmp_path / "out", saved(tmp_path))
    assert written.events.read_text().splitlines() == [
        "onset,duration,label,origin,peak,probability,channel,amplitude_uv,stage",
        "10.250,0.100,IED,machine,10.300,0.8766,T3,-142.0,N2",
        "70.000,0.100,IED,machine,70.050,0.5000,T3,-142.0,",
    ]
    assert written.hypnogram.read_text().splitlines()[:2] == [
        "onset,duration,label,origin,stage,probability",
        "0.000,30.000,Sleep stage N2,machine,N2,0.9000",
    ]
    record = json.loads(written.run.read_text())
    assert record["files"] == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (written.events, written.hypnogram, written.annotations, written.copy)
    }
    assert names(tmp_path / "out") == sorted([*record["files"], "night_run.json"])
    assert record["recording"] == {"sha256": hashlib.sha256((tmp_path / "night.edf").read_bytes()).hexdigest()}
    assert (record["model"], record["threshold"], record["events_by_stage"][0]["per_hour"]) == ("test", 0.5, 0.0)
    assert record["events_by_stage"][1]["per_hour"] is None  # NaN: no N1


def test_annotations_are_in_order_in_the_standards_words_and_the_machine_s():
    marks = annotations_of(FOUND)
    assert [(m.onset_seconds, m.text, m.channel) for m in marks] == [
        (0.0, "Sleep stage N2", None),
        (10.25, "IED p=0.88", "T3"),
        (30.0, "Sleep stage W", None),
        (70.0, "IED p=0.50", "T3"),
    ]
    assert {m.origin for m in marks} == {"machine"}


def test_the_tables_are_read_as_a_machine_s_annotations_but_for_what_a_reviewer_signs(tmp_path):
    written = write(tmp_path / "out", saved(tmp_path))
    found = [read_annotation_table(path) for path in (written.events, written.hypnogram)]
    assert [[a.text for a in table] for table in found] == [["IED", "IED"], ["Sleep stage N2", "Sleep stage W"]]
    assert [(a.onset_seconds, a.duration_seconds, a.channel) for a in found[0]] == [(10.25, 0.1, "T3"), (70, 0.1, "T3")]
    assert {a.origin for table in found for a in table} == {"machine"}
    written.events.write_text(written.events.read_text().replace("IED,machine,10.300", "IED,reviewed,10.300"))
    assert [a.origin for a in read_annotation_table(written.events)] == ["reviewed", "machine"]


def test_an_array_has_no_copy(tmp_path):
    eeg = np.random.default_rng(0).normal(0, 20, (12_000, 2)).astype(np.float32)
    names_ = {"ch_names": ("T3", "T4"), "target_ch_names": ("T3", "T4")}
    written = write(tmp_path, recording_from_array(eeg, sfreq=100.0, target_sfreq=100.0, **names_))
    assert written.copy is None and written.notes == ("no annotated copy: the recording is an array, not a file",)
    assert names(tmp_path) == ["array_detected.edf", "array_events.csv", "array_hypnogram.csv", "array_run.json"]
    assert read_annotations(written.annotations) == annotations_of(FOUND)


@pytest.mark.parametrize("ending", results.ENDINGS)
def test_what_a_reviewer_changed_is_never_overwritten(tmp_path, ending):
    recording, out = saved(tmp_path), tmp_path / "out"
    write(out, recording)
    changed = out / f"night{ending}"
    changed.write_bytes(changed.read_bytes() + b"\n")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ValueError, match=rf"night{re.escape(ending)} is not as detect wrote it, .*Move it to another"):
        write(out, recording, model="second")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    changed.rename(tmp_path / "reviewed")
    assert json.loads(write(out, recording, model="second").run.read_text())["model"] == "second"


def test_a_file_of_somebody_else_is_not_overwritten(tmp_path):
    """Nothing says that detect wrote it: no record, or a damaged one, or one of a version that kept no hashes."""
    recording, out = saved(tmp_path), tmp_path / "out"
    write(out, recording)
    run = out / "night_run.json"
    older = json.dumps({"files": ["night_events.csv", "night_detected.edf"]})
    for text in (None, "[]", "{", '{"files": 1}', older):
        run.unlink() if text is None else run.write_text(text)
        with pytest.raises(ValueError, match=r"night_events.csv is not as detect wrote it, by night_run.json"):
            write(out, recording)


def test_nothing_of_an_earlier_detection_stays_beside_a_new_one(tmp_path):
    """A second model that knows no stages."""
    recording, out = saved(tmp_path), tmp_path / "out"
    write(out, recording)
    stageless = Detections((), (), 120.0, 120.0, 0.5, "given")
    write(out, recording, stageless)
    assert names(out) == ["night_annotated.edf", "night_detected.edf", "night_events.csv", "night_run.json"]


def test_what_a_killed_process_left_goes_and_another_recording_s_stays(tmp_path):
    out = tmp_path / "out"
    stale = [out / f".{stem}.{'0' * 32}{files.PARTIAL}" for stem in ("S1", "S1_b", "S1.x", "S10")]
    for folder in stale:
        folder.mkdir(parents=True)
        (folder / "_events").touch()
    write(out, saved(tmp_path, "S1"))
    assert [folder.exists() for folder in stale] == [False, True, True, True]
    assert not list(out.rglob("*.partial/*.edf")) and not [
        n for n in names(out) if n.startswith(".S1.") and "x" not in n
    ]


def test_a_process_that_is_killed_between_two_files_blocks_nobody(tmp_path, monkeypatch):
    """Whatever has its name is in the record; what has not is made again."""
    recording, out = saved(tmp_path), tmp_path / "out"
    write(out, recording)
    publish, done = files.publish, []

    def dying(partial, path):
        if len(done) == stop:
            raise KeyboardInterrupt
        done.append(path)
        publish(partial, path)

    for stop in range(5, 15):  # the parts and their own temporary files first, then the record, then each
        done.clear()
        monkeypatch.setattr(files, "publish", dying)
        try:
            write(out, recording, FOUND, model=f"{stop}")
        except KeyboardInterrupt:
            pass
        monkeypatch.setattr(files, "publish", publish)
        results.check_unchanged(out, "night")
    assert json.loads(write(out, recording).run.read_text())["model"] == "test"


def test_a_recording_that_the_model_learnt_from_is_named_in_the_notes_and_the_record(tmp_path):
    recording = saved(tmp_path)
    digest = hashlib.sha256(recording.path.read_bytes()).hexdigest()
    for learnt_from, noted in (({digest}, True), ({"0" * 64}, False), ((), False)):
        written = write_detections(tmp_path / "out", recording, FOUND, provenance={}, learnt_from=learnt_from)
        assert (results.LEARNT in written.notes) == noted
        assert (results.LEARNT in json.loads(written.run.read_text())["warnings"]) == noted


def test_a_recording_that_is_changed_while_it_is_analysed_has_no_results(tmp_path):
    recording, out = saved(tmp_path), tmp_path / "out"
    before = results.signature(recording.path)
    with recording.path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ValueError, match="night.edf was changed while it was analysed"):
        write_detections(out, recording, FOUND, provenance={}, source=before)
    assert names(out) == []
