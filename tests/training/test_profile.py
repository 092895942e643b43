"""A trace of a few steps after compilation, which names them, for a viewer without a network."""

import gzip
import json
from contextlib import closing

import jax
import jax.numpy as jnp
import pytest

from siamese_jax.training.profile import TRACED, WARM_UP, Profiler, how_to_open


@pytest.fixture
def run():
    def go(folder, *, first, n_steps):
        """`n_steps` steps from number `first` on, as the loop does them."""

        @jax.jit
        def our_step(x):
            return jnp.tanh(x @ x)

        x = jnp.ones((50, 50))
        with closing(Profiler(folder)) as profiler:
            for step in range(first, first + n_steps):
                with profiler.step(step):
                    x = our_step(x)
                x.block_until_ready()

    return go


def spans(folder):
    (path,) = folder.glob("plugins/profile/*/perfetto_trace.json.gz")
    with gzip.open(path) as file:
        return [event for event in json.load(file)["traceEvents"] if event.get("ph") == "X"]


@pytest.mark.parametrize("first", [1, 401])  # of a fresh run and of one that resumes
def test_a_trace_holds_the_steps_after_compilation_and_names_them(run, tmp_path, first):
    run(tmp_path, first=first, n_steps=20)
    found = spans(tmp_path)
    numbers = sorted(int(event["args"]["step_num"]) for event in found if event["name"] == "train")
    wanted = list(range(first + WARM_UP, first + WARM_UP + TRACED))
    assert numbers[:TRACED] == wanted and len(numbers) <= TRACED + 1
    names = " ".join(event["name"] for event in found)
    assert "our_step" in names and "compile" not in names.lower()
    assert all(event["dur"] >= 0 for event in found)
    assert "perfetto_trace.json.gz: open it at https://ui.perfetto.dev" in how_to_open(tmp_path)


def test_a_run_that_ends_while_it_is_traced_leaves_what_there_is(run, tmp_path):
    run(tmp_path, first=1, n_steps=WARM_UP + 2)
    assert [e["args"]["step_num"] for e in spans(tmp_path) if e["name"] == "train"] == ["3", "4"]
    run(tmp_path / "other", first=1, n_steps=WARM_UP + 2)  # the tracer is free again


def test_a_run_that_is_too_short_says_so(run, tmp_path):
    run(tmp_path, first=1, n_steps=WARM_UP)
    assert not list(tmp_path.iterdir())
    assert "it begins after 2 steps" in how_to_open(tmp_path)


def test_nothing_is_traced_unless_asked_for(run, tmp_path, monkeypatch):
    monkeypatch.setattr(jax.profiler, "start_trace", lambda *_, **__: pytest.fail("traced"))
    run(None, first=1, n_steps=20)
