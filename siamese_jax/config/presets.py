"""The configurations that have a name."""

import dataclasses
from typing import Any, Literal

from siamese_jax.config.experiment import (
    Config,
    ConverterConfig,
    DataConfig,
    ModelConfig,
    PreprocessConfig,
    TrainingConfig,
)
from siamese_jax.vocabulary import IED, LEADS_29, TWELVE_LEADS

SMALL = Config()
"""Ours: 200 Hz, common average of 19 electrodes, per-frame logits; for CPUs and long recordings."""

PAPER = Config(
    data=DataConfig(ch_names=LEADS_29, sfreq=500.0),
    preprocess=PreprocessConfig(
        eeg_band_hz=(0.5, 70.0),
        ecg_band_hz=(0.5, 150.0),
        montage="paper45",
        eeg_scale_uv=1e3,
        other_scale_uv=1e4,
    ),
    converter=ConverterConfig(n_fft=(256,), hop=16, band_hz=(0.0, 250.0)),
    model=ModelConfig(size="paper", shared_stages=4, pooling="average", dropout=0.5),
    training=TrainingConfig(
        steps=40_000,
        batch_size=128,
        learning_rate=5e-4,
        warmup_steps=1500,
        label_smoothing=0.1,
        amplitude=0.0,
        electrode_dropout=0.0,
        flip=0.0,
        row_shuffle=1.0,
        evaluate_every=2000,
        checkpoint_every=2000,
    ),
)
"""What the papers and their group's code disclose: 29 leads at 500 Hz, 45 rows of 129 x 126, EfficientNetV2 rw_t."""

ECG = Config(
    tasks=("diagnosis",),
    data=DataConfig(ch_names=TWELVE_LEADS, sfreq=100.0, window_seconds=10.0),
    # 0.5 Hz takes the baseline's wander away, and 40 Hz the mains with their neighbourhood.
    preprocess=PreprocessConfig(ecg_band_hz=(0.5, 40.0), mains_hz=None, montage="referential"),
    converter=ConverterConfig(kind="none"),
    model=ModelConfig(name="resnet1d", fusion="none", pooling="average", dropout=0.5),
    training=TrainingConfig(
        steps=4000,
        batch_size=128,
        learning_rate=1e-3,
        warmup_steps=400,
        flip=0.0,  # a lead has no mirror image
        evaluate_every=500,
        checkpoint_every=500,
    ),
)
"""Ours: ten seconds of the standard electrocardiogram, a residual network along time, diagnoses. The steps are 30
passes over the training folds of PTB-XL."""

_SIGNAL = PreprocessConfig(sfreq=128.0, eeg_band_hz=(0.5, 50.0))
_MAPS = ConverterConfig(n_fft=(128,), hop=10, band_hz=(0.0, 50.0))


def _compared(name: str, *, reads_maps: bool = False, montage: Any = "average", dropout: float = 0.5) -> Config:
    """A network that Siamese-ES is compared with, on the electrodes and windows of `small`: one task, one trunk.

    Those of signals see 128 Hz, those of images maps of 33 bins.
    """
    signal = SMALL.preprocess if reads_maps else dataclasses.replace(_SIGNAL, montage=montage)
    return Config(
        tasks=(IED.name,),
        preprocess=signal,
        converter=_MAPS if reads_maps else ConverterConfig(kind="none"),
        model=ModelConfig(name=name, fusion="none", pooling="average", dropout=dropout),
    )


PresetName = Literal["small", "paper", "ecg", "eegnet", "cnn_lstm", "eegformer", "spikenet", "vgg16", "aied", "nepinet"]
PRESETS: dict[str, Config] = {
    "small": SMALL,
    "paper": PAPER,
    "ecg": ECG,
    "eegnet": _compared("eegnet"),
    "cnn_lstm": _compared("cnn_lstm"),
    "eegformer": _compared("eegformer", dropout=0.1),
    "spikenet": _compared("spikenet", montage="average_bipolar"),
    "vgg16": _compared("vgg16", reads_maps=True),
    "aied": _compared("aied", reads_maps=True),
    "nepinet": _compared("nepinet", reads_maps=True),
}


def fine_tuning(config: Config) -> Config:
    """What a trained model is trained on with, unless told otherwise: its configuration, and a short, careful training.

    A tenth of the learning rate of its network's preset (of that of `small` if it has none), so that what was learnt is
    kept, and 300 steps, since who starts from a checkpoint has few recordings; nothing frozen.
    """
    careful = {"steps": 300, "warmup_steps": 30, "evaluate_every": 50, "checkpoint_every": 50}
    beginning = next((preset for preset in PRESETS.values() if preset.model.title == config.model.title), SMALL)
    rate = beginning.training.learning_rate / 10
    training = dataclasses.replace(config.training, **careful, learning_rate=rate)
    return dataclasses.replace(config, freeze=(), training=training)
