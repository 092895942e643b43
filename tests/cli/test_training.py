"""`siamese-jax train --init-from`: where the configuration comes from, and what a run starts with."""

import dataclasses
import json
from pathlib import Path
from unittest.mock import Mock

import chex
import jax
import numpy as np
import pytest

from siamese_jax import checkpoints
from siamese_jax.checkpoints import Description
from siamese_jax.cli import console, training
from siamese_jax.cli.main import command
from siamese_jax.config.presets import ECG, PAPER, PRESETS, SMALL, fine_tuning
from siamese_jax.locks import locked
from siamese_jax.training import processes
from siamese_jax.vocabulary import IED, SLEEP
from tests.identities import learnt_from
from tests.simulated_cohort import tiny_shards


@pytest.fixture
def checkpoint(tiny, tmp_path) -> Path:
    """A checkpoint's description, which is all that the parser needs."""
    frozen = dataclasses.replace(tiny, freeze=("stem",))
    checkpoints.write_description(tmp_path / "source", Description(frozen, (IED, SLEEP), learnt_from("SIMULATED")))
    return tmp_path / "source"


@pytest.fixture
def parsed(monkeypatch):
    """Of a command line: the configuration and the checkpoint that training would get."""

    def parse(line: str):
        given = []
        monkeypatch.setattr(training, "_train", lambda *arguments, **options: given.append((arguments, options)) or 0)
        assert command(line.split()) == console.OK
        (((shards, run, config, init_from, _), options),) = given
        assert (shards, run) == (Path("S"), Path("R"))
        return config, init_from, options

    return parse


def test_without_a_preset_the_configuration_is_the_checkpoint_s(parsed, checkpoint, tiny):
    config, init_from, _ = parsed(f"train S R --init-from {checkpoint}")
    assert (config, init_from) == (fine_tuning(tiny), checkpoint)
    for line in (
        f"train S R --init-from {checkpoint} --tasks sleep --training.steps 40 --devices 2 --freeze stem",
        f"train S R --tasks sleep --training.steps 40 --freeze stem --devices 2 --init-from={checkpoint}",
        f"train --init_from {checkpoint} --devices 2 S R --freeze stem --training.steps 40 --tasks sleep",
    ):
        config, init_from, options = parsed(line)
        steps = dataclasses.replace(fine_tuning(tiny).training, steps=40)
        assert config == dataclasses.replace(tiny, tasks=("sleep",), freeze=("stem",), training=steps)
        assert init_from == checkpoint and options["devices"] == 2


def test_flags_change_the_preset_that_is_named_or_the_small_one(parsed):
    assert parsed("train S R")[:2] == (SMALL, None)
    assert parsed("train S R --preset ecg")[0] == ECG
    assert parsed("train S R --preset ecg --tasks AF RBBB")[0].tasks == ("AF", "RBBB")
    assert parsed("train S R --model.width 0.5")[0].model.width == 0.5
    config, _, options = parsed("train --devices 2 S --preset=paper R")
    assert config == PAPER and options["devices"] == 2


def test_a_preset_that_is_named_counts(parsed, checkpoint):
    for line in (f"--preset small --init-from {checkpoint}", f"--init-from={checkpoint} --preset=small"):
        config, init_from, _ = parsed(f"train S R {line}")
        assert (config, init_from) == (SMALL, checkpoint)
    assert parsed(f"train S R --preset paper --init-from {checkpoint} --model.width 0.5")[0].model.width == 0.5


