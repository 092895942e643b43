"""Implants: nothing but the marked stretches differs from the source, marks lie on the waves, persons stay whole."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tyro

from data_tools.implant import DATA, IMPLANTED, ImplantConfig, implant, main
from siamese_jax.cli.console import OK, SOME_FAILED
from siamese_jax.cohort.prepare import prepare
from siamese_jax.cohort.sources import Folder, manifest_rows
from siamese_jax.config.sections import DataConfig
from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.recordings.recording import Annotation
from siamese_jax.recordings.texts import is_ied, stage_of
from siamese_jax.vocabulary import TEN_TWENTY

SECONDS = 120
SFREQ = 256


def background(seed, seconds=SECONDS, n=19):
    """Smooth noise of some 12 uV."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((seconds * SFREQ, n))
    return (30 * np.apply_along_axis(np.convolve, 0, white, np.ones(8) / 8, "same")).astype(np.float32)


def put(path, seed, *, code="A", annotations=(), ch_names=TEN_TWENTY, seconds=SECONDS):
    path.parent.mkdir(parents=True, exist_ok=True)
    eeg = background(seed, seconds, len(ch_names))
    write_recording(path, eeg, sfreq=SFREQ, ch_names=ch_names, annotations=annotations, patient_code=code)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Three people with four recordings."""
    folder = tmp_path_factory.mktemp("people")
    put(folder / "a1.edf", 1, code="Anna")
    put(folder / "a2.edf", 2, code="Anna")
    put(folder / "b.edf", 3, code="Bert")
    put(folder / "c.edf", 4, code="Carl", ch_names=TEN_TWENTY[:12])
    return folder


def written(folder, out, **settings):
    cohort, total, skipped = implant(folder, out, ImplantConfig(**settings))
    assert len(list(cohort)) == total and not skipped
    return out


@pytest.fixture(scope="module")
def implants(people, tmp_path_factory):
    return written(people, tmp_path_factory.mktemp("implants") / "out", copies=3)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def pairs(people, implants):
    """Each copy with its row, its samples and its source's."""
    for row in table(implants / "patients.csv"):
        ch_names = TEN_TWENTY[:12] if row["source"] == "c.edf" else TEN_TWENTY
        both = [people / row["source"], implants / f"{row['recording']}.edf"]
        source, copy = (read_recording(path, ch_names=ch_names, sfreq=DATA.sfreq) for path in both)
        start, n = round(float(row["from_seconds"]) * SFREQ), int(row["seconds"]) * SFREQ
        yield row, source.read(0, start, start + n), copy.read(0, 0, n), copy


# --- what is in them ----------------------------------------------------------------------------------------


def test_a_copy_differs_from_its_source_at_its_marks_alone(people, implants):
    n_marks = 0
    for _, before, after, copy in pairs(people, implants):
        marked = np.zeros(before.shape, bool)
        for mark in copy.annotations:
            if mark.text == IMPLANTED:
                continue
            n_marks += 1
            # A positive phase comes before an IED's mark; its slow wave and the weaker background after it.
            before_it, after_it = (0.3, 1.0) if is_ied(mark.text) else (0.02, 0.02)
            first, last = mark.onset_seconds - before_it, mark.onset_seconds + mark.duration_seconds + after_it
            is_fault = mark.text.startswith("Artefact electrode")
            channels = [copy.ch_names.index(mark.channel)] if is_fault and mark.channel else slice(None)
            marked[max(round(first * SFREQ), 0) : round(last * SFREQ), channels] = True
        rounding = np.abs(after).max(axis=0) / 32000 + 0.01
        assert (np.abs(after - before) <= rounding)[~marked].all()
        assert np.abs(after - before)[marked].max() > 20 or not marked.any()
    assert n_marks > 100


def test_the_marks_of_discharges_lie_on_the_waves(people, implants):
    late = []
    for _, before, after, copy in pairs(people, implants):
        added = after - before
        faults = [m for m in copy.annotations if m.text.startswith("Artefact")]
        for mark in copy.annotations:
            end = mark.onset_seconds + mark.duration_seconds
            covered = any(
                f.onset_seconds < end + 0.3 and mark.onset_seconds - 0.3 < f.onset_seconds + f.duration_seconds
                for f in faults
            )
            if not is_ied(mark.text) or "polyspike" in mark.text or mark.duration_seconds >= 1 or covered:
                continue
            middle = round((mark.onset_seconds + mark.duration_seconds / 2) * SFREQ)
            around = added[max(middle - 15, 0) : middle + 16, copy.ch_names.index(mark.channel)]
            late.append((around.argmin() - min(middle, 15)) / SFREQ)
    assert len(late) > 30
    assert np.mean(np.abs(late) <= 0.020) > 0.95 and abs(np.median(late)) < 0.008


