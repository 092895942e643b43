"""Layers that two or more models share. Maps are [batch, freq, frame, feature]: channels last, as XLA likes them.

Layers compute in the type of what they are given; their parameters and statistics are float32 always.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from siamese_jax.vocabulary import TaskSpec

Maps = Float[Array, "batch freq frame row"]
"""What the converter gives: frequency-temporal maps, or rows as they are as maps of one bin."""
RowPresent = Bool[Array, "batch row"]
SampleKeys = Key[Array, "batch"]
PairOf = tuple[int, int]
EPSILON = 1e-5
"""Added to a variance before its root is divided by."""
INNER_SALT = 100
"""Salts of dropouts before the heads count from here: heads have those below, one a task."""


class Logits(NamedTuple):
    """What a model says of a batch: per window, and per frame where the model keeps frames.

    Attributes:
        window: by task, [batch, logit].
        frame: by task, [batch, frame, logit]; empty if the model pools features over the window.
    """

    window: dict[str, Float[Array, "batch _logits"]]
    frame: dict[str, Float[Array, "batch frame _logits"]]


class Conv(nn.Module):
    """Convolution, batch normalisation, activation.

    Attributes:
        features: output features.
        kernel: extent along (freq, frame).
        strides: likewise.
        dilation: likewise.
        padding: samples of zero padding on both sides, along (freq, frame); None is half the kernel. Symmetric,
            because XLA's "SAME" shifts the grid of strided convolutions.
        axis: name of the device axis over which batch statistics are shared, or None.
        activation: applied last; None for a linear output.
    """

    features: int
    kernel: PairOf = (3, 3)
    strides: PairOf = (1, 1)
    dilation: PairOf = (1, 1)
    padding: PairOf | None = None
    axis: str | None = None
    activation: Callable[[Array], Array] | None = nn.silu

    @nn.compact
    def __call__(self, x: Float[Array, "batch freq frame feature"], *, train: bool) -> Float[Array, "batch _ _ _"]:
        padding = self.padding or tuple(size // 2 for size in self.kernel)
        x = nn.Conv(
            self.features,
            self.kernel,
            strides=self.strides,
            kernel_dilation=self.dilation,
            padding=[(p, p) for p in padding],
            use_bias=False,
            dtype=x.dtype,
        )(x)
        x = BatchNorm(self.axis)(x, train=train)
        return x if self.activation is None else self.activation(x)


class ResidualBlock(nn.Module):
    """Two convolutions, and the way past them: as it is, or through one of 1 x 1 where features or stride change."""

    features: int
    kernel: PairOf = (3, 3)
    strides: PairOf = (1, 1)
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch freq frame feature"], *, train: bool) -> Float[Array, "batch _ _ _"]:
        y = Conv(self.features, self.kernel, self.strides, axis=self.axis, activation=nn.relu)(x, train=train)
        y = Conv(self.features, self.kernel, axis=self.axis, activation=None)(y, train=train)
        if self.strides != (1, 1) or x.shape[-1] != self.features:
            x = Conv(self.features, (1, 1), self.strides, axis=self.axis, activation=None)(x, train=train)
        return nn.relu(x + y)


class BatchNorm(nn.Module):
    """Batch normalisation over all devices of `axis`; running statistics outside training.

    `feature_axis` is the array axis whose entries are normalised each by itself.
    """

    axis: str | None = None
    feature_axis: int = -1

    @nn.compact
    def __call__(self, x: Float[Array, "batch *rest"], *, train: bool) -> Float[Array, "batch *rest"]:
        norm = nn.BatchNorm(
            use_running_average=not train,
            axis=self.feature_axis,
            momentum=0.9,
            epsilon=EPSILON,
            axis_name=self.axis,
            dtype=x.dtype,
        )
        return norm(x)


class DepthwiseConv(nn.Module):
    """A 3 x 3 convolution of each feature with itself alone, with two implementations over the same parameters.

    XLA's grouped convolution is 17 to 45 times slower than shift-and-add on CPUs and the better one elsewhere;
    `auto` decides when the program is lowered for its platform.
    """

    stride: int = 1
    implementation: Literal["auto", "shift", "lax"] = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "batch freq frame feature"]) -> Float[Array, "batch _ _ feature"]:
        features = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, 1, features))
        ways = {"shift": _depthwise_shift, "lax": _depthwise_lax}
        if self.implementation != "auto":
            return ways[self.implementation](x, kernel, self.stride)
        return jax.lax.platform_dependent(
            x,
            kernel,
            cpu=lambda x, k: _depthwise_shift(x, k, self.stride),
            default=lambda x, k: _depthwise_lax(x, k, self.stride),
        )


def _depthwise_lax(x: Array, kernel: Array, stride: int) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (stride, stride),
        [(1, 1), (1, 1)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _depthwise_shift(x: Array, kernel: Array, stride: int) -> Array:
    n_freqs, n_frames = ((n - 1) // stride + 1 for n in x.shape[1:3])
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    total = jnp.zeros((x.shape[0], n_freqs, n_frames, x.shape[3]), x.dtype)
    for i in range(3):
        for j in range(3):
            shifted = padded[
                :, i : i + (n_freqs - 1) * stride + 1 : stride, j : j + (n_frames - 1) * stride + 1 : stride
            ]
            total = total + shifted * kernel[i, j][None, None].astype(x.dtype)
    return total


class SqueezeExcite(nn.Module):
    """Scales each feature by a gate computed from all features' means over the map."""

    bottleneck: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch freq frame feature"]) -> Float[Array, "batch freq frame feature"]:
        gate = nn.silu(nn.Dense(self.bottleneck, dtype=x.dtype)(x.mean((1, 2))))
        gate = nn.sigmoid(nn.Dense(x.shape[-1], dtype=x.dtype)(gate))
        return x * gate[:, None, None, :]