@pytest.mark.parametrize(
    ("flags", "place", "options"),
    [
        ("--cluster", (None, None, None), {"cluster": True, "lost_after_seconds": 60}),
        ("--process-id 0", (None, 0, None), {"cluster": False, "lost_after_seconds": 60}),
        (
            "--coordinator here:1 --process-id 1 --num-processes 2 --lost-after 7",
            ("here:1", 1, 2),
            {"cluster": False, "lost_after_seconds": 7},
        ),
    ],
)
def test_a_process_of_several_joins_as_it_was_told_and_knows_what_to_do_when_one_is_lost(
    monkeypatch, capsys, ended, flags, place, options
):
    joined = Mock(side_effect=ValueError("enough"))
    monkeypatch.setattr(processes, "join", joined)
    assert ended(lambda: command(f"train S R {flags}".split())) == console.NOT_ANALYSED
    joined.assert_called_once_with(*place, **options)
    printed = capsys.readouterr()
    assert printed.err == "error: enough\n"
    seconds = options["lost_after_seconds"]
    assert f"gives no sign of life for {seconds} s, JAX ends all others. Then start all processes again" in printed.out
    assert f"resumes from the last checkpoint in {Path('R/checkpoint')}" in printed.out


@pytest.fixture
def ended(monkeypatch):
    """The exit code of a process that ends past Python's own way out."""

    def leave(code):
        raise SystemExit(code)

    def code_of(work):
        with pytest.raises(SystemExit) as caught:
            work()
        return caught.value.code

    monkeypatch.setattr(training.os, "_exit", leave)
    return code_of


def fail(error: BaseException):
    raise error


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (RuntimeError("lost peer\nof JAX"), 75, "error: lost peer\nstart again\n"),
        (RuntimeError("RESOURCE_EXHAUSTED: 9 GB"), 1, "error: RESOURCE_EXHAUSTED: 9 GB\n"),
        (TimeoutError("barrier"), 75, "error: barrier\nstart again\n"),
        (  # a save's barrier, among others
            ValueError("UNKNOWN: Gloo AllGather failed: Connection reset by peer"),
            75,
            "error: UNKNOWN: Gloo AllGather failed: Connection reset by peer\nstart again\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted; the same commands resume\n"),
        (ValueError("--devices 9"), 3, "error: --devices 9\n"),
        (FloatingPointError("loss is nan"), 3, "error: loss is nan\n"),
    ],
)
def test_how_a_process_of_several_failed_is_its_exit_code_and_a_sentence(capsys, ended, error, code, printed):
    assert ended(lambda: training.as_one_of_several(lambda: fail(error), "start again")) == code
    assert capsys.readouterr() == ("start again\n", printed)


def test_a_mistake_of_ours_is_a_stack_trace(capsys, ended):
    assert ended(lambda: training.as_one_of_several(lambda: {}["missing"], "start again")) == 1
    assert "KeyError: 'missing'" in capsys.readouterr().err


def test_a_process_of_several_that_ends_well_takes_the_usual_way_out(ended):
    assert training.as_one_of_several(lambda: 5, "start again") == 5


