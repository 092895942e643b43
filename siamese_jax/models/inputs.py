"""How a model's parameters hang on its input: which of them count montage rows, which its unit.

For starting from a trained Siamese-ES on other electrodes or at another rate; of the networks that it is compared with
it is not known. Paths are the keys to a leaf, collection
first: `("params", "shared_0", "Conv_0", "Conv_0", "kernel")`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from siamese_jax.config.experiment import Config
from siamese_jax.models.blocks import EPSILON
from siamese_jax.models.siamese_es import OWNERS, ROW_STAGES

Path = tuple[str, ...]


def row_axis(config: Config, path: Path) -> int | None:
    """The axis of a parameter that counts montage rows, or None.

    `small` weighs the rows by place where it joins them (there each row stands for as many entries as it has features);
    the stem of `paper` convolves over them. Both make up for absent rows: what a row contributes is multiplied by the
    number of rows over the number of those that are there.
    """
    if not config.model.has_branches:
        return None
    if config.model.size == "small":
        return 0 if path[0] == "params" and _is_in_stage(path, ROW_STAGES, "Dense_0", "kernel") else None
    return 2 if path[0] == "params" and _is_in_stage(path, 0, "Conv_0", "Conv_0", "kernel") else None


def for_scaled_input(config: Config, variables: PyTree[Array], factor: float) -> PyTree[Array]:
    """Variables that give on maps times `factor` what `variables` give on the maps as they are.

    `small` begins with a batch normalisation, whose running mean and variance follow; `paper` with a convolution
    without bias.
    """

    def follow(keys: tuple[Any, ...], x: Array) -> Array:
        path = tuple(key.key for key in keys)
        if config.model.size == "paper":
            return x / factor if row_axis(config, path) is not None else x
        if _is_in_stage(path, 0, "BatchNorm_0", "BatchNorm_0", "mean"):
            return x * factor
        if _is_in_stage(path, 0, "BatchNorm_0", "BatchNorm_0", "var"):
            # What is divided by is the root of the variance plus epsilon; both must follow.
            return jnp.maximum(factor**2 * (x + EPSILON) - EPSILON, 0.0)
        return x

    return variables if factor == 1 else jax.tree_util.tree_map_with_path(follow, variables)


def _is_in_stage(path: Path, stage: int, *inner: str) -> bool:
    return path[1] in {f"{owner}_{stage}" for owner in OWNERS.values()} and path[2:] == inner
