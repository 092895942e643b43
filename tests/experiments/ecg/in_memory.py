"""Electrocardiograms of nobody: windows of one second, two leads, each patient with a rhythm of their own."""

import dataclasses

import numpy as np

from experiments.ecg.records import Records
from siamese_jax.config.experiment import Config
from siamese_jax.config.presets import ECG

LEADS = ("ECG-I", "ECG-II")


def small(**training) -> Config:
    """The preset at a size that trains in seconds."""
    return dataclasses.replace(
        ECG,
        data=dataclasses.replace(ECG.data, ch_names=LEADS, window_seconds=1.0),
        preprocess=dataclasses.replace(ECG.preprocess, filter_half_seconds=0.1, ecg_band_hz=(None, 40.0)),
        model=dataclasses.replace(ECG.model, width=0.0625, dropout=0.0),
        training=dataclasses.replace(
            ECG.training, **({"steps": 60, "warmup_steps": 4, "batch_size": 16, "learning_rate": 1e-2} | training)
        ),
    )


def made(config: Config, labels: np.ndarray, *, windows_each: int = 1, weights: np.ndarray | None = None) -> Records:
    """A patient for each row of `labels` [patient, class]; whose windows are alike, and no other's."""
    rng = np.random.default_rng(0)
    n, length = len(labels), config.n_times + 2 * config.margin
    time = np.arange(length) / config.data.sfreq
    hz = rng.permutation(np.linspace(2, 20, n))
    phase = rng.uniform(0, 2 * np.pi, (n, 1, 1, 2))
    eeg = 500 * np.sin(2 * np.pi * hz[:, None, None, None] * time[None, None, :, None] + phase)
    eeg = eeg + rng.normal(0, 20, (n, windows_each, length, 2))
    labels = np.repeat(np.asarray(labels, np.float32), windows_each, 0)
    weights = np.ones_like(labels) if weights is None else np.repeat(np.asarray(weights, np.float32), windows_each, 0)
    total = n * windows_each
    return Records(
        patients=np.repeat(np.array([f"P{i:03d}" for i in range(n)], object), windows_each),
        eeg=eeg.reshape(total, length, 2).astype(np.float32),
        present=np.ones((total, 2), bool),
        classes=tuple(f"finding {i}" for i in range(labels.shape[1])),
        labels=labels * weights,
        weights=weights,
        split=np.resize(np.array(["train", "train", "validation", "test"], object), total),
        sources=("nobody",),
        digest="made",
    )
