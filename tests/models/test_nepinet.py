"""nEpiNet: the released backbone's size, Siamese-ES without Twins-Sleep, and what every network over maps must do."""

import jax
import numpy as np
import pytest

from siamese_jax.config.experiment import Config, ModelConfig
from siamese_jax.models import efficientnet, nepinet
from siamese_jax.models.build import build_model
from siamese_jax.vocabulary import IED
from tests.models import on_maps


@pytest.fixture
def shallow(monkeypatch):
    """One block of each kind: compiles in seconds."""
    stages = tuple(efficientnet.RW_T[i]._replace(repeats=1) for i in (0, 1, 3))
    for module in (efficientnet, nepinet):
        monkeypatch.setattr(module, "RW_T", stages)


@pytest.mark.parametrize(("n_rows", "parameters"), [(45, 12_633_460), (77, 12_640_372)])
def test_it_has_the_parameters_of_the_released_backbone(n_rows, parameters):
    size, heads, shape = on_maps.published("nepinet", n_rows)
    assert sum(size.values()) == parameters and heads["head_ied"] == 1025
    assert [size[f"stage_{i}"] for i in range(1, 7)] == [10_464, 218_048, 343_616, 607_790, 2_240_634, 8_988_100]
    assert [shape[f"stage_{i}"] for i in range(7)] == [
        (65, 63, 24),
        (65, 63, 24),
        (33, 32, 40),
        (17, 16, 48),
        (9, 8, 104),
        (9, 8, 128),
        (5, 4, 208),
    ]
    assert shape["features"] == (5, 4, 1024)


def test_it_is_siamese_es_without_twins_sleep(monkeypatch):
    """The same parameters, wherever they are, give the same logits."""
    monkeypatch.setattr(efficientnet, "RW_T", tuple(stage._replace(repeats=1) for stage in efficientnet.RW_T))
    siamese = ModelConfig(size="paper", width=0.125, shared_stages=4, fusion="none", pooling="average")
    whole = build_model(Config(tasks=("ied",), model=siamese), (IED,))
    alone = on_maps.build("nepinet", tasks=(IED,))
    variables = on_maps.initial(alone)
    owner = {f"stage_{i}": f"{'shared' if i < 4 else 'electron'}_{i}" for i in range(7)}
    owner |= {"features": "electron_features", "head_ied": "head_ied"}
    renamed = {kind: {owner[layer]: x for layer, x in tree.items()} for kind, tree in variables.items()}
    maps, present = on_maps.inputs(n_frames=70)  # of which the last stage keeps 3
    present = present.at[1, 3:].set(False)
    fresh = jax.eval_shape(whole.init, jax.random.key(0), maps, present)
    assert jax.tree.map(np.shape, renamed) == jax.tree.map(np.shape, fresh)
    ours, theirs = (
        jax.jit(model.apply)(v, maps, present).window["ied"] for model, v in ((alone, variables), (whole, renamed))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert float(np.ptp(ours)) > 1e-3


def test_every_parameter_has_a_gradient(shallow):
    on_maps.check_that_every_parameter_has_a_gradient("nepinet")


def test_inference_judges_each_window_by_itself(shallow):
    on_maps.check_that_inference_judges_each_window_by_itself("nepinet")


def test_present_rows_stand_in_for_absent_ones(shallow):
    on_maps.check_that_present_rows_stand_in_for_absent_ones("nepinet", ("stage_0", "Conv_0", "Conv_0"))


def test_batch_statistics_are_those_of_all_devices(shallow):
    on_maps.check_that_batch_statistics_are_those_of_all_devices("nepinet")
