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
from jaxtyping import Array, Bool, Float

from siamese_jax.config.experiment import Config
from siamese_jax.models.blocks import Conv, Logits, SampleKeys, raw_rows, row_weights, scaled_width, window_heads
from siamese_jax.vocabulary import TaskSpec

FEATURES: tuple[int, ...] = (64, 64, 128, 128, 256, 256, 256, 256)
"""Of each block."""
STEM, STEM_KERNEL, KERNEL = 64, 15, 7

# Layers change every axis but the batch: names with an underscore are for the reader, not checked.
Series = Float[Array, "batch 1 _frame _feature"]


class ResNet1d(nn.Module):
    """Raw rows in, logits of all tasks out.

    Attributes:
        config: the experiment; its `converter.kind` must be `none`.
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
            maps: rows as they are, [batch, 1, time, row].
            row_present: rows that hold a signal; the others are zero in `maps`.
            keys: one random key a sample in training; None for running statistics and no dropout.

        Raises:
            ValueError: a map of more than one bin.
        """
        model, train = self.config.model, keys is not None
        x = (raw_rows("resnet1d", maps, row_present) * row_weights(row_present)[:, None])[:, None]
        x = _conv(scaled_width(STEM, model.width), STEM_KERNEL, 2, self.axis)(x, train=train)
        for i, features in enumerate(FEATURES):
            x = ResidualBlock(scaled_width(features, model.width), 1 + (i + 1) % 2, self.axis)(x, train=train)
        return window_heads(self.tasks, x.mean((1, 2)), keys, model.dropout)


class ResidualBlock(nn.Module):
    """Two convolutions along time, and the way past them."""

    features: int
    stride: int
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Series, *, train: bool) -> Series:
        y = _conv(self.features, KERNEL, self.stride, self.axis)(x, train=train)
        y = _conv(self.features, KERNEL, 1, self.axis, activation=None)(y, train=train)
        if y.shape != x.shape:
            x = _conv(self.features, 1, self.stride, self.axis, activation=None)(x, train=train)
        return nn.relu(x + y)


def _conv(features: int, kernel: int, stride: int, axis: str | None, activation=nn.relu) -> Conv:
    """A convolution along time."""
    return Conv(features, (1, kernel), (1, stride), padding=(0, kernel // 2), axis=axis, activation=activation)
