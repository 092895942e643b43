"""Which array is which: every array of ours has one of theirs, and each value ends where PyTorch's layout says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.parity import names
from siamese_jax.config.experiment import Config, ConverterConfig, ModelConfig
from siamese_jax.models.build import build_model
from siamese_jax.tensors import named
from siamese_jax.vocabulary import IED, SLEEP

SIZES = {"eegnet": (1, 512, 19)}


def shapes(name):
    size = SIZES.get(name, (129, 126, 45))
    if name == "siamese_es":
        model, tasks = ModelConfig(size="paper", shared_stages=4, pooling="average"), (IED, SLEEP)
    else:
        model, tasks = ModelConfig(name=name, fusion="none", pooling="average"), (IED,)
    kind = "none" if model.name == "eegnet" else "stft"
    config = Config(tasks=tuple(t.name for t in tasks), model=model, converter=ConverterConfig(kind=kind))
    network = build_model(config, tasks)
    maps, present = jnp.zeros((1, *size)), jnp.ones((1, size[-1]), bool)
    return jax.eval_shape(lambda: network.init(jax.random.key(0), maps, present))


@pytest.mark.parametrize("name", ["nepinet", "vgg16", "aied", "eegnet", "siamese_es"])
def test_every_array_of_ours_has_one_of_theirs(name):
    ours, pairs = named(shapes(name)), getattr(names, name)()
    assert {path for path in ours if "/head_" not in path or name != "siamese_es"} == pairs.keys()
    if name != "siamese_es":
        assert len(set(pairs.values())) == len(pairs)
    else:  # the twins take the same, and nothing else is taken twice
        theirs = [pairs[path] for path in pairs if "/sleep_" not in path]
        assert len(set(theirs)) == len(theirs) and set(pairs.values()) == set(theirs)


def test_values_end_where_both_layouts_mean_the_same():
    """An output of a convolution, of a linear layer that is one of 1 x 1 there, and of a filter bank."""
    like = {"params": {"conv": np.zeros((3, 2, 5, 7)), "dense": np.zeros((5, 7)), "bank": np.zeros((4, 3, 2))}}
    pairs = {"params/conv": "c", "params/dense": "d", "params/bank": "b"}
    rng = np.random.default_rng(0)
    theirs = {
        "c": rng.normal(size=(7, 5, 3, 2)),
        "d": rng.normal(size=(7, 5, 1, 1)),
        "b": rng.normal(size=(6, 1, 4, 1)),
    }
    got = names.copied(pairs, theirs, like)["params"]
    assert got["conv"][1, 0, 3, 2] == np.float32(theirs["c"][2, 3, 1, 0])
    assert got["dense"][3, 2] == np.float32(theirs["d"][2, 3, 0, 0])
    assert got["bank"][2, 1, 0] == np.float32(theirs["b"][2 * 1 + 0, 0, 2, 0])


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({}, "1 arrays of theirs without a pair, such as a"),
        ({"a": np.zeros(2), "b": np.zeros(2)}, "1 arrays of theirs without a pair, such as b"),
        ({"a": np.zeros(3)}, r"params/x has the shape \(2,\), a \(3,\)"),
    ],
)
def test_arrays_without_a_pair_are_refused(theirs, message):
    with pytest.raises(ValueError, match=message):
        names.copied({"params/x": "a"}, theirs, {"params": {"x": np.zeros(2)}})
    with pytest.raises(ValueError, match="2 arrays of ours without a pair, such as params/x"):
        names.copied({"params/z": "a"}, {"a": np.zeros(2)}, {"params": {"x": np.zeros(2)}})
