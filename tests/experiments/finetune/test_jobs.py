"""The fine-tuning experiment: nobody is in training and testing at once, and figures count what they should."""

import json
import shlex
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.finetune import __main__ as command
from experiments.finetune import jobs
from experiments.runner import Runner
from siamese_jax.checkpoints import Checkpoint
from siamese_jax.cohort.sources import Opened
from siamese_jax.pipeline import initialise
from siamese_jax.recordings.recording import Annotation, recording_from_array
from siamese_jax.shards.schema import open_shards
from siamese_jax.vocabulary import IED, SLEEP
from tests.conftest import CH_NAMES
from tests.data_tools.excerpts import signal, write_excerpt

SUBJECTS = (1, 2, 4)


def test_the_subject_left_out_is_tested_and_nobody_else(tmp_path):
    for subject in SUBJECTS:
        write_excerpt(tmp_path / "in", subject, channel="C3-A1", samples=signal(14_000 + subject))
    runner = Runner(tmp_path / "out", say=lambda text: None)
    fine_tuning = jobs.FineTuning(tmp_path / "in", runner, patients=2, minutes=1, steps=1, fine_steps=1)
    for subject in SUBJECTS:
        shards = runner.do(fine_tuning.fold(subject)).folder / "shards"
        patients = {split: [s.patients for s in open_shards(shards / split)] for split in ("train", "test")}
        assert patients["test"] == [(f"DREAMS-{subject}",)]
        assert sorted(patients["train"]) == [(f"DREAMS-{s}",) for s in SUBJECTS if s != subject]
        assert not any((shards / "validation").glob("*.h5"))  # no threshold, no early stop: nothing to choose with


@pytest.mark.parametrize("stage", ["W", "N2"])
def test_every_epoch_counts_once_by_the_stage_at_its_centre(tiny, stage):
    # 20 s awake, then N2: at the centre of the first 30-s epoch it is N2 no longer than 5 s.
    stages = (Annotation(0.0, 20.0, "Sleep stage W", None), Annotation(20.0, 75.0, "Sleep stage 2", None))
    eeg = np.random.default_rng(1).normal(0, 30, (10_000, len(CH_NAMES)))
    names = {"ch_names": CH_NAMES, "target_ch_names": CH_NAMES}
    recording = recording_from_array(eeg, sfreq=100.0, target_sfreq=100.0, **names)
    variables = initialise(tiny, (IED, SLEEP), jax.random.key(0))
    bias = jnp.asarray(9.0 * (np.array(SLEEP.classes) == stage), jnp.float32)
    head = variables["params"]["head_sleep"]
    variables["params"]["head_sleep"] = {"kernel": jnp.zeros_like(head["kernel"]), "bias": bias}
    model = Checkpoint(tiny, (IED, SLEEP), variables, 1)
    expected = np.zeros((5, 5))
    # Epochs from 0, 30 and 60 s; that from 90 s has a signal up to 100 s, and nobody scored its centre at 105 s.
    expected[0, SLEEP.classes.index(stage)], expected[2, SLEEP.classes.index(stage)] = 1, 2
    np.testing.assert_array_equal(jobs.stage_matrix(model, Opened(recording, stages, "P", "test")), expected)


def test_each_arm_trains_on_the_others_once_and_figures_are_pooled(tmp_path, monkeypatch):
    lines, tested = [], []
    for subject in SUBJECTS:
        write_excerpt(tmp_path / "in", subject, channel="C3-A1", samples=signal(14_000))

    monkeypatch.setattr(jobs, "command", lambda words: lines.append(shlex.join(words)) or 0)
    monkeypatch.setattr(jobs, "_python", lines.append)
    monkeypatch.setattr(jobs, "load", lambda folder: SimpleNamespace(folder=folder, config=SimpleNamespace(data=None)))
    monkeypatch.setattr(jobs.Dreams, "open", lambda self, name, data: name)

    def matrix(model, opened):
        (line,) = [line for line in lines if line.startswith("train ") and line.split()[2] == str(model.folder.parent)]
        tested.append((line, opened))
        first = "--init-from" in line and "--freeze" not in line and "learning-rate" not in line
        right = 8 if first else 5  # the first arm that trains is the better one
        counts = np.diag([right, 0.0, right, 0.0, 0.0])
        counts[0, 2] = 10 - right
        return counts

    monkeypatch.setattr(jobs, "stage_matrix", matrix)
    options = {"out": tmp_path / "out", "results": tmp_path / "results", "subjects": SUBJECTS, "seeds": 2}
    assert command.main(tmp_path / "in", **options) == 0
    left_out = {line.split()[3]: line.split()[-1] for line in lines if line.startswith("-m data_tools.dreams ")}
    assert sorted(left_out.values()) == [str(subject) for subject in SUBJECTS]
    trained = [(line, opened) for line, opened in tested if line.split()[1] in left_out]
    assert len({line for line, _ in trained}) == len(trained) == 4 * len(SUBJECTS) * 2
    for line, opened in trained:
        _, shards, _, *rest = line.split()
        assert opened == f"excerpt{left_out[shards]}.txt"  # the one left out, and nobody else
        assert ("--init-from" in rest) != ("--preset" in rest) and rest[rest.index("--tasks") + 1] == "sleep"
        assert rest[rest.index("--training.steps") + 1] == "300"
    for seed in "01":
        assert sum(f"--training.seed {seed} " in line for line, _ in trained) == len(trained) // 2
    assert sum("--freeze stem" in line for line, _ in trained) == len(trained) // 4
    (pretraining,) = {line for line, _ in tested if line.split()[1] not in left_out}  # as it is, of each subject
    assert len(tested) == len(trained) + len(SUBJECTS) and "--training.electrode-dropout 0.5" in pretraining

    tree = json.loads((tmp_path / "results" / "finetune.json").read_text())
    tuned, scratch = tree["arms"]["fine-tuned"], tree["arms"][jobs.SCRATCH]
    assert tuned["accuracy"] == pytest.approx([16 / 18] * 2) and scratch["accuracy"] == pytest.approx([10 / 15] * 2)
    assert tuned["confusion"][0][2] == 2 * len(SUBJECTS) * 2
    assert len(tree["arms"]["simulated only, as it is"]["kappa"]) == 1
    text = (tmp_path / "results" / "finetune.md").read_text()
    assert (
        "SIMULATED EEG, evaluation on real EEG (DREAMS)" in text and "| fine-tuned | 0.889 (0.889 to 0.889) |" in text
    )
    # By hand: 16 of 18 right; 10 true and 8 found W, 8 true and 10 found N2.
    observed, expected = 16 / 18, (10 * 8 + 8 * 10) / 18**2
    assert tuned["kappa"] == pytest.approx([(observed - expected) / (1 - expected)] * 2)
    assert f"kappa {tuned['kappa'][0] - scratch['kappa'][0]:+.3f} against from scratch" in text
    assert "more accurate for 3 of 3 subjects" in text and "Nobody is in stage N1 or N3 or R" in text

    lines.clear()
    command.main(tmp_path / "in", **options)
    assert not lines
