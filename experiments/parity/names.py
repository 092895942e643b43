"""Which array of ours is which of PyTorch's, by name. Needs no PyTorch."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from siamese_jax.models.aied import FEATURES
from siamese_jax.models.efficientnet import RW_T
from siamese_jax.models.vgg16 import BLOCKS
from siamese_jax.pipeline import Variables
from siamese_jax.tensors import named

Names = dict[str, str]
"""Of each array of ours, by its path, the one of theirs."""

SHARED = tuple(f"shared_{i}" for i in range(4))
ELECTRON, SLEEP = (tuple(f"{twin}_{i}" for i in (4, 5, 6, "features")) for twin in ("electron", "sleep"))
"""What the stages of Siamese-ES of size `paper` are called."""


def nepinet() -> Names:
    """Of timm's `efficientnetv2_rw_t`."""
    return _rw_t([*(f"stage_{i}" for i in range(1 + len(RW_T))), "features"]) | _linear("head_ied", "classifier")


def siamese_es() -> Names:
    """Of the same, which gives both branches the same weights, and nothing to the heads."""
    return _rw_t([*SHARED, *ELECTRON]) | _rw_t([*SHARED, *SLEEP])


def vgg16() -> Names:
    """Of timm's `vgg16` with a linear layer after its features."""
    names, place = _linear("head_ied", "head"), 0
    for i, is_last in enumerate(j == len(block) - 1 for block in BLOCKS for j in range(len(block))):
        names |= _linear(f"Conv_{i}", f"features.{place}")
        place += 3 if is_last else 2  # the ReLU after each, the pool after a block's last
    return names


def aied() -> Names:
    """Of timm's `resnet18`."""
    names = _conv("Conv_0", "conv1", "bn1") | _linear("head_ied", "fc")
    for i in range(2 * len(FEATURES)):
        ours, theirs = f"ResidualBlock_{i}", f"layer{1 + i // 2}.{i % 2}"
        names |= _conv(f"{ours}/Conv_0", f"{theirs}.conv1", f"{theirs}.bn1")
        names |= _conv(f"{ours}/Conv_1", f"{theirs}.conv2", f"{theirs}.bn2")
        if i % 2 == 0 and i > 0:
            names |= _conv(f"{ours}/Conv_2", f"{theirs}.downsample.0", f"{theirs}.downsample.1")
    return names


def eegnet() -> Names:
    """Of `theirs.eegnet`."""
    names = {"params/Conv_0/kernel": "temporal.weight", "params/spatial": "spatial.weight"}
    names |= {"params/separable_time": "by_time.weight", "params/separable_feature": "by_feature.weight"}
    for i in range(3):
        names |= _norm(f"BatchNorm_{i}", f"norm{i}")
    return names | _linear("head_ied", "head")


def copied(names: Names, theirs: Mapping[str, np.ndarray], like: Variables) -> Variables:
    """Our variables with their values.

    PyTorch's weights begin with output and input, ours end with input and output; the places in between are in the same
    order, and may be grouped otherwise (a linear layer of ours is a convolution of 1 x 1 there).

    Args:
        names: which is which.
        theirs: their arrays by name.
        like: our variables or their shapes.

    Raises:
        ValueError: arrays of ours or theirs that `names` does not pair, or one of another size than its pair.
    """
    wanted = named(like)
    for side, left in (("ours", wanted.keys() ^ names.keys()), ("theirs", theirs.keys() ^ set(names.values()))):
        if left:
            raise ValueError(f"{len(left)} arrays of {side} without a pair, such as {min(left)}")
    arrays = []
    for name, ours in wanted.items():
        array = theirs[names[name]]
        if array.size != ours.size:
            raise ValueError(f"{name} has the shape {ours.shape}, {names[name]} {array.shape}")
        turned = array.transpose(*range(2, array.ndim), 1, 0) if array.ndim > 1 else array
        arrays.append(jnp.asarray(turned.reshape(ours.shape)))
    return jax.tree.unflatten(jax.tree.structure(like), arrays)


def _rw_t(layers: Sequence[str]) -> Names:
    """`layers`: what we call the stem, the six stages and the last convolution."""
    stem, *stages, features = layers
    names = _conv(f"{stem}/Conv_0", "conv_stem", "bn1") | _conv(features, "conv_head", "bn2")
    for i, (name, stage) in enumerate(zip(stages, RW_T, strict=True)):
        for j in range(stage.repeats):
            names |= _rw_t_block(stage.block, f"{name}/RwtBlock_{j}", f"blocks.{i}.{j}")
    return names


def _rw_t_block(kind: str, ours: str, theirs: str) -> Names:
    if kind == "conv":
        return _conv(f"{ours}/Conv_0", f"{theirs}.conv", f"{theirs}.bn1")
    if kind == "fused":
        names = _conv(f"{ours}/Conv_0", f"{theirs}.conv_exp", f"{theirs}.bn1")
        return names | _conv(f"{ours}/Conv_1", f"{theirs}.conv_pwl", f"{theirs}.bn2")
    names = _conv(f"{ours}/Conv_0", f"{theirs}.conv_pw", f"{theirs}.bn1")
    names |= {f"params/{ours}/DepthwiseConv_0/kernel": f"{theirs}.conv_dw.weight"}
    names |= _norm(f"{ours}/BatchNorm_0", f"{theirs}.bn2")
    names |= _linear(f"{ours}/SqueezeExcite_0/Dense_0", f"{theirs}.se.conv_reduce")
    names |= _linear(f"{ours}/SqueezeExcite_0/Dense_1", f"{theirs}.se.conv_expand")
    return names | _conv(f"{ours}/Conv_1", f"{theirs}.conv_pwl", f"{theirs}.bn3")


def _conv(ours: str, conv: str, norm: str) -> Names:
    """`ours` is a `blocks.Conv`."""
    return {f"params/{ours}/Conv_0/kernel": f"{conv}.weight"} | _norm(f"{ours}/BatchNorm_0", norm)


def _norm(ours: str, theirs: str) -> Names:
    """`ours` is a `blocks.BatchNorm`."""
    params = {f"params/{ours}/BatchNorm_0/{our}": f"{theirs}.{their}" for our, their in _OF_NORM.items()}
    return params | {f"batch_stats/{ours}/BatchNorm_0/{kind}": f"{theirs}.running_{kind}" for kind in ("mean", "var")}


def _linear(ours: str, theirs: str) -> Names:
    return {f"params/{ours}/{our}": f"{theirs}.{their}" for our, their in _OF_LINEAR.items()}


_OF_NORM = {"scale": "weight", "bias": "bias"}
_OF_LINEAR = {"kernel": "weight", "bias": "bias"}
