"""Life cycle of a run: stopping, resuming, failing, logging."""

import dataclasses
import json
import signal
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from siamese_jax import checkpoints
from siamese_jax.shards.batches import task_specs
from siamese_jax.shards.schema import open_shards
from siamese_jax.training import loop
from siamese_jax.training.loop import train
from siamese_jax.training.step import create_state
from siamese_jax.vocabulary import SLEEP
from tests.identities import learnt_from
from tests.simulated_cohort import tiny_shards

DEVICES = jax.devices()[:2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_shards(tmp_path_factory.mktemp("cohort"))


@pytest.fixture
def run(folder, tiny):
    def go(workdir, config=tiny, **options):
        training, validation = (tuple(open_shards(folder / split)) for split in ("train", "validation"))
        return train(config, training, validation, workdir, devices=DEVICES, **options)

    return go


def final_state(workdir, config):
    folder = workdir / "checkpoint"
    tasks = checkpoints.read_description(folder).tasks
    with checkpoints.open_manager(folder) as manager:
        return manager.latest_step(), jax.device_get(checkpoints.restore_state(manager, create_state(config, tasks)))


def lines(workdir):
    return [json.loads(line) for line in (workdir / "training.jsonl").read_text().splitlines()]


def test_stop_and_resume_equals_one_go_bit_for_bit(run, tiny, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(whole).finished
    before = signal.getsignal(signal.SIGTERM)
    assert not run(parts, stop_at=3).finished  # not a step at which a checkpoint was due
    assert final_state(parts, tiny)[0] == 3 and signal.getsignal(signal.SIGTERM) is before
    assert run(parts).finished
    (step, a), (_, b) = final_state(whole, tiny), final_state(parts, tiny)
    assert step == 8
    chex.assert_trees_all_equal(a, b)
    numbers = lines(whole)
    assert lines(parts) == numbers
    assert [line["step"] for line in numbers if "loss" in line] == list(range(1, 9))
    assert [line["step"] for line in numbers if "validation/ied/auroc" in line] == [4, 8]


def test_what_is_watched_and_handed_on_is_the_average(run, tiny, tmp_path, monkeypatch):
    watched = []

    def window_scores(config, tasks, variables, shards):
        watched.append(jax.device_get(variables))
        return {}

    monkeypatch.setattr(loop, "window_scores", window_scores)
    run(tmp_path)
    _, state = final_state(tmp_path, tiny)
    chex.assert_trees_all_equal(checkpoints.load(tmp_path / "checkpoint").variables, state.ema)
    chex.assert_trees_all_equal(watched[-1], state.ema)


def without_labels(shards, *tasks):
    """As of recordings that nobody looked through for these tasks."""
    none = [{task: np.zeros_like(shard.weights[task]) for task in tasks} for shard in shards]
    return tuple(dataclasses.replace(s, weights=s.weights | w) for s, w in zip(shards, none, strict=True))


def test_missing_labels_are_named_before_the_first_step_and_end_nothing(folder, tiny, tmp_path, monkeypatch):
    watched, said = [], []
    monkeypatch.setattr(loop, "window_scores", lambda config, tasks, variables, shards: watched.append(shards) or {})
    training, validation = (tuple(open_shards(folder / split)) for split in ("train", "validation"))
    options = {"devices": DEVICES, "on_start": said.append}
    assert train(tiny, training, without_labels(validation, "ied"), tmp_path / "a", **options).finished
    assert "no window for validation has a label for ied: no figures of it along the way" in said[0]
    assert "for sleep" not in said[0] and len(watched) == 2
    assert train(tiny, training, without_labels(validation, "ied", "sleep"), tmp_path / "b", **options).finished
    assert "for sleep: no figures" in said[1] and len(watched) == 2
    train(tiny, without_labels(training, "sleep"), (), tmp_path / "c", stop_at=1, **options)
    assert "no window for training has a label for sleep: its head learns nothing" in said[2]


def test_validation_shards_that_do_not_fit_are_refused_before_anything_is_written(folder, tiny, tmp_path):
    training, validation = (tuple(open_shards(folder / split)) for split in ("train", "validation"))
    other = tuple(dataclasses.replace(s, info=dataclasses.replace(s.info, sfreq=50.0)) for s in validation)
    with pytest.raises(ValueError, match=r"holds windows of 2 s at 50 Hz"):
        train(tiny, training, other, tmp_path / "run", devices=DEVICES)
    task = dataclasses.replace(SLEEP, classes=("W", "N1", "N2", "R", "N3"))
    tasks = tuple(task if t.name == "sleep" else t for t in training[0].info.tasks)
    other = tuple(dataclasses.replace(s, info=dataclasses.replace(s.info, tasks=tasks)) for s in validation)
    with pytest.raises(ValueError, match=r"the tasks of .*validation are defined otherwise than those of .*train"):
        train(tiny, training, other, tmp_path / "run", devices=DEVICES)
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_killed_between_state_and_parameters_puts_them_in_step(run, tiny, tmp_path, monkeypatch):
    def killed(folder, variables, step):
        raise KeyboardInterrupt

    run(tmp_path, stop_at=3)
    folder, write = tmp_path / "checkpoint", checkpoints.write_parameters
    before = checkpoints.load(folder)
    monkeypatch.setattr(
        checkpoints, "write_parameters", lambda f, v, step: write(f, v, step) if step == 3 else killed(f, v, step)
    )
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.setattr(checkpoints, "write_parameters", write)
    assert checkpoints.load(folder).step == 3
    chex.assert_trees_all_equal(checkpoints.load(folder).variables, before.variables)
    run(tmp_path, stop_at=4)  # there is nothing to do but this
    assert checkpoints.load(folder).step == 4
    chex.assert_trees_all_equal(checkpoints.load(folder).variables, final_state(tmp_path, tiny)[1].ema)


def test_a_checkpoint_can_be_started_from_twice(run, tiny, tmp_path):
    run(tmp_path / "a", stop_at=1)
    source = checkpoints.load(tmp_path / "a" / "checkpoint")
    for name in ("b", "c"):
        run(tmp_path / name, init_from=source, allow_training_patients=True, stop_at=1)
    assert lines(tmp_path / "b") == lines(tmp_path / "c")


def test_state_depends_on_the_seed(run, tiny, with_training, tmp_path):
    other = with_training(seed=1)
    run(tmp_path / "a")
    run(tmp_path / "b", config=other)
    a, b = final_state(tmp_path / "a", tiny)[1], final_state(tmp_path / "b", other)[1]
    assert any(not np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a.ema), jax.tree.leaves(b.ema), strict=True))


