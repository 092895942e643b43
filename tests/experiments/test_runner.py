"""A job is done once, whole or not at all, and again when what decides its answer changes."""

import json

import numpy as np
import pytest

from experiments import runner as module
from experiments.runner import Job, Runner
from siamese_jax.locks import locked

CODE = ("experiments/runner.py",)


def job(done, decides=1, name="double", code=CODE):
    def work(folder):
        done.append(name)
        return {"answer": np.array([2.0 * decides]), "names": np.array(["a", "bc"])}

    return Job(name, decides, code, work)


def silent(out):
    return Runner(out, say=lambda text: None)


def test_a_job_is_done_once_and_read_from_then_on(tmp_path):
    done, runner = [], silent(tmp_path)
    assert not runner.is_done(job(done))
    first, second = runner.do(job(done)), silent(tmp_path).do(job(done, name="another name"))
    assert done == ["double"] and runner.is_done(job(done))
    for found in (first, second):
        assert found.answer["answer"].tolist() == [2.0] and found.answer["names"].tolist() == ["a", "bc"]
        assert found.folder == tmp_path / "jobs" / job(done).key
    assert first[2:] == second[2:] and first.wall_seconds >= 0 and first.cpu_seconds >= 0
    (line,) = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert (line["job"], line["folder"]) == ("double", first.folder.name)


def test_what_decides_the_answer_makes_another_job_and_a_name_does_not(monkeypatch):
    keys = [job([], d).key for d in (1, 2, [1], {"a": 1})] + [job([], code=("experiments/pages.py",)).key]
    assert len(set(keys)) == len(keys) and job([], name="another").key == keys[0]
    monkeypatch.setattr(module, "_version", lambda places: "changed")
    assert job([]).key != keys[0]


def test_a_job_that_was_cut_short_resumes_in_its_folder_and_leaves_no_answer(tmp_path):
    def work(folder):
        saved = folder / "checkpoint"
        if not saved.exists():
            saved.write_text("half")
            raise KeyboardInterrupt
        return {"text": np.array(saved.read_text())}

    cut, runner = Job("cut", 0, CODE, work), silent(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        runner.do(cut)
    assert not runner.is_done(cut) and not (tmp_path / "log.jsonl").exists()
    assert str(runner.do(cut).answer["text"]) == "half"


def test_an_answer_that_is_cut_short_while_it_is_written_is_none(tmp_path, monkeypatch):
    done, runner = [], silent(tmp_path)

    def full_disk(file, **arrays):
        file.write(b"half")
        raise OSError("no space left")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="no space left"):
        patched.setattr(np, "savez", full_disk)
        runner.do(job(done))
    assert not runner.is_done(job(done))
    assert runner.do(job(done)).answer["answer"].tolist() == [2.0]


def test_two_processes_never_work_at_the_same_job(tmp_path):
    done = []
    with locked(tmp_path / "jobs" / job(done).key), pytest.raises(ValueError, match="another process is writing there"):
        silent(tmp_path).do(job(done))
    assert not done


def test_of_many_jobs_each_is_done_once_and_counted(tmp_path):
    done, told = [], []
    silent(tmp_path).do(job(done, 1, "one"))
    jobs = [job(done, d, name) for d, name in ((2, "two"), (1, "one"), (2, "two"), (3, "three"))]
    found = Runner(tmp_path, told.append).do_all(jobs)
    assert [float(one.answer["answer"][0]) for one in found] == [4, 2, 4, 6] and done == ["one", "two", "three"]
    assert told[0] == f"3 jobs: 1 done before, 2 to do, in {tmp_path}"
    assert [text.split(":")[0] for text in told[1:]] == ["1/2 two", "2/2 three"] and told[-1].endswith("0 min left")


def test_processes_that_a_job_starts_count_towards_its_seconds(tmp_path):
    import subprocess
    import sys

    def work(folder):
        subprocess.run([sys.executable, "-c", "sum(range(10_000_000))"], check=True)
        return {}

    assert silent(tmp_path).do(Job("child", 0, CODE, work)).cpu_seconds > 0.1
