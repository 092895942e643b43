"""How the tests run: strict JAX, eight CPU devices, quick compilation, and every annotation of the package checked.

JAX is set up through the environment, before anything imports it: tests of modules without JAX never pay for that
import, and a command that a test starts as a process of its own runs under the same rules.
"""

import os
from pathlib import Path

import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compiling is what most tests wait for: without optimisation.
XLA_FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {XLA_FLAGS}".strip()
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ["SIAMESE_JAX_SALT"] = "of the tests"  # the user's own stays out of it
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int may stand where a float is asked for
install_import_hook("siamese_jax", "tests.conftest.typechecked")

CH_NAMES = ("F3", "F4", "C3", "C4", "Cz")


@pytest.fixture
def tiny():
    """A configuration that trains in seconds: 1-s windows of five electrodes at 100 Hz."""
    # Imported here: JAX and the type checks must be set up first.
    from siamese_jax.config.experiment import (
        Config,
        ConverterConfig,
        DataConfig,
        ModelConfig,
        PreprocessConfig,
        TrainingConfig,
    )

    return Config(
        data=DataConfig(ch_names=CH_NAMES, sfreq=100.0, window_seconds=1.0),
        preprocess=PreprocessConfig(eeg_band_hz=(1.0, 30.0), filter_half_seconds=0.5),
        converter=ConverterConfig(n_fft=(16,), hop=5, band_hz=(0.0, 30.0)),
        model=ModelConfig(width=0.34, dilations=(1, 1, 2), shared_stages=1, dropout=0.3),
        training=TrainingConfig(
            steps=8, batch_size=16, warmup_steps=2, learning_rate=3e-3, evaluate_every=4, checkpoint_every=4
        ),
    )
