"""EEGformer: convolutions of each row, then attention among filters, among rows and over time, and a decoder.

Siamese-ES was compared with an "EEGFormerNet", which no paper describes. INFERENCE: that it is EEGformer (Wan et al.,
Front Neurosci 2023;17:1148855). FACT of that one:

    convolutions   3 of each row by itself, 10 samples, unpadded, ReLU; the last one gives 120 filters a row
    regional       transformer whose tokens are the filters of one row
    synchronous    transformer whose tokens are the rows, for one filter
    temporal       transformer whose tokens are 10 pieces, each the mean over a tenth of the features
    decoder        linear over filters to 1, over rows to a few, over pieces to half as many; one linear layer a task

A transformer is a linear embedding, a learned class token and learned positions, and blocks of layer norm, attention,
layer norm, perceptron (4 times as wide, GELU), each pair with a way past it. INFERENCES: 3 blocks, 4 heads and dropout
0.1 (`model.dropout`, after attention, after the perceptron and before the heads); the first two convolutions give one
filter a row, and the decoder keeps 2 rows (both as in the unofficial code FENRlR/EEGformer); the class token stays
within its transformer, so that filters, rows and pieces are as many after it as before.

Deviation: tokens are 128 features wide, where the original's are as wide as what they are made of (485, and 2,280 in
the temporal transformer, whose tokens here are widened again for the decoder). 2,493,285 parameters with one logit for
19 rows and 512 samples at 128 Hz. `model.width` multiplies the 128 and the 120. Rows that are absent are no token among
rows, and have no part in the sum over rows that the temporal transformer begins with.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from siamese_jax.config.experiment import Config
from siamese_jax.models.blocks import (
    INNER_SALT,
    Dropout,
    Logits,
    Maps,
    RowPresent,
    SampleKeys,
    raw_rows,
    row_weights,
    scaled_width,
    window_heads,
)
from siamese_jax.vocabulary import TaskSpec

FILTERS, KERNEL = 120, 10
WIDTH, BLOCKS, HEADS, PERCEPTRON = 128, 3, 4, 4
PIECES, DECODED_ROWS = 10, 2

# Sequences of tokens: by sample and by what they belong to, a row or a filter.
Tokens = Float[Array, "batch group _token _feature"]


class EEGformer(nn.Module):
    """Raw rows in, logits of all tasks out."""

    config: Config
    tasks: tuple[TaskSpec, ...]
    axis: str | None = None

    @nn.compact
    def __call__(self, maps: Maps, row_present: RowPresent, *, keys: SampleKeys | None = None) -> Logits:
        """As `build_model` says."""
        model = self.config.model
        width, rate = scaled_width(WIDTH, model.width), model.dropout
        rows = raw_rows(maps, row_present).transpose(0, 2, 1)
        n_rows, n_filters = rows.shape[1], scaled_width(FILTERS, model.width)
        x = RowFilters(n_filters, name="filters")(rows)  # [batch, row, filter, time]
        x = Transformer(width, rate, salt=INNER_SALT, name="regional")(x, keys)
        x = x.transpose(0, 2, 1, 3)
        x = Transformer(width, rate, salt=INNER_SALT + 10, name="synchronous")(x, keys, row_present)
        x = x.transpose(0, 2, 1, 3) * row_weights(row_present)[:, :, None, None]
        x = jnp.einsum("brfd,dp->bprf", x, pieces_of(width))
        x = x.reshape(x.shape[0], 1, PIECES, n_rows * n_filters)
        x = Transformer(width, rate, salt=INNER_SALT + 20, name="temporal")(x, keys)
        x = nn.Dense(n_rows * n_filters, name="widen")(x).reshape(-1, PIECES, n_rows, n_filters)
        x = nn.Dense(1, name="decode_filters")(x)[..., 0]
        x = nn.Dense(DECODED_ROWS, name="decode_rows")(x).transpose(0, 2, 1)
        x = nn.Dense(PIECES // 2, name="decode_pieces")(x)
        return window_heads(self.tasks, x.reshape(x.shape[0], -1), keys, rate)


def pieces_of(width: int) -> Float[np.ndarray, "feature piece"]:
    """The matrix that takes features to the means of `PIECES` runs of them, as equal as whole numbers can be."""
    ends = np.arange(1, PIECES + 1) * width // PIECES
    of_piece = (np.searchsorted(ends, np.arange(width), side="right")[:, None] == np.arange(PIECES)).astype(np.float32)
    return of_piece / np.maximum(of_piece.sum(0), 1)


class RowFilters(nn.Module):
    """Three unpadded convolutions of each row by itself, each with ReLU: one filter, one filter, `filters`."""

    filters: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch row time"]) -> Float[Array, "batch row _filter _time"]:
        if x.shape[-1] <= 3 * (KERNEL - 1):
            raise ValueError(f"eegformer needs a window of {3 * KERNEL - 2} samples or more, given {x.shape[-1]}")
        n_rows, init = x.shape[1], nn.initializers.lecun_normal(in_axis=0, out_axis=-1, batch_axis=1)
        for i in range(2):
            kernel = self.param(f"kernel_{i}", init, (KERNEL, n_rows, 1))[..., 0]
            bias = self.param(f"bias_{i}", nn.initializers.zeros, (n_rows,))
            x = nn.relu(jnp.einsum("brtk,kr->brt", _stretches(x), kernel) + bias[None, :, None])
        kernel = self.param("kernel_2", init, (KERNEL, n_rows, self.filters))
        bias = self.param("bias_2", nn.initializers.zeros, (n_rows, self.filters))
        return nn.relu(jnp.einsum("brtk,krf->brft", _stretches(x), kernel) + bias[None, :, :, None])


def _stretches(x: Array) -> Array:
    """At each time, the `KERNEL` samples that begin there, along a last axis."""
    n = x.shape[-1] - KERNEL + 1
    return jnp.stack([x[..., i : i + n] for i in range(KERNEL)], -1)


class Transformer(nn.Module):
    """Tokens of any width to as many of `width` features, all of a group having seen one another."""

    width: int
    dropout: float
    salt: int

    @nn.compact
    def __call__(
        self, x: Tokens, keys: SampleKeys | None, token_present: Bool[Array, "batch token"] | None = None
    ) -> Tokens:
        """`token_present`: tokens that the others of their group see; all if None."""
        init = nn.initializers.normal(0.02)
        x = nn.Dense(self.width, name="embed")(x)
        x = x + self.param("position", init, x.shape[2:])[None, None]
        first = self.param("class_token", init, (self.width,))
        x = jnp.concatenate([jnp.broadcast_to(first, (*x.shape[:2], 1, self.width)), x], 2)
        seen = None if token_present is None else jnp.pad(token_present, ((0, 0), (1, 0)), constant_values=True)
        for i in range(BLOCKS):
            attended = Attention(name=f"attention_{i}")(nn.LayerNorm()(x), seen)
            x = x + Dropout(self.dropout, salt=self.salt + 2 * i)(attended, keys)
            y = nn.gelu(nn.Dense(PERCEPTRON * self.width)(nn.LayerNorm()(x)), approximate=False)
            x = x + Dropout(self.dropout, salt=self.salt + 2 * i + 1)(nn.Dense(self.width)(y), keys)
        return x[:, :, 1:]


class Attention(nn.Module):
    """Scaled dot-product attention of `HEADS` heads among the tokens of each group (Vaswani et al. 2017)."""

    @nn.compact
    def __call__(self, x: Tokens, seen: Bool[Array, "batch token"] | None) -> Tokens:
        """`seen`: tokens that are looked at, by sample; all if None."""
        width = x.shape[-1]
        queries, keys, values = (
            nn.Dense(width, use_bias=name != "key", name=name)(x).reshape(*x.shape[:3], HEADS, width // HEADS)
            for name in ("query", "key", "value")  # a bias of all keys alike does nothing to a softmax
        )
        scores = jnp.einsum("bgqhd,bgkhd->bghqk", queries / np.sqrt(width // HEADS), keys)
        if seen is not None:
            scores = jnp.where(seen[:, None, None, None], scores, -jnp.inf)
        mixed = jnp.einsum("bghqk,bgkhd->bgqhd", jax.nn.softmax(scores), values)
        return nn.Dense(width, name="out")(mixed.reshape(x.shape))
