"""What crosses devices in a training step, read from its compiled text; and that a run compiles it once."""

import dataclasses
import logging
import os
import re
from math import prod
from unittest.mock import Mock

import jax
import pytest

from siamese_jax.models import efficientnet
from siamese_jax.shards.schema import open_shards
from siamese_jax.training import step as training_step
from siamese_jax.training.loop import train
from siamese_jax.training.parallel import KEEP_BARRIERS, choose_devices, data_parallel
from siamese_jax.training.step import create_state, make_train_step
from siamese_jax.vocabulary import IED, SLEEP
from tests.simulated_cohort import tiny_shards

TASKS = (IED, SLEEP)
DEVICES = jax.devices()[:2]
COLLECTIVE = re.compile(
    r" = (?P<shape>.+?) (?P<op>(?:all|collective|ragged)-[a-z-]+|reduce-scatter[a-z-]*|(?:send|recv)(?:-done)?)\("
)
"""An instruction of XLA's text that moves data between devices, with the shape of its result."""
FLOAT32 = re.compile(r"f32\[([\d,]*)\]")


def compiled_text(config, make_batch) -> str:
    data = data_parallel(config, TASKS, DEVICES)
    state, batch = data.place_state(create_state(config, TASKS)), data.place(make_batch(config=config))
    return data.step.lower(state, batch).compile().as_text()


def reduced(text: str) -> list[tuple[str, int]]:
    """(computation, bytes) of each all-reduce; that nothing else crosses devices is asserted."""
    found, computation = [], ""
    for line in text.splitlines():
        if line and not line[0].isspace():
            computation = line.split("(")[0].strip()
        if hit := COLLECTIVE.search(line):
            assert hit["op"] == "all-reduce", line.strip()[:200]
            shapes = FLOAT32.findall(hit["shape"])
            assert re.sub(r"\{[\d,]*\}|/\*[^*]*\*/", "", hit["shape"]).count("[") == len(shapes), "other types"
            found.append((computation, 4 * sum(prod(int(n) for n in s.split(",") if n) for s in shapes)))
    return found


def bytes_of(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@pytest.fixture
def sized(with_training, monkeypatch):
    """The tiny `small`, or `paper` with all its kinds of blocks, once each, and an eighth of its features."""

    def make(size, **training):
        config = with_training(**training)
        if size == "small":
            return config
        stages = [stage._replace(repeats=1) for stage in efficientnet.RW_T]
        monkeypatch.setattr(efficientnet, "RW_T", tuple(stages))
        model = dataclasses.replace(config.model, size="paper", width=0.125, shared_stages=3, pooling="average")
        return dataclasses.replace(config, model=model)

    return make


@pytest.mark.parametrize(("size", "parallel"), [("small", "pmap"), ("paper", "shard_map")])
def test_only_sums_cross_devices_and_only_as_many_bytes_as_parameters_and_statistics(sized, make_batch, size, parallel):
    """Gradients once; each batch normalisation two numbers a feature forwards and their gradients backwards; scalars.

    The first normalisation of `small` reads the maps, which need no gradient: it sends nothing backwards.
    """
    config = sized(size, parallel=parallel)
    state = jax.eval_shape(lambda: create_state(config, TASKS))
    statistics = state.variables["batch_stats"]
    unanswered = bytes_of(statistics["shared_0"]["BatchNorm_0"]) if size == "small" else 0
    scalars = 4 * (1 + 2 * len(TASKS))  # the loss; weight and mean of each task
    crossed = sum(n for _, n in reduced(compiled_text(config, make_batch)))
    assert crossed == bytes_of(state.variables["params"]) + 2 * bytes_of(statistics) - unanswered + scalars


@pytest.mark.parametrize("parallel", ["pmap", "shard_map"])
def test_gradients_cross_devices_once_however_many_micro_batches_there_are(sized, make_batch, parallel):
    """Each micro-batch sums what its batch normalisations need; the gradient is summed when all are done."""
    config = sized("small", parallel=parallel, accumulate=2)
    state = jax.eval_shape(lambda: create_state(config, TASKS))
    statistics = state.variables["batch_stats"]
    of_one = 2 * bytes_of(statistics) - bytes_of(statistics["shared_0"]["BatchNorm_0"])
    crossed = sum(n for _, n in reduced(compiled_text(config, make_batch)))
    assert crossed == bytes_of(state.variables["params"]) + 4 * (1 + 2 * len(TASKS)) + 2 * of_one


def test_micro_batches_need_less_memory(with_training, make_batch):
    option, value = KEEP_BARRIERS.removeprefix("--").split("=")

    def megabytes(accumulate: int) -> float:
        config = with_training(batch_size=64, accumulate=accumulate)
        state, batch = create_state(config, TASKS), make_batch(config=config)
        lowered = jax.jit(make_train_step(config, TASKS, axis=None)).lower(state, batch)
        return lowered.compile(compiler_options={option: value}).memory_analysis().temp_size_in_bytes / 1e6

    assert megabytes(4) < 0.5 * megabytes(1)


def test_a_cpu_keeps_the_barriers_and_the_flags_of_its_user(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_of_the_user=1")
    for _ in range(2):
        assert choose_devices(2) == jax.devices()[:2]
    assert os.environ["XLA_FLAGS"] == f"--xla_of_the_user=1 {KEEP_BARRIERS}"


def test_each_process_gives_as_many_devices_and_the_first_one_s_come_first(monkeypatch):
    def there(*places):
        devices = [Mock(spec=jax.Device, process_index=process, id=i, platform="cpu") for process, i in places]
        monkeypatch.setattr(jax, "devices", lambda: devices)

    monkeypatch.setenv("XLA_FLAGS", "")
    there((1, 3), (0, 1), (1, 2), (0, 0))
    for n, expected in ((None, [(0, 0), (0, 1), (1, 2), (1, 3)]), (1, [(0, 0), (1, 2)])):
        assert [(device.process_index, device.id) for device in choose_devices(n)] == expected
    there((0, 0), (0, 1), (1, 2))
    with pytest.raises(ValueError, match="--devices 2: there are only 1 cpu devices"):
        choose_devices(2)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return tuple(open_shards(tiny_shards(tmp_path_factory.mktemp("cohort")) / "train"))


@pytest.mark.parametrize("parallel", ["pmap", "shard_map"])
def test_a_run_traces_and_compiles_its_step_once(shards, with_training, tmp_path, monkeypatch, caplog, parallel):
    """The first state comes from the host or from a checkpoint, the later ones out of the step: placed alike.

    A run that resumes in the same process takes the step that is there.
    """
    config = with_training(parallel=parallel, seed=1234)  # of no other test: its step is not there yet
    n_leaves = len(jax.tree.leaves(jax.eval_shape(lambda: create_state(config, TASKS))))
    traces, original = [], training_step.forward_training

    def counted(*args, **options):
        traces.append(args)
        return original(*args, **options)

    monkeypatch.setattr(training_step, "forward_training", counted)
    for stop_at, expected in ((3, (1, 1)), (6, (0, 0))):  # the second run resumes from what the first one saved
        traces.clear()
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING, "jax"):
            assert train(config, shards, (), tmp_path, devices=DEVICES, stop_at=stop_at).step == stop_at
        # pmap's program bears no name of ours: the step is the one that takes a whole state.
        compiled = [m for m in caplog.messages if m.startswith("Compiling") and m.count("ShapedArray(") > n_leaves]
        assert (len(traces), len(compiled)) == expected
