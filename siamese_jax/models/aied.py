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

from siamese_jax.config.experiment import Config
from siamese_jax.models.blocks import (
    Conv,
    Logits,
    Maps,
    ResidualBlock,
    RowPresent,
    SampleKeys,
    max_pool_map,
    row_weights,
    scaled_width,
    window_heads,
)
from siamese_jax.vocabulary import TaskSpec

STEM = 64
FEATURES: tuple[int, ...] = (64, 128, 256, 512)
"""Of each stage of two blocks."""


class AiED(nn.Module):
    """Maps of all rows in, logits of all tasks out."""

    config: Config
    tasks: tuple[TaskSpec, ...]
    axis: str | None = None

    @nn.compact
    def __call__(self, maps: Maps, row_present: RowPresent, *, keys: SampleKeys | None = None) -> Logits:
        """As `build_model` says."""
        model, train = self.config.model, keys is not None
        x = maps * row_weights(row_present)[:, None, None]
        stem = Conv(scaled_width(STEM, model.width), (7, 7), (2, 2), axis=self.axis, activation=nn.relu)
        x = max_pool_map(stem(x, train=train), (3, 3), (2, 2), (1, 1))
        for i, features in enumerate(FEATURES):
            for stride in (1 if i == 0 else 2, 1):
                block = ResidualBlock(scaled_width(features, model.width), strides=(stride, stride), axis=self.axis)
                x = block(x, train=train)
        return window_heads(self.tasks, x.mean((1, 2)), keys, model.dropout)