def test_tables_say_what_is_in_each_file(people, implants):
    rows, events = table(implants / "patients.csv"), table(implants / "events.csv")
    assert [row["recording"] for row in rows] == [f"IMP000{p}_{k:02d}" for p, n in ((1, 6), (2, 3), (3, 3))
                                                  for k in range(1, n + 1)]  # fmt: skip
    assert sum(row["has_ied"] == "0" for row in rows) == 1  # a fifteenth, rounded
    for row in rows:
        own = [event for event in events if event["recording"] == row["recording"]]
        copy = read_recording(implants / f"{row['recording']}.edf", ch_names=TEN_TWENTY, sfreq=DATA.sfreq)
        assert [mark.text for mark in copy.annotations if mark.text != IMPLANTED] == [event["kind"] for event in own]
        assert int(row["n_ied"]) == sum(is_ied(event["kind"]) for event in own)
        assert not (row["has_ied"] == "0" and int(row["n_ied"]))
        assert copy.present.sum() == (12 if row["source"] == "c.edf" else 19)
        assert copy.patient_code == row["patient"]
    families = {event["family"] for event in events}
    assert families == {"ied", "mimic", "artefact"}
    assert not any(stage_of(event["kind"]) for event in events)


# --- whose they are -----------------------------------------------------------------------------------------


def test_one_person_s_copies_are_in_one_split(implants, tmp_path):
    rows = table(implants / "manifest.csv")
    whose = {row["recording"]: row["source"] for row in table(implants / "patients.csv")}
    for name, sources in {"IMP0001": {"a1.edf", "a2.edf"}, "IMP0002": {"b.edf"}, "IMP0003": {"c.edf"}}.items():
        assert {whose[Path(row["file"]).stem] for row in rows if row["patient"] == name} == sources
    source = Folder(implants, manifest_rows(implants, None))
    report = prepare(source, tmp_path / "shards", DataConfig(), hop_seconds=4.0, seed=0)
    assert not report.skipped and len(report.used) == 12
    by_person = {}
    for used in report.used:
        by_person.setdefault(used.patient, set()).add(used.split)
    assert set(by_person) == {"IMP0001", "IMP0002", "IMP0003"} and all(
        len(splits) == 1 for splits in by_person.values()
    )
    assert any("not labelled for sleep" in note for note in report.notes)


def test_the_source_s_manifest_tells_persons_and_splits(tmp_path):
    for i, name in enumerate(("x.edf", "y.edf")):
        put(tmp_path / "in" / name, i, code="same", seconds=20)
    (tmp_path / "in" / "manifest.csv").write_text("file,patient,split\nx.edf,one,train\ny.edf,two,test\n")
    written(tmp_path / "in", tmp_path / "out", copies=1)
    assert (tmp_path / "out" / "manifest.csv").read_text().split() == [
        "file,patient,split", "IMP0001_01.edf,IMP0001,train", "IMP0002_01.edf,IMP0002,test",
    ]  # fmt: skip


def test_stages_of_the_source_stay_and_nobody_else_has_some(tmp_path):
    stages = [Annotation(0.0, 30.0, "Sleep stage W"), Annotation(30.0, 30.0, "Sleep stage N2"),
              Annotation(5.0, 1.0, "Doctor Miller came in")]  # fmt: skip
    put(tmp_path / "in" / "x.edf", 0, annotations=stages, seconds=90)
    written(tmp_path / "in", tmp_path / "out", copies=1)
    copy = read_recording(tmp_path / "out" / "IMP0001_01.edf", ch_names=TEN_TWENTY, sfreq=DATA.sfreq)
    held = [(mark.onset_seconds, mark.text) for mark in copy.annotations if stage_of(mark.text)]
    assert held == [(0.0, "Sleep stage W"), (30.0, "Sleep stage N2")]
    assert not any("Miller" in mark.text for mark in copy.annotations)


