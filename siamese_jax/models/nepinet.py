"""nEpiNet: EfficientNetV2 over frequency-temporal maps; the network of vEpiNet that sees no video.

    stem, 6 stages    of EfficientNetV2 rw_t (`efficientnet.py`): 24, 24, 40, 48, 104, 128, 208 features
    head              Conv 1 x 1 to 1024 features, BatchNorm, SiLU, mean over the map, Dropout, one linear layer a task

FACT (vEpiNet, Neural Networks 2024;175:106319, abstract): spectrograms, EfficientNetV2-S, and nEpiNet is the same
without video. FACT (code published as vEpiNetV2): timm's `efficientnetv2_rw_t`, all rows as its input features,
dropout 0.5, a linear layer. The paper says S and the code loads rw_t: this is the code's. INFERENCE: the linear layer
reads the 1024 features alone once the video's are gone. 45 rows of 129 x 126 end as 5 x 4; 12,633,460 parameters
before the head, 12,640,372 of 77 rows. It is Siamese-ES of size `paper` without Twins-Sleep, parameter for parameter.

DEVIATIONS. Theirs begins with the weights of ImageNet, ours at random. The rows that are there stand in for those
that are not. `model.width` multiplies all features.
"""

import flax.linen as nn

from siamese_jax.config.experiment import Config
from siamese_jax.models.blocks import Conv, Logits, Maps, RowPresent, SampleKeys, scaled_width, window_heads
from siamese_jax.models.efficientnet import RW_T, RW_T_FEATURES, RwtStage
from siamese_jax.vocabulary import TaskSpec


class NEpiNet(nn.Module):
    """Maps of all rows in, logits of all tasks out."""

    config: Config
    tasks: tuple[TaskSpec, ...]
    axis: str | None = None

    @nn.compact
    def __call__(self, maps: Maps, row_present: RowPresent, *, keys: SampleKeys | None = None) -> Logits:
        """As `build_model` says."""
        model, train = self.config.model, keys is not None
        x = maps
        for i in range(1 + len(RW_T)):
            x = RwtStage(model, i, self.axis, name=f"stage_{i}")(x, row_present, train=train)
        last = Conv(scaled_width(RW_T_FEATURES, model.width), (1, 1), axis=self.axis, name="features")
        return window_heads(self.tasks, last(x, train=train).mean((1, 2)), keys, model.dropout)
