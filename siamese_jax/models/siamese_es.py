"""Siamese-ES: a shared stem, Twins-Electron and Twins-Sleep, their fusion, one head a task.

What the papers disclose is the block diagram: hard parameter sharing after a Frequency-Temporal Converter, two
branches of like structure, fused for IED detection (AAN 2026 abstract 001709; Natl Med J China 2025). Depth of
sharing, backbone and fusion are inferences from code of the same group and are flags here.

Two sizes share everything but their stages. `paper` is EfficientNetV2 rw_t, the backbone of the group's released
code. `small` is ours: along time it only convolves, without padding, over frames that the window's margin covers, so
a frame's logits depend on nothing but the signal around it, wherever the window begins.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from siamese_jax.config.experiment import Config, ModelConfig
from siamese_jax.models.blocks import (
    BatchNorm,
    Conv,
    Dropout,
    Logits,
    Maps,
    RowPresent,
    SampleKeys,
    scaled_width,
)
from siamese_jax.models.efficientnet import RW_T_FEATURES, RwtStage
from siamese_jax.vocabulary import TaskSpec

# Layers change every axis but the batch: names with an underscore are for the reader, not checked.
Map = Float[Array, "batch _freq _frame _feature"]
Frames = Float[Array, "batch _frame _feature"]

OWNERS = {"stem": "shared", "electron": "electron", "sleep": "sleep"}
"""What stages and layers of a part that may be frozen are named after: `shared_0`, `electron_features`."""

ROW_STAGES, ROW_FEATURES, JOINED_FEATURES = 2, 24, 64
"""Of `small`: stages over single rows and their features; features once the rows are joined."""


def is_frozen(config: Config, layer: str) -> bool:
    """Whether a layer, by its name right under the model, belongs to a part that `config.freeze` names."""
    return layer.split("_")[0] in {OWNERS[part] for part in config.freeze}


def adds_odds(config: ModelConfig, task: str) -> bool:
    """Whether a window's odds are the sum of its frames'; else its logits are the mean of theirs, if it has several."""
    return config.pooling == "frames" and task not in config.sleep_tasks


class SiameseES(nn.Module):
    """Maps of all rows in, logits of all tasks out."""

    config: Config
    tasks: tuple[TaskSpec, ...]
    axis: str | None = None

    @nn.compact
    def __call__(self, maps: Maps, row_present: RowPresent, *, keys: SampleKeys | None = None) -> Logits:
        """As `build_model` says."""
        config, train = self.config.model, keys is not None
        # Filter and converter stay float32: bfloat16 is up to 2 log units wrong where a spectrum is weak.
        x = maps.astype(self.config.model.dtype)
        for i in range(config.shared_stages):
            x = self._stage(i, "shared", x, row_present, train=train)

        electron = self._branch("electron", x, row_present, train=train)
        uses_sleep = config.fusion != "none" or any(t.name in config.sleep_tasks for t in self.tasks)
        sleep = self._branch("sleep", x, row_present, train=train) if uses_sleep else None
        fused = self._fuse(electron, sleep)

        logits = Logits({}, {})
        for salt, task in enumerate(self.tasks):
            of_state = sleep is not None and task.name in config.sleep_tasks
            features = Dropout(config.dropout, salt=salt)(sleep if of_state else fused, keys)
            # Odds of frames add up over the window; starting at minus the log of their number makes them sum to 1.
            of_events = adds_odds(config, task.name)
            bias = -math.log(features.shape[1]) if of_events else 0.0
            head = nn.Dense(
                task.n_logits, dtype=jnp.float32, bias_init=nn.initializers.constant(bias), name=f"head_{task.name}"
            )
            by_frame = head(features)
            logits.window[task.name] = jax.nn.logsumexp(by_frame, 1) if of_events else by_frame.mean(1)
            if config.pooling == "frames":
                logits.frame[task.name] = by_frame
        return logits

    def _stage(self, i: int, owner: str, x: Map, row_present: RowPresent, *, train: bool) -> Map:
        config, name = self.config.model, f"{owner}_{i}"
        train = train and not is_frozen(self.config, name)
        kind = SmallStage if config.size == "small" else RwtStage

        def run(stage: nn.Module, x: Map, row_present: RowPresent) -> Map:
            return stage(x, row_present, train=train)

        run = nn.remat(run) if config.remat else run
        return run(kind(config, i, self.axis, name=name), x, row_present)

    def _branch(self, owner: str, x: Map, row_present: RowPresent, *, train: bool) -> Frames:
        config = self.config.model
        for i in range(config.shared_stages, config.n_stages):
            x = self._stage(i, owner, x, row_present, train=train)
        if config.size == "paper":
            name, features = f"{owner}_features", scaled_width(RW_T_FEATURES, config.width)
            last = Conv(features, (1, 1), axis=self.axis, name=name)
            x = last(x, train=train and not is_frozen(self.config, name))
        frames = x.mean(1)  # over what is left of the frequencies; of `small`, the one joined row
        return frames if config.pooling == "frames" else frames.mean(1, keepdims=True)

    def _fuse(self, electron: Frames, sleep: Frames | None) -> Frames:
        """What the IED head reads: features of both branches, as `model.fusion` says."""
        config = self.config.model
        if config.fusion == "none" or sleep is None:
            return electron
        if config.stop_sleep_gradient:
            sleep = jax.lax.stop_gradient(sleep)
        if config.fusion == "concat":
            return jnp.concatenate([electron, sleep], -1)
        features = electron.shape[-1]
        if config.fusion == "gated":
            return electron * nn.sigmoid(nn.Dense(features, dtype=sleep.dtype, name="fusion_gate")(sleep))
        film = nn.Dense(2 * features, dtype=sleep.dtype, name="fusion_film")
        gain, shift = jnp.split(film(sleep), 2, axis=-1)
        return electron * (1 + gain) + shift


class SmallStage(nn.Module):
    """One stage of `small`: a temporal convolution, dilated and unpadded, of kernel 3.

    The first `ROW_STAGES` stages run over each row by itself with the same weights, frequency being their features:
    what a spike looks like is learnt once for all electrodes. The next stage joins the rows: the largest and the mean
    of each feature over the head, and a sum with a weight for each row. From there on, only time is left.
    Maps are [batch, row, frame, feature].
    """

    config: ModelConfig
    index: int
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Map, row_present: RowPresent, *, train: bool) -> Map:
        if self.index == 0:
            # EEG falls by orders of magnitude from 1 to 50 Hz: without this, the low ones would outweigh all others.
            x = BatchNorm(self.axis)(jnp.transpose(x, (0, 3, 2, 1)), train=train)
        if self.index == ROW_STAGES:
            x = self._join(x, row_present)
        features = ROW_FEATURES if self.index < ROW_STAGES else JOINED_FEATURES
        dilation = self.config.dilations[self.index]
        conv = Conv(
            scaled_width(features, self.config.width),
            kernel=(1, 3),
            dilation=(1, dilation),
            padding=(0, 0),
            axis=self.axis,
        )
        y = conv(x, train=train)
        centre = x[:, :, dilation : x.shape[2] - dilation]
        return centre + y if centre.shape == y.shape else y

    def _join(self, x: Map, row_present: RowPresent) -> Map:
        there = row_present[:, :, None, None]
        n_there = jnp.maximum(row_present.sum(-1), 1).astype(x.dtype)[:, None, None, None]
        present = jnp.where(there, x, jnp.zeros_like(x))
        mean = present.sum(1, keepdims=True) / n_there
        # By its index: the gradient of `max` compares values that XLA may round in two ways, and then loses it.
        index = jnp.where(there, x, jnp.full_like(x, -jnp.inf)).argmax(1, keepdims=True)
        chosen = jnp.arange(x.shape[1])[None, :, None, None] == index
        largest = jnp.where(chosen, present, jnp.zeros_like(x)).sum(1, keepdims=True)
        # The rows that are there stand in for those that are not, as in inverted dropout.
        rows = jnp.transpose(present * (x.shape[1] / n_there), (0, 2, 1, 3))
        rows = rows.reshape(*rows.shape[:2], -1)[:, None]
        features = scaled_width(JOINED_FEATURES, self.config.width)
        by_place = nn.Dense(features, use_bias=False, dtype=x.dtype)(rows)
        return jnp.concatenate([largest, mean, by_place], -1)