# --- the same bytes -----------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_bytes_with_any_number_of_workers_and_after_a_stop(people, implants, tmp_path):
    cohort, _, _ = implant(people, tmp_path / "cut", ImplantConfig(copies=3))
    next(cohort)
    cohort.close()
    cohort, total, _ = implant(people, tmp_path / "cut", ImplantConfig(copies=3), workers=2)
    assert len(list(cohort)) == total == 12
    assert contents(tmp_path / "cut") == contents(implants)
    other = contents(written(people, tmp_path / "other", copies=3, seed=1))
    assert all(other[name] != content for name, content in contents(implants).items() if name.endswith(".edf"))


def test_copies_of_some_minutes_come_from_anywhere(people, tmp_path):
    out = written(people, tmp_path / "out", copies=2, minutes=0.5)
    rows = table(out / "patients.csv")
    assert {row["seconds"] for row in rows} == {"30"}
    starts = {float(row["from_seconds"]) for row in rows}
    assert len(starts) > 4 and min(starts) >= 0 and max(starts) <= 90


# --- what is refused ----------------------------------------------------------------------------------------


def run(*arguments):
    return tyro.cli(main, args=[str(argument) for argument in arguments])


def test_folders_that_are_of_no_use_are_refused_in_a_sentence(tmp_path, people):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.edf").write_bytes(b"0" * 3000)
    for folder, said in (
        ("nowhere", "no such folder"),
        ("empty", "no file ends in .edf"),
        ("broken", "no recording can be used"),
    ):
        with pytest.raises(SystemExit, match=f"error: .*{said}"):
            run(tmp_path / folder, tmp_path / "out")
    with pytest.raises(SystemExit, match="lies in"):
        run(people, people / "out")
    put(tmp_path / "theirs" / "x.edf", 0, seconds=20)
    with pytest.raises(SystemExit, match=r"without implants\.json"):
        run(people, tmp_path / "theirs")
    assert not (tmp_path / "out").exists() and sorted(p.name for p in (tmp_path / "theirs").iterdir()) == ["x.edf"]


@pytest.mark.parametrize("options", [{"copies": 0}, {"seed": -1}, {"minutes": 0.01}, {"minutes": float("nan")}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ImplantConfig(**options)


def test_recordings_with_discharges_and_damaged_ones_are_left_out_and_named(tmp_path, capsys):
    put(tmp_path / "in" / "good.edf", 0, seconds=20)
    put(tmp_path / "in" / "spikes.edf", 1, seconds=20, annotations=[Annotation(3.0, 0.1, "Spike F7")])
    put(tmp_path / "in" / "brief.edf", 2, seconds=5)
    (tmp_path / "in" / "torn.edf").write_bytes(b"0" * 3000)
    os.mkfifo(tmp_path / "in" / "pipe.edf")
    assert run(tmp_path / "in", tmp_path / "out", "--copies", 1) == SOME_FAILED
    said = capsys.readouterr()
    for name, why in (("spikes.edf", "1 marks that are or may be of discharges"), ("brief.edf", "10 s are needed"),
                      ("torn.edf", ""), ("pipe.edf", "")):  # fmt: skip
        assert f"{name} is left out: " in said.err and why in said.err
    assert "1 recordings with simulated events" in said.out
    assert json.loads((tmp_path / "out" / "implants.json").read_text())["copies"] == 1
    for name in ("spikes", "brief", "torn", "pipe"):
        (tmp_path / "in" / f"{name}.edf").unlink()
    assert run(tmp_path / "in", tmp_path / "again", "--copies", 1) == OK


def test_eegmat_s_people_are_told_apart(tmp_path):
    folder = Path(__file__).parents[2].parent / "shared" / "data" / "eegmat"
    if not folder.is_dir():
        pytest.skip(f"no recordings in {folder}")
    for name in ("Subject01_1.edf", "Subject01_2.edf", "Subject04_2.edf"):
        (tmp_path / name).symlink_to(folder / name)
    out = written(tmp_path, tmp_path.with_name("out"), copies=1, minutes=0.5)
    assert [row["patient"] for row in table(out / "patients.csv")] == ["IMP0001", "IMP0001", "IMP0002"]
