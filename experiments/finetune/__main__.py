"""Does pre-training on SIMULATED EEG help on real EEG of few people? Sleep stages of DREAMS, one subject left out.

    python -m experiments.finetune FOLDER_OF_DREAMS

simulate -> prepare -> train, then for each subject, seed and arm: train on the others, stage the one left out. Each
step is a command that a researcher types, printed before it is run. A second call resumes: what is done is kept by the
hash of what decides it.

What was chosen was chosen before any subject was looked at, and once: the presets' and `fine_tuning`'s values, and
electrode dropout of 0.5 in pre-training, because each DREAMS recording has one of the two electrodes. The last arm
was added to separate the effects of learning rate and of start, when one seed of the first three had been seen.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from experiments.finetune.jobs import ARMS, SCRATCH, FineTuning
from experiments.pages import table, write_page
from experiments.provenance import made_by
from experiments.runner import Runner
from siamese_jax.cli.console import OK, run
from siamese_jax.evaluation import metrics
from siamese_jax.vocabulary import SLEEP

SUBJECTS = (1, 2, 4, 6, 8)
"""Excerpts that are there at 100 Hz or more; excerpt 3 has 50 Hz."""
YASA = "YASA on the same subjects, 30-s epochs, as reported elsewhere: accuracy 0.787, kappa 0.663, macro-F1 0.580"


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
    jobs = FineTuning(folder, Runner(out), patients, minutes, steps, fine_steps)
    cases = [(seed, arm) for seed in range(seeds) for arm in (ARMS[1:] if seed else ARMS)]
    found = jobs.runner.do_all(jobs.test(arm, subject, seed) for seed, arm in cases for subject in subjects)
    done: dict[str, list[np.ndarray]] = {arm.name: [] for arm in ARMS}
    for i, (_, arm) in enumerate(cases):
        own = found[i * len(subjects) : (i + 1) * len(subjects)]
        done[arm.name].append(np.stack([one.answer["confusion"] for one in own]))
    settings = {"steps": steps, "fine_steps": fine_steps, "seeds": seeds, "patients": patients}
    write_page(results, "finetune", _tree(done, subjects, settings), _markdown)
    return OK


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
        **made_by(f"python -m experiments.finetune FOLDER_OF_DREAMS --subjects {' '.join(map(str, subjects))}"),
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
    ]
    head = ("", "accuracy", "kappa", "macro-F1", *(f"accuracy, subject {s}" for s in tree["subjects"]))
    rows = []
    for name, arm in tree["arms"].items():
        own = (f"{value:.2f}" for value in arm["accuracy_by_subject"].values())
        rows.append((name, *(_range(arm[figure]) for figure in _FIGURES), *own))
    lines += table(head, rows)
    truth = np.sum(next(iter(tree["arms"].values()))["confusion"], 1)
    absent = [name for name, n in zip(tree["classes"], truth, strict=True) if not n]
    always = f"Always {tree['classes'][truth.argmax()]}: accuracy {truth.max() / truth.sum():.3f}, kappa 0."
    always += f" Nobody is in stage {' or '.join(absent)}." if absent else ""
    added = (
        "The last arm was added when one seed of the first three had been seen: it separates the effects of rate and"
        " start."
    )
    made = f"`{tree['command']}`, commit {tree['commit']}, {tree['date']}."
    return "\n".join([*lines, "", *_against_scratch(tree["arms"]), "", always, f"{YASA}.", added, made, ""])


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


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
