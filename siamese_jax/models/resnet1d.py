"""A residual convolutional network along time for twelve-lead electrocardiograms, one head a task.

Whether common diagnoses help rare ones is the question of Hughes et al. (arXiv 1812.00497): a convolutional network
with a head for each of many classes, against networks for single rare classes. FACT: that much. The paper discloses
neither layers nor rates, so EVERY LAYER HERE IS OURS, in the form that residual networks for electrocardiograms have:

    stem        Conv 15, stride 2, 64 features, BatchNorm, ReLU
    8 blocks    Conv 7, BatchNorm, ReLU, Conv 7, BatchNorm, plus the input, ReLU
                features 64 64 128 128 256 256 256 256; every second one, from the first on, has stride 2
    head        mean over time, Dropout, one linear layer a task

4.08 M parameters for twelve leads. Where a block changes features or length, its input goes through Conv 1 and
BatchNorm. `model.width` multiplies all features. Of 10 s at 100 Hz the last block has 32 frames.
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
    raw_rows,
    row_weights,
    scaled_width,
    window_heads,
)
from siamese_jax.vocabulary import TaskSpec

FEATURES: tuple[int, ...] = (64, 64, 128, 128, 256, 256, 256, 256)
"""Of each block."""
STEM, STEM_KERNEL, KERNEL = 64, 15, 7


class ResNet1d(nn.Module):
    """Raw rows in, logits of all tasks out."""

    config: Config
    tasks: tuple[TaskSpec, ...]
    axis: str | None = None

    @nn.compact
    def __call__(self, maps: Maps, row_present: RowPresent, *, keys: SampleKeys | None = None) -> Logits:
        """As `build_model` says."""
        model, train = self.config.model, keys is not None
        x = (raw_rows(maps, row_present) * row_weights(row_present)[:, None])[:, None]
        stem = Conv(scaled_width(STEM, model.width), (1, STEM_KERNEL), (1, 2), axis=self.axis, activation=nn.relu)
        x = stem(x, train=train)
        for i, features in enumerate(FEATURES):
            strides = (1, 2 if i % 2 == 0 else 1)
            block = ResidualBlock(scaled_width(features, model.width), (1, KERNEL), strides, self.axis)
            x = block(x, train=train)
        return window_heads(self.tasks, x.mean((1, 2)), keys, model.dropout)
