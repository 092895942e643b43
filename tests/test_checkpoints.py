"""Checkpoints: what comes back is what went in, and what does not fit is refused by name."""

import dataclasses
import gc
import json
import shutil
import sys

import chex
import jax
import numpy as np
import pytest

from siamese_jax import checkpoints
from siamese_jax.config.experiment import Config
from siamese_jax.training.step import create_state
from siamese_jax.vocabulary import IED, SLEEP
from tests.identities import learnt_from, thresholds_of

TASKS = (IED, SLEEP)
IDENTITY = learnt_from("test", patients=("P1",))


@pytest.fixture
def saved(tiny, tmp_path):
    """A folder with one checkpoint, and the state in it."""
    state = create_state(tiny, TASKS)
    state = state._replace(ema=jax.tree.map(lambda x: x + np.float32(0.5), state.ema))
    checkpoints.write_description(tmp_path, checkpoints.Description(tiny, TASKS, IDENTITY))
    save(tmp_path, 7, state)
    return tmp_path, state


def save(folder, step, state):
    """As training does."""
    with checkpoints.open_manager(folder) as manager:
        checkpoints.save_state(manager, step, state)
        checkpoints.write_parameters(folder, state.ema, step)


def edit(folder, change):
    path = folder / "config.json"
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree))


def test_state_and_inference_variables_come_back_bit_for_bit(saved, tiny):
    folder, state = saved
    with checkpoints.open_manager(folder) as manager:
        chex.assert_trees_all_equal(checkpoints.restore_state(manager, create_state(tiny, TASKS)), state)
    shutil.rmtree(folder / "state")  # inference needs none of it
    loaded = checkpoints.load(folder)
    chex.assert_trees_all_equal(loaded.variables, state.ema)
    assert loaded._replace(variables=None) == (tiny, TASKS, None, 7, IDENTITY, None, folder)
    assert loaded.trained_on == ("test",)


def test_what_is_written_elsewhere_is_the_same_checkpoint(saved, tmp_path):
    """The one form of checkpoints and bundles; what stood in the place before is gone."""
    loaded = checkpoints.load(saved[0])._replace(thresholds=thresholds_of([]))
    checkpoints.write(tmp_path / "copy", loaded)
    back = checkpoints.load(tmp_path / "copy")
    chex.assert_trees_all_equal(back.variables, loaded.variables)
    assert back._replace(variables=None) == loaded._replace(variables=None, folder=tmp_path / "copy")
    checkpoints.write(tmp_path / "copy", loaded._replace(thresholds=None, step=9))
    assert checkpoints.load(tmp_path / "copy")._replace(variables=None)[3:6] == (9, IDENTITY, None)


def test_thresholds_come_back_with_what_they_were_fixed_on(saved):
    folder, _ = saved
    undefined = dict.fromkeys(("sensitivity", "precision", "specificity", "f1", "prevalence"))
    points = thresholds_of([{"task": "ied", "criterion": "max_f1", "threshold": 0.25, "n_windows": 3} | undefined])
    checkpoints.write_thresholds(folder, points)
    assert repr(checkpoints.load(folder).thresholds) == repr(points)  # NaN is no equal of itself
    assert points.text() == "fixed on 1 patient of validation recordings, 2026-01-02, by siamese-jax 0.1.0"


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
    with pytest.raises(ValueError, match=r"converter.hop must be in \[1, 1e9\], given 0"):
        checkpoints.load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "another format"),
        ('{"format": 99}', "another format"),
        ('{"format": 1, "tasks": [], "config": {}}', "another format"),
        ('{"format": 2}', "incomplete"),
        ('{"format": 2, "tasks": [{"name": "ied"}]}', "incomplete"),
        ('{"format": 2, "tasks": [], "config": 3}', "config must be an object"),
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
    checkpoints.write_description(tmp_path, checkpoints.Description(tiny, TASKS, IDENTITY))
    with pytest.raises(ValueError, match="holds no saved parameters yet"):
        checkpoints.load(tmp_path)
    (tmp_path / "identity.json").unlink()
    with pytest.raises(ValueError, match="is not a checkpoint: it has no identity.json"):
        checkpoints.load(tmp_path)


class Killed(BaseException):
    """As SIGKILL would, it lets nobody tidy up in its own way."""


