"""An own network of twenty lines: trained on arrays, saved, loaded and used. `python -m examples.own_network OUT`."""

import dataclasses
import sys
from pathlib import Path

import flax.linen as nn
import numpy as np

import siamese_jax as sj


class Spectrum(nn.Module):
    """The mean spectrum of each row, a hidden layer, and a linear layer a task."""

    config: sj.Config
    tasks: tuple[sj.TaskSpec, ...]  # those to give logits for
    axis: str | None = None  # of the devices, for batch statistics

    @nn.compact
    def __call__(self, maps, row_present, *, keys=None) -> sj.Logits:
        """`maps` is [batch, freq, frame, row]; in training `keys` holds a random key a sample."""
        x = (maps * row_present[:, None, None]).mean(2)
        x = nn.relu(nn.Dense(16)(x.reshape(len(x), -1)))
        return sj.Logits(window={t.name: nn.Dense(t.n_logits, name=t.name)(x) for t in self.tasks}, frame={})


def main(out: Path) -> sj.Found:
    """Train on 200 simulated epochs with and without a 10-Hz rhythm, then look for it in a recording."""
    rng, time = np.random.default_rng(0), np.arange(400) / 100
    labels = np.arange(200) % 2
    epochs = rng.normal(0, 10, (200, 400, 2)) + 20 * labels[:, None, None] * np.sin(20 * np.pi * time)[:, None]
    of_arrays = {"sfreq": 100, "ch_names": ["O1", "O2"]}
    sj.shards_from_arrays(
        out / "shards", epochs, labels, np.arange(200) // 10, task="alpha", classes=["none", "alpha"], **of_arrays
    )
    config = sj.PRESETS["small"]
    config = dataclasses.replace(
        config,
        preprocess=sj.PreprocessConfig(eeg_band_hz=(0.5, 40.0), mains_hz=None, montage="referential"),
        converter=sj.ConverterConfig(band_hz=(0.0, 40.0)),
        model=sj.ModelConfig(name=f"{__name__}:Spectrum", pooling="average"),
        data=sj.DataConfig(ch_names=("O1", "O2"), sfreq=100.0),
        tasks=("alpha",),
    )
    config = sj.config_for(out / "shards", config, steps=60, warmup_steps=5, batch_size=32)
    sj.train(out / "shards", out / "run", config)
    model = sj.load(out / "run")
    print(sj.evaluate(model, out / "shards")["alpha"]["auroc"])
    night = rng.normal(0, 10, (6000, 2))
    night[2000:4000] += 20 * np.sin(2 * np.pi * 10 * np.arange(2000) / 100)[:, None]
    return sj.detect(model, night, threshold=0.5, **of_arrays)


if __name__ == "__main__":
    from examples.own_network import main  # the checkpoint keeps the module's name, which must not be `__main__`

    found = main(Path(sys.argv[1]))
    print(found, found.events, sep="\n")
