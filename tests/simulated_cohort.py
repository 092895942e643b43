"""Small simulated cohorts for tests of whole packages."""

from pathlib import Path

from data_tools.simulate import SimulationConfig, simulate_cohort
from siamese_jax.cohort.prepare import prepare
from siamese_jax.cohort.sources import Folder
from siamese_jax.config.experiment import DataConfig
from tests.conftest import CH_NAMES


def tiny_shards(folder: Path, *, patients: int = 6, minutes: float = 1.0) -> Path:
    """Shards of `patients` simulated recordings, 1-s windows at 100 Hz of five electrodes."""
    simulation = SimulationConfig(minutes=minutes, sfreq=100.0, compression=20.0)
    list(simulate_cohort(folder / "recordings", simulation, patients=patients, ied_free=0.0, seed=3))
    data = DataConfig(ch_names=CH_NAMES, sfreq=100.0, window_seconds=1.0)
    prepare(Folder(folder / "recordings"), folder / "shards", data, hop_seconds=1.0, seed=0)
    return folder / "shards"