@pytest.fixture(scope="module")
def killer():
    """Ends a function at its n-th operation on files: Python's audit events of opening, renaming and removing them.

    An audit hook stays for ever, so there is one, which does nothing unless it is armed.
    """
    left = [None]

    def hook(event, arguments):
        writes = event == "open" and isinstance(arguments[1], str) and arguments[1][:1] in ("w", "a", "x")
        if left[0] is not None and (writes or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")):
            left[0] -= 1
            if left[0] < 0:
                raise Killed

    def ends_before(n, work):
        """Whether `work` came to its end before its operation n."""
        left[0] = n
        try:
            work()
        except Killed:
            return False
        finally:
            left[0] = None
        return True

    sys.addaudithook(hook)
    return ends_before


def test_whenever_a_save_is_killed_the_checkpoint_loads_and_resumes(tiny, saved, killer, monkeypatch):
    """At each operation on files in turn: what loads is one of the two steps whole, and the run resumes from one."""
    folder, old = saved
    new = jax.tree.map(lambda x: x + 1, old)
    # Orbax writes in threads of its own; here the state appears with one renaming, as it does there.
    monkeypatch.setattr(checkpoints, "save_state", lambda manager, step, state: (folder / "state" / str(step)).mkdir())
    seen = []
    for n in range(100):
        killed = not killer(
            n, lambda: (checkpoints.save_state(None, 9, new), checkpoints.write_parameters(folder, new.ema, 9))
        )
        loaded = checkpoints.load(folder)
        chex.assert_trees_all_equal(loaded.variables, {7: old, 9: new}[loaded.step].ema)
        assert (loaded.config, loaded.identity) == (tiny, IDENTITY)
        steps = sorted(int(path.name) for path in (folder / "state").iterdir())
        seen.append((loaded.step, steps[-1]))
        if not killed:
            break
        assert loaded.step <= steps[-1]  # a run that resumes writes the parameters of its state again
        (folder / "state" / "9").rmdir() if 9 in steps else None
        checkpoints.write_parameters(folder, old.ema, 7)
    assert len(seen) > 4 and not killed and {(7, 7), (7, 9), (9, 9)} == set(seen)


def test_a_half_written_state_is_ignored(saved):
    folder, state = saved
    (folder / "state" / "9.orbax-checkpoint-tmp").mkdir()
    (folder / "state" / "9.orbax-checkpoint-tmp" / "part").write_text("x")
    assert checkpoints.load(folder).step == 7
    with checkpoints.open_manager(folder) as manager:
        assert manager.latest_step() == 7


def test_parameters_without_a_state_are_no_run_to_resume(saved, tiny):
    shutil.rmtree(saved[0] / "state")
    with (
        checkpoints.open_manager(saved[0]) as manager,
        pytest.raises(ValueError, match="holds parameters and no state to resume from: .*--init-from"),
    ):
        checkpoints.restore_state(manager, create_state(tiny, TASKS))


def test_saved_on_eight_devices_loads_on_one(tiny, tmp_path):
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    state = jax.device_put(create_state(tiny, TASKS), everywhere)
    checkpoints.write_description(tmp_path, checkpoints.Description(tiny, TASKS, IDENTITY))
    save(tmp_path, 1, state)
    loaded = checkpoints.load(tmp_path)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(loaded.variables)} == {1}
    chex.assert_trees_all_equal(jax.device_get(loaded.variables), jax.device_get(state.ema))


def test_a_run_of_other_task_definitions_is_another_run(saved, tiny):
    folder, _ = saved
    checkpoints.check_description(folder, checkpoints.Description(tiny, TASKS, IDENTITY))
    stages = dataclasses.replace(SLEEP, classes=("W", "N1", "N2", "R", "N3"))
    with pytest.raises(ValueError, match=r"another configuration: task definitions: .*N3.* there, .* given"):
        checkpoints.check_description(folder, checkpoints.Description(tiny, (IED, stages), IDENTITY))


def test_how_a_run_is_watched_and_saved_may_change_when_it_resumes(saved, tiny):
    free = {"parallel": "shard_map", "evaluate_every": 3, "checkpoint_every": 3}
    for name, value in free.items():
        other = dataclasses.replace(tiny, training=dataclasses.replace(tiny.training, **{name: value}))
        checkpoints.check_description(saved[0], checkpoints.Description(other, TASKS, IDENTITY))


def test_a_state_of_another_structure_is_one_sentence(saved, tiny):
    wider = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, width=1.0))
    with (
        checkpoints.open_manager(saved[0]) as manager,
        pytest.raises(ValueError, match=r"step 7 cannot be resumed.*\(other arrays: .*Conv.*float32\[.*--init-from"),
    ):
        checkpoints.restore_state(manager, create_state(wider, TASKS))
    gc.collect()  # what Orbax might leave unfinished is reported here, not in another test


def test_description_is_the_whole_configuration(saved, tiny):
    folder, _ = saved
    tree = json.loads((folder / "config.json").read_text())
    assert Config.from_json(json.dumps(tree["config"])) == tiny
    assert tree["tasks"][1] == {
        "name": "sleep",
        "kind": "multiclass",
        "classes": ["W", "N1", "N2", "N3", "R"],
    }
