"""Does pre-training on SIMULATED EEG help on real EEG of few people? Sleep stages of DREAMS, one subject left out.

    python -m experiments.finetune FOLDER_OF_DREAMS

simulate -> prepare -> train, then for each subject, seed and arm: train on the four others, stage the one left out.
Each step is a command that a researcher types, printed before it is run. A second call goes on where the first stopped.

What was chosen was chosen before any subject was looked at, and once: the presets' and `fine_tuning`'s values, and
electrode dropout of 0.5 in pre-training, because each DREAMS recording has one of the two electrodes. The last arm
was added to tell the learning rate from the start apart, when one seed of the first three had been seen.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from jaxtyping import Float64

from data_tools.dreams import Dreams
from experiments.provenance import commit
from siamese_jax.checkpoints import Checkpoint, load
from siamese_jax.cli.console import OK, SOME_FAILED, run
from siamese_jax.cli.main import command
from siamese_jax.cohort.sources import Opened
from siamese_jax.detection.predict import make_predictor, predict_recording, probabilities
from siamese_jax.evaluation import metrics
from siamese_jax.recordings.recording import Annotation
from siamese_jax.recordings.windows import window_onsets
from siamese_jax.shards.labels import SLEEP_RULE, Labels
from siamese_jax.vocabulary import SLEEP

SUBJECTS = (1, 2, 4, 6, 8)
"""Excerpts that are there at 100 Hz or more; excerpt 3 has 50 Hz."""
EPOCH_SECONDS = 30.0
HOP_SECONDS = 1.0
ELECTRODES = "--data.ch-names C3 Cz --preprocess.montage referential --training.flip 0"
"""DREAMS has C3-A1 or Cz-A1. A montage of one electrode is that electrode, and it has no mirror image."""
SIMULATED = "SIMULATED recordings (data_tools.simulate)"
YASA = "YASA on the same subjects, 30-s epochs, as reported elsewhere: accuracy 0.787, kappa 0.663, macro-F1 0.580"


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
    Arm(SCRATCH, f"small {ELECTRODES} --tasks sleep"),
    Arm("fine-tuned at the rate of scratch", "--init-from {source} --tasks sleep --training.learning-rate 3e-3"),
)


def main(
    folder: Annotated[Path, tyro.conf.Positional],
    *,
    out: Path = Path("runs/finetune"),
    results: Path = Path("experiments/results/finetune"),
    subjects: tuple[int, ...] = SUBJECTS,
    patients: int = 40,
    minutes: float = 10.0,
    steps: int = 1000,
    fine_steps: int = 300,
    seeds: int = 3,
) -> int:
    """Run what is not done yet, then write RESULTS/finetune.json and finetune.md.

    Args:
        folder: The text files of DREAMS.
        out: Everything else lands here.
        results: The figures land here.
        subjects: Excerpts to leave out, one at a time.
        patients: Size of the simulated cohort.
        minutes: Length of each simulated recording.
        steps: Of pre-training.
        fine_steps: Of every training on DREAMS.
        seeds: How often each training on DREAMS is repeated.
    """
    source = out / "simulated-run" / "checkpoint"
    _simulate(out, patients=patients, minutes=minutes, steps=steps)
    for subject in subjects:
        _prepare_fold(folder, out, subject)
    done: dict[str, list[Float64[np.ndarray, "subject class class"]]] = {arm.name: [] for arm in ARMS}
    for seed in range(seeds):
        for arm in ARMS[1:] if seed else ARMS:
            found = [_matrix(folder, out, arm, s, seed, source, fine_steps) for s in subjects]
            done[arm.name].append(np.stack(found))
    tree = _tree(done, subjects, {"steps": steps, "fine_steps": fine_steps, "seeds": seeds, "patients": patients})
    results.mkdir(parents=True, exist_ok=True)
    (results / "finetune.json").write_text(json.dumps(tree, indent=2) + "\n")
    (results / "finetune.md").write_text(_markdown(tree))
    print(_markdown(tree))
    return OK


def _simulate(out: Path, *, patients: int, minutes: float, steps: int) -> None:
    recordings, shards = out / "simulated", out / "simulated-shards"
    if not _is_prepared(shards):
        _python(f"-m data_tools.simulate {recordings} --patients {patients} --minutes {minutes:g} --seed 0")
        _siamese(f"prepare {recordings} {shards} --channels C3 Cz --source {shlex.quote(SIMULATED)}")
    every = f"--training.evaluate-every {max(steps // 4, 1)} --training.checkpoint-every {max(steps // 4, 1)}"
    _siamese(
        f"train {shards} {out / 'simulated-run'} small {ELECTRODES} --training.electrode-dropout 0.5"
        f" --training.steps {steps} --training.warmup-steps {steps // 10} {every}"
    )


def _is_prepared(shards: Path) -> bool:
    report = shards / "prepare.json"
    return report.exists() and json.loads(report.read_text())["finished"]


def _prepare_fold(folder: Path, out: Path, subject: int) -> None:
    """Shards in which one subject is for testing and the others for training."""
    shards = out / "folds" / f"without-{subject}"
    if not _is_prepared(shards):
        _python(f"-m data_tools.dreams {folder} {shards} --test {subject}")


def _matrix(folder: Path, out: Path, arm: Arm, subject: int, seed: int, source: Path, steps: int) -> np.ndarray:
    """Stages by stages (true, found) of the 30-s epochs of the subject left out; trained first, if need be."""
    shards, workdir = out / "folds" / f"without-{subject}", out / "runs" / f"{ARMS.index(arm)}-{subject}-{seed}"
    path = workdir / "epochs.json"
    if path.exists():
        return np.array(json.loads(path.read_text()), np.float64)
    if arm.options:
        once = f"--training.steps {steps} --training.warmup-steps {steps // 10} --training.seed {seed}"
        once += f" --training.checkpoint-every {steps}"
        _siamese(f"train {shards} {workdir} {arm.options.format(source=source)} {once}")
    model = load(workdir / "checkpoint" if arm.options else source)
    opened = Dreams(folder).open(f"excerpt{subject}.txt", model.config.data)
    matrix = stage_matrix(model, opened)
    workdir.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(matrix.tolist()))
    return matrix


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
    truth = epoch_stages(opened.annotations, len(total))
    return metrics.confusion_matrix(
        total.argmax(1), truth.label, n_classes=len(SLEEP.classes), weights=truth.weight * (total.sum(1) > 0)
    )


def epoch_stages(annotations: Sequence[Annotation], n_epochs: int) -> Labels:
    """The stage at each epoch's centre."""
    centres = (np.arange(n_epochs) + 0.5) * EPOCH_SECONDS
    return SLEEP_RULE.label(annotations, centres - 0.5, window_seconds=1.0)


