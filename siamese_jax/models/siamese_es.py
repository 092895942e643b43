"""Siamese-ES: a shared stem, Twins-Electron and Twins-Sleep, their fusion, one head a task.

What the papers disclose is the block diagram: hard parameter sharing after a Frequency-Temporal Converter, two
branches of like structure, fused for IED detection (AAN 2026 abstract 001709; Natl Med J China 2025). Depth of
sharing, backbone and fusion are inferences from code of the same group and are flags here.

Two sizes share everything but their stages. `paper` is EfficientNetV2 rw_t, the backbone of the group's released
code. `small` is ours: along time it only convolves, without padding, over frames that the window's margin covers, so
a frame's logits depend on nothing but the signal around it, wherever the window begins.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from siamese_jax.config import ModelConfig
from siamese_jax.models.blocks import (
    BatchNorm,
    Conv,
    DepthwiseConv,
    Dropout,
    Logits,
    SampleKeys,
    SqueezeExcite,
    scaled_width,
)
from siamese_jax.vocabulary import TaskSpec

# Layers change every axis but the batch: names with an underscore are for the reader, not checked.
Map = Float[Array, "batch _freq _frame _feature"]
Frames = Float[Array, "batch _frame _feature"]

SMALL_FEATURES = (24, 32, 48, 64)


class PaperStage(NamedTuple):
    """A stage of EfficientNetV2 rw_t after the stem."""

    block: str
    repeats: int
    stride: int
    expansion: int
    features: int


# timm's efficientnetv2_rw_t: EfficientNetV2-S with 0.8 of its features and 0.9 of its depth.
RW_T_STEM, RW_T_FEATURES = 24, 1024
RW_T: tuple[PaperStage, ...] = (
    PaperStage("conv", 2, 1, 1, 24),
    PaperStage("fused", 4, 2, 4, 40),
    PaperStage("fused", 4, 2, 4, 48),
    PaperStage("inverted", 6, 2, 4, 104),
    PaperStage("inverted", 9, 1, 6, 128),
    PaperStage("inverted", 14, 2, 6, 208),
)


class SiameseES(nn.Module):
    """Maps of all rows in, logits of all tasks out.

    Attributes:
        config: architecture and ablation flags.
        tasks: one head each.
        axis: device axis for batch statistics, or None on one device.
    """

    config: ModelConfig
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
            maps: output of the converter, with `context_frames` extra frames on both sides.
            row_present: rows that hold a signal; the others are zero in `maps`.
            keys: one random key a sample in training; None for running statistics and no dropout.
        """
        config, train = self.config, keys is not None
        # The rows that are there stand in for those that are not, as in inverted dropout.
        share = row_present.shape[-1] / jnp.maximum(row_present.sum(-1), 1)
        x = maps * share.astype(maps.dtype)[:, None, None, None]
        for i in range(config.shared_stages):
            x = self._stage(i, "shared")(x, train=train)

        electron = self._branch("electron", x, train=train)
        uses_sleep = config.fusion != "none" or any(t.name in config.sleep_tasks for t in self.tasks)
        sleep = self._branch("sleep", x, train=train) if uses_sleep else None
        fused = self._fuse(electron, sleep)

        logits = Logits({}, {})
        for salt, task in enumerate(self.tasks):
            of_state = task.name in config.sleep_tasks
            features = Dropout(config.dropout, salt=salt)(sleep if of_state else fused, keys)
            # Odds of frames add up over the window; starting at minus the log of their number makes them sum to 1.
            adds_odds = config.pooling == "frames" and not of_state
            bias = -math.log(features.shape[1]) if adds_odds else 0.0
            head = nn.Dense(task.n_logits, bias_init=nn.initializers.constant(bias), name=f"head_{task.name}")
            by_frame = head(features)
            logits.window[task.name] = jax.nn.logsumexp(by_frame, 1) if adds_odds else by_frame.mean(1)
            if config.pooling == "frames":
                logits.frame[task.name] = by_frame
        return logits

    def _stage(self, i: int, owner: str) -> nn.Module:
        kind = SmallStage if self.config.size == "small" else RwtStage
        return kind(self.config, i, self.axis, name=f"{owner}_{i}")

    def _branch(self, owner: str, x: Map, *, train: bool) -> Frames:
        for i in range(self.config.shared_stages, self.config.n_stages):
            x = self._stage(i, owner)(x, train=train)
        kind = SmallFeatures if self.config.size == "small" else RwtFeatures
        frames = kind(self.config, self.axis, name=f"{owner}_features")(x, train=train)
        return frames if self.config.pooling == "frames" else frames.mean(1, keepdims=True)

    def _fuse(self, electron: Frames, sleep: Frames | None) -> Frames:
        """What the IED head reads: features of both branches, as `config.fusion` says."""
        if self.config.fusion == "none":
            return electron
        if self.config.stop_sleep_gradient:
            sleep = jax.lax.stop_gradient(sleep)
        if self.config.fusion == "concat":
            return jnp.concatenate([electron, sleep], -1)
        features = electron.shape[-1]
        if self.config.fusion == "gated":
            return electron * nn.sigmoid(nn.Dense(features, name="fusion_gate")(sleep))
        gain, shift = jnp.split(nn.Dense(2 * features, name="fusion_film")(sleep), 2, axis=-1)
        return electron * (1 + gain) + shift


# --- small ---


class SmallStage(nn.Module):
    """One dense convolution: strided along frequency, dilated and unpadded along time."""

    config: ModelConfig
    index: int
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        tall = x.shape[1] > 1
        features = SMALL_FEATURES[min(self.index, len(SMALL_FEATURES) - 1)]
        return Conv(
            scaled_width(features, self.config.width),
            kernel=(3 if tall else 1, 3),
            strides=(2 if tall else 1, 1),
            dilation=(1, self.config.dilations[self.index]),
            padding=(1 if tall else 0, 0),
            axis=self.axis,
        )(x, train=train)


class SmallFeatures(nn.Module):
    """Features of each frame from what is left of the frequency axis."""

    config: ModelConfig
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Frames:
        frames = jnp.moveaxis(x, 1, 2).reshape(x.shape[0], x.shape[2], -1)
        frames = nn.Dense(scaled_width(SMALL_FEATURES[-1], self.config.width), use_bias=False)(frames)
        return nn.silu(BatchNorm(self.axis)(frames, train=train))


# --- paper ---


class RwtStage(nn.Module):
    """Stage `index` of EfficientNetV2 rw_t; 0 is the stem."""

    config: ModelConfig
    index: int
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        if self.index == 0:
            stem = Conv(scaled_width(RW_T_STEM, self.config.width), strides=(2, 2), axis=self.axis)
            return stem(x, train=train)
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
        return Conv(features, kernel=(1, 1), padding=(0, 0), axis=self.axis, activation=activation)


class RwtFeatures(nn.Module):
    """The network's last pointwise convolution, then the mean over frequency."""

    config: ModelConfig
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Frames:
        features = scaled_width(RW_T_FEATURES, self.config.width)
        return Conv(features, kernel=(1, 1), padding=(0, 0), axis=self.axis)(x, train=train).mean(1)


