"""AiED: ResNet-18 over frequency-temporal maps.

    stem        Conv 7 x 7, stride 2, 64 features, BatchNorm, ReLU, MaxPool 3 x 3, stride 2
    4 stages    of two blocks (Conv 3 x 3, BatchNorm, ReLU, Conv 3 x 3, BatchNorm, plus the input, ReLU): 64, 128,
                256, 512 features; from the second stage on, the first block has stride 2
    head        mean over the map, Dropout, one linear layer a task

FACT (code published as ecoglab/aied; Quon et al., Clin Neurophysiol 2022;133:1-8, citation RECALLED): torchvision's
ResNet-18, on pictures of spectrograms of single intracranial channels around what a template search found. RECALLED:
the layers of ResNet-18. INFERENCE, since the paper of Siamese-ES names AiED and no more: for scalp windows of 4 s the
network reads the spectrograms of all rows at once, as its input features. 45 rows of 129 x 126 end as 5 x 4, with
11,308,224 parameters before the head.

DEVIATIONS. Neither template search, colour map nor weights of ImageNet; the original has no dropout before the head
(`model.dropout=0` is like it). The rows that are there stand in for those that are not. `model.width` multiplies all
features.
"""

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from siamese_jax.config.experiment import Config
from siamese_jax.models.blocks import (
    Conv,
    Logits,
    SampleKeys,
    max_pool_map,
    refuse_raw_rows,
    row_weights,
    scaled_width,
    window_heads,
)
from siamese_jax.vocabulary import TaskSpec

STEM = 64
FEATURES: tuple[int, ...] = (64, 128, 256, 512)
"""Of each stage of two blocks."""

# Layers change every axis but the batch: names with an underscore are for the reader, not checked.
Map = Float[Array, "batch _freq _frame _feature"]


class AiED(nn.Module):
    """Maps of all rows in, logits of all tasks out.

    Attributes:
        config: the experiment.
        tasks: one head each.
        axis: device axis for batch statistics, or None on one device.
    """

    config: Config
    tasks: tuple[TaskSpec, ...]
    axis: str | None = None

    @nn.compact
    def __call__(
        self,
        maps: Float[Array, "batch freq frame row"],
        row_present: Bool[Array, "batch row"],
        *,
        keys: SampleKeys | None = None,
    ) -> Logits:
        """Logits of a batch.

        Args:
            maps: output of the converter.
            row_present: rows that hold a signal; the others are zero in `maps`.
            keys: one random key a sample in training; None for running statistics and no dropout.

        Raises:
            ValueError: rows as they are instead of maps.
        """
        model, train = self.config.model, keys is not None
        refuse_raw_rows("aied", maps)
        x = maps * row_weights(row_present)[:, None, None]
        x = Conv(
            scaled_width(STEM, model.width), (7, 7), strides=(2, 2), padding=(3, 3), axis=self.axis, activation=nn.relu
        )(x, train=train)
        x = max_pool_map(x, (3, 3), (2, 2), (1, 1))
        for i, features in enumerate(FEATURES):
            for stride in (1 if i == 0 else 2, 1):
                x = ResidualBlock(scaled_width(features, model.width), stride, self.axis)(x, train=train)
        return window_heads(self.tasks, x.mean((1, 2)), keys, model.dropout)


class ResidualBlock(nn.Module):
    """Two convolutions, and the way past them: as it is, or through one of 1 x 1 where features or stride change."""

    features: int
    stride: int
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        strides = (self.stride, self.stride)
        y = Conv(self.features, strides=strides, axis=self.axis, activation=nn.relu)(x, train=train)
        y = Conv(self.features, axis=self.axis, activation=None)(y, train=train)
        if self.stride > 1 or x.shape[-1] != self.features:
            past = Conv(self.features, (1, 1), strides=strides, padding=(0, 0), axis=self.axis, activation=None)
            x = past(x, train=train)
        return nn.relu(x + y)
