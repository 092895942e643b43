"""An archive of recordings: what is done, what is kept, and that the results do not depend on who did the work."""

import csv
import dataclasses
import hashlib
import json
import multiprocessing
import os
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from siamese_jax import checkpoints
from siamese_jax.checkpoints import Checkpoint
from siamese_jax.detection.analysis import analyse, model_digest, plan_analysis
from siamese_jax.detection.archive import (
    SUMMARY_COLUMNS,
    Result,
    detect_each,
    find_jobs,
    refused,
    standing,
    write_summary,
)
from siamese_jax.pipeline import initialise
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.vocabulary import IED, SLEEP
from tests.conftest import CH_NAMES
from tests.identities import learnt_from, thresholds_of

N_FILES = 6
BROKEN = "b/broken.edf"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Recordings of 40 s in two folders, one of them cut inside its header."""
    folder = tmp_path_factory.mktemp("archive")
    for i in range(N_FILES):
        path = folder / "ab"[i % 2] / f"night{i}.edf"
        path.parent.mkdir(exist_ok=True)
        eeg = np.random.default_rng(i).normal(0, 30, (4000, len(CH_NAMES))).astype(np.float32)
        write_recording(path, eeg, sfreq=100.0, ch_names=CH_NAMES)
    whole = (folder / "a" / "night0.edf").read_bytes()
    (folder / BROKEN).write_bytes(whole[:300])
    return folder


@pytest.fixture
def model(tiny, tmp_path):
    return made(tiny, tmp_path / "model")


def made(config, folder, *, seed=0, tasks=(IED, SLEEP)) -> Checkpoint:
    """A bundle with random parameters."""
    config = dataclasses.replace(config, tasks=tuple(task.name for task in tasks))
    variables = initialise(config, tasks, jax.random.key(seed))
    checkpoints.write(folder, Checkpoint(config, tasks, variables, 7, learnt_from("nothing")))
    return checkpoints.load(folder)


def plan(folder, model, **changes):
    return plan_analysis(model, **({"threshold": 0.3, "hop_seconds": 1.0, "units": {}} | changes))


def run_all(archive, out, analysis, **options) -> list[Result]:
    """As the command does: what is finished is kept, the rest is done, the summary written."""
    found = [standing(job, analysis) for job in find_jobs([archive], out)]
    results = [one for one in found if one.record is not None]
    results += detect_each([one.job for one in found if one.record is None], analysis, **options)
    write_summary(out, results)
    return results


def content(folder) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# --- which ------------------------------------------------------------------------------------------------------


def test_results_lie_as_the_recordings_do(archive, tmp_path):
    jobs = find_jobs([archive, archive / "a" / "night0.edf"], tmp_path / "out")
    assert [job.name for job in jobs] == sorted(job.name for job in jobs)
    assert {job.name: job.folder for job in jobs} == {
        **{f"a/night{i}.edf": tmp_path / "out" / "a" for i in (0, 2, 4)},
        **{f"b/night{i}.edf": tmp_path / "out" / "b" for i in (1, 3, 5)},
        BROKEN: tmp_path / "out" / "b",
        "night0.edf": tmp_path / "out",  # a file given by name
    }
    assert all(job.file == archive / job.name for job in jobs if "/" in job.name)


def test_neither_results_nor_companions_are_recordings(tmp_path):
    for name in (
        *("night.edf", "night_run.json", "night_detected.edf", "night_annotated.edf"),
        *("day.BDF", "day_annotations.edf", "mine_annotated.edf"),
        *("out/night_annotated.edf", "out/other.edf"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = {job.name for job in find_jobs([tmp_path], tmp_path / "out")}
    assert found == {"night.edf", "day.BDF", "mine_annotated.edf"}  # that one is nobody's result
    assert {job.name for job in find_jobs([tmp_path], tmp_path)} == found | {"out/other.edf", "out/night_annotated.edf"}


def test_results_that_would_overwrite_one_another_are_refused(tmp_path):
    for name in ("a/night.edf", "b/night.edf", "a/night.bdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    jobs = find_jobs([tmp_path], tmp_path / "out")
    assert {job.name for job in jobs} == {"a/night.edf", "b/night.edf", "a/night.bdf"}
    why = {job.name: text for job, text in refused(jobs).items()}
    assert set(why) == {"a/night.edf", "a/night.bdf"}  # these two alone
    assert why["a/night.edf"].startswith(f"its results would overwrite those of {tmp_path / 'a/night.bdf'}: rename it")
    jobs = find_jobs([tmp_path / "a/night.edf", tmp_path / "b"], tmp_path / "out")
    assert set(refused(jobs)) == set(jobs)


def test_nothing_to_analyse_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="give at least one file or folder"):
        find_jobs([], tmp_path)
    gone = tmp_path / "nonesuch"
    with pytest.raises(ValueError, match=re.escape(f"no such file or folder: {gone}")):
        find_jobs([gone, tmp_path], tmp_path / "out")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}: nothing to analyse (no file ends in .edf, .bdf, ")):
        find_jobs([tmp_path], tmp_path / "out")


# --- how --------------------------------------------------------------------------------------------------------


def test_the_analysis_is_checked_before_any_recording_is_read(model, tmp_path):
    for threshold in (0.0, 1.0, -0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="threshold must be a probability between 0 and 1, given"):
            plan(tmp_path, model, threshold=threshold)
    for hop in (0.001, 0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"the hop of {hop} s is not a whole number of"):
            plan(tmp_path, model, hop_seconds=hop)
    stages = model._replace(config=dataclasses.replace(model.config, tasks=("sleep",)))
    with pytest.raises(ValueError, match="knows stages and no events: it takes no threshold"):
        plan(tmp_path, stages)
    assert plan(tmp_path, stages, threshold=None).settings["threshold"] is None


def test_a_model_s_digest_tells_its_content_and_nothing_else(tiny, tmp_path, model):
    again = made(tiny, tmp_path / "again")
    assert model_digest(again._replace(thresholds=thresholds_of([]), step=9)) == model_digest(model)
    moved = jax.tree.map(np.array, model.variables)
    leaf = jax.tree.leaves(moved)[0]
    leaf.flat[0] = np.nextafter(leaf.flat[0], np.float32(9))
    other_band = dataclasses.replace(tiny.preprocess, eeg_band_hz=(1.0, 29.0))
    others = [
        made(tiny, tmp_path / "seed", seed=1),
        model._replace(variables=moved),
        model._replace(config=dataclasses.replace(model.config, preprocess=other_band)),
        model._replace(tasks=(SLEEP, IED)),
    ]
    assert len({model_digest(one) for one in [model, *others]}) == 5


# --- what is kept -------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(archive, model, tmp_path):
    """One recording, analysed: its job, the analysis, the model."""
    file = shutil.copy2(archive / "a" / "night0.edf", tmp_path / "night.edf")
    (job,) = find_jobs([Path(file)], tmp_path / "out")
    analysis = plan(tmp_path / "model", model)
    assert standing(job, analysis) == (job, None, "")  # never done
    analyse(job.file, job.folder, analysis, model)
    return job, analysis, model


def test_a_finished_recording_is_kept_whatever_its_date(finished):
    job, analysis, _ = finished
    record = standing(job, analysis).record
    assert record["recording"]["sha256"] == hashlib.sha256(job.file.read_bytes()).hexdigest()
    assert sorted(record["files"]) == sorted(p.name for p in job.folder.iterdir() if not p.name.endswith("_run.json"))
    os.utime(job.file, ns=(1, 1))
    assert standing(job, analysis).record == record


def test_another_recording_of_the_same_size_is_analysed_again(finished):
    job, analysis, _ = finished
    changed = bytearray(job.file.read_bytes())
    changed[-1] ^= 1
    job.file.write_bytes(changed)
    os.utime(job.file, ns=(1, 1))
    assert standing(job, analysis) == (job, None, "the recording is another")
    job.file.unlink()
    assert standing(job, analysis).record is None  # reading it will say why


def test_another_model_or_setting_is_named(finished, tiny, tmp_path):
    job, analysis, model = finished
    for changes, said in (
        ({"threshold": 0.4}, "threshold was 0.3, is 0.4"),
        ({"threshold": None}, "threshold was 0.3, is 0.5"),
        ({"hop_seconds": 0.5}, "hop_seconds was 1.0, is 0.5"),
        ({"units": {"*": "uV"}}, "units was {}, is {'*': 'uV'}"),
    ):
        assert standing(job, plan(tmp_path / "model", model, **changes)).why == said
    other = made(tiny, tmp_path / "other", seed=1)
    said = standing(job, plan(tmp_path / "other", other)).why
    assert said == f"model_sha256 was {analysis.digest}, is {model_digest(other)}"
    newer = dataclasses.replace(analysis, settings=analysis.settings | {"jax": "99"})
    assert re.fullmatch(r"jax was [\d.]+, is 99", standing(job, newer).why)


def test_results_that_are_not_whole_are_made_again(finished):
    job, analysis, model = finished
    run = job.folder / "night_run.json"
    whole = run.read_text()
    record = json.loads(whole)
    damaged = "its run record is damaged, or of an older version"
    older = json.dumps(record | {"files": list(record["files"])})
    lacking = [json.dumps({k: v for k, v in record.items() if k != name}) for name in ("settings", "files", "warnings")]
    for text in (whole[:100], "[]", "7", json.dumps(record | {"events_by_stage": [1]}), older, *lacking):
        run.write_text(text)
        assert standing(job, analysis) == (job, None, damaged), text
    run.write_text(whole)
    (job.folder / "night_events.csv").unlink()
    assert standing(job, analysis) == (job, None, "not all results are there")
    analyse(job.file, job.folder, analysis, model)
    assert standing(job, analysis).record is not None


def test_an_interrupted_detection_leaves_the_older_results_as_they_were(finished, monkeypatch):
    """Killed while it writes with another threshold; then the first threshold is asked for again."""
    job, analysis, model = finished
    higher, before = plan(analysis.checkpoint, model, threshold=0.9), content(job.folder)

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("siamese_jax.detection.results.write_annotations", killed)
    with pytest.raises(KeyboardInterrupt):
        analyse(job.file, job.folder, higher, model)
    assert standing(job, analysis).record is not None and content(job.folder) == before
    assert standing(job, higher).why == "threshold was 0.3, is 0.9"


# --- who does the work --------------------------------------------------------------------------------------------


def test_results_are_the_same_bytes_whoever_did_the_work(archive, tiny, tmp_path):
    """One process; two, which are killed; one that is resumed, where a result was lost."""
    model = made(tiny, tmp_path / "model")
    analysis = plan(tmp_path / "model", model)
    alone = run_all(archive, tmp_path / "alone", analysis)
    assert {result.job.name for result in alone if result.record is None} == {BROKEN}

    retried = []
    found = [standing(job, analysis) for job in find_jobs([archive], tmp_path / "two")]
    results = []
    outcomes = detect_each(
        [one.job for one in found], analysis, workers=2, on_retry=lambda job, why: retried.append((job.name, why))
    )
    for result in outcomes:
        if not results:  # one of them at least is at work
            for process in multiprocessing.active_children():
                process.kill()
        results.append(result)
    write_summary(tmp_path / "two", results)
    assert content(tmp_path / "two") == content(tmp_path / "alone")
    assert {why for _, why in retried} == {"its worker was lost"}

    (tmp_path / "two" / "a" / "night2_hypnogram.csv").unlink()
    (tmp_path / "two" / "summary.csv").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "two").rglob("*_run.json")}
    run_all(archive, tmp_path / "two", analysis)
    assert [path.name for path, then in before.items() if path.stat().st_mtime_ns != then] == ["night2_run.json"]
    assert content(tmp_path / "two") == content(tmp_path / "alone")


def test_a_model_that_changes_under_way_is_used_by_nobody(archive, tiny, tmp_path):
    analysis = plan(tmp_path / "model", made(tiny, tmp_path / "model"))
    shutil.rmtree(tmp_path / "model")
    made(tiny, tmp_path / "model", seed=1)
    (result,) = detect_each(find_jobs([archive / "a" / "night0.edf"], tmp_path / "out"), analysis)
    assert result.why.startswith("RuntimeError: the checkpoint has changed since the command began")
    assert not (tmp_path / "out").exists()


# --- the summary ----------------------------------------------------------------------------------------------


def test_the_summary_tells_of_each_file(archive, model, tmp_path):
    analysis = plan(tmp_path / "model", model)
    results = run_all(archive, tmp_path / "out", analysis)
    with (tmp_path / "out" / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == sorted(result.job.name for result in results)
    for row in rows:
        if row["file"] == BROKEN:
            assert row["status"] == "failed" and row["note"].startswith("broken.edf is cut inside its header")
            assert str(archive) not in row["note"]
            assert set(list(row.values())[3:]) == {""}
            continue
        stem = tmp_path / "out" / Path(row["file"]).with_suffix("")
        with Path(f"{stem}_events.csv").open(newline="") as file:
            events = list(csv.DictReader(file))
        with Path(f"{stem}_hypnogram.csv").open(newline="") as file:
            stages = [epoch["stage"] for epoch in csv.DictReader(file)]
        assert row["status"] == "ok" and int(row["ieds"]) == len(events)
        assert row["minutes"] == f"{40 / 60:.2f}"
        np.testing.assert_allclose(float(row["ieds_per_hour"]), len(events) * 90, atol=0.01)
        for stage in SLEEP.classes:
            assert int(row[f"ieds_{stage}"]) == sum(event["stage"] == stage for event in events)
            assert (float(row[f"minutes_{stage}"]) > 0) == (stage in stages)
            assert (row[f"ieds_per_hour_{stage}"] == "") == (stage not in stages)
        assert (row["threshold"], row["model_sha256"]) == ("0.3", analysis.digest)


def test_a_recording_that_goes_is_told_once_and_without_a_path_of_this_machine(model, tmp_path):
    (tmp_path / "gone.edf").touch()
    jobs, again = find_jobs([tmp_path / "gone.edf"], tmp_path / "out"), []
    (tmp_path / "gone.edf").unlink()
    analysis = plan(tmp_path / "model", model)
    (result,) = detect_each(jobs, analysis, on_retry=lambda job, why: again.append(job))
    assert (result.why, again) == ("gone.edf cannot be opened: no such file or directory", [])


def test_a_model_without_stages_leaves_their_columns_empty(archive, tiny, tmp_path):
    single = dataclasses.replace(tiny, tasks=("ied",), model=dataclasses.replace(tiny.model, fusion="none"))
    model = made(single, tmp_path / "model", tasks=(IED,))
    (result,) = run_all(archive / "a" / "night0.edf", tmp_path / "out", plan(tmp_path / "model", model))
    with (tmp_path / "out" / "summary.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    staged = [name for name in SUMMARY_COLUMNS if name.endswith(tuple(f"_{stage}" for stage in SLEEP.classes))]
    assert len(staged) == 15 and {row[name] for name in staged} == {""}
    assert row["ieds"] == str(result.record["events_by_stage"][-1]["events"])


def test_what_is_in_doubt_about_a_recording_stands_in_its_row(model, tmp_path):
    eeg = np.random.default_rng(0).normal(0, 30, (1000, 4)).astype(np.float32)
    write_recording(tmp_path / "short.edf", eeg, sfreq=100.0, ch_names=CH_NAMES[:4])
    whole = (tmp_path / "short.edf").read_bytes()
    (tmp_path / "short.edf").write_bytes(whole[:-100])
    run_all(tmp_path / "short.edf", tmp_path / "out", plan(tmp_path / "model", model))
    with (tmp_path / "out" / "summary.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["status"] == "ok" and "lacks Cz" in row["note"] and "cut short" in row["note"]
