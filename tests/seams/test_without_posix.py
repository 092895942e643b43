"""What Windows lacks is not needed to import the package, nor to detect: played on Linux, by taking it away."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from siamese_jax import checkpoints
from siamese_jax.checkpoints import Checkpoint
from siamese_jax.pipeline import initialise
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.vocabulary import IED, SLEEP
from tests.conftest import CH_NAMES
from tests.identities import learnt_from

ROOT = Path(__file__).parents[2]
WITHOUT_POSIX = """
import multiprocessing, os, signal, sys, warnings

sys.modules.update(dict.fromkeys(("fcntl", "grp", "pwd", "resource", "termios")))
for module, names in ((os, ("fork", "forkpty", "O_DIRECTORY")), (signal, ("SIGKILL", "SIGHUP", "pthread_sigmask"))):
    for name in names:
        delattr(module, name)
multiprocessing.set_start_method("spawn")
warnings.filterwarnings("ignore", "only soft file lock is available")  # Windows has locks of its own
os_open = os.open


def open_no_folder(path, *arguments, **options):
    if not isinstance(path, int) and os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    return os_open(path, *arguments, **options)


os.open = open_no_folder
"""
IMPORT_ALL = """
import importlib, pkgutil, siamese_jax

names = [module.name for module in pkgutil.walk_packages(siamese_jax.__path__, "siamese_jax.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
DETECT = """
from siamese_jax.cli.main import command

sys.exit(command(sys.argv[1:]))
"""


def without_posix(program: str, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", WITHOUT_POSIX + program, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_module_can_be_imported():
    done = without_posix(IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(list((ROOT / "siamese_jax").rglob("*.py"))) - 1


def test_events_are_detected(tiny, tmp_path):
    config = dataclasses.replace(tiny, tasks=(IED.name, SLEEP.name))
    variables = initialise(config, (IED, SLEEP), jax.random.key(0))
    model = Checkpoint(config, (IED, SLEEP), variables, 7, learnt_from("nothing"))
    checkpoints.write(tmp_path / "model", model)
    eeg = np.random.default_rng(0).normal(0, 30, (2000, len(CH_NAMES))).astype(np.float32)
    write_recording(tmp_path / "night.edf", eeg, sfreq=100.0, ch_names=CH_NAMES)
    options = ("--checkpoint", tmp_path / "model", "--out", tmp_path / "out", "--threshold", 0.1)
    done = without_posix(DETECT, "detect", tmp_path / "night.edf", *options)
    assert done.returncode == 0, done.stderr
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"night_events.csv", "night_detected.edf", "night_run.json"} <= written
    assert json.loads((tmp_path / "out" / "night_run.json").read_text())["threshold"] == 0.1