def test_lines_after_the_checkpoint_are_dropped_on_resume(run, tiny, tmp_path):
    run(tmp_path, stop_at=4)
    log = tmp_path / "training.jsonl"
    with log.open("a") as file:  # as a run that was killed at step 6 leaves it
        file.write('{"step": 5, "loss": 9.0}\n{"step": 6, "lo')
    run(tmp_path)
    steps = [line["step"] for line in lines(tmp_path) if "loss" in line]
    assert steps == list(range(1, 9)) and 9.0 not in [line.get("loss") for line in lines(tmp_path)]


def test_a_finished_run_does_nothing_more(run, tiny, tmp_path):
    run(tmp_path)
    before = final_state(tmp_path, tiny)
    outcome = run(tmp_path)
    assert outcome.finished and outcome.step == 8
    chex.assert_trees_all_equal(before, final_state(tmp_path, tiny))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(run, tiny, tmp_path):
    run(tmp_path, stop_at=2)
    good = final_state(tmp_path, tiny)
    folder = tmp_path / "checkpoint"
    tasks = checkpoints.read_description(folder).tasks
    with checkpoints.open_manager(folder) as manager:
        state = checkpoints.restore_state(manager, create_state(tiny, tasks))
        broken = jax.tree.map(lambda x: x * np.float32(np.nan), state.variables)
        checkpoints.save_state(manager, 3, state._replace(step=state.step + 1, variables=broken))
    with pytest.raises(FloatingPointError, match=r"training step 4: loss is nan; stopped"):
        run(tmp_path)
    with checkpoints.open_manager(folder) as manager:
        assert manager.all_steps() == [2, 3]  # nothing was saved after the fault, though it was due
        manager.delete(3)
    chex.assert_trees_all_equal(good, final_state(tmp_path, tiny))