def test_what_is_said_of_a_run_counts_devices_and_processes_and_no_pace_before_there_is_one(tiny):
    devices = [Mock(process_index=i // 2, platform="gpu") for i in range(4)]
    assert " 4 gpu device(s) of 2 processes by " in training.training_text(tiny, 3, devices)
    assert " 2 gpu device(s) by " in training.training_text(tiny, 3, devices[:2])
    line = {"loss": 1.5, "loss/ied": 0.5, "loss/sleep": 1.0, "windows_per_second": float("nan")}
    assert training.step_text(3, line, tiny) == "step 3: loss 1.500 (ied 0.500, sleep 1.000)"
    assert training.step_text(4, line | {"windows_per_second": 99.6}, tiny).endswith("1.000), 100 windows/s")


@pytest.mark.parametrize("preset", PRESETS)
def test_fine_tuning_keeps_what_is_learnt_from_and_trains_with_care(preset):
    freeze = ("stem",) if PRESETS[preset].model.has_branches else ()
    before = dataclasses.replace(PRESETS[preset], freeze=freeze)
    after = fine_tuning(before)
    assert dataclasses.replace(after, freeze=before.freeze, training=before.training) == before
    assert after.training.learning_rate == before.training.learning_rate / 10 and after.training.steps == 300
    assert after.freeze == ()
    assert fine_tuning(after) == after  # a second time starts as carefully as the first, not ten times slower


def test_help_shows_the_checkpoint_s_values_at_once(checkpoint, capsys):
    with pytest.raises(SystemExit) as caught:
        command(["train", "S", "R", "--init-from", str(checkpoint), "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert caught.value.code == 0
    assert "(default: F3 F4 C3 C4 Cz)" in said and "--training.steps INT (default: 300)" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a checkpoint: it has no config.json"),
        ("{", "is not JSON"),
        ("[]", "has another format"),
    ],
)
def test_what_is_no_checkpoint_is_one_sentence(tmp_path, capsys, content, message):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(SystemExit) as caught:
        console.run(lambda: command(["train", "S", "R", "--init-from", str(tmp_path)]))
    said = capsys.readouterr().err
    assert caught.value.code == console.NOT_ANALYSED
    assert said.startswith("error: ") and message in said and said.count("\n") == 1


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return tiny_shards(tmp_path_factory.mktemp("cohort"))


def test_a_run_starts_from_the_checkpoint_keeps_what_is_frozen_and_says_both(shards, tiny, tmp_path, capsys):
    training.train(shards, tmp_path / "first", tiny, devices=1)
    source = tmp_path / "first" / "checkpoint"
    identity = json.loads((source / "identity.json").read_text())
    identity["runs"][0]["training"] |= {"sources": ["another lab"]}
    (source / "identity.json").write_text(json.dumps(identity))
    capsys.readouterr()
    line = ["train", str(shards), str(tmp_path / "second"), "--init-from", str(source), "--tasks", "sleep", "--freeze"]
    line += ["stem", "--training.steps", "3", "--training.warmup-steps", "0", "--devices", "1"]
    assert command(line) == console.OK
    said = capsys.readouterr().out
    assert (
        "start     step 8 of a model trained on: another lab; parameters:\n  stem          146 restored, frozen" in said
    )
    assert "head_sleep    125 restored" in said and "left out  head_ied" in said
    assert said.index("restored") < said.index("step 3 of 3: finished")
    before, after = checkpoints.load(source), checkpoints.load(tmp_path / "second" / "checkpoint")
    assert after.trained_on == ("another lab", "recordings")
    for collection in ("params", "batch_stats"):
        old, new = before.variables[collection], after.variables[collection]
        chex.assert_trees_all_close(new["shared_0"], old["shared_0"], rtol=1e-6)  # an average of equal numbers
        far = jax.tree.map(lambda a, b: np.abs(a - b).max() / np.abs(a).max(), old["sleep_1"], new["sleep_1"])
        assert 0 < max(jax.tree.leaves(far)) < 0.5  # trained, but from there

    assert command(line) == console.OK
    said = capsys.readouterr().out
    assert "start     resumes from step 3" in said and "restored" not in said
    chex.assert_trees_all_equal(checkpoints.load(tmp_path / "second" / "checkpoint").variables, after.variables)
    alone = [word for word in line if word not in ("--init-from", str(source))]
    with pytest.raises(ValueError, match=r"holds a run with another configuration: .*there"):
        command(alone)
    elsewhere = [str(tmp_path / "third") if word == str(tmp_path / "second") else word for word in line]
    with pytest.raises(ValueError, match=r"do not fit this network: model.width: 0.34 there, 1.0 given"):
        command([*elsewhere, "--model.width", "1"])
    assert [path.name for path in (tmp_path / "third").iterdir()] == [".lock"]  # the corrected command may use it


def test_a_second_run_in_the_same_folder_is_refused(shards, tiny, tmp_path):
    with locked(tmp_path / "run"), pytest.raises(ValueError, match="run: another process is writing there"):
        training.train(shards, tmp_path / "run", tiny, devices=1)
    assert not (tmp_path / "run" / "checkpoint").exists()
