"""EfficientNetV2 rw_t in stages: the backbone of the published code of Siamese-ES's group, and of nEpiNet.

timm's `efficientnetv2_rw_t`: EfficientNetV2-S with 0.8 of its features and 0.9 of its depth (12.6 M parameters).
"""

from typing import NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float

from siamese_jax.config.experiment import ModelConfig
from siamese_jax.models.blocks import (
    BatchNorm,
    Conv,
    DepthwiseConv,
    RowPresent,
    SqueezeExcite,
    row_weights,
    scaled_width,
)

# Layers change every axis but the batch: names with an underscore are for the reader, not checked.
Map = Float[Array, "batch _freq _frame _feature"]


class PaperStage(NamedTuple):
    """A stage of EfficientNetV2 rw_t after the stem."""

    block: str
    repeats: int
    stride: int
    expansion: int
    features: int


RW_T_STEM, RW_T_FEATURES = 24, 1024
RW_T: tuple[PaperStage, ...] = (
    PaperStage("conv", 2, 1, 1, 24),
    PaperStage("fused", 4, 2, 4, 40),
    PaperStage("fused", 4, 2, 4, 48),
    PaperStage("inverted", 6, 2, 4, 104),
    PaperStage("inverted", 9, 1, 6, 128),
    PaperStage("inverted", 14, 2, 6, 208),
)


class RwtStage(nn.Module):
    """Stage `index` of EfficientNetV2 rw_t; 0 is the stem."""

    config: ModelConfig
    index: int
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Map, row_present: RowPresent, *, train: bool) -> Map:
        if self.index == 0:
            stem = Conv(scaled_width(RW_T_STEM, self.config.width), strides=(2, 2), axis=self.axis)
            return stem(x * row_weights(row_present).astype(x.dtype)[:, None, None], train=train)
        stage = RW_T[self.index - 1]
        for i in range(stage.repeats):
            x = RwtBlock(self.config, stage, stage.stride if i == 0 else 1, self.axis)(x, train=train)
        return x


class RwtBlock(nn.Module):
    """A residual block: plain 3 x 3, fused expansion, or depthwise with squeeze-excite."""

    config: ModelConfig
    stage: PaperStage
    stride: int
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        features = scaled_width(self.stage.features, self.config.width)
        expanded = x.shape[-1] * self.stage.expansion
        strides = (self.stride, self.stride)
        if self.stage.block == "conv":
            y = Conv(features, strides=strides, axis=self.axis)(x, train=train)
        elif self.stage.block == "fused":
            y = Conv(expanded, strides=strides, axis=self.axis)(x, train=train)
            y = self._pointwise(features, activation=None)(y, train=train)
        else:
            y = self._pointwise(expanded)(x, train=train)
            y = DepthwiseConv(self.stride, self.config.depthwise)(y)
            y = nn.silu(BatchNorm(self.axis)(y, train=train))
            y = SqueezeExcite(round(x.shape[-1] / 4))(y)
            y = self._pointwise(features, activation=None)(y, train=train)
        return x + y if x.shape == y.shape else y

    def _pointwise(self, features: int, activation=nn.silu) -> Conv:
        return Conv(features, kernel=(1, 1), axis=self.axis, activation=activation)
