"""EEGNet-8,2: temporal filters, spatial filters of each, a separable convolution, one head a task.

FACT (Lawhern et al. 2018 and the authors' Keras code, vlawhern/arl-eegmodels, `EEGNet`), at 128 Hz:

    temporal    Conv 64 samples, 8 filters, `same`, no bias, BatchNorm
    spatial     for each filter 2 weightings of all rows, norm at most 1, no bias, BatchNorm, ELU, mean of 4, Dropout
    separable   each of 16 features by itself over 16 samples, `same`, then 1 x 1 to 16, no biases, BatchNorm, ELU,
                mean of 8, Dropout
    head        all features of all times, one linear layer of norm at most 0.25

1,665 parameters with one logit for 19 rows and 512 samples, batch normalisation's included. Published dropout: 0.5, and
0.25 across subjects (RECALLED). Kernels are numbers of samples, meant for 128 Hz: at another rate the network runs, but
it is another one.
`model.width` multiplies the 8 filters, and rounds to a multiple of 8: below 1 it changes nothing.

Deviations: batch statistics are this library's (epsilon 1e-5 and momentum 0.9 for 1e-3 and 0.99). Keras scales weights
down to the largest norm after each step; here they are scaled when used, the same function of weights within the norm.
One logit per binary task, and any number of tasks. Rows that are absent have no part in the spatial filters.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from siamese_jax.config.experiment import Config
from siamese_jax.models.blocks import (
    INNER_SALT,
    BatchNorm,
    Dropout,
    Logits,
    Maps,
    RowPresent,
    SampleKeys,
    mean_pool,
    raw_rows,
    row_weights,
    scaled_width,
    window_heads,
)
from siamese_jax.vocabulary import TaskSpec

FILTERS, PER_FILTER = 8, 2
TEMPORAL_KERNEL, SEPARABLE_KERNEL = 64, 16
SPATIAL_NORM, HEAD_NORM = 1.0, 0.25

INIT = nn.initializers.glorot_uniform()
"""As Keras begins."""


class EEGNet(nn.Module):
    """Raw rows in, logits of all tasks out."""

    config: Config
    tasks: tuple[TaskSpec, ...]
    axis: str | None = None

    @nn.compact
    def __call__(self, maps: Maps, row_present: RowPresent, *, keys: SampleKeys | None = None) -> Logits:
        """As `build_model` says."""
        model, train = self.config.model, keys is not None
        filters = scaled_width(FILTERS, model.width)
        features = filters * PER_FILTER
        x = raw_rows(maps, row_present).transpose(0, 2, 1)[..., None]

        temporal = nn.Conv(
            filters, (TEMPORAL_KERNEL,), padding=_same(TEMPORAL_KERNEL), use_bias=False, kernel_init=INIT
        )
        x = BatchNorm(self.axis)(temporal(x), train=train)  # [batch, row, time, filter]
        spatial = at_most(SPATIAL_NORM, self.param("spatial", INIT, (x.shape[1], filters, PER_FILTER)))
        # A filter's rows with one another, each filter by itself: 17 to 45 times a grouped convolution's speed on CPUs.
        x = jnp.einsum("brtf,rfd->btfd", x * row_weights(row_present)[..., None, None], spatial)
        x = x.reshape(*x.shape[:2], features)
        x = mean_pool(nn.elu(BatchNorm(self.axis)(x, train=train)), 4)
        x = Dropout(model.dropout, salt=INNER_SALT)(x, keys)

        # Nothing lies between the two halves of a separable convolution: they are one, whose kernel is their product.
        by_time = self.param("separable_time", INIT, (SEPARABLE_KERNEL, features, 1))
        by_feature = self.param("separable_feature", INIT, (features, features))
        x = jax.lax.conv_general_dilated(
            x, by_time * by_feature[None], (1,), _same(SEPARABLE_KERNEL), dimension_numbers=("NWC", "WIO", "NWC")
        )
        x = mean_pool(nn.elu(BatchNorm(self.axis)(x, train=train)), 8)
        return window_heads(self.tasks, x.reshape(x.shape[0], -1), keys, model.dropout, dense=CappedDense)


class CappedDense(nn.Module):
    """A linear layer whose weights of each output have a norm of at most `HEAD_NORM`."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch feature"]) -> Float[Array, "batch logit"]:
        kernel = at_most(HEAD_NORM, self.param("kernel", INIT, (x.shape[-1], self.features)))
        return x @ kernel + self.param("bias", nn.initializers.zeros, (self.features,))[None]


def at_most(norm: float, weights: Float[Array, "entry *each"]) -> Float[Array, "entry *each"]:
    """Weights scaled down where their norm over the first axis is above `norm`; others as they are."""
    squares = (weights**2).sum(0, keepdims=True)
    # The root of the larger one: its gradient is finite at 0, too.
    return weights * (norm / jnp.sqrt(jnp.maximum(squares, norm**2)))


def _same(kernel: int) -> list[tuple[int, int]]:
    """Zeros before and after, so that as much comes out as goes in: of an even kernel one more after, as in Keras."""
    return [((kernel - 1) // 2, kernel // 2)]