# --- figures ---------------------------------------------------------------------------------------------------

_FIGURES = {"accuracy": metrics.accuracy, "kappa": metrics.cohen_kappa, "macro_f1": metrics.macro_f1}


def _tree(done: dict[str, list[np.ndarray]], subjects: tuple[int, ...], settings: dict[str, Any]) -> dict[str, Any]:
    """By arm and figure: pooled over subjects, one value a seed; and accuracy by subject, mean over seeds."""
    arms = {}
    for name, matrices in done.items():
        pooled = [m.sum(0) for m in matrices]
        arms[name] = {figure: [rate(m) for m in pooled] for figure, rate in _FIGURES.items()}
        own = np.array([[metrics.accuracy(one) for one in m] for m in matrices]).mean(0)
        arms[name]["accuracy_by_subject"] = dict(zip(map(str, subjects), own.tolist(), strict=True))
        arms[name]["confusion"] = np.sum(pooled, 0).tolist()
    return {
        "what": "pre-training on SIMULATED EEG, evaluation on real EEG (DREAMS), one subject left out at a time",
        "command": f"python -m experiments.finetune FOLDER_OF_DREAMS --subjects {' '.join(map(str, subjects))}",
        "commit": commit(),
        "date": date.today().isoformat(),
        "settings": settings,
        "subjects": list(subjects),
        "epochs": int(sum(next(iter(done.values()))[0].sum((1, 2)))),
        "classes": list(SLEEP.classes),
        "arms": arms,
    }


def _markdown(tree: dict[str, Any]) -> str:
    lines = [
        f"# Fine-tuning: {tree['what']}",
        "",
        f"Sleep stages, {tree['epochs']} epochs of 30 s, pooled over held-out subjects {tree['subjects']}; mean (lowest"
        f" to highest) of {tree['settings']['seeds']} seeds. {tree['settings']['fine_steps']} updates on the other"
        f" subjects; pre-training: {tree['settings']['steps']} updates on {tree['settings']['patients']} simulated"
        " recordings, one seed. No setting was chosen on these subjects.",
        "",
        "| | accuracy | kappa | macro-F1 | " + " | ".join(f"accuracy, subject {s}" for s in tree["subjects"]) + " |",
        "|---" * (4 + len(tree["subjects"])) + "|",
    ]
    for name, arm in tree["arms"].items():
        cells = [_range(arm[figure]) for figure in _FIGURES]
        cells += [f"{value:.2f}" for value in arm["accuracy_by_subject"].values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    truth = np.sum(next(iter(tree["arms"].values()))["confusion"], 1)
    absent = [name for name, n in zip(tree["classes"], truth, strict=True) if not n]
    always = f"Always {tree['classes'][truth.argmax()]}: accuracy {truth.max() / truth.sum():.3f}, kappa 0."
    always += f" Nobody is in stage {' or '.join(absent)}." if absent else ""
    added = "The last arm was added when one seed of the first three had been seen: it tells rate and start apart."
    said = f"`{tree['command']}`, commit {tree['commit']}, {tree['date']}."
    return "\n".join([*lines, "", *_against_scratch(tree["arms"]), "", always, f"{YASA}.", added, said, ""])


def _against_scratch(arms: dict[str, Any]) -> list[str]:
    scratch = arms[SCRATCH]
    lines = []
    for name, arm in arms.items():
        if name == SCRATCH:
            continue
        gain = np.mean(arm["kappa"]) - np.mean(scratch["kappa"])
        own, theirs = (list(a["accuracy_by_subject"].values()) for a in (arm, scratch))
        n = sum(a > b for a, b in zip(own, theirs, strict=True))
        lines.append(f"- {name}: kappa {gain:+.3f} against {SCRATCH}; more accurate for {n} of {len(own)} subjects")
    return lines


def _range(values: list[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


# --- commands --------------------------------------------------------------------------------------------------


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


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