class Dropout(nn.Module):
    """Dropout whose mask for a sample depends on that sample's key alone, not on its place in a batch or device.

    `salt` differs between the dropouts of one model.
    """

    rate: float
    salt: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch *rest"], keys: SampleKeys | None) -> Float[Array, "batch *rest"]:
        if keys is None or self.rate == 0:
            return x

        def mask(key: Array) -> Bool[Array, "*rest"]:
            return jax.random.bernoulli(jax.random.fold_in(key, self.salt), 1 - self.rate, x.shape[1:])

        return jnp.where(jax.vmap(mask)(keys), x / (1 - self.rate), jnp.zeros_like(x))


def raw_rows(maps: Maps, row_present: RowPresent) -> Float[Array, "batch frame row"]:
    """The rows that maps of one bin hold, absent ones 0 whatever they held."""
    return jnp.where(row_present[:, None], maps[:, 0], 0.0)


def row_weights(row_present: RowPresent) -> Float[Array, "batch row"]:
    """What a weighted sum over rows multiplies them by: 0 if absent, else the rows over those that are there.

    The rows that are there stand in for those that are not, as in inverted dropout.
    """
    share = row_present.shape[-1] / jnp.maximum(row_present.sum(-1), 1)
    return jnp.where(row_present, share[:, None], 0.0)


def max_pool(x: Float[Array, "*lead frame feature"], size: int) -> Float[Array, "*lead _frame feature"]:
    """The largest of every `size` frames; what is left at the end falls out.

    Raises:
        ValueError: fewer than `size` frames.
    """
    # In pairs: the gradient of `max` compares values that XLA may round in two ways, and that of XLA's own pooling
    # is slow on CPUs.
    pieces = _pieces(x, size)
    return reduce(jnp.maximum, [pieces[..., i, :] for i in range(size)])


def mean_pool(x: Float[Array, "*lead frame feature"], size: int) -> Float[Array, "*lead _frame feature"]:
    """The mean of every `size` frames; else as `max_pool`."""
    return _pieces(x, size).mean(-2)


def _pieces(x: Array, size: int) -> Array:
    n = x.shape[-2] // size
    if not n:
        raise ValueError(f"the window is too short: {x.shape[-2]} frames where {size} are pooled into one")
    return x[..., : n * size, :].reshape(*x.shape[:-2], n, size, x.shape[-1])


def max_pool_map(
    x: Float[Array, "batch freq frame feature"], kernel: PairOf, strides: PairOf, padding: PairOf = (0, 0)
) -> Float[Array, "batch _ _ feature"]:
    """The largest value of each feature in windows along (freq, frame).

    What does not fill a window falls out. An axis of extent 1 stays as it is, so that no map shrinks to nothing.

    Args:
        x: a map.
        kernel: extent of a window.
        strides: from one window to the next.
        padding: places on both sides that never hold the largest value.
    """
    # By comparing shifted maps: the gradient of XLA's own windows, select-and-scatter, is 5 to 7 times slower on CPUs.
    for axis, size, stride, pad in zip((1, 2), kernel, strides, padding, strict=True):
        if x.shape[axis] == 1:
            continue
        n = (x.shape[axis] + 2 * pad - size) // stride + 1
        around = [(0, 0)] * axis + [(pad, pad)] + [(0, 0)] * (3 - axis)
        padded = jnp.pad(x, around, constant_values=-jnp.inf)
        shifted = (jax.lax.slice_in_dim(padded, i, i + (n - 1) * stride + 1, stride, axis) for i in range(size))
        x = reduce(jnp.maximum, shifted)
    return x


def window_heads(
    tasks: Sequence[TaskSpec],
    features: Float[Array, "batch _features"],
    keys: SampleKeys | None,
    dropout: float,
    dense: Callable[..., nn.Module] = nn.Dense,
) -> Logits:
    """Dropout and one linear layer a task over the features of the whole window.

    To be called within a module's compact `__call__`, whose heads they become: `head_<task>`. `dense` makes the linear
    layer from its number of outputs and its name.
    """
    logits = Logits({}, {})
    for salt, task in enumerate(tasks):
        kept = Dropout(dropout, salt=salt)(features, keys)
        logits.window[task.name] = dense(task.n_logits, name=f"head_{task.name}")(kept)
    return logits


def scaled_width(features: int, width: float) -> int:
    """`features` times `width`, rounded to a multiple of 8, at least 8 and never more than 10 % below."""
    exact = features * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded
