"""CNN-LSTM: three convolutions along time, an LSTM over what is left of it, one head a task.

Which CNN-LSTM Siamese-ES was compared with is not disclosed. EVERY LAYER HERE IS AN INFERENCE, in the form that such
networks for seizures and IED have (Xu et al. 2020, Tjepkema-Cloostermans et al. 2018; we have not read their layers):

    Conv 7, stride 2, 64 features, BatchNorm, ReLU, maximum of 2
    Conv 3, 128 features, BatchNorm, ReLU, maximum of 2
    Conv 3, 256 features, BatchNorm, ReLU, maximum of 2, Dropout 0.3
    LSTM 64, last state
    Linear 32, ReLU, Dropout 0.5, one linear layer a task

216,577 parameters with one logit for 19 rows; of 512 samples the LSTM sees 32 steps. PyTorch would count 216,833: its
LSTM has two biases, of which only the sum acts. `model.dropout` is that before the heads, 0.5; the inner one is 0.6 of
it. `model.width` multiplies all features.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from siamese_jax.config.experiment import Config
from siamese_jax.models.blocks import (
    INNER_SALT,
    Conv,
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

CONVOLUTIONS: tuple[tuple[int, int, int], ...] = ((64, 7, 2), (128, 3, 1), (256, 3, 1))
"""Features, kernel and stride of each."""
STATES, DENSE = 64, 32
INNER_DROPOUT = 0.6
"""Of `model.dropout`: 0.3 where that is 0.5."""


class CnnLstm(nn.Module):
    """Raw rows in, logits of all tasks out."""

    config: Config
    tasks: tuple[TaskSpec, ...]
    axis: str | None = None

    @nn.compact
    def __call__(self, maps: Maps, row_present: RowPresent, *, keys: SampleKeys | None = None) -> Logits:
        """As `build_model` says."""
        model, train = self.config.model, keys is not None
        x = raw_rows(maps, row_present) * row_weights(row_present)[:, None]
        x = x[:, None]
        for features, kernel, stride in CONVOLUTIONS:
            wide = scaled_width(features, model.width)
            conv = Conv(wide, (1, kernel), (1, stride), axis=self.axis, activation=nn.relu)
            x = max_pool(conv(x, train=train), 2)
        x = Dropout(INNER_DROPOUT * model.dropout, salt=INNER_SALT)(x[:, 0], keys)
        x = Lstm(scaled_width(STATES, model.width))(x)
        x = nn.relu(nn.Dense(scaled_width(DENSE, model.width))(x))
        return window_heads(self.tasks, x, keys, model.dropout)


class Lstm(nn.Module):
    """A long short-term memory (Hochreiter and Schmidhuber 1997, with forget gates), from zero states.

    Gates stand in the order input, forget, candidate, output, as in PyTorch; one bias.
    """

    states: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch step feature"]) -> Float[Array, "batch _state"]:
        """The last state."""
        # What the input says to all gates at all steps is one product.
        driven = nn.Dense(4 * self.states, name="input")(x)
        recurrent = self.param("recurrent", nn.initializers.orthogonal(), (self.states, 4 * self.states))

        def step(carry: tuple[Array, Array], driven: Array) -> tuple[tuple[Array, Array], None]:
            hidden, cell = carry
            into, forget, candidate, out = jnp.split(driven + hidden @ recurrent, 4, axis=-1)
            cell = nn.sigmoid(forget) * cell + nn.sigmoid(into) * jnp.tanh(candidate)
            return (nn.sigmoid(out) * jnp.tanh(cell), cell), None

        zero = jnp.zeros((x.shape[0], self.states), x.dtype)
        (hidden, _), _ = jax.lax.scan(step, (zero, zero), driven.transpose(1, 0, 2), unroll=8)
        return hidden
