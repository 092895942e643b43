"""One recording from its file to its results: how often its bytes are read."""

import hashlib
import io
import json
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest

from siamese_jax.checkpoints import Checkpoint
from siamese_jax.detection.analysis import analyse, plan_analysis
from siamese_jax.pipeline import initialise
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.vocabulary import IED, LEADS_29, SLEEP
from tests.identities import learnt_from

STRETCHES = 20 * 10  # seconds that the first look at a recording reads, to judge its amplitude


@pytest.fixture
def bytes_read(monkeypatch):
    """How many bytes of each file were read."""
    counts = Counter()
    plain = Path.open

    class Counted(io.FileIO):
        def readinto(self, buffer):
            n = super().readinto(buffer)
            counts[Path(self.name).name] += n
            return n

        def read(self, size=-1):
            data = super().read(size)
            counts[Path(self.name).name] += len(data)
            return data

        def readall(self):
            data = super().readall()
            counts[Path(self.name).name] += len(data)
            return data

    def opened(path, mode="r", buffering=-1, **options):
        if mode != "rb":
            return plain(path, mode, buffering, **options)
        file = Counted(path, "rb")
        return file if buffering == 0 else io.BufferedReader(file)

    monkeypatch.setattr(Path, "open", opened)
    return counts


def test_a_recording_is_read_twice_at_most_and_its_copy_once(tiny, tmp_path, bytes_read):
    """To judge and to predict, to copy and hash; the first look and each event need some seconds besides."""
    seconds = 1500
    eeg = np.random.default_rng(0).normal(0, 30, (seconds * 100, len(LEADS_29))).astype(np.float32)
    write_recording(tmp_path / "night.edf", eeg, sfreq=100.0, ch_names=LEADS_29)
    whole = (tmp_path / "night.edf").read_bytes()
    (tmp_path / "night.edf").write_bytes(whole[:-100])  # the last record is cut: it is hashed, and not copied
    size = len(whole) - 100
    tasks = (IED, SLEEP)
    model = Checkpoint(tiny, tasks, initialise(tiny, tasks, jax.random.key(0)), 1, learnt_from("nothing"))
    analysis = plan_analysis(model, threshold=0.9999, copy=True)
    bytes_read.clear()
    result, written = analyse(tmp_path / "night.edf", tmp_path / "out", analysis, model)
    found = result.detections
    assert found.events == () and found.analysed_seconds == seconds - 1 and written.copy is not None
    assert 2 * size <= bytes_read["night.edf"] < 2.1 * size + STRETCHES / seconds * size
    copy = written.copy.stat().st_size
    assert sum(bytes_read.values()) - bytes_read["night.edf"] < 1.05 * copy  # read back, before it gets its name
    record = json.loads(written.run.read_text())
    for path, digest in (
        (tmp_path / "night.edf", record["recording"]["sha256"]),
        (written.copy, record["files"][written.copy.name]),
    ):
        assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