def test_another_configuration_is_refused_naming_the_fields_that_differ(run, tiny, with_training, tmp_path):
    run(tmp_path, stop_at=1)
    with pytest.raises(ValueError, match=r"training.learning_rate: 0.003 there, 0.001 given"):
        run(tmp_path, config=with_training(learning_rate=1e-3))
    other = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, fusion="gated"))
    with pytest.raises(ValueError, match=r"model.fusion: 'concat' there, 'gated' given"):
        run(tmp_path, config=other)
    assert run(tmp_path, config=with_training(parallel="shard_map"), stop_at=2).step == 2


def test_all_look_at_the_folder_before_the_first_process_writes_and_write_before_anyone_goes_on(
    run, tiny, with_training, tmp_path, monkeypatch
):
    met = []

    def wait_for_all(where):
        met.append((where, (tmp_path / "run/checkpoint/config.json").exists()))

    monkeypatch.setattr(loop, "wait_for_all", wait_for_all)
    monkeypatch.setattr(loop, "is_first", lambda: False)
    with pytest.raises(ValueError, match="is not a checkpoint: it has no config.json"):
        run(tmp_path / "run", stop_at=0, profile=True)  # nobody wrote: the folder is not one that all processes see
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert met == [("description checked", False), ("description written", False)]
    monkeypatch.setattr(loop, "is_first", lambda: True)
    run(tmp_path / "run", stop_at=1)
    assert met[2:] == [("description checked", False), ("description written", True)]
    with pytest.raises(ValueError, match="another configuration"):
        run(tmp_path / "run", config=with_training(seed=1))
    assert len(met) == 4  # who finds another run there ends before anybody waits for it


def test_a_folder_in_which_nothing_was_saved_belongs_to_nobody(run, folder, tiny, with_training, tmp_path):
    """As after a first step that ran out of memory: a smaller batch may try again."""
    larger = with_training(batch_size=2 * tiny.training.batch_size)
    tasks = tuple(task_specs(tuple(open_shards(folder / "train")), larger))
    description = checkpoints.Description(larger, tasks, learnt_from("elsewhere"))
    checkpoints.write_description(tmp_path / "checkpoint", description)
    assert run(tmp_path, stop_at=1).step == 1
    assert checkpoints.read_description(tmp_path / "checkpoint").config == tiny


def test_other_devices_see_the_same_batches_and_draws(folder, tiny, tmp_path):
    training = tuple(open_shards(folder / "train"))
    losses = []
    for n in (1, 2):
        train(tiny, training, (), tmp_path / str(n), devices=jax.devices()[:n], stop_at=3)
        losses.append([line["loss"] for line in lines(tmp_path / str(n))])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_shards_that_make_no_row_are_left_out_and_named_or_refused(folder, tiny, tmp_path):
    """With one electrode there is no average reference: the network would learn from zeros."""

    def with_one_electrode(shard):
        shard.recordings["present"] = np.arange(shard.recordings["present"].shape[1])[None] == 2
        return shard

    training, said, first = tuple(open_shards(folder / "train")), [], tuple(open_shards(folder / "train"))
    some = (with_one_electrode(training[0]), *training[1:])
    train(tiny, some, (), tmp_path / "some", devices=DEVICES, stop_at=2, on_start=said.append)
    assert f"left out  {training[0].path.name}: of their electrodes not one row of the montage (average)" in said[0]
    train(tiny, first[1:], (), tmp_path / "without", devices=DEVICES, stop_at=2)
    assert lines(tmp_path / "some") == lines(tmp_path / "without")
    with pytest.raises(ValueError, match=r"not one row of the montage \(average\) can be made; choose another"):
        train(tiny, tuple(map(with_one_electrode, training)), (), tmp_path / "none", devices=DEVICES)


def test_sigterm_saves_and_ends_cleanly(run, tiny, tmp_path):
    def stop(step, line):
        if step == 3:
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("the run left SIGTERM to others"))
    try:
        outcome = run(tmp_path, on_step=stop)
    finally:
        signal.signal(signal.SIGTERM, before)
    step, state = final_state(tmp_path, tiny)
    assert not outcome.finished and step == outcome.step == int(state.step) == lines(tmp_path)[-1]["step"]
    assert 3 <= step < 8
