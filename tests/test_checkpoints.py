"""Checkpoints: what comes back is what went in, and what does not fit is refused by name."""

import dataclasses
import json

import chex
import jax
import numpy as np
import pytest

from siamese_jax import checkpoints
from siamese_jax.config.experiment import Config
from siamese_jax.training.step import create_state
from siamese_jax.vocabulary import IED, SLEEP

TASKS = (IED, SLEEP)


@pytest.fixture
def saved(tiny, tmp_path):
    """A folder with one checkpoint, and the state in it."""
    state = create_state(tiny, TASKS)
    state = state._replace(ema=jax.tree.map(lambda x: x + np.float32(0.5), state.ema))
    checkpoints.write_description(tmp_path, checkpoints.Description(tiny, TASKS, ("test",)))
    with checkpoints.open_manager(tmp_path) as manager:
        checkpoints.save(manager, 7, state, state.ema)
    return tmp_path, state


def edit(folder, change):
    path = folder / "config.json"
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))


def test_state_and_inference_variables_come_back_bit_for_bit(saved, tiny):
    folder, state = saved
    with checkpoints.open_manager(folder) as manager:
        chex.assert_trees_all_equal(checkpoints.restore(manager, create_state(tiny, TASKS)), state)
    loaded = checkpoints.load(folder)
    chex.assert_trees_all_equal(loaded.variables, state.ema)
    assert loaded._replace(variables=None) == (tiny, TASKS, ("test",), None, "[]", 7)


def test_operating_points_travel_with_the_parameters(saved):
    folder, _ = saved
    checkpoints.write_operating_points(folder, '[{"threshold": 0.25}]')
    assert checkpoints.load(folder).operating_points == '[{"threshold": 0.25}]'


def test_a_configuration_that_does_not_fit_names_parameters(saved):
    folder, _ = saved
    edit(folder, lambda tree: tree["config"]["model"].update(width=1.0))
    with pytest.raises(ValueError, match=r"do not fit config.json: .*electron_1/.*: \(8,\) saved, \(24,\) configured"):
        checkpoints.load(folder)


def test_a_configuration_with_unknown_or_impossible_fields_is_refused(saved):
    folder, _ = saved
    edit(folder, lambda tree: tree["config"]["model"].update(depth=3))
    with pytest.raises(ValueError, match=r"config.model has unknown keys \['depth'\]"):
        checkpoints.load(folder)
    edit(folder, lambda tree: tree["config"]["model"].pop("depth"))
    edit(folder, lambda tree: tree["config"]["converter"].update(hop=0))
    with pytest.raises(ValueError, match="converter.hop must be >= 1"):
        checkpoints.load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "another format"),
        ('{"format": 99}', "another format"),
        ('{"format": 1}', "incomplete"),
        ('{"format": 1, "tasks": [{"name": "ied"}], "config": {}}', "incomplete"),
        ('{"format": 1, "tasks": [], "trained_on": [], "config": 3}', "config must be an object"),
    ],
)
def test_a_damaged_description_is_one_sentence(saved, text, message):
    folder, _ = saved
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        checkpoints.load(folder)


def test_what_is_no_checkpoint_is_said(tmp_path, tiny):
    with pytest.raises(ValueError, match="is not a checkpoint: it has no config.json"):
        checkpoints.load(tmp_path)
    checkpoints.write_description(tmp_path, checkpoints.Description(tiny, TASKS, ("test",)))
    with pytest.raises(ValueError, match="holds no saved parameters yet"):
        checkpoints.load(tmp_path)


def test_a_half_written_step_is_ignored(saved):
    folder, state = saved
    (folder / "9.orbax-checkpoint-tmp").mkdir()
    (folder / "9.orbax-checkpoint-tmp" / "part").write_text("x")
    assert checkpoints.load(folder).step == 7
    # It may be a run's that is saving just now: only who trains may clear it away.
    assert (folder / "9.orbax-checkpoint-tmp" / "part").exists()


def test_saved_on_eight_devices_loads_on_one(tiny, tmp_path):
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    state = jax.device_put(create_state(tiny, TASKS), everywhere)
    checkpoints.write_description(tmp_path, checkpoints.Description(tiny, TASKS, ("test",)))
    with checkpoints.open_manager(tmp_path) as manager:
        checkpoints.save(manager, 1, state, state.ema)
    loaded = checkpoints.load(tmp_path)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(loaded.variables)} == {1}
    chex.assert_trees_all_equal(jax.device_get(loaded.variables), jax.device_get(state.ema))


def test_a_run_of_other_task_definitions_is_another_run(saved, tiny):
    folder, _ = saved
    checkpoints.check_description(folder, checkpoints.Description(tiny, TASKS, ("elsewhere",)))
    stages = dataclasses.replace(SLEEP, classes=("W", "N1", "N2", "R", "N3"))
    with pytest.raises(ValueError, match=r"another configuration: task definitions: .*N3.* there, .* given"):
        checkpoints.check_description(folder, checkpoints.Description(tiny, (IED, stages), ("test",)))


def test_how_a_run_is_watched_and_saved_may_change_when_it_goes_on(saved, tiny):
    free = {"parallel": "shard_map", "evaluate_every": 3, "checkpoint_every": 3}
    for name, value in free.items():
        other = dataclasses.replace(tiny, training=dataclasses.replace(tiny.training, **{name: value}))
        checkpoints.check_description(saved[0], checkpoints.Description(other, TASKS, ("test",)))


def test_a_state_of_another_structure_is_one_sentence(saved, tiny):
    wider = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, width=1.0))
    with (
        checkpoints.open_manager(saved[0]) as manager,
        pytest.raises(ValueError, match="step 7 cannot be gone on from"),
    ):
        checkpoints.restore(manager, create_state(wider, TASKS))


def test_description_is_the_whole_configuration(saved, tiny):
    folder, _ = saved
    tree = json.loads((folder / "config.json").read_text())
    assert Config.from_json(json.dumps(tree["config"])) == tiny
    assert tree["tasks"][1] == {
        "name": "sleep",
        "kind": "multiclass",
        "classes": ["W", "N1", "N2", "N3", "R"],
    }
