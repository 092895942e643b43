"""VGG-16 over frequency-temporal maps, as the group of Siamese-ES uses it.

    5 blocks    of 2, 2, 3, 3, 3 convolutions 3 x 3 with bias, ReLU after each: 64, 128, 256, 512, 512 features;
                after each block MaxPool 2 x 2
    head        mean over the map, Dropout, one linear layer a task

FACT (code published with vEpiSet, Sci Data 2025;12:229): timm's `vgg16` up to its last pool, all rows as its input
features, then mean, dropout 0.5 and a linear layer; neither its wide layers nor batch normalisation. 45 rows of
129 x 126 end as 4 x 3, with 14,738,880 parameters before the head. INFERENCE: that this is the VGG-16 which Siamese-ES
was compared with, whose paper names it and no more; the same group wrote both.

DEVIATIONS. Theirs begins with the weights of ImageNet; ours at random, as timm begins without them. Maps of fewer
than 32 bins or frames, which would shrink to nothing, are pooled until one is left. The rows that are there stand in
for those that are not. `model.width` multiplies all features.
"""

import flax.linen as nn

from siamese_jax.config.experiment import Config
from siamese_jax.models.blocks import (
    Logits,
    Maps,
    RowPresent,
    SampleKeys,
    max_pool_map,
    row_weights,
    scaled_width,
    window_heads,
)
from siamese_jax.vocabulary import TaskSpec

BLOCKS: tuple[tuple[int, ...], ...] = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
"""Features of each convolution, by block."""

as_timm = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""Without normalisation, smaller weights would make the map nearly 0 after thirteen ReLUs."""


class VGG16(nn.Module):
    """Maps of all rows in, logits of all tasks out."""

    config: Config
    tasks: tuple[TaskSpec, ...]
    axis: str | None = None

    @nn.compact
    def __call__(self, maps: Maps, row_present: RowPresent, *, keys: SampleKeys | None = None) -> Logits:
        """As `build_model` says."""
        model = self.config.model
        x = maps * row_weights(row_present)[:, None, None]
        for block in BLOCKS:
            for features in block:
                conv = nn.Conv(scaled_width(features, model.width), (3, 3), padding=[(1, 1)] * 2, kernel_init=as_timm)
                x = nn.relu(conv(x))
            x = max_pool_map(x, (2, 2), (2, 2))
        return window_heads(self.tasks, x.mean((1, 2)), keys, model.dropout)
