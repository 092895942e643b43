"""What is trained and tested: networks of simulated people, and of all subjects of DREAMS but one, by arm and seed.

Each job runs commands that a researcher types, printed before they are run.
"""

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from data_tools import simulate
from data_tools.dreams import Dreams
from experiments import training
from experiments.hypnogram import UNKNOWN, stages_of
from experiments.provenance import hash_of
from experiments.runner import Arrays, Job, Runner
from siamese_jax.checkpoints import Checkpoint, load
from siamese_jax.cli.console import OK, SOME_FAILED
from siamese_jax.cli.main import command
from siamese_jax.cohort.sources import Opened
from siamese_jax.detection.predict import make_predictor, predict_recording, probabilities
from siamese_jax.evaluation import metrics
from siamese_jax.recordings.windows import window_onsets
from siamese_jax.vocabulary import SLEEP

EPOCH_SECONDS = 30.0
HOP_SECONDS = 1.0
ELECTRODES = "--data.ch-names C3 Cz --preprocess.montage referential --training.flip 0"
"""DREAMS has C3-A1 or Cz-A1. A montage of one electrode is that electrode, and it has no mirror image."""
SIMULATED = "SIMULATED recordings (data_tools.simulate)"
CODE = (
    *(*training.CODE, *training.SHARDS_CODE, *simulate.CODE, "data_tools/dreams.py"),
    *("experiments/hypnogram.py", "experiments/finetune/jobs.py"),
)


class Arm(NamedTuple):
    """One way to a model for the subjects that are left."""

    name: str
    options: str
    """Of `siamese-jax train`, with {source} for the checkpoint; none: the checkpoint as it is."""


SCRATCH = "from scratch, as many updates"
ARMS = (
    Arm("simulated only, as it is", ""),
    Arm("fine-tuned", "--init-from {source} --tasks sleep"),
    Arm("fine-tuned, stem frozen", "--init-from {source} --tasks sleep --freeze stem"),
    Arm(SCRATCH, f"--preset small {ELECTRODES} --tasks sleep"),
    Arm("fine-tuned at the rate of scratch", "--init-from {source} --tasks sleep --training.learning-rate 3e-3"),
)


@dataclass(frozen=True)
class FineTuning:
    """The jobs of the experiment.

    Attributes:
        folder: of DREAMS.
        runner: keeps what is done.
        patients: size of the simulated cohort.
        minutes: length of each simulated recording.
        steps: of pre-training.
        fine_steps: of every training on DREAMS.
    """

    folder: Path
    runner: Runner
    patients: int
    minutes: float
    steps: int
    fine_steps: int

    def pretraining(self) -> Job:
        """The network of simulated people."""
        cohort = f"--patients {self.patients} --minutes {self.minutes:g} --seed 0"
        every = max(self.steps // 4, 1)
        options = f"{ELECTRODES} --training.electrode-dropout 0.5 --training.steps {self.steps}"
        options += f" --training.warmup-steps {self.steps // 10}"
        options += f" --training.evaluate-every {every} --training.checkpoint-every {every}"

        def work(folder: Path) -> Arrays:
            recordings, shards = folder / "recordings", folder / "shards"
            _python(f"-m data_tools.simulate {recordings} {cohort}")
            _siamese(f"prepare {recordings} {shards} --channels C3 Cz --source {shlex.quote(SIMULATED)}")
            _siamese(f"train {shards} {folder / 'run'} {options}")
            return {}

        return Job("pre-training on simulated people", [cohort, options], CODE, work)

    def fold(self, subject: int) -> Job:
        """Shards in which one subject is for testing and the others for training."""

        def work(folder: Path) -> Arrays:
            _python(f"-m data_tools.dreams {self.folder} {folder / 'shards'} --test {subject}")
            return {}

        return Job(f"shards without subject {subject}", [subject, self._contents()], CODE, work)

    def test(self, arm: Arm, subject: int, seed: int) -> Job:
        """A training on all subjects but one; its answer is `confusion` of the one left out, as `stage_matrix`."""
        options = f"{arm.options} --training.steps {self.fine_steps} --training.warmup-steps {self.fine_steps // 10}"
        options += f" --training.seed {seed} --training.checkpoint-every {self.fine_steps}"

        def work(folder: Path) -> Arrays:
            source = self.runner.do(self.pretraining()).folder / "run" / "checkpoint"
            checkpoint = source
            if arm.options:
                shards, checkpoint = self.runner.do(self.fold(subject)).folder / "shards", folder / "run/checkpoint"
                _siamese(f"train {shards} {folder / 'run'} {options.format(source=source)}")
            model = load(checkpoint)
            opened = Dreams(self.folder).open(f"excerpt{subject}.txt", model.config.data)
            return {"confusion": stage_matrix(model, opened)}

        decides = [options if arm.options else "", subject, self.pretraining().key, self._contents()]
        return Job(f"{arm.name}, without subject {subject}, seed {seed}", decides, CODE, work)

    def _contents(self) -> str:
        source = Dreams(self.folder)
        return hash_of(self.folder, (path for name in source.names() for path in source.files(name)))


def stage_matrix(model: Checkpoint, opened: Opened) -> Float64[np.ndarray, "class class"]:
    """How many 30-s epochs of each annotated stage (rows) were found to be which (columns).

    An epoch's stage is the one annotated at its centre; what is found is the largest mean probability of the windows,
    one a second, whose centre lies in it, as `siamese-jax detect` does.
    """
    config, recording = model.config, opened.recording
    predictor = make_predictor(config, model.tasks)
    predictions = predict_recording(predictor, config, model.variables, recording, hop_seconds=HOP_SECONDS)
    onsets = window_onsets(recording.segments, predictions.grid, sfreq=recording.sfreq)
    epoch = ((onsets + config.data.window_seconds / 2) // EPOCH_SECONDS).astype(np.int64)
    chance = probabilities(SLEEP, predictions.window[SLEEP.name])
    total = np.stack([np.bincount(epoch, weights=column) for column in chance.T], 1)
    truth = stages_of(opened.annotations, len(total), seconds=EPOCH_SECONDS)
    known = (truth != UNKNOWN) & (total.sum(1) > 0)
    return metrics.confusion_matrix(total[known].argmax(1), truth[known], n_classes=len(SLEEP.classes))


def _siamese(line: str) -> None:
    print(f"\n$ siamese-jax {line}")
    code = command(shlex.split(line))
    if code != OK:
        raise SystemExit(code)


def _python(line: str) -> None:
    print(f"\n$ python {line}")
    code = subprocess.run([sys.executable, *shlex.split(line)], check=False).returncode
    if code not in (OK, SOME_FAILED):  # of DREAMS, an excerpt at 50 Hz is refused
        raise SystemExit(code)
