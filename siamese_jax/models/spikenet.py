"""SpikeNet: filters along time in every row, their sum over rows, filters along time again; for one second.

FACT (the structure of the released model; citation RECALLED: Jing et al., JAMA Neurology 2020), for 1 s at 128 Hz of 37
rows, 19 against the common average and 18 of the longitudinal bipolar montage:

    Conv 8, 32, Conv 8, 32, BatchNorm, LeakyReLU, maximum of 4, Dropout       in every row
    Conv over all rows, 32, Conv 8, 64, BatchNorm, LeakyReLU, Dropout
    Conv 8, 64, BatchNorm, LeakyReLU, maximum of 4, Dropout
    Conv 8, 96, BatchNorm, LeakyReLU, Dropout
    Conv 8, 96, BatchNorm, LeakyReLU, maximum of 4, Dropout
    Conv 8, 128, BatchNorm, LeakyReLU, Dropout
    head        all features of both remaining times, one linear layer; all Dropouts 0.5

317,632 parameters before the head. INFERENCES: `same` padding as in Keras (valid convolutions would leave nothing), and
LeakyReLU's slope 0.3, the default of Keras. Kernels are numbers of samples, meant for 128 Hz.

Ours: no biases, of which batch normalisation would leave nothing (Keras's default would add 544). The first two
convolutions, between which nothing lies, are one with the product of their kernels, and its zeros are put before and
after the signal, not between the two. `model.width` multiplies all features. Of a window longer than a second the
network reads seconds that begin half a second apart, and the last one; the odds of a class in the window are the mean
of those in its seconds (log-mean-exp of the logits), so that one second is enough to find a spike in.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from siamese_jax.config.experiment import Config, ModelConfig
from siamese_jax.models.blocks import (
    INNER_SALT,
    BatchNorm,
    Dropout,
    Logits,
    Maps,
    RowPresent,
    SampleKeys,
    max_pool,
    raw_rows,
    row_weights,
    scaled_width,
    window_heads,
)
from siamese_jax.vocabulary import TaskSpec

SECOND, STEP = 128, 64
"""Samples that the network reads at once, and from one such piece to the next."""
KERNEL, SLOPE = 8, 0.3
PADDING = ((KERNEL - 1) // 2, KERNEL // 2)
"""`same` of an even kernel: one more zero after than before, as in Keras."""
ROW_FEATURES = 32
JOINED: tuple[tuple[int, int], ...] = ((64, 1), (64, 4), (96, 1), (96, 4), (128, 1))
"""Features of each convolution once rows are joined, and how many frames are then pooled into one."""

INIT = nn.initializers.lecun_normal()
_DIMENSIONS = ("NWC", "WIO", "NWC")


class SpikeNet(nn.Module):
    """Raw rows in, logits of all tasks out."""

    config: Config
    tasks: tuple[TaskSpec, ...]
    axis: str | None = None

    @nn.compact
    def __call__(self, maps: Maps, row_present: RowPresent, *, keys: SampleKeys | None = None) -> Logits:
        """As `build_model` says."""
        rows = raw_rows(maps, row_present).transpose(0, 2, 1)
        starts = piece_starts(rows.shape[-1])
        pieces = jnp.stack([rows[..., start : start + SECOND] for start in starts], 1)
        pieces = pieces.reshape(-1, *pieces.shape[2:])  # each window's, one after another
        if keys is not None:
            keys = jax.vmap(partial(jax.random.split, num=len(starts)))(keys).reshape(-1)
        features = SecondNet(self.config.model, self.axis, name="second")(
            pieces, jnp.repeat(row_present, len(starts), 0), keys
        )
        logits = window_heads(self.tasks, features, keys, self.config.model.dropout)
        joined = {task: x.reshape(-1, len(starts), x.shape[-1]) for task, x in logits.window.items()}
        return Logits({task: jax.nn.logsumexp(x, 1) - np.log(len(starts)) for task, x in joined.items()}, {})


def piece_starts(n_times: int) -> list[int]:
    """Where pieces of a second begin, in samples: half a second apart, the last one at the window's end.

    Raises:
        ValueError: a window that is shorter than a piece.
    """
    if n_times < SECOND:
        raise ValueError(f"spikenet reads pieces of {SECOND} samples (1 s at 128 Hz), and a window has {n_times}")
    return [*range(0, n_times - SECOND, STEP), n_times - SECOND]


class SecondNet(nn.Module):
    """One second of rows to the features that the heads read: the network as it was published."""

    config: ModelConfig
    axis: str | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch row 128"],
        row_present: RowPresent,
        keys: SampleKeys | None,
    ) -> Float[Array, "batch _feature"]:
        width, train = self.config.width, keys is not None

        def finish(x: Array, pooled: int, salt: int) -> Array:
            x = nn.leaky_relu(BatchNorm(self.axis)(x, train=train), SLOPE)
            x = max_pool(x, pooled) if pooled > 1 else x
            return Dropout(self.config.dropout, salt=INNER_SALT + salt)(x, keys)

        features = scaled_width(ROW_FEATURES, width)
        first = self.param("row_first", INIT, (KERNEL, 1, features))
        second = self.param("row_second", INIT, (KERNEL, features, features))
        n_batch, n_rows, n_times = x.shape
        before, after = PADDING
        x = jax.lax.conv_general_dilated(
            x.reshape(n_batch * n_rows, n_times, 1),
            joined_kernel(first, second),
            (1,),
            [(2 * before, 2 * after)],
            dimension_numbers=_DIMENSIONS,
        )
        x = finish(x.reshape(n_batch, n_rows, n_times, features), 4, salt=0)
        over_rows = self.param("over_rows", INIT, (n_rows, features, features))
        x = jnp.einsum("brtf,rfg->btg", x * row_weights(row_present)[..., None, None], over_rows)
        for i, (wanted, pooled) in enumerate(JOINED):
            conv = nn.Conv(scaled_width(wanted, width), (KERNEL,), padding=[PADDING], use_bias=False, name=f"conv_{i}")
            x = finish(conv(x), pooled, salt=1 + i)
        return x.reshape(n_batch, -1)


def joined_kernel(
    first: Float[Array, "tap one inner"], second: Float[Array, "tap inner feature"]
) -> Float[Array, "_tap one feature"]:
    """The kernel of one convolution that does what two do, one after the other: that of both of their kernels.

    Taps are in the order of correlation, as networks have them: output t sees input t + tap.
    """
    reach = second.shape[0] - 1
    return jax.lax.conv_general_dilated(
        first.transpose(1, 0, 2), second[::-1], (1,), [(reach, reach)], dimension_numbers=_DIMENSIONS
    ).transpose(1, 0, 2)
