"""AiED: ResNet-18's size and maps, and what every network over maps must do."""

import pytest

from siamese_jax.models import aied
from tests.models import on_maps


@pytest.fixture
def shallow(monkeypatch):
    """Two stages: compiles in seconds."""
    monkeypatch.setattr(aied, "FEATURES", (64, 128))


def test_it_has_the_parameters_and_maps_of_resnet18():
    size, heads, shape = on_maps.published("aied")
    assert sum(size.values()) == 11_308_224 and heads == {"head_ied": 513, "head_sleep": 5 * 513}
    assert size["Conv_0"] == 49 * 45 * 64 + 2 * 64
    assert [sum(size[f"ResidualBlock_{i + j}"] for j in (0, 1)) for i in (0, 2, 4, 6)] == [
        147_968,
        525_568,
        2_099_712,
        8_393_728,
    ]
    assert shape["Conv_0"] == (65, 63, 64)
    expected = [(33, 32, 64)] * 2 + [(17, 16, 128)] * 2 + [(9, 8, 256)] * 2 + [(5, 4, 512)] * 2
    assert [shape[f"ResidualBlock_{i}"] for i in range(8)] == expected


def test_every_parameter_has_a_gradient(shallow):
    on_maps.check_that_every_parameter_has_a_gradient("aied")


def test_inference_judges_each_window_by_itself(shallow):
    on_maps.check_that_inference_judges_each_window_by_itself("aied")


def test_present_rows_stand_in_for_absent_ones(shallow):
    on_maps.check_that_present_rows_stand_in_for_absent_ones("aied", ("Conv_0", "Conv_0"))


def test_batch_statistics_are_those_of_all_devices(shallow):
    on_maps.check_that_batch_statistics_are_those_of_all_devices("aied")
