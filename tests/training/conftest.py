"""Batches with uneven weights, and variations of the tiny configuration."""

import dataclasses

import numpy as np
import pytest

from siamese_jax.config.experiment import (
    Config,
)
from siamese_jax.shards.batches import Batch


@pytest.fixture
def make_batch(tiny):
    def make(step: int = 0, config: Config = tiny) -> Batch:
        rng = np.random.default_rng(step)
        n, length = config.training.batch_size, config.n_times + 2 * (config.margin + config.shift)
        ied = (rng.random(n) < 0.3).astype(np.float32)
        weights = {"ied": (rng.random(n) < 0.8).astype(np.float32), "sleep": np.zeros(n, np.float32)}
        weights["sleep"][: n // 4] = rng.uniform(0.2, 1, n // 4)  # labels on the first devices only
        return Batch(
            eeg=rng.normal(0, 30, (n, length, len(config.data.ch_names))).astype(np.float32),
            present=rng.random((n, len(config.data.ch_names))) < 0.9,
            labels={"ied": ied * weights["ied"], "sleep": rng.integers(0, 5, n).astype(np.int32)},
            weights=weights,
            bags={"ied": rng.integers(-1, 3, (n, config.n_frames)).astype(np.int8)}
            if config.frame_loss_tasks(["ied"])
            else {},
            sample=(step * n + np.arange(n)).astype(np.uint32),
        )

    return make


@pytest.fixture
def with_training(tiny):
    def change(**fields) -> Config:
        return dataclasses.replace(tiny, training=dataclasses.replace(tiny.training, **fields))

    return change
